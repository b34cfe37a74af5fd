//! Change streams show changes in the user's names, however they were made.

use std::time::Instant;

use mongodb::bson::Timestamp;

use super::*;
use crate::support::{PATIENCE, ReplicaSetOptions};

/// Of an event: its kind, and what of it tells of fields.
type Told = (String, Option<Document>, Option<Document>, Option<Document>);

fn told(event: Document) -> Told {
    let part = |key: &str| event.get_document(key).ok().cloned();
    (
        event.get_str("operationType").unwrap().to_owned(),
        part("updateDescription"),
        part("fullDocument"),
        part("fullDocumentBeforeChange"),
    )
}

/// The events of one stream through the proxy, from `start` on.
async fn events(
    world: &World,
    stream: &Document,
    start: Timestamp,
    number: usize,
) -> Vec<Document> {
    let (mut stream, mut options) = (stream.clone(), doc! { "startAtOperationTime": start });
    options.insert("fullDocument", "whenAvailable");
    options.insert("fullDocumentBeforeChange", "whenAvailable");
    if stream.contains_key("$db") {
        options.insert("allChangesForCluster", true);
    }
    stream.insert("pipeline", [doc! { "$changeStream": options }]);
    stream.insert("cursor", doc! { "batchSize": 2 });
    let mut answer = world.answer(&stream).await;
    let mut events = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let cursor = answer
            .get_document("cursor")
            .unwrap_or_else(|_| panic!("{answer}"));
        for batch in ["firstBatch", "nextBatch"] {
            let batch = cursor.get_array(batch).into_iter().flatten();
            events.extend(batch.map(|event| event.as_document().unwrap().clone()));
        }
        if events.len() >= number {
            return events;
        }
        assert!(Instant::now() < deadline, "events are missing: {events:?}");
        let (id, name) = (cursor.get_i64("id").unwrap(), cursor.get_str("ns").unwrap());
        let (database, name) = name.split_once('.').unwrap();
        let more = doc! { "getMore": id, "collection": name, "batchSize": 3, "maxTimeMS": 1000, "$db": database };
        answer = world.answer(&more).await;
    }
}

fn update(updated: Document, removed: &[&str]) -> Document {
    doc! { "updatedFields": updated, "removedFields": removed, "truncatedArrays": [] }
}

#[tokio::test]
async fn every_stream_tells_of_a_change_by_the_fields_that_the_client_knows() {
    // A stream of all that happens meets what other tests do.
    let set = ReplicaSet::start(ReplicaSetOptions::default()).await;
    let world = World::before(&set).await;
    let images = doc! { "create": "people", "changeStreamPreAndPostImages": { "enabled": true } };
    world.through.run_command(images).await.unwrap();
    let people = world.through.collection::<Document>("people");
    let stored = world.stored.collection::<Document>("people");
    people
        .insert_one(doc! { "_id": 0, "ssn": "donor", "tags": ["d"], "visits": [{ "note": "n", "code": "c" }] })
        .await
        .unwrap();
    let donor = stored.find_one(doc! { "_id": 0 }).await.unwrap().unwrap();
    let ssn = donor.get_document("ssn").unwrap();
    let tag = donor.get_array("tags").unwrap()[0].as_document().unwrap();
    let code = donor.get_array("visits").unwrap()[0]
        .as_document()
        .unwrap()
        .get_document("code")
        .unwrap();

    let start = now(&world).await;
    let first = doc! { "_id": 1, "ssn": "a", "tags": ["x", "y"], "visits": [{ "note": "n" }], "box": { "c": "b" }, "x": { "c": 1, "e1": 2 } };
    people.insert_one(first.clone()).await.unwrap();
    let one = || doc! { "_id": 1 };
    // Through the proxy: by operators, by an element's place.
    let change = doc! { "$set": { "ssn": "b", "visits.0.note": "m", "box.c": "d", "x.c": 5 } };
    people.update_one(one(), change).await.unwrap();
    people
        .update_one(one(), doc! { "$set": { "tags.$[t]": "z" } })
        .array_filters([doc! { "t": "y" }])
        .await
        .unwrap();
    // On MongoDB itself: parts of sealed documents, tokens of another epoch, a pipeline.
    let part = doc! { "$set": { "ssn.c": ssn.get("c").unwrap(), "ssn.e1": ssn.get("e1").unwrap(), "ssn.e2": ssn.get("e1").unwrap() } };
    stored.update_one(one(), part).await.unwrap();
    let part = doc! { "$set": { "tags.0.c": tag.get("c").unwrap(), "tags.0.e1": tag.get("e1").unwrap() }, "$unset": { "ssn.e2": 1, "x.e1": 1 } };
    stored.update_one(one(), part).await.unwrap();
    let pipeline = vec![
        doc! { "$set": { "visits": [{ "code": code.clone() }], "tags": { "$slice": ["$tags", 1] } } },
    ];
    stored.update_one(one(), pipeline).await.unwrap();
    people
        .replace_one(one(), doc! { "ssn": "r" })
        .await
        .unwrap();
    people.delete_one(one()).await.unwrap();

    let image = |ssn: &str, tags: &[&str], visits: Document, inner: &str, x: Document| {
        doc! { "_id": 1, "ssn": ssn, "tags": tags, "visits": [visits], "box": { "c": inner }, "x": x }
    };
    let (n, m, c) = (
        doc! { "note": "n" },
        doc! { "note": "m" },
        doc! { "code": "c" },
    );
    let x = doc! { "c": 5, "e1": 2 };
    let images = [
        image("a", &["x", "y"], n, "b", doc! { "c": 1, "e1": 2 }),
        image("b", &["x", "y"], m.clone(), "d", x.clone()),
        image("b", &["x", "z"], m.clone(), "d", x.clone()),
        image("donor", &["x", "z"], m.clone(), "d", x.clone()),
        image("donor", &["d", "z"], m, "d", doc! { "c": 5 }),
        image("donor", &["d"], c.clone(), "d", doc! { "c": 5 }),
        doc! { "_id": 1, "ssn": "r" },
    ];
    let mut shortened = update(doc! { "visits": [c] }, &[]);
    shortened.insert("truncatedArrays", [doc! { "field": "tags", "newSize": 1 }]);
    let descriptions = [
        update(
            doc! { "ssn": "b", "box.c": "d", "visits.0.note": "m", "x.c": 5 },
            &[],
        ),
        update(doc! { "tags.1": "z" }, &[]),
        update(doc! { "ssn": "donor" }, &[]),
        update(doc! { "tags.0": "d" }, &["x.e1"]),
        shortened,
    ];
    let mut expected: Vec<Told> = vec![("insert".into(), None, Some(images[0].clone()), None)];
    for (number, description) in descriptions.into_iter().enumerate() {
        let (before, after) = (images[number].clone(), images[number + 1].clone());
        expected.push((
            "update".into(),
            Some(description),
            Some(after),
            Some(before),
        ));
    }
    let (last, replaced) = (images[5].clone(), images[6].clone());
    expected.push(("replace".into(), None, Some(replaced.clone()), Some(last)));
    expected.push(("delete".into(), None, None, Some(replaced)));

    let number = expected.len();
    for stream in [
        doc! { "aggregate": "people" },
        doc! { "aggregate": 1 },
        doc! { "aggregate": 1, "$db": "admin" },
    ] {
        let mine = events(&world, &stream, start, number).await;
        for (mine, expected) in mine.into_iter().map(told).zip(&expected) {
            assert_eq!(&mine, expected, "{stream}");
        }
    }
}

/// The time of the cluster, from which a stream is to tell.
async fn now(world: &World) -> Timestamp {
    let answer = world.stored.run_command(doc! { "ping": 1 }).await.unwrap();
    let last = answer.get_timestamp("operationTime").unwrap();
    Timestamp {
        time: last.time,
        increment: last.increment + 1,
    }
}

#[tokio::test]
async fn a_value_that_was_moved_to_another_field_is_no_event() {
    let world = World::start().await;
    let people = world.through.collection::<Document>("people");
    let stored = world.stored.collection::<Document>("people");
    people
        .insert_one(doc! { "_id": 1, "ssn": SECRET, "tags": ["t"] })
        .await
        .unwrap();
    let person = stored.find_one(doc! {}).await.unwrap().unwrap();
    let mut stream = people.watch().await.unwrap();
    let moved = doc! { "tags.0": person.get("ssn").unwrap() };
    stored
        .update_one(doc! {}, doc! { "$set": moved })
        .await
        .unwrap();
    let error = futures::StreamExt::next(&mut stream)
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        error.to_string().contains("sealed for another field"),
        "{error}"
    );
    assert!(!error.to_string().contains(SECRET));
}
