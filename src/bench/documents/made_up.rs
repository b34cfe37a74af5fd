//! Documents of the schema's shape, for who has none at hand. The same each time.

use std::str::FromStr as _;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Decimal128, Document, Timestamp, doc};

use super::dice::Dice;
use super::paths::with_names;
use crate::schema::FieldRule;

/// How many there are.
const COUNT: u64 = 200;
/// The size that they are filled up to with what is not sealed, in bytes of BSON.
const SIZE: usize = 1024;
/// Around 2024, in milliseconds.
const THEN: i64 = 1_700_000_000_000;

const WORDS: [&str; 16] = [
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty",
    "knoll", "larch", "marsh", "north", "ocean", "pier",
];

/// Documents with a value in each of `fields` that the schema takes there.
pub fn made_up(fields: &[FieldRule]) -> Vec<Document> {
    (0..COUNT)
        .map(|number| {
            let mut document = Document::new();
            for (place, field) in (0..).zip(fields) {
                let paths = with_names(&field.path, &["first", "second"]);
                for (copy, path) in (0..).zip(paths) {
                    let mut dice = Dice::new(number, place * 2 + copy);
                    if let Some(value) = value(field, &mut dice) {
                        put(&mut document, &path, value);
                    }
                }
            }
            fill(&mut document, number);
            document
        })
        .collect()
}

fn put(document: &mut Document, path: &str, value: Bson) {
    let Some((first, rest)) = path.split_once('.') else {
        document.insert(path, value);
        return;
    };
    let inner = document
        .entry(first.to_owned())
        .or_insert(Bson::Document(Document::new()));
    // No path of a schema leads into another one's value.
    if let Bson::Document(inner) = inner {
        put(inner, rest, value);
    }
}

/// What stays open, under names that the schema does not have.
fn fill(document: &mut Document, number: u64) {
    let mut dice = Dice::new(number, u64::MAX);
    let free = |document: &Document, name: &str| {
        let mut name = name.to_owned();
        while document.contains_key(&name) {
            name.push('_');
        }
        name
    };
    let created = THEN.saturating_add_unsigned(number * 86_400_000);
    let open: [(&str, Bson); 3] = [
        ("created", DateTime::from_millis(created).into()),
        ("visits", Bson::Int32(small(&mut dice))),
        ("state", WORDS[dice.below(WORDS.len())].into()),
    ];
    for (name, value) in open {
        document.insert(free(document, name), value);
    }
    let name = free(document, "notes");
    let length = bson::serialize_to_vec(document).map_or(0, |bytes| bytes.len());
    let mut text = String::new();
    while length + name.len() + text.len() + 7 < SIZE {
        text.push_str(WORDS[dice.below(WORDS.len())]);
        text.push(' ');
    }
    document.insert(name, text);
}

/// A value that the field takes; none where only types that are not made are taken.
fn value(field: &FieldRule, dice: &mut Dice) -> Option<Bson> {
    let one = |dice: &mut Dice| match field.types.names() {
        None => Some(address(dice)),
        Some(names) => names.into_iter().find_map(|name| of_type(name, dice)),
    };
    if field.elements && !field.equality {
        let items: Option<Vec<Bson>> = (0..3).map(|_| one(dice)).collect();
        return items.map(Bson::Array);
    }
    one(dice)
}

fn address(dice: &mut Dice) -> Bson {
    Bson::Document(doc! {"street": text(dice), "city": word(dice), "postcode": small(dice)})
}

fn of_type(name: &str, dice: &mut Dice) -> Option<Bson> {
    Some(match name {
        "string" => text(dice).into(),
        "int" | "number" => small(dice).into(),
        "long" => Bson::Int64(i64::from(small(dice)) * 1_000_003),
        "double" => Bson::Double(f64::from(small(dice)) / 100.0),
        "decimal" => {
            let amount = format!("{}.25", small(dice));
            Bson::Decimal128(Decimal128::from_str(&amount).ok()?)
        }
        "bool" => Bson::Boolean(dice.below(2) == 1),
        "date" => DateTime::from_millis(THEN + i64::from(small(dice)) * 1000).into(),
        "timestamp" => Bson::Timestamp(Timestamp {
            time: dice.next_number(),
            increment: 1,
        }),
        "objectId" => {
            let mut bytes = [0; 12];
            bytes.fill_with(|| dice.byte());
            ObjectId::from_bytes(bytes).into()
        }
        "binData" => Bson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes: (0..32).map(|_| dice.byte()).collect(),
        }),
        "object" => address(dice),
        "array" => Bson::Array((0..3).map(|_| text(dice).into()).collect()),
        "regex" => Bson::RegularExpression(bson::Regex {
            pattern: word(dice).try_into().ok()?,
            options: String::new().try_into().ok()?,
        }),
        "javascript" => Bson::JavaScriptCode(format!("{}()", word(dice))),
        "symbol" => Bson::Symbol(word(dice)),
        "minKey" => Bson::MinKey,
        "maxKey" => Bson::MaxKey,
        _ => return None,
    })
}

fn word(dice: &mut Dice) -> String {
    WORDS[dice.below(WORDS.len())].to_owned()
}

/// As long as a name, an address or the number of a card, and rarely the same twice.
fn text(dice: &mut Dice) -> String {
    format!("{} {} {:06}", word(dice), word(dice), dice.below(1_000_000))
}

fn small(dice: &mut Dice) -> i32 {
    i32::try_from(dice.below(100_000)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::values_at;
    use super::*;
    use crate::schema::{Format, Schema, Types};

    fn fields(text: &str) -> Vec<FieldRule> {
        let text = format!("[collections.\"a.b\".fields]\n{text}\n");
        let mut schema = Schema::parse(&text, Format::Toml, "s.toml").unwrap();
        schema.rules.remove(0).fields
    }

    #[test]
    fn each_field_has_a_value_of_its_type_and_the_rest_is_filled_up() {
        let fields = fields(
            r#"
            ssn = { type = "string", queries = ["equality"] }
            "pay.card" = { type = "long", queries = ["equality"] }
            "pay.limit" = { type = ["decimal", "double"] }
            address = {}
            tags = { type = "string", elements = true }
            "rooms.*.note" = { type = "string" }
            created = { type = "date" }
            list = { type = "array" }
            "#,
        );
        let documents = made_up(&fields);
        assert_eq!(documents, made_up(&fields), "the same each time");
        for document in &documents {
            for field in &fields {
                let values = values_at(document, &field.path);
                let kinds = values.iter().map(|(_, value)| value.element_type() as u8);
                assert!(!values.is_empty(), "{}", field.path);
                let whole = field.elements && !field.equality;
                let fits = |kind| whole || field.types.allows(kind);
                assert!(kinds.into_iter().all(fits), "{}", field.path);
            }
            assert_eq!(values_at(document, "rooms.*.note").len(), 2);
            assert_eq!(document.get_array("tags").unwrap().len(), 3);
            assert!(document.contains_key("created_"));
            let size = bson::serialize_to_vec(document).unwrap().len();
            assert!((SIZE..SIZE + 16).contains(&size), "{size}");
        }
        let distinct: std::collections::BTreeSet<&str> = documents
            .iter()
            .map(|document| document.get_str("ssn").unwrap())
            .collect();
        assert!(distinct.len() > 190, "{}", distinct.len());
    }

    #[test]
    fn every_type_but_those_that_nobody_writes_any_more_is_made() {
        let none: Vec<&str> = Types::aliases()
            .filter(|alias| of_type(alias, &mut Dice::new(1, 1)).is_none())
            .collect();
        assert_eq!(none, ["dbPointer", "javascriptWithScope"]);
        for alias in Types::aliases() {
            if let Some(value) = of_type(alias, &mut Dice::new(1, 1)) {
                let types = Types::named(alias).unwrap();
                assert!(types.allows(value.element_type() as u8), "{alias}");
            }
        }
    }
}
