//! What the proxy counts and times, against what was done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use fieldseal::config::Config;
use fieldseal::keyring::Keyring;
use fieldseal::observe::metrics::{Extras, Metrics, render};
use fieldseal::observe::{Observers, Slow};
use fieldseal::policy::Policy;
use fieldseal::proxy::PolicyCell;
use fieldseal::schema::{Format, Schema};
use mongodb::bson::{Document, doc};

use crate::support::wire::{Wire, body, msg, numbered};
use crate::support::{Proxy, ProxyOptions, shared_replica_set, unique_database};

const SCHEMA: &str = "[collections.\"*.people\".fields]\n\
    ssn  = { type = \"string\", queries = [\"equality\"] }\n\
    note = { type = \"string\" }\n";

/// What must never be in a log, nor among the counts.
const CANARY: &str = "CANARY-733-10-2874";

const MORE_TO_COME: u32 = 1 << 1;

/// `name=value` of a line of the log.
fn parts(line: &str) -> BTreeMap<&str, &str> {
    let (_, rest) = line.split_once("slow command ").unwrap();
    let parts = rest.split(' ').filter_map(|part| part.split_once('='));
    parts
        .map(|(name, value)| (name, value.trim_matches('"')))
        .collect()
}

fn number(parts: &BTreeMap<&str, &str>, name: &str) -> f64 {
    parts[name].parse().unwrap()
}

fn people(command: &str, more: Document, database: &str) -> Document {
    let mut command = doc! { command: "people" };
    command.extend(more);
    command.insert("$db", database);
    command
}

#[tokio::test]
async fn a_slow_command_is_logged_with_its_phases_and_without_its_values() {
    let options = ProxyOptions {
        schema: SCHEMA,
        // It goes on with `[log]`.
        configuration: "slow_milliseconds = 0\n",
        log_level: "info",
        ..ProxyOptions::default()
    };
    let mut proxy = Proxy::start_with(shared_replica_set().await, options).await;
    let database = unique_database("metrics");
    let mut client = Wire::connect(&proxy.addresses()[0]).await;
    client.hello().await;
    let person = doc! { "_id": 1, "ssn": CANARY, "note": CANARY, "open": CANARY };
    for command in [
        people("insert", doc! { "documents": [&person] }, &database),
        people("insert", doc! { "documents": [&person] }, &database),
        people(
            "find",
            doc! { "filter": { "ssn": CANARY }, "comment": CANARY },
            &database,
        ),
        people(
            "find",
            doc! { "filter": { "note": { "$gt": CANARY } } },
            &database,
        ),
        people("find", doc! { "filter": { "$nothing": CANARY } }, &database),
    ] {
        client.ask(&command).await;
    }
    let last = doc! { "ping": CANARY, "$db": &database };
    client.ask(&last).await;
    proxy
        .wait_for_log(&["slow command", "command=\"ping\""])
        .await;
    let log = proxy.log();
    let of_database = |line: &&str| line.contains("slow command") && line.contains(&database);
    let lines: Vec<_> = log.lines().filter(of_database).map(parts).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["request"], line["command"]))
        .collect();
    let expected = [
        ("2", "insert"),
        ("3", "insert"),
        ("4", "find"),
        ("5", "find"),
        ("6", "find"),
        ("7", "ping"),
    ];
    assert_eq!(told, expected);
    let namespace = format!("{database}.people");
    for line in &lines {
        assert_eq!(line["conn"], lines[0]["conn"]);
        let of_collection = line["command"] != "ping";
        assert_eq!(
            line["namespace"],
            if of_collection { &namespace } else { &database }
        );
        let phases = ["client", "policy", "seal", "upstream", "open"];
        let phases: f64 = phases.iter().map(|phase| number(line, phase)).sum();
        assert!(
            (phases - number(line, "milliseconds")).abs() < 1e-3,
            "{line:?}"
        );
        assert!(number(line, "request_bytes") > 40.0 && number(line, "reply_bytes") > 40.0);
    }
    // Only what reached MongoDB took time there.
    assert!(number(&lines[0], "upstream") > 0.0 && number(&lines[0], "seal") > 0.0);
    assert!(lines[3]["outcome"] == "refused" && number(&lines[3], "upstream") < 1e-9);
    assert!(!log.contains(CANARY));
}

#[tokio::test]
async fn without_a_bound_no_command_is_slow() {
    let options = ProxyOptions {
        schema: SCHEMA,
        ..ProxyOptions::default()
    };
    let mut proxy = Proxy::start_with(shared_replica_set().await, options).await;
    let mut client = Wire::connect(&proxy.addresses()[0]).await;
    client.hello().await;
    let database = unique_database("metrics");
    client.ask(&doc! { "ping": 1, "$db": &database }).await;
    let line = proxy.wait_for_log(&["command=\"ping\"", &database]).await;
    assert!(
        line.contains("conn=") && line.contains("request=2"),
        "{line}"
    );
    assert!(!proxy.log().contains("slow command"));
}

/// A proxy in this process, and what it counts.
struct Counted {
    address: String,
    metrics: Metrics,
    policy: PolicyCell,
    stop: tokio::sync::oneshot::Sender<()>,
    running: tokio::task::JoinHandle<()>,
}

impl Counted {
    async fn start() -> Self {
        let upstream = &shared_replica_set().await.addresses()[0];
        let text = format!(
            "schema = \"s.toml\"\n[keyring]\nfile = \"k\"\nunseal = {{ file = \"u\" }}\n\
             [[route]]\nlisten = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\n"
        );
        let file = std::path::Path::new("/fieldseal.toml");
        let config = Config::parse(&text, file, []).unwrap();
        let schema = Schema::parse(SCHEMA, Format::Toml, "s.toml").unwrap();
        let keyring = Keyring::generate(["default"]).unwrap();
        let policy = Policy::compile(Arc::new(schema), Arc::new(keyring)).unwrap();
        let policy: PolicyCell = Arc::new(arc_swap::ArcSwap::from_pointee(policy));
        let metrics = Metrics::on();
        let proxy = fieldseal::proxy::Proxy::bind(&config, Arc::clone(&policy), Arc::default())
            .await
            .unwrap()
            .observed(Observers {
                metrics: metrics.clone(),
                slow: Slow::default(),
                ..Observers::default()
            });
        let address = proxy.addresses()[0].clone();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        Self {
            address,
            metrics,
            policy,
            stop,
            running: tokio::spawn(proxy.run(stopped)),
        }
    }

    /// Its page for Prometheus once it has stopped, so that all is counted.
    async fn stop(self) -> String {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
        let extras = Extras::of(&self.policy.load(), SystemTime::now());
        render(&self.metrics.snapshot(), &extras)
    }
}

#[tokio::test]
async fn what_was_done_is_what_is_counted() {
    let proxy = Counted::start().await;
    let database = unique_database("metrics");
    let mut client = Wire::connect(&proxy.address).await;
    client.hello().await;
    for id in 0..3 {
        let person = doc! { "_id": id, "ssn": CANARY, "note": CANARY };
        let insert = people("insert", doc! { "documents": [person] }, &database);
        client.ask(&insert).await;
    }
    // The same once more, which fails.
    let again = doc! { "documents": [{ "_id": 0, "ssn": CANARY }] };
    client.ask(&people("insert", again, &database)).await;
    for _ in 0..2 {
        let answer = client
            .ask(&people(
                "find",
                doc! { "filter": { "ssn": CANARY } },
                &database,
            ))
            .await;
        let batch = answer
            .get_document("cursor")
            .unwrap()
            .get_array("firstBatch");
        assert_eq!(batch.unwrap().len(), 3);
    }
    let refused = doc! { "filter": { "note": { "$gt": CANARY } } };
    client.ask(&people("find", refused, &database)).await;
    client
        .ask(&people(
            "find",
            doc! { "filter": { "$nothing": 1 } },
            &database,
        ))
        .await;
    client.ask(&doc! { CANARY: 1, "$db": &database }).await;
    let silent = people(
        "insert",
        doc! { "documents": [{ "_id": 9 }], "writeConcern": { "w": 0 } },
        &database,
    );
    assert!(
        client
            .send(&numbered(msg(MORE_TO_COME, &body(&silent)), 77))
            .await
    );
    client.ask(&doc! { "ping": 1, "$db": &database }).await;
    for _ in 0..2 {
        client.ask(&people("drop", doc! {}, &database)).await;
    }
    let recent = proxy.metrics.snapshot().recent;
    assert!(
        recent
            .iter()
            .any(|refusal| refusal.namespace == format!("{database}.people"))
    );
    assert!(
        recent
            .iter()
            .all(|refusal| !refusal.why.contains(CANARY) || refusal.command == CANARY)
    );
    assert_eq!(proxy.metrics.snapshot().connections_open, 1);
    let page = proxy.stop().await;
    let namespace = format!("{database}.people");
    let of = |command: &str, outcome: &str| {
        format!(
            "fieldseal_commands_total{{command=\"{command}\",namespace=\"{namespace}\",outcome=\"{outcome}\"}}"
        )
    };
    let values = |what: &str, field: &str| {
        format!(
            "fieldseal_values_{what}_total{{namespace=\"{namespace}\",field=\"{field}\",key=\"default\",version=\"1\"}}"
        )
    };
    for (name, count) in [
        // A write error is in a reply that says `ok: 1`.
        (of("insert", "ok"), 4),
        (of("insert", "sent"), 1),
        (of("find", "ok"), 2),
        (of("find", "refused"), 2),
        (of("drop", "ok"), 1),
        (of("drop", "error"), 1),
        (values("sealed", "ssn"), 4),
        (values("sealed", "note"), 3),
        (values("opened", "ssn"), 6),
        (values("opened", "note"), 6),
        (
            r#"fieldseal_refusals_total{reason="unknown_command"}"#.to_owned(),
            1,
        ),
        (
            r#"fieldseal_refusals_total{reason="not_supported"}"#.to_owned(),
            2,
        ),
        ("fieldseal_connections".to_owned(), 0),
        ("fieldseal_connections_accepted_total".to_owned(), 1),
        ("fieldseal_messages_bytes".to_owned(), 0),
        // With the hello, the ping and the unknown command.
        ("fieldseal_request_seconds_count".to_owned(), 14),
    ] {
        let line = format!("{name} {count}");
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
    assert!(!page.contains(CANARY));
}
