//! Connections and long messages, counted where they are let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What of the configuration closes connections before anything is said over them.
const LIMITS: [&str; 3] = [
    "access.allow",
    "limits.connections",
    "limits.connections_per_ip",
];

/// How many connections there are and were, and what their long messages take.
#[derive(Debug, Default)]
pub struct Flow {
    open: AtomicU64,
    accepted: AtomicU64,
    turned_away: [AtomicU64; LIMITS.len()],
    bytes: AtomicU64,
}

/// A connection, until it is dropped.
#[derive(Debug)]
pub struct Open(Arc<Flow>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message under way, until it is dropped.
#[derive(Debug)]
pub struct UnderWay {
    flow: Arc<Flow>,
    bytes: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.flow.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Flow {
    /// A connection begins.
    pub fn opened(self: &Arc<Self>) -> Open {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    /// A connection was closed at once because `limit` of the configuration says so.
    pub fn turned_away(&self, limit: &str) {
        let found = LIMITS.iter().position(|known| *known == limit);
        if let Some(count) = found.and_then(|at| self.turned_away.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A message takes so many bytes, with all that is made of it.
    pub fn takes(self: &Arc<Self>, bytes: usize) -> UnderWay {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        UnderWay {
            flow: Arc::clone(self),
            bytes,
        }
    }

    /// Connections that are open.
    pub fn connections_open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that there were.
    pub fn connections_accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that were closed at once, by what of the configuration said so.
    pub fn all_turned_away(&self) -> Vec<(&'static str, u64)> {
        let counts = self.turned_away.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        LIMITS.into_iter().zip(counts).collect()
    }

    /// What long messages take now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_not_counted_as_open() {
        let flow: Arc<Flow> = Arc::default();
        let first = flow.opened();
        let (second, message) = (flow.opened(), flow.takes(100));
        let other = flow.takes(7);
        assert_eq!((flow.connections_open(), flow.bytes()), (2, 107));
        drop((first, message));
        assert_eq!((flow.connections_open(), flow.bytes()), (1, 7));
        drop((second, other));
        assert_eq!((flow.connections_open(), flow.bytes()), (0, 0));
        assert_eq!(flow.connections_accepted(), 2);
    }

    #[test]
    fn who_is_turned_away_is_counted_by_the_limit() {
        let flow = Flow::default();
        flow.turned_away("limits.connections");
        flow.turned_away("something else");
        let expected = [
            ("access.allow", 0),
            ("limits.connections", 1),
            ("limits.connections_per_ip", 0),
        ];
        assert_eq!(flow.all_turned_away(), expected);
    }
}
