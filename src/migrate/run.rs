//! A job on one collection, from its checks to its last pass.

use std::time::Instant;

use bson::{Document, RawDocumentBuf, doc};
use mongodb::Client;
use mongodb::options::{
    CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};

use super::EngineError;
use super::checkpoint::{Checkpoint, Reached};
use super::database::{DatabaseError, Listed, Standing, driver};
use super::indexes::Moves;
use super::job::{Job, Work};
use super::pace::Pace;
use super::pass::{Passes, Progress};
use super::tally::Tally;
use super::transaction::Transactions;
use crate::policy::{Collection, Policy};
use crate::schema::OnPlaintext;

/// After so many passes that each found something to do, others must be undoing it.
const MOST_PASSES: u32 = 8;

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The fields, as the schema names them; none means all.
    pub fields: Vec<String>,
    /// Whether to count only.
    pub dry_run: bool,
    /// Documents a second, at most.
    pub rate: Option<u32>,
}

/// How a job on one collection ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The collection.
    pub namespace: String,
    /// What the last pass counted: nothing to change, if all is done; but by field, what all
    /// passes changed. With `dry_run`, what would be changed.
    pub last: Tally,
    /// Documents that were changed.
    pub changed: u64,
    /// Passes over the collection; the last one changed nothing, if all is done.
    pub passes: u32,
    /// Whether a last pass found nothing more to do.
    pub verified: bool,
    /// Whether it went on from where an earlier run was stopped.
    pub resumed: bool,
    /// Seconds that it took.
    pub seconds: f64,
    /// What the user should know beside.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.verified && self.last.left() == 0
    }
}

/// Does `work` on one collection. Whoever `watch`es is told of every batch.
pub async fn run(
    client: &Client,
    policy: &Policy,
    work: Work,
    listed: &Listed,
    options: &Options,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Outcome, EngineError> {
    let began = Instant::now();
    let mut outcome = Outcome {
        namespace: listed.namespace.clone(),
        ..Outcome::default()
    };
    let Some(collection) = policy.collection(&listed.namespace) else {
        return Ok(outcome);
    };
    check_standing(listed)?;
    let job = Job {
        work,
        policy,
        fields: fields(&collection, &options.fields)?,
        collection,
    };
    if listed.standing == Standing::Missing {
        outcome.verified = true;
        outcome
            .notes
            .push("there is no such collection yet".to_owned());
        return Ok(outcome);
    }
    check_schema(&job)?;
    check_server(client).await?;
    let run = Run {
        client,
        job: &job,
        listed,
        rate: options.rate,
    };
    if options.dry_run {
        run.look(&mut outcome, watch).await?;
        outcome.verified = true;
    } else {
        run.work(&mut outcome, watch).await?;
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    Ok(outcome)
}

/// The fields that are asked for, each of which the collection must have.
fn fields(collection: &Collection, asked: &[String]) -> Result<Vec<String>, EngineError> {
    let names: Vec<&str> = collection
        .fields()
        .iter()
        .map(|field| field.path.as_str())
        .collect();
    match asked.iter().find(|field| !names.contains(&field.as_str())) {
        Some(unknown) => Err(EngineError::Field {
            namespace: collection.namespace.clone(),
            field: unknown.clone(),
            fields: names.join(", "),
        }),
        None => Ok(asked.to_vec()),
    }
}

fn check_standing(listed: &Listed) -> Result<(), EngineError> {
    let advice = match listed.standing {
        Standing::Collection | Standing::Missing => return Ok(()),
        Standing::View => "migrate the collection under it",
        Standing::Capped => {
            "its documents cannot be changed in transactions: copy it, through the proxy, into a collection that is not capped"
        }
        Standing::TimeSeries => {
            "its measurements cannot be changed: copy it, through the proxy, into another one"
        }
    };
    Err(EngineError::Standing {
        namespace: listed.namespace.clone(),
        what: listed.standing.word(),
        advice,
    })
}

/// Nothing is sealed where proxies go on to store plaintext.
fn check_schema(job: &Job<'_>) -> Result<(), EngineError> {
    let stores = job.collection.on_plaintext == OnPlaintext::Store;
    if job.work != Work::Encrypt || !stores {
        return Ok(());
    }
    Err(EngineError::OnPlaintext {
        namespace: job.collection.namespace.clone(),
        reason: "proxies store plaintext there, as on_plaintext = \"store\" says; set it to \"allow\", wait until every proxy has taken it up, and run this again".to_owned(),
    })
}

/// Jobs need transactions, and a primary.
async fn check_server(client: &Client) -> Result<(), EngineError> {
    let hello: Document = client
        .database("admin")
        .run_command(doc! { "hello": 1 })
        .await
        .map_err(driver("ask MongoDB what it is"))?;
    let sharded = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
    if !sharded && !hello.contains_key("setName") {
        return Err(EngineError::Standalone);
    }
    if !hello.get_bool("isWritablePrimary").unwrap_or_default() {
        return Err(EngineError::NotPrimary);
    }
    Ok(())
}

/// A job that has passed its checks.
struct Run<'j> {
    client: &'j Client,
    job: &'j Job<'j>,
    listed: &'j Listed,
    rate: Option<u32>,
}

impl<'j> Run<'j> {
    /// Counts what is to be done.
    async fn look(
        &self,
        outcome: &mut Outcome,
        watch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), EngineError> {
        if self.job.work == Work::Encrypt {
            outcome.notes = self.moves(&self.checkpoint()).await?.notes();
        }
        let mut reached = Reached {
            pass: 1,
            ..Reached::default()
        };
        self.passes(None, watch).await?.pass(&mut reached).await?;
        outcome.passes = 1;
        outcome.changed = reached.changed;
        outcome.last = reached.tally;
        Ok(())
    }

    async fn work(
        &self,
        outcome: &mut Outcome,
        watch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), EngineError> {
        if !self.plaintext_is_expected() {
            return self.verify_only(outcome, watch).await;
        }
        if self.job.work == Work::Decrypt {
            self.check_token_indexes().await?;
        }
        let checkpoint = self.checkpoint();
        let mut reached = checkpoint.read().await?.unwrap_or_default();
        outcome.resumed = reached.pass > 0;
        reached.pass = reached.pass.max(1);
        let collection = self.collection();
        let transactions = Transactions::new(self.job, &collection).await?;
        checkpoint.take_over(transactions.session()).await?;
        let moves = match self.job.work {
            Work::Encrypt => Some(self.moves(&checkpoint).await?),
            Work::Rotate | Work::Decrypt | Work::Fill | Work::Clear => None,
        };
        if let Some(moves) = &moves {
            outcome.notes = moves.notes();
            moves.before(&checkpoint).await?;
        }
        let mut passes = self.passes(Some(transactions), watch).await?;
        outcome.verified = repeat(&mut passes, &mut reached).await?;
        if self.job.work == Work::Decrypt {
            self.note_token_indexes(outcome).await?;
        }
        outcome.passes = reached.pass;
        outcome.changed = reached.changed;
        outcome.last = reached.tally;
        if let Some(reason) = passes.checkpoint.failed() {
            outcome.notes.push(format!(
                "how far it came could not be kept in fieldseal.migrations ({reason}): had it been stopped, it would have begun anew"
            ));
        }
        self.end(outcome, moves.as_ref(), &passes.checkpoint).await
    }

    /// What is to be done when the passes are over.
    async fn end(
        &self,
        outcome: &mut Outcome,
        moves: Option<&Moves>,
        checkpoint: &Checkpoint,
    ) -> Result<(), EngineError> {
        if let Some(moves) = moves.filter(|moves| !moves.is_empty()) {
            if !outcome.is_done() {
                // The record of the indexes stays for the next run.
                return Ok(checkpoint.forget_place().await?);
            }
            moves.after().await?;
        }
        Ok(checkpoint.remove().await?)
    }

    /// A unique index takes several documents without a token for equal.
    async fn check_token_indexes(&self) -> Result<(), EngineError> {
        let database = self.client.database(self.listed.database());
        let mut on_tokens = Moves::on_tokens(self.job, database, self.listed)
            .await?
            .into_iter();
        match on_tokens.find(|(_, unique)| *unique) {
            None => Ok(()),
            Some((name, _)) => Err(EngineError::Index {
                namespace: self.listed.namespace.clone(),
                name,
                reason: "it is unique and on tokens, of which no document will have any; drop it, run this again, and create it on the field itself when all is in plain".to_owned(),
            }),
        }
    }

    /// What is opened has no tokens any more: the user makes the indexes that are wanted.
    async fn note_token_indexes(&self, outcome: &mut Outcome) -> Result<(), DatabaseError> {
        let database = self.client.database(self.listed.database());
        for (name, _) in Moves::on_tokens(self.job, database, self.listed).await? {
            outcome.notes.push(format!(
                "the index {name:?} is on tokens, which are gone: drop it, and create it on the field itself"
            ));
        }
        Ok(())
    }

    /// Whether proxies pass what the job leaves half done.
    fn plaintext_is_expected(&self) -> bool {
        let on_plaintext = self.job.collection.on_plaintext;
        match self.job.work {
            Work::Encrypt => on_plaintext == OnPlaintext::Allow,
            Work::Decrypt => on_plaintext == OnPlaintext::Store,
            Work::Rotate | Work::Fill | Work::Clear => true,
        }
    }

    /// Without the right `on_plaintext`, the collection must have nothing left to do.
    async fn verify_only(
        &self,
        outcome: &mut Outcome,
        watch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), EngineError> {
        self.look(outcome, watch).await?;
        if outcome.changed == 0 {
            outcome.verified = true;
            return Ok(());
        }
        let (what, needed) = match self.job.work {
            Work::Encrypt => ("hold plaintext", "allow"),
            _ => ("hold sealed values", "store"),
        };
        Err(EngineError::OnPlaintext {
            namespace: self.listed.namespace.clone(),
            reason: format!(
                "{} documents {what}; set on_plaintext = \"{needed}\" for the collection in the schema, wait until every proxy has taken it up, and run this again",
                outcome.changed
            ),
        })
    }

    fn checkpoint(&self) -> Checkpoint {
        let ids: std::collections::BTreeSet<String> = self
            .job
            .collection
            .fields()
            .iter()
            .map(|field| field.active_id().0.to_string())
            .collect();
        let keys = ids.into_iter().collect::<Vec<_>>().join(",");
        let keys = match self.job.work {
            Work::Fill | Work::Clear => format!("epochs {}", self.epochs()),
            _ => format!("under {keys}"),
        };
        Checkpoint::new(self.client, self.job, &keys)
    }

    /// The index epochs that the job is about, with their states.
    fn epochs(&self) -> String {
        let fields = self.job.collection.fields().iter();
        let equalities = fields
            .filter(|field| self.job.concerns(field))
            .filter_map(|field| field.equality.as_ref());
        let epochs: std::collections::BTreeSet<String> = equalities
            .flat_map(|equality| {
                let written = equality.written().iter();
                let written = written.map(|tokens| (tokens.epoch, tokens.state.word()));
                let dropped = equality.dropped().iter();
                let all = written.chain(dropped.map(|epoch| (*epoch, "dropped")));
                all.map(|(epoch, state)| format!("{} {epoch} {state}", equality.key_name))
            })
            .collect();
        epochs.into_iter().collect::<Vec<_>>().join(", ")
    }

    async fn moves(&self, checkpoint: &Checkpoint) -> Result<Moves, EngineError> {
        let database = self.client.database(self.listed.database());
        Moves::find(self.job, database, self.listed, checkpoint).await
    }

    fn collection(&self) -> mongodb::Collection<RawDocumentBuf> {
        let options = CollectionOptions::builder()
            .read_concern(ReadConcern::majority())
            .write_concern(WriteConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        self.client
            .database(self.listed.database())
            .collection_with_options(self.listed.collection(), options)
    }

    async fn passes<'w>(
        &self,
        transactions: Option<Transactions<'j>>,
        watch: &'w mut dyn FnMut(Progress<'_>),
    ) -> Result<Passes<'j, 'w>, DatabaseError> {
        let collection = self.collection();
        let what = format!("count the documents of {}", self.listed.namespace);
        let total = collection
            .estimated_document_count()
            .await
            .map_err(driver(what))?;
        Ok(Passes {
            job: self.job,
            collection,
            transactions,
            checkpoint: self.checkpoint(),
            pace: Pace::new(self.rate),
            total,
            watch,
        })
    }
}

/// Passes until one changes nothing. False if none does.
async fn repeat(passes: &mut Passes<'_, '_>, reached: &mut Reached) -> Result<bool, EngineError> {
    // A pass that an earlier run began has not seen what that one did before.
    let mut whole = reached.after.is_none();
    loop {
        passes.pass(reached).await?;
        if whole && reached.tally.changed == 0 {
            return Ok(true);
        }
        if reached.pass >= MOST_PASSES {
            return Ok(false);
        }
        *reached = Reached {
            pass: reached.pass + 1,
            changed: reached.changed,
            after: None,
            tally: reached.tally.next(),
        };
        whole = true;
        passes.checkpoint.keep(reached).await;
    }
}
