//! Replies: `OP_MSG` and the legacy `OP_REPLY`.

use std::ops::Range;

use super::frame::{HEADER, Header, WireError, finish, flag, int32_at, opcode};
use super::{Message, OpMsg};
use crate::raw::{Doc, Writer};
use crate::refusal::Refusal;

/// Where the first document of an `OP_REPLY` begins: after flags, cursor id, start and number.
const FIRST_DOCUMENT: usize = HEADER + 20;

/// The flag of `OP_REPLY` that MongoDB sets in every one since 1.6.
const AWAIT_CAPABLE: i32 = 8;

/// A reply as recognised.
#[derive(Debug)]
pub enum Reply<'a> {
    /// `OP_MSG`.
    Msg(OpMsg<'a>),
    /// `OP_REPLY`, the answer to an `OP_QUERY`.
    Legacy(OpReply<'a>),
}

/// An `OP_REPLY` with the one document of a command's answer.
#[derive(Debug)]
pub struct OpReply<'a> {
    /// The whole frame, header included.
    pub frame: &'a [u8],
    /// Where the document lies in `frame`.
    pub document: Range<usize>,
}

impl<'a> Reply<'a> {
    /// Recognises an uncompressed reply.
    pub fn recognise(frame: &'a [u8]) -> Result<Self, WireError> {
        match Header::of(frame)?.opcode {
            opcode::MSG => Ok(Self::Msg(OpMsg::recognise(frame)?)),
            opcode::REPLY => Ok(Self::Legacy(OpReply::recognise(frame)?)),
            other => Err(WireError::Opcode(other)),
        }
    }

    /// The whole frame.
    pub fn frame(&self) -> &'a [u8] {
        match self {
            Self::Msg(message) => message.frame,
            Self::Legacy(reply) => reply.frame,
        }
    }

    /// Where the answer lies in the frame.
    pub fn body(&self) -> Range<usize> {
        match self {
            Self::Msg(message) => message.body.clone(),
            Self::Legacy(reply) => reply.document.clone(),
        }
    }

    /// Whether another reply follows without a request.
    pub fn more_to_come(&self) -> bool {
        match self {
            Self::Msg(message) => message.flags & flag::MORE_TO_COME != 0,
            Self::Legacy(_) => false,
        }
    }
}

impl<'a> OpReply<'a> {
    fn recognise(frame: &'a [u8]) -> Result<Self, WireError> {
        if int32_at(frame, FIRST_DOCUMENT - 4) != Some(1) {
            return Err(WireError::Malformed(
                "an OP_REPLY to a command has one document",
            ));
        }
        let document = Doc::at(frame, FIRST_DOCUMENT, frame.len())?;
        if document.end() != frame.len() {
            return Err(WireError::Malformed(
                "bytes follow the document of an OP_REPLY",
            ));
        }
        Ok(Self {
            frame,
            document: document.start()..document.end(),
        })
    }
}

/// In which form a request wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyForm {
    /// `OP_MSG`.
    Msg,
    /// `OP_REPLY`.
    Legacy,
}

impl ReplyForm {
    /// The form that answers `request`.
    pub fn answering(request: &Message<'_>) -> Self {
        match request {
            Message::Msg(_) => Self::Msg,
            Message::Query(_) => Self::Legacy,
        }
    }
}

/// Builds in `out` the error reply to the request numbered `response_to`.
pub fn error_reply(
    form: ReplyForm,
    request_id: i32,
    response_to: i32,
    refusal: &Refusal,
    out: &mut Vec<u8>,
) {
    short_reply(form, request_id, response_to, out, |writer| {
        writer.double("ok", 0.0);
        writer.string("errmsg", &refusal.told());
        writer.int32("code", refusal.kind.code());
        writer.string("codeName", refusal.kind.code_name());
    });
}

/// Builds in `out` a reply whose document, a short one, `write` writes.
pub fn short_reply(
    form: ReplyForm,
    request_id: i32,
    response_to: i32,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Writer<'_>),
) {
    out.clear();
    match form {
        ReplyForm::Msg => {
            Header::append(request_id, response_to, opcode::MSG, out);
            // No flags, and one section of kind 0.
            out.extend_from_slice(&[0; 5]);
        }
        ReplyForm::Legacy => {
            Header::append(request_id, response_to, opcode::REPLY, out);
            out.extend_from_slice(&AWAIT_CAPABLE.to_le_bytes());
            out.extend_from_slice(&[0; 12]);
            out.extend_from_slice(&1_i32.to_le_bytes());
        }
    }
    let mut writer = Writer::new(out);
    let open = writer.begin();
    write(&mut writer);
    writer.end(open);
    finish(out).expect("such a reply is a header and a short document");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Document, doc};

    use super::*;
    use crate::refusal::RefusalKind;
    use crate::wire::testing::{body, document, msg, reply};

    fn answer(frame: &[u8]) -> Document {
        let reply = Reply::recognise(frame).unwrap();
        bson::deserialize_from_slice(&frame[reply.body()]).unwrap()
    }

    #[test]
    fn an_error_reply_answers_in_the_form_of_its_request() {
        let refusal = Refusal::new(RefusalKind::NotSupported, "no");
        let expected = doc! {"ok": 0.0, "errmsg": "fieldseal: no [FS1002]", "code": 115, "codeName": "CommandNotSupported"};
        for (form, opcode) in [
            (ReplyForm::Msg, opcode::MSG),
            (ReplyForm::Legacy, opcode::REPLY),
        ] {
            let mut frame = vec![1, 2, 3];
            error_reply(form, 41, 40, &refusal, &mut frame);
            let header = Header::of(&frame).unwrap();
            assert_eq!(
                (header.request_id, header.response_to, header.opcode),
                (41, 40, opcode)
            );
            assert_eq!(answer(&frame), expected);
        }
    }

    #[test]
    fn replies_are_recognised_as_a_whole() {
        assert_eq!(answer(&reply(&doc! {"ok": 1.0})), doc! {"ok": 1.0});
        let streamed = msg(flag::MORE_TO_COME, &body(&doc! {"ok": 1.0}));
        assert!(Reply::recognise(&streamed).unwrap().more_to_come());
        let last = msg(0, &body(&doc! {"ok": 1.0}));
        assert!(!Reply::recognise(&last).unwrap().more_to_come());
    }

    #[test]
    fn a_legacy_reply_with_more_or_less_than_one_document_is_an_error() {
        let one = reply(&doc! {"ok": 1.0});
        for number in [0, 2, -1] {
            let mut frame = one.clone();
            frame[32..36].copy_from_slice(&i32::to_le_bytes(number));
            assert!(Reply::recognise(&frame).is_err());
        }
        let mut frame = [one.clone(), document(&doc! {})].concat();
        finish(&mut frame).unwrap();
        assert!(Reply::recognise(&frame).is_err());
        for cut in 0..one.len() {
            let mut frame = one[..cut].to_vec();
            if finish(&mut frame).is_ok() {
                assert!(Reply::recognise(&frame).is_err(), "cut at {cut}");
            }
        }
    }
}
