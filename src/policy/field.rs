//! One sealed field, with its keys expanded.

use std::sync::{Arc, OnceLock};

use super::uses::{OpenTally, Tallies, Tally};
use super::{Equality, FieldAccess, PolicyError};
use crate::access::Access;
use crate::keyring::{KeyId, Keyring, Material, NamedKey, State, Suite};
use crate::raw::kind;
use crate::schema::{CollectionRule, FieldRule, OnPlaintext, Types};
use crate::seal::{Domain, FieldId, HashKey, OpenError, SealKey};

/// One sealed field, with its keys expanded.
#[derive(Debug, Clone)]
pub struct Field {
    /// As the schema has it.
    pub path: String,
    /// The types that may be written.
    pub types: Types,
    /// Whether an array is sealed element by element.
    pub elements: bool,
    /// How deep in arrays its values may stand, at most.
    pub arrays: usize,
    /// Whether null may stand in such an array even if [`Field::is_joined`]: only where
    /// a pipeline or a view has made the array.
    pub beside_null: bool,
    /// Whether what is written is stored plain: the field is on the way back out.
    pub stores_plain: bool,
    /// The id in sealed values.
    pub id: FieldId,
    /// What equality is answered by, if the schema asks for it.
    pub equality: Option<Equality>,
    /// Who may read and write it.
    pub access: FieldAccess,
    /// What the mask `hash` is made with, if it is the field's.
    pub(super) hashing: Option<Arc<HashKey>>,
    pub(super) active: Arc<SealKey>,
    pub(super) tally: Arc<Tally>,
    /// Every version of the key, sorted by its id.
    pub(super) versions: Arc<[(KeyId, Derived)]>,
}

/// The key of a field under one version, derived when a value under it is first met.
type Derived = OnceLock<Box<Opening>>;

/// What opens a field's values of one version, and counts them.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) key: SealKey,
    pub(super) opened: Arc<OpenTally>,
}

impl Opening {
    /// Appends the type and the value to `out`, and counts it.
    pub(super) fn open(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        self.key.open(payload, out)?;
        self.opened.count();
        Ok(())
    }
}

impl Field {
    pub(super) fn compile(
        rule: &CollectionRule,
        field: &FieldRule,
        namespace: &str,
        keyring: &Keyring,
        access: &Access,
        tallies: &Tallies,
    ) -> Result<Self, PolicyError> {
        let access = FieldAccess::compile(&field.access, access).map_err(|role| {
            PolicyError::UnknownRole {
                namespace: namespace.to_owned(),
                path: field.path.clone(),
                role: role.to_owned(),
            }
        })?;
        let key = keyring
            .key(&field.key)
            .ok_or_else(|| PolicyError::UnknownKey {
                namespace: namespace.to_owned(),
                path: field.path.clone(),
                key: field.key.clone(),
            })?;
        let id = FieldId::of(
            rule.identity.as_deref().unwrap_or(namespace),
            field.identity.as_deref().unwrap_or(&field.path),
        );
        let (active, material) = active(key, &key.versions, "version")?;
        let domain = field.domain.as_deref();
        let equality = field.equality.then(|| {
            let tokens = domain.map_or(Domain::Field(&id.0), Domain::Named);
            Equality::compile(key, tokens, domain.is_some())
        });
        let equality = equality.transpose()?;
        let hashing = field
            .access
            .hashes()
            .then(|| super::masking::hash_key(key, id));
        let hashing = hashing.transpose()?.map(Arc::new);
        let of_version = key.active().and_then(|version| version.suite);
        let suite = field.suite.or(of_version).unwrap_or_default();
        let ids = key.versions.iter().map(|version| version.id);
        let mut versions: Vec<_> = ids.map(|id| (id, Derived::new())).collect();
        versions.sort_by_key(|(id, _)| *id);
        Ok(Self {
            path: field.path.clone(),
            types: field.types,
            elements: field.elements || field.equality,
            arrays: usize::from(field.elements || field.equality),
            beside_null: false,
            stores_plain: rule.on_plaintext == OnPlaintext::Store,
            id,
            equality,
            access,
            hashing,
            active: Arc::new(SealKey::derive(active, material, id).sealing_with(suite)),
            tally: tallies.of(active, id, suite, namespace, &field.path),
            versions: versions.into(),
        })
    }

    /// Whether the schema gives it a `domain`, so that it is joined with others by
    /// tokens. Null in an array has none, so no such array may hold null.
    pub fn is_joined(&self) -> bool {
        self.equality
            .as_ref()
            .is_some_and(|equality| equality.in_domain)
    }

    /// Whether this is the other field by its id, and has the same tokens.
    pub fn is(&self, other: &Self) -> bool {
        let tokens = match (&self.equality, &other.equality) {
            (None, None) => true,
            (Some(one), Some(other)) => one.joins(other),
            _ => false,
        };
        self.id == other.id && tokens
    }

    /// Whether values of this field, as they are stored, are right in the place of the other's.
    pub fn stored_alike(&self, other: &Self) -> bool {
        self.is(other) && (self.elements || !other.elements || !self.types.allows(kind::ARRAY))
    }

    /// The same field where a pipeline has put its values into arrays, or taken
    /// them out of arrays.
    #[must_use]
    pub fn moved(&self, elements: bool, arrays: usize, beside_null: bool) -> Self {
        Self {
            elements,
            arrays,
            beside_null,
            ..self.clone()
        }
    }

    /// What new values are sealed with.
    pub fn suite(&self) -> Suite {
        self.active.suite()
    }

    /// Appends the sealed form of a value to `out`, and counts it.
    pub fn seal(&self, kind: u8, value: &[u8], out: &mut Vec<u8>) {
        self.tally.count();
        self.active.seal(kind, value, out);
    }

    /// Where the key of a version is, or belongs, once it is derived.
    pub(super) fn derived(&self, id: KeyId) -> Option<&Derived> {
        let found = self
            .versions
            .binary_search_by_key(&id, |(id, _)| *id)
            .ok()?;
        self.versions.get(found).map(|(_, derived)| derived)
    }

    /// The version that [`Field::seal`] seals under.
    pub fn active_id(&self) -> KeyId {
        self.active.id()
    }

    /// How many bytes [`Field::seal`] appends.
    pub fn sealed_length(&self, length: usize) -> usize {
        self.active.sealed_length(length)
    }
}

fn active<'k>(
    key: &NamedKey,
    versions: &'k [crate::keyring::KeyVersion],
    what: &'static str,
) -> Result<(KeyId, &'k Material), PolicyError> {
    versions
        .iter()
        .find(|version| version.state == State::Active)
        .and_then(|version| Some((version.id, version.material.as_ref()?)))
        .ok_or_else(|| PolicyError::NoActive {
            key: key.name.clone(),
            what,
        })
}
