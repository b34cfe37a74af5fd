//! Requests: what a command may do to sealed fields, and its form upstream.
//!
//! [`decide`] is the one way to a [`Cleared`] frame. A command is looked up in
//! the table of all that MongoDB has; on a sealed collection its family's file
//! rewrites it; whatever no file knows is refused.

mod aggregate;
mod array_filters;
pub(crate) mod at_rest;
mod batch;
pub mod bounds;
mod bulk_write;
mod by_pipeline;
mod catalog;
mod command;
mod condition;
pub mod credential;
mod crud;
mod distinct;
mod document;
mod domains;
mod element_condition;
mod elements;
mod expression;
mod familiar;
mod filter;
mod forged;
pub(crate) mod hello;
pub mod indexes;
mod javascript;
mod json_schema;
pub mod kill;
mod kinds;
pub(crate) mod login;
mod moved;
mod options;
mod permission;
pub mod permitted;
mod pipeline;
mod positions;
mod projection;
mod reach;
mod scope;
mod shape;
mod sharding;
mod spill;
mod table;
mod update;
mod upsert;
pub mod views;

use std::sync::Arc;

pub use command::Request;
use command::{Command, Target};
use scope::Scope;
use table::Family;
pub(crate) use table::is_command;

use crate::code::Code;
use crate::config::JavaScript;
use crate::policy::{Collection, Policy};
use crate::raw::{Malformed, Splicer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::reveal::ReplyPlan;
use crate::wire::{Message, OpMsg, OpQuery};
pub(crate) use distinct::VALUES as DISTINCT_VALUES;

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

/// Decides on one message, as [`decide_request`] does.
pub fn decide<'a>(
    message: &'a Message<'a>,
    policy: &Policy,
    scratch: &'a mut Vec<u8>,
) -> Decision<'a> {
    decide_request(&Request::of(message), policy, scratch)
}

/// Decides on one request. A rewritten frame is built in `scratch`.
///
/// The frame is never compressed, and carries a valid checksum if it has one.
pub fn decide_request<'a>(
    request: &Request<'a>,
    policy: &Policy,
    scratch: &'a mut Vec<u8>,
) -> Decision<'a> {
    let message = request.message;
    let decided = match (message, &request.command) {
        (Message::Msg(message), Some(Ok(command))) => {
            let is_open = request.is_open(policy);
            decide_command(message, command, is_open, policy, scratch)
        }
        (Message::Msg(_), Some(Err(malformed))) => Err((*malformed).into()),
        (Message::Msg(_), None) => Err(Malformed("a message without a command").into()),
        (Message::Query(query), _) => decide_legacy(query, policy, scratch),
    };
    match decided {
        Ok((form, plan)) => Decision::Forward {
            cleared: Cleared(match form {
                Form::Untouched => message.frame(),
                Form::Rewritten => scratch,
            }),
            plan,
        },
        Err(refusal) => Decision::Refuse(refusal),
    }
}

/// In which form a cleared request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it came: whoever decided found nothing in it to seal.
    Untouched,
    /// As it was built in the scratch buffer.
    Rewritten,
}

/// `OP_QUERY` is for the few commands that MongoDB still takes by it, all of them
/// of the handshake.
fn decide_legacy(
    query: &OpQuery<'_>,
    policy: &Policy,
    scratch: &mut Vec<u8>,
) -> Result<(Form, ReplyPlan), Refusal> {
    let body = hello::unwrapped(query.frame, query.query.clone())?;
    let command = body.first()?;
    if let Some(command) = &command {
        permitted::check_name(policy.commands(), command.key)?;
        login::refuse_by_certificate(command.key, body)?;
    }
    match command.map(|command| command.key) {
        Some(_) if !query.namespace.ends_with(".$cmd") => Err(Refusal::new(
            RefusalKind::UnknownCommand,
            "OP_QUERY on a collection is not supported, nor by MongoDB; use a driver that speaks OP_MSG",
        ).coded(Code::OldProtocol)),
        Some(name) if hello::is_hello(name) => strip(query.frame, query.query.clone(), scratch),
        Some("buildInfo" | "buildinfo" | "saslStart" | "saslContinue") => {
            Ok((Form::Untouched, ReplyPlan::Pass))
        }
        _ => Err(Refusal::new(
            RefusalKind::UnknownCommand,
            "OP_QUERY is for the handshake alone; use a driver that speaks OP_MSG",
        ).coded(Code::OldProtocol)),
    }
}

fn strip(
    frame: &[u8],
    body: std::ops::Range<usize>,
    scratch: &mut Vec<u8>,
) -> Result<(Form, ReplyPlan), Refusal> {
    let stripped = hello::strip(frame, body, scratch)
        .map_err(|error| Refusal::new(RefusalKind::Malformed, error))?;
    let form = if stripped {
        Form::Rewritten
    } else {
        Form::Untouched
    };
    Ok((form, ReplyPlan::Hello))
}

fn decide_command(
    message: &OpMsg<'_>,
    command: &Command<'_>,
    is_open: bool,
    policy: &Policy,
    scratch: &mut Vec<u8>,
) -> Result<(Form, ReplyPlan), Refusal> {
    let family = command.family;
    if family == Family::Hello {
        return strip(message.frame, message.body.clone(), scratch);
    }
    permitted::check(policy.commands(), command, family)?;
    if policy.access().javascript() == JavaScript::Deny {
        javascript::refuse(command, family)?;
    }
    login::refuse_by_certificate(command.name, command.body)?;
    if policy.is_empty() {
        return Ok((Form::Untouched, ReplyPlan::Pass));
    }
    forged::refuse_forged(message, command)?;
    if is_open {
        return Ok((Form::Untouched, ReplyPlan::Relay));
    }
    let mut splicer = Splicer::new(message.frame, scratch);
    let plan = rewrite(&mut splicer, policy, command, family, 0)
        .map_err(|refusal| naming(refusal, command.name))?;
    if !splicer.finish() {
        return Ok((Form::Untouched, plan));
    }
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
    Ok((Form::Rewritten, plan))
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
    .coded(refusal.code)
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
        Family::Chunks(advice) => {
            let Some(namespace) = command.target.str() else {
                return Err(refuse_family(
                    command,
                    "fields are sealed and it names no collection",
                    advice,
                ));
            };
            // Internal ones name the collection without its database.
            let by_name = [
                policy.collection(namespace),
                command.collection(policy, namespace),
            ];
            for collection in by_name.iter().flatten() {
                sharding::check(command, collection, advice)?;
            }
            return Ok(ReplyPlan::Relay);
        }
        Family::Explain => return explain(splicer, policy, command, depth),
        Family::BulkWrite => return bulk_write::bulk_write(splicer, policy, command),
        Family::Rename => return reach::rename(policy, command),
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
        Target::Database => return reach::on_database(splicer, policy, command, family),
    };
    let views = policy.views();
    if views.reaching(command.database, name) && !matches!(family, Family::Whole | Family::Modify) {
        let reads = matches!(
            family,
            Family::Find | Family::Aggregate | Family::Count | Family::Distinct
        );
        return match views.shape(command.database, name) {
            Some(shape) if reads => sealed(splicer, policy, command, family, shape),
            Some(_) => Err(refuse_family(
                command,
                "a view reaches sealed fields",
                "run it on the sealed collection itself",
            )),
            None => Err(refuse_family(
                command,
                "a view reaches sealed fields by stages that could not be followed",
                "query the sealed collection itself",
            )),
        };
    }
    match command.collection(policy, name) {
        Some(collection) => sealed(splicer, policy, command, family, collection),
        None => reach::open(splicer, policy, command, family, name),
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
    aggregate::with_constants(splicer, command, |splicer, constants| {
        let collated = match command.target() {
            Target::Collection(name) => policy.views().collated(command.database, name),
            _ => false,
        };
        let mut scope = Scope::new(command.name, &collection, collated);
        scope.constants = constants;
        if collection.tree.has_mixed() && policy.masks_unknown() {
            // A view, where values of a masked field may stand among others.
            scope.masks = true;
            if collection.on_plaintext.is_expected() {
                return Err(scope.unauthorized_in_plain());
            }
        }
        if collection.renames_indexes() {
            scope.indexes = policy.indexes().of(&collection.namespace);
        }
        by_family(splicer, policy, command, family, &scope, &collection)
    })
}

fn by_family<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    command: &Command<'m>,
    family: Family,
    scope: &Scope<'_>,
    collection: &Arc<Collection>,
) -> Result<ReplyPlan, Refusal> {
    // The frame's length is the header's; `finish` sets it when all is done.
    let documents = || ReplyPlan::Documents(Arc::clone(collection));
    let mut refused = Vec::new();
    match family {
        Family::Insert => refused = crud::insert(splicer, scope, command)?,
        Family::Update => refused = crud::update(splicer, scope, command)?,
        Family::Delete => refused = crud::delete(splicer, scope, command)?,
        Family::Count => crud::count(splicer, scope, command)?,
        Family::Distinct => {
            return Ok(match distinct::rewrite(splicer, scope, command)? {
                distinct::Answered::AsItIs => ReplyPlan::Relay,
                distinct::Answered::ByAggregation(values) => ReplyPlan::Distinct(values),
            });
        }
        Family::Find => {
            crud::find(splicer, scope, command)?;
            return Ok(documents());
        }
        Family::FindAndModify => {
            crud::find_and_modify(splicer, scope, command)?;
            return Ok(documents());
        }
        Family::Aggregate => {
            return aggregate::sealed(splicer, policy, scope, command, collection);
        }
        Family::CreateIndexes => catalog::create_indexes(splicer, scope, command)?,
        Family::DropIndexes => catalog::drop_indexes(splicer, scope, command)?,
        Family::PlanCache => catalog::plan_cache(splicer, scope, command)?,
        Family::ListIndexes => return Ok(ReplyPlan::Described(Arc::clone(collection))),
        Family::Create | Family::Modify => catalog::create(splicer, scope, command)?,
        Family::Whole
            if matches!(
                command.name,
                "collStats" | "collstats" | "validate" | "planCacheListFilters"
            ) =>
        {
            return Ok(ReplyPlan::Described(Arc::clone(collection)));
        }
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
    Ok(ReplyPlan::Outcome {
        collection: Arc::clone(collection),
        // An empty one takes no memory, unlike one made of an empty list.
        refused: if refused.is_empty() {
            Arc::default()
        } else {
            refused.into()
        },
    })
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
    reach::no_sequences(command)?;
    for option in command.body.elements().skip(1) {
        let option = option?;
        if option.key != "verbosity" && !command::is_generic(option.key) {
            return Err(Refusal::new(
                RefusalKind::NotSupported,
                format_args!(
                    "explain: the option `{}` is not known to this version; leave it out",
                    option.key
                ),
            )
            .coded(Code::UnknownOption));
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
    let family = table::family(inner.name);
    let plan = rewrite(splicer, policy, &inner, family, depth + 1)?;
    splicer.mend_length(command.body.start(), mark)?;
    // What is explained is not done: there is no batch to go on with.
    if let [statement, ..] = plan.refused() {
        return Err(statement.refusal.clone());
    }
    let (name, collection) = match inner.target() {
        Target::Collection(name) => (name, inner.collection(policy, name)),
        _ => ("", None),
    };
    permission::check_statistics(policy, command, || match (&collection, family) {
        // It may look into others.
        (_, Family::Aggregate) => !matches!(plan, ReplyPlan::Relay),
        (Some(collection), _) => collection.has_masked(),
        (None, _) => policy.views().reaching(inner.database, name),
    })?;
    Ok(collection.map_or(ReplyPlan::Relay, |collection| explained(&inner, collection)))
}

/// The plan for the reply that explains a command.
fn explained(command: &Command<'_>, collection: Arc<Collection>) -> ReplyPlan {
    ReplyPlan::Explained {
        collection,
        command: command.body.bytes().into(),
    }
}

#[cfg(test)]
mod tests;
