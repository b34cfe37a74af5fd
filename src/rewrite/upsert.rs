//! Upserts by sealed fields: what MongoDB would put into the new document of the filter
//! would be tokens, so the values go into `$setOnInsert`.

use super::document::write_value;
use super::filter::UpsertEquality;
use super::scope::{Place, Scope};
use crate::raw::{Doc, Malformed};
use crate::refusal::Refusal;

/// How many fields the filter of an upsert may compare: each is looked for in the update.
const MOST_EQUALITIES: usize = 1_000;

pub(super) fn write_equalities(
    out: &mut Vec<u8>,
    scope: &Scope<'_>,
    equalities: &[UpsertEquality<'_>],
) -> Result<(), Refusal> {
    for (path, value) in equalities
        .iter()
        .filter_map(|equality| Some((equality.path, equality.sealed?)))
    {
        if let Place::Sealed { field, .. } = scope.unasked_place(path)? {
            write_value(out, scope, path, field, &value)?;
        }
    }
    Ok(())
}

/// What MongoDB would refuse if it saw that all of them are equalities.
pub(super) fn check(scope: &Scope<'_>, equalities: &[UpsertEquality<'_>]) -> Result<(), Refusal> {
    if equalities.len() > MOST_EQUALITIES {
        return Err(Malformed("an upsert compares too many fields").into());
    }
    for (index, equality) in equalities.iter().enumerate() {
        let path = equality.path;
        let sealed = matches!(scope.unasked_place(path)?, Place::Sealed { .. });
        if sealed && path.split('.').any(crate::schema::is_position) {
            return Err(scope.refuse(
                path,
                "an upsert by an array's element",
                "set the field in the update",
            ));
        }
        if let Some(other) = equalities
            .iter()
            .skip(index + 1)
            .find(|other| within(path, other.path) || within(other.path, path))
        {
            return Err(scope.refuse(
                other.path,
                "an upsert that compares it twice",
                "compare it once",
            ));
        }
    }
    Ok(())
}

/// The equalities that the update itself does not decide.
pub(super) fn not_set<'m>(
    scope: &Scope<'_>,
    update: Doc<'m>,
    equalities: &[UpsertEquality<'m>],
) -> Result<Vec<UpsertEquality<'m>>, Refusal> {
    check(scope, equalities)?;
    let mut missing = Vec::new();
    for equality in equalities {
        if equality.sealed.is_some() && !decided(scope, update, equality.path)? {
            missing.push(*equality);
        }
    }
    Ok(missing)
}

/// Whether the update sets or unsets `path`, so that the filter's value does not stay.
fn decided(scope: &Scope<'_>, update: Doc<'_>, path: &str) -> Result<bool, Refusal> {
    for operator in update.elements() {
        let operator = operator?;
        for field in operator.object()?.elements() {
            let field = field?;
            let decides = match operator.key {
                "$set" | "$setOnInsert" => true,
                // Unset below another field, it would leave that one, empty.
                "$unset" => !field.key.contains('.'),
                _ => false,
            };
            if decides && within(path, field.key) {
                return Ok(true);
            }
            if meets(path, field.key) {
                return Err(scope.refuse(
                    path,
                    &format!(
                        "an upsert whose filter compares it and whose update has `{}` of `{}`",
                        operator.key, field.key
                    ),
                    "set it in the update with $set or $setOnInsert",
                ));
            }
        }
    }
    Ok(false)
}

/// Whether one path holds the other, or may, as a position may be any name.
fn meets(path: &str, other: &str) -> bool {
    for (one, other) in path.split('.').zip(other.split('.')) {
        if crate::schema::is_position(one) || crate::schema::is_position(other) {
            return true;
        }
        if one != other {
            return false;
        }
    }
    true
}

/// Whether `path` is `outer` or lies below it.
pub(super) fn within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
