//! Why a bench ended early.

use std::process::ExitStatus;

use super::documents::DocumentsError;
use super::load::LoadError;
use crate::cli::embedded::EmbeddedError;

/// Why a bench ended early. None of these shows a value of a document.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Its files cannot be written.
    #[error("cannot make temporary files: {0}")]
    Files(#[from] std::io::Error),
    /// It has no mongod.
    #[error("{0}")]
    Embedded(#[from] EmbeddedError),
    /// It has no documents.
    #[error("{0}")]
    Documents(#[from] DocumentsError),
    /// The proxy would refuse a document.
    #[error("{place}: document {number}: {reason}")]
    Refused {
        /// Where the documents came from.
        place: String,
        /// Which, from 1 on.
        number: usize,
        /// What the proxy says.
        reason: String,
    },
    /// The schema cannot be used like this.
    #[error("the schema cannot be measured: {0}")]
    Schema(String),
    /// Keys, certificates or a TLS client could not be made.
    #[error("cannot make {what}: {reason}")]
    Make {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A proxy does not run.
    #[error("{setting}: the proxy did not start ({status}); it said: {log}")]
    Ended {
        /// The setting that it is for.
        setting: String,
        /// How it ended, if it did.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// A command was not done.
    #[error("{setting}: {error}")]
    Load {
        /// The setting that it went through.
        setting: String,
        /// Why.
        error: LoadError,
    },
    /// A connection could not be made.
    #[error("{setting}: cannot connect: {error}")]
    Connect {
        /// The setting that it is for.
        setting: String,
        /// Why.
        error: std::io::Error,
    },
    /// What was read or stored is wrong.
    #[error("{setting}: {what}; such a proxy must not be measured, please report this")]
    Wrong {
        /// The setting.
        setting: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The MongoDB that was named cannot be used.
    #[error("--upstream {address}: {reason}")]
    Upstream {
        /// Its address.
        address: String,
        /// Why.
        reason: String,
    },
}

impl BenchError {
    /// What the documentation calls it.
    pub fn code(&self) -> crate::code::Code {
        use crate::code::Code;

        match self {
            Self::Embedded(_) => Code::Mongod,
            Self::Documents(_) => Code::Dump,
            Self::Files(_) => Code::Output,
            _ => Code::Bench,
        }
    }

    /// A command that was not done, and through which setting.
    pub(super) fn load(setting: &str) -> impl Fn(LoadError) -> Self {
        move |error| Self::Load {
            setting: setting.to_owned(),
            error,
        }
    }

    /// What could not be made.
    pub(super) fn make<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Make {
            what,
            reason: error.to_string(),
        }
    }

    /// A proxy that did not start.
    pub(super) fn ended(setting: &str, status: Option<ExitStatus>, log: String) -> Self {
        Self::Ended {
            setting: setting.to_owned(),
            status: status.map_or("it does not listen".to_owned(), |status| status.to_string()),
            log,
        }
    }
}
