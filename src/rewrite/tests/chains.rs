//! Random chains of stages: wherever a sealed field is moved to, what is compared
//! with it there does not go to MongoDB in plain.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// One step of a chain: what it does, with which names.
type Step = (u8, usize, usize);

/// Names that a chain gives.
const GIVEN: &[&str] = &["m", "n", "k.x"];

/// The stages of a chain; constants stand only where `ssn` was moved to.
fn stages(steps: &[Step]) -> Vec<Document> {
    let mut sealed = vec!["ssn"];
    let mut stages = Vec::new();
    for (what, of, to) in steps {
        let Some(name) = sealed.get(of % sealed.len().max(1)).copied() else {
            break;
        };
        let path = format!("${name}");
        let to = GIVEN[to % GIVEN.len()];
        let equal = doc! {"$eq": [path.clone(), CANARY]};
        match what % 10 {
            0 => stages.push(doc! {"$match": {name: CANARY}}),
            1 => stages.push(doc! {"$match": {name: {"$in": [CANARY, null]}}}),
            2 => stages.push(doc! {"$match": {"$expr": equal}}),
            3 => stages.push(doc! {"$set": {"told": {"$cond": [equal, 1, 2]}}}),
            4 => {
                stages.push(doc! {"$set": {to: path}});
                sealed.retain(|known| *known != to);
                sealed.push(to);
            }
            5 => {
                stages.push(doc! {"$project": {to: path}});
                sealed = vec![to];
            }
            6 => {
                stages.push(doc! {"$group": {"_id": path.clone(), "m": {"$first": path}}});
                sealed = vec!["_id", "m"];
            }
            7 => {
                stages.push(doc! {"$replaceWith": {"n": path}});
                sealed = vec!["n"];
            }
            8 => {
                stages.push(doc! {"$unset": name});
                sealed.retain(|known| *known != name);
            }
            _ => stages.push(
                doc! {"$set": {name: {"$cond": [{"$in": [path.clone(), [CANARY]]}, CANARY, path]}}},
            ),
        }
    }
    stages
}

#[test]
fn what_is_compared_with_a_moved_field_is_not_sent_in_plain() {
    let forwarded = Cell::new(0);
    let steps = prop::collection::vec((any::<u8>(), 0..4_usize, 0..4_usize), 1..7);
    let mut runner = TestRunner::new(Config {
        cases: 2_000,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&steps, |steps| {
        let command = doc! {"aggregate": "customers", "pipeline": stages(&steps), "cursor": {}};
        let frame = framed(&command);
        let message = Message::recognise(&frame).unwrap();
        let mut scratch = Vec::new();
        match decide(&message, &POLICY, &mut scratch) {
            Decision::Refuse(refusal) => {
                prop_assert!(!refusal.message.contains(CANARY), "{refusal}");
            }
            Decision::Forward { cleared, .. } => {
                forwarded.set(forwarded.get() + 1);
                let sent = memchr::memmem::find(cleared.bytes(), CANARY.as_bytes());
                prop_assert!(sent.is_none(), "{command}");
                prop_assert!(decided(&frame).is_ok());
            }
        }
        Ok(())
    });
    outcome.unwrap();
    // A test in which everything is refused would show nothing.
    assert!(forwarded.get() > 1_000, "{}", forwarded.get());
}
