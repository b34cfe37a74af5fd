//! The key file as it is stored: JSON, every secret wrapped, the whole under a MAC.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce, Tag};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::kdf::{Kdf, RootKeys};
use super::{KeyId, KeyVersion, Keyring, Material, NamedKey, State, Suite};

/// The format of the key file, as its first key says.
pub const FORMAT: &str = "fieldseal-keyring/1";

const NONCE: usize = 12;
const SECRET: usize = 32;
const TAG: usize = 16;

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredFile {
    pub(super) format: String,
    pub(super) generation: u64,
    pub(super) kdf: Kdf,
    keys: Vec<StoredKey>,
    #[serde(with = "base64_bytes")]
    mac: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    name: String,
    versions: Vec<StoredVersion>,
    epochs: Vec<StoredEpoch>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredVersion {
    id: u32,
    version: u32,
    created: String,
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suite: Option<Suite>,
    #[serde(with = "base64_option")]
    wrapped: Option<Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredEpoch {
    id: u32,
    epoch: u32,
    created: String,
    state: State,
    #[serde(with = "base64_option")]
    wrapped: Option<Vec<u8>>,
}

/// Versions seal values, epochs make tokens: one cannot be put in place of the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Version,
    Epoch,
}

/// What versions and epochs have in common.
struct Entry<'s> {
    key: &'s str,
    role: Role,
    id: u32,
    number: u32,
    created: &'s str,
    state: State,
    suite: Option<Suite>,
    wrapped: Option<&'s [u8]>,
}

impl StoredKey {
    fn versions(&self) -> impl Iterator<Item = Entry<'_>> {
        self.versions.iter().map(|version| Entry {
            key: &self.name,
            role: Role::Version,
            id: version.id,
            number: version.version,
            created: &version.created,
            state: version.state,
            suite: version.suite,
            wrapped: version.wrapped.as_deref(),
        })
    }

    fn epochs(&self) -> impl Iterator<Item = Entry<'_>> {
        self.epochs.iter().map(|epoch| Entry {
            key: &self.name,
            role: Role::Epoch,
            id: epoch.id,
            number: epoch.epoch,
            created: &epoch.created,
            state: epoch.state,
            suite: None,
            wrapped: epoch.wrapped.as_deref(),
        })
    }
}

/// Why the keys of a file were not had.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// Nothing opens: another secret sealed it.
    WrongSecret,
    /// Something opens, but the whole is not what was written.
    Edited,
}

impl StoredFile {
    /// Wraps the secrets of `keyring` and authenticates the whole.
    pub(super) fn seal(
        keyring: &Keyring,
        kdf: &Kdf,
        root: &RootKeys,
    ) -> Result<Self, getrandom::Error> {
        let mut keys = Vec::new();
        for key in &keyring.keys {
            let mut stored = StoredKey {
                name: key.name.clone(),
                versions: Vec::new(),
                epochs: Vec::new(),
            };
            for version in &key.versions {
                stored.versions.push(StoredVersion {
                    id: version.id.0,
                    version: version.number,
                    created: version.created.clone(),
                    state: version.state,
                    suite: version.suite,
                    wrapped: wrap(&key.name, Role::Version, version, &root.wrap)?,
                });
            }
            for epoch in &key.epochs {
                stored.epochs.push(StoredEpoch {
                    id: epoch.id.0,
                    epoch: epoch.number,
                    created: epoch.created.clone(),
                    state: epoch.state,
                    wrapped: wrap(&key.name, Role::Epoch, epoch, &root.wrap)?,
                });
            }
            keys.push(stored);
        }
        let mut file = Self {
            format: FORMAT.to_owned(),
            generation: keyring.generation,
            kdf: kdf.clone(),
            keys,
            mac: Vec::new(),
        };
        file.mac = file
            .authenticate(&root.mac)
            .finalize()
            .into_bytes()
            .to_vec();
        Ok(file)
    }

    /// The same file with the MAC that it would have under `root`.
    #[cfg(any(test, fuzzing))]
    pub(super) fn vouched_for(mut self, root: &RootKeys) -> Self {
        let mac = self.authenticate(&root.mac).finalize();
        self.mac = mac.into_bytes().to_vec();
        self
    }

    /// Checks that the file is what was written, and unwraps its secrets.
    pub(super) fn open(&self, root: &RootKeys) -> Result<Keyring, OpenError> {
        if self
            .authenticate(&root.mac)
            .verify_slice(&self.mac)
            .is_err()
        {
            // One secret that opens tells that the unseal secret is right.
            let mut all = self
                .keys
                .iter()
                .flat_map(|key| key.versions().chain(key.epochs()));
            let opens = all.any(|entry| matches!(entry.unwrap(&root.wrap), Ok(Some(_))));
            return Err(if opens {
                OpenError::Edited
            } else {
                OpenError::WrongSecret
            });
        }
        let open = |entry: Entry<'_>| {
            Ok(KeyVersion {
                id: KeyId(entry.id),
                number: entry.number,
                created: entry.created.to_owned(),
                state: entry.state,
                suite: entry.suite,
                material: entry.unwrap(&root.wrap)?,
            })
        };
        let key = |stored: &StoredKey| {
            Ok(NamedKey {
                name: stored.name.clone(),
                versions: stored.versions().map(open).collect::<Result<_, _>>()?,
                epochs: stored.epochs().map(open).collect::<Result<_, _>>()?,
            })
        };
        Ok(Keyring {
            generation: self.generation,
            keys: self.keys.iter().map(key).collect::<Result<_, _>>()?,
        })
    }

    /// HMAC over all that the file says, each part with its length before it,
    /// so that no part can lend bytes to the next.
    fn authenticate(&self, key: &Material) -> Hmac<Sha256> {
        let mut mac = Authenticator::new(key);
        mac.part(self.format.as_bytes());
        mac.part(&self.generation.to_be_bytes());
        match &self.kdf {
            Kdf::Argon2id {
                salt,
                memory_kib,
                iterations,
                parallelism,
            } => {
                mac.part(b"argon2id");
                mac.part(salt);
                for parameter in [memory_kib, iterations, parallelism] {
                    mac.part(&parameter.to_be_bytes());
                }
            }
            Kdf::HkdfSha256 { salt } => {
                mac.part(b"hkdf-sha256");
                mac.part(salt);
            }
        }
        mac.count(self.keys.len());
        for key in &self.keys {
            mac.part(key.name.as_bytes());
            mac.count(key.versions.len());
            mac.count(key.epochs.len());
            for entry in key.versions().chain(key.epochs()) {
                mac.part(&entry.id.to_be_bytes());
                mac.part(&entry.number.to_be_bytes());
                mac.part(entry.created.as_bytes());
                mac.part(entry.state.word().as_bytes());
                // Says what follows. A file without suites has the MAC that it had
                // before there were any.
                let suite = entry.suite.map(Suite::word);
                mac.count(usize::from(entry.wrapped.is_some()) | usize::from(suite.is_some()) << 1);
                mac.part(entry.wrapped.unwrap_or_default());
                if let Some(suite) = suite {
                    mac.part(suite.as_bytes());
                }
            }
        }
        mac.0
    }
}

struct Authenticator(Hmac<Sha256>);

impl Authenticator {
    fn new(key: &Material) -> Self {
        Self(Hmac::new_from_slice(key.expose()).expect("HMAC takes a key of any length"))
    }

    fn part(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    fn count(&mut self, count: usize) {
        self.0
            .update(&u64::try_from(count).unwrap_or(u64::MAX).to_be_bytes());
    }
}

/// Binds a wrapped secret to its place: it opens nowhere else.
fn associated_data(key: &str, role: Role, id: u32, number: u32) -> Vec<u8> {
    let role: &[u8] = match role {
        Role::Version => b"version",
        Role::Epoch => b"epoch",
    };
    // The name comes last, as the only part without a fixed length or known end.
    let mut bytes = b"fieldseal/v1/keyring/".to_vec();
    bytes.extend_from_slice(role);
    bytes.push(0);
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// nonce ‖ ciphertext ‖ tag, under a fresh random nonce; none for what is destroyed.
fn wrap(
    key: &str,
    role: Role,
    version: &KeyVersion,
    under: &Material,
) -> Result<Option<Vec<u8>>, getrandom::Error> {
    let Some(material) = &version.material else {
        return Ok(None);
    };
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce)?;
    let mut secret = Zeroizing::new(*material.expose());
    let tag = Aes256Gcm::new(under.expose().into())
        .encrypt_inout_detached(
            &Nonce::from(nonce),
            &associated_data(key, role, version.id.0, version.number),
            secret.as_mut_slice().into(),
        )
        .expect("32 bytes are below AES-GCM's bound of 64 GiB");
    let mut wrapped = nonce.to_vec();
    wrapped.extend_from_slice(secret.as_slice());
    wrapped.extend_from_slice(&tag);
    Ok(Some(wrapped))
}

impl Entry<'_> {
    /// The secret; none if it was destroyed.
    fn unwrap(&self, under: &Material) -> Result<Option<Material>, OpenError> {
        let Some(wrapped) = self.wrapped else {
            return Ok(None);
        };
        let parts = wrapped.split_first_chunk::<NONCE>();
        let (nonce, sealed) = parts.ok_or(OpenError::Edited)?;
        let (secret, tag) = sealed.split_last_chunk::<TAG>().ok_or(OpenError::Edited)?;
        let secret = <&[u8; SECRET]>::try_from(secret).map_err(|_| OpenError::Edited)?;
        let mut opened = Ok(());
        let material = Material::filled(|place| {
            place.copy_from_slice(secret);
            opened = Aes256Gcm::new(under.expose().into()).decrypt_inout_detached(
                &Nonce::from(*nonce),
                &associated_data(self.key, self.role, self.id, self.number),
                place.as_mut_slice().into(),
                &Tag::from(*tag),
            );
        });
        opened.map_err(|_| OpenError::Edited)?;
        Ok(Some(material))
    }
}

/// Bytes as base64 in JSON.
pub(super) mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map_err(|_| D::Error::custom("not base64"))
    }
}

/// Bytes as base64 or null in JSON.
mod base64_option {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes
            .as_ref()
            .map(|bytes| STANDARD.encode(bytes))
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| STANDARD.decode(text))
            .transpose()
            .map_err(|_| D::Error::custom("not base64"))
    }
}
