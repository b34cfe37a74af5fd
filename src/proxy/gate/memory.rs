//! How much memory messages may take, all together.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A message up to this length needs no room: each connection may have some of them anyway.
pub(in crate::proxy) const FREE: usize = 64 * 1024;

/// What room is counted in, in bytes.
const UNIT: usize = 1024;

/// The room that there is.
#[derive(Debug, Default)]
pub(super) struct Memory(ArcSwapOption<Budget>);

#[derive(Debug)]
struct Budget {
    bytes: usize,
    room: Arc<Semaphore>,
}

/// Room that is taken, until it is dropped.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Held {
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for its drop"))]
    permit: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// Whether no room is taken.
    #[cfg(test)]
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        self.permit.is_none()
    }
}

impl Memory {
    /// Waits for room for `bytes` of `size` in all. Who asks first gets first. A message
    /// that needs more than there is takes all, and is then the only one.
    pub(super) async fn reserve(&self, size: usize, bytes: usize) -> Held {
        let units = units(bytes).min(units(size));
        let room = Arc::clone(&self.of(size).room);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        // Fails only if it was closed, which nobody does.
        Held {
            permit: room.acquire_many_owned(units).await.ok(),
        }
    }

    /// The budget of this size. With another size than before another one begins; what is
    /// taken of the old one is given back to that, a message's time later.
    fn of(&self, size: usize) -> Arc<Budget> {
        if let Some(budget) = self.0.load_full()
            && budget.bytes == size
        {
            return budget;
        }
        let fresh = Arc::new(Budget {
            bytes: size,
            room: Arc::new(Semaphore::new(units(size).min(Semaphore::MAX_PERMITS))),
        });
        let before = self.0.rcu(|current| match current {
            Some(current) if current.bytes == size => Some(Arc::clone(current)),
            _ => Some(Arc::clone(&fresh)),
        });
        match before {
            Some(before) if before.bytes == size => before,
            _ => fresh,
        }
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Whether there is room for it now.
    async fn fits(memory: &Memory, size: usize, bytes: usize) -> Option<Held> {
        tokio::select! {
            biased;
            held = memory.reserve(size, bytes) => Some(held),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_until_there_is() {
        let memory = Arc::new(Memory::default());
        let first = memory.reserve(4 * MIB, 3 * MIB).await;
        assert!(fits(&memory, 4 * MIB, MIB).await.is_some());
        assert!(fits(&memory, 4 * MIB, 2 * MIB).await.is_none());
        let waiting = tokio::spawn({
            let memory = Arc::clone(&memory);
            async move { memory.reserve(4 * MIB, 2 * MIB).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert!(waiting.await.is_ok_and(|held| !held.is_empty()));
        assert!(fits(&memory, 4 * MIB, 4 * MIB).await.is_some());
    }

    #[tokio::test]
    async fn a_message_larger_than_all_the_room_gets_through_alone() {
        let memory = Memory::default();
        let small = memory.reserve(MIB, 1).await;
        assert!(fits(&memory, MIB, usize::MAX).await.is_none());
        drop(small);
        let large = fits(&memory, MIB, usize::MAX).await;
        assert!(large.is_some());
        assert!(fits(&memory, MIB, 1).await.is_none());
    }

    #[tokio::test]
    async fn another_size_holds_at_once() {
        let memory = Memory::default();
        let _all = memory.reserve(MIB, MIB).await;
        assert!(fits(&memory, MIB, 1).await.is_none());
        assert!(fits(&memory, 2 * MIB, 2 * MIB).await.is_some());
    }
}
