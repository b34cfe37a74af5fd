//! What is measured: ways to one mongod, each in a process of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bson::doc;
use fieldseal::bench::load::{Load, Target, request};

/// How long a relay may take to answer its first request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a relay does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot run {0}: {1}")]
    Spawn(String, io::Error),
    #[error("{0} failed: {1}")]
    Ended(String, String),
    #[error("{0} does not answer")]
    Silent(String),
}

/// A folder for the files of all relays, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("fieldseal-relay-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name.replace([' ', ','], "-"));
        std::fs::create_dir(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A way to mongod; its process ends when dropped.
pub(crate) struct Relay {
    pub(crate) name: String,
    pub(crate) target: Target,
    /// None if it is mongod itself.
    child: Option<Child>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where a relay listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sockets {
    Tcp,
    Unix,
}

impl Sockets {
    fn target(self, folder: &Path) -> io::Result<Target> {
        Ok(match self {
            Self::Tcp => {
                let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
                Target::Tcp(listener.local_addr()?)
            }
            Self::Unix => Target::Unix(folder.join("socket")),
        })
    }
}

impl Relay {
    /// No relay at all.
    pub(crate) fn direct(name: &str, target: Target) -> Self {
        Self {
            name: name.to_owned(),
            target,
            child: None,
        }
    }

    pub(crate) fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The process whose CPU time it costs; none if it is mongod itself.
    pub(crate) fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    async fn start(name: &str, target: Target, mut command: Command) -> Result<Self, StartError> {
        let child = (command.stdin(Stdio::null()).spawn())
            .map_err(|error| StartError::Spawn(name.to_owned(), error))?;
        let mut relay = Self {
            name: name.to_owned(),
            target,
            child: Some(child),
        };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(Ok(Some(status))) = relay.child.as_mut().map(Child::try_wait) {
                return Err(StartError::Ended(name.to_owned(), status.to_string()));
            }
            if let Ok(mut load) = Load::connect(&relay.target, 1).await
                && load
                    .ask(&request(&doc! {"ping": 1, "$db": "admin"}))
                    .await
                    .is_ok()
            {
                return Ok(relay);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(StartError::Silent(name.to_owned()))
    }
}

/// HAProxy in TCP mode; what is not named here is left at its defaults.
pub(crate) async fn haproxy(
    name: &str,
    folder: &Path,
    sockets: Sockets,
    upstream: &str,
) -> Result<Relay, StartError> {
    let failed = |error| StartError::Spawn(name.to_owned(), error);
    let target = sockets.target(folder).map_err(failed)?;
    let config = format!(
        "defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen mongodb
  bind {}
  server mongod {}
",
        address(&target, "unix@"),
        upstream.replace("unix:", "unix@"),
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, config).map_err(failed)?;
    let mut command = Command::new("haproxy");
    command.arg("-q").arg("-db").arg("-f").arg(file);
    Relay::start(name, target, command).await
}

/// Whether HAProxy is installed.
pub(crate) fn has_haproxy() -> bool {
    let mut command = Command::new("haproxy");
    let asked = command
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    asked.status().is_ok_and(|status| status.success())
}

/// The files of a proxy, before it runs.
pub(crate) struct Fieldseal {
    name: String,
    program: PathBuf,
    folder: PathBuf,
    target: Target,
}

impl Fieldseal {
    /// Writes the files, with new keys or those of another.
    pub(crate) fn new(
        (name, program): (&str, &Path),
        folder: PathBuf,
        schema: &str,
        keys: Option<&Self>,
        sockets: Sockets,
        upstream: &str,
    ) -> Result<Self, StartError> {
        let failed = |error| StartError::Spawn(name.to_owned(), error);
        let target = sockets.target(&folder).map_err(failed)?;
        let listen = address(&target, "unix:");
        let config = format!(
            r#"schema = "schema.toml"
[keyring]
file = "keyring.json"
unseal = {{ file = "unseal" }}
[[route]]
listen = "{listen}"
upstream = "{upstream}"
[log]
level = "warn"
"#
        );
        let files = [
            ("schema.toml", schema),
            ("unseal", &"5a".repeat(32)),
            ("fieldseal.toml", &config),
        ];
        for (file, text) in files {
            std::fs::write(folder.join(file), text).map_err(failed)?;
        }
        let proxy = Self {
            name: name.to_owned(),
            program: program.to_owned(),
            folder,
            target,
        };
        match keys {
            None => proxy.command(&["keys", "init"])?,
            Some(other) => {
                let file = "keyring.json";
                std::fs::copy(other.folder.join(file), proxy.folder.join(file)).map_err(failed)?;
            }
        }
        Ok(proxy)
    }

    /// Runs one of its commands to the end.
    pub(crate) fn command(&self, words: &[&str]) -> Result<(), StartError> {
        let said = (Command::new(&self.program).args(words))
            .arg("-c")
            .arg(self.folder.join("fieldseal.toml"))
            .output()
            .map_err(|error| StartError::Spawn(self.name.clone(), error))?;
        if said.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&said.stderr).trim().to_owned();
        Err(StartError::Ended(self.name.clone(), words))
    }

    /// Runs it, with as many files open as it may have.
    pub(crate) async fn start(&self) -> Result<Relay, StartError> {
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                r#"ulimit -n "$(ulimit -Hn)"; exec "$0" serve -c "$1""#,
            ])
            .arg(&self.program)
            .arg(self.folder.join("fieldseal.toml"));
        Relay::start(&self.name, self.target.clone(), command).await
    }
}

fn address(target: &Target, unix: &str) -> String {
    match target {
        Target::Unix(path) => format!("{unix}{}", path.display()),
        Target::Tcp(address) | Target::Tls(address, ..) => address.to_string(),
    }
}
