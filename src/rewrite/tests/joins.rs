//! Stages that bring collections together, and those that write into others.

use super::*;

fn aggregate(on: &str, stages: Vec<Document>) -> Document {
    doc! {"aggregate": on, "pipeline": stages, "cursor": {}}
}

fn lookup(from: &str, local: &str, foreign: &str) -> Document {
    doc! {"$lookup": {"from": from, "localField": local, "foreignField": foreign, "as": "found"}}
}

/// The token of a string in the domain `word`.
fn word(value: &str) -> Bson {
    let people = POLICY.collection("shop.people").unwrap();
    let bytes = bson::serialize_to_vec(&doc! {"v": value}).unwrap();
    let element = Doc::whole(&bytes).unwrap().first().unwrap().unwrap();
    let equality = people.field(0).equality.as_ref().unwrap();
    binary(
        &equality
            .key
            .equality(element.kind, element.value())
            .unwrap(),
    )
}

/// The shape of the documents that come back.
fn shape(command: Document) -> Arc<Collection> {
    match upstream(command.clone()).plan {
        ReplyPlan::Documents(shape) => shape,
        other => panic!("{command}: {other:?}"),
    }
}

#[test]
fn fields_of_one_domain_are_joined_by_their_tokens() {
    let by_token = |from: &str, local: &str, foreign: &str| {
        aggregate("people", vec![lookup(from, local, foreign)])
    };
    for (from, foreign) in [
        ("receipts", "buyer"),
        ("receipts", "lines.sku"),
        ("archive", "a"),
        ("people", "items.sku"),
    ] {
        assert_eq!(
            sent(by_token(from, "a", foreign)),
            by_token(from, "a.e1", &format!("{foreign}.e1")),
        );
    }
    let both = |filter: Document, local: &str, foreign: &str| {
        let mut stage = lookup("receipts", local, foreign);
        let options = stage.get_document_mut("$lookup").unwrap();
        options.insert("let", doc! {"own": "$a"});
        options.insert("pipeline", vec![doc! {"$match": filter}]);
        aggregate("people", vec![stage])
    };
    assert_eq!(
        sent(both(doc! {"buyer": "x", "own": null}, "a", "buyer")),
        both(
            doc! {"buyer.e1": {"$eq": word("x")}, "own": null},
            "a.e1",
            "buyer.e1"
        ),
    );
    let found = shape(by_token("receipts", "a", "buyer"));
    let paths: Vec<_> = (0..5).map(|leaf| found.field(leaf).path.clone()).collect();
    assert_eq!(paths, ["a", "buyer", "lines.sku", "own", "items.sku"]);
}

#[test]
fn keys_are_made_first_of_a_field_that_may_lie_in_documents_of_an_array() {
    let command = aggregate(
        "people",
        vec![
            doc! {"$limit": 5},
            lookup("receipts", "items.sku", "buyer"),
            doc! {"$match": {"found.buyer": "x"}},
        ],
    );
    let sent = sent(command);
    let stages: Vec<&Document> = sent
        .get_array("pipeline")
        .unwrap()
        .iter()
        .map(|stage| stage.as_document().unwrap())
        .collect();
    assert_eq!(stages.len(), 4);
    let keys = stages[1]
        .get_document("$set")
        .unwrap()
        .get_document("found")
        .unwrap();
    assert!(keys.to_string().contains("$$this.sku.e1"), "{keys}");
    let join = stages[2].get_document("$lookup").unwrap();
    assert_eq!(join.get_str("localField").unwrap(), "found");
    assert_eq!(join.get_str("foreignField").unwrap(), "buyer.e1");
    assert_eq!(
        stages[3],
        &doc! {"$match": {"found.buyer.e1": {"$eq": word("x")}}}
    );
    // What follows in a facet, or in another stage's pipeline, is told by its own index.
    refused(
        aggregate(
            "people",
            vec![
                lookup("receipts", "items.sku", "buyer"),
                doc! {"$sort": {"found.buyer": 1}},
            ],
        ),
        &["stage 1", "found.buyer"],
    );
}

#[test]
fn sealed_fields_that_are_not_of_one_domain_are_not_joined() {
    for (on, stages, named) in [
        ("people", vec![lookup("orders", "a", "name")], "`a`"),
        ("orders", vec![lookup("people", "name", "a")], "`a`"),
        ("people", vec![lookup("receipts", "a", "own")], "domain"),
        (
            "customers",
            vec![lookup("customers", "ssn", "ssn")],
            "domain",
        ),
        (
            "customers",
            vec![lookup("customers", "address", "address")],
            "`address`",
        ),
        (
            "customers",
            vec![lookup("orders", "payment", "x")],
            "one by one",
        ),
        (
            "people",
            vec![lookup("receipts", "a", "lines")],
            "one by one",
        ),
        ("people", vec![lookup("receipts", "a.0", "buyer")], "index"),
        (
            "people",
            vec![lookup("receipts", "a", "lines.0.sku")],
            "index",
        ),
        ("moving", vec![lookup("moving", "ssn", "ssn")], "`ssn`"),
        // Null beside values, and arrays within arrays.
        (
            "people",
            vec![
                doc! {"$group": {"_id": null, "all": {"$push": "$a"}}},
                lookup("receipts", "all", "buyer"),
            ],
            "null",
        ),
        (
            "people",
            vec![
                doc! {"$set": {"x": [["$a"]]}},
                lookup("receipts", "x", "buyer"),
            ],
            "arrays",
        ),
    ] {
        refused(aggregate(on, stages), &["$lookup", named]);
    }
    for options in [
        doc! {"from": "people", "startWith": "$a", "connectFromField": "a", "connectToField": "a", "as": "x"},
        doc! {"from": "people", "startWith": CANARY, "connectFromField": "a", "connectToField": "a", "as": "x", "restrictSearchWithMatch": {"a": {"$ne": CANARY}}},
        doc! {"from": "people", "startWith": "$name", "connectFromField": "a", "connectToField": "a", "as": "x", "restrictSearchWithMatch": {"a": {"$ne": null}}},
        doc! {"from": "people", "startWith": "$items.sku", "connectFromField": "a", "connectToField": "a", "as": "x", "restrictSearchWithMatch": {"a": {"$ne": null}}},
        doc! {"from": "people", "startWith": "$a", "connectFromField": "name", "connectToField": "a", "as": "x"},
        doc! {"from": "people", "startWith": "$a", "connectFromField": "name", "connectToField": "name", "as": "x"},
    ] {
        refused(
            aggregate("people", vec![doc! {"$graphLookup": options}]),
            &["$graphLookup"],
        );
    }
}

#[test]
fn a_graph_is_searched_by_tokens_where_null_is_left_out() {
    let graph = |start: Bson, field: &str, filter: Document| {
        aggregate(
            "people",
            vec![doc! {"$graphLookup": {
            "from": "people", "startWith": start, "connectFromField": field, "connectToField": field,
            "as": "x", "depthField": "depth", "restrictSearchWithMatch": filter}}],
        )
    };
    assert_eq!(
        sent(graph(
            "x".into(),
            "a",
            doc! {"a": {"$ne": null}, "items.sku": "y"}
        )),
        graph(
            word("x"),
            "a.e1",
            doc! {"a": {"$ne": null}, "items.sku.e1": {"$eq": word("y")}}
        ),
    );
}

#[test]
fn a_union_is_known_by_what_both_sides_hold() {
    let union = |stages: Vec<Document>, filter: Document| {
        aggregate(
            "people",
            vec![
                doc! {"$project": {"a": 1}},
                doc! {"$unionWith": {"coll": "archive", "pipeline": stages}},
                doc! {"$match": filter},
            ],
        )
    };
    let by_token = doc! {"a.e1": {"$eq": word("x")}};
    assert_eq!(
        sent(union(vec![doc! {"$match": {"a": "x"}}], doc! {"a": "x"})),
        union(vec![doc! {"$match": by_token.clone()}], by_token),
    );
    // Open values may stand there, too.
    for other in ["orders", "customers", "receipts"] {
        refused(
            aggregate(
                "people",
                vec![doc! {"$unionWith": other}, doc! {"$match": {"a": CANARY}}],
            ),
            &["stage 1", "`a`"],
        );
        let all = aggregate(
            "people",
            vec![doc! {"$unionWith": other}, doc! {"$match": {"x": CANARY}}],
        );
        passes(all);
    }
}

#[test]
fn a_collection_that_still_has_plaintext_is_not_compared_after_any_stage() {
    for stages in [
        vec![doc! {"$set": {"x": 1}}, doc! {"$match": {"ssn": CANARY}}],
        vec![doc! {"$match": {"$expr": {"$eq": ["$ssn", CANARY]}}}],
    ] {
        let within = doc! {"$lookup": {"from": "moving", "pipeline": stages.clone(), "as": "x"}};
        for on in ["orders", "people"] {
            refused(aggregate(on, vec![within.clone()]), &["plaintext", "ssn"]);
        }
        refused(aggregate("moving", stages), &["plaintext", "ssn"]);
    }
    let read = shape(aggregate("people", vec![lookup("moving", "_id", "_id")]));
    assert_eq!(read.on_plaintext, crate::schema::OnPlaintext::Allow);
}

#[test]
fn what_is_written_into_another_collection_is_sealed_there_alike() {
    for stage in [
        doc! {"$out": "archive"},
        doc! {"$out": {"db": "shop", "coll": "archive"}},
        doc! {"$merge": "people"},
        doc! {"$merge": {"into": "archive", "on": "_id", "whenMatched": "replace", "whenNotMatched": "insert"}},
        doc! {"$merge": {"into": "archive", "whenMatched": [{"$set": {"a": "$$new.a", "x": "$$new.x"}}]}},
        doc! {"$merge": {"into": "archive", "let": {"v": "$a"}, "whenMatched": [{"$set": {"a": "$$v"}}]}},
    ] {
        passes(aggregate("people", vec![stage.clone()]));
        refused(
            aggregate("receipts", vec![stage.clone()]),
            &["$", "identity"],
        );
        refused(aggregate("orders", vec![stage.clone()]), &["$", "identity"]);
        let constant =
            |value: Bson| aggregate("people", vec![doc! {"$set": {"a": value}}, stage.clone()]);
        assert_eq!(
            sent(constant("x".into())),
            constant(doc! {"$literal": {"c": sealed("x"), "e1": word("x")}}.into())
        );
        refused(constant(5.into()), &["identity"]);
        refused(constant("$name".into()), &["identity"]);
        refused(
            aggregate("people", vec![doc! {"$set": {"a": "$items.sku"}}, stage]),
            &["identity"],
        );
    }
    let merge = |value: Bson| {
        aggregate(
            "people",
            vec![doc! {"$merge": {"into": "archive", "whenMatched": [{"$set": {"a": value}}]}}],
        )
    };
    let constant = doc! {"$literal": {"c": sealed("x"), "e1": word("x")}};
    assert_eq!(sent(merge("x".into())), merge(constant.into()));
    for stages in [
        vec![doc! {"$out": "copies"}],
        vec![
            doc! {"$project": {"b": "$a"}},
            doc! {"$merge": {"into": "copies"}},
        ],
        vec![
            doc! {"$project": {"x": 1}},
            doc! {"$merge": {"into": "archive", "on": "a"}},
        ],
        vec![doc! {"$merge": {"into": "archive", "whenMatched": [{"$set": {"x": "$$new.a"}}]}}],
        vec![
            doc! {"$merge": {"into": "archive", "let": {"v": "$a"}, "whenMatched": [{"$set": {"x": "$$v"}}]}},
        ],
        vec![doc! {"$out": "system.views"}],
    ] {
        refused(aggregate("people", stages), &["shop.people"]);
    }
    for stages in [
        vec![
            doc! {"$project": {"x": 1, "n": {"$size": "$items"}}},
            doc! {"$out": "copies"},
        ],
        vec![doc! {"$unset": ["a", "items"]}, doc! {"$merge": "copies"}],
        vec![doc! {"$project": {"x": 1}}, doc! {"$merge": "archive"}],
    ] {
        passes(aggregate("people", stages));
    }
}

#[test]
fn pipelines_from_elsewhere_read_sealed_collections_by_their_schema() {
    let over = |stage: &Document| doc! {"aggregate": "orders", "pipeline": [{"$match": {"ssn": 1}}, stage], "cursor": {}};
    let of = |filter: Document| doc! {"$lookup": {"from": "customers", "pipeline": [{"$match": filter}], "as": "x"}};
    assert_eq!(
        sent(over(&of(doc! {"ssn": "a"}))),
        over(&of(doc! {"ssn.e1": {"$eq": token("ssn", "a")}})),
    );
    for stage in [
        doc! {"$lookup": {"from": "customers", "localField": "x", "foreignField": "name", "as": "x"}},
        doc! {"$unionWith": "customers"},
        doc! {"$unionWith": {"coll": "customers", "pipeline": []}},
        doc! {"$unionWith": {"coll": "orders", "pipeline": [{"$lookup": {"from": "customers", "pipeline": [], "as": "x"}}]}},
        doc! {"$facet": {"a": [{"$unionWith": "customers"}]}},
    ] {
        assert!(upstream(over(&stage)).unchanged);
        shape(over(&stage));
    }
    for stage in [
        of(doc! {"ssn": {"$gt": CANARY}}),
        doc! {"$lookup": {"from": "customers", "localField": "x", "foreignField": "ssn", "as": "x"}},
        doc! {"$graphLookup": {"from": "customers", "startWith": "$x", "connectFromField": "ssn", "connectToField": "x", "as": "x"}},
        doc! {"$unionWith": {"coll": "customers", "pipeline": [{"$sort": {"ssn": 1}}]}},
        doc! {"$out": "customers"},
        doc! {"$out": {"db": "tenant_b", "coll": "people"}},
        doc! {"$merge": "customers"},
        doc! {"$merge": {"into": {"db": "shop", "coll": "customers"}}},
        doc! {"$merge": {"into": "orders", "whenMatched": [{"$lookup": {"from": "customers"}}]}},
        doc! {"$merge": "system.views"},
        doc! {"$frobnicate": {"from": "customers"}},
    ] {
        refused(over(&stage), &[]);
    }
    for stage in [
        lookup("orders", "ssn", "ssn"),
        doc! {"$merge": {"into": {"db": "other", "coll": "customers"}}},
        doc! {"$group": {"_id": "$ssn", "all": {"$push": "$$ROOT"}}},
        doc! {"$out": "copies"},
    ] {
        passes(over(&stage));
    }
}

#[test]
fn null_is_kept_out_of_arrays_of_fields_that_are_joined() {
    let update = |change: Bson| doc! {"update": "people", "updates": [{"q": {"a": "x"}, "u": change, "arrayFilters": []}]};
    for command in [
        doc! {"insert": "people", "documents": [{"a": ["x", null]}]},
        doc! {"insert": "people", "documents": [{"a": [null]}]},
        doc! {"insert": "people", "documents": [{"items": [{"sku": ["x", null]}]}]},
        update(doc! {"$set": {"a": [null]}}.into()),
        update(doc! {"$push": {"a": null}}.into()),
        update(doc! {"$push": {"a": {"$each": ["y", null]}}}.into()),
        update(doc! {"$addToSet": {"a": null}}.into()),
        update(doc! {"$addToSet": {"items.0.sku": {"$each": [null]}}}.into()),
        update(doc! {"$set": {"a.$": null}}.into()),
        doc! {"update": "people", "updates": [{"q": {}, "u": {"$set": {"a.$[e]": null}}, "arrayFilters": [{"e": "x"}]}]},
        update(doc! {"$unset": {"a.$": 1}}.into()),
        update(doc! {"$unset": {"a.0": 1}}.into()),
        update(doc! {"a": ["x", null]}.into()),
        update(vec![doc! {"$set": {"a": ["$a"]}}].into()),
        update(vec![doc! {"$set": {"a": {"$literal": ["x", null]}}}].into()),
    ] {
        match upstream_or_errors(&command) {
            Err(told) => assert!(!told.contains(CANARY), "{told}"),
            Ok(()) => panic!("passed: {command}"),
        }
    }
    for command in [
        doc! {"insert": "people", "documents": [{"a": null}, {"items": [{"sku": null}, null]}]},
        update(doc! {"$set": {"a": null}}.into()),
        update(doc! {"$unset": {"a": 1, "items.0.sku": 1}}.into()),
    ] {
        assert_eq!(upstream_or_errors(&command), Ok(()), "{command}");
    }
    // Without a domain nothing is joined.
    upstream(doc! {"update": "customers", "updates": [{"q": {}, "u": {"$push": {"tags": null}}}]});
}

/// Whether a command goes on with all its statements.
fn upstream_or_errors(command: &Document) -> Result<(), String> {
    let upstream = decided(&framed(command)).map_err(|refusal| refusal.message)?;
    match upstream.plan.refused().first() {
        Some(statement) => Err(statement.refusal.message.clone()),
        None => Ok(()),
    }
}

#[test]
fn plaintext_that_is_expected_in_one_collection_is_not_written_into_another() {
    let from = |collection: &str, into: &str, first: Document| {
        doc! {"aggregate": collection, "pipeline": [first, {"$merge": {"into": into}}], "cursor": {}}
    };
    let all = doc! {"$match": {}};
    let out = doc! {"aggregate": "moving", "pipeline": [{"$out": "settled"}], "cursor": {}};
    for command in [from("moving", "settled", all.clone()), out] {
        refused(command, &["shop.moving", "ssn", "on_plaintext"]);
    }
    passes(from("moving", "moving", all.clone()));
    passes(from("settled", "moving", all.clone()));
    passes(from("settled", "settled", all));
    passes(from("moving", "settled", doc! {"$project": {"ssn": 0}}));
}
