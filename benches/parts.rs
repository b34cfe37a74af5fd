//! The parts of the data path, without sockets: sealing, tokens, a request in, a reply out, frames.
#![allow(missing_docs, clippy::unwrap_used, reason = "benches")]

use std::hint::black_box;

use bson::spec::BinarySubtype;
use bson::{Binary, doc};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fieldseal::keyring::{KeyId, Material, Suite};
use fieldseal::policy::Policy;
use fieldseal::reveal::{Reads, ReplyPlan, reveal};
use fieldseal::rewrite::{Decision, decide};
use fieldseal::seal::{Domain, FieldId, SealKey, TokenKey};
use fieldseal::wire::Message;

#[path = "fixture/mod.rs"]
mod fixture;

use fixture::{SCHEMA, frame, insert, open_reply, policy, sealed_reply};

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
        let (reply, plan) = sealed_reply(&sealing, &sealed);
        let plain = open_reply(documents);
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

/// A write and a read of one document with five sealed fields, as other things grow.
fn growth(c: &mut Criterion) {
    use fixture::{policy_of_versions, schema_of_collections, schema_of_paths};
    let mut group = c.benchmark_group("growth");
    let mut one = |what: &str, size: usize, policy: &Policy, request: &[u8]| {
        let mut scratch = Vec::with_capacity(4 * request.len());
        group.throughput(Throughput::Bytes(request.len() as u64));
        group.bench_function(BenchmarkId::new(format!("{what}/in"), size), |b| {
            b.iter(|| {
                let message = Message::recognise(black_box(request)).unwrap();
                let decision = decide(&message, policy, &mut scratch);
                assert!(matches!(decision, Decision::Forward { .. }));
            });
        });
        let (reply, plan) = sealed_reply(policy, request);
        let mut out = Vec::with_capacity(2 * reply.len());
        group.bench_function(BenchmarkId::new(format!("{what}/out"), size), |b| {
            b.iter(|| {
                let mut reads = Reads::default();
                reveal(black_box(&reply), &plan, policy, &mut reads, &mut out).unwrap()
            });
        });
    };
    let request = insert("customers", 1);
    for paths in [5, 10, 100, 1000] {
        one("paths", paths, &policy(&schema_of_paths(paths)), &request);
    }
    for collections in [1, 10, 100, 1000] {
        let schema = schema_of_collections(collections);
        one("collections", collections, &policy(&schema), &request);
    }
    for versions in [1, 10, 100] {
        one(
            "versions",
            versions,
            &policy_of_versions(SCHEMA, versions),
            &request,
        );
    }
    let sealing = policy(SCHEMA);
    for documents in [1, 10, 100, 1000] {
        one(
            "documents",
            documents,
            &sealing,
            &insert("customers", documents),
        );
    }
    for fields in [10, 100, 1000] {
        let document = fixture::customer_of_fields(fields);
        one(
            "fields",
            fields,
            &sealing,
            &fixture::insert_of("customers", &document, 1),
        );
    }
    group.finish();
}

/// A write of 1,000 documents and a reply of as many where nothing is sealed.
fn untouched(c: &mut Criterion) {
    let policy = policy(SCHEMA);
    let (request, reply) = (insert("orders", 1000), open_reply(1000));
    let mut group = c.benchmark_group("untouched-1000");
    group.throughput(Throughput::Bytes(request.len() as u64));
    let mut scratch = Vec::new();
    group.bench_function("in", |b| {
        b.iter(|| {
            let message = Message::recognise(black_box(&request)).unwrap();
            let decision = decide(&message, &policy, &mut scratch);
            assert!(matches!(decision, Decision::Forward { .. }));
        });
    });
    // Of the collection that is sealed, but without any of its sealed fields.
    let bare = doc! {"_id": 1, "plan": "gold", "notes": "n".repeat(980)};
    let bare = fixture::insert_of("customers", &bare, 1000);
    group.throughput(Throughput::Bytes(bare.len() as u64));
    group.bench_function("in-sealed-collection", |b| {
        b.iter(|| {
            let message = Message::recognise(black_box(&bare)).unwrap();
            let decision = decide(&message, &policy, &mut scratch);
            assert!(matches!(decision, Decision::Forward { .. }));
        });
    });
    group.throughput(Throughput::Bytes(reply.len() as u64));
    let mut out = Vec::new();
    group.bench_function("out", |b| {
        b.iter(|| {
            let mut reads = Reads::default();
            reveal(
                black_box(&reply),
                &ReplyPlan::Relay,
                &policy,
                &mut reads,
                &mut out,
            )
            .unwrap()
        });
    });
    group.finish();
}

criterion_group!(
    benches,
    seal_and_open,
    suites,
    tokens,
    requests_and_replies,
    growth,
    untouched,
    frames
);
criterion_main!(benches);
