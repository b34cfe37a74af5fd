//! TLS towards clients.

use mongodb::Client as Driver;
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, Tls, TlsOptions};
use tokio_rustls::rustls::{ProtocolVersion, SupportedProtocolVersion, version};

use super::authority::{Authority, Wish};
use super::client::{Client, Manner};
use super::{listen, proxy};
use crate::support::wire::Wire;
use crate::support::{Recorded, Relay, unique_database};

/// TLS 1.3 alone.
const NEW: &[&SupportedProtocolVersion] = &[&version::TLS13];

/// TLS 1.2 alone.
const OLD: &[&SupportedProtocolVersion] = &[&version::TLS12];

/// A driver that speaks TLS with whoever is at `address`, and with nobody else.
async fn driver(address: &str, ca: &Authority) -> Driver {
    let uri = format!("mongodb://{address}/?directConnection=true");
    let mut options = ClientOptions::parse(uri).await.unwrap();
    let tls = TlsOptions::builder().ca_file_path(ca.ca()).build();
    options.tls = Some(Tls::Enabled(tls));
    Driver::with_options(options).unwrap()
}

#[tokio::test]
async fn drivers_write_and_read_sealed_fields_through_tls_and_nothing_is_in_plain_on_the_way() {
    const CANARY: &str = "CANARY-078-05-1120";
    let ca = Authority::new("listen");
    let with = proxy(&listen(&ca.issue(Wish::default()), "")).await;
    let without = proxy("").await;
    let mut seen = Vec::new();
    for (proxy, tls) in [(&with, true), (&without, false)] {
        let relay = Relay::start(proxy.addresses()[0].clone()).await;
        let driver = if tls {
            driver(relay.address(), &ca).await
        } else {
            let uri = format!("mongodb://{}/?directConnection=true", relay.address());
            Driver::with_uri_str(uri).await.unwrap()
        };
        let people = driver
            .database(&unique_database("tls"))
            .collection::<Document>("people");
        people
            .insert_one(doc! { "_id": 1, "ssn": CANARY, "open": "in the open" })
            .await
            .unwrap();
        let found = people.find_one(doc! { "ssn": CANARY }).await.unwrap();
        assert_eq!(found.unwrap().get_str("ssn").unwrap(), CANARY);
        driver.shutdown().immediate(true).await;
        let bytes: Vec<u8> = relay
            .connections()
            .into_iter()
            .flat_map(|Recorded { requests, replies }| [requests, replies].concat())
            .collect();
        seen.push(
            ["CANARY", "in the open", "people", "hello", "$db"].map(|word| {
                bytes
                    .windows(word.len())
                    .any(|window| window == word.as_bytes())
            }),
        );
    }
    assert_eq!(seen, [[false; 5], [true; 5]]);
    let log = with.log();
    assert!(
        log.contains("TLSv1_3") && log.contains("X25519MLKEM768"),
        "{log}"
    );
    assert!(!log.contains("CANARY"), "{log}");
}

#[tokio::test]
async fn certificates_of_clients_are_not_asked_for_or_may_or_must_be_shown() {
    let ca = Authority::new("clients");
    let stranger = Authority::new("strangers");
    let server = ca.issue(Wish::default());
    let client = Wish {
        name: "shop",
        hosts: &["shop.example"],
        expired: false,
    };
    let expired = Wish {
        name: "old",
        expired: true,
        ..client
    };
    let shown = [
        ("none", None),
        ("wrong", Some(stranger.issue(client))),
        ("expired", Some(ca.issue(expired))),
        ("right", Some(ca.issue(client))),
    ];
    for (mode, outcomes) in [
        ("none", [true; 4]),
        ("optional", [true, false, false, true]),
        ("required", [false, false, false, true]),
    ] {
        let more = format!(
            "client_ca = {:?}\nclient_auth = \"{mode}\"\nmin_version = \"1.2\"\n",
            ca.ca()
        );
        let mut proxy = proxy(&listen(&server, &more)).await;
        let address = proxy.addresses()[0].clone();
        for ((what, identity), expected) in shown.iter().zip(outcomes) {
            for versions in [NEW, OLD] {
                let manner = Manner {
                    identity: identity.clone(),
                    versions,
                    ..Manner::new(ca.ca())
                };
                let outcome = Client::connect(&address, &manner).await;
                assert_eq!(outcome.is_ok(), expected, "{mode}, {what}, {versions:?}");
            }
        }
        let says = [
            ("shows no certificate", outcomes[0]),
            (
                "signed by none of the authorities of tls.listen.client_ca",
                outcomes[1],
            ),
            ("its certificate has expired", outcomes[2]),
        ];
        for (reason, let_in) in says {
            if let_in {
                assert!(!proxy.log().contains(reason), "{mode}: {reason}");
            } else {
                proxy
                    .wait_for_log(&["WARN", "a client was turned away", reason])
                    .await;
            }
        }
        if mode != "none" {
            let whose = [
                "the client has a certificate",
                "CN=shop,OU=shop,O=Tests",
                "DNS:shop.example",
            ];
            proxy.wait_for_log(&whose).await;
        }
    }
}

#[tokio::test]
async fn a_client_without_tls_on_a_port_for_tls_is_told_of_in_one_line() {
    let ca = Authority::new("plain");
    let mut proxy = proxy(&listen(&ca.issue(Wish::default()), "")).await;
    let address = proxy.addresses()[0].clone();
    let mut inside = Client::connect(&address, &Manner::new(ca.ca()))
        .await
        .unwrap();
    assert!(!Wire::connect(&address).await.works().await);
    proxy
        .wait_for_log(&["WARN", "speaks without TLS", "connect with tls=true"])
        .await;
    let log = proxy.log();
    assert_eq!(warnings_of_clients(&log), 1, "{log}");
    inside.ping().await.unwrap();
}

/// Not those of the start, as of too few files.
fn warnings_of_clients(log: &str) -> usize {
    let of_clients = |line: &&str| line.contains("WARN fieldseal::proxy");
    log.lines().filter(of_clients).count()
}

#[tokio::test]
async fn a_client_with_tls_on_a_plain_port_is_told_of_in_one_line_and_at_once() {
    let ca = Authority::new("reverse");
    let mut proxy = proxy("[limits]\nhandshake_timeout_seconds = 3600\n").await;
    let address = proxy.addresses()[0].clone();
    let mut inside = Wire::connect(&address).await;
    assert!(inside.works().await);
    assert!(
        Client::connect(&address, &Manner::new(ca.ca()))
            .await
            .is_err()
    );
    proxy
        .wait_for_log(&["WARN", "begins a TLS handshake", "add [tls.listen]"])
        .await;
    let log = proxy.log();
    assert_eq!(warnings_of_clients(&log), 1, "{log}");
    assert!(inside.works().await);
}

#[tokio::test]
async fn tls_1_2_is_refused_unless_the_configuration_says_otherwise() {
    let ca = Authority::new("versions");
    let server = ca.issue(Wish::default());
    let old = Manner {
        versions: OLD,
        ..Manner::new(ca.ca())
    };
    let mut newest = proxy(&listen(&server, "")).await;
    let address = newest.addresses()[0].clone();
    assert!(Client::connect(&address, &old).await.is_err());
    newest
        .wait_for_log(&["turned away", "tls.listen.min_version"])
        .await;
    let both = proxy(&listen(&server, "min_version = \"1.2\"\n")).await;
    let address = both.addresses()[0].clone();
    let client = Client::connect(&address, &old).await.unwrap();
    assert_eq!(client.version(), ProtocolVersion::TLSv1_2);
    let client = Client::connect(&address, &Manner::new(ca.ca())).await;
    assert_eq!(client.unwrap().version(), ProtocolVersion::TLSv1_3);
}

#[tokio::test]
async fn clients_that_do_not_trust_the_certificate_or_find_another_name_are_told_of() {
    let ca = Authority::new("trust");
    let elsewhere = Wish {
        hosts: &["elsewhere.example"],
        ..Wish::default()
    };
    let mut proxy = proxy(&listen(&ca.issue(elsewhere), "")).await;
    let address = proxy.addresses()[0].clone();
    let stranger = Authority::new("another");
    for manner in [Manner::new(stranger.ca()), Manner::new(ca.ca())] {
        let error = Client::connect(&address, &manner).await.err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    }
    proxy
        .wait_for_log(&[
            "turned away",
            "does not trust the certificate of tls.listen.cert",
        ])
        .await;
    let right = Manner {
        host: "elsewhere.example",
        ..Manner::new(ca.ca())
    };
    Client::connect(&address, &right).await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_closed_in_time_and_mongodb_never_hears_of_it() {
    let ca = Authority::new("slow");
    let more = "[limits]\nhandshake_timeout_seconds = 1\n";
    let configuration = listen(&ca.issue(Wish::default()), more);
    let mut proxy = proxy(&configuration).await;
    let address = proxy.addresses()[0].clone();
    let connected = |log: String| {
        let lines = log.lines().filter(|line| line.contains("upstream_local"));
        lines.filter(|line| !line.contains("\"probe\"")).count()
    };
    let before = connected(proxy.log());
    for bytes in [&[][..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]] {
        let mut wire = Wire::connect(&address).await;
        assert!(wire.send(bytes).await);
        assert_eq!(wire.receive().await, None);
    }
    proxy.wait_for_log(&["did not end in time"]).await;
    assert_eq!(connected(proxy.log()), before);
    Client::connect(&address, &Manner::new(ca.ca()))
        .await
        .unwrap();
    assert_eq!(connected(proxy.log()), before + 1);
}

#[tokio::test]
async fn a_proxy_that_stops_says_so_in_the_words_of_tls() {
    let ca = Authority::new("stop");
    let mut proxy = proxy(&listen(&ca.issue(Wish::default()), "")).await;
    let address = proxy.addresses()[0].clone();
    let mut client = Client::connect(&address, &Manner::new(ca.ca()))
        .await
        .unwrap();
    proxy.process_mut().signal("TERM");
    assert_eq!(client.end().await.unwrap(), Vec::<u8>::new());
    assert!(proxy.process_mut().wait().await.success());
}
