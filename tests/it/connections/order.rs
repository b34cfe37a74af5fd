//! Requests are done, and answered, in the order in which they came.

use std::time::Instant;

use futures::TryStreamExt;
use mongodb::bson::{Document, doc};

use fieldseal::wire::flag;

use super::start;
use crate::support::wire::{Wire, answer, body, flags, int32_at, msg, numbered, response_to};
use crate::support::{PATIENCE, ReplicaSet, unique_database};

/// The `_id`s in `people` as they are stored, in the order in which they came.
async fn stored(set: &ReplicaSet, database: &str) -> Vec<i32> {
    let people = set.members()[0].direct_client().await.database(database);
    let people: Vec<Document> = people
        .collection("people")
        .find(doc! {})
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let sealed = |person: &Document| person.get_document("ssn").is_ok();
    assert!(people.iter().all(sealed));
    people
        .iter()
        .map(|person| person.get_i32("_id").unwrap())
        .collect()
}

fn insert(database: &str, id: i32) -> Document {
    let person = doc! { "_id": id, "ssn": format!("ssn {id}") };
    doc! { "insert": "people", "documents": [person], "$db": database }
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let (set, proxy) = start("").await;
    let database = unique_database("connections");
    let mut ahead = Vec::new();
    for id in 0..200 {
        let command = match id % 4 {
            0 => doc! { "ping": 1, "comment": "x".repeat(10_000), "$db": "admin" },
            1 => insert(&database, id),
            // Refused, but by the proxy.
            2 => doc! { "insert": "people", "documents": [{ "ssn": id }], "$db": &database },
            _ => {
                doc! { "find": "people", "filter": { "ssn": format!("ssn {}", id - 2) }, "$db": &database }
            }
        };
        ahead.extend(numbered(msg(0, &body(&command)), id));
    }
    let mut wire = Wire::connect(&proxy.addresses()[0]).await;
    assert!(wire.send(&ahead).await);
    for id in 0..200 {
        let reply = wire.receive().await.expect("the connection was closed");
        assert_eq!(response_to(&reply), id);
        let reply = answer(&reply);
        assert_eq!(reply.get_f64("ok").unwrap(), 1.0, "{reply}");
        assert_eq!(reply.contains_key("writeErrors"), id % 4 == 2, "{reply}");
        if id % 4 == 3 {
            let batch = reply
                .get_document("cursor")
                .unwrap()
                .get_array("firstBatch")
                .unwrap();
            let person = doc! { "_id": id - 2, "ssn": format!("ssn {}", id - 2) };
            assert_eq!(batch, &[person.into()]);
        }
    }
    let ids: Vec<i32> = (0..200).filter(|id| id % 4 == 1).collect();
    assert_eq!(stored(set, &database).await, ids);
}

#[tokio::test]
async fn writes_that_want_no_reply_arrive_in_order_and_get_none() {
    let (set, proxy) = start("").await;
    let database = unique_database("connections");
    let mut wire = Wire::connect(&proxy.addresses()[0]).await;
    for id in 0..300 {
        let mut command = insert(&database, id);
        command.insert("writeConcern", doc! { "w": 0 });
        wire.command(flag::MORE_TO_COME, &command).await;
        if id % 10 == 0 {
            // Refused, which nobody is told.
            let wrong = doc! { "insert": "people", "documents": [{ "ssn": id }], "$db": &database };
            wire.command(flag::MORE_TO_COME, &wrong).await;
        }
    }
    // The first reply of all is the one to this.
    assert!(wire.works().await);
    assert_eq!(stored(set, &database).await, (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn writes_that_want_no_reply_arrive_though_their_client_has_gone() {
    let (set, proxy) = start("").await;
    let database = unique_database("connections");
    let mut wire = Wire::connect(&proxy.addresses()[0]).await;
    let writes = (0..100).map(|id| msg(flag::MORE_TO_COME, &body(&insert(&database, id))));
    // All at once, so that it has gone before the first of them is dealt with.
    assert!(wire.send(&writes.collect::<Vec<_>>().concat()).await);
    drop(wire);
    let deadline = Instant::now() + PATIENCE;
    while stored(set, &database).await != (0..100).collect::<Vec<_>>() {
        assert!(Instant::now() < deadline, "they did not all arrive");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_exhaust_cursor_streams_its_batches_opened() {
    let (_, proxy) = start("").await;
    let database = unique_database("connections");
    let mut wire = Wire::connect(&proxy.addresses()[0]).await;
    let people: Vec<Document> = (0..9)
        .map(|id| doc! { "_id": id, "ssn": format!("ssn {id}") })
        .collect();
    wire.ask(&doc! { "insert": "people", "documents": people.clone(), "$db": &database })
        .await;
    let find = doc! { "find": "people", "batchSize": 2, "$db": &database };
    let first = wire.ask(&find).await;
    let cursor = first.get_document("cursor").unwrap();
    let id = cursor.get_i64("id").unwrap();
    let mut found = cursor.get_array("firstBatch").unwrap().clone();

    let more = doc! { "getMore": id, "collection": "people", "batchSize": 2, "$db": &database };
    let mut expected = wire.command(flag::EXHAUST_ALLOWED, &more).await;
    let mut replies = 0;
    loop {
        let reply = wire.receive().await.expect("the stream broke off");
        // Each answers the one before it.
        assert_eq!(response_to(&reply), expected);
        expected = int32_at(&reply, 4);
        replies += 1;
        let answer = answer(&reply);
        let cursor = answer.get_document("cursor").unwrap();
        found.extend(cursor.get_array("nextBatch").unwrap().clone());
        let more = flags(&reply) & flag::MORE_TO_COME != 0;
        assert_eq!(more, cursor.get_i64("id").unwrap() != 0);
        if !more {
            break;
        }
    }
    assert!(replies > 2, "{replies} replies are no stream");
    assert_eq!(
        found,
        people.into_iter().map(Into::into).collect::<Vec<_>>()
    );
    assert!(wire.works().await);
}
