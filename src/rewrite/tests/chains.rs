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

/// Whether a pipeline is refused, without a crash and without using up memory.
fn is_refused(stages: Vec<Document>) -> bool {
    let command = doc! {"aggregate": "customers", "pipeline": stages, "cursor": {}};
    decided(&framed(&command)).is_err()
}

#[test]
fn documents_that_grow_from_stage_to_stage_are_followed_to_some_size_only() {
    let doubled = doc! {"$set": {"x": {"a": "$$ROOT", "b": "$$ROOT"}}};
    let deeper = doc! {"$replaceWith": {"a": "$$ROOT"}};
    let in_arrays = doc! {"$set": {"ssn": ["$ssn"]}};
    for stage in [&doubled, &deeper, &in_arrays] {
        assert!(!is_refused(vec![stage.clone(); 3]), "{stage}");
    }
    assert!(is_refused(vec![doubled; 40]));
    assert!(is_refused(vec![deeper; 999]));
    let mut grouped = vec![in_arrays; 60];
    grouped.push(doc! {"$group": {"_id": "$ssn"}});
    assert!(is_refused(grouped));
    assert!(is_refused(vec![doc! {"$skip": 1}; 20_000]));

    let wide: Document = (0..40_000)
        .map(|n| (format!("a{n}"), "$$ROOT".into()))
        .collect();
    assert!(is_refused(vec![doc! {"$set": {"x": wide.clone()}}]));
    assert!(is_refused(vec![
        doc! {"$project": {"_id": {"$let": {"vars": wide, "in": "$$a1.ssn"}}}}
    ]));
    let numbers: Document = (0..40_000)
        .map(|n| (format!("contacts.a.{n}"), 1.into()))
        .collect();
    let _ = decided(&framed(
        &doc! {"aggregate": "customers", "pipeline": [{"$project": numbers}], "cursor": {}},
    ));
    let long = vec!["a"; 50_000].join(".");
    assert!(is_refused(vec![doc! {"$set": {long.clone(): "$ssn"}}]));
    let _ = decided(&framed(
        &doc! {"aggregate": "customers", "pipeline": [{"$unset": long}], "cursor": {}},
    ));
    let facets: Document = (0..20_000)
        .map(|n| (format!("f{n}"), Vec::<Bson>::new().into()))
        .collect();
    assert!(is_refused(vec![doc! {"$facet": facets}]));
    let variables: Document = (0..40_000).map(|n| (format!("v{n}"), n.into())).collect();
    let joined = doc! {"from": "orders", "let": variables, "pipeline": [], "as": "x"};
    assert!(is_refused(vec![doc! {"$lookup": joined}]));
}

#[test]
fn comparisons_that_mongodb_would_only_refuse_are_not_sent() {
    for malformed in [
        doc! {"$eq": ["$ssn", null, CANARY]},
        doc! {"$gt": ["$ssn", null, CANARY]},
        doc! {"$eq": ["$ssn", CANARY, 1]},
    ] {
        assert!(is_refused(vec![doc! {"$match": {"$expr": malformed}}]));
    }
    for update in [
        doc! {"$eq": ["$ssn", CANARY]},
        doc! {"a": {"b": 1, "$eq": ["$ssn", CANARY]}},
    ] {
        let command = doc! {"findAndModify": "customers", "update": [{"$set": update}]};
        assert!(decided(&framed(&command)).is_err(), "{command}");
    }
}

#[test]
fn what_mongodb_says_of_indexes_is_shown_and_not_looked_at_by_stages() {
    let stages = |second: Document| {
        doc! {"aggregate": "customers", "pipeline": [{"$indexStats": {}}, second], "cursor": {}}
    };
    for looks in [
        doc! {"$match": {"key.ssn": 1}},
        doc! {"$match": {"spec": {"name": "ssn_1"}}},
        doc! {"$group": {"_id": "$key"}},
        doc! {"$match": {"$expr": {"$eq": ["$key.ssn", 1]}}},
    ] {
        assert!(decided(&framed(&stages(looks.clone()))).is_err(), "{looks}");
    }
    for passed in [
        doc! {"$match": {"accesses.ops": {"$gt": 1}}},
        doc! {"$project": {"key": 1, "accesses": 1}},
        doc! {"$sort": {"accesses.ops": 1}},
    ] {
        passes(stages(passed));
    }
}
