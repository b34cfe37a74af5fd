//! One pass over a collection, in the order of `_id`.

use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::Collection;
use mongodb::error::Error;

use super::EngineError;
use super::checkpoint::{Checkpoint, Reached};
use super::database::driver;
use super::job::Job;
use super::pace::Pace;
use super::plan::Plan;
use super::tally::Tally;
use super::transaction::{Durable, Transactions};
use super::trouble::{Patience, Trouble};
use crate::raw::Doc;
use crate::schema::Tree;

/// How many documents are asked for at once.
const BATCH: usize = 1000;
/// How many are changed in one transaction: enough to be quick, few enough that a service
/// that writes to one of them does not wait long.
const GROUP: usize = 64;
/// How many bytes of documents are changed in one transaction, unless it is one document.
const GROUP_BYTES: usize = 1024 * 1024;

/// How far a job has come, to be shown.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'p> {
    /// The collection.
    pub namespace: &'p str,
    /// Which pass this is, from 1 on.
    pub pass: u32,
    /// Documents seen in this pass.
    pub seen: u64,
    /// About how many there are.
    pub total: u64,
    /// Documents changed, or to be changed, in all passes.
    pub changed: u64,
}

/// What passes over one collection share.
pub(super) struct Passes<'j, 'w> {
    pub(super) job: &'j Job<'j>,
    pub(super) collection: Collection<RawDocumentBuf>,
    /// None if nothing is to be changed.
    pub(super) transactions: Option<Transactions<'j>>,
    pub(super) checkpoint: Checkpoint,
    pub(super) pace: Pace,
    pub(super) total: u64,
    pub(super) watch: &'w mut dyn FnMut(Progress<'_>),
}

/// Documents that were read at once.
#[derive(Default)]
struct Batch {
    /// What was found in them.
    tally: Tally,
    last: Option<Bson>,
}

impl Passes<'_, '_> {
    /// Goes on from `reached` to the end of the pass.
    pub(super) async fn pass(&mut self, reached: &mut Reached) -> Result<(), EngineError> {
        let mut patience = Patience::new();
        loop {
            let batch = match self.batch(reached.after.as_ref()).await {
                Ok(batch) => batch,
                Err(EngineError::Database(error)) if error.passes() && patience.wait().await => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            patience = Patience::new();
            let Some(last) = batch.last else {
                return Ok(());
            };
            reached.after = Some(last);
            reached.changed += batch.tally.changed;
            let seen = batch.tally.documents;
            reached.tally.add(batch.tally);
            if self.transactions.is_some() {
                self.checkpoint.keep(reached).await;
            }
            (self.watch)(Progress {
                namespace: &self.job.collection.namespace,
                pass: reached.pass,
                seen: reached.tally.documents,
                total: self.total,
                changed: reached.changed,
            });
            tokio::time::sleep(self.pace.rest_after(seen)).await;
        }
    }

    /// Reads the documents that follow, and changes those that need it.
    async fn batch(&mut self, after: Option<&Bson>) -> Result<Batch, EngineError> {
        let mut batch = Batch::default();
        if after == Some(&Bson::MaxKey) {
            return Ok(batch);
        }
        self.read(Range::after(after), &mut batch).await?;
        if batch.last.is_none() && after.is_some() {
            // A lower bound leaves the greatest value of all out.
            self.read(Range::Greatest, &mut batch).await?;
        }
        Ok(batch)
    }

    async fn read(&mut self, range: Range<'_>, batch: &mut Batch) -> Result<(), EngineError> {
        let (filter, least) = range.bounds();
        let what = || driver(format!("read {}", self.job.collection.namespace));
        let mut find = self
            .collection
            .find(filter)
            .hint(mongodb::options::Hint::Keys(doc! { "_id": 1 }))
            // The index gives that order on one server; a router merges by it what shards send.
            .sort(doc! { "_id": 1 })
            .projection(projection(self.job))
            .limit(i64::try_from(self.pace.step(BATCH)).unwrap_or(1));
        if let Some(least) = least {
            find = find.min(least);
        }
        let mut cursor = find.await.map_err(what())?;
        let mut looked = Tally::default();
        let mut group = Vec::new();
        let mut bytes = 0;
        while cursor.advance().await.map_err(what())? {
            let current = cursor.current();
            let doc = Doc::whole(current.as_bytes())?;
            let id = current
                .get("_id")
                .ok()
                .flatten()
                .and_then(|id| Bson::try_from(id).ok())
                .ok_or_else(|| EngineError::Id {
                    namespace: self.job.collection.namespace.clone(),
                    before: batch.last.as_ref().or(range.behind()).map_or_else(
                        || "that comes first".to_owned(),
                        |id| format!("that follows _id {id}"),
                    ),
                })?;
            let plan = Plan::of(self.job, doc, &mut looked)?;
            if !plan.is_empty() {
                group.push(id.clone());
                bytes += current.as_bytes().len();
            }
            batch.last = Some(id);
            if group.len() >= self.pace.step(GROUP) || bytes > GROUP_BYTES {
                write(&mut self.transactions, &mut group, Durable::Primary, batch).await?;
                bytes = 0;
            }
        }
        // So that the secondaries keep up.
        write(&mut self.transactions, &mut group, Durable::Majority, batch).await?;
        if self.transactions.is_some() {
            // What was written has been counted.
            looked.forget_changes();
        }
        batch.tally.add(looked);
        Ok(())
    }
}

/// Changes a group, and counts what was changed.
async fn write(
    transactions: &mut Option<Transactions<'_>>,
    group: &mut Vec<Bson>,
    durable: Durable,
    batch: &mut Batch,
) -> Result<(), EngineError> {
    let Some(transactions) = transactions else {
        group.clear();
        return Ok(());
    };
    if !group.is_empty() {
        let mut written = transactions.write(std::mem::take(group), durable).await?;
        // They were seen before.
        written.forget_sight();
        batch.tally.add(written);
    }
    Ok(())
}

/// Which documents are read.
enum Range<'i> {
    All,
    After(&'i Bson),
    Greatest,
}

impl<'i> Range<'i> {
    fn after(after: Option<&'i Bson>) -> Self {
        after.map_or(Self::All, Self::After)
    }

    /// The `_id` that it begins behind.
    fn behind(&self) -> Option<&Bson> {
        match self {
            Self::After(id) => Some(id),
            Self::All | Self::Greatest => None,
        }
    }

    /// A filter, and a lower bound of the index. Comparisons such as `$gt` keep to one type,
    /// a bound does not.
    fn bounds(&self) -> (Document, Option<Document>) {
        match self {
            Self::All => (doc! {}, None),
            Self::After(id) => (
                doc! { "_id": { "$ne": (*id).clone() } },
                Some(doc! { "_id": (*id).clone() }),
            ),
            Self::Greatest => (doc! { "_id": { "$eq": Bson::MaxKey } }, None),
        }
    }
}

/// The top-level fields that the job looks at; none, which means all, if they may have any name.
fn projection(job: &Job<'_>) -> Document {
    let mut projection = Document::new();
    for (name, _) in job.collection.tree.children(Tree::ROOT) {
        match name {
            Some(name) => projection.insert(name, 1),
            None => return Document::new(),
        };
    }
    projection.insert("_id", 1);
    projection
}

impl super::database::DatabaseError {
    /// Whether it may work in a moment.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Driver { error, .. } => {
                let error: &Error = error;
                matches!(Trouble::of(error), Trouble::Passing | Trouble::Conflict)
            }
            _ => false,
        }
    }
}
