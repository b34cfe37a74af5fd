//! What is asked, as messages made beforehand.

use std::sync::Arc;

use bson::{Document, doc};
use fieldseal::bench::load::{Load, LoadError, request, request_with};

/// What the schema seals of a customer: five fields, two with a token.
const FIELDS: &str = r#"
ssn            = { type = "string", queries = ["equality"] }
"payment.card" = { type = "string", queries = ["equality"] }
name           = { type = "string" }
phone          = { type = "string" }
address        = {}
"#;

/// A schema that seals these fields in the collection that is read and in the one that is written.
/// `orders` and `orders_new` are collections that it does not name.
pub(crate) fn schema_of(fields: &str) -> String {
    let collections = ["customers", "customers_new"];
    collections
        .map(|name| format!("[collections.\"shop.{name}\".fields]\n{fields}\n"))
        .concat()
}

/// A schema of five fields.
pub(crate) fn schema() -> String {
    schema_of(FIELDS)
}

/// How many documents there are to be read.
pub(crate) const STORED: i32 = 1000;

/// How large a document is, in bytes of BSON, before anything is sealed.
const SIZE: usize = 1024;

/// Messages that a connection sends one after the other.
pub(crate) type Requests = Arc<[Vec<u8>]>;

/// A document of 1 KiB, the same for the collection that is sealed and for the one that is not.
pub(crate) fn customer() -> Document {
    let mut document = doc! {
        "ssn": "078-05-1120", "name": "Ada Marsh", "phone": "+44 20 7946 0958",
        "address": {"street": "12 Quay Road", "city": "Leith", "postcode": "EH6 6LX"},
        "payment": {"card": "4929 1234 5678 9012", "expires": "09/29"},
        "plan": "gold", "visits": 17_i32,
        "since": bson::DateTime::from_millis(1_700_000_000_000),
        "notes": "",
    };
    let length = bson::serialize_to_vec(&document).unwrap().len();
    document.insert("notes", "n".repeat(SIZE.saturating_sub(length)));
    document
}

/// Stores what is read, the documents numbered, by way of this load.
pub(crate) async fn store(
    load: &mut Load,
    collection: &str,
    numbers: std::ops::Range<i32>,
    document: &Document,
) -> Result<(), LoadError> {
    let documents: Vec<Document> = numbers
        .map(|number| {
            let mut numbered = doc! {"_id": number};
            numbered.extend(document.clone());
            numbered
        })
        .collect();
    for some in documents.chunks(100) {
        let insert = doc! {"insert": collection, "documents": some.to_vec(), "$db": "shop"};
        load.ask(&request(&insert)).await?;
    }
    Ok(())
}

/// One document by its `_id`, each in turn.
pub(crate) fn find_one(collection: &str) -> Requests {
    let finds = (0..STORED).map(|number| {
        let filter = doc! {"_id": number};
        request(&doc! {"find": collection, "filter": filter, "limit": 1, "singleBatch": true, "$db": "shop"})
    });
    finds.collect()
}

/// A hundred documents with one command.
pub(crate) fn find_hundred(collection: &str) -> Requests {
    let finds = (0..STORED).step_by(100).map(|number| {
        let filter = doc! {"_id": {"$gte": number, "$lt": number + 100}};
        request(&doc! {"find": collection, "filter": filter, "batchSize": 101, "singleBatch": true, "$db": "shop"})
    });
    finds.collect()
}

/// So many documents with one command; MongoDB numbers them.
///
/// It does not wait for its journal, so that the relay is a greater part of what is measured.
pub(crate) fn insert(collection: &str, document: &Document, count: usize) -> Requests {
    let command =
        doc! {"insert": collection, "ordered": true, "writeConcern": {"w": 1}, "$db": "shop"};
    [request_with(
        &command,
        "documents",
        &vec![document.clone(); count],
    )]
    .into()
}

/// Three times one document by its `_id`, then one inserted.
pub(crate) fn mixed(collection: &str, written: &str) -> Requests {
    let insert = insert(written, &customer(), 1);
    let finds = find_one(collection);
    let turns = finds
        .chunks(3)
        .flat_map(|finds| finds.iter().chain(insert.iter()));
    turns.cloned().collect()
}
