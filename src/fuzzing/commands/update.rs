//! Updates: by operators, by whole documents, by pipelines.

use bson::{Bson, Document, bson, doc};

use super::Commands;
use super::tree::Role;

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

impl Commands<'_> {
    pub(super) fn update_command(&mut self) -> Document {
        let mut statement = doc! {"q": self.filter(0), "u": self.change()};
        if self.choices.yes() {
            statement.insert("upsert", true);
        }
        match self.choices.below(6) {
            1 => {
                let (update, filters) = self.by_array_filters();
                statement.insert("u", update);
                statement.insert("arrayFilters", filters);
            }
            2 => {
                // A constant that goes into a sealed field alone.
                statement.insert("c", doc! {"k": self.bait()});
                statement.insert("u", vec![doc! {"$set": {"ssn": "$$k"}}]);
            }
            3 => {
                statement.insert("hint", self.hint());
            }
            4 => {
                statement.insert("multi", true);
            }
            _ => {}
        }
        doc! {"update": "customers", "updates": [statement]}
    }

    pub(super) fn find_and_modify(&mut self) -> Document {
        let mut command = doc! {"findAndModify": "customers", "query": self.filter(0)};
        match self.choices.below(5) {
            0 => command.insert("remove", true),
            1 => {
                let (update, filters) = self.by_array_filters();
                command.insert("arrayFilters", filters);
                command.insert("update", update)
            }
            _ => command.insert("update", self.change()),
        };
        if self.choices.yes() {
            command.insert("upsert", true);
        }
        if self.choices.yes() {
            command.insert("fields", self.projection());
        }
        command
    }

    /// Positions in arrays, and the conditions that choose them.
    fn by_array_filters(&mut self) -> (Bson, Vec<Document>) {
        match self.choices.below(4) {
            0 => (
                bson!({"$set": {"tags.$[t]": self.bait()}}),
                vec![doc! {"t": self.condition("tags", 0)}],
            ),
            1 => (
                bson!({"$set": {"visits.$[v].note": self.bait()}}),
                vec![doc! {"v.note": self.condition("visits.note", 0)}],
            ),
            2 => (
                bson!({"$set": {"payment.$[p].x": 1}}),
                vec![doc! {"$or": [{"p.card": self.condition("payment.card", 0)}, {"p.x": 1}]}],
            ),
            _ => (
                bson!({"$unset": {"tags.$[t]": 1}, "$set": {"visits.$[].note": self.bait()}}),
                vec![doc! {"t": {"$in": [self.bait(), self.bait()]}}],
            ),
        }
    }

    /// An update of any kind.
    pub(super) fn change(&mut self) -> Bson {
        match self.choices.below(6) {
            0..=2 => {
                let count = self.choices.below(3);
                let mut update = Document::new();
                for _ in 0..=count {
                    let (operator, fields) = self.operator();
                    update.insert(operator, fields);
                }
                update.into()
            }
            3 => self.document().into(),
            _ => {
                let count = self.choices.below(3);
                let mut stages = Vec::new();
                for _ in 0..=count {
                    let stage = self.update_stage();
                    let drops = drops_fields(&stage);
                    stages.push(Bson::from(stage));
                    if drops {
                        break;
                    }
                }
                stages.into()
            }
        }
    }

    fn operator(&mut self) -> (&'static str, Document) {
        let operator = self.choices.pick(UPDATES);
        let mut fields = self.named(&mut Vec::new(), Role::Asked, 0);
        match (operator, self.choices.below(4)) {
            ("$set" | "$setOnInsert", 0 | 1) => fields = self.shaped(),
            ("$push" | "$addToSet", 0) => {
                let (one, other) = (self.bait(), self.bait());
                fields = doc! {"tags": {"$each": [one, other]}};
            }
            ("$push", 1) => {
                fields = doc! {"visits": {"$each": [{"note": self.bait()}], "$sort": {"x": 1}, "$slice": 5}};
            }
            ("$pull", 0) => fields = doc! {"tags": self.condition("tags", 0)},
            ("$pull", 1) => {
                fields = doc! {"visits": {"note": self.condition("visits.note", 0)}};
            }
            ("$pullAll", 0) => fields = doc! {"tags": [self.bait(), self.bait()]},
            ("$min" | "$max" | "$inc" | "$mul", 0) => fields = doc! {"age": self.number()},
            ("$bit", 0) => fields = doc! {"age": {"and": self.number()}},
            _ => {}
        }
        (operator, fields)
    }

    fn update_stage(&mut self) -> Document {
        match self.choices.below(9) {
            0..=2 => {
                let stage = self.choices.pick(&["$set", "$addFields"]);
                let fields = [
                    "ssn",
                    "payment.card",
                    "tags",
                    "age",
                    "address",
                    "visits.note",
                    "notes",
                ];
                let field = self.choices.pick(&fields);
                doc! {stage: {field: self.stored(0)}}
            }
            3 => doc! {"$set": {"payment": {"card": self.stored(0)}}},
            4 => doc! {"$replaceWith": {"_id": "$_id", "ssn": self.stored(0), "x": 1}},
            5 => {
                doc! {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"ssn": self.stored(0)}]}}
            }
            6 => {
                doc! {"$replaceWith": {"$setField": {"field": "ssn", "input": "$$ROOT", "value": self.stored(0)}}}
            }
            // A bare number or a boolean would say whether the field stays.
            7 => doc! {"$project": {"x": 1, "ssn": {"$literal": self.bait()}}},
            _ => doc! {"$set": {"x": self.touching(0)}},
        }
    }
}

/// Whether sealed fields are gone behind a stage: what is compared with them there is compared
/// with nothing.
fn drops_fields(stage: &Document) -> bool {
    match stage.get("$replaceWith") {
        Some(Bson::Document(made)) => made.contains_key("_id"),
        _ => stage.contains_key("$project"),
    }
}
