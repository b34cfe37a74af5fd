//! Updates: what is set is sealed, what would compute on a sealed field is refused.

use super::document::{replace_field, seal_below, seal_document, write_value};
use super::filter::{Below, Filter, Purpose, UpsertEquality, is_operators};
use super::scope::{Place, Scope};
use super::{domains, elements, pipeline};
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
        kind::DOCUMENT if is_operators(element)? => {
            operators(splicer, scope, element.doc()?, equalities)
        }
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
    update: Doc<'m>,
    equalities: &[UpsertEquality<'m>],
) -> Result<(), Refusal> {
    domains::check_operators(scope, update)?;
    let missing = not_set(scope, update, equalities)?;
    let mark = splicer.mark();
    let mut inserted = missing.is_empty();
    for operator in update.elements() {
        let operator = operator?;
        let fields = operator.object()?;
        let inner = splicer.mark();
        for field in fields.elements() {
            let field = field?;
            one(splicer, scope, operator.key, &field)?;
        }
        if operator.key == "$setOnInsert" && !inserted {
            inserted = true;
            let at = fields.end() - 1;
            splicer.replace(at, at, |out| write_equalities(out, scope, &missing))?;
        }
        splicer.mend_length(fields.start(), inner)?;
    }
    if !inserted {
        let at = update.end() - 1;
        splicer.replace(at, at, |out| {
            let open = Writer::new(out).begin_doc("$setOnInsert");
            write_equalities(out, scope, &missing)?;
            Writer::new(out).end(open);
            Ok::<_, Refusal>(())
        })?;
    }
    splicer.mend_length(update.start(), mark)?;
    Ok(())
}

fn write_equalities(
    out: &mut Vec<u8>,
    scope: &Scope<'_>,
    equalities: &[UpsertEquality<'_>],
) -> Result<(), Refusal> {
    for equality in equalities {
        if let Place::Sealed { field, .. } = scope.place(equality.path)? {
            write_value(out, scope, equality.path, field, &equality.value)?;
        }
    }
    Ok(())
}

/// The equalities that the update itself does not decide.
fn not_set<'m>(
    scope: &Scope<'_>,
    update: Doc<'m>,
    equalities: &[UpsertEquality<'m>],
) -> Result<Vec<UpsertEquality<'m>>, Refusal> {
    let mut missing = Vec::new();
    for (index, equality) in equalities.iter().enumerate() {
        let path = equality.path;
        if path.split('.').any(crate::schema::is_position) {
            return Err(scope.refuse(
                path,
                "an upsert by an array's element",
                "set the field in the update",
            ));
        }
        if equalities
            .iter()
            .skip(index + 1)
            .any(|other| within(path, other.path) || within(other.path, path))
        {
            return Err(scope.refuse(path, "an upsert that compares it twice", "compare it once"));
        }
        // MongoDB itself puts null into the new document.
        if !equality.value.is_null() && !decided(scope, update, path)? {
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
fn within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
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
    match scope.place(path)? {
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
        if !matches!(scope.place(path)?, Place::Open) {
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
        "$min" | "$max" | "$addToSet" | "$pull"
            if !matches!(element.kind, kind::DOCUMENT | kind::ARRAY) =>
        {
            Ok(())
        }
        other => Err(scope.refuse(
            element.key,
            &format!("`{other}` of whole documents"),
            "it holds sealed fields, whose ciphertext never compares equal",
        )),
    }
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
        "$pull" if field.elements => elements::pull_elements(splicer, scope, element, field),
        other => Err(scope.refuse(element.key, &format!("`{other}`"), WHOLE)),
    }
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
