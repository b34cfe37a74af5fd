//! Indexes on tokens of several epochs, as clients are told of them.

use super::*;
use crate::keyring::State::{Active, Retired};

fn policy() -> Policy {
    fixture::policy_with(fixture::keyring_with_epochs(&[Retired, Active]))
}

fn described(policy: &Policy) -> ReplyPlan {
    ReplyPlan::Described(collection(policy, "shop.customers"))
}

fn index(key: Document, name: &str) -> Document {
    doc! {"v": 2, "key": key, "name": name}
}

#[test]
fn a_listing_shows_the_indexes_of_the_active_epoch_under_the_users_names() {
    let policy = policy();
    let partial = |path: &str, name: &str| doc! {"key": {"name": 1}, "name": name, "partialFilterExpression": {path: {"$exists": true}}};
    let stored = batch(vec![
        index(doc! {"_id": 1}, "_id_"),
        index(doc! {"ssn.e1": 1}, "a"),
        index(doc! {"ssn.e2": 1}, "a~2"),
        partial("ssn.e1", "b"),
        partial("ssn.e2", "b~2"),
        index(doc! {"age.e2": 1, "tags.e1": 1}, "c~2.1"),
        index(doc! {"name": 1}, "own~2"),
    ]);
    let expected = batch(vec![
        index(doc! {"_id": 1}, "_id_"),
        index(doc! {"ssn": 1}, "a"),
        partial("ssn", "b"),
        index(doc! {"name": 1}, "own~2"),
    ]);
    assert_eq!(
        shown(&policy, &described(&policy), &stored),
        Ok(Some(expected))
    );
    // The places in an array are numbered without a gap.
    let frame = msg(0, &body(&stored));
    let mut out = Vec::new();
    reveal(
        &frame,
        &described(&policy),
        &policy,
        &mut Reads::default(),
        &mut out,
    )
    .unwrap();
    let body = Reply::recognise(&out).unwrap().body();
    let body = Doc::at(&out, body.start, body.end).unwrap();
    let cursor = body.find("cursor").unwrap().unwrap().doc().unwrap();
    let batch = cursor.find("firstBatch").unwrap().unwrap().doc().unwrap();
    let numbers: Vec<_> = batch.elements().map(|index| index.unwrap().key).collect();
    assert_eq!(numbers, ["0", "1", "2", "3"]);
}

#[test]
fn statistics_name_an_index_as_the_user_does_where_that_is_one() {
    let policy = policy();
    let sizes = |names: &[&str]| {
        let sizes: Document = names
            .iter()
            .map(|name| ((*name).to_owned(), 1.into()))
            .collect();
        doc! {"indexSizes": sizes.clone(), "indexDetails": sizes, "x~2": {"a~2": 1}, "ok": 1.0}
    };
    assert_eq!(
        shown(
            &policy,
            &described(&policy),
            &sizes(&["_id_", "a~2", "b~2.1"])
        ),
        Ok(Some(sizes(&["_id_", "a", "b"])))
    );
    let several = sizes(&["a", "a~2", "b~2", "b~3"]);
    assert_eq!(shown(&policy, &described(&policy), &several), Ok(None));
    let used = |name: &str, path: &str| {
        batch(vec![
            doc! {"name": name, "spec": index(doc! {path: 1}, name)},
        ])
    };
    assert_eq!(
        shown(&policy, &described(&policy), &used("a~2", "ssn.e2")),
        Ok(Some(used("a", "ssn")))
    );
    let filters = |name: &str| doc! {"filters": [{"indexes": [name, {"x": 1}]}], "ok": 1.0};
    assert_eq!(
        shown(&policy, &described(&policy), &filters("a~2")),
        Ok(Some(filters("a")))
    );
}

#[test]
fn plans_and_errors_name_an_index_as_the_user_does() {
    let policy = policy();
    let plan = ReplyPlan::Explained {
        collection: collection(&policy, "shop.customers"),
        command: crate::wire::testing::document(&doc! {"find": "customers"}).into(),
    };
    let explained = |name: &str, path: &str, text: &str| doc! {"queryPlanner": {"winningPlan": {"stage": "IXSCAN", "indexName": name, "keyPattern": {path: 1}, "name": "own~2"}}, "executionStats": {"x": text}, "ok": 1.0};
    assert_eq!(
        shown(
            &policy,
            &plan,
            &explained("a~2", "ssn.e2", "ixseek \"a~2\"")
        ),
        Ok(Some(explained("a", "ssn", "ixseek \"a\"")))
    );
    let duplicate = |name: &str, path: &str, value: Bson| {
        doc! {
            "ok": 0.0, "code": 11000, "keyPattern": {"x": 1, path: 1}, "keyValue": {"x": "own~2", path: value},
            "errmsg": format!("E11000 duplicate key error collection: shop.customers index: {name} dup key: {{ x: \"own~2\", {path}: <sealed> }}"),
        }
    };
    for plan in [outcome(&policy, &[]), ReplyPlan::Relay] {
        assert_eq!(
            shown(&policy, &plan, &duplicate("a~2", "ssn.e2", any_token())),
            Ok(Some(duplicate("a", "ssn", "<sealed>".into())))
        );
    }
    let error = |name: &str| doc! {"ok": 0.0, "code": 27, "errmsg": format!("index not found with name [{name}]")};
    assert_eq!(
        shown(&policy, &outcome(&policy, &[]), &error("a~2")),
        Ok(Some(error("a")))
    );
}

#[test]
fn a_value_is_opened_whatever_epochs_its_tokens_are_of() {
    let policy = policy();
    let value = sealed(&policy, "shop.customers", "ssn", "a");
    for names in [&["e1"][..], &["e2"], &["e1", "e2"], &["e3", "e1", "e17"]] {
        let mut stored = doc! {"c": value.clone()};
        stored.extend(names.iter().map(|name| ((*name).to_owned(), any_token())));
        let answer = batch(vec![doc! {"ssn": [stored, null]}]);
        for plan in [documents(&policy), ReplyPlan::Relay] {
            assert_eq!(
                shown(&policy, &plan, &answer),
                Ok(Some(batch(vec![doc! {"ssn": ["a", null]}]))),
                "{names:?}"
            );
        }
    }
}
