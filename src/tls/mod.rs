//! TLS towards clients and towards MongoDB: certificates, keys, authorities and pins, loaded as
//! one and put in force as one. Who speaks it over a socket is in `proxy`.

mod certificate;
mod files;
mod name;
mod pins;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    ClientConfig, NamedGroup, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion, version,
};
use tokio_rustls::rustls;

use self::certificate::{Certificate, Moment};
use self::files::{Fault, Found, at, note};
use self::pins::Pinned;
use crate::config::{
    Address, ClientAuth, IdentityFiles, ListenTls, MinVersion, TlsConfig, UpstreamTls,
    server_name_of,
};
use crate::keyring::readable_by_others;

pub use self::certificate::{AlternativeName, ClientCertificate, MalformedCertificate};
pub use self::files::TlsError;
pub(crate) use self::pins::WrongPin;

/// The TLS in force. A connection stays with what it began with.
pub type TlsCell = Arc<ArcSwap<Tls>>;

/// A certificate with fewer days left is warned of.
const DAYS_LEFT: i64 = 21;

/// Both sides, ready for use. The default is without TLS on either.
#[derive(Debug, Default)]
pub struct Tls {
    listen: Option<Arc<Listen>>,
    upstream: Option<Arc<Upstream>>,
    ends: Vec<(&'static str, SystemTime)>,
}

/// TLS towards clients.
#[derive(Debug)]
pub(crate) struct Listen {
    any: Arc<ServerConfig>,
    /// For clients that can: with a key exchange that a quantum computer does not break.
    hybrid: Arc<ServerConfig>,
}

/// TLS towards MongoDB.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl Tls {
    /// Loads every file that `config` names; all that is wrong is reported together.
    pub fn load(config: &TlsConfig) -> Result<Self, Vec<TlsError>> {
        let mut found = Found::new();
        let listen = config.listen.as_ref();
        let listen = listen.map(|config| listen_side(config, &mut found));
        let upstream = config.upstream.as_ref();
        let upstream = upstream.map(|config| upstream_side(config, &mut found));
        // A side that could not be made has said why; it is never taken for one without TLS.
        match (listen, upstream) {
            (Some(None), _) | (_, Some(None)) => Err(found),
            _ if !found.is_empty() => Err(found),
            (listen, upstream) => Ok(Self {
                listen: listen.flatten().map(Arc::new),
                upstream: upstream.flatten().map(Arc::new),
                ends: ends_of(config),
            }),
        }
    }

    /// Until when the proxy's own certificates hold: `listen` and `upstream`, as far as they
    /// are used.
    pub fn ends(&self) -> &[(&'static str, SystemTime)] {
        &self.ends
    }

    /// In a cell, to be exchanged while the proxy runs.
    pub fn into_cell(self) -> TlsCell {
        Arc::new(ArcSwap::from_pointee(self))
    }

    /// Whether either side speaks it.
    pub fn is_used(&self) -> bool {
        self.listen.is_some() || self.upstream.is_some()
    }

    pub(crate) fn listen(&self) -> Option<Arc<Listen>> {
        self.listen.clone()
    }

    pub(crate) fn upstream(&self) -> Option<Arc<Upstream>> {
        self.upstream.clone()
    }
}

impl Listen {
    /// What to speak with a client that said this.
    pub(crate) fn config_for(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let groups = hello.named_groups().unwrap_or_default();
        let hybrid = groups.contains(&NamedGroup::X25519MLKEM768);
        // Only TLS 1.3 has it.
        let is_tls13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
        let suites = self.hybrid.crypto_provider().cipher_suites.iter();
        let newest = suites
            .filter(|suite| is_tls13(suite))
            .any(|suite| hello.cipher_suites().contains(&suite.suite()));
        Arc::clone(if hybrid && newest {
            &self.hybrid
        } else {
            &self.any
        })
    }
}

/// TLS 1.3 towards operators, who show no certificate, and until when the certificate holds.
pub(crate) fn for_operators(
    identity: &IdentityFiles,
) -> Result<(Arc<ServerConfig>, Option<SystemTime>), Vec<TlsError>> {
    let mut found = Found::new();
    let config = ListenTls {
        identity: identity.clone(),
        client_ca: None,
        client_auth: ClientAuth::None,
        min_version: MinVersion::Tls13,
    };
    let made = listen_side(&config, &mut found);
    let made = made.filter(|_| found.is_empty()).ok_or(found)?;
    Ok((made.any, end_of(identity)))
}

/// When the first certificate of a file ends.
fn end_of(files: &IdentityFiles) -> Option<SystemTime> {
    let chain = files::certificates(&files.cert).unwrap_or_default();
    let ends = chain.iter().filter_map(|certificate| {
        let certificate = Certificate::read(certificate).ok()?;
        Some(certificate.not_after)
    });
    ends.min().map(Moment::time)
}

fn ends_of(config: &TlsConfig) -> Vec<(&'static str, SystemTime)> {
    let listen = config.listen.as_ref().map(|listen| &listen.identity);
    let upstream = config.upstream.as_ref();
    let upstream = upstream.and_then(|upstream| upstream.identity.as_ref());
    let sides = [("listen", listen), ("upstream", upstream)];
    let ends = sides.into_iter();
    ends.filter_map(|(side, files)| Some((side, end_of(files?)?)))
        .collect()
}

impl Upstream {
    /// The name that the certificate of `address` has to have.
    pub(crate) fn name_of(&self, address: &Address) -> Option<ServerName<'static>> {
        self.name.clone().or_else(|| server_name_of(address))
    }
}

/// The primitives of aws-lc-rs, the hybrid key exchange first.
fn provider() -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    CryptoProvider {
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    }
}

fn hybrid_provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768],
        ..aws_lc_rs::default_provider()
    }
}

const NEWEST: &[&SupportedProtocolVersion] = &[&version::TLS13];
const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

fn listen_side(config: &ListenTls, found: &mut Found) -> Option<Listen> {
    let provider = Arc::new(provider());
    let identity = files::identity(&config.identity, &provider, found);
    let authorities = match (&config.client_ca, config.client_auth) {
        (Some(path), ClientAuth::Optional | ClientAuth::Required) => {
            let roots = note(files::authorities(path), found)?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let verifier = match config.client_auth {
                ClientAuth::Optional => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            Some(verifier.build().map_err(|error| {
                let error = rustls::Error::General(error.to_string());
                found.push(at(path, Fault::Unusable(error)));
            }))
        }
        _ => None,
    };
    let verifier = match authorities {
        Some(verifier) => verifier.ok()?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let resolver = Arc::new(SingleCertAndKey::from(identity?));
    let versions = match config.min_version {
        MinVersion::Tls12 => BOTH,
        MinVersion::Tls13 => NEWEST,
    };
    let mut make = |provider, versions| {
        let made = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| at(&config.identity.cert, Fault::Unusable(error)));
        let mut made = note(made, found)?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_cert_resolver(Arc::clone(&resolver) as _);
        // A session that is resumed is not verified again, so that a certificate could
        // outlive its time or its authority.
        made.session_storage = Arc::new(NoServerSessionStorage {});
        made.send_tls13_tickets = 0;
        Some(Arc::new(made))
    };
    Some(Listen {
        any: make(provider, versions)?,
        hybrid: make(Arc::new(hybrid_provider()), NEWEST)?,
    })
}

fn upstream_side(config: &UpstreamTls, found: &mut Found) -> Option<Upstream> {
    let provider = Arc::new(provider());
    let identity = config
        .identity
        .as_ref()
        .map(|files| files::identity(files, &provider, found));
    let roots = match &config.ca {
        Some(path) => note(files::authorities(path), found)?,
        None => RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    };
    let path = config.ca.as_deref().unwrap_or("[tls.upstream]".as_ref());
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| {
            let error = rustls::Error::General(error.to_string());
            at(path, Fault::Unusable(error))
        });
    let chain = note(chain, found)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(BOTH)
        .map_err(|error| at(path, Fault::Unusable(error)));
    let builder = note(builder, found)?;
    let builder = if config.pins.is_empty() {
        builder.with_webpki_verifier(chain)
    } else {
        let pins = config.pins.clone();
        // Despite its name: it does all that the other one does, and more.
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { chain, pins }))
    };
    let mut made = match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity?)))
        }
        None => builder.with_no_client_auth(),
    };
    // As above: each connection is verified.
    made.resumption = Resumption::disabled();
    Some(Upstream {
        config: Arc::new(made),
        name: config.server_name.clone(),
    })
}

/// To speak with a server that is neither client nor MongoDB, and has a certificate of `ca`; none
/// means of an authority that the web trusts.
pub(crate) fn client_config(ca: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let unusable = |error| at(ca.unwrap_or("".as_ref()), Fault::Unusable(error));
    let roots = match ca {
        Some(path) => files::authorities(path)?,
        None => RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(BOTH)
        .map_err(unusable)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What works, but should not stay so, or will not for long.
pub fn warnings(config: &TlsConfig) -> Vec<String> {
    let identities = [
        config.listen.as_ref().map(|listen| &listen.identity),
        config
            .upstream
            .as_ref()
            .and_then(|upstream| upstream.identity.as_ref()),
    ];
    let mut warnings = Vec::new();
    for files in identities.into_iter().flatten() {
        let (cert, key) = (files.cert.display(), files.key.display());
        if readable_by_others(&files.key) {
            warnings.push(format!(
                "{key}: others than its owner can read or write this private key; run `chmod 600 {key}`"
            ));
        }
        let chain = files::certificates(&files.cert).unwrap_or_default();
        let ends = chain.iter().filter_map(|certificate| {
            let certificate = Certificate::read(certificate).ok()?;
            Some(certificate.not_after)
        });
        if let Some(end) = ends.min()
            && end < Moment::now().in_days(DAYS_LEFT)
        {
            warnings.push(format!("{cert}: the certificate ends on {end}"));
        }
    }
    warnings.dedup();
    warnings
}

#[cfg(test)]
mod tests;
