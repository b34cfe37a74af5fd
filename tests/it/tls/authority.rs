//! Authorities and certificates, made for each test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    PublicKeyData as _, date_time_ymd,
};
use sha2::{Digest as _, Sha256};

use crate::support::new_directory;

/// An authority with a directory for what it signs, which goes when it is dropped.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What a test needs of a certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// The common name.
    pub(crate) name: &'a str,
    /// DNS names and addresses.
    pub(crate) hosts: &'a [&'a str],
    pub(crate) expired: bool,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Self {
            name: "server",
            hosts: &["localhost", "127.0.0.1"],
            expired: false,
        }
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
            directory: new_directory("authority"),
        };
        fs::write(authority.ca(), authority.text()).unwrap();
        authority
    }

    /// The file of its own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Its own certificate, in PEM.
    pub(crate) fn text(&self) -> String {
        pem("CERTIFICATE", self.issuer.der())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file with a certificate and its key.
    pub(crate) fn issue(&self, wish: Wish<'_>) -> PathBuf {
        let name = format!("{}-{}.pem", wish.name, wish.hosts.len());
        self.issue_at(&self.directory.join(name), wish)
    }

    /// The same at a path.
    pub(crate) fn issue_at(&self, path: &Path, wish: Wish<'_>) -> PathBuf {
        self.issue_with_pin(path, wish);
        path.to_owned()
    }

    /// The same; gives the pin of the key.
    pub(crate) fn issue_with_pin(&self, path: &Path, wish: Wish<'_>) -> String {
        let mut params = params(wish.name, wish.hosts);
        if wish.expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let text =
            pem("CERTIFICATE", certificate.der()) + &pem("PRIVATE KEY", key.serialized_der());
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        STANDARD.encode(Sha256::digest(key.subject_public_key_info()))
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Tests");
    // MongoDB takes those whose organisation and unit are its own for members.
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, name);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    // Programs take lines of 64 characters only.
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
