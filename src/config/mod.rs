//! `fieldseal.toml`.

mod access;
mod address;
mod admin;
mod audit;
mod limits;
mod load;
mod merge;
mod span;
mod telemetry;
mod tls;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::document::Mistakes as ConfigErrors;
pub use access::{AccessConfig, Credential, JavaScript, PrincipalRule, RoleRule};
pub use address::{Address, AddressError};
pub use admin::AdminConfig;
pub use audit::{AuditConfig, OnFailure};
pub use limits::{Limits, Rate};
pub use telemetry::TelemetryConfig;
pub(crate) use tls::server_name_of;
pub use tls::{ClientAuth, IdentityFiles, ListenTls, MinVersion, Pin, TlsConfig, UpstreamTls};

use crate::keyring::UnsealSource;

/// One MongoDB member or mongos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where clients connect.
    pub listen: Address,
    /// The member.
    pub upstream: Address,
    /// What `hello` tells clients; none means the address that was bound.
    pub advertise: Option<String>,
    /// Whether clients may connect from other machines without TLS, if there is no `[tls.listen]`.
    pub insecure: bool,
    /// Whether another process may listen on the same address, so that one takes over from the other.
    pub reuse_port: bool,
}

/// Where the keys are, and what opens them.
#[derive(Debug, Clone)]
pub struct KeyringConfig {
    /// The key file.
    pub file: PathBuf,
    /// Where the unseal secret is.
    pub unseal: UnsealSource,
    /// How old the versions that seal should be at most; older ones are warned of.
    pub max_age: Option<Duration>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, to standard error.
#[derive(Debug, Clone)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// The least important level that is logged.
    pub level: tracing::Level,
    /// Commands that take this long or longer are logged with their phases; none: not for that.
    pub slow: Option<Duration>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: tracing::Level::INFO,
            slow: None,
        }
    }
}

/// The service's configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The schema file or directory.
    pub schema: PathBuf,
    /// Where the keys are.
    pub keyring: KeyringConfig,
    /// The members.
    pub routes: Vec<Route>,
    /// Which sides speak TLS, and how.
    pub tls: TlsConfig,
    /// Bounds on what clients may ask for.
    pub limits: Limits,
    /// Who may connect, and which roles they have.
    pub access: AccessConfig,
    /// What is remembered, if anything is.
    pub audit: Option<AuditConfig>,
    /// Where operators look, if anywhere.
    pub admin: Option<AdminConfig>,
    /// Where traces go, if anywhere.
    pub telemetry: Option<TelemetryConfig>,
    /// What is logged.
    pub log: Log,
    /// How many threads serve connections; none: one for each core.
    pub workers: Option<NonZeroUsize>,
}
