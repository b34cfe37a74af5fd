//! A proxy that runs: what it takes up, what it does not, how it ends.

use std::fs;
use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Collection};

use super::{NOBODY, Place, SCHEMA};
use crate::support::wire::{Wire, body, msg};
use crate::support::{
    PATIENCE, Process, Proxy, command, error_text, fieldseal, shared_replica_set, unique_database,
};

const TAKEN_UP: &str = "schema and keyring taken up anew";
const NOT_TAKEN_UP: &str = "not taken up, the old configuration, schema and keyring stay";

/// A proxy with a collection, through it and behind it.
struct Running {
    proxy: Proxy,
    people: Collection<Document>,
    stored: Collection<Document>,
    /// Of the proxy's driver, which is kept.
    _client: Client,
}

impl Running {
    async fn start() -> Self {
        let set = shared_replica_set().await;
        let proxy = Proxy::start(set, SCHEMA).await;
        let client = proxy.client().await;
        let database = unique_database("cli");
        let direct = set.members()[0].direct_client().await;
        Self {
            people: client.database(&database).collection("people"),
            stored: direct.database(&database).collection("people"),
            proxy,
            _client: client,
        }
    }

    /// Inserts a document; gives the id of the key that sealed it.
    async fn insert(&self, id: i32) -> u32 {
        let person = doc! { "_id": id, "ssn": format!("ssn {id}"), "address": { "zip": id } };
        self.people.insert_one(&person).await.unwrap();
        let found = self.stored.find_one(doc! { "_id": id }).await.unwrap();
        let found = found.unwrap();
        let Some(Bson::Binary(sealed)) = found.get("address") else {
            panic!("not sealed: {found}");
        };
        u32::from_be_bytes(sealed.bytes[4..8].try_into().unwrap())
    }

    /// Asserts that the documents from 1 to `last` are read, and found by what is sealed.
    async fn assert_reads(&self, last: i32) {
        for id in 1..=last {
            let by_ssn = doc! { "ssn": format!("ssn {id}") };
            let found = self.people.find_one(by_ssn).await.unwrap().unwrap();
            assert_eq!(found.get_document("address").unwrap(), &doc! { "zip": id });
        }
    }

    fn rotate(&self) {
        let rotated = fieldseal(&["keys", "rotate", "default"], &self.proxy.configuration());
        assert!(rotated.status.success(), "{}", error_text(&rotated));
    }

    /// Waits until the log has `words` for the `times`th time.
    async fn wait_for(&mut self, words: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.proxy.log().matches(words).count() < times {
            assert!(
                self.proxy.process_mut().ended().is_none(),
                "{}",
                self.proxy.log()
            );
            assert!(
                Instant::now() < deadline,
                "{words}, {times}: {}",
                self.proxy.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_rotation_is_taken_up_by_itself_and_a_key_file_that_goes_back_is_not() {
    let mut running = Running::start().await;
    let keyring = running.proxy.directory().join("keyring.json");
    let old_file = fs::read(&keyring).unwrap();
    let old = running.insert(1).await;
    running.rotate();
    running.wait_for(TAKEN_UP, 1).await;
    let new = running.insert(2).await;
    assert_ne!(old, new);
    running.assert_reads(2).await;

    fs::write(&keyring, old_file).unwrap();
    running.wait_for(NOT_TAKEN_UP, 1).await;
    running
        .wait_for("went back from generation 2 to 1", 1)
        .await;
    assert_eq!(running.insert(3).await, new);
    running.assert_reads(3).await;
}

#[tokio::test]
async fn a_hangup_takes_up_the_files_at_once_changed_or_not() {
    let mut running = Running::start().await;
    let old = running.insert(1).await;
    running.proxy.process_mut().signal("HUP");
    running.wait_for(TAKEN_UP, 1).await;
    assert_eq!(running.insert(2).await, old);

    running.rotate();
    running.proxy.process_mut().signal("HUP");
    running.wait_for("generation=2", 1).await;
    assert_ne!(running.insert(3).await, old);
    running.assert_reads(3).await;
}

#[tokio::test]
async fn a_broken_file_is_told_and_the_old_schema_and_keys_stay() {
    let mut running = Running::start().await;
    let key = running.insert(1).await;
    let schema = running.proxy.directory().join("schema.toml");
    let keyring = running.proxy.directory().join("keyring.json");
    let kept = fs::read_to_string(&keyring).unwrap();
    let edited = kept.replace("\"active\"", "\"retired\"");
    assert_ne!(kept, edited);
    let breaks = [
        (
            &schema,
            SCHEMA.replace("\"string\"", "\"strng\""),
            "schema.toml:2",
        ),
        (&schema, "no schema at all".to_owned(), "schema.toml:1"),
        (&keyring, edited, "keyring.json: was edited"),
    ];
    for (times, (file, broken, said)) in (1..).zip(breaks) {
        fs::write(file, broken).unwrap();
        running.proxy.process_mut().signal("HUP");
        running.wait_for(NOT_TAKEN_UP, times).await;
        assert!(
            running.proxy.log().contains(said),
            "{}",
            running.proxy.log()
        );
        assert_eq!(running.insert(1 + i32::try_from(times).unwrap()).await, key);
        let good = if file == &schema { SCHEMA } else { &kept };
        fs::write(file, good).unwrap();
        running.proxy.process_mut().signal("HUP");
        running.wait_for(TAKEN_UP, times).await;
    }
    running.assert_reads(4).await;
    assert!(running.proxy.process_mut().ended().is_none());
}

#[tokio::test]
async fn a_new_schema_is_taken_up_by_itself() {
    let mut running = Running::start().await;
    running.insert(1).await;
    let schema = running.proxy.directory().join("schema.toml");
    fs::write(schema, format!("{SCHEMA}name = {{}}\n")).unwrap();
    running.wait_for(TAKEN_UP, 1).await;
    running
        .people
        .insert_one(doc! { "_id": 2, "name": "Ada" })
        .await
        .unwrap();
    let stored = running.stored.find_one(doc! { "_id": 2 }).await.unwrap();
    assert!(matches!(stored.unwrap().get("name"), Some(Bson::Binary(_))));
}

#[tokio::test]
async fn signals_end_the_proxy_with_0_and_close_idle_connections() {
    for signal in ["TERM", "INT"] {
        let mut running = Running::start().await;
        running.insert(1).await;
        let mut idle = Wire::connect(&running.proxy.addresses()[0]).await;
        let ping = doc! { "ping": 1, "$db": "admin" };
        idle.ask(&ping).await;
        let process = running.proxy.process_mut();
        // Its directory is not to go with it, since the log is in it.
        fs::write(process.directory().join("keep"), "").unwrap();
        process.signal(signal);
        assert_eq!(process.wait().await.code(), Some(0), "{signal}");
        assert_eq!(idle.receive().await, None);
        let log = running.proxy.log();
        assert!(log.contains("stopped") && !log.contains("cut off"), "{log}");
    }
}

#[tokio::test]
async fn without_its_upstream_the_proxy_starts_and_closes_the_connections_of_clients() {
    let place = Place::new();
    let serve = command(&["serve"], &place.configuration);
    let mut process = Process::start(&serve, place.directory.clone());
    let deadline = Instant::now() + PATIENCE;
    while !process
        .output()
        .contains("cannot ask a member for its name")
    {
        assert!(process.ended().is_none(), "{}", process.output());
        assert!(Instant::now() < deadline, "{}", process.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let output = process.output();
    let (_, rest) = output.split_once("address=").unwrap();
    let address = rest.split_whitespace().next().unwrap();
    for _ in 0..3 {
        let mut client = Wire::connect(address).await;
        client
            .send(&msg(0, &body(&doc! { "hello": 1, "$db": "admin" })))
            .await;
        assert_eq!(client.receive().await, None);
    }
    assert!(process.ended().is_none());
    let said = format!("upstream={NOBODY}");
    let output = process.output();
    assert!(
        output.contains("cannot connect to MongoDB") && output.contains(&said),
        "{output}"
    );
}
