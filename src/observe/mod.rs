//! What is counted, timed, told and remembered of what the proxy did.

pub mod admin;
pub mod audit;
pub mod command;
pub mod metrics;
pub mod telemetry;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::command::Finished;
use self::metrics::Metrics;
use self::telemetry::Telemetry;

/// Who is told of every command; by default, nobody.
#[derive(Debug, Clone, Default)]
pub struct Observers {
    /// What is counted for the admin endpoint.
    pub metrics: Metrics,
    /// Where traces go.
    pub telemetry: Telemetry,
    /// From when on a command is slow.
    pub slow: Slow,
}

impl Observers {
    /// Whether a command has to be timed.
    pub fn is_on(&self) -> bool {
        self.metrics.is_on() || self.telemetry.is_on() || self.slow.0.is_some()
    }

    /// Tells all of them of a command that is over.
    pub fn finished(&self, finished: &Finished<'_>) {
        self.metrics.finished(finished);
        self.telemetry.finished(finished);
        if self.slow.is(finished.times.whole) {
            finished.log();
        }
    }
}

/// From when on a command is slow, which can be changed; by default, none is.
#[derive(Debug, Clone, Default)]
pub struct Slow(Option<Arc<AtomicU64>>);

impl Slow {
    /// From `least` on, if there is a bound.
    pub fn from(least: Option<Duration>) -> Self {
        let slow = Self(least.map(|_| Arc::default()));
        slow.set(least);
        slow
    }

    /// Changes it, if there was a bound before.
    pub fn set(&self, least: Option<Duration>) {
        if let (Some(bound), Some(least)) = (&self.0, least) {
            let milliseconds = u64::try_from(least.as_millis()).unwrap_or(u64::MAX);
            bound.store(milliseconds, Ordering::Relaxed);
        }
    }

    /// Whether a command that took `time` is slow.
    pub fn is(&self, time: Duration) -> bool {
        let bound = self.0.as_ref();
        bound.is_some_and(|bound| time.as_millis() >= bound.load(Ordering::Relaxed).into())
    }
}
