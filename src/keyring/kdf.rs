//! From the unseal secret to the root key, and from it to what wraps and what authenticates.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

use super::unseal::Unsealing;
use super::{Material, UnsealSecret};

/// 64 MiB.
const MEMORY_KIB: u32 = 64 << 10;
const ITERATIONS: u32 = 3;

/// Bounds on what a key file may ask for, before anything is allocated for it: 1 GiB.
const MOST_MEMORY_KIB: u32 = 1 << 20;
const MOST_ITERATIONS: u32 = 64;
const MOST_PARALLELISM: u32 = 16;

const SALT_BYTES: usize = 16;
const MOST_SALT_BYTES: usize = 64;

/// How the root key comes from the unseal secret, as the key file says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", deny_unknown_fields)]
pub(super) enum Kdf {
    /// For a passphrase.
    #[serde(rename = "argon2id")]
    Argon2id {
        #[serde(with = "super::stored::base64_bytes")]
        salt: Vec<u8>,
        memory_kib: u32,
        iterations: u32,
        parallelism: u32,
    },
    /// For 32 random bytes.
    #[serde(rename = "hkdf-sha256")]
    HkdfSha256 {
        #[serde(with = "super::stored::base64_bytes")]
        salt: Vec<u8>,
    },
}

/// Why no root key comes out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KdfError {
    /// The secret is a passphrase where a key belongs, or the other way about.
    OtherKind,
    /// The parameters are beyond their bounds.
    OutOfBounds,
}

/// What the root key is used for. Neither key can be had from the other.
pub(super) struct RootKeys {
    pub(super) wrap: Material,
    pub(super) mac: Material,
}

impl Kdf {
    /// A fresh salt, and parameters that suit the kind of `secret`.
    pub(super) fn suited_to(secret: &UnsealSecret) -> Result<Self, getrandom::Error> {
        let mut salt = vec![0; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        Ok(match secret.unsealing() {
            Unsealing::Passphrase(_) => Self::Argon2id {
                salt,
                memory_kib: MEMORY_KIB,
                iterations: ITERATIONS,
                parallelism: 1,
            },
            Unsealing::Key(_) => Self::HkdfSha256 { salt },
        })
    }

    /// The same for another `secret`, or for the same one again: a fresh salt, and for a
    /// passphrase no weaker parameters than there were.
    pub(super) fn renewed(&self, secret: &UnsealSecret) -> Result<Self, getrandom::Error> {
        let mut renewed = Self::suited_to(secret)?;
        if let (
            Self::Argon2id {
                memory_kib,
                iterations,
                parallelism,
                ..
            },
            Self::Argon2id {
                memory_kib: memory_before,
                iterations: iterations_before,
                parallelism: parallelism_before,
                ..
            },
        ) = (&mut renewed, self)
        {
            *memory_kib = (*memory_kib).max(*memory_before);
            *iterations = (*iterations).max(*iterations_before);
            *parallelism = *parallelism_before;
        }
        Ok(renewed)
    }

    /// The keys under the root key that `secret` gives.
    pub(super) fn root_keys(&self, secret: &UnsealSecret) -> Result<RootKeys, KdfError> {
        let root = match (self, secret.unsealing()) {
            (
                Self::Argon2id {
                    salt,
                    memory_kib,
                    iterations,
                    parallelism,
                },
                Unsealing::Passphrase(passphrase),
            ) => stretch(passphrase, salt, *memory_kib, *iterations, *parallelism)?,
            (Self::HkdfSha256 { salt }, Unsealing::Key(key)) => {
                check_salt(salt)?;
                key.derive(&[b"fieldseal/v1/keyring/root", salt])
            }
            _ => return Err(KdfError::OtherKind),
        };
        Ok(RootKeys {
            wrap: root.derive(&[b"fieldseal/v1/keyring/wrap"]),
            mac: root.derive(&[b"fieldseal/v1/keyring/mac"]),
        })
    }
}

fn check_salt(salt: &[u8]) -> Result<(), KdfError> {
    if (SALT_BYTES..=MOST_SALT_BYTES).contains(&salt.len()) {
        Ok(())
    } else {
        Err(KdfError::OutOfBounds)
    }
}

fn stretch(
    passphrase: &[u8],
    salt: &[u8],
    memory: u32,
    iterations: u32,
    lanes: u32,
) -> Result<Material, KdfError> {
    check_salt(salt)?;
    if memory > MOST_MEMORY_KIB || iterations > MOST_ITERATIONS || lanes > MOST_PARALLELISM {
        return Err(KdfError::OutOfBounds);
    }
    let params =
        Params::new(memory, iterations, lanes, Some(32)).map_err(|_| KdfError::OutOfBounds)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut done = Ok(());
    let root = Material::filled(|root| {
        done = argon2.hash_password_into(passphrase, salt, root);
    });
    done.map_err(|_| KdfError::OutOfBounds)?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn passphrase() -> UnsealSecret {
        UnsealSecret::parse(b"correct horse battery staple").unwrap()
    }

    fn argon2id(memory_kib: u32, iterations: u32, parallelism: u32) -> Kdf {
        Kdf::Argon2id {
            salt: vec![7; SALT_BYTES],
            memory_kib,
            iterations,
            parallelism,
        }
    }

    #[test]
    fn a_passphrase_is_stretched_as_argon2id_says() {
        let wrap = |kdf: Kdf| *kdf.root_keys(&passphrase()).unwrap().wrap.expose();
        let shown: String = wrap(argon2id(64, 2, 2))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        // Another implementation's Argon2id (OpenSSL's), then its HKDF.
        assert_eq!(
            shown,
            "ce1a0dc806880663b9c61fdcf6dcd03057eac5192e7766169cb877fac0242608"
        );
        for other in [argon2id(72, 2, 2), argon2id(64, 1, 2), argon2id(64, 2, 1)] {
            assert_ne!(wrap(other), wrap(argon2id(64, 2, 2)));
        }
    }

    #[test]
    fn a_key_file_cannot_ask_for_more_memory_or_time_than_the_bounds() {
        for kdf in [
            argon2id(MOST_MEMORY_KIB + 1, 1, 1),
            argon2id(u32::MAX, 1, 1),
            argon2id(64, MOST_ITERATIONS + 1, 1),
            argon2id(1024, 1, MOST_PARALLELISM + 1),
            argon2id(0, 1, 1),
            argon2id(64, 0, 1),
            argon2id(64, 1, 0),
        ] {
            assert_eq!(
                kdf.root_keys(&passphrase()).err(),
                Some(KdfError::OutOfBounds),
                "{kdf:?}"
            );
        }
    }

    #[test]
    fn parameters_do_not_weaken_when_a_file_is_resealed() {
        let renewed = |before: Kdf| match before.renewed(&passphrase()).unwrap() {
            Kdf::Argon2id {
                salt,
                memory_kib,
                iterations,
                ..
            } => (salt != [7; SALT_BYTES], memory_kib, iterations),
            Kdf::HkdfSha256 { .. } => panic!("a passphrase is stretched"),
        };
        assert_eq!(renewed(argon2id(64, 9, 1)), (true, MEMORY_KIB, 9));
        assert_eq!(
            renewed(argon2id(MEMORY_KIB + 8, 1, 1)),
            (true, MEMORY_KIB + 8, ITERATIONS)
        );
    }

    #[test]
    fn wrapping_and_authenticating_use_different_keys() {
        let keys = argon2id(64, 1, 1).root_keys(&passphrase()).unwrap();
        assert_ne!(keys.wrap.expose(), keys.mac.expose());
    }

    #[test]
    fn a_passphrase_does_not_stand_in_for_a_key() {
        let kdf = Kdf::HkdfSha256 {
            salt: vec![7; SALT_BYTES],
        };
        assert_eq!(
            kdf.root_keys(&passphrase()).err(),
            Some(KdfError::OtherKind)
        );
        let key = UnsealSecret::parse(&[0xC3; 32]).unwrap();
        assert!(kdf.root_keys(&key).is_ok());
        assert_eq!(
            argon2id(64, 1, 1).root_keys(&key).err(),
            Some(KdfError::OtherKind)
        );
    }
}
