//! What one thread counts: no other one writes there, so that none waits for another.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use super::refusals::Refusals;
use super::series::{self, Namespaces, OTHER, Series};
use super::{Counts, Histogram};
use crate::observe::command::{Finished, Outcome};

/// How many series one thread may have, beside those of other namespaces: every command that
/// there is, on every namespace that is kept, would be more than anybody reads.
pub(super) const MOST_SERIES: usize = 4096;

/// The bounds of histograms, in nanoseconds.
const BOUNDS: [u64; 16] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    5_000_000_000,
    20_000_000_000,
    60_000_000_000,
];

/// A number that only one thread changes.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Adds to it. Only for the thread that it belongs to: what another one adds meanwhile
    /// would be lost.
    pub(super) fn add(&self, more: u64) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(more), Ordering::Relaxed);
    }

    /// The number.
    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often something took how long.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    /// For each of [`BOUNDS`], and beyond.
    counts: [Count; BOUNDS.len() + 1],
    nanoseconds: Count,
}

impl Buckets {
    fn note(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| nanoseconds <= *bound);
        if let Some(count) = self.counts.get(bucket.unwrap_or(BOUNDS.len())) {
            count.add(1);
        }
        self.nanoseconds.add(nanoseconds);
    }

    /// Adds them to `sum`.
    pub(super) fn add_to(&self, sum: &mut Histogram) {
        if sum.buckets.is_empty() {
            let seconds = |bound: u64| Duration::from_nanos(bound).as_secs_f64();
            sum.buckets = BOUNDS.map(|bound| (seconds(bound), 0)).to_vec();
        }
        for (at, count) in self.counts.iter().enumerate() {
            let count = count.value();
            sum.count += count;
            if let Some((_, of_bound)) = sum.buckets.get_mut(at) {
                *of_bound += count;
            }
        }
        sum.sum += Duration::from_nanos(self.nanoseconds.value()).as_secs_f64();
    }
}

/// The counts of one thread, which stay when it ends.
#[derive(Debug)]
pub(super) struct Shard {
    thread: ThreadId,
    pub(super) requests: Buckets,
    pub(super) phases: [Buckets; 5],
    pub(super) refusals: Refusals,
    series: Mutex<Vec<Arc<Series>>>,
}

impl Shard {
    fn of(thread: ThreadId) -> Self {
        Self {
            thread,
            requests: Buckets::default(),
            phases: Default::default(),
            refusals: Refusals::default(),
            series: Mutex::default(),
        }
    }

    /// All series; the thread itself waits for it only when one begins.
    pub(super) fn series(&self) -> MutexGuard<'_, Vec<Arc<Series>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// Where this thread counts.
    static DESK: RefCell<Option<Desk>> = const { RefCell::new(None) };
}

/// A thread's way to its counts.
struct Desk {
    /// Of [`Counts`].
    number: u64,
    shard: Arc<Shard>,
    /// Its series by namespace; each has few commands.
    series: HashMap<Arc<str>, Vec<Arc<Series>>>,
    /// Clients send the like again and again.
    last: Option<Arc<Series>>,
}

/// Does `what` with the counts of this thread.
fn at_desk(counts: &Counts, what: impl FnOnce(&mut Desk)) {
    // Fails only when the thread is about to end.
    let _ = DESK.try_with(|desk| {
        let mut desk = desk.borrow_mut();
        match &mut *desk {
            Some(desk) if desk.number == counts.number => what(desk),
            other => what(other.insert(Desk::of(counts))),
        }
    });
}

/// Counts a command that is over.
pub(super) fn finished(counts: &Counts, finished: &Finished<'_>) {
    at_desk(counts, |desk| {
        desk.shard.requests.note(finished.times.whole);
        for (buckets, time) in desk.shard.phases.iter().zip(finished.times.phases) {
            buckets.note(time);
        }
        let (command, namespace) = (finished.command, finished.namespace);
        desk.series(&counts.namespaces, command, namespace, finished.outcome)
            .note(finished.outcome);
    });
}

/// What is counted of refusals on this thread.
pub(super) fn with_refusals(counts: &Counts, what: impl FnOnce(&Refusals)) {
    at_desk(counts, |desk| what(&desk.shard.refusals));
}

impl Desk {
    fn of(counts: &Counts) -> Self {
        let thread = std::thread::current().id();
        let mut shards = counts.shards();
        let known = shards.iter().find(|shard| shard.thread == thread);
        let shard = known.cloned().unwrap_or_else(|| {
            let fresh = Arc::new(Shard::of(thread));
            shards.push(Arc::clone(&fresh));
            fresh
        });
        drop(shards);
        let mut series: HashMap<_, Vec<_>> = HashMap::new();
        for one in shard.series().iter() {
            let of_namespace = series.entry(Arc::clone(&one.namespace)).or_default();
            of_namespace.push(Arc::clone(one));
        }
        Self {
            number: counts.number,
            shard,
            series,
            last: None,
        }
    }

    /// Where a command is counted.
    fn series(
        &mut self,
        namespaces: &Namespaces,
        command: &str,
        namespace: &str,
        outcome: Outcome,
    ) -> &Series {
        let same = |last: &Arc<Series>| *last.command == *command && *last.namespace == *namespace;
        let last = match self.last.take().filter(same) {
            Some(last) => last,
            None => self.found(namespaces, command, namespace, outcome),
        };
        self.last.insert(last)
    }

    fn found(
        &mut self,
        namespaces: &Namespaces,
        command: &str,
        namespace: &str,
        outcome: Outcome,
    ) -> Arc<Series> {
        if let Some(series) = self.known(command, namespace) {
            return series;
        }
        // Only what is counted by its own name is found by it, so this is no detour for it.
        let mut namespace = namespaces.label_of(namespace, outcome);
        if let Some(series) = self.known(command, &namespace) {
            return series;
        }
        let command = series::label_of(command);
        if self.shard.series().len() >= MOST_SERIES {
            namespace = OTHER.into();
        }
        if let Some(series) = self.known(command, &namespace) {
            return series;
        }
        let fresh = Arc::new(Series::new(command, Arc::clone(&namespace)));
        self.shard.series().push(Arc::clone(&fresh));
        let of_namespace = self.series.entry(namespace).or_default();
        of_namespace.push(Arc::clone(&fresh));
        fresh
    }

    fn known(&self, command: &str, namespace: &str) -> Option<Arc<Series>> {
        let mut of_namespace = self.series.get(namespace)?.iter();
        of_namespace
            .find(|series| *series.command == *command)
            .cloned()
    }
}
