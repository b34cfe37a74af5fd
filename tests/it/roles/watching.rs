//! Change streams show masks in every part of an event.

use std::time::Instant;

use super::*;
use crate::support::PATIENCE;

/// The next so many events of a stream.
pub(super) async fn events(client: &mut Client, opened: &Document, count: usize) -> Vec<Bson> {
    let mut cursor = opened.get_document("cursor").unwrap().clone();
    let deadline = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    loop {
        for batch in ["firstBatch", "nextBatch"] {
            events.extend(cursor.get_array(batch).into_iter().flatten().cloned());
        }
        if events.len() >= count {
            return events;
        }
        assert!(Instant::now() < deadline, "{events:?}");
        let (_, name) = cursor.get_str("ns").unwrap().split_once('.').unwrap();
        let more =
            doc! { "getMore": cursor.get_i64("id").unwrap(), "collection": name, "maxTimeMS": 500 };
        cursor = client
            .run(&more)
            .await
            .get_document("cursor")
            .unwrap()
            .clone();
    }
}

/// What the events of two streams have in common.
fn parts(events: &[Bson]) -> Bson {
    let parts = [
        "operationType",
        "fullDocument",
        "fullDocumentBeforeChange",
        "updateDescription",
    ];
    let essence = |event: &Bson| {
        let event = event.as_document().unwrap();
        let kept = event
            .iter()
            .filter(|(name, _)| parts.contains(&name.as_str()));
        Bson::Document(
            kept.map(|(name, part)| (name.clone(), part.clone()))
                .collect(),
        )
    };
    Bson::Array(events.iter().map(essence).collect())
}

#[tokio::test]
async fn documents_their_pre_images_and_changes_are_masked() {
    let mut world = World::new().await;
    let options =
        doc! { "fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable" };
    let changed = doc! { "ssn": format!("{CANARY}-3"), "payment.card": format!("4929-{CANARY}-9012"), "payment.exp": "10/30" };
    for on in [Bson::from("customers"), Bson::from(1)] {
        let stream = doc! { "aggregate": on, "pipeline": [{ "$changeStream": options.clone() }], "cursor": {} };
        let billing = world.billing.run(&stream).await;
        let support = world.support.run(&stream).await;
        let mut writer = world.client(Role::Intake).await;
        for command in [
            doc! { "insert": "customers", "documents": [customer(3)] },
            doc! { "update": "customers", "updates": [{ "q": { "_id": 3 }, "u": { "$set": changed.clone() } }] },
            doc! { "update": "customers", "updates": [{ "q": { "_id": 3 }, "u": customer(3) }] },
            doc! { "delete": "customers", "deletes": [{ "q": { "_id": 3 }, "limit": 1 }] },
        ] {
            writer.run(&command).await;
        }
        let plain = events(&mut world.billing, &billing, 4).await;
        let masked = events(&mut world.support, &support, 4).await;
        // Two documents and two images of each write, and the update's own values.
        let values = assert_masked(&parts(&plain), &parts(&masked));
        assert_eq!(values, 7 + (7 + 7 + 2) + (7 + 7) + 7);
    }
    assert!(world.billing.saw_a_canary() && !world.support.saw_a_canary());
}
