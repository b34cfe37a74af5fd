//! A bounded cursor over BSON. Offsets are absolute in the buffer it was made on.

use bstr::ByteSlice as _;

/// BSON that does not hold together, or is nested deeper than MongoDB allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed BSON: {0}")]
pub struct Malformed(pub &'static str);

/// BSON element types (bsonspec.org, version 1.1).
#[allow(missing_docs, reason = "the names are those of the specification")]
pub mod kind {
    pub const DOUBLE: u8 = 0x01;
    pub const STRING: u8 = 0x02;
    pub const DOCUMENT: u8 = 0x03;
    pub const ARRAY: u8 = 0x04;
    pub const BINARY: u8 = 0x05;
    pub const UNDEFINED: u8 = 0x06;
    pub const OBJECT_ID: u8 = 0x07;
    pub const BOOL: u8 = 0x08;
    pub const DATE: u8 = 0x09;
    pub const NULL: u8 = 0x0A;
    pub const REGEX: u8 = 0x0B;
    pub const DB_POINTER: u8 = 0x0C;
    pub const JAVASCRIPT: u8 = 0x0D;
    pub const SYMBOL: u8 = 0x0E;
    pub const JAVASCRIPT_WITH_SCOPE: u8 = 0x0F;
    pub const INT32: u8 = 0x10;
    pub const TIMESTAMP: u8 = 0x11;
    pub const INT64: u8 = 0x12;
    pub const DECIMAL128: u8 = 0x13;
    pub const MIN_KEY: u8 = 0xFF;
    pub const MAX_KEY: u8 = 0x7F;
}

/// A document or array that lies in a larger buffer.
#[derive(Debug, Clone, Copy)]
pub struct Doc<'a> {
    buffer: &'a [u8],
    start: usize,
    end: usize,
}

/// One element of a document, with where it lies.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    buffer: &'a [u8],
    /// The BSON type.
    pub kind: u8,
    /// The field name, or the index in an array.
    pub key: &'a str,
    /// Where the element begins: its type byte.
    pub start: usize,
    /// Where its value begins.
    pub value_start: usize,
    /// Where its value ends, and the next element begins.
    pub end: usize,
}

fn length_at(buffer: &[u8], at: usize, end: usize) -> Result<usize, Malformed> {
    let bytes = buffer
        .get(..end)
        .and_then(|bounded| bounded.get(at..)?.first_chunk::<4>())
        .ok_or(Malformed("a length is cut off"))?;
    usize::try_from(i32::from_le_bytes(*bytes)).map_err(|_| Malformed("a length is negative"))
}

impl<'a> Doc<'a> {
    /// The document that begins at `start` and lies wholly before `limit`.
    pub fn at(buffer: &'a [u8], start: usize, limit: usize) -> Result<Self, Malformed> {
        let length = length_at(buffer, start, limit)?;
        let end = start
            .checked_add(length)
            .filter(|end| *end <= limit)
            .ok_or(Malformed("a document is longer than what holds it"))?;
        if length < 5 {
            return Err(Malformed("a document is shorter than five bytes"));
        }
        if buffer.get(end - 1) != Some(&0) {
            return Err(Malformed("a document does not end in zero"));
        }
        Ok(Self { buffer, start, end })
    }

    /// A buffer that is one document and nothing else.
    pub fn whole(buffer: &'a [u8]) -> Result<Self, Malformed> {
        let doc = Self::at(buffer, 0, buffer.len())?;
        if doc.end != buffer.len() {
            return Err(Malformed("bytes follow the document"));
        }
        Ok(doc)
    }

    /// The buffer that the document lies in.
    pub fn buffer(&self) -> &'a [u8] {
        self.buffer
    }

    /// Where the document begins, its length included.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Where the document ends.
    pub fn end(&self) -> usize {
        self.end
    }

    /// The document's bytes.
    pub fn bytes(&self) -> &'a [u8] {
        &self.buffer[self.start..self.end]
    }

    /// The elements, in order; ends after the first error.
    pub fn elements(&self) -> Elements<'a> {
        Elements {
            buffer: self.buffer,
            at: self.start + 4,
            end: self.end - 1,
        }
    }

    /// The first element, if there is one.
    pub fn first(&self) -> Result<Option<Element<'a>>, Malformed> {
        self.elements().next().transpose()
    }

    /// The first element named `key`.
    pub fn find(&self, key: &str) -> Result<Option<Element<'a>>, Malformed> {
        for element in self.elements() {
            let element = element?;
            if element.key == key {
                return Ok(Some(element));
            }
        }
        Ok(None)
    }

    /// The element named `key`; an error if there are two, for MongoDB could take either.
    pub fn find_once(&self, key: &str) -> Result<Option<Element<'a>>, Malformed> {
        let mut found = None;
        for element in self.elements() {
            let element = element?;
            if element.key == key && found.replace(element).is_some() {
                return Err(Malformed("a field is given twice"));
            }
        }
        Ok(found)
    }

    /// Checks that the document holds together at every level, no deeper than `deepest`.
    pub fn validate(&self, deepest: usize) -> Result<(), Malformed> {
        let below = deepest
            .checked_sub(1)
            .ok_or(Malformed("documents are nested too deep"))?;
        self.elements()
            .try_for_each(|element| element?.validate(below))
    }

    /// Whether the document has no element.
    pub fn is_empty(&self) -> bool {
        self.end - self.start == 5
    }
}

/// An iterator over a document's elements.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    buffer: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Elements<'a> {
    fn read(&mut self) -> Result<Element<'a>, Malformed> {
        let start = self.at;
        let rest = &self.buffer[start..self.end];
        let (&kind, rest) = rest
            .split_first()
            .ok_or(Malformed("an element is cut off"))?;
        let key_length = name_length(rest).ok_or(Malformed("a field name does not end"))?;
        // Sooner done for short names than `str::from_utf8`.
        let key = rest[..key_length]
            .to_str()
            .map_err(|_| Malformed("a field name is not UTF-8"))?;
        let value_start = start + 1 + key_length + 1;
        let length = value_length(self.buffer, kind, value_start, self.end)?;
        let end = value_start
            .checked_add(length)
            .filter(|end| *end <= self.end)
            .ok_or(Malformed("a value is longer than its document"))?;
        self.at = end;
        Ok(Element {
            buffer: self.buffer,
            kind,
            key,
            start,
            value_start,
            end,
        })
    }
}

/// How far it is to the zero that ends a name. Most names are too short for a search by
/// vectors to pay.
fn name_length(rest: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    if let Some(word) = rest.first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        // The lowest bit that is set is that of the first byte of zero.
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(zeros.trailing_zeros() as usize / 8);
        }
    }
    memchr::memchr(0, rest)
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let element = self.read();
        if element.is_err() {
            self.at = self.end;
        }
        Some(element)
    }
}

/// The length of a value of `kind` at `at`, which may not pass `end`.
fn value_length(buffer: &[u8], kind: u8, at: usize, end: usize) -> Result<usize, Malformed> {
    use kind::*;
    let string = |at: usize| -> Result<usize, Malformed> {
        let length = length_at(buffer, at, end)?;
        let last = at
            .checked_add(3)
            .and_then(|before| before.checked_add(length))
            .filter(|last| *last < end && length > 0)
            .ok_or(Malformed("a string is longer than its document"))?;
        if buffer[last] != 0 {
            return Err(Malformed("a string does not end in zero"));
        }
        Ok(4 + length)
    };
    let cstring = |at: usize| -> Result<usize, Malformed> {
        let rest = buffer.get(at..end).ok_or(Malformed("a value is cut off"))?;
        memchr::memchr(0, rest)
            .map(|length| length + 1)
            .ok_or(Malformed("a pattern does not end"))
    };
    Ok(match kind {
        DOUBLE | DATE | TIMESTAMP | INT64 => 8,
        STRING | JAVASCRIPT | SYMBOL => string(at)?,
        DOCUMENT | ARRAY => {
            let doc = Doc::at(buffer, at, end)?;
            doc.end - doc.start
        }
        BINARY => length_at(buffer, at, end)?
            .checked_add(5)
            .ok_or(Malformed("a binary value is too long"))?,
        UNDEFINED | NULL | MIN_KEY | MAX_KEY => 0,
        OBJECT_ID => 12,
        BOOL => 1,
        REGEX => {
            let pattern = cstring(at)?;
            pattern + cstring(at + pattern)?
        }
        DB_POINTER => string(at)? + 12,
        JAVASCRIPT_WITH_SCOPE => {
            let length = length_at(buffer, at, end)?;
            if length < 14 {
                return Err(Malformed("code with scope is too short"));
            }
            length
        }
        INT32 => 4,
        DECIMAL128 => 16,
        _ => return Err(Malformed("an unknown element type")),
    })
}

impl<'a> Element<'a> {
    /// The value's bytes.
    pub fn value(&self) -> &'a [u8] {
        &self.buffer[self.value_start..self.end]
    }

    /// The whole element: type, name, value.
    pub fn bytes(&self) -> &'a [u8] {
        &self.buffer[self.start..self.end]
    }

    /// The value as a document or array.
    pub fn doc(&self) -> Result<Doc<'a>, Malformed> {
        match self.kind {
            kind::DOCUMENT | kind::ARRAY => Doc::at(self.buffer, self.value_start, self.end),
            _ => Err(Malformed("a document was expected")),
        }
    }

    /// The value as a document that is no array. An array's names are its
    /// indexes: taken for a document, it would hide the names that it holds.
    pub fn object(&self) -> Result<Doc<'a>, Malformed> {
        match self.kind {
            kind::DOCUMENT => self.doc(),
            _ => Err(Malformed("a document that is no array was expected")),
        }
    }

    /// The value as an array.
    pub fn array(&self) -> Result<Doc<'a>, Malformed> {
        match self.kind {
            kind::ARRAY => self.doc(),
            _ => Err(Malformed("an array was expected")),
        }
    }

    /// The value as a string, if it is a valid one.
    pub fn str(&self) -> Option<&'a str> {
        if self.kind != kind::STRING {
            return None;
        }
        let value = self.value();
        std::str::from_utf8(value.get(4..value.len().checked_sub(1)?)?).ok()
    }

    /// Whether the value is null or the deprecated undefined, which queries treat alike.
    pub fn is_null(&self) -> bool {
        matches!(self.kind, kind::NULL | kind::UNDEFINED)
    }

    /// The subtype and bytes of a binary value.
    pub fn binary(&self) -> Option<(u8, &'a [u8])> {
        if self.kind != kind::BINARY {
            return None;
        }
        let value = self.value();
        Some((*value.get(4)?, value.get(5..)?))
    }

    /// Checks that the value holds together at every level, no deeper than `deepest`.
    pub fn validate(&self, deepest: usize) -> Result<(), Malformed> {
        match self.kind {
            kind::DOCUMENT | kind::ARRAY => self.doc()?.validate(deepest),
            kind::JAVASCRIPT_WITH_SCOPE => self.scope()?.validate(deepest),
            kind::STRING if self.str().is_none() => Err(Malformed("a string is not UTF-8")),
            kind::BOOL if !matches!(self.value(), [0 | 1]) => {
                Err(Malformed("a truth value is neither 0 nor 1"))
            }
            _ => Ok(()),
        }
    }

    /// The scope of JavaScript code with scope.
    pub fn scope(&self) -> Result<Doc<'a>, Malformed> {
        let code = length_at(self.buffer, self.value_start + 4, self.end)?;
        let scope = Doc::at(self.buffer, self.value_start + 8 + code, self.end)?;
        if scope.end != self.end {
            return Err(Malformed("bytes follow the scope of code"));
        }
        Ok(scope)
    }

    /// Truth as MongoDB sees it for command options: `true`, or a number other than zero.
    pub fn truthy(&self) -> bool {
        match self.kind {
            kind::BOOL | kind::INT32 | kind::INT64 => self.value().iter().any(|byte| *byte != 0),
            kind::DOUBLE => self
                .value()
                .first_chunk::<8>()
                .is_some_and(|bytes| f64::from_le_bytes(*bytes) != 0.0),
            kind::NULL | kind::UNDEFINED => false,
            _ => true,
        }
    }

    /// The value as an integer, if it is a whole number that fits.
    pub fn integer(&self) -> Option<i64> {
        let value = self.value();
        match self.kind {
            kind::INT32 => Some(i32::from_le_bytes(*value.first_chunk()?).into()),
            kind::INT64 => Some(i64::from_le_bytes(*value.first_chunk()?)),
            kind::DOUBLE => {
                let number = f64::from_le_bytes(*value.first_chunk()?);
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "checked to be whole and well inside the range of i64"
                )]
                let whole =
                    (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i64);
                whole
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Binary, Bson, JavaScriptCodeWithScope, Regex, doc, spec::BinarySubtype};

    use super::*;

    /// One element of every kind, and documents within documents.
    fn every_kind() -> Vec<u8> {
        let binary = Binary {
            subtype: BinarySubtype::Generic,
            bytes: vec![1, 2, 3],
        };
        let regex = Regex {
            pattern: "a.*".try_into().unwrap(),
            options: "i".try_into().unwrap(),
        };
        let scoped = JavaScriptCodeWithScope {
            code: "f".to_owned(),
            scope: doc! {"x": [1]},
        };
        let document = doc! {
            "double": 1.5, "string": "text", "document": {"a": {"b": [1, "2", {"c": null}]}}, "array": [],
            "binary": binary, "undefined": Bson::Undefined, "id": bson::oid::ObjectId::from_bytes([1; 12]),
            "bool": true, "date": bson::DateTime::from_millis(5), "null": null, "regex": regex,
            "code": Bson::JavaScriptCode("f".to_owned()), "symbol": Bson::Symbol("s".to_owned()), "scoped": scoped,
            "int": 5, "timestamp": bson::Timestamp { time: 1, increment: 2 }, "long": 7_i64,
            "decimal": "1.5".parse::<bson::Decimal128>().unwrap(), "min": Bson::MinKey, "max": Bson::MaxKey,
        };
        bson::serialize_to_vec(&document).unwrap()
    }

    fn element<'a>(bytes: &'a [u8], key: &str) -> Element<'a> {
        Doc::whole(bytes).unwrap().find(key).unwrap().unwrap()
    }

    #[test]
    fn elements_lie_back_to_back_and_fill_their_document() {
        let bytes = every_kind();
        let doc = Doc::whole(&bytes).unwrap();
        doc.validate(20).unwrap();
        let mut at = 4;
        for element in doc.elements() {
            let element = element.unwrap();
            assert_eq!(element.start, at);
            assert_eq!(bytes[element.start], element.kind);
            assert_eq!(element.value_start, at + 1 + element.key.len() + 1);
            assert_eq!(element.bytes(), &bytes[at..element.end]);
            at = element.end;
        }
        assert_eq!(at, bytes.len() - 1);
    }

    #[test]
    fn a_document_that_is_cut_off_or_has_a_byte_changed_does_no_harm() {
        let bytes = every_kind();
        for cut in 0..bytes.len() {
            assert!(Doc::whole(&bytes[..cut]).is_err());
        }
        for at in 0..bytes.len() {
            for byte in [0, 1, 3, 0x0F, 0x7F, 0x80, 0xFF] {
                let mut changed = bytes.clone();
                changed[at] = byte;
                // Whatever it says, it says, and stays within the buffer.
                if let Ok(doc) = Doc::whole(&changed) {
                    let _ = doc.validate(20);
                }
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let bytes = bson::serialize_to_vec(&doc! {"a": {"b": [1]}}).unwrap();
        let doc = Doc::whole(&bytes).unwrap();
        assert!(doc.validate(3).is_ok());
        assert!(doc.validate(2).is_err());
        assert!(doc.validate(0).is_err());
    }

    #[test]
    fn documents_and_arrays_are_told_apart() {
        let bytes = every_kind();
        assert!(element(&bytes, "document").object().is_ok());
        assert!(element(&bytes, "document").array().is_err());
        assert!(element(&bytes, "array").array().is_ok());
        assert!(element(&bytes, "array").object().is_err());
        assert!(element(&bytes, "string").doc().is_err());
        let scope = element(&bytes, "scoped").scope().unwrap();
        assert_eq!(scope.first().unwrap().unwrap().key, "x");
    }

    #[test]
    fn a_field_that_stands_twice_is_not_found_once() {
        let mut bytes = bson::serialize_to_vec(&doc! {"a": 1, "b": 2}).unwrap();
        assert!(
            Doc::whole(&bytes)
                .unwrap()
                .find_once("c")
                .unwrap()
                .is_none()
        );
        let found = Doc::whole(&bytes).unwrap().find_once("b").unwrap();
        assert_eq!(found.unwrap().integer(), Some(2));
        let b = bytes.iter().position(|byte| *byte == b'b').unwrap();
        bytes[b] = b'a';
        assert!(Doc::whole(&bytes).unwrap().find_once("a").is_err());
    }

    #[test]
    fn numbers_and_truth_are_read_as_mongodb_reads_them() {
        let values = doc! {"one": 1.0, "half": 0.5, "zero": 0_i64, "huge": 1e300, "nan": f64::NAN, "null": null, "text": "", "no": false};
        let bytes = bson::serialize_to_vec(&values).unwrap();
        let integer = |key: &str| element(&bytes, key).integer();
        assert_eq!(integer("one"), Some(1));
        assert_eq!(integer("zero"), Some(0));
        for key in ["half", "huge", "nan", "null", "text"] {
            assert_eq!(integer(key), None, "{key}");
        }
        for (key, truth) in [
            ("one", true),
            ("zero", false),
            ("nan", true),
            ("null", false),
            ("text", true),
            ("no", false),
        ] {
            assert_eq!(element(&bytes, key).truthy(), truth, "{key}");
        }
    }
}
