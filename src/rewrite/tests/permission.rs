//! What those are refused who may not read, or not write, what is sealed.

mod writes;

use std::cell::Cell;
use std::sync::Arc;

use super::*;
use crate::policy::fixture;
use crate::rewrite::views::{Answer, Asking};
use crate::schema::{AccessRule, Mask};

const UNAUTHORIZED: i32 = 13;

/// Who may write every sealed field and read none.
static MASKED: LazyLock<Arc<Policy>> = LazyLock::new(|| masked(Mask::Redact));
/// Who may read every sealed field and write none.
static GUARDED: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let rule = AccessRule {
        write: Some(vec!["writer".to_owned()]),
        ..AccessRule::default()
    };
    fixture::held_by(&rule, &["reader"])
});

fn masked(mask: Mask) -> Arc<Policy> {
    let rule = AccessRule {
        read: Some(vec!["reader".to_owned()]),
        write: Some(vec!["writer".to_owned()]),
        mask,
        audit: false,
    };
    fixture::held_by(&rule, &["writer"])
}

fn decided_by(policy: &Policy, command: &Document) -> Result<Upstream, Refusal> {
    let upstream = forwarded_under(policy, &framed(command))?;
    match upstream.plan.refused() {
        [] => Ok(upstream),
        [statement, ..] => Err(statement.refusal.clone()),
    }
}

#[track_caller]
fn refuses(policy: &Policy, command: &Document) -> Refusal {
    let Err(refusal) = decided_by(policy, command) else {
        panic!("passed: {command}");
    };
    assert_eq!(refusal.kind.code(), UNAUTHORIZED, "{command}: {refusal}");
    assert!(!refusal.message.contains(CANARY), "{command}: {refusal}");
    refusal
}

#[track_caller]
fn lets_through(policy: &Policy, command: &Document) -> Document {
    match decided_by(policy, command) {
        Ok(upstream) => upstream.body,
        Err(refusal) => panic!("{command}: {refusal}"),
    }
}

fn find(filter: Document) -> Document {
    doc! {"find": "customers", "filter": filter}
}

fn projected(projection: Document) -> Document {
    doc! {"find": "customers", "projection": projection}
}

fn aggregate(stages: Vec<Document>) -> Document {
    doc! {"aggregate": "customers", "pipeline": stages, "cursor": {}}
}

fn update(update: impl Into<Bson>) -> Document {
    doc! {"update": "customers", "updates": [{"q": {"_id": 1}, "u": update.into()}]}
}

/// Conditions that look at a field, by every operator and from every side.
fn questions() -> Vec<Document> {
    vec![
        doc! {"ssn": CANARY},
        doc! {"ssn": null},
        doc! {"ssn": {"$ne": null}},
        doc! {"ssn": {"$exists": true}},
        doc! {"ssn": {"$exists": false}},
        doc! {"ssn": {"$type": "string"}},
        doc! {"ssn": {"$type": "null"}},
        doc! {"ssn": {"$in": [CANARY]}},
        doc! {"ssn": {"$nin": []}},
        doc! {"ssn": {"$not": {"$eq": CANARY}}},
        doc! {"ssn": {"$frobnicate": CANARY}},
        doc! {"ssn": {}},
        doc! {"tags": {"$size": 1}},
        doc! {"tags": {"$all": []}},
        doc! {"tags": {"$elemMatch": {"$exists": true}}},
        doc! {"tags.0": CANARY},
        doc! {"tags.0": {"$exists": true}},
        doc! {"address": {"$exists": true}},
        doc! {"payment.card": null},
        doc! {"payment": {}},
        doc! {"payment": {"exp": 1}},
        doc! {"payment": {"$ne": {"exp": 1}}},
        doc! {"payment": {"$in": [{"exp": 1}]}},
        doc! {"visits": [{"at": 1}]},
        doc! {"visits": {"$all": [{"at": 1}]}},
        doc! {"visits": {"$elemMatch": {"note": {"$exists": true}}}},
        doc! {"visits": {"$elemMatch": {"$eq": {"at": 1}}}},
        doc! {"visits": {"$not": {"$elemMatch": {"note": null}}}},
        doc! {"contacts.home.phone": {"$exists": true}},
        doc! {"$and": [{"city": "x"}, {"ssn": null}]},
        doc! {"$or": [{"city": "x"}, {"$nor": [{"ssn": null}]}]},
        doc! {"$jsonSchema": {"required": ["ssn"]}},
        doc! {"$jsonSchema": {"properties": {"payment": {"minProperties": 2}}}},
        doc! {"$expr": "$ssn"},
        doc! {"$expr": {"$eq": ["$ssn", CANARY]}},
        doc! {"$expr": {"$eq": ["$ssn", null]}},
        doc! {"$expr": {"$gt": ["$ssn", null]}},
        doc! {"$expr": {"$eq": ["$ssn", "$payment.card"]}},
        doc! {"$expr": {"$in": [CANARY, "$tags"]}},
        doc! {"$expr": {"$eq": ["$payment", {"exp": 1}]}},
        doc! {"$expr": {"$eq": ["$$ROOT", {}]}},
        doc! {"$expr": {"$not": ["$ssn"]}},
        doc! {"$expr": {"$and": ["$city", "$ssn"]}},
        doc! {"$expr": {"$gt": [{"$bsonSize": "$$ROOT"}, 100]}},
    ]
}

/// Expressions that look at a field.
fn looks() -> Vec<Bson> {
    let docs = [
        doc! {"$ifNull": ["$ssn", "none"]},
        doc! {"$cond": ["$ssn", 1, 0]},
        doc! {"$cond": {"if": {"$gt": ["$ssn", null]}, "then": 1, "else": 0}},
        doc! {"$switch": {"branches": [{"case": "$ssn", "then": 1}], "default": 0}},
        doc! {"$type": "$ssn"},
        doc! {"$isNumber": "$age"},
        doc! {"$isArray": "$tags"},
        doc! {"$size": "$tags"},
        doc! {"$size": "$visits.note"},
        doc! {"$size": {"$setUnion": ["$tags", []]}},
        doc! {"$arrayElemAt": ["$tags", 0]},
        doc! {"$first": "$tags"},
        doc! {"$slice": ["$tags", 1]},
        doc! {"$reverseArray": "$tags"},
        doc! {"$firstN": {"n": 1, "input": "$tags"}},
        doc! {"$concatArrays": ["$tags", []]},
        doc! {"$setUnion": ["$tags", []]},
        doc! {"$setEquals": ["$tags", ["a"]]},
        doc! {"$setIsSubset": ["$tags", ["a"]]},
        doc! {"$indexOfArray": ["$tags", "a"]},
        doc! {"$filter": {"input": "$tags", "cond": true}},
        doc! {"$filter": {"input": "$visits", "cond": {"$eq": ["$$this.note", "a"]}}},
        doc! {"$map": {"input": "$tags", "in": "$$this"}},
        doc! {"$reduce": {"input": "$tags", "initialValue": "", "in": "$$this"}},
        doc! {"$sortArray": {"input": "$tags", "sortBy": 1}},
        doc! {"$sortArray": {"input": "$visits", "sortBy": {"note": 1}}},
        doc! {"$in": [{"at": 1}, "$visits"]},
        doc! {"$setUnion": ["$visits", []]},
        doc! {"$max": "$visits"},
        doc! {"$mergeObjects": ["$ssn", {}]},
        doc! {"$objectToArray": "$payment"},
        doc! {"$objectToArray": "$$ROOT"},
        doc! {"$concat": ["$ssn", ""]},
        doc! {"$toString": "$age"},
        doc! {"$add": ["$age", 1]},
        doc! {"$bsonSize": "$ssn"},
        doc! {"$let": {"vars": {"v": "$ssn"}, "in": {"$eq": ["$$v", "a"]}}},
        doc! {"$let": {"vars": {"v": "$ssn"}, "in": {"$type": "$$v"}}},
        doc! {"$eq": [{"$getField": "ssn"}, null]},
        doc! {"$getField": {"field": "e1", "input": "$ssn"}},
        doc! {"$setField": {"field": "x", "input": "$ssn", "value": 1}},
        doc! {"$meta": "indexKey"},
    ];
    docs.map(Bson::Document).to_vec()
}

#[test]
fn no_command_asks_of_a_masked_field_by_its_filter() {
    for filter in questions() {
        let refusal = refuses(&MASKED, &find(filter.clone()));
        assert!(refusal.message.contains("you may not read"), "{refusal}");
        let f = || filter.clone();
        for command in [
            doc! {"count": "customers", "query": f()},
            doc! {"distinct": "customers", "key": "city", "query": f()},
            doc! {"delete": "customers", "deletes": [{"q": f(), "limit": 1}]},
            doc! {"update": "customers", "updates": [{"q": f(), "u": {"$set": {"x": 1}}}]},
            doc! {"update": "customers", "updates": [{"q": f(), "u": {"$set": {"x": 1}}, "upsert": true}]},
            doc! {"findAndModify": "customers", "query": f(), "remove": true},
            doc! {"findAndModify": "customers", "query": f(), "update": {"$set": {"x": 1}}},
            doc! {"explain": {"find": "customers", "filter": f()}},
            doc! {"explain": {"count": "customers", "query": f()}},
            aggregate(vec![doc! {"$match": f()}]),
            aggregate(vec![doc! {"$facet": {"a": [{"$match": f()}]}}]),
            doc! {"aggregate": "orders", "pipeline": [{"$unionWith": {"coll": "customers", "pipeline": [{"$match": f()}]}}], "cursor": {}},
            doc! {"aggregate": "orders", "pipeline": [{"$lookup": {"from": "customers", "pipeline": [{"$match": f()}], "as": "of"}}], "cursor": {}},
            doc! {"aggregate": "orders", "pipeline": [{"$graphLookup": {"from": "customers", "startWith": "$x", "connectFromField": "x", "connectToField": "x", "as": "of", "restrictSearchWithMatch": f()}}], "cursor": {}},
            doc! {"create": "seen", "viewOn": "customers", "pipeline": [{"$match": f()}]},
            doc! {"create": "customers", "validator": f()},
            doc! {"collMod": "customers", "validator": f()},
            doc! {"createIndexes": "customers", "indexes": [{"key": {"city": 1}, "name": "x", "partialFilterExpression": f()}]},
            doc! {"planCacheSetFilter": "customers", "query": f(), "indexes": [{"city": 1}]},
            doc! {"bulkWrite": 1, "ops": [{"delete": 0, "filter": f()}], "nsInfo": [{"ns": "shop.customers"}], "$db": "admin"},
            doc! {"bulkWrite": 1, "ops": [{"update": 0, "filter": f(), "updateMods": {"$set": {"x": 1}}}], "nsInfo": [{"ns": "shop.customers"}], "$db": "admin"},
        ] {
            refuses(&MASKED, &command);
        }
    }
}

#[test]
fn no_expression_looks_at_a_masked_field() {
    for look in looks() {
        for command in [
            aggregate(vec![doc! {"$project": {"x": &look}}]),
            aggregate(vec![doc! {"$set": {"x": {"deep": [&look]}}}]),
            aggregate(vec![doc! {"$group": {"_id": &look}}]),
            aggregate(vec![
                doc! {"$group": {"_id": "$city", "x": {"$push": &look}}},
            ]),
            aggregate(vec![doc! {"$match": {"$expr": &look}}]),
            aggregate(vec![doc! {"$replaceWith": {"x": &look}}]),
            aggregate(vec![
                doc! {"$redact": {"$cond": [&look, "$$KEEP", "$$PRUNE"]}},
            ]),
            projected(doc! {"x": &look}),
            update(vec![doc! {"$set": {"x": &look}}]),
            doc! {"findAndModify": "customers", "query": {}, "update": [{"$set": {"x": &look}}]},
            doc! {"create": "seen", "viewOn": "customers", "pipeline": [{"$project": {"x": &look}}]},
        ] {
            // Some is refused to everyone, before it is known whose field it is.
            assert!(decided_by(&MASKED, &command).is_err(), "passed: {command}");
        }
    }
}

#[test]
fn what_may_be_a_masked_value_or_another_is_not_looked_at() {
    let either = doc! {"$cond": ["$city", "$ssn", "$age"]};
    let looks = [
        doc! {"$ifNull": [&either, "none"]},
        doc! {"$eq": [&either, null]},
        doc! {"$type": &either},
        doc! {"$isArray": &either},
        doc! {"$cond": [&either, 1, 0]},
    ];
    for look in looks {
        let told = decided_by(&MASKED, &aggregate(vec![doc! {"$project": {"x": &look}}]));
        assert!(told.is_err(), "passed: {look}");
    }
    let question = [
        doc! {"$project": {"x": {"a": &either}}},
        doc! {"$match": {"x": {}}},
    ];
    assert!(decided_by(&MASKED, &aggregate(question.to_vec())).is_err());
    lets_through(&MASKED, &aggregate(vec![doc! {"$project": {"x": &either}}]));
}

#[test]
fn no_stage_or_option_looks_at_a_masked_field() {
    let stages = [
        vec![doc! {"$sort": {"ssn": 1}}],
        vec![doc! {"$group": {"_id": "$ssn"}}],
        vec![doc! {"$group": {"_id": {"a": "$city", "b": ["$ssn"]}}}],
        vec![doc! {"$group": {"_id": "$city", "x": {"$addToSet": "$ssn"}}}],
        vec![doc! {"$group": {"_id": "$city", "x": {"$addToSet": "$$ROOT"}}}],
        vec![doc! {"$group": {"_id": "$$ROOT"}}],
        vec![doc! {"$group": {"_id": "$payment"}}],
        vec![doc! {"$group": {"_id": "$city", "x": {"$max": "$age"}}}],
        vec![doc! {"$group": {"_id": "$city", "x": {"$sum": "$age"}}}],
        vec![doc! {"$group": {"_id": "$city", "x": {"$mergeObjects": "$address"}}}],
        vec![
            doc! {"$group": {"_id": "$city", "x": {"$top": {"sortBy": {"ssn": 1}, "output": "$city"}}}},
        ],
        vec![doc! {"$sortByCount": "$ssn"}],
        vec![doc! {"$bucket": {"groupBy": "$age", "boundaries": [0, 9]}}],
        vec![doc! {"$bucketAuto": {"groupBy": "$age", "buckets": 2}}],
        vec![doc! {"$unwind": "$tags"}],
        vec![doc! {"$unwind": "$visits.note"}],
        vec![doc! {"$replaceRoot": {"newRoot": "$address"}}],
        vec![
            doc! {"$setWindowFields": {"partitionBy": "$ssn", "sortBy": {"n": 1}, "output": {"x": {"$sum": 1}}}},
        ],
        vec![doc! {"$setWindowFields": {"sortBy": {"n": 1}, "output": {"x": {"$locf": "$ssn"}}}}],
        vec![doc! {"$fill": {"sortBy": {"n": 1}, "output": {"ssn": {"method": "locf"}}}}],
        vec![doc! {"$fill": {"output": {"ssn": {"value": "none"}}}}],
        vec![doc! {"$fill": {"partitionByFields": ["ssn"], "output": {"x": {"value": 1}}}}],
        vec![doc! {"$densify": {"field": "age", "range": {"step": 1, "bounds": "full"}}}],
        vec![
            doc! {"$lookup": {"from": "orders", "localField": "ssn", "foreignField": "x", "as": "of"}},
        ],
        vec![
            doc! {"$lookup": {"from": "customers", "localField": "x", "foreignField": "ssn", "as": "of"}},
        ],
        vec![
            doc! {"$lookup": {"from": "orders", "let": {"v": "$ssn"}, "pipeline": [{"$match": {"$expr": {"$eq": ["$x", "$$v"]}}}], "as": "of"}},
        ],
        vec![
            doc! {"$graphLookup": {"from": "orders", "startWith": "$ssn", "connectFromField": "x", "connectToField": "x", "as": "of"}},
        ],
        vec![doc! {"$geoNear": {"near": [0, 0], "distanceField": "d", "key": "address"}}],
        vec![
            doc! {"$project": {"x": "$ssn"}},
            doc! {"$match": {"x": null}},
        ],
        vec![doc! {"$project": {"x": "$ssn"}}, doc! {"$sort": {"x": 1}}],
        vec![
            doc! {"$project": {"x": "$ssn"}},
            doc! {"$group": {"_id": "$x"}},
        ],
        vec![doc! {"$project": {"x": ["$ssn"]}}, doc! {"$unwind": "$x"}],
        vec![
            doc! {"$group": {"_id": "$city", "x": {"$push": "$ssn"}}},
            doc! {"$match": {"x": {"$size": 2}}},
        ],
        vec![
            doc! {"$group": {"_id": "$city", "x": {"$push": "$$ROOT"}}},
            doc! {"$match": {"x.ssn": CANARY}},
        ],
        vec![
            doc! {"$changeStream": {}},
            doc! {"$match": {"fullDocument.ssn": null}},
        ],
        vec![
            doc! {"$changeStream": {}},
            doc! {"$match": {"fullDocument": {"x": 1}}},
        ],
    ];
    for stages in stages {
        refuses(&MASKED, &aggregate(stages));
    }
    for command in [
        doc! {"find": "customers", "sort": {"ssn": 1}},
        doc! {"find": "customers", "min": {"ssn": CANARY}},
        doc! {"find": "customers", "max": {"ssn": CANARY}},
        doc! {"find": "customers", "hint": {"ssn": 1}},
        doc! {"find": "customers", "hint": "ssn_1"},
        doc! {"count": "customers", "hint": "ssn_1"},
        doc! {"aggregate": "customers", "pipeline": [], "cursor": {}, "hint": "ssn_1"},
        doc! {"delete": "customers", "deletes": [{"q": {}, "limit": 0, "hint": "ssn_1"}]},
        doc! {"findAndModify": "customers", "sort": {"ssn": 1}, "remove": true},
        doc! {"distinct": "customers", "key": "ssn"},
        doc! {"distinct": "customers", "key": "visits.note"},
        doc! {"createIndexes": "customers", "indexes": [{"key": {"ssn": 1}, "name": "x"}]},
        doc! {"createIndexes": "customers", "indexes": [{"key": {"ssn": 1}, "name": "x", "unique": true}]},
        doc! {"createIndexes": "customers", "indexes": [{"key": {"$**": 1}, "name": "x"}]},
        doc! {"createIndexes": "customers", "indexes": [{"key": {"payment.$**": 1}, "name": "x"}]},
        doc! {"shardCollection": "shop.customers", "key": {"ssn": 1}, "$db": "admin"},
        projected(doc! {"tags": {"$slice": 1}}),
        projected(doc! {"tags": {"$elemMatch": {"$exists": true}}}),
        projected(doc! {"tags.$": 1}),
        projected(doc! {"visits": {"$elemMatch": {"note": null}}}),
        projected(doc! {"x": {"$meta": "indexKey"}}),
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$set": {"tags.$[t]": "a"}}, "arrayFilters": [{"t": "b"}]}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$set": {"visits.$[v].at": 1}}, "arrayFilters": [{"v.note": null}]}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$set": {"visits.$[v].at": 1}}, "arrayFilters": [{"v": {"at": 1}}]}]},
    ] {
        // Of what tells nothing of a value, some is refused to everyone.
        let refusal = decided_by(&MASKED, &command).err();
        let refusal = refusal.unwrap_or_else(|| panic!("passed: {command}"));
        assert!(!refusal.message.contains(CANARY), "{refusal}");
    }
}

#[test]
fn a_masked_field_may_be_passed_on() {
    for command in [
        find(doc! {}),
        find(doc! {"city": "x", "payment.exp": {"$gt": 1}, "visits": {"$elemMatch": {"at": 1}}}),
        find(doc! {"payment": {"$exists": true}, "visits": {"$size": 1}}),
        find(doc! {"payment": null}),
        doc! {"find": "customers", "sort": {"city": 1, "payment.exp": 1}, "hint": {"city": 1}},
        doc! {"find": "customers", "hint": "_id_"},
        doc! {"find": "customers", "hint": {"$natural": 1}},
        projected(doc! {"ssn": 1, "payment.card": 1}),
        projected(doc! {"ssn": 0}),
        projected(doc! {"x": "$ssn", "y": {"z": ["$payment.card"]}}),
        projected(doc! {"visits": {"$slice": 1}, "x": {"$meta": "recordId"}}),
        doc! {"distinct": "customers", "key": "city"},
        doc! {"findAndModify": "customers", "query": {"_id": 1}, "remove": true},
        doc! {"delete": "customers", "deletes": [{"q": {"_id": 1}, "limit": 1}]},
        aggregate(vec![
            doc! {"$project": {"x": "$ssn", "y": {"$getField": "ssn"}, "z": "$$ROOT"}},
        ]),
        aggregate(vec![
            doc! {"$group": {"_id": "$city", "cards": {"$push": "$payment.card"}, "one": {"$first": "$ssn"}, "all": {"$push": "$$ROOT"}}},
        ]),
        aggregate(vec![
            doc! {"$set": {"x": {"$cond": ["$city", "$ssn", "none"]}}},
        ]),
        aggregate(vec![
            doc! {"$unwind": "$visits"},
            doc! {"$sort": {"visits.at": 1}},
        ]),
        aggregate(vec![
            doc! {"$set": {"x": {"$map": {"input": "$visits", "in": {"n": "$$this.note"}}}}},
        ]),
        aggregate(vec![
            doc! {"$unset": "ssn"},
            doc! {"$match": {"ssn": CANARY}},
        ]),
        aggregate(vec![
            doc! {"$project": {"ssn": "$city"}},
            doc! {"$group": {"_id": "$ssn"}},
        ]),
        doc! {"aggregate": "orders", "pipeline": [{"$lookup": {"from": "customers", "localField": "x", "foreignField": "_id", "as": "of"}}, {"$unwind": "$of"}, {"$project": {"s": "$of.ssn"}}], "cursor": {}},
        doc! {"aggregate": "orders", "pipeline": [{"$unionWith": "customers"}, {"$match": {"city": 1}}], "cursor": {}},
        aggregate(vec![doc! {"$facet": {"a": [{"$project": {"x": "$ssn"}}]}}]),
        aggregate(vec![
            doc! {"$changeStream": {}},
            doc! {"$match": {"operationType": "insert"}},
        ]),
        doc! {"create": "seen", "viewOn": "customers", "pipeline": [{"$project": {"x": "$ssn"}}]},
        doc! {"createIndexes": "customers", "indexes": [{"key": {"city": 1}, "name": "x"}]},
        doc! {"explain": {"find": "customers", "filter": {"city": 1}}, "verbosity": "queryPlanner"},
        doc! {"explain": {"find": "cities", "filter": {"city": 1}}},
        doc! {"explain": {"aggregate": "cities", "pipeline": [], "cursor": {}}},
        doc! {"dataSize": "shop.customers", "estimate": true},
        doc! {"dataSize": "shop.cities", "keyPattern": {"_id": 1}, "min": {"_id": 1}, "max": {"_id": 2}},
        doc! {"collMod": "customers", "index": {"keyPattern": {"city": 1}, "hidden": true}},
    ] {
        lets_through(&MASKED, &command);
    }
}

#[test]
fn a_constant_in_the_place_of_a_masked_field_does_not_go_up_as_it_is() {
    for stage in [
        doc! {"$set": {"x": {"$cond": ["$city", "$ssn", CANARY]}}},
        doc! {"$set": {"x": ["$ssn", CANARY]}},
        doc! {"$set": {"ssn": CANARY}},
        doc! {"$replaceWith": {"$setField": {"field": "ssn", "input": "$$ROOT", "value": CANARY}}},
        doc! {"$setWindowFields": {"sortBy": {"n": 1}, "output": {"w": {"$shift": {"output": "$ssn", "by": 1, "default": CANARY}}}}},
    ] {
        // What is sealed shows here with its value, and with its token beside it.
        let sent = lets_through(&MASKED, &aggregate(vec![stage])).to_string();
        let sealed = format!("\"sealed\": \"{CANARY}\"");
        assert!(sent.contains(&sealed), "{sent}");
        assert_eq!(
            sent.matches(CANARY).count(),
            sent.matches(&sealed).count(),
            "{sent}"
        );
    }
}

#[test]
fn how_long_masked_values_are_is_not_told() {
    let lookup = doc! {"$lookup": {"from": "customers", "localField": "x", "foreignField": "_id", "as": "of"}};
    for explained in [
        doc! {"find": "customers", "filter": {"city": 1}},
        doc! {"count": "customers"},
        aggregate(vec![doc! {"$sort": {"city": 1}}]),
        doc! {"aggregate": "cities", "pipeline": [lookup, {"$sort": {"x": 1}}], "cursor": {}},
    ] {
        refuses(&MASKED, &doc! {"explain": explained.clone()});
        for verbosity in ["executionStats", "allPlansExecution", "of tomorrow"] {
            let asked = doc! {"explain": explained.clone(), "verbosity": verbosity};
            refuses(&MASKED, &asked);
            lets_through(&GUARDED, &asked);
        }
        lets_through(
            &MASKED,
            &doc! {"explain": explained, "verbosity": "queryPlanner"},
        );
    }
    for command in [
        doc! {"dataSize": "shop.customers", "keyPattern": {"_id": 1}, "min": {"_id": 1}, "max": {"_id": 2}},
        doc! {"datasize": "shop.customers", "min": {"_id": 1}, "max": {"_id": 2}},
        doc! {"splitVector": "shop.customers", "keyPattern": {"_id": 1}, "maxChunkSizeBytes": 1 << 20},
        doc! {"autoSplitVector": "customers", "keyPattern": {"_id": 1}, "min": {"_id": 1}, "max": {"_id": 2}, "maxChunkSizeBytes": 99},
    ] {
        refuses(&MASKED, &command);
        lets_through(&GUARDED, &command);
    }
}

#[test]
fn an_index_on_a_masked_field_cannot_be_made_unique_by_its_name() {
    for option in ["unique", "prepareUnique", "hidden"] {
        let modify = |index: Document| doc! {"collMod": "customers", "index": index};
        refuses(&MASKED, &modify(doc! {"name": "by_ssn", option: true}));
        refuses(
            &MASKED,
            &modify(doc! {"keyPattern": {"ssn": 1}, option: true}),
        );
        lets_through(&GUARDED, &modify(doc! {"name": "by_ssn", option: true}));
    }
}

#[test]
fn each_statement_is_refused_for_itself() {
    let command = doc! {"update": "customers", "ordered": false, "updates": [
        {"q": {"city": 1}, "u": {"$set": {"x": 1}}},
        {"q": {"ssn": CANARY}, "u": {"$set": {"x": 1}}},
    ]};
    let upstream = forwarded_under(&MASKED, &framed(&command)).unwrap();
    let [statement] = upstream.plan.refused() else {
        panic!("not one statement");
    };
    assert_eq!((statement.index, statement.refusal.kind.code()), (1, 13));
    assert!(!format!("{}", upstream.body).contains(CANARY));
}

#[test]
fn a_view_that_asks_of_a_masked_field_is_refused_and_others_mask_it() {
    let policy = masked(Mask::Redact);
    let view = |name: &str, stages: Vec<Document>| doc! {"name": name, "type": "view", "options": {"viewOn": "customers", "pipeline": stages}};
    let listed = [
        view("moved", vec![doc! {"$project": {"who": "$ssn"}}]),
        view("having", vec![doc! {"$match": {"ssn": {"$ne": null}}}]),
    ];
    let reply = crate::wire::testing::reply(
        &doc! {"cursor": {"id": 0_i64, "firstBatch": listed.to_vec()}, "ok": 1.0},
    );
    let (own, asked) = (crate::policy::Views::default(), policy.views().ask());
    let answer =
        crate::rewrite::views::learn(&policy, &own, "shop", Asking::Definitions, asked, &reply);
    assert_eq!(answer.unwrap(), Answer::Listed);
    lets_through(&policy, &doc! {"find": "moved"});
    refuses(&policy, &doc! {"find": "moved", "filter": {"who": null}});
    assert!(decided_by(&policy, &doc! {"find": "having"}).is_err());
}

#[test]
fn what_mongodb_keeps_of_documents_elsewhere_is_not_asked() {
    let read = |database: &str, name: &str| doc! {"find": name, "filter": {"o.ssn.e1": {"$exists": true}}, "$db": database};
    for (database, name) in [
        ("local", "oplog.rs"),
        ("config", "system.preimages"),
        ("config", "image_collection"),
        ("shop", "system.profile"),
    ] {
        refuses(&MASKED, &read(database, name));
        lets_through(&POLICY, &read(database, name));
        let union = doc! {"$unionWith": {"db": database, "coll": name}};
        refuses(&MASKED, &aggregate(vec![union.clone()]));
        refuses(
            &MASKED,
            &doc! {"aggregate": "orders", "pipeline": [union], "cursor": {}},
        );
    }
    lets_through(&MASKED, &read("config", "shards"));
}

#[test]
fn plain_values_of_a_masked_field_are_not_put_where_they_would_be_seen() {
    let on = |name: &str, stages: Vec<Document>| doc! {"aggregate": name, "pipeline": stages, "cursor": {}};
    let union = doc! {"$unionWith": "orders"};
    refuses(&MASKED, &on("moving", vec![union.clone()]));
    refuses(
        &MASKED,
        &doc! {"find": "moving", "projection": {"x": "$ssn"}},
    );
    let stream = |stage: Document| doc! {"aggregate": 1, "pipeline": [{"$changeStream": {}}, stage], "cursor": {}};
    refuses(&MASKED, &stream(doc! {"$project": {"ns": 0}}));
    refuses(&MASKED, &stream(doc! {"$set": {"x": "$fullDocument.ssn"}}));
    refuses(
        &MASKED,
        &on(
            "moving",
            vec![
                doc! {"$changeStream": {}},
                doc! {"$set": {"x": "$fullDocument.ssn"}},
            ],
        ),
    );
    for command in [
        doc! {"find": "moving", "projection": {"ssn": 1}},
        on("moving", vec![doc! {"$project": {"x": "$ssn"}}]),
        on("moving", vec![doc! {"$changeStream": {}}]),
        stream(doc! {"$match": {"operationType": "insert"}}),
        on("settled", vec![union]),
    ] {
        lets_through(&MASKED, &command);
    }
}

#[test]
fn who_has_all_roles_is_not_kept_from_anything() {
    let rule = AccessRule {
        read: Some(vec!["reader".to_owned()]),
        write: Some(vec!["writer".to_owned()]),
        ..AccessRule::default()
    };
    let policy = fixture::held_by(&rule, &["reader", "writer"]);
    let counted = Cell::new(0);
    for filter in questions() {
        let (all, without) = (
            decided_by(&policy, &find(filter.clone())).is_ok(),
            decided(&framed(&find(filter))).is_ok(),
        );
        assert_eq!(all, without);
        counted.set(counted.get() + usize::from(all));
    }
    assert!(counted.get() > 20);
}
