//! Replies as MongoDB gives them, and what clients get of them.

#![allow(clippy::unwrap_used, reason = "tests")]

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
    Ok(match reveal(&frame, plan, policy, &mut out)? {
        Revealed::Unchanged => None,
        Revealed::Rewritten => {
            // Recognising it checks length and checksum.
            let body = Reply::recognise(&out).unwrap().body();
            Some(bson::deserialize_from_slice(&out[body]).unwrap())
        }
    })
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
            "99, which is not in the keyring",
        ),
        (with(|bytes| bytes[3] = 2), "suite"),
        (with(|bytes| bytes.truncate(30)), "cut off"),
    ] {
        for plan in [documents(&policy), ReplyPlan::Relay] {
            let refusal = shown(&policy, &plan, &batch(vec![document.clone()])).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::CannotOpen);
            assert!(refusal.message.contains(words), "{refusal}");
            assert!(refusal.message.contains("address"), "{refusal}");
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
                let _ = reveal(&frame, &plan, &policy, &mut out);
            }
        }
        assert!(reveal(&good[..good.len() - 1], &plan, &policy, &mut Vec::new()).is_err());
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

#[test]
fn a_change_of_a_part_of_a_sealed_document_is_an_error_and_not_a_field_of_another_name() {
    let policy = fixture::policy();
    let value = sealed(&policy, "shop.customers", "ssn", "078-05-1120");
    let event = |fields: Document| {
        doc! {"cursor": {"id": 7_i64, "ns": "shop.customers", "nextBatch": [
        {"operationType": "update", "updateDescription": {"updatedFields": fields}}]}, "ok": 1.0}
    };
    let part = event(doc! {"ssn.c": value});
    assert!(shown(&policy, &ReplyPlan::Relay, &part).is_err());
    let whole = event(doc! {"ssn": ssn(&policy, "078-05-1120")});
    let opened = shown(&policy, &ReplyPlan::Relay, &whole).unwrap();
    assert_eq!(opened, Some(event(doc! {"ssn": "078-05-1120"})));
}
