//! Who may connect, and which roles they have.

mod credential;
mod principal;
mod role;
pub mod scram;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use credential::{Credential, PasswordError};
pub use principal::Principal;
pub use role::{CommandRules, RoleSet, TooManyRoles};

use crate::config::{AccessConfig, JavaScript, PrincipalRule};
use crate::tls::ClientCertificate;

/// The `[access]` of the configuration, compiled. It belongs to a policy: the numbers of
/// its roles mean nothing to another one.
#[derive(Debug, Default)]
pub struct Access {
    /// The names of the roles; a role's number is its place.
    roles: Arc<[String]>,
    /// Which commands those who have each of the roles may send.
    commands: Vec<CommandRules>,
    bindings: Vec<Binding>,
    allow: Vec<IpNet>,
    javascript: JavaScript,
    /// In the order of the file.
    credentials: Vec<Arc<Credential>>,
}

/// Why an `[access]` cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There are too many roles.
    #[error("access.roles: {0}")]
    Roles(#[from] TooManyRoles),
    /// The password of a credential, by its number.
    #[error("access.credential[{0}]: {1}")]
    Password(usize, PasswordError),
}

/// Whoever all that is given here holds of has these roles.
#[derive(Debug)]
struct Binding {
    who: PrincipalRule,
    roles: RoleSet,
}

impl Access {
    /// Compiles the `[access]` of a configuration, and reads the passwords that it names;
    /// all that is wrong is reported.
    pub fn load(config: &AccessConfig) -> Result<Self, Vec<AccessError>> {
        let mut credentials = Vec::new();
        let mut errors = Vec::new();
        for (number, credential) in config.credentials.iter().enumerate() {
            match Credential::read(credential) {
                Ok(credential) => credentials.push(Arc::new(credential)),
                Err(error) => errors.push(AccessError::Password(number, error)),
            }
        }
        match Self::compile(config) {
            Ok(access) if errors.is_empty() => Ok(Self {
                credentials,
                ..access
            }),
            Ok(_) => Err(errors),
            Err(error) => {
                errors.push(error.into());
                Err(errors)
            }
        }
    }

    /// Compiles the `[access]` of a configuration, but for its credentials.
    pub fn compile(config: &AccessConfig) -> Result<Self, TooManyRoles> {
        let mut roles: Vec<String> = config.role_names().map(str::to_owned).collect();
        roles.sort_unstable();
        roles.dedup();
        let mut access = Self {
            commands: vec![CommandRules::default(); roles.len()],
            roles: roles.into(),
            bindings: Vec::new(),
            allow: config.allow.clone(),
            javascript: config.javascript,
            credentials: Vec::new(),
        };
        for rule in &config.roles {
            if let Some(number) = access.number(&rule.name)
                && let Some(commands) = access.commands.get_mut(number)
            {
                *commands = CommandRules {
                    allow: rule.allow_commands.clone(),
                    deny: rule.deny_commands.clone(),
                };
            }
        }
        for who in &config.principals {
            let mut roles = RoleSet::NONE;
            for name in &who.roles {
                if let Some(number) = access.number(name) {
                    roles = roles.union(RoleSet::of(number)?);
                }
            }
            access.bindings.push(Binding {
                who: who.clone(),
                roles,
            });
        }
        Ok(access)
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.roles.iter().position(|known| known == name)
    }

    /// The names of all roles, sorted.
    pub fn role_names(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(String::as_str)
    }

    /// The set that holds this role alone; none if there is no such role.
    pub fn role(&self, name: &str) -> Option<RoleSet> {
        RoleSet::of(self.number(name)?).ok()
    }

    /// The names of all roles, each at the place of its number. They outlive the rest without
    /// keeping a credential.
    pub fn numbered_roles(&self) -> &Arc<[String]> {
        &self.roles
    }

    /// The names of the roles in a set.
    pub fn names_of(&self, roles: RoleSet) -> impl Iterator<Item = &str> {
        roles.names(&self.roles)
    }

    /// The roles of a principal: those of every binding that fits it.
    pub fn roles_of(&self, principal: &Principal) -> RoleSet {
        let fits = |binding: &&Binding| principal.fits(&binding.who);
        let roles = self.bindings.iter().filter(fits);
        roles.fold(RoleSet::NONE, |all, binding| all.union(binding.roles))
    }

    /// Which commands may be sent by those who have these roles.
    pub fn commands_of(&self, roles: RoleSet) -> CommandRules {
        let held = |number: usize| RoleSet::of(number).is_ok_and(|role| roles.meets(role));
        let all = self.commands.iter().enumerate();
        let mut rules = CommandRules::default();
        for (_, commands) in all.filter(|(number, _)| held(*number)) {
            rules.join(commands);
        }
        rules
    }

    /// Whether MongoDB may be given JavaScript to run.
    pub fn javascript(&self) -> JavaScript {
        self.javascript
    }

    /// Whether clients may connect from this address.
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&address))
    }

    /// With what to log in at MongoDB for clients that show this certificate: the first in
    /// the file that fits.
    pub fn credential_for(&self, certificate: &ClientCertificate) -> Option<&Arc<Credential>> {
        let mut credentials = self.credentials.iter();
        credentials.find(|credential| credential.fits(certificate))
    }
}

#[cfg(test)]
mod tests;
