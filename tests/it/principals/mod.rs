//! Who is at the other end: users of MongoDB and certificates, and the roles that they have.

mod attacks;
mod certificates;
mod users;

use mongodb::bson::{Document, doc};
use mongodb::error::ErrorKind;
use mongodb::options::{AuthMechanism, ClientOptions, Credential};
use mongodb::{Client, Database};
use tokio::sync::OnceCell;

use crate::support::{Proxy, ProxyOptions, ReplicaSet, ReplicaSetOptions};

/// The password of every user but root.
const PASSWORD: &str = "pencil \u{e9}=,";

/// Users of `admin`, and which mechanisms they have.
const USERS: [(&str, &[&str]); 6] = [
    ("ada", &["SCRAM-SHA-256"]),
    ("bob", &["SCRAM-SHA-1", "SCRAM-SHA-256"]),
    ("old", &["SCRAM-SHA-1"]),
    ("o=,dd", &["SCRAM-SHA-256"]),
    ("=2C", &["SCRAM-SHA-256"]),
    ("=3D", &["SCRAM-SHA-256"]),
];

static SET: OnceCell<ReplicaSet> = OnceCell::const_new();

/// A replica set with users, which these tests share.
async fn set() -> &'static ReplicaSet {
    SET.get_or_init(|| async {
        let set = ReplicaSet::start(ReplicaSetOptions {
            auth: true,
            ..ReplicaSetOptions::default()
        })
        .await;
        let root = set.client().await;
        for (user, mechanisms) in USERS {
            create(&root.database("admin"), user, mechanisms).await;
        }
        // Another one of the same name.
        create(&root.database("shop"), "ada", &["SCRAM-SHA-256"]).await;
        set
    })
    .await
}

async fn create(database: &Database, user: &str, mechanisms: &[&str]) {
    let role = doc! { "role": "readWriteAnyDatabase", "db": "admin" };
    let password = if mechanisms == ["SCRAM-SHA-1"] {
        // It would be prepared in another way.
        "pencil"
    } else {
        PASSWORD
    };
    let command = doc! {
        "createUser": user, "pwd": password, "roles": [role], "mechanisms": mechanisms.to_vec(),
    };
    database.run_command(command).await.unwrap();
}

/// A field that only `agent` may read.
const SCHEMA: &str = r#"
[collections."principals_*.people".fields]
ssn = { type = "string", queries = ["equality"], read = ["agent"] }
[collections."principals_*.open".fields]
ssn = { type = "string" }
"#;

/// A proxy before that set, which says of every client which roles it has. The role `agent` is known.
async fn proxy(configuration: &str) -> Proxy {
    let configuration = &format!("{configuration}\n[access.roles.agent]\n");
    let options = ProxyOptions {
        schema: SCHEMA,
        configuration,
        log_level: "debug",
        ..ProxyOptions::default()
    };
    Proxy::start_with(set().await, options).await
}

/// Options of a driver that goes to one address alone, as `user` of `database`.
async fn as_user(address: &str, user: &str, database: &str, password: &str) -> ClientOptions {
    let uri = format!("mongodb://{address}/?directConnection=true");
    let mut options = ClientOptions::parse(uri).await.unwrap();
    let credential = Credential::builder()
        .username(user.to_owned())
        .password(password.to_owned())
        .source(database.to_owned())
        .build();
    options.credential = Some(credential);
    options
}

/// The same by its certificate.
async fn by_certificate(address: &str) -> ClientOptions {
    let uri = format!("mongodb://{address}/?directConnection=true");
    let mut options = ClientOptions::parse(uri).await.unwrap();
    let credential = Credential::builder().mechanism(AuthMechanism::MongoDbX509);
    options.credential = Some(credential.build());
    options
}

/// The users whom MongoDB takes a connection for.
fn users(status: &Document) -> Vec<String> {
    let info = status.get_document("authInfo").unwrap();
    let users = info.get_array("authenticatedUsers").unwrap().iter();
    users
        .map(|user| {
            let user = user.as_document().unwrap();
            let (name, database) = (user.get_str("user"), user.get_str("db"));
            format!("{}@{}", name.unwrap(), database.unwrap())
        })
        .collect()
}

/// Whom MongoDB takes a driver for.
async fn status(client: &Client) -> mongodb::error::Result<Vec<String>> {
    let admin = client.database("admin");
    let status = admin.run_command(doc! { "connectionStatus": 1 }).await?;
    Ok(users(&status))
}

/// Whether the client may ask of the field that only `agent` may read.
async fn may_ask(client: &Client) -> bool {
    let people = client
        .database("principals_x")
        .collection::<Document>("people");
    match people.find_one(doc! { "ssn": "078-05-1120" }).await {
        Ok(_) => true,
        Err(error) => {
            let refused = matches!(*error.kind, ErrorKind::Command(ref error) if error.code == 13);
            assert!(refused, "{error}");
            false
        }
    }
}

/// Whether the proxy has said that `principal` has these roles.
fn told(proxy: &Proxy, principal: &str, roles: &str) -> bool {
    let line = format!("the client's roles principal={principal} roles={roles}");
    proxy.log().lines().any(|written| written.ends_with(&line))
}

/// `[[access.principals]]` for a user.
fn binding(user: &str, role: &str) -> String {
    format!("[[access.principals]]\nuser = {user:?}\nroles = [{role:?}]\n")
}
