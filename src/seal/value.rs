//! Sealed values: AES-256-GCM under a key of one version and one field.

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use rand::RngExt;
use sha2::{Digest, Sha256};

use crate::keyring::{KeyId, Material};

/// The subtype of the BSON Binary that holds a sealed value.
pub const SUBTYPE: u8 = 0x8F;
/// The first bytes of every sealed value.
pub const MAGIC: [u8; 3] = [0xF5, 0xEA, 0x1D];
/// What a message holds wherever it holds a sealed value: subtype, then magic.
pub const NEEDLE: [u8; 4] = [SUBTYPE, MAGIC[0], MAGIC[1], MAGIC[2]];
/// Bytes before the ciphertext.
pub const HEADER: usize = 28;
/// Bytes after the ciphertext.
pub const TAG: usize = 16;

const SUITE_AES_256_GCM: u8 = 1;
const NONCE: usize = 12;

/// Names a field in sealed values: the first 8 bytes of
/// SHA-256(collection identity ‖ 0x00 ‖ field identity).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldId(pub [u8; 8]);

impl FieldId {
    /// The id of a field, from the identities (by default namespace and path).
    pub fn of(collection: &str, field: &str) -> Self {
        let digest = Sha256::new()
            .chain_update(collection)
            .chain_update([0])
            .chain_update(field)
            .finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        Self(id)
    }
}

impl fmt::Display for FieldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FieldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldId({self})")
    }
}

/// What a sealed value says about itself, before any key is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The cipher suite; 1 is AES-256-GCM.
    pub suite: u8,
    /// Which version of which key sealed it.
    pub key: KeyId,
    /// Which field it was sealed for.
    pub field: FieldId,
}

impl Header {
    /// Reads the header of a Binary's payload; none if it does not begin with the magic.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (magic, rest) = payload.split_first_chunk::<3>()?;
        if *magic != MAGIC {
            return None;
        }
        let (&suite, rest) = rest.split_first()?;
        let (key, rest) = rest.split_first_chunk::<4>()?;
        let (field, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            suite,
            key: KeyId(u32::from_be_bytes(*key)),
            field: FieldId(*field),
        })
    }
}

/// Why a sealed value was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than header, type byte and tag.
    #[error("a sealed value is cut off")]
    Truncated,
    /// Sealed under a suite that this version does not know.
    #[error("a sealed value has the unknown suite {0}")]
    UnknownSuite(u8),
    /// The tag does not fit: tampered with, or sealed under another keyring.
    #[error("a sealed value was tampered with, or sealed under another keyring")]
    Tampered,
}

/// The cipher of one field under one version of its key, expanded and ready.
pub struct SealKey {
    id: KeyId,
    field: FieldId,
    cipher: Aes256Gcm,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({}, {}, ..)", self.id.0, self.field)
    }
}

impl SealKey {
    /// Derives the key of `field` under the version `id`, whose material is given.
    pub fn derive(id: KeyId, material: &Material, field: FieldId) -> Self {
        let key = material.derive(&[b"fieldseal/v1/seal", &field.0]);
        Self {
            id,
            field,
            cipher: Aes256Gcm::new(key.expose().into()),
        }
    }

    /// The version that this key belongs to.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// How many bytes [`SealKey::seal`] appends for a value of `length` bytes.
    pub fn sealed_length(length: usize) -> usize {
        HEADER + 1 + length + TAG
    }

    /// Appends the sealed form of a BSON value to `out`, under a fresh random nonce.
    pub fn seal(&self, kind: u8, value: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(Self::sealed_length(value.len()));
        out.extend_from_slice(&MAGIC);
        out.push(SUITE_AES_256_GCM);
        out.extend_from_slice(&self.id.0.to_be_bytes());
        out.extend_from_slice(&self.field.0);
        let nonce: [u8; NONCE] = rand::rng().random();
        out.extend_from_slice(&nonce);
        out.push(kind);
        out.extend_from_slice(value);
        let (header, plaintext) = out[start..].split_at_mut(HEADER);
        let tag = self
            .cipher
            .encrypt_inout_detached(&Nonce::from(nonce), header, plaintext.into())
            .expect("a message is far below the 64 GiB that GCM can take");
        out.extend_from_slice(&tag);
    }

    /// Opens `payload`: appends the type byte and the BSON value to `out`.
    ///
    /// On an error nothing is left in `out`.
    pub fn open(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        let (header, rest) = payload
            .split_first_chunk::<HEADER>()
            .ok_or(OpenError::Truncated)?;
        let (ciphertext, tag) = rest
            .split_last_chunk::<TAG>()
            .filter(|(ciphertext, _)| !ciphertext.is_empty())
            .ok_or(OpenError::Truncated)?;
        if header[3] != SUITE_AES_256_GCM {
            return Err(OpenError::UnknownSuite(header[3]));
        }
        let nonce = header
            .last_chunk::<NONCE>()
            .ok_or(OpenError::Truncated)?;
        let start = out.len();
        out.extend_from_slice(ciphertext);
        let opened = self.cipher.decrypt_inout_detached(
            &Nonce::from(*nonce),
            header,
            (&mut out[start..]).into(),
            &Tag::from(*tag),
        );
        opened.map_err(|_| {
            out.truncate(start);
            OpenError::Tampered
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SealKey {
        SealKey::derive(KeyId(7), &Material::new([1; 32]), FieldId::of("shop.customers", "ssn"))
    }

    #[test]
    fn what_was_sealed_opens_to_the_same_type_and_bytes() {
        let key = key();
        let mut sealed = Vec::new();
        key.seal(0x02, b"\x04\0\0\0abc\0", &mut sealed);
        assert_eq!(sealed.len(), SealKey::sealed_length(8));
        let mut opened = vec![9];
        key.open(&sealed, &mut opened).unwrap();
        assert_eq!(opened, b"\x09\x02\x04\0\0\0abc\0");
    }

    #[test]
    fn the_stored_layout_is_the_documented_one() {
        let mut sealed = Vec::new();
        key().seal(0x0A, b"", &mut sealed);
        assert_eq!(&sealed[..4], &[0xF5, 0xEA, 0x1D, 1]);
        assert_eq!(&sealed[4..8], &[0, 0, 0, 7]);
        // The first eight bytes of SHA-256("shop.customers\0ssn").
        let digest = Sha256::digest(b"shop.customers\0ssn");
        assert_eq!(&sealed[8..16], &digest[..8]);
        assert_eq!(sealed.len(), 28 + 1 + 16);
    }

    #[test]
    fn a_change_of_any_bit_is_noticed_and_leaves_no_plaintext() {
        let key = key();
        let mut sealed = Vec::new();
        key.seal(0x10, &[1, 2, 3, 4], &mut sealed);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let mut opened = Vec::new();
            assert!(key.open(&changed, &mut opened).is_err(), "bit {bit}");
            assert!(opened.is_empty());
        }
        for length in 0..sealed.len() {
            assert!(key.open(&sealed[..length], &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn two_seals_of_one_value_differ() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        key().seal(0x08, &[1], &mut one);
        key().seal(0x08, &[1], &mut two);
        assert_ne!(one, two);
    }

    #[test]
    fn another_field_or_version_does_not_open_it() {
        let mut sealed = Vec::new();
        key().seal(0x08, &[1], &mut sealed);
        let other = SealKey::derive(KeyId(7), &Material::new([1; 32]), FieldId::of("shop.customers", "card"));
        assert_eq!(other.open(&sealed, &mut Vec::new()), Err(OpenError::Tampered));
        let other = SealKey::derive(KeyId(7), &Material::new([2; 32]), FieldId::of("shop.customers", "ssn"));
        assert_eq!(other.open(&sealed, &mut Vec::new()), Err(OpenError::Tampered));
    }
}
