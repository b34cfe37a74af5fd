//! Aggregation: pipelines over sealed collections, and into them.

use super::*;

fn aggregate(stages: Vec<Document>) -> Document {
    doc! {"aggregate": "customers", "pipeline": stages, "cursor": {}}
}

/// Whether the reply's documents are known to have the collection's own shape.
fn keeps_shape(stages: Vec<Document>) -> bool {
    matches!(upstream(aggregate(stages)).plan, ReplyPlan::Documents(_))
}

#[test]
fn count_documents_of_any_driver_is_answered_by_tokens() {
    let by_token = doc! {"ssn.e1": {"$eq": token("ssn", "a")}};
    let count = doc! {"$group": {"_id": 1, "n": {"$sum": 1}}};
    assert_eq!(
        sent(aggregate(vec![
            doc! {"$match": {"ssn": "a"}},
            doc! {"$skip": 1},
            doc! {"$limit": 2},
            count.clone()
        ])),
        aggregate(vec![
            doc! {"$match": by_token},
            doc! {"$skip": 1},
            doc! {"$limit": 2},
            count
        ]),
    );
}

#[test]
fn matches_are_rewritten_while_fields_stand_at_their_paths() {
    let by_token = doc! {"$match": {"payment.card.e1": {"$eq": token("payment.card", "c")}}};
    let matching = doc! {"$match": {"payment.card": "c"}};
    for stage in [
        doc! {"$sort": {"name": 1}},
        doc! {"$unwind": "$payment"},
        doc! {"$unwind": {"path": "$tags", "includeArrayIndex": "i"}},
        doc! {"$project": {"ssn": 1, "payment.card": 1, "x": {"$toUpper": "$name"}}},
        doc! {"$project": {"ssn": 0}},
        doc! {"$addFields": {"x": {"$sum": ["$a", "$payment.open"]}, "payment.y": 1}},
        doc! {"$set": {"x": {"$let": {"vars": {"v": "$a"}, "in": "$$v.ssn"}}}},
        doc! {"$unset": ["ssn", "x"]},
        doc! {"$lookup": {"from": "orders", "localField": "name", "foreignField": "ssn", "as": "orders"}},
        doc! {"$lookup": {"from": "orders", "let": {"n": "$name"}, "pipeline": [{"$match": {"ssn": 1}}], "as": "orders"}},
        doc! {"$sample": {"size": 3}},
    ] {
        let before = aggregate(vec![stage.clone(), matching.clone()]);
        assert_eq!(
            sent(before),
            aggregate(vec![stage.clone(), by_token.clone()])
        );
        assert!(keeps_shape(vec![stage]));
    }
}

#[test]
fn after_stages_that_leave_nothing_sealed_any_stage_may_follow() {
    for stage in [
        doc! {"$group": {"_id": "$name", "ssn": {"$first": "$city"}, "top": {"$topN": {"n": 1, "sortBy": {"name": 1}, "output": "$name"}}}},
        doc! {"$count": "n"},
        doc! {"$sortByCount": "$name"},
        doc! {"$bucket": {"groupBy": "$n", "boundaries": [1, 2]}},
        doc! {"$replaceRoot": {"newRoot": {"x": "$name"}}},
        doc! {"$facet": {"a": [{"$count": "n"}], "b": [{"$group": {"_id": "$name"}}]}},
    ] {
        let after = doc! {"$match": {"ssn": {"$gt": 1}}};
        passes(aggregate(vec![
            stage.clone(),
            after,
            doc! {"$setWindowFields": {}},
        ]));
        assert!(!keeps_shape(vec![stage]));
    }
}

#[test]
fn facets_are_rewritten_each() {
    let facet = |filter: Document| doc! {"$facet": {"found": [{"$match": filter.clone()}, {"$limit": 5}], "n": [{"$match": filter}, {"$count": "n"}]}};
    let stages = |filter: Document| aggregate(vec![facet(filter), doc! {"$limit": 1}]);
    assert_eq!(
        sent(stages(doc! {"ssn": "a"})),
        stages(doc! {"ssn.e1": {"$eq": token("ssn", "a")}}),
    );
    let after = |path: &str, value: Bson| {
        aggregate(vec![
            doc! {"$facet": {"f": [{"$project": {"x": "$ssn"}}]}},
            doc! {"$match": {path: value}},
        ])
    };
    assert_eq!(
        sent(after("f.x", "a".into())),
        after("f.x.e1", doc! {"$eq": token("ssn", "a")}.into()),
    );
}

#[test]
fn stages_that_would_read_sealed_fields_are_refused() {
    for (stage, path) in [
        (doc! {"$sort": {"ssn": 1}}, "ssn"),
        (doc! {"$sort": {"payment": -1}}, "payment"),
        (doc! {"$project": {"x": {"$toUpper": "$ssn"}}}, "ssn"),
        (
            doc! {"$project": {"x": {"$cond": [{"$lt": ["$ssn", CANARY]}, 1, 2]}}},
            "ssn",
        ),
        (
            doc! {"$set": {"x": {"$trim": {"input": "$$CURRENT.ssn"}}}},
            "ssn",
        ),
        (
            doc! {"$set": {"x": {"$getField": {"field": {"$toLower": "ssn"}, "input": "$$ROOT"}}}},
            "$getField",
        ),
        (doc! {"$group": {"_id": "$visits.note"}}, "visits.note"),
        (doc! {"$group": {"_id": "$payment"}}, "payment"),
        (
            doc! {"$group": {"_id": null, "top": {"$topN": {"n": 1, "sortBy": {"ssn": 1}, "output": "$name"}}}},
            "ssn",
        ),
        (
            doc! {"$group": {"_id": null, "top": {"$bottom": {"sortBy": {"payment": 1}, "output": "$name"}}}},
            "payment",
        ),
        (
            doc! {"$group": {"_id": null, "sum": {"$sum": "$age"}}},
            "age",
        ),
        (
            doc! {"$group": {"_id": null, "x": {"$accumulator": {"accumulateArgs": ["$name"]}}}},
            "$accumulator",
        ),
        (doc! {"$sortByCount": "$address"}, "address"),
        (
            doc! {"$bucketAuto": {"groupBy": "$age", "buckets": 2}},
            "age",
        ),
        (doc! {"$replaceRoot": {"newRoot": "$address"}}, "address"),
        (
            doc! {"$replaceWith": {"$mergeObjects": ["$$ROOT", "$address"]}},
            "address",
        ),
        (doc! {"$unwind": "$address"}, "address"),
        (
            doc! {"$unwind": {"path": "$x", "includeArrayIndex": "ssn"}},
            "ssn",
        ),
        (doc! {"$unset": "ssn.c"}, "ssn"),
        (
            doc! {"$lookup": {"from": "orders", "localField": "ssn", "foreignField": "x", "as": "y"}},
            "ssn",
        ),
        (
            doc! {"$lookup": {"from": "orders", "let": {"s": {"$toUpper": "$ssn"}}, "pipeline": [], "as": "y"}},
            "ssn",
        ),
        (
            doc! {"$graphLookup": {"from": "orders", "startWith": "$ssn", "connectFromField": "a", "connectToField": "b", "as": "y"}},
            "ssn",
        ),
        (doc! {"$match": {"ssn": {"$gt": CANARY}}}, "$gt"),
        (
            doc! {"$match": {"$expr": {"$eq": ["$ssn", {"$toUpper": CANARY}]}}},
            "$expr",
        ),
        (
            doc! {"$redact": {"$cond": [CANARY, "$$DESCEND", "$$PRUNE"]}},
            "$redact",
        ),
        (
            doc! {"$geoNear": {"query": {"ssn": {"$gt": CANARY}}}},
            "ssn",
        ),
        (doc! {"$geoNear": {"key": "address"}}, "address"),
        (
            doc! {"$setWindowFields": {"sortBy": {"ssn": 1}}},
            "$setWindowFields",
        ),
        (
            doc! {"$fill": {"output": {"ssn": {"method": "linear"}}}},
            "$fill",
        ),
        (
            doc! {"$search": {"text": {"query": CANARY, "path": "ssn"}}},
            "$search",
        ),
        (doc! {"$out": "elsewhere"}, "$out"),
        (doc! {"$merge": {"into": "elsewhere"}}, "$merge"),
        (doc! {"$frobnicate": CANARY}, "$frobnicate"),
    ] {
        refused(aggregate(vec![stage.clone()]), &["shop.customers", path]);
        refused(
            aggregate(vec![doc! {"$facet": {"f": [stage]}}]),
            &["shop.customers", path],
        );
    }
}

#[test]
fn options_of_aggregate_are_checked() {
    let with = |option: &str, value: Bson| {
        let mut command = aggregate(vec![doc! {"$match": {"ssn": "a"}}]);
        command.insert(option, value);
        command
    };
    refused(with("hint", doc! {"address": 1}.into()), &["address"]);
    refused(
        with("collation", doc! {"locale": "en"}.into()),
        &["collation"],
    );
    refused(with("exchange", 1.into()), &["exchange"]);
    assert!(matches!(
        upstream(with("explain", true.into())).plan,
        ReplyPlan::Explained { .. }
    ));
    assert_eq!(
        sent(with("hint", doc! {"ssn": 1}.into()))
            .get_document("hint")
            .unwrap(),
        &doc! {"ssn.e1": 1}
    );
}

#[test]
fn stages_that_are_none_are_malformed() {
    for stages in [
        Bson::from(vec![doc! {}]),
        vec![doc! {"$match": {}, "$limit": 1}].into(),
        vec![doc! {"$match": [{"ssn": CANARY}]}].into(),
        vec![Bson::from(vec![doc! {"$match": {"ssn": CANARY}}])].into(),
        vec![Bson::from(CANARY)].into(),
    ] {
        let refusal = refused(doc! {"aggregate": "customers", "pipeline": stages}, &[]);
        assert_eq!(refusal.kind, RefusalKind::Malformed);
    }
}

#[test]
fn nothing_is_read_below_a_place_where_sealed_and_open_values_may_stand() {
    for below in [
        doc! {"$project": {"y": "$address.street"}},
        doc! {"$project": {"y": "$address.c"}},
        doc! {"$project": {"address.street": 1}},
        doc! {"$set": {"y": {"$concat": ["$ssn.e1", "x"]}}},
    ] {
        refused(
            aggregate(vec![doc! {"$unionWith": "orders"}, below]),
            &["stage 1"],
        );
    }
    // The places themselves are moved, and opened as they come.
    passes(aggregate(vec![
        doc! {"$unionWith": "orders"},
        doc! {"$project": {"y": "$address", "ssn": 1}},
    ]));
}

#[test]
fn what_a_change_names_by_its_path_is_no_open_field() {
    let changed = doc! {"$getField": {"field": "payment.0.card", "input": "$updateDescription.updatedFields"}};
    refused(
        aggregate(vec![
            doc! {"$changeStream": {}},
            doc! {"$match": {"$expr": {"$eq": [changed, CANARY]}}},
        ]),
        &["$expr"],
    );
}

#[test]
fn a_default_beside_sealed_values_is_sealed_as_they_are() {
    for after in [false, true] {
        let window = |default: Bson| {
            let mut shift = doc! {"by": 1};
            if after {
                shift.insert("output", "$ssn");
            }
            shift.insert("default", default);
            shift.insert("output", "$ssn");
            let output = doc! {"before": {"$shift": shift}};
            aggregate(vec![
                doc! {"$setWindowFields": {"sortBy": {"_id": 1}, "output": output}},
            ])
        };
        assert_eq!(
            sent(window("a".into())),
            window(doc! {"$literal": queryable("ssn", "a")}.into()),
        );
    }
}

#[test]
fn a_key_that_is_a_list_stays_one() {
    let group = aggregate(vec![doc! {"$group": {"_id": ["$ssn"]}}]);
    let group = sent(group);
    let stage = group.get_array("pipeline").unwrap()[0]
        .as_document()
        .unwrap();
    let kept = stage
        .get_document("$group")
        .unwrap()
        .get_document("fieldseal_key");
    assert_eq!(
        kept.unwrap(),
        &doc! {"$first": {"$concatArrays": [["$ssn"]]}}
    );
}

#[test]
fn accumulators_have_one_operand_and_one_operator() {
    for operator in ["$first", "$push", "$addToSet"] {
        let stage = doc! {"$group": {"_id": null, "x": {operator: ["$ssn"]}}};
        refused(aggregate(vec![stage]), &["stage 0", operator]);
    }
    let two = doc! {"$sum": 1, "$push": {"$eq": ["$ssn", CANARY]}};
    for stage in [
        doc! {"$group": {"_id": null, "x": two.clone()}},
        doc! {"$setWindowFields": {"sortBy": {"_id": 1}, "output": {"x": two}}},
    ] {
        refused(aggregate(vec![stage]), &["accumulator"]);
    }
}
