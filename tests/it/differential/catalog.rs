//! Indexes, validators and kinds of collections: made through the proxy they do what
//! they do on plaintext.

use mongodb::bson::{Bson, Document, doc};

use super::commands::Operation;
use super::world::World;
use super::{EPOCHS, sides_under};

const COLLECTION: &str = "people_catalog";

/// Runs commands one after the other on a collection that `create` makes: under one index epoch and under several.
async fn all_alike(create: Option<Document>, commands: Vec<Document>) {
    for keys in [&[], EPOCHS] {
        all_alike_under(keys, create.clone(), commands.clone()).await;
    }
}

async fn all_alike_under(keys: &[&[&str]], create: Option<Document>, commands: Vec<Document>) {
    let (_proxy, mut lanes) = sides_under(keys, 1).await;
    let [sealed, plain, stored] = lanes.remove(0);
    let mut world = World::new(COLLECTION.to_owned(), sealed, plain, stored);
    let mut wrong = Vec::new();
    // MongoDB gives the fields of a measurement in any order.
    let measured = create
        .as_ref()
        .is_some_and(|create| create.contains_key("timeseries"));
    for command in create.into_iter().chain(commands) {
        let name = command.keys().next().unwrap().as_str();
        let operation = Operation {
            writes: !measured && matches!(name, "insert" | "update"),
            loose: measured,
            ..Operation::read("catalog", command)
        };
        if let Err(text) = world.accept(&operation).await {
            wrong.push(format!("{}\n{text}", operation.command));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn insert(document: Document) -> Document {
    doc! { "insert": COLLECTION, "documents": [document] }
}

fn set(id: i32, fields: Document) -> Document {
    doc! { "update": COLLECTION, "updates": [{ "q": { "_id": id }, "u": { "$set": fields } }] }
}

fn find(options: Document) -> Document {
    let mut find = doc! { "find": COLLECTION };
    find.extend(options);
    find.insert("sort", doc! { "_id": 1 });
    find
}

fn index(keys: Document, options: Document) -> Document {
    let mut index = doc! { "key": keys, "name": "mine" };
    index.extend(options);
    doc! { "createIndexes": COLLECTION, "indexes": [index] }
}

fn people() -> Vec<Document> {
    vec![
        insert(
            doc! { "_id": 1, "n": 1, "ssn": "sealed-1", "age": 1, "name": "Ada", "tags": ["sealed-a", null] },
        ),
        insert(
            doc! { "_id": 2, "ssn": null, "age": 1.0, "payment": { "card": "sealed-c", "kind": "visa" } },
        ),
        insert(doc! { "_id": 3, "age": 3, "visits": [{ "at": 1, "note": "sealed-n" }] }),
    ]
}

#[tokio::test]
async fn indexes_of_every_kind_hold_and_answer_what_they_do_on_plaintext() {
    let list = || doc! { "listIndexes": COLLECTION };
    let by_hint = |keys: Document| find(doc! { "filter": { "ssn": "sealed-1" }, "hint": keys });
    let mut commands = people();
    let kinds = [
        (
            doc! { "ssn": 1 },
            doc! { "unique": true, "partialFilterExpression": { "n": { "$gte": 0 } } },
        ),
        (
            doc! { "ssn": -1, "age": 1, "name": 1 },
            doc! { "unique": true, "hidden": false },
        ),
        (doc! { "ssn": "hashed" }, doc! {}),
        (doc! { "ssn": "hashed", "name": 1 }, doc! {}),
        (
            doc! { "ssn": 1 },
            doc! { "collation": { "locale": "simple" } },
        ),
        (doc! { "$**": 1 }, doc! {}),
        (
            doc! { "$**": 1 },
            doc! { "wildcardProjection": { "ssn": 1, "payment.card": 1 } },
        ),
    ];
    for (keys, options) in kinds {
        let partial = options.contains_key("partialFilterExpression");
        commands.push(index(keys.clone(), options));
        if !partial {
            commands.push(list());
        }
        let filter = match partial {
            true => doc! { "ssn": "sealed-1", "n": { "$gte": 0 } },
            false => doc! { "ssn": "sealed-1" },
        };
        commands.push(find(doc! { "filter": filter, "hint": keys.clone() }));
        commands.push(insert(
            doc! { "_id": 7, "n": 2, "ssn": "sealed-1", "age": 1, "name": "Ada" },
        ));
        commands
            .push(doc! { "delete": COLLECTION, "deletes": [{ "q": { "_id": 7 }, "limit": 1 }] });
        commands.push(doc! { "collMod": COLLECTION, "index": { "name": "mine", "hidden": true } });
        if keys.keys().next().unwrap() != "$**" {
            commands.push(doc! { "collMod": COLLECTION, "index": { "keyPattern": keys.clone(), "hidden": false } });
            commands.push(doc! { "dropIndexes": COLLECTION, "index": keys });
        } else {
            commands.push(doc! { "dropIndexes": COLLECTION, "index": "mine" });
        }
        commands.push(by_hint(doc! { "$natural": 1 }));
    }
    // Hashed indexes take no arrays, be they sealed or not.
    commands.push(set(1, doc! { "ssn": ["sealed-1"] }));
    commands.push(index(doc! { "ssn": "hashed" }, doc! {}));
    commands.push(index(doc! { "ssn": 1, "tags": 1 }, doc! {}));
    all_alike(None, commands).await;
}

#[tokio::test]
async fn an_index_by_the_fields_type_is_unique_but_for_null_and_missing() {
    let mut commands = people();
    commands.extend([
        index(
            doc! { "ssn": 1 },
            doc! { "unique": true, "partialFilterExpression": { "ssn": { "$type": "string" } } },
        ),
        insert(doc! { "_id": 4, "ssn": null }),
        insert(doc! { "_id": 5 }),
        insert(doc! { "_id": 6, "ssn": "sealed-1" }),
        insert(doc! { "_id": 6, "ssn": "sealed-6" }),
        set(6, doc! { "ssn": "sealed-1" }),
        find(doc! { "filter": { "ssn": { "$type": "string" } }, "hint": "mine" }),
    ]);
    all_alike(None, commands).await;
}

#[tokio::test]
async fn validators_of_presence_and_types_let_through_what_they_do_on_plaintext() {
    let schema = doc! { "$jsonSchema": {
        "bsonType": "object", "required": ["ssn"],
        "properties": {
            "ssn": { "bsonType": ["string", "null"] }, "age": { "bsonType": "number" },
            "tags": { "bsonType": "array", "maxItems": 2, "items": { "bsonType": "string" } },
            "visits": { "items": { "properties": { "note": { "bsonType": "string" } }, "required": ["note"] } },
            "n": { "minimum": 3 },
        },
    } };
    let filter = doc! { "ssn": { "$type": "string" }, "$or": [{ "age": { "$exists": true } }, { "tags": { "$size": 1 } }] };
    let writes = || {
        vec![
            insert(doc! { "_id": 1, "ssn": "sealed-1", "age": 1, "n": 3 }),
            insert(doc! { "_id": 2, "ssn": null, "tags": ["sealed-a"] }),
            insert(doc! { "_id": 3, "ssn": ["sealed-1"] }),
            insert(doc! { "_id": 4, "age": 4 }),
            insert(doc! { "_id": 5, "ssn": "sealed-1", "tags": ["sealed-a"] }),
            insert(doc! { "_id": 6, "ssn": "sealed-1", "tags": ["sealed-a", null] }),
            insert(doc! { "_id": 7, "ssn": "sealed-1", "tags": "sealed-a", "age": 3 }),
            insert(doc! { "_id": 8, "ssn": "sealed-1", "visits": [{ "at": 1 }] }),
            insert(doc! { "_id": 9, "ssn": "sealed-1", "visits": [{ "note": "sealed-n" }] }),
            insert(
                doc! { "_id": 10, "ssn": "sealed-1", "visits": [{ "note": null }], "age": null },
            ),
            set(1, doc! { "ssn": null }),
            set(1, doc! { "n": 1 }),
        ]
    };
    for validator in [schema, filter] {
        let create = doc! { "create": COLLECTION, "validator": validator.clone(), "validationLevel": "strict" };
        let mut commands = writes();
        commands.push(find(doc! { "filter": validator.clone() }));
        commands.push(doc! { "collMod": COLLECTION, "validator": {} });
        commands.push(insert(doc! { "_id": 20 }));
        commands.push(
            doc! { "collMod": COLLECTION, "validator": validator, "validationAction": "error" },
        );
        commands.push(insert(doc! { "_id": 21 }));
        all_alike(Some(create), commands).await;
    }
}

#[tokio::test]
async fn capped_clustered_and_time_series_collections_answer_as_on_plaintext() {
    let mut reads = vec![
        find(doc! { "filter": { "ssn": "sealed-1" } }),
        find(doc! { "filter": { "ssn": null }, "projection": { "ssn": 1 } }),
        find(doc! { "filter": { "tags": { "$in": ["sealed-a"] }, "ssn": { "$type": "string" } } }),
        doc! { "count": COLLECTION, "query": { "age": { "$ne": 1 } } },
    ];
    let mut commands = people();
    commands.append(&mut reads.clone());
    let capped = doc! { "create": COLLECTION, "capped": true, "size": 100_000, "max": 2 };
    all_alike(Some(capped), commands.clone()).await;
    let clustered =
        doc! { "create": COLLECTION, "clusteredIndex": { "key": { "_id": 1 }, "unique": true } };
    all_alike(Some(clustered), commands).await;
    let series =
        doc! { "create": COLLECTION, "timeseries": { "timeField": "at", "metaField": "name" } };
    let at = Bson::DateTime(mongodb::bson::DateTime::from_millis(1_000_000));
    let mut measured: Vec<Document> = people()
        .into_iter()
        .map(|mut insert| {
            let documents = insert.get_array_mut("documents").unwrap();
            for document in documents.iter_mut().filter_map(Bson::as_document_mut) {
                document.insert("at", at.clone());
            }
            insert
        })
        .collect();
    measured.append(&mut reads);
    measured.push(index(doc! { "ssn": 1 }, doc! {}));
    measured.push(find(
        doc! { "filter": { "ssn": "sealed-1" }, "hint": "mine" },
    ));
    all_alike(Some(series), measured).await;
}
