//! Replies: sealed values are opened, names are restored.
//!
//! A sealed value tells by its header what opens it, so replies are searched
//! for the four bytes that every sealed value holds, and a reply without them is
//! passed on unread. Where the reply's documents are known to have the
//! collection's own shape, each value must also be the field's own, and a plain
//! value where a sealed one belongs is an error.

mod distinct;
mod indexes;
mod open;

use std::sync::Arc;

use crate::policy::{Collection, Policy};
use crate::raw::{Doc, Malformed, Splicer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::Tree;
use crate::wire::Reply;
use open::Opener;

/// What a request's replies need, decided with the request.
#[derive(Debug, Clone)]
pub enum ReplyPlan {
    /// Nothing is sealed anywhere: replies are not looked at.
    Pass,
    /// Sealed values are opened wherever they stand.
    Relay,
    /// A reply to `hello`: hosts go through the route table.
    Hello,
    /// The next batch of this cursor, whose documents' shape is that of its first.
    More(i64),
    /// Documents of this collection in their own shape.
    Documents(Arc<Collection>),
    /// The one document of an aggregation that answers `distinct`.
    Distinct(Arc<Collection>),
    /// Indexes of this collection: their keys get the user's names.
    Indexes(Arc<Collection>),
}

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
/// An error means that the client must not get this reply, but the error.
pub fn reveal(
    frame: &[u8],
    plan: &ReplyPlan,
    policy: &Policy,
    out: &mut Vec<u8>,
) -> Result<Revealed, Refusal> {
    if matches!(plan, ReplyPlan::Pass | ReplyPlan::Hello) {
        return Ok(Revealed::Unchanged);
    }
    let body = Reply::recognise(frame)
        .map_err(|error| Refusal::new(RefusalKind::CannotOpen, error))?
        .body();
    let mut splicer = Splicer::new(frame, out);
    let mut opener = Opener::new(policy, frame);
    let body = Doc::at(frame, body.start, body.end).map_err(broken)?;
    match plan {
        ReplyPlan::Documents(collection) => documents(&mut splicer, &mut opener, body, collection)?,
        ReplyPlan::Distinct(collection) => {
            distinct::turn_back(&mut splicer, &mut opener, body, collection)?
        }
        ReplyPlan::Indexes(collection) => {
            indexes::restore(&mut splicer, body, collection).map_err(broken)?
        }
        _ if opener.holds_any() => opener.anywhere(&mut splicer, body, 0)?,
        _ => {}
    }
    if !splicer.finish() {
        return Ok(Revealed::Unchanged);
    }
    crate::wire::finish(out).map_err(|error| Refusal::new(RefusalKind::CannotOpen, error))?;
    Ok(Revealed::Rewritten)
}

/// The number of the cursor in a reply; 0 once it is read to its end.
pub fn cursor(frame: &[u8]) -> Option<i64> {
    let body = Reply::recognise(frame).ok()?.body();
    let body = Doc::at(frame, body.start, body.end).ok()?;
    let cursor = body.find("cursor").ok()??.doc().ok()?;
    cursor.find("id").ok()??.integer()
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
    opener: &mut Opener<'_>,
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
