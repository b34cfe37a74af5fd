//! Frames of the wire protocol made by hand, and a client that sends them as they are.

use std::time::Duration;

use mongodb::bson::{self, Document};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::process::PATIENCE;

/// The opcode of `OP_MSG`.
pub(crate) const MSG: i32 = 2013;
/// The opcode of `OP_QUERY`.
pub(crate) const QUERY: i32 = 2004;
/// The opcode of `OP_COMPRESSED`.
pub(crate) const COMPRESSED: i32 = 2012;

/// A checksum ends the frame.
pub(crate) const CHECKSUM_PRESENT: u32 = 1;
/// No reply is wanted; in a reply, another one follows.
pub(crate) const MORE_TO_COME: u32 = 1 << 1;
/// Several replies are welcome.
pub(crate) const EXHAUST_ALLOWED: u32 = 1 << 16;

/// A document's bytes.
pub(crate) fn bytes_of(document: &Document) -> Vec<u8> {
    bson::serialize_to_vec(document).unwrap()
}

/// A section of kind 0.
pub(crate) fn body(command: &Document) -> Vec<u8> {
    raw_body(&bytes_of(command))
}

/// A section of kind 0 of a document's bytes.
pub(crate) fn raw_body(command: &[u8]) -> Vec<u8> {
    [&[0], command].concat()
}

/// A section of kind 1.
pub(crate) fn sequence(identifier: &str, documents: &[Document]) -> Vec<u8> {
    let documents: Vec<u8> = documents.iter().flat_map(bytes_of).collect();
    let size = i32::try_from(4 + identifier.len() + 1 + documents.len()).unwrap();
    let size = size.to_le_bytes();
    [&[1], &size[..], identifier.as_bytes(), &[0], &documents].concat()
}

/// A whole frame.
pub(crate) fn frame(request_id: i32, opcode: i32, content: &[u8]) -> Vec<u8> {
    let length = i32::try_from(16 + content.len()).unwrap();
    let header = [length, request_id, 0, opcode];
    let header = header.iter().flat_map(|number| number.to_le_bytes());
    header.chain(content.iter().copied()).collect()
}

/// An `OP_MSG`, with its checksum if the flags say that it has one.
pub(crate) fn msg(request_id: i32, flags: u32, sections: &[&[u8]]) -> Vec<u8> {
    let mut content = flags.to_le_bytes().to_vec();
    sections
        .iter()
        .for_each(|section| content.extend_from_slice(section));
    if flags & CHECKSUM_PRESENT == 0 {
        return frame(request_id, MSG, &content);
    }
    content.extend_from_slice(&[0; 4]);
    let mut whole = frame(request_id, MSG, &content);
    let covered = whole.len() - 4;
    let checksum = crc32c::crc32c(&whole[..covered]);
    whole[covered..].copy_from_slice(&checksum.to_le_bytes());
    whole
}

/// An `OP_QUERY` for one document.
pub(crate) fn query(request_id: i32, namespace: &str, query: &Document) -> Vec<u8> {
    let mut content = 4_i32.to_le_bytes().to_vec();
    content.extend_from_slice(namespace.as_bytes());
    content.push(0);
    content.extend_from_slice(&0_i32.to_le_bytes());
    content.extend_from_slice(&(-1_i32).to_le_bytes());
    content.extend_from_slice(&bytes_of(query));
    frame(request_id, QUERY, &content)
}

/// The numbers of the compressors.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packing {
    Snappy = 1,
    Zlib = 2,
    Zstd = 3,
}

/// The frame in an `OP_COMPRESSED`.
pub(crate) fn compressed(whole: &[u8], packing: Packing) -> Vec<u8> {
    use std::io::Write as _;

    let content = &whole[16..];
    let packed = match packing {
        Packing::Snappy => snap::raw::Encoder::new().compress_vec(content).unwrap(),
        Packing::Zlib => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => zstd::bulk::compress(content, 3).unwrap(),
    };
    let size = i32::try_from(content.len()).unwrap().to_le_bytes();
    let packing = [packing as u8];
    let content = [&whole[12..16], &size, &packing, &packed].concat();
    let request_id = number_at(whole, 4);
    frame(request_id, COMPRESSED, &content)
}

/// The `int32` at `at`.
pub(crate) fn number_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The body of an `OP_MSG`, which is its first section.
pub(crate) fn body_of(whole: &[u8]) -> Document {
    assert_eq!((number_at(whole, 12), whole[20]), (MSG, 0));
    bson::deserialize_from_slice(&whole[21..21 + length_at(whole, 21)]).unwrap()
}

/// The flags of an `OP_MSG`.
pub(crate) fn flags_of(whole: &[u8]) -> u32 {
    u32::from_le_bytes(whole[16..20].try_into().unwrap())
}

/// The frames that a stream consists of.
pub(crate) fn split(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let (first, rest) = stream.split_at(length_at(stream, 0));
        frames.push(first);
        stream = rest;
    }
    frames
}

fn length_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(number_at(bytes, at)).unwrap()
}

/// A client that sends and receives bytes as they are.
pub(crate) struct RawClient(TcpStream);

impl RawClient {
    /// Connects to `address`, `host:port`.
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next frame.
    ///
    /// # Panics
    /// When it does not come.
    pub(crate) async fn receive(&mut self) -> Vec<u8> {
        timeout(PATIENCE, self.next()).await.unwrap().unwrap()
    }

    /// Sends a request and receives its reply.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.send(request).await;
        self.receive().await
    }

    /// Ends the sending, as a client does that has said all.
    pub(crate) async fn end(&mut self) {
        // The server may have closed the connection already.
        let _ = self.0.shutdown().await;
    }

    /// All that comes until the server closes the connection.
    ///
    /// # Panics
    /// When it does not close it within `patience`.
    pub(crate) async fn rest(&mut self, patience: Duration) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = timeout(patience, self.0.read_to_end(&mut rest))
            .await
            .expect("the connection is closed");
        rest
    }

    async fn next(&mut self) -> std::io::Result<Vec<u8>> {
        let mut whole = vec![0; 4];
        self.0.read_exact(&mut whole).await?;
        whole.resize(length_at(&whole, 0), 0);
        self.0.read_exact(&mut whole[4..]).await?;
        Ok(whole)
    }
}
