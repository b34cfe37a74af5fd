//! Every road by which a value may come to who may not read it shows its mask instead.

use super::*;

/// Commands that find documents. Each shows the values of every field.
fn roads() -> Vec<(&'static str, Document)> {
    let aggregate = |on: &str, stages: Vec<Document>| doc! { "aggregate": on, "pipeline": stages };
    let on_customers = |stages: Vec<Document>| aggregate("customers", stages);
    let whole = doc! { "$project": { "city": 1, "copy": "$$ROOT" } };
    vec![
        ("find", doc! { "find": "customers", "sort": { "_id": 1 } }),
        (
            "find by an open field",
            doc! { "find": "customers", "filter": { "city": "Leith" }, "sort": { "_id": 1 } },
        ),
        (
            "a projection of fields",
            doc! { "find": "customers", "sort": { "_id": 1 }, "projection": { "ssn": 1, "payment": { "card": 1 }, "name": 1, "email": 1, "phone": 1, "salary": 1, "memo": 1 } },
        ),
        (
            "a projection under other names",
            doc! { "find": "customers", "sort": { "_id": 1 }, "projection": { "a": "$ssn", "b": "$payment", "c": "$name", "d": { "e": "$email" }, "f": "$phone", "g": "$salary", "h": "$memo" } },
        ),
        (
            "no stage",
            on_customers(vec![doc! { "$sort": { "_id": 1 } }]),
        ),
        (
            "renamed",
            on_customers(vec![
                doc! { "$sort": { "_id": 1 } },
                doc! { "$project": { "a": "$ssn", "b": "$payment.card", "c": "$name", "d": "$email", "e": "$phone", "f": "$salary", "g": "$memo" } },
                doc! { "$addFields": { "h": "$a", "i.j": "$b" } },
            ]),
        ),
        (
            "the whole document",
            on_customers(vec![doc! { "$sort": { "_id": 1 } }, whole]),
        ),
        (
            "replaced root",
            on_customers(vec![
                doc! { "$sort": { "_id": 1 } },
                doc! { "$replaceWith": { "was": "$$ROOT" } },
            ]),
        ),
        (
            "grouped by an open field",
            on_customers(vec![
                doc! { "$sort": { "_id": 1 } },
                doc! { "$group": { "_id": "$city", "ssns": { "$push": "$ssn" }, "card": { "$first": "$payment.card" }, "all": { "$push": "$$ROOT" } } },
            ]),
        ),
        (
            "facets",
            on_customers(vec![
                doc! { "$sort": { "_id": 1 } },
                doc! { "$facet": { "one": [{ "$limit": 1 }], "cards": [{ "$project": { "x": "$payment.card" } }] } },
            ]),
        ),
        (
            "looked up from an open collection",
            aggregate(
                "orders",
                vec![
                    doc! { "$sort": { "_id": 1 } },
                    doc! { "$lookup": { "from": "customers", "localField": "customer", "foreignField": "_id", "as": "who" } },
                ],
            ),
        ),
        (
            "looked up by a pipeline",
            aggregate(
                "orders",
                vec![
                    doc! { "$sort": { "_id": 1 } },
                    doc! { "$lookup": { "from": "customers", "let": { "id": "$customer" }, "pipeline": [{ "$match": { "$expr": { "$eq": ["$_id", "$$id"] } } }, { "$addFields": { "again": "$ssn" } }], "as": "who" } },
                ],
            ),
        ),
        (
            "a union with an open collection",
            aggregate(
                "orders",
                vec![
                    doc! { "$unionWith": { "coll": "customers", "pipeline": [{ "$sort": { "_id": 1 } }] } },
                    doc! { "$match": { "city": "Leith" } },
                ],
            ),
        ),
    ]
}

#[tokio::test]
async fn a_value_is_masked_by_every_road_and_its_reader_sees_it_by_the_same() {
    let mut world = World::new().await;
    for (road, command) in roads() {
        let plain = world.billing.found(&command).await;
        let masked = world.support.found(&command).await;
        let values = assert_masked(&Bson::Array(plain), &Bson::Array(masked));
        assert!(values >= 6, "{road}: {values} values");
    }
    assert!(world.billing.saw_a_canary());
    assert!(!world.support.saw_a_canary());
}

#[tokio::test]
async fn a_view_shows_masks() {
    let mut world = World::new().await;
    for command in [
        doc! { "find": "view", "sort": { "_id": 1 } },
        doc! { "aggregate": "view", "pipeline": [{ "$sort": { "_id": 1 } }, { "$project": { "moved": "$card" } }] },
    ] {
        let plain = world.billing.found(&command).await;
        let masked = world.support.found(&command).await;
        assert!(assert_masked(&Bson::Array(plain), &Bson::Array(masked)) >= 2);
    }
    assert!(!world.support.saw_a_canary());
}

#[tokio::test]
async fn what_find_and_modify_answers_is_masked() {
    let mut world = World::new().await;
    for new in [false, true] {
        let command = doc! { "findAndModify": "customers", "query": { "_id": 1 }, "update": { "$set": { "city": "Leith" } }, "new": new };
        let plain = world.billing.run(&command).await;
        let masked = world.support.run(&command).await;
        let value = |answer: &Document| answer.get("value").unwrap().clone();
        assert_eq!(assert_masked(&value(&plain), &value(&masked)), 7);
    }
    let removed = doc! { "findAndModify": "customers", "query": { "_id": 2 }, "remove": true };
    let removed = world.support.run(&removed).await;
    let value = removed.get("value").unwrap();
    assert_eq!(assert_masked(&customer(2).into(), value), 7);
    assert!(!world.support.saw_a_canary());
}

#[tokio::test]
async fn the_transaction_of_another_session_shows_masks() {
    let mut world = World::new().await;
    let session = mongodb::bson::uuid::Uuid::new();
    let within = |mut command: Document, start: bool| {
        command.insert("lsid", doc! { "id": session });
        command.insert("txnNumber", 1_i64);
        command.insert("autocommit", false);
        if start {
            command.insert("startTransaction", true);
        }
        command
    };
    let find = doc! { "find": "customers", "sort": { "_id": 1 } };
    let change = doc! { "update": "customers", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "ssn": format!("{CANARY}-new") } } }] };
    world.billing.run(&within(change, true)).await;
    let batch = |answer: Document| {
        let cursor = answer.get_document("cursor").unwrap();
        cursor.get("firstBatch").unwrap().clone()
    };
    let plain = batch(world.billing.run(&within(find.clone(), false)).await);
    let masked = batch(world.support.run(&within(find, false)).await);
    assert_eq!(assert_masked(&plain, &masked), 14);
    let mut abort = within(doc! { "abortTransaction": 1 }, false);
    abort.insert("$db", "admin");
    world.billing.database = "admin".to_owned();
    world.billing.run(&abort).await;
    assert!(!world.support.saw_a_canary());
}

#[tokio::test]
async fn plans_indexes_and_statistics_show_no_value() {
    let mut world = World::new().await;
    let index = doc! { "createIndexes": "customers", "indexes": [{ "key": { "payment.card": 1 }, "name": "card" }] };
    world.billing.run(&index).await;
    for command in [
        doc! { "explain": { "find": "customers", "filter": { "city": "Leith" } }, "verbosity": "queryPlanner" },
        doc! { "explain": { "aggregate": "customers", "pipeline": [{ "$project": { "x": "$ssn" } }], "cursor": {} }, "verbosity": "queryPlanner" },
        doc! { "listIndexes": "customers" },
        doc! { "collStats": "customers" },
        doc! { "listCollections": 1 },
        doc! { "aggregate": "customers", "pipeline": [{ "$indexStats": {} }], "cursor": {} },
    ] {
        world.support.run(&command).await;
    }
    assert!(!world.support.saw_a_canary());
}

#[tokio::test]
async fn a_duplicate_is_told_of_without_its_value() {
    let mut world = World::new().await;
    let index = doc! { "createIndexes": "customers", "indexes": [{ "key": { "ssn": 1, "city": 1 }, "name": "one", "unique": true }] };
    world.billing.run(&index).await;
    let again = doc! { "insert": "customers", "documents": [{ "_id": 9, "city": "Leith", "ssn": format!("{CANARY}-1") }] };
    let answer = world.intake.ask(&again).await;
    let errors = answer.get_array("writeErrors").unwrap();
    assert!(errors[0].to_string().contains("11000"), "{answer}");
    assert!(!world.intake.saw_a_canary(), "{answer}");
    // By an update of an open field alone, too.
    let other = doc! { "insert": "customers", "documents": [{ "_id": 10, "city": "Ayr", "ssn": format!("{CANARY}-1") }] };
    world.intake.run(&other).await;
    let update = doc! { "update": "customers", "updates": [{ "q": { "_id": 10 }, "u": { "$set": { "city": "Leith" } } }] };
    let answer = world.support.ask(&update).await;
    assert!(answer.contains_key("writeErrors"), "{answer}");
    assert!(!world.support.saw_a_canary(), "{answer}");
}
