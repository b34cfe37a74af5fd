//! The parts of the data path, without sockets: sealing, tokens, a request in, a reply out, frames.
#![allow(missing_docs, clippy::unwrap_used, reason = "benches")]

use std::hint::black_box;
use std::sync::Arc;

use bson::spec::BinarySubtype;
use bson::{Binary, Document, doc};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fieldseal::keyring::{KeyId, Keyring, Material, Suite};
use fieldseal::policy::Policy;
use fieldseal::reveal::{Reads, ReplyPlan, reveal};
use fieldseal::rewrite::{Decision, decide};
use fieldseal::schema::{Format, Schema};
use fieldseal::seal::{Domain, FieldId, SealKey, TokenKey};
use fieldseal::wire::Message;

const SCHEMA: &str = r#"
    [collections."shop.customers".fields]
    ssn            = { type = "string", queries = ["equality"] }
    "payment.card" = { type = "string", queries = ["equality"] }
    name           = { type = "string" }
    phone          = { type = "string" }
    address        = {}
"#;

fn policy(schema: &str) -> Policy {
    let schema = Schema::parse(schema, Format::Toml, "bench.toml").unwrap();
    let keyring = Keyring::generate(["default"]).unwrap();
    Policy::compile(Arc::new(schema), Arc::new(keyring)).unwrap()
}

/// A document of about 1 KiB: ten fields, of which the schema seals five, two of them with a token.
fn customer() -> Document {
    doc! {
        "_id": bson::oid::ObjectId::from_bytes([7; 12]),
        "ssn": "078-05-1120",
        "name": "Ada Marsh",
        "phone": "+44 20 7946 0958",
        "address": {"street": "12 Quay Road", "city": "Leith", "postcode": "EH6 6LX"},
        "payment": {"card": "4929 1234 5678 9012", "expires": "09/29"},
        "plan": "gold",
        "visits": 17_i32,
        "since": bson::DateTime::from_millis(1_700_000_000_000),
        "notes": "n".repeat(640),
    }
}

fn frame(body: &Document) -> Vec<u8> {
    let body = bson::serialize_to_vec(body).unwrap();
    let length = i32::try_from(16 + 4 + 1 + body.len()).unwrap();
    let mut frame = Vec::new();
    for part in [length, 1, 0, 2013, 0] {
        frame.extend_from_slice(&part.to_le_bytes());
    }
    frame.push(0);
    frame.extend_from_slice(&body);
    frame
}

fn insert(collection: &str, documents: usize) -> Vec<u8> {
    frame(&doc! {"insert": collection, "documents": vec![customer(); documents], "$db": "shop"})
}

/// The reply to a find that holds what the proxy stored for `insert`.
fn reply(policy: &Policy, documents: usize) -> (Vec<u8>, ReplyPlan) {
    let request = insert("customers", documents);
    let mut scratch = Vec::new();
    let message = Message::recognise(&request).unwrap();
    let Decision::Forward { cleared, .. } = decide(&message, policy, &mut scratch) else {
        panic!("refused");
    };
    let stored: Document = bson::deserialize_from_slice(&cleared.bytes()[21..]).unwrap();
    let batch = stored.get_array("documents").unwrap().clone();
    let reply = frame(
        &doc! {"cursor": {"firstBatch": batch, "id": 0_i64, "ns": "shop.customers"}, "ok": 1.0},
    );
    let find = frame(&doc! {"find": "customers", "$db": "shop"});
    let message = Message::recognise(&find).unwrap();
    let mut scratch = Vec::new();
    let Decision::Forward { plan, .. } = decide(&message, policy, &mut scratch) else {
        panic!("refused");
    };
    (reply, plan)
}

fn seal_and_open(c: &mut Criterion) {
    let key = SealKey::derive(
        KeyId(1),
        &Material::new([1; 32]),
        FieldId::of("shop.customers", "ssn"),
    );
    let mut group = c.benchmark_group("value");
    for length in [16, 32, 256, 1024, 16 * 1024, 64 * 1024] {
        let value = vec![b'v'; length];
        group.throughput(Throughput::Bytes(length as u64));
        let mut out = Vec::with_capacity(length + 64);
        group.bench_function(BenchmarkId::new("seal", length), |b| {
            b.iter(|| {
                out.clear();
                key.seal(2, black_box(&value), &mut out);
            });
        });
        let mut sealed = Vec::new();
        key.seal(2, &value, &mut sealed);
        group.bench_function(BenchmarkId::new("open", length), |b| {
            b.iter(|| {
                out.clear();
                key.open(black_box(&sealed), &mut out).unwrap();
            });
        });
    }
    group.finish();
}

/// Both suites side by side.
fn suites(c: &mut Criterion) {
    let field = FieldId::of("shop.customers", "ssn");
    for length in [16, 1024] {
        let mut group = c.benchmark_group(format!("suite/{length}"));
        let value = vec![b'v'; length];
        for suite in Suite::ALL {
            let key = SealKey::derive(KeyId(1), &Material::new([1; 32]), field).sealing_with(suite);
            let mut out = Vec::with_capacity(length + 64);
            group.bench_function(BenchmarkId::new("seal", suite.word()), |b| {
                b.iter(|| {
                    out.clear();
                    key.seal(2, black_box(&value), &mut out);
                });
            });
            let mut sealed = Vec::new();
            key.seal(2, &value, &mut sealed);
            group.bench_function(BenchmarkId::new("open", suite.word()), |b| {
                b.iter(|| {
                    out.clear();
                    key.open(black_box(&sealed), &mut out).unwrap();
                });
            });
        }
        group.finish();
    }
}

fn tokens(c: &mut Criterion) {
    let key = TokenKey::derive(&Material::new([2; 32]), Domain::Named("bench"));
    let string = |length: usize| {
        let mut value = u32::try_from(length + 1).unwrap().to_le_bytes().to_vec();
        value.resize(4 + length, b'v');
        value.push(0);
        value
    };
    let mut group = c.benchmark_group("token");
    for length in [16, 64, 1024] {
        let value = string(length);
        group.bench_function(BenchmarkId::new("string", length), |b| {
            b.iter(|| key.equality(2, black_box(&value)));
        });
    }
    group.bench_function("int", |b| {
        b.iter(|| key.equality(0x10, black_box(&5_i32.to_le_bytes())))
    });
    group.bench_function("double", |b| {
        b.iter(|| key.equality(0x01, black_box(&0.1_f64.to_le_bytes())))
    });
    group.finish();
}

fn requests_and_replies(c: &mut Criterion) {
    let sealing = policy(SCHEMA);
    let empty = policy("");
    let mut group = c.benchmark_group("document-1KiB");
    for documents in [1, 100] {
        let sealed = insert("customers", documents);
        let open = insert("orders", documents);
        group.throughput(Throughput::Bytes(sealed.len() as u64));
        let mut scratch = Vec::with_capacity(4 * sealed.len());
        for (name, policy, request) in [
            ("in/no-schema", &empty, &open),
            ("in/open-collection", &sealing, &open),
            ("in/seal-5-fields-2-tokens", &sealing, &sealed),
        ] {
            group.bench_function(BenchmarkId::new(name, documents), |b| {
                b.iter(|| {
                    let message = Message::recognise(black_box(request)).unwrap();
                    let decision = decide(&message, policy, &mut scratch);
                    assert!(matches!(decision, Decision::Forward { .. }));
                });
            });
        }
        let (reply, plan) = reply(&sealing, documents);
        let plain = frame(
            &doc! {"cursor": {"firstBatch": vec![customer(); documents], "id": 0_i64, "ns": "shop.orders"}, "ok": 1.0},
        );
        let mut out = Vec::with_capacity(2 * reply.len());
        group.bench_function(BenchmarkId::new("out/open-5-fields", documents), |b| {
            b.iter(|| {
                reveal(
                    black_box(&reply),
                    &plan,
                    &sealing,
                    &mut Reads::default(),
                    &mut out,
                )
                .unwrap()
            });
        });
        group.bench_function(BenchmarkId::new("out/open-collection", documents), |b| {
            b.iter(|| {
                reveal(
                    black_box(&plain),
                    &ReplyPlan::Relay,
                    &sealing,
                    &mut Reads::default(),
                    &mut out,
                )
                .unwrap()
            });
        });
    }
    group.finish();
}

fn frames(c: &mut Criterion) {
    let one = insert("orders", 1);
    let many = insert("orders", 100);
    let mut group = c.benchmark_group("frame");
    group.bench_function("recognise/1-document", |b| {
        b.iter(|| Message::recognise(black_box(&one)).is_ok())
    });
    group.bench_function("recognise/100-documents", |b| {
        b.iter(|| Message::recognise(black_box(&many)).is_ok())
    });
    let binary = doc! {"insert": "orders", "$db": "shop", "documents": [
    {"blob": Binary { subtype: BinarySubtype::Generic, bytes: vec![7; 1 << 20] }}]};
    let big = frame(&binary);
    group.bench_function("recognise/1-MiB", |b| {
        b.iter_batched(
            || (),
            |()| Message::recognise(black_box(&big)).is_ok(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(
    benches,
    seal_and_open,
    suites,
    tokens,
    requests_and_replies,
    frames
);
criterion_main!(benches);
