//! Whole frames through the decision, and what MongoDB would get of them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod batches;
mod beside;
mod bulk_write;
mod catalog;
mod chains;
mod changes;
mod epochs;
mod expression;
mod filter;
mod find;
mod insert;
mod joins;
mod permission;
mod pipeline;
mod property;
mod reach;
mod roundtrip;
mod update;
mod upsert;
mod views;

use std::sync::LazyLock;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};

use super::*;
use crate::policy::fixture;
use crate::raw::Doc;
use crate::seal::{Header, NEEDLE, SUBTYPE};
use crate::wire::testing::{body, msg};

static POLICY: LazyLock<Policy> = LazyLock::new(fixture::policy);

/// Stands for a value that no message may show.
const CANARY: &str = "CANARY-4711";

/// A request as MongoDB gets it, with sealed values opened where they stand.
struct Upstream {
    body: Document,
    sequences: Vec<(String, Vec<Document>)>,
    plan: ReplyPlan,
    unchanged: bool,
}

/// The decision on a frame; a statement that is refused alone counts for its command.
fn decided(frame: &[u8]) -> Result<Upstream, Refusal> {
    let upstream = forwarded(frame)?;
    match upstream.plan.refused() {
        [] => Ok(upstream),
        [statement, ..] => Err(statement.refusal.clone()),
    }
}

/// The decision on a frame; what is forwarded is checked to hold together.
fn forwarded(frame: &[u8]) -> Result<Upstream, Refusal> {
    forwarded_under(&POLICY, frame)
}

fn forwarded_under(policy: &Policy, frame: &[u8]) -> Result<Upstream, Refusal> {
    let message = Message::recognise(frame).unwrap();
    let mut scratch = vec![1, 2, 3];
    match decide(&message, policy, &mut scratch) {
        Decision::Refuse(refusal) => Err(refusal),
        Decision::Forward { cleared, plan } => {
            let bytes = cleared.bytes();
            let Message::Msg(sent) = Message::recognise(bytes).unwrap() else {
                panic!("not an OP_MSG");
            };
            let parse = |bytes: &[u8]| {
                Doc::whole(bytes).unwrap().validate(200).unwrap();
                let doc: Document = bson::deserialize_from_slice(bytes).unwrap();
                opened(doc)
            };
            let documents = |sequence: &crate::wire::Sequence<'_>| {
                let mut documents = Vec::new();
                let mut at = sequence.documents.start;
                while at < sequence.documents.end {
                    let doc = Doc::at(bytes, at, sequence.documents.end).unwrap();
                    documents.push(parse(doc.bytes()));
                    at = doc.end();
                }
                (sequence.identifier.to_owned(), documents)
            };
            Ok(Upstream {
                body: parse(&bytes[sent.body.clone()]),
                sequences: sent.sequences.iter().map(documents).collect(),
                plan,
                unchanged: std::ptr::eq(bytes, frame),
            })
        }
    }
}

fn framed(command: &Document) -> Vec<u8> {
    let mut command = command.clone();
    if !command.contains_key("$db") {
        command.insert("$db", "shop");
    }
    msg(0, &body(&command))
}

/// What MongoDB gets of a command in the database `shop`, without `$db`.
fn upstream(command: Document) -> Upstream {
    let mut upstream = match decided(&framed(&command)) {
        Ok(upstream) => upstream,
        Err(refusal) => panic!("{command}: {refusal}"),
    };
    upstream.body.remove("$db");
    upstream
}

/// The command as MongoDB gets it.
fn sent(command: Document) -> Document {
    upstream(command).body
}

/// The command passes as the same bytes, not a copy of them.
#[track_caller]
fn passes(command: Document) {
    assert!(upstream(command.clone()).unchanged, "{command}");
}

/// The command is refused, in words that name it and all of `named`, and no value.
#[track_caller]
fn refused(command: Document, named: &[&str]) -> Refusal {
    let Err(refusal) = decided(&framed(&command)) else {
        panic!("passed: {command}");
    };
    let name = command.keys().next().unwrap();
    for word in ["fieldseal", name].iter().chain(named) {
        assert!(refusal.message.contains(word), "{word}: {refusal}");
    }
    assert!(!refusal.message.contains(CANARY), "{refusal}");
    refusal
}

/// How a sealed value shows in what [`upstream`] gives.
fn sealed(value: impl Into<Bson>) -> Bson {
    Bson::Document(doc! {"sealed": value.into()})
}

/// How a sealed value with its token shows.
fn queryable(path: &str, value: impl Into<Bson>) -> Bson {
    let value = value.into();
    Bson::Document(doc! {"c": sealed(value.clone()), "e1": token(path, value)})
}

/// The token of a value of a field of `shop.customers`.
fn token(path: &str, value: impl Into<Bson>) -> Bson {
    let collection = POLICY.collection("shop.customers").unwrap();
    let field = (0..)
        .map(|leaf| collection.field(leaf))
        .find(|field| field.path == path)
        .unwrap();
    let bytes = bson::serialize_to_vec(&doc! {"v": value.into()}).unwrap();
    let element = Doc::whole(&bytes).unwrap().first().unwrap().unwrap();
    let token = field
        .equality
        .as_ref()
        .unwrap()
        .key
        .equality(element.kind, element.value());
    binary(&token.unwrap())
}

fn binary(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    })
}

/// A token and the value that no token equals: an equality that no upsert copies.
fn uncopied(path: &str, value: impl Into<Bson>) -> Bson {
    Bson::Document(doc! {"$in": [token(path, value), binary(&[])]})
}

fn opened(document: Document) -> Document {
    document
        .into_iter()
        .map(|(key, value)| (key, opened_value(value)))
        .collect()
}

fn opened_value(value: Bson) -> Bson {
    match value {
        Bson::Document(document) => Bson::Document(opened(document)),
        Bson::Array(items) => Bson::Array(items.into_iter().map(opened_value).collect()),
        Bson::Binary(Binary { subtype, bytes })
            if u8::from(subtype) == SUBTYPE && Header::read(&bytes).is_some() =>
        {
            let header = Header::read(&bytes).unwrap();
            let mut plain = Vec::new();
            POLICY.open(header, &bytes, None, &mut plain).unwrap();
            // A document of one element with an empty name.
            plain.insert(1, 0);
            let length = i32::try_from(plain.len() + 5).unwrap();
            let document = [&length.to_le_bytes()[..], &plain, &[0]].concat();
            let mut document: Document = bson::deserialize_from_slice(&document).unwrap();
            sealed(document.remove("").unwrap())
        }
        other => other,
    }
}
