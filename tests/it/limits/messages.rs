//! How large messages are, and how much memory all of them take.

use futures::future::join_all;
use mongodb::bson::{Bson, doc};

use super::*;
use crate::support::wire::{body, msg};

/// Room for one message alone.
const LITTLE: &str =
    "[limits]\nmessage_bytes = 20000000\nmemory_bytes = 20000000\nhandshake_timeout_seconds = 5\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_wait_for_each_other_and_all_get_through() {
    let proxy = &start(LITTLE).await;
    let database = &unique_database("limits");
    let clients = join_all((0..6).map(|id| async move {
        let mut wire = one(proxy).await;
        let pad = "x".repeat(9_000_000);
        let person = doc! { "_id": id, "ssn": "1", "pad": pad };
        let insert = doc! { "insert": "people", "documents": [&person], "$db": database };
        assert_eq!(wire.ask(&insert).await.get_i32("n").ok(), Some(1));
        let find = doc! { "find": "people", "filter": { "_id": id }, "$db": database };
        let answer = wire.ask(&find).await;
        let batch = answer
            .get_document("cursor")
            .unwrap()
            .get_array("firstBatch")
            .unwrap();
        assert!(batch == &[Bson::from(person)], "another document");
    }));
    let small = async {
        let mut wire = one(proxy).await;
        for id in 100..120 {
            writes_and_finds(&mut wire, database, id).await;
        }
    };
    tokio::join!(clients, small);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_up_others_only_until_they_are_cut_off() {
    let mut proxy = start(LITTLE).await;
    let database = unique_database("limits");
    let direct = shared_replica_set()
        .await
        .client()
        .await
        .database(&database);
    let open = direct.collection::<Document>("open");
    let large = doc! { "_id": 1, "pad": "x".repeat(12_000_000) };
    open.insert_one(&large).await.unwrap();
    let find = doc! { "find": "open", "$db": &database };
    let mut silent = Vec::new();
    for _ in 0..3 {
        let mut wire = one(&proxy).await;
        wire.command(0, &find).await;
        silent.push(wire);
    }
    // What is small has its way meanwhile.
    let mut wire = one(&proxy).await;
    for id in 0..10 {
        writes_and_finds(&mut wire, &database, id).await;
    }
    proxy
        .wait_for_log(&["did not read its reply in time"])
        .await;
    drop(silent);
    let answer = wire.ask(&find).await;
    let batch = answer
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    assert!(batch == &[Bson::from(large)], "another document");
}

#[tokio::test]
async fn who_announces_much_and_sends_nothing_keeps_no_other_address_waiting() {
    let proxy = start("[limits]\nmemory_bytes = 60000000\nhandshake_timeout_seconds = 60\n").await;
    let database = unique_database("limits");
    let large = msg(
        0,
        &body(&doc! { "insert": "people", "x": "x".repeat(20_000_000) }),
    );
    let mut stalled = Vec::new();
    for _ in 0..6 {
        let mut wire = one(&proxy).await;
        wire.send(&large[..4096]).await;
        stalled.push(wire);
    }
    // Of two, the second waits for room as the first does not send on.
    let mut other = Wire::connect_from("127.0.0.2", &proxy.addresses()[0]).await;
    for id in 0..10 {
        let pad = "x".repeat(200_000);
        let insert =
            doc! { "insert": "people", "documents": [{ "_id": id, "pad": pad }], "$db": &database };
        assert_eq!(other.ask(&insert).await.get_i32("n").ok(), Some(1));
    }
    for wire in &mut stalled {
        // None was cut off meanwhile: they did hold all that they may.
        assert!(wire.send(&large[4096..8192]).await);
    }
}

#[tokio::test]
async fn nesting_and_arrays_are_bounded_where_the_configuration_says_so() {
    let proxy = start("[limits]\ndocument_depth = 4\narray_length = 100\n").await;
    let database = unique_database("limits");
    let (mut wire, mut neighbour) = (one(&proxy).await, one(&proxy).await);
    let nested =
        |depth: usize| (1..depth).fold(doc! { "x": "canary" }, |inner, _| doc! { "x": inner });
    let insert =
        |document: Document| doc! { "insert": "people", "documents": [document], "$db": &database };
    assert_eq!(
        wire.ask(&insert(nested(4))).await.get_i32("n").ok(),
        Some(1)
    );
    let list = |length: i32| doc! { "a": (0..length).collect::<Vec<_>>() };
    assert_eq!(
        wire.ask(&insert(list(100))).await.get_i32("n").ok(),
        Some(1)
    );
    let filter = |filter: Document| doc! { "find": "people", "filter": filter, "$db": &database };
    for (command, limit) in [
        (insert(nested(5)), "document_depth"),
        (insert(list(101)), "array_length"),
        (filter(nested(5)), "document_depth"),
        (
            filter(doc! { "ssn": { "$in": vec!["canary"; 101] } }),
            "array_length",
        ),
    ] {
        let answer = wire.ask(&command).await;
        assert_eq!(code(&answer), 10334, "{answer}");
        let message = answer.get_str("errmsg").unwrap();
        assert!(message.contains(limit), "{message}");
        assert!(!message.contains("canary"), "{message}");
        writes_and_finds(&mut neighbour, &unique_database("limits"), 1).await;
    }
    let stored = shared_replica_set()
        .await
        .client()
        .await
        .database(&database);
    let people = stored.collection::<Document>("people");
    assert_eq!(people.count_documents(doc! {}).await.unwrap(), 2);
}
