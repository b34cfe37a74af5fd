//! A statement that is refused has an error of its own, as with MongoDB.

use super::*;
use crate::support::wire::{Wire, body};
use fieldseal::wire::flag;
use futures::TryStreamExt;

/// The index and code of each write error.
fn errors(answer: &Document) -> Vec<(i32, i32)> {
    let Ok(errors) = answer.get_array("writeErrors") else {
        return Vec::new();
    };
    let error = |error: &Bson| {
        let error = error.as_document().unwrap();
        let message = error.get_str("errmsg").unwrap();
        let code = error.get_i32("code").unwrap();
        assert_eq!(
            message.starts_with("fieldseal: "),
            code != 11000,
            "{message}"
        );
        assert!(
            !message.contains(SECRET) && !message.contains("Refused"),
            "{message}"
        );
        (error.get_i32("index").unwrap(), code)
    };
    errors.iter().map(error).collect()
}

async fn ids(world: &World) -> Vec<i32> {
    let people = world.through.collection::<Document>("people");
    let all = people.find(doc! {}).sort(doc! { "_id": 1 });
    let all: Vec<Document> = all.await.unwrap().try_collect().await.unwrap();
    all.iter()
        .map(|person| person.get_i32("_id").unwrap())
        .collect()
}

#[tokio::test]
async fn ordered_inserts_stop_at_the_first_error_of_either_and_unordered_ones_go_on() {
    let documents = || {
        vec![
            doc! { "_id": 1, "ssn": "a" },
            doc! { "_id": 2, "ssn": 5, "note": SECRET },
            doc! { "_id": 1 },
            doc! { "_id": 3, "tags": [SECRET, 5] },
            doc! { "_id": 4, "ssn": "b" },
        ]
    };
    let world = World::start().await;
    let insert = |documents: Vec<Document>, ordered: bool| doc! { "insert": "people", "documents": documents, "ordered": ordered };
    let answer = world.answer(&insert(documents(), true)).await;
    assert_eq!(errors(&answer), [(1, 121)]);
    assert_eq!(
        (answer.get_i32("n").unwrap(), answer.get_f64("ok").unwrap()),
        (1, 1.0)
    );
    assert_eq!(ids(&world).await, [1]);
    // Now the first is there already: MongoDB's own error comes first.
    let answer = world.answer(&insert(documents(), true)).await;
    assert_eq!(errors(&answer), [(0, 11000)]);
    let answer = world.answer(&insert(documents(), false)).await;
    assert_eq!(
        errors(&answer),
        [(0, 11000), (1, 121), (2, 11000), (3, 121)]
    );
    assert_eq!(answer.get_i32("n").unwrap(), 1);
    assert_eq!(ids(&world).await, [1, 4]);
    // With nothing left, MongoDB makes no collection either.
    world
        .through
        .collection::<Document>("people")
        .drop()
        .await
        .unwrap();
    let answer = world.answer(&insert(vec![doc! { "ssn": 5 }], true)).await;
    assert_eq!(
        (errors(&answer), answer.get_i32("n").unwrap()),
        (vec![(0, 121)], 0)
    );
    let none: Vec<String> = Vec::new();
    assert_eq!(world.stored.list_collection_names().await.unwrap(), none);
}

#[tokio::test]
async fn updates_and_deletes_keep_their_numbers_beside_refused_ones() {
    let world = World::start().await;
    let update = |ordered: bool| {
        doc! { "update": "people", "ordered": ordered, "updates": [
            { "q": { "_id": 1 }, "u": { "$set": { "ssn": "a" }, "$inc": { "n": 1 } }, "upsert": true },
            { "q": { "ssn": SECRET }, "u": { "$inc": { "age": 1 } } },
            { "q": { "_id": 2 }, "u": { "$set": { "age": 7 } }, "upsert": true },
            { "q": { "ssn": "a" }, "u": { "$set": { "ssn": "b" } }, "multi": true },
        ] }
    };
    let answer = world.answer(&update(true)).await;
    assert_eq!(errors(&answer), [(1, 115)]);
    assert_eq!(
        answer.get_array("upserted").unwrap(),
        &[doc! { "index": 0, "_id": 1 }.into()]
    );
    let answer = world.answer(&update(false)).await;
    assert_eq!(errors(&answer), [(1, 115)]);
    assert_eq!(
        answer.get_array("upserted").unwrap(),
        &[doc! { "index": 2, "_id": 2 }.into()]
    );
    assert_eq!(
        (
            answer.get_i32("n").unwrap(),
            answer.get_i32("nModified").unwrap()
        ),
        (3, 2)
    );

    let delete = doc! { "delete": "people", "ordered": false, "deletes": [
        { "q": { "ssn": { "$gt": SECRET } }, "limit": 0 }, { "q": { "ssn": "b" }, "limit": 1 },
        { "q": { "age": { "$mod": [2, 1] } }, "limit": 1 },
    ] };
    let answer = world.answer(&delete).await;
    assert_eq!(errors(&answer), [(0, 115), (2, 115)]);
    assert_eq!(answer.get_i32("n").unwrap(), 1);
    assert_eq!(ids(&world).await, [2]);
}

#[tokio::test]
async fn a_refused_statement_ends_a_transaction_as_an_error_of_mongodb_does() {
    let world = World::start().await;
    let people = world.through.collection::<Document>("people");
    people.insert_one(doc! { "_id": 1 }).await.unwrap();
    let mut session = world.through.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    people
        .insert_one(doc! { "_id": 2, "ssn": "a" })
        .session(&mut session)
        .await
        .unwrap();
    let refused = people
        .insert_one(doc! { "_id": 3, "ssn": 5 })
        .session(&mut session)
        .await;
    assert!(refused.unwrap_err().to_string().contains("takes string"));
    // Whoever overlooks the error cannot commit the rest.
    session.commit_transaction().await.unwrap_err();
    assert_eq!(ids(&world).await, [1]);
}

#[tokio::test]
async fn a_batch_that_wants_no_reply_goes_as_far_as_it_may() {
    let world = World::start().await;
    let mut wire = Wire::connect(&world.proxy.addresses()[0]).await;
    for (first, ordered) in [(10, true), (20, false)] {
        let insert = doc! {
            "insert": "people", "$db": world.through.name(), "ordered": ordered, "writeConcern": { "w": 0 },
            "documents": [{ "_id": first, "ssn": "a" }, { "_id": first + 1, "ssn": 5 }, { "_id": first + 2 }],
        };
        wire.sections(flag::MORE_TO_COME, &body(&insert)).await;
    }
    assert!(wire.works().await);
    assert_eq!(ids(&world).await, [10, 20, 22]);
}
