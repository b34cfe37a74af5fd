//! The configuration file, and over it the environment.

use config::{FileFormat, ValueKind};

use crate::document::{self, Entry, Format, Mistake, Node, Value};

/// `FIELDSEAL__KEYRING__FILE` stands for `file` in `[keyring]`.
pub(super) const PREFIX: &str = "FIELDSEAL__";
const SEPARATOR: &str = "__";
/// Digits of a list's index; `config` fills the list up to there.
const INDEX_DIGITS: usize = 3;

/// The raw configuration: the file, and over it the environment.
pub(super) fn merge(
    text: &str,
    file: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Node, Mistake> {
    // Read twice: `config` merges, but only our own reading knows the lines.
    let lines = document::parse(text, Format::Toml, file)?;
    let failed = |error: config::ConfigError| {
        let what = error
            .to_string()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        Mistake::of_file(file, what)
    };
    let mut from_file = config::Config::builder()
        .add_source(config::File::from_str(text, FileFormat::Toml))
        .build()
        .map_err(failed)?;
    let mut overrides = Vec::new();
    for (name, value) in environment {
        if name.starts_with(PREFIX) {
            overrides.push((key_of(&name).unwrap_or_default(), value, name));
        }
    }
    overrides.sort();
    if overrides
        .iter()
        .any(|(key, ..)| key.starts_with("keyring.unseal"))
    {
        // One of several keys: what the environment says goes in place of the
        // file's, rather than beside it.
        remove(&mut from_file.cache, &["keyring", "unseal"]);
    }
    let mut builder = config::Config::builder().add_source(from_file);
    for (key, value, name) in overrides {
        builder = builder.set_override(key, value_of(&value)).map_err(|_| {
            Mistake::of_file(
                file,
                format_args!("the environment variable {name} names no key"),
            )
        })?;
    }
    let merged = builder.build().map_err(failed)?;
    Ok(node_of(merged.cache, Some(&lines)))
}

fn remove(value: &mut config::Value, path: &[&str]) {
    if let (ValueKind::Table(table), [first, rest @ ..]) = (&mut value.kind, path) {
        if rest.is_empty() {
            table.remove(*first);
        } else if let Some(inner) = table.get_mut(*first) {
            remove(inner, rest);
        }
    }
}

/// `FIELDSEAL__ROUTE__0__LISTEN` is `route[0].listen`.
fn key_of(name: &str) -> Option<String> {
    let mut key = String::new();
    for part in name.strip_prefix(PREFIX)?.split(SEPARATOR) {
        let part = part.to_lowercase();
        if part.is_empty() {
            return None;
        }
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !key.is_empty() {
            if part.len() > INDEX_DIGITS {
                return None;
            }
            key.push_str(&format!("[{part}]"));
        } else {
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(&part);
        }
    }
    Some(key)
}

/// What a variable holds: a list or table as TOML has it, a boolean, an integer, or else a string.
fn value_of(text: &str) -> config::Value {
    let kind = match text {
        "true" => ValueKind::Boolean(true),
        "false" => ValueKind::Boolean(false),
        _ => text
            .parse()
            .map_or_else(|_| ValueKind::String(text.to_owned()), ValueKind::I64),
    };
    if !text.starts_with(['[', '{']) {
        return config::Value::new(None, kind);
    }
    let parsed = config::Config::builder()
        .add_source(config::File::from_str(
            &format!("value = {text}"),
            FileFormat::Toml,
        ))
        .build()
        .and_then(|parsed| parsed.get::<config::Value>("value"));
    parsed.unwrap_or_else(|_| config::Value::new(None, kind))
}

/// The merged value, with the lines of the file where it has them.
fn node_of(value: config::Value, lines: Option<&Node>) -> Node {
    let value = match value.kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(value) => Value::Bool(value),
        ValueKind::I64(value) => Value::Integer(value),
        ValueKind::String(value) => Value::Text(value),
        ValueKind::Array(list) => Value::List(
            list.into_iter()
                .enumerate()
                .map(|(index, value)| {
                    let lines = lines.and_then(|node| match &node.value {
                        Value::List(nodes) => nodes.get(index),
                        _ => None,
                    });
                    node_of(value, lines)
                })
                .collect(),
        ),
        ValueKind::Table(table) => {
            let entry = |(key, value): (String, config::Value)| {
                let found = lines.and_then(|node| match &node.value {
                    Value::Table(entries) => entries.iter().find(|entry| entry.key == key),
                    _ => None,
                });
                Entry {
                    node: node_of(value, found.map(|entry| &entry.node)),
                    line: found.and_then(|entry| entry.line),
                    key,
                }
            };
            Value::Table(table.into_iter().map(entry).collect())
        }
        _ => Value::Other("a fraction"),
    };
    Node {
        value,
        line: lines.and_then(|node| node.line),
    }
}
