//! Errors of MongoDB while a job is under way: which of them pass, and how long to wait.

use std::time::{Duration, Instant};

use mongodb::error::{
    Error, ErrorKind, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR, WriteFailure,
};

/// How long MongoDB may be without a primary, or out of reach.
const PATIENCE: Duration = Duration::from_secs(180);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What an error means for what was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Another write came in between: nothing was written.
    Conflict,
    /// The network, or an election: it may work in a moment.
    Passing,
    /// A document is not taken; MongoDB's code.
    Refused(i32),
    /// It will not work.
    Lasting,
}

/// MongoDB's codes for a write that met another one, or a snapshot that is gone.
const CONFLICTS: &[i32] = &[24, 50, 112, 239, 246, 251, 262, 290];
/// Elections, restarts, and members that step down.
const ELECTIONS: &[i32] = &[
    6, 7, 89, 91, 133, 189, 225, 317, 9001, 10107, 11600, 11602, 13388, 13435, 13436,
];
/// A duplicate key, in its old and new forms.
pub(super) const DUPLICATE: &[i32] = &[11000, 11001, 12582];
/// A validator of the collection.
pub(super) const VALIDATOR: i32 = 121;
/// Documents that are too large, keys that an index cannot take, and the like.
const OF_DOCUMENTS: &[i32] = &[2, 9, 14, 52, 56, 171, 10334, 17280, 17419, 17420];

impl Trouble {
    /// What an error means.
    pub(super) fn of(error: &Error) -> Self {
        let code = code(error);
        if let Some(code) = code {
            if CONFLICTS.contains(&code) {
                return Self::Conflict;
            }
            if is_of_document(code) {
                return Self::Refused(code);
            }
        }
        let labelled = [TRANSIENT_TRANSACTION_ERROR, RETRYABLE_WRITE_ERROR]
            .iter()
            .any(|label| error.contains_label(label));
        let passing = code.is_some_and(|code| ELECTIONS.contains(&code))
            || matches!(
                *error.kind,
                ErrorKind::Io(_)
                    | ErrorKind::ConnectionPoolCleared { .. }
                    | ErrorKind::ServerSelection { .. }
            );
        if labelled || passing {
            Self::Passing
        } else {
            Self::Lasting
        }
    }
}

/// Whether a code of MongoDB is about the document that was written, and no other.
pub(super) fn is_of_document(code: i32) -> bool {
    code == VALIDATOR || DUPLICATE.contains(&code) || OF_DOCUMENTS.contains(&code)
}

fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        _ => None,
    }
}

/// Counts the tries of one thing.
#[derive(Debug)]
pub(super) struct Patience {
    since: Instant,
    wait: Duration,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            wait: Duration::from_millis(50),
        }
    }

    /// Waits before the next try, longer each time; false if it has been tried for long enough.
    pub(super) async fn wait(&mut self) -> bool {
        if self.since.elapsed() > PATIENCE {
            return false;
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        true
    }
}
