//! TOML, JSON and YAML into [`Node`]s; a key that stands twice is an error in each.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::io::Read;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Entry, Format, Mistake, Node, Value};

/// Parses a whole file; an empty one is an empty table.
pub(crate) fn parse(text: &str, format: Format, file: &str) -> Result<Node, Mistake> {
    let parsed = match format {
        Format::Toml => parse_toml(text),
        Format::Json => parse_json(text),
        Format::Yaml => parse_yaml(text),
    };
    let mut node = parsed.map_err(|(line, what)| Mistake {
        file: file.to_owned(),
        line,
        path: String::new(),
        what,
    })?;
    if matches!(node.value, Value::Null) {
        node.value = Value::Table(Vec::new());
    }
    Ok(node)
}

type Parsed = Result<Node, (Option<usize>, String)>;

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + memchr::memchr_iter(b'\n', before).count()
}

fn parse_toml(text: &str) -> Parsed {
    match DeTable::parse(text) {
        Ok(table) => Ok(Node {
            line: Some(1),
            value: toml_table(text, table.into_inner()),
        }),
        Err(error) => {
            let line = error.span().map(|span| line_at(text, span.start));
            Err((
                line,
                format!("is not valid TOML: {}", one_line(error.message())),
            ))
        }
    }
}

fn toml_table(text: &str, table: DeTable<'_>) -> Value {
    let entry = |(key, value): (Spanned<Cow<'_, str>>, Spanned<DeValue<'_>>)| Entry {
        line: Some(line_at(text, key.span().start)),
        key: key.into_inner().into_owned(),
        node: toml_node(text, value),
    };
    Value::Table(table.into_iter().map(entry).collect())
}

fn toml_node(text: &str, value: Spanned<DeValue<'_>>) -> Node {
    let line = Some(line_at(text, value.span().start));
    let value = match value.into_inner() {
        DeValue::String(string) => Value::Text(string.into_owned()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Value::Other("an integer out of range"), Value::Integer),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(list) => Value::List(
            list.into_iter()
                .map(|value| toml_node(text, value))
                .collect(),
        ),
        DeValue::Table(table) => toml_table(text, table),
    };
    Node { value, line }
}

/// Counts the lines that `serde_json` has taken, byte by byte.
struct Counted<'t> {
    rest: &'t [u8],
    line: &'t Cell<usize>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let taken = self.rest.read(buffer)?;
        let lines = memchr::memchr_iter(b'\n', buffer.get(..taken).unwrap_or_default()).count();
        self.line.set(self.line.get() + lines);
        Ok(taken)
    }
}

fn parse_json(text: &str) -> Parsed {
    let line = Cell::new(1);
    let mut json = serde_json::Deserializer::from_reader(Counted {
        rest: text.as_bytes(),
        line: &line,
    });
    let place = |_: &str| Some(line.get());
    NodeSeed(&place)
        .deserialize(&mut json)
        .and_then(|node| json.end().map(|()| node))
        .map_err(|error| {
            let message = error.to_string();
            // The position is said once, in our own way.
            let what = message.split(" at line ").next().unwrap_or(&message);
            (
                Some(error.line()),
                format!("is not valid JSON: {}", one_line(what)),
            )
        })
}

fn parse_yaml(text: &str) -> Parsed {
    let from = Cell::new(0);
    // The parser tells no positions. Keys come in the order of the text, so
    // each is looked for after the one before.
    let place = |key: &str| {
        let found = find_yaml_key(text, from.get(), key)?;
        from.set(found + key.len());
        Some(line_at(text, found))
    };
    NodeSeed(&place)
        .deserialize(serde_yaml_ng::Deserializer::from_str(text))
        .map_err(|error| {
            let line = error.location().map(|location| location.line());
            let message = error.to_string();
            let what = message.split(" at line ").next().unwrap_or(&message);
            (line, format!("is not valid YAML: {}", one_line(what)))
        })
}

fn find_yaml_key(text: &str, from: usize, key: &str) -> Option<usize> {
    let tail = text.get(from..)?;
    tail.match_indices(key).map(|(at, _)| from + at).find(|at| {
        let before = text.get(..*at).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        let lead = line.trim_end_matches(['"', '\'']).trim_end();
        let begins = lead.is_empty() || lead.ends_with(['{', ',', '-', '?']);
        let after = text.get(at + key.len()..).unwrap_or_default();
        let after = after
            .trim_start_matches(['"', '\''])
            .trim_start_matches(' ');
        begins && after.starts_with(':')
    })
}

/// Messages of parsers may span lines and hold a drawing of the place.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Tells the line of the key that was just read.
type LineOf<'l> = &'l dyn Fn(&str) -> Option<usize>;

#[derive(Clone, Copy)]
struct NodeSeed<'l>(LineOf<'l>);

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let value = deserializer.deserialize_any(self)?;
        Ok(Node { value, line: None })
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table, a list, a string, a number, a boolean or null")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Other("an integer out of range"), Value::Integer))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other("a fraction"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(self)? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let line = (self.0)(&key);
            if !seen.insert(key.clone()) {
                return Err(de::Error::custom(format_args!(
                    "the key {key:?} stands twice"
                )));
            }
            let mut node = map.next_value_seed(self)?;
            node.line = line;
            entries.push(Entry { key, line, node });
        }
        Ok(Value::Table(entries))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn lines(node: &Node, into: &mut Vec<(String, Option<usize>)>) {
        if let Value::Table(entries) = &node.value {
            for entry in entries {
                into.push((entry.key.clone(), entry.line));
                lines(&entry.node, into);
            }
        }
    }

    fn lines_of(text: &str, format: Format) -> Vec<(String, Option<usize>)> {
        let mut found = Vec::new();
        lines(&parse(text, format, "f").unwrap(), &mut found);
        found
    }

    #[test]
    fn every_key_knows_its_line_in_all_formats() {
        let expected = [("top", 1), ("a.b", 2), ("type", 2), ("c", 3), ("type", 4)]
            .map(|(key, line)| (key.to_owned(), Some(line)));
        let toml = "[top]\n\"a.b\" = { type = \"c\" }\n[top.c]\ntype = 1\n";
        assert_eq!(lines_of(toml, Format::Toml), expected);
        let json = "{\"top\": {\n\"a.b\": {\"type\": \"c\"},\n\"c\": {\n\"type\": 1}}}";
        assert_eq!(lines_of(json, Format::Json), expected);
        let yaml = "top:\n  \"a.b\": { type: c }\n  c:\n    type: 1\n";
        assert_eq!(lines_of(yaml, Format::Yaml), expected);
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error_with_its_line_in_all_formats() {
        for (format, text) in [
            (Format::Toml, "a = 1\nb = 2\na = 3\n"),
            (Format::Json, "{\"a\": 1,\n\"b\": 2,\n\"a\": 3}"),
            (Format::Yaml, "a: 1\nb: 2\na: 3\n"),
        ] {
            let mistake = parse(text, format, "f").unwrap_err();
            assert_eq!(mistake.file, "f");
            if format != Format::Yaml {
                assert_eq!(mistake.line, Some(3), "{mistake}");
            }
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_table() {
        for (format, text) in [(Format::Toml, ""), (Format::Json, "{}"), (Format::Yaml, "")] {
            let node = parse(text, format, "f").unwrap();
            assert!(matches!(node.value, Value::Table(entries) if entries.is_empty()));
        }
    }

    #[test]
    fn a_syntax_error_is_one_line() {
        for (format, text) in [
            (Format::Toml, "a = \n"),
            (Format::Toml, "[a\n"),
            (Format::Json, "{\"a\" 1}"),
            (Format::Json, "{} {}"),
            (Format::Yaml, "a: [1\n"),
            (Format::Yaml, "a: 1\n--- \nb: 2\n"),
        ] {
            let mistake = parse(text, format, "f").unwrap_err();
            assert!(!mistake.to_string().contains('\n'), "{mistake}");
            assert!(mistake.what.starts_with("is not valid"), "{mistake}");
        }
    }
}
