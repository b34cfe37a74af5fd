//! Random commands, each with what must be known to compare its answers.

use mongodb::bson::{Bson, Document, doc};

use super::dice::Dice;
use super::expressions::{Model, expression, test};
use super::filters::{arrays, equality_condition, filter, plain_equality};
use super::pipelines::{pipeline, projection, sort};
use super::updates::{Change, change};
use super::values;

/// One command for both sides.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    /// What it is counted as.
    pub(super) family: &'static str,
    pub(super) command: Document,
    /// Whether the order of the documents in the answer is certain.
    pub(super) ordered: bool,
    /// Whether it may change documents.
    pub(super) writes: bool,
    /// An upsert whose filter compares a sealed field: the new document may have
    /// its fields in another order.
    pub(super) loose: bool,
    /// Whether it may seal a value again that was there before, and so count as a
    /// modification what on plaintext is none.
    pub(super) reseals: bool,
}

impl Operation {
    pub(super) fn read(family: &'static str, command: Document) -> Self {
        Self {
            family,
            command,
            ordered: false,
            writes: false,
            loose: false,
            reseals: false,
        }
    }

    pub(super) fn write(family: &'static str, command: Document) -> Self {
        Self {
            writes: true,
            ..Self::read(family, command)
        }
    }
}

/// A random operation on `collection`; with secondary indexes, plans and so the
/// order in which documents are met may differ between the sides.
pub(super) fn operation(dice: &mut Dice, collection: &str, indexed: bool) -> Operation {
    match dice.below(38) {
        0..7 => find(dice, collection),
        7 | 8 => count(dice, collection),
        9 => distinct(dice, collection, indexed),
        10..14 => aggregate(dice, collection),
        14..19 => insert(dice, collection),
        19..25 => update(dice, collection, indexed),
        25 => delete(dice, collection, indexed),
        30..36 => chain(dice, collection),
        36 | 37 => find_by_expression(dice, collection),
        _ => find_and_modify(dice, collection, indexed),
    }
}

/// A filter, and the family of a read with it.
fn read_filter(
    dice: &mut Dice,
    plain: &'static str,
    other: &'static str,
) -> (Document, &'static str) {
    if dice.chance(50) {
        (plain_equality(dice), plain)
    } else {
        (filter(dice, 2), other)
    }
}

fn find(dice: &mut Dice, collection: &str) -> Operation {
    let (filter, family) = read_filter(dice, "find by equality", "find");
    let mut command = doc! { "find": collection, "filter": filter };
    let mut ordered = false;
    if dice.chance(40) {
        command.insert("sort", sort(dice));
        ordered = true;
        if dice.chance(50) {
            command.insert("limit", i32::try_from(dice.between(1, 6)).unwrap());
        }
        if dice.chance(40) {
            command.insert("skip", i32::try_from(dice.below(4)).unwrap());
        }
    }
    if dice.chance(35) {
        command.insert("projection", projection(dice));
    }
    if dice.chance(6) {
        let (filter, projection) = positional(dice);
        command.insert("filter", filter);
        command.insert("projection", projection);
        // Whether documents that are left out are projected, and so may fail, is the plan's choice.
        command.remove("skip");
        command.remove("limit");
    }
    if dice.chance(30) {
        command.insert("batchSize", i32::try_from(dice.below(4)).unwrap());
    }
    if dice.chance(3) {
        command.insert("collation", doc! { "locale": "en", "strength": 2 });
    }
    Operation {
        ordered,
        ..Operation::read(family, command)
    }
}

/// A filter of arrays, and a projection of the element that it finds.
fn positional(dice: &mut Dice) -> (Document, Document) {
    match dice.below(7) {
        4.. => {
            let path = dice.pick(&["list.$", "tags.$", "visits.$", "payment.$"]);
            (arrays(dice), doc! { path: 1 })
        }
        0 => (
            doc! { "tags": equality_condition(dice, "tags") },
            doc! { "tags.$": 1 },
        ),
        1 => (
            doc! { "visits.at": values::plain_number(dice) },
            doc! { "visits.$": 1, "name": 1 },
        ),
        2 => (
            doc! { "visits": { "$elemMatch": { "note": { "$exists": true } } } },
            doc! { "visits.$": 1 },
        ),
        _ => (
            doc! { "payment.card": values::sealed_string(dice) },
            doc! { "payment.$": 1 },
        ),
    }
}

fn count(dice: &mut Dice, collection: &str) -> Operation {
    let (filter, family) = read_filter(dice, "count by equality", "count");
    let mut command = doc! { "count": collection, "query": filter };
    if dice.chance(20) {
        command.insert("limit", 3);
        command.insert("skip", 1);
    }
    Operation::read(family, command)
}

fn distinct(dice: &mut Dice, collection: &str, indexed: bool) -> Operation {
    // Of numbers that are equal, the first one is given.
    let key = if indexed {
        // By an index MongoDB may give null for what is missing.
        "_id"
    } else {
        dice.pick(&[
            "name",
            "n",
            "list",
            "sub.x",
            "visits.at",
            "tags",
            "age",
            "ssn",
            "payment.card",
        ])
    };
    let (filter, _) = read_filter(dice, "", "");
    Operation::read(
        "distinct",
        doc! { "distinct": collection, "key": key, "query": filter },
    )
}

fn aggregate(dice: &mut Dice, collection: &str) -> Operation {
    let (stages, ordered) = pipeline(dice);
    let mut cursor = Document::new();
    if dice.chance(30) {
        cursor.insert("batchSize", i32::try_from(dice.below(4)).unwrap());
    }
    Operation {
        ordered,
        ..Operation::read(
            "aggregate",
            doc! { "aggregate": collection, "pipeline": stages, "cursor": cursor },
        )
    }
}

/// Stages that move sealed fields.
fn chain(dice: &mut Dice, collection: &str) -> Operation {
    let (stages, variables) = super::stages::chain(dice);
    let mut command = doc! { "aggregate": collection, "pipeline": stages, "cursor": {} };
    if !variables.is_empty() {
        command.insert("let", variables);
    }
    Operation::read("stages", command)
}

fn find_by_expression(dice: &mut Dice, collection: &str) -> Operation {
    let mut model = Model::stored();
    let filter = doc! { "$expr": test(dice, &mut model, 2) };
    let mut command = doc! { "find": collection, "filter": filter, "sort": { "_id": 1 } };
    if dice.chance(40) {
        let (value, _) = expression(dice, &mut model);
        command.insert("projection", doc! { "computed": value, "name": 1 });
    }
    if !model.variables.is_empty() {
        command.insert("let", model.variables);
    }
    Operation {
        ordered: true,
        ..Operation::read("find by expression", command)
    }
}

pub(super) fn insert(dice: &mut Dice, collection: &str) -> Operation {
    let most = dice.pick(&[1, 2, 4]);
    let documents = values::array(dice, 1, most, |dice| values::document(dice).into());
    let mut command = doc! { "insert": collection, "documents": documents };
    if dice.chance(40) {
        command.insert("ordered", dice.chance(40));
    }
    Operation::write("insert", command)
}

fn update(dice: &mut Dice, collection: &str, indexed: bool) -> Operation {
    let most = dice.pick(&[1, 1, 1, 3]);
    let (mut loose, mut reseals) = (false, false);
    let statements = values::array(dice, 1, most, |dice| {
        let change = change(dice);
        loose |= change.upsert && touches_sealed(&change.filter);
        reseals |= touches_update(&change.update);
        statement(dice, change, indexed).into()
    });
    let mut command = doc! { "update": collection, "updates": statements };
    if dice.chance(30) {
        command.insert("ordered", dice.chance(40));
    }
    Operation {
        loose,
        reseals,
        ..Operation::write("update", command)
    }
}

fn statement(dice: &mut Dice, change: Change, indexed: bool) -> Document {
    let multi = !is_replacement(&change.update) && dice.chance(35);
    let mut statement = doc! { "q": change.filter, "u": change.update };
    if multi {
        statement.insert("multi", true);
    }
    if change.upsert {
        statement.insert("upsert", true);
    }
    if let Some(filters) = change.array_filters {
        statement.insert("arrayFilters", filters);
    }
    if indexed {
        statement.insert("hint", doc! { "$natural": 1 });
    }
    statement
}

fn delete(dice: &mut Dice, collection: &str, indexed: bool) -> Operation {
    let statements = values::array(dice, 1, 2, |dice| {
        let (mut filter, _) = read_filter(dice, "", "");
        let one = dice.chance(70);
        if !one {
            filter.insert(
                "_id",
                doc! { "$gt": i32::try_from(values::IDS * 2 / 3).unwrap() },
            );
        }
        let mut statement = doc! { "q": filter, "limit": i32::from(one) };
        if indexed {
            statement.insert("hint", doc! { "$natural": 1 });
        }
        statement.into()
    });
    Operation::write(
        "delete",
        doc! { "delete": collection, "deletes": statements },
    )
}

fn find_and_modify(dice: &mut Dice, collection: &str, indexed: bool) -> Operation {
    let change = change(dice);
    let mut loose = false;
    let mut command = doc! { "findAndModify": collection };
    if dice.chance(15) {
        command.insert("query", change.filter);
        command.insert("remove", true);
    } else {
        loose = change.upsert && touches_sealed(&change.filter);
        command.insert("query", change.filter);
        command.insert("update", change.update);
        if change.upsert {
            command.insert("upsert", true);
        }
        if let Some(filters) = change.array_filters {
            command.insert("arrayFilters", filters);
        }
        if dice.chance(50) {
            command.insert("new", true);
        }
    }
    if indexed || dice.chance(40) {
        command.insert("sort", sort(dice));
    }
    if dice.chance(30) {
        command.insert("fields", projection(dice));
    }
    Operation {
        loose,
        ..Operation::write("findAndModify", command)
    }
}

fn is_replacement(update: &Bson) -> bool {
    update
        .as_document()
        .is_some_and(|update| !update.keys().any(|key| key.starts_with('$')))
}

fn sealed_path(path: &str) -> bool {
    ["ssn", "payment", "tags", "age", "address", "visits"]
        .iter()
        .any(|field| path.split('.').next() == Some(field))
}

/// Whether a filter or a document has the path of a sealed field.
fn touches_sealed(document: &Document) -> bool {
    document.iter().any(|(key, value)| {
        sealed_path(key)
            || match value {
                Bson::Document(inner) => touches_sealed(inner),
                Bson::Array(items) => items
                    .iter()
                    .filter_map(Bson::as_document)
                    .any(touches_sealed),
                _ => false,
            }
    })
}

fn touches_update(update: &Bson) -> bool {
    update.as_document().is_some_and(touches_sealed) || update.as_array().is_some()
}
