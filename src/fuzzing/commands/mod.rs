//! Commands of every family on `shop.customers`, with canaries wherever a value belongs to one
//! of its sealed fields, and plain values everywhere else.

mod expression;
mod filter;
mod pipeline;
mod tree;
mod update;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Decimal128, Document, Regex, Timestamp, doc};

use super::choices::Choices;
use super::{CANARY, CANARY_TEXT, NAME};

/// What makes them, of choices.
pub(super) struct Commands<'b> {
    pub(super) choices: Choices<'b>,
}

/// How deep anything that holds itself is built.
const DEEP: usize = 5;

impl Commands<'_> {
    /// The next command.
    pub(super) fn command(&mut self) -> Document {
        let mut command = match self.choices.below(16) {
            0 | 1 => self.insert(),
            2 | 3 => self.update_command(),
            4 => self.find_and_modify(),
            5 => {
                doc! {"delete": "customers", "deletes": [{"q": self.filter(0), "limit": 1, "hint": self.hint()}]}
            }
            6 | 7 => self.find(),
            8 => doc! {"count": "customers", "query": self.filter(0), "limit": 5},
            9 => {
                let key = self.path();
                doc! {"distinct": "customers", "key": key, "query": self.filter(0)}
            }
            10..=12 => {
                let pipeline = self.pipeline();
                doc! {"aggregate": "customers", "pipeline": pipeline, "cursor": {}}
            }
            13 => self.catalog(),
            14 => self.bulk_write(),
            _ => {
                let inner = match self.choices.below(4) {
                    0 => self.find(),
                    1 => doc! {"count": "customers", "query": self.filter(0)},
                    2 => self.update_command(),
                    _ => doc! {"aggregate": "customers", "pipeline": self.pipeline(), "cursor": {}},
                };
                doc! {"explain": inner, "verbosity": "queryPlanner"}
            }
        };
        self.options(&mut command);
        command
    }

    /// What any command may have.
    fn options(&mut self, command: &mut Document) {
        match self.choices.below(12) {
            1 => command.insert("comment", "of the service"),
            2 => command.insert("collation", doc! {"locale": "simple"}),
            3 => command.insert("collation", doc! {"locale": "en", "strength": 2}),
            4 => command.insert("maxTimeMS", 500),
            5 => command.insert("ordered", false),
            6 => command.insert("readConcern", doc! {"level": "majority"}),
            7 => command.insert("allowDiskUse", true),
            _ => None,
        };
    }

    fn insert(&mut self) -> Document {
        let count = self.choices.below(3);
        let documents: Vec<Document> = (0..=count).map(|_| self.document()).collect();
        doc! {"insert": "customers", "documents": documents, "bypassDocumentValidation": self.choices.yes()}
    }

    fn find(&mut self) -> Document {
        let mut find = doc! {"find": "customers", "filter": self.filter(0)};
        match self.choices.below(10) {
            1 => find.insert("projection", self.projection()),
            2 => find.insert("sort", doc! {self.path(): 1}),
            3 => find.insert("hint", self.hint()),
            4 => {
                let path = self.sealed_path();
                let bound = self.bait_for(path);
                find.insert("hint", doc! {path: 1});
                find.insert("min", doc! {path: bound})
            }
            5 => {
                let path = self.sealed_path();
                find.insert("max", doc! {path: self.bait_for(path)})
            }
            6 => {
                // A constant that is compared with a sealed field alone.
                find.insert("let", doc! {"k": self.bait()});
                let sealed = self.operand();
                find.insert("filter", doc! {"$expr": {"$eq": [sealed, "$$k"]}})
            }
            7 => {
                // One that stands for its values, under another name.
                find.insert("let", doc! {"k": CANARY_TEXT});
                let mixed = doc! {"$not": [{"$ifNull": ["$ssn", "$$j"]}]};
                find.insert(
                    "filter",
                    doc! {"$expr": {"$let": {"vars": {"j": "$$k"}, "in": mixed}}},
                )
            }
            _ => None,
        };
        find
    }

    fn projection(&mut self) -> Document {
        match self.choices.below(6) {
            0 => doc! {self.path(): 1},
            1 => doc! {self.path(): 0},
            2 => doc! {"t": self.touching(0)},
            3 => doc! {"tags": {"$elemMatch": self.condition("tags", 0)}},
            4 => doc! {"visits": {"$elemMatch": {"note": self.condition("visits.note", 0)}}},
            _ => doc! {"tags": {"$slice": 2}, "y": self.operand()},
        }
    }

    fn hint(&mut self) -> Bson {
        match self.choices.below(3) {
            0 => "_id_".into(),
            1 => doc! {"_id": 1}.into(),
            _ => doc! {self.sealed_path(): 1}.into(),
        }
    }

    fn catalog(&mut self) -> Document {
        match self.choices.below(8) {
            0 => {
                doc! {"createIndexes": "customers", "indexes": [{"key": {self.path(): 1}, "name": "one", "partialFilterExpression": self.filter(0)}]}
            }
            1 => doc! {"collMod": "customers", "validator": self.filter(0)},
            2 => doc! {"create": "customers", "validator": self.filter(0)},
            3 => doc! {"create": "seen", "viewOn": "customers", "pipeline": self.pipeline()},
            4 => {
                doc! {"mapReduce": "customers", "map": "function() {}", "reduce": "function() {}", "out": {"inline": 1}, "query": self.filter(0)}
            }
            5 => {
                doc! {"planCacheSetFilter": "customers", "query": self.filter(0), "indexes": [{"_id": 1}]}
            }
            6 => doc! {"planCacheClear": "customers", "query": self.filter(0)},
            _ => {
                let (path, bound) = (self.sealed_path(), self.bait());
                doc! {"split": "shop.customers", "middle": {path: bound}, "$db": "admin"}
            }
        }
    }

    fn bulk_write(&mut self) -> Document {
        let count = self.choices.below(3);
        let ops: Vec<Document> = (0..=count)
            .map(|_| match self.choices.below(3) {
                0 => doc! {"insert": 0, "document": self.document()},
                1 => doc! {"update": 0, "filter": self.filter(0), "updateMods": self.change(), "upsert": self.choices.yes()},
                _ => doc! {"delete": 0, "filter": self.filter(0), "multi": false},
            })
            .collect();
        doc! {"bulkWrite": 1, "ops": ops, "nsInfo": [{"ns": "shop.customers"}], "$db": "admin"}
    }

    /// A value that nobody may see, of any type.
    fn bait(&mut self) -> Bson {
        let number = i64::from_le_bytes(*CANARY);
        match self.choices.below(20) {
            0..=9 => CANARY_TEXT.into(),
            10 => Bson::Int64(number),
            11 => Bson::Double(f64::from_le_bytes(*CANARY)),
            12 => Bson::Symbol(CANARY_TEXT.to_owned()),
            13 => Bson::JavaScriptCode(CANARY_TEXT.to_owned()),
            14 => Bson::Binary(Binary {
                subtype: BinarySubtype::Generic,
                bytes: CANARY_TEXT.into(),
            }),
            15 => Bson::DateTime(DateTime::from_millis(number)),
            16 => {
                let mut bytes = [0; 12];
                bytes[..8].copy_from_slice(CANARY);
                Bson::ObjectId(ObjectId::from_bytes(bytes))
            }
            17 => Bson::RegularExpression(Regex {
                pattern: CANARY_TEXT.try_into().expect("it holds no zero"),
                options: "i".try_into().expect("it holds no zero"),
            }),
            18 => Bson::Timestamp(Timestamp {
                time: u32::from_le_bytes(*b"RY-4"),
                increment: u32::from_le_bytes(*b"CANA"),
            }),
            _ => self.number(),
        }
    }

    /// The same, of the type that a field has, mostly.
    fn bait_for(&mut self, path: &str) -> Bson {
        if path.starts_with("age") && self.choices.below(4) > 0 {
            return self.number();
        }
        self.bait()
    }

    fn number(&mut self) -> Bson {
        match self.choices.below(3) {
            0 => Bson::Int64(i64::from_le_bytes(*CANARY)),
            1 => Bson::Double(f64::from_le_bytes(*CANARY)),
            _ => {
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(CANARY);
                // The exponent of zero.
                bytes[14..].copy_from_slice(&[0x40, 0x30]);
                Bson::Decimal128(Decimal128::from_bytes(bytes))
            }
        }
    }

    /// A path into a sealed field.
    fn sealed_path(&mut self) -> &'static str {
        const PATHS: &[&str] = &[
            "ssn",
            "payment.card",
            "tags",
            "age",
            "visits.note",
            "contacts.home.phone",
            "address",
            "notes",
            "tags.0",
            "payment.0.card",
            "visits.1.note",
            "contacts.0.phone",
            "address.city",
            "ssn.c",
            "ssn.e1",
        ];
        self.choices.pick(PATHS)
    }

    /// A path, sealed or not.
    fn path(&mut self) -> String {
        match self.choices.below(8) {
            0..=3 => self.sealed_path().to_owned(),
            4 => format!("address.{NAME}"),
            _ => self
                .choices
                .pick(&["x", "_id", "payment", "visits", "contacts.home", "plan.x"])
                .to_owned(),
        }
    }

    /// A value that anyone may see.
    fn open(&mut self) -> Bson {
        match self.choices.below(6) {
            0 => Bson::Int32(1),
            1 => "open".into(),
            2 => Bson::Null,
            3 => true.into(),
            4 => "$x".into(),
            _ => Bson::Array(vec!["open".into()]),
        }
    }
}
