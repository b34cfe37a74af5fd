//! Names that a command of before was decided on, so that the next one on the same is not
//! looked up again.
//!
//! What is kept of a name is what the long way finds of it: that its database's views need
//! not be listed, and whether it is a collection that nothing reaches sealed fields from. That
//! depends on nothing but the policy, what is listed of its views and the name; so it holds for
//! as long as these are the same, and is forgotten with any of them. What a command holds
//! besides is looked at all the same.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use super::command::{Command, Request, Target};
use super::table::Family;
use crate::policy::{Policy, Standing, Views};

/// How many names a thread keeps; another one of the same place takes it.
const PLACES: usize = 256;

/// Longer names are looked up each time, and take no memory here.
const LONGEST: usize = 96;

thread_local! {
    static FAMILIAR: RefCell<Vec<Option<Familiar>>> = const { RefCell::new(Vec::new()) };
}

/// One name, and what was found of it.
#[derive(Debug)]
struct Familiar {
    /// Holds its place in memory, so that no other policy is taken for it.
    policy: Weak<Policy>,
    database: Box<str>,
    name: Box<str>,
    standing: Standing,
    is_open: bool,
}

/// What is known of the one name of a command, under one policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Where that policy is.
    policy: usize,
    is_open: bool,
}

/// What a command names, if that is one collection or view and the family asks nothing else of
/// the database's other collections.
fn name_of<'m>(command: &Command<'m>) -> Option<&'m str> {
    let one = matches!(
        command.family,
        Family::Find
            | Family::Insert
            | Family::Update
            | Family::Delete
            | Family::FindAndModify
            | Family::Count
            | Family::Distinct
    );
    match command.target() {
        Target::Collection(name) if one => Some(name),
        _ => None,
    }
}

/// Where a name is kept.
fn place(database: &str, name: &str) -> usize {
    // FNV-1a: who finds two names of one place has both looked up each time.
    let bytes = database.bytes().chain([b'.']).chain(name.bytes());
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    usize::try_from(hash >> 32).unwrap_or(0) % PLACES
}

fn address(policy: &Policy) -> usize {
    std::ptr::from_ref(policy).addr()
}

impl Familiar {
    /// What the long way finds of a name.
    fn look_up(policy: &Arc<Policy>, command: &Command<'_>, name: &str) -> Option<Self> {
        let (database, views) = (command.database, policy.views());
        let standing = if policy.may_seal_in(database) {
            views.known(database, name)?
        } else {
            views.unlisted()
        };
        // Those of the system are told apart by name and family.
        let is_open = !matches!(database, "local" | "config")
            && !name.starts_with("system.")
            && !views.reaching(database, name)
            && command.collection(policy, name).is_none();
        // Nothing of it may have become old meanwhile.
        views.stands(&standing).then(|| Self {
            policy: Arc::downgrade(policy),
            database: database.into(),
            name: name.into(),
            standing,
            is_open,
        })
    }

    fn is_of(&self, policy: &Policy, database: &str, name: &str) -> bool {
        std::ptr::eq(self.policy.as_ptr(), policy)
            && *self.database == *database
            && *self.name == *name
            && policy.views().stands(&self.standing)
    }
}

impl Request<'_> {
    /// Finds what is known of the one name of this command under `policy`; if it is not, that
    /// is kept for the next one. `own` is what its client alone was told of views.
    pub fn recognise_name(&mut self, policy: &Arc<Policy>, own: &Views) {
        self.known = None;
        if policy.is_empty() || !own.is_empty() {
            return;
        }
        let Some(command) = self.command() else {
            return;
        };
        let (database, name) = match name_of(command) {
            Some(name) if command.database.len() + name.len() <= LONGEST => {
                (command.database, name)
            }
            _ => return,
        };
        let is_open = FAMILIAR.with_borrow_mut(|places| {
            if places.is_empty() {
                places.resize_with(PLACES, || None);
            }
            let kept = places.get_mut(place(database, name))?;
            match kept {
                Some(familiar) if familiar.is_of(policy, database, name) => {}
                _ => *kept = Familiar::look_up(policy, command, name),
            }
            kept.as_ref().map(|familiar| familiar.is_open)
        });
        self.known = is_open.map(|is_open| Known {
            policy: address(policy),
            is_open,
        });
    }

    /// Whether the views of what it names need not be listed.
    pub(super) fn is_known(&self, policy: &Policy) -> bool {
        self.known
            .is_some_and(|known| known.policy == address(policy))
    }

    /// Whether what it names is open, and nothing of it is to be rewritten.
    pub fn is_open(&self, policy: &Policy) -> bool {
        self.known
            .is_some_and(|known| known.policy == address(policy) && known.is_open)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::HashSet;

    use bson::{Document, doc};
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::policy::{Reaching, fixture};
    use crate::rewrite::{Decision, decide_request, indexes, views};
    use crate::schema::AccessRule;
    use crate::wire::Message;
    use crate::wire::testing::{body, msg};

    const DATABASES: &[&str] = &["shop", "tenant_a", "other", "local", "config"];

    const NAMES: &[&str] = &[
        "customers",
        "orders",
        "moving",
        "people",
        "view",
        "system.views",
        "system.js",
        "system.profile",
        "system.buckets.customers",
        "image_collection",
        "",
        "a\0b",
    ];

    /// What happens between a client and the proxy, or to what the proxy knows.
    #[derive(Debug, Clone)]
    enum Event {
        Ask(Document),
        /// A listing of this database in which `view` reaches a sealed collection, or does not.
        Listed(&'static str, bool),
        /// Names are used in a database that was just listed.
        Used(&'static str),
        /// A command changed the views of this database, or of all.
        Outdated(Option<&'static str>),
        /// The client itself was told of names of views.
        Told(&'static str),
        /// Another policy is in force, one of those that there are.
        Policy(usize),
    }

    fn command() -> impl Strategy<Value = Document> {
        let names = [
            "find",
            "insert",
            "update",
            "delete",
            "count",
            "distinct",
            "findAndModify",
            "findandmodify",
            "aggregate",
            "drop",
            "create",
            "listIndexes",
            "getMore",
            "ping",
            "authenticate",
            "nonsense",
            "explain",
        ];
        let target = prop_oneof![
            6 => select(NAMES).prop_map(bson::Bson::from),
            1 => Just(bson::Bson::Int32(1)),
            1 => Just(bson::Bson::Symbol("orders".to_owned())),
        ];
        let extra = select(vec![
            doc! {},
            doc! {"filter": {"ssn": "1"}},
            doc! {"filter": {"$where": "1"}},
            doc! {"query": {"name": 1}, "update": {"$set": {"a": 1}}},
            doc! {"documents": [{"a": 1, "ssn": "078"}]},
            doc! {"updates": [{"q": {}, "u": {"$set": {"ssn": "1"}}}]},
            doc! {"deletes": [{"q": {"a": 1}, "limit": 1}]},
            doc! {"key": "ssn", "hint": "ssn_1"},
            doc! {"pipeline": [{"$lookup": {"from": "view", "as": "x", "pipeline": []}}]},
        ]);
        (select(names.to_vec()), target, extra, select(DATABASES)).prop_map(
            |(name, target, extra, database)| {
                let mut command = doc! {name: target};
                command.extend(extra);
                command.insert("$db", database);
                command
            },
        )
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            12 => command().prop_map(Event::Ask),
            2 => (select(DATABASES), any::<bool>()).prop_map(|(of, reaches)| Event::Listed(of, reaches)),
            2 => select(DATABASES).prop_map(Event::Used),
            1 => proptest::option::of(select(DATABASES)).prop_map(Event::Outdated),
            1 => select(DATABASES).prop_map(Event::Told),
            1 => (0..4_usize).prop_map(Event::Policy),
        ]
    }

    fn policies() -> Vec<Arc<Policy>> {
        let rule = AccessRule {
            read: Some(vec!["reader".to_owned()]),
            ..AccessRule::default()
        };
        vec![
            Arc::new(fixture::policy()),
            Arc::new(fixture::policy()),
            fixture::held_by(&rule, &["reader"]),
            fixture::held_by(&rule, &["writer"]),
        ]
    }

    /// All that a session asks of a request before it sends it on.
    fn found(request: &Request<'_>, policy: &Policy, own: &Views) -> String {
        let mut out = Vec::new();
        let unlisted = views::unlisted(request, policy, own);
        let unknown = views::refuse_unknown(request, policy, own);
        let indexes = indexes::unlisted(request, policy);
        let frame = request.message().frame().as_ptr();
        let decided = match decide_request(request, policy, &mut out) {
            Decision::Refuse(refusal) => format!("{refusal:?}"),
            Decision::Forward { cleared, plan } => {
                let (kind, of) = (std::mem::discriminant(&plan), plan.collection());
                let of = of.map(|collection| collection.namespace.clone());
                let refused = plan.refused().len();
                format!(
                    "{} {kind:?} {of:?} {refused}",
                    cleared.bytes().as_ptr() == frame
                )
            }
        };
        format!("{unlisted:?} {unknown:?} {indexes:?} {decided}")
    }

    proptest! {
        #[test]
        fn what_is_known_of_a_name_is_what_is_found_without(
            events in proptest::collection::vec(event(), 1..60)
        ) {
            let policies = policies();
            let mut policy = &policies[0];
            let mut own = Views::default();
            for event in events {
                match event {
                    Event::Ask(command) => {
                        let frame = msg(0, &body(&command));
                        let message = Message::recognise(&frame).unwrap();
                        let expected = found(&Request::of(&message), policy, &own);
                        // The first may be looked up, the second is familiar.
                        for _ in 0..2 {
                            let mut request = Request::of(&message);
                            request.recognise_name(policy, &own);
                            prop_assert_eq!(&found(&request, policy, &own), &expected);
                        }
                        own = if own.is_empty() { own } else { Views::default() };
                    }
                    Event::Listed(of, reaches) => {
                        let reaching = reaches.then(|| ("view".to_owned(), None));
                        let asked = policy.views().ask();
                        let reaching = reaching.into_iter().collect::<Reaching>();
                        policy.views().learn(of, asked, reaching, HashSet::new());
                    }
                    Event::Used(of) => policy.views().note_used(of, NAMES.iter().copied()),
                    Event::Outdated(of) => policy.views().outdate(of),
                    Event::Told(of) => {
                        let told = Reaching::from([("orders".to_owned(), None)]);
                        own.learn(of, own.ask(), told, HashSet::new());
                    }
                    Event::Policy(number) => policy = &policies[number],
                }
            }
        }
    }

    fn open_under(policy: &Arc<Policy>, command: &Document) -> (bool, bool) {
        let frame = msg(0, &body(command));
        let message = Message::recognise(&frame).unwrap();
        let mut request = Request::of(&message);
        request.recognise_name(policy, &Views::default());
        (request.is_known(policy), request.is_open(policy))
    }

    #[test]
    fn a_name_is_familiar_until_its_database_is_changed_and_under_its_policy_alone() {
        let policy = Arc::new(fixture::policy());
        let find = doc! {"find": "orders", "$db": "shop"};
        assert_eq!(open_under(&policy, &find), (false, false), "never listed");
        let listed = |policy: &Policy, reaching: Reaching| {
            let views = policy.views();
            views.learn("shop", views.ask(), reaching, HashSet::new());
            views.note_used("shop", ["orders", "customers"].into_iter());
        };
        listed(&policy, Reaching::new());
        assert_eq!(open_under(&policy, &find), (true, true));
        let sealed = doc! {"find": "customers", "$db": "shop"};
        assert_eq!(open_under(&policy, &sealed), (true, false));
        let aggregate = doc! {"aggregate": "orders", "pipeline": [], "$db": "shop"};
        assert_eq!(open_under(&policy, &aggregate), (false, false));
        assert_eq!(
            open_under(&Arc::new(fixture::policy()), &find),
            (false, false)
        );

        // Made a view of a sealed collection since, first by a client, then by somebody else.
        policy.outdate_views(Some("shop"));
        assert_eq!(open_under(&policy, &find), (false, false));
        listed(&policy, Reaching::new());
        assert_eq!(open_under(&policy, &find), (true, true));
        listed(&policy, Reaching::from([("orders".to_owned(), None)]));
        assert_eq!(open_under(&policy, &find), (false, false));
    }

    #[test]
    fn what_is_known_under_one_policy_is_not_taken_for_what_is_under_another() {
        let (policy, other) = (Arc::new(fixture::policy()), fixture::policy());
        let frame = msg(0, &body(&doc! {"find": "orders", "$db": "elsewhere"}));
        let message = Message::recognise(&frame).unwrap();
        let mut request = Request::of(&message);
        request.recognise_name(&policy, &Views::default());
        assert!(request.is_open(&policy));
        assert!(!request.is_open(&other) && !request.is_known(&other));
    }
}
