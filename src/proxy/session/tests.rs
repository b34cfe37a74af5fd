//! Sessions over in-memory pipes, with the test in MongoDB's place.

#![allow(clippy::unwrap_used, reason = "tests")]

mod observed;
mod vouched;

use std::time::Duration;

use arc_swap::ArcSwap;
use bson::{Document, doc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::config::Address;
use crate::keyring::Keyring;
use crate::proxy::routes::Routes;
use crate::proxy::stream::{ReadHalf, WriteHalf};
use crate::schema::Schema;
use crate::wire::testing::{body, document, msg, query, reply, sequence};
use crate::wire::{MAX_MESSAGE, Reply, finish, flag, inflate};

/// A session between two pipes.
pub(super) struct Both {
    pub(super) client: DuplexStream,
    pub(super) mongodb: DuplexStream,
    pub(super) stop: watch::Sender<Stage>,
    pub(super) session: JoinHandle<Ended>,
}

fn stream(pipe: DuplexStream) -> Stream {
    let (read, write) = split(pipe);
    Stream {
        read: ReadHalf::Other(Box::new(read)),
        write: WriteHalf::Other(Box::new(write)),
        peer: "peer".to_owned(),
        address: None,
        local: "local".to_owned(),
        certificate: None,
        tls: None,
    }
}

fn shared() -> Shared {
    shared_with(Limits {
        handshake_timeout: Duration::from_millis(200),
        ..Limits::default()
    })
}

pub(super) fn shared_with(limits: Limits) -> Shared {
    let keyring = Keyring {
        generation: 0,
        keys: Vec::new(),
    };
    let policy = Policy::compile(Arc::new(Schema::default()), Arc::new(keyring)).unwrap();
    let member = (
        Address::Tcp("mongo1:27017".to_owned()),
        "proxy:1".to_owned(),
    );
    let limits: crate::proxy::LimitsCell = Arc::new(ArcSwap::from_pointee(limits));
    Shared {
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        tls: crate::tls::TlsCell::default(),
        routes: Routes::new([member]),
        cursors: crate::proxy::cursors::Cursors::default(),
        gate: crate::proxy::gate::Gate::new(Arc::clone(&limits)),
        limits,
        audit: crate::observe::audit::Audit::default(),
        observers: crate::observe::Observers::default(),
    }
}

fn both() -> Both {
    both_of(Arc::new(shared()))
}

/// A session among others.
pub(super) fn both_of(shared: Arc<Shared>) -> Both {
    both_as(shared, Principal::default())
}

/// A session of someone, who shows the certificate that they have.
pub(super) fn both_as(shared: Arc<Shared>, principal: Principal) -> Both {
    let (client, near) = duplex(1 << 20);
    // Small, so that a long request cannot be sent while MongoDB does not read.
    let (far, mongodb) = duplex(4096);
    let (stop, stopping) = watch::channel(Stage::Serving);
    let upstream = Upstream::over(stream(far));
    let near = Stream {
        certificate: principal.certificate.clone(),
        ..stream(near)
    };
    let mut session = Session::new(near, upstream, shared, 0, Life::new(stopping));
    session.principal = principal;
    Both {
        client,
        mongodb,
        stop,
        session: tokio::spawn(session.run()),
    }
}

/// No test waits longer for bytes: what hangs has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn read(pipe: &mut DuplexStream) -> Vec<u8> {
    let mut frame = vec![0; 4];
    let all = async {
        pipe.read_exact(&mut frame).await.unwrap();
        let length = i32::from_le_bytes(*frame.first_chunk().unwrap());
        frame.resize(usize::try_from(length).unwrap(), 0);
        pipe.read_exact(&mut frame[4..]).await.unwrap();
    };
    timeout(PATIENCE, all).await.unwrap();
    frame
}

pub(super) async fn read_to_end(pipe: &mut DuplexStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let all = pipe.read_to_end(&mut rest);
    timeout(PATIENCE, all).await.unwrap().unwrap();
    rest
}

/// `frame` with another request id and another message that it responds to.
pub(super) fn numbered(mut frame: Vec<u8>, request_id: i32, response_to: i32) -> Vec<u8> {
    frame[4..8].copy_from_slice(&request_id.to_le_bytes());
    frame[8..12].copy_from_slice(&response_to.to_le_bytes());
    finish(&mut frame).unwrap();
    frame
}

pub(super) fn ping(request_id: i32) -> Vec<u8> {
    numbered(
        msg(0, &body(&doc! {"ping": 1, "$db": "admin"})),
        request_id,
        0,
    )
}

pub(super) fn answer(flags: u32, request_id: i32, response_to: i32) -> Vec<u8> {
    let sections = body(&doc! {"n": request_id, "ok": 1.0});
    numbered(msg(flags, &sections), request_id, response_to)
}

pub(super) fn insert(flags: u32, length: usize) -> Vec<u8> {
    let command = body(&doc! {"insert": "c", "$db": "d"});
    let documents = sequence("documents", &[doc! {"x": "y".repeat(length)}]);
    msg(flags, &[documents, command].concat())
}

pub(super) fn content(frame: &[u8]) -> Document {
    let range = Reply::recognise(frame).unwrap().body();
    bson::deserialize_from_slice(&frame[range]).unwrap()
}

#[tokio::test]
async fn what_concerns_no_sealed_field_passes_byte_for_byte_both_ways() {
    let mut both = both();
    for flags in [0, flag::CHECKSUM_PRESENT, 1 << 20] {
        let request = insert(flags, 10);
        both.client.write_all(&request).await.unwrap();
        assert_eq!(read(&mut both.mongodb).await, request);
        let reply = answer(flags, 1, 7);
        both.mongodb.write_all(&reply).await.unwrap();
        assert_eq!(read(&mut both.client).await, reply);
    }
}

#[tokio::test]
async fn that_mongodb_leaves_after_it_answered_is_no_warning() {
    let mut both = both();
    both.client.write_all(&ping(1)).await.unwrap();
    read(&mut both.mongodb).await;
    both.mongodb.write_all(&answer(0, 101, 1)).await.unwrap();
    read(&mut both.client).await;
    drop(both.mongodb);
    let ended = both.session.await.unwrap();
    assert!(matches!(ended, Ended::UpstreamClosed) && ended.code().is_none());
}

#[tokio::test]
async fn requests_that_come_early_are_answered_in_order() {
    let mut both = both();
    both.client
        .write_all(&[ping(1), ping(2), ping(3)].concat())
        .await
        .unwrap();
    for id in 1..=3 {
        assert_eq!(read(&mut both.mongodb).await, ping(id));
        both.mongodb
            .write_all(&answer(0, 100 + id, id))
            .await
            .unwrap();
        assert_eq!(read(&mut both.client).await, answer(0, 100 + id, id));
    }
}

#[tokio::test]
async fn a_request_that_wants_no_reply_holds_up_nothing() {
    let mut both = both();
    both.client
        .write_all(&insert(flag::MORE_TO_COME, 10))
        .await
        .unwrap();
    both.client.write_all(&ping(2)).await.unwrap();
    assert_eq!(
        read(&mut both.mongodb).await,
        insert(flag::MORE_TO_COME, 10)
    );
    assert_eq!(read(&mut both.mongodb).await, ping(2));
}

#[tokio::test]
async fn a_write_is_sent_whole_though_its_client_left_without_waiting() {
    let mut both = both();
    let request = insert(flag::MORE_TO_COME, 100_000);
    both.client.write_all(&request).await.unwrap();
    drop(both.client);
    assert_eq!(read(&mut both.mongodb).await, request);
    assert!(matches!(both.session.await.unwrap(), Ended::ClientClosed));
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_operation_with_it() {
    // While MongoDB works, and while it does not even take the request.
    for length in [10, 100_000] {
        let mut both = both();
        both.client.write_all(&insert(0, length)).await.unwrap();
        drop(both.client);
        assert!(matches!(both.session.await.unwrap(), Ended::ClientClosed));
        assert!(read_to_end(&mut both.mongodb).await.len() <= insert(0, length).len());
    }
}

#[tokio::test]
async fn when_mongodb_leaves_the_clients_connection_is_closed() {
    for asked in [false, true] {
        let mut both = both();
        if asked {
            both.client.write_all(&ping(1)).await.unwrap();
            read(&mut both.mongodb).await;
        }
        drop(both.mongodb);
        assert!(read_to_end(&mut both.client).await.is_empty());
        // It may be that it does not want this proxy at all, which is worth a warning.
        let ended = both.session.await.unwrap();
        assert!(matches!(ended, Ended::UpstreamMute) && ended.code().is_some());
    }
}

#[tokio::test]
async fn a_malformed_message_is_answered_and_reaches_nobody() {
    let twice = body(&doc! {"ping": 1, "$db": "admin"}).repeat(2);
    let legacy = query("admin.$cmd", b"nothing like a document");
    for (request, answered) in [
        (msg(0, &twice), true),
        (legacy, true),
        (msg(flag::MORE_TO_COME, &twice), false),
    ] {
        let mut both = both();
        both.client.write_all(&request).await.unwrap();
        let mut rest = read_to_end(&mut both.client).await;
        if answered {
            assert_eq!(rest[8..12], 7_i32.to_le_bytes());
            let error = content(&rest);
            assert_eq!(error.get_i32("code").unwrap(), 22);
            assert_eq!(error.get_f64("ok").unwrap(), 0.0);
            rest.clear();
        }
        assert!(rest.is_empty());
        assert!(read_to_end(&mut both.mongodb).await.is_empty());
        assert!(both.session.await.unwrap().code().is_some());
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_close_the_connection() {
    let mut opcode = ping(1);
    opcode[12..16].copy_from_slice(&2006_i32.to_le_bytes());
    let mut bomb = Vec::new();
    Compressor::Zlib.compress(&ping(1), &mut bomb).unwrap();
    bomb[20..24].copy_from_slice(&i32::MAX.to_le_bytes());
    let half = ping(1)[..20].to_vec();
    for bytes in [vec![0xFF; 100], opcode, bomb, half, Vec::new()] {
        let mut both = both();
        both.client.write_all(&bytes).await.unwrap();
        assert!(read_to_end(&mut both.client).await.is_empty());
        assert!(read_to_end(&mut both.mongodb).await.is_empty());
        assert!(both.session.await.unwrap().code().is_some());
    }
}

#[tokio::test]
async fn a_compressed_request_goes_on_plain_and_its_reply_comes_back_compressed() {
    let mut both = both();
    for compressor in [
        Compressor::Snappy,
        Compressor::Zlib,
        Compressor::Zstd,
        Compressor::Noop,
    ] {
        let mut packed = Vec::new();
        compressor.compress(&insert(0, 1000), &mut packed).unwrap();
        both.client.write_all(&packed).await.unwrap();
        assert_eq!(read(&mut both.mongodb).await, insert(0, 1000));
        both.mongodb.write_all(&answer(0, 1, 7)).await.unwrap();
        let mut plain = Vec::new();
        let used = inflate(&read(&mut both.client).await, MAX_MESSAGE, &mut plain);
        assert_eq!((used, plain), (Ok(compressor), answer(0, 1, 7)));
    }
}

#[tokio::test]
async fn a_stream_of_replies_is_handed_on_to_its_end() {
    let mut both = both();
    both.client.write_all(&ping(1)).await.unwrap();
    read(&mut both.mongodb).await;
    let more = flag::MORE_TO_COME;
    for reply in [answer(more, 11, 1), answer(more, 12, 11), answer(0, 13, 12)] {
        both.mongodb.write_all(&reply).await.unwrap();
        assert_eq!(read(&mut both.client).await, reply);
    }
    both.client.write_all(&ping(2)).await.unwrap();
    assert_eq!(read(&mut both.mongodb).await, ping(2));
}

#[tokio::test]
async fn an_answer_to_something_else_never_reaches_the_client() {
    let legacy = numbered(reply(&doc! {"ok": 1.0}), 9, 1);
    for wrong in [answer(0, 11, 2), legacy, vec![0; 40]] {
        let mut both = both();
        both.client.write_all(&ping(1)).await.unwrap();
        read(&mut both.mongodb).await;
        both.mongodb.write_all(&wrong).await.unwrap();
        assert!(read_to_end(&mut both.client).await.is_empty());
    }
}

#[tokio::test]
async fn compression_is_settled_with_the_proxy_in_every_form_of_hello() {
    let hello = doc! {"hello": 1, "compression": ["zlib", "lz4"], "$db": "admin"};
    let legacy = doc! {"isMaster": 1, "helloOk": true, "compression": ["zlib"]};
    let told = doc! {"me": "mongo1:27017", "ok": 1.0};
    let expected = doc! {"me": "proxy:1", "ok": 1.0, "compression": ["zlib"]};
    for (request, sent, reply) in [
        (
            msg(0, &body(&hello)),
            doc! {"hello": 1, "$db": "admin"},
            msg(0, &body(&told)),
        ),
        (
            query("admin.$cmd", &document(&legacy)),
            doc! {"isMaster": 1, "helloOk": true},
            reply(&told),
        ),
    ] {
        let mut both = both();
        both.client.write_all(&request).await.unwrap();
        let upstream = read(&mut both.mongodb).await;
        assert!(upstream.ends_with(&document(&sent)));
        both.mongodb
            .write_all(&numbered(reply, 9, 7))
            .await
            .unwrap();
        assert_eq!(content(&read(&mut both.client).await), expected);
    }
}

#[tokio::test]
async fn a_cursor_that_its_client_closes_is_forgotten() {
    let shared = Arc::new(shared());
    shared
        .policy
        .store(Arc::new(crate::policy::fixture::policy()));
    let policy = shared.policy.load_full();
    let plan = ReplyPlan::Documents(policy.collection("shop.customers").unwrap());
    for id in [7_i64, 8] {
        let opened = doc! {"cursor": {"firstBatch": [], "id": id}, "ok": 1.0};
        let opened = msg(0, &body(&opened));
        shared
            .cursors
            .note(0, &plan, &policy, None, || crate::reveal::cursor(&opened));
    }
    let known = |id| {
        let plan = shared.cursors.settle(0, ReplyPlan::More(id), &policy);
        matches!(plan, Ok(ReplyPlan::Documents(_)))
    };
    assert!(known(7) && known(8));
    let mut both = both_of(Arc::clone(&shared));
    let close = doc! {"killCursors": "customers", "cursors": [7_i64, 8_i64], "$db": "shop"};
    let close = numbered(msg(0, &body(&close)), 1, 0);
    both.client.write_all(&close).await.unwrap();
    assert_eq!(read(&mut both.mongodb).await, close);
    let closed =
        doc! {"cursorsKilled": [7_i64], "cursorsNotFound": [], "cursorsAlive": [8_i64], "ok": 1.0};
    let closed = numbered(msg(0, &body(&closed)), 11, 1);
    both.mongodb.write_all(&closed).await.unwrap();
    read(&mut both.client).await;
    assert!(!known(7) && known(8));
}
