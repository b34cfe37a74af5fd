//! XAES-256-GCM, as <https://c2sp.org/XAES-256-GCM> specifies it.
//!
//! A key for AES-256-GCM is derived from the key and the first half of the
//! nonce, with CMAC in the counter mode of NIST SP 800-108r1; the second half is
//! the nonce under it. So 24 random bytes can be the nonce of 2^80 messages,
//! where 12 can be that of 2^32.

use aes::Aes256Enc;
use aes::cipher::consts::{U12, U16};
use aes::cipher::{Array, BlockCipherEncrypt};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{AesGcm, KeyInit, Nonce, Tag};
use zeroize::{Zeroize, Zeroizing};

/// The length of a nonce.
pub(super) const NONCE: usize = 24;

/// Half a nonce, and a nonce of AES-256-GCM.
const HALF: usize = 12;
const BLOCK: usize = 16;

/// AES-256-GCM with a key that is used once, and so not expanded for the direction that GCM does not need.
type Gcm = AesGcm<Aes256Enc, U12>;

/// The cipher under one key, expanded and ready.
pub(super) struct Xaes256Gcm {
    cipher: Aes256Enc,
    /// The CMAC subkey for a whole block: "K1".
    subkey: Zeroizing<[u8; BLOCK]>,
}

impl Xaes256Gcm {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let cipher = Aes256Enc::new(key.into());
        let mut block = Array([0; BLOCK]);
        cipher.encrypt_block(&mut block);
        let subkey = Zeroizing::new(doubled(block.0));
        block.zeroize();
        Self { cipher, subkey }
    }

    /// Encrypts `text` where it stands, and makes the tag over it and `associated`.
    pub(super) fn seal(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8]) -> Tag {
        let (first, second) = halves(nonce);
        self.derived(first)
            .encrypt_inout_detached(&Nonce::from(*second), associated, text.into())
            .expect("a message is far below the 64 GiB that GCM can take")
    }

    /// Decrypts `text` where it stands; an error leaves it as it was, or meaningless.
    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE],
        associated: &[u8],
        text: &mut [u8],
        tag: &Tag,
    ) -> Result<(), aes_gcm::Error> {
        let (first, second) = halves(nonce);
        self.derived(first).decrypt_inout_detached(
            &Nonce::from(*second),
            associated,
            text.into(),
            tag,
        )
    }

    /// AES-256-GCM under the key for the first half of a nonce: "Kₓ".
    fn derived(&self, first: &[u8; HALF]) -> Gcm {
        let mut key = Zeroizing::new([0; 2 * BLOCK]);
        let mut blocks = [self.input(1, first), self.input(2, first)];
        self.cipher.encrypt_blocks(&mut blocks);
        for (half, block) in key.as_chunks_mut::<BLOCK>().0.iter_mut().zip(&mut blocks) {
            *half = block.0;
            block.zeroize();
        }
        Gcm::new((&*key).into())
    }

    /// "M1" or "M2", by `counter`, with K1 added.
    fn input(&self, counter: u8, first: &[u8; HALF]) -> Array<u8, U16> {
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(&[0, counter, b'X', 0]);
        block[4..].copy_from_slice(first);
        for (byte, key) in block.iter_mut().zip(self.subkey.iter()) {
            *byte ^= key;
        }
        Array(block)
    }
}

/// The double of a block in the field of CMAC (NIST SP 800-38B, section 6.1), in constant time.
fn doubled(block: [u8; BLOCK]) -> [u8; BLOCK] {
    const POLYNOMIAL: u128 = 0b1000_0111;
    let number = u128::from_be_bytes(block);
    let carried = (number >> 127).wrapping_neg() & POLYNOMIAL;
    ((number << 1) ^ carried).to_be_bytes()
}

fn halves(nonce: &[u8; NONCE]) -> (&[u8; HALF], &[u8; HALF]) {
    let (first, second) = nonce
        .split_first_chunk::<HALF>()
        .expect("24 bytes begin with 12");
    let second = second.first_chunk().expect("12 of 24 bytes are left");
    (first, second)
}

#[cfg(test)]
mod tests {
    //! The vectors that the specification publishes.
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const N: &[u8; NONCE] = b"ABCDEFGHIJKLMNOPQRSTUVWX";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The ciphertext and the tag behind it, after it was seen to open again.
    fn sealed(key: [u8; 32], nonce: &[u8; NONCE], text: &[u8], associated: &[u8]) -> Vec<u8> {
        let cipher = Xaes256Gcm::new(&key);
        let mut sealed = text.to_vec();
        let tag = cipher.seal(nonce, associated, &mut sealed);
        let mut opened = sealed.clone();
        cipher.open(nonce, associated, &mut opened, &tag).unwrap();
        assert_eq!(opened, text);
        sealed.extend_from_slice(&tag);
        sealed
    }

    #[test]
    fn the_published_vector_of_a_subkey_without_carry_is_met() {
        let cipher = Xaes256Gcm::new(&[1; 32]);
        assert_eq!(hex(&*cipher.subkey), "e531954aca063d5b8d9c47a47d4cc6f0");
        assert_eq!(
            hex(&sealed([1; 32], N, b"XAES-256-GCM", b"")),
            "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"
        );
    }

    #[test]
    fn the_published_vector_of_a_subkey_with_carry_is_met() {
        let cipher = Xaes256Gcm::new(&[3; 32]);
        assert_eq!(hex(&*cipher.subkey), "23810ec50edb99f374409466ed1f4b7b");
        assert_eq!(
            hex(&sealed(
                [3; 32],
                N,
                b"XAES-256-GCM",
                b"c2sp.org/XAES-256-GCM"
            )),
            "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"
        );
    }

    #[test]
    fn the_accumulated_vectors_are_met() {
        assert_eq!(
            accumulated(10_000),
            "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
        );
    }

    #[test]
    #[ignore = "takes minutes without optimisation"]
    fn the_accumulated_vectors_are_met_for_a_million_messages() {
        assert_eq!(
            accumulated(1_000_000),
            "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15"
        );
    }

    /// Draws key, nonce, text and associated data from one sponge, and hashes what is sealed with another.
    fn accumulated(messages: usize) -> String {
        let mut drawn = Shake128::default();
        let mut hash = Shake128::default();
        for _ in 0..messages {
            let mut key = [0; 32];
            drawn.squeeze(&mut key);
            let mut nonce = [0; NONCE];
            drawn.squeeze(&mut nonce);
            let text = drawn.vector();
            let associated = drawn.vector();
            hash.absorb(&sealed(key, &nonce, &text, &associated));
        }
        let mut digest = [0; 32];
        hash.squeeze(&mut digest);
        hex(&digest)
    }

    #[test]
    fn the_sponge_of_these_tests_is_shake_128() {
        let mut stream = [0; 16];
        Shake128::default().squeeze(&mut stream);
        assert_eq!(hex(&stream), "7f9c2ba4e88f827d616045507605853e");
    }

    /// SHAKE-128 (FIPS 202): absorbs, then squeezes.
    #[derive(Default)]
    struct Shake128 {
        lanes: [u64; 25],
        at: usize,
        squeezing: bool,
    }

    impl Shake128 {
        const RATE: usize = 168;

        fn absorb(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.add(self.at, *byte);
                self.at += 1;
                if self.at == Self::RATE {
                    permute(&mut self.lanes);
                    self.at = 0;
                }
            }
        }

        fn squeeze(&mut self, out: &mut [u8]) {
            if !self.squeezing {
                self.add(self.at, 0x1F);
                self.add(Self::RATE - 1, 0x80);
                (self.at, self.squeezing) = (Self::RATE, true);
            }
            for byte in out {
                if self.at == Self::RATE {
                    permute(&mut self.lanes);
                    self.at = 0;
                }
                *byte = self.lanes[self.at / 8].to_le_bytes()[self.at % 8];
                self.at += 1;
            }
        }

        /// `opaque v<0..255>` of RFC 8446: a byte of length, then the bytes.
        fn vector(&mut self) -> Vec<u8> {
            let mut length = [0];
            self.squeeze(&mut length);
            let mut bytes = vec![0; length[0].into()];
            self.squeeze(&mut bytes);
            bytes
        }

        fn add(&mut self, at: usize, byte: u8) {
            self.lanes[at / 8] ^= u64::from(byte) << (8 * (at % 8));
        }
    }

    /// Keccak-f[1600]; lane (x, y) is at x + 5y.
    fn permute(lanes: &mut [u64; 25]) {
        let mut register = 1_u8;
        for _ in 0..24 {
            let column =
                |lanes: &[u64; 25], x: usize| (0..5).fold(0, |sum, y| sum ^ lanes[x + 5 * y]);
            let columns: [u64; 5] = std::array::from_fn(|x| column(lanes, x));
            for (at, lane) in lanes.iter_mut().enumerate() {
                *lane ^= columns[(at + 4) % 5] ^ columns[(at % 5 + 1) % 5].rotate_left(1);
            }
            let (mut x, mut y, mut moving, mut turn) = (1, 0, lanes[1], 0);
            for step in 1..=24 {
                (x, y) = (y, (2 * x + 3 * y) % 5);
                turn += step;
                moving = std::mem::replace(&mut lanes[x + 5 * y], moving.rotate_left(turn));
            }
            for row in lanes.as_chunks_mut::<5>().0 {
                let old = *row;
                for x in 0..5 {
                    row[x] ^= !old[(x + 1) % 5] & old[(x + 2) % 5];
                }
            }
            // The round constants come from a register over x^8 + x^6 + x^5 + x^4 + 1.
            for bit in 0..7 {
                lanes[0] ^= u64::from(register & 1) << ((1 << bit) - 1);
                register = (register << 1) ^ (0x71 * (register >> 7));
            }
        }
    }
}
