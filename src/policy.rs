//! What the data path needs of schema and keyring, compiled into one snapshot.

mod access;
mod equality;
mod index_names;
mod indexes;
mod mask;
mod masking;
mod uses;
mod views;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::access::{Access, CommandRules, RoleSet};
use crate::keyring::{KeyId, Keyring, Material, NamedKey, State, Suite};
use crate::schema::{CollectionRule, FieldRule, OnPlaintext, Schema, Tree, Types};
pub use access::FieldAccess;
use access::Held;
pub use equality::{Equality, Tokens};
pub use index_names::{Shown, has_reserved_name, users_name, with_users_names};
pub use indexes::{Found, Indexes, Listed};
pub use masking::Masking;
pub use uses::{Aged, Nearness, Use};
use uses::{Tallies, Tally};
pub use views::{AskedAt, Reaching, Views};

use crate::raw::kind;
use crate::seal::{Domain, FieldId, HashKey, Header, OpenError, SealKey};

/// How many collections that match a pattern are kept compiled.
const PATTERN_INSTANCES: usize = 4096;

/// The longest namespace that MongoDB has, in bytes. What clients call by a longer one is not there.
pub(crate) const LONGEST_NAMESPACE: usize = 255;

/// Schema and keys, compiled. These never change; a reload makes a new one.
#[derive(Debug)]
pub struct Policy {
    schema: Arc<Schema>,
    keyring: Arc<Keyring>,
    exact: HashMap<String, Arc<Collection>>,
    /// Every rule's collection, under its namespace or pattern.
    rules: Vec<Arc<Collection>>,
    /// Collections that match a pattern, compiled when first met. Only
    /// namespaces that match a pattern ever take this lock.
    matched: Mutex<Matched>,
    fields: HashMap<FieldId, Arc<Field>>,
    views: Views,
    indexes: Arc<Indexes>,
    /// Shared with the policies before and after it.
    tallies: Arc<Tallies>,
    /// Which of all policies this is; those for holders of roles have that of the one for all.
    serial: u64,
    access: Arc<Access>,
    commands: CommandRules,
    /// Whose it is; none means that of who may do everything.
    roles: Option<RoleSet>,
    /// The same for those who have some of the roles; owned by the one for all.
    held: Held,
    /// Whether a value of a field that the schema does not name is masked: it may be of one
    /// that was open to some roles only, and was taken out of the schema.
    masks_unknown: bool,
}

/// Collections that match a pattern, and their fields.
#[derive(Debug, Default)]
struct Matched {
    collections: HashMap<String, Arc<Collection>>,
    fields: HashMap<FieldId, Arc<Field>>,
}

/// How many policies were made.
static SERIALS: AtomicU64 = AtomicU64::new(0);

/// What is sealed in one collection.
#[derive(Debug)]
pub struct Collection {
    /// `database.collection`.
    pub namespace: String,
    /// What becomes of plain values where sealed ones belong.
    pub on_plaintext: OnPlaintext,
    /// The sealed paths; a leaf is an index into [`Collection::field`].
    pub tree: Tree,
    /// Whether this is not what the schema says of a collection, but the shape
    /// of documents that a pipeline or a view made.
    pub derived: bool,
    fields: Vec<Arc<Field>>,
}

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
    hashing: Option<Arc<HashKey>>,
    active: Arc<SealKey>,
    tally: Arc<Tally>,
    /// Every version of the key, derived when a value under it is first met.
    versions: Arc<[(KeyId, OnceLock<SealKey>)]>,
}

/// Why schema and keyring do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The schema names a key that the keyring does not have.
    #[error(
        "{namespace}: field `{path}` is sealed with the key `{key}`, which the keyring does not have; make it with `fieldseal keys init` or name another"
    )]
    UnknownKey {
        /// The collection.
        namespace: String,
        /// The field.
        path: String,
        /// The name that was not found.
        key: String,
    },
    /// The schema names a role that the configuration does not have.
    #[error(
        "{namespace}: field `{path}` names the role `{role}`, which nobody has: name it in [access] of the configuration, under `roles` or of a principal"
    )]
    UnknownRole {
        /// The collection.
        namespace: String,
        /// The field.
        path: String,
        /// The name that was not found.
        role: String,
    },
    /// Two collections have an identity in common, so that values of the one may come to
    /// lie in the other, and other roles.
    #[error(
        "{namespace}: field `{path}` has the identity of one in {other}, so `read`, `write`, `mask` and `audit` must be the same for both"
    )]
    OtherAccess {
        /// The collection.
        namespace: String,
        /// The field.
        path: String,
        /// The other collection.
        other: String,
    },
    /// A key has no version that may seal, or no index epoch.
    #[error("the key `{key}` has no active {what}")]
    NoActive {
        /// The key's name.
        key: String,
        /// A version or an epoch.
        what: &'static str,
    },
}

/// Why a stored value was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// No version of this id is in the keyring.
    #[error(
        "it is sealed under key id {0}, which is not in the keyring: the key is not loaded; bring this proxy's key file up to date"
    )]
    UnknownKey(u32),
    /// The version is disabled.
    #[error("it is sealed under key id {0}, which is disabled")]
    Disabled(u32),
    /// The version's material is gone.
    #[error("it is sealed under key id {0}, which was destroyed")]
    Destroyed(u32),
    /// The value itself is wrong.
    #[error("{0}")]
    Value(#[from] OpenError),
}

impl Unopened {
    /// The same for a client, to whom the ids of keys say nothing. The log has them.
    pub fn told(self) -> String {
        match self {
            Self::UnknownKey(_) => {
                "it is sealed under a key version that this proxy has not loaded; \
                                    bring its key file up to date"
                    .to_owned()
            }
            Self::Disabled(_) => "it is sealed under a key version that is disabled".to_owned(),
            Self::Destroyed(_) => "it is sealed under a key version that was destroyed".to_owned(),
            Self::Value(error) => error.to_string(),
        }
    }
}

impl Field {
    fn compile(
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
        let hashing = field.access.hashes().then(|| masking::hash_key(key, id));
        let hashing = hashing.transpose()?.map(Arc::new);
        let of_version = key.active().and_then(|version| version.suite);
        let suite = field.suite.or(of_version).unwrap_or_default();
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
            versions: key
                .versions
                .iter()
                .map(|version| (version.id, OnceLock::new()))
                .collect(),
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

    /// The version that [`Field::seal`] seals under.
    pub fn active_id(&self) -> KeyId {
        self.active.id()
    }

    /// How many bytes [`Field::seal`] appends.
    pub fn sealed_length(&self, length: usize) -> usize {
        self.active.sealed_length(length)
    }
}

/// Notes the fields of a collection, and that those of one id are open to the same roles.
fn alike(
    collection: &Arc<Collection>,
    known: &mut HashMap<FieldId, Arc<Collection>>,
) -> Result<(), PolicyError> {
    for field in &collection.fields {
        let Some(other) = known.insert(field.id, Arc::clone(collection)) else {
            continue;
        };
        let same = |known: &&Arc<Field>| known.id == field.id && known.access == field.access;
        if !other.fields.iter().any(|field| same(&field)) {
            return Err(PolicyError::OtherAccess {
                namespace: collection.namespace.clone(),
                path: field.path.clone(),
                other: other.namespace.clone(),
            });
        }
    }
    Ok(())
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

impl Collection {
    fn compile(
        rule: &CollectionRule,
        namespace: &str,
        keyring: &Keyring,
        access: &Access,
        tallies: &Tallies,
    ) -> Result<Self, PolicyError> {
        let fields = rule
            .fields
            .iter()
            .map(|field| {
                Field::compile(rule, field, namespace, keyring, access, tallies).map(Arc::new)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            namespace: namespace.to_owned(),
            on_plaintext: rule.on_plaintext,
            tree: rule.tree.clone(),
            derived: false,
            fields,
        })
    }

    /// The shape of documents that a pipeline or a view over `namespace` made.
    ///
    /// What was moved may be absent or plain where the stored field could not
    /// be, so a plain value is only an error where `on_plaintext` says so.
    pub fn derived(
        namespace: &str,
        on_plaintext: OnPlaintext,
        tree: Tree,
        fields: Vec<Arc<Field>>,
    ) -> Self {
        Self {
            namespace: namespace.to_owned(),
            on_plaintext,
            tree,
            derived: true,
            fields,
        }
    }

    /// The sealed fields, in the order of the schema.
    pub fn fields(&self) -> &[Arc<Field>] {
        &self.fields
    }

    /// The field of a leaf of the tree.
    pub fn field(&self, leaf: usize) -> &Arc<Field> {
        &self.fields[leaf]
    }
}

impl Policy {
    /// Compiles `schema` with the keys of `keyring`, without roles.
    pub fn compile(schema: Arc<Schema>, keyring: Arc<Keyring>) -> Result<Self, PolicyError> {
        Self::with_access(schema, keyring, Arc::default())
    }

    /// The same with the roles of `access`.
    pub fn with_access(
        schema: Arc<Schema>,
        keyring: Arc<Keyring>,
        access: Arc<Access>,
    ) -> Result<Self, PolicyError> {
        Self::counting(schema, keyring, access, Arc::default())
    }

    /// Whether a key version may open and not yet seal.
    pub fn is_staged(&self, id: KeyId) -> bool {
        let version = self.keyring.version(id);
        version.is_some_and(|(_, version)| version.state == State::Staged)
    }

    /// Compiles what comes after this policy: what was counted is counted on.
    pub fn renewed(
        &self,
        schema: Arc<Schema>,
        keyring: Arc<Keyring>,
        access: Arc<Access>,
    ) -> Result<Self, PolicyError> {
        Self::counting(schema, keyring, access, Arc::clone(&self.tallies))
    }

    fn counting(
        schema: Arc<Schema>,
        keyring: Arc<Keyring>,
        access: Arc<Access>,
        tallies: Arc<Tallies>,
    ) -> Result<Self, PolicyError> {
        let mut exact = HashMap::new();
        let mut rules = Vec::new();
        let mut fields = HashMap::new();
        let mut by_identity = HashMap::new();
        for rule in &schema.rules {
            // A pattern is compiled as well, so that a key it lacks is found now.
            let collection = Arc::new(Collection::compile(
                rule,
                &rule.pattern,
                &keyring,
                &access,
                &tallies,
            )?);
            rules.push(Arc::clone(&collection));
            if rule.identity.is_some() || !rule.pattern.contains('*') {
                alike(&collection, &mut by_identity)?;
            }
            if rule.pattern.contains('*') {
                continue;
            }
            for field in &collection.fields {
                fields.insert(field.id, Arc::clone(field));
            }
            exact.insert(rule.pattern.clone(), collection);
        }
        for identity in schema
            .rules
            .iter()
            .filter_map(|rule| rule.identity.as_deref())
        {
            // It may be the name of a collection that a pattern stands for.
            let rule = schema.rule(identity);
            let Some(rule) = rule.filter(|rule| rule.identity.is_none()) else {
                continue;
            };
            let of = Collection::compile(rule, identity, &keyring, &access, &tallies)?;
            alike(&Arc::new(of), &mut by_identity)?;
        }
        Ok(Self {
            schema,
            keyring,
            exact,
            rules,
            matched: Mutex::default(),
            fields,
            views: Views::default(),
            indexes: Arc::default(),
            tallies,
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
            access,
            commands: CommandRules::default(),
            roles: None,
            held: Held::default(),
            masks_unknown: false,
        })
    }

    /// Whether nothing is sealed anywhere, so that every message passes.
    pub fn is_empty(&self) -> bool {
        self.schema.is_empty()
    }

    /// Whether a collection of this database may have sealed fields.
    pub fn may_seal_in(&self, database: &str) -> bool {
        self.schema.may_seal_in(database)
    }

    /// What the schema seals in the collections of one database, or of all, by rule.
    pub fn sealed_in(&self, database: Option<&str>) -> impl Iterator<Item = &Arc<Collection>> {
        self.rules.iter().filter(move |collection| {
            database.is_none_or(|database| {
                crate::schema::database_matches(&collection.namespace, database)
            })
        })
    }

    /// The views that reach sealed collections, as far as MongoDB was asked.
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// Whether an index of any collection may be stored under another name than the user's.
    pub fn renames_indexes(&self) -> bool {
        self.rules.iter().any(|rule| rule.renames_indexes())
    }

    /// The indexes of sealed collections, as far as MongoDB was asked.
    pub fn indexes(&self) -> &Indexes {
        &self.indexes
    }

    /// Tells this policy from every other one, before it or after it.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The keyring's generation.
    pub fn generation(&self) -> u64 {
        self.keyring.generation
    }

    /// The names of the keys of which the policy `before` has a version or an index epoch
    /// that this one does not know at all.
    pub fn keys_lost_since<'b>(&self, before: &'b Self) -> Vec<&'b str> {
        let every = |key: &'b NamedKey| key.versions.iter().chain(&key.epochs);
        let known: HashSet<KeyId> = (self.keyring.keys.iter())
            .flat_map(|key| key.versions.iter().chain(&key.epochs))
            .map(|version| version.id)
            .collect();
        let lost = |version: &'b crate::keyring::KeyVersion| {
            version.material.is_some() && !known.contains(&version.id)
        };
        let keys = before.keyring.keys.iter();
        keys.filter(|key| every(key).any(lost))
            .map(|key| key.name.as_str())
            .collect()
    }

    /// What is sealed in a collection, if anything is.
    pub fn collection(&self, namespace: &str) -> Option<Arc<Collection>> {
        if let Some(collection) = self.exact.get(namespace) {
            return Some(Arc::clone(collection));
        }
        let rule = self.schema.rule(namespace)?;
        let mut matched = self.matched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(collection) = matched.collections.get(namespace) {
            return Some(Arc::clone(collection));
        }
        let (keyring, access) = (&self.keyring, &self.access);
        // Nothing is kept of a name that nothing can have.
        let kept = namespace.len() <= LONGEST_NAMESPACE;
        let apart = Tallies::default();
        let tallies = if kept { &self.tallies } else { &apart };
        let collection = Collection::compile(rule, namespace, keyring, access, tallies)
            .expect("the same rule was compiled with the same keyring when the policy was made");
        let mut collection = Arc::new(collection);
        if let Some(roles) = self.roles {
            collection = collection.held_by(roles);
        }
        if !kept {
            return Some(collection);
        }
        if matched.collections.len() >= PATTERN_INSTANCES {
            *matched = Matched::default();
            self.tallies.forget_unused();
        }
        for field in &collection.fields {
            matched.fields.insert(field.id, Arc::clone(field));
        }
        let known = Arc::clone(&collection);
        matched.collections.insert(namespace.to_owned(), known);
        Some(collection)
    }

    /// The field that a header names, if the schema has it under an exact namespace.
    pub fn field(&self, id: FieldId) -> Option<&Arc<Field>> {
        self.fields.get(&id)
    }

    /// The field that a header names: as [`Policy::field`], or of a collection that matches
    /// a pattern and was met before. One that is masked goes first.
    pub fn known(&self, id: FieldId) -> Option<Arc<Field>> {
        let exact = self.fields.get(&id);
        let settled = exact.is_some_and(|field| field.is_masked() || !self.masks_unknown);
        if settled || self.rules.len() == self.exact.len() {
            return exact.cloned();
        }
        let matched = self.matched.lock().unwrap_or_else(PoisonError::into_inner);
        let matched = matched.fields.get(&id);
        matched
            .filter(|field| exact.is_none() || field.is_masked())
            .or(exact)
            .cloned()
    }

    /// Whether a value of a field that [`Policy::known`] does not know is masked.
    pub fn masks_unknown(&self) -> bool {
        self.masks_unknown
    }

    /// Opens a sealed value: appends its type byte and value to `out`.
    ///
    /// `field` is the field it was found at, where that is known; its expanded
    /// keys are used then, after the ids were compared.
    pub fn open(
        &self,
        header: Header,
        payload: &[u8],
        field: Option<&Field>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unopened> {
        let known = field
            .filter(|field| field.id == header.field)
            .or_else(|| self.field(header.field).map(|field| &**field));
        let expanded =
            known.and_then(|field| field.versions.iter().find(|(id, _)| *id == header.key));
        if let Some(key) = expanded.and_then(|(_, key)| key.get()) {
            return Ok(key.open(payload, out)?);
        }
        let derived = SealKey::derive(header.key, self.material(header.key)?, header.field);
        match expanded {
            Some((_, key)) => Ok(key.get_or_init(|| derived).open(payload, out)?),
            None => Ok(derived.open(payload, out)?),
        }
    }

    fn material(&self, id: KeyId) -> Result<&Material, Unopened> {
        let version = self
            .keyring
            .keys
            .iter()
            .flat_map(|key| &key.versions)
            .find(|version| version.id == id)
            .ok_or(Unopened::UnknownKey(id.0))?;
        match version.state {
            State::Disabled => Err(Unopened::Disabled(id.0)),
            State::Destroyed => Err(Unopened::Destroyed(id.0)),
            State::Staged | State::Active | State::Retired => {
                version.material.as_ref().ok_or(Unopened::Destroyed(id.0))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture;
