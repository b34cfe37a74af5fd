//! `fieldseal migrate` on a real replica set, while services write and read.

mod crashes;
mod decrypt;
mod encrypt;
mod indexes;
mod refused;
mod reindex;
mod rotate;
mod values;

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use futures::TryStreamExt;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::{Client, Collection};

use crate::support::{
    PATIENCE, Process, ProxyOptions, ReplicaSet, command, error_text, fieldseal, new_directory,
    shared_replica_set, unique_database, write_configuration,
};

/// What every plain value of a sealed field holds in these tests.
const CANARY: &str = "PLAIN-";

/// A configuration that jobs and proxies share, and the database that they work on.
struct Ground {
    set: &'static ReplicaSet,
    directory: PathBuf,
    configuration: PathBuf,
    database: String,
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
        let _ = fs::remove_dir(self.directory.parent().unwrap());
    }
}

impl Ground {
    /// A schema of one collection, `people` of a database of its own.
    async fn new(on_plaintext: &str, fields: &str) -> Self {
        Self::on(shared_replica_set().await, on_plaintext, fields).await
    }

    /// The same on a replica set of its own.
    async fn on(set: &'static ReplicaSet, on_plaintext: &str, fields: &str) -> Self {
        let database = unique_database("migrate");
        let directory = new_directory("migrate");
        let options = ProxyOptions {
            log_level: "info",
            ..ProxyOptions::default()
        };
        let configuration = write_configuration(&directory, &set.addresses(), options);
        let ground = Self {
            set,
            directory,
            configuration,
            database,
        };
        ground.schema(on_plaintext, fields);
        ground.succeed(&["keys", "init"]);
        ground
    }

    /// Writes the schema.
    fn schema(&self, on_plaintext: &str, fields: &str) {
        let text = format!(
            "[collections.\"{0}.people\"]\non_plaintext = \"{on_plaintext}\"\n[collections.\"{0}.people\".fields]\n{fields}\n",
            self.database
        );
        fs::write(self.directory.join("schema.toml"), text).unwrap();
    }

    fn namespace(&self) -> String {
        format!("{}.people", self.database)
    }

    /// Runs a command of the program to its end.
    fn run(&self, arguments: &[&str]) -> Output {
        fieldseal(arguments, &self.configuration)
    }

    /// The same, and it must succeed; what it wrote to standard output.
    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}{text}",
            error_text(&output)
        );
        text
    }

    /// The same, and it must fail with exit code 1; what it wrote to standard error.
    fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        error_text(&output)
    }

    /// The same in a thread of its own, so that others go on meanwhile.
    async fn succeed_meanwhile(&self, arguments: &[&str]) -> String {
        let mut command = command(arguments, &self.configuration);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}{text}", error_text(&output));
        text
    }

    /// The same, and it must fail with exit code 1; what it wrote to standard error.
    async fn fail_meanwhile(&self, arguments: &[&str]) -> String {
        let mut command = command(arguments, &self.configuration);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        error_text(&output)
    }

    /// The collection as MongoDB has it.
    async fn stored(&self) -> Collection<Document> {
        let client = self.set.client().await;
        client.database(&self.database).collection("people")
    }

    /// Every document as MongoDB has it, byte for byte.
    async fn raw(&self) -> Vec<RawDocumentBuf> {
        let stored = self.stored().await.clone_with_type::<RawDocumentBuf>();
        let found = stored.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
        found.try_collect().await.unwrap()
    }

    /// Asserts that MongoDB has no plaintext, but `documents` documents.
    async fn assert_all_sealed(&self, documents: usize) {
        let raw = self.raw().await;
        assert_eq!(raw.len(), documents);
        for document in raw {
            assert!(!holds(&document, CANARY.as_bytes()), "{document:?}");
        }
    }

    /// A proxy with this configuration, and a client through it.
    async fn proxy(&self) -> (Serving, Client) {
        let directory = new_directory("proxy");
        let mut command = command(&["serve"], &self.configuration);
        command.current_dir(&self.directory);
        let mut serving = Serving(Process::start(&command, directory));
        let line = serving.wait_for("listening address=", 1).await;
        let (_, rest) = line.split_once("address=").unwrap();
        let address = rest.split_whitespace().next().unwrap().trim_matches('"');
        let uri = self.set.uri_through(&[address.to_owned()]);
        (serving, Client::with_uri_str(uri).await.unwrap())
    }

    /// The collection through a proxy.
    fn people(&self, client: &Client) -> Collection<Document> {
        client.database(&self.database).collection("people")
    }
}

/// A running proxy.
struct Serving(Process);

impl Serving {
    /// Waits until its log has so many lines with `text`, and returns the last of them.
    async fn wait_for(&mut self, text: &str, lines: usize) -> String {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let log = self.0.output();
            if let Some(line) = log
                .lines()
                .filter(|line| line.contains(text))
                .nth(lines - 1)
            {
                return line.to_owned();
            }
            assert!(self.0.ended().is_none(), "the proxy ended:\n{log}");
            assert!(std::time::Instant::now() < deadline, "no {text:?}:\n{log}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Waits until schema and key file were taken up so many times.
    async fn has_reloaded(&mut self, times: usize) {
        self.wait_for("taken up anew", times).await;
    }
}

/// Whether a stored document holds these bytes anywhere.
fn holds(document: &RawDocumentBuf, bytes: &[u8]) -> bool {
    document
        .as_bytes()
        .windows(bytes.len())
        .any(|window| window == bytes)
}

/// The ids of the keys that the values of stored documents are sealed under.
fn key_ids(value: &Bson, ids: &mut Vec<[u8; 4]>) {
    match value {
        Bson::Binary(binary) if binary.subtype == BinarySubtype::UserDefined(0x8F) => {
            ids.push(*binary.bytes[4..].first_chunk().unwrap());
        }
        Bson::Document(document) => document.values().for_each(|value| key_ids(value, ids)),
        Bson::Array(array) => array.iter().for_each(|value| key_ids(value, ids)),
        _ => {}
    }
}

/// The report of a job on its one collection.
fn report(json: &str) -> serde_json::Value {
    let all: serde_json::Value = serde_json::from_str(json).unwrap();
    all["collections"][0].clone()
}
