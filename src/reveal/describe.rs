//! Indexes, plans and statistics: they speak of paths as MongoDB has them, and of
//! tokens as the values that it compares.

use super::broken;
use super::names::{HIDDEN, Names, hide, is_sealed_value, may_be_token};
use crate::policy::Shown;
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;

/// Deeper than any plan; a pipeline may be nested in it as deep as MongoDB takes it.
const DEEPEST: usize = 400;

/// What is known of the place of an element by what is around it.
#[derive(Debug, Clone, Copy, Default)]
struct Around {
    /// Tokens are to be expected.
    tokens: bool,
    /// Texts are the query engine's: they hold names, tokens and keys of indexes.
    engine: bool,
    /// It is of statistics: what is called a name is that of an index.
    statistics: bool,
    /// Names are those of indexes: of fields in a document, of strings in an array.
    indexes: bool,
}

impl Around {
    const STATISTICS: Self = Self {
        tokens: false,
        engine: false,
        statistics: true,
        indexes: false,
    };
}

/// Restores what a reply says of a collection's indexes and queries.
pub(super) fn reply(
    splicer: &mut Splicer<'_, '_>,
    body: Doc<'_>,
    names: Names<'_>,
) -> Result<(), Refusal> {
    statistics(splicer, body, names).map_err(broken)
}

fn statistics(
    splicer: &mut Splicer<'_, '_>,
    body: Doc<'_>,
    names: Names<'_>,
) -> Result<(), Malformed> {
    let mark = splicer.mark();
    for element in body.elements() {
        let element = element?;
        match (element.key, element.kind) {
            ("cursor", kind::DOCUMENT) => {
                let cursor = element.doc()?;
                let mark = splicer.mark();
                for part in cursor.elements() {
                    let part = part?;
                    match (part.key, part.kind) {
                        ("firstBatch" | "nextBatch", kind::ARRAY) => {
                            batch(splicer, part.doc()?, names)?;
                        }
                        _ => one(splicer, &part, names, Around::STATISTICS, 0)?,
                    }
                }
                splicer.mend_length(cursor.start(), mark)?;
            }
            _ => one(splicer, &element, names, Around::STATISTICS, 0)?,
        }
    }
    splicer.mend_length(body.start(), mark)
}

/// A batch, without the indexes on tokens of an epoch that is not active.
fn batch(splicer: &mut Splicer<'_, '_>, batch: Doc<'_>, names: Names<'_>) -> Result<(), Malformed> {
    let mark = splicer.mark();
    let mut left_out = 0;
    for (index, element) in batch.elements().enumerate() {
        let element = element?;
        if element.kind != kind::DOCUMENT {
            one(splicer, &element, names, Around::STATISTICS, 0)?;
            continue;
        }
        let doc = element.doc()?;
        if is_index(doc)? && matches!(names.0.shown(doc)?, Some(Shown::Hidden(_))) {
            splicer.replace(element.start, element.end, |_| {});
            left_out += 1;
            continue;
        }
        if left_out > 0 {
            splicer.replace(element.start, element.value_start, |out| {
                Writer::new(out).name(element.kind, &(index - left_out).to_string());
            });
        }
        below(splicer, doc, names, Around::STATISTICS, 0)?;
    }
    splicer.mend_length(batch.start(), mark)
}

/// Whether a document is an index, or tells of one.
fn is_index(doc: Doc<'_>) -> Result<bool, Malformed> {
    let keys = doc
        .find("key")?
        .is_some_and(|keys| keys.kind == kind::DOCUMENT);
    Ok(keys && doc.find("name")?.is_some())
}

/// The same of a reply to `explain`, which repeats the command: the client's own
/// takes its place.
pub(super) fn explained(
    splicer: &mut Splicer<'_, '_>,
    body: Doc<'_>,
    names: Names<'_>,
    command: &[u8],
) -> Result<(), Refusal> {
    plan(splicer, body, names, command).map_err(broken)
}

fn plan(
    splicer: &mut Splicer<'_, '_>,
    body: Doc<'_>,
    names: Names<'_>,
    command: &[u8],
) -> Result<(), Malformed> {
    let command = Doc::whole(command)?;
    let mark = splicer.mark();
    for element in body.elements() {
        let element = element?;
        match (element.key, element.kind) {
            ("command", kind::DOCUMENT) => repeated(splicer, element.doc()?, names, command)?,
            _ => one(splicer, &element, names, Around::default(), 0)?,
        }
    }
    splicer.mend_length(body.start(), mark)
}

fn repeated(
    splicer: &mut Splicer<'_, '_>,
    told: Doc<'_>,
    names: Names<'_>,
    command: Doc<'_>,
) -> Result<(), Malformed> {
    let mark = splicer.mark();
    for element in told.elements() {
        let element = element?;
        match command.find(element.key)? {
            Some(own) if own.bytes() == element.bytes() => {}
            Some(own) => splicer.replace(element.start, element.end, |out| {
                out.extend_from_slice(own.bytes());
            }),
            None => one(splicer, &element, names, Around::default(), 0)?,
        }
    }
    splicer.mend_length(told.start(), mark)
}

/// Restores names in `doc` at every level.
pub(super) fn document(
    splicer: &mut Splicer<'_, '_>,
    doc: Doc<'_>,
    names: Names<'_>,
) -> Result<(), Malformed> {
    below(splicer, doc, names, Around::default(), 0)
}

fn below(
    splicer: &mut Splicer<'_, '_>,
    doc: Doc<'_>,
    names: Names<'_>,
    around: Around,
    depth: usize,
) -> Result<(), Malformed> {
    if depth > DEEPEST {
        return Err(Malformed("documents are nested too deep"));
    }
    let mark = splicer.mark();
    let index = match is_index(doc)? {
        true => names.0.shown(doc)?,
        false => None,
    };
    for element in doc.elements() {
        let element = element?;
        match index {
            Some(shown) if element.key == "name" => {
                if element.str() != Some(shown.name()) {
                    splicer.replace(element.start, element.end, |out| {
                        Writer::new(out).string(element.key, shown.name());
                    });
                }
            }
            _ => match index_named(doc, &element, names, around)? {
                Some(name) => {
                    splicer.replace(element.start, element.value_start, |out| {
                        Writer::new(out).name(element.kind, name);
                    });
                    inside(splicer, &element, names, around, depth)?;
                }
                None => one(splicer, &element, names, around, depth)?,
            },
        }
    }
    splicer.mend_length(doc.start(), mark)
}

/// The user's name of the index that a statistic is of, if no other has it there.
fn index_named<'e>(
    doc: Doc<'_>,
    element: &Element<'e>,
    names: Names<'_>,
    around: Around,
) -> Result<Option<&'e str>, Malformed> {
    let Some(users) = names.index(element.key).filter(|_| around.indexes) else {
        return Ok(None);
    };
    let mut same = 0;
    for other in doc.elements() {
        let other = other?.key;
        same += usize::from(names.index(other).unwrap_or(other) == users);
    }
    Ok(Some(users).filter(|_| same == 1))
}

fn one(
    splicer: &mut Splicer<'_, '_>,
    element: &Element<'_>,
    names: Names<'_>,
    around: Around,
    depth: usize,
) -> Result<(), Malformed> {
    let path = names.path(element.key);
    let name = path.unwrap_or(element.key);
    let in_indexes = around.indexes;
    let around = Around {
        // In an expression a token stands apart from the path that it is compared with.
        tokens: around.tokens || path.is_some() || matches!(element.key, "$expr" | "stages"),
        engine: around.engine
            || matches!(element.key, "executionStats" | "slotBasedPlan" | "errmsg"),
        statistics: around.statistics,
        indexes: matches!(
            element.key,
            "indexSizes" | "indexDetails" | "keysPerIndex" | "indexes"
        ),
    };
    if is_sealed_value(element) || around.tokens && may_be_token(element) {
        splicer.replace(element.start, element.end, |out| {
            Writer::new(out).string(name, HIDDEN);
        });
        return Ok(());
    }
    let of_index =
        element.key == "indexName" || around.statistics && element.key == "name" || in_indexes;
    let index = element.str().and_then(|text| names.index(text));
    if let Some(name) = index.filter(|_| of_index) {
        splicer.replace(element.start, element.end, |out| {
            Writer::new(out).string(element.key, name);
        });
        return Ok(());
    }
    if let Some(text) = element.str().and_then(|text| string(text, names, around)) {
        splicer.replace(element.start, element.end, |out| {
            Writer::new(out).string(name, &text);
        });
        return Ok(());
    }
    if path.is_some() {
        splicer.replace(element.start, element.value_start, |out| {
            Writer::new(out).name(element.kind, name);
        });
    }
    inside(splicer, element, names, around, depth)
}

fn inside(
    splicer: &mut Splicer<'_, '_>,
    element: &Element<'_>,
    names: Names<'_>,
    around: Around,
    depth: usize,
) -> Result<(), Malformed> {
    match element.kind {
        kind::DOCUMENT | kind::ARRAY => below(splicer, element.doc()?, names, around, depth + 1),
        _ => Ok(()),
    }
}

fn string(text: &str, names: Names<'_>, around: Around) -> Option<String> {
    if around.engine {
        let named = names.text(text);
        return hide_keys(named.as_deref().unwrap_or(text)).or(named);
    }
    names
        .expression(text)
        .or_else(|| around.tokens.then(|| hide(text)).flatten())
}

/// Keys of an index, as the slot-based engine writes them, hold tokens: `KS(3C…)`.
fn hide_keys(text: &str) -> Option<String> {
    const BEGIN: &str = "KS(";
    let mut parts = text.split(BEGIN);
    let mut out = parts.next()?.to_owned();
    let mut hidden = false;
    for part in parts {
        let (_, rest) = part.split_once(')').unwrap_or((part, ""));
        out.extend([BEGIN, HIDDEN, ")", rest]);
        hidden = true;
    }
    hidden.then_some(out)
}
