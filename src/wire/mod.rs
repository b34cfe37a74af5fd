//! Frames of the MongoDB wire protocol: pure functions over bytes, no I/O.

mod compress;
mod frame;
mod message;
mod reply;
#[cfg(any(test, fuzzing))]
pub(crate) mod testing;

use std::ops::Range;

pub use compress::{Compressor, inflate};
pub use frame::{HEADER, Header, MAX_MESSAGE, WireError, finish, flag, opcode};
pub use reply::{OpReply, Reply, ReplyForm, error_reply, short_reply};

/// A request as recognised: every byte of the frame is accounted for.
#[derive(Debug)]
pub enum Message<'a> {
    /// `OP_MSG`, the only opcode for commands since MongoDB 5.1.
    Msg(OpMsg<'a>),
    /// `OP_QUERY`, which MongoDB still takes for `hello` and `isMaster`.
    Query(OpQuery<'a>),
}

/// An `OP_MSG` whose sections have been found and checked to fill the frame.
#[derive(Debug)]
pub struct OpMsg<'a> {
    /// The whole frame, header included, checksum included if there is one.
    pub frame: &'a [u8],
    /// The flag bits.
    pub flags: u32,
    /// Where the kind-0 document lies in `frame` (the document itself, without the kind byte).
    pub body: Range<usize>,
    /// The kind-1 sections, in the order of the frame.
    pub sequences: Vec<Sequence<'a>>,
}

/// A kind-1 section: a named sequence of documents.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// The name of the command's field that the documents stand for.
    pub identifier: &'a str,
    /// Where the section's `int32` size lies in the frame (right after the kind byte); the size counts itself.
    pub size_at: usize,
    /// Where the documents lie in the frame, back to back.
    pub documents: Range<usize>,
}

/// A legacy `OP_QUERY`.
#[derive(Debug)]
pub struct OpQuery<'a> {
    /// The whole frame, header included.
    pub frame: &'a [u8],
    /// `database.collection`, for commands `database.$cmd`.
    pub namespace: &'a str,
    /// Where the query document lies in `frame`.
    pub query: Range<usize>,
    /// Whether a field selector follows the query.
    pub has_selector: bool,
}
