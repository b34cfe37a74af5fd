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
}
