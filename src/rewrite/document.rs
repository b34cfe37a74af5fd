//! Documents on their way in: sealed fields are sealed, the rest is copied in ranges.

use super::permission::{LEAVE_OUT, check_value};
use super::scope::{DEEPEST, Scope};
use crate::policy::Field;
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::{NodeId, Step};
use crate::seal::SUBTYPE;

/// Seals what is sealed in `doc`, a document whose top level is at `node`.
pub(super) fn seal_document(
    splicer: &mut Splicer<'_, '_>,
    scope: &Scope<'_>,
    doc: Doc<'_>,
    node: NodeId,
    depth: usize,
) -> Result<(), Refusal> {
    if depth > DEEPEST {
        return Err(Malformed("documents are nested too deep").into());
    }
    let mark = splicer.mark();
    for element in doc.elements() {
        let element = element?;
        match scope.tree().element(node, element.key) {
            Step::Open => refuse_dotted(scope, node, element.key)?,
            Step::Inner(next) => {
                refuse_dotted(scope, node, element.key)?;
                seal_below(splicer, scope, &element, next, depth)?;
            }
            Step::Sealed(leaf) => {
                let field = scope.collection.field(leaf);
                if field.access.read_only {
                    return Err(scope.unwritable(field, LEAVE_OUT));
                }
                if depth == 0 {
                    refuse_zero_timestamp(scope, field, &element)?;
                }
                replace_field(splicer, scope, field, &element)?;
            }
            // Never in a document that is written: `element` resolves the one, and only
            // documents that were read have the other.
            Step::Ambiguous | Step::Mixed => {
                return Err(Malformed("a field name is ambiguous").into());
            }
        }
    }
    splicer.mend_length(doc.start(), mark)?;
    Ok(())
}

/// In an inserted or replacing document MongoDB puts the time in the place of a
/// timestamp of zero at the top level; of a sealed one it cannot know.
fn refuse_zero_timestamp(
    scope: &Scope<'_>,
    field: &Field,
    element: &Element<'_>,
) -> Result<(), Refusal> {
    if element.kind != kind::TIMESTAMP || element.value().iter().any(|byte| *byte != 0) {
        return Ok(());
    }
    Err(scope.refuse(
        &field.path,
        "the timestamp of zero, for which MongoDB puts the time,",
        "send the time itself",
    ))
}

/// Seals within the value of a field that holds sealed fields.
pub(super) fn seal_below(
    splicer: &mut Splicer<'_, '_>,
    scope: &Scope<'_>,
    element: &Element<'_>,
    node: NodeId,
    depth: usize,
) -> Result<(), Refusal> {
    match element.kind {
        kind::DOCUMENT => seal_document(splicer, scope, element.doc()?, node, depth + 1),
        kind::ARRAY => seal_array(splicer, scope, element.doc()?, node, depth + 1),
        _ => Ok(()),
    }
}

/// Paths go through arrays: every element is where the array is.
fn seal_array(
    splicer: &mut Splicer<'_, '_>,
    scope: &Scope<'_>,
    array: Doc<'_>,
    node: NodeId,
    depth: usize,
) -> Result<(), Refusal> {
    if depth > DEEPEST {
        return Err(Malformed("documents are nested too deep").into());
    }
    let mark = splicer.mark();
    for element in array.elements() {
        seal_below(splicer, scope, &element?, node, depth)?;
    }
    splicer.mend_length(array.start(), mark)?;
    Ok(())
}

/// MongoDB takes field names that hold a dot, but no path leads to them: one
/// that reads as the path of a sealed field would be stored in plain.
fn refuse_dotted(scope: &Scope<'_>, node: NodeId, key: &str) -> Result<(), Refusal> {
    if !key.bytes().any(|byte| byte == b'.') {
        return Ok(());
    }
    let mut at = node;
    let mut sealed = None;
    for component in key.split('.') {
        match scope.tree().element(at, component) {
            Step::Inner(next) => at = next,
            Step::Open => return Ok(()),
            Step::Sealed(leaf) => {
                sealed = Some(scope.collection.field(leaf));
                break;
            }
            Step::Ambiguous | Step::Mixed => break,
        }
    }
    let refuse = |path: &str| {
        scope.refuse(
            path,
            "a field name that holds a dot",
            "nest documents instead of naming a field by a path",
        )
    };
    Err(match sealed {
        Some(field) => refuse(key).logged_as(refuse(&field.path)),
        None => refuse(key),
    })
}

/// Puts the sealed form in the place of an element that stands at a sealed field.
pub(super) fn replace_field(
    splicer: &mut Splicer<'_, '_>,
    scope: &Scope<'_>,
    field: &Field,
    element: &Element<'_>,
) -> Result<(), Refusal> {
    check_value(scope, field, element)?;
    if element.is_null() || field.elements && holds_null_alone(element)? {
        if element.kind == kind::ARRAY && field.is_joined() {
            refuse_null_in_domain(scope, field, element)?;
        }
        return Ok(());
    }
    splicer.replace(element.start, element.end, |out| {
        write_field(out, scope, element.key, field, element)
    })
}

/// Whether a value is an array without anything to seal.
fn holds_null_alone(element: &Element<'_>) -> Result<bool, Malformed> {
    if element.kind != kind::ARRAY {
        return Ok(false);
    }
    for item in element.doc()?.elements() {
        if !item?.is_null() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Appends `element` in sealed form, under the name `key`.
pub(super) fn write_field(
    out: &mut Vec<u8>,
    scope: &Scope<'_>,
    key: &str,
    field: &Field,
    element: &Element<'_>,
) -> Result<(), Refusal> {
    if element.kind == kind::ARRAY {
        if field.elements {
            if field.is_joined() {
                refuse_null_in_domain(scope, field, element)?;
            }
            let mut writer = Writer::new(out);
            let open = writer.begin_array(key);
            for item in element.doc()?.elements() {
                let item = item?;
                write_value(writer.buffer(), scope, item.key, field, &item)?;
            }
            writer.end(open);
            return Ok(());
        }
        refuse_null_elements(scope, field, element)?;
    }
    write_value(out, scope, key, field, element)
}

/// Appends one value in sealed form: a Binary, or a document of a Binary and its tokens.
pub(super) fn write_value(
    out: &mut Vec<u8>,
    scope: &Scope<'_>,
    key: &str,
    field: &Field,
    element: &Element<'_>,
) -> Result<(), Refusal> {
    check_value(scope, field, element)?;
    if element.is_null() {
        Writer::new(out).value(element.kind, key, &[]);
        return Ok(());
    }
    if !field.types.allows(element.kind) {
        return Err(scope.wrong_type(&field.path, field, element.kind));
    }
    element.validate(DEEPEST)?;
    let value = element.value();
    if field.stores_plain {
        Writer::new(out).value(element.kind, key, value);
        return Ok(());
    }
    let Some(equality) = &field.equality else {
        return write_binary(out, key, field, element.kind, value);
    };
    let mut writer = Writer::new(out);
    let open = writer.begin_doc(key);
    write_binary(writer.buffer(), "c", field, element.kind, value)?;
    equality
        .write(&mut writer, element.kind, value)
        .ok_or_else(|| scope.wrong_type(&field.path, field, element.kind))?;
    writer.end(open);
    Ok(())
}

fn write_binary(
    out: &mut Vec<u8>,
    key: &str,
    field: &Field,
    kind: u8,
    value: &[u8],
) -> Result<(), Refusal> {
    let length = i32::try_from(field.sealed_length(value.len())).map_err(|_| {
        Refusal::new(
            RefusalKind::TooLarge,
            format_args!("the value of `{}` is too large to seal", field.path),
        )
    })?;
    Writer::new(out).name(kind::BINARY, key);
    out.extend_from_slice(&length.to_le_bytes());
    out.push(SUBTYPE);
    field.seal(kind, value, out);
    Ok(())
}

/// A join by tokens would miss null in an array.
pub(super) fn refuse_null_in_domain(
    scope: &Scope<'_>,
    field: &Field,
    array: &Element<'_>,
) -> Result<(), Refusal> {
    for item in array.doc()?.elements() {
        if item?.is_null() {
            return Err(null_in_domain(scope, field));
        }
    }
    Ok(())
}

/// Refuses to put null into an array of a field that is joined by tokens.
pub(super) fn null_in_domain(scope: &Scope<'_>, field: &Field) -> Refusal {
    scope.refuse(
        &field.path,
        "an array that holds null",
        "the schema gives the field a `domain`, and a join would miss it: leave null out",
    )
}

/// `{field: null}` matches an array that holds null. Sealed as one, it could not.
fn refuse_null_elements(
    scope: &Scope<'_>,
    field: &Field,
    array: &Element<'_>,
) -> Result<(), Refusal> {
    for item in array.doc()?.elements() {
        if item?.is_null() {
            return Err(scope.refuse(
                &field.path,
                "an array that holds null",
                "a query for null would miss it: set `elements = true` in the schema, so that elements are sealed one by one",
            ));
        }
    }
    Ok(())
}
