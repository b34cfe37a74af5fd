//! `fieldseal certs`: an authority and certificates for development and tests.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use zeroize::Zeroizing;

use super::{Failure, Report};
use crate::code::Code;

/// For clocks that are not quite right.
const SLACK: Duration = Duration::from_secs(60 * 60);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The characters of a line in a PEM file.
const PEM_LINE: usize = 64;

/// What the certificates are for.
const FILES: [(&str, Holder); 3] = [
    ("proxy.pem", Holder::Proxy),
    ("mongod.pem", Holder::Mongod),
    ("client.pem", Holder::Client),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// Towards clients a server, towards MongoDB a client.
    Proxy,
    /// Its members are each other's clients.
    Mongod,
    /// A service.
    Client,
}

impl Holder {
    fn name(self) -> &'static str {
        match self {
            Self::Proxy => "fieldseal",
            Self::Mongod => "mongod",
            Self::Client => "service",
        }
    }

    fn usages(self) -> Vec<ExtendedKeyUsagePurpose> {
        match self {
            Self::Proxy | Self::Mongod => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            Self::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Proxy => "the proxy's certificate and key, for both sides",
            Self::Mongod => "mongod's certificate and key (--tlsCertificateKeyFile)",
            Self::Client => "a service's certificate and key (tlsCertificateKeyFile)",
        }
    }
}

/// Makes them in `directory`, which is made too, for servers called `hosts`.
pub(super) fn run(directory: &Path, hosts: &[String], days: u16) -> Result<Report, Failure> {
    let names = names(hosts)?;
    let paths: Vec<PathBuf> = ["ca.pem", "ca-key.pem"]
        .into_iter()
        .chain(FILES.map(|(file, _)| file))
        .map(|file| directory.join(file))
        .collect();
    // Before anything is written, so that it is all or nothing.
    let there = paths
        .iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| {
            let path = path.display();
            format!("{path}: is there already, and is not overwritten; name another directory")
        });
    if let Some(there) = Failure::of_all(Code::CertificatesNotMade, there) {
        return Err(there);
    }
    let made = make(&names, days).map_err(|error| {
        Failure::coded(
            Code::CertificatesNotMade,
            format_args!("cannot make certificates: {error}"),
        )
    })?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| {
            Failure::coded(
                Code::Output,
                format_args!("{}: {error}", directory.display()),
            )
        })?;
    for (path, text) in paths.iter().zip(&made) {
        write(path, text).map_err(|error| {
            Failure::coded(Code::Output, format_args!("{}: {error}", path.display()))
        })?;
    }
    Ok(Report {
        text: tell(directory, &names),
        warnings: Vec::new(),
    })
}

/// The names of the servers: this machine's loopback, and what was asked for.
fn names(hosts: &[String]) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for host in hosts {
        let host = host.trim_matches(['[', ']']);
        let dns = tokio_rustls::rustls::pki_types::DnsName::try_from(host).is_ok();
        if !dns && host.parse::<IpAddr>().is_err() {
            return Err(Failure::coded(
                Code::Argument,
                format_args!(
                    "--host {host:?}: must be a DNS name or an IP address, without a port"
                ),
            ));
        }
        if !names.iter().any(|name| name == host) {
            names.push(host.to_owned());
        }
    }
    Ok(names)
}

/// The texts of the files, in their order.
fn make(names: &[String], days: u16) -> Result<Vec<Zeroizing<String>>, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut texts = Vec::new();
    let mut params = params("Fieldseal development CA", Vec::new(), days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key_text = pem("PRIVATE KEY", key.serialized_der());
    let authority = CertifiedIssuer::self_signed(params, key)?;
    texts.push(pem("CERTIFICATE", authority.der()));
    texts.push(key_text);
    for (_, holder) in FILES {
        texts.push(issue(&authority, holder, names, days)?);
    }
    Ok(texts)
}

/// A certificate with its key, in one text as MongoDB's programs want it.
fn issue(
    authority: &CertifiedIssuer<'_, KeyPair>,
    holder: Holder,
    names: &[String],
    days: u16,
) -> Result<Zeroizing<String>, rcgen::Error> {
    let names = match holder {
        Holder::Client => vec![holder.name().to_owned()],
        Holder::Proxy | Holder::Mongod => names.to_vec(),
    };
    let mut params = params(holder.name(), names, days)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = holder.usages();
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.signed_by(&key, authority)?;
    let mut text = pem("CERTIFICATE", certificate.der());
    text.push_str(&pem("PRIVATE KEY", key.serialized_der()));
    Ok(text)
}

fn params(name: &str, hosts: Vec<String>, days: u16) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Fieldseal development");
    // MongoDB takes who shares its own organisation and unit for a member.
    subject.push(DnType::OrganizationalUnitName, name);
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(SLACK);
    params.not_after = epoch + (now + DAY * u32::from(days));
    Ok(params)
}

fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(PEM_LINE).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn tell(directory: &Path, names: &[String]) -> String {
    let at = |file: &str| directory.join(file).display().to_string();
    let mut rows = vec![
        (at("ca.pem"), "the authority's certificate, for everyone"),
        (
            at("ca-key.pem"),
            "the authority's key: who has it can be anyone",
        ),
    ];
    rows.extend(FILES.map(|(file, holder)| (at(file), holder.says())));
    let width = rows.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (path, says) in &rows {
        text.push_str(&format!("{path:<width$}  {says}\n"));
    }
    let (ca, proxy, mongod, client) = (
        at("ca.pem"),
        at("proxy.pem"),
        at("mongod.pem"),
        at("client.pem"),
    );
    text.push_str(&format!(
        "\nFor development: these keys were made by a command and are on this disk.\n\
         The servers are called {}.\n\n\
         In fieldseal.toml:\n\n\
         [tls.listen]\ncert = {proxy:?}\nclient_ca = {ca:?}   # leave out to let in clients without certificates\n\n\
         [tls.upstream]\nca = {ca:?}\ncert = {proxy:?}\n\n\
         mongod --tlsMode requireTLS --tlsCertificateKeyFile {mongod} --tlsCAFile {ca}\n\n\
         In a service's connection string:\n\n\
         tls=true&tlsCAFile={ca}&tlsCertificateKeyFile={client}\n",
        names.join(", ")
    ));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::super::keys::tests::Workplace;
    use super::*;
    use crate::config::{ClientAuth, IdentityFiles, ListenTls, MinVersion, TlsConfig, UpstreamTls};
    use crate::tls::Tls;

    fn config(directory: &Path) -> TlsConfig {
        let file = directory.join("proxy.pem");
        let identity = IdentityFiles {
            cert: file.clone(),
            key: file,
        };
        TlsConfig {
            listen: Some(ListenTls {
                identity: identity.clone(),
                client_ca: Some(directory.join("ca.pem")),
                client_auth: ClientAuth::Required,
                min_version: MinVersion::Tls13,
            }),
            upstream: Some(UpstreamTls {
                ca: Some(directory.join("ca.pem")),
                identity: Some(identity),
                server_name: None,
                pins: Vec::new(),
            }),
        }
    }

    #[test]
    fn what_it_makes_is_what_the_proxy_takes() {
        let place = Workplace::new("certs", "");
        let directory = place.path("certs");
        let report = run(&directory, &["db.example".to_owned()], 90).unwrap();
        assert!(Tls::load(&config(&directory)).unwrap().is_used());
        assert!(crate::tls::warnings(&config(&directory)).is_empty());
        for (file, _) in FILES {
            assert!(report.text.contains(file), "{}", report.text);
        }
        assert!(report.text.contains("::1, db.example"), "{}", report.text);
        for entry in std::fs::read_dir(&directory).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_added_beside_it() {
        let place = Workplace::new("certs-twice", "");
        let directory = place.path("certs");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("mongod.pem"), "mine").unwrap();
        let failure = run(&directory, &[], 90).unwrap_err();
        assert_eq!(failure.lines().len(), 1);
        assert!(failure.lines()[0].contains("mongod.pem: is there already"));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn a_host_that_no_certificate_can_have_is_refused() {
        for host in ["a b", "db:27017", ""] {
            let failure = names(&[host.to_owned()]).unwrap_err();
            assert!(failure.lines()[0].contains("--host"), "{failure:?}");
        }
        assert_eq!(names(&["[::1]".to_owned()]).unwrap().len(), 3);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_warned_of() {
        let place = Workplace::new("certs-soon", "");
        let directory = place.path("certs");
        run(&directory, &[], 5).unwrap();
        let warnings = crate::tls::warnings(&config(&directory));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("the certificate ends on 2"));
    }
}
