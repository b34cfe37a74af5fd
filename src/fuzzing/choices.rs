//! Any bytes as a list of choices, so that a fuzzer that changes bytes changes what is built.

/// Choices, one after the other. When the bytes are used up every further one is the first of
/// its list, and these lists begin with what holds nothing else: so all that is built ends.
pub(super) struct Choices<'b> {
    bytes: &'b [u8],
}

impl<'b> Choices<'b> {
    pub(super) fn of(bytes: &'b [u8]) -> Self {
        Self { bytes }
    }

    /// The next byte; zero behind the last.
    pub(super) fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((&first, rest)) => {
                self.bytes = rest;
                first
            }
            None => 0,
        }
    }

    /// A number below `bound`, which is at most 256.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    /// One of a list that is not empty.
    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Yes or no; no when the bytes are used up.
    pub(super) fn yes(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Up to `most` times what `make` makes.
    pub(super) fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| make(self)).collect()
    }

    /// All bytes that are left.
    pub(super) fn rest(&mut self) -> &'b [u8] {
        std::mem::take(&mut self.bytes)
    }
}
