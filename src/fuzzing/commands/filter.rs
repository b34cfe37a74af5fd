//! Filters.

use bson::{Bson, Document, bson, doc};

use super::super::{CANARY_TEXT, NAME};
use super::tree::Role;
use super::{Commands, DEEP};

impl Commands<'_> {
    /// A filter over documents of the collection.
    pub(super) fn filter(&mut self, depth: usize) -> Document {
        let count = self.choices.below(3);
        let mut filter = Document::new();
        for _ in 0..=count {
            let (name, value) = self.part(depth);
            filter.insert(name, value);
        }
        filter
    }

    fn part(&mut self, depth: usize) -> (String, Bson) {
        let kinds = if depth > DEEP { 8 } else { 18 };
        let (name, value) = match self.choices.below(kinds) {
            0..=4 => {
                let path = self.sealed_path();
                (path, self.condition(path, depth))
            }
            5 => ("payment", bson!({"card": self.bait()})),
            6 => ("x", self.open()),
            7 => return (format!("address.{NAME}"), self.condition("address", depth)),
            8 | 9 => {
                let operator = self.choices.pick(&["$and", "$or", "$nor"]);
                let count = self.choices.below(3);
                let branches: Vec<Document> = (0..=count).map(|_| self.filter(depth + 1)).collect();
                (operator, branches.into())
            }
            10 | 11 => ("$expr", self.touching(depth + 1)),
            12 => (
                "visits",
                bson!({"$elemMatch": {"note": self.condition("visits.note", depth + 1)}}),
            ),
            13 => (
                "payment",
                bson!({"$elemMatch": {"card": self.condition("payment.card", depth + 1), "x": 1}}),
            ),
            14 => ("$jsonSchema", self.json_schema()),
            15 => ("$comment", "of the service".into()),
            16 => {
                let names = &mut Vec::new();
                let filter = self.named(names, Role::Asked, depth + 1);
                return filter.into_iter().next().unwrap_or_default();
            }
            _ => (
                "contacts",
                bson!({"$elemMatch": {"home.phone": self.bait()}}),
            ),
        };
        (name.to_owned(), value)
    }

    /// What a sealed field is asked.
    pub(super) fn condition(&mut self, path: &str, depth: usize) -> Bson {
        let kinds = if depth > DEEP { 6 } else { 18 };
        match self.choices.below(kinds) {
            0 | 1 => self.bait_for(path),
            2 => {
                let operators = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"];
                let operator = self.choices.pick(&operators);
                bson!({operator: self.bait_for(path)})
            }
            3 => {
                let operator = self.choices.pick(&["$in", "$nin", "$all"]);
                bson!({operator: self.list(path)})
            }
            4 => bson!({"$exists": self.choices.yes()}),
            5 => Bson::Null,
            6 | 7 => bson!({"$not": self.condition(path, depth + 1)}),
            8 => bson!({"$elemMatch": self.condition(path, depth + 1)}),
            9 => bson!({"$regex": CANARY_TEXT, "$options": "i"}),
            10 => bson!({"$type": self.choices.pick(&["string", "object", "array", "binData"])}),
            11 => bson!({"$size": 1}),
            12 => bson!({"$mod": [self.number(), 1]}),
            13 => {
                // Not $size and $type: how many and of which type is no value of the field.
                let operators = ["$bitsAllSet", "$geoWithin", "$near", "$foo"];
                let operator = self.choices.pick(&operators);
                bson!({operator: self.bait()})
            }
            14 => self.list(path).into(),
            15 => bson!({"a": self.bait(), CANARY_TEXT: 1}),
            16 => bson!({"$eq": self.bait_for(path), "$ne": self.bait_for(path)}),
            _ => bson!({"$in": [[self.bait_for(path)], {"c": self.bait()}]}),
        }
    }

    fn list(&mut self, path: &str) -> Vec<Bson> {
        let count = self.choices.below(3);
        let mut list: Vec<Bson> = (0..=count).map(|_| self.bait_for(path)).collect();
        if self.choices.yes() {
            list.push(Bson::Null);
        }
        list
    }

    fn json_schema(&mut self) -> Bson {
        let rule = match self.choices.below(5) {
            0 => bson!({"enum": [self.bait()]}),
            1 => bson!({"pattern": CANARY_TEXT}),
            2 => bson!({"minimum": self.number()}),
            3 => bson!({"not": {"enum": [self.bait()]}}),
            _ => bson!({"bsonType": "string"}),
        };
        match self.choices.below(4) {
            0 => bson!({"properties": {"ssn": rule}}),
            1 => bson!({"properties": {"payment": {"properties": {"card": rule}}}}),
            2 => bson!({"properties": {"tags": {"items": rule}}}),
            _ => bson!({"anyOf": [{"properties": {"age": rule}}], "required": ["ssn"]}),
        }
    }

    /// A filter over `shop.people`, whose `a` and `items.sku` are sealed.
    pub(super) fn filter_of_people(&mut self) -> Document {
        match self.choices.below(3) {
            0 => doc! {"a": self.condition("a", 0)},
            1 => doc! {"items.sku": self.condition("items.sku", 0)},
            _ => doc! {"$expr": {"$eq": ["$a", self.bait()]}},
        }
    }
}
