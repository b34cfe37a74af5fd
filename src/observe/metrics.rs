//! What is counted for the admin endpoint.

mod extras;
mod flow;
mod refusals;
mod render;
mod series;
mod shard;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

pub use self::extras::{Certificate, Extras, Member};
pub use self::flow::{Flow, Open, UnderWay};
pub use self::refusals::reason;
use self::refusals::{KINDS, RECENT};
pub use self::render::{CONTENT_TYPE, render};
pub use self::series::OTHER;
use self::series::{Namespaces, OUTCOMES};
use self::shard::Shard;
use super::command::Finished;
use crate::refusal::{Refusal, RefusalKind};

/// Tells the counts of this process apart; there is more than one only in tests.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The counts; by default, nothing is counted.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Option<Arc<Counts>>);

#[derive(Debug)]
struct Counts {
    number: u64,
    /// Of each thread that ever counted. Locked when one begins to, and to look at them.
    shards: Mutex<Vec<Arc<Shard>>>,
    namespaces: Namespaces,
    /// Of the proxy, once it is there.
    flow: OnceLock<Arc<Flow>>,
    reloads: AtomicU64,
    reloads_refused: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            shards: Mutex::default(),
            namespaces: Namespaces::default(),
            flow: OnceLock::new(),
            reloads: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
        }
    }
}

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
    pub fn finished(&self, finished: &Finished<'_>) {
        if let Some(counts) = &self.0 {
            shard::finished(counts, finished);
        }
    }

    /// A command, or one of its statements, is refused.
    pub fn refused(&self, command: &str, namespace: &str, refusal: &Refusal) {
        if let Some(counts) = &self.0 {
            shard::with_refusals(counts, |refusals| {
                refusals.note(command, namespace, refusal);
            });
        }
    }

    /// The same of a statement beside many, which is counted only.
    pub fn refused_too(&self, kind: RefusalKind) {
        if let Some(counts) = &self.0 {
            shard::with_refusals(counts, |refusals| refusals.count(kind));
        }
    }

    /// Changed files were taken up, or not.
    pub fn reloaded(&self, taken_up: bool) {
        if let Some(counts) = &self.0 {
            let count = match taken_up {
                true => &counts.reloads,
                false => &counts.reloads_refused,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells of the connections and messages that `flow` counts, from now on.
    pub fn watch(&self, flow: Arc<Flow>) {
        if let Some(counts) = &self.0 {
            // Fails only if there is one, which then stays.
            let _ = counts.flow.set(flow);
        }
    }

    /// What was counted.
    pub fn snapshot(&self) -> Snapshot {
        self.0.as_deref().map(Counts::snapshot).unwrap_or_default()
    }
}

impl Counts {
    fn shards(&self) -> MutexGuard<'_, Vec<Arc<Shard>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> Snapshot {
        let shards = self.shards().clone();
        let mut snapshot = Snapshot {
            reloads: self.reloads.load(Ordering::Relaxed),
            reloads_refused: self.reloads_refused.load(Ordering::Relaxed),
            ..Snapshot::default()
        };
        let mut commands: BTreeMap<_, [u64; OUTCOMES.len()]> = BTreeMap::new();
        let mut refusals = KINDS.map(|kind| (kind, 0));
        for shard in &shards {
            shard.requests.add_to(&mut snapshot.requests);
            for (phase, sum) in shard.phases.iter().zip(&mut snapshot.phases) {
                phase.add_to(sum);
            }
            for series in shard.series().iter() {
                let name = (series.command.clone(), Arc::clone(&series.namespace));
                let sums = commands.entry(name).or_default();
                for (sum, count) in sums.iter_mut().zip(&series.outcomes) {
                    *sum += count.value();
                }
            }
            for ((_, sum), count) in refusals.iter_mut().zip(shard.refusals.counts()) {
                *sum += count;
            }
            let recent = &mut snapshot.recent;
            recent.extend(shard.refusals.recent().iter().cloned());
        }
        snapshot.refusals = refusals.to_vec();
        snapshot.recent.sort_by_key(|refusal| Reverse(refusal.at));
        snapshot.recent.truncate(RECENT);
        for ((command, namespace), counts) in commands {
            let counts = OUTCOMES.into_iter().zip(counts);
            let counts = counts.filter(|(_, count)| *count > 0);
            snapshot
                .commands
                .extend(counts.map(|(outcome, count)| CommandCount {
                    command: command.to_string(),
                    namespace: namespace.to_string(),
                    outcome,
                    count,
                }));
        }
        if let Some(flow) = self.flow.get() {
            snapshot.connections_open = flow.connections_open();
            snapshot.connections_accepted = flow.connections_accepted();
            snapshot.turned_away = flow.all_turned_away();
            snapshot.memory_in_flight = flow.bytes();
        }
        snapshot
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::*;
    use crate::observe::command::{Outcome, Times};

    fn finish(metrics: &Metrics, command: &str, namespace: &str, outcome: Outcome) {
        metrics.finished(&Finished {
            connection: 1,
            request: 1,
            command,
            namespace,
            outcome,
            began: SystemTime::now(),
            times: Times {
                whole: Duration::from_millis(15),
                phases: [1, 2, 3, 4, 5].map(Duration::from_millis),
            },
            request_bytes: 0,
            reply_bytes: 0,
            parent: None,
        });
    }

    fn listed(metrics: &Metrics) -> Vec<String> {
        let line = |row: CommandCount| {
            let CommandCount {
                command,
                namespace,
                outcome,
                count,
            } = row;
            format!("{command} {namespace} {outcome} {count}")
        };
        metrics.snapshot().commands.into_iter().map(line).collect()
    }

    #[test]
    fn what_all_threads_counted_is_summed_and_stays_when_they_end() {
        let metrics = Metrics::on();
        finish(&metrics, "find", "a.b", Outcome::Ok);
        let threads = (0..4).map(|_| {
            let metrics = metrics.clone();
            std::thread::spawn(move || {
                for _ in 0..1000 {
                    finish(&metrics, "find", "a.b", Outcome::Ok);
                    finish(&metrics, "find", "a.b", Outcome::Error(11000));
                    finish(&metrics, "insert", "a.b", Outcome::Refused(13));
                    finish(&metrics, "insert", "a.c", Outcome::Sent);
                }
            })
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        let expected = [
            "find a.b ok 4001",
            "find a.b error 4000",
            "insert a.b refused 4000",
            "insert a.c sent 4000",
        ];
        assert_eq!(listed(&metrics), expected);
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.requests.count, 16_001);
        assert!((snapshot.requests.sum - 16_001.0 * 0.015).abs() < 1e-6);
        for (phase, milliseconds) in snapshot.phases.iter().zip([1.0, 2.0, 3.0, 4.0, 5.0]) {
            assert_eq!(phase.count, 16_001);
            assert!((phase.sum - 16_001.0 * milliseconds / 1000.0).abs() < 1e-6);
        }
    }

    #[test]
    fn counts_of_another_proxy_are_kept_apart() {
        let (one, other) = (Metrics::on(), Metrics::on());
        for _ in 0..3 {
            finish(&one, "find", "a.b", Outcome::Ok);
            finish(&other, "count", "a.b", Outcome::Ok);
        }
        assert_eq!(listed(&one), ["find a.b ok 3"]);
        assert_eq!(listed(&other), ["count a.b ok 3"]);
        assert_eq!(one.0.as_ref().unwrap().shards().len(), 1);
    }

    #[test]
    fn whatever_clients_send_the_series_stay_within_their_bound() {
        let metrics = Metrics::on();
        for namespace in 0..20 {
            for command in 0..1000 {
                let outcome = Outcome::Refused(59);
                finish(
                    &metrics,
                    &format!("c{command}"),
                    &format!("d.{namespace}"),
                    outcome,
                );
            }
        }
        let commands = metrics.snapshot().commands;
        assert_eq!(commands.len(), 20);
        assert!(
            commands
                .iter()
                .all(|row| row.command == OTHER && row.count == 1000)
        );
        for command in [
            "find", "insert", "update", "delete", "count", "distinct", "getMore", "drop", "create",
        ] {
            for namespace in 0..2000 {
                finish(&metrics, command, &format!("e.{namespace}"), Outcome::Ok);
            }
        }
        let commands = metrics.snapshot().commands;
        assert!(
            commands.len() <= shard::MOST_SERIES + 9,
            "{}",
            commands.len()
        );
        assert_eq!(
            commands.iter().map(|row| row.count).sum::<u64>(),
            20_000 + 18_000
        );
        let other = commands
            .iter()
            .find(|row| row.command == "drop" && row.namespace == OTHER);
        assert!(other.unwrap().count >= 2000 - 512);
    }

    #[test]
    fn the_last_refusals_are_kept_as_the_log_has_them() {
        let metrics = Metrics::on();
        let told = Refusal::new(RefusalKind::WrongType, "`name.canary` is no string");
        let logged = Refusal::new(RefusalKind::WrongType, "`name` is no string");
        let refusal = told.logged_as(logged);
        for number in 0..150 {
            metrics.refused("insert", &format!("a.b{number}"), &refusal);
        }
        let other = metrics.clone();
        let late = std::thread::spawn(move || other.refused("find", "late", &refusal));
        late.join().unwrap();
        metrics.refused_too(RefusalKind::TooLarge);
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.recent.len(), RECENT);
        assert_eq!(snapshot.recent[0].namespace, "late");
        assert_eq!(snapshot.recent[1].namespace, "a.b149");
        let why = "fieldseal: `name` is no string [";
        let as_logged = |refusal: &RecentRefusal| refusal.why.starts_with(why);
        assert!(snapshot.recent.iter().all(as_logged));
        for (kind, count) in snapshot.refusals {
            let expected = match kind {
                RefusalKind::WrongType => 151,
                RefusalKind::TooLarge => 1,
                _ => 0,
            };
            assert_eq!(count, expected, "{kind:?}");
        }
    }

    #[test]
    fn nothing_is_counted_unless_it_is_wanted() {
        let metrics = Metrics::default();
        finish(&metrics, "find", "a.b", Outcome::Ok);
        metrics.reloaded(true);
        metrics.refused_too(RefusalKind::TooLarge);
        assert_eq!(metrics.snapshot(), Snapshot::default());
    }
}
