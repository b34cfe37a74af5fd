//! Who is at the other end of a client's connection.

use std::fmt;
use std::net::IpAddr;

use crate::config::PrincipalRule;
use crate::refusal::OneLine;
use crate::tls::ClientCertificate;

/// What is known of a client. MongoDB or TLS has made sure of each part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    /// Where it connects from; none by a Unix socket.
    pub address: Option<IpAddr>,
    /// The certificate that it showed.
    pub certificate: Option<ClientCertificate>,
    /// `user@db`, once MongoDB has let it in under that name.
    pub user: Option<String>,
}

impl Principal {
    /// Whether all that `rule` says holds of it.
    pub(super) fn fits(&self, rule: &PrincipalRule) -> bool {
        let user = rule
            .user
            .as_ref()
            .is_none_or(|user| self.user.as_ref() == Some(user));
        let certificate = (rule.certificate.as_ref()).is_none_or(|name| {
            let shown = self.certificate.as_ref();
            shown.is_some_and(|certificate| certificate.is_called(name))
        });
        let address = rule.address.is_none_or(|net| {
            (self.address).is_some_and(|address| net.contains(&address.to_canonical()))
        });
        user && certificate && address
    }
}

/// The best name there is for it, on one line: a user's name may hold line breaks.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.user, &self.certificate, self.address) {
            (Some(user), _, _) => OneLine(user).fmt(f),
            (None, Some(certificate), _) if !certificate.subject.is_empty() => {
                OneLine(&certificate.subject).fmt(f)
            }
            (None, Some(certificate), _) if !certificate.names.is_empty() => certificate
                .names
                .iter()
                .take(1)
                .try_for_each(|name| OneLine(&name.to_string()).fmt(f)),
            (None, _, Some(address)) => write!(f, "{address}"),
            (None, _, None) => f.write_str("local"),
        }
    }
}
