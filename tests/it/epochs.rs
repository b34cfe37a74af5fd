//! Tokens move to another index epoch while services go on, through proxies that take
//! up each step at a time of their own: equality and uniqueness hold all the while.

use futures::TryStreamExt as _;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use mongodb::options::Hint;
use mongodb::{Collection, Database};

use crate::support::{Proxy, ProxyOptions, ReplicaSet, shared_replica_set, unique_database};

fn schema(database: &str) -> String {
    format!(
        r#"
[collections."{database}.people".fields]
ssn = {{ type = "string", queries = ["equality"] }}
tags = {{ type = "string", queries = ["equality"] }}
"visits.doctor" = {{ type = "string", queries = ["equality"] }}
note = {{ type = "string" }}
"#
    )
}

/// Two proxies with key files of their own, and MongoDB itself.
struct World {
    one: Proxy,
    other: Proxy,
    /// Through the one proxy and through the other.
    through: [Database; 2],
    stored: Database,
    /// How many people were inserted.
    people: i32,
}

impl World {
    async fn start() -> Self {
        Self::before(shared_replica_set().await).await
    }

    async fn before(set: &ReplicaSet) -> Self {
        let name = unique_database("epochs");
        let schema = schema(&name);
        let options = ProxyOptions {
            schema: &schema,
            log_level: "info",
            ..ProxyOptions::default()
        };
        let one = Proxy::start_with(set, options).await;
        let key_file = one.key_file();
        let options = ProxyOptions {
            key_file: Some(&key_file),
            ..options
        };
        let other = Proxy::start_with(set, options).await;
        let mut world = Self {
            through: [
                one.client().await.database(&name),
                other.client().await.database(&name),
            ],
            one,
            other,
            stored: set.client().await.database(&name),
            people: 0,
        };
        for database in &world.through {
            database.run_command(unique_index()).await.unwrap();
        }
        world.insert().await;
        world
    }

    /// The other proxy takes up the key file of the one.
    async fn follow(&mut self) {
        self.other.take_keys(&self.one.key_file()).await;
    }

    /// Inserts a person through each proxy.
    async fn insert(&mut self) {
        for database in &self.through {
            self.people += 1;
            let person = person(self.people);
            let people = database.collection::<Document>("people");
            people.insert_one(person).await.unwrap();
        }
    }

    /// Asserts that through both proxies each person is found by what is sealed, and no
    /// ssn can be had twice.
    async fn assert_right(&mut self) {
        self.insert().await;
        for database in &self.through {
            let people = database.collection::<Document>("people");
            for id in 1..=self.people {
                let by = [
                    doc! { "ssn": ssn(id) },
                    doc! { "tags": { "$in": [tag(id)] } },
                    doc! { "visits": { "$elemMatch": { "doctor": ssn(id) } } },
                    doc! { "$expr": { "$eq": ["$ssn", ssn(id)] } },
                ];
                for filter in by {
                    let found = people.find(filter.clone()).await.unwrap();
                    let found: Vec<Document> = found.try_collect().await.unwrap();
                    assert_eq!(found, [person(id)], "{filter}");
                }
            }
            let tags = people.distinct("tags", doc! {}).await.unwrap();
            assert_eq!(tags.len(), 1 + usize::try_from(self.people).unwrap());
            let groups = doc! { "$group": { "_id": "$tags", "n": { "$sum": 1 } } };
            let stages = [
                doc! { "$unwind": "$tags" },
                groups,
                doc! { "$match": { "_id": "all" } },
            ];
            let groups = people.aggregate(stages).await.unwrap();
            let groups: Vec<Document> = groups.try_collect().await.unwrap();
            assert_eq!(groups, [doc! { "_id": "all", "n": self.people }]);
            for id in [1, self.people - 1, self.people] {
                let mut again = person(id);
                again.insert("_id", -1);
                assert_duplicate(people.insert_one(again).await.unwrap_err());
                let set = doc! { "$set": { "ssn": ssn(id) } };
                let other = doc! { "ssn": ssn(if id == 1 { 2 } else { 1 }) };
                assert_duplicate(people.update_one(other, set).await.unwrap_err());
            }
        }
    }

    /// Asserts that both proxies show the indexes of the user's alone, and find them by name.
    async fn assert_indexes(&self) {
        for database in &self.through {
            assert_eq!(listed(database).await, ["_id_", "ssn_1"]);
            let made = database.run_command(unique_index()).await.unwrap();
            let number = |name: &str| made.get_i32(name).unwrap();
            assert_eq!(number("numIndexesBefore"), number("numIndexesAfter"));
            let people = database.collection::<Document>("people");
            let hinted = people
                .find_one(doc! { "ssn": ssn(1) })
                .hint(Hint::Name("ssn_1".to_owned()))
                .await;
            assert_eq!(hinted.unwrap(), Some(person(1)));
            let find = doc! { "find": "people", "filter": { "ssn": ssn(1) }, "hint": "ssn_1" };
            let plan = database
                .run_command(doc! { "explain": find })
                .await
                .unwrap();
            let plan = plan.to_string();
            assert!(plan.contains("\"indexName\": \"ssn_1\""), "{plan}");
            assert!(plan.contains("\"keyPattern\": { \"ssn\": 1 }"), "{plan}");
            assert!(!plan.contains('~') && !plan.contains("ssn.e"), "{plan}");
        }
    }

    fn stored_people(&self) -> Collection<Document> {
        self.stored.collection("people")
    }

    /// The tokens that stand beside each sealed value, the same for all values.
    async fn stored_tokens(&self) -> Vec<String> {
        let people = self.stored_people().find(doc! {}).await.unwrap();
        let people: Vec<Document> = people.try_collect().await.unwrap();
        let mut values = Vec::new();
        for person in &people {
            values.push(person.get_document("ssn").unwrap());
            let tags = person.get_array("tags").unwrap().iter();
            values.extend(tags.map(|tag| tag.as_document().unwrap()));
            let visit = person.get_array("visits").unwrap()[0]
                .as_document()
                .unwrap();
            values.push(visit.get_document("doctor").unwrap());
        }
        let names = |value: &Document| value.keys().cloned().collect::<Vec<_>>();
        let first = names(values[0]);
        for value in values {
            assert_eq!(names(value), first);
        }
        first
    }

    /// Seals all values again, through the one proxy.
    async fn fill(&self) {
        let people = self.through[0].collection::<Document>("people");
        for id in 1..=self.people {
            let done = people.replace_one(doc! { "_id": id }, person(id)).await;
            assert_eq!(done.unwrap().matched_count, 1);
        }
    }
}

fn unique_index() -> Document {
    doc! { "createIndexes": "people", "indexes": [{ "key": { "ssn": 1 }, "name": "ssn_1", "unique": true }] }
}

fn ssn(id: i32) -> String {
    format!("ssn-{id}")
}

fn tag(id: i32) -> String {
    format!("tag-{id}")
}

fn person(id: i32) -> Document {
    doc! { "_id": id, "ssn": ssn(id), "tags": ["all", tag(id)], "visits": [{ "doctor": ssn(id) }], "note": "n" }
}

#[track_caller]
fn assert_duplicate(error: Error) {
    let text = error.to_string();
    let key = "people index: ssn_1 dup key: { ssn: <sealed> }";
    assert!(text.contains("E11000") && text.contains(key), "{text}");
}

/// The names of the indexes that a client sees.
async fn listed(database: &Database) -> Vec<String> {
    let people = database.collection::<Document>("people");
    people.list_index_names().await.unwrap()
}

#[tokio::test]
async fn equality_and_uniqueness_hold_while_two_proxies_move_to_another_index_epoch() {
    let mut world = World::start().await;
    assert_eq!(world.stored_tokens().await, ["c", "e1"]);

    // A new epoch is staged: written here, and not there yet.
    world.one.keys(&["stage", "default", "--epoch"]).await;
    world.assert_right().await;
    world.follow().await;
    world.fill().await;
    world.assert_right().await;
    assert_eq!(world.stored_tokens().await, ["c", "e1", "e2"]);

    // Its index is built; the clients see none of it.
    world.assert_indexes().await;
    let twin = doc! { "key": { "ssn.e2": 1 }, "name": "ssn_1~2", "unique": true };
    let twin = doc! { "createIndexes": "people", "indexes": [twin] };
    world.stored.run_command(twin).await.unwrap();
    world.assert_right().await;
    world.assert_indexes().await;

    // It is active here, and only staged there.
    world
        .one
        .keys(&["promote", "default", "--epoch", "--yes"])
        .await;
    world.assert_right().await;
    world.assert_indexes().await;
    world.follow().await;
    world.assert_right().await;
    world.assert_indexes().await;

    // What belonged to the old one goes.
    let stored = world.stored_people();
    stored.drop_index("ssn_1").await.unwrap();
    world.assert_right().await;
    world.assert_indexes().await;
    world
        .one
        .keys(&["disable", "default", "--epoch", "1"])
        .await;
    world.assert_right().await;
    world.follow().await;
    let tokens = doc! { "$unset": { "ssn.e1": 1, "tags.$[].e1": 1, "visits.$[].doctor.e1": 1 } };
    stored.update_many(doc! {}, tokens).await.unwrap();
    world.assert_right().await;
    world.assert_indexes().await;
    assert_eq!(world.stored_tokens().await, ["c", "e2"]);
    assert_eq!(listed(&world.stored).await, ["_id_", "ssn_1~2"]);

    let people = world.through[1].collection::<Document>("people");
    people.drop_index("ssn_1").await.unwrap();
    assert_eq!(listed(&world.stored).await, ["_id_"]);
}

/// A world in which epoch 1 is retired and 2 is active, and each has the unique index.
async fn with_both_indexes() -> World {
    let mut world = World::start().await;
    world.one.keys(&["stage", "default", "--epoch"]).await;
    world.fill().await;
    world
        .one
        .keys(&["promote", "default", "--epoch", "--yes"])
        .await;
    world.follow().await;
    let index = unique_index();
    world.through[0].run_command(index).await.unwrap();
    assert_eq!(listed(&world.stored).await, ["_id_", "ssn_1", "ssn_1~2"]);
    assert_eq!(listed(&world.through[0]).await, ["_id_", "ssn_1"]);
    world
}

#[tokio::test]
async fn an_index_that_is_dropped_is_gone_in_every_epoch() {
    for index in [
        Bson::from("ssn_1"),
        Bson::from(doc! { "ssn": 1 }),
        Bson::from(vec!["ssn_1"]),
        Bson::from("*"),
    ] {
        let world = with_both_indexes().await;
        let drop = doc! { "dropIndexes": "people", "index": index };
        world.through[0].run_command(drop.clone()).await.unwrap();
        assert_eq!(listed(&world.stored).await, ["_id_"], "{drop}");
    }
    let world = with_both_indexes().await;
    let drop = doc! { "dropIndexes": "people", "index": "other" };
    let error = world.through[0].run_command(drop).await.unwrap_err();
    assert!(error.to_string().contains("index not found"), "{error}");
}

#[tokio::test]
async fn statements_and_changes_of_an_index_find_it_by_its_name() {
    let world = with_both_indexes().await;
    let through = &world.through[0];
    let by = || doc! { "ssn": ssn(1) };
    let set = doc! { "$set": { "note": "m" } };
    for (command, field) in [
        (
            doc! { "update": "people", "updates": [{ "q": by(), "u": set.clone(), "hint": "ssn_1" }] },
            "n",
        ),
        (
            doc! { "count": "people", "query": by(), "hint": "ssn_1" },
            "n",
        ),
        (
            doc! { "aggregate": "people", "pipeline": [{ "$match": by() }], "hint": "ssn_1", "cursor": {} },
            "cursor",
        ),
        (
            doc! { "findAndModify": "people", "query": by(), "update": set, "hint": "ssn_1" },
            "value",
        ),
        (
            doc! { "delete": "people", "deletes": [{ "q": by(), "limit": 1, "hint": "ssn_1" }] },
            "n",
        ),
        (
            doc! { "collMod": "people", "index": { "name": "ssn_1", "hidden": true } },
            "hidden_new",
        ),
    ] {
        let answer = through.run_command(command.clone()).await.unwrap();
        assert!(!answer.contains_key("writeErrors"), "{command}: {answer}");
        let field = answer.get(field).unwrap();
        assert!(
            !matches!(field, Bson::Int32(0) | Bson::Null),
            "{command}: {answer}"
        );
    }
    // Indexes of one name and the same keys, told apart by their filters alone.
    for (epoch, name) in [(1, "open_1"), (2, "open_1~2")] {
        let filter = doc! { format!("ssn.e{epoch}"): { "$exists": true } };
        let index = doc! { "key": { "open": 1 }, "name": name, "partialFilterExpression": filter };
        let create = doc! { "createIndexes": "people", "indexes": [index] };
        world.stored.run_command(create).await.unwrap();
    }
    let filter = doc! { "open": null, "ssn": { "$type": "string" } };
    let find = doc! { "find": "people", "filter": filter, "hint": { "open": 1 } };
    through.run_command(find).await.unwrap();
    let modify =
        doc! { "collMod": "people", "index": { "keyPattern": { "open": 1 }, "hidden": true } };
    through.run_command(modify).await.unwrap();
    let drop = doc! { "dropIndexes": "people", "index": { "open": 1 } };
    through.run_command(drop).await.unwrap();
    assert_eq!(listed(&world.stored).await, ["_id_", "ssn_1", "ssn_1~2"]);
    // A name that is not there is MongoDB's to tell of.
    let find = doc! { "find": "people", "filter": {}, "hint": "other" };
    let error = through.run_command(find).await.unwrap_err().to_string();
    assert!(
        error.contains("hint") && !error.contains("fieldseal"),
        "{error}"
    );
    let reserved = doc! { "key": { "open": 1 }, "name": "mine~2" };
    let create = doc! { "createIndexes": "people", "indexes": [reserved] };
    let error = through.run_command(create).await.unwrap_err().to_string();
    assert!(
        error.contains("fieldseal") && error.contains('~'),
        "{error}"
    );
}

#[tokio::test]
async fn statistics_and_errors_tell_of_an_index_by_the_users_name() {
    let world = with_both_indexes().await;
    let through = &world.through[0];
    let stored = world.stored_people();
    let conflict =
        doc! { "createIndexes": "people", "indexes": [{ "key": { "ssn": 1 }, "name": "ssn_1" }] };
    let error = through.run_command(conflict).await.unwrap_err().to_string();
    assert!(error.contains("ssn_1") && !error.contains('~'), "{error}");
    let other = doc! { "createIndexes": "people", "indexes": [{ "key": { "ssn": 1 }, "name": "other", "unique": true }] };
    let error = through.run_command(other).await.unwrap_err().to_string();
    assert!(error.contains("ssn_1") && !error.contains('~'), "{error}");
    // One name to the user is one index, whatever it is on.
    let taken =
        doc! { "createIndexes": "people", "indexes": [{ "key": { "open": 1 }, "name": "ssn_1" }] };
    let error = through.run_command(taken).await.unwrap_err().to_string();
    assert!(error.contains("ssn_1") && !error.contains('~'), "{error}");

    let people = through.collection::<Document>("people");
    let used = people
        .aggregate([doc! { "$indexStats": {} }])
        .await
        .unwrap();
    let used: Vec<Document> = used.try_collect().await.unwrap();
    let mut names: Vec<_> = used
        .iter()
        .map(|index| index.get_str("name").unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["_id_", "ssn_1"]);
    stored.drop_index("ssn_1").await.unwrap();
    for command in [
        doc! { "collStats": "people" },
        doc! { "validate": "people" },
    ] {
        let answer = through.run_command(command.clone()).await.unwrap();
        let sizes = answer.get_document("indexSizes");
        let sizes = sizes
            .or_else(|_| answer.get_document("keysPerIndex"))
            .unwrap();
        assert!(sizes.keys().eq(["_id_", "ssn_1"]), "{command}: {answer}");
    }
}
