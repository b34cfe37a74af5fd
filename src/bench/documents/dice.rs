//! Chance that can be repeated.

/// Numbers that look random and are the same each time: SplitMix64.
pub(super) struct Dice(u64);

impl Dice {
    /// For one value of one document.
    pub(super) fn new(document: u64, field: u64) -> Self {
        Self(document.wrapping_mul(0x9E37_79B9).wrapping_add(field) ^ 0x5EA1)
    }

    /// The same numbers for the same seed.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.any() % bound).unwrap_or_default()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.any().to_le_bytes()[0]
    }

    /// Not zero, in whose place MongoDB puts the time.
    pub(super) fn next_number(&mut self) -> u32 {
        u32::try_from(self.any() >> 33).unwrap_or_default() | 1
    }

    /// So many bytes.
    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }
}
