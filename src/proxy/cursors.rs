//! Which open cursors hold documents in their collection's own shape, or its indexes.
//!
//! `getMore` names a cursor, not the command that opened it, and may come by
//! another connection of the same driver. A cursor that is not known here, as
//! after a restart or through another proxy, is still read: its values are opened
//! by their headers, only without the check that each is its field's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::policy::{Collection, Policy};
use crate::reveal::{self, ReplyPlan};

/// How many cursors are remembered; beyond that, some are forgotten.
const MOST: usize = 16_384;

/// A cursor of one member: the route, and MongoDB's number for it.
type Cursor = (usize, i64);

/// What a cursor holds, and of which collection.
#[derive(Debug, Clone)]
enum Open {
    Documents(Arc<str>),
    /// Documents that a pipeline made, in a shape whose fields have the keys of the
    /// policy of this number.
    Derived(Arc<Collection>, u64),
    Described(Arc<str>),
    Changes(Option<Arc<str>>),
    Results,
}

impl Open {
    /// What a cursor holds that is opened by a reply treated by `plan`; none if it
    /// is read on as any other.
    fn of(plan: &ReplyPlan, policy: &Policy) -> Option<Self> {
        let name = |collection: &Collection| collection.namespace.as_str().into();
        match plan {
            ReplyPlan::Documents(shape) if shape.derived => {
                Some(Self::Derived(Arc::clone(shape), policy.serial()))
            }
            ReplyPlan::Documents(collection) => Some(Self::Documents(name(collection))),
            ReplyPlan::Described(collection) => Some(Self::Described(name(collection))),
            ReplyPlan::Changes(collection) => Some(Self::Changes(collection.as_deref().map(name))),
            ReplyPlan::Results => Some(Self::Results),
            _ => None,
        }
    }

    /// The plan for what is read on, unless its collection is no longer sealed.
    fn plan(self, policy: &Policy) -> Option<ReplyPlan> {
        match self {
            Self::Documents(of) => policy.collection(&of).map(ReplyPlan::Documents),
            // Keys may have been disabled since.
            Self::Derived(_, serial) if serial != policy.serial() => None,
            Self::Derived(shape, _) => Some(ReplyPlan::Documents(shape)),
            Self::Described(of) => policy.collection(&of).map(ReplyPlan::Described),
            Self::Changes(of) => Some(ReplyPlan::Changes(of.and_then(|of| policy.collection(&of)))),
            Self::Results => Some(ReplyPlan::Results),
        }
    }
}

/// Open cursors and what they hold.
///
/// The lock is held for one look-up, and only where a command on a sealed
/// collection leaves a cursor open or a cursor is read on.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    open: Mutex<HashMap<Cursor, Open>>,
}

impl Cursors {
    /// The plan for a reply, with what is known of the cursor that it reads on.
    pub(super) fn settle(&self, route: usize, plan: ReplyPlan, policy: &Policy) -> ReplyPlan {
        let ReplyPlan::More(cursor) = plan else {
            return plan;
        };
        let open = self.lock().get(&(route, cursor)).cloned();
        open.and_then(|open| open.plan(policy))
            .unwrap_or(ReplyPlan::Relay)
    }

    /// Notes which cursor a reply treated by `plan` leaves open; `read` is the
    /// one that was read on, if it was.
    pub(super) fn note(
        &self,
        route: usize,
        plan: &ReplyPlan,
        policy: &Policy,
        read: Option<i64>,
        frame: &[u8],
    ) {
        let Some(holds) = Open::of(plan, policy) else {
            return;
        };

        let open = reveal::cursor(frame).filter(|cursor| *cursor != 0);
        if open == read {
            return;
        }
        let mut known = self.lock();
        if let Some(read) = read {
            known.remove(&(route, read));
        }
        if let Some(open) = open {
            if known.len() >= MOST
                && let Some(other) = known.keys().next().copied()
            {
                known.remove(&other);
            }
            known.insert((route, open), holds);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Cursor, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::doc;

    use super::*;
    use crate::policy::fixture;
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
                ReplyPlan::Documents(_)
            )
        };
        assert!(!known(0));
        cursors.note(0, &plan, &policy, None, &reply(7));
        assert!(known(0));
        assert!(!known(1), "another member's cursor of the same number");
        cursors.note(0, &plan, &policy, Some(7), &reply(7));
        assert!(known(0));
        cursors.note(0, &plan, &policy, Some(7), &reply(0));
        assert!(!known(0));

        cursors.note(
            0,
            &ReplyPlan::Described(collection),
            &policy,
            None,
            &reply(7),
        );
        let indexes = cursors.settle(0, ReplyPlan::More(7), &policy);
        assert!(matches!(indexes, ReplyPlan::Described(_)), "{indexes:?}");
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
        cursors.note(0, &plan, &policy, None, &reply);
        let of = |policy: &Policy| cursors.settle(0, ReplyPlan::More(7), policy);
        assert!(matches!(of(&policy), ReplyPlan::Documents(shape) if shape.derived));
        assert!(matches!(of(&fixture::policy()), ReplyPlan::Relay));
    }
}
