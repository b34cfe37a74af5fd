//! Updates by operators that compare sealed elements with what MongoDB cannot compare
//! by operators: `$addToSet`, and `$pull` of null among others.
//!
//! A sealed value never equals another, so what `$addToSet` does takes an expression on
//! tokens. MongoDB takes expressions in an update by pipeline alone, so the update as
//! a whole becomes one: possible where it does nothing else but set and unset whole fields.

use std::collections::BTreeMap;

use super::document::{replace_field, seal_below, write_value};
use super::element_condition::{Verdict, write_key};
use super::elements::{Compared, compared};
use super::moved::current_date;
use super::scope::{Place, Scope};
use super::upsert::within;
use crate::policy::{Equality, Field};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;

/// What happens to one field.
enum Change<'c, 'm> {
    /// It gets this value: an element of a document.
    Set(Vec<u8>),
    Unset,
    Without(&'c Field, Verdict),
    With(&'c Field, Vec<Element<'m>>),
}

/// An update, field by field.
pub(super) struct Changes<'c, 'm>(BTreeMap<&'m str, Change<'c, 'm>>);

/// The field and operator of an update that only a pipeline can do, if there is one.
pub(super) fn needed<'m>(
    scope: &Scope<'_>,
    update: Doc<'m>,
) -> Result<Option<(&'m str, Element<'m>)>, Refusal> {
    for operator in update.elements() {
        let operator = operator?;
        if !matches!(operator.key, "$addToSet" | "$pull" | "$pullAll") {
            continue;
        }
        for element in operator.object()?.elements() {
            let element = element?;
            if let Place::Sealed {
                field,
                element: false,
            } = scope.unasked_place(element.key)?
                && field.elements
                && matches!(
                    compared(scope, operator.key, &element, field)?,
                    Compared::Without(_) | Compared::With(_)
                )
            {
                return Ok(Some((operator.key, element)));
            }
        }
    }
    Ok(None)
}

/// Whether MongoDB refuses the update because it changes one path twice, or a path and what lies below it.
///
/// A pipeline would do the one change or the other, and MongoDB would not notice.
pub(super) fn conflicts(update: Doc<'_>) -> Result<bool, Refusal> {
    let mut paths = Vec::new();
    for operator in update.elements() {
        for field in operator?.object()?.elements() {
            paths.push(field?.key);
        }
    }
    // Segment by segment, so that what lies below a path stands right behind it.
    paths.sort_unstable_by(|one, other| one.split('.').cmp(other.split('.')));
    Ok(paths
        .windows(2)
        .any(|pair| matches!(pair, [outer, path] if within(path, outer))))
}

impl<'c, 'm> Changes<'c, 'm> {
    /// The update, if a pipeline does the same.
    pub(super) fn of(
        scope: &Scope<'c>,
        update: Doc<'m>,
        (operator, element): (&str, Element<'m>),
    ) -> Result<Self, Refusal> {
        let refuse = || {
            scope.refuse(
                element.key,
                &format!("`{operator}` beside operators other than $set and $unset, or below the top level,"),
                "it is done on whole fields by a pipeline: send it in an update of its own, on a field of the top level",
            )
        };
        let mut changes = BTreeMap::new();
        for operator in update.elements() {
            let operator = operator?;
            for element in operator.object()?.elements() {
                let element = element?;
                let change = Self::change(scope, operator.key, &element)?;
                let whole = !element.key.is_empty()
                    && element.key != "_id"
                    && !element.key.starts_with('$')
                    && !element.key.contains('.');
                match change {
                    Some(change) if whole => changes.insert(element.key, change),
                    _ => return Err(refuse()),
                };
            }
        }
        Ok(Self(changes))
    }

    fn change(
        scope: &Scope<'c>,
        operator: &str,
        element: &Element<'m>,
    ) -> Result<Option<Change<'c, 'm>>, Refusal> {
        let place = scope.unasked_place(element.key)?;
        Ok(match (operator, place) {
            ("$unset", _) => Some(Change::Unset),
            ("$set", place) if element.kind != kind::UNDEFINED => {
                set(scope, element, place)?.map(Change::Set)
            }
            (
                "$currentDate",
                Place::Sealed {
                    field,
                    element: false,
                },
            ) => {
                let mut out = Vec::new();
                current_date(&mut out, scope, element, field)?;
                Some(Change::Set(out))
            }
            (
                "$addToSet" | "$pull" | "$pullAll",
                Place::Sealed {
                    field,
                    element: false,
                },
            ) if field.elements => match compared(scope, operator, element, field)? {
                Compared::Without(verdict) => Some(Change::Without(field, verdict)),
                Compared::With(values) => Some(Change::With(field, values)),
                Compared::AsIs | Compared::Pull(_) => None,
            },
            _ => None,
        })
    }

    /// Appends the pipeline under the name `key`. MongoDB adds new fields by their names,
    /// whatever the order in which an update has them.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        scope: &Scope<'_>,
        key: &str,
    ) -> Result<(), Refusal> {
        let mut writer = Writer::new(out);
        let pipeline = writer.begin_array(key);
        let stage = writer.begin_doc("0");
        let set = writer.begin_doc("$set");
        for (path, change) in &self.0 {
            match change {
                Change::Unset => writer.string(path, "$$REMOVE"),
                Change::Set(value) => {
                    let literal = writer.begin_doc(path);
                    writer.buffer().extend_from_slice(value);
                    writer.end(literal);
                }
                Change::Without(field, verdict) => without(&mut writer, path, field, verdict)?,
                Change::With(field, values) => with(&mut writer, scope, path, field, values)?,
            }
        }
        writer.end(set);
        writer.end(stage);
        writer.end(pipeline);
        Ok(())
    }
}

/// The value that a field is set to, as the element `$literal`.
fn set(
    scope: &Scope<'_>,
    element: &Element<'_>,
    place: Place<'_>,
) -> Result<Option<Vec<u8>>, Refusal> {
    let mut document = Vec::new();
    let mut writer = Writer::new(&mut document);
    let open = writer.begin();
    writer.value(element.kind, "$literal", element.value());
    writer.end(open);
    let source = Doc::whole(&document)?;
    let Some(value) = source.first()? else {
        return Ok(None);
    };
    let mut out = Vec::new();
    let mut splicer = Splicer::new(&document, &mut out);
    let mark = splicer.mark();
    match place {
        Place::Open => {}
        Place::Inner(node) => seal_below(&mut splicer, scope, &value, node, 0)?,
        Place::Sealed {
            field,
            element: false,
        } => replace_field(&mut splicer, scope, field, &value)?,
        Place::Sealed { .. } => return Ok(None),
    }
    splicer.mend_length(0, mark)?;
    if !splicer.finish() {
        out = document;
    }
    Ok(out.get(4..out.len() - 1).map(<[u8]>::to_vec))
}

fn field_path(path: &str) -> String {
    format!("${path}")
}

/// `{$cond: [{$isArray: "$path"}, <then>, <otherwise>]}`, with what is otherwise an error
/// of the code that MongoDB has for it, unless `missing` is written for a missing field.
fn where_array(
    writer: &mut Writer<'_>,
    path: &str,
    then: impl FnOnce(&mut Writer<'_>, &str) -> Result<(), Refusal>,
    missing: impl FnOnce(&mut Writer<'_>, &str) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let value = field_path(path);
    let outer = writer.begin_doc(path);
    let either = writer.begin_array("$cond");
    let test = writer.begin_doc("0");
    writer.string("$isArray", &value);
    writer.end(test);
    then(writer, "1")?;
    let otherwise = writer.begin_doc("2");
    let inner = writer.begin_array("$cond");
    let test = writer.begin_doc("0");
    let same = writer.begin_array("$eq");
    let of = writer.begin_doc("0");
    writer.string("$type", &value);
    writer.end(of);
    writer.string("1", "missing");
    writer.end(same);
    writer.end(test);
    missing(writer, "1")?;
    // 1 divided by the number of arrays that it is: BadValue.
    let error = writer.begin_doc("2");
    let divide = writer.begin_array("$divide");
    writer.int32("0", 1);
    let by = writer.begin_doc("1");
    let count = writer.begin_array("$cond");
    let test = writer.begin_doc("0");
    writer.string("$isArray", &value);
    writer.end(test);
    writer.int32("1", 1);
    writer.int32("2", 0);
    writer.end(count);
    writer.end(by);
    writer.end(divide);
    writer.end(error);
    writer.end(inner);
    writer.end(otherwise);
    writer.end(either);
    writer.end(outer);
    Ok(())
}

fn equality(field: &Field) -> Result<&Equality, Refusal> {
    let equality = field.equality.as_ref();
    Ok(equality.ok_or(Malformed("a field without equality has no tokens"))?)
}

/// The elements that do not meet the verdict.
fn without(
    writer: &mut Writer<'_>,
    path: &str,
    field: &Field,
    verdict: &Verdict,
) -> Result<(), Refusal> {
    let equality = equality(field)?;
    where_array(
        writer,
        path,
        |writer, key| {
            let outer = writer.begin_doc(key);
            let filter = writer.begin_doc("$filter");
            writer.string("input", &field_path(path));
            writer.string("as", "old");
            verdict.write_unmet(writer, "cond", "old", equality);
            writer.end(filter);
            writer.end(outer);
            Ok(())
        },
        |writer, key| {
            writer.string(key, "$$REMOVE");
            Ok(())
        },
    )
}

/// The elements, and behind them those of `values` that are not there.
fn with(
    writer: &mut Writer<'_>,
    scope: &Scope<'_>,
    path: &str,
    field: &Field,
    values: &[Element<'_>],
) -> Result<(), Refusal> {
    let equality = equality(field)?;
    let literal = |writer: &mut Writer<'_>, key: &str| -> Result<(), Refusal> {
        let outer = writer.begin_doc(key);
        let list = writer.begin_array("$literal");
        for (index, value) in values.iter().enumerate() {
            write_value(writer.buffer(), scope, &index.to_string(), field, value)?;
        }
        writer.end(list);
        writer.end(outer);
        Ok(())
    };
    where_array(
        writer,
        path,
        |writer, key| {
            let outer = writer.begin_doc(key);
            let both = writer.begin_array("$concatArrays");
            writer.string("0", &field_path(path));
            let new = writer.begin_doc("1");
            let filter = writer.begin_doc("$filter");
            literal(writer, "input")?;
            writer.string("as", "new");
            let test = writer.begin_doc("cond");
            let not = writer.begin_array("$not");
            let there = writer.begin_doc("0");
            let one_of = writer.begin_array("$in");
            write_key(writer, "0", "new", equality);
            let keys = writer.begin_doc("1");
            let map = writer.begin_doc("$map");
            writer.string("input", &field_path(path));
            writer.string("as", "old");
            write_key(writer, "in", "old", equality);
            writer.end(map);
            writer.end(keys);
            writer.end(one_of);
            writer.end(there);
            writer.end(not);
            writer.end(test);
            writer.end(filter);
            writer.end(new);
            writer.end(both);
            writer.end(outer);
            Ok(())
        },
        literal,
    )
}
