//! Frames from a byte stream, into buffers that are used again.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::handshake::is_client_hello;
use super::stream::ReadHalf;
use crate::wire::{HEADER, Header, WireError, opcode};

/// How much a peer may send ahead while it is not its turn; then its socket is left unread.
/// Until then it is noticed when the peer goes away.
const AHEAD: usize = 1024 * 1024;

/// A buffer with more room than this is given back after the message that needed it.
pub(super) const KEEP: usize = 1024 * 1024;

/// The least that is asked of the socket at a time.
const CHUNK: usize = 16 * 1024;

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
    /// How much memory stays with the connection.
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
            keep: KEEP,
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
            // Memory follows what was sent, not what was announced.
            let room = wanted.min(self.buffer.len().saturating_mul(2)).max(CHUNK);
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
        self.buffer.reserve(missing);
        let missing = u64::try_from(missing).unwrap_or(u64::MAX);
        let read = (&mut self.stream)
            .take(missing)
            .read_buf(&mut self.buffer)
            .await;
        match read {
            // TLS that ended without its own end. Between frames nothing is lost, and within one
            // the end is an error anyhow; many clients leave so.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }

    /// Moves the first `length` bytes into `frame`: the buffers change places, and only what came early is copied.
    fn split(&mut self, length: usize, frame: &mut Vec<u8>) {
        frame.clear();
        std::mem::swap(&mut self.buffer, frame);
        self.buffer.extend_from_slice(&frame[length..]);
        frame.truncate(length);
        if self.buffer.is_empty() {
            give_back(&mut self.buffer, self.keep);
        }
    }
}

/// Returns the memory of a buffer that a huge message made huge, but for `keep` bytes; the
/// content is no longer needed.
pub(super) fn give_back(buffer: &mut Vec<u8>, keep: usize) {
    buffer.clear();
    buffer.shrink_to(keep);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::doc;
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::wire::testing::{body, msg};

    fn pipe(limit: usize) -> (DuplexStream, FrameReader) {
        let (near, far) = duplex(8 << 20);
        (near, FrameReader::new(Box::new(far), limit, None))
    }

    fn ping() -> Vec<u8> {
        msg(0, &body(&doc! {"ping": 1}))
    }

    #[tokio::test]
    async fn frames_are_found_however_the_bytes_arrive() {
        let (first, second) = (
            ping(),
            msg(0, &body(&doc! {"hello": 1, "pad": "x".repeat(200_000)})),
        );
        let stream = [&first[..], &second, &first].concat();
        for chunk in [1009, 16, 40_000, stream.len()] {
            let (mut near, mut reader) = pipe(1 << 20);
            let bytes = stream.clone();
            let writing = tokio::spawn(async move {
                for part in bytes.chunks(chunk) {
                    near.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let mut frame = Vec::new();
            for expected in [&first, &second, &first] {
                let header = reader.next(&mut frame).await.unwrap().unwrap();
                assert_eq!(header.length, expected.len());
                assert_eq!(&frame, expected);
            }
            writing.await.unwrap();
            assert!(reader.next(&mut frame).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_huge_announcement_alone_takes_no_memory() {
        let (mut near, mut reader) = pipe(48_000_000);
        near.write_all(&48_000_000_i32.to_le_bytes()).await.unwrap();
        near.write_all(&[0; 50_000]).await.unwrap();
        drop(near);
        let error = reader.next(&mut Vec::new()).await.unwrap_err();
        assert!(matches!(error, ReadError::CutOff));
        assert!(reader.buffer.capacity() < 300_000);
    }

    #[tokio::test]
    async fn a_length_beyond_the_limit_ends_the_stream() {
        let (mut near, mut reader) = pipe(1000);
        near.write_all(&1001_i32.to_le_bytes()).await.unwrap();
        let error = reader.next(&mut Vec::new()).await.unwrap_err();
        assert!(matches!(error, ReadError::Wire(WireError::Length { .. })));
    }

    #[tokio::test]
    async fn a_frame_that_stops_halfway_does_not_hang_the_connection() {
        let (mut near, far) = duplex(1000);
        let mut reader = FrameReader::new(Box::new(far), 1000, Some(Duration::from_millis(20)));
        near.write_all(&ping()[..20]).await.unwrap();
        let error = reader.next(&mut Vec::new()).await.unwrap_err();
        assert!(matches!(error, ReadError::Stalled));
    }

    #[tokio::test]
    async fn a_frame_that_comes_byte_by_byte_is_cut_off_at_last() {
        let (mut near, far) = duplex(1000);
        let mut reader = FrameReader::new(Box::new(far), 1000, Some(Duration::from_millis(60)));
        let trickling = tokio::spawn(async move {
            for byte in ping() {
                // No single pause is too long.
                tokio::time::sleep(Duration::from_millis(15)).await;
                if near.write_all(&[byte]).await.is_err() {
                    return false;
                }
            }
            true
        });
        let error = reader.next(&mut Vec::new()).await.unwrap_err();
        assert!(matches!(error, ReadError::Stalled));
        drop(reader);
        assert!(!trickling.await.unwrap());
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_is_idle_and_one_that_has_begun_is_not() {
        let (mut near, mut reader) = pipe(1000);
        let idle = Some(Duration::from_millis(5));
        let error = reader.announced(idle).await.unwrap_err();
        assert!(matches!(error, ReadError::Idle));
        near.write_all(&ping()[..20]).await.unwrap();
        for _ in 0..2 {
            let announced = reader.announced(idle).await.unwrap().unwrap();
            assert_eq!((announced.length, announced.inflated), (ping().len(), 0));
        }
        near.write_all(&ping()[20..]).await.unwrap();
        let mut frame = Vec::new();
        reader.next(&mut frame).await.unwrap().unwrap();
        assert_eq!(frame, ping());
        drop(near);
        assert_eq!(reader.announced(idle).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_compressed_frame_announces_what_it_holds_and_no_more_than_may_be() {
        for (says, expected) in [(700, 700), (i32::MAX, 1000), (-1, 0)] {
            let (mut near, mut reader) = pipe(1000);
            let mut frame = Vec::new();
            Header::append(1, 0, opcode::COMPRESSED, &mut frame);
            frame[..4].copy_from_slice(&100_i32.to_le_bytes());
            frame.extend(opcode::MSG.to_le_bytes());
            frame.extend(i32::to_le_bytes(says));
            near.write_all(&frame).await.unwrap();
            tokio::select! {
                biased;
                announced = reader.announced(None) => panic!("{announced:?} without the compressor"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            near.write_all(&[1]).await.unwrap();
            let announced = reader.announced(None).await.unwrap().unwrap();
            assert_eq!((announced.length, announced.inflated), (100, expected));
        }
    }

    /// A connection of TLS that is cut: bytes, and then the error that `rustls` gives.
    struct Cut(Vec<u8>);

    impl tokio::io::AsyncRead for Cut {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            if self.0.is_empty() {
                return std::task::Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let length = buffer.remaining().min(self.0.len());
            buffer.put_slice(&self.0.drain(..length).collect::<Vec<_>>());
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn tls_that_is_cut_is_an_error_within_a_frame_and_an_end_between_frames() {
        let mut frame = Vec::new();
        let whole = Box::new(Cut(ping()));
        let mut reader = FrameReader::new(whole, 1000, None);
        assert!(reader.next(&mut frame).await.unwrap().is_some());
        assert!(reader.next(&mut frame).await.unwrap().is_none());
        let half = Box::new(Cut([ping(), ping()[..30].to_vec()].concat()));
        let mut reader = FrameReader::new(half, 1000, None);
        assert!(reader.next(&mut frame).await.unwrap().is_some());
        let error = reader.next(&mut frame).await.unwrap_err();
        assert!(matches!(error, ReadError::CutOff), "{error:?}");
    }

    #[tokio::test]
    async fn a_tls_handshake_is_recognised_at_once_where_none_is_awaited() {
        // With a length that could be that of a message, so that the rest would be awaited.
        for length in [0x0200_u16, 0x0600] {
            let (mut near, mut reader) = pipe(48_000_000);
            let mut hello = vec![0x16, 3, 1];
            hello.extend(length.to_be_bytes());
            hello.extend([1, 0, 1, 0xFC, 3, 3]);
            hello.extend([0xAB; 40]);
            near.write_all(&hello).await.unwrap();
            let error = reader.next(&mut Vec::new()).await.unwrap_err();
            assert!(matches!(error, ReadError::Tls), "{error:?}");
        }
    }

    #[tokio::test]
    async fn what_comes_early_is_kept_and_the_end_is_noticed() {
        let (mut near, mut reader) = pipe(1000);
        near.write_all(&ping().repeat(2)).await.unwrap();
        drop(near);
        reader.closed().await;
        let mut frame = Vec::new();
        for _ in 0..2 {
            assert!(reader.next(&mut frame).await.unwrap().is_some());
            assert_eq!(frame, ping());
        }
        assert!(reader.next(&mut frame).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_kept_early_is_bounded() {
        let (mut near, mut reader) = pipe(1000);
        near.write_all(&vec![0; 4 * AHEAD]).await.unwrap();
        tokio::select! {
            biased;
            () = reader.closed() => panic!("the peer is still there"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        assert_eq!(reader.buffer.len(), AHEAD);
    }

    #[tokio::test]
    async fn waiting_for_a_peer_that_says_nothing_takes_little_memory() {
        let (_near, mut reader) = pipe(1000);
        tokio::select! {
            biased;
            () = reader.closed() => panic!("the peer is still there"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
        assert!(reader.buffer.capacity() <= CHUNK);
    }

    #[test]
    fn the_memory_of_a_huge_message_is_given_back() {
        let mut buffer = vec![0; 8 * KEEP];
        give_back(&mut buffer, KEEP);
        assert!(buffer.is_empty());
        assert!(buffer.capacity() <= KEEP);
    }
}
