//! A client that speaks the wire protocol by hand, so that it can do so wrongly.

use std::io;
use std::time::Duration;

use mongodb::bson::{self, Document, doc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use fieldseal::wire::{MAX_MESSAGE, flag, inflate, opcode};

use super::process::PATIENCE;

/// One connection, with no opinion on what is sent over it.
pub(crate) struct Wire {
    stream: TcpStream,
    sent: i32,
}

impl Wire {
    /// A connection to `host:port` that has said nothing yet.
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, sent: 0 }
    }

    /// The same from this address, which is the machine's own: one of 127.0.0.0/8.
    pub(crate) async fn connect_from(local: &str, address: &str) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        let local: std::net::IpAddr = local.parse().unwrap();
        socket.bind((local, 0).into()).unwrap();
        let stream = socket.connect(address.parse().unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, sent: 0 }
    }

    /// Sends bytes; false if the peer has closed the connection.
    ///
    /// # Panics
    /// When the peer neither reads nor closes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        sent.expect("the peer does not read").is_ok()
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn finish(&mut self) {
        // Fails if the peer has closed, which is as well.
        let _ = self.stream.shutdown().await;
    }

    /// Makes the close of the connection abrupt: what was not delivered is dropped.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// The next frame; none if the peer has closed the connection.
    ///
    /// # Panics
    /// When neither comes, or half a frame.
    pub(crate) async fn receive(&mut self) -> Option<Vec<u8>> {
        self.receive_within(PATIENCE).await
    }

    /// The same for what takes its time.
    ///
    /// # Panics
    /// When neither comes, or half a frame.
    pub(crate) async fn receive_within(&mut self, patience: Duration) -> Option<Vec<u8>> {
        let read = timeout(patience, self.frame()).await;
        read.expect("neither an answer nor a closed connection")
    }

    async fn frame(&mut self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 4];
        match self.stream.read_exact(&mut frame).await {
            Ok(_) => {}
            Err(error) if closed(&error) => return None,
            Err(error) => panic!("{error}"),
        }
        frame.resize(usize::try_from(int32_at(&frame, 0)).unwrap(), 0);
        match self.stream.read_exact(&mut frame[4..]).await {
            Ok(_) => Some(frame),
            Err(error) => panic!("in the middle of a frame: {error}"),
        }
    }

    /// Reads until the connection closes, and gives the frames that came.
    pub(crate) async fn receive_all(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.receive().await {
            frames.push(frame);
        }
        frames
    }

    /// Reads bytes until the connection closes, frames or not.
    ///
    /// # Panics
    /// When it stays open.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let reading = self.stream.read_to_end(&mut bytes);
        // A reset is an end too.
        let _ = timeout(PATIENCE, reading).await.expect("no end");
        bytes
    }

    /// Sends a command, numbered, with these flags and no sequences. Gives its number.
    pub(crate) async fn command(&mut self, flags: u32, command: &Document) -> i32 {
        self.sections(flags, &body(command)).await
    }

    /// Sends sections as an `OP_MSG`, numbered.
    pub(crate) async fn sections(&mut self, flags: u32, sections: &[u8]) -> i32 {
        self.sent += 1;
        let frame = numbered(msg(flags, sections), self.sent);
        assert!(self.send(&frame).await, "the connection is closed");
        self.sent
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn ask(&mut self, command: &Document) -> Document {
        let number = self.command(0, command).await;
        let frame = self.receive().await.expect("the connection was closed");
        assert_eq!(response_to(&frame), number);
        answer(&frame)
    }

    /// Sends a frame as it is and waits for its answer, whole.
    pub(crate) async fn exchange(&mut self, frame: &[u8]) -> Vec<u8> {
        assert!(self.send(frame).await, "the connection is closed");
        self.receive().await.expect("the connection was closed")
    }

    /// Says hello, as every driver first does.
    pub(crate) async fn hello(&mut self) -> Document {
        self.ask(&doc! { "hello": 1, "$db": "admin" }).await
    }

    /// Whether an ordinary command is answered as it should be.
    pub(crate) async fn works(&mut self) -> bool {
        let ping = msg(0, &body(&doc! { "ping": 1, "$db": "admin" }));
        if !self.send(&ping).await {
            return false;
        }
        let reply = self.receive().await;
        reply.is_some_and(|reply| answer(&reply).get_f64("ok").ok() == Some(1.0))
    }
}

fn closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// The little-endian number at `at`.
pub(crate) fn int32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

/// Which request a reply answers.
pub(crate) fn response_to(frame: &[u8]) -> i32 {
    int32_at(frame, 8)
}

/// The flags of an `OP_MSG`.
pub(crate) fn flags(frame: &[u8]) -> u32 {
    u32::from_le_bytes(*frame[16..].first_chunk().unwrap())
}

/// The document of a reply, of whatever opcode.
pub(crate) fn answer(frame: &[u8]) -> Document {
    let document = match int32_at(frame, 12) {
        opcode::MSG => &frame[21..],
        opcode::REPLY => &frame[36..],
        opcode::COMPRESSED => {
            let mut plain = Vec::new();
            inflate(frame, MAX_MESSAGE, &mut plain).unwrap();
            return answer(&plain);
        }
        other => panic!("a reply of opcode {other}"),
    };
    let length = usize::try_from(int32_at(document, 0)).unwrap();
    bson::deserialize_from_slice(&document[..length]).unwrap()
}

/// A document's bytes.
pub(crate) fn document(document: &Document) -> Vec<u8> {
    bson::serialize_to_vec(document).unwrap()
}

/// A section of kind 0.
pub(crate) fn body(command: &Document) -> Vec<u8> {
    [vec![0], document(command)].concat()
}

/// A section of kind 1 with these bytes for documents.
pub(crate) fn sequence(identifier: &str, documents: &[u8]) -> Vec<u8> {
    let size = i32::try_from(4 + identifier.len() + 1 + documents.len()).unwrap();
    [
        &[1],
        &size.to_le_bytes()[..],
        identifier.as_bytes(),
        &[0],
        documents,
    ]
    .concat()
}

/// A section of kind 1 with these documents.
pub(crate) fn sequence_of(identifier: &str, documents: &[Document]) -> Vec<u8> {
    let documents: Vec<u8> = documents.iter().flat_map(document).collect();
    sequence(identifier, &documents)
}

/// The frames that a stream consists of.
pub(crate) fn split(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let length = usize::try_from(int32_at(stream, 0)).unwrap();
        let (first, rest) = stream.split_at(length);
        frames.push(first);
        stream = rest;
    }
    frames
}

/// A frame of any opcode, with request id 7.
pub(crate) fn frame(opcode: i32, payload: &[u8]) -> Vec<u8> {
    let length = i32::try_from(16 + payload.len()).unwrap();
    let header = [length, 7, 0, opcode].map(i32::to_le_bytes).concat();
    [&header, payload].concat()
}

/// The frame with another request id, and with a right checksum if it has one.
pub(crate) fn numbered(mut frame: Vec<u8>, request_id: i32) -> Vec<u8> {
    frame[4..8].copy_from_slice(&request_id.to_le_bytes());
    if int32_at(&frame, 12) == opcode::MSG && flags(&frame) & flag::CHECKSUM_PRESENT != 0 {
        let end = frame.len() - 4;
        let checksum = crc32c::crc32c(&frame[..end]);
        frame[end..].copy_from_slice(&checksum.to_le_bytes());
    }
    frame
}

/// An `OP_MSG`, with a right checksum if the flags say that it has one.
pub(crate) fn msg(flags: u32, sections: &[u8]) -> Vec<u8> {
    let mut payload = [&flags.to_le_bytes(), sections].concat();
    if flags & flag::CHECKSUM_PRESENT != 0 {
        payload.extend([0; 4]);
    }
    numbered(frame(opcode::MSG, &payload), 7)
}

/// An `OP_QUERY`.
pub(crate) fn query(namespace: &str, documents: &[u8]) -> Vec<u8> {
    let numbers = [0_i32, -1].map(i32::to_le_bytes).concat();
    let payload = [&[0; 4], namespace.as_bytes(), &[0], &numbers, documents].concat();
    frame(opcode::QUERY, &payload)
}

/// An `OP_COMPRESSED` that says what it likes of what it holds.
pub(crate) fn compressed(original: i32, announced: i32, compressor: u8, packed: &[u8]) -> Vec<u8> {
    let numbers = [original, announced].map(i32::to_le_bytes).concat();
    let payload = [&numbers, &[compressor][..], packed].concat();
    frame(opcode::COMPRESSED, &payload)
}

/// Numbers that a seed determines, so that what a test did can be done again.
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed of its own for each run, said on standard error; `FIELDSEAL_SEED` sets it.
    pub(crate) fn seed() -> u64 {
        let seed = std::env::var("FIELDSEAL_SEED").map_or_else(
            |_| {
                let now = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap();
                u64::from(now.subsec_nanos())
            },
            |seed| seed.parse().expect("FIELDSEAL_SEED is a number"),
        );
        eprintln!("FIELDSEAL_SEED={seed}");
        seed
    }

    /// The next number (SplitMix64).
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// A byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }
}
