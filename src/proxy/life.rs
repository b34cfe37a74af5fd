//! The stages of the proxy's life, and how its parts hear of them.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;

use super::vigil::Vigil;

/// How long a connection has to be quiet before it is closed while the proxy drains: drivers
/// that hear that it stops close their connections themselves, and none that is in use is cut.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// How long a connection stays open at the end, so that a command that was under way to the
/// proxy is answered with an error rather than a closed connection.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(250);

/// How long the last answers may take once nothing else is waited for.
pub(super) const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How far the proxy is. The stages follow each other in this order, and none comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its addresses are bound, and clients wait.
    Starting,
    /// Clients are served.
    Serving,
    /// Nobody new is let in, `hello` is answered with an error so that drivers go elsewhere, and
    /// what is under way goes on.
    Draining,
    /// The time for that is over: all that is under way is answered with an error.
    Ending,
}

impl Stage {
    /// The one that follows; the last is followed by itself.
    fn next(self) -> Self {
        match self {
            Self::Starting => Self::Serving,
            Self::Serving => Self::Draining,
            Self::Draining | Self::Ending => Self::Ending,
        }
    }
}

/// What a part of the proxy knows of the stage that it is in.
#[derive(Debug)]
pub(super) struct Life {
    changes: watch::Receiver<Stage>,
    stage: Stage,
    /// Waits for the next change from this stage on.
    vigil: Vigil,
}

impl Clone for Life {
    fn clone(&self) -> Self {
        Self::new(self.changes.clone())
    }
}

impl Life {
    /// What is told by this channel. Once its sender is gone, so is the proxy.
    pub(super) fn new(changes: watch::Receiver<Stage>) -> Self {
        let stage = *changes.borrow();
        Self {
            changes,
            stage,
            vigil: Vigil::default(),
        }
    }

    /// The stage now. Without a lock, unless it has changed.
    pub(super) fn now(&mut self) -> Stage {
        match self.changes.has_changed() {
            Ok(false) => {}
            Ok(true) => {
                self.stage = *self.changes.borrow_and_update();
                // It was for this change, and will not wake anyone again.
                self.vigil = Vigil::default();
            }
            Err(_) => self.stage = Stage::Ending,
        }
        self.stage
    }

    /// The stage when it was last asked for.
    pub(super) fn known(&self) -> Stage {
        self.stage
    }

    /// Waits until this stage has come. Nothing is lost if the future is dropped before.
    pub(super) async fn until(&mut self, stage: Stage) {
        poll_fn(|context| self.poll(context, stage)).await;
    }

    fn poll(&mut self, context: &mut Context<'_>, stage: Stage) -> Poll<()> {
        while self.now() < stage {
            let changes = &self.changes;
            let change = || {
                let mut changes = changes.clone();
                // An error means that the proxy is gone, which `now` tells.
                async move { drop(changes.changed().await) }
            };
            if self.vigil.poll(context, change).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Waits until another stage has come than the one that was last asked for; for ever if
    /// there is no other.
    pub(super) async fn changed(&mut self) {
        let next = self.stage.next();
        if next == self.stage {
            return std::future::pending().await;
        }
        self.until(next).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn a_part_hears_of_each_stage_and_of_the_end_of_the_proxy() {
        let (sender, receiver) = watch::channel(Stage::Serving);
        let mut life = Life::new(receiver);
        assert_eq!(life.now(), Stage::Serving);
        life.until(Stage::Serving).await;
        sender.send(Stage::Draining).unwrap();
        assert_eq!(life.known(), Stage::Serving);
        life.changed().await;
        assert_eq!(
            (life.known(), life.now()),
            (Stage::Draining, Stage::Draining)
        );
        drop(sender);
        life.changed().await;
        assert_eq!(life.now(), Stage::Ending);
        life.until(Stage::Ending).await;
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_has_missed_no_stage() {
        let (sender, receiver) = watch::channel(Stage::Serving);
        let mut life = Life::new(receiver);
        let waited = tokio::time::timeout(Duration::ZERO, life.until(Stage::Ending)).await;
        assert!(waited.is_err());
        sender.send(Stage::Draining).unwrap();
        let waited = tokio::time::timeout(Duration::ZERO, life.until(Stage::Ending)).await;
        assert!(waited.is_err());
        assert_eq!(life.known(), Stage::Draining);
    }
}
