//! A collection is sealed while services write to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use futures::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Document, doc};

use super::{CANARY, Ground, report};

const FIELDS: &str = r#"
ssn           = { type = "string", queries = ["equality"] }
tags          = { type = "string", queries = ["equality"] }
address       = {}
"visits.note" = { type = "string" }
"#;

const DOCUMENTS: i32 = 3000;
const WRITERS: i32 = 4;

pub(super) fn person(id: i32) -> Document {
    doc! {
        "_id": id, "count": 0, "ssn": format!("{CANARY}{id}"), "tags": [format!("{CANARY}a")],
        "address": { "street": CANARY }, "visits": [{ "note": CANARY }, { "open": 1 }],
    }
}

pub(super) async fn fill(ground: &Ground, documents: i32) {
    let stored = ground.stored().await;
    stored
        .insert_many((0..documents).map(person))
        .await
        .unwrap();
}

/// What one writer has done, as MongoDB said it was done.
#[derive(Default)]
struct Done {
    counted: AtomicI64,
    pushed: AtomicI64,
    inserted: AtomicI64,
    deleted: AtomicI64,
}

/// Writes to its own part of the collection and to the documents that all write to.
async fn write(people: Collection<Document>, number: i32, end: Arc<AtomicBool>, done: Arc<Done>) {
    let mut turn = 0;
    while !end.load(Ordering::Relaxed) {
        turn += 1;
        // A few documents are everyone's.
        let shared = turn % 7;
        let update = doc! { "$inc": { "count": 1 }, "$set": { "address.street": 1 } };
        let refused = people.update_one(doc! { "_id": shared }, update).await;
        assert!(refused.is_err(), "a path inside a sealed field");
        let update = doc! { "$inc": { "count": 1 }, "$set": { "ssn": format!("{CANARY}new") } };
        let updated = people
            .update_one(doc! { "_id": shared }, update)
            .await
            .unwrap();
        done.counted
            .fetch_add(updated.matched_count.cast_signed(), Ordering::Relaxed);
        let own = 10 + (turn * WRITERS + number) % (DOCUMENTS - 10);
        let push = doc! {
            "$push": { "tags": format!("{CANARY}b"), "visits": { "note": format!("{CANARY}n") } },
        };
        let pushed = people.update_one(doc! { "_id": own }, push).await.unwrap();
        done.pushed
            .fetch_add(pushed.modified_count.cast_signed(), Ordering::Relaxed);
        let id = 1_000_000 * (number + 1) + turn;
        people.insert_one(person(id)).await.unwrap();
        done.inserted.fetch_add(1, Ordering::Relaxed);
        if turn % 3 == 0 {
            let gone = people.delete_one(doc! { "_id": id - 1 }).await.unwrap();
            done.deleted
                .fetch_add(gone.deleted_count.cast_signed(), Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_lost_and_no_plaintext_is_left_while_services_write() {
    let ground = Ground::new("allow", FIELDS).await;
    fill(&ground, DOCUMENTS).await;
    let (_proxy, client) = ground.proxy().await;
    let end = Arc::new(AtomicBool::new(false));
    let done = Arc::new(Done::default());
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let people = ground.people(&client);
            tokio::spawn(write(people, number, Arc::clone(&end), Arc::clone(&done)))
        })
        .collect();
    let namespace = ground.namespace();
    let json = ground
        .succeed_meanwhile(&["migrate", "encrypt", &namespace, "--json"])
        .await;
    end.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let report = report(&json);
    assert_eq!(report["verified"], true);
    assert!(report["changed"].as_i64().unwrap() > i64::from(DOCUMENTS) / 2);

    let of = |counter: &AtomicI64| counter.load(Ordering::Relaxed);
    let left = i64::from(DOCUMENTS) + of(&done.inserted) - of(&done.deleted);
    ground
        .assert_all_sealed(usize::try_from(left).unwrap())
        .await;
    assert!(of(&done.counted) > 0 && of(&done.pushed) > 0 && of(&done.deleted) > 0);
    let (mut counted, mut pushed) = (0, 0);
    let mut found = ground.people(&client).find(doc! {}).await.unwrap();
    while let Some(document) = found.try_next().await.unwrap() {
        counted += i64::from(document.get_i32("count").unwrap());
        let tags = document.get_array("tags").unwrap();
        let visits = document.get_array("visits").unwrap();
        assert_eq!(tags.len() + 1, visits.len());
        pushed += i64::try_from(tags.len() - 1).unwrap();
        assert!(document.get_str("ssn").unwrap().starts_with(CANARY));
        let street = document.get_document("address").unwrap().get_str("street");
        assert_eq!(street.unwrap(), CANARY);
    }
    assert_eq!((counted, pushed), (of(&done.counted), of(&done.pushed)));

    // Equality is answered again once the schema says so.
    ground.schema("reject", FIELDS);
    let (_proxy, client) = ground.proxy().await;
    let filter = doc! { "ssn": format!("{CANARY}2999") };
    let one = ground.people(&client).find_one(filter).await.unwrap();
    assert_eq!(one.unwrap().get_i32("_id").unwrap(), 2999);
}

#[tokio::test]
async fn only_the_fields_that_are_named_are_sealed() {
    let ground = Ground::new("allow", FIELDS).await;
    fill(&ground, 10).await;
    let namespace = ground.namespace();
    let arguments = ["migrate", "encrypt", &namespace, "--field", "visits.note"];
    ground.succeed(&[&arguments[..], &["--field", "ssn"]].concat());
    let stored = ground.stored().await;
    let one = stored.find_one(doc! {}).await.unwrap().unwrap();
    assert!(one.get_document("ssn").unwrap().contains_key("e1"));
    assert_eq!(
        one.get_document("address").unwrap(),
        &doc! { "street": CANARY }
    );
    ground.succeed(&["migrate", "encrypt", &namespace]);
    ground.assert_all_sealed(10).await;
}

#[tokio::test]
async fn what_the_schema_does_not_take_is_counted_by_type_and_left() {
    let ground = Ground::new("allow", FIELDS).await;
    fill(&ground, 3).await;
    let stored = ground.stored().await;
    let wrong = doc! { "_id": "wrong", "ssn": 4_711_i32, "address": CANARY };
    stored.insert_one(wrong).await.unwrap();
    let told = ground.fail(&["migrate", "encrypt"]);
    assert!(
        told.contains("1 value of `ssn` left: each is int, and the schema takes string"),
        "{told}"
    );
    assert!(!told.contains("4711"), "{told}");
    ground.assert_all_sealed(4).await;
    let wrong = stored.find_one(doc! { "_id": "wrong" }).await.unwrap();
    assert_eq!(wrong.unwrap().get_i32("ssn").unwrap(), 4711);
    // Once it is mended, nothing is left.
    let mend = doc! { "$set": { "ssn": CANARY } };
    stored
        .update_one(doc! { "_id": "wrong" }, mend)
        .await
        .unwrap();
    ground.succeed(&["migrate", "encrypt"]);
    ground.assert_all_sealed(4).await;
}
