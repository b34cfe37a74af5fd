//! A wait for what seldom comes, kept up while its task does other things.
//!
//! A future that waits for a stop takes a lock that all connections share to be told, and
//! again when it is dropped. One that is made for each command would do so for each command,
//! on every thread.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::task::unconstrained;

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The wait, and whom it wakes.
#[derive(Default)]
pub(super) struct Vigil(Option<(Waker, Wait)>);

impl Vigil {
    /// Waits for what the future of `begin` waits for, made anew if none is waited for yet.
    ///
    /// The caller has to have found by other means, and since it was woken, that it has not come:
    /// a wait that wakes the task already is not asked again.
    pub(super) fn poll<F>(
        &mut self,
        context: &mut Context<'_>,
        begin: impl FnOnce() -> F,
    ) -> Poll<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut wait = match self.0.take() {
            Some(kept) if kept.0.will_wake(context.waker()) => {
                self.0 = Some(kept);
                return Poll::Pending;
            }
            Some((_, wait)) => wait,
            // It has to be told of even by a task that used up its turn: it is not asked again.
            None => Box::pin(unconstrained(begin())),
        };
        let poll = wait.as_mut().poll(context);
        if poll.is_pending() {
            self.0 = Some((context.waker().clone(), wait));
        }
        poll
    }
}

impl fmt::Debug for Vigil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vigil").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::watch;

    use super::*;

    async fn stop_by(vigil: &mut Vigil, stop: &watch::Receiver<bool>, begun: &AtomicUsize) {
        poll_fn(|context| {
            if *stop.borrow() {
                return Poll::Ready(());
            }
            vigil.poll(context, || {
                begun.fetch_add(1, Ordering::Relaxed);
                let mut stop = stop.clone();
                async move { drop(stop.wait_for(|stop| *stop).await) }
            })
        })
        .await;
    }

    #[tokio::test]
    async fn a_task_is_woken_by_a_wait_that_it_began_long_before() {
        let (sender, stop) = watch::channel(false);
        let (begun, mut vigil) = (Arc::new(AtomicUsize::new(0)), Vigil::default());
        let count = Arc::clone(&begun);
        let (ready, at_work) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            for _ in 0..100 {
                tokio::select! {
                    biased;
                    () = stop_by(&mut vigil, &stop, &count) => panic!("nothing has come"),
                    () = tokio::task::yield_now() => {}
                }
            }
            ready.send(()).unwrap();
            stop_by(&mut vigil, &stop, &count).await;
        });
        at_work.await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        sender.send(true).unwrap();
        task.await.unwrap();
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_wait_that_begins_when_its_task_has_used_up_its_turn_wakes_it_all_the_same() {
        let (sender, stop) = watch::channel(false);
        let (busy, mut work) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..10_000 {
            busy.send(number).unwrap();
        }
        let task = tokio::spawn(async move {
            let (begun, mut vigil) = (AtomicUsize::new(0), Vigil::default());
            poll_fn(|context| {
                while work.poll_recv(context).is_ready() {}
                assert!(!work.is_empty(), "the turn was not used up");
                let waits = std::pin::pin!(stop_by(&mut vigil, &stop, &begun)).poll(context);
                assert!(waits.is_pending());
                Poll::Ready(())
            })
            .await;
            stop_by(&mut vigil, &stop, &begun).await;
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        sender.send(true).unwrap();
        let within = std::time::Duration::from_secs(20);
        tokio::time::timeout(within, task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_wait_that_goes_to_another_task_wakes_that_one() {
        let (sender, stop) = watch::channel(false);
        let (begun, mut vigil) = (Arc::new(AtomicUsize::new(0)), Vigil::default());
        let (first, count) = (stop.clone(), Arc::clone(&begun));
        let moved = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stop_by(&mut vigil, &first, &count) => panic!("nothing has come"),
                () = tokio::task::yield_now() => {}
            }
            vigil
        });
        let mut vigil = moved.await.unwrap();
        let count = Arc::clone(&begun);
        let second = tokio::spawn(async move { stop_by(&mut vigil, &stop, &count).await });
        tokio::task::yield_now().await;
        sender.send(true).unwrap();
        second.await.unwrap();
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }
}
