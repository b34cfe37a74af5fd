//! Requests, recognised as a whole before anything acts on them.

use super::frame::{HEADER, Header, WireError, flag, int32_at, opcode, sections_end, uint32_at};
use super::{Message, OpMsg, OpQuery, Sequence};
use crate::raw::Doc;

/// No command has more than two kind-1 sections; a bound keeps the search for duplicates short.
const MAX_SEQUENCES: usize = 16;

/// The flag bit of `OP_QUERY` that would have the server push replies.
const QUERY_EXHAUST: i32 = 1 << 6;

impl<'a> Message<'a> {
    /// Recognises an uncompressed request.
    pub fn recognise(frame: &'a [u8]) -> Result<Self, WireError> {
        match Header::of(frame)?.opcode {
            opcode::MSG => Ok(Self::Msg(OpMsg::recognise(frame)?)),
            opcode::QUERY => Ok(Self::Query(OpQuery::recognise(frame)?)),
            other => Err(WireError::Opcode(other)),
        }
    }

    /// The whole frame.
    pub fn frame(&self) -> &'a [u8] {
        match self {
            Self::Msg(message) => message.frame,
            Self::Query(query) => query.frame,
        }
    }

    /// Whether the client waits for a reply.
    pub fn wants_reply(&self) -> bool {
        match self {
            Self::Msg(message) => message.flags & flag::MORE_TO_COME == 0,
            Self::Query(_) => true,
        }
    }
}

impl<'a> OpMsg<'a> {
    /// Recognises an `OP_MSG`, a request or a reply: every byte is accounted for.
    pub fn recognise(frame: &'a [u8]) -> Result<Self, WireError> {
        if Header::of(frame)?.opcode != opcode::MSG {
            return Err(WireError::Malformed("an OP_MSG was expected"));
        }
        let flags =
            uint32_at(frame, HEADER).ok_or(WireError::Malformed("the flags are cut off"))?;
        let known = flag::CHECKSUM_PRESENT | flag::MORE_TO_COME;
        let unknown = flags & flag::REQUIRED & !known;
        if unknown != 0 {
            return Err(WireError::Flags(unknown));
        }
        let end = sections_end(frame, flags)?;
        let mut at = HEADER + 4;
        let mut body = None;
        let mut sequences: Vec<Sequence<'a>> = Vec::new();
        while at < end {
            match frame.get(at) {
                Some(0) => {
                    let document = Doc::at(frame, at + 1, end)?;
                    if body.replace(document.start()..document.end()).is_some() {
                        return Err(WireError::Malformed("two sections of kind 0"));
                    }
                    at = document.end();
                }
                Some(1) => {
                    let sequence = Sequence::read(frame, at + 1, end)?;
                    if sequences
                        .iter()
                        .any(|other| other.identifier == sequence.identifier)
                    {
                        return Err(WireError::Malformed(
                            "two sections have the same identifier",
                        ));
                    }
                    if sequences.len() == MAX_SEQUENCES {
                        return Err(WireError::Malformed("too many sections"));
                    }
                    at = sequence.documents.end;
                    sequences.push(sequence);
                }
                _ => return Err(WireError::Malformed("an unknown kind of section")),
            }
        }
        Ok(Self {
            frame,
            flags,
            body: body.ok_or(WireError::Malformed("no section of kind 0"))?,
            sequences,
        })
    }
}

impl<'a> Sequence<'a> {
    /// The section whose size is at `size_at`; it may not pass `limit`.
    fn read(frame: &'a [u8], size_at: usize, limit: usize) -> Result<Self, WireError> {
        let size = int32_at(frame.get(..limit).unwrap_or_default(), size_at)
            .and_then(|size| usize::try_from(size).ok())
            .ok_or(WireError::Malformed(
                "the size of a section is cut off or negative",
            ))?;
        let end = size_at
            .checked_add(size)
            .filter(|end| *end <= limit)
            .ok_or(WireError::Malformed("a section is longer than its frame"))?;
        let (identifier, first) = cstring(frame, size_at + 4, end)?;
        let mut at = first;
        while at < end {
            at = Doc::at(frame, at, end)?.end();
        }
        Ok(Self {
            identifier,
            size_at,
            documents: first..end,
        })
    }
}

impl<'a> OpQuery<'a> {
    /// Recognises an `OP_QUERY`.
    fn recognise(frame: &'a [u8]) -> Result<Self, WireError> {
        let flags = int32_at(frame, HEADER).ok_or(WireError::Malformed("the flags are cut off"))?;
        if flags & QUERY_EXHAUST != 0 {
            return Err(WireError::Malformed("an OP_QUERY asks for exhaust"));
        }
        let (namespace, skip) = cstring(frame, HEADER + 4, frame.len())?;
        // Two numbers follow, how many to skip and to return; a command has one answer whatever they are.
        let query = Doc::at(frame, skip + 8, frame.len())?;
        let has_selector = query.end() != frame.len();
        if has_selector && Doc::at(frame, query.end(), frame.len())?.end() != frame.len() {
            return Err(WireError::Malformed("bytes follow the field selector"));
        }
        Ok(Self {
            frame,
            namespace,
            query: query.start()..query.end(),
            has_selector,
        })
    }
}

/// The string at `at` that a zero ends before `limit`, and what is after it.
fn cstring(frame: &[u8], at: usize, limit: usize) -> Result<(&str, usize), WireError> {
    let rest = frame
        .get(at..limit)
        .ok_or(WireError::Malformed("a string is cut off"))?;
    let length = memchr::memchr(0, rest).ok_or(WireError::Malformed("a string does not end"))?;
    let text = std::str::from_utf8(&rest[..length])
        .map_err(|_| WireError::Malformed("a string is not UTF-8"))?;
    Ok((text, at + length + 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::doc;

    use super::*;
    use crate::wire::finish;
    use crate::wire::testing::{body, document, msg, query, sequence};

    fn error_of(frame: &[u8]) -> WireError {
        Message::recognise(frame).unwrap_err()
    }

    #[test]
    fn sections_come_in_any_order() {
        let command = body(&doc! {"insert": "customers"});
        let documents = sequence("documents", &[doc! {"_id": 1}, doc! {"_id": 2}]);
        for sections in [[&command[..], &documents], [&documents[..], &command]] {
            let frame = msg(0, &sections.concat());
            let Message::Msg(message) = Message::recognise(&frame).unwrap() else {
                panic!("not an OP_MSG");
            };
            assert_eq!(
                frame[message.body.clone()],
                document(&doc! {"insert": "customers"})
            );
            let [found] = &message.sequences[..] else {
                panic!("not one sequence");
            };
            assert_eq!(found.identifier, "documents");
            let expected = [document(&doc! {"_id": 1}), document(&doc! {"_id": 2})].concat();
            assert_eq!(frame[found.documents.clone()], expected);
            assert_eq!(
                int32_at(&frame, found.size_at),
                Some(i32::try_from(4 + 10 + expected.len()).unwrap())
            );
        }
    }

    #[test]
    fn every_truncation_of_a_message_is_an_error() {
        // The body comes last, so that no shorter message is a whole one.
        let sections = [
            sequence("documents", &[doc! {"_id": 1}]),
            body(&doc! {"insert": "c"}),
        ]
        .concat();
        let whole = msg(flag::CHECKSUM_PRESENT, &sections);
        assert!(Message::recognise(&whole).is_ok());
        for cut in 0..whole.len() {
            assert!(Message::recognise(&whole[..cut]).is_err());
            // The same with a header that owns up to it and a good checksum.
            let mut frame = whole[..cut].to_vec();
            if finish(&mut frame).is_ok() {
                assert!(Message::recognise(&frame).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_message_has_exactly_one_body() {
        let command = body(&doc! {"ping": 1});
        assert_eq!(
            error_of(&msg(0, &command.repeat(2))),
            WireError::Malformed("two sections of kind 0")
        );
        assert_eq!(
            error_of(&msg(0, &[])),
            WireError::Malformed("no section of kind 0")
        );
        let only = sequence("documents", &[doc! {}]);
        assert_eq!(
            error_of(&msg(0, &only)),
            WireError::Malformed("no section of kind 0")
        );
    }

    #[test]
    fn trailing_bytes_and_unknown_sections_are_errors() {
        for byte in 0..=255 {
            let frame = msg(0, &[body(&doc! {"ping": 1}), vec![byte]].concat());
            assert!(Message::recognise(&frame).is_err());
        }
        let internal = [vec![2], document(&doc! {})].concat();
        assert_eq!(
            error_of(&msg(0, &[body(&doc! {"ping": 1}), internal].concat())),
            WireError::Malformed("an unknown kind of section")
        );
    }

    #[test]
    fn a_section_that_lies_about_its_size_is_an_error() {
        let command = body(&doc! {"insert": "c"});
        let honest = sequence("documents", &[doc! {"_id": 1}, doc! {"_id": 2}]);
        let size = int32_at(&honest, 1).unwrap();
        for lie in [
            i32::MIN,
            -1,
            0,
            3,
            4,
            13,
            size - 15,
            size - 1,
            size + 1,
            i32::MAX,
        ] {
            let mut section = honest.clone();
            section[1..5].copy_from_slice(&lie.to_le_bytes());
            for sections in [[&command[..], &section], [&section[..], &command]] {
                let frame = msg(0, &sections.concat());
                assert!(Message::recognise(&frame).is_err(), "{lie}");
            }
        }
    }

    #[test]
    fn a_body_that_lies_about_its_length_is_an_error() {
        let honest = body(&doc! {"ping": 1});
        let length = int32_at(&honest, 1).unwrap();
        for lie in [i32::MIN, -1, 0, 4, length - 1, length + 1, i32::MAX] {
            let mut section = honest.clone();
            section[1..5].copy_from_slice(&lie.to_le_bytes());
            assert!(Message::recognise(&msg(0, &section)).is_err(), "{lie}");
        }
    }

    #[test]
    fn one_identifier_names_one_section() {
        let documents = sequence("documents", &[doc! {"_id": 1}]);
        let frame = msg(
            0,
            &[body(&doc! {"insert": "c"}), documents.repeat(2)].concat(),
        );
        assert_eq!(
            error_of(&frame),
            WireError::Malformed("two sections have the same identifier")
        );
        let mut many = body(&doc! {"insert": "c"});
        for number in 0..100 {
            many.extend(sequence(&number.to_string(), &[]));
        }
        assert_eq!(
            error_of(&msg(0, &many)),
            WireError::Malformed("too many sections")
        );
    }

    #[test]
    fn an_identifier_must_be_utf8_and_end_within_its_section() {
        let mut section = sequence("documents", &[]);
        section[5] = 0xFF;
        let frame = msg(0, &[body(&doc! {"insert": "c"}), section].concat());
        assert_eq!(
            error_of(&frame),
            WireError::Malformed("a string is not UTF-8")
        );
        let endless = [&[1][..], &9_i32.to_le_bytes(), b"abcde"].concat();
        let frame = msg(0, &[endless, body(&doc! {"insert": "c"})].concat());
        assert_eq!(
            error_of(&frame),
            WireError::Malformed("a string does not end")
        );
    }

    #[test]
    fn unknown_required_flags_are_errors_and_optional_ones_are_not() {
        let command = body(&doc! {"ping": 1});
        for bit in 0..32 {
            let frame = msg(1 << bit, &command);
            let expected = match bit {
                2..16 => Some(WireError::Flags(1 << bit)),
                _ => None,
            };
            assert_eq!(Message::recognise(&frame).err(), expected, "bit {bit}");
        }
    }

    #[test]
    fn a_wrong_checksum_is_an_error() {
        let mut frame = msg(flag::CHECKSUM_PRESENT, &body(&doc! {"ping": 1}));
        assert!(Message::recognise(&frame).is_ok());
        for at in [4, 25, frame.len() - 1] {
            frame[at] ^= 0x40;
            assert_eq!(error_of(&frame), WireError::Checksum);
            frame[at] ^= 0x40;
        }
    }

    #[test]
    fn other_opcodes_are_errors() {
        for other in [
            0,
            1,
            1000,
            2001,
            2002,
            2005,
            2006,
            2007,
            2010,
            2011,
            2012,
            -1,
            i32::MAX,
        ] {
            let mut frame = msg(0, &body(&doc! {"ping": 1}));
            frame[12..16].copy_from_slice(&other.to_le_bytes());
            assert_eq!(error_of(&frame), WireError::Opcode(other));
        }
    }

    #[test]
    fn a_legacy_query_is_recognised_with_and_without_a_selector() {
        let hello = document(&doc! {"isMaster": 1});
        for selector in [vec![], document(&doc! {"ok": 1})] {
            let frame = query("admin.$cmd", &[hello.clone(), selector.clone()].concat());
            let Message::Query(found) = Message::recognise(&frame).unwrap() else {
                panic!("not an OP_QUERY");
            };
            assert_eq!(found.namespace, "admin.$cmd");
            assert_eq!(frame[found.query.clone()], hello);
            assert_eq!(found.has_selector, !selector.is_empty());
        }
        let trailing = query(
            "admin.$cmd",
            &[hello.clone(), document(&doc! {}), vec![0]].concat(),
        );
        assert!(Message::recognise(&trailing).is_err());
        let whole = query("admin.$cmd", &hello);
        for cut in 0..whole.len() {
            let mut frame = whole[..cut].to_vec();
            if finish(&mut frame).is_ok() {
                assert!(Message::recognise(&frame).is_err(), "cut at {cut}");
            }
        }
    }
}
