//! Upserts: what of a filter comes to be stored.

use super::update::upsert;
use super::*;

#[test]
fn an_upsert_stores_what_mongodb_would_copy_from_the_filter() {
    let inserted = || doc! {"$set": {"x": 1}, "$setOnInsert": {"ssn": queryable("ssn", "a")}};
    for filter in [
        doc! {"ssn": "a"},
        doc! {"ssn": {"$eq": "a"}},
        doc! {"ssn": {"$in": ["a"]}},
        doc! {"ssn": {"$in": ["a", "a"]}},
        doc! {"ssn": {"$all": ["a"]}},
        doc! {"$and": [{"ssn": "a"}, {"y": 1}]},
        doc! {"$or": [{"$and": [{"ssn": "a"}]}]},
    ] {
        let sent = sent(upsert(filter.clone(), doc! {"$set": {"x": 1}}));
        let statement = sent.get_array("updates").unwrap()[0].as_document().unwrap();
        assert_eq!(
            statement.get_document("u").unwrap(),
            &inserted(),
            "{filter}"
        );
        // Nothing that MongoDB would copy is left in the filter.
        let left = statement.get_document("q").unwrap().to_string();
        let uncopied = doc! {"ssn.e1": uncopied("ssn", "a")}.to_string();
        assert!(
            left.contains(uncopied.trim_matches(['{', '}', ' '])),
            "{left}"
        );
    }
}

#[test]
fn an_upsert_copies_nothing_that_mongodb_would_not() {
    for filter in [
        doc! {"ssn": {"$not": {"$ne": "a"}}},
        doc! {"$nor": [{"ssn": "a"}]},
        doc! {"$or": [{"ssn": "a"}, {"ssn": "b"}]},
        doc! {"$or": [{"ssn": "a"}, {"ssn": "a"}]},
        doc! {"ssn": {"$in": ["a", "b"]}},
        doc! {"ssn": {"$in": ["a", null]}},
        doc! {"tags": {"$elemMatch": {"$eq": "a"}}},
        doc! {"ssn": null},
        doc! {"ssn": {"$in": [null]}},
        doc! {"tags": {"$all": [null]}},
        doc! {"payment": {"open": 1}},
        doc! {"payment": {"$exists": false}, "payment.card": null},
        doc! {"payment.0": {"open": 1}},
    ] {
        let sent = sent(upsert(filter.clone(), doc! {"$set": {"x": 1}}));
        let statement = sent.get_array("updates").unwrap()[0].as_document().unwrap();
        assert_eq!(
            statement.get_document("u").unwrap(),
            &doc! {"$set": {"x": 1}},
            "{filter}"
        );
    }
    // Over the same number in several types MongoDB copies the first.
    let sent = sent(upsert(
        doc! {"age": {"$in": [5.0, 5]}},
        doc! {"$set": {"x": 1}},
    ));
    let statement = sent.get_array("updates").unwrap()[0].as_document().unwrap();
    assert_eq!(
        statement,
        &doc! {"q": {"age.e1": uncopied("age", 5)}, "u": {"$set": {"x": 1}, "$setOnInsert": {"age": queryable("age", 5.0)}}, "upsert": true},
    );
}

#[test]
fn an_upsert_whose_update_decides_the_field_copies_nothing() {
    let token = || doc! {"ssn.e1": uncopied("ssn", "a")};
    for (change, expected) in [
        (
            doc! {"$set": {"ssn": "b"}},
            doc! {"$set": {"ssn": queryable("ssn", "b")}},
        ),
        (
            doc! {"$setOnInsert": {"ssn": "b"}},
            doc! {"$setOnInsert": {"ssn": queryable("ssn", "b")}},
        ),
        (doc! {"$unset": {"ssn": ""}}, doc! {"$unset": {"ssn": ""}}),
        (doc! {"ssn": "b"}, doc! {"ssn": queryable("ssn", "b")}),
        (doc! {"y": 1}, doc! {"y": 1}),
        (doc! {}, doc! {}),
    ] {
        assert_eq!(
            sent(upsert(doc! {"ssn": "a"}, change)),
            upsert(token(), expected)
        );
    }
    // Into a $setOnInsert that is there already, and with findAndModify.
    assert_eq!(
        sent(
            doc! {"findAndModify": "customers", "update": {"$setOnInsert": {"x": 1}}, "query": {"payment.card": "c"}, "upsert": 1, "new": true}
        ),
        doc! {"findAndModify": "customers", "update": {"$setOnInsert": {"x": 1, "payment.card": queryable("payment.card", "c")}},
        "query": {"payment.card.e1": uncopied("payment.card", "c")}, "upsert": 1, "new": true},
    );
}

#[test]
fn an_upsert_that_cannot_be_told_is_refused() {
    for (filter, change, path) in [
        (
            doc! {"ssn": "a", "$and": [{"ssn": "b"}]},
            doc! {"$set": {"x": 1}},
            "ssn",
        ),
        (
            doc! {"ssn": "a", "$and": [{"ssn": null}]},
            doc! {"$set": {"x": 1}},
            "ssn",
        ),
        (
            doc! {"payment.card": "a"},
            doc! {"$set": {"payment.$[x].card": "b"}},
            "payment.card",
        ),
        // MongoDB takes a list of nothing but null for null.
        (
            doc! {"ssn": "a", "$and": [{"ssn": {"$in": [null, null]}}]},
            doc! {"$set": {"x": 1}},
            "ssn",
        ),
        (
            doc! {"tags.0": {"$in": [null]}, "tags": "a"},
            doc! {"$set": {"x": 1}},
            "tags",
        ),
        (
            doc! {"tags.0": {"$all": [null]}},
            doc! {"$set": {"x": 1}},
            "tags.0",
        ),
        (
            doc! {"tags.0": {"$all": [null, null]}},
            doc! {"$set": {"x": 1}},
            "tags.0",
        ),
        // What holds a sealed field is compared as well as the field.
        (
            doc! {"payment": {"open": 1}, "payment.card": "a"},
            doc! {"$set": {"x": 1}},
            "payment.card",
        ),
        (
            doc! {"payment.card": "a", "payment": {"$in": [null]}},
            doc! {"$set": {"x": 1}},
            "payment",
        ),
        (
            doc! {"payment.card": "a", "payment": null},
            doc! {"$set": {"payment.card": "b"}},
            "payment",
        ),
        // It would leave an empty `payment`.
        (
            doc! {"payment.card": "a"},
            doc! {"$unset": {"payment.card": 1}},
            "payment.card",
        ),
        // MongoDB copies nothing from a filter that matches nothing.
        (
            doc! {"ssn": "a", "x": {"$in": []}},
            doc! {"$set": {"x": 1}},
            "empty",
        ),
        (
            doc! {"$or": [{"ssn": "a"}, {"x": {"$all": []}}]},
            doc! {"$set": {"x": 1}},
            "empty",
        ),
        (
            doc! {"ssn": "a", "$nor": [{}]},
            doc! {"$set": {"x": 1}},
            "empty",
        ),
        (doc! {"tags.0": "a"}, doc! {"$set": {"x": 1}}, "tags.0"),
        (doc! {"tags": "a"}, doc! {"$push": {"tags": "b"}}, "tags"),
        (
            doc! {"payment.card": "a"},
            doc! {"$push": {"payment": {"open": 1}}},
            "payment.card",
        ),
        (
            doc! {"$or": [{"ssn": "a"}, {"$alwaysFalse": 1}]},
            doc! {"$set": {"x": 1}},
            "$alwaysFalse",
        ),
    ] {
        refused(upsert(filter, change), &[path]);
    }
    // By a pipeline as well.
    for filter in [
        doc! {"ssn": "a", "$and": [{"ssn": null}]},
        doc! {"ssn": null, "$and": [{"ssn": "a"}]},
    ] {
        let stages = vec![doc! {"$set": {"x": 1}}];
        let update = doc! {"q": filter, "u": stages, "upsert": true};
        refused(doc! {"update": "customers", "updates": [update]}, &["ssn"]);
    }
    let refusal = refused(
        upsert(doc! {"ssn": 5}, doc! {"$set": {"x": 1}}),
        &["ssn", "int"],
    );
    assert_eq!(refusal.kind, RefusalKind::WrongType);
}
