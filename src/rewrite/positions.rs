//! The position `$`: that of the element by which the filter found the document.
//!
//! MongoDB notes it while it matches, from whichever array of the filter. It must be
//! the one that it would be on plaintext, and may only lead into an array: in place
//! of one, a sealed value is a document, into which a number would be put as a name.

use super::condition::Parts;
use super::filter::Purpose;
use super::scope::{DEEPEST, Place, Scope};
use crate::raw::{Doc, Element, Malformed, kind};
use crate::refusal::Refusal;

/// Refuses an update that uses `$` where the rewritten filter gives it no position, or another.
pub(super) fn check_update(
    scope: &Scope<'_>,
    filter: Option<&Element<'_>>,
    update: Option<&Element<'_>>,
) -> Result<(), Refusal> {
    let Some(update) = update.filter(|update| update.kind == kind::DOCUMENT) else {
        return Ok(());
    };
    for operator in update.doc()?.elements() {
        let operator = operator?;
        if operator.kind != kind::DOCUMENT || !operator.key.starts_with('$') {
            continue;
        }
        for field in operator.doc()?.elements() {
            let path = field?.key;
            if !path.split('.').any(|component| component == "$") {
                continue;
            }
            keeps_position(scope, filter, path)?;
            let place = scope.unasked_place(path)?;
            let sealed = matches!(place, Place::Sealed { element: true, .. });
            if sealed && operator.key != "$unset" && only_path(filter)? != path.strip_suffix(".$") {
                return Err(scope.refuse(
                    path,
                    "the position `$` of a filter that compares other fields",
                    "compare nothing but it and `_id`, or use `$[name]` and arrayFilters",
                ));
            }
        }
    }
    Ok(())
}

/// Refuses a projection of the element found where the rewritten filter finds none.
pub(super) fn check_projection(
    scope: &Scope<'_>,
    filter: Option<&Element<'_>>,
    projection: Option<&Element<'_>>,
) -> Result<(), Refusal> {
    let Some(projection) = projection.filter(|projection| projection.kind == kind::DOCUMENT) else {
        return Ok(());
    };
    for field in projection.doc()?.elements() {
        let path = field?.key;
        if path.ends_with(".$") {
            keeps_position(scope, filter, path)?;
        }
    }
    Ok(())
}

/// Null among others, as in a `$in`, becomes a `$or`, of which MongoDB keeps no position.
fn keeps_position(
    scope: &Scope<'_>,
    filter: Option<&Element<'_>>,
    path: &str,
) -> Result<(), Refusal> {
    match filter.filter(|filter| filter.kind == kind::DOCUMENT) {
        Some(filter) if moves_position(scope, filter.doc()?, 0)? => Err(scope.refuse(
            path,
            "the position `$` of a filter with null among others",
            "ask for null by itself",
        )),
        _ => Ok(()),
    }
}

/// Whether a condition on a sealed field is answered in a way that gives another position.
/// `$or` and `$nor` give none on plaintext either.
fn moves_position(scope: &Scope<'_>, filter: Doc<'_>, depth: usize) -> Result<bool, Refusal> {
    if depth > DEEPEST {
        return Err(Malformed("a filter is nested too deep").into());
    }
    for condition in filter.elements() {
        let condition = condition?;
        // MongoDB takes a $or with one branch for that branch.
        let one = condition.key == "$or" && condition.array()?.elements().count() == 1;
        if condition.key == "$and" || one {
            for branch in condition.array()?.elements() {
                if moves_position(scope, branch?.object()?, depth + 1)? {
                    return Ok(true);
                }
            }
        } else if !condition.key.starts_with('$')
            && let Place::Sealed { field, element } = scope.place(condition.key)?
        {
            let mut parts = Parts::new(scope, condition.key, field, element, depth);
            parts.read(&condition, &mut Purpose::Match)?;
            if parts.moves_position() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The one path that a filter compares beside `_id`, which is never an array.
fn only_path<'m>(filter: Option<&Element<'m>>) -> Result<Option<&'m str>, Refusal> {
    let Some(filter) = filter.filter(|filter| filter.kind == kind::DOCUMENT) else {
        return Ok(None);
    };
    let mut only = None;
    for condition in filter.doc()?.elements() {
        let condition = condition?;
        if condition.key == "_id" {
            continue;
        }
        if condition.key.starts_with('$') || only.is_some() {
            return Ok(None);
        }
        only = Some(condition.key);
    }
    Ok(only)
}
