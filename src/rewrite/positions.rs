//! The position `$`: that of the element by which the filter found the document.
//!
//! MongoDB notes it while it matches, from whichever array of the filter. It must be
//! the one that it would be on plaintext, and may only lead into an array: in place
//! of one, a sealed value is a document, into which a number would be put as a name.

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
            let sealed = matches!(scope.place(path)?, Place::Sealed { element: true, .. });
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

/// A `$in` of null among others becomes a `$or`, of which MongoDB keeps no position.
fn keeps_position(
    scope: &Scope<'_>,
    filter: Option<&Element<'_>>,
    path: &str,
) -> Result<(), Refusal> {
    match filter.filter(|filter| filter.kind == kind::DOCUMENT) {
        Some(filter) if mixes_null(scope, filter.doc()?, 0)? => Err(scope.refuse(
            path,
            "the position `$` of a filter with null among others in `$in`",
            "ask for null by itself",
        )),
        _ => Ok(()),
    }
}

/// Whether a `$in` on a sealed field holds null among others. `$or` and `$nor` give no
/// position on plaintext either.
fn mixes_null(scope: &Scope<'_>, filter: Doc<'_>, depth: usize) -> Result<bool, Refusal> {
    if depth > DEEPEST {
        return Err(Malformed("a filter is nested too deep").into());
    }
    for condition in filter.elements() {
        let condition = condition?;
        if condition.key == "$and" {
            for branch in condition.array()?.elements() {
                if mixes_null(scope, branch?.object()?, depth + 1)? {
                    return Ok(true);
                }
            }
        } else if !condition.key.starts_with('$')
            && condition.kind == kind::DOCUMENT
            && matches!(scope.place(condition.key)?, Place::Sealed { .. })
            && let Some(list) = condition.doc()?.find("$in")?
        {
            let (mut nulls, mut others) = (false, false);
            for value in list.array()?.elements() {
                if value?.is_null() {
                    nulls = true;
                } else {
                    others = true;
                }
            }
            if nulls && others {
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
