//! Questions that the program itself asks a member, as `fieldseal check` does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bson::Document;
use tokio::time::timeout;

use super::upstream::{Upstream, closed};
use crate::config::Address;
use crate::policy::Policy;
use crate::rewrite::{self, Decision, at_rest};
use crate::tls;
use crate::wire::{Message, Reply};

/// Asks a member each of `commands`, which name their database, on one connection without a
/// login; answers what it said, be it an error or not.
pub(crate) async fn ask(
    address: &Address,
    tls: Option<Arc<tls::Upstream>>,
    policy: &Policy,
    commands: &[Document],
    within: Duration,
) -> io::Result<Vec<Document>> {
    let plain = tls.is_none();
    timeout(within, async {
        let mut upstream = Upstream::connect(address, tls, "check", within).await?;
        let mut answers = Vec::new();
        for command in commands {
            let body = bson::serialize_to_vec(command).map_err(io::Error::other)?;
            let frame = at_rest::frame(&body).map_err(io::Error::other)?;
            let message = Message::recognise(&frame).map_err(io::Error::other)?;
            let mut scratch = Vec::new();
            match rewrite::decide(&message, policy, &mut scratch) {
                Decision::Forward { cleared, .. } => upstream.requests.send(&cleared).await?,
                Decision::Refuse(refusal) => return Err(io::Error::other(refusal)),
            }
            let mut frame = Vec::new();
            let header = upstream.replies.next(&mut frame).await;
            header
                .map_err(io::Error::other)?
                .ok_or_else(|| closed(plain))?;
            let reply = Reply::recognise(&frame).map_err(io::Error::other)?;
            let body = reply.frame().get(reply.body()).unwrap_or_default();
            answers.push(bson::deserialize_from_slice(body).map_err(io::Error::other)?);
        }
        Ok(answers)
    })
    .await
    .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {within:?}")))?
}
