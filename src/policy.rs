//! What the data path needs of schema and keyring, compiled into one snapshot.

mod access;
mod described;
mod equality;
mod fault;
mod field;
mod index_names;
mod indexes;
mod mask;
mod masking;
mod shapes;
mod uses;
mod views;

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::access::{Access, CommandRules, RoleSet};
use crate::keyring::{KeyId, Keyring, Material, NamedKey, State};
use crate::schema::{CollectionRule, OnPlaintext, Schema, Tree};
pub use access::FieldAccess;
use access::Held;
pub use described::VersionState;
pub use equality::{Equality, Tokens};
pub use fault::{PolicyError, Unopened};
pub use field::Field;
use field::Opening;
pub use index_names::{Shown, has_reserved_name, users_name, with_users_names};
pub use indexes::{Found, Indexes, Listed};
pub use masking::Masking;
pub use shapes::Cursor;
use shapes::Shapes;
use uses::Tallies;
pub use uses::{Aged, Nearness, Opened, Use};
pub use views::{AskedAt, Reaching, Standing, Views};

use crate::seal::{FieldId, Header, SealKey};

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
    shapes: Arc<Shapes>,
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
    traits: Traits,
}

/// What is asked of all fields of a collection for each command, found once.
#[derive(Debug, Clone, Copy)]
struct Traits {
    masked: bool,
    read_only: bool,
    renames_indexes: bool,
}

impl Traits {
    fn of(fields: &[Arc<Field>]) -> Self {
        let mut equalities = fields.iter().filter_map(|field| field.equality.as_ref());
        Self {
            masked: fields.iter().any(|field| field.is_masked()),
            read_only: fields.iter().any(|field| field.access.read_only),
            renames_indexes: equalities.any(Equality::renames_indexes),
        }
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
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            namespace: namespace.to_owned(),
            on_plaintext: rule.on_plaintext,
            tree: rule.tree.clone(),
            derived: false,
            traits: Traits::of(&fields),
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
            traits: Traits::of(&fields),
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
            shapes: Arc::default(),
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

    /// What is sealed in a collection of a database, if anything is.
    pub fn collection_in(&self, database: &str, name: &str) -> Option<Arc<Collection>> {
        // Asked for each command: the name is put together where no memory has to be taken.
        let mut bytes = [0; LONGEST_NAMESPACE];
        let mut room = bytes.as_mut_slice();
        let parts = [database, ".", name];
        let fits = (parts.iter()).all(|part| room.write_all(part.as_bytes()).is_ok());
        let left = room.len();
        let whole = bytes.get(..LONGEST_NAMESPACE - left).unwrap_or_default();
        match std::str::from_utf8(whole) {
            Ok(namespace) if fits => self.collection(namespace),
            _ => self.collection(&parts.concat()),
        }
    }

    /// What is sealed in a collection, if anything is.
    pub fn collection(&self, namespace: &str) -> Option<Arc<Collection>> {
        if let Some(collection) = self.exact.get(namespace) {
            return Some(Arc::clone(collection));
        }
        if self.rules.len() == self.exact.len() {
            return None;
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
        let expanded = known.and_then(|field| Some((field, field.derived(header.key)?)));
        if let Some(opening) = expanded.and_then(|(_, derived)| derived.get()) {
            return Ok(opening.open(payload, out)?);
        }
        let key = SealKey::derive(header.key, self.material(header.key)?, header.field);
        let Some((field, derived)) = expanded else {
            return Ok(key.open(payload, out)?);
        };
        let opening = derived.get_or_init(|| {
            let opened = self.tallies.opening(header.key, header.field, field);
            Box::new(Opening { key, opened })
        });
        Ok(opening.open(payload, out)?)
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

#[cfg(any(test, fuzzing))]
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_collection_is_found_by_database_and_name_however_long_they_are() {
        let policy = fixture::policy();
        for length in 0..LONGEST_NAMESPACE + 10 {
            let tenant = format!("tenant_{}", "é".repeat(length / 2));
            for (database, name) in [
                (tenant.as_str(), "people"),
                (&tenant, "pets"),
                ("shop", &tenant),
            ] {
                let found =
                    |found: Option<Arc<Collection>>| found.map(|found| found.namespace.to_string());
                assert_eq!(
                    found(policy.collection_in(database, name)),
                    found(policy.collection(&format!("{database}.{name}"))),
                );
            }
            assert!(policy.collection_in(&tenant, "people").is_some());
        }
        assert!(policy.collection_in("shop", "customers").is_some());
        assert!(policy.collection_in("shop.customers", "").is_none());
    }
}
