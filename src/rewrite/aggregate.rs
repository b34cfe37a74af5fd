//! aggregate, on a collection or a database, sealed or open, and what its replies hold.

use std::cell::Cell;
use std::sync::Arc;

use super::command::Command;
use super::expression::{self, Constants};
use super::pipeline::{self, Documents, Holds, Pipeline};
use super::scope::Scope;
use super::shape::{Content, Shape};
use super::{crud, options, reach};
use crate::policy::{Collection, Policy};
use crate::raw::{Doc, Splicer, kind};
use crate::refusal::Refusal;
use crate::reveal::ReplyPlan;
use crate::schema::OnPlaintext;

type Result<T = ()> = std::result::Result<T, Refusal>;

/// Runs `rewrite` with the constants of the command's `let`. If there are any, it is
/// run twice, for they may be used after the place where they stand.
pub(super) fn with_constants<'m, R>(
    splicer: &mut Splicer<'m, '_>,
    command: &Command<'m>,
    rewrite: impl Fn(&mut Splicer<'m, '_>, Option<&Constants<'m>>) -> Result<R>,
) -> Result<R> {
    let constants = match command.find("let")? {
        Some(variables) if variables.kind == kind::DOCUMENT => Constants::of(&variables)?,
        _ => Constants::default(),
    };
    if constants.is_empty() {
        return rewrite(splicer, None);
    }
    let mut scratch = Vec::new();
    rewrite(
        &mut Splicer::new(splicer.input(), &mut scratch),
        Some(&constants),
    )?;
    rewrite(splicer, Some(&constants))
}

/// An aggregate on a sealed collection, or on a view over one.
pub(super) fn sealed<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    scope: &Scope<'_>,
    command: &Command<'m>,
    collection: &Arc<Collection>,
) -> Result<ReplyPlan> {
    crud::no_sequences(scope, command)?;
    let on_plaintext = Cell::new(collection.on_plaintext);
    let documents = run(
        splicer,
        policy,
        scope,
        command,
        Documents::stored(collection),
        &on_plaintext,
    )?;
    let on_plaintext = on_plaintext.get();
    tells_of_plaintext(policy, scope, &documents, on_plaintext.is_expected())?;
    plan(command, documents, scope, Some(collection), on_plaintext)
}

/// An aggregate on an open collection, or on a database.
pub(super) fn open<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    command: &Command<'m>,
    name: &str,
) -> Result<ReplyPlan> {
    reach::no_sequences(command)?;
    let stages = match command.find("pipeline")? {
        Some(stages) if stages.kind == kind::ARRAY => stages.doc()?,
        _ => return Ok(ReplyPlan::Relay),
    };
    let mut documents = Documents::of(Content::Open);
    let mut expected = false;
    let reaches = pipeline::reaches(
        policy,
        policy.views(),
        command.name,
        command.database,
        stages,
    )?;
    if name.is_empty()
        && let Some(changes) = changes(policy, command, stages)?
    {
        documents = Documents::of(changes);
        let mut sealed = policy.sealed_in(None);
        expected = sealed.any(|collection| collection.on_plaintext.is_expected());
        if expected && policy.masks_unknown() && !keeps_events(stages)? {
            let empty = Shape::default().collection(command.database, OnPlaintext::Allow);
            return Err(Scope::new(command.name, &empty, false).unauthorized_in_plain());
        }
    } else if !reaches {
        return Ok(ReplyPlan::Relay);
    }
    let namespace = match name {
        "" => command.database.to_owned(),
        name => format!("{}.{name}", command.database),
    };
    let empty = Shape::default().collection(&namespace, OnPlaintext::Reject);
    with_constants(splicer, command, |splicer, constants| {
        let collated = policy.views().collated(command.database, name);
        let mut scope = Scope::new(command.name, &empty, collated);
        scope.constants = constants;
        let on_plaintext = Cell::new(OnPlaintext::Reject);
        let documents = run(
            splicer,
            policy,
            &scope,
            command,
            documents.clone(),
            &on_plaintext,
        )?;
        let on_plaintext = on_plaintext.get();
        let expected = expected || on_plaintext.is_expected();
        tells_of_plaintext(policy, &scope, &documents, expected)?;
        plan(command, documents, &scope, None, on_plaintext)
    })
}

/// Whether a change stream gives its events as they are, with the name of their collection.
fn keeps_events(stages: Doc<'_>) -> Result<bool> {
    for stage in stages.elements() {
        let stage = stage?.object()?.first()?;
        if stage.is_none_or(|stage| !matches!(stage.key, "$changeStream" | "$match")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the documents of a change stream over several collections may hold, if
/// this pipeline is one and may meet sealed fields.
fn changes(policy: &Policy, command: &Command<'_>, stages: Doc<'_>) -> Result<Option<Content>> {
    let first = match stages.first()? {
        Some(first) => first.doc()?.first()?,
        None => None,
    };
    if first.is_none_or(|stage| stage.key != "$changeStream") {
        return Ok(None);
    }
    let database = Some(command.database).filter(|database| *database != "admin");
    let any = policy
        .sealed_in(database)
        .fold(Shape::default(), |any, collection| {
            any.or(Shape::of(collection)).or(Shape::default())
        });
    Ok(Some(Content::Document(any)).filter(|any| !any.is_open()))
}

fn run<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    scope: &Scope<'_>,
    command: &Command<'m>,
    documents: Documents,
    on_plaintext: &Cell<OnPlaintext>,
) -> Result<Documents> {
    let mut collation = options::Collation::default();
    let compared = Cell::new(false);
    let pipeline = Pipeline {
        command: command.name,
        namespace: &scope.collection.namespace,
        policy,
        views: policy.views(),
        database: command.database,
        on_plaintext,
        collated: scope.collated,
        compared: &compared,
        constants: scope.constants,
        stored: false,
        kept: false,
    };
    let mut documents = Some(documents);
    options::fields(splicer, scope, command.body, 1, |splicer, element| {
        match element.key {
            "pipeline" if element.kind == kind::ARRAY => {
                if let Some(before) = documents.take() {
                    documents =
                        Some(pipeline.rewrite(splicer, element.doc()?, before, None, "", 0)?);
                }
            }
            "hint" => options::hint(splicer, scope, element)?,
            "let" => expression::constants(splicer, scope, element)?,
            "collation" => collation.note(element)?,
            "explain" | "cursor" | "allowDiskUse" | "bypassDocumentValidation" => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if compared.get() {
        scope.compared.set(true);
    }
    collation.check(scope)?;
    Ok(documents.unwrap_or_else(|| Documents::of(Content::Mixed)))
}

/// Refuses an answer in which plain values of a masked field may stand where nothing tells
/// of which field they are.
fn tells_of_plaintext(
    policy: &Policy,
    scope: &Scope<'_>,
    documents: &Documents,
    expected: bool,
) -> Result {
    if !expected || !policy.masks_unknown() {
        return Ok(());
    }
    let unknown = match (documents.holds, &documents.content) {
        (Holds::Statistics, _) => false,
        // The parts of an event are masked as such, and nothing else in it.
        (Holds::Events, Content::Document(event)) => event.has_more_than(pipeline::EVENT),
        (_, content) => content.is_mixed(),
    };
    if !unknown {
        return Ok(());
    }
    Err(scope.unauthorized_in_plain())
}

/// What the replies need; `collection` is the sealed one that the command is on.
fn plan(
    command: &Command<'_>,
    mut documents: Documents,
    scope: &Scope<'_>,
    collection: Option<&Arc<Collection>>,
    on_plaintext: OnPlaintext,
) -> Result<ReplyPlan> {
    let explained = command
        .find("explain")?
        .is_some_and(|explain| explain.truthy());
    let collection = collection.cloned();
    Ok(match (documents.holds, collection) {
        // What an explained pipeline answers is a plan, not documents.
        (_, Some(collection)) if explained => super::explained(command, collection),
        (_, None) if explained => ReplyPlan::Relay,
        (Holds::Events, collection) => ReplyPlan::Changes(collection),
        (Holds::Statistics, Some(collection)) => ReplyPlan::Described(collection),
        _ => match documents.content {
            Content::Document(ref shape) if !shape.is_open() => ReplyPlan::Documents(
                documents.collection(&scope.collection.namespace, on_plaintext),
            ),
            _ => ReplyPlan::Relay,
        },
    })
}
