//! Indexes, plans and statistics speak of the user's paths.

use super::*;
use futures::TryStreamExt;

async fn filled() -> World {
    let world = World::start().await;
    let index = |key: Document, name: &str| doc! { "key": key, "name": name };
    world
        .through
        .run_command(doc! { "createIndexes": "people", "indexes": [
            index(doc! { "ssn": 1 }, "ssn_1"),
            index(doc! { "visits.code": -1, "n": 1 }, "both"),
            { "key": { "tags": 1 }, "name": "partial", "partialFilterExpression": { "ssn": SECRET } },
        ] })
        .await
        .unwrap();
    let people = (0..9).map(
        |id| doc! { "_id": id, "ssn": (id % 3).to_string(), "n": id, "visits": [{ "code": "z" }] },
    );
    world
        .through
        .collection("people")
        .insert_many(people)
        .await
        .unwrap();
    world
}

/// The stages of a plan, from the outermost in.
fn stages(plan: &Document) -> Vec<Document> {
    let mut stages = vec![plan.clone()];
    while let Ok(inner) = stages.last().unwrap().get_document("inputStage") {
        stages.push(inner.clone());
    }
    stages
}

#[tokio::test]
async fn an_equality_find_on_an_indexed_sealed_field_is_explained_as_a_scan_of_that_index() {
    let world = filled().await;
    let find = doc! { "find": "people", "filter": { "ssn": "1" }, "sort": { "n": 1 }, "hint": { "ssn": 1 } };
    let answer = world
        .answer(&doc! { "explain": find.clone(), "verbosity": "executionStats" })
        .await;
    assert_clean(&answer);
    let planner = answer.get_document("queryPlanner").unwrap();
    assert_eq!(
        planner.get_document("parsedQuery").unwrap(),
        &doc! { "ssn": { "$eq": "<sealed>" } }
    );
    let stages = stages(planner.get_document("winningPlan").unwrap());
    let scan = stages.last().unwrap();
    assert_eq!(scan.get_str("stage").unwrap(), "IXSCAN");
    assert_eq!(scan.get_document("keyPattern").unwrap(), &doc! { "ssn": 1 });
    assert_eq!(
        scan.get_document("indexBounds").unwrap(),
        &doc! { "ssn": ["[<sealed>, <sealed>]"] }
    );
    let statistics = answer.get_document("executionStats").unwrap();
    assert_eq!(statistics.get_i32("totalKeysExamined").unwrap(), 3);
    // The command is repeated as the client gave it.
    let mut told = answer.get_document("command").unwrap().clone();
    told.remove("$db");
    assert_eq!(told, find);
}

#[tokio::test]
async fn an_expression_of_equality_is_answered_by_an_index() {
    let world = filled().await;
    let equal = doc! { "$expr": { "$eq": ["$ssn", "1"] } };
    let by_variable = doc! { "$expr": { "$eq": ["$$id", "$ssn"] } };
    for command in [
        doc! { "find": "people", "filter": equal.clone() },
        doc! { "find": "people", "filter": by_variable, "let": { "id": "1" } },
        doc! { "aggregate": "people", "pipeline": [{ "$match": equal }], "cursor": {} },
    ] {
        let answer = world
            .answer(&doc! { "explain": command, "verbosity": "queryPlanner" })
            .await;
        let planner = answer.get_document("queryPlanner").unwrap();
        let stages = stages(planner.get_document("winningPlan").unwrap());
        assert_eq!(stages.last().unwrap().get_str("stage").unwrap(), "IXSCAN");
    }
}

#[tokio::test]
async fn no_plan_shows_a_stored_form() {
    let world = filled().await;
    for command in [
        doc! { "find": "people", "filter": { "ssn": { "$in": ["1", null, "2"] }, "visits.code": "z" } },
        doc! { "find": "people", "filter": { "ssn": { "$ne": "1" } }, "projection": { "visits.code": 0 } },
        doc! { "count": "people", "query": { "visits.code": { "$nin": ["q"] } } },
        doc! { "update": "people", "updates": [{ "q": { "ssn": "7" }, "u": { "$set": { "ssn": "8" } }, "upsert": true }] },
        doc! { "delete": "people", "deletes": [{ "q": { "ssn": "7", "tags": { "$all": ["a", "b"] } }, "limit": 1 }] },
        doc! { "findAndModify": "people", "query": { "ssn": "7" }, "update": { "$push": { "tags": "x" } } },
        doc! { "aggregate": "people", "pipeline": [{ "$match": { "ssn": "1" } }, { "$group": { "_id": "$n" } }], "cursor": {} },
        doc! { "find": "people", "filter": { "$expr": { "$in": ["$ssn", ["1", "2"]] } } },
        doc! { "aggregate": "people", "pipeline": [{ "$match": { "ssn": "1" } }, { "$lookup": { "from": "plain", "localField": "n", "foreignField": "n", "as": "m" } }], "cursor": {} },
    ] {
        let answer = world
            .answer(&doc! { "explain": command.clone(), "verbosity": "allPlansExecution" })
            .await;
        assert_eq!(answer.get_f64("ok").unwrap(), 1.0, "{answer}");
        assert_clean(&answer);
        let mut told = answer.get_document("command").unwrap().clone();
        told.remove("$db");
        assert_eq!(told, command);
    }
    let pipeline = vec![doc! { "$match": { "ssn": "1" } }, doc! { "$limit": 5 }];
    let explained = doc! { "aggregate": "people", "pipeline": pipeline.clone(), "explain": true };
    let mut answer = world.answer(&explained).await;
    let told = answer.remove("command").unwrap();
    assert_eq!(
        told.as_document().unwrap().get_array("pipeline").unwrap(),
        explained.get_array("pipeline").unwrap()
    );
    assert_clean(&answer);
}

#[tokio::test]
async fn lists_and_statistics_of_indexes_name_the_users_paths() {
    let world = filled().await;
    let people = world.through.collection::<Document>("people");
    // Often enough for a plan to be kept.
    for _ in 0..4 {
        people
            .find_one(doc! { "ssn": "1", "visits.code": "z", "n": 4 })
            .await
            .unwrap();
    }
    let listed = world
        .answer(&doc! { "listIndexes": "people", "cursor": { "batchSize": 100 } })
        .await;
    assert_clean(&listed);
    let keys = |indexes: &[Bson]| -> Vec<(String, Document)> {
        let mut keys: Vec<_> = indexes
            .iter()
            .map(|index| index.as_document().unwrap())
            .map(|index| {
                (
                    index.get_str("name").unwrap().to_owned(),
                    index.get_document("key").unwrap().clone(),
                )
            })
            .collect();
        keys.sort_by(|one, other| one.0.cmp(&other.0));
        keys
    };
    let expected = [
        ("_id_".to_owned(), doc! { "_id": 1 }),
        ("both".to_owned(), doc! { "visits.code": -1, "n": 1 }),
        ("partial".to_owned(), doc! { "tags": 1 }),
        ("ssn_1".to_owned(), doc! { "ssn": 1 }),
    ];
    let batch = listed
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    assert_eq!(keys(batch), expected);
    let partial = batch.iter().find_map(|index| {
        index
            .as_document()
            .unwrap()
            .get_document("partialFilterExpression")
            .ok()
    });
    assert_eq!(partial.unwrap(), &doc! { "ssn": { "$eq": "<sealed>" } });
    for stage in ["$indexStats", "$planCacheStats"] {
        let told: Vec<Document> = people
            .aggregate([doc! { stage: {} }])
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert!(!told.is_empty(), "{stage}");
        told.iter().for_each(assert_clean);
        if stage == "$indexStats" {
            let told: Vec<Bson> = told.into_iter().map(Into::into).collect();
            assert_eq!(keys(&told), expected);
        }
    }
}

#[tokio::test]
async fn an_error_about_a_hint_shows_no_token() {
    let world = filled().await;
    let answer = world.answer(&doc! { "find": "people", "filter": { "ssn": SECRET }, "hint": { "tags": 1, "ssn": 1 } }).await;
    assert_clean(&answer);
    assert!(
        answer
            .get_str("errmsg")
            .unwrap()
            .contains("ssn $eq <sealed>"),
        "{answer}"
    );
}
