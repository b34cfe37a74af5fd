//! find and distinct: what else than the filter names fields.

use super::*;

#[test]
fn a_collation_is_refused_with_comparisons_of_sealed_fields_only() {
    let with = |filter: Document, locale: &str| {
        doc! {"find": "customers", "filter": filter, "collation": {"locale": locale}}
    };
    refused(with(doc! {"ssn": CANARY}, "en"), &["collation"]);
    passes(with(doc! {"name": "a", "ssn": {"$exists": true}}, "en"));
    sent(with(doc! {"ssn": "a"}, "simple"));
    // Each statement has a collation of its own.
    let updates = doc! {"update": "customers", "updates": [
        {"q": {"ssn": "a"}, "u": {"$set": {"x": 1}}},
        {"q": {"name": "a"}, "u": {"$set": {"x": 1}}, "collation": {"locale": "en"}},
    ]};
    sent(updates);
}

#[test]
fn options_of_find_that_name_fields_are_checked() {
    passes(
        doc! {"find": "customers", "sort": {"name": 1, "s": {"$meta": "textScore"}, "payment.open": -1},
        "skip": 1, "limit": 2, "batchSize": 3, "singleBatch": true, "hint": "ssn_1", "min": {"a": 1}, "max": {"a": 2},
        "projection": {"ssn": 1, "tags": {"$slice": [0, 1]}, "payment": {"card": 1}, "visits.$": 1, "n": {"$size": "$items"}},
        "let": {"x": 1}, "returnKey": false, "tailable": true, "awaitData": true, "noCursorTimeout": true},
    );
    assert_eq!(
        sent(
            doc! {"find": "customers", "hint": {"a": 1, "ssn": -1}, "projection": {"payment": {"$elemMatch": {"card": "c"}}}}
        ),
        doc! {"find": "customers", "hint": {"a": 1, "ssn.e1": -1},
        "projection": {"payment": {"$elemMatch": {"card.e1": {"$eq": token("payment.card", "c")}}}}},
    );
    for (option, value, named) in [
        ("sort", Bson::from(doc! {"ssn": 1}), "ssn"),
        ("sort", doc! {"payment": 1}.into(), "payment"),
        ("min", doc! {"ssn": CANARY}.into(), "min"),
        ("max", doc! {"ssn": CANARY}.into(), "max"),
        ("hint", doc! {"address": 1}.into(), "address"),
        ("hint", doc! {"ssn": CANARY}.into(), "ssn"),
        ("returnKey", true.into(), "returnKey"),
        ("projection", doc! {"ssn.c": 1}.into(), "ssn"),
        ("projection", doc! {"ssn": {"c": 1}}.into(), "ssn"),
        ("projection", doc! {"x": {"$toUpper": "$ssn"}}.into(), "ssn"),
        (
            "projection",
            doc! {"x": {"y": [{"$concat": ["$ssn", "a"]}]}}.into(),
            "ssn",
        ),
        (
            "projection",
            doc! {"x": {"$strLenCP": "$$CURRENT.payment.card"}}.into(),
            "payment.card",
        ),
        (
            "projection",
            doc! {"x": {"$getField": {"$concat": ["s", "sn"]}}}.into(),
            "$getField",
        ),
        ("projection", doc! {"ssn": CANARY}.into(), "ssn"),
        (
            "projection",
            doc! {"address": {"$slice": 1}}.into(),
            "address",
        ),
        (
            "projection",
            doc! {"payment": {"$elemMatch": {"open": 1}, "$slice": {"card": CANARY}}}.into(),
            "payment",
        ),
        (
            "projection",
            doc! {"x": {"$_internalFindAllValuesAtPath": "ssn"}}.into(),
            "$_internal",
        ),
        ("resumeAfter", 1.into(), "resumeAfter"),
    ] {
        refused(doc! {"find": "customers", option: value}, &[named]);
    }
}

#[test]
fn distinct_is_by_open_fields_as_it_is_and_by_tokens_in_an_aggregation() {
    assert_eq!(
        sent(doc! {"distinct": "customers", "key": "name", "query": {"ssn": "a"}}),
        doc! {"distinct": "customers", "key": "name", "query": {"ssn.e1": {"$eq": token("ssn", "a")}}},
    );
    let sent = upstream(
        doc! {"distinct": "customers", "key": "payment.card", "query": {"ssn": "a"}, "comment": 1},
    );
    let unwind = |path: &str| doc! {"$unwind": {"path": path, "preserveNullAndEmptyArrays": true}};
    assert_eq!(
        sent.body,
        doc! {"aggregate": "customers", "pipeline": [
            {"$match": {"ssn.e1": {"$eq": token("ssn", "a")}}},
            unwind("$payment"),
            unwind("$payment.card"),
            {"$match": {"payment.card": {"$exists": true}, "$expr": {"$not": [{"$isArray": ["$payment.card"]}]}}},
            {"$group": {"_id": {"$ifNull": ["$payment.card.e1", "$payment.card"]}, "value": {"$first": "$payment.card"}}},
            {"$group": {"_id": null, "values": {"$push": "$value"}}},
        ], "cursor": {}, "comment": 1},
    );
    assert!(matches!(sent.plan, ReplyPlan::Distinct(_)));
    for key in ["payment", "address", "address.city", "tags.0"] {
        refused(doc! {"distinct": "customers", "key": key}, &[key]);
    }
}

#[test]
fn a_projection_chooses_among_sealed_elements() {
    let project = |condition: Document| doc! {"find": "customers", "projection": {"tags": {"$elemMatch": condition}, "ssn": 1}};
    for (condition, expected) in [
        (doc! {"$eq": "t"}, doc! {"e1": {"$eq": token("tags", "t")}}),
        (
            doc! {"$ne": "t", "$type": "string"},
            doc! {"e1": {"$ne": token("tags", "t")}},
        ),
        (doc! {"$type": ["string", "null"]}, doc! {"$type": [3, 10]}),
    ] {
        assert_eq!(sent(project(condition)), project(expected));
    }
    passes(project(doc! {"$ne": null}));
    for (condition, named) in [
        (doc! {"$ne": CANARY}, "null"),
        (doc! {"$gt": CANARY}, "$gt"),
        (doc! {"x": CANARY}, "field name"),
        (doc! {}, "empty"),
    ] {
        refused(project(condition), &["tags", named]);
    }
}
