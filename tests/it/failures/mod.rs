//! One slow or greedy client never keeps others from going on. Sets that fail are in `tests/failures/`.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};

use crate::support::wire::{Wire, answer, body, msg, sequence_of};
use crate::support::{
    PATIENCE, Proxy, ProxyOptions, ReplicaSet, shared_replica_set, unique_database,
};

const SCHEMA: &str = r#"
[collections."failures_*.people".fields]
ssn  = { type = "string", queries = ["equality"] }
note = {}
"#;

/// Several for each thread that serves, on most machines.
const SLOW: usize = 8;

async fn start(set: &ReplicaSet) -> Proxy {
    let options = ProxyOptions {
        schema: SCHEMA,
        // A machine that is busy with other tests cuts nobody off.
        configuration: "[limits]\nhandshake_timeout_seconds = 300\n",
        log_level: "info",
        ..ProxyOptions::default()
    };
    Proxy::start_with(set, options).await
}

/// Connects, one after the other, to the first route.
async fn connections(proxy: &Proxy, count: usize) -> Vec<Wire> {
    let mut wires = Vec::new();
    for _ in 0..count {
        let mut wire = Wire::connect(&proxy.addresses()[0]).await;
        wire.hello().await;
        wires.push(wire);
    }
    wires
}

/// Four clients that write and read; gives the time that each thing took.
async fn others(proxy: &Proxy, database: &str) -> Vec<Duration> {
    let clients = connections(proxy, 4).await;
    let working = clients
        .into_iter()
        .enumerate()
        .map(|(client, mut wire)| async move {
            let mut times = Vec::new();
            for number in 0..25 {
                let id = format!("{client}-{number}");
                let person = doc! { "_id": &id, "ssn": &id, "note": "n" };
                let insert =
                    doc! { "insert": "people", "documents": [person.clone()], "$db": database };
                let find = doc! { "find": "people", "filter": { "ssn": &id }, "$db": database };
                let began = Instant::now();
                let inserted = wire.ask(&insert).await;
                times.push(began.elapsed());
                assert_eq!(inserted.get_i32("n").ok(), Some(1), "{inserted}");
                let began = Instant::now();
                assert_eq!(batch(&wire.ask(&find).await), [person]);
                times.push(began.elapsed());
            }
            times
        });
    futures::future::join_all(working).await.concat()
}

fn batch(answer: &Document) -> Vec<Document> {
    let cursor = answer.get_document("cursor").unwrap();
    let batch = cursor.get_array("firstBatch").unwrap().iter();
    batch
        .map(|document| document.as_document().unwrap().clone())
        .collect()
}

/// Says how long others waited: beside the slow ones, and without them.
fn tell(what: &str, beside: &mut [Duration], alone: &mut [Duration]) {
    let at = |times: &mut [Duration]| {
        times.sort();
        (times[times.len() / 2], times[times.len() * 99 / 100])
    };
    let ((middle, late), (middle_alone, late_alone)) = (at(beside), at(alone));
    eprintln!(
        "{what}: others' median {middle:.1?}, p99 {late:.1?}; alone {middle_alone:.1?}, {late_alone:.1?}"
    );
}

fn memory(proxy: &mut Proxy) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.process_mut().server()));
    let status = status.unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_their_replies_hold_up_nobody_and_little_memory() {
    const EACH: usize = 12_000_000;
    const REPLIES: usize = 9;
    let set = shared_replica_set().await;
    let mut proxy = start(set).await;
    let database = unique_database("failures");
    let mut alone = others(&proxy, &unique_database("failures")).await;

    let mut slow = connections(&proxy, SLOW).await;
    let large = doc! { "_id": "large", "ssn": "large", "note": "n", "open": "o".repeat(EACH) };
    let insert = doc! { "insert": "people", "documents": [large.clone()], "$db": &database };
    slow[0].ask(&insert).await;
    let find = doc! { "find": "people", "filter": { "ssn": "large" }, "$db": &database };
    for wire in &mut slow {
        for _ in 0..REPLIES {
            wire.command(0, &find).await;
        }
    }
    let mut beside = others(&proxy, &database).await;
    tell("clients that do not read", &mut beside, &mut alone);
    // What waits for them is with MongoDB, but for one reply each.
    let held = memory(&mut proxy);
    assert!(held < SLOW * REPLIES * EACH / 2, "{held} bytes");

    let frame = slow[0].receive().await;
    assert_eq!(
        batch(&answer(&frame.expect("the connection was closed"))),
        [large]
    );
    for _ in 1..REPLIES {
        assert!(slow[0].receive().await.expect("closed").len() > EACH);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_send_their_requests_byte_by_byte_hold_up_nobody_and_are_answered() {
    let set = shared_replica_set().await;
    let proxy = start(set).await;
    let database = unique_database("failures");
    let mut alone = others(&proxy, &unique_database("failures")).await;

    let slow = connections(&proxy, SLOW).await;
    let database = &database;
    let dripping = slow
        .into_iter()
        .enumerate()
        .map(|(number, mut wire)| async move {
            let person = doc! { "_id": format!("slow {number}"), "ssn": "slow", "note": "n" };
            let insert = doc! { "insert": "people", "documents": [person], "$db": database };
            for byte in msg(0, &body(&insert)) {
                assert!(wire.send(&[byte]).await);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            answer(&wire.receive().await.expect("the connection was closed"))
        });
    let dripping = futures::future::join_all(dripping);
    let (answers, mut beside) = tokio::join!(dripping, others(&proxy, database));
    tell("clients that send byte by byte", &mut beside, &mut alone);
    for answer in answers {
        assert_eq!(answer.get_i32("n").ok(), Some(1), "{answer}");
    }
    let find = doc! { "find": "people", "filter": { "ssn": "slow" }, "$db": database };
    let found = connections(&proxy, 1).await[0].ask(&find).await;
    assert_eq!(batch(&found).len(), SLOW);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_seals_forty_megabytes_at_once_holds_up_nobody_for_good() {
    let set = shared_replica_set().await;
    let proxy = start(set).await;
    let database = unique_database("failures");
    let mut alone = others(&proxy, &unique_database("failures")).await;

    let greedy = connections(&proxy, 1).await;
    let database = &database;
    let inserting = greedy
        .into_iter()
        .enumerate()
        .map(|(client, mut wire)| async move {
            let people: Vec<Document> = (0..40)
                .map(|number| {
                    let id = format!("greedy {client} {number}");
                    doc! { "_id": id, "ssn": "greedy", "note": "n".repeat(1_000_000) }
                })
                .collect();
            let mut sections = body(&doc! { "insert": "people", "$db": database });
            sections.extend(sequence_of("documents", &people));
            wire.sections(0, &sections).await;
            answer(
                &wire
                    .receive_within(4 * PATIENCE)
                    .await
                    .expect("the connection was closed"),
            )
        });
    let inserting = futures::future::join_all(inserting);
    let (answers, mut beside) = tokio::join!(inserting, others(&proxy, database));
    tell("a client that seals 40 MB", &mut beside, &mut alone);
    for answer in answers {
        assert_eq!(answer.get_i32("n").ok(), Some(40), "{answer}");
    }
}
