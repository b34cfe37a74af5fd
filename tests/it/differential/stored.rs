//! What MongoDB itself holds: nothing in plain where a field is sealed.

use mongodb::bson::{Bson, Document};

use super::pair::bytes;
use super::values::CANARY;

/// The sealed fields by their path; queryable ones are sealed element by element.
const SEALED: &[(&str, bool)] = &[
    ("ssn", true),
    ("payment.card", true),
    ("tags", true),
    ("age", true),
    ("address", false),
    ("visits.note", false),
];

/// An error that says what of a document, as MongoDB stores it, is in plain but should not be.
pub(super) fn holds_no_plaintext(document: &Document) -> Result<(), String> {
    let stored = bytes(document);
    if stored
        .windows(CANARY.len())
        .any(|part| part == CANARY.as_bytes())
    {
        return Err(format!(
            "  a sealed string is stored in plain: {document:?}"
        ));
    }
    let value = Bson::Document(document.clone());
    SEALED
        .iter()
        .try_for_each(|(path, queryable)| match at(&value, path, *queryable) {
            Some(plain) => Err(format!("  stored in plain in {path}: {plain:?}")),
            None => Ok(()),
        })
}

/// The first value at `path`, through arrays, that is not sealed.
fn at<'v>(value: &'v Bson, path: &str, queryable: bool) -> Option<&'v Bson> {
    match value {
        Bson::Array(items) => items.iter().find_map(|item| at(item, path, queryable)),
        Bson::Document(document) => {
            let (name, rest) = match path.split_once('.') {
                Some((name, rest)) => (name, Some(rest)),
                None => (path, None),
            };
            let value = document.get(name)?;
            match rest {
                Some(rest) => at(value, rest, queryable),
                None => unsealed(value, queryable),
            }
        }
        _ => None,
    }
}

fn unsealed(value: &Bson, queryable: bool) -> Option<&Bson> {
    let binary =
        |value: &Bson| matches!(value, Bson::Binary(binary) if u8::from(binary.subtype) == 0x8f);
    match value {
        Bson::Null | Bson::Undefined => None,
        Bson::Array(items) if queryable => items.iter().find_map(|item| unsealed(item, true)),
        Bson::Document(sealed) if queryable => {
            let tokens = || sealed.iter().filter(|(name, _)| *name != "c");
            let whole = sealed.get("c").is_some_and(binary)
                && matches!(sealed.len(), 2 | 4)
                && tokens()
                    .zip(["e1", "e2", "e3"])
                    .all(|((name, token), expected)| {
                        name == expected
                            && matches!(token, Bson::Binary(token) if token.bytes.len() == 16)
                    });
            (!whole).then_some(value)
        }
        value if !queryable && binary(value) => None,
        value => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn plaintext_is_seen_at_every_sealed_path() {
        for plain in [
            doc! { "name": "sealed-a" },
            doc! { "age": 1 },
            doc! { "ssn": [null, ""] },
            doc! { "payment": [{}, { "card": {} }] },
            doc! { "visits": [{ "note": null }, { "note": "" }] },
            doc! { "address": { "zip": 1 } },
        ] {
            holds_no_plaintext(&plain).unwrap_err();
        }
        holds_no_plaintext(&doc! { "ssn": null, "tags": [], "payment": 1, "n": 1 }).unwrap();
    }
}
