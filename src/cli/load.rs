//! What commands need of the files that the configuration names.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Failure;
use crate::access::Access;
use crate::code::Code;
use crate::config::{ClientAuth, Config};
use crate::document::nearest;
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
    let schema =
        Schema::load(&config.schema).map_err(|mistakes| Failure::mistakes(Code::Schema, &mistakes));
    let (schema, keyring) = match (schema, open_keyring(config)) {
        (Ok(schema), Ok(keyring)) => (Arc::new(schema), Arc::new(keyring)),
        (Err(schema), Err(keyring)) => return Err(schema.and(keyring)),
        (Err(failure), Ok(_)) | (Ok(_), Err(failure)) => return Err(failure),
    };
    let access = Access::load(&config.access).map_err(|errors| {
        let failure = Failure::of_all(Code::Access, &errors);
        failure.unwrap_or_else(|| Failure::coded(Code::Access, "[access] cannot be put in force"))
    });
    let checks = [
        check_keys(config, &schema, &keyring),
        super::audit::key_of(config, &keyring).map(drop),
        check_commands(config),
        check_roles(config, &schema),
        access.as_ref().map(drop).map_err(Clone::clone),
    ];
    let failures = checks.into_iter().filter_map(Result::err);
    if let Some(failure) = failures.reduce(Failure::and) {
        return Err(failure);
    }
    let access = access?;
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
    let missing = schema
        .key_names()
        .into_iter()
        .filter(|name| keyring.key(name).is_none())
        .map(|name| {
            format!(
                "{}: has no key {name:?}, which the schema names; make it with `fieldseal keys rotate {name}`",
                config.keyring.file.display()
            )
        });
    Failure::of_all(Code::SchemaKey, missing).map_or(Ok(()), Err)
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
    Failure::of_all(Code::Access, mistakes).map_or(Ok(()), Err)
}

/// Every role that the schema names and `[access]` does not.
fn check_roles(config: &Config, schema: &Schema) -> Result<(), Failure> {
    let known: BTreeSet<&str> = config.access.role_names().collect();
    let mut unknown = Vec::new();
    for rule in &schema.rules {
        for field in &rule.fields {
            let names: BTreeSet<&str> = field.access.role_names().collect();
            for name in names.difference(&known) {
                let meant = nearest(name, known.iter().copied());
                let advice = match meant {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => "give it to someone with [[access.principals]]".to_owned(),
                };
                unknown.push(format!(
                    "{}: {}: `{}` names the role {name:?}, which [access] does not have; {advice}",
                    config.schema.display(),
                    rule.pattern,
                    field.path
                ));
            }
        }
    }
    Failure::of_all(Code::SchemaRole, unknown).map_or(Ok(()), Err)
}

/// Roles and credentials that have no effect, as a misspelt one has none.
pub(super) fn access_warnings(config: &Config, schema: &Schema) -> Vec<String> {
    let access = &config.access;
    let mut warnings = Vec::new();
    let bound: BTreeSet<&str> = (access.principals.iter())
        .flat_map(|who| who.roles.iter().map(String::as_str))
        .collect();
    let fields = schema.rules.iter().flat_map(|rule| &rule.fields);
    let mut used: BTreeSet<&str> = fields.flat_map(|field| field.access.role_names()).collect();
    used.extend(access.roles.iter().map(|role| role.name.as_str()));
    for name in used.difference(&bound) {
        warnings.push(format!("access: nobody has the role {name:?}"));
    }
    for name in bound.difference(&used) {
        let advice = match nearest(name, used.iter().copied()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => "no field of the schema names it, nor [access.roles]".to_owned(),
        };
        warnings.push(format!("access: the role {name:?} means nothing; {advice}"));
    }
    let asked = (config.tls.listen.as_ref()).is_some_and(|tls| tls.client_auth != ClientAuth::None);
    let by_certificate = !access.credentials.is_empty()
        || access
            .principals
            .iter()
            .any(|who| who.certificate.is_some());
    if by_certificate && !asked {
        warnings.push(
            "access: names certificates, but clients are not asked for any; \
             set tls.listen.client_ca"
                .to_owned(),
        );
    }
    warnings
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
    let passwords = config.access.credentials.iter();
    for password in passwords.map(|credential| &credential.password) {
        if readable_by_others(password) {
            let file = password.display();
            warnings.push(format!(
                "{file}: others than its owner can read or write this password; run `chmod 600 {file}`"
            ));
        }
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
