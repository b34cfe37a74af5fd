//! Values of each type of BSON, sealed.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, DateTime, Decimal128, JavaScriptCodeWithScope, Regex, Timestamp, doc,
};

use super::{Row, find, insert};

pub(super) const SCHEMA: &str = r#"
[collections."encryption_spec_*.default".fields]
encrypted_objectId            = { type = "objectId", queries = ["equality"] }
encrypted_int                 = { type = "int", queries = ["equality"] }
encrypted_long                = { type = "long", queries = ["equality"] }
encrypted_double              = { type = "double", queries = ["equality"] }
encrypted_decimal             = { type = "decimal", queries = ["equality"] }
encrypted_binData             = { type = "binData", queries = ["equality"] }
encrypted_timestamp           = { type = "timestamp", queries = ["equality"] }
encrypted_date                = { type = "date", queries = ["equality"] }
encrypted_bool                = { type = "bool", queries = ["equality"] }
encrypted_symbol              = { type = "symbol" }
encrypted_javascript          = { type = "javascript" }
encrypted_javascriptWithScope = { type = "javascriptWithScope" }
encrypted_object              = { type = "object" }
encrypted_array               = { type = "array" }
encrypted_regex               = { type = "regex" }
encrypted_minKey              = { type = "minKey" }
encrypted_maxKey              = { type = "maxKey" }
encrypted_any                 = {}
"#;

pub(super) fn rows() -> Vec<Row> {
    [with_equality(), without_equality(), others()].concat()
}

/// It comes back as it was, and is found.
fn found(name: &'static str, field: &str, value: impl Into<Bson>) -> Row {
    let value = value.into();
    let commands = vec![
        insert(doc! {"_id": 1, field: value.clone()}),
        find(doc! {"_id": 1}),
        find(doc! {field: value}),
    ];
    Row::new("types", name, commands)
}

/// It comes back as it was.
fn back(name: &'static str, field: &str, value: impl Into<Bson>) -> Row {
    let commands = vec![
        insert(doc! {"_id": 1, field: value.into()}),
        find(doc! {"_id": 1}),
    ];
    Row::new("types", name, commands)
}

fn with_equality() -> Vec<Row> {
    let binary = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![0; 3],
    };
    let time = Timestamp {
        time: 123,
        increment: 456,
    };
    let decimal: Decimal128 = "1.23".parse().unwrap();
    vec![
        found(
            "type objectId",
            "encrypted_objectId",
            ObjectId::from_bytes([0xAA; 12]),
        ),
        found("type int", "encrypted_int", 123),
        found("type long", "encrypted_long", 123_i64),
        found("type binData", "encrypted_binData", binary),
        found("type timestamp", "encrypted_timestamp", time),
        found("type date", "encrypted_date", DateTime::from_millis(123)),
        found("type double, with equality", "encrypted_double", 1.23).beyond(),
        found("type decimal, with equality", "encrypted_decimal", decimal).beyond(),
        found("type bool, with equality", "encrypted_bool", true).beyond(),
    ]
}

fn without_equality() -> Vec<Row> {
    let code = "var x = 1;".to_owned();
    let scoped = JavaScriptCodeWithScope {
        code: code.clone(),
        scope: doc! {},
    };
    let pattern = Regex {
        pattern: "test".try_into().unwrap(),
        options: "".try_into().unwrap(),
    };
    vec![
        back(
            "type symbol",
            "encrypted_symbol",
            Bson::Symbol("test".into()),
        ),
        back(
            "type javascript",
            "encrypted_javascript",
            Bson::JavaScriptCode(code),
        ),
        back("type regex", "encrypted_regex", pattern),
        back(
            "type javascriptWithScope",
            "encrypted_javascriptWithScope",
            scoped,
        )
        .beyond(),
        back("type object", "encrypted_object", doc! {"a": {"b": [1]}}).beyond(),
        back("type object, empty", "encrypted_object", doc! {}).beyond(),
        back(
            "type array",
            "encrypted_array",
            vec![Bson::Int32(1), Bson::from("x")],
        )
        .beyond(),
        back("type array, empty", "encrypted_array", Vec::<Bson>::new()).beyond(),
        back("type minKey", "encrypted_minKey", Bson::MinKey).beyond(),
        back("type maxKey", "encrypted_maxKey", Bson::MaxKey).beyond(),
        back("type undefined", "encrypted_any", Bson::Undefined).beyond(),
    ]
}

fn others() -> Vec<Row> {
    vec![
        Row::new(
            "types",
            "null stays null, and is found",
            vec![
                insert(doc! {"_id": 1, "encrypted_int": null}),
                find(doc! {"encrypted_int": null}),
            ],
        )
        .beyond(),
        Row::new(
            "types",
            "numbers that MongoDB holds equal find each other",
            vec![
                insert(doc! {"_id": 1, "encrypted_int": 5}),
                find(doc! {"encrypted_int": 5.0}),
                find(doc! {"encrypted_int": 5_i64}),
            ],
        )
        .beyond(),
        Row::new(
            "types",
            "a value of another type than the schema's is not sealed but refused",
            vec![insert(doc! {"_id": 1, "encrypted_bool": "true"})],
        )
        .refused(&["encrypted_bool", "bool"]),
        back(
            "type timestamp, of a zero that MongoDB would replace",
            "encrypted_any",
            Timestamp {
                time: 0,
                increment: 1,
            },
        ),
        Row::new(
            "badQueries",
            "the timestamp of zero, for which MongoDB puts the time, is refused",
            vec![insert(
                doc! {"_id": 1, "encrypted_any": Timestamp { time: 0, increment: 0 }},
            )],
        )
        .refused(&["timestamp", "encrypted_any"]),
    ]
}
