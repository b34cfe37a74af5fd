//! Bad input never ends the process or hangs a connection: each gets an error
//! that says `fieldseal`, or a closed connection.

mod compressed;
mod documents;
mod messages;
mod random;

use futures::future::join_all;
use mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};

use fieldseal::raw::kind;
use fieldseal::wire::{Compressor, flag, opcode};

use crate::support::wire::{
    Random, Wire, answer, body, compressed, document, frame, int32_at, msg, numbered, query,
    sequence,
};
use crate::support::{Proxy, ProxyOptions, ReplicaSet, shared_replica_set, unique_database};

const SCHEMA: &str = r#"
[collections."bad_*.people".fields]
ssn            = { type = "string", queries = ["equality"] }
address        = {}
"visits.a.note" = {}
"#;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    /// The connection is closed without a word.
    Closed,
    /// An error of the proxy with this code, and then the connection is closed.
    Parted(i32),
    /// An error of the proxy with this code, and the connection goes on.
    Refused(i32),
    /// An error of MongoDB, and the connection goes on.
    MongoDb,
    /// An error of either, and the connection goes on.
    Failed,
    /// It is done, and the connection goes on.
    Done,
}
use Outcome::{Closed, Done, Failed, MongoDb, Parted, Refused};

/// The code of a malformed message.
const MALFORMED: i32 = 22;
/// The code of a value of another type than the schema's.
const WRONG_TYPE: i32 = 121;
/// The code of what is not supported.
const NOT_SUPPORTED: i32 = 115;
/// The code of an unknown command.
const UNKNOWN: i32 = 59;

type Case = (String, Vec<u8>, Outcome);

fn case(name: impl Into<String>, frame: Vec<u8>, outcome: Outcome) -> Case {
    (name.into(), frame, outcome)
}

/// A proxy, a database of which `people` is sealed, and nothing in them.
async fn start(configuration: &str) -> (&'static ReplicaSet, Proxy, String) {
    let set = shared_replica_set().await;
    let proxy = Proxy::start_with(
        set,
        ProxyOptions {
            schema: SCHEMA,
            configuration,
            log_level: "info",
            ..ProxyOptions::default()
        },
    )
    .await;
    (set, proxy, unique_database("bad"))
}

/// Each case on a connection of its own, all at once.
async fn try_all(proxy: &Proxy, cases: Vec<Case>) {
    let address = &proxy.addresses()[0];
    let outcomes = cases.into_iter().map(|(name, frame, expected)| async move {
        let mut wire = Wire::connect(address).await;
        wire.send(&frame).await;
        let outcome = outcome(&mut wire).await;
        let as_expected = match expected {
            Failed => matches!(outcome, Refused(_) | MongoDb),
            expected => outcome == expected,
        };
        (!as_expected).then(|| format!("{name}: {outcome:?}, not {expected:?}"))
    });
    let wrong: Vec<String> = join_all(outcomes).await.into_iter().flatten().collect();
    assert!(
        wrong.is_empty(),
        "{}\nthe proxy's log:\n{}",
        wrong.join("\n"),
        proxy.log()
    );
}

async fn outcome(wire: &mut Wire) -> Outcome {
    let Some(reply) = wire.receive().await else {
        return Closed;
    };
    assert_eq!(crate::support::wire::response_to(&reply), 7);
    let answer = answer(&reply);
    if answer.get_f64("ok").ok() == Some(1.0) {
        if let Ok(errors) = answer.get_array("writeErrors") {
            // One statement was refused, and there is no other.
            let error = errors[0].as_document().unwrap();
            assert!(error.get_str("errmsg").unwrap().contains("fieldseal"));
            assert!(wire.works().await);
            return Refused(error.get_i32("code").unwrap());
        }
        assert!(wire.works().await);
        return Done;
    }
    let code = answer.get_i32("code").unwrap();
    if !answer.get_str("errmsg").unwrap().contains("fieldseal") {
        return if wire.works().await { MongoDb } else { Closed };
    }
    assert!(answer.contains_key("codeName"));
    // A connection that is over closes by itself; one that goes on answers.
    if wire.works().await {
        Refused(code)
    } else {
        Parted(code)
    }
}

/// The process is the one that was started, no task of it broke off, and a driver works.
async fn assert_well(set: &ReplicaSet, proxy: &mut Proxy, database: &str) {
    let people = proxy
        .client()
        .await
        .database(database)
        .collection::<Document>("people");
    let person = doc! { "_id": "well", "ssn": "123", "address": { "zip": 1 } };
    people.insert_one(&person).await.unwrap();
    let found = people.find_one(doc! { "ssn": "123" }).await.unwrap();
    assert_eq!(found, Some(person));

    let stored = set.client().await.database(database);
    let plain = doc! { "$or": [
        { "ssn": { "$type": "string" } },
        { "address": { "$type": ["object", "string", "number"] } },
    ] };
    let plain = stored
        .collection::<Document>("people")
        .find_one(plain)
        .await;
    assert_eq!(plain.unwrap(), None, "stored in plain");

    assert!(proxy.process_mut().ended().is_none(), "the proxy ended");
    for word in ["panicked", "broke off"] {
        assert!(!proxy.log().contains(word), "{}", proxy.log());
    }
}

fn insert(database: &str) -> Vec<u8> {
    let command = doc! { "insert": "people", "ordered": true, "$db": database };
    let person =
        doc! { "ssn": "900-00-0001", "address": { "street": "Long Lane" }, "city": "Rome" };
    msg(
        0,
        &[body(&command), sequence("documents", &document(&person))].concat(),
    )
}

fn find(database: &str) -> Vec<u8> {
    let filter = doc! { "ssn": "900-00-0001", "city": { "$in": ["Rome", "Oslo"] } };
    msg(
        0,
        &body(&doc! { "find": "people", "filter": filter, "batchSize": 2, "$db": database }),
    )
}

fn update(database: &str) -> Vec<u8> {
    let set = doc! { "$set": { "ssn": "900-00-0002", "address": ["x", { "y": 1 }] } };
    let change = doc! { "q": { "ssn": "900-00-0001" }, "u": set, "multi": true };
    msg(
        flag::CHECKSUM_PRESENT,
        &body(&doc! { "update": "people", "updates": [change], "$db": database }),
    )
}

/// `frame` compressed, honestly.
fn packed(compressor: Compressor, frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compressor.compress(frame, &mut out).unwrap();
    out
}

#[tokio::test]
async fn a_message_may_come_one_byte_at_a_time() {
    let (set, mut proxy, database) = start("").await;
    let mut wire = Wire::connect(&proxy.addresses()[0]).await;
    for byte in insert(&database).chunks(1) {
        assert!(wire.send(byte).await);
        tokio::task::yield_now().await;
    }
    assert_eq!(outcome(&mut wire).await, Done);
    assert_well(set, &mut proxy, &database).await;
}

#[tokio::test]
async fn who_says_nothing_is_disconnected_and_who_said_hello_may_be_silent() {
    let (set, mut proxy, database) = start("[limits]\nhandshake_timeout_seconds = 1\n").await;
    let address = &proxy.addresses()[0].clone();
    let mut known = Wire::connect(address).await;
    known.hello().await;

    let whole = &insert(&database);
    let halves = [0, 1, 15, 16, whole.len() - 1];
    let silent = halves.map(|length| async move {
        let mut wire = Wire::connect(address).await;
        wire.send(&whole[..length]).await;
        assert_eq!(wire.receive().await, None, "after {length} bytes");
    });
    let stalled = halves[1..].iter().map(|length| async move {
        let mut wire = Wire::connect(address).await;
        wire.hello().await;
        wire.send(&whole[..*length]).await;
        assert_eq!(wire.receive().await, None, "after hello and {length} bytes");
    });
    tokio::join!(join_all(silent), join_all(stalled));
    // More than the time that was given to the others.
    assert!(known.works().await);
    assert_well(set, &mut proxy, &database).await;
}
