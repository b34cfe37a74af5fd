//! Validators that were made for plain values, and refuse sealed ones.

use bson::{Bson, Document};

use crate::policy::{Collection, Field};
use crate::schema::{Step, Tree};

/// The keywords of `$jsonSchema` that ask for one of several values, whatever their type.
const OF_VALUES: [&str; 1] = ["enum"];

/// What a validator asks of sealed fields that no sealed value is: the path, and what is asked.
pub(super) fn in_the_way(collection: &Collection, validator: &Document) -> Vec<(String, String)> {
    let mut walk = Walk {
        collection,
        found: Vec::new(),
    };
    walk.filter(validator);
    walk.found
}

struct Walk<'c> {
    collection: &'c Collection,
    found: Vec<(String, String)>,
}

impl Walk<'_> {
    fn filter(&mut self, filter: &Document) {
        for (key, condition) in filter {
            match (key.as_str(), condition) {
                ("$and", Bson::Array(all)) => {
                    let all = all.iter().filter_map(Bson::as_document);
                    all.for_each(|filter| self.filter(filter));
                }
                ("$jsonSchema", Bson::Document(schema)) => self.schema(schema, ""),
                (path, condition) => {
                    if let Some(field) = self.field(path)
                        && let Some(what) = refused(field, condition)
                    {
                        self.found.push((path.to_owned(), what));
                    }
                }
            }
        }
    }

    /// What a schema asks of the value at `path`, which is empty for the document itself.
    fn schema(&mut self, schema: &Document, path: &str) {
        if let Ok(all) = schema.get_array("allOf") {
            let all = all.iter().filter_map(Bson::as_document);
            all.for_each(|schema| self.schema(schema, path));
        }
        if let Some(field) = self.field(path) {
            if let Some(what) = refused_by_schema(field, schema, field.elements) {
                self.found.push((path.to_owned(), what));
            } else if let Ok(items) = schema.get_document("items")
                && field.elements
                && let Some(what) = refused_by_schema(field, items, false)
            {
                self.found.push((path.to_owned(), what));
            }
            return;
        }
        let Ok(properties) = schema.get_document("properties") else {
            return;
        };
        for (name, schema) in properties {
            let path = match path {
                "" => name.clone(),
                above => format!("{above}.{name}"),
            };
            if let Bson::Document(schema) = schema {
                self.schema(schema, &path);
            }
        }
    }

    fn field(&self, path: &str) -> Option<&Field> {
        let mut at = Tree::ROOT;
        for component in path.split('.') {
            match self.collection.tree.step(at, component) {
                Step::Inner(next) => at = next,
                Step::Sealed(leaf) => return Some(self.collection.field(leaf)),
                _ => return None,
            }
        }
        None
    }
}

/// What a condition asks of a field that its sealed values are not.
fn refused(field: &Field, condition: &Bson) -> Option<String> {
    let Bson::Document(operators) = condition else {
        return Some("one certain value".to_owned());
    };
    operators
        .iter()
        .find_map(|(operator, operand)| match operator.as_str() {
            "$exists" | "$ne" | "$nin" | "$not" | "$size" => None,
            "$type" => (!names_stored(field, operand, field.elements))
                .then(|| format!("`$type` {}", spoken(operand))),
            operator if operator.starts_with('$') => Some(format!("`{operator}`")),
            _ => Some("one certain value".to_owned()),
        })
}

fn refused_by_schema(field: &Field, schema: &Document, arrays: bool) -> Option<String> {
    for keyword in ["bsonType", "type"] {
        if let Some(types) = schema.get(keyword)
            && !names_stored(field, types, arrays)
        {
            return Some(format!("`{keyword}` {}", spoken(types)));
        }
    }
    let keyword = OF_VALUES
        .iter()
        .find(|keyword| schema.contains_key(keyword));
    keyword.map(|keyword| format!("`{keyword}`"))
}

/// Whether the types that are asked for have the one that is stored among them.
fn names_stored(field: &Field, types: &Bson, arrays: bool) -> bool {
    let (name, number) = match field.equality {
        Some(_) => ("object", 3),
        None => ("binData", 5),
    };
    match types {
        Bson::Array(types) => types.iter().any(|kind| names_stored(field, kind, arrays)),
        Bson::String(kind) => kind == name || (arrays && kind == "array"),
        Bson::Int32(kind) => *kind == number || (arrays && *kind == 4),
        Bson::Int64(kind) => *kind == i64::from(number) || (arrays && *kind == 4),
        // MongoDB takes whole numbers of any kind.
        Bson::Double(kind) => *kind == f64::from(number) || (arrays && *kind == 4.0),
        _ => true,
    }
}

fn spoken(types: &Bson) -> String {
    types.clone().into_relaxed_extjson().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::doc;

    use super::*;
    use crate::policy::{Policy, fixture};
    use crate::rewrite::at_rest::rewritten;

    fn found(policy: &Policy, validator: &Document) -> Vec<String> {
        let collection = policy.collection("shop.customers").unwrap();
        let found = in_the_way(&collection, validator);
        found
            .into_iter()
            .map(|(path, what)| format!("{path} {what}"))
            .collect()
    }

    #[test]
    fn a_validator_for_plain_values_is_in_the_way() {
        let policy = fixture::policy();
        for (validator, expected) in [
            (doc! {"ssn": {"$type": "string"}}, "ssn `$type` \"string\""),
            (doc! {"address": {"$type": 2}}, "address `$type` 2"),
            (
                doc! {"$and": [{"open": 1}, {"ssn": {"$regex": "^1"}}]},
                "ssn `$regex`",
            ),
            (doc! {"ssn": "1"}, "ssn one certain value"),
            (
                doc! {"$jsonSchema": {"properties": {"ssn": {"bsonType": ["string", "null"]}}}},
                "ssn `bsonType` [\"string\",\"null\"]",
            ),
            (
                doc! {"$jsonSchema": {"properties": {"address": {"enum": ["a"]}}}},
                "address `enum`",
            ),
            (
                doc! {"$jsonSchema": {"allOf": [{"properties": {"address": {"type": "object"}}}]}},
                "address `type` \"object\"",
            ),
        ] {
            assert_eq!(found(&policy, &validator), [expected], "{validator}");
        }
    }

    #[test]
    fn a_validator_that_was_made_through_the_proxy_is_not() {
        let policy = fixture::policy();
        let types = fixture::policy().collection("shop.customers").unwrap();
        let types = types
            .fields()
            .iter()
            .find(|field| field.path == "ssn")
            .unwrap()
            .types
            .names();
        for validator in [
            doc! {"ssn": {"$exists": true}, "name": {"$type": "string"}},
            doc! {"$jsonSchema": {"required": ["ssn"], "properties": {"ssn": {"bsonType": types.unwrap()}, "name": {"bsonType": "string"}}}},
        ] {
            let command = doc! {"create": "customers", "validator": validator};
            let sent = rewritten(&policy, "shop", &command).unwrap();
            let stored = sent.get_document("validator").unwrap();
            assert!(found(&policy, stored).is_empty(), "{stored}");
        }
    }
}
