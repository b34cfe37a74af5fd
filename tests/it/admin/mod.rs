//! The admin endpoint of a real proxy before a real replica set.

mod page;

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{
    PATIENCE, Proxy, ProxyOptions, ReplicaSet, ReplicaSetOptions, fieldseal, shared_replica_set,
    unique_database,
};
use crate::tls::authority::{Authority, Wish};
use crate::tls::client::{Client, Manner};

const LISTEN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

/// A proxy whose admin endpoint listens on a port that the system picked.
async fn proxy(set: &ReplicaSet, schema: &str, configuration: &str) -> (Proxy, String) {
    let options = ProxyOptions {
        schema,
        configuration,
        log_level: "info",
        ..ProxyOptions::default()
    };
    let mut proxy = Proxy::start_with(set, options).await;
    let line = proxy.wait_for_log(&["the admin endpoint listens"]).await;
    let (_, rest) = line.split_once("address=").unwrap();
    let address = rest.split_whitespace().next().unwrap();
    let address = address.trim_matches('"').to_owned();
    (proxy, address)
}

fn parts(answer: &str) -> (u16, String) {
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (code, body.to_owned())
}

/// The code and the body of what is answered.
async fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    parts(&answer)
}

async fn status(address: &str) -> Value {
    let (code, body) = get(address, "/status.json").await;
    assert_eq!(code, 200);
    serde_json::from_str(&body).unwrap()
}

/// Asks for the status until it is as `wanted` says.
async fn wait_for_status(address: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(address).await;
        if wanted(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn wait_until_ready(address: &str, ready: bool) {
    let deadline = Instant::now() + PATIENCE;
    while (get(address, "/readyz").await.0 == 200) != ready {
        assert!(Instant::now() < deadline, "/readyz stays {}", !ready);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_proxy_is_ready_as_long_as_its_primary_answers() {
    let mut set = ReplicaSet::start(ReplicaSetOptions::default()).await;
    let (_proxy, address) = proxy(&set, "", LISTEN).await;
    wait_until_ready(&address, true).await;
    let state = status(&address).await;
    let route = &state["routes"][0];
    assert_eq!(route["state"], "primary");
    assert_eq!(route["name"], set.addresses()[0]);
    assert_eq!(route["set"], "rs");

    set.members_mut()[0].crash();
    wait_until_ready(&address, false).await;
    let (_, why) = get(&address, "/readyz").await;
    assert!(why.contains("no primary"), "{why}");
    assert!(!why.contains(&set.addresses()[0]), "{why}");
    assert_eq!(get(&address, "/healthz").await, (200, "ok\n".to_owned()));

    set.members_mut()[0].restart().await;
    wait_until_ready(&address, true).await;
}

#[tokio::test]
async fn the_status_says_what_was_sent_refused_and_is_stored_under_which_key() {
    let set = shared_replica_set().await;
    let database = unique_database("admin");
    let namespace = format!("{database}.people");
    let schema = format!(
        "[collections.\"{namespace}\"]\non_plaintext = \"allow\"\n\
         [collections.\"{namespace}\".fields]\nssn = {{ type = \"string\", queries = [\"equality\"] }}\n"
    );
    let uri = unique_file("uri", &set.uri());
    let admin = format!("{LISTEN}database = {{ file = {:?} }}\n", uri.0);
    let (mut proxy, address) = proxy(set, &schema, &admin).await;
    let people = proxy.client().await.database(&database);
    let people = people.collection::<Document>("people");
    people.insert_one(doc! { "ssn": "canary-1" }).await.unwrap();
    proxy.keys(&["rotate", "default"]).await;
    people.insert_one(doc! { "ssn": "canary-2" }).await.unwrap();
    let stored = set.client().await.database(&database);
    let plain = stored.collection::<Document>("people");
    plain.insert_one(doc! { "ssn": "canary-3" }).await.unwrap();
    let refused = people.find_one(doc! { "ssn": { "$gt": "canary" } }).await;
    refused.unwrap_err();

    let status = wait_for_status(&address, |status| {
        let fields = status["coverage"]["fields"].as_array().unwrap();
        fields.iter().any(|field| field["sampled"] == 3)
    })
    .await;
    let field = &status["coverage"]["fields"][0];
    assert_eq!(field["namespace"], namespace);
    assert_eq!(field["plain"], 1);
    let versions = field["versions"].as_array().unwrap();
    let states: Vec<&str> = versions
        .iter()
        .filter_map(|it| it["state"].as_str())
        .collect();
    assert_eq!(states, ["retired", "active"]);
    let commands = status["traffic"]["commands"].as_array().unwrap();
    let inserts = commands
        .iter()
        .find(|it| it["command"] == "insert")
        .unwrap();
    assert_eq!(inserts["outcomes"]["ok"], 2);
    let refusal = &status["refusals"][0];
    assert_eq!(refusal["namespace"], namespace);
    assert_eq!(refusal["command"], "find");
    // What was looked at for this is none of what clients read.
    let (_, metrics) = get(&address, "/metrics").await;
    assert!(
        !metrics.contains("fieldseal_values_opened_total{"),
        "{metrics}"
    );
    assert!(
        metrics.contains("fieldseal_values_sealed_total"),
        "{metrics}"
    );
    for text in [status.to_string(), metrics, proxy.log()] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn other_machines_are_answered_over_tls_to_the_token_alone() {
    let authority = Authority::new("admin");
    let identity = authority.issue(Wish::default());
    let token = unique_file("token", "a token of sixteen or more\n");
    let admin = format!(
        "[admin]\nlisten = \"0.0.0.0:0\"\ncert = {identity:?}\ntoken = {{ file = {:?} }}\n",
        token.0
    );
    let (_proxy, address) = proxy(shared_replica_set().await, "", &admin).await;
    let address = address.replace("0.0.0.0", "127.0.0.1");
    let ask = async |headers: &str| {
        let manner = Manner::new(authority.ca());
        let mut client = Client::silent(&address, &manner).await.unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: proxy.example\r\n{headers}\r\n");
        client.send(request.as_bytes()).await.unwrap();
        parts(&String::from_utf8(client.end().await.unwrap()).unwrap())
    };
    assert_eq!(ask("").await.0, 401);
    let (code, metrics) = ask("Authorization: Bearer a token of sixteen or more\r\n").await;
    assert_eq!(code, 200);
    assert!(
        metrics.contains("fieldseal_certificate_expiry_timestamp_seconds{side=\"admin\"}"),
        "{metrics}"
    );
    // Without TLS nothing is said at all.
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(
        !String::from_utf8_lossy(&answer).contains("HTTP"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn an_address_that_is_in_use_keeps_the_proxy_from_starting() {
    let set = shared_replica_set().await;
    let (first, address) = proxy(set, "", LISTEN).await;
    let text = std::fs::read_to_string(first.configuration()).unwrap();
    let again = first.directory().join("again.toml");
    let listen = format!("listen = \"{address}\"");
    let (routes, _) = text.split_once("[admin]").unwrap();
    std::fs::write(&again, format!("{routes}[admin]\n{listen}\n")).unwrap();
    let output = fieldseal(&["serve"], &again);
    assert!(!output.status.success());
    let said = crate::support::error_text(&output);
    assert!(
        said.contains(&format!(
            "admin.listen: cannot listen on {address}: it is in use"
        )),
        "{said}"
    );
}

/// A file with a secret, as long as it is held.
struct SecretFile(std::path::PathBuf);

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn unique_file(name: &str, text: &str) -> SecretFile {
    let path = crate::support::new_directory("admin").join(name);
    std::fs::write(&path, text).unwrap();
    SecretFile(path)
}
