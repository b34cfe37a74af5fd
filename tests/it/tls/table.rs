//! Every way to meet the proxy with TLS: version by client's certificate by MongoDB's certificate.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mongodb::Client as Driver;
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, Tls, TlsOptions};
use tokio_rustls::rustls::{SupportedProtocolVersion, version};

use super::authority::{Authority, Wish};
use super::client::{Client, Manner};
use super::upstream::Secured;
use super::{SCHEMA, listen};
use crate::support::{PATIENCE, Proxy, ProxyOptions, unique_database};

const OLD: &[&SupportedProtocolVersion] = &[&version::TLS12];
const NEW: &[&SupportedProtocolVersion] = &[&version::TLS13];

/// What becomes of a client.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    /// Its requests are answered.
    Served,
    /// Its handshake fails, and MongoDB hears nothing of it.
    TurnedAway,
    /// Its handshake is done; that with MongoDB fails, and nothing is sent there.
    NoMongoDb,
}
use Outcome::{NoMongoDb, Served, TurnedAway};

/// The log's line for an outcome.
const AWAY: &str = "a client was turned away";
const NO_MONGODB: &str = "cannot connect to MongoDB";

/// `min_version`, the client's version, and then what becomes of clients that show no
/// certificate, one of another authority, one that expired and a right one, if MongoDB's
/// certificate is right.
const TABLE: [(&str, &str, [Outcome; 4]); 4] = [
    ("1.3", "1.3", [TurnedAway, TurnedAway, TurnedAway, Served]),
    ("1.3", "1.2", [TurnedAway; 4]),
    ("1.2", "1.3", [TurnedAway, TurnedAway, TurnedAway, Served]),
    ("1.2", "1.2", [TurnedAway, TurnedAway, TurnedAway, Served]),
];

/// Certificates of clients, as the table has them.
fn certificates(ca: &Authority) -> [(&'static str, Option<PathBuf>); 4] {
    let stranger = Authority::new("strangers");
    let wish = Wish {
        name: "service",
        hosts: &["service.example"],
        expired: false,
    };
    let expired = Wish {
        name: "expired",
        expired: true,
        ..wish
    };
    let wrong = ca.directory().join("wrong.pem");
    [
        ("none", None),
        ("wrong", Some(stranger.issue_at(&wrong, wish))),
        ("expired", Some(ca.issue(expired))),
        ("right", Some(ca.issue(wish))),
    ]
}

/// How many lines of its log say that somebody did not get in, and how many that MongoDB was not reached.
fn failures(proxy: &Proxy) -> (usize, usize) {
    let log = proxy.log();
    (log.matches(AWAY).count(), log.matches(NO_MONGODB).count())
}

/// What becomes of one client, by its own account and by the proxy's.
async fn outcome(proxy: &Proxy, manner: &Manner) -> Outcome {
    let (away, unreached) = failures(proxy);
    if Client::connect(&proxy.addresses()[0], manner).await.is_ok() {
        assert_eq!(failures(proxy), (away, unreached));
        return Served;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = failures(proxy);
        if now == (away + 1, unreached) {
            return TurnedAway;
        }
        if now == (away, unreached + 1) {
            return NoMongoDb;
        }
        assert!(Instant::now() < deadline, "no word of it:\n{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A driver that shows a certificate writes and finds by a sealed field.
async fn drive(proxy: &Proxy, ca: &Authority, identity: Option<PathBuf>) {
    let uri = format!("mongodb://{}/?directConnection=true", proxy.addresses()[0]);
    let mut options = ClientOptions::parse(uri).await.unwrap();
    let mut tls = TlsOptions::default();
    tls.ca_file_path = Some(ca.ca());
    tls.cert_key_file_path = identity;
    options.tls = Some(Tls::Enabled(tls));
    let driver = Driver::with_options(options).unwrap();
    let people = driver
        .database(&unique_database("tls"))
        .collection::<Document>("people");
    let person = doc! { "_id": 1, "ssn": "078-05-1120" };
    people.insert_one(&person).await.unwrap();
    let found = people.find_one(doc! { "ssn": "078-05-1120" }).await;
    assert_eq!(found.unwrap().unwrap(), person);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_right_client_of_a_right_version_is_served_and_only_with_a_right_mongodb() {
    let secured = Secured::start().await;
    let member = secured.set.members()[0].address();
    let ca = Authority::new("services");
    let server = ca.issue(Wish::default());
    let shown = certificates(&ca);
    let stranger = Authority::new("another");
    let other = stranger.issue_with_pin(&stranger.directory().join("x"), Wish::default());
    let upstreams = [
        (
            "wrong name",
            "server_name = \"elsewhere.example\"\n".to_owned(),
        ),
        ("wrong pin", format!("pin_sha256 = [\"{other}\"]\n")),
        ("right", format!("pin_sha256 = [\"{}\"]\n", secured.pin)),
    ];
    let mut rows = 0;
    for (upstream, more) in upstreams {
        for min in ["1.3", "1.2"] {
            let asked = format!("client_ca = {:?}\nmin_version = \"{min}\"\n", ca.ca());
            let configuration = listen(&server, &asked) + &secured.section(&more);
            let options = ProxyOptions {
                schema: SCHEMA,
                configuration: &configuration,
                log_level: "debug",
                ..ProxyOptions::default()
            };
            let upstreams = [member.clone()];
            let proxy = Proxy::start_through(&secured.set, &upstreams, options).await;
            for (_, version, outcomes) in TABLE.iter().filter(|row| row.0 == min) {
                for ((what, identity), expected) in shown.iter().zip(outcomes) {
                    let manner = Manner {
                        identity: identity.clone(),
                        versions: if *version == "1.2" { OLD } else { NEW },
                        ..Manner::new(ca.ca())
                    };
                    let expected = match expected {
                        Served if upstream != "right" => NoMongoDb,
                        expected => *expected,
                    };
                    let outcome = outcome(&proxy, &manner).await;
                    let row = format!("{min}, {version}, {what}, {upstream}");
                    assert_eq!(outcome, expected, "{row}\n{}", proxy.log());
                    rows += 1;
                }
            }
            if upstream == "right" {
                drive(&proxy, &ca, shown[3].1.clone()).await;
            }
        }
    }
    assert_eq!(rows, 48);
}
