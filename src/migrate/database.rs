//! MongoDB as the jobs see it: how it is reached, and which collections have sealed fields.

use std::collections::BTreeSet;
use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, ServerAddress};

use crate::code::Code;
use crate::policy::Policy;

/// How long MongoDB may take to answer at first.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// How long an election may take while a job is under way.
const ELECTION: Duration = Duration::from_secs(60);

/// Why MongoDB cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The connection string is wrong. Its text is not shown: it may hold a password.
    #[error("{source_name}: {reason}")]
    Uri {
        /// Where the connection string came from.
        source_name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Nobody answers, or not as a MongoDB does.
    #[error("cannot reach MongoDB at {hosts} ({source_name}): {reason}")]
    Unreachable {
        /// `host:port`, of each member that was named.
        hosts: String,
        /// Where the connection string came from.
        source_name: &'static str,
        /// What the driver says.
        reason: String,
    },
    /// The schema seals nothing there.
    #[error("{namespace}: the schema seals nothing there; it names {named}")]
    NotSealed {
        /// The namespace that was asked for.
        namespace: String,
        /// What the schema names.
        named: String,
    },
    /// MongoDB refused, or went away.
    #[error("{what}: {}", told(.error))]
    Driver {
        /// What was being done.
        what: String,
        /// What the driver says.
        error: Box<Error>,
    },
}

impl DatabaseError {
    /// What the documentation calls it.
    pub fn code(&self) -> Code {
        match self {
            Self::Uri { .. } => Code::ConnectionString,
            Self::Unreachable { .. } => Code::Unreachable,
            Self::NotSealed { .. } => Code::NotSealed,
            Self::Driver { .. } => Code::Database,
        }
    }
}

/// What an error of the driver says, on one line and without a value of a document.
///
/// MongoDB puts documents into some errors of writes: of these only the code is told.
pub fn told(error: &Error) -> String {
    match &*error.kind {
        ErrorKind::Command(command) if speaks_of_documents(command.code) => {
            format!("{} (code {})", command.code_name, command.code)
        }
        ErrorKind::Command(command) => {
            format!(
                "{} ({}, code {})",
                command.message, command.code_name, command.code
            )
        }
        ErrorKind::Write(_) | ErrorKind::InsertMany(_) | ErrorKind::BulkWrite(_) => {
            "a write was refused".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Duplicate keys and documents that a validator refuses are shown in MongoDB's errors.
fn speaks_of_documents(code: i32) -> bool {
    matches!(code, 11000 | 11001 | 12582 | 121)
}

/// A connection string, and where it came from.
#[derive(Debug)]
pub struct Uri {
    text: String,
    source_name: &'static str,
}

impl Uri {
    /// A connection string that came from `source_name`: an option, a variable, a route.
    pub fn new(text: impl Into<String>, source_name: &'static str) -> Self {
        Self {
            text: text.into(),
            source_name,
        }
    }

    /// Connects, and waits for a first answer. The addresses in `proxies` are refused:
    /// the jobs work on MongoDB itself.
    pub async fn connect(&self, proxies: &[String]) -> Result<Client, DatabaseError> {
        let mut options = self.options().await?;
        for host in &options.hosts {
            if proxies.contains(&host.to_string()) {
                return Err(self.wrong(format_args!(
                    "{host} is this configuration's proxy; name MongoDB itself"
                )));
            }
        }
        options.app_name.get_or_insert("fieldseal".to_owned());
        self.first_answer(options.clone()).await?;
        options.server_selection_timeout.get_or_insert(ELECTION);
        Client::with_options(options).map_err(|error| self.wrong(error))
    }

    async fn options(&self) -> Result<ClientOptions, DatabaseError> {
        if self.text.starts_with("mongodb+srv:") {
            return Err(self.wrong("`mongodb+srv://` is not in this version; name the members: `mongodb://HOST:PORT,HOST:PORT/?replicaSet=NAME`, with `&tls=true` where they ask for it"));
        }
        ClientOptions::parse(&self.text)
            .await
            .map_err(|error| self.wrong(error))
    }

    /// Asks for a first answer with a patience of its own, so that a wrong address is told soon.
    async fn first_answer(&self, mut options: ClientOptions) -> Result<(), DatabaseError> {
        let hosts: Vec<String> = options.hosts.iter().map(ServerAddress::to_string).collect();
        options.server_selection_timeout = Some(FIRST_ANSWER);
        options.connect_timeout.get_or_insert(FIRST_ANSWER);
        let client = Client::with_options(options).map_err(|error| self.wrong(error))?;
        let answer = client
            .database("admin")
            .run_command(doc! { "ping": 1 })
            .await;
        client.shutdown().immediate(true).await;
        answer
            .map(|_| ())
            .map_err(|error| DatabaseError::Unreachable {
                hosts: hosts.join(", "),
                source_name: self.source_name,
                reason: self.without_secret(told(&error)),
            })
    }

    fn wrong(&self, reason: impl std::fmt::Display) -> DatabaseError {
        DatabaseError::Uri {
            source_name: self.source_name,
            reason: self.without_secret(reason.to_string()),
        }
    }

    /// The text, unless it repeats a part of the connection string that could be a password.
    fn without_secret(&self, text: String) -> String {
        // Without an `@`, all of it may be a login whose host was forgotten.
        let whole = self.text.trim_start_matches("mongodb://");
        let login = whole.rsplit_once('@').map_or(whole, |(login, _)| login);
        let login = match login.len() < whole.len() || told_as_port(&text) {
            true => login,
            false => "",
        };
        let password = login
            .split_once(':')
            .map_or(login, |(_, password)| password);
        let mut pieces = password.split([':', '@', '/', '?', '%', '&', ',']);
        let repeats = pieces.any(|piece| !piece.is_empty() && text.contains(piece));
        if repeats {
            return "the connection string cannot be used as it is (what the driver says of it may hold the password, and is not shown); characters such as `@`, `:`, `/` and `%` in user names and passwords are written `%40`, `%3A`, `%2F` and `%25`".to_owned();
        }
        text
    }
}

/// Whether the driver complains of a port: it shows the text that stands in its place.
fn told_as_port(text: &str) -> bool {
    text.contains("invalid server address")
}

/// What stands under a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// An ordinary collection.
    Collection,
    /// A capped collection: its documents cannot change in length.
    Capped,
    /// A view: what is sealed is in the collection under it.
    View,
    /// A time series: its documents lie in buckets.
    TimeSeries,
    /// Nothing, so far.
    Missing,
}

impl Standing {
    /// The words for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Collection => "collection",
            Self::Capped => "capped collection",
            Self::View => "view",
            Self::TimeSeries => "time series",
            Self::Missing => "missing",
        }
    }
}

/// A namespace that the schema seals fields of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// `database.collection`.
    pub namespace: String,
    /// What stands there.
    pub standing: Standing,
    /// The options that it was made with: `validator`, `collation`…
    pub options: Document,
}

impl Listed {
    /// The name of its database.
    pub fn database(&self) -> &str {
        self.namespace.split_once('.').map_or("", |(name, _)| name)
    }

    /// Its name within the database.
    pub fn collection(&self) -> &str {
        self.namespace.split_once('.').map_or("", |(_, name)| name)
    }
}

/// The namespaces of `wanted`; without any, all that the schema names, and the existing ones
/// that its patterns match. Sorted by name.
pub async fn sealed_namespaces(
    client: &Client,
    policy: &Policy,
    wanted: &[String],
) -> Result<Vec<Listed>, DatabaseError> {
    let mut names: BTreeSet<String> = wanted.iter().cloned().collect();
    for namespace in &names {
        if namespace.contains('*') || policy.collection(namespace).is_none() {
            return Err(not_sealed(policy, namespace));
        }
    }
    let mut patterns = BTreeSet::new();
    if wanted.is_empty() {
        for rule in policy.sealed_in(None) {
            let set = match rule.namespace.contains('*') {
                true => &mut patterns,
                false => &mut names,
            };
            set.insert(rule.namespace.clone());
        }
    }
    let mut databases: BTreeSet<String> = names.iter().map(|name| database_of(name)).collect();
    if !patterns.is_empty() {
        databases.extend(existing_databases(client, policy).await?);
    }
    let mut listed = Vec::new();
    for database in databases {
        for found in collections(client, &database).await? {
            let matched = !patterns.is_empty() && policy.collection(&found.namespace).is_some();
            if names.remove(&found.namespace) || matched {
                listed.push(found);
            }
        }
    }
    listed.extend(names.into_iter().map(|namespace| Listed {
        namespace,
        standing: Standing::Missing,
        options: Document::new(),
    }));
    listed.sort_by(|one, other| one.namespace.cmp(&other.namespace));
    Ok(listed)
}

fn not_sealed(policy: &Policy, namespace: &str) -> DatabaseError {
    let mut named: Vec<&str> = policy
        .sealed_in(None)
        .map(|rule| rule.namespace.as_str())
        .collect();
    if named.is_empty() {
        named.push("nothing");
    }
    DatabaseError::NotSealed {
        namespace: namespace.to_owned(),
        named: named.join(", "),
    }
}

fn database_of(namespace: &str) -> String {
    let (database, _) = namespace.split_once('.').unwrap_or((namespace, ""));
    database.to_owned()
}

async fn existing_databases(
    client: &Client,
    policy: &Policy,
) -> Result<Vec<String>, DatabaseError> {
    let names = client
        .list_database_names()
        .await
        .map_err(driver("list the databases"))?;
    Ok(names
        .into_iter()
        .filter(|name| policy.may_seal_in(name))
        .collect())
}

/// Every collection and view of a database, but those of MongoDB itself.
async fn collections(client: &Client, database: &str) -> Result<Vec<Listed>, DatabaseError> {
    let what = || format!("list the collections of {database}");
    let mut cursor = client
        .database(database)
        .run_cursor_command(doc! { "listCollections": 1 })
        .await
        .map_err(driver(what()))?;
    let mut found = Vec::new();
    while cursor.advance().await.map_err(driver(what()))? {
        let entry: Document = cursor.deserialize_current().map_err(driver(what()))?;
        let name = entry.get_str("name").unwrap_or_default();
        if !name.starts_with("system.") {
            found.push(listed(database, name, &entry));
        }
    }
    Ok(found)
}

fn listed(database: &str, name: &str, entry: &Document) -> Listed {
    let options = entry.get_document("options").cloned().unwrap_or_default();
    let standing = match entry.get_str("type").unwrap_or_default() {
        "view" => Standing::View,
        "timeseries" => Standing::TimeSeries,
        _ if options.get_bool("capped").unwrap_or_default() => Standing::Capped,
        _ => Standing::Collection,
    };
    Listed {
        namespace: format!("{database}.{name}"),
        standing,
        options,
    }
}

/// Says what was being done when the driver failed.
pub fn driver(what: impl Into<String>) -> impl FnOnce(Error) -> DatabaseError {
    let what = what.into();
    move |error| DatabaseError::Driver {
        what,
        error: Box::new(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    fn refused(uri: &str) -> String {
        let uri = Uri::new(uri, "--uri");
        let proxies = ["127.0.0.1:27117".to_owned()];
        runtime()
            .block_on(uri.connect(&proxies))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_wrong_connection_string_is_told_without_its_password() {
        for uri in [
            "mongodb://ada:sesame/open@host:1/",
            "mongodb://ada:sesame@",
            "mongodb://ada:sesame@host:sesame/",
            "mongodb://ada:sesame@host/?tls=sesame",
            "mongodb://ada:p@sesame@host/",
            "mongodb://ada:%sesame@host/",
            "ada:sesame@host",
            "mongodb://ada:sesame",
            "mongodb://ada:sesame/shop",
            "mongodb://ada:sesame,host:1/",
            "mongodb+srv://ada:sesame@host/",
        ] {
            let told = refused(uri);
            assert!(told.starts_with("--uri: "), "{told}");
            assert!(!told.contains("sesame"), "{uri}: {told}");
        }
    }

    #[test]
    fn the_proxy_itself_is_refused() {
        let told = refused("mongodb://127.0.0.1:27117/");
        assert!(told.contains("this configuration's proxy"), "{told}");
    }

    #[test]
    fn what_stands_under_a_name_is_told_apart() {
        let standing = |entry: Document| listed("shop", "x", &entry).standing;
        for (entry, expected) in [
            (doc! {"type": "collection", "options": {}}, "collection"),
            (
                doc! {"type": "collection", "options": {"capped": true}},
                "capped collection",
            ),
            (doc! {"type": "view", "options": {"viewOn": "y"}}, "view"),
            (doc! {"type": "timeseries", "options": {}}, "time series"),
        ] {
            assert_eq!(standing(entry).word(), expected);
        }
        let listed = listed("shop", "a.b", &doc! {"type": "collection"});
        assert_eq!((listed.database(), listed.collection()), ("shop", "a.b"));
    }
}
