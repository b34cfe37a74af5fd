//! How many connections, from where, and how long they may say nothing.

use std::time::{Duration, Instant};

use futures::future::join_all;
use mongodb::bson::{Document, doc};
use tokio::net::TcpStream;

use super::*;
use crate::support::PATIENCE;
use crate::support::wire::{body, flags, msg};
use fieldseal::wire::flag;

/// Whether the proxy lets the client in.
async fn admitted(mut wire: Wire) -> Option<Wire> {
    wire.works().await.then_some(wire)
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_another_one_its_own() {
    let mut proxy = start("[limits]\nconnections_per_ip = 3\n").await;
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(admitted(one(&proxy).await).await.unwrap());
    }
    for _ in 0..3 {
        assert!(admitted(one(&proxy).await).await.is_none());
        let database = unique_database("limits");
        writes_and_finds(&mut other(&proxy).await, &database, 1).await;
    }
    proxy.wait_for_log(&["limits.connections_per_ip"]).await;
    // A place that is left is free.
    inside.pop();
    let deadline = Instant::now() + PATIENCE;
    while admitted(one(&proxy).await).await.is_none() {
        assert!(Instant::now() < deadline, "the place is not free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for wire in &mut inside {
        assert!(wire.works().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_in_the_list_is_closed_at_once_and_a_flood_of_them_disturbs_nobody() {
    let mut proxy = start(&format!("[access]\nallow = [\"{OTHER}\"]\n")).await;
    let address = proxy.addresses()[0].clone();
    assert_eq!(one(&proxy).await.receive().await, None);
    proxy.wait_for_log(&["access.allow", "127.0.0.1:"]).await;
    let database = unique_database("limits");
    let mut inside = other(&proxy).await;
    let flood = async {
        for _ in 0..20 {
            // Fails where the close is seen first.
            join_all((0..100).map(|_| TcpStream::connect(&address))).await;
        }
    };
    let work = async {
        for id in 0..20 {
            writes_and_finds(&mut inside, &database, id).await;
            assert!(other(&proxy).await.works().await);
        }
    };
    tokio::join!(flood, work);
    // The numbers come in lines of their own, one a second.
    proxy.wait_for_log(&["connections=", "access.allow"]).await;
    let lines = proxy.log().matches("access.allow").count();
    assert!(lines < 200, "{lines} lines of 2000 connections");
}

#[tokio::test]
async fn a_changed_list_holds_for_who_comes_after_it() {
    let mut proxy = start("").await;
    let mut before = admitted(one(&proxy).await).await.unwrap();
    let text = std::fs::read_to_string(proxy.configuration()).unwrap();
    let text = format!("{text}[access]\nallow = [\"{OTHER}/32\"]\n");
    std::fs::write(proxy.configuration(), text).unwrap();
    proxy.process_mut().signal("HUP");
    proxy.wait_for_log(&["taken up anew"]).await;
    assert!(admitted(one(&proxy).await).await.is_none());
    assert!(admitted(other(&proxy).await).await.is_some());
    assert!(before.works().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_two_thousand_connections_leaves_the_others_served() {
    let proxy = start("[limits]\nconnections = 300\nconnections_per_ip = 100\n").await;
    let address = proxy.addresses()[0].clone();
    let database = unique_database("limits");
    let mut inside = other(&proxy).await;
    writes_and_finds(&mut inside, &database, 0).await;
    let flood = async {
        for _ in 0..20 {
            let some = join_all((0..100).map(|_| TcpStream::connect(&address))).await;
            // Some are held until the next hundred comes.
            drop(some);
        }
    };
    let work = async {
        for id in 1..20 {
            writes_and_finds(&mut inside, &database, id).await;
            assert!(other(&proxy).await.works().await);
        }
    };
    tokio::join!(flood, work);
    let deadline = Instant::now() + PATIENCE;
    while admitted(one(&proxy).await).await.is_none() {
        assert!(Instant::now() < deadline, "the places are not free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn who_says_nothing_for_too_long_is_let_go_but_not_who_waits_for_an_answer() {
    let proxy = start("[limits]\nidle_timeout_seconds = 1\n").await;
    let mut idle = admitted(one(&proxy).await).await.unwrap();
    let mut monitor = one(&proxy).await;
    let hello = monitor.hello().await;
    let awaited = doc! { "hello": 1, "topologyVersion": hello.get_document("topologyVersion").unwrap(), "maxAwaitTimeMS": 4000_i64, "$db": "admin" };
    // A stream of answers, each of which takes longer than the time-out.
    let number = msg(flag::EXHAUST_ALLOWED, &body(&awaited));
    assert!(monitor.send(&number).await);
    assert_eq!(idle.receive().await, None);
    let frame = monitor
        .receive()
        .await
        .expect("it was closed while it waited");
    assert_ne!(flags(&frame) & flag::MORE_TO_COME, 0);
    // A driver does not mind.
    let client = proxy.client().await;
    let people = client.database(&unique_database("limits"));
    let people = people.collection::<Document>("people");
    for id in 0..2 {
        people.insert_one(doc! { "_id": id }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    assert_eq!(people.count_documents(doc! {}).await.unwrap(), 2);
}

#[tokio::test]
async fn who_stops_in_the_midst_of_a_message_is_closed() {
    let proxy = start("[limits]\nhandshake_timeout_seconds = 1\n").await;
    let mut slow = admitted(one(&proxy).await).await.unwrap();
    let mut fresh = one(&proxy).await;
    let half = msg(0, &body(&doc! { "ping": 1, "$db": "admin" }));
    assert!(slow.send(&half[..30]).await);
    let database = unique_database("limits");
    writes_and_finds(&mut one(&proxy).await, &database, 1).await;
    assert_eq!(slow.receive().await, None);
    // So is who has not said anything yet.
    assert_eq!(fresh.receive().await, None);
}
