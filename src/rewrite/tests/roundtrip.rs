//! What was sealed comes back bit for bit.

use bson::oid::ObjectId;
use bson::{DateTime, Decimal128, JavaScriptCodeWithScope, Regex, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::reveal::{Reads, Revealed, reveal};
use crate::wire::{Reply, flag};

fn scalar() -> impl Strategy<Value = Bson> {
    prop_oneof![
        any::<u64>().prop_map(|bits| Bson::Double(f64::from_bits(bits))),
        ".{0,12}".prop_map(Bson::from),
        any::<bool>().prop_map(Bson::from),
        any::<i32>().prop_map(Bson::from),
        any::<i64>().prop_map(Bson::from),
        any::<[u8; 12]>().prop_map(|bytes| ObjectId::from_bytes(bytes).into()),
        any::<i64>().prop_map(|millis| DateTime::from_millis(millis).into()),
        any::<[u8; 16]>().prop_map(|bytes| Decimal128::from_bytes(bytes).into()),
        (any::<u32>(), any::<u32>())
            .prop_map(|(time, increment)| Timestamp { time, increment }.into()),
        (0_u8..0x80, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(subtype, bytes)| {
            // Of the old binary subtype, the bytes begin with a length of their own.
            let subtype = BinarySubtype::from(if subtype == 2 { 0 } else { subtype });
            Bson::Binary(Binary { subtype, bytes })
        }),
        "[a-z.*]{0,6}".prop_map(|pattern| Bson::RegularExpression(Regex {
            pattern: pattern.try_into().unwrap(),
            options: "im".try_into().unwrap(),
        })),
        ".{0,8}".prop_map(Bson::Symbol),
        ".{0,8}".prop_map(Bson::JavaScriptCode),
        ".{0,8}".prop_map(
            |code| Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                code,
                scope: doc! {"a": 1}
            })
        ),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
        Just(Bson::Null),
        Just(Bson::Undefined),
    ]
}

fn any_value() -> impl Strategy<Value = Bson> {
    scalar().prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(("[a-c$]{0,3}", inner.clone()), 0..4)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
            prop::collection::vec(inner, 0..4).prop_map(Bson::from),
        ]
    })
}

/// A document that the schema takes, with every BSON type where it may stand.
fn stored() -> impl Strategy<Value = Document> {
    let text = || prop_oneof![4 => ".{0,20}".prop_map(Bson::from), 1 => Just(Bson::Null)];
    let texts = move || {
        prop_oneof![
            text(),
            prop::collection::vec(text(), 0..4).prop_map(Bson::from)
        ]
    };
    let number = prop_oneof![
        any::<i32>().prop_map(Bson::from),
        any::<i64>().prop_map(Bson::from),
        any::<u64>().prop_map(|bits| Bson::Double(f64::from_bits(bits))),
        any::<[u8; 16]>().prop_map(|bytes| Decimal128::from_bytes(bytes).into()),
    ];
    // An array that holds null is refused where it is sealed as one.
    let whole = any_value().prop_map(|value| match value {
        Bson::Array(items) => Bson::Array(
            items
                .into_iter()
                .filter(|item| !matches!(item, Bson::Null | Bson::Undefined))
                .collect(),
        ),
        other => other,
    });
    (
        (any_value(), texts(), texts(), number, whole, any_value()),
        (texts(), texts(), text(), any_value()),
        any::<prop::sample::Index>(),
    )
        .prop_map(
            |((x, ssn, tags, age, address, notes), (card, phone, note, y), order)| {
                let fields = [
                    ("x", x),
                    ("ssn", ssn),
                    ("tags", tags),
                    ("age", age),
                    ("address", address),
                    ("notes", notes),
                    ("payment", doc! {"open": 1, "card": card.clone()}.into()),
                    (
                        "visits",
                        vec![
                            Bson::from(doc! {"note": note.clone(), "at": 1}),
                            note,
                            Bson::from(vec![doc! {"note": "n"}]),
                        ]
                        .into(),
                    ),
                    (
                        "contacts",
                        vec![doc! {"home": {"phone": phone.clone()}, "0": [{"phone": phone}]}]
                            .into(),
                    ),
                    ("y", y),
                ];
                let at = order.index(fields.len());
                let (late, early) = fields.split_at(at);
                early
                    .iter()
                    .chain(late)
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect()
            },
        )
}

/// A cursor's reply whose batch holds these bytes as a document.
fn reply(document: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    let mut writer = crate::raw::Writer::new(&mut body);
    let whole = writer.begin();
    let cursor = writer.begin_doc("cursor");
    let batch = writer.begin_array("firstBatch");
    writer.value(kind::DOCUMENT, "0", document);
    writer.value(kind::DOCUMENT, "1", document);
    writer.end(batch);
    writer.int32("id", 0);
    writer.end(cursor);
    writer.double("ok", 1.0);
    writer.end(whole);
    msg(flag::CHECKSUM_PRESENT, &body)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_sealed_comes_back_bit_for_bit(document in stored()) {
        let plain = bson::serialize_to_vec(&document).unwrap();
        let size = i32::try_from(4 + 10 + plain.len()).unwrap();
        let section = [&[1][..], &size.to_le_bytes(), b"documents\0", &plain].concat();
        let frame = msg(0, &[body(&doc! {"insert": "customers", "$db": "shop"}), section].concat());
        let message = Message::recognise(&frame).unwrap();
        let mut scratch = Vec::new();
        let cleared = match decide(&message, &POLICY, &mut scratch) {
            Decision::Forward { cleared, .. } => cleared,
            Decision::Refuse(refusal) => panic!("{refusal}"),
        };
        let Message::Msg(sent) = Message::recognise(cleared.bytes()).unwrap() else {
            panic!("not an OP_MSG");
        };
        let stored = &cleared.bytes()[sent.sequences[0].documents.clone()];
        let collection = POLICY.collection("shop.customers").unwrap();
        for plan in [ReplyPlan::Documents(Arc::clone(&collection)), ReplyPlan::Relay] {
            let mut out = Vec::new();
            let answered = reply(stored);
            let shown = match reveal(&answered, &plan, &POLICY, &mut Reads::default(), &mut out) {
                Ok(Revealed::Rewritten) => &out,
                Ok(Revealed::Unchanged) => &answered,
                Err(refusal) => panic!("{refusal}"),
            };
            prop_assert!(*shown == reply(&plain));
            prop_assert!(Reply::recognise(shown).is_ok());
        }
    }
}
