//! Documents on their way in, by insert; and what holds for every message.

use super::*;
use crate::wire::flag;
use crate::wire::testing::sequence;

#[test]
fn every_field_that_the_schema_names_is_sealed_where_it_stands() {
    let sent = sent(doc! {"insert": "customers", "documents": [
        {"_id": 1, "ssn": "a", "name": "n", "age": 5_i64, "address": {"street": ["s"]}, "z": 1},
        {"_id": 2, "payment": {"card": "c", "open": 1}, "visits": [{"note": "v", "at": 3}, [{"note": "w"}], 7]},
        {"_id": 3, "tags": ["x", "y", null], "contacts": {"home": {"phone": "p"}, "0": {"phone": "q"}}},
        {"_id": 4, "payment": [{"card": ["d", "e"]}], "notes": [{"n": 1}, [2], null], "visits": {"0": {"note": "k"}}},
    ], "ordered": true});
    let expected = doc! {"insert": "customers", "documents": [
        {"_id": 1, "ssn": queryable("ssn", "a"), "name": "n", "age": queryable("age", 5_i64),
         "address": sealed(doc! {"street": ["s"]}), "z": 1},
        {"_id": 2, "payment": {"card": queryable("payment.card", "c"), "open": 1},
         "visits": [{"note": sealed("v"), "at": 3}, [{"note": sealed("w")}], 7]},
        {"_id": 3, "tags": [queryable("tags", "x"), queryable("tags", "y"), null],
         "contacts": {"home": {"phone": queryable("contacts.*.phone", "p")}, "0": {"phone": queryable("contacts.*.phone", "q")}}},
        {"_id": 4, "payment": [{"card": [queryable("payment.card", "d"), queryable("payment.card", "e")]}],
         "notes": [sealed(doc! {"n": 1}), sealed(vec![2]), null], "visits": {"0": {"note": sealed("k")}}},
    ], "ordered": true};
    assert_eq!(sent, expected);
}

/// MongoDB puts the time there, but only there.
#[test]
fn the_timestamp_of_zero_is_refused_at_the_top_level_of_a_document_and_sealed_elsewhere() {
    let zero = bson::Timestamp {
        time: 0,
        increment: 0,
    };
    for whole in [
        doc! {"insert": "customers", "documents": [{"address": zero}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"address": zero}}]},
        doc! {"findAndModify": "customers", "query": {}, "update": {"address": zero}},
    ] {
        refused(whole, &["timestamp", "`address`", "the time itself"]);
    }
    let within = sent(doc! {"insert": "customers", "documents": [
        {"address": {"since": zero}},
        {"address": bson::Timestamp { time: 0, increment: 1 }},
    ]});
    let expected = doc! {"insert": "customers", "documents": [
        {"address": sealed(doc! {"since": zero})},
        {"address": sealed(bson::Timestamp { time: 0, increment: 1 })},
    ]};
    assert_eq!(within, expected);
    let set =
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$set": {"address": zero}}}]};
    let expected = doc! {"update": "customers", "updates": [{"q": {}, "u": {"$set": {"address": sealed(zero)}}}]};
    assert_eq!(sent(set), expected);
}

#[test]
fn documents_are_sealed_in_sections_before_and_after_the_body() {
    let command = body(&doc! {"insert": "customers", "$db": "shop"});
    let documents = sequence(
        "documents",
        &[doc! {"ssn": "a"}, doc! {}, doc! {"b": 1, "ssn": "c"}],
    );
    for flags in [0, flag::CHECKSUM_PRESENT, flag::MORE_TO_COME] {
        for sections in [[&command[..], &documents], [&documents[..], &command]] {
            let sent = decided(&msg(flags, &sections.concat())).unwrap();
            assert_eq!(sent.body, doc! {"insert": "customers", "$db": "shop"});
            let expected = vec![
                doc! {"ssn": queryable("ssn", "a")},
                doc! {},
                doc! {"b": 1, "ssn": queryable("ssn", "c")},
            ];
            assert_eq!(sent.sequences, [("documents".to_owned(), expected)]);
        }
    }
}

#[test]
fn body_and_section_may_both_hold_documents() {
    let command = body(&doc! {"insert": "customers", "documents": [{"ssn": "a"}], "$db": "shop"});
    let documents = sequence("documents", &[doc! {"ssn": "b"}]);
    for sections in [[&command[..], &documents], [&documents[..], &command]] {
        let sent = decided(&msg(flag::CHECKSUM_PRESENT, &sections.concat())).unwrap();
        let [first] = &sent.body.get_array("documents").unwrap()[..] else {
            panic!("not one document");
        };
        assert_eq!(first, &Bson::Document(doc! {"ssn": queryable("ssn", "a")}));
        assert_eq!(sent.sequences[0].1, [doc! {"ssn": queryable("ssn", "b")}]);
    }
}

#[test]
fn a_field_that_stands_twice_is_sealed_twice() {
    let twice = [
        &bson::serialize_to_vec(&doc! {"ssn": "a"}).unwrap()[4..15],
        &bson::serialize_to_vec(&doc! {"ssn": "b"}).unwrap()[4..15],
    ]
    .concat();
    let length = i32::try_from(twice.len() + 5).unwrap();
    let document = [&length.to_le_bytes()[..], &twice, &[0]].concat();
    let size = i32::try_from(4 + 10 + document.len()).unwrap();
    let section = [&[1][..], &size.to_le_bytes(), b"documents\0", &document].concat();
    let frame = msg(
        0,
        &[body(&doc! {"insert": "customers", "$db": "shop"}), section].concat(),
    );
    let message = Message::recognise(&frame).unwrap();
    let mut scratch = Vec::new();
    let Decision::Forward { cleared, .. } = decide(&message, &POLICY, &mut scratch) else {
        panic!("refused");
    };
    let found = memchr::memmem::find_iter(cleared.bytes(), &NEEDLE).count();
    assert_eq!(found, 2);
    assert!(memchr::memmem::find(cleared.bytes(), b"\x02ssn").is_none());
}

#[test]
fn null_and_missing_stay_what_they_are() {
    passes(doc! {"insert": "customers", "documents": [
        {"ssn": null, "age": null, "address": null, "tags": [null], "notes": []},
        {"payment": null, "visits": [null, {"note": null}], "contacts": "none"},
        {"payment": {"open": 1}, "visits": 5},
    ]});
}

#[test]
fn values_of_other_types_are_refused() {
    for (document, path, kind) in [
        (doc! {"ssn": 5_i32}, "ssn", "int"),
        (doc! {"age": CANARY}, "age", "string"),
        (doc! {"tags": [[CANARY]]}, "tags", "array"),
        (
            doc! {"visits": [{"note": [CANARY]}]},
            "visits.note",
            "array",
        ),
        (
            doc! {"payment": {"card": {"a": CANARY}}},
            "payment.card",
            "object",
        ),
    ] {
        let refusal = refused(
            doc! {"insert": "customers", "documents": [document]},
            &[path, kind, "shop.customers"],
        );
        assert_eq!(refusal.kind, RefusalKind::WrongType);
    }
}

#[test]
fn null_in_an_array_that_is_sealed_as_one_is_refused() {
    refused(
        doc! {"insert": "customers", "documents": [{"address": [1, null]}]},
        &["address", "elements = true"],
    );
    sent(doc! {"insert": "customers", "documents": [{"address": [[null]]}]});
}

#[test]
fn names_that_read_as_the_path_of_a_sealed_field_are_refused() {
    for document in [
        doc! {"payment.card": CANARY},
        doc! {"payment": {"card.x": CANARY}},
        doc! {"ssn.c": CANARY},
        doc! {"visits.0": {"note": CANARY}},
        doc! {"contacts": {"home.phone": CANARY}},
        doc! {"contacts": [{"home.phone": CANARY}]},
    ] {
        refused(
            doc! {"insert": "customers", "documents": [document]},
            &["dot"],
        );
    }
    passes(
        doc! {"insert": "customers", "documents": [{"payment.open": 1, "a.b": 1, "contacts": {"a.b": 1}}]},
    );
}

#[test]
fn clients_cannot_send_sealed_values() {
    let mut payload = Vec::new();
    POLICY.collection("shop.customers").unwrap().field(0).seal(
        kind::STRING,
        b"\x02\0\0\0a\0",
        &mut payload,
    );
    let forged = Bson::Binary(Binary {
        subtype: BinarySubtype::from(SUBTYPE),
        bytes: payload,
    });
    for command in [
        doc! {"insert": "customers", "documents": [{"ssn": {"c": forged.clone()}}]},
        doc! {"insert": "open", "documents": [{"a": [{"b": forged.clone()}]}]},
        doc! {"find": "open", "filter": {"a": forged.clone()}},
        doc! {"ping": 1, "comment": forged.clone()},
    ] {
        refused(command, &["sealed value"]);
    }
    let frame = msg(
        0,
        &[
            sequence("documents", &[doc! {"x": [forged]}]),
            body(&doc! {"insert": "open", "$db": "shop"}),
        ]
        .concat(),
    );
    assert!(decided(&frame).is_err());
    // The subtype alone is anyone's.
    let other = Bson::Binary(Binary {
        subtype: BinarySubtype::from(SUBTYPE),
        bytes: vec![0xF5, 0xEA, 0x1D, 1],
    });
    passes(doc! {"insert": "open", "documents": [{"a": other}]});
}

#[test]
fn options_and_sections_that_are_not_known_are_refused() {
    for option in [
        "collectionUUID",
        "encryptionInformation",
        "insert",
        "documentz",
    ] {
        let mut command = doc! {"insert": "customers", "documents": []};
        let frame = if option == "insert" {
            // Twice the name of the command: the second is an option.
            let mut bytes = bson::serialize_to_vec(
                &doc! {"insert": "customers", "jnsert": CANARY, "$db": "shop"},
            )
            .unwrap();
            let at = memchr::memmem::find(&bytes, b"jnsert").unwrap();
            bytes[at] = b'i';
            msg(0, &[vec![0], bytes].concat())
        } else {
            command.insert(option, CANARY);
            framed(&command)
        };
        let refusal = decided(&frame).err().unwrap();
        assert!(refusal.message.contains(option), "{refusal}");
        assert!(!refusal.message.contains(CANARY), "{refusal}");
    }
    let frame = msg(
        0,
        &[
            body(&doc! {"insert": "customers", "$db": "shop"}),
            sequence("rows", &[doc! {"ssn": CANARY}]),
        ]
        .concat(),
    );
    assert!(decided(&frame).err().unwrap().message.contains("rows"));
    passes(
        doc! {"insert": "customers", "documents": [{"_id": 1}], "lsid": {}, "txnNumber": 1_i64,
        "writeConcern": {"w": 1}, "comment": "c", "maxTimeMS": 5, "$clusterTime": {}, "autocommit": false},
    );
}

#[test]
fn a_collection_that_matches_a_pattern_is_sealed() {
    let sent = sent(doc! {"insert": "people", "documents": [{"ssn": "a"}], "$db": "tenant_a"});
    let document = sent.get_array("documents").unwrap()[0]
        .as_document()
        .unwrap();
    let ssn = document.get_document("ssn").unwrap();
    assert_eq!(ssn.get("c"), Some(&sealed("a")));
    // Another collection has tokens of its own.
    assert_ne!(ssn.get("e1"), Some(&token("ssn", "a")));
    passes(doc! {"insert": "people", "documents": [{"ssn": "a"}], "$db": "tenant"});
}

#[test]
fn a_message_too_large_once_sealed_is_refused() {
    let tags = vec![Bson::from("t"); 600_000];
    let refusal = refused(
        doc! {"insert": "customers", "documents": [{"tags": tags}]},
        &["sealed"],
    );
    assert_eq!(refusal.kind, RefusalKind::TooLarge);
}

#[test]
fn nesting_without_end_is_refused_and_does_no_harm() {
    // Built by hand: serializing so deep a document would be the test's own undoing.
    let nested = |name: &str| {
        let inner = bson::serialize_to_vec(&doc! {name: 1}).unwrap();
        let mut bytes = Vec::new();
        for level in (1..=20_000).rev() {
            let length = i32::try_from(inner.len() + level * (name.len() + 7)).unwrap();
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.push(kind::DOCUMENT);
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
        }
        bytes.extend_from_slice(&inner);
        bytes.resize(bytes.len() + 20_000, 0);
        bytes
    };
    let spliced = |command: &str, field: &str, wrap: &str, inner: Vec<u8>| {
        // {command: "customers", field: {wrap: inner}, $db: "shop"}
        let element = |kind: u8, name: &str, value: &[u8]| {
            [&[kind][..], name.as_bytes(), &[0], value].concat()
        };
        let whole = |elements: &[u8]| {
            let length = i32::try_from(elements.len() + 5).unwrap();
            [&length.to_le_bytes()[..], elements, &[0]].concat()
        };
        let string = |text: &str| {
            let length = i32::try_from(text.len() + 1).unwrap();
            [&length.to_le_bytes()[..], text.as_bytes(), &[0]].concat()
        };
        let held = if wrap.is_empty() {
            inner
        } else {
            whole(&element(kind::DOCUMENT, wrap, &inner))
        };
        let body = whole(
            &[
                element(kind::STRING, command, &string("customers")),
                element(kind::DOCUMENT, field, &held),
                element(kind::STRING, "$db", &string("shop")),
            ]
            .concat(),
        );
        msg(0, &[vec![0], body].concat())
    };
    for frame in [
        spliced("find", "filter", "ssn", nested("$not")),
        spliced("find", "filter", "payment", nested("$not")),
        spliced("find", "filter", "payment", nested("$elemMatch")),
        spliced("find", "projection", "", nested("a")),
        spliced("find", "projection", "payment", nested("0")),
        spliced("find", "let", "", nested("a")),
        spliced("findAndModify", "update", "visits", nested("0")),
    ] {
        assert!(decided(&frame).is_err());
    }
}

#[test]
fn what_is_on_the_way_back_out_is_stored_plain_and_still_checked() {
    let documents = vec![doc! {"ssn": "a"}, doc! {"ssn": ["a", null], "x": 1}];
    let insert = doc! {"insert": "leaving", "documents": documents};
    assert_eq!(sent(insert.clone()), insert);
    for update in [
        doc! {"$set": {"ssn": "a"}},
        doc! {"$push": {"ssn": {"$each": ["a"]}}},
        doc! {"ssn": "a"},
    ] {
        let update =
            doc! {"update": "leaving", "updates": [{"q": {"_id": 1}, "u": update, "upsert": true}]};
        assert_eq!(sent(update.clone()), update);
    }
    let stages = vec![doc! {"$set": {"ssn": "a"}}];
    let update = doc! {"update": "leaving", "updates": [{"q": {"_id": 1}, "u": stages}]};
    let stages = vec![doc! {"$set": {"ssn": {"$literal": "a"}}}];
    let expected = doc! {"update": "leaving", "updates": [{"q": {"_id": 1}, "u": stages}]};
    assert_eq!(sent(update), expected);
    let wrong = doc! {"insert": "leaving", "documents": [{"ssn": 1}]};
    refused(wrong, &["shop.leaving", "ssn", "not int"]);
}
