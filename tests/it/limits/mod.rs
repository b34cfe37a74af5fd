//! Limits and input checks: what is over one gets the documented answer, and the others notice nothing.

mod commands;
mod connections;
mod injections;
mod javascript;
mod messages;
mod rates;

use mongodb::bson::{Document, doc};

use crate::support::wire::Wire;
use crate::support::{Proxy, ProxyOptions, shared_replica_set, unique_database};

const SCHEMA: &str =
    "[collections.\"*.people\".fields]\nssn = { type = \"string\", queries = [\"equality\"] }\n";

/// Another client's address than 127.0.0.1.
const OTHER: &str = "127.0.0.2";

/// A proxy with these sections in its configuration, before the set that tests share.
async fn start(configuration: &str) -> Proxy {
    start_with(SCHEMA, configuration).await
}

async fn start_with(schema: &str, configuration: &str) -> Proxy {
    let options = ProxyOptions {
        schema,
        configuration,
        log_level: "info",
        ..ProxyOptions::default()
    };
    Proxy::start_with(shared_replica_set().await, options).await
}

/// A client from 127.0.0.1.
async fn one(proxy: &Proxy) -> Wire {
    Wire::connect(&proxy.addresses()[0]).await
}

/// A client from [`OTHER`].
async fn other(proxy: &Proxy) -> Wire {
    Wire::connect_from(OTHER, &proxy.addresses()[0]).await
}

/// Writes a sealed field, and finds it by its value.
async fn writes_and_finds(wire: &mut Wire, database: &str, id: i32) {
    let ssn = format!("{id:09}");
    let person = doc! { "_id": id, "ssn": &ssn };
    let insert = doc! { "insert": "people", "documents": [&person], "$db": database };
    let answer = wire.ask(&insert).await;
    assert_eq!(answer.get_i32("n").ok(), Some(1), "{answer}");
    let find = doc! { "find": "people", "filter": { "ssn": ssn }, "$db": database };
    let answer = wire.ask(&find).await;
    let cursor = answer.get_document("cursor").unwrap();
    assert_eq!(cursor.get_array("firstBatch").unwrap(), &[person.into()]);
}

/// The code of an answer that is an error; 0 of another one.
fn code(answer: &Document) -> i32 {
    answer.get_i32("code").unwrap_or(0)
}
