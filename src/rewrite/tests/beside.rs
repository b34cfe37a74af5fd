//! Constants that come to stand where a sealed field's values stand, by every road there
//! is: they are sealed, or what brings them there is refused.

use super::*;

/// What becomes of a command that may not say its canary.
#[derive(Debug, PartialEq, Eq)]
enum Road {
    Sealed,
    Refused,
    Leak,
}

fn road(command: &Document) -> Road {
    let frame = framed(command);
    let message = Message::recognise(&frame).unwrap();
    let mut scratch = vec![1, 2, 3];
    match decide(&message, &POLICY, &mut scratch) {
        Decision::Refuse(refusal) => {
            assert!(!refusal.message.contains(CANARY), "{refusal}");
            Road::Refused
        }
        Decision::Forward { cleared, plan } => {
            for statement in plan.refused() {
                assert!(!statement.refusal.message.contains(CANARY), "{command}");
            }
            let secret = CANARY.as_bytes();
            let said = cleared.bytes().windows(secret.len()).any(|at| at == secret);
            if said { Road::Leak } else { Road::Sealed }
        }
    }
}

fn aggregate(stages: Vec<Document>) -> Document {
    doc! {"aggregate": "customers", "pipeline": stages, "cursor": {}}
}

/// An expression in the places that only move what it gives, or ask whether it is true.
fn placed(expression: &Bson) -> Vec<Document> {
    vec![
        aggregate(vec![doc! {"$project": {"x": expression.clone()}}]),
        aggregate(vec![doc! {"$set": {"x": expression.clone()}}]),
        aggregate(vec![
            doc! {"$group": {"_id": null, "x": {"$push": expression.clone()}}},
        ]),
        doc! {"find": "customers", "filter": {"$expr": expression.clone()}},
        doc! {"find": "customers", "projection": {"x": expression.clone()}},
    ]
}

#[track_caller]
fn none_leaks(commands: Vec<Document>) {
    let leaks: Vec<String> = commands
        .iter()
        .filter(|command| road(command) == Road::Leak)
        .map(ToString::to_string)
        .collect();
    assert!(
        leaks.is_empty(),
        "{} leak:\n{}",
        leaks.len(),
        leaks.join("\n")
    );
}

#[test]
fn a_constant_that_an_operator_mixes_with_sealed_values_does_not_go_up() {
    let c = CANARY;
    let root = || doc! {"$mergeObjects": ["$$ROOT", {"ssn": c}]};
    let mixes: Vec<Document> = vec![
        doc! {"$ifNull": ["$ssn", c]},
        doc! {"$ifNull": ["$ssn", "$n", c]},
        doc! {"$ifNull": [{"$cond": ["$n", "$ssn", "$age"]}, c]},
        doc! {"$cond": ["$n", {"$cond": ["$n", "$ssn", c]}, "$age"]},
        doc! {"$cond": ["$n", "$ssn", {"$concat": [c, "x"]}]},
        doc! {"$ifNull": ["$ssn", {"$toUpper": c}]},
        doc! {"$arrayElemAt": [["$ssn", c], 0]},
        doc! {"$first": [["$ssn", c]]},
        doc! {"$last": [["$ssn", {"$literal": c}]]},
        doc! {"$slice": [["$ssn", c], 1]},
        doc! {"$reverseArray": [["$ssn", c]]},
        doc! {"$firstN": {"n": 1, "input": ["$ssn", c]}},
        doc! {"$concatArrays": ["$tags", [c]]},
        doc! {"$concatArrays": [["$ssn"], [c]]},
        doc! {"$concatArrays": ["$tags", {"$split": [c, ","]}]},
        doc! {"$size": {"$concatArrays": ["$tags", [c]]}},
        doc! {"$setUnion": ["$tags", [c]]},
        doc! {"$setDifference": [[c], "$tags"]},
        doc! {"$zip": {"inputs": ["$tags", [c]]}},
        doc! {"$zip": {"inputs": ["$n", "$m"], "defaults": ["$ssn", c], "useLongestLength": true}},
        doc! {"$max": ["$ssn", c]},
        doc! {"$maxN": {"n": 1, "input": ["$ssn", c]}},
        doc! {"$anyElementTrue": [["$ssn", c]]},
        doc! {"$arrayToObject": [[["a", "$ssn"], ["b", c]]]},
        doc! {"$objectToArray": {"a": "$ssn", "b": c}},
        doc! {"$switch": {"branches": [{"case": "$n", "then": c}], "default": "$ssn"}},
        root(),
        doc! {"$mergeObjects": [{"ssn": c}, "$$ROOT"]},
        doc! {"$mergeObjects": [{"$literal": {"ssn": c}}, "$$ROOT"]},
        doc! {"$mergeObjects": ["$payment", {"card": c}]},
        doc! {"$mergeObjects": ["$$ROOT", {"payment": {"card": c}}]},
        doc! {"$mergeObjects": ["$$ROOT", {"contacts": {"home": {"phone": c}}}]},
        doc! {"$mergeObjects": ["$$ROOT", {"$arrayToObject": [[["ssn", c]]]}]},
        doc! {"$mergeObjects": [{"a": "$ssn"}, {"a": c}]},
        doc! {"$cond": ["$n", "$$ROOT", {"ssn": c}]},
        doc! {"$ifNull": ["$payment", {"card": c}]},
        doc! {"$ifNull": ["$payment", {"$literal": {"card": c}}]},
        doc! {"$ifNull": ["$address", {"city": c}]},
        doc! {"$ifNull": ["$address", {"city": c, "n": "$n"}]},
        doc! {"$concatArrays": ["$visits", [{"note": c}]]},
        doc! {"$map": {"input": "$visits", "as": "v", "in": {"$mergeObjects": ["$$v", {"note": c}]}}},
        doc! {"$map": {"input": "$tags", "in": {"$cond": ["$n", "$$this", c]}}},
        doc! {"$map": {"input": [c, "y"], "as": "k", "in": {"$ifNull": ["$ssn", "$$k"]}}},
        doc! {"$map": {"input": {"$split": [c, ","]}, "as": "k", "in": {"$ifNull": ["$ssn", "$$k"]}}},
        doc! {"$map": {"input": {"$split": [c, ","]}, "as": "k", "in": {"$ifNull": ["$ssn", {"$toUpper": "$$k"}]}}},
        doc! {"$map": {"input": [{"a": 1}, c], "as": "k", "in": {"$ifNull": ["$ssn", "$$k"]}}},
        doc! {"$map": {"input": ["$ssn", c], "in": "$$this"}},
        doc! {"$filter": {"input": [c, "y"], "as": "k", "cond": {"$ifNull": ["$ssn", "$$k"]}}},
        doc! {"$filter": {"input": ["$ssn", c], "cond": "$$this"}},
        doc! {"$filter": {"input": "$tags", "cond": {"$ifNull": ["$$this", c]}}},
        doc! {"$reduce": {"input": "$tags", "initialValue": c, "in": {"$ifNull": ["$$this", "$$value"]}}},
        doc! {"$reduce": {"input": "$tags", "initialValue": "", "in": {"$cond": ["$n", "$$this", c]}}},
        doc! {"$reduce": {"input": "$tags", "initialValue": [c], "in": {"$concatArrays": ["$$value", ["$$this"]]}}},
        doc! {"$reduce": {"input": [c], "initialValue": "$ssn", "in": {"$ifNull": ["$$value", "$$this"]}}},
        doc! {"$reduce": {"input": [c], "initialValue": null, "in": {"$ifNull": ["$ssn", "$$this"]}}},
        doc! {"$reduce": {"input": [1, 2], "initialValue": 5, "in": {"$cond": [{"$ifNull": ["$ssn", "$$value"]}, c, "$$value"]}}},
        doc! {"$let": {"vars": {"k": c}, "in": {"$ifNull": ["$ssn", "$$k"]}}},
        doc! {"$let": {"vars": {"k": c}, "in": {"$not": [{"$ifNull": ["$ssn", "$$k"]}]}}},
        doc! {"$let": {"vars": {"k": c}, "in": {"$size": {"$concatArrays": ["$tags", ["$$k"]]}}}},
        doc! {"$let": {"vars": {"k": c}, "in": {"$let": {"vars": {"j": "$$k"}, "in": {"$ifNull": ["$ssn", "$$j"]}}}}},
        doc! {"$let": {"vars": {"d": {"ssn": c}}, "in": {"$mergeObjects": ["$$ROOT", "$$d"]}}},
        doc! {"$let": {"vars": {"d": {"k": c}}, "in": {"$ifNull": ["$ssn", "$$d.k"]}}},
        doc! {"$let": {"vars": {"d": {"k": c}}, "in": {"$not": [{"$ifNull": ["$ssn", "$$d.k"]}]}}},
        doc! {"$map": {"input": "$list", "as": "v", "in": {"$let": {"vars": {"k": c}, "in": {"$gt": [{"$ifNull": ["$ssn", "$$k"]}, null]}}}}},
        doc! {"$ifNull": ["$ssn", {"$getField": {"field": "a", "input": {"a": c}}}]},
        doc! {"$ifNull": ["$ssn", {"$arrayElemAt": [[c, "y"], "$n"]}]},
        doc! {"$setField": {"field": "ssn", "input": "$$ROOT", "value": c}},
        doc! {"$setField": {"field": "payment", "input": "$$ROOT", "value": {"card": c}}},
        doc! {"$setField": {"field": "payment", "input": "$$ROOT", "value": {"$literal": {"card": c}}}},
        doc! {"$setField": {"field": "ssn", "input": "$$ROOT", "value": {"$toUpper": c}}},
        doc! {"$setField": {"field": {"$literal": "ssn"}, "input": {"$unsetField": {"field": "x", "input": "$$ROOT"}}, "value": c}},
        doc! {"$setField": {"field": {"$concat": ["s", "sn"]}, "input": "$$ROOT", "value": c}},
        doc! {"$sortArray": {"input": [{"a": "$ssn"}, {"a": c}], "sortBy": {"b": 1}}},
        doc! {"$map": {"input": [{"a": "$ssn"}, {"a": c}], "in": "$$this.a"}},
        doc! {"$gt": [["$ssn", c], null]},
        doc! {"$isArray": [["$ssn", c]]},
        doc! {"$type": [{"$ifNull": ["$ssn", c]}]},
        doc! {"$in": [{"$ifNull": ["$ssn", c]}, ["a"]]},
    ];
    let mut commands: Vec<Document> = Vec::new();
    for mix in mixes {
        commands.extend(placed(&mix.clone().into()));
        commands.extend(placed(&doc! {"$not": [mix.clone()]}.into()));
        commands.extend(placed(&bson::bson!({"a": [mix.clone()]})));
        commands.push(aggregate(vec![
            doc! {"$match": {"$expr": {"$and": [mix, "$n"]}}},
        ]));
    }
    commands.extend(placed(&bson::bson!(["$ssn", c])));
    commands.extend(placed(&bson::bson!([["$ssn"], [c]])));
    commands.extend(placed(&bson::bson!([{"a": "$ssn"}, {"a": c}])));
    none_leaks(commands);
}

#[test]
fn a_constant_that_a_stage_puts_where_a_sealed_field_stands_does_not_go_up() {
    let c = CANARY;
    let stages: Vec<Document> = vec![
        doc! {"$set": {"ssn": c}},
        doc! {"$set": {"ssn": {"$toUpper": c}}},
        doc! {"$set": {"payment": {"card": c}}},
        doc! {"$set": {"payment": {"$literal": {"card": c}}}},
        doc! {"$set": {"payment": [{"card": c}]}},
        doc! {"$set": {"payment": {"$cond": ["$n", {"card": c}, "$payment"]}}},
        doc! {"$set": {"payment": {"$cond": ["$n", {"card": c}, {"card": "$n"}]}}},
        doc! {"$set": {"visits": [{"note": c}]}},
        doc! {"$set": {"visits": {"$map": {"input": "$visits", "as": "v", "in": {"note": c}}}}},
        doc! {"$set": {"tags": {"$map": {"input": "$tags", "in": c}}}},
        doc! {"$set": {"tags": {"$filter": {"input": [c, "y"], "cond": "$n"}}}},
        doc! {"$set": {"contacts": {"$literal": {"home": {"phone": c}}}}},
        doc! {"$set": {"address": {"$mergeObjects": [{"city": c}, "$x"]}}},
        doc! {"$set": {"address.city": c}},
        doc! {"$project": {"ssn": {"$concat": [c, ""]}}},
        doc! {"$project": {"ssn": c}},
        doc! {"$project": {"payment": {"card": c}}},
        doc! {"$project": {"payment": {"$literal": {"card": c}}}},
        doc! {"$project": {"address.city": c}},
        doc! {"$project": {"address": {"city": c}}},
        doc! {"$replaceWith": {"ssn": c}},
        doc! {"$replaceWith": {"$literal": {"ssn": c}}},
        doc! {"$replaceWith": {"$mergeObjects": [{"ssn": c}, "$$ROOT"]}},
        doc! {"$replaceRoot": {"newRoot": {"payment": {"card": c}}}},
        doc! {"$replaceRoot": {"newRoot": {"$cond": ["$n", "$$ROOT", {"ssn": c}]}}},
        doc! {"$group": {"_id": ["$ssn", c]}},
        doc! {"$group": {"_id": {"a": ["$ssn", c]}}},
        doc! {"$group": {"_id": ["$ssn", {"$cond": ["$n", c, "b"]}]}},
        doc! {"$group": {"_id": {"$ifNull": ["$ssn", c]}}},
        doc! {"$group": {"_id": {"$cond": ["$n", "$ssn", {"$toUpper": c}]}}},
        doc! {"$group": {"_id": null, "x": {"$first": {"$ifNull": ["$ssn", c]}}}},
        doc! {"$group": {"_id": null, "x": {"$addToSet": {"$ifNull": ["$ssn", c]}}}},
        doc! {"$group": {"_id": null, "x": {"$push": ["$ssn", c]}}},
        doc! {"$group": {"_id": null, "x": {"$mergeObjects": {"$cond": ["$n", "$$ROOT", {"ssn": c}]}}}},
        doc! {"$group": {"_id": null, "x": {"$topN": {"n": 1, "sortBy": {"n": 1}, "output": ["$ssn", c]}}}},
        doc! {"$group": {"_id": null, "x": {"$max": {"$ifNull": ["$ssn", c]}}}},
        doc! {"$sortByCount": {"$ifNull": ["$ssn", c]}},
        doc! {"$bucket": {"groupBy": "$ssn", "boundaries": ["a", "b"], "default": c}},
        doc! {"$bucket": {"groupBy": "$n", "boundaries": [1, 2], "output": {"x": {"$push": {"$ifNull": ["$ssn", c]}}}}},
        doc! {"$fill": {"output": {"ssn": {"value": c}}}},
        doc! {"$fill": {"output": {"ssn": {"value": {"$toUpper": c}}}}},
        doc! {"$fill": {"output": {"payment": {"value": {"card": c}}}}},
        doc! {"$fill": {"output": {"payment.card": {"value": c}}}},
        doc! {"$fill": {"partitionBy": {"$ifNull": ["$ssn", c]}, "output": {"n": {"value": 1}}}},
        doc! {"$setWindowFields": {"sortBy": {"n": 1}, "output": {"w": {"$shift": {"output": "$ssn", "by": 1, "default": c}}}}},
        doc! {"$setWindowFields": {"sortBy": {"n": 1}, "output": {"w": {"$shift": {"output": "$payment", "by": 1, "default": {"card": c}}}}}},
        doc! {"$setWindowFields": {"sortBy": {"n": 1}, "output": {"w": {"$shift": {"output": "$ssn", "by": 1, "default": {"$toUpper": c}}}}}},
        doc! {"$setWindowFields": {"partitionBy": ["$ssn", c], "sortBy": {"n": 1}, "output": {"w": {"$push": "$n"}}}},
        doc! {"$unionWith": {"pipeline": [{"$documents": [{"ssn": c}]}]}},
        doc! {"$unionWith": {"coll": "orders", "pipeline": [{"$set": {"ssn": c}}]}},
        doc! {"$unionWith": {"coll": "orders", "pipeline": [{"$project": {"payment": {"card": c}}}]}},
        doc! {"$facet": {"a": [{"$set": {"x": {"$ifNull": ["$ssn", c]}}}]}},
        doc! {"$redact": {"$cond": [{"$ifNull": ["$ssn", c]}, "$$KEEP", "$$PRUNE"]}},
        doc! {"$lookup": {"from": "people", "let": {"k": c}, "pipeline": [{"$match": {"$expr": {"$not": [{"$ifNull": ["$a", "$$k"]}]}}}], "as": "x"}},
        doc! {"$lookup": {"from": "people", "let": {"k": c}, "pipeline": [{"$project": {"y": {"$ifNull": ["$a", "$$k"]}}}], "as": "x"}},
        doc! {"$lookup": {"from": "orders", "let": {"s": "$ssn"}, "pipeline": [{"$project": {"y": {"$ifNull": ["$$s", c]}}}], "as": "x"}},
        doc! {"$lookup": {"from": "orders", "let": {"s": {"$ifNull": ["$ssn", c]}}, "pipeline": [], "as": "x"}},
        doc! {"$graphLookup": {"from": "people", "startWith": c, "connectFromField": "a", "connectToField": "a", "as": "x", "restrictSearchWithMatch": {"a": {"$ne": null}}}},
        doc! {"$graphLookup": {"from": "people", "startWith": [c, "$n"], "connectFromField": "a", "connectToField": "a", "as": "x", "restrictSearchWithMatch": {"a": {"$ne": null}}}},
        doc! {"$merge": {"into": "customers", "let": {"k": c}, "whenMatched": [{"$set": {"ssn": "$$k"}}]}},
        doc! {"$merge": {"into": "customers", "let": {"k": c}, "whenMatched": [{"$set": {"y": {"$ifNull": ["$ssn", "$$k"]}}}]}},
        doc! {"$merge": {"into": "customers", "whenMatched": [{"$set": {"ssn": {"$ifNull": ["$$new.ssn", c]}}}]}},
        doc! {"$merge": {"into": "customers", "whenMatched": [{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"ssn": c}]}}]}},
    ];
    let mut commands: Vec<Document> = stages
        .iter()
        .map(|stage| aggregate(vec![stage.clone()]))
        .collect();
    for stage in stages {
        commands.push(doc! {"create": "seen", "viewOn": "customers", "pipeline": [stage.clone()]});
        commands.push(doc! {"explain": aggregate(vec![stage])});
    }
    commands.push(doc! {"aggregate": 1, "pipeline": [{"$documents": [{"ssn": c}]}, {"$unionWith": "customers"}], "cursor": {}});
    none_leaks(commands);
}

#[test]
fn a_constant_of_a_command_or_an_update_does_not_go_up_where_it_stands_for_a_sealed_value() {
    let c = CANARY;
    let mixed = |name: &str| -> Vec<Document> {
        vec![
            doc! {"$ifNull": ["$ssn", name]},
            doc! {"$not": [{"$ifNull": ["$ssn", name]}]},
            doc! {"$let": {"vars": {"j": name}, "in": {"$not": [{"$ifNull": ["$ssn", "$$j"]}]}}},
            doc! {"$size": {"$concatArrays": ["$tags", [name]]}},
            doc! {"$map": {"input": [name], "as": "j", "in": {"$ifNull": ["$ssn", "$$j"]}}},
            doc! {"$gt": [{"$arrayElemAt": [["$ssn", name], 0]}, null]},
            doc! {"$ifNull": ["$ssn", {"$toUpper": name}]},
        ]
    };
    let mut commands = Vec::new();
    for test in mixed("$$k") {
        let filter = doc! {"$expr": test.clone()};
        let variables = doc! {"k": c};
        commands.extend([
            doc! {"find": "customers", "filter": filter.clone(), "let": variables.clone()},
            doc! {"find": "customers", "projection": {"x": test.clone()}, "let": variables.clone()},
            doc! {"aggregate": "customers", "pipeline": [{"$match": filter.clone()}], "cursor": {}, "let": variables.clone()},
            doc! {"aggregate": "customers", "pipeline": [{"$set": {"x": test.clone()}}], "cursor": {}, "let": variables.clone()},
            doc! {"aggregate": "customers", "pipeline": [{"$set": {"ssn": {"$toUpper": "$$k"}}}], "cursor": {}, "let": variables.clone()},
            doc! {"delete": "customers", "deletes": [{"q": filter.clone(), "limit": 1}], "let": variables.clone()},
            doc! {"update": "customers", "updates": [{"q": filter.clone(), "u": {"$set": {"n": 1}}}], "let": variables.clone()},
            doc! {"update": "customers", "updates": [{"q": {}, "u": [{"$set": {"n": test.clone()}}], "c": variables.clone()}]},
            doc! {"update": "customers", "updates": [{"q": {}, "u": [{"$set": {"y": test.clone()}}, {"$unset": "y"}]}], "let": variables.clone()},
            doc! {"findAndModify": "customers", "query": filter, "update": [{"$set": {"n": {"$cond": [test, 1, 2]}}}], "let": variables},
        ]);
    }
    for change in [
        doc! {"$set": {"ssn": c}},
        doc! {"$set": {"ssn": {"$toUpper": c}}},
        doc! {"$set": {"payment": {"card": c}}},
        doc! {"$set": {"payment": {"$literal": {"card": c}}}},
        doc! {"$set": {"visits": [{"note": c}]}},
        doc! {"$set": {"visits": {"$concatArrays": ["$visits", [{"note": c}]]}}},
        doc! {"$set": {"visits": {"$map": {"input": "$visits", "as": "v", "in": {"$mergeObjects": ["$$v", {"note": c}]}}}}},
        doc! {"$replaceWith": {"$mergeObjects": [{"ssn": c}, "$$ROOT"]}},
        doc! {"$replaceWith": {"$setField": {"field": "ssn", "input": "$$ROOT", "value": c}}},
        doc! {"$set": {"y": ["$ssn", c]}},
        doc! {"$project": {"ssn": c}},
        doc! {"$project": {"address.city": c}},
    ] {
        commands.push(doc! {"update": "customers", "updates": [{"q": {}, "u": [change.clone()]}]});
        commands.push(doc! {"update": "customers", "updates": [{"q": {}, "u": [change.clone()], "upsert": true}]});
        commands.push(doc! {"findAndModify": "customers", "query": {}, "update": [change.clone(), {"$unset": "y"}]});
    }
    for other in [
        doc! {"find": "customers", "projection": {"ssn": c}},
        doc! {"find": "customers", "projection": {"ssn": {"$literal": c}}},
        doc! {"find": "customers", "projection": {"payment": {"card": c}}},
        doc! {"find": "customers", "projection": {"payment": {"$literal": {"card": c}}}},
        doc! {"find": "customers", "projection": {"address.city": c}},
        doc! {"find": "customers", "filter": {"$jsonSchema": {"properties": {"ssn": {"enum": [c]}}}}},
        doc! {"find": "customers", "filter": {"$jsonSchema": {"properties": {"payment": {"enum": [{"card": c}]}}}}},
        doc! {"find": "customers", "filter": {"$jsonSchema": {"enum": [{"ssn": c}]}}},
        doc! {"find": "customers", "filter": {"payment": {"card": c}}},
        doc! {"find": "customers", "filter": {"visits": {"$elemMatch": {"note": c}}}},
        doc! {"find": "customers", "filter": {"visits": {"$in": [{"note": c}]}}},
        doc! {"find": "customers", "filter": {"payment": {"$gt": {"card": c}}}},
        doc! {"find": "customers", "filter": {"visits": {"$all": [{"note": c}]}}},
        doc! {"find": "customers", "hint": {"payment": 1}, "min": {"payment": {"card": c}}},
        doc! {"create": "customers", "validator": {"$jsonSchema": {"properties": {"ssn": {"enum": [c]}}}}},
        doc! {"collMod": "customers", "validator": {"$expr": {"$ifNull": ["$ssn", c]}}},
        doc! {"createIndexes": "customers", "indexes": [{"key": {"n": 1}, "name": "i", "partialFilterExpression": {"payment": {"card": c}}}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$set": {"payment": {"card": c}}}}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$push": {"visits": {"note": c}}}}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$pull": {"visits": {"note": c}}}}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$pullAll": {"visits": [{"note": c}]}}}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$addToSet": {"visits": {"$each": [{"note": c}]}}}}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$set": {"visits.$[v].note": c}}, "arrayFilters": [{"v.note": c}]}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$set": {"visits.$[v].n": 1}}, "arrayFilters": [{"v": {"note": c}}]}]},
        doc! {"update": "customers", "updates": [{"q": {"visits.note": c}, "u": {"$set": {"visits.$.note": c}}}]},
        doc! {"update": "customers", "updates": [{"q": {"payment": {"card": c}}, "u": {"$set": {"n": 1}}, "upsert": true}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$setOnInsert": {"payment": {"card": c}}}, "upsert": true}]},
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$max": {"payment": {"card": c}}}}]},
        doc! {"distinct": "customers", "key": "payment", "query": {"payment": {"card": c}}},
    ] {
        commands.push(other);
    }
    none_leaks(commands);
}

/// A constant sealed for a field, as an expression.
fn constant(path: &str, value: &str) -> Document {
    doc! {"$literal": queryable(path, value)}
}

#[test]
fn a_constant_by_itself_is_sealed_in_arrays_and_documents_too() {
    let ssn = || constant("ssn", "x");
    let card = || constant("payment.card", "x");
    let note = || doc! {"$literal": sealed("x")};
    let each = "$$this";
    for (stage, expected) in [
        (
            doc! {"$set": {"y": ["$ssn", "x"]}},
            doc! {"$set": {"y": ["$ssn", ssn()]}},
        ),
        (
            doc! {"$set": {"y": {"$first": [["$ssn", "x"]]}}},
            doc! {"$set": {"y": {"$first": [["$ssn", ssn()]]}}},
        ),
        (
            doc! {"$replaceWith": {"$mergeObjects": [{"ssn": "x", "n": "x"}, "$$ROOT"]}},
            doc! {"$replaceWith": {"$mergeObjects": [{"ssn": ssn(), "n": "x"}, "$$ROOT"]}},
        ),
        (
            doc! {"$replaceWith": {"payment": {"card": "x", "n": "x"}}},
            doc! {"$replaceWith": {"payment": {"card": card(), "n": "x"}}},
        ),
        (
            doc! {"$set": {"y": {"$ifNull": ["$payment", {"card": "x"}]}}},
            doc! {"$set": {"y": {"$ifNull": ["$payment", {"card": card()}]}}},
        ),
        (
            doc! {"$set": {"payment": {"$literal": {"card": "x", "n": "x"}}}},
            doc! {"$set": {"payment": {"$literal": {"card": queryable("payment.card", "x"), "n": "x"}}}},
        ),
        (
            doc! {"$set": {"visits": {"$map": {"input": "$visits", "in": {"note": "x", "at": each}}}}},
            doc! {"$set": {"visits": {"$map": {"input": "$visits", "in": {"note": note(), "at": each}}}}},
        ),
        (
            doc! {"$replaceWith": {"$setField": {"field": "payment", "input": "$$ROOT", "value": {"card": "x"}}}},
            doc! {"$replaceWith": {"$setField": {"field": "payment", "input": "$$ROOT", "value": {"card": card()}}}},
        ),
    ] {
        assert_eq!(sent(aggregate(vec![stage])), aggregate(vec![expected]));
    }
    // And so it is found.
    let stages = |card: Bson, path: &str, value: Bson| {
        aggregate(vec![
            doc! {"$replaceWith": {"$mergeObjects": [{"payment": {"card": card}}, "$$ROOT"]}},
            doc! {"$match": {path: value}},
        ])
    };
    assert_eq!(
        sent(stages("d".into(), "payment.card", "d".into())),
        stages(
            constant("payment.card", "d").into(),
            "payment.card.e1",
            doc! {"$eq": token("payment.card", "d")}.into()
        ),
    );
}

#[test]
fn a_constant_among_open_values_stays_as_it_is() {
    for stage in [
        doc! {"$set": {"y": ["$name", "x"]}},
        doc! {"$set": {"y": {"s": "$ssn", "label": "x"}}},
        doc! {"$set": {"y": {"$ifNull": ["$ssn", 5]}}},
        doc! {"$set": {"y": {"$ifNull": ["$ssn", "$name", 5]}}},
        doc! {"$set": {"y": ["$ssn", 5, null]}},
        doc! {"$set": {"ssn": {"$concat": ["$name", "-", "$city"]}}},
        doc! {"$replaceWith": {"$mergeObjects": [{"n": "x", "m": {"a": "x"}}, "$$ROOT"]}},
        doc! {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"$literal": {"payment": {"n": "x"}}}]}},
        doc! {"$set": {"payment": {"n": "x"}}},
        doc! {"$set": {"y": {"$let": {"vars": {"t": "x"}, "in": {"$cond": [{"$eq": ["$name", "$$t"]}, "$ssn", null]}}}}},
        doc! {"$set": {"y": {"$map": {"input": ["x", "y"], "as": "k", "in": {"k": "$$k", "s": "$ssn"}}}}},
        doc! {"$set": {"y": {"$reduce": {"input": "$list", "initialValue": "", "in": {"$concat": ["$$value", "x"]}}}}},
        doc! {"$unionWith": {"coll": "orders", "pipeline": [{"$set": {"kind": "x"}}]}},
        doc! {"$group": {"_id": {"a": "$name", "b": "x"}, "s": {"$first": "$ssn"}}},
    ] {
        passes(aggregate(vec![stage]));
    }
    // What a field of the documents holds is the service's own.
    let stages = vec![
        doc! {"$set": {"k": "x"}},
        doc! {"$set": {"y": {"$ifNull": ["$ssn", "$k"]}}},
    ];
    passes(aggregate(stages));
}

#[test]
fn what_cannot_be_sealed_beside_sealed_values_is_refused_by_its_field() {
    for stage in [
        doc! {"$set": {"y": {"$ifNull": ["$ssn", {"$toUpper": CANARY}]}}},
        doc! {"$set": {"ssn": {"$toUpper": CANARY}}},
        doc! {"$set": {"y": {"$map": {"input": [CANARY], "as": "k", "in": {"$ifNull": ["$ssn", "$$k"]}}}}},
        doc! {"$fill": {"output": {"ssn": {"value": {"$toUpper": CANARY}}}}},
        doc! {"$unionWith": {"pipeline": [{"$documents": [{"ssn": CANARY}]}]}},
    ] {
        refused(aggregate(vec![stage]), &["ssn", "constant"]);
    }
    // Variables in `$documents` are followed as anywhere.
    let joined = |documents: Document| {
        aggregate(vec![
            doc! {"$lookup": {"let": {"s": "$ssn"}, "pipeline": [{"$documents": [documents]}], "as": "x"}},
        ])
    };
    assert_eq!(
        sent(joined(doc! {"a": {"$eq": ["$$s", "x"]}})),
        joined(doc! {"a": {"$eq": ["$$s.e1", token("ssn", "x")]}}),
    );
}

#[test]
fn a_constant_document_does_not_go_where_what_is_sealed_is_not_known() {
    let merged = doc! {"$set": {"w": {"$mergeObjects": [{"$literal": {"ssn": CANARY}}, "$$ROOT"]}}};
    let joined = doc! {"$unionWith": {"coll": "customers", "pipeline": [{"$match": {"n": 1}}]}};
    for stages in [
        vec![merged.clone(), joined.clone(), merged.clone()],
        vec![merged.clone(), joined.clone(), merged, joined],
    ] {
        let command =
            doc! {"aggregate": "customers", "pipeline": stages, "cursor": {}, "$db": "shop"};
        assert_eq!(road(&command), Road::Refused);
    }
}

#[test]
fn what_stays_plain_of_a_constant_document_does_not_stand_among_other_sealed_values() {
    for n in 0..3 {
        let first = [
            doc! {"$set": {"w": {"payment": {"card": "$payment.card"}}}},
            doc! {"$set": {"w": {"payment": "$payment"}}},
            doc! {"$set": {"w": {"payment": "$payment", "ssn": "$n"}}},
        ][n]
            .clone();
        let second = doc! {"$set": {"w": {"$mergeObjects": [{"$literal": {"ssn": CANARY, "payment": {"card": CANARY}}}, "$$ROOT"]}}};
        let command = doc! {"aggregate": "customers", "pipeline": [first, second], "cursor": {}, "$db": "shop"};
        assert_eq!(road(&command), Road::Refused, "{n}");
    }
}
