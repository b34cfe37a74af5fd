//! Listener, connections, upstream.

mod accept;
mod clock;
mod cursors;
mod frames;
mod gate;
mod handshake;
mod hello;
mod indexes;
mod journal;
mod life;
mod link;
mod login;
mod members;
mod pool;
pub(crate) mod question;
mod routes;
mod session;
mod stream;
mod upstream;
mod views;
mod vigil;
mod workers;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::accept::Accept;
use self::cursors::Cursors;
use self::gate::Gate;
use self::life::Life;
pub use self::life::Stage;
use self::routes::Routes;
use self::stream::Listener;
pub use self::workers::Pulse;
use self::workers::Workers;
use crate::access::Principal;
use crate::code::{Code, Coded};
use crate::config::{Address, Config, Limits};
use crate::observe::Observers;
use crate::observe::audit::Audit;
use crate::policy::Policy;
use crate::refusal::Refusal;
use crate::reveal::{self, Reads, ReplyPlan, Revealed};
use crate::tls::TlsCell;
pub use members::{MemberRole, MemberState, Members, RouteState};

/// The policy in force. An operation finishes under the one that it began with.
pub type PolicyCell = Arc<ArcSwap<Policy>>;

/// The limits in force. A connection keeps those of messages that it began with.
pub type LimitsCell = Arc<ArcSwap<Limits>>;

/// The newest wire version that clients are told of.
pub const MAX_WIRE_VERSION: i64 = hello::MAX_WIRE_VERSION;

/// The first pause before members that did not answer are asked again; each further one doubles it.
const FIRST_PROBE_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause before they are asked again.
const LONGEST_PROBE_PAUSE: Duration = Duration::from_secs(60);

/// Why the proxy cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A route's address cannot be listened on.
    #[error("cannot listen on {address}: {}", advice(source))]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The system has no threads for it.
    #[error("cannot start the threads that serve connections: {0}")]
    Workers(io::Error),
}

impl BindError {
    /// What the documentation calls it.
    pub fn code(&self) -> Code {
        match self {
            Self::Listen { .. } => Code::Listen,
            Self::Workers(_) => Code::Start,
        }
    }
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "it is in use by another process; end that process, or change `listen` of the [[route]]; \
             for one to take over from the other, both need `reuse_port = true` there"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// What all sessions read.
struct Shared {
    policy: PolicyCell,
    tls: TlsCell,
    routes: Routes,
    cursors: Cursors,
    limits: LimitsCell,
    gate: Arc<Gate>,
    audit: Audit,
    observers: Observers,
}

impl Shared {
    /// The policy in force, as it stands for `principal`. No other one may decide on
    /// what it sends or gets.
    fn policy_for(&self, principal: &Principal) -> Arc<Policy> {
        let policy = self.policy.load_full();
        let access = policy.access();
        let roles = access.roles_of(principal);
        if tracing::enabled!(tracing::Level::DEBUG) {
            let roles: Vec<&str> = access.names_of(roles).collect();
            tracing::debug!(%principal, ?roles, "the client's roles");
        }
        policy.held_by(roles)
    }

    /// Opens what is sealed in a reply, by the policy that its request began with.
    ///
    /// A reply may be waited for while another policy is taken up, and then hold what was
    /// sealed under a key that came with it.
    fn reveal(
        &self,
        principal: &Principal,
        frame: &[u8],
        plan: &ReplyPlan,
        policy: &Policy,
        reads: &mut Reads,
        out: &mut Vec<u8>,
    ) -> Result<Revealed, Refusal> {
        reveal::reveal(frame, plan, policy, reads, out).or_else(|refusal| {
            if self.policy.load().serial() == policy.serial() {
                return Err(refusal);
            }
            *reads = Reads::default();
            reveal::reveal(frame, plan, &self.policy_for(principal), reads, out)
        })
    }
}

/// A proxy whose listeners are bound, and whose clients wait until it runs.
pub struct Proxy {
    listeners: Vec<(Listener, Address)>,
    addresses: Vec<String>,
    advertised: Vec<String>,
    workers: Arc<Workers>,
    shared: Arc<Shared>,
    stage: watch::Sender<Stage>,
}

impl Proxy {
    /// Binds every route of `config`, or none.
    pub async fn bind(
        config: &Config,
        policy: PolicyCell,
        tls: TlsCell,
    ) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        let mut advertised = Vec::new();
        for route in &config.routes {
            let listener = Listener::bind(&route.listen, route.reuse_port)
                .await
                .map_err(|source| BindError::Listen {
                    address: route.listen.to_string(),
                    source,
                })?;
            if route.advertise.is_none() && listener.is_unspecified() {
                tracing::warn!(
                    listen = %listener,
                    "clients on other machines cannot reach what `hello` tells them; set `advertise` of the [[route]]"
                );
            }
            let default = || listener.name(&route.listen);
            advertised.push(route.advertise.clone().unwrap_or_else(default));
            addresses.push(listener.to_string());
            listeners.push((listener, route.upstream.clone()));
        }
        let workers = Workers::start(config.workers).map_err(BindError::Workers)?;
        let limits: LimitsCell = Arc::new(ArcSwap::from_pointee(config.limits.clone()));
        let members = config.routes.iter().map(|route| route.upstream.clone());
        let routes = Routes::new(members.zip(advertised.iter().cloned()));
        Ok(Self {
            listeners,
            addresses,
            advertised,
            workers: Arc::new(workers),
            stage: watch::Sender::new(Stage::Starting),
            shared: Arc::new(Shared {
                policy,
                tls,
                routes,
                cursors: Cursors::default(),
                gate: Gate::new(Arc::clone(&limits)),
                limits,
                audit: Audit::default(),
                observers: Observers::default(),
            }),
        })
    }

    /// The addresses that were bound, in the order of the routes: `ip:port` or `unix:/path`.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// What `hello` tells clients, in the order of the routes: `host:port`.
    pub fn advertised(&self) -> &[String] {
        &self.advertised
    }

    /// The same, with what its clients do written down.
    #[must_use]
    pub fn audited(mut self, audit: Audit) -> Self {
        Arc::get_mut(&mut self.shared)
            .expect("sessions and tasks that share it are made when it runs, which takes it")
            .audit = audit;
        self
    }

    /// The same, with those told of every command who observe it.
    #[must_use]
    pub fn observed(mut self, observers: Observers) -> Self {
        observers.metrics.watch(self.shared.gate.flow());
        Arc::get_mut(&mut self.shared)
            .expect("sessions and tasks that share it are made when it runs, which takes it")
            .observers = observers;
        self
    }

    /// Its members, to be watched and shown.
    pub fn members(&self) -> Members {
        let names = self.addresses.iter().zip(&self.advertised);
        let routes = self.listeners.iter().zip(names);
        let routes = routes.map(|((_, upstream), (listen, advertised))| {
            (listen.clone(), advertised.clone(), upstream.clone())
        });
        let (policy, tls) = (&self.shared.policy, &self.shared.tls);
        Members::new(routes, Arc::clone(policy), Arc::clone(tls))
    }

    /// The limits in force, to put others in their place.
    pub fn limits(&self) -> LimitsCell {
        Arc::clone(&self.shared.limits)
    }

    /// How far it is, and what it comes to. Ends with the proxy.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Whether the threads that serve connections do.
    pub fn pulse(&self) -> Pulse {
        self.workers.pulse()
    }

    /// Serves clients until `shutdown` is done. Then it lets nobody in any more, tells drivers by
    /// `hello` to go elsewhere, and lets what is under way end, for as long as the limits say.
    pub async fn run(self, shutdown: impl Future) {
        let upstreams: Vec<Address> = self
            .listeners
            .iter()
            .map(|(_, upstream)| upstream.clone())
            .collect();
        let life = Life::new(self.stage.subscribe());
        let mut shutdown = std::pin::pin!(shutdown);
        // So that the first client already hears of all members.
        tokio::select! {
            () = probe_unknown(&upstreams, &self.shared) => {}
            _ = &mut shutdown => return,
        }
        let mut tasks = JoinSet::new();
        let doors = watch::Sender::new(Stage::Serving);
        let (open, mut closed) = mpsc::channel(1);
        for (route, (listener, upstream)) in self.listeners.into_iter().enumerate() {
            let accept = Accept {
                route,
                upstream,
                shared: Arc::clone(&self.shared),
                workers: Arc::clone(&self.workers),
                life: life.clone(),
                doors: Life::new(doors.subscribe()),
                open: open.clone(),
            };
            tasks.spawn(accept.run(listener));
        }
        tasks.spawn(keep_probing(upstreams, Arc::clone(&self.shared), life));
        self.stage.send_replace(Stage::Serving);
        shutdown.await;
        // First the listeners: who is told to go elsewhere and comes back at once would else meet
        // this proxy again, where another one has the same address.
        drop(open);
        doors.send_replace(Stage::Draining);
        closed.recv().await;
        self.stage.send_replace(Stage::Draining);
        let within = self.shared.limits.load().drain_timeout;
        if timeout(within, end_of(&mut tasks)).await.is_err() {
            self.stage.send_replace(Stage::Ending);
            end_of(&mut tasks).await;
        }
    }
}

/// Waits until all of them have ended.
async fn end_of(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

/// Asks again the members that have not said their name: they were down, or in no replica set yet.
async fn keep_probing(upstreams: Vec<Address>, shared: Arc<Shared>, mut life: Life) {
    let mut pause = FIRST_PROBE_PAUSE;
    while !shared.routes.now().unknown().is_empty() {
        tokio::select! {
            () = tokio::time::sleep(pause) => probe_unknown(&upstreams, &shared).await,
            () = life.until(Stage::Draining) => return,
        }
        pause = LONGEST_PROBE_PAUSE.min(pause * 2);
    }
}

/// Asks all members that have not said their name, at the same time.
async fn probe_unknown(upstreams: &[Address], shared: &Arc<Shared>) {
    let mut probes = JoinSet::new();
    for route in shared.routes.now().unknown() {
        let Some(upstream) = upstreams.get(route).cloned() else {
            continue;
        };
        let shared = Arc::clone(shared);
        probes.spawn(async move {
            let policy = shared.policy.load_full();
            let tls = shared.tls.load().upstream();
            match upstream::probe(&upstream, &policy, tls).await {
                Ok(Some(name)) => shared.routes.learn(route, &name),
                Ok(None) => tracing::debug!(route, "the upstream is in no replica set"),
                Err(error) => {
                    let error = Coded(error, Code::Unreachable);
                    tracing::warn!(%upstream, %error, "cannot ask a member for its name");
                }
            }
        });
    }
    while probes.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::PathBuf;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
    use tokio::sync::oneshot;

    use super::*;
    use crate::config::{KeyringConfig, Log, Route};
    use crate::keyring::{Keyring, UnsealSource};
    use crate::schema::Schema;

    fn policy() -> PolicyCell {
        let keyring = Keyring {
            generation: 0,
            keys: Vec::new(),
        };
        let policy = Policy::compile(Arc::new(Schema::default()), Arc::new(keyring));
        Arc::new(ArcSwap::from_pointee(policy.unwrap()))
    }

    /// A proxy's configuration with one route, to an upstream that accepts and says nothing.
    fn config(listen: Address, upstream: &str) -> Config {
        Config {
            schema: PathBuf::new(),
            keyring: KeyringConfig {
                file: PathBuf::new(),
                unseal: UnsealSource::Env(String::new()),
                max_age: None,
            },
            audit: None,
            log: Log::default(),
            admin: None,
            telemetry: None,
            workers: None,
            routes: vec![Route {
                listen,
                upstream: Address::Tcp(upstream.to_owned()),
                advertise: None,
                insecure: false,
                reuse_port: false,
            }],
            tls: crate::config::TlsConfig::default(),
            access: crate::config::AccessConfig::default(),
            limits: Limits {
                connections: 2,
                message_bytes: 1000,
                handshake_timeout: Duration::from_secs(60),
                ..Limits::default()
            },
        }
    }

    fn tcp(name: &str) -> Address {
        Address::Tcp(name.to_owned())
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_in_one_line() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap().to_string();
        let taken = config(tcp(&address), "127.0.0.1:1");
        let error = Proxy::bind(&taken, policy(), TlsCell::default())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {address}: it is in use")),
            "{error}"
        );
        assert!(!error.contains('\n'));
    }

    #[tokio::test]
    async fn clients_are_told_the_host_of_the_configuration_and_the_port_that_was_bound() {
        let proxy = Proxy::bind(
            &config(tcp("localhost:0"), "127.0.0.1:1"),
            policy(),
            TlsCell::default(),
        )
        .await
        .unwrap();
        let [address] = proxy.addresses() else {
            panic!("one route has one address");
        };
        let port = address.rsplit_once(':').unwrap().1;
        assert_ne!(port, "0");
        assert_eq!(proxy.advertised(), [format!("localhost:{port}")]);
    }

    #[tokio::test]
    async fn a_unix_socket_replaces_a_stale_file_but_not_a_live_one() {
        let path = std::env::temp_dir().join(format!("fieldseal-test-{}.sock", std::process::id()));
        let at = config(Address::Unix(path.clone()), "127.0.0.1:1");
        drop(UnixListener::bind(&path).unwrap());
        let proxy = Proxy::bind(&at, policy(), TlsCell::default())
            .await
            .unwrap();
        assert_eq!(proxy.addresses(), [format!("unix:{}", path.display())]);
        UnixStream::connect(&path).await.unwrap();
        let error = Proxy::bind(&at, policy(), TlsCell::default())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("in use"), "{error}");
        drop(proxy);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_client_beyond_the_limit_is_turned_away_at_once_and_others_stay() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = upstream.local_addr().unwrap().to_string();
        // The probe is turned away; sessions are kept open.
        let (began, mut sessions) = tokio::sync::mpsc::unbounded_channel();
        let mongodb = tokio::spawn(async move {
            drop(upstream.accept().await.unwrap());
            let mut kept = Vec::new();
            loop {
                kept.push(upstream.accept().await.unwrap());
                began.send(()).unwrap();
            }
        });
        let proxy = Proxy::bind(
            &config(tcp("127.0.0.1:0"), &name),
            policy(),
            TlsCell::default(),
        )
        .await
        .unwrap();
        let address = proxy.addresses()[0].clone();
        let limits = proxy.limits();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(proxy.run(stopped));

        let mut admitted = Vec::new();
        for _ in 0..2 {
            admitted.push(TcpStream::connect(&address).await.unwrap());
        }
        let mut third = TcpStream::connect(&address).await.unwrap();
        assert_eq!(third.read(&mut [0]).await.unwrap(), 0);
        for client in &admitted {
            let open = client.try_read(&mut [0]).unwrap_err();
            assert_eq!(open.kind(), io::ErrorKind::WouldBlock);
        }

        let with = |connections| Limits {
            connections,
            ..Limits::clone(&limits.load())
        };
        limits.store(Arc::new(with(3)));
        admitted.push(TcpStream::connect(&address).await.unwrap());
        for _ in &admitted {
            sessions.recv().await.unwrap();
        }
        // Those that are connected stay, although they are more than are allowed now.
        limits.store(Arc::new(with(1)));
        let mut fourth = TcpStream::connect(&address).await.unwrap();
        assert_eq!(fourth.read(&mut [0]).await.unwrap(), 0);
        for client in &admitted {
            let open = client.try_read(&mut [0]).unwrap_err();
            assert_eq!(open.kind(), io::ErrorKind::WouldBlock);
        }
        stop.send(()).unwrap();
        running.await.unwrap();
        for client in &mut admitted {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
        mongodb.abort();
    }
}
