//! Events of change streams. A change on MongoDB itself may touch a part of a sealed
//! document, such as `ssn.c`: what the client sees is that `ssn` changed.

use super::names::Names;
use super::open::{self, Opener};
use super::{broken, describe};
use crate::code::Code;
use crate::policy::{Collection, Field, Policy};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::{NodeId, Step, Tree, is_position};

type Result<T = ()> = std::result::Result<T, Refusal>;

/// Opens a batch of events; `of` is the collection of the stream, if it is of one alone.
pub(super) fn events(
    splicer: &mut Splicer<'_, '_>,
    opener: &mut Opener<'_, '_>,
    body: Doc<'_>,
    policy: &Policy,
    of: Option<&Collection>,
) -> Result {
    let mark = splicer.mark();
    let Some(cursor) = body.find("cursor").map_err(broken)? else {
        return Ok(());
    };
    let cursor = cursor.doc().map_err(broken)?;
    let inner = splicer.mark();
    for part in cursor.elements() {
        let part = part.map_err(broken)?;
        if !matches!(part.key, "firstBatch" | "nextBatch") {
            continue;
        }
        let batch = part.doc().map_err(broken)?;
        let mark = splicer.mark();
        for event in batch.elements() {
            let event = event.map_err(broken)?.doc().map_err(broken)?;
            let named = namespace(event).map_err(broken)?;
            let collection = named.as_deref().and_then(|name| policy.collection(name));
            match collection.as_deref().or(of) {
                Some(collection) => one(splicer, opener, event, collection)?,
                None if named.is_none() && policy.masks_plain() => {
                    anyones(splicer, opener, event)?;
                }
                None => opener.anywhere(splicer, event, 0)?,
            }
        }
        splicer.mend_length(batch.start(), mark).map_err(broken)?;
    }
    splicer.mend_length(cursor.start(), inner).map_err(broken)?;
    splicer.mend_length(body.start(), mark).map_err(broken)
}

/// The namespace that an event tells of, if it does.
fn namespace(event: Doc<'_>) -> std::result::Result<Option<String>, Malformed> {
    let Some(namespace) = event.find("ns")?.filter(|ns| ns.kind == kind::DOCUMENT) else {
        return Ok(None);
    };
    let namespace = namespace.doc()?;
    let part = |key| Ok(namespace.find(key)?.and_then(|part| part.str()));
    let (Some(database), Some(name)) = (part("db")?, part("coll")?) else {
        return Ok(None);
    };
    Ok(Some(format!("{database}.{name}")))
}

/// An event that does not say of which collection it is, for who may not read a field that
/// may be stored plain: nothing tells where it would stand.
fn anyones(splicer: &mut Splicer<'_, '_>, opener: &mut Opener<'_, '_>, event: Doc<'_>) -> Result {
    for element in event.elements() {
        let element = element.map_err(broken)?;
        let holds = matches!(
            element.key,
            "fullDocument" | "fullDocumentBeforeChange" | "updateDescription"
        );
        if holds && element.kind == kind::DOCUMENT {
            return Err(Refusal::new(
                RefusalKind::Unauthorized,
                "an event without `ns` may hold plain values of a field that you may not read; leave `ns` in",
            ));
        }
    }
    opener.anywhere(splicer, event, 0)
}

fn one(
    splicer: &mut Splicer<'_, '_>,
    opener: &mut Opener<'_, '_>,
    event: Doc<'_>,
    collection: &Collection,
) -> Result {
    let mark = splicer.mark();
    for element in event.elements() {
        let element = element.map_err(broken)?;
        match (element.key, element.kind) {
            ("fullDocument" | "fullDocumentBeforeChange", kind::DOCUMENT) => {
                let doc = element.doc().map_err(broken)?;
                opener.document(splicer, doc, collection, Tree::ROOT, 0)?;
            }
            ("documentKey", kind::DOCUMENT) => {
                paths(splicer, opener, element.doc().map_err(broken)?, collection)?;
            }
            ("updateDescription", kind::DOCUMENT) => {
                description(splicer, opener, element.doc().map_err(broken)?, collection)?;
            }
            // Indexes and options, in streams that tell of them.
            ("operationDescription", kind::DOCUMENT) => {
                let doc = element.doc().map_err(broken)?;
                describe::document(splicer, doc, Names(collection)).map_err(broken)?;
            }
            _ => opener.element_anywhere(splicer, &element, 0)?,
        }
    }
    splicer.mend_length(event.start(), mark).map_err(broken)
}

fn description(
    splicer: &mut Splicer<'_, '_>,
    opener: &mut Opener<'_, '_>,
    description: Doc<'_>,
    collection: &Collection,
) -> Result {
    let mark = splicer.mark();
    for element in description.elements() {
        let element = element.map_err(broken)?;
        match (element.key, element.kind) {
            ("updatedFields", kind::DOCUMENT) => {
                let fields = element.doc().map_err(broken)?;
                paths(splicer, opener, fields, collection)?;
            }
            ("removedFields", kind::ARRAY) => removed(splicer, &element, collection)?,
            ("disambiguatedPaths", kind::DOCUMENT) => {
                disambiguated(splicer, element.doc().map_err(broken)?, collection)?;
            }
            _ => opener.element_anywhere(splicer, &element, 0)?,
        }
    }
    splicer
        .mend_length(description.start(), mark)
        .map_err(broken)
}

/// Values under the names of their paths.
fn paths(
    splicer: &mut Splicer<'_, '_>,
    opener: &mut Opener<'_, '_>,
    values: Doc<'_>,
    collection: &Collection,
) -> Result {
    let mark = splicer.mark();
    for value in values.elements() {
        updated(splicer, opener, &value.map_err(broken)?, collection)?;
    }
    splicer.mend_length(values.start(), mark).map_err(broken)
}

/// Where the path of a change leads.
enum Part<'c, 'p> {
    /// Nothing sealed is known there.
    Open,
    /// Sealed fields lie below.
    Inner(NodeId),
    /// A sealed field, or an element of one.
    Whole(&'c Field),
    /// The sealed value within a sealed document, which stands at this path.
    Value(&'c Field, &'p str),
    /// A token within one.
    Token,
    /// Something else within a sealed field.
    Unknown(&'c Field),
}

fn resolve<'c, 'p>(collection: &'c Collection, path: &'p str) -> Part<'c, 'p> {
    from(collection, Tree::ROOT, path, 0)
}

/// Where `path` leads whose bytes from `at` on are still to be walked, from `node`.
fn from<'c, 'p>(
    collection: &'c Collection,
    node: NodeId,
    path: &'p str,
    at: usize,
) -> Part<'c, 'p> {
    let Some(rest) = path.get(at..) else {
        return Part::Inner(node);
    };
    let component = rest.split('.').next().unwrap_or_default();
    let next = at + component.len() + 1;
    let led = match collection.tree.element(node, component) {
        Step::Sealed(leaf) => within(collection.field(leaf), path, next),
        Step::Inner(below) => from(collection, below, path, next),
        Step::Open | Step::Ambiguous | Step::Mixed => Part::Open,
    };
    // Below `*` a number may be a name, or the index of an array on the way.
    let number = node != Tree::ROOT && is_position(component);
    match led {
        Part::Open if number => match collection.tree.step(node, component) {
            Step::Ambiguous => from(collection, node, path, next),
            _ => Part::Open,
        },
        led => led,
    }
}

fn within<'c, 'p>(field: &'c Field, path: &'p str, at: usize) -> Part<'c, 'p> {
    let mut rest = path.get(at..);
    // The index of an element.
    if field.elements
        && let Some((first, after)) = rest.map(|rest| rest.split_once('.').unwrap_or((rest, "")))
        && is_position(first)
    {
        rest = Some(after).filter(|after| !after.is_empty());
    }
    match rest {
        None => Part::Whole(field),
        Some("c") if field.equality.is_some() => {
            Part::Value(field, path.strip_suffix(".c").unwrap_or(path))
        }
        Some(token) if field.equality.is_some() && open::is_token(token) => Part::Token,
        Some(_) => Part::Unknown(field),
    }
}

fn updated(
    splicer: &mut Splicer<'_, '_>,
    opener: &mut Opener<'_, '_>,
    element: &Element<'_>,
    collection: &Collection,
) -> Result {
    match resolve(collection, element.key) {
        Part::Open => opener.element_anywhere(splicer, element, 0),
        Part::Inner(node) => opener.below(splicer, element, collection, node, 0),
        Part::Whole(field) => opener.field(splicer, element, collection, field, 0),
        Part::Value(field, path) => opener.value(splicer, element, collection, field, path),
        Part::Token => {
            splicer.replace(element.start, element.end, |_| {});
            Ok(())
        }
        Part::Unknown(field) if collection.on_plaintext.is_expected() => {
            opener.plain(splicer, element, field);
            Ok(())
        }
        Part::Unknown(field) => Err(changed_inside(collection, field)),
    }
}

fn changed_inside(collection: &Collection, field: &Field) -> Refusal {
    Refusal::new(
        RefusalKind::CannotOpen,
        format_args!(
            "{}: something other than its sealed value was changed inside the sealed field `{}`, on MongoDB itself",
            collection.namespace, field.path
        ),
    ).coded(Code::ChangedInPart)
}

/// Tokens that are gone are nothing that the client knew of.
fn removed(
    splicer: &mut Splicer<'_, '_>,
    element: &Element<'_>,
    collection: &Collection,
) -> Result {
    let mut kept = Vec::new();
    let mut dropped = false;
    for path in element.doc().map_err(broken)?.elements() {
        let path = path.map_err(broken)?;
        match path.str().map(|path| resolve(collection, path)) {
            Some(Part::Token) => dropped = true,
            Some(Part::Value(field, _)) => return Err(changed_inside(collection, field)),
            _ => kept.push(path),
        }
    }
    if dropped {
        splicer.replace(element.start, element.end, |out| {
            array(out, element.key, &kept);
        });
    }
    Ok(())
}

/// Writes an array of these elements, numbered anew.
fn array(out: &mut Vec<u8>, key: &str, elements: &[Element<'_>]) {
    let mut writer = Writer::new(out);
    let open = writer.begin_array(key);
    for (number, element) in elements.iter().enumerate() {
        writer.value(element.kind, &number.to_string(), element.value());
    }
    writer.end(open);
}

/// `"tags.0.c": ["tags", 0, "c"]` tells what the numbers in a path are.
fn disambiguated(splicer: &mut Splicer<'_, '_>, paths: Doc<'_>, collection: &Collection) -> Result {
    let mark = splicer.mark();
    for element in paths.elements() {
        let element = element.map_err(broken)?;
        match resolve(collection, element.key) {
            Part::Token => splicer.replace(element.start, element.end, |_| {}),
            Part::Value(_, path) => {
                let mut components = Vec::new();
                for component in element.array().map_err(broken)?.elements() {
                    components.push(component.map_err(broken)?);
                }
                components.pop();
                splicer.replace(element.start, element.end, |out| {
                    array(out, path, &components);
                });
            }
            _ => {}
        }
    }
    splicer.mend_length(paths.start(), mark).map_err(broken)
}
