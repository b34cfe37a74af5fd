//! Bytes that were recorded on the network are sent again.

use std::process::Command;

use mongodb::Client;
use mongodb::bson::{Document, doc};

use super::{SCHEMA, World, ada};
use crate::support::wire::{Wire, answer, split};
use crate::support::{
    Proxy, ProxyOptions, Recorded, Relay, ReplicaSet, ReplicaSetOptions, new_directory,
    shared_replica_set, unique_database,
};

/// The recorded connection whose requests hold these words.
fn with(relay: &Relay, words: &str) -> Recorded {
    let holds = |bytes: &[u8]| {
        bytes
            .windows(words.len())
            .any(|part| part == words.as_bytes())
    };
    let found = relay
        .connections()
        .into_iter()
        .find(|one| holds(&one.requests));
    found.expect("it was recorded")
}

/// Sends the frames of a recording over a new connection; gives what each is answered.
async fn again(address: &str, recorded: &Recorded) -> Vec<Document> {
    let mut wire = Wire::connect(address).await;
    let mut answers = Vec::new();
    for frame in split(&recorded.requests) {
        answers.push(answer(&wire.exchange(frame).await));
    }
    answers
}

async fn people(uri: &str, database: &str) -> mongodb::Collection<Document> {
    let client = Client::with_uri_str(uri).await.unwrap();
    client.database(database).collection("people")
}

/// Without TLS and without users a recorded request is a request like any other. MongoDB knows a
/// write again by its session and number, as drivers send them, and does not do it twice.
#[tokio::test]
async fn a_recorded_write_is_not_done_twice() {
    let world = World::start().await;
    let relay = Relay::start(world.proxy.addresses()[0].clone()).await;
    // Retryable writes have numbers, and are for replica sets only.
    let uri = format!(
        "mongodb://{}/?directConnection=true&retryWrites=true",
        relay.address()
    );
    let recorded = people(&uri, world.through.name()).await;
    recorded.insert_one(ada()).await.unwrap();
    let update = doc! { "$inc": { "open": 1 }, "$set": { "note": "recorded" } };
    recorded
        .update_one(doc! { "ssn": "ssn of Ada" }, update)
        .await
        .unwrap();

    let answers = again(&world.proxy.addresses()[0], &with(&relay, "recorded")).await;
    let done = answers
        .iter()
        .filter(|answer| answer.get_i32("nModified").is_ok());
    assert_eq!(done.count(), 1, "the update was answered: {answers:?}");
    let ada = world.read(doc! { "_id": 1 }).await.unwrap().unwrap();
    assert_eq!(ada.get_i32("open").unwrap(), 2);
    let count = world.through.collection::<Document>("people");
    assert_eq!(count.count_documents(doc! {}).await.unwrap(), 1);
}

/// The server's nonce is another one on each connection, so a recorded proof is of no use, and
/// what follows it is not from someone who is logged in.
#[tokio::test]
async fn a_recorded_login_is_of_no_use_on_another_connection() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        auth: true,
        ..ReplicaSetOptions::default()
    })
    .await;
    let world = World::before(&set).await;
    let relay = Relay::start(world.proxy.addresses()[0].clone()).await;
    let uri = set.uri_through(&[relay.address().to_owned()]);
    let uri = uri.replace("replicaSet=rs", "directConnection=true");
    let recorded = people(&uri, world.through.name()).await;
    recorded.insert_one(ada()).await.unwrap();
    let delete = doc! { "ssn": "ssn of Ada" };
    recorded.delete_one(delete).await.unwrap();

    let recording = with(&relay, "ssn of Ada");
    let answers = again(&world.proxy.addresses()[0], &recording).await;
    let codes: Vec<i32> = answers
        .iter()
        .filter_map(|answer| answer.get_i32("code").ok())
        .collect();
    // The proof, the insert and the delete; a `hello` is for everybody.
    assert_eq!(codes, [18, 13, 13], "{answers:?}");
    let stored = set.client().await.database(world.through.name());
    let stored = stored.collection::<Document>("people");
    assert_eq!(stored.count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn recorded_tls_is_of_no_use_on_another_connection() {
    let directory = new_directory("replayed");
    let certs = directory.join("certs");
    let made = Command::new(env!("CARGO_BIN_EXE_fieldseal"))
        .arg("certs")
        .arg(&certs)
        .output();
    assert!(made.unwrap().status.success());
    let (identity, ca) = (certs.join("proxy.pem"), certs.join("ca.pem"));
    let configuration = format!("[tls.listen]\ncert = {identity:?}\n");
    let options = ProxyOptions {
        schema: SCHEMA,
        configuration: &configuration,
        log_level: "debug",
        ..ProxyOptions::default()
    };
    let set = shared_replica_set().await;
    let mut proxy = Proxy::start_with(set, options).await;
    let database = unique_database("attacks");
    let relay = Relay::start(proxy.addresses()[0].clone()).await;
    let uri = format!(
        "mongodb://{}/?directConnection=true&tls=true&tlsCAFile={}",
        relay.address(),
        ca.display()
    );
    let client = Client::with_uri_str(&uri).await.unwrap();
    let people = client.database(&database).collection::<Document>("people");
    people.insert_one(ada()).await.unwrap();
    people.delete_one(doc! { "_id": 1 }).await.unwrap();
    client.shutdown().immediate(true).await;

    for recorded in relay.connections() {
        let mut wire = Wire::connect(&proxy.addresses()[0]).await;
        wire.send(&recorded.requests).await;
        wire.finish().await;
        let answered = wire.rest().await;
        // The server's part of a handshake at most: it has keys that the recording does not fit.
        assert!(answered.len() < 8_000, "{} bytes", answered.len());
    }
    proxy
        .wait_for_log(&["WARN", "a client was turned away"])
        .await;
    let stored = set.client().await.database(&database);
    let stored = stored.collection::<Document>("people");
    assert_eq!(stored.count_documents(doc! {}).await.unwrap(), 0);
    std::fs::remove_dir_all(&directory).unwrap();
}
