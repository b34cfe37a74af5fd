//! What schema, keyring and stored values can have wrong.

use crate::code::Code;
use crate::seal::OpenError;

/// Why schema and keyring do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The schema names a key that the keyring does not have.
    #[error(
        "{namespace}: field `{path}` is sealed with the key `{key}`, which the keyring does not have; make it with `fieldseal keys init` or name another"
    )]
    UnknownKey {
        /// The collection.
        namespace: String,
        /// The field.
        path: String,
        /// The name that was not found.
        key: String,
    },
    /// The schema names a role that the configuration does not have.
    #[error(
        "{namespace}: field `{path}` names the role `{role}`, which nobody has: name it in [access] of the configuration, under `roles` or of a principal"
    )]
    UnknownRole {
        /// The collection.
        namespace: String,
        /// The field.
        path: String,
        /// The name that was not found.
        role: String,
    },
    /// Two collections have an identity in common, so that values of the one may come to
    /// lie in the other, and other roles.
    #[error(
        "{namespace}: field `{path}` has the identity of one in {other}, so `read`, `write`, `mask` and `audit` must be the same for both"
    )]
    OtherAccess {
        /// The collection.
        namespace: String,
        /// The field.
        path: String,
        /// The other collection.
        other: String,
    },
    /// A key has no version that may seal, or no index epoch.
    #[error("the key `{key}` has no active {what}")]
    NoActive {
        /// The key's name.
        key: String,
        /// A version or an epoch.
        what: &'static str,
    },
}

/// Why a stored value was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// No version of this id is in the keyring.
    #[error(
        "it is sealed under key id {0}, which is not in the keyring: the key is not loaded; bring this proxy's key file up to date"
    )]
    UnknownKey(u32),
    /// The version is disabled.
    #[error("it is sealed under key id {0}, which is disabled")]
    Disabled(u32),
    /// The version's material is gone.
    #[error("it is sealed under key id {0}, which was destroyed")]
    Destroyed(u32),
    /// The value itself is wrong.
    #[error("{0}")]
    Value(#[from] OpenError),
}

impl PolicyError {
    /// What the documentation calls it.
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownKey { .. } => Code::SchemaKey,
            Self::UnknownRole { .. } => Code::SchemaRole,
            Self::OtherAccess { .. } => Code::SchemaAccess,
            Self::NoActive { .. } => Code::KeyStep,
        }
    }
}

impl Unopened {
    /// What the documentation calls it.
    pub fn code(self) -> Code {
        match self {
            Self::UnknownKey(_) => Code::KeyNotLoaded,
            Self::Disabled(_) => Code::KeyDisabled,
            Self::Destroyed(_) => Code::KeyDestroyed,
            Self::Value(_) => Code::Altered,
        }
    }

    /// The same for a client, to whom the ids of keys say nothing. The log has them.
    pub fn told(self) -> String {
        match self {
            Self::UnknownKey(_) => {
                "it is sealed under a key version that this proxy has not loaded; \
                                    bring its key file up to date"
                    .to_owned()
            }
            Self::Disabled(_) => "it is sealed under a key version that is disabled".to_owned(),
            Self::Destroyed(_) => "it is sealed under a key version that was destroyed".to_owned(),
            Self::Value(error) => error.to_string(),
        }
    }
}
