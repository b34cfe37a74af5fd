//! What the log and the audit log are told of one connection. Never a value.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde_json::{Value, json};
use tracing::Level;

use super::clock::Clock;
use super::link::Ended;
use super::login::News;
use crate::access::Principal;
use crate::code::{Code, Coded};
use crate::observe::Observers;
use crate::observe::audit::{Audit, Event};
use crate::observe::command::{Finished, Outcome, Parent, Phase};
use crate::observe::telemetry::Telemetry;
use crate::policy::{Collection, LONGEST_NAMESPACE, Policy};
use crate::raw::{Doc, Element, Malformed, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::reveal::{Reads, RefusedStatement, ReplyPlan};
use crate::rewrite::Request;
use crate::seal::FieldId;
use crate::wire::{Message, Reply};

/// How many connections there were.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// More than any command's name has.
const LONGEST_NAME: usize = 64;

/// How many of the statements of a batch that are refused get a line of their own.
const MOST_STATEMENTS: usize = 10;

/// What is said of one connection, and of the command under way.
pub(super) struct Journal {
    audit: Audit,
    observers: Observers,
    /// Whether commands are timed for them.
    observed: bool,
    /// Tells it from every other connection of this process.
    connection: u64,
    client: String,
    tls: Option<&'static str>,
    /// Whether the audit log has it.
    connected: bool,
    commands: u64,
    /// The command under way; used again for each.
    command: String,
    namespace: String,
    /// Runs while a command is under way, if anybody wants to know.
    clock: Clock,
    /// Whether there is a command that its time belongs to.
    asked: bool,
    outcome: Outcome,
    request_bytes: usize,
    reply_bytes: usize,
    parent: Option<Parent>,
}

impl Journal {
    /// Of a client that has just connected.
    pub(super) fn new(
        audit: Audit,
        observers: Observers,
        client: String,
        tls: Option<&'static str>,
    ) -> Self {
        Self {
            audit,
            observed: observers.is_on(),
            observers,
            connection: CONNECTIONS.fetch_add(1, Ordering::Relaxed) + 1,
            client,
            tls,
            connected: false,
            commands: 0,
            command: String::new(),
            namespace: String::new(),
            clock: Clock::default(),
            asked: false,
            outcome: Outcome::Sent,
            request_bytes: 0,
            reply_bytes: 0,
            parent: None,
        }
    }

    /// An event of this connection.
    fn event(&self, name: &'static str, principal: &Principal) -> Event {
        let certificate = principal.certificate.as_ref();
        Event::new(name)
            .with("connection", self.connection)
            .with("client", self.client.as_str())
            .with_some("user", principal.user.as_deref())
            .with_some(
                "certificate",
                certificate.map(|certificate| certificate.subject.as_str()),
            )
    }

    /// The same, of the command under way.
    fn of_command(&self, name: &'static str, principal: &Principal) -> Event {
        let some = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
        self.event(name, principal)
            .with_some("command", some(&self.command))
            .with_some("namespace", some(&self.namespace))
    }

    /// Remembers that it began. An error means that it must not.
    pub(super) async fn connected(&mut self, principal: &Principal) -> Result<(), Ended> {
        tracing::debug!(conn = self.connection, client = %self.client, %principal, "connected");
        if self.audit.is_on() {
            let event = self
                .event("connect", principal)
                .with("tls", self.tls.map_or(Value::Null, Value::from));
            self.audit.ensure(event).await.map_err(|_| Ended::Audit)?;
            self.connected = true;
        }
        Ok(())
    }

    /// Remembers that it ended.
    pub(super) async fn disconnected(&self, principal: &Principal, ended: &Ended) {
        let (conn, client) = (self.connection, &self.client);
        match ended.code() {
            Some(code) => {
                let reason = Coded(ended, code);
                tracing::warn!(conn, %client, %principal, %reason, "disconnected");
            }
            None => {
                tracing::debug!(conn, %client, %principal, reason = %ended, "disconnected");
            }
        }
        if self.connected {
            let event = self
                .event("disconnect", principal)
                .with("reason", ended.to_string())
                .with("commands", self.commands);
            self.audit.note(event).await;
        }
    }

    /// Remembers what came of a login. If it succeeded, `principal` is who the client is now, and
    /// an error means that it must not be.
    pub(super) async fn login(&self, principal: &Principal, news: &News) -> Result<(), Ended> {
        if !self.audit.is_on() {
            return Ok(());
        }
        match news {
            News::In { mechanism } => {
                let event = self
                    .event("authenticated", principal)
                    .with("mechanism", mechanism.as_str());
                self.audit.ensure(event).await.map_err(|_| Ended::Audit)
            }
            News::Failed { user, mechanism } => {
                let event = self
                    .event("authentication_failed", principal)
                    .with_some("as", user.as_deref())
                    .with("mechanism", mechanism.as_str());
                self.audit.note(event).await;
                Ok(())
            }
        }
    }

    /// A request begins to come.
    pub(super) fn begins(&mut self) {
        self.clock = Clock::start(self.observed || tracing::enabled!(Level::DEBUG));
        self.asked = false;
    }

    /// What went by since the last call was this phase of the command under way.
    pub(super) fn lap(&mut self, phase: Phase) {
        self.clock.lap(phase);
    }

    /// What was sent may be answered only when there is something to say.
    pub(super) fn waits(&mut self) {
        self.clock.lap(Phase::Upstream);
        self.clock.pause();
    }

    /// A reply begins to come that may have been waited for until there was something to say,
    /// which is nobody's slowness. Of a stream of replies, each is timed by itself.
    pub(super) fn waited(&mut self) {
        if self.clock.runs() {
            self.clock.skip();
        } else {
            self.begins();
            self.outcome = Outcome::Sent;
            (self.request_bytes, self.reply_bytes) = (0, 0);
        }
    }

    /// A reply came.
    pub(super) fn arrived(&mut self) {
        self.clock.lap(Phase::Upstream);
        self.asked = true;
    }

    /// A request came.
    pub(super) fn asks(&mut self, request: &Request<'_>, bytes: usize) {
        self.asks_nothing(bytes);
        // What is malformed is refused, without a name.
        let _ = match (request.parts(), request.first()) {
            (Some((_, database, body)), Some(first)) => self.name_parts(&first, database, body),
            _ => self.name(request.message()),
        };
    }

    fn name_parts(
        &mut self,
        first: &Element<'_>,
        database: &str,
        body: Doc<'_>,
    ) -> Result<(), Malformed> {
        push(&mut self.command, first.key, LONGEST_NAME);
        push(&mut self.namespace, database, LONGEST_NAMESPACE + 1);
        if let Some(collection) = collection_of(first, body)? {
            self.namespace.push('.');
            push(&mut self.namespace, collection, LONGEST_NAMESPACE + 1);
        }
        if self.observers.telemetry.is_on() {
            self.parent = parent(body)?;
        }
        Ok(())
    }

    /// A request came that is none.
    pub(super) fn asks_nothing(&mut self, bytes: usize) {
        self.commands = self.commands.saturating_add(1);
        self.command.clear();
        self.namespace.clear();
        self.outcome = Outcome::Sent;
        (self.request_bytes, self.reply_bytes) = (bytes, 0);
        (self.asked, self.parent) = (true, None);
    }

    fn name(&mut self, message: &Message<'_>) -> Result<(), Malformed> {
        let (frame, body) = match message {
            Message::Msg(message) => (message.frame, message.body.clone()),
            Message::Query(query) => (query.frame, query.query.clone()),
        };
        let body = Doc::at(frame, body.start, body.end)?;
        let Some(first) = body.first()? else {
            return Ok(());
        };
        match body.find("$db")?.and_then(|database| database.str()) {
            Some(database) => self.name_parts(&first, database, body),
            None => {
                push(&mut self.command, first.key, LONGEST_NAME);
                Ok(())
            }
        }
    }

    /// The command under way is refused.
    pub(super) async fn refused(
        &mut self,
        principal: &Principal,
        refusal: &Refusal,
        wants_reply: bool,
    ) {
        self.outcome = Outcome::Refused(refusal.kind.code());
        let (conn, request, command) = (self.connection, self.commands, &self.command);
        if refusal.kind == RefusalKind::CannotOpen {
            // Not the client's doing: a key is missing, or someone changed what is stored.
            tracing::warn!(conn, request, %principal, command, %refusal, "refused");
        } else if wants_reply {
            tracing::debug!(conn, request, %principal, command, %refusal, "refused");
        } else {
            tracing::warn!(conn, request, %principal, command, %refusal, "refused a request that wants no reply");
        }
        let metrics = &self.observers.metrics;
        metrics.refused(&self.command, &self.namespace, refusal);
        self.remember(principal, refusal).await;
    }

    async fn remember(&self, principal: &Principal, refusal: &Refusal) {
        if self.audit.is_on() {
            let event = self
                .of_command("refused", principal)
                .with("code", refusal.kind.code())
                .with("kind", refusal.kind.code_name())
                .with("why", refusal.to_string());
            self.audit.note(event).await;
        }
    }

    /// Statements of the command under way are refused while others go on.
    pub(super) async fn refused_statements(
        &mut self,
        principal: &Principal,
        refused: &[RefusedStatement],
        wants_reply: bool,
    ) {
        let Some(first) = refused.first() else {
            return;
        };
        let (conn, request, command) = (self.connection, self.commands, &self.command);
        let (refusal, statements) = (&first.refusal, refused.len());
        if wants_reply {
            tracing::debug!(conn, request, %principal, command, %refusal, statements, "refused statements of a batch");
        } else {
            tracing::warn!(conn, request, %principal, command, %refusal, statements, "refused statements of a batch that wants no reply");
        }
        for (at, statement) in refused.iter().enumerate() {
            let metrics = &self.observers.metrics;
            if at < MOST_STATEMENTS {
                metrics.refused(&self.command, &self.namespace, &statement.refusal);
            } else {
                metrics.refused_too(statement.refusal.kind);
            }
        }
        if !self.audit.is_on() {
            return;
        }
        for statement in refused.iter().take(MOST_STATEMENTS) {
            let refusal = &statement.refusal;
            let event = self
                .of_command("refused", principal)
                .with("code", refusal.kind.code())
                .with("kind", refusal.kind.code_name())
                .with("why", refusal.to_string())
                .with("statement", statement.index)
                .with("statements", statements);
            self.audit.note(event).await;
        }
    }

    /// Remembers what a reply shows of audited fields, before it is passed on. An error means
    /// that it must not be.
    pub(super) async fn reads(
        &self,
        principal: &Principal,
        policy: &Policy,
        plan: &ReplyPlan,
        reads: &Reads,
    ) -> Result<(), Refusal> {
        if reads.is_empty() || !self.audit.is_on() {
            return Ok(());
        }
        let of_plan = plan.collection();
        let told = |(id, values): &(FieldId, u64)| {
            let (namespace, field) = self.field(policy, of_plan.as_deref(), *id);
            json!({"namespace": namespace, "field": field, "values": values})
        };
        let fields: Vec<Value> = reads.fields().iter().map(told).collect();
        let event = self.of_command("read", principal).with("fields", fields);
        self.audit.ensure(event).await.map_err(|_| {
            Refusal::new(
                RefusalKind::CannotOpen,
                "the audit log cannot be written, and values that it has to tell of are not shown without it",
            ).coded(Code::NotAudited)
        })
    }

    /// The namespace and path of a field, as far as they are known.
    fn field(&self, policy: &Policy, of_plan: Option<&Collection>, id: FieldId) -> (Value, String) {
        let path = |collection: &Collection| {
            let field = collection.fields().iter().find(|field| field.id == id)?;
            Some(field.path.clone())
        };
        let stored = of_plan.filter(|collection| !collection.derived);
        let here = policy.collection(&self.namespace);
        let near = stored.into_iter().chain(here.as_deref());
        let all = policy.sealed_in(None).map(|collection| &**collection);
        for collection in near.chain(all) {
            if let Some(path) = path(collection) {
                return (collection.namespace.as_str().into(), path);
            }
        }
        if let Some(field) = policy.known(id) {
            return (Value::Null, field.path.clone());
        }
        let digits: String = id.0.iter().map(|byte| format!("{byte:02x}")).collect();
        (Value::Null, format!("id:{digits}"))
    }

    /// A stream of replies ends for this: there is no reply that could say so.
    pub(super) fn broke_off(&mut self, refusal: &Refusal) {
        self.outcome = Outcome::Refused(refusal.kind.code());
        let metrics = &self.observers.metrics;
        metrics.refused(&self.command, &self.namespace, refusal);
    }

    /// The command under way is not done, with this code, because the proxy stops.
    pub(super) fn not_done(&mut self, code: i32) {
        self.outcome = Outcome::Refused(code);
    }

    /// MongoDB's answer to the command under way.
    pub(super) fn answered(&mut self, frame: &[u8]) {
        if self.clock.runs() {
            self.outcome = outcome(frame).unwrap_or(Outcome::Ok);
        }
    }

    /// What the client gets for it was written.
    pub(super) fn replied(&mut self, bytes: usize) {
        self.reply_bytes = bytes;
        self.clock.lap(Phase::Client);
    }

    /// The command under way is over.
    pub(super) fn done(&mut self, principal: &Principal, whole: bool) {
        let asked = std::mem::take(&mut self.asked);
        let Some(times) = self.clock.stop(!whole).filter(|_| asked) else {
            return;
        };
        tracing::debug!(
            conn = self.connection,
            request = self.commands,
            %principal,
            namespace = self.namespace,
            command = self.command,
            duration = ?times.whole,
            outcome = %self.outcome,
            cut_off = !whole,
            "command"
        );
        if !self.observed {
            return;
        }
        let now = SystemTime::now();
        self.observers.finished(&Finished {
            connection: self.connection,
            request: self.commands,
            command: &self.command,
            namespace: &self.namespace,
            outcome: self.outcome,
            began: now.checked_sub(times.whole).unwrap_or(now),
            times,
            request_bytes: self.request_bytes,
            reply_bytes: self.reply_bytes,
            parent: self.parent,
        });
    }
}

/// Appends a name, of which no more than so many characters are kept: one that is too long for
/// MongoDB stays so.
fn push(to: &mut String, name: &str, most: usize) {
    if name.len() <= most {
        to.push_str(name);
    } else {
        to.extend(name.chars().take(most));
    }
}

/// The collection that a command is on. Of commands that are not known, and of those that name
/// no collection, nothing is repeated.
fn collection_of<'m>(first: &Element<'m>, body: Doc<'m>) -> Result<Option<&'m str>, Malformed> {
    Ok(match first.key {
        "find" | "aggregate" | "count" | "distinct" | "insert" | "update" | "delete"
        | "findAndModify" | "findandmodify" | "mapReduce" | "mapreduce" | "killCursors"
        | "create" | "drop" | "collMod" | "createIndexes" | "dropIndexes" | "deleteIndexes"
        | "listIndexes" | "validate" | "collStats" | "collstats" | "planCacheClear" => first.str(),
        "getMore" => body.find("collection")?.and_then(|name| name.str()),
        "explain" => match first.doc() {
            Ok(explained) => match explained.first()? {
                // So that what is nested without end is not followed.
                Some(inner) if inner.key != "explain" => collection_of(&inner, explained)?,
                _ => None,
            },
            Err(_) => None,
        },
        _ => None,
    })
}

/// The trace that a command says it belongs to by its comment, as drivers and applications
/// that trace write it: the text of a `traceparent`, or a document with one.
fn parent(body: Doc<'_>) -> Result<Option<Parent>, Malformed> {
    let Some(comment) = body.find("comment")? else {
        return Ok(None);
    };
    let text = match comment.str() {
        Some(text) => Some(text),
        None if comment.kind == kind::DOCUMENT => {
            let named = comment.doc()?.find("traceparent")?;
            named.and_then(|named| named.str())
        }
        None => None,
    };
    Ok(text.and_then(Telemetry::parent))
}

fn outcome(frame: &[u8]) -> Option<Outcome> {
    let body = Reply::recognise(frame).ok()?.body();
    let body = Doc::at(frame, body.start, body.end).ok()?;
    if body.find("ok").ok()??.truthy() {
        return Some(Outcome::Ok);
    }
    let code = body.find("code").ok()?.and_then(|code| code.integer());
    Some(Outcome::Error(code.unwrap_or(0)))
}

/// Remembers that a client was turned away before it could say anything.
pub(super) fn turned_away(audit: &Audit, client: &str, reason: &dyn fmt::Display) {
    if audit.is_on() {
        let event = Event::new("turned_away")
            .with("client", client)
            .with("reason", reason.to_string());
        audit.note_seldom("turned_away", event);
    }
}

/// Remembers that a client came upon a limit, named as in the configuration.
pub(super) fn limit_hit(audit: &Audit, limit: &'static str, client: &str) {
    if audit.is_on() {
        let event = Event::new("limit")
            .with("limit", limit)
            .with("client", client);
        audit.note_seldom(limit, event);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Document, doc};

    use super::*;
    use crate::wire::testing::{body, msg};

    fn journal() -> Journal {
        Journal::new(
            Audit::default(),
            Observers::default(),
            "client".to_owned(),
            None,
        )
    }

    fn named(command: &Document) -> (String, String) {
        let frame = msg(0, &body(command));
        let mut journal = journal();
        journal.asks(
            &Request::of(&Message::recognise(&frame).unwrap()),
            frame.len(),
        );
        (journal.command, journal.namespace)
    }

    #[test]
    fn a_command_is_named_with_its_collection() {
        for (command, namespace) in [
            (doc! {"find": "c", "$db": "d"}, "d.c"),
            (
                doc! {"getMore": 5_i64, "collection": "c", "$db": "d"},
                "d.c",
            ),
            (doc! {"explain": {"count": "c"}, "$db": "d"}, "d.c"),
            (doc! {"ping": 1, "$db": "admin"}, "admin"),
            (
                doc! {"explain": {"explain": {"count": "c"}}, "$db": "d"},
                "d",
            ),
            (doc! {"find": 3, "$db": "d"}, "d"),
            (doc! {"find": "c"}, ""),
        ] {
            let name = command.keys().next().unwrap().clone();
            assert_eq!(named(&command), (name, namespace.to_owned()), "{command}");
        }
    }

    #[test]
    fn what_a_command_says_that_is_no_collection_is_not_repeated() {
        for name in ["logApplicationMessage", "createUser", "whatever"] {
            assert_eq!(named(&doc! {name: "secret", "$db": "d"}).1, "d");
        }
        let long = "x".repeat(10_000);
        assert_eq!(named(&doc! {long: 1, "$db": "d"}).0.len(), LONGEST_NAME);
    }

    #[test]
    fn a_name_that_no_collection_has_stays_in_no_connections_memory() {
        let long = "x".repeat(1_000_000);
        let frame = msg(0, &body(&doc! {"find": &long, "$db": &long}));
        let mut journal = journal();
        journal.asks(
            &Request::of(&Message::recognise(&frame).unwrap()),
            frame.len(),
        );
        assert!(journal.namespace.len() > LONGEST_NAMESPACE);
        assert!(journal.namespace.capacity() < 4096);
    }

    #[test]
    fn a_comment_may_name_the_trace_and_need_not() {
        for comment in [
            bson::Bson::Int32(3),
            bson::Bson::String("what for".to_owned()),
            bson::Bson::Document(doc! {"traceparent": 3}),
            bson::Bson::Document(doc! {}),
        ] {
            let command = doc! {"find": "c", "comment": comment, "$db": "d"};
            let frame = msg(0, &body(&command));
            let message = Message::recognise(&frame).unwrap();
            let request = Request::of(&message);
            let (_, _, body) = request.parts().unwrap();
            assert_eq!(parent(body).unwrap(), None);
        }
    }

    #[test]
    fn an_outcome_is_that_of_the_reply() {
        for (reply, expected) in [
            (doc! {"ok": 1}, Outcome::Ok),
            (doc! {"ok": 0.0, "code": 13}, Outcome::Error(13)),
            (doc! {"ok": 0}, Outcome::Error(0)),
        ] {
            assert_eq!(outcome(&msg(0, &body(&reply))), Some(expected), "{reply}");
        }
        assert_eq!(outcome(b"nothing"), None);
    }
}
