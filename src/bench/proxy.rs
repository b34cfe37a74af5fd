//! A proxy of this very program as a process of its own, with files of its own.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::fault::BenchError;
use super::load::Target;
use super::settings::{Sides, Transport};
use crate::cli::embedded::Certificates;
use crate::config::Address;

/// How long a proxy may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many lines of its log are told if it does not.
const LAST_LINES: usize = 3;

/// What a proxy is started with.
#[derive(Debug)]
pub struct ProxyOptions<'o> {
    /// The setting that it is for.
    pub setting: &'o str,
    /// A folder for its files, which is not there yet.
    pub folder: PathBuf,
    /// The text of its schema file, as JSON.
    pub schema: &'o str,
    /// The key file.
    pub keyring: &'o Path,
    /// The file of the secret that opens it.
    pub unseal: &'o Path,
    /// How it speaks with clients and with MongoDB.
    pub sides: Sides,
    /// MongoDB's address.
    pub upstream: &'o Address,
    /// For TLS.
    pub certificates: Option<&'o Certificates>,
}

/// A proxy that listens. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    /// Reads its log, so that it never waits for a reader.
    log: Option<JoinHandle<()>>,
    target: Target,
}

impl Proxy {
    /// Starts one, and waits until it serves.
    pub async fn start(options: &ProxyOptions<'_>) -> Result<Self, BenchError> {
        std::fs::create_dir(&options.folder)?;
        std::fs::write(options.folder.join("schema.json"), options.schema)?;
        let file = options.folder.join("fieldseal.toml");
        std::fs::write(&file, configuration(options)?)?;
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os() {
            // Settings of the user's own proxy, or what opens its keys.
            if name.as_encoded_bytes().starts_with(b"FIELDSEAL") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(["serve", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is for the bench alone, which then ends its proxies.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let stderr = child.stderr.take().ok_or(std::io::ErrorKind::BrokenPipe);
        let mut lines = BufReader::new(stderr.map_err(std::io::Error::from)?).lines();
        let mut proxy = Self {
            child,
            log: None,
            target: Target::Unix(PathBuf::new()),
        };
        let mut last = VecDeque::new();
        let listens = tokio::time::timeout(PATIENCE, address(&mut lines, &mut last)).await;
        let Ok(Some(address)) = listens else {
            // Of one that is gone, the status comes with the end of its log.
            let ended = match listens {
                Ok(_) => tokio::time::timeout(PATIENCE, proxy.child.wait()).await,
                Err(elapsed) => Err(elapsed),
            };
            let status = ended.ok().and_then(Result::ok);
            let log = Vec::from(last).join(" / ");
            return Err(BenchError::ended(options.setting, status, log));
        };
        proxy.log = Some(tokio::spawn(async move {
            while let Ok(Some(_)) = lines.next_line().await {}
        }));
        proxy.target = target(options, &address)?;
        Ok(proxy)
    }

    /// Where clients connect.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its process; none once it has ended.
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.abort();
        }
        // Fails only if it is gone already.
        let _ = self.child.start_kill();
        while let Ok(None) = self.child.try_wait() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Where it listens, as its log says when all is ready; none if the log ends before.
async fn address(
    lines: &mut Lines<BufReader<ChildStderr>>,
    last: &mut VecDeque<String>,
) -> Option<String> {
    let mut address = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let told: Value = serde_json::from_str(&line).unwrap_or_default();
        let text = |key: &str| told.get(key).and_then(Value::as_str).map(str::to_owned);
        match text("message").as_deref() {
            Some("listening") => address = text("address"),
            Some("serving") => return address,
            _ => {}
        }
        last.push_back(text("message").unwrap_or(line));
        if last.len() > LAST_LINES {
            last.pop_front();
        }
    }
    None
}

fn target(options: &ProxyOptions<'_>, address: &str) -> Result<Target, BenchError> {
    let not = |_| BenchError::ended(options.setting, None, format!("listening at {address}"));
    match address.parse::<Address>() {
        Ok(Address::Unix(path)) => Ok(Target::Unix(path)),
        _ => {
            let socket = address.parse().map_err(not)?;
            match (options.sides.listen, options.certificates) {
                (Transport::Tls, Some(certificates)) => {
                    let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
                    Ok(Target::Tls(socket, client(certificates)?, name))
                }
                _ => Ok(Target::Tcp(socket)),
            }
        }
    }
}

/// A client that believes the authority which the proxy's certificate is of.
fn client(certificates: &Certificates) -> Result<Arc<ClientConfig>, BenchError> {
    const WHAT: &str = "a TLS client";
    let pem = std::fs::read(certificates.authority())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(BenchError::make(WHAT))?;
        roots.add(certificate).map_err(BenchError::make(WHAT))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(BenchError::make(WHAT))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The text of its configuration file.
fn configuration(options: &ProxyOptions<'_>) -> Result<String, BenchError> {
    let listen = match options.sides.listen {
        Transport::Unix => Address::Unix(options.folder.join("sock")),
        Transport::Tcp | Transport::Tls => Address::Tcp("127.0.0.1:0".to_owned()),
    };
    let mut root = toml::Table::new();
    let text = |text: &dyn std::fmt::Display| toml::Value::String(text.to_string());
    let path = |path: &Path| text(&path.display());
    let table = |entries: Vec<(&str, toml::Value)>| {
        let entries = entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        toml::Value::Table(entries.collect())
    };
    let mut insert = |key: &str, value| root.insert(key.to_owned(), value);
    insert("schema", text(&"schema.json"));
    let unseal = table(vec![("file", path(options.unseal))]);
    let keyring = vec![("file", path(options.keyring)), ("unseal", unseal)];
    insert("keyring", table(keyring));
    let route = table(vec![
        ("listen", text(&listen)),
        ("upstream", text(options.upstream)),
    ]);
    insert("route", toml::Value::Array(vec![route]));
    insert(
        "log",
        table(vec![("format", text(&"json")), ("level", text(&"info"))]),
    );
    if let Some(certificates) = options.certificates {
        let (own, ca) = (certificates.proxy(), certificates.authority());
        let mut tls = Vec::new();
        let identity = vec![("cert", path(&own)), ("key", path(&own))];
        if options.sides.listen == Transport::Tls {
            tls.push(("listen", table(identity.clone())));
        }
        if options.sides.upstream == Transport::Tls {
            let upstream = identity.into_iter().chain([("ca", path(&ca))]);
            tls.push(("upstream", table(upstream.collect())));
        }
        if !tls.is_empty() {
            insert("tls", table(tls));
        }
    }
    toml::to_string(&root).map_err(BenchError::make("a configuration"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_path_with_odd_characters_stays_one_path() {
        let upstream = "127.0.0.1:27017".parse().unwrap();
        let text = configuration(&ProxyOptions {
            setting: "relay",
            folder: PathBuf::from("/tmp/a \"b\""),
            schema: "{}",
            keyring: Path::new("/tmp/a \"b\"/keyring.json"),
            unseal: Path::new("/tmp/a \"b\"/unseal"),
            sides: Sides {
                listen: Transport::Unix,
                upstream: Transport::Tcp,
            },
            upstream: &upstream,
            certificates: None,
        })
        .unwrap();
        let table: toml::Table = text.parse().unwrap();
        let route = &table["route"][0];
        assert_eq!(route["listen"].as_str(), Some("unix:/tmp/a \"b\"/sock"));
        assert_eq!(
            table["keyring"]["unseal"]["file"].as_str(),
            Some("/tmp/a \"b\"/unseal")
        );
        assert!(!table.contains_key("tls"));
    }
}
