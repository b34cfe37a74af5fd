//! The accept loop of one route.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::handshake::{self, HandshakeError};
use super::journal;
use super::life::{LAST_ANSWERS, Life, Stage};
use super::session::Session;
use super::stream::{Listener, Socket, Stream};
use super::upstream::Upstream;
use super::workers::{Aside, Workers};
use super::{Shared, end_of};
use crate::code::{Code, Coded};
use crate::config::Address;

/// The first pause after a failed accept; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause after a failed accept.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the clients of a listener reach.
pub(super) struct Accept {
    pub(super) route: usize,
    pub(super) upstream: Address,
    pub(super) shared: Arc<Shared>,
    pub(super) workers: Arc<Workers>,
    pub(super) life: Life,
    /// Tells that nobody is to be let in any more, before anyone hears of [`Stage::Draining`].
    pub(super) doors: Life,
    /// Dropped when the listener is closed.
    pub(super) open: mpsc::Sender<()>,
}

impl Accept {
    /// Accepts clients until it is to stop, then waits for what is under way.
    pub(super) async fn run(mut self, listener: Listener) {
        let mut sessions = JoinSet::new();
        let mut pause = FIRST_PAUSE;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(done) = sessions.join_next() => {
                    if done.is_err_and(|error| error.is_panic()) {
                        // What the panic said may hold values.
                        tracing::error!(
                            route = self.route,
                            "{}",
                            Coded("a session broke off, and its connection with it", Code::BrokeOff)
                        );
                    }
                    continue;
                }
                () = self.doors.until(Stage::Draining) => break,
            };
            match accepted {
                Ok(client) => {
                    pause = FIRST_PAUSE;
                    self.admit(client, &mut sessions);
                }
                Err(error) => {
                    let error = Coded(error, Code::Start);
                    tracing::warn!(listen = %listener, %error, "cannot accept a connection, trying again");
                    tokio::select! {
                        () = sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
                        () = self.doors.until(Stage::Draining) => break,
                    }
                }
            }
        }
        // Who was let in already is served, if only to be told to go elsewhere.
        for client in listener.close() {
            self.admit(client, &mut sessions);
        }
        drop(self.open);
        let late = async {
            self.life.until(Stage::Ending).await;
            sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            () = end_of(&mut sessions) => return,
            () = late => {}
        }
        let (route, left) = (self.route, sessions.len());
        let said = Coded("operations were cut off", Code::CutOff);
        tracing::warn!(route, sessions = left, "{said}");
        sessions.shutdown().await;
    }

    /// Begins a session, unless the client may not connect or there are too many: like MongoDB,
    /// which closes the connection at once rather than leaving the client to wait.
    fn admit(&self, client: Socket, sessions: &mut JoinSet<()>) {
        let (gate, policy) = (&self.shared.gate, self.shared.policy.load());
        let place = match gate.admit(client.address(), policy.access()) {
            Ok(place) => place,
            Err(why) => {
                journal::limit_hit(&self.shared.audit, why.limit(), &client.peer());
                return gate.turned_away(|| client.peer(), why);
            }
        };
        let (shared, life) = (Arc::clone(&self.shared), self.life.clone());
        let (upstream, route) = (self.upstream.clone(), self.route);
        let client = match client.detach() {
            Ok(client) => client,
            Err(error) => {
                not_handed(error);
                return;
            }
        };
        let (worker, desk) = self.workers.least_busy();
        let aside = self.workers.aside();
        let session = async move {
            match client.attach() {
                Ok(client) => connection(client, &upstream, shared, route, aside, life).await,
                Err(error) => not_handed(error),
            }
            drop((place, desk));
        };
        sessions.spawn_on(session, &worker);
    }
}

fn not_handed(error: io::Error) {
    let error = Coded(error, Code::Start);
    tracing::warn!(%error, "a connection cannot be handed to its thread");
}

async fn connection(
    client: Socket,
    upstream: &Address,
    shared: Arc<Shared>,
    route: usize,
    aside: Aside,
    mut life: Life,
) {
    let name = client.peer();
    let begun = tokio::select! {
        begun = begin(client, &shared) => begun,
        () = life.until(Stage::Ending) => return,
    };
    let client = match begun {
        Ok(client) => client,
        Err(reason @ (HandshakeError::Silent | HandshakeError::Io(_))) => {
            tracing::debug!(client = %name, %reason, "disconnected");
            return;
        }
        Err(reason) => {
            let coded = Coded(&reason, Code::ClientHandshake);
            tracing::warn!(client = %name, reason = %coded, "a client was turned away");
            journal::turned_away(&shared.audit, &name, &reason);
            return;
        }
    };
    let within = shared.limits.load().handshake_timeout;
    let tls = shared.tls.load().upstream();
    let connected = tokio::select! {
        connected = Upstream::connect(upstream, tls, &name, within) => connected,
        () = life.until(Stage::Ending) => return,
    };
    let connected = match connected {
        Ok(connected) => connected,
        Err(error) => {
            let error = Coded(error, Code::Unreachable);
            tracing::warn!(client = %name, %upstream, %error, "cannot connect to MongoDB");
            return;
        }
    };
    Session::new(client, connected, shared, route, life)
        .aside(aside)
        .run()
        .await;
}

/// The TLS handshake, if there is one. MongoDB hears of a client only after it.
async fn begin(client: Socket, shared: &Shared) -> Result<Stream, HandshakeError> {
    let tls = shared.tls.load().listen();
    let within = shared.limits.load().handshake_timeout;
    timeout(within, handshake::accept(client, tls))
        .await
        .unwrap_or(Err(HandshakeError::Late))
}
