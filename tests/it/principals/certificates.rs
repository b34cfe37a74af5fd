//! Certificates that stand for users, as whom the proxy itself logs in.

use std::path::PathBuf;

use mongodb::Client as Driver;
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, Tls, TlsOptions};

use super::{PASSWORD, as_user, by_certificate, may_ask, proxy, status, told, users};
use crate::support::Proxy;
use crate::tls::authority::{Authority, Wish};
use crate::tls::client::{Client, Manner};

/// An authority, and a proxy that asks for its certificates.
struct World {
    ca: Authority,
    proxy: Proxy,
}

/// How the subject of a certificate with this common name is written.
fn subject(name: &str) -> String {
    format!("CN={name},OU={name},O=Tests")
}

/// `[[access.credential]]` with a password in a file of the proxy's directory.
fn credential(certificate: &str, user: &str, file: &str) -> String {
    format!(
        "[[access.credential]]\ncertificate = {certificate:?}\nuser = {user:?}\npassword = {{ file = {file:?} }}\n"
    )
}

impl World {
    /// Files by their names, and sections; `{}` in them is where the files are.
    async fn start(files: &[(&str, &str)], sections: &str) -> Self {
        let ca = Authority::new("principals");
        for (name, text) in files {
            std::fs::write(ca.directory().join(name), text).unwrap();
        }
        let directory = ca.directory().to_str().unwrap();
        let server = ca.issue(Wish::default());
        let listen = format!(
            "[tls.listen]\ncert = {server:?}\nclient_ca = {:?}\nclient_auth = \"optional\"\n",
            ca.ca()
        );
        let proxy = proxy(&format!("{listen}{}", sections.replace("{}", directory))).await;
        Self { ca, proxy }
    }

    fn identity(&self, name: &str) -> PathBuf {
        self.ca.issue(Wish {
            name,
            hosts: &["service.example"],
            expired: false,
        })
    }

    fn address(&self) -> &str {
        &self.proxy.addresses()[0]
    }

    /// A driver that shows the certificate of `name`.
    fn driver(&self, mut options: ClientOptions, name: &str) -> Driver {
        let tls = TlsOptions::builder()
            .ca_file_path(self.ca.ca())
            .cert_key_file_path(self.identity(name))
            .build();
        options.tls = Some(Tls::Enabled(tls));
        Driver::with_options(options).unwrap()
    }

    async fn options(&self) -> ClientOptions {
        let uri = format!("mongodb://{}/?directConnection=true", self.address());
        ClientOptions::parse(uri).await.unwrap()
    }

    /// By hand, after a first `ping`.
    async fn client(&self, name: &str) -> Client {
        let manner = Manner {
            identity: Some(self.identity(name)),
            ..Manner::new(self.ca.ca())
        };
        Client::connect(self.address(), &manner).await.unwrap()
    }
}

const STATUS: &str = "connectionStatus";

async fn users_of(client: &mut Client) -> Vec<String> {
    users(
        &client
            .ask(&doc! { STATUS: 1, "$db": "admin" })
            .await
            .unwrap(),
    )
}

fn error(answer: &Document) -> (i32, &str) {
    let code = answer.get_i32("code").unwrap();
    (code, answer.get_str("errmsg").unwrap())
}

#[tokio::test]
async fn a_service_with_a_certificate_needs_no_password() {
    let sections = [
        credential("CN=nobody", "old@admin", "{}/ada"),
        credential(&subject("shop"), "ada@admin", "{}/ada"),
        credential("DNS:service.example", "bob@admin", "{}/bob"),
        super::binding("ada@admin", "agent"),
    ];
    let files = [("ada", PASSWORD), ("bob", &format!("{PASSWORD}\n"))];
    let world = World::start(&files, &sections.concat()).await;
    // As who logs in by certificate, and as who does not log in at all.
    let by_certificate = by_certificate(world.address()).await;
    for options in [by_certificate, world.options().await] {
        let driver = world.driver(options.clone(), "shop");
        assert_eq!(status(&driver).await.unwrap(), ["ada@admin"]);
        assert!(may_ask(&driver).await);
        let name = crate::support::unique_database("certified");
        let people = driver.database(&name).collection::<Document>("people");
        people.insert_one(doc! { "_id": 1 }).await.unwrap();
        // The first that fits counts.
        let other = world.driver(options, "other");
        assert_eq!(status(&other).await.unwrap(), ["bob@admin"]);
    }
    assert!(
        told(&world.proxy, "ada@admin", r#"["agent"]"#),
        "{}",
        world.proxy.log()
    );
    assert!(told(&world.proxy, "bob@admin", "[]"));
    assert!(!world.proxy.log().contains("pencil"));
    // Without a certificate one is nobody.
    let mut stranger = Client::connect(world.address(), &Manner::new(world.ca.ca()))
        .await
        .unwrap();
    assert!(users_of(&mut stranger).await.is_empty());
}

#[tokio::test]
async fn a_login_by_certificate_is_answered_as_mongodb_does_and_for_its_own_subject_alone() {
    let section = credential(&subject("shop"), "ada@admin", "{}/ada");
    let world = World::start(&[("ada", PASSWORD)], &section).await;
    let login = |user: Option<&str>| {
        let mut login = doc! { "authenticate": 1, "mechanism": "MONGODB-X509" };
        login.extend(user.map(|user| ("user".to_owned(), user.into())));
        login.insert("$db", "$external");
        login
    };
    let mut client = world.client("shop").await;
    let expected = doc! { "dbname": "$external", "user": subject("shop"), "ok": 1.0 };
    for user in [None, Some(subject("shop"))] {
        let answer = client.ask(&login(user.as_deref())).await.unwrap();
        assert_eq!(answer, expected);
    }
    let refused = client.ask(&login(Some("CN=root"))).await.unwrap();
    assert_eq!(error(&refused).0, 18, "{refused}");
    assert_eq!(users_of(&mut client).await, ["ada@admin"]);
    // Who has no credential cannot.
    let mut other = world.client("other").await;
    let refused = other.ask(&login(None)).await.unwrap();
    assert!(
        error(&refused).1.contains("cannot pass through the proxy"),
        "{refused}"
    );
    assert!(users_of(&mut other).await.is_empty());
}

#[tokio::test]
async fn hello_is_the_same_with_and_without_a_credential_and_logs_nobody_in() {
    let section = credential(&subject("shop"), "ada@admin", "{}/ada");
    let world = World::start(&[("ada", PASSWORD)], &section).await;
    let begun = doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "db": "$external" };
    let hello = doc! { "hello": 1, "speculativeAuthenticate": begun, "$db": "admin" };
    let mut keys = Vec::new();
    for name in ["shop", "other"] {
        let mut client = world.client(name).await;
        let answer = client.ask(&hello).await.unwrap();
        assert_eq!(answer.get_f64("ok").unwrap(), 1.0);
        keys.push(answer.keys().cloned().collect::<Vec<_>>());
    }
    assert_eq!(keys[0], keys[1]);
    assert!(
        !keys[0]
            .iter()
            .any(|key| key.contains("sasl") || key.contains("speculative"))
    );
}

#[tokio::test]
async fn a_client_whose_certificate_stands_for_a_user_cannot_become_another() {
    let section = credential(&subject("shop"), "ada@admin", "{}/ada");
    let world = World::start(&[("ada", PASSWORD)], &section).await;
    for user in ["bob", "ada"] {
        let options = as_user(world.address(), user, "admin", PASSWORD).await;
        let driver = world.driver(options, "shop");
        let error = status(&driver).await.unwrap_err().to_string();
        assert!(error.contains("for this client's certificate"), "{error}");
    }
    // Others may.
    let options = as_user(world.address(), "bob", "admin", PASSWORD).await;
    let driver = world.driver(options, "other");
    assert_eq!(status(&driver).await.unwrap(), ["bob@admin"]);
    // Nor is it anybody once it has logged out, until it asks.
    let mut client = world.client("shop").await;
    let logout = |database: &str| doc! { "logout": 1, "$db": database };
    client.ask(&logout("$external")).await.unwrap();
    assert_eq!(users_of(&mut client).await, ["ada@admin"]);
    client.ask(&logout("admin")).await.unwrap();
    assert!(users_of(&mut client).await.is_empty());
    let start = doc! {
        "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": "biwsbj1ib2Iscj1hYmNkZWZnaA==",
        "$db": "admin",
    };
    let refused = client.ask(&start).await.unwrap();
    assert!(
        error(&refused).1.contains("for this client's certificate"),
        "{refused}"
    );
    let login = doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external" };
    client.ask(&login).await.unwrap();
    assert_eq!(users_of(&mut client).await, ["ada@admin"]);
}

#[tokio::test]
async fn a_password_that_mongodb_refuses_is_told_of_and_mended_without_a_restart() {
    let section = [
        credential(&subject("shop"), "ada@admin", "{}/ada"),
        credential(&subject("old"), "old@admin", "{}/old"),
    ];
    let files = [("ada", "wrong 4711"), ("old", "pencil")];
    let mut world = World::start(&files, &section.concat()).await;
    // The first user has another password, the second one no SCRAM-SHA-256.
    for (name, user) in [("shop", "ada@admin"), ("old", "old@admin")] {
        let manner = Manner {
            identity: Some(world.identity(name)),
            ..Manner::new(world.ca.ca())
        };
        let mut client = Client::silent(world.address(), &manner).await.unwrap();
        let hello = client
            .ask(&doc! { "hello": 1, "$db": "admin" })
            .await
            .unwrap();
        assert_eq!(hello.get_f64("ok").unwrap(), 1.0);
        let refused = client.ask(&doc! { "find": "c", "$db": "d" }).await.unwrap();
        let (code, text) = error(&refused);
        assert!(code == 18 && text.contains("its log says why"), "{refused}");
        assert!(client.end().await.unwrap().is_empty());
        let name = format!("user={user:?}");
        world
            .proxy
            .wait_for_log(&["WARN", "client's certificate failed", &name, "code "])
            .await;
    }
    let log = world.proxy.log();
    assert!(!log.contains("4711") && !log.contains("pencil"), "{log}");
    std::fs::write(world.ca.directory().join("ada"), PASSWORD).unwrap();
    world.proxy.process_mut().signal("HUP");
    world.proxy.wait_for_log(&["taken up anew"]).await;
    assert_eq!(
        users_of(&mut world.client("shop").await).await,
        ["ada@admin"]
    );
}

#[tokio::test]
async fn a_credential_that_is_taken_away_ends_the_connections_that_stand_on_it() {
    let section = credential(&subject("shop"), "ada@admin", "{}/ada");
    let mut world = World::start(&[("ada", PASSWORD)], &section).await;
    let mut shop = world.client("shop").await;
    let mut other = world.client("other").await;
    assert_eq!(users_of(&mut shop).await, ["ada@admin"]);
    let configuration = world.proxy.configuration();
    let text = std::fs::read_to_string(&configuration).unwrap();
    let (kept, _) = text.split_once("[[access.credential]]").unwrap();
    std::fs::write(&configuration, format!("{kept}[access.roles.agent]\n")).unwrap();
    world.proxy.process_mut().signal("HUP");
    world.proxy.wait_for_log(&["taken up anew"]).await;
    assert!(shop.ping().await.is_err());
    other.ping().await.unwrap();
    world
        .proxy
        .wait_for_log(&["WARN", "no longer has the user"])
        .await;
}
