//! A database by one way to it.

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};

/// What came back for a command, without what differs by nature.
#[derive(Debug)]
pub(super) enum Answer {
    Reply(Document),
    /// The command's error, or the first of its write errors.
    Error(i32, String),
}

impl Answer {
    /// Whether it is the proxy's refusal with these words.
    pub(super) fn says(self, words: &[&str]) -> Result<(), Self> {
        match &self {
            Self::Error(_, text)
                if text.starts_with("fieldseal: ")
                    && words.iter().all(|word| text.contains(word)) =>
            {
                Ok(())
            }
            _ => Err(self),
        }
    }
}

pub(super) struct Side(Database);

impl Side {
    pub(super) fn new(database: &Database) -> Self {
        Self(database.clone())
    }

    /// An empty collection with these documents.
    pub(super) async fn begin(&self, given: &[Document]) -> Result<(), String> {
        for command in [doc! {"drop": "default"}, doc! {"drop": "other"}] {
            // There may be none.
            let _ = self.0.run_command(command).await;
        }
        if given.is_empty() {
            return Ok(());
        }
        match self
            .run(&doc! {"insert": "default", "documents": given})
            .await
        {
            Answer::Reply(_) => Ok(()),
            error => Err(format!("the given documents cannot be inserted: {error:?}")),
        }
    }

    /// Runs a command and reads its cursor to the end.
    pub(super) async fn run(&self, command: &Document) -> Answer {
        match self.whole_reply(command).await {
            Ok(reply) => essence(reply),
            Err(error) => match *error.kind {
                ErrorKind::Command(error) => Answer::Error(error.code, error.message),
                other => panic!("not an answer: {other:?}"),
            },
        }
    }

    async fn whole_reply(&self, command: &Document) -> Result<Document, Error> {
        let mut reply = self.0.run_command(command.clone()).await?;
        let Some(Bson::Document(mut cursor)) = reply.remove("cursor") else {
            return Ok(reply);
        };
        let mut documents = batch(&mut cursor, "firstBatch");
        let collection = command.values().next().cloned().unwrap();
        let mut id = cursor.get_i64("id").unwrap();
        while id != 0 {
            let more = doc! {"getMore": id, "collection": &collection, "batchSize": 2};
            let mut more = self.0.run_command(more).await?;
            let cursor = more.get_document_mut("cursor").unwrap();
            id = cursor.get_i64("id").unwrap();
            documents.extend(batch(cursor, "nextBatch"));
        }
        reply.insert("documents", documents);
        Ok(reply)
    }

    /// All documents of the collection.
    pub(super) async fn documents(&self) -> Result<Document, String> {
        match self
            .run(&doc! {"find": "default", "sort": {"_id": 1}})
            .await
        {
            Answer::Reply(reply) => Ok(reply),
            error => Err(format!("the documents cannot be read: {error:?}")),
        }
    }

    /// No field whose name begins so holds anything but what is sealed, or null.
    pub(super) async fn nothing_in_plain(&self, prefix: &str) -> Result<(), String> {
        let documents = self.documents().await?;
        for document in documents.get_array("documents").unwrap() {
            for (name, value) in document.as_document().unwrap() {
                if name.starts_with(prefix) && !is_sealed(value) {
                    return Err(format!("stored in plain: {name}: {value}"));
                }
            }
        }
        Ok(())
    }
}

fn is_sealed(value: &Bson) -> bool {
    match value {
        // These hold no value, and stay as they are.
        Bson::Null | Bson::Undefined => true,
        Bson::Binary(binary) => u8::from(binary.subtype) == 0x8F,
        Bson::Document(document) => document.get("c").is_some_and(is_sealed),
        Bson::Array(items) => items.iter().all(is_sealed),
        _ => false,
    }
}

fn batch(cursor: &mut Document, name: &str) -> Vec<Bson> {
    match cursor.remove(name) {
        Some(Bson::Array(documents)) => documents,
        other => panic!("{name} is {other:?}"),
    }
}

/// A reply without times and identifiers; its first write error, if there is one.
fn essence(mut reply: Document) -> Answer {
    if let Ok(errors) = reply.get_array("writeErrors") {
        let error = errors[0].as_document().unwrap();
        let text = error.get_str("errmsg").unwrap_or_default();
        return Answer::Error(error.get_i32("code").unwrap(), text.to_owned());
    }
    // The database's name is another, and cannot be the same.
    for name in [
        "$clusterTime",
        "operationTime",
        "electionId",
        "opTime",
        "ns",
    ] {
        reply.remove(name);
    }
    Answer::Reply(reply)
}
