//! An index on tokens of one epoch, and the same on tokens of another: which are to be
//! made, and which can go once they are there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bson::{Bson, Document};

use super::super::EngineError;
use crate::keyring::State;
use crate::policy::{Collection, Equality, Field};
use crate::raw::{Doc, Malformed};

/// The tokens of a value in a filter, by the path and the token that stand there: those of
/// other epochs, by their names.
pub(super) type Known = HashMap<(String, Vec<u8>), HashMap<String, Vec<u8>>>;

/// What is to be done with the indexes of a collection.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Twins {
    /// Indexes to be made; the name of a twin that was made otherwise has to go before.
    pub(super) make: Vec<(Document, Option<String>)>,
    /// The stored names of those that go afterwards.
    pub(super) drop: Vec<String>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

/// An index on tokens.
struct Index<'i> {
    document: &'i Document,
    stored: &'i str,
    parts: Vec<(Arc<Field>, u32)>,
}

impl Index<'_> {
    /// Whether the state of any of its parts is one of these, in a key of `keys`.
    fn any(&self, keys: &[String], states: &[State]) -> bool {
        self.parts.iter().any(|(field, epoch)| {
            let equality = field.equality.as_ref();
            equality.is_some_and(|equality| {
                let state = equality.state(*epoch);
                keys.iter().any(|key| **key == *equality.key_name)
                    && state.is_some_and(|state| states.contains(&state))
            })
        })
    }

    fn is_active(&self) -> bool {
        self.states().all(|state| state == Some(State::Active))
    }

    fn states(&self) -> impl Iterator<Item = Option<State>> {
        self.parts
            .iter()
            .map(|(field, epoch)| field.equality.as_ref()?.state(*epoch))
    }

    fn is_unique(&self) -> bool {
        self.document.get_bool("unique").unwrap_or_default()
    }
}

/// The tokens in the filters of indexes, which are others in another epoch: where they
/// stand, and what they are.
pub(super) fn compared(collection: &Collection, existing: &[Document]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for index in existing {
        if let Ok(filter) = index.get_document("partialFilterExpression") {
            compared_in(collection, filter, None, &mut found);
        }
    }
    found
}

fn compared_in(
    collection: &Collection,
    filter: &Document,
    path: Option<&str>,
    found: &mut Vec<(String, Vec<u8>)>,
) {
    for (name, value) in filter {
        let path = match collection.tokens_at(name) {
            Some(_) => Some(name.as_str()),
            None => path,
        };
        of_value(collection, value, path, found);
    }
}

fn of_value(
    collection: &Collection,
    value: &Bson,
    path: Option<&str>,
    found: &mut Vec<(String, Vec<u8>)>,
) {
    match (value, path) {
        (Bson::Binary(binary), Some(path)) => found.push((path.to_owned(), binary.bytes.clone())),
        (Bson::Document(inner), _) => compared_in(collection, inner, path, found),
        (Bson::Array(items), _) => {
            for item in items {
                of_value(collection, item, path, found);
            }
        }
        _ => {}
    }
}

/// What is to be done so that each index on tokens stands on those of the active epochs,
/// and on those of the staged epoch of each of `keys`.
pub(super) fn plan(
    collection: &Collection,
    keys: &[String],
    existing: &[Document],
    known: &Known,
) -> Result<Twins, EngineError> {
    let mut groups: BTreeMap<String, Vec<Index<'_>>> = BTreeMap::new();
    for document in existing {
        let bytes = bytes(document)?;
        let doc = Doc::whole(&bytes)?;
        let parts = parts(collection, document);
        let (Some(shown), false) = (collection.shown(doc)?, parts.is_empty()) else {
            continue;
        };
        let group = groups.entry(shown.name().to_owned()).or_default();
        group.push(Index {
            document,
            stored: document.get_str("name").unwrap_or_default(),
            parts,
        });
    }
    let mut twins = Twins::default();
    let planning = Planning {
        collection,
        keys,
        known,
    };
    for (name, group) in &groups {
        planning.group(name, group, &mut twins)?;
    }
    Ok(twins)
}

struct Planning<'p> {
    collection: &'p Collection,
    keys: &'p [String],
    known: &'p Known,
}

impl Planning<'_> {
    /// The indexes of one name.
    fn group(&self, name: &str, group: &[Index<'_>], twins: &mut Twins) -> Result<(), EngineError> {
        if let Some(index) = group
            .iter()
            .find(|index| index.states().any(|state| state.is_none()))
        {
            twins.notes.push(format!(
                "the index {:?} is on tokens of an epoch that this key file does not have, and is left as it is",
                index.stored
            ));
            return Ok(());
        }
        let staged = |index: &&Index<'_>| index.states().any(|state| state == Some(State::Staged));
        let active = group.iter().find(|index| index.is_active());
        let Some(base) = active.or_else(|| group.iter().find(|index| !staged(index))) else {
            twins.notes.push(format!(
                "the index {name:?} stands on tokens of the staged epoch alone, and is left as it is"
            ));
            return Ok(());
        };
        let active = self.translated(name, base, |equality| equality.epoch)?;
        let mut wanted = vec![active.clone()];
        let base = Index {
            parts: parts(self.collection, &active),
            document: &active,
            stored: name,
        };
        for key in self.keys {
            let epoch = |equality: &Equality| match equality.staged() {
                Some(staged) if *equality.key_name == **key => staged,
                _ => equality.epoch,
            };
            let form = self.translated(name, &base, epoch)?;
            if !wanted.contains(&form) {
                wanted.push(form);
            }
        }
        for form in wanted {
            self.want(form, group, twins)?;
        }
        for old in group {
            if !old.any(self.keys, &[State::Retired, State::Disabled]) {
                continue;
            }
            if old.is_unique() && !base.is_unique() {
                return Err(self.refuse(
                    old.stored,
                    "it is unique, and the one on the active index epoch is not; drop one of the two",
                ));
            }
            twins.drop.push(old.stored.to_owned());
        }
        Ok(())
    }

    /// Has an index made, if there is none like it.
    fn want(
        &self,
        form: Document,
        group: &[Index<'_>],
        twins: &mut Twins,
    ) -> Result<(), EngineError> {
        if group.iter().any(|index| alike(index.document, &form)) {
            return Ok(());
        }
        let stored = form.get_str("name").unwrap_or_default();
        let other = group.iter().find(|index| index.stored == stored);
        let instead = match other {
            // Nobody uses it yet.
            Some(other) if other.any(self.keys, &[State::Staged]) => Some(stored.to_owned()),
            Some(_) => return Err(self.refuse(stored, "another one has the name of its twin")),
            None => None,
        };
        twins.make.push((form, instead));
        Ok(())
    }

    /// The same index on the tokens of the epochs that `epoch` says, under its stored name.
    fn translated(
        &self,
        name: &str,
        index: &Index<'_>,
        epoch: impl Fn(&Equality) -> u32,
    ) -> Result<Document, EngineError> {
        let path = |path: &str| {
            let (field, path, _) = self.collection.tokens_at(path)?;
            let epoch = epoch(field.equality.as_ref()?);
            Some(format!("{path}.{}", crate::seal::token_name(epoch)))
        };
        let mut form = index.document.clone();
        form.remove("ns");
        if let Ok(keys) = index.document.get_document("key") {
            let keys = keys.iter();
            let keys = keys
                .map(|(name, order)| (path(name).unwrap_or_else(|| name.clone()), order.clone()));
            form.insert("key", keys.collect::<Document>());
        }
        if let Ok(filter) = index.document.get_document("partialFilterExpression") {
            let filter = self.filter(filter, &path);
            let filter = filter.ok_or_else(|| self.refuse(
                index.stored,
                "its partialFilterExpression compares a sealed field with a value that no document has; drop it through a proxy, and make it anew once the staged epoch is promoted",
            ))?;
            form.insert("partialFilterExpression", filter);
        }
        let bytes = bytes(&form)?;
        form.insert(
            "name",
            self.collection.stored_name(name, Doc::whole(&bytes)?)?,
        );
        Ok(form)
    }

    /// A filter on other tokens; none if one of its values is not known by them.
    fn filter(&self, filter: &Document, path: &dyn Fn(&str) -> Option<String>) -> Option<Document> {
        let mut translated = Document::new();
        for (name, value) in filter {
            match path(name) {
                Some(new) => {
                    let value = self.tokens(value, name, &new)?;
                    translated.insert(new, value);
                }
                None => {
                    translated.insert(name.clone(), self.value(value, path)?);
                }
            }
        }
        Some(translated)
    }

    fn value(&self, value: &Bson, path: &dyn Fn(&str) -> Option<String>) -> Option<Bson> {
        Some(match value {
            Bson::Document(inner) => Bson::Document(self.filter(inner, path)?),
            Bson::Array(items) => {
                let items = items.iter().map(|item| self.value(item, path));
                Bson::Array(items.collect::<Option<_>>()?)
            }
            other => other.clone(),
        })
    }

    /// A condition on the tokens at `old`, for those at `new`.
    fn tokens(&self, condition: &Bson, old: &str, new: &str) -> Option<Bson> {
        Some(match condition {
            _ if old == new => condition.clone(),
            Bson::Document(operators) => {
                let operators = operators.iter();
                let operators = operators
                    .map(|(name, value)| Some((name.clone(), self.tokens(value, old, new)?)));
                Bson::Document(operators.collect::<Option<_>>()?)
            }
            Bson::Array(items) => {
                let items = items.iter().map(|item| self.tokens(item, old, new));
                Bson::Array(items.collect::<Option<_>>()?)
            }
            Bson::Binary(binary) => {
                let known = self.known.get(&(old.to_owned(), binary.bytes.clone()))?;
                let (_, name) = new.rsplit_once('.')?;
                let mut translated = binary.clone();
                translated.bytes.clone_from(known.get(name)?);
                Bson::Binary(translated)
            }
            other => other.clone(),
        })
    }

    fn refuse(&self, name: &str, reason: &str) -> EngineError {
        EngineError::Twin {
            namespace: self.collection.namespace.clone(),
            name: name.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// The fields on whose tokens an index is, with the epochs.
fn parts(collection: &Collection, index: &Document) -> Vec<(Arc<Field>, u32)> {
    let mut names = Vec::new();
    if let Ok(keys) = index.get_document("key") {
        names.extend(keys.keys().cloned());
    }
    if let Some(filter) = index.get("partialFilterExpression") {
        names_in(filter, &mut names);
    }
    let parts = names.iter().filter_map(|name| {
        let (field, _, epoch) = collection.tokens_at(name)?;
        Some((Arc::clone(field), epoch))
    });
    parts.collect()
}

fn names_in(filter: &Bson, names: &mut Vec<String>) {
    match filter {
        Bson::Document(inner) => {
            for (name, value) in inner {
                names.push(name.clone());
                names_in(value, names);
            }
        }
        Bson::Array(items) => items.iter().for_each(|item| names_in(item, names)),
        _ => {}
    }
}

/// Whether two indexes are the same but for their names.
fn alike(one: &Document, other: &Document) -> bool {
    let essence = |index: &Document| {
        let mut index = index.clone();
        for name in ["v", "ns", "name", "background"] {
            index.remove(name);
        }
        // 1 is 1.0 there.
        if let Ok(keys) = index.get_document_mut("key") {
            for (_, order) in keys.iter_mut() {
                *order = match &*order {
                    Bson::Int32(number) => Bson::Int64((*number).into()),
                    Bson::Double(number) if *number == 1.0 => Bson::Int64(1),
                    Bson::Double(number) if *number == -1.0 => Bson::Int64(-1),
                    other => other.clone(),
                };
            }
        }
        // The order of options says nothing, that of keys does.
        index.into_iter().collect::<BTreeMap<_, _>>()
    };
    essence(one) == essence(other)
}

fn bytes(document: &Document) -> Result<Vec<u8>, EngineError> {
    let bytes = bson::serialize_to_vec(document);
    Ok(bytes.map_err(|_| Malformed("an index does not hold together"))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::doc;

    use super::*;
    use crate::keyring::State::{Active, Disabled, Retired, Staged};
    use crate::policy::fixture;

    fn planned_with(
        states: &[State],
        existing: &[Document],
        known: &Known,
    ) -> Result<Twins, EngineError> {
        let policy = fixture::policy_with(fixture::keyring_with_epochs(states));
        let collection = policy.collection("shop.customers").unwrap();
        plan(&collection, &["default".to_owned()], existing, known)
    }

    fn planned(states: &[State], existing: &[Document]) -> Twins {
        planned_with(states, existing, &Known::new()).unwrap()
    }

    fn index(key: Document, name: &str) -> Document {
        doc! {"v": 2, "unique": true, "key": key, "name": name}
    }

    fn made(twins: &Twins) -> Vec<Document> {
        twins.make.iter().map(|(index, _)| index.clone()).collect()
    }

    #[test]
    fn each_index_on_tokens_gets_a_twin_on_those_of_the_staged_epoch() {
        let existing = [
            index(doc! {"_id": 1}, "_id_"),
            index(doc! {"ssn.e1": 1}, "a"),
            index(
                doc! {"name": 1, "age.e1": -1, "contacts.home.phone.e1": "hashed"},
                "b",
            ),
            index(doc! {"name": 1}, "open"),
        ];
        let twins = planned(&[Active, Staged], &existing);
        assert_eq!(
            made(&twins),
            [
                index(doc! {"ssn.e2": 1}, "a~2"),
                index(
                    doc! {"name": 1, "age.e2": -1, "contacts.home.phone.e2": "hashed"},
                    "b~2.2"
                ),
            ]
        );
        assert!(twins.drop.is_empty() && twins.notes.is_empty());
        let both: Vec<_> = existing.into_iter().chain(made(&twins)).collect();
        assert_eq!(planned(&[Active, Staged], &both), Twins::default());
        assert_eq!(planned(&[Active], &both[..4]), Twins::default());
    }

    #[test]
    fn an_index_on_a_retired_epoch_goes_once_it_stands_on_the_active_one() {
        let (old, new) = (
            index(doc! {"ssn.e1": 1}, "a"),
            index(doc! {"ssn.e2": 1.0}, "a~2"),
        );
        let both = [old.clone(), new.clone()];
        for states in [&[Retired, Active][..], &[Disabled, Active]] {
            let twins = planned(states, &both);
            assert_eq!((made(&twins), twins.drop), (vec![], vec!["a".to_owned()]));
            let twins = planned(states, &both[..1]);
            assert_eq!(twins.drop, ["a"]);
            assert_eq!(made(&twins), [index(doc! {"ssn.e2": 1}, "a~2")]);
        }
        // Without what makes it unique, the old one stays.
        let mut plain = new;
        plain.remove("unique");
        let refused = planned_with(&[Retired, Active], &[old, plain], &Known::new());
        assert!(refused.unwrap_err().to_string().contains("unique"));
    }

    #[test]
    fn a_twin_that_was_made_otherwise_is_made_again() {
        let mut other = index(doc! {"ssn.e2": 1}, "a~2");
        other.remove("unique");
        let existing = [index(doc! {"ssn.e1": 1}, "a"), other];
        let twins = planned(&[Active, Staged], &existing);
        let again = index(doc! {"ssn.e2": 1}, "a~2");
        assert_eq!(twins.make, [(again, Some("a~2".to_owned()))]);
    }

    #[test]
    fn what_this_key_file_does_not_know_is_left_and_told() {
        for (states, path) in [(&[Active][..], "ssn.e2"), (&[Active, Staged], "ssn.e2")] {
            let twins = planned(states, &[index(doc! {path: 1}, "a~2")]);
            assert_eq!(twins.notes.len(), 1);
            assert!(twins.make.is_empty() && twins.drop.is_empty());
        }
    }

    #[test]
    fn a_filter_by_tokens_is_translated_where_the_tokens_are_known() {
        let token = |byte: u8| {
            Bson::Binary(bson::Binary {
                subtype: bson::spec::BinarySubtype::Generic,
                bytes: vec![byte; 16],
            })
        };
        let partial = |epoch: &str, name: &str, byte: u8| {
            doc! {
                "v": 2, "key": {"name": 1}, "name": name,
                "partialFilterExpression": {"$and": [
                    {format!("ssn.{epoch}"): {"$exists": true}},
                    {format!("age.{epoch}"): {"$in": [token(byte)]}},
                ]},
            }
        };
        let existing = [partial("e1", "a", 7)];
        let policy = fixture::policy();
        let collection = policy.collection("shop.customers").unwrap();
        let found = compared(&collection, &existing);
        assert_eq!(found, [("age.e1".to_owned(), vec![7; 16])]);
        let refused = planned_with(&[Active, Staged], &existing, &Known::new());
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("partialFilterExpression")
        );
        let others = HashMap::from([("e2".to_owned(), vec![9; 16])]);
        let known = Known::from([(found[0].clone(), others)]);
        let twins = planned_with(&[Active, Staged], &existing, &known).unwrap();
        assert_eq!(made(&twins), [partial("e2", "a~2.2", 9)]);
    }
}
