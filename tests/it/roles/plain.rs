//! Plain values that wait to be sealed are masked where they belong, and cannot be had
//! from anywhere else.

use super::watching::events;
use super::*;

async fn world() -> World {
    let world = World::new().await;
    let moving = world.stored.collection::<Document>("moving");
    moving
        .insert_many([customer(1), customer(2)])
        .await
        .unwrap();
    world
}

#[tokio::test]
async fn a_plain_value_is_masked_where_its_field_is_known() {
    let mut world = world().await;
    let sort = doc! { "$sort": { "_id": 1 } };
    for command in [
        doc! { "find": "moving", "sort": { "_id": 1 } },
        doc! { "aggregate": "moving", "pipeline": [sort.clone()] },
        doc! { "aggregate": "moving", "pipeline": [sort.clone(), { "$project": { "a": "$ssn", "b": { "c": "$payment" }, "d": "$$ROOT" } }] },
        doc! { "aggregate": "moving", "pipeline": [sort, { "$group": { "_id": "$city", "all": { "$push": "$payment.card" } } }] },
        doc! { "aggregate": "orders", "pipeline": [{ "$sort": { "_id": 1 } }, { "$lookup": { "from": "moving", "localField": "customer", "foreignField": "_id", "as": "who" } }] },
    ] {
        let plain = world.billing.found(&command).await;
        let masked = world.support.found(&command).await;
        let masked = Bson::Array(masked);
        let plain = Bson::Array(plain);
        assert!(count(&plain) >= 2, "{command}");
        assert_eq!(
            assert_masked_plain(&plain, &masked),
            count(&plain),
            "{command}"
        );
    }
    let change = doc! { "findAndModify": "moving", "query": { "_id": 1 }, "update": { "$set": { "city": "Leith" } } };
    world.support.run(&change).await;
    assert!(!world.support.saw_a_canary());
}

#[tokio::test]
async fn where_nothing_tells_what_a_plain_value_is_the_command_is_refused() {
    let mut world = world().await;
    for command in [
        doc! { "find": "moving", "projection": { "x": "$ssn" } },
        doc! { "aggregate": "moving", "pipeline": [{ "$project": { "x": ["$ssn", "$city"] } }], "cursor": {} },
        doc! { "aggregate": "moving", "pipeline": [{ "$changeStream": {} }, { "$addFields": { "x": "$fullDocument.ssn" } }], "cursor": {} },
        doc! { "aggregate": "moving", "pipeline": [{ "$changeStream": {} }, { "$addFields": { "documentKey": { "x": "$fullDocument.ssn" } } }], "cursor": {} },
        doc! { "aggregate": 1, "pipeline": [{ "$changeStream": {} }, { "$addFields": { "x": "$fullDocument.ssn" } }], "cursor": {} },
        doc! { "aggregate": "moving", "pipeline": [{ "$replaceWith": { "$mergeObjects": ["$payment", "$$ROOT"] } }], "cursor": {} },
        doc! { "find": "moving", "projection": { "x": "$$ROOT" } },
        doc! { "findAndModify": "moving", "query": { "_id": 1 }, "update": { "$set": { "city": "Ayr" } }, "fields": { "x": "$payment" } },
        doc! { "find": "system.profile" },
        doc! { "aggregate": "orders", "pipeline": [{ "$unionWith": "system.profile" }], "cursor": {} },
    ] {
        world.support.refused(&command).await;
    }
    world.support.database = "local".to_owned();
    world
        .support
        .refused(&doc! { "find": "oplog.rs", "limit": 1 })
        .await;
    assert!(!world.support.saw_a_canary());
}

#[tokio::test]
async fn events_about_plain_documents_show_masks() {
    let mut world = world().await;
    let stream = doc! { "$changeStream": { "fullDocument": "updateLookup" } };
    for (on, stages) in [
        (Bson::from("moving"), vec![stream.clone()]),
        (Bson::from(1), vec![stream.clone()]),
        (
            "moving".into(),
            vec![
                stream,
                doc! { "$replaceWith": { "_id": "$_id", "x": "$fullDocument" } },
            ],
        ),
    ] {
        let opened = doc! { "aggregate": on, "pipeline": stages, "cursor": {} };
        let billing = world.billing.run(&opened).await;
        let support = world.support.run(&opened).await;
        let change = doc! { "update": "moving", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "city": "Ayr" } } }] };
        world.billing.run(&change).await;
        let back = doc! { "update": "moving", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "city": "Leith" } } }] };
        world.billing.run(&back).await;
        let plain = Bson::Array(events(&mut world.billing, &billing, 2).await);
        let masked = Bson::Array(events(&mut world.support, &support, 2).await);
        assert_eq!(count(&plain), 14);
        assert_eq!(count(&masked), 0);
        assert!(masked.to_string().contains("****9012"), "{masked}");
    }
    assert!(!world.support.saw_a_canary());
}

/// How many canaries there are.
fn count(value: &Bson) -> usize {
    match value {
        Bson::Document(document) => document.values().map(count).sum(),
        Bson::Array(values) => values.iter().map(count).sum(),
        Bson::Double(number) => usize::from(*number == SALARY),
        Bson::String(text) => usize::from(text.contains(CANARY)),
        _ => 0,
    }
}

/// As [`assert_masked`], but what is plain has no ciphertext.
fn assert_masked_plain(plain: &Bson, masked: &Bson) -> usize {
    fn without_memo(value: &Bson) -> Bson {
        match value {
            Bson::Document(document) => {
                let parts = document.iter();
                Bson::Document(
                    parts
                        .map(|(name, of)| (name.clone(), without_memo(of)))
                        .collect(),
                )
            }
            Bson::Array(values) => values.iter().map(without_memo).collect::<Vec<_>>().into(),
            Bson::String(text) if text.starts_with("calls ") => CANARY.into(),
            other => other.clone(),
        }
    }
    assert_masked(&without_memo(plain), masked)
}
