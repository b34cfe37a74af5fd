//! What those who observe the proxy are told of.

use super::*;
use crate::observe::Observers;
use crate::observe::metrics::{Metrics, Snapshot};
use crate::refusal::RefusalKind;

/// A session whose commands are counted.
fn observed() -> (Both, Metrics) {
    let metrics = Metrics::on();
    let mut shared = shared_with(Limits {
        array_length: Some(2),
        ..Limits::default()
    });
    shared.observers = Observers {
        metrics: metrics.clone(),
        ..Observers::default()
    };
    (both_of(Arc::new(shared)), metrics)
}

/// The counts once the session is over.
async fn counted(both: Both, metrics: &Metrics) -> (Vec<String>, Snapshot) {
    drop((both.client, both.mongodb));
    both.session.await.unwrap();
    let snapshot = metrics.snapshot();
    let lines = snapshot.commands.iter().map(|row| {
        let (command, namespace) = (&row.command, &row.namespace);
        format!("{command} {namespace} {} {}", row.outcome, row.count)
    });
    (lines.collect(), snapshot)
}

#[tokio::test]
async fn commands_are_counted_by_name_namespace_and_outcome() {
    let (mut both, metrics) = observed();
    for (reply, id) in [(doc! {"ok": 1.0}, 1), (doc! {"ok": 0.0, "code": 26}, 2)] {
        let request = numbered(insert(0, 10), id, 0);
        both.client.write_all(&request).await.unwrap();
        read(&mut both.mongodb).await;
        let reply = numbered(msg(0, &body(&reply)), 100, id);
        both.mongodb.write_all(&reply).await.unwrap();
        read(&mut both.client).await;
    }
    let unwatched = insert(flag::MORE_TO_COME, 10);
    both.client.write_all(&unwatched).await.unwrap();
    read(&mut both.mongodb).await;
    let refused = doc! {"noSuchCommand": [1, 2, 3], "$db": "d"};
    let refused = msg(0, &body(&refused));
    both.client.write_all(&refused).await.unwrap();
    read(&mut both.client).await;
    let (lines, snapshot) = counted(both, &metrics).await;
    let expected = [
        "insert d.c ok 1",
        "insert d.c error 1",
        "insert d.c sent 1",
        "other d refused 1",
    ];
    assert_eq!(lines, expected);
    assert!(snapshot.refusals.contains(&(RefusalKind::TooLarge, 1)));
    assert_eq!(snapshot.recent[0].command, "noSuchCommand");
    assert_eq!(snapshot.requests.count, 4);
    assert!(snapshot.phases.iter().all(|phase| phase.count == 4));
    let phases: f64 = snapshot.phases.iter().map(|phase| phase.sum).sum();
    assert!((phases - snapshot.requests.sum).abs() < 1e-6);
}

#[tokio::test]
async fn each_reply_of_a_stream_counts() {
    let (mut both, metrics) = observed();
    both.client.write_all(&ping(1)).await.unwrap();
    read(&mut both.mongodb).await;
    let more = flag::MORE_TO_COME;
    for reply in [answer(more, 11, 1), answer(more, 12, 11), answer(0, 13, 12)] {
        both.mongodb.write_all(&reply).await.unwrap();
        assert_eq!(read(&mut both.client).await, reply);
    }
    let (lines, _) = counted(both, &metrics).await;
    assert_eq!(lines, ["ping admin ok 3"]);
}

#[tokio::test]
async fn a_client_that_waits_for_the_next_reply_of_a_stream_counts_no_more_when_it_goes() {
    let (mut both, metrics) = observed();
    both.client.write_all(&ping(1)).await.unwrap();
    read(&mut both.mongodb).await;
    let reply = answer(flag::MORE_TO_COME, 11, 1);
    both.mongodb.write_all(&reply).await.unwrap();
    read(&mut both.client).await;
    let (lines, _) = counted(both, &metrics).await;
    assert_eq!(lines, ["ping admin ok 1"]);
}

/// Answers what the proxy asks by itself, as a MongoDB without views does, up to the client's own.
async fn asked(both: &mut Both) -> i32 {
    loop {
        let frame = read(&mut both.mongodb).await;
        let id = i32::from_le_bytes(*frame[4..].first_chunk().unwrap());
        if content(&frame).contains_key("find") {
            return id;
        }
        let none = doc! {"cursor": {"id": 0_i64, "ns": "shop.none", "firstBatch": []}, "ok": 1.0};
        let reply = numbered(msg(0, &body(&none)), 1000, id);
        both.mongodb.write_all(&reply).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_at_what_cannot_be_opened_counts_as_refused() {
    let metrics = Metrics::on();
    let mut shared = shared_with(Limits::default());
    shared.policy = Arc::new(ArcSwap::from_pointee(crate::policy::fixture::policy()));
    shared.observers.metrics = metrics.clone();
    let mut both = both_of(Arc::new(shared));
    let find = msg(
        flag::EXHAUST_ALLOWED,
        &body(&doc! {"find": "customers", "$db": "shop"}),
    );
    both.client.write_all(&find).await.unwrap();
    let id = asked(&mut both).await;
    let batch = |ssn: bson::Bson| {
        let batch = doc! {"id": 5_i64, "ns": "shop.customers", "nextBatch": [{"ssn": ssn}]};
        msg(
            flag::MORE_TO_COME,
            &body(&doc! {"cursor": batch, "ok": 1.0}),
        )
    };
    let fine = numbered(batch(bson::Bson::Null), 11, id);
    both.mongodb.write_all(&fine).await.unwrap();
    read(&mut both.client).await;
    let plain = numbered(batch("not sealed".into()), 12, 11);
    both.mongodb.write_all(&plain).await.unwrap();
    assert_eq!(read_to_end(&mut both.client).await, b"");
    let (lines, snapshot) = counted(both, &metrics).await;
    let expected = ["find shop.customers ok 1", "find shop.customers refused 1"];
    assert_eq!(lines, expected);
    assert!(snapshot.refusals.contains(&(RefusalKind::CannotOpen, 1)));
    assert_eq!(snapshot.recent.len(), 1);
}

#[tokio::test]
async fn what_the_proxy_does_not_do_since_it_stops_is_no_error_of_mongodb() {
    let (mut both, metrics) = observed();
    both.stop.send(Stage::Draining).unwrap();
    let hello = msg(0, &body(&doc! {"hello": 1, "$db": "admin"}));
    both.client.write_all(&hello).await.unwrap();
    read(&mut both.client).await;
    let (lines, snapshot) = counted(both, &metrics).await;
    assert_eq!(lines, ["hello admin refused 1"]);
    // Nobody asked for what may not be.
    assert!(snapshot.refusals.iter().all(|(_, count)| *count == 0));
}

#[tokio::test]
async fn a_command_that_is_cut_off_counts_with_the_time_that_mongodb_had_it() {
    let (mut both, metrics) = observed();
    both.client.write_all(&ping(1)).await.unwrap();
    read(&mut both.mongodb).await;
    let pause = Duration::from_millis(20);
    tokio::time::sleep(pause).await;
    let (lines, snapshot) = counted(both, &metrics).await;
    assert_eq!(lines, ["ping admin sent 1"]);
    let [_, _, _, upstream, _] = snapshot.phases;
    assert!(upstream.sum >= pause.as_secs_f64());
}

#[tokio::test]
async fn what_a_hello_waits_for_is_not_counted_as_time() {
    let (mut both, metrics) = observed();
    let hello = msg(0, &body(&doc! {"hello": 1, "$db": "admin"}));
    both.client.write_all(&hello).await.unwrap();
    read(&mut both.mongodb).await;
    // As long as nothing else here takes by far.
    let pause = Duration::from_secs(2);
    tokio::time::sleep(pause).await;
    let told = doc! {"isWritablePrimary": true, "ok": 1.0};
    let reply = numbered(msg(0, &body(&told)), 9, 7);
    both.mongodb.write_all(&reply).await.unwrap();
    read(&mut both.client).await;
    let (lines, snapshot) = counted(both, &metrics).await;
    assert_eq!(lines, ["hello admin ok 1"]);
    assert!(snapshot.requests.sum < pause.as_secs_f64());
}

#[tokio::test]
async fn bytes_that_are_no_command_count_as_none() {
    let (mut both, metrics) = observed();
    let mut bomb = Vec::new();
    Compressor::Zlib.compress(&ping(1), &mut bomb).unwrap();
    bomb[20..24].copy_from_slice(&i32::MAX.to_le_bytes());
    both.client.write_all(&bomb).await.unwrap();
    read_to_end(&mut both.client).await;
    let (lines, snapshot) = counted(both, &metrics).await;
    assert_eq!((lines.len(), snapshot.requests.count), (0, 0));
}
