//! Many connections, and those that are slow.

use std::time::{Duration, Instant};

use futures::future::join_all;
use mongodb::bson::{Document, doc};

use super::start;
use crate::support::wire::{Wire, answer};
use crate::support::{PATIENCE, unique_database};

#[tokio::test]
async fn as_many_clients_as_configured_are_let_in_and_a_place_that_is_left_is_free() {
    let (_, mut proxy) = start("[limits]\nconnections = 5\n").await;
    let address = proxy.addresses()[0].clone();
    let mut inside = Vec::new();
    for _ in 0..5 {
        let mut wire = Wire::connect(&address).await;
        assert!(wire.works().await);
        inside.push(wire);
    }
    for _ in 0..3 {
        assert_eq!(Wire::connect(&address).await.receive().await, None);
    }
    proxy
        .wait_for_log(&["too many connections", "limits.connections"])
        .await;

    inside.truncate(3);
    let deadline = Instant::now() + PATIENCE;
    while inside.len() < 5 {
        let mut wire = Wire::connect(&address).await;
        if wire.works().await {
            inside.push(wire);
        }
        assert!(Instant::now() < deadline, "the places are not free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(Wire::connect(&address).await.receive().await, None);
    for wire in &mut inside {
        assert!(wire.works().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_idle_clients_are_kept_and_disturb_nobody() {
    let (_, proxy) = start("").await;
    let database = unique_database("connections");
    let address = &proxy.addresses()[0];
    let mut idle = join_all((0..300).map(|_| async move {
        let mut wire = Wire::connect(address).await;
        wire.hello().await;
        wire
    }))
    .await;
    let people = proxy.client().await.database(&database);
    let people = people.collection::<Document>("people");
    let person = doc! { "_id": 1, "ssn": "1" };
    people.insert_one(&person).await.unwrap();
    let found = people.find_one(doc! { "ssn": "1" }).await.unwrap();
    assert_eq!(found, Some(person));
    let working = join_all(idle.iter_mut().map(Wire::works)).await;
    assert!(working.iter().all(|works| *works));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_disturb_nobody_and_get_all_in_the_end() {
    let (_, proxy) = start("").await;
    let database = unique_database("connections");
    let client = proxy.client().await;
    let people = client.database(&database).collection::<Document>("people");
    let person = |id: i32| doc! { "_id": id, "ssn": format!("{id}"), "pad": "x".repeat(1_000_000) };
    people.insert_many((0..12).map(person)).await.unwrap();

    // More than the system's buffers take, for each of them.
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut wire = Wire::connect(&proxy.addresses()[0]).await;
        wire.command(0, &doc! { "find": "people", "$db": &database })
            .await;
        slow.push(wire);
    }
    for id in 100..150 {
        let person = doc! { "_id": id, "ssn": format!("{id}") };
        people.insert_one(&person).await.unwrap();
        let found = people.find_one(doc! { "ssn": format!("{id}") }).await;
        assert_eq!(found.unwrap(), Some(person));
    }
    for mut wire in slow {
        let reply = answer(&wire.receive().await.expect("the connection was closed"));
        let batch = reply
            .get_document("cursor")
            .unwrap()
            .get_array("firstBatch")
            .unwrap();
        for (id, found) in (0..12).zip(batch) {
            assert!(found == &person(id).into(), "person {id} is another");
        }
        assert!(batch.len() >= 12);
        assert!(wire.works().await);
    }
}
