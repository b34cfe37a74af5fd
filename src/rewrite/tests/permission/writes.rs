//! Writes by those who may not read a field, or not write it.

use super::*;

#[test]
fn a_masked_field_may_be_written_by_what_tells_nothing_of_it() {
    for command in [
        doc! {"insert": "customers", "documents": [{"ssn": "a", "tags": ["x", null], "payment": {"card": null}}]},
        update(doc! {"$set": {"ssn": "a", "payment.card": "b"}}),
        update(doc! {"$set": {"payment": {"card": "b"}}}),
        update(doc! {"$unset": {"ssn": "", "payment": ""}}),
        update(doc! {"$push": {"tags": "a", "visits": {"note": "b"}}}),
        update(doc! {"$set": {"tags.$[]": "a"}}),
        update(doc! {"$pull": {"visits": {"at": 1}}}),
        update(doc! {"ssn": "a"}),
        update(vec![doc! {"$set": {"ssn": "a", "x": 1}}]),
        update(vec![doc! {"$set": {"ssn": {"$cond": ["$x", "a", "$ssn"]}}}]),
        update(vec![
            doc! {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"x": 1}]}},
        ]),
        doc! {"findAndModify": "customers", "query": {"_id": 1}, "update": {"$set": {"ssn": "a"}}, "upsert": true},
        doc! {"aggregate": "people", "pipeline": [{"$match": {"x": 1}}, {"$merge": "archive"}], "cursor": {}},
    ] {
        lets_through(&MASKED, &command);
    }
    // Whether they did anything would tell what is there.
    for change in [
        doc! {"$pull": {"tags": CANARY}},
        doc! {"$pull": {"tags": null}},
        doc! {"$pullAll": {"tags": [CANARY]}},
        doc! {"$addToSet": {"tags": CANARY}},
        doc! {"$pop": {"tags": 1}},
        doc! {"$min": {"age": 1}},
        doc! {"$inc": {"age": 1}},
        doc! {"$addToSet": {"visits": {"at": 1}}},
        doc! {"$pullAll": {"visits": [{"at": 1}]}},
        doc! {"$pull": {"visits": {"note": CANARY}}},
        doc! {"$rename": {"ssn": "x"}},
        doc! {"$rename": {"x": "ssn"}},
    ] {
        refuses(&MASKED, &update(change.clone()));
        refuses(
            &MASKED,
            &doc! {"findAndModify": "customers", "query": {}, "update": change},
        );
    }
    // The value would be compared with the one that is stored in plain.
    refuses(
        &MASKED,
        &doc! {"update": "leaving", "updates": [{"q": {}, "u": {"$set": {"ssn": CANARY}}}]},
    );
}

#[test]
fn what_the_mask_shows_is_not_stored_in_the_place_of_the_value() {
    let cases = [
        (Mask::Redact, Bson::from("[redacted]")),
        (Mask::Last4, Bson::from("****4711")),
        (Mask::Null, Bson::Null),
    ];
    for (mask, shown) in cases {
        let policy = masked(mask);
        let of_array = Bson::Array(vec!["a".into(), shown.clone()]);
        for command in [
            doc! {"insert": "customers", "documents": [{"ssn": &shown}]},
            doc! {"insert": "customers", "documents": [{"tags": &of_array}]},
            doc! {"insert": "customers", "documents": [{"visits": [{"note": &shown}]}]},
            update(doc! {"$set": {"ssn": &shown}}),
            update(doc! {"$set": {"payment": {"card": &shown}}}),
            update(doc! {"$push": {"tags": &shown}}),
            update(doc! {"$push": {"tags": {"$each": &of_array}}}),
            update(doc! {"$set": {"tags.$[]": &shown}}),
            update(doc! {"ssn": &shown}),
            update(vec![doc! {"$set": {"ssn": &shown}}]),
            update(vec![doc! {"$set": {"ssn": {"$literal": &shown}}}]),
            update(vec![doc! {"$set": {"tags": ["a", &shown]}}]),
            update(vec![
                doc! {"$replaceWith": {"$literal": {"payment": {"card": &shown}}}},
            ]),
            doc! {"findAndModify": "customers", "query": {}, "update": {"$set": {"ssn": &shown}}},
            doc! {"bulkWrite": 1, "ops": [{"insert": 0, "document": {"ssn": &shown}}], "nsInfo": [{"ns": "shop.customers"}], "$db": "admin"},
        ] {
            let refusal = decided_by(&policy, &command).err();
            let refusal = refusal.unwrap_or_else(|| panic!("passed: {command}"));
            assert_eq!(refusal.kind, RefusalKind::WrongType, "{command}: {refusal}");
            assert!(refusal.message.contains("masked"), "{refusal}");
            assert!(!refusal.message.contains("4711"), "{refusal}");
            assert!(decided(&framed(&command)).is_ok(), "{command}");
        }
    }
    let sealed_whole = doc! {"insert": "customers", "documents": [{"address": ["a", "****"]}]};
    assert!(decided_by(&masked(Mask::Last4), &sealed_whole).is_err());
    lets_through(
        &masked(Mask::Email),
        &doc! {"insert": "customers", "documents": [{"ssn": "****1"}]},
    );
}

#[test]
fn a_read_only_field_is_neither_changed_nor_lost() {
    for command in [
        doc! {"insert": "customers", "documents": [{"ssn": CANARY}]},
        doc! {"insert": "customers", "documents": [{"ssn": null}]},
        doc! {"insert": "customers", "documents": [{"visits": [{"at": 1}, {"note": CANARY}]}]},
        doc! {"insert": "customers", "documents": [{"contacts": {"home": {"phone": CANARY}}}]},
        update(doc! {"$set": {"ssn": CANARY}}),
        update(doc! {"$setOnInsert": {"ssn": CANARY}}),
        update(doc! {"$setOnInsert": {"payment": {"card": CANARY}}}),
        update(doc! {"$unset": {"ssn": ""}}),
        update(doc! {"$set": {"payment": {"exp": 1}}}),
        update(doc! {"$set": {"payment": 5}}),
        update(doc! {"$unset": {"payment": ""}}),
        update(doc! {"$unset": {"contacts.home": ""}}),
        update(doc! {"$set": {"visits.0": {"at": 1}}}),
        update(doc! {"$unset": {"visits.$[]": ""}}),
        update(doc! {"$pull": {"visits": {"at": 1}}}),
        update(doc! {"$pop": {"visits": 1}}),
        update(doc! {"$push": {"visits": {"$each": [], "$slice": 0}}}),
        update(doc! {"$push": {"visits": {"note": CANARY}}}),
        update(doc! {"$push": {"tags": CANARY}}),
        update(doc! {"$pull": {"tags": null}}),
        update(doc! {"$pop": {"tags": 1}}),
        update(doc! {"$addToSet": {"tags": CANARY}}),
        update(doc! {"$set": {"tags.$[]": CANARY}}),
        update(doc! {"$rename": {"payment": "x"}}),
        update(doc! {"$rename": {"x": "payment"}}),
        update(doc! {"$currentDate": {"ssn": true}}),
        update(doc! {"$inc": {"age": 1}}),
        update(doc! {"x": 1}),
        update(doc! {}),
        update(vec![doc! {"$set": {"ssn": CANARY}}]),
        update(vec![doc! {"$set": {"ssn": "$ssn"}}]),
        update(vec![doc! {"$set": {"payment": {"card": CANARY}}}]),
        update(vec![doc! {"$set": {"payment": {}}}]),
        update(vec![doc! {"$set": {"payment": "$x"}}]),
        update(vec![doc! {"$addFields": {"payment.card": "$$REMOVE"}}]),
        update(vec![doc! {"$unset": "ssn"}]),
        update(vec![doc! {"$unset": ["x", "payment"]}]),
        update(vec![doc! {"$project": {"ssn": 0}}]),
        update(vec![doc! {"$project": {"x": 1}}]),
        update(vec![doc! {"$replaceWith": {"x": 1}}]),
        update(vec![doc! {"$replaceRoot": {"newRoot": "$x"}}]),
        update(vec![doc! {"$set": {"x": 1}}, doc! {"$unset": "ssn"}]),
        doc! {"update": "customers", "updates": [{"q": {"ssn": CANARY}, "u": {"$set": {"x": 1}}, "upsert": true}]},
        doc! {"update": "customers", "updates": [{"q": {"ssn": null}, "u": {"$set": {"x": 1}}, "upsert": true}]},
        doc! {"update": "customers", "updates": [{"q": {"ssn": {"$in": [null]}}, "u": [{"$set": {"x": 1}}], "upsert": true}]},
        doc! {"findAndModify": "customers", "query": {}, "update": {"$set": {"ssn": CANARY}}},
        doc! {"findAndModify": "customers", "query": {}, "update": {"x": 1}},
        doc! {"findAndModify": "customers", "query": {"payment.card": CANARY}, "update": {"$set": {"x": 1}}, "upsert": true},
        doc! {"aggregate": "orders", "pipeline": [{"$merge": "customers"}], "cursor": {}},
        doc! {"aggregate": "orders", "pipeline": [{"$merge": {"into": {"db": "shop", "coll": "customers"}, "whenMatched": [{"$set": {"x": 1}}]}}], "cursor": {}},
        doc! {"aggregate": "people", "pipeline": [{"$out": "archive"}], "cursor": {}},
        doc! {"bulkWrite": 1, "ops": [{"insert": 0, "document": {"ssn": CANARY}}], "nsInfo": [{"ns": "shop.customers"}], "$db": "admin"},
        doc! {"bulkWrite": 1, "ops": [{"update": 0, "filter": {}, "updateMods": {"$unset": {"ssn": 1}}}], "nsInfo": [{"ns": "shop.customers"}], "$db": "admin"},
    ] {
        let refusal = refuses(&GUARDED, &command);
        assert!(refusal.message.contains("you may not write"), "{refusal}");
    }
}

#[test]
fn a_read_only_field_may_be_read_and_others_written() {
    for command in [
        doc! {"insert": "customers", "documents": [{"x": 1, "payment": {"exp": 1}, "visits": [{"at": 1}]}]},
        find(doc! {"ssn": "a", "tags": {"$size": 1}}),
        aggregate(vec![doc! {"$group": {"_id": "$ssn"}}]),
        aggregate(vec![
            doc! {"$project": {"x": {"$cond": ["$y", "$ssn", "none"]}}},
        ]),
        aggregate(vec![doc! {"$set": {"ssn": "none"}}]),
        update(doc! {"$set": {"x": 1, "payment.exp": 2, "visits.$[].at": 3, "visits.0.at": 1}}),
        update(doc! {"$push": {"visits": {"at": 1}}}),
        update(doc! {"$setOnInsert": {"payment": {"exp": 1}}}),
        update(doc! {"$rename": {"x": "y"}}),
        update(vec![
            doc! {"$set": {"x": "$y", "payment.exp": 1, "visits": {"at": 2}}},
            doc! {"$unset": ["y", "payment.exp"]},
        ]),
        doc! {"update": "customers", "updates": [{"q": {"ssn": "a"}, "u": {"$set": {"x": 1}}}]},
        doc! {"update": "customers", "updates": [{"q": {"x": "a"}, "u": {"$set": {"y": 1}}, "upsert": true}]},
        doc! {"delete": "customers", "deletes": [{"q": {"ssn": "a"}, "limit": 1}]},
        doc! {"findAndModify": "customers", "query": {"ssn": "a"}, "remove": true},
        doc! {"createIndexes": "customers", "indexes": [{"key": {"ssn": 1}, "name": "x"}]},
        doc! {"drop": "customers"},
    ] {
        lets_through(&GUARDED, &command);
    }
}
