//! CRC-64 as archives have it: the polynomial of ECMA-182, reflected, as Go's `hash/crc64`.

const POLYNOMIAL: u64 = 0xC96C_5795_D787_0F42;

const TABLE: [u64; 256] = table();

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    let mut start = 0_u64;
    while index < 256 {
        let mut rest = start;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 {
                (rest >> 1) ^ POLYNOMIAL
            } else {
                rest >> 1
            };
            bit += 1;
        }
        table[index] = rest;
        index += 1;
        start += 1;
    }
    table
}

/// The sum of bytes that come piece by piece.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Checksum(u64);

impl Checksum {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let mut rest = !self.0;
        for byte in bytes {
            let [low, ..] = rest.to_le_bytes();
            rest = TABLE[usize::from(low ^ byte)] ^ (rest >> 8);
        }
        self.0 = !rest;
    }

    /// As BSON stores it.
    pub(super) fn sum(self) -> i64 {
        self.0.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_value_comes_out_however_the_bytes_are_cut() {
        for cut in 0..=9 {
            let (one, other) = b"123456789".split_at(cut);
            let mut checksum = Checksum::default();
            checksum.add(one);
            checksum.add(other);
            assert_eq!(checksum.sum(), 0x995D_C9BB_DF19_39FA_u64.cast_signed());
        }
    }
}
