//! Who may read which field, with clients of several roles at one proxy: they come from
//! addresses of their own, which the roles are bound to.

mod call_centre;
mod cursors;
mod plain;
mod refused;
mod seen;
mod views;
mod watching;

use mongodb::Database;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, Document, doc};

use crate::support::wire::{Wire, answer};
use crate::support::{Proxy, ProxyOptions, shared_replica_set, unique_database};

/// Part of every value that only `billing` may see, where no mask shows it.
const CANARY: &str = "qzcanaryqz";
/// A number that is a canary.
const SALARY: f64 = 98_765.432_1;

/// A field for each mask, its value, and what others see of it.
const FIELDS: [(&str, &str); 7] = [
    ("ssn", "redact"),
    ("payment.card", "last4"),
    ("name", "first1"),
    ("email", "email"),
    ("phone", "hash"),
    ("salary", "null"),
    ("memo", "ciphertext"),
];

/// The customer that everyone may read the open fields of.
fn customer(id: i32) -> Document {
    doc! {
        "_id": id,
        "city": "Leith",
        "ssn": format!("{CANARY}-{id}"),
        "payment": { "card": format!("4929-{CANARY}-9012"), "exp": "09/29" },
        "name": format!("Ada {CANARY}"),
        "email": format!("ada.{CANARY}@example.com"),
        "phone": format!("+44 {CANARY}"),
        "salary": SALARY,
        "memo": format!("calls {CANARY}"),
        "missing": null,
    }
}

/// Who a client is, by the address that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Sees masks.
    Support,
    /// Reads and writes every field.
    Billing,
    /// Writes every field and sees masks.
    Intake,
}

impl Role {
    fn address(self) -> &'static str {
        match self {
            Self::Support => "127.0.0.2",
            Self::Billing => "127.0.0.3",
            Self::Intake => "127.0.0.4",
        }
    }
}

const ACCESS: &str = r#"
[[access.principals]]
address = "127.0.0.2/32"
roles = ["support"]

[[access.principals]]
address = "127.0.0.3/32"
roles = ["billing"]

[[access.principals]]
address = "127.0.0.4/32"
roles = ["intake"]
"#;

/// One client, with all that it was ever sent.
struct Client {
    wire: Wire,
    database: String,
    received: Vec<u8>,
}

impl Client {
    async fn connect(proxy: &Proxy, role: Role, database: &str) -> Self {
        Self {
            wire: Wire::connect_from(role.address(), &proxy.addresses()[0]).await,
            database: database.to_owned(),
            received: Vec::new(),
        }
    }

    /// The answer to a command, whatever it is.
    async fn ask(&mut self, command: &Document) -> Document {
        let mut command = command.clone();
        command.insert("$db", &self.database);
        self.wire.command(0, &command).await;
        self.answer().await
    }

    async fn answer(&mut self) -> Document {
        let frame = self
            .wire
            .receive()
            .await
            .expect("the connection was closed");
        self.received.extend_from_slice(&frame);
        answer(&frame)
    }

    /// The answer to a command that succeeds.
    async fn run(&mut self, command: &Document) -> Document {
        let answer = self.ask(command).await;
        let failed = answer.contains_key("writeErrors") || answer.get_f64("ok").ok() != Some(1.0);
        assert!(!failed, "{command}: {answer}");
        answer
    }

    /// The message of the refusal of a command, for want of a right.
    async fn refused(&mut self, command: &Document) -> String {
        let answer = self.ask(command).await;
        let error = match answer.get_array("writeErrors") {
            Ok(errors) => errors[0].as_document().unwrap().clone(),
            Err(_) => answer,
        };
        let message = error.get_str("errmsg").unwrap_or_default().to_owned();
        let unauthorized =
            error.get_i32("code").ok() == Some(13) && message.starts_with("fieldseal: ");
        assert!(unauthorized, "{command}: {error}");
        assert!(!message.contains(CANARY), "{message}");
        message
    }

    /// All documents that a command finds, read on by small batches.
    async fn found(&mut self, command: &Document) -> Vec<Bson> {
        let mut command = command.clone();
        if command.contains_key("find") {
            command.insert("batchSize", 1);
        } else {
            command.insert("cursor", doc! { "batchSize": 1 });
        }
        let mut answer = self.run(&command).await;
        let mut found = Vec::new();
        loop {
            let cursor = answer.get_document("cursor").unwrap();
            for batch in ["firstBatch", "nextBatch"] {
                found.extend(cursor.get_array(batch).into_iter().flatten().cloned());
            }
            let id = cursor.get_i64("id").unwrap();
            if id == 0 {
                return found;
            }
            let (_, name) = cursor.get_str("ns").unwrap().split_once('.').unwrap();
            let more = doc! { "getMore": id, "collection": name, "batchSize": 1 };
            answer = self.run(&more).await;
        }
    }

    /// Whether any canary is in what it was sent, as it is.
    fn saw_a_canary(&self) -> bool {
        let number = SALARY.to_le_bytes();
        let holds = |bytes: &[u8]| memchr::memmem::find(&self.received, bytes).is_some();
        holds(CANARY.as_bytes()) || holds(&number)
    }
}

/// Three clients at one proxy, and MongoDB itself.
struct World {
    proxy: Proxy,
    database: String,
    stored: Database,
    support: Client,
    billing: Client,
    intake: Client,
}

impl World {
    /// With two customers, their orders, and a view of the customers.
    async fn new() -> Self {
        let set = shared_replica_set().await;
        let database = unique_database("roles");
        let mut schema = String::new();
        let tables = [("customers", "reject"), ("moving", "allow")];
        for (name, on_plaintext) in tables {
            schema.push_str(&format!(
                "[collections.\"{database}.{name}\"]\non_plaintext = \"{on_plaintext}\"\n[collections.\"{database}.{name}\".fields]\n"
            ));
            for (path, mask) in FIELDS {
                let typed = match mask {
                    "null" => "type = \"double\"",
                    _ => "type = \"string\", queries = [\"equality\"]",
                };
                schema.push_str(&format!(
                    "\"{path}\" = {{ {typed}, read = [\"billing\"], write = [\"billing\", \"intake\"], mask = \"{mask}\" }}\n"
                ));
            }
        }
        let options = ProxyOptions {
            schema: &schema,
            configuration: ACCESS,
            log_level: "debug",
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_with(set, options).await;
        let client = |role| Client::connect(&proxy, role, &database);
        let mut world = Self {
            support: client(Role::Support).await,
            billing: client(Role::Billing).await,
            intake: client(Role::Intake).await,
            stored: set.client().await.database(&database),
            database,
            proxy,
        };
        for command in [
            doc! { "create": "customers", "changeStreamPreAndPostImages": { "enabled": true } },
            doc! { "insert": "customers", "documents": [customer(1), customer(2)] },
            doc! { "insert": "orders", "documents": [{ "_id": 1, "customer": 1 }, { "_id": 2, "customer": 2 }] },
            doc! { "create": "view", "viewOn": "customers", "pipeline": [{ "$project": { "who": "$name", "card": "$payment.card", "city": 1 } }] },
        ] {
            world.billing.run(&command).await;
        }
        world
    }

    /// Another client of a role.
    async fn client(&self, role: Role) -> Client {
        Client::connect(&self.proxy, role, &self.database).await
    }
}

/// Asserts that `masked` is what those see who may not read the fields, where `plain` is
/// what is there. Gives how many values were masked.
fn assert_masked(plain: &Bson, masked: &Bson) -> usize {
    match (plain, masked) {
        (Bson::Document(plain), Bson::Document(masked)) => {
            let names = |of: &Document| of.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(plain), names(masked));
            let values = plain.values().zip(masked.values());
            values
                .map(|(plain, masked)| assert_masked(plain, masked))
                .sum()
        }
        (Bson::Array(plain), Bson::Array(masked)) => {
            assert_eq!(plain.len(), masked.len());
            let values = plain.iter().zip(masked);
            values
                .map(|(plain, masked)| assert_masked(plain, masked))
                .sum()
        }
        (Bson::Double(number), seen) if *number == SALARY => {
            assert_eq!(seen, &Bson::Null);
            1
        }
        (Bson::String(text), seen) if text.contains(CANARY) => {
            match text.split(CANARY).next().unwrap() {
                "" => assert_eq!(seen, &Bson::from("[redacted]")),
                "4929-" => assert_eq!(seen, &Bson::from("****9012")),
                "Ada " => assert_eq!(seen, &Bson::from("A****")),
                "ada." => assert_eq!(seen, &Bson::from("a****@example.com")),
                "+44 " => {
                    let hash = seen.as_str().unwrap();
                    assert!(hash.starts_with("masked:") && hash.len() == 39, "{hash}");
                }
                _ => match seen {
                    Bson::Binary(sealed) => {
                        assert_eq!(sealed.subtype, BinarySubtype::from(0x8F));
                    }
                    other => panic!("{other} for ciphertext"),
                },
            }
            1
        }
        (plain, masked) => {
            assert_eq!(plain, masked);
            0
        }
    }
}
