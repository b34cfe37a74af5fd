//! One client's connection: requests in order, each with its replies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::frames::{FrameReader, ReadError, give_back};
use super::hello::{self, Rewriting};
use super::stream::{Stream, WriteHalf};
use super::upstream::Upstream;
use super::{Shared, stopped};
use crate::policy::Policy;
use crate::refusal::{Refusal, RefusalKind};
use crate::reveal::{self, ReplyPlan, Revealed};
use crate::rewrite::{self, Cleared, Decision};
use crate::wire::{self, Compressor, Header, Message, Reply, ReplyForm, WireError, flag, opcode};

/// How long a write that wants no reply may still take once its client has gone.
const PARTING: Duration = Duration::from_secs(5);

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the client closed the connection")]
    ClientClosed,
    #[error("MongoDB closed the connection")]
    UpstreamClosed,
    #[error("the proxy is stopping")]
    Stopping,
    #[error("the first message did not come in time")]
    Handshake,
    #[error("the client: {0}")]
    Client(ReadError),
    #[error("writing to the client: {0}")]
    ClientWrite(io::Error),
    #[error("MongoDB: {0}")]
    Upstream(ReadError),
    #[error("writing to MongoDB: {0}")]
    UpstreamWrite(io::Error),
    #[error("MongoDB answered something other than what was asked")]
    Answer,
    #[error("a reply in the midst of a stream could not be opened: {0}")]
    Stream(Refusal),
}

impl Ended {
    /// Whether the peer broke the protocol, which deserves a warning.
    pub(super) fn is_violation(&self) -> bool {
        match self {
            Self::Client(error) | Self::Upstream(error) => !matches!(error, ReadError::Io(_)),
            Self::Answer | Self::Stream(_) | Self::Handshake => true,
            _ => false,
        }
    }
}

/// One client and its connection to MongoDB.
pub(super) struct Session {
    shared: Arc<Shared>,
    route: usize,
    link: Link,
    stop: watch::Receiver<bool>,
    /// Numbers the replies that are made here.
    replies: i32,
    buffers: Buffers,
}

/// The two connections.
struct Link {
    requests: FrameReader,
    client: WriteHalf,
    upstream: Upstream,
}

/// Memory that is used again for every message.
#[derive(Default)]
struct Buffers {
    /// The request as it came.
    request: Vec<u8>,
    /// The request inflated; later, the reply compressed.
    other: Vec<u8>,
    /// The request rewritten; later, the reply rewritten.
    built: Vec<u8>,
    /// The reply as it came.
    reply: Vec<u8>,
}

/// What of a request matters for its answer.
#[derive(Debug, Clone, Copy)]
struct Asked {
    request_id: i32,
    form: ReplyForm,
    compressor: Option<Compressor>,
    wants_reply: bool,
}

/// How to treat the replies.
struct Treatment {
    plan: ReplyPlan,
    policy: Arc<Policy>,
    /// What a `hello` offered to compress with.
    compressors: Vec<Compressor>,
}

impl Session {
    /// A client that came by route `route`.
    pub(super) fn new(
        client: Stream,
        upstream: Upstream,
        shared: Arc<Shared>,
        route: usize,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let stall = Some(shared.limits.handshake_timeout);
        let link = Link {
            requests: FrameReader::new(client.read, shared.limits.message_bytes, stall),
            client: client.write,
            upstream,
        };
        Self {
            shared,
            route,
            link,
            stop,
            replies: 0,
            buffers: Buffers::default(),
        }
    }

    /// Serves the client until one side is through.
    pub(super) async fn run(mut self) -> Ended {
        match self.serve().await {
            Err(ended) => ended,
            Ok(never) => match never {},
        }
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, Ended> {
        let first = timeout(self.shared.limits.handshake_timeout, self.request()).await;
        let mut header = first.map_err(|_| Ended::Handshake)??;
        loop {
            self.operation(header).await?;
            let buffers = &mut self.buffers;
            for buffer in [
                &mut buffers.request,
                &mut buffers.other,
                &mut buffers.built,
                &mut buffers.reply,
            ] {
                give_back(buffer);
            }
            header = self.request().await?;
        }
    }

    /// The next request. Meanwhile nothing is going on, so this is where a session stops.
    async fn request(&mut self) -> Result<Header, Ended> {
        let Link {
            requests, upstream, ..
        } = &mut self.link;
        tokio::select! {
            header = requests.next(&mut self.buffers.request) => match header {
                Ok(Some(header)) => Ok(header),
                Ok(None) => Err(Ended::ClientClosed),
                Err(error) => Err(Ended::Client(error)),
            },
            () = upstream.replies.closed() => Err(Ended::UpstreamClosed),
            () = stopped(&mut self.stop) => Err(Ended::Stopping),
        }
    }

    /// One request and all its replies, under one policy.
    async fn operation(&mut self, header: Header) -> Result<(), Ended> {
        let policy = self.shared.policy.load_full();
        let Buffers {
            request,
            other,
            built,
            ..
        } = &mut self.buffers;
        let (frame, compressor) = if header.opcode == opcode::COMPRESSED {
            let limit = self.shared.limits.message_bytes;
            let compressor = wire::inflate(request, limit, other)
                .map_err(|error| Ended::Client(error.into()))?;
            (&*other, Some(compressor))
        } else {
            (&*request, None)
        };
        let message = match Message::recognise(frame) {
            Ok(message) => message,
            Err(error) => {
                let asked = malformed(frame, compressor);
                return self.part(asked, error).await;
            }
        };
        let asked = Asked {
            request_id: header.request_id,
            form: ReplyForm::answering(&message),
            compressor,
            wants_reply: message.wants_reply(),
        };
        match rewrite::decide(&message, &policy, built) {
            Decision::Refuse(refusal) => self.refuse(asked, &refusal).await,
            Decision::Forward { cleared, plan } => {
                let compressors = match plan {
                    ReplyPlan::Hello => {
                        hello::offered(&message).map_err(|error| Ended::Client(error.into()))?
                    }
                    _ => Vec::new(),
                };
                self.link.send(&cleared, asked.wants_reply).await?;
                let treatment = Treatment {
                    plan,
                    policy,
                    compressors,
                };
                if asked.wants_reply {
                    self.replies(asked, &treatment).await
                } else {
                    Ok(())
                }
            }
        }
    }

    /// The replies to what was sent: one, or a stream of them.
    async fn replies(&mut self, asked: Asked, treatment: &Treatment) -> Result<(), Ended> {
        let mut expected = asked.request_id;
        let mut streaming = false;
        loop {
            let header = tokio::select! {
                header = self.link.reply(&mut self.buffers.reply) => header?,
                () = stopped(&mut self.stop), if streaming => return Err(Ended::Stopping),
            };
            // Each reply of a stream answers the one before it.
            if header.response_to != expected {
                return Err(Ended::Answer);
            }
            expected = header.request_id;
            let more = self.deliver(asked, treatment, streaming).await?;
            if !more {
                return Ok(());
            }
            streaming = true;
        }
    }

    /// Hands on the reply that is in its buffer. Gives whether another one follows.
    async fn deliver(
        &mut self,
        asked: Asked,
        treatment: &Treatment,
        streaming: bool,
    ) -> Result<bool, Ended> {
        let Buffers {
            reply: frame,
            built,
            ..
        } = &mut self.buffers;
        let upstream = |error: WireError| Ended::Upstream(error.into());
        let reply = Reply::recognise(frame).map_err(upstream)?;
        let more = reply.more_to_come();
        let revealed = match (&treatment.plan, &reply) {
            (ReplyPlan::Hello, _) => {
                let rewriting = Rewriting {
                    routes: &self.shared.routes,
                    route: self.route,
                    compressors: &treatment.compressors,
                    message_bytes: self.shared.limits.message_bytes,
                    // A stream of replies outlives the policy that it began under.
                    sealing: !self.shared.policy.load().is_empty(),
                };
                rewriting.apply(&reply, built).map_err(upstream)?;
                Revealed::Rewritten
            }
            (_, Reply::Legacy(_)) => return Err(Ended::Answer),
            (plan, Reply::Msg(_)) => match reveal::reveal(frame, plan, &treatment.policy, built) {
                Ok(revealed) => revealed,
                Err(refusal) if more || streaming => return Err(Ended::Stream(refusal)),
                Err(refusal) => return self.refuse(asked, &refusal).await.map(|()| false),
            },
        };
        let bytes = match revealed {
            Revealed::Unchanged => &self.buffers.reply,
            Revealed::Rewritten => &self.buffers.built,
        };
        self.link
            .answer(bytes, asked.compressor, &mut self.buffers.other)
            .await?;
        Ok(more)
    }

    /// Answers a request with an error, if it wants an answer.
    async fn refuse(&mut self, asked: Asked, refusal: &Refusal) -> Result<(), Ended> {
        if !asked.wants_reply {
            tracing::warn!(%refusal, "refused a request that wants no reply");
            return Ok(());
        }
        tracing::debug!(%refusal, "refused");
        self.replies = self.replies.wrapping_add(1);
        let Buffers { built, other, .. } = &mut self.buffers;
        wire::error_reply(asked.form, self.replies, asked.request_id, refusal, built);
        self.link.answer(built, asked.compressor, other).await
    }

    /// Says what is wrong with a message, where that can be said, and ends the session.
    async fn part(&mut self, asked: Option<Asked>, error: WireError) -> Result<(), Ended> {
        if let Some(asked) = asked {
            let refusal = Refusal::new(RefusalKind::Malformed, error);
            self.refuse(asked, &refusal).await?;
            self.link
                .client
                .shutdown()
                .await
                .map_err(Ended::ClientWrite)?;
        }
        Err(Ended::Client(error.into()))
    }
}

/// How to answer a frame that was not recognised; none if it may not want an answer.
fn malformed(frame: &[u8], compressor: Option<Compressor>) -> Option<Asked> {
    let header = Header::of(frame).ok()?;
    let form = match header.opcode {
        opcode::MSG => {
            let flags = frame.get(wire::HEADER..)?.first_chunk::<4>()?;
            if u32::from_le_bytes(*flags) & flag::MORE_TO_COME != 0 {
                return None;
            }
            ReplyForm::Msg
        }
        opcode::QUERY => ReplyForm::Legacy,
        _ => return None,
    };
    Some(Asked {
        request_id: header.request_id,
        form,
        compressor,
        wants_reply: true,
    })
}

impl Link {
    /// Sends a request on, and notices meanwhile if the client goes away.
    async fn send(&mut self, cleared: &Cleared<'_>, wants_reply: bool) -> Result<(), Ended> {
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

    /// Waits for a reply; a client that goes away meanwhile takes the operation with it.
    async fn reply(&mut self, frame: &mut Vec<u8>) -> Result<Header, Ended> {
        tokio::select! {
            biased;
            header = self.upstream.replies.next(frame) => match header {
                Ok(Some(header)) => Ok(header),
                Ok(None) => Err(Ended::UpstreamClosed),
                Err(error) => Err(Ended::Upstream(error)),
            },
            () = self.requests.closed() => Err(Ended::ClientClosed),
        }
    }

    /// Writes a reply to the client, compressed in `packed` if its request was.
    async fn answer(
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
        self.client
            .write_all(bytes)
            .await
            .map_err(Ended::ClientWrite)?;
        self.client.flush().await.map_err(Ended::ClientWrite)
    }
}
