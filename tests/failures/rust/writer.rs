//! The writer on Rust's driver; what it does is in ../README.md.
#![allow(clippy::unwrap_used, reason = "a program of the tests")]

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use mongodb::bson::{Document, doc};
use mongodb::options::{CollectionOptions, ReadPreference, SelectionCriteria};
use mongodb::{Client, Collection, Database};

/// How one thing went, if not wrong or with an error of the driver.
enum Outcome {
    Done,
    Absent,
    Wrong,
}

type Answer = Result<Outcome, mongodb::error::Error>;

fn person(worker: i32, number: i32) -> Document {
    let name = format!("{worker}-{number}");
    doc! {
        "_id": &name,
        "worker": worker,
        "number": number,
        "ssn": format!("ssn {name}"),
        "note": format!("note {name}"),
    }
}

async fn tell(worker: i32, op: &str, number: i32, work: impl Future<Output = Answer>) -> bool {
    let at = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let began = Instant::now();
    let (outcome, text) = match work.await {
        Ok(Outcome::Done) => ("ok", String::new()),
        Ok(Outcome::Absent) => ("absent", String::new()),
        Ok(Outcome::Wrong) => ("wrong", "another document, or other values".to_owned()),
        Err(error) => ("failed", error.to_string().chars().take(300).collect()),
    };
    let line = serde_json::json!({
        "at": at.as_secs_f64(), "took": began.elapsed().as_secs_f64(),
        "worker": worker, "op": op, "number": number, "outcome": outcome, "text": text,
    });
    println!("{line}");
    outcome == "ok"
}

async fn count(counters: &Collection<Document>, worker: i32) -> Answer {
    let done = counters
        .update_one(doc! { "_id": worker }, doc! { "$inc": { "n": 1 } })
        .await?;
    Ok(match done.matched_count {
        1 => Outcome::Done,
        _ => Outcome::Absent,
    })
}

async fn insert(people: &Collection<Document>, one: &Document) -> Answer {
    people.insert_one(one).await?;
    Ok(Outcome::Done)
}

async fn find(reading: &Collection<Document>, filter: Document, expected: &Document) -> Answer {
    Ok(match reading.find_one(filter).await? {
        None => Outcome::Absent,
        Some(answer) if answer == *expected => Outcome::Done,
        Some(_) => Outcome::Wrong,
    })
}

/// A number below `bound`, of no quality.
fn any_below(bound: usize) -> usize {
    let nanoseconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    usize::try_from(nanoseconds / 1000).unwrap() % bound
}

async fn work(
    database: Database,
    reading: Collection<Document>,
    worker: i32,
    ended: Arc<AtomicBool>,
) {
    let (counters, people) = (
        database.collection("counters"),
        database.collection("people"),
    );
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while !ended.load(Ordering::Relaxed) {
        number += 1;
        let one = person(worker, number);
        tell(worker, "count", number, count(&counters, worker)).await;
        if tell(worker, "insert", number, insert(&people, &one)).await {
            acknowledged.push(number);
            let ssn = one.get_str("ssn").unwrap();
            let finding = find(&reading, doc! { "ssn": ssn }, &one);
            tell(worker, "find", number, finding).await;
        }
        if !acknowledged.is_empty() {
            let number = acknowledged[any_below(acknowledged.len())];
            let old = person(worker, number);
            let id = old.get_str("_id").unwrap();
            let finding = find(&reading, doc! { "_id": id }, &old);
            tell(worker, "read", number, finding).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let setting = |name| std::env::var(name).unwrap();
    let client = Client::with_uri_str(setting("URI")).await.unwrap();
    let database = client.database(&setting("DATABASE"));
    let preference = match setting("READ").as_str() {
        "secondaryPreferred" => ReadPreference::SecondaryPreferred { options: None },
        _ => ReadPreference::Primary,
    };
    let options = CollectionOptions::builder()
        .selection_criteria(SelectionCriteria::ReadPreference(preference))
        .build();
    let reading = database.collection_with_options("people", options);
    let ended = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..setting("WORKERS").parse().unwrap())
        .map(|worker| {
            let work = work(
                database.clone(),
                reading.clone(),
                worker,
                Arc::clone(&ended),
            );
            tokio::spawn(work)
        })
        .collect();
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap();
    ended.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    println!("{}", serde_json::json!({ "version": "of Cargo.lock" }));
}
