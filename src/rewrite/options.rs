//! The parts that many commands share: a body's fields, statements, sort, hint, collation.

use super::command::{Command, is_generic};
use super::filter::{Below, Filter, Purpose, UpsertEquality};
use super::scope::{BY_CONTENT, DEEPEST, Place, Scope, by_content};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::Tree;
use crate::wire::Sequence;

/// Goes through the fields of a command's body or of a statement. `take` says whether
/// it knows the field; one that it does not know is refused, for it could carry anything.
pub(super) fn fields<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    doc: Doc<'m>,
    skip: usize,
    mut take: impl FnMut(&mut Splicer<'m, '_>, &Element<'m>) -> Result<bool, Refusal>,
) -> Result<(), Refusal> {
    let mark = splicer.mark();
    for element in doc.elements().skip(skip) {
        let element = element?;
        if !take(splicer, &element)? && !is_generic(element.key) {
            let mut refusal = scope.refuse_command(
                &format!("the option `{}`", element.key),
                "this version does not know it; leave it out",
            );
            refusal.kind = RefusalKind::UnknownOption;
            return Err(refusal);
        }
    }
    splicer.mend_length(doc.start(), mark)?;
    Ok(())
}

/// Goes through the documents of an array in the body.
pub(super) fn array<'m>(
    splicer: &mut Splicer<'m, '_>,
    element: &Element<'m>,
    mut each: impl FnMut(&mut Splicer<'m, '_>, Doc<'m>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let array = element.array()?;
    let mark = splicer.mark();
    for item in array.elements() {
        each(splicer, item?.object()?)?;
    }
    splicer.mend_length(array.start(), mark)?;
    Ok(())
}

/// Goes through the documents of a kind-1 section.
pub(super) fn sequence<'m>(
    splicer: &mut Splicer<'m, '_>,
    sequence: &Sequence<'m>,
    mut each: impl FnMut(&mut Splicer<'m, '_>, Doc<'m>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mark = splicer.mark();
    let mut at = sequence.documents.start;
    while at < sequence.documents.end {
        let doc = Doc::at(splicer.input(), at, sequence.documents.end)?;
        each(splicer, doc)?;
        at = doc.end();
    }
    splicer.mend_length(sequence.size_at, mark)?;
    Ok(())
}

/// Goes through body and sections in the order in which they lie in the frame.
///
/// `body` treats the body; `statement` each document of a section named `identifier`.
pub(super) fn sections<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
    identifier: &str,
    mut body: impl FnMut(&mut Splicer<'m, '_>) -> Result<(), Refusal>,
    mut statement: impl FnMut(&mut Splicer<'m, '_>, Doc<'m>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut body_done = false;
    for section in command.sequences {
        if section.identifier != identifier {
            return Err(scope.refuse_command(
                &format!("the document sequence `{}`", section.identifier),
                "this version does not know it",
            ));
        }
        if !body_done && command.body.start() < section.size_at {
            body(splicer)?;
            body_done = true;
        }
        sequence(splicer, section, &mut statement)?;
    }
    if body_done { Ok(()) } else { body(splicer) }
}

/// Rewrites the filter in `element`.
pub(super) fn filter<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
) -> Result<(), Refusal> {
    filter_for(splicer, scope, element, &mut Purpose::Match)
}

/// Rewrites the filter in `element`, for a purpose.
pub(super) fn filter_for<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
    purpose: &mut Purpose<'_, 'm>,
) -> Result<(), Refusal> {
    if element.is_null() {
        return Ok(());
    }
    let paths = Below(scope, Tree::ROOT);
    Filter {
        scope,
        paths: &paths,
    }
    .rewrite(splicer, element.object()?, purpose, 0)
}

/// The equalities on sealed fields that an upsert with this filter puts into a new document.
pub(super) fn upsert_equalities<'m>(
    scope: &Scope<'_>,
    filter: &Element<'m>,
    input: &'m [u8],
) -> Result<Vec<UpsertEquality<'m>>, Refusal> {
    let mut scratch = Vec::new();
    let mut equalities = Vec::new();
    let mut dry = Splicer::new(input, &mut scratch);
    filter_for(
        &mut dry,
        scope,
        filter,
        &mut Purpose::Upsert(&mut equalities),
    )?;
    if scope.compared.get() {
        no_empty_lists(scope, filter.object()?, 0)?;
    }
    Ok(equalities)
}

/// MongoDB takes nothing into a new document from a filter that can never match, and
/// drops a branch of `$or` that can't before it looks for equalities. An empty list
/// makes either, on open fields too.
fn no_empty_lists(scope: &Scope<'_>, doc: Doc<'_>, depth: usize) -> Result<(), Refusal> {
    if depth > DEEPEST {
        return Err(Malformed("a filter is nested too deep").into());
    }
    for element in doc.elements() {
        let element = element?;
        if !matches!(element.kind, kind::DOCUMENT | kind::ARRAY) {
            continue;
        }
        let inner = element.doc()?;
        let list = matches!(element.key, "$in" | "$nin" | "$all");
        // A branch is named by its number.
        let branch = element.kind == kind::DOCUMENT && crate::schema::is_position(element.key);
        if inner.is_empty() && (list || branch) {
            return Err(scope.refuse_command(
                "an upsert whose filter compares sealed fields and has an empty list or branch",
                "leave out what matches nothing, or everything",
            ));
        }
        no_empty_lists(scope, inner, depth + 1)?;
    }
    Ok(())
}

/// A filter that MongoDB keeps and applies to every write, such as a validator.
pub(super) fn validator<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
) -> Result<(), Refusal> {
    scope.compared.set(false);
    scope.kept.set(true);
    let rewritten = filter(splicer, scope, element);
    scope.kept.set(false);
    rewritten?;
    if scope.compared.get() {
        return Err(scope.refuse_command(
            "a validator that compares sealed fields",
            "the proxy itself holds them to the types that the schema names; ask for $exists, null or $type of them, and leave the rest to the service",
        ));
    }
    Ok(())
}

/// A sort order: by open fields only.
pub(super) fn sort(scope: &Scope<'_>, element: &Element<'_>) -> Result<(), Refusal> {
    if element.is_null() {
        return Ok(());
    }
    open_keys(
        scope,
        element,
        "sort",
        "sort by an open field, or in the service",
    )
}

/// A document whose names are paths of open fields.
pub(super) fn open_keys(
    scope: &Scope<'_>,
    element: &Element<'_>,
    what: &str,
    advice: &str,
) -> Result<(), Refusal> {
    for key in element.object()?.elements() {
        let key = key?;
        if !matches!(scope.place(key.key)?, Place::Open) {
            return Err(scope.refuse(key.key, what, &format!("{BY_CONTENT}: {advice}")));
        }
    }
    Ok(())
}

/// An index by its keys or its name, which are the user's.
pub(super) fn hint<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
) -> Result<(), Refusal> {
    match element.kind {
        kind::DOCUMENT => super::indexes::by_keys(splicer, scope, element, element.key),
        // It may leave out documents, or give them the order of a field.
        kind::STRING if scope.masks && element.str() != Some("_id_") => Err(Refusal::new(
            RefusalKind::Unauthorized,
            format_args!(
                "{} on {}: an index that you name may be on a sealed field that you may not read; say its keys instead",
                scope.command, scope.collection.namespace
            ),
        )),
        _ => super::indexes::by_name(splicer, scope, element),
    }
}

/// Puts tokens in the place of sealed fields in an index's keys. Returns the first of these fields.
pub(super) fn index_keys<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    keys: Doc<'m>,
) -> Result<Option<&'m str>, Refusal> {
    let mark = splicer.mark();
    let mut sealed = None;
    for key in keys.elements() {
        let key = key?;
        if key.key == "$**" || key.key.ends_with(".$**") {
            wildcard(scope, &key)?;
            continue;
        }
        match scope.place(key.key)? {
            Place::Open => {}
            Place::Sealed {
                field,
                element: false,
            } => {
                let Some(equality) = &field.equality else {
                    return Err(scope.refuse(
                        key.key,
                        "an index",
                        "it has no tokens to index; `queries = [\"equality\"]` in the schema adds them",
                    ));
                };
                let order = matches!(key.integer(), Some(1 | -1));
                if !order && key.str() != Some("hashed") {
                    return Err(scope.refuse(
                        key.key,
                        "an index neither ascending, descending nor hashed (text, 2d, 2dsphere)",
                        by_content::INDEX,
                    ));
                }
                sealed = sealed.or(Some(key.key));
                splicer.replace(key.start, key.end, |out| {
                    let mut writer = Writer::new(out);
                    writer.joined_name(key.kind, key.key, &equality.suffix);
                    writer.buffer().extend_from_slice(key.value());
                });
            }
            Place::Inner(_) | Place::Sealed { .. } => {
                return Err(scope.refuse(key.key, "an index", "index its fields one by one"));
            }
        }
    }
    splicer.mend_length(keys.start(), mark)?;
    Ok(sealed)
}

/// A wildcard index holds what is stored: ciphertext, which nobody asks for, and tokens
/// under the paths at which queries ask for them.
fn wildcard(scope: &Scope<'_>, key: &Element<'_>) -> Result<(), Refusal> {
    if key.kind == kind::STRING {
        return Err(scope.refuse_command(
            "a text index of all fields",
            "it would find no sealed strings: name the open fields",
        ));
    }
    let Some(path) = key.key.strip_suffix(".$**") else {
        return scope.readable_below(Tree::ROOT, key.key);
    };
    match scope.place(path)? {
        Place::Sealed { .. } => Err(scope.refuse(
            path,
            "a wildcard index",
            "what is below it is sealed with it: index the field itself",
        )),
        Place::Inner(node) => scope.readable_below(node, path),
        Place::Open => Ok(()),
    }
}

/// A collation that is not the simple one makes MongoDB's equality another than that of tokens.
#[derive(Debug, Default)]
pub(super) struct Collation {
    /// Whether the one that is given is the simple one; none if none is given.
    simple: Option<bool>,
}

impl Collation {
    /// Notes the `collation` of a command or statement.
    pub(super) fn note(&mut self, element: &Element<'_>) -> Result<(), Refusal> {
        if element.kind == kind::DOCUMENT {
            let locale = element.doc()?.find("locale")?;
            let simple = locale.and_then(|locale| locale.str()) == Some("simple");
            self.simple = Some(simple && self.simple.unwrap_or(true));
        }
        Ok(())
    }

    /// Refuses the collation, be it the collection's own, if sealed fields were compared.
    pub(super) fn check(&self, scope: &Scope<'_>) -> Result<(), Refusal> {
        let simple = self.simple.unwrap_or(!scope.collated);
        if !simple && scope.compared.get() {
            return Err(scope.refuse_command(
                "a comparison of sealed fields by a collation, the command's or the collection's own,",
                "tokens are compared byte for byte: say {collation: {locale: \"simple\"}}",
            ));
        }
        Ok(())
    }
}
