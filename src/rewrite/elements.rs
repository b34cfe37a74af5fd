//! Updates that add elements to arrays or take them out.

use std::collections::HashSet;

use super::document::{seal_below, write_field, write_value};
use super::element_condition::{Asking, Form, Verdict};
use super::filter::is_operators;
use super::scope::{Place, Scope, by_content};
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
                        return Err(scope.refuse(
                            key.key,
                            "`$sort` in `$push`",
                            by_content::SORT_ARRAY,
                        ));
                    }
                }
            }
            (other, _) => {
                return Err(scope.refuse(
                    element.key,
                    &format!("`{other}` in `$push`"),
                    by_content::SORT_ARRAY,
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

/// How an operator that compares sealed elements is asked of MongoDB.
pub(super) enum Compared<'m> {
    /// As it came: it names null alone.
    AsIs,
    /// `$pull` with this condition.
    Pull(Vec<u8>),
    /// Nothing but a pipeline tells: it takes away what meets this.
    Without(Verdict),
    /// The same, for adding what is not there.
    With(Vec<Element<'m>>),
}

/// What becomes of `$pull`, `$pullAll` and `$addToSet` on a field whose elements are sealed.
pub(super) fn compared<'m>(
    scope: &Scope<'_>,
    operator: &str,
    element: &Element<'m>,
    field: &Field,
) -> Result<Compared<'m>, Refusal> {
    let asking = Asking {
        scope,
        path: element.key,
        field,
        operator: match operator {
            "$pull" => "`$pull`",
            "$pullAll" => "`$pullAll`",
            _ => "`$addToSet`",
        },
    };
    match operator {
        "$addToSet" => add_to_set(&asking, element),
        "$pullAll" => pull(&asking, asking.one_of(element)?.without_undefined()),
        _ if is_operators(element)? => {
            // A condition goes through arrays, also through one that is sealed.
            if field.types.allows(kind::ARRAY) {
                return Err(scope.refuse(
                    element.key,
                    "`$pull` with operators",
                    "its elements may be arrays: name null, or read it and $set it",
                ));
            }
            // MongoDB refuses one that begins so, and would see what it holds.
            if element
                .doc()?
                .first()?
                .is_some_and(|first| first.key == "$not")
            {
                return Err(scope.refuse(
                    element.key,
                    "`$pull` with `$not` at first",
                    "use $ne or $nin",
                ));
            }
            pull(&asking, asking.operators(element, 0)?)
        }
        _ => pull(&asking, asking.equal(element)?.without_undefined()),
    }
}

fn pull<'m>(asking: &Asking<'_, '_>, verdict: Verdict) -> Result<Compared<'m>, Refusal> {
    let mut condition = Vec::new();
    let mut writer = Writer::new(&mut condition);
    match (verdict.form(), &asking.field.equality) {
        (Form::AsIs, _) => return Ok(Compared::AsIs),
        (Form::Either(_), Some(_)) => return Ok(Compared::Without(verdict)),
        (Form::ByToken, Some(equality)) => {
            let open = writer.begin_doc(asking.path);
            verdict.write_filter(&mut writer, equality);
            writer.end(open);
        }
        (Form::ByType(stored), _) => {
            let open = writer.begin_doc(asking.path);
            stored.write(&mut writer, "$type", asking.field);
            writer.end(open);
        }
        // Without equality no verdict goes by tokens.
        (Form::ByToken | Form::Either(_), None) => {
            return Err(Malformed("a field without equality has no tokens").into());
        }
    }
    Ok(Compared::Pull(condition))
}

fn add_to_set<'m>(asking: &Asking<'_, '_>, element: &Element<'m>) -> Result<Compared<'m>, Refusal> {
    let mut added = vec![*element];
    if element.kind == kind::DOCUMENT && element.doc()?.find("$each")?.is_some() {
        let mut options = element.doc()?.elements();
        let list = options.next().transpose()?;
        let Some(list) = list.filter(|list| list.key == "$each" && list.kind == kind::ARRAY) else {
            return Err(Malformed("$each takes one array").into());
        };
        if options.next().is_some() {
            return Err(Malformed("$addToSet takes $each alone").into());
        }
        added = list.doc()?.elements().collect::<Result<_, _>>()?;
    }
    let (mut values, mut made) = (Vec::new(), HashSet::new());
    for value in added {
        let token = match value.is_null() {
            true => None,
            false => Some(asking.token(&value)?),
        };
        if made.insert(token) {
            values.push(value);
        }
    }
    if made.iter().all(Option::is_none) {
        return Ok(Compared::AsIs);
    }
    Ok(Compared::With(values))
}
