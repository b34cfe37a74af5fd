//! The life of keys, as a user sees it: in a fleet of proxies, and in the key file
//! whatever happens to it.

mod crash;
mod fleet;
mod reload;
mod secrets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fieldseal::keyring::{KeyFile, Keyring, UnsealSecret};
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Collection};

use crate::support::{
    Proxy, ProxyOptions, command, error_text, fieldseal, new_directory, shared_replica_set,
    write_configuration,
};

const SCHEMA: &str = "[collections.\"keys_*.people\".fields]\nssn = { type = \"string\", queries = [\"equality\"] }\naddress = {}\n";
/// The unseal secret that [`write_configuration`] writes.
const SECRET: [u8; 32] = [0x5a; 32];

fn secret() -> UnsealSecret {
    UnsealSecret::parse("5a".repeat(32).as_bytes()).unwrap()
}

fn person(id: i32) -> Document {
    doc! { "_id": id, "ssn": format!("ssn {id}"), "address": { "zip": id } }
}

/// The id of the key under which a stored document's address is sealed.
fn key_of(stored: &Document) -> u32 {
    let Some(Bson::Binary(sealed)) = stored.get("address") else {
        panic!("not sealed: {stored}");
    };
    u32::from_be_bytes(*sealed.bytes[4..].first_chunk().unwrap())
}

/// The id of a version of the key `default`.
fn id_of(keyring: &Keyring, number: u32) -> u32 {
    let versions = &keyring.key("default").unwrap().versions;
    versions.iter().find(|it| it.number == number).unwrap().id.0
}

/// A proxy, and a collection through it.
struct Through {
    proxy: Proxy,
    people: Collection<Document>,
    /// Of the driver, which is kept.
    _client: Client,
}

impl Through {
    async fn start(database: &str, key_file: Option<&Path>) -> Self {
        let options = ProxyOptions {
            schema: SCHEMA,
            key_file,
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_with(shared_replica_set().await, options).await;
        let client = proxy.client().await;
        Self {
            people: client.database(database).collection("people"),
            proxy,
            _client: client,
        }
    }

    fn keyring(&self) -> Keyring {
        KeyFile::open(&self.proxy.key_file(), &secret()).unwrap()
    }

    async fn insert(&self, id: i32) {
        self.people.insert_one(person(id)).await.unwrap();
    }

    /// Reads a document by what is sealed.
    async fn find(&self, id: i32) -> mongodb::error::Result<Option<Document>> {
        let by_ssn = doc! { "ssn": format!("ssn {id}") };
        self.people.find_one(by_ssn).await
    }

    /// Asserts that a document is read as it was written.
    async fn assert_reads(&self, id: i32) {
        assert_eq!(self.find(id).await.unwrap(), Some(person(id)));
    }

    /// Asserts that a document is refused, with each of `words`.
    async fn assert_refused(&self, id: i32, words: &[&str]) {
        let by_id = self.people.find_one(doc! { "_id": id }).await;
        for refused in [by_id, self.find(id).await] {
            let error = refused.unwrap_err();
            let mongodb::error::ErrorKind::Command(told) = error.kind.as_ref() else {
                panic!("not an answer: {error}");
            };
            assert_eq!(told.code, 96, "{error}");
            assert!(told.message.starts_with("fieldseal: "), "{error}");
            for word in words {
                assert!(told.message.contains(word), "{word}: {error}");
            }
        }
    }
}

/// The collection behind the proxies.
async fn stored(database: &str) -> Collection<Document> {
    let member = &shared_replica_set().await.members()[0];
    let client = member.direct_client().await;
    client.database(database).collection("people")
}

async fn key_in(stored: &Collection<Document>, id: i32) -> u32 {
    key_of(&stored.find_one(doc! { "_id": id }).await.unwrap().unwrap())
}

/// A directory with a configuration and what it names, in which no proxy runs.
struct Place {
    directory: PathBuf,
    configuration: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
        // Where all directories of this run are; the last one takes it with it.
        let _ = fs::remove_dir(self.directory.parent().unwrap());
    }
}

impl Place {
    /// With a key file of one key.
    fn new() -> Self {
        let directory = new_directory("keys");
        let options = ProxyOptions {
            schema: SCHEMA,
            log_level: "info",
            ..ProxyOptions::default()
        };
        let upstreams = ["127.0.0.1:1".to_owned()];
        let place = Self {
            configuration: write_configuration(&directory, &upstreams, options),
            directory,
        };
        place.done(&["keys", "init"]);
        place
    }

    fn key_file(&self) -> PathBuf {
        self.directory.join("keyring.json")
    }

    fn keyring(&self) -> Keyring {
        KeyFile::open(&self.key_file(), &secret()).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments, &self.configuration);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command that must be done.
    #[track_caller]
    fn done(&self, arguments: &[&str]) {
        let output = fieldseal(arguments, &self.configuration);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            error_text(&output)
        );
    }

    /// Runs a command that must be refused; gives what it says.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let output = fieldseal(arguments, &self.configuration);
        let error = error_text(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        error
    }

    /// The names of all files.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut files: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
        files.sort();
        files
    }
}
