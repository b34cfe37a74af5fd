//! A proxy that is told to stop lets what is under way end, and sends drivers elsewhere.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use tokio::net::TcpStream;

use super::SCHEMA;
use crate::support::wire::Wire;
use crate::support::{
    Proxy, ProxyOptions, ReplicaSet, WITH_JAVASCRIPT, shared_replica_set, unique_database,
};

struct Draining {
    set: &'static ReplicaSet,
    proxy: Proxy,
    database: String,
}

impl Draining {
    /// A proxy with people behind it, that lets what is under way go on for so many seconds.
    async fn start(seconds: u32) -> Self {
        let set = shared_replica_set().await;
        let configuration =
            format!("{WITH_JAVASCRIPT}[limits]\ndrain_timeout_seconds = {seconds}\n");
        let options = ProxyOptions {
            schema: SCHEMA,
            configuration: &configuration,
            log_level: "info",
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_with(set, options).await;
        let database = unique_database("life");
        // Not by a driver: what it goes on to ask is not for the tests to count.
        let mut wire = Wire::connect(&proxy.addresses()[0]).await;
        let people: Vec<Document> = (0..6)
            .map(|id| doc! { "_id": id, "ssn": format!("ssn {id}") })
            .collect();
        let done = wire
            .ask(&doc! { "insert": "people", "documents": people, "$db": &database })
            .await;
        assert_eq!(done.get_i32("n").unwrap(), 6, "{done}");
        // Its log is still wanted when it has ended.
        std::fs::write(proxy.directory().join("keep"), "").unwrap();
        Self {
            set,
            proxy,
            database,
        }
    }

    async fn connect(&self) -> Wire {
        let mut wire = Wire::connect(&self.proxy.addresses()[0]).await;
        assert!(wire.works().await);
        wire
    }

    /// Tells it to stop, and waits until nobody is let in any more.
    async fn stop(&mut self) {
        self.proxy.process_mut().signal("TERM");
        self.proxy.wait_for_log(&["stopping"]).await;
        while TcpStream::connect(&self.proxy.addresses()[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until it has ended, as one that did what it was told.
    async fn end(&mut self) -> String {
        let status = self.proxy.process_mut().wait().await;
        assert_eq!(status.code(), Some(0));
        let log = self.proxy.log();
        assert!(log.contains("stopped"), "{log}");
        log
    }

    /// What is stored under this id, past the proxy.
    async fn stored(&self, id: i32) -> Option<Document> {
        let people = self.set.client().await.database(&self.database);
        let people = people.collection("people");
        people.find_one(doc! { "_id": id }).await.unwrap()
    }
}

fn code(answer: &Document) -> i32 {
    assert_eq!(answer.get_f64("ok").unwrap(), 0.0, "{answer}");
    answer.get_i32("code").unwrap()
}

fn labels(answer: &Document) -> Vec<&str> {
    let labels = answer.get_array("errorLabels");
    labels.map_or_else(
        |_| Vec::new(),
        |labels| labels.iter().filter_map(Bson::as_str).collect(),
    )
}

#[tokio::test]
async fn drivers_are_sent_elsewhere_while_a_cursor_is_read_to_its_end() {
    let mut draining = Draining::start(30).await;
    let (mut reader, mut monitor) = (draining.connect().await, draining.connect().await);
    let find =
        doc! { "find": "people", "batchSize": 2, "sort": { "_id": 1 }, "$db": &draining.database };
    let first = reader.ask(&find).await;
    let cursor = first.get_document("cursor").unwrap();
    let id = cursor.get_i64("id").unwrap();
    // So that it is not closed for being quiet, however slow this machine is.
    monitor.ask(&find).await;
    draining.stop().await;

    let told = monitor.hello().await;
    assert_eq!(
        (code(&told), told.get_str("codeName").unwrap()),
        (91, "ShutdownInProgress")
    );
    // It would count for more than what MongoDB says by the next proxy.
    assert!(!told.contains_key("topologyVersion"), "{told}");
    // What drivers still send over the connections that they have is done.
    assert!(monitor.works().await);

    let mut read = cursor.get_array("firstBatch").unwrap().clone();
    let more =
        doc! { "getMore": id, "collection": "people", "batchSize": 2, "$db": &draining.database };
    loop {
        // Longer than a connection may be quiet that nothing is open on.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let batch = reader.ask(&more).await;
        let cursor = batch.get_document("cursor").unwrap();
        read.extend(cursor.get_array("nextBatch").unwrap().clone());
        if cursor.get_i64("id").unwrap() == 0 {
            break;
        }
    }
    let expected: Vec<Bson> = (0..6)
        .map(|id| Bson::Document(doc! { "_id": id, "ssn": format!("ssn {id}") }))
        .collect();
    assert_eq!(read, expected);
    assert_eq!(reader.receive().await, None);
    let log = draining.end().await;
    assert!(!log.contains("cut off"), "{log}");
}

#[tokio::test]
async fn a_transaction_that_has_begun_can_be_committed() {
    let mut draining = Draining::start(30).await;
    let mut wire = draining.connect().await;
    let session = doc! { "id": mongodb::bson::Uuid::new() };
    let part = |mut command: Document| {
        command.extend(doc! { "lsid": &session, "txnNumber": 1_i64, "autocommit": false });
        command
    };
    let insert = |id: i32| doc! { "insert": "people", "documents": [{ "_id": id, "ssn": "t" }], "$db": &draining.database };
    let mut begin = part(insert(10));
    begin.insert("startTransaction", true);
    let begun = wire.ask(&begin).await;
    assert_eq!(begun.get_f64("ok").unwrap(), 1.0, "{begun}");
    let rest = [
        part(insert(11)),
        part(doc! { "commitTransaction": 1, "$db": "admin" }),
    ];
    draining.stop().await;
    for command in rest {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let done = wire.ask(&command).await;
        assert_eq!(done.get_f64("ok").unwrap(), 1.0, "{done}");
    }
    draining.end().await;
    for id in [10, 11] {
        assert!(
            draining
                .stored(id)
                .await
                .unwrap()
                .get_document("ssn")
                .is_ok()
        );
    }
}

#[tokio::test]
async fn what_takes_longer_than_it_may_is_an_error_and_done_once_however_often_it_is_tried() {
    let mut draining = Draining::start(1).await;
    let (mut writer, mut reader) = (draining.connect().await, draining.connect().await);
    let mut open = draining.connect().await;
    let database = draining.database.clone();
    let made = open
        .ask(&doc! { "insert": "open", "documents": [{ "_id": 1, "n": 0 }], "$db": &database })
        .await;
    assert_eq!(made.get_f64("ok").unwrap(), 1.0, "{made}");
    // Kept open by a transaction that nobody ends.
    let begin = doc! {
        "find": "people", "lsid": { "id": mongodb::bson::Uuid::new() }, "txnNumber": 1_i64,
        "autocommit": false, "startTransaction": true, "$db": &database,
    };
    let begun = open.ask(&begin).await;
    assert_eq!(begun.get_f64("ok").unwrap(), 1.0, "{begun}");
    let write = doc! {
        "update": "open",
        "updates": [{ "q": { "$where": "sleep(5000) || true" }, "u": { "$inc": { "n": 1 } } }],
        "lsid": { "id": mongodb::bson::Uuid::new() },
        "txnNumber": 1_i64,
        "comment": "a write",
        "$db": &database,
    };
    writer.command(0, &write).await;
    reader.command(0, &endless(&database)).await;
    wait_until(&draining, true).await;
    draining.stop().await;

    for (wire, labelled) in [
        (&mut writer, &["RetryableWriteError"][..]),
        (&mut reader, &[]),
    ] {
        let answer = crate::support::wire::answer(&wire.receive().await.unwrap());
        assert_eq!(code(&answer), 11600);
        assert_eq!(labels(&answer), labelled);
        assert_eq!(wire.receive().await, None);
    }
    assert_eq!(open.receive().await, None);
    draining.end().await;
    // MongoDB ends what is read for a connection that has closed, but not what is written. A
    // driver's second try waits for the first one, and learns what became of it.
    wait_until(&draining, false).await;
    let mut direct = Wire::connect(&draining.set.addresses()[0]).await;
    let again = direct.ask(&write).await;
    assert_eq!(again.get_i32("n").unwrap(), 1, "{again}");
    let found = direct.ask(&doc! { "find": "open", "$db": &database }).await;
    let found = found.get_document("cursor").unwrap();
    let found = found.get_array("firstBatch").unwrap();
    assert_eq!(found, &[Bson::Document(doc! { "_id": 1, "n": 1 })]);
}

/// A command that takes longer than any test, with the database's name as its comment.
fn endless(database: &str) -> Document {
    doc! {
        "find": "open", "filter": { "$where": "sleep(300000) || true" },
        "comment": database, "$db": database,
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut draining = Draining::start(300).await;
    let mut busy = draining.connect().await;
    let database = draining.database.clone();
    let made = doc! { "insert": "open", "documents": [{ "_id": 1 }], "$db": &database };
    busy.ask(&made).await;
    busy.command(0, &endless(&database)).await;
    wait_until(&draining, true).await;
    draining.stop().await;
    assert!(draining.proxy.process_mut().ended().is_none());
    draining.proxy.process_mut().signal("TERM");
    // There may be time to say why.
    if let Some(told) = busy.receive().await {
        assert_eq!(code(&crate::support::wire::answer(&told)), 11600);
    }
    let log = draining.end().await;
    assert!(log.contains("stopped at once"), "{log}");
}

/// Waits until the operation with the database's name as its comment is under way on MongoDB, or
/// no longer is.
async fn wait_until(draining: &Draining, running: bool) {
    let admin = draining.set.client().await.database("admin");
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let operations = [
            doc! { "$currentOp": { "allUsers": true, "idleCursors": false } },
            doc! { "$match": { "command.comment": &draining.database, "active": true } },
        ];
        let mut found = admin.aggregate(operations).await.unwrap();
        if found.advance().await.unwrap() == running {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "not {running}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
