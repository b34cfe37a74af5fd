//! Replies: sealed values are opened, names are restored.
//!
//! A sealed value tells by its header what opens it, so replies are searched
//! for the four bytes that every sealed value holds, and documents without them
//! are passed on unread. Where the reply's documents are known to have the
//! collection's own shape, each value must also be the field's own, and a plain
//! value where a sealed one belongs is an error. What speaks of paths, such as
//! errors and plans, gets the user's names.

mod changes;
mod describe;
mod distinct;
mod errors;
mod names;
mod notation;
mod open;
mod plan;
mod reads;

use crate::policy::{Collection, Policy};
use crate::raw::{Doc, Malformed, Splicer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::Tree;
use crate::wire::Reply;
use names::Names;
use open::Opener;
pub(crate) use open::sealed;
pub use plan::{RefusedStatement, ReplyPlan};
pub use reads::Reads;

/// What became of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revealed {
    /// The frame as it came is what the client gets.
    Unchanged,
    /// The client gets what `out` holds.
    Rewritten,
}

/// Opens what is sealed in one uncompressed reply frame (`OP_MSG`), into `out`.
///
/// What it shows of audited fields is counted in `reads`. An error means that the client
/// must not get this reply, but the error.
pub fn reveal(
    frame: &[u8],
    plan: &ReplyPlan,
    policy: &Policy,
    reads: &mut Reads,
    out: &mut Vec<u8>,
) -> Result<Revealed, Refusal> {
    if matches!(plan, ReplyPlan::Pass | ReplyPlan::Hello) {
        return Ok(Revealed::Unchanged);
    }
    let body = Reply::recognise(frame)
        .map_err(|error| Refusal::new(RefusalKind::CannotOpen, error))?
        .body();
    let mut splicer = Splicer::new(frame, out);
    let mut opener = Opener::new(policy, frame, reads);
    let body = Doc::at(frame, body.start, body.end).map_err(broken)?;
    treat(&mut splicer, &mut opener, body, plan, policy)?;
    if !splicer.finish() {
        return Ok(Revealed::Unchanged);
    }
    crate::wire::finish(out).map_err(|error| Refusal::new(RefusalKind::CannotOpen, error))?;
    Ok(Revealed::Rewritten)
}

fn treat(
    splicer: &mut Splicer<'_, '_>,
    opener: &mut Opener<'_, '_>,
    body: Doc<'_>,
    plan: &ReplyPlan,
    policy: &Policy,
) -> Result<(), Refusal> {
    match plan {
        ReplyPlan::Described(collection) => describe::reply(splicer, body, Names(collection)),
        ReplyPlan::Explained {
            collection,
            command,
        } => describe::explained(splicer, body, Names(collection), command),
        ReplyPlan::Outcome {
            collection,
            refused,
        } if !refused.is_empty() || errors::any(body).map_err(broken)? => {
            errors::restore(splicer, body, collection, refused)
        }
        ReplyPlan::Documents(collection) | ReplyPlan::Distinct(collection) if failed(body)? => {
            errors::restore(splicer, body, collection, &[])
        }
        ReplyPlan::Documents(collection) => documents(splicer, opener, body, collection),
        ReplyPlan::Distinct(values) => distinct::turn_back(splicer, opener, body, values),
        ReplyPlan::Changes(collection) if !failed(body)? => {
            changes::events(splicer, opener, body, policy, collection.as_deref())
        }
        ReplyPlan::Results => results(splicer, body, policy),
        // What nearly all replies are.
        _ if !opener.holds_any() && !failed(body)? => Ok(()),
        _ => match errors::told_of(body, policy).map_err(broken)? {
            Some(collection) => errors::restore(splicer, body, &collection, &[]),
            None if opener.holds_any() => opener.anywhere(splicer, body, 0),
            None => errors::hide(splicer, body).map_err(broken),
        },
    }
}

/// What each operation of a `bulkWrite` did, in the batch of a cursor.
fn results(splicer: &mut Splicer<'_, '_>, body: Doc<'_>, policy: &Policy) -> Result<(), Refusal> {
    if let Some(collection) = errors::told_of(body, policy).map_err(broken)? {
        return errors::restore(splicer, body, &collection, &[]);
    }
    let Some(cursor) = body.find("cursor").map_err(broken)? else {
        return Ok(());
    };
    let cursor = cursor.doc().map_err(broken)?;
    let (outer, mark) = (splicer.mark(), splicer.mark());
    for part in cursor.elements() {
        let part = part.map_err(broken)?;
        if !matches!(part.key, "firstBatch" | "nextBatch") {
            continue;
        }
        let batch = part.doc().map_err(broken)?;
        let mark = splicer.mark();
        for result in batch.elements() {
            let result = result.map_err(broken)?.doc().map_err(broken)?;
            if let Some(collection) = errors::told_of(result, policy).map_err(broken)? {
                errors::restore(splicer, result, &collection, &[])?;
            }
        }
        splicer.mend_length(batch.start(), mark).map_err(broken)?;
    }
    splicer.mend_length(cursor.start(), mark).map_err(broken)?;
    splicer.mend_length(body.start(), outer).map_err(broken)
}

/// Whether a reply is the error of a whole command.
fn failed(body: Doc<'_>) -> Result<bool, Refusal> {
    Ok(body.find("errmsg").map_err(broken)?.is_some())
}

/// The number of the cursor in a reply; 0 once it is read to its end.
pub fn cursor(frame: &[u8]) -> Option<i64> {
    let body = Reply::recognise(frame).ok()?.body();
    let body = Doc::at(frame, body.start, body.end).ok()?;
    number(body.find("cursor").ok()??.doc().ok()?)
}

/// The same of a reply that begins with its cursor, as MongoDB's do: what follows is not looked at.
pub fn first_cursor(reply: &Reply<'_>) -> Option<i64> {
    let body = reply.body();
    let body = Doc::at(reply.frame(), body.start, body.end).ok()?;
    if let Some(id) = usual_cursor(body.bytes()) {
        return Some(id);
    }
    let first = body.first().ok()?.filter(|first| first.key == "cursor")?;
    number(first.object().ok()?)
}

/// The same of a reply in the order that MongoDB's nearly always have: its batch, then the number.
/// A tenth of what it takes to go through the names.
fn usual_cursor(body: &[u8]) -> Option<i64> {
    let cursor = body.get(4..)?.strip_prefix(b"\x03cursor\0")?.get(4..)?;
    let batch = cursor
        .strip_prefix(b"\x04firstBatch\0")
        .or_else(|| cursor.strip_prefix(b"\x04nextBatch\0"))?;
    let length = usize::try_from(i32::from_le_bytes(*batch.first_chunk()?)).ok()?;
    let id = batch.get(length..)?.strip_prefix(b"\x12id\0")?;
    Some(i64::from_le_bytes(*id.first_chunk()?))
}

fn number(cursor: Doc<'_>) -> Option<i64> {
    cursor.find("id").ok()??.integer()
}

/// The cursors that are closed by what a reply to `killCursors` says.
pub fn closed_cursors(frame: &[u8]) -> Vec<i64> {
    let closed = || {
        let body = Reply::recognise(frame).ok()?.body();
        let body = Doc::at(frame, body.start, body.end).ok()?;
        let mut closed = Vec::new();
        for list in ["cursorsKilled", "cursorsNotFound"] {
            let list = body.find(list).ok()??.doc().ok()?;
            closed.extend(
                list.elements()
                    .map_while(Result::ok)
                    .filter_map(|id| id.integer()),
            );
        }
        Some(closed)
    };
    closed().unwrap_or_default()
}

/// A reply that does not hold together is MongoDB's fault, not the client's.
fn broken(malformed: Malformed) -> Refusal {
    Refusal::new(
        RefusalKind::CannotOpen,
        format_args!("MongoDB's reply is not understood: {malformed}"),
    )
}

/// The documents of a cursor's batch, or the one that findAndModify answers.
fn documents(
    splicer: &mut Splicer<'_, '_>,
    opener: &mut Opener<'_, '_>,
    body: Doc<'_>,
    collection: &Collection,
) -> Result<(), Refusal> {
    let mark = splicer.mark();
    for element in body.elements() {
        let element = element.map_err(broken)?;
        match (element.key, element.kind) {
            ("cursor", kind::DOCUMENT) => {
                let cursor = element.doc().map_err(broken)?;
                let mark = splicer.mark();
                for part in cursor.elements() {
                    let part = part.map_err(broken)?;
                    if matches!(part.key, "firstBatch" | "nextBatch") {
                        opener.array(
                            splicer,
                            part.doc().map_err(broken)?,
                            collection,
                            Tree::ROOT,
                            0,
                        )?;
                    }
                }
                splicer.mend_length(cursor.start(), mark).map_err(broken)?;
            }
            ("value", kind::DOCUMENT) => {
                opener.document(
                    splicer,
                    element.doc().map_err(broken)?,
                    collection,
                    Tree::ROOT,
                    0,
                )?;
            }
            _ => {}
        }
    }
    splicer.mend_length(body.start(), mark).map_err(broken)
}

#[cfg(test)]
mod tests;
