//! `fieldseal check --against`: whether what is stored is what the schema says.

use std::collections::{BTreeMap, BTreeSet};

use bson::doc;
use mongodb::Client;
use mongodb::error::ErrorKind;

use super::super::Failure;
use super::super::load::Loaded;
use super::super::status::{Counted, Task, is_counted, values};
use super::super::ticker::Ticker;
use crate::inspect::{Needs, Place};
use crate::migrate::census::{Census, FieldCensus};
use crate::migrate::database::{DatabaseError, Listed, Standing, driver, sealed_namespaces};
use crate::migrate::scan::{Extent, count_sealed, scan};
use crate::policy::Collection;
use crate::schema::{CollectionRule, OnPlaintext, Types};
use crate::seal::FieldId;

/// MongoDB's own databases.
const SYSTEM: [&str; 3] = ["admin", "config", "local"];

/// How many names are tried to find out what a field id was made of.
const MOST_GUESSES: usize = 100_000;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What is wrong.
    pub(super) wrong: Vec<Task>,
    /// What is as the schema says it may be for now.
    pub(super) remarks: Vec<Task>,
    /// How many documents were looked at.
    pub(super) documents: u64,
    /// How many collections were.
    pub(super) collections: usize,
}

/// Looks at documents of every collection: of those that the schema names, and of
/// all others, which should hold nothing sealed.
pub(super) async fn look(
    client: &Client,
    loaded: &Loaded,
    extent: Extent,
) -> Result<Findings, Failure> {
    let named = sealed_namespaces(client, &loaded.policy, &[]).await?;
    let others = others(client, &named).await?;
    let mut against = Against {
        loaded,
        needs: Needs::default(),
        names: named
            .iter()
            .chain(&others)
            .map(|listed| listed.namespace.clone())
            .collect(),
        findings: Findings::default(),
        ticker: Ticker::new(),
    };
    for listed in named.iter().filter(|listed| is_counted(listed)) {
        against.named(client, listed, extent).await?;
    }
    for listed in &others {
        against.other(client, listed, extent).await?;
    }
    against.places();
    Ok(against.findings)
}

/// The collections that the schema does not name.
async fn others(client: &Client, named: &[Listed]) -> Result<Vec<Listed>, Failure> {
    let mut others = Vec::new();
    let databases = client
        .list_database_names()
        .await
        .map_err(driver("list the databases"))?;
    for database in databases {
        if SYSTEM.contains(&database.as_str()) {
            continue;
        }
        let names = client
            .database(&database)
            .list_collection_names()
            .filter(doc! {"type": "collection"})
            .await
            .map_err(driver(format!("list the collections of {database}")))?;
        for name in names {
            let namespace = format!("{database}.{name}");
            let known = named.iter().any(|listed| listed.namespace == namespace);
            if known || name.starts_with("system.") {
                continue;
            }
            others.push(Listed {
                namespace,
                standing: Standing::Collection,
                options: bson::Document::new(),
            });
        }
    }
    others.sort_by(|one, other| one.namespace.cmp(&other.namespace));
    Ok(others)
}

struct Against<'a> {
    loaded: &'a Loaded,
    /// Every sealed value that was met.
    needs: Needs,
    /// Every collection, whether the schema names it or not.
    names: BTreeSet<String>,
    findings: Findings,
    ticker: Ticker,
}

impl Against<'_> {
    async fn named(
        &mut self,
        client: &Client,
        listed: &Listed,
        extent: Extent,
    ) -> Result<(), Failure> {
        let namespace = &listed.namespace;
        let policy = &self.loaded.policy;
        let rule = self.loaded.schema.rule(namespace);
        let (Some(rule), Some(collection)) = (rule, policy.collection(namespace)) else {
            return Ok(());
        };
        let on_plaintext = collection.on_plaintext;
        let mut census = Census::new(rule, collection);
        let (needs, ticker) = (&mut self.needs, &mut self.ticker);
        scan(client, listed, extent, None, |doc| {
            ticker.tick(|_| format!("{namespace}: {} documents read", census.documents));
            count_sealed(needs, namespace, doc)?;
            census.document(policy, doc)
        })
        .await?;
        self.findings.documents += census.documents;
        self.findings.collections += 1;
        for field in &census.fields {
            self.field(namespace, on_plaintext, field);
        }
        Ok(())
    }

    async fn other(
        &mut self,
        client: &Client,
        listed: &Listed,
        extent: Extent,
    ) -> Result<(), Failure> {
        let namespace = &listed.namespace;
        let mut read = 0_u64;
        let (needs, ticker) = (&mut self.needs, &mut self.ticker);
        let scanned = scan(client, listed, extent, None, |doc| {
            read += 1;
            ticker.tick(|_| format!("{namespace}: {read} documents read"));
            count_sealed(needs, namespace, doc)
        })
        .await;
        match scanned {
            Err(error) if is_gone(&error) => {}
            scanned => scanned?,
        }
        self.findings.documents += read;
        self.findings.collections += 1;
        Ok(())
    }

    /// What is wrong with the values of one field.
    fn field(&mut self, namespace: &str, on_plaintext: OnPlaintext, field: &FieldCensus) {
        let counted = Counted {
            namespace,
            on_plaintext,
            field,
            keyring: &self.loaded.keyring,
        };
        let foreign = field.foreign.values().sum::<u64>() > 0;
        // `places` says more of values that were sealed for another field.
        let unreadable = counted.unreadable().into_iter();
        let unreadable = unreadable.filter(|task| !(foreign && task.remedy.contains("--against")));
        self.findings.wrong.extend(unreadable);
        if on_plaintext != OnPlaintext::Store {
            self.findings.wrong.extend(counted.tokens());
        }
        let place = format!("{namespace} `{}`", field.field.path);
        if field.field.equality.is_none() {
            self.findings.wrong.extend(left_over(&place, field));
        }
        let plain = values(field.plain);
        match on_plaintext {
            OnPlaintext::Reject if field.plain > 0 => self.findings.wrong.push(Task::new(
                &place,
                format!("{plain} in plain: the field was not sealed from the beginning, or was written past the proxy"),
                format!("set on_plaintext = \"allow\" in the schema, then `fieldseal migrate encrypt {namespace}`"),
            )),
            OnPlaintext::Allow if field.plain > 0 => self.findings.remarks.push(Task::new(
                &place,
                format!("{plain} in plain"),
                format!("`fieldseal migrate encrypt {namespace}`"),
            )),
            _ => {}
        }
        for (kind, number) in &field.wrong_types {
            let types = field.field.types.describe();
            let kind = Types::alias_of(*kind);
            self.findings.wrong.push(Task::new(
                &place,
                format!(
                    "{} of type {kind}, where the schema allows {types}",
                    values(*number)
                ),
                format!("let the field have the type {kind} as well, or write those values anew"),
            ));
        }
    }

    /// What is wrong with where sealed values stand.
    fn places(&mut self) {
        let mut wrong = Vec::new();
        for (namespace, place) in self.needs.places() {
            let Some(id) = place.field else { continue };
            let number = place.needs.values().map(|need| need.values).sum::<u64>() + place.cut_off;
            let rule = self.loaded.schema.rule(namespace);
            let collection = self.loaded.policy.collection(namespace);
            let task = match (rule, collection) {
                (Some(rule), Some(collection)) => {
                    if is_own(&collection, rule, id) {
                        self.at_other_path(namespace, &collection, rule, place, id)
                    } else {
                        Some(self.not_own(namespace, rule, place, id))
                    }
                }
                _ => Some(self.in_open_collection(namespace, place, id)),
            };
            if let Some((what, remedy)) = task {
                let at = format!("{namespace} `{}`", place.path);
                wrong.push(Task::new(at, format!("{} {what}", values(number)), remedy));
            }
        }
        self.findings.wrong.extend(wrong);
    }

    /// A value of one of the collection's own fields, at a place that is not that field's.
    fn at_other_path(
        &self,
        namespace: &str,
        collection: &Collection,
        rule: &CollectionRule,
        place: &Place,
        id: FieldId,
    ) -> Option<(String, String)> {
        let mut leaves = 0..rule.fields.len();
        let leaf = leaves.find(|leaf| collection.field(*leaf).id == id)?;
        let path = &collection.field(leaf).path;
        if fits(path, &place.path) {
            return None;
        }
        let sealed = is_sealed_path(rule, &place.path);
        let what = format!("sealed for the field `{path}`, and moved or renamed past the proxy");
        let remedy = match sealed {
            true => "write them anew through the proxy".to_owned(),
            false => format!(
                "move them back to `{path}`, or seal `{}` in {namespace} with identity = \"{}\"",
                place.path,
                rule.fields.get(leaf)?.identity()
            ),
        };
        Some((what, remedy))
    }

    /// A value of no field of the collection.
    fn not_own(
        &self,
        namespace: &str,
        rule: &CollectionRule,
        place: &Place,
        id: FieldId,
    ) -> (String, String) {
        let path = &place.path;
        let identity = rule.identity(namespace);
        let origin = self.origin(id, namespace, path);
        let sealed = is_sealed_path(rule, path);
        match origin {
            Some((name, field)) if name == identity && field == *path && !sealed => (
                "sealed for a field that was removed from the schema".to_owned(),
                format!(
                    "put `{path}` back; before it goes, set on_plaintext = \"store\" and run `fieldseal migrate decrypt {namespace} --field {path}`"
                ),
            ),
            Some((name, field)) if name == identity => (
                format!("sealed for the field `{field}`, which was renamed"),
                format!("give `{path}` in the schema identity = \"{field}\""),
            ),
            Some((name, field)) => (
                format!("sealed as `{field}` of {name}, which was renamed or copied"),
                format!("give {namespace} in the schema identity = \"{name}\""),
            ),
            None => (
                format!("sealed for a field or collection that the schema does not know (field id {id})"),
                "if the collection or the field was renamed, give its old name as `identity`; if it was removed from the schema, put it back".to_owned(),
            ),
        }
    }

    fn in_open_collection(&self, namespace: &str, place: &Place, id: FieldId) -> (String, String) {
        let path = &place.path;
        match self.origin(id, namespace, path) {
            Some((name, _)) if name == namespace => (
                "sealed in a collection that was removed from the schema: what is written there now is not sealed".to_owned(),
                format!("put {namespace} back; before it goes, set on_plaintext = \"store\" and run `fieldseal migrate decrypt {namespace}`"),
            ),
            Some((name, field)) => (
                format!("sealed as `{field}` of {name}, in a collection that the schema does not name: what is written there now is not sealed"),
                format!("if {name} was renamed to it, or copied, name {namespace} in the schema with identity = \"{name}\""),
            ),
            None => (
                format!("sealed, in a collection that the schema does not name (field id {id})"),
                "name it in the schema, with the `identity` that it had".to_owned(),
            ),
        }
    }

    /// The identities, of the collection and the field, that a field id was made of, if
    /// they are among those that are known.
    fn origin(&self, id: FieldId, namespace: &str, path: &str) -> Option<(String, String)> {
        let rules = &self.loaded.schema.rules;
        let identities = rules.iter().filter_map(|rule| rule.identity.as_deref());
        let patterns = rules.iter().map(|rule| rule.pattern.as_str());
        let names: BTreeSet<&str> = std::iter::once(namespace)
            .chain(identities)
            .chain(patterns)
            .chain(self.names.iter().map(String::as_str))
            .collect();
        let fields = rules.iter().flat_map(|rule| &rule.fields);
        let known = fields.flat_map(|field| [field.path.as_str(), field.identity()]);
        let paths: BTreeSet<&str> = std::iter::once(path).chain(known).collect();
        // Not worth minutes where a server has very many collections.
        let few = names.len().saturating_mul(paths.len()) <= MOST_GUESSES;
        // The likeliest first: the same path in the same collection, then the same path.
        let all = std::iter::once((namespace, path))
            .chain(names.iter().map(|name| (*name, path)))
            .chain(paths.iter().map(|path| (namespace, *path)))
            .chain(
                names
                    .iter()
                    .filter(|_| few)
                    .flat_map(|name| paths.iter().map(|path| (*name, *path))),
            );
        let found = all
            .into_iter()
            .find(|(name, path)| FieldId::of(name, path) == id);
        found.map(|(name, path)| (name.to_owned(), path.to_owned()))
    }
}

/// Tokens of a field that is no longer asked for by them.
fn left_over(place: &str, field: &FieldCensus) -> Option<Task> {
    let most = field.tokens.values().max().filter(|most| **most > 0)?;
    let what = format!(
        "{} with tokens, which tell those that are equal, and `queries` was removed from the schema",
        values(*most)
    );
    let remedy = "put `queries` back, or set those values anew, through the proxy";
    Some(Task::new(place, what, remedy))
}

/// Whether a collection was dropped or renamed while it was read.
fn is_gone(error: &DatabaseError) -> bool {
    const GONE: [i32; 2] = [26, 175];
    let DatabaseError::Driver { error, .. } = error else {
        return false;
    };
    matches!(&*error.kind, ErrorKind::Command(command) if GONE.contains(&command.code))
}

fn is_own(collection: &Collection, rule: &CollectionRule, id: FieldId) -> bool {
    (0..rule.fields.len()).any(|leaf| collection.field(leaf).id == id)
}

fn is_sealed_path(rule: &CollectionRule, path: &str) -> bool {
    rule.fields.iter().any(|field| fits(&field.path, path))
}

/// Whether a path that was found is one that a path of the schema stands for.
fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), path.split('.').collect());
    let mut pairs = pattern.iter().zip(&path);
    pattern.len() == path.len() && pairs.all(|(one, other)| *one == "*" || one == other)
}

/// What is wrong, counted by what it is: for the last line.
pub(super) fn summary(findings: &Findings) -> String {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for task in &findings.wrong {
        *places.entry(&task.place).or_default() += 1;
    }
    match places.len() {
        0 => format!(
            "looked at {} documents of {} collections: they are as the schema says\n",
            findings.documents, findings.collections
        ),
        number => format!(
            "looked at {} documents of {} collections: something is wrong at {number} of their fields\n",
            findings.documents, findings.collections
        ),
    }
}
