//! Asking MongoDB which views reach sealed collections, and which collections have a collation.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use super::command::{Command, Request};
use super::permission::check_internal;
use super::pipeline::{self, Pipeline};
use super::scope::DEEPEST;
use super::shape::Content;
use super::table::Family;
use super::{Cleared, bulk_write};
use crate::code::Code;
use crate::policy::{AskedAt, Collection, Policy, Reaching, Views};
use crate::raw::{Doc, Malformed, Splicer, Writer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::OnPlaintext;
use crate::wire::{self, Reply};

/// How a database's views are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// With what they look at; takes the right to list collections.
    Definitions,
    /// Those that the user may read, by name alone; any user may ask.
    Names,
}

/// What MongoDB answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The views are known now.
    Listed,
    /// The user may not ask that.
    NotAllowed,
    /// Anything else, by its error code.
    Failed(i64),
}

/// The command of a message that may name a view of a database with sealed fields.
fn may_name<'r, 'm>(request: &'r Request<'m>, policy: &Policy) -> Option<&'r Command<'m>> {
    if policy.is_empty() {
        return None;
    }
    // What is malformed is refused without it.
    let command = request.command()?;
    let may_seal = match command.family {
        Family::Hello | Family::Pass | Family::GetMore | Family::Unknown | Family::Never(_) => {
            false
        }
        Family::BulkWrite => databases(command).any(|database| policy.may_seal_in(database)),
        _ => policy.may_seal_in(command.database),
    };
    may_seal.then_some(command)
}

/// Whether all that a command names is one collection of its database.
fn names_one<'m>(command: &Command<'m>) -> Option<&'m str> {
    let one = !matches!(
        command.family,
        Family::BulkWrite | Family::Aggregate | Family::Explain | Family::Create | Family::Modify
    );
    command.target.str().filter(|_| one)
}

/// The databases whose collections a command names: `bulkWrite` names any.
fn databases<'m>(command: &Command<'m>) -> impl Iterator<Item = &'m str> {
    let namespaces = match command.family {
        Family::BulkWrite => bulk_write::namespaces(command).unwrap_or_default(),
        _ => vec![command.database],
    };
    let database = |namespace: &'m str| namespace.split('.').next().unwrap_or(namespace);
    namespaces.into_iter().map(database)
}

/// The databases whose views must be listed before this message can be decided on.
///
/// That is also so where it uses a name for the first time, which may be that of a view
/// younger than the last listing, and where it names a view that is known to reach a
/// sealed collection: another one may stand in its place since, whose fields are others.
/// `own` is what this client alone was told, by [`Asking::Names`].
pub fn unlisted<'m>(request: &Request<'m>, policy: &Policy, own: &Views) -> Vec<&'m str> {
    if request.is_known(policy) {
        return Vec::new();
    }
    let Some(command) = may_name(request, policy) else {
        return Vec::new();
    };
    // What nearly all commands are: asked about before, and a short while ago.
    if let Some(name) = names_one(command)
        && policy.views().is_known(command.database, name)
    {
        return Vec::new();
    }
    let used = used(command);
    let known = |database: &str| {
        let views = policy.views();
        if !views.fresh(database) {
            return own.fresh(database);
        }
        used.iter().all(|(of, name)| {
            *of != database
                || !views.reaching(database, name)
                    && (views.used(database, name) || own.fresh(database))
        })
    };
    let mut unlisted: Vec<&str> = databases(command)
        .filter(|database| policy.may_seal_in(database) && !known(database))
        .collect();
    unlisted.sort_unstable();
    unlisted.dedup();
    unlisted
}

/// Notes the names that a message uses in a database that was just listed for it.
pub fn note_used(request: &Request<'_>, policy: &Policy, database: &str) {
    if let Some(command) = may_name(request, policy) {
        let used = used(command);
        let names = used.iter().filter(|(of, _)| *of == database);
        policy
            .views()
            .note_used(database, names.map(|(_, name)| *name));
    }
}

/// The databases and names of the collections and views that a command reads or writes.
fn used<'m>(command: &Command<'m>) -> Vec<(&'m str, &'m str)> {
    let mut used = Vec::new();
    match command.family {
        Family::BulkWrite => {
            let namespaces = bulk_write::namespaces(command).unwrap_or_default();
            used.extend(namespaces.iter().filter_map(|name| name.split_once('.')));
        }
        family => {
            if let Some(name) = command.target.str() {
                used.push((command.database, name));
            }
            if matches!(
                family,
                Family::Aggregate | Family::Explain | Family::Create | Family::Modify
            ) {
                // What is nested too deep is refused.
                let _ = used_within(command.database, command.body, &mut used, 0);
            }
        }
    }
    used
}

/// The same within a pipeline, or a command that is explained.
fn used_within<'m>(
    database: &'m str,
    doc: Doc<'m>,
    used: &mut Vec<(&'m str, &'m str)>,
    depth: usize,
) -> Result<(), Malformed> {
    if depth > DEEPEST {
        return Err(Malformed("documents are nested too deep"));
    }
    for element in doc.elements() {
        let element = element?;
        match element.kind {
            kind::DOCUMENT | kind::ARRAY => {
                used_within(database, element.doc()?, used, depth + 1)?;
            }
            kind::STRING => {
                let names = matches!(
                    element.key,
                    "from"
                        | "coll"
                        | "viewOn"
                        | "$unionWith"
                        | "find"
                        | "aggregate"
                        | "count"
                        | "distinct"
                        | "update"
                        | "delete"
                        | "findAndModify"
                        | "findandmodify"
                );
                used.extend(element.str().filter(|_| names).map(|name| (database, name)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What of the listings a message makes old, once MongoDB has done what it says: those
/// of one database, or of all.
pub fn outdated<'m>(request: &Request<'m>, policy: &Policy) -> Option<Option<&'m str>> {
    if policy.is_empty() {
        return None;
    }
    let command = request.command()?;
    match command.name {
        "create"
        | "collMod"
        | "drop"
        | "dropDatabase"
        | "convertToCapped"
        | "cloneCollectionAsCapped" => Some(Some(command.database)),
        "renameCollection" => Some(None),
        _ => None,
    }
}

/// Refuses a message that names a view which this client was told of by name alone.
pub fn refuse_unknown(request: &Request<'_>, policy: &Policy, own: &Views) -> Result<(), Refusal> {
    if request.is_known(policy) || own.is_empty() {
        return Ok(());
    }
    let Some(command) = may_name(request, policy) else {
        return Ok(());
    };
    for database in databases(command) {
        if !own.fresh(database) || !names_view(command, database, own)? {
            continue;
        }
        // Whoever may see the definitions has told everyone, of names in use.
        let views = policy.views();
        let told = |name: &str| views.reaching(database, name) || views.used(database, name);
        let mut used = used(command).into_iter();
        if views.fresh(database) && used.all(|(of, name)| of != database || told(name)) {
            continue;
        }
        return Err(Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{} in {database}: it names a view, and the user may not see whether the view reaches sealed fields; grant the user listCollections, or query the collection itself",
                command.name
            ),
        ).coded(Code::UnknownView));
    }
    Ok(())
}

/// Whether any string of a command is the name of a view of `database`.
fn names_view(command: &Command<'_>, database: &str, own: &Views) -> Result<bool, Malformed> {
    if command.family != Family::BulkWrite {
        return names(command, command.body, own, 0);
    }
    let named = bulk_write::namespaces(command)?;
    let mut named = named
        .iter()
        .filter_map(|namespace| namespace.split_once('.'));
    Ok(named.any(|(of, name)| of == database && own.reaching(database, name)))
}

/// Whether any string of a command is the name of a view.
fn names(
    command: &Command<'_>,
    doc: Doc<'_>,
    own: &Views,
    depth: usize,
) -> Result<bool, Malformed> {
    if depth > DEEPEST {
        return Err(Malformed("documents are nested too deep"));
    }
    for element in doc.elements() {
        let element = element?;
        let named = match element.kind {
            kind::DOCUMENT | kind::ARRAY => names(command, element.doc()?, own, depth + 1)?,
            _ => element
                .str()
                .is_some_and(|name| own.reaching(command.database, name)),
        };
        if named {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Builds the question in `frame`.
pub fn question<'f>(
    database: &str,
    asking: Asking,
    request_id: i32,
    frame: &'f mut Vec<u8>,
) -> Option<Cleared<'f>> {
    frame.clear();
    for number in [0, request_id, 0, wire::opcode::MSG, 0] {
        frame.extend_from_slice(&number.to_le_bytes());
    }
    frame.push(0);
    let mut writer = Writer::new(frame);
    let body = writer.begin();
    writer.int32("listCollections", 1);
    let filter = writer.begin_doc("filter");
    match asking {
        Asking::Names => writer.string("type", "view"),
        Asking::Definitions => views_or_collated(&mut writer),
    }
    writer.end(filter);
    if asking == Asking::Names {
        writer.bool("nameOnly", true);
        writer.bool("authorizedCollections", true);
    }
    let cursor = writer.begin_doc("cursor");
    writer.int32("batchSize", 100_000);
    writer.end(cursor);
    let preference = writer.begin_doc("$readPreference");
    writer.string("mode", "primaryPreferred");
    writer.end(preference);
    writer.string("$db", database);
    writer.end(body);
    wire::finish(frame).ok()?;
    Some(Cleared(frame))
}

fn views_or_collated(writer: &mut Writer<'_>) {
    let either = writer.begin_array("$or");
    let view = writer.begin_doc("0");
    writer.string("type", "view");
    writer.end(view);
    let collated = writer.begin_doc("1");
    let exists = writer.begin_doc("options.collation");
    writer.bool("$exists", true);
    writer.end(exists);
    writer.end(collated);
    writer.end(either);
}

/// Takes up the answer to a question that was asked when `asked` says: definitions hold
/// for everyone, names for the client that was told them.
pub fn learn(
    policy: &Policy,
    own: &Views,
    database: &str,
    asking: Asking,
    asked: AskedAt,
    reply: &[u8],
) -> Result<Answer, Malformed> {
    const UNAUTHORIZED: i64 = 13;
    let body = match Reply::recognise(reply) {
        Ok(reply) => reply.body(),
        Err(_) => return Err(Malformed("MongoDB's reply is not understood")),
    };
    let body = Doc::at(reply, body.start, body.end)?;
    let Some(cursor) = body.find("cursor")? else {
        return Ok(match body.find("code")?.and_then(|code| code.integer()) {
            Some(UNAUTHORIZED) => Answer::NotAllowed,
            code => Answer::Failed(code.unwrap_or_default()),
        });
    };
    let cursor = cursor.doc()?;
    let batch = cursor
        .find("firstBatch")?
        .ok_or(Malformed("a cursor has no batch"))?
        .doc()?;
    if cursor.find("id")?.and_then(|id| id.integer()) != Some(0) {
        return Err(Malformed("MongoDB lists its views in more than one batch"));
    }
    // Worked through apart, so that nobody meets half of it.
    let found = policy.views().beside(database);
    let mut reaching = Reaching::new();
    let mut collated = HashSet::new();
    // A view may look at another one: until no more are found.
    loop {
        let before = reaching.len();
        for listed in batch.elements() {
            let listed = listed?.doc()?;
            let Some(name) = listed.find("name")?.and_then(|name| name.str()) else {
                return Err(Malformed("a collection has no name"));
            };
            if listed.find("type")?.and_then(|kind| kind.str()) != Some("view") {
                // Asked for only where it has a collation.
                collated.insert(name.to_owned());
            } else if !reaching.contains_key(name)
                && (asking == Asking::Names || reaches(policy, &found, database, name, listed)?)
            {
                reaching.insert(name.to_owned(), None);
            }
        }
        if reaching.len() == before {
            break;
        }
        found.add(database, &reaching);
    }
    if asking == Asking::Definitions {
        shapes(policy, &found, database, batch, &mut reaching)?;
    }
    let views = match asking {
        Asking::Definitions => policy.views(),
        Asking::Names => own,
    };
    views.learn(database, asked, reaching, collated);
    Ok(Answer::Listed)
}

/// Finds the shape of each view, after those of the views that it looks at.
fn shapes(
    policy: &Policy,
    found: &Views,
    database: &str,
    batch: Doc<'_>,
    reaching: &mut Reaching,
) -> Result<(), Malformed> {
    loop {
        let mut more = false;
        for listed in batch.elements() {
            let listed = listed?.doc()?;
            let name = listed.find("name")?.and_then(|name| name.str());
            let Some(name) = name.filter(|name| matches!(reaching.get(*name), Some(None))) else {
                continue;
            };
            if let Some(shape) = shape(policy, found, database, name, listed) {
                more = true;
                reaching.insert(name.to_owned(), Some(shape));
                found.add(database, reaching);
            }
        }
        if !more {
            return Ok(());
        }
    }
}

/// The shape of a view's documents, if all of its stages can be followed.
fn shape(
    policy: &Policy,
    views: &Views,
    database: &str,
    name: &str,
    view: Doc<'_>,
) -> Option<Arc<Collection>> {
    let namespace = format!("{database}.{name}");
    if policy.collection(&namespace).is_some() {
        return None;
    }
    let options = view.find("options").ok()??.doc().ok()?;
    let collated = options.find("collation").ok()?.is_some();
    let on = options.find("viewOn").ok()??;
    let compared = Cell::new(false);
    let on_plaintext = Cell::new(OnPlaintext::Reject);
    let pipeline = Pipeline {
        command: "view",
        namespace: &namespace,
        policy,
        views,
        database,
        on_plaintext: &on_plaintext,
        collated,
        compared: &compared,
        constants: None,
        stored: true,
        kept: false,
    };
    let mut documents = pipeline.source(database, &on, "the view").ok()?;
    if let Some(stages) = options.find("pipeline").ok()? {
        let mut scratch = Vec::new();
        let mut dry = Splicer::new(view.buffer(), &mut scratch);
        documents = pipeline
            .rewrite(&mut dry, stages.array().ok()?, documents, None, "", 0)
            .ok()?;
        // What would have to be rewritten is in its definition as it should not be.
        if dry.changed() {
            return None;
        }
    }
    // The strings of a view with a collation are compared by it.
    if collated || !matches!(documents.content, Content::Document(_) | Content::Open) {
        return None;
    }
    Some(documents.derived(&namespace, on_plaintext.get()))
}

fn reaches(
    policy: &Policy,
    views: &Views,
    database: &str,
    name: &str,
    view: Doc<'_>,
) -> Result<bool, Malformed> {
    // A view where the schema seals a collection: tokens would be those of its name.
    if policy.collection(&format!("{database}.{name}")).is_some() {
        return Ok(true);
    }
    let Some(options) = view.find("options")? else {
        return Ok(true);
    };
    let options = options.doc()?;
    let Some(on) = options.find("viewOn")?.and_then(|on| on.str()) else {
        return Ok(true);
    };
    if check_internal(policy, "view", database, on).is_err() {
        return Ok(true);
    }
    if views.reaching(database, on) || policy.collection(&format!("{database}.{on}")).is_some() {
        return Ok(true);
    }
    match options.find("pipeline")? {
        Some(stages) if stages.kind == kind::ARRAY => {
            // What cannot be followed counts as reaching.
            Ok(!matches!(
                pipeline::reaches(policy, views, "view", database, stages.doc()?),
                Ok(false)
            ))
        }
        _ => Ok(false),
    }
}
