//! `[tls.listen]` and `[tls.upstream]`.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::rustls::pki_types::ServerName;

use super::address::host_and_port;
use super::load::Checker;
use super::{Address, Route};
use crate::document::{Keys, Node, Place};

const TLS: Keys = Keys {
    of: "`tls`",
    known: &["listen", "upstream"],
    later: &[],
};

const LISTEN: Keys = Keys {
    of: "`tls.listen`",
    known: &["cert", "key", "client_ca", "client_auth", "min_version"],
    later: &[],
};

const UPSTREAM: Keys = Keys {
    of: "`tls.upstream`",
    known: &["ca", "cert", "key", "server_name", "pin_sha256"],
    later: &[],
};

/// Which sides speak TLS, and how.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// Towards clients; none means that they speak without.
    pub listen: Option<ListenTls>,
    /// Towards MongoDB; none means without.
    pub upstream: Option<UpstreamTls>,
}

/// TLS towards clients.
#[derive(Debug, Clone)]
pub struct ListenTls {
    /// The proxy's own certificate.
    pub identity: IdentityFiles,
    /// The authorities of clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
}

/// TLS towards MongoDB.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    /// The authorities of MongoDB's certificates; none means those that Mozilla trusts.
    pub ca: Option<PathBuf>,
    /// The proxy's certificate as MongoDB's client.
    pub identity: Option<IdentityFiles>,
    /// The name in MongoDB's certificate; none means the host of the route.
    pub server_name: Option<ServerName<'static>>,
    /// The keys that MongoDB's certificate may have; empty means any that the authorities sign.
    pub pins: Vec<Pin>,
}

/// The PEM files of a certificate and its key, which may be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, and behind it those up to the authority.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They are asked; a certificate that they show has to be right.
    Optional,
    /// Who shows none is turned away.
    Required,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2, with forward secrecy and AEAD suites only.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// SHA-256 of a certificate's `SubjectPublicKeyInfo`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl TlsConfig {
    /// Every file that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        let listen = self.listen.iter();
        let upstream = self.upstream.iter();
        let identities = listen
            .clone()
            .map(|listen| &listen.identity)
            .chain(upstream.clone().filter_map(|it| it.identity.as_ref()));
        let authorities = listen
            .filter_map(|listen| listen.client_ca.as_ref())
            .chain(upstream.filter_map(|upstream| upstream.ca.as_ref()));
        let mut files: Vec<PathBuf> = identities
            .flat_map(|identity| [&identity.cert, &identity.key])
            .chain(authorities)
            .cloned()
            .collect();
        files.sort();
        files.dedup();
        files
    }
}

impl Checker {
    pub(super) fn tls(&mut self, place: &Place, node: &Node) -> TlsConfig {
        let table = self.reader.table(place, node, &TLS);
        let listen = table.entry(place, "listen");
        let upstream = table.entry(place, "upstream");
        TlsConfig {
            listen: listen.and_then(|(at, node)| self.listen_tls(&at, node)),
            upstream: upstream.and_then(|(at, node)| self.upstream_tls(&at, node)),
        }
    }

    fn listen_tls(&mut self, place: &Place, node: &Node) -> Option<ListenTls> {
        let table = self.reader.table(place, node, &LISTEN);
        let cert = self.required(place, table, "cert");
        let identity = self.identity(cert, table.entry(place, "key"));
        let client_ca = table.entry(place, "client_ca");
        let has_ca = client_ca.is_some();
        let client_ca = client_ca.and_then(|(at, node)| self.path(&at, node));
        let asked = table.entry(place, "client_auth");
        let client_auth = match &asked {
            Some((at, node)) => self.client_auth(at, node),
            // Who names authorities means to ask for what they sign.
            None if has_ca => Some(ClientAuth::Required),
            None => Some(ClientAuth::None),
        };
        if let (Some((at, _)), Some(ClientAuth::Optional | ClientAuth::Required)) =
            (&asked, client_auth)
            && !has_ca
        {
            self.reader.mistake(
                at,
                "needs `client_ca`, a file of the authorities whose certificates clients show",
            );
        }
        let min_version = match table.entry(place, "min_version") {
            Some((at, node)) => match self.reader.word(&at, node, &["1.3", "1.2"])? {
                "1.2" => MinVersion::Tls12,
                _ => MinVersion::Tls13,
            },
            None => MinVersion::Tls13,
        };
        Some(ListenTls {
            identity: identity?,
            client_ca,
            client_auth: client_auth?,
            min_version,
        })
    }

    fn client_auth(&mut self, place: &Place, node: &Node) -> Option<ClientAuth> {
        let words = ["none", "optional", "required"];
        Some(match self.reader.word(place, node, &words)? {
            "none" => ClientAuth::None,
            "optional" => ClientAuth::Optional,
            _ => ClientAuth::Required,
        })
    }

    fn upstream_tls(&mut self, place: &Place, node: &Node) -> Option<UpstreamTls> {
        let table = self.reader.table(place, node, &UPSTREAM);
        let ca = table
            .entry(place, "ca")
            .and_then(|(at, node)| self.path(&at, node));
        let (cert, key) = (table.entry(place, "cert"), table.entry(place, "key"));
        if let (None, Some((at, _))) = (&cert, &key) {
            self.reader
                .mistake(at, "needs `cert`, the certificate of this key");
        }
        let server_name = table
            .entry(place, "server_name")
            .and_then(|(at, node)| self.server_name(&at, node));
        let pins = table
            .entry(place, "pin_sha256")
            .map(|(at, node)| self.pins(&at, node));
        Some(UpstreamTls {
            ca,
            identity: self.identity(cert, key),
            server_name,
            pins: pins.unwrap_or_default(),
        })
    }

    pub(super) fn identity(
        &mut self,
        cert: Option<(Place, &Node)>,
        key: Option<(Place, &Node)>,
    ) -> Option<IdentityFiles> {
        let cert = cert.and_then(|(at, node)| self.path(&at, node));
        let key = match key {
            Some((at, node)) => Some(self.path(&at, node)?),
            // MongoDB's programs keep both in one file, so that may be one here too.
            None => cert.clone(),
        };
        Some(IdentityFiles {
            cert: cert?,
            key: key?,
        })
    }

    fn server_name(&mut self, place: &Place, node: &Node) -> Option<ServerName<'static>> {
        let name = ServerName::try_from(self.reader.name(place, node)?.to_owned());
        if name.is_err() {
            self.reader.mistake(
                place,
                "must be a DNS name or an IP address, as certificates have them, without a port",
            );
        }
        name.ok()
    }

    fn pins(&mut self, place: &Place, node: &Node) -> Vec<Pin> {
        let nodes = self.reader.list(place, node);
        // An empty list could be meant as "none is right".
        if nodes.is_empty() && matches!(node.value, crate::document::Value::List(_)) {
            self.reader
                .mistake(place, "names no pin; leave it out to go by `ca` alone");
        }
        let mut pins = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let at = place.element(index, node);
            let Some(text) = self.reader.text(&at, node) else {
                continue;
            };
            match STANDARD.decode(text).map(<[u8; 32]>::try_from) {
                Ok(Ok(hash)) => pins.push(Pin(hash)),
                _ => self.reader.mistake(
                    &at,
                    "must be SHA-256 of the certificate's public key (SubjectPublicKeyInfo) in base64, 44 characters",
                ),
            }
        }
        pins
    }

    /// Without a `server_name`, each upstream's own host is what its certificate is checked for.
    pub(super) fn names_to_check(&mut self, place: &Place, tls: &TlsConfig, routes: &[Route]) {
        let Some(UpstreamTls {
            server_name: None, ..
        }) = &tls.upstream
        else {
            return;
        };
        for route in routes {
            if matches!(&route.upstream, Address::Tcp(_))
                && server_name_of(&route.upstream).is_none()
            {
                self.reader.mistake(
                    place,
                    format_args!(
                        "needs `server_name`: no certificate can have the host of {}",
                        route.upstream
                    ),
                );
            }
        }
    }
}

/// The host of a TCP address, as a certificate names it.
pub(crate) fn server_name_of(address: &Address) -> Option<ServerName<'static>> {
    let Address::Tcp(text) = address else {
        return None;
    };
    let (host, _) = host_and_port(text)?;
    ServerName::try_from(host.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const ROUTES: &str = r#"
schema = "schema.toml"
[keyring]
file = "keyring.json"
unseal = { env = "X" }
[[route]]
listen = "127.0.0.1:27117"
upstream = "db.example:27017"
"#;

    const PIN: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    fn parse(sections: &str) -> Result<Config, Vec<String>> {
        let text = format!("{ROUTES}{sections}");
        Config::parse(&text, Path::new("/etc/fieldseal/fieldseal.toml"), [])
            .map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
    }

    #[track_caller]
    fn refused(sections: &str, parts: &[&str]) {
        let found = parse(sections).unwrap_err();
        assert_eq!(found.len(), parts.len(), "{found:#?}");
        for part in parts {
            assert!(
                found.iter().any(|mistake| mistake.contains(part)),
                "{part}: {found:#?}"
            );
        }
    }

    #[test]
    fn both_sides_can_be_set_with_paths_from_the_file_on() {
        let config = parse(&format!(
            "[tls.listen]\ncert = \"a.pem\"\nkey = \"a.key\"\nclient_ca = \"ca.pem\"\nmin_version = \"1.2\"\n\
             [tls.upstream]\nca = \"/ca.pem\"\ncert = \"both.pem\"\nserver_name = \"mongo\"\npin_sha256 = [\"{PIN}\"]\n"
        ))
        .unwrap();
        let listen = config.tls.listen.as_ref().unwrap();
        assert_eq!(listen.identity.cert, Path::new("/etc/fieldseal/a.pem"));
        assert_eq!(listen.identity.key, Path::new("/etc/fieldseal/a.key"));
        assert_eq!(listen.client_auth, ClientAuth::Required);
        assert_eq!(listen.min_version, MinVersion::Tls12);
        let upstream = config.tls.upstream.as_ref().unwrap();
        let identity = upstream.identity.as_ref().unwrap();
        assert_eq!(identity.key, Path::new("/etc/fieldseal/both.pem"));
        assert_eq!(upstream.pins[0].to_string(), PIN);
        assert_eq!(config.tls.files().len(), 5);
    }

    #[test]
    fn the_lines_of_the_example_are_right_without_their_hashes() {
        let path = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fieldseal.example.toml"
        ));
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|first: char| first == '[' || first.is_lowercase()) => {
                rest
            }
            _ => line,
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let config = Config::parse(&text, path, []).unwrap();
        let (listen, upstream) = (config.tls.listen.unwrap(), config.tls.upstream.unwrap());
        assert_eq!(listen.min_version, MinVersion::Tls13);
        assert_eq!(listen.client_auth, ClientAuth::Required);
        assert_eq!(upstream.pins.len(), 1);
    }

    #[test]
    fn by_default_clients_show_no_certificate_and_speak_tls_1_3() {
        let config = parse("[tls.listen]\ncert = \"a.pem\"\n[tls.upstream]\n").unwrap();
        let listen = config.tls.listen.unwrap();
        assert_eq!(listen.client_auth, ClientAuth::None);
        assert_eq!(listen.min_version, MinVersion::Tls13);
        assert!(config.tls.upstream.is_some());
        assert!(parse("").unwrap().tls.upstream.is_none());
    }

    #[test]
    fn mistakes_are_named_together_with_their_lines() {
        refused(
            "[tls.listen]\nclient_auth = \"requird\"\nclient_au = \"none\"\nmin_version = \"1.1\"\n\
             [tls.upstream]\nkey = \"k\"\nserver_name = \"a b\"\npin_sha256 = [\"abc\"]\n[tls.both]\n",
            &[
                ":9: tls.listen: `cert` is missing",
                ":10: tls.listen.client_auth: unknown word \"requird\"; did you mean \"required\"?",
                ":11: tls.listen.client_au: unknown key",
                ":12: tls.listen.min_version: unknown word",
                ":14: tls.upstream.key: needs `cert`",
                ":15: tls.upstream.server_name: must be a DNS name",
                ":16: tls.upstream.pin_sha256[0]: must be SHA-256",
                ":17: tls.both: unknown key",
            ],
        );
    }

    #[test]
    fn certificates_of_clients_need_an_authority() {
        for word in ["optional", "required"] {
            refused(
                &format!("[tls.listen]\ncert = \"a\"\nclient_auth = \"{word}\"\n"),
                &[":11: tls.listen.client_auth: needs `client_ca`"],
            );
        }
    }

    #[test]
    fn an_empty_list_of_pins_is_a_mistake_and_not_any_pin() {
        refused(
            "[tls.upstream]\npin_sha256 = []\n",
            &[":10: tls.upstream.pin_sha256: names no pin"],
        );
    }

    #[test]
    fn with_tls_other_machines_may_connect() {
        let text = ROUTES.replace("127.0.0.1:27117", "0.0.0.0:27117");
        let file = Path::new("fieldseal.toml");
        let with = |more: &str| Config::parse(&format!("{text}{more}"), file, []);
        assert!(with("[tls.listen]\ncert = \"a.pem\"\n").is_ok());
        let upstream_only = with("[tls.upstream]\n").unwrap_err().to_string();
        assert!(upstream_only.contains("[tls.listen]"), "{upstream_only}");
    }

    #[test]
    fn a_host_that_no_certificate_can_name_needs_a_server_name() {
        let text = ROUTES.replace("db.example", "db-.example");
        let file = Path::new("fieldseal.toml");
        let with = |more: &str| Config::parse(&format!("{text}{more}"), file, []);
        let error = with("[tls.upstream]\n").unwrap_err().to_string();
        assert!(error.contains("server_name"), "{error}");
        assert!(with("[tls.upstream]\nserver_name = \"db\"\n").is_ok());
    }
}
