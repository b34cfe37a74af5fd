//! The array filters of an update: which elements its paths `a.$[identifier]` mean.

use std::cell::Cell;

use super::filter::{Filter, Purpose};
use super::scope::{Place, Scope};
use crate::raw::{Element, Malformed, Splicer, kind};
use crate::refusal::Refusal;

/// The array filters of an update: conditions on elements, by identifier.
pub(super) fn rewrite<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    filters: &Element<'m>,
    update: Option<&Element<'m>>,
) -> Result<(), Refusal> {
    let array = filters.array()?;
    let paths = Identifiers {
        scope,
        update,
        looks: Cell::new(MOST_LOOKS),
    };
    let mark = splicer.mark();
    for filter in array.elements() {
        let filter = filter?.object()?;
        Filter {
            scope,
            paths: &paths,
        }
        .rewrite(splicer, filter, &mut Purpose::Match, 0)?;
    }
    splicer.mend_length(array.start(), mark)?;
    Ok(())
}

/// How many times the fields of an update are looked at for all its array filters.
const MOST_LOOKS: usize = 10_000_000;

/// Resolves the identifiers of array filters by the paths `a.$[identifier]` of the update.
struct Identifiers<'s, 'c, 'e, 'm> {
    scope: &'s Scope<'c>,
    update: Option<&'e Element<'m>>,
    /// How many more fields of the update may be looked at.
    looks: Cell<usize>,
}

impl<'c> super::filter::Paths<'c> for Identifiers<'_, 'c, '_, '_> {
    fn place(&self, path: &str) -> Result<Place<'c>, Refusal> {
        let (identifier, rest) = match path.split_once('.') {
            Some((identifier, rest)) => (identifier, Some(rest)),
            None => (path, None),
        };
        let mut found: Option<Place<'c>> = None;
        let update = match self.update {
            Some(update) if update.kind == kind::DOCUMENT => update.doc()?,
            _ => {
                return Err(self
                    .scope
                    .refuse_command("`arrayFilters` without update operators", "use $set"));
            }
        };
        for operator in update.elements() {
            for field in operator?.object()?.elements() {
                let looks = self.looks.get().checked_sub(1);
                self.looks
                    .set(looks.ok_or(Malformed("too many array filters for so large an update"))?);
                let Some(target) = bound(field?.key, identifier) else {
                    continue;
                };
                let place = match rest {
                    Some(rest) => self.scope.place(&format!("{target}.{rest}"))?,
                    None => self.scope.place(target)?,
                };
                match (found, place) {
                    (None, _) | (Some(Place::Open), Place::Open) => found = Some(place),
                    (Some(Place::Inner(one)), Place::Inner(other)) if one == other => {}
                    (
                        Some(Place::Sealed { field: one, .. }),
                        Place::Sealed { field: other, .. },
                    ) if one.id == other.id => {}
                    _ => {
                        return Err(self.scope.refuse(
                            path,
                            "an array filter whose identifier stands for several fields",
                            "use an identifier for each",
                        ));
                    }
                }
            }
        }
        found.ok_or_else(|| {
            self.scope.refuse_command(
                &format!("the array filter `{identifier}`, which the update does not use,"),
                "remove it",
            )
        })
    }
}

/// The part of an update's path up to and with `$[identifier]`.
fn bound<'p>(path: &'p str, identifier: &str) -> Option<&'p str> {
    let mut end = 0;
    for component in path.split('.') {
        end += component.len();
        let name = component
            .strip_prefix("$[")
            .and_then(|rest| rest.strip_suffix(']'));
        if name == Some(identifier) {
            return path.get(..end);
        }
        end += 1;
    }
    None
}
