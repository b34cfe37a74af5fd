//! Indexes, collections and views.

use super::*;

fn index(index: Document) -> Document {
    doc! {"createIndexes": "customers", "indexes": [{"key": {"name": 1}, "name": "n"}, index], "commitQuorum": "majority"}
}

#[test]
fn indexes_of_equality_fields_are_made_on_tokens_under_the_users_names() {
    for (key, expected) in [
        (doc! {"ssn": 1}, doc! {"ssn.e1": 1}),
        (
            doc! {"name": 1, "payment.card": -1, "tags": 1.0},
            doc! {"name": 1, "payment.card.e1": -1, "tags.e1": 1.0},
        ),
        (doc! {"age": "hashed"}, doc! {"age.e1": "hashed"}),
        (
            doc! {"contacts.home.phone": 1_i64},
            doc! {"contacts.home.phone.e1": 1_i64},
        ),
        (
            doc! {"name": "text", "place": "2dsphere", "open.$**": 1},
            doc! {"name": "text", "place": "2dsphere", "open.$**": 1},
        ),
    ] {
        let named =
            |key: Document| index(doc! {"key": key, "name": "mine", "unique": true, "v": 2});
        assert_eq!(sent(named(key.clone())), named(expected.clone()));
        let dropped = |key: Document| doc! {"dropIndexes": "customers", "index": key};
        assert_eq!(sent(dropped(key.clone())), dropped(expected.clone()));
        let hidden = |key: Document| doc! {"collMod": "customers", "index": {"keyPattern": key, "hidden": true}};
        assert_eq!(sent(hidden(key)), hidden(expected));
    }
    for index in [Bson::from("mine"), vec!["a", "b"].into(), "*".into()] {
        passes(doc! {"dropIndexes": "customers", "index": index});
    }
}

#[test]
fn partial_indexes_compare_tokens() {
    let partial = |filter: Document| {
        index(doc! {"key": {"name": 1}, "name": "mine", "partialFilterExpression": filter})
    };
    assert_eq!(
        sent(partial(doc! {"ssn": "a", "age": {"$exists": true}})),
        partial(doc! {"ssn.e1": {"$eq": token("ssn", "a")}, "age": {"$exists": true}}),
    );
    refused(partial(doc! {"ssn": {"$gt": CANARY}}), &["ssn", "$gt"]);
    refused(
        index(
            doc! {"key": {"name": 1}, "name": "mine", "partialFilterExpression": {"ssn": CANARY}, "collation": {"locale": "en"}},
        ),
        &["collation"],
    );
}

#[test]
fn indexes_that_would_not_do_what_they_say_are_refused() {
    for (options, named) in [
        (doc! {"key": {"address": 1}}, "address"),
        (doc! {"key": {"address.city": 1}}, "address"),
        (doc! {"key": {"payment": 1}}, "payment"),
        (doc! {"key": {"ssn.e1": 1}}, "ssn.e1"),
        (doc! {"key": {"tags.0": 1}}, "tags.0"),
        (doc! {"key": {"ssn": "text"}}, "ssn"),
        (doc! {"key": {"ssn": "2d"}}, "ssn"),
        (doc! {"key": {"$**": "text"}}, "text"),
        (doc! {"key": {"ssn.$**": 1}}, "ssn"),
        (doc! {"key": {"address.city.$**": 1}}, "address"),
        (
            doc! {"key": {"$**": 1}, "wildcardProjection": {"ssn.e1": 1}},
            "ssn",
        ),
        (doc! {"key": {"name": "text"}, "weights": {"ssn": 2}}, "ssn"),
        (doc! {"key": {"ssn": 1}, "expireAfterSeconds": 5}, "`ssn`"),
        (doc! {"key": {"ssn": "2dsphere"}}, "2dsphere"),
        (
            doc! {"key": {"ssn": 1}, "unique": true, "sparse": true},
            "sparse",
        ),
        (
            doc! {"key": {"ssn": 1}, "collation": {"locale": "en"}},
            "collation",
        ),
        (doc! {"key": {"ssn": 1}, "frobnicate": CANARY}, "frobnicate"),
    ] {
        refused(index(options), &["shop.customers", named]);
    }
    for key in ["$**", "payment.$**", "contacts.$**", "open.$**"] {
        passes(index(
            doc! {"key": {key: 1}, "wildcardProjection": {"ssn": 0, "payment.card": 0}},
        ));
        passes(doc! {"find": "customers", "hint": {key: 1}});
    }
    sent(index(
        doc! {"key": {"ssn": 1}, "sparse": true, "collation": {"locale": "simple"}},
    ));
    passes(index(
        doc! {"key": {"at": 1}, "name": "ttl", "expireAfterSeconds": 5, "sparse": true, "unique": true, "collation": {"locale": "en"}},
    ));
}

#[test]
fn index_lists_are_planned_to_get_the_users_names() {
    let list = upstream(doc! {"listIndexes": "customers", "cursor": {}});
    assert!(list.unchanged);
    assert!(matches!(list.plan, ReplyPlan::Described(_)));
    assert!(matches!(
        upstream(doc! {"listIndexes": "orders"}).plan,
        ReplyPlan::Relay
    ));
}

#[test]
fn a_sealed_collection_is_made_with_what_does_not_concern_its_fields() {
    passes(
        doc! {"create": "customers", "capped": true, "size": 5, "collation": {"locale": "simple"},
        "validator": {"name": {"$type": "string"}, "ssn": {"$exists": true}}, "validationLevel": "strict"},
    );
    passes(
        doc! {"collMod": "customers", "validator": {}, "changeStreamPreAndPostImages": {"enabled": true}},
    );
    for (options, named) in [
        (doc! {"validator": {"ssn": CANARY}}, "validator"),
        (doc! {"validator": {"age": {"$type": "int"}}}, "$type"),
        (
            doc! {"validator": {"ssn": {"$in": ["a", null]}}},
            "validator",
        ),
        (
            doc! {"validator": {"$jsonSchema": {"properties": {"ssn": {"enum": [CANARY]}}}}},
            "enum",
        ),
        (
            doc! {"validator": {"$expr": {"$gt": ["$ssn", CANARY]}}},
            "ssn",
        ),
        (doc! {"validator": [{"ssn": CANARY}]}, "document"),
        (doc! {"collation": {"locale": "en"}}, "collation"),
        (doc! {"viewOn": "orders"}, "viewOn"),
        (doc! {"timeseries": {"timeField": "ssn"}}, "timeField"),
        (
            doc! {"timeseries": {"timeField": "at", "metaField": "payment"}},
            "metaField",
        ),
        (
            doc! {"timeseries": {"timeField": "at", "x": CANARY}},
            "time series",
        ),
        (doc! {"encryptedFields": {"fields": []}}, "encryptedFields"),
    ] {
        let mut create = doc! {"create": "customers"};
        create.extend(options.clone());
        refused(create, &[named]);
        let mut modify = doc! {"collMod": "customers"};
        modify.extend(options);
        refused(modify, &[named]);
    }
}

#[test]
fn views_and_javascript_are_not_written_by_hand() {
    for command in [
        doc! {"insert": "system.views", "documents": [{"_id": "shop.v", "viewOn": "customers"}]},
        doc! {"update": "system.views", "updates": []},
        doc! {"findAndModify": "system.js", "update": {}},
    ] {
        refused(command, &["create"]);
    }
    passes(doc! {"insert": "system.views", "documents": [], "$db": "other"});
}

#[test]
fn validators_ask_for_presence_and_types_as_they_are_stored() {
    let create = |validator: Document| doc! {"create": "customers", "validator": validator};
    assert_eq!(
        sent(create(
            doc! {"ssn": {"$type": "string"}, "age": {"$ne": null}}
        )),
        create(doc! {"ssn": {"$type": [3]}, "age": {"$ne": null}}),
    );
    assert_eq!(
        sent(create(
            doc! {"$or": [{"ssn": {"$not": {"$type": "string"}}}, {"name": 1}]}
        )),
        create(doc! {"$or": [{"$nor": [{"ssn": {"$type": [3]}}]}, {"name": 1}]}),
    );
}

#[test]
fn json_schemas_hold_sealed_fields_to_presence_and_types() {
    let schema =
        |schema: Document| doc! {"create": "customers", "validator": {"$jsonSchema": schema}};
    passes(schema(doc! {
        "bsonType": "object", "required": ["ssn", "payment"], "additionalProperties": false,
        "properties": {
            "name": {"enum": ["a"], "pattern": "^a"}, "payment": {"type": "object", "required": ["card"]},
            "visits": {"minItems": 1, "items": {"properties": {"at": {"minimum": 1}}}},
            "tags": {"maxItems": 3}, "contacts": {"enum": [{}, null]},
        },
        "dependencies": {"ssn": ["name"], "name": {"required": ["age"]}},
    }));
    for (given, expected) in [
        (doc! {"bsonType": "string"}, doc! {"bsonType": ["object"]}),
        (
            doc! {"type": ["string", "null"]},
            doc! {"bsonType": ["object", "null"]},
        ),
        (doc! {"bsonType": "int"}, doc! {"bsonType": ["minKey"]}),
        (
            doc! {"anyOf": [{"bsonType": "array"}, {"not": {"bsonType": "string"}}], "title": "t"},
            doc! {"anyOf": [{"bsonType": ["array"]}, {"not": {"bsonType": ["object"]}}], "title": "t"},
        ),
        (
            doc! {"items": {"bsonType": ["string", "null"]}, "minItems": 1},
            doc! {"items": {"bsonType": ["object", "null"]}, "minItems": 1},
        ),
    ] {
        assert_eq!(
            sent(schema(doc! {"properties": {"tags": given}})),
            schema(doc! {"properties": {"tags": expected}}),
        );
    }
    let note = |note: Document| {
        schema(doc! {"properties": {"visits": {"items": {"properties": {"note": note}}}}})
    };
    assert_eq!(
        sent(note(doc! {"bsonType": "string"})),
        note(doc! {"bsonType": ["binData"]}),
    );
    for (given, named) in [
        (doc! {"properties": {"ssn": {"enum": [CANARY]}}}, "enum"),
        (doc! {"properties": {"ssn": {"pattern": CANARY}}}, "pattern"),
        (
            doc! {"properties": {"ssn": {"required": [CANARY]}}},
            "required",
        ),
        (
            doc! {"properties": {"age": {"bsonType": "int"}}},
            "bsonType",
        ),
        (
            doc! {"properties": {"age": {"bsonType": CANARY}}},
            "bsonType",
        ),
        (doc! {"properties": {"ssn": {CANARY: 1}}}, "unknown keyword"),
        (
            doc! {"properties": {"tags": {"uniqueItems": true}}},
            "uniqueItems",
        ),
        (
            doc! {"properties": {"visits": {"uniqueItems": true}}},
            "uniqueItems",
        ),
        (doc! {"properties": {"address": {"type": "object"}}}, "type"),
        (
            doc! {"properties": {"payment": {"enum": [{"card": CANARY}]}}},
            "enum",
        ),
        (
            doc! {"patternProperties": {"^s": {"type": "string"}}},
            "patternProperties",
        ),
        (
            doc! {"additionalProperties": {"type": "string"}},
            "additionalProperties",
        ),
    ] {
        refused(schema(given.clone()), &[named]);
        refused(
            doc! {"find": "customers", "filter": {"$jsonSchema": given}},
            &[named],
        );
    }
}

#[test]
fn partial_indexes_by_type_are_those_that_equality_uses() {
    let partial = |filter: Document| {
        index(doc! {"key": {"name": 1}, "name": "mine", "partialFilterExpression": filter})
    };
    assert_eq!(
        sent(partial(doc! {"ssn": {"$type": "string"}})),
        partial(doc! {"ssn.e1": {"$exists": true}}),
    );
}

#[test]
fn query_shapes_of_the_plan_cache_are_those_of_the_queries() {
    for command in [
        "planCacheClear",
        "planCacheClearFilters",
        "planCacheSetFilter",
    ] {
        let shape = |query: Document, keys: Document| doc! {command: "customers", "query": query, "sort": {"name": 1}, "projection": {"ssn": 1}, "indexes": [keys, "mine"]};
        assert_eq!(
            sent(shape(doc! {"ssn": "a"}, doc! {"ssn": 1})),
            shape(
                doc! {"ssn.e1": {"$eq": token("ssn", "a")}},
                doc! {"ssn.e1": 1}
            ),
        );
        passes(doc! {command: "customers"});
        refused(
            doc! {command: "customers", "query": {"ssn": {"$gt": CANARY}}},
            &["ssn", "$gt"],
        );
        refused(
            doc! {command: "customers", "sort": {"ssn": 1}},
            &["ssn", "sort"],
        );
        passes(doc! {command: "orders", "query": {"ssn": {"$gt": 1}}});
    }
}

#[test]
fn measurements_of_a_time_series_may_be_sealed_but_not_what_it_is_sorted_by() {
    passes(
        doc! {"create": "customers", "timeseries": {"timeField": "at", "metaField": "place", "granularity": "hours"}},
    );
    passes(doc! {"collMod": "customers", "timeseries": {"granularity": "hours"}});
    for command in ["find", "aggregate", "insert", "update", "delete"] {
        refused(doc! {command: "system.buckets.customers"}, &["time series"]);
    }
    passes(doc! {"find": "system.buckets.orders"});
}
