//! The threads that serve connections.
//!
//! Each has an event loop of its own, and a connection stays with one of them: its request and
//! its reply meet no other thread, so nobody is woken or waited for in between.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The threads; they end when this is dropped.
pub(super) struct Workers(Vec<Worker>);

struct Worker {
    runtime: Handle,
    /// How many connections it has.
    connections: Arc<AtomicUsize>,
    /// Dropped to end it.
    _stop: oneshot::Sender<()>,
}

/// A connection's place at a worker, until it is dropped.
pub(super) struct Desk {
    connections: Arc<AtomicUsize>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts so many threads; without a number, one for each core.
    pub(super) fn start(count: Option<NonZeroUsize>) -> io::Result<Self> {
        let count = count
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get);
        (0..count)
            .map(Worker::start)
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// A place at the worker that has the fewest connections, and its event loop.
    pub(super) fn least_busy(&self) -> (Handle, Desk) {
        let worker = (self.0.iter())
            .min_by_key(|worker| worker.connections.load(Ordering::Relaxed))
            .expect("there is one at least");
        worker.connections.fetch_add(1, Ordering::Relaxed);
        let connections = Arc::clone(&worker.connections);
        (worker.runtime.clone(), Desk { connections })
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                // An error means that nobody needs it any more.
                let _ = runtime.block_on(stopped);
            })?;
        Ok(Self {
            runtime: handle,
            connections: Arc::default(),
            _stop: stop,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn connections_are_spread_and_each_stays_with_its_thread() {
        let workers = Workers::start(NonZeroUsize::new(3)).unwrap();
        let mut desks = Vec::new();
        let mut threads = std::collections::HashMap::new();
        for _ in 0..6 {
            let (worker, desk) = workers.least_busy();
            desks.push(desk);
            let thread = worker.spawn(async {
                let before = std::thread::current().id();
                tokio::task::yield_now().await;
                assert_eq!(before, std::thread::current().id());
                before
            });
            *threads.entry(thread.await.unwrap()).or_insert(0) += 1;
        }
        assert_eq!(threads.values().collect::<Vec<_>>(), [&2, &2, &2]);
        // Who leaves makes room for the next one.
        let left = desks.remove(4);
        let place = Arc::clone(&left.connections);
        drop(left);
        let (_, next) = workers.least_busy();
        assert!(Arc::ptr_eq(&place, &next.connections));
    }

    #[test]
    fn without_a_number_there_is_one_thread_for_each_core() {
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(Workers::start(None).unwrap().0.len(), cores);
    }
}
