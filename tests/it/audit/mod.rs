//! The audit log, as who reads it later finds it.

mod events;
mod failure;
mod whole;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use serde_json::Value;

use crate::support::wire::Wire;
use crate::support::{
    PATIENCE, Proxy, ProxyOptions, error_text, fieldseal, shared_replica_set, unique_database,
};

const SCHEMA: &str = "[collections.\"audit_*.people\".fields]\n\
    ssn  = { type = \"string\", queries = [\"equality\"], audit = true }\n\
    tags = { type = \"string\", queries = [\"equality\"], audit = true }\n\
    note = { type = \"string\" }\n";

/// What must never be in a log.
const CANARY: &str = "CANARY-451-22-9981";

/// A proxy that keeps an audit log.
struct Audited {
    proxy: Proxy,
    database: String,
}

impl Audited {
    async fn start() -> Self {
        Self::start_with("").await
    }

    /// With more keys of `[audit]`.
    async fn start_with(more: &str) -> Self {
        let options = ProxyOptions {
            schema: SCHEMA,
            configuration: &format!("[audit]\nfile = \"audit.jsonl\"\n{more}"),
            ..ProxyOptions::default()
        };
        Self {
            proxy: Proxy::start_with(shared_replica_set().await, options).await,
            database: unique_database("audit"),
        }
    }

    fn file(&self) -> PathBuf {
        self.proxy.directory().join("audit.jsonl")
    }

    async fn client(&self) -> Wire {
        let mut client = Wire::connect(&self.proxy.addresses()[0]).await;
        client.hello().await;
        client
    }

    async fn insert(&self, client: &mut Wire, id: i32) {
        let person = doc! { "_id": id, "ssn": CANARY, "tags": [CANARY, "b"], "note": CANARY };
        let command = doc! { "insert": "people", "documents": [person], "$db": &self.database };
        let answer = client.ask(&command).await;
        assert_eq!(answer.get_f64("ok").ok(), Some(1.0), "{answer}");
    }

    fn find(&self) -> Document {
        doc! { "find": "people", "$db": &self.database }
    }

    /// A command that is refused.
    fn refused(&self) -> Document {
        doc! { "find": "people", "filter": { "note": CANARY }, "$db": &self.database }
    }

    /// The lines of the log with this event.
    fn events(&self, name: &str) -> Vec<Value> {
        events(&self.file(), name)
    }

    /// Waits until there are so many lines with this event.
    async fn wait_for(&self, name: &str, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.events(name);
            if found.len() >= count {
                return found;
            }
            assert!(Instant::now() < deadline, "{name}: {found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the proxy as a service manager does; its files stay.
    async fn stop(&mut self) {
        fs::write(self.proxy.directory().join("keep"), "").unwrap();
        self.proxy.process_mut().signal("TERM");
        self.proxy.process_mut().wait().await;
    }

    /// `fieldseal audit verify --json` with these arguments: its exit code, and what it says.
    fn verify(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.run(&[&["audit", "verify", "--json"], arguments].concat());
        let said = serde_json::from_slice(&output.stdout);
        let said = said.unwrap_or_else(|_| panic!("{}", error_text(&output)));
        (output.status.code().unwrap(), said)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        fieldseal(arguments, &self.proxy.configuration())
    }
}

/// The whole lines of a file with this event.
fn events(file: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["event"] == name)
        .collect()
}
