//! Other values in the place of those that are to be sealed.
//!
//! A bench stores documents in plain too, for comparison, perhaps on the user's own MongoDB,
//! whose log of operations and backups would keep them. What a value costs depends on its type
//! and length, and for tokens and indexes on which values are equal: that stays, but no more
//! than a sealed field shows. Which values are equal only stays where there is a token, and
//! between fields only where they share one.

use std::hash::{BuildHasher as _, RandomState};

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Decimal128, Document, Timestamp, doc};

use super::dice::Dice;
use crate::schema::FieldRule;

/// Where the server may see that values are equal, equal ones are put in their place; which, is
/// different each time.
#[derive(Debug, Default)]
pub struct Disguise(RandomState);

impl Disguise {
    /// A new one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts other values in the places of `fields`.
    pub fn put_on(&self, document: &mut Document, fields: &[FieldRule]) {
        for field in fields {
            let components: Vec<&str> = field.path.split('.').collect();
            let alike = field.domain.as_deref().unwrap_or(&field.path);
            let alike = field.equality.then_some(alike);
            self.below(document, &components, alike);
        }
    }

    fn below(&self, document: &mut Document, components: &[&str], alike: Option<&str>) {
        let Some((first, rest)) = components.split_first() else {
            return;
        };
        for (key, value) in document.iter_mut() {
            if *first == "*" || first == key {
                self.through(value, rest, alike);
            }
        }
    }

    fn through(&self, value: &mut Bson, rest: &[&str], alike: Option<&str>) {
        match value {
            value if rest.is_empty() => *value = self.other(value, alike),
            Bson::Document(document) => self.below(document, rest, alike),
            Bson::Array(items) => {
                for item in items {
                    self.through(item, rest, alike);
                }
            }
            _ => {}
        }
    }

    /// Another value of the same type and length; the same one for the same value, among those
    /// that `alike` is given for.
    fn other(&self, value: &Bson, alike: Option<&str>) -> Bson {
        let mut dice = self.dice(value, alike);
        let dice = &mut dice;
        match value {
            Bson::Document(inner) => Bson::Document(self.names(inner, alike)),
            Bson::Array(items) => {
                Bson::Array(items.iter().map(|item| self.other(item, alike)).collect())
            }
            Bson::String(text) => letters(text, dice).into(),
            Bson::Symbol(text) => Bson::Symbol(letters(text, dice)),
            Bson::JavaScriptCode(text) => Bson::JavaScriptCode(letters(text, dice)),
            Bson::JavaScriptCodeWithScope(script) => {
                let mut other = script.clone();
                other.code = letters(&script.code, dice);
                other.scope = self.names(&script.scope, alike);
                Bson::JavaScriptCodeWithScope(other)
            }
            Bson::RegularExpression(regex) => {
                match letters(regex.pattern.as_str(), dice).try_into() {
                    Ok(pattern) => Bson::RegularExpression(bson::Regex {
                        pattern,
                        options: regex.options.clone(),
                    }),
                    Err(_) => Bson::Null,
                }
            }
            Bson::Int32(_) => Bson::Int32(i32::from_le_bytes(dice.bytes())),
            Bson::Int64(_) => Bson::Int64(i64::from_le_bytes(dice.bytes())),
            Bson::Double(_) => Bson::Double(f64::from(i32::from_le_bytes(dice.bytes()))),
            Bson::Decimal128(_) => {
                // A number of at most nine digits.
                let digits = i32::from_le_bytes(dice.bytes()) % 1_000_000_000;
                let decimal = digits.to_string().parse::<Decimal128>();
                decimal.map_or(Bson::Null, Bson::Decimal128)
            }
            Bson::Boolean(_) => Bson::Boolean(dice.below(2) == 1),
            Bson::DateTime(_) => {
                DateTime::from_millis(i64::from(u32::from_le_bytes(dice.bytes())) * 1000).into()
            }
            Bson::Timestamp(_) => Bson::Timestamp(Timestamp {
                time: dice.next_number(),
                increment: 1,
            }),
            Bson::ObjectId(_) => ObjectId::from_bytes(dice.bytes()).into(),
            Bson::Binary(binary) => {
                let mut other = binary.clone();
                other.bytes.fill_with(|| dice.byte());
                Bson::Binary(other)
            }
            // Types that hold nothing; and pointers, which nobody writes any more, become so.
            Bson::Undefined | Bson::MinKey | Bson::MaxKey => value.clone(),
            _ => Bson::Null,
        }
    }

    /// Names within a value are part of it.
    fn names(&self, inner: &Document, alike: Option<&str>) -> Document {
        let mut other = Document::new();
        for (key, value) in inner {
            let text = Bson::String(key.clone());
            let mut dice = self.dice(&text, alike);
            let mut name = letters(key, &mut dice);
            for _ in 0..4 {
                // Of one letter there are few.
                if !other.contains_key(&name) {
                    break;
                }
                name = letters(key, &mut dice);
            }
            other.insert(name, self.other(value, alike));
        }
        other
    }

    fn dice(&self, value: &Bson, alike: Option<&str>) -> Dice {
        let Some(alike) = alike else {
            return Dice::seeded(rand::random());
        };
        let bytes = bson::serialize_to_vec(&doc! {"": value}).unwrap_or_default();
        Dice::seeded(self.0.hash_one((alike, bytes)))
    }
}

/// As many bytes as `text` has.
fn letters(text: &str, dice: &mut Dice) -> String {
    (0..text.len())
        .map(|_| char::from(b'a' + u8::try_from(dice.below(26)).unwrap_or(0)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::{made_up, values_at};
    use super::*;
    use crate::schema::{Format, Schema};

    #[test]
    fn other_values_of_the_same_type_and_size_stand_in_the_sealed_places_alone() {
        let types = [
            "string",
            "int",
            "long",
            "double",
            "decimal",
            "bool",
            "date",
            "timestamp",
            "objectId",
            "binData",
            "object",
            "array",
            "javascript",
            "symbol",
            "regex",
        ];
        let mut text = "[collections.\"a.b\".fields]\n\"in.*.list\" = {}\n".to_owned();
        for name in types {
            text.push_str(&format!("\"f.{name}\" = {{ type = \"{name}\" }}\n"));
        }
        let mut schema = Schema::parse(&text, Format::Toml, "s.toml").unwrap();
        let fields = schema.rules.remove(0).fields;
        let disguise = Disguise::new();
        for before in made_up(&fields) {
            let mut after = before.clone();
            disguise.put_on(&mut after, &fields);
            for field in &fields {
                let (old, new) = (
                    values_at(&before, &field.path),
                    values_at(&after, &field.path),
                );
                assert_eq!(old.len(), new.len());
                for ((_, old), (_, new)) in old.into_iter().zip(new) {
                    assert_eq!(old.element_type(), new.element_type(), "{}", field.path);
                    let size =
                        |value: &Bson| bson::serialize_to_vec(&doc! {"": value}).unwrap().len();
                    assert_eq!(size(old), size(new), "{}", field.path);
                    assert!(
                        old != new || matches!(old, Bson::Boolean(_)),
                        "{}",
                        field.path
                    );
                }
            }
            let open = |document: &Document| {
                let mut document = document.clone();
                document.remove("f");
                document.remove("in");
                document
            };
            assert_eq!(open(&before), open(&after));
        }
    }

    #[test]
    fn values_stay_equal_where_a_token_shows_it_and_nowhere_else() {
        let text = r#"
            [collections."a.b".fields]
            mail = { type = "string", queries = ["equality"] }
            login = { type = "string", queries = ["equality"] }
            home = { type = "string", queries = ["equality"], domain = "phone" }
            work = { type = "string", queries = ["equality"], domain = "phone" }
            illness = { type = "string" }
            whole = {}
        "#;
        let mut schema = Schema::parse(text, Format::Toml, "s.toml").unwrap();
        let fields = schema.rules.remove(0).fields;
        let disguised = |disguise: &Disguise| {
            let value = "Ada Marsh of Leith";
            let mut document = doc! {
                "mail": value, "login": value, "home": value, "work": value,
                "illness": value, "whole": {value: value, "other": value},
            };
            disguise.put_on(&mut document, &fields);
            document
        };
        let disguise = Disguise::new();
        let (one, two) = (disguised(&disguise), disguised(&disguise));
        let other = disguised(&Disguise::new());
        for name in ["mail", "login", "home", "work"] {
            assert_eq!(one.get(name), two.get(name), "{name}");
            assert_ne!(one.get(name), other.get(name), "{name}");
        }
        assert_eq!(one.get("home"), one.get("work"));
        assert_ne!(one.get("mail"), one.get("login"));
        for name in ["illness", "whole"] {
            assert_ne!(one.get(name), two.get(name), "{name}");
        }
        let whole = one.get_document("whole").unwrap();
        let values: Vec<&Bson> = whole.values().collect();
        assert!(values.len() == 2 && values[0] != values[1]);
        assert!(!one.to_string().contains("Ada"));
    }
}
