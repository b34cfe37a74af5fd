//! Counts what stands at the sealed fields of a collection, document by document.
//!
//! Every value is opened, so that what is counted as readable is.

use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroize;

use super::walk::{self, Sealed, Stored, Value};
use crate::keyring::KeyId;
use crate::policy::{Collection, Field, Policy, Unopened};
use crate::raw::{Doc, Malformed};
use crate::schema::CollectionRule;
use crate::seal::{FieldId, MAGIC, SUBTYPE};

/// What was counted in one collection.
#[derive(Debug)]
pub struct Census {
    /// How many documents were seen.
    pub documents: u64,
    /// What stands at each of its sealed fields, in the order of the schema.
    pub fields: Vec<FieldCensus>,
    collection: Arc<Collection>,
    /// An opened value; wiped after each.
    opened: Vec<u8>,
}

/// What was counted at one field. Each value of an array that is sealed by its
/// elements counts; null does not.
#[derive(Debug)]
pub struct FieldCensus {
    /// The field.
    pub field: Arc<Field>,
    /// The name of the key that the schema gives it.
    pub key: String,
    /// How many values are sealed for this field, under each key version.
    pub sealed: BTreeMap<KeyId, u64>,
    /// How many of them have a token of each index epoch.
    pub tokens: BTreeMap<u32, u64>,
    /// How many have a token of the active epoch that is not the one of their value.
    pub wrong_tokens: u64,
    /// How many values are in plain.
    pub plain: u64,
    /// How many are sealed under a key version that opens, and do not open.
    pub damaged: u64,
    /// How many were sealed for another field or collection, by its id.
    pub foreign: BTreeMap<FieldId, u64>,
    /// How many are of a type that may not be written, sealed or in plain.
    pub wrong_types: BTreeMap<u8, u64>,
}

impl Census {
    /// Nothing counted so far, for a collection that `rule` is for.
    pub fn new(rule: &CollectionRule, collection: Arc<Collection>) -> Self {
        let fields = rule.fields.iter().enumerate();
        Self {
            documents: 0,
            fields: fields
                .map(|(leaf, field)| FieldCensus::new(collection.field(leaf), &field.key))
                .collect(),
            collection,
            opened: Vec::new(),
        }
    }

    /// Counts what stands in one document.
    pub fn document(&mut self, policy: &Policy, doc: Doc<'_>) -> Result<(), Malformed> {
        let Self {
            documents,
            fields,
            collection,
            opened,
        } = self;
        *documents += 1;
        walk::sites(collection, doc, |site| {
            let counted = fields
                .iter_mut()
                .find(|counted| Arc::ptr_eq(&counted.field, site.field));
            match counted {
                Some(counted) => site.values(|value| {
                    counted.value(policy, &value, opened);
                    opened.zeroize();
                    Ok(())
                }),
                None => Ok(()),
            }
        })
    }
}

impl FieldCensus {
    fn new(field: &Arc<Field>, key: &str) -> Self {
        Self {
            field: Arc::clone(field),
            key: key.to_owned(),
            sealed: BTreeMap::new(),
            tokens: BTreeMap::new(),
            wrong_tokens: 0,
            plain: 0,
            damaged: 0,
            foreign: BTreeMap::new(),
            wrong_types: BTreeMap::new(),
        }
    }

    /// How many values are sealed for the field, readable or not.
    pub fn values(&self) -> u64 {
        self.sealed.values().sum()
    }

    fn value(&mut self, policy: &Policy, value: &Value<'_>, opened: &mut Vec<u8>) {
        match &value.stored {
            Stored::Null => {}
            Stored::Sealed(sealed) if sealed.header.field == self.field.id => {
                self.sealed_value(policy, sealed, opened);
            }
            Stored::Sealed(sealed) => *self.foreign.entry(sealed.header.field).or_default() += 1,
            Stored::Plain if is_rest(value) => self.damaged += 1,
            Stored::Plain => {
                self.plain += 1;
                self.of_type(value.element.kind);
            }
        }
    }

    fn sealed_value(&mut self, policy: &Policy, sealed: &Sealed<'_>, opened: &mut Vec<u8>) {
        *self.sealed.entry(sealed.header.key).or_default() += 1;
        for name in sealed.tokens() {
            let epoch = name
                .strip_prefix('e')
                .and_then(|number| number.parse().ok());
            if let Some(epoch) = epoch {
                *self.tokens.entry(epoch).or_default() += 1;
            }
        }
        match policy.open(sealed.header, sealed.payload, Some(&self.field), opened) {
            Ok(()) => {
                if let Some((kind, value)) = opened.split_first() {
                    self.of_type(*kind);
                    self.wrong_tokens += u64::from(self.has_wrong_token(sealed, *kind, value));
                }
            }
            Err(Unopened::Value(_)) => self.damaged += 1,
            // Told by the state of the key version.
            Err(_) => {}
        }
    }

    fn of_type(&mut self, kind: u8) {
        if !self.field.types.allows(kind) {
            *self.wrong_types.entry(kind).or_default() += 1;
        }
    }

    /// Whether there is a token that queries use, of another value or another key.
    fn has_wrong_token(&self, sealed: &Sealed<'_>, kind: u8, value: &[u8]) -> bool {
        let stored = self.field.equality.as_ref().and_then(|equality| {
            let token = sealed.document?.find(&equality.name).ok()??;
            Some((equality, token.binary()?.1))
        });
        stored.is_some_and(|(equality, token)| {
            let right = equality.key.equality(kind, value);
            right.is_none_or(|right| right != *token)
        })
    }
}

/// Whether a value is what is left of a sealed one: too short to say what it was.
fn is_rest(value: &Value<'_>) -> bool {
    value
        .element
        .binary()
        .is_some_and(|(subtype, payload)| subtype == SUBTYPE && payload.starts_with(&MAGIC))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::spec::BinarySubtype;
    use bson::{Binary, Bson, Document, doc};

    use super::*;
    use crate::policy::fixture;
    use crate::raw::kind;
    use crate::schema::{OnPlaintext, Tree, Types};

    fn rule() -> CollectionRule {
        let string = Types::named("string").unwrap();
        let fields = vec![
            fixture::field("ssn", string, true),
            fixture::field("payment.card", string, true),
            fixture::field("tags", string, true),
            fixture::field("age", Types::named("number").unwrap(), true),
        ];
        CollectionRule {
            pattern: "shop.customers".to_owned(),
            identity: None,
            on_plaintext: OnPlaintext::Reject,
            tree: Tree::build(fields.iter().map(|field| field.path.as_str())).unwrap(),
            fields,
        }
    }

    fn binary(subtype: BinarySubtype, bytes: Vec<u8>) -> Bson {
        Bson::Binary(Binary { subtype, bytes })
    }

    /// A string sealed for the field `leaf`, as it is stored.
    fn sealed(leaf: usize, text: &str) -> Document {
        let collection = fixture::policy().collection("shop.customers").unwrap();
        let field = collection.field(leaf);
        let encoded = bson::serialize_to_vec(&doc! {"v": text}).unwrap();
        let element = Doc::whole(&encoded).unwrap().first().unwrap().unwrap();
        let mut bytes = Vec::new();
        field.seal(kind::STRING, element.value(), &mut bytes);
        let equality = field.equality.as_ref().unwrap();
        let token = equality
            .key
            .equality(kind::STRING, element.value())
            .unwrap();
        doc! {
            "c": binary(BinarySubtype::UserDefined(SUBTYPE), bytes),
            &equality.name: binary(BinarySubtype::Generic, token.to_vec()),
        }
    }

    fn census(documents: &[Document]) -> Census {
        let policy = fixture::policy();
        let collection = policy.collection("shop.customers").unwrap();
        let mut census = Census::new(&rule(), collection);
        for document in documents {
            let bytes = bson::serialize_to_vec(document).unwrap();
            census
                .document(&policy, Doc::whole(&bytes).unwrap())
                .unwrap();
        }
        census
    }

    #[test]
    fn values_are_counted_by_key_version_and_epoch_and_null_is_none() {
        let documents = [
            doc! {"ssn": sealed(0, "a"), "tags": [sealed(2, "x"), sealed(2, "y"), null]},
            doc! {"ssn": null, "payment": {"card": sealed(1, "c")}},
            doc! {"ssn": "plain", "tags": ["plain", "too"]},
        ];
        let census = census(&documents);
        let [ssn, card, tags, age] = &census.fields[..] else {
            panic!("four fields")
        };
        assert_eq!(census.documents, 3);
        let two = KeyId(2);
        assert_eq!((ssn.sealed[&two], ssn.plain, ssn.tokens[&1]), (1, 1, 1));
        assert_eq!((card.sealed[&two], card.plain), (1, 0));
        assert_eq!((tags.sealed[&two], tags.plain, tags.tokens[&1]), (2, 2, 2));
        assert_eq!((age.values(), age.plain), (0, 0));
        assert!(ssn.wrong_types.is_empty() && ssn.foreign.is_empty());
        assert_eq!((ssn.damaged, ssn.wrong_tokens), (0, 0));
    }

    #[test]
    fn values_of_another_field_and_another_type_are_told_apart() {
        let documents = [doc! {
            "ssn": sealed(1, "a"), "age": sealed(3, "a string"), "tags": [5],
        }];
        let census = census(&documents);
        let card = &census.fields[1].field.id;
        assert_eq!(census.fields[0].foreign[card], 1);
        assert_eq!(census.fields[0].values(), 0);
        assert_eq!(census.fields[3].wrong_types[&kind::STRING], 1);
        assert_eq!(census.fields[2].wrong_types[&kind::INT32], 1);
    }

    #[test]
    fn what_does_not_open_is_damaged() {
        let mut changed = sealed(0, "a");
        let Some(Bson::Binary(value)) = changed.get_mut("c") else {
            panic!("a binary")
        };
        *value.bytes.last_mut().unwrap() ^= 1;
        let rest = binary(BinarySubtype::UserDefined(SUBTYPE), MAGIC.to_vec());
        let census = census(&[doc! {"ssn": changed}, doc! {"ssn": rest}]);
        let ssn = &census.fields[0];
        assert_eq!((ssn.damaged, ssn.plain, ssn.values()), (2, 0, 1));
    }

    #[test]
    fn a_token_of_another_value_is_wrong() {
        let mut one = sealed(0, "a");
        let other = sealed(0, "b");
        one.insert("e1", other.get("e1").unwrap());
        let census = census(&[doc! {"ssn": one}, doc! {"ssn": other}]);
        assert_eq!(census.fields[0].wrong_tokens, 1);
    }
}
