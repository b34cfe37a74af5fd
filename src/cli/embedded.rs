//! A mongod of our own, for commands that need none of the user's.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bson::doc;
use mongodb::Client;
use mongodb::options::ClientOptions;
use rand::RngExt;
use tokio::process::{Child, Command};

use super::{Failure, certs};

/// The environment variable that names the mongod to start.
pub const MONGOD: &str = "FIELDSEAL_MONGOD";

/// How long a mongod may take to become primary.
const PATIENCE: Duration = Duration::from_secs(60);

const REPLICA_SET: &str = "fieldseal";

/// Why there is no mongod.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// It cannot be started.
    #[error(
        "cannot start {}: {source}; put a mongod on PATH, or name one with {MONGOD}", program.to_string_lossy()
    )]
    Start {
        /// The program.
        program: OsString,
        /// Why.
        source: std::io::Error,
    },
    /// Its folder cannot be made.
    #[error("cannot make a folder for it: {0}")]
    Folder(#[from] std::io::Error),
    /// It has no certificates.
    #[error("{}", .0.lines().join("; "))]
    Certificates(Failure),
    /// It ended by itself.
    #[error("mongod ended by itself ({0}); its log said: {1}")]
    Ended(std::process::ExitStatus, String),
    /// It does not answer.
    #[error("mongod did not become primary: {0}")]
    NotPrimary(mongodb::error::Error),
}

/// How far it speaks TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EmbeddedTls {
    /// Not at all.
    #[default]
    Off,
    /// With whoever begins with it.
    Offered,
    /// With everyone; it lets in only who shows a certificate of an authority made for it.
    Required,
}

/// What it is started with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// How far it speaks TLS.
    pub tls: EmbeddedTls,
    /// Whether it listens at a socket in its folder as well.
    pub unix_socket: bool,
}

/// A mongod in a temporary folder, a replica set of one. Ends and is removed when dropped.
#[derive(Debug)]
pub struct Embedded {
    child: Child,
    port: u16,
    options: EmbeddedOptions,
    /// None without TLS.
    certificates: Option<Certificates>,
    /// Dropped after the process is.
    folder: Folder,
}

/// Certificates that were made for this mongod, as `fieldseal certs` makes them.
#[derive(Debug, Clone)]
pub struct Certificates(PathBuf);

impl Certificates {
    /// How many days they hold: longer than anybody looks at a tour.
    const DAYS: u16 = 30;

    /// Makes them, in a folder that is made too.
    pub fn make(folder: PathBuf) -> Result<Self, EmbeddedError> {
        certs::run(&folder, &[], Self::DAYS).map_err(EmbeddedError::Certificates)?;
        Ok(Self(folder))
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// The proxy's certificate and key, for both sides.
    pub fn proxy(&self) -> PathBuf {
        self.0.join("proxy.pem")
    }

    fn mongod(&self) -> PathBuf {
        self.0.join("mongod.pem")
    }

    fn client(&self) -> PathBuf {
        self.0.join("client.pem")
    }

    /// What a connection string needs besides.
    fn options(&self) -> String {
        format!(
            "&tls=true&tlsCAFile={}&tlsCertificateKeyFile={}",
            self.authority().display(),
            self.client().display()
        )
    }
}

/// A folder for temporary files that only its owner can look into; it is removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> std::io::Result<Self> {
        let name = format!("fieldseal-{:016x}", rand::rng().random::<u64>());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Fails only if it is gone already.
        let _ = self.child.start_kill();
        // What still runs could write to the folder while that is removed.
        while let Ok(None) = self.child.try_wait() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, in its folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Embedded {
    /// Starts one on a loopback port that the system picks, and waits until it is primary.
    /// With TLS it lets in only who shows a certificate of an authority made for it.
    pub async fn start(tls: bool) -> Result<Self, EmbeddedError> {
        let tls = if tls {
            EmbeddedTls::Required
        } else {
            EmbeddedTls::Off
        };
        let options = EmbeddedOptions {
            tls,
            ..EmbeddedOptions::default()
        };
        Self::start_with(options).await
    }

    /// The same with all the options.
    pub async fn start_with(options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let folder = Folder::new()?;
        let certificates = (options.tls != EmbeddedTls::Off)
            .then(|| Certificates::make(folder.0.join("certs")))
            .transpose()?;
        let program = std::env::var_os(MONGOD).unwrap_or_else(|| "mongod".into());
        // The port is free now; if another takes it first, mongod says so and ends.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let mut command = Command::new(&program);
        if let Some(certificates) = &certificates {
            let mode = match options.tls {
                EmbeddedTls::Required => "requireTLS",
                EmbeddedTls::Off | EmbeddedTls::Offered => "allowTLS",
            };
            command
                .args(["--tlsMode", mode, "--tlsCAFile"])
                .arg(certificates.authority())
                .arg("--tlsCertificateKeyFile")
                .arg(certificates.mongod());
        }
        if options.unix_socket {
            command.arg("--unixSocketPrefix").arg(&folder.0);
        } else {
            command.arg("--nounixsocket");
        }
        let child = command
            .args(["--bind_ip", "127.0.0.1", "--replSet", REPLICA_SET])
            .args([
                "--oplogSize",
                "64",
                "--wiredTigerCacheSizeGB",
                "0.25",
                "--quiet",
            ])
            .arg("--port")
            .arg(port.to_string())
            .arg("--dbpath")
            .arg(&folder.0)
            .arg("--logpath")
            .arg(folder.0.join("mongod.log"))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| EmbeddedError::Start { program, source })?;
        let mut embedded = Self {
            child,
            port,
            options,
            certificates,
            folder,
        };
        embedded.become_primary().await?;
        Ok(embedded)
    }

    /// Its process; none once it has ended.
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its socket in the file system; none without.
    pub fn socket(&self) -> Option<PathBuf> {
        let name = format!("mongodb-{}.sock", self.port);
        (self.options.unix_socket).then(|| self.folder.0.join(name))
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Its certificates and those of who speaks with it; none without TLS.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// A connection string for this mongod, or for what stands before it.
    pub fn uri(&self, address: &str) -> String {
        Self::plain_uri(address) + &self.tls_options()
    }

    /// The same without what TLS needs.
    pub fn plain_uri(address: &str) -> String {
        format!("mongodb://{address}/?replicaSet={REPLICA_SET}")
    }

    fn tls_options(&self) -> String {
        match &self.certificates {
            Some(certificates) if self.options.tls == EmbeddedTls::Required => {
                certificates.options()
            }
            _ => String::new(),
        }
    }

    async fn become_primary(&mut self) -> Result<(), EmbeddedError> {
        let (address, tls) = (self.address(), self.tls_options());
        let uri = format!("mongodb://{address}/?directConnection=true{tls}");
        let mut options = ClientOptions::parse(uri)
            .await
            .map_err(EmbeddedError::NotPrimary)?;
        options.server_selection_timeout = Some(Duration::from_millis(500));
        let client = Client::with_options(options).map_err(EmbeddedError::NotPrimary)?;
        let admin = client.database("admin");
        let members = doc! {"_id": REPLICA_SET, "members": [{"_id": 0, "host": self.address()}]};
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut initiated = false;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(EmbeddedError::Ended(status, self.last_words()));
            }
            let answer = if initiated {
                admin.run_command(doc! {"hello": 1}).await
            } else {
                admin.run_command(doc! {"replSetInitiate": &members}).await
            };
            match answer {
                Ok(_) if !initiated => initiated = true,
                Ok(hello) if hello.get_bool("isWritablePrimary").unwrap_or_default() => {
                    return Ok(());
                }
                Err(error) if tokio::time::Instant::now() > deadline => {
                    return Err(EmbeddedError::NotPrimary(error));
                }
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.folder.0.join("mongod.log")).unwrap_or_default();
        log.lines().last().unwrap_or("nothing").to_owned()
    }

    /// Ends it, waits for its end and removes its folder.
    pub async fn stop(mut self) {
        // Fails only if it is gone already, which is what is wanted.
        let _ = self.child.kill().await;
    }
}
