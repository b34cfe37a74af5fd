//! One part of the data path, so many times: `counts PART TIMES`. It measures nothing itself.
//!
//! `counts.py` runs it under callgrind and prints the instructions of one round, which do
//! not depend on what else the machine does. Valgrind (3.19) tells programs that the CPU has
//! AES, PCLMULQDQ, AVX and AVX2, and nothing of SHA, VAES or AVX-512: SHA-256 is counted in its form for
//! plain registers, several times the instructions of the one that runs elsewhere.
#![allow(missing_docs, clippy::unwrap_used, reason = "benches")]

use std::hint::black_box;

use fieldseal::keyring::{KeyId, Material, Suite};
use fieldseal::policy::Policy;
use fieldseal::reveal::{Reads, ReplyPlan, reveal};
use fieldseal::rewrite::{Decision, decide};
use fieldseal::seal::{Domain, FieldId, SealKey, TokenKey};
use fieldseal::wire::Message;

#[path = "fixture/mod.rs"]
mod fixture;

/// The parts, in the order of the table.
const PARTS: &[&str] = &[
    "seal-32",
    "seal-32-xaes",
    "open-32",
    "token-string-16",
    "insert-no-schema-1",
    "insert-no-schema-100",
    "insert-open-1",
    "insert-open-100",
    "insert-sealed-1",
    "insert-sealed-100",
    "find-open",
    "find-sealed",
    "reply-open-1",
    "reply-open-100",
    "reply-sealed-1",
    "reply-sealed-100",
];

/// What grows, a write and a read of one document each: `in-paths-1000`.
const GROWTH: &[(&str, &[usize])] = &[
    ("paths", &[5, 10, 100, 1000]),
    ("collections", &[1, 10, 100, 1000]),
    ("versions", &[1, 10, 100]),
    ("fields", &[10, 100, 1000]),
];

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    match &arguments[..] {
        [part, times] if PARTS.contains(&part.as_str()) => run(part, times.parse().unwrap()),
        [part, times] => grown(part, times.parse().unwrap()),
        _ => {
            PARTS.iter().for_each(|part| println!("{part}"));
            for (what, sizes) in GROWTH {
                sizes
                    .iter()
                    .for_each(|size| println!("in-{what}-{size}\nout-{what}-{size}"));
            }
        }
    }
}

fn grown(part: &str, times: usize) {
    let [way, what, size] = part.split('-').collect::<Vec<_>>()[..] else {
        panic!("no such part");
    };
    let size = size.parse().unwrap();
    let sealing = match what {
        "paths" => fixture::policy(&fixture::schema_of_paths(size)),
        "collections" => fixture::policy(&fixture::schema_of_collections(size)),
        "versions" => fixture::policy_of_versions(fixture::SCHEMA, size),
        _ => fixture::policy(fixture::SCHEMA),
    };
    let fields = if what == "fields" { size } else { 10 };
    let request = fixture::insert_of("customers", &fixture::customer_of_fields(fields), 1);
    if way == "in" {
        return requests(times, &sealing, &request);
    }
    let (reply, plan) = fixture::sealed_reply(&sealing, &request);
    replies(times, &sealing, &reply, &plan);
}

fn run(part: &str, times: usize) {
    let (name, documents) = part.rsplit_once('-').unwrap_or((part, ""));
    let documents = documents.parse().unwrap_or(1);
    let sealing = fixture::policy(fixture::SCHEMA);
    match (part, name) {
        ("seal-32", _) => seal(times, Suite::Aes256Gcm),
        ("seal-32-xaes", _) => seal(times, Suite::Xaes256Gcm),
        ("open-32", _) => open(times),
        ("token-string-16", _) => token(times),
        ("find-open", _) => requests(times, &sealing, &fixture::find("orders")),
        ("find-sealed", _) => requests(times, &sealing, &fixture::find("customers")),
        (_, "insert-no-schema") => {
            let request = fixture::insert("orders", documents);
            requests(times, &fixture::policy(""), &request);
        }
        (_, "insert-open") => requests(times, &sealing, &fixture::insert("orders", documents)),
        (_, "insert-sealed") => requests(times, &sealing, &fixture::insert("customers", documents)),
        (_, "reply-open") => {
            let reply = fixture::open_reply(documents);
            replies(times, &sealing, &reply, &ReplyPlan::Relay);
        }
        _ => {
            let request = fixture::insert("customers", documents);
            let (reply, plan) = fixture::sealed_reply(&sealing, &request);
            replies(times, &sealing, &reply, &plan);
        }
    }
}

fn key() -> SealKey {
    let field = FieldId::of("shop.customers", "ssn");
    SealKey::derive(KeyId(1), &Material::new([1; 32]), field)
}

fn seal(times: usize, suite: Suite) {
    let key = key().sealing_with(suite);
    let mut out = Vec::with_capacity(128);
    for _ in 0..times {
        out.clear();
        key.seal(2, black_box(&[b'v'; 32]), &mut out);
        black_box(&out);
    }
}

fn open(times: usize) {
    let mut sealed = Vec::new();
    key().seal(2, &[b'v'; 32], &mut sealed);
    let key = key();
    let mut out = Vec::with_capacity(128);
    for _ in 0..times {
        out.clear();
        key.open(black_box(&sealed), &mut out).unwrap();
        black_box(&out);
    }
}

fn token(times: usize) {
    let key = TokenKey::derive(&Material::new([2; 32]), Domain::Named("bench"));
    let value = b"\x11\0\0\0vvvvvvvvvvvvvvvv\0";
    for _ in 0..times {
        black_box(key.equality(2, black_box(value)));
    }
}

fn requests(times: usize, policy: &Policy, request: &[u8]) {
    let mut scratch = Vec::with_capacity(4 * request.len());
    for _ in 0..times {
        let message = Message::recognise(black_box(request)).unwrap();
        let decision = decide(&message, policy, &mut scratch);
        assert!(matches!(black_box(decision), Decision::Forward { .. }));
    }
}

fn replies(times: usize, policy: &Policy, reply: &[u8], plan: &ReplyPlan) {
    let mut out = Vec::with_capacity(2 * reply.len());
    for _ in 0..times {
        let mut reads = Reads::default();
        reveal(black_box(reply), plan, policy, &mut reads, &mut out).unwrap();
        black_box(&out);
    }
}
