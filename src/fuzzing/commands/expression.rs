//! Expressions in which every canary stands beside a sealed field: compared with it, searched
//! in it, or in its place.

use bson::{Bson, bson};

use super::super::CANARY_TEXT;
use super::{Commands, DEEP};

impl Commands<'_> {
    /// What gives the value of a sealed field.
    pub(super) fn operand(&mut self) -> Bson {
        match self.choices.below(16) {
            0..=2 => "$ssn".into(),
            3 => "$payment.card".into(),
            4 => "$tags".into(),
            5 => "$age".into(),
            6 => "$contacts.home.phone".into(),
            7 => "$$ROOT.ssn".into(),
            8 => "$$CURRENT.ssn".into(),
            9 => bson!({"$getField": "ssn"}),
            10 => bson!({"$arrayElemAt": ["$tags", 0]}),
            11 => bson!({"$first": "$tags"}),
            12 => bson!({"$ifNull": ["$ssn", null]}),
            13 => bson!({"$let": {"vars": {"s": "$ssn"}, "in": "$$s"}}),
            14 => self
                .choices
                .pick(&["$address", "$visits.note", "$notes"])
                .into(),
            _ => bson!({"$cond": ["$x", "$ssn", null]}),
        }
    }

    /// A constant, in one of the forms that one has.
    fn constant(&mut self) -> Bson {
        let bait = self.bait();
        match self.choices.below(8) {
            0..=3 => bait,
            4 => bson!({"$literal": bait}),
            5 => bson!({"$cond": ["$x", bait, self.bait()]}),
            6 => bson!({"$ifNull": [bait, "open"]}),
            _ => bson!({"$toUpper": bait}),
        }
    }

    /// An expression that looks at a sealed field.
    pub(super) fn touching(&mut self, depth: usize) -> Bson {
        let kinds = if depth > DEEP { 4 } else { 22 };
        let sealed = self.operand();
        match self.choices.below(kinds) {
            0 | 1 => {
                let operators = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$cmp"];
                let operator = self.choices.pick(&operators);
                let constant = self.constant();
                if self.choices.yes() {
                    bson!({operator: [constant, sealed]})
                } else {
                    bson!({operator: [sealed, constant]})
                }
            }
            2 => bson!({"$in": [sealed, [self.constant(), self.constant()]]}),
            3 => bson!({"$in": [self.constant(), sealed]}),
            4 | 5 => {
                let operator = self.choices.pick(&["$and", "$or"]);
                let count = self.choices.below(3);
                let operands: Vec<Bson> = (0..=count).map(|_| self.touching(depth + 1)).collect();
                bson!({operator: operands})
            }
            6 => bson!({"$not": [self.touching(depth + 1)]}),
            7 => bson!({"$cond": [self.touching(depth + 1), 1, 0]}),
            8 => {
                bson!({"$switch": {"branches": [{"case": self.touching(depth + 1), "then": 1}], "default": 0}})
            }
            9 => {
                let operators = [
                    "$setUnion",
                    "$setIntersection",
                    "$setEquals",
                    "$setIsSubset",
                    "$setDifference",
                ];
                let operator = self.choices.pick(&operators);
                bson!({operator: [sealed, [self.constant()]]})
            }
            10 => bson!({"$indexOfArray": ["$tags", self.constant()]}),
            11 => {
                bson!({"$filter": {"input": "$tags", "as": "t", "cond": {"$eq": ["$$t", self.constant()]}}})
            }
            12 => {
                bson!({"$map": {"input": "$tags", "as": "t", "in": {"$ne": ["$$t", self.constant()]}}})
            }
            13 => {
                bson!({"$reduce": {"input": "$tags", "initialValue": false, "in": {"$or": ["$$value", {"$eq": ["$$this", self.constant()]}]}}})
            }
            14 => bson!({"$let": {"vars": {"k": self.bait()}, "in": {"$eq": [sealed, "$$k"]}}}),
            15 => bson!({"$let": {"vars": {"s": sealed}, "in": {"$eq": ["$$s", self.constant()]}}}),
            16 => bson!({"$concat": [sealed, self.constant()]}),
            17 => {
                let operators = ["$regexMatch", "$regexFind", "$regexFindAll"];
                let operator = self.choices.pick(&operators);
                bson!({operator: {"input": sealed, "regex": CANARY_TEXT}})
            }
            18 => {
                let operators = [
                    "$add",
                    "$strcasecmp",
                    "$indexOfBytes",
                    "$split",
                    "$subtract",
                ];
                let operator = self.choices.pick(&operators);
                bson!({operator: [sealed, self.constant()]})
            }
            19 => {
                bson!({"$function": {"body": "function(a) { return a }", "args": [sealed, self.constant()], "lang": "js"}})
            }
            20 => bson!({"$allElementsTrue": [[self.touching(depth + 1)]]}),
            // Moved or tested for being true, as it stands; or compared.
            _ if self.choices.yes() => self.beside(depth + 1),
            _ => bson!({"$eq": ["$ssn", self.beside(depth + 1)]}),
        }
    }

    /// A canary in the place of a sealed field's values. It has the field's type: one of
    /// another type is no value of the field, and stays as it is.
    pub(super) fn beside(&mut self, depth: usize) -> Bson {
        let fields = [
            "$ssn",
            "$payment.card",
            "$contacts.home.phone",
            "$$ROOT.ssn",
        ];
        let sealed = self.choices.pick(&fields);
        let bait = CANARY_TEXT;
        let kinds = if depth > DEEP { 2 } else { 32 };
        match self.choices.below(kinds) {
            0 => bson!({"$ifNull": [sealed, bait]}),
            1 => bson!({"$cond": ["$x", sealed, bait]}),
            2 => {
                bson!({"$switch": {"branches": [{"case": "$x", "then": sealed}], "default": bait}})
            }
            3 => bson!({"$ifNull": [sealed, {"$literal": bait}]}),
            4 => bson!({"$cond": [self.touching(depth + 1), bait, sealed]}),
            5 => bson!({"$let": {"vars": {"b": "$x"}, "in": {"$ifNull": [sealed, bait]}}}),
            6 => bson!({"$concatArrays": ["$tags", [bait, {"$cond": ["$x", bait, bait]}]]}),
            7 => bson!({"$arrayElemAt": [{"$concatArrays": [[bait], "$tags"]}, 0]}),
            8..=15 => self.in_documents(bait),
            _ => self.carried(sealed, bait, depth),
        }
    }

    /// The same under the name that a sealed field has in documents.
    fn in_documents(&mut self, bait: &str) -> Bson {
        let (named, note) = (bson!({"ssn": bait}), bson!({"note": bait}));
        let card = bson!({"card": bait});
        match self.choices.below(10) {
            0 => bson!({"$mergeObjects": ["$$ROOT", named]}),
            1 => bson!({"$mergeObjects": [{"$literal": named}, "$$ROOT"]}),
            2 => bson!({"$mergeObjects": ["$$ROOT", {"payment": card}]}),
            3 => bson!({"$cond": ["$x", {"payment": card}, "$$ROOT"]}),
            4 => bson!({"$ifNull": ["$payment", card]}),
            5 => bson!({"$concatArrays": ["$visits", [note]]}),
            6 => {
                bson!({"$map": {"input": "$visits", "as": "v", "in": {"$mergeObjects": ["$$v", note]}}})
            }
            7 => bson!({"$setField": {"field": "ssn", "input": "$$ROOT", "value": bait}}),
            8 => {
                bson!({"$setField": {"field": "payment", "input": "$$ROOT", "value": {"$literal": card}}})
            }
            _ => bson!({"$mergeObjects": ["$$ROOT", {"$arrayToObject": [[["ssn", bait]]]}]}),
        }
    }

    /// The same, brought there by an array, a variable, or an operator over items.
    fn carried(&mut self, sealed: &str, bait: &str, depth: usize) -> Bson {
        let mixed = |name: &str| bson!({"$ifNull": [sealed, name]});
        match self.choices.below(16) {
            0 => bson!([sealed, bait]),
            1 => bson!([[bait], [sealed]]),
            2 => bson!({"$first": [[bait, sealed]]}),
            3 => bson!({"$slice": [[sealed, {"$literal": bait}], 1]}),
            4 => bson!({"$map": {"input": [sealed, bait], "in": "$$this"}}),
            5 => bson!({"$map": {"input": [bait, "x"], "as": "k", "in": mixed("$$k")}}),
            6 => bson!({"$map": {"input": {"$split": [bait, ","]}, "in": mixed("$$this")}}),
            7 => bson!({"$filter": {"input": [bait], "as": "k", "cond": mixed("$$k")}}),
            8 => {
                bson!({"$reduce": {"input": [bait], "initialValue": null, "in": mixed("$$this")}})
            }
            9 => {
                bson!({"$reduce": {"input": "$tags", "initialValue": bait, "in": {"$ifNull": ["$$this", "$$value"]}}})
            }
            10 => bson!({"$let": {"vars": {"k": bait}, "in": {"$not": [mixed("$$k")]}}}),
            11 => {
                bson!({"$let": {"vars": {"k": bait}, "in": {"$let": {"vars": {"j": "$$k"}, "in": mixed("$$j")}}}})
            }
            12 => bson!({"$ifNull": [sealed, {"$toUpper": bait}]}),
            13 => {
                bson!({"$ifNull": [sealed, {"$getField": {"field": "a", "input": {"a": bait}}}]})
            }
            14 => bson!({"$cond": [self.beside(depth + 1), sealed, {"$concat": [bait, "x"]}]}),
            _ => bson!({"$ifNull": [{"$cond": ["$x", sealed, "$age"]}, bait]}),
        }
    }

    /// What an update puts into a sealed field.
    pub(super) fn stored(&mut self, depth: usize) -> Bson {
        let kinds = if depth > DEEP { 4 } else { 14 };
        match self.choices.below(kinds) {
            0 | 1 => self.bait(),
            2 => bson!({"$literal": self.bait()}),
            3 => self.operand(),
            4 => bson!({"$cond": ["$x", self.stored(depth + 1), self.stored(depth + 1)]}),
            5 => bson!({"$cond": [self.touching(depth + 1), self.bait(), "$ssn"]}),
            6 => bson!({"$ifNull": ["$ssn", self.stored(depth + 1)]}),
            7 => {
                bson!({"$switch": {"branches": [{"case": "$x", "then": self.stored(depth + 1)}], "default": self.stored(depth + 1)}})
            }
            8 => bson!([self.bait(), self.stored(depth + 1)]),
            9 => bson!({"$concatArrays": ["$tags", [self.bait()]]}),
            10 => bson!({"$concat": [self.bait(), "x"]}),
            11 => bson!({"$let": {"vars": {"k": self.bait()}, "in": "$$k"}}),
            12 => {
                bson!({"$map": {"input": "$tags", "as": "t", "in": {"$cond": [{"$eq": ["$$t", self.bait()]}, self.bait(), "$$t"]}}})
            }
            _ => bson!({"$filter": {"input": "$tags", "cond": {"$ne": ["$$this", self.bait()]}}}),
        }
    }
}
