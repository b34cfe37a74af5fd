//! Random updates: replacements, operators on sealed and open fields, positions.

use mongodb::bson::{Array, Bson, Document, doc};

use super::dice::Dice;
use super::filters::{arrays, equality_condition, filter, of_element, right_value};
use super::values::{self, array, plain_number, scalar, sealed_string, sealed_value};

/// A change, and what goes with it.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) filter: Document,
    pub(super) update: Bson,
    pub(super) array_filters: Option<Array>,
    pub(super) upsert: bool,
}

/// A change of the documents that a random filter finds.
pub(super) fn change(dice: &mut Dice) -> Change {
    let mut change = match dice.below(20) {
        0..3 => of_positions(dice),
        3 | 4 => of_filtered_elements(dice),
        5 => by_pipeline(dice),
        6..8 => replacement(dice),
        _ => by_operators(dice),
    };
    if dice.chance(35) {
        let id = values::id(dice);
        change.filter.insert("_id", id);
    }
    if dice.chance(25) {
        change.upsert = true;
        if dice.chance(70) {
            upsert_filter(dice, &mut change);
        }
    }
    change
}

fn with(filter: Document, update: impl Into<Bson>) -> Change {
    Change {
        filter,
        update: update.into(),
        array_filters: None,
        upsert: false,
    }
}

/// Filters of upserts often name what the new document is to hold.
fn upsert_filter(dice: &mut Dice, change: &mut Change) {
    let mut filter = doc! { "_id": values::id(dice) };
    for path in [
        "ssn",
        "payment.card",
        "tags",
        "age",
        "name",
        "sub.x",
        "payment.kind",
        "payment",
    ] {
        if !dice.chance(20) {
            continue;
        }
        let value = match path {
            "name" | "sub.x" | "payment.kind" => values::open_string(dice),
            "payment" => dice.pick(&[doc! { "kind": 1 }.into(), doc! {}.into(), Bson::Null]),
            _ if dice.chance(10) => Bson::Null,
            _ => right_value(dice, path),
        };
        let condition = match dice.below(8) {
            0 => doc! { "$eq": value }.into(),
            1 => doc! { "$in": [value] }.into(),
            2 => doc! { "$all": [value] }.into(),
            3 => doc! { "$ne": value }.into(),
            4 => doc! { "$exists": false }.into(),
            5 if dice.chance(20) => doc! { dice.pick(&["$in", "$all"]): [] }.into(),
            _ => value,
        };
        match dice.below(6) {
            0 => filter.insert("$and", vec![doc! { path: condition }]),
            1 => filter.insert("$or", or_of_one(dice, doc! { path: condition })),
            _ => filter.insert(path, condition),
        };
    }
    change.filter = filter;
}

/// A `$or` that is as good as its one branch.
fn or_of_one(dice: &mut Dice, branch: Document) -> Vec<Document> {
    match dice.below(10) {
        0 => vec![doc! { "name": { "$in": [] } }, branch],
        1 => vec![branch.clone(), branch],
        _ => vec![branch],
    }
}

fn replacement(dice: &mut Dice) -> Change {
    let mut fields = values::fields(dice);
    if dice.chance(15) {
        fields.insert("_id", values::id(dice));
    }
    with(filter(dice, 1), fields)
}

fn by_operators(dice: &mut Dice) -> Change {
    let mut update = Document::new();
    let mut taken: Vec<&str> = Vec::new();
    for _ in 0..dice.pick(&[1, 1, 1, 2, 2, 3]) {
        let (operator, path, value) = operator(dice);
        // MongoDB refuses two operators on one field; seldom try that too.
        let top = path.split('.').next().unwrap_or(path);
        if taken.contains(&top) && !dice.chance(5) {
            continue;
        }
        taken.push(top);
        if let Ok(fields) = update.get_document_mut(operator) {
            fields.insert(path, value);
        } else {
            update.insert(operator, doc! { path: value });
        }
    }
    with(filter(dice, 1), update)
}

fn operator(dice: &mut Dice) -> (&'static str, &'static str, Bson) {
    match dice.below(28) {
        0..6 => {
            let path = dice.pick(&["ssn", "payment.card", "tags", "age", "address"]);
            ("$set", path, sealed_value(dice, path))
        }
        6 => set_parent(dice),
        7 | 8 => {
            let path = dice.pick(&[
                "ssn",
                "payment.card",
                "tags",
                "age",
                "address",
                "visits",
                "payment",
            ]);
            ("$unset", path, "".into())
        }
        9 => {
            let path = dice.pick(&["ssn", "payment.card", "tags", "age", "address"]);
            ("$setOnInsert", path, sealed_value(dice, path))
        }
        10 | 11 => push(dice),
        12 => pull(dice),
        13 => {
            let path = dice.pick(&["tags", "visits", "list"]);
            ("$pop", path, dice.pick(&[1, -1]).into())
        }
        14 => {
            let path = dice.pick(&[
                "tags.0",
                "tags.1",
                "visits.0.note",
                "visits.1.note",
                "ssn.0",
            ]);
            let field = if path.starts_with("visits") {
                "visits.note"
            } else {
                "ssn"
            };
            (
                dice.pick(&["$set", "$set", "$unset"]),
                path,
                sealed_value(dice, field),
            )
        }
        15 if dice.chance(30) => refused(dice),
        24..26 => add_to_set(dice),
        26 => pull_all(dice),
        _ => open_operator(dice),
    }
}

fn set_parent(dice: &mut Dice) -> (&'static str, &'static str, Bson) {
    let fields = values::fields(dice);
    let path = dice.pick(&["payment", "visits", "visits.0"]);
    let value = match path {
        "visits.0" => values::visit(dice).into(),
        _ => fields.get(path).cloned().unwrap_or(Bson::Null),
    };
    ("$set", path, value)
}

fn push(dice: &mut Dice) -> (&'static str, &'static str, Bson) {
    let path = dice.pick(&["tags", "tags", "visits", "visits", "list"]);
    let one = |dice: &mut Dice| match path {
        "tags" => sealed_value(dice, "tags.0"),
        "visits" => values::visit(dice).into(),
        _ => scalar(dice),
    };
    if dice.chance(40) {
        return ("$push", path, one(dice));
    }
    let mut push = doc! { "$each": array(dice, 0, 3, one) };
    if dice.chance(40) {
        push.insert("$slice", dice.pick(&[-3, -1, 0, 2, 3]));
    }
    if dice.chance(40) {
        push.insert("$position", dice.pick(&[-1, 0, 1, 5]));
    }
    if path == "visits" && dice.chance(20) {
        push.insert("$sort", doc! { "at": dice.pick(&[1, -1]) });
    }
    ("$push", path, push.into())
}

fn tag(dice: &mut Dice) -> Bson {
    match dice.chance(12) {
        true => Bson::Null,
        false => sealed_string(dice),
    }
}

fn add_to_set(dice: &mut Dice) -> (&'static str, &'static str, Bson) {
    let path = dice.pick(&["tags", "tags", "tags", "ssn", "age", "visits"]);
    let one = |dice: &mut Dice| match path {
        "visits" if dice.chance(70) => doc! { "at": plain_number(dice) }.into(),
        "visits" => values::visit(dice).into(),
        "age" => values::number(dice),
        _ => tag(dice),
    };
    match dice.chance(50) {
        true => ("$addToSet", path, one(dice)),
        // Unique indexes of tokens take an empty array for null.
        false => {
            let least = usize::from(matches!(path, "ssn" | "age"));
            let each = doc! { "$each": array(dice, least, 4, one) };
            ("$addToSet", path, each.into())
        }
    }
}

fn pull_all(dice: &mut Dice) -> (&'static str, &'static str, Bson) {
    match dice.below(4) {
        0 => (
            "$pullAll",
            "visits",
            array(dice, 0, 2, |dice| doc! { "at": plain_number(dice) }.into()),
        ),
        _ => ("$pullAll", "tags", array(dice, 0, 3, tag)),
    }
}

fn pull(dice: &mut Dice) -> (&'static str, &'static str, Bson) {
    match dice.below(12) {
        8 | 9 => ("$pull", "tags", of_element(dice, "tags").into()),
        10 => ("$pull", "tags", tag(dice)),
        11 => (
            "$pull",
            "tags",
            doc! { "$nin": array(dice, 0, 2, tag) }.into(),
        ),
        0..3 => ("$pull", "tags", sealed_string(dice)),
        3 => (
            "$pull",
            "tags",
            doc! { "$in": array(dice, 0, 3, sealed_string) }.into(),
        ),
        4 => ("$pull", "visits", doc! { "at": plain_number(dice) }.into()),
        5 => (
            "$pull",
            "visits",
            doc! { "note": { "$exists": dice.chance(50) } }.into(),
        ),
        6 => (
            "$pull",
            "payment",
            doc! { "card": sealed_string(dice) }.into(),
        ),
        _ => ("$pull", "list", scalar(dice)),
    }
}

/// What computes on a sealed field.
fn refused(dice: &mut Dice) -> (&'static str, &'static str, Bson) {
    match dice.below(7) {
        0 => ("$inc", "age", 1.into()),
        1 => ("$mul", "age", 2.into()),
        2 => ("$max", "age", 3.into()),
        3 => ("$rename", "ssn", "name".into()),
        4 => ("$rename", "name", "ssn".into()),
        5 => ("$addToSet", "payment.card", sealed_string(dice)),
        _ => ("$bit", "age", doc! { "and": 1 }.into()),
    }
}

fn open_operator(dice: &mut Dice) -> (&'static str, &'static str, Bson) {
    match dice.below(14) {
        0..3 => (
            "$set",
            dice.pick(&["name", "sub.x", "list.0", "visits.0.at", "payment.kind"]),
            scalar(dice),
        ),
        3 => ("$set", "sub", values::open_value(dice)),
        4 => (
            "$unset",
            dice.pick(&["name", "sub.x", "list", "visits.0.at"]),
            "".into(),
        ),
        5 | 6 => (
            "$inc",
            dice.pick(&["n", "sub.x", "visits.0.at"]),
            plain_number(dice),
        ),
        7 => ("$mul", "n", plain_number(dice)),
        8 => ("$min", "n", plain_number(dice)),
        9 => ("$max", "n", plain_number(dice)),
        10 => (
            "$rename",
            dice.pick(&["name", "sub.x", "missing"]),
            dice.pick(&["sub.y", "renamed"]).into(),
        ),
        11 => ("$addToSet", "list", scalar(dice)),
        12 => (
            "$addToSet",
            "list",
            doc! { "$each": array(dice, 0, 3, scalar) }.into(),
        ),
        _ => ("$setOnInsert", dice.pick(&["name", "sub.y"]), scalar(dice)),
    }
}

/// `$` and `$[]`: the element that the filter found, and all elements.
fn of_positions(dice: &mut Dice) -> Change {
    let note = sealed_value(dice, "visits.note");
    let tag = sealed_value(dice, "visits.note");
    match dice.below(15) {
        11.. => {
            let path = dice.pick(&["list.$", "list.$", "visits.$.at", "payment.$.kind"]);
            with(arrays(dice), doc! { "$set": { path: scalar(dice) } })
        }
        9 => with(
            doc! { "list": scalar(dice) },
            doc! { "$set": { "tags.$": tag } },
        ),
        10 => with(
            doc! { "tags": sealed_string(dice), "list": { "$exists": true } },
            doc! { "$set": { dice.pick(&["tags.$", "ssn.$"]): tag } },
        ),
        0 => with(
            doc! { "visits.at": plain_number(dice) },
            doc! { "$set": { "visits.$.note": note } },
        ),
        1 => with(
            doc! { "visits": { "$elemMatch": { "at": plain_number(dice), "note": { "$exists": true } } } },
            doc! { "$set": { "visits.$.note": note, "visits.$.by": "me" } },
        ),
        2 => with(
            doc! { "tags": sealed_string(dice) },
            doc! { "$set": { "tags.$": tag } },
        ),
        3 => with(
            doc! { "tags": equality_condition(dice, "tags") },
            doc! { "$set": { "tags.$": tag } },
        ),
        4 => with(
            filter(dice, 0),
            doc! { "$set": { "visits.$[].note": note } },
        ),
        5 => with(filter(dice, 0), doc! { "$set": { "tags.$[]": tag } }),
        6 => with(
            doc! { "visits.at": plain_number(dice) },
            doc! { "$unset": { "visits.$.note": "" } },
        ),
        7 => with(
            doc! { "visits.at": plain_number(dice) },
            doc! { "$set": { "visits.$": values::visit(dice) }, "$inc": { "n": 1 } },
        ),
        _ => with(
            doc! { "payment.card": right_value(dice, "") },
            doc! { "$set": { "payment.$.card": tag } },
        ),
    }
}

/// `$[x]` with array filters.
fn of_filtered_elements(dice: &mut Dice) -> Change {
    let note = sealed_value(dice, "visits.note");
    let (update, condition) = match dice.below(7) {
        0 => (
            doc! { "$set": { "visits.$[x].note": note } },
            doc! { "x.at": { "$gte": plain_number(dice) } },
        ),
        1 => (
            doc! { "$set": { "visits.$[x].note": note } },
            doc! { "x.note": { "$exists": dice.chance(50) } },
        ),
        2 => (
            doc! { "$set": { "tags.$[x]": note } },
            doc! { "x": sealed_string(dice) },
        ),
        3 => (
            doc! { "$set": { "tags.$[x]": note } },
            doc! { "x": equality_condition(dice, "x") },
        ),
        4 => (
            doc! { "$set": { "payment.$[x].card": note } },
            doc! { "$or": [{ "x.card": sealed_string(dice) }, { "x.kind": "a" }] },
        ),
        5 => (
            doc! { "$inc": { "visits.$[x].at": 1 } },
            doc! { "x.note": Bson::Null },
        ),
        _ => (
            doc! { "$set": { "list.$[x]": scalar(dice) } },
            doc! { "x": scalar(dice) },
        ),
    };
    let mut change = with(filter(dice, 0), update);
    change.array_filters = Some(vec![condition.into()]);
    change
}

fn by_pipeline(dice: &mut Dice) -> Change {
    if dice.chance(70) {
        return with(filter(dice, 1), super::stages::update(dice));
    }
    let stages = match dice.below(5) {
        0 => vec![doc! { "$set": { "copied": "$name" } }],
        1 => vec![doc! { "$unset": dice.pick(&["ssn", "name", "tags"]) }],
        2 => vec![
            doc! { "$set": { "n": 3 } },
            doc! { "$unset": ["payment.card", "sub.x"] },
        ],
        3 => vec![doc! { "$set": { "sub": { "x": "$n", "y": "literal" } } }],
        _ => vec![doc! { "$set": { "ssn": "$name" } }],
    };
    let stages: Array = stages.into_iter().map(Bson::from).collect();
    with(filter(dice, 1), stages)
}
