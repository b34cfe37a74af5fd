//! Frames over in-memory pipes.

#![allow(clippy::unwrap_used, reason = "tests")]

use bson::doc;
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::wire::testing::{body, msg};

fn pipe(limit: usize) -> (DuplexStream, FrameReader) {
    let (near, far) = duplex(8 << 20);
    (
        near,
        FrameReader::new(ReadHalf::Other(Box::new(far)), limit, None),
    )
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
    let mut reader = FrameReader::new(
        ReadHalf::Other(Box::new(far)),
        1000,
        Some(Duration::from_millis(20)),
    );
    near.write_all(&ping()[..20]).await.unwrap();
    let error = reader.next(&mut Vec::new()).await.unwrap_err();
    assert!(matches!(error, ReadError::Stalled));
}

#[tokio::test]
async fn a_frame_that_comes_byte_by_byte_is_cut_off_at_last() {
    let (mut near, far) = duplex(1000);
    let mut reader = FrameReader::new(
        ReadHalf::Other(Box::new(far)),
        1000,
        Some(Duration::from_millis(60)),
    );
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
    let mut reader = FrameReader::new(ReadHalf::Other(whole), 1000, None);
    assert!(reader.next(&mut frame).await.unwrap().is_some());
    assert!(reader.next(&mut frame).await.unwrap().is_none());
    let half = Box::new(Cut([ping(), ping()[..30].to_vec()].concat()));
    let mut reader = FrameReader::new(ReadHalf::Other(half), 1000, None);
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
    assert_eq!(reader.buffer.capacity(), 0);
}

/// A frame of `length` bytes, each of which tells of whom and where it is.
fn patterned(length: usize, of: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    Header::append(1, 0, opcode::MSG, &mut frame);
    frame.extend((frame.len()..length).map(|at| of ^ u8::try_from(at % 251).unwrap()));
    let announced = i32::try_from(length).unwrap();
    frame[..4].copy_from_slice(&announced.to_le_bytes());
    frame
}

#[tokio::test]
async fn frames_of_two_connections_of_a_thread_hold_their_own_bytes_in_pieces_of_any_size() {
    let borders = [CHUNK - FEW, CHUNK, CHUNK + FEW, 2 * CHUNK, 2 * CHUNK + FEW];
    let mut lengths = vec![HEADER, HEADER + 1, FEW, 300_000];
    lengths.extend(
        borders
            .iter()
            .flat_map(|border| [border - 1, *border, border + 1]),
    );
    for piece in [977, FEW + 1, CHUNK - 1, CHUNK + 1, 5 * CHUNK] {
        let connection = |of: u8| {
            let (mut near, mut reader) = pipe(1 << 20);
            let frames: Vec<_> = lengths
                .iter()
                .map(|length| patterned(*length, of))
                .collect();
            let sent = frames.concat();
            let writing = async move {
                for piece in sent.chunks(piece) {
                    near.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let reading = async move {
                let mut frame = Vec::new();
                for expected in frames {
                    reader.announced(None).await.unwrap();
                    reader.next(&mut frame).await.unwrap();
                    assert!(frame == expected, "{} in pieces of {piece}", expected.len());
                    pool::give(&mut frame, pool::LARGEST);
                }
                assert!(reader.next(&mut frame).await.unwrap().is_none());
            };
            async { tokio::join!(writing, reading) }
        };
        tokio::join!(connection(0), connection(0x80));
    }
}
