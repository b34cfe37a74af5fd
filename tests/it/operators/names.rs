//! The server itself is asked whether the table has its names, and no others.

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind;

use super::table::{self, Group, Row, TESTED};
use crate::support::{shared_replica_set, unique_database};

/// How a group's names are asked for.
struct Asked {
    group: &'static str,
    /// A request that uses the name.
    request: fn(&str) -> Document,
    /// Another place, where other names are known.
    elsewhere: Option<fn(&str) -> Document>,
    /// The error codes, with words of the message, by which MongoDB says that it does not know a name.
    unknown: &'static [(i32, &'static str)],
}

const ASKED: &[Asked] = &[
    Asked {
        group: "query_operators",
        request: |name| doc! { "find": "x", "filter": { "$or": [{ "a": { name: 1 } }] } },
        elsewhere: Some(|name| doc! { "find": "x", "filter": { name: 1 } }),
        unknown: &[(2, "unknown operator"), (2, "unknown top level operator")],
    },
    Asked {
        group: "update_operators",
        request: |name| doc! { "update": "x", "updates": [{ "q": {}, "u": { name: { "a": 1 } } }] },
        elsewhere: None,
        unknown: &[(9, "Unknown modifier")],
    },
    Asked {
        group: "stages",
        request: |name| doc! { "aggregate": "x", "pipeline": [{ name: {} }], "cursor": {} },
        elsewhere: None,
        unknown: &[(40324, "Unrecognized pipeline stage")],
    },
    Asked {
        group: "expressions",
        request: |name| doc! { "aggregate": "x", "pipeline": [{ "$project": { "a": { name: "$a" } } }], "cursor": {} },
        elsewhere: None,
        unknown: &[
            (31325, "Unknown expression"),
            (168, "Unrecognized expression"),
        ],
    },
    Asked {
        group: "accumulators",
        request: |name| doc! { "aggregate": "x", "pipeline": [{ "$group": { "_id": 1, "a": { name: "$a" } } }], "cursor": {} },
        elsewhere: None,
        unknown: &[(15952, "unknown group operator")],
    },
    Asked {
        group: "window_operators",
        request: |name| {
            let window = doc! { "sortBy": { "a": 1 }, "output": { "b": { name: "$a" } } };
            doc! { "aggregate": "x", "pipeline": [{ "$setWindowFields": window }], "cursor": {} }
        },
        elsewhere: None,
        unknown: &[
            (9, "Unrecognized window function"),
            (9, "Expected a $-prefixed window function"),
        ],
    },
];

/// Where the server counts what it knows, and the group that has it.
const COUNTED: &[(&[&str], &str)] = &[
    (&["operatorCounters", "match"], "query_operators"),
    (&["operatorCounters", "expressions"], "expressions"),
    (&["operatorCounters", "groupAccumulators"], "accumulators"),
    (
        &["operatorCounters", "windowAccumulators"],
        "window_operators",
    ),
    (&["aggStageCounters"], "stages"),
];

/// Compares the names of the table with those of the tested server.
///
/// # Panics
/// With all that one has and the other has not.
pub(super) async fn check() {
    let set = shared_replica_set().await;
    let client = set.client().await;
    let groups = table::groups();
    let admin = client.database("admin");
    let mut wrong = commands(&admin, group(&groups, "commands")).await;
    wrong.extend(counted(&admin, &groups).await);
    let database = client.database(&unique_database("operators_names"));
    for asked in ASKED {
        for row in &group(&groups, asked.group).rows {
            wrong.extend(unlike(&database, asked, row).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn group<'g>(groups: &'g [Group], name: &str) -> &'g Group {
    groups.iter().find(|group| group.name == name).unwrap()
}

fn has(group: &Group, name: &str) -> bool {
    group
        .rows
        .iter()
        .any(|row| row.names.iter().any(|known| stands_for(known, name)))
}

/// Whether a row's name is the other one, or a pattern of it: `_configsvr*`.
fn stands_for(known: &str, name: &str) -> bool {
    match known.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => known == name,
    }
}

async fn commands(admin: &Database, group: &Group) -> Vec<String> {
    let reply = admin.run_command(doc! { "listCommands": 1 }).await.unwrap();
    let known = reply.get_document("commands").unwrap();
    let mut wrong: Vec<String> = known
        .keys()
        .filter(|name| !has(group, name))
        .map(|name| format!("commands: MongoDB has {name}, the table has not"))
        .collect();
    for row in &group.rows {
        let expected = row.since.version == TESTED && row.since.only.is_none();
        for name in &row.names {
            let found = known.keys().any(|known| stands_for(name, known));
            if found != expected && row.since.only.is_none() {
                wrong.push(format!(
                    "commands: {name} since {}: the server has it: {found}",
                    row.since.version
                ));
            }
        }
    }
    wrong
}

async fn counted(admin: &Database, groups: &[Group]) -> Vec<String> {
    let status = admin.run_command(doc! { "serverStatus": 1 }).await.unwrap();
    let metrics = status.get_document("metrics").unwrap();
    let mut wrong = Vec::new();
    for (path, name) in COUNTED {
        let mut counters = metrics;
        for step in *path {
            counters = counters.get_document(step).unwrap();
        }
        assert!(counters.len() > 20, "MongoDB counts {name}");
        let missing = counters
            .keys()
            .filter(|counter| !has(group(groups, name), counter));
        wrong.extend(
            missing.map(|counter| format!("{name}: MongoDB has {counter}, the table has not")),
        );
    }
    wrong
}

/// Asks for each name of a row; those that only other servers have, or that stand in others, cannot be asked for.
async fn unlike(database: &Database, asked: &Asked, row: &Row) -> Vec<String> {
    let mut wrong = Vec::new();
    if row.since.only.is_some() {
        return wrong;
    }
    for name in row
        .names
        .iter()
        .filter(|name| name.starts_with('$') && !name.ends_with('*'))
    {
        let is_unknown = |(code, message): &(i32, String)| {
            let mut words = asked.unknown.iter();
            words.any(|(unknown, words)| unknown == code && message.contains(words))
        };
        let mut answer = told(database, (asked.request)(name)).await;
        if let (true, Some(elsewhere)) = (is_unknown(&answer), asked.elsewhere) {
            answer = told(database, elsewhere(name)).await;
        }
        let known = !is_unknown(&answer);
        let (code, message) = answer;
        if known != (row.since.version == TESTED) {
            let since = &row.since.version;
            wrong.push(format!(
                "{}: {name} since {since}, but the server says {code}: {message}",
                asked.group
            ));
        }
    }
    wrong
}

async fn told(database: &Database, request: Document) -> (i32, String) {
    match database.run_command(request).await {
        Ok(reply) => match reply
            .get_array("writeErrors")
            .ok()
            .and_then(|errors| errors.first())
        {
            Some(Bson::Document(error)) => (
                error.get_i32("code").unwrap(),
                error.get_str("errmsg").unwrap().to_owned(),
            ),
            _ => (0, "success".to_owned()),
        },
        Err(error) => match *error.kind {
            ErrorKind::Command(error) => (error.code, error.message),
            other => panic!("not an answer: {other:?}"),
        },
    }
}
