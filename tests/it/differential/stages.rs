//! Random chains of stages through which sealed fields are moved, grouped and
//! looked for under their new names.

use mongodb::bson::{Array, Bson, Document, doc};

use super::dice::Dice;
use super::expressions::{Kind, Known, Model, expression, path, test};
use super::filters::right_value;
use super::values::{array, open_string, plain_number};

/// A pipeline and the constants of its `let`. Its results come in no certain order.
pub(super) fn chain(dice: &mut Dice) -> (Array, Document) {
    let mut model = Model::stored();
    let mut stages = vec![doc! { "$sort": { "_id": 1 } }];
    for _ in 0..dice.between(1, 5) {
        let next = stage(dice, &mut model);
        apart(&mut stages, &next);
        stages.push(next);
    }
    if dice.chance(8) {
        stages.push(facet(dice, &mut model));
    } else if dice.chance(15) {
        stages.push(matching(dice, &mut model));
    }
    (
        stages.into_iter().map(Bson::from).collect(),
        model.variables,
    )
}

/// MongoDB 6.0.5 loses the keys of a group's groups, or fails, where nothing is between.
fn apart(stages: &mut Vec<Document>, next: &Document) {
    let groups = |stage: &Document| {
        stage
            .keys()
            .any(|name| matches!(name.as_str(), "$group" | "$sortByCount"))
    };
    if stages.last().is_some_and(groups) && groups(next) {
        stages.push(doc! { "$set": { "between": 1 } });
    }
}

fn stage(dice: &mut Dice, model: &mut Model) -> Document {
    match dice.below(24) {
        0..4 => matching(dice, model),
        4..8 => add_fields(dice, model),
        8..11 => project(dice, model),
        11 => {
            let known = model.any(dice);
            model.forget(&known.path);
            doc! { "$unset": known.path }
        }
        12 | 13 => unwind(dice, model),
        14..18 => group(dice, model),
        18 => sort_by_count(dice, model),
        19 => replace_root(dice, model),
        20 if model.sorted => window(dice, model),
        21 => bucket(dice, model),
        22 if model.sorted => fill(dice, model),
        23 => doc! { "$redact": { "$cond": [test(dice, model, 1), "$$KEEP", "$$PRUNE"] } },
        _ if model.sorted => doc! { "$limit": i32::try_from(dice.between(1, 12)).unwrap() },
        _ => matching(dice, model),
    }
}

fn matching(dice: &mut Dice, model: &mut Model) -> Document {
    if dice.chance(45) {
        return doc! { "$match": { "$expr": test(dice, model, 2) } };
    }
    let known = model.any(dice);
    let condition: Bson = match known.kind {
        Kind::Equal(field) if model.grouped => right_value(dice, field),
        Kind::Equal(field) | Kind::Set(field) => match dice.below(9) {
            0..3 => right_value(dice, field),
            3 => doc! { "$in": array(dice, 1, 3, |dice| right_value(dice, field)) }.into(),
            4 => doc! { "$ne": right_value(dice, field) }.into(),
            5 => doc! { "$nin": [right_value(dice, field), Bson::Null] }.into(),
            6 => Bson::Null,
            7 => doc! { "$not": { "$eq": right_value(dice, field) } }.into(),
            _ => doc! { "$exists": dice.chance(70) }.into(),
        },
        Kind::Number => doc! { "$gte": plain_number(dice) }.into(),
        Kind::Payment if dice.chance(60) => {
            doc! { "$elemMatch": { "card": right_value(dice, "payment.card") } }.into()
        }
        _ if model.grouped => open_string(dice),
        _ => dice.pick(&[
            doc! { "$exists": true }.into(),
            doc! { "$ne": Bson::Null }.into(),
        ]),
    };
    doc! { "$match": { known.path: condition } }
}

fn add_fields(dice: &mut Dice, model: &mut Model) -> Document {
    let mut fields = Document::new();
    let before = model.clone();
    for _ in 0..dice.between(1, 2) {
        let mut reading = before.clone();
        reading.variables = model.variables.clone();
        let (value, kind) = expression(dice, &mut reading);
        model.variables = reading.variables;
        let name = match kind {
            Kind::Equal(field) if dice.chance(15) && !fields.contains_key(field) => {
                field.to_owned()
            }
            _ => model.name(kind),
        };
        match dice.below(6) {
            0 if !name.contains('.') => {
                let outer = format!("in{name}");
                model.put(&format!("{outer}.{name}"), kind);
                fields.insert(outer, doc! { name: value });
            }
            _ => {
                model.put(&name, kind);
                fields.insert(name, value);
            }
        }
    }
    doc! { dice.pick(&["$addFields", "$set"]): fields }
}

fn project(dice: &mut Dice, model: &mut Model) -> Document {
    if dice.chance(30) {
        let known = model.any(dice);
        model.forget(&known.path);
        return doc! { "$project": { known.path: 0 } };
    }
    let before = model.clone();
    let mut after = model.clone();
    after.known.retain(|known| known.path == "_id");
    let mut fields = Document::new();
    if dice.chance(15) {
        after.forget("_id");
        fields.insert("_id", 0);
    }
    for _ in 0..dice.between(1, 4) {
        let mut reading = before.clone();
        reading.variables = after.variables.clone();
        if dice.chance(50) {
            let known = reading.any(dice);
            let clash = fields.keys().any(|other| {
                known.path.starts_with(other.as_str()) || other.starts_with(known.path.as_str())
            });
            if !clash {
                fields.insert(known.path.clone(), dice.pick(&[Bson::from(1), true.into()]));
                after.put(&known.path, known.kind);
            }
            continue;
        }
        let (value, kind) = expression(dice, &mut reading);
        after.variables = reading.variables;
        let name = after.name(kind);
        after.put(&name, kind);
        fields.insert(name, value);
    }
    if fields.keys().all(|key| key == "_id") {
        fields.insert("name", 1);
        after.put("name", Kind::Name);
    }
    *model = after;
    doc! { "$project": fields }
}

fn unwind(dice: &mut Dice, model: &mut Model) -> Document {
    let known = model.any(dice);
    if matches!(known.kind, Kind::Set(_)) {
        // Its order is not certain, so that of what follows is not.
        model.sorted = false;
    }
    match dice.below(4) {
        0 => doc! { "$unwind": { "path": path(&known), "preserveNullAndEmptyArrays": true } },
        1 if model.sorted => {
            let name = model.name(Kind::Number);
            model.put(&name, Kind::Number);
            doc! { "$unwind": { "path": path(&known), "includeArrayIndex": name } }
        }
        _ => doc! { "$unwind": path(&known) },
    }
}

/// What documents are grouped by, and what the key of a group then is.
fn group_key(dice: &mut Dice, model: &mut Model) -> (Bson, Vec<Known>) {
    let all = model;
    let model = &mut all.of_one_form();
    let at = |path: &str, kind| Known {
        path: path.to_owned(),
        kind,
    };
    match dice.below(8) {
        0 => (Bson::Null, vec![]),
        1..4 => match model.equal(dice) {
            Some((known, _)) => (path(&known).into(), vec![at("_id", known.kind)]),
            None => (1.into(), vec![]),
        },
        4 | 5 => {
            let mut key = Document::new();
            let mut kinds = Vec::new();
            for name in ["a", "b"] {
                let fits = |kind| {
                    matches!(
                        kind,
                        Kind::Equal(_) | Kind::Name | Kind::Number | Kind::Open
                    )
                };
                if let Some(known) = model.one(dice, fits) {
                    key.insert(name, path(&known));
                    kinds.push(at(&format!("_id.{name}"), known.kind));
                }
            }
            (key.into(), kinds)
        }
        6 => match model.one(dice, |kind| matches!(kind, Kind::Name | Kind::Number)) {
            Some(known) => (path(&known).into(), vec![at("_id", Kind::Name)]),
            None => (Bson::Null, vec![]),
        },
        _ => {
            let (key, kind) = expression(dice, model);
            all.variables = model.variables.clone();
            (key, vec![at("_id", kind)])
        }
    }
}

fn group(dice: &mut Dice, model: &mut Model) -> Document {
    let (key, mut known) = group_key(dice, model);
    let mut fields = doc! { "_id": key };
    for _ in 0..dice.below(3) {
        let (value, kind) = accumulator(dice, model);
        let name = model.name(kind);
        fields.insert(&name, value);
        known.push(Known { path: name, kind });
    }
    model.known = known;
    model.sorted = false;
    model.grouped = true;
    doc! { "$group": fields }
}

fn accumulator(dice: &mut Dice, model: &mut Model) -> (Document, Kind) {
    if dice.chance(30) {
        let counted = doc! { "$sum": { "$cond": [test(dice, model, 1), 1, 0] } };
        return (counted, Kind::Number);
    }
    if dice.chance(25)
        && let Some((known, field)) = model.of_one_form().equal(dice)
    {
        return (doc! { "$addToSet": path(&known) }, Kind::Set(field));
    }
    if !model.sorted {
        return (doc! { "$sum": 1 }, Kind::Number);
    }
    let (value, kind) = expression(dice, model);
    let operator = dice.pick(&["$first", "$last", "$push", "$top", "$bottomN", "$firstN"]);
    let by = doc! { "_id": 1 };
    let accumulator = match operator {
        "$top" => doc! { "$top": { "sortBy": by, "output": value } },
        "$bottomN" => doc! { "$bottomN": { "n": 2, "sortBy": by, "output": value } },
        "$firstN" => doc! { "$firstN": { "n": 2, "input": value } },
        _ => doc! { operator: value },
    };
    (accumulator, kind)
}

fn sort_by_count(dice: &mut Dice, model: &mut Model) -> Document {
    let Some((known, _)) = model.of_one_form().equal(dice) else {
        return matching(dice, model);
    };
    model.known.clear();
    model.put("_id", known.kind);
    model.put("count", Kind::Number);
    model.sorted = false;
    model.grouped = true;
    doc! { "$sortByCount": path(&known) }
}

fn replace_root(dice: &mut Dice, model: &mut Model) -> Document {
    let (value, kind) = expression(dice, model);
    let name = model.name(kind);
    let root = match dice.below(4) {
        0 => {
            model.put(&name, kind);
            doc! { "$mergeObjects": ["$$ROOT", { name: value }] }
        }
        1 => {
            model.put(&name, kind);
            doc! { "$mergeObjects": [{ name: value }, "$$ROOT"] }
        }
        2 => {
            model.put(&name, kind);
            doc! { "$setField": { "field": name, "input": "$$ROOT", "value": value } }
        }
        _ => {
            let mut kept = model.clone();
            let known = kept.any(dice);
            kept.known.clear();
            kept.put(&name, kind);
            let other = kept.name(known.kind);
            kept.put(&other, known.kind);
            *model = kept;
            doc! { name: value, other: path(&known) }
        }
    };
    if dice.chance(50) {
        return doc! { "$replaceWith": root };
    }
    doc! { "$replaceRoot": { "newRoot": root } }
}

fn window(dice: &mut Dice, model: &mut Model) -> Document {
    let Some((known, _)) = model.equal(dice) else {
        return matching(dice, model);
    };
    let (value, kind) = expression(dice, model);
    let name = model.name(kind);
    let output = match dice.below(4) {
        0 => doc! { "$first": value },
        // What is missing is pushed, as neither null nor nothing.
        1 => {
            doc! { "$push": { "$ifNull": [value, Bson::Null] }, "window": { "documents": [-1, 0] } }
        }
        2 => doc! { "$shift": { "output": value, "by": 1, "default": Bson::Null } },
        _ => doc! { "$last": value, "window": { "documents": ["unbounded", "current"] } },
    };
    model.put(&name, kind);
    model.sorted = false;
    doc! { "$setWindowFields": {
        "partitionBy": path(&known), "sortBy": { "_id": 1 }, "output": { name: output },
    } }
}

fn bucket(dice: &mut Dice, model: &mut Model) -> Document {
    let Some(by) = model.one(dice, |kind| kind == Kind::Number) else {
        return matching(dice, model);
    };
    let (value, kind) = accumulator(dice, model);
    if matches!(kind, Kind::Set(_)) {
        return matching(dice, model);
    }
    let name = model.name(kind);
    let stage = doc! { "$bucket": {
        "groupBy": path(&by), "boundaries": [0, 2, 4], "default": "other",
        "output": { &name: value, "count": { "$sum": 1 } },
    } };
    model.known.clear();
    model.put(&name, kind);
    model.put("count", Kind::Number);
    stage
}

fn fill(dice: &mut Dice, model: &mut Model) -> Document {
    match model.equal(dice) {
        Some((known, _)) if dice.chance(50) && !known.path.contains('.') => {
            doc! { "$fill": { "sortBy": { "_id": 1 }, "output": { known.path: { "method": "locf" } } } }
        }
        Some((known, field)) if !known.path.contains('.') => {
            doc! { "$fill": { "output": { known.path: { "value": right_value(dice, field) } } } }
        }
        _ => doc! { "$fill": { "output": { "filled": { "value": 0 } } } },
    }
}

fn facet(dice: &mut Dice, model: &mut Model) -> Document {
    let mut facets = Document::new();
    for name in ["set_one", "set_two"] {
        let mut inner = model.clone();
        let mut stages = Vec::new();
        for _ in 0..dice.between(1, 2) {
            let next = stage(dice, &mut inner);
            apart(&mut stages, &next);
            stages.push(next);
        }
        model.variables = inner.variables;
        facets.insert(name, stages);
    }
    doc! { "$facet": facets }
}

/// The pipeline of an update of stored documents.
pub(super) fn update(dice: &mut Dice) -> Array {
    let mut stages = Vec::new();
    for _ in 0..dice.between(1, 2) {
        let mut model = Model::stored();
        let field = dice.pick(&["ssn", "tags", "age", "payment.card"]);
        model.known.retain(|known| match known.kind {
            Kind::Equal(other) => other == field,
            kind => matches!(kind, Kind::Name | Kind::Number | Kind::Open),
        });
        let (value, kind) = expression(dice, &mut model);
        let name = match kind {
            // Unique indexes of tokens take an empty array for null.
            Kind::Equal(field) if field != "tags" && may_be_empty(&value) => continue,
            Kind::Equal(field) => field,
            _ => "made",
        };
        if !model.variables.is_empty() {
            continue;
        }
        stages.push(match dice.below(6) {
            0 => doc! { "$set": { name: right_value(dice, field), "made": 1 } },
            1 => doc! { "$replaceWith": { "$mergeObjects": ["$$ROOT", { "made": 2, field.split('.').next().unwrap_or(field): Bson::Null }] } },
            2 => doc! { "$unset": field },
            _ => doc! { "$set": { name: value } },
        });
    }
    if stages.is_empty() {
        stages.push(doc! { "$set": { "made": 3 } });
    }
    stages.into_iter().map(Bson::from).collect()
}

/// Whether an expression may give an array with fewer elements than it was given.
fn may_be_empty(value: &Bson) -> bool {
    let text = value.to_string();
    ["$filter", "$slice", "$setDifference", "$setIntersection"]
        .iter()
        .any(|operator| text.contains(operator))
}
