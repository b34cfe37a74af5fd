//! Logins by hand: whatever is sent in whatever order, the proxy takes a client for nobody
//! else than MongoDB does.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fieldseal::access::scram::{Begun, salt};
use fieldseal::wire::flag::MORE_TO_COME;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use sha2::{Digest as _, Sha256};
use stringprep::saslprep;

use super::{PASSWORD, proxy, users};
use crate::support::Proxy;
use crate::support::wire::{Random, Wire, answer, body, document, msg, query};

/// A connection and what it knows of a login that it has begun.
struct Guest {
    wire: Wire,
    begun: Option<(Begun, Vec<u8>)>,
    nonces: u8,
}

fn payload(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    })
}

fn proceed(message: &[u8]) -> Document {
    doc! { "saslContinue": 1, "conversationId": 1, "payload": payload(message), "$db": "admin" }
}

/// What MongoDB answered to a login.
fn challenge(answer: &Document) -> Option<Vec<u8>> {
    answer.get_binary_generic("payload").ok().cloned()
}

impl Guest {
    async fn new(proxy: &Proxy) -> Self {
        Self {
            wire: Wire::connect(&proxy.addresses()[0]).await,
            begun: None,
            nonces: 0,
        }
    }

    fn begin(&mut self, user: &str) -> (Begun, Document) {
        self.nonces += 1;
        let (begun, message) = Begun::new(user, &[self.nonces; 24]);
        let command = doc! {
            "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": payload(message.as_bytes()),
            "options": { "skipEmptyExchange": true }, "$db": "admin",
        };
        (begun, command)
    }

    async fn start(&mut self, user: &str) -> Document {
        let (begun, command) = self.begin(user);
        let answer = self.wire.ask(&command).await;
        self.begun = challenge(&answer).map(|challenge| (begun, challenge));
        answer
    }

    async fn speculate(&mut self, user: &str) -> Document {
        let (begun, mut command) = self.begin(user);
        command.remove("$db");
        command.insert("db", "admin");
        let hello = doc! { "hello": 1, "speculativeAuthenticate": command, "$db": "admin" };
        let answer = self.wire.ask(&hello).await;
        let told = answer.get_document("speculativeAuthenticate").ok();
        self.begun = told.and_then(challenge).map(|challenge| (begun, challenge));
        answer
    }

    /// The message that proves to know the password.
    fn proof(&mut self, password: &str) -> Vec<u8> {
        let Some((begun, challenge)) = self.begun.take() else {
            return Vec::new();
        };
        let challenge = begun.challenged(&challenge).unwrap();
        let password = saslprep(password).unwrap();
        let salted = salt(password.as_bytes(), &challenge.salt, challenge.iterations);
        challenge.prove(&salted).1.into_bytes()
    }

    async fn finish(&mut self, password: &str) -> Document {
        let proof = self.proof(password);
        self.wire.ask(&proceed(&proof)).await
    }

    /// Whom MongoDB takes it for.
    async fn users(&mut self) -> Vec<String> {
        let command = doc! { "connectionStatus": 1, "$db": "admin" };
        users(&self.wire.ask(&command).await)
    }
}

/// The proof of a login whose first message was written in another way (RFC 5802, section 3).
fn by_hand(first: &str, challenge: &[u8]) -> Vec<u8> {
    let mac = |key: &[u8], text: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text);
        mac.finalize().into_bytes()
    };
    let challenge = std::str::from_utf8(challenge).unwrap();
    let parts: Vec<&str> = challenge.split(',').map(|part| &part[2..]).collect();
    let password = saslprep(PASSWORD).unwrap();
    let iterations = parts[2].parse().unwrap();
    let salted = salt(
        password.as_bytes(),
        &STANDARD.decode(parts[1]).unwrap(),
        iterations,
    );
    let last = format!("c=biws,r={}", parts[0]);
    let key = mac(&salted[..], b"Client Key");
    let said = format!("{first},{challenge},{last}");
    let signature = mac(&Sha256::digest(key), said.as_bytes());
    let proof: Vec<u8> = key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    format!("{last},p={}", STANDARD.encode(proof)).into_bytes()
}

fn is_ok(answer: &Document) -> bool {
    answer.get_f64("ok").unwrap() == 1.0
}

fn text(answer: &Document) -> &str {
    answer.get_str("errmsg").unwrap()
}

/// Whom the proxy takes the only client for that has ever logged in.
fn known(proxy: &Proxy) -> Vec<String> {
    let log = proxy.log();
    let mut lines = log.lines().rev();
    let last = lines.find(|line| line.contains(" authenticated ") || line.contains("logged out "));
    let user = last
        .filter(|line| line.contains(" authenticated "))
        .map(|line| {
            let (_, rest) = line.split_once("user=\"").unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        });
    user.into_iter().collect()
}

#[tokio::test]
async fn a_connection_is_one_users_until_it_logs_out() {
    let proxy = proxy("").await;
    let mut guest = Guest::new(&proxy).await;
    guest.start("ada").await;
    assert!(is_ok(&guest.finish(PASSWORD).await));
    let refused = guest.start("bob").await;
    assert!(
        text(&refused).contains("as another user already"),
        "{refused}"
    );
    assert_eq!(refused.get_i32("code").unwrap(), 18);
    assert_eq!(guest.users().await, ["ada@admin"]);
    // By `hello`, whose reply comes but which leads nowhere.
    guest.speculate("bob").await;
    let refused = guest.finish(PASSWORD).await;
    assert!(
        text(&refused).contains("as another user already"),
        "{refused}"
    );
    assert_eq!(guest.users().await, ["ada@admin"]);
    // The same one again.
    guest.start("ada").await;
    assert!(is_ok(&guest.finish(PASSWORD).await));
    // Not of this database.
    assert!(is_ok(
        &guest.wire.ask(&doc! { "logout": 1, "$db": "shop" }).await
    ));
    assert!(!is_ok(&guest.start("bob").await));
    assert!(is_ok(
        &guest.wire.ask(&doc! { "logout": 1, "$db": "admin" }).await
    ));
    assert!(guest.users().await.is_empty());
    guest.start("bob").await;
    assert!(is_ok(&guest.finish(PASSWORD).await));
    assert_eq!(guest.users().await, ["bob@admin"]);
    assert_eq!(known(&proxy), ["bob@admin"]);
}

#[tokio::test]
async fn who_cannot_be_written_down_is_not_let_in() {
    let proxy = proxy("[audit]\nfile = \"audit.jsonl\"\n").await;
    let [mut first, mut second] = [Guest::new(&proxy).await, Guest::new(&proxy).await];
    for guest in [&mut first, &mut second] {
        guest.start("ada").await;
    }
    let file = proxy.directory().join("audit.jsonl");
    fs::rename(&file, proxy.directory().join("aside.jsonl")).unwrap();
    // Something else, to which no lines are added.
    fs::write(&file, "").unwrap();
    let proof = first.proof(PASSWORD);
    assert!(first.wire.send(&msg(0, &body(&proceed(&proof)))).await);
    assert_eq!(first.wire.receive().await, None);
    fs::remove_file(&file).unwrap();
    assert!(is_ok(&second.finish(PASSWORD).await));
    assert_eq!(known(&proxy), ["ada@admin"]);
}

#[tokio::test]
async fn a_proof_counts_for_the_login_that_began_last() {
    let proxy = proxy("").await;
    let mut guest = Guest::new(&proxy).await;
    guest.start("ada").await;
    let of_ada = guest.proof(PASSWORD);
    guest.start("bob").await;
    assert!(!is_ok(&guest.wire.ask(&proceed(&of_ada)).await));
    assert!(guest.users().await.is_empty());
    // What failed does not go on.
    let again = guest.finish(PASSWORD).await;
    assert!(text(&again).contains("no such login"), "{again}");
    guest.start("ada").await;
    guest.speculate("bob").await;
    assert!(is_ok(&guest.finish(PASSWORD).await));
    assert_eq!(guest.users().await, ["bob@admin"]);
    assert_eq!(known(&proxy), ["bob@admin"]);
}

#[tokio::test]
async fn a_login_whose_end_nobody_would_see_does_not_reach_mongodb() {
    let proxy = proxy("").await;
    let mut guest = Guest::new(&proxy).await;
    guest.start("ada").await;
    let proof = guest.proof(PASSWORD);
    guest.wire.command(MORE_TO_COME, &proceed(&proof)).await;
    assert!(guest.users().await.is_empty());
    assert!(known(&proxy).is_empty());
    let (_, command) = guest.begin("ada");
    guest.wire.command(MORE_TO_COME, &command).await;
    assert!(guest.wire.works().await);
    assert!(proxy.log().contains("do not set moreToCome"));
}

#[tokio::test]
async fn a_name_that_scram_writes_otherwise_is_the_one_that_mongodb_reads() {
    for (user, written) in [
        ("o=,dd", "o=3D=2Cdd"),
        ("o=,dd", "o==2Cdd"),
        ("=2C", "=3D2C"),
        ("=3D", "=3D3D"),
    ] {
        let proxy = proxy("").await;
        let mut guest = Guest::new(&proxy).await;
        guest.nonces += 1;
        let first = format!("n={written},r={}", STANDARD.encode([guest.nonces; 24]));
        let mut command = guest.begin(user).1;
        command.insert("payload", payload(format!("n,,{first}").as_bytes()));
        let answer = guest.wire.ask(&command).await;
        if written == "=3D2C" {
            assert_eq!(answer.get_i32("code").unwrap(), 22, "{answer}");
            continue;
        }
        let proof = by_hand(&first, &challenge(&answer).unwrap());
        assert!(is_ok(&guest.wire.ask(&proceed(&proof)).await), "{written}");
        assert_eq!(guest.users().await, [format!("{user}@admin")]);
        assert_eq!(known(&proxy), [format!("{user}@admin")]);
    }
}

#[tokio::test]
async fn a_login_by_the_old_opcode_is_learned_from_too() {
    let proxy = proxy("").await;
    let mut guest = Guest::new(&proxy).await;
    let (begun, mut command) = guest.begin("ada");
    command.remove("$db");
    let reply = guest
        .wire
        .exchange(&query("admin.$cmd", &document(&command)))
        .await;
    let first = challenge(&answer(&reply)).unwrap();
    guest.begun = Some((begun, first));
    let proof = guest.proof(PASSWORD);
    let mut command = proceed(&proof);
    command.remove("$db");
    let reply = guest
        .wire
        .exchange(&query("admin.$cmd", &document(&command)))
        .await;
    assert!(is_ok(&answer(&reply)));
    assert_eq!(guest.users().await, ["ada@admin"]);
    assert_eq!(known(&proxy), ["ada@admin"]);
}

#[tokio::test]
async fn a_login_that_says_two_things_is_refused() {
    let proxy = proxy("").await;
    let mut guest = Guest::new(&proxy).await;
    let (_, command) = guest.begin("ada");
    for (key, value) in [
        ("payload", payload(b"n,,n=bob,r=abcdefgh")),
        ("mechanism", "SCRAM-SHA-1".into()),
        ("$db", "shop".into()),
    ] {
        let mut bytes = document(&command);
        bytes.pop();
        bytes.extend(&document(&doc! { key: value })[4..]);
        let length = i32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let reply = guest
            .wire
            .exchange(&msg(0, &[vec![0], bytes].concat()))
            .await;
        let refused = answer(&reply);
        assert_eq!(refused.get_i32("code").unwrap(), 22, "{refused}");
    }
    for message in [
        "n,a=bob,n=ada,r=abcdefgh",
        "n,,n=ada",
        "n,,n==3D2C,r=abcdefgh",
    ] {
        let mut wrong = command.clone();
        wrong.insert("payload", payload(message.as_bytes()));
        let reply = guest.wire.exchange(&msg(0, &body(&wrong))).await;
        assert_eq!(answer(&reply).get_i32("code").unwrap(), 22);
    }
    assert!(guest.wire.works().await);
}

#[tokio::test]
async fn in_any_order_of_logins_the_proxy_knows_whom_mongodb_knows() {
    let mut random = Random::new(Random::seed());
    for _ in 0..6 {
        let proxy = proxy("").await;
        let mut guest = Guest::new(&proxy).await;
        let mut done = Vec::new();
        for _ in 0..40 {
            let user = ["ada", "bob", "nobody"][random.below(3)];
            let step = random.below(9);
            let answer = match step {
                0 | 1 => guest.start(user).await,
                2 | 3 => guest.speculate(user).await,
                4 | 5 => guest.finish(PASSWORD).await,
                6 => guest.finish("another").await,
                7 => {
                    let database = ["admin", "shop"][random.below(2)];
                    guest.wire.ask(&doc! { "logout": 1, "$db": database }).await
                }
                _ => {
                    let proof = guest.proof(PASSWORD);
                    let mut other = proceed(&proof);
                    other.insert("conversationId", 2);
                    guest.wire.ask(&other).await
                }
            };
            done.push((step, user, is_ok(&answer)));
            assert_eq!(guest.users().await, known(&proxy), "{done:?}");
        }
    }
}
