//! What peers send: frames, messages, BSON.

use bson::RawDocument;

use super::POLICIES;
use super::choices::Choices;
use crate::raw::{Doc, kind};
use crate::rewrite::{Decision, decide};
use crate::wire::{
    Compressor, HEADER, Header, MAX_MESSAGE, Message, Reply, ReplyForm, error_reply, finish,
    inflate, opcode,
};

/// A limit as small as a fuzzer's inputs, so that both sides of it are met.
const LIMIT: usize = 1 << 12;

/// A header is judged alike however its bytes arrive, and what it announces is within the limit.
pub(super) fn frame(bytes: &[u8]) {
    for limit in [LIMIT, MAX_MESSAGE] {
        let whole = Header::read(bytes, limit);
        for cut in 0..bytes.len().min(HEADER) {
            match Header::read(&bytes[..cut], limit) {
                Ok(None) => {}
                Ok(Some(_)) => panic!("a header of {cut} bytes"),
                early => assert_eq!(early, whole, "judged anew with more bytes"),
            }
        }
        if let Ok(Some(header)) = whole {
            assert!((HEADER..=limit).contains(&header.length));
            let mut again = Vec::new();
            Header::append(
                header.request_id,
                header.response_to,
                header.opcode,
                &mut again,
            );
            assert_eq!(again[4..], bytes[4..HEADER]);
        }
    }
    if Header::of(bytes).is_ok() {
        let _ = Message::recognise(bytes);
        let _ = Reply::recognise(bytes);
        let _ = inflate(bytes, LIMIT, &mut Vec::new());
    }
}

/// The first byte says what the rest becomes the sections of, and under which policy.
pub(super) fn op_msg(bytes: &[u8]) {
    let mut choices = Choices::of(bytes);
    let opcode = choices.pick(&[opcode::MSG, opcode::MSG, opcode::MSG, opcode::QUERY]);
    let policy = match choices.below(3) {
        0 => &POLICIES.plain,
        1 => &POLICIES.epochs,
        _ => &POLICIES.writer,
    };
    let mut request = Vec::new();
    Header::append(7, 0, opcode, &mut request);
    request.extend_from_slice(choices.rest());
    if finish(&mut request).is_err() {
        return;
    }
    let Ok(message) = Message::recognise(&request) else {
        return;
    };
    let mut scratch = vec![1, 2, 3];
    match decide(&message, policy, &mut scratch) {
        Decision::Forward { cleared, .. } => {
            let sent = Message::recognise(cleared.bytes()).expect("what is cleared is a message");
            assert_eq!(sent.wants_reply(), message.wants_reply());
        }
        Decision::Refuse(refusal) => {
            assert!(refusal.message.starts_with("fieldseal: "));
            assert!(!refusal.to_string().contains(['\n', '\r']));
            let mut answer = Vec::new();
            error_reply(ReplyForm::answering(&message), 1, 7, &refusal, &mut answer);
            Reply::recognise(&answer).expect("an error reply is a reply");
        }
    }
}

/// Of the announced length or an error, and never beyond the limit; and what a compressor makes
/// of the bytes comes back from it.
pub(super) fn op_compressed(bytes: &[u8]) {
    let mut choices = Choices::of(bytes);
    let compressors = [
        Compressor::Noop,
        Compressor::Snappy,
        Compressor::Zlib,
        Compressor::Zstd,
    ];
    let compressor = choices.pick(&compressors);
    let announced = i32::from(choices.byte()) | i32::from(choices.byte()) << 8;
    let rest = choices.rest();
    let mut packed = Vec::new();
    Header::append(7, 3, opcode::COMPRESSED, &mut packed);
    packed.extend_from_slice(&opcode::MSG.to_le_bytes());
    packed.extend_from_slice(&announced.to_le_bytes());
    let id = compressors.iter().position(|known| *known == compressor);
    packed.push(u8::try_from(id.unwrap_or_default()).unwrap_or_default());
    packed.extend_from_slice(rest);
    finish(&mut packed).expect("a short frame");
    let mut out = vec![9];
    if inflate(&packed, LIMIT, &mut out).is_ok() {
        assert_eq!(
            i32::try_from(out.len()),
            Ok(announced + 16),
            "the announced length"
        );
        assert!(out.len() <= LIMIT);
        assert!(Header::of(&out).is_ok());
    }
    let mut frame = Vec::new();
    Header::append(7, 3, opcode::MSG, &mut frame);
    frame.extend_from_slice(rest);
    finish(&mut frame).expect("a short frame");
    let mut packed = Vec::new();
    compressor
        .compress(&frame, &mut packed)
        .expect("any frame can be compressed");
    assert_eq!(inflate(&packed, MAX_MESSAGE, &mut out), Ok(compressor));
    assert_eq!(out, frame, "the same frame");
}

/// Deeper than any document that a fuzzer makes.
const DEEPEST: usize = 200;

/// Two readers that know nothing of each other see the same elements.
pub(super) fn bson(bytes: &[u8]) {
    let ours = Doc::whole(bytes).and_then(|doc| doc.validate(DEEPEST).map(|()| doc));
    if let Ok(doc) = ours {
        // Every part that can be asked for is there.
        walk(doc);
    }
    let Ok(theirs) = RawDocument::from_bytes(bytes) else {
        return;
    };
    let elements: Result<Vec<_>, _> = theirs.iter().collect();
    let (Ok(elements), Ok(doc)) = (elements, Doc::whole(bytes)) else {
        return;
    };
    let known = doc.elements().collect::<Result<Vec<_>, _>>();
    let known = known.expect("what another reader takes is well-formed");
    assert_eq!(known.len(), elements.len());
    for (element, (key, value)) in known.iter().zip(elements) {
        assert_eq!(element.key, key.as_str());
        assert_eq!(element.kind, u8::from_be(value.element_type() as u8));
        assert_eq!(
            element.str(),
            value.as_str().filter(|_| element.kind == kind::STRING)
        );
        assert_eq!(
            element.doc().ok().map(|doc| doc.bytes()),
            value
                .as_document()
                .map(RawDocument::as_bytes)
                .or_else(|| value.as_array().map(bson::RawArray::as_bytes))
        );
    }
}

fn walk(doc: Doc<'_>) {
    for element in doc.elements() {
        let element = element.expect("validated");
        assert!(element.start < element.value_start && element.value_start <= element.end);
        assert!(element.end < doc.end());
        let _ = (element.value(), element.bytes(), element.str());
        let _ = (element.integer(), element.key);
        if let Ok(inner) = element.doc() {
            walk(inner);
        }
    }
}
