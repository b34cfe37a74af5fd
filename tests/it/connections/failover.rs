//! A member that goes away closes its clients' connections, as its own crash would,
//! so that drivers try again elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Client, Collection};

use super::SCHEMA;
use crate::support::wire::Wire;
use crate::support::{PATIENCE, Proxy, ReplicaSet, ReplicaSetOptions};

/// What one client did to its counter.
#[derive(Default)]
struct Counts {
    acknowledged: AtomicI64,
    failed: AtomicI64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_when_primaries_crash_or_step_down() {
    let mut set = ReplicaSet::start(ReplicaSetOptions {
        members: 3,
        ..ReplicaSetOptions::default()
    })
    .await;
    let proxy = Proxy::start(&set, SCHEMA).await;
    let client = proxy.client().await;
    let going_on = Arc::new(AtomicBool::new(true));
    let counts: [Arc<Counts>; 4] = Default::default();
    let mut counting = Vec::new();
    for (id, counts) in (0..).zip(&counts) {
        let (people, counts) = (people(&client), Arc::clone(counts));
        let going_on = Arc::clone(&going_on);
        counting.push(tokio::spawn(async move {
            people
                .insert_one(doc! { "_id": id, "ssn": "0" })
                .await
                .unwrap();
            while going_on.load(Ordering::Relaxed) {
                count(&people, id, &counts).await;
            }
        }));
    }
    wait_for_more(&counts).await;

    // Idle clients of a member that dies are not left to find out by themselves.
    let route = &proxy.addresses()[0];
    let mut idle = Wire::connect(route).await;
    assert!(idle.works().await);
    set.members_mut()[0].crash();
    assert_eq!(idle.receive().await, None);
    assert_eq!(Wire::connect(route).await.receive().await, None);
    wait_for_more(&counts).await;

    // Back again, it has priority and may take over at any time, or be told to step down.
    set.members_mut()[0].restart().await;
    step_down(&proxy).await;
    wait_for_more(&counts).await;

    going_on.store(false, Ordering::Relaxed);
    for task in counting {
        task.await.unwrap();
    }
    for (id, counts) in (0..).zip(&counts) {
        let person = people(&client)
            .find_one(doc! { "_id": id })
            .await
            .unwrap()
            .unwrap();
        let counted = person.get_i64("n").unwrap();
        let (acknowledged, failed) = (
            counts.acknowledged.load(Ordering::Relaxed),
            counts.failed.load(Ordering::Relaxed),
        );
        // What failed may have been done nevertheless, but once.
        assert!(
            (acknowledged..=acknowledged + failed).contains(&counted),
            "{counted} of {acknowledged} acknowledged, {failed} failed"
        );
        assert!(person.get_str("ssn").unwrap().parse::<i64>().unwrap() > 0);
    }
    let failed: i64 = counts
        .iter()
        .map(|counts| counts.failed.load(Ordering::Relaxed))
        .sum();
    assert!(
        failed <= 4,
        "the driver did not try again: {failed} writes failed"
    );
}

fn people(client: &Client) -> Collection<Document> {
    client.database("connections_failover").collection("people")
}

async fn count(people: &Collection<Document>, id: i32, counts: &Counts) {
    let number = counts.acknowledged.load(Ordering::Relaxed) + 1;
    let change = doc! { "$inc": { "n": 1_i64 }, "$set": { "ssn": number.to_string() } };
    let majority = WriteConcern::builder().w(Acknowledgment::Majority).build();
    let done = people
        .update_one(doc! { "_id": id }, change)
        .write_concern(majority)
        .await;
    match done {
        Ok(done) => {
            assert_eq!(done.matched_count, 1);
            counts.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => {
            eprintln!("a write failed: {error}");
            counts.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Waits until each has counted ten further.
async fn wait_for_more(counts: &[Arc<Counts>]) {
    let now = || {
        counts
            .iter()
            .map(|counts| counts.acknowledged.load(Ordering::Relaxed))
    };
    let wanted: Vec<i64> = now().map(|count| count + 10).collect();
    let deadline = Instant::now() + PATIENCE;
    while now().zip(&wanted).any(|(count, wanted)| count < *wanted) {
        assert!(Instant::now() < deadline, "no more writes are acknowledged");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Has the member that is the primary now step down, through the proxy.
async fn step_down(proxy: &Proxy) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for route in proxy.addresses() {
            let mut wire = Wire::connect(route).await;
            if !wire.hello().await.get_bool("isWritablePrimary").unwrap() {
                continue;
            }
            let done = wire
                .ask(&doc! { "replSetStepDown": 10, "force": true, "$db": "admin" })
                .await;
            // Fails if another has just taken over.
            if done.get_f64("ok").unwrap() == 1.0 {
                return;
            }
        }
        assert!(Instant::now() < deadline, "there is no primary");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
