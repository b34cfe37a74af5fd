//! Sets of BSON types, under the aliases that `$type` knows.

use crate::raw::kind;

/// A set of BSON types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Types(u32);

/// The aliases of `$type`, with the element types they stand for.
const ALIASES: &[(&str, &[u8])] = &[
    ("double", &[kind::DOUBLE]),
    ("string", &[kind::STRING]),
    ("object", &[kind::DOCUMENT]),
    ("array", &[kind::ARRAY]),
    ("binData", &[kind::BINARY]),
    ("objectId", &[kind::OBJECT_ID]),
    ("bool", &[kind::BOOL]),
    ("date", &[kind::DATE]),
    ("regex", &[kind::REGEX]),
    ("dbPointer", &[kind::DB_POINTER]),
    ("javascript", &[kind::JAVASCRIPT]),
    ("symbol", &[kind::SYMBOL]),
    ("javascriptWithScope", &[kind::JAVASCRIPT_WITH_SCOPE]),
    ("int", &[kind::INT32]),
    ("timestamp", &[kind::TIMESTAMP]),
    ("long", &[kind::INT64]),
    ("decimal", &[kind::DECIMAL128]),
    ("minKey", &[kind::MIN_KEY]),
    ("maxKey", &[kind::MAX_KEY]),
    (
        "number",
        &[kind::DOUBLE, kind::INT32, kind::INT64, kind::DECIMAL128],
    ),
];

/// The types whose values can be compared by a token: scalars with one canonical form.
const EQUALITY: &[&str] = &[
    "double",
    "string",
    "binData",
    "objectId",
    "bool",
    "date",
    "int",
    "timestamp",
    "long",
    "decimal",
    "number",
];

fn bit(kind: u8) -> u32 {
    match kind {
        kind::MIN_KEY => 1 << 30,
        kind::MAX_KEY => 1 << 31,
        0..=0x1D => 1 << kind,
        _ => 0,
    }
}

impl Types {
    /// Every type.
    pub const ANY: Self = Self(u32::MAX);
    /// No type.
    pub const NONE: Self = Self(0);

    /// The types that `alias` stands for.
    pub fn named(alias: &str) -> Option<Self> {
        ALIASES
            .iter()
            .find(|(name, _)| *name == alias)
            .map(|(_, kinds)| Self(kinds.iter().fold(0, |set, kind| set | bit(*kind))))
    }

    /// The set of one element type.
    pub fn of(kind: u8) -> Self {
        Self(bit(kind))
    }

    /// The types of the set that MongoDB has, without null and undefined, which are no values.
    #[must_use]
    pub fn values(self) -> Self {
        let all = ALIASES.iter().flat_map(|(_, kinds)| *kinds);
        Self(self.0 & all.fold(0, |set, kind| set | bit(*kind)))
    }

    /// The alias of one element type, for messages.
    pub fn alias_of(kind: u8) -> &'static str {
        ALIASES
            .iter()
            .find(|(_, kinds)| *kinds == [kind])
            .map_or("a deprecated type", |(name, _)| name)
    }

    /// Every alias there is.
    pub fn aliases() -> impl Iterator<Item = &'static str> {
        ALIASES.iter().map(|(name, _)| *name)
    }

    /// The types that equality tokens exist for.
    pub fn with_equality() -> Self {
        EQUALITY
            .iter()
            .filter_map(|alias| Self::named(alias))
            .fold(Self::NONE, Self::union)
    }

    /// Both sets together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set without the types of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the sets have a type in common.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every type of this set is in `other`.
    pub fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether values of `kind` are in the set.
    pub fn allows(self, kind: u8) -> bool {
        self.0 & bit(kind) != 0
    }

    /// The aliases of the set, `number` for its four; none if every type is in it.
    pub fn names(self) -> Option<Vec<&'static str>> {
        if self == Self::ANY {
            return None;
        }
        let number = Self::named("number").filter(|number| number.within(self));
        let shown = |name: &str, kinds: &[u8]| {
            let whole = kinds.iter().all(|kind| self.allows(*kind));
            let in_number =
                number.is_some_and(|number| kinds.iter().all(|kind| number.allows(*kind)));
            whole && in_number == (name == "number")
        };
        let names = ALIASES.iter().filter(|(name, kinds)| shown(name, kinds));
        Some(names.map(|(name, _)| *name).collect())
    }

    /// The aliases of the set, for messages: `string`, `int or long`, `any type`.
    pub fn describe(self) -> String {
        self.names()
            .map_or_else(|| "any type".to_owned(), |names| names.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn types(aliases: &[&str]) -> Types {
        aliases
            .iter()
            .map(|alias| Types::named(alias).unwrap())
            .fold(Types::NONE, Types::union)
    }

    #[test]
    fn a_set_is_described_by_the_names_it_was_made_of() {
        for alias in Types::aliases() {
            assert_eq!(types(&[alias]).describe(), alias);
        }
        assert_eq!(types(&["int", "long"]).describe(), "int or long");
        assert_eq!(
            types(&["string", "number", "int"]).describe(),
            "string or number"
        );
        assert_eq!(Types::ANY.describe(), "any type");
    }

    #[test]
    fn number_is_the_four_types_that_mongodb_compares() {
        let four = types(&["double", "int", "long", "decimal"]);
        assert_eq!(Types::named("number"), Some(four));
        assert!(!four.allows(kind::STRING) && four.within(Types::with_equality()));
    }

    #[test]
    fn null_and_undefined_are_no_values() {
        let values = Types::ANY.values();
        assert!(values.allows(kind::STRING) && values.allows(kind::MAX_KEY));
        assert!(!values.allows(kind::NULL) && !values.allows(kind::UNDEFINED));
        assert_eq!(Types::of(kind::NULL).values(), Types::NONE);
        let without = types(&["string", "int"]).without(types(&["int"]));
        assert_eq!(without, types(&["string"]));
        assert!(without.meets(Types::ANY) && !without.meets(types(&["int", "date"])));
    }
}
