//! AES-256-GCM for short values, of which most of what is sealed is.
//!
//! What it writes is what `aes_gcm` writes, which longer values are left to. There, the mask of
//! the tag, the text, the header, and each block of them are steps of their own; for a value
//! of a few blocks these cost more than the cipher. Here the cipher and the hash each get
//! all their blocks at once, from the same crates' `aes` and `ghash`.

use aes::Aes256Enc;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use aes_gcm::Tag;
use ctutils::CtEq;
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use zeroize::Zeroize;

type Block = aes::Block;

const BLOCK: usize = 16;
/// Blocks that the cipher takes at once: the mask of the tag, and those of the text.
const STREAM: usize = 8;
/// Blocks of a header, of a text and of their lengths.
const HASHED: usize = MOST_HEADER / BLOCK + STREAM;
const MOST_HEADER: usize = 48;

/// The longest text that [`ShortGcm`] takes.
pub(super) const MOST: usize = (STREAM - 1) * BLOCK;

/// AES-256-GCM under one key, for texts of up to [`MOST`] bytes.
pub(super) struct ShortGcm {
    cipher: Aes256Enc,
    /// With the key, and nothing hashed yet.
    hash: GHash,
}

impl ShortGcm {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let cipher = Aes256Enc::new(key.into());
        let mut block = Block::default();
        cipher.encrypt_block(&mut block);
        let hash = GHash::new(&block);
        block.zeroize();
        Self { cipher, hash }
    }

    /// Encrypts `text` where it stands, and makes the tag over it and `header`; none if
    /// either is too long, and then nothing is done.
    pub(super) fn seal(&self, nonce: [u8; 12], header: &[u8], text: &mut [u8]) -> Option<Tag> {
        let stream = self.stream(nonce, header, text)?;
        apply(&stream, text);
        Some(self.tag(&stream, header, text))
    }

    /// Decrypts `text` where it stands, if the tag over it and `header` is right. None as
    /// for [`ShortGcm::seal`]; if the tag is wrong, the text is left as it was.
    pub(super) fn open(
        &self,
        nonce: [u8; 12],
        header: &[u8],
        text: &mut [u8],
        tag: &Tag,
    ) -> Option<Result<(), aes_gcm::Error>> {
        let stream = self.stream(nonce, header, text)?;
        let right = self.tag(&stream, header, text).0.ct_eq(&tag.0);
        if !right.to_bool() {
            return Some(Err(aes_gcm::Error));
        }
        apply(&stream, text);
        Some(Ok(()))
    }

    /// The mask of the tag, and then what the text is combined with.
    fn stream(&self, nonce: [u8; 12], header: &[u8], text: &[u8]) -> Option<[Block; STREAM]> {
        if text.len() > MOST || header.len() > MOST_HEADER {
            return None;
        }
        let mut blocks = [Block::default(); STREAM];
        for (block, counter) in blocks.iter_mut().zip(1_u32..) {
            block[..12].copy_from_slice(&nonce);
            block[12..].copy_from_slice(&counter.to_be_bytes());
        }
        let needed = 1 + text.len().div_ceil(BLOCK);
        self.cipher.encrypt_blocks(&mut blocks[..needed]);
        Some(blocks)
    }

    fn tag(&self, stream: &[Block; STREAM], header: &[u8], ciphertext: &[u8]) -> Tag {
        let bits = |bytes: &[u8]| (bytes.len() as u64 * 8).to_be_bytes();
        let mut blocks = [Block::default(); HASHED];
        let text_at = put(header, &mut blocks);
        let lengths_at = text_at + put(ciphertext, &mut blocks[text_at..]);
        blocks[lengths_at][..8].copy_from_slice(&bits(header));
        blocks[lengths_at][8..].copy_from_slice(&bits(ciphertext));
        let mut hash = self.hash.clone();
        hash.update(&blocks[..=lengths_at]);
        Array(xor(hash.finalize().0, stream[0].0))
    }
}

/// Puts bytes into blocks, the last of which zeros fill. Returns how many those are.
fn put(bytes: &[u8], blocks: &mut [Block]) -> usize {
    let (whole, rest) = bytes.as_chunks::<BLOCK>();
    for (block, bytes) in blocks.iter_mut().zip(whole) {
        *block = Array(*bytes);
    }
    if !rest.is_empty() {
        blocks[whole.len()][..rest.len()].copy_from_slice(rest);
    }
    bytes.len().div_ceil(BLOCK)
}

fn apply(stream: &[Block; STREAM], text: &mut [u8]) {
    let (whole, rest) = text.as_chunks_mut::<BLOCK>();
    let (_, stream) = stream.split_at(1);
    let (whole_stream, rest_stream) = stream.split_at(whole.len());
    for (text, stream) in whole.iter_mut().zip(whole_stream) {
        *text = xor(*text, stream.0);
    }
    for (byte, stream) in rest.iter_mut().zip(rest_stream.iter().flatten()) {
        *byte ^= *stream;
    }
}

fn xor(one: [u8; BLOCK], other: [u8; BLOCK]) -> [u8; BLOCK] {
    (u128::from_ne_bytes(one) ^ u128::from_ne_bytes(other)).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use aes_gcm::Aes256Gcm;
    use aes_gcm::aead::AeadInOut;
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    /// `text` sealed by `aes_gcm`, and the tag.
    fn sealed(key: &[u8; 32], nonce: [u8; 12], header: &[u8], text: &[u8]) -> (Vec<u8>, Tag) {
        let mut text = text.to_vec();
        let tag = Aes256Gcm::new(key.into())
            .encrypt_inout_detached(&nonce.into(), header, text.as_mut_slice().into())
            .unwrap();
        (text, tag)
    }

    #[test]
    fn every_short_length_is_sealed_and_opened_as_aes_gcm_does() {
        let short = ShortGcm::new(&KEY);
        for length in 0..=MOST {
            for header in [0, 1, 16, 28, 32, 40, MOST_HEADER] {
                let header: Vec<u8> = (0..=255).rev().take(header).collect();
                let text: Vec<u8> = (0..=255).take(length).collect();
                let expected = sealed(&KEY, [9; 12], &header, &text);
                let mut own = text.clone();
                let tag = short.seal([9; 12], &header, &mut own).unwrap();
                assert_eq!((&own, tag), (&expected.0, expected.1), "{length}");
                let opened = short.open([9; 12], &header, &mut own, &tag);
                assert_eq!((opened, own), (Some(Ok(())), text));
            }
        }
    }

    #[test]
    fn the_vectors_of_the_specification_are_met() {
        // Cases 13, 14 and 16 of "The Galois/Counter Mode of Operation" by McGrew and Viega.
        let hex = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2);
            digits
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        let zeros = ShortGcm::new(&[0; 32]);
        let tag = zeros.seal([0; 12], &[], &mut []).unwrap();
        assert_eq!(tag.to_vec(), hex("530f8afbc74536b9a963b4f1c4cb738b"));
        let mut text = [0; 16];
        let tag = zeros.seal([0; 12], &[], &mut text).unwrap();
        assert_eq!(text.to_vec(), hex("cea7403d4d606b6e074ec5d3baf39d18"));
        assert_eq!(tag.to_vec(), hex("d0d1c8a799996bf0265b98b5d48ab919"));
        let half = hex("feffe9928665731c6d6a8f9467308308");
        let key: [u8; 32] = [half.clone(), half].concat().try_into().unwrap();
        let mut text = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let header = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let nonce = hex("cafebabefacedbaddecaf888").try_into().unwrap();
        let tag = ShortGcm::new(&key).seal(nonce, &header, &mut text).unwrap();
        let expected = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662";
        assert_eq!(text, hex(expected));
        assert_eq!(tag.to_vec(), hex("76fc6ece0f4e1768cddf8853bb2d551b"));
    }

    #[test]
    fn a_change_of_any_bit_is_noticed_and_the_text_stays() {
        let short = ShortGcm::new(&KEY);
        let mut text = *b"a value of thirty-four bytes here.";
        let header = [3; 28];
        let tag = short.seal([9; 12], &header, &mut text).unwrap();
        let refused = |header: &[u8], text: &mut [u8], nonce: [u8; 12], tag: &Tag| {
            let before = text.to_vec();
            assert_eq!(
                short.open(nonce, header, text, tag),
                Some(Err(aes_gcm::Error))
            );
            assert_eq!(text, before);
        };
        for bit in 0..8 {
            for at in 0..text.len() {
                let mut changed = text;
                changed[at] ^= 1 << bit;
                refused(&header, &mut changed, [9; 12], &tag);
            }
            for at in 0..header.len() {
                let mut changed = header;
                changed[at] ^= 1 << bit;
                refused(&changed, &mut text, [9; 12], &tag);
            }
            for at in 0..BLOCK {
                let mut changed = tag;
                changed[at] ^= 1 << bit;
                refused(&header, &mut text, [9; 12], &changed);
            }
        }
        refused(&header, &mut text, [8; 12], &tag);
        refused(&header, &mut text[..33].to_vec(), [9; 12], &tag);
        refused(&header[..27], &mut text, [9; 12], &tag);
    }

    #[test]
    fn what_is_too_long_is_left_alone() {
        let short = ShortGcm::new(&KEY);
        let mut text = vec![5; MOST + 1];
        assert_eq!(short.seal([9; 12], &[], &mut text), None);
        assert_eq!(short.seal([9; 12], &[0; MOST_HEADER + 1], &mut []), None);
        assert!(
            short
                .open([9; 12], &[], &mut text, &Tag::default())
                .is_none()
        );
        assert_eq!(text, vec![5; MOST + 1]);
    }

    proptest! {
        #[test]
        fn any_key_nonce_header_and_text_give_what_aes_gcm_gives(
            key: [u8; 32],
            nonce: [u8; 12],
            header in proptest::collection::vec(any::<u8>(), 0..=MOST_HEADER),
            text in proptest::collection::vec(any::<u8>(), 0..=MOST),
        ) {
            let expected = sealed(&key, nonce, &header, &text);
            let mut own = text;
            let tag = ShortGcm::new(&key).seal(nonce, &header, &mut own).unwrap();
            prop_assert_eq!((own, tag), expected);
        }
    }
}
