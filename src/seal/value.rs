//! Sealed values: AES-256-GCM or XAES-256-GCM under a key of one version and one field.

use std::fmt;
use std::sync::LazyLock;

use aes::Aes256Enc;
use aes::cipher::consts::U12;
use aes_gcm::aead::AeadInOut;
use aes_gcm::{AesGcm, KeyInit, Nonce, Tag};
use memchr::memmem::Finder;
use rand::Rng;
use sha2::{Digest, Sha256};

use super::short::ShortGcm;
use super::xaes::{self, Xaes256Gcm};
use crate::keyring::{KeyId, Material, Suite};

/// The subtype of the BSON Binary that holds a sealed value.
pub const SUBTYPE: u8 = 0x8F;
/// The first bytes of every sealed value.
pub const MAGIC: [u8; 3] = [0xF5, 0xEA, 0x1D];
/// What a message holds wherever it holds a sealed value: subtype, then magic.
pub const NEEDLE: [u8; 4] = [SUBTYPE, MAGIC[0], MAGIC[1], MAGIC[2]];
/// Made once: for messages of a few hundred bytes that takes as long as the search.
static SEARCH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&NEEDLE));
/// Bytes after the ciphertext.
pub const TAG: usize = 16;

/// Bytes before the nonce: magic, suite, key id, field id.
const NAMES: usize = 16;
/// Which of them is the suite.
const SUITE_AT: usize = 3;
const NONCE: usize = 12;

/// Where the first sealed value may begin in `bytes`, by its [`NEEDLE`].
pub fn find_sealed(bytes: &[u8]) -> Option<usize> {
    SEARCH.find(bytes)
}

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
    /// The cipher suite, by [`Suite::byte`]; of a newer version, perhaps.
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

/// AES-256-GCM, which needs the block cipher in one direction alone.
type Gcm = AesGcm<Aes256Enc, U12>;

/// The key of one field under one version, expanded for every suite.
pub struct SealKey {
    id: KeyId,
    field: FieldId,
    /// What it seals with; it opens what was sealed with any.
    suite: Suite,
    gcm: Gcm,
    /// The same key, for what is short.
    short: ShortGcm,
    xaes: Xaes256Gcm,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({}, {}, ..)", self.id.0, self.field)
    }
}

impl SealKey {
    /// Derives the key of `field` under the version `id`, whose material is given.
    pub fn derive(id: KeyId, material: &Material, field: FieldId) -> Self {
        // No key is used with two algorithms.
        let key = |suite| material.derive(&[purpose(suite), &field.0]);
        let gcm = key(Suite::Aes256Gcm);
        Self {
            id,
            field,
            suite: Suite::default(),
            gcm: Gcm::new(gcm.expose().into()),
            short: ShortGcm::new(gcm.expose()),
            xaes: Xaes256Gcm::new(key(Suite::Xaes256Gcm).expose()),
        }
    }

    /// The same key, sealing with `suite`.
    #[must_use]
    pub fn sealing_with(self, suite: Suite) -> Self {
        Self { suite, ..self }
    }

    /// The version that this key belongs to.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What it seals with.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// How many bytes [`SealKey::seal`] appends for a value of `length` bytes.
    pub fn sealed_length(&self, length: usize) -> usize {
        let nonce = match self.suite {
            Suite::Aes256Gcm => NONCE,
            Suite::Xaes256Gcm => xaes::NONCE,
        };
        NAMES + nonce + 1 + length + TAG
    }

    /// Appends the sealed form of a BSON value to `out`, under a fresh random nonce.
    pub fn seal(&self, kind: u8, value: &[u8], out: &mut Vec<u8>) {
        out.reserve(self.sealed_length(value.len()));
        let start = out.len();
        let tag = match self.suite {
            Suite::Aes256Gcm => {
                let (nonce, header, text) =
                    append::<NONCE, { NAMES + NONCE + 1 }>(&self.names(), kind, value, start, out);
                match self.short.seal(nonce, header, text) {
                    Some(tag) => tag,
                    None => self
                        .gcm
                        .encrypt_inout_detached(&Nonce::from(nonce), header, text.into())
                        .expect("a message is far below the 64 GiB that GCM can take"),
                }
            }
            Suite::Xaes256Gcm => {
                let (nonce, header, text) = append::<{ xaes::NONCE }, { NAMES + xaes::NONCE + 1 }>(
                    &self.names(),
                    kind,
                    value,
                    start,
                    out,
                );
                self.xaes.seal(&nonce, header, text)
            }
        };
        out.extend_from_slice(&tag);
    }

    /// What the header says before the nonce.
    fn names(&self) -> [u8; NAMES] {
        let mut names = [0; NAMES];
        names[..SUITE_AT].copy_from_slice(&MAGIC);
        names[SUITE_AT] = self.suite.byte();
        names[SUITE_AT + 1..8].copy_from_slice(&self.id.0.to_be_bytes());
        names[8..].copy_from_slice(&self.field.0);
        names
    }

    /// Opens `payload`, of whichever suite: appends the type byte and the BSON value to `out`.
    ///
    /// On an error nothing is left in `out`.
    pub fn open(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        let byte = *payload.get(SUITE_AT).ok_or(OpenError::Truncated)?;
        let start = out.len();
        let opened = match Suite::of_byte(byte).ok_or(OpenError::UnknownSuite(byte))? {
            Suite::Aes256Gcm => {
                let (header, nonce, tag, text) = parts::<NONCE>(payload, out)?;
                match self.short.open(*nonce, header, text, &tag) {
                    Some(opened) => opened,
                    None => {
                        let nonce = Nonce::from(*nonce);
                        self.gcm
                            .decrypt_inout_detached(&nonce, header, text.into(), &tag)
                    }
                }
            }
            Suite::Xaes256Gcm => {
                let (header, nonce, tag, text) = parts::<{ xaes::NONCE }>(payload, out)?;
                self.xaes.open(nonce, header, text, &tag)
            }
        };
        opened.map_err(|_| {
            out.truncate(start);
            OpenError::Tampered
        })
    }
}

/// What HKDF derives the key of a suite for; the field id goes behind it.
fn purpose(suite: Suite) -> &'static [u8] {
    match suite {
        Suite::Aes256Gcm => b"fieldseal/v1/seal",
        Suite::Xaes256Gcm => b"fieldseal/v1/seal/xaes-256-gcm",
    }
}

/// Appends the header, which is the names and a fresh random nonce, and the plaintext behind
/// it. `HEAD` is one byte more than both are long: the type goes with them.
fn append<'o, const NONCE: usize, const HEAD: usize>(
    names: &[u8; NAMES],
    kind: u8,
    value: &[u8],
    start: usize,
    out: &'o mut Vec<u8>,
) -> ([u8; NONCE], &'o [u8], &'o mut [u8]) {
    let mut nonce = [0; NONCE];
    // Not one `random` byte after the other, each of which takes four bytes of the generator's.
    rand::rng().fill_bytes(&mut nonce);
    let mut head = [kind; HEAD];
    head[..NAMES].copy_from_slice(names);
    head[NAMES..HEAD - 1].copy_from_slice(&nonce);
    out.extend_from_slice(&head);
    out.extend_from_slice(value);
    let (header, text) = out[start..].split_at_mut(HEAD - 1);
    (nonce, header, text)
}

/// Header, nonce and tag of a payload, and its ciphertext as it was put at the end of `out`.
type Parts<'p, 'o, const NONCE: usize> = (&'p [u8], &'p [u8; NONCE], Tag, &'o mut [u8]);

fn parts<'p, 'o, const NONCE: usize>(
    payload: &'p [u8],
    out: &'o mut Vec<u8>,
) -> Result<Parts<'p, 'o, NONCE>, OpenError> {
    let (header, rest) = payload
        .split_at_checked(NAMES + NONCE)
        .ok_or(OpenError::Truncated)?;
    let nonce = header.last_chunk().ok_or(OpenError::Truncated)?;
    let (ciphertext, tag) = rest
        .split_last_chunk::<TAG>()
        .filter(|(ciphertext, _)| !ciphertext.is_empty())
        .ok_or(OpenError::Truncated)?;
    let start = out.len();
    out.extend_from_slice(ciphertext);
    Ok((header, nonce, Tag::from(*tag), &mut out[start..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn derived(id: u32, material: u8, field: &str) -> SealKey {
        SealKey::derive(
            KeyId(id),
            &Material::new([material; 32]),
            FieldId::of("shop.customers", field),
        )
    }

    fn key(suite: Suite) -> SealKey {
        derived(7, 1, "ssn").sealing_with(suite)
    }

    fn sealed(suite: Suite, kind: u8, value: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        key(suite).seal(kind, value, &mut sealed);
        sealed
    }

    fn opened(key: &SealKey, payload: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut out = vec![9];
        let result = key.open(payload, &mut out);
        if result.is_err() {
            assert_eq!(out, [9], "an error leaves nothing behind");
        }
        result.map(|()| out)
    }

    #[test]
    fn what_was_sealed_opens_to_the_same_type_and_bytes() {
        for suite in Suite::ALL {
            let payload = sealed(suite, 0x02, b"\x04\0\0\0abc\0");
            assert_eq!(payload.len(), key(suite).sealed_length(8));
            // Whatever the key would seal with now.
            for now in Suite::ALL {
                let opened = opened(&key(now), &payload);
                assert_eq!(opened.as_deref(), Ok(&b"\x09\x02\x04\0\0\0abc\0"[..]));
            }
        }
    }

    #[test]
    fn the_stored_layout_is_the_documented_one() {
        for (suite, byte, header) in [(Suite::Aes256Gcm, 1, 28), (Suite::Xaes256Gcm, 2, 40)] {
            let sealed = sealed(suite, 0x0A, b"");
            assert_eq!(&sealed[..4], &[0xF5, 0xEA, 0x1D, byte]);
            assert_eq!(&sealed[4..8], &[0, 0, 0, 7]);
            // The first eight bytes of SHA-256("shop.customers\0ssn").
            let digest = Sha256::digest(b"shop.customers\0ssn");
            assert_eq!(&sealed[8..16], &digest[..8]);
            assert_eq!(sealed.len(), header + 1 + 16);
            assert_eq!(Header::read(&sealed).unwrap().suite, byte);
        }
    }

    #[test]
    fn a_value_is_opened_by_the_primitive_that_its_suite_names() {
        let derived = |purpose: &[u8]| {
            let field = FieldId::of("shop.customers", "ssn");
            Material::new([1; 32]).derive(&[purpose, &field.0])
        };
        let payload = sealed(Suite::Aes256Gcm, 0x10, &[1, 2, 3, 4]);
        let (header, rest) = payload.split_at(28);
        let (text, tag) = rest.split_last_chunk::<TAG>().unwrap();
        let mut text = text.to_vec();
        let nonce = Nonce::from(*header.last_chunk::<12>().unwrap());
        Gcm::new(derived(b"fieldseal/v1/seal").expose().into())
            .decrypt_inout_detached(&nonce, header, text.as_mut_slice().into(), &Tag::from(*tag))
            .unwrap();
        assert_eq!(text, [0x10, 1, 2, 3, 4]);
        let payload = sealed(Suite::Xaes256Gcm, 0x10, &[1, 2, 3, 4]);
        let (header, rest) = payload.split_at(40);
        let (text, tag) = rest.split_last_chunk::<TAG>().unwrap();
        let mut text = text.to_vec();
        Xaes256Gcm::new(derived(b"fieldseal/v1/seal/xaes-256-gcm").expose())
            .open(
                header.last_chunk().unwrap(),
                header,
                &mut text,
                &Tag::from(*tag),
            )
            .unwrap();
        assert_eq!(text, [0x10, 1, 2, 3, 4]);
    }

    #[test]
    fn a_change_of_any_bit_is_noticed_and_leaves_no_plaintext() {
        for suite in Suite::ALL {
            let sealed = sealed(suite, 0x10, &[1, 2, 3, 4]);
            for bit in 0..sealed.len() * 8 {
                let mut changed = sealed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(opened(&key(suite), &changed).is_err(), "bit {bit}");
            }
            for length in 0..sealed.len() {
                assert!(opened(&key(suite), &sealed[..length]).is_err());
            }
        }
    }

    #[test]
    fn a_value_under_the_name_of_another_suite_is_not_opened() {
        for (suite, other) in [
            (Suite::Aes256Gcm, Suite::Xaes256Gcm),
            (Suite::Xaes256Gcm, Suite::Aes256Gcm),
        ] {
            let mut payload = sealed(suite, 0x02, &[b'a'; 64]);
            payload[SUITE_AT] = other.byte();
            assert_eq!(opened(&key(suite), &payload), Err(OpenError::Tampered));
            for byte in [0, 3, u8::MAX] {
                payload[SUITE_AT] = byte;
                let unknown = Err(OpenError::UnknownSuite(byte));
                assert_eq!(opened(&key(suite), &payload), unknown);
            }
        }
    }

    #[test]
    fn two_seals_of_one_value_differ() {
        for suite in Suite::ALL {
            assert_ne!(sealed(suite, 0x08, &[1]), sealed(suite, 0x08, &[1]));
        }
    }

    #[test]
    fn another_field_or_version_does_not_open_it() {
        for suite in Suite::ALL {
            let payload = sealed(suite, 0x08, &[1]);
            for other in [derived(7, 1, "card"), derived(7, 2, "ssn")] {
                assert_eq!(opened(&other, &payload), Err(OpenError::Tampered));
            }
        }
    }

    #[test]
    fn what_is_sealed_fits_into_the_room_that_its_length_asks_for() {
        for suite in Suite::ALL {
            let key = key(suite);
            let mut payload = Vec::new();
            key.seal(0x02, &[7; 100], &mut payload);
            let (mut exact, mut out) = (Vec::with_capacity(payload.len()), Vec::with_capacity(101));
            let before = (exact.as_ptr(), out.as_ptr());
            key.seal(0x02, &[7; 100], &mut exact);
            key.open(&exact, &mut out).unwrap();
            assert_eq!(before, (exact.as_ptr(), out.as_ptr()));
        }
    }

    fn suite() -> impl Strategy<Value = Suite> {
        prop::sample::select(Suite::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn any_value_comes_back(suite in suite(), kind: u8, value in prop::collection::vec(any::<u8>(), 0..600)) {
            let payload = sealed(suite, kind, &value);
            prop_assert_eq!(payload.len(), key(suite).sealed_length(value.len()));
            let opened = opened(&key(Suite::Aes256Gcm), &payload).unwrap();
            prop_assert_eq!(&opened[1..2], &[kind]);
            prop_assert_eq!(&opened[2..], &value);
        }

        #[test]
        fn a_changed_payload_is_never_opened(
            suite in suite(),
            value in prop::collection::vec(any::<u8>(), 0..80),
            at: prop::sample::Index,
            change in 1..=u8::MAX,
        ) {
            let mut payload = sealed(suite, 0x05, &value);
            let at = at.index(payload.len());
            payload[at] ^= change;
            prop_assert!(opened(&key(suite), &payload).is_err());
        }

        #[test]
        fn random_bytes_are_never_opened(
            mut payload in prop::collection::vec(any::<u8>(), 0..200),
            named: bool,
            suite in 0_u8..4,
        ) {
            if named && payload.len() > SUITE_AT {
                payload[..SUITE_AT].copy_from_slice(&MAGIC);
                payload[SUITE_AT] = suite;
            }
            let header = Header::read(&payload);
            prop_assert_eq!(header.is_some(), payload.len() >= NAMES && payload.starts_with(&MAGIC));
            prop_assert!(opened(&key(Suite::Aes256Gcm), &payload).is_err());
        }
    }
}
