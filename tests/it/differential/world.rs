//! One world: a fresh collection on both sides, with or without indexes, and
//! random commands on it.

use std::collections::BTreeMap;
use std::fmt;

use mongodb::bson::{Bson, Document, doc};

use super::commands::{self, Operation};
use super::dice::Dice;
use super::pair::{Answer, Side, bytes, compare, impossible, ordered_fields, refused, same_state};
use super::stored;

/// Insertions that a world begins with.
const FIRST: usize = 6;

/// A group of a group of strings is a failure within MongoDB 6.0.5 itself.
const BROKEN: i32 = 4_946_301;

/// What became of the commands of a family.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    answered: usize,
    failed: usize,
    refused: usize,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.refused += other.refused;
    }

    pub(super) fn answered(&mut self) {
        self.answered += 1;
    }

    pub(super) fn failed(&mut self) {
        self.failed += 1;
    }

    pub(super) fn refused(&mut self) {
        self.refused += 1;
    }

    pub(super) fn all(self) -> usize {
        self.answered + self.failed + self.refused
    }

    pub(super) fn accepted_percent(self) -> usize {
        (self.answered + self.failed) * 100 / self.all().max(1)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} answered, {} failed on both sides, {} refused ({} % accepted)",
            self.answered,
            self.failed,
            self.refused,
            self.accepted_percent()
        )
    }
}

/// A collection on both sides, and what was found there.
pub(super) struct World {
    collection: String,
    sealed: Side,
    plain: Side,
    stored: Side,
    counts: BTreeMap<&'static str, Counts>,
    differences: Vec<String>,
}

impl World {
    pub(super) fn new(collection: String, sealed: Side, plain: Side, stored: Side) -> Self {
        Self {
            collection,
            sealed,
            plain,
            stored,
            counts: BTreeMap::new(),
            differences: Vec::new(),
        }
    }

    pub(super) fn ended(self) -> (BTreeMap<&'static str, Counts>, Vec<String>) {
        (self.counts, self.differences)
    }

    /// Plays `commands` commands, from an empty collection, or up to the first
    /// after which the two states differ.
    pub(super) async fn play(&mut self, seed: u64, commands: usize) {
        let mut dice = Dice::new(seed);
        let drop = doc! { "drop": &self.collection };
        self.sealed.run(&drop).await;
        self.plain.run(&drop).await;
        let indexed = self.make_indexes(&mut dice).await;
        let mut before = Vec::new();
        for number in 0..commands {
            let operation = if number < FIRST {
                commands::insert(&mut dice, &self.collection)
            } else {
                commands::operation(&mut dice, &self.collection, indexed)
            };
            let Some(difference) = self.step(&operation).await else {
                if operation.writes {
                    before = self.plain_documents().await;
                }
                continue;
            };
            self.differences.push(format!(
                "FIELDSEAL_SEED={seed} command {number}{}: {:?}\n{}\n  before: {}",
                if indexed { " (indexed)" } else { "" },
                operation.command,
                difference.text,
                before
                    .iter()
                    .map(|document| format!("\n    {document:?}"))
                    .collect::<String>()
            ));
            if difference.of_state {
                return;
            }
            before = self.plain_documents().await;
        }
    }

    /// Indexes, in some worlds; returns whether there are any.
    async fn make_indexes(&mut self, dice: &mut Dice) -> bool {
        let indexes = match dice.below(8) {
            0 => vec![doc! { "key": { "ssn": 1 }, "name": "by ssn", "unique": true }],
            1 => vec![
                doc! { "key": { "payment.card": 1, "name": 1 }, "name": "by_card", "unique": true },
            ],
            2 => vec![
                doc! { "key": { "tags": 1 }, "name": "tags_1" },
                doc! { "key": { "age": 1, "n": -1 }, "name": "age_1_n_-1" },
            ],
            3 => {
                vec![
                    doc! { "key": { "ssn": 1 }, "name": "ssn_1", "unique": true, "partialFilterExpression": { "ssn": { "$exists": true } } },
                ]
            }
            4 => vec![
                doc! { "key": { "name": 1, "age": 1 }, "name": "name_age", "unique": true, "partialFilterExpression": { "n": { "$gt": 1 } } },
            ],
            _ => return false,
        };
        let create = doc! { "createIndexes": &self.collection, "indexes": indexes };
        self.sealed.must(create.clone()).await;
        self.plain.must(create).await;
        let list = doc! { "listIndexes": &self.collection };
        let (sealed, plain) = (
            self.sealed.must(list.clone()).await,
            self.plain.must(list).await,
        );
        if bytes(&sealed) != bytes(&plain) {
            self.differences
                .push(format!("indexes: {sealed:?}\n  plain: {plain:?}"));
        }
        true
    }

    /// Runs a command that must be accepted and be answered alike; an error says what is not.
    pub(super) async fn accept(&mut self, operation: &Operation) -> Result<(), String> {
        let refused = |world: &Self| {
            world
                .counts
                .values()
                .map(|count| count.refused)
                .sum::<usize>()
        };
        let before = refused(self);
        if let Some(difference) = self.step(operation).await {
            return Err(difference.text);
        }
        if refused(self) > before {
            return Err(format!(
                "  refused: {:?}",
                self.sealed.run(&operation.command).await
            ));
        }
        Ok(())
    }

    /// Empties the collection, and gives it these documents on both sides.
    pub(super) async fn fill(&mut self, documents: &[Document]) {
        let drop = doc! { "drop": &self.collection };
        let insert = doc! { "insert": &self.collection, "documents": documents };
        for side in [&mut self.sealed, &mut self.plain] {
            side.run(&drop).await;
            side.must(insert.clone()).await;
        }
    }

    async fn step(&mut self, operation: &Operation) -> Option<Difference> {
        let sealed = self.sealed.run(&operation.command).await;
        let count = self.counts.entry(operation.family).or_default();
        match sealed {
            // The answer could not be opened, which is nobody's legal refusal.
            Answer::Refused { code: 96, message } => return Some(Difference::of_state(message)),
            Answer::Refused { message, .. } => {
                if std::env::var_os("FIELDSEAL_DIFFERENTIAL_REFUSED").is_some() {
                    eprintln!(
                        "refused: {}: {message}: {:?}",
                        operation.family, operation.command
                    );
                }
                count.refused += 1;
                return None;
            }
            Answer::Failed(_) => count.failed += 1,
            Answer::Reply(ref reply) if refused(reply).is_empty() => count.answered += 1,
            Answer::Reply(_) => count.refused += 1,
        }
        let command = match &sealed {
            // The others of the batch are done on both sides.
            Answer::Reply(reply) => impossible(&operation.command, &refused(reply)),
            _ => operation.command.clone(),
        };
        let plain = self.plain.run(&command).await;
        if let Answer::Failed(error) = &plain
            && error.get_i32("code").is_ok_and(|code| code == BROKEN)
        {
            return None;
        }
        let answers = compare(operation, &sealed, &plain);
        let state = if operation.writes {
            self.states(operation.loose).await.err()
        } else {
            None
        };
        match (answers, state) {
            (None, None) => None,
            (Some(text), None) => Some(Difference {
                text,
                of_state: false,
            }),
            (answers, Some(state)) => Some(Difference::of_state(
                answers.unwrap_or_default() + "\n" + &state,
            )),
        }
    }

    async fn plain_documents(&mut self) -> Vec<Document> {
        let all = self.plain.documents(&self.collection, doc! {}).await;
        all.expect("MongoDB answers")
    }

    /// Compares all documents, and looks at what MongoDB stores; an error is a difference.
    async fn states(&mut self, loose: bool) -> Result<(), String> {
        self.generated(loose).await?;
        let mut sealed = self.sealed.documents(&self.collection, doc! {}).await?;
        let plain = self.plain_documents().await;
        if loose && sealed.len() == plain.len() {
            for (sealed, plain) in sealed.iter_mut().zip(&plain) {
                self.straighten(sealed, plain).await;
            }
        }
        same_state(&sealed, &plain)?;
        let stored = self.stored.documents(&self.collection, doc! {}).await?;
        stored.iter().try_for_each(stored::holds_no_plaintext)
    }

    /// Stores a document anew that has the fields of the other side in another order.
    async fn straighten(&mut self, sealed: &mut Document, plain: &Document) {
        if bytes(sealed) == bytes(plain)
            || bytes(&ordered_fields(sealed)) != bytes(&ordered_fields(plain))
        {
            return;
        }
        let id = plain.get("_id").cloned().unwrap_or(Bson::Null);
        let update =
            doc! { "update": &self.collection, "updates": [{ "q": { "_id": id }, "u": plain }] };
        self.sealed.must(update).await;
        *sealed = plain.clone();
    }

    /// Compares the documents whose `_id` MongoDB made, and deletes them.
    async fn generated(&mut self, loose: bool) -> Result<(), String> {
        let filter = doc! { "_id": { "$type": "objectId" } };
        let mut sides = Vec::new();
        for side in [&mut self.sealed, &mut self.plain] {
            let mut documents = side.documents(&self.collection, filter.clone()).await?;
            if loose {
                documents = documents.iter().map(ordered_fields).collect();
            }
            documents.sort_by_cached_key(bytes);
            sides.push(documents);
        }
        if !sides[0].is_empty() {
            let delete =
                doc! { "delete": &self.collection, "deletes": [{ "q": filter, "limit": 0 }] };
            self.sealed.must(delete.clone()).await;
            self.plain.must(delete).await;
        }
        same_state(&sides[0], &sides[1])
    }
}

/// Something that is not the same on both sides.
struct Difference {
    text: String,
    /// The states differ, so that every further answer may.
    of_state: bool,
}

impl Difference {
    fn of_state(text: String) -> Self {
        Self {
            text,
            of_state: true,
        }
    }
}
