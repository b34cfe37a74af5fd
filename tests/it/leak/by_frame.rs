//! What no driver would send so: sections in any order, compressed, unacknowledged, malformed.

use std::time::Duration;

use mongodb::bson::{Document, doc};

use super::accepted::person;
use super::canaries::Canaries;
use crate::support::frames::{
    CHECKSUM_PRESENT, MORE_TO_COME, Packing, RawClient, body, body_of, compressed, frame, msg,
    query, sequence,
};

const PACKINGS: [Packing; 3] = [Packing::Snappy, Packing::Zlib, Packing::Zstd];

pub(super) async fn accepted(address: &str, database: &str, canaries: &Canaries) {
    let mut client = RawClient::connect(address).await;
    let insert = body(&doc! { "insert": "people", "$db": database });
    let documents = |id: i32, road: &str| sequence("documents", &[person(canaries, id, road)]);
    for request in [
        msg(1, 0, &[&insert, &documents(200, "body first")]),
        msg(2, 0, &[&documents(201, "sequence first"), &insert]),
        msg(3, CHECKSUM_PRESENT, &[&documents(202, "checksum"), &insert]),
    ] {
        let answer = body_of(&client.ask(&request).await);
        assert_eq!(answer.get_i32("n").unwrap(), 1, "{answer}");
    }
    for (id, packing) in (210..).zip(PACKINGS) {
        let documents = documents(id, &format!("{packing:?}"));
        let request = msg(4, 0, &[&insert, &documents]);
        client.ask(&compressed(&request, packing)).await;
    }
    let update = body(&doc! { "update": "people", "$db": database });
    let statements = sequence(
        "updates",
        &[
            doc! { "q": { "ssn": canaries.text("body first ssn") }, "u": { "$set": { "address": canaries.text("update sequence") } } },
        ],
    );
    client.ask(&msg(5, 0, &[&update, &statements])).await;
    let delete = body(&doc! { "delete": "people", "$db": database });
    let statements = sequence(
        "deletes",
        &[doc! { "q": { "ssn": canaries.text("delete sequence") }, "limit": 0 }],
    );
    client.ask(&msg(6, 0, &[&statements, &delete])).await;

    let unacknowledged =
        body(&doc! { "insert": "people", "$db": database, "writeConcern": { "w": 0 } });
    let documents = documents(220, "unacknowledged");
    let request = msg(7, MORE_TO_COME, &[&unacknowledged, &documents]);
    client.send(&request).await;
    // The next answer is that to the next request.
    let count = doc! { "count": "people", "query": { "_id": { "$gte": 200, "$lt": 300 } }, "$db": database };
    let answer = body_of(&client.ask(&msg(8, 0, &[&body(&count)])).await);
    assert_eq!(answer.get_i32("n").unwrap(), 7, "{answer}");
}

pub(super) async fn refused(address: &str, database: &str, canaries: &Canaries) {
    let mut client = RawClient::connect(address).await;
    let text = |what: &str| canaries.text(&format!("no frame {what}"));
    let by = |what: &str| doc! { "find": "people", "filter": { "ssn": { "$gt": text(what) } }, "$db": database };
    for packing in PACKINGS {
        let request = msg(1, 0, &[&body(&by(&format!("{packing:?}")))]);
        client.ask(&compressed(&request, packing)).await;
    }
    let update = body(&doc! { "update": "people", "$db": database, "writeConcern": { "w": 0 } });
    let statements = sequence(
        "updates",
        &[doc! { "q": { "_id": 1 }, "u": { "$min": { "ssn": text("unacknowledged") } } }],
    );
    client
        .send(&msg(2, MORE_TO_COME, &[&update, &statements]))
        .await;
    client
        .ask(&msg(3, CHECKSUM_PRESENT, &[&body(&by("checksum"))]))
        .await;
    malformed(address, database, canaries).await;
}

/// What MongoDB would not take either: it never gets there, with a schema or without.
async fn malformed(address: &str, database: &str, canaries: &Canaries) {
    let secret = |what: &str| doc! { "_id": 1, "ssn": canaries.text_that_gets_nowhere(what) };
    let insert =
        |what: &str| doc! { "insert": "people", "documents": [secret(what)], "$db": database };
    let whole = body(&insert("two bodies"));
    let mut wrong_checksum = msg(1, CHECKSUM_PRESENT, &[&body(&insert("checksum"))]);
    *wrong_checksum.last_mut().unwrap() ^= 1;
    let mut cut = body(&insert("cut off"));
    cut.truncate(cut.len() - 5);
    let namespace = format!("{database}.people");
    let legacy = |document: &Document| {
        let mut content = vec![0; 4];
        content.extend_from_slice(namespace.as_bytes());
        content.push(0);
        content.extend(mongodb::bson::serialize_to_vec(document).unwrap());
        content
    };
    for request in [
        wrong_checksum,
        msg(2, 0, &[&cut]),
        msg(3, 0, &[&whole, &whole]),
        msg(4, 0, &[&body(&insert("trailing")), b"trailing"]),
        msg(5, 1 << 5, &[&body(&insert("flags"))]),
        msg(6, 0, &[&sequence("documents", &[secret("no body")])]),
        query(7, &namespace, &secret("OP_QUERY")),
        query(8, "admin.$cmd", &insert("OP_QUERY command")),
        frame(9, 2002, &legacy(&secret("OP_INSERT"))),
        frame(10, 2012, &legacy(&secret("not compressed"))),
    ] {
        let mut client = RawClient::connect(address).await;
        client.send(&request).await;
        client.end().await;
        client.rest(Duration::from_secs(60)).await;
    }
}
