//! Frames for tests, built without the code under test where that is possible.
#![allow(clippy::unwrap_used, reason = "tests")]

use bson::Document;

use super::frame::{Header, finish, flag, opcode};

/// A document's bytes.
pub(crate) fn document(document: &Document) -> Vec<u8> {
    bson::serialize_to_vec(document).unwrap()
}

/// A section of kind 0.
pub(crate) fn body(command: &Document) -> Vec<u8> {
    [vec![0], document(command)].concat()
}

/// A section of kind 1.
pub(crate) fn sequence(identifier: &str, documents: &[Document]) -> Vec<u8> {
    let documents: Vec<u8> = documents.iter().flat_map(document).collect();
    let size = i32::try_from(4 + identifier.len() + 1 + documents.len()).unwrap();
    [
        &[1][..],
        &size.to_le_bytes(),
        identifier.as_bytes(),
        &[0],
        &documents,
    ]
    .concat()
}

/// An `OP_MSG` with request id 7, answering 3; with a checksum if the flags say so.
pub(crate) fn msg(flags: u32, sections: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    Header::append(7, 3, opcode::MSG, &mut frame);
    frame.extend_from_slice(&flags.to_le_bytes());
    frame.extend_from_slice(sections);
    if flags & flag::CHECKSUM_PRESENT != 0 {
        frame.extend_from_slice(&[0; 4]);
    }
    finish(&mut frame).unwrap();
    frame
}

/// An `OP_QUERY` with request id 7.
pub(crate) fn query(namespace: &str, documents: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    Header::append(7, 0, opcode::QUERY, &mut frame);
    frame.extend_from_slice(&4_i32.to_le_bytes());
    frame.extend_from_slice(namespace.as_bytes());
    frame.push(0);
    frame.extend_from_slice(&0_i32.to_le_bytes());
    frame.extend_from_slice(&(-1_i32).to_le_bytes());
    frame.extend_from_slice(documents);
    finish(&mut frame).unwrap();
    frame
}

/// An `OP_REPLY` with request id 9, answering 7.
pub(crate) fn reply(answer: &Document) -> Vec<u8> {
    let mut frame = Vec::new();
    Header::append(9, 7, opcode::REPLY, &mut frame);
    frame.extend_from_slice(&8_i32.to_le_bytes());
    frame.extend_from_slice(&[0; 12]);
    frame.extend_from_slice(&1_i32.to_le_bytes());
    frame.extend_from_slice(&document(answer));
    finish(&mut frame).unwrap();
    frame
}
