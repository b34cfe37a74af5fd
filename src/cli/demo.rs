//! `fieldseal demo`: a guided tour with a mongod, keys, a schema and data of its own.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bson::spec::BinarySubtype;
use bson::{Bson, Document, doc};
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};

use super::Failure;
use super::embedded::{Certificates, Embedded, EmbeddedError};
use super::serve::Stop;
use crate::code::Code;
use crate::config::{
    AccessConfig, Address, ClientAuth, Config, IdentityFiles, KeyringConfig, Limits, ListenTls,
    Log, MinVersion, Route, TlsConfig, UpstreamTls,
};
use crate::keyring::{KeyFile, Keyring, KeyringError, Material, UnsealSecret, UnsealSource};
use crate::policy::{Policy, PolicyError};
use crate::proxy::{BindError, PolicyCell, Proxy};
use crate::schema::{DEFAULT_KEY, Format, Schema, SchemaErrors};
use crate::tls::{Tls, TlsError};

/// The schema of the tour, which is also the example in the repository.
const SCHEMA: &str = include_str!("../../schema/musiccorp.toml");

const DATABASE: &str = "musiccorp";

/// How long a client that must be turned away tries to get in.
const TRY: Duration = Duration::from_secs(1);

/// Why the tour ended early.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("{0}")]
    Embedded(#[from] EmbeddedError),
    #[error("{0}")]
    Keyring(#[from] KeyringError),
    #[error("{0}")]
    Unseal(#[from] crate::keyring::UnsealError),
    #[error("{0}")]
    Schema(#[from] SchemaErrors),
    #[error("{0}")]
    Policy(#[from] PolicyError),
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Tls(Vec<TlsError>),
    #[error("{0}")]
    Driver(#[from] mongodb::error::Error),
    #[error("cannot make a random secret: {0}")]
    Random(#[from] getrandom::Error),
    /// The tour saw something that it must not see.
    #[error("{0}; please report this")]
    Wrong(&'static str),
}

impl DemoError {
    /// What the documentation calls it.
    fn code(&self) -> Code {
        match self {
            Self::Embedded(_) => Code::Mongod,
            Self::Bind(error) => error.code(),
            _ => Code::Demo,
        }
    }
}

/// What the tour runs on.
struct Stage {
    mongod: Embedded,
    keyring: PathBuf,
    secret: UnsealSecret,
    schema: Arc<Schema>,
    policy: PolicyCell,
    /// A driver that speaks to the proxy.
    through: Client,
    /// A driver that speaks to MongoDB itself.
    direct: Client,
    address: String,
}

/// Runs the tour, with TLS on both sides or without; then stays until Ctrl-C, unless `exit`
/// says to end.
pub(super) fn run(exit: bool, tls: bool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::coded(Code::Start, error))?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        show(exit, tls, &mut stop)
            .await
            .map_err(|error| Failure::coded(error.code(), error))
    })
}

async fn show(exit: bool, tls: bool, stop: &mut Stop) -> Result<(), DemoError> {
    say("Fieldseal demo: MusicCorp keeps its customers' secrets from its database.\n");
    say("Starting a mongod of its own …");
    let (stage, proxy) = tokio::select! {
        set = Stage::set(tls) => set?,
        () = stop.asked() => return Ok(()),
    };
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(proxy.run(ended));
    let tour = async {
        stage.tour().await?;
        stage.farewell(exit).await;
        Ok(())
    };
    // However it is ended, nothing is left behind.
    let outcome = tokio::select! {
        outcome = tour => outcome,
        () = stop.asked() => Ok(()),
    };
    // Fails only if the proxy has ended already.
    let _ = end.send(());
    let Stage {
        mongod,
        through,
        direct,
        ..
    } = stage;
    through.shutdown().immediate(true).await;
    direct.shutdown().immediate(true).await;
    mongod.stop().await;
    // An error means that the proxy's task panicked, which it reported itself.
    let _ = running.await;
    outcome
}

impl Stage {
    async fn set(tls: bool) -> Result<(Self, Proxy), DemoError> {
        let mongod = Embedded::start(tls).await?;
        let keyring = mongod.folder().join("keyring.json");
        let secret = UnsealSecret::parse(Material::random()?.expose())?;
        let keys = KeyFile::init(&keyring, &secret, [DEFAULT_KEY])?;
        let schema = Arc::new(Schema::parse(
            SCHEMA,
            Format::Toml,
            "schema/musiccorp.toml",
        )?);
        let policy = compile(&schema, keys)?;
        let policy = Arc::new(ArcSwap::from_pointee(policy));
        let config = Config {
            schema: PathBuf::from("schema/musiccorp.toml"),
            keyring: KeyringConfig {
                file: keyring.clone(),
                unseal: UnsealSource::Env("unused".to_owned()),
                max_age: None,
            },
            routes: vec![Route {
                listen: Address::Tcp("127.0.0.1:0".to_owned()),
                upstream: Address::Tcp(mongod.address()),
                advertise: None,
                insecure: false,
                reuse_port: false,
            }],
            tls: mongod.certificates().map(both_sides).unwrap_or_default(),
            limits: Limits::default(),
            access: AccessConfig::default(),
            audit: None,
            log: Log::default(),
            admin: None,
            telemetry: None,
            workers: None,
        };
        let tls = Tls::load(&config.tls).map_err(DemoError::Tls)?.into_cell();
        let proxy = Proxy::bind(&config, Arc::clone(&policy), tls).await?;
        let address = proxy.addresses().first().cloned().unwrap_or_default();
        let through = Client::with_uri_str(mongod.uri(&address)).await?;
        let direct = Client::with_uri_str(mongod.uri(&mongod.address())).await?;
        let stage = Self {
            mongod,
            keyring,
            secret,
            schema,
            policy,
            through,
            direct,
            address,
        };
        Ok((stage, proxy))
    }

    async fn tour(&self) -> Result<(), DemoError> {
        let service = self.through.database(DATABASE);
        let stored = self.direct.database(DATABASE);
        self.load(&service).await?;
        self.side_by_side(&service, &stored).await?;
        self.query(&service).await?;
        self.refused(&service).await?;
        self.rotate(&service, &stored).await?;
        if self.mongod.certificates().is_some() {
            self.turned_away().await?;
        }
        Ok(())
    }

    async fn load(&self, service: &Database) -> Result<(), DemoError> {
        chapter(
            1,
            "A service writes through Fieldseal, with an ordinary driver and no change of code",
        );
        service
            .collection::<Document>("customers")
            .insert_many([
                doc! {"_id": 1, "name": "Ada Marsh", "email": "ada@example.com", "plan": "gold",
                "address": {"street": "12 Quay Rd", "city": "Leith"}, "card": {"number": "4929 1234 5678 9012", "expires": "09/29"}},
                doc! {"_id": 2, "name": "Ben Okri", "email": "ben@example.com", "plan": "free",
                "address": {"street": "7 Mill Lane", "city": "Hull"}, "card": {"number": "5500 0000 1111 2222", "expires": "01/28"}},
                doc! {"_id": 3, "name": "Cleo Ruiz", "email": "cleo@example.com", "plan": "gold",
                "address": {"street": "3 Elm Court", "city": "Bath"}, "card": {"number": "3714 4963 5398 431", "expires": "11/27"}},
            ])
            .await?;
        service
            .collection::<Document>("catalogue")
            .insert_many([
                doc! {"_id": 1, "title": "Kind of Blue", "price": 19.5},
                doc! {"_id": 2, "title": "Blue Train", "price": 21.0},
            ])
            .await?;
        service
            .collection::<Document>("logs")
            .insert_one(doc! {"_id": 1, "at": bson::DateTime::now(), "level": "warn", "message": "card of ada@example.com declined"})
            .await?;
        service
            .run_command(doc! {"createIndexes": "customers", "indexes": [{"key": {"email": 1}, "name": "email_1", "unique": true}]})
            .await?;
        say(
            "   3 customers, 2 records of an open catalogue, 1 log line, a unique index on `email`.",
        );
        Ok(())
    }

    async fn side_by_side(&self, service: &Database, stored: &Database) -> Result<(), DemoError> {
        chapter(2, "What the service reads, and what MongoDB stores");
        for collection in ["customers", "logs", "catalogue"] {
            let filter = doc! {"_id": 1};
            let left = find(service, collection, filter.clone()).await?;
            let right = find(stored, collection, filter).await?;
            if collection == "customers" && (left == right || format!("{right}").contains("Ada")) {
                return Err(DemoError::Wrong("MongoDB stores what should be sealed"));
            }
            say(&columns(
                &format!("{collection}, through Fieldseal"),
                &left,
                "in MongoDB",
                &right,
            ));
        }
        Ok(())
    }

    async fn query(&self, service: &Database) -> Result<(), DemoError> {
        chapter(
            3,
            "A query on a sealed field: MongoDB compares tokens, by an index",
        );
        let filter = doc! {"email": "cleo@example.com"};
        let found = find(service, "customers", filter.clone()).await?;
        if found.get_i32("_id").ok() != Some(3) {
            return Err(DemoError::Wrong(
                "an equality query found the wrong customer",
            ));
        }
        let plan = service
            .run_command(doc! {"explain": {"find": "customers", "filter": filter}, "verbosity": "queryPlanner"})
            .await?;
        let stage = format!("{plan}");
        let by_index = if stage.contains("IXSCAN") {
            "IXSCAN"
        } else {
            "COLLSCAN"
        };
        say(&format!(
            "   find({{ email: \"cleo@example.com\" }})  →  {}, {}   ({by_index})",
            found.get_str("name").unwrap_or("?"),
            found.get_str("plan").unwrap_or("?"),
        ));
        Ok(())
    }

    async fn refused(&self, service: &Database) -> Result<(), DemoError> {
        chapter(
            4,
            "What cannot be answered exactly is refused, never guessed",
        );
        let answer = service
            .collection::<Document>("customers")
            .find_one(doc! {"email": {"$regex": "^ada"}})
            .await;
        match answer {
            Ok(_) => Err(DemoError::Wrong(
                "a pattern on a sealed field was let through",
            )),
            Err(error) => {
                let told = match error.kind.as_ref() {
                    mongodb::error::ErrorKind::Command(error) => error.message.clone(),
                    other => other.to_string(),
                };
                say(&format!(
                    "   find({{ email: /^ada/ }})\n{}",
                    wrap(&told, 92, "     ")
                ));
                Ok(())
            }
        }
    }

    async fn rotate(&self, service: &Database, stored: &Database) -> Result<(), DemoError> {
        chapter(
            5,
            "Keys rotate while services go on; what the old key sealed stays readable",
        );
        let mut file = KeyFile::edit(&self.keyring, &self.secret)?;
        file.rotate(DEFAULT_KEY)?;
        self.policy
            .store(Arc::new(compile(&self.schema, file.save()?)?));
        service
            .collection::<Document>("customers")
            .insert_one(
                doc! {"_id": 4, "name": "Dan Webb", "email": "dan@example.com", "plan": "free"},
            )
            .await?;
        let customers = service.collection::<Document>("customers");
        let mut all = customers.find(doc! {}).sort(doc! {"_id": 1}).await?;
        while all.advance().await? {
            let customer = all.deserialize_current()?;
            let raw = find(
                stored,
                "customers",
                doc! {"_id": customer.get_i32("_id").unwrap_or_default()},
            )
            .await?;
            let key =
                sealed_under(raw.get("name")).ok_or(DemoError::Wrong("a name is not sealed"))?;
            say(&format!(
                "   {:<10} {:<16} sealed under key id {key:08x}",
                customer.get_str("name").unwrap_or("?"),
                customer.get_str("email").unwrap_or("?"),
            ));
        }
        Ok(())
    }

    async fn turned_away(&self) -> Result<(), DemoError> {
        chapter(
            6,
            "All of this was over TLS 1.3, with certificates on all sides; nobody gets in without one",
        );
        let mongod = self.mongod.address();
        for (whose, address) in [("Fieldseal", &self.address), ("MongoDB itself", &mongod)] {
            let mut options = ClientOptions::parse(Embedded::plain_uri(address)).await?;
            options.server_selection_timeout = Some(TRY);
            let stranger = Client::with_options(options)?;
            let asked = stranger
                .database(DATABASE)
                .run_command(doc! {"ping": 1})
                .await;
            stranger.shutdown().immediate(true).await;
            if asked.is_ok() {
                return Err(DemoError::Wrong("a client without TLS was served"));
            }
            say(&format!(
                "   {whose:<16} a client without TLS is turned away"
            ));
        }
        Ok(())
    }

    /// Says where to connect; then stays, unless `exit` says to end.
    async fn farewell(&self, exit: bool) {
        let with_tls = self.mongod.certificates().is_some();
        chapter(if with_tls { 7 } else { 6 }, "Try it");
        say(&format!(
            "   through Fieldseal   {}",
            self.mongod.uri(&self.address)
        ));
        say(&format!(
            "   MongoDB itself      {}",
            self.mongod.uri(&self.mongod.address())
        ));
        if exit {
            return;
        }
        say(
            "\n   mongosh with either; database `musiccorp`. Ctrl-C ends the demo and removes its data.",
        );
        std::future::pending::<()>().await;
    }
}

/// TLS with services and with MongoDB, each with certificates on both ends.
fn both_sides(certificates: &Certificates) -> TlsConfig {
    let identity = IdentityFiles {
        cert: certificates.proxy(),
        key: certificates.proxy(),
    };
    TlsConfig {
        listen: Some(ListenTls {
            identity: identity.clone(),
            client_ca: Some(certificates.authority()),
            client_auth: ClientAuth::Required,
            min_version: MinVersion::Tls13,
        }),
        upstream: Some(UpstreamTls {
            ca: Some(certificates.authority()),
            identity: Some(identity),
            server_name: None,
            pins: Vec::new(),
        }),
    }
}

fn compile(schema: &Arc<Schema>, keys: Keyring) -> Result<Policy, PolicyError> {
    Policy::compile(Arc::clone(schema), Arc::new(keys))
}

async fn find(
    database: &Database,
    collection: &str,
    filter: Document,
) -> Result<Document, DemoError> {
    let found = database
        .collection::<Document>(collection)
        .find_one(filter)
        .await?;
    found.ok_or(DemoError::Wrong("a document is missing"))
}

/// The key id in the header of a sealed value: bytes 4 to 8.
fn sealed_under(value: Option<&Bson>) -> Option<u32> {
    match value? {
        Bson::Binary(binary) => crate::seal::Header::read(&binary.bytes).map(|header| header.key.0),
        _ => None,
    }
}

#[expect(clippy::print_stdout, reason = "what the tour says is its output")]
fn say(text: &str) {
    println!("{text}");
}

fn chapter(number: u8, title: &str) {
    say(&format!("\n{number}. {title}\n"));
}

/// Two documents beside each other.
fn columns(left_title: &str, left: &Document, right_title: &str, right: &Document) -> String {
    const WIDTH: usize = 46;
    let mut lines = vec![(left_title.to_owned(), right_title.to_owned())];
    let (left, right) = (lines_of(left, 0), lines_of(right, 0));
    for row in 0..left.len().max(right.len()) {
        let cell = |column: &[String]| column.get(row).cloned().unwrap_or_default();
        lines.push((cell(&left), cell(&right)));
    }
    lines.iter().fold(String::new(), |mut text, (left, right)| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "   {left:<WIDTH$} {right}");
        text
    })
}

fn lines_of(document: &Document, depth: usize) -> Vec<String> {
    let indent = "  ".repeat(depth + 1);
    let mut lines = Vec::new();
    for (name, value) in document {
        match value {
            Bson::Document(inner) => {
                lines.push(format!("{indent}{name}:"));
                lines.extend(lines_of(inner, depth + 1));
            }
            other => lines.push(format!("{indent}{name}: {}", short(other))),
        }
    }
    lines
}

/// A value on one line; of a Binary, its beginning.
fn short(value: &Bson) -> String {
    match value {
        Bson::Binary(binary) => {
            let start: String = binary
                .bytes
                .iter()
                .take(12)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let kind = match binary.subtype {
                BinarySubtype::UserDefined(_) => "sealed",
                _ => "token",
            };
            format!("{kind} {start}… {} B", binary.bytes.len())
        }
        Bson::DateTime(at) => at.try_to_rfc3339_string().unwrap_or_default(),
        other => other.to_string(),
    }
}

/// Breaks a long line at blanks.
fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
        .iter()
        .map(|line| format!("{indent}{line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
