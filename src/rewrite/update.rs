//! Updates: what is set is sealed, what would compute on a sealed field is refused.

use super::by_pipeline::{self, Changes};
use super::document::{replace_field, seal_below, seal_document, write_value};
use super::domains;
use super::elements::{self, Compared};
use super::filter::{Below, Filter, Purpose, UpsertEquality, is_operators, is_stored_as_is};
use super::moved::Added;
use super::permission::{check_replacement, check_update};
use super::pipeline;
use super::scope::{Place, Scope};
use super::upsert::not_set;
use crate::policy::Field;
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;
use crate::schema::{NodeId, Tree};

const WHOLE: &str = "set the field as a whole with $set";

/// Rewrites the update in `element`: a replacement, a document of operators or a pipeline.
///
/// `equalities` are those of an upsert's filter: `$setOnInsert` puts them into the new document.
pub(super) fn rewrite<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
    equalities: &[UpsertEquality<'m>],
) -> Result<(), Refusal> {
    match element.kind {
        kind::DOCUMENT if is_operators(element)? => operators(splicer, scope, element, equalities),
        kind::DOCUMENT => replacement(splicer, scope, element.doc()?),
        kind::ARRAY => pipeline::update(splicer, scope, element.doc()?, equalities),
        _ => Err(Malformed("an update is neither a document nor a pipeline").into()),
    }
}

/// A replacement takes nothing but `_id` from the filter of an upsert.
fn replacement<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    document: Doc<'m>,
) -> Result<(), Refusal> {
    check_replacement(scope)?;
    for field in document.elements() {
        let field = field?;
        // MongoDB refuses it as well, but would have seen what it holds.
        if field.key.starts_with('$') {
            return Err(scope.refuse_command(
                &format!("`{}` in a replacement", field.key),
                "give either operators or a replacement",
            ));
        }
    }
    seal_document(splicer, scope, document, Tree::ROOT, 0)
}

fn operators<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
    equalities: &[UpsertEquality<'m>],
) -> Result<(), Refusal> {
    let update = element.doc()?;
    check_update(scope, update)?;
    domains::check_operators(scope, update)?;
    let missing = not_set(scope, update, equalities)?;
    if let Some(needed) = by_pipeline::needed(scope, update)?
        && !by_pipeline::conflicts(update)?
    {
        if let Some(equality) = missing.first() {
            return Err(scope.refuse(
                equality.path,
                &format!(
                    "an upsert whose filter compares it and whose update has `{}`",
                    needed.0
                ),
                "set it in the update with $set",
            ));
        }
        let changes = Changes::of(scope, update, needed)?;
        return splicer.replace(element.start, element.end, |out| {
            changes.write(out, scope, element.key)
        });
    }
    let mut added = Added::of(scope, update, &missing)?;
    let mark = splicer.mark();
    for operator in update.elements() {
        let operator = operator?;
        let fields = operator.object()?;
        let inner = splicer.mark();
        for field in fields.elements() {
            let field = field?;
            one(splicer, scope, operator.key, &field)?;
        }
        if let Some(more) = added.take(operator.key) {
            let at = fields.end() - 1;
            splicer.replace(at, at, |out| out.extend_from_slice(&more));
        }
        splicer.mend_length(fields.start(), inner)?;
    }
    let at = update.end() - 1;
    for (operator, more) in added.0 {
        splicer.replace(at, at, |out| {
            let mut writer = Writer::new(out);
            let open = writer.begin_doc(operator);
            writer.buffer().extend_from_slice(&more);
            writer.end(open);
        });
    }
    splicer.mend_length(update.start(), mark)?;
    Ok(())
}

/// One field of one operator.
fn one<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    operator: &str,
    element: &Element<'m>,
) -> Result<(), Refusal> {
    if operator == "$rename" {
        return rename(scope, element);
    }
    let path = element.key;
    match scope.unasked_place(path)? {
        Place::Open => known(scope, operator),
        Place::Inner(node) => parent(splicer, scope, operator, element, node),
        Place::Sealed {
            field,
            element: false,
        } => sealed(splicer, scope, operator, element, field),
        Place::Sealed {
            field,
            element: true,
        } => position(splicer, scope, operator, element, field),
    }
}

/// An operator on open fields: any that MongoDB has.
fn known(scope: &Scope<'_>, operator: &str) -> Result<(), Refusal> {
    match operator {
        "$set" | "$setOnInsert" | "$unset" | "$inc" | "$mul" | "$min" | "$max" | "$bit"
        | "$currentDate" | "$push" | "$pull" | "$pullAll" | "$addToSet" | "$pop" => Ok(()),
        other => Err(scope.refuse_command(&format!("the update operator `{other}`"), "use $set")),
    }
}

fn rename(scope: &Scope<'_>, element: &Element<'_>) -> Result<(), Refusal> {
    let to = element.str().ok_or(Malformed("$rename takes a string"))?;
    for path in [element.key, to] {
        if !matches!(scope.unasked_place(path)?, Place::Open) {
            return Err(scope.refuse(
                path,
                "`$rename`",
                "a sealed value belongs to its path: read it and $set it",
            ));
        }
    }
    Ok(())
}

/// An operator on a field that holds sealed fields.
fn parent<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    operator: &str,
    element: &Element<'m>,
    node: NodeId,
) -> Result<(), Refusal> {
    match operator {
        "$set" | "$setOnInsert" => seal_below(splicer, scope, element, node, 0),
        "$unset" => {
            unset(splicer, element);
            Ok(())
        }
        "$pop" | "$inc" | "$mul" if is_number(element) => Ok(()),
        "$currentDate" if element.kind == kind::BOOL => Ok(()),
        "$push" => elements::push_documents(splicer, scope, element, node),
        "$pull" if element.kind == kind::DOCUMENT => {
            let condition = element.doc()?;
            if is_operators(element)? {
                return Err(scope.refuse(
                    element.key,
                    "`$pull` with operators",
                    "name the fields to compare: {field: value}",
                ));
            }
            let paths = Below(scope, node);
            Filter {
                scope,
                paths: &paths,
            }
            .rewrite(splicer, condition, &mut Purpose::Match, 0)
        }
        "$addToSet" | "$pullAll" if adds_as_is(splicer, scope, element, node)? => Ok(()),
        "$min" | "$max" | "$pull" if !matches!(element.kind, kind::DOCUMENT | kind::ARRAY) => {
            Ok(())
        }
        other => Err(scope.refuse(
            element.key,
            &format!("`{other}` of whole documents"),
            "it holds sealed fields, whose ciphertext never compares equal",
        )),
    }
}

/// Whether the values of an `$addToSet` or `$pullAll` have nothing that would be sealed.
fn adds_as_is(
    splicer: &Splicer<'_, '_>,
    scope: &Scope<'_>,
    element: &Element<'_>,
    node: NodeId,
) -> Result<bool, Malformed> {
    let list = match element.kind {
        kind::DOCUMENT => element.doc()?.find_once("$each")?,
        _ => None,
    };
    Ok(is_stored_as_is(
        splicer,
        scope,
        &list.unwrap_or(*element),
        node,
    ))
}

pub(super) fn is_number(element: &Element<'_>) -> bool {
    matches!(
        element.kind,
        kind::INT32 | kind::INT64 | kind::DOUBLE | kind::DECIMAL128
    )
}

/// MongoDB does not look at the value of `$unset`, so a client may send any:
/// all but those that say nothing are emptied.
fn unset(splicer: &mut Splicer<'_, '_>, element: &Element<'_>) {
    let silent = element.is_null()
        || element.kind == kind::BOOL
        || element.str() == Some("")
        || element.integer() == Some(1);
    if !silent {
        splicer.replace(element.start, element.end, |out| {
            Writer::new(out).string(element.key, "")
        });
    }
}

/// An operator on a sealed field.
fn sealed<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    operator: &str,
    element: &Element<'m>,
    field: &Field,
) -> Result<(), Refusal> {
    match operator {
        "$set" | "$setOnInsert" => replace_field(splicer, scope, field, element),
        "$unset" => {
            unset(splicer, element);
            Ok(())
        }
        "$pop" if field.elements && matches!(element.integer(), Some(1 | -1)) => Ok(()),
        "$push" if field.elements => elements::push_elements(splicer, scope, element, field),
        "$pull" | "$pullAll" | "$addToSet" if field.elements => {
            compare_elements(splicer, scope, operator, element, field)
        }
        // It went to `$set`.
        "$currentDate" => {
            splicer.replace(element.start, element.end, |_| {});
            Ok(())
        }
        "$inc" | "$mul" | "$min" | "$max" | "$bit" => Err(scope.refuse(
            element.key,
            &format!("`{operator}`"),
            "MongoDB would compute on ciphertext: read the value, compute in the service, and $set it, with the old value in the filter",
        )),
        other => Err(scope.refuse(element.key, &format!("`{other}`"), WHOLE)),
    }
}

/// An operator that compares sealed elements with values.
fn compare_elements<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    operator: &str,
    element: &Element<'m>,
    field: &Field,
) -> Result<(), Refusal> {
    let (from, to) = (element.start, element.end);
    match (
        elements::compared(scope, operator, element, field)?,
        operator,
    ) {
        (Compared::AsIs, _) => {}
        // It went to `$pull`.
        (_, "$pullAll") => splicer.replace(from, to, |_| {}),
        (Compared::Pull(condition), _) => {
            splicer.replace(from, to, |out| out.extend_from_slice(&condition))
        }
        // Whatever it is, MongoDB refuses it for a conflict.
        (Compared::Without(_) | Compared::With(_), _) => {
            splicer.replace(from, to, |out| Writer::new(out).null(element.key))
        }
    }
    Ok(())
}

/// An operator on one element of a sealed field, by its position.
fn position<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    operator: &str,
    element: &Element<'m>,
    field: &Field,
) -> Result<(), Refusal> {
    let last = element.key.rsplit('.').next().unwrap_or_default();
    match operator {
        // Where there is no array, MongoDB takes the number for a name, and would
        // put a field into the sealed document.
        "$set" | "$setOnInsert" if !last.starts_with('$') => Err(scope.refuse(
            element.key,
            &format!("`{operator}` by an array's index"),
            "name the element by `$` or by `$[name]` and arrayFilters",
        )),
        "$set" | "$setOnInsert" => splicer.replace(element.start, element.end, |out| {
            write_value(out, scope, element.key, field, element)
        }),
        "$unset" => {
            unset(splicer, element);
            Ok(())
        }
        other => Err(scope.refuse(element.key, &format!("`{other}`"), WHOLE)),
    }
}
