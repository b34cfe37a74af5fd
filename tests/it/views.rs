//! Views over sealed collections: their stages are followed, whoever made them, so
//! that a view is queried under its own names.

use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::{Client, Database};

use crate::support::{Proxy, ReplicaSet, ReplicaSetOptions, shared_replica_set, unique_database};

async fn run(database: &Database, command: Document) -> Result<Document, Error> {
    database.run_command(command).await
}

/// The message of a refusal; anything else is a failure of the test.
fn refusal(answer: Result<Document, Error>) -> String {
    let error = match answer {
        Err(error) => error,
        Ok(answer) => {
            // Of a batch, the statement is refused.
            let error = &answer.get_array("writeErrors").unwrap()[0];
            let message = error.as_document().unwrap().get_str("errmsg").unwrap();
            assert!(message.contains("fieldseal"), "{message}");
            return message.to_owned();
        }
    };
    match *error.kind {
        ErrorKind::Command(error) if error.message.contains("fieldseal") => error.message,
        other => panic!("not refused by the proxy: {other:?}"),
    }
}

/// What MongoDB itself has in a database, and a service behind a proxy that seals
/// `ssn` and `visits.note` of its `customers`.
struct World {
    set: ReplicaSet,
    direct: Database,
    service: Database,
    _proxy: Proxy,
}

const SCHEMA: &str = r#"
[collections."shop.customers".fields]
ssn = { type = "string", queries = ["equality"], domain = "ssn" }
"visits.note" = { type = "string", queries = ["equality"] }
[collections."shop.calls".fields]
caller = { type = "string", queries = ["equality"], domain = "ssn" }
"#;

impl World {
    async fn new() -> Self {
        let options = ReplicaSetOptions {
            log_everything: true,
            ..ReplicaSetOptions::default()
        };
        let set = ReplicaSet::start(options).await;
        let direct = set.members()[0].direct_client().await.database("shop");
        let proxy = Proxy::start(&set, SCHEMA).await;
        let world = Self {
            direct,
            service: proxy.client().await.database("shop"),
            _proxy: proxy,
            set,
        };
        let customers = [
            doc! { "_id": 1, "ssn": "canary-1", "plan": "gold", "visits": [{ "note": "canary-n", "at": 1 }, { "at": 2 }] },
            doc! { "_id": 2, "ssn": ["canary-2", "canary-1"], "plan": "gold", "visits": [] },
            doc! { "_id": 3, "plan": "iron", "visits": { "note": "canary-m" } },
        ];
        let calls = [
            doc! { "_id": 1, "caller": "canary-1", "customer": 3 },
            doc! { "_id": 2, "caller": null, "customer": 1 },
        ];
        run(
            &world.service,
            doc! { "insert": "customers", "documents": customers.to_vec() },
        )
        .await
        .unwrap();
        run(
            &world.service,
            doc! { "insert": "calls", "documents": calls.to_vec() },
        )
        .await
        .unwrap();
        world
    }

    /// Documents that the service finds, read on by small batches.
    async fn found(&self, mut command: Document) -> Vec<Document> {
        if command.contains_key("aggregate") {
            command.insert("cursor", doc! { "batchSize": 1 });
        } else {
            command.insert("batchSize", 1);
        }
        let mut reply = run(&self.service, command.clone()).await.unwrap();
        let mut documents = Vec::new();
        loop {
            let cursor = reply.get_document("cursor").unwrap();
            for batch in ["firstBatch", "nextBatch"] {
                let batch = cursor.get_array(batch).into_iter().flatten();
                documents.extend(batch.map(|found| found.as_document().unwrap().clone()));
            }
            let id = cursor.get_i64("id").unwrap();
            if id == 0 {
                return documents;
            }
            let name = command.values().next().unwrap();
            reply = run(
                &self.service,
                doc! { "getMore": id, "collection": name, "batchSize": 1 },
            )
            .await
            .unwrap();
        }
    }

    async fn ids(&self, command: Document) -> Vec<i32> {
        let found = self.found(command).await;
        found
            .iter()
            .map(|found| found.get_i32("_id").unwrap())
            .collect()
    }

    /// What MongoDB logged of all commands has no value of a sealed field.
    fn no_canary_was_sent(&self) {
        let log = self.set.members()[0].log();
        assert!(log.contains("\"customers\""), "the log was searched");
        assert!(!log.contains("canary"));
    }
}

fn views() -> Vec<Document> {
    vec![
        doc! { "create": "gold", "viewOn": "customers", "pipeline": [{ "$match": { "plan": "gold" } }] },
        doc! { "create": "moved", "viewOn": "customers", "pipeline": [
        { "$project": { "who": { "id": "$ssn" }, "ssn": "$plan", "notes": "$visits.note" } }, { "$sort": { "_id": -1 } }] },
        doc! { "create": "again", "viewOn": "moved", "pipeline": [{ "$set": { "top": "$who.id" } }, { "$unset": "who" }] },
        doc! { "create": "joined", "viewOn": "calls", "pipeline": [
        { "$lookup": { "from": "gold", "localField": "customer", "foreignField": "_id", "as": "of" } }] },
        doc! { "create": "all", "viewOn": "gold", "pipeline": [
        { "$project": { "ssn": 1 } }, { "$unionWith": { "coll": "customers", "pipeline": [{ "$project": { "ssn": 1, "visits": 1 } }] } }] },
        doc! { "create": "plans", "viewOn": "customers", "pipeline": [
        { "$sort": { "_id": 1 } }, { "$group": { "_id": "$plan", "first": { "$first": "$ssn" }, "all": { "$push": "$ssn" } } }] },
        doc! { "create": "open", "viewOn": "orders", "pipeline": [] },
    ]
}

#[tokio::test]
async fn a_view_is_queried_under_its_own_names_whoever_made_it() {
    let world = World::new().await;
    for through in [&world.direct, &world.service] {
        for view in views() {
            run(through, view).await.unwrap();
        }
        queried(&world).await;
        for view in views() {
            run(
                &world.direct,
                doc! { "drop": view.get_str("create").unwrap() },
            )
            .await
            .unwrap();
        }
    }
    world.no_canary_was_sent();
}

async fn queried(world: &World) {
    for (command, ids) in [
        (
            doc! { "find": "gold", "filter": { "ssn": "canary-1" } },
            vec![1, 2],
        ),
        (
            doc! { "find": "gold", "filter": { "ssn": { "$ne": "canary-2" } } },
            vec![1],
        ),
        (
            doc! { "find": "gold", "filter": { "visits.note": "canary-n" } },
            vec![1],
        ),
        (
            doc! { "find": "moved", "filter": { "who.id": "canary-1" } },
            vec![2, 1],
        ),
        (
            doc! { "find": "moved", "filter": { "ssn": "iron", "who.id": null } },
            vec![3],
        ),
        (
            doc! { "find": "moved", "filter": { "notes": "canary-m" } },
            vec![3],
        ),
        (
            doc! { "find": "moved", "filter": { "$expr": { "$eq": ["$who.id", "canary-1"] } } },
            vec![1],
        ),
        (
            doc! { "find": "again", "filter": { "top": { "$in": ["canary-2", null] } } },
            vec![3, 2],
        ),
        (
            doc! { "find": "joined", "filter": { "of.ssn": "canary-1" } },
            vec![2],
        ),
        (
            doc! { "find": "joined", "filter": { "caller": "canary-1" } },
            vec![1],
        ),
        (
            doc! { "find": "all", "filter": { "ssn": "canary-2" } },
            vec![2, 2],
        ),
        (
            doc! { "find": "all", "filter": { "visits.note": "canary-m" } },
            vec![3],
        ),
        (
            doc! { "aggregate": "moved", "pipeline": [{ "$match": { "who.id": "canary-2" } }] },
            vec![2],
        ),
        (
            doc! { "aggregate": "calls", "pipeline": [
            { "$lookup": { "from": "moved", "localField": "caller", "foreignField": "who.id", "as": "found" } }, { "$match": { "found.who.id": "canary-2" } }] },
            vec![1],
        ),
        (
            doc! { "aggregate": "orders", "pipeline": [
            { "$unionWith": { "coll": "again", "pipeline": [{ "$match": { "top": "canary-2" } }] } }] },
            vec![2],
        ),
    ] {
        assert_eq!(world.ids(command.clone()).await, ids, "{command}");
    }
    let found = world
        .found(doc! { "find": "moved", "sort": { "_id": 1 }, "projection": { "who.id": 1 } })
        .await;
    assert_eq!(
        found[1],
        doc! { "_id": 2, "who": { "id": ["canary-2", "canary-1"] } }
    );
    let gold =
        doc! { "_id": "gold", "first": "canary-1", "all": ["canary-1", ["canary-2", "canary-1"]] };
    let plans = doc! { "find": "plans", "filter": { "first": "canary-1" } };
    assert_eq!(world.found(plans).await, [gold]);
    let count = run(
        &world.service,
        doc! { "count": "moved", "query": { "who.id": "canary-1" } },
    )
    .await
    .unwrap();
    assert_eq!(count.get_i32("n").unwrap(), 2);
    let distinct = run(
        &world.service,
        doc! { "distinct": "moved", "key": "who.id" },
    )
    .await
    .unwrap();
    let mut values: Vec<_> = distinct
        .get_array("values")
        .unwrap()
        .iter()
        .map(|value| value.as_str().unwrap())
        .collect();
    values.sort_unstable();
    assert_eq!(values, ["canary-1", "canary-2"]);
    let explain = doc! { "explain": { "find": "moved", "filter": { "who.id": "canary-1" } } };
    run(&world.service, explain).await.unwrap();
}

#[tokio::test]
async fn what_a_view_cannot_answer_is_refused_and_nothing_is_written_to_one() {
    let world = World::new().await;
    for view in views() {
        run(&world.direct, view).await.unwrap();
    }
    for command in [
        doc! { "find": "moved", "filter": { "who.id": { "$gt": "canary" } } },
        doc! { "find": "moved", "sort": { "who": 1 } },
        doc! { "find": "plans", "filter": { "all": { "$gte": "canary" } } },
        doc! { "aggregate": "again", "pipeline": [{ "$project": { "x": { "$toUpper": "$top" } } }], "cursor": {} },
        doc! { "aggregate": "calls", "pipeline": [
        { "$lookup": { "from": "plans", "localField": "caller", "foreignField": "all", "as": "x" } }], "cursor": {} },
        doc! { "insert": "gold", "documents": [{ "ssn": "canary" }] },
        doc! { "update": "moved", "updates": [{ "q": { "who.id": "canary" }, "u": { "$set": { "ssn": "canary" } } }] },
        doc! { "delete": "moved", "deletes": [{ "q": { "who.id": "canary" }, "limit": 1 }] },
        doc! { "findAndModify": "moved", "query": { "who.id": "canary" }, "remove": true },
        doc! { "aggregate": "customers", "pipeline": [{ "$out": "gold" }], "cursor": {} },
        doc! { "aggregate": "customers", "pipeline": [{ "$merge": "gold" }], "cursor": {} },
    ] {
        let told = refusal(run(&world.service, command).await);
        assert!(!told.contains("canary"), "{told}");
    }
    world.no_canary_was_sent();
}

#[tokio::test]
async fn a_view_that_compares_sealed_fields_is_not_made_for_it_would_keep_tokens() {
    let world = World::new().await;
    for pipeline in [
        vec![doc! { "$match": { "ssn": "canary" } }],
        vec![
            doc! { "$project": { "x": "$ssn" } },
            doc! { "$match": { "x": { "$ne": "canary" } } },
        ],
        vec![doc! { "$set": { "is": { "$eq": ["$ssn", "canary"] } } }],
        vec![doc! { "$group": { "_id": "$ssn" } }],
        vec![
            doc! { "$lookup": { "from": "calls", "localField": "ssn", "foreignField": "caller", "as": "x" } },
        ],
        vec![
            doc! { "$unionWith": { "coll": "calls", "pipeline": [{ "$match": { "caller": "canary" } }] } },
        ],
        vec![doc! { "$set": { "upper": { "$toUpper": "$ssn" } } }],
        vec![doc! { "$out": "copy" }],
    ] {
        for command in [
            doc! { "create": "view", "viewOn": "customers", "pipeline": &pipeline },
            doc! { "collMod": "view", "viewOn": "customers", "pipeline": &pipeline },
        ] {
            let told = refusal(run(&world.service, command).await);
            assert!(!told.contains("canary"), "{told}");
        }
    }
    let elsewhere = doc! { "create": "view", "viewOn": "orders", "pipeline": [
    { "$facet": { "a": [{ "$lookup": { "from": "customers", "as": "c", "pipeline": [{ "$match": { "ssn": "canary" } }] } }] } }] };
    refusal(run(&world.service, elsewhere).await);
    run(
        &world.service,
        doc! { "create": "view", "viewOn": "orders", "pipeline": [] },
    )
    .await
    .unwrap();
    let moved = doc! { "collMod": "view", "viewOn": "customers", "pipeline": [{ "$project": { "id": "$ssn" } }] };
    run(&world.service, moved).await.unwrap();
    // Known at once, without waiting for the next listing.
    assert_eq!(
        world
            .ids(doc! { "find": "view", "filter": { "id": "canary-2" } })
            .await,
        [2]
    );
    world.no_canary_was_sent();
}

#[tokio::test]
async fn a_view_that_cannot_be_followed_is_refused_with_all_that_looks_at_it() {
    let world = World::new().await;
    let collation = doc! { "locale": "en", "strength": 2 };
    for command in [
        doc! { "create": "view", "viewOn": "customers", "pipeline": [{ "$match": { "ssn": "plain" } }] },
        doc! { "create": "view", "viewOn": "customers", "pipeline": [{ "$group": { "_id": "$ssn" } }] },
        doc! { "create": "view", "viewOn": "customers", "pipeline": [{ "$set": { "x": { "$toUpper": "$plan" }, "y": { "$objectToArray": "$ssn" } } }] },
        doc! { "create": "view", "viewOn": "customers", "pipeline": [{ "$sort": { "ssn": 1 } }] },
        doc! { "create": "view", "viewOn": "customers", "pipeline": [{ "$lookup": { "from": "calls", "localField": "ssn", "foreignField": "caller", "as": "x" } }] },
        doc! { "create": "view", "viewOn": "customers", "pipeline": [], "collation": collation },
    ] {
        run(&world.direct, command.clone()).await.unwrap();
        let mut over = doc! { "create": "over", "viewOn": "view", "pipeline": [{ "$limit": 3 }] };
        over.extend(
            command
                .get("collation")
                .map(|collation| ("collation".to_owned(), collation.clone())),
        );
        run(&world.direct, over).await.unwrap();
        for name in ["view", "over"] {
            for command in [
                doc! { "find": name, "filter": { "ssn": "canary" } },
                doc! { "count": name },
                doc! { "aggregate": "calls", "pipeline": [{ "$unionWith": name }], "cursor": {} },
            ] {
                let told = refusal(run(&world.service, command).await);
                assert!(
                    told.contains("follow") && !told.contains("canary"),
                    "{told}"
                );
            }
        }
        for name in ["view", "over"] {
            let dropped = run(&world.direct, doc! { "drop": name }).await;
            dropped.unwrap_or_default();
        }
    }
    world.no_canary_was_sent();
}

#[tokio::test]
async fn a_view_that_was_made_anew_is_followed_anew() {
    let world = World::new().await;
    let make = |pipeline: Document| doc! { "create": "view", "viewOn": "customers", "pipeline": [pipeline] };
    let first = make(doc! { "$project": { "ssn": 1 } });
    let second = make(doc! { "$project": { "id": "$ssn", "ssn": "$plan" } });
    for _ in 0..3 {
        run(&world.direct, first.clone()).await.unwrap();
        assert_eq!(
            world
                .ids(doc! { "find": "view", "filter": { "ssn": "canary-2" } })
                .await,
            [2]
        );
        run(&world.direct, doc! { "drop": "view" }).await.unwrap();
        run(&world.direct, second.clone()).await.unwrap();
        assert_eq!(
            world
                .ids(doc! { "find": "view", "filter": { "id": "canary-2", "ssn": "gold" } })
                .await,
            [2]
        );
        let within = doc! { "aggregate": "orders", "pipeline": [
        { "$unionWith": { "coll": "view", "pipeline": [{ "$match": { "id": "canary-2" } }] } }] };
        assert_eq!(world.ids(within).await, [2]);
        run(&world.direct, doc! { "drop": "view" }).await.unwrap();
    }
    world.no_canary_was_sent();
}

/// A user who may read `collection` and nothing else.
async fn reader(admin: &Database, name: &str, database: &str, collection: &str) {
    let role = doc! {"createRole": name, "roles": [], "privileges": [
    {"resource": {"db": database, "collection": collection}, "actions": ["find"]}]};
    run(admin, role).await.unwrap();
    let user = doc! {"createUser": name, "pwd": "secret", "roles": [name]};
    run(admin, user).await.unwrap();
}

#[tokio::test]
async fn what_one_user_may_see_of_views_does_not_decide_for_another() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        auth: true,
        log_everything: true,
        ..ReplicaSetOptions::default()
    })
    .await;
    let root = set.client().await;
    let shop = root.database("shop");
    for view in ["gold", "silver"] {
        run(
            &shop,
            doc! {"create": view, "viewOn": "customers", "pipeline": []},
        )
        .await
        .unwrap();
        reader(
            &root.database("admin"),
            &format!("{view}_reader"),
            "shop",
            view,
        )
        .await;
    }
    run(&shop, doc! {"create": "orders"}).await.unwrap();
    reader(&root.database("admin"), "orders_reader", "shop", "orders").await;
    let schema = "[collections.\"shop.customers\".fields]\nssn = { type = \"string\", queries = [\"equality\"] }\n";
    let proxy = Proxy::start(&set, schema).await;
    let canary = "canary-that-no-view-may-meet";
    for name in ["gold", "silver", "orders", "gold", "silver"] {
        let uri = format!(
            "mongodb://{name}_reader:secret@{}/?directConnection=true",
            proxy.addresses()[0]
        );
        let client = Client::with_uri_str(uri).await.unwrap();
        let service = client.database("shop");
        let found = run(&service, doc! {"find": name, "filter": {"ssn": canary}}).await;
        if name == "orders" {
            found.unwrap();
        } else {
            assert!(!refusal(found).contains(canary));
        }
    }
    let log = set.members()[0].log();
    assert!(log.contains("orders_reader"), "the log was searched");
    for view in ["gold", "silver"] {
        assert!(!log.contains(&format!("\"find\":\"{view}\"")));
    }
}

#[tokio::test]
async fn what_mongodb_would_compare_by_a_collations_rules_is_refused_unless_the_command_says_simple()
 {
    let set = shared_replica_set().await;
    let name = unique_database("collated");
    let direct = set.members()[0].direct_client().await.database(&name);
    let collation = doc! {"locale": "en", "strength": 2};
    run(&direct, doc! {"create": "people", "collation": collation})
        .await
        .unwrap();
    run(
        &direct,
        doc! {"create": "seen", "viewOn": "elsewhere", "pipeline": []},
    )
    .await
    .unwrap();
    let schema = format!(
        "[collections.\"{name}.*\".fields]\nssn = {{ type = \"string\", queries = [\"equality\"] }}\n"
    );
    let proxy = Proxy::start(set, &schema).await;
    let service = proxy.client().await.database(&name);
    let people = service.collection::<Document>("people");
    people
        .insert_one(doc! {"_id": 1, "ssn": "abc", "n": "Abc"})
        .await
        .unwrap();
    for command in [
        doc! {"find": "people", "filter": {"ssn": "ABC"}},
        doc! {"aggregate": "people", "pipeline": [{"$match": {"ssn": "ABC"}}], "cursor": {}},
        doc! {"delete": "people", "deletes": [{"q": {"ssn": "ABC"}, "limit": 0}]},
        doc! {"createIndexes": "people", "indexes": [{"key": {"ssn": 1}, "name": "ssn", "unique": true}]},
        doc! {"find": "seen", "filter": {"ssn": "ABC"}},
        doc! {"find": "people\0", "filter": {"ssn": "ABC"}},
    ] {
        refusal(run(&service, command).await);
    }
    let simple = doc! {"locale": "simple"};
    let command = doc! {"count": "people", "query": {"ssn": "abc"}, "collation": simple};
    assert_eq!(
        run(&service, command).await.unwrap().get_i32("n").unwrap(),
        1
    );
    let open = people.find_one(doc! {"n": "ABC"}).await.unwrap();
    assert_eq!(open.unwrap().get_str("ssn").unwrap(), "abc");
}
