//! The proxy's decision on a command, without a server: for what newer servers
//! have, and for what would stop the tested one.

use std::sync::Arc;

use mongodb::bson::Document;

use fieldseal::access::{Access, RoleSet};
use fieldseal::config::{AccessConfig, JavaScript, PrincipalRule};
use fieldseal::document::Format;
use fieldseal::keyring::Keyring;
use fieldseal::policy::Policy;
use fieldseal::reveal::ReplyPlan;
use fieldseal::rewrite::{Decision, decide};
use fieldseal::schema::Schema;
use fieldseal::wire::Message;

use crate::support::wire::{body, msg};

/// What the proxy does with a command.
#[derive(Debug)]
pub(super) enum Decided {
    /// It goes to MongoDB as it came.
    Untouched,
    /// It goes to MongoDB in another form.
    Rewritten,
    /// It is answered with an error.
    Refused { code: i32, message: String },
}

/// A policy of the schema, with keys of its own.
pub(super) fn policy(schema: &str) -> Policy {
    let schema = Schema::parse(schema, Format::Toml, "operators.toml").unwrap();
    let keyring = Keyring::generate(["default"]).unwrap();
    Policy::compile(Arc::new(schema), Arc::new(keyring)).unwrap()
}

/// The same for a principal that has these of the roles `reader` and `writer`.
pub(super) fn policy_of(schema: &str, roles: &[&str]) -> Arc<Policy> {
    let schema = Schema::parse(schema, Format::Toml, "operators.toml").unwrap();
    let keyring = Keyring::generate(["default"]).unwrap();
    let principals = ["reader", "writer"].map(|role| PrincipalRule {
        roles: vec![role.to_owned()],
        ..PrincipalRule::default()
    });
    let access = Access::compile(&AccessConfig {
        principals: principals.to_vec(),
        // So that it is the fields that are refused, and nothing before them.
        javascript: JavaScript::Allow,
        ..AccessConfig::default()
    });
    let access = Arc::new(access.unwrap());
    let roles = roles.iter().fold(RoleSet::NONE, |all, role| {
        all.union(access.role(role).unwrap())
    });
    let policy = Policy::with_access(Arc::new(schema), Arc::new(keyring), access);
    Arc::new(policy.unwrap()).held_by(roles)
}

/// Decides on a command in `database`, unless its own `$db` names another.
pub(super) fn on(policy: &Policy, database: &str, command: &Document) -> Decided {
    let mut command = command.clone();
    if !command.contains_key("$db") {
        command.insert("$db", database);
    }
    let frame = msg(0, &body(&command));
    let message = Message::recognise(&frame).unwrap();
    let mut scratch = Vec::new();
    match decide(&message, policy, &mut scratch) {
        // Of a batch, the statements may be refused one by one.
        Decision::Forward {
            plan: ReplyPlan::Outcome { refused, .. },
            ..
        } if !refused.is_empty() => Decided::Refused {
            code: refused[0].refusal.kind.code(),
            message: refused[0].refusal.message.clone(),
        },
        Decision::Forward { cleared, .. } if cleared.bytes() == frame => Decided::Untouched,
        Decision::Forward { .. } => Decided::Rewritten,
        Decision::Refuse(refusal) => Decided::Refused {
            code: refusal.kind.code(),
            message: refusal.message,
        },
    }
}
