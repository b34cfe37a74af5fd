//! What MongoDB last listed of the databases that have sealed collections: views
//! that reach them, and which of them have a collation of their own.
//!
//! A view has a name like any collection, and may have been made on MongoDB
//! itself. A filter on one that reaches a sealed collection would go to MongoDB
//! as it came, so such views have to be known before a command is decided on.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::{Collection, LONGEST_NAMESPACE};

/// For how long a listing is trusted.
const FRESH: Duration = Duration::from_secs(10);

/// The views of each database that reach sealed collections.
#[derive(Debug, Default)]
pub struct Views {
    listings: ArcSwap<HashMap<String, Arc<Listing>>>,
    /// Counts what was asked for and what was made old.
    clock: AtomicU64,
    /// When a command last made listings old. What was asked for before tells of what
    /// was before, whenever the answer comes.
    outdated: AtomicU64,
}

/// When a listing was asked for, by the count of [`Views`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AskedAt(u64);

/// What was listed of all databases when a name was looked up, and for how long that is trusted.
#[derive(Debug)]
pub struct Standing {
    /// Holds its place in memory, so that nothing that is listed later is taken for it.
    listings: Weak<HashMap<String, Arc<Listing>>>,
    /// None where nothing needs to be listed.
    until: Option<Instant>,
}

#[derive(Debug, Clone, Default)]
struct Listing {
    /// None while a first listing is being worked through.
    at: Option<Instant>,
    asked: AskedAt,
    reaching: Reaching,
    collated: HashSet<String>,
    /// Names that commands used when a listing was at hand that was made for them.
    used: HashSet<String>,
}

/// How many names of a database are kept as used.
const USED: usize = 10_000;

/// Views that reach sealed collections, and the shape of their documents, where
/// their stages could be followed.
pub type Reaching = HashMap<String, Option<Arc<Collection>>>;

impl Listing {
    fn fresh(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < FRESH)
    }
}

impl Views {
    /// Whether the database's views were listed a short while ago.
    pub fn fresh(&self, database: &str) -> bool {
        self.listings
            .load()
            .get(database)
            .is_some_and(|listing| listing.fresh())
    }

    /// Whether nothing was ever listed.
    pub fn is_empty(&self) -> bool {
        self.listings.load().is_empty()
    }

    /// Whether a listing of a short while ago, made when this name was first used or since,
    /// has no view of this name that reaches a sealed collection.
    pub fn is_known(&self, database: &str, name: &str) -> bool {
        self.listings.load().get(database).is_some_and(|listing| {
            listing.fresh() && listing.used.contains(name) && !listing.reaching.contains_key(name)
        })
    }

    /// What [`Self::is_known`] finds of a name, if that is so, to be found again by [`Self::stands`].
    pub fn known(&self, database: &str, name: &str) -> Option<Standing> {
        let listings = self.listings.load();
        let listing = listings.get(database)?;
        let known = listing.used.contains(name) && !listing.reaching.contains_key(name);
        Some(Standing {
            listings: Arc::downgrade(&listings),
            until: Some(listing.at.filter(|_| known)?.checked_add(FRESH)?),
        })
    }

    /// The same of a name in a database where nothing needs to be listed.
    pub fn unlisted(&self) -> Standing {
        Standing {
            listings: Arc::downgrade(&self.listings.load()),
            until: None,
        }
    }

    /// Whether nothing was listed or made old since, and what was listed is still trusted.
    pub fn stands(&self, standing: &Standing) -> bool {
        let same = std::ptr::eq(
            Arc::as_ptr(&self.listings.load()),
            standing.listings.as_ptr(),
        );
        same && standing.until.is_none_or(|until| Instant::now() < until)
    }

    /// Whether the name is that of a view which reaches a sealed collection.
    pub fn reaching(&self, database: &str, name: &str) -> bool {
        self.listings
            .load()
            .get(database)
            .is_some_and(|listing| listing.reaching.contains_key(name))
    }

    /// The shape of the documents of a view that reaches a sealed collection, if it
    /// is known.
    pub fn shape(&self, database: &str, name: &str) -> Option<Arc<Collection>> {
        let listings = self.listings.load();
        listings.get(database)?.reaching.get(name)?.clone()
    }

    /// Whether the name is that of a sealed collection whose strings MongoDB would
    /// compare by a collation.
    pub fn collated(&self, database: &str, name: &str) -> bool {
        self.listings
            .load()
            .get(database)
            .is_some_and(|listing| listing.collated.contains(name))
    }

    /// What is known of all databases but one, to list that one anew.
    #[must_use]
    pub fn beside(&self, database: &str) -> Self {
        let mut listings = HashMap::clone(&self.listings.load());
        listings.remove(database);
        Self {
            listings: ArcSwap::from_pointee(listings),
            ..Self::default()
        }
    }

    /// Whether a listing was made when this name was first used, or since.
    pub fn used(&self, database: &str, name: &str) -> bool {
        self.listings
            .load()
            .get(database)
            .is_some_and(|listing| listing.used.contains(name))
    }

    /// Notes names for which a listing was made.
    pub fn note_used<'n>(&self, database: &str, names: impl Iterator<Item = &'n str> + Clone) {
        let names = names.filter(|name| name.len() <= LONGEST_NAMESPACE);
        if names.clone().all(|name| self.used(database, name)) {
            return;
        }
        self.replace(database, |known| {
            let mut listing = known.cloned().unwrap_or_default();
            if listing.used.len() > USED {
                listing.used.clear();
            }
            listing.used.extend(names.clone().map(str::to_owned));
            listing
        });
    }

    /// Says that a listing is about to be asked for.
    pub fn ask(&self) -> AskedAt {
        AskedAt(self.clock.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Takes up a new listing of a database, unless one is known that was asked for later.
    pub fn learn(
        &self,
        database: &str,
        asked: AskedAt,
        reaching: Reaching,
        collated: HashSet<String>,
    ) {
        self.replace(database, |known| {
            if let Some(later) = known.filter(|known| known.asked > asked) {
                return later.clone();
            }
            let current = asked.0 > self.outdated.load(Ordering::SeqCst);
            Listing {
                at: current.then(Instant::now),
                asked,
                reaching: reaching.clone(),
                collated: collated.clone(),
                used: known.map(|known| known.used.clone()).unwrap_or_default(),
            }
        });
    }

    /// Takes what was listed for old, of one database or of all, because a command has
    /// changed it. It stays known until the next listing.
    pub fn outdate(&self, database: Option<&str>) {
        let now = self.clock.fetch_add(1, Ordering::SeqCst) + 1;
        self.outdated.fetch_max(now, Ordering::SeqCst);
        self.listings.rcu(|listings| {
            let mut now = HashMap::clone(listings);
            for (name, listing) in &mut now {
                if database.is_none_or(|database| database == name) {
                    *listing = Arc::new(Listing {
                        at: None,
                        ..Listing::clone(listing)
                    });
                }
            }
            now
        });
    }

    /// Adds to what is known of a database while a listing is worked through.
    pub fn add(&self, database: &str, reaching: &Reaching) {
        self.replace(database, |known| {
            let mut listing = known.cloned().unwrap_or_default();
            let reaching = reaching.iter();
            listing
                .reaching
                .extend(reaching.map(|(name, shape)| (name.clone(), shape.clone())));
            listing
        });
    }

    fn replace(&self, database: &str, make: impl Fn(Option<&Listing>) -> Listing) {
        self.listings.rcu(|listings| {
            let mut now = HashMap::clone(listings);
            // Databases come by pattern, and old ones may be gone.
            now.retain(|name, listing| name == database || listing.fresh());
            let listing = make(listings.get(database).map(|listing| &**listing));
            now.insert(database.to_owned(), Arc::new(listing));
            now
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_late_does_not_hide_a_view_that_was_made_since() {
        let views = Views::default();
        let none = Reaching::new;
        let made = || Reaching::from([("view".to_owned(), None)]);
        // Asked for before the view was made, answered afterwards: not to be trusted.
        let before = views.ask();
        views.outdate(Some("shop"));
        views.learn("shop", before, none(), HashSet::new());
        assert!(!views.fresh("shop"));
        views.learn("shop", views.ask(), made(), HashSet::new());
        assert!(views.fresh("shop") && views.reaching("shop", "view"));
        // Of two answers, the one that was asked for later holds.
        let (first, second) = (views.ask(), views.ask());
        views.learn("shop", second, made(), HashSet::new());
        views.learn("shop", first, none(), HashSet::new());
        assert!(views.fresh("shop") && views.reaching("shop", "view"));
    }

    #[test]
    fn a_name_that_nothing_has_is_not_kept() {
        let views = Views::default();
        let long = "x".repeat(LONGEST_NAMESPACE + 1);
        views.note_used("shop", [long.as_str(), "orders"].into_iter());
        assert!(views.used("shop", "orders"));
        assert!(!views.used("shop", &long));
    }

    #[test]
    fn what_is_found_while_listing_is_known_at_once_and_what_is_gone_afterwards_is_not() {
        let views = Views::default();
        let set = |names: &[&str]| {
            names
                .iter()
                .map(ToString::to_string)
                .collect::<HashSet<_>>()
        };
        let reaching = |names: &[&str]| -> Reaching {
            names
                .iter()
                .map(|name| ((*name).to_owned(), None))
                .collect()
        };
        assert!(!views.fresh("shop"));
        views.add("shop", &reaching(&["old"]));
        assert!(views.reaching("shop", "old") && !views.fresh("shop"));
        views.learn(
            "shop",
            views.ask(),
            reaching(&["old", "gold"]),
            set(&["people"]),
        );
        assert!(views.reaching("shop", "gold") && views.fresh("shop"));
        views.add("shop", &reaching(&["new"]));
        assert!(views.reaching("shop", "gold") && views.reaching("shop", "new"));
        assert!(views.collated("shop", "people") && !views.collated("shop", "gold"));
        views.learn("shop", views.ask(), reaching(&["new"]), HashSet::new());
        assert!(!views.collated("shop", "people"));
        assert!(!views.reaching("shop", "gold"));
        assert!(!views.reaching("other", "new"));
        assert!(!views.used("shop", "people"));
        views.note_used("shop", ["people", "new"].into_iter());
        views.learn("shop", views.ask(), reaching(&["new"]), HashSet::new());
        assert!(views.used("shop", "people") && !views.used("other", "people"));
        views.outdate(Some("other"));
        assert!(views.fresh("shop"));
        for database in [Some("shop"), None] {
            views.learn("shop", views.ask(), reaching(&["new"]), HashSet::new());
            views.outdate(database);
            assert!(!views.fresh("shop") && views.reaching("shop", "new"));
        }
    }
}
