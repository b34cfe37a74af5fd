//! `fieldseal.toml`.

use std::path::PathBuf;
use std::time::Duration;

/// Where to listen, or what to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`.
    Tcp(String),
    /// `unix:/path`.
    Unix(PathBuf),
}

/// One MongoDB member or mongos.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where clients connect.
    pub listen: Address,
    /// The member.
    pub upstream: Address,
    /// What `hello` tells clients; none means the address that was bound.
    pub advertise: Option<String>,
}

/// Bounds on what clients may ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Client connections, over all routes.
    pub connections: usize,
    /// Bytes of one message, at most 48,000,000.
    pub message_bytes: usize,
    /// Time to the end of the first message.
    pub handshake_timeout: Duration,
}

/// The service's configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The schema file or directory.
    pub schema: PathBuf,
    /// The members.
    pub routes: Vec<Route>,
    /// Bounds on what clients may ask for.
    pub limits: Limits,
}
