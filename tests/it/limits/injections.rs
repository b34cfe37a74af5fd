//! Operators and documents where the schema says that a text is.

use mongodb::bson::{Bson, doc};

use super::*;

const CANARY: &str = "canary-7391";

#[tokio::test]
async fn operators_in_place_of_a_sealed_value_are_refused_without_repeating_what_came() {
    let proxy = start("").await;
    let database = &unique_database("limits");
    let mut wire = one(&proxy).await;
    writes_and_finds(&mut wire, database, 1).await;
    let find = |value: Bson| doc! { "find": "people", "filter": { "ssn": value }, "$db": database };
    let write = |value: Bson| doc! { "insert": "people", "documents": [{ "_id": 9, "ssn": value }], "$db": database };
    let set = |value: Bson| {
        let statement = doc! { "q": { "_id": 1 }, "u": { "$set": { "ssn": value } } };
        doc! { "update": "people", "updates": [statement], "$db": database }
    };
    let operator = |name: &str| Bson::from(doc! { name: CANARY });
    let mut commands = Vec::new();
    for name in ["$gt", "$gte", "$lt", "$lte", "$regex", "$nonsense"] {
        commands.push(find(operator(name)));
    }
    commands.push(find(doc! { "$in": [operator("$gt")] }.into()));
    commands.push(find(doc! { "$eq": { "x": CANARY } }.into()));
    commands.push(find(doc! { "x": CANARY }.into()));
    for value in [operator("$gt"), doc! { "x": CANARY }.into(), 7391.into()] {
        commands.push(write(value.clone()));
        commands.push(set(value));
    }
    for command in commands {
        let answer = wire.ask(&command).await;
        let refused = answer.get_f64("ok").ok() == Some(0.0) || answer.contains_key("writeErrors");
        assert!(refused, "{command}: {answer}");
        let text = answer.to_string();
        assert!(text.contains("ssn"), "{command}: {answer}");
        assert!(!text.contains("7391"), "{command}: {answer}");
    }
    // A value of another type is found nowhere, since none is stored.
    let answer = wire.ask(&find(7391.into())).await;
    let cursor = answer.get_document("cursor").unwrap();
    assert!(cursor.get_array("firstBatch").unwrap().is_empty());
    let count = doc! { "count": "people", "$db": database };
    assert_eq!(wire.ask(&count).await.get_i32("n").ok(), Some(1));
}

#[tokio::test]
async fn negations_and_presence_mean_what_they_mean_in_mongodb() {
    let proxy = start("").await;
    let database = &unique_database("limits");
    let mut wire = one(&proxy).await;
    for id in 1..=3 {
        writes_and_finds(&mut wire, database, id).await;
    }
    for (condition, expected) in [
        (doc! { "$ne": null }, 3),
        (doc! { "$exists": true }, 3),
        (doc! { "$ne": "000000001" }, 2),
        (doc! { "$nin": ["000000001", "000000002"] }, 1),
    ] {
        let count = doc! { "count": "people", "query": { "ssn": &condition }, "$db": database };
        let answer = wire.ask(&count).await;
        assert_eq!(
            answer.get_i32("n").ok(),
            Some(expected),
            "{condition}: {answer}"
        );
    }
}
