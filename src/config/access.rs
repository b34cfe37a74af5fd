//! `[access]`: who may connect, and which roles they have.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ipnet::IpNet;

use super::load::Checker;
use crate::document::{Keys, Node, Place, Table, Value};

const ACCESS: Keys = Keys {
    of: "`access`",
    known: &["allow", "javascript", "roles", "principals", "credential"],
    later: &[],
};

const ROLE: Keys = Keys {
    of: "a role",
    known: &["allow_commands", "deny_commands"],
    later: &[],
};

const PRINCIPAL: Keys = Keys {
    of: "a principal",
    known: &["user", "certificate", "address", "roles"],
    later: &[],
};

const CREDENTIAL: Keys = Keys {
    of: "a credential",
    known: &["certificate", "user", "password"],
    later: &[],
};

const PASSWORD: Keys = Keys {
    of: "`password`",
    known: &["file"],
    later: &[],
};

/// Whether MongoDB may be given JavaScript to run: `$where`, `$function`, `$accumulator`, mapReduce.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JavaScript {
    /// It is refused.
    #[default]
    Deny,
    /// It may, where no sealed field is concerned.
    Allow,
}

/// Who may connect, and which roles they have.
#[derive(Debug, Clone, Default)]
pub struct AccessConfig {
    /// The networks that clients may connect from; empty means all.
    pub allow: Vec<IpNet>,
    /// Whether MongoDB may be given JavaScript to run.
    pub javascript: JavaScript,
    /// What the holders of each role may send.
    pub roles: Vec<RoleRule>,
    /// Who has which roles.
    pub principals: Vec<PrincipalRule>,
    /// With what the proxy logs in at MongoDB for clients that show a certificate.
    pub credentials: Vec<Credential>,
}

/// What the holders of a role may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRule {
    /// The role.
    pub name: String,
    /// The only commands that they may send, in lower case, if given.
    pub allow_commands: Option<BTreeSet<String>>,
    /// The commands that they may not send, in lower case.
    pub deny_commands: BTreeSet<String>,
}

/// Whoever all that is given holds of has these roles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrincipalRule {
    /// `user@db`, as MongoDB let it in.
    pub user: Option<String>,
    /// The subject of the client's certificate, or one of its alternative names.
    pub certificate: Option<String>,
    /// The network that it connects from.
    pub address: Option<IpNet>,
    /// The names of its roles.
    pub roles: Vec<String>,
}

/// A login at MongoDB for clients that show a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The subject of the certificate, or one of its alternative names.
    pub certificate: String,
    /// The user's name at MongoDB.
    pub user: String,
    /// The database that the user was made in.
    pub database: String,
    /// The file that holds the password.
    pub password: PathBuf,
}

impl AccessConfig {
    /// The names of all roles, some of them more than once.
    pub fn role_names(&self) -> impl Iterator<Item = &str> {
        let ruled = self.roles.iter().map(|role| role.name.as_str());
        let bound = self.principals.iter().flat_map(|who| &who.roles);
        ruled.chain(bound.map(String::as_str))
    }
}

impl Checker {
    pub(super) fn access(&mut self, place: &Place, node: &Node) -> AccessConfig {
        let table = self.reader.table(place, node, &ACCESS);
        let allow = self.each(place, table, "allow", Self::network);
        let javascript = table.entry(place, "javascript").and_then(|(at, node)| {
            let word = self.reader.word(&at, node, &["deny", "allow"])?;
            Some(if word == "allow" {
                JavaScript::Allow
            } else {
                JavaScript::Deny
            })
        });
        let mut roles = Vec::new();
        if let Some((at, node)) = table.entry(place, "roles") {
            for entry in self.reader.entries(&at, node) {
                let role = self.role(&at.of(entry), &entry.key, &entry.node);
                roles.push(role);
            }
        }
        // The tables of a document come in no order.
        roles.sort_unstable_by(|one: &RoleRule, other| one.name.cmp(&other.name));
        let principals = self.each(place, table, "principals", Self::principal);
        self.once(place, table, "principals", &principals, "leave one out");
        let credentials = self.each(place, table, "credential", Self::credential);
        let named: Vec<_> = credentials.iter().map(|one| &one.certificate).collect();
        self.once(
            place,
            table,
            "credential",
            &named,
            "a certificate has one credential",
        );
        AccessConfig {
            allow,
            javascript: javascript.unwrap_or_default(),
            roles,
            principals,
            credentials,
        }
    }

    /// The elements of a list, those that are right.
    fn each<T>(
        &mut self,
        place: &Place,
        table: Table<'_>,
        key: &str,
        read: impl Fn(&mut Self, &Place, &Node) -> Option<T>,
    ) -> Vec<T> {
        let Some((at, node)) = table.entry(place, key) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (index, node) in self.reader.list(&at, node).iter().enumerate() {
            all.extend(read(self, &at.element(index, node), node));
        }
        all
    }

    /// Notes the elements of a list that are the same as an earlier one. Elements that are
    /// wrong by themselves are not among those that were read.
    fn once<T: PartialEq>(
        &mut self,
        place: &Place,
        table: Table<'_>,
        key: &str,
        all: &[T],
        advice: &str,
    ) {
        let Some((at, node)) = table.entry(place, key) else {
            return;
        };
        let Value::List(nodes) = &node.value else {
            return;
        };
        if nodes.len() != all.len() {
            return;
        }
        for (index, (one, node)) in all.iter().zip(nodes).enumerate() {
            let Some(first) = all.iter().take(index).position(|other| other == one) else {
                continue;
            };
            let what = format_args!("is for the same as {key}[{first}]; {advice}");
            self.reader.mistake(&at.element(index, node), what);
        }
    }

    /// A network such as `10.0.0.0/8`, or one address.
    fn network(&mut self, place: &Place, node: &Node) -> Option<IpNet> {
        let text = self.reader.text(place, node)?;
        let one = |text: &str| text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        let network = text.parse::<IpNet>().ok().or_else(|| one(text));
        match network {
            None => {
                let what =
                    "must be a network, such as \"10.0.0.0/8\" or \"fd00::/8\", or one address";
                self.reader.mistake(place, what);
            }
            // Clients are looked up by the address within.
            Some(IpNet::V6(mapped)) if mapped.addr().to_ipv4_mapped().is_some() => {
                let what = "is an IPv4 network in the form of IPv6; write it as IPv4";
                self.reader.mistake(place, what);
            }
            Some(network) if network.addr() != network.network() => {
                let what = format_args!("has bits beyond its prefix; say \"{}\"", network.trunc());
                self.reader.mistake(place, what);
            }
            Some(_) => {}
        }
        network
    }

    fn role(&mut self, place: &Place, name: &str, node: &Node) -> RoleRule {
        self.role_name(place, name);
        let table = self.reader.table(place, node, &ROLE);
        let allow = table.entry(place, "allow_commands").is_some();
        let mut commands = |key| -> BTreeSet<String> {
            let names = self.each(place, table, key, Self::command);
            names.into_iter().collect()
        };
        let (allowed, deny) = (commands("allow_commands"), commands("deny_commands"));
        RoleRule {
            name: name.to_owned(),
            allow_commands: allow.then_some(allowed),
            deny_commands: deny,
        }
    }

    /// MongoDB has some commands in two spellings that differ in case alone.
    fn command(&mut self, place: &Place, node: &Node) -> Option<String> {
        let name = self.reader.name(place, node)?;
        Some(name.to_ascii_lowercase())
    }

    fn role_name(&mut self, place: &Place, name: &str) {
        if let Some(what) = crate::keyring::name_mistake(name) {
            self.reader.mistake(place, what);
        }
    }

    fn principal(&mut self, place: &Place, node: &Node) -> Option<PrincipalRule> {
        let table = self.reader.table(place, node, &PRINCIPAL);
        let user = table.entry(place, "user").and_then(|(at, node)| {
            let user = self.reader.name(&at, node)?;
            self.user(&at, user)?;
            Some(user.to_owned())
        });
        let certificate = table
            .entry(place, "certificate")
            .and_then(|(at, node)| Some(self.reader.name(&at, node)?.to_owned()));
        let address = table
            .entry(place, "address")
            .and_then(|(at, node)| self.network(&at, node));
        let roles = self.each(place, table, "roles", |checker, at, node| {
            let name = checker.reader.name(at, node)?;
            checker.role_name(at, name);
            Some(name.to_owned())
        });
        if let Some((at, node)) = self.required(place, table, "roles") {
            if matches!(&node.value, Value::List(names) if names.is_empty()) {
                self.reader.mistake(&at, "must name at least one role");
            }
            self.once(place, table, "roles", &roles, "name it once");
        }
        Some(PrincipalRule {
            user,
            certificate,
            address,
            roles,
        })
    }

    /// The two parts of `user@db`; the last `@` parts them.
    fn user<'t>(&mut self, place: &Place, text: &'t str) -> Option<(&'t str, &'t str)> {
        let parts = text.rsplit_once('@');
        let parts = parts.filter(|(user, database)| !user.is_empty() && !database.is_empty());
        if parts.is_none() {
            let what = "must be `user@db`, with the database that the user was made in";
            self.reader.mistake(place, what);
        }
        parts
    }

    fn credential(&mut self, place: &Place, node: &Node) -> Option<Credential> {
        let table = self.reader.table(place, node, &CREDENTIAL);
        let certificate = (self.required(place, table, "certificate"))
            .and_then(|(at, node)| Some(self.reader.name(&at, node)?.to_owned()));
        let user = self.required(place, table, "user").and_then(|(at, node)| {
            let text = self.reader.name(&at, node)?;
            let (user, database) = self.user(&at, text)?;
            Some((user.to_owned(), database.to_owned()))
        });
        let password = (self.required(place, table, "password"))
            .and_then(|(at, node)| self.password(&at, node));
        let (user, database) = user?;
        Some(Credential {
            certificate: certificate?,
            user,
            database,
            password: password?,
        })
    }

    /// Someone may write the password itself here: it is not repeated.
    fn password(&mut self, place: &Place, node: &Node) -> Option<PathBuf> {
        if !matches!(node.value, Value::Table(_)) {
            let what = format_args!("must be {{ file = \"…\" }}, not {}", node.value.kind());
            self.reader.mistake(place, what);
            return None;
        }
        let table = self.reader.table(place, node, &PASSWORD);
        let (at, node) = self.required(place, table, "file")?;
        self.path(&at, node)
    }
}

#[cfg(test)]
mod tests;
