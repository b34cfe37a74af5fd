//! What is left to do, and the command that does it.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::table::printable;
use crate::keyring::{KeyId, KeyVersion, Keyring, NamedKey, State};
use crate::migrate::census::FieldCensus;
use crate::schema::OnPlaintext;

/// Something that is left to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Task {
    /// The collection, and the field, or the key.
    pub(in crate::cli) place: String,
    /// What was found.
    pub(in crate::cli) what: String,
    /// What is to be done about it.
    pub(in crate::cli) remedy: String,
}

impl Task {
    pub(in crate::cli) fn new(
        place: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// On one line. Names may hold anything: a terminal must not obey them.
    pub(in crate::cli) fn line(&self) -> String {
        printable(&format!("{}: {}: {}", self.place, self.what, self.remedy))
    }

    pub(in crate::cli) fn describe(&self) -> serde_json::Value {
        json!({ "place": self.place, "what": self.what, "remedy": self.remedy })
    }
}

/// A number of values, in words.
pub(in crate::cli) fn values(number: u64) -> String {
    format!("{number} value{}", if number == 1 { "" } else { "s" })
}

/// One field of one collection, as it was counted.
pub(in crate::cli) struct Counted<'c> {
    pub(in crate::cli) namespace: &'c str,
    pub(in crate::cli) on_plaintext: OnPlaintext,
    pub(in crate::cli) field: &'c FieldCensus,
    pub(in crate::cli) keyring: &'c Keyring,
}

impl Counted<'_> {
    /// What is left to do at the field.
    pub(in crate::cli) fn tasks(&self) -> Vec<Task> {
        let mut tasks = self.plaintext();
        tasks.extend(self.unreadable());
        if self.on_plaintext != OnPlaintext::Store {
            tasks.extend(self.older_versions());
            tasks.extend(self.tokens());
        }
        tasks
    }

    fn task(&self, what: impl Into<String>, remedy: impl Into<String>) -> Task {
        let place = format!("{} `{}`", self.namespace, self.field.field.path);
        Task::new(place, what, remedy)
    }

    fn plaintext(&self) -> Vec<Task> {
        let namespace = self.namespace;
        let plain = self.field.plain;
        let sealed = self.field.values();
        let task = match self.on_plaintext {
            OnPlaintext::Reject if plain > 0 => self.task(
                format!("{} in plain, which cannot be read", values(plain)),
                format!(
                    "set on_plaintext = \"allow\" in the schema, then `fieldseal migrate encrypt {namespace}`"
                ),
            ),
            OnPlaintext::Allow if plain > 0 => self.task(
                format!("{} in plain", values(plain)),
                format!("`fieldseal migrate encrypt {namespace}`"),
            ),
            OnPlaintext::Store if sealed > 0 => self.task(
                format!("{} still sealed", values(sealed)),
                format!("`fieldseal migrate decrypt {namespace}`"),
            ),
            _ => return Vec::new(),
        };
        vec![task]
    }

    /// What cannot be opened, whatever the reason.
    pub(in crate::cli) fn unreadable(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (id, number) in &self.field.sealed {
            tasks.extend(self.unreadable_version(*id, *number));
        }
        let damaged = self.field.damaged;
        if damaged > 0 {
            tasks.push(self.task(
                format!(
                    "{} damaged: altered, or of another keyring",
                    values(damaged)
                ),
                "set the field anew, or restore the documents",
            ));
        }
        let foreign: u64 = self.field.foreign.values().sum();
        if foreign > 0 {
            tasks.push(self.task(
                format!("{} sealed for another field or collection", values(foreign)),
                "`fieldseal check --against` says which",
            ));
        }
        tasks
    }

    fn unreadable_version(&self, id: KeyId, number: u64) -> Option<Task> {
        let sealed = values(number);
        let Some((key, version)) = self.keyring.version(id) else {
            return Some(self.task(
                format!(
                    "{sealed} under key id {}, which is not in the key file",
                    id.0
                ),
                "a key file that has it is needed",
            ));
        };
        let (name, version, state) = (&key.name, version.number, version.state);
        let what = format!(
            "{sealed} under {name} version {version}, which is {}",
            state.word()
        );
        match state {
            State::Disabled => Some(self.task(
                what,
                format!("`fieldseal keys enable {name} --version {version}` makes them readable"),
            )),
            State::Destroyed => Some(self.task(
                what,
                "they are lost, unless a copy of the key file has the version",
            )),
            State::Staged | State::Active | State::Retired => None,
        }
    }

    fn older_versions(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (id, number) in &self.field.sealed {
            let Some((key, version)) = self.keyring.version(*id) else {
                continue;
            };
            let sealed = values(*number);
            let name = &key.name;
            let what = format!(
                "{sealed} under {name} version {}, which is ",
                version.number
            );
            if version.state == State::Staged {
                tasks.push(self.task(
                    what + "staged here and active elsewhere",
                    format!("`fieldseal keys promote {name}`, or take up the newer key file"),
                ));
            } else if version.state == State::Retired {
                tasks.push(self.task(what + "retired", self.rotate()));
            } else if version.state == State::Active && *name != self.field.key {
                tasks.push(self.task(what + "not the field's key any more", self.rotate()));
            }
        }
        tasks
    }

    fn rotate(&self) -> String {
        format!("`fieldseal migrate rotate {}`", self.namespace)
    }

    /// How many values lack a token of an epoch.
    fn lacking(&self, epoch: &KeyVersion) -> u64 {
        let having = self.field.tokens.get(&epoch.number).copied();
        self.field
            .values()
            .saturating_sub(having.unwrap_or_default())
    }

    pub(in crate::cli) fn tokens(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        let reindex = || format!("`fieldseal migrate reindex {}`", self.namespace);
        let Some(key) = self.keyring.key(&self.field.key) else {
            return tasks;
        };
        if self.field.field.equality.is_none() {
            return tasks;
        }
        for epoch in written(key) {
            let lacking = self.lacking(epoch);
            if lacking > 0 && epoch.state != State::Retired {
                tasks.push(self.task(
                    format!(
                        "{} without a token of index epoch {}, which is {}",
                        values(lacking),
                        epoch.number,
                        epoch.state.word()
                    ),
                    reindex(),
                ));
            }
        }
        for (number, having) in &self.field.tokens {
            if written(key).any(|epoch| epoch.number == *number) {
                continue;
            }
            tasks.push(self.task(
                format!(
                    "{} with a token of index epoch {number}, which is {}",
                    values(*having),
                    state_of(key, *number)
                ),
                reindex(),
            ));
        }
        if self.field.wrong_tokens > 0 {
            tasks.push(self.task(
                format!(
                    "{} with a token that is not theirs, so that queries miss them",
                    values(self.field.wrong_tokens)
                ),
                "give the field the `domain` and `key` that it had in the schema, or set the values anew",
            ));
        }
        tasks
    }
}

/// The epochs whose tokens are written.
fn written(key: &NamedKey) -> impl Iterator<Item = &KeyVersion> {
    key.epochs.iter().filter(|epoch| epoch.state.opens())
}

/// The state of an epoch, in a word.
pub(super) fn state_of(key: &NamedKey, epoch: u32) -> &'static str {
    let found = key.epochs.iter().find(|known| known.number == epoch);
    found.map_or("not in the key file", |epoch| epoch.state.word())
}

/// What is left to do with the index epochs of keys, once all their fields were counted.
///
/// `lacking` says of each key and epoch how many values have no token of it.
pub(super) fn epochs(keyring: &Keyring, lacking: &BTreeMap<(String, u32), u64>) -> Vec<Task> {
    let mut tasks = Vec::new();
    for ((name, number), lacking) in lacking {
        let state = keyring.key(name).and_then(|key| {
            let epoch = key.epochs.iter().find(|epoch| epoch.number == *number)?;
            Some(epoch.state)
        });
        let place = format!("key {name}");
        match state {
            Some(State::Staged) if *lacking == 0 => tasks.push(Task::new(
                place,
                format!("index epoch {number} is staged, and every value has its token"),
                format!(
                    "`fieldseal migrate reindex --key {name}` for its indexes, then `fieldseal keys promote {name} --epoch`"
                ),
            )),
            Some(State::Retired) => tasks.push(Task::new(
                place,
                format!("index epoch {number} is retired, and its tokens are still written"),
                format!(
                    "`fieldseal migrate reindex --key {name}`, then `fieldseal keys disable {name} --epoch {number}`"
                ),
            )),
            _ => {}
        }
    }
    tasks
}

/// Adds how many values of a field lack a token of each epoch of its key.
pub(super) fn add_lacking(counted: &Counted<'_>, lacking: &mut BTreeMap<(String, u32), u64>) {
    let field = counted.field;
    if field.field.equality.is_none() {
        return;
    }
    let Some(key) = counted.keyring.key(&field.key) else {
        return;
    };
    for epoch in written(key) {
        let sum = lacking.entry((key.name.clone(), epoch.number));
        *sum.or_default() += counted.lacking(epoch);
    }
}

#[cfg(test)]
mod tests;
