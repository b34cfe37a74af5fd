//! The two sides: a collection with sealed fields behind the proxy, and one
//! without, straight on MongoDB.

use mongodb::bson::{Bson, Document, doc, serialize_to_vec};
use mongodb::error::{Error, ErrorKind};
use mongodb::{Client, ClientSession, Database};

use super::commands::Operation;
use super::values;

/// A database by one way to it.
pub(super) struct Side {
    database: Database,
    session: ClientSession,
}

/// What came back for a command, without what differs by nature.
#[derive(Debug)]
pub(super) enum Answer {
    Reply(Document),
    /// The proxy does not pass it on.
    Refused {
        code: i32,
        message: String,
    },
    /// MongoDB's error.
    Failed(Document),
}

impl Side {
    pub(super) async fn new(client: &Client, database: &str) -> Self {
        Self {
            database: client.database(database),
            session: client.start_session().await.unwrap(),
        }
    }

    /// Runs a command and reads its cursor to the end.
    pub(super) async fn run(&mut self, command: &Document) -> Answer {
        let mut reply = match self.send(command.clone()).await {
            Ok(reply) => reply,
            Err(error) => return failure(&error),
        };
        if reply.contains_key("cursor") {
            match self.exhaust(&mut reply, command).await {
                Ok(documents) => {
                    reply.remove("cursor");
                    reply.insert("documents", documents);
                }
                Err(error) => return failure(&error),
            }
        }
        Answer::Reply(essence(reply))
    }

    async fn send(&mut self, command: Document) -> Result<Document, Error> {
        self.database
            .run_command(command)
            .session(&mut self.session)
            .await
    }

    async fn exhaust(
        &mut self,
        reply: &mut Document,
        command: &Document,
    ) -> Result<Vec<Bson>, Error> {
        let collection = command.values().next().cloned().unwrap();
        let cursor = reply.get_document_mut("cursor").unwrap();
        let mut id = cursor.get_i64("id").unwrap();
        let mut documents = take_array(cursor, "firstBatch");
        while id != 0 {
            let more = doc! { "getMore": id, "collection": collection.clone(), "batchSize": 3 };
            let mut reply = self.send(more).await?;
            let cursor = reply.get_document_mut("cursor").unwrap();
            id = cursor.get_i64("id").unwrap();
            documents.extend(take_array(cursor, "nextBatch"));
        }
        Ok(documents)
    }

    /// The documents that `filter` finds, by `_id`; an error where they are not readable.
    pub(super) async fn documents(
        &mut self,
        collection: &str,
        filter: Document,
    ) -> Result<Vec<Document>, String> {
        let find = doc! { "find": collection, "filter": filter, "sort": { "_id": 1 } };
        match self.run(&find).await {
            Answer::Reply(mut reply) => Ok(take_array(&mut reply, "documents")
                .into_iter()
                .filter_map(|document| document.as_document().cloned())
                .collect()),
            other => Err(format!("  the documents cannot be read: {other:?}")),
        }
    }

    /// Runs a command that cannot fail.
    ///
    /// # Panics
    /// When it fails.
    pub(super) async fn must(&mut self, command: Document) -> Document {
        match self.run(&command).await {
            Answer::Reply(reply) if !reply.contains_key("writeErrors") => reply,
            other => panic!("{command} failed: {other:?}"),
        }
    }
}

fn take_array(document: &mut Document, name: &str) -> Vec<Bson> {
    match document.remove(name) {
        Some(Bson::Array(items)) => items,
        other => panic!("{name} is {other:?}"),
    }
}

fn failure(error: &Error) -> Answer {
    let ErrorKind::Command(command) = error.kind.as_ref() else {
        panic!("not an answer: {error:?}");
    };
    if command.message.contains("fieldseal") {
        return Answer::Refused {
            code: command.code,
            message: command.message.clone(),
        };
    }
    Answer::Failed(error_essence(command.code, &command.message))
}

/// An error by its code, and a duplicate key by its index.
fn error_essence(code: i32, message: &str) -> Document {
    // An array without the position, or with fewer elements: of which document the error
    // tells first depends on the plan.
    let code = match code {
        51247 => 51246,
        code => code,
    };
    let mut essence = doc! { "code": code };
    if let Some((_, rest)) = message.split_once(" index: ") {
        let index = rest.split(" dup key").next().unwrap_or_default();
        essence.insert("index", index);
    }
    essence
}

/// A reply without times, cursor ids, texts and generated identifiers.
fn essence(mut reply: Document) -> Document {
    for name in [
        "$clusterTime",
        "operationTime",
        "electionId",
        "opTime",
        "ok",
    ] {
        reply.remove(name);
    }
    if let Ok(errors) = reply.get_array_mut("writeErrors") {
        for error in errors.iter_mut().filter_map(Bson::as_document_mut) {
            let code = error.get_i32("code").unwrap();
            let message = error.get_str("errmsg").unwrap_or_default();
            let mut essence = if message.starts_with("fieldseal") || is_impossible(message) {
                doc! { "refused": true }
            } else {
                error_essence(code, message)
            };
            essence.insert("at", error.get_i32("index").unwrap());
            *error = essence;
        }
    }
    let mut reply = Bson::Document(reply);
    hide_generated(&mut reply);
    match reply {
        Bson::Document(reply) => reply,
        _ => unreachable!("a document stays one"),
    }
}

/// Whether MongoDB refused a statement of [`impossible`].
fn is_impossible(message: &str) -> bool {
    message.contains(REFUSED) || message == "The '_id' value cannot be of type array"
}

const REFUSED: &str = "$refusedByTheProxy";

/// The numbers of the statements that the proxy refused while others of their batch went on.
pub(super) fn refused(reply: &Document) -> Vec<usize> {
    let errors = reply.get_array("writeErrors").into_iter().flatten();
    errors
        .filter_map(Bson::as_document)
        .filter(|error| error.contains_key("refused"))
        .map(|error| usize::try_from(error.get_i32("at").unwrap()).unwrap())
        .collect()
}

/// The command with statements that MongoDB refuses in these places, as if it had
/// refused them itself.
pub(super) fn impossible(command: &Document, refused: &[usize]) -> Document {
    let (name, statement) = match command.keys().next().unwrap().as_str() {
        "insert" => ("documents", doc! { "_id": [] }),
        "update" => ("updates", doc! { "q": { REFUSED: 1 }, "u": {} }),
        _ => ("deletes", doc! { "q": { REFUSED: 1 }, "limit": 1 }),
    };
    let mut command = command.clone();
    if !refused.is_empty() {
        let statements = command.get_array_mut(name).unwrap();
        for index in refused {
            statements[*index] = statement.clone().into();
        }
    }
    command
}

/// MongoDB makes an `_id` where an upsert names none, and pipelines copy it; it is no
/// other than this one that documents have.
fn hide_generated(value: &mut Bson) {
    match value {
        Bson::Document(document) => {
            for (_, value) in document.iter_mut() {
                if value
                    .as_object_id()
                    .is_some_and(|id| id != values::OBJECT_ID)
                {
                    *value = "generated".into();
                }
                hide_generated(value);
            }
        }
        Bson::Array(items) => items.iter_mut().for_each(hide_generated),
        _ => {}
    }
}

/// The difference between two answers to an operation, if there is one.
pub(super) fn compare(operation: &Operation, sealed: &Answer, plain: &Answer) -> Option<String> {
    let same = match (sealed, plain) {
        (Answer::Failed(sealed), Answer::Failed(plain)) => bytes(sealed) == bytes(plain),
        (Answer::Reply(sealed), Answer::Reply(plain)) => same_reply(operation, sealed, plain),
        _ => false,
    };
    (!same).then(|| format!("  through the proxy: {sealed:?}\n  plain:             {plain:?}"))
}

fn same_reply(operation: &Operation, sealed: &Document, plain: &Document) -> bool {
    let mut sides = [sealed.clone(), plain.clone()];
    if operation.reseals {
        let modified = |side: &Document| side.get_i32("nModified").unwrap_or(0);
        if modified(sealed) < modified(plain) || modified(sealed) > sealed.get_i32("n").unwrap_or(0)
        {
            return false;
        }
        sides.iter_mut().for_each(|side| {
            side.remove("nModified");
        });
    }
    for side in &mut sides {
        if operation.loose {
            *side = ordered_fields(side);
        }
        if operation.family == "stages" {
            sort_sets(side);
        }
        for name in ["documents", "values"] {
            if let (false, Ok(items)) = (operation.ordered, side.get_array_mut(name)) {
                items.sort_by_cached_key(|item| bytes(&doc! { "": item }));
            }
        }
    }
    bytes(&sides[0]) == bytes(&sides[1])
}

/// Puts what no order is promised of in one: arrays whose name says that they are sets.
fn sort_sets(document: &mut Document) {
    for (name, value) in document.iter_mut() {
        if let Bson::Array(items) = value {
            for item in items.iter_mut().filter_map(Bson::as_document_mut) {
                sort_sets(item);
            }
            if name.starts_with("set") {
                items.sort_by_cached_key(|item| bytes(&doc! { "": item }));
            }
        } else if let Bson::Document(inner) = value {
            sort_sets(inner);
        }
    }
}

/// The exact content, types, and order of fields.
pub(super) fn bytes(document: &Document) -> Vec<u8> {
    serialize_to_vec(document).unwrap()
}

/// The same document with its fields, and those within, by name.
pub(super) fn ordered_fields(document: &Document) -> Document {
    let mut fields: Vec<(String, Bson)> = document
        .iter()
        .map(|(key, value)| (key.clone(), ordered_within(value)))
        .collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields.into_iter().collect()
}

fn ordered_within(value: &Bson) -> Bson {
    match value {
        Bson::Document(document) => ordered_fields(document).into(),
        Bson::Array(items) => items.iter().map(ordered_within).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

/// An error with the first documents that differ between two states.
pub(super) fn same_state(sealed: &[Document], plain: &[Document]) -> Result<(), String> {
    let mut pairs = sealed.iter().zip(plain);
    if let Some((sealed, plain)) = pairs.find(|(sealed, plain)| bytes(sealed) != bytes(plain)) {
        return Err(format!(
            "  stored through the proxy: {sealed:?}\n  plain:                    {plain:?}"
        ));
    }
    if sealed.len() != plain.len() {
        return Err(format!(
            "  {} documents through the proxy, {} plain",
            sealed.len(),
            plain.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differ(one: Document, other: Document) -> bool {
        let operation = Operation::read("", doc! {});
        compare(&operation, &Answer::Reply(one), &Answer::Reply(other)).is_some()
    }

    #[test]
    fn answers_differ_by_type_by_order_of_fields_and_by_number_of_documents() {
        let one = doc! { "documents": [{ "_id": 1, "a": 1 }, { "_id": 2 }] };
        assert!(!differ(
            one.clone(),
            doc! { "documents": [{ "_id": 2 }, { "_id": 1, "a": 1 }] }
        ));
        for other in [
            doc! { "documents": [{ "_id": 1, "a": 1.0 }, { "_id": 2 }] },
            doc! { "documents": [{ "a": 1, "_id": 1 }, { "_id": 2 }] },
            doc! { "documents": [{ "_id": 1, "a": 1 }] },
        ] {
            assert!(differ(one.clone(), other));
        }
    }

    #[test]
    fn errors_differ_by_code_and_by_index() {
        let text = "E11000 duplicate key error collection: a.b index: by ssn dup key: { ssn: 1 }";
        let error = error_essence(11000, text);
        assert_eq!(error.get_str("index").unwrap(), "by ssn");
        assert_ne!(bytes(&error), bytes(&error_essence(11000, "")));
        assert_ne!(bytes(&error_essence(2, "")), bytes(&error_essence(28, "")));
    }
}
