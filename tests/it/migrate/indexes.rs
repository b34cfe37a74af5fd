//! Indexes on plaintext become indexes on tokens, and unique ones are so at every moment.

use mongodb::bson::{Document, doc};

use super::{CANARY, Ground};

const FIELDS: &str = r#"
ssn     = { type = "string", queries = ["equality"] }
card    = { type = "string", queries = ["equality"] }
address = {}
"#;

async fn create(ground: &Ground, indexes: Vec<Document>) {
    let client = ground.set.client().await;
    let database = client.database(&ground.database);
    let command = doc! { "createIndexes": "people", "indexes": indexes };
    database.run_command(command).await.unwrap();
}

async fn listed(ground: &Ground) -> Vec<Document> {
    let client = ground.set.client().await;
    let database = client.database(&ground.database);
    let answer = database
        .run_command(doc! { "listIndexes": "people" })
        .await
        .unwrap();
    let batch = answer.get_document("cursor").unwrap();
    let batch = batch.get_array("firstBatch").unwrap();
    let mut indexes: Vec<Document> = batch
        .iter()
        .map(|index| index.as_document().unwrap().clone())
        .collect();
    indexes.sort_by_key(|index| index.get_str("name").unwrap().to_owned());
    indexes
}

fn person(id: i32, ssn: &str) -> Document {
    doc! { "_id": id, "tenant": id % 2, "ssn": format!("{CANARY}{ssn}"), "card": format!("{CANARY}{id}") }
}

#[tokio::test]
async fn indexes_keep_their_names_and_options() {
    let ground = Ground::new("allow", FIELDS).await;
    let people = (0..50).map(|id| person(id, &id.to_string()));
    ground.stored().await.insert_many(people).await.unwrap();
    create(
        &ground,
        vec![
            doc! { "key": { "ssn": 1 }, "name": "by ssn", "unique": true },
            doc! { "key": { "tenant": 1, "card": -1 }, "name": "by card", "unique": true, "partialFilterExpression": { "tenant": 1 } },
            doc! { "key": { "card": "hashed" }, "name": "hashed" },
            doc! { "key": { "tenant": 1 }, "name": "open" },
        ],
    )
    .await;
    ground.succeed(&["migrate", "encrypt"]);
    ground.assert_all_sealed(50).await;
    assert_eq!(
        listed(&ground).await,
        [
            doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" },
            doc! { "v": 2, "key": { "tenant": 1, "card.e1": -1 }, "name": "by card", "unique": true, "partialFilterExpression": { "tenant": 1 } },
            doc! { "v": 2, "key": { "ssn.e1": 1 }, "name": "by ssn", "unique": true },
            doc! { "v": 2, "key": { "card.e1": "hashed" }, "name": "hashed" },
            doc! { "v": 2, "key": { "tenant": 1 }, "name": "open" },
        ]
    );
}

#[tokio::test]
async fn a_value_that_another_document_has_is_told_by_id_and_nothing_is_lost() {
    let ground = Ground::new("allow", FIELDS).await;
    let people = (0..20).map(|id| person(id, &id.to_string()));
    let stored = ground.stored().await;
    stored.insert_many(people).await.unwrap();
    create(
        &ground,
        vec![doc! { "key": { "ssn": 1 }, "name": "ssn", "unique": true }],
    )
    .await;
    // A service writes the same value through a proxy, where the index on plaintext cannot see it.
    let (_proxy, client) = ground.proxy().await;
    let people = ground.people(&client);
    people.insert_one(person(100, "7")).await.unwrap();
    let told = ground.fail(&["migrate", "encrypt"]);
    assert!(told.contains("by _id: "), "{told}");
    assert!(!told.contains(CANARY), "{told}");
    let (twin, of) = (doc! { "_id": 7 }, doc! { "_id": 100 });
    for filter in [&twin, &of] {
        let one = people.find_one(filter.clone()).await.unwrap().unwrap();
        assert_eq!(one.get_str("ssn").unwrap(), format!("{CANARY}7"));
    }
    // Meanwhile both indexes hold.
    let plain = stored.insert_one(person(101, "7")).await.unwrap_err();
    assert!(plain.to_string().contains("11000"), "{plain}");
    let sealed = people.insert_one(person(101, "8")).await.unwrap_err();
    assert!(sealed.to_string().contains("11000"), "{sealed}");

    people.delete_one(of).await.unwrap();
    ground.succeed(&["migrate", "encrypt"]);
    ground.assert_all_sealed(20).await;
    assert_eq!(listed(&ground).await.len(), 2);
    let sealed = people.insert_one(person(102, "7")).await.unwrap_err();
    assert!(sealed.to_string().contains("11000"), "{sealed}");
}

#[tokio::test]
async fn an_index_that_tokens_cannot_serve_is_told_before_anything_is_sealed() {
    for (key, options) in [
        (doc! { "address": 1 }, doc! {}),
        (doc! { "ssn": "text" }, doc! {}),
        (doc! { "ssn": 1 }, doc! { "expireAfterSeconds": 100_000 }),
        (doc! { "ssn": 1 }, doc! { "unique": true, "sparse": true }),
        (doc! { "address.$**": 1 }, doc! {}),
    ] {
        let ground = Ground::new("allow", FIELDS).await;
        ground
            .stored()
            .await
            .insert_one(person(1, "1"))
            .await
            .unwrap();
        let mut index = doc! { "key": key, "name": "the one" };
        index.extend(options);
        create(&ground, vec![index.clone()]).await;
        let before = ground.raw().await;
        let told = ground.fail(&["migrate", "encrypt"]);
        assert!(told.contains("the index \"the one\""), "{index}: {told}");
        assert_eq!(ground.raw().await, before);
    }
}
