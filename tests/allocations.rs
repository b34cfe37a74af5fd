//! What a message costs in allocations does not grow with the documents in it.
//!
//! A binary of its own, for the counting replaces its allocator.
#![allow(clippy::unwrap_used, reason = "tests")]

use allocation_counter::measure;
use fieldseal::policy::Policy;
use fieldseal::reveal::{Reads, ReplyPlan, Revealed, reveal};
use fieldseal::rewrite::{Decision, decide};
use fieldseal::wire::Message;

#[path = "../benches/fixture/mod.rs"]
mod fixture;

/// How many allocations a request takes once the buffer has grown.
fn of_request(policy: &Policy, request: &[u8]) -> u64 {
    let mut scratch = Vec::with_capacity(4 * request.len());
    let mut decided = || {
        let message = Message::recognise(request).unwrap();
        let decision = decide(&message, policy, &mut scratch);
        assert!(matches!(decision, Decision::Forward { .. }));
    };
    decided();
    measure(decided).count_total
}

fn of_reply(policy: &Policy, reply: &[u8], plan: &ReplyPlan, expected: Revealed) -> u64 {
    let mut out = Vec::with_capacity(2 * reply.len());
    let mut revealed = || {
        let mut reads = Reads::default();
        let revealed = reveal(reply, plan, policy, &mut reads, &mut out);
        assert_eq!(revealed.unwrap(), expected);
    };
    revealed();
    measure(revealed).count_total
}

#[test]
fn an_insert_allocates_nothing_for_its_documents() {
    let policy = fixture::policy(fixture::SCHEMA);
    for collection in ["customers", "orders"] {
        let [one, thousand] =
            [1, 1000].map(|documents| of_request(&policy, &fixture::insert(collection, documents)));
        assert_eq!(one, thousand, "{collection}");
        assert!(one <= 2, "{collection}: {one} for the message");
    }
}

#[test]
fn a_reply_allocates_nothing_for_its_documents() {
    let policy = fixture::policy(fixture::SCHEMA);
    let counted = |documents| {
        let request = fixture::insert("customers", documents);
        let (reply, plan) = fixture::sealed_reply(&policy, &request);
        of_reply(&policy, &reply, &plan, Revealed::Rewritten)
    };
    assert_eq!([counted(1), counted(1000)], [0, 0]);
    let open = |documents| {
        let reply = fixture::open_reply(documents);
        of_reply(&policy, &reply, &ReplyPlan::Relay, Revealed::Unchanged)
    };
    assert_eq!([open(1), open(1000)], [0, 0]);
}
