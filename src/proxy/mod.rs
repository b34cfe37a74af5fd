//! Listener, connections, upstream.

mod accept;
mod frames;
mod hello;
mod routes;
mod session;
mod stream;
mod upstream;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::accept::Accept;
use self::routes::Routes;
use self::stream::Listener;
use crate::config::{Address, Config, Limits};
use crate::policy::Policy;

/// The policy in force. An operation finishes under the one that it began with.
pub type PolicyCell = Arc<ArcSwap<Policy>>;

/// The first pause before members that did not answer are asked again; each further one doubles it.
const FIRST_PROBE_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause before they are asked again.
const LONGEST_PROBE_PAUSE: Duration = Duration::from_secs(60);

/// A route's address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", advice(source))]
pub struct BindError {
    /// As configured.
    address: String,
    source: io::Error,
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "it is in use by another process; end that process, or change `listen` of the [[route]]"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// What all sessions read. It holds no lock.
struct Shared {
    policy: PolicyCell,
    routes: Routes,
    limits: Limits,
}

/// A proxy whose listeners are bound, and whose clients wait until it runs.
pub struct Proxy {
    listeners: Vec<(Listener, Address)>,
    addresses: Vec<String>,
    advertised: Vec<String>,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Binds every route of `config`, or none.
    pub async fn bind(config: &Config, policy: PolicyCell) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        let mut advertised = Vec::new();
        for route in &config.routes {
            let listener = Listener::bind(&route.listen)
                .await
                .map_err(|source| BindError {
                    address: name(&route.listen),
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
        let members = config.routes.iter().map(|route| route.upstream.clone());
        let routes = Routes::new(members.zip(advertised.iter().cloned()));
        Ok(Self {
            listeners,
            addresses,
            advertised,
            shared: Arc::new(Shared {
                policy,
                routes,
                limits: config.limits.clone(),
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

    /// Serves clients until `shutdown` is done, then lets the operations under way end.
    pub async fn run(self, shutdown: impl Future) {
        let upstreams: Vec<Address> = self
            .listeners
            .iter()
            .map(|(_, upstream)| upstream.clone())
            .collect();
        let permits = Arc::new(Semaphore::new(
            self.shared.limits.connections.min(Semaphore::MAX_PERMITS),
        ));
        let (stopping, stop) = watch::channel(false);
        let mut shutdown = std::pin::pin!(shutdown);
        // So that the first client already hears of all members.
        tokio::select! {
            () = probe_unknown(&upstreams, &self.shared) => {}
            _ = &mut shutdown => return,
        }
        let mut tasks = JoinSet::new();
        for (route, (listener, upstream)) in self.listeners.into_iter().enumerate() {
            let accept = Accept {
                listener,
                route,
                upstream,
                shared: Arc::clone(&self.shared),
                permits: Arc::clone(&permits),
                stop: stop.clone(),
            };
            tasks.spawn(accept.run());
        }
        tasks.spawn(keep_probing(upstreams, Arc::clone(&self.shared), stop));
        shutdown.await;
        // Fails only if every task has ended already.
        let _ = stopping.send(true);
        while tasks.join_next().await.is_some() {}
    }
}

/// Waits until the proxy is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the proxy itself is gone, which is a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Asks again the members that have not said their name: they were down, or in no replica set yet.
async fn keep_probing(
    upstreams: Vec<Address>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let mut pause = FIRST_PROBE_PAUSE;
    while !shared.routes.now().unknown().is_empty() {
        tokio::select! {
            () = tokio::time::sleep(pause) => probe_unknown(&upstreams, &shared).await,
            () = stopped(&mut stop) => return,
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
            match upstream::probe(&upstream, &policy).await {
                Ok(Some(name)) => shared.routes.learn(route, &name),
                Ok(None) => tracing::debug!(route, "the upstream is in no replica set"),
                Err(error) => {
                    tracing::warn!(upstream = %name(&upstream), %error, "cannot ask a member for its name");
                }
            }
        });
    }
    while probes.join_next().await.is_some() {}
}

/// An address as it is configured.
fn name(address: &Address) -> String {
    match address {
        Address::Tcp(name) => name.clone(),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}
