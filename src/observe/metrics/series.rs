//! Which names commands are counted by: of those that clients send, only so many.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::shard::Count;
use crate::observe::command::Outcome;
use crate::policy::LONGEST_NAMESPACE;
use crate::rewrite::is_command;

/// Stands for all names that are not kept.
pub const OTHER: &str = "other";

/// How many namespaces are kept.
pub(super) const MOST_NAMESPACES: usize = 512;

/// How many of them MongoDB need not have answered well for: who is not logged in can only
/// take so many from those who are.
const MOST_UNPROVEN: usize = MOST_NAMESPACES / 2;

/// Outcomes, in the order of [`Series::outcomes`].
pub(super) const OUTCOMES: [&str; 4] = ["ok", "error", "refused", "sent"];

/// How often one command came for one namespace, on one thread.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) command: Box<str>,
    pub(super) namespace: Arc<str>,
    pub(super) outcomes: [Count; OUTCOMES.len()],
}

impl Series {
    /// One that has not begun.
    pub(super) fn new(command: &str, namespace: Arc<str>) -> Self {
        Self {
            command: command.into(),
            namespace,
            outcomes: <[Count; OUTCOMES.len()]>::default(),
        }
    }

    /// Counts one.
    pub(super) fn note(&self, outcome: Outcome) {
        let [ok, error, refused, sent] = &self.outcomes;
        match outcome {
            Outcome::Ok => ok.add(1),
            Outcome::Error(_) => error.add(1),
            Outcome::Refused(_) => refused.add(1),
            Outcome::Sent => sent.add(1),
        }
    }
}

/// The name that a command is counted by.
pub(super) fn label_of(command: &str) -> &str {
    if is_command(command) { command } else { OTHER }
}

/// The namespaces that are kept; read without a lock.
#[derive(Debug)]
pub(super) struct Namespaces {
    known: ArcSwap<HashSet<Arc<str>>>,
    /// Held while one is added.
    adding: Mutex<()>,
    other: Arc<str>,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            known: ArcSwap::default(),
            adding: Mutex::default(),
            other: OTHER.into(),
        }
    }
}

impl Namespaces {
    /// The name that `namespace` is counted by. It is kept from now on, if there is room.
    pub(super) fn label_of(&self, namespace: &str, outcome: Outcome) -> Arc<str> {
        if let Some(known) = self.known.load().get(namespace) {
            return Arc::clone(known);
        }
        let most = match outcome {
            Outcome::Ok => MOST_NAMESPACES,
            Outcome::Error(_) | Outcome::Refused(_) | Outcome::Sent => MOST_UNPROVEN,
        };
        if namespace.len() > LONGEST_NAMESPACE || self.known.load().len() >= most {
            return Arc::clone(&self.other);
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = HashSet::clone(&self.known.load());
        // Another thread may have been here first.
        if let Some(known) = known.get(namespace) {
            return Arc::clone(known);
        }
        let fresh: Arc<str> = namespace.into();
        known.insert(Arc::clone(&fresh));
        self.known.store(Arc::new(known));
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_mongodb_does_not_have_is_other() {
        for known in ["find", "isMaster", "ismaster"] {
            assert_eq!(label_of(known), known);
        }
        for unknown in [
            "",
            "fnd",
            "_configsvrAnything",
            "clusterAnything",
            "4111-1111",
        ] {
            assert_eq!(label_of(unknown), OTHER, "{unknown}");
        }
    }

    #[test]
    fn namespaces_are_kept_up_to_a_bound_and_strangers_cannot_take_them_all() {
        let namespaces = Namespaces::default();
        let label = |number: usize, outcome| {
            let name = format!("d.c{number}");
            let label = namespaces.label_of(&name, outcome);
            assert!(*label == *name || *label == *OTHER);
            *label == *name
        };
        let error = Outcome::Error(13);
        let of_strangers = (0..2000).filter(|number| label(*number, error)).count();
        assert_eq!(of_strangers, MOST_UNPROVEN);
        let all = (2000..4000)
            .filter(|number| label(*number, Outcome::Ok))
            .count();
        assert_eq!(of_strangers + all, MOST_NAMESPACES);
        // Who is in stays in, whatever comes of it.
        assert!(label(0, error) && label(2000, error) && !label(4000, Outcome::Ok));
    }

    #[test]
    fn a_name_that_no_collection_can_have_is_not_kept() {
        let long = "x".repeat(LONGEST_NAMESPACE + 1);
        let label = Namespaces::default().label_of(&long, Outcome::Ok);
        assert_eq!(*label, *OTHER);
    }
}
