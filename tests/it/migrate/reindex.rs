//! Tokens move to another index epoch while services read and write, and try to have
//! what another one has.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Collection};

use super::{CANARY, Ground, Serving};
use crate::support::command;

const FIELDS: &str = r#"
ssn            = { type = "string", queries = ["equality"] }
tags           = { type = "string", queries = ["equality"] }
"visits.nurse" = { type = "string", queries = ["equality"] }
address        = {}
"#;
const DOCUMENTS: i32 = 1500;

fn ssn(id: i32) -> String {
    format!("{CANARY}{id}")
}

fn person(id: i32) -> Document {
    doc! {
        "_id": id, "count": 0, "ssn": ssn(id), "tags": [ssn(-id), "all"],
        "visits": [{ "nurse": ssn(id), "at": 1 }], "address": { "street": CANARY },
    }
}

/// What a service did, and whether it shall end.
#[derive(Default)]
struct Service {
    end: AtomicBool,
    rounds: AtomicU64,
}

/// Reads by what is sealed, changes it, and tries to have the value of another: without a pause.
async fn serve(people: Collection<Document>, service: Arc<Service>, from: i32) {
    let mut id = from;
    while !service.end.load(Ordering::Relaxed) {
        id = (id + 617) % DOCUMENTS;
        let mut one = people
            .find_one(doc! { "ssn": ssn(id) })
            .await
            .unwrap()
            .unwrap();
        one.insert("count", 0);
        assert_eq!(one, person(id));
        let by_tag = doc! { "tags": ssn(-id), "visits.nurse": ssn(id) };
        let hint = mongodb::options::Hint::Name("tags_1".to_owned());
        assert_eq!(people.count_documents(by_tag).hint(hint).await.unwrap(), 1);

        let set = doc! { "ssn": ssn(id), "visits": [{ "nurse": ssn(id), "at": 1 }] };
        let update = doc! { "$inc": { "count": 1 }, "$set": set };
        let done = people.update_one(doc! { "ssn": ssn(id) }, update).await;
        assert_eq!(done.unwrap().modified_count, 1);

        let mut again = person(id);
        again.insert("_id", "again");
        let refused = people.insert_one(again).await.unwrap_err().to_string();
        assert!(
            refused.contains("E11000") && refused.contains("index: ssn_1 "),
            "{refused}"
        );
        let other = doc! { "ssn": ssn((id + 1) % DOCUMENTS) };
        let taken = people
            .update_one(other, doc! { "$set": { "ssn": ssn(id) } })
            .await;
        let refused = taken.unwrap_err().to_string();
        assert!(refused.contains("E11000"), "{refused}");

        let mut fresh = person(DOCUMENTS + from);
        fresh.insert("_id", format!("fresh {from}"));
        people.insert_one(fresh).await.unwrap();
        let gone = people
            .delete_one(doc! { "ssn": ssn(DOCUMENTS + from) })
            .await;
        assert_eq!(gone.unwrap().deleted_count, 1);
        service.rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// Two proxies on one key file, and services through both.
struct World {
    ground: Ground,
    proxies: Vec<(Serving, Client)>,
    reloads: usize,
    service: Arc<Service>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl World {
    async fn start() -> Self {
        let ground = Ground::new("reject", FIELDS).await;
        let proxies = vec![ground.proxy().await, ground.proxy().await];
        let people = ground.people(&proxies[0].1);
        people
            .insert_many((0..DOCUMENTS).map(person))
            .await
            .unwrap();
        let mut world = Self {
            ground,
            proxies,
            reloads: 0,
            service: Arc::default(),
            tasks: Vec::new(),
        };
        world.make_indexes().await;
        for (number, (_, client)) in (1..).zip(&world.proxies) {
            let people = world.ground.people(client);
            let service = Arc::clone(&world.service);
            world
                .tasks
                .push(tokio::spawn(serve(people, service, number)));
        }
        world.go_on().await;
        world
    }

    /// What a service does at its start.
    async fn make_indexes(&self) {
        let indexes = doc! { "createIndexes": "people", "indexes": [
            { "key": { "ssn": 1 }, "name": "ssn_1", "unique": true },
            { "key": { "tags": 1, "count": -1 }, "name": "tags_1" },
            { "key": { "count": 1 }, "name": "nurses", "partialFilterExpression": { "visits.nurse": { "$type": "string" } } },
        ] };
        for (_, client) in &self.proxies {
            let database = client.database(&self.ground.database);
            database.run_command(indexes.clone()).await.unwrap();
        }
    }

    /// Changes the key file, and waits until both proxies have taken it up.
    async fn keys(&mut self, arguments: &[&str]) {
        self.ground.succeed(&[&["keys"], arguments].concat());
        self.reloads += 1;
        for (serving, _) in &mut self.proxies {
            serving.has_reloaded(self.reloads).await;
        }
        self.go_on().await;
    }

    /// Waits until both services have gone round once more, and none has failed.
    async fn go_on(&self) {
        let before = self.service.rounds.load(Ordering::Relaxed);
        while self.service.rounds.load(Ordering::Relaxed) < before + 8 {
            assert!(
                self.tasks.iter().all(|task| !task.is_finished()),
                "a service failed"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn reindex(&self) -> String {
        let text = self.ground.succeed_meanwhile(&["migrate", "reindex"]).await;
        self.go_on().await;
        self.assert_indexes().await;
        text
    }

    /// Asserts that services see their indexes, once each.
    async fn assert_indexes(&self) {
        self.make_indexes().await;
        for (_, client) in &self.proxies {
            let mut names = self.ground.people(client).list_index_names().await.unwrap();
            names.sort();
            assert_eq!(names, ["_id_", "nurses", "ssn_1", "tags_1"]);
        }
    }

    async fn stored_indexes(&self) -> Vec<String> {
        let mut names = self.ground.stored().await.list_index_names().await.unwrap();
        names.sort();
        names
    }

    /// The names of the tokens that all sealed values with tokens have.
    async fn stored_tokens(&self) -> Vec<String> {
        let stored = self.ground.stored().await;
        let all: Vec<Document> = stored
            .find(doc! {})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let mut found = Vec::new();
        for document in all {
            tokens(&Bson::Document(document), &mut found);
        }
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    async fn stop(self) -> Ground {
        self.go_on().await;
        self.service.end.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.ground
    }
}

fn tokens(value: &Bson, found: &mut Vec<Vec<String>>) {
    match value {
        Bson::Document(sealed) if sealed.contains_key("c") => {
            found.push(sealed.keys().skip(1).cloned().collect());
        }
        Bson::Document(document) => document.values().for_each(|value| tokens(value, found)),
        Bson::Array(items) => items.iter().for_each(|item| tokens(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equality_and_uniqueness_hold_at_every_moment_of_a_move_to_another_index_epoch() {
    let mut world = World::start().await;
    let first = world.reindex().await;
    assert!(
        first.contains("fieldseal keys stage default --epoch"),
        "{first}"
    );

    world.keys(&["stage", "default", "--epoch"]).await;
    let dry = world.ground.succeed(&["migrate", "reindex", "--dry-run"]);
    assert!(
        dry.contains("would be given tokens") && dry.contains("\"ssn_1~2\""),
        "{dry}"
    );
    assert_eq!(world.stored_indexes().await.len(), 4);
    let filled = world.reindex().await;
    assert!(
        filled.contains("fieldseal keys promote default --epoch 2"),
        "{filled}"
    );
    assert_eq!(world.stored_tokens().await, ["e1", "e2"]);
    let all = [
        "_id_", "nurses", "nurses~2", "ssn_1", "ssn_1~2", "tags_1", "tags_1~2",
    ];
    assert_eq!(world.stored_indexes().await, all);
    let again = world.reindex().await;
    assert!(again.contains("; 0 given tokens"), "{again}");

    world
        .keys(&["promote", "default", "--epoch", "--yes"])
        .await;
    world.assert_indexes().await;
    let switched = world.reindex().await;
    assert!(
        switched.contains("fieldseal keys disable default --epoch 1"),
        "{switched}"
    );
    let new = ["_id_", "nurses~2", "ssn_1~2", "tags_1~2"];
    assert_eq!(world.stored_indexes().await, new);

    world.keys(&["disable", "default", "--epoch", "1"]).await;
    let cleared = world.reindex().await;
    assert!(
        cleared.contains("fieldseal keys destroy default --epoch 1"),
        "{cleared}"
    );
    assert_eq!(world.stored_tokens().await, ["e2"]);
    world
        .keys(&["destroy", "default", "--epoch", "1", "--yes"])
        .await;
    let end = world.reindex().await;
    assert!(
        end.contains("fieldseal keys stage default --epoch"),
        "{end}"
    );

    let ground = world.stop().await;
    let stored = ground.stored().await;
    let number = stored.count_documents(doc! {}).await.unwrap();
    assert_eq!(number, u64::try_from(DOCUMENTS).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_made_in_one_go_where_all_proxies_share_the_key_file() {
    let world = World::start().await;
    let arguments = ["migrate", "reindex", "--settle", "3", "--json"];
    let text = world.ground.succeed_meanwhile(&arguments).await;
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        told["next"][0]["command"],
        "fieldseal keys destroy default --epoch 1"
    );
    world.assert_indexes().await;
    assert_eq!(
        world.stored_indexes().await,
        ["_id_", "nurses~2", "ssn_1~2", "tags_1~2"]
    );
    assert_eq!(world.stored_tokens().await, ["e2"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_killed_at_any_moment_goes_on_to_the_same_end() {
    let mut world = World::start().await;
    for (step, epochs) in [
        ("stage", vec!["e1", "e2"]),
        ("promote", vec!["e1", "e2"]),
        ("disable", vec!["e2"]),
    ] {
        let number = if step == "disable" { "1" } else { "2" };
        let arguments = [step, "default", "--epoch", number, "--yes"];
        let arguments = match step {
            "promote" => &arguments[..],
            "disable" => &arguments[..4],
            _ => &arguments[..3],
        };
        world.keys(arguments).await;
        for kill in 0..7_u64 {
            let mut job = command(
                &["migrate", "reindex", "--rate", "3000"],
                &world.ground.configuration,
            )
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
            tokio::time::sleep(Duration::from_millis(30 + (kill * 7919) % 600)).await;
            job.kill().unwrap();
            job.wait().unwrap();
            world.go_on().await;
        }
        world.reindex().await;
        assert_eq!(world.stored_tokens().await, epochs);
    }
    assert_eq!(
        world.stored_indexes().await,
        ["_id_", "nurses~2", "ssn_1~2", "tags_1~2"]
    );
    world.stop().await;
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_move_is_told() {
    let ground = Ground::new("reject", FIELDS).await;
    let (_serving, client) = ground.proxy().await;
    let people = ground.people(&client);
    people.insert_many((0..3).map(person)).await.unwrap();
    let database = client.database(&ground.database);
    let partial = |value: &str| {
        doc! { "createIndexes": "people", "indexes": [{
            "key": { "count": 1 }, "name": value, "partialFilterExpression": { "ssn": value },
        }] }
    };
    database.run_command(partial(&ssn(1))).await.unwrap();
    // Made on MongoDB itself: through the proxy none names a token.
    let tokens = doc! { "$match": { "ssn.e1": { "$exists": true } } };
    let view = doc! { "create": "known", "viewOn": "people", "pipeline": [tokens] };
    let direct = ground.set.client().await.database(&ground.database);
    direct.run_command(view).await.unwrap();
    let error = ground.fail(&["migrate", "reindex", "--key", "other"]);
    assert!(error.contains("default"), "{error}");

    // The token of a value that a document has is found in another epoch too.
    ground.succeed(&["keys", "stage", "default", "--epoch"]);
    let error = ground.fail(&["keys", "promote", "default", "--epoch"]);
    assert!(error.contains("3 documents lack tokens"), "{error}");
    let text = ground.succeed(&["migrate", "reindex", "--dry-run"]);
    assert!(
        text.contains("is known once the tokens are there"),
        "{text}"
    );
    ground.succeed(&["migrate", "reindex"]);
    let error = ground.fail(&["keys", "promote", "default", "--epoch"]);
    assert!(error.contains("every document has its tokens"), "{error}");
    let stored = ground.stored().await;
    let names = stored.list_index_names().await.unwrap();
    assert!(names.contains(&format!("{}~2", ssn(1))), "{names:?}");
    ground.succeed(&["keys", "promote", "default", "--epoch", "--yes"]);
    ground.succeed(&["migrate", "reindex"]);
    ground.succeed(&["keys", "disable", "default", "--epoch", "1"]);
    let error = ground.fail(&["migrate", "reindex"]);
    assert!(error.contains("the view \"known\""), "{error}");
    direct.collection::<Document>("known").drop().await.unwrap();
    let text = ground.succeed(&["migrate", "reindex"]);
    assert!(text.contains("keys destroy default --epoch 1"), "{text}");

    // That of a value that none has is not.
    let (_serving, client) = ground.proxy().await;
    let database = client.database(&ground.database);
    database.run_command(partial("nobody")).await.unwrap();
    ground.succeed(&["keys", "stage", "default", "--epoch"]);
    let error = ground.fail(&["migrate", "reindex"]);
    assert!(
        error.contains("\"nobody\"") && error.contains("partialFilterExpression"),
        "{error}"
    );
}
