//! Several index epochs at once: all that are in use are written, one is asked.

use proptest::test_runner::TestCaseError;

use super::*;
use crate::keyring::State::{Active, Destroyed, Retired, Staged};
use crate::policy::Listed;
use crate::wire::testing::sequence;

/// Three epochs: 1 is retired, 2 active, 3 staged.
static EPOCHS: LazyLock<Policy> = LazyLock::new(|| under(&[Retired, Active, Staged]));

/// The second of them alone.
static ALONE: LazyLock<Policy> = LazyLock::new(|| under(&[Destroyed, Active]));

fn under(states: &[crate::keyring::State]) -> Policy {
    fixture::policy_with(fixture::keyring_with_epochs(states))
}

/// A policy for which MongoDB has listed these indexes of `shop.customers`.
fn listed(policy: Policy, indexes: &[(Document, &str)]) -> Policy {
    let indexes = indexes.iter().cloned();
    let indexes: Vec<_> = indexes.map(|(key, name)| (key, name, doc! {})).collect();
    listed_with(policy, &indexes)
}

/// The same with filters.
fn listed_with(policy: Policy, indexes: &[(Document, &str, Document)]) -> Policy {
    let index = |(key, name, filter): &(Document, &str, Document)| doc! {"v": 2, "key": key.clone(), "name": *name, "partialFilterExpression": filter.clone()};
    let indexes: Vec<Document> = indexes.iter().map(index).collect();
    let answer =
        doc! {"cursor": {"id": 0_i64, "ns": "shop.customers", "firstBatch": indexes}, "ok": 1.0};
    indexes::learn(&policy, "shop.customers", &reply(&answer)).unwrap();
    policy
}

fn reply(answer: &Document) -> Vec<u8> {
    msg(0, &body(answer))
}

fn sent_under(policy: &Policy, command: Document) -> Document {
    let mut upstream = match forwarded_under(policy, &framed(&command)) {
        Ok(upstream) => upstream,
        Err(refusal) => panic!("{command}: {refusal}"),
    };
    assert_eq!(upstream.plan.refused(), []);
    upstream.body.remove("$db");
    upstream.body
}

fn refused_under(policy: &Policy, command: Document) -> Refusal {
    match forwarded_under(policy, &framed(&command)) {
        Ok(_) => panic!("passed: {command}"),
        Err(refusal) => refusal,
    }
}

/// The same without the tokens of epochs that are not active.
fn of_the_active(value: Bson) -> Bson {
    match value {
        Bson::Document(document) => {
            let whole = document.get("c").is_some_and(|value| {
                let sealed = value.as_document();
                sealed.is_some_and(|sealed| sealed.keys().eq(["sealed"]))
            });
            let names: Vec<_> = document.keys().collect();
            assert!(!whole || names == ["c", "e1", "e2", "e3"] || names == ["c", "e2"]);
            let kept = document.into_iter();
            let kept = kept.filter(|(name, _)| !whole || name != "e1" && name != "e3");
            Bson::Document(
                kept.map(|(name, value)| (name, of_the_active(value)))
                    .collect(),
            )
        }
        Bson::Array(items) => items.into_iter().map(of_the_active).collect(),
        other => other,
    }
}

/// Whether a frame gets the same answer under three epochs as under the active one of
/// them alone, but for the tokens that are written beside its own.
pub(super) fn check_alike(frame: &[u8]) -> Result<(), TestCaseError> {
    let essence = |policy: &Policy| match forwarded_under(policy, frame) {
        Ok(upstream) => {
            let sequences = upstream.sequences.into_iter();
            let sequences = sequences.map(|(_, documents)| Bson::from(documents));
            let all = sequences.chain([Bson::Document(upstream.body)]);
            let refused = upstream.plan.refused().to_vec();
            Ok((all.map(of_the_active).collect::<Vec<_>>(), refused))
        }
        Err(refusal) => Err(refusal),
    };
    let (several, alone) = (essence(&EPOCHS), essence(&ALONE));
    if several == alone {
        return Ok(());
    }
    Err(TestCaseError::fail(format!("{several:?}\n{alone:?}")))
}

/// A sealed value with the tokens of all three epochs.
fn queryable_in_all(value: &str) -> Bson {
    let collection = EPOCHS.collection("shop.customers").unwrap();
    let bytes = bson::serialize_to_vec(&doc! {"v": value}).unwrap();
    let element = Doc::whole(&bytes).unwrap().first().unwrap().unwrap();
    let mut document = doc! {"c": sealed(value)};
    for tokens in collection.field(0).equality.as_ref().unwrap().written() {
        let token = tokens.token(element.kind, element.value()).unwrap();
        document.insert(tokens.name.clone(), binary(&token));
    }
    assert!(document.keys().eq(["c", "e1", "e2", "e3"]));
    document.into()
}

/// The token that queries go by.
fn active_token(value: &str) -> Bson {
    let all = queryable_in_all(value);
    all.as_document().unwrap().get("e2").unwrap().clone()
}

#[test]
fn a_value_is_written_with_the_tokens_of_all_epochs_and_found_by_the_active_one() {
    let update = |q: Document, u: Document| doc! {"update": "customers", "updates": [{"q": q, "u": u, "upsert": true}]};
    let by = |value: &str| doc! {"ssn.e2": {"$in": [active_token(value), binary(&[])]}};
    let all = queryable_in_all;
    for (command, expected) in [
        (
            doc! {"insert": "customers", "documents": [{"ssn": ["a", null]}]},
            doc! {"insert": "customers", "documents": [{"ssn": [all("a"), null]}]},
        ),
        (
            update(doc! {"ssn": "a"}, doc! {"$set": {"ssn": "b"}}),
            update(by("a"), doc! {"$set": {"ssn": all("b")}}),
        ),
        (
            update(doc! {"ssn": "a"}, doc! {"$push": {"ssn.x": 1}}),
            Document::new(),
        ),
        (
            update(doc! {"ssn": "a"}, doc! {"$set": {"x": 1}}),
            update(
                by("a"),
                doc! {"$set": {"x": 1}, "$setOnInsert": {"ssn": all("a")}},
            ),
        ),
        (
            update(doc! {"_id": 1}, doc! {"$pull": {"ssn": {"$in": ["a"]}}}),
            update(
                doc! {"_id": 1},
                doc! {"$pull": {"ssn": {"e2": {"$eq": active_token("a")}}}},
            ),
        ),
        (
            doc! {"find": "customers", "filter": {"ssn": "a"}, "hint": {"ssn": 1}},
            doc! {"find": "customers", "filter": {"ssn.e2": {"$eq": active_token("a")}}, "hint": {"ssn.e2": 1}},
        ),
    ] {
        if expected.is_empty() {
            let upstream = forwarded_under(&EPOCHS, &framed(&command)).unwrap();
            assert_eq!(upstream.plan.refused().len(), 1);
        } else {
            assert_eq!(sent_under(&EPOCHS, command), expected);
        }
    }
    let added = update(doc! {"_id": 1}, doc! {"$addToSet": {"ssn": "a"}});
    let added = sent_under(&EPOCHS, added).to_string();
    assert!(
        added.contains("$$old.e2") && !added.contains("$$old.e1"),
        "{added}"
    );
    for name in ["e1", "e2", "e3"] {
        assert!(added.contains(&format!("\"{name}\": Binary")), "{added}");
    }
}

#[test]
fn tokens_of_any_epoch_that_is_written_may_stand_in_the_definition_of_a_view() {
    for (policy, path, followed) in [
        (&*EPOCHS, "ssn.e1", true),
        (&*EPOCHS, "ssn.e3", true),
        (&*EPOCHS, "ssn.e4", false),
        (&*ALONE, "ssn.e2", true),
        (&*ALONE, "ssn.e1", false),
    ] {
        let view = doc! {"name": "v", "type": "view", "options": {"viewOn": "customers", "pipeline": [{"$match": {path: {"$exists": true}}}]}};
        let answer =
            doc! {"cursor": {"id": 0_i64, "ns": "shop.$cmd", "firstBatch": [view]}, "ok": 1.0};
        let asked = policy.views().ask();
        let asking = crate::rewrite::views::Asking::Definitions;
        let own = crate::policy::Views::default();
        crate::rewrite::views::learn(policy, &own, "shop", asking, asked, &reply(&answer)).unwrap();
        assert_eq!(
            policy.views().shape("shop", "v").is_some(),
            followed,
            "{path}"
        );
    }
}

fn index(key: Document, name: &str) -> Document {
    doc! {"createIndexes": "customers", "indexes": [{"key": key, "name": name, "unique": true}]}
}

#[test]
fn an_index_is_made_on_the_active_epoch_under_a_name_that_tells_it() {
    let policy = under(&[Retired, Active]);
    for (key, stored, name) in [
        (doc! {"ssn": 1}, doc! {"ssn.e2": 1}, "mine~2"),
        (
            doc! {"age": 1, "name": 1, "tags": -1},
            doc! {"age.e2": 1, "name": 1, "tags.e2": -1},
            "mine~2.2",
        ),
        (doc! {"name": 1}, doc! {"name": 1}, "mine"),
    ] {
        assert_eq!(sent_under(&policy, index(key, "mine")), index(stored, name));
    }
    let partial = |filter: Document, name: &str| doc! {"createIndexes": "customers", "indexes": [{"name": name, "key": {"name": 1}, "partialFilterExpression": filter}]};
    assert_eq!(
        sent_under(&policy, partial(doc! {"ssn": {"$type": "string"}}, "mine")),
        partial(doc! {"ssn.e2": {"$exists": true}}, "mine~2"),
    );
    // While the next is staged, nothing changes.
    let staged = under(&[Active, Staged]);
    assert_eq!(
        sent_under(&staged, index(doc! {"ssn": 1}, "mine")),
        index(doc! {"ssn.e1": 1}, "mine"),
    );
    for policy in [&policy, &*POLICY] {
        let refusal = refused_under(policy, index(doc! {"name": 1}, "mine~2"));
        assert!(refusal.message.contains('~'), "{refusal}");
    }
}

#[test]
fn an_index_that_is_there_is_not_made_again_under_another_name() {
    let there = [
        (doc! {"ssn.e1": 1}, "mine"),
        (doc! {"ssn.e2": 1}, "mine~2"),
        (doc! {"age.e2": 1}, "own"),
    ];
    let policy = listed(under(&[Retired, Active]), &there);
    for (key, name, stored, expected) in [
        (doc! {"ssn": 1}, "mine", doc! {"ssn.e2": 1}, "mine~2"),
        (doc! {"age": 1}, "own", doc! {"age.e2": 1}, "own"),
        // MongoDB tells of the conflict.
        (doc! {"name": 1}, "mine", doc! {"name": 1}, "mine~2"),
    ] {
        assert_eq!(
            sent_under(&policy, index(key, name)),
            index(stored, expected)
        );
    }
}

#[test]
fn commands_that_name_an_index_find_it_under_its_stored_name() {
    let there = [
        (doc! {"_id": 1}, "_id_"),
        (doc! {"ssn.e1": 1}, "mine"),
        (doc! {"ssn.e2": 1}, "mine~2"),
        (doc! {"age.e1": 1}, "old"),
        (doc! {"name": 1}, "open"),
    ];
    let policy = listed(under(&[Retired, Active]), &there);
    let find = |hint: Bson| doc! {"find": "customers", "hint": hint};
    let modify =
        |name: &str| doc! {"collMod": "customers", "index": {"name": name, "hidden": true}};
    let update = |hint: &str| doc! {"update": "customers", "updates": [{"q": {}, "u": {"$set": {"x": 1}}, "hint": hint}]};
    let plans =
        |name: &str| doc! {"planCacheSetFilter": "customers", "query": {}, "indexes": [name]};
    let drop = |index: Bson| doc! {"dropIndexes": "customers", "index": index};
    for (command, expected) in [
        (find("mine".into()), find("mine~2".into())),
        (find("open".into()), find("open".into())),
        (find("nothing".into()), find("nothing".into())),
        (
            find(doc! {"ssn": 1}.into()),
            find(doc! {"ssn.e2": 1}.into()),
        ),
        (
            doc! {"explain": find("mine".into())},
            doc! {"explain": find("mine~2".into())},
        ),
        (modify("mine"), modify("mine~2")),
        (update("mine"), update("mine~2")),
        (plans("mine"), plans("mine~2")),
        (drop("mine".into()), drop(vec!["mine~2", "mine"].into())),
        (drop("old".into()), drop("old".into())),
        (drop("open".into()), drop("open".into())),
        (drop("*".into()), drop("*".into())),
        (
            drop(vec!["mine", "open"].into()),
            drop(vec!["mine~2", "mine", "open"].into()),
        ),
        (
            drop(doc! {"ssn": 1}.into()),
            drop(vec!["mine~2", "mine"].into()),
        ),
        (drop(doc! {"name": 1}.into()), drop("open".into())),
        (
            drop(doc! {"tags": 1}.into()),
            drop(doc! {"tags.e2": 1}.into()),
        ),
    ] {
        assert_eq!(sent_under(&policy, command), expected);
    }
    refused_under(&policy, find("old".into()));
    // Only their filters tell these apart.
    let partial = [
        (doc! {"name": 1}, "mine", doc! {"ssn.e1": {"$exists": true}}),
        (
            doc! {"name": 1},
            "mine~2",
            doc! {"ssn.e2": {"$exists": true}},
        ),
    ];
    let policy = listed_with(under(&[Retired, Active]), &partial);
    let modify = |index: Document| doc! {"collMod": "customers", "index": index};
    for (command, expected) in [
        (find(doc! {"name": 1}.into()), find("mine~2".into())),
        (
            modify(doc! {"keyPattern": {"name": 1}, "hidden": true}),
            modify(doc! {"name": "mine~2", "hidden": true}),
        ),
        (
            drop(doc! {"name": 1}.into()),
            drop(vec!["mine~2", "mine"].into()),
        ),
    ] {
        assert_eq!(sent_under(&policy, command), expected);
    }
}

#[test]
fn what_mongodb_keeps_and_goes_by_at_every_write_or_read_names_no_epoch() {
    for policy in [&under(&[Retired, Active]), &*POLICY] {
        for filter in [
            doc! {"ssn": {"$type": "string"}},
            doc! {"ssn": {"$not": {"$type": "string"}}},
            doc! {"contacts.a": {"$elemMatch": {"phone": {"$type": "string"}}}},
            doc! {"payment": {"$elemMatch": {"card": {"$type": "string"}}}},
        ] {
            let modify = doc! {"collMod": "customers", "validator": filter.clone()};
            let stages = vec![doc! {"$match": filter}];
            let create = doc! {"create": "view", "viewOn": "customers", "pipeline": stages};
            for command in [modify, create] {
                let sent = sent_under(policy, command).to_string();
                assert!(sent.contains("$type") && !sent.contains(".e"), "{sent}");
            }
        }
    }
}

#[test]
fn an_index_of_several_epochs_does_not_change_in_one_of_them_alone() {
    let partial = |epoch: u32| doc! {format!("ssn.e{epoch}"): {"$exists": true}};
    let there = [
        (doc! {"at": 1}, "mine", partial(1)),
        (doc! {"at": 1}, "mine~2", partial(2)),
        (doc! {"name": 1}, "open", doc! {}),
    ];
    let policy = listed_with(under(&[Retired, Active]), &there);
    let modify = |index: Document| doc! {"collMod": "customers", "index": index};
    for change in [
        doc! {"name": "mine", "expireAfterSeconds": 60},
        doc! {"keyPattern": {"at": 1}, "expireAfterSeconds": 60},
        doc! {"prepareUnique": true, "name": "mine"},
        doc! {"name": "mine", "unique": true},
    ] {
        let refusal = refused_under(&policy, modify(change));
        assert!(refusal.message.contains("reindex"), "{refusal}");
    }
    for change in [
        doc! {"name": "open", "expireAfterSeconds": 60},
        doc! {"keyPattern": {"name": 1}, "unique": true},
    ] {
        let command = modify(change);
        assert_eq!(sent_under(&policy, command.clone()), command);
    }
}

#[test]
fn an_index_is_not_looked_for_by_its_name_where_mongodb_does_not_list_them() {
    let policy = under(&[Active, Staged]);
    for command in [
        doc! {"find": "customers", "hint": "mine"},
        doc! {"dropIndexes": "customers", "index": "mine"},
        doc! {"collMod": "customers", "index": {"name": "mine", "hidden": true}},
    ] {
        let refusal = refused_under(&policy, command.clone());
        assert!(refusal.message.contains("listIndexes"), "{refusal}");
        let unauthorized = doc! {"ok": 0.0, "code": 13, "errmsg": "not authorized"};
        indexes::learn(&policy, "shop.customers", &reply(&unauthorized)).unwrap();
        refused_under(&policy, command.clone());
        let missing = doc! {"ok": 0.0, "code": 26, "errmsg": "ns does not exist"};
        indexes::learn(&policy, "shop.customers", &reply(&missing)).unwrap();
        assert_eq!(sent_under(&policy, command.clone()), command);
        policy.indexes().learn("shop.customers", None);
    }
}

#[test]
fn no_stage_looks_at_the_names_of_indexes_while_they_may_be_stored_under_others() {
    let used = |stage: Document| doc! {"aggregate": "customers", "pipeline": [{"$indexStats": {}}, stage], "cursor": {}};
    let by_name = used(doc! {"$match": {"name": "mine"}});
    let policy = under(&[Active, Staged]);
    refused_under(&policy, by_name.clone());
    passes(by_name);
    let by_use = used(doc! {"$match": {"accesses.ops": 0}});
    assert_eq!(sent_under(&policy, by_use.clone()), by_use);
}

fn unlisted(policy: &Policy, frame: &[u8]) -> Vec<String> {
    indexes::unlisted(&Request::of(&Message::recognise(frame).unwrap()), policy)
}

#[test]
fn indexes_are_listed_for_commands_that_name_them_while_names_may_differ() {
    let hinted = sequence("updates", &[doc! {"q": {}, "u": {}, "hint": "mine"}]);
    let body = body(&doc! {"update": "customers", "$db": "shop"});
    let by_sequence = msg(0, &[&body[..], &hinted].concat());
    let asking = [
        doc! {"find": "customers", "hint": "mine"},
        doc! {"find": "customers", "hint": {"ssn": 1}},
        doc! {"explain": {"count": "customers", "hint": "mine"}},
        doc! {"aggregate": "customers", "pipeline": [], "hint": "mine"},
        doc! {"delete": "customers", "deletes": [{"q": {}}, {"q": {}, "hint": "mine"}]},
        doc! {"bulkWrite": 1, "ops": [{"delete": 0, "filter": {}, "hint": "mine"}], "nsInfo": [{"ns": "shop.customers"}, {"ns": "shop.orders"}], "$db": "admin"},
        doc! {"createIndexes": "customers", "indexes": []},
        doc! {"dropIndexes": "customers", "index": "*"},
        doc! {"collMod": "customers", "index": {"name": "mine"}},
        doc! {"planCacheSetFilter": "customers", "indexes": ["mine"]},
    ];
    let frames: Vec<_> = asking.iter().map(framed).chain([by_sequence]).collect();
    let policy = under(&[Active, Staged]);
    for frame in &frames {
        assert_eq!(unlisted(&policy, frame), ["shop.customers"]);
        assert!(unlisted(&POLICY, frame).is_empty());
    }
    for command in [
        doc! {"find": "customers", "filter": {"hint": "mine"}},
        doc! {"find": "orders", "hint": "mine"},
        doc! {"insert": "customers", "documents": [{"hint": "mine"}]},
        doc! {"collMod": "customers", "validator": {}},
        doc! {"bulkWrite": 1, "ops": [], "nsInfo": [{"ns": "shop.customers"}], "$db": "admin"},
    ] {
        assert!(unlisted(&policy, &framed(&command)).is_empty(), "{command}");
    }
    // A hint is looked up in what is known; what changes indexes asks anew.
    let policy = listed(policy, &[(doc! {"ssn.e1": 1}, "mine")]);
    let known = frames
        .iter()
        .map(|frame| unlisted(&policy, frame).is_empty());
    let expected = [
        true, true, true, true, true, true, false, false, false, true, true,
    ];
    assert_eq!(known.collect::<Vec<_>>(), expected);
    let other = doc! {"find": "customers", "hint": "other"};
    assert_eq!(unlisted(&policy, &framed(&other)), ["shop.customers"]);
    assert_eq!(Listed::default().stored("mine"), None);
}

#[test]
fn the_question_for_indexes_is_a_whole_command() {
    let mut frame = Vec::new();
    let cleared = indexes::question("shop.a.b", 7, &mut frame).unwrap();
    let Message::Msg(sent) = Message::recognise(cleared.bytes()).unwrap() else {
        panic!("not an OP_MSG");
    };
    let asked: Document = bson::deserialize_from_slice(&cleared.bytes()[sent.body]).unwrap();
    assert_eq!(asked.get_str("listIndexes").unwrap(), "a.b");
    assert_eq!(asked.get_str("$db").unwrap(), "shop");
}
