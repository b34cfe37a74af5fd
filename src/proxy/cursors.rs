//! Which open cursors hold documents in their collection's own shape, or its indexes.
//!
//! `getMore` names a cursor, not the command that opened it, and may come by
//! another connection of the same driver. A cursor that is not known here, as
//! after a restart or through another proxy, is still read: its values are opened
//! by their headers, only without the check that each is its field's own.
//!
//! Where fields are open to some roles alone, a cursor is read on under the roles that it
//! was opened under: who opened it chose and ordered its documents by what they may read.
//!
//! What is remembered holds no key and no credential: a cursor may be left open for as long as
//! the proxy runs, and what is taken out of its files has to leave its memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::access::RoleSet;
use crate::code::Code;
use crate::policy::{Collection, Cursor, Policy};
use crate::refusal::{Refusal, RefusalKind};
use crate::reveal::ReplyPlan;

/// How many cursors are remembered; beyond that, some are forgotten.
const MOST: usize = 16_384;

/// What a cursor holds, and of which collection.
#[derive(Debug, Clone)]
enum Open {
    Documents(Arc<str>),
    /// Documents that a pipeline made, in a shape that the policy of this number keeps.
    Derived(u64),
    Described(Arc<str>),
    Changes(Option<Arc<str>>),
    Results,
    /// Anything else; noted only for whose it is.
    Other,
}

/// The roles that a cursor was opened under.
#[derive(Debug, Clone)]
struct Opener {
    /// The names of the roles, by their numbers.
    names: Arc<[String]>,
    /// None if fields were open to all.
    roles: Option<RoleSet>,
    /// Whether a field was closed to them.
    masked: bool,
}

impl Opener {
    fn of(policy: &Policy) -> Self {
        Self {
            names: Arc::clone(policy.access().numbered_roles()),
            roles: policy.roles(),
            masked: policy.masks_unknown(),
        }
    }

    /// Whether who `policy` is for may read on: they have the same roles, or every field
    /// is open to both.
    fn lets(&self, policy: &Policy) -> bool {
        let names = policy.access().numbered_roles();
        let same = match (self.roles, policy.roles()) {
            (None, None) => true,
            (Some(own), Some(roles)) if Arc::ptr_eq(&self.names, names) => own == roles,
            // Another configuration is in force since.
            (Some(own), Some(roles)) => own.names(&self.names).eq(roles.names(names)),
            _ => false,
        };
        same || !self.masked && !policy.masks_unknown()
    }
}

impl Open {
    /// Whether there is anything to note of a cursor that is opened by a reply treated by `plan`.
    fn is_noted(plan: &ReplyPlan, policy: &Policy) -> bool {
        match plan {
            ReplyPlan::Documents(_)
            | ReplyPlan::Described(_)
            | ReplyPlan::Changes(_)
            | ReplyPlan::Results => true,
            _ => policy.roles().is_some(),
        }
    }

    /// What a cursor holds that is opened by a reply treated by `plan`.
    fn of(plan: &ReplyPlan, policy: &Policy) -> Self {
        let name = |collection: &Collection| collection.namespace.as_str().into();
        match plan {
            ReplyPlan::Documents(shape) if shape.derived => Self::Derived(policy.serial()),
            ReplyPlan::Documents(collection) => Self::Documents(name(collection)),
            ReplyPlan::Described(collection) => Self::Described(name(collection)),
            ReplyPlan::Changes(collection) => Self::Changes(collection.as_deref().map(name)),
            ReplyPlan::Results => Self::Results,
            _ => Self::Other,
        }
    }

    /// The plan for what is read on, unless its collection is no longer sealed.
    fn plan(self, cursor: Cursor, policy: &Policy) -> Option<ReplyPlan> {
        match self {
            Self::Documents(of) => policy.collection(&of).map(ReplyPlan::Documents),
            // Keys may have been disabled since.
            Self::Derived(serial) if serial != policy.serial() => None,
            Self::Derived(_) => policy.kept_shape(cursor).map(ReplyPlan::Documents),
            Self::Described(of) => policy.collection(&of).map(ReplyPlan::Described),
            Self::Changes(of) => Some(ReplyPlan::Changes(of.and_then(|of| policy.collection(&of)))),
            Self::Results => Some(ReplyPlan::Results),
            Self::Other => None,
        }
    }
}

/// Open cursors and what they hold.
///
/// The lock is held for one look-up, and only where a command on a sealed
/// collection leaves a cursor open or a cursor is read on.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    open: Mutex<HashMap<Cursor, (Open, Opener)>>,
}

impl Cursors {
    /// The plan for a reply, with what is known of the cursor that it reads on. Refused if
    /// that is not for who the policy is for.
    pub(super) fn settle(
        &self,
        route: usize,
        plan: ReplyPlan,
        policy: &Policy,
    ) -> Result<ReplyPlan, Refusal> {
        let ReplyPlan::More(cursor) = plan else {
            return Ok(plan);
        };
        let known = self.lock().get(&(route, cursor)).cloned();
        if known
            .as_ref()
            .is_some_and(|(_, opener)| !opener.lets(policy))
        {
            return Err(refuse(
                "the cursor was opened by who has other roles; run its query yourself",
            ));
        }
        let others = matches!(known, Some((Open::Other, _)));
        match known.and_then(|(open, _)| open.plan((route, cursor), policy)) {
            Some(plan) => Ok(plan),
            None if policy.masks_plain() && !others => Err(refuse(
                "of which query the cursor is was forgotten, and it may hold plain values of a field that you may not read; run the query again",
            )),
            None => Ok(ReplyPlan::Relay),
        }
    }

    /// Notes which cursor a reply treated by `plan` leaves open; `read` is the
    /// one that was read on, if it was. `open` reads the cursor's number from the reply.
    pub(super) fn note(
        &self,
        route: usize,
        plan: &ReplyPlan,
        policy: &Policy,
        read: Option<i64>,
        open: impl FnOnce() -> Option<i64>,
    ) {
        // What nearly all replies are: of a plan that opens none, or read to the end at once.
        if !Open::is_noted(plan, policy) {
            return;
        }
        let open = open().filter(|cursor| *cursor != 0);
        if open == read {
            return;
        }
        let mut known = self.lock();
        if let Some(read) = read {
            forget(&mut known, (route, read), policy);
        }
        let Some(open) = open.map(|open| (route, open)) else {
            return;
        };
        forget(&mut known, open, policy);
        if known.len() >= MOST
            && let Some(other) = known.keys().next().copied()
        {
            forget(&mut known, other, policy);
        }
        known.insert(open, (Open::of(plan, policy), Opener::of(policy)));
        if let ReplyPlan::Documents(shape) = plan
            && shape.derived
        {
            policy.keep_shape(open, Arc::clone(shape));
        }
    }

    /// Forgets cursors that are closed.
    pub(super) fn closed(
        &self,
        route: usize,
        cursors: impl IntoIterator<Item = i64>,
        policy: &Policy,
    ) {
        let mut known = self.lock();
        for cursor in cursors {
            forget(&mut known, (route, cursor), policy);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Cursor, (Open, Opener)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a cursor, and its shape; that of a policy that is no longer in force ends with it.
fn forget(known: &mut HashMap<Cursor, (Open, Opener)>, cursor: Cursor, policy: &Policy) {
    if let Some((Open::Derived(_), _)) = known.remove(&cursor) {
        policy.forget_shape(cursor);
    }
}

fn refuse(why: &str) -> Refusal {
    Refusal::new(RefusalKind::Unauthorized, format_args!("getMore: {why}"))
        .coded(Code::RolesChanged)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::doc;

    use super::*;
    use crate::policy::fixture;
    use crate::reveal;
    use crate::schema::AccessRule;
    use crate::wire::testing::{body, msg};

    #[test]
    fn a_cursor_is_known_from_the_find_that_opened_it_to_its_last_batch() {
        let policy = fixture::policy();
        let collection = policy.collection("shop.customers").unwrap();
        let plan = ReplyPlan::Documents(Arc::clone(&collection));
        let cursors = Cursors::default();
        let reply = |id: i64| {
            msg(
                0,
                &body(&doc! {"cursor": {"firstBatch": [], "id": id}, "ok": 1.0}),
            )
        };
        let known = |route| {
            matches!(
                cursors.settle(route, ReplyPlan::More(7), &policy),
                Ok(ReplyPlan::Documents(_))
            )
        };
        assert!(!known(0));
        cursors.note(0, &plan, &policy, None, || reveal::cursor(&reply(7)));
        assert!(known(0));
        assert!(!known(1), "another member's cursor of the same number");
        cursors.note(0, &plan, &policy, Some(7), || reveal::cursor(&reply(7)));
        assert!(known(0));
        cursors.note(0, &plan, &policy, Some(7), || reveal::cursor(&reply(0)));
        assert!(!known(0));

        cursors.note(0, &ReplyPlan::Described(collection), &policy, None, || {
            reveal::cursor(&reply(7))
        });
        let indexes = cursors.settle(0, ReplyPlan::More(7), &policy);
        assert!(
            matches!(indexes, Ok(ReplyPlan::Described(_))),
            "{indexes:?}"
        );
    }

    #[test]
    fn the_shape_that_a_pipeline_made_is_known_under_its_policy_alone() {
        let policy = fixture::policy();
        let stored = policy.collection("shop.customers").unwrap();
        let shape = Collection::derived(
            "shop.view",
            stored.on_plaintext,
            stored.tree.clone(),
            vec![],
        );
        let cursors = Cursors::default();
        let reply = msg(
            0,
            &body(&doc! {"cursor": {"firstBatch": [], "id": 7_i64}, "ok": 1.0}),
        );
        let plan = ReplyPlan::Documents(Arc::new(shape));
        cursors.note(0, &plan, &policy, None, || reveal::cursor(&reply));
        let of = |policy: &Policy| cursors.settle(0, ReplyPlan::More(7), policy);
        assert!(matches!(of(&policy), Ok(ReplyPlan::Documents(shape)) if shape.derived));
        assert!(matches!(of(&fixture::policy()), Ok(ReplyPlan::Relay)));
    }

    #[test]
    fn a_cursor_that_is_never_read_on_keeps_no_key_and_no_credential_of_a_policy_that_is_gone() {
        let policy = held_by(&["reader"]);
        let stored = policy.collection("shop.customers").unwrap();
        let (tree, fields) = (stored.tree.clone(), stored.fields().to_vec());
        let (field, access) = (Arc::downgrade(&fields[0]), Arc::downgrade(policy.access()));
        let shape = Collection::derived("shop.view", stored.on_plaintext, tree, fields);
        let cursors = Cursors::default();
        for plan in [ReplyPlan::Documents(Arc::new(shape)), ReplyPlan::Relay] {
            open(&cursors, &plan, &policy, None);
        }
        drop((stored, policy));
        assert!(!cursors.lock().is_empty());
        assert!(field.upgrade().is_none() && access.upgrade().is_none());
    }

    #[test]
    fn a_cursor_that_is_closed_is_forgotten_with_its_shape() {
        let policy = fixture::policy();
        let stored = policy.collection("shop.customers").unwrap();
        let (tree, fields) = (stored.tree.clone(), stored.fields().to_vec());
        let shape = Arc::new(Collection::derived(
            "shop.view",
            stored.on_plaintext,
            tree,
            fields,
        ));
        let (held, plan) = (Arc::downgrade(&shape), ReplyPlan::Documents(shape));
        let cursors = Cursors::default();
        let ends: [fn(&Cursors, &ReplyPlan, &Policy); 3] = [
            |cursors, _, policy| cursors.closed(0, [7], policy),
            |cursors, plan, policy| {
                let last = doc! {"cursor": {"nextBatch": [], "id": 0_i64}, "ok": 1.0};
                cursors.note(0, plan, policy, Some(7), || {
                    reveal::cursor(&msg(0, &body(&last)))
                });
            },
            // MongoDB has given its number to another one.
            |cursors, _, policy| open(cursors, &ReplyPlan::Results, policy, None),
        ];
        for end in ends {
            open(&cursors, &plan, &policy, None);
            assert!(held.strong_count() > 1);
            cursors.closed(1, [7], &policy);
            assert!(held.strong_count() > 1, "another member's cursor");
            end(&cursors, &plan, &policy);
            assert_eq!(held.strong_count(), 1);
        }
    }

    fn open(cursors: &Cursors, plan: &ReplyPlan, policy: &Policy, read: Option<i64>) {
        let reply = msg(
            0,
            &body(&doc! {"cursor": {"nextBatch": [], "id": 7_i64}, "ok": 1.0}),
        );
        cursors.note(0, plan, policy, read, || reveal::cursor(&reply));
    }

    fn held_by(roles: &[&str]) -> Arc<Policy> {
        let rule = AccessRule {
            read: Some(vec!["reader".to_owned()]),
            ..AccessRule::default()
        };
        fixture::held_by(&rule, roles)
    }

    #[test]
    fn a_cursor_is_read_on_under_the_roles_that_it_was_opened_under() {
        let kind = |read: Result<ReplyPlan, Refusal>| read.map(drop).map_err(|no| no.kind);
        let refused = Err(RefusalKind::Unauthorized);
        let cases: [(&[&str], &[&str], _); 5] = [
            (&["reader"], &["reader"], Ok(())),
            (&["writer"], &["writer"], Ok(())),
            (&["reader"], &["writer"], refused),
            (&["writer"], &["reader"], refused),
            // Every field is open to both.
            (&["reader"], &["reader", "writer"], Ok(())),
        ];
        for (opener, reader, expected) in cases {
            let (opener, reader) = (held_by(opener), held_by(reader));
            let stored = opener.collection("shop.customers").unwrap();
            for plan in [ReplyPlan::Documents(stored), ReplyPlan::Relay] {
                let cursors = Cursors::default();
                open(&cursors, &plan, &opener, None);
                let read = || cursors.settle(0, ReplyPlan::More(7), &reader);
                assert_eq!(kind(read()), expected, "{plan:?}");
                // Reading it does not make it one's own.
                open(&cursors, &plan, &reader, Some(7));
                assert_eq!(kind(read()), expected, "{plan:?}");
            }
        }
    }

    #[test]
    fn without_roles_only_cursors_whose_shape_matters_are_remembered() {
        let policy = fixture::policy();
        let cursors = Cursors::default();
        open(&cursors, &ReplyPlan::Relay, &policy, None);
        assert!(cursors.lock().is_empty());
    }

    #[test]
    fn an_unknown_cursor_is_read_unless_it_may_hold_what_no_header_tells_of() {
        let cursors = Cursors::default();
        let read = |policy: &Policy| cursors.settle(0, ReplyPlan::More(9), policy);
        assert!(read(&fixture::policy()).is_ok());
        assert!(read(&held_by(&["reader"])).is_ok());
        // In `shop.moving` values may be plain.
        assert!(read(&held_by(&["writer"])).is_err());
    }
}
