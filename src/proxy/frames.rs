//! Frames from a byte stream, into buffers that are used again.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BufMut as _;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::handshake::is_client_hello;
use super::pool;
use super::stream::ReadHalf;
use crate::wire::{HEADER, Header, WireError, opcode};

/// How much a peer may send ahead while it is not its turn; then its socket is left unread.
/// Until then it is noticed when the peer goes away.
const AHEAD: usize = 1024 * 1024;

/// The least that is asked of the socket at a time.
const CHUNK: usize = 64 * 1024;

/// So few bytes are copied rather than read apart.
const FEW: usize = 4 * 1024;

/// So many bytes are not copied, but leave with the memory that they have arrived in.
const MANY: usize = 16 * 1024;

thread_local! {
    /// Where the bytes of a thread's connections arrive, one after the other. Thus a connection
    /// that waits has no memory for what may come, and a message that comes whole takes one call.
    /// Empty between them.
    static ARRIVALS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A peer that is slower than this is cut off, in bytes a second.
const SLOWEST: u64 = 64 * 1024;

/// Behind the header of a compressed message: the opcode and the length of what it holds, and the compressor.
const COMPRESSED_HEADER: usize = 9;

/// Why there is no next frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The stream is not the wire protocol.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The stream ended inside a frame.
    #[error("the connection was closed in the middle of a message")]
    CutOff,
    /// The peer begins a TLS handshake.
    #[error(
        "it begins a TLS handshake, but there is no TLS here: add [tls.listen], or connect with tls=false"
    )]
    Tls,
    /// A frame has begun, and did not come to its end.
    #[error("the rest of a message did not come in time")]
    Stalled,
    /// No frame began.
    #[error("it said nothing for longer than it may (limits.idle_timeout_seconds)")]
    Idle,
}

/// What a frame says of its size before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announced {
    /// The length of the frame.
    pub(super) length: usize,
    /// The length that it has without its compression; 0 if it has none.
    pub(super) inflated: usize,
}

/// How long a message of `length` bytes may take: a pause of `stall`, and the time that a
/// very slow line needs.
pub(super) fn longest(stall: Duration, length: usize) -> Duration {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    stall.saturating_add(Duration::from_secs(length / SLOWEST))
}

/// Reads frames; what came early is kept for the next call.
pub(super) struct FrameReader {
    stream: ReadHalf,
    buffer: Vec<u8>,
    limit: usize,
    stall: Option<Duration>,
    /// Whether no frame has come yet.
    first: bool,
    ended: bool,
    /// How much the peer may send ahead.
    ahead: usize,
    /// A buffer with more room than this is not kept for the next message.
    keep: usize,
}

impl FrameReader {
    /// Frames of at most `limit` bytes; `stall` bounds the time that one takes, beyond what its
    /// length needs.
    pub(super) fn new(stream: ReadHalf, limit: usize, stall: Option<Duration>) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            limit,
            stall,
            first: true,
            ended: false,
            ahead: AHEAD,
            keep: pool::LARGEST,
        }
    }

    /// Keeps no more than `keep` bytes of memory between frames, or for what comes early.
    pub(super) fn keep_less(&mut self, keep: usize) {
        self.keep = self.keep.min(keep);
        self.ahead = self.ahead.min(keep);
    }

    /// Waits for the next frame to begin, at most for `idle`, and says how large it is; the frame
    /// stays to be read. None: the stream ended between frames.
    ///
    /// Nothing is lost if the future is dropped before it is done.
    pub(super) async fn announced(
        &mut self,
        idle: Option<Duration>,
    ) -> Result<Option<Announced>, ReadError> {
        let mut deadline = None;
        loop {
            if let Some(announced) = self.size()? {
                return Ok(Some(announced));
            }
            let read = if self.buffer.is_empty() {
                match idle {
                    Some(idle) => timeout(idle, self.fill(CHUNK))
                        .await
                        .map_err(|_| ReadError::Idle)??,
                    None => self.fill(CHUNK).await?,
                }
            } else {
                self.fill_by(CHUNK, HEADER, &mut deadline).await?
            };
            if read == 0 {
                return self.end();
            }
        }
    }

    /// How large the frame is that has begun, if that is here already.
    fn size(&self) -> Result<Option<Announced>, ReadError> {
        if self.first && is_client_hello(&self.buffer) {
            return Err(ReadError::Tls);
        }
        let Some(header) = Header::read(&self.buffer, self.limit)? else {
            return Ok(None);
        };
        let plain = Announced {
            length: header.length,
            inflated: 0,
        };
        if header.opcode != opcode::COMPRESSED || header.length < HEADER + COMPRESSED_HEADER {
            return Ok(Some(plain));
        }
        let length = self.buffer.get(HEADER + 4..HEADER + COMPRESSED_HEADER);
        Ok(length.and_then(<[u8]>::first_chunk::<4>).map(|length| {
            // One that is negative, or beyond the limit, is refused before it is inflated.
            let inflated = usize::try_from(i32::from_le_bytes(*length)).unwrap_or(0);
            Announced {
                inflated: inflated.min(self.limit),
                ..plain
            }
        }))
    }

    /// The end of the stream: between frames, or within one.
    fn end<T>(&self) -> Result<Option<T>, ReadError> {
        if self.buffer.is_empty() {
            Ok(None)
        } else {
            Err(ReadError::CutOff)
        }
    }

    /// Reads more of a frame of `length` bytes that has begun, by the deadline that the first call sets.
    async fn fill_by(
        &mut self,
        size: usize,
        length: usize,
        deadline: &mut Option<Instant>,
    ) -> Result<usize, ReadError> {
        let Some(stall) = self.stall else {
            return Ok(self.fill(size).await?);
        };
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + longest(stall, length));
        // A pause is noticed before the time is over that a long message may take.
        let pause = deadline.min(Instant::now() + stall);
        Ok(timeout_at(pause, self.fill(size))
            .await
            .map_err(|_| ReadError::Stalled)??)
    }

    /// Puts the next frame, and nothing else, into `frame`. None: the stream ended between frames.
    ///
    /// Nothing is lost if the future is dropped before it is done.
    pub(super) async fn next(&mut self, frame: &mut Vec<u8>) -> Result<Option<Header>, ReadError> {
        let mut deadline = None;
        loop {
            if self.first && is_client_hello(&self.buffer) {
                return Err(ReadError::Tls);
            }
            let header = Header::read(&self.buffer, self.limit)?;
            let wanted = header.map_or(HEADER, |header| header.length);
            if let Some(header) = header
                && self.buffer.len() >= wanted
            {
                self.split(wanted, frame);
                self.first = false;
                return Ok(Some(header));
            }
            // Memory follows what was sent, not what was announced. With room for more than is
            // wanted, the system need not be asked again whether there is more.
            let room = (wanted + FEW)
                .min(self.buffer.len().saturating_mul(2))
                .max(CHUNK);
            let read = if self.buffer.is_empty() {
                self.fill(room).await?
            } else {
                self.fill_by(room, wanted, &mut deadline).await?
            };
            if read == 0 {
                return self.end();
            }
        }
    }

    /// Waits until the peer closes or its socket fails, keeping what it sends meanwhile.
    ///
    /// Never ends once so much waits as may be sent ahead, since nothing more is read then.
    pub(super) async fn closed(&mut self) {
        while !self.ended {
            if self.buffer.len() >= self.ahead {
                std::future::pending::<()>().await;
            }
            // Memory follows what was sent.
            match self.fill(self.ahead.min(self.buffer.len() + CHUNK)).await {
                Ok(0) | Err(_) => self.ended = true,
                Ok(_) => {}
            }
        }
    }

    /// Reads until at most `size` bytes are here; 0 means the end.
    async fn fill(&mut self, size: usize) -> io::Result<usize> {
        let missing = size.saturating_sub(self.buffer.len()).max(1);
        let read = if self.buffer.is_empty() || missing <= FEW {
            poll_fn(|context| self.poll_arrivals(context, missing)).await
        } else {
            // The rest of a long message goes where it belongs.
            self.buffer.reserve(missing);
            let mut into = (&mut self.buffer).limit(missing);
            self.stream.read_buf(&mut into).await
        };
        match read {
            // TLS that ended without its own end. Between frames nothing is lost, and within one
            // the end is an error anyhow; many clients leave so.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }

    /// Reads at most `most` bytes by way of the thread's own memory.
    fn poll_arrivals(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        ARRIVALS.with_borrow_mut(|arrivals| {
            arrivals.clear();
            arrivals.reserve(CHUNK);
            let mut into = arrivals.limit(most.min(CHUNK));
            let read = ready!(pin!(self.stream.read_buf(&mut into)).poll(context))?;
            if self.buffer.is_empty() && read > MANY {
                // What is here is the most of a message, so it stays where it is.
                pool::give(&mut self.buffer, self.keep);
                self.buffer = std::mem::replace(arrivals, pool::take());
                return Poll::Ready(Ok(read));
            }
            if self.buffer.capacity() == 0 {
                self.buffer = pool::take();
            }
            self.buffer.extend_from_slice(arrivals);
            arrivals.clear();
            Poll::Ready(Ok(read))
        })
    }

    /// Moves the first `length` bytes into `frame`: the buffers change places, and only what came early is copied.
    fn split(&mut self, length: usize, frame: &mut Vec<u8>) {
        frame.clear();
        std::mem::swap(&mut self.buffer, frame);
        self.buffer.extend_from_slice(&frame[length..]);
        frame.truncate(length);
        if self.buffer.is_empty() {
            pool::give(&mut self.buffer, self.keep);
        }
    }
}

#[cfg(test)]
mod tests;
