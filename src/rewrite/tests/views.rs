//! Views, as MongoDB lists them, and commands on them.

use super::*;
use crate::policy::Views;
use crate::rewrite::views::{Answer, Asking, learn, note_used, outdated, refuse_unknown, unlisted};

fn listed(policy: &Policy, asking: Asking, own: &Views, views: &[Document]) {
    let listing = doc! {"cursor": {"id": 0_i64, "ns": "shop.$cmd.listCollections", "firstBatch": views}, "ok": 1.0};
    let frame = crate::wire::testing::reply(&listing);
    let asked = match asking {
        Asking::Definitions => policy.views().ask(),
        Asking::Names => own.ask(),
    };
    assert_eq!(
        learn(policy, own, "shop", asking, asked, &frame).unwrap(),
        Answer::Listed
    );
}

fn view(name: &str, on: &str, pipeline: Vec<Document>) -> Document {
    doc! {"name": name, "type": "view", "options": {"viewOn": on, "pipeline": pipeline}}
}

/// A policy that was told of these views.
fn told(views: &[Document]) -> Policy {
    let policy = fixture::policy();
    listed(&policy, Asking::Definitions, &Views::default(), views);
    policy
}

/// The command as MongoDB gets it, or the words of the refusal.
fn decided_by(policy: &Policy, command: &Document) -> Result<Document, String> {
    let frame = framed(command);
    let message = Message::recognise(&frame).unwrap();
    let mut scratch = Vec::new();
    match decide(&message, policy, &mut scratch) {
        Decision::Refuse(refusal) => Err(refusal.message),
        Decision::Forward { cleared, plan } => {
            if let Some(statement) = plan.refused().first() {
                return Err(statement.refusal.message.clone());
            }
            let Message::Msg(sent) = Message::recognise(cleared.bytes()).unwrap() else {
                panic!("not an OP_MSG");
            };
            let mut sent: Document =
                bson::deserialize_from_slice(&cleared.bytes()[sent.body]).unwrap();
            sent.remove("$db");
            Ok(sent)
        }
    }
}

#[test]
fn a_view_has_the_shape_that_its_stages_make_whatever_the_order_of_the_list() {
    let policy = told(&[
        view("again", "moved", vec![doc! {"$set": {"top": "$who.id"}}]),
        view(
            "moved",
            "customers",
            vec![doc! {"$project": {"who": {"id": "$ssn"}, "ssn": "$plan"}}],
        ),
        view(
            "joined",
            "orders",
            vec![
                doc! {"$lookup": {"from": "moved", "localField": "x", "foreignField": "_id", "as": "of"}},
            ],
        ),
        view("open", "orders", vec![doc! {"$match": {"ssn": 1}}]),
    ]);
    let by_token = |path: &str| doc! {format!("{path}.e1"): {"$eq": token("ssn", "a")}};
    for (view, path) in [
        ("moved", "who.id"),
        ("again", "top"),
        ("again", "who.id"),
        ("joined", "of.who.id"),
    ] {
        let find = |filter: Document| doc! {"find": view, "filter": filter};
        assert_eq!(
            decided_by(&policy, &find(doc! {path: "a"})).unwrap(),
            find(by_token(path))
        );
        let told = decided_by(&policy, &find(doc! {path: {"$gt": CANARY}})).unwrap_err();
        assert!(
            told.contains(&format!("shop.{view}")) && !told.contains(CANARY),
            "{told}"
        );
    }
    let open = doc! {"find": "moved", "filter": {"ssn": {"$gt": "a"}}};
    assert_eq!(decided_by(&policy, &open).unwrap(), open);
    assert!(!policy.views().reaching("shop", "open"));
    for command in [
        doc! {"insert": "moved", "documents": [{"who": CANARY}]},
        doc! {"update": "moved", "updates": [{"q": {"who.id": CANARY}, "u": {"$set": {"x": 1}}}]},
        doc! {"delete": "moved", "deletes": [{"q": {"who.id": CANARY}, "limit": 1}]},
        doc! {"findAndModify": "moved", "remove": true},
        doc! {"createIndexes": "moved", "indexes": [{"key": {"ssn": 1}, "name": "x"}]},
        doc! {"aggregate": "orders", "pipeline": [{"$out": "moved"}], "cursor": {}},
    ] {
        let told = decided_by(&policy, &command).unwrap_err();
        assert!(!told.contains(CANARY), "{told}");
    }
    assert!(decided_by(&policy, &doc! {"drop": "moved"}).is_ok());
}

#[test]
fn a_view_that_cannot_be_followed_is_refused_and_so_is_what_looks_at_it() {
    let collated = doc! {"name": "view", "type": "view", "options": {"viewOn": "customers", "pipeline": [], "collation": {"locale": "en"}}};
    for view_of in [
        view("view", "customers", vec![doc! {"$match": {"ssn": "a"}}]),
        view(
            "view",
            "customers",
            vec![doc! {"$match": {"age": {"$gt": 5}}}],
        ),
        view("view", "customers", vec![doc! {"$group": {"_id": "$ssn"}}]),
        view("view", "customers", vec![doc! {"$sort": {"ssn": 1}}]),
        view("view", "customers", vec![doc! {"$frobnicate": 1}]),
        view("view", "orders", vec![doc! {"$frobnicate": 1}]),
        view(
            "view",
            "people",
            vec![
                doc! {"$lookup": {"from": "receipts", "localField": "items.sku", "foreignField": "buyer", "as": "x"}},
            ],
        ),
        view("customers", "orders", vec![]),
        collated,
        doc! {"name": "view", "type": "view"},
    ] {
        let name = view_of.get_str("name").unwrap().to_owned();
        let policy = told(&[view_of, view("over", &name, vec![])]);
        for name in [name.as_str(), "over"] {
            for command in [
                doc! {"find": name, "filter": {"ssn": CANARY}},
                doc! {"aggregate": "orders", "pipeline": [{"$unionWith": name}], "cursor": {}},
                doc! {"create": "another", "viewOn": name, "pipeline": []},
            ] {
                let told = decided_by(&policy, &command).unwrap_err();
                assert!(told.contains("follow") && !told.contains(CANARY), "{told}");
            }
        }
    }
}

#[test]
fn a_view_whose_definition_has_tokens_is_followed_as_it_is() {
    let policy = told(&[
        view(
            "groups",
            "customers",
            vec![doc! {"$group": {"_id": "$ssn.e1", "ssn": {"$first": "$ssn"}}}],
        ),
        view(
            "joined",
            "people",
            vec![
                doc! {"$lookup": {"from": "receipts", "localField": "a.e1", "foreignField": "buyer.e1", "as": "x"}},
            ],
        ),
    ]);
    let find = |view: &str, filter: Document| doc! {"find": view, "filter": filter};
    let by_token = doc! {"ssn.e1": {"$eq": token("ssn", "a")}};
    assert_eq!(
        decided_by(&policy, &find("groups", doc! {"ssn": "a"})).unwrap(),
        find("groups", by_token)
    );
    assert!(decided_by(&policy, &find("joined", doc! {"x.own": {"$exists": true}})).is_ok());
    // Whoever asks the view has no business with them.
    let tokens = find("groups", doc! {"ssn.e1": CANARY});
    assert!(!decided_by(&policy, &tokens).unwrap_err().contains(CANARY));
}

#[test]
fn a_view_that_was_made_of_types_is_followed() {
    let stages = vec![doc! {"$match": {"ssn": {"$type": "string"}}}];
    let create = doc! {"create": "typed", "viewOn": "customers", "pipeline": stages};
    let made = decided_by(&told(&[]), &create).unwrap();
    let stages = made.get_array("pipeline").unwrap().iter();
    let stages = stages.map(|stage| stage.as_document().unwrap().clone());
    let policy = told(&[view("typed", "customers", stages.collect())]);
    let find = doc! {"find": "typed", "filter": {"ssn": {"$ne": null}}};
    decided_by(&policy, &find).unwrap();
}

#[test]
fn a_view_of_a_collection_that_still_has_plaintext_is_not_compared() {
    let policy = told(&[view("view", "moving", vec![doc! {"$set": {"x": 1}}])]);
    let told = decided_by(&policy, &doc! {"find": "view", "filter": {"ssn": CANARY}}).unwrap_err();
    assert!(
        told.contains("plaintext") && !told.contains(CANARY),
        "{told}"
    );
}

#[test]
fn views_that_only_move_sealed_values_are_made() {
    for command in ["create", "collMod"] {
        for pipeline in [
            vec![],
            vec![doc! {"$project": {"id": "$ssn", "notes": "$visits.note"}}],
            vec![
                doc! {"$match": {"ssn": {"$exists": true}, "plan": "gold"}},
                doc! {"$unwind": "$tags"},
            ],
            vec![
                doc! {"$lookup": {"from": "people", "localField": "x", "foreignField": "_id", "as": "p"}},
            ],
            vec![doc! {"$group": {"_id": "$plan", "all": {"$push": "$ssn"}}}],
        ] {
            passes(doc! {command: "view", "viewOn": "customers", "pipeline": pipeline});
        }
        for pipeline in [
            vec![doc! {"$match": {"ssn": CANARY}}],
            vec![doc! {"$match": {"$expr": {"$ne": ["$ssn", CANARY]}}}],
            vec![doc! {"$group": {"_id": "$ssn"}}],
            vec![doc! {"$set": {"x": {"$toUpper": "$ssn"}}}],
            vec![
                doc! {"$lookup": {"from": "customers", "pipeline": [{"$match": {"ssn": CANARY}}], "as": "x"}},
            ],
        ] {
            refused(
                doc! {command: "view", "viewOn": "customers", "pipeline": pipeline},
                &["shop.customers"],
            );
        }
        let joined = doc! {"$lookup": {"from": "receipts", "localField": "a", "foreignField": "buyer", "as": "x"}};
        refused(
            doc! {command: "view", "viewOn": "people", "pipeline": [joined]},
            &["shop.people", "tokens"],
        );
        refused(
            doc! {command: "view", "viewOn": "system.views", "pipeline": []},
            &["system.views"],
        );
        passes(doc! {command: "view", "viewOn": "orders", "pipeline": [{"$match": {"ssn": 1}}]});
    }
}

#[test]
fn views_are_asked_for_where_a_name_is_new_or_was_that_of_a_view() {
    let policy = fixture::policy();
    let own = Views::default();
    let asks = |command: &Document| {
        let frame = framed(command);
        let message = Message::recognise(&frame).unwrap();
        let asks = !unlisted(&Request::of(&message), &policy, &own).is_empty();
        note_used(&Request::of(&message), &policy, "shop");
        asks
    };
    let find = |name: &str| doc! {"find": name};
    assert!(asks(&find("orders")), "nothing was listed");
    listed(
        &policy,
        Asking::Definitions,
        &own,
        &[view("gold", "customers", vec![])],
    );
    assert!(!asks(&find("orders")));
    let over = |name: &str| doc! {"aggregate": "orders", "pipeline": [{"$facet": {"a": [{"$lookup": {"from": name, "pipeline": [], "as": "x"}}]}}]};
    for command in [
        over("other"),
        doc! {"explain": {"find": "new"}},
        doc! {"create": "v", "viewOn": "newer"},
    ] {
        assert!(asks(&command) && !asks(&command), "{command}");
    }
    for command in [
        find("gold"),
        over("gold"),
        doc! {"explain": {"count": "gold"}},
    ] {
        assert!(asks(&command) && asks(&command), "{command}");
    }
    let changed = |command: Document| {
        let frame = framed(&command);
        outdated(&Request::of(&Message::recognise(&frame).unwrap()), &policy)
            .map(|of| of.map(str::to_owned))
    };
    for name in ["create", "collMod", "drop", "dropDatabase"] {
        assert_eq!(changed(doc! {name: "x"}), Some(Some("shop".to_owned())));
    }
    assert_eq!(
        changed(doc! {"renameCollection": "a.b", "to": "c.d"}),
        Some(None)
    );
    assert_eq!(changed(find("orders")), None);
}

#[test]
fn whoever_may_not_see_definitions_is_refused_what_nobody_else_has_told() {
    let policy = fixture::policy();
    let own = Views::default();
    let names = [
        doc! {"name": "gold", "type": "view"},
        doc! {"name": "fresh", "type": "view"},
    ];
    listed(&policy, Asking::Names, &own, &names);
    let refused = |command: Document| {
        let frame = framed(&command);
        refuse_unknown(
            &Request::of(&Message::recognise(&frame).unwrap()),
            &policy,
            &own,
        )
        .is_err()
    };
    let over = |name: &str| doc! {"aggregate": "orders", "pipeline": [{"$unionWith": name}]};
    assert!(refused(doc! {"find": "gold"}) && refused(over("gold")));
    assert!(!refused(doc! {"find": "orders"}));
    // Another user has told what `gold` is; `fresh` may be younger than that.
    listed(
        &policy,
        Asking::Definitions,
        &own,
        &[view("gold", "customers", vec![])],
    );
    assert!(!refused(doc! {"find": "gold"}) && !refused(doc! {"find": "orders"}));
    assert!(refused(doc! {"find": "fresh"}));
}
