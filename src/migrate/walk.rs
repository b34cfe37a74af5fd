//! Every place of a sealed field in a stored document, and what stands there.
//!
//! It goes the way that sealing and opening go: by the field tree, through arrays.

use std::sync::Arc;

use crate::policy::{Collection, Field};
use crate::raw::{Doc, Element, Malformed, kind};
use crate::reveal::sealed;
use crate::schema::{NodeId, Step, Tree};
use crate::seal::Header;

/// Deeper than MongoDB stores.
const DEEPEST: usize = 256;

/// One step of the way to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component<'d> {
    /// The name of a field.
    Name(&'d str),
    /// A position in an array.
    Position(usize),
}

/// One place in a document where a sealed field stands.
#[derive(Debug)]
pub struct Site<'s, 'd> {
    /// What the schema says of it.
    pub field: &'s Arc<Field>,
    /// The way to it from the top level; the last one is the field's own name.
    pub path: &'s [Component<'d>],
    /// What stands there.
    pub element: Element<'d>,
    /// Whether a document on the way has one of the names twice, so that a path leads
    /// to the first of them alone.
    pub twice: bool,
}

/// One value at a place; an array may hold several.
#[derive(Debug, Clone, Copy)]
pub struct Value<'d> {
    /// The value itself, or the item of the array.
    pub element: Element<'d>,
    /// In which form it is.
    pub stored: Stored<'d>,
}

/// In which form a value is stored.
#[derive(Debug, Clone, Copy)]
pub enum Stored<'d> {
    /// Null, or the deprecated undefined: never sealed.
    Null,
    /// Sealed.
    Sealed(Sealed<'d>),
    /// In plain.
    Plain,
}

/// A sealed value.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'d> {
    /// What it says of itself.
    pub header: Header,
    /// The payload of its Binary, header included.
    pub payload: &'d [u8],
    /// The sealed document, if it has tokens: `{c: …, e1: …}`.
    pub document: Option<Doc<'d>>,
}

impl<'d> Sealed<'d> {
    /// The names of the tokens beside it: `e1`, `e2`…
    pub fn tokens(&self) -> impl Iterator<Item = &'d str> {
        let elements = self.document.into_iter().flat_map(|doc| doc.elements());
        elements
            .filter_map(Result::ok)
            .map(|element| element.key)
            .filter(|name| *name != "c")
    }
}

impl<'d> Site<'_, 'd> {
    /// The path as MongoDB reads it, `visits.0.note`; none if no path leads there.
    pub fn dotted(&self) -> Option<String> {
        let mut dotted = String::new();
        for (index, component) in self.path.iter().enumerate() {
            if index > 0 {
                dotted.push('.');
            }
            match component {
                Component::Name(name) => {
                    if name.is_empty() || name.starts_with('$') || name.contains('.') {
                        return None;
                    }
                    dotted.push_str(name);
                }
                Component::Position(position) => dotted.push_str(&position.to_string()),
            }
        }
        (!self.twice).then_some(dotted)
    }

    /// Shows each value at the place to `see`, in the order in which they lie.
    pub fn values<E: From<Malformed>>(
        &self,
        mut see: impl FnMut(Value<'d>) -> Result<(), E>,
    ) -> Result<(), E> {
        values(self.field, self.element, 0, &mut see)
    }
}

/// Shows each place of a sealed field in `doc` to `see`, in the order in which they lie.
pub fn sites<'d, E: From<Malformed>>(
    collection: &Collection,
    doc: Doc<'d>,
    mut see: impl FnMut(&Site<'_, 'd>) -> Result<(), E>,
) -> Result<(), E> {
    let mut walk = Walk {
        collection,
        path: Vec::new(),
        twice: false,
        see: &mut see,
    };
    walk.document(doc, Tree::ROOT, 0)
}

/// The sealed field that a field name with a dot in it reads as, if `doc` has such a name.
/// No path of MongoDB leads to what stands there, and the proxy takes none.
pub fn misnamed<'c>(
    collection: &'c Collection,
    doc: Doc<'_>,
) -> Result<Option<&'c Arc<Field>>, Malformed> {
    misnamed_from(collection, doc, Tree::ROOT, false, 0)
}

fn misnamed_from<'c>(
    collection: &'c Collection,
    doc: Doc<'_>,
    node: NodeId,
    items: bool,
    depth: usize,
) -> Result<Option<&'c Arc<Field>>, Malformed> {
    deep(depth)?;
    for element in doc.elements() {
        let element = element?;
        let step = match items {
            // An item of an array is where the array is.
            true => Step::Inner(node),
            false => collection.tree.element(node, element.key),
        };
        // `*` stands for a name with a dot in it too.
        let dotted = !items && !matches!(step, Step::Sealed(_)) && element.key.contains('.');
        if dotted && let Some(field) = read_as_path(collection, node, element.key) {
            return Ok(Some(field));
        }
        let found = match (step, element.kind) {
            (Step::Inner(next), kind::DOCUMENT | kind::ARRAY) => {
                let items = element.kind == kind::ARRAY;
                misnamed_from(collection, element.doc()?, next, items, depth + 1)?
            }
            _ => None,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn read_as_path<'c>(
    collection: &'c Collection,
    node: NodeId,
    name: &str,
) -> Option<&'c Arc<Field>> {
    let mut at = node;
    for component in name.split('.') {
        match collection.tree.element(at, component) {
            Step::Inner(next) => at = next,
            Step::Sealed(leaf) => return Some(collection.field(leaf)),
            _ => return None,
        }
    }
    None
}

/// A pass over one document.
struct Walk<'w, 'd, F> {
    collection: &'w Collection,
    path: Vec<Component<'d>>,
    twice: bool,
    see: &'w mut F,
}

impl<'d, E, F> Walk<'_, 'd, F>
where
    E: From<Malformed>,
    F: FnMut(&Site<'_, 'd>) -> Result<(), E>,
{
    fn document(&mut self, doc: Doc<'d>, node: NodeId, depth: usize) -> Result<(), E> {
        deep(depth)?;
        let twice = self.twice;
        for element in doc.elements() {
            let element = element?;
            let step = self.collection.tree.element(node, element.key);
            if !matches!(step, Step::Sealed(_) | Step::Inner(_)) {
                continue;
            }
            self.twice = twice || doc.find_once(element.key).is_err();
            self.path.push(Component::Name(element.key));
            match step {
                Step::Sealed(leaf) => (self.see)(&Site {
                    field: self.collection.field(leaf),
                    path: &self.path,
                    element,
                    twice: self.twice,
                })?,
                Step::Inner(next) => self.below(element, next, depth)?,
                Step::Open | Step::Ambiguous | Step::Mixed => {}
            }
            self.path.pop();
        }
        self.twice = twice;
        Ok(())
    }

    fn below(&mut self, element: Element<'d>, node: NodeId, depth: usize) -> Result<(), E> {
        match element.kind {
            kind::DOCUMENT => self.document(element.doc()?, node, depth + 1),
            kind::ARRAY => self.array(element.doc()?, node, depth + 1),
            _ => Ok(()),
        }
    }

    fn array(&mut self, array: Doc<'d>, node: NodeId, depth: usize) -> Result<(), E> {
        deep(depth)?;
        for (position, item) in array.elements().enumerate() {
            self.path.push(Component::Position(position));
            self.below(item?, node, depth)?;
            self.path.pop();
        }
        Ok(())
    }
}

fn values<'d, E: From<Malformed>>(
    field: &Field,
    element: Element<'d>,
    depth: usize,
    see: &mut impl FnMut(Value<'d>) -> Result<(), E>,
) -> Result<(), E> {
    deep(depth)?;
    let stored = stored(&element)?;
    // An array is opened item by item wherever an item is sealed, and sealed so
    // where the schema says `elements`.
    if matches!(stored, Stored::Plain) && element.kind == kind::ARRAY {
        let by_item = field.elements && depth == 0;
        if by_item || holds_sealed(element.doc()?, depth)? {
            for item in element.doc()?.elements() {
                values(field, item?, depth + 1, see)?;
            }
            return Ok(());
        }
    }
    see(Value { element, stored })
}

/// In which form a value is, taken by itself.
pub fn stored<'d>(element: &Element<'d>) -> Result<Stored<'d>, Malformed> {
    if element.is_null() {
        return Ok(Stored::Null);
    }
    let Some(found) = sealed(element)? else {
        return Ok(Stored::Plain);
    };
    let document = match element.kind {
        kind::DOCUMENT => Some(element.doc()?),
        _ => None,
    };
    Ok(Stored::Sealed(Sealed {
        header: found.header,
        payload: found.payload,
        document,
    }))
}

fn holds_sealed(array: Doc<'_>, depth: usize) -> Result<bool, Malformed> {
    deep(depth)?;
    for item in array.elements() {
        let item = item?;
        let found = match item.kind {
            kind::ARRAY => holds_sealed(item.doc()?, depth + 1)?,
            _ => sealed(&item)?.is_some(),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn deep(depth: usize) -> Result<(), Malformed> {
    if depth > DEEPEST {
        return Err(Malformed("documents are nested too deep"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::spec::BinarySubtype;
    use bson::{Binary, Bson, Document, doc};

    use super::*;
    use crate::policy::fixture;

    /// A value as it lies in a collection, sealed for a field of `shop.customers`.
    fn sealed(path: &str) -> Bson {
        let policy = fixture::policy();
        let collection = policy.collection("shop.customers").unwrap();
        let field = (0..8)
            .map(|leaf| collection.field(leaf))
            .find(|field| field.path == path)
            .unwrap();
        let mut bytes = Vec::new();
        field.seal(kind::BOOL, &[1], &mut bytes);
        Bson::Binary(Binary {
            subtype: BinarySubtype::UserDefined(crate::seal::SUBTYPE),
            bytes,
        })
    }

    fn token() -> Binary {
        Binary {
            subtype: BinarySubtype::Generic,
            bytes: vec![7; 16],
        }
    }

    /// Each value that is seen: the path that leads to its place, and its form.
    fn seen(bytes: &[u8]) -> Vec<(String, String)> {
        let policy = fixture::policy();
        let collection = policy.collection("shop.customers").unwrap();
        let mut seen = Vec::new();
        sites::<Malformed>(&collection, Doc::whole(bytes).unwrap(), |site| {
            let path = site.dotted().unwrap_or_else(|| "no path".to_owned());
            site.values::<Malformed>(|value| {
                let form = match value.stored {
                    Stored::Null => "null".to_owned(),
                    Stored::Plain => format!("plain {:#04x}", value.element.kind),
                    Stored::Sealed(sealed) => {
                        let tokens: Vec<_> = sealed.tokens().collect();
                        format!("sealed {}", tokens.join(" ")).trim().to_owned()
                    }
                };
                seen.push((path.clone(), form));
                Ok(())
            })
        })
        .unwrap();
        seen
    }

    fn seen_in(document: &Document) -> Vec<(String, String)> {
        seen(&bson::serialize_to_vec(document).unwrap())
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(path, form)| ((*path).to_owned(), (*form).to_owned()))
            .collect()
    }

    #[test]
    fn every_value_of_a_sealed_field_is_seen_with_the_path_that_leads_to_it() {
        let document = doc! {
            "_id": 1,
            "name": "open",
            "ssn": { "c": sealed("ssn"), "e1": token(), "e12": token() },
            "payment": { "card": "plain", "kind": "open" },
            "age": null,
            "address": { "street": "plain" },
            "visits": [{ "note": "a" }, 5, { "other": 1 }, { "note": sealed("visits.note") }],
            "contacts": { "home": { "phone": "1" }, "0": { "phone": null } },
        };
        assert_eq!(
            seen_in(&document),
            pairs(&[
                ("ssn", "sealed e1 e12"),
                ("payment.card", "plain 0x02"),
                ("age", "null"),
                ("address", "plain 0x03"),
                ("visits.0.note", "plain 0x02"),
                ("visits.3.note", "sealed"),
                ("contacts.home.phone", "plain 0x02"),
                ("contacts.0.phone", "null"),
            ])
        );
    }

    #[test]
    fn an_array_is_seen_by_its_items_where_it_is_sealed_so_and_whole_elsewhere() {
        let tag = doc! { "c": sealed("tags"), "e1": token() };
        let document = doc! {
            "tags": ["plain", tag, null, ["nested"]],
            "notes": [],
            "address": ["one", "value"],
            "payment": [{ "card": "in an array" }],
        };
        assert_eq!(
            seen_in(&document),
            pairs(&[
                ("tags", "plain 0x02"),
                ("tags", "sealed e1"),
                ("tags", "null"),
                ("tags", "plain 0x04"),
                ("address", "plain 0x04"),
                ("payment.0.card", "plain 0x02"),
            ])
        );
        // As a schema that said `elements` once has left it.
        assert_eq!(
            seen_in(&doc! { "address": [sealed("address"), [1, sealed("address")]] }),
            pairs(&[
                ("address", "sealed"),
                ("address", "plain 0x10"),
                ("address", "sealed"),
            ])
        );
    }

    #[test]
    fn a_name_that_no_path_can_hold_is_seen_without_one() {
        for name in ["", "a.b", "$a"] {
            let mut names = Document::new();
            names.insert(name, doc! { "phone": "1" });
            assert_eq!(
                seen_in(&doc! { "contacts": names }),
                pairs(&[("no path", "plain 0x02")]),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_seen_twice_without_a_path() {
        let mut bytes = bson::serialize_to_vec(&doc! { "ssn": 1, "ssm": 2, "age": 3 }).unwrap();
        let m = bytes.iter().position(|byte| *byte == b'm').unwrap();
        bytes[m] = b'n';
        assert_eq!(
            seen(&bytes),
            pairs(&[
                ("no path", "plain 0x10"),
                ("no path", "plain 0x10"),
                ("age", "plain 0x10"),
            ])
        );
    }

    #[test]
    fn a_name_that_reads_as_the_path_of_a_sealed_field_is_noticed() {
        let policy = fixture::policy();
        let collection = policy.collection("shop.customers").unwrap();
        let misnamed = |document: Document| {
            let bytes = bson::serialize_to_vec(&document).unwrap();
            let field = misnamed(&collection, Doc::whole(&bytes).unwrap()).unwrap();
            field.map(|field| field.path.clone())
        };
        for (document, path) in [
            (doc! { "payment.card": 1 }, "payment.card"),
            (doc! { "a": 1, "payment.card.x": 1 }, "payment.card"),
            (
                doc! { "contacts": { "home": [[{ "x": 1 }]], "work.phone": 1 } },
                "contacts.*.phone",
            ),
            (doc! { "visits": [1, { "0.note": 1 }] }, "visits.note"),
        ] {
            assert_eq!(misnamed(document).as_deref(), Some(path));
        }
        for document in [
            doc! { "payment.kind": 1, "a.ssn": 1, "payment": { "card": 1, "a.card": 1 } },
            doc! { "contacts": [{ "home": { "phone": 1 } }], "address": { "a.b": 1 } },
        ] {
            assert_eq!(misnamed(document), None);
        }
    }

    #[test]
    fn a_document_that_is_cut_off_or_has_a_byte_changed_does_no_harm() {
        let policy = fixture::policy();
        let collection = policy.collection("shop.customers").unwrap();
        let document = doc! {
            "ssn": { "c": sealed("ssn"), "e1": token() },
            "tags": [{ "c": sealed("tags"), "e1": token() }, "a"],
            "visits": [{ "note": "a" }],
        };
        let bytes = bson::serialize_to_vec(&document).unwrap();
        for at in 0..bytes.len() {
            for byte in [0, 1, 3, 4, 5, 0x7F, 0xFF] {
                let mut changed = bytes.clone();
                changed[at] = byte;
                let Ok(doc) = Doc::whole(&changed) else {
                    continue;
                };
                // Whatever it says, it says, and stays within the buffer.
                let _ = sites::<Malformed>(&collection, doc, |site| site.values(|_| Ok(())));
            }
        }
    }
}
