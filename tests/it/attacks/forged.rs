//! Sealed values that a client sends itself: made up, or copied from MongoDB.

use mongodb::bson::{Bson, Document, doc};

use fieldseal::wire::{flag, opcode};

use super::{World, sealed, sealed_bytes};
use crate::support::wire::{answer, body, compressed, msg, query, sequence_of};

/// Commands that hold the value at every kind of place.
fn commands(value: &Bson) -> Vec<Document> {
    let v = || value.clone();
    let with_token = doc! { "c": v(), "e1": "token" };
    let update =
        |u: Document| doc! { "update": "people", "updates": [{ "q": { "_id": 1 }, "u": u }] };
    let filter = |q: Document| doc! { "find": "people", "filter": q };
    let stages =
        |stage: Document| doc! { "aggregate": "people", "pipeline": [stage], "cursor": {} };
    vec![
        // In a sealed field, beside one, within one, in arrays, as a document with tokens.
        doc! { "insert": "people", "documents": [{ "_id": 9, "ssn": v() }] },
        doc! { "insert": "people", "documents": [{ "_id": 9, "ssn": with_token.clone() }] },
        doc! { "insert": "people", "documents": [{ "_id": 9, "open": v() }] },
        doc! { "insert": "people", "documents": [{ "_id": 9, "a": { "b": [[{ "c": v() }]] } }] },
        doc! { "insert": "people", "documents": [{ "_id": 9, "address": { "street": v() } }] },
        doc! { "insert": "people", "documents": [{ "_id": 9, "address": [[v()]] }] },
        doc! { "insert": "people", "documents": [{ "_id": 9, "visits": [{ "note": v() }] }] },
        doc! { "insert": "people", "documents": [{ "_id": v() }] },
        doc! { "insert": "people", "documents": [{ "_id": 9, "scope": Bson::JavaScriptCodeWithScope(
        mongodb::bson::JavaScriptCodeWithScope { code: "1".into(), scope: doc! { "x": v() } }) }] },
        // In a collection that the schema does not name, from where it could be moved.
        doc! { "insert": "plain", "documents": [{ "_id": 9, "open": v() }] },
        doc! { "insert": "plain", "documents": [{ "_id": 9, "a": [{ "b": [v()] }] }] },
        // Behind one that is right.
        doc! { "insert": "people", "documents": [{ "_id": 8 }, { "_id": 9, "ssn": v() }], "ordered": false },
        update(doc! { "$set": { "ssn": v() } }),
        update(doc! { "$set": { "ssn.c": v() } }),
        update(doc! { "$set": { "open": { "deep": [v()] } } }),
        update(doc! { "$setOnInsert": { "open": v() } }),
        update(doc! { "$push": { "list": { "$each": [v()] } } }),
        update(doc! { "$addToSet": { "list": v() } }),
        update(doc! { "ssn": v() }),
        update(doc! { "open": v() }),
        doc! { "update": "people", "updates": [{ "q": { "_id": 1 }, "u": [{ "$set": { "open": v() } }] }] },
        doc! { "update": "people", "updates": [{ "q": { "_id": 1 }, "u": [{ "$set": { "open": { "$literal": v() } } }] }] },
        doc! { "update": "people", "updates": [{ "q": { "_id": 1 }, "u": [{ "$set": { "open": "$$x" } }], "c": { "x": v() } }] },
        doc! { "update": "people", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "list.$[x]": 1 } }, "arrayFilters": [{ "x": v() }] }] },
        doc! { "update": "people", "updates": [{ "q": { "_id": 9, "open": v() }, "u": { "$set": { "a": 1 } }, "upsert": true }] },
        doc! { "findAndModify": "people", "query": { "_id": 1 }, "update": { "$set": { "note": v() } } },
        // Asked for: it would tell who has the same ciphertext.
        filter(doc! { "ssn": v() }),
        filter(doc! { "ssn.c": v() }),
        filter(doc! { "open": { "$in": [1, v()] } }),
        filter(doc! { "$expr": { "$eq": ["$ssn", { "$literal": v() }] } }),
        doc! { "find": "people", "let": { "x": v() }, "filter": {} },
        doc! { "find": "people", "filter": {}, "comment": v() },
        doc! { "find": "people", "filter": {}, "projection": { "copy": { "$literal": v() } } },
        doc! { "delete": "people", "deletes": [{ "q": { "ssn": v() }, "limit": 0 }] },
        doc! { "distinct": "people", "key": "open", "query": { "ssn": v() } },
        doc! { "count": "people", "query": { "ssn": v() } },
        // Shown by a pipeline, which would have the proxy open it, or written by one.
        stages(doc! { "$project": { "shown": v() } }),
        stages(doc! { "$set": { "shown": { "$ifNull": ["$nothing", v()] } } }),
        stages(doc! { "$match": { "ssn": v() } }),
        stages(doc! { "$facet": { "a": [{ "$set": { "shown": v() } }] } }),
        stages(
            doc! { "$unionWith": { "coll": "plain", "pipeline": [{ "$set": { "shown": v() } }] } },
        ),
        doc! { "aggregate": 1, "pipeline": [{ "$documents": [{ "shown": v() }] }], "cursor": {} },
        doc! { "aggregate": "plain", "pipeline": [{ "$set": { "ssn": v() } }, { "$out": "people" }], "cursor": {} },
        // Kept by MongoDB as part of a definition.
        doc! { "create": "made", "validator": { "x": v() } },
        doc! { "create": "made", "viewOn": "people", "pipeline": [{ "$set": { "shown": v() } }] },
        doc! { "createIndexes": "people", "indexes": [{ "key": { "open": 1 }, "name": "made", "partialFilterExpression": { "x": v() } }] },
        doc! { "explain": { "find": "people", "filter": { "ssn": v() } } },
        doc! { "nosuchcommand": v() },
        doc! { "ping": 1, "comment": v() },
    ]
}

#[tokio::test]
async fn a_sealed_value_from_a_client_is_refused_at_every_place_and_changes_nothing() {
    let world = World::with_people().await;
    let ada = world.raw(1).await;
    let made_up = [&[0xF5, 0xEA, 0x1D, 1][..], &[7; 60]].concat();
    // One that MongoDB's administrator copied, which would open.
    let copied = sealed_bytes(ada.get("note").unwrap());
    let mut wire = world.wire().await;
    for bytes in [made_up, copied] {
        for mut command in commands(&sealed(bytes)) {
            command.insert("$db", world.through.name());
            let answer = wire.ask(&command).await;
            assert_eq!(answer.get_f64("ok").unwrap(), 0.0, "{command}: {answer}");
            let told = answer.get_str("errmsg").unwrap();
            assert!(told.contains("fieldseal: "), "{command}: {told}");
            assert!(!told.contains("F5EA") && !told.contains("9eod"), "{told}");
        }
    }
    let stored = world.stored.list_collection_names().await.unwrap();
    assert_eq!(stored, ["people"]);
    assert_eq!(world.raw(1).await, ada);
    let people = world.stored.collection::<Document>("people");
    assert_eq!(people.count_documents(doc! {}).await.unwrap(), 2);
}

#[tokio::test]
async fn the_form_of_the_message_does_not_help_a_sealed_value_through() {
    let world = World::with_people().await;
    let value = sealed(sealed_bytes(world.raw(1).await.get("note").unwrap()));
    let person = doc! { "_id": 9, "open": [{ "x": value }] };
    let insert = doc! { "insert": "plain", "$db": world.through.name() };
    let sections = [
        body(&insert),
        sequence_of("documents", std::slice::from_ref(&person)),
    ]
    .concat();
    let whole = msg(0, &sections);
    let legacy = doc! { "insert": "plain", "documents": [person] };
    let namespace = format!("{}.$cmd", world.through.name());
    let payload = i32::try_from(whole.len() - 16).unwrap();
    for frame in [
        whole.clone(),
        msg(flag::CHECKSUM_PRESENT, &sections),
        // Uncompressed, as the protocol allows.
        compressed(opcode::MSG, payload, 0, &whole[16..]),
        query(&namespace, &crate::support::wire::document(&legacy)),
    ] {
        let mut wire = world.wire().await;
        assert!(wire.send(&frame).await);
        // The connection may be closed instead.
        if let Some(reply) = wire.receive().await {
            let answer = answer(&reply);
            assert_ne!(answer.get_f64("ok").ok(), Some(1.0), "{answer}");
        }
    }
    // Nobody is there to be told of it.
    let mut wire = world.wire().await;
    assert!(wire.send(&msg(flag::MORE_TO_COME, &sections)).await);
    assert!(wire.works().await);
    let plain = world.stored.collection::<Document>("plain");
    assert_eq!(plain.count_documents(doc! {}).await.unwrap(), 0);
}
