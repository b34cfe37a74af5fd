//! How far a job has come, kept in MongoDB, so that it goes on after it was stopped.

use std::time::SystemTime;

use bson::{Bson, Document, doc};
use mongodb::options::WriteConcern;
use mongodb::{Client, Collection};

use super::database::{DatabaseError, driver, told};
use super::job::Job;
use super::tally::Tally;
use super::trouble::{Patience, Trouble};

/// The database of the jobs' own records.
pub const DATABASE: &str = "fieldseal";
/// Their collection.
pub const COLLECTION: &str = "migrations";

/// The record of one job on one collection.
pub(super) struct Checkpoint {
    records: Collection<Document>,
    id: String,
    /// Why nothing can be kept, once that is known.
    failed: Option<String>,
}

/// How far a job has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reached {
    /// The pass, counted from 1.
    pub(super) pass: u32,
    /// The last `_id` that is done in it.
    pub(super) after: Option<Bson>,
    /// What the pass has counted.
    pub(super) tally: Tally,
    /// Documents that were changed in all passes.
    pub(super) changed: u64,
}

/// How far a job has come that is under way, or was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underway {
    /// What it is: `rotate shop.customers ssn under 3735928559`, with the ids of key versions.
    pub job: String,
    /// The collection.
    pub namespace: String,
    /// The pass, counted from 1.
    pub pass: u64,
    /// Documents that this pass has looked at.
    pub documents: u64,
    /// Documents that were changed in all passes.
    pub changed: u64,
    /// Values and documents that this pass has left as they are.
    pub left: u64,
    /// When this was noted.
    pub updated: Option<SystemTime>,
}

/// The jobs that are under way or were stopped, at most 100.
pub async fn underway(client: &Client) -> Result<Vec<Underway>, DatabaseError> {
    let what = || format!("read {DATABASE}.{COLLECTION}");
    let records = client.database(DATABASE).collection::<Document>(COLLECTION);
    // Where a job has come to is an `_id` of a document, which may be a name or a number of someone.
    let mut cursor = records
        .find(doc! {})
        .projection(doc! { "after": 0, "tally.duplicates": 0, "indexes": 0, "sessions": 0 })
        .limit(100)
        .await
        .map_err(driver(what()))?;
    let mut jobs = Vec::new();
    while cursor.advance().await.map_err(driver(what()))? {
        let record = cursor.deserialize_current().map_err(driver(what()))?;
        jobs.extend(Underway::read(&record));
    }
    Ok(jobs)
}

impl Underway {
    fn read(record: &Document) -> Option<Self> {
        let job = record.get_str("_id").ok()?;
        // The name of the work has a space where it has a colon.
        let mut words = job.split(' ').filter(|word| !word.ends_with(':'));
        let namespace = words.nth(1)?.to_owned();
        let number = |key| record.get_i64(key).unwrap_or_default();
        let tally = record.get_document("tally").map(Tally::from_document);
        let tally = tally.unwrap_or_default();
        let updated = record.get_datetime("updated").ok();
        Some(Self {
            job: job.to_owned(),
            namespace,
            pass: u64::try_from(number("pass")).unwrap_or_default(),
            documents: tally.documents,
            changed: u64::try_from(number("changed")).unwrap_or_default(),
            left: tally.left(),
            updated: updated.map(|updated| updated.to_system_time()),
        })
    }
}

impl Checkpoint {
    /// The record of `job`, whose fields are sealed under the active `keys`.
    pub(super) fn new(client: &Client, job: &Job<'_>, keys: &str) -> Self {
        let mut fields: Vec<&str> = job.fields.iter().map(String::as_str).collect();
        fields.sort_unstable();
        let fields = if fields.is_empty() {
            "all fields".to_owned()
        } else {
            fields.join(",")
        };
        Self {
            records: client.database(DATABASE).collection(COLLECTION),
            id: format!(
                "{} {} {fields} {keys}",
                job.work.name(),
                job.collection.namespace
            ),
            failed: None,
        }
    }

    /// Where an earlier run came to.
    pub(super) async fn read(&self) -> Result<Option<Reached>, DatabaseError> {
        let record = self.record().await?;
        Ok(record
            .filter(|record| record.contains_key("pass"))
            .map(|record| {
                let number = |key| record.get_i64(key).unwrap_or_default();
                Reached {
                    pass: u32::try_from(number("pass")).unwrap_or(1),
                    after: record.get("after").cloned(),
                    tally: record
                        .get_document("tally")
                        .map(Tally::from_document)
                        .unwrap_or_default(),
                    changed: u64::try_from(number("changed")).unwrap_or_default(),
                }
            }))
    }

    /// Keeps how far it has come. A user who may not is told of it once, by [`Checkpoint::failed`].
    pub(super) async fn keep(&mut self, reached: &Reached) {
        if self.failed.is_some() {
            return;
        }
        let mut set = doc! {
            "pass": i64::from(reached.pass),
            "tally": reached.tally.to_document(),
            "changed": i64::try_from(reached.changed).unwrap_or(i64::MAX),
            "updated": bson::DateTime::now(),
        };
        let update = match &reached.after {
            Some(after) => {
                set.insert("after", after.clone());
                doc! { "$set": set }
            }
            None => doc! { "$set": set, "$unset": { "after": 1 } },
        };
        if let Err(error) = self.update(update).await {
            self.failed = Some(told(&error));
        }
    }

    /// Why nothing can be kept, if that is so.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Ends what is left of the transactions of runs that were killed, which would hold
    /// documents for a minute, and notes this run's session for the next.
    pub(super) async fn take_over(&self, session: &Document) -> Result<(), DatabaseError> {
        let record = self.record().await?.unwrap_or_default();
        if let Ok(sessions) = record.get_array("sessions") {
            let kill = doc! { "killSessions": sessions };
            let admin = self.records.client().database("admin");
            // Of a run that goes on elsewhere, one transaction is done again.
            let _ = admin.run_command(kill).await;
        }
        // Without a record there is nothing to go on from, and that is told later.
        let _ = self
            .update(doc! { "$addToSet": { "sessions": session } })
            .await;
        Ok(())
    }

    /// The indexes that the job is to make anew, as they were before.
    pub(super) async fn indexes(&self) -> Result<Vec<Document>, DatabaseError> {
        let record = self.record().await?.unwrap_or_default();
        let indexes = record.get_array("indexes").cloned().unwrap_or_default();
        Ok(indexes
            .into_iter()
            .filter_map(|index| match index {
                Bson::Document(index) => Some(index),
                _ => None,
            })
            .collect())
    }

    /// Keeps such an index before it is dropped.
    pub(super) async fn keep_index(&self, index: &Document) -> Result<(), DatabaseError> {
        self.update(doc! { "$addToSet": { "indexes": index } })
            .await
            .map_err(driver(format!(
                "keep a record in {DATABASE}.{COLLECTION}, which the making of indexes needs"
            )))
    }

    /// Forgets how far it has come, and keeps the indexes: the next run begins anew.
    pub(super) async fn forget_place(&self) -> Result<(), DatabaseError> {
        self.update(doc! { "$unset": { "pass": 1, "after": 1, "tally": 1, "changed": 1 } })
            .await
            .map_err(driver("keep the record of the job"))
    }

    /// Removes the record: the job is done.
    pub(super) async fn remove(&self) -> Result<(), DatabaseError> {
        if self.failed.is_some() {
            return Ok(());
        }
        self.records
            .delete_one(doc! { "_id": &self.id })
            .write_concern(WriteConcern::majority())
            .await
            .map_err(driver("remove the record of the job"))?;
        Ok(())
    }

    async fn record(&self) -> Result<Option<Document>, DatabaseError> {
        self.records
            .find_one(doc! { "_id": &self.id })
            .await
            .map_err(driver(format!("read {DATABASE}.{COLLECTION}")))
    }

    async fn update(&self, update: Document) -> Result<(), mongodb::error::Error> {
        let mut patience = Patience::new();
        loop {
            let written = self
                .records
                .update_one(doc! { "_id": &self.id }, update.clone())
                .upsert(true)
                .write_concern(WriteConcern::majority())
                .await;
            match written {
                Ok(_) => return Ok(()),
                Err(error) if Trouble::of(&error) == Trouble::Passing && patience.wait().await => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_record_says_which_collection_and_how_far() {
        let record = |id: &str| {
            doc! {
                "_id": id, "pass": 2_i64, "changed": 7_i64, "after": "a name",
                "tally": { "documents": 30_i64, "left": [{ "field": "x", "why": "w", "count": 3_i64 }] },
            }
        };
        let read = Underway::read(&record("rotate shop.customers ssn under 3735928559")).unwrap();
        assert_eq!(read.namespace, "shop.customers");
        let counts = (read.pass, read.documents, read.changed, read.left);
        assert_eq!(counts, (2, 30, 7, 3));
        assert!(!format!("{read:?}").contains("a name"));
        let read = Underway::read(&record("reindex: fill shop.orders all fields e2")).unwrap();
        assert_eq!(read.namespace, "shop.orders");
        assert_eq!(Underway::read(&doc! { "_id": 7 }), None);
    }
}
