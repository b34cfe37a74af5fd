//! `[admin]`: where operators look.

use super::load::Checker;
use super::tls::IdentityFiles;
use super::{Address, Config};
use crate::document::{Keys, Node, Place};
use crate::keyring::UnsealSource;

const ADMIN: Keys = Keys {
    of: "`admin`",
    known: &["listen", "cert", "key", "token", "insecure", "database"],
    later: &[],
};

/// The listener of operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens.
    pub listen: Address,
    /// Its certificate; none means without TLS.
    pub identity: Option<IdentityFiles>,
    /// Where the token is that requests have to bear; none means that they need none.
    pub token: Option<UnsealSource>,
    /// Whether other machines may connect without TLS and token.
    pub insecure: bool,
    /// Where the connection string is by which jobs and stored documents are looked at; none
    /// means that they are not.
    pub database: Option<UnsealSource>,
}

impl Checker {
    pub(super) fn admin(&mut self, place: &Place, node: &Node) -> Option<AdminConfig> {
        let table = self.reader.table(place, node, &ADMIN);
        let listen =
            (self.required(place, table, "listen")).and_then(|(at, node)| self.address(&at, node));
        let (cert, key) = (table.entry(place, "cert"), table.entry(place, "key"));
        if let (None, Some((at, _))) = (&cert, &key) {
            self.reader
                .mistake(at, "needs `cert`, the certificate of this key");
        }
        let has_cert = cert.is_some();
        let identity = self.identity(cert, key);
        let token = table.entry(place, "token");
        let has_token = token.is_some();
        let token = token.and_then(|(at, node)| self.secret(&at, node));
        let insecure = (table.entry(place, "insecure"))
            .and_then(|(at, node)| self.reader.boolean(&at, node))
            .unwrap_or(false);
        let database =
            (table.entry(place, "database")).and_then(|(at, node)| self.secret(&at, node));
        let listen = listen?;
        if !(listen.is_local() || insecure || (has_cert && has_token)) {
            let what = "other machines can reach it: give it `cert` and `token`, listen on loopback or a unix socket, or say `insecure = true`";
            self.reader
                .mistake(place, format_args!("listens on {listen}: {what}"));
        }
        Some(AdminConfig {
            listen,
            identity,
            token,
            insecure,
            database,
        })
    }
}

impl Config {
    /// Whether anything needs what the proxy counts and times.
    pub fn is_observed(&self) -> bool {
        self.admin.is_some() || self.log.slow.is_some() || self.telemetry.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use super::*;
    use crate::config::ConfigErrors;

    fn parse(admin: &str) -> Result<Config, ConfigErrors> {
        let text = format!(
            "schema = \"s.toml\"\n[keyring]\nfile = \"k\"\nunseal = {{ file = \"u\" }}\n\
             [[route]]\nlisten = \"127.0.0.1:1\"\nupstream = \"127.0.0.1:2\"\n{admin}"
        );
        Config::parse(&text, Path::new("/etc/f.toml"), [])
    }

    #[test]
    fn it_needs_an_address_only() {
        assert_eq!(parse("").unwrap().admin, None);
        let admin = parse("[admin]\nlisten = \"127.0.0.1:9117\"").unwrap().admin;
        let admin = admin.unwrap();
        assert_eq!(admin.listen, Address::Tcp("127.0.0.1:9117".to_owned()));
        assert_eq!(
            (admin.identity, admin.token, admin.database),
            (None, None, None)
        );
    }

    #[test]
    fn other_machines_are_let_in_with_tls_and_a_token_only() {
        let open = "[admin]\nlisten = \"0.0.0.0:9117\"\n";
        let cert = "cert = \"c.pem\"\n";
        let token = "token = { env = \"TOKEN\" }\n";
        for wrong in [String::new(), cert.to_owned(), token.to_owned()] {
            let error = parse(&format!("{open}{wrong}")).unwrap_err().to_string();
            assert!(
                error.contains("admin") && error.contains("insecure = true"),
                "{error}"
            );
        }
        let admin = parse(&format!("{open}{cert}{token}"))
            .unwrap()
            .admin
            .unwrap();
        assert_eq!(admin.token, Some(UnsealSource::Env("TOKEN".to_owned())));
        assert_eq!(admin.identity.unwrap().key, Path::new("/etc/c.pem"));
        assert!(parse(&format!("{open}insecure = true")).is_ok());
    }

    #[test]
    fn a_token_in_the_file_itself_is_refused_and_not_repeated() {
        let error = parse("[admin]\nlisten = \"127.0.0.1:1\"\ntoken = \"hunter2\"").unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("admin.token") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
