//! What is counted for the admin endpoint.

mod extras;
mod render;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::command::{Finished, Outcome, Phase};
pub use self::extras::{Certificate, Extras, Member};
pub use self::render::{CONTENT_TYPE, render};
use crate::refusal::RefusalKind;

/// The counts; by default, nothing is counted.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Option<Arc<Counts>>);

#[derive(Debug, Default)]
struct Counts {}

/// What was counted since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Commands, by name, namespace and outcome.
    pub commands: Vec<CommandCount>,
    /// How long they took.
    pub requests: Histogram,
    /// What that time went into, in the order of [`Phase::ALL`].
    pub phases: [Histogram; 5],
    /// Refusals, by reason.
    pub refusals: Vec<(RefusalKind, u64)>,
    /// The last refusals, the newest first.
    pub recent: Vec<RecentRefusal>,
    /// Connections that are open.
    pub connections_open: u64,
    /// Connections that there were.
    pub connections_accepted: u64,
    /// Connections that were closed at once, by what of the configuration said so.
    pub turned_away: Vec<(&'static str, u64)>,
    /// Bytes of messages under way.
    pub memory_in_flight: u64,
    /// Changed files that were taken up, and those that were not.
    pub reloads: u64,
    /// Those that were not.
    pub reloads_refused: u64,
}

/// How often a command was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandCount {
    /// Its name; `other` for what MongoDB does not have.
    pub command: String,
    /// The namespace; `other` beyond a bound.
    pub namespace: String,
    /// A word of [`Outcome::word`].
    pub outcome: &'static str,
    /// How often.
    pub count: u64,
}

/// How often something took how long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// How often at most so many seconds, for each bound; not cumulative.
    pub buckets: Vec<(f64, u64)>,
    /// How often in all.
    pub count: u64,
    /// Seconds in all.
    pub sum: f64,
}

/// A refusal, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentRefusal {
    /// When.
    pub at: SystemTime,
    /// The command.
    pub command: String,
    /// The namespace.
    pub namespace: String,
    /// The reason.
    pub kind: RefusalKind,
    /// What the log says. Holds no value.
    pub why: String,
}

impl Metrics {
    /// Counts from now on.
    pub fn on() -> Self {
        Self(Some(Arc::default()))
    }

    /// Whether anything is counted.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A command is over.
    pub fn finished(&self, _finished: &Finished<'_>) {}

    /// What was counted.
    pub fn snapshot(&self) -> Snapshot {
        let _ = (Outcome::Ok, Phase::ALL, Duration::ZERO);
        Snapshot::default()
    }
}
