//! How much of what is stored is sealed, and under which key versions; and how far jobs are.
//!
//! Looked at in MongoDB itself, only while somebody looks at the page, and never at more than a
//! sample: `fieldseal status` is what counts everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use mongodb::Client;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use super::status::milliseconds;
use crate::keyring::KeyId;
use crate::migrate::census::{Census, FieldCensus};
use crate::migrate::database::{DatabaseError, Listed, Standing, Uri, sealed_namespaces};
use crate::migrate::scan::{Extent, estimate, scan, sealed_names};
use crate::migrate::{Underway, underway};
use crate::policy::Policy;
use crate::proxy::PolicyCell;

/// How many documents of each collection are looked at.
const SAMPLE: u32 = 200;

/// How many collections are looked at; patterns may match any number.
const MOST_COLLECTIONS: usize = 50;

/// How often the sample is taken anew, at most.
const CENSUS_PERIOD: Duration = Duration::from_secs(30);

/// How often it is asked how far jobs are.
const JOBS_PERIOD: Duration = Duration::from_secs(4);

/// How long either may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// For how long after the page was asked for it counts as looked at.
const ATTENTION: u64 = 60;

/// What is looked at, and what was seen last.
pub(super) struct Coverage {
    uri: Uri,
    policy: PolicyCell,
    began: Instant,
    /// When somebody asked last, in seconds since the beginning; 0: nobody did.
    asked: AtomicU64,
    fields: ArcSwap<Looked<Field>>,
    jobs: ArcSwap<Looked<Job>>,
}

/// What was seen when.
struct Looked<T> {
    at: Option<SystemTime>,
    /// Why nothing new was seen since.
    fault: Option<String>,
    seen: Vec<T>,
}

impl<T> Default for Looked<T> {
    fn default() -> Self {
        Self {
            at: None,
            fault: None,
            seen: Vec::new(),
        }
    }
}

struct Field {
    namespace: String,
    path: String,
    /// About how many documents the collection has, and how many of them were looked at.
    documents: u64,
    sampled: u64,
    plain: u64,
    /// Damaged, or sealed for another field.
    unreadable: u64,
    versions: Vec<Version>,
}

struct Version {
    key: String,
    number: u32,
    state: &'static str,
    values: u64,
}

struct Job {
    underway: Underway,
    /// About how many documents there are in its collection.
    documents: u64,
}

impl Coverage {
    pub(super) fn new(uri: Uri, policy: PolicyCell) -> Self {
        Self {
            uri,
            policy,
            began: Instant::now(),
            asked: AtomicU64::new(0),
            fields: ArcSwap::default(),
            jobs: ArcSwap::default(),
        }
    }

    /// Looks while somebody wants to know; does not end. The addresses of the proxy itself are
    /// refused: what is stored is seen without it only.
    pub(super) async fn watch(self: Arc<Self>, proxies: Vec<String>) {
        let mut ticks = interval(Duration::from_secs(1));
        let mut client = None;
        let (mut census_due, mut jobs_due) = (Instant::now(), Instant::now());
        loop {
            ticks.tick().await;
            if !self.is_wanted() {
                continue;
            }
            if census_due <= Instant::now() {
                let looked = in_time(async {
                    let client = self.connected(&mut client, &proxies).await?;
                    self.census(client).await
                });
                note(&self.fields, looked.await);
                census_due = Instant::now() + CENSUS_PERIOD;
            }
            // Without a connection the census tries again.
            if let Some(client) = client.as_ref()
                && jobs_due <= Instant::now()
            {
                note(&self.jobs, in_time(jobs(client, &self.policy)).await);
                jobs_due = Instant::now() + JOBS_PERIOD;
            }
        }
    }

    fn is_wanted(&self) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        asked > 0 && self.began.elapsed().as_secs().saturating_sub(asked) < ATTENTION
    }

    async fn connected<'c>(
        &self,
        client: &'c mut Option<Client>,
        proxies: &[String],
    ) -> Result<&'c Client, DatabaseError> {
        Ok(match client {
            Some(client) => client,
            None => client.insert(self.uri.connect(proxies).await?),
        })
    }

    async fn census(&self, client: &Client) -> Result<Vec<Field>, DatabaseError> {
        // The schema and keyring in force, with counts of its own; gone when this is done.
        let policy = self.policy.load().apart();
        let Ok(policy) = policy else {
            return Ok(Vec::new());
        };
        let mut fields = Vec::new();
        let listed = sealed_namespaces(client, &policy, &[]).await?;
        for listed in listed.iter().take(MOST_COLLECTIONS) {
            let namespace = &listed.namespace;
            let rule = policy.schema().rule(namespace);
            let (Some(rule), Some(collection)) = (rule, policy.collection(namespace)) else {
                continue;
            };
            let mut census = Census::new(rule, collection);
            let documents = match is_counted(listed) {
                true => {
                    let names = sealed_names(rule);
                    let extent = Extent::Sample(SAMPLE);
                    scan(client, listed, extent, names, |document| {
                        census.document(&policy, document)
                    })
                    .await?;
                    estimate(client, listed, Extent::All).await
                }
                false => 0,
            };
            let sampled = census.documents;
            let seen = census.fields.iter();
            fields.extend(seen.map(|field| Field {
                namespace: namespace.clone(),
                documents,
                sampled,
                ..Field::of(field, &policy)
            }));
        }
        Ok(fields)
    }

    /// What was seen, for the page; notes that somebody looks at it.
    pub(super) fn describe(&self) -> Value {
        // From 1 on, so that 0 is never.
        let now = self.began.elapsed().as_secs().max(1);
        self.asked.store(now, Ordering::Relaxed);
        let (fields, jobs) = (self.fields.load(), self.jobs.load());
        json!({
            "source": "database",
            "at": fields.at.map(milliseconds),
            "fault": fields.fault,
            "sample": SAMPLE,
            "fields": fields.seen.iter().map(Field::describe).collect::<Vec<_>>(),
            "jobs_fault": jobs.fault,
            "jobs": jobs.seen.iter().map(Job::describe).collect::<Vec<_>>(),
        })
    }
}

/// Views show what lies elsewhere, and the fields of a time series lie in its buckets.
fn is_counted(listed: &Listed) -> bool {
    matches!(listed.standing, Standing::Collection | Standing::Capped)
}

async fn jobs(client: &Client, policy: &PolicyCell) -> Result<Vec<Job>, DatabaseError> {
    let mut jobs = Vec::new();
    for underway in underway(client).await? {
        let listed = Listed {
            namespace: underway.namespace.clone(),
            standing: Standing::Collection,
            options: bson::Document::new(),
        };
        let documents = estimate(client, &listed, Extent::All).await;
        let policy = policy.load();
        let version = |id| {
            let (key, number, _) = policy.version_of(KeyId(id))?;
            Some(format!("{key} v{number}"))
        };
        let job = named(&underway.job, version);
        jobs.push(Job {
            underway: Underway { job, ..underway },
            documents,
        });
    }
    Ok(jobs)
}

/// The name of a job, with those of the key versions that it tells by their numbers.
fn named(job: &str, version: impl Fn(u32) -> Option<String>) -> String {
    let Some((what, ids)) = job.rsplit_once(" under ") else {
        return job.to_owned();
    };
    let versions = ids.split(',').map(|id| {
        let known = id.parse().ok().and_then(&version);
        known.unwrap_or_else(|| format!("id {id}"))
    });
    let versions = versions.collect::<Vec<_>>().join(", ");
    format!("{what} under {versions}")
}

/// What `looked` comes to, or why it does not, on one line.
async fn in_time<T>(looked: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, String> {
    let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    match timeout(PATIENCE, looked).await {
        Ok(done) => done.map_err(|error| one_line(error.to_string())),
        Err(_) => Err(format!("MongoDB took more than {} s", PATIENCE.as_secs())),
    }
}

/// What was seen before stays if nothing is seen now.
fn note<T>(place: &ArcSwap<Looked<T>>, looked: Result<Vec<T>, String>) {
    let before = place.load_full();
    match looked {
        Ok(seen) => place.store(Arc::new(Looked {
            at: Some(SystemTime::now()),
            fault: None,
            seen,
        })),
        Err(fault) if before.fault.as_ref() == Some(&fault) => {}
        Err(fault) => {
            tracing::info!(%fault, "admin.database cannot be looked at");
            // Old figures under a new fault would be taken for the present.
            place.store(Arc::new(Looked {
                at: before.at,
                fault: Some(fault),
                seen: Vec::new(),
            }));
        }
    }
}

impl Field {
    fn of(census: &FieldCensus, policy: &Policy) -> Self {
        let versions = census.sealed.iter().map(|(id, values)| {
            let known = policy.version_of(*id);
            let missing = || (format!("id {}", id.0), 0, "missing");
            let known = known.map(|(key, number, state)| (key.to_owned(), number, state.word()));
            let (key, number, state) = known.unwrap_or_else(missing);
            Version {
                key,
                number,
                state,
                values: *values,
            }
        });
        let mut versions: Vec<Version> = versions.collect();
        // Ids are random.
        versions.sort_by(|one, other| (&one.key, one.number).cmp(&(&other.key, other.number)));
        Self {
            namespace: String::new(),
            path: census.field.path.clone(),
            documents: 0,
            sampled: 0,
            plain: census.plain,
            unreadable: census.damaged + census.foreign.values().sum::<u64>(),
            versions,
        }
    }

    fn describe(&self) -> Value {
        let versions = self.versions.iter().map(|version| {
            json!({
                "key": version.key,
                "version": version.number,
                "state": version.state,
                "values": version.values,
            })
        });
        json!({
            "namespace": self.namespace,
            "path": self.path,
            "documents": self.documents,
            "sampled": self.sampled,
            "plain": self.plain,
            "unreadable": self.unreadable,
            "versions": versions.collect::<Vec<_>>(),
        })
    }
}

impl Job {
    fn describe(&self) -> Value {
        json!({
            "job": self.underway.job,
            "namespace": self.underway.namespace,
            "pass": self.underway.pass,
            "looked_at": self.underway.documents,
            "documents": self.documents,
            "changed": self.underway.changed,
            "left": self.underway.left,
            "updated": self.underway.updated.map(milliseconds),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_not_shown_as_the_present_once_mongodb_is_gone() {
        let place = ArcSwap::from_pointee(Looked::default());
        note(&place, Ok(vec![1, 2]));
        let at = place.load().at;
        assert!(at.is_some() && place.load().seen.len() == 2);
        note(&place, Err("gone".to_owned()));
        let looked = place.load();
        assert_eq!((looked.at, looked.seen.len()), (at, 0));
        assert_eq!(looked.fault.as_deref(), Some("gone"));
    }

    #[test]
    fn a_job_tells_key_versions_by_their_names() {
        let version = |id| (id == 7).then(|| "default v2".to_owned());
        let names = |job| named(job, version);
        let job = "rotate shop.customers ssn under 7,8";
        let told = "rotate shop.customers ssn under default v2, id 8";
        assert_eq!(names(job), told);
        let other = "reindex: fill shop.orders all fields epochs e2";
        assert_eq!(names(other), other);
    }

    #[test]
    fn mongodb_is_asked_only_while_somebody_looks() {
        let policy = Arc::new(ArcSwap::from_pointee(crate::policy::fixture::policy()));
        let uri = Uri::new("mongodb://127.0.0.1:1/", "admin.database");
        let coverage = Coverage::new(uri, policy);
        assert!(!coverage.is_wanted());
        coverage.describe();
        assert!(coverage.is_wanted());
    }
}
