//! Change streams, and stages behind them.

use super::*;

fn watch(on: impl Into<Bson>, database: &str, after: Vec<Document>) -> Document {
    let mut stages = vec![doc! {"$changeStream": {"fullDocument": "updateLookup"}}];
    stages.extend(after);
    doc! {"aggregate": on.into(), "pipeline": stages, "cursor": {}, "$db": database}
}

fn plan(command: Document) -> ReplyPlan {
    upstream(command).plan
}

#[test]
fn a_stream_of_one_collection_is_chosen_from_by_tokens() {
    let mut sent = sent(watch(
        "customers",
        "shop",
        vec![
            doc! {"$match": {"operationType": "insert", "fullDocument.ssn": "a", "fullDocumentBeforeChange.age": {"$ne": 5}}},
        ],
    ));
    sent.insert("$db", "shop");
    let by_token = doc! {"operationType": "insert", "fullDocument.ssn.e1": {"$eq": token("ssn", "a")},
    "fullDocumentBeforeChange.age.e1": {"$ne": token("age", 5)}};
    assert_eq!(
        sent,
        watch("customers", "shop", vec![doc! {"$match": by_token}])
    );
    for filter in [
        doc! {"fullDocument.ssn": {"$gt": CANARY}},
        doc! {"fullDocument.address.zip": CANARY},
        doc! {"updateDescription.updatedFields.ssn": CANARY},
        doc! {"updateDescription.updatedFields.ssn": {"$exists": true}},
        doc! {"updateDescription.updatedFields.payment": CANARY},
        doc! {"documentKey.ssn": {"$lt": CANARY}},
    ] {
        refused(
            watch("customers", "shop", vec![doc! {"$match": filter}]),
            &["shop.customers"],
        );
    }
    for filter in [
        doc! {"updateDescription.updatedFields.plan": 1},
        doc! {"updateDescription.removedFields": "ssn"},
        doc! {"documentKey._id": 1, "ns.coll": "customers", "wallTime": {"$gt": 1}},
    ] {
        passes(watch("customers", "shop", vec![doc! {"$match": filter}]));
    }
}

#[test]
fn of_several_collections_only_what_none_seals_is_looked_at() {
    for database in ["shop", "admin"] {
        passes(watch(1, database, vec![]));
        passes(watch(
            1,
            database,
            vec![
                doc! {"$match": {"ns.coll": "customers", "fullDocument.plan": 1, "operationType": "insert"}},
            ],
        ));
        for stage in [
            doc! {"$match": {"fullDocument.ssn": CANARY}},
            doc! {"$match": {"fullDocument.payment.card": CANARY}},
            doc! {"$match": {"updateDescription.updatedFields.ssn": CANARY}},
            doc! {"$set": {"x": {"$toUpper": "$fullDocument.ssn"}}},
        ] {
            refused(watch(1, database, vec![stage]), &[]);
        }
    }
    // `box.c` is sealed in another database than this one.
    passes(watch(
        1,
        "tenant_a",
        vec![doc! {"$match": {"fullDocument.box.c": 1}}],
    ));
    refused(
        watch(
            1,
            "tenant_a",
            vec![doc! {"$match": {"fullDocument.ssn": CANARY}}],
        ),
        &[],
    );
    for (on, database) in [(Bson::from(1), "other"), ("orders".into(), "shop")] {
        passes(watch(
            on,
            database,
            vec![doc! {"$match": {"fullDocument.ssn": 1}}],
        ));
    }
}

#[test]
fn events_stay_events_while_their_parts_keep_their_places() {
    for after in [
        vec![],
        vec![doc! {"$match": {"operationType": "insert"}}],
        vec![doc! {"$changeStreamSplitLargeEvent": {}}],
        vec![doc! {"$project": {"fullDocument.ssn": 1, "ns": 1, "updateDescription": true}}],
        vec![
            doc! {"$project": {"fullDocument": 0}},
            doc! {"$unset": "updateDescription.updatedFields"},
        ],
        vec![
            doc! {"$addFields": {"was": "$fullDocumentBeforeChange.ssn"}},
            doc! {"$match": {"was": "a"}},
        ],
    ] {
        let plan = plan(watch("customers", "shop", after));
        assert!(matches!(plan, ReplyPlan::Changes(Some(_))), "{plan:?}");
    }
    for after in [
        vec![doc! {"$set": {"fullDocument": "$fullDocument.payment"}}],
        vec![doc! {"$project": {"ns": "$fullDocument.ssn"}}],
        vec![doc! {"$replaceRoot": {"newRoot": {"ns": "$ns", "x": "$fullDocument.ssn"}}}],
    ] {
        let plan = plan(watch("customers", "shop", after));
        assert!(matches!(plan, ReplyPlan::Documents(_)), "{plan:?}");
    }
    assert!(matches!(
        plan(watch(1, "shop", vec![])),
        ReplyPlan::Changes(None)
    ));
}
