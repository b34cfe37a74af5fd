//! `host:port` and `unix:/path`.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where to listen, or what to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`; an IPv6 address stands in brackets.
    Tcp(String),
    /// `unix:/path`.
    Unix(PathBuf),
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be `host:port`, with an IPv6 address in brackets, or `unix:/path`")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() || path.contains('\0') {
                Err(AddressError)
            } else {
                Ok(Self::Unix(PathBuf::from(path)))
            };
        }
        host_and_port(text)
            .map(|_| Self::Tcp(text.to_owned()))
            .ok_or(AddressError)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Whether only this machine can reach it. A name other than `localhost`
    /// could stand for any machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(text) => {
                host_and_port(text).is_some_and(|(host, _)| match host.parse::<IpAddr>() {
                    Ok(address) => address.to_canonical().is_loopback(),
                    Err(_) => host.eq_ignore_ascii_case("localhost"),
                })
            }
        }
    }

    /// The port; none for a socket in the file system.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(text) => host_and_port(text).map(|(_, port)| port),
        }
    }

    /// With a path in the file system taken from `directory` on.
    pub(super) fn within(self, directory: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(directory.join(path)),
            tcp @ Self::Tcp(_) => tcp,
        }
    }
}

/// The host, without brackets, and the port.
pub(super) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    // `parse` would take `+1` and `007`.
    let plain =
        port.bytes().all(|byte| byte.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
    let port = plain.then(|| port.parse().ok())??;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .filter(|host| host.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let bracketed = text.starts_with('[');
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (bracketed || (!host.is_empty() && host.bytes().all(name))).then_some((host, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_address_is_shown_as_it_is_written() {
        for text in [
            "127.0.0.1:27017",
            "[::1]:0",
            "db-1.example:65535",
            "unix:/tmp/mongodb-27017.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "localhost",
            ":27017",
            "a:",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:007",
            "a b:1",
            "::1:27017",
            "[::1]",
            "[::1:1",
            "[a]:1",
            "mongodb://a:1",
            "a/b:1",
            "unix:",
            "a:1\n",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text:?}");
        }
    }

    #[test]
    fn only_loopback_and_sockets_are_local() {
        let local = |text: &str| text.parse::<Address>().unwrap().is_local();
        for text in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "localhost:1",
            "unix:/x",
        ] {
            assert!(local(text), "{text}");
        }
        for text in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "db.example:1",
            "localhost.example:1",
        ] {
            assert!(!local(text), "{text}");
        }
    }
}
