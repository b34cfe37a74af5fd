//! What is measured: documents and the fields of one collection, checked before anything is
//! started by the code that will seal them.

use std::sync::Arc;

use bson::{Bson, Document, doc};

use super::documents::{Disguise, Documents, leads_to, values_at};
use super::fault::BenchError;
use super::load::request;
use super::report::Source;
use super::settings::{schema_text, sealed_fields};
use crate::keyring::Keyring;
use crate::policy::Policy;
use crate::refusal::Refusal;
use crate::rewrite::{Decision, decide};
use crate::schema::{CollectionRule, FieldRule, Format, Schema};
use crate::wire::{HEADER, Message};

/// How many documents tell what a field adds to them.
const WEIGHED: usize = 200;
/// How many bytes of documents one command holds at most, before they are sealed.
const MOST_BATCH_BYTES: usize = 4 << 20;
/// How many bytes of documents each setting stores for reads.
const MOST_STORED_BYTES: f64 = 16_777_216.0;
/// How many documents each setting stores for reads.
const MOST_STORED: usize = 1000;
/// Where documents are sealed on trial.
const DATABASE: &str = "trial";
const COLLECTION: &str = "trial";
/// What a refusal of it begins with.
const TRIED: &str = "insert on trial.trial: ";
/// Where the body of a command begins: behind the flags and the kind of the first section.
const BODY: usize = HEADER + 5;

/// Documents, and the fields of theirs that are sealed.
#[derive(Debug)]
pub struct Subject {
    /// The collection, as the schema names it.
    pub rule: CollectionRule,
    /// The documents.
    pub documents: Documents,
    /// Where they come from.
    pub source: Source,
    /// What is looked for by equality, if anything can be.
    pub asked: Option<Asked>,
    /// What each field is found to be.
    pub fields: Vec<Weighed>,
}

/// A field that is looked for by its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The field, by its place.
    pub field: usize,
    /// Its path, with names in the places of `*`.
    pub path: String,
    /// Values that documents have there.
    pub values: Vec<Bson>,
}

/// What a field is in these documents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighed {
    /// In how many of 100 documents it has a value.
    pub present: f64,
    /// How many bytes sealing it adds to a document, on average.
    pub bytes_added: f64,
}

impl Subject {
    /// Checks that the proxy would take each of `documents`, which came from `place`.
    pub fn new(
        rule: CollectionRule,
        mut documents: Documents,
        source: Source,
        place: &str,
    ) -> Result<Self, BenchError> {
        let sealed = sealed_fields(&rule);
        let policy = policy(&sealed)?;
        for (index, document) in documents.all.iter().enumerate() {
            sealed_form(&policy, document).map_err(|reason| BenchError::Refused {
                place: place.to_owned(),
                number: index + 1,
                reason,
            })?;
        }
        // Some settings store them in plain, perhaps where others can see them.
        if source != Source::MadeUp {
            let disguise = Disguise::new();
            for document in &mut documents.all {
                disguise.put_on(document, &sealed);
            }
        }
        let mut fields = Vec::new();
        for field in &sealed {
            fields.push(weigh(field, &documents.all)?);
        }
        Ok(Self {
            asked: asked(&rule.fields, &documents.all),
            fields,
            rule,
            documents,
            source,
        })
    }

    /// How many documents one command can hold, if `wanted` are to be.
    pub fn batch(&self, wanted: usize) -> usize {
        (MOST_BATCH_BYTES / self.documents.largest.max(1)).clamp(1, wanted.max(1))
    }

    /// The documents that are stored to be read, each with an `_id`: their number.
    pub fn stored(&self, batch: usize) -> Vec<Document> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of documents"
        )]
        let fit = (MOST_STORED_BYTES / self.documents.bytes.max(1.0)) as usize;
        let count = fit.min(MOST_STORED).max(batch);
        (0_i32..)
            .zip(self.documents.all.iter().cycle().take(count))
            .map(|(number, document)| {
                let mut stored = doc! {"_id": number};
                stored.extend(document.clone());
                stored
            })
            .collect()
    }
}

/// A policy that seals `fields` in the collection for trials, under keys that are kept nowhere.
fn policy(fields: &[FieldRule]) -> Result<Policy, BenchError> {
    let wrong = |error: &dyn std::fmt::Display| BenchError::Schema(error.to_string());
    let text = schema_text(&[&format!("{DATABASE}.{COLLECTION}")], fields);
    let schema = Schema::parse(&text, Format::Json, "schema").map_err(|error| wrong(&error))?;
    let keyring = Keyring::generate(schema.key_names()).map_err(BenchError::make("keys"))?;
    Policy::compile(Arc::new(schema), Arc::new(keyring)).map_err(|error| wrong(&error))
}

/// The document as it would be stored; or what the proxy says, which shows no value.
fn sealed_form(policy: &Policy, document: &Document) -> Result<Document, String> {
    let insert = doc! {"insert": COLLECTION, "documents": [document], "$db": DATABASE};
    let frame = request(&insert);
    let told = |refusal: &Refusal| {
        let message = refusal.message.as_str();
        let message = message.strip_prefix("fieldseal: ").unwrap_or(message);
        // Of the trial nobody knows.
        message.strip_prefix(TRIED).unwrap_or(message).to_owned()
    };
    let message = Message::recognise(&frame).map_err(|error| error.to_string())?;
    let mut scratch = Vec::new();
    let cleared = match decide(&message, policy, &mut scratch) {
        Decision::Forward { cleared, plan } => match plan.refused() {
            [] => cleared,
            [refused, ..] => return Err(told(&refused.refusal)),
        },
        Decision::Refuse(refusal) => return Err(told(&refusal)),
    };
    let body = cleared.bytes().get(BODY..).unwrap_or_default();
    let sent: Document = bson::deserialize_from_slice(body).map_err(|error| error.to_string())?;
    let documents = sent.get_array("documents").ok();
    let stored = documents.and_then(|documents| documents.first()?.as_document());
    stored.cloned().ok_or_else(|| "is not sent on".to_owned())
}

fn weigh(field: &FieldRule, documents: &[Document]) -> Result<Weighed, BenchError> {
    let policy = policy(std::slice::from_ref(field))?;
    let (mut plain, mut sealed, mut count) = (0, 0, 0);
    for document in documents.iter().take(WEIGHED) {
        let stored = sealed_form(&policy, document).map_err(BenchError::Schema)?;
        plain += size(document);
        sealed += size(&stored);
        count += 1;
    }
    let has = |document: &&Document| {
        let values = values_at(document, &field.path);
        values
            .iter()
            .any(|(_, value)| !matches!(value, Bson::Null | Bson::Undefined))
    };
    let present = documents.iter().filter(has).count();
    Ok(Weighed {
        present: 100.0 * present as f64 / documents.len().max(1) as f64,
        bytes_added: (sealed as f64 - plain as f64) / f64::from(count.max(1)),
    })
}

/// The size of a document as BSON.
pub fn size(document: &Document) -> usize {
    bson::serialize_to_vec(document).map_or(0, |bytes| bytes.len())
}

/// The first field with equality that has values.
fn asked(fields: &[FieldRule], documents: &[Document]) -> Option<Asked> {
    let mut fields = fields
        .iter()
        .enumerate()
        .filter(|(_, field)| field.equality);
    fields.find_map(|(field, rule)| {
        let found: Vec<(String, Bson)> = documents
            .iter()
            .flat_map(|document| {
                let values = values_at(document, &rule.path).into_iter();
                let scalars = values.filter_map(|(path, value)| Some((path, scalar(value)?)));
                scalars.filter(|(path, value)| leads_to(document, path, value))
            })
            .map(|(path, value)| (path, value.clone()))
            .collect();
        let (path, _) = found.first()?;
        let path = path.clone();
        let same = found.into_iter().filter(|(other, _)| *other == path);
        let values = same.map(|(_, value)| value).take(MOST_STORED).collect();
        Some(Asked {
            field,
            path,
            values,
        })
    })
}

/// The value itself, or the first of an array.
fn scalar(value: &Bson) -> Option<&Bson> {
    match value {
        Bson::Array(items) => items.iter().find_map(scalar),
        Bson::Document(_) | Bson::Null | Bson::Undefined => None,
        value => Some(value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const SCHEMA: &str = r#"
        [collections."shop.*".fields]
        tag = { type = "string", queries = ["equality"] }
        ssn = { type = "string" }
        "pay.*.card" = { type = "string", queries = ["equality"] }
    "#;

    fn subject(documents: Vec<Document>) -> Result<Subject, BenchError> {
        let mut schema = Schema::parse(SCHEMA, Format::Toml, "s.toml").unwrap();
        let documents = Documents::checked(documents, "docs.json")?;
        Subject::new(schema.rules.remove(0), documents, Source::File, "docs.json")
    }

    #[test]
    fn what_the_schema_refuses_is_told_by_its_path_and_not_by_its_value() {
        let documents = vec![doc! {"ssn": "x"}, doc! {"ssn": {"canary": "canary"}}];
        let told = subject(documents).unwrap_err().to_string();
        assert!(told.starts_with("docs.json: document 2: "), "{told}");
        assert!(told.contains("`ssn`") && !told.contains("canary"), "{told}");
        assert!(!told.contains(DATABASE), "{told}");
    }

    #[test]
    fn fields_are_weighed_as_they_would_be_stored() {
        let subject = subject(vec![
            doc! {"ssn": "abc", "pay": {"a": {"card": "1"}}},
            doc! {"ssn": "abcdef", "pay": {"b": {"card": "2"}, "a": {"card": ["3"]}}},
            doc! {"ssn": null, "open": 1},
            doc! {"open": 1},
        ])
        .unwrap();
        let [tag, ssn, card] = &subject.fields[..] else {
            panic!("not three");
        };
        assert_eq!((tag.present, tag.bytes_added), (0.0, 0.0));
        assert_eq!((ssn.present, card.present), (50.0, 50.0));
        // Length, subtype, header, type and tag: 4 + 1 + 28 + 1 + 16 in each of two of four.
        assert!((ssn.bytes_added - 25.0).abs() < 1e-9, "{ssn:?}");
        assert!(card.bytes_added > ssn.bytes_added);
        let asked = subject.asked.unwrap();
        assert_eq!((asked.field, asked.path.as_str()), (2, "pay.a.card"));
        let lengths = asked
            .values
            .iter()
            .map(|value| value.as_str().unwrap().len());
        assert_eq!(lengths.collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn what_no_query_finds_is_not_asked_for() {
        let odd = doc! {"pay": {"x.y": {"card": "1"}, "$z": {"card": "2"}, "": {"card": "3"}}};
        assert_eq!(subject(vec![odd.clone()]).unwrap().asked, None);
        let found = subject(vec![odd, doc! {"pay": {"a": {"card": "4"}}}]).unwrap();
        let asked = found.asked.unwrap();
        assert_eq!((asked.path.as_str(), asked.values.len()), ("pay.a.card", 1));
    }

    #[test]
    fn documents_are_stored_as_often_as_there_is_room() {
        let subject = subject(vec![doc! {"n": 1}, doc! {"n": 2}]).unwrap();
        let stored = subject.stored(100);
        assert_eq!(stored.len(), MOST_STORED);
        assert_eq!(stored[3], doc! {"_id": 3, "n": 2});
        assert_eq!(subject.batch(100), 100);
    }

    #[test]
    fn large_documents_make_small_batches() {
        let subject = subject(vec![doc! {"n": "x".repeat(3 << 20)}]).unwrap();
        assert_eq!(subject.batch(100), 1);
        assert_eq!(subject.stored(1).len(), 5);
    }
}
