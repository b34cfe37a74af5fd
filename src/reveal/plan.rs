//! What a request's replies need, as its decision says.

use std::sync::Arc;

use crate::policy::Collection;
use crate::refusal::Refusal;

/// What a request's replies need, decided with the request.
#[derive(Debug, Clone)]
pub enum ReplyPlan {
    /// Nothing is sealed anywhere: replies are not looked at.
    Pass,
    /// Sealed values are opened wherever they stand.
    Relay,
    /// A reply to `hello`: hosts go through the route table.
    Hello,
    /// The next batch of this cursor, whose documents' shape is that of its first.
    More(i64),
    /// Documents of this collection in their own shape.
    Documents(Arc<Collection>),
    /// The one document of an aggregation that answers `distinct`: its values.
    Distinct(Arc<Collection>),
    /// What a command did, with its errors, in the names of this collection.
    Outcome {
        /// Whose names they are.
        collection: Arc<Collection>,
        /// Statements that were refused: each gets its own error for MongoDB's.
        refused: Arc<[RefusedStatement]>,
    },
    /// Indexes, plans or statistics of this collection: they speak of its paths.
    Described(Arc<Collection>),
    /// How MongoDB would run a command on this collection.
    Explained {
        /// The collection.
        collection: Arc<Collection>,
        /// The command as the client sent it, which the reply repeats.
        command: Arc<[u8]>,
    },
    /// Events of a change stream: of this collection, or of any.
    Changes(Option<Arc<Collection>>),
    /// What each operation of a `bulkWrite` did, each in its own collection.
    Results,
}

/// A statement of a batch that was refused here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedStatement {
    /// Its number in the batch.
    pub index: usize,
    /// Why.
    pub refusal: Refusal,
}

impl ReplyPlan {
    /// The sealed collection that the command was on, where that is known.
    pub fn collection(&self) -> Option<Arc<Collection>> {
        match self {
            Self::Documents(collection)
            | Self::Distinct(collection)
            | Self::Outcome { collection, .. }
            | Self::Described(collection)
            | Self::Explained { collection, .. } => Some(Arc::clone(collection)),
            Self::Changes(collection) => collection.clone(),
            Self::Pass | Self::Relay | Self::Hello | Self::More(_) | Self::Results => None,
        }
    }

    /// The statements that were refused here though the command goes on.
    pub fn refused(&self) -> &[RefusedStatement] {
        match self {
            Self::Outcome { refused, .. } => refused,
            _ => &[],
        }
    }
}
