//! Frames from a byte stream, into buffers that are used again.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::handshake::is_client_hello;
use super::stream::ReadHalf;
use crate::wire::{HEADER, Header, WireError};

/// How much a peer may send ahead while it is not its turn; then its socket is left unread.
/// Until then it is noticed when the peer goes away.
const AHEAD: usize = 1024 * 1024;

/// A buffer with more room than this is given back after the message that needed it.
const KEEP: usize = 1024 * 1024;

/// The least that is asked of the socket at a time.
const CHUNK: usize = 16 * 1024;

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
    /// A frame has begun, and then nothing came.
    #[error("the rest of a message did not come in time")]
    Stalled,
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
}

impl FrameReader {
    /// Frames of at most `limit` bytes; `stall` bounds each wait inside a frame.
    pub(super) fn new(stream: ReadHalf, limit: usize, stall: Option<Duration>) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            limit,
            stall,
            first: true,
            ended: false,
        }
    }

    /// Puts the next frame, and nothing else, into `frame`. None: the stream ended between frames.
    ///
    /// Nothing is lost if the future is dropped before it is done.
    pub(super) async fn next(&mut self, frame: &mut Vec<u8>) -> Result<Option<Header>, ReadError> {
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
            let begun = !self.buffer.is_empty();
            let read = match self.stall {
                Some(stall) if begun => timeout(stall, self.fill(room))
                    .await
                    .map_err(|_| ReadError::Stalled)??,
                _ => self.fill(room).await?,
            };
            if read == 0 {
                return if begun {
                    Err(ReadError::CutOff)
                } else {
                    Ok(None)
                };
            }
        }
    }

    /// Waits until the peer closes or its socket fails, keeping what it sends meanwhile.
    ///
    /// Never ends once [`AHEAD`] bytes wait, since nothing more is read then.
    pub(super) async fn closed(&mut self) {
        while !self.ended {
            if self.buffer.len() >= AHEAD {
                std::future::pending::<()>().await;
            }
            // Memory follows what was sent.
            match self.fill(AHEAD.min(self.buffer.len() + CHUNK)).await {
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
            give_back(&mut self.buffer);
        }
    }
}

/// Returns the memory of a buffer that a huge message made huge; the content is no longer needed.
pub(super) fn give_back(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEEP);
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
        give_back(&mut buffer);
        assert!(buffer.is_empty());
        assert!(buffer.capacity() <= KEEP);
    }
}
