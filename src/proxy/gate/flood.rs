//! Log lines about clients that were turned away, which come in floods.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::TurnedAway;
use crate::code::{Code, Coded};

/// The time that one line stands for.
const WINDOW: Duration = Duration::from_secs(1);

fn coded(why: TurnedAway) -> Coded<TurnedAway> {
    Coded(why, Code::ClientNotAdmitted)
}

/// Logs the first client that is turned away for a reason at once, and those that follow
/// within a second by their number.
#[derive(Debug, Default)]
pub(super) struct Flood {
    /// How many followed, for each reason that was logged less than a second ago.
    followed: Mutex<[Option<u64>; TurnedAway::ALL.len()]>,
}

impl Flood {
    /// Logs one, or counts it.
    pub(super) fn tell(self: &Arc<Self>, client: impl FnOnce() -> String, why: TurnedAway) {
        if self.note(why) {
            tracing::warn!(client = %client(), "a connection was closed: {}", coded(why));
            tokio::spawn(Arc::clone(self).follow(why));
        }
    }

    /// Whether it is to be logged by itself.
    fn note(&self, why: TurnedAway) -> bool {
        let mut followed = self.followed();
        match &mut followed[place(why)] {
            Some(count) => {
                *count += 1;
                false
            }
            first => {
                *first = Some(0);
                true
            }
        }
    }

    /// Logs how many follow, until none does.
    async fn follow(self: Arc<Self>, why: TurnedAway) {
        loop {
            sleep(WINDOW).await;
            let Some(connections) = self.turn(why) else {
                return;
            };
            tracing::warn!(connections, "connections were closed: {}", coded(why));
        }
    }

    /// How many followed since the last line; none ends the flood.
    fn turn(&self, why: TurnedAway) -> Option<u64> {
        let mut followed = self.followed();
        let count = &mut followed[place(why)];
        let so_far = count.take().filter(|count| *count > 0)?;
        *count = Some(0);
        Some(so_far)
    }

    fn followed(&self) -> MutexGuard<'_, [Option<u64>; TurnedAway::ALL.len()]> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(why: TurnedAway) -> usize {
    match why {
        TurnedAway::Address => 0,
        TurnedAway::Connections => 1,
        TurnedAway::ConnectionsOfAddress => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_by_its_number_and_each_reason_for_itself() {
        let flood = Flood::default();
        assert!(flood.note(TurnedAway::Address));
        for _ in 0..2000 {
            assert!(!flood.note(TurnedAway::Address));
        }
        assert!(flood.note(TurnedAway::Connections));
        assert_eq!(flood.turn(TurnedAway::Address), Some(2000));
        // It goes on for as long as there is something to tell.
        assert!(!flood.note(TurnedAway::Address));
        assert_eq!(flood.turn(TurnedAway::Address), Some(1));
        assert_eq!(flood.turn(TurnedAway::Address), None);
        assert!(flood.note(TurnedAway::Address));
        assert_eq!(flood.turn(TurnedAway::Connections), None);
    }

    #[test]
    fn each_reason_has_a_place_of_its_own() {
        let places = TurnedAway::ALL.map(place);
        assert_eq!(places, [0, 1, 2]);
    }
}
