//! The key file: named keys, their versions and index epochs, and what is derived from them.

use std::fmt;

use zeroize::Zeroizing;

/// One number for (key name, version); stored in every sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u32);

/// 32 secret bytes. Cannot be printed.
#[derive(Clone)]
pub struct Material(Zeroizing<[u8; 32]>);

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material(..)")
    }
}

impl Material {
    /// Takes 32 bytes that came from a random generator or another key.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for a primitive to use.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// HKDF-SHA-256 without salt; `info` is the parts put together.
    #[must_use]
    pub fn derive(&self, info: &[&[u8]]) -> Self {
        let mut derived = Zeroizing::new([0; 32]);
        hkdf::Hkdf::<sha2::Sha256>::new(None, self.expose())
            .expand_multi_info(info, derived.as_mut_slice())
            .expect("32 bytes are below HKDF's bound of 255 hashes");
        Self(derived)
    }
}

/// What may be done with a version or epoch of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// May open, not yet seal.
    Staged,
    /// Seals and opens; one per key.
    Active,
    /// Opens.
    Retired,
    /// Refuses, can come back.
    Disabled,
    /// The material is gone.
    Destroyed,
}

/// A version, or an index epoch, of a named key.
#[derive(Debug, Clone)]
pub struct KeyVersion {
    /// Its number in sealed values; unique in the file over versions of all keys.
    pub id: KeyId,
    /// 1, 2, 3… for each key; for an epoch, the `<N>` of `e<N>`.
    pub number: u32,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// What may be done with it.
    pub state: State,
    /// None once destroyed.
    pub material: Option<Material>,
}

/// A named key.
#[derive(Debug, Clone)]
pub struct NamedKey {
    /// As the schema names it.
    pub name: String,
    /// The versions that seal, oldest first.
    pub versions: Vec<KeyVersion>,
    /// The epochs that tokens are made under, oldest first.
    pub epochs: Vec<KeyVersion>,
}

/// An opened key file.
#[derive(Debug, Clone)]
pub struct Keyring {
    /// Counts the writes of the file; never goes back.
    pub generation: u64,
    /// The named keys.
    pub keys: Vec<NamedKey>,
}

impl Keyring {
    /// The key named `name`.
    pub fn key(&self, name: &str) -> Option<&NamedKey> {
        self.keys.iter().find(|key| key.name == name)
    }
}
