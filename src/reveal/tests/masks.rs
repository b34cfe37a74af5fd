//! What those see who may not read a field, by every kind of reply.

use super::*;
use crate::schema::{AccessRule, Mask};
use crate::seal::FieldId;

const CARD: &str = "4929-1234-5678-9012";

fn rule(mask: Mask) -> AccessRule {
    AccessRule {
        read: Some(vec!["reader".to_owned()]),
        write: Some(vec!["reader".to_owned(), "writer".to_owned()]),
        mask,
        audit: true,
    }
}

/// The policy of who may write every field and read none.
fn masked(mask: Mask) -> Arc<Policy> {
    fixture::held_by(&rule(mask), &["writer"])
}

/// The policy of who may do both.
fn unmasked(mask: Mask) -> Arc<Policy> {
    fixture::held_by(&rule(mask), &["writer", "reader"])
}

/// The same plan as the decision for another principal has it.
fn under(policy: &Policy, plan: &ReplyPlan) -> ReplyPlan {
    match plan {
        ReplyPlan::Documents(of) => ReplyPlan::Documents(collection(policy, &of.namespace)),
        ReplyPlan::Outcome { .. } => outcome(policy, &[]),
        plan => plan.clone(),
    }
}

/// What is shown, and how many values in plain.
fn shown_and_read(
    policy: &Policy,
    plan: &ReplyPlan,
    answer: &Document,
) -> (Option<Document>, Vec<(FieldId, u64)>) {
    let frame = msg(0, &body(answer));
    let (mut out, mut reads) = (Vec::new(), Reads::default());
    let revealed = reveal(&frame, plan, policy, &mut reads, &mut out).unwrap();
    let shown = (revealed == Revealed::Rewritten).then(|| {
        let body = Reply::recognise(&out).unwrap().body();
        bson::deserialize_from_slice(&out[body]).unwrap()
    });
    (shown, reads.fields().to_vec())
}

fn card(policy: &Policy) -> Bson {
    let token = any_token();
    doc! {"c": sealed(policy, "shop.customers", "payment.card", CARD), "e1": token}.into()
}

/// What each mask shows of the card; none for those that have a test of their own.
fn masks() -> [(Mask, Bson); 4] {
    [
        (Mask::Redact, "[redacted]".into()),
        (Mask::Last4, "****9012".into()),
        (Mask::First1, "4****".into()),
        (Mask::Null, Bson::Null),
    ]
}

#[test]
fn a_value_is_masked_wherever_it_comes_to_stand_and_is_not_counted_as_read() {
    for (mask, seen) in masks() {
        let policy = masked(mask);
        let value = || card(&policy);
        let binary = || sealed(&policy, "shop.customers", "payment.card", CARD);
        let answers = |value: &dyn Fn() -> Bson, binary: &dyn Fn() -> Bson| {
            vec![
                (
                    documents(&policy),
                    batch(vec![
                        doc! {"_id": 1, "payment": {"card": value(), "exp": 5}},
                        doc! {"payment": [{"card": binary()}, {"card": [value(), null]}]},
                        doc! {"moved": value(), "all": [{"deep": binary()}]},
                    ]),
                ),
                (
                    documents(&policy),
                    doc! {"value": {"payment": {"card": value()}}, "ok": 1.0},
                ),
                (
                    ReplyPlan::Relay,
                    batch(vec![doc! {"a": {"b": [value(), binary()]}}]),
                ),
                (
                    ReplyPlan::Relay,
                    doc! {"values": [value(), binary()], "ok": 1.0},
                ),
                (
                    ReplyPlan::Changes(None),
                    stream(
                        "shop.customers",
                        vec![
                            doc! {"updatedFields": {"payment.card": value(), "payment": {"card": value()}}},
                            doc! {"fullDocument": {"payment": {"card": value()}}},
                        ],
                    ),
                ),
            ]
        };
        let stored = answers(&value, &binary);
        let expected = answers(&|| seen.clone(), &|| seen.clone());
        for ((plan, stored), (_, expected)) in stored.into_iter().zip(expected) {
            let (shown, reads) = shown_and_read(&policy, &plan, &stored);
            assert_eq!(shown, Some(expected), "{mask:?}");
            assert_eq!(reads, [], "{mask:?}");
            let reader = unmasked(mask);
            let (_, reads) = shown_and_read(&reader, &under(&reader, &plan), &stored);
            assert!(!reads.is_empty());
        }
    }
}

#[test]
fn a_change_of_a_part_is_masked_under_the_name_of_the_whole() {
    let policy = masked(Mask::Last4);
    let part = sealed(&policy, "shop.customers", "payment.card", CARD);
    let stored = stream(
        "shop.customers",
        vec![doc! {"updatedFields": {"payment.card.c": part, "payment.card.e1": any_token()}}],
    );
    let expected = stream(
        "shop.customers",
        vec![doc! {"updatedFields": {"payment.card": "****9012"}}],
    );
    let (shown, _) = shown_and_read(&policy, &ReplyPlan::Changes(None), &stored);
    assert_eq!(shown, Some(expected));
}

#[test]
fn ciphertext_is_the_sealed_value_alone_without_tokens() {
    let policy = masked(Mask::Ciphertext);
    let value = card(&policy);
    let alone = value.as_document().unwrap().get("c").unwrap().clone();
    for plan in [documents(&policy), ReplyPlan::Relay] {
        let (shown, _) = shown_and_read(
            &policy,
            &plan,
            &batch(vec![doc! {"payment": {"card": value.clone()}}]),
        );
        assert_eq!(
            shown,
            Some(batch(vec![doc! {"payment": {"card": alone.clone()}}]))
        );
    }
}

#[test]
fn a_hash_joins_equal_values_and_tells_no_token() {
    let policy = masked(Mask::Hash);
    let answer = batch(vec![
        doc! {"payment": [{"card": card(&policy)}, {"card": card(&policy)}], "ssn": ssn(&policy, CARD)},
    ]);
    let (shown, _) = shown_and_read(&policy, &documents(&policy), &answer);
    let shown = shown.unwrap();
    let first = shown
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap()[0]
        .clone();
    let first = first.as_document().unwrap();
    let cards = first.get_array("payment").unwrap();
    assert_eq!(cards[0], cards[1]);
    let hash = cards[0].as_document().unwrap().get_str("card").unwrap();
    assert!(hash.starts_with("masked:") && hash.len() == 39, "{hash}");
    // The same value of another field has another one.
    assert_ne!(first.get_str("ssn").unwrap(), hash);
}

#[test]
fn null_and_missing_stay_what_they_are() {
    let policy = masked(Mask::Redact);
    let answer = batch(vec![
        doc! {"ssn": null, "payment": {}, "tags": [null, null]},
    ]);
    for plan in [documents(&policy), ReplyPlan::Relay] {
        assert_eq!(shown_and_read(&policy, &plan, &answer), (None, vec![]));
    }
}

#[test]
fn what_was_moved_to_another_field_is_an_error_for_who_may_not_read_it_too() {
    for (mask, _) in masks() {
        let policy = masked(mask);
        let moved = batch(vec![doc! {"ssn": card(&policy)}]);
        let refusal = shown(&policy, &documents(&policy), &moved).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::CannotOpen);
    }
}

#[test]
fn a_mask_that_is_not_made_of_the_value_needs_no_key() {
    for mask in [
        Mask::Redact,
        Mask::Null,
        Mask::Ciphertext,
        Mask::Last4,
        Mask::Hash,
    ] {
        let policy = masked(mask);
        let Bson::Binary(mut value) = sealed(&policy, "shop.customers", "payment.card", CARD)
        else {
            panic!("not a Binary");
        };
        // A key id that no keyring has.
        value.bytes[4..8].fill(0xEE);
        let answer = batch(vec![doc! {"payment": {"card": value}}]);
        for plan in [documents(&policy), ReplyPlan::Relay] {
            let opened = shown(&policy, &plan, &answer);
            match mask {
                Mask::Last4 | Mask::Hash => assert!(opened.is_err(), "{mask:?}"),
                _ => assert!(opened.is_ok(), "{mask:?}: {opened:?}"),
            }
        }
    }
}

#[test]
fn plain_values_at_a_masked_path_are_masked() {
    for (mask, seen) in masks()
        .into_iter()
        .chain([(Mask::Ciphertext, "[redacted]".into())])
    {
        let policy = masked(mask);
        let plan = ReplyPlan::Documents(collection(&policy, "shop.moving"));
        let plain = batch(vec![
            doc! {"ssn": CARD, "open": CARD},
            doc! {"ssn": [CARD, null]},
            doc! {"ssn": null},
        ]);
        let expected = batch(vec![
            doc! {"ssn": seen.clone(), "open": CARD},
            doc! {"ssn": [seen.clone(), null]},
            doc! {"ssn": null},
        ]);
        assert_eq!(
            shown_and_read(&policy, &plan, &plain),
            (Some(expected), vec![]),
            "{mask:?}"
        );
        let reader = unmasked(mask);
        let (shown, reads) = shown_and_read(&reader, &under(&reader, &plan), &plain);
        assert_eq!((shown, reads[0].1), (None, 2), "who reads them is told of");

        let events = |ssn: Bson, part: Bson| {
            stream(
                "shop.moving",
                vec![doc! {"updatedFields": {"ssn": ssn, "ssn.part": part}}],
            )
        };
        let part = if mask == Mask::Null {
            Bson::Null
        } else {
            "[redacted]".into()
        };
        let whole = doc! {"secret": CARD};
        let changes = ReplyPlan::Changes(None);
        let stored = events(whole.clone().into(), whole.into());
        let expected = events(part.clone(), part);
        assert_eq!(
            shown_and_read(&policy, &changes, &stored).0,
            Some(expected),
            "{mask:?}"
        );
    }
}

#[test]
fn an_event_that_does_not_say_of_which_collection_it_is_shows_no_plain_value() {
    let mut answer = stream("shop.moving", vec![doc! {"updatedFields": {"ssn": CARD}}]);
    let cursor = answer.get_document_mut("cursor").unwrap();
    let events = cursor.get_array_mut("nextBatch").unwrap();
    events[0].as_document_mut().unwrap().remove("ns");
    let changes = ReplyPlan::Changes(None);
    let refusal = shown(&masked(Mask::Redact), &changes, &answer).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Unauthorized);
    assert_eq!(shown(&unmasked(Mask::Redact), &changes, &answer), Ok(None));
}

#[test]
fn a_field_that_no_rule_is_known_for_is_redacted() {
    let policy = masked(Mask::Null);
    let of = |policy: &Policy| sealed(policy, "tenant_a.people", "ssn", CARD);
    // Sealed by another policy: this one has not met the collection yet.
    let answer = batch(vec![doc! {"x": of(&unmasked(Mask::Null))}]);
    let seen = |policy: &Policy| shown_and_read(policy, &ReplyPlan::Relay, &answer);
    let value = |seen: Bson| Some(batch(vec![doc! {"x": seen}]));
    assert_eq!(seen(&policy), (value("[redacted]".into()), vec![]));
    // Then its own mask is known.
    collection(&policy, "tenant_a.people");
    assert_eq!(seen(&policy), (value(Bson::Null), vec![]));

    let reader = unmasked(Mask::Null);
    assert_eq!(seen(&reader), (value(CARD.into()), vec![]));
    let id = collection(&reader, "tenant_a.people").field(0).id;
    assert_eq!(seen(&reader), (value(CARD.into()), vec![(id, 1)]));
}

#[test]
fn errors_show_no_plain_value_of_what_holds_a_masked_field() {
    let policy = masked(Mask::Last4);
    let text = |key: &str| {
        format!("E11000 duplicate key error collection: shop.customers index: i dup key: {key}")
    };
    let stored = doc! {
        "ok": 0.0,
        "errmsg": text(&format!("{{ payment: {{ card: \"{CARD}\" }}, city: \"Leith\" }}")),
        "keyPattern": {"payment": 1, "city": 1},
        "keyValue": {"payment": {"card": CARD}, "city": "Leith"},
        "errInfo": {"details": {"consideredValue": CARD}},
    };
    let only_text = doc! {"ok": 0.0, "errmsg": text(&format!("{{ : \"{CARD}\" }}"))};
    for plan in [outcome(&policy, &[]), documents(&policy), ReplyPlan::Relay] {
        let told = shown(&policy, &plan, &stored).unwrap().unwrap();
        assert!(!told.to_string().contains(CARD), "{told}");
        assert!(
            told.get_str("errmsg").unwrap().contains("city: \"Leith\""),
            "{told}"
        );
        let told = shown(&policy, &plan, &only_text).unwrap().unwrap();
        assert!(!told.to_string().contains(CARD), "{told}");
        let reader = unmasked(Mask::Last4);
        let told = shown(&reader, &under(&reader, &plan), &only_text);
        assert_eq!(told, Ok(None));
    }
}

#[test]
fn a_shape_that_was_made_for_who_may_read_shows_others_no_more() {
    let (policy, reader) = (masked(Mask::Last4), unmasked(Mask::Last4));
    let answer = batch(vec![doc! {"payment": {"card": card(&reader)}}]);
    let expected = batch(vec![doc! {"payment": {"card": "****9012"}}]);
    assert_eq!(
        shown_and_read(&policy, &documents(&reader), &answer),
        (Some(expected), vec![])
    );
}
