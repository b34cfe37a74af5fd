//! Changing parts of a frame while the rest is copied in ranges, unread.
//!
//! The output is the input with some ranges replaced, so the place of any byte
//! of the input that was copied is its offset plus what the replacements before
//! it added. That is all that is needed to mend the lengths of the documents
//! around a change, in the same pass.

use super::cursor::Malformed;

/// Copies `input` to `out`, with some ranges replaced. Copies nothing until something is.
#[derive(Debug)]
pub struct Splicer<'i, 'o> {
    input: &'i [u8],
    out: &'o mut Vec<u8>,
    /// How much of the input is in the output, or has been replaced.
    copied: usize,
    changed: bool,
}

/// The length of the output against the input, at some point of the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(isize);

/// How far a pass has come, to go back to.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint {
    written: usize,
    copied: usize,
    changed: bool,
}

impl<'i, 'o> Splicer<'i, 'o> {
    /// Begins a pass over `input`. `out` is cleared.
    pub fn new(input: &'i [u8], out: &'o mut Vec<u8>) -> Self {
        out.clear();
        Self {
            input,
            out,
            copied: 0,
            changed: false,
        }
    }

    /// What is being copied.
    pub fn input(&self) -> &'i [u8] {
        self.input
    }

    /// Whether anything was replaced.
    pub fn changed(&self) -> bool {
        self.changed
    }

    fn grown(&self) -> isize {
        // Buffers are at most a message long, far below isize::MAX.
        self.out.len().cast_signed() - self.copied.cast_signed()
    }

    /// Remember this point: to be called before a document is entered whose length may change.
    pub fn mark(&self) -> Mark {
        Mark(self.grown())
    }

    /// Replaces the input from `from` to `to` by what `write` appends to the output.
    ///
    /// Ranges must come in ascending order.
    pub fn replace<R>(
        &mut self,
        from: usize,
        to: usize,
        write: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> R {
        debug_assert!(self.copied <= from && from <= to && to <= self.input.len());
        self.out.extend_from_slice(&self.input[self.copied..from]);
        self.copied = to;
        self.changed = true;
        write(self.out)
    }

    /// Remember this point, to come back to if what follows does not work out.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            written: self.out.len(),
            copied: self.copied,
            changed: self.changed,
        }
    }

    /// Undoes every replacement since `checkpoint`. Lengths that were mended since
    /// lie behind it and go as well; those around it must not have been.
    pub fn roll_back(&mut self, checkpoint: Checkpoint) {
        debug_assert!(checkpoint.copied <= self.copied);
        self.out.truncate(checkpoint.written);
        self.copied = checkpoint.copied;
        self.changed = checkpoint.changed;
    }

    /// Mends the `int32` length at `at` of something that was entered at `mark` and is now passed.
    pub fn mend_length(&mut self, at: usize, mark: Mark) -> Result<(), Malformed> {
        let added = self.grown() - mark.0;
        if added == 0 {
            return Ok(());
        }
        let old = self.input[at..]
            .first_chunk::<4>()
            .map(|bytes| i32::from_le_bytes(*bytes))
            .ok_or(Malformed("a length is cut off"))?;
        let new = i32::try_from(added)
            .ok()
            .and_then(|added| old.checked_add(added))
            .ok_or(Malformed("a document grows too long"))?;
        let place = at.wrapping_add_signed(mark.0);
        self.out[place..place + 4].copy_from_slice(&new.to_le_bytes());
        Ok(())
    }

    /// Ends the pass: copies the rest. Returns whether anything was replaced;
    /// if nothing was, the output stays empty and the input stands.
    pub fn finish(self) -> bool {
        if self.changed {
            self.out.extend_from_slice(&self.input[self.copied..]);
        }
        self.changed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn nothing_is_copied_until_something_changes() {
        let mut out = vec![1];
        let splicer = Splicer::new(b"abc", &mut out);
        assert!(!splicer.finish());
        assert!(out.is_empty());
    }

    #[test]
    fn lengths_around_a_change_are_mended() {
        // {a: {b: 1}, c: 2} with the value of b made an int64.
        let input = bson::serialize_to_vec(&bson::doc! {"a": {"b": 1_i32}, "c": 2_i32}).unwrap();
        let outer = crate::raw::Doc::whole(&input).unwrap();
        let a = outer.find("a").unwrap().unwrap();
        let inner = a.doc().unwrap();
        let b = inner.find("b").unwrap().unwrap();
        let mut out = Vec::new();
        let mut splicer = Splicer::new(&input, &mut out);
        let outer_mark = splicer.mark();
        let inner_mark = splicer.mark();
        splicer.replace(b.start, b.end, |out| {
            out.extend_from_slice(b"\x12b\0\x01\0\0\0\0\0\0\0");
        });
        splicer.mend_length(inner.start(), inner_mark).unwrap();
        splicer.mend_length(outer.start(), outer_mark).unwrap();
        assert!(splicer.finish());
        let back: bson::Document = bson::deserialize_from_slice(&out).unwrap();
        assert_eq!(back, bson::doc! {"a": {"b": 1_i64}, "c": 2_i32});
    }

    #[test]
    fn what_is_rolled_back_leaves_no_trace() {
        let input = b"0123456789";
        let mut out = Vec::new();
        let mut splicer = Splicer::new(input, &mut out);
        let start = splicer.checkpoint();
        splicer.replace(2, 3, |out| out.extend_from_slice(b"never"));
        splicer.roll_back(start);
        assert!(!splicer.changed());
        splicer.replace(1, 2, |out| out.extend_from_slice(b"one"));
        let mark = splicer.mark();
        let later = splicer.checkpoint();
        splicer.replace(4, 5, |out| out.extend_from_slice(b"never"));
        splicer.replace(6, 9, |_| {});
        splicer.roll_back(later);
        assert_eq!(splicer.mark(), mark);
        splicer.replace(4, 6, |out| out.push(b'x'));
        assert!(splicer.finish());
        assert_eq!(out, b"0one23x6789");
    }

    #[test]
    fn a_pass_that_is_rolled_back_to_its_start_changes_nothing() {
        let mut out = Vec::new();
        let mut splicer = Splicer::new(b"abc", &mut out);
        let start = splicer.checkpoint();
        splicer.replace(0, 1, |out| out.push(b'x'));
        splicer.roll_back(start);
        assert!(!splicer.finish());
        assert!(out.is_empty());
    }

    #[test]
    fn lengths_around_what_was_rolled_back_are_those_of_what_stayed() {
        // {a: [{x: 1}, {y: 2}]} with the second document replaced after a first try.
        let input =
            bson::serialize_to_vec(&bson::doc! {"a": [{"x": 1_i32}, {"y": 2_i32}]}).unwrap();
        let outer = crate::raw::Doc::whole(&input).unwrap();
        let array = outer.find("a").unwrap().unwrap().doc().unwrap();
        let second = array.find("1").unwrap().unwrap().doc().unwrap();
        let y = second.find("y").unwrap().unwrap();
        let mut out = Vec::new();
        let mut splicer = Splicer::new(&input, &mut out);
        let (outer_mark, array_mark) = (splicer.mark(), splicer.mark());
        let checkpoint = splicer.checkpoint();
        let mark = splicer.mark();
        splicer.replace(y.start, y.end, |out| out.extend_from_slice(b"\x0Along\0"));
        splicer.mend_length(second.start(), mark).unwrap();
        splicer.roll_back(checkpoint);
        let other = bson::serialize_to_vec(&bson::doc! {"z": "other"}).unwrap();
        splicer.replace(second.start(), second.end(), |out| {
            out.extend_from_slice(&other);
        });
        splicer.mend_length(array.start(), array_mark).unwrap();
        splicer.mend_length(outer.start(), outer_mark).unwrap();
        assert!(splicer.finish());
        let back: bson::Document = bson::deserialize_from_slice(&out).unwrap();
        assert_eq!(back, bson::doc! {"a": [{"x": 1_i32}, {"z": "other"}]});
    }
}
