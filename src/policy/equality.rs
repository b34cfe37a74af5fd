//! The tokens of one field: those of the active index epoch, which queries use, and
//! those of others that are written beside them.

use std::sync::Arc;

use super::PolicyError;
use crate::keyring::{KeyVersion, NamedKey, State};
use crate::raw::{Writer, kind};
use crate::seal::{Domain, Token, TokenKey, token_name};

/// The tokens of one field.
///
/// Queries, indexes, joins and groups go by the active index epoch. A value is written
/// with the tokens of every epoch that is staged, active or retired: other proxies may
/// not have taken up yet that another one is active.
#[derive(Debug, Clone)]
pub struct Equality {
    /// Makes those of the active epoch.
    pub key: TokenKey,
    /// Their name in the sealed document: `e1`.
    pub name: String,
    /// A dot and their name, to put behind the field's path.
    pub suffix: String,
    /// The number of the active epoch.
    pub epoch: u32,
    /// Whether the schema gives the field a `domain`, to join it with others.
    pub in_domain: bool,
    /// The name of the key.
    pub key_name: Arc<str>,
    /// All that are written, in the order of their numbers.
    written: Arc<[Tokens]>,
    /// The epochs that are disabled or destroyed.
    dropped: Arc<[u32]>,
}

/// The tokens of one index epoch.
#[derive(Debug)]
pub struct Tokens {
    /// The number of the epoch.
    pub epoch: u32,
    /// Their name in the sealed document.
    pub name: String,
    /// What is done with them: staged, active or retired.
    pub state: State,
    key: TokenKey,
}

impl Tokens {
    fn of(epoch: &KeyVersion, domain: Domain<'_>) -> Option<Self> {
        Some(Self {
            epoch: epoch.number,
            name: token_name(epoch.number),
            state: epoch.state,
            key: TokenKey::derive(epoch.material.as_ref()?, domain),
        })
    }

    /// The token of a value; none for types that cannot be compared by a token.
    pub fn token(&self, kind: u8, value: &[u8]) -> Option<Token> {
        self.key.equality(kind, value)
    }
}

impl Equality {
    /// The tokens of a key in one domain.
    pub(super) fn compile(
        key: &NamedKey,
        domain: Domain<'_>,
        in_domain: bool,
    ) -> Result<Self, PolicyError> {
        let written: Arc<[Tokens]> = key
            .epochs
            .iter()
            .filter(|epoch| is_written(epoch.state))
            .filter_map(|epoch| Tokens::of(epoch, domain))
            .collect();
        let dropped = key.epochs.iter().filter(|epoch| !is_written(epoch.state));
        let dropped = dropped.map(|epoch| epoch.number);
        let active = key.active_epoch().map(|epoch| epoch.number);
        let active = written.iter().find(|tokens| Some(tokens.epoch) == active);
        let active = active.ok_or_else(|| PolicyError::NoActive {
            key: key.name.clone(),
            what: "index epoch",
        })?;
        Ok(Self {
            key: active.key.clone(),
            name: active.name.clone(),
            suffix: format!(".{}", active.name),
            epoch: active.epoch,
            in_domain,
            key_name: key.name.as_str().into(),
            written: Arc::clone(&written),
            dropped: dropped.collect(),
        })
    }

    /// All tokens that are written, in the order of the numbers of their epochs.
    pub fn written(&self) -> &[Tokens] {
        &self.written
    }

    /// The epochs whose tokens are not written any more, and may lie in documents.
    pub fn dropped(&self) -> &[u32] {
        &self.dropped
    }

    /// The epoch that is written and not used yet.
    pub fn staged(&self) -> Option<u32> {
        let staged = self.written.iter();
        let mut staged = staged.filter(|tokens| tokens.state == State::Staged);
        staged.next().map(|tokens| tokens.epoch)
    }

    /// The state of an epoch in the key file; none if that does not have it.
    pub fn state(&self, epoch: u32) -> Option<State> {
        let mut written = self.written.iter();
        match written.find(|tokens| tokens.epoch == epoch) {
            Some(tokens) => Some(tokens.state),
            None => self.dropped.contains(&epoch).then_some(State::Disabled),
        }
    }

    /// Whether a name is that of tokens that every value has.
    pub fn writes(&self, name: &str) -> bool {
        self.written.iter().any(|tokens| tokens.name == name)
    }

    /// Whether an index may be stored under another name than the user's, or beside
    /// one of another epoch.
    pub(super) fn renames_indexes(&self) -> bool {
        self.epoch != 1 || self.written.len() > 1
    }

    /// Appends the tokens of a value; none for types that have none.
    pub fn write(&self, writer: &mut Writer<'_>, kind: u8, value: &[u8]) -> Option<()> {
        for tokens in self.written.iter() {
            writer.binary(&tokens.name, 0, &tokens.token(kind, value)?);
        }
        Some(())
    }

    /// Whether the tokens of two fields can be compared: one domain, one index epoch.
    pub fn joins(&self, other: &Self) -> bool {
        // Keys are compared by what they make of one value.
        let probe = |equality: &Self| equality.key.equality(kind::BOOL, &[0]);
        self.epoch == other.epoch && probe(self) == probe(other)
    }
}

/// Whether tokens of an epoch in this state are written.
fn is_written(state: State) -> bool {
    matches!(state, State::Staged | State::Active | State::Retired)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::policy::fixture;

    fn equality(states: &[State]) -> Result<Equality, PolicyError> {
        let keyring = fixture::keyring_with_epochs(states);
        Equality::compile(&keyring.keys[0], Domain::Named("d"), true)
    }

    fn names(equality: &Equality) -> Vec<&str> {
        let names = equality.written().iter();
        names.map(|tokens| tokens.name.as_str()).collect()
    }

    #[test]
    fn tokens_of_all_epochs_but_disabled_and_destroyed_ones_are_written() {
        use State::{Active, Destroyed, Disabled, Retired, Staged};
        for (states, active, written) in [
            (&[Active][..], "e1", &["e1"][..]),
            (&[Active, Staged], "e1", &["e1", "e2"]),
            (&[Retired, Active], "e2", &["e1", "e2"]),
            (&[Disabled, Active], "e2", &["e2"]),
            (
                &[Destroyed, Retired, Active, Staged, Disabled],
                "e3",
                &["e2", "e3", "e4"],
            ),
        ] {
            let equality = equality(states).unwrap();
            assert_eq!(names(&equality), written, "{states:?}");
            assert_eq!(
                (&*equality.name, &equality.suffix[1..]),
                (active, active),
                "{states:?}"
            );
            assert_eq!(equality.renames_indexes(), states != [Active], "{states:?}");
        }
        assert!(equality(&[Staged, Retired]).is_err());
    }

    #[test]
    fn each_epoch_has_tokens_of_its_own_and_only_those_of_the_active_one_are_joined() {
        use State::{Active, Retired, Staged};
        let (before, after) = (
            equality(&[Active, Staged]).unwrap(),
            equality(&[Retired, Active]).unwrap(),
        );
        assert!(before.joins(&before.clone()) && !before.joins(&after));
        let tokens = |equality: &Equality| {
            let tokens = equality.written().iter();
            tokens
                .map(|tokens| tokens.token(kind::BOOL, &[1]).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(tokens(&before), tokens(&after));
        assert_ne!(tokens(&before)[0], tokens(&before)[1]);
        assert_eq!(
            after.key.equality(kind::BOOL, &[1]),
            Some(tokens(&after)[1])
        );
    }
}
