//! Schemas that cannot be right are told of before anything is sealed by them, and
//! stored values that cannot be opened are errors, never a part of an answer.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::error::ErrorKind;

use crate::support::{
    Proxy, ProxyOptions, error_text, fieldseal, new_directory, shared_replica_set, unique_database,
    write_configuration,
};

/// What `fieldseal check` says of the fields of one collection; nothing when it accepts them.
fn said_of(fields: &str) -> Option<String> {
    let directory = new_directory("schema");
    let schema = format!("[collections.\"encryption_spec.default\".fields]\n{fields}\n");
    let options = ProxyOptions {
        schema: "",
        ..ProxyOptions::default()
    };
    let upstream = ["127.0.0.1:1".to_owned()];
    let configuration = write_configuration(&directory, &upstream, options);
    let keys = fieldseal(&["keys", "init"], &configuration);
    assert!(keys.status.success(), "{}", error_text(&keys));
    std::fs::write(directory.join("schema.toml"), schema).unwrap();
    let checked = fieldseal(&["check"], &configuration);
    let said = error_text(&checked);
    std::fs::remove_dir_all(&directory).unwrap();
    (!checked.status.success()).then_some(said)
}

// badSchema, badQueries, missingKey, fle2v2-MissingKey
#[test]
fn a_schema_that_cannot_be_right_is_refused_with_its_line() {
    for (fields, words) in [
        ("_id = { type = \"string\" }", &["_id"][..]),
        ("a = { queries = [\"equality\"] }", &["type"]),
        ("a = {}\n\"a.b\" = {}", &["a.b"]),
        (
            "a = { type = \"string\", algorithm = \"random\" }",
            &["algorithm"],
        ),
        ("a = { type = \"strng\" }", &["strng"]),
        ("a = { type = \"string\", key = \"missing\" }", &["missing"]),
        (
            "a = { type = \"object\", queries = [\"equality\"] }",
            &["type: equality is for"],
        ),
        (
            "a = { type = \"array\", queries = [\"equality\"] }",
            &["type: equality is for"],
        ),
        (
            "a = { type = \"regex\", queries = [\"equality\"] }",
            &["type: equality is for"],
        ),
        (
            "a = { type = \"javascript\", queries = [\"equality\"] }",
            &["type: equality is for"],
        ),
        (
            "a = { type = \"symbol\", queries = [\"equality\"] }",
            &["type: equality is for"],
        ),
    ] {
        let said = said_of(fields).unwrap_or_else(|| panic!("accepted: {fields}"));
        for word in words {
            assert!(said.contains(word), "{fields}: {said}");
        }
    }
}

// badSchema: the specification refuses these
#[test]
fn fields_below_arrays_and_below_documents_of_no_declared_type_can_be_sealed() {
    for fields in [
        "\"visits.note\" = { type = \"string\", queries = [\"equality\"] }",
        "\"address.street\" = { type = \"string\" }",
        "\"contacts.*.phone\" = { type = \"string\" }",
    ] {
        assert_eq!(said_of(fields), None, "{fields}");
    }
}

const FIELD: &str =
    "[collections.\"encryption_spec_*.default\".fields]\nrandom = { type = \"string\" }\n";

fn sealed_like(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::UserDefined(0x8F),
        bytes: bytes.to_vec(),
    })
}

// malformedCiphertext, fle2v2-MissingKey
#[tokio::test]
async fn a_stored_value_that_cannot_be_opened_is_an_error_and_not_an_answer() {
    let set = shared_replica_set().await;
    let proxy = Proxy::start(set, FIELD).await;
    let name = unique_database("encryption_spec");
    let direct = set.members()[0].direct_client().await.database(&name);
    let unknown_key = [&[0xF5, 0xEA, 0x1D, 1, 0x7F, 0x7F, 0x7F, 0x7F][..], &[0; 40]].concat();
    let stored = [
        sealed_like(&[]),
        sealed_like(&[0xF5, 0xEA, 0x1D, 1]),
        sealed_like(&unknown_key),
        "in plain".into(),
    ];
    let documents: Vec<Document> = (0..)
        .zip(&stored)
        .map(|(id, value)| doc! {"_id": id, "random": value})
        .collect();
    direct
        .collection::<Document>("default")
        .insert_many(&documents)
        .await
        .unwrap();
    let service = proxy.client().await.database(&name);
    for document in documents {
        let by_id = doc! {"find": "default", "filter": {"_id": document.get("_id").unwrap()}};
        let error = service.run_command(by_id).await.unwrap_err();
        let ErrorKind::Command(error) = *error.kind else {
            panic!("{error}");
        };
        assert!(
            error.message.starts_with("fieldseal: "),
            "{}",
            error.message
        );
    }
}

// fle2v2-DecryptExistingData, malformedCiphertext
#[tokio::test]
async fn plaintext_from_before_is_answered_beside_sealed_values_where_the_schema_allows_it() {
    let set = shared_replica_set().await;
    let schema = r#"
        [collections."encryption_spec_*.default"]
        on_plaintext = "allow"
        fields.random = { type = "string" }
    "#;
    let proxy = Proxy::start(set, schema).await;
    let name = unique_database("encryption_spec");
    let before = doc! {"_id": 1, "random": "from before"};
    let sealed = doc! {"_id": 2, "random": "abc"};
    let direct = set.members()[0].direct_client().await.database(&name);
    direct
        .collection::<Document>("default")
        .insert_one(&before)
        .await
        .unwrap();
    let service = proxy.client().await.database(&name);
    let collection = service.collection::<Document>("default");
    collection.insert_one(&sealed).await.unwrap();

    for expected in [before, sealed] {
        let by_id = doc! {"_id": expected.get("_id").unwrap()};
        let found = collection.find_one(by_id).await.unwrap();
        assert_eq!(found, Some(expected));
    }
}
