//! The key file: named keys, their versions and index epochs, and what is derived from them.

mod age;
mod check;
mod fault;
mod file;
mod kdf;
mod life;
mod mark;
mod stored;
mod suite;
mod text;
mod unseal;

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use fault::{KeyringError, KeyringFault};
#[cfg(any(test, fuzzing))]
pub(crate) use file::fuzzed;
pub use file::{KeyFile, readable_by_others};
pub use life::{Part, Step, StepError, Which};
pub use stored::FORMAT;
pub use suite::Suite;
pub use text::TextError;
pub use unseal::{UnsealError, UnsealSecret, UnsealSource};

/// One number for (key name, version); stored in every sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u32);

/// 32 secret bytes. Cannot be printed.
///
/// They have a place of their own, so that moving a material, or a list of them that
/// grows, leaves no copy behind that nobody wipes.
pub struct Material(Box<Zeroizing<[u8; 32]>>);

impl Clone for Material {
    fn clone(&self) -> Self {
        Self::filled(|bytes| bytes.copy_from_slice(self.expose()))
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material(..)")
    }
}

impl Material {
    /// Takes 32 bytes that came from a random generator or another key.
    pub fn new(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self::filled(|place| place.copy_from_slice(bytes.as_slice()))
    }

    /// Bytes that `fill` writes where they stay.
    fn filled(fill: impl FnOnce(&mut [u8; 32])) -> Self {
        let mut material = Self(Box::new(Zeroizing::new([0; 32])));
        fill(&mut material.0);
        material
    }

    /// Takes 32 bytes from the system's random generator.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut filled = Ok(());
        let material = Self::filled(|bytes| filled = getrandom::fill(bytes));
        filled.map(|()| material)
    }

    /// The bytes, for a primitive to use.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// HKDF-SHA-256 without salt; `info` is the parts put together.
    #[must_use]
    pub fn derive(&self, info: &[&[u8]]) -> Self {
        Self::filled(|derived| {
            hkdf::Hkdf::<sha2::Sha256>::new(None, self.expose())
                .expand_multi_info(info, derived)
                .expect("32 bytes are below HKDF's bound of 255 hashes");
        })
    }
}

/// What may be done with a version or epoch of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    /// What its values are sealed with, where the field does not say; none is the default.
    /// Epochs have none.
    pub suite: Option<Suite>,
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

impl State {
    /// The word for it, as the key file has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Disabled => "disabled",
            Self::Destroyed => "destroyed",
        }
    }

    /// Whether sealed values of the version may be opened.
    pub fn opens(self) -> bool {
        matches!(self, Self::Staged | Self::Active | Self::Retired)
    }
}

impl NamedKey {
    /// The version that seals.
    pub fn active(&self) -> Option<&KeyVersion> {
        active(&self.versions)
    }

    /// The epoch that tokens are made under.
    pub fn active_epoch(&self) -> Option<&KeyVersion> {
        active(&self.epochs)
    }
}

fn active(versions: &[KeyVersion]) -> Option<&KeyVersion> {
    versions
        .iter()
        .find(|version| version.state == State::Active)
}

impl Keyring {
    /// Makes a key for each of `names`, with one version and one epoch; kept nowhere.
    pub fn generate<'n>(
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Self, getrandom::Error> {
        let mut keyring = Self {
            generation: 0,
            keys: Vec::new(),
        };
        for name in names {
            keyring.add(name, None)?;
        }
        Ok(keyring)
    }

    /// The key named `name`.
    pub fn key(&self, name: &str) -> Option<&NamedKey> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The version that sealed values name `id`, and its key.
    pub fn version(&self, id: KeyId) -> Option<(&NamedKey, &KeyVersion)> {
        self.keys.iter().find_map(|key| {
            let version = key.versions.iter().find(|version| version.id == id)?;
            Some((key, version))
        })
    }

    /// Adds the key `name`, whose version has the `suite`, unless there is one.
    pub fn add(&mut self, name: &str, suite: Option<Suite>) -> Result<(), getrandom::Error> {
        if self.key(name).is_none() {
            let version = KeyVersion {
                suite,
                ..self.fresh(1)?
            };
            self.keys.push(NamedKey {
                name: name.to_owned(),
                versions: vec![version],
                epochs: Vec::new(),
            });
            let epoch = self.fresh(1)?;
            if let Some(key) = self.keys.last_mut() {
                key.epochs.push(epoch);
            }
        }
        Ok(())
    }

    /// A new active version under an id that no other has.
    fn fresh(&self, number: u32) -> Result<KeyVersion, getrandom::Error> {
        let id = loop {
            let id = KeyId(getrandom::u32()?);
            let mut all = self
                .keys
                .iter()
                .flat_map(|key| key.versions.iter().chain(&key.epochs));
            if id.0 != 0 && all.all(|version| version.id != id) {
                break id;
            }
        };
        Ok(KeyVersion {
            id,
            number,
            created: now(),
            state: State::Active,
            suite: None,
            material: Some(Material::random()?),
        })
    }
}

/// More than any name needs.
const MAX_NAME_BYTES: usize = 64;

/// What is wrong with the name of a key.
pub(crate) fn name_mistake(name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
        return Some(format!(
            "the name of a key has 1 to {MAX_NAME_BYTES} letters, digits, `_`, `.` or `-`"
        ));
    }
    None
}

/// The time, RFC 3339 in UTC, to the second.
fn now() -> String {
    let seconds = bson::DateTime::now().timestamp_millis() / 1000 * 1000;
    bson::DateTime::from_millis(seconds)
        .try_to_rfc3339_string()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_rotated_key_seals_with_its_new_version_and_opens_with_all() {
        let mut keyring = Keyring::generate(["default", "people"]).unwrap();
        let first = keyring.key("people").unwrap().active().unwrap().id;
        let epoch = keyring.key("people").unwrap().active_epoch().unwrap().id;
        assert_eq!(keyring.rotate("people", None), Ok(2));
        let people = keyring.key("people").unwrap();
        let active = people.active().unwrap();
        assert_eq!((active.number, people.versions.len()), (2, 2));
        assert_ne!(active.id, first);
        let (key, old) = keyring.version(first).unwrap();
        assert_eq!((key.name.as_str(), old.state), ("people", State::Retired));
        assert!(old.state.opens() && old.material.is_some());
        assert_eq!(people.active_epoch().unwrap().id, epoch);
        assert_eq!(keyring.key("default").unwrap().versions.len(), 1);
        assert!(keyring.rotate("nobody", None).is_err());
    }

    #[test]
    fn an_epoch_is_not_found_as_a_version() {
        let keyring = Keyring::generate(["default"]).unwrap();
        let key = keyring.key("default").unwrap();
        assert_eq!(key.active_epoch().unwrap().number, 1);
        assert!(keyring.version(key.active_epoch().unwrap().id).is_none());
        assert!(keyring.version(key.active().unwrap().id).is_some());
    }

    #[test]
    fn versions_are_dated_in_utc() {
        let date = now();
        assert_eq!(date.len(), "2026-01-01T00:00:00Z".len(), "{date}");
        assert!(date.ends_with('Z'), "{date}");
    }

    #[test]
    fn material_is_wiped_when_it_is_dropped() {
        fn wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        wiped(&*Material::new([1; 32]).0);
    }

    #[test]
    fn material_cannot_be_printed() {
        let keyring = Keyring::generate(["default"]).unwrap();
        let material = keyring
            .key("default")
            .unwrap()
            .active()
            .unwrap()
            .material
            .clone()
            .unwrap();
        let printed = format!("{keyring:?} {material:?}");
        assert!(printed.contains("Material(..)"));
        let list = material.expose().map(|byte| byte.to_string()).join(", ");
        assert!(!printed.contains(&list));
    }
}
