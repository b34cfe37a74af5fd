//! SCRAM-SHA-256 as a client speaks it (RFC 5802, RFC 7677): the messages, and what proves
//! to each side that the other one knows the password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The mechanism's name.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// RFC 7677, section 4; MongoDB has 15,000 unless it is told otherwise.
const LEAST_ITERATIONS: u32 = 4096;

/// A server that asks for more would keep the proxy busy, not an attacker.
const MOST_ITERATIONS: u32 = 1_000_000;

const MOST_SALT_BYTES: usize = 256;
const MOST_NONCE_BYTES: usize = 1024;

/// "n,,": the client does not bind the exchange to a channel.
const HEADER: &str = "n,,";
const HEADER_BASE64: &str = "biws";

/// Why an exchange ends without a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The server's message is not one of SCRAM.
    #[error("it answered something other than SCRAM")]
    Malformed,
    /// The server's nonce does not begin with the client's.
    #[error("it answered another login than this one")]
    Nonce,
    /// The server asks for too little work, or for too much.
    #[error(
        "it asks for {0} iterations, and between {LEAST_ITERATIONS} and {MOST_ITERATIONS} are done"
    )]
    Iterations(u32),
    /// The server does not know the password.
    #[error("it did not prove that it knows the password: it may not be the MongoDB it says it is")]
    Signature,
}

/// The salted password. Wiped when dropped, and not printed.
pub type Salted = Zeroizing<[u8; 32]>;

/// An exchange whose first message was sent.
#[derive(Debug)]
pub struct Begun {
    /// The first message without its header.
    first: String,
    nonce: String,
}

/// What the server asks for.
#[derive(Debug)]
pub struct Challenge {
    /// What was said so far.
    said: String,
    nonce: String,
    /// What the password is salted with.
    pub salt: Vec<u8>,
    /// How often it is hashed.
    pub iterations: u32,
}

/// An exchange whose last message was sent.
pub struct Proven {
    signature: Hmac<Sha256>,
}

impl Begun {
    /// Begins for `user`, with a nonce that was never used. Gives the first message too.
    pub fn new(user: &str, nonce: &[u8; 24]) -> (Self, String) {
        let nonce = STANDARD.encode(nonce);
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={user},r={nonce}");
        let message = format!("{HEADER}{first}");
        (Self { first, nonce }, message)
    }

    /// Takes the server's first message.
    pub fn challenged(self, message: &[u8]) -> Result<Challenge, ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let mut parts = message.split(',');
        let mut part = |name: &str| {
            let part = parts.next().and_then(|part| part.strip_prefix(name));
            part.ok_or(ScramError::Malformed)
        };
        let (nonce, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
        let own = nonce.strip_prefix(&self.nonce).ok_or(ScramError::Nonce)?;
        if own.is_empty() {
            return Err(ScramError::Nonce);
        }
        if nonce.len() > MOST_NONCE_BYTES || salt.len() > MOST_SALT_BYTES {
            return Err(ScramError::Malformed);
        }
        let salt = STANDARD.decode(salt).map_err(|_| ScramError::Malformed)?;
        let iterations = iterations.parse().map_err(|_| ScramError::Malformed)?;
        if !(LEAST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        Ok(Challenge {
            said: format!("{},{message}", self.first),
            nonce: nonce.to_owned(),
            salt,
            iterations,
        })
    }
}

impl Challenge {
    /// Proves to know the password. Gives the last message too.
    pub fn prove(self, salted: &Salted) -> (Proven, String) {
        let last = format!("c={HEADER_BASE64},r={}", self.nonce);
        let said = format!("{},{last}", self.said);
        let client_key = derived(&salted[..], b"Client Key");
        let stored_key = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(&client_key[..])));
        let client_signature = derived(&stored_key[..], said.as_bytes());
        let mut proof = Zeroizing::new([0; 32]);
        let both = client_key.iter().zip(client_signature.iter());
        for (byte, (key, signature)) in proof.iter_mut().zip(both) {
            *byte = key ^ signature;
        }
        let server_key = derived(&salted[..], b"Server Key");
        let mut signature = keyed(&server_key[..]);
        signature.update(said.as_bytes());
        let message = format!("{last},p={}", STANDARD.encode(&proof[..]));
        (Proven { signature }, message)
    }
}

impl Proven {
    /// Whether the server's last message proves that it knows the password too.
    pub fn confirmed(self, message: &[u8]) -> Result<(), ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let signature = message.split(',').next().unwrap_or_default();
        let signature = signature.strip_prefix("v=").ok_or(ScramError::Malformed)?;
        let signature = STANDARD
            .decode(signature)
            .map_err(|_| ScramError::Malformed)?;
        // In constant time, whatever it is.
        let verified = self.signature.verify_slice(&signature);
        verified.map_err(|_| ScramError::Signature)
    }
}

/// Salts a password. It takes milliseconds, which is what it is for.
pub fn salt(password: &[u8], salt: &[u8], iterations: u32) -> Salted {
    let mut salted = Salted::new([0; 32]);
    pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted[..]);
    salted
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn derived(key: &[u8], text: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = keyed(key);
    mac.update(text);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    // RFC 7677, section 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                               p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_LAST: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn begun() -> Begun {
        Begun {
            first: format!("n=user,r={NONCE}"),
            nonce: NONCE.to_owned(),
        }
    }

    fn proven() -> Proven {
        let challenge = begun().challenged(SERVER_FIRST.as_bytes()).unwrap();
        let salted = salt(b"pencil", &challenge.salt, challenge.iterations);
        challenge.prove(&salted).0
    }

    #[test]
    fn the_messages_are_those_of_the_rfc() {
        let challenge = begun().challenged(SERVER_FIRST.as_bytes()).unwrap();
        let salted = salt(b"pencil", &challenge.salt, challenge.iterations);
        let (proven, last) = challenge.prove(&salted);
        assert_eq!(last, CLIENT_LAST);
        assert_eq!(proven.confirmed(SERVER_LAST.as_bytes()), Ok(()));
    }

    #[test]
    fn a_users_name_is_escaped() {
        let (begun, message) = Begun::new("a=b,c", &[0; 24]);
        let nonce = "A".repeat(32);
        assert_eq!(message, format!("n,,n=a=3Db=2Cc,r={nonce}"));
        assert_eq!(begun.first, message[3..]);
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        let wrong = SERVER_LAST.replace("v=6", "v=7");
        let outcome = proven().confirmed(wrong.as_bytes());
        assert_eq!(outcome, Err(ScramError::Signature));
        for message in ["", "v=", "v=!", "e=invalid-proof", "v=6rriTRBi23WpRR/wtup+"] {
            assert!(proven().confirmed(message.as_bytes()).is_err(), "{message}");
        }
        assert!(proven().confirmed(&[0xFF]).is_err());
    }

    #[test]
    fn a_first_message_that_is_not_to_this_login_or_asks_too_little_or_too_much_is_refused() {
        let refused = |message: &str| begun().challenged(message.as_bytes()).unwrap_err();
        for (from, to, expected) in [
            ("i=4096", "i=4095", ScramError::Iterations(4095)),
            ("i=4096", "i=1000001", ScramError::Iterations(1_000_001)),
            ("i=4096", "i=99999999999", ScramError::Malformed),
            ("i=4096", "i=-1", ScramError::Malformed),
            ("r=rO", "r=rP", ScramError::Nonce),
            ("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "", ScramError::Nonce),
            ("r=", "m=x,r=", ScramError::Malformed),
            ("==,", "=!,", ScramError::Malformed),
        ] {
            assert_eq!(refused(&SERVER_FIRST.replacen(from, to, 1)), expected);
        }
        for cut in ["", "r=", "r=x,s=", "s=AAAA,i=4096"] {
            refused(cut);
        }
        let long = SERVER_FIRST.replace("s=", &format!("s={}", "A".repeat(400)));
        assert_eq!(refused(&long), ScramError::Malformed);
    }
}
