//! With what the proxy logs in at MongoDB for clients that show a certificate.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::scram::{self, Salted};
use crate::config;
use crate::tls::ClientCertificate;

/// More than any password; a larger file is not a password but a mistake.
const MOST_BYTES: usize = 4096;

/// As many salts as there may be clusters behind the routes.
const MOST_SALTS: usize = 16;

/// Why there is no password. What is in the file is not repeated.
#[derive(Debug, thiserror::Error)]
#[error("the password {}: {fault}", path.display())]
pub struct PasswordError {
    path: PathBuf,
    fault: PasswordFault,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
enum PasswordFault {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("is empty")]
    Empty,
    #[error("is longer than {MOST_BYTES} bytes")]
    TooLong,
    #[error("is not UTF-8")]
    NotText,
    /// RFC 4013; MongoDB refuses to make a user with it.
    #[error(
        "holds a character that no password may have, such as a line break or a control character"
    )]
    Prohibited,
}

/// A login at MongoDB for clients that show a certificate.
pub struct Credential {
    certificate: String,
    user: String,
    database: String,
    /// Prepared as SCRAM wants it.
    password: Zeroizing<String>,
    /// So that each connection does not salt it anew.
    salted: Mutex<Vec<Known>>,
}

/// The password with a salt that MongoDB asked for.
struct Known {
    salt: Vec<u8>,
    iterations: u32,
    salted: Arc<Salted>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut credential = f.debug_struct("Credential");
        let shown = credential.field("certificate", &self.certificate);
        shown.field("user", &self.name()).finish_non_exhaustive()
    }
}

impl Credential {
    /// Reads the password.
    pub(super) fn read(config: &config::Credential) -> Result<Self, PasswordError> {
        let password = read(&config.password).map_err(|fault| PasswordError {
            path: config.password.clone(),
            fault,
        })?;
        Ok(Self {
            certificate: config.certificate.clone(),
            user: config.user.clone(),
            database: config.database.clone(),
            password,
            salted: Mutex::default(),
        })
    }

    /// Whether it is for clients that show this certificate.
    pub(super) fn fits(&self, certificate: &ClientCertificate) -> bool {
        certificate.is_called(&self.certificate)
    }

    /// `user@db`.
    pub fn name(&self) -> String {
        format!("{}@{}", self.user, self.database)
    }

    /// The user's name at MongoDB.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database that the user was made in.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The salted password. Whoever asks for it first waits for milliseconds, and so does who
    /// asks meanwhile.
    pub fn salted(&self, salt: &[u8], iterations: u32) -> Arc<Salted> {
        let mut known = self.salted.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |one: &&Known| one.salt == salt && one.iterations == iterations;
        if let Some(one) = known.iter().find(same) {
            return Arc::clone(&one.salted);
        }
        let salted = Arc::new(scram::salt(self.password.as_bytes(), salt, iterations));
        if known.len() >= MOST_SALTS {
            known.remove(0);
        }
        known.push(Known {
            salt: salt.to_vec(),
            iterations,
            salted: Arc::clone(&salted),
        });
        salted
    }
}

/// The password in a file; one line break at the end does not count.
fn read(path: &Path) -> Result<Zeroizing<String>, PasswordFault> {
    // Of its final size from the start, so that no part of it is left behind in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST_BYTES + 1));
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX) + 1;
    let file = std::fs::File::open(path)?;
    file.take(most).read_to_end(&mut bytes)?;
    if bytes.len() > MOST_BYTES {
        return Err(PasswordFault::TooLong);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| PasswordFault::NotText)?;
    let line = text
        .strip_suffix("\r\n")
        .or_else(|| text.strip_suffix('\n'))
        .unwrap_or(text);
    if line.is_empty() {
        return Err(PasswordFault::Empty);
    }
    let prepared = stringprep::saslprep(line).map_err(|_| PasswordFault::Prohibited)?;
    Ok(Zeroizing::new(prepared.into_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// A file that goes when it is dropped.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let name = format!("fieldseal-password-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, bytes).unwrap();
            Self(path)
        }

        fn credential(&self) -> Result<Credential, PasswordError> {
            Credential::read(&config::Credential {
                certificate: "CN=shop".to_owned(),
                user: "shop".to_owned(),
                database: "admin".to_owned(),
                password: self.0.clone(),
            })
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn one_line_break_at_the_end_is_no_part_of_a_password() {
        for (bytes, password) in [
            (&b"secret"[..], "secret"),
            (b"secret\n", "secret"),
            (b"secret\r\n", "secret"),
            (b" secret \n", " secret "),
            // SASLprep: a space that is none of ASCII, and a letter in two parts.
            ("a\u{a0}u\u{308}".as_bytes(), "a \u{fc}"),
        ] {
            let file = File::new("right", bytes);
            assert_eq!(*file.credential().unwrap().password, password);
        }
    }

    #[test]
    fn a_password_that_cannot_be_one_is_told_of_and_not_repeated() {
        let long = vec![b'x'; MOST_BYTES + 1];
        for (bytes, what) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"secret\nsecond", "no password may have"),
            (b"secret\0", "no password may have"),
            (b"secret\xFF", "is not UTF-8"),
            (&long, "longer than 4096 bytes"),
        ] {
            let file = File::new("wrong", bytes);
            let error = file.credential().unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
            assert!(error.contains("fieldseal-password-wrong"), "{error}");
            assert!(
                !error.contains("secret") && !error.contains("xxx"),
                "{error}"
            );
        }
        let file = File::new("gone", b"");
        std::fs::remove_file(&file.0).unwrap();
        let error = file.credential().unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn a_salted_password_is_kept_and_the_password_never_printed() {
        let file = File::new("salted", b"pencil");
        let credential = file.credential().unwrap();
        let first = credential.salted(b"salt", 4096);
        assert!(Arc::ptr_eq(&first, &credential.salted(b"salt", 4096)));
        assert!(!Arc::ptr_eq(&first, &credential.salted(b"salt", 4097)));
        assert_eq!(*first, scram::salt(b"pencil", b"salt", 4096));
        for salt in 0..40_u8 {
            credential.salted(&[salt], 4096);
        }
        assert_eq!(credential.salted.lock().unwrap().len(), MOST_SALTS);
        let printed = format!("{credential:?}");
        assert!(printed.contains("shop@admin") && !printed.contains("pencil"));
    }
}
