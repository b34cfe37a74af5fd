//! How many commands in a time.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use crate::config::Rate;

/// The longest that a command waits for its turn.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How often those are forgotten who have rested since.
const FORGET: Duration = Duration::from_secs(10);

type Keyed = RateLimiter<
    Arc<str>,
    DefaultKeyedStateStore<Arc<str>>,
    DefaultClock,
    StateInformationMiddleware,
>;

type Direct = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// When a command may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Turn {
    /// Now.
    Now,
    /// After this time, which is kept for it.
    After(Duration),
    /// Too many wait already. Not before this time is there a place for one more.
    NotBefore(Duration),
}

/// How often each principal sends commands.
#[derive(Debug, Default)]
pub(super) struct Rates(ArcSwapOption<Shared>);

#[derive(Debug)]
struct Shared {
    rate: Rate,
    limiter: Keyed,
    forgot: Mutex<Instant>,
}

impl Rates {
    /// The turn of the next command of `name`.
    pub(super) fn turn(&self, rate: Rate, name: &Arc<str>) -> Turn {
        let shared = self.of(rate);
        shared.forget();
        turn(rate, shared.limiter.check_key(name))
    }

    /// The counts for this rate. With another rate than before they begin anew.
    fn of(&self, rate: Rate) -> Arc<Shared> {
        if let Some(shared) = self.0.load_full()
            && shared.rate == rate
        {
            return shared;
        }
        let fresh = Arc::new(Shared {
            rate,
            limiter: RateLimiter::keyed(quota(rate)).with_middleware(),
            forgot: Mutex::new(Instant::now()),
        });
        let before = self.0.rcu(|current| match current {
            Some(current) if current.rate == rate => Some(Arc::clone(current)),
            _ => Some(Arc::clone(&fresh)),
        });
        match before {
            Some(before) if before.rate == rate => before,
            _ => fresh,
        }
    }
}

impl Shared {
    /// Forgets, now and then, those who could have their whole burst again: so what is kept
    /// is no more than who has sent a command of late.
    fn forget(&self) {
        let mut forgot = self.forgot.lock().unwrap_or_else(PoisonError::into_inner);
        if forgot.elapsed() >= FORGET {
            *forgot = Instant::now();
            drop(forgot);
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
    }
}

/// How often one connection sends what every connection has to.
#[derive(Debug, Default)]
pub(super) struct Own(Option<(Rate, Box<Direct>)>);

impl Own {
    /// The turn of the next such command.
    pub(super) fn turn(&mut self, rate: Rate) -> Turn {
        let (of, limiter) = self.0.get_or_insert_with(|| (rate, own(rate)));
        if *of != rate {
            (*of, *limiter) = (rate, own(rate));
        }
        turn(rate, limiter.check())
    }
}

fn own(rate: Rate) -> Box<Direct> {
    Box::new(RateLimiter::direct(quota(rate)).with_middleware())
}

/// How many may wait: those whose turn comes within the longest wait.
fn waiting(rate: Rate) -> NonZeroU32 {
    // As long as the longest wait is one second.
    rate.per_second
}

/// The burst with those who may wait behind it: each takes its place now, and goes on
/// when it would have been its turn in the burst alone. So turns come in order.
fn quota(rate: Rate) -> Quota {
    Quota::per_second(rate.per_second).allow_burst(rate.burst.saturating_add(waiting(rate).get()))
}

fn turn(
    rate: Rate,
    checked: Result<StateSnapshot, NotUntil<<DefaultClock as governor::clock::Clock>::Instant>>,
) -> Turn {
    match checked {
        Ok(state) => {
            let behind = waiting(rate)
                .get()
                .saturating_sub(state.remaining_burst_capacity());
            if behind == 0 {
                Turn::Now
            } else {
                let wait = Duration::from_secs(behind.into()) / rate.per_second.get();
                Turn::After(wait.min(LONGEST_WAIT))
            }
        }
        Err(not_until) => Turn::NotBefore(not_until.wait_time_from(DefaultClock::default().now())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    fn kinds(turns: &[Turn]) -> [usize; 3] {
        let count = |of: fn(&Turn) -> bool| turns.iter().filter(|turn| of(turn)).count();
        [
            count(|turn| matches!(turn, Turn::Now)),
            count(|turn| matches!(turn, Turn::After(_))),
            count(|turn| matches!(turn, Turn::NotBefore(_))),
        ]
    }

    #[test]
    fn a_burst_goes_at_once_then_a_seconds_worth_waits_in_order_and_the_rest_is_refused() {
        // One in a second, so that none comes due in the midst of the test.
        let slow = rate(1, 5);
        let rates = Rates::default();
        let turns: Vec<Turn> = (0..10).map(|_| rates.turn(slow, &"ann".into())).collect();
        assert_eq!(kinds(&turns), [5, 1, 4], "{turns:?}");
        assert_eq!(turns[5], Turn::After(Duration::from_secs(1)));
        // Nobody else is held up.
        assert_eq!(rates.turn(slow, &"bob".into()), Turn::Now);
    }

    #[test]
    fn those_who_wait_go_on_one_after_the_other() {
        let rates = Rates::default();
        let turns: Vec<Turn> = (0..6)
            .map(|_| rates.turn(rate(4, 2), &"ann".into()))
            .collect();
        let waits: Vec<Duration> = turns
            .iter()
            .filter_map(|turn| match turn {
                Turn::After(wait) => Some(*wait),
                _ => None,
            })
            .collect();
        assert!(waits.len() >= 3, "{turns:?}");
        assert!(waits.is_sorted(), "{turns:?}");
        assert!(waits.iter().all(|wait| *wait <= LONGEST_WAIT), "{turns:?}");
    }

    #[test]
    fn another_rate_holds_at_once() {
        let (rates, ann) = (Rates::default(), "ann".into());
        let mut own = Own::default();
        for _ in 0..2 {
            rates.turn(rate(1, 1), &ann);
            own.turn(rate(1, 1));
        }
        assert!(matches!(rates.turn(rate(1, 1), &ann), Turn::NotBefore(_)));
        assert!(matches!(own.turn(rate(1, 1)), Turn::NotBefore(_)));
        assert_eq!(rates.turn(rate(1, 2), &ann), Turn::Now);
        assert_eq!(own.turn(rate(1, 2)), Turn::Now);
    }

    #[test]
    fn those_who_have_rested_are_forgotten() {
        let rates = Rates::default();
        let fast = rate(1_000_000, 1);
        for number in 0..1000 {
            rates.turn(fast, &format!("user{number}").into());
        }
        let shared = rates.of(fast);
        *shared.forgot.lock().unwrap() = Instant::now() - FORGET;
        std::thread::sleep(Duration::from_millis(5));
        rates.turn(fast, &"ann".into());
        assert!(shared.limiter.len() <= 2, "{}", shared.limiter.len());
    }
}
