//! Query filters: conditions on sealed fields become conditions on tokens or on
//! presence; what neither can answer exactly is refused.
//!
//! A condition `ssn: {…}` becomes up to three: `ssn: {…}` for what presence
//! answers (null stays null, missing stays missing, arrays stay arrays),
//! `ssn.e1: {…}` for what tokens answer, and `$or`/`$nor` where a list mixes
//! both. MongoDB holds all of them together, as it did the one.

use super::condition::Parts;
use super::document::seal_below;
use super::expression::{Environment, Expressions, Want};
use super::json_schema;
use super::permission::LEAVE_OUT;
use super::scope::{DEEPEST, Place, Scope};
use super::shape::{Content, Shape};
use crate::raw::{Doc, Element, Malformed, Splicer, kind};
use crate::refusal::Refusal;
use crate::schema::NodeId;

/// What a filter is for.
#[derive(Debug)]
pub(super) enum Purpose<'f, 'm> {
    /// Finding documents.
    Match,
    /// Finding or making one: the equalities that MongoDB would put into the new document.
    Upsert(&'f mut Vec<UpsertEquality<'m>>),
    /// A branch of such a filter, from which MongoDB takes no equality.
    UpsertBranch,
}

/// An equality on a sealed field, or on one that holds sealed fields, which an upsert
/// puts into the new document.
#[derive(Debug, Clone, Copy)]
pub(super) struct UpsertEquality<'m> {
    /// The path as the filter has it.
    pub(super) path: &'m str,
    /// The value that has to be sealed; nothing where MongoDB itself puts it there, as
    /// null and what is stored as it is.
    pub(super) sealed: Option<Element<'m>>,
}

impl<'m> Purpose<'_, 'm> {
    /// Whether a document may be made of the filter.
    pub(super) fn makes(&self) -> bool {
        matches!(self, Self::Upsert(_) | Self::UpsertBranch)
    }

    /// Notes that MongoDB itself puts what `path` is compared with into a new document.
    pub(super) fn copied(&mut self, path: &'m str) {
        if let Self::Upsert(equalities) = self {
            equalities.push(UpsertEquality { path, sealed: None });
        }
    }

    fn branch<'b>(&self) -> Purpose<'b, 'm> {
        match self {
            Self::Match => Purpose::Match,
            Self::Upsert(_) | Self::UpsertBranch => Purpose::UpsertBranch,
        }
    }
}

/// Where names are looked up: from the top level or below it, and whether
/// the first component is the identifier of an array filter.
pub(super) trait Paths<'c> {
    /// Where `path` leads.
    fn place(&self, path: &str) -> Result<Place<'c>, Refusal>;

    /// Where they begin, if they do at one place.
    fn node(&self) -> Option<NodeId> {
        None
    }
}

/// Paths from a node of the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Below<'s, 'c>(pub(super) &'s Scope<'c>, pub(super) NodeId);

impl<'c> Paths<'c> for Below<'_, 'c> {
    fn place(&self, path: &str) -> Result<Place<'c>, Refusal> {
        self.0.place_from(self.1, path)
    }

    fn node(&self) -> Option<NodeId> {
        Some(self.1)
    }
}

/// One pass over one filter.
pub(super) struct Filter<'s, 'c, 'p, P> {
    pub(super) scope: &'s Scope<'c>,
    pub(super) paths: &'p P,
}

impl<'c, P: Paths<'c>> Filter<'_, 'c, '_, P> {
    /// Rewrites the filter `doc` in place.
    pub(super) fn rewrite<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        doc: Doc<'m>,
        purpose: &mut Purpose<'_, 'm>,
        depth: usize,
    ) -> Result<(), Refusal> {
        if depth > DEEPEST {
            return Err(Malformed("a filter is nested too deep").into());
        }
        let mark = splicer.mark();
        for element in doc.elements() {
            let element = element?;
            if element.key.starts_with('$') {
                self.logical(splicer, &element, purpose, depth)?;
            } else {
                self.condition(splicer, &element, purpose, depth)?;
            }
        }
        splicer.mend_length(doc.start(), mark)?;
        Ok(())
    }

    fn logical<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        purpose: &mut Purpose<'_, 'm>,
        depth: usize,
    ) -> Result<(), Refusal> {
        match element.key {
            "$and" => self.branches(splicer, element, purpose, depth),
            // MongoDB takes a $or with one branch for that branch, in upserts too.
            "$or" if element.array()?.elements().count() == 1 => {
                self.branches(splicer, element, purpose, depth)
            }
            "$or" | "$nor" => self.branches(splicer, element, &mut purpose.branch(), depth),
            "$expr" => self.expression(splicer, element),
            // MongoDB drops such a branch of $or before it looks for equalities.
            "$alwaysTrue" | "$alwaysFalse" if purpose.makes() => Err(self.scope.refuse_command(
                &format!("`{}` in the filter of an upsert", element.key),
                "leave it out",
            )),
            "$jsonSchema" => match self.paths.node() {
                Some(node) => {
                    // It may ask which names documents have.
                    self.scope.readable_below(node, element.key)?;
                    json_schema::rewrite(splicer, self.scope, element, node)
                }
                None => Err(self
                    .scope
                    .refuse_command("`$jsonSchema` in an array filter", "compare the fields")),
            },
            "$comment" | "$alwaysTrue" | "$alwaysFalse" | "$sampleRate" | "$text" => Ok(()),
            other => Err(self.scope.refuse_command(
                &format!("`{other}` in a filter"),
                "use comparison operators on the fields themselves",
            )),
        }
    }

    /// `$expr`, which always reads the whole document.
    fn expression<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
    ) -> Result<(), Refusal> {
        let stored;
        let root = match self.scope.root {
            Some(root) => root,
            None => {
                stored = Content::Document(Shape::of(self.scope.collection));
                &stored
            }
        };
        Expressions::new(self.scope, "$expr").rewrite(
            splicer,
            element,
            Want::Truth,
            Environment::of(self.scope, root),
        )?;
        Ok(())
    }

    fn branches<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        purpose: &mut Purpose<'_, 'm>,
        depth: usize,
    ) -> Result<(), Refusal> {
        let array = element.array()?;
        let mark = splicer.mark();
        for branch in array.elements() {
            self.rewrite(splicer, branch?.object()?, purpose, depth + 1)?;
        }
        splicer.mend_length(array.start(), mark)?;
        Ok(())
    }

    fn condition<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        purpose: &mut Purpose<'_, 'm>,
        depth: usize,
    ) -> Result<(), Refusal> {
        match self.paths.place(element.key)? {
            Place::Open => Ok(()),
            Place::Inner(node) => {
                note_parent(element, purpose)?;
                self.on_parent(splicer, element, node, depth)
            }
            Place::Sealed {
                field,
                element: position,
            } => {
                if purpose.makes() && field.access.read_only {
                    return Err(self.scope.unwritable(field, LEAVE_OUT));
                }
                let mut parts = Parts::new(self.scope, element.key, field, position, depth);
                parts.read(element, purpose)?;
                if parts.unchanged() {
                    return Ok(());
                }
                splicer.replace(element.start, element.end, |out| parts.write(out));
                Ok(())
            }
        }
    }

    /// A condition on a field that holds sealed fields: whatever does not look at its documents.
    fn on_parent<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        node: NodeId,
        depth: usize,
    ) -> Result<(), Refusal> {
        if depth > DEEPEST {
            return Err(Malformed("a filter is nested too deep").into());
        }
        if !is_operators(element)? {
            return self.equal(splicer, element.key, element, node);
        }
        let operators = element.doc()?;
        let mark = splicer.mark();
        for operator in operators.elements() {
            let operator = operator?;
            match operator.key {
                // Numbers and lists of numbers or names.
                "$type" | "$mod" | "$bitsAllSet" | "$bitsAnySet" | "$bitsAllClear"
                | "$bitsAnyClear"
                    if operator.kind == kind::ARRAY =>
                {
                    self.list(element.key, &operator)?
                }
                "$exists" | "$size" | "$type" | "$regex" | "$options" | "$mod" | "$bitsAllSet"
                | "$bitsAnySet" | "$bitsAllClear" | "$bitsAnyClear" | "$gt" | "$gte" | "$lt"
                | "$lte" => self.whole(element.key, &operator)?,
                "$eq" | "$ne" => self.equal(splicer, element.key, &operator, node)?,
                "$in" | "$nin" => {
                    for value in operator.array()?.elements() {
                        self.equal(splicer, element.key, &value?, node)?;
                    }
                }
                "$not" if operator.kind == kind::REGEX => {}
                "$not" => self.on_parent_again(splicer, element.key, &operator, node, depth)?,
                "$elemMatch" => self.on_elements(splicer, element.key, &operator, node, depth)?,
                "$all" => {
                    let array = operator.array()?;
                    let mark = splicer.mark();
                    for item in array.elements() {
                        let item = item?;
                        if item.kind == kind::DOCUMENT && is_operators(&item)? {
                            self.on_parent_again(splicer, element.key, &item, node, depth)?;
                        } else {
                            self.equal(splicer, element.key, &item, node)?;
                        }
                    }
                    splicer.mend_length(array.start(), mark)?;
                }
                other => return Err(self.beside(element.key, other)),
            }
        }
        splicer.mend_length(operators.start(), mark)?;
        Ok(())
    }

    /// The operators in `holder`, as if they stood at the parent field itself.
    fn on_parent_again<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        path: &str,
        holder: &Element<'m>,
        node: NodeId,
        depth: usize,
    ) -> Result<(), Refusal> {
        if !is_operators(holder)? {
            return self.equal(splicer, path, holder, node);
        }
        self.on_parent(splicer, holder, node, depth + 1)
    }

    fn on_elements<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        path: &str,
        operator: &Element<'m>,
        node: NodeId,
        depth: usize,
    ) -> Result<(), Refusal> {
        let inner = operator.object()?;
        let by_value = match inner.first()? {
            Some(first) => {
                first.key.starts_with('$')
                    && !matches!(first.key, "$and" | "$or" | "$nor" | "$expr" | "$where")
            }
            None => false,
        };
        if by_value {
            return self.on_parent_again(splicer, path, operator, node, depth);
        }
        let below = Filter {
            scope: self.scope,
            paths: &Below(self.scope, node),
        };
        below.rewrite(splicer, inner, &mut Purpose::Match, depth + 1)
    }

    /// A list of such values.
    fn list(&self, path: &str, values: &Element<'_>) -> Result<(), Refusal> {
        for value in values.array()?.elements() {
            self.whole(path, &value?)?;
        }
        Ok(())
    }

    /// A value that a field holding sealed fields is to be equal to. What is sealed is
    /// never equal; a document that has no sealed field is stored as it is.
    fn equal(
        &self,
        splicer: &Splicer<'_, '_>,
        path: &str,
        value: &Element<'_>,
        node: NodeId,
    ) -> Result<(), Refusal> {
        if matches!(value.kind, kind::DOCUMENT | kind::ARRAY) {
            self.scope.readable_below(node, path)?;
        }
        if !is_stored_as_is(splicer, self.scope, value, node) {
            return Err(self.beside(path, "comparison with a whole document or array"));
        }
        Ok(())
    }

    /// A value that a field holding sealed fields is compared with as a whole.
    fn whole(&self, path: &str, value: &Element<'_>) -> Result<(), Refusal> {
        match value.kind {
            kind::DOCUMENT | kind::ARRAY => {
                Err(self.beside(path, "comparison with a whole document or array"))
            }
            _ => Ok(()),
        }
    }

    fn beside(&self, path: &str, what: &str) -> Refusal {
        self.scope.refuse(
            path,
            what,
            "it holds sealed fields: compare them one by one, by their paths",
        )
    }
}

/// Notes what MongoDB may put of a condition on a field that holds sealed fields into a
/// new document.
fn note_parent<'m>(
    condition: &Element<'m>,
    purpose: &mut Purpose<'_, 'm>,
) -> Result<(), Malformed> {
    let mut equal = !is_operators(condition)?;
    if !equal {
        for operator in condition.doc()?.elements() {
            equal |= matches!(operator?.key, "$eq" | "$in" | "$all");
        }
    }
    if equal {
        purpose.copied(condition.key);
    }
    Ok(())
}

/// Whether the value of a field that holds sealed fields has nothing that would be sealed.
pub(super) fn is_stored_as_is(
    splicer: &Splicer<'_, '_>,
    scope: &Scope<'_>,
    value: &Element<'_>,
    node: NodeId,
) -> bool {
    let mut scratch = Vec::new();
    let mut dry = Splicer::new(splicer.input(), &mut scratch);
    seal_below(&mut dry, scope, value, node, 0).is_ok() && !dry.changed()
}

/// Whether a value is a document of operators, as MongoDB tells: its first name
/// begins with `$` and is not part of a DBRef.
pub(super) fn is_operators(element: &Element<'_>) -> Result<bool, Malformed> {
    if element.kind != kind::DOCUMENT {
        return Ok(false);
    }
    Ok(element.doc()?.first()?.is_some_and(|first| {
        first.key.starts_with('$') && !matches!(first.key, "$ref" | "$id" | "$db")
    }))
}
