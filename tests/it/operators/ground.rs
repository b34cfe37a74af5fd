//! What the examples run on: a schema with fields of every kind, the same documents
//! on both sides, and the names of collections.

use std::sync::Arc;

use fieldseal::policy::Policy;
use mongodb::Client;
use mongodb::bson::{Bson, DateTime, Document, Timestamp, doc, oid::ObjectId};

use super::answer::Side;
use super::decision;
use super::table::Kind;
use crate::support::{Proxy, ReplicaSet};

/// Names, types and whether there are tokens of them: the fields of each kind.
const FIELDS: &[(&str, &str, bool)] = &[
    ("text", "type = \"string\"", true),
    ("number", "type = \"number\"", true),
    ("date", "type = \"date\"", true),
    ("bool", "type = \"bool\"", true),
    ("bytes", "type = \"binData\"", true),
    ("id", "type = \"objectId\"", true),
    ("stamp", "type = \"timestamp\"", true),
    ("list", "type = \"string\", elements = true", true),
    ("numbers", "type = \"number\", elements = true", true),
    ("document", "type = \"object\"", false),
    ("documents", "type = \"object\", elements = true", false),
    ("point", "", false),
];

/// Seals fields of each kind in the collections whose names begin with `s_`.
pub(super) fn schema(database: &str) -> String {
    schema_with(database, "")
}

/// The same with these options for every field.
pub(super) fn schema_with(database: &str, options: &str) -> String {
    let mut schema = format!("[collections.\"{database}.s_*\".fields]\n");
    let mut field = |name: String, own: &[&str]| {
        let all = own.iter().chain([&options]);
        let all: Vec<&str> = all.copied().filter(|part| !part.is_empty()).collect();
        schema += &format!("\"{name}\" = {{ {} }}\n", all.join(", "));
    };
    for (name, types, tokens) in FIELDS {
        field(format!("sealed_{name}"), &[types]);
        if *tokens {
            let types = types.trim_end_matches(", elements = true");
            let domain = format!("domain = \"{name}\"");
            field(
                format!("equal_{name}"),
                &[types, "queries = [\"equality\"]", &domain],
            );
        }
    }
    for place in ["home", "visits"] {
        let string = "type = \"string\"";
        field(format!("{place}.sealed_text"), &[string]);
        field(
            format!("{place}.equal_text"),
            &[string, "queries = [\"equality\"]"],
        );
    }
    schema
}

/// Whether fields of the kind have the name.
pub(super) fn has(kind: Kind, name: &str) -> bool {
    FIELDS
        .iter()
        .any(|(known, _, tokens)| *known == name && (*tokens || kind != Kind::Equality))
}

/// Where a group's examples run.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) sealed: Client,
    pub(super) plain: Client,
    pub(super) sealed_database: String,
    pub(super) plain_database: String,
    /// The proxy's schema, with other keys.
    pub(super) policy: Arc<Policy>,
}

impl Ground {
    /// Fills the collections that all groups share.
    pub(super) async fn new(set: &ReplicaSet, proxy: &Proxy, sealed: &str, plain: &str) -> Self {
        let ground = Self {
            sealed: proxy.client().await,
            plain: set.client().await,
            sealed_database: sealed.to_owned(),
            plain_database: plain.to_owned(),
            policy: Arc::new(decision::policy(&schema(sealed))),
        };
        for side in &mut ground.sides().await {
            fill(side, "s_others").await;
            fill(side, "plain").await;
        }
        ground
    }

    /// The way through the proxy, and the way to the plaintext twin.
    pub(super) async fn sides(&self) -> [Side; 2] {
        [
            Side::new(&self.sealed, &self.sealed_database).await,
            Side::new(&self.plain, &self.plain_database).await,
        ]
    }
}

/// Empties the collection and gives it the documents of the table.
pub(super) async fn fill(side: &mut Side, collection: &str) {
    let concern = doc! { "w": 1 };
    let delete = doc! { "delete": collection, "deletes": [{ "q": {}, "limit": 0 }], "writeConcern": concern.clone() };
    side.must(delete).await;
    let insert = doc! { "insert": collection, "documents": documents(), "writeConcern": concern };
    side.must(insert).await;
}

/// The name that a word of an example stands for: `people` is the collection of the
/// example, `others` another sealed one, `fresh` an open one that is not there yet,
/// `DB` the database, `ADMIN` the database `admin`.
pub(super) fn name(word: &str, database: &str, own: &str) -> Option<String> {
    if word == "DB" {
        return Some(database.to_owned());
    }
    if let Some(rest) = word.strip_prefix("DB.") {
        let rest = name(rest, database, own).unwrap_or_else(|| rest.to_owned());
        return Some(format!("{database}.{rest}"));
    }
    if word == "others" {
        return Some("s_others".to_owned());
    }
    if let Some(rest) = word.strip_prefix("people") {
        return Some(format!("s_{own}{rest}"));
    }
    let rest = word.strip_prefix("fresh")?;
    Some(format!("f_{own}{rest}"))
}

/// The documents that each example meets. Those with `_id` up to 3 have every field.
pub(super) fn documents() -> Vec<Document> {
    let day = |number: i64| DateTime::from_millis(number * 86_400_000 + 3_600_000);
    let rich = |id: i32, text: &str, number: Bson, list: &[&str]| {
        let byte = u8::try_from(id).unwrap();
        let values = |kind: Kind| {
            let prefix = kind.prefix();
            let mut fields = Document::new();
            let mut put = |name: &str, value: Bson| {
                if has(kind, name) {
                    fields.insert(format!("{prefix}{name}"), value);
                }
            };
            put("text", text.into());
            put("number", number.clone());
            put("date", day(i64::from(id) * 40).into());
            put("bool", (id != 2).into());
            put(
                "bytes",
                Bson::Binary(mongodb::bson::Binary {
                    subtype: mongodb::bson::spec::BinarySubtype::Generic,
                    bytes: vec![byte; 4],
                }),
            );
            put("id", ObjectId::from_bytes([byte; 12]).into());
            put(
                "stamp",
                Timestamp {
                    time: u32::from(byte),
                    increment: 1,
                }
                .into(),
            );
            put("list", list.to_vec().into());
            put(
                "numbers",
                vec![Bson::from(id), number.clone(), 7.into()].into(),
            );
            put("document", doc! { "city": text, "zip": id }.into());
            put(
                "documents",
                vec![doc! { "k": text, "v": id }, doc! { "k": "z", "v": 0 }].into(),
            );
            put(
                "point",
                doc! { "type": "Point", "coordinates": [id, id] }.into(),
            );
            fields
        };
        let nested = |text: &str, at: i32| {
            doc! { "sealed_text": text, "equal_text": text, "open_text": text, "at": at }
        };
        let mut document = doc! { "_id": id, "group": id % 2, "n": id };
        for kind in Kind::ALL {
            document.extend(values(kind));
        }
        document.insert("home", nested(text, id));
        document.insert("visits", vec![nested(text, id), nested("seen", 9)]);
        document
    };
    let mut bare = doc! { "_id": 4, "group": 0, "n": 4 };
    for kind in Kind::ALL {
        for (name, value) in [
            ("text", Bson::Null),
            ("list", Bson::Array(vec![])),
            ("number", 7.into()),
        ] {
            bare.insert(format!("{}{name}", kind.prefix()), value);
        }
    }
    vec![
        rich(1, "ada", 1.into(), &["a", "b"]),
        rich(2, "bob", 2.0.into(), &["b"]),
        rich(3, "ada", 2_i64.into(), &["b", "c", "a"]),
        bare,
        doc! { "_id": 5, "group": 1, "n": 5 },
    ]
}
