//! Replies: what is sealed in them is opened for who may read it, and for nobody else.

use std::sync::Arc;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};

use super::choices::Choices;
use super::{CANARY, CANARY_TEXT, POLICIES, holds};
use crate::policy::{Collection, Policy};
use crate::raw::Doc;
use crate::reveal::{Reads, ReplyPlan, Revealed, reveal};
use crate::seal::find_sealed;
use crate::wire::Reply;
use crate::wire::testing::{body, msg};

/// Where a reply may hold values, sealed or not: paths of the schema, and names beside them.
const NAMES: &[&str] = &[
    "x",
    "ssn",
    "payment",
    "card",
    "tags",
    "age",
    "address",
    "visits",
    "note",
    "contacts",
    "home",
    "phone",
    "notes",
    "_id",
    "0",
    "c",
    "e1",
    "fullDocument",
    "updateDescription",
    "updatedFields",
    "payment.card",
    "value",
    "errmsg",
    "keyValue",
    "keyPattern",
    "writeErrors",
    "ns",
];

/// The first byte says what the reply is made of: any bytes, or values that were sealed.
pub(super) fn reply(bytes: &[u8]) {
    let mut choices = Choices::of(bytes);
    if choices.yes() {
        any(choices);
    } else {
        made(choices);
    }
}

/// Whatever MongoDB might send is passed on, opened or refused.
fn any(mut choices: Choices<'_>) {
    let policy = &POLICIES.plain;
    let plan = plan(&mut choices, policy);
    let frame = msg(0, choices.rest());
    let mut out = vec![1, 2, 3];
    match reveal(&frame, &plan, policy, &mut Reads::default(), &mut out) {
        Ok(Revealed::Rewritten) => {
            Reply::recognise(&out).expect("what is revealed is a reply");
        }
        Ok(Revealed::Unchanged) => {}
        Err(refusal) => assert!(refusal.message.starts_with("fieldseal: ")),
    }
}

/// Who may read sees what was sealed; who may not sees it nowhere.
fn made(mut choices: Choices<'_>) {
    let (policy, reads_all) = match choices.below(4) {
        0 => (&POLICIES.plain, true),
        1 => (&POLICIES.reader, true),
        2 => (&POLICIES.writer, false),
        _ => {
            let masks = &POLICIES.neither;
            (&masks[choices.below(masks.len())], false)
        }
    };
    let plan = plan(&mut choices, policy);
    let answer = answer(&mut choices, &plan);
    let frame = msg(u32::from(choices.yes()), &body(&answer));
    let (mut out, mut reads) = (vec![1, 2, 3], Reads::default());
    let shown = match reveal(&frame, &plan, policy, &mut reads, &mut out) {
        Ok(Revealed::Rewritten) => &out,
        Ok(Revealed::Unchanged) => &frame,
        Err(refusal) => {
            for text in [refusal.message.clone(), refusal.to_string()] {
                assert!(!text.contains("CANARY-4"), "a value in an error: {text}");
            }
            return;
        }
    };
    let reply = Reply::recognise(shown).expect("what is revealed is a reply");
    let read: Result<Document, _> = bson::deserialize_from_slice(&shown[reply.body()]);
    read.expect("what is revealed is BSON");
    if !reads_all {
        assert!(!holds(shown, CANARY), "shown to who may not read: {answer}");
        assert!(reads.is_empty(), "nothing was read");
    } else if matches!(plan, ReplyPlan::Relay | ReplyPlan::Documents(_)) {
        assert!(
            find_sealed(shown).is_none() || !answer.contains_key("cursor"),
            "left sealed: {answer}"
        );
    }
}

fn plan(choices: &mut Choices<'_>, policy: &Policy) -> ReplyPlan {
    let collection = customers(policy);
    match choices.below(9) {
        0 => ReplyPlan::Relay,
        1 => ReplyPlan::Documents(collection),
        2 => ReplyPlan::Distinct(collection),
        3 => ReplyPlan::Outcome {
            collection,
            refused: Arc::new([]),
        },
        4 => ReplyPlan::Described(collection),
        5 => ReplyPlan::Explained {
            command: Arc::from(&b"\x05\0\0\0\0"[..]),
            collection,
        },
        6 => ReplyPlan::Changes(Some(collection)),
        7 => ReplyPlan::Changes(None),
        _ => ReplyPlan::Results,
    }
}

fn customers(policy: &Policy) -> Arc<Collection> {
    let collection = policy.collection("shop.customers");
    collection.expect("the policy of tests seals it")
}

fn answer(choices: &mut Choices<'_>, plan: &ReplyPlan) -> Document {
    let namespace = choices.pick(&["shop.customers", "shop.$cmd", "shop.other"]);
    match choices.below(4) {
        0 | 1 => {
            let batch = choices.pick(&["firstBatch", "nextBatch"]);
            let documents = choices.some(3, |choices| event(choices, plan));
            doc! {"cursor": {batch: documents, "id": 0_i64, "ns": namespace}, "ok": 1.0}
        }
        2 => doc! {"value": document(choices, 0), "ok": 1.0},
        _ => {
            // An error of MongoDB's that repeats what is stored, as those of indexes do.
            let sealed = value(choices, 0);
            let errmsg = "E11000 duplicate key error collection: shop.customers index: ssn_1 dup key: { ssn: null }";
            let error = doc! {"index": 0, "code": 11000, "errmsg": errmsg, "keyPattern": {"ssn.e1": 1}, "keyValue": {"ssn.e1": sealed}};
            if choices.yes() {
                doc! {"n": 0, "writeErrors": [error], "ok": 1.0}
            } else {
                error
            }
        }
    }
}

fn event(choices: &mut Choices<'_>, plan: &ReplyPlan) -> Document {
    if !matches!(plan, ReplyPlan::Changes(_)) {
        return document(choices, 0);
    }
    let kind = choices.pick(&["insert", "update", "replace", "delete"]);
    doc! {
        "_id": {"_data": "82"},
        "operationType": kind,
        "ns": {"db": "shop", "coll": "customers"},
        "documentKey": {"_id": 1},
        "fullDocument": document(choices, 0),
        "updateDescription": {"updatedFields": document(choices, 0), "removedFields": []},
    }
}

fn document(choices: &mut Choices<'_>, depth: usize) -> Document {
    let fields = choices.some(4, |choices| {
        let name = choices.pick(NAMES).to_owned();
        (name, value(choices, depth + 1))
    });
    fields.into_iter().collect()
}

fn value(choices: &mut Choices<'_>, depth: usize) -> Bson {
    let kinds = if depth > 6 { 6 } else { 8 };
    match choices.below(kinds) {
        0 => Bson::Null,
        1 => Bson::Int32(5),
        2 => "x".into(),
        3 => sealed(choices).into(),
        4 => doc! {"c": sealed(choices), "e1": token()}.into(),
        5 => {
            let mut payload = sealed(choices).bytes;
            let at = usize::from(choices.byte()) % payload.len();
            payload[at] ^= choices.byte();
            binary(payload).into()
        }
        6 => document(choices, depth).into(),
        _ => choices.some(3, |choices| value(choices, depth + 1)).into(),
    }
}

/// A canary, sealed as a value of one of the fields.
fn sealed(choices: &mut Choices<'_>) -> Binary {
    let collection = customers(&POLICIES.plain);
    let fields = collection.fields();
    let field = &fields[choices.below(fields.len())];
    let value = match field.path.as_str() {
        "age" => Bson::Int64(i64::from_le_bytes(*CANARY)),
        "address" => doc! {"city": CANARY_TEXT}.into(),
        _ => CANARY_TEXT.into(),
    };
    let bytes = bson::serialize_to_vec(&doc! {"v": value}).expect("a short document");
    let document = Doc::whole(&bytes).expect("just written");
    let element = document
        .first()
        .expect("well-formed")
        .expect("of one field");
    let mut payload = Vec::new();
    field.seal(element.kind, element.value(), &mut payload);
    binary(payload)
}

fn binary(bytes: Vec<u8>) -> Binary {
    let subtype = BinarySubtype::from(crate::seal::SUBTYPE);
    Binary { subtype, bytes }
}

fn token() -> Binary {
    let subtype = BinarySubtype::Generic;
    Binary {
        subtype,
        bytes: vec![7; 16],
    }
}
