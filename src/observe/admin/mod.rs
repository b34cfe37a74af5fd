//! The admin endpoint: metrics, health, and a page for people.
//!
//! It has a thread of its own, so that neither a client that hangs nor one that asks for much
//! takes time from those who are served, and what goes wrong here goes wrong here only.

mod answers;
mod coverage;
mod door;
mod guard;
mod page;
mod status;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use self::coverage::Coverage;
use self::door::{Door, Guests};
use self::guard::{Hosts, Token};
use self::page::Page;
use crate::code::{Code, Coded};
use crate::config::{AdminConfig, IdentityFiles};
use crate::keyring::TextError;
use crate::migrate::database::Uri;
use crate::observe::Observers;
use crate::proxy::{Members, PolicyCell};
use crate::tls::{self, TlsCell, TlsError};

/// How often the endpoint's own certificate is read anew.
const RENEWAL: Duration = Duration::from_secs(60);

/// What the endpoint tells of.
pub struct Sources {
    /// The policy in force.
    pub policy: PolicyCell,
    /// The TLS in force.
    pub tls: TlsCell,
    /// The members behind the routes.
    pub members: Members,
    /// What is counted.
    pub observers: Observers,
}

/// Why the endpoint cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Its address cannot be listened on.
    #[error("admin.listen: cannot listen on {address}: {}", advice(source))]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A secret that the configuration names is not there.
    #[error("admin.{key}: {source}")]
    Secret {
        /// What it is for.
        key: &'static str,
        /// Why.
        source: TextError,
    },
    /// The token could be guessed.
    #[error(
        "admin.token: has fewer than {} characters; `openssl rand -hex 32` makes a good one",
        Token::LEAST
    )]
    ShortToken,
    /// The certificate or its key cannot be used.
    #[error("admin.cert: {}", lines(.0))]
    Tls(Vec<TlsError>),
    /// The system has no thread for it.
    #[error("cannot start the thread of the admin endpoint: {0}")]
    Thread(io::Error),
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "it is in use by another process; end that process, or change `listen` of [admin]"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

fn lines(errors: &[TlsError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// A running endpoint. Dropping it ends it.
pub struct Admin {
    address: String,
    stopping: Arc<AtomicBool>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Listens, and answers from now on.
    pub async fn start(config: &AdminConfig, sources: Sources) -> Result<Self, AdminError> {
        let desk = Desk::new(config, sources)?;
        let stopping = Arc::clone(&desk.stopping);
        let (end, ended) = oneshot::channel();
        let (told, started) = oneshot::channel();
        let listen = config.listen.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AdminError::Thread)?;
        let serve = move || {
            runtime.block_on(async {
                match Door::open(&listen).await {
                    Ok(door) => {
                        // Fails only if nobody waits for it any more.
                        let _ = told.send(Ok(door.address()));
                        tokio::select! {
                            () = desk.serve(door) => {}
                            _ = ended => {}
                        }
                    }
                    Err(source) => {
                        let _ = told.send(Err((listen.to_string(), source)));
                    }
                }
            });
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("admin".to_owned());
        let thread = thread.spawn(serve).map_err(AdminError::Thread)?;
        let broken = |_| AdminError::Thread(io::Error::other("it ended at once"));
        let address = started
            .await
            .map_err(broken)?
            .map_err(|(address, source)| AdminError::Listen { address, source })?;
        Ok(Self {
            address,
            stopping,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// The address that was bound: `ip:port` or `unix:/path`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Says that the proxy is about to stop: it is not ready any more.
    pub fn draining(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            // Fails only if it has ended already.
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("{}", Coded("the admin endpoint broke off", Code::BrokeOff));
        }
    }
}

/// What every answer is made of.
struct Desk {
    sources: Sources,
    token: Option<Token>,
    hosts: Hosts,
    identity: Option<Identity>,
    stopping: Arc<AtomicBool>,
    started: SystemTime,
    page: Page,
    coverage: Option<Arc<Coverage>>,
}

/// The endpoint's own certificate.
struct Identity {
    files: IdentityFiles,
    acceptor: Arc<ArcSwap<door::ServerConfig>>,
    ends: ArcSwap<Option<SystemTime>>,
}

impl Desk {
    fn new(config: &AdminConfig, sources: Sources) -> Result<Self, AdminError> {
        let secret = |key| move |source| AdminError::Secret { key, source };
        let token = match &config.token {
            Some(source) => {
                let text = source.text().map_err(secret("token"))?;
                Some(Token::new(&text).ok_or(AdminError::ShortToken)?)
            }
            None => None,
        };
        let coverage = match &config.database {
            Some(source) => {
                let text = source.text().map_err(secret("database"))?;
                let uri = Uri::new(text.as_str(), "admin.database");
                let coverage = Coverage::new(uri, Arc::clone(&sources.policy));
                Some(Arc::new(coverage))
            }
            None => None,
        };
        let identity = match &config.identity {
            Some(files) => Some(Identity::load(files).map_err(AdminError::Tls)?),
            None => None,
        };
        Ok(Self {
            sources,
            token,
            hosts: Hosts::of(&config.listen),
            identity,
            stopping: Arc::default(),
            started: SystemTime::now(),
            page: Page::assemble(),
            coverage,
        })
    }

    async fn serve(self, door: Door) {
        let desk = Arc::new(self);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(desk.sources.members.clone().watch());
        let acceptor = desk.identity.as_ref().map(|it| Arc::clone(&it.acceptor));
        if desk.identity.is_some() {
            let desk = Arc::clone(&desk);
            tasks.spawn(async move { desk.keep_renewing().await });
        }
        if let Some(coverage) = &desk.coverage {
            let routes = desk.sources.members.now().into_iter();
            let proxies = routes.flat_map(|route| [route.listen, route.advertised]);
            tasks.spawn(Arc::clone(coverage).watch(proxies.collect()));
        }
        let (guests, queue) = Guests::new(door.address());
        tasks.spawn(door.keep(acceptor, queue));
        let router = answers::router(Arc::clone(&desk));
        // Never ends, and never fails.
        let _ = axum::serve(guests, router).await;
    }

    async fn keep_renewing(&self) {
        let mut told = String::new();
        loop {
            tokio::time::sleep(RENEWAL).await;
            let Some(identity) = &self.identity else {
                return;
            };
            let errors = identity.renew().err().unwrap_or_default();
            let fault = lines(&errors);
            if fault != told
                && let Some(first) = errors.first()
            {
                let fault = Coded(&fault, first.code());
                tracing::warn!(%fault, "the admin endpoint keeps its old certificate");
            }
            told = fault;
        }
    }
}

impl Identity {
    fn load(files: &IdentityFiles) -> Result<Self, Vec<TlsError>> {
        let (config, ends) = tls::for_operators(files)?;
        Ok(Self {
            files: files.clone(),
            acceptor: Arc::new(ArcSwap::new(config)),
            ends: ArcSwap::from_pointee(ends),
        })
    }

    fn renew(&self) -> Result<(), Vec<TlsError>> {
        let (config, ends) = tls::for_operators(&self.files)?;
        self.acceptor.store(config);
        self.ends.store(Arc::new(ends));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
