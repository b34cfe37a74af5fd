//! Fields of one `domain` are joined by tokens, and null in an array has none: so no
//! update may put null into such an array.

use super::document::null_in_domain;
use super::scope::{Place, Scope};
use crate::raw::{Doc, Element, kind};
use crate::refusal::Refusal;

/// Refuses update operators that would put null among the elements of a field with a `domain`.
pub(super) fn check_operators(scope: &Scope<'_>, update: Doc<'_>) -> Result<(), Refusal> {
    for operator in update.elements() {
        let operator = operator?;
        let adds = matches!(operator.key, "$push" | "$addToSet");
        let sets = matches!(operator.key, "$set" | "$setOnInsert");
        if !adds && !sets && operator.key != "$unset" {
            continue;
        }
        for change in operator.object()?.elements() {
            let change = change?;
            let Place::Sealed { field, element } = scope.unasked_place(change.key)? else {
                continue;
            };
            let puts_null = match element {
                // An element that is unset becomes null.
                true => !sets || change.is_null(),
                false => adds && adds_null(&change)?,
            };
            if puts_null && field.is_joined() {
                return Err(null_in_domain(scope, field));
            }
        }
    }
    Ok(())
}

/// Whether `$push` or `$addToSet` of this adds null.
fn adds_null(added: &Element<'_>) -> Result<bool, Refusal> {
    let list = match added.kind {
        kind::DOCUMENT => added.doc()?.find("$each")?,
        _ => None,
    };
    let Some(list) = list.filter(|list| list.kind == kind::ARRAY) else {
        return Ok(added.is_null());
    };
    for item in list.doc()?.elements() {
        if item?.is_null() {
            return Ok(true);
        }
    }
    Ok(false)
}
