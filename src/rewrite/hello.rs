//! The request side of `hello`: what a client offers to compress with is settled
//! with the proxy, so MongoDB is not told of it; nor of a login by certificate.

use std::ops::Range;

use super::{Request, login};
use crate::raw::{Doc, Malformed, Splicer, kind};
use crate::wire::{Message, WireError, finish};

/// The field that lists the client's compressors.
const COMPRESSION: &str = "compression";

/// The field that begins a login.
pub(crate) const LOGIN: &str = "speculativeAuthenticate";

/// Whether a command of this name is `hello`, by its present or a former name.
pub(crate) fn is_hello(command: &str) -> bool {
    matches!(command, "hello" | "isMaster" | "ismaster")
}

/// Whether a request asks `hello`, in whatever form.
pub(crate) fn asks(request: &Request<'_>) -> bool {
    match request.message() {
        Message::Msg(_) => request.parts().is_some_and(|(name, ..)| is_hello(name)),
        Message::Query(query) => unwrapped(query.frame, query.query.clone())
            .and_then(|body| body.first())
            .is_ok_and(|first| first.is_some_and(|first| is_hello(first.key))),
    }
}

/// The command in `body`: the document itself, or what an `OP_QUERY` wraps as `$query`.
pub(crate) fn unwrapped(frame: &[u8], body: Range<usize>) -> Result<Doc<'_>, Malformed> {
    let outer = Doc::at(frame, body.start, body.end)?;
    match outer.first()? {
        Some(first) if matches!(first.key, "$query" | "query") && first.kind == kind::DOCUMENT => {
            first.doc()
        }
        _ => Ok(outer),
    }
}

/// The names in the `compression` field of the command in `body`.
pub(crate) fn compression(frame: &[u8], body: Range<usize>) -> Result<Vec<&str>, Malformed> {
    let mut names = Vec::new();
    for element in unwrapped(frame, body)?.elements() {
        let element = element?;
        if element.key == COMPRESSION && element.kind == kind::ARRAY {
            for name in element.doc()?.elements() {
                names.extend(name?.str());
            }
        }
    }
    Ok(names)
}

/// Takes `compression`, and a login that may not pass, out of the command in `body`; the rest
/// stays byte for byte.
///
/// The new frame is in `out`; false means that there is nothing to take out
/// and the frame stands as it is.
pub(super) fn strip(
    frame: &[u8],
    body: Range<usize>,
    out: &mut Vec<u8>,
) -> Result<bool, WireError> {
    let command = unwrapped(frame, body.clone())?;
    let mut splicer = Splicer::new(frame, out);
    let mark = splicer.mark();
    for element in command.elements() {
        let element = element?;
        if element.key == COMPRESSION || (element.key == LOGIN && !login::is_passed_on(&element)?) {
            splicer.replace(element.start, element.end, |_| ());
        }
    }
    splicer.mend_length(command.start(), mark)?;
    if command.start() != body.start {
        splicer.mend_length(body.start, mark)?;
    }
    if !splicer.finish() {
        return Ok(false);
    }
    finish(out)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Document, doc};

    use super::*;
    use crate::wire::testing::{body, document, msg, query};
    use crate::wire::{Message, flag};

    /// The command as MongoDB gets it, and what the client offered.
    fn stripped(frame: &[u8]) -> (Document, Vec<String>) {
        let range = |frame: &[u8]| match Message::recognise(frame).unwrap() {
            Message::Msg(message) => message.body,
            Message::Query(query) => query.query,
        };
        let names = compression(frame, range(frame)).unwrap();
        let mut out = Vec::new();
        assert!(strip(frame, range(frame), &mut out).unwrap());
        let command = bson::deserialize_from_slice(&out[range(&out)]).unwrap();
        (command, names.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn only_compression_goes_and_the_rest_stays_in_order() {
        let offered = doc! {"hello": 1, "client": {"driver": {}}, "compression": ["zstd", "snappy"], "$db": "admin"};
        let kept = doc! {"hello": 1, "client": {"driver": {}}, "$db": "admin"};
        let names = vec!["zstd".to_owned(), "snappy".to_owned()];
        for flags in [0, flag::CHECKSUM_PRESENT, flag::EXHAUST_ALLOWED] {
            assert_eq!(
                stripped(&msg(flags, &body(&offered))),
                (kept.clone(), names.clone())
            );
        }
        let legacy = query("admin.$cmd", &document(&offered));
        assert_eq!(stripped(&legacy), (kept.clone(), names.clone()));
        let wrapped = query(
            "admin.$cmd",
            &document(&doc! {"$query": offered, "$readPreference": {"mode": "nearest"}}),
        );
        let expected = doc! {"$query": kept, "$readPreference": {"mode": "nearest"}};
        assert_eq!(stripped(&wrapped), (expected, names));
    }

    #[test]
    fn a_login_by_certificate_goes_too() {
        let hello = doc! {"hello": 1, "compression": [], "speculativeAuthenticate": {"authenticate": 1}, "$db": "admin"};
        let (kept, _) = stripped(&msg(0, &body(&hello)));
        assert_eq!(kept, doc! {"hello": 1, "$db": "admin"});
    }

    #[test]
    fn a_hello_that_offers_nothing_stays_as_it_is() {
        let frame = msg(
            0,
            &body(
                &doc! {"hello": 1, "speculativeAuthenticate": {"saslStart": 1, "mechanism": "SCRAM-SHA-1", "compression": ["zstd"]}},
            ),
        );
        let mut out = Vec::new();
        assert_eq!(strip(&frame, 21..frame.len(), &mut out), Ok(false));
        assert!(out.is_empty());
    }
}
