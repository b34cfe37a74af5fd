//! Updates, upserts, deletes and findAndModify.

use super::*;
use crate::wire::testing::sequence;

fn update(filter: Document, update: impl Into<Bson>) -> Document {
    doc! {"update": "customers", "updates": [{"q": filter, "u": update.into()}]}
}

pub(super) fn upsert(filter: Document, update: impl Into<Bson>) -> Document {
    doc! {"update": "customers", "updates": [{"q": filter, "u": update.into(), "upsert": true}]}
}

#[track_caller]
fn becomes(change: Document, expected: Document) {
    assert_eq!(
        sent(update(doc! {}, change.clone())),
        update(doc! {}, expected.clone()),
        "{change}"
    );
    // findAndModify goes by the same rules.
    assert_eq!(
        sent(doc! {"findAndModify": "customers", "query": {"ssn": "q"}, "update": change.clone()}),
        doc! {"findAndModify": "customers", "query": {"ssn.e1": {"$eq": token("ssn", "q")}}, "update": expected},
        "{change}"
    );
}

#[test]
fn a_replacement_is_sealed() {
    becomes(
        doc! {"ssn": "a", "visits": [{"note": "n"}], "x": 1},
        doc! {"ssn": queryable("ssn", "a"), "visits": [{"note": sealed("n")}], "x": 1},
    );
}

#[test]
fn what_is_set_is_sealed_wherever_its_path_leads() {
    for operator in ["$set", "$setOnInsert"] {
        becomes(
            doc! {operator: {
                "ssn": "a", "x": 1, "payment": {"card": "c"}, "visits": [{"note": "n"}], "tags": ["t", null],
                "address": {"street": 1}, "contacts.home": {"phone": "p"}, "age": null,
            }},
            doc! {operator: {
                "ssn": queryable("ssn", "a"), "x": 1, "payment": {"card": queryable("payment.card", "c")},
                "visits": [{"note": sealed("n")}], "tags": [queryable("tags", "t"), null],
                "address": sealed(doc! {"street": 1}), "contacts.home": {"phone": queryable("contacts.*.phone", "p")}, "age": null,
            }},
        );
        becomes(
            doc! {operator: {
                "payment.card": "c", "visits.0.note": "n", "visits.1": {"note": "m"}, "visits.$.note": "k",
                "visits.$[].note": "l", "contacts.home.phone": "p", "tags.$[x]": "t", "tags.$[]": null,
            }},
            doc! {operator: {
                "payment.card": queryable("payment.card", "c"), "visits.0.note": sealed("n"), "visits.1": {"note": sealed("m")},
                "visits.$.note": sealed("k"), "visits.$[].note": sealed("l"), "contacts.home.phone": queryable("contacts.*.phone", "p"),
                "tags.$[x]": queryable("tags", "t"), "tags.$[]": null,
            }},
        );
    }
}

#[test]
fn elements_are_pushed_and_pulled_sealed() {
    becomes(
        doc! {"$push": {"tags": "t", "visits": {"note": "n", "at": 1}, "notes": {"a": 1}, "x": {"ssn": 1}}},
        doc! {"$push": {"tags": queryable("tags", "t"), "visits": {"note": sealed("n"), "at": 1},
        "notes": sealed(doc! {"a": 1}), "x": {"ssn": 1}}},
    );
    becomes(
        doc! {"$push": {
            "tags": {"$each": ["t", null], "$slice": -5, "$position": 0},
            "visits": {"$each": [{"note": "n"}, 5], "$sort": {"at": 1}, "$slice": 3},
        }},
        doc! {"$push": {
            "tags": {"$each": [queryable("tags", "t"), null], "$slice": -5, "$position": 0},
            "visits": {"$each": [{"note": sealed("n")}, 5], "$sort": {"at": 1}, "$slice": 3},
        }},
    );
    let token = |tag: &str| token("tags", tag);
    let pull = |condition: Document| doc! {"$pull": {"tags": condition}};
    let one = || pull(doc! {"e1": {"$eq": token("t")}});
    let two = || pull(doc! {"e1": {"$in": [token("t"), token("u")]}});
    becomes(doc! {"$pull": {"tags": "t"}}, one());
    becomes(pull(doc! {"$eq": "t"}), one());
    becomes(pull(doc! {"$in": ["t", "u"]}), two());
    becomes(pull(doc! {"$in": ["t", "u"], "$eq": "t"}), one());
    becomes(
        pull(doc! {"$nin": ["t", null]}),
        pull(doc! {"e1": {"$ne": token("t")}}),
    );
    becomes(pull(doc! {"$type": "string"}), pull(doc! {"$type": [3]}));
    becomes(
        doc! {"$pullAll": {"tags": ["t", "u"], "list": [1]}},
        doc! {"$pullAll": {"list": [1]}, "$pull": two().get_document("$pull").unwrap()},
    );
    becomes(
        doc! {"$pull": {"list": 1}, "$pullAll": {"tags": ["t"]}},
        doc! {"$pull": {"list": 1, "tags": {"e1": {"$eq": token("t")}}}, "$pullAll": {}},
    );
    passes(update(
        doc! {},
        doc! {"$pull": {"tags": {"$ne": null}, "age": {"$in": []}}, "$pullAll": {"ssn": [null]}},
    ));
    becomes(
        doc! {"$pull": {"payment": {"card": "c", "open": {"$gt": 1}}}},
        doc! {"$pull": {"payment": {"card.e1": {"$eq": super::token("payment.card", "c")}, "open": {"$gt": 1}}}},
    );
}

#[test]
fn what_only_expressions_compare_is_done_by_a_pipeline_in_the_order_that_mongodb_has_fields() {
    let change = |change: Document| {
        let mut sent = sent(update(doc! {}, change));
        let mut updates = sent.remove("updates").unwrap();
        let statement = updates.as_array_mut().unwrap()[0]
            .as_document_mut()
            .unwrap();
        statement.get_array_mut("u").unwrap().remove(0)
    };
    let stage = change(doc! {
        "$addToSet": {"tags": {"$each": ["t", null, "t"]}}, "$set": {"ssn": "a", "b": {"c": 1}}, "$unset": {"name": CANARY},
    });
    let fields = stage.as_document().unwrap().get_document("$set").unwrap();
    let names: Vec<&String> = fields.keys().collect();
    assert_eq!(names, ["b", "name", "ssn", "tags"]);
    assert_eq!(
        fields.get_document("b").unwrap(),
        &doc! {"$literal": {"c": 1}}
    );
    assert_eq!(fields.get_str("name").unwrap(), "$$REMOVE");
    assert_eq!(
        fields.get_document("ssn").unwrap(),
        &doc! {"$literal": queryable("ssn", "a")},
    );
    let added = doc! {"$literal": [queryable("tags", "t"), null]};
    let tags = fields.get_document("tags").unwrap();
    let missing = tags.get_array("$cond").unwrap()[2].as_document().unwrap();
    assert_eq!(
        missing.get_array("$cond").unwrap()[1],
        Bson::Document(added)
    );
    for pull in [
        doc! {"$pull": {"tags": {"$ne": "t"}}},
        doc! {"$pullAll": {"tags": ["t", null]}},
        doc! {"$pull": {"tags": {"$in": ["t", null]}}},
    ] {
        assert!(change(pull).as_document().unwrap().contains_key("$set"));
    }
}

#[test]
fn what_mongodb_refuses_as_a_conflict_reaches_it_without_its_values() {
    for (change, expected) in [
        (
            doc! {"$addToSet": {"tags": CANARY}, "$push": {"tags": null}},
            doc! {"$addToSet": {"tags": null}, "$push": {"tags": null}},
        ),
        (
            doc! {"$pullAll": {"tags": [CANARY, null]}, "$unset": {"tags.0": ""}},
            doc! {"$pullAll": {}, "$unset": {"tags.0": ""}, "$pull": {"tags": null}},
        ),
        // Fields of which neither is the one that needs a pipeline.
        (
            doc! {"$unset": {"n": ""}, "$set": {"n": 1}, "$addToSet": {"tags": CANARY}},
            doc! {"$unset": {"n": ""}, "$set": {"n": 1}, "$addToSet": {"tags": null}},
        ),
        (
            doc! {"$set": {"n": 1, "n-m": 1, "n.m": 2}, "$addToSet": {"tags": CANARY}},
            doc! {"$set": {"n": 1, "n-m": 1, "n.m": 2}, "$addToSet": {"tags": null}},
        ),
        (
            doc! {"$pull": {"tags": {"$ne": CANARY}}, "$inc": {"tags": 1.5}},
            doc! {},
        ),
    ] {
        if expected.is_empty() {
            refused(update(doc! {}, change), &["tags", "$inc"]);
        } else {
            becomes(change, expected);
        }
    }
}

#[test]
fn the_current_date_is_the_proxys_and_is_sealed() {
    let change = |what: Document| update(doc! {}, what);
    let sent = sent(change(
        doc! {"$currentDate": {"address": true, "open": true}, "$set": {"x": 1}},
    ));
    let update = sent.get_array("updates").unwrap()[0].as_document().unwrap();
    let update = update.get_document("u").unwrap();
    assert_eq!(
        update.get_document("$currentDate").unwrap(),
        &doc! {"open": true}
    );
    let set = update.get_document("$set").unwrap();
    assert_eq!(set.get("x"), Some(&Bson::Int32(1)));
    let at = set.get_document("address").unwrap().get("sealed").unwrap();
    assert!(matches!(at, Bson::DateTime(at) if at.timestamp_millis() > 1_700_000_000_000));
    let timestamp = upstream(change(
        doc! {"$currentDate": {"address": {"$type": "timestamp"}}},
    ));
    assert!(!timestamp.unchanged);
    for wrong in [
        doc! {"$type": "string"},
        doc! {"$type": "date", "x": CANARY},
        doc! {},
    ] {
        let refusal = refused(
            change(doc! {"$currentDate": {"address": wrong}}),
            &["$currentDate"],
        );
        assert_eq!(refusal.kind, RefusalKind::Malformed);
    }
    let wrong = refused(
        change(doc! {"$currentDate": {"ssn": true}}),
        &["$currentDate", "ssn", "date"],
    );
    assert_eq!(wrong.kind, RefusalKind::WrongType);
}

#[test]
fn updates_of_open_fields_pass_as_they_are() {
    passes(update(
        doc! {"_id": 1},
        doc! {
            "$set": {"name": "n", "payment.open": 1, "visits.0.at": 3, "payment": null},
            "$unset": {"ssn": "", "payment": 1, "tags.0": true}, "$inc": {"n": 1}, "$mul": {"n": 2}, "$min": {"n": 3}, "$max": {"visits": 4},
            "$rename": {"a": "b"}, "$currentDate": {"at": true}, "$addToSet": {"list": {"$each": [1]}, "visits": 5},
            "$pop": {"tags": 1, "visits": -1}, "$pull": {"list": {"x": 1}, "tags": null, "visits": 5}, "$pullAll": {"list": [1]}, "$bit": {"n": {"and": 1}},
        },
    ));
    passes(update(
        doc! {},
        vec![
            doc! {"$set": {"x": {"$add": ["$y", 1]}}},
            doc! {"$addFields": {"payment.open": "$x"}},
            doc! {"$unset": ["ssn", "z"]},
            doc! {"$unset": "address"},
        ],
    ));
    passes(update(doc! {}, doc! {}));
}

#[test]
fn values_that_mongodb_ignores_do_not_go_on() {
    becomes(
        doc! {"$unset": {"ssn": CANARY, "payment": {"card": CANARY}, "x": CANARY, "tags.0": 42}},
        doc! {"$unset": {"ssn": "", "payment": "", "x": CANARY, "tags.0": ""}},
    );
}

#[test]
fn what_would_compute_on_sealed_fields_is_refused() {
    for (change, path, operator) in [
        (doc! {"$inc": {"age": 4711}}, "age", "$inc"),
        (doc! {"$mul": {"age": 4711}}, "age", "$mul"),
        (doc! {"$min": {"ssn": CANARY}}, "ssn", "$min"),
        (
            doc! {"$max": {"payment": {"card": CANARY}}},
            "payment",
            "$max",
        ),
        (
            doc! {"$inc": {"payment": {"card": CANARY}}},
            "payment",
            "$inc",
        ),
        (
            doc! {"$bit": {"payment": {"card": CANARY}}},
            "payment",
            "$bit",
        ),
        (
            doc! {"$currentDate": {"payment": {"card": CANARY}}},
            "payment",
            "$currentDate",
        ),
        (doc! {"$rename": {"ssn": "x"}}, "ssn", "$rename"),
        (doc! {"$rename": {"x": "payment"}}, "payment", "$rename"),
        (
            doc! {"$rename": {"x": "payment.card"}},
            "payment.card",
            "$rename",
        ),
        (
            doc! {"$addToSet": {"tags": CANARY}, "$inc": {"n": 1}},
            "tags",
            "$addToSet",
        ),
        (
            doc! {"$addToSet": {"tags": CANARY}, "$set": {"x.y": 1}},
            "tags",
            "$addToSet",
        ),
        (
            doc! {"$addToSet": {"payment.card": CANARY}},
            "payment.card",
            "top level",
        ),
        (
            doc! {"$addToSet": {"address": CANARY}},
            "address",
            "$addToSet",
        ),
        (doc! {"$addToSet": {"tags": [CANARY]}}, "tags", "$addToSet"),
        (doc! {"$pull": {"tags": {"$gt": CANARY}}}, "tags", "$gt"),
        (
            doc! {"$pull": {"tags": {"$not": {"$eq": CANARY}}}},
            "tags",
            "$not",
        ),
        (doc! {"$pull": {"notes": {"$ne": null}}}, "notes", "$pull"),
        (
            doc! {"$addToSet": {"visits": {"note": CANARY}}},
            "visits",
            "$addToSet",
        ),
        (
            doc! {"$pullAll": {"tags": [CANARY, null]}, "$rename": {"a": "b"}},
            "tags",
            "$pullAll",
        ),
        (
            doc! {"$pullAll": {"payment": [{"card": CANARY}]}},
            "payment",
            "$pullAll",
        ),
        (doc! {"$push": {"address": CANARY}}, "address", "$push"),
        (
            doc! {"$push": {"tags": {"$each": [CANARY], "$sort": 1}}},
            "tags",
            "$sort",
        ),
        (
            doc! {"$push": {"visits": {"$each": [], "$sort": {"note": 1}}}},
            "note",
            "$sort",
        ),
        (
            doc! {"$push": {"visits": {"$each": [], "$sort": 1}}},
            "visits",
            "$sort",
        ),
        (
            doc! {"$push": {"visits": {"$each": [], "$slice": {"note": CANARY}}}},
            "visits",
            "$slice",
        ),
        (doc! {"$pop": {"tags": CANARY}}, "tags", "$pop"),
        (doc! {"$pop": {"address": 1}}, "address", "$pop"),
        (doc! {"$pull": {"notes": CANARY}}, "notes", "$pull"),
        (doc! {"$pull": {"visits": {"note": CANARY}}}, "note", "$eq"),
        (
            doc! {"$pull": {"visits": {"$elemMatch": {"note": CANARY}}}},
            "visits",
            "$pull",
        ),
        (
            doc! {"$set": {"address.city": CANARY}},
            "address",
            "address.city",
        ),
        (doc! {"$set": {"ssn.c": CANARY}}, "ssn", "ssn.c"),
        (doc! {"$set": {"tags.0.x": CANARY}}, "tags", "tags.0.x"),
        (
            doc! {"$set": {"contacts.0.phone": CANARY}},
            "contacts.0.phone",
            "number",
        ),
        (
            doc! {"$set": {"payment": {"card.x": CANARY}}},
            "card.x",
            "dot",
        ),
        (doc! {"$frobnicate": {"x": 1}}, "", "$frobnicate"),
        (
            doc! {"$set": {"x": 1}, "ssn": {"ssn": CANARY}},
            "ssn",
            "ssn",
        ),
        (doc! {"x": 1, "$set": {"ssn": CANARY}}, "", "$set"),
    ] {
        refused(update(doc! {}, change.clone()), &[path, operator]);
        refused(
            doc! {"findAndModify": "customers", "update": change},
            &[path, operator],
        );
    }
}

#[test]
fn an_element_is_not_set_by_its_number_for_there_may_be_no_array() {
    for path in ["ssn.0", "tags.12", "payment.card.0"] {
        refused(
            update(doc! {}, doc! {"$set": {path: CANARY}}),
            &[path, "$set", "arrayFilters"],
        );
    }
}

#[test]
fn the_position_that_the_filter_finds_is_that_of_the_same_array() {
    let set = || doc! {"$set": {"tags.$": "t"}};
    for filter in [
        doc! {"tags": "a"},
        doc! {"tags": {"$elemMatch": {"$eq": "a"}}, "_id": 1},
    ] {
        sent(update(filter, set()));
    }
    // A position in the list would become a name in a sealed document.
    for filter in [
        doc! {},
        doc! {"list": 1},
        doc! {"tags": "a", "list": 1},
        doc! {"$and": [{"tags": "a"}, {"list": 1}]},
        doc! {"tags": {"$in": ["a", null]}},
    ] {
        refused(update(filter, set()), &["tags.$"]);
    }
}

#[test]
fn the_condition_that_mongodb_matches_last_stays_the_last() {
    let open = || doc! {"$set": {"list.$": 1}};
    for filter in [
        doc! {"tags": {"$type": "string"}},
        doc! {"tags": {"$type": "string", "$ne": "a"}, "_id": 1},
        doc! {"tags": "a", "list": {"$gt": 5}},
        doc! {"tags": "a", "list": 5, "payment.card": {"$in": ["a", "b"]}},
        doc! {"tags": {"$exists": false}, "list": 1},
        doc! {"$or": [{"tags": "a"}, {"tags": "b"}]},
        doc! {"address": {"$not": {"$exists": true}}, "list": 1},
    ] {
        sent(update(filter, open()));
    }
    for filter in [
        // MongoDB matches by type behind lists, and tokens that are there before them.
        doc! {"tags": {"$type": "string", "$in": ["a", "b"]}},
        doc! {"tags": {"$type": "string"}, "list": {"$in": [1, 2]}},
        doc! {"tags": {"$elemMatch": {"$eq": "a"}}, "visits": {"$elemMatch": {"at": 1}}},
        doc! {"$and": [{"$or": [{"tags": {"$type": "string"}}]}, {"list": 1}]},
        // A projection takes the last that is written, which is the token then.
        doc! {"tags": {"$eq": "a", "$exists": true}},
        doc! {"tags": {"$all": [{"$elemMatch": {"$eq": "a"}}, {"$elemMatch": {"$not": {"$ne": "b"}}}]}},
        doc! {"visits": {"$elemMatch": {"note": null}}, "$and": [{"visits": {"$elemMatch": {"at": 1}}}]},
        doc! {"visits": {"$all": [{"$elemMatch": {"note": null}}, {"$elemMatch": {"at": 1}}]}},
        // On plaintext it is a list of two.
        doc! {"$or": [{"tags": "a"}, {"tags": null}]},
        // It may be an array, which is sealed as a whole.
        doc! {"address": {"$exists": true}, "list": 1},
        doc! {"address": {"$exists": true}},
        // `tags` comes before `tags.0`, but not `tags.e1` before `tags.0.e1`.
        doc! {"tags": "a", "tags.0": "b"},
    ] {
        refused(update(filter.clone(), open()), &["list.$"]);
        refused(
            doc! {"find": "customers", "filter": filter, "projection": {"list.$": 1}},
            &["list.$"],
        );
    }
    // What an upsert asks for is a list, which MongoDB matches later than equality.
    refused(
        upsert(doc! {"$or": [{"tags": "a"}, {"tags": "b"}]}, open()),
        &["list.$"],
    );
    refused(
        upsert(doc! {"tags": "a", "list": {"$gt": 5}}, open()),
        &["list.$"],
    );
}

#[test]
fn a_filter_that_becomes_an_or_has_no_position() {
    for filter in [
        doc! {"payment.card": {"$in": ["a", null]}},
        doc! {"$and": [{"payment.card": {"$in": [null, "a"]}}]},
    ] {
        refused(
            update(filter.clone(), doc! {"$set": {"payment.$.open": 1}}),
            &["payment.$.open"],
        );
        refused(
            doc! {"find": "customers", "filter": filter.clone(), "projection": {"payment.$": 1}},
            &["payment.$"],
        );
        refused(
            doc! {"findAndModify": "customers", "query": filter, "update": {"$set": {"x": 1}}, "fields": {"payment.$": 1}},
            &["payment.$"],
        );
    }
    passes(update(
        doc! {"payment.open": {"$in": [1, null]}},
        doc! {"$set": {"payment.$.open": 1}},
    ));
}

#[test]
fn what_is_no_update_is_malformed_and_goes_nowhere() {
    for change in [
        Bson::from(doc! {"$set": [{"ssn": CANARY}]}),
        doc! {"$set": CANARY}.into(),
        CANARY.into(),
        vec![Bson::from(vec![doc! {"$set": {"ssn": CANARY}}])].into(),
    ] {
        let refusal = refused(update(doc! {}, change.clone()), &[]);
        assert_eq!(refusal.kind, RefusalKind::Malformed);
        refused(upsert(doc! {"ssn": "a"}, change), &[]);
    }
    for twice in [
        doc! {"update": "customers", "updates": [[{"q": {"ssn": CANARY}}]]},
        doc! {"update": "customers", "updates": {"0": {"q": {"ssn": CANARY}}}},
        doc! {"update": "customers", "updates": [{"q": [{"ssn": CANARY}], "u": {}}]},
    ] {
        refused(twice, &[]);
    }
}

/// A constant in a pipeline, sealed.
fn literal(path: &str, value: &str) -> Document {
    doc! {"$literal": queryable(path, value)}
}

#[test]
fn a_pipeline_seals_the_constants_that_it_puts_into_sealed_fields() {
    for (stage, expected) in [
        (
            doc! {"$set": {"ssn": "a", "payment": {"card": "c", "open": 1}}},
            doc! {"$set": {"ssn": literal("ssn", "a"), "payment": {"card": literal("payment.card", "c"), "open": 1}}},
        ),
        (
            doc! {"$set": {"ssn": {"$cond": [{"$eq": ["$ssn", "a"]}, "b", "$ssn"]}}},
            doc! {"$set": {"ssn": {"$cond": [{"$eq": ["$ssn.e1", token("ssn", "a")]}, literal("ssn", "b"), "$ssn"]}}},
        ),
        (
            doc! {"$set": {"tags": {"$concatArrays": [{"$ifNull": ["$tags", []]}, ["t"]]}}},
            doc! {"$set": {"tags": {"$concatArrays": [{"$ifNull": ["$tags", {"$literal": []}]}, {"$literal": [queryable("tags", "t")]}]}}},
        ),
        (
            doc! {"$set": {"tags": {"$cond": [{"$isArray": "$tags"}, "$tags", ["$tags"]]}}},
            doc! {"$set": {"tags": {"$cond": [{"$isArray": "$tags"}, "$tags", ["$tags"]]}}},
        ),
        (
            doc! {"$set": {"address": {"$literal": {"city": "x"}}}},
            doc! {"$set": {"address": {"$literal": sealed(doc! {"city": "x"})}}},
        ),
        (
            doc! {"$set": {"payment": {"$literal": {"card": "c", "x": 1}}}},
            doc! {"$set": {"payment": {"$literal": {"card": queryable("payment.card", "c"), "x": 1}}}},
        ),
        (
            doc! {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"ssn": "a", "x": "$name"}]}},
            doc! {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"ssn": literal("ssn", "a"), "x": "$name"}]}},
        ),
        (
            doc! {"$set": {"visits.0.note": "n"}},
            doc! {"$set": {"visits.0.note": {"$literal": sealed("n")}}},
        ),
    ] {
        assert_eq!(
            sent(update(doc! {}, vec![stage.clone()])),
            update(doc! {}, vec![expected]),
            "{stage}"
        );
    }
    // By way of another place, which is given up again.
    passes(update(
        doc! {},
        vec![
            doc! {"$set": {"before": "$ssn"}},
            doc! {"$set": {"ssn": "$before"}},
            doc! {"$unset": "before"},
        ],
    ));
    let with = |value: Bson, field: Bson| {
        doc! {"findAndModify": "customers", "update": [{"$set": {"ssn": field}}], "let": {"v": value}}
    };
    assert_eq!(
        sent(with("a".into(), "$$v".into())),
        with(Bson::Null, literal("ssn", "a").into()),
    );
}

#[test]
fn a_pipeline_puts_nothing_else_into_sealed_fields_and_sealed_values_nowhere_else() {
    for (stage, named) in [
        (doc! {"$set": {"ssn": "$name"}}, "ssn"),
        (doc! {"$set": {"ssn": "$payment.card"}}, "ssn"),
        (doc! {"$set": {"ssn": {"$toUpper": CANARY}}}, "ssn"),
        (
            doc! {"$set": {"ssn": {"$cond": [true, CANARY, "$name"]}}},
            "ssn",
        ),
        (doc! {"$set": {"payment": "$other"}}, "payment.card"),
        (doc! {"$set": {"x": "$ssn"}}, "ssn"),
        (doc! {"$set": {"x": "$$ROOT"}}, "sealed field"),
        (doc! {"$set": {"address": {"city": CANARY}}}, "$literal"),
        (doc! {"$set": {"ssn.x": CANARY}}, "ssn"),
        (doc! {"$set": {"age": CANARY}}, "age"),
        (doc! {"$set": {"tags": [["$name"]]}}, "tags"),
        (doc! {"$set": {"tags": ["$name", [CANARY]]}}, "tags"),
        (
            doc! {"$set": {"x": {"$mergeObjects": ["$$ROOT", {"a": 1}]}}},
            "sealed field",
        ),
        (doc! {"$replaceWith": {"ssn": "$name"}}, "ssn"),
        (doc! {"$replaceWith": "$payment"}, "payment.card"),
        (doc! {"$project": {"x": "$ssn"}}, "ssn"),
        (doc! {"$unset": ["address.city"]}, "address"),
        (doc! {"$lookup": {"from": "x", "as": "y"}}, "$lookup"),
    ] {
        refused(update(doc! {}, vec![stage]), &[named]);
    }
    for (filter, why) in [
        (doc! {"payment.card": CANARY}, "pipeline"),
        (doc! {"tags.0": CANARY}, "element"),
    ] {
        refused(
            upsert(filter, vec![doc! {"$set": {"x": 1}}]),
            &["upsert", why],
        );
    }
}

#[test]
fn an_upsert_by_a_pipeline_gives_a_new_document_what_its_filter_compares() {
    assert_eq!(
        sent(upsert(
            doc! {"ssn": "a", "n": 1},
            vec![doc! {"$set": {"x": 1}}]
        )),
        upsert(
            doc! {"ssn.e1": uncopied("ssn", "a"), "n": 1},
            vec![
                doc! {"$set": {"ssn": {"$ifNull": ["$ssn", queryable("ssn", "a")]}}},
                doc! {"$set": {"x": 1}},
            ]
        ),
    );
}

#[test]
fn array_filters_compare_tokens() {
    let statement = |filters: Vec<Document>, set: Document| {
        doc! {"update": "customers", "updates": [{"q": {}, "arrayFilters": filters, "u": {"$set": set}}]}
    };
    assert_eq!(
        sent(statement(
            vec![
                doc! {"p.card": "c", "p.open": 1},
                doc! {"t": {"$in": ["t", null]}},
                doc! {"$or": [{"x.a": 1}, {"x.b": 2}]}
            ],
            doc! {"payment.$[p].card": "d", "tags.$[t]": "u", "list.$[x].c": 3},
        )),
        statement(
            vec![
                doc! {"p.card.e1": {"$eq": token("payment.card", "c")}, "p.open": 1},
                doc! {"$or": [{"t.e1": {"$in": [token("tags", "t")]}}, {"t": null}]},
                doc! {"$or": [{"x.a": 1}, {"x.b": 2}]},
            ],
            doc! {"payment.$[p].card": queryable("payment.card", "d"), "tags.$[t]": queryable("tags", "u"), "list.$[x].c": 3},
        ),
    );
    for (filter, set, named) in [
        (
            doc! {"v.note": CANARY},
            doc! {"visits.$[v].at": 1},
            "v.note",
        ),
        (
            doc! {"v": {"note": CANARY}},
            doc! {"visits.$[v].at": 1},
            "v",
        ),
        (doc! {"t": {"$gt": CANARY}}, doc! {"tags.$[t]": "a"}, "$gt"),
        (doc! {"other": CANARY}, doc! {"visits.$[v].at": 1}, "other"),
        (
            doc! {"v": CANARY},
            doc! {"tags.$[v]": "a", "list.$[v]": 1},
            "identifier",
        ),
    ] {
        refused(statement(vec![filter.clone()], set.clone()), &[named]);
        refused(
            doc! {"findAndModify": "customers", "update": {"$set": set}, "arrayFilters": [filter]},
            &[named],
        );
    }
}

#[test]
fn statements_come_in_the_body_or_in_a_section_before_or_after_it() {
    let statement = |q: Document, u: Document| doc! {"u": u, "q": q, "multi": true};
    let command = body(&doc! {"update": "customers", "let": {"a": 1}, "$db": "shop"});
    let updates = sequence(
        "updates",
        &[statement(doc! {"ssn": "a"}, doc! {"$set": {"ssn": "b"}})],
    );
    let deletes = sequence("deletes", &[doc! {"q": {"ssn": "a"}, "limit": 1}]);
    let delete = body(&doc! {"delete": "customers", "$db": "shop"});
    let by_token = doc! {"ssn.e1": {"$eq": token("ssn", "a")}};
    for sections in [[&command, &updates], [&updates, &command]] {
        let sent = decided(&msg(0, &[&sections[0][..], sections[1]].concat())).unwrap();
        let expected = statement(
            by_token.clone(),
            doc! {"$set": {"ssn": queryable("ssn", "b")}},
        );
        assert_eq!(sent.sequences, [("updates".to_owned(), vec![expected])]);
    }
    for sections in [[&delete, &deletes], [&deletes, &delete]] {
        let sent = decided(&msg(0, &[&sections[0][..], sections[1]].concat())).unwrap();
        let expected = doc! {"q": by_token.clone(), "limit": 1};
        assert_eq!(sent.sequences, [("deletes".to_owned(), vec![expected])]);
    }
}

#[test]
fn deletes_find_by_tokens() {
    let delete = |filter: Document| doc! {"delete": "customers", "deletes": [{"q": filter, "limit": 0, "hint": "x"}], "ordered": false};
    assert_eq!(
        sent(delete(doc! {"ssn": {"$in": ["a"]}})),
        delete(doc! {"ssn.e1": {"$in": [token("ssn", "a")]}}),
    );
    refused(delete(doc! {"ssn": {"$gt": CANARY}}), &["ssn", "$gt"]);
    refused(
        doc! {"delete": "customers", "deletes": [{"q": {"ssn": CANARY}, "limit": 1, "collation": {"locale": "en"}}]},
        &["collation"],
    );
    refused(
        doc! {"delete": "customers", "deletes": [{"q": {}, "where": CANARY}]},
        &["where"],
    );
}

#[test]
fn find_and_modify_plans_to_open_the_document_it_answers() {
    let sent = upstream(
        doc! {"findAndModify": "customers", "query": {"ssn": "a"}, "remove": true, "fields": {"ssn": 1}, "sort": {"x": 1}},
    );
    assert!(matches!(sent.plan, ReplyPlan::Documents(_)));
    for (option, value) in [
        ("sort", Bson::from(doc! {"ssn": 1})),
        ("fields", doc! {"x": {"$toUpper": "$ssn"}}.into()),
        ("ssn", CANARY.into()),
    ] {
        refused(
            doc! {"findAndModify": "customers", "remove": true, option: value},
            &["ssn"],
        );
    }
}

#[test]
fn an_update_chooses_its_document_by_the_order_of_open_fields() {
    let update = |sort: Document| doc! {"update": "customers", "updates": [{"q": {"plan": 1}, "u": {"$set": {"plan": 2}}, "sort": sort}]};
    passes(update(doc! {"plan": -1}));
    refused(update(doc! {"ssn": 1}), &["ssn", "sort"]);
}
