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

/// The environment variable that names the mongod to start.
pub(crate) const MONGOD: &str = "FIELDSEAL_MONGOD";

/// How long a mongod may take to become primary.
const PATIENCE: Duration = Duration::from_secs(60);

const REPLICA_SET: &str = "fieldseal";

/// Why there is no mongod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmbeddedError {
    /// It cannot be started.
    #[error(
        "cannot start {}: {source}; put a mongod on PATH, or name one with {MONGOD}", program.to_string_lossy()
    )]
    Start {
        program: OsString,
        source: std::io::Error,
    },
    /// Its folder cannot be made.
    #[error("cannot make a folder for it: {0}")]
    Folder(#[from] std::io::Error),
    /// It ended by itself.
    #[error("mongod ended by itself ({0}); its log said: {1}")]
    Ended(std::process::ExitStatus, String),
    /// It does not answer.
    #[error("mongod did not become primary: {0}")]
    NotPrimary(mongodb::error::Error),
}

/// A mongod in a temporary folder, a replica set of one. Ends and is removed when dropped.
#[derive(Debug)]
pub(crate) struct Embedded {
    child: Child,
    port: u16,
    /// Dropped after the process is.
    folder: Folder,
}

/// A folder that is removed when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let name = format!("fieldseal-{:016x}", rand::rng().random::<u64>());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
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
    pub(crate) async fn start() -> Result<Self, EmbeddedError> {
        let folder = Folder::new()?;
        let program = std::env::var_os(MONGOD).unwrap_or_else(|| "mongod".into());
        // The port is free now; if another takes it first, mongod says so and ends.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let child = Command::new(&program)
            .args([
                "--bind_ip",
                "127.0.0.1",
                "--nounixsocket",
                "--replSet",
                REPLICA_SET,
            ])
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
            folder,
        };
        embedded.become_primary().await?;
        Ok(embedded)
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// A connection string for this mongod, or for what stands before it.
    pub(crate) fn uri(address: &str) -> String {
        format!("mongodb://{address}/?replicaSet={REPLICA_SET}")
    }

    async fn become_primary(&mut self) -> Result<(), EmbeddedError> {
        let uri = format!("mongodb://{}/?directConnection=true", self.address());
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
    pub(crate) async fn stop(mut self) {
        // Fails only if it is gone already, which is what is wanted.
        let _ = self.child.kill().await;
    }
}
