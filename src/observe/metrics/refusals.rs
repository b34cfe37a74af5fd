//! Refusals: how many for each reason, and the last ones.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::RecentRefusal;
use super::shard::Count;
use crate::refusal::{Refusal, RefusalKind};

/// How many of the last ones are kept.
pub(super) const RECENT: usize = 100;

/// The reasons that there are.
pub(super) const KINDS: [RefusalKind; 13] = [
    RefusalKind::NotSupported,
    RefusalKind::UnknownOption,
    RefusalKind::UnknownCommand,
    RefusalKind::UnknownStage,
    RefusalKind::Malformed,
    RefusalKind::BadValue,
    RefusalKind::WrongType,
    RefusalKind::TooLarge,
    RefusalKind::CannotOpen,
    RefusalKind::Unauthorized,
    RefusalKind::TooManyCommands,
    RefusalKind::TooManyConnections,
    RefusalKind::AuthenticationFailed,
];

/// The word for a reason.
pub fn reason(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::NotSupported => "not_supported",
        RefusalKind::UnknownOption => "unknown_option",
        RefusalKind::UnknownCommand => "unknown_command",
        RefusalKind::UnknownStage => "unknown_stage",
        RefusalKind::Malformed => "malformed",
        RefusalKind::BadValue => "bad_value",
        RefusalKind::WrongType => "wrong_type",
        RefusalKind::TooLarge => "too_large",
        RefusalKind::CannotOpen => "cannot_open",
        RefusalKind::Unauthorized => "unauthorized",
        RefusalKind::TooManyCommands => "too_many_commands",
        RefusalKind::TooManyConnections => "too_many_connections",
        RefusalKind::AuthenticationFailed => "authentication_failed",
    }
}

/// Those of one thread.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counts: [Count; KINDS.len()],
    /// The newest last. Nobody else waits for it but who looks at the counts.
    recent: Mutex<VecDeque<RecentRefusal>>,
}

impl Refusals {
    /// Counts one and keeps it for a while, with the text that the log has.
    pub(super) fn note(&self, command: &str, namespace: &str, refusal: &Refusal) {
        self.count(refusal.kind);
        let noted = RecentRefusal {
            at: SystemTime::now(),
            command: command.to_owned(),
            namespace: namespace.to_owned(),
            kind: refusal.kind,
            why: refusal.to_string(),
        };
        let mut recent = self.recent();
        if recent.len() >= RECENT {
            recent.pop_front();
        }
        recent.push_back(noted);
    }

    /// Counts one.
    pub(super) fn count(&self, kind: RefusalKind) {
        let at = KINDS.iter().position(|known| *known == kind);
        if let Some(count) = at.and_then(|at| self.counts.get(at)) {
            count.add(1);
        }
    }

    /// How many there were, in the order of [`KINDS`].
    pub(super) fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(Count::value)
    }

    /// The last ones.
    pub(super) fn recent(&self) -> MutexGuard<'_, VecDeque<RecentRefusal>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
