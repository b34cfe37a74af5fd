//! The wait of a command for its turn.

use std::time::Duration;

use tokio::time::sleep;

use super::Guest;
use super::rates::Turn;
use crate::proxy::life::{Life, Stage};
use crate::proxy::link::{Ended, Link};
use crate::refusal::Refusal;
use crate::rewrite::Request;
use crate::rewrite::permitted::is_essential;

impl Guest {
    /// Lets a command go on when it is its turn, or says why it may not.
    pub(in crate::proxy) async fn pass(
        &mut self,
        request: &Request<'_>,
        wants_reply: bool,
        link: &mut Link,
        life: &mut Life,
    ) -> Result<Result<(), Refusal>, Ended> {
        if !self.is_rated() {
            return Ok(Ok(()));
        }
        let essential = is_essential(request);
        loop {
            match self.turn(essential) {
                Turn::Now => return Ok(Ok(())),
                Turn::After(wait) => {
                    pause(wait, wants_reply, link, life).await?;
                    return Ok(Ok(()));
                }
                Turn::NotBefore(_) if wants_reply => return Ok(Err(self.too_many_commands())),
                // Its client could not be told that its write is not done.
                Turn::NotBefore(wait) => pause(wait, wants_reply, link, life).await?,
            }
        }
    }
}

/// Waits, and notices meanwhile if the client goes away.
async fn pause(
    wait: Duration,
    wants_reply: bool,
    link: &mut Link,
    life: &mut Life,
) -> Result<(), Ended> {
    tokio::select! {
        () = sleep(wait) => Ok(()),
        // Who sends a write and leaves without waiting has still sent it.
        () = link.requests.closed(), if wants_reply => Err(Ended::ClientClosed),
        () = life.until(Stage::Ending) => Err(Ended::Stopping),
    }
}
