//! `bulkWrite` of MongoDB 8, as its documentation has it.

use super::*;
use crate::wire::testing::sequence;

/// A command on `shop.orders` (0), `shop.customers` (1) and `tenant_a.people` (2).
fn bulk(ops: Vec<Document>) -> Document {
    doc! {"bulkWrite": 1, "ops": ops, "nsInfo": namespaces(), "ordered": false, "errorsOnly": true, "$db": "admin"}
}

fn namespaces() -> Vec<Document> {
    ["shop.orders", "shop.customers", "tenant_a.people"]
        .map(|namespace| doc! {"ns": namespace})
        .to_vec()
}

fn ops() -> Vec<Document> {
    vec![
        doc! {"insert": 0, "document": {"ssn": "open here"}},
        doc! {"insert": 1, "document": {"_id": 1, "ssn": "a"}},
        doc! {"update": 1, "filter": {"ssn": "a", "x": 1}, "updateMods": {"$set": {"age": 7}, "$inc": {"n": 1}}, "multi": true},
        doc! {"update": 1, "filter": {"_id": 1}, "updateMods": {"$set": {"tags.$[t]": "c"}}, "arrayFilters": [{"t": "b"}], "sort": {"n": 1}, "hint": {"ssn": 1}},
        doc! {"update": 0, "filter": {"ssn": {"$gt": 1}}, "updateMods": {"$inc": {"ssn": 1}}},
        doc! {"delete": 1, "filter": {"payment.card": {"$in": ["1", "2"]}}, "multi": false},
    ]
}

fn sent_ops() -> Vec<Document> {
    vec![
        doc! {"insert": 0, "document": {"ssn": "open here"}},
        doc! {"insert": 1, "document": {"_id": 1, "ssn": queryable("ssn", "a")}},
        doc! {"update": 1, "filter": {"ssn.e1": {"$eq": token("ssn", "a")}, "x": 1}, "updateMods": {"$set": {"age": queryable("age", 7)}, "$inc": {"n": 1}}, "multi": true},
        doc! {"update": 1, "filter": {"_id": 1}, "updateMods": {"$set": {"tags.$[t]": queryable("tags", "c")}}, "arrayFilters": [{"t.e1": {"$eq": token("tags", "b")}}], "sort": {"n": 1}, "hint": {"ssn.e1": 1}},
        doc! {"update": 0, "filter": {"ssn": {"$gt": 1}}, "updateMods": {"$inc": {"ssn": 1}}},
        doc! {"delete": 1, "filter": {"payment.card.e1": {"$in": [token("payment.card", "1"), token("payment.card", "2")]}}, "multi": false},
    ]
}

#[test]
fn each_operation_goes_by_the_schema_of_its_own_collection() {
    let upstream = forwarded(&framed(&bulk(ops()))).unwrap();
    assert_eq!(upstream.body, bulk(sent_ops()));
    assert!(matches!(upstream.plan, ReplyPlan::Results));

    let command = body(&doc! {"bulkWrite": 1, "$db": "admin"});
    let (ops, listed) = (sequence("ops", &ops()), sequence("nsInfo", &namespaces()));
    for sections in [
        [&command, &ops, &listed],
        [&listed, &ops, &command],
        [&ops, &command, &listed],
    ] {
        let frame = msg(0, &sections.map(|section| &section[..]).concat());
        let upstream = forwarded(&frame).unwrap();
        let sent = upstream.sequences.iter().find(|(name, _)| name == "ops");
        assert_eq!(sent.unwrap().1, sent_ops());
    }
}

#[test]
fn an_upsert_gets_the_sealed_value_of_its_filter() {
    let upstream = forwarded(&framed(&bulk(vec![
        doc! {"update": 1, "filter": {"ssn": "a"}, "updateMods": {"$set": {"n": 1}}, "upsert": true},
    ])));
    let ops = upstream.unwrap().body.get_array("ops").unwrap().clone();
    assert_eq!(
        ops,
        [doc! {"update": 1, "filter": {"ssn.e1": uncopied("ssn", "a")}, "updateMods": {"$set": {"n": 1}, "$setOnInsert": {"ssn": queryable("ssn", "a")}}, "upsert": true}.into()]
    );
}

#[test]
fn an_operation_that_cannot_be_done_refuses_them_all() {
    for op in [
        doc! {"insert": 1, "document": {"ssn": 5, "x": CANARY}},
        doc! {"insert": 2, "document": {"ssn": 5, "x": CANARY}},
        doc! {"insert": 1, "document": {"_id": 1}, "surprise": CANARY},
        doc! {"update": 1, "filter": {"ssn": {"$gt": CANARY}}, "updateMods": {"$set": {"x": 1}}},
        doc! {"update": 1, "filter": {}, "updateMods": {"$inc": {"age": 1}}},
        doc! {"update": 1, "filter": {}, "updateMods": {"$set": {"x": 1}}, "sort": {"ssn": 1}},
        doc! {"update": 1, "filter": {}, "updateMods": [{"$set": {"ssn": "$$c"}}], "constants": {"c": CANARY}},
        doc! {"update": 1, "filter": {"ssn": CANARY}, "updateMods": {"$set": {"x": 1}}, "collation": {"locale": "en"}},
        doc! {"update": 1, "filter": {}, "filter ": {"ssn": CANARY}, "updateMods": {"$set": {"x": 1}}},
        doc! {"delete": 1, "filter": {"ssn": {"$regex": CANARY}}},
        doc! {"replace": 1, "document": {"ssn": CANARY}},
        doc! {"insert": 7, "document": {"ssn": CANARY}},
        doc! {"insert": "1", "document": {"ssn": CANARY}},
        doc! {"document": {"ssn": CANARY}, "insert": 1},
    ] {
        refused(
            bulk(vec![doc! {"insert": 1, "document": {"_id": 0}}, op]),
            &[],
        );
    }
}

#[test]
fn what_is_not_known_of_the_command_refuses_it() {
    let mut command = bulk(Vec::new());
    command.insert("surprise", CANARY);
    refused(command, &[]);
    let mut command = bulk(Vec::new());
    command.insert(
        "nsInfo",
        [doc! {"ns": "shop.customers", "encryptionInformation": {"x": CANARY}}],
    );
    refused(command, &["encryptionInformation"]);
    let section = sequence("more", &[doc! {"ssn": CANARY}]);
    let sections = [body(&bulk(Vec::new())), section].concat();
    assert!(forwarded(&msg(0, &sections)).is_err());
    // Given twice, each could be the one that counts.
    let twice = [
        body(&bulk(Vec::new())),
        sequence("nsInfo", &[doc! {"ns": "shop.orders"}]),
    ]
    .concat();
    assert!(forwarded(&msg(0, &twice)).is_err());
}
