//! The audit log: JSON lines that are only ever added to, chained by MACs.
//!
//! Every line's MAC covers the line and the MAC before it, under a key that is replaced by its
//! own hash after each line ([`Chain`]). A run of lines under one key is a segment: from a
//! `start` line, which names the key and says what it goes on from, to an `end` line. A segment
//! without an end was cut off: its writer was killed, or its last lines were taken away, which
//! cannot be told apart without a [`Head`] that was noted elsewhere.

mod chain;
mod line;
mod log;
mod standing;
mod tail;
mod verify;
mod writer;

use std::path::{Path, PathBuf};

use crate::keyring::{KeyId, Keyring, Material};

pub use chain::{Head, LineMac, NotAHead};
pub use line::Event;
pub use log::{Log, predecessors};
pub use standing::Standing;
pub use verify::{Place, Verdict, verify};
pub use writer::{Audit, NotWritten, Settings};

/// The version of a key that a segment's MACs are under.
#[derive(Debug, Clone)]
pub struct AuditKey {
    /// The name of the key.
    pub name: String,
    /// The number of the version.
    pub version: u32,
    /// The id of the version.
    pub id: KeyId,
    material: Material,
}

impl AuditKey {
    /// The active version of the key `name`.
    pub fn active(keyring: &Keyring, name: &str) -> Option<Self> {
        let active = keyring.key(name)?.active()?;
        Some(Self {
            name: name.to_owned(),
            version: active.number,
            id: active.id,
            material: active.material.clone()?,
        })
    }
}

/// When a file is put aside, and how many of those are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// The length that a file should not pass.
    pub max_bytes: u64,
    /// How many files are kept that were put aside; none means all.
    pub keep: Option<u32>,
}

/// Why an audit log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The system says no.
    #[error("{}: cannot be {what}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, as a participle.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("{}: is being written by another process; give each proxy an [audit] file of its own", .0.display())]
    InUse(PathBuf),
    /// The chain cannot be gone on with.
    #[error("{}: does not end as an audit log does; look at it with `fieldseal audit verify`, and move it away to begin a new one", .0.display())]
    NotALog(PathBuf),
}

impl AuditError {
    /// What the documentation calls it.
    pub fn code(&self) -> crate::code::Code {
        use crate::code::Code;

        match self {
            Self::Io { .. } => Code::AuditUnwritable,
            Self::InUse(_) => Code::AuditInUse,
            Self::NotALog(_) => Code::AuditNotALog,
        }
    }

    fn io(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, what, source }
    }
}

/// The path with something after its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The log of what is done by commands, beside that of the proxy at `path`.
pub fn of_commands(path: &Path) -> PathBuf {
    beside(path, ".admin")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: &u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = nibble(pair.first()?)? << 4 | nibble(pair.last()?)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
