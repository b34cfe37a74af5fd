//! Opening the sealed values of a reply, in one pass.

use zeroize::{Zeroize, Zeroizing};

use super::{Reads, broken};
use crate::code::Code;
use crate::policy::{Collection, Field, Masking, Policy, Unopened};
use crate::raw::{Doc, Element, Malformed, Splicer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::{NodeId, Step, Tree};
use crate::seal::{Header, SUBTYPE, find_sealed};

/// Deeper than MongoDB stores, so that its own wrapping still fits.
const DEEPEST: usize = 256;

/// Finds and opens the sealed values of one frame.
pub(super) struct Opener<'f, 'r> {
    policy: &'f Policy,
    reads: &'r mut Reads,
    frame: &'f [u8],
    /// Where the next sealed value may be; none if no more follow.
    next: Option<usize>,
    /// A value whose mask is made of it.
    opened: Zeroizing<Vec<u8>>,
}

/// A sealed value in a reply, with or without tokens beside it.
pub(crate) struct Sealed<'e> {
    pub(crate) header: Header,
    pub(crate) payload: &'e [u8],
}

impl<'f, 'r> Opener<'f, 'r> {
    pub(super) fn new(policy: &'f Policy, frame: &'f [u8], reads: &'r mut Reads) -> Self {
        Self {
            policy,
            reads,
            frame,
            next: find_sealed(frame),
            opened: Zeroizing::default(),
        }
    }

    /// Whether the frame may hold a sealed value at all.
    pub(super) fn holds_any(&self) -> bool {
        self.next.is_some()
    }

    /// Whether a sealed value may lie before `end`, at or after what was passed.
    fn may_hold(&mut self, element: &Element<'_>) -> bool {
        while let Some(next) = self.next {
            if next >= element.end {
                return false;
            }
            if next >= element.start {
                return true;
            }
            let from = next + 1;
            self.next = self
                .frame
                .get(from..)
                .and_then(find_sealed)
                .map(|found| from + found);
        }
        false
    }

    /// Opens every sealed value in `doc`, wherever it stands.
    pub(super) fn anywhere(
        &mut self,
        splicer: &mut Splicer<'_, '_>,
        doc: Doc<'_>,
        depth: usize,
    ) -> Result<(), Refusal> {
        deep(depth)?;
        let mark = splicer.mark();
        for element in doc.elements() {
            let element = element.map_err(broken)?;
            self.element_anywhere(splicer, &element, depth)?;
        }
        splicer.mend_length(doc.start(), mark).map_err(broken)
    }

    /// Opens every sealed value in one element.
    pub(super) fn element_anywhere(
        &mut self,
        splicer: &mut Splicer<'_, '_>,
        element: &Element<'_>,
        depth: usize,
    ) -> Result<(), Refusal> {
        if !self.may_hold(element) {
            return Ok(());
        }
        if let Some(sealed) = sealed(element).map_err(broken)?
            && !(element.kind == kind::DOCUMENT && self.named_c(&sealed.header))
        {
            self.refuse_part(element, &sealed.header)?;
            return self.replace(splicer, element, &sealed, None, element.key);
        }
        match element.kind {
            kind::DOCUMENT | kind::ARRAY => {
                self.anywhere(splicer, element.doc().map_err(broken)?, depth + 1)
            }
            _ => Ok(()),
        }
    }

    /// A change stream tells of a sealed document that was changed in part, which
    /// only happens round the proxy, as `ssn.c`: opened there, the value would have
    /// a name that the service never gave.
    fn refuse_part(&self, element: &Element<'_>, header: &Header) -> Result<(), Refusal> {
        if element.kind == kind::BINARY && element.key.ends_with(".c") && !self.named_c(header) {
            return Err(Refusal::new(
                RefusalKind::CannotOpen,
                "a sealed document was changed in part, on MongoDB itself; this version cannot show that change",
            ).coded(Code::ChangedInPart));
        }
        Ok(())
    }

    /// Whether a value belongs to a field that is itself named `c` and has no
    /// tokens: a document that holds it is the service's own, although names
    /// such as `e1` beside it make it look like a sealed document.
    fn named_c(&self, header: &Header) -> bool {
        self.policy.known(header.field).is_some_and(|field| {
            field.equality.is_none() && field.path.rsplit('.').next() == Some("c")
        })
    }

    /// Opens a document of `collection` whose top level is at `node`.
    pub(super) fn document(
        &mut self,
        splicer: &mut Splicer<'_, '_>,
        doc: Doc<'_>,
        collection: &Collection,
        node: NodeId,
        depth: usize,
    ) -> Result<(), Refusal> {
        deep(depth)?;
        let mark = splicer.mark();
        for element in doc.elements() {
            let element = element.map_err(broken)?;
            match collection.tree.element(node, element.key) {
                Step::Sealed(leaf) => {
                    self.field(splicer, &element, collection, collection.field(leaf), 0)?;
                }
                Step::Inner(next) => self.below(splicer, &element, collection, next, depth)?,
                Step::Open | Step::Ambiguous | Step::Mixed => {
                    self.element_anywhere(splicer, &element, depth)?;
                }
            }
        }
        splicer.mend_length(doc.start(), mark).map_err(broken)
    }

    /// Opens what stands at a field that holds sealed fields.
    pub(super) fn below(
        &mut self,
        splicer: &mut Splicer<'_, '_>,
        element: &Element<'_>,
        collection: &Collection,
        node: NodeId,
        depth: usize,
    ) -> Result<(), Refusal> {
        match element.kind {
            kind::DOCUMENT => self.document(
                splicer,
                element.doc().map_err(broken)?,
                collection,
                node,
                depth + 1,
            ),
            kind::ARRAY => self.array(
                splicer,
                element.doc().map_err(broken)?,
                collection,
                node,
                depth + 1,
            ),
            _ => self.element_anywhere(splicer, element, depth),
        }
    }

    /// Opens the documents of an array, each of which is at `node`.
    pub(super) fn array(
        &mut self,
        splicer: &mut Splicer<'_, '_>,
        array: Doc<'_>,
        collection: &Collection,
        node: NodeId,
        depth: usize,
    ) -> Result<(), Refusal> {
        deep(depth)?;
        let mark = splicer.mark();
        for element in array.elements() {
            let element = element.map_err(broken)?;
            self.below(splicer, &element, collection, node, depth)?;
        }
        splicer.mend_length(array.start(), mark).map_err(broken)
    }

    /// Opens what stands at the top level under the name of `element`.
    pub(super) fn named(
        &mut self,
        splicer: &mut Splicer<'_, '_>,
        element: &Element<'_>,
        collection: &Collection,
    ) -> Result<(), Refusal> {
        match collection.tree.element(Tree::ROOT, element.key) {
            Step::Sealed(leaf) => {
                self.field(splicer, element, collection, collection.field(leaf), 0)
            }
            _ => self.element_anywhere(splicer, element, 0),
        }
    }

    /// Opens the sealed value of a sealed document, under the name that the document had.
    pub(super) fn value(
        &mut self,
        splicer: &mut Splicer<'_, '_>,
        element: &Element<'_>,
        collection: &Collection,
        field: &Field,
        name: &str,
    ) -> Result<(), Refusal> {
        let Some(sealed) = binary(element) else {
            return Err(plaintext(collection, field));
        };
        own(&sealed, collection, field)?;
        self.replace(splicer, element, &sealed, Some(field), name)
    }

    /// Opens what stands at a sealed field: a value, or an array of them.
    pub(super) fn field(
        &mut self,
        splicer: &mut Splicer<'_, '_>,
        element: &Element<'_>,
        collection: &Collection,
        field: &Field,
        depth: usize,
    ) -> Result<(), Refusal> {
        deep(depth)?;
        if element.is_null() {
            return Ok(());
        }
        if let Some(sealed) = sealed(element).map_err(broken)? {
            own(&sealed, collection, field)?;
            return self.replace(splicer, element, &sealed, Some(field), element.key);
        }
        if element.kind == kind::ARRAY {
            let array = element.doc().map_err(broken)?;
            let mark = splicer.mark();
            for item in array.elements() {
                self.field(
                    splicer,
                    &item.map_err(broken)?,
                    collection,
                    field,
                    depth + 1,
                )?;
            }
            return splicer.mend_length(array.start(), mark).map_err(broken);
        }
        if collection.on_plaintext.is_expected() {
            self.plain(splicer, element, field);
            return Ok(());
        }
        Err(plaintext(collection, field))
    }

    /// A plain value of a sealed field, or a part of one: it is shown as a sealed one is.
    pub(super) fn plain(
        &mut self,
        splicer: &mut Splicer<'_, '_>,
        element: &Element<'_>,
        field: &Field,
    ) {
        match self.policy.masking(Some(field)) {
            Some(masking) => splicer.replace(element.start, element.end, |out| {
                masking.write(element.key, element.kind, element.value(), out);
            }),
            None if field.access.audited => self.reads.note(field.id),
            None => {}
        }
    }

    /// Puts the value, or what is shown instead of it, in the place of a sealed one.
    /// `field` is the one where it stands, where that is known.
    fn replace(
        &mut self,
        splicer: &mut Splicer<'_, '_>,
        element: &Element<'_>,
        sealed: &Sealed<'_>,
        field: Option<&Field>,
        name: &str,
    ) -> Result<(), Refusal> {
        let policy = self.policy;
        let by_header = match field {
            Some(_) => None,
            None => policy.known(sealed.header.field),
        };
        let known = field.or(by_header.as_deref());
        let replaced = match policy.masking(known) {
            Some(masking) => self.mask(splicer, element, sealed, known, masking, name),
            None => {
                if known.is_some_and(|field| field.access.audited) {
                    self.reads.note(sealed.header.field);
                }
                splicer.replace(element.start, element.end, |out| {
                    // The opened bytes are the type and the value. The type comes
                    // to lie where the name's zero belongs, and is moved from there.
                    let start = out.len();
                    out.push(0);
                    out.extend_from_slice(name.as_bytes());
                    let type_at = out.len();
                    policy.open(sealed.header, sealed.payload, known, out)?;
                    out[start] = out[type_at];
                    out[type_at] = 0;
                    Ok(())
                })
            }
        };
        replaced.map_err(|unopened| {
            let path = field.map_or(name, |field| &field.path);
            let refusal = |why: &dyn std::fmt::Display| {
                let what = format_args!("`{path}` cannot be opened: {why}");
                Refusal::new(RefusalKind::CannotOpen, what).coded(unopened.code())
            };
            refusal(&unopened.told()).logged_as(refusal(&unopened))
        })
    }

    /// Puts what is shown instead of a sealed value in its place. The value is opened only
    /// if what is shown is made of it: else no key is needed.
    fn mask(
        &mut self,
        splicer: &mut Splicer<'_, '_>,
        element: &Element<'_>,
        sealed: &Sealed<'_>,
        field: Option<&Field>,
        masking: Masking<'_>,
        name: &str,
    ) -> Result<(), Unopened> {
        let opened = &mut *self.opened;
        if masking.needs_value() {
            // No part of it stays behind in a buffer that was too small.
            opened.reserve(sealed.payload.len());
            self.policy
                .open(sealed.header, sealed.payload, field, opened)?;
        }
        splicer.replace(element.start, element.end, |out| {
            match opened.split_first() {
                Some((kind, value)) => masking.write(name, *kind, value, out),
                None => masking.write_sealed(name, sealed.payload, out),
            }
        });
        opened.zeroize();
        Ok(())
    }
}

/// A value at a field must have been sealed for that field.
fn own(sealed: &Sealed<'_>, collection: &Collection, field: &Field) -> Result<(), Refusal> {
    if sealed.header.field == field.id {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::CannotOpen,
        format_args!(
            "{}: the value in `{}` was sealed for another field or collection and moved there",
            collection.namespace, field.path
        ),
    )
    .coded(Code::Moved))
}

fn plaintext(collection: &Collection, field: &Field) -> Refusal {
    Refusal::new(
        RefusalKind::CannotOpen,
        format_args!(
            "{}: plaintext is stored in the sealed field `{}`; while a migration is under way set on_plaintext = \"allow\"",
            collection.namespace, field.path
        ),
    ).coded(Code::PlaintextFound)
}

/// The sealed value that an element is: a Binary, or a sealed document.
pub(crate) fn sealed<'e>(element: &Element<'e>) -> Result<Option<Sealed<'e>>, Malformed> {
    if element.kind == kind::DOCUMENT {
        return sealed_document(element.doc()?);
    }
    Ok(binary(element))
}

/// A sealed document is `{c: <sealed>, e1: <token>, …}` and nothing else.
fn sealed_document<'e>(doc: Doc<'e>) -> Result<Option<Sealed<'e>>, Malformed> {
    let mut elements = doc.elements();
    let Some(first) = elements.next().transpose()? else {
        return Ok(None);
    };
    let Some(sealed) = Some(first)
        .filter(|first| first.key == "c")
        .as_ref()
        .and_then(binary)
    else {
        return Ok(None);
    };
    let mut tokens = 0;
    for element in elements {
        let element = element?;
        if element.kind != kind::BINARY || !is_token(element.key) {
            return Ok(None);
        }
        tokens += 1;
    }
    Ok(Some(sealed).filter(|_| tokens > 0))
}

fn binary<'e>(element: &Element<'e>) -> Option<Sealed<'e>> {
    let (subtype, payload) = element.binary()?;
    if subtype != SUBTYPE {
        return None;
    }
    Header::read(payload).map(|header| Sealed { header, payload })
}

/// Whether a name is that of a token: `e`, `r` or `t` and the number of an epoch.
pub(super) fn is_token(name: &str) -> bool {
    let mut bytes = name.bytes();
    matches!(bytes.next(), Some(b'e' | b'r' | b't'))
        && name.len() > 1
        && bytes.all(|byte| byte.is_ascii_digit())
}

fn deep(depth: usize) -> Result<(), Refusal> {
    if depth > DEEPEST {
        return Err(broken(Malformed("documents are nested too deep")));
    }
    Ok(())
}
