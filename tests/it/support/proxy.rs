//! The real `fieldseal` binary in front of a replica set.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use mongodb::Client;

use super::mongod::ReplicaSet;
use super::process::{PATIENCE, Process, new_directory};

/// What a test needs of its proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProxyOptions<'a> {
    /// The text of the schema file.
    pub(crate) schema: &'a str,
    /// Lines added to the end of `fieldseal.toml`: further sections.
    pub(crate) configuration: &'a str,
    /// The level of the log.
    pub(crate) log_level: &'a str,
    /// How many of the members have a route, from the first on.
    pub(crate) routes: usize,
}

impl Default for ProxyOptions<'_> {
    fn default() -> Self {
        Self {
            schema: "",
            configuration: "",
            log_level: "trace",
            routes: usize::MAX,
        }
    }
}

/// A running proxy with a key file of its own and one route to each member.
/// Dropping it ends it and removes its files.
pub(crate) struct Proxy {
    process: Process,
    addresses: Vec<String>,
    uri: String,
}

impl Proxy {
    /// A proxy in front of `set`, which seals what `schema` names.
    ///
    /// # Panics
    /// When it does not start.
    pub(crate) async fn start(set: &ReplicaSet, schema: &str) -> Self {
        Self::start_with(
            set,
            ProxyOptions {
                schema,
                ..ProxyOptions::default()
            },
        )
        .await
    }

    /// The same with all the options.
    ///
    /// # Panics
    /// When it does not start.
    pub(crate) async fn start_with(set: &ReplicaSet, options: ProxyOptions<'_>) -> Self {
        Self::start_through(set, &set.addresses(), options).await
    }

    /// The same with other upstreams than the members: relays that lead to them.
    ///
    /// # Panics
    /// When it does not start.
    pub(crate) async fn start_through(
        set: &ReplicaSet,
        upstreams: &[String],
        options: ProxyOptions<'_>,
    ) -> Self {
        let directory = new_directory("proxy");
        let upstreams = &upstreams[..upstreams.len().min(options.routes)];
        let configuration = write_configuration(&directory, upstreams, options);
        let keys = fieldseal(&["keys", "init"], &configuration);
        assert!(keys.status.success(), "keys init: {}", error_text(&keys));
        let mut command = command(&["serve"], &configuration);
        command.current_dir(&directory);
        let mut proxy = Self {
            process: Process::start(&command, directory),
            addresses: Vec::new(),
            uri: String::new(),
        };
        proxy.addresses = proxy.bound_addresses(upstreams).await;
        proxy.uri = set.uri_through(&proxy.addresses);
        proxy
    }

    /// `host:port` of each route, in the order of the members.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The connection string of the whole set through the proxy.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// A client that goes through the proxy.
    pub(crate) async fn client(&self) -> Client {
        Client::with_uri_str(&self.uri).await.unwrap()
    }

    /// Everything the proxy wrote so far, its log foremost.
    pub(crate) fn log(&self) -> String {
        self.process.output()
    }

    /// The addresses from which it connected to the members, as its log says.
    pub(crate) fn upstream_addresses(&self) -> HashSet<String> {
        self.log()
            .split("upstream_local=")
            .skip(1)
            .filter_map(|rest| rest.split_whitespace().next())
            .map(|address| address.trim_matches('"').to_owned())
            .collect()
    }

    /// Asserts that no client has found a way round the proxy: since a `mark` made
    /// with [`ReplicaSet::mark`], the members were connected to by the proxy alone,
    /// and were so at all.
    ///
    /// # Panics
    /// When a client has.
    pub(crate) async fn assert_no_way_round(&self, set: &ReplicaSet, mark: &[usize]) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let own = self.upstream_addresses();
            let connections = set.connections_since(mark);
            let strangers: Vec<&String> = connections
                .iter()
                .filter(|remote| !own.contains(*remote))
                .collect();
            if strangers.is_empty() {
                assert!(!connections.is_empty(), "no connection proves nothing");
                return;
            }
            // What two logs say of one moment comes at two.
            assert!(Instant::now() < deadline, "past the proxy: {strangers:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where its files are: `fieldseal.toml`, `schema.toml`, `keyring.json`, `unseal`.
    pub(crate) fn directory(&self) -> &Path {
        self.process.directory()
    }

    /// Its `fieldseal.toml`, for other commands.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.directory().join("fieldseal.toml")
    }

    /// The process, to signal it or to see whether it has ended.
    pub(crate) fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until the log has a line with each of `words`, and returns it.
    ///
    /// # Panics
    /// When it does not come, or the proxy ends.
    pub(crate) async fn wait_for_log(&mut self, words: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.process.ended();
            let log = self.log();
            let found = |line: &&str| words.iter().all(|word| line.contains(word));
            if let Some(line) = log.lines().find(found) {
                return line.to_owned();
            }
            assert!(ended.is_none(), "the proxy ended:\n{log}");
            assert!(Instant::now() < deadline, "no line with {words:?}:\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn bound_addresses(&mut self, upstreams: &[String]) -> Vec<String> {
        let mut addresses = Vec::new();
        for upstream in upstreams {
            let upstream = format!("upstream={upstream}");
            let line = self
                .wait_for_log(&["listening", "address=", &upstream])
                .await;
            let (_, rest) = line.split_once("address=").unwrap();
            let address = rest.split_whitespace().next().unwrap();
            addresses.push(address.trim_matches('"').to_owned());
        }
        addresses
    }
}

/// Runs a `fieldseal` command to its end.
pub(crate) fn fieldseal(arguments: &[&str], configuration: &Path) -> Output {
    command(arguments, configuration).output().unwrap()
}

/// Writes `fieldseal.toml` and the files that it names, but for the key file.
/// Each route listens on a port that the system picks.
pub(crate) fn write_configuration(
    directory: &Path,
    upstreams: &[String],
    options: ProxyOptions<'_>,
) -> PathBuf {
    use std::fmt::Write as _;

    fs::write(directory.join("schema.toml"), options.schema).unwrap();
    fs::write(directory.join("unseal"), "5a".repeat(32)).unwrap();
    let mut text = String::from(
        "schema = \"schema.toml\"\n\n\
         [keyring]\nfile = \"keyring.json\"\nunseal = { file = \"unseal\" }\n\n",
    );
    for upstream in upstreams {
        write!(
            text,
            "[[route]]\nlisten = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\n\n"
        )
        .unwrap();
    }
    write!(text, "[log]\nlevel = \"{}\"\n\n", options.log_level).unwrap();
    text.push_str(options.configuration);
    let configuration = directory.join("fieldseal.toml");
    fs::write(&configuration, text).unwrap();
    configuration
}

/// What a command wrote to standard error.
pub(crate) fn error_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A `fieldseal` command with a configuration, to run or to serve.
pub(crate) fn command(arguments: &[&str], configuration: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldseal"));
    command
        .args(arguments)
        .arg("-c")
        .arg(configuration)
        .env("NO_COLOR", "1");
    command
}
