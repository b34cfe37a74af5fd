//! What must be accepted and answered as on plaintext, whatever else may be refused.

use mongodb::bson::{Bson, Document, JavaScriptCodeWithScope, doc};

use super::commands::Operation;
use super::sides;
use super::values::decimal;
use super::world::World;

const COLLECTION: &str = "people_table";

fn documents() -> Vec<Document> {
    vec![
        doc! {
            "_id": 1, "name": "Ada", "ssn": "sealed-1", "age": 36, "n": 1,
            "payment": { "kind": "visa", "card": "sealed-c1" },
            "tags": ["sealed-a", "sealed-b"],
            "address": { "city": "sealed-x", "zip": 1 },
            "visits": [{ "at": 1, "note": "sealed-n1" }, { "at": 2, "note": "sealed-n2" }],
        },
        doc! {
            "_id": 2, "ssn": "sealed-2", "name": "Bob", "age": 36.0, "n": 2,
            "payment": [{ "card": "sealed-c1" }, { "card": "sealed-c2", "kind": "visa" }],
            "tags": ["sealed-b", null],
            "visits": [{ "at": 2 }],
        },
        doc! { "_id": 3, "ssn": null, "name": "Cyd", "age": decimal("36.00"), "tags": [], "n": 1 },
        doc! { "_id": 4, "name": "Dan", "age": 40_i64, "tags": "sealed-a", "address": null },
        doc! { "_id": 5, "name": "Eve", "ssn": "", "payment": 1, "visits": 3, "n": 3 },
    ]
}

/// Filters, each of which is used to find, to count, to aggregate and to delete.
fn filters() -> Vec<Document> {
    vec![
        doc! {},
        doc! { "ssn": "sealed-1" },
        doc! { "ssn": "" },
        doc! { "ssn": { "$eq": "sealed-2" } },
        doc! { "ssn": { "$in": ["sealed-1", "sealed-9", "sealed-2"] } },
        doc! { "ssn": { "$in": [] } },
        doc! { "ssn": { "$in": ["sealed-1", null] } },
        doc! { "ssn": { "$nin": ["sealed-1", "sealed-2"] } },
        doc! { "ssn": { "$nin": ["sealed-1", null] } },
        doc! { "ssn": { "$ne": "sealed-1" } },
        doc! { "ssn": { "$not": { "$eq": "sealed-1" } } },
        doc! { "ssn": { "$not": { "$in": ["sealed-1", "sealed-2"] } } },
        doc! { "ssn": null },
        doc! { "ssn": { "$ne": null } },
        doc! { "ssn": { "$exists": true } },
        doc! { "ssn": { "$exists": false } },
        doc! { "ssn": { "$exists": true, "$ne": "sealed-1" } },
        doc! { "age": 36 },
        doc! { "age": decimal("36.0") },
        doc! { "age": { "$in": [40, 36.5] } },
        doc! { "payment.card": "sealed-c1" },
        doc! { "payment.card": { "$ne": "sealed-c1" } },
        doc! { "payment.0.card": "sealed-c1" },
        doc! { "payment": { "$elemMatch": { "card": "sealed-c2", "kind": "visa" } } },
        doc! { "tags": "sealed-b" },
        doc! { "tags": { "$all": ["sealed-a", "sealed-b"] } },
        doc! { "tags": { "$size": 2 } },
        doc! { "tags": { "$elemMatch": { "$eq": "sealed-a" } } },
        doc! { "tags": { "$elemMatch": { "$in": ["sealed-a", "sealed-z"] } } },
        doc! { "tags": { "$elemMatch": { "$ne": "sealed-a" } } },
        doc! { "tags": { "$elemMatch": { "$nin": ["sealed-a", null] } } },
        doc! { "tags": { "$elemMatch": { "$in": ["sealed-a", null] } } },
        doc! { "tags": { "$elemMatch": { "$not": { "$eq": "sealed-a" }, "$exists": true } } },
        doc! { "tags": { "$elemMatch": { "$eq": null } } },
        doc! { "tags": { "$elemMatch": { "$type": "string" } } },
        doc! { "tags": { "$elemMatch": {} } },
        doc! { "tags": { "$all": [{ "$elemMatch": { "$eq": "sealed-a" } }, { "$elemMatch": { "$ne": "sealed-a" } }] } },
        doc! { "tags": { "$all": ["sealed-b", null] } },
        doc! { "tags.1": null },
        doc! { "tags.1": { "$ne": null } },
        doc! { "tags.1": { "$in": ["sealed-b", null] } },
        doc! { "tags.0": { "$nin": ["sealed-a", null] } },
        doc! { "tags.1": { "$type": "null" } },
        doc! { "tags.0": { "$type": ["string", "int"] } },
        doc! { "ssn": { "$type": "string" } },
        doc! { "ssn": { "$type": 2 } },
        doc! { "ssn": { "$type": "object" } },
        doc! { "ssn": { "$type": ["string", "null"] } },
        doc! { "ssn": { "$not": { "$type": "string" } } },
        doc! { "ssn": { "$size": 1 } },
        doc! { "tags": { "$type": "array" } },
        doc! { "tags": { "$type": ["array", "string"] } },
        doc! { "tags": { "$type": "binData" } },
        doc! { "age": { "$type": "number" } },
        doc! { "age": { "$type": ["int", "long", "double", "decimal"] } },
        doc! { "address": { "$type": "null" } },
        doc! { "visits.note": { "$type": "string" } },
        doc! { "visits.note": { "$type": "date" } },
        doc! { "visits.0.note": { "$type": "string" } },
        doc! { "visits": { "$elemMatch": { "note": { "$type": "string" }, "at": 2 } } },
        doc! { "visits": [{ "at": 2 }] },
        doc! { "visits": { "$in": [{ "at": 2 }, 3] } },
        doc! { "payment": { "$ne": {} } },
        doc! { "$jsonSchema": { "required": ["ssn"], "properties": { "ssn": { "bsonType": "string" } } } },
        doc! { "$jsonSchema": { "properties": { "ssn": { "type": ["string", "null"] }, "age": { "type": "number" } } } },
        doc! { "$jsonSchema": { "properties": { "tags": { "items": { "bsonType": "string" }, "maxItems": 2 } } } },
        doc! { "$jsonSchema": { "properties": { "tags": { "not": { "bsonType": "array" } } } } },
        doc! { "$jsonSchema": { "properties": { "visits": { "items": { "properties": { "note": { "bsonType": "string" } }, "required": ["note"] } } } } },
        doc! { "$jsonSchema": { "properties": { "payment": { "bsonType": "object", "properties": { "card": { "bsonType": "int" } } } } } },
        doc! { "tags": { "$not": { "$all": ["sealed-a"] } } },
        doc! { "tags": null },
        doc! { "tags.0": "sealed-a" },
        doc! { "address": { "$exists": true } },
        doc! { "address": null },
        doc! { "visits.note": { "$exists": true } },
        doc! { "visits": { "$elemMatch": { "at": 2, "note": { "$exists": false } } } },
        doc! { "$and": [{ "ssn": "sealed-1" }, { "name": "Ada" }] },
        doc! { "$or": [{ "ssn": "sealed-1" }, { "tags": "sealed-b" }, { "n": { "$gt": 2 } }] },
        doc! { "$nor": [{ "ssn": "sealed-1" }, { "payment.card": "sealed-c2" }] },
        doc! { "name": { "$regex": "^[AB]" }, "ssn": { "$ne": "sealed-2" } },
        doc! { "n": { "$gte": 1, "$lt": 3 }, "age": { "$ne": 40 } },
        doc! { "$expr": { "$gt": ["$n", 1] }, "ssn": { "$exists": true } },
    ]
}

fn reads() -> Vec<Document> {
    let find = |options: Document| {
        let mut command = doc! { "find": COLLECTION };
        command.extend(options);
        command
    };
    let aggregate =
        |stages: Vec<Document>| doc! { "aggregate": COLLECTION, "pipeline": stages, "cursor": {} };
    let matched = doc! { "$match": { "age": 36 } };
    let by_id = doc! { "$sort": { "_id": 1 } };
    vec![
        find(doc! { "sort": { "n": -1, "_id": 1 }, "skip": 1, "limit": 3 }),
        find(doc! { "batchSize": 2 }),
        find(doc! { "projection": { "ssn": 1, "payment.card": 1 } }),
        find(doc! { "projection": { "ssn": 0, "visits.note": 0 } }),
        find(doc! { "projection": { "tags": { "$slice": 1 }, "visits": { "$slice": [1, 1] } } }),
        find(doc! { "projection": { "visits": { "$elemMatch": { "at": 2 } } } }),
        find(doc! { "projection": { "tags": { "$elemMatch": { "$eq": "sealed-b" } }, "ssn": 1 } }),
        find(
            doc! { "projection": { "tags": { "$elemMatch": { "$in": ["sealed-a", "sealed-b"] } } } },
        ),
        find(doc! { "projection": { "tags": { "$elemMatch": { "$eq": null } } } }),
        find(
            doc! { "projection": { "tags": { "$elemMatch": { "$ne": "sealed-b", "$type": "string" } } } },
        ),
        find(doc! { "filter": { "tags": "sealed-b" }, "projection": { "tags.$": 1 } }),
        doc! { "distinct": COLLECTION, "key": "name", "query": { "age": 36 } },
        aggregate(vec![
            matched.clone(),
            doc! { "$project": { "ssn": 1, "name": 1 } },
        ]),
        aggregate(vec![
            matched.clone(),
            doc! { "$addFields": { "twice": { "$add": ["$n", "$n"] } } },
        ]),
        aggregate(vec![
            matched.clone(),
            doc! { "$unset": ["ssn", "payment.card"] },
        ]),
        aggregate(vec![
            doc! { "$unwind": "$tags" },
            doc! { "$match": { "tags": "sealed-b" } },
        ]),
        aggregate(vec![
            matched.clone(),
            by_id.clone(),
            doc! { "$group": { "_id": "$n", "all": { "$push": "$name" } } },
        ]),
        aggregate(vec![
            matched.clone(),
            doc! { "$group": { "_id": null, "n": { "$sum": 1 } } },
        ]),
        aggregate(vec![matched.clone(), doc! { "$count": "n" }]),
        aggregate(vec![
            by_id.clone(),
            doc! { "$skip": 1 },
            doc! { "$limit": 2 },
        ]),
        aggregate(vec![
            doc! { "$facet": { "one": [matched.clone(), by_id], "two": [{ "$count": "n" }] } },
        ]),
        aggregate(vec![
            matched,
            doc! { "$lookup": { "from": "open", "localField": "n", "foreignField": "n", "as": "joined" } },
        ]),
    ]
}

fn writes() -> Vec<Operation> {
    let statement = |statement: Document| {
        Operation::write(
            "table",
            doc! { "update": COLLECTION, "updates": [statement] },
        )
    };
    let one = |filter: Document, update: Document| statement(doc! { "q": filter, "u": update });
    let modify = |options: Document| {
        let mut command = doc! { "findAndModify": COLLECTION };
        command.extend(options);
        Operation::write("table", command)
    };
    let upsert = |filter: Document, update: Document| Operation {
        loose: true,
        ..statement(doc! { "q": filter, "u": update, "upsert": true })
    };
    let ssn = || doc! { "ssn": "sealed-1" };
    let all = || doc! {};
    let two = || doc! { "_id": 2 };
    vec![
        one(
            ssn(),
            doc! { "name": "Zed", "ssn": "sealed-7", "tags": ["sealed-q"], "address": [1, 2] },
        ),
        one(
            ssn(),
            doc! { "$set": { "ssn": "sealed-7", "payment.card": "sealed-c7", "n": 4 } },
        ),
        one(
            ssn(),
            doc! { "$set": { "payment": { "card": "sealed-c8", "kind": "x" }, "visits": [{ "note": "sealed-v" }] } },
        ),
        one(
            ssn(),
            doc! { "$set": { "age": 3.5, "address": { "deep": ["sealed-d"] } }, "$inc": { "n": 1 } },
        ),
        one(ssn(), doc! { "$unset": { "ssn": "", "payment.card": "" } }),
        one(ssn(), doc! { "$set": { "ssn": null } }),
        one(ssn(), doc! { "$push": { "tags": "sealed-p" } }),
        one(
            ssn(),
            doc! { "$push": { "tags": { "$each": ["sealed-p", "sealed-q"], "$slice": -3, "$position": 0 } } },
        ),
        one(
            ssn(),
            doc! { "$push": { "visits": { "at": 9, "note": "sealed-n9" } } },
        ),
        one(ssn(), doc! { "$pull": { "tags": "sealed-a" } }),
        one(
            ssn(),
            doc! { "$pull": { "tags": { "$in": ["sealed-a", "sealed-b"] } } },
        ),
        one(ssn(), doc! { "$pull": { "visits": { "at": 1 } } }),
        one(ssn(), doc! { "$pull": { "tags": { "$ne": "sealed-a" } } }),
        one(
            ssn(),
            doc! { "$pull": { "tags": { "$nin": ["sealed-a", null] } } },
        ),
        one(all(), doc! { "$pull": { "tags": null } }),
        one(
            two(),
            doc! { "$pull": { "tags": { "$in": ["sealed-b", null] } } },
        ),
        one(
            two(),
            doc! { "$pull": { "tags": { "$ne": "sealed-a" } }, "$set": { "n": 9, "b": 1 } },
        ),
        one(two(), doc! { "$pull": { "tags": { "$ne": null } } }),
        one(two(), doc! { "$pull": { "tags": { "$type": "string" } } }),
        one(two(), doc! { "$pull": { "tags": { "$exists": true } } }),
        one(
            ssn(),
            doc! { "$pullAll": { "tags": ["sealed-a", "sealed-z"] } },
        ),
        one(two(), doc! { "$pullAll": { "tags": ["sealed-b", null] } }),
        one(two(), doc! { "$pullAll": { "tags": [null] } }),
        one(
            ssn(),
            doc! { "$pullAll": { "tags": ["sealed-a"], "list": [1] }, "$pull": { "visits": { "at": 1 } } },
        ),
        one(
            ssn(),
            doc! { "$pullAll": { "tags": ["sealed-a"] }, "$set": { "tags": "sealed-x" } },
        ),
        one(
            ssn(),
            doc! { "$pullAll": { "tags": ["sealed-a"] }, "$pull": { "tags": "sealed-x" } },
        ),
        one(
            two(),
            doc! { "$pull": { "tags": { "$ne": "sealed-a" } }, "$push": { "tags": "sealed-x" } },
        ),
        one(two(), doc! { "$pullAll": { "visits": [{ "at": 2 }] } }),
        one(two(), doc! { "$pull": { "ssn": { "$ne": "sealed-a" } } }),
        one(
            doc! { "_id": 5 },
            doc! { "$pull": { "tags": { "$ne": "sealed-a" } }, "$set": { "b": 1 } },
        ),
        one(ssn(), doc! { "$addToSet": { "tags": "sealed-a" } }),
        one(ssn(), doc! { "$addToSet": { "tags": "sealed-c" } }),
        one(ssn(), doc! { "$addToSet": { "tags": null } }),
        one(
            two(),
            doc! { "$addToSet": { "tags": { "$each": [null, "sealed-c", "sealed-b", "sealed-c", "sealed-d"] } } },
        ),
        one(ssn(), doc! { "$addToSet": { "tags": { "$each": [] } } }),
        one(
            ssn(),
            doc! { "$addToSet": { "tags": "sealed-c" }, "$set": { "zz": 1, "aa": { "$x": 2 }, "ssn": "sealed-4" }, "$unset": { "name": "" } },
        ),
        one(
            ssn(),
            doc! { "$addToSet": { "tags": "sealed-c" }, "$set": { "tags": ["sealed-d"] } },
        ),
        one(
            ssn(),
            doc! { "$addToSet": { "tags": "sealed-c" }, "$push": { "tags": "sealed-d" } },
        ),
        one(ssn(), doc! { "$addToSet": { "ssn": "sealed-c" } }),
        one(
            doc! { "_id": 3 },
            doc! { "$addToSet": { "ssn": "sealed-c" } },
        ),
        one(
            doc! { "_id": 5 },
            doc! { "$addToSet": { "tags": { "$each": ["sealed-c", "sealed-c"] } }, "$set": { "aa": 1 } },
        ),
        one(
            two(),
            doc! { "$addToSet": { "visits": { "$each": [{ "at": 2 }, { "at": 3 }] } } },
        ),
        statement(doc! { "q": {}, "u": { "$addToSet": { "age": 36 } }, "multi": true }),
        statement(
            doc! { "q": { "tags": { "$type": "array" } }, "u": { "$addToSet": { "tags": "sealed-b" } }, "multi": true },
        ),
        statement(
            doc! { "q": { "_id": 9, "name": "new", "n": { "$gt": 1 } }, "u": { "$addToSet": { "tags": "sealed-b" }, "$set": { "b": 1 } }, "upsert": true },
        ),
        statement(
            doc! { "q": { "name": "new", "sub.x": 1 }, "u": { "$addToSet": { "tags": { "$each": ["sealed-b", null] } } }, "upsert": true },
        ),
        modify(
            doc! { "query": ssn(), "update": { "$addToSet": { "tags": "sealed-c" } }, "new": true },
        ),
        one(ssn(), doc! { "$pop": { "tags": -1 } }),
        one(
            doc! { "visits.at": 2, "_id": 1 },
            doc! { "$set": { "visits.$.note": "sealed-new" } },
        ),
        one(
            doc! { "tags": "sealed-b", "_id": 1 },
            doc! { "$set": { "tags.$": "sealed-new" } },
        ),
        one(ssn(), doc! { "$set": { "visits.$[].note": "sealed-new" } }),
        one(ssn(), doc! { "$set": { "tags.$[]": "sealed-new" } }),
        statement(doc! {
            "q": ssn(), "u": { "$set": { "visits.$[x].note": "sealed-new" } }, "arrayFilters": [{ "x.at": 2 }],
        }),
        statement(doc! {
            "q": ssn(), "u": { "$set": { "tags.$[x]": "sealed-new" } }, "arrayFilters": [{ "x": "sealed-b" }],
        }),
        statement(
            doc! { "q": { "age": 36 }, "u": { "$set": { "address": "sealed-all" } }, "multi": true },
        ),
        statement(doc! { "q": ssn(), "u": [{ "$set": { "n": { "$add": ["$n", 1] } } }] }),
        upsert(
            doc! { "_id": 9, "ssn": "sealed-9" },
            doc! { "$set": { "name": "new" } },
        ),
        upsert(
            doc! { "_id": 9, "ssn": "sealed-9", "payment.card": { "$in": ["sealed-c9"] } },
            doc! { "$setOnInsert": { "age": 1 } },
        ),
        upsert(
            doc! { "_id": 9, "$and": [{ "age": 77 }] },
            doc! { "$set": { "ssn": "sealed-9" } },
        ),
        upsert(
            doc! { "_id": 9, "ssn": "sealed-9" },
            doc! { "ssn": "sealed-10", "n": 1 },
        ),
        upsert(
            doc! { "ssn": "sealed-1" },
            doc! { "$set": { "name": "found" } },
        ),
        modify(doc! { "query": ssn(), "update": { "$set": { "ssn": "sealed-7" } }, "new": true }),
        modify(
            doc! { "query": ssn(), "update": { "$set": { "ssn": "sealed-7" } }, "fields": { "ssn": 1 } },
        ),
        modify(doc! { "query": { "age": 36 }, "remove": true, "sort": { "name": -1 } }),
        Operation {
            loose: true,
            ..modify(
                doc! { "query": { "_id": 9, "ssn": "sealed-9" }, "update": { "$inc": { "n": 1 } }, "upsert": true, "new": true },
            )
        },
        Operation::write(
            "table",
            doc! { "insert": COLLECTION, "ordered": false, "documents": [
                { "_id": 1, "ssn": "sealed-again" }, { "_id": 6, "ssn": "sealed-6", "tags": ["sealed-t"] },
            ] },
        ),
    ]
}

async fn world() -> (crate::support::Proxy, World) {
    let (proxy, mut lanes) = sides(1).await;
    let [sealed, plain, stored] = lanes.remove(0);
    (
        proxy,
        World::new(COLLECTION.to_owned(), sealed, plain, stored),
    )
}

/// Fails with all that is refused or answered otherwise.
async fn all_accepted(world: &mut World, operations: Vec<Operation>) {
    let mut wrong = Vec::new();
    world.fill(&documents()).await;
    for operation in operations {
        if let Err(text) = world.accept(&operation).await {
            wrong.push(format!("{}\n{text}", operation.command));
        }
        if operation.writes {
            world.fill(&documents()).await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn filters_by_equality_find_count_and_delete_what_they_do_on_plaintext() {
    let (_proxy, mut world) = world().await;
    let mut operations = Vec::new();
    for filter in filters() {
        let stage = doc! { "$match": filter.clone() };
        operations.extend([
            Operation::read(
                "table",
                doc! { "find": COLLECTION, "filter": filter.clone() },
            ),
            Operation::read(
                "table",
                doc! { "count": COLLECTION, "query": filter.clone() },
            ),
            Operation::read(
                "table",
                doc! { "aggregate": COLLECTION, "pipeline": [stage], "cursor": {} },
            ),
            Operation::write(
                "table",
                doc! { "delete": COLLECTION, "deletes": [{ "q": filter, "limit": 0 }] },
            ),
        ]);
    }
    all_accepted(&mut world, operations).await;
}

#[tokio::test]
async fn sorts_projections_and_pipelines_answer_as_on_plaintext() {
    let (_proxy, mut world) = world().await;
    let operations = reads()
        .into_iter()
        .map(|command| Operation::read("table", command))
        .collect();
    all_accepted(&mut world, operations).await;
}

#[tokio::test]
async fn updates_upserts_and_insertions_do_what_they_do_on_plaintext() {
    let (_proxy, mut world) = world().await;
    all_accepted(&mut world, writes()).await;
}

#[tokio::test]
async fn a_value_of_every_type_comes_back_as_it_was() {
    let (_proxy, mut world) = world().await;
    world.fill(&documents()).await;
    let code = JavaScriptCodeWithScope {
        code: "sealed-code".to_owned(),
        scope: doc! { "sealed-x": 1 },
    };
    let values: Vec<Bson> = vec![
        Bson::Double(f64::NAN),
        Bson::Boolean(false),
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Undefined,
        Bson::Symbol("sealed-symbol".to_owned()),
        Bson::JavaScriptCode("sealed-code".to_owned()),
        Bson::JavaScriptCodeWithScope(code),
        doc! { "$ref": "sealed-r", "$id": 1 }.into(),
        doc! { "sealed.x": [null, { "": [] }] }.into(),
        Vec::<Bson>::new().into(),
        doc! {}.into(),
    ];
    for (id, value) in (20..).zip(values) {
        let insert = doc! { "insert": COLLECTION, "documents": [{ "_id": id, "address": value }] };
        let operation = Operation::write("table", insert);
        world.accept(&operation).await.unwrap_or_else(|text| {
            panic!("{}\n{text}", operation.command);
        });
    }
}

#[tokio::test]
async fn a_duplicate_in_a_unique_index_on_sealed_fields_is_an_error_as_on_plaintext() {
    let (_proxy, mut world) = world().await;
    world.fill(&documents()).await;
    let indexes = [
        doc! { "key": { "ssn": 1 }, "name": "ssn", "unique": true, "partialFilterExpression": { "ssn": { "$exists": true } } },
        doc! { "key": { "age": 1, "name": 1 }, "name": "age and name", "unique": true },
    ];
    let insert = |document: Document| doc! { "insert": COLLECTION, "documents": [document] };
    let update = doc! { "q": { "_id": 1 }, "u": { "$set": { "ssn": "sealed-2" } } };
    for command in [
        doc! { "createIndexes": COLLECTION, "indexes": indexes.to_vec() },
        insert(doc! { "_id": 10, "ssn": "sealed-1" }),
        insert(doc! { "_id": 10, "ssn": null }),
        insert(doc! { "_id": 10, "age": decimal("36"), "name": "Ada" }),
        insert(doc! { "_id": 10, "age": 36, "name": "Abe" }),
        doc! { "update": COLLECTION, "updates": [update] },
        doc! { "dropIndexes": COLLECTION, "index": "ssn" },
        insert(doc! { "_id": 11, "ssn": "sealed-1" }),
    ] {
        let operation = Operation::write("table", command);
        world.accept(&operation).await.unwrap_or_else(|text| {
            panic!("{}\n{text}", operation.command);
        });
    }
}
