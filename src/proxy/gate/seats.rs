//! How many there are of each, and no more than may be.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts by key; a key that nobody has is not kept.
#[derive(Debug)]
pub(super) struct Seats<K>(Mutex<HashMap<K, usize>>);

impl<K> Default for Seats<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// One that is counted, until it is dropped.
pub(super) struct Seat<K: Eq + Hash> {
    seats: Arc<Seats<K>>,
    key: K,
}

impl<K: Eq + Hash> fmt::Debug for Seat<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seat")
    }
}

impl<K: Eq + Hash + Clone> Seats<K> {
    /// One more, if there are fewer than `most`.
    pub(super) fn take(self: &Arc<Self>, key: K, most: Option<usize>) -> Option<Seat<K>> {
        let mut counts = self.counts();
        let count = counts.get(&key).copied().unwrap_or(0);
        if most.is_some_and(|most| count >= most) {
            return None;
        }
        counts.insert(key.clone(), count + 1);
        drop(counts);
        Some(Seat {
            seats: Arc::clone(self),
            key,
        })
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self, key: &K) -> usize {
        self.counts().get(key).copied().unwrap_or(0)
    }
}

impl<K> Seats<K> {
    fn counts(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut counts = self.seats.counts();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn nothing_is_kept_of_those_who_have_gone() {
        let seats: Arc<Seats<u8>> = Arc::default();
        let taken: Vec<_> = (0..100)
            .map(|key| seats.take(key, Some(1)).unwrap())
            .collect();
        assert!(seats.take(7, Some(1)).is_none());
        assert!(seats.take(7, None).is_some());
        assert_eq!(seats.counts().len(), 100);
        drop(taken);
        assert!(seats.counts().is_empty());
    }
}
