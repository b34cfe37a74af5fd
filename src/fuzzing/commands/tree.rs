//! Documents and values of any shape, with canaries at every sealed path.

use bson::{Bson, Document};

use super::super::CANARY_TEXT;
use super::{Commands, DEEP};

const PATHS: &[&[&str]] = &[
    &["ssn"],
    &["payment", "card"],
    &["tags"],
    &["age"],
    &["address"],
    &["visits", "note"],
    &["contacts", "*", "phone"],
    &["notes"],
];

/// Names that lead to sealed fields, into them, or past them.
const NAMES: &[&str] = &[
    "ssn",
    "payment",
    "card",
    "tags",
    "age",
    "address",
    "visits",
    "note",
    "contacts",
    "home",
    "phone",
    "notes",
    "0",
    "1",
    "x",
    "_id",
    "",
    "c",
    "e1",
    "payment.card",
    "payment.open",
    "payment.0.card",
    "visits.note",
    "tags.0",
    "tags.$",
    "tags.$[]",
    "visits.$[].note",
    "address.city",
    "contacts.home.phone",
    "contacts.home",
    "contacts.0.phone",
    "ssn.c",
    "x.ssn",
    "$x",
];

const OPERATORS: &[&str] = &[
    "$eq",
    "$ne",
    "$in",
    "$each",
    "$slice",
    "$sort",
    "$position",
    "$elemMatch",
    "$all",
    "$not",
    "$gt",
    "$regex",
    "$literal",
    "$concat",
    "$ref",
    "$foo",
];

/// What values are for: in a stored document `$` begins a name like any other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Stored,
    Asked,
}

impl Commands<'_> {
    /// A document that is to be stored.
    pub(super) fn document(&mut self) -> Document {
        if self.choices.yes() {
            return self.shaped();
        }
        self.named(&mut Vec::new(), Role::Stored, 0)
    }

    /// One that the schema takes, mostly.
    pub(super) fn shaped(&mut self) -> Document {
        let mut document = Document::new();
        let count = self.choices.below(5);
        for _ in 0..=count {
            let (name, value) = match self.choices.below(10) {
                0 => ("ssn", CANARY_TEXT.into()),
                1 => ("age", self.number()),
                2 => ("tags", Bson::Array(vec![CANARY_TEXT.into(), Bson::Null])),
                3 => ("payment", bson::bson!({"card": CANARY_TEXT, "open": 1})),
                4 => ("payment", bson::bson!([{"card": CANARY_TEXT}, {"open": 1}])),
                5 => ("visits", bson::bson!([{"note": CANARY_TEXT}, {"at": 1}])),
                6 => ("contacts", bson::bson!({"home": {"phone": CANARY_TEXT}})),
                7 => {
                    let names = &mut vec!["address".to_owned()];
                    ("address", self.value(names, Role::Stored, 0))
                }
                8 => {
                    let names = &mut vec!["notes".to_owned()];
                    ("notes", self.value(names, Role::Stored, 0))
                }
                _ => ("x", self.open()),
            };
            document.insert(name, value);
        }
        document
    }

    /// Fields of any names, each with a value.
    pub(super) fn named(&mut self, names: &mut Vec<String>, role: Role, depth: usize) -> Document {
        let count = self.choices.below(4);
        let mut document = Document::new();
        for _ in 0..count {
            let name = self.choices.pick(NAMES);
            let inside = is_sealed(names);
            if name.starts_with('$') && role == Role::Asked {
                continue;
            }
            names.push(name.to_owned());
            let value = self.value(names, role, depth + 1);
            names.pop();
            // Within a field that is sealed whole, names are values too.
            let name = if inside && name == "x" {
                CANARY_TEXT
            } else {
                name
            };
            document.insert(name, value);
        }
        document
    }

    /// Any value; a canary where the names lead to a sealed field.
    pub(super) fn value(&mut self, names: &mut Vec<String>, role: Role, depth: usize) -> Bson {
        if depth > DEEP {
            return self.leaf(names);
        }
        match self.choices.below(8) {
            0..=3 => self.leaf(names),
            4 | 5 => self.named(names, role, depth).into(),
            6 => {
                let count = self.choices.below(4);
                let items = (0..count).map(|_| self.value(names, role, depth + 1));
                items.collect::<Vec<_>>().into()
            }
            // A star takes the operator for a name wherever it is not asked, but stored.
            _ if role == Role::Stored || meets_star(names) => self.leaf(names),
            _ => {
                let operator = self.choices.pick(OPERATORS);
                // How many, not what.
                if matches!(operator, "$slice" | "$position") {
                    return bson::bson!({operator: 1});
                }
                let value = self.value(names, role, depth + 1);
                bson::bson!({operator: value})
            }
        }
    }

    fn leaf(&mut self, names: &[String]) -> Bson {
        match self.choices.below(6) {
            4 => Bson::Null,
            5 => Bson::Int32(1),
            _ if !is_sealed(names) => self.open(),
            _ => {
                let first = names.first().map_or("", String::as_str);
                self.bait_for(first)
            }
        }
    }
}

/// Whether `names` lead to a sealed field or into one. Numbers below the top are array
/// indexes, unless a star takes them.
fn leads_into(path: &[&str], names: &[&str], top: bool) -> bool {
    let Some((wanted, path_rest)) = path.split_first() else {
        return true;
    };
    let Some((name, names_rest)) = names.split_first() else {
        return false;
    };
    let number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let position = !top && (name.starts_with('$') || number);
    if *wanted == "*" || wanted == name {
        leads_into(path_rest, names_rest, false)
    } else {
        position && leads_into(path, names_rest, false)
    }
}

/// Whether a name below `names` is one that a star of a path stands for.
fn meets_star(names: &[String]) -> bool {
    let mut names = names.iter().flat_map(|name| name.split('.'));
    let first = names.next();
    first == Some("contacts") && names.all(crate::schema::is_position)
}

pub(super) fn is_sealed(names: &[String]) -> bool {
    let names: Vec<&str> = names.iter().flat_map(|name| name.split('.')).collect();
    PATHS.iter().any(|path| leads_into(path, &names, true))
}
