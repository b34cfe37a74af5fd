//! Appending BSON to a buffer.

use super::kind;

/// Appends elements to a buffer; documents are closed by [`Writer::end`].
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

/// Where an open document's length belongs.
#[derive(Debug)]
#[must_use = "an open document must be ended"]
pub struct Open(usize);

impl<'o> Writer<'o> {
    /// Appends to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// The buffer that is appended to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// An element's type and name; its value is to follow.
    pub fn name(&mut self, kind: u8, key: &str) {
        self.out.push(kind);
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(0);
    }

    /// An element whose name is `key` and `rest` put together.
    pub fn joined_name(&mut self, kind: u8, key: &str, rest: &str) {
        self.out.push(kind);
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(rest.as_bytes());
        self.out.push(0);
    }

    /// A document with no name, such as a whole message's body.
    pub fn begin(&mut self) -> Open {
        let open = Open(self.out.len());
        self.out.extend_from_slice(&[0; 4]);
        open
    }

    /// A document named `key`.
    pub fn begin_doc(&mut self, key: &str) -> Open {
        self.name(kind::DOCUMENT, key);
        self.begin()
    }

    /// An array named `key`.
    pub fn begin_array(&mut self, key: &str) -> Open {
        self.name(kind::ARRAY, key);
        self.begin()
    }

    /// Closes a document or array.
    pub fn end(&mut self, open: Open) {
        self.out.push(0);
        // A buffer never passes the largest message, 48,000,000 bytes.
        let length = u32::try_from(self.out.len() - open.0).unwrap_or(u32::MAX);
        self.out[open.0..open.0 + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// An element copied whole under a name of its own.
    pub fn value(&mut self, kind: u8, key: &str, value: &[u8]) {
        self.name(kind, key);
        self.out.extend_from_slice(value);
    }

    /// A string.
    pub fn string(&mut self, key: &str, value: &str) {
        self.name(kind::STRING, key);
        let length = u32::try_from(value.len() + 1).unwrap_or(u32::MAX);
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(0);
    }

    /// A binary value.
    pub fn binary(&mut self, key: &str, subtype: u8, bytes: &[u8]) {
        self.name(kind::BINARY, key);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.push(subtype);
        self.out.extend_from_slice(bytes);
    }

    /// A 32-bit integer.
    pub fn int32(&mut self, key: &str, value: i32) {
        self.name(kind::INT32, key);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A 64-bit integer.
    pub fn int64(&mut self, key: &str, value: i64) {
        self.name(kind::INT64, key);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A double, the form in which MongoDB gives `ok`.
    pub fn double(&mut self, key: &str, value: f64) {
        self.name(kind::DOUBLE, key);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A truth value.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.name(kind::BOOL, key);
        self.out.push(value.into());
    }

    /// Null.
    pub fn null(&mut self, key: &str) {
        self.name(kind::NULL, key);
    }
}
