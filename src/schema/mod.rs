//! The schema file, and the field tree compiled from it.

mod tree;
mod types;

pub use tree::{NodeId, Step, Tree, TreeError};
pub use types::Types;

/// What is sealed, in every collection that the schema names.
#[derive(Debug, Default)]
pub struct Schema {
    /// The rules, in the order of the files.
    pub rules: Vec<CollectionRule>,
}

/// What is sealed in one collection, or in all that match a pattern.
#[derive(Debug)]
pub struct CollectionRule {
    /// `database.collection`; either part may hold `*`.
    pub pattern: String,
    /// Stands for the namespace in field ids and tokens, if given.
    pub identity: Option<String>,
    /// What a read does with a plain value where a sealed one belongs.
    pub on_plaintext: OnPlaintext,
    /// The sealed fields.
    pub fields: Vec<FieldRule>,
    /// The paths of `fields`; a leaf is an index into them.
    pub tree: Tree,
}

/// What a read does with a plain value where a sealed one belongs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnPlaintext {
    /// The read fails.
    #[default]
    Reject,
    /// The value is passed on: a migration is under way.
    Allow,
}

/// One sealed field.
#[derive(Debug, Clone)]
pub struct FieldRule {
    /// Dotted path; a component `*` stands for any field name.
    pub path: String,
    /// The BSON types that may be written.
    pub types: Types,
    /// Whether equality tokens are stored beside the ciphertext.
    pub equality: bool,
    /// Whether an array is sealed element by element (always so with `equality`).
    pub elements: bool,
    /// Fields of one domain share token keys.
    pub domain: Option<String>,
    /// Stands for the path in field ids and tokens, if given.
    pub identity: Option<String>,
    /// The name of the key in the keyring.
    pub key: String,
}

/// The name of the key that seals fields which name none.
pub const DEFAULT_KEY: &str = "default";
