//! Commands as such: what passes, what is refused, and what names a sealed collection.

use bson::Uuid;

use super::*;
use crate::wire::flag;
use crate::wire::testing::{query, sequence};

#[test]
fn commands_on_open_collections_pass_as_the_same_bytes() {
    for command in [
        doc! {"ping": 1},
        doc! {"insert": "orders", "documents": [{"ssn": "a", "payment.card": 1}], "frobnicate": 1},
        doc! {"find": "orders", "filter": {"ssn": {"$gt": "a"}}, "sort": {"ssn": 1}},
        doc! {"update": "orders", "updates": [{"q": {"ssn": "a"}, "u": {"$inc": {"ssn": 1}}}]},
        doc! {"delete": "orders", "deletes": []},
        doc! {"findAndModify": "orders", "query": {"ssn": 1}},
        doc! {"count": "orders", "query": {"$where": "1"}},
        doc! {"distinct": "orders", "key": "ssn"},
        doc! {"aggregate": "orders", "pipeline": [{"$group": {"_id": "$ssn"}}], "cursor": {}},
        doc! {"createIndexes": "orders", "indexes": [{"key": {"ssn": 1}}]},
        doc! {"mapReduce": "orders", "map": "m", "reduce": "r", "out": {"inline": 1}},
        doc! {"renameCollection": "shop.orders", "to": "shop.sales"},
        doc! {"explain": {"find": "orders", "filter": {"ssn": {"$gt": 1}}}, "verbosity": "queryPlanner"},
        doc! {"bulkWrite": 1, "ops": [{"insert": 0, "document": {"ssn": 1}}], "nsInfo": [{"ns": "shop.orders"}]},
        doc! {"getMore": 5_i64, "collection": "customers"},
        doc! {"commitTransaction": 1, "lsid": {}, "txnNumber": 1_i64},
        doc! {"configureFailPoint": "failCommand", "mode": "off"},
    ] {
        passes(command);
    }
    // Nothing changes a frame that passes: not its checksum, not the order of its sections.
    let sections = [
        sequence("documents", &[doc! {"ssn": 1}]),
        body(&doc! {"insert": "orders", "$db": "shop"}),
    ]
    .concat();
    assert!(
        decided(&msg(flag::CHECKSUM_PRESENT, &sections))
            .unwrap()
            .unchanged
    );
}

#[test]
fn commands_that_treat_documents_as_wholes_pass_on_sealed_collections() {
    for command in [
        "drop",
        "collStats",
        "validate",
        "compact",
        "reIndex",
        "convertToCapped",
    ] {
        passes(doc! {command: "customers"});
    }
}

#[test]
fn chunks_are_bounded_by_keys_of_open_fields_alone() {
    for command in [
        doc! {"shardCollection": "shop.customers", "key": {"plan": "hashed"}, "unique": false},
        doc! {"split": "shop.customers", "middle": {"plan": 5}},
        doc! {"clearJumboFlag": "shop.customers", "bounds": [{"plan": 1}, {"plan": 2}]},
        doc! {"dataSize": "shop.customers", "estimate": true},
        doc! {"cleanupOrphaned": "shop.customers", "writeConcern": {"w": 1}},
        doc! {"moveCollection": "shop.customers", "toShard": "s"},
    ] {
        passes(command);
    }
    for command in [
        doc! {"dataSize": "shop.customers", "keyPattern": {"ssn": 1}, "min": {"ssn": CANARY}},
        doc! {"cleanupOrphaned": "shop.customers", "startingFromKey": {"ssn": CANARY}},
        doc! {"clearJumboFlag": "shop.customers", "bounds": [{"plan": 1}, {"ssn": CANARY}]},
        doc! {"split": "shop.customers", "find": {"$or": [{"ssn": CANARY}]}},
        doc! {"split": "shop.customers", "middle": {"contacts": {"home": {"phone": CANARY}}}},
        doc! {"split": "shop.customers", "middle": {"contacts.home.phone": CANARY}},
        doc! {"split": "shop.customers", "middle": CANARY},
        doc! {"split": "shop.customers", "nosuch": {"plan": CANARY}},
        doc! {"reshardCollection": "shop.customers", "key": {"plan": 1}, "zones": [{"min": {"ssn": CANARY}}]},
    ] {
        refused(command, &["open fields"]);
    }
}

#[test]
fn commands_that_cannot_be_right_on_sealed_collections_are_refused() {
    for (command, advice) in [
        (
            doc! {"mapReduce": "customers", "map": CANARY, "reduce": "r", "out": "x"},
            "aggregate",
        ),
        (
            doc! {"cloneCollectionAsCapped": "customers", "toCollection": "x"},
            "identity",
        ),
        (doc! {"createSearchIndexes": "customers"}, "search"),
        (
            doc! {"shardCollection": "shop.customers", "key": {"ssn": 1}},
            "MongoDB",
        ),
        (
            doc! {"split": "shop.customers", "middle": {"ssn": CANARY}},
            "MongoDB",
        ),
        (
            doc! {"updateZoneKeyRange": "shop.customers", "min": {"ssn": CANARY}},
            "MongoDB",
        ),
        (
            doc! {"autoSplitVector": "customers", "min": {"ssn": CANARY}},
            "MongoDB",
        ),
        (
            doc! {"renameCollection": "shop.customers", "to": "shop.x"},
            "identity",
        ),
    ] {
        let refusal = refused(command, &[advice]);
        assert_eq!(refusal.kind, RefusalKind::NotSupported);
    }
}

#[test]
fn nothing_gets_into_a_sealed_collection_from_elsewhere() {
    for command in [
        doc! {"mapReduce": "orders", "map": "m", "reduce": "r", "out": "customers"},
        doc! {"mapReduce": "orders", "map": "m", "reduce": "r", "out": {"merge": "customers"}},
        doc! {"mapReduce": "orders", "map": "m", "reduce": "r", "out": {"reduce": "people", "db": "tenant_a"}},
        doc! {"renameCollection": "shop.orders", "to": "shop.customers"},
        doc! {"renameCollection": "other.x", "to": "tenant_a.people", "dropTarget": true},
        doc! {"cloneCollectionAsCapped": "orders", "toCollection": "customers", "size": 5},
        doc! {"bulkWrite": 1, "ops": [], "nsInfo": [{"ns": "shop.system.views"}]},
        doc! {"applyOps": [{"op": "i", "ns": "other.x", "o": {"ssn": CANARY}}]},
    ] {
        refused(command, &["sealed"]);
    }
}

#[test]
fn commands_that_are_not_known_are_refused() {
    for name in ["frobnicate", "eval", "group", "copydb", "find "] {
        let refusal = refused(doc! {name: "customers", "x": CANARY}, &[]);
        assert_eq!(refusal.kind, RefusalKind::UnknownCommand);
    }
    for name in ["_mergeAuthzCollections", "clusterInsert", "godinsert"] {
        refused(
            doc! {name: "customers", "documents": [{"ssn": CANARY}]},
            &[],
        );
    }
}

#[test]
fn collections_that_are_not_named_by_a_string_are_refused() {
    for target in [
        Bson::from(Uuid::from_bytes([5; 16])),
        Bson::Symbol("customers".to_owned()),
        1.into(),
        Bson::Null,
        doc! {"a": 1}.into(),
    ] {
        for name in [
            "insert",
            "find",
            "update",
            "delete",
            "findAndModify",
            "count",
            "distinct",
            "listIndexes",
            "drop",
            "mapReduce",
            "create",
        ] {
            refused(doc! {name: target.clone(), "x": CANARY}, &["string"]);
        }
    }
    for target in [
        Bson::from(Uuid::from_bytes([5; 16])),
        Bson::Symbol("customers".to_owned()),
    ] {
        refused(
            doc! {"aggregate": target.clone(), "pipeline": [{"$match": {"ssn": CANARY}}]},
            &[],
        );
        refused(doc! {"renameCollection": target.clone(), "to": "a.b"}, &[]);
        refused(doc! {"renameCollection": "a.b", "to": target}, &[]);
    }
}

#[test]
fn explain_rewrites_the_command_that_it_explains() {
    let explain = |filter: Document| doc! {"explain": {"find": "customers", "filter": filter, "limit": 1}, "verbosity": "executionStats"};
    let upstream = upstream(explain(doc! {"ssn": "a"}));
    assert_eq!(
        upstream.body,
        explain(doc! {"ssn.e1": {"$eq": token("ssn", "a")}})
    );
    // A plan holds no documents of the collection, but its names.
    assert!(matches!(upstream.plan, ReplyPlan::Explained { .. }));
    let update = |change: Document| doc! {"explain": {"update": "customers", "updates": [{"q": {}, "u": {"$set": change}}]}};
    assert_eq!(
        sent(update(doc! {"ssn": "a"})),
        update(doc! {"ssn": queryable("ssn", "a")})
    );
    let counted = |query: Document| doc! {"explain": {"aggregate": "customers", "pipeline": [{"$match": query}], "cursor": {}}};
    assert_eq!(
        sent(counted(doc! {"ssn": "a"})),
        counted(doc! {"ssn.e1": {"$eq": token("ssn", "a")}})
    );
    for command in [
        doc! {"explain": {"find": "customers", "filter": {"ssn": {"$gt": CANARY}}}},
        doc! {"explain": {"find": "customers", "filter": {"ssn": CANARY}, "$db": "other"}},
        doc! {"explain": {"explain": {"find": "customers", "filter": {"ssn": CANARY}}}},
        doc! {"explain": {"frobnicate": "customers"}},
        doc! {"explain": {"mapReduce": "customers"}},
        doc! {"explain": {}},
        doc! {"explain": "customers"},
        doc! {"explain": {"find": "orders"}, "also": {"find": "customers", "filter": {"ssn": CANARY}}},
    ] {
        let Err(refusal) = decided(&framed(&command)) else {
            panic!("passed: {command}");
        };
        assert!(refusal.message.starts_with("fieldseal: "));
        assert!(!refusal.message.contains(CANARY), "{refusal}");
    }
}

#[test]
fn sections_that_would_go_unseen_are_refused() {
    for (command, identifier, document) in [
        (
            doc! {"aggregate": "orders", "cursor": {}},
            "pipeline",
            doc! {"$out": "customers"},
        ),
        (
            doc! {"aggregate": 1, "cursor": {}},
            "pipeline",
            doc! {"$out": "customers"},
        ),
        (
            doc! {"create": "view", "viewOn": "orders"},
            "pipeline",
            doc! {"$unionWith": "customers"},
        ),
        (doc! {"find": "customers"}, "filter", doc! {"ssn": CANARY}),
        (doc! {"count": "customers"}, "query", doc! {"ssn": CANARY}),
        (
            doc! {"explain": {"find": "orders"}},
            "explain",
            doc! {"find": "customers"},
        ),
    ] {
        let mut command = command;
        command.insert("$db", "shop");
        let frame = msg(
            0,
            &[body(&command), sequence(identifier, &[document])].concat(),
        );
        let refusal = decided(&frame).err().unwrap();
        assert!(refusal.message.contains(identifier), "{refusal}");
        assert!(!refusal.message.contains(CANARY), "{refusal}");
    }
}

#[test]
fn a_rewritten_frame_keeps_its_header_and_gets_a_checksum_of_its_own() {
    let frame = msg(
        flag::CHECKSUM_PRESENT | flag::EXHAUST_ALLOWED,
        &body(&doc! {"find": "customers", "filter": {"ssn": "a"}, "$db": "shop"}),
    );
    let message = Message::recognise(&frame).unwrap();
    let mut scratch = Vec::new();
    let Decision::Forward { cleared, .. } = decide(&message, &POLICY, &mut scratch) else {
        panic!("refused");
    };
    // Request id, response to, opcode and flags.
    assert_eq!(cleared.bytes()[4..20], frame[4..20]);
    assert_ne!(cleared.bytes().len(), frame.len());
    // Recognising it checks length and checksum.
    assert!(Message::recognise(cleared.bytes()).is_ok());
}

#[test]
fn a_command_names_its_database_once() {
    for command in [
        doc! {"find": "customers"},
        doc! {"find": "customers", "$db": 5},
    ] {
        assert!(decided(&msg(0, &body(&command))).is_err());
    }
    let mut twice =
        bson::serialize_to_vec(&doc! {"find": "customers", "$db": "other", "$dc": "shop"}).unwrap();
    let at = memchr::memmem::find(&twice, b"$dc").unwrap();
    twice[at + 2] = b'b';
    assert!(decided(&msg(0, &[vec![0], twice].concat())).is_err());
}

#[test]
fn with_an_empty_schema_everything_passes_unread() {
    let policy = Policy::compile(
        Arc::new(crate::schema::Schema::default()),
        Arc::new(fixture::keyring()),
    )
    .unwrap();
    let frame = framed(&doc! {"frobnicate": "customers"});
    let message = Message::recognise(&frame).unwrap();
    let mut scratch = Vec::new();
    let Decision::Forward { cleared, plan } = decide(&message, &policy, &mut scratch) else {
        panic!("refused");
    };
    assert!(std::ptr::eq(cleared.bytes(), &frame[..]));
    assert!(matches!(plan, ReplyPlan::Pass));
}

#[test]
fn legacy_queries_are_for_the_handshake_alone() {
    let decide_on = |namespace: &str, command: &Document| {
        let frame = query(namespace, &bson::serialize_to_vec(command).unwrap());
        let message = Message::recognise(&frame).unwrap();
        let mut scratch = Vec::new();
        matches!(
            decide(&message, &POLICY, &mut scratch),
            Decision::Forward { .. }
        )
    };
    assert!(decide_on("admin.$cmd", &doc! {"isMaster": 1}));
    assert!(decide_on("admin.$cmd", &doc! {"$query": {"hello": 1}}));
    for (namespace, command) in [
        ("shop.customers", doc! {"isMaster": 1}),
        ("shop.customers", doc! {"ssn": CANARY}),
        ("shop.$cmd", doc! {"find": "customers"}),
        ("shop.$cmd", doc! {"$query": {"insert": "customers"}}),
        ("shop.$cmd", doc! {}),
    ] {
        assert!(!decide_on(namespace, &command), "{namespace} {command}");
    }
}

#[test]
fn a_stage_that_is_not_known_has_the_code_of_mongodbs_own_error() {
    let command = doc! {"aggregate": "orders", "pipeline": [{"$unsupported": "foo"}], "cursor": {}};
    let refusal = refused(command, &["`$unsupported`"]);
    assert_eq!(refusal.kind.code(), 40324);
}
