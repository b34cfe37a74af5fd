//! One proxy takes over from another, and what drivers try again is done, once.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use mongodb::{Client, Collection};

use super::SCHEMA;
use crate::support::{
    PATIENCE, Process, ProxyOptions, ReplicaSet, ReplicaSetOptions, command, error_text, fieldseal,
    new_directory, write_configuration,
};

/// How many clients write.
const WRITERS: i32 = 6;

/// A configuration whose addresses stay when processes come and go.
struct Place {
    directory: PathBuf,
    file: PathBuf,
    addresses: Vec<String>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Place {
    fn new(set: &ReplicaSet, reuse_port: bool) -> Self {
        let directory = new_directory("life");
        let options = ProxyOptions {
            schema: SCHEMA,
            log_level: "info",
            ..ProxyOptions::default()
        };
        let file = write_configuration(&directory, &set.addresses(), options);
        // All at once, so that they differ.
        let listeners: Vec<_> = (set.addresses().iter())
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let mut text = std::fs::read_to_string(&file).unwrap();
        let mut addresses = Vec::new();
        for listener in listeners {
            let address = listener.local_addr().unwrap().to_string();
            let route = format!("listen = \"{address}\"\nreuse_port = {reuse_port}");
            text = text.replacen("listen = \"127.0.0.1:0\"", &route, 1);
            addresses.push(address);
        }
        std::fs::write(&file, text).unwrap();
        let done = fieldseal(&["keys", "init"], &file);
        assert!(done.status.success(), "{}", error_text(&done));
        Self {
            directory,
            file,
            addresses,
        }
    }

    /// Another process, which serves.
    async fn start(&self) -> Process {
        let mut process = Process::start(&command(&["serve"], &self.file), new_directory("proxy"));
        let deadline = Instant::now() + PATIENCE;
        while !process.output().contains(" serving") {
            assert!(process.ended().is_none(), "{}", process.output());
            assert!(Instant::now() < deadline, "{}", process.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process
    }
}

async fn stop(mut process: Process) {
    std::fs::write(process.directory().join("keep"), "").unwrap();
    process.signal("TERM");
    assert_eq!(process.wait().await.code(), Some(0));
    let log = process.output();
    assert!(!log.contains("cut off"), "{log}");
}

/// Clients that count, and read what they counted, until they are told to end. None of them may
/// see an error.
struct Writers {
    going_on: Arc<AtomicBool>,
    counts: Vec<Arc<AtomicI64>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    clients: Vec<Client>,
}

impl Writers {
    async fn start(uri: &str, others: &[String]) -> Self {
        let going_on = Arc::new(AtomicBool::new(true));
        let mut writers = Self {
            going_on,
            counts: Vec::new(),
            tasks: Vec::new(),
            clients: Vec::new(),
        };
        for pair in 0..WRITERS / 2 {
            let mut options = ClientOptions::parse(uri).await.unwrap();
            for other in others {
                options.hosts.push(other.parse().unwrap());
            }
            let client = Client::with_options(options).unwrap();
            for id in [2 * pair, 2 * pair + 1] {
                let count = Arc::new(AtomicI64::new(0));
                let going_on = Arc::clone(&writers.going_on);
                let people = people(&client);
                let counted = Arc::clone(&count);
                writers.tasks.push(tokio::spawn(async move {
                    let first = doc! { "_id": id, "n": 0_i64, "ssn": "0" };
                    people.insert_one(first).await.unwrap();
                    while going_on.load(Ordering::Relaxed) {
                        step(&people, id, &counted).await;
                    }
                }));
                writers.counts.push(count);
            }
            writers.clients.push(client);
        }
        writers.wait_for_more().await;
        writers
    }

    /// Waits until each has counted five further.
    async fn wait_for_more(&self) {
        let now = || {
            self.counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
        };
        let wanted: Vec<i64> = now().map(|count| count + 5).collect();
        let deadline = Instant::now() + PATIENCE;
        while now().zip(&wanted).any(|(count, wanted)| count < *wanted) {
            assert!(
                !self.tasks.iter().any(tokio::task::JoinHandle::is_finished),
                "an error reached a writer"
            );
            assert!(Instant::now() < deadline, "no more writes are acknowledged");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asserts that each write was done, once.
    async fn end(self, set: &ReplicaSet) {
        self.going_on.store(false, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("an error reached a writer");
        }
        let direct = set.client().await;
        for (id, count) in (0_i32..).zip(&self.counts) {
            let found = people(&direct).find_one(doc! { "_id": id }).await.unwrap();
            let found = found.unwrap();
            assert_eq!(found.get_i64("n").unwrap(), count.load(Ordering::Relaxed));
            assert!(found.get_document("ssn").is_ok(), "sealed by every proxy");
        }
    }
}

fn people(client: &Client) -> Collection<Document> {
    client.database("life_rolling").collection("people")
}

async fn step(people: &Collection<Document>, id: i32, count: &AtomicI64) {
    let number = count.load(Ordering::Relaxed) + 1;
    let change = doc! { "$inc": { "n": 1_i64 }, "$set": { "ssn": number.to_string() } };
    let majority = WriteConcern::builder().w(Acknowledgment::Majority).build();
    let done = people
        .update_one(doc! { "_id": id }, change)
        .write_concern(majority)
        .await
        .unwrap();
    assert_eq!(done.matched_count, 1);
    count.store(number, Ordering::Relaxed);
    let found = people.find_one(doc! { "_id": id }).await.unwrap().unwrap();
    assert_eq!(found.get_str("ssn").unwrap(), number.to_string());
    assert_eq!(found.get_i64("n").unwrap(), number);
}

async fn three() -> ReplicaSet {
    ReplicaSet::start(ReplicaSetOptions {
        members: 3,
        ..ReplicaSetOptions::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_begins_beside_another_takes_over_and_no_client_sees_an_error() {
    let set = three().await;
    let place = Place::new(&set, true);
    let mut serving = place.start().await;
    let writers = Writers::start(&set.uri_through(&place.addresses), &[]).await;
    for _ in 0..4 {
        let next = place.start().await;
        writers.wait_for_more().await;
        stop(std::mem::replace(&mut serving, next)).await;
        writers.wait_for_more().await;
    }
    // The other order too: all went to one, then all go to the other.
    let next = place.start().await;
    stop(std::mem::replace(&mut serving, next)).await;
    writers.wait_for_more().await;
    writers.end(&set).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_stopped_and_started_again_is_waited_for_by_drivers() {
    let set = three().await;
    let (place, other) = (Place::new(&set, false), Place::new(&set, false));
    // Drivers that know both go by the names of the one that they find a primary through.
    let mut proxies = [place.start().await, other.start().await];
    let writers = Writers::start(&set.uri_through(&place.addresses), &other.addresses).await;
    for _ in 0..2 {
        for (at, place) in [&place, &other].into_iter().enumerate() {
            proxies[at].signal("TERM");
            assert_eq!(proxies[at].wait().await.code(), Some(0));
            proxies[at] = place.start().await;
            writers.wait_for_more().await;
        }
    }
    writers.end(&set).await;
}

#[tokio::test]
async fn two_proxies_share_an_address_only_if_both_say_so() {
    let set = crate::support::shared_replica_set().await;
    let (alone, shared) = (Place::new(set, false), Place::new(set, true));
    let (_first, _second) = (alone.start().await, shared.start().await);
    let _third = shared.start().await;
    let done = fieldseal(&["serve"], &alone.file);
    assert_eq!(done.status.code(), Some(1));
    let told = error_text(&done);
    assert!(
        told.contains("in use by another process") && told.contains("reuse_port"),
        "{told}"
    );
}
