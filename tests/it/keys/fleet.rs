//! Several proxies, each with a key file of its own, before one MongoDB.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::*;
use crate::support::unique_database;
use crate::support::wire::Wire;

/// Two proxies that begin with the same keys.
async fn two(database: &str) -> (Through, Through) {
    let one = Through::start(database, None).await;
    let other = Through::start(database, Some(&one.proxy.key_file())).await;
    (one, other)
}

#[tokio::test]
async fn staged_everywhere_and_then_promoted_a_version_is_read_by_all() {
    let database = unique_database("keys");
    let (mut one, mut other) = two(&database).await;
    let stored = stored(&database).await;
    one.insert(1).await;
    one.proxy.keys(&["stage", "default"]).await;
    let (first, second) = (id_of(&one.keyring(), 1), id_of(&one.keyring(), 2));
    one.insert(2).await;
    let staged = one.proxy.key_file();
    other.proxy.take_keys(&staged).await;
    one.proxy.keys(&["promote", "default"]).await;
    one.insert(3).await;
    other.insert(4).await;
    for (id, key) in [(1, first), (2, first), (3, second), (4, first)] {
        assert_eq!(key_in(&stored, id).await, key, "{id}");
        one.assert_reads(id).await;
        other.assert_reads(id).await;
    }
    let promoted = one.proxy.key_file();
    other.proxy.take_keys(&promoted).await;
    other.insert(5).await;
    assert_eq!(key_in(&stored, 5).await, second);
    one.assert_reads(5).await;
}

#[tokio::test]
async fn a_proxy_that_lacks_a_version_names_it_in_its_log_and_answers_nothing_else() {
    let database = unique_database("keys");
    let (mut one, mut other) = two(&database).await;
    one.insert(1).await;
    one.proxy.keys(&["rotate", "default"]).await;
    one.insert(2).await;
    let id = id_of(&one.keyring(), 2).to_string();
    other
        .assert_refused(2, &["a key version that this proxy has not loaded"])
        .await;
    let named = format!("key id {id}, which is not in the keyring");
    other.proxy.wait_for_log(&["WARN", &named]).await;
    let all = other.people.find(doc! {}).sort(doc! { "_id": 1 }).await;
    let told = all.unwrap_err().to_string();
    assert!(
        told.contains("has not loaded") && !told.contains(&id),
        "{told}"
    );
    // What it can read, and what needs no key, goes on.
    other.assert_reads(1).await;
    let open = other.people.find_one(doc! { "_id": 2 });
    let open = open.projection(doc! { "_id": 1 }).await.unwrap();
    assert_eq!(open, Some(doc! { "_id": 2 }));
    assert_eq!(
        other
            .people
            .count_documents(doc! { "ssn": "ssn 2" })
            .await
            .unwrap(),
        1
    );
    // Over the same connections, once it has the file.
    let file = one.proxy.key_file();
    other.proxy.take_keys(&file).await;
    other.assert_reads(2).await;
}

#[tokio::test]
async fn a_disabled_version_refuses_comes_back_and_is_gone_once_destroyed() {
    let database = unique_database("keys");
    let mut one = Through::start(&database, None).await;
    one.insert(1).await;
    one.proxy.keys(&["rotate", "default"]).await;
    one.insert(2).await;
    let id = id_of(&one.keyring(), 1).to_string();
    one.assert_reads(1).await;

    one.proxy
        .keys(&["disable", "default", "--version", "1"])
        .await;
    one.assert_refused(1, &["disabled"]).await;
    let named = format!("key id {id}, which is disabled");
    one.proxy.wait_for_log(&["WARN", &named]).await;
    one.assert_reads(2).await;
    one.proxy
        .keys(&["enable", "default", "--version", "1"])
        .await;
    one.assert_reads(1).await;

    let configuration = one.proxy.configuration();
    let unasked = fieldseal(
        &["keys", "destroy", "default", "--version", "1"],
        &configuration,
    );
    let said = error_text(&unasked);
    assert_eq!(unasked.status.code(), Some(1), "{said}");
    for word in [
        id.as_str(),
        "can never be read again",
        "fieldseal status",
        "--yes",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    one.assert_reads(1).await;
    one.proxy
        .keys(&["destroy", "default", "--version", "1", "--yes"])
        .await;
    one.assert_refused(1, &["destroyed"]).await;
    one.assert_reads(2).await;
    let again = fieldseal(
        &["keys", "enable", "default", "--version", "1"],
        &configuration,
    );
    assert!(error_text(&again).contains("cannot come back"));
    // What nobody can read can still be deleted.
    assert_eq!(
        one.people
            .delete_one(doc! { "_id": 1 })
            .await
            .unwrap()
            .deleted_count,
        1
    );
}

/// Inserts and reads until told to stop; gives how many documents.
async fn work(people: Collection<Document>, ids: Arc<AtomicI32>, stop: Arc<AtomicBool>) -> i32 {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = ids.fetch_add(1, Ordering::Relaxed);
        people.insert_one(person(id)).await.unwrap();
        for id in [id, id / 2] {
            let found = people.find_one(doc! { "ssn": format!("ssn {id}") }).await;
            // The other worker may not have written it yet.
            let found = found.unwrap();
            assert!(found.is_none_or(|found| found == person(id)), "{id}");
        }
        done += 1;
    }
    done
}

#[tokio::test]
async fn no_operation_fails_and_no_connection_breaks_while_keys_rotate_through_a_fleet() {
    let database = unique_database("keys");
    let (mut one, mut other) = two(&database).await;
    for id in 1..=9 {
        one.insert(id).await;
    }
    let mut wire = Wire::connect(&one.proxy.addresses()[0]).await;
    let find = doc! { "find": "people", "sort": { "_id": 1 }, "batchSize": 2, "$db": &database };
    let answer = wire.ask(&find).await;
    let cursor = answer
        .get_document("cursor")
        .unwrap()
        .get_i64("id")
        .unwrap();

    let (ids, stop) = (
        Arc::new(AtomicI32::new(10)),
        Arc::new(AtomicBool::new(false)),
    );
    let workers = [&one, &other, &one, &other]
        .map(|it| tokio::spawn(work(it.people.clone(), Arc::clone(&ids), Arc::clone(&stop))));
    for round in 0..3 {
        one.proxy.keys(&["stage", "default"]).await;
        let file = one.proxy.key_file();
        other.proxy.take_keys(&file).await;
        one.proxy.keys(&["promote", "default"]).await;
        other.proxy.take_keys(&file).await;
        // The cursor was opened under another policy, on the same connection.
        let more =
            doc! { "getMore": cursor, "collection": "people", "batchSize": 2, "$db": &database };
        let answer = wire.ask(&more).await;
        let batch = answer
            .get_document("cursor")
            .unwrap()
            .get_array("nextBatch");
        let batch: Vec<&Document> = batch
            .unwrap()
            .iter()
            .map(|it| it.as_document().unwrap())
            .collect();
        let first = 3 + 2 * round;
        assert_eq!(batch, [&person(first), &person(first + 1)]);
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        assert!(worker.await.unwrap() > 0);
    }
    let stored = stored(&database).await;
    let newest = id_of(&one.keyring(), 4);
    one.insert(0).await;
    assert_eq!(key_in(&stored, 0).await, newest);
    for log in [one.proxy.log(), other.proxy.log()] {
        assert!(
            !log.contains("ERROR") && !log.contains("not loaded"),
            "{log}"
        );
    }
}
