//! What clients are told of writes, errors, indexes, plans and changes: the same as
//! without a proxy, in their own names, with sealed values hidden at most.

mod batches;
mod changes;
mod cursors;
mod duplicates;
mod plans;

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};

use crate::support::{Proxy, ReplicaSet, shared_replica_set, unique_database};

const SCHEMA: &str = r#"
[collections."replies_*.people".fields]
ssn = { type = "string", queries = ["equality"] }
tags = { type = "string", queries = ["equality"] }
age = { type = "int", queries = ["equality"] }
"payment.card" = { type = "string", queries = ["equality"] }
"visits.note" = { type = "string" }
"visits.code" = { type = "string", queries = ["equality"] }
"contacts.*.phone" = { type = "string", queries = ["equality"] }
"box.c" = { type = "string" }
"#;

/// Stands for a value that must not be told.
const SECRET: &str = "SECRET-4711";

/// A proxy, and one database through it and past it. Nothing in `plain` is sealed.
struct World {
    /// The member itself.
    admin: Database,
    proxy: Proxy,
    /// Through the proxy.
    through: Database,
    /// As MongoDB holds it.
    stored: Database,
}

impl World {
    async fn start() -> Self {
        Self::before(shared_replica_set().await).await
    }

    async fn before(set: &ReplicaSet) -> Self {
        let proxy = Proxy::start(set, SCHEMA).await;
        let name = unique_database("replies");
        Self {
            admin: set.members()[0].direct_client().await.database("admin"),
            through: proxy.client().await.database(&name),
            stored: set.client().await.database(&name),
            proxy,
        }
    }

    /// The whole answer to a command, an error or not, without what tells of time.
    async fn answer(&self, command: &Document) -> Document {
        let mut command = command.clone();
        if !command.contains_key("$db") {
            command.insert("$db", self.through.name());
        }
        let mut wire = crate::support::wire::Wire::connect(&self.proxy.addresses()[0]).await;
        timeless(wire.ask(&command).await)
    }

    /// Asserts that a command on the sealed `people` is answered as one on the plain
    /// `plain` is, but for [`SECRET`], and gives the answer.
    async fn same(&self, command: Document) -> Document {
        let sealed = self.answer(&command).await;
        let mut plain = command.clone();
        let name = plain.keys().next().unwrap().clone();
        plain.insert(name, "plain");
        let plain = self.answer(&plain).await;
        assert_eq!(
            renamed(plain.into()).to_string(),
            Bson::from(sealed.clone()).to_string(),
            "{command}"
        );
        sealed
    }
}

fn timeless(mut answer: Document) -> Document {
    for key in ["$clusterTime", "operationTime", "opTime", "electionId"] {
        answer.remove(key);
    }
    without_uuids(answer.into()).as_document().unwrap().clone()
}

fn texts(value: Bson, change: &dyn Fn(String) -> String) -> Bson {
    match value {
        Bson::String(text) => Bson::String(change(text)),
        Bson::Array(items) => items
            .into_iter()
            .map(|item| texts(item, change))
            .collect::<Vec<_>>()
            .into(),
        Bson::Document(document) => document
            .into_iter()
            .map(|(key, value)| (key, texts(value, change)))
            .collect::<Document>()
            .into(),
        other => other,
    }
}

/// A failed build of an index is named by a UUID, and so is its collection.
fn without_uuids(value: Bson) -> Bson {
    let uuid =
        |word: &str| word.trim_end_matches(':').len() == 36 && word.matches('-').count() == 4;
    texts(value, &|text| {
        let words = text
            .split(' ')
            .map(|word| if uuid(word) { "UUID" } else { word });
        words.collect::<Vec<_>>().join(" ")
    })
}

/// What the plain collection answers, with the name and the hidden values of the sealed one.
fn renamed(value: Bson) -> Bson {
    texts(value, &|text| {
        text.replace(".plain", ".people")
            .replace(&format!("\"{SECRET}\""), "<sealed>")
            .replace(SECRET, "<sealed>")
    })
}

/// Asserts that nothing in an answer is of a stored form.
fn assert_clean(answer: &Document) {
    let text = answer.to_string();
    // The name alone may be part of an id or a hash.
    for stored in [".e1", "\"e1\"", "BinData", "Binary", "$binary"] {
        assert!(!text.contains(stored), "{stored}: {text}");
    }
}
