//! The schema file, and the field tree compiled from it.

mod access;
mod check;
mod field;
mod load;
mod namespace;
mod tree;
mod types;

use std::collections::HashMap;

pub use crate::document::{Format, Mistake, Mistakes as SchemaErrors};
pub use access::{AccessRule, Mask};
pub(crate) use load::files_of;
pub(crate) use namespace::database_matches;
pub(crate) use tree::is_position;
pub use tree::{NodeId, Step, Tree, TreeError};
pub use types::Types;

use crate::keyring::Suite;

/// What is sealed, in every collection that the schema names.
#[derive(Debug, Default)]
pub struct Schema {
    /// The rules, in the order of the files.
    pub rules: Vec<CollectionRule>,
    /// Where the rule of a namespace without `*` is in `rules`.
    exact: HashMap<String, usize>,
    /// Where the rules with `*` are in `rules`; no two of them match one namespace.
    patterns: Vec<usize>,
}

/// What is sealed in one collection, or in all that match a pattern.
#[derive(Debug)]
pub struct CollectionRule {
    /// `database.collection`; either part may hold `*`.
    pub pattern: String,
    /// Stands for the namespace in field ids and tokens, if given.
    pub identity: Option<String>,
    /// What becomes of plain values where sealed ones belong.
    pub on_plaintext: OnPlaintext,
    /// The sealed fields.
    pub fields: Vec<FieldRule>,
    /// The paths of `fields`; a leaf is an index into them.
    pub tree: Tree,
}

/// What becomes of plain values where sealed ones belong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnPlaintext {
    /// A read of one fails.
    #[default]
    Reject,
    /// They are passed on: a migration is under way.
    Allow,
    /// They are passed on, and what is written is stored plain: the way back out.
    Store,
}

impl OnPlaintext {
    /// Whether plain values stand beside sealed ones, so that tokens do not find all.
    pub fn is_expected(self) -> bool {
        self != Self::Reject
    }

    /// The word for it in the schema file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Allow => "allow",
            Self::Store => "store",
        }
    }
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
    /// What new values are sealed with, if the field says so; else it is the key version's.
    pub suite: Option<Suite>,
    /// Who may read and write it.
    pub access: AccessRule,
}

/// The name of the key that seals fields which name none.
pub const DEFAULT_KEY: &str = "default";

impl FieldRule {
    /// What the field is called in field ids and tokens.
    pub fn identity(&self) -> &str {
        self.identity.as_deref().unwrap_or(&self.path)
    }
}

impl CollectionRule {
    /// What the collection `namespace`, which this rule is for, is called in field ids and tokens.
    pub fn identity<'a>(&'a self, namespace: &'a str) -> &'a str {
        self.identity.as_deref().unwrap_or(namespace)
    }
}

impl Schema {
    /// Makes rules that were checked findable.
    pub fn from_rules(rules: Vec<CollectionRule>) -> Self {
        let mut exact = HashMap::new();
        let mut patterns = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            if namespace::is_pattern(&rule.pattern) {
                patterns.push(index);
            } else {
                exact.insert(rule.pattern.clone(), index);
            }
        }
        Self {
            rules,
            exact,
            patterns,
        }
    }

    /// The rule for the collection `namespace`: its own before one with `*`.
    pub fn rule(&self, namespace: &str) -> Option<&CollectionRule> {
        if let Some(index) = self.exact.get(namespace) {
            return self.rules.get(*index);
        }
        if self.patterns.is_empty() || namespace::is_reserved(namespace) {
            return None;
        }
        self.patterns
            .iter()
            .filter_map(|index| self.rules.get(*index))
            .find(|rule| namespace::matches(&rule.pattern, namespace))
    }

    /// Whether a collection of the database `database` may hold sealed fields.
    pub fn may_seal_in(&self, database: &str) -> bool {
        !namespace::is_reserved_database(database)
            && self
                .rules
                .iter()
                .any(|rule| namespace::database_matches(&rule.pattern, database))
    }

    /// Whether nothing is sealed anywhere.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The names of the keys that the schema needs, sorted.
    pub fn key_names(&self) -> std::collections::BTreeSet<&str> {
        self.rules
            .iter()
            .flat_map(|rule| &rule.fields)
            .map(|field| field.key.as_str())
            .collect()
    }
}
