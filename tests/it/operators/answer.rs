//! One way to the data, what comes back by it, and whether two answers are the same.

use mongodb::bson::{Bson, Document, doc, serialize_to_vec};
use mongodb::error::ErrorKind;
use mongodb::{Client, ClientSession};

/// The `_id` of the document whose event ends a change stream.
pub(super) const LAST: i32 = 99;

/// How often a change stream is asked for more.
const POLLS: usize = 200;

/// Commands that take a write concern.
const WRITES: &[&str] = &[
    "insert",
    "update",
    "delete",
    "findAndModify",
    "create",
    "collMod",
    "createIndexes",
    "dropIndexes",
    "createUser",
    "createRole",
    "dropUser",
    "dropRole",
];

/// A database by one way to it.
pub(super) struct Side {
    client: Client,
    database: String,
    session: ClientSession,
}

/// What came back for a command.
#[derive(Debug)]
pub(super) enum Answer {
    /// Success, without what differs by nature.
    Reply(Document),
    /// The proxy does not pass it on, or not all of it.
    Refused { code: i32, message: String },
    /// MongoDB's error.
    Failed { code: i32, message: String },
}

impl Side {
    pub(super) async fn new(client: &Client, database: &str) -> Self {
        Self {
            client: client.clone(),
            database: database.to_owned(),
            session: client.start_session().await.unwrap(),
        }
    }

    /// Runs a command, on the database that its `$db` names if it has one.
    pub(super) async fn run(&mut self, command: &Document) -> Answer {
        match self.send(command).await {
            Ok(reply) => settled(reply),
            Err(answer) => answer,
        }
    }

    async fn send(&mut self, command: &Document) -> Result<Document, Answer> {
        let mut command = command.clone();
        let database = match command.remove("$db") {
            Some(Bson::String(database)) => database,
            _ => self.database.clone(),
        };
        // MongoDB's own default would wait for the journal, hundreds of times.
        if command.keys().any(|name| WRITES.contains(&name.as_str()))
            && !command.contains_key("writeConcern")
        {
            command.insert("writeConcern", doc! { "w": 1 });
        }
        // The driver gives killCursors no session.
        let kills = command.contains_key("killCursors");
        let database = self.client.database(&database);
        let run = database.run_command(command);
        let told = if kills {
            run.await
        } else {
            run.session(&mut self.session).await
        };
        told.map_err(|error| match error.kind.as_ref() {
            ErrorKind::Command(error) => failed(error.code, &error.message),
            // A few of MongoDB's errors have no code, which the driver does not take.
            ErrorKind::InvalidResponse { message, .. }
                if message.contains("missing field `code`") =>
            {
                failed(0, "an error without a code")
            }
            other => panic!("not an answer: {other:?}"),
        })
    }

    /// Runs a command that cannot fail.
    ///
    /// # Panics
    /// When it fails.
    pub(super) async fn must(&mut self, command: Document) {
        match self.run(&command).await {
            Answer::Reply(reply) if !reply.contains_key("writeErrors") => {}
            other => panic!("{command} failed: {other:?}"),
        }
    }

    /// Opens a change stream, runs `writes`, and gives the events of the collection `of`,
    /// up to that of [`LAST`].
    pub(super) async fn watch(&mut self, open: &Document, of: &str, writes: &[Document]) -> Answer {
        let opened = match self.send(open).await {
            Ok(opened) => opened,
            Err(answer) => return answer,
        };
        let id = opened
            .get_document("cursor")
            .unwrap()
            .get_i64("id")
            .unwrap();
        for write in writes {
            // What the stream looks up is what a majority has.
            let mut write = write.clone();
            write.insert("writeConcern", doc! { "w": "majority" });
            self.must(write).await;
        }
        let name = open.get_str("aggregate").unwrap_or("$cmd.aggregate");
        let mut events = Vec::new();
        let mut polls = 0;
        while !events.iter().any(is_last) {
            polls += 1;
            assert!(polls < POLLS, "the last event does not come: {open}");
            let mut more = doc! { "getMore": id, "collection": name, "maxTimeMS": 200 };
            more.extend(
                open.get("$db")
                    .map(|database| ("$db".to_owned(), database.clone())),
            );
            let reply = match self.send(&more).await {
                Ok(reply) => reply,
                Err(answer) => return answer,
            };
            let cursor = reply.get_document("cursor").unwrap();
            let batch = cursor.get_array("nextBatch").unwrap();
            events.extend(batch.iter().filter_map(|event| event_of(event, of)));
        }
        let kill = doc! { "killCursors": name, "cursors": [id] };
        self.run(&kill).await;
        Answer::Reply(doc! { "documents": events })
    }
}

fn is_last(event: &Bson) -> bool {
    let key = event
        .as_document()
        .and_then(|event| event.get_document("documentKey").ok());
    key.is_some_and(|key| key.get_i32("_id").ok() == Some(LAST))
}

/// An event of the collection, without times and identifiers.
fn event_of(event: &Bson, collection: &str) -> Option<Bson> {
    let mut event = event.as_document()?.clone();
    let namespace = event.get_document("ns").ok();
    if namespace.is_some_and(|namespace| namespace.get_str("coll").ok() != Some(collection)) {
        return None;
    }
    for name in ["_id", "clusterTime", "wallTime", "collectionUUID", "ns"] {
        event.remove(name);
    }
    Some(event.into())
}

fn failed(code: i32, message: &str) -> Answer {
    let message = message.to_owned();
    if message.contains("fieldseal: ") {
        Answer::Refused { code, message }
    } else {
        Answer::Failed { code, message }
    }
}

/// A reply without times, cursor ids, texts and generated identifiers. A statement
/// that the proxy refused makes the whole a refusal.
fn settled(mut reply: Document) -> Answer {
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
            if message.contains("fieldseal: ") {
                return failed(code, message);
            }
            *error = doc! { "code": code, "at": error.get_i32("index").unwrap() };
        }
    }
    if let Some(Bson::Document(mut cursor)) = reply.remove("cursor") {
        reply.insert(
            "documents",
            cursor.remove("firstBatch").unwrap_or(Bson::Null),
        );
    }
    Answer::Reply(reply)
}

/// Whether the proxy's answer is MongoDB's: with the same documents, types and order of fields.
pub(super) fn same(sealed: &Document, plain: &Document, order: Order) -> bool {
    bytes(&arranged(sealed, order)) == bytes(&arranged(plain, order))
}

/// Which order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// That of documents too.
    Documents,
    /// That within documents only.
    Fields,
    /// Not even that of arrays within documents.
    Nothing,
}

fn arranged(reply: &Document, order: Order) -> Document {
    let mut reply = reply.clone();
    for name in ["documents", "values", "results"] {
        let Ok(items) = reply.get_array_mut(name) else {
            continue;
        };
        if order == Order::Nothing {
            items.iter_mut().for_each(sort_arrays);
        }
        if order != Order::Documents {
            items.sort_by_cached_key(|item| bytes(&doc! { "": item }));
        }
    }
    reply
}

fn sort_arrays(value: &mut Bson) {
    match value {
        Bson::Document(document) => document
            .iter_mut()
            .for_each(|(_, value)| sort_arrays(value)),
        Bson::Array(items) => {
            items.iter_mut().for_each(sort_arrays);
            items.sort_by_cached_key(|item| bytes(&doc! { "": item }));
        }
        _ => {}
    }
}

fn bytes(document: &Document) -> Vec<u8> {
    serialize_to_vec(document).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_differ_by_type_by_order_of_fields_and_by_number_of_documents() {
        let one = doc! { "documents": [{ "_id": 1, "a": 1 }, { "_id": 2 }] };
        let turned = doc! { "documents": [{ "_id": 2 }, { "_id": 1, "a": 1 }] };
        assert!(same(&one, &turned, Order::Fields));
        assert!(!same(&one, &turned, Order::Documents));
        for other in [
            doc! { "documents": [{ "_id": 1, "a": 1.0 }, { "_id": 2 }] },
            doc! { "documents": [{ "a": 1, "_id": 1 }, { "_id": 2 }] },
            doc! { "documents": [{ "_id": 1, "a": 1 }] },
        ] {
            assert!(!same(&one, &other, Order::Nothing));
        }
    }

    #[test]
    fn a_refused_statement_is_a_refusal() {
        let error = doc! { "index": 0, "code": 115, "errmsg": "fieldseal: not so" };
        let reply = doc! { "n": 0, "writeErrors": [error], "ok": 1.0 };
        assert!(matches!(settled(reply), Answer::Refused { code: 115, .. }));
    }
}
