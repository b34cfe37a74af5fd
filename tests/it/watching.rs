//! Change streams with stages behind them: what chooses and shapes events, on sealed
//! fields and beside them.

use std::time::Instant;

use mongodb::bson::{Bson, Document, Timestamp, doc};
use mongodb::error::ErrorKind;
use mongodb::{Client, Database};

use crate::support::{PATIENCE, Proxy, ReplicaSet, ReplicaSetOptions, unique_database};

/// The same collection behind the proxy and in plain.
struct World {
    sealed: Database,
    plain: Database,
    client: Client,
    _proxy: Proxy,
}

impl World {
    async fn new(set: &ReplicaSet) -> Self {
        let (sealed, plain) = (
            unique_database("watch_sealed"),
            unique_database("watch_plain"),
        );
        let schema = format!(
            r#"
[collections."{sealed}.people".fields]
ssn = {{ type = "string", queries = ["equality"] }}
"visits.note" = {{ type = "string", queries = ["equality"] }}
address = {{}}
"#
        );
        let proxy = Proxy::start(set, &schema).await;
        let client = proxy.client().await;
        Self {
            sealed: client.database(&sealed),
            plain: set.client().await.database(&plain),
            client,
            _proxy: proxy,
        }
    }

    async fn both(&self, command: Document) {
        for database in [&self.sealed, &self.plain] {
            database.run_command(command.clone()).await.unwrap();
        }
    }
}

async fn now(database: &Database) -> Timestamp {
    let answer = database.run_command(doc! { "ping": 1 }).await.unwrap();
    let time = answer.get_timestamp("operationTime").unwrap();
    Timestamp {
        increment: time.increment + 1,
        ..time
    }
}

/// What the same events have in common on both sides.
fn essence(mut event: Document) -> Document {
    for name in ["_id", "clusterTime", "wallTime", "collectionUUID"] {
        event.remove(name);
    }
    if let Ok(namespace) = event.get_document_mut("ns") {
        namespace.remove("db");
    }
    event
}

fn stream(on: Bson, options: &Document, stages: &[Document]) -> Document {
    let mut pipeline = vec![doc! { "$changeStream": options }];
    pipeline.extend(stages.iter().cloned());
    doc! { "aggregate": on, "pipeline": pipeline, "cursor": { "batchSize": 2 } }
}

/// The events up to the one that ends a run, which any stage lets through.
async fn events(database: &Database, stream: Document) -> Vec<Document> {
    let mut answer = database.run_command(stream.clone()).await.unwrap();
    let mut events = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let cursor = answer.get_document("cursor").unwrap();
        for batch in ["firstBatch", "nextBatch"] {
            let batch = cursor.get_array(batch).into_iter().flatten();
            events.extend(batch.map(|event| event.as_document().unwrap().clone()));
        }
        if events.iter().any(ends) {
            return events;
        }
        assert!(Instant::now() < deadline, "{stream}: {events:?}");
        let (id, name) = (cursor.get_i64("id").unwrap(), cursor.get_str("ns").unwrap());
        let (_, name) = name.split_once('.').unwrap();
        let more = doc! { "getMore": id, "collection": name, "batchSize": 2, "maxTimeMS": 500 };
        answer = database.run_command(more).await.unwrap();
    }
}

fn ends(event: &Document) -> bool {
    event
        .get_document("documentKey")
        .is_ok_and(|key| key.get_str("_id").is_ok_and(|id| id == "end"))
}

/// Or the event that ends a run.
fn or_end(filter: Document) -> Document {
    doc! { "$match": { "$or": [filter, { "documentKey._id": "end" }] } }
}

async fn change_everything(world: &World) {
    let write = |document: Document| doc! { "insert": "people", "documents": [document] };
    let update = |id: i32, change: Document| doc! { "update": "people", "updates": [{ "q": { "_id": id }, "u": change }] };
    world.both(write(doc! { "_id": 1, "ssn": "one", "plan": "gold", "visits": [{ "note": "a" }, { "at": 3 }], "address": { "zip": 5 } })).await;
    world
        .both(write(
            doc! { "_id": 2, "ssn": "two", "plan": "iron", "address": null },
        ))
        .await;
    world
        .both(doc! { "insert": "other", "documents": [{ "_id": 9, "ssn": "one", "plan": "gold" }] })
        .await;
    world
        .both(update(
            1,
            doc! { "$set": { "plan": "tin", "ssn": "three" } },
        ))
        .await;
    world
        .both(update(
            2,
            doc! { "$set": { "plan": "gold" }, "$unset": { "address": 1 } },
        ))
        .await;
    world.both(doc! { "update": "people", "updates": [{ "q": { "_id": 2 }, "u": { "ssn": "one", "visits": { "note": "b" } } }] }).await;
    world
        .both(doc! { "delete": "people", "deletes": [{ "q": { "_id": 1 }, "limit": 1 }] })
        .await;
    for name in ["people", "other"] {
        world
            .both(doc! { "insert": name, "documents": [{ "_id": "end" }] })
            .await;
    }
}

fn looking_up() -> Document {
    doc! { "fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable" }
}

async fn started(set: &ReplicaSet) -> (World, [Document; 2]) {
    let world = World::new(set).await;
    world
        .both(doc! { "create": "people", "changeStreamPreAndPostImages": { "enabled": true } })
        .await;
    let mut starts = Vec::new();
    for database in [&world.sealed, &world.plain] {
        let mut options = looking_up();
        options.insert("startAtOperationTime", now(database).await);
        starts.push(options);
    }
    change_everything(&world).await;
    let starts = <[Document; 2]>::try_from(starts).unwrap();
    (world, starts)
}

async fn same(world: &World, on: &Bson, options: &[Document; 2], stages: &[Document]) -> usize {
    let mut sides = Vec::new();
    for (database, options) in [&world.sealed, &world.plain].into_iter().zip(options) {
        let found = events(database, stream(on.clone(), options, stages)).await;
        sides.push(found.into_iter().map(essence).collect::<Vec<_>>());
    }
    assert_eq!(sides[0], sides[1], "{stages:?}");
    sides[0].len() - 1
}

async fn refused(world: &World, on: Bson, options: &Document, stage: Document) -> String {
    let told = world
        .sealed
        .run_command(stream(on, options, std::slice::from_ref(&stage)))
        .await;
    match *told.unwrap_err().kind {
        ErrorKind::Command(error) if error.message.contains("fieldseal") => error.message,
        other => panic!("{stage} is not refused by the proxy: {other:?}"),
    }
}

#[tokio::test]
async fn stages_behind_a_stream_choose_and_shape_its_events_as_in_plain() {
    let set = ReplicaSet::start(ReplicaSetOptions::default()).await;
    let (world, options) = started(&set).await;
    let people = Bson::from("people");
    for (stages, number) in [
        (vec![], 6),
        (vec![or_end(doc! { "operationType": "insert" })], 2),
        (
            vec![or_end(
                doc! { "ns.coll": "people", "operationType": { "$in": ["update", "replace"] } },
            )],
            3,
        ),
        (vec![or_end(doc! { "documentKey._id": 2 })], 3),
        (vec![or_end(doc! { "fullDocument.plan": "gold" })], 2),
        (vec![or_end(doc! { "fullDocument.ssn": "one" })], 2),
        (
            vec![or_end(
                doc! { "fullDocument.ssn": { "$nin": ["one", "two"] } },
            )],
            2,
        ),
        (
            vec![or_end(
                doc! { "fullDocument.visits.note": { "$in": ["a", "b"] } },
            )],
            3,
        ),
        (
            vec![or_end(
                doc! { "fullDocument.address": null, "fullDocument.ssn": { "$exists": true } },
            )],
            3,
        ),
        (
            vec![or_end(doc! { "fullDocumentBeforeChange.ssn": "one" })],
            1,
        ),
        (
            vec![or_end(
                doc! { "updateDescription.updatedFields.plan": "tin" },
            )],
            1,
        ),
        (
            vec![or_end(
                doc! { "updateDescription.removedFields": "address" },
            )],
            1,
        ),
        (
            vec![or_end(
                doc! { "$expr": { "$eq": ["$fullDocument.ssn", "two"] } },
            )],
            2,
        ),
        (
            vec![
                doc! { "$project": { "operationType": 1, "documentKey": 1, "fullDocument.ssn": 1, "updateDescription": 1 } },
            ],
            6,
        ),
        (
            vec![doc! { "$unset": ["fullDocumentBeforeChange", "fullDocument.address"] }],
            6,
        ),
        (
            vec![
                doc! { "$addFields": { "changed": "$fullDocument.ssn", "before": "$fullDocumentBeforeChange" } },
            ],
            6,
        ),
        (
            vec![
                doc! { "$set": { "number": "$fullDocument.ssn" } },
                or_end(doc! { "number": "one" }),
                doc! { "$project": { "documentKey": 1, "number": 1, "notes": "$fullDocument.visits.note" } },
            ],
            2,
        ),
    ] {
        assert_eq!(
            same(&world, &people, &options, &stages).await,
            number,
            "{stages:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_left() {
    let set = ReplicaSet::start(ReplicaSetOptions::default()).await;
    let (world, [options, _]) = started(&set).await;
    let people = Bson::from("people");
    let stages = [or_end(doc! { "fullDocument.ssn": "one" })];
    let all = events(&world.sealed, stream(people.clone(), &options, &stages)).await;
    for way in ["resumeAfter", "startAfter"] {
        let mut options = looking_up();
        options.insert(way, all[0].get_document("_id").unwrap());
        let rest = events(&world.sealed, stream(people.clone(), &options, &stages)).await;
        assert_eq!(rest, all[1..], "{way}");
    }
}

#[tokio::test]
async fn a_stream_over_many_collections_is_chosen_from_by_what_no_collection_seals() {
    let set = ReplicaSet::start(ReplicaSetOptions::default()).await;
    let (world, options) = started(&set).await;
    let all = Bson::from(1);
    let of_people = |filter: Document| or_end(doc! { "$and": [{ "ns.coll": "people" }, filter] });
    for (stages, number) in [
        (vec![], 8),
        (vec![or_end(doc! { "ns.coll": "other" })], 2),
        (vec![of_people(doc! { "fullDocument.plan": "gold" })], 2),
        (
            vec![
                of_people(doc! { "operationType": "update" }),
                doc! { "$unset": "fullDocumentBeforeChange" },
            ],
            2,
        ),
        (
            vec![doc! { "$addFields": { "was": "$fullDocumentBeforeChange.ssn" } }],
            8,
        ),
    ] {
        // Which of the two last ones comes first is certain: `people`.
        assert!(
            same(&world, &all, &options, &stages).await + 1 >= number,
            "{stages:?}"
        );
    }
    for stage in [
        doc! { "$match": { "fullDocument.ssn": "canary" } },
        doc! { "$match": { "updateDescription.updatedFields.ssn": "canary" } },
        doc! { "$match": { "$expr": { "$eq": ["$fullDocument.ssn", "canary"] } } },
        doc! { "$match": { "fullDocumentBeforeChange.visits.note": { "$in": ["canary"] } } },
        doc! { "$redact": { "$cond": [{ "$eq": ["$ssn", "canary"] }, "$$DESCEND", "$$PRUNE"] } },
    ] {
        let told = refused(&world, all.clone(), &options[0], stage).await;
        assert!(!told.contains("canary"), "{told}");
    }
    // The whole cluster.
    let admin = world.client.database("admin");
    let mut whole = options[0].clone();
    whole.insert("allChangesForCluster", true);
    let name = world.sealed.name();
    let ours = doc! { "$match": { "ns.db": name, "fullDocument.plan": { "$in": ["gold", null] } } };
    let found = events(&admin, stream(1.into(), &whole, &[ours])).await;
    assert_eq!(
        found[0]
            .get_document("fullDocument")
            .unwrap()
            .get_str("ssn")
            .unwrap(),
        "one"
    );
    let told = admin
        .run_command(stream(
            1.into(),
            &whole,
            &[doc! { "$match": { "fullDocument.ssn": "canary" } }],
        ))
        .await
        .unwrap_err();
    assert!(told.to_string().contains("fieldseal") && !told.to_string().contains("canary"));
}

#[tokio::test]
async fn what_would_read_a_sealed_field_of_an_event_is_refused() {
    let set = ReplicaSet::start(ReplicaSetOptions::default()).await;
    let (world, [options, _]) = started(&set).await;
    for stage in [
        doc! { "$match": { "fullDocument.ssn": { "$gt": "canary" } } },
        doc! { "$match": { "fullDocument.address.zip": "canary" } },
        doc! { "$match": { "updateDescription.updatedFields.ssn": "canary" } },
        doc! { "$match": { "updateDescription.updatedFields.ssn": { "$exists": true } } },
        doc! { "$match": { "$expr": { "$eq": ["$updateDescription.updatedFields.ssn", "canary"] } } },
        doc! { "$project": { "upper": { "$toUpper": "$fullDocument.ssn" } } },
        doc! { "$set": { "fullDocument.ssn.c": "canary" } },
    ] {
        let told = refused(&world, "people".into(), &options, stage).await;
        assert!(!told.contains("canary"), "{told}");
    }
}
