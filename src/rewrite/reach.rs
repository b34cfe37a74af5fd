//! Commands on collections where nothing is sealed: what they reach from there.

use super::command::Command;
use super::permission::check_internal;
use super::table::Family;
use super::{aggregate, catalog, refuse_family};
use crate::code::Code;
use crate::policy::Policy;
use crate::raw::{Element, Malformed, Splicer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::reveal::ReplyPlan;

/// A command on a collection that has no sealed fields, but may reach one that has.
pub(super) fn open<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    command: &Command<'m>,
    family: Family,
    name: &str,
) -> Result<ReplyPlan, Refusal> {
    // A time series' own collection: its measurements in columns, under paths of their own.
    if let Some(series) = name.strip_prefix("system.buckets.")
        && family != Family::Whole
        && command.collection(policy, series).is_some()
    {
        return Err(refuse_family(
            command,
            "a time series has sealed fields",
            "name the time series, not its buckets",
        ));
    }
    if family != Family::Whole {
        check_internal(policy, command.name, command.database, name)?;
    }
    match family {
        Family::Aggregate | Family::Create | Family::Modify | Family::MapReduce => {
            no_sequences(command)?
        }
        _ => {}
    }
    match family {
        Family::Aggregate => return aggregate::open(splicer, policy, command, name),
        Family::Create | Family::Modify => catalog::view(splicer, policy, command)?,
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
pub(super) fn defines_views(policy: &Policy, database: &str, name: &str) -> bool {
    matches!(name, "system.views" | "system.js") && policy.may_seal_in(database)
}

/// Document sequences stand for fields of the body, which would go unseen.
pub(super) fn no_sequences(command: &Command<'_>) -> Result<(), Refusal> {
    match command.sequences.first() {
        None => Ok(()),
        Some(sequence) => Err(Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{}: the document sequence `{}` is not known to this version; put it in the body",
                command.name, sequence.identifier
            ),
        )
        .coded(Code::UnknownOption)),
    }
}

/// A command of a family that names a collection, on the database as a whole.
pub(super) fn on_database<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    command: &Command<'m>,
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
    aggregate::open(splicer, policy, command, "")
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

pub(super) fn rename(policy: &Policy, command: &Command<'_>) -> Result<ReplyPlan, Refusal> {
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
