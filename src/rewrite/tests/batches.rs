//! Statements that are refused alone, and the others of their batch.

use super::*;
use crate::wire::testing::sequence;

/// What MongoDB gets of a batch, and which statements were refused with which code.
fn batch(command: Document) -> (Document, Vec<(usize, i32)>) {
    let mut upstream = forwarded(&framed(&command)).unwrap();
    upstream.body.remove("$db");
    let refused = upstream.plan.refused().iter();
    let refused = refused.map(|statement| (statement.index, statement.refusal.kind.code()));
    (upstream.body, refused.collect())
}

#[test]
fn a_refused_document_leaves_its_place_to_one_that_mongodb_refuses() {
    let documents = |second: Document, fourth: Document| {
        doc! {"insert": "customers", "ordered": false, "documents": [
            {"_id": 1, "name": "a"}, second, {"_id": 3, "payment": {"open": 1}}, fourth, {"_id": 5},
        ]}
    };
    let (sent, refused) = batch(documents(
        doc! {"_id": 2, "address": CANARY, "ssn": 5},
        doc! {"_id": 4, "tags": ["x", 5], "note": CANARY},
    ));
    let impossible = doc! {"_id": []};
    assert_eq!(sent, documents(impossible.clone(), impossible));
    assert_eq!(refused, [(1, 121), (3, 121)]);
}

#[test]
fn a_refused_update_or_delete_leaves_its_place_to_one_that_mongodb_refuses() {
    let updates = |second: Document| {
        doc! {"update": "customers", "updates": [
            {"q": {"_id": 1}, "u": {"$set": {"name": "a"}}}, second, {"q": {"_id": 3}, "u": {"$inc": {"n": 1}}, "upsert": true},
        ]}
    };
    let (sent, refused) = batch(updates(
        doc! {"q": {"ssn": CANARY}, "u": {"$inc": {"age": 1}}, "multi": true},
    ));
    assert_eq!(sent, updates(doc! {"q": {"$fieldsealRefused": 1}, "u": {}}));
    assert_eq!(refused, [(1, 115)]);

    let deletes = |first: Document| {
        doc! {"delete": "customers", "deletes": [
            first, {"q": {"_id": 3}, "limit": 0},
        ]}
    };
    let (sent, refused) = batch(deletes(doc! {"q": {"ssn": {"$gt": CANARY}}, "limit": 0}));
    assert_eq!(
        sent,
        deletes(doc! {"q": {"$fieldsealRefused": 1}, "limit": 1})
    );
    assert_eq!(refused, [(0, 115)]);
}

#[test]
fn statements_in_a_document_sequence_are_refused_alone_as_well() {
    let statements = [
        doc! {"_id": 1, "ssn": "a"},
        doc! {"_id": 2, "ssn": 5},
        doc! {"_id": 3, "age": 7},
    ];
    let command = body(&doc! {"insert": "customers", "$db": "shop"});
    let section = sequence("documents", &statements);
    for sections in [[&command, &section], [&section, &command]] {
        let frame = msg(0, &sections.map(|section| &section[..]).concat());
        let upstream = forwarded(&frame).unwrap();
        assert_eq!(
            upstream.sequences,
            [(
                "documents".to_owned(),
                vec![
                    doc! {"_id": 1, "ssn": queryable("ssn", "a")},
                    doc! {"_id": []},
                    doc! {"_id": 3, "age": queryable("age", 7)},
                ]
            )]
        );
        let [refused] = upstream.plan.refused() else {
            panic!("{:?}", upstream.plan);
        };
        assert_eq!(refused.index, 1);
        assert!(refused.refusal.message.contains("`ssn` takes"));
    }
}

#[test]
fn what_is_no_statements_own_fault_refuses_the_whole_batch() {
    let whole = |command: Document| {
        let refusal = forwarded(&framed(&command)).err();
        assert!(refusal.is_some(), "{command}");
    };
    whole(doc! {"insert": "customers", "documents": [{"_id": 1}], "frobnicate": 1});
    whole(
        doc! {"update": "customers", "updates": [{"q": {}, "u": {"$set": {"x": 1}}, "frobnicate": 1}]},
    );
    whole(doc! {"delete": "customers", "deletes": [{"q": {}, "limit": 1, "frobnicate": 1}]});
    whole(doc! {"update": "customers", "updates": [{"q": {}, "u": 5}]});
    // What is explained is not done.
    whole(
        doc! {"explain": {"delete": "customers", "deletes": [{"q": {"ssn": {"$gt": 1}}, "limit": 0}]}},
    );
    let sealed = Bson::Binary(Binary {
        subtype: BinarySubtype::from(SUBTYPE),
        bytes: [&NEEDLE[1..], &[1; 60][..]].concat(),
    });
    whole(doc! {"insert": "customers", "documents": [{"_id": 1}, {"x": sealed}]});
}

#[test]
fn constants_of_let_that_a_refused_statement_used_are_not_sent() {
    let compared = doc! {"ssn": {"$gt": CANARY}, "$expr": {"$eq": ["$ssn", "$$v"]}};
    let halfway = doc! {"$expr": {"$and": [{"$eq": ["$name", "$$v"]}, {"$gt": ["$ssn", "$$v"]}]}};
    for filter in [compared, halfway] {
        for ordered in [true, false] {
            let update = |first: Document, constant: Bson| {
                doc! {"update": "customers", "ordered": ordered, "let": {"v": constant, "w": 1}, "updates": [
                    first, {"q": {"$expr": {"$eq": ["$n", "$$w"]}}, "u": {"$set": {"name": "a"}}},
                ]}
            };
            let refused = doc! {"q": {"$fieldsealRefused": 1}, "u": {}};
            assert_eq!(
                batch(update(
                    doc! {"q": filter.clone(), "u": {"$set": {"n": 1}}},
                    CANARY.into()
                )),
                (update(refused, Bson::Null), vec![(0, 115)]),
            );
            let delete = |last: Document, constant: Bson| {
                doc! {"delete": "customers", "ordered": ordered, "deletes": [
                    {"q": {"$expr": {"$eq": ["$n", "$$w"]}}, "limit": 1}, last,
                ], "let": {"w": 1, "v": constant}}
            };
            let refused = doc! {"q": {"$fieldsealRefused": 1}, "limit": 1};
            assert_eq!(
                batch(delete(
                    doc! {"q": filter.clone(), "limit": 1},
                    CANARY.into()
                )),
                (delete(refused, Bson::Null), vec![(1, 115)]),
            );
        }
    }
}

#[test]
fn the_constants_of_a_statement_have_names_of_their_own() {
    for (shared, own) in [("v", "v"), ("w", "CURRENT")] {
        let update = doc! {"q": {"_id": 1}, "u": [{"$set": {"n": {"$eq": ["$ssn", "$$v"]}}}], "c": {own: "b"}};
        let command = doc! {"update": "customers", "updates": [update], "let": {shared: CANARY}};
        let (sent, refused) = batch(command);
        assert_eq!(refused, [(0, 115)]);
        assert!(!sent.to_string().contains(CANARY), "{sent}");
    }
}
