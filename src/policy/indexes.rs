//! The indexes that MongoDB last listed of sealed collections, by the user's names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Collection, Shown};
use crate::raw::{Doc, Element, Malformed};

/// For how long a listing answers for hints.
const FRESH: Duration = Duration::from_secs(10);

/// Of how many collections listings are kept.
const LISTINGS: usize = 1_000;

type Result<T> = std::result::Result<T, Malformed>;

/// One index, as MongoDB listed it.
#[derive(Debug, Clone)]
struct Index {
    stored: String,
    users: String,
    shown: bool,
    /// Whether its filter alone tells it from the same index of another epoch.
    by_filter: bool,
    /// The index, in BSON.
    document: Vec<u8>,
}

/// An index that was found by its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'l> {
    /// The user's name of it.
    pub users: &'l str,
    /// The name under which it is stored.
    pub stored: &'l str,
    /// Whether one that is hidden has the same keys and another filter, or may have soon.
    pub ambiguous: bool,
}

/// The indexes of one collection.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    indexes: Vec<Index>,
}

impl Listed {
    /// Takes up the documents of a listing.
    pub fn of<'i>(
        collection: &Collection,
        listing: impl Iterator<Item = Result<Doc<'i>>>,
    ) -> Result<Self> {
        let mut indexes = Vec::new();
        for index in listing {
            let index = index?;
            let stored = index.find("name")?.and_then(|name| name.str());
            let (Some(stored), Some(shown)) = (stored, collection.shown(index)?) else {
                return Err(Malformed("an index has no name"));
            };
            indexes.push(Index {
                stored: stored.to_owned(),
                users: shown.name().to_owned(),
                shown: matches!(shown, Shown::As(_)),
                by_filter: collection.differs_by_filter(index)?,
                document: index.bytes().to_vec(),
            });
        }
        Ok(Self { indexes })
    }

    /// The stored name of the index that the user sees as `name`.
    pub fn stored(&self, name: &str) -> Option<&str> {
        let mut indexes = self.indexes.iter();
        let index = indexes.find(|index| index.shown && index.users == name)?;
        Some(&index.stored)
    }

    /// The stored names of the index `name` on the tokens of every epoch, the one that
    /// is shown first.
    pub fn of_all_epochs(&self, name: &str) -> Vec<&str> {
        let hidden = self.indexes.iter();
        let hidden = hidden.filter(|index| !index.shown && index.users == name);
        let hidden = hidden.map(|index| index.stored.as_str());
        self.stored(name).into_iter().chain(hidden).collect()
    }

    /// The one index that is shown with these keys, as they are stored; none if there
    /// are several.
    pub fn with_keys(&self, keys: Doc<'_>) -> Result<Option<Found<'_>>> {
        let mut found = None;
        for index in self.indexes.iter().filter(|index| index.shown) {
            let document = Doc::whole(&index.document)?;
            let own = document
                .find("key")?
                .ok_or(Malformed("an index has no keys"))?;
            if same_keys(own.doc()?, keys)? && found.replace(index).is_some() {
                return Ok(None);
            }
        }
        Ok(found.map(|index| Found {
            users: &index.users,
            stored: &index.stored,
            ambiguous: index.by_filter,
        }))
    }
}

/// Whether two key patterns are the same; 1 is 1.0 there.
fn same_keys(one: Doc<'_>, other: Doc<'_>) -> Result<bool> {
    let (mut one, mut other) = (one.elements(), other.elements());
    loop {
        match (one.next().transpose()?, other.next().transpose()?) {
            (None, None) => return Ok(true),
            (Some(one), Some(other)) if one.key == other.key && same_order(&one, &other) => {}
            _ => return Ok(false),
        }
    }
}

fn same_order(one: &Element<'_>, other: &Element<'_>) -> bool {
    match (one.integer(), other.integer()) {
        (Some(one), Some(other)) => one == other,
        _ => one.kind == other.kind && one.value() == other.value(),
    }
}

/// What MongoDB last listed, by namespace.
#[derive(Debug, Default)]
pub struct Indexes {
    listings: Mutex<HashMap<String, (Instant, Arc<Listed>)>>,
}

impl Indexes {
    fn with<R>(&self, run: impl FnOnce(&mut HashMap<String, (Instant, Arc<Listed>)>) -> R) -> R {
        run(&mut self.listings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last listing of a collection, however old.
    pub fn of(&self, namespace: &str) -> Option<Arc<Listed>> {
        self.with(|listings| Some(Arc::clone(&listings.get(namespace)?.1)))
    }

    /// The last listing of a collection, if it is a short while old at most.
    pub fn fresh(&self, namespace: &str) -> Option<Arc<Listed>> {
        self.with(|listings| {
            let (at, listed) = listings.get(namespace)?;
            (at.elapsed() < FRESH).then(|| Arc::clone(listed))
        })
    }

    /// Takes up a listing, or that there is none to be had.
    pub fn learn(&self, namespace: &str, listed: Option<Listed>) {
        self.with(|listings| {
            let Some(listed) = listed else {
                listings.remove(namespace);
                return;
            };
            if listings.len() >= LISTINGS {
                listings.clear();
            }
            listings.insert(namespace.to_owned(), (Instant::now(), Arc::new(listed)));
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Document, doc};

    use super::*;
    use crate::keyring::State::{Active, Retired};
    use crate::policy::fixture;

    fn bytes(document: &Document) -> Vec<u8> {
        bson::serialize_to_vec(document).unwrap()
    }

    #[test]
    fn an_index_is_found_by_the_users_name_and_by_its_keys_in_all_epochs() {
        let keyring = fixture::keyring_with_epochs(&[Retired, Active]);
        let policy = fixture::policy_with(keyring);
        let collection = policy.collection("shop.customers").unwrap();
        let documents = [
            bytes(&doc! {"key": {"_id": 1}, "name": "_id_"}),
            bytes(&doc! {"key": {"ssn.e1": 1}, "name": "mine"}),
            bytes(&doc! {"key": {"ssn.e2": 1}, "name": "mine~2"}),
            bytes(&doc! {"key": {"age.e2": 1}, "name": "a~2"}),
            bytes(&doc! {"key": {"age.e2": 1}, "name": "b~2"}),
            bytes(&doc! {"key": {"tags.e1": 1}, "name": "old"}),
            bytes(&doc! {"key": {"x": 1}, "name": "p", "partialFilterExpression": {"ssn.e1": 1}}),
            bytes(&doc! {"key": {"x": 1}, "name": "p~2", "partialFilterExpression": {"ssn.e2": 1}}),
        ];
        let listing = documents.iter().map(|document| Doc::whole(document));
        let listed = Listed::of(&collection, listing).unwrap();
        assert_eq!(listed.stored("mine"), Some("mine~2"));
        assert_eq!(listed.of_all_epochs("mine"), ["mine~2", "mine"]);
        assert_eq!(listed.of_all_epochs("a"), ["a~2"]);
        assert_eq!(
            (listed.stored("old"), listed.stored("mine~2")),
            (None, None)
        );
        assert_eq!(listed.of_all_epochs("old"), ["old"]);
        let with_keys = |keys: Document, users: &'static str| {
            let keys = bytes(&keys);
            let found = listed.with_keys(Doc::whole(&keys).unwrap()).unwrap();
            found.map(|found| {
                (
                    found.users == users,
                    found.stored.to_owned(),
                    found.ambiguous,
                )
            })
        };
        assert_eq!(
            with_keys(doc! {"ssn.e2": 1.0}, "mine"),
            Some((true, "mine~2".to_owned(), false))
        );
        assert_eq!(
            with_keys(doc! {"x": 1}, "p"),
            Some((true, "p~2".to_owned(), true))
        );
        for keys in [
            doc! {"ssn.e2": -1},
            doc! {"ssn.e1": 1},
            doc! {"age.e2": 1},
            doc! {},
        ] {
            assert_eq!(with_keys(keys, ""), None);
        }
    }

    #[test]
    fn a_listing_is_kept_until_there_is_none_to_be_had() {
        let indexes = Indexes::default();
        assert!(indexes.of("a.b").is_none());
        indexes.learn("a.b", Some(Listed::default()));
        assert!(indexes.of("a.b").is_some() && indexes.fresh("a.b").is_some());
        indexes.learn("a.b", None);
        assert!(indexes.of("a.b").is_none());
    }
}
