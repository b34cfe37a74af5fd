//! Tokens move to another index epoch: values get those of the staged one, indexes their
//! twins on it; once it is promoted the old indexes go, and the old tokens once they are
//! not written any more. Each run does what can be done in the state that the key file has.

mod twins;

use std::collections::HashMap;

use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::{Client, Database};

use super::database::{Listed, Standing, driver};
use super::indexes::Moves;
use super::job::Work;
use super::pass::Progress;
use super::run::{Options, Outcome, run};
use super::{EngineError, walk};
use crate::keyring::{NamedKey, State};
use crate::policy::{Collection, Policy};
use crate::raw::{Doc, Malformed};
use twins::{Known, Twins};

/// What comes next in the move of a key's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// No move is under way: a new epoch can be staged.
    Stage,
    /// All is filled: the staged epoch can be promoted.
    Promote(u32),
    /// Nothing uses the epoch any more: it can be disabled.
    Disable(u32),
    /// No token of it is left: the epoch can be destroyed.
    Destroy(u32),
}

impl Next {
    /// What comes next for a key, once what its state asks for is done.
    pub fn of(key: &NamedKey) -> Self {
        let first = |state| {
            let mut epochs = key.epochs.iter();
            epochs
                .find(|epoch| epoch.state == state)
                .map(|epoch| epoch.number)
        };
        let promote = first(State::Staged).map(Self::Promote);
        let disable = || first(State::Retired).map(Self::Disable);
        let destroy = || first(State::Disabled).map(Self::Destroy);
        promote
            .or_else(disable)
            .or_else(destroy)
            .unwrap_or(Self::Stage)
    }
}

/// The keys that the sealed fields of a collection have tokens under.
pub fn keys_of(collection: &Collection) -> Vec<String> {
    let fields = collection.fields().iter();
    let equalities = fields.filter_map(|field| field.equality.as_ref());
    let mut keys: Vec<String> = equalities
        .map(|equality| equality.key_name.to_string())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Does what the states of `keys` ask for, on one collection. Gives what each job did; none
/// if nothing there has tokens under them.
pub async fn reindex(
    client: &Client,
    policy: &Policy,
    listed: &Listed,
    keys: &[String],
    options: &Options,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<(Work, Outcome)>, EngineError> {
    let Some(collection) = policy.collection(&listed.namespace) else {
        return Ok(Vec::new());
    };
    let fields = collection.fields().iter().filter(|field| {
        let equality = field.equality.as_ref();
        equality.is_some_and(|equality| keys.iter().any(|key| **key == *equality.key_name))
    });
    let (mut paths, mut dropped) = (Vec::new(), false);
    for field in fields {
        paths.push(field.path.clone());
        let equality = field.equality.as_ref();
        dropped |= equality.is_some_and(|equality| !equality.dropped().is_empty());
    }
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let options = Options {
        fields: paths,
        ..options.clone()
    };
    let mut done = run(client, policy, Work::Fill, listed, &options, watch).await?;
    if listed.standing != Standing::Collection || !done.is_done() {
        return Ok(vec![(Work::Fill, done)]);
    }
    let database = client.database(listed.database());
    let indexes = Indexes {
        collection: &collection,
        keys,
        moves: Moves::none(database.clone(), listed.collection()),
        database,
    };
    let twins = match indexes.find().await {
        // A token in a filter is found in documents that have it in both epochs.
        Err(EngineError::Twin { name, .. }) if options.dry_run && done.changed > 0 => {
            done.notes.push(format!(
                "whether the index {name:?} can move is known once the tokens are there"
            ));
            return Ok(vec![(Work::Fill, done)]);
        }
        found => found?,
    };
    done.notes.extend(twins.told());
    if !options.dry_run {
        if indexes.make(&twins).await? {
            // A proxy that does not write the tokens yet would have been seen since.
            let again = run(client, policy, Work::Fill, listed, &options, watch).await?;
            follow(&mut done, again);
        }
        if done.is_done() {
            indexes.drop(&twins).await?;
        }
    }
    let mut all = vec![(Work::Fill, done)];
    if dropped && all.iter().all(|(_, outcome)| outcome.is_done()) {
        indexes.check_views().await?;
        let cleared = run(client, policy, Work::Clear, listed, &options, watch).await?;
        all.push((Work::Clear, cleared));
    }
    Ok(all)
}

/// Adds what a second run of a job did.
fn follow(done: &mut Outcome, again: Outcome) {
    if again.changed > 0 {
        done.notes.push(format!(
            "{} documents were written without the tokens meanwhile: see that every proxy has taken up the key file",
            again.changed
        ));
    }
    done.changed += again.changed;
    done.passes += again.passes;
    done.seconds += again.seconds;
    done.verified = again.verified;
    done.last = again.last;
}

/// The indexes of one collection.
struct Indexes<'i> {
    collection: &'i Collection,
    keys: &'i [String],
    database: Database,
    moves: Moves,
}

impl Indexes<'_> {
    /// What is to be done.
    async fn find(&self) -> Result<Twins, EngineError> {
        let existing = self.moves.existing().await?;
        let mut known = Known::new();
        for (path, token) in twins::compared(self.collection, &existing) {
            if let Some(others) = self.others(&path, &token).await? {
                known.insert((path, token), others);
            }
        }
        twins::plan(self.collection, self.keys, &existing, &known)
    }

    /// The tokens that stand beside one, in any document that has it.
    async fn others(
        &self,
        path: &str,
        token: &[u8],
    ) -> Result<Option<HashMap<String, Vec<u8>>>, EngineError> {
        let (_, name) = path.rsplit_once('.').unwrap_or_default();
        let value = Bson::Binary(bson::Binary {
            subtype: bson::spec::BinarySubtype::Generic,
            bytes: token.to_vec(),
        });
        let (_, collection) = self.namespace();
        let found = self
            .database
            .collection::<RawDocumentBuf>(collection)
            .find_one(doc! { path: value })
            .await
            .map_err(driver(format!("read {}", self.collection.namespace)))?;
        let Some(found) = found else {
            return Ok(None);
        };
        let mut others = None;
        walk::sites::<Malformed>(self.collection, Doc::whole(found.as_bytes())?, |site| {
            site.values::<Malformed>(|value| {
                let walk::Stored::Sealed(sealed) = value.stored else {
                    return Ok(());
                };
                let Some(document) = sealed.document else {
                    return Ok(());
                };
                let at = document.find(name)?.and_then(|at| at.binary());
                if at.is_none_or(|(_, bytes)| bytes != token) {
                    return Ok(());
                }
                let mut all = HashMap::new();
                for element in document.elements() {
                    let element = element?;
                    if let Some((0, bytes)) = element.binary() {
                        all.insert(element.key.to_owned(), bytes.to_vec());
                    }
                }
                others = Some(all);
                Ok(())
            })
        })?;
        Ok(others)
    }

    /// Makes the twins that are not there; whether there were any.
    async fn make(&self, twins: &Twins) -> Result<bool, EngineError> {
        for (index, instead) in &twins.make {
            if let Some(other) = instead {
                self.moves.drop(Bson::String(other.clone())).await?;
            }
            self.moves.create(index.clone()).await?;
        }
        Ok(!twins.make.is_empty())
    }

    /// Drops what has a twin on the active epoch.
    async fn drop(&self, twins: &Twins) -> Result<(), EngineError> {
        for name in &twins.drop {
            self.moves.drop(Bson::String(name.clone())).await?;
        }
        Ok(())
    }

    fn namespace(&self) -> (&str, &str) {
        let namespace = self.collection.namespace.split_once('.');
        namespace.unwrap_or((&self.collection.namespace, ""))
    }

    /// No view may look at tokens that are about to go.
    async fn check_views(&self) -> Result<(), EngineError> {
        let what = || driver(format!("list the views of {}", self.database.name()));
        let views = doc! { "listCollections": 1, "filter": { "type": "view" } };
        let found = self.database.run_cursor_command(views).await;
        let mut found = found.map_err(what())?;
        while found.advance().await.map_err(what())? {
            let view: Document = found.deserialize_current().map_err(what())?;
            if self.looks_at_old(&view) {
                return Err(EngineError::View {
                    namespace: self.collection.namespace.clone(),
                    view: view.get_str("name").unwrap_or_default().to_owned(),
                });
            }
        }
        Ok(())
    }

    fn looks_at_old(&self, view: &Document) -> bool {
        let mut strings = Vec::new();
        strings_in(&Bson::Document(view.clone()), &mut strings);
        let mut paths = strings.iter().map(|text| text.trim_start_matches('$'));
        paths.any(|path| {
            let at = self.collection.tokens_at(path);
            at.is_some_and(|(field, _, epoch)| {
                let equality = field.equality.as_ref();
                equality.is_some_and(|equality| equality.dropped().contains(&epoch))
            })
        })
    }
}

/// All names and strings in a value.
fn strings_in(value: &Bson, strings: &mut Vec<String>) {
    match value {
        Bson::String(text) => strings.push(text.clone()),
        Bson::Document(inner) => {
            for (name, value) in inner {
                strings.push(name.clone());
                strings_in(value, strings);
            }
        }
        Bson::Array(items) => items.iter().for_each(|item| strings_in(item, strings)),
        _ => {}
    }
}

impl Twins {
    /// What is going to be done, one line for each index.
    fn told(&self) -> Vec<String> {
        let made = self.make.iter().map(|(index, _)| {
            let name = index.get_str("name").unwrap_or_default();
            format!("the index {name:?} is made")
        });
        let dropped = self.drop.iter();
        let dropped = dropped.map(|name| {
            format!("the index {name:?}, which has a twin on the active index epoch, is dropped")
        });
        made.chain(dropped)
            .chain(self.notes.iter().cloned())
            .collect()
    }
}
