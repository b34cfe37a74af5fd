//! Duplicate keys are told of in the user's names.

use super::*;

async fn indexed() -> World {
    let world = World::start().await;
    for name in ["people", "plain"] {
        let some = |path: &str| doc! { path: { "$exists": true } };
        let index = |name: &str, key: Document, only: Document| doc! { "key": key, "name": name, "unique": true, "partialFilterExpression": only };
        world
            .through
            .run_command(doc! { "createIndexes": name, "indexes": [
                { "key": { "ssn": 1 }, "name": "ssn_1", "unique": true },
                index("tags_1", doc! { "tags": 1, "x": -1 }, some("x")),
                index("mixed", doc! { "open.a": 1, "payment.card": 1, "visits.code": 1 }, some("open")),
                index("phone", doc! { "contacts.home.phone": 1 }, some("contacts.home.phone")),
            ] })
            .await
            .unwrap();
    }
    world
}

#[tokio::test]
async fn a_duplicate_key_is_told_of_as_in_plain_but_for_the_value() {
    let world = indexed().await;
    let ordered = world
        .same(doc! { "insert": "people", "documents": [{ "_id": 1, "ssn": SECRET }, { "_id": 2, "ssn": SECRET }, { "_id": 3 }] })
        .await;
    let error = doc! {
        "index": 1, "code": 11000,
        "errmsg": format!("E11000 duplicate key error collection: {}.people index: ssn_1 dup key: {{ ssn: <sealed> }}", world.through.name()),
        "keyPattern": { "ssn": 1 }, "keyValue": { "ssn": "<sealed>" },
    };
    assert_eq!(ordered, doc! { "n": 1, "writeErrors": [error], "ok": 1.0 });

    // Null is no value; an `_id` is open.
    world
        .same(doc! { "insert": "people", "ordered": false, "documents": [
            { "_id": 3 }, { "_id": 4 }, { "_id": 5, "ssn": SECRET }, { "_id": 6, "ssn": "other" }, { "_id": 1 },
        ] })
        .await;
    for (id, fields) in [
        (10, doc! { "tags": ["a", SECRET], "x": 1.5 }),
        (
            20,
            doc! { "open": { "a": { "b": [1_i64, "q\"", null] } }, "payment": { "card": SECRET } },
        ),
        (30, doc! { "contacts": { "home": { "phone": SECRET } } }),
    ] {
        let person = |id: i32| {
            let mut person = doc! { "_id": id, "ssn": id.to_string() };
            person.extend(fields.clone());
            person
        };
        let answer = world
            .same(doc! { "insert": "people", "documents": [person(id), person(id + 1)] })
            .await;
        assert_eq!(
            answer.get_array("writeErrors").unwrap().len(),
            1,
            "{answer}"
        );
        assert_clean(&answer);
    }
    let update = doc! { "$set": { "ssn": SECRET } };
    let answer = world
        .same(doc! { "update": "people", "ordered": false, "updates": [
            { "q": { "_id": 3 }, "u": update.clone() }, { "q": { "_id": 99 }, "u": update.clone(), "upsert": true },
        ] })
        .await;
    assert_eq!(answer.get_array("writeErrors").unwrap().len(), 2);
    let answer = world
        .same(doc! { "findAndModify": "people", "query": { "_id": 3 }, "update": update })
        .await;
    assert_eq!(answer.get_i32("code").unwrap(), 11000);
    assert_clean(&answer);
}

#[tokio::test]
async fn an_index_over_duplicates_fails_as_in_plain_but_for_the_value() {
    let world = World::start().await;
    world
        .same(doc! { "insert": "people", "documents": [
            { "_id": 1, "ssn": SECRET, "n": "x", "visits": [{ "code": SECRET }] },
            { "_id": 2, "ssn": SECRET, "n": "x", "visits": [{ "code": SECRET }] },
        ] })
        .await;
    for key in [
        doc! { "ssn": 1 },
        doc! { "n": -1, "ssn": 1 },
        doc! { "visits.code": -1, "n": 1, "payment.card": 1 },
    ] {
        let index = doc! { "key": key, "name": "u", "unique": true };
        let answer = world
            .same(doc! { "createIndexes": "people", "indexes": [index] })
            .await;
        assert_eq!(answer.get_i32("code").unwrap(), 11000, "{answer}");
        assert!(answer.get_str("errmsg").unwrap().contains("<sealed>"));
        assert_clean(&answer);
    }
}

#[tokio::test]
async fn errors_about_indexes_name_the_users_paths() {
    let world = World::start().await;
    let index = |key: Document| doc! { "createIndexes": "people", "indexes": [{ "key": key, "name": "i" }] };
    world.same(index(doc! { "ssn": 1 })).await;
    for wrong in [
        index(doc! { "ssn": 1, "visits.code": -1 }),
        doc! { "dropIndexes": "people", "index": { "visits.code": 1 } },
        doc! { "collMod": "people", "index": { "keyPattern": { "ssn": -1 }, "hidden": true } },
    ] {
        let answer = world.same(wrong).await;
        assert_eq!(answer.get_f64("ok").unwrap(), 0.0);
        assert_clean(&answer);
    }
}
