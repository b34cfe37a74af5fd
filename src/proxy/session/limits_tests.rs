//! What becomes of a client that is slow, idle or over a limit, and of the others.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::num::NonZeroU32;

use bson::doc;
use tokio::io::AsyncWriteExt as _;

use super::tests::*;
use super::*;
use crate::config::Rate;
use crate::wire::flag;
use crate::wire::testing::{body, msg};

fn short() -> Limits {
    Limits {
        handshake_timeout: Duration::from_millis(100),
        ..Limits::default()
    }
}

async fn ended(both: Both) -> Ended {
    timeout(PATIENCE, both.session).await.unwrap().unwrap()
}

/// A reply as long as this.
fn long_reply(length: usize, response_to: i32) -> Vec<u8> {
    let reply = msg(0, &body(&doc! {"x": "y".repeat(length), "ok": 1.0}));
    numbered(reply, 100, response_to)
}

/// Has the session serve one ping.
async fn serves(both: &mut Both) {
    both.client.write_all(&ping(1)).await.unwrap();
    assert_eq!(read(&mut both.mongodb).await, ping(1));
    both.mongodb.write_all(&answer(0, 5, 1)).await.unwrap();
    read(&mut both.client).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_reply_is_cut_off() {
    let mut both = both_of(Arc::new(shared_with(short())));
    both.client.write_all(&ping(1)).await.unwrap();
    read(&mut both.mongodb).await;
    // More than lies in the pipe to the client.
    let reply = long_reply(2 << 20, 1);
    // Fails when the session ends before it has read all.
    let _ = timeout(PATIENCE, both.mongodb.write_all(&reply))
        .await
        .unwrap();
    let ended = ended(both).await;
    assert!(
        matches!(ended, Ended::Unread) && ended.code().is_some(),
        "{ended}"
    );
}

#[tokio::test]
async fn an_idle_client_is_let_go_without_a_warning_and_one_that_waits_is_not_idle() {
    let limits = Limits {
        idle_timeout: Some(Duration::from_millis(30)),
        handshake_timeout: PATIENCE,
        ..Limits::default()
    };
    let mut both = both_of(Arc::new(shared_with(limits)));
    both.client.write_all(&ping(1)).await.unwrap();
    read(&mut both.mongodb).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    both.mongodb.write_all(&answer(0, 5, 1)).await.unwrap();
    assert_eq!(read(&mut both.client).await, answer(0, 5, 1));
    assert!(read_to_end(&mut both.client).await.is_empty());
    let ended = ended(both).await;
    assert!(ended.code().is_none(), "{ended}");
    assert!(
        ended.to_string().contains("idle_timeout_seconds"),
        "{ended}"
    );
}

#[tokio::test]
async fn what_waits_for_memory_goes_on_when_there_is_some_and_holds_up_no_small_one() {
    let shared = Arc::new(shared_with(Limits {
        memory_bytes: Some(1 << 20),
        handshake_timeout: PATIENCE,
        ..Limits::default()
    }));
    let mut first = both_of(Arc::clone(&shared));
    let mut second = both_of(Arc::clone(&shared));
    let mut third = both_of(Arc::clone(&shared));
    // The first holds its room as long as MongoDB does not read.
    let request = insert(0, 700_000);
    first.client.write_all(&request).await.unwrap();
    second.client.write_all(&request).await.unwrap();
    let early = timeout(Duration::from_millis(50), read(&mut second.mongodb)).await;
    assert!(early.is_err(), "there was room for both");
    serves(&mut third).await;
    assert_eq!(read(&mut first.mongodb).await, request);
    assert_eq!(read(&mut second.mongodb).await, request);
    // Both wait for their replies now, and hold nothing.
    for both in [&mut second, &mut first] {
        let reply = long_reply(900_000, 7);
        let Both {
            client, mongodb, ..
        } = both;
        let (sent, got) = tokio::join!(mongodb.write_all(&reply), read(client));
        sent.unwrap();
        assert_eq!(got, reply);
    }
}

#[tokio::test]
async fn many_clients_with_messages_as_large_as_all_the_memory_all_get_through() {
    let shared = Arc::new(shared_with(Limits {
        memory_bytes: Some(300_000),
        handshake_timeout: PATIENCE,
        ..Limits::default()
    }));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let both = both_of(Arc::clone(&shared));
        clients.spawn(async move {
            let Both {
                mut client,
                mut mongodb,
                stop,
                session,
            } = both;
            let serving = tokio::spawn(async move {
                for _ in 0..3 {
                    assert_eq!(read(&mut mongodb).await, insert(0, 290_000));
                    mongodb.write_all(&long_reply(290_000, 7)).await.unwrap();
                }
                mongodb
            });
            for _ in 0..3 {
                client.write_all(&insert(0, 290_000)).await.unwrap();
                assert_eq!(read(&mut client).await, long_reply(290_000, 7));
            }
            drop((client, serving.await.unwrap(), stop, session));
        });
    }
    while let Some(done) = timeout(PATIENCE, clients.join_next()).await.unwrap() {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_slow_reader_keeps_room_from_others_only_until_it_is_cut_off() {
    let shared = Arc::new(shared_with(Limits {
        memory_bytes: Some(3 << 20),
        ..short()
    }));
    let mut slow = both_of(Arc::clone(&shared));
    slow.client.write_all(&ping(1)).await.unwrap();
    read(&mut slow.mongodb).await;
    let reply = long_reply(2 << 20, 1);
    let stuck = tokio::spawn(async move {
        let _ = slow.mongodb.write_all(&reply).await;
        ended(slow).await
    });
    let mut other = both_of(shared);
    other.client.write_all(&insert(0, 900_000)).await.unwrap();
    assert_eq!(read(&mut other.mongodb).await, insert(0, 900_000));
    assert!(matches!(stuck.await.unwrap(), Ended::Unread));
}

#[tokio::test]
async fn commands_over_the_rate_are_refused_with_an_error_and_monitoring_goes_on() {
    let one = NonZeroU32::MIN;
    let shared = Arc::new(shared_with(Limits {
        commands: Some(Rate {
            per_second: one,
            burst: one,
        }),
        handshake_timeout: PATIENCE,
        ..Limits::default()
    }));
    let find = |id| numbered(msg(0, &body(&doc! {"find": "c", "$db": "d"})), id, 0);
    // One goes at once, one waits; they are of one principal.
    let mut first = both_of(Arc::clone(&shared));
    let mut second = both_of(Arc::clone(&shared));
    let mut third = both_of(Arc::clone(&shared));
    first.client.write_all(&find(1)).await.unwrap();
    read(&mut first.mongodb).await;
    second.client.write_all(&find(1)).await.unwrap();
    // The third comes after the second has its turn.
    serves(&mut third).await;
    third.client.write_all(&find(2)).await.unwrap();
    let refused = content(&read(&mut third.client).await);
    assert_eq!(refused.get_i32("code").unwrap(), 462, "{refused}");
    assert_eq!(
        refused.get_str("codeName").unwrap(),
        "IngressRequestRateLimitExceeded"
    );
    assert!(!refused.contains_key("errorLabels"), "{refused}");
    assert_eq!(read(&mut second.mongodb).await, find(1));
    // A write that nobody could be told of is not lost.
    let write = insert(flag::MORE_TO_COME, 10);
    third.client.write_all(&write).await.unwrap();
    assert_eq!(read(&mut third.mongodb).await, write);
}

#[tokio::test]
async fn a_connection_that_is_one_too_many_of_its_user_hears_so_and_is_closed() {
    let shared = Arc::new(shared_with(Limits {
        connections_per_principal: Some(1),
        ..Limits::default()
    }));
    let known = || Principal {
        user: Some("ann@admin".to_owned()),
        ..Principal::default()
    };
    let mut holder = Guest::new(Arc::clone(&shared.gate));
    holder.seated(&known()).unwrap();
    let mut both = both_as(shared, known());
    both.client.write_all(&ping(1)).await.unwrap();
    let refused = content(&read(&mut both.client).await);
    assert_eq!(refused.get_i32("code").unwrap(), 261, "{refused}");
    assert!(read_to_end(&mut both.client).await.is_empty());
    assert!(matches!(ended(both).await, Ended::Surplus));
}
