//! Work on what is stored, on MongoDB itself and while services go on.
//!
//! A job looks at every document of a collection in the order of `_id`, and changes those
//! that need it in transactions: each is made of what the document holds at that moment, so
//! that no write in between is lost. Passes follow one another until one finds nothing left
//! to do. How far a job has come is kept in MongoDB. Doing a part twice changes nothing, so
//! a job may be killed, and run twice at once.

pub mod census;
mod checkpoint;
pub mod database;
mod indexes;
mod job;
mod pace;
mod pass;
mod plan;
pub mod reindex;
mod run;
pub mod scan;
mod tally;
mod tokens;
mod transaction;
mod trouble;
pub mod walk;

pub use checkpoint::{COLLECTION, DATABASE, Underway, underway};
pub use job::Work;
pub use pass::Progress;
pub use run::{Options, Outcome, run};
pub use tally::{OfField, Reason, Tally};

use crate::code::Code;
use crate::raw::Malformed;
use database::DatabaseError;

/// Why a job does not begin, or ended before it was done.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// MongoDB cannot be reached, or refused.
    #[error("{0}")]
    Database(#[from] DatabaseError),
    /// A stored document does not hold together.
    #[error("a stored document is {0}")]
    Malformed(#[from] Malformed),
    /// An `_id` that no command can name.
    #[error(
        "{namespace}: the _id of the document {before} is not UTF-8 or has no form in BSON; insert that document anew under another one, remove it, and run this again"
    )]
    Id {
        /// The collection.
        namespace: String,
        /// Where it is.
        before: String,
    },
    /// MongoDB has no transactions.
    #[error(
        "MongoDB runs as a standalone, without the transactions that make a migration safe; start it with --replSet and run rs.initiate(), even with one member"
    )]
    Standalone,
    /// The member that was reached takes no writes.
    #[error(
        "the member that was reached is no primary; leave `directConnection` out of the connection string, or name the primary"
    )]
    NotPrimary,
    /// What stands there cannot be worked on.
    #[error("{namespace}: it is a {what}; {advice}")]
    Standing {
        /// The collection.
        namespace: String,
        /// What it is.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The collection has no such sealed field.
    #[error("{namespace}: the schema has no field `{field}`; it has {fields}")]
    Field {
        /// The collection.
        namespace: String,
        /// As it was asked for.
        field: String,
        /// The fields that there are.
        fields: String,
    },
    /// The schema does not say what the proxies need to do meanwhile.
    #[error("{namespace}: {reason}")]
    OnPlaintext {
        /// The collection.
        namespace: String,
        /// Why, and what to do.
        reason: String,
    },
    /// An index has no form in what the job makes of its fields.
    #[error("{namespace}: the index {name:?} cannot be kept: {reason}")]
    Index {
        /// The collection.
        namespace: String,
        /// The index.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
    /// An index has no form on the tokens of another epoch.
    #[error("{namespace}: the index {name:?} cannot move to another index epoch: {reason}")]
    Twin {
        /// The collection.
        namespace: String,
        /// The index, as it is stored.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A view is about tokens that are to go.
    #[error(
        "{namespace}: the view {view:?} names tokens of an index epoch that is not written any more; drop it and make it anew through a proxy, then run this again"
    )]
    View {
        /// The collection.
        namespace: String,
        /// The view.
        view: String,
    },
    /// No document is taken.
    #[error(
        "{0}: the collection's validator refuses every document (code 121); change it with collMod, to take what the job writes or with validationLevel \"off\", and run this again"
    )]
    Validator(String),
    /// MongoDB refused a write for a reason of its own.
    #[error("MongoDB refused a write with code {0}")]
    Write(i32),
    /// A document that was read in a transaction was not there to be written.
    #[error("MongoDB did not find what it had just read")]
    Matched,
    /// A command was not made as it should be.
    #[error("a command does not hold together; please report this")]
    Command,
}

impl EngineError {
    /// What the documentation calls it.
    pub fn code(&self) -> Code {
        match self {
            Self::Database(error) => error.code(),
            Self::Malformed(_) | Self::Id { .. } => Code::StoredDocument,
            Self::Standalone => Code::NoTransactions,
            Self::NotPrimary => Code::NotPrimary,
            Self::Standing { .. } => Code::Standing,
            Self::Field { .. } => Code::NotSealed,
            Self::OnPlaintext { .. } => Code::OnPlaintext,
            Self::Index { .. } | Self::Twin { .. } | Self::View { .. } => Code::Index,
            Self::Validator(_) => Code::Validator,
            Self::Write(_) | Self::Matched | Self::Command => Code::Database,
        }
    }
}
