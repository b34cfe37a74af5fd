//! Roles: sets of them, and what their holders may send.

use std::collections::BTreeSet;

/// Some of the roles of an [`Access`](super::Access).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RoleSet(u128);

/// More roles than a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there may be 128 roles at most")]
pub struct TooManyRoles;

impl RoleSet {
    /// No role.
    pub const NONE: Self = Self(0);

    /// The role of this number.
    pub fn of(number: usize) -> Result<Self, TooManyRoles> {
        let number = u32::try_from(number).map_err(|_| TooManyRoles)?;
        1_u128.checked_shl(number).map(Self).ok_or(TooManyRoles)
    }

    /// The roles of either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a role is in both.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The names of its roles, of those of all roles.
    pub fn names(self, all: &[String]) -> impl Iterator<Item = &str> {
        let held = move |number: usize| Self::of(number).is_ok_and(|role| self.meets(role));
        let all = all.iter().enumerate();
        all.filter(move |(number, _)| held(*number))
            .map(|(_, name)| name.as_str())
    }

    /// Whether it holds no role.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Which commands may be sent. Names are compared without regard to case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandRules {
    /// The only ones that may be sent, if given.
    pub allow: Option<BTreeSet<String>>,
    /// Those that may not, whatever `allow` says.
    pub deny: BTreeSet<String>,
}

impl CommandRules {
    /// Whether every command may be sent.
    pub fn is_empty(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// Makes them those of who has these as well: what either allows is allowed, what
    /// either denies is denied. Rules without a list of what is allowed add nothing to one.
    pub(super) fn join(&mut self, other: &Self) {
        if let Some(allow) = &other.allow {
            let all = self.allow.get_or_insert_default();
            all.extend(allow.iter().cloned());
        }
        self.deny.extend(other.deny.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_set_holds_up_to_128_roles() {
        let last = RoleSet::of(127).unwrap();
        assert!(RoleSet::of(128).is_err());
        assert!(last.union(RoleSet::of(0).unwrap()).meets(last));
        assert!(!RoleSet::of(0).unwrap().meets(last));
    }

    #[test]
    fn what_any_role_denies_is_denied_and_what_any_allows_is_allowed() {
        let rules = |allow: Option<&[&str]>, deny: &[&str]| CommandRules {
            allow: allow.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            deny: deny.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut all = CommandRules::default();
        all.join(&rules(Some(&["find"]), &["drop"]));
        all.join(&rules(None, &["count"]));
        all.join(&rules(Some(&["count", "insert"]), &[]));
        assert_eq!(
            all,
            rules(Some(&["count", "find", "insert"]), &["count", "drop"])
        );
    }
}
