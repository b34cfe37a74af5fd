//! What can be wrong with a key file.

use std::path::PathBuf;

use super::stored::FORMAT;

/// Why a key file was not opened or not written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct KeyringError {
    /// The key file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: KeyringFault,
}

/// What is wrong with a key file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringFault {
    /// Not there.
    #[error("there is no key file; make one with `fieldseal keys init`")]
    Missing,
    /// Not readable.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// Not writable.
    #[error("cannot be written: {0}")]
    Unwritable(std::io::Error),
    /// Not a key file.
    #[error("is not a key file: {0}")]
    Malformed(String),
    /// Made by a later version.
    #[error(
        "has the format {0:?}, which this version of fieldseal does not know; it knows {FORMAT:?}"
    )]
    Format(String),
    /// Sealed with another secret.
    #[error("the unseal secret is wrong: this file was sealed with another one")]
    WrongSecret,
    /// Not as it was written.
    #[error("was edited: its contents do not match its MAC; restore it from a copy")]
    Edited,
    /// Its derivation parameters are beyond all reason.
    #[error("its `kdf` has parameters out of bounds")]
    Kdf,
    /// Would be overwritten.
    #[error(
        "exists already; it is not overwritten, because what it sealed could not be opened any more"
    )]
    Exists,
    /// Another process writes it.
    #[error("is being written by another process")]
    Locked,
    /// Can be guessed.
    #[error(
        "a passphrase of fewer than 12 characters can be guessed; use a longer one, or 32 random bytes"
    )]
    WeakPassphrase,
    /// Not in the file.
    #[error("there is no key {0:?}; `fieldseal keys list` shows what there is")]
    UnknownKey(String),
    /// Not a name.
    #[error("{name:?}: {what}")]
    Name {
        /// The name.
        name: String,
        /// What names are.
        what: String,
    },
    /// The system gives no random numbers.
    #[error("the system's random generator failed: {0}")]
    Random(getrandom::Error),
}

impl From<getrandom::Error> for KeyringFault {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}
