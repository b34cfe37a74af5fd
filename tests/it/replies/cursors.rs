//! A reply that is refused leaves nothing open on MongoDB.

use super::*;
use futures::TryStreamExt;

/// How many cursors opened with this comment are open.
async fn open(world: &World, comment: &str) -> usize {
    let operations = [
        doc! { "$currentOp": { "allUsers": true, "idleCursors": true } },
        doc! { "$match": { "cursor.originatingCommand.comment": comment } },
    ];
    let found: Vec<Document> = world
        .admin
        .aggregate(operations)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    found.len()
}

#[tokio::test]
async fn the_cursor_of_a_batch_that_cannot_be_opened_is_closed() {
    let world = World::start().await;
    let comment = world.through.name().to_owned();
    let people = world.stored.collection::<Document>("people");
    let wrong =
        |id: i32| doc! { "_id": id, "ssn": if id < 3 { Bson::Null } else { "not sealed".into() } };
    people.insert_many((0..9).map(wrong)).await.unwrap();
    let find = |filter: Document| doc! { "find": "people", "filter": filter, "batchSize": 2, "comment": &comment };

    let answer = world.answer(&find(doc! { "_id": { "$gt": 2 } })).await;
    assert_eq!(answer.get_i32("code").unwrap(), 96);
    assert_eq!(open(&world, &comment).await, 0);

    let answer = world.answer(&find(doc! {})).await;
    let cursor = answer
        .get_document("cursor")
        .unwrap()
        .get_i64("id")
        .unwrap();
    assert_eq!(open(&world, &comment).await, 1);
    let more = doc! { "getMore": cursor, "collection": "people", "batchSize": 2 };
    let answer = world.answer(&more).await;
    assert_eq!(answer.get_i32("code").unwrap(), 96);
    assert_eq!(open(&world, &comment).await, 0);
    // As with MongoDB, it is not found again.
    assert_eq!(world.answer(&more).await.get_i32("code").unwrap(), 43);
}
