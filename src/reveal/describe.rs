//! Indexes, plans and statistics: they speak of paths as MongoDB has them, and of
//! tokens as the values that it compares.

use super::broken;
use super::names::{HIDDEN, Names, hide, is_sealed_value, may_be_token};
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
}

/// Restores what a reply says of a collection's indexes and queries.
pub(super) fn reply(
    splicer: &mut Splicer<'_, '_>,
    body: Doc<'_>,
    names: Names<'_>,
) -> Result<(), Refusal> {
    document(splicer, body, names).map_err(broken)
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
    for element in doc.elements() {
        one(splicer, &element?, names, around, depth)?;
    }
    splicer.mend_length(doc.start(), mark)
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
    let around = Around {
        // In an expression a token stands apart from the path that it is compared with.
        tokens: around.tokens || path.is_some() || matches!(element.key, "$expr" | "stages"),
        engine: around.engine
            || matches!(element.key, "executionStats" | "slotBasedPlan" | "errmsg"),
    };
    if is_sealed_value(element) || around.tokens && may_be_token(element) {
        splicer.replace(element.start, element.end, |out| {
            Writer::new(out).string(name, HIDDEN);
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
