#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{ClientConnection, ProtocolVersion, ServerConnection};

use super::*;
use crate::config::IdentityFiles;

/// A directory with an authority, removed when dropped.
struct Place {
    directory: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("fieldseal-tls-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir_all(&directory).unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let place = Self {
            directory,
            authority,
        };
        place.write("ca.pem", &pem("CERTIFICATE", place.authority.der()));
        place
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A certificate for `localhost` with its key, in one file.
    fn identity(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> IdentityFiles {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let text =
            pem("CERTIFICATE", certificate.der()) + &pem("PRIVATE KEY", key.serialized_der());
        let path = self.write(name, &text);
        IdentityFiles {
            cert: path.clone(),
            key: path,
        }
    }

    fn listen(&self, identity: IdentityFiles) -> TlsConfig {
        TlsConfig {
            listen: Some(ListenTls {
                identity,
                client_ca: None,
                client_auth: ClientAuth::None,
                min_version: MinVersion::Tls13,
            }),
            upstream: Some(self.upstream(Vec::new())),
        }
    }

    fn upstream(&self, pins: Vec<crate::config::Pin>) -> UpstreamTls {
        UpstreamTls {
            ca: Some(self.path("ca.pem")),
            identity: None,
            server_name: None,
            pins,
        }
    }
}

fn errors(config: &TlsConfig) -> Vec<String> {
    let errors = Tls::load(config).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

/// A handshake in memory. The server takes the configuration that the client's groups lead to.
fn shake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut &bytes[..]).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut &bytes[..]).unwrap();
        client.process_new_packets()?;
    }
    Ok((client, server))
}

#[test]
fn both_sides_prefer_the_hybrid_key_exchange() {
    let place = Place::new("hybrid");
    let config = place.listen(place.identity("a.pem", |_| {}));
    let tls = Tls::load(&config).unwrap();
    let (listen, upstream) = (tls.listen().unwrap(), tls.upstream().unwrap());
    for server in [&listen.any, &listen.hybrid] {
        let (client, server) = shake(Arc::clone(&upstream.config), Arc::clone(server)).unwrap();
        for connection in [
            client.negotiated_key_exchange_group().unwrap().name(),
            server.negotiated_key_exchange_group().unwrap().name(),
        ] {
            assert_eq!(connection, NamedGroup::X25519MLKEM768);
        }
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    }
}

#[test]
fn a_client_that_knows_the_hybrid_key_exchange_gets_it_though_it_likes_another_more() {
    let place = Place::new("order");
    let tls = Tls::load(&place.listen(place.identity("a.pem", |_| {}))).unwrap();
    let listen = tls.listen().unwrap();
    let mut groups = provider().kx_groups;
    let chosen = |groups: Vec<_>, versions| {
        let provider = CryptoProvider {
            kx_groups: groups,
            ..provider()
        };
        let roots = files::authorities(&place.path("ca.pem")).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config.clone()), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut &bytes[..]).unwrap();
        let accepted = acceptor.accept().ok().unwrap().unwrap();
        let server = listen.config_for(&accepted.client_hello());
        let (client, _) = shake(Arc::new(config), server)?;
        Ok::<_, rustls::Error>(client.negotiated_key_exchange_group().unwrap().name())
    };
    groups.reverse();
    let hybrid = NamedGroup::X25519MLKEM768;
    assert_eq!(chosen(groups.clone(), NEWEST).unwrap(), hybrid);
    // Without it another one serves.
    groups.retain(|group| group.name() != hybrid);
    assert_eq!(chosen(groups, NEWEST).unwrap(), NamedGroup::secp384r1);
    // A client of TLS 1.2 is not held to what that does not have.
    let error = chosen(provider().kx_groups, &[&version::TLS12]).unwrap_err();
    assert!(
        !matches!(
            error,
            rustls::Error::PeerIncompatible(rustls::PeerIncompatible::NoKxGroupsInCommon)
        ),
        "{error:?}"
    );
}

#[test]
fn a_pin_is_asked_for_beside_the_authority_and_the_name() {
    let place = Place::new("pins");
    let identity = place.identity("a.pem", |_| {});
    let chain = files::certificates(&identity.cert).unwrap();
    let right = pins::pin_of(&chain[0]).unwrap();
    let other = files::certificates(&place.identity("b.pem", |_| {}).cert).unwrap();
    let wrong = pins::pin_of(&other[0]).unwrap();
    let mut config = place.listen(identity);
    let mut attempt = |pins: Vec<_>, ca: &Place| {
        config.upstream = Some(ca.upstream(pins));
        let tls = Tls::load(&config).unwrap();
        let upstream = tls.upstream().unwrap();
        let listen = tls.listen().unwrap();
        shake(Arc::clone(&upstream.config), Arc::clone(&listen.any)).map(|_| ())
    };
    attempt(vec![wrong, right], &place).unwrap();
    let error = attempt(vec![wrong], &place).unwrap_err();
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = error else {
        panic!("{error:?}");
    };
    let said = other.0.downcast_ref::<WrongPin>().unwrap().to_string();
    assert!(said.contains(&right.to_string()), "{said}");
    // The right key does not make up for an authority that did not sign it.
    let stranger = Place::new("pins-stranger");
    let error = attempt(vec![right], &stranger).unwrap_err();
    assert!(
        matches!(
            error,
            rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)
        ),
        "{error:?}"
    );
}

#[test]
fn a_pin_is_what_openssl_makes_of_the_public_key() {
    // openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64
    let der = STANDARD
        .decode(include_str!("tests/pinned.b64").replace('\n', ""))
        .unwrap();
    let pin = pins::pin_of(&der.into()).unwrap();
    assert_eq!(pin.to_string(), include_str!("tests/pinned.pin").trim());
}

#[test]
fn an_expired_certificate_is_told_with_its_date() {
    let place = Place::new("expired");
    let old = place.identity("old.pem", |params| {
        params.not_after = date_time_ymd(2020, 3, 1);
    });
    let found = errors(&place.listen(old));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("old.pem: the certificate ended on 2020-03-01"));
    let early = place.identity("early.pem", |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let found = errors(&place.listen(early));
    assert!(found[0].contains("begins on 4000-01-01 only"), "{found:?}");
}

#[test]
fn a_key_of_another_certificate_is_told() {
    let place = Place::new("mixed");
    let files = IdentityFiles {
        cert: place.identity("a.pem", |_| {}).cert,
        key: place.identity("b.pem", |_| {}).key,
    };
    let found = errors(&place.listen(files));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("b.pem: is not the key of the certificate in"));
    assert!(found[0].ends_with("a.pem"), "{found:?}");
}

#[test]
fn all_files_that_are_wrong_are_told_together() {
    let place = Place::new("wrong");
    let key_only = place.write("key.pem", &pem("PRIVATE KEY", b"not a key"));
    let mut config = place.listen(IdentityFiles {
        cert: key_only.clone(),
        key: key_only,
    });
    config.upstream = Some(UpstreamTls {
        ca: Some(place.path("none.pem")),
        identity: Some(IdentityFiles {
            cert: place.path("ca.pem"),
            key: place.path("ca.pem"),
        }),
        server_name: None,
        pins: Vec::new(),
    });
    let found = errors(&config);
    let parts = [
        "key.pem: holds no certificate",
        "none.pem: cannot be read",
        "ca.pem: holds no private key",
    ];
    assert_eq!(found.len(), parts.len(), "{found:?}");
    for part in parts {
        assert!(
            found.iter().any(|line| line.contains(part)),
            "{part}: {found:?}"
        );
    }
    // What is in a key file is never told.
    assert!(!found.concat().contains("not a key"), "{found:?}");
}

#[test]
fn an_authority_whose_time_is_over_is_told_unless_another_one_is_beside_it() {
    let place = Place::new("authorities");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().unwrap();
    let old = pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
    let path = place.write("old.pem", &old);
    let error = files::authorities(&path).unwrap_err().to_string();
    assert!(error.contains("the last on 2021-01-01"), "{error}");
    let both = old + &fs::read_to_string(place.path("ca.pem")).unwrap();
    let path = place.write("both.pem", &both);
    assert_eq!(files::authorities(&path).unwrap().len(), 2);
}

#[test]
fn a_private_key_that_others_can_read_is_warned_of() {
    let place = Place::new("mode");
    let identity = place.identity("a.pem", |_| {});
    let config = place.listen(identity.clone());
    assert!(warnings(&config).is_empty());
    fs::set_permissions(&identity.key, fs::Permissions::from_mode(0o640)).unwrap();
    let found = warnings(&config);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("run `chmod 600"), "{found:?}");
}

#[test]
fn without_an_authority_of_ones_own_mozillas_are_trusted() {
    let config = TlsConfig {
        listen: None,
        upstream: Some(UpstreamTls {
            ca: None,
            identity: None,
            server_name: None,
            pins: Vec::new(),
        }),
    };
    let tls = Tls::load(&config).unwrap();
    assert!(tls.listen().is_none() && tls.upstream().is_some());
    assert!(Tls::default().upstream().is_none());
}

#[test]
fn the_name_to_check_is_the_host_of_the_route_unless_another_is_given() {
    let place = Place::new("names");
    let mut upstream = place.upstream(Vec::new());
    let name = |config: &UpstreamTls, address: &str| {
        let made = upstream_side(config, &mut Found::new()).unwrap();
        made.name_of(&address.parse().unwrap())
            .map(|name| name.to_str().into_owned())
    };
    assert_eq!(
        name(&upstream, "db.example:27017").as_deref(),
        Some("db.example")
    );
    assert_eq!(name(&upstream, "[::1]:27017").as_deref(), Some("::1"));
    assert_eq!(name(&upstream, "unix:/x"), None);
    upstream.server_name = Some(ServerName::try_from("other").unwrap());
    assert_eq!(
        name(&upstream, "db.example:27017").as_deref(),
        Some("other")
    );
    assert!(Path::new(&place.directory).exists());
}
