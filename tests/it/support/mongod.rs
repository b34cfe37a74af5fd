//! A mongod replica set of one member or of three.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{ClientOptions, Tls, TlsOptions};

use super::process::{PATIENCE, Process, new_directory};

/// The name of the replica set.
pub(crate) const SET: &str = "rs";
/// The user of a set with `auth`, who may do everything.
pub(crate) const USER: &str = "root";
/// The password of [`USER`].
pub(crate) const PASSWORD: &str = "not a secret";

/// The application name of clients that go straight to mongod to look at what is stored.
pub(crate) const LOOKER: &str = "looker";

/// What a test needs of its mongod.
#[derive(Debug, Clone)]
pub(crate) struct ReplicaSetOptions {
    /// 1 or 3; more with `member_options`.
    pub(crate) members: usize,
    /// What the configuration of the set says of the members beyond their addresses, in their order.
    pub(crate) member_options: Vec<Document>,
    /// Clients have to authenticate as [`USER`].
    pub(crate) auth: bool,
    /// False stores data and journal uncompressed, so that a search in the files finds all.
    pub(crate) compress: bool,
    /// Logs every operation, as slower than 0 ms, and profiles it.
    pub(crate) log_everything: bool,
    /// Requires TLS, and certificates of clients.
    pub(crate) tls: Option<MongodTls>,
    /// Further arguments of mongod.
    pub(crate) arguments: Vec<String>,
}

/// The PEM files of a mongod with TLS.
#[derive(Debug, Clone)]
pub(crate) struct MongodTls {
    /// The authority of its own certificate and its clients'.
    pub(crate) ca: PathBuf,
    /// Its own certificate and key.
    pub(crate) identity: PathBuf,
    /// Those of the clients that look at what is stored.
    pub(crate) looker: PathBuf,
}

impl Default for ReplicaSetOptions {
    fn default() -> Self {
        Self {
            members: 1,
            member_options: Vec::new(),
            auth: false,
            compress: true,
            log_everything: false,
            tls: None,
            arguments: Vec::new(),
        }
    }
}

/// A running replica set with a primary. Dropping it ends it and removes its files.
pub(crate) struct ReplicaSet {
    members: Vec<Member>,
    auth: bool,
}

/// One mongod of a set.
pub(crate) struct Member {
    process: Process,
    port: u16,
    tls: Option<MongodTls>,
}

impl ReplicaSet {
    /// Starts the members, initiates the set and waits until it has a primary.
    ///
    /// # Panics
    /// When that fails.
    pub(crate) async fn start(options: ReplicaSetOptions) -> Self {
        let mut members = Vec::new();
        for _ in 0..options.members {
            members.push(Member::start(&options).await);
        }
        let set = Self {
            members,
            auth: options.auth,
        };
        set.initiate(&options.member_options).await;
        set
    }

    /// The members, the first of which was the first primary.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The members, to stop and start them.
    pub(crate) fn members_mut(&mut self) -> &mut [Member] {
        &mut self.members
    }

    /// `host:port` of each member.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.members.iter().map(Member::address).collect()
    }

    /// The connection string of the whole set, with the user's name if there is one.
    pub(crate) fn uri(&self) -> String {
        self.uri_through(&self.addresses())
    }

    /// The same with other addresses for the members: those of a proxy.
    pub(crate) fn uri_through(&self, addresses: &[String]) -> String {
        let user = if self.auth {
            format!("{USER}:{}@", PASSWORD.replace(' ', "%20"))
        } else {
            String::new()
        };
        let addresses = addresses.join(",");
        format!("mongodb://{user}{addresses}/?replicaSet={SET}")
    }

    /// A client that goes straight to the set.
    pub(crate) async fn client(&self) -> Client {
        Client::with_uri_str(self.uri()).await.unwrap()
    }

    /// How many connections each member has had so far, for [`ReplicaSet::connections_since`].
    pub(crate) fn mark(&self) -> Vec<usize> {
        self.members
            .iter()
            .map(|member| member.connections().len())
            .collect()
    }

    /// The connections of clients to any member since the mark.
    pub(crate) fn connections_since(&self, mark: &[usize]) -> Vec<String> {
        self.members
            .iter()
            .zip(mark)
            .flat_map(|(member, mark)| member.connections().split_off(*mark))
            .collect()
    }

    async fn initiate(&self, options: &[Document]) {
        let first = self.members[0].direct_client().await;
        let admin = first.database("admin");
        let members: Vec<Bson> = (0_i32..)
            .zip(self.addresses())
            // The first member is the only one that stands for election until told otherwise.
            .map(|(id, host)| {
                doc! { "_id": id, "host": host, "priority": if id == 0 { 2 } else { 1 } }
            })
            .enumerate()
            .map(|(index, mut member)| {
                member.extend(options.get(index).cloned().unwrap_or_default());
                Bson::Document(member)
            })
            .collect();
        let settings = doc! { "electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 200 };
        admin
            .run_command(doc! { "replSetInitiate": { "_id": SET, "members": members, "settings": settings } })
            .await
            .unwrap();
        self.members[0].wait_for_primary(&first).await;
        if self.auth {
            // The exception for a first user made over localhost.
            admin
                .run_command(doc! { "createUser": USER, "pwd": PASSWORD, "roles": ["root"] })
                .await
                .unwrap();
        }
    }
}

impl Member {
    async fn start(options: &ReplicaSetOptions) -> Self {
        // Between the look for a free port and mongod's bind, another may take it.
        for _ in 0..5 {
            let directory = new_directory("mongod");
            let port = free_port();
            let command = command(options, &directory, port);
            let process = Process::start(&command, directory);
            let tls = options.tls.clone();
            let mut member = Self { process, port, tls };
            if member.listening().await {
                return member;
            }
            eprintln!("mongod did not start:\n{}", member.log_tail());
        }
        panic!("{} does not start", mongod_path().display());
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps its data files and journal.
    pub(crate) fn database_path(&self) -> PathBuf {
        self.process.directory().join("db")
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// The clients that connected so far, in order: all but those that said an
    /// application name [`LOOKER`] and mongod's own.
    pub(crate) fn connections(&self) -> Vec<String> {
        let mut accepted = Vec::new();
        let mut known = HashSet::new();
        for line in self.log().lines() {
            // The last line may be half written.
            let Ok(entry) = serde_json::from_str::<serde_json::Value>(line) else {
                continue;
            };
            let attributes = &entry["attr"];
            let remote = attributes["remote"].as_str().unwrap_or_default().to_owned();
            match entry["msg"].as_str() {
                Some("Connection accepted") => accepted.push(remote),
                Some("client metadata") if is_known(&attributes["doc"]) => {
                    known.insert(remote);
                }
                _ => {}
            }
        }
        accepted.retain(|remote| !known.contains(remote));
        accepted
    }

    /// A client of this member alone, not of the set. It looks at what is stored.
    pub(crate) async fn direct_client(&self) -> Client {
        let uri = format!("mongodb://{}/", self.address());
        let mut options = ClientOptions::parse(uri).await.unwrap();
        options.direct_connection = Some(true);
        options.app_name = Some(LOOKER.to_owned());
        if let Some(MongodTls { ca, looker, .. }) = self.tls.clone() {
            let tls = TlsOptions::builder()
                .ca_file_path(ca)
                .cert_key_file_path(looker)
                .build();
            options.tls = Some(Tls::Enabled(tls));
        }
        Client::with_options(options).unwrap()
    }

    /// Crashes the member: no shutdown, its connections are cut.
    pub(crate) fn crash(&mut self) {
        self.process.kill_and_keep();
    }

    /// Starts it again after [`Member::crash`], with the same port and data.
    ///
    /// # Panics
    /// When it does not start.
    pub(crate) async fn restart(&mut self) {
        fs::remove_file(self.log_path()).unwrap();
        self.process.start_again();
        assert!(self.listening().await, "{}", self.log_tail());
    }

    fn log_path(&self) -> PathBuf {
        self.process.directory().join("mongod.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log() + &self.process.output();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    async fn listening(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && self.process.ended().is_none() {
            if self.log().contains("\"msg\":\"Waiting for connections\"") {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        false
    }

    async fn wait_for_primary(&self, client: &Client) {
        let admin = client.database("admin");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let hello: Document = admin.run_command(doc! { "hello": 1 }).await.unwrap();
            if hello.get_bool("isWritablePrimary").unwrap() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "no primary:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

/// The mongod that `FIELDSEAL_MONGOD` names, else the one on `PATH`, else the one
/// that `make mongod` installed.
pub(crate) fn mongod_path() -> PathBuf {
    if let Some(named) = std::env::var_os("FIELDSEAL_MONGOD") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("mongod"))
        .find(|program| program.exists())
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".mongod/mongod"))
}

fn command(options: &ReplicaSetOptions, directory: &Path, port: u16) -> Command {
    let database_path = directory.join("db");
    fs::create_dir_all(&database_path).unwrap();
    let mut command = Command::new(mongod_path());
    command
        .args(["--replSet", SET, "--bind_ip", "127.0.0.1", "--nounixsocket"])
        .args(["--port", &port.to_string(), "--oplogSize", "64"])
        .args(["--wiredTigerCacheSizeGB", "0.25"])
        .args(["--setParameter", "enableTestCommands=1"])
        .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
        .arg("--dbpath")
        .arg(database_path)
        .arg("--logpath")
        .arg(directory.join("mongod.log"))
        .args(&options.arguments);
    if let Some(tls) = &options.tls {
        command.args(["--tlsMode", "requireTLS", "--tlsCAFile"]);
        command.arg(&tls.ca).arg("--tlsCertificateKeyFile");
        command.arg(&tls.identity);
    }
    if !options.compress {
        command
            .args(["--wiredTigerCollectionBlockCompressor", "none"])
            .args(["--wiredTigerJournalCompressor", "none"])
            .args(["--wiredTigerIndexPrefixCompression", "false"]);
    }
    if options.log_everything {
        command.args(["--slowms", "0", "--profile", "2"]);
    }
    if options.auth {
        let key = directory.join("members.key");
        fs::write(&key, "membersKnowEachOtherByThis==").unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        command.args(["--auth", "--keyFile"]).arg(key);
    }
    command
}

/// Whether a client's metadata is that of a test which looks, or of another mongod.
fn is_known(metadata: &serde_json::Value) -> bool {
    let own = ["NetworkInterfaceTL", "MongoDB Internal Client"];
    metadata["application"]["name"] == LOOKER
        || own.iter().any(|own| {
            metadata["driver"]["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(own))
        })
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
