//! Views over sealed collections: a filter on one could not be rewritten, so
//! none is let through, whoever made the view.

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

#[tokio::test]
async fn a_view_that_reaches_sealed_fields_is_refused_even_if_made_on_mongodb_itself() {
    let set = shared_replica_set().await;
    let name = unique_database("views");
    let direct = set.members()[0].direct_client().await.database(&name);
    for command in [
        doc! {"create": "gold", "viewOn": "customers", "pipeline": [{"$match": {"plan": "gold"}}]},
        doc! {"create": "gold_again", "viewOn": "gold", "pipeline": []},
        doc! {"create": "joined", "viewOn": "orders", "pipeline": [
        {"$lookup": {"from": "gold", "localField": "customer", "foreignField": "_id", "as": "customer"}}]},
        doc! {"create": "cheap", "viewOn": "orders", "pipeline": [{"$match": {"price": {"$lt": 10}}}]},
    ] {
        run(&direct, command).await.unwrap();
    }
    let schema = format!(
        "[collections.\"{name}.customers\".fields]\nssn = {{ type = \"string\", queries = [\"equality\"] }}\n"
    );
    let proxy = Proxy::start(set, &schema).await;
    let service = proxy.client().await.database(&name);

    for view in ["gold", "gold_again", "joined"] {
        for command in [
            doc! {"find": view, "filter": {"ssn": "canary"}},
            doc! {"aggregate": view, "pipeline": [{"$match": {"ssn": "canary"}}], "cursor": {}},
            doc! {"count": view, "query": {"ssn": "canary"}},
            doc! {"distinct": view, "key": "ssn"},
            doc! {"explain": {"find": view, "filter": {"ssn": "canary"}}},
            doc! {"insert": view, "documents": [{"ssn": "canary"}]},
            doc! {"aggregate": "orders", "cursor": {}, "pipeline": [
            {"$lookup": {"from": view, "localField": "a", "foreignField": "ssn", "as": "b"}}]},
            doc! {"aggregate": "orders", "cursor": {}, "pipeline": [{"$unionWith": view}]},
            doc! {"create": "another", "viewOn": view},
        ] {
            let told = refusal(run(&service, command).await);
            assert!(!told.contains("canary"), "{told}");
        }
    }
    let orders = service.collection::<Document>("orders");
    orders
        .insert_one(doc! {"_id": 1, "price": 5})
        .await
        .unwrap();
    let cheap = service.collection::<Document>("cheap");
    let found = cheap.find_one(doc! {"price": 5}).await.unwrap();
    assert_eq!(
        found,
        Some(doc! {"_id": 1, "price": 5}),
        "a view of open documents works"
    );
    run(&service, doc! {"drop": "gold_again"}).await.unwrap();
}

#[tokio::test]
async fn a_view_of_a_sealed_collection_cannot_be_made_through_the_proxy() {
    let set = shared_replica_set().await;
    let name = unique_database("views");
    let schema = format!("[collections.\"{name}.customers\".fields]\nssn = {{}}\n");
    let proxy = Proxy::start(set, &schema).await;
    let service = proxy.client().await.database(&name);
    for command in [
        doc! {"create": "gold", "viewOn": "customers", "pipeline": []},
        doc! {"create": "all", "viewOn": "orders", "pipeline": [{"$unionWith": "customers"}]},
        doc! {"create": "deep", "viewOn": "orders", "pipeline": [{"$facet": {"a": [{"$lookup": {"from": "customers", "as": "c", "pipeline": []}}]}}]},
    ] {
        refusal(run(&service, command).await);
    }
    run(
        &service,
        doc! {"create": "open", "viewOn": "orders", "pipeline": []},
    )
    .await
    .unwrap();
    refusal(
        run(
            &service,
            doc! {"collMod": "open", "viewOn": "customers", "pipeline": []},
        )
        .await,
    );
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
