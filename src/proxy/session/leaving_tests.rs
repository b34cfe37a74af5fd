//! How sessions end when the proxy stops.

#![allow(clippy::unwrap_used, reason = "tests")]

use bson::{Bson, Document, doc};
use tokio::io::AsyncWriteExt as _;

use super::leaving::{Unfinished, labels, quiet};
use super::tests::{
    Both, answer, both_of, content, numbered, ping, read, read_to_end, shared_with,
};
use super::*;
use crate::reveal::first_cursor;
use crate::wire::testing::{body, document, msg, query};
use crate::wire::{Reply, flag};

fn both() -> Both {
    both_of(Arc::new(shared_with(Limits::default())))
}

async fn send(both: &mut Both, frame: &[u8]) {
    both.client.write_all(frame).await.unwrap();
}

/// An error of the proxy's, of a server that goes away; with these labels.
fn assert_going(answer: &Document, code: i32, labels: &[&str]) {
    assert_eq!(answer.get_f64("ok").unwrap(), 0.0);
    assert_eq!(answer.get_i32("code").unwrap(), code, "{answer}");
    let said: Vec<&str> = answer.get_array("errorLabels").map_or_else(
        |_| Vec::new(),
        |said| said.iter().filter_map(Bson::as_str).collect(),
    );
    assert_eq!(said, labels, "{answer}");
    assert!(!answer.contains_key("topologyVersion"), "{answer}");
}

fn command(flags: u32, request_id: i32, command: &Document) -> Vec<u8> {
    numbered(msg(flags, &body(command)), request_id, 0)
}

#[tokio::test]
async fn while_it_drains_what_is_under_way_ends_and_more_may_come_until_the_client_is_quiet() {
    let mut both = both();
    send(&mut both, &ping(1)).await;
    read(&mut both.mongodb).await;
    both.stop.send(Stage::Draining).unwrap();
    both.mongodb.write_all(&answer(0, 11, 1)).await.unwrap();
    assert_eq!(read(&mut both.client).await, answer(0, 11, 1));
    send(&mut both, &ping(2)).await;
    assert_eq!(read(&mut both.mongodb).await, ping(2));
    both.mongodb.write_all(&answer(0, 12, 2)).await.unwrap();
    assert_eq!(read(&mut both.client).await, answer(0, 12, 2));
    assert_eq!(read_to_end(&mut both.client).await, b"");
    assert!(matches!(both.session.await.unwrap(), Ended::Stopping));
}

#[tokio::test]
async fn while_it_drains_hello_is_refused_in_every_form_and_asked_of_nobody() {
    let mut both = both();
    both.stop.send(Stage::Draining).unwrap();
    for name in ["hello", "isMaster", "ismaster"] {
        let hello = doc! {name: 1, "$db": "admin"};
        for frame in [
            command(0, 5, &hello),
            command(flag::EXHAUST_ALLOWED, 5, &hello),
            numbered(query("admin.$cmd", &document(&doc! {name: 1})), 5, 0),
            numbered(
                query("admin.$cmd", &document(&doc! {"$query": {name: 1}})),
                5,
                0,
            ),
        ] {
            send(&mut both, &frame).await;
            let refused = read(&mut both.client).await;
            assert_eq!(refused[8..12], 5_i32.to_le_bytes());
            assert_going(&content(&refused), 91, &[]);
        }
    }
    assert_eq!(read_to_end(&mut both.mongodb).await, b"");
}

#[tokio::test]
async fn a_hello_that_waits_for_news_is_told_at_once_that_the_proxy_stops() {
    let wait = doc! {"hello": 1, "maxAwaitTimeMS": 10_000, "topologyVersion": {}, "$db": "admin"};
    for streaming in [false, true] {
        let mut both = both();
        let flags = if streaming { flag::EXHAUST_ALLOWED } else { 0 };
        send(&mut both, &command(flags, 3, &wait)).await;
        read(&mut both.mongodb).await;
        let mut last = 3;
        if streaming {
            let first = answer(flag::MORE_TO_COME, 21, 3);
            both.mongodb.write_all(&first).await.unwrap();
            read(&mut both.client).await;
            last = 21;
        }
        both.stop.send(Stage::Draining).unwrap();
        let told = read(&mut both.client).await;
        assert_eq!(told[8..12], i32::to_le_bytes(last));
        assert_going(&content(&told), 91, &[]);
        let Message::Msg(message) = Message::recognise(&told).unwrap() else {
            panic!("another form");
        };
        assert_eq!(message.flags & flag::MORE_TO_COME, 0);
        assert_eq!(read_to_end(&mut both.client).await, b"");
        assert!(matches!(both.session.await.unwrap(), Ended::Stopping));
    }
}

#[tokio::test]
async fn a_connection_with_an_open_cursor_is_kept_until_it_is_read() {
    let mut both = both();
    let reply = |number: i32, to: i32, id: i64| {
        let cursor = doc! {"cursor": {"firstBatch": [{"x": 1}], "id": id, "ns": "d.c"}, "ok": 1.0};
        numbered(msg(0, &body(&cursor)), number, to)
    };
    let find = command(0, 1, &doc! {"find": "c", "$db": "d"});
    send(&mut both, &find).await;
    read(&mut both.mongodb).await;
    both.mongodb.write_all(&reply(11, 1, 7)).await.unwrap();
    read(&mut both.client).await;
    both.stop.send(Stage::Draining).unwrap();
    let longer = super::super::life::QUIET * 3 / 2;
    assert!(
        timeout(longer, read_to_end(&mut both.client))
            .await
            .is_err()
    );
    send(
        &mut both,
        &command(
            0,
            2,
            &doc! {"getMore": 7_i64, "collection": "c", "$db": "d"},
        ),
    )
    .await;
    read(&mut both.mongodb).await;
    both.mongodb.write_all(&reply(12, 2, 0)).await.unwrap();
    read(&mut both.client).await;
    assert_eq!(read_to_end(&mut both.client).await, b"");
}

#[tokio::test]
async fn while_it_drains_a_request_that_has_begun_to_come_is_waited_for_and_done() {
    let mut both = both();
    both.stop.send(Stage::Draining).unwrap();
    let request = ping(1);
    let (begun, rest) = request.split_at(20);
    send(&mut both, begun).await;
    let longer = super::super::life::QUIET * 3 / 2;
    assert!(
        timeout(longer, read_to_end(&mut both.client))
            .await
            .is_err()
    );
    send(&mut both, rest).await;
    assert_eq!(read(&mut both.mongodb).await, request);
    both.mongodb.write_all(&answer(0, 11, 1)).await.unwrap();
    assert_eq!(read(&mut both.client).await, answer(0, 11, 1));
    assert_eq!(read_to_end(&mut both.client).await, b"");
}

#[tokio::test]
async fn at_the_end_a_request_that_has_begun_to_come_is_not_waited_for() {
    let mut both = both();
    send(&mut both, &ping(1)[..20]).await;
    tokio::task::yield_now().await;
    both.stop.send(Stage::Draining).unwrap();
    tokio::task::yield_now().await;
    both.stop.send(Stage::Ending).unwrap();
    assert_eq!(read_to_end(&mut both.client).await, b"");
    assert_eq!(read_to_end(&mut both.mongodb).await, b"");
    assert!(matches!(both.session.await.unwrap(), Ended::Stopping));
}

#[tokio::test]
async fn while_it_drains_writes_that_want_no_reply_are_done_in_the_order_that_they_came() {
    let mut both = both();
    both.stop.send(Stage::Draining).unwrap();
    let insert =
        doc! {"insert": "c", "documents": [{"x": 1}], "writeConcern": {"w": 0}, "$db": "d"};
    let writes = [1, 2, 3].map(|number| command(flag::MORE_TO_COME, number, &insert));
    send(&mut both, &writes.concat()).await;
    for write in &writes {
        assert_eq!(&read(&mut both.mongodb).await, write);
    }
    assert_eq!(read_to_end(&mut both.client).await, b"");
    assert_eq!(read_to_end(&mut both.mongodb).await, b"");
}

#[tokio::test]
async fn at_the_end_an_operation_under_way_is_an_error_and_ends_on_mongodb_too() {
    let mut both = both();
    let update = doc! {"update": "c", "updates": [], "txnNumber": 4_i64, "$db": "d"};
    send(&mut both, &command(0, 9, &update)).await;
    read(&mut both.mongodb).await;
    both.stop.send(Stage::Ending).unwrap();
    let told = read(&mut both.client).await;
    assert_eq!(told[8..12], 9_i32.to_le_bytes());
    assert_going(&content(&told), 11600, &["RetryableWriteError"]);
    assert_eq!(read_to_end(&mut both.client).await, b"");
    assert_eq!(read_to_end(&mut both.mongodb).await, b"");
    assert!(matches!(both.session.await.unwrap(), Ended::Stopping));
}

#[tokio::test]
async fn at_the_end_a_reply_that_has_begun_is_passed_on_whole() {
    let mut both = both();
    send(&mut both, &ping(1)).await;
    read(&mut both.mongodb).await;
    let reply = answer(0, 11, 1);
    let (begun, rest) = reply.split_at(20);
    both.mongodb.write_all(begun).await.unwrap();
    // The session has seen it before it hears of the end.
    tokio::task::yield_now().await;
    both.stop.send(Stage::Ending).unwrap();
    tokio::task::yield_now().await;
    both.mongodb.write_all(rest).await.unwrap();
    assert_eq!(read(&mut both.client).await, reply);
}

#[tokio::test]
async fn at_the_end_a_command_that_comes_is_not_begun() {
    let mut both = both();
    both.stop.send(Stage::Ending).unwrap();
    send(&mut both, &ping(6)).await;
    assert_going(&content(&read(&mut both.client).await), 91, &[]);
    assert_eq!(read_to_end(&mut both.client).await, b"");
    assert_eq!(read_to_end(&mut both.mongodb).await, b"");
}

/// What is said of each command: its labels, and whether it leaves a transaction open.
#[test]
fn errors_have_the_labels_by_which_drivers_try_again_what_they_may() {
    let retryable: &[&str] = &["RetryableWriteError"];
    let transient: &[&str] = &["TransientTransactionError"];
    let cases: [(Document, &[&str], bool); 8] = [
        (doc! {"insert": "c"}, &[], false),
        (
            doc! {"insert": "c", "lsid": {}, "txnNumber": 1_i64},
            retryable,
            false,
        ),
        (doc! {"find": "c", "lsid": {}}, &[], false),
        (
            doc! {"find": "c", "txnNumber": 1_i64, "autocommit": false},
            transient,
            true,
        ),
        (
            doc! {"getMore": 1_i64, "txnNumber": 1_i64, "autocommit": false},
            transient,
            true,
        ),
        (
            doc! {"commitTransaction": 1, "txnNumber": 1_i64, "autocommit": false},
            retryable,
            false,
        ),
        (
            doc! {"abortTransaction": 1, "txnNumber": 1_i64, "autocommit": false},
            retryable,
            false,
        ),
        (
            doc! {"getMore": 1_i64, "collection": "c"},
            &["ResumableChangeStreamError"],
            false,
        ),
    ];
    for (mut asked, expected, open) in cases {
        asked.insert("$db", "d");
        let frame = msg(0, &body(&asked));
        let message = Message::recognise(&frame).unwrap();
        let request = rewrite::Request::of(&message);
        assert_eq!(labels(&request), expected, "{asked}");
        let unfinished = Unfinished::of(&request);
        assert_eq!(
            quiet(Stage::Draining, &unfinished).is_none(),
            open,
            "{asked}"
        );
        assert!(quiet(Stage::Serving, &unfinished).is_none());
        assert!(quiet(Stage::Ending, &unfinished).is_some());
    }
}

#[test]
fn whether_a_reply_leaves_a_cursor_open_is_what_it_says_first() {
    let leaves = |reply: Document| {
        let frame = msg(0, &body(&reply));
        let mut unfinished = Unfinished::default();
        unfinished.note(first_cursor(&Reply::recognise(&frame).unwrap()));
        quiet(Stage::Draining, &unfinished).is_none()
    };
    let batch = |id: Bson| doc! {"cursor": {"nextBatch": [{"id": 5}], "id": id}, "ok": 1.0};
    assert!(leaves(batch(Bson::Int64(9))));
    for reply in [
        batch(Bson::Int64(0)),
        batch(Bson::Null),
        doc! {"cursor": 5, "ok": 1.0},
        doc! {"n": 1, "cursor": {"id": 5}},
        doc! {},
    ] {
        assert!(!leaves(reply.clone()), "{reply}");
    }
}
