//! The PEM files of certificates, keys and authorities, and what can be wrong with them.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio_rustls::rustls;

use super::certificate::{Certificate, Moment};
use crate::code::Code;
use crate::config::IdentityFiles;

/// A file of TLS is not what it has to be.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct TlsError {
    path: PathBuf,
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error("is not a PEM file")]
    NotPem,
    #[error("holds no certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    #[error("holds no private key (-----BEGIN PRIVATE KEY-----, without a passphrase)")]
    NoKey,
    #[error("holds a private key that cannot be used; P-256, P-384, Ed25519 and RSA can")]
    Key,
    #[error("is not the key of the certificate in {}", .0.display())]
    OtherKey(PathBuf),
    #[error("holds a certificate that is malformed")]
    Malformed,
    #[error("the certificate ended on {0}; put a new one in its place")]
    Expired(Moment),
    #[error("the certificate begins on {0} only; is the clock of this machine right?")]
    NotYet(Moment),
    #[error("every certificate in it ended, the last on {0}; put new ones in their place")]
    AllExpired(Moment),
    #[error("holds a certificate that cannot be an authority's: {0}")]
    Authority(rustls::Error),
    #[error("cannot be used: {0}")]
    Unusable(rustls::Error),
}

impl TlsError {
    /// What the documentation calls it.
    pub fn code(&self) -> Code {
        match self.fault {
            Fault::Unreadable(_) => Code::CertificateUnreadable,
            Fault::NotPem | Fault::NoCertificate | Fault::NoKey | Fault::Malformed => {
                Code::CertificateMalformed
            }
            Fault::Key | Fault::OtherKey(_) => Code::CertificateKey,
            Fault::Expired(_) | Fault::AllExpired(_) => Code::CertificateExpired,
            Fault::NotYet(_) => Code::CertificateNotYet,
            Fault::Authority(_) | Fault::Unusable(_) => Code::CertificateUnusable,
        }
    }
}

pub(super) fn at(path: &Path, fault: Fault) -> TlsError {
    TlsError {
        path: path.to_owned(),
        fault,
    }
}

/// All that is wrong is gathered, so that it can be told together.
pub(super) type Found = Vec<TlsError>;

/// What `result` holds; its error is noted.
pub(super) fn note<T>(result: Result<T, TlsError>, found: &mut Found) -> Option<T> {
    result.map_err(|error| found.push(error)).ok()
}

/// The certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(at(path, Fault::NoCertificate)),
        Ok(all) => Ok(all),
        Err(_) => Err(at(path, Fault::NotPem)),
    }
}

fn read(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, TlsError> {
    std::fs::read(path)
        .map(zeroize::Zeroizing::new)
        .map_err(|error| at(path, Fault::Unreadable(error)))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| {
        at(
            path,
            match error {
                pem::Error::NoItemsFound => Fault::NoKey,
                _ => Fault::NotPem,
            },
        )
    })
}

/// A certificate with its key: they belong together, and now is their time.
pub(super) fn identity(
    files: &IdentityFiles,
    provider: &CryptoProvider,
    found: &mut Found,
) -> Option<CertifiedKey> {
    let chain = note(certificates(&files.cert), found);
    let key = note(private_key(&files.key), found);
    let chain = chain?;
    let before = found.len();
    for certificate in &chain {
        found.extend(
            in_time(certificate)
                .err()
                .map(|fault| at(&files.cert, fault)),
        );
    }
    let made = CertifiedKey::from_der(chain, key?, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => at(&files.key, Fault::OtherKey(files.cert.clone())),
        rustls::Error::InvalidCertificate(_) => at(&files.cert, Fault::Malformed),
        _ => at(&files.key, Fault::Key),
    });
    note(made, found).filter(|_| found.len() == before)
}

fn in_time(certificate: &CertificateDer<'_>) -> Result<(), Fault> {
    let read = Certificate::read(certificate).map_err(|_| Fault::Malformed)?;
    let now = Moment::now();
    if read.not_after < now {
        return Err(Fault::Expired(read.not_after));
    }
    if now < read.not_before {
        return Err(Fault::NotYet(read.not_before));
    }
    Ok(())
}

/// The authorities of a file. Those whose time is over are left to the verification, as long
/// as another one is in its time.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let mut last = None;
    for certificate in certificates(path)? {
        let read = Certificate::read(&certificate).map_err(|_| at(path, Fault::Malformed))?;
        last = last.max(Some(read.not_after));
        store
            .add(certificate)
            .map_err(|error| at(path, Fault::Authority(error)))?;
    }
    match last {
        Some(last) if last < Moment::now() => Err(at(path, Fault::AllExpired(last))),
        _ => Ok(store),
    }
}
