//! The proxy's own login at MongoDB, for clients whose certificate stands for a user.

use super::Cleared;
use crate::access::scram::MECHANISM;
use crate::raw::{Doc, Malformed, Writer, kind};
use crate::wire::{self, Reply};

/// What MongoDB answered to a step of the login.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<'r> {
    /// It went well.
    Step {
        /// What the next step names.
        conversation: i64,
        /// SCRAM's message.
        payload: &'r [u8],
        /// Whether the user is logged in.
        done: bool,
    },
    /// An error, by its code.
    Failed(i64),
}

/// Builds in `frame` the request that begins the login.
pub fn start<'f>(
    database: &str,
    payload: &str,
    request_id: i32,
    frame: &'f mut Vec<u8>,
) -> Option<Cleared<'f>> {
    request(database, request_id, frame, |writer| {
        writer.int32("saslStart", 1);
        writer.string("mechanism", MECHANISM);
        writer.binary("payload", 0, payload.as_bytes());
        let options = writer.begin_doc("options");
        writer.bool("skipEmptyExchange", true);
        writer.end(options);
    })
}

/// Builds in `frame` the request that goes on with it.
pub fn proceed<'f>(
    database: &str,
    conversation: i64,
    payload: &str,
    request_id: i32,
    frame: &'f mut Vec<u8>,
) -> Option<Cleared<'f>> {
    let conversation = i32::try_from(conversation).ok()?;
    request(database, request_id, frame, |writer| {
        writer.int32("saslContinue", 1);
        writer.int32("conversationId", conversation);
        writer.binary("payload", 0, payload.as_bytes());
    })
}

fn request<'f>(
    database: &str,
    request_id: i32,
    frame: &'f mut Vec<u8>,
    write: impl FnOnce(&mut Writer<'_>),
) -> Option<Cleared<'f>> {
    frame.clear();
    wire::Header::append(request_id, 0, wire::opcode::MSG, frame);
    // No flags, and one section of kind 0.
    frame.extend_from_slice(&[0; 5]);
    let mut writer = Writer::new(frame);
    let open = writer.begin();
    write(&mut writer);
    writer.string("$db", database);
    writer.end(open);
    wire::finish(frame).ok()?;
    Some(Cleared(frame))
}

/// What MongoDB's reply to either says.
pub fn answer(reply: &[u8]) -> Result<Answer<'_>, wire::WireError> {
    let body = Reply::recognise(reply)?.body();
    let body = Doc::at(reply, body.start, body.end)?;
    let integer = |key| Ok::<_, Malformed>(body.find_once(key)?.and_then(|value| value.integer()));
    if integer("ok")? != Some(1) {
        return Ok(Answer::Failed(integer("code")?.unwrap_or(0)));
    }
    let done = body.find_once("done")?;
    let done = done.ok_or(Malformed("no `done` in the answer to a login"))?;
    let payload = body.find_once("payload")?.and_then(|value| value.binary());
    let (_, payload) = payload.ok_or(Malformed("no payload in the answer to a login"))?;
    Ok(Answer::Step {
        conversation: integer("conversationId")?
            .ok_or(Malformed("no conversation in the answer to a login"))?,
        payload,
        done: done.kind == kind::BOOL && done.truthy(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Binary, Document, doc, spec::BinarySubtype};

    use super::*;
    use crate::wire::Message;
    use crate::wire::testing::{body, msg};

    fn binary(text: &str) -> Binary {
        Binary {
            subtype: BinarySubtype::Generic,
            bytes: text.as_bytes().to_vec(),
        }
    }

    fn asked(cleared: &Cleared<'_>) -> Document {
        let message = Message::recognise(cleared.bytes()).unwrap();
        let Message::Msg(message) = message else {
            panic!("not an OP_MSG");
        };
        assert_eq!(message.flags, 0);
        bson::deserialize_from_slice(&message.frame[message.body]).unwrap()
    }

    #[test]
    fn the_requests_are_those_of_a_driver() {
        let mut frame = vec![1, 2, 3];
        let expected = doc! {
            "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": binary("n,,n=a,r=b"),
            "options": {"skipEmptyExchange": true}, "$db": "admin",
        };
        let cleared = start("admin", "n,,n=a,r=b", 5, &mut frame).unwrap();
        assert_eq!(asked(&cleared), expected);
        let expected = doc! {
            "saslContinue": 1, "conversationId": 1, "payload": binary("c=biws"), "$db": "admin",
        };
        let cleared = proceed("admin", 1, "c=biws", 5, &mut frame).unwrap();
        assert_eq!(asked(&cleared), expected);
        assert!(proceed("admin", i64::MAX, "", 5, &mut frame).is_none());
    }

    #[test]
    fn only_true_is_done_and_only_one_is_ok() {
        let reply = |answer: &Document| msg(0, &body(answer));
        let step = doc! {"conversationId": 1, "done": true, "payload": binary("v=x"), "ok": 1.0};
        let frame = reply(&step);
        let expected = |done| Answer::Step {
            conversation: 1,
            payload: b"v=x",
            done,
        };
        assert_eq!(answer(&frame).unwrap(), expected(true));
        for value in [bson::Bson::Boolean(false), 1.into(), "true".into()] {
            let mut other = step.clone();
            other.insert("done", value);
            assert_eq!(answer(&reply(&other)).unwrap(), expected(false));
        }
        let failed = doc! {"ok": 0.0, "errmsg": "no", "code": 18, "done": true};
        assert_eq!(answer(&reply(&failed)).unwrap(), Answer::Failed(18));
        for missing in ["conversationId", "done", "payload"] {
            let mut other = step.clone();
            other.remove(missing);
            assert!(answer(&reply(&other)).is_err(), "{missing}");
        }
    }
}
