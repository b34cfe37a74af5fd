//! The ground that the other tests stand on holds.

use mongodb::bson::{Document, doc};

use crate::support::{ReplicaSet, ReplicaSetOptions, shared_replica_set, unique_database};

#[tokio::test]
async fn a_replica_set_of_one_stores_and_finds() {
    let client = shared_replica_set().await.client().await;
    let people = client
        .database(&unique_database("harness"))
        .collection::<Document>("people");
    people
        .insert_one(doc! { "_id": 1, "name": "Ada" })
        .await
        .unwrap();
    let found = people.find_one(doc! { "name": "Ada" }).await.unwrap();
    assert_eq!(found, Some(doc! { "_id": 1, "name": "Ada" }));
}

#[tokio::test]
async fn a_replica_set_of_three_has_one_primary_and_comes_back_after_a_crash() {
    let mut set = ReplicaSet::start(ReplicaSetOptions {
        members: 3,
        ..ReplicaSetOptions::default()
    })
    .await;
    let client = set.client().await;
    let people = client.database("harness").collection::<Document>("people");
    let majority = mongodb::options::WriteConcern::majority();
    people
        .insert_one(doc! { "_id": 1 })
        .write_concern(majority)
        .await
        .unwrap();

    set.members_mut()[0].crash();
    people.insert_one(doc! { "_id": 2 }).await.unwrap();
    set.members_mut()[0].restart().await;
    assert_eq!(people.count_documents(doc! {}).await.unwrap(), 2);
}

#[tokio::test]
async fn a_replica_set_with_users_turns_strangers_away() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        auth: true,
        ..ReplicaSetOptions::default()
    })
    .await;
    let ping = doc! { "listDatabases": 1 };
    let member = set.client().await.database("admin");
    member.run_command(ping.clone()).await.unwrap();
    let stranger = set.members()[0].direct_client().await.database("admin");
    stranger.run_command(ping).await.unwrap_err();
}

#[tokio::test]
async fn what_is_stored_uncompressed_can_be_searched_in_the_files() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        compress: false,
        log_everything: true,
        ..ReplicaSetOptions::default()
    })
    .await;
    let client = set.client().await;
    let people = client.database("harness").collection::<Document>("people");
    people
        .insert_one(doc! { "name": "canary".repeat(20) })
        .await
        .unwrap();
    people
        .find_one(doc! { "name": "bird".repeat(20) })
        .await
        .unwrap();
    client
        .database("admin")
        .run_command(doc! { "fsync": 1 })
        .await
        .unwrap();

    assert!(set.members()[0].log().contains(&"bird".repeat(20)));
    let canary = "canary".repeat(20);
    let files = walk(&set.members()[0].database_path());
    let holds = |name: &str| {
        files.iter().any(|file| {
            file.to_string_lossy().contains(name)
                && std::fs::read(file)
                    .unwrap_or_default()
                    .windows(canary.len())
                    .any(|window| window == canary.as_bytes())
        })
    };
    assert!(holds("collection-"), "in the data files");
    assert!(holds("WiredTigerLog"), "in the journal");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}
