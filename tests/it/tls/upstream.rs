//! TLS towards MongoDB.

use std::path::Path;
use std::sync::Arc;

use mongodb::bson::{Document, doc};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, rustls};

use super::SCHEMA;
use super::authority::{Authority, Wish};
use super::client::{Client, Manner, certificates};
use crate::support::wire::Wire;
use crate::support::{
    MongodTls, Proxy, ProxyOptions, ReplicaSet, ReplicaSetOptions, WITH_JAVASCRIPT,
    shared_replica_set, unique_database,
};

/// A mongod that requires TLS and certificates, with its authority.
pub(super) struct Secured {
    pub(super) ca: Authority,
    pub(super) set: ReplicaSet,
    /// A certificate that it lets in.
    client: std::path::PathBuf,
    /// The pin of its own.
    pub(super) pin: String,
}

impl Secured {
    pub(super) async fn start() -> Self {
        let ca = Authority::new("mongodb");
        let identity = ca.directory().join("mongod.pem");
        let pin = ca.issue_with_pin(&identity, Wish::default());
        let client = ca.issue(Wish {
            name: "proxy",
            hosts: &["proxy.example"],
            expired: false,
        });
        let tls = MongodTls {
            ca: ca.ca(),
            identity,
            looker: client.clone(),
        };
        let set = ReplicaSet::start(ReplicaSetOptions {
            tls: Some(tls),
            ..ReplicaSetOptions::default()
        })
        .await;
        Self {
            ca,
            set,
            client,
            pin,
        }
    }

    /// `[tls.upstream]` as it is right, and further lines.
    pub(super) fn section(&self, more: &str) -> String {
        upstream(&self.ca.ca(), &format!("cert = {:?}\n{more}", self.client))
    }
}

fn upstream(ca: &Path, more: &str) -> String {
    format!("[tls.upstream]\nca = {ca:?}\n{more}\n")
}

async fn proxy(set: &ReplicaSet, address: &str, configuration: &str) -> Proxy {
    let options = ProxyOptions {
        schema: SCHEMA,
        configuration,
        log_level: "debug",
        ..ProxyOptions::default()
    };
    Proxy::start_through(set, &[address.to_owned()], options).await
}

/// Asserts that a client gets nowhere, and that the log says why.
async fn refused(proxy: &mut Proxy, reason: &str) {
    let mut wire = Wire::connect(&proxy.addresses()[0].clone()).await;
    assert!(!wire.works().await, "{reason}");
    proxy.wait_for_log(&["WARN", reason]).await;
}

#[tokio::test]
async fn a_mongod_that_requires_tls_and_certificates_is_served_with_all_that_is_checked() {
    let secured = Secured::start().await;
    let member = &secured.set.members()[0];
    let mark = secured.set.mark();
    let pin = format!("pin_sha256 = [\"{}\"]\n", secured.pin);
    let proxy = proxy(&secured.set, &member.address(), &secured.section(&pin)).await;
    let database = unique_database("tls");
    let client = proxy.client().await;
    let people = client.database(&database).collection::<Document>("people");
    // More than one record of TLS, both ways.
    let long = "x".repeat(3_000_000);
    let person = doc! { "_id": 1, "ssn": "078-05-1120", "long": &long };
    people.insert_one(&person).await.unwrap();
    let found = people.find_one(doc! { "ssn": "078-05-1120" }).await;
    assert_eq!(found.unwrap().unwrap(), person);
    let direct = member.direct_client().await;
    let stored = direct.database(&database).collection::<Document>("people");
    let stored = stored.find_one(doc! {}).await.unwrap().unwrap();
    assert!(stored.get_document("ssn").is_ok(), "{stored}");
    proxy.assert_no_way_round(&secured.set, &mark).await;
    assert!(proxy.log().contains("TLS with MongoDB"));
    assert!(!proxy.log().contains("without TLS"), "{}", proxy.log());
}

#[tokio::test]
async fn an_operation_whose_client_leaves_ends_in_mongodb_at_once_with_tls_too() {
    let secured = Secured::start().await;
    let member = &secured.set.members()[0];
    let section = secured.section(WITH_JAVASCRIPT);
    let proxy = proxy(&secured.set, &member.address(), &section).await;
    let direct = member.direct_client().await;
    let admin = direct.database("admin");
    let running = || async {
        let filter = doc! { "command.comment": "left behind" };
        let command = doc! { "aggregate": 1, "pipeline": [{ "$currentOp": {} }, { "$match": filter }], "cursor": {} };
        let answer = admin.run_command(command).await.unwrap();
        let batch = answer.get_document("cursor").unwrap();
        batch.get_array("firstBatch").unwrap().len()
    };
    let database = unique_database("tls");
    let open = direct.database(&database).collection::<Document>("open");
    open.insert_one(doc! { "_id": 1 }).await.unwrap();
    let mut wire = Wire::connect(&proxy.addresses()[0]).await;
    let long = doc! { "$where": "sleep(300000) || true" };
    let find = doc! { "find": "open", "filter": long, "comment": "left behind", "$db": database };
    wire.command(0, &find).await;
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while running().await == 0 {
        assert!(std::time::Instant::now() < deadline, "it never ran");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(wire);
    while running().await > 0 {
        assert!(std::time::Instant::now() < deadline, "it goes on");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The users that a connection is logged in as.
fn users(status: &Document) -> Vec<&str> {
    let info = status.get_document("authInfo").unwrap();
    let users = info.get_array("authenticatedUsers").unwrap().iter();
    users
        .map(|user| user.as_document().unwrap().get_str("user").unwrap())
        .collect()
}

#[tokio::test]
async fn nobody_becomes_the_user_whom_mongodb_knows_by_the_proxys_certificate() {
    const USER: &str = "CN=proxy,OU=proxy,O=Tests";
    let secured = Secured::start().await;
    let member = &secured.set.members()[0];
    let external = member.direct_client().await.database("$external");
    let roles = vec![doc! { "role": "root", "db": "admin" }];
    let create = doc! { "createUser": USER, "roles": roles };
    external.run_command(create).await.unwrap();
    let login = doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external" };
    let begun = doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "db": "$external" };
    let hello = doc! { "hello": 1, "speculativeAuthenticate": begun, "$db": "admin" };
    let status = doc! { "connectionStatus": 1, "$db": "admin" };

    // Without the proxy both are logins.
    let manner = Manner {
        identity: Some(secured.client.clone()),
        ..Manner::new(secured.ca.ca())
    };
    for command in [&login, &hello] {
        let mut direct = Client::connect(&member.address(), &manner).await.unwrap();
        direct.ask(command).await.unwrap();
        assert_eq!(users(&direct.ask(&status).await.unwrap()), [USER]);
    }

    let proxy = proxy(&secured.set, &member.address(), &secured.section("")).await;
    let mut wire = Wire::connect(&proxy.addresses()[0]).await;
    let answer = wire.ask(&hello).await;
    assert_eq!(answer.get_f64("ok").unwrap(), 1.0);
    assert!(!answer.contains_key("speculativeAuthenticate"), "{answer}");
    let answer = wire.ask(&login).await;
    assert_eq!(answer.get_f64("ok").unwrap(), 0.0);
    let told = answer.get_str("errmsg").unwrap();
    assert!(told.contains("cannot pass through the proxy"), "{told}");
    assert!(users(&wire.ask(&status).await).is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_mongodbs_certificate_is_told_and_nothing_is_sent() {
    let secured = Secured::start().await;
    let member = secured.set.members()[0].address();
    let port = member.rsplit_once(':').unwrap().1;
    let stranger = Authority::new("another");
    let client = format!("cert = {:?}\n", secured.client);
    let other_pin = stranger.issue_with_pin(&stranger.directory().join("x"), Wish::default());
    for (host, section, reason) in [
        (
            "127.0.0.1",
            upstream(&stranger.ca(), &client),
            Some("signed by none of the authorities of tls.upstream.ca"),
        ),
        // Not even a chain that ends at an authority that everybody trusts.
        (
            "127.0.0.1",
            format!("[tls.upstream]\n{client}"),
            Some("signed by none of the authorities"),
        ),
        (
            "127.0.0.1",
            secured.section("server_name = \"elsewhere.example\"\n"),
            Some("its certificate is not for \"elsewhere.example\""),
        ),
        // An address of this machine that the certificate does not have.
        ("127.0.0.2", secured.section(""), None),
        (
            "127.0.0.1",
            secured.section(&format!("pin_sha256 = [\"{other_pin}\"]\n")),
            Some("is none of tls.upstream.pin_sha256"),
        ),
        (
            "127.0.0.1",
            upstream(&secured.ca.ca(), ""),
            Some("it may not take the certificate of tls.upstream.cert"),
        ),
        ("127.0.0.1", String::new(), Some("add [tls.upstream]")),
    ] {
        let mut proxy = proxy(&secured.set, &format!("{host}:{port}"), &section).await;
        refused(&mut proxy, reason.unwrap_or("cannot connect to MongoDB")).await;
    }
    // A name that the certificate has serves for an address that it does not have.
    let named = secured.section("server_name = \"localhost\"\n");
    let proxy = proxy(&secured.set, &member, &named).await;
    assert!(Wire::connect(&proxy.addresses()[0]).await.works().await);
}

#[tokio::test]
async fn a_mongod_without_tls_is_told_from_one_with_it() {
    let set = shared_replica_set().await;
    let ca = Authority::new("plain upstream");
    let mut proxy = proxy(set, &set.addresses()[0], &upstream(&ca.ca(), "")).await;
    refused(&mut proxy, "it may be without TLS").await;
}

/// A server that shows a certificate and never gets further. mongod itself does not start with one that expired.
async fn shows(identity: &Path) -> String {
    let key = PrivateKeyDer::from_pem_file(identity).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates(identity), key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let shaken = acceptor.accept(socket).await;
            assert!(shaken.is_err(), "the proxy took an expired certificate");
        }
    });
    address
}

#[tokio::test]
async fn an_expired_certificate_of_mongodb_is_refused() {
    let set = shared_replica_set().await;
    let ca = Authority::new("expired");
    let expired = Wish {
        expired: true,
        ..Wish::default()
    };
    let address = shows(&ca.issue(expired)).await;
    let mut proxy = proxy(set, &address, &upstream(&ca.ca(), "")).await;
    refused(&mut proxy, "its certificate has expired").await;
}
