//! Whatever random requests hold at sealed paths does not reach MongoDB in plain.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::wire::testing::sequence;

/// A number that stands for a value that no message may hold.
const CANARY_NUMBER: i64 = 0x4711_0815_4711_0815;

const PATHS: &[&str] = &[
    "ssn",
    "payment.card",
    "tags",
    "age",
    "address",
    "visits.note",
    "contacts.*.phone",
    "notes",
];

const NAMES: &[&str] = &[
    "ssn",
    "payment",
    "card",
    "tags",
    "age",
    "address",
    "visits",
    "note",
    "contacts",
    "home",
    "phone",
    "notes",
    "0",
    "1",
    "x",
    "_id",
    "",
    "c",
    "e1",
    "payment.card",
    "payment.open",
    "payment.0.card",
    "visits.note",
    "visits.1.note",
    "tags.0",
    "tags.$",
    "tags.$[]",
    "visits.$[].note",
    "visits.$.x",
    "address.city",
    "contacts.home.phone",
    "contacts.home",
    "contacts.0.phone",
    "ssn.c",
    "0.ssn",
    "x.ssn",
    "visits.$[visits].note",
    "tags.$[tags]",
    "payment.$[payment].card",
];

const OPERATORS: &[&str] = &[
    "$eq",
    "$ne",
    "$in",
    "$nin",
    "$not",
    "$and",
    "$or",
    "$nor",
    "$exists",
    "$elemMatch",
    "$all",
    "$size",
    "$gt",
    "$type",
    "$each",
    "$slice",
    "$sort",
    "$position",
    "$set",
    "$regex",
    "$comment",
    "$ref",
    "$foo",
];

const UPDATES: &[&str] = &[
    "$set",
    "$setOnInsert",
    "$unset",
    "$push",
    "$pull",
    "$pullAll",
    "$addToSet",
    "$pop",
    "$inc",
    "$mul",
    "$min",
    "$max",
    "$rename",
    "$currentDate",
    "$bit",
];

fn leaf() -> impl Strategy<Value = Bson> {
    prop_oneof![
        6 => Just(Bson::from("leaf")),
        2 => (0..3).prop_map(|number: i32| Bson::from(number)),
        1 => Just(Bson::Null),
        1 => Just(Bson::Undefined),
        1 => Just(Bson::from(true)),
        1 => Just(Bson::Symbol("leaf".to_owned())),
        1 => Just(Bson::JavaScriptCode("leaf".to_owned())),
    ]
}

fn named(
    names: &'static [&'static str],
    value: impl Strategy<Value = Bson> + 'static,
) -> impl Strategy<Value = Document> {
    prop::collection::vec((prop::sample::select(names), value), 0..4).prop_map(|fields| {
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    })
}

/// Any tree of names, operators, documents and arrays.
fn tree() -> impl Strategy<Value = Bson> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            3 => named(NAMES, inner.clone()).prop_map(Bson::from),
            1 => named(OPERATORS, inner.clone()).prop_map(Bson::from),
            2 => prop::collection::vec(inner, 0..4).prop_map(Bson::from),
        ]
    })
}

/// A value, an array of them, or what else can hold one at the same path.
fn held(value: impl Strategy<Value = Bson> + Clone + 'static) -> impl Strategy<Value = Bson> {
    prop_oneof![
        2 => value.clone(),
        2 => prop::collection::vec(value.clone(), 0..3).prop_map(Bson::from),
        1 => value.clone().prop_map(|value| Bson::from(doc! {"0": value})),
        1 => value.prop_map(|value| Bson::from(vec![Bson::from(vec![value])])),
    ]
}

/// A document that the schema takes, mostly.
fn shaped() -> impl Strategy<Value = Document> {
    let text = || prop_oneof![4 => Just(Bson::from("leaf")), 1 => Just(Bson::Null)];
    let texts = move || {
        prop_oneof![
            text(),
            prop::collection::vec(text(), 0..3).prop_map(Bson::from)
        ]
    };
    let holding =
        move |names: &'static [&'static str]| named(names, text()).prop_map(Bson::from).boxed();
    let contacts = named(&["home", "1"], holding(&["phone", "x"]))
        .prop_map(Bson::from)
        .boxed();
    let field = prop_oneof![
        (Just("ssn"), texts()),
        (Just("tags"), texts()),
        (Just("age"), Just(Bson::from(2))),
        (Just("address"), tree()),
        (Just("notes"), tree()),
        (Just("x"), tree()),
        (Just("payment"), held(holding(&["card", "open"]))),
        (Just("visits"), held(holding(&["note", "at"]))),
        (Just("contacts"), held(contacts)),
    ];
    prop::collection::vec(field, 1..4).prop_map(|fields| {
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    })
}

fn filter() -> impl Strategy<Value = Document> {
    let condition = prop_oneof![
        2 => leaf(),
        1 => tree(),
        1 => named(&["$in", "$all"], prop::collection::vec(named(&["card", "note", "x"], leaf()).prop_map(Bson::from), 0..2).prop_map(Bson::from)).prop_map(Bson::from),
        2 => named(&["$eq", "$ne", "$exists", "$gt"], leaf()).prop_map(Bson::from),
        2 => named(&["$in", "$nin", "$all"], prop::collection::vec(leaf(), 0..3).prop_map(Bson::from)).prop_map(Bson::from),
        1 => named(&["$not", "$elemMatch"], named(&["$eq", "$ne", "card", "x"], leaf()).prop_map(Bson::from)).prop_map(Bson::from),
    ];
    let conditions = named(NAMES, condition).boxed();
    (
        conditions.clone(),
        prop::option::of((
            prop::sample::select(&["$and", "$or", "$nor"][..]),
            prop::collection::vec(conditions, 1..3),
        )),
    )
        .prop_map(|(mut filter, logical)| {
            if let Some((operator, branches)) = logical {
                filter.insert(operator, branches);
            }
            filter
        })
}

fn change() -> impl Strategy<Value = Bson> {
    let operators =
        prop::collection::vec((prop::sample::select(UPDATES), named(NAMES, tree())), 1..3)
            .prop_map(|operators| {
                Bson::Document(
                    operators
                        .into_iter()
                        .map(|(operator, fields)| (operator.to_owned(), fields.into()))
                        .collect(),
                )
            });
    prop_oneof![
        4 => operators,
        1 => named(NAMES, tree()).prop_map(Bson::from),
        2 => (prop::sample::select(&["$set", "$setOnInsert"][..]), shaped())
            .prop_map(|(operator, fields)| doc! {operator: fields}.into()),
        2 => shaped().prop_map(Bson::from),
        1 => tree()
    ]
}

/// A command, without canaries yet.
fn command() -> impl Strategy<Value = Document> {
    let document = || prop_oneof![named(NAMES, tree()), shaped()];
    prop_oneof![
        prop::collection::vec(document(), 0..3).prop_map(|documents| doc! {"insert": "customers", "documents": documents}),
        (filter(), change(), any::<bool>(), filter()).prop_map(|(q, u, upsert, filters)| {
            doc! {"update": "customers", "updates": [{"q": q, "u": u, "upsert": upsert, "arrayFilters": [filters]}]}
        }),
        (filter(), change(), any::<bool>()).prop_map(|(query, update, upsert)| {
            doc! {"findAndModify": "customers", "update": update, "query": query, "upsert": upsert}
        }),
        (filter(), change(), any::<bool>()).prop_map(|(q, u, upsert)| {
            doc! {"update": "customers", "updates": [{"u": u, "upsert": upsert, "q": q}]}
        }),
        filter().prop_map(|q| doc! {"delete": "customers", "deletes": [{"q": q, "limit": 1}]}),
        filter().prop_map(|filter| doc! {"find": "customers", "filter": filter}),
        filter().prop_map(|filter| doc! {"explain": {"count": "customers", "query": filter}}),
        tree().prop_map(|tree| doc! {"find": "customers", "filter": tree}),
        (filter(), filter()).prop_map(|(one, two)| {
            doc! {"aggregate": "customers", "pipeline": [{"$match": one}, {"$unwind": "$tags"}, {"$facet": {"f": [{"$match": two}]}}]}
        }),
        filter().prop_map(|filter| doc! {"createIndexes": "customers", "indexes": [{"key": {"ssn": 1}, "partialFilterExpression": filter}]}),
        filter().prop_map(|filter| doc! {"collMod": "customers", "validator": filter}),
    ]
}

/// Whether `names` lead to a sealed field or into one. Numbers below the top are
/// array indexes, unless a star takes them.
fn leads_into(path: &[&str], names: &[&str], top: bool) -> bool {
    let Some((wanted, path_rest)) = path.split_first() else {
        return true;
    };
    let Some((name, names_rest)) = names.split_first() else {
        return false;
    };
    let position = !top
        && (name.starts_with('$')
            || !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()));
    if *wanted == "*" || wanted == name {
        leads_into(path_rest, names_rest, false)
    } else {
        position && leads_into(path, names_rest, false)
    }
}

fn is_sealed(names: &[String]) -> bool {
    let names: Vec<&str> = names.iter().flat_map(|name| name.split('.')).collect();
    PATHS
        .iter()
        .any(|path| leads_into(&path.split('.').collect::<Vec<_>>(), &names, true))
}

/// Puts canaries wherever the names lead to a sealed field. In a `stored` document,
/// what begins with `$` is a name like any other.
fn baited(value: Bson, names: &mut Vec<String>, stored: bool) -> Bson {
    match value {
        Bson::Document(document) => Bson::Document(
            document
                .into_iter()
                .map(|(key, value)| {
                    if key == "$comment" && !stored {
                        return (key, value);
                    }
                    // How many, not what.
                    if matches!(key.as_str(), "$size" | "$slice" | "$position")
                        && value.as_i32().is_some()
                        && !stored
                    {
                        return (key, value);
                    }
                    let operator = key.starts_with('$') && !stored;
                    if !operator {
                        names.push(key.clone());
                    }
                    let value = baited(value, names, stored);
                    // Within a field that is sealed whole, names are values too.
                    let inside = key == "x" && is_sealed(&names[..names.len() - 1]);
                    if !operator {
                        names.pop();
                    }
                    (if inside { CANARY.to_owned() } else { key }, value)
                })
                .collect(),
        ),
        Bson::Array(items) => items
            .into_iter()
            .map(|item| baited(item, names, stored))
            .collect::<Vec<_>>()
            .into(),
        leaf if !is_sealed(names) => leaf,
        Bson::String(_) => CANARY.into(),
        Bson::Symbol(_) => Bson::Symbol(CANARY.to_owned()),
        Bson::JavaScriptCode(_) => Bson::JavaScriptCode(CANARY.to_owned()),
        Bson::Int32(2) => CANARY_NUMBER.into(),
        other => other,
    }
}

/// The command with canaries in what it holds of documents.
fn bait(command: Document) -> Document {
    const HOLDERS: &[&str] = &[
        "documents",
        "updates",
        "deletes",
        "q",
        "u",
        "arrayFilters",
        "filter",
        "query",
        "update",
        "pipeline",
        "explain",
        "indexes",
        "partialFilterExpression",
        "validator",
        "$match",
        "$facet",
        "f",
    ];
    fn inside(value: Bson, stored: bool) -> Bson {
        match value {
            Bson::Document(document)
                if document.keys().any(|key| HOLDERS.contains(&key.as_str())) =>
            {
                bait(document).into()
            }
            Bson::Array(items)
                if items.iter().all(|item| {
                    item.as_document()
                        .is_some_and(|item| item.keys().any(|key| HOLDERS.contains(&key.as_str())))
                }) =>
            {
                let items = items.into_iter().map(|item| inside(item, stored));
                items.collect::<Vec<_>>().into()
            }
            other => baited(other, &mut Vec::new(), stored),
        }
    }
    command
        .into_iter()
        .map(|(key, value)| {
            let value = if HOLDERS.contains(&key.as_str()) {
                let stored = key == "documents";
                inside(value, stored)
            } else {
                value
            };
            (key, value)
        })
        .collect()
}

fn holds_canary(bytes: &[u8]) -> bool {
    let number = CANARY_NUMBER.to_le_bytes();
    memchr::memmem::find(bytes, CANARY.as_bytes()).is_some()
        || memchr::memmem::find(bytes, &number).is_some()
}

fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    }
}

#[test]
fn what_is_forwarded_is_whole_and_holds_no_canary() {
    let (forwarded, baited) = (Cell::new(0), Cell::new(0));
    let check = |frame: &[u8]| {
        let message = Message::recognise(frame).unwrap();
        let mut scratch = Vec::new();
        match decide(&message, &POLICY, &mut scratch) {
            Decision::Forward { cleared, .. } => {
                forwarded.set(forwarded.get() + 1);
                baited.set(baited.get() + u32::from(holds_canary(frame)));
                prop_assert!(!holds_canary(cleared.bytes()));
                prop_assert!(super::forwarded(frame).is_ok());
                super::epochs::check_alike(frame)?;
            }
            Decision::Refuse(refusal) => {
                prop_assert!(!refusal.message.contains(CANARY), "{}", refusal);
                super::epochs::check_alike(frame)?;
            }
        }
        Ok(())
    };
    TestRunner::new(config(6000))
        .run(&command(), |command| {
            let command = bait(command);
            check(&framed(&command))?;
            let name = command.keys().next().unwrap().as_str();
            let field = match name {
                "insert" => "documents",
                "update" => "updates",
                "delete" => "deletes",
                _ => return Ok(()),
            };
            let statements: Vec<Document> = command
                .get_array(field)
                .unwrap()
                .iter()
                .map(|statement| statement.as_document().unwrap().clone())
                .collect();
            let body = body(&doc! {name: "customers", "$db": "shop"});
            let section = sequence(field, &statements);
            check(&msg(0, &[&body[..], &section].concat()))?;
            check(&msg(1, &[&section[..], &body].concat()))?;
            Ok(())
        })
        .unwrap();
    // Enough of them went on, and held something to hide.
    assert!(forwarded.get() > 400, "{}", forwarded.get());
    assert!(baited.get() > 100, "{}", baited.get());
}

#[test]
fn a_frame_with_any_byte_changed_is_decided_without_a_panic() {
    TestRunner::new(config(3000))
        .run(
            &(
                command(),
                any::<prop::sample::Index>(),
                any::<u8>(),
                any::<prop::sample::Index>(),
                any::<u8>(),
            ),
            |(command, at, byte, also, other)| {
                let mut frame = framed(&bait(command));
                // The header and the flags stay, so that the body is looked at.
                let length = frame.len() - 20;
                frame[20 + at.index(length)] = byte;
                frame[20 + also.index(length)] ^= other;
                let Ok(message) = Message::recognise(&frame) else {
                    return Ok(());
                };
                let mut scratch = Vec::new();
                if let Decision::Forward { cleared, .. } = decide(&message, &POLICY, &mut scratch) {
                    prop_assert!(Message::recognise(cleared.bytes()).is_ok());
                }
                Ok(())
            },
        )
        .unwrap();
}
