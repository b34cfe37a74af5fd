//! What the proxy accepts: every road by which a value gets into MongoDB.

use mongodb::bson::{Document, doc};

use super::canaries::Canaries;

/// A document with a canary in every sealed field.
pub(super) fn person(canaries: &Canaries, id: i32, road: &str) -> Document {
    let text = |field: &str| canaries.text(&format!("{road} {field}"));
    doc! {
        "_id": id,
        "name": format!("person {id}"),
        "ssn": text("ssn"),
        "payment": { "card": text("card"), "kind": "visa" },
        "tags": [text("tag"), "common"],
        "address": {
            "street": text("street"),
            "geo": [canaries.double, { "zip": canaries.long }],
            text("key"): canaries.binary(),
        },
        "visits": [{ "note": text("note"), "code": text("code"), "at": 1 }],
        "photo": canaries.binary(),
        "number": canaries.long,
        "amount": canaries.double,
        "born": canaries.date(),
    }
}

/// The documents with the ids 1 to 20 that the other requests work on.
pub(super) fn inserts(canaries: &Canaries) -> Vec<Document> {
    let people: Vec<Document> = (1..=20)
        .map(|id| person(canaries, id, &format!("insert {id}")))
        .collect();
    vec![
        doc! { "insert": "people", "documents": people },
        doc! { "insert": "people", "documents": [
            { "_id": 30, "ssn": null, "address": canaries.text("insert address") },
            { "_id": 31, "ssn": canaries.text("insert unordered") },
        ], "ordered": false },
        doc! { "insert": "people", "documents": [
            { "_id": 32, "ssn": canaries.text("insert twin") },
        ] },
    ]
}

pub(super) fn indexes(canaries: &Canaries) -> Vec<Document> {
    let card = canaries.text("insert 4 card");
    vec![
        doc! { "createIndexes": "people", "indexes": [
            { "key": { "ssn": 1 }, "name": "ssn_1", "partialFilterExpression": { "_id": { "$gte": 100 } }, "unique": true },
            { "key": { "tags": 1, "name": 1 }, "name": "tags" },
            { "key": { "visits.code": 1 }, "name": "codes" },
            { "key": { "born": 1 }, "name": "born" },
            { "key": { "name": 1 }, "name": "one card", "partialFilterExpression": { "payment.card": card } },
        ] },
        doc! { "listIndexes": "people" },
    ]
}

/// Every form of a filter on sealed fields.
pub(super) fn filters(canaries: &Canaries) -> Vec<Document> {
    let text = |form: &str| canaries.text(&format!("filter {form}"));
    vec![
        doc! { "ssn": text("equal") },
        doc! { "ssn": { "$eq": text("$eq") } },
        doc! { "ssn": { "$ne": text("$ne") }, "_id": 1 },
        doc! { "ssn": { "$in": [text("$in"), "other"] } },
        doc! { "ssn": { "$in": [text("$in null"), null] } },
        doc! { "ssn": { "$nin": [text("$nin")] }, "_id": 1 },
        doc! { "ssn": { "$nin": [text("$nin null"), null] }, "_id": 1 },
        doc! { "ssn": { "$not": { "$eq": text("$not") } }, "_id": 1 },
        doc! { "ssn": { "$not": { "$in": [text("$not $in")] }, "$exists": true }, "_id": 1 },
        doc! { "$and": [{ "ssn": text("$and") }, { "_id": { "$gt": 0 } }] },
        doc! { "$or": [{ "ssn": text("$or") }, { "payment.card": text("$or card") }] },
        doc! { "$nor": [{ "ssn": text("$nor") }], "_id": 1 },
        doc! { "$and": [{ "$or": [{ "$nor": [{ "ssn": text("nested") }] }] }], "_id": 1 },
        doc! { "tags": text("element") },
        doc! { "tags": { "$all": [text("$all"), "common"] } },
        doc! { "tags": { "$elemMatch": { "$eq": text("$elemMatch $eq") } } },
        doc! { "tags": { "$elemMatch": { "$in": [text("$elemMatch $in")] } } },
        doc! { "tags": { "$elemMatch": { "$ne": text("$elemMatch $ne") } }, "_id": 1 },
        doc! { "tags": { "$elemMatch": { "$in": [text("$elemMatch null"), null] } } },
        doc! { "tags": { "$all": [{ "$elemMatch": { "$eq": text("$all $elemMatch") } }] } },
        doc! { "tags": { "$all": [text("$all null"), null] } },
        doc! { "ssn": { "$type": "string", "$eq": text("$type") } },
        doc! { "tags.0": { "$in": [text("position null"), null] } },
        doc! { "tags.0": text("position") },
        doc! { "visits.code": text("in array") },
        doc! { "visits": { "$elemMatch": { "code": text("$elemMatch"), "at": 1 } } },
        doc! { "photo": canaries.binary() },
        doc! { "number": canaries.long },
        doc! { "number": { "$in": [canaries.long, 7_i64] } },
        doc! { "amount": { "$ne": canaries.double }, "_id": 1 },
        doc! { "born": canaries.date() },
    ]
}

pub(super) fn reads(canaries: &Canaries) -> Vec<Document> {
    let mut reads: Vec<Document> = filters(canaries)
        .into_iter()
        .map(|filter| doc! { "find": "people", "filter": filter })
        .collect();
    let text = |command: &str| canaries.text(command);
    let by_ssn = |command: &str| doc! { "ssn": text(command) };
    reads.extend([
        doc! { "find": "people", "filter": by_ssn("find"), "sort": { "name": 1 }, "limit": 2,
        "projection": { "ssn": 1, "tags": 1 }, "hint": { "ssn": 1 }, "comment": "open" },
        doc! { "planCacheClear": "people", "query": by_ssn("planCacheClear") },
        doc! { "planCacheSetFilter": "people", "query": by_ssn("planCacheSetFilter"), "indexes": [{ "ssn": 1 }] },
        doc! { "planCacheClearFilters": "people" },
        doc! { "count": "people", "query": by_ssn("count") },
        doc! { "distinct": "people", "key": "name", "query": by_ssn("distinct") },
        doc! { "aggregate": "people", "cursor": {}, "pipeline": [
            { "$match": by_ssn("$match") }, { "$sort": { "name": 1 } }, { "$group": { "_id": "$name", "n": { "$sum": 1 } } },
        ] },
        doc! { "aggregate": "people", "cursor": {}, "pipeline": [
            { "$facet": { "few": [{ "$match": by_ssn("$facet") }, { "$count": "n" }] } },
        ] },
        doc! { "explain": { "find": "people", "filter": by_ssn("explain find") }, "verbosity": "executionStats" },
        doc! { "explain": { "count": "people", "query": by_ssn("explain count") } },
        doc! { "explain": { "distinct": "people", "key": "name", "query": by_ssn("explain distinct") } },
        doc! { "explain": { "aggregate": "people", "cursor": {}, "pipeline": [{ "$match": by_ssn("explain aggregate") }] } },
        doc! { "explain": { "delete": "people", "deletes": [{ "q": by_ssn("explain delete"), "limit": 0 }] } },
        doc! { "explain": { "update": "people", "updates": [
            { "q": by_ssn("explain update"), "u": { "$set": { "ssn": text("explain $set") } } },
        ] } },
        doc! { "explain": { "findAndModify": "people", "query": by_ssn("explain findAndModify"),
        "update": { "$set": { "address": text("explain findAndModify $set") } } } },
    ]);
    reads
}

/// Stages and expressions that compare sealed fields, or put constants beside them.
pub(super) fn pipelines(canaries: &Canaries) -> Vec<Document> {
    let text = |what: &str| canaries.text(&format!("stage {what}"));
    let stages = vec![
        doc! { "$match": { "$expr": { "$eq": ["$ssn", text("$expr")] } } },
        doc! { "$match": { "$expr": { "$in": ["$ssn", [text("$in"), null]] } } },
        doc! { "$match": { "$expr": { "$in": [text("$in tags"), { "$ifNull": ["$tags", [text("$ifNull")]] }] } } },
        doc! { "$match": { "$expr": { "$setIsSubset": [[text("$setIsSubset")], { "$ifNull": ["$tags", []] }] } } },
        doc! { "$match": { "$expr": { "$gt": [{ "$size": { "$setIntersection": [{ "$ifNull": ["$tags", []] }, [text("$setIntersection")]] } }, 0] } } },
        doc! { "$match": { "$expr": { "$eq": ["$number", canaries.long] } } },
        doc! { "$project": { "ssn": text("$project") } },
        doc! { "$project": { "x": { "$cond": [{ "$eq": ["$ssn", text("$cond")] }, "$ssn", text("mask")] } } },
        doc! { "$project": { "x": { "$switch": { "branches": [
            { "case": { "$ne": ["$ssn", text("$switch")] }, "then": { "$literal": text("$switch then") } },
        ], "default": "$ssn" } } } },
        doc! { "$project": { "x": { "$filter": { "input": { "$ifNull": ["$tags", []] }, "cond": { "$ne": ["$$this", text("$filter")] } } } } },
        doc! { "$project": { "x": { "$concatArrays": [{ "$ifNull": ["$tags", []] }, [text("$concatArrays")]] } } },
        doc! { "$addFields": { "ssn": { "$literal": text("$addFields") } } },
        doc! { "$set": { "payment": { "card": text("$set") } } },
        doc! { "$group": { "_id": { "$cond": [{ "$eq": ["$ssn", text("$group")] }, 1, 0] } } },
        doc! { "$group": { "_id": { "$ifNull": ["$ssn", text("$group default")] }, "all": { "$addToSet": { "$ifNull": ["$ssn", text("$addToSet")] } } } },
        doc! { "$sortByCount": { "$ifNull": ["$ssn", text("$sortByCount")] } },
        doc! { "$replaceRoot": { "newRoot": { "a": { "$ifNull": ["$ssn", text("$replaceRoot")] } } } },
        doc! { "$redact": { "$cond": [{ "$eq": ["$ssn", text("$redact")] }, "$$KEEP", "$$PRUNE"] } },
        doc! { "$fill": { "output": { "ssn": { "value": text("$fill") } } } },
        doc! { "$lookup": { "from": "people", "as": "others", "pipeline": [{ "$match": { "ssn": text("$lookup") } }] } },
        doc! { "$unionWith": { "coll": "people", "pipeline": [{ "$match": { "ssn": text("$unionWith") } }] } },
    ];
    let aggregate =
        |stages: Vec<Document>| doc! { "aggregate": "people", "cursor": {}, "pipeline": stages };
    let mut commands: Vec<Document> = stages
        .into_iter()
        .map(|stage| aggregate(vec![stage]))
        .collect();
    let moved = [
        doc! { "$project": { "x": "$ssn" } },
        doc! { "$group": { "_id": null, "all": { "$push": "$$ROOT" } } },
        doc! { "$facet": { "few": [{ "$project": { "x": "$ssn" } }] } },
    ];
    let paths = ["x", "all.ssn", "few.x"];
    for (stage, path) in moved.into_iter().zip(paths) {
        commands.push(aggregate(vec![
            stage,
            doc! { "$match": { path: text(&format!("moved to {path}")) } },
        ]));
    }
    let variable = |what: &str| doc! { "v": text(what) };
    let by_variable = doc! { "$expr": { "$eq": ["$ssn", "$$v"] } };
    let update = |update: Vec<Document>| doc! { "update": "people", "updates": [{ "q": { "_id": 16 }, "u": update }] };
    commands.extend([
        doc! { "find": "people", "filter": by_variable.clone(), "let": variable("let find"),
        "projection": { "x": { "$ne": ["$ssn", text("projection")] } } },
        doc! { "aggregate": "people", "cursor": {}, "let": variable("let aggregate"), "pipeline": [{ "$match": by_variable }] },
        doc! { "distinct": "people", "key": "ssn", "query": { "ssn": text("distinct") } },
        update(vec![doc! { "$set": { "ssn": text("update $set"), "payment": { "card": text("update below") } } }]),
        update(vec![doc! { "$set": { "ssn": { "$cond": [{ "$eq": ["$ssn", text("update $eq")] }, text("update $cond"), "$ssn"] } } }]),
        update(vec![doc! { "$set": { "address": { "$literal": { "street": text("update $literal") } } } }]),
        update(vec![doc! { "$replaceWith": { "$mergeObjects": ["$$ROOT", { "ssn": text("update $replaceWith") }] } }]),
        doc! { "update": "people", "let": variable("let update"), "updates": [{ "q": { "_id": 16 }, "u": [{ "$set": { "ssn": "$$v" } }] }] },
        doc! { "update": "people", "updates": [{ "q": { "ssn": text("upsert") }, "u": [{ "$set": { "name": "x" } }], "upsert": true }] },
        doc! { "findAndModify": "people", "query": { "_id": 16 }, "update": [{ "$set": { "tags": [text("findAndModify")] } }] },
    ]);
    commands
}

/// Stages that read or write other collections, views, and streams of changes.
pub(super) fn elsewhere(canaries: &Canaries) -> Vec<Document> {
    let text = |what: &str| canaries.text(&format!("elsewhere {what}"));
    let aggregate = |collection: &str, stages: Vec<Document>| doc! { "aggregate": collection, "cursor": {}, "pipeline": stages };
    let on_people = |stages: Vec<Document>| aggregate("people", stages);
    let with_let = doc! { "from": "people", "as": "others", "let": { "v": "$ssn" }, "pipeline": [
        { "$match": { "$expr": { "$and": [{ "$eq": ["$ssn", "$$v"] }, { "$ne": ["$ssn", text("$lookup let")] }] } } },
        { "$project": { "_id": 1 } },
    ] };
    let graph = doc! { "from": "people", "startWith": text("startWith"), "connectFromField": "ssn", "connectToField": "ssn", "as": "others",
    "restrictSearchWithMatch": { "ssn": { "$ne": null }, "payment.card": { "$ne": text("restrictSearchWithMatch") } } };
    vec![
        on_people(vec![
            doc! { "$match": { "_id": 1 } },
            doc! { "$lookup": with_let },
        ]),
        on_people(vec![
            doc! { "$match": { "_id": 1 } },
            doc! { "$graphLookup": graph },
        ]),
        aggregate(
            "others",
            vec![
                doc! { "$unionWith": { "coll": "people", "pipeline": [{ "$match": { "ssn": text("$unionWith") } }] } },
            ],
        ),
        aggregate(
            "others",
            vec![
                doc! { "$lookup": { "from": "people", "as": "people", "pipeline": [{ "$match": { "ssn": text("open $lookup") } }] } },
            ],
        ),
        on_people(vec![
            doc! { "$match": { "ssn": text("$out") } },
            doc! { "$project": { "name": 1 } },
            doc! { "$out": "names" },
        ]),
        on_people(vec![
            doc! { "$match": { "_id": 17 } },
            doc! { "$project": { "ssn": text("$merge") } },
            doc! { "$merge": "people" },
        ]),
        on_people(vec![
            doc! { "$match": { "_id": 17 } },
            doc! { "$project": { "name": 1 } },
            doc! { "$merge": {
                "into": "people", "whenMatched": [{ "$set": { "ssn": text("whenMatched") } }],
            } },
        ]),
        doc! { "create": "view", "viewOn": "people", "pipeline": [{ "$project": { "who": "$ssn", "tags": 1 } }] },
        doc! { "find": "view", "filter": { "who": text("view"), "tags": text("view tag") } },
        doc! { "count": "view", "query": { "who": { "$ne": text("view count") } } },
        aggregate(
            "view",
            vec![doc! { "$match": { "$expr": { "$eq": ["$who", text("view $expr")] } } }],
        ),
        doc! { "create": "upon", "viewOn": "view", "pipeline": [{ "$project": { "again": "$who" } }] },
        doc! { "find": "upon", "filter": { "again": { "$in": [text("view of a view"), null] } } },
        aggregate(
            "others",
            vec![
                doc! { "$unionWith": { "coll": "upon", "pipeline": [{ "$match": { "again": text("$unionWith view") } }] } },
            ],
        ),
        doc! { "drop": "upon" },
        doc! { "drop": "view" },
        doc! { "find": "people", "filter": { "ssn": text("$jsonSchema"), "$jsonSchema": { "required": ["ssn"], "properties": { "ssn": { "bsonType": "string" } } } } },
        doc! { "update": "people", "updates": [{ "q": { "ssn": text("$currentDate") }, "u": { "$currentDate": { "born": true } } }] },
        on_people(vec![
            doc! { "$changeStream": { "fullDocument": "updateLookup" } },
            doc! { "$match": { "$or": [{ "fullDocument.ssn": text("change stream") }, { "fullDocument.tags": text("change stream tag") }] } },
        ]),
    ]
}

/// What the proxy seals and MongoDB 6.0 does not know.
pub(super) fn not_known(canaries: &Canaries, database: &str) -> Document {
    let text = |what: &str| canaries.text(&format!("bulkWrite {what}"));
    doc! { "bulkWrite": 1, "nsInfo": [{ "ns": format!("{database}.people") }], "ops": [
        { "insert": 0, "document": person(canaries, 500, "bulkWrite") },
        { "update": 0, "filter": { "ssn": text("filter") }, "updateMods": { "$set": { "address": text("$set") } }, "upsert": true },
        { "update": 0, "filter": { "_id": 1 }, "updateMods": [{ "$set": { "ssn": text("pipeline") } }] },
        { "delete": 0, "filter": { "tags": text("delete") } },
    ] }
}

/// Updates with every operator that sealed fields take.
pub(super) fn updates(canaries: &Canaries) -> Vec<Document> {
    let text = |operator: &str| canaries.text(&format!("update {operator}"));
    let visit = |operator: &str| doc! { "note": text(&format!("{operator} note")), "code": text(&format!("{operator} code")) };
    let statements = vec![
        doc! { "q": { "_id": 1 }, "u": { "$set": { "ssn": text("$set"), "payment.card": text("$set card") } } },
        doc! { "q": { "_id": 1 }, "u": { "$set": { "payment": { "card": text("$set below"), "kind": "amex" } } } },
        doc! { "q": { "_id": 1 }, "u": { "$set": { "address": { "street": text("$set address") }, "number": canaries.long } } },
        doc! { "q": { "_id": 1 }, "u": { "$set": { "tags": [text("$set tags")], "visits": [visit("$set")] } } },
        doc! { "q": { "_id": 2 }, "u": { "$set": { "photo": canaries.binary(), "amount": canaries.double, "born": canaries.date() } } },
        doc! { "q": { "ssn": canaries.text("insert 3 ssn") }, "u": { "$unset": { "ssn": "", "payment.card": "" } } },
        doc! { "q": { "_id": 4 }, "u": { "$push": { "tags": text("$push") } } },
        doc! { "q": { "_id": 4 }, "u": { "$push": { "tags": { "$each": [text("$each")], "$position": 0, "$slice": 9 } } } },
        doc! { "q": { "_id": 4 }, "u": { "$push": { "visits": visit("$push") } } },
        doc! { "q": { "_id": 4 }, "u": { "$push": { "visits": { "$each": [visit("$each")], "$sort": { "at": 1 } } } } },
        doc! { "q": { "_id": 5 }, "u": { "$pull": { "tags": text("$pull") } } },
        doc! { "q": { "_id": 5 }, "u": { "$pull": { "tags": { "$in": [text("$pull $in")] } } } },
        doc! { "q": { "_id": 5 }, "u": { "$pull": { "visits": { "code": text("$pull below") } } } },
        doc! { "q": { "_id": 5 }, "u": { "$pull": { "tags": { "$ne": text("$pull $ne") } } } },
        doc! { "q": { "_id": 5 }, "u": { "$pullAll": { "tags": [text("$pullAll")] } } },
        doc! { "q": { "_id": 5 }, "u": { "$pullAll": { "tags": [text("$pullAll null"), null] } } },
        doc! { "q": { "_id": 5 }, "u": { "$addToSet": { "tags": { "$each": [text("$addToSet"), null] } },
        "$set": { "ssn": text("beside $addToSet"), "payment": { "card": text("below, beside $addToSet") } } } },
        doc! { "q": { "_id": 5 }, "u": { "$pop": { "tags": 1 } } },
        doc! { "q": { "_id": 6 }, "u": { "$set": { "tags.$[]": text("position"), "visits.0.note": text("position below") } } },
        doc! { "q": { "_id": 7, "visits.code": canaries.text("insert 7 code") }, "u": { "$set": { "visits.$.note": text("$") } } },
        doc! { "q": { "_id": 8 }, "u": { "$set": { "visits.$[].note": text("$[]") } } },
        doc! { "q": { "_id": 9 }, "u": { "$set": { "visits.$[v].note": text("$[v]") } },
        "arrayFilters": [{ "v.code": canaries.text("insert 9 code") }] },
        doc! { "q": { "_id": 9 }, "u": { "$set": { "tags.$[t]": text("$[t]") } },
        "arrayFilters": [{ "t": canaries.text("insert 9 tag") }] },
        doc! { "q": { "ssn": canaries.text("insert 10 ssn") }, "u": super::accepted::person(canaries, 10, "replace") },
        doc! { "q": { "ssn": text("upsert filter") }, "u": { "$set": { "address": text("upsert $set") } }, "upsert": true },
        doc! { "q": { "_id": 40 }, "u": { "$setOnInsert": { "ssn": text("$setOnInsert"), "payment.card": text("$setOnInsert card") } }, "upsert": true },
        doc! { "q": { "_id": 41 }, "u": super::accepted::person(canaries, 41, "upsert replace"), "upsert": true },
        doc! { "q": { "ssn": { "$ne": text("many $ne") }, "_id": { "$gt": 15 } }, "u": { "$set": { "payment.card": text("many") } }, "multi": true },
    ];
    let (one_by_one, together) = statements.split_at(16);
    let mut updates: Vec<Document> = one_by_one
        .iter()
        .map(|statement| doc! { "update": "people", "updates": [statement.clone()] })
        .collect();
    updates.push(doc! { "update": "people", "updates": together.to_vec(), "ordered": false });
    updates
}

pub(super) fn changes(canaries: &Canaries) -> Vec<Document> {
    let text = |what: &str| canaries.text(&format!("change {what}"));
    vec![
        doc! { "findAndModify": "people", "query": { "ssn": canaries.text("insert 11 ssn") },
        "update": { "$set": { "ssn": text("$set"), "number": canaries.long } }, "new": true },
        doc! { "findAndModify": "people", "query": { "_id": 12 }, "update": person(canaries, 12, "change replace"),
        "fields": { "ssn": 1 } },
        doc! { "findAndModify": "people", "query": { "_id": 9 }, "update": { "$set": { "visits.$[v].note": text("$[v]") } },
        "arrayFilters": [{ "v.code": { "$in": [text("array filter")] } }] },
        doc! { "findAndModify": "people", "query": { "ssn": text("upsert filter") },
        "update": { "$set": { "name": "new" }, "$setOnInsert": { "address": text("$setOnInsert") } }, "upsert": true },
        doc! { "findAndModify": "people", "query": { "ssn": canaries.text("insert 13 ssn") }, "remove": true },
        doc! { "delete": "people", "deletes": [
            { "q": { "ssn": canaries.text("insert 14 ssn") }, "limit": 1 },
            { "q": { "tags": { "$in": [canaries.text("insert 15 tag")] } }, "limit": 0 },
        ] },
    ]
}
