//! Random filters: equality in all its forms on sealed fields, anything on open ones.

use mongodb::bson::{Bson, Document, Regex, doc};

use super::dice::Dice;
use super::values::{self, array, open_string, plain_number, scalar, sealed_string};

/// Sealed fields that answer equality, and paths through arrays to them.
const EQUALITY: &[&str] = &[
    "ssn",
    "ssn",
    "payment.card",
    "payment.card",
    "tags",
    "tags",
    "tags",
    "age",
    "age",
    "tags.0",
    "tags.1",
    "payment.0.card",
    "ssn.0",
];
/// Sealed fields that answer presence only.
const PRESENCE: &[&str] = &["address", "visits.note", "visits.0.note", "visits.1.note"];
/// Fields that hold sealed fields.
const PARENTS: &[&str] = &["payment", "visits", "visits.0", "payment.1"];
const OPEN: &[&str] = &[
    "name",
    "n",
    "list",
    "sub.x",
    "sub",
    "list.0",
    "list.x",
    "visits.at",
    "visits.0.at",
    "payment.kind",
    "missing",
];

/// A filter; `depth` is how deep logical operators may nest.
pub(super) fn filter(dice: &mut Dice, depth: usize) -> Document {
    let mut filter = Document::new();
    for _ in 0..dice.pick(&[0, 1, 1, 1, 1, 2, 2, 3]) {
        let (path, condition) = match dice.below(14) {
            0 | 1 if depth > 0 => logical(dice, depth),
            0..6 => equality(dice),
            6 | 7 => presence(dice),
            8 => parent(dice, depth),
            9 => ("_id".to_owned(), id_condition(dice)),
            _ => open(dice),
        };
        filter.insert(path, condition);
    }
    filter
}

/// A filter of equalities on sealed fields in forms that must be answered.
pub(super) fn plain_equality(dice: &mut Dice) -> Document {
    let mut filter = Document::new();
    for _ in 0..dice.pick(&[1, 1, 2]) {
        let path = dice.pick(EQUALITY);
        let value = right_value(dice, path);
        let other = right_value(dice, path);
        let condition = match dice.below(8) {
            0..3 => value,
            3 => doc! { "$eq": value }.into(),
            4 => doc! { "$in": [value, other] }.into(),
            5 => doc! { "$ne": value }.into(),
            6 => doc! { "$nin": [value, other] }.into(),
            _ => doc! { "$not": { "$eq": value } }.into(),
        };
        filter.insert(path, condition);
    }
    if dice.chance(30) {
        let (path, condition) = open(dice);
        filter.insert(path, condition);
    }
    filter
}

/// A filter of several arrays, of which one gives the position.
pub(super) fn arrays(dice: &mut Dice) -> Document {
    if dice.chance(20) {
        return filter(dice, 2);
    }
    let mut conditions = Vec::new();
    for _ in 0..dice.pick(&[1, 2, 2, 3]) {
        let (path, condition) = match dice.below(8) {
            0..4 => {
                let path = dice.pick(&["tags", "tags", "payment.card", "ssn", "tags.0"]);
                let condition = match dice.chance(30) {
                    true => comparable(dice, path),
                    false => equality_condition(dice, path),
                };
                (path.to_owned(), condition)
            }
            4 => presence(dice),
            5 => parent(dice, 0),
            _ => open(dice),
        };
        conditions.push(doc! { path: condition });
    }
    match dice.below(10) {
        0 | 1 => doc! { "$and": conditions },
        2 | 3 => doc! { "$or": conditions },
        _ => conditions.into_iter().flatten().collect(),
    }
}

fn logical(dice: &mut Dice, depth: usize) -> (String, Bson) {
    if dice.chance(8) {
        return match dice.below(3) {
            0 => ("$expr".into(), doc! { "$eq": ["$n", 1] }.into()),
            1 => (
                "$expr".into(),
                doc! { "$gt": [{ "$size": { "$ifNull": ["$missing", []] } }, 0] }.into(),
            ),
            _ => ("$comment".into(), "why".into()),
        };
    }
    let name = dice.pick(&["$and", "$or", "$or", "$nor"]);
    let branches = array(dice, 1, 3, |dice| filter(dice, depth - 1).into());
    (name.to_owned(), branches)
}

/// A value that the field at `path` may have.
pub(super) fn right_value(dice: &mut Dice, path: &str) -> Bson {
    if path.starts_with("age") {
        values::number(dice)
    } else {
        sealed_string(dice)
    }
}

/// A value to compare a sealed field with: the right type, null, seldom another type.
fn comparable(dice: &mut Dice, path: &str) -> Bson {
    match dice.below(20) {
        0 | 1 => Bson::Null,
        2 => dice.pick(&[Bson::Boolean(true), Bson::Int32(1), "x".into()]),
        _ => right_value(dice, path),
    }
}

fn list_of(dice: &mut Dice, path: &str) -> Bson {
    array(dice, 0, 4, |dice| comparable(dice, path))
}

fn equality(dice: &mut Dice) -> (String, Bson) {
    let path = dice.pick(EQUALITY);
    (path.to_owned(), equality_condition(dice, path))
}

/// A condition on a sealed field with equality.
pub(super) fn equality_condition(dice: &mut Dice, path: &str) -> Bson {
    match dice.below(24) {
        0..6 => comparable(dice, path),
        6 => strange(dice, path),
        7 | 8 => {
            // Several operators, all of which must hold.
            let mut both = operator(dice, path);
            both.extend(operator(dice, path));
            both.into()
        }
        9 | 10 => doc! { "$not": operator(dice, path) }.into(),
        _ => operator(dice, path).into(),
    }
}

fn operator(dice: &mut Dice, path: &str) -> Document {
    match dice.below(22) {
        0 | 1 => doc! { "$eq": comparable(dice, path) },
        2..5 => doc! { "$in": list_of(dice, path) },
        5 | 6 => doc! { "$ne": comparable(dice, path) },
        7 | 8 => doc! { "$nin": list_of(dice, path) },
        9 => doc! { "$exists": dice.chance(50) },
        10 | 11 => doc! { "$all": list_of(dice, path) },
        12 => doc! { "$size": i32::try_from(dice.below(4)).unwrap() },
        13..16 => doc! { "$elemMatch": of_element(dice, path) },
        16 => {
            doc! { "$all": array(dice, 1, 2, |dice| doc! { "$elemMatch": of_element(dice, path) }.into()) }
        }
        17..20 => doc! { "$type": kinds(dice, path) },
        _ => doc! { "$not": { "$exists": dice.chance(50) } },
    }
}

/// Operators on one element of a sealed array.
pub(super) fn of_element(dice: &mut Dice, path: &str) -> Document {
    let mut both = element_operator(dice, path);
    if dice.chance(20) {
        both.extend(element_operator(dice, path));
    }
    both
}

fn element_operator(dice: &mut Dice, path: &str) -> Document {
    match dice.below(10) {
        0..3 => doc! { "$eq": comparable(dice, path) },
        3 => doc! { "$in": list_of(dice, path) },
        4 | 5 => doc! { "$ne": comparable(dice, path) },
        6 => doc! { "$nin": list_of(dice, path) },
        7 => doc! { "$not": element_operator(dice, path) },
        8 => doc! { "$type": kinds(dice, path) },
        _ => doc! { "$exists": dice.chance(80) },
    }
}

/// Types that a sealed field has, all of them or other ones; seldom some.
pub(super) fn kinds(dice: &mut Dice, path: &str) -> Bson {
    let own: &[Bson] = match path {
        path if path.starts_with("age") => &["number".into()],
        path if path.starts_with("address") => &[],
        _ => &["string".into(), Bson::Int32(2), Bson::Double(2.0)],
    };
    let other = [
        "null", "array", "null", "array", "object", "binData", "bool", "minKey", "int",
    ];
    let one = |dice: &mut Dice| match own {
        [_, ..] if dice.chance(50) => dice.pick(own),
        _ => dice.pick(&other).into(),
    };
    match dice.chance(60) {
        true => one(dice),
        false => array(dice, 1, 3, one),
    }
}

/// What the proxy refuses, or what at least nobody needs.
fn strange(dice: &mut Dice, path: &str) -> Bson {
    let value = right_value(dice, path);
    match dice.below(10) {
        0 => doc! { "$gt": value }.into(),
        1 => doc! { "$lte": value }.into(),
        2 => doc! { "$regex": "^sealed" }.into(),
        3 => doc! { "$type": dice.pick(&["int", "no type"]) }.into(),
        4 => array(dice, 0, 2, |_| value.clone()),
        5 => doc! { "x": value }.into(),
        6 => doc! { "$elemMatch": { "$gt": value } }.into(),
        7 => doc! { "$in": [Bson::RegularExpression(Regex {
            pattern: "^s".try_into().unwrap(),
            options: "".try_into().unwrap(),
        })] }
        .into(),
        8 => doc! { "$elemMatch": {} }.into(),
        _ => doc! { "$all": [{ "$elemMatch": { "$eq": value } }] }.into(),
    }
}

fn presence(dice: &mut Dice) -> (String, Bson) {
    let path = dice.pick(PRESENCE);
    let condition = match dice.below(14) {
        0 | 1 => Bson::Null,
        2 => doc! { "$eq": Bson::Null }.into(),
        3 | 4 => doc! { "$ne": Bson::Null }.into(),
        5 => doc! { "$in": [Bson::Null] }.into(),
        6 => doc! { "$nin": [Bson::Null] }.into(),
        7 => doc! { "$not": { "$exists": dice.chance(50) } }.into(),
        8 => doc! { "$exists": true, "$ne": Bson::Null }.into(),
        9 if dice.chance(20) => sealed_string(dice),
        10 => doc! { "$type": kinds(dice, path) }.into(),
        11 => doc! { "$not": { "$type": kinds(dice, path) } }.into(),
        _ => doc! { "$exists": dice.chance(50) }.into(),
    };
    (path.to_owned(), condition)
}

fn parent(dice: &mut Dice, depth: usize) -> (String, Bson) {
    let path = dice.pick(PARENTS);
    let condition = match dice.below(14) {
        0 => Bson::Null,
        1 => doc! { "$exists": dice.chance(50) }.into(),
        2 => doc! { "$size": i32::try_from(dice.below(4)).unwrap() }.into(),
        3 => doc! { "$type": dice.pick(&["array", "object", "string", "null"]) }.into(),
        4 => doc! { "$ne": Bson::Null }.into(),
        5 => scalar(dice),
        6 => doc! { "$in": [scalar(dice), Bson::Null] }.into(),
        7 => doc! { "$not": { "$size": 1 } }.into(),
        8 => doc! { "$gte": plain_number(dice) }.into(),
        9 if dice.chance(20) => match path.starts_with("visits") {
            true => doc! { "note": sealed_string(dice) }.into(),
            false => doc! { "card": sealed_string(dice) }.into(),
        },
        9 => whole(dice),
        10 => doc! { "$all": [
            { "$elemMatch": element(dice, path, depth) },
            { "$elemMatch": element(dice, path, depth) },
        ] }
        .into(),
        11 => doc! { "$not": { "$elemMatch": element(dice, path, depth) } }.into(),
        _ => doc! { "$elemMatch": element(dice, path, depth) }.into(),
    };
    (path.to_owned(), condition)
}

/// A comparison with documents and arrays that hold nothing sealed.
fn whole(dice: &mut Dice) -> Bson {
    let one = |dice: &mut Dice| -> Bson {
        match dice.below(6) {
            0 => doc! {}.into(),
            1 => Vec::<Bson>::new().into(),
            2 => doc! { "kind": open_string(dice) }.into(),
            3 => doc! { "at": plain_number(dice) }.into(),
            4 => doc! { "card": Bson::Null }.into(),
            _ => vec![doc! { "at": plain_number(dice) }].into(),
        }
    };
    match dice.below(4) {
        0 => one(dice),
        1 => doc! { "$ne": one(dice) }.into(),
        2 => doc! { "$in": array(dice, 0, 3, one) }.into(),
        _ => doc! { "$nin": array(dice, 0, 2, one) }.into(),
    }
}

/// A filter of the documents in an array of payments or visits.
pub(super) fn element(dice: &mut Dice, parent: &str, depth: usize) -> Document {
    let mut filter = Document::new();
    for _ in 0..dice.between(1, 2) {
        if depth > 0 && dice.chance(10) {
            let branches = array(dice, 1, 2, |dice| element(dice, parent, depth - 1).into());
            filter.insert(dice.pick(&["$and", "$or", "$nor"]), branches);
        } else if parent.starts_with("payment") {
            if dice.chance(75) {
                filter.insert("card", equality_condition(dice, "card"));
            } else {
                filter.insert("kind", open_string(dice));
            }
        } else {
            match dice.below(4) {
                0 => filter.insert("at", plain_number(dice)),
                1 => filter.insert("note", doc! { "$exists": dice.chance(60) }),
                2 => filter.insert("note", Bson::Null),
                _ => filter.insert("at", doc! { "$gte": plain_number(dice) }),
            };
        }
    }
    filter
}

fn id_condition(dice: &mut Dice) -> Bson {
    match dice.below(4) {
        0 => doc! { "$in": array(dice, 1, 6, values::id) }.into(),
        1 => doc! { "$gt": values::id(dice) }.into(),
        2 => doc! { "$ne": values::id(dice) }.into(),
        _ => values::id(dice),
    }
}

fn open(dice: &mut Dice) -> (String, Bson) {
    let path = dice.pick(OPEN);
    let condition = match dice.below(20) {
        0..4 => scalar(dice),
        4 => doc! { "$gt": scalar(dice) }.into(),
        5 => doc! { "$gte": plain_number(dice), "$lt": plain_number(dice) }.into(),
        6 => doc! { "$in": array(dice, 0, 4, scalar) }.into(),
        7 => doc! { "$nin": array(dice, 0, 4, scalar) }.into(),
        8 => doc! { "$ne": scalar(dice) }.into(),
        9 => doc! { "$regex": "^[ab]", "$options": dice.pick(&["", "i"]) }.into(),
        10 => doc! { "$mod": [2, 1] }.into(),
        11 => doc! { "$type": dice.pick(&["number", "string", "array", "object"]) }.into(),
        12 => doc! { "$exists": dice.chance(50) }.into(),
        13 => doc! { "$size": i32::try_from(dice.below(4)).unwrap() }.into(),
        14 => doc! { "$elemMatch": { "$gte": plain_number(dice) } }.into(),
        15 => doc! { "$elemMatch": { "x": scalar(dice) } }.into(),
        16 => doc! { "$all": array(dice, 1, 2, scalar) }.into(),
        17 => doc! { "$bitsAllSet": 1 }.into(),
        18 => doc! { "$not": { "$gt": plain_number(dice) } }.into(),
        _ => values::open_value(dice),
    };
    (path.to_owned(), condition)
}
