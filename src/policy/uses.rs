//! How much is sealed under the versions of keys, and how old these are.
//!
//! A count is of this process: it outlives a reload, but not a restart, and knows
//! nothing of other proxies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Field, Policy};
use crate::keyring::{KeyId, State, Suite};
use crate::seal::FieldId;

/// Counts by what shares a key, and so its bound. Fields of one identity share theirs.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    sealed: Mutex<HashMap<Sealing, Arc<Tally>>>,
    opened: Mutex<HashMap<(KeyId, FieldId), Arc<OpenTally>>>,
}

type Sealing = (KeyId, FieldId, Suite);

/// How many values of one field were opened that one version of its key seals.
#[derive(Debug)]
pub(super) struct OpenTally {
    /// As [`Tally`] has it.
    namespace: String,
    path: String,
    values: AtomicU64,
}

impl OpenTally {
    /// Counts one value.
    pub(super) fn count(&self) {
        self.values.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often one field was sealed under one version of its key with one suite.
#[derive(Debug)]
pub(super) struct Tally {
    /// Of the first field that took it, where several share it.
    namespace: String,
    path: String,
    seals: AtomicU64,
    /// The last [`Nearness`] that was told, from 1 on.
    told: AtomicU8,
}

/// A field, the key version that seals it, and how much it did in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The name of the key.
    pub key: String,
    /// The number of its version.
    pub version: u32,
    /// The collection.
    pub namespace: String,
    /// The field, as the schema has it.
    pub path: String,
    /// Its id in sealed values.
    pub field: FieldId,
    /// What it is sealed with.
    pub suite: Suite,
    /// Values sealed since this process began.
    pub seals: u64,
    /// How long ago the version was made, if its date can be read.
    pub age: Option<Duration>,
}

/// How many values of a field were opened in this process that one version of its key seals.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opened {
    /// The collection.
    pub namespace: String,
    /// The field, as the schema has it.
    pub path: String,
    /// The name of the key.
    pub key: String,
    /// The number of its version.
    pub version: u32,
    /// How many.
    pub values: u64,
}

/// How near the count of a [`Use`] is to its suite's bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// Half of it.
    Half = 1,
    /// Fifteen sixteenths of it.
    Near,
    /// The bound itself.
    Past,
}

/// An active version that is older than it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aged {
    /// The name of the key.
    pub key: String,
    /// The number of its version.
    pub version: u32,
    /// How long ago it was made.
    pub age: Duration,
}

impl Tally {
    /// Counts one value.
    pub(super) fn count(&self) {
        self.seals.fetch_add(1, Ordering::Relaxed);
    }

    /// How near the bound is, if that is nearer than it was at any call before.
    fn nearer(&self, suite: Suite) -> Option<Nearness> {
        let nearness = nearness(suite, self.seals.load(Ordering::Relaxed))?;
        let told = self.told.fetch_max(nearness as u8, Ordering::Relaxed);
        (told < nearness as u8).then_some(nearness)
    }
}

fn nearness(suite: Suite, seals: u64) -> Option<Nearness> {
    let bound = suite.most_seals()?;
    if seals >= bound {
        Some(Nearness::Past)
    } else if seals >= bound / 16 * 15 {
        Some(Nearness::Near)
    } else if seals >= bound / 2 {
        Some(Nearness::Half)
    } else {
        None
    }
}

impl Tallies {
    /// The count of a field; `namespace` and `path` are for people.
    pub(super) fn of(
        &self,
        key: KeyId,
        field: FieldId,
        suite: Suite,
        namespace: &str,
        path: &str,
    ) -> Arc<Tally> {
        let fresh = || {
            Arc::new(Tally {
                namespace: namespace.to_owned(),
                path: path.to_owned(),
                seals: AtomicU64::new(0),
                told: AtomicU8::new(0),
            })
        };
        Arc::clone(self.lock().entry((key, field, suite)).or_insert_with(fresh))
    }

    /// The count of what is opened of a field.
    pub(super) fn opening(&self, key: KeyId, id: FieldId, field: &Field) -> Arc<OpenTally> {
        let fresh = || {
            Arc::new(OpenTally {
                namespace: field.tally.namespace.clone(),
                path: field.tally.path.clone(),
                values: AtomicU64::new(0),
            })
        };
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(opened.entry((key, id)).or_insert_with(fresh))
    }

    /// Lets go of what was never used and cannot be any more: clients name
    /// collections as they like.
    pub(super) fn forget_unused(&self) {
        self.lock().retain(|_, tally| {
            Arc::strong_count(tally) > 1 || tally.seals.load(Ordering::Relaxed) > 0
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Sealing, Arc<Tally>>> {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Policy {
    /// What seals now or did seal in this process, in the order of keys, versions and fields.
    pub fn uses(&self, now: SystemTime) -> Vec<Use> {
        let tallies = self.tallies.lock();
        let mut uses: Vec<_> = tallies
            .iter()
            .filter_map(|(sealing, tally)| self.used(*sealing, tally, now))
            .collect();
        drop(tallies);
        uses.sort_by(|one, other| {
            let order = |used: &Use| (used.version, used.suite);
            one.key
                .cmp(&other.key)
                .then_with(|| order(one).cmp(&order(other)))
                .then_with(|| one.namespace.cmp(&other.namespace))
                .then_with(|| one.path.cmp(&other.path))
        });
        uses
    }

    /// What was opened in this process, in the order of fields, keys and versions. Values of
    /// fields that the schema does not have any more are not counted.
    pub fn opened(&self) -> Vec<Opened> {
        let tallies = self.tallies.opened.lock();
        let tallies = tallies.unwrap_or_else(PoisonError::into_inner);
        let told = |((id, _), tally): (&(KeyId, FieldId), &Arc<OpenTally>)| {
            let (key, version) = self.keyring.version(*id)?;
            let values = tally.values.load(Ordering::Relaxed);
            (values > 0).then(|| Opened {
                namespace: tally.namespace.clone(),
                path: tally.path.clone(),
                key: key.name.clone(),
                version: version.number,
                values,
            })
        };
        let mut opened: Vec<Opened> = tallies.iter().filter_map(told).collect();
        drop(tallies);
        opened.sort();
        opened
    }

    /// Uses that came nearer to their bound than any call before has told.
    pub fn newly_near(&self, now: SystemTime) -> Vec<(Nearness, Use)> {
        let tallies = self.tallies.lock();
        let nearer = tallies.iter().filter_map(|(sealing, tally)| {
            let nearness = tally.nearer(sealing.2)?;
            Some((nearness, self.used(*sealing, tally, now)?))
        });
        nearer.collect()
    }

    /// None for a version that is not in the keyring any more, and for what has
    /// not sealed and will not: a pattern of namespaces, a version that is retired.
    fn used(&self, sealing: Sealing, tally: &Tally, now: SystemTime) -> Option<Use> {
        let (id, field, suite) = sealing;
        let (key, version) = self.keyring.version(id)?;
        let seals = tally.seals.load(Ordering::Relaxed);
        let pattern = tally.namespace.contains('*');
        if seals == 0 && (pattern || version.state != State::Active) {
            return None;
        }
        Some(Use {
            key: key.name.clone(),
            version: version.number,
            namespace: tally.namespace.clone(),
            path: tally.path.clone(),
            field,
            suite,
            seals,
            age: version.age(now),
        })
    }

    /// The active versions, of keys that the schema names, that are older than `most`.
    pub fn aged(&self, most: Duration, now: SystemTime) -> Vec<Aged> {
        let names = self.schema.key_names();
        let keys = names.into_iter().filter_map(|name| self.keyring.key(name));
        keys.filter_map(|key| {
            let version = key.active()?;
            let age = version.age(now).filter(|age| *age > most)?;
            Some(Aged {
                key: key.name.clone(),
                version: version.number,
                age,
            })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::fixture;
    use super::*;
    use crate::keyring::Keyring;
    use crate::schema::{Format, Schema};

    const SCHEMA: &str = r#"
        [collections."a.b".fields]
        x = {}
        y = { suite = "xaes-256-gcm" }
        [collections."t_*.people".fields]
        z = {}
    "#;

    fn schema(text: &str) -> Arc<Schema> {
        Arc::new(Schema::parse(text, Format::Toml, "s.toml").unwrap())
    }

    fn policy(keyring: Keyring) -> Policy {
        Policy::compile(schema(SCHEMA), Arc::new(keyring)).unwrap()
    }

    /// Seals `times` values of the field that is the leaf `leaf` of a collection.
    fn seal(policy: &Policy, namespace: &str, leaf: usize, times: usize) {
        let collection = policy.collection(namespace).unwrap();
        for _ in 0..times {
            collection.field(leaf).seal(0x08, &[1], &mut Vec::new());
        }
    }

    /// The uses as `key v1 suite namespace path seals`.
    fn listed(policy: &Policy) -> Vec<String> {
        let line = |used: Use| {
            format!(
                "{} v{} {} {} {} {}",
                used.key,
                used.version,
                used.suite.word(),
                used.namespace,
                used.path,
                used.seals
            )
        };
        let uses = policy.uses(SystemTime::now());
        uses.into_iter().map(line).collect()
    }

    #[test]
    fn every_sealed_value_is_counted_for_its_field_version_and_suite() {
        let policy = policy(fixture::keyring());
        seal(&policy, "a.b", 0, 3);
        seal(&policy, "a.b", 1, 2);
        seal(&policy, "t_1.people", 0, 1);
        let expected = [
            "default v2 aes-256-gcm a.b x 3",
            "default v2 aes-256-gcm t_1.people z 1",
            "default v2 xaes-256-gcm a.b y 2",
        ];
        assert_eq!(listed(&policy), expected);
        assert!(policy.uses(SystemTime::now())[0].age.is_some());
    }

    #[test]
    fn every_value_that_was_opened_is_counted_for_its_field_and_version() {
        let keyring = fixture::keyring();
        let before = policy(keyring.clone());
        let sealed = |policy: &Policy| {
            let mut out = Vec::new();
            let collection = policy.collection("a.b").unwrap();
            collection.field(0).seal(0x08, &[1], &mut out);
            out
        };
        let open = |policy: &Policy, payload: &[u8]| {
            let header = crate::seal::Header::read(payload).unwrap();
            policy.open(header, payload, None, &mut Vec::new())
        };
        let payload = sealed(&before);
        assert_eq!(before.opened(), []);
        for _ in 0..3 {
            open(&before, &payload).unwrap();
        }
        // What cannot be opened is none.
        let mut broken = payload.clone();
        *broken.last_mut().unwrap() ^= 1;
        open(&before, &broken).unwrap_err();
        // The count goes on after a reload, also of an operation that began before it.
        let after = before
            .renewed(schema(SCHEMA), Arc::new(keyring), Arc::default())
            .unwrap();
        open(&after, &payload).unwrap();
        open(&before, &payload).unwrap();
        let expected = Opened {
            namespace: "a.b".to_owned(),
            path: "x".to_owned(),
            key: "default".to_owned(),
            version: 2,
            values: 5,
        };
        assert_eq!(after.opened(), [expected]);
    }

    #[test]
    fn the_suite_is_that_of_the_field_else_of_the_version_that_seals() {
        let mut keyring = fixture::keyring();
        keyring.keys[0].versions[1].suite = Some(Suite::Xaes256Gcm);
        let plain = SCHEMA.replace(
            "y = { suite = \"xaes-256-gcm\" }",
            "y = { suite = \"aes-256-gcm\" }",
        );
        let policy = Policy::compile(schema(&plain), Arc::new(keyring)).unwrap();
        for leaf in [0, 1] {
            seal(&policy, "a.b", leaf, 1);
        }
        let suites = [
            "default v2 aes-256-gcm a.b y 1",
            "default v2 xaes-256-gcm a.b x 1",
        ];
        assert_eq!(listed(&policy), suites);
    }

    #[test]
    fn a_count_goes_on_after_a_reload_and_a_rotation_begins_another() {
        let mut keyring = Keyring::generate(["default"]).unwrap();
        let before = policy(keyring.clone());
        seal(&before, "a.b", 0, 2);
        let same = before
            .renewed(schema(SCHEMA), Arc::new(keyring.clone()), Arc::default())
            .unwrap();
        seal(&same, "a.b", 0, 1);
        // An operation that still runs under the policy before is counted too.
        seal(&before, "a.b", 0, 1);
        assert_eq!(listed(&same)[0], "default v1 aes-256-gcm a.b x 4");
        keyring.rotate("default", None).unwrap();
        let rotated = same
            .renewed(schema(SCHEMA), Arc::new(keyring), Arc::default())
            .unwrap();
        seal(&rotated, "a.b", 0, 1);
        let expected = [
            "default v1 aes-256-gcm a.b x 4",
            "default v2 aes-256-gcm a.b x 1",
            "default v2 xaes-256-gcm a.b y 0",
        ];
        assert_eq!(listed(&rotated), expected);
    }

    #[test]
    fn fields_that_share_a_key_share_a_count() {
        let text = r#"
            [collections."a.b"]
            identity = "old.b"
            [collections."a.b".fields]
            x = {}
            [collections."old.b".fields]
            x = {}
        "#;
        let keyring = Keyring::generate(["default"]).unwrap();
        let policy = Policy::compile(schema(text), Arc::new(keyring)).unwrap();
        seal(&policy, "a.b", 0, 2);
        seal(&policy, "old.b", 0, 3);
        assert_eq!(listed(&policy), ["default v1 aes-256-gcm a.b x 5"]);
    }

    #[test]
    fn nearness_to_the_bound_is_told_once_at_each_step_and_for_suite_1_alone() {
        let policy = policy(fixture::keyring());
        let tallies: Vec<_> = policy.tallies.lock().values().cloned().collect();
        let set = |seals: u64| {
            for tally in &tallies {
                tally.seals.store(seals, Ordering::Relaxed);
            }
        };
        let told = || {
            let near = policy.newly_near(SystemTime::now());
            assert!(near.iter().all(|(_, used)| used.suite == Suite::Aes256Gcm));
            let paths = near.iter().filter(|(_, used)| used.path == "x");
            paths.map(|(nearness, _)| *nearness).collect::<Vec<_>>()
        };
        for (seals, expected) in [
            ((1 << 31) - 1, None),
            (1 << 31, Some(Nearness::Half)),
            ((1 << 31) + 9, None),
            ((1 << 32) - (1 << 28), Some(Nearness::Near)),
            ((1 << 32) - 1, None),
            (1 << 32, Some(Nearness::Past)),
            (1 << 40, None),
        ] {
            set(seals);
            assert_eq!(told(), Vec::from_iter(expected), "{seals}");
        }
    }

    #[test]
    fn names_of_collections_that_nothing_was_sealed_in_are_forgotten() {
        let policy = policy(fixture::keyring());
        seal(&policy, "t_used.people", 0, 1);
        let counted = || policy.tallies.lock().len();
        let least = counted();
        for number in 0..2 * super::super::PATTERN_INSTANCES {
            policy.collection(&format!("t_{number}.people")).unwrap();
            assert!(counted() <= least + 1 + super::super::PATTERN_INSTANCES);
        }
        assert!(listed(&policy).contains(&"default v2 aes-256-gcm t_used.people z 1".to_owned()));
    }

    #[test]
    fn nothing_is_kept_of_names_that_no_collection_can_have() {
        let policy = policy(fixture::keyring());
        let long = "x".repeat(super::super::LONGEST_NAMESPACE);
        let before = policy.tallies.lock().len();
        seal(&policy, &format!("t_{long}.people"), 0, 1);
        assert_eq!(policy.tallies.lock().len(), before);
    }

    #[test]
    fn an_active_version_that_is_too_old_is_named() {
        let mut keyring = Keyring::generate(["default", "unused"]).unwrap();
        for key in &mut keyring.keys {
            key.versions[0].created = "2020-01-01T00:00:00Z".to_owned();
        }
        let day = Duration::from_secs(24 * 3600);
        let now = SystemTime::now();
        let old = policy(keyring.clone());
        let aged = old.aged(day, now);
        assert_eq!(aged.len(), 1, "the schema does not name the other");
        assert_eq!((aged[0].key.as_str(), aged[0].version), ("default", 1));
        assert!(aged[0].age > 365 * day);
        assert_eq!(old.aged(365 * 1000 * day, now), []);
        keyring.rotate("default", None).unwrap();
        assert_eq!(policy(keyring).aged(day, now), []);
    }
}
