//! The connection to MongoDB, which takes only what was cleared.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::frames::FrameReader;
use super::stream::{Socket, Stream, WriteHalf};
use super::{handshake, hello as greeting};
use crate::config::Address;
use crate::policy::Policy;
use crate::rewrite::{self, Cleared, Decision};
use crate::tls;
use crate::wire::{Header, MAX_MESSAGE, Message, Reply, finish, opcode};

/// How long a probe may take.
const PROBE: Duration = Duration::from_secs(2);

/// Both directions to MongoDB.
pub(super) struct Upstream {
    /// The replies.
    pub(super) replies: FrameReader,
    /// The requests.
    pub(super) requests: Requests,
}

/// The way to MongoDB.
pub(super) struct Requests(WriteHalf);

impl Requests {
    /// Sends one request.
    pub(super) async fn send(&mut self, cleared: &Cleared<'_>) -> io::Result<()> {
        self.0.write_all(cleared.bytes()).await?;
        self.0.flush().await
    }
}

impl Upstream {
    /// Connects for `client`, which is only logged.
    pub(super) async fn connect(
        address: &Address,
        tls: Option<Arc<tls::Upstream>>,
        client: &str,
        within: Duration,
    ) -> io::Result<Self> {
        let stream = timeout(within, async {
            handshake::connect(Socket::connect(address).await?, address, tls).await
        })
        .await??;
        tracing::debug!(
            client,
            upstream_local = %stream.local,
            upstream = %stream.peer,
            "connected"
        );
        Ok(Self::over(stream))
    }

    /// Speaks over a connection that is there.
    pub(super) fn over(stream: Stream) -> Self {
        Self {
            replies: FrameReader::new(stream.read, MAX_MESSAGE, None),
            requests: Requests(stream.write),
        }
    }
}

/// Asks a member what it calls itself; none if it is in no replica set.
pub(super) async fn probe(
    address: &Address,
    policy: &Policy,
    tls: Option<Arc<tls::Upstream>>,
) -> io::Result<Option<String>> {
    let plain = tls.is_none();
    timeout(PROBE, async {
        let mut upstream = Upstream::connect(address, tls, "probe", PROBE).await?;
        let answer = hello(&mut upstream, policy, plain).await?;
        let reply = Reply::recognise(&answer).map_err(io::Error::other)?;
        let name = greeting::own_name(&reply).map_err(io::Error::other)?;
        Ok(name.map(str::to_owned))
    })
    .await?
}

/// Asks `hello`, for as long as it takes; `plain` says whether the connection is without TLS.
pub(super) async fn hello(
    upstream: &mut Upstream,
    policy: &Policy,
    plain: bool,
) -> io::Result<Vec<u8>> {
    let frame = hello_request();
    let message = Message::recognise(&frame).map_err(io::Error::other)?;
    let mut scratch = Vec::new();
    match rewrite::decide(&message, policy, &mut scratch) {
        Decision::Forward { cleared, .. } => upstream.requests.send(&cleared).await?,
        Decision::Refuse(refusal) => return Err(io::Error::other(refusal)),
    }
    let mut answer = Vec::new();
    let header = upstream.replies.next(&mut answer).await;
    header
        .map_err(io::Error::other)?
        .ok_or_else(|| closed(plain))?;
    Ok(answer)
}

pub(super) fn closed(plain: bool) -> io::Error {
    io::Error::other(if plain {
        "it closed the connection without an answer; if it requires TLS, add [tls.upstream]"
    } else {
        "it closed the connection without an answer; it may require a certificate (tls.upstream.cert)"
    })
}

/// An `OP_MSG` of `{hello: 1, $db: "admin"}`.
fn hello_request() -> Vec<u8> {
    let mut frame = Vec::new();
    Header::append(1, 0, opcode::MSG, &mut frame);
    // No flags, and one section of kind 0.
    frame.extend_from_slice(&[0; 5]);
    let mut writer = crate::raw::Writer::new(&mut frame);
    let open = writer.begin();
    writer.int32("hello", 1);
    writer.string("$db", "admin");
    writer.end(open);
    finish(&mut frame).expect("a header and a short document");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::{body, msg};

    #[test]
    fn the_probe_asks_hello() {
        let mut expected = msg(0, &body(&bson::doc! {"hello": 1, "$db": "admin"}));
        expected[4..12].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(hello_request(), expected);
    }
}
