//! Requests: what a command may do to sealed fields, and its form upstream.
//!
//! [`decide`] is the one way to a [`Cleared`] frame. A command is looked up in
//! the table of all that MongoDB has; on a sealed collection its family's file
//! rewrites it; whatever no file knows is refused.

mod catalog;
mod command;
mod crud;
mod document;
mod expression;
mod filter;
pub(crate) mod hello;
mod options;
mod pipeline;
mod projection;
mod scope;
mod table;
mod update;
pub mod views;

use std::sync::Arc;

use command::{Command, Target};
use pipeline::{Pipeline, Shape};
use scope::Scope;
use table::Family;

use crate::policy::{Collection, Policy};
use crate::raw::{Doc, Element, Malformed, Splicer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::reveal::ReplyPlan;
use crate::seal::{Header, NEEDLE, SUBTYPE};
use crate::wire::{Message, OpMsg, OpQuery};

/// A request that may reach MongoDB: nothing sealed is in it in plain.
///
/// Made only here, by the decision; the upstream writer takes nothing else.
#[derive(Debug)]
pub struct Cleared<'a>(&'a [u8]);

impl Cleared<'_> {
    /// The whole frame.
    pub fn bytes(&self) -> &[u8] {
        self.0
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision<'a> {
    /// It goes to MongoDB, and its replies are treated as planned.
    Forward {
        /// The frame to send.
        cleared: Cleared<'a>,
        /// What to do with each reply.
        plan: ReplyPlan,
    },
    /// It is answered here with an error.
    Refuse(Refusal),
}

/// Decides on one request. A rewritten frame is built in `scratch`.
///
/// The frame is never compressed, and carries a valid checksum if it has one.
pub fn decide<'a>(
    message: &'a Message<'a>,
    policy: &Policy,
    scratch: &'a mut Vec<u8>,
) -> Decision<'a> {
    let decided = match message {
        Message::Msg(message) => decide_command(message, policy, scratch),
        Message::Query(query) => decide_legacy(query, scratch),
    };
    match decided {
        Ok(plan) => Decision::Forward {
            // A rewrite never leaves an empty frame.
            cleared: Cleared(if scratch.is_empty() {
                message.frame()
            } else {
                scratch
            }),
            plan,
        },
        Err(refusal) => Decision::Refuse(refusal),
    }
}

/// `OP_QUERY` is for the few commands that MongoDB still takes by it, all of them
/// of the handshake.
fn decide_legacy(query: &OpQuery<'_>, scratch: &mut Vec<u8>) -> Result<ReplyPlan, Refusal> {
    scratch.clear();
    let command = hello::unwrapped(query.frame, query.query.clone())?.first()?;
    match command.map(|command| command.key) {
        Some(_) if !query.namespace.ends_with(".$cmd") => Err(Refusal::new(
            RefusalKind::UnknownCommand,
            "OP_QUERY on a collection is not supported, nor by MongoDB; use a driver that speaks OP_MSG",
        )),
        Some(name) if hello::is_hello(name) => strip(query.frame, query.query.clone(), scratch),
        Some("buildInfo" | "buildinfo" | "saslStart" | "saslContinue" | "authenticate") => {
            Ok(ReplyPlan::Pass)
        }
        _ => Err(Refusal::new(
            RefusalKind::UnknownCommand,
            "OP_QUERY is for the handshake alone; use a driver that speaks OP_MSG",
        )),
    }
}

fn strip(
    frame: &[u8],
    body: std::ops::Range<usize>,
    scratch: &mut Vec<u8>,
) -> Result<ReplyPlan, Refusal> {
    hello::strip_compression(frame, body, scratch)
        .map_err(|error| Refusal::new(RefusalKind::Malformed, error))?;
    Ok(ReplyPlan::Hello)
}

fn decide_command(
    message: &OpMsg<'_>,
    policy: &Policy,
    scratch: &mut Vec<u8>,
) -> Result<ReplyPlan, Refusal> {
    scratch.clear();
    let command = Command::of(message)?;
    let family = table::family(command.name);
    if family == Family::Hello {
        return strip(message.frame, message.body.clone(), scratch);
    }
    if policy.is_empty() {
        return Ok(ReplyPlan::Pass);
    }
    refuse_forged(message, &command)?;
    let mut splicer = Splicer::new(message.frame, scratch);
    let plan = rewrite(&mut splicer, policy, &command, family, 0)
        .map_err(|refusal| naming(refusal, command.name))?;
    if splicer.finish() {
        crate::wire::finish(scratch).map_err(|error| Refusal::new(RefusalKind::TooLarge, error))?;
        if scratch.len() > crate::wire::MAX_MESSAGE {
            return Err(Refusal::new(
                RefusalKind::TooLarge,
                format_args!(
                    "{}: once sealed, the message is larger than MongoDB takes; send fewer documents at once",
                    command.name
                ),
            ));
        }
    }
    Ok(plan)
}

/// What is malformed is found deep below, where the command is not known.
fn naming(refusal: Refusal, command: &str) -> Refusal {
    if refusal.kind != RefusalKind::Malformed {
        return refusal;
    }
    let what = refusal.message.strip_prefix("fieldseal: ");
    Refusal::new(
        refusal.kind,
        format_args!("{command}: {}", what.unwrap_or(&refusal.message)),
    )
}

/// Rewrites a command in place; what comes back is what its replies need.
fn rewrite<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    command: &Command<'m>,
    family: Family,
    depth: usize,
) -> Result<ReplyPlan, Refusal> {
    match family {
        Family::Hello | Family::Pass => return Ok(ReplyPlan::Relay),
        Family::GetMore => {
            return Ok(command
                .target
                .integer()
                .map_or(ReplyPlan::Relay, ReplyPlan::More));
        }
        Family::Unknown => {
            return Err(Refusal::new(
                RefusalKind::UnknownCommand,
                format_args!(
                    "no such command: '{}' is not known to this version",
                    command.name
                ),
            ));
        }
        Family::Never(advice) => return Err(refuse_family(command, "fields are sealed", advice)),
        Family::OpenNamespace(advice) => {
            return match command.target.str() {
                // Internal ones name the collection without its database.
                Some(namespace)
                    if policy.collection(namespace).is_none()
                        && command.collection(policy, namespace).is_none() =>
                {
                    Ok(ReplyPlan::Relay)
                }
                _ => Err(refuse_family(
                    command,
                    "the collection has sealed fields",
                    advice,
                )),
            };
        }
        Family::Explain => return explain(splicer, policy, command, depth),
        Family::BulkWrite => return bulk_write(policy, command),
        Family::Rename => return rename(policy, command),
        _ => {}
    }
    let name = match command.target() {
        Target::Collection(name) => name,
        Target::Hidden => {
            return Err(refuse_family(
                command,
                "the collection is not named by a string",
                "name it: a UUID does not tell which fields are sealed",
            ));
        }
        Target::Database => return on_database(policy, command, family),
    };
    match command.collection(policy, name) {
        Some(collection) => sealed(splicer, policy, command, family, collection),
        None if policy.views().reaching(command.database, name)
            && !matches!(family, Family::Whole | Family::Modify) =>
        {
            Err(refuse_family(
                command,
                "a view reaches sealed fields",
                "query the sealed collection itself",
            ))
        }
        None => open(policy, command, family, name),
    }
}

fn refuse_family(command: &Command<'_>, why: &str, advice: &str) -> Refusal {
    Refusal::new(
        RefusalKind::NotSupported,
        format_args!("{} is not supported where {why}; {advice}", command.name),
    )
}

/// A command on a collection that has sealed fields.
fn sealed<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    command: &Command<'m>,
    family: Family,
    collection: Arc<Collection>,
) -> Result<ReplyPlan, Refusal> {
    // The frame's length is the header's; `finish` sets it when all is done.
    let scope = &Scope::new(command.name, &collection);
    match family {
        Family::Insert => crud::insert(splicer, scope, command)?,
        Family::Update => crud::update(splicer, scope, command)?,
        Family::Delete => crud::delete(splicer, scope, command)?,
        Family::Count => crud::count(splicer, scope, command)?,
        Family::Distinct => crud::distinct(splicer, scope, command)?,
        Family::Find => {
            crud::find(splicer, scope, command)?;
            return Ok(ReplyPlan::Documents(collection));
        }
        Family::FindAndModify => {
            crud::find_and_modify(splicer, scope, command)?;
            return Ok(ReplyPlan::Documents(collection));
        }
        Family::Aggregate => {
            return Ok(match aggregate(splicer, policy, scope, command)? {
                Shape::Kept => ReplyPlan::Documents(collection),
                Shape::Open | Shape::Unknown => ReplyPlan::Relay,
            });
        }
        Family::CreateIndexes => catalog::create_indexes(splicer, scope, command)?,
        Family::DropIndexes => catalog::drop_indexes(splicer, scope, command)?,
        Family::ListIndexes => return Ok(ReplyPlan::Indexes(collection)),
        Family::Create | Family::Modify => catalog::create(splicer, scope, command)?,
        Family::Whole => {}
        Family::Open(advice) => {
            return Err(refuse_family(
                command,
                "the collection has sealed fields",
                advice,
            ));
        }
        Family::MapReduce => {
            return Err(refuse_family(
                command,
                "the collection has sealed fields",
                "use aggregate",
            ));
        }
        // Everything else was answered before the collection was looked up.
        _ => {
            return Err(refuse_family(
                command,
                "the collection has sealed fields",
                "this version does not know how",
            ));
        }
    }
    Ok(ReplyPlan::Relay)
}

fn aggregate<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result<Shape, Refusal> {
    crud::no_sequences(scope, command)?;
    let mut collation = options::Collation::default();
    let mut shape = Shape::Kept;
    let pipeline = Pipeline {
        scope,
        policy,
        database: command.database,
    };
    options::fields(splicer, scope, command.body, 1, |splicer, element| {
        match element.key {
            "pipeline" if element.kind == kind::ARRAY => {
                shape = pipeline.rewrite(splicer, element.doc()?, Shape::Kept, 0)?;
            }
            "hint" => options::hint(splicer, scope, element)?,
            "let" => expression::refuse_sealed(scope, element, "let")?,
            "collation" => collation.note(element)?,
            // What an explained pipeline answers is a plan, not documents.
            "explain" if element.truthy() => shape = Shape::Unknown,
            "explain" | "cursor" | "allowDiskUse" | "bypassDocumentValidation" => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    collation.check(scope)?;
    Ok(
        if command
            .find("explain")?
            .is_some_and(|explain| explain.truthy())
        {
            Shape::Unknown
        } else {
            shape
        },
    )
}

/// A command on a collection that has no sealed fields, but may reach one that has.
fn open(
    policy: &Policy,
    command: &Command<'_>,
    family: Family,
    name: &str,
) -> Result<ReplyPlan, Refusal> {
    match family {
        Family::Aggregate | Family::Create | Family::Modify | Family::MapReduce => {
            no_sequences(command)?
        }
        _ => {}
    }
    match family {
        Family::Aggregate => {
            if let Some(stages) = command.find("pipeline")?
                && stages.kind == kind::ARRAY
            {
                pipeline::reach(policy, command.name, command.database, stages.doc()?, 0)?;
            }
        }
        Family::Create | Family::Modify => catalog::view(policy, command)?,
        Family::MapReduce => map_reduce(policy, command)?,
        Family::Insert | Family::Update | Family::Delete | Family::FindAndModify
            if defines_views(policy, command.database, name) =>
        {
            return Err(refuse_family(
                command,
                "the database has sealed fields",
                "make views with `create`",
            ));
        }
        Family::Open(advice) => {
            // cloneCollectionAsCapped
            if let Some(to) = command.find("toCollection")?
                && to
                    .str()
                    .is_none_or(|to| command.collection(policy, to).is_some())
            {
                return Err(refuse_family(
                    command,
                    "its target has sealed fields",
                    advice,
                ));
            }
        }
        _ => {}
    }
    Ok(ReplyPlan::Relay)
}

/// Whether a collection holds views or JavaScript of a database that has sealed fields.
fn defines_views(policy: &Policy, database: &str, name: &str) -> bool {
    matches!(name, "system.views" | "system.js") && policy.may_seal_in(database)
}

/// Document sequences stand for fields of the body, which would go unseen.
fn no_sequences(command: &Command<'_>) -> Result<(), Refusal> {
    match command.sequences.first() {
        None => Ok(()),
        Some(sequence) => Err(Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{}: the document sequence `{}` is not known to this version; put it in the body",
                command.name, sequence.identifier
            ),
        )),
    }
}

/// A command of a family that names a collection, on the database as a whole.
fn on_database(
    policy: &Policy,
    command: &Command<'_>,
    family: Family,
) -> Result<ReplyPlan, Refusal> {
    if family != Family::Aggregate {
        // MongoDB refuses it as well; it would carry nothing to a collection.
        return Err(refuse_family(
            command,
            "no collection is named",
            "name it by a string",
        ));
    }
    no_sequences(command)?;
    let Some(stages) = command.find("pipeline")? else {
        return Ok(ReplyPlan::Relay);
    };
    let stages = stages.doc()?;
    pipeline::reach(policy, command.name, command.database, stages, 0)?;
    let mut stages = stages.elements();
    let changes = match stages.next().transpose()? {
        Some(first) => first
            .doc()?
            .first()?
            .is_some_and(|stage| stage.key == "$changeStream"),
        None => false,
    };
    let may_meet = command.database == "admin" || policy.may_seal_in(command.database);
    if changes && may_meet && stages.next().is_some() {
        return Err(refuse_family(
            command,
            "a change stream meets sealed fields",
            "leave out the stages after $changeStream and choose in the service",
        ));
    }
    Ok(ReplyPlan::Relay)
}

fn explain<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    command: &Command<'m>,
    depth: usize,
) -> Result<ReplyPlan, Refusal> {
    if command.target.kind != kind::DOCUMENT || depth > 0 {
        return Err(Malformed("explain takes the document of another command").into());
    }
    no_sequences(command)?;
    for option in command.body.elements().skip(1) {
        let option = option?;
        if option.key != "verbosity" && !command::is_generic(option.key) {
            return Err(Refusal::new(
                RefusalKind::NotSupported,
                format_args!(
                    "explain: the option `{}` is not known to this version; leave it out",
                    option.key
                ),
            ));
        }
    }
    let doc = command.target.doc()?;
    let inner = Command::in_doc(doc, command.database)?;
    if let Some(other) = inner.find("$db")?
        && other.str() != Some(command.database)
    {
        return Err(
            Malformed("explain and the command it explains name different databases").into(),
        );
    }
    let mark = splicer.mark();
    rewrite(
        splicer,
        policy,
        &inner,
        table::family(inner.name),
        depth + 1,
    )?;
    splicer.mend_length(command.body.start(), mark)?;
    Ok(ReplyPlan::Relay)
}

fn map_reduce(policy: &Policy, command: &Command<'_>) -> Result<(), Refusal> {
    let Some(out) = command.find("out")? else {
        return Ok(());
    };
    let mut database = command.database;
    let mut names: Vec<Element<'_>> = Vec::new();
    if out.kind == kind::DOCUMENT {
        for element in out.doc()?.elements() {
            let element = element?;
            match element.key {
                "db" => {
                    database = element
                        .str()
                        .ok_or(Malformed("a database is not named by a string"))?
                }
                "replace" | "merge" | "reduce" => names.push(element),
                _ => {}
            }
        }
    } else {
        names.push(out);
    }
    for name in names {
        let name = name
            .str()
            .ok_or(Malformed("a collection is not named by a string"))?;
        if policy.collection(&format!("{database}.{name}")).is_some() {
            return Err(refuse_family(
                command,
                "its output has sealed fields",
                "use insert and update",
            ));
        }
    }
    Ok(())
}

fn bulk_write(policy: &Policy, command: &Command<'_>) -> Result<ReplyPlan, Refusal> {
    let check = |doc: Doc<'_>| -> Result<(), Refusal> {
        let namespace = doc
            .find_once("ns")?
            .ok_or(Malformed("bulkWrite names no collection"))?;
        let namespace = namespace
            .str()
            .ok_or(Malformed("a collection is not named by a string"))?;
        let views = namespace
            .split_once('.')
            .is_some_and(|(database, name)| defines_views(policy, database, name));
        match policy.collection(namespace) {
            None if !views => Ok(()),
            _ => Err(refuse_family(
                command,
                "one of its collections has sealed fields",
                "use insert, update and delete",
            )),
        }
    };
    for element in command.body.elements() {
        let element = element?;
        if element.key == "nsInfo" {
            for namespace in element.doc()?.elements() {
                check(namespace?.doc()?)?;
            }
        }
    }
    for sequence in command
        .sequences
        .iter()
        .filter(|sequence| sequence.identifier == "nsInfo")
    {
        let mut at = sequence.documents.start;
        while at < sequence.documents.end {
            let doc = Doc::at(command.body.buffer(), at, sequence.documents.end)?;
            check(doc)?;
            at = doc.end();
        }
    }
    Ok(ReplyPlan::Relay)
}

fn rename(policy: &Policy, command: &Command<'_>) -> Result<ReplyPlan, Refusal> {
    no_sequences(command)?;
    let to = command.find("to")?;
    for namespace in [Some(command.target), to].into_iter().flatten() {
        let sealed = match namespace.str() {
            Some(name) => policy.collection(name).is_some(),
            None => true,
        };
        if sealed {
            return Err(refuse_family(
                command,
                "a collection has sealed fields",
                "its keys derive from its name: rename it on MongoDB itself, and give it the old `identity` in the schema",
            ));
        }
    }
    Ok(ReplyPlan::Relay)
}

/// Clients seal nothing themselves: a Binary that reads as a sealed value is refused.
fn refuse_forged(message: &OpMsg<'_>, command: &Command<'_>) -> Result<(), Refusal> {
    if memchr::memmem::find(message.frame, &NEEDLE).is_none() {
        return Ok(());
    }
    holds_sealed(command.name, command.body, 0)?;
    for sequence in command.sequences {
        let mut at = sequence.documents.start;
        while at < sequence.documents.end {
            let doc = Doc::at(message.frame, at, sequence.documents.end)?;
            holds_sealed(command.name, doc, 0)?;
            at = doc.end();
        }
    }
    Ok(())
}

fn holds_sealed(command: &str, doc: Doc<'_>, depth: usize) -> Result<(), Refusal> {
    if depth > scope::DEEPEST {
        return Err(Malformed("documents are nested too deep").into());
    }
    for element in doc.elements() {
        let element = element?;
        match element.kind {
            kind::DOCUMENT | kind::ARRAY => holds_sealed(command, element.doc()?, depth + 1)?,
            kind::JAVASCRIPT_WITH_SCOPE => holds_sealed(command, element.scope()?, depth + 1)?,
            kind::BINARY
                if element.binary().is_some_and(|(subtype, payload)| {
                    subtype == SUBTYPE && Header::read(payload).is_some()
                }) =>
            {
                return Err(Refusal::new(
                    RefusalKind::NotSupported,
                    format_args!(
                        "{command}: the message holds a sealed value in `{}`; clients send values in plain and never sealed ones",
                        element.key
                    ),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
