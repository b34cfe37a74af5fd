//! So many documents a second, and no more.

use std::time::{Duration, Instant};

/// Holds a job back.
#[derive(Debug)]
pub(super) struct Pace {
    /// Documents a second; none means no bound.
    rate: Option<u32>,
    began: Instant,
    seen: u64,
}

impl Pace {
    pub(super) fn new(rate: Option<u32>) -> Self {
        Self {
            rate,
            began: Instant::now(),
            seen: 0,
        }
    }

    /// How many documents may be taken at once, of at most `most`: a quarter second's.
    pub(super) fn step(&self, most: usize) -> usize {
        let quarter = self
            .rate
            .map(|rate| usize::try_from(rate / 4).unwrap_or(most));
        quarter.map_or(most, |quarter| quarter.clamp(1, most))
    }

    /// Notes documents that were seen, and says how long to rest after them.
    pub(super) fn rest_after(&mut self, documents: u64) -> Duration {
        self.seen += documents;
        let Some(rate) = self.rate else {
            return Duration::ZERO;
        };
        let millis = self.seen.saturating_mul(1000) / u64::from(rate.max(1));
        Duration::from_millis(millis).saturating_sub(self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_held_in_small_steps() {
        let mut pace = Pace::new(Some(1000));
        assert_eq!(pace.step(500), 250);
        assert!(pace.rest_after(10_000) > Duration::from_secs(5));
        assert_eq!(Pace::new(Some(1)).step(500), 1);
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut pace = Pace::new(None);
        assert_eq!(pace.step(500), 500);
        assert_eq!(pace.rest_after(1_000_000), Duration::ZERO);
    }
}
