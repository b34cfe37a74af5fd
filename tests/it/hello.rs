//! What members of a replica set tell of themselves and of each other, in every
//! form of `hello`: clients never hear of a way round the proxy.

use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};

use fieldseal::wire::{Compressor, flag, inflate, opcode};

use crate::support::wire::{
    Wire, answer, body, document, flags, int32_at, msg, numbered, query, response_to,
};
use crate::support::{
    PATIENCE, Proxy, ProxyOptions, ReplicaSet, ReplicaSetOptions, shared_replica_set,
};

const SCHEMA: &str = r#"
[collections."hello_*.people".fields]
ssn = { type = "string", queries = ["equality"] }
"#;

/// Primary, secondary, a member that never stands for election, an arbiter.
async fn set_of_all_kinds() -> ReplicaSet {
    ReplicaSet::start(ReplicaSetOptions {
        members: 4,
        member_options: vec![
            doc! {},
            doc! {},
            doc! { "priority": 0, "votes": 0 },
            doc! { "arbiterOnly": true, "priority": 0 },
        ],
        ..ReplicaSetOptions::default()
    })
    .await
}

/// Every string in a reply, however deep.
fn strings(value: &Bson, found: &mut Vec<String>) {
    match value {
        Bson::String(string) => found.push(string.clone()),
        Bson::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Bson::Document(fields) => fields.values().for_each(|field| strings(field, found)),
        _ => {}
    }
}

/// Asserts that a reply names the members by what is advertised and nothing else.
fn assert_advertised(reply: &Document, set: &ReplicaSet, proxy: &Proxy) {
    let mut found = Vec::new();
    strings(&reply.clone().into(), &mut found);
    for member in set.addresses() {
        assert!(
            !found.iter().any(|string| string.contains(&member)),
            "{member}: {reply}"
        );
    }
    for list in ["hosts", "passives", "arbiters"] {
        let Ok(names) = reply.get_array(list) else {
            continue;
        };
        for name in names {
            assert!(
                proxy
                    .addresses()
                    .iter()
                    .any(|route| name.as_str() == Some(route)),
                "{reply}"
            );
        }
    }
}

/// The names in a list of a reply, sorted.
fn names(reply: &Document, list: &str) -> Vec<String> {
    let names = reply.get_array(list).cloned().unwrap_or_default();
    let mut names: Vec<String> = names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}

/// `hello` in each form that drivers use.
async fn all_forms(route: &str) -> Vec<Document> {
    let mut wire = Wire::connect(route).await;
    let mut replies = Vec::new();
    for name in ["hello", "isMaster", "ismaster"] {
        let command = doc! { name: 1, "helloOk": true, "$db": "admin" };
        replies.push(wire.ask(&command).await);
        for legacy in [
            doc! { name: 1, "helloOk": true },
            doc! { "$query": { name: 1 }, "$readPreference": { "mode": "nearest" } },
        ] {
            assert!(wire.send(&query("admin.$cmd", &document(&legacy))).await);
            let reply = wire.receive().await.expect("the connection was closed");
            assert_eq!(
                (int32_at(&reply, 12), response_to(&reply)),
                (opcode::REPLY, 7)
            );
            replies.push(answer(&reply));
        }
    }
    replies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_names_members_by_their_routes_alone_in_every_form_and_after_an_election() {
    let set = set_of_all_kinds().await;
    let (all, some) = tokio::join!(
        Proxy::start(&set, SCHEMA),
        Proxy::start_with(
            &set,
            ProxyOptions {
                routes: 1,
                ..ProxyOptions::default()
            }
        ),
    );
    let routes: Vec<&str> = all.addresses().iter().map(String::as_str).collect();
    for route in &routes {
        // Each has heard of the set and of its primary.
        wait_for(&mut stream(route).await, &set, &all, |reply| {
            reply.contains_key("primary")
        })
        .await;
    }
    for (index, route) in routes.iter().enumerate() {
        for reply in all_forms(route).await {
            assert_advertised(&reply, &set, &all);
            assert_eq!(names(&reply, "hosts"), sorted(&routes[..2]));
            assert_eq!(names(&reply, "passives"), sorted(&routes[2..3]));
            assert_eq!(names(&reply, "arbiters"), sorted(&routes[3..]));
            assert_eq!(reply.get_str("me").unwrap(), *route);
            assert_eq!(reply.get_str("primary").unwrap(), routes[0], "{index}");
            assert_eq!(reply.get_i32("maxMessageSizeBytes").unwrap(), 24_000_000);
            assert!(reply.get_i32("maxWireVersion").unwrap() <= 17);
        }
    }
    let alone = &some.addresses()[0];
    for reply in all_forms(alone).await {
        assert_advertised(&reply, &set, &some);
        assert_eq!(names(&reply, "hosts"), sorted(&[alone]));
        assert!(names(&reply, "passives").is_empty() && names(&reply, "arbiters").is_empty());
        assert_eq!(reply.get_str("me").unwrap(), alone);
        assert_eq!(reply.get_str("primary").unwrap(), alone);
        // Nothing is sealed here.
        assert_eq!(reply.get_i32("maxMessageSizeBytes").unwrap(), 48_000_000);
    }
    for member in &set.addresses()[1..] {
        let told = some.log().matches(&format!("member={member}")).count();
        assert_eq!(told, 1, "{member} is logged once");
    }

    let (streamed, unrouted) = tokio::join!(stream(routes[0]), stream(alone));
    let mut old = streamed;
    let mut unrouted = unrouted;
    step_down(&mut Wire::connect(routes[0]).await).await;
    // The stream goes on by itself, and tells of the new primary by its route.
    wait_for(&mut old, &set, &all, |reply| {
        reply.get_str("primary").ok() == Some(routes[1])
    })
    .await;
    // Where it has no route, no primary is told of.
    wait_for(&mut unrouted, &set, &some, |reply| {
        !reply.get_bool("isWritablePrimary").unwrap() && !reply.contains_key("primary")
    })
    .await;
    for route in &routes[..3] {
        wait_for(&mut stream(route).await, &set, &all, |reply| {
            reply.get_str("primary").ok() == Some(routes[1])
        })
        .await;
    }
}

/// A connection over which replies to `hello` stream.
async fn stream(route: &str) -> Wire {
    let mut wire = Wire::connect(route).await;
    let first = wire.hello().await;
    // An old version, so that there is an answer at once.
    let mut old = first.get_document("topologyVersion").unwrap().clone();
    old.insert("counter", 0_i64);
    let hello =
        doc! { "hello": 1, "topologyVersion": old, "maxAwaitTimeMS": 200_i64, "$db": "admin" };
    wire.command(flag::EXHAUST_ALLOWED, &hello).await;
    wire
}

/// Reads streamed replies until one is as wanted; all of them name routes alone.
async fn wait_for(
    stream: &mut Wire,
    set: &ReplicaSet,
    proxy: &Proxy,
    wanted: impl Fn(&Document) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let frame = stream.receive().await.expect("the stream broke off");
        assert_ne!(flags(&frame) & flag::MORE_TO_COME, 0, "the stream is over");
        let reply = answer(&frame);
        assert_advertised(&reply, set, proxy);
        if wanted(&reply) {
            return;
        }
        assert!(Instant::now() < deadline, "{reply}");
    }
}

async fn step_down(wire: &mut Wire) {
    let deadline = Instant::now() + PATIENCE;
    let step_down = doc! { "replSetStepDown": 60, "secondaryCatchUpPeriodSecs": 5, "$db": "admin" };
    // Not before a secondary has caught up.
    while wire.ask(&step_down).await.get_f64("ok").unwrap() != 1.0 {
        assert!(Instant::now() < deadline, "the primary does not step down");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn compression_is_what_both_speak_in_the_clients_order_and_works() {
    let set = shared_replica_set().await;
    let proxy = Proxy::start(set, SCHEMA).await;
    let route = &proxy.addresses()[0];
    let offers: [(&[&str], &[&str]); 6] = [
        (&["zstd", "snappy", "zlib"], &["zstd", "snappy", "zlib"]),
        (&["zlib", "lz4", "snappy"], &["zlib", "snappy"]),
        (&["snappy", "snappy", "zstd"], &["snappy", "zstd"]),
        (&["noop", "ZLIB"], &[]),
        (&["zlib"], &["zlib"]),
        (&[], &[]),
    ];
    for (offered, agreed) in offers {
        let hello = doc! { "hello": 1, "compression": offered.to_vec(), "$db": "admin" };
        let legacy = doc! { "isMaster": 1, "compression": offered.to_vec() };
        let mut wire = Wire::connect(route).await;
        let msg = wire.ask(&hello).await;
        wire.send(&query("admin.$cmd", &document(&legacy))).await;
        let legacy = answer(&wire.receive().await.unwrap());
        for reply in [msg, legacy] {
            let told = reply.get_array("compression").cloned().unwrap_or_default();
            let told: Vec<&str> = told.iter().filter_map(Bson::as_str).collect();
            assert_eq!(told, agreed, "{offered:?}");
        }
    }
    // MongoDB is never told of it: the proxy reads what it says.
    let mut wire = Wire::connect(route).await;
    let reply = wire.hello().await;
    assert!(!reply.contains_key("compression"));
    for (id, compressor) in (0..).zip([Compressor::Snappy, Compressor::Zlib, Compressor::Zstd]) {
        round_trip(route, compressor, id).await;
    }
}

/// Writes and reads a sealed field over a connection that compresses.
async fn round_trip(route: &str, compressor: Compressor, id: i32) {
    let mut wire = Wire::connect(route).await;
    let hello = doc! { "hello": 1, "compression": [compressor.name()], "$db": "admin" };
    wire.ask(&hello).await;
    let person = doc! { "_id": id, "ssn": compressor.name(), "pad": "x".repeat(5_000) };
    let insert = doc! { "insert": "people", "documents": [&person], "$db": "hello_compressed" };
    let find = doc! { "find": "people", "filter": { "ssn": compressor.name() }, "$db": "hello_compressed" };
    for (number, command) in [(1, insert), (2, find)] {
        let mut packed = Vec::new();
        let frame = numbered(msg(0, &body(&command)), number);
        compressor.compress(&frame, &mut packed).unwrap();
        assert!(wire.send(&packed).await);
        let reply = wire.receive().await.expect("the connection was closed");
        assert_eq!(
            int32_at(&reply, 12),
            opcode::COMPRESSED,
            "the answer is compressed, too"
        );
        let mut plain = Vec::new();
        assert_eq!(inflate(&reply, 1_000_000, &mut plain), Ok(compressor));
        assert_eq!(response_to(&plain), number);
        let answer = answer(&plain);
        assert_eq!(answer.get_f64("ok").unwrap(), 1.0, "{answer}");
        if number == 2 {
            let batch = answer
                .get_document("cursor")
                .unwrap()
                .get_array("firstBatch")
                .unwrap();
            assert_eq!(batch, &[person.clone().into()]);
        }
    }
}

#[tokio::test]
async fn a_driver_authenticates_through_the_proxy_with_either_scram_and_at_once() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        auth: true,
        ..ReplicaSetOptions::default()
    })
    .await;
    let proxy = Proxy::start(&set, SCHEMA).await;
    for (id, mechanism) in (0..).zip(["SCRAM-SHA-1", "SCRAM-SHA-256"]) {
        let mark = set.members()[0].log().lines().count();
        let uri = format!("{}&authMechanism={mechanism}", proxy.uri());
        let client = Client::with_uri_str(uri).await.unwrap();
        let people = client
            .database("hello_auth")
            .collection::<Document>("people");
        let person = doc! { "_id": id, "ssn": mechanism };
        people.insert_one(&person).await.unwrap();
        let found = people.find_one(doc! { "ssn": mechanism }).await.unwrap();
        assert_eq!(found, Some(person));

        let log = set.members()[0].log();
        let logins: Vec<&str> = log
            .lines()
            .skip(mark)
            .filter(|line| {
                line.contains("Authentication succeeded")
                    && line.contains(&format!("\"{mechanism}\""))
            })
            .collect();
        assert!(!logins.is_empty(), "{mechanism}");
        assert!(
            logins
                .iter()
                .all(|line| line.contains("\"speculative\":true")),
            "{logins:?}"
        );
    }

    // MongoDB is the judge: a wrong password, and none, are turned away with its own errors.
    let wrong = proxy.uri().replace("not%20a%20secret", "wrong");
    assert_ne!(wrong, proxy.uri());
    let error = Client::with_uri_str(wrong)
        .await
        .unwrap()
        .list_database_names()
        .await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("Authentication failed"), "{error}");
    let mut stranger = Wire::connect(&proxy.addresses()[0]).await;
    let find = doc! { "find": "people", "$db": "hello_auth" };
    let answer = stranger.ask(&find).await;
    assert_eq!(answer.get_i32("code").unwrap(), 13, "{answer}");
}
