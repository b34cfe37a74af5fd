//! What the proxy refuses: each of these holds a canary, and none may be told.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, Regex, doc};

use super::canaries::Canaries;

/// Every kind of request that is refused, with the database it is for: none for the workload's own.
pub(super) fn all(canaries: &Canaries, database: &str) -> Vec<(Option<&'static str>, Document)> {
    let mut all = Vec::new();
    for commands in [
        filters(canaries),
        updates(canaries),
        writes(canaries),
        pipelines(canaries),
        options(canaries),
        catalog(canaries),
        others(canaries),
    ] {
        all.extend(commands.into_iter().map(|command| (None, command)));
    }
    let namespace = format!("{database}.people");
    let document = doc! { "_id": 900, "ssn": canaries.text("applyOps") };
    all.push((
        Some("admin"),
        doc! { "applyOps": [{ "op": "i", "ns": &namespace, "o": document }] },
    ));
    all.push((
        Some("admin"),
        doc! { "bulkWrite": 1, "nsInfo": [{ "ns": &namespace }],
        "ops": [{ "delete": 0, "filter": { "ssn": { "$gt": canaries.text("bulkWrite") } } }] },
    ));
    all.push((
        Some("admin"),
        doc! { "dataSize": &namespace, "keyPattern": { "ssn": 1 }, "min": { "ssn": canaries.text("dataSize") }, "max": { "ssn": "~" } },
    ));
    all.push((
        Some("admin"),
        doc! { "aggregate": 1, "cursor": {}, "pipeline": [
            { "$documents": [{ "ssn": canaries.text("$documents") }] },
            { "$merge": { "into": { "db": database, "coll": "people" } } },
        ] },
    ));
    all
}

fn filters(canaries: &Canaries) -> Vec<Document> {
    let text = |what: &str| canaries.text(&format!("no {what}"));
    let pattern = Regex {
        pattern: format!("^{}", text("pattern")).try_into().unwrap(),
        options: "i".try_into().unwrap(),
    };
    let filters = [
        doc! { "ssn": { "$regex": text("$regex") } },
        doc! { "ssn": pattern.clone() },
        doc! { "ssn": { "$in": [pattern.clone()] } },
        doc! { "ssn": { "$not": pattern } },
        doc! { "ssn": { "$gt": text("$gt") } },
        doc! { "ssn": { "$gte": text("$gte"), "$lt": text("$lt") } },
        doc! { "ssn": { "$not": { "$lte": text("$not") } } },
        doc! { "number": { "$gt": canaries.long } },
        doc! { "born": { "$lt": canaries.date() } },
        doc! { "photo": { "$bitsAllSet": canaries.binary() } },
        doc! { "amount": { "$mod": [canaries.double, 1.0] } },
        doc! { "ssn": { "inner": text("document") } },
        doc! { "ssn": [text("array")] },
        doc! { "ssn": { "$eq": [text("$eq array")] } },
        doc! { "ssn": { "$nosuch": text("$nosuch") } },
        doc! { "tags": { "$all": [{ "$elemMatch": { "x": text("$all $elemMatch") } }] } },
        doc! { "ssn": { "$type": text("$type name") } },
        doc! { "tags": { "$elemMatch": { "$gt": text("$elemMatch") } } },
        doc! { "address": text("no equality") },
        doc! { "address.street": text("inside") },
        doc! { format!("address.{}", text("name inside")): { "$exists": true } },
        doc! { "payment": { "card": text("parent") } },
        doc! { "payment": { "$in": [{ "card": text("parent $in") }] } },
        doc! { "visits": { "$elemMatch": { "code": { "$regex": text("below") } } } },
        doc! { "$expr": { "$lt": ["$ssn", text("$expr")] } },
        doc! { "$expr": { "$gt": ["$payment", { "card": text("$expr parent") }] } },
        doc! { "$where": format!("this.ssn == '{}'", text("$where")) },
        doc! { "$jsonSchema": { "properties": { "ssn": { "enum": [text("$jsonSchema")] } } } },
        doc! { "$jsonSchema": { "properties": { "ssn": { text("keyword"): 1 } } } },
        doc! { "$or": [{ "_id": 1 }, { "ssn": { "$type": "string", "$gt": text("$type") } }] },
    ];
    let find = |filter: Document| doc! { "find": "people", "filter": filter };
    let mut commands: Vec<Document> = filters.into_iter().map(find).collect();
    let by = |what: &str| doc! { "ssn": { "$gt": text(what) } };
    commands.extend([
        doc! { "count": "people", "query": by("count") },
        doc! { "distinct": "people", "key": "name", "query": by("distinct") },
        doc! { "delete": "people", "deletes": [{ "q": by("delete"), "limit": 0 }] },
        doc! { "update": "people", "updates": [{ "q": by("update"), "u": { "$set": { "name": "x" } } }] },
        doc! { "findAndModify": "people", "query": by("findAndModify"), "remove": true },
        doc! { "explain": { "find": "people", "filter": by("explain") } },
        doc! { "explain": { "aggregate": "people", "cursor": {}, "pipeline": [{ "$match": by("explain aggregate") }] } },
    ]);
    commands
}

fn updates(canaries: &Canaries) -> Vec<Document> {
    let text = |what: &str| canaries.text(&format!("no update {what}"));
    let updates = [
        doc! { "$inc": { "number": canaries.long } },
        doc! { "$mul": { "amount": canaries.double } },
        doc! { "$min": { "ssn": text("$min") } },
        doc! { "$max": { "ssn": text("$max") } },
        doc! { "$addToSet": { "tags": text("$addToSet") }, "$inc": { "n": 1 } },
        doc! { "$addToSet": { "tags": { "$each": [text("$addToSet $each"), null] }, "visits.0.x": 1 } },
        doc! { "$addToSet": { "visits": { "note": text("$addToSet below") } } },
        doc! { "$pullAll": { "tags": [text("$pullAll"), null] }, "$mul": { "n": 1 } },
        doc! { "$pull": { "tags": { "$not": { "$eq": text("$pull $not") } } } },
        doc! { "$currentDate": { "ssn": { "$type": text("$currentDate") } } },
        doc! { "$pull": { "tags": { "$gt": text("$pull") } } },
        doc! { "$pull": { "visits": { "code": { "$regex": text("$pull below") } } } },
        doc! { "$push": { "tags": { "$each": [text("$push")], "$sort": 1 } } },
        doc! { "$set": { "address.street": text("inside") } },
        doc! { "$set": { format!("address.{}", text("name inside")): 1 } },
        doc! { "$unset": { format!("address.{}", text("name unset")): 1 } },
        doc! { "$set": { "payment": { format!("card.{}", text("dotted name")): 1 } } },
        doc! { "$set": { "ssn.c": text("forged") } },
        doc! { "$set": { "ssn": { "c": text("forged whole"), "e1": "" } } },
        doc! { "$set": { "ssn": 5, "payment.card": text("beside a wrong type") } },
        doc! { "$set": { "payment": { "card": [[text("array in array")]] } } },
        doc! { "$nosuch": { "ssn": text("$nosuch") } },
        doc! { "ssn": [text("ok"), 12] },
    ];
    let update = |update: Document| doc! { "update": "people", "updates": [{ "q": { "_id": 1 }, "u": update }] };
    let mut commands: Vec<Document> = updates.into_iter().map(update).collect();
    let by_pipeline = |stage: Document| doc! { "update": "people", "updates": [{ "q": { "_id": 1 }, "u": [stage] }] };
    commands.extend([
        by_pipeline(doc! { "$set": { "ssn": { "$concat": [text("pipeline"), "$name"] } } }),
        by_pipeline(doc! { "$set": { "address": { "street": text("pipeline merge") } } }),
        by_pipeline(doc! { "$set": { "number": { "$cond": [true, text("pipeline wrong type"), "$number"] } } }),
        by_pipeline(doc! { "$set": { "copy": { "$concat": ["$ssn", text("pipeline expression")] } } }),
        by_pipeline(doc! { "$addFields": { "payment": { "card": { "$ifNull": ["$name", text("pipeline below")] } } } }),
        by_pipeline(doc! { "$replaceWith": { "$mergeObjects": [{ "ssn": text("$replaceWith") }, "$other"] } }),
        doc! { "update": "people", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "visits.$[v].at": 2 } },
        "arrayFilters": [{ "v.code": { "$gt": text("array filter") } }] }] },
        doc! { "update": "people", "updates": [{ "q": { "payment.card": text("upsert") }, "u": [{ "$set": { "name": "x" } }], "upsert": true }] },
        doc! { "update": "people", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "ssn": text("constants") } }, "nosuch": 1 }] },
        doc! { "findAndModify": "people", "query": { "_id": 1 }, "update": [{ "$set": { "ssn": { "$toUpper": text("findAndModify") } } }] },
        doc! { "findAndModify": "people", "query": { "_id": 1 }, "update": { "$min": { "ssn": text("findAndModify $min") } } },
        // The others of the batch are done.
        doc! { "update": "people", "ordered": false, "updates": [
            { "q": { "_id": 1 }, "u": { "$set": { "ssn": text("batch before") } } },
            { "q": { "ssn": { "$gt": text("batch filter") } }, "u": { "$set": { "address": text("batch refused") } } },
            { "q": { "_id": 1, "ssn": text("batch after") }, "u": { "$set": { "name": "x" } } },
        ] },
        doc! { "delete": "people", "ordered": false, "deletes": [
            { "q": { "ssn": text("batch deleted") }, "limit": 0 },
            { "q": { "ssn": { "$regex": text("batch not deleted") } }, "limit": 0 },
        ] },
    ]);
    commands
}

fn writes(canaries: &Canaries) -> Vec<Document> {
    let text = |what: &str| canaries.text(&format!("no insert {what}"));
    let mut forged = vec![0xF5, 0xEA, 0x1D, 1, 0, 0, 0, 1];
    forged.extend_from_slice(text("forged").as_bytes());
    let forged = Binary {
        subtype: BinarySubtype::UserDefined(0x8F),
        bytes: forged,
    };
    let documents = [
        doc! { "ssn": canaries.long },
        doc! { "number": text("wrong type") },
        doc! { "number": canaries.double },
        doc! { "born": canaries.binary() },
        doc! { "photo": canaries.date() },
        doc! { "ssn": [[text("array in array")]] },
        doc! { "ssn": { "$numberLong": text("document") } },
        doc! { "visits": [{ "note": { "text": text("below") } }] },
        doc! { "address": [text("null"), null] },
        doc! { "payment.card": text("dotted") },
        doc! { format!("address.{}", text("dotted name")): 1 },
        doc! { "open": forged },
    ];
    documents
        .into_iter()
        .map(|document| doc! { "insert": "people", "documents": [{ "ssn": text("beside") }, document] })
        .collect()
}

fn pipelines(canaries: &Canaries) -> Vec<Document> {
    let text = |what: &str| canaries.text(&format!("no stage {what}"));
    let stages = [
        doc! { "$match": { "ssn": { "$regex": text("$match") } } },
        doc! { "$match": { "$expr": { "$in": ["$ssn", [text("$expr"), "$name"]] } } },
        doc! { "$project": { "street": format!("$address.{}", text("$project name")) } },
        doc! { "$unwind": format!("$address.{}", text("$unwind name")) },
        doc! { "$project": { "same": { "$cmp": ["$ssn", text("$project expression")] } } },
        doc! { "$addFields": { "x": { "$eq": ["$ssn", { "$toUpper": text("$addFields") }] } } },
        doc! { "$group": { "_id": { "$cond": [{ "$gte": ["$ssn", text("$group")] }, 1, 0] } } },
        doc! { "$group": { "_id": null, "x": { "$max": { "$ifNull": ["$ssn", text("$max")] } } } },
        doc! { "$bucket": { "groupBy": "$ssn", "boundaries": [text("$bucket"), "~"], "default": "other" } },
        doc! { "$sortByCount": { "$concat": ["$ssn", text("$sortByCount")] } },
        doc! { "$replaceRoot": { "newRoot": { "$ifNull": ["$ssn", { "x": text("$replaceRoot") }] } } },
        doc! { "$redact": { "$cond": [{ "$eq": ["$ssn", text("$redact")] }, "$$DESCEND", "$$PRUNE"] } },
        doc! { "$fill": { "output": { "payment": { "value": { "card": text("$fill") } } } } },
        doc! { "$lookup": { "from": "others", "as": "others", "let": { "x": { "$concat": ["$ssn", text("$lookup")] } }, "pipeline": [] } },
        doc! { "$lookup": { "from": "people", "as": "others", "pipeline": [{ "$match": { "ssn": { "$gt": text("$lookup itself") } } }] } },
        doc! { "$unionWith": { "coll": "people", "pipeline": [{ "$match": { "ssn": { "$gt": text("$unionWith") } } }] } },
        doc! { "$facet": { "few": [{ "$match": { "ssn": { "$gt": text("$facet") } } }] } },
        doc! { "$nosuch": { "ssn": text("$nosuch") } },
    ];
    let aggregate = |collection: &str, stage: Document| doc! { "aggregate": collection, "cursor": {}, "pipeline": [stage] };
    let mut commands: Vec<Document> = stages
        .into_iter()
        .map(|stage| aggregate("people", stage))
        .collect();
    commands.extend([
        aggregate("people", doc! { "$match": { "$where": format!("this.ssn == '{}'", text("$where")) } }),
        doc! { "aggregate": "people", "cursor": {}, "pipeline": [
            { "$group": { "_id": "$name", "n": { "$accumulator": {
                "init": format!("function() {{ return '{}' }}", text("$accumulator")),
                "accumulate": "function(a, b) { return a }", "accumulateArgs": ["$ssn"],
                "merge": "function(a, b) { return a }", "lang": "js",
            } } } },
        ] },
        doc! { "aggregate": "people", "cursor": {}, "pipeline": [
            { "$match": { "ssn": text("$match before") } },
            { "$project": { "out": { "$function": { "body": format!("function(x) {{ return x == '{}' }}", text("$function")), "args": ["$ssn"], "lang": "js" } } } },
        ] },
        doc! { "aggregate": "people", "cursor": {}, "let": { "x": text("let") }, "pipeline": [
            { "$match": { "$expr": { "$and": [{ "$eq": ["$ssn", "$$x"] }, { "$eq": ["$name", "$$x"] }] } } },
        ] },
        doc! { "aggregate": "people", "cursor": {}, "pipeline": [{ "$match": { "ssn": text("$out") } }, { "$out": "others" }] },
        doc! { "aggregate": "others", "cursor": {}, "pipeline": [{ "$project": { "ssn": { "$literal": text("$merge") } } }, { "$merge": { "into": "people" } }] },
        aggregate("others", doc! { "$lookup": { "from": "people", "as": "people", "pipeline": [{ "$match": { "ssn": { "$lt": text("other $lookup") } } }] } }),
        aggregate("others", doc! { "$unionWith": { "coll": "people", "pipeline": [{ "$match": { "ssn": { "$lt": text("other $unionWith") } } }] } }),
        aggregate("others", doc! { "$graphLookup": { "from": "people", "startWith": text("$graphLookup"), "connectFromField": "ssn", "connectToField": "ssn", "as": "people" } }),
    ]);
    commands
}

/// Requests that would be right but for one option.
fn options(canaries: &Canaries) -> Vec<Document> {
    let text = |what: &str| canaries.text(&format!("no option {what}"));
    let by = |what: &str| doc! { "ssn": text(what) };
    vec![
        doc! { "find": "people", "filter": by("sort"), "sort": { "ssn": 1 } },
        doc! { "find": "people", "filter": by("collation"), "collation": { "locale": "de" } },
        doc! { "find": "people", "filter": {}, "min": by("min"), "max": { "ssn": "~" }, "hint": { "ssn": 1 } },
        doc! { "find": "people", "filter": by("nosuch"), "nosuch": text("nosuch value") },
        doc! { "find": "people", "filter": {}, "projection": { "ssn": { "$literal": text("projection") } } },
        doc! { "find": "people", "filter": {}, "projection": { "same": { "$lt": ["$ssn", text("projection expression")] } } },
        doc! { "find": "people", "filter": {}, "projection": { "tags": { "$elemMatch": { "$gt": text("projection $elemMatch") } } } },
        doc! { "find": "people", "filter": {}, "sort": { format!("address.{}", text("sort name")): 1 } },
        doc! { "find": "people", "filter": {}, "projection": { format!("address.{}", text("projection name")): 1 } },
        doc! { "distinct": "people", "key": format!("address.{}", text("distinct name")) },
        doc! { "createIndexes": "people", "indexes": [{ "key": { format!("address.{}", text("index name")): 1 }, "name": "x" }] },
        doc! { "distinct": "people", "key": "address", "query": by("distinct key") },
        doc! { "count": "people", "query": by("count nosuch"), "nosuch": 1 },
        doc! { "insert": "people", "documents": [by("insert nosuch")], "nosuch": 1 },
    ]
}

fn catalog(canaries: &Canaries) -> Vec<Document> {
    let text = |what: &str| canaries.text(&format!("no catalog {what}"));
    let schema =
        |what: &str| doc! { "$jsonSchema": { "properties": { "ssn": { "enum": [text(what)] } } } };
    vec![
        doc! { "create": "targets", "validator": { "ssn": text("validator") } },
        doc! { "create": "targets", "validator": schema("validator $jsonSchema") },
        doc! { "collMod": "people", "validator": schema("collMod") },
        doc! { "create": "view", "viewOn": "people", "pipeline": [{ "$match": { "ssn": text("view") } }] },
        doc! { "create": "far", "viewOn": "others", "pipeline": [
            { "$unionWith": { "coll": "people", "pipeline": [{ "$match": { "ssn": text("far view") } }] } },
        ] },
        doc! { "insert": "system.views", "documents": [{ "_id": "leak.x", "viewOn": "people", "pipeline": [{ "$match": { "ssn": text("system.views") } }] }] },
        doc! { "createIndexes": "people", "indexes": [{ "key": { "name": 1 }, "name": "partial", "partialFilterExpression": { "ssn": { "$gt": text("partial") } } }] },
        doc! { "createIndexes": "people", "indexes": [{ "key": { "$**": "text" }, "name": text("wildcard") }] },
        doc! { "planCacheSetFilter": "people", "query": { "ssn": { "$gt": text("planCacheSetFilter") } }, "indexes": ["ssn_1"] },
        doc! { "planCacheClear": "people", "query": { "ssn": { "$gt": text("planCacheClear") } } },
        doc! { "create": "targets", "validator": { "ssn": { "$in": [text("validator $in"), null] } } },
        doc! { "find": "system.buckets.people", "filter": { "control.min.ssn": text("buckets") } },
    ]
}

fn others(canaries: &Canaries) -> Vec<Document> {
    let text = |what: &str| canaries.text(&format!("no command {what}"));
    vec![
        doc! { "mapReduce": "people", "map": format!("function() {{ if (this.ssn == '{}') emit(1, 1) }}", text("mapReduce")),
        "reduce": "function(k, v) { return v[0] }", "out": { "inline": 1 }, "query": { "ssn": text("mapReduce query") } },
        doc! { "mapReduce": "others", "map": format!("function() {{ emit(1, '{}') }}", text("mapReduce out")),
        "reduce": "function(k, v) { return v[0] }", "out": "targets" },
        doc! { "insertt": "people", "documents": [{ "ssn": text("unknown") }] },
        doc! { "godinsert": "people", "obj": { "ssn": text("godinsert") } },
        doc! { "explain": { "insert": "people", "documents": [{ "ssn": 5, "payment": { "card": text("explain insert") } }] } },
        doc! { "explain": { "explain": { "find": "people", "filter": { "ssn": text("explain explain") } } } },
        doc! { "cloneCollectionAsCapped": "people", "toCollection": "capped", "size": 4096, "comment": text("clone") },
    ]
}
