//! Indexes, plans and statistics: they speak of paths as MongoDB has them, and of
//! tokens as the values that it compares.

use super::broken;
use super::names::{HIDDEN, Names, hide, is_sealed_value, may_be_token};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;

/// Deeper than any plan; a pipeline may be nested in it as deep as MongoDB takes it.
const DEEPEST: usize = 400;

/// Restores what a reply says of a collection's indexes and queries.
pub(super) fn reply(
    splicer: &mut Splicer<'_, '_>,
    body: Doc<'_>,
    names: Names<'_>,
) -> Result<(), Refusal> {
    document(splicer, body, names, false, 0).map_err(broken)
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
            _ => one(splicer, &element, names, false, 0)?,
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
            None => one(splicer, &element, names, false, 0)?,
        }
    }
    splicer.mend_length(told.start(), mark)
}

/// Restores names in `doc` at every level. `tokens` says that tokens are to be expected.
pub(super) fn document(
    splicer: &mut Splicer<'_, '_>,
    doc: Doc<'_>,
    names: Names<'_>,
    tokens: bool,
    depth: usize,
) -> Result<(), Malformed> {
    if depth > DEEPEST {
        return Err(Malformed("documents are nested too deep"));
    }
    let mark = splicer.mark();
    for element in doc.elements() {
        one(splicer, &element?, names, tokens, depth)?;
    }
    splicer.mend_length(doc.start(), mark)
}

fn one(
    splicer: &mut Splicer<'_, '_>,
    element: &Element<'_>,
    names: Names<'_>,
    tokens: bool,
    depth: usize,
) -> Result<(), Malformed> {
    let path = names.path(element.key);
    let name = path.unwrap_or(element.key);
    // In an expression a token stands apart from the path that it is compared with.
    let tokens = tokens || path.is_some() || element.key == "$expr" || element.key == "stages";
    if is_sealed_value(element) || tokens && may_be_token(element) {
        splicer.replace(element.start, element.end, |out| {
            Writer::new(out).string(name, HIDDEN);
        });
        return Ok(());
    }
    if let Some(text) = element
        .str()
        .and_then(|text| string(text, element, names, tokens))
    {
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
        kind::DOCUMENT | kind::ARRAY => document(splicer, element.doc()?, names, tokens, depth + 1),
        _ => Ok(()),
    }
}

fn string(text: &str, element: &Element<'_>, names: Names<'_>, tokens: bool) -> Option<String> {
    // Plans of the slot-based engine are one text.
    if matches!(element.key, "stages" | "slots" | "errmsg") {
        return names.text(text).map(|text| hide_keys(&text)).or_else(|| {
            let hidden = hide_keys(text);
            (hidden != text).then_some(hidden)
        });
    }
    names
        .expression(text)
        .or_else(|| tokens.then(|| hide(text)).flatten())
}

/// Keys of an index, as such a plan has them, hold tokens: `KS(3C…)`.
fn hide_keys(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split("KS(");
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let rest = part.split_once(')').map_or("", |(_, rest)| rest);
        out.push_str("KS(");
        out.push_str(HIDDEN);
        out.push(')');
        out.push_str(rest);
    }
    out
}
