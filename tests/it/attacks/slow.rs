//! Clients that send next to nothing, for as long as they can.

use std::time::Duration;

use mongodb::bson::{Document, doc};

use super::{SCHEMA, World, ada};
use crate::support::wire::{Wire, body, msg};
use crate::support::{Proxy, ProxyOptions, shared_replica_set, unique_database};

/// With a time-out that a test can wait for.
async fn impatient() -> World {
    let set = shared_replica_set().await;
    let options = ProxyOptions {
        schema: SCHEMA,
        configuration: "[limits]\nhandshake_timeout_seconds = 1\n",
        log_level: "debug",
        ..ProxyOptions::default()
    };
    let proxy = Proxy::start_with(set, options).await;
    let name = unique_database("attacks");
    World {
        through: proxy.client().await.database(&name),
        stored: set.client().await.database(&name),
        proxy,
    }
}

/// Sends bytes one by one, and gives whether the connection was still there at their end.
async fn drip(wire: &mut Wire, bytes: &[u8]) -> bool {
    for byte in bytes {
        if !wire.send(&[*byte]).await {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_message_that_drips_in_is_cut_off_however_steadily_it_comes() {
    let world = impatient().await;
    let ping = msg(
        0,
        &body(&doc! { "ping": 1, "comment": "x".repeat(200), "$db": "admin" }),
    );
    let mut wires = Vec::new();
    for _ in 0..20 {
        wires.push(world.wire().await);
    }
    let dripping = wires.iter_mut().map(|wire| drip(wire, &ping));
    let (whole, ()) = tokio::join!(futures::future::join_all(dripping), async {
        // Meanwhile others are served.
        let people = world.through.collection::<Document>("people");
        people.insert_one(ada()).await.unwrap();
        let found = people.find_one(doc! { "ssn": "ssn of Ada" }).await;
        assert_eq!(found.unwrap(), Some(ada()));
    });
    assert_eq!(whole, [false; 20]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_stops_halfway_is_cut_off_in_its_header_and_in_its_body() {
    let world = impatient().await;
    let ping = msg(0, &body(&doc! { "ping": 1, "$db": "admin" }));
    // What is announced takes no memory and no other time than what is short.
    let mut long = ping.clone();
    long[..4].copy_from_slice(&40_000_000_i32.to_le_bytes());
    let mut ends = Vec::new();
    for part in [&ping[..1], &ping[..15], &ping[..16], &ping[..30], &long] {
        let mut wire = world.wire().await;
        assert!(wire.works().await);
        assert!(wire.send(part).await);
        ends.push(async move { wire.receive().await });
    }
    let ends = futures::future::join_all(ends).await;
    assert!(ends.iter().all(Option::is_none), "it was answered");
    // Who says nothing at all between messages is idle, as pools of drivers are.
    let mut idle = world.wire().await;
    assert!(idle.works().await);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(idle.works().await);
}
