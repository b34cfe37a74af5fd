//! Logins by certificate. TLS ends at the proxy, so MongoDB would take the proxy's own
//! certificate for the client's: whoever reaches the proxy would be that user.

use crate::code::Code;
use crate::raw::{Doc, Element, Malformed, kind};
use crate::refusal::{Refusal, RefusalKind};

/// The mechanism of logins by certificate.
pub(crate) const X509: &str = "MONGODB-X509";

/// Refuses a command that logs in by certificate. `authenticate` has no other use.
pub(super) fn refuse_by_certificate(command: &str, body: Doc<'_>) -> Result<(), Refusal> {
    let by_certificate = match command {
        "authenticate" => true,
        "saslStart" => !passes(body)?,
        _ => false,
    };
    if by_certificate {
        return Err(Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{command}: a login by certificate ({X509}) cannot pass through the proxy, where TLS ends; \
                 have the proxy log in for the certificate (access.credential), or log in with a user name \
                 and a password (SCRAM)"
            ),
        ).coded(Code::NotLoggedIn));
    }
    Ok(())
}

/// Whether the login that a `hello` begins may go on: one by SCRAM, which the reply to `hello`
/// does not end. Without it, the client logs in afterwards.
pub(crate) fn is_passed_on(speculative: &Element<'_>) -> Result<bool, Malformed> {
    if speculative.kind != kind::DOCUMENT {
        return Ok(false);
    }
    let login = speculative.doc()?;
    let first = login.first()?;
    let mechanism = login.find_once("mechanism")?;
    let mechanism = mechanism.and_then(|mechanism| mechanism.str());
    Ok(first.is_some_and(|first| first.key == "saslStart") && mechanism.is_some_and(is_scram))
}

/// Whether this mechanism is SCRAM, the one whose users have passwords in MongoDB.
pub(crate) fn is_scram(mechanism: &str) -> bool {
    matches!(mechanism, "SCRAM-SHA-256" | "SCRAM-SHA-1")
}

/// Whether every mechanism that is named is another one.
fn passes(login: Doc<'_>) -> Result<bool, Malformed> {
    for element in login.elements() {
        let element = element?;
        if element.key == "mechanism" && element.str().is_none_or(|name| name == X509) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Document, doc};

    use super::*;
    use crate::wire::testing::document;

    fn refused(command: &Document) -> bool {
        let bytes = document(command);
        let body = Doc::at(&bytes, 0, bytes.len()).unwrap();
        let name = body.first().unwrap().unwrap().key;
        refuse_by_certificate(name, body).is_err()
    }

    #[test]
    fn a_login_by_certificate_is_refused_and_others_pass() {
        assert!(refused(&doc! {"authenticate": 1, "mechanism": X509}));
        assert!(refused(&doc! {"authenticate": 1}));
        assert!(refused(&doc! {"saslStart": 1, "mechanism": X509}));
        assert!(refused(&doc! {"saslStart": 1, "mechanism": 3}));
        assert!(!refused(
            &doc! {"saslStart": 1, "mechanism": "SCRAM-SHA-256"}
        ));
        assert!(!refused(&doc! {"saslContinue": 1, "payload": X509}));
    }

    #[test]
    fn the_same_holds_of_a_login_that_begins_with_hello() {
        let passed = |login: &Document| {
            let bytes = document(&doc! {"speculativeAuthenticate": login});
            let body = Doc::at(&bytes, 0, bytes.len()).unwrap();
            is_passed_on(&body.first().unwrap().unwrap()).unwrap()
        };
        assert!(passed(
            &doc! {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": ""}
        ));
        for other in [X509, "PLAIN", "MONGODB-OIDC", "scram-sha-256", ""] {
            assert!(!passed(&doc! {"saslStart": 1, "mechanism": other}));
        }
        assert!(!passed(&doc! {"saslStart": 1}));
        assert!(!passed(&doc! {"authenticate": 1, "mechanism": X509}));
        assert!(!passed(&doc! {"db": "$external", "authenticate": 1}));
        assert!(!passed(&doc! {}));
    }
}
