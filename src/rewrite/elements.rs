//! Updates that add elements to arrays or take them out: `$push` and `$pull`.

use super::condition::{operator_name, write_tokens};
use super::document::{seal_below, write_field, write_value};
use super::filter::is_operators;
use super::scope::{BY_CONTENT, Place, Scope};
use super::update::is_number;
use crate::policy::Field;
use crate::raw::{Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;
use crate::schema::NodeId;

/// The `$each` list of a `$push`, with its other modifiers checked; none if it has no modifiers.
fn each<'m>(
    scope: &Scope<'_>,
    element: &Element<'m>,
    node: Option<NodeId>,
) -> Result<Option<Element<'m>>, Refusal> {
    if element.kind != kind::DOCUMENT || element.doc()?.find("$each")?.is_none() {
        return Ok(None);
    }
    let mut list = None;
    for modifier in element.doc()?.elements() {
        let modifier = modifier?;
        match (modifier.key, node) {
            ("$each", _) if list.is_some() || modifier.kind != kind::ARRAY => {
                return Err(Malformed("$each takes one array").into());
            }
            ("$each", _) => list = Some(modifier),
            ("$slice" | "$position", _) if is_number(&modifier) => {}
            ("$sort", Some(node)) if modifier.kind == kind::DOCUMENT => {
                for key in modifier.doc()?.elements() {
                    let key = key?;
                    if !matches!(scope.place_from(node, key.key)?, Place::Open) {
                        return Err(scope.refuse(key.key, "`$sort` in `$push`", BY_CONTENT));
                    }
                }
            }
            (other, _) => {
                return Err(scope.refuse(
                    element.key,
                    &format!("`{other}` in `$push`"),
                    BY_CONTENT,
                ));
            }
        }
    }
    Ok(list)
}

pub(super) fn push_documents<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
    node: NodeId,
) -> Result<(), Refusal> {
    let Some(list) = each(scope, element, Some(node))? else {
        return seal_below(splicer, scope, element, node, 0);
    };
    let modifiers = element.doc()?;
    let mark = splicer.mark();
    seal_below(splicer, scope, &list, node, 1)?;
    splicer.mend_length(modifiers.start(), mark)?;
    Ok(())
}

pub(super) fn push_elements<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
    field: &Field,
) -> Result<(), Refusal> {
    match each(scope, element, None)? {
        None => splicer.replace(element.start, element.end, |out| {
            write_value(out, scope, element.key, field, element)
        }),
        Some(list) => {
            let modifiers = element.doc()?;
            let mark = splicer.mark();
            splicer.replace(list.start, list.end, |out| {
                write_field(out, scope, list.key, field, &list)
            })?;
            splicer.mend_length(modifiers.start(), mark)?;
            Ok(())
        }
    }
}

/// `$pull` of sealed elements: a condition on their tokens, which null elements never meet.
pub(super) fn pull_elements<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
    field: &Field,
) -> Result<(), Refusal> {
    if element.is_null() {
        return Ok(());
    }
    let refuse = |what: &str| {
        Err(scope.refuse(
            element.key,
            &format!("`$pull` {what}"),
            "with equality it takes a value, {$eq: value} or {$in: [values]} without null",
        ))
    };
    let Some(equality) = &field.equality else {
        return refuse("of elements without equality");
    };
    if scope.collection.on_plaintext == crate::schema::OnPlaintext::Allow {
        return refuse("while the collection allows plaintext");
    }
    scope.compared.set(true);
    let mut tokens = Vec::new();
    if is_operators(element)? {
        for operator in element.doc()?.elements() {
            let operator = operator?;
            match operator.key {
                "$in" => {
                    for value in operator.array()?.elements() {
                        tokens.push(value?);
                    }
                }
                "$eq" => tokens.push(operator),
                other => return refuse(&format!("with {}", operator_name(other))),
            }
        }
        if element.doc()?.elements().count() != 1 {
            return refuse("with several operators");
        }
    } else {
        tokens.push(*element);
    }
    let mut made = Vec::with_capacity(tokens.len());
    for value in tokens {
        match equality.key.equality(value.kind, value.value()) {
            Some(token) => made.push(token),
            None => return refuse("of null, a document, an array or a pattern among others"),
        }
    }
    splicer.replace(element.start, element.end, |out| {
        let mut writer = Writer::new(out);
        let condition = writer.begin_doc(element.key);
        let by_token = writer.begin_doc(&equality.name);
        write_tokens(&mut writer, "$in", &made);
        writer.end(by_token);
        writer.end(condition);
    });
    Ok(())
}
