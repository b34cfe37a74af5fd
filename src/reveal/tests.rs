//! Replies as MongoDB gives them, and what clients get of them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod epochs;
mod masks;

use std::sync::Arc;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};

use super::*;
use crate::keyring::State;
use crate::policy::fixture;
use crate::schema::OnPlaintext;
use crate::wire::flag;
use crate::wire::testing::{body, msg};

/// Stands for a value that no message may show.
const CANARY: &str = "CANARY-4711";

fn collection(policy: &Policy, namespace: &str) -> Arc<Collection> {
    policy.collection(namespace).unwrap()
}

/// A value sealed for a field of a collection, as MongoDB holds it.
fn sealed(policy: &Policy, namespace: &str, path: &str, value: impl Into<Bson>) -> Bson {
    let collection = collection(policy, namespace);
    let field = (0..)
        .map(|leaf| collection.field(leaf))
        .find(|field| field.path == path)
        .unwrap();
    let bytes = bson::serialize_to_vec(&doc! {"v": value.into()}).unwrap();
    let element = Doc::whole(&bytes).unwrap().first().unwrap().unwrap();
    let mut payload = Vec::new();
    field.seal(element.kind, element.value(), &mut payload);
    Bson::Binary(Binary {
        subtype: BinarySubtype::from(crate::seal::SUBTYPE),
        bytes: payload,
    })
}

fn ssn(policy: &Policy, value: &str) -> Bson {
    let token = Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![7; 16],
    });
    doc! {"c": sealed(policy, "shop.customers", "ssn", value), "e1": token}.into()
}

fn batch(documents: Vec<Document>) -> Document {
    doc! {"cursor": {"firstBatch": documents, "id": 0_i64, "ns": "shop.customers"}, "ok": 1.0}
}

/// What the client gets; none if it is the reply as it came.
fn shown(
    policy: &Policy,
    plan: &ReplyPlan,
    answer: &Document,
) -> Result<Option<Document>, Refusal> {
    let frame = msg(flag::CHECKSUM_PRESENT, &body(answer));
    let mut out = vec![1, 2, 3];
    Ok(
        match reveal(&frame, plan, policy, &mut Reads::default(), &mut out)? {
            Revealed::Unchanged => None,
            Revealed::Rewritten => {
                // Recognising it checks length and checksum.
                let body = Reply::recognise(&out).unwrap().body();
                Some(bson::deserialize_from_slice(&out[body]).unwrap())
            }
        },
    )
}

fn documents(policy: &Policy) -> ReplyPlan {
    ReplyPlan::Documents(collection(policy, "shop.customers"))
}

#[test]
fn a_batch_is_opened_with_and_without_knowing_its_shape() {
    let policy = fixture::policy();
    let note = sealed(&policy, "shop.customers", "visits.note", "n");
    let answer = batch(vec![
        doc! {"_id": 1, "ssn": ssn(&policy, "a"), "x": 5},
        doc! {"ssn": null, "visits": [{"note": note.clone()}, 5], "tags": []},
        doc! {"visits": {"0": {"note": note}}},
    ]);
    let expected = batch(vec![
        doc! {"_id": 1, "ssn": "a", "x": 5},
        doc! {"ssn": null, "visits": [{"note": "n"}, 5], "tags": []},
        doc! {"visits": {"0": {"note": "n"}}},
    ]);
    for plan in [documents(&policy), ReplyPlan::Relay] {
        assert_eq!(shown(&policy, &plan, &answer), Ok(Some(expected.clone())));
    }
    for plan in [ReplyPlan::Pass, ReplyPlan::Hello] {
        assert_eq!(shown(&policy, &plan, &answer), Ok(None));
    }
}

#[test]
fn the_document_that_find_and_modify_answers_is_opened() {
    let policy = fixture::policy();
    let answer =
        |ssn: Bson| doc! {"lastErrorObject": {"n": 1}, "value": {"_id": 1, "ssn": ssn}, "ok": 1.0};
    assert_eq!(
        shown(&policy, &documents(&policy), &answer(ssn(&policy, "a"))),
        Ok(Some(answer("a".into())))
    );
    let none = doc! {"value": null, "ok": 1.0};
    assert_eq!(shown(&policy, &documents(&policy), &none), Ok(None));
}

#[test]
fn values_that_were_moved_are_opened_where_the_shape_is_not_known() {
    let policy = fixture::policy();
    let event = |ssn: Bson| {
        doc! {"cursor": {"nextBatch": [{"fullDocument": {"ssn": ssn.clone()}, "updateDescription": {"updatedFields": {"ssn": ssn}}}]}, "ok": 1.0}
    };
    assert_eq!(
        shown(&policy, &ReplyPlan::Relay, &event(ssn(&policy, "a"))),
        Ok(Some(event("a".into())))
    );
}

#[test]
fn replies_without_sealed_values_are_the_same_bytes() {
    let policy = fixture::policy();
    for answer in [
        batch(vec![
            doc! {"_id": 1, "name": "n", "payment": {"open": 1}, "address": null},
        ]),
        doc! {"ok": 0.0, "errmsg": "no", "code": 5},
        doc! {"ok": 1.0, "n": 1},
    ] {
        for plan in [
            documents(&policy),
            ReplyPlan::Relay,
            ReplyPlan::Described(collection(&policy, "shop.customers")),
        ] {
            assert_eq!(shown(&policy, &plan, &answer), Ok(None));
        }
    }
}

#[test]
fn a_value_that_someone_moved_to_another_field_is_an_error() {
    let policy = fixture::policy();
    for moved in [
        doc! {"ssn": {"c": sealed(&policy, "shop.customers", "payment.card", CANARY), "e1": Binary {subtype: BinarySubtype::Generic, bytes: vec![]}}},
        doc! {"address": sealed(&policy, "shop.customers", "visits.note", CANARY)},
        doc! {"tags": [sealed(&policy, "tenant_a.people", "ssn", CANARY)]},
    ] {
        let path = moved.keys().next().unwrap().clone();
        let refusal = shown(&policy, &documents(&policy), &batch(vec![moved])).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::CannotOpen);
        assert!(refusal.message.contains(&path) && refusal.message.contains("shop.customers"));
        assert!(refusal.message.contains("fieldseal") && !refusal.message.contains(CANARY));
    }
}

#[test]
fn plaintext_at_a_sealed_path_is_an_error_unless_a_migration_is_under_way() {
    let policy = fixture::policy();
    for plain in [
        doc! {"ssn": CANARY},
        doc! {"tags": [CANARY]},
        doc! {"address": {"street": CANARY}},
        doc! {"visits": [{"note": [CANARY]}]},
        doc! {"ssn": {"c": CANARY}},
        doc! {"ssn": {"c": sealed(&policy, "shop.customers", "ssn", "a"), "other": CANARY}},
    ] {
        let refusal = shown(&policy, &documents(&policy), &batch(vec![plain])).unwrap_err();
        assert!(refusal.message.contains("plaintext"), "{refusal}");
        assert!(!refusal.message.contains(CANARY), "{refusal}");
    }
    let moving = collection(&policy, "shop.moving");
    assert_eq!(moving.on_plaintext, OnPlaintext::Allow);
    let answer = |ssn: Bson| batch(vec![doc! {"ssn": "plain"}, doc! {"ssn": ssn}]);
    let sealed = sealed(&policy, "shop.moving", "ssn", "a");
    assert_eq!(
        shown(&policy, &ReplyPlan::Documents(moving), &answer(sealed)),
        Ok(Some(answer("a".into())))
    );
}

#[test]
fn what_cannot_be_opened_is_an_error_that_shows_nothing() {
    let policy = fixture::policy();
    let Bson::Binary(good) = sealed(&policy, "shop.customers", "address", CANARY) else {
        panic!("not a Binary");
    };
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.bytes.clone();
        change(&mut bytes);
        doc! {"address": Binary {subtype: good.subtype, bytes}}
    };
    for (document, words) in [
        (with(|bytes| bytes[40] ^= 1), "tampered"),
        (
            with(|bytes| bytes[7] = 99),
            "a key version that this proxy has not loaded",
        ),
        (with(|bytes| bytes[3] = 3), "suite"),
        (with(|bytes| bytes.truncate(30)), "cut off"),
    ] {
        for plan in [documents(&policy), ReplyPlan::Relay] {
            let refusal = shown(&policy, &plan, &batch(vec![document.clone()])).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::CannotOpen);
            assert!(refusal.message.contains(words), "{refusal}");
            assert!(refusal.message.contains("address"), "{refusal}");
            // The ids of keys are for the log alone.
            assert!(!refusal.message.contains("key id"), "{refusal}");
        }
    }
}

#[test]
fn values_under_a_disabled_or_destroyed_version_are_refused() {
    let policy = fixture::policy();
    let answer = batch(vec![
        doc! {"address": sealed(&policy, "shop.customers", "address", "a")},
    ]);
    for (state, word) in [
        (State::Disabled, "disabled"),
        (State::Destroyed, "destroyed"),
    ] {
        let mut keyring = fixture::keyring();
        // The version that sealed is retired now, and worse.
        for version in &mut keyring.keys[0].versions {
            version.state = if version.state == State::Active {
                state
            } else {
                State::Active
            };
        }
        let later = fixture::policy_with(keyring);
        for plan in [documents(&later), ReplyPlan::Relay] {
            let refusal = shown(&later, &plan, &answer).unwrap_err();
            assert!(refusal.message.contains(word), "{refusal}");
        }
    }
}

#[test]
fn a_value_sealed_under_a_retired_version_opens() {
    let policy = fixture::policy();
    let answer = |value: Bson| batch(vec![doc! {"address": value}]);
    let old = answer(sealed(&policy, "shop.customers", "address", "a"));
    let mut keyring = fixture::keyring();
    for version in &mut keyring.keys[0].versions {
        version.state = if version.state == State::Active {
            State::Retired
        } else {
            State::Active
        };
    }
    let later = fixture::policy_with(keyring);
    for plan in [documents(&later), ReplyPlan::Relay] {
        // Twice: the second time the key is expanded already.
        for _ in 0..2 {
            assert_eq!(shown(&later, &plan, &old), Ok(Some(answer("a".into()))));
        }
    }
}

#[test]
fn indexes_get_the_users_names() {
    let policy = fixture::policy();
    let plan = ReplyPlan::Described(collection(&policy, "shop.customers"));
    let list = |keys: Vec<Document>| {
        let indexes: Vec<Document> = keys
            .into_iter()
            .map(|key| doc! {"v": 2, "key": key, "name": "n"})
            .collect();
        batch(indexes)
    };
    let stored = vec![
        doc! {"_id": 1},
        doc! {"ssn.e1": 1, "name": -1},
        doc! {"payment.card.e1": "hashed"},
        doc! {"contacts.home.phone.e1": 1},
        doc! {"x.e1": 1, "payment.open.e1": 1, "e1": 1},
    ];
    let named = vec![
        doc! {"_id": 1},
        doc! {"ssn": 1, "name": -1},
        doc! {"payment.card": "hashed"},
        doc! {"contacts.home.phone": 1},
        doc! {"x.e1": 1, "payment.open.e1": 1, "e1": 1},
    ];
    assert_eq!(shown(&policy, &plan, &list(stored)), Ok(Some(list(named))));
}

#[test]
fn a_reply_that_does_not_hold_together_is_an_error() {
    let policy = fixture::policy();
    let good = msg(
        0,
        &body(&batch(vec![
            doc! {"ssn": ssn(&policy, "a"), "visits": [{"note": null}]},
        ])),
    );
    for plan in [
        documents(&policy),
        ReplyPlan::Relay,
        ReplyPlan::Described(collection(&policy, "shop.customers")),
    ] {
        for at in 21..good.len() {
            for byte in [0, 1, 0x7F, 0xFF] {
                let mut frame = good.clone();
                frame[at] = byte;
                let mut out = Vec::new();
                // Whatever it answers, it answers.
                let _ = reveal(&frame, &plan, &policy, &mut Reads::default(), &mut out);
            }
        }
        assert!(
            reveal(
                &good[..good.len() - 1],
                &plan,
                &policy,
                &mut Reads::default(),
                &mut Vec::new()
            )
            .is_err()
        );
    }
}

#[test]
fn a_document_of_the_service_that_looks_like_a_sealed_one_keeps_its_fields() {
    let policy = fixture::policy();
    let own = |value: Bson| doc! {"c": value, "e1": Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![1] })};
    let stored = batch(vec![
        doc! {"_id": 1, "box": own(sealed(&policy, "shop.boxes", "box.c", "x"))},
    ]);
    assert_eq!(
        shown(&policy, &ReplyPlan::Relay, &stored).unwrap(),
        Some(batch(vec![doc! {"_id": 1, "box": own("x".into())}]))
    );
}

/// Events of a stream, as MongoDB has them.
fn stream(namespace: &str, descriptions: Vec<Document>) -> Document {
    let (database, name) = namespace.split_once('.').unwrap();
    let event = |description| doc! {"operationType": "update", "ns": {"db": database, "coll": name}, "updateDescription": description};
    let events: Vec<Document> = descriptions.into_iter().map(event).collect();
    doc! {"cursor": {"id": 7_i64, "ns": namespace, "nextBatch": events}, "ok": 1.0}
}

fn any_token() -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![7; 16],
    })
}

#[test]
fn a_change_of_a_part_of_a_sealed_document_is_one_of_its_field() {
    let policy = fixture::policy();
    let of = |path: &str, value: &str| sealed(&policy, "shop.customers", path, value);
    let phone = || of("contacts.*.phone", "p");
    let stored = stream(
        "shop.customers",
        vec![
            doc! {"updatedFields": {"ssn.c": of("ssn", "a"), "ssn.e1": any_token(), "x.c": 5, "e1": 6}},
            doc! {"updatedFields": {"ssn.e2": any_token(), "tags.3.c": of("tags", "t"), "tags.4": {"c": of("tags", "u"), "e1": any_token()}}},
            doc! {"updatedFields": {"contacts.home.phone.c": phone(), "contacts.0.work.phone.c": phone(), "contacts.1": {"cell": {"phone": {"c": phone(), "e1": any_token()}}}}},
            doc! {"updatedFields": {"visits.0.note": of("visits.note", "n"), "visits.1": {"note": of("visits.note", "m")}, "payment.card.c": of("payment.card", "4")}},
            doc! {"updatedFields": {}, "removedFields": ["ssn.e2", "x.e1", "address", "tags.0.e2"]},
            doc! {"updatedFields": {"tags.0.c": of("tags", "t")}, "disambiguatedPaths": {"tags.0.c": ["tags", 0, "c"], "tags.0.e1": ["tags", 0, "e1"], "x.0": ["x", "0"]}},
        ],
    );
    let shown_as = stream(
        "shop.customers",
        vec![
            doc! {"updatedFields": {"ssn": "a", "x.c": 5, "e1": 6}},
            doc! {"updatedFields": {"tags.3": "t", "tags.4": "u"}},
            doc! {"updatedFields": {"contacts.home.phone": "p", "contacts.0.work.phone": "p", "contacts.1": {"cell": {"phone": "p"}}}},
            doc! {"updatedFields": {"visits.0.note": "n", "visits.1": {"note": "m"}, "payment.card": "4"}},
            doc! {"updatedFields": {}, "removedFields": ["x.e1", "address"]},
            doc! {"updatedFields": {"tags.0": "t"}, "disambiguatedPaths": {"tags.0": ["tags", 0], "x.0": ["x", "0"]}},
        ],
    );
    for of in [
        None,
        Some(collection(&policy, "shop.customers")),
        Some(collection(&policy, "shop.boxes")),
    ] {
        let opened = shown(&policy, &ReplyPlan::Changes(of), &stored).unwrap();
        assert_eq!(opened.as_ref(), Some(&shown_as));
    }
    // A field that is itself named `c` keeps its name.
    let boxed = |value: Bson| stream("shop.boxes", vec![doc! {"updatedFields": {"box.c": value}}]);
    let stored = boxed(sealed(&policy, "shop.boxes", "box.c", "b"));
    let opened = shown(&policy, &ReplyPlan::Changes(None), &stored).unwrap();
    assert_eq!(opened, Some(boxed("b".into())));
    // So does one of a collection that is known by a pattern.
    let of = |value: Document| stream("tenant_a.people", vec![doc! {"updatedFields": value}]);
    let stored =
        of(doc! {"ssn.c": sealed(&policy, "tenant_a.people", "ssn", "s"), "ssn.e1": any_token()});
    let opened = shown(&policy, &ReplyPlan::Changes(None), &stored).unwrap();
    assert_eq!(opened, Some(of(doc! {"ssn": "s"})));
}

#[test]
fn a_change_that_was_not_sealed_for_its_place_is_an_error() {
    let policy = fixture::policy();
    let ssn = sealed(&policy, "shop.customers", "ssn", CANARY);
    for description in [
        doc! {"updatedFields": {"payment.card.c": ssn.clone()}},
        doc! {"updatedFields": {"tags.0.c": ssn.clone()}},
        doc! {"updatedFields": {"address": ssn.clone()}},
        doc! {"updatedFields": {"ssn": CANARY}},
        doc! {"updatedFields": {"ssn.c": CANARY}},
        doc! {"updatedFields": {"ssn.x": CANARY}},
        doc! {"updatedFields": {"x.c": ssn}},
        doc! {"updatedFields": {}, "removedFields": ["ssn.c"]},
    ] {
        let answer = stream("shop.customers", vec![description.clone()]);
        let refusal = shown(&policy, &ReplyPlan::Changes(None), &answer).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::CannotOpen, "{description}");
        assert!(!refusal.message.contains(CANARY), "{refusal}");
    }
    // Where no stream is known, a part has no name to be shown by.
    let part = sealed(&policy, "shop.customers", "ssn", "a");
    let answer = stream(
        "shop.customers",
        vec![doc! {"updatedFields": {"ssn.c": part}}],
    );
    assert!(shown(&policy, &ReplyPlan::Relay, &answer).is_err());
}

fn outcome(policy: &Policy, refused: &[(usize, &str)]) -> ReplyPlan {
    let refused = refused.iter().map(|(index, what)| RefusedStatement {
        index: *index,
        refusal: Refusal::new(RefusalKind::WrongType, what),
    });
    ReplyPlan::Outcome {
        collection: collection(policy, "shop.customers"),
        refused: refused.collect(),
    }
}

#[test]
fn a_refused_statement_gets_its_own_error_among_those_of_mongodb() {
    let policy = fixture::policy();
    let error = |index: i32, text: &str| doc! {"index": index, "code": 121, "errmsg": text};
    let answer = |errors: Vec<Document>| doc! {"n": 1, "writeErrors": errors, "ok": 1.0};
    let stored = answer(vec![
        error(0, "own"),
        doc! {"index": 2, "code": 2, "errmsg": "unknown top level operator"},
        error(3, "own"),
    ]);
    let told = answer(vec![
        error(0, "own"),
        error(2, "fieldseal: no [FS1011]"),
        error(3, "own"),
    ]);
    let plan = outcome(&policy, &[(2, "no")]);
    assert_eq!(shown(&policy, &plan, &stored), Ok(Some(told)));
    // An ordered batch that stopped before it does not tell of it.
    let early = answer(vec![error(0, "own")]);
    assert_eq!(shown(&policy, &plan, &early), Ok(None));
    // A command that failed as a whole did nothing.
    let failed = doc! {"ok": 0.0, "errmsg": "not primary", "code": 10107};
    assert_eq!(shown(&policy, &plan, &failed), Ok(None));
}

#[test]
fn it_is_an_error_if_mongodb_did_what_stands_for_a_refused_statement() {
    let policy = fixture::policy();
    let plan = outcome(&policy, &[(1, "no"), (5, "no")]);
    for answer in [
        doc! {"n": 9, "ok": 1.0},
        doc! {"n": 8, "writeErrors": [{"index": 3, "code": 1, "errmsg": "x"}], "ok": 1.0},
    ] {
        let refusal = shown(&policy, &plan, &answer).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::CannotOpen, "{answer}");
    }
}

#[test]
fn duplicate_keys_are_told_of_in_the_users_names_in_every_kind_of_reply() {
    let policy = fixture::policy();
    let text = |key: &str| {
        format!(
            "x :: caused by :: E11000 duplicate key error collection: shop.customers index: e1 dup key: {{ {key} }}"
        )
    };
    let stored = doc! {
        "code": 11000,
        "errmsg": text("contacts.home.phone.e1: BinData(0, 07), a: \"ssn.e1: null\", ssn.e1: null, tags.e1: ..."),
        "keyPattern": {"contacts.home.phone.e1": 1, "a": -1, "ssn.e1": 1, "tags.e1": 1},
        "keyValue": {"contacts.home.phone.e1": any_token(), "a": "ssn.e1: null", "ssn.e1": null, "tags.e1": any_token()},
    };
    let told = doc! {
        "code": 11000,
        "errmsg": text("contacts.home.phone: <sealed>, a: \"ssn.e1: null\", ssn: null, tags: <sealed>"),
        "keyPattern": {"contacts.home.phone": 1, "a": -1, "ssn": 1, "tags": 1},
        "keyValue": {"contacts.home.phone": "<sealed>", "a": "ssn.e1: null", "ssn": null, "tags": "<sealed>"},
    };
    let whole = |error: &Document| {
        let mut reply = doc! {"ok": 0.0};
        reply.extend(error.clone());
        reply
    };
    // Of a pipeline that writes elsewhere, only the text says where.
    for plan in [
        outcome(&policy, &[]),
        documents(&policy),
        ReplyPlan::Relay,
        ReplyPlan::Results,
    ] {
        let shown = shown(&policy, &plan, &whole(&stored));
        assert_eq!(shown, Ok(Some(whole(&told))), "{plan:?}");
    }
    let results = |error: &Document| batch(vec![doc! {"idx": 0, "ok": 1.0, "n": 1}, whole(error)]);
    assert_eq!(
        shown(&policy, &ReplyPlan::Results, &results(&stored)),
        Ok(Some(results(&told)))
    );
    // A value that reads like the text of such an error hides nothing behind it.
    let like = |key: &str, value: &str| doc! {"ok": 0.0, "errmsg": text(&format!("{key}: {value}, a: \"dup key: {{ x\"")), "keyPattern": {key: 1, "a": 1}};
    let (mut own, mut told) = (like("ssn.e1", "BinData(0, 07)"), like("ssn", "<sealed>"));
    own.insert(
        "keyValue",
        doc! {"ssn.e1": any_token(), "a": "dup key: { x"},
    );
    told.insert("keyValue", doc! {"ssn": "<sealed>", "a": "dup key: { x"});
    assert_eq!(shown(&policy, &outcome(&policy, &[]), &own), Ok(Some(told)));
    // Without the key as a document its text tells nothing.
    let only_text =
        doc! {"ok": 0.0, "errmsg": text("ssn.e1: BinData(0, 07070707070707070707070707070707)")};
    let hidden = text("").replace("{  }", "<sealed>");
    assert_eq!(
        shown(&policy, &outcome(&policy, &[]), &only_text),
        Ok(Some(doc! {"ok": 0.0, "errmsg": hidden}))
    );
    // An index of the service's own over what is sealed.
    let own = doc! {"ok": 0.0, "errmsg": text("ssn: { c: BinData(143, 00) }"), "keyPattern": {"ssn": 1}, "keyValue": {"ssn": ssn(&policy, CANARY)}};
    let told = doc! {"ok": 0.0, "errmsg": text("ssn: <sealed>"), "keyPattern": {"ssn": 1}, "keyValue": {"ssn": "<sealed>"}};
    assert_eq!(shown(&policy, &outcome(&policy, &[]), &own), Ok(Some(told)));
}

#[test]
fn no_stored_form_is_in_an_error_of_whatever_request() {
    let policy = fixture::policy();
    let error = |text: &str| doc! {"ok": 0.0, "errmsg": text, "code": 40400};
    let stored = error(
        "{a: {c: BinData(143, \"F5EA1D01\"), e1: BinData(0, \"07070707070707070707070707070707\")}}",
    );
    for plan in [
        documents(&policy),
        outcome(&policy, &[]),
        ReplyPlan::Relay,
        ReplyPlan::More(7),
        ReplyPlan::Changes(None),
    ] {
        let told = shown(&policy, &plan, &stored);
        assert_eq!(told, Ok(Some(error("{a: <sealed>}"))), "{plan:?}");
        let own = error("{a: BinData(0, 07070707070707070707070707070707)}");
        if matches!(plan, ReplyPlan::Relay | ReplyPlan::More(_)) {
            assert_eq!(shown(&policy, &plan, &own), Ok(None), "{plan:?}");
        }
    }
}

#[test]
fn texts_of_errors_name_the_users_paths_and_hold_no_token() {
    let policy = fixture::policy();
    let token = "BinData(0, 07070707070707070707070707070707)";
    for (stored, told) in [
        (
            "no index with key: { ssn.e1: 1, x: -1 }".to_owned(),
            "no index with key: { ssn: 1, x: -1 }",
        ),
        (
            format!("Tree: ssn.e1 $eq {token}"),
            "Tree: ssn $eq <sealed>",
        ),
        (
            "cannot use '$payment.card.e1'.".into(),
            "cannot use '$payment.card'.",
        ),
        ("the field ssn.e1.".into(), "the field ssn."),
        (
            "input [{address: BinData(143, \"F5EA1D01\"), ssn: {c: BinData(143, \"F5EA1D01\"), e1: BinData(0, \"07070707070707070707070707070707\")}, a: {c: 1}}] is".into(),
            "input [{address: <sealed>, ssn: <sealed>, a: {c: 1}}] is",
        ),
        (
            "in element {tags: [ { c: BinData(143, F5EA1D01...), e1: BinData(0, 07070707070707070707070707070707) }, 1 ]}".into(),
            "in element {tags: [ <sealed>, 1 ]}",
        ),
    ] {
        let answer = |text: &str| doc! {"ok": 0.0, "errmsg": text, "code": 2};
        let shown = shown(&policy, &outcome(&policy, &[]), &answer(&stored));
        assert_eq!(shown, Ok(Some(answer(told))));
    }
    for same in [
        "index: ssn.e1_1",
        "x.e1: 1",
        "BinData(0, 0707)",
        "ssn.e",
        "ssn.e1x",
        "é ssn.é1",
    ] {
        let answer = doc! {"ok": 0.0, "errmsg": same};
        assert_eq!(
            shown(&policy, &outcome(&policy, &[]), &answer),
            Ok(None),
            "{same}"
        );
    }
}

#[test]
fn the_cursor_that_a_reply_begins_with_is_the_same_however_it_is_looked_for() {
    let batch = || vec![doc! {"id": 5_i64, "a": "x"}];
    for (cursor, known) in [
        (
            doc! {"firstBatch": batch(), "id": 7_i64, "ns": "d.c"},
            Some(7),
        ),
        (
            doc! {"nextBatch": batch(), "id": -7_i64, "ns": "d.c"},
            Some(-7),
        ),
        (doc! {"firstBatch": [], "id": 0_i64, "ns": "d.c"}, Some(0)),
        (doc! {"firstBatch": batch(), "id": 7_i32}, Some(7)),
        (doc! {"id": 7_i64, "firstBatch": batch()}, Some(7)),
        (
            doc! {"firstBatch": batch(), "postBatchResumeToken": {"id": 5_i64}, "id": 7_i64},
            Some(7),
        ),
        (doc! {"firstBatch": {"id": 5_i64}, "id": 7_i64}, Some(7)),
        (
            doc! {"first": batch(), "firstBatch": batch(), "id": 7_i64},
            Some(7),
        ),
        (doc! {"firstBatch": batch(), "idle": 7_i64}, None),
        (doc! {"firstBatch": batch(), "id": "7"}, None),
        (doc! {"firstBatch": batch()}, None),
        (doc! {}, None),
    ] {
        for (reply, is_first) in [
            (doc! {"cursor": &cursor, "ok": 1.0}, true),
            (doc! {"n": 1, "cursor": &cursor, "ok": 1.0}, false),
        ] {
            let frame = msg(0, &body(&reply));
            let first = first_cursor(&Reply::recognise(&frame).unwrap());
            assert_eq!(first, known.filter(|_| is_first), "{reply}");
            assert_eq!(super::cursor(&frame), known, "{reply}");
        }
    }
}

#[test]
fn a_cursor_that_is_cut_off_has_no_number() {
    let whole = doc! {"cursor": {"firstBatch": [{"a": 1}], "id": 7_i64}, "ok": 1.0};
    let whole = bson::serialize_to_vec(&whole).unwrap();
    let end = whole.len() - b"\0\x01ok\0".len() - 9;
    assert_eq!(usual_cursor(&whole), Some(7));
    for cut in 0..end {
        assert_eq!(usual_cursor(&whole[..cut]), None, "{cut}");
    }
    let mut negative = whole;
    let length = 4 + b"\x03cursor\0".len() + 4 + b"\x04firstBatch\0".len();
    negative[length..length + 4].copy_from_slice(&i32::MIN.to_le_bytes());
    assert_eq!(usual_cursor(&negative), None);
}
