//! Before anything is measured: each setting stores what it says it does, and gives back
//! what was written.

use bson::{Bson, Document, doc};

use super::documents::{is_sealed, values_at};
use super::fault::BenchError;
use super::rounds::find;
use super::stage::Stage;
use super::subject::Subject;
use crate::schema::FieldRule;

/// Stores the documents that are read through each setting, makes the index for the query by
/// equality, and checks what comes back and what is stored.
pub async fn fill(stage: &mut Stage, subject: &Subject, batch: usize) -> Result<(), BenchError> {
    let documents = subject.stored(batch);
    stage.clear().await?;
    for number in 0..stage.players.len() {
        let database = stage.database.clone();
        let Some(player) = stage.players.get_mut(number) else {
            continue;
        };
        let read = player.read.clone();
        for part in documents.chunks(batch.max(1)) {
            let insert = doc! {"insert": &read, "documents": part, "$db": &database};
            player.ask(&insert).await?;
        }
        let asked = subject.asked.as_ref().filter(|_| player.plan.equality);
        if let Some(asked) = asked {
            let index = doc! {"key": {&asked.path: 1}, "name": "asked"};
            let make = doc! {"createIndexes": &read, "indexes": [index], "$db": &database};
            player.ask(&make).await?;
            for value in asked.values.iter().take(1) {
                let one = find(&read, &database, doc! {&asked.path: value}, 1);
                let found = first(&player.ask(&one).await?);
                let holds = |found: &Document| documents.iter().any(|other| same(found, other));
                check(
                    player.name(),
                    found.is_some_and(|found| holds(&found)),
                    NOT_FOUND,
                )?;
            }
        }
        // The last document may have been the first of a later batch.
        for written in documents.iter().take(1).chain(documents.last()) {
            let one = find(&read, &database, doc! {"_id": written.get("_id")}, 1);
            let read = first(&player.ask(&one).await?);
            let returned = read.is_some_and(|read| same(&read, written));
            check(player.name(), returned, OTHER)?;
        }
        check_stored(stage, number, &documents).await?;
    }
    Ok(())
}

const OTHER: &str = "a document that is read is another than was written";
const NOT_FOUND: &str = "a query by equality does not find what was written";
const PLAIN: &str = "a value that has to be sealed is stored in plain";
const CHANGED: &str =
    "a document is stored in another form than was written, though nothing is sealed";

fn check(setting: &str, holds: bool, what: &'static str) -> Result<(), BenchError> {
    match holds {
        true => Ok(()),
        false => Err(BenchError::Wrong {
            setting: setting.to_owned(),
            what,
        }),
    }
}

/// Looks past the proxy.
async fn check_stored(
    stage: &mut Stage,
    number: usize,
    documents: &[Document],
) -> Result<(), BenchError> {
    let Some(player) = stage.players.get(number) else {
        return Ok(());
    };
    let (name, read) = (player.name().to_owned(), player.read.clone());
    let sealed = player.plan.sealed.clone();
    let database = stage.database.clone();
    for written in documents.iter().take(1).chain(documents.last()) {
        let one = find(&read, &database, doc! {"_id": written.get("_id")}, 1);
        let stored = first(&stage.ask_mongodb(&one).await?).unwrap_or_default();
        if sealed.is_empty() {
            check(&name, same(&stored, written), CHANGED)?;
        }
        for field in &sealed {
            check(&name, is_stored_sealed(field, written, &stored), PLAIN)?;
        }
    }
    Ok(())
}

/// Whether each value that was written to the field is sealed where it is stored.
fn is_stored_sealed(field: &FieldRule, written: &Document, stored: &Document) -> bool {
    let (before, after) = (
        values_at(written, &field.path),
        values_at(stored, &field.path),
    );
    before.len() == after.len()
        && (before.iter().zip(&after)).all(|((_, before), (_, after))| sealed_as(before, after))
}

fn sealed_as(before: &Bson, after: &Bson) -> bool {
    match (before, after) {
        // No values.
        (Bson::Null | Bson::Undefined, _) => true,
        (Bson::Array(before), Bson::Array(after)) => {
            before.len() == after.len()
                && before
                    .iter()
                    .zip(after)
                    .all(|(before, after)| sealed_as(before, after))
        }
        // With a token beside it.
        (_, Bson::Document(after)) => after.get("c").is_some_and(is_sealed),
        (_, after) => is_sealed(after),
    }
}

/// The first document of an answer.
fn first(answer: &Document) -> Option<Document> {
    let cursor = answer.get_document("cursor").ok()?;
    cursor
        .get_array("firstBatch")
        .ok()?
        .first()?
        .as_document()
        .cloned()
}

/// Byte by byte, so that a NaN is what it was too.
fn same(one: &Document, other: &Document) -> bool {
    match (bson::serialize_to_vec(one), bson::serialize_to_vec(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bson::Binary;
    use bson::spec::BinarySubtype;

    use super::*;
    use crate::seal::{MAGIC, SUBTYPE};

    #[test]
    fn one_plain_value_among_sealed_ones_is_seen() {
        let sealed = Bson::Binary(Binary {
            subtype: BinarySubtype::from(SUBTYPE),
            bytes: [&MAGIC[..], &[7; 60]].concat(),
        });
        let list = |values: [&Bson; 2]| Bson::Array(values.into_iter().cloned().collect());
        let (one, with_token) = (Bson::from(1), Bson::Document(doc! {"c": &sealed, "e1": 1}));
        assert!(sealed_as(&one, &sealed) && sealed_as(&one, &with_token));
        assert!(sealed_as(
            &list([&one, &one]),
            &list([&sealed, &with_token])
        ));
        assert!(sealed_as(&list([&one, &one]), &sealed));
        assert!(sealed_as(
            &list([&one, &Bson::Null]),
            &list([&sealed, &Bson::Null])
        ));
        assert!(!sealed_as(&one, &one));
        assert!(!sealed_as(&list([&one, &one]), &list([&sealed, &one])));
        assert!(!sealed_as(&one, &Bson::Document(doc! {"c": 1})));
    }
}
