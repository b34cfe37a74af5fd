//! Filters: what of them tokens and presence answer, and what is refused.

use bson::oid::ObjectId;
use bson::{Decimal128, Regex};

use super::*;

fn find(filter: Document) -> Document {
    doc! {"find": "customers", "filter": filter}
}

#[track_caller]
fn becomes(filter: Document, expected: Document) {
    assert_eq!(sent(find(filter.clone())), find(expected), "{filter}");
}

#[test]
fn equality_is_asked_of_tokens() {
    let token = |value: &str| token("ssn", value);
    let cases = [
        (doc! {"ssn": "a"}, doc! {"ssn.e1": {"$eq": token("a")}}),
        (
            doc! {"ssn": {"$eq": "a"}},
            doc! {"ssn.e1": {"$eq": token("a")}},
        ),
        (
            doc! {"ssn": {"$ne": "a"}},
            doc! {"ssn.e1": {"$ne": token("a")}},
        ),
        (
            doc! {"ssn": {"$in": ["a", "b"]}},
            doc! {"ssn.e1": {"$in": [token("a"), token("b")]}},
        ),
        (
            doc! {"ssn": {"$in": ["a"]}},
            doc! {"ssn.e1": {"$in": [token("a")]}},
        ),
        (
            doc! {"ssn": {"$nin": ["a"]}},
            doc! {"ssn.e1": {"$nin": [token("a")]}},
        ),
        (
            doc! {"ssn": {"$all": ["a", "b"]}},
            doc! {"ssn.e1": {"$all": [token("a"), token("b")]}},
        ),
        (
            doc! {"ssn": {"$not": {"$eq": "a"}}},
            doc! {"$nor": [{"ssn.e1": {"$eq": token("a")}}]},
        ),
        (
            doc! {"ssn": {"$not": {"$not": {"$in": ["a"]}}}},
            doc! {"$nor": [{"$nor": [{"ssn.e1": {"$in": [token("a")]}}]}]},
        ),
        (
            doc! {"ssn": {"$exists": true, "$ne": "a"}},
            doc! {"ssn": {"$exists": true}, "ssn.e1": {"$ne": token("a")}},
        ),
        (
            doc! {"a": 1, "ssn": "a", "b": {"$gt": 2}},
            doc! {"a": 1, "ssn.e1": {"$eq": token("a")}, "b": {"$gt": 2}},
        ),
    ];
    for (filter, expected) in cases {
        becomes(filter, expected);
    }
}

#[test]
fn logical_operators_are_followed() {
    let token = |value: &str| doc! {"ssn.e1": {"$eq": token("ssn", value)}};
    for operator in ["$and", "$or", "$nor"] {
        becomes(
            doc! {operator: [{"ssn": "a"}, {"$and": [{"ssn": "b", "x": 1}]}], "y": 1},
            doc! {operator: [token("a"), {"$and": [{"ssn.e1": token("b").get("ssn.e1").unwrap(), "x": 1}]}], "y": 1},
        );
    }
}

#[test]
fn null_among_values_is_asked_beside_them() {
    let tokens = |values: &[&str]| {
        values
            .iter()
            .map(|value| token("ssn", *value))
            .collect::<Vec<_>>()
    };
    becomes(
        doc! {"ssn": {"$in": ["a", null, "b"]}},
        doc! {"$or": [{"ssn.e1": {"$in": tokens(&["a", "b"])}}, {"ssn": null}]},
    );
    becomes(
        doc! {"ssn": {"$nin": [null, "a"]}, "z": 1},
        doc! {"$nor": [{"ssn.e1": {"$in": tokens(&["a"])}}, {"ssn": null}], "z": 1},
    );
    becomes(
        doc! {"ssn": {"$not": {"$in": ["a", null]}}},
        doc! {"$nor": [{"$or": [{"ssn.e1": {"$in": tokens(&["a"])}}, {"ssn": null}]}]},
    );
}

#[test]
fn presence_and_open_fields_are_asked_as_they_are() {
    for filter in [
        doc! {},
        doc! {"ssn": null},
        doc! {"ssn": {"$ne": null}},
        doc! {"ssn": {"$in": [null]}, "age": {"$nin": [null]}, "address": {"$in": []}},
        doc! {"ssn": {"$exists": false}, "address": {"$exists": true}},
        doc! {"ssn": {"$not": {"$exists": true}}, "address": {"$not": {"$eq": null}}},
        doc! {"address": {"$all": []}, "ssn": {"$all": []}},
        doc! {"address": {"$all": [null]}},
        doc! {"tags": {"$size": 2}, "tags.0": {"$exists": true}},
        doc! {"payment": {"$exists": true}, "payment.open": {"$gt": 1}},
        doc! {"visits": {"$size": 1, "$type": ["array", 4], "$ne": null, "$in": [null, 5]}},
        doc! {"visits": {"$elemMatch": {"at": {"$gt": 1}, "note": {"$exists": true}}}},
        doc! {"visits": {"$elemMatch": {"$exists": true}}},
        doc! {"visits": {"$not": {"$size": 2}}},
        doc! {"name": Regex {pattern: "^a".try_into().unwrap(), options: "i".try_into().unwrap()}, "x": {"$elemMatch": {"ssn": 1}}},
        doc! {"$expr": {"$gt": ["$a.b", 1]}, "$comment": "c", "$text": {"$search": "s"}},
        doc! {"_id": 5, "": 1, "0.ssn": 1, "x.ssn": 1},
    ] {
        passes(find(filter));
    }
}

#[test]
fn an_empty_all_matches_nothing_whatever_the_field_answers() {
    // Not an empty filter, which would match everything.
    passes(doc! {"delete": "customers", "deletes": [{"q": {"address": {"$all": []}}, "limit": 0}]});
}

#[test]
fn numbers_that_mongodb_holds_equal_have_one_token() {
    let decimal: Decimal128 = "5.00".parse().unwrap();
    for five in [Bson::from(5_i32), 5_i64.into(), 5.0.into(), decimal.into()] {
        becomes(
            doc! {"age": five},
            doc! {"age.e1": {"$eq": token("age", 5_i32)}},
        );
    }
    let tenth: Decimal128 = "0.1".parse().unwrap();
    assert_ne!(token("age", tenth), token("age", 0.1));
}

#[test]
fn a_value_of_a_type_that_is_never_stored_matches_nothing() {
    for value in [
        Bson::from(5),
        true.into(),
        ObjectId::from_bytes([7; 12]).into(),
    ] {
        becomes(
            doc! {"ssn": value.clone()},
            doc! {"ssn.e1": {"$eq": token("ssn", value)}},
        );
    }
}

#[test]
fn paths_go_through_documents_arrays_and_stars() {
    let card = token("payment.card", "c");
    let phone = token("contacts.*.phone", "p");
    becomes(
        doc! {"payment.card": "c"},
        doc! {"payment.card.e1": {"$eq": &card}},
    );
    becomes(
        doc! {"payment.3.card": "c"},
        doc! {"payment.3.card.e1": {"$eq": &card}},
    );
    becomes(
        doc! {"contacts.home.phone": "p"},
        doc! {"contacts.home.phone.e1": {"$eq": &phone}},
    );
    becomes(
        doc! {"payment": {"$elemMatch": {"card": "c", "open": 1}}},
        doc! {"payment": {"$elemMatch": {"card.e1": {"$eq": &card}, "open": 1}}},
    );
    becomes(
        doc! {"payment": {"$all": [{"$elemMatch": {"card": "c"}}], "$exists": true}},
        doc! {"payment": {"$all": [{"$elemMatch": {"card.e1": {"$eq": &card}}}], "$exists": true}},
    );
    becomes(
        doc! {"payment": {"$not": {"$elemMatch": {"card": {"$ne": "c"}}}}},
        doc! {"payment": {"$not": {"$elemMatch": {"card.e1": {"$ne": &card}}}}},
    );
    becomes(
        doc! {"payment": {"$elemMatch": {"$or": [{"card": "c"}, {"open": 1}]}}},
        doc! {"payment": {"$elemMatch": {"$or": [{"card.e1": {"$eq": &card}}, {"open": 1}]}}},
    );
    becomes(
        doc! {"contacts": {"$elemMatch": {"home.phone": "p"}}},
        doc! {"contacts": {"$elemMatch": {"home.phone.e1": {"$eq": &phone}}}},
    );
}

#[test]
fn arrays_of_sealed_elements_answer_element_conditions() {
    let token = |value: &str| token("tags", value);
    becomes(
        doc! {"tags.0": "a"},
        doc! {"tags.0.e1": {"$eq": token("a")}},
    );
    becomes(
        doc! {"tags": {"$elemMatch": {"$eq": "a"}}},
        doc! {"tags": {"$elemMatch": {"e1": {"$eq": token("a")}}}},
    );
    becomes(
        doc! {"tags": {"$size": 2, "$elemMatch": {"$in": ["a", "b"]}}},
        doc! {"tags": {"$size": 2, "$elemMatch": {"e1": {"$in": [token("a"), token("b")]}}}},
    );
    becomes(
        doc! {"tags": {"$elemMatch": {"$ne": "a"}}},
        doc! {"$or": [
            {"tags": {"$elemMatch": {"e1": {"$ne": token("a")}}}},
            {"tags": {"$elemMatch": {"$type": [10, 6]}}},
        ]},
    );
    becomes(
        doc! {"tags": {"$elemMatch": {"$nin": ["a", null], "$in": ["b"]}}},
        doc! {"tags": {"$elemMatch": {"e1": {"$eq": token("b")}}}},
    );
    becomes(
        doc! {"tags": {"$elemMatch": {"$type": "string"}}},
        doc! {"tags": {"$elemMatch": {"$type": [3]}}},
    );
    becomes(
        doc! {"tags": {"$elemMatch": {"$eq": "a", "$exists": false}}},
        doc! {"tags": {"$elemMatch": {"$type": [-1]}}},
    );
    becomes(
        doc! {"tags": {"$all": [{"$elemMatch": {"$eq": "a"}}, {"$elemMatch": {"$eq": null}}]}},
        doc! {"$and": [{"tags": {"$elemMatch": {"e1": {"$eq": token("a")}}}}, {"tags": {"$elemMatch": {"$eq": null}}}]},
    );
    becomes(
        doc! {"tags": {"$elemMatch": {}}},
        doc! {"tags": {"$elemMatch": {"$type": [-1]}}},
    );
    becomes(
        doc! {"tags": {"$all": ["a", null]}},
        doc! {"tags": {"$all": [null]}, "tags.e1": {"$all": [token("a")]}},
    );
    passes(find(
        doc! {"tags": {"$elemMatch": {"$ne": null}}, "notes": {"$elemMatch": {"$exists": true}}},
    ));
}

#[test]
fn documents_that_hold_nothing_sealed_are_compared_as_they_are() {
    passes(find(doc! {
        "visits": [], "payment": {"$ne": {"open": "x"}}, "contacts": {"$in": [{}, {"home": {"name": 1}}]},
    }));
    passes(find(
        doc! {"visits": {"$all": [{"at": 1}]}, "payment": {"$nin": [{"card": null}]}},
    ));
}

#[test]
fn what_neither_tokens_nor_presence_answer_is_refused() {
    let regex = Regex {
        pattern: CANARY.try_into().unwrap(),
        options: "".try_into().unwrap(),
    };
    for (filter, path, operator) in [
        (doc! {"ssn": {"$gt": CANARY}}, "ssn", "$gt"),
        (doc! {"ssn": {"$eq": "a", "$lt": CANARY}}, "ssn", "$lt"),
        (doc! {"ssn": {"$regex": CANARY}}, "ssn", "$regex"),
        (doc! {"ssn": regex.clone()}, "ssn", "regular expression"),
        (
            doc! {"ssn": {"$in": [regex.clone()]}},
            "ssn",
            "regular expression",
        ),
        (
            doc! {"ssn": {"$not": regex.clone()}},
            "ssn",
            "regular expression",
        ),
        (doc! {"ssn": {"$exists": CANARY}}, "ssn", "$exists"),
        (doc! {"tags": {"$size": CANARY}}, "tags", "$size"),
        (doc! {"ssn": {"a": CANARY}}, "ssn", "document"),
        (doc! {"ssn": [CANARY]}, "ssn", "array"),
        (doc! {"ssn": {"$in": [[CANARY]]}}, "ssn", "array"),
        (
            doc! {"tags": {"$elemMatch": {"$gt": CANARY}}},
            "tags",
            "$gt",
        ),
        (
            doc! {"tags": {"$elemMatch": {"$or": [{"$eq": CANARY}]}}},
            "tags",
            "$or",
        ),
        (
            doc! {"tags": {"$all": [{"$elemMatch": {"a": CANARY}}]}},
            "tags",
            "$elemMatch",
        ),
        (
            doc! {"notes": {"$elemMatch": {"$ne": CANARY}}},
            "notes",
            "$elemMatch",
        ),
        (doc! {"notes": {"$elemMatch": {}}}, "notes", "$elemMatch"),
        (doc! {"age": {"$type": "int"}}, "age", "$type"),
        (
            doc! {"address": {"$type": ["string", "null"]}},
            "address",
            "$type",
        ),
        (doc! {"notes.0": {"$type": "null"}}, "notes.0", "$type"),
        (doc! {"notes.0": {"$size": 1}}, "notes.0", "$size"),
        (doc! {"address": {"$size": 1}}, "address", "$size"),
        (doc! {"address": CANARY}, "address", "$eq"),
        (doc! {"address": {"$nin": [CANARY]}}, "address", "$nin"),
        (doc! {"address.city": CANARY}, "address", "address.city"),
        (doc! {"ssn.c": CANARY}, "ssn", "ssn.c"),
        (doc! {"ssn.e1": CANARY}, "ssn", "ssn.e1"),
        (doc! {"tags.0.0": CANARY}, "tags", "array within an array"),
        (
            doc! {"contacts.0.phone": CANARY},
            "contacts.0.phone",
            "number",
        ),
        (
            doc! {"payment": {"card": CANARY}},
            "payment",
            "whole document",
        ),
        (
            doc! {"payment": [{"card": CANARY}]},
            "payment",
            "whole document",
        ),
        (
            doc! {"payment": {"$in": [1, {"card": CANARY}]}},
            "payment",
            "whole document",
        ),
        (
            doc! {"payment": {"$gte": {"card": CANARY}}},
            "payment",
            "whole document",
        ),
        (
            doc! {"payment": {"$type": {"card": CANARY}}},
            "payment",
            "whole document",
        ),
        (
            doc! {"payment": {"$mod": [{"card": CANARY}]}},
            "payment",
            "whole document",
        ),
        (
            doc! {"payment": {"$geoWithin": CANARY}},
            "payment",
            "$geoWithin",
        ),
        (
            doc! {"payment": {"$all": [{"card": CANARY}]}},
            "",
            "whole document",
        ),
        (
            doc! {"visits": {"$elemMatch": {"note": CANARY}}},
            "note",
            "$eq",
        ),
        (doc! {"$where": CANARY}, "", "$where"),
        (doc! {"$expr": {"$gt": ["$ssn", CANARY]}}, "ssn", "$expr"),
        (
            doc! {"$expr": {"$eq": ["$payment", CANARY]}},
            "payment",
            "$expr",
        ),
        (
            doc! {"$expr": {"$function": {"body": CANARY}}},
            "",
            "$function",
        ),
    ] {
        for command in [
            find(filter.clone()),
            doc! {"find": "customers", "filter": {"$and": [{"x": 1}, filter.clone()]}},
            doc! {"count": "customers", "query": filter.clone()},
        ] {
            let refusal = refused(command, &["shop.customers", path, operator]);
            assert_eq!(refusal.kind, RefusalKind::NotSupported);
        }
    }
}

#[test]
fn types_are_asked_of_what_is_stored() {
    for (filter, expected) in [
        (
            doc! {"ssn": {"$type": "string"}},
            doc! {"ssn.e1": {"$exists": true}},
        ),
        (
            doc! {"ssn": {"$type": ["string", 16]}},
            doc! {"ssn.e1": {"$exists": true}},
        ),
        (
            doc! {"age": {"$type": "number"}},
            doc! {"age.e1": {"$exists": true}},
        ),
        (
            doc! {"tags.0": {"$type": 2.0}},
            doc! {"tags.0.e1": {"$exists": true}},
        ),
        (
            doc! {"ssn": {"$type": ["string", "null"]}},
            doc! {"ssn": {"$type": [3, 10]}},
        ),
        (
            doc! {"ssn": {"$type": "object"}},
            doc! {"ssn": {"$type": [-1]}},
        ),
        (
            doc! {"tags": {"$type": ["array", "bool"]}},
            doc! {"tags": {"$type": [4]}},
        ),
        (
            doc! {"visits.note": {"$type": "string"}},
            doc! {"visits.note": {"$type": [5]}},
        ),
        (
            doc! {"address": {"$type": ["null", "undefined"]}},
            doc! {"address": {"$type": [10, 6]}},
        ),
        (
            doc! {"ssn": {"$not": {"$type": "string"}}},
            doc! {"$nor": [{"ssn.e1": {"$exists": true}}]},
        ),
    ] {
        becomes(filter, expected);
    }
    passes(find(
        doc! {"ssn": {"$type": []}, "age": {"$size": 1}, "tags.0": {"$size": 2}},
    ));
    for name in [
        CANARY.into(),
        Bson::Int32(4711),
        doc! {"x": CANARY}.into(),
        "missing".into(),
    ] {
        let refusal = refused(find(doc! {"ssn": {"$type": [name]}}), &["ssn", "$type"]);
        assert_eq!(refusal.kind, RefusalKind::BadValue);
    }
}

#[test]
fn null_by_an_index_is_told_from_what_documents_lack_once_they_are_sealed() {
    let null = vec![
        doc! {"tags.0": {"$type": [10, 6]}},
        doc! {"tags": {"$not": {"$type": 4}}},
    ];
    let mut mixed = null.clone();
    mixed.insert(0, doc! {"tags.0.e1": {"$in": [token("tags", "a")]}});
    becomes(doc! {"tags.0": null}, doc! {"$or": &null});
    becomes(doc! {"tags.0": {"$ne": null}}, doc! {"$nor": &null});
    becomes(doc! {"tags.0": {"$in": [null, "a"]}}, doc! {"$or": &mixed});
    becomes(doc! {"tags.0": {"$nin": [null, "a"]}}, doc! {"$nor": mixed});
    becomes(
        doc! {"tags.0": {"$all": [null, "a"]}},
        doc! {"tags.0.e1": {"$all": [token("tags", "a")]}, "$or": &null},
    );
    // An array above could hold one with null and one without.
    refused(
        find(doc! {"payment.card.0": null}),
        &["payment.card.0", "null"],
    );
    refused(find(doc! {"notes.0": null}), &["notes.0", "null"]);
    // Plaintext documents could have a field of that name.
    refused(
        find(doc! {"notes.0": {"$exists": true}}),
        &["notes.0", "$exists"],
    );
}

#[test]
fn what_is_no_filter_is_malformed_and_goes_nowhere() {
    for command in [
        doc! {"find": "customers", "filter": [{"ssn": CANARY}]},
        doc! {"find": "customers", "filter": {"$and": [[{"ssn": CANARY}]]}},
        doc! {"find": "customers", "filter": {"$or": {"0": {"ssn": CANARY}}}},
        doc! {"find": "customers", "filter": {"payment": {"$elemMatch": [{"card": CANARY}]}}},
        doc! {"find": "customers", "filter": {"payment": {"$in": {"card": CANARY}}}},
        doc! {"find": "customers", "filter": {"ssn": {"$in": CANARY}}},
        doc! {"find": "customers", "sort": [{"ssn": CANARY}]},
        doc! {"find": "customers", "projection": [{"ssn": CANARY}]},
        doc! {"count": "customers", "query": [{"ssn": CANARY}]},
    ] {
        let refusal = refused(command, &[]);
        assert_eq!(refusal.kind, RefusalKind::Malformed);
    }
}

#[test]
fn equality_is_refused_where_plaintext_is_allowed_for_tokens_would_miss_it() {
    for collection in ["moving", "leaving"] {
        equality_is_refused_in(collection);
    }
}

fn equality_is_refused_in(collection: &str) {
    let moving = |filter: Document| doc! {"find": collection, "filter": filter};
    let namespace = format!("shop.{collection}");
    for filter in [
        doc! {"ssn": CANARY},
        doc! {"ssn": {"$in": [CANARY, null]}},
        doc! {"ssn": {"$not": {"$ne": CANARY}}},
        doc! {"ssn": {"$elemMatch": {"$eq": CANARY}}},
        doc! {"ssn": {"$type": "string"}},
        doc! {"ssn": {"$elemMatch": {"$type": "string"}}},
    ] {
        refused(moving(filter), &[&namespace, "ssn", "on_plaintext"]);
    }
    passes(moving(doc! {"ssn": {"$exists": true, "$ne": null}, "x": 1}));
}
