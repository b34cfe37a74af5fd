//! A job may be killed at any moment, and two may run at once.

use std::process::Stdio;
use std::time::Duration;

use mongodb::bson::{Document, doc};

use super::encrypt::{fill, person};
use super::{CANARY, Ground};
use crate::support::{ReplicaSet, ReplicaSetOptions, command};

const FIELDS: &str = r#"
ssn           = { type = "string", queries = ["equality"] }
tags          = { type = "string", queries = ["equality"] }
address       = {}
"visits.note" = { type = "string" }
"#;
const DOCUMENTS: i32 = 2500;
const KILLS: u64 = 20;

/// Starts `migrate encrypt`, slow enough not to come to its end, and kills it after so
/// many milliseconds.
async fn kill_after(ground: &Ground, milliseconds: u64) {
    let mut job = command(
        &["migrate", "encrypt", "--rate", "100"],
        &ground.configuration,
    )
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    assert!(job.try_wait().unwrap().is_none(), "it ended by itself");
    job.kill().unwrap();
    job.wait().unwrap();
}

async fn records(ground: &Ground) -> Vec<Document> {
    use futures::TryStreamExt;
    let client = ground.set.client().await;
    let records = client
        .database("fieldseal")
        .collection::<Document>("migrations");
    let all: Vec<Document> = records
        .find(doc! {})
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    all.into_iter()
        .filter(|record| record.get_str("_id").unwrap().contains(&ground.namespace()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_killed_at_any_moment_goes_on_to_the_same_end() {
    let ground = Ground::new("allow", FIELDS).await;
    fill(&ground, DOCUMENTS).await;
    let stored = ground.stored().await;
    let command = doc! {
        "createIndexes": "people",
        "indexes": [
            { "key": { "ssn": 1 }, "name": "ssn_1", "unique": true },
            { "key": { "tags": 1, "count": -1 }, "name": "tags" },
        ],
    };
    let client = ground.set.client().await;
    let database = client.database(&ground.database);
    database.run_command(command).await.unwrap();

    let mut kept = 0;
    for kill in 0..KILLS {
        // Spread, in no order, from the start of the program to some batches later.
        kill_after(&ground, 30 + (kill * 7919) % 600).await;
        kept = kept.max(records(&ground).await.len());
        assert_eq!(
            stored.count_documents(doc! {}).await.unwrap(),
            u64::try_from(DOCUMENTS).unwrap()
        );
    }
    assert_eq!(kept, 1, "no run kept how far it came");
    let done = ground.raw().await;
    let sealed = done
        .iter()
        .filter(|document| !super::holds(document, CANARY.as_bytes()))
        .count();
    assert!(sealed > 0, "no run came to a document");
    ground.succeed(&["migrate", "encrypt"]);
    ground
        .assert_all_sealed(usize::try_from(DOCUMENTS).unwrap())
        .await;
    assert!(records(&ground).await.is_empty());
    let mut names = stored.list_index_names().await.unwrap();
    names.sort();
    assert_eq!(names, ["_id_", "ssn_1", "tags"]);
    let indexes = format!(
        "{:?}",
        database
            .run_command(doc! { "listIndexes": "people" })
            .await
            .unwrap()
    );
    assert!(
        indexes.contains("ssn.e1") && indexes.contains("tags.e1"),
        "{indexes}"
    );
    let (_proxy, client) = ground.proxy().await;
    let people = ground.people(&client);
    for id in [0, 1, DOCUMENTS / 2, DOCUMENTS - 1] {
        let one = people.find_one(doc! { "_id": id }).await.unwrap();
        assert_eq!(one, Some(person(id)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_jobs_at_once_do_what_one_does() {
    let ground = Ground::new("allow", FIELDS).await;
    fill(&ground, 1500).await;
    let stored = ground.stored().await;
    let index = mongodb::IndexModel::builder()
        .keys(doc! { "ssn": 1 })
        .options(
            mongodb::options::IndexOptions::builder()
                .unique(true)
                .build(),
        )
        .build();
    stored.create_index(index).await.unwrap();
    let arguments = ["migrate", "encrypt"];
    let (one, other) = tokio::join!(
        ground.succeed_meanwhile(&arguments),
        ground.succeed_meanwhile(&arguments)
    );
    assert!(one.contains("nothing is left"), "{one}");
    assert!(other.contains("nothing is left"), "{other}");
    ground.assert_all_sealed(1500).await;
    assert!(records(&ground).await.is_empty());
    let mut names = stored.list_index_names().await.unwrap();
    names.sort();
    assert_eq!(names, ["_id_", "ssn_1"]);
    let sealed = ground.raw().await;
    ground.succeed(&arguments);
    assert_eq!(ground.raw().await, sealed);
    assert!(!format!("{sealed:?}").contains(CANARY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elections_hold_a_job_up_and_do_no_harm() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        members: 3,
        ..ReplicaSetOptions::default()
    })
    .await;
    // It ends with the process of the tests.
    let ground = Ground::on(Box::leak(Box::new(set)), "allow", FIELDS).await;
    fill(&ground, DOCUMENTS).await;
    let client = ground.set.client().await;
    let elections = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let step_down = doc! { "replSetStepDown": 3, "force": true };
            // It may be between two elections, and it may cut this very connection.
            let _ = client.database("admin").run_command(step_down).await;
        }
    };
    let (text, ()) = tokio::join!(
        ground.succeed_meanwhile(&["migrate", "encrypt", "--rate", "1500"]),
        elections
    );
    assert!(text.contains("nothing is left"), "{text}");
    ground
        .assert_all_sealed(usize::try_from(DOCUMENTS).unwrap())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_interrupted_says_how_to_go_on() {
    let ground = Ground::new("allow", FIELDS).await;
    fill(&ground, 600).await;
    let job = command(
        &["migrate", "encrypt", "--rate", "200"],
        &ground.configuration,
    )
    .stdout(Stdio::null())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    while ground
        .stored()
        .await
        .count_documents(doc! { "ssn.e1": { "$exists": true } })
        .await
        .unwrap()
        == 0
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let interrupt = std::process::Command::new("kill")
        .args(["-s", "INT", &job.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupt.success());
    let output = job.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("stopped; run the same command again"),
        "{told}"
    );
    let text = ground.succeed(&["migrate", "encrypt"]);
    assert!(
        text.contains("going on from where it was stopped"),
        "{text}"
    );
    ground.assert_all_sealed(600).await;
}
