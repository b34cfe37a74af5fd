//! The real `fieldseal` binary in front of a replica set.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use mongodb::Client;

use super::mongod::ReplicaSet;
use super::process::{PATIENCE, Process, new_directory};

/// Lines for a configuration by which MongoDB may be given JavaScript.
pub(crate) const WITH_JAVASCRIPT: &str = "[access]\njavascript = \"allow\"\n";

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
    /// What `fieldseal keys` does with the new key file, one after the other.
    pub(crate) keys: &'a [&'a [&'a str]],
    /// The key file to begin with a copy of, in the place of a new one.
    pub(crate) key_file: Option<&'a Path>,
}

impl Default for ProxyOptions<'_> {
    fn default() -> Self {
        Self {
            schema: "",
            configuration: "",
            log_level: "trace",
            routes: usize::MAX,
            keys: &[],
            key_file: None,
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
        match options.key_file {
            Some(file) => copy_keys(file, &directory),
            None => keys(&configuration, &["init"]),
        }
        for arguments in options.keys {
            keys(&configuration, arguments);
        }
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

    /// Its key file.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.directory().join(KEY_FILE)
    }

    /// Runs `fieldseal keys` with its files, and waits until it has taken up the keys.
    ///
    /// # Panics
    /// When either fails.
    pub(crate) async fn keys(&mut self, arguments: &[&str]) {
        keys(&self.configuration(), arguments);
        self.take_up_keys().await;
    }

    /// Gives it a copy of another key file, and waits until it has taken up the keys.
    ///
    /// # Panics
    /// When it does not.
    pub(crate) async fn take_keys(&mut self, file: &Path) {
        copy_keys(file, self.directory());
        self.take_up_keys().await;
    }

    async fn take_up_keys(&mut self) {
        let text = fs::read_to_string(self.key_file()).unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        self.process.signal("HUP");
        let generation = format!("generation={}", file["generation"]);
        self.wait_for_log(&["taken up anew", &generation]).await;
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

/// The key file that a configuration names.
const KEY_FILE: &str = "keyring.json";

fn keys(configuration: &Path, arguments: &[&str]) {
    let done = fieldseal(&[&["keys"], arguments].concat(), configuration);
    assert!(
        done.status.success(),
        "{arguments:?}: {}",
        error_text(&done)
    );
}

/// Puts a copy of a key file in the place of that in `directory`.
fn copy_keys(file: &Path, directory: &Path) {
    let copy = directory.join("copied.json");
    fs::copy(file, &copy).unwrap();
    fs::rename(copy, directory.join(KEY_FILE)).unwrap();
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
