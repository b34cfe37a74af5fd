//! Counts sealed values by where they are and what they are sealed under.

use std::collections::{BTreeMap, HashMap};

use crate::keyring::KeyId;
use crate::raw::{Doc, Element, Malformed, kind};
use crate::seal::{FieldId, Header, MAGIC, SUBTYPE, TAG};

/// Deeper than MongoDB stores.
const DEEPEST: usize = 256;

/// Under how many paths a field is shown before `*` takes the place of what differs.
const PATHS: usize = 8;

/// A path longer than this is shown cut.
const LONGEST_PATH: usize = 1024;

/// More (place, key version) pairs than a schema and a key file can make.
const PAIRS: usize = 200_000;

/// What the documents that were read need.
#[derive(Debug, Default)]
pub struct Needs {
    /// How many documents were read.
    pub documents: u64,
    /// How many bytes these had, unpacked.
    pub bytes: u64,
    namespaces: Vec<String>,
    indexes: HashMap<String, Namespace>,
    places: HashMap<(Namespace, Option<FieldId>), Vec<Place>>,
    pairs: usize,
}

/// One of the collections that were met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Namespace(usize);

/// What stands at one path of a collection, sealed for one field.
#[derive(Debug)]
pub struct Place {
    /// With dots, without the positions of arrays.
    pub path: String,
    /// What the values were sealed for; none for those of which not even that is left.
    pub field: Option<FieldId>,
    /// By the version that sealed them.
    pub needs: BTreeMap<KeyId, Need>,
    /// How many values are too short to be opened.
    pub cut_off: u64,
}

/// The values at one place under one key version.
#[derive(Debug, Default)]
pub struct Need {
    /// How many.
    pub values: u64,
    /// How many of them have a token of each index epoch.
    pub tokens: BTreeMap<u32, u64>,
}

/// A sealed value, or a sealed document.
struct Sealed<'e> {
    /// None if it is too short to have one.
    header: Option<Header>,
    /// Too short to be opened.
    cut_off: bool,
    tokens: Option<Doc<'e>>,
}

impl Needs {
    pub(crate) fn namespace(&mut self, name: &str) -> Namespace {
        if let Some(known) = self.indexes.get(name) {
            return *known;
        }
        let namespace = Namespace(self.namespaces.len());
        self.namespaces.push(name.to_owned());
        self.indexes.insert(name.to_owned(), namespace);
        namespace
    }

    /// Where sealed values were found, sorted by namespace and path.
    pub fn places(&self) -> Vec<(&str, &Place)> {
        let mut places: Vec<(&str, &Place)> = self
            .places
            .iter()
            .flat_map(|((namespace, _), places)| {
                let name = self.namespaces.get(namespace.0).map_or("", String::as_str);
                places.iter().map(move |place| (name, place))
            })
            .collect();
        places.sort_by_key(|(name, place)| (*name, &place.path, place.field));
        places
    }

    /// How many collections were met.
    pub fn collections(&self) -> usize {
        self.namespaces.len()
    }

    /// Counts the sealed values of a document.
    pub(crate) fn document(&mut self, namespace: Namespace, doc: Doc<'_>) -> Result<(), Malformed> {
        self.documents += 1;
        self.bytes += u64::try_from(doc.bytes().len()).unwrap_or_default();
        self.below(namespace, doc, false, &mut String::new(), 0)
    }

    fn below(
        &mut self,
        namespace: Namespace,
        doc: Doc<'_>,
        array: bool,
        path: &mut String,
        depth: usize,
    ) -> Result<(), Malformed> {
        if depth > DEEPEST {
            return Err(Malformed("documents are nested too deep"));
        }
        for element in doc.elements() {
            let element = element?;
            let length = path.len();
            if !array && length < LONGEST_PATH {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(element.key);
            }
            self.element(namespace, &element, path, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn element(
        &mut self,
        namespace: Namespace,
        element: &Element<'_>,
        path: &mut String,
        depth: usize,
    ) -> Result<(), Malformed> {
        if let Some(sealed) = sealed(element)? {
            return self.count(namespace, path, &sealed);
        }
        match element.kind {
            kind::DOCUMENT | kind::ARRAY => {
                let array = element.kind == kind::ARRAY;
                self.below(namespace, element.doc()?, array, path, depth + 1)
            }
            _ => Ok(()),
        }
    }

    fn count(
        &mut self,
        namespace: Namespace,
        path: &str,
        sealed: &Sealed<'_>,
    ) -> Result<(), Malformed> {
        if self.pairs > PAIRS {
            return Err(Malformed("too many fields or key versions are named"));
        }
        let field = sealed.header.map(|header| header.field);
        let places = self.places.entry((namespace, field)).or_default();
        let before = places.len();
        let index = place(places, &shown(path), field);
        self.pairs += places.len().saturating_sub(before);
        let place = &mut places[index];
        let versions = place.needs.len();
        let known = sealed.header.filter(|_| !sealed.cut_off);
        match known {
            None => place.cut_off += 1,
            Some(header) => {
                let need = place.needs.entry(header.key).or_default();
                need.values += 1;
                for token in sealed.tokens.iter().flat_map(Doc::elements) {
                    if let Some(epoch) = epoch(&token?) {
                        *need.tokens.entry(epoch).or_default() += 1;
                    }
                }
            }
        }
        self.pairs += place.needs.len() - versions;
        Ok(())
    }
}

/// A path as it is shown: of bounded length.
fn shown(path: &str) -> String {
    if path.len() <= LONGEST_PATH {
        return path.to_owned();
    }
    let mut end = LONGEST_PATH;
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", path.get(..end).unwrap_or_default())
}

/// Which of the places of one field a path belongs to.
///
/// A field below `*` is found under as many paths as there are names: from some number on,
/// what differs is shown as `*`.
fn place(places: &mut Vec<Place>, path: &str, field: Option<FieldId>) -> usize {
    let found = places
        .iter()
        .position(|place| place.path == path || covers(&place.path, path));
    match found {
        Some(index) => index,
        None if places.len() < PATHS => add(places, path, field),
        None => match places.iter().position(|place| alike(&place.path, path)) {
            Some(index) => merge(places, index, path),
            None => add_last(places, field),
        },
    }
}

fn add(places: &mut Vec<Place>, path: &str, field: Option<FieldId>) -> usize {
    places.push(Place {
        path: path.to_owned(),
        field,
        needs: BTreeMap::new(),
        cut_off: 0,
    });
    places.len() - 1
}

/// The place of all that is like none of the others.
fn add_last(places: &mut Vec<Place>, field: Option<FieldId>) -> usize {
    const OTHERS: &str = "(other paths)";
    match places.iter().position(|place| place.path == OTHERS) {
        Some(index) => index,
        None => add(places, OTHERS, field),
    }
}

/// Whether two paths have as many names.
fn alike(one: &str, other: &str) -> bool {
    one.split('.').count() == other.split('.').count()
}

/// Whether a path with `*` stands for another.
fn covers(pattern: &str, path: &str) -> bool {
    let mut pairs = pattern.split('.').zip(path.split('.'));
    alike(pattern, path) && pairs.all(|(one, other)| one == "*" || one == other)
}

/// Makes the path at `index` one that stands for `path` too, and takes in what it then covers.
fn merge(places: &mut Vec<Place>, index: usize, path: &str) -> usize {
    let names = places[index].path.split('.').zip(path.split('.'));
    let pattern = names
        .map(|(one, other)| if one == other { one } else { "*" })
        .collect::<Vec<_>>()
        .join(".");
    let (covered, mut kept): (Vec<_>, Vec<_>) = std::mem::take(places)
        .into_iter()
        .partition(|place| covers(&pattern, &place.path));
    let mut merged = Place {
        path: pattern,
        field: covered.first().and_then(|place| place.field),
        needs: BTreeMap::new(),
        cut_off: 0,
    };
    for place in covered {
        merged.cut_off += place.cut_off;
        for (key, need) in place.needs {
            let sum = merged.needs.entry(key).or_default();
            sum.values += need.values;
            for (epoch, tokens) in need.tokens {
                *sum.tokens.entry(epoch).or_default() += tokens;
            }
        }
    }
    kept.push(merged);
    *places = kept;
    places.len() - 1
}

/// The sealed value or sealed document that an element is.
fn sealed<'e>(element: &Element<'e>) -> Result<Option<Sealed<'e>>, Malformed> {
    if element.kind != kind::DOCUMENT {
        return Ok(value(element));
    }
    let doc = element.doc()?;
    let mut elements = doc.elements();
    let Some(first) = elements
        .next()
        .transpose()?
        .filter(|first| first.key == "c")
    else {
        return Ok(None);
    };
    let Some(sealed) = value(&first) else {
        return Ok(None);
    };
    let mut tokens = 0;
    for element in elements {
        if epoch(&element?).is_none() {
            return Ok(None);
        }
        tokens += 1;
    }
    Ok((tokens > 0).then_some(Sealed {
        tokens: Some(doc),
        ..sealed
    }))
}

fn value<'e>(element: &Element<'e>) -> Option<Sealed<'e>> {
    let (subtype, payload) = element.binary()?;
    if subtype != SUBTYPE || !payload.starts_with(&MAGIC) {
        return None;
    }
    let header = Header::read(payload);
    Some(Sealed {
        header,
        cut_off: header.is_none_or(|header| payload.len() <= around(header.suite)),
        tokens: None,
    })
}

/// How many bytes a value of a suite has around its ciphertext.
fn around(suite: u8) -> usize {
    const NAMES: usize = 16;
    let nonce = match suite {
        1 => 12,
        2 => 24,
        // Of a later version, which knows better.
        _ => 0,
    };
    NAMES + nonce + TAG
}

/// The epoch of the equality token that an element of a sealed document is.
fn epoch(element: &Element<'_>) -> Option<u32> {
    let digits = element.key.strip_prefix('e')?;
    let (subtype, token) = element.binary()?;
    let right = subtype == 0 && token.len() == 16;
    let number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| right && number)
}
