//! What commands need of the files that the configuration names.

use std::sync::Arc;

use super::Failure;
use crate::access::Access;
use crate::config::Config;
use crate::keyring::{KeyFile, Keyring, readable_by_others};
use crate::policy::{Policy, PolicyError};
use crate::rewrite::permitted::rule_mistake;
use crate::schema::Schema;
use crate::tls::{self, Tls};

/// Schema and keyring, what they compile to, and the certificates.
pub(super) struct Loaded {
    pub(super) schema: Arc<Schema>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) policy: Policy,
    pub(super) tls: Tls,
}

/// Loads schema, keyring and certificates; what is wrong with any is reported together.
pub(super) fn load(config: &Config) -> Result<Loaded, Failure> {
    load_with(config, Policy::with_access)
}

/// Loads them for what comes after the policy `before`.
pub(super) fn load_after(config: &Config, before: &Policy) -> Result<Loaded, Failure> {
    load_with(config, |schema, keyring, access| {
        before.renewed(schema, keyring, access)
    })
}

fn load_with(
    config: &Config,
    compile: impl FnOnce(Arc<Schema>, Arc<Keyring>, Arc<Access>) -> Result<Policy, PolicyError>,
) -> Result<Loaded, Failure> {
    match (sealing(config, compile), Tls::load(&config.tls)) {
        (Ok((schema, keyring, policy)), Ok(tls)) => Ok(Loaded {
            schema,
            keyring,
            policy,
            tls,
        }),
        (Err(failure), Ok(_)) => Err(failure),
        (Ok(_), Err(errors)) => Err(errors.into()),
        (Err(failure), Err(errors)) => Err(failure.and(errors.into())),
    }
}

fn sealing(
    config: &Config,
    compile: impl FnOnce(Arc<Schema>, Arc<Keyring>, Arc<Access>) -> Result<Policy, PolicyError>,
) -> Result<(Arc<Schema>, Arc<Keyring>, Policy), Failure> {
    let schema = Schema::load(&config.schema).map_err(Failure::from);
    let (schema, keyring) = match (schema, open_keyring(config)) {
        (Ok(schema), Ok(keyring)) => (Arc::new(schema), Arc::new(keyring)),
        (Err(schema), Err(keyring)) => return Err(schema.and(keyring)),
        (Err(failure), Ok(_)) | (Ok(_), Err(failure)) => return Err(failure),
    };
    check_keys(config, &schema, &keyring)?;
    check_commands(config)?;
    let access = Access::compile(&config.access)
        .map_err(|error| Failure::new(format_args!("access.roles: {error}")))?;
    let policy = compile(Arc::clone(&schema), Arc::clone(&keyring), Arc::new(access))?;
    Ok((schema, keyring, policy))
}

/// Opens the key file.
pub(super) fn open_keyring(config: &Config) -> Result<Keyring, Failure> {
    let secret = config.keyring.unseal.read()?;
    Ok(KeyFile::open(&config.keyring.file, &secret)?)
}

/// Every key that the schema names and the keyring does not have.
fn check_keys(config: &Config, schema: &Schema, keyring: &Keyring) -> Result<(), Failure> {
    let missing: Vec<String> = schema
        .key_names()
        .into_iter()
        .filter(|name| keyring.key(name).is_none())
        .map(|name| {
            format!(
                "{}: has no key {name:?}, which the schema names; make it with `fieldseal keys rotate {name}`",
                config.keyring.file.display()
            )
        })
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Failure(missing))
    }
}

/// Every command in the rules of roles that MongoDB does not have, or that nobody can be denied.
fn check_commands(config: &Config) -> Result<(), Failure> {
    let mut mistakes = Vec::new();
    for role in &config.access.roles {
        let allowed = role
            .allow_commands
            .iter()
            .flatten()
            .map(|name| (name, false));
        let denied = role.deny_commands.iter().map(|name| (name, true));
        for (name, denied) in allowed.chain(denied) {
            if let Some(what) = rule_mistake(name, denied) {
                let list = if denied {
                    "deny_commands"
                } else {
                    "allow_commands"
                };
                mistakes.push(format!("access.roles.{}.{list}: {what}", role.name));
            }
        }
    }
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(Failure(mistakes))
    }
}

/// What works, but should not stay so.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if readable_by_others(&config.keyring.file) {
        let file = config.keyring.file.display();
        warnings.push(format!(
            "{file}: others than its owner can read or write it; run `chmod 600 {file}`"
        ));
    }
    warnings.extend(tls::warnings(&config.tls));
    for route in &config.routes {
        if !route.listen.is_local() && config.tls.listen.is_none() {
            warnings.push(format!(
                "{}: clients of other machines send plaintext over the network, without TLS (insecure = true)",
                route.listen
            ));
        }
        if !route.upstream.is_local() && config.tls.upstream.is_none() {
            warnings.push(format!(
                "{}: the connection to MongoDB is without TLS: what is not sealed crosses the network in plain; add [tls.upstream]",
                route.upstream
            ));
        }
    }
    warnings
}
