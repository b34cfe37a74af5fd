//! What is stored already, on its way into the form that the proxy would have stored:
//! by the same code that seals what services write.

use bson::Document;

use super::document::{refuse_null_in_domain, write_field, write_value};
use super::scope::Scope;
use super::{Decision, decide};
use crate::policy::{Collection, Field, Policy};
use crate::raw::{Element, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::wire::{HEADER, Header, Message, finish, opcode};

/// What refusals call the command.
const COMMAND: &str = "migrate encrypt";

/// Appends `value`, which is in plain, in sealed form and under its own name.
///
/// `place` is what stands at the field: the value itself, or the array that it is an item of.
pub(crate) fn seal_stored(
    out: &mut Vec<u8>,
    collection: &Collection,
    field: &Field,
    place: &Element<'_>,
    value: &Element<'_>,
) -> Result<(), Refusal> {
    let scope = Scope::new(COMMAND, collection, false);
    if place.kind == kind::ARRAY && field.is_joined() {
        refuse_null_in_domain(&scope, field, place)?;
    }
    if place.start == value.start {
        return write_field(out, &scope, value.key, field, value);
    }
    write_value(out, &scope, value.key, field, value)
}

/// The command that the proxy would send on for `command`, on `database`.
///
/// `command` is one that has no documents in sequences, such as `createIndexes`.
pub(crate) fn rewritten(
    policy: &Policy,
    database: &str,
    command: &Document,
) -> Result<Document, Refusal> {
    let malformed = |what: &dyn std::fmt::Display| Refusal::new(RefusalKind::Malformed, what);
    let mut command = command.clone();
    command.insert("$db", database);
    let body = bson::serialize_to_vec(&command).map_err(|error| malformed(&error))?;
    let frame = frame(&body).map_err(|error| malformed(&error))?;
    let message = Message::recognise(&frame).map_err(|error| malformed(&error))?;
    let mut scratch = Vec::new();
    let cleared = match decide(&message, policy, &mut scratch) {
        Decision::Forward { cleared, .. } => cleared,
        Decision::Refuse(refusal) => return Err(refusal),
    };
    let sent = cleared
        .bytes()
        .get(HEADER + BEFORE_BODY..)
        .ok_or_else(|| malformed(&"a command is cut off"))?;
    let mut sent: Document =
        bson::deserialize_from_slice(sent).map_err(|error| malformed(&error))?;
    sent.remove("$db");
    Ok(sent)
}

/// The flags of an `OP_MSG` and the kind of its first section.
const BEFORE_BODY: usize = 5;

pub(crate) fn frame(body: &[u8]) -> Result<Vec<u8>, crate::wire::WireError> {
    let mut frame = Vec::new();
    Header::append(1, 0, opcode::MSG, &mut frame);
    frame.extend_from_slice(&[0; BEFORE_BODY]);
    frame.extend_from_slice(body);
    finish(&mut frame)?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::doc;

    use super::*;
    use crate::policy::fixture;

    #[test]
    fn an_index_becomes_what_the_proxy_would_make_of_it() {
        let policy = fixture::policy();
        let index = |key: Document| doc! {"createIndexes": "customers", "indexes": [{"key": key, "name": "n", "v": 2}]};
        let sent = |key| rewritten(&policy, "shop", &index(key));
        assert_eq!(
            sent(doc! {"ssn": 1, "name": 1}).unwrap(),
            index(doc! {"ssn.e1": 1, "name": 1})
        );
        assert_eq!(sent(doc! {"name": 1}).unwrap(), index(doc! {"name": 1}));
        assert!(sent(doc! {"address": 1}).is_err());
        assert!(sent(doc! {"ssn": "text"}).is_err());
    }
}
