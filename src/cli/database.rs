//! The MongoDB that a command works on: `--uri`, `FIELDSEAL_URI`, or the first route's.

use std::future::Future;
use std::path::Path;

use clap::Args;
use mongodb::Client;

use super::Failure;
use crate::code::Code;
use crate::config::{Address, Config, UpstreamTls};
use crate::migrate::database::Uri;

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

impl DatabaseArgs {
    /// Whether it was said where MongoDB is, and not left to the first route.
    pub(super) fn is_named(&self) -> bool {
        self.uri.is_some() || std::env::var(VARIABLE).is_ok_and(|uri| !uri.is_empty())
    }

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
            Failure::coded(
                Code::Configuration,
                "the configuration has no route: say where MongoDB is with --uri",
            )
        })?;
        let tls = match &config.tls.upstream {
            Some(tls) => tls_options(tls)?,
            None => String::new(),
        };
        let uri = of_member(&route.upstream);
        let join = if uri.contains('?') { "&" } else { "?" };
        let uri = if tls.is_empty() {
            uri
        } else {
            format!("{uri}{join}{tls}")
        };
        Ok(Uri::new(uri, "the first route"))
    }
}

/// The options of a connection string that are the same as `[tls.upstream]`. What the driver
/// cannot check is not left out: then the user has to say what to do instead.
fn tls_options(tls: &UpstreamTls) -> Result<String, Failure> {
    let refuse = |what: &str| {
        Failure::coded(
            Code::ConnectionString,
            format_args!(
                "[tls.upstream] has {what}, which this command cannot use by itself: give it a connection string with --uri or {VARIABLE}, with tls=true, tlsCAFile and, where it is asked for, tlsCertificateKeyFile (certificate and key in one file)"
            ),
        )
    };
    if !tls.pins.is_empty() {
        return Err(refuse("`pin_sha256`"));
    }
    if tls.server_name.is_some() {
        return Err(refuse("`server_name`"));
    }
    let mut options = "tls=true".to_owned();
    if let Some(ca) = &tls.ca {
        options.push_str(&format!("&tlsCAFile={}", encoded(ca)));
    }
    if let Some(identity) = &tls.identity {
        if identity.cert != identity.key {
            return Err(refuse("`cert` and `key` in two files"));
        }
        options.push_str(&format!(
            "&tlsCertificateKeyFile={}",
            encoded(&identity.cert)
        ));
    }
    Ok(options)
}

/// A path as a connection string takes it.
fn encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;

    let bytes = path.as_os_str().as_bytes().iter();
    bytes.map(|byte| format!("%{byte:02X}")).collect()
}

/// The connection string of one member, which tells of the others.
fn of_member(upstream: &Address) -> String {
    match upstream {
        Address::Tcp(address) => format!("mongodb://{address}/"),
        Address::Unix(path) => {
            format!("mongodb://{}/?directConnection=true", encoded(path))
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
        .map_err(|error| Failure::coded(Code::Start, format_args!("cannot start: {error}")))?
        .block_on(job)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::PathBuf;

    use super::*;
    use crate::config::IdentityFiles;

    #[test]
    fn a_route_is_a_connection_string_without_a_user() {
        let member = |text: &str| of_member(&text.parse().unwrap());
        assert_eq!(member("db.example:27017"), "mongodb://db.example:27017/");
        assert_eq!(
            of_member(&Address::Unix(PathBuf::from("/a b"))),
            "mongodb://%2F%61%20%62/?directConnection=true"
        );
    }

    #[test]
    fn tls_towards_mongodb_is_used_or_asked_for_and_never_left_out() {
        let mut tls = UpstreamTls {
            ca: Some(PathBuf::from("/ca")),
            identity: None,
            server_name: None,
            pins: Vec::new(),
        };
        assert_eq!(tls_options(&tls).unwrap(), "tls=true&tlsCAFile=%2F%63%61");
        let files = |cert: &str, key: &str| {
            let (cert, key) = (PathBuf::from(cert), PathBuf::from(key));
            Some(IdentityFiles { cert, key })
        };
        tls.identity = files("/b", "/b");
        assert_eq!(
            tls_options(&tls).unwrap(),
            "tls=true&tlsCAFile=%2F%63%61&tlsCertificateKeyFile=%2F%62"
        );
        tls.identity = files("/b", "/k");
        let told = tls_options(&tls).unwrap_err();
        assert!(told.lines()[0].contains("in two files"), "{told:?}");
        tls.identity = None;
        tls.server_name = Some("db.example".try_into().unwrap());
        let told = tls_options(&tls).unwrap_err();
        assert!(told.lines()[0].contains("`server_name`"), "{told:?}");
    }
}
