//! JavaScript is for MongoDB to run only where the configuration says so.

use mongodb::bson::{Bson, doc};

use super::*;
use crate::support::WITH_JAVASCRIPT;

/// Commands on an open collection of `database` that have MongoDB run JavaScript, or keep it.
fn commands(database: &str) -> Vec<Document> {
    let function =
        || doc! { "$function": { "body": "function() { return 1 }", "args": [], "lang": "js" } };
    let code = || doc! { "$where": "true" };
    let by = || doc! { "$expr": { "$eq": [function(), 1] } };
    let accumulator = doc! { "$accumulator": {
        "init": "function() { return 0 }", "accumulate": "function(a, b) { return a + 1 }",
        "accumulateArgs": ["$_id"], "merge": "function(a, b) { return a + b }", "lang": "js",
    } };
    let aggregate =
        |stages: Vec<Document>| doc! { "aggregate": "open", "pipeline": stages, "cursor": {} };
    let mut commands = vec![
        doc! { "find": "open", "filter": code() },
        doc! { "find": "open", "filter": { "$where": Bson::JavaScriptCode("true".to_owned()) } },
        doc! { "find": "open", "filter": { "$nor": [by()] } },
        doc! { "find": "open", "projection": { "x": function() } },
        doc! { "count": "open", "query": code() },
        doc! { "distinct": "open", "key": "a", "query": by() },
        aggregate(vec![doc! { "$match": by() }]),
        aggregate(vec![doc! { "$set": { "x": function() } }]),
        aggregate(vec![
            doc! { "$group": { "_id": 1, "n": accumulator.clone() } },
        ]),
        aggregate(vec![
            doc! { "$lookup": { "from": "open", "pipeline": [{ "$match": by() }], "as": "x" } },
        ]),
        aggregate(vec![
            doc! { "$facet": { "x": [{ "$group": { "_id": 1, "n": accumulator } }] } },
        ]),
        doc! { "update": "open", "updates": [{ "q": code(), "u": { "$set": { "b": 1 } } }] },
        doc! { "update": "open", "updates": [{ "q": {}, "u": [{ "$set": { "b": function() } }] }] },
        doc! { "findAndModify": "open", "query": by(), "update": { "$set": { "b": 1 } } },
        doc! { "findAndModify": "open", "query": {}, "update": [{ "$set": { "b": function() } }] },
        doc! { "explain": { "find": "open", "filter": code() } },
        doc! { "mapReduce": "open", "map": "function() { emit(1, 1) }", "reduce": "function(k, v) { return 1 }", "out": { "inline": 1 } },
        doc! { "create": "seen", "viewOn": "open", "pipeline": [{ "$match": by() }] },
        doc! { "insert": "system.js", "documents": [{ "_id": "f", "value": Bson::JavaScriptCode("function() {}".to_owned()) }] },
        doc! { "delete": "open", "deletes": [{ "q": by(), "limit": 0 }] },
    ];
    for command in &mut commands {
        command.insert("$db", database);
    }
    commands
}

#[tokio::test]
async fn it_is_refused_everywhere_by_default_and_passes_where_it_is_allowed() {
    for schema in ["", SCHEMA] {
        let (strict, free) = (
            start_with(schema, "").await,
            start_with(schema, WITH_JAVASCRIPT).await,
        );
        let (mut refused, mut allowed) = (one(&strict).await, one(&free).await);
        let mut neighbour = one(&strict).await;
        let database = unique_database("limits");
        let insert =
            doc! { "insert": "open", "documents": [{ "_id": 1, "a": 1 }], "$db": &database };
        assert_eq!(allowed.ask(&insert).await.get_i32("n").ok(), Some(1));
        for command in commands(&database) {
            let answer = refused.ask(&command).await;
            assert_eq!(code(&answer), 115, "{command}: {answer}");
            let message = answer.get_str("errmsg").unwrap();
            assert!(message.contains("JavaScript"), "{message}");
            assert!(neighbour.works().await);
            // Where something is sealed, some are refused for what they could do to that.
            if schema.is_empty() {
                let answer = allowed.ask(&command).await;
                assert_eq!(answer.get_f64("ok").ok(), Some(1.0), "{command}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn what_only_looks_like_it_is_stored_and_found() {
    for schema in ["", SCHEMA] {
        let proxy = start_with(schema, "").await;
        let mut wire = one(&proxy).await;
        let database = unique_database("limits");
        let code = Bson::JavaScriptCode("function() { return 1 }".to_owned());
        let data = doc! { "_id": 1, "text": "$where $function", "code": code.clone(), "below": { "$where": "true", "$function": 1 } };
        let mut ask = async |command: Document| {
            let mut command = command;
            command.insert("$db", &database);
            let answer = wire.ask(&command).await;
            assert_eq!(answer.get_f64("ok").ok(), Some(1.0), "{command}: {answer}");
            assert!(!answer.contains_key("writeErrors"), "{command}: {answer}");
            answer
        };
        ask(doc! { "insert": "open", "documents": [data.clone()] }).await;
        ask(doc! { "update": "open", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "more": code, "last": { "$where": 1 } } } }] }).await;
        for filter in [
            doc! { "text": "$where $function" },
            doc! { "text": { "$regex": "\\$where" } },
            doc! { "text": { "$in": ["$accumulator", "$where $function"] } },
        ] {
            let answer = ask(doc! { "find": "open", "filter": filter.clone() }).await;
            let batch = answer
                .get_document("cursor")
                .unwrap()
                .get_array("firstBatch")
                .unwrap();
            assert_eq!(batch.len(), 1, "{filter}");
        }
        let answer = ask(doc! { "find": "open", "projection": { "more": 0, "last": 0 } }).await;
        let batch = answer
            .get_document("cursor")
            .unwrap()
            .get_array("firstBatch")
            .unwrap();
        assert_eq!(batch, &[Bson::from(data)]);
    }
}
