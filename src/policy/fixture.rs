//! A policy for tests of the data path.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::config::{AccessConfig, JavaScript, PrincipalRule};
use crate::keyring::KeyVersion;
use crate::schema::{AccessRule, FieldRule, Types};

/// A keyring with the key `default`: two versions, one epoch, fixed material.
pub(crate) fn keyring() -> Keyring {
    keyring_with_epochs(&[State::Active])
}

/// The same with an epoch of each of these states, numbered from 1.
pub(crate) fn keyring_with_epochs(states: &[State]) -> Keyring {
    let version = |id: u32, number: u32, state| KeyVersion {
        id: KeyId(id),
        number,
        created: "2026-01-01T00:00:00Z".to_owned(),
        state,
        suite: None,
        material: Some(Material::new([u8::try_from(id).unwrap(); 32]))
            .filter(|_| state != State::Destroyed),
    };
    let epochs = (1..)
        .zip(states)
        .map(|(number, state)| version(2 + number, number, *state));
    Keyring {
        generation: 1,
        keys: vec![NamedKey {
            name: "default".to_owned(),
            versions: vec![version(1, 1, State::Retired), version(2, 2, State::Active)],
            epochs: epochs.collect(),
        }],
    }
}

pub(crate) fn field(path: &str, types: Types, equality: bool) -> FieldRule {
    FieldRule {
        path: path.to_owned(),
        types,
        equality,
        elements: equality,
        domain: None,
        identity: None,
        key: "default".to_owned(),
        suite: None,
        access: crate::schema::AccessRule::default(),
    }
}

fn rule(pattern: &str, on_plaintext: OnPlaintext, fields: Vec<FieldRule>) -> CollectionRule {
    CollectionRule {
        pattern: pattern.to_owned(),
        identity: None,
        on_plaintext,
        tree: Tree::build(fields.iter().map(|field| field.path.as_str())).unwrap(),
        fields,
    }
}

/// `shop.customers`: `ssn`, `payment.card` and `tags` (strings) and `age` (a
/// number) with equality; `address` whole; `notes` by its elements;
/// `visits.note` a string; `contacts.*.phone` a string with equality.
///
/// `shop.moving`: `ssn` with equality, plaintext allowed; `shop.settled` of its
/// identity, without; `shop.leaving` the same, and plaintext is stored. `shop.boxes`: `box.c` whole.
/// `tenant_*.people`: `ssn`.
pub(crate) fn policy() -> Policy {
    policy_with(keyring())
}

/// `shop.people` and `shop.archive` of the same identity: `a` and `items.sku`, of the
/// domain `word`. `shop.receipts`: `buyer` and `lines.sku`, of that domain too, and `own`.
fn joined() -> Vec<CollectionRule> {
    let string = Types::named("string").unwrap();
    let word = |path: &str| FieldRule {
        domain: Some("word".to_owned()),
        ..field(path, string, true)
    };
    let people = |name: &str| CollectionRule {
        identity: Some("shop.people".to_owned()),
        ..rule(
            name,
            OnPlaintext::Reject,
            vec![word("a"), word("items.sku")],
        )
    };
    let own = field("own", string, true);
    let receipts = vec![word("buyer"), word("lines.sku"), own];
    vec![
        people("shop.people"),
        people("shop.archive"),
        rule("shop.receipts", OnPlaintext::Reject, receipts),
    ]
}

/// The same with `rule` for every field, as it stands for who has `roles`. There are
/// the roles `reader` and `writer`.
pub(crate) fn held_by(rule: &AccessRule, roles: &[&str]) -> Arc<Policy> {
    let policy = for_all(rule);
    let role = |name: &&str| policy.access.role(name).unwrap();
    let held = roles.iter().map(role).fold(RoleSet::NONE, RoleSet::union);
    policy.held_by(held)
}

/// The same for who may do everything.
pub(crate) fn for_all(rule: &AccessRule) -> Arc<Policy> {
    let principals = ["reader", "writer"].map(|role| PrincipalRule {
        roles: vec![role.to_owned()],
        ..PrincipalRule::default()
    });
    let access = Access::compile(&AccessConfig {
        principals: principals.to_vec(),
        javascript: JavaScript::Allow,
        ..AccessConfig::default()
    });
    let access = Arc::new(access.unwrap());
    let mut rules = rules();
    for field in rules.iter_mut().flat_map(|rule| &mut rule.fields) {
        field.access = rule.clone();
    }
    let schema = Arc::new(Schema::from_rules(rules));
    Arc::new(Policy::with_access(schema, Arc::new(keyring()), access).unwrap())
}

/// The same with another keyring.
pub(crate) fn policy_with(keyring: Keyring) -> Policy {
    let schema = Schema::from_rules(rules());
    // So that it is the rewriting that refuses what it cannot do.
    let access = Access::compile(&AccessConfig {
        javascript: JavaScript::Allow,
        ..AccessConfig::default()
    });
    let access = Arc::new(access.unwrap());
    Policy::with_access(Arc::new(schema), Arc::new(keyring), access).unwrap()
}

fn rules() -> Vec<CollectionRule> {
    let string = Types::named("string").unwrap();
    let fields = vec![
        field("ssn", string, true),
        field("payment.card", string, true),
        field("tags", string, true),
        field("age", Types::named("number").unwrap(), true),
        field("address", Types::ANY, false),
        field("visits.note", string, false),
        field("contacts.*.phone", string, true),
        FieldRule {
            elements: true,
            ..field("notes", Types::ANY, false)
        },
    ];
    let ssn = || vec![field("ssn", string, true)];
    let mut rules = vec![
        rule("shop.customers", OnPlaintext::Reject, fields),
        rule("shop.moving", OnPlaintext::Allow, ssn()),
        rule("shop.leaving", OnPlaintext::Store, ssn()),
        CollectionRule {
            identity: Some("shop.moving".to_owned()),
            ..rule("shop.settled", OnPlaintext::Reject, ssn())
        },
        rule(
            "shop.boxes",
            OnPlaintext::Reject,
            vec![field("box.c", Types::ANY, false)],
        ),
        rule("tenant_*.people", OnPlaintext::Reject, ssn()),
    ];
    rules.extend(joined());
    rules
}
