//! A client's connection and MongoDB's, each watched while the other is served.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::frames::{FrameReader, ReadError, longest};
use super::gate::{Gate, Held};
use super::stream::WriteHalf;
use super::upstream::Upstream;
use crate::code::Code;
use crate::refusal::Refusal;
use crate::rewrite::Cleared;
use crate::wire::{Compressor, Header};

/// How long a write that wants no reply may still take once its client has gone.
const PARTING: Duration = Duration::from_secs(5);

/// How long the end of a connection may take to be said to a client.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the client closed the connection")]
    ClientClosed,
    #[error("MongoDB closed the connection")]
    UpstreamClosed,
    /// As it does with certificates that it does not take, in TLS 1.3 after the handshake.
    #[error(
        "MongoDB closed the connection before it answered anything; with TLS, it may not take the \
         certificate of tls.upstream.cert"
    )]
    UpstreamMute,
    #[error("the proxy is stopping")]
    Stopping,
    #[error("the first message did not come in time")]
    Handshake,
    #[error("the client: {0}")]
    Client(ReadError),
    #[error("writing to the client: {0}")]
    ClientWrite(io::Error),
    #[error("the client did not read its reply in time")]
    Unread,
    #[error("its principal has too many connections (limits.connections_per_principal)")]
    Surplus,
    #[error("MongoDB: {0}")]
    Upstream(ReadError),
    #[error("writing to MongoDB: {0}")]
    UpstreamWrite(io::Error),
    #[error("MongoDB answered something other than what was asked")]
    Answer,
    /// Drivers take a closed connection for a member that went away, and try again.
    #[error(
        "MongoDB did not list its views (code {0}), so what reaches sealed fields is not known"
    )]
    Views(i64),
    #[error("the audit log cannot be written, so nothing may be done here")]
    Audit,
    #[error("a reply in the midst of a stream could not be given: {0}")]
    Stream(Refusal),
    /// Said when it happens, with what to do.
    #[error("the login as {0:?} for the client's certificate failed")]
    Credential(String),
    #[error("[access] no longer has the user that the client's certificate stood for")]
    Revoked,
}

impl Ended {
    /// MongoDB closed the connection, after an answer or before any.
    pub(super) fn of_upstream(answered: bool) -> Self {
        if answered {
            Self::UpstreamClosed
        } else {
            Self::UpstreamMute
        }
    }

    /// The code of what deserves a warning: a peer broke the protocol, or was cut off.
    pub(super) fn code(&self) -> Option<Code> {
        // Sockets that fail are everyday life, but not what TLS finds wrong.
        let by_tls = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
        match self {
            Self::ClientClosed
            | Self::UpstreamClosed
            | Self::Stopping
            | Self::ClientWrite(_)
            | Self::UpstreamWrite(_)
            | Self::Audit
            | Self::Credential(_) => None,
            Self::Client(error) => match error {
                ReadError::Idle => None,
                ReadError::Io(error) => by_tls(error).then_some(Code::ClientHandshake),
                ReadError::Stalled => Some(Code::ClientSlow),
                ReadError::Wire(_) | ReadError::CutOff | ReadError::Tls => {
                    Some(Code::ClientProtocol)
                }
            },
            Self::Handshake | Self::Unread => Some(Code::ClientSlow),
            Self::Surplus => Some(Code::TooManyConnections),
            Self::Upstream(ReadError::Io(error)) => {
                by_tls(error).then_some(Code::UpstreamConnection)
            }
            Self::Upstream(_) | Self::UpstreamMute | Self::Answer | Self::Views(_) => {
                Some(Code::UpstreamConnection)
            }
            Self::Stream(refusal) => Some(refusal.code),
            Self::Revoked => Some(Code::NotLoggedIn),
        }
    }
}

/// The two connections.
pub(super) struct Link {
    /// The client's requests.
    pub(super) requests: FrameReader,
    /// The way to the client.
    pub(super) client: WriteHalf,
    /// MongoDB.
    pub(super) upstream: Upstream,
    /// Whether MongoDB has answered anything yet.
    pub(super) answered: bool,
    /// How long the client may leave a reply unread.
    pub(super) patience: Duration,
}

impl Link {
    /// Sends a request on, and notices meanwhile if the client goes away.
    pub(super) async fn send(
        &mut self,
        cleared: &Cleared<'_>,
        wants_reply: bool,
    ) -> Result<(), Ended> {
        let mut sending = std::pin::pin!(self.upstream.requests.send(cleared));
        let sent = tokio::select! {
            biased;
            sent = &mut sending => sent,
            () = self.requests.closed() => {
                if wants_reply {
                    return Err(Ended::ClientClosed);
                }
                // Who sends a write and leaves without waiting has still sent it.
                timeout(PARTING, sending).await.map_err(|_| Ended::ClientClosed)?
            }
        };
        sent.map_err(Ended::UpstreamWrite)
    }

    /// Waits for a reply; a client that goes away meanwhile takes the operation
    /// with it, if it wanted one.
    pub(super) async fn reply(
        &mut self,
        frame: &mut Vec<u8>,
        wants_reply: bool,
    ) -> Result<Header, Ended> {
        let mut next = std::pin::pin!(self.upstream.replies.next(frame));
        let header = tokio::select! {
            biased;
            header = &mut next => header,
            () = self.requests.closed() => {
                if wants_reply {
                    return Err(Ended::ClientClosed);
                }
                timeout(PARTING, next).await.map_err(|_| Ended::ClientClosed)?
            }
        };
        match header {
            Ok(Some(header)) => {
                self.answered = true;
                Ok(header)
            }
            Ok(None) => Err(Ended::of_upstream(self.answered)),
            Err(error) => Err(Ended::Upstream(error)),
        }
    }

    /// Waits for a reply to begin, and for room for it and `copies` of it. The caller holds no
    /// other room.
    pub(super) async fn room(
        &mut self,
        gate: &Gate,
        address: Option<IpAddr>,
        copies: usize,
    ) -> Result<Held, Ended> {
        let replies = &mut self.upstream.replies;
        let room = async {
            Ok(match replies.announced(None).await? {
                Some(announced) => gate.room(address, announced, copies).await,
                // Its end is told by who reads it.
                None => Held::default(),
            })
        };
        tokio::select! {
            biased;
            room = room => room.map_err(Ended::Upstream),
            () = self.requests.closed() => Err(Ended::ClientClosed),
        }
    }

    /// Writes a reply to the client, compressed in `packed` if its request was.
    pub(super) async fn answer(
        &mut self,
        frame: &[u8],
        compressor: Option<Compressor>,
        packed: &mut Vec<u8>,
    ) -> Result<(), Ended> {
        let bytes = match compressor {
            Some(compressor) => {
                compressor
                    .compress(frame, packed)
                    .map_err(|error| Ended::Upstream(error.into()))?;
                packed
            }
            None => frame,
        };
        self.write(bytes).await
    }

    /// Writes to the client, which has to read: a reply, and the room that it takes, would wait
    /// for ever for who never comes for it.
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Ended> {
        // Most are taken at once, and need no clock.
        let at_once = poll_fn(|context| {
            let mut client = Pin::new(&mut self.client);
            Poll::Ready(match client.as_mut().poll_write(context, bytes) {
                Poll::Ready(Ok(written)) if written == bytes.len() => {
                    (written, client.poll_flush(context))
                }
                Poll::Ready(Ok(written)) => (written, Poll::Pending),
                Poll::Ready(Err(error)) => (0, Poll::Ready(Err(error))),
                Poll::Pending => (0, Poll::Pending),
            })
        });
        match at_once.await {
            (_, Poll::Ready(flushed)) => return flushed.map_err(Ended::ClientWrite),
            (written, Poll::Pending) => bytes = bytes.get(written..).unwrap_or_default(),
        }
        let deadline = Instant::now() + longest(self.patience, bytes.len());
        loop {
            // A pause is noticed before the time is over that a long reply may take.
            let pause = deadline.min(Instant::now() + self.patience);
            let writing = async {
                if bytes.is_empty() {
                    return self.client.flush().await.map(|()| 0);
                }
                match self.client.write(bytes).await {
                    Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                    written => written,
                }
            };
            let written = timeout_at(pause, writing)
                .await
                .map_err(|_| Ended::Unread)?
                .map_err(Ended::ClientWrite)?;
            if bytes.is_empty() {
                return Ok(());
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
    }

    /// Says to the client that nothing more comes.
    pub(super) async fn farewell(&mut self) -> Result<(), Ended> {
        match timeout(FAREWELL, self.client.shutdown()).await {
            Ok(said) => said.map_err(Ended::ClientWrite),
            Err(_) => Err(Ended::Unread),
        }
    }

    /// Closes both connections.
    ///
    /// MongoDB's goes first and without the words with which TLS ends, for which a socket that
    /// is full would let wait: its operation is to end at once.
    pub(super) async fn part(self) {
        let Self {
            requests,
            mut client,
            upstream,
            ..
        } = self;
        drop(upstream);
        // So that the client can tell the end from a cut; fails if it has gone.
        let _ = timeout(FAREWELL, client.shutdown()).await;
        drop(requests);
    }
}
