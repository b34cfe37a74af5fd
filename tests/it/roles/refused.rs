//! Nothing can be asked of a field that one may not read.

use super::*;

#[tokio::test]
async fn no_question_about_a_masked_field_is_answered() {
    let mut world = World::new().await;
    for (path, mask) in FIELDS {
        let value = match mask {
            "null" => Bson::Double(SALARY),
            _ => CANARY.into(),
        };
        let by = |key: &str| doc! { key: 1 };
        let referred = format!("${path}");
        let aggregate =
            |stage: Document| doc! { "aggregate": "customers", "pipeline": [stage], "cursor": {} };
        for command in [
            doc! { "find": "customers", "filter": { path: value.clone() } },
            doc! { "find": "customers", "filter": { path: null } },
            doc! { "find": "customers", "filter": { path: { "$exists": true } } },
            doc! { "find": "customers", "sort": by(path) },
            doc! { "count": "customers", "query": { path: value.clone() } },
            doc! { "distinct": "customers", "key": path },
            doc! { "update": "customers", "updates": [{ "q": { path: value.clone() }, "u": { "$set": { "x": 1 } } }] },
            doc! { "delete": "customers", "deletes": [{ "q": { path: value.clone() }, "limit": 1 }] },
            doc! { "findAndModify": "customers", "query": { path: value.clone() }, "remove": true },
            doc! { "createIndexes": "customers", "indexes": [{ "key": by(path), "name": "i" }] },
            doc! { "explain": { "find": "customers", "filter": { path: value.clone() } } },
            aggregate(doc! { "$match": { path: value.clone() } }),
            aggregate(doc! { "$group": { "_id": referred.clone() } }),
            aggregate(doc! { "$sort": by(path) }),
            aggregate(
                doc! { "$lookup": { "from": "orders", "localField": path, "foreignField": "x", "as": "y" } },
            ),
        ] {
            world.support.refused(&command).await;
        }
        let watched = format!("fullDocument.{path}");
        let stream = doc! { "aggregate": "customers", "pipeline": [{ "$changeStream": {} }, { "$match": { watched: value } }], "cursor": {} };
        world.support.refused(&stream).await;
    }
    assert!(!world.support.saw_a_canary());
}

#[tokio::test]
async fn a_mask_that_is_written_back_does_not_take_the_place_of_the_value() {
    let mut world = World::new().await;
    // Who may not write the fields cannot put their documents back at all.
    let seen = world
        .support
        .found(&doc! { "find": "customers", "filter": { "_id": 1 } })
        .await;
    let mut seen = seen[0].as_document().unwrap().clone();
    let back =
        doc! { "update": "customers", "updates": [{ "q": { "_id": 1 }, "u": seen.clone() }] };
    let answer = world.support.ask(&back).await;
    assert_ne!(answer.get_i32("n").ok(), Some(1), "{answer}");
    // Who may write them but sees masks cannot store these.
    for (path, mask) in FIELDS {
        let shown = match path.split_once('.') {
            None => seen.remove(path).unwrap(),
            Some((outer, inner)) => seen
                .get_document(outer)
                .unwrap()
                .get(inner)
                .unwrap()
                .clone(),
        };
        let set = doc! { "update": "customers", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { path: shown } } }] };
        let answer = world.intake.ask(&set).await;
        assert!(answer.get_i32("n").ok() != Some(1), "{mask}: {answer}");
    }
    let found = world
        .billing
        .found(&doc! { "find": "customers", "filter": { "_id": 1 } })
        .await;
    assert_eq!(found, [customer(1).into()]);
}

#[tokio::test]
async fn which_values_are_equal_and_how_long_they_are_is_not_told() {
    let mut world = World::new().await;
    let index = doc! { "createIndexes": "customers", "indexes": [{ "key": { "payment.card": 1 }, "name": "card" }] };
    world.billing.run(&index).await;
    // MongoDB would say which documents have the same.
    for option in ["prepareUnique", "unique"] {
        let unique = doc! { "collMod": "customers", "index": { "name": "card", option: true } };
        world.support.refused(&unique).await;
        world.intake.refused(&unique).await;
    }
    let one = doc! { "_id": 1 };
    let size = doc! { "dataSize": format!("{}.customers", world.database), "keyPattern": &one, "min": &one, "max": { "_id": 2 } };
    world.support.refused(&size).await;
    world.billing.run(&size).await;
    let sorts = vec![doc! { "$match": &one }, doc! { "$sort": { "x": 1 } }];
    for name in ["customers", "view"] {
        let sorted = doc! { "aggregate": name, "pipeline": &sorts, "cursor": {} };
        let explain = doc! { "explain": sorted, "verbosity": "executionStats" };
        world.support.refused(&explain).await;
        world.billing.run(&explain).await;
    }
}
