//! What is in force of keys and schema, and what a reload changed of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Event;
use crate::keyring::{Keyring, State};
use crate::schema::Schema;

/// How many fields a line names at most.
const MOST_LISTED: usize = 500;

/// Which keys and fields are in force. Holds no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    generation: u64,
    /// By key, part and number.
    keys: BTreeMap<(String, &'static str, u32), State>,
    /// By namespace and path.
    fields: BTreeSet<(String, String)>,
    schema: String,
    configuration: String,
}

impl Standing {
    /// Of this schema and this keyring, from files with these digests.
    pub fn of(schema: &Schema, keyring: &Keyring, digests: [String; 2]) -> Self {
        let [configuration, schema_digest] = digests;
        let mut keys = BTreeMap::new();
        for key in &keyring.keys {
            for (part, all) in [("version", &key.versions), ("epoch", &key.epochs)] {
                for version in all {
                    keys.insert((key.name.clone(), part, version.number), version.state);
                }
            }
        }
        let fields = schema.rules.iter().flat_map(|rule| {
            let path =
                |field: &crate::schema::FieldRule| (rule.pattern.clone(), field.path.clone());
            rule.fields.iter().map(path)
        });
        Self {
            generation: keyring.generation,
            keys,
            fields: fields.collect(),
            schema: schema_digest,
            configuration,
        }
    }

    /// What a start line says of it.
    #[must_use]
    pub fn told(&self, event: Event) -> Event {
        event
            .with("generation", self.generation)
            .with("schema_sha256", self.schema.as_str())
            .with("configuration_sha256", self.configuration.as_str())
    }

    /// What is another than it was `before`.
    pub fn changes_since(&self, before: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        let all: BTreeSet<_> = before.keys.keys().chain(self.keys.keys()).collect();
        for at in all {
            let (from, to) = (before.keys.get(at), self.keys.get(at));
            if from != to {
                let (key, part, number) = at;
                events.push(
                    Event::new("key")
                        .with("key", key.as_str())
                        .with(part, *number)
                        .with("from", state(from))
                        .with("to", state(to))
                        .with("generation", self.generation),
                );
            }
        }
        if self.schema != before.schema || self.fields != before.fields {
            events.push(
                Event::new("schema")
                    .with("from", before.schema.as_str())
                    .with("to", self.schema.as_str())
                    .with("added", listed(self.fields.difference(&before.fields)))
                    .with("removed", listed(before.fields.difference(&self.fields))),
            );
        }
        if self.configuration != before.configuration {
            events.push(
                Event::new("configuration")
                    .with("from", before.configuration.as_str())
                    .with("to", self.configuration.as_str()),
            );
        }
        events
    }
}

fn state(state: Option<&State>) -> Value {
    state.map_or(Value::Null, |state| state.word().into())
}

fn listed<'f>(fields: impl Iterator<Item = &'f (String, String)>) -> Value {
    fields
        .take(MOST_LISTED)
        .map(|(namespace, field)| json!({"namespace": namespace, "field": field}))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::schema::Format;

    fn standing(schema: &str, keyring: &Keyring) -> Standing {
        let parsed = Schema::parse(schema, Format::Toml, "schema.toml").unwrap();
        Standing::of(
            &parsed,
            keyring,
            ["same".to_owned(), schema.len().to_string()],
        )
    }

    #[test]
    fn what_is_as_it_was_is_not_told() {
        let keyring = Keyring::generate(["default"]).unwrap();
        let one = standing("[collections.\"a.b\".fields]\nx = {}\n", &keyring);
        assert!(one.changes_since(&one.clone()).is_empty());
    }

    #[test]
    fn each_key_version_and_each_field_that_changed_is_told() {
        let mut keyring = Keyring::generate(["default"]).unwrap();
        let before = standing("[collections.\"a.b\".fields]\nx = {}\n", &keyring);
        keyring.rotate("default", None).unwrap();
        let after = standing("[collections.\"a.b\".fields]\ny = {}\nz = {}\n", &keyring);
        let events = after.changes_since(&before);
        let names: Vec<_> = events.iter().map(|event| event.name).collect();
        assert_eq!(names, ["key", "key", "schema"]);
        assert_eq!(events[0].fields["from"], "active");
        assert_eq!(events[0].fields["to"], "retired");
        assert_eq!(events[1].fields["from"], Value::Null);
        assert_eq!(events[1].fields["version"], 2);
        assert_eq!(events[2].fields["added"].as_array().unwrap().len(), 2);
        assert_eq!(events[2].fields["removed"][0]["field"], "x");
    }
}
