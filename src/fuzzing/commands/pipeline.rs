//! Pipelines, whose stages move sealed fields; canaries stand where one surely is.

use bson::{Bson, Document, bson, doc};

use super::super::CANARY_TEXT;
use super::Commands;

/// Where sealed values are before a stage, besides the collection's own paths.
struct Known {
    /// Whether documents still have the collection's own shape.
    own: bool,
    /// Fields that hold the values of one sealed field.
    names: Vec<&'static str>,
}

impl Commands<'_> {
    /// Stages for `aggregate`, or a view.
    pub(super) fn pipeline(&mut self) -> Vec<Bson> {
        let mut known = Known {
            own: true,
            names: Vec::new(),
        };
        let mut stages: Vec<Document> = Vec::new();
        if self.choices.below(12) == 11 {
            stages.push(doc! {"$changeStream": {}});
            let fields = ["fullDocument.ssn", "updateDescription.updatedFields.ssn"];
            let field = self.choices.pick(&fields);
            stages.push(doc! {"$match": {field: self.condition("ssn", 0)}});
            known.own = false;
        }
        let count = self.choices.below(4);
        for _ in 0..=count {
            let stage = self.stage(&mut known);
            stages.push(stage);
        }
        stages.into_iter().map(Bson::from).collect()
    }

    fn stage(&mut self, known: &mut Known) -> Document {
        if known.own && self.choices.below(3) > 0 {
            return self.stage_on_own(known);
        }
        if let Some(name) = known.names.last().copied() {
            return self.stage_on(name, known);
        }
        match self.choices.below(5) {
            0 => doc! {"$limit": 5},
            1 => doc! {"$skip": 1},
            2 => doc! {"$sample": {"size": 1}},
            3 => doc! {"$unset": "x"},
            _ => doc! {"$sort": {"x": 1}},
        }
    }

    /// On documents as the collection has them.
    fn stage_on_own(&mut self, known: &mut Known) -> Document {
        match self.choices.below(26) {
            0..=2 => doc! {"$match": self.filter(0)},
            3 => {
                known.names.push("y");
                doc! {"$addFields": {"y": self.one_field()}}
            }
            4 => doc! {"$set": {"t": self.touching(0)}},
            5 => {
                (known.own, known.names) = (false, vec!["y"]);
                doc! {"$project": {"y": self.one_field(), "t": self.touching(0)}}
            }
            6 => {
                (known.own, known.names) = (false, vec!["_id"]);
                doc! {"$group": {"_id": self.one_field(), "n": {"$sum": {"$cond": [self.touching(0), 1, 0]}}, "all": {"$addToSet": "$ssn"}}}
            }
            7 => {
                (known.own, known.names) = (false, vec!["_id"]);
                doc! {"$sortByCount": self.one_field()}
            }
            8 => {
                (known.own, known.names) = (false, vec!["y"]);
                doc! {"$replaceRoot": {"newRoot": {"y": self.one_field()}}}
            }
            9 => doc! {"$unwind": self.choices.pick(&["$tags", "$visits", "$x"])},
            10 => {
                (known.own, known.names) = (false, Vec::new());
                let (one, other) = (self.pipeline_below(), self.pipeline_below());
                doc! {"$facet": {"one": one, "other": other}}
            }
            11 | 12 => self.join(known),
            13 => {
                doc! {"$unionWith": {"coll": "customers", "pipeline": [{"$match": self.filter(0)}]}}
            }
            14 => {
                (known.own, known.names) = (false, Vec::new());
                doc! {"$bucket": {"groupBy": "$age", "boundaries": [self.number(), self.number()], "default": self.bait()}}
            }
            15 => {
                known.own = false;
                doc! {"$fill": {"sortBy": {"x": 1}, "output": {"ssn": {"value": CANARY_TEXT}}}}
            }
            16 => {
                doc! {"$setWindowFields": {"partitionBy": self.touching(0), "sortBy": {"x": 1}, "output": {"w": {"$push": "$ssn"}}}}
            }
            17 => doc! {"$redact": {"$cond": [self.touching(0), "$$KEEP", "$$PRUNE"]}},
            18 => {
                doc! {"$geoNear": {"near": [0, 0], "distanceField": "d", "query": self.filter(0)}}
            }
            19..=21 => self.in_place(known),
            22 => {
                (known.own, known.names) = (false, Vec::new());
                doc! {"$replaceWith": self.beside(0)}
            }
            23 => {
                (known.own, known.names) = (false, Vec::new());
                let documents = [doc! {"$documents": [{"ssn": CANARY_TEXT}]}];
                doc! {"$unionWith": {"pipeline": documents.to_vec()}}
            }
            24 => {
                (known.own, known.names) = (false, Vec::new());
                doc! {"$group": {"_id": [self.one_field(), CANARY_TEXT], "x": {"$push": self.beside(0)}}}
            }
            _ => {
                (known.own, known.names) = (false, Vec::new());
                doc! {"$merge": {"into": "customers", "whenMatched": [{"$set": {"ssn": self.stored(0)}}]}}
            }
        }
    }

    /// A canary where a sealed field stands.
    fn in_place(&mut self, known: &mut Known) -> Document {
        let stage = self.choices.pick(&["$set", "$project", "$addFields"]);
        if stage == "$project" {
            (known.own, known.names) = (false, Vec::new());
        }
        let card = bson!({"card": CANARY_TEXT});
        match self.choices.below(8) {
            0 => doc! {stage: {"ssn": {"$toUpper": CANARY_TEXT}}},
            1 => doc! {stage: {"payment": {"$literal": card}}},
            2 => doc! {stage: {"payment": [card]}},
            3 => doc! {stage: {"payment": {"$cond": ["$x", card, "$payment"]}}},
            4 => {
                doc! {stage: {"visits": {"$map": {"input": "$visits", "in": {"note": CANARY_TEXT}}}}}
            }
            5 => doc! {stage: {"address": {"city": CANARY_TEXT}}},
            6 => {
                doc! {"$setWindowFields": {"sortBy": {"x": 1}, "output": {"w": {"$shift": {"output": "$payment", "by": 1, "default": card}}}}}
            }
            _ => doc! {stage: {"w": self.beside(0)}},
        }
    }

    /// A field that surely holds the values of one sealed field.
    fn one_field(&mut self) -> Bson {
        let fields = [
            "$ssn",
            "$payment.card",
            "$contacts.home.phone",
            "$$ROOT.ssn",
        ];
        self.choices.pick(&fields).into()
    }

    /// The match comes first: behind the projection the fields are not there any more.
    fn pipeline_below(&mut self) -> Vec<Document> {
        let matching = doc! {"$match": self.filter(1)};
        let last = match self.choices.below(2) {
            0 => doc! {"$limit": 1},
            _ => doc! {"$project": {"t": self.touching(1)}},
        };
        vec![matching, last]
    }

    /// With documents of `shop.people`, whose `a` is sealed.
    fn join(&mut self, known: &mut Known) -> Document {
        known.names.push("joined.a");
        match self.choices.below(5) {
            0 => {
                doc! {"$lookup": {"from": "people", "let": {"k": self.bait()}, "pipeline": [{"$match": {"$expr": {"$eq": ["$a", "$$k"]}}}], "as": "joined"}}
            }
            1 => {
                doc! {"$lookup": {"from": "people", "let": {"o": "$x"}, "pipeline": [{"$match": self.filter_of_people()}], "as": "joined"}}
            }
            2 => {
                doc! {"$lookup": {"from": "people", "localField": "x", "foreignField": "_id", "pipeline": [{"$match": self.filter_of_people()}], "as": "joined"}}
            }
            3 => {
                doc! {"$graphLookup": {"from": "people", "startWith": self.bait(), "connectFromField": "a", "connectToField": "a", "as": "joined"}}
            }
            _ => {
                doc! {"$graphLookup": {"from": "people", "startWith": "$x", "connectFromField": "b", "connectToField": "b", "as": "joined", "restrictSearchWithMatch": self.filter_of_people()}}
            }
        }
    }

    /// On documents in which `name` holds the values of one sealed field.
    fn stage_on(&mut self, name: &'static str, known: &mut Known) -> Document {
        let path = format!("${name}");
        match self.choices.below(9) {
            0..=2 => doc! {"$match": {name: self.condition("ssn", 0)}},
            3 => doc! {"$match": {"$expr": {"$eq": [path, self.bait()]}}},
            4 => {
                let operator = self.choices.pick(&["$eq", "$in", "$ne", "$gt", "$concat"]);
                let constant = match operator {
                    "$in" => bson!([self.bait(), self.bait()]),
                    _ => self.bait(),
                };
                known.own = false;
                known.names.clear();
                doc! {"$project": {"t": {operator: [path, constant]}}}
            }
            5 => {
                (known.own, known.names) = (false, vec!["z"]);
                doc! {"$project": {"z": path}}
            }
            6 => {
                (known.own, known.names) = (false, vec!["_id"]);
                doc! {"$group": {"_id": path, "n": {"$sum": 1}}}
            }
            7 => {
                doc! {"$redact": {"$cond": [{"$eq": [path, CANARY_TEXT]}, "$$KEEP", "$$PRUNE"]}}
            }
            _ => {
                known.names.push("w");
                doc! {"$addFields": {"w": {"$ifNull": [path, CANARY_TEXT]}}}
            }
        }
    }
}
