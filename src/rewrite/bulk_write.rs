//! `bulkWrite` (MongoDB 8): operations on many collections at once, sealed and open.
//!
//! What it answers for each operation comes by a cursor, in batches, so no
//! operation is refused alone: one that cannot be done refuses them all.

use std::sync::Arc;

use super::command::Command;
use super::crud::Change;
use super::document::seal_document;
use super::options::{Collation, array, fields, filter, hint, sequence, sort};
use super::permission::check_internal;
use super::scope::Scope;
use super::{array_filters, positions, reach, refuse_family, update};
use crate::policy::{Collection, Listed, Policy};
use crate::raw::{Doc, Element, Malformed, Splicer};
use crate::refusal::Refusal;
use crate::reveal::ReplyPlan;
use crate::schema::Tree;

type Result<T = ()> = std::result::Result<T, Refusal>;

/// What `nsInfo` says of one collection.
struct Target {
    /// What is sealed in it, if anything is.
    sealed: Option<Arc<Collection>>,
    /// Whether MongoDB compares its strings by a collation.
    collated: bool,
    /// Its indexes, if MongoDB was asked for them.
    indexes: Option<Arc<Listed>>,
}

pub(super) fn bulk_write<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    command: &Command<'m>,
) -> Result<ReplyPlan> {
    let mut targets = Vec::new();
    for namespace in namespaces(command)? {
        targets.push(target(policy, command, namespace)?);
    }
    let Some(first) = targets.iter().find_map(|target| target.sealed.clone()) else {
        return Ok(ReplyPlan::Relay);
    };
    let scope = &Scope::new(command.name, &first, false);
    let one =
        |splicer: &mut Splicer<'m, '_>, op: Doc<'m>| operation(splicer, command, &targets, op);
    let known = |splicer: &mut Splicer<'m, '_>, doc: Doc<'m>| {
        // A key that is not known could say that the name means another collection.
        fields(splicer, scope, doc, 0, |_, element| {
            Ok(matches!(element.key, "ns" | "collectionUUID"))
        })
    };
    let body = |splicer: &mut Splicer<'m, '_>| {
        fields(splicer, scope, command.body, 1, |splicer, element| {
            match element.key {
                "ops" => array(splicer, element, one)?,
                "nsInfo" => array(splicer, element, known)?,
                // Never compared with what is sealed: an expression knows them only by name.
                "let" => {}
                "ordered" | "errorsOnly" | "bypassDocumentValidation" | "cursor" => {}
                _ => return Ok(false),
            }
            Ok(true)
        })
    };
    let mut body_done = false;
    for section in command.sequences {
        if !body_done && command.body.start() < section.size_at {
            body(splicer)?;
            body_done = true;
        }
        match section.identifier {
            "ops" => sequence(splicer, section, one)?,
            "nsInfo" => sequence(splicer, section, known)?,
            other => {
                return Err(scope.refuse_command(
                    &format!("the document sequence `{other}`"),
                    "this version does not know it",
                ));
            }
        }
    }
    if !body_done {
        body(splicer)?;
    }
    Ok(ReplyPlan::Results)
}

/// The namespaces that the command names, in the order of their numbers.
pub(super) fn namespaces<'m>(
    command: &Command<'m>,
) -> std::result::Result<Vec<&'m str>, Malformed> {
    let mut namespaces = Vec::new();
    let mut add = |doc: Doc<'m>| {
        let namespace = doc
            .find_once("ns")?
            .ok_or(Malformed("bulkWrite names no collection"))?;
        let namespace = namespace.str().filter(|name| !name.contains('\0'));
        namespaces.push(namespace.ok_or(Malformed("a collection is not named by a string"))?);
        Ok::<_, Malformed>(())
    };
    let listed = command.find("nsInfo")?;
    if let Some(listed) = listed {
        for namespace in listed.array()?.elements() {
            add(namespace?.object()?)?;
        }
    }
    for sequence in command.sequences {
        if sequence.identifier != "nsInfo" {
            continue;
        }
        if listed.is_some() {
            return Err(Malformed("nsInfo is given twice"));
        }
        let mut at = sequence.documents.start;
        while at < sequence.documents.end {
            let doc = Doc::at(command.body.buffer(), at, sequence.documents.end)?;
            add(doc)?;
            at = doc.end();
        }
    }
    Ok(namespaces)
}

fn target(policy: &Policy, command: &Command<'_>, namespace: &str) -> Result<Target> {
    let (database, name) = namespace.split_once('.').unwrap_or((namespace, ""));
    check_internal(policy, command.name, database, name)?;
    if reach::defines_views(policy, database, name) || policy.views().reaching(database, name) {
        return Err(refuse_family(
            command,
            "one of its collections has sealed fields",
            "use insert, update and delete on the sealed collection itself",
        ));
    }
    Ok(Target {
        sealed: policy.collection(namespace),
        collated: policy.views().collated(database, name),
        indexes: policy.indexes().of(namespace),
    })
}

fn operation<'m>(
    splicer: &mut Splicer<'m, '_>,
    command: &Command<'m>,
    targets: &[Target],
    op: Doc<'m>,
) -> Result {
    let first = op.first()?.ok_or(Malformed("an operation is empty"))?;
    let target = first
        .integer()
        .and_then(|number| targets.get(usize::try_from(number).ok()?))
        .ok_or(Malformed("an operation names no collection of nsInfo"))?;
    let Some(collection) = &target.sealed else {
        return Ok(());
    };
    let mut scope = Scope::new(command.name, collection, target.collated);
    scope.indexes.clone_from(&target.indexes);
    let scope = &scope;
    match first.key {
        "insert" => fields(splicer, scope, op, 1, |splicer, element| {
            if element.key == "document" {
                seal_document(splicer, scope, element.object()?, Tree::ROOT, 0)?;
            }
            Ok(element.key == "document")
        }),
        "update" => update_operation(splicer, scope, op),
        "delete" => delete_operation(splicer, scope, op),
        _ => Err(Malformed("an operation is neither insert, update nor delete").into()),
    }
}

fn update_operation<'m>(splicer: &mut Splicer<'m, '_>, scope: &Scope<'_>, op: Doc<'m>) -> Result {
    let mut collation = Collation::default();
    let change = Change::of(op, "filter", "updateMods")?;
    positions::check_update(scope, &change.finds(), change.update.as_ref())?;
    let equalities = change.equalities(scope, splicer.input())?;
    fields(splicer, scope, op, 1, |splicer, element| {
        match element.key {
            "filter" => change.filter(splicer, scope, element)?,
            "updateMods" => update::rewrite(splicer, scope, element, &equalities)?,
            "arrayFilters" => {
                array_filters::rewrite(splicer, scope, element, change.update.as_ref())?
            }
            "constants" => {}
            "multi" | "upsert" | "upsertSupplied" | "sampleId" => {}
            _ => return shared(splicer, scope, element, &mut collation),
        }
        Ok(true)
    })?;
    collation.check(scope)
}

fn delete_operation<'m>(splicer: &mut Splicer<'m, '_>, scope: &Scope<'_>, op: Doc<'m>) -> Result {
    let mut collation = Collation::default();
    fields(splicer, scope, op, 1, |splicer, element| {
        match element.key {
            "filter" => filter(splicer, scope, element)?,
            "multi" | "sampleId" => {}
            _ => return shared(splicer, scope, element, &mut collation),
        }
        Ok(true)
    })?;
    collation.check(scope)
}

/// What updates and deletes have in common.
fn shared<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
    collation: &mut Collation,
) -> Result<bool> {
    match element.key {
        "hint" => hint(splicer, scope, element)?,
        "sort" => sort(scope, element)?,
        "collation" => collation.note(element)?,
        _ => return Ok(false),
    }
    Ok(true)
}
