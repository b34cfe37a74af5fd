//! Indexes on plaintext move to tokens while it is sealed.
//!
//! One that is not unique is of no use meanwhile, and is made anew at once. A unique one
//! stays until all is sealed, beside a partial one on the tokens that are there; both
//! stand in for it until the last one, on all tokens, is made under its name.

use bson::{Bson, Document, doc};
use mongodb::Database;
use mongodb::error::{Error, ErrorKind};

use super::EngineError;
use super::checkpoint::Checkpoint;
use super::database::{DatabaseError, Listed, driver};
use super::job::Job;
use super::trouble::{Patience, Trouble};
use crate::rewrite::at_rest::rewritten;
use crate::schema::{Step, Tree};

/// MongoDB's code for an index that is not there.
const NOT_FOUND: i32 = 27;
/// Its code for a key pattern that several indexes have.
const AMBIGUOUS: i32 = 181;

/// An index that moves.
#[derive(Debug, Clone, PartialEq)]
struct Move {
    /// As MongoDB lists it.
    plain: Document,
    /// As the proxy would make it.
    sealed: Document,
}

/// The indexes of a collection that move.
pub(super) struct Moves {
    database: Database,
    collection: String,
    moves: Vec<Move>,
}

impl Moves {
    /// The indexes of a collection, none of which moves.
    pub(super) fn none(database: Database, collection: &str) -> Self {
        Self {
            database,
            collection: collection.to_owned(),
            moves: Vec::new(),
        }
    }

    /// Finds the indexes on sealed paths. An index that cannot be one on tokens is an error.
    pub(super) async fn find(
        job: &Job<'_>,
        database: Database,
        listed: &Listed,
        checkpoint: &Checkpoint,
    ) -> Result<Self, EngineError> {
        let mut moves = Self {
            database,
            collection: listed.collection().to_owned(),
            moves: Vec::new(),
        };
        let collated = listed.options.contains_key("collation");
        let mut plain = moves.existing().await?;
        // One that was dropped by a run that ended before it made the new one.
        for kept in checkpoint.indexes().await? {
            if !plain.contains(&kept) {
                plain.push(kept);
            }
        }
        for index in plain {
            if let Some(sealed) = sealed(job, listed, &index, collated)? {
                moves.moves.push(Move {
                    plain: index,
                    sealed,
                });
            }
        }
        Ok(moves)
    }

    /// The names of the indexes on tokens, which serve nothing once all is in plain, and
    /// whether they are unique.
    pub(super) async fn on_tokens(
        job: &Job<'_>,
        database: Database,
        listed: &Listed,
    ) -> Result<Vec<(String, bool)>, DatabaseError> {
        let moves = Self {
            database,
            collection: listed.collection().to_owned(),
            moves: Vec::new(),
        };
        let mut names = Vec::new();
        for index in moves.existing().await? {
            let key = index.get_document("key").cloned().unwrap_or_default();
            let concerned = |path: &String| {
                let field = path.rsplit_once('.');
                let field = field.and_then(|(above, _)| field_at(job, above));
                is_token(job, path) && field.is_some_and(|field| job.concerns(&field))
            };
            if key.keys().any(concerned) {
                let name = index.get_str("name").unwrap_or_default().to_owned();
                names.push((name, index.get_bool("unique").unwrap_or_default()));
            }
        }
        Ok(names)
    }

    /// Whether no index moves.
    pub(super) fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// What is going to be done, one line for each index.
    pub(super) fn notes(&self) -> Vec<String> {
        let line = |index: &Move| {
            let name = index.name();
            match index.is_unique() {
                true => format!(
                    "the unique index {name:?} stays until all is sealed, and then becomes one on tokens"
                ),
                false => format!("the index {name:?} becomes one on tokens"),
            }
        };
        self.moves.iter().map(line).collect()
    }

    /// What has to be done before anything is sealed.
    pub(super) async fn before(&self, checkpoint: &Checkpoint) -> Result<(), EngineError> {
        for index in &self.moves {
            checkpoint.keep_index(&index.plain).await?;
            if index.is_unique() {
                self.create(index.standing_in("migrating", index.exist()))
                    .await?;
            } else {
                self.drop_plain(index).await?;
                self.create(index.sealed.clone()).await?;
            }
        }
        Ok(())
    }

    /// What has to be done when all is sealed.
    pub(super) async fn after(&self) -> Result<(), EngineError> {
        for index in self.moves.iter().filter(|index| index.is_unique()) {
            let every = vec![doc! { "_id": { "$exists": true } }];
            self.create(index.standing_in("migrated", every)).await?;
            self.drop_plain(index).await?;
            self.create(index.sealed.clone()).await?;
            for part in ["migrating", "migrated"] {
                self.drop(Bson::String(index.name_in(part))).await?;
            }
        }
        Ok(())
    }

    /// The indexes of the collection, as MongoDB lists them.
    pub(super) async fn existing(&self) -> Result<Vec<Document>, DatabaseError> {
        let what = || driver(format!("list the indexes of {}", self.namespace()));
        let command = doc! { "listIndexes": &self.collection };
        let mut cursor = match self.database.run_cursor_command(command).await {
            Ok(cursor) => cursor,
            // A collection that is not there has none.
            Err(error) if code(&error) == Some(26) => return Ok(Vec::new()),
            Err(error) => return Err(what()(error)),
        };
        let mut indexes = Vec::new();
        while cursor.advance().await.map_err(what())? {
            let index: Document = cursor.deserialize_current().map_err(what())?;
            indexes.push(index);
        }
        Ok(indexes)
    }

    /// Makes an index, unless it is there.
    pub(super) async fn create(&self, index: Document) -> Result<(), EngineError> {
        let name = index.get_str("name").unwrap_or_default().to_owned();
        let command = doc! {
            "createIndexes": &self.collection, "indexes": [index],
            "writeConcern": { "w": "majority" },
        };
        match self.run(command).await {
            Ok(()) => Ok(()),
            Err(error) if code(&error) == Some(11000) => Err(EngineError::Index {
                namespace: self.namespace(),
                name,
                reason: "documents have the same values in it (several without a value count as one value too); make them differ and run this again".to_owned(),
            }),
            Err(error) => {
                let what = format!("create the index {name:?} on {}", self.namespace());
                Err(driver(what)(error).into())
            }
        }
    }

    /// Drops the index on plaintext: by its key, which no other one has, as a rule.
    async fn drop_plain(&self, index: &Move) -> Result<(), EngineError> {
        let key = index.plain.get_document("key").cloned().unwrap_or_default();
        let what = || driver(format!("drop an index of {}", self.namespace()));
        match self.drop_one(Bson::Document(key)).await {
            Err(error) if code(&error) == Some(AMBIGUOUS) => {
                if self.existing().await?.contains(&index.plain) {
                    self.drop(Bson::String(index.name())).await?;
                }
                Ok(())
            }
            other => Ok(other.map_err(what())?),
        }
    }

    /// Drops an index, if it is there.
    pub(super) async fn drop(&self, index: Bson) -> Result<(), EngineError> {
        let what = driver(format!("drop an index of {}", self.namespace()));
        Ok(self.drop_one(index).await.map_err(what)?)
    }

    async fn drop_one(&self, index: Bson) -> Result<(), Error> {
        let command = doc! {
            "dropIndexes": &self.collection, "index": index,
            "writeConcern": { "w": "majority" },
        };
        match self.run(command).await {
            Err(error) if code(&error) == Some(NOT_FOUND) => Ok(()),
            other => other,
        }
    }

    async fn run(&self, command: Document) -> Result<(), Error> {
        let mut patience = Patience::new();
        loop {
            let Err(error) = self.database.run_command(command.clone()).await else {
                return Ok(());
            };
            let passes = matches!(Trouble::of(&error), Trouble::Passing | Trouble::Conflict);
            if !passes || !patience.wait().await {
                return Err(error);
            }
        }
    }

    fn namespace(&self) -> String {
        format!("{}.{}", self.database.name(), self.collection)
    }
}

impl Move {
    fn name(&self) -> String {
        self.plain.get_str("name").unwrap_or_default().to_owned()
    }

    /// What one that stands in for it is called.
    fn name_in(&self, part: &str) -> String {
        format!("{}~{part}", self.name())
    }

    fn is_unique(&self) -> bool {
        self.plain.get_bool("unique").unwrap_or_default()
    }

    /// The conditions that every token of it is there.
    fn exist(&self) -> Vec<Document> {
        changed(&self.plain, &self.sealed)
            .map(|(_, sealed)| doc! { sealed: { "$exists": true } })
            .collect()
    }

    /// The index on tokens, for the documents that meet `conditions` alone.
    fn standing_in(&self, part: &str, mut conditions: Vec<Document>) -> Document {
        let mut index = self.sealed.clone();
        if let Ok(own) = index.get_document("partialFilterExpression") {
            conditions.push(own.clone());
        }
        let partial = match conditions.as_slice() {
            [one] => one.clone(),
            _ => doc! { "$and": conditions },
        };
        index.insert("partialFilterExpression", partial);
        index.insert("name", self.name_in(part));
        index
    }
}

/// The parts of an index that differ: their names on plaintext and on tokens.
fn changed<'d>(
    plain: &'d Document,
    sealed: &'d Document,
) -> impl Iterator<Item = (&'d str, &'d str)> {
    let names = |index: &'d Document| {
        let key = index.get_document("key").ok();
        key.into_iter()
            .flat_map(|key| key.keys().map(String::as_str))
    };
    names(plain)
        .zip(names(sealed))
        .filter(|(plain, sealed)| plain != sealed)
}

/// The index that the proxy would make instead; none if it is not on sealed fields, or is on
/// tokens already.
fn sealed(
    job: &Job<'_>,
    listed: &Listed,
    plain: &Document,
    collated: bool,
) -> Result<Option<Document>, EngineError> {
    let key = plain.get_document("key").cloned().unwrap_or_default();
    if key.keys().any(|path| is_token(job, path)) {
        return Ok(None);
    }
    let name = plain.get_str("name").unwrap_or_default();
    let refuse = |reason: String| EngineError::Index {
        namespace: listed.namespace.clone(),
        name: name.to_owned(),
        reason,
    };
    let mut asked = plain.clone();
    asked.remove("ns");
    if collated && !asked.contains_key("collation") {
        // Where the collection has a collation, an index without one was made so.
        asked.insert("collation", doc! { "locale": "simple" });
    }
    let command = doc! { "createIndexes": listed.collection(), "indexes": [&asked] };
    let sent = rewritten(job.policy, listed.database(), &command).map_err(|refusal| {
        let told = refusal.message.trim_start_matches("fieldseal: ");
        refuse(format!("{told}; drop it, or change it, and run this again"))
    })?;
    let sealed = sent
        .get_array("indexes")
        .ok()
        .and_then(|indexes| indexes.first()?.as_document().cloned())
        .ok_or(EngineError::Command)?;
    if sealed == asked {
        return Ok(None);
    }
    let (mut inside, mut outside) = (0, 0);
    for (path, _) in changed(plain, &sealed) {
        let concerned = field_at(job, path).is_none_or(|field| job.concerns(&field));
        *(if concerned { &mut inside } else { &mut outside }) += 1;
    }
    match (inside, outside) {
        (_, 0) => Ok(Some(sealed)),
        (0, _) => Ok(None),
        _ => Err(refuse(
            "it is on several sealed fields: name them all with --field".to_owned(),
        )),
    }
}

/// The field that a path of an index leads to.
fn field_at(job: &Job<'_>, path: &str) -> Option<std::sync::Arc<crate::policy::Field>> {
    let mut at = Tree::ROOT;
    for component in path.split('.') {
        match job.collection.tree.step(at, component) {
            Step::Inner(next) => at = next,
            Step::Sealed(leaf) => return Some(job.collection.field(leaf).clone()),
            _ => return None,
        }
    }
    None
}

/// Whether a path of an index leads to a token: `ssn.e1`.
fn is_token(job: &Job<'_>, path: &str) -> bool {
    let Some((above, last)) = path.rsplit_once('.') else {
        return false;
    };
    let number = last.strip_prefix('e').unwrap_or_default();
    let named = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    named && field_at(job, above).is_some()
}

fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::database::Standing;
    use super::super::job::Work;
    use super::*;
    use crate::policy::{Policy, fixture};

    fn moved(policy: &Policy, fields: &[&str], plain: Document) -> Result<Option<Move>, String> {
        let job = Job {
            work: Work::Encrypt,
            policy,
            collection: policy.collection("shop.customers").unwrap(),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        };
        let listed = Listed {
            namespace: "shop.customers".to_owned(),
            standing: Standing::Collection,
            options: doc! {},
        };
        sealed(&job, &listed, &plain, false)
            .map(|sealed| sealed.map(|sealed| Move { plain, sealed }))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_index_on_a_sealed_field_moves_to_its_tokens_and_others_stay() {
        let policy = fixture::policy();
        let one = doc! {"v": 2, "key": {"name": 1, "ssn": -1}, "name": "n"};
        let index = moved(&policy, &[], one).unwrap().unwrap();
        assert_eq!(
            index.sealed,
            doc! {"v": 2, "key": {"name": 1, "ssn.e1": -1}, "name": "n"}
        );
        for key in [
            doc! {"_id": 1},
            doc! {"name": 1},
            doc! {"ssn.e1": 1},
            doc! {"ssn.e7": 1, "name": 1},
        ] {
            let stays = doc! {"v": 2, "key": key, "name": "n"};
            assert_eq!(moved(&policy, &[], stays).unwrap(), None);
        }
        let of_another = doc! {"v": 2, "key": {"age": 1}, "name": "n"};
        assert_eq!(moved(&policy, &["ssn"], of_another).unwrap(), None);
    }

    #[test]
    fn an_index_that_tokens_cannot_serve_is_told_at_the_start() {
        let policy = fixture::policy();
        for (key, option) in [
            (doc! {"address": 1}, doc! {}),
            (doc! {"ssn": "text"}, doc! {}),
            (doc! {"ssn": 1}, doc! {"expireAfterSeconds": 5}),
            (doc! {"ssn": 1}, doc! {"unique": true, "sparse": true}),
        ] {
            let mut index = doc! {"v": 2, "key": key, "name": "the index"};
            index.extend(option);
            let told = moved(&policy, &[], index).unwrap_err();
            assert!(
                told.starts_with("shop.customers: the index \"the index\""),
                "{told}"
            );
        }
        let both = doc! {"v": 2, "key": {"ssn": 1, "age": 1}, "name": "n"};
        let told = moved(&policy, &["ssn"], both).unwrap_err();
        assert!(told.contains("name them all"), "{told}");
    }

    #[test]
    fn what_stands_in_for_a_unique_index_is_partial() {
        let policy = fixture::policy();
        let plain = doc! {
            "v": 2, "key": {"ssn": 1, "tenant": 1}, "name": "n", "unique": true,
            "partialFilterExpression": {"tenant": {"$exists": true}},
        };
        let index = moved(&policy, &[], plain).unwrap().unwrap();
        let standing_in = index.standing_in("migrating", index.exist());
        assert_eq!(standing_in.get_str("name").unwrap(), "n~migrating");
        assert!(standing_in.get_bool("unique").unwrap());
        assert_eq!(
            standing_in.get_document("partialFilterExpression").unwrap(),
            &doc! {"$and": [{"ssn.e1": {"$exists": true}}, {"tenant": {"$exists": true}}]}
        );
    }
}
