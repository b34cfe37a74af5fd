//! What the one whom a policy is for may do with a field.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Collection, Field, Policy};
use crate::access::{Access, CommandRules, RoleSet};
use crate::schema::{AccessRule, Mask};

/// What the one whom a policy is for may do with a field, and whom it is open to at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldAccess {
    /// What is seen instead of the value, by who may not read it.
    pub masked: Option<Mask>,
    /// Whether it may not be written, nor anything that would change it or take it away.
    pub read_only: bool,
    /// Whether reads of it are noted in the audit log.
    pub audited: bool,
    /// The roles that may read it; none means everyone.
    readers: Option<RoleSet>,
    /// The roles that may write it; none means everyone.
    writers: Option<RoleSet>,
    mask: Mask,
}

impl FieldAccess {
    /// What `rule` says, for who may do everything. Gives the name of a role that is not known.
    pub(super) fn compile<'r>(rule: &'r AccessRule, access: &Access) -> Result<Self, &'r str> {
        let set = |names: &'r Vec<String>| {
            names.iter().try_fold(RoleSet::NONE, |all, name| {
                let role = access.role(name);
                role.map(|role| all.union(role)).ok_or(name.as_str())
            })
        };
        let readers = rule.read.as_ref().map(set).transpose()?;
        let writers = rule.write.as_ref().map(set).transpose()?;
        Ok(Self {
            audited: rule.audit,
            readers,
            writers: writers.or(readers),
            mask: rule.mask,
            ..Self::default()
        })
    }

    /// The same for who has these roles.
    fn held_by(self, roles: RoleSet) -> Self {
        let without = |open: Option<RoleSet>| open.is_some_and(|open| !open.meets(roles));
        Self {
            masked: without(self.readers).then_some(self.mask),
            read_only: without(self.writers),
            ..self
        }
    }

    /// Whether there is anyone who may not do everything with it.
    fn is_restricted(self) -> bool {
        self.readers.is_some() || self.writers.is_some()
    }
}

/// The policies for those who have some of the roles, by these roles.
type HeldPolicies = Mutex<HashMap<RoleSet, Arc<Policy>>>;

/// What a policy has of those that are made of one.
#[derive(Debug)]
pub(super) enum Held {
    /// The one that they are made of keeps them.
    Owned(Arc<HeldPolicies>),
    /// One of them only knows the others, so that none outlives the first.
    Within(Weak<HeldPolicies>),
}

impl Default for Held {
    fn default() -> Self {
        Self::Owned(Arc::default())
    }
}

fn lock(all: &HeldPolicies) -> MutexGuard<'_, HashMap<RoleSet, Arc<Policy>>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Field {
    /// Whether who the policy is for may not read it, so that nothing may be asked of it.
    pub fn is_masked(&self) -> bool {
        self.access.masked.is_some()
    }
}

impl Collection {
    /// Whether any field may not be read by who the policy is for.
    pub fn has_masked(&self) -> bool {
        self.traits.masked
    }

    /// Whether any field may not be written by who the policy is for.
    pub fn has_read_only(&self) -> bool {
        self.traits.read_only
    }

    /// The same as who has these roles may see it.
    pub(super) fn held_by(self: &Arc<Self>, roles: RoleSet) -> Arc<Self> {
        if !self.fields.iter().any(|field| field.access.is_restricted()) {
            return Arc::clone(self);
        }
        let fields = self.fields.iter().map(|field| {
            Arc::new(Field {
                access: field.access.held_by(roles),
                ..Field::clone(field)
            })
        });
        let fields: Vec<_> = fields.collect();
        Arc::new(Self {
            namespace: self.namespace.clone(),
            on_plaintext: self.on_plaintext,
            tree: self.tree.clone(),
            derived: self.derived,
            traits: super::Traits::of(&fields),
            fields,
        })
    }
}

impl Policy {
    /// The policy as it stands for who has these roles. It must be the one that every
    /// request and reply of theirs is treated by: this one is for who may do everything.
    pub fn held_by(self: &Arc<Self>, roles: RoleSet) -> Arc<Self> {
        let rules = self.access.commands_of(roles);
        let restricted = |rule: &Arc<Collection>| {
            let mut fields = rule.fields.iter();
            fields.any(|field| field.access.is_restricted())
        };
        if rules.is_empty() && !self.rules.iter().any(restricted) {
            return Arc::clone(self);
        }
        let Held::Owned(all) = &self.held else {
            return Arc::clone(self);
        };
        let mut held = lock(all);
        let made = held
            .entry(roles)
            .or_insert_with(|| Arc::new(self.derive(roles, Arc::downgrade(all))));
        Arc::clone(made)
    }

    /// Takes for old what was listed of the views of one database, or of all: a command has
    /// changed them, for everyone.
    pub fn outdate_views(&self, database: Option<&str>) {
        self.views.outdate(database);
        let all = match &self.held {
            Held::Owned(all) => Some(Arc::clone(all)),
            Held::Within(all) => all.upgrade(),
        };
        for policy in all
            .iter()
            .flat_map(|all| lock(all).values().cloned().collect::<Vec<_>>())
        {
            policy.views.outdate(database);
        }
    }

    fn derive(&self, roles: RoleSet, all: Weak<HeldPolicies>) -> Self {
        let rules: Vec<_> = self.rules.iter().map(|rule| rule.held_by(roles)).collect();
        let mut fields = HashMap::new();
        let mut exact = HashMap::new();
        for rule in rules.iter().filter(|rule| !rule.namespace.contains('*')) {
            for field in &rule.fields {
                fields.insert(field.id, Arc::clone(field));
            }
            exact.insert(rule.namespace.clone(), Arc::clone(rule));
        }
        Self {
            schema: Arc::clone(&self.schema),
            keyring: Arc::clone(&self.keyring),
            exact,
            masks_unknown: rules.iter().any(|rule| rule.has_masked()),
            rules,
            matched: Mutex::default(),
            fields,
            views: super::Views::default(),
            indexes: Arc::clone(&self.indexes),
            shapes: Arc::clone(&self.shapes),
            tallies: Arc::clone(&self.tallies),
            serial: self.serial,
            access: Arc::clone(&self.access),
            commands: self.access.commands_of(roles),
            roles: Some(roles),
            held: Held::Within(all),
        }
    }

    /// Whether plain values may be stored where a field belongs that is masked: nothing
    /// tells what they are but their place.
    pub fn masks_plain(&self) -> bool {
        let plain = |rule: &Arc<Collection>| rule.on_plaintext.is_expected() && rule.has_masked();
        self.masks_unknown && self.rules.iter().any(plain)
    }

    /// Who may connect, and which roles they have.
    pub fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Which commands may be sent by those whom it is for.
    pub fn commands(&self) -> &CommandRules {
        &self.commands
    }

    /// The roles of those whom it is for; none if it is for who may do everything.
    pub fn roles(&self) -> Option<RoleSet> {
        self.roles
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn who_changes_views_changes_them_for_everyone() {
        let rule = AccessRule {
            read: Some(vec!["reader".to_owned()]),
            ..AccessRule::default()
        };
        let policy = fixture::for_all(&rule);
        let roles = ["reader", "writer"].map(|role| policy.access.role(role).unwrap());
        let [one, other] = roles.map(|role| policy.held_by(role));
        let asked = other.views.ask();
        (other.views).learn(
            "shop",
            asked,
            HashMap::new(),
            std::collections::HashSet::new(),
        );
        assert!(other.views.fresh("shop"));
        one.outdate_views(Some("shop"));
        assert!(!other.views.fresh("shop"));
    }
    use crate::policy::{PolicyError, fixture};
    use crate::schema::{CollectionRule, OnPlaintext, Schema, Tree, Types};

    #[test]
    fn collections_whose_values_may_come_to_lie_in_each_other_are_open_to_the_same_roles() {
        let of = |pattern: &str, identity: Option<&str>, mask: Mask| {
            let mut field = fixture::field("ssn", Types::ANY, false);
            field.access.read = Some(Vec::new());
            field.access.mask = mask;
            CollectionRule {
                pattern: pattern.to_owned(),
                identity: identity.map(str::to_owned),
                on_plaintext: OnPlaintext::Reject,
                tree: Tree::build(["ssn"]).unwrap(),
                fields: vec![field],
            }
        };
        let compiled = |rules: Vec<CollectionRule>| {
            let schema = Arc::new(Schema::from_rules(rules));
            Policy::compile(schema, Arc::new(fixture::keyring())).map(drop)
        };
        let (redact, null) = (Mask::Redact, Mask::Null);
        compiled(vec![of("a.b", None, redact), of("a.c", None, null)]).unwrap();
        compiled(vec![
            of("t_*.c", None, null),
            of("a.b", Some("t_1.c"), null),
        ])
        .unwrap();
        compiled(vec![of("a.b", None, null), of("a.c", Some("a.b"), null)]).unwrap();
        for (one, other) in [
            (of("a.b", None, redact), of("a.c", Some("a.b"), null)),
            (of("a.b", Some("x"), redact), of("t_*.c", Some("x"), null)),
            (of("t_*.c", None, redact), of("a.b", Some("t_1.c"), null)),
            (of("t_*.c", None, redact), of("u_*.c", Some("t_1.c"), null)),
        ] {
            let refused = compiled(vec![one, other]).unwrap_err();
            assert!(
                matches!(refused, PolicyError::OtherAccess { .. }),
                "{refused}"
            );
        }
    }
}
