//! The time that a command takes, and what it goes into.

use std::time::{Duration, Instant};

use crate::observe::command::{Phase, Times};

/// Times one command; reads no clock while nobody wants to know.
#[derive(Debug, Default)]
pub(super) struct Clock(Option<Running>);

#[derive(Debug)]
struct Running {
    begun: Instant,
    /// Where the phase under way began.
    mark: Instant,
    /// What that is, unless something else turns out; none: what does not count.
    next: Option<Phase>,
    phases: [Duration; 5],
}

impl Clock {
    /// One that begins now, if it is `wanted`.
    pub(super) fn start(wanted: bool) -> Self {
        Self(wanted.then(Running::now))
    }

    /// Whether it runs.
    pub(super) fn runs(&self) -> bool {
        self.0.is_some()
    }

    /// What went by since the last lap was this phase.
    pub(super) fn lap(&mut self, phase: Phase) {
        if let Some(running) = &mut self.0 {
            running.lap(phase);
        }
    }

    /// What goes by from now on does not count.
    pub(super) fn pause(&mut self) {
        if let Some(running) = &mut self.0 {
            running.next = None;
        }
    }

    /// What went by since the last lap does not count, but what MongoDB takes from now on.
    pub(super) fn skip(&mut self) {
        if let Some(running) = &mut self.0 {
            let now = Instant::now();
            running.begun += now - running.mark;
            running.mark = now;
            running.next = Some(Phase::Upstream);
        }
    }

    /// Stops it. None if it did not run; what was `cut` off counts up to now.
    pub(super) fn stop(&mut self, cut: bool) -> Option<Times> {
        let mut running = self.0.take()?;
        if let Some(phase) = running.next.filter(|_| cut) {
            running.lap(phase);
        }
        Some(Times {
            whole: running.mark - running.begun,
            phases: running.phases,
        })
    }
}

impl Running {
    fn now() -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            mark: now,
            next: Some(Phase::Client),
            phases: [Duration::ZERO; 5],
        }
    }

    fn lap(&mut self, phase: Phase) {
        let now = Instant::now();
        if let Some(sum) = self.phases.get_mut(phase as usize) {
            *sum += now - self.mark;
        }
        self.mark = now;
        self.next = Some(match phase {
            Phase::Client => Phase::Policy,
            Phase::Policy => Phase::Seal,
            Phase::Seal => Phase::Upstream,
            Phase::Upstream => Phase::Open,
            Phase::Open => Phase::Client,
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_phases_add_up_to_the_whole_without_what_was_skipped() {
        let mut clock = Clock::start(true);
        let pause = Duration::from_millis(2);
        for phase in Phase::ALL {
            std::thread::sleep(pause);
            clock.lap(phase);
            std::thread::sleep(10 * pause);
            clock.skip();
        }
        clock.lap(Phase::Open);
        let times = clock.stop(false).unwrap();
        assert_eq!(times.phases.iter().sum::<Duration>(), times.whole);
        assert!(times.phases.iter().all(|phase| *phase >= pause));
        assert!(!clock.runs() && clock.stop(true).is_none());
    }

    #[test]
    fn what_is_cut_off_while_mongodb_works_counts_for_mongodb() {
        let pause = Duration::from_millis(2);
        let mut clock = Clock::start(true);
        clock.lap(Phase::Seal);
        std::thread::sleep(pause);
        let times = clock.stop(true).unwrap();
        assert!(times.phases[Phase::Upstream as usize] >= pause);
        assert_eq!(times.phases.iter().sum::<Duration>(), times.whole);
        // Who goes while nothing is to be said has waited for nobody.
        let mut clock = Clock::start(true);
        clock.pause();
        std::thread::sleep(pause);
        assert_eq!(clock.stop(true).unwrap().whole, Duration::ZERO);
    }

    #[test]
    fn one_that_nobody_wants_shows_nothing() {
        let mut clock = Clock::start(false);
        clock.lap(Phase::Seal);
        clock.skip();
        assert_eq!(clock.stop(true), None);
    }

    #[test]
    fn a_phase_is_noted_at_its_place_in_the_order_of_all() {
        for (at, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, at);
        }
    }
}
