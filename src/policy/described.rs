//! What operators are shown of schema and keys. Never a secret.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Policy, PolicyError};
use crate::keyring::{KeyId, KeyVersion, State, Suite};
use crate::schema::Schema;

/// A version, or an index epoch, of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionState {
    /// The name of the key.
    pub key: String,
    /// Whether it is an index epoch.
    pub is_epoch: bool,
    /// Its number.
    pub number: u32,
    /// What may be done with it.
    pub state: State,
    /// What it seals with; epochs have none.
    pub suite: Option<Suite>,
    /// How long ago it was made, if its date can be read.
    pub age: Option<Duration>,
}

impl Policy {
    /// What is sealed.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Every version and index epoch of every key, in the order of the key file.
    pub fn version_states(&self, now: SystemTime) -> Vec<VersionState> {
        let mut states = Vec::new();
        for key in &self.keyring.keys {
            let mut note = |version: &KeyVersion, is_epoch: bool| {
                states.push(VersionState {
                    key: key.name.clone(),
                    is_epoch,
                    number: version.number,
                    state: version.state,
                    suite: (!is_epoch).then(|| version.suite.unwrap_or_default()),
                    age: version.age(now),
                });
            };
            key.versions.iter().for_each(|version| note(version, false));
            key.epochs.iter().for_each(|epoch| note(epoch, true));
        }
        states
    }

    /// The key, number and state of the version that sealed values name `id`.
    pub fn version_of(&self, id: KeyId) -> Option<(&str, u32, State)> {
        let (key, version) = self.keyring.version(id)?;
        Some((&key.name, version.number, version.state))
    }

    /// The same policy with counts of its own: what is opened to count what is stored is
    /// none of what clients read.
    pub fn apart(&self) -> Result<Self, PolicyError> {
        Self::counting(
            Arc::clone(&self.schema),
            Arc::clone(&self.keyring),
            Arc::clone(&self.access),
            Arc::default(),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::fixture;
    use super::*;

    #[test]
    fn what_is_described_holds_every_version_and_no_material() {
        let policy = fixture::policy();
        let states = policy.version_states(SystemTime::now());
        assert!(states.iter().any(|state| state.is_epoch));
        assert!(
            states
                .iter()
                .any(|state| !state.is_epoch && state.suite.is_some())
        );
        assert!(!format!("{states:?}").contains("Material"));
    }

    #[test]
    fn what_is_sealed_and_opened_apart_is_not_counted() {
        let policy = fixture::policy();
        let apart = policy.apart().unwrap();
        let collection = apart.collection("shop.customers").unwrap();
        collection.field(0).seal(0x08, &[1], &mut Vec::new());
        let seals = |policy: &Policy| -> u64 {
            let uses = policy.uses(SystemTime::now());
            uses.iter().map(|used| used.seals).sum()
        };
        assert_eq!((seals(&apart), seals(&policy)), (1, 0));
    }
}
