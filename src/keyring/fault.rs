//! What can be wrong with a key file.

use std::path::PathBuf;

use super::StepError;
use super::stored::FORMAT;
use crate::code::Code;

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
    /// Sealed with another secret. A file of which no secret is as it was looks the same.
    #[error(
        "the unseal secret is wrong: this file was sealed with another one, or edited so that nothing in it opens"
    )]
    WrongSecret,
    /// Not as it was written.
    #[error("was edited: its contents do not match its MAC; restore it from a copy")]
    Edited,
    /// An older one than was seen in its place.
    #[error(
        "went back from generation {newest} to {found}: an older copy would bring back what was revoked since; put the newer one back, or, if the older one is meant, remove {}", mark.display()
    )]
    WentBack {
        /// The newest generation that was seen.
        newest: u64,
        /// The generation of the file.
        found: u64,
        /// Where it is noted.
        mark: PathBuf,
    },
    /// What notes the newest generation cannot be read.
    #[error(
        "the newest generation is noted in {}, which is damaged; if this key file is the newest, remove that file", .0.display()
    )]
    Mark(PathBuf),
    /// Would not be read again.
    #[error("is not written: {0}")]
    Contradiction(String),
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
    /// Not what a version or epoch may become.
    #[error("{0}")]
    Step(StepError),
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

impl KeyringFault {
    /// What the documentation calls it.
    pub fn code(&self) -> Code {
        match self {
            Self::Missing => Code::KeyFileMissing,
            Self::Unreadable(_) => Code::KeyFileUnreadable,
            Self::Unwritable(_) | Self::Contradiction(_) => Code::KeyFileUnwritable,
            Self::Malformed(_) | Self::Format(_) | Self::Kdf => Code::KeyFileMalformed,
            Self::WrongSecret => Code::WrongSecret,
            Self::Edited => Code::KeyFileEdited,
            Self::WentBack { .. } => Code::KeyFileWentBack,
            Self::Mark(_) => Code::KeyFileMark,
            Self::Exists => Code::KeyFileExists,
            Self::Locked => Code::KeyFileLocked,
            Self::WeakPassphrase => Code::WeakPassphrase,
            Self::UnknownKey(_) => Code::UnknownKey,
            Self::Step(error) => error.code(),
            Self::Name { .. } => Code::KeyName,
            Self::Random(_) => Code::Random,
        }
    }
}

impl From<StepError> for KeyringFault {
    fn from(error: StepError) -> Self {
        match error {
            StepError::UnknownKey(name) => Self::UnknownKey(name),
            StepError::Random(error) => Self::Random(error),
            error => Self::Step(error),
        }
    }
}

impl From<getrandom::Error> for KeyringFault {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}
