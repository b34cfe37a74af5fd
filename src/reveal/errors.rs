//! Errors of MongoDB, in the user's names and without any stored form.

use super::names::{self, HIDDEN, Names, is_sealed_value};
use super::plan::RefusedStatement;
use super::{broken, describe, notation};
use crate::policy::{Collection, Policy};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::{Refusal, RefusalKind};

/// What stands before the key in the text of a duplicate-key error.
const KEY: &str = "dup key: ";

type Result<T = ()> = std::result::Result<T, Malformed>;

/// Whether a reply tells of an error that may name the stored form.
pub(super) fn any(body: Doc<'_>) -> Result<bool> {
    for element in body.elements() {
        let element = element?;
        if matches!(element.key, "errmsg" | "writeErrors" | "writeConcernError") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Restores the errors of a command on `collection`, and puts those of the
/// statements that were refused here in the place of MongoDB's.
pub(super) fn restore(
    splicer: &mut Splicer<'_, '_>,
    body: Doc<'_>,
    collection: &Collection,
    refused: &[RefusedStatement],
) -> std::result::Result<(), Refusal> {
    if let Some(errors) = body.find("writeErrors").map_err(broken)? {
        check(errors, refused)?;
    } else if !refused.is_empty() && body.find("errmsg").map_err(broken)?.is_none() {
        return Err(accepted());
    }
    error(splicer, body, Names(collection), refused).map_err(broken)
}

/// Hides what is sealed in the text of an error, where it is not known of what it tells.
pub(super) fn hide(splicer: &mut Splicer<'_, '_>, body: Doc<'_>) -> Result {
    let Some(error) = body.find("errmsg")? else {
        return Ok(());
    };
    let text = error.str().filter(|text| names::tells_sealed(text));
    let Some(text) = text.and_then(names::hide) else {
        return Ok(());
    };
    let mark = splicer.mark();
    splicer.replace(error.start, error.end, |out| {
        Writer::new(out).string(error.key, &text);
    });
    splicer.mend_length(body.start(), mark)
}

/// A statement that MongoDB did not come to has an error before it.
fn check(errors: Element<'_>, refused: &[RefusedStatement]) -> std::result::Result<(), Refusal> {
    let mut told = Vec::new();
    for error in errors.array().map_err(broken)?.elements() {
        let error = error.map_err(broken)?.object().map_err(broken)?;
        told.extend(index(error).map_err(broken)?);
    }
    // A batch may be long: neither list is gone through for each of the other.
    told.sort_unstable();
    let first = told.first();
    let missed = |statement: &&RefusedStatement| {
        told.binary_search(&statement.index).is_err()
            && first.is_none_or(|first| *first > statement.index)
    };
    match refused.iter().find(missed) {
        Some(_) => Err(accepted()),
        None => Ok(()),
    }
}

fn accepted() -> Refusal {
    Refusal::new(
        RefusalKind::CannotOpen,
        "MongoDB did not refuse what stands for a refused statement",
    )
}

fn index(error: Doc<'_>) -> Result<Option<usize>> {
    let index = error.find("index")?.and_then(|index| index.integer());
    Ok(index.and_then(|index| usize::try_from(index).ok()))
}

fn write_errors(
    splicer: &mut Splicer<'_, '_>,
    errors: Doc<'_>,
    names: Names<'_>,
    refused: &[RefusedStatement],
) -> Result {
    let mark = splicer.mark();
    for item in errors.elements() {
        let doc = item?.object()?;
        let index = index(doc)?.unwrap_or(usize::MAX);
        // Statements were refused in the order of their numbers.
        let own = refused.binary_search_by_key(&index, |own| own.index);
        match own.ok().and_then(|at| refused.get(at)) {
            Some(own) => splicer.replace(doc.start(), doc.end(), |out| own.write(out)),
            None => error(splicer, doc, names, &[])?,
        }
    }
    splicer.mend_length(errors.start(), mark)
}

impl RefusedStatement {
    /// Appends the document that tells of it in `writeErrors`.
    fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        let open = writer.begin();
        writer.int32("index", i32::try_from(self.index).unwrap_or(i32::MAX));
        writer.int32("code", self.refusal.kind.code());
        writer.string("errmsg", &self.refusal.told());
        writer.end(open);
    }
}

/// Restores one error, and those within it.
fn error(
    splicer: &mut Splicer<'_, '_>,
    doc: Doc<'_>,
    names: Names<'_>,
    refused: &[RefusedStatement],
) -> Result {
    let key = doc.find("keyValue")?;
    let mark = splicer.mark();
    for element in doc.elements() {
        let element = element?;
        match (element.key, element.kind) {
            ("errmsg", kind::STRING) => {
                let text = element.str().ok_or(Malformed("an error is not UTF-8"))?;
                if let Some(text) = message(text, key, names)? {
                    splicer.replace(element.start, element.end, |out| {
                        Writer::new(out).string("errmsg", &text);
                    });
                }
            }
            ("keyValue", kind::DOCUMENT) => key_value(splicer, element.doc()?, names)?,
            // They repeat values of documents, which may be plain, at paths of their own.
            ("errInfo" | "foundValue", _) if names.0.has_masked() => {
                splicer.replace(element.start, element.end, |_| {});
            }
            ("keyPattern" | "foundValue" | "errInfo", kind::DOCUMENT) => {
                describe::document(splicer, element.doc()?, names)?;
            }
            ("writeErrors", kind::ARRAY) => {
                write_errors(splicer, element.doc()?, names, refused)?;
            }
            ("writeConcernError", kind::DOCUMENT) => error(splicer, element.doc()?, names, &[])?,
            _ => {}
        }
    }
    splicer.mend_length(doc.start(), mark)
}

fn key_value(splicer: &mut Splicer<'_, '_>, key: Doc<'_>, names: Names<'_>) -> Result {
    let mark = splicer.mark();
    for element in key.elements() {
        let element = element?;
        let (name, hidden) = part(&element, names);
        if hidden {
            splicer.replace(element.start, element.end, |out| {
                Writer::new(out).string(name, HIDDEN);
            });
        } else if name != element.key {
            splicer.replace(element.start, element.value_start, |out| {
                Writer::new(out).name(element.kind, name);
            });
        } else if matches!(element.kind, kind::DOCUMENT | kind::ARRAY) {
            describe::document(splicer, element.doc()?, names)?;
        }
    }
    splicer.mend_length(key.start(), mark)
}

/// The user's name of a part of a key, and whether its value is hidden.
fn part<'e>(element: &Element<'e>, names: Names<'_>) -> (&'e str, bool) {
    let (name, sealed) = match names.path(element.key) {
        Some(path) => (path, true),
        None => (element.key, names.hides(element.key)),
    };
    let hidden = sealed && !element.is_null() || is_sealed_value(element);
    (name, hidden)
}

/// The text of an error in the user's names; none if it is as it should be.
fn message(text: &str, key: Option<Element<'_>>, names: Names<'_>) -> Result<Option<String>> {
    // The first, for the key's own values may hold the words again.
    let Some((before, after)) = text.split_once(KEY) else {
        return Ok(names.text(text));
    };
    let named = names.indexes(before);
    let mut own = named.is_some();
    let before = named.as_deref().unwrap_or(before);
    let Some(key) = key.filter(|key| key.kind == kind::DOCUMENT) else {
        // Without the key as a document, only its text could tell what it is.
        let told = names.text(after).is_some() || names.0.has_masked();
        return Ok(match told.then_some(()) {
            Some(()) => Some(format!("{before}{KEY}{HIDDEN}")),
            None => own.then(|| format!("{before}{KEY}{after}")),
        });
    };
    let mut told = String::from("{");
    for (number, element) in key.doc()?.elements().enumerate() {
        let element = element?;
        let (name, hidden) = part(&element, names);
        own |= hidden || name != element.key;
        told.push_str(if number == 0 { " " } else { ", " });
        told.push_str(name);
        told.push_str(": ");
        if hidden {
            told.push_str(HIDDEN);
        } else {
            let start = told.len();
            notation::value(&mut told, &element, 0)?;
            own |= told.get(start..).is_some_and(|text| text.contains(HIDDEN));
        }
    }
    told.push_str(" }");
    Ok(own.then(|| format!("{before}{KEY}{told}")))
}

/// The collection that a duplicate-key error tells of, where only its text names it:
/// a pipeline writes to another collection, a bulk to many.
pub(super) fn told_of(
    body: Doc<'_>,
    policy: &Policy,
) -> Result<Option<std::sync::Arc<Collection>>> {
    const BEGIN: &str = "E11000 duplicate key error collection: ";
    let Some(text) = body.find("errmsg")?.and_then(|text| text.str()) else {
        return Ok(None);
    };
    let namespace = text
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(" index: "));
    Ok(namespace.and_then(|(namespace, _)| policy.collection(namespace)))
}
