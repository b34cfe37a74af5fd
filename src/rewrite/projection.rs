//! Projections: which fields a reply holds. Paths of sealed fields stay what they are.

use super::element_condition::{Asking, Form};
use super::expression::{Environment, Expressions, Want};
use super::filter::{Below, Filter, Purpose};
use super::permission::check_metadata;
use super::scope::{DEEPEST, Place, Scope, by_content};
use super::shape::{Content, Shape};
use crate::policy::Field;
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;
use crate::schema::{NodeId, Tree};

/// Rewrites the projection in `element`; every field of the reply keeps its path.
pub(super) fn rewrite<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
) -> Result<(), Refusal> {
    if element.is_null() {
        return Ok(());
    }
    level(splicer, scope, element.object()?, Some(Tree::ROOT), 0)
}

/// One level of a projection; `node` is none below an open field.
fn level<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    doc: Doc<'m>,
    node: Option<NodeId>,
    depth: usize,
) -> Result<(), Refusal> {
    if depth > DEEPEST {
        return Err(Malformed("a projection is nested too deep").into());
    }
    let mark = splicer.mark();
    for element in doc.elements() {
        let element = element?;
        let place = match node {
            Some(node) => scope.unasked_place_from(node, element.key)?,
            None => Place::Open,
        };
        if let Place::Sealed {
            field,
            element: position,
        } = place
            && field.is_masked()
            && (position || !leaves_or_shows(element.kind))
        {
            return Err(scope.unreadable(field));
        }
        match element.kind {
            kind if leaves_or_shows(kind) => {}
            kind::DOCUMENT => document(splicer, scope, &element, place, depth)?,
            _ => computed(splicer, scope, &element, place)?,
        }
    }
    splicer.mend_length(doc.start(), mark)?;
    Ok(())
}

/// Whether a value says no more than that a field is in the reply or not.
fn leaves_or_shows(kind: u8) -> bool {
    matches!(
        kind,
        kind::BOOL | kind::INT32 | kind::INT64 | kind::DOUBLE | kind::DECIMAL128
    )
}

fn document<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
    place: Place<'_>,
    depth: usize,
) -> Result<(), Refusal> {
    let mut operators = element.object()?.elements();
    let operator = match operators.next().transpose()? {
        Some(first) if first.key.starts_with('$') => first,
        _ => {
            return match place {
                Place::Open => level(splicer, scope, element.doc()?, None, depth + 1),
                Place::Inner(node) => level(splicer, scope, element.doc()?, Some(node), depth + 1),
                Place::Sealed { .. } => Err(scope.refuse(
                    element.key,
                    "a projection of its parts",
                    "project the field as a whole",
                )),
            };
        }
    };
    if operators.next().is_some() {
        return Err(scope.refuse_command(
            &format!("a projection of `{}` by several operators", element.key),
            "MongoDB takes one",
        ));
    }
    match (operator.key, place) {
        ("$slice", Place::Sealed { field, .. }) if !field.elements => Err(scope.refuse(
            element.key,
            "`$slice`",
            "an array is sealed as one value; set `elements = true` in the schema",
        )),
        ("$slice", _) if numbers_only(&operator)? => Ok(()),
        ("$elemMatch", Place::Open) => Ok(()),
        ("$meta", Place::Open) => check_metadata(scope, &operator),
        ("$elemMatch", Place::Inner(node)) => {
            let mark = splicer.mark();
            let paths = Below(scope, node);
            Filter {
                scope,
                paths: &paths,
            }
            .rewrite(splicer, operator.object()?, &mut Purpose::Match, 0)?;
            splicer.mend_length(element.doc()?.start(), mark)?;
            Ok(())
        }
        (
            "$elemMatch",
            Place::Sealed {
                field,
                element: false,
            },
        ) if field.elements => {
            let mark = splicer.mark();
            sealed_elements(splicer, scope, element.key, &operator, field)?;
            splicer.mend_length(element.doc()?.start(), mark)?;
            Ok(())
        }
        _ => computed(splicer, scope, element, place),
    }
}

/// The first sealed element that meets a condition.
fn sealed_elements<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    path: &str,
    operator: &Element<'m>,
    field: &Field,
) -> Result<(), Refusal> {
    let asking = Asking {
        scope,
        path,
        field,
        operator: "`$elemMatch` in a projection",
    };
    let condition = operator.object()?;
    if condition.is_empty() {
        return Err(scope.refuse(
            path,
            "an empty `$elemMatch`",
            "project the array as a whole",
        ));
    }
    let verdict = asking.operators(operator, 0)?;
    let mark = splicer.mark();
    let inner = match (verdict.form(), &field.equality) {
        (Form::AsIs, _) => return Ok(()),
        (Form::ByType(stored), _) => {
            let mut out = Vec::new();
            stored.write(&mut Writer::new(&mut out), "$type", field);
            out
        }
        (Form::ByToken, Some(equality)) => {
            let mut out = Vec::new();
            verdict.write_filter(&mut Writer::new(&mut out), equality);
            out
        }
        (Form::Either(_) | Form::ByToken, _) => {
            return Err(scope.refuse(
                path,
                "`$elemMatch` in a projection that null may meet as well",
                "name null by itself, or rule it out: {$ne: value, $type: <its type>}",
            ));
        }
    };
    let (from, to) = (condition.start() + 4, condition.end() - 1);
    splicer.replace(from, to, |out| out.extend_from_slice(&inner));
    splicer.mend_length(condition.start(), mark)?;
    Ok(())
}

fn numbers_only(slice: &Element<'_>) -> Result<bool, Refusal> {
    if slice.kind != kind::ARRAY {
        return Ok(slice.integer().is_some());
    }
    for item in slice.doc()?.elements() {
        if item?.integer().is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A field that the projection computes. It may move sealed values, which replies
/// open wherever they stand.
fn computed<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
    place: Place<'_>,
) -> Result<(), Refusal> {
    match place {
        Place::Open => {
            let root = Content::Document(Shape::of(scope.collection));
            let content = Expressions::new(scope, "a computed projection").rewrite(
                splicer,
                element,
                Want::Value,
                Environment::of(scope, &root),
            )?;
            // In plain a value does not say of which field it is.
            if scope.collection.on_plaintext.is_expected() && scope.masks && !content.is_open() {
                return Err(scope.unauthorized_in_plain());
            }
            Ok(())
        }
        _ => Err(scope.refuse(
            element.key,
            "a computed value in a projection",
            by_content::RENAME,
        )),
    }
}
