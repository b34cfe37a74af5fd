//! Conditions by type on sealed fields: what a set of types means for what is stored.
//!
//! Sealed values have one type in MongoDB, whatever they are in plain. So a set of
//! types can be asked for if it holds all types of the field, or none of them.

use super::scope::Scope;
use crate::policy::Field;
use crate::raw::{Element, Malformed, Writer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::Types;

/// What a condition by type looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The field, and if it is an array, each of its elements.
    Field,
    /// An element, by its index in a path: if that is an array, its elements too.
    Position,
    /// The field's value alone.
    Value,
    /// An element alone.
    Element,
}

/// The types to ask MongoDB for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    /// Every sealed value is of a type that was asked for; else none is.
    pub(super) sealed: bool,
    /// Arrays were asked for, and are stored as arrays.
    pub(super) array: bool,
    /// Null was asked for.
    pub(super) null: bool,
    /// The deprecated undefined was asked for.
    pub(super) undefined: bool,
}

/// A type that nothing at a sealed field ever has.
const NEVER: (i32, &str) = (-1, "minKey");

impl Stored {
    /// What the types `asked` are in the store, if MongoDB can tell.
    pub(super) fn of(field: &Field, asked: Types, look: Look) -> Option<Self> {
        let array = Types::of(kind::ARRAY);
        let mut values = field.types.values();
        let nothing_else = !asked.values().meets(Types::ANY);
        let mut stored = Self {
            sealed: false,
            array: false,
            null: asked.allows(kind::NULL),
            undefined: asked.allows(kind::UNDEFINED),
        };
        let nested = array.within(values);
        match look {
            Look::Field | Look::Value if field.elements => {
                stored.array = asked.allows(kind::ARRAY);
                values = values.without(array);
                // An array in the array would be taken for one of its types.
                if nested && look == Look::Field && !stored.array && values.meets(asked) {
                    return None;
                }
            }
            // Its elements, of any type, are sealed with it.
            Look::Field if nested && nothing_else => return Some(stored),
            Look::Field if nested && !values.within(asked) => return None,
            Look::Position if nested => return None,
            _ => {}
        }
        stored.sealed = values.within(asked);
        (stored.sealed || !values.meets(asked)).then_some(stored)
    }

    /// Appends the operand of `$type`, under the name `key`.
    pub(super) fn write(self, writer: &mut Writer<'_>, key: &str, field: &Field) {
        let open = writer.begin_array(key);
        for (index, (code, _)) in self.types(field).enumerate() {
            writer.int32(&index.to_string(), code);
        }
        writer.end(open);
    }

    /// Appends the same as `bsonType` of a JSON schema, which takes names alone.
    pub(super) fn write_names(self, writer: &mut Writer<'_>, field: &Field) {
        let open = writer.begin_array("bsonType");
        for (index, (_, name)) in self.types(field).enumerate() {
            writer.string(&index.to_string(), name);
        }
        writer.end(open);
    }

    fn types(self, field: &Field) -> impl Iterator<Item = (i32, &'static str)> {
        let sealed = match field.equality {
            Some(_) => (3, "object"),
            None => (5, "binData"),
        };
        let never = !(self.sealed || self.array || self.null || self.undefined);
        [
            (self.sealed, sealed),
            (self.array, (4, "array")),
            (self.null, (10, "null")),
            (self.undefined, (6, "undefined")),
            (never, NEVER),
        ]
        .into_iter()
        .filter_map(|(asked, named)| asked.then_some(named))
    }
}

/// The types that an operand of `$type` names; none if it names none, which MongoDB refuses.
pub(super) fn asked(
    scope: &Scope<'_>,
    path: &str,
    operand: &Element<'_>,
) -> Result<Option<Types>, Refusal> {
    if matches!(operand.kind, kind::NULL | kind::BOOL) {
        // Says nothing, and is MongoDB's own error.
        return Ok(None);
    }
    if operand.kind != kind::ARRAY {
        return one(scope, path, operand).map(Some);
    }
    let mut all = None;
    for item in operand.array()?.elements() {
        let types = one(scope, path, &item?)?;
        all = Some(types.union(all.unwrap_or(Types::NONE)));
    }
    Ok(all)
}

fn one(scope: &Scope<'_>, path: &str, operand: &Element<'_>) -> Result<Types, Refusal> {
    let unknown = || {
        Refusal::new(
            RefusalKind::BadValue,
            format_args!(
                "{} on {}: `$type` on the sealed field `{path}` names no type; it takes the names and numbers that MongoDB has for types",
                scope.command, scope.collection.namespace
            ),
        )
    };
    match operand.kind {
        kind::STRING => {
            let name = operand.str().ok_or(Malformed("a string is not UTF-8"))?;
            named(name).ok_or_else(unknown)
        }
        kind::INT32 | kind::INT64 | kind::DOUBLE => {
            let types = operand.integer().and_then(numbered);
            types.ok_or_else(unknown)
        }
        _ => Err(unknown()),
    }
}

/// The types of a name.
pub(super) fn named(name: &str) -> Option<Types> {
    match name {
        "null" => Some(Types::of(kind::NULL)),
        "undefined" => Some(Types::of(kind::UNDEFINED)),
        _ => Types::named(name),
    }
}

fn numbered(code: i64) -> Option<Types> {
    match code {
        -1 => Some(Types::of(kind::MIN_KEY)),
        127 => Some(Types::of(kind::MAX_KEY)),
        1..=19 => u8::try_from(code).ok().map(Types::of),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::policy::fixture;

    fn stored(path: &str, names: &[&str], look: Look) -> Option<Stored> {
        let collection = fixture::policy().collection("shop.customers").unwrap();
        let field = (0..)
            .map(|leaf| collection.field(leaf))
            .find(|field| field.path == path)
            .unwrap();
        let asked = names.iter().map(|name| named(name).unwrap());
        Stored::of(field, asked.fold(Types::NONE, Types::union), look)
    }

    #[test]
    fn all_types_of_a_field_or_none_can_be_told() {
        let all = |stored: Option<Stored>| {
            let stored = stored.unwrap();
            (stored.sealed, stored.array, stored.null)
        };
        for look in [Look::Field, Look::Value] {
            assert_eq!(all(stored("ssn", &["string"], look)), (true, false, false));
            assert_eq!(all(stored("ssn", &["int"], look)), (false, false, false));
            assert_eq!(
                all(stored("ssn", &["array", "null"], look)),
                (false, true, true)
            );
            assert_eq!(all(stored("age", &["number"], look)), (true, false, false));
            assert_eq!(stored("age", &["int", "double"], look), None);
        }
        assert_eq!(
            all(stored("ssn", &["array"], Look::Element)),
            (false, false, false)
        );
    }

    #[test]
    fn of_a_field_that_takes_anything_only_what_stays_can_be_told() {
        for path in ["address", "notes"] {
            assert!(stored(path, &["null"], Look::Field).is_some());
            assert_eq!(stored(path, &["string"], Look::Field), None);
            assert_eq!(stored(path, &["string"], Look::Value), None);
        }
        assert_eq!(stored("address", &["array"], Look::Field), None);
        assert!(stored("notes", &["array"], Look::Field).unwrap().array);
        assert_eq!(stored("notes", &["null"], Look::Position), None);
    }
}
