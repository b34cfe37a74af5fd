//! The position `$`: that of the element by which the filter found the document.
//!
//! MongoDB notes it while it matches, from whichever array of the filter. It must be
//! the one that it would be on plaintext, and may only lead into an array: in place
//! of one, a sealed value is a document, into which a number would be put as a name.

use super::condition::{Parts, gives_position};
use super::filter::{Purpose, is_operators};
use super::scope::{DEEPEST, Place, Scope};
use crate::raw::{Doc, Element, Malformed, kind};
use crate::refusal::Refusal;

/// What finds the document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finds<'m> {
    /// The filter, if there is one.
    pub(super) filter: Option<Element<'m>>,
    /// Whether a document may be made of it, which changes how sealed fields are asked for.
    pub(super) makes: bool,
}

impl<'m> Finds<'m> {
    fn document(&self) -> Option<Element<'m>> {
        self.filter.filter(|filter| filter.kind == kind::DOCUMENT)
    }
}

/// Refuses an update that uses `$` where the rewritten filter gives it no position, or another.
pub(super) fn check_update(
    scope: &Scope<'_>,
    finds: &Finds<'_>,
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
            keeps_position(scope, finds, path)?;
            let place = scope.unasked_place(path)?;
            let sealed = matches!(place, Place::Sealed { element: true, .. });
            if sealed && operator.key != "$unset" && only_path(finds)? != path.strip_suffix(".$") {
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
    finds: &Finds<'_>,
    projection: Option<&Element<'_>>,
) -> Result<(), Refusal> {
    let Some(projection) = projection.filter(|projection| projection.kind == kind::DOCUMENT) else {
        return Ok(());
    };
    for field in projection.doc()?.elements() {
        let path = field?.key;
        if path.ends_with(".$") {
            keeps_position(scope, finds, path)?;
        }
    }
    Ok(())
}

/// Refuses a filter whose position would be another, or none: null among others becomes a
/// `$or`, of which MongoDB keeps no position, presence is asked for before tokens, and an
/// array that is sealed as a whole has no elements.
fn keeps_position(scope: &Scope<'_>, finds: &Finds<'_>, path: &str) -> Result<(), Refusal> {
    let Some(filter) = finds.document() else {
        return Ok(());
    };
    let mut leaves = Leaves {
        makes: finds.makes,
        ..Leaves::default()
    };
    leaves.read(scope, filter.doc()?, 0)?;
    if leaves.moved {
        return Err(scope.refuse(
            path,
            "the position `$` of a filter that asks for null among others, for presence and values, or for what may be a sealed array",
            "use `$[name]` and arrayFilters",
        ));
    }
    if leaves.reordered() {
        return Err(scope.refuse(
            path,
            "the position `$` of a filter with several conditions that may give it",
            "use `$[name]` and arrayFilters",
        ));
    }
    Ok(())
}

/// The conditions of a filter that may give a position. Of several, that counts which
/// MongoDB matches last: for a projection in their order, for an update sorted by
/// operator, then by path. Both are kept where no operator becomes another one.
#[derive(Debug, Default)]
struct Leaves<'m> {
    /// Whether the filter is that of an upsert.
    makes: bool,
    /// Whether one of them is answered in a way that gives another position.
    moved: bool,
    /// Whether one of them becomes another operator.
    reorders: bool,
    /// Whether it is within a `$or` of several branches.
    either: bool,
    /// Whether tokens answer a condition in such a `$or`, and presence one.
    tokens: bool,
    presence: bool,
    /// The fields that hold sealed fields, as often as their elements are matched.
    matched: Vec<&'m str>,
    /// How many there are.
    count: usize,
    /// Their paths, each with what is added to it where tokens answer it.
    paths: Vec<(&'m str, &'m str)>,
}

/// How many conditions are compared with each other.
const MOST_LEAVES: usize = 100;

impl<'m> Leaves<'m> {
    /// `$nor` gives none on plaintext either, nor does `$or`, but MongoDB takes equalities
    /// of one path in it for a list.
    fn read(&mut self, scope: &Scope<'m>, filter: Doc<'m>, depth: usize) -> Result<(), Refusal> {
        if depth > DEEPEST {
            return Err(Malformed("a filter is nested too deep").into());
        }
        for condition in filter.elements() {
            let condition = condition?;
            if matches!(condition.key, "$and" | "$or") {
                // MongoDB takes a $or with one branch for that branch.
                let several = condition.array()?.elements().count() > 1;
                let outer = self.either;
                self.either |= condition.key == "$or" && several;
                for branch in condition.array()?.elements() {
                    self.read(scope, branch?.object()?, depth + 1)?;
                }
                self.either = outer;
            } else if !condition.key.starts_with('$') && condition.key != "_id" {
                self.condition(scope, &condition, depth)?;
            }
        }
        Ok(())
    }

    fn condition(
        &mut self,
        scope: &Scope<'m>,
        condition: &Element<'m>,
        depth: usize,
    ) -> Result<(), Refusal> {
        let path = condition.key;
        let place = scope.place(path)?;
        let holds_sealed = matches!(place, Place::Inner(_));
        let Place::Sealed { field, element } = place else {
            if !is_operators(condition)? {
                self.count += 1;
                self.paths.push((path, ""));
                return Ok(());
            }
            for operator in condition.doc()?.elements() {
                let operator = operator?;
                if gives_position(operator.key) {
                    self.count += 1;
                    self.paths.push((path, ""));
                }
                // Of several, MongoDB sorts them by what is in them as well.
                if holds_sealed && matches!(operator.key, "$elemMatch" | "$all") {
                    let all = operator.key == "$all";
                    self.count += usize::from(all);
                    self.reorders |= all || self.matched.contains(&path);
                    self.matched.push(path);
                }
            }
            return Ok(());
        };
        let mut parts = Parts::new(scope, path, field, element, depth);
        let mut purpose = match self.makes {
            true => Purpose::UpsertBranch,
            false => Purpose::Match,
        };
        parts.read(condition, &mut purpose)?;
        self.moved |= parts.moves_position();
        self.reorders |= parts.reorders();
        if self.either && parts.positions() > 0 {
            match parts.by_token() {
                true => self.tokens = true,
                false => self.presence = true,
            }
            // What is no longer an equality, or of one path with others, makes no list.
            self.moved |= parts.reorders() || self.tokens && self.presence;
        }
        self.count += parts.positions();
        if parts.positions() > 0 {
            let suffix = match (&field.equality, parts.by_token()) {
                (Some(equality), true) => equality.suffix.as_str(),
                _ => "",
            };
            self.paths.push((path, suffix));
        }
        Ok(())
    }

    /// Whether MongoDB may match them in another order than on plaintext.
    fn reordered(&self) -> bool {
        if self.count < 2 {
            return false;
        }
        let changed = self.paths.iter().any(|(_, suffix)| !suffix.is_empty());
        if self.reorders || changed && self.paths.len() > MOST_LEAVES {
            return true;
        }
        let stored = |(path, suffix): (&'m str, &'m str)| path.bytes().chain(suffix.bytes());
        changed
            && self.paths.iter().enumerate().any(|(index, one)| {
                self.paths
                    .iter()
                    .skip(index + 1)
                    .any(|other| one.0.cmp(other.0) != stored(*one).cmp(stored(*other)))
            })
    }
}

/// The one path that a filter compares beside `_id`, which is never an array.
fn only_path<'m>(finds: &Finds<'m>) -> Result<Option<&'m str>, Refusal> {
    let Some(filter) = finds.document() else {
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
