//! What no driver would send so: sections in any order, compressed, unacknowledged, malformed.

use fieldseal::wire::{Compressor, flag};
use mongodb::bson::{Document, doc};

use super::accepted::person;
use super::canaries::Canaries;
use crate::support::wire::{Wire, answer, body, document, frame, msg, query, sequence_of};

const COMPRESSORS: [Compressor; 3] = [Compressor::Snappy, Compressor::Zlib, Compressor::Zstd];

fn compressed(whole: &[u8], compressor: Compressor) -> Vec<u8> {
    let mut packed = Vec::new();
    compressor.compress(whole, &mut packed).unwrap();
    packed
}

pub(super) async fn accepted(address: &str, database: &str, canaries: &Canaries) {
    let mut client = Wire::connect(address).await;
    let insert = body(&doc! { "insert": "people", "$db": database });
    let people = |id: i32, road: &str| sequence_of("documents", &[person(canaries, id, road)]);
    for request in [
        msg(0, &[&insert[..], &people(200, "body first")].concat()),
        msg(0, &[&people(201, "sequence first")[..], &insert].concat()),
        msg(
            flag::CHECKSUM_PRESENT,
            &[&people(202, "checksum")[..], &insert].concat(),
        ),
    ] {
        let told = answer(&client.exchange(&request).await);
        assert_eq!(told.get_i32("n").unwrap(), 1, "{told}");
    }
    for (id, compressor) in (210..).zip(COMPRESSORS) {
        let people = people(id, &format!("{compressor:?}"));
        let request = msg(0, &[&insert[..], &people].concat());
        client.exchange(&compressed(&request, compressor)).await;
    }
    let update = body(&doc! { "update": "people", "$db": database });
    let statements = sequence_of(
        "updates",
        &[
            doc! { "q": { "ssn": canaries.text("body first ssn") }, "u": { "$set": { "address": canaries.text("update sequence") } } },
        ],
    );
    client
        .exchange(&msg(0, &[&update[..], &statements].concat()))
        .await;
    let delete = body(&doc! { "delete": "people", "$db": database });
    let statements = sequence_of(
        "deletes",
        &[doc! { "q": { "ssn": canaries.text("delete sequence") }, "limit": 0 }],
    );
    client
        .exchange(&msg(0, &[&statements[..], &delete].concat()))
        .await;

    let unacknowledged =
        body(&doc! { "insert": "people", "$db": database, "writeConcern": { "w": 0 } });
    let people = people(220, "unacknowledged");
    let request = msg(flag::MORE_TO_COME, &[&unacknowledged[..], &people].concat());
    client.send(&request).await;
    // The next answer is that to the next request.
    let count = doc! { "count": "people", "query": { "_id": { "$gte": 200, "$lt": 300 } }, "$db": database };
    let told = answer(&client.exchange(&msg(0, &body(&count))).await);
    assert_eq!(told.get_i32("n").unwrap(), 7, "{told}");
}

pub(super) async fn refused(address: &str, database: &str, canaries: &Canaries) {
    let mut client = Wire::connect(address).await;
    let text = |what: &str| canaries.text(&format!("no frame {what}"));
    let by = |what: &str| doc! { "find": "people", "filter": { "ssn": { "$gt": text(what) } }, "$db": database };
    for compressor in COMPRESSORS {
        let request = msg(0, &body(&by(&format!("{compressor:?}"))));
        client.exchange(&compressed(&request, compressor)).await;
    }
    let update = body(&doc! { "update": "people", "$db": database, "writeConcern": { "w": 0 } });
    let statements = sequence_of(
        "updates",
        &[doc! { "q": { "_id": 1 }, "u": { "$min": { "ssn": text("unacknowledged") } } }],
    );
    client
        .send(&msg(
            flag::MORE_TO_COME,
            &[&update[..], &statements].concat(),
        ))
        .await;
    client
        .exchange(&msg(flag::CHECKSUM_PRESENT, &body(&by("checksum"))))
        .await;
    malformed(address, database, canaries).await;
}

/// What MongoDB would not take either: it never gets there, with a schema or without.
async fn malformed(address: &str, database: &str, canaries: &Canaries) {
    let secret = |what: &str| doc! { "_id": 1, "ssn": canaries.text_that_gets_nowhere(what) };
    let insert =
        |what: &str| doc! { "insert": "people", "documents": [secret(what)], "$db": database };
    let whole = body(&insert("two bodies"));
    let mut wrong_checksum = msg(flag::CHECKSUM_PRESENT, &body(&insert("checksum")));
    *wrong_checksum.last_mut().unwrap() ^= 1;
    let mut cut = body(&insert("cut off"));
    cut.truncate(cut.len() - 5);
    let namespace = format!("{database}.people");
    let legacy =
        |secret: &Document| [&[0; 4], namespace.as_bytes(), &[0], &document(secret)].concat();
    for request in [
        wrong_checksum,
        msg(0, &cut),
        msg(0, &[&whole[..], &whole].concat()),
        msg(0, &[&body(&insert("trailing"))[..], b"trailing"].concat()),
        msg(1 << 5, &body(&insert("flags"))),
        msg(0, &sequence_of("documents", &[secret("no body")])),
        query(&namespace, &document(&secret("OP_QUERY"))),
        query("admin.$cmd", &document(&insert("OP_QUERY command"))),
        frame(2002, &legacy(&secret("OP_INSERT"))),
        frame(2012, &legacy(&secret("not compressed"))),
    ] {
        let mut client = Wire::connect(address).await;
        client.send(&request).await;
        client.finish().await;
        client.receive_all().await;
    }
}
