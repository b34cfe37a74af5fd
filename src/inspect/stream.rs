//! Documents one behind the other, each checked before the next is read.

use std::fmt;
use std::io::{BufRead, BufReader, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;

use crate::raw::{Doc, Malformed};

/// MongoDB's own bound for what it stores: 16 MiB, and 16 KiB for what wraps it.
const LARGEST: usize = (16 << 20) + (16 << 10);

/// The first bytes of gzip.
const GZIP: [u8; 2] = [0x1F, 0x8B];

/// Where and how a stream does not hold together.
#[derive(Debug, PartialEq, Eq)]
pub struct Damage {
    /// Counted from the beginning, after unpacking.
    pub at: u64,
    /// Whether the stream was packed, so that `at` is no place in the file.
    pub unpacked: bool,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unpacked = if self.unpacked { " once unpacked" } else { "" };
        write!(f, "damaged at byte {}{unpacked}: {}", self.at, self.what)
    }
}

impl Damage {
    fn at(place: (u64, bool), what: impl fmt::Display) -> Self {
        Self {
            at: place.0,
            unpacked: place.1,
            what: what.to_string(),
        }
    }

    /// A document that begins at `at` and is wrong inside.
    pub(super) fn within(at: (u64, bool), malformed: Malformed) -> Self {
        Self::at(
            at,
            format_args!("in the document that begins there: {malformed}"),
        )
    }
}

/// A stream of documents.
pub(super) struct Documents<'r> {
    from: Box<dyn BufRead + 'r>,
    unpacked: bool,
    /// How far it was read.
    offset: u64,
    /// The four bytes before `offset`, if they were read ahead of what they begin.
    ahead: Option<[u8; 4]>,
    /// The document that was read last.
    buffer: Vec<u8>,
}

/// A document, and where in the stream it begins.
#[derive(Debug)]
pub(super) struct Document<'b> {
    pub(super) at: (u64, bool),
    pub(super) doc: Doc<'b>,
}

/// What four bytes begin.
enum Beginning {
    End,
    /// Of a document: its length.
    Length([u8; 4]),
}

impl<'r> Documents<'r> {
    /// Looks whether the stream is packed.
    pub(super) fn open(from: impl Read + 'r) -> Result<Self, Damage> {
        let mut from = BufReader::with_capacity(1 << 16, from);
        let mut first = Vec::new();
        Read::by_ref(&mut from)
            .take(2)
            .read_to_end(&mut first)
            .map_err(|error| Damage::at((0, false), error))?;
        let unpacked = first == GZIP;
        let whole = std::io::Cursor::new(first).chain(from);
        let from: Box<dyn BufRead + 'r> = if unpacked {
            Box::new(BufReader::with_capacity(
                1 << 16,
                MultiGzDecoder::new(whole),
            ))
        } else {
            Box::new(whole)
        };
        let mut documents = Self {
            from,
            unpacked,
            offset: 0,
            ahead: None,
            buffer: Vec::new(),
        };
        if let Beginning::Length(bytes) = documents.beginning()? {
            documents.ahead = Some(bytes);
        }
        Ok(documents)
    }

    /// Whether the stream begins so; if so, goes past it.
    pub(super) fn begins_with(&mut self, magic: [u8; 4]) -> bool {
        self.offset == 4 && self.ahead.take_if(|ahead| *ahead == magic).is_some()
    }

    /// What is wrong where the stream was read to.
    pub(super) fn damage(&self, what: impl fmt::Display) -> Damage {
        Damage::at((self.offset, self.unpacked), what)
    }

    /// The next document; none at the end of the stream.
    pub(super) fn document(&mut self) -> Result<Option<Document<'_>>, Damage> {
        match self.beginning()? {
            Beginning::End => Ok(None),
            Beginning::Length(length) => self.rest(length).map(Some),
        }
    }

    /// The next document; none if `terminator` stands in its place. The end of the
    /// stream is an error.
    pub(super) fn document_or(
        &mut self,
        terminator: [u8; 4],
    ) -> Result<Option<Document<'_>>, Damage> {
        match self.beginning()? {
            Beginning::End => Err(self.damage("the archive is cut off")),
            Beginning::Length(bytes) if bytes == terminator => Ok(None),
            Beginning::Length(length) => self.rest(length).map(Some),
        }
    }

    fn beginning(&mut self) -> Result<Beginning, Damage> {
        if let Some(bytes) = self.ahead.take() {
            return Ok(Beginning::Length(bytes));
        }
        self.buffer.clear();
        self.fill(4)?;
        match self.buffer.first_chunk::<4>() {
            Some(bytes) => Ok(Beginning::Length(*bytes)),
            None if self.buffer.is_empty() => Ok(Beginning::End),
            None => Err(self.damage("the end comes within the length of a document")),
        }
    }

    /// The document whose length was read.
    fn rest(&mut self, length: [u8; 4]) -> Result<Document<'_>, Damage> {
        let at = (self.offset.saturating_sub(4), self.unpacked);
        let announced = i32::from_le_bytes(length);
        let bytes = usize::try_from(announced)
            .ok()
            .filter(|bytes| (5..=LARGEST).contains(bytes))
            .ok_or_else(|| {
                Damage::at(
                    at,
                    format_args!("{announced} is not the length of a document"),
                )
            })?;
        self.buffer.clear();
        self.buffer.extend_from_slice(&length);
        self.fill(bytes - 4)?;
        if self.buffer.len() < bytes {
            let what = format_args!(
                "the end comes within the document that begins at byte {}, of {bytes} bytes",
                at.0
            );
            return Err(self.damage(what));
        }
        let doc = Doc::whole(&self.buffer).map_err(|malformed| Damage::within(at, malformed))?;
        Ok(Document { at, doc })
    }

    /// Adds as many bytes to the buffer, or as many as there are.
    fn fill(&mut self, bytes: usize) -> Result<(), Damage> {
        let limit = u64::try_from(bytes).unwrap_or(u64::MAX);
        let before = self.buffer.len();
        let read = (&mut self.from).take(limit).read_to_end(&mut self.buffer);
        let added = self.buffer.len() - before;
        self.offset = self
            .offset
            .saturating_add(u64::try_from(added).unwrap_or(u64::MAX));
        match read {
            Ok(_) => Ok(()),
            Err(error) if self.unpacked && error.kind() == ErrorKind::UnexpectedEof => {
                Err(self.damage("the end comes within what gzip packed"))
            }
            Err(error) => Err(self.damage(error)),
        }
    }
}
