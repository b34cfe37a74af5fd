//! Random aggregation pipelines, and projections.

use mongodb::bson::{Array, Bson, Document, doc};

use super::dice::Dice;
use super::filters::{element, filter, of_element, plain_equality};
use super::values::{plain_number, sealed_string};

/// A pipeline; the flag says whether it fixes the order of its results.
pub(super) fn pipeline(dice: &mut Dice) -> (Array, bool) {
    let mut stages = vec![matching(dice)];
    let mut ordered = false;
    for _ in 0..dice.below(3) {
        match dice.below(8) {
            0 => stages.push(matching(dice)),
            1 => stages.push(project(dice)),
            2 => {
                stages.push(doc! { "$addFields": { "twice": { "$add": [1, 2] }, "copy": "$name" } })
            }
            3 => {
                let path = dice.pick(&["ssn", "name", "tags", "visits.note", "payment"]);
                stages.push(doc! { "$unset": path });
            }
            4 | 5 => {
                stages.push(doc! { "$sort": sort(dice) });
                ordered = true;
                if dice.chance(50) {
                    stages.push(doc! { "$skip": i32::try_from(dice.below(4)).unwrap() });
                    stages.push(doc! { "$limit": i32::try_from(dice.between(1, 8)).unwrap() });
                }
            }
            6 => {
                let path = dice.pick(&["$tags", "$visits", "$list", "$name", "$payment"]);
                // Documents that come of one have the same `_id`: sort before, not after.
                stages.insert(0, doc! { "$sort": { "_id": 1 } });
                stages.push(match dice.below(3) {
                    0 => doc! { "$unwind": { "path": path, "preserveNullAndEmptyArrays": true } },
                    1 => doc! { "$unwind": { "path": path, "includeArrayIndex": "at" } },
                    _ => doc! { "$unwind": path },
                });
                if dice.chance(50) {
                    stages.push(matching(dice));
                }
                return (finish(dice, stages), false);
            }
            // One match at most: the order of several is not certain.
            _ => stages.push(doc! { "$lookup": {
                "from": "open", "localField": dice.pick(&["name", "n"]),
                "foreignField": dice.pick(&["_id", "n"]), "as": "joined",
            } }),
        }
    }
    let last = stages.len();
    let stages = finish(dice, stages);
    let reshaped = stages.len() > last;
    (stages, ordered && !reshaped)
}

fn matching(dice: &mut Dice) -> Document {
    let filter = if dice.chance(50) {
        plain_equality(dice)
    } else {
        filter(dice, 1)
    };
    doc! { "$match": filter }
}

/// The last stages, which give documents another shape.
fn finish(dice: &mut Dice, mut stages: Vec<Document>) -> Array {
    // Groups are made in the order of documents, and numbers that are equal are one group.
    let by_id = doc! { "$sort": { "_id": 1 } };
    match dice.below(12) {
        0 => stages.push(doc! { "$count": "documents" }),
        1 => {
            stages.push(by_id);
            stages.push(doc! { "$group": { "_id": "$name", "count": { "$sum": 1 }, "sum": { "$sum": "$n" } } });
            if dice.chance(50) {
                stages.push(doc! { "$sort": { "count": -1, "_id": 1 } });
            }
            if dice.chance(30) {
                stages.push(doc! { "$match": { "count": { "$gt": plain_number(dice) } } });
            }
        }
        2 => {
            stages.push(by_id);
            stages.push(doc! { "$group": { "_id": Bson::Null, "all": { "$push": "$n" }, "count": { "$sum": 1 } } });
        }
        3 => {
            let matched = matching(dice);
            stages.push(doc! { "$facet": {
                "some": [matched, by_id.clone(), { "$limit": 3 }],
                "count": [{ "$count": "count" }],
                "by name": [by_id, { "$group": { "_id": "$name", "first": { "$first": "$n" } } }, { "$sort": { "_id": 1 } }],
            } });
        }
        4 => {
            stages.push(by_id);
            stages.push(doc! { "$sortByCount": "$name" });
        }
        5 if dice.chance(30) => {
            stages.push(doc! { "$group": { "_id": "$ssn", "count": { "$sum": 1 } } });
        }
        _ => {}
    }
    stages.into_iter().map(Bson::from).collect()
}

fn project(dice: &mut Dice) -> Document {
    let mut fields = simple_projection(dice);
    if dice.chance(20) && !fields.is_empty() {
        fields.insert("computed", "$n");
    }
    doc! { "$project": fields }
}

/// Sorts by an open field, and by `_id` at last, so that the order is certain.
pub(super) fn sort(dice: &mut Dice) -> Document {
    let way = dice.pick(&[1, -1]);
    match dice.below(6) {
        0 => doc! { "name": way, "_id": 1 },
        1 => doc! { "n": way, "name": 1, "_id": -1 },
        2 => doc! { "sub.x": way, "_id": 1 },
        3 if dice.chance(30) => doc! { "ssn": way, "_id": 1 },
        _ => doc! { "_id": way },
    }
}

const PATHS: &[&str] = &[
    "ssn",
    "payment.card",
    "payment",
    "tags",
    "age",
    "address",
    "visits.note",
    "visits",
    "visits.at",
    "name",
    "n",
    "list",
    "sub.x",
    "payment.kind",
];

fn simple_projection(dice: &mut Dice) -> Document {
    let include = dice.chance(50);
    let mut projection = Document::new();
    if dice.chance(20) {
        projection.insert("_id", i32::from(include));
    }
    for _ in 0..dice.between(1, 3) {
        let path = dice.pick(PATHS);
        let clash = |other: &String| {
            let inside = |long: &str, short: &str| {
                long.strip_prefix(short)
                    .is_some_and(|rest| rest.starts_with('.'))
            };
            inside(path, other) || inside(other, path)
        };
        if !projection.keys().any(clash) {
            projection.insert(
                path,
                if include {
                    Bson::Int32(1)
                } else {
                    Bson::Boolean(false)
                },
            );
        }
    }
    projection
}

/// A projection of find or findAndModify.
pub(super) fn projection(dice: &mut Dice) -> Document {
    match dice.below(11) {
        10 => doc! { "tags": { "$elemMatch": of_element(dice, "tags") }, "name": 1 },
        0..5 => simple_projection(dice),
        5 => {
            let path = dice.pick(&["tags", "visits", "list", "payment"]);
            let slice: Bson = dice.pick(&[1.into(), (-2).into(), vec![1, 2].into()]);
            doc! { path: { "$slice": slice } }
        }
        6 => doc! { "visits": { "$elemMatch": element(dice, "visits", 0) }, "name": 1 },
        7 => doc! { "payment": { "$elemMatch": { "card": sealed_string(dice) } } },
        8 => doc! { "visits": { "note": 1 }, "payment": { "card": 1, "kind": 1 } },
        _ => doc! { "first": "$name", "ssn": 1, "sum": { "$add": [1, 1] } },
    }
}
