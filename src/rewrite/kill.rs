//! Closing a cursor whose batch the client does not get.

use super::Cleared;
use crate::raw::{Doc, Writer};
use crate::wire::{self, Reply};

/// Builds in `frame` the request that closes the cursor which `reply` left open; none if
/// it left none, or does not tell where.
pub fn request<'f>(reply: &[u8], request_id: i32, frame: &'f mut Vec<u8>) -> Option<Cleared<'f>> {
    let body = Reply::recognise(reply).ok()?.body();
    let body = Doc::at(reply, body.start, body.end).ok()?;
    let cursor = body.find("cursor").ok()??.doc().ok()?;
    let id = cursor.find("id").ok()??.integer().filter(|id| *id != 0)?;
    let namespace = cursor.find("ns").ok()??.str()?;
    let (database, collection) = namespace.split_once('.')?;
    frame.clear();
    wire::Header::append(request_id, 0, wire::opcode::MSG, frame);
    // No flags, and one section of kind 0.
    frame.extend_from_slice(&[0; 5]);
    let mut writer = Writer::new(frame);
    let open = writer.begin();
    writer.string("killCursors", collection);
    let cursors = writer.begin_array("cursors");
    writer.int64("0", id);
    writer.end(cursors);
    writer.string("$db", database);
    writer.end(open);
    wire::finish(frame).ok()?;
    Some(Cleared(frame))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Document, doc};

    use super::*;
    use crate::wire::testing::{body, msg};

    #[test]
    fn only_a_cursor_that_is_open_is_closed() {
        let reply = |id: i64| {
            let cursor = doc! {"firstBatch": [{"x": 1}], "id": id, "ns": "shop.a.b"};
            msg(0, &body(&doc! {"cursor": cursor, "ok": 1.0}))
        };
        let mut frame = vec![1, 2, 3];
        let cleared = request(&reply(7), 5, &mut frame).unwrap();
        let message = wire::Message::recognise(cleared.bytes()).unwrap();
        let wire::Message::Msg(message) = message else {
            panic!("not an OP_MSG");
        };
        let asked: Document = bson::deserialize_from_slice(&message.frame[message.body]).unwrap();
        assert_eq!(
            asked,
            doc! {"killCursors": "a.b", "cursors": [7_i64], "$db": "shop"}
        );
        for none in [reply(0), msg(0, &body(&doc! {"ok": 1.0}))] {
            assert!(request(&none, 5, &mut frame).is_none());
        }
    }
}
