//! What a bench runs on: MongoDB, a proxy for each setting, and connections to all of them.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use rand::RngExt as _;

use super::fault::BenchError;
use super::load::{Load, Target, request};
use super::proxy::{Proxy, ProxyOptions};
use super::settings::{Plan, RELAY, Transport, schema_text};
use crate::cli::embedded::{Certificates, Embedded, EmbeddedOptions, EmbeddedTls, Folder};
use crate::config::Address;
use crate::keyring::{KeyFile, Material, UnsealSecret};

/// What the names of databases begin with that a bench writes to.
pub const DATABASE_PREFIX: &str = "fieldseal_bench_";
/// How often the database is dropped until it stays away.
const TRIES: u32 = 5;
/// How long what was under way may take to show.
const SETTLED: Duration = Duration::from_millis(100);
/// The longest path that the address of a Unix socket holds, on each system.
const LONGEST_SOCKET: usize = 100;

/// MongoDB, proxies, connections. What is dropped ends and leaves no file.
pub struct Stage {
    /// One for each plan. Dropped first.
    pub players: Vec<Player>,
    /// A connection to MongoDB itself, and where it goes.
    direct: Load,
    target: Target,
    /// The database that everything is written to.
    pub database: String,
    /// Ours, if none was named.
    mongod: Option<Embedded>,
    _folder: Folder,
}

/// A setting with its way to MongoDB.
pub struct Player {
    /// What it is.
    pub plan: Plan,
    proxy: Option<Proxy>,
    /// Connections, by how many there are.
    pub loads: Vec<(usize, Load)>,
    /// The collection that is read.
    pub read: String,
    /// The collection that is written to, and emptied after each round.
    pub write: String,
}

impl Player {
    /// The name of its setting.
    pub fn name(&self) -> &str {
        &self.plan.setting.name
    }

    /// The process of its proxy.
    pub fn process(&self) -> Option<u32> {
        self.proxy.as_ref().and_then(Proxy::process)
    }

    /// Asks over its first connection.
    pub async fn ask(&mut self, command: &Document) -> Result<Document, BenchError> {
        let failed = BenchError::load(&self.plan.setting.name);
        let Some((_, load)) = self.loads.first_mut() else {
            return Ok(Document::new());
        };
        load.ask(&request(command)).await.map_err(failed)
    }
}

/// Files that all proxies share, in a folder of which nobody else sees anything.
struct Files {
    folder: PathBuf,
    keyring: PathBuf,
    unseal: PathBuf,
    certificates: Option<Certificates>,
}

impl Files {
    fn write(folder: &Path, plans: &[Plan], own: Option<&Embedded>) -> Result<Self, BenchError> {
        let (keyring, unseal) = (folder.join("keyring.json"), folder.join("unseal"));
        let material = Material::random().map_err(BenchError::make("a secret"))?;
        let secret =
            UnsealSecret::parse(material.expose()).map_err(BenchError::make("a secret"))?;
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unseal)
            .and_then(|mut file| std::io::Write::write_all(&mut file, material.expose()))?;
        let mut names: Vec<&str> = (plans.iter().flat_map(|plan| &plan.sealed))
            .map(|field| field.key.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        KeyFile::init(&keyring, &secret, names).map_err(BenchError::make("a key file"))?;
        let certificates = match own.and_then(Embedded::certificates) {
            Some(certificates) => Some(certificates.clone()),
            None if uses(plans, Transport::Tls) => Some(Certificates::make(folder.join("certs"))?),
            None => None,
        };
        Ok(Self {
            folder: folder.to_owned(),
            keyring,
            unseal,
            certificates,
        })
    }
}

fn uses(plans: &[Plan], transport: Transport) -> bool {
    let mut sides = plans.iter().filter_map(|plan| plan.proxy);
    sides.any(|sides| sides.listen == transport || sides.upstream == transport)
}

/// Whether paths in the folder for temporary files are short enough for sockets.
pub fn sockets_fit() -> bool {
    let longest = "fieldseal-0123456789abcdef/mongodb-65535.sock";
    std::env::temp_dir().as_os_str().len() + longest.len() < LONGEST_SOCKET
}

impl Stage {
    /// Starts what `plans` need, before the MongoDB at `upstream` or one of its own, with
    /// connections as many as `connections` says.
    pub async fn set(
        plans: Vec<Plan>,
        upstream: Option<SocketAddr>,
        connections: &[usize],
    ) -> Result<Self, BenchError> {
        let folder = Folder::new()?;
        let mongod = match upstream {
            Some(_) => None,
            None => {
                let tls = match uses(&plans, Transport::Tls) {
                    true => EmbeddedTls::Offered,
                    false => EmbeddedTls::Off,
                };
                let unix_socket = uses(&plans, Transport::Unix);
                let options = EmbeddedOptions { tls, unix_socket };
                Some(Embedded::start_with(options).await?)
            }
        };
        let address = match (&mongod, upstream) {
            (_, Some(upstream)) => upstream.to_string(),
            (Some(mongod), None) => mongod.address(),
            (None, None) => String::new(),
        };
        let direct = Target::Tcp(address.parse().map_err(BenchError::make("an address"))?);
        let first = connect("direct", &direct, 1).await?;
        let database = format!("{DATABASE_PREFIX}{:016x}", rand::rng().random::<u64>());
        let files = Files::write(&folder.0, &plans, mongod.as_ref())?;
        let sealed = plans
            .iter()
            .map(|plan| &plan.sealed)
            .max_by_key(|sealed| sealed.len());
        let sealed = sealed.cloned().unwrap_or_default();
        let mut players = Vec::new();
        for (number, plan) in plans.into_iter().enumerate() {
            let (read, write) = (format!("read_{number}"), format!("write_{number}"));
            let schema = if number == RELAY {
                schema_text(&[&format!("{database}.other")], &sealed)
            } else {
                let named = [&read, &write].map(|name| format!("{database}.{name}"));
                schema_text(&[&named[0], &named[1]], &plan.sealed)
            };
            let upstream = match (plan.proxy, mongod.as_ref().and_then(Embedded::socket)) {
                (Some(sides), Some(socket)) if sides.upstream == Transport::Unix => {
                    Address::Unix(socket)
                }
                _ => Address::Tcp(address.clone()),
            };
            let (proxy, target) = match plan.proxy {
                None => (None, direct.clone()),
                Some(sides) => {
                    let proxy = Proxy::start(&ProxyOptions {
                        setting: &plan.setting.name,
                        folder: files.folder.join(number.to_string()),
                        schema: &schema,
                        keyring: &files.keyring,
                        unseal: &files.unseal,
                        sides,
                        upstream: &upstream,
                        certificates: files.certificates.as_ref(),
                    })
                    .await?;
                    let target = proxy.target().clone();
                    (Some(proxy), target)
                }
            };
            let mut loads = Vec::new();
            let counts = if plan.scales {
                connections
            } else {
                connections.get(..1).unwrap_or_default()
            };
            for count in counts {
                loads.push((*count, connect(&plan.setting.name, &target, *count).await?));
            }
            players.push(Player {
                plan,
                proxy,
                loads,
                read,
                write,
            });
        }
        Ok(Self {
            players,
            direct: first,
            target: direct,
            database,
            mongod,
            _folder: folder,
        })
    }

    /// The process of MongoDB, if it is ours.
    pub fn mongod(&self) -> Option<u32> {
        self.mongod.as_ref().and_then(Embedded::process)
    }

    /// Asks MongoDB itself.
    pub async fn ask_mongodb(&mut self, command: &Document) -> Result<Document, BenchError> {
        let answer = self.direct.ask(&request(command)).await;
        answer.map_err(BenchError::load("direct"))
    }

    /// Empties what is written to.
    pub async fn clear(&mut self) -> Result<(), BenchError> {
        for number in 0..self.players.len() {
            let Some(name) = self.players.get(number).map(|player| player.write.clone()) else {
                continue;
            };
            let drop = doc! {"drop": &name, "$db": &self.database};
            // At first it is not there, which is an error before MongoDB 7.0.
            let _ = self.direct.ask(&request(&drop)).await;
            let create = doc! {"create": &name, "$db": &self.database};
            self.ask_mongodb(&create).await?;
        }
        Ok(())
    }

    /// Ends the proxies, drops the database and ends MongoDB, if it is ours.
    pub async fn strike(self) -> Result<(), BenchError> {
        let Self {
            players,
            direct,
            target,
            database,
            mongod,
            _folder,
        } = self;
        drop((players, direct));
        match mongod {
            Some(mongod) => {
                mongod.stop().await;
                Ok(())
            }
            None => drop_database(&target, &database).await,
        }
    }
}

/// Drops the database, over a new connection: others may be in the midst of something. What
/// was under way when a bench was interrupted may make a collection after that, so it is
/// looked for once more.
async fn drop_database(target: &Target, database: &str) -> Result<(), BenchError> {
    let told = format!("cannot drop the database {database}, which can be dropped by hand");
    let mut load = connect(&told, target, 1).await?;
    let drop = request(&doc! {"dropDatabase": 1, "$db": database});
    let list = request(&doc! {
        "listDatabases": 1, "nameOnly": true, "filter": {"name": database}, "$db": "admin",
    });
    for _ in 0..TRIES {
        load.ask(&drop).await.map_err(BenchError::load(&told))?;
        tokio::time::sleep(SETTLED).await;
        let left = load.ask(&list).await.map_err(BenchError::load(&told))?;
        if left.get_array("databases").is_ok_and(Vec::is_empty) {
            break;
        }
    }
    Ok(())
}

async fn connect(setting: &str, target: &Target, count: usize) -> Result<Load, BenchError> {
    let load = Load::connect(target, count).await;
    let mut load = load.map_err(|error| BenchError::Connect {
        setting: setting.to_owned(),
        error,
    })?;
    // A proxy cuts off who says nothing at first, and the turn of a connection may come late.
    let hello: Arc<[Vec<u8>]> = [request(&doc! {"hello": 1, "$db": "admin"})].into();
    let greeted = load.run(&hello, Duration::ZERO).await;
    greeted.map_err(BenchError::load(setting))?;
    Ok(load)
}
