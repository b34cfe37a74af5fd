//! The MongoDB that a command works on: `--uri`, `FIELDSEAL_URI`, or the first route's.

use std::future::Future;

use clap::Args;
use mongodb::Client;

use super::Failure;
use crate::config::{Address, Config};
use crate::migrate::database::{DatabaseError, Uri};

/// Where a connection string may stand without being seen by others, as arguments are.
const VARIABLE: &str = "FIELDSEAL_URI";

/// MongoDB itself, not the proxy.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct DatabaseArgs {
    /// MongoDB's connection string, not the proxy's. Without it: the environment variable
    /// FIELDSEAL_URI (better where it holds a password), or the upstream of the first route.
    #[arg(long, value_name = "URI")]
    uri: Option<String>,
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::new(error)
    }
}

impl DatabaseArgs {
    /// Connects to MongoDB.
    pub(super) async fn connect(&self, config: &Config) -> Result<Client, Failure> {
        let uri = self.uri(config, std::env::var(VARIABLE).ok())?;
        Ok(uri.connect(&proxies(config)).await?)
    }

    fn uri(&self, config: &Config, variable: Option<String>) -> Result<Uri, Failure> {
        if let Some(uri) = &self.uri {
            return Ok(Uri::new(uri, "--uri"));
        }
        if let Some(uri) = variable.filter(|uri| !uri.is_empty()) {
            return Ok(Uri::new(uri, VARIABLE));
        }
        let route = config.routes.first().ok_or_else(|| {
            Failure::new("the configuration has no route: say where MongoDB is with --uri")
        })?;
        Ok(Uri::new(of_member(&route.upstream), "the first route"))
    }
}

/// The connection string of one member, which tells of the others.
fn of_member(upstream: &Address) -> String {
    match upstream {
        Address::Tcp(address) => format!("mongodb://{address}/"),
        Address::Unix(path) => {
            let path = path.to_string_lossy();
            let encoded: String = path.bytes().map(|byte| format!("%{byte:02X}")).collect();
            format!("mongodb://{encoded}/?directConnection=true")
        }
    }
}

/// Where this configuration's proxy is reached.
fn proxies(config: &Config) -> Vec<String> {
    let addresses = config.routes.iter().flat_map(|route| {
        let listen = Some(route.listen.to_string());
        listen.into_iter().chain(route.advertise.clone())
    });
    addresses.collect()
}

/// Runs a job to its end, on threads of its own.
pub(super) fn run_to_end<T>(job: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start: {error}")))?
        .block_on(job)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_route_is_a_connection_string_without_a_user() {
        let member = |text: &str| of_member(&text.parse().unwrap());
        assert_eq!(member("db.example:27017"), "mongodb://db.example:27017/");
        assert_eq!(
            of_member(&Address::Unix(PathBuf::from("/a b"))),
            "mongodb://%2F%61%20%62/?directConnection=true"
        );
    }
}
