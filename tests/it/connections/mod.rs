//! Connections as drivers use them: in order, in numbers, and until either side goes away.

mod failover;
mod leaving;
mod limits;
mod order;
mod retries;

use std::time::Instant;

use futures::TryStreamExt;
use mongodb::bson::{Document, doc};

use crate::support::{PATIENCE, Proxy, ProxyOptions, ReplicaSet, shared_replica_set};

const SCHEMA: &str = r#"
[collections."connections_*.people".fields]
ssn = { type = "string", queries = ["equality"] }
"#;

/// A proxy in front of the shared replica set.
async fn start(configuration: &str) -> (&'static ReplicaSet, Proxy) {
    let set = shared_replica_set().await;
    let options = ProxyOptions {
        schema: SCHEMA,
        configuration,
        log_level: "debug",
        ..ProxyOptions::default()
    };
    (set, Proxy::start_with(set, options).await)
}

/// Whether an operation with this comment is under way on MongoDB.
async fn under_way(set: &ReplicaSet, comment: &str) -> bool {
    let admin = set.members()[0].direct_client().await.database("admin");
    let operations = [
        doc! { "$currentOp": { "allUsers": true, "idleCursors": false } },
        doc! { "$match": { "command.comment": comment, "active": true } },
    ];
    let found: Vec<Document> = admin
        .aggregate(operations)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    !found.is_empty()
}

/// Waits until an operation is under way, or until it no longer is.
async fn wait_until(set: &ReplicaSet, comment: &str, running: bool) {
    let deadline = Instant::now() + PATIENCE / 2;
    while under_way(set, comment).await != running {
        assert!(Instant::now() < deadline, "{comment}: not {running}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
