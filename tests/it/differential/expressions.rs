//! Random expressions over documents of which it is known where sealed values stand.

use mongodb::bson::{Bson, Document, doc};

use super::dice::Dice;
use super::filters::right_value;
use super::values::{array, open_string, plain_number, sealed_string};

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Values of the sealed field of this name, which has equality.
    Equal(&'static str),
    /// Arrays of such values, in no certain order.
    Set(&'static str),
    /// Values of a sealed field without equality.
    Whole(&'static str),
    /// Documents like those in `payment` or `visits`.
    Payment,
    Visits,
    /// Strings and numbers.
    Name,
    Number,
    /// Anything that is open.
    Open,
}

/// A path, and what stands there.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) path: String,
    pub(super) kind: Kind,
}

/// What is known of the documents that a stage reads.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) known: Vec<Known>,
    /// How many names were made.
    made: usize,
    /// Whether the documents come in a certain order.
    pub(super) sorted: bool,
    /// Whether a group was made: MongoDB moves a test of what a group's key is, or is
    /// made of, before the group, where what is missing is not null yet.
    pub(super) grouped: bool,
    /// The variables of the command's `let`.
    pub(super) variables: Document,
}

impl Model {
    /// Documents as they are stored.
    pub(super) fn stored() -> Self {
        let known = [
            ("ssn", Kind::Equal("ssn")),
            ("payment.card", Kind::Equal("payment.card")),
            ("tags", Kind::Equal("tags")),
            ("age", Kind::Equal("age")),
            ("address", Kind::Whole("address")),
            ("visits.note", Kind::Whole("visits.note")),
            ("payment", Kind::Payment),
            ("visits", Kind::Visits),
            ("name", Kind::Name),
            ("n", Kind::Number),
            ("list", Kind::Open),
            ("sub.x", Kind::Open),
            ("_id", Kind::Number),
        ];
        Self {
            known: known
                .map(|(path, kind)| Known {
                    path: path.to_owned(),
                    kind,
                })
                .into(),
            made: 0,
            sorted: true,
            grouped: false,
            variables: Document::new(),
        }
    }

    /// A name that no document has.
    pub(super) fn name(&mut self, kind: Kind) -> String {
        self.made += 1;
        let prefix = if matches!(kind, Kind::Set(_)) {
            "set"
        } else {
            "x"
        };
        format!("{prefix}{}", self.made)
    }

    pub(super) fn put(&mut self, path: &str, kind: Kind) {
        self.forget(path);
        self.known.push(Known {
            path: path.to_owned(),
            kind,
        });
    }

    /// What is at, below or above a path is not known any more.
    pub(super) fn forget(&mut self, path: &str) {
        let within = |long: &str, short: &str| {
            long == short
                || long
                    .strip_prefix(short)
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        self.known
            .retain(|known| !within(&known.path, path) && !within(path, &known.path));
    }

    /// What is left out has no one form where the order of documents is not certain:
    /// the number of several equal ones that comes first.
    pub(super) fn of_one_form(&self) -> Self {
        let mut model = self.clone();
        model
            .known
            .retain(|known| !matches!(known.kind, Kind::Set(_)));
        if !self.sorted {
            model.known.retain(|known| {
                !matches!(known.kind, Kind::Equal("age") | Kind::Number | Kind::Open)
            });
        }
        model
    }

    pub(super) fn any(&self, dice: &mut Dice) -> Known {
        self.one(dice, |_| true).unwrap_or(Known {
            path: "missing".to_owned(),
            kind: Kind::Open,
        })
    }

    pub(super) fn one(&self, dice: &mut Dice, fits: impl Fn(Kind) -> bool) -> Option<Known> {
        let fitting: Vec<&Known> = self.known.iter().filter(|known| fits(known.kind)).collect();
        (!fitting.is_empty()).then(|| (*dice.pick(&fitting)).clone())
    }

    pub(super) fn equal(&self, dice: &mut Dice) -> Option<(Known, &'static str)> {
        let known = self.one(dice, |kind| matches!(kind, Kind::Equal(_)))?;
        match known.kind {
            Kind::Equal(field) => Some((known, field)),
            _ => None,
        }
    }

    /// A value of a field, itself or by a variable of `let`.
    fn value(&mut self, dice: &mut Dice, field: &str) -> Bson {
        let value = right_value(dice, field);
        if !dice.chance(8) {
            return literal(dice, value);
        }
        let name = format!("v{}", self.variables.len());
        self.variables.insert(&name, value);
        format!("$${name}").into()
    }
}

/// A constant, sometimes said to be one.
fn literal(dice: &mut Dice, value: Bson) -> Bson {
    if dice.chance(12) {
        return doc! { "$literal": value }.into();
    }
    value
}

pub(super) fn path(known: &Known) -> String {
    format!("${}", known.path)
}

/// A test, which MongoDB takes for true or false.
pub(super) fn test(dice: &mut Dice, model: &mut Model, depth: usize) -> Bson {
    if depth > 0 && dice.chance(25) {
        let name = dice.pick(&["$and", "$or", "$not"]);
        let most = if name == "$not" { 1 } else { 3 };
        let tests = array(dice, 1, most, |dice| test(dice, model, depth - 1));
        return doc! { name: tests }.into();
    }
    match model.equal(dice) {
        Some((known, field)) if dice.chance(75) => equality(dice, model, &known, field),
        _ => open_test(dice, model),
    }
}

fn list(dice: &mut Dice, model: &mut Model, field: &str) -> Bson {
    array(dice, 0, 3, |dice| model.value(dice, field))
}

fn equality(dice: &mut Dice, model: &mut Model, known: &Known, field: &'static str) -> Bson {
    let path = path(known);
    let value = model.value(dice, field);
    let operator = dice.pick(&["$eq", "$ne"]);
    let most = if model.grouped { 6 } else { 19 };
    match dice.below(most) {
        0..4 => doc! { operator: [path, value] },
        4 => doc! { operator: [value, path] },
        5 => doc! { "$in": [path, list(dice, model, field)] },
        6 => doc! { operator: [path, Bson::Null] },
        7 => doc! { dice.pick(&["$gt", "$lte"]): [path, Bson::Null] },
        8 => doc! { operator: [{ "$ifNull": [path, value.clone()] }, value] },
        9 => doc! { operator: [path.clone(), path] },
        10 => doc! { operator: [path, list(dice, model, field)] },
        11 => doc! { "$isArray": path },
        12 => {
            doc! { "$in": [value, { "$cond": [{ "$isArray": path.clone() }, path.clone(), [path]] }] }
        }
        13 => doc! { "$cond": [{ "$isArray": path.clone() }, { "$in": [value, path] }, false] },
        14 => {
            let arrays = doc! { "$cond": [{ "$isArray": path.clone() }, path, []] };
            let set = dice.pick(&["$setIntersection", "$setUnion", "$setDifference"]);
            doc! { "$gt": [{ "$size": { set: [arrays, list(dice, model, field)] } }, 0] }
        }
        15 => {
            let arrays = doc! { "$cond": [{ "$isArray": path.clone() }, path, []] };
            let sets = dice.pick(&["$setIsSubset", "$setEquals"]);
            doc! { sets: [list(dice, model, field), arrays] }
        }
        16 => {
            let arrays = doc! { "$cond": { "if": { "$isArray": path.clone() }, "then": path, "else": Bson::Null } };
            doc! { "$gte": [{ "$indexOfArray": [arrays, value] }, 0] }
        }
        17 => doc! { operator: [{ "$type": path }, dice.pick(&["string", "array", "missing", "null"])] },
        _ => doc! { "$let": {
            "vars": { "fs": path, "v": value },
            "in": { operator: [{ "$ifNull": ["$$fs", Bson::Null] }, right_value(dice, field)] },
        } },
    }
    .into()
}

fn open_test(dice: &mut Dice, model: &mut Model) -> Bson {
    let known = model.any(dice);
    let path = path(&known);
    match known.kind {
        Kind::Equal(field) => doc! { "$eq": [path, model.value(dice, field)] },
        // As in `equality`.
        _ if model.grouped => doc! { "$eq": [path, open_string(dice)] },
        Kind::Name => doc! { "$eq": [path, open_string(dice)] },
        Kind::Number => doc! { dice.pick(&["$gt", "$lt", "$eq"]): [path, plain_number(dice)] },
        Kind::Set(field) => doc! { "$in": [model.value(dice, field), { "$ifNull": [path, []] }] },
        Kind::Payment | Kind::Visits if dice.chance(50) => {
            doc! { "$gt": [{ "$size": { "$cond": [{ "$isArray": path.clone() }, path, []] } }, 0] }
        }
        _ => doc! { dice.pick(&["$eq", "$ne", "$gt"]): [path, Bson::Null] },
    }
    .into()
}

/// An expression, and what it gives.
pub(super) fn expression(dice: &mut Dice, model: &mut Model) -> (Bson, Kind) {
    let Some((known, field)) = model.equal(dice).filter(|_| dice.chance(70)) else {
        return other(dice, model);
    };
    let path = path(&known);
    let kind = known.kind;
    let value = model.value(dice, field);
    let arrays = doc! { "$cond": [{ "$isArray": path.clone() }, path.clone(), [path.clone()]] };
    let test = |dice: &mut Dice, model: &mut Model| test(dice, model, 1);
    match dice.below(17) {
        0..3 => (path.into(), kind),
        3 => (doc! { "$ifNull": [path, value] }.into(), kind),
        4 => (
            doc! { "$cond": [test(dice, model), path, value] }.into(),
            kind,
        ),
        5 => (
            doc! { "$cond": { "if": test(dice, model), "then": path, "else": "$$REMOVE" } }.into(),
            kind,
        ),
        6 => (
            doc! { "$switch": {
                "branches": [
                    { "case": test(dice, model), "then": path },
                    { "case": test(dice, model), "then": value },
                ],
                "default": Bson::Null,
            } }
            .into(),
            kind,
        ),
        7 => (
            doc! { dice.pick(&["$first", "$last"]): arrays }.into(),
            kind,
        ),
        8 => (
            doc! { "$arrayElemAt": [arrays, dice.pick(&[0, 1, -1])] }.into(),
            kind,
        ),
        9 => (
            doc! { "$slice": [arrays, dice.pick(&[1, -2])] }.into(),
            kind,
        ),
        10 => (doc! { "$reverseArray": arrays }.into(), kind),
        11 => (
            doc! { "$filter": { "input": arrays, "as": "fs1", "cond": { "$ne": ["$$fs1", value] } } }.into(),
            kind,
        ),
        12 => (
            doc! { "$map": { "input": arrays, "in": { "$cond": [{ "$eq": ["$$this", value] }, right_value(dice, field), "$$this"] } } }.into(),
            kind,
        ),
        13 => (
            doc! { "$concatArrays": [arrays, [value]] }.into(),
            kind,
        ),
        14 => (
            doc! { "$reduce": { "input": arrays, "initialValue": [], "in": { "$concatArrays": [["$$this"], "$$value"] } } }.into(),
            kind,
        ),
        15 => (
            doc! { "$let": { "vars": { "a": path }, "in": { "$ifNull": ["$$a", Bson::Null] } } }.into(),
            kind,
        ),
        _ => (doc! { "$cond": [test(dice, model), 1, 0] }.into(), Kind::Number),
    }
}

fn other(dice: &mut Dice, model: &mut Model) -> (Bson, Kind) {
    let known = model.any(dice);
    let path = path(&known);
    match (known.kind, dice.below(6)) {
        (Kind::Visits | Kind::Payment, 0) => {
            let arrays = doc! { "$cond": [{ "$isArray": path.clone() }, path, []] };
            (
                doc! { "$filter": { "input": arrays, "cond": { "$gt": ["$$this.at", 1] } } }.into(),
                known.kind,
            )
        }
        (Kind::Visits, 1) => {
            let arrays = doc! { "$cond": [{ "$isArray": path.clone() }, path, []] };
            (
                doc! { "$map": { "input": arrays, "as": "v", "in": "$$v.note" } }.into(),
                Kind::Whole("visits.note"),
            )
        }
        (Kind::Visits, 2) => {
            let arrays = doc! { "$cond": [{ "$isArray": path.clone() }, path, []] };
            (
                doc! { "$sortArray": { "input": arrays, "sortBy": { "at": 1 } } }.into(),
                Kind::Visits,
            )
        }
        (Kind::Payment, 1) => (
            format!("{path}.card").into(),
            Kind::Equal("payment.card"),
        ),
        (Kind::Whole(_), 0) => (
            doc! { "$ifNull": [path, sealed_string(dice)] }.into(),
            known.kind,
        ),
        (Kind::Number, 0) => (
            doc! { "$add": [{ "$cond": [{ "$isNumber": path.clone() }, path, 1] }, plain_number(dice)] }.into(),
            Kind::Open,
        ),
        (Kind::Name, 0) => (
            doc! { "$toUpper": { "$cond": [{ "$eq": [{ "$type": path.clone() }, "string"] }, path, "x"] } }.into(),
            Kind::Open,
        ),
        (_, 5) if !model.known.iter().any(|known| matches!(known.kind, Kind::Set(_))) => {
            (doc! { "$literal": "$constant" }.into(), Kind::Open)
        }
        (kind, _) => (path.into(), kind),
    }
}
