//! Files that people write: read whole, with the line of every key, and every
//! mistake reported at once with the nearest known word.
//!
//! The schema file and `fieldseal.toml` are both read through this module.

mod parse;
mod reader;

use std::fmt;
use std::path::Path;

pub(crate) use parse::parse;
pub(crate) use reader::{Keys, Place, Reader, Table};

/// More than any schema or configuration needs; a larger file is not read.
const MAX_BYTES: u64 = 16 << 20;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// TOML 1.0.
    Toml,
    /// JSON, without comments.
    Json,
    /// YAML 1.1, one document.
    Yaml,
}

impl Format {
    /// The format that the ending of `path` tells.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// One mistake in a file, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file's name, as it was given.
    pub file: String,
    /// Counted from 1, where it can be told.
    pub line: Option<usize>,
    /// The path inside the file, such as `routes[0].listen`; empty for the file itself.
    pub path: String,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Mistake {
    /// A mistake of the file as a whole.
    pub fn of_file(file: &str, what: impl fmt::Display) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            path: String::new(),
            what: what.to_string(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.what)
    }
}

/// All mistakes that were found; displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// A value of a file, and the line it begins on.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) line: Option<usize>,
}

/// What TOML, JSON and YAML have in common.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Text(String),
    /// A value that no key of ours takes, by the name of its type.
    Other(&'static str),
    List(Vec<Node>),
    /// In the order of the file; no key twice.
    Table(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: Option<usize>,
    pub(crate) node: Node,
}

impl Value {
    /// What the value is, for messages that must not show it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Text(_) => "a string",
            Self::Other(kind) => kind,
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Reads a text file of bounded size.
pub(crate) fn read(path: &Path) -> Result<String, Mistake> {
    use std::io::Read;

    let name = path.display().to_string();
    let refuse = |what: String| Mistake::of_file(&name, what);
    let file =
        std::fs::File::open(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let mut text = String::new();
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_BYTES) {
        Ok(text)
    } else {
        Err(refuse(format!("is larger than {} MiB", MAX_BYTES >> 20)))
    }
}

/// The word of `known` that `word` was probably meant to be.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(word.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_the_one_that_was_meant_or_none() {
        let known = ["string", "int", "bool", "binData", "objectId"];
        assert_eq!(nearest("strng", known), Some("string"));
        assert_eq!(nearest("ObjectID", known), Some("objectId"));
        assert_eq!(nearest("bindata", known), Some("binData"));
        assert_eq!(nearest("boolean", ["double", "bool"]), None);
        assert_eq!(nearest("quantum", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn a_mistake_says_file_line_path_and_what() {
        let mistake = Mistake {
            file: "a.toml".into(),
            line: Some(3),
            path: "x.y".into(),
            what: "is wrong".into(),
        };
        assert_eq!(mistake.to_string(), "a.toml:3: x.y: is wrong");
        let both = Mistakes(vec![mistake, Mistake::of_file("b.toml", "is empty")]);
        assert_eq!(
            both.to_string(),
            "a.toml:3: x.y: is wrong\nb.toml: is empty"
        );
    }
}
