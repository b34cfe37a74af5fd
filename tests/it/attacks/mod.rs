//! Attacks, each with its outcome: refused, detected, of no use, or possible and documented in
//! SECURITY.md. Floods of connections are in `limits`, tampering with the audit log in `audit`,
//! bytes that are no messages in `bad_input`, probing of masked fields in `roles`.

mod forged;
mod guessing;
mod moved;
mod replayed;
mod slow;
mod swapped;

use mongodb::Database;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};

use crate::support::wire::Wire;
use crate::support::{Proxy, ReplicaSet, shared_replica_set, unique_database};

const SCHEMA: &str = r#"
[collections."attacks_*.people".fields]
ssn = { type = "string", queries = ["equality"] }
card = { type = "string", queries = ["equality"] }
note = { type = "string" }
other_note = { type = "string" }
address = {}
"visits.note" = { type = "string" }

[collections."attacks_*.patients".fields]
ssn = { type = "string", queries = ["equality"] }
"#;

/// A proxy, and one database through it and past it, as an attacker with rights on MongoDB has it.
struct World {
    proxy: Proxy,
    through: Database,
    stored: Database,
}

impl World {
    async fn start() -> Self {
        Self::before(shared_replica_set().await).await
    }

    async fn before(set: &ReplicaSet) -> Self {
        let proxy = Proxy::start(set, SCHEMA).await;
        let name = unique_database("attacks");
        Self {
            through: proxy.client().await.database(&name),
            stored: set.client().await.database(&name),
            proxy,
        }
    }

    /// Two people who are told apart by every field.
    async fn with_people() -> Self {
        let world = Self::start().await;
        let people = world.through.collection::<Document>("people");
        people.insert_many([ada(), ben()]).await.unwrap();
        world
    }

    /// What MongoDB has of a person.
    async fn raw(&self, id: i32) -> Document {
        let people = self.stored.collection::<Document>("people");
        let found = people.find_one(doc! { "_id": id }).await.unwrap();
        found.expect("the person is stored")
    }

    /// Changes a person on MongoDB itself.
    async fn tamper(&self, id: i32, set: Document) {
        let people = self.stored.collection::<Document>("people");
        let update = doc! { "$set": set };
        let done = people.update_one(doc! { "_id": id }, update).await.unwrap();
        assert_eq!(done.modified_count, 1, "nothing was changed");
    }

    /// What a service reads.
    async fn read(&self, filter: Document) -> Result<Option<Document>, mongodb::error::Error> {
        self.through
            .collection::<Document>("people")
            .find_one(filter)
            .await
    }

    /// What a service is told, which must be an error of the proxy.
    async fn error(&self, filter: Document) -> String {
        let error = self.read(filter).await.unwrap_err().to_string();
        assert!(error.contains("fieldseal: "), "{error}");
        error
    }

    async fn wire(&self) -> Wire {
        Wire::connect(&self.proxy.addresses()[0]).await
    }
}

fn ada() -> Document {
    doc! { "_id": 1, "ssn": "ssn of Ada", "card": "card of Ada", "note": "note of Ada",
    "other_note": "other note of Ada", "address": { "street": "12 Quay Rd" }, "visits": [{ "note": "visit of Ada" }], "open": 1 }
}

fn ben() -> Document {
    doc! { "_id": 2, "ssn": "ssn of Ben", "card": "card of Ben", "note": "note of Ben",
    "other_note": "other note of Ben", "address": { "street": "7 Mill Lane" }, "visits": [{ "note": "visit of Ben" }], "open": 2 }
}

/// The bytes of a sealed value, with its tokens or without.
fn sealed_bytes(value: &Bson) -> Vec<u8> {
    let value = match value {
        Bson::Document(sealed) => sealed.get("c").expect("a sealed document"),
        value => value,
    };
    match value {
        Bson::Binary(Binary {
            subtype: BinarySubtype::UserDefined(0x8F),
            bytes,
        }) => bytes.clone(),
        other => panic!("not sealed: {other}"),
    }
}

fn sealed(bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::UserDefined(0x8F),
        bytes,
    })
}
