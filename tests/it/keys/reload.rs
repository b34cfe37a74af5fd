//! What a running proxy takes up of its configuration.

use std::time::Duration;

use futures::TryStreamExt as _;

use super::*;
use crate::support::unique_database;
use crate::support::wire::Wire;

fn configure(proxy: &Proxy, from: &str, to: &str) {
    let text = fs::read_to_string(proxy.configuration()).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    fs::write(proxy.configuration(), text.replacen(from, to, 1)).unwrap();
}

#[tokio::test]
async fn limits_and_the_level_of_the_log_change_and_nobody_is_disconnected() {
    let options = ProxyOptions {
        schema: SCHEMA,
        log_level: "info",
        ..ProxyOptions::default()
    };
    let mut proxy = Proxy::start_with(shared_replica_set().await, options).await;
    let address = proxy.addresses()[0].clone();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Wire::connect(&address).await;
        assert!(client.works().await);
        clients.push(client);
    }
    configure(
        &proxy,
        "level = \"info\"",
        "level = \"debug\"\n[limits]\nconnections = 2",
    );
    // By itself, without a signal.
    proxy
        .wait_for_log(&[
            "configuration, schema and keyring taken up anew",
            "generation=1",
        ])
        .await;
    assert!(!Wire::connect(&address).await.works().await);
    proxy.wait_for_log(&["too many connections"]).await;
    for client in &mut clients {
        assert!(client.works().await);
    }
    drop(clients);
    proxy.wait_for_log(&["DEBUG", "disconnected"]).await;
}

#[tokio::test]
async fn a_route_that_waits_for_a_restart_is_told_and_does_not_keep_a_revoked_key_in_use() {
    let database = unique_database("keys");
    let mut one = Through::start(&database, None).await;
    one.insert(1).await;
    configure(
        &one.proxy,
        "listen = \"127.0.0.1:0\"",
        "listen = \"127.0.0.2:0\"",
    );
    one.proxy.keys(&["rotate", "default"]).await;
    one.proxy
        .wait_for_log(&["WARN", "`route` was changed", "restart"])
        .await;
    one.proxy
        .keys(&["disable", "default", "--version", "1"])
        .await;
    one.assert_refused(1, &["disabled"]).await;
    one.insert(2).await;
    one.assert_reads(2).await;
}

#[tokio::test]
async fn a_mistake_in_the_configuration_is_told_and_all_stays_until_it_is_mended() {
    let database = unique_database("keys");
    let mut one = Through::start(&database, None).await;
    one.insert(1).await;
    configure(&one.proxy, "[log]", "[limits]\nconections = 2\n[log]");
    one.proxy.process_mut().signal("HUP");
    one.proxy
        .wait_for_log(&[
            "ERROR",
            "not taken up, the old configuration, schema and keyring stay",
            "did you mean `connections`?",
        ])
        .await;
    one.assert_reads(1).await;
    configure(&one.proxy, "conections", "connections");
    one.proxy.wait_for_log(&["taken up anew"]).await;
    one.assert_reads(1).await;
}

#[tokio::test]
async fn a_resealed_key_file_is_taken_up_once_the_secret_is_in_its_place() {
    let database = unique_database("keys");
    let mut one = Through::start(&database, None).await;
    one.insert(1).await;
    let new = one.proxy.directory().join("unseal.new");
    fs::write(&new, "6b".repeat(32)).unwrap();
    let arguments = ["keys", "reseal", "--unseal-file", new.to_str().unwrap()];
    let resealed = fieldseal(&arguments, &one.proxy.configuration());
    assert!(resealed.status.success(), "{}", error_text(&resealed));
    one.proxy
        .wait_for_log(&["not taken up", "the unseal secret is wrong"])
        .await;
    one.assert_reads(1).await;
    fs::rename(&new, one.proxy.directory().join("unseal")).unwrap();
    one.proxy
        .wait_for_log(&["taken up anew", "generation=2"])
        .await;
    one.assert_reads(1).await;
}

#[tokio::test]
async fn a_reply_that_is_waited_for_while_the_key_is_rotated_is_opened() {
    let database = unique_database("keys");
    let mut one = Through::start(&database, None).await;
    one.insert(1).await;
    let watched = one.people.watch().max_await_time(Duration::from_secs(60));
    let mut events = watched.await.unwrap();
    let next = tokio::spawn(async move { events.try_next().await });
    // It waits at MongoDB by now.
    let member = &shared_replica_set().await.members()[0];
    let admin = member.direct_client().await.database("admin");
    let waiting =
        doc! { "command.getMore": { "$exists": true }, "ns": format!("{database}.people") };
    loop {
        let running = [
            doc! { "$currentOp": {} },
            doc! { "$match": waiting.clone() },
        ];
        let mut running = admin.aggregate(running).await.unwrap();
        if running.advance().await.unwrap() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    one.proxy.keys(&["rotate", "default"]).await;
    one.insert(2).await;
    let event = next.await.unwrap().unwrap().unwrap();
    assert_eq!(event.full_document, Some(person(2)));
}
