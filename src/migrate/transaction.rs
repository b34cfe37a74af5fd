//! Documents are changed in transactions: what is written is made of what stands there at
//! that moment, whatever other writers do.

use std::time::{Duration, Instant};

use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::{Error, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::options::{ReadConcern, SelectionCriteria, TransactionOptions, WriteConcern};
use mongodb::{ClientSession, Collection};
use rand::RngExt;

use super::EngineError;
use super::database::driver;
use super::job::Job;
use super::plan::Plan;
use super::tally::Tally;
use super::trouble::{DUPLICATE, Patience, Trouble, VALIDATOR, is_of_document};
use crate::raw::{Doc, Malformed, Writer};

/// How many bytes one transaction reads or writes, unless it is about one document.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// How long one document is tried that others write all the time: longer than MongoDB keeps
/// a transaction whose client is gone.
const LONGEST_TRY: Duration = Duration::from_secs(90);
/// The longest pause between two tries.
const LONGEST_PAUSE: u64 = 300;
/// So many documents may be refused by a validator before any was taken.
const MOST_REFUSED: u64 = 100;

/// What is waited for after a write.
///
/// Waiting for a majority each time would take most of the time. What a failover undoes, a
/// later pass finds: passes read what a majority has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durable {
    /// The primary has it.
    Primary,
    /// A majority has it, and all that was written before.
    Majority,
}

/// Writes the documents of one collection.
pub(super) struct Transactions<'j> {
    job: &'j Job<'j>,
    collection: Collection<RawDocumentBuf>,
    session: ClientSession,
    durable: Durable,
    /// Documents that were changed so far, by any batch.
    changed: u64,
    refused: u64,
}

/// How one attempt ended, if not with an error.
enum Attempt {
    /// Written, or found with nothing to do.
    Done(Tally),
    /// Too much for one transaction.
    TooMuch,
    /// A document is not taken; MongoDB's code.
    Refused(i32),
}

/// Why an attempt failed.
enum Failed {
    Driver(Error),
    Engine(EngineError),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<Malformed> for Failed {
    fn from(malformed: Malformed) -> Self {
        Self::Engine(malformed.into())
    }
}

impl<'j> Transactions<'j> {
    /// Writes to `collection` in a session of its own.
    pub(super) async fn new(
        job: &'j Job<'j>,
        collection: &Collection<RawDocumentBuf>,
    ) -> Result<Self, EngineError> {
        let session = collection
            .client()
            .start_session()
            .await
            .map_err(driver("start a session"))?;
        Ok(Self {
            job,
            collection: collection.clone(),
            session,
            durable: Durable::Majority,
            changed: 0,
            refused: 0,
        })
    }

    /// The session, as MongoDB knows it.
    pub(super) fn session(&self) -> &Document {
        self.session.id()
    }

    /// Changes the documents of these `_id`s that still need it. What could not be done is
    /// in the tally; its other counts are of what was written.
    pub(super) async fn write(
        &mut self,
        ids: Vec<Bson>,
        durable: Durable,
    ) -> Result<Tally, EngineError> {
        self.durable = durable;
        let mut done = Tally::default();
        let mut groups = vec![ids];
        while let Some(group) = groups.pop() {
            if let Some(smaller) = self.group(&group, &mut done).await? {
                groups.extend(smaller);
            }
        }
        self.changed += done.changed;
        Ok(done)
    }

    /// Writes one group, or halves it.
    async fn group(
        &mut self,
        group: &[Bson],
        done: &mut Tally,
    ) -> Result<Option<[Vec<Bson>; 2]>, EngineError> {
        let mut patience = Patience::new();
        let began = Instant::now();
        let mut pause = 10;
        loop {
            let trouble = match self.attempt(group).await {
                Ok(Attempt::Done(tally)) => {
                    done.add(tally);
                    return Ok(None);
                }
                Ok(Attempt::TooMuch) => Trouble::Conflict,
                Ok(Attempt::Refused(code)) => Trouble::Refused(code),
                // One document must not keep the others from being done.
                Err(Failed::Engine(EngineError::Malformed(_))) if group.len() > 1 => {
                    Trouble::Conflict
                }
                Err(Failed::Engine(EngineError::Malformed(malformed))) => {
                    done.leave(None, format!("is {malformed}: mend it, or remove it"));
                    return Ok(None);
                }
                Err(Failed::Engine(error)) => return Err(error),
                Err(Failed::Driver(error)) => match Trouble::of(&error) {
                    Trouble::Passing if patience.wait().await => continue,
                    Trouble::Passing | Trouble::Lasting => {
                        let what = format!("write to {}", self.job.collection.namespace);
                        return Err(driver(what)(error).into());
                    }
                    trouble => trouble,
                },
            };
            if group.len() > 1 {
                let (one, other) = group.split_at(group.len() / 2);
                return Ok(Some([one.to_vec(), other.to_vec()]));
            }
            if let Trouble::Refused(code) = trouble {
                self.refuse(code, group, done)?;
                return Ok(None);
            }
            if began.elapsed() > LONGEST_TRY {
                done.leave(None, "was written by others all the time");
                return Ok(None);
            }
            let millis = rand::rng().random_range(1..pause);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Notes a document that MongoDB does not take.
    fn refuse(&mut self, code: i32, group: &[Bson], done: &mut Tally) -> Result<(), EngineError> {
        self.refused += 1;
        if code == VALIDATOR && self.changed + done.changed == 0 && self.refused >= MOST_REFUSED {
            return Err(EngineError::Validator(
                self.job.collection.namespace.clone(),
            ));
        }
        if DUPLICATE.contains(&code) {
            let id = group.first().map(ToString::to_string);
            done.duplicate(id.unwrap_or_default());
        } else if code == VALIDATOR {
            done.leave(
                None,
                "is refused by the collection's validator (code 121): change it with collMod, to take sealed fields or to let them be",
            );
        } else {
            done.leave(None, format!("is refused by MongoDB (code {code})"));
        }
        Ok(())
    }

    async fn attempt(&mut self, ids: &[Bson]) -> Result<Attempt, Failed> {
        let options = TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(match self.durable {
                Durable::Primary => WriteConcern::nodes(1),
                Durable::Majority => WriteConcern::majority(),
            })
            .selection_criteria(SelectionCriteria::ReadPreference(
                mongodb::options::ReadPreference::Primary,
            ))
            .build();
        self.session
            .start_transaction()
            .with_options(options)
            .await?;
        let outcome = self.within(ids).await;
        if matches!(&outcome, Ok(Attempt::Done(tally)) if tally.changed > 0) {
            self.commit().await?;
        } else {
            // Whether or not MongoDB hears of it, nothing of it stays.
            let _ = self.session.abort_transaction().await;
        }
        outcome
    }

    async fn within(&mut self, ids: &[Bson]) -> Result<Attempt, Failed> {
        let mut tally = Tally::default();
        let mut updates = Vec::new();
        let mut statements = 0_u64;
        let mut read = 0;
        let mut cursor = self
            .collection
            .find(doc! { "_id": { "$in": ids } })
            .session(&mut self.session)
            .await?;
        while cursor.advance(&mut self.session).await? {
            let bytes = cursor.current().as_bytes();
            let doc = Doc::whole(bytes)?;
            read += bytes.len();
            let plan = Plan::of(self.job, doc, &mut tally)?;
            if let (false, Some(id)) = (plan.is_empty(), doc.find("_id")?) {
                plan.write(doc, &id, &statements.to_string(), &mut updates)?;
                statements += 1;
            }
            if ids.len() > 1 && read.max(updates.len()) > MOST_BYTES {
                return Ok(Attempt::TooMuch);
            }
        }
        drop(cursor);
        // What was left was counted when the documents were looked at.
        tally.left.clear();
        if statements == 0 {
            return Ok(Attempt::Done(tally));
        }
        Ok(match self.update(&updates, statements).await? {
            None => Attempt::Done(tally),
            Some(code) => Attempt::Refused(code),
        })
    }

    /// Sends the statements. The code of the first that MongoDB refuses, if it does.
    async fn update(&mut self, updates: &[u8], statements: u64) -> Result<Option<i32>, Failed> {
        let mut command = Vec::with_capacity(updates.len() + 128);
        let mut writer = Writer::new(&mut command);
        let body = writer.begin();
        writer.string("update", self.collection.name());
        let array = writer.begin_array("updates");
        writer.buffer().extend_from_slice(updates);
        writer.end(array);
        writer.end(body);
        let command = RawDocumentBuf::from_bytes(command).map_err(|_| EngineError::Command)?;
        let database = self.collection.namespace().db;
        let answer: Document = self
            .collection
            .client()
            .database(&database)
            .run_raw_command(command)
            .session(&mut self.session)
            .await?;
        if let Some(error) = answer
            .get_array("writeErrors")
            .ok()
            .and_then(|errors| errors.first()?.as_document())
        {
            let code = error.get_i32("code").unwrap_or_default();
            return match is_of_document(code) {
                true => Ok(Some(code)),
                false => Err(EngineError::Write(code).into()),
            };
        }
        let matched = answer.get_i32("n").unwrap_or_default();
        if u64::try_from(matched).ok() != Some(statements) {
            return Err(EngineError::Matched.into());
        }
        Ok(None)
    }

    async fn commit(&mut self) -> Result<(), Error> {
        let mut patience = Patience::new();
        loop {
            let Err(error) = self.session.commit_transaction().await else {
                return Ok(());
            };
            let unknown = error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT);
            if !unknown || !patience.wait().await {
                return Err(error);
            }
        }
    }
}
