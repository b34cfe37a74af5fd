//! How much memory messages may take, all together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::observe::metrics::UnderWay;

/// A message up to this length needs no room: each connection may have some of them anyway.
pub(in crate::proxy) const FREE: usize = 64 * 1024;

/// What room is counted in, in bytes.
const UNIT: usize = 1024;

/// How many addresses are kept before those that hold nothing are forgotten.
const ADDRESSES: usize = 1024;

/// The room that there is.
#[derive(Debug, Default)]
pub(super) struct Memory(ArcSwapOption<Budget>);

#[derive(Debug)]
struct Budget {
    bytes: usize,
    room: Arc<Semaphore>,
    /// What those of each address may take of it: half, so that no address keeps all from others.
    shares: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        Self {
            bytes,
            room: semaphore(units(bytes)),
            shares: Mutex::default(),
        }
    }

    fn half(&self) -> usize {
        units(self.bytes).div_ceil(2)
    }

    fn share(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&address).and_then(Weak::upgrade) {
            return share;
        }
        if shares.len() >= ADDRESSES {
            shares.retain(|_, share| share.strong_count() > 0);
        }
        let share = semaphore(self.half());
        shares.insert(address, Arc::downgrade(&share));
        share
    }
}

fn semaphore(units: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)))
}

/// Waits for so many units. Fails only if it was closed, which nobody does.
async fn take(from: Arc<Semaphore>, units: usize) -> Option<OwnedSemaphorePermit> {
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    from.acquire_many_owned(units).await.ok()
}

/// Room that is taken, until it is dropped.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Held {
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for its drop"))]
    permit: Option<OwnedSemaphorePermit>,
    _of_share: Option<OwnedSemaphorePermit>,
    _counted: Option<UnderWay>,
}

impl Held {
    /// The same, for a message that is counted.
    pub(super) fn counted(self, message: UnderWay) -> Self {
        Self {
            _counted: Some(message),
            ..self
        }
    }

    /// Whether no room is taken.
    #[cfg(test)]
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        self.permit.is_none()
    }
}

impl Memory {
    /// Waits for room for `bytes` of `size` in all, for someone at this address; none is for
    /// those of this machine. Who asks first gets first, at each address and among them. A
    /// message that needs more than there is takes all, and is then the only one.
    pub(super) async fn reserve(&self, size: usize, bytes: usize, address: Option<IpAddr>) -> Held {
        let budget = self.of(size);
        let wanted = units(bytes);
        // Who holds room waits for nothing more, so nobody waits for this one.
        let of_share = match address {
            Some(address) => take(budget.share(address), wanted.min(budget.half())).await,
            None => None,
        };
        Held {
            permit: take(Arc::clone(&budget.room), wanted.min(units(size))).await,
            _of_share: of_share,
            _counted: None,
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
        let fresh = Arc::new(Budget::new(size));
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
            held = memory.reserve(size, bytes, None) => Some(held),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_until_there_is() {
        let memory = Arc::new(Memory::default());
        let first = memory.reserve(4 * MIB, 3 * MIB, None).await;
        assert!(fits(&memory, 4 * MIB, MIB).await.is_some());
        assert!(fits(&memory, 4 * MIB, 2 * MIB).await.is_none());
        let waiting = tokio::spawn({
            let memory = Arc::clone(&memory);
            async move { memory.reserve(4 * MIB, 2 * MIB, None).await }
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
        let small = memory.reserve(MIB, 1, None).await;
        assert!(fits(&memory, MIB, usize::MAX).await.is_none());
        drop(small);
        let large = fits(&memory, MIB, usize::MAX).await;
        assert!(large.is_some());
        assert!(fits(&memory, MIB, 1).await.is_none());
    }

    #[tokio::test]
    async fn another_size_holds_at_once() {
        let memory = Memory::default();
        let _all = memory.reserve(MIB, MIB, None).await;
        assert!(fits(&memory, MIB, 1).await.is_none());
        assert!(fits(&memory, 2 * MIB, 2 * MIB).await.is_some());
    }

    #[tokio::test]
    async fn an_address_takes_half_of_the_room_and_leaves_the_rest_to_others() {
        let memory = Memory::default();
        let at = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        let now = async |bytes, address| {
            tokio::select! {
                biased;
                held = memory.reserve(4 * MIB, bytes, address) => Some(held),
                () = std::future::ready(()) => None,
            }
        };
        let first = now(2 * MIB, at(1)).await;
        assert!(first.is_some());
        assert!(now(MIB, at(1)).await.is_none());
        let other = now(MIB, at(2)).await;
        assert!(other.is_some());
        assert!(now(MIB, None).await.is_some());
        drop(first);
        // One message may be larger than the half.
        drop(other);
        assert!(now(3 * MIB, at(1)).await.is_some());
    }
}
