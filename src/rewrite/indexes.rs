//! Indexes by their names, which may be stored under others: asking MongoDB for those
//! of a collection, and putting the stored name in the place of the user's.

use std::sync::Arc;

use super::command::{Command, Request};
use super::options::index_keys;
use super::scope::Scope;
use super::table::Family;
use super::{Cleared, bulk_write};
use crate::policy::{Collection, Found, Listed, Policy, has_reserved_name};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;
use crate::wire::{self, Reply};

type Result<T = ()> = std::result::Result<T, Refusal>;

/// The error of MongoDB for a collection that it does not have.
const NO_COLLECTION: i64 = 26;

/// The sealed collections whose indexes must be listed before this message can be decided on.
pub fn unlisted(request: &Request<'_>, policy: &Policy) -> Vec<String> {
    if request.is_open(policy) || !policy.renames_indexes() {
        return Vec::new();
    }
    // What is malformed is refused without it.
    let unlisted = (request.command()).map(|command| unlisted_for(command, policy, 0));
    unlisted
        .and_then(std::result::Result::ok)
        .unwrap_or_default()
}

fn unlisted_for(
    command: &Command<'_>,
    policy: &Policy,
    depth: usize,
) -> std::result::Result<Vec<String>, Malformed> {
    let family = command.family;
    if family == Family::Explain && depth == 0 {
        let inner = Command::in_doc(command.target.doc()?, command.database)?;
        return unlisted_for(&inner, policy, depth + 1);
    }
    let mut namespaces: Vec<String> = match (family, command.target.str()) {
        (Family::BulkWrite, _) => {
            let named = bulk_write::namespaces(command)?;
            named.into_iter().map(str::to_owned).collect()
        }
        (_, Some(name)) => vec![format!("{}.{name}", command.database)],
        _ => Vec::new(),
    };
    namespaces.retain(|namespace| {
        policy
            .collection(namespace)
            .is_some_and(|collection| collection.renames_indexes())
    });
    if namespaces.is_empty() {
        return Ok(namespaces);
    }
    match family {
        Family::CreateIndexes | Family::DropIndexes => {}
        Family::Modify if command.find("index")?.is_some() => {}
        _ => {
            let hints = hints(command)?;
            if hints.is_empty() {
                namespaces.clear();
            }
            namespaces.retain(|namespace| !known(command, policy, namespace, &hints));
        }
    }
    Ok(namespaces)
}

/// Whether what was listed a short while ago tells of all of these indexes.
fn known(command: &Command<'_>, policy: &Policy, namespace: &str, hints: &[Element<'_>]) -> bool {
    let Some(listed) = policy.indexes().fresh(namespace) else {
        return false;
    };
    let Some(collection) = policy.collection(namespace) else {
        return false;
    };
    let mut scope = Scope::new(command.name, &collection, false);
    scope.indexes = Some(Arc::clone(&listed));
    hints.iter().all(|hint| match (hint.str(), hint.doc()) {
        (Some(name), _) => listed.stored(name).is_some(),
        (None, Ok(keys)) => {
            let natural = matches!(keys.first(), Ok(Some(first)) if first.key == "$natural");
            natural || matches!(with_keys(&scope, keys, |_| ()), Ok(Some(())))
        }
        // MongoDB's to refuse.
        (None, Err(_)) => true,
    })
}

/// What a command or its statements hint at: indexes by their names or their keys.
fn hints<'m>(command: &Command<'m>) -> std::result::Result<Vec<Element<'m>>, Malformed> {
    let mut hints = Vec::new();
    hints.extend(command.body.find("hint")?);
    for sequence in command.sequences {
        let mut at = sequence.documents.start;
        while at < sequence.documents.end {
            let doc = Doc::at(command.body.buffer(), at, sequence.documents.end)?;
            hints.extend(doc.find("hint")?);
            at = doc.end();
        }
    }
    for element in command.body.elements() {
        let element = element?;
        match (element.key, element.kind) {
            ("updates" | "deletes" | "ops", kind::ARRAY) => {
                for statement in element.doc()?.elements() {
                    hints.extend(statement?.object()?.find("hint")?);
                }
            }
            ("indexes", kind::ARRAY) => {
                for index in element.doc()?.elements() {
                    hints.push(index?);
                }
            }
            _ => {}
        }
    }
    Ok(hints)
}

/// Builds the question for the indexes of a collection in `frame`.
pub fn question<'f>(
    namespace: &str,
    request_id: i32,
    frame: &'f mut Vec<u8>,
) -> Option<Cleared<'f>> {
    let (database, name) = namespace.split_once('.')?;
    frame.clear();
    for number in [0, request_id, 0, wire::opcode::MSG, 0] {
        frame.extend_from_slice(&number.to_le_bytes());
    }
    frame.push(0);
    let mut writer = Writer::new(frame);
    let body = writer.begin();
    writer.string("listIndexes", name);
    let cursor = writer.begin_doc("cursor");
    writer.int32("batchSize", 10_000);
    writer.end(cursor);
    let preference = writer.begin_doc("$readPreference");
    writer.string("mode", "primaryPreferred");
    writer.end(preference);
    writer.string("$db", database);
    writer.end(body);
    wire::finish(frame).ok()?;
    Some(Cleared(frame))
}

/// Takes up the answer. A client that may not ask is told so where it names an index.
pub fn learn(policy: &Policy, namespace: &str, reply: &[u8]) -> std::result::Result<(), Malformed> {
    let body = match Reply::recognise(reply) {
        Ok(reply) => reply.body(),
        Err(_) => return Err(Malformed("MongoDB's reply is not understood")),
    };
    let body = Doc::at(reply, body.start, body.end)?;
    let listed = match (body.find("cursor")?, policy.collection(namespace)) {
        (Some(cursor), Some(collection)) => Some(listing(cursor.doc()?, &collection)?),
        _ => body
            .find("code")?
            .filter(|code| code.integer() == Some(NO_COLLECTION))
            .map(|_| Listed::default()),
    };
    policy.indexes().learn(namespace, listed);
    Ok(())
}

fn listing(cursor: Doc<'_>, collection: &Collection) -> std::result::Result<Listed, Malformed> {
    let batch = cursor.find("firstBatch")?;
    let batch = batch.ok_or(Malformed("a cursor has no batch"))?.doc()?;
    if cursor.find("id")?.and_then(|id| id.integer()) != Some(0) {
        return Err(Malformed(
            "MongoDB lists its indexes in more than one batch",
        ));
    }
    let indexes = batch.elements().map(|index| index?.doc());
    Listed::of(collection, indexes)
}

/// Puts the stored name of an index in the place of the user's.
pub(super) fn by_name(
    splicer: &mut Splicer<'_, '_>,
    scope: &Scope<'_>,
    element: &Element<'_>,
) -> Result {
    let Some(name) = element.str().filter(|_| renames(scope)) else {
        return Ok(());
    };
    let listed = listed(scope)?;
    match listed.stored(name) {
        Some(stored) if stored != name => splicer.replace(element.start, element.end, |out| {
            Writer::new(out).string(element.key, stored);
        }),
        // One that is hidden may leave out documents.
        None if !listed.of_all_epochs(name).is_empty() => {
            return Err(scope.refuse_command(
                "an index on tokens of an index epoch that is not active",
                "make it again, or run `fieldseal migrate reindex`",
            ));
        }
        _ => {}
    }
    Ok(())
}

fn renames(scope: &Scope<'_>) -> bool {
    scope.collection.renames_indexes()
}

fn listed<'s>(scope: &'s Scope<'_>) -> Result<&'s Listed> {
    scope.indexes.as_deref().ok_or_else(|| {
        scope.refuse_command(
            "the name of an index, while indexes are stored under others and MongoDB does not list them,",
            "name the index by its keys, or grant the user listIndexes; on a view, name the collection itself",
        )
    })
}

/// The name under which MongoDB keeps an index; `index` is the index as MongoDB gets it.
pub(super) fn new_name(scope: &Scope<'_>, name: &str, index: Doc<'_>) -> Result<String> {
    if has_reserved_name(name) {
        return Err(scope.refuse_command(
            "the name of an index that ends with `~` and numbers",
            "such names tell indexes of several index epochs apart: name it otherwise",
        ));
    }
    let known = scope.indexes.as_deref();
    // Two indexes of one name to the user would be two names to MongoDB.
    match known.and_then(|listed| listed.stored(name)) {
        Some(stored) => Ok(stored.to_owned()),
        None => Ok(scope.collection.stored_name(name, index)?),
    }
}

/// The `index` of `dropIndexes`. What is dropped is the index on the tokens of every
/// epoch, or it would come back with the next.
pub(super) fn drop_index<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
) -> Result {
    let mut names = Vec::new();
    match (element.kind, element.str()) {
        (_, Some("*")) => return Ok(()),
        (kind::DOCUMENT, _) => {
            match with_keys(scope, element.doc()?, |found| found.users.to_owned())? {
                Some(name) => names.push(name),
                None => return index_keys(splicer, scope, element.doc()?).map(|_| ()),
            }
        }
        _ if !renames(scope) => return Ok(()),
        (_, Some(name)) => names.push(name.to_owned()),
        (kind::ARRAY, _) => {
            for name in element.doc()?.elements() {
                let name = name?;
                let name = name
                    .str()
                    .ok_or(Malformed("an index is not named by a string"))?;
                names.push(name.to_owned());
            }
        }
        _ => return Ok(()),
    }
    let listed = listed(scope)?;
    let mut stored = Vec::new();
    for name in &names {
        match listed.of_all_epochs(name).as_slice() {
            [] => stored.push(name.as_str()),
            all => stored.extend(all),
        }
    }
    splicer.replace(element.start, element.end, |out| {
        let mut writer = Writer::new(out);
        match stored.as_slice() {
            [one] if element.kind != kind::ARRAY => writer.string(element.key, one),
            all => {
                let open = writer.begin_array(element.key);
                for (index, name) in all.iter().enumerate() {
                    writer.string(&index.to_string(), name);
                }
                writer.end(open);
            }
        }
    });
    Ok(())
}

/// Refuses a change of an index that stands on the tokens of several epochs: the others
/// would still delete documents by the old time, or not be unique once one of them is shown.
pub(super) fn refuse_several(scope: &Scope<'_>, index: Doc<'_>, change: &str) -> Result {
    if !renames(scope) {
        return Ok(());
    }
    let name = match (index.find("name")?, index.find("keyPattern")?) {
        (Some(name), _) => name.str().map(str::to_owned),
        (None, Some(keys)) => with_keys(scope, keys.object()?, |found| found.users.to_owned())?,
        (None, None) => None,
    };
    match name {
        Some(name) if listed(scope)?.of_all_epochs(&name).len() > 1 => Err(scope.refuse_command(
            &format!("`{change}` of an index on tokens of several index epochs"),
            "end `fieldseal migrate reindex` first",
        )),
        _ => Ok(()),
    }
}

/// An index by its keys. If an index on the tokens of another epoch has the same, MongoDB
/// asks for the name: that goes on instead, under the name `key`.
pub(super) fn by_keys<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
    key: &str,
) -> Result {
    let keys = element.doc()?;
    let name = |found: Found<'_>| found.ambiguous.then(|| found.stored.to_owned());
    match with_keys(scope, keys, name)?.flatten() {
        Some(name) => splicer.replace(element.start, element.end, |out| {
            Writer::new(out).string(key, &name);
        }),
        None => {
            index_keys(splicer, scope, keys)?;
        }
    }
    Ok(())
}

/// What `tell` says of the one index with these keys, if it may be stored beside others.
fn with_keys<R>(
    scope: &Scope<'_>,
    keys: Doc<'_>,
    tell: impl FnOnce(Found<'_>) -> R,
) -> Result<Option<R>> {
    let Some(listed) = scope.indexes.as_deref().filter(|_| renames(scope)) else {
        return Ok(None);
    };
    let own = Doc::whole(keys.bytes())?;
    let mut out = Vec::new();
    let mut splicer = Splicer::new(keys.bytes(), &mut out);
    index_keys(&mut splicer, scope, own)?;
    let stored = match splicer.finish() {
        true => Doc::whole(&out)?,
        false => own,
    };
    Ok(listed.with_keys(stored)?.map(tell))
}
