//! What was sealed and then opened again is what was there, bit for bit.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{
    Binary, Bson, Decimal128, JavaScriptCodeWithScope, RawDocumentBuf, Regex, Timestamp, doc,
    spec::BinarySubtype,
};

use super::{CANARY, Ground, holds, report};

const FIELDS: &str = r#"
any             = {}
items           = { elements = true }
word            = { type = ["string", "number", "date", "objectId", "binData", "bool"], queries = ["equality"] }
"visits.note"   = {}
"places.*.name" = { type = "string" }
"#;

/// One value of each type, and the numbers that are easily lost.
fn values() -> Vec<Bson> {
    let binary = |subtype, bytes: &[u8]| {
        Bson::Binary(Binary {
            subtype,
            bytes: bytes.to_vec(),
        })
    };
    vec![
        CANARY.into(),
        "".into(),
        "a\0b".into(),
        5_i32.into(),
        5_i64.into(),
        5.0.into(),
        (-0.0).into(),
        f64::from_bits(0x7FF8_0000_0000_1234).into(),
        f64::from_bits(0xFFF0_0000_0000_0001).into(),
        f64::NEG_INFINITY.into(),
        Bson::Decimal128("5.00".parse::<Decimal128>().unwrap()),
        Bson::Decimal128("-0E+3".parse::<Decimal128>().unwrap()),
        Bson::Decimal128(Decimal128::from_bytes([0xFF; 16])),
        true.into(),
        false.into(),
        Bson::DateTime(mongodb::bson::DateTime::from_millis(-1)),
        ObjectId::from_bytes([7; 12]).into(),
        binary(BinarySubtype::Generic, b"PLAIN-"),
        binary(BinarySubtype::Uuid, &[1; 16]),
    ]
}

/// Values that equality cannot be asked of.
fn odd_values() -> Vec<Bson> {
    let scoped = JavaScriptCodeWithScope {
        code: "f".to_owned(),
        scope: doc! { "PLAIN-": [1] },
    };
    vec![
        doc! {}.into(),
        doc! { "$a": 1, "b.c": { "": CANARY }, "list": [1, [2, { "x": null }]] }.into(),
        Bson::Array(vec![]),
        vec![1, 2].into(),
        Bson::RegularExpression(Regex {
            pattern: "PLAIN-".try_into().unwrap(),
            options: "i".try_into().unwrap(),
        }),
        Bson::JavaScriptCode("f".to_owned()),
        Bson::JavaScriptCodeWithScope(scoped),
        Bson::Symbol("PLAIN-".to_owned()),
        Bson::Timestamp(Timestamp {
            time: 0,
            increment: 0,
        }),
        Bson::MinKey,
        Bson::MaxKey,
    ]
}

fn documents() -> Vec<RawDocumentBuf> {
    let mut documents = Vec::new();
    for (index, value) in values().into_iter().chain(odd_values()).enumerate() {
        let id = i32::try_from(index).unwrap();
        let mut document = doc! {
            "_id": id, "before": 1, "any": value.clone(),
            "items": [value.clone(), null_or(index), [value.clone()]],
            "visits": [{ "note": value.clone() }, 5, { "open": [{ "note": 1 }] }],
            "after": "open",
        };
        if index < values().len() {
            document.insert("word", vec![value.clone(), "PLAIN-2".into()]);
        }
        documents.push(document);
    }
    let ids: [Bson; 8] = [
        Bson::Null,
        Bson::MinKey,
        Bson::MaxKey,
        f64::NAN.into(),
        "text".into(),
        doc! { "a": 1, "b.c": 2 }.into(),
        ObjectId::from_bytes([1; 12]).into(),
        true.into(),
    ];
    // Names that no path of an update leads to, and `_id`s of every type.
    for id in ids {
        documents.push(doc! {
            "_id": id, "word": CANARY,
            "places": {
                "a.b": { "name": CANARY, "x": 1 }, "": { "name": CANARY },
                "$c": { "name": CANARY }, "0": [{ "name": CANARY }, null], "open": 5,
            },
            "zero": Timestamp { time: 0, increment: 0 },
        });
    }
    documents
        .iter()
        .map(|document| RawDocumentBuf::try_from(document).unwrap())
        .collect()
}

fn null_or(index: usize) -> Bson {
    if index.is_multiple_of(2) {
        Bson::Null
    } else {
        Bson::Int32(1)
    }
}

#[tokio::test]
async fn every_type_and_name_comes_back_bit_for_bit() {
    let ground = Ground::new("allow", FIELDS).await;
    let stored = ground.stored().await.clone_with_type::<RawDocumentBuf>();
    stored.insert_many(documents()).await.unwrap();
    // MongoDB gives documents that are inserted with a timestamp of zero the time.
    stored
        .update_many(
            doc! { "zero": { "$exists": true } },
            doc! { "$set": { "zero": Timestamp { time: 0, increment: 0 } } },
        )
        .await
        .unwrap();
    let before = ground.raw().await;
    assert_eq!(before.len(), documents().len());

    let text = ground.succeed(&["migrate", "encrypt"]);
    assert!(text.contains("nothing is left"), "{text}");
    ground.assert_all_sealed(before.len()).await;
    let sealed = ground.raw().await;
    let (_proxy, client) = ground.proxy().await;
    let read: Vec<RawDocumentBuf> = {
        use futures::TryStreamExt;
        let people = ground.people(&client).clone_with_type::<RawDocumentBuf>();
        let found = people.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
        found.try_collect().await.unwrap()
    };
    assert_eq!(read, before, "through the proxy");
    // Twice is once.
    ground.succeed(&["migrate", "encrypt"]);
    assert_eq!(ground.raw().await, sealed);

    ground.succeed(&["keys", "rotate", "default"]);
    ground.succeed(&["migrate", "rotate"]);
    assert_ne!(ground.raw().await, sealed);

    ground.schema("store", FIELDS);
    ground.succeed(&["migrate", "decrypt"]);
    assert_eq!(ground.raw().await, before);
    assert!(
        before
            .iter()
            .any(|document| holds(document, CANARY.as_bytes()))
    );
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let ground = Ground::new("reject", FIELDS).await;
    let stored = ground.stored().await;
    stored
        .insert_many([
            doc! { "_id": 1, "any": CANARY, "word": [CANARY, 4, null] },
            doc! { "_id": 2, "word": { "a": CANARY } },
            doc! { "_id": 3, "word": null },
        ])
        .await
        .unwrap();
    stored
        .create_index(
            mongodb::IndexModel::builder()
                .keys(doc! { "word": 1 })
                .build(),
        )
        .await
        .unwrap();
    let before = ground.raw().await;
    let json = ground.succeed(&["migrate", "encrypt", "--dry-run", "--json"]);
    let report = report(&json);
    assert_eq!(report["documents"], 3);
    assert_eq!(report["changed"], 1);
    assert_eq!(report["fields"][0]["field"], "any");
    assert_eq!(report["fields"][1]["changed"], 2);
    assert_eq!(report["left"][0]["field"], "word");
    let why = report["left"][0]["why"].as_str().unwrap();
    assert!(why.starts_with("is object, and the schema takes"), "{why}");
    assert_eq!(ground.raw().await, before);
    assert_eq!(stored.list_index_names().await.unwrap(), ["_id_", "word_1"]);
}
