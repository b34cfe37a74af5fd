//! Expressions: what of them moves sealed values, what compares their tokens, what
//! asks whether they are there, and what is refused.

use super::*;

fn find(expression: Bson) -> Document {
    doc! {"find": "customers", "filter": {"$expr": expression}}
}

#[track_caller]
fn becomes(expression: Document, expected: Document) {
    assert_eq!(
        sent(find(expression.clone().into())),
        find(expected.into()),
        "{expression}"
    );
}

#[track_caller]
fn stays(expression: impl Into<Bson>) {
    passes(find(expression.into()));
}

fn aggregate(stages: Vec<Document>) -> Document {
    doc! {"aggregate": "customers", "pipeline": stages, "cursor": {}}
}

fn ssn(value: &str) -> Bson {
    token("ssn", value)
}

/// The key of a path that may be an array of sealed values, once.
fn key(path: &str) -> Document {
    doc! {"$cond": [
        {"$isArray": [path]},
        {"$map": {"input": path, "as": "fs1", "in": {"$ifNull": ["$$fs1.e1", "$$fs1"]}}},
        {"$ifNull": [format!("{path}.e1"), path]},
    ]}
}

/// A constant sealed for `ssn`.
fn constant(value: &str) -> Document {
    doc! {"$literal": queryable("ssn", value)}
}

#[test]
fn a_path_and_constants_are_compared_by_a_plain_path_which_an_index_answers() {
    for (expression, expected) in [
        (
            doc! {"$eq": ["$ssn", "a"]},
            doc! {"$eq": ["$ssn.e1", ssn("a")]},
        ),
        (
            doc! {"$ne": ["a", "$ssn"]},
            doc! {"$ne": [ssn("a"), "$ssn.e1"]},
        ),
        (
            doc! {"$in": ["$ssn", ["a", "b"]]},
            doc! {"$in": ["$ssn.e1", [ssn("a"), ssn("b")]]},
        ),
        (
            doc! {"$eq": ["$$ROOT.payment.card", "c"]},
            doc! {"$eq": ["$$ROOT.payment.card.e1", token("payment.card", "c")]},
        ),
        (
            doc! {"$eq": ["$contacts.home.phone", "p"]},
            doc! {"$eq": ["$contacts.home.phone.e1", token("contacts.*.phone", "p")]},
        ),
        (
            doc! {"$eq": ["$age", 5.0]},
            doc! {"$eq": ["$age.e1", token("age", 5)]},
        ),
    ] {
        becomes(expression, expected);
    }
}

#[test]
fn arrays_are_compared_by_the_tokens_of_their_elements_and_null_stays_null() {
    let tags = |value: &str| token("tags", value);
    becomes(
        doc! {"$eq": ["$tags", ["a", null]]},
        doc! {"$eq": [key("$tags"), [tags("a"), null]]},
    );
    becomes(
        doc! {"$in": ["a", "$tags"]},
        doc! {"$in": [tags("a"), key("$tags")]},
    );
    becomes(
        doc! {"$setIsSubset": [["a", "b"], "$tags"]},
        doc! {"$setIsSubset": [[tags("a"), tags("b")], key("$tags")]},
    );
    becomes(
        doc! {"$eq": [{"$indexOfArray": ["$tags", "a", 1]}, 2]},
        doc! {"$eq": [{"$indexOfArray": [key("$tags"), tags("a"), 1]}, 2]},
    );
    becomes(
        doc! {"$gt": [{"$size": {"$setIntersection": ["$tags", ["a"]]}}, 0]},
        doc! {"$gt": [{"$size": {"$setIntersection": [key("$tags"), [tags("a")]]}}, 0]},
    );
    // The order of a set is that of its values.
    refused(
        find(doc! {"$eq": [{"$setUnion": ["$tags", [CANARY]]}, [CANARY]]}.into()),
        &["$expr"],
    );
}

#[test]
fn what_an_operator_gives_is_bound_before_its_tokens_are_read() {
    becomes(
        doc! {"$eq": [{"$arrayElemAt": ["$tags", 0]}, "a"]},
        doc! {"$eq": [
            {"$let": {
                "vars": {"fs": {"$arrayElemAt": ["$tags", 0]}},
                "in": {"$ifNull": ["$$fs.e1", "$$fs"]},
            }},
            token("tags", "a"),
        ]},
    );
    // Variables of the service may have the names that are used here.
    becomes(
        doc! {"$let": {"vars": {"fs": "$ssn", "fs1": "$tags"}, "in": {"$in": ["a", ["$$fs", null]]}}},
        doc! {"$let": {"vars": {"fs": "$ssn", "fs1": "$tags"}, "in": {"$in": [ssn("a"), [key("$$fs"), null]]}}},
    );
}

#[test]
fn defaults_are_compared_as_tokens_too() {
    becomes(
        doc! {"$eq": [{"$ifNull": ["$ssn", "none"]}, "none"]},
        doc! {"$eq": [{"$ifNull": [key("$ssn"), ssn("none")]}, ssn("none")]},
    );
    becomes(
        doc! {"$eq": [{"$cond": [{"$gt": ["$n", 1]}, "$ssn", "b"]}, null]},
        doc! {"$eq": [{"$cond": [{"$gt": ["$n", 1]}, "$ssn", constant("b")]}, null]},
    );
    becomes(
        doc! {"$eq": [{"$switch": {"branches": [{"case": {"$eq": ["$ssn", "a"]}, "then": "$ssn"}], "default": {"$literal": "$d"}}}, "b"]},
        doc! {"$eq": [{"$switch": {"branches": [{"case": {"$eq": ["$ssn.e1", ssn("a")]}, "then": key("$ssn")}], "default": {"$literal": ssn("$d")}}}, ssn("b")]},
    );
}

#[test]
fn presence_and_truth_are_asked_as_they_are() {
    for expression in [
        doc! {"$eq": ["$ssn", null]},
        doc! {"$ne": [null, "$tags"]},
        doc! {"$gt": ["$ssn", null]},
        doc! {"$cond": ["$ssn", "$payment", false]},
        doc! {"$and": ["$ssn", {"$not": ["$tags"]}]},
        doc! {"$isArray": "$tags"},
        doc! {"$gt": [{"$size": "$visits"}, 1]},
        doc! {"$isNumber": "$ssn"},
        doc! {"$let": {"vars": {"ssn": "$name"}, "in": {"$eq": ["$$ssn", "x"]}}},
        doc! {"$eq": [{"$map": {"input": "$list", "as": "ssn", "in": "$$ssn.ssn"}}, ["x"]]},
        doc! {"$gt": [{"$reduce": {"input": "$list", "initialValue": 0, "in": {"$add": ["$$value", "$$this"]}}}, 1]},
    ] {
        stays(expression);
    }
}

#[test]
fn constants_in_the_place_of_sealed_values_are_sealed_where_truth_is_asked() {
    for (expression, expected) in [
        (
            doc! {"$ifNull": ["$ssn", CANARY]},
            doc! {"$ifNull": ["$ssn", constant(CANARY)]},
        ),
        (
            doc! {"$and": ["$n", {"$cond": ["$ssn", "$ssn", {"$literal": CANARY}]}]},
            doc! {"$and": ["$n", {"$cond": ["$ssn", "$ssn", constant(CANARY)]}]},
        ),
        (
            doc! {"$not": [{"$switch": {"branches": [{"case": {"$ifNull": ["$ssn", CANARY]}, "then": "$ssn"}], "default": CANARY}}]},
            doc! {"$not": [{"$switch": {"branches": [{"case": {"$ifNull": ["$ssn", constant(CANARY)]}, "then": "$ssn"}], "default": constant(CANARY)}}]},
        ),
        (
            doc! {"$cond": [{"$let": {"vars": {"s": "$ssn"}, "in": {"$ifNull": ["$$s", CANARY]}}}, 1, 0]},
            doc! {"$cond": [{"$let": {"vars": {"s": "$ssn"}, "in": {"$ifNull": ["$$s", constant(CANARY)]}}}, 1, 0]},
        ),
    ] {
        becomes(expression, expected);
    }
    // By a variable, too, which is nothing that an open field can be compared with then.
    let by_name =
        |value: Bson| doc! {"$let": {"vars": {"k": value}, "in": {"$ifNull": ["$ssn", "$$k"]}}};
    becomes(by_name(CANARY.into()), by_name(constant(CANARY).into()));
    becomes(
        doc! {"$ifNull": ["$ssn", {"$let": {"vars": {"k": CANARY}, "in": "$$k"}}]},
        doc! {"$ifNull": ["$ssn", {"$let": {"vars": {"k": constant(CANARY)}, "in": "$$k"}}]},
    );
    stays(by_name("$n".into()));
    let compared = doc! {"$let": {"vars": {"k": CANARY}, "in": {"$cond": [{"$eq": ["$n", "$$k"]}, "$ssn", "$$k"]}}};
    refused(find(compared.into()), &["sealed"]);
    // What the field cannot have is no value of it, and is as true or false as it was.
    for other in [Bson::Boolean(false), 0.into(), "$n".into(), Bson::Null] {
        stays(doc! {"$ifNull": ["$ssn", other]});
    }
    // A number could be false, which it is not when it is sealed.
    refused(find(doc! {"$ifNull": ["$age", 0]}.into()), &["age"]);
}

#[test]
fn a_type_that_the_schema_knows_is_told() {
    let sealed = doc! {"$in": [{"$type": "$$fs"}, ["object", "binData"]]};
    becomes(
        doc! {"$eq": [{"$type": "$ssn"}, "string"]},
        doc! {"$eq": [{"$let": {"vars": {"fs": "$ssn"}, "in": {"$cond": [sealed.clone(), "string", {"$type": "$$fs"}]}}}, "string"]},
    );
    becomes(
        doc! {"$isNumber": "$age"},
        doc! {"$let": {"vars": {"fs": "$age"}, "in": sealed}},
    );
    for (operator, path) in [
        ("$type", "age"),
        ("$type", "address"),
        ("$isNumber", "address"),
    ] {
        refused(
            find(doc! {"$eq": [{operator: format!("${path}")}, CANARY]}.into()),
            &[path, operator],
        );
    }
}

#[test]
fn constants_beside_sealed_values_are_sealed() {
    let project = |expression: Document| aggregate(vec![doc! {"$project": {"x": expression}}]);
    let tag = |value: &str| doc! {"$literal": queryable("tags", value)};
    for (expression, expected) in [
        (
            doc! {"$ifNull": ["$ssn", "x"]},
            doc! {"$ifNull": ["$ssn", constant("x")]},
        ),
        (
            doc! {"$cond": [{"$eq": ["$ssn", "a"]}, "$ssn", {"$literal": "$x"}]},
            doc! {"$cond": [{"$eq": ["$ssn.e1", ssn("a")]}, "$ssn", constant("$x")]},
        ),
        (
            doc! {"$concatArrays": ["$tags", [{"$cond": ["$n", "a", "b"]}]]},
            doc! {"$concatArrays": ["$tags", [{"$cond": ["$n", tag("a"), tag("b")]}]]},
        ),
    ] {
        assert_eq!(sent(project(expression)), project(expected));
    }
    // And so they are found.
    let stages = |default: Bson, path: &str, value: Bson| {
        aggregate(vec![
            doc! {"$set": {"x": {"$ifNull": ["$ssn", default]}}},
            doc! {"$match": {path: value}},
        ])
    };
    assert_eq!(
        sent(stages("d".into(), "x", "d".into())),
        stages(constant("d").into(), "x.e1", doc! {"$eq": ssn("d")}.into()),
    );
    // Where a sealed field stands, a constant is one of its values.
    let set = |value: Bson| aggregate(vec![doc! {"$set": {"ssn": value}}]);
    assert_eq!(sent(set("x".into())), set(constant("x").into()));
}

#[test]
fn constants_of_let_are_tokens_and_are_not_sent() {
    let command = |expression: Document, value: Bson| {
        doc! {"find": "customers", "filter": {"$expr": expression}, "let": {"v": value, "w": 1}}
    };
    assert_eq!(
        sent(command(doc! {"$eq": ["$ssn", "$$v"]}, "a".into())),
        command(doc! {"$eq": ["$ssn.e1", ssn("a")]}, Bson::Null),
    );
    // The value comes before or after its use.
    assert_eq!(
        sent(
            doc! {"aggregate": "customers", "let": {"v": "a"}, "pipeline": [{"$match": {"$expr": {"$in": ["$$v", "$tags"]}}}], "cursor": {}}
        ),
        doc! {"aggregate": "customers", "let": {"v": null}, "pipeline": [{"$match": {"$expr": {"$in": [token("tags", "a"), key("$tags")]}}}], "cursor": {}},
    );
    refused(
        command(
            doc! {"$and": [{"$eq": ["$ssn", "$$v"]}, {"$eq": ["$name", "$$v"]}]},
            CANARY.into(),
        ),
        &["let"],
    );
    // A variable of the same name is another one.
    passes(command(
        doc! {"$let": {"vars": {"v": "$name"}, "in": {"$eq": ["$$v", "$city"]}}},
        "a".into(),
    ));
    refused(
        command(
            doc! {"$reduce": {"input": "$list", "initialValue": 0, "in": {"$eq": ["$ssn", "$$this"]}}},
            CANARY.into(),
        ),
        &["$$this"],
    );
}

#[test]
fn what_would_compute_on_ciphertext_is_refused_by_its_operator() {
    for (expression, named) in [
        (doc! {"$gt": ["$ssn", CANARY]}, ["ssn", "$gt"]),
        (doc! {"$cmp": ["$ssn", "$ssn"]}, ["ssn", "$cmp"]),
        (doc! {"$eq": ["$ssn", "$name"]}, ["$expr", "$name"]),
        (doc! {"$eq": ["$ssn", "$tags"]}, ["ssn", "domain"]),
        (
            doc! {"$eq": ["$visits.note", CANARY]},
            ["visits.note", "equality"],
        ),
        (doc! {"$eq": ["$payment", CANARY]}, ["payment", "$expr"]),
        (
            doc! {"$eq": ["$ssn", {"$toUpper": CANARY}]},
            ["$expr", "$toUpper"],
        ),
        (doc! {"$eq": ["$ssn", {"x": CANARY}]}, ["$expr", "document"]),
        (
            doc! {"$eq": [{"$toUpper": "$ssn"}, CANARY]},
            ["ssn", "$toUpper"],
        ),
        (doc! {"$concat": ["$ssn", CANARY]}, ["ssn", "$concat"]),
        (doc! {"$max": ["$age", 1]}, ["age", "$max"]),
        (
            doc! {"$objectToArray": "$$ROOT"},
            ["address", "$objectToArray"],
        ),
        (
            doc! {"$objectToArray": "$payment"},
            ["payment.card", "$objectToArray"],
        ),
        (
            doc! {"$zip": {"inputs": ["$tags", ["a"]]}},
            ["tags", "$zip"],
        ),
        (
            doc! {"$setUnion": ["$tags", [CANARY]]},
            ["tags", "$setUnion"],
        ),
        (doc! {"$mergeObjects": ["$ssn", {"x": 1}]}, ["ssn", "$expr"]),
        (doc! {"$size": "$address"}, ["address", "$size"]),
        (
            doc! {"$concatArrays": ["$address", [1]]},
            ["address", "$concatArrays"],
        ),
        (doc! {"$not": ["$age"]}, ["age", "true"]),
        (doc! {"$cond": ["$address", 1, 2]}, ["address", "true"]),
        (doc! {"$eq": ["$ssn.c", CANARY]}, ["ssn", "inside"]),
        (
            doc! {"$getField": {"field": "c", "input": "$ssn"}},
            ["$expr", "$getField"],
        ),
        (
            doc! {"$getField": {"field": {"$concat": ["s", "sn"]}, "input": "$$ROOT"}},
            ["$expr", "$getField"],
        ),
        (
            doc! {"$eq": ["$contacts.0.phone", CANARY]},
            ["contacts", "number"],
        ),
        (
            doc! {"$let": {"vars": {"CURRENT": "$name"}, "in": "$ssn"}},
            ["$expr", "CURRENT"],
        ),
        (
            doc! {"$function": {"body": CANARY, "args": [], "lang": "js"}},
            ["$function", "JavaScript"],
        ),
        (doc! {"$frobnicate": CANARY}, ["$expr", "$frobnicate"]),
        (
            doc! {"$sortArray": {"input": "$payment", "sortBy": {"card": 1}}},
            ["payment.card", "$expr"],
        ),
        (
            doc! {"$reduce": {"input": "$list", "initialValue": "", "in": {"$concat": ["$$value", "$ssn"]}}},
            ["ssn", "$concat"],
        ),
    ] {
        refused(find(expression.into()), &named);
    }
}

#[test]
fn a_refusal_names_the_stage_by_its_index_and_the_operator() {
    let first = doc! {"$match": {"name": "a"}};
    for (stage, named) in [
        (doc! {"$project": {"x": {"$toUpper": "$ssn"}}}, "`$toUpper`"),
        (
            doc! {"$group": {"_id": {"$concat": ["$ssn", CANARY]}}},
            "`$concat`",
        ),
        (
            doc! {"$group": {"_id": null, "x": {"$max": "$age"}}},
            "`$max`",
        ),
        (doc! {"$set": {"x": {"$gt": ["$ssn", CANARY]}}}, "`$gt`"),
    ] {
        let name = stage.keys().next().unwrap().clone();
        refused(
            aggregate(vec![first.clone(), stage.clone()]),
            &[&format!("stage 1, `{name}`"), named, "shop.customers"],
        );
        // Stages that are put between do not count.
        refused(
            aggregate(vec![
                doc! {"$group": {"_id": "$ssn", "ssn": {"$first": "$ssn"}, "age": {"$first": "$age"}}},
                stage.clone(),
            ]),
            &[&format!("stage 1, `{name}`")],
        );
        refused(
            aggregate(vec![first.clone(), doc! {"$facet": {"f": [stage]}}]),
            &[&format!("stage 1.f.0, `{name}`")],
        );
    }
}

#[test]
fn groups_are_made_by_tokens_and_keep_the_key_of_their_first_document() {
    let restored = [
        doc! {"$set": {"_id": "$fieldseal_key"}},
        doc! {"$unset": "fieldseal_key"},
    ];
    let stages = |group: Document, more: &[Document], last: Document| {
        let mut stages = vec![doc! {"$group": group}];
        stages.extend_from_slice(more);
        stages.push(last);
        aggregate(stages)
    };
    assert_eq!(
        sent(stages(
            doc! {"_id": "$ssn", "n": {"$sum": 1}},
            &[],
            doc! {"$match": {"_id": "a"}}
        )),
        stages(
            doc! {"_id": key("$ssn"), "fieldseal_key": {"$first": "$ssn"}, "n": {"$sum": 1}},
            &restored,
            doc! {"$match": {"_id.e1": {"$eq": ssn("a")}}}
        ),
    );
    let compound = doc! {"s": "$ssn", "n": "$name"};
    assert_eq!(
        sent(stages(
            doc! {"_id": compound.clone()},
            &[],
            doc! {"$match": {"_id.s": "a"}}
        )),
        stages(
            doc! {"_id": {"s": key("$ssn"), "n": "$name"}, "fieldseal_key": {"$first": compound}},
            &restored,
            doc! {"$match": {"_id.s.e1": {"$eq": ssn("a")}}}
        ),
    );
    refused(
        aggregate(vec![
            doc! {"$group": {"_id": "$ssn", "fieldseal_key": {"$sum": 1}}},
        ]),
        &["fieldseal_key"],
    );
}

#[test]
fn what_a_stage_may_have_left_in_a_place_is_not_forgotten() {
    // Each of these leaves a sealed value where the next stage looks.
    for (stage, filter) in [
        (
            doc! {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"ssn": "$name"}]}},
            doc! {"ssn": CANARY},
        ),
        (
            doc! {"$replaceWith": {"$mergeObjects": [{"name": "$ssn"}, "$$ROOT"]}},
            doc! {"name": CANARY},
        ),
        (
            doc! {"$project": {"visits.0.note": 1}},
            doc! {"visits.0.note": CANARY},
        ),
        (
            doc! {"$set": {"visits.0.at": 1}},
            doc! {"visits.0.note": CANARY},
        ),
        (doc! {"$replaceWith": "$visits"}, doc! {"0.note": CANARY}),
        (
            doc! {"$set": {"x": {"$getField": {"field": "0", "input": "$visits"}}}},
            doc! {"x.note": CANARY},
        ),
        (
            doc! {"$group": {"_id": null, "x": {"$mergeObjects": {"a": "$name", "b": "$ssn"}}}},
            doc! {"x.b": {"$gt": CANARY}},
        ),
        (
            doc! {"$facet": {"f": [{"$project": {"y": "$address"}}]}},
            doc! {"f.y": CANARY},
        ),
    ] {
        refused(
            aggregate(vec![stage, doc! {"$match": filter}]),
            &["shop.customers"],
        );
    }
}

#[test]
fn moved_values_are_found_under_their_new_paths() {
    for (stage, path, field) in [
        (doc! {"$project": {"x": "$ssn"}}, "x", "ssn"),
        (doc! {"$project": {"in": {"x": "$tags"}}}, "in.x", "tags"),
        (
            doc! {"$set": {"x": "$$ROOT"}},
            "x.payment.card",
            "payment.card",
        ),
        (doc! {"$replaceWith": "$payment"}, "card", "payment.card"),
        (
            doc! {"$replaceRoot": {"newRoot": {"x": "$contacts"}}},
            "x.home.phone",
            "contacts.*.phone",
        ),
        (
            doc! {"$group": {"_id": null, "all": {"$push": "$$ROOT"}}},
            "all.ssn",
            "ssn",
        ),
        (
            doc! {"$group": {"_id": null, "all": {"$top": {"sortBy": {"n": 1}, "output": "$ssn"}}}},
            "all",
            "ssn",
        ),
        (
            doc! {"$setWindowFields": {"sortBy": {"n": 1}, "output": {"x": {"$shift": {"output": "$ssn", "by": 1}}}}},
            "x",
            "ssn",
        ),
        (doc! {"$unwind": "$tags"}, "tags", "tags"),
        (
            doc! {"$set": {"x": {"$filter": {"input": "$tags", "cond": {"$ne": ["$$this", null]}}}}},
            "x",
            "tags",
        ),
        (
            doc! {"$set": {"x": {"$map": {"input": "$payment", "as": "p", "in": "$$p.card"}}}},
            "x",
            "payment.card",
        ),
        (
            doc! {"$set": {"x": {"$reduce": {"input": "$payment", "initialValue": [], "in": {"$concatArrays": ["$$value", ["$$this.card"]]}}}}},
            "x",
            "payment.card",
        ),
        (doc! {"$set": {"x": {"$getField": "ssn"}}}, "x", "ssn"),
        (
            doc! {"$replaceWith": {"$setField": {"field": "x", "input": "$$ROOT", "value": "$ssn"}}},
            "x",
            "ssn",
        ),
        (
            doc! {"$redact": {"$cond": [{"$gt": ["$ssn", null]}, "$$KEEP", "$$PRUNE"]}},
            "ssn",
            "ssn",
        ),
    ] {
        let after = |path: String, value: Bson| {
            aggregate(vec![stage.clone(), doc! {"$match": {path: value}}])
        };
        assert_eq!(
            sent(after(path.to_owned(), "v".into())),
            after(format!("{path}.e1"), doc! {"$eq": token(field, "v")}.into()),
        );
    }
}

#[test]
fn nested_expressions_take_no_more_than_their_size() {
    for wrap in [
        |inner: Bson| doc! {"$map": {"input": inner, "in": "$$this"}},
        |inner: Bson| doc! {"$filter": {"input": inner, "cond": true}},
        |inner: Bson| doc! {"$getField": {"field": "a", "input": inner}},
        |inner: Bson| doc! {"$ifNull": [inner, "x"]},
        |inner: Bson| doc! {"$cond": [{"$eq": [inner, "x"]}, "$tags", "y"]},
        |inner: Bson| doc! {"$reduce": {"input": inner, "initialValue": [], "in": "$$value"}},
        |inner: Bson| doc! {"$eq": [{"$arrayElemAt": [["$tags", inner], 0]}, "x"]},
    ] {
        let mut expression = Bson::from("$tags");
        for _ in 0..30 {
            expression = wrap(expression).into();
        }
        // If it took twice the time for each, this would not end.
        let _ = decided(&framed(&find(expression)));
    }
}

#[test]
fn no_variable_changes_what_paths_mean() {
    let same = doc! {"$match": {"$expr": {"$eq": ["$ssn", CANARY]}}};
    for name in ["CURRENT", "ROOT", "REMOVE"] {
        let variables = doc! {name: "$$ROOT"};
        refused(
            aggregate(vec![doc! {"$lookup": {
                "from": "orders", "let": variables.clone(), "pipeline": [same.clone()], "as": "x",
            }}]),
            &[name],
        );
        refused(
            aggregate(vec![doc! {"$merge": {
                "into": "customers", "let": variables, "whenMatched": [],
            }}]),
            &[name],
        );
        refused(
            doc! {"find": "customers", "filter": {"$expr": {"$eq": ["$name", 1]}}, "let": {name: {"name": CANARY}}},
            &["variable"],
        );
    }
}

#[test]
fn a_computed_name_of_a_field_is_an_expression_as_any() {
    let field = |operator: &str, test: Document| {
        let name = doc! {"$cond": [test, "a", "b"]};
        doc! {operator: {"field": name, "input": {"a": 1, "b": 2}, "value": 1}}
    };
    for operator in ["$getField", "$setField"] {
        becomes(
            field(operator, doc! {"$eq": ["$ssn", "a"]}),
            field(operator, doc! {"$eq": ["$ssn.e1", ssn("a")]}),
        );
        refused(
            find(field(operator, doc! {"$gt": ["$ssn", CANARY]}).into()),
            &["ssn", "$gt"],
        );
    }
    // Nothing sealed is in the other collection, but in the variable.
    let stages = |test: Document| {
        let named = doc! {"$getField": {"$cond": [test, "a", "b"]}};
        aggregate(vec![doc! {"$lookup": {
            "from": "orders", "let": {"v": "$ssn"}, "pipeline": [{"$match": {"$expr": named}}], "as": "x",
        }}])
    };
    assert_eq!(
        sent(stages(doc! {"$eq": ["$$v", "a"]})),
        stages(doc! {"$eq": ["$$v.e1", ssn("a")]}),
    );
}

#[test]
fn what_is_no_expression_does_not_carry_constants_past() {
    for expression in [
        doc! {"$expr": {"a": 1, "$eq": ["$ssn", CANARY]}},
        doc! {"$expr": {"$eq": {"0": "$ssn", "1": CANARY}}},
        doc! {"$expr": {"$in": {"0": "$ssn", "1": [CANARY]}}},
    ] {
        refused(doc! {"find": "customers", "filter": expression}, &[]);
    }
    for stage in ["$project", "$set"] {
        let fields = doc! {"x": {"a": 1, "$eq": ["$ssn", CANARY]}};
        refused(aggregate(vec![doc! {stage: fields}]), &["stage 0"]);
    }
}

#[test]
fn constants_in_expressions_for_a_sealed_field_are_sealed() {
    let set = |one: Bson, other: Bson| {
        aggregate(vec![
            doc! {"$set": {"ssn": {"$cond": ["$name", one, other]}}},
            doc! {"$project": {"x": {"$eq": ["$name", "b"]}}},
        ])
    };
    assert_eq!(
        sent(set("a".into(), "$city".into())),
        set(constant("a").into(), "$city".into()),
    );
    let field = |value: Bson| {
        let field = doc! {"field": "ssn", "input": "$$ROOT", "value": value};
        aggregate(vec![doc! {"$replaceWith": {"$setField": field}}])
    };
    assert_eq!(sent(field("a".into())), field(constant("a").into()));
}

#[test]
fn nulls_in_an_array_are_not_nothing() {
    let nulls = doc! {"$map": {"input": "$tags", "in": null}};
    let update =
        doc! {"findAndModify": "customers", "query": {}, "update": [{"$set": {"tags": nulls}}]};
    refused(update, &["tags"]);
}
