//! Values move to the active key version while services read and write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};

use super::{CANARY, Ground, key_ids, report};

const FIELDS: &str = r#"
ssn     = { type = "string", queries = ["equality"] }
address = {}
"#;
const DOCUMENTS: i32 = 4000;

fn person(id: i32) -> Document {
    doc! {
        "_id": id, "count": 0, "ssn": format!("{CANARY}{id}"),
        "address": { "number": id, "street": CANARY },
    }
}

/// Reads without a pause; every answer must be right.
async fn read(people: Collection<Document>, end: Arc<AtomicBool>, reads: Arc<AtomicU64>) {
    let mut id = 0;
    while !end.load(Ordering::Relaxed) {
        id = (id + 617) % DOCUMENTS;
        let filter = doc! { "ssn": format!("{CANARY}{id}") };
        let mut one = people.find_one(filter).await.unwrap().unwrap();
        one.insert("count", 0);
        assert_eq!(one, person(id));
        let some: Vec<Document> = people
            .find(doc! { "_id": { "$gte": id, "$lt": id + 50 } })
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(
            some.len(),
            usize::try_from((DOCUMENTS - id).min(50)).unwrap()
        );
        for mut one in some {
            one.insert("count", 0);
            assert_eq!(one, person(one.get_i32("_id").unwrap()));
        }
        reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes what is there already, and counts.
async fn write(people: Collection<Document>, end: Arc<AtomicBool>, writes: Arc<AtomicU64>) {
    let mut id = 0;
    while !end.load(Ordering::Relaxed) {
        id = (id + 331) % DOCUMENTS;
        let filter = doc! { "ssn": format!("{CANARY}{id}") };
        let update = doc! {
            "$inc": { "count": 1 },
            "$set": { "ssn": format!("{CANARY}{id}"), "address": { "number": id, "street": CANARY } },
        };
        let done = people.update_one(filter, update).await.unwrap();
        assert_eq!(done.modified_count, 1);
        writes.fetch_add(1, Ordering::Relaxed);
    }
}

async fn stored_under(ground: &Ground) -> Vec<[u8; 4]> {
    let stored: Vec<Document> = {
        let found = ground.stored().await.find(doc! {}).await.unwrap();
        found.try_collect().await.unwrap()
    };
    let mut ids = Vec::new();
    for document in stored {
        key_ids(&Bson::Document(document), &mut ids);
    }
    assert_eq!(ids.len(), 2 * usize::try_from(DOCUMENTS).unwrap());
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_document_is_readable_at_every_moment_and_none_stays_under_the_old_version() {
    let ground = Ground::new("reject", FIELDS).await;
    let (mut one, first) = ground.proxy().await;
    let (mut other, second) = ground.proxy().await;
    let people = ground.people(&first);
    people
        .insert_many((0..DOCUMENTS).map(person))
        .await
        .unwrap();
    let index = mongodb::IndexModel::builder()
        .keys(doc! { "ssn": 1 })
        .build();
    people.create_index(index).await.unwrap();
    let before = stored_under(&ground).await;
    assert_eq!(before.len(), 1);

    let end = Arc::new(AtomicBool::new(false));
    let (reads, writes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut services: Vec<_> = [&first, &second]
        .map(|client| {
            let people = ground.people(client);
            tokio::spawn(read(people, Arc::clone(&end), Arc::clone(&reads)))
        })
        .into();
    ground.succeed(&["keys", "rotate", "default"]);
    one.has_reloaded(1).await;
    other.has_reloaded(1).await;
    for client in [&first, &second] {
        let people = ground.people(client);
        services.push(tokio::spawn(write(
            people,
            Arc::clone(&end),
            Arc::clone(&writes),
        )));
    }
    let json = ground
        .succeed_meanwhile(&["migrate", "rotate", "--json"])
        .await;
    let so_far = reads.load(Ordering::Relaxed);
    end.store(true, Ordering::Relaxed);
    for service in services {
        service.await.unwrap();
    }
    assert!(so_far > 0 && writes.load(Ordering::Relaxed) > 0);
    let report = report(&json);
    assert_eq!(report["verified"], true);
    let changed = report["changed"].as_u64().unwrap();
    assert!(changed > 0 && changed <= u64::try_from(DOCUMENTS).unwrap());

    let after = stored_under(&ground).await;
    assert_eq!(after.len(), 1);
    assert_ne!(after, before);
    let mut counted = 0;
    let mut all = people.find(doc! {}).await.unwrap();
    while let Some(document) = all.try_next().await.unwrap() {
        counted += u64::try_from(document.get_i32("count").unwrap()).unwrap();
    }
    assert_eq!(counted, writes.load(Ordering::Relaxed));
    let again = super::report(&ground.succeed(&["migrate", "rotate", "--json"]));
    assert_eq!(again["changed"], 0);
}

#[tokio::test]
async fn what_no_key_opens_is_counted_by_key_id_and_left() {
    let ground = Ground::new("reject", FIELDS).await;
    let (_proxy, client) = ground.proxy().await;
    let people = ground.people(&client);
    people.insert_many((0..3).map(person)).await.unwrap();
    let before = ground.raw().await;
    let keyring = ground.directory.join("keyring.json");
    std::fs::remove_file(&keyring).unwrap();
    ground.succeed(&["keys", "init"]);
    let told = ground.fail(&["migrate", "rotate"]);
    assert!(told.contains("which is not in the keyring"), "{told}");
    assert!(told.contains("3 values of `ssn` left"), "{told}");
    assert_eq!(ground.raw().await, before);
}
