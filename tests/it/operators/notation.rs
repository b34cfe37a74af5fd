//! The examples' notation: YAML in its flow style, with the shell's words for what JSON has not.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp,
};
use serde_yaml_ng::Value;

/// The value that `text` is, of which strings that name a collection or database are turned by `name`.
pub(super) fn parse(text: &str, name: &impl Fn(&str) -> Option<String>) -> Bson {
    let value: Value =
        serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    to_bson(&value, name)
}

fn to_bson(value: &Value, name: &impl Fn(&str) -> Option<String>) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(flag) => Bson::Boolean(*flag),
        Value::Number(number) => to_number(number),
        Value::String(text) => {
            word(text).unwrap_or_else(|| Bson::String(name(text).unwrap_or_else(|| text.clone())))
        }
        Value::Sequence(items) => {
            Bson::Array(items.iter().map(|item| to_bson(item, name)).collect())
        }
        Value::Mapping(fields) => {
            let mut document = Document::new();
            for (key, value) in fields {
                let key = match key {
                    Value::String(key) => key.clone(),
                    Value::Number(key) => key.to_string(),
                    other => panic!("not a name of a field: {other:?}"),
                };
                document.insert(key, to_bson(value, name));
            }
            Bson::Document(document)
        }
        Value::Tagged(tagged) => panic!("a tag: {tagged:?}"),
    }
}

fn to_number(number: &serde_yaml_ng::Number) -> Bson {
    match number.as_i64() {
        Some(number) => i32::try_from(number).map_or(Bson::Int64(number), Bson::Int32),
        None => Bson::Double(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// `ISODate(2024-05-01)` and its like, and `/pattern/`.
fn word(text: &str) -> Option<Bson> {
    if let Some(pattern) = text
        .strip_prefix('/')
        .and_then(|rest| rest.strip_suffix('/'))
    {
        return Some(Bson::RegularExpression(Regex {
            pattern: pattern.try_into().unwrap(),
            options: "".try_into().unwrap(),
        }));
    }
    let (function, argument) = text.strip_suffix(')')?.split_once('(')?;
    Some(match function {
        "ISODate" => {
            Bson::DateTime(DateTime::parse_rfc3339_str(format!("{argument}T00:00:00Z")).unwrap())
        }
        "ObjectId" => Bson::ObjectId(ObjectId::parse_str(argument).unwrap()),
        "BinData" => Bson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes: argument.as_bytes().to_vec(),
        }),
        "UUID" => Bson::Binary(Binary {
            subtype: BinarySubtype::Uuid,
            bytes: vec![argument.parse().unwrap(); 16],
        }),
        "NumberLong" => Bson::Int64(argument.parse().unwrap()),
        "NumberDecimal" => Bson::Decimal128(argument.parse::<Decimal128>().unwrap()),
        "Timestamp" => Bson::Timestamp(Timestamp {
            time: argument.parse().unwrap(),
            increment: 1,
        }),
        "Code" => Bson::JavaScriptCode(argument.to_owned()),
        "CodeWithScope" => Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
            code: argument.to_owned(),
            scope: Document::new(),
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    #[test]
    fn examples_read_as_in_the_shell() {
        let told = parse(
            "{$match: {a: ISODate(1970-01-01), b: [NumberLong(5), 1.5, x], n: C}}",
            &|name| (name == "C").then(|| "people".to_owned()),
        );
        let expected = doc! { "$match": {
            "a": DateTime::from_millis(0), "b": [5_i64, 1.5, "x"], "n": "people",
        } };
        assert_eq!(told, Bson::Document(expected));
    }
}
