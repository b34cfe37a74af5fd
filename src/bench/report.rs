//! What a bench found out: the whole of it, as JSON keeps it and the page shows it.

use serde::{Deserialize, Serialize};

use super::spread::Spread;

/// The form of the JSON. Grows when a reader of an older one would go wrong.
pub const FORMAT: u32 = 1;

/// What was measured of one schema on one machine. Holds names of fields, never values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Where and how it was measured.
    pub about: About,
    /// What was compared; the first is without the proxy.
    pub settings: Vec<Setting>,
    /// Each setting with each operation and number of connections that it was measured with.
    pub measurements: Vec<Measurement>,
    /// What each sealed field gains and costs.
    pub fields: Vec<Field>,
    /// What a reader should know besides: what was left out, and why.
    pub notes: Vec<String>,
}

/// Where and how it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// When it began, in UTC: `2026-01-31T12:00:00Z`.
    pub when: String,
    /// The version of the proxy.
    pub fieldseal: String,
    /// The version of MongoDB.
    pub mongodb: String,
    /// Whether MongoDB was started for it, on the same machine.
    pub embedded: bool,
    /// The processor, as the system names it.
    pub processor: String,
    /// How many cores there are for all: client, proxy and, if embedded, MongoDB.
    pub cores: usize,
    /// How many rounds were measured.
    pub rounds: usize,
    /// How long each setting had in each round, in seconds.
    pub seconds: f64,
    /// Where the documents come from.
    pub documents: Documents,
}

/// The documents that were written and read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Documents {
    /// The collection: `shop.customers`.
    pub namespace: String,
    /// Where they come from.
    pub source: Source,
    /// How many different ones.
    pub count: usize,
    /// The average size of one, in bytes of BSON, before anything is sealed.
    pub bytes: f64,
}

/// Where documents come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Made up, after the schema.
    MadeUp,
    /// A file of the user's.
    File,
    /// A sample of a collection.
    Sample,
}

/// One way to go: without the proxy, or through it with a configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Short and unique: `all fields`.
    pub name: String,
    /// What it is about.
    pub group: Group,
    /// The setting that it is compared with, by its place; none for the first.
    pub against: Option<usize>,
    /// What it is, in a sentence.
    pub says: String,
}

/// What a setting is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Without the proxy.
    Direct,
    /// Through the proxy, with nothing sealed.
    Relay,
    /// One field sealed, by its place in the report's fields.
    Field(usize),
    /// All fields sealed, as the schema says.
    All,
    /// All fields sealed, none with a token.
    Tokens,
    /// All fields sealed with the other cipher suite.
    Suite,
    /// All fields sealed, and TLS on one side or both.
    Tls,
    /// All fields sealed, by a Unix socket on one side or both.
    Socket,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// One document by its `_id`.
    Read,
    /// One document inserted.
    Write,
    /// Many documents inserted with one command.
    BatchWrite,
    /// Many documents read with one command.
    BatchRead,
    /// One document by a sealed field with a token and an index.
    EqualityQuery,
}

/// One setting, one operation, one number of connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The setting, by its place.
    pub setting: usize,
    /// What was done.
    pub operation: Operation,
    /// How many documents each command wrote or read.
    pub documents: usize,
    /// How many connections there were, each with one command under way.
    pub connections: usize,
    /// Half of the commands took less, in microseconds.
    pub p50: Spread,
    /// One in a hundred took longer, in microseconds.
    pub p99: Spread,
    /// Commands in a second.
    pub throughput: Spread,
    /// CPU time of the proxy for each command, in microseconds; none without a proxy.
    pub cpu: Option<Spread>,
    /// CPU time of MongoDB for each command, in microseconds; none if it is not of this machine.
    pub cpu_mongodb: Option<Spread>,
    /// The 50th percentile to that of the setting it is compared with, round by round.
    pub p50_ratio: Option<Spread>,
    /// The throughput, likewise.
    pub throughput_ratio: Option<Spread>,
    /// The CPU time of the proxy above that of the setting it is compared with, for each document, in microseconds.
    pub cpu_added: Option<Spread>,
}

/// A sealed field: what it gains, what it costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// The collection, as the schema names it.
    pub collection: String,
    /// The path, as the schema names it.
    pub path: String,
    /// The type that the schema gives it; none for any.
    pub kind: Option<String>,
    /// What can be asked of it: `equality`; none if it is only stored.
    pub queries: Vec<String>,
    /// In how many of 100 documents it was.
    pub present: f64,
    /// What sealing it keeps from whoever has the database, in a sentence.
    pub protects: String,
    /// What the server can still see of it, each in a sentence.
    pub visible: Vec<String>,
    /// Bytes that it adds to a document, on average.
    pub bytes_added: f64,
    /// Microseconds of the proxy's CPU time that it adds to a document that is written.
    pub write_added: Option<Spread>,
    /// Microseconds that it adds to a document that is read.
    pub read_added: Option<Spread>,
    /// The throughput of writes with it alone, to that with nothing sealed.
    pub write_throughput: Option<Spread>,
    /// The throughput of reads with it alone, to that with nothing sealed.
    pub read_throughput: Option<Spread>,
}
