//! The threads that serve connections.
//!
//! Each has an event loop of its own, and a connection stays with one of them: its request and
//! its reply meet no other thread, so nobody is woken or waited for in between. But for what
//! is long: to inflate, seal or open many megabytes takes a good part of a second, in which no
//! other connection of that thread would be served. That goes to threads of its own.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// What is done with a message from this length on is done aside. It is a millisecond's work
/// or more, against which the way there and back does not count.
pub(super) const LONG: usize = 256 * 1024;

/// The threads; they end when this is dropped.
pub(super) struct Workers {
    each: Vec<Worker>,
    /// Taken when this is dropped.
    aside: Option<Runtime>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(aside) = self.aside.take() {
            aside.shutdown_background();
        }
    }
}

struct Worker {
    runtime: Handle,
    /// How many connections it has.
    connections: Arc<AtomicUsize>,
    /// Dropped to end it; closed if it has ended by itself.
    stop: oneshot::Sender<()>,
}

/// Where long work is done, so that no connection waits for another one's; by default where
/// it is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Aside(Option<Handle>);

impl Aside {
    /// Does `work` to its end, or gives it up when the future is dropped. None if the proxy
    /// ends meanwhile.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let Some(threads) = &self.0 else {
            return Some(work.await);
        };
        // Unlike a task by itself, it does not go on when nobody waits for it any more.
        let mut task = JoinSet::new();
        task.spawn_on(work, threads);
        match task.join_next().await? {
            Ok(done) => Some(done),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => None,
            },
        }
    }
}

/// Tells whether the threads do what they are given.
#[derive(Debug, Clone)]
pub struct Pulse(Vec<Handle>);

impl Pulse {
    /// Done when each thread has done something: one that is stuck, or has ended, never does.
    pub async fn beat(&self) {
        for worker in &self.0 {
            if worker.spawn(async {}).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
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
        let each = (0..count).map(Worker::start).collect::<io::Result<_>>()?;
        let aside = Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name("aside")
            .enable_all()
            .build()?;
        Ok(Self {
            each,
            aside: Some(aside),
        })
    }

    /// Where long work is done.
    pub(super) fn aside(&self) -> Aside {
        Aside(self.aside.as_ref().map(|aside| aside.handle().clone()))
    }

    /// What tells whether they do what they are given.
    pub(super) fn pulse(&self) -> Pulse {
        Pulse(
            self.each
                .iter()
                .map(|worker| worker.runtime.clone())
                .collect(),
        )
    }

    /// A place at the worker that has the fewest connections, and its event loop.
    pub(super) fn least_busy(&self) -> (Handle, Desk) {
        // One that has ended would always have the fewest.
        let worker = (self.each.iter())
            .min_by_key(|worker| {
                let connections = worker.connections.load(Ordering::Relaxed);
                (worker.stop.is_closed(), connections)
            })
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
            stop,
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

    #[tokio::test]
    async fn one_that_has_ended_gets_no_connections() {
        let mut workers = Workers::start(NonZeroUsize::new(2)).unwrap();
        // Its thread ends.
        let (closed, _) = oneshot::channel();
        workers.each[0].stop = closed;
        for _ in 0..3 {
            let (worker, desk) = workers.least_busy();
            assert_eq!(worker.spawn(async { 7 }).await.unwrap(), 7);
            std::mem::forget(desk);
        }
        assert_eq!(workers.each[1].connections.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_thread_that_is_stuck_has_no_pulse() {
        let workers = Workers::start(NonZeroUsize::new(2)).unwrap();
        let pulse = workers.pulse();
        pulse.beat().await;
        let (stuck, beginning) = oneshot::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        workers.each[1].runtime.spawn(async move {
            stuck.send(()).unwrap();
            let _ = ended.recv();
        });
        beginning.await.unwrap();
        let beat = tokio::time::timeout(std::time::Duration::from_millis(50), pulse.beat());
        assert!(beat.await.is_err());
        drop(end);
        pulse.beat().await;
    }

    #[tokio::test]
    async fn long_work_leaves_the_thread_and_ends_with_who_waits_for_it() {
        let workers = Workers::start(NonZeroUsize::new(1)).unwrap();
        let aside = workers.aside();
        let here = std::thread::current().id();
        let there = aside.run(async { std::thread::current().id() }).await;
        assert!(there.is_some_and(|there| there != here));
        let (kept, dropped) = oneshot::channel::<()>();
        let endless = aside.run(async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        let timed = tokio::time::timeout(std::time::Duration::from_millis(1), endless).await;
        assert!(timed.is_err());
        assert!(dropped.await.is_err());
        let panics = tokio::spawn(async move { aside.run(async { panic!("on purpose") }).await });
        assert!(panics.await.unwrap_err().is_panic());
    }

    #[tokio::test]
    async fn without_threads_of_its_own_work_is_done_where_it_is_asked_for() {
        let here = std::thread::current().id();
        let there = async { std::thread::current().id() };
        assert_eq!(Aside::default().run(there).await, Some(here));
    }

    #[test]
    fn without_a_number_there_is_one_thread_for_each_core() {
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(Workers::start(None).unwrap().each.len(), cores);
    }
}
