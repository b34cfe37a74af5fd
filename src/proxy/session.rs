//! One client's connection: requests in order, each with its replies.

mod answers;
mod leaving;
mod replies;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use self::answers::malformed;
use self::leaving::{Labels, Unfinished};
use super::frames::FrameReader;
use super::gate::{FREE, Guest, Held};
use super::hello;
use super::journal::Journal;
use super::life::{Life, Stage};
use super::link::{Ended, Link};
use super::login::{Admitted, Login, Step};
use super::pool;
use super::stream::Stream;
use super::upstream::Upstream;
use super::workers::{Aside, LONG};
use super::{Shared, indexes, views};
use crate::access::Principal;
use crate::config::Limits;
use crate::observe::command::Phase;
use crate::policy::{Policy, Views};
use crate::reveal::ReplyPlan;
use crate::rewrite::bounds::Bounds;
use crate::rewrite::views::Asking;
use crate::rewrite::{self, Decision};
use crate::wire::{self, Compressor, Header, Message, ReplyForm, opcode};

/// The request id of the proxy's own requests. All that the client asked before on
/// this connection is answered by then.
const OWN_REQUEST: i32 = i32::MIN;

/// One client and its connection to MongoDB.
pub(super) struct Session {
    shared: Arc<Shared>,
    /// Those that were in force when it began: the client was told of them.
    limits: Arc<Limits>,
    route: usize,
    link: Link,
    /// What is said and remembered of it.
    journal: Journal,
    principal: Principal,
    login: Login,
    /// The policy as it stands for the principal, until another one is in force or the
    /// principal is another one. A client that is idle keeps no keys of an old one in memory.
    policy: Option<Weak<Policy>>,
    guest: Guest,
    life: Life,
    /// What the last command left that another one is to end.
    unfinished: Unfinished,
    /// Numbers the replies that are made here.
    replies: i32,
    buffers: Buffers,
    /// How much memory each buffer keeps between messages.
    keep: usize,
    /// The room that the message in the buffers takes.
    held: Held,
    /// Views that only this client was told of.
    views: Views,
    /// Where long messages are worked on.
    aside: Aside,
    /// Whether the request in its buffer is a long one.
    long: bool,
}

/// Memory of the message under way; between messages there is none.
#[derive(Default)]
struct Buffers {
    /// The request as it came.
    request: Vec<u8>,
    /// The request inflated; later, the reply compressed.
    other: Vec<u8>,
    /// The request rewritten; later, the reply rewritten.
    built: Vec<u8>,
    /// The reply as it came.
    reply: Vec<u8>,
}

/// What of a request matters for its answer.
#[derive(Debug, Clone, Copy)]
struct Asked {
    request_id: i32,
    form: ReplyForm,
    compressor: Option<Compressor>,
    wants_reply: bool,
}

/// How to treat the replies.
struct Treatment {
    plan: ReplyPlan,
    /// The cursor that the request reads on.
    cursor: Option<i64>,
    /// Whether the request closes cursors.
    closes: bool,
    /// None for a `hello`, which needs none: a stream of them lasts for as long as its
    /// connection, and would keep the keys of a policy in memory that were destroyed since.
    policy: Option<Arc<Policy>>,
    /// What the request has to do with a login.
    login: Step,
    /// What a `hello` offered to compress with.
    compressors: Vec<Compressor>,
    /// The listings that the request makes old: of one database, or of all.
    outdates: Option<Option<String>>,
    /// What an error says of it that comes because the proxy stops.
    labels: Labels,
}

impl Session {
    /// A client that came by route `route`.
    pub(super) fn new(
        client: Stream,
        upstream: Upstream,
        shared: Arc<Shared>,
        route: usize,
        life: Life,
    ) -> Self {
        let limits = shared.limits.load_full();
        let stall = limits.handshake_timeout;
        let (audit, observers) = (shared.audit.clone(), shared.observers.clone());
        let journal = Journal::new(audit, observers, client.peer.clone(), client.tls);
        let mut link = Link {
            requests: FrameReader::new(client.read, limits.message_bytes, Some(stall)),
            client: client.write,
            upstream,
            answered: false,
            patience: stall,
        };
        let keep = if limits.memory_bytes.is_some() {
            FREE
        } else {
            pool::LARGEST
        };
        link.requests.keep_less(keep);
        link.upstream.replies.keep_less(keep);
        let guest = Guest::new(Arc::clone(&shared.gate));
        let principal = Principal {
            address: client.address,
            certificate: client.certificate,
            user: None,
        };
        let policy = shared.policy.load_full();
        let login = Login::new(client.peer, &principal, policy.access(), policy.serial());
        Self {
            shared,
            limits,
            route,
            link,
            principal,
            login,
            journal,
            policy: None,
            guest,
            life,
            unfinished: Unfinished::default(),
            replies: 0,
            buffers: Buffers::default(),
            keep,
            held: Held::default(),
            views: Views::default(),
            aside: Aside::default(),
            long: false,
        }
    }

    /// Lets what takes long be done there.
    pub(super) fn aside(mut self, aside: Aside) -> Self {
        self.aside = aside;
        self
    }

    /// Serves the client until one side is through.
    pub(super) async fn run(mut self) -> Ended {
        if let Some(certificate) = &self.principal.certificate {
            let names: Vec<String> = certificate.names.iter().map(ToString::to_string).collect();
            tracing::debug!(subject = %certificate.subject, ?names, "the client has a certificate");
        }
        let ended = match self.journal.connected(&self.principal).await {
            Err(ended) => ended,
            Ok(()) => {
                let served = self.serve().await;
                let Some((session, ended)) = served else {
                    return Ended::Stopping;
                };
                self = session;
                ended
            }
        };
        self.link.part().await;
        self.journal.disconnected(&self.principal, &ended).await;
        ended
    }

    /// One request after the other, and why there are no more. None if the proxy ends meanwhile.
    async fn serve(mut self) -> Option<(Self, Ended)> {
        let first = timeout(self.limits.handshake_timeout, self.request(None)).await;
        let mut header = match first {
            Ok(Ok(header)) => header,
            Ok(Err(ended)) => return Some((self, ended)),
            Err(_) => return Some((self, Ended::Handshake)),
        };
        loop {
            match self.short_ones(header).await {
                Ok(long) => header = long,
                Err(ended) => return Some((self, ended)),
            }
            let aside = self.aside.clone();
            let operation = Box::pin(async move {
                let done = self.operation(header).await;
                self.give_back();
                (self, done)
            });
            let done;
            (self, done) = aside.run(operation).await?;
            if let Err(ended) = done {
                return Some((self, ended));
            }
            header = match self.request(self.limits.idle_timeout).await {
                Ok(header) => header,
                Err(ended) => return Some((self, ended)),
            };
        }
    }

    /// Serves requests up to one that is long, and leaves that in its buffer.
    async fn short_ones(&mut self, mut header: Header) -> Result<Header, Ended> {
        while !self.long {
            self.operation(header).await?;
            self.give_back();
            header = self.request(self.limits.idle_timeout).await?;
        }
        Ok(header)
    }

    /// Gives back the memory of the message in the buffers, which is not needed any more, and its room.
    fn give_back(&mut self) {
        let buffers = &mut self.buffers;
        for buffer in [
            &mut buffers.request,
            &mut buffers.other,
            &mut buffers.built,
            &mut buffers.reply,
        ] {
            pool::give(buffer, self.keep);
        }
        self.held = Held::default();
    }

    /// The next request, which has to begin within `idle`. Meanwhile nothing is going on, so this
    /// is where a session stops.
    async fn request(&mut self, idle: Option<Duration>) -> Result<Header, Ended> {
        loop {
            let quiet = leaving::quiet(self.life.now(), &self.unfinished);
            if let Some(header) = self.request_or_change(idle, quiet).await? {
                return Ok(header);
            }
        }
    }

    /// The same; none if another stage of the proxy has come meanwhile. An error after `quiet`:
    /// while the proxy drains, only if no request has begun by then.
    async fn request_or_change(
        &mut self,
        idle: Option<Duration>,
        quiet: Option<Duration>,
    ) -> Result<Option<Header>, Ended> {
        // The request and, where fields are sealed, what it becomes.
        let copies = usize::from(!self.shared.policy.load().is_empty());
        let Link {
            requests,
            upstream,
            answered,
            ..
        } = &mut self.link;
        let (gate, held, frame) = (self.guest.gate(), &mut self.held, &mut self.buffers.request);
        let (address, long) = (self.principal.address, &mut self.long);
        let journal = &mut self.journal;
        let (begun, ending) = (AtomicBool::new(false), self.life.known() == Stage::Ending);
        // That of a wait that was given up.
        *held = Held::default();
        let next = async {
            let Some(announced) = requests.announced(idle).await? else {
                return Ok(None);
            };
            begun.store(true, Ordering::Relaxed);
            journal.begins();
            *long = announced.length.max(announced.inflated) >= LONG;
            *held = gate.room(address, announced, copies).await;
            journal.lap(Phase::Policy);
            let header = requests.next(frame).await;
            journal.lap(Phase::Client);
            header
        };
        // Its timer is made only if it is waited for: that takes longer than all else here.
        let unused = async {
            sleep(quiet.unwrap_or_default()).await;
            if begun.load(Ordering::Relaxed) && !ending {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            header = next => match header {
                Ok(Some(header)) => Ok(Some(header)),
                Ok(None) => Err(Ended::ClientClosed),
                Err(error) => Err(Ended::Client(error)),
            },
            () = upstream.replies.closed() => Err(Ended::of_upstream(*answered)),
            () = self.life.changed() => Ok(None),
            () = unused, if quiet.is_some() => Err(Ended::Stopping),
        }
    }

    /// The policy in force, as it stands for the principal.
    fn policy(&mut self) -> Arc<Policy> {
        let serial = self.shared.policy.load().serial();
        let kept = self.policy.as_ref().and_then(Weak::upgrade);
        if let Some(policy) = kept
            && policy.serial() == serial
        {
            return policy;
        }
        let policy = self.shared.policy_for(&self.principal);
        self.policy = Some(Arc::downgrade(&policy));
        policy
    }

    /// One request and all its replies.
    async fn operation(&mut self, header: Header) -> Result<(), Ended> {
        let done = self.operate(header).await;
        if let Err(Ended::Stream(refusal)) = &done {
            self.journal.broke_off(refusal);
        }
        self.journal.done(&self.principal, done.is_ok());
        done
    }

    /// The same, under one policy.
    async fn operate(&mut self, header: Header) -> Result<(), Ended> {
        let mut policy = self.policy();
        let (access, serial) = (policy.access(), policy.serial());
        if !self.login.still_vouched(&self.principal, access, serial) {
            return Err(Ended::Revoked);
        }
        let Buffers {
            request,
            other,
            built,
            reply,
        } = &mut self.buffers;
        let (frame, compressor) = if header.opcode == opcode::COMPRESSED {
            let limit = self.limits.message_bytes;
            let compressor = wire::inflate(request, limit, other)
                .map_err(|error| Ended::Client(error.into()))?;
            (&*other, Some(compressor))
        } else {
            (&*request, None)
        };
        let message = match Message::recognise(frame) {
            Ok(message) => message,
            Err(error) => {
                let asked = malformed(frame, compressor);
                self.journal.asks_nothing(header.length);
                return self.part(asked, error).await;
            }
        };
        let mut request = rewrite::Request::of(&message);
        self.journal.asks(&request, header.length);
        let asked = Asked {
            request_id: header.request_id,
            form: ReplyForm::answering(&message),
            compressor,
            wants_reply: message.wants_reply(),
        };
        let labels = leaving::labels(&request);
        match self.life.known() {
            Stage::Starting | Stage::Serving => {}
            Stage::Draining if rewrite::hello::asks(&request) => {
                return self.turn_away(asked, &[]).await;
            }
            Stage::Draining => {}
            Stage::Ending => return self.dismiss_last(asked, labels).await,
        }
        self.unfinished = Unfinished::of(&request);
        if let Err(refusal) = self.guest.seated(&self.principal) {
            return self.dismiss(asked, &refusal).await;
        }
        let (link, life) = (&mut self.link, &mut self.life);
        let passed = (self.guest.pass(&request, asked.wants_reply, link, life)).await?;
        let bounds = Bounds {
            depth: self.limits.document_depth,
            array: self.limits.array_length,
        };
        if let Err(refusal) = passed.and_then(|()| bounds.check(&request)) {
            return self.refuse(asked, &refusal).await;
        }
        let (link, who) = (&mut self.link, &mut self.principal);
        let admitted = (self.login)
            .admit(&message, who, policy.access(), link, [built, reply])
            .await?;
        if let Some(news) = self.login.news() {
            self.journal.login(&self.principal, &news).await?;
        }
        if self.login.has_vouched() {
            policy = self.shared.policy_for(&self.principal);
            self.policy = Some(Arc::downgrade(&policy));
        }
        let login = match admitted {
            Admitted::Passes(step) => step,
            Admitted::Refused(refusal) => return self.refuse(asked, &refusal).await,
            Admitted::Certified(subject) => return self.certified(asked, &subject).await,
            Admitted::Failed(refusal, ended) => {
                self.refuse(asked, &refusal).await?;
                return Err(ended);
            }
        };
        request.recognise_name(&policy, &self.views);
        for database in rewrite::views::unlisted(&request, &policy, &self.views) {
            self.journal.lap(Phase::Policy);
            let told = views::list(
                &mut self.link,
                &policy,
                &self.views,
                database,
                asked.wants_reply,
                built,
                reply,
            )
            .await?;
            self.journal.lap(Phase::Upstream);
            if told == Some(Asking::Definitions) {
                rewrite::views::note_used(&request, &policy, database);
            }
        }
        if let Err(refusal) = rewrite::views::refuse_unknown(&request, &policy, &self.views) {
            return self.refuse(asked, &refusal).await;
        }
        for namespace in rewrite::indexes::unlisted(&request, &policy) {
            self.journal.lap(Phase::Policy);
            let link = &mut self.link;
            indexes::list(link, &policy, &namespace, asked.wants_reply, built, reply).await?;
            self.journal.lap(Phase::Upstream);
        }
        self.journal.lap(Phase::Policy);
        if !request.is_open(&policy) {
            pool::lend(built);
        }
        match rewrite::decide_request(&request, &policy, built) {
            Decision::Refuse(refusal) => {
                self.journal.lap(Phase::Seal);
                self.refuse(asked, &refusal).await
            }
            Decision::Forward { cleared, plan } => {
                let cursor = match plan {
                    ReplyPlan::More(cursor) => Some(cursor),
                    _ => None,
                };
                let plan = match self.shared.cursors.settle(self.route, plan, &policy) {
                    Ok(plan) => plan,
                    Err(refusal) => return self.refuse(asked, &refusal).await,
                };
                let principal = &self.principal;
                self.journal
                    .refused_statements(principal, plan.refused(), asked.wants_reply)
                    .await;
                let compressors = match plan {
                    ReplyPlan::Hello => {
                        hello::offered(&message).map_err(|error| Ended::Client(error.into()))?
                    }
                    _ => Vec::new(),
                };
                self.journal.lap(Phase::Seal);
                self.link.send(&cleared, asked.wants_reply).await?;
                let outdates = rewrite::views::outdated(&request, &policy)
                    .map(|database| database.map(str::to_owned));
                let lasts = matches!(plan, ReplyPlan::Hello);
                if lasts {
                    self.journal.waits();
                } else if !asked.wants_reply {
                    self.journal.lap(Phase::Upstream);
                }
                let treatment = Treatment {
                    plan,
                    cursor,
                    closes: request
                        .parts()
                        .is_some_and(|(name, ..)| name == "killCursors"),
                    policy: Some(policy).filter(|_| !lasts),
                    login,
                    compressors,
                    outdates,
                    labels,
                };
                self.give_back();
                let ended = if asked.wants_reply {
                    self.replies(asked, &treatment).await
                } else {
                    Ok(())
                };
                if ended.is_err() || !asked.wants_reply {
                    self.outdate(&treatment);
                }
                ended
            }
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod limits_tests;

#[cfg(test)]
mod leaving_tests;
