//! Who a client is at MongoDB, learned from the logins that pass by.
//!
//! Only MongoDB lets a user in; what it answered is all that counts here. A connection is one
//! user's: MongoDB would unite the rights of two, and the roles of one would open what the
//! rights of the other reach.

mod credential;
mod request;

use std::sync::Arc;

use self::request::{Mechanism, Request, Start};
use super::link::{Ended, Link};
use crate::access::{Access, Credential, Principal};
use crate::code::{Code, Coded};
use crate::raw::{Doc, Malformed, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::rewrite::hello::LOGIN;
use crate::wire::{Message, Reply, WireError};

/// What is known of a connection's logins.
#[derive(Debug)]
pub(super) struct Login {
    /// The client, for the log.
    client: String,
    under_way: UnderWay,
    /// Whom MongoDB has let in.
    logged_in: Option<LoggedIn>,
    vouched: Option<Vouched>,
    /// Whether the proxy has logged in since that was asked last.
    has_vouched: bool,
    news: Option<News>,
}

/// A login that was begun and has not ended. MongoDB knows one at a time.
#[derive(Debug, Default)]
enum UnderWay {
    #[default]
    Nothing,
    /// The next `saslContinue` goes on with it.
    Attempt { start: Start, conversation: i64 },
    /// A `hello` began it where no login may follow, so that it may not go on.
    Barred(Refusal),
}

/// Whom MongoDB has let in.
#[derive(Debug)]
struct LoggedIn {
    /// `user@db`; none if the mechanism does not tell it here.
    user: Option<String>,
    database: String,
}

/// The client's certificate stands for a user, as whom the proxy itself logs in.
#[derive(Debug)]
struct Vouched {
    /// `user@db`.
    user: String,
    /// The policy by which that was so last.
    serial: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first command but `hello` logs in. A connection that only watches its member needs
    /// no user, and a member that only votes has none.
    Waiting,
    In,
    /// The client has logged out, and stays so until it asks for a login.
    Out,
}

/// What a message has to do with a login, once it may pass.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing.
    None,
    /// A `hello`, and the login that it begins if it may.
    Hello(Option<Start>),
    /// It begins a login.
    Begin(Start),
    /// It goes on with one.
    Continue(Start),
    /// It ends those of a database.
    Leave(String),
}

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Admitted {
    /// It may pass, as far as logins go.
    Passes(Step),
    /// It is answered here: the client is the one of its certificate.
    Certified(String),
    /// It is refused.
    Refused(Refusal),
    /// The proxy could not log in for the client: it is refused, and the session ends.
    Failed(Refusal, Ended),
}

/// What came of a login, to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// MongoDB has let the client in.
    In {
        /// By which mechanism.
        mechanism: String,
    },
    /// It has not.
    Failed {
        /// `user@db`, if the mechanism tells it here.
        user: Option<String>,
        /// By which mechanism.
        mechanism: String,
    },
}

/// How an answer of MongoDB changes who the client is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is this user now, if there is a name for it.
    LoggedIn(Option<String>),
    /// It is nobody.
    LoggedOut,
}

impl Login {
    /// Of a client that has said nothing. `access` is that of the policy numbered `serial`.
    pub(super) fn new(client: String, principal: &Principal, access: &Access, serial: u64) -> Self {
        let vouched = credential_of(principal, access).map(|credential| Vouched {
            user: credential.name(),
            serial,
            state: State::Waiting,
        });
        Self {
            client,
            under_way: UnderWay::Nothing,
            logged_in: None,
            vouched,
            has_vouched: false,
            news: None,
        }
    }

    /// What came of a login since this was asked last.
    pub(super) fn news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// Whether the proxy has logged in for the client since this was asked last, so that
    /// another policy holds.
    pub(super) fn has_vouched(&mut self) -> bool {
        std::mem::take(&mut self.has_vouched)
    }

    /// Whether the policy numbered `serial` lets the client go on as the user whom its
    /// certificate stood for when it connected.
    pub(super) fn still_vouched(
        &mut self,
        principal: &Principal,
        access: &Access,
        serial: u64,
    ) -> bool {
        let Some(vouched) = self.vouched.as_mut().filter(|it| it.serial != serial) else {
            return true;
        };
        vouched.serial = serial;
        credential_of(principal, access).is_some_and(|it| it.name() == vouched.user)
    }

    /// Looks at a message before it goes on, and logs in for its client if that is due.
    pub(super) async fn admit(
        &mut self,
        message: &Message<'_>,
        principal: &mut Principal,
        access: &Access,
        link: &mut Link,
        [question, reply]: [&mut Vec<u8>; 2],
    ) -> Result<Admitted, Ended> {
        let request = match Request::of(message) {
            Ok(request) => request,
            Err(refusal) => return Ok(Admitted::Refused(refusal)),
        };
        let asks = matches!(request, Request::Certificate { .. });
        let due = self
            .vouched
            .as_ref()
            .is_some_and(|vouched| match vouched.state {
                State::Waiting => !matches!(request, Request::Hello(_)),
                State::In => false,
                State::Out => asks,
            });
        let admitted = self.examine(request, principal);
        if !due || matches!(admitted, Admitted::Refused(_)) {
            return Ok(admitted);
        }
        let Some(credential) = credential_of(principal, access) else {
            return Err(Ended::Revoked);
        };
        let credential = Arc::clone(credential);
        if let Err(failure) = credential::log_in(&credential, link, question, reply).await? {
            let user = credential.name();
            let reason = Coded(failure, Code::NotLoggedIn);
            tracing::warn!(client = %self.client, ?user, %reason, "a login for a client's certificate failed");
            self.news = Some(News::Failed {
                user: Some(user.clone()),
                mechanism: crate::access::scram::MECHANISM.to_owned(),
            });
            let refusal = Refusal::new(
                RefusalKind::AuthenticationFailed,
                "the proxy could not log in at MongoDB for this client's certificate; its log says why",
            );
            return Ok(Admitted::Failed(refusal, Ended::Credential(user)));
        }
        let user = credential.name();
        let mechanism = crate::access::scram::MECHANISM;
        tracing::info!(client = %self.client, ?user, mechanism, certificate = true, "authenticated");
        self.news = Some(News::In {
            mechanism: mechanism.to_owned(),
        });
        if let Some(vouched) = &mut self.vouched {
            vouched.state = State::In;
        }
        self.has_vouched = true;
        self.logged_in = Some(LoggedIn {
            user: Some(user.clone()),
            database: credential.database().to_owned(),
        });
        principal.user = Some(user);
        Ok(admitted)
    }

    /// Whether a request may pass. Whatever does ends the login that is under way; its answer
    /// brings it back.
    fn examine(&mut self, request: Request, principal: &Principal) -> Admitted {
        let step = match request {
            Request::Other => Step::None,
            Request::Hello(None) => Step::Hello(None),
            Request::Hello(Some(start)) => match self.bar(&start) {
                None => {
                    self.under_way = UnderWay::Nothing;
                    Step::Hello(Some(start))
                }
                // MongoDB has begun it all the same, and forgotten the one before.
                Some(refusal) => {
                    self.under_way = UnderWay::Barred(refusal);
                    Step::Hello(None)
                }
            },
            Request::Start(start) => {
                self.under_way = UnderWay::Nothing;
                match self.bar(&start) {
                    None => Step::Begin(start),
                    Some(refusal) => return Admitted::Refused(refusal),
                }
            }
            Request::Continue {
                conversation,
                database,
            } => match std::mem::take(&mut self.under_way) {
                UnderWay::Attempt {
                    start,
                    conversation: own,
                } if own == conversation && start.database == database => Step::Continue(start),
                UnderWay::Barred(refusal) => return Admitted::Refused(refusal),
                _ => {
                    return Admitted::Refused(failed("no such login has begun on this connection"));
                }
            },
            Request::Certificate { user } => return self.certified(user.as_deref(), principal),
            Request::Leave { database } => {
                self.under_way = UnderWay::Nothing;
                Step::Leave(database)
            }
        };
        Admitted::Passes(step)
    }

    /// Why no such login may follow, if that is so.
    fn bar(&self, start: &Start) -> Option<Refusal> {
        if let Some(vouched) = &self.vouched {
            return Some(failed(format_args!(
                "the proxy logs in as {:?} for this client's certificate, so it cannot log in by itself; \
                 leave out its user name and password",
                vouched.user
            )));
        }
        let now = self.logged_in.as_ref()?;
        if now.user == start.name() {
            return None;
        }
        Some(failed(
            "this connection is logged in as another user already; log out, or use another connection",
        ))
    }

    /// Answers a login by certificate, which ends at the proxy.
    fn certified(&self, user: Option<&str>, principal: &Principal) -> Admitted {
        let (Some(_), Some(certificate)) = (&self.vouched, &principal.certificate) else {
            return Admitted::Passes(Step::None);
        };
        if user.is_some_and(|user| user != certificate.subject) {
            return Admitted::Refused(failed(
                "the user of this login is not the subject of the client's certificate; leave the user name out",
            ));
        }
        Admitted::Certified(certificate.subject.clone())
    }

    /// Learns what came of a step from MongoDB's answer to it.
    pub(super) fn learn(
        &mut self,
        step: &Step,
        reply: &Reply<'_>,
    ) -> Result<Option<Change>, WireError> {
        let body = reply.body();
        let body = Doc::at(reply.frame(), body.start, body.end)?;
        Ok(match step {
            Step::None | Step::Hello(None) => None,
            Step::Hello(Some(start)) => {
                let answer = match succeeded(body)? {
                    true => body.find_once(LOGIN)?,
                    false => None,
                };
                // Without one, MongoDB has not begun, and the client begins anew.
                match answer {
                    Some(answer) => self.begun(start, answer.object()?)?,
                    None => None,
                }
            }
            Step::Begin(start) if succeeded(body)? => self.begun(start, body)?,
            Step::Continue(start) if succeeded(body)? => match is_done(body)? {
                true => self.ended(start),
                false => self.goes_on(start, body)?,
            },
            Step::Begin(start) | Step::Continue(start) => {
                self.under_way = UnderWay::Nothing;
                let user = start.name();
                let mechanism = start.mechanism();
                let user = user.as_deref().map(tracing::field::debug);
                let said = Coded("a login failed", Code::NotLoggedIn);
                tracing::warn!(client = %self.client, user, mechanism, "{said}");
                self.news = Some(News::Failed {
                    user: start.name(),
                    mechanism: mechanism.to_owned(),
                });
                None
            }
            Step::Leave(database) => match succeeded(body)? {
                true => self.left(database),
                false => None,
            },
        })
    }

    fn begun(&mut self, start: &Start, answer: Doc<'_>) -> Result<Option<Change>, Malformed> {
        match (&start.mechanism, is_done(answer)?) {
            (_, false) => self.goes_on(start, answer),
            (Mechanism::Other(_), true) => Ok(self.ended(start)),
            // SCRAM has two messages at least. Who is let in after one has proven nothing.
            (Mechanism::Scram { .. }, true) => Err(Malformed("SCRAM is done at its beginning")),
        }
    }

    fn goes_on(&mut self, start: &Start, answer: Doc<'_>) -> Result<Option<Change>, Malformed> {
        let conversation = answer.find_once("conversationId")?;
        let conversation = conversation.and_then(|conversation| conversation.integer());
        self.under_way = UnderWay::Attempt {
            start: start.clone(),
            conversation: conversation.ok_or(Malformed("a login without a conversation"))?,
        };
        Ok(None)
    }

    /// MongoDB has let the user in.
    fn ended(&mut self, start: &Start) -> Option<Change> {
        self.under_way = UnderWay::Nothing;
        let user = start.name();
        let mechanism = start.mechanism();
        let shown = user.as_deref().map(tracing::field::debug);
        tracing::info!(client = %self.client, user = shown, mechanism, "authenticated");
        self.news = Some(News::In {
            mechanism: mechanism.to_owned(),
        });
        self.logged_in = Some(LoggedIn {
            user: user.clone(),
            database: start.database.clone(),
        });
        Some(Change::LoggedIn(user))
    }

    /// MongoDB has logged out the users of a database, who may be none.
    fn left(&mut self, database: &str) -> Option<Change> {
        let left = self.logged_in.take_if(|now| now.database == database)?;
        if let Some(vouched) = &mut self.vouched {
            vouched.state = State::Out;
        }
        let user = left.user.as_deref().map(tracing::field::debug);
        tracing::info!(client = %self.client, user, "logged out");
        Some(Change::LoggedOut)
    }
}

/// With what the proxy logs in for a client that shows this certificate.
fn credential_of<'a>(principal: &Principal, access: &'a Access) -> Option<&'a Arc<Credential>> {
    access.credential_for(principal.certificate.as_ref()?)
}

fn failed(what: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalKind::AuthenticationFailed, what)
}

/// Whether MongoDB says that a command has succeeded.
fn succeeded(body: Doc<'_>) -> Result<bool, Malformed> {
    Ok(body.find_once("ok")?.and_then(|ok| ok.integer()) == Some(1))
}

/// Whether MongoDB says that a login has ended well.
fn is_done(body: Doc<'_>) -> Result<bool, Malformed> {
    let done = body.find_once("done")?;
    Ok(done.is_some_and(|done| done.kind == kind::BOOL && done.truthy()))
}

#[cfg(test)]
mod tests;
