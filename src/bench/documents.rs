//! The documents that are written and read: the user's own, or made up after the schema.

mod dice;
mod disguise;
mod made_up;
mod paths;

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use bson::spec::BinarySubtype;
use bson::{Bson, Document};
use serde_json::Value;

use crate::seal::{MAGIC, SUBTYPE};

pub use disguise::Disguise;
pub use made_up::made_up;
pub use paths::{leads_to, values_at, with_names};

/// How many documents there are at most.
pub const MOST: usize = 1000;
/// How many bytes they have at most, together.
const MOST_BYTES: usize = 32 << 20;
/// How many bytes a file of documents may have.
const MOST_FILE_BYTES: u64 = 256 << 20;

/// Why there are no documents. None of these shows a value.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too long.
    #[error("{}: is longer than {} MiB; {MOST} documents of it are enough", file.display(), MOST_FILE_BYTES >> 20)]
    TooLong {
        /// The file.
        file: PathBuf,
    },
    /// The file holds something else than JSON.
    #[error("{}:{line}: is no JSON (column {column}); it has to hold documents in MongoDB Extended JSON, in one array or one after the other", file.display())]
    NotJson {
        /// The file.
        file: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// The column, from 1 on.
        column: usize,
    },
    /// No document of MongoDB's is like that.
    #[error("{}:{line}: is nested too deeply; MongoDB takes 100 levels", file.display())]
    TooDeep {
        /// The file.
        file: PathBuf,
        /// The line, from 1 on.
        line: usize,
    },
    /// Something else stands where a document should.
    #[error("{place}: is no document")]
    NotDocument {
        /// Which: `orders.json: document 3`.
        place: String,
    },
    /// A value is not what Extended JSON says it is.
    #[error("{place}: `{path}` is no valid MongoDB Extended JSON")]
    NotExtended {
        /// Which: `orders.json: document 3`.
        place: String,
        /// Where in it.
        path: String,
    },
    /// MongoDB has no such document.
    #[error(
        "{place}: MongoDB cannot hold it: names must not hold a NUL character, and a document has at most 16 MiB"
    )]
    NotStorable {
        /// Which: `orders.json: document 3`.
        place: String,
    },
    /// There are none.
    #[error("{place}: holds no documents")]
    None {
        /// The file or collection.
        place: String,
    },
    /// They were sealed before.
    #[error(
        "{place}: `{path}` is sealed already, so that it would be sealed twice; take the sample through the proxy (--uri with the proxy's address), or write documents in plain to a file (--docs)"
    )]
    Sealed {
        /// Which: `document 3`.
        place: String,
        /// Where in it.
        path: String,
    },
}

/// Documents for a bench: each can be stored, none is sealed, none has an `_id`.
#[derive(Debug, Clone)]
pub struct Documents {
    /// The documents; at least one.
    pub all: Vec<Document>,
    /// Whether there were more than are used.
    pub cut: bool,
    /// The size of one as BSON, on average.
    pub bytes: f64,
    /// The size of the largest.
    pub largest: usize,
}

impl Documents {
    /// Checks `found`, which came from `place`.
    pub fn checked(found: Vec<Document>, place: &str) -> Result<Self, DocumentsError> {
        let (mut all, mut total, mut largest) = (Vec::new(), 0, 0);
        let count = found.len();
        for (index, mut document) in found.into_iter().take(MOST).enumerate() {
            let place = format!("{place}: document {}", index + 1);
            // The server gives each copy one of its own.
            document.remove("_id");
            let size = match bson::serialize_to_vec(&document) {
                Ok(bytes) if bytes.len() <= 16 << 20 => bytes.len(),
                _ => return Err(DocumentsError::NotStorable { place }),
            };
            if let Some(path) = sealed_at(&document) {
                return Err(DocumentsError::Sealed { place, path });
            }
            if total + size > MOST_BYTES && !all.is_empty() {
                break;
            }
            total += size;
            largest = largest.max(size);
            all.push(document);
        }
        if all.is_empty() {
            let place = place.to_owned();
            return Err(DocumentsError::None { place });
        }
        Ok(Self {
            cut: all.len() < count,
            bytes: total as f64 / all.len() as f64,
            largest,
            all,
        })
    }

    /// The documents of a file: one array, or one document after the other.
    pub fn read(file: &Path) -> Result<Self, DocumentsError> {
        let unreadable = |source| DocumentsError::Unreadable {
            file: file.to_owned(),
            source,
        };
        let open = File::open(file).map_err(unreadable)?;
        if open.metadata().map_err(unreadable)?.len() > MOST_FILE_BYTES {
            let file = file.to_owned();
            return Err(DocumentsError::TooLong { file });
        }
        let text = BufReader::new(open.take(MOST_FILE_BYTES));
        let mut found = Vec::new();
        let place = file.display().to_string();
        let mut add = |value: Value| {
            let place = format!("{place}: document {}", found.len() + 1);
            found.push(document(value, place)?);
            Ok(())
        };
        for value in serde_json::Deserializer::from_reader(text).into_iter::<Value>() {
            match value {
                Ok(Value::Array(values)) => values.into_iter().try_for_each(&mut add)?,
                Ok(value) => add(value)?,
                Err(error) if error.is_io() => return Err(unreadable(error.into())),
                Err(error) if error.to_string().starts_with("recursion limit") => {
                    return Err(DocumentsError::TooDeep {
                        file: file.to_owned(),
                        line: error.line(),
                    });
                }
                // What it says of the text may repeat it.
                Err(error) => {
                    return Err(DocumentsError::NotJson {
                        file: file.to_owned(),
                        line: error.line(),
                        column: error.column(),
                    });
                }
            }
        }
        Self::checked(found, &place)
    }
}

fn document(value: Value, place: String) -> Result<Document, DocumentsError> {
    if !value.is_object() {
        return Err(DocumentsError::NotDocument { place });
    }
    match Bson::try_from(value.clone()) {
        Ok(Bson::Document(document)) => Ok(document),
        // Such as `{"$oid": "…"}`.
        Ok(_) => Err(DocumentsError::NotDocument { place }),
        Err(_) => {
            let mut path = String::new();
            fault_path(&value, &mut path);
            Err(DocumentsError::NotExtended { place, path })
        }
    }
}

/// Where the innermost value is that is wrong in itself.
fn fault_path(value: &Value, path: &mut String) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Value::Array(values) => {
            let numbers = (0..values.len()).map(|number| number.to_string());
            numbers.zip(values).collect()
        }
        _ => return,
    };
    for (key, value) in inner {
        // What begins with a dollar is a part of a value's notation.
        if !key.starts_with('$') && Bson::try_from(value.clone()).is_err() {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&key);
            return fault_path(value, path);
        }
    }
}

/// Where the first sealed value is.
fn sealed_at(document: &Document) -> Option<String> {
    let mut fields = document.iter();
    fields.find_map(|(key, value)| Some(join(key, sealed_in(value)?)))
}

fn sealed_in(value: &Bson) -> Option<String> {
    match value {
        Bson::Document(document) => sealed_at(document),
        Bson::Array(values) => values.iter().find_map(sealed_in),
        value => is_sealed(value).then(String::new),
    }
}

fn join(key: &str, below: String) -> String {
    match below.is_empty() {
        true => key.to_owned(),
        false => format!("{key}.{below}"),
    }
}

/// Whether it is a sealed value, without tokens.
pub fn is_sealed(value: &Bson) -> bool {
    match value {
        Bson::Binary(binary) => {
            binary.subtype == BinarySubtype::from(SUBTYPE) && binary.bytes.starts_with(&MAGIC)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::doc;

    use super::*;

    fn read(text: &str) -> Result<Documents, DocumentsError> {
        let file = std::env::temp_dir().join(format!(
            "fieldseal-documents-{:016x}.json",
            rand::random::<u64>()
        ));
        std::fs::write(&file, text).unwrap();
        let read = Documents::read(&file);
        std::fs::remove_file(file).unwrap();
        read
    }

    #[test]
    fn an_array_and_lines_of_extended_json_are_the_same_documents() {
        let one = r#"{"_id": {"$oid": "5f5f5f5f5f5f5f5f5f5f5f5f"}, "n": {"$numberLong": "7"}, "at": {"$date": "2024-01-01T00:00:00Z"}}"#;
        let other = r#"{"n": 7, "at": {"$date": {"$numberLong": "1704067200000"}}, "s": "x"}"#;
        let at = bson::DateTime::from_millis(1_704_067_200_000);
        let expected = [
            doc! {"n": 7_i64, "at": at},
            doc! {"n": 7, "at": at, "s": "x"},
        ];
        for text in [
            format!("[{one},\n{other}]"),
            format!("{one}\n{other}\n"),
            format!("{one}{other}"),
        ] {
            let documents = read(&text).unwrap();
            assert_eq!(documents.all, expected);
            assert!(!documents.cut && documents.bytes > 20.0);
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place_and_never_by_its_value() {
        for (text, told) in [
            ("[{\"a\": 1},\n {\"a\": canary}]", ":2: is no JSON"),
            ("{\"a\": 1} \"canary\"", "document 2: is no document"),
            (
                "{\"$oid\": \"5f5f5f5f5f5f5f5f5f5f5f5f\"}",
                "document 1: is no document",
            ),
            (
                "{\"a\": {\"b\": [1, {\"$oid\": \"canary\"}]}}",
                "document 1: `a.b.1` is no valid MongoDB Extended JSON",
            ),
            (
                "{\"a\\u0000canary\": 1}",
                "document 1: MongoDB cannot hold it",
            ),
            ("[]", "holds no documents"),
            ("", "holds no documents"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("canary"), "{error}");
        }
        let deep = format!("{{\"canary\": {}1", "[".repeat(200));
        let error = read(&deep).unwrap_err().to_string();
        assert!(
            error.contains(":1: is nested too deeply") && !error.contains("canary"),
            "{error}"
        );
        let missing = Documents::read(Path::new("/nowhere.json")).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("/nowhere.json: cannot be read")
        );
    }

    #[test]
    fn what_is_sealed_already_is_refused() {
        let sealed = bson::Binary {
            subtype: BinarySubtype::from(SUBTYPE),
            bytes: [&MAGIC[..], &[1; 60]].concat(),
        };
        let stored = doc! {"n": 1, "a": [{"b": {"c": sealed, "e1": 1}}]};
        let error = Documents::checked(vec![doc! {}, stored], "shop.people").unwrap_err();
        let told = error.to_string();
        assert!(
            told.starts_with("shop.people: document 2: `a.b.c` is sealed"),
            "{told}"
        );
        let other = bson::Binary {
            subtype: BinarySubtype::from(SUBTYPE),
            bytes: vec![1; 60],
        };
        Documents::checked(vec![doc! {"a": other}], "shop.people").unwrap();
    }

    #[test]
    fn more_than_are_needed_are_cut_off() {
        let documents = Documents::checked(vec![doc! {"a": 1}; MOST + 1], "x").unwrap();
        assert_eq!((documents.all.len(), documents.cut), (MOST, true));
        let large = vec![doc! {"a": "x".repeat(10 << 20)}; 5];
        let documents = Documents::checked(large, "x").unwrap();
        assert_eq!((documents.all.len(), documents.cut), (3, true));
    }
}
