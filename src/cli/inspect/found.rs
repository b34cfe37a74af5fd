//! What was read of a dump, beside the keyring: as a table and as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::super::table::table;
use crate::inspect::{Need, Needs, Place};
use crate::keyring::{KeyId, Keyring, State};

/// What a keyring knows of a key version.
struct Known<'k> {
    name: &'k str,
    number: u32,
    state: State,
}

/// What was read, beside the keyring.
pub(super) struct Found<'f> {
    pub(super) needs: &'f Needs,
    pub(super) keyring: Option<&'f Keyring>,
    /// Whether all was read.
    pub(super) complete: bool,
}

impl Found<'_> {
    fn known(&self, id: KeyId) -> Option<Known<'_>> {
        let (key, version) = self.keyring?.version(id)?;
        Some(Known {
            name: &key.name,
            number: version.number,
            state: version.state,
        })
    }

    /// The state of a version, or that it has none.
    fn state(&self, id: KeyId) -> &'static str {
        match self.known(id) {
            Some(known) => known.state.word(),
            None if self.keyring.is_some() => "missing",
            None => "unknown",
        }
    }

    /// Which versions are needed, for how many values.
    fn versions(&self) -> BTreeMap<KeyId, u64> {
        let mut versions = BTreeMap::new();
        for (_, place) in self.needs.places() {
            for (id, need) in &place.needs {
                *versions.entry(*id).or_default() += need.values;
            }
        }
        versions
    }

    fn cut_off(&self) -> u64 {
        let places = self.needs.places().into_iter();
        places.map(|(_, place)| place.cut_off).sum()
    }

    /// The index epochs that tokens are of and that queries do not use, by key.
    fn unused_epochs(&self) -> BTreeSet<(&str, u32, &'static str)> {
        let mut unused = BTreeSet::new();
        for (_, place) in self.needs.places() {
            for (id, need) in &place.needs {
                let Some((key, _)) = self.keyring.and_then(|keyring| keyring.version(*id)) else {
                    continue;
                };
                let active = key.active_epoch().map(|epoch| epoch.number);
                if active.is_none_or(|active| need.tokens.contains_key(&active)) {
                    continue;
                }
                for number in need.tokens.keys() {
                    let epoch = key.epochs.iter().find(|epoch| epoch.number == *number);
                    let state = epoch.map_or("missing", |epoch| epoch.state.word());
                    unused.insert((key.name.as_str(), *number, state));
                }
            }
        }
        unused
    }

    pub(super) fn show(&self) -> String {
        let mut text = String::new();
        let rows = self.rows();
        if !rows.is_empty() {
            let heading = [
                "namespace",
                "field",
                "key",
                "version",
                "state",
                "key id",
                "values",
                "tokens",
            ];
            text.push_str(&table(heading, &rows));
        }
        text.push_str(&self.summary());
        text
    }

    fn rows(&self) -> Vec<[String; 8]> {
        let mut rows = Vec::new();
        for (namespace, place) in self.needs.places() {
            for (id, need) in &place.needs {
                rows.push(self.row(namespace, place, *id, need));
            }
            if place.cut_off > 0 {
                rows.push([
                    namespace.to_owned(),
                    place.path.clone(),
                    "-".to_owned(),
                    "-".to_owned(),
                    "cut off".to_owned(),
                    "-".to_owned(),
                    place.cut_off.to_string(),
                    "-".to_owned(),
                ]);
            }
        }
        rows
    }

    fn row(&self, namespace: &str, place: &Place, id: KeyId, need: &Need) -> [String; 8] {
        let known = self.known(id);
        let dash = || "-".to_owned();
        [
            namespace.to_owned(),
            place.path.clone(),
            known
                .as_ref()
                .map_or_else(dash, |known| known.name.to_owned()),
            known.map_or_else(dash, |known| known.number.to_string()),
            self.state(id).to_owned(),
            id.0.to_string(),
            need.values.to_string(),
            tokens(need),
        ]
    }

    fn summary(&self) -> String {
        let count = |number: u64, what: &str| {
            format!("{number} {what}{}", if number == 1 { "" } else { "s" })
        };
        let versions = self.versions();
        let total = versions.values().sum::<u64>() + self.cut_off();
        let mut lines = vec![format!(
            "{}, {}: {}",
            count(self.needs.documents, "document"),
            count(
                u64::try_from(self.needs.collections()).unwrap_or(u64::MAX),
                "collection"
            ),
            if total == 0 {
                "nothing is sealed".to_owned()
            } else {
                count(total, "sealed value")
            }
        )];
        if !versions.is_empty() {
            lines.push(self.summary_of_versions(&versions));
        }
        for (id, values) in &versions {
            if let Some(line) = self.remark(*id, *values) {
                lines.push(line);
            }
        }
        for (key, number, state) in self.unused_epochs() {
            lines.push(format!(
                "{key}: tokens of index epoch {number} ({state}): what is restored is not found by equality until `fieldseal migrate reindex --key {key}` was run"
            ));
        }
        if self.cut_off() > 0 {
            lines.push(format!(
                "{} cut off: no key opens them",
                count(self.cut_off(), "sealed value")
            ));
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn summary_of_versions(&self, versions: &BTreeMap<KeyId, u64>) -> String {
        let number = versions.len();
        let plural = if number == 1 { "" } else { "s" };
        let Some(keyring) = self.keyring else {
            return format!("{number} key version{plural} needed");
        };
        let open = versions
            .keys()
            .filter(|id| self.known(**id).is_some_and(|known| known.state.opens()))
            .count();
        let generation = keyring.generation;
        if open == number {
            format!(
                "{number} key version{plural} needed; the key file (generation {generation}) opens all"
            )
        } else {
            format!(
                "{number} key version{plural} needed; the key file (generation {generation}) opens {open} of them"
            )
        }
    }

    /// What has to be done before values under a version can be opened.
    fn remark(&self, id: KeyId, values: u64) -> Option<String> {
        let keyring = self.keyring?;
        let Some(known) = self.known(id) else {
            let generation = keyring.generation;
            return Some(format!(
                "key id {}: not in this key file (generation {generation}); a key file that has it is needed to read {values} values",
                id.0
            ));
        };
        let (name, number) = (known.name, known.number);
        match known.state {
            State::Staged | State::Active | State::Retired => None,
            State::Disabled => Some(format!(
                "{name} version {number} is disabled: {values} values cannot be read until `fieldseal keys enable {name} --version {number}`"
            )),
            State::Destroyed => Some(format!(
                "{name} version {number} was destroyed: {values} values cannot be read with this key file"
            )),
        }
    }

    pub(super) fn describe(&self) -> serde_json::Value {
        let mut fields = Vec::new();
        for (namespace, place) in self.needs.places() {
            let field = place.field.map(|field| field.to_string());
            for (id, need) in &place.needs {
                let known = self.known(*id);
                fields.push(json!({
                    "namespace": namespace,
                    "field": place.path,
                    "field_id": field,
                    "key_id": id.0,
                    "key": known.as_ref().map(|known| known.name),
                    "version": known.as_ref().map(|known| known.number),
                    "state": self.state(*id),
                    "values": need.values,
                    "tokens": need.tokens.iter().map(|(epoch, tokens)| {
                        (epoch.to_string(), json!(tokens))
                    }).collect::<serde_json::Map<_, _>>(),
                }));
            }
            if place.cut_off > 0 {
                fields.push(json!({
                    "namespace": namespace,
                    "field": place.path,
                    "field_id": field,
                    "state": "cut off",
                    "values": place.cut_off,
                }));
            }
        }
        let versions: Vec<_> = self
            .versions()
            .iter()
            .map(|(id, values)| {
                let known = self.known(*id);
                json!({
                    "key_id": id.0,
                    "key": known.as_ref().map(|known| known.name),
                    "version": known.as_ref().map(|known| known.number),
                    "state": self.state(*id),
                    "values": values,
                })
            })
            .collect();
        json!({
            "complete": self.complete,
            "documents": self.needs.documents,
            "generation": self.keyring.map(|keyring| keyring.generation),
            "fields": fields,
            "versions": versions,
        })
    }
}

/// The index epochs of the tokens beside values.
fn tokens(need: &Need) -> String {
    if need.tokens.is_empty() {
        return "-".to_owned();
    }
    let names: Vec<String> = need
        .tokens
        .iter()
        .map(|(epoch, tokens)| {
            if *tokens == need.values {
                format!("e{epoch}")
            } else {
                format!("e{epoch} ({tokens})")
            }
        })
        .collect();
    names.join(", ")
}
