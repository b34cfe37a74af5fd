//! What each job makes of one value.

use std::sync::Arc;

use super::tokens::clear;
use super::walk::{Sealed, Site, Stored, Value};
use crate::policy::{Collection, Field, Policy};
use crate::raw::{Doc, Element, Malformed, Writer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::rewrite::at_rest::seal_stored;
use crate::schema::Types;
use crate::seal::{Header, SUBTYPE};

/// How deep a value may go; MongoDB stores none deeper.
const DEEPEST: usize = 256;

/// What is to be done to a collection's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Plaintext is sealed.
    Encrypt,
    /// What is sealed under another version than the active one is sealed under that.
    Rotate,
    /// What is sealed is stored in plain.
    Decrypt,
    /// What is sealed gets the tokens that it lacks of the staged and the active index epoch.
    Fill,
    /// What is sealed loses the tokens of epochs that are disabled or destroyed.
    Clear,
}

impl Work {
    /// The job's name: that of the command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Rotate => "rotate",
            Self::Decrypt => "decrypt",
            Self::Fill => "reindex: fill",
            Self::Clear => "reindex: clear",
        }
    }

    /// What it does, for counts: `sealed`.
    pub fn done(self) -> &'static str {
        match self {
            Self::Encrypt => "sealed",
            Self::Rotate => "sealed anew",
            Self::Decrypt => "opened",
            Self::Fill => "given tokens",
            Self::Clear => "cleared of old tokens",
        }
    }
}

/// One job on one collection.
#[derive(Debug)]
pub(super) struct Job<'p> {
    /// What is done.
    pub work: Work,
    /// The schema and the keys.
    pub policy: &'p Policy,
    /// What is sealed in the collection.
    pub collection: Arc<Collection>,
    /// The fields that it is done to, as the schema names them; none means all.
    pub fields: Vec<String>,
}

/// What became of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is to be done.
    Right,
    /// It was appended as it shall be.
    Changed,
    /// It cannot be done; why.
    Left(String),
}

impl Job<'_> {
    /// Whether the job is about this field.
    pub(super) fn concerns(&self, field: &Field) -> bool {
        self.fields.is_empty() || self.fields.contains(&field.path)
    }

    /// Judges one value. If it has to change, what it becomes is appended to `out`, as an
    /// element under its own name.
    pub(super) fn value(
        &self,
        site: &Site<'_, '_>,
        value: &Value<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Malformed> {
        match (self.work, value.stored) {
            (_, Stored::Null)
            | (Work::Encrypt, Stored::Sealed(_))
            | (Work::Rotate | Work::Decrypt | Work::Fill | Work::Clear, Stored::Plain) => {
                Ok(Verdict::Right)
            }
            (Work::Encrypt, Stored::Plain) => self.encrypt(site, &value.element, out),
            (Work::Rotate, Stored::Sealed(sealed)) => self.rotate(site, value, &sealed, out),
            (Work::Decrypt, Stored::Sealed(sealed)) => self.decrypt(site, value, &sealed, out),
            (Work::Fill, Stored::Sealed(sealed)) => self.fill(site, value, &sealed, out),
            (Work::Clear, Stored::Sealed(sealed)) => clear(site, value, &sealed, out),
        }
    }

    fn encrypt(
        &self,
        site: &Site<'_, '_>,
        value: &Element<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Malformed> {
        let start = out.len();
        let place = &site.element;
        if let Err(refusal) = seal_stored(out, &self.collection, site.field, place, value) {
            out.truncate(start);
            return Ok(Verdict::Left(why_not_sealed(&refusal, site.field, value)));
        }
        let sealed = out.get(start..).unwrap_or_default();
        if !self.opens_to(site.field, sealed, value)? {
            out.truncate(start);
            return Ok(Verdict::Left("did not open again once sealed".to_owned()));
        }
        Ok(Verdict::Changed)
    }

    fn rotate(
        &self,
        site: &Site<'_, '_>,
        value: &Value<'_>,
        sealed: &Sealed<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Malformed> {
        let field = site.field;
        let as_new =
            sealed.header.key == field.active_id() && sealed.header.suite == field.suite().byte();
        if sealed.header.field == field.id && as_new {
            return Ok(Verdict::Right);
        }
        // A version that is staged here, and seals already, was promoted in a newer key file:
        // going back to the older one would undo another job's work.
        if sealed.header.field == field.id && self.policy.is_staged(sealed.header.key) {
            return Ok(Verdict::Right);
        }
        let mut plain = Vec::new();
        if let Some(left) = self.open(field, sealed, &mut plain) {
            return Ok(left);
        }
        let Some(payload) = self.sealed_anew(field, &plain) else {
            return Ok(Verdict::Left("did not open again once sealed".to_owned()));
        };
        let mut writer = Writer::new(out);
        let key = value.element.key;
        let Some(document) = sealed.document else {
            writer.binary(key, SUBTYPE, &payload);
            return Ok(Verdict::Changed);
        };
        // The tokens stay as they are: they belong to the index epochs.
        let open = writer.begin_doc(key);
        for element in document.elements() {
            let element = element?;
            if element.key == "c" {
                writer.binary("c", SUBTYPE, &payload);
            } else {
                writer.buffer().extend_from_slice(element.bytes());
            }
        }
        writer.end(open);
        Ok(Verdict::Changed)
    }

    fn decrypt(
        &self,
        site: &Site<'_, '_>,
        value: &Value<'_>,
        sealed: &Sealed<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Malformed> {
        let mut plain = Vec::new();
        if let Some(left) = self.open(site.field, sealed, &mut plain) {
            return Ok(left);
        }
        let Some((&kind, bytes)) = plain.split_first() else {
            return Ok(Verdict::Left("holds nothing".to_owned()));
        };
        if !holds_together(kind, bytes) {
            return Ok(Verdict::Left("does not open to a BSON value".to_owned()));
        }
        Writer::new(out).value(kind, value.element.key, bytes);
        Ok(Verdict::Changed)
    }

    /// Opens a value that must be the field's own; says why if it is not to be opened.
    pub(super) fn open(
        &self,
        field: &Field,
        sealed: &Sealed<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Verdict> {
        if sealed.header.field != field.id {
            return Some(Verdict::Left(
                "was sealed for another field or collection and moved there".to_owned(),
            ));
        }
        self.policy
            .open(sealed.header, sealed.payload, Some(field), out)
            .err()
            .map(|unopened| Verdict::Left(format!("cannot be opened: {unopened}")))
    }

    /// Seals what was opened, type and value, under the active version; none if that does
    /// not open to the same.
    fn sealed_anew(&self, field: &Field, plain: &[u8]) -> Option<Vec<u8>> {
        let (&kind, value) = plain.split_first()?;
        let mut payload = Vec::new();
        field.seal(kind, value, &mut payload);
        let mut opened = Vec::new();
        self.policy
            .open(Header::read(&payload)?, &payload, Some(field), &mut opened)
            .ok()?;
        (opened == plain).then_some(payload)
    }

    /// Whether an element that was sealed opens to the value that it was made of.
    fn opens_to(
        &self,
        field: &Field,
        sealed: &[u8],
        value: &Element<'_>,
    ) -> Result<bool, Malformed> {
        let mut document = Vec::with_capacity(sealed.len() + 5);
        let mut writer = Writer::new(&mut document);
        let open = writer.begin();
        writer.buffer().extend_from_slice(sealed);
        writer.end(open);
        let Some(element) = Doc::whole(&document)?.first()? else {
            return Ok(false);
        };
        let Stored::Sealed(sealed) = super::walk::stored(&element)? else {
            return Ok(false);
        };
        let mut plain = Vec::new();
        let opened = self.open(field, &sealed, &mut plain).is_none();
        Ok(opened && plain.split_first() == Some((&value.kind, value.value())))
    }
}

fn why_not_sealed(refusal: &Refusal, field: &Field, value: &Element<'_>) -> String {
    match refusal.kind {
        RefusalKind::WrongType => format!(
            "is {}, and the schema takes {}",
            Types::alias_of(value.kind),
            field.types.describe()
        ),
        RefusalKind::TooLarge => "is too large to seal".to_owned(),
        RefusalKind::Malformed => "does not hold together".to_owned(),
        _ => "is an array that holds null, which cannot be sealed so that queries stay right"
            .to_owned(),
    }
}

/// Whether bytes are a value of their kind, at every level.
fn holds_together(kind: u8, value: &[u8]) -> bool {
    let mut document = Vec::with_capacity(value.len() + 8);
    let mut writer = Writer::new(&mut document);
    let open = writer.begin();
    writer.value(kind, "v", value);
    writer.end(open);
    let element = Doc::whole(&document).and_then(|doc| {
        let mut elements = doc.elements();
        let element = elements.next().transpose()?;
        Ok(element.filter(|_| elements.next().is_none()))
    });
    matches!(element, Ok(Some(element)) if kind != kind::NULL && element.validate(DEEPEST).is_ok())
}
