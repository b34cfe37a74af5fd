//! Cursors are read on by those alone who may see what those see who opened them.

use fieldseal::wire::flag;

use super::*;
use crate::support::wire::flags;

fn first(on: &str) -> Document {
    doc! { "find": on, "sort": { "_id": 1 }, "batchSize": 1 }
}

fn more(answer: &Document, on: &str) -> Document {
    let cursor = answer.get_document("cursor").unwrap();
    doc! { "getMore": cursor.get_i64("id").unwrap(), "collection": on }
}

#[tokio::test]
async fn a_cursor_that_another_role_opened_is_not_read_on() {
    let mut world = World::new().await;
    let renamed = doc! { "aggregate": "customers", "pipeline": [{ "$project": { "x": "$ssn" } }], "cursor": { "batchSize": 1 } };
    for (on, command) in [
        ("customers", first("customers")),
        ("customers", renamed),
        ("orders", first("orders")),
        ("view", first("view")),
    ] {
        let opened = world.billing.run(&command).await;
        let read = more(&opened, on);
        let refusal = world.support.refused(&read).await;
        assert!(refusal.contains("other roles"), "{refusal}");
        // Its own reader is not disturbed.
        world.billing.run(&read).await;

        let opened = world.support.run(&command).await;
        let read = more(&opened, on);
        world.billing.refused(&read).await;
        let mut colleague = world.client(Role::Support).await;
        colleague.run(&read).await;
        assert!(!colleague.saw_a_canary());
    }
    assert!(!world.support.saw_a_canary());
}

#[tokio::test]
async fn a_cursor_that_the_proxy_does_not_know_shows_masks() {
    let mut world = World::new().await;
    // Opened on MongoDB itself.
    let mut direct = Wire::connect(&shared_replica_set().await.addresses()[0]).await;
    let mut command = first("customers");
    command.insert("$db", &world.database);
    let opened = direct.ask(&command).await;
    let mut read = more(&opened, "customers");
    read.insert("batchSize", 10);
    // In `moving` there may be plain values, which no header tells of.
    let refusal = world.support.refused(&read).await;
    assert!(refusal.contains("run the query again"), "{refusal}");
    let answer = world.billing.run(&read).await;
    let batch = answer.get_document("cursor").unwrap();
    assert_eq!(batch.get_array("nextBatch").unwrap()[0], customer(2).into());
}

#[tokio::test]
async fn a_stream_ends_when_its_reader_loses_the_role_that_it_began_with() {
    let mut world = World::new().await;
    let watch =
        doc! { "aggregate": "customers", "pipeline": [{ "$changeStream": {} }], "cursor": {} };
    let mut reader = world.client(Role::Billing).await;
    let mut read = more(&reader.run(&watch).await, "customers");
    read.insert("$db", &world.database);
    reader.wire.command(flag::EXHAUST_ALLOWED, &read).await;
    let insert = |id: i32| doc! { "insert": "customers", "documents": [customer(id)] };
    world.intake.run(&insert(3)).await;
    let frame = reader.wire.receive().await.unwrap();
    assert_ne!(flags(&frame) & flag::MORE_TO_COME, 0);
    let shown = |frame: &[u8]| memchr::memmem::find(frame, CANARY.as_bytes()).is_some();
    assert!(shown(&frame));

    let configuration = world.proxy.configuration();
    let text = std::fs::read_to_string(&configuration).unwrap();
    let others = text.replace("127.0.0.3/32", "127.0.0.33/32");
    assert_ne!(text, others);
    std::fs::write(&configuration, others).unwrap();
    world.proxy.process_mut().signal("HUP");
    world.proxy.wait_for_log(&["taken up anew"]).await;
    world.intake.run(&insert(4)).await;
    // It may have been waiting for a batch, but gets none.
    assert_eq!(reader.wire.receive().await, None);
    world.proxy.wait_for_log(&["other roles"]).await;
}
