//! How deep documents may be nested, and how long arrays may be.

use super::command::Request;
use super::permitted::each_of;
use super::table::Family;
use crate::code::Code;
use crate::raw::{Doc, Element, Malformed, kind};
use crate::refusal::{Refusal, RefusalKind};

/// The deepest nesting that is looked at: MongoDB reads no deeper one.
const DEEPEST: usize = 200;

/// Bounds on the documents of commands; none: MongoDB's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// How deep they may be nested: `{a: 1}` is 1 deep, `{a: {b: 1}}` and `{a: [1]}` are 2.
    pub depth: Option<usize>,
    /// How many elements each array in them may have.
    pub array: Option<usize>,
}

impl Bounds {
    /// Refuses a command that holds what is nested deeper, or an array that is longer.
    pub fn check(self, request: &Request<'_>) -> Result<(), Refusal> {
        if self.depth.is_none() && self.array.is_none() {
            return Ok(());
        }
        let Some(command) = &request.command else {
            return Ok(());
        };
        let command = command.as_ref().map_err(|malformed| *malformed)?;
        if matches!(command.family, Family::Hello | Family::Pass) {
            return Ok(());
        }
        let checking = Checking {
            command: command.name,
            depth: self.depth.unwrap_or(DEEPEST),
            array: self.array.unwrap_or(usize::MAX),
        };
        checking.body(command.body)?;
        for sequence in command.sequences {
            let statements = is_batch_of_statements(sequence.identifier);
            each_of(command, sequence.identifier, |document| {
                checking.document(document, usize::from(!statements))
            })?;
        }
        Ok(())
    }
}

/// Whether the documents of this array stand for parts of the command, and not for what is stored.
fn is_batch_of_statements(key: &str) -> bool {
    matches!(key, "updates" | "deletes" | "ops")
}

struct Checking<'c> {
    command: &'c str,
    depth: usize,
    array: usize,
}

impl Checking<'_> {
    /// The body of a command: its fields are nested in nothing.
    fn body(&self, body: Doc<'_>) -> Result<(), Refusal> {
        for element in body.elements() {
            let element = element?;
            let batch = is_batch_of_statements(element.key) || element.key == "documents";
            match element.kind {
                // How many there may be is the limit of a message, as it is of a sequence.
                kind::ARRAY if batch => {
                    let depth = usize::from(element.key == "documents");
                    for document in element.doc()?.elements() {
                        let document = document?;
                        if document.kind == kind::DOCUMENT {
                            self.document(document.doc()?, depth)?;
                        }
                    }
                }
                // A list of documents or names is no nesting of the service's.
                kind::ARRAY => {
                    self.elements(element.doc()?, 0, true)?;
                }
                kind::DOCUMENT if element.key == "explain" && element.start == body.start() + 4 => {
                    self.body(element.doc()?)?;
                }
                _ => self.value(&element, 0)?,
            }
        }
        Ok(())
    }

    /// A value in what is nested `depth` deep.
    fn value(&self, value: &Element<'_>, depth: usize) -> Result<(), Refusal> {
        match value.kind {
            kind::DOCUMENT => self.document(value.doc()?, depth + 1),
            kind::ARRAY => self.array(value.doc()?, depth + 1),
            kind::JAVASCRIPT_WITH_SCOPE => self.document(value.scope()?, depth + 1),
            _ => Ok(()),
        }
    }

    fn document(&self, document: Doc<'_>, depth: usize) -> Result<(), Refusal> {
        self.elements(document, depth, false)
    }

    fn array(&self, array: Doc<'_>, depth: usize) -> Result<(), Refusal> {
        self.elements(array, depth, true)
    }

    fn elements(&self, document: Doc<'_>, depth: usize, is_array: bool) -> Result<(), Refusal> {
        if depth > self.depth {
            return Err(self.too_deep());
        }
        for (before, element) in document.elements().enumerate() {
            if is_array && before >= self.array {
                return Err(self.too_long());
            }
            self.value(&element?, depth)?;
        }
        Ok(())
    }

    fn too_deep(&self) -> Refusal {
        if self.depth >= DEEPEST {
            return Malformed("documents are nested too deep").into();
        }
        let (command, depth) = (self.command, self.depth);
        Refusal::new(
            RefusalKind::TooLarge,
            format_args!("{command}: a document is nested deeper than {depth} (document_depth)"),
        )
        .coded(Code::OverBounds)
    }

    fn too_long(&self) -> Refusal {
        let (command, array) = (self.command, self.array);
        Refusal::new(
            RefusalKind::TooLarge,
            format_args!("{command}: an array has more than {array} elements (array_length)"),
        )
        .coded(Code::OverBounds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Bson, Document, doc};

    use super::*;
    use crate::wire::Message;
    use crate::wire::testing::{body, msg, sequence};

    fn check(bounds: Bounds, sections: &[u8]) -> Result<(), Refusal> {
        let frame = msg(0, sections);
        bounds.check(&Request::of(&Message::recognise(&frame).unwrap()))
    }

    fn depth(depth: usize) -> Bounds {
        Bounds {
            depth: Some(depth),
            array: None,
        }
    }

    fn array(array: usize) -> Bounds {
        Bounds {
            depth: None,
            array: Some(array),
        }
    }

    /// Nested this deep.
    fn nested(depth: usize) -> Document {
        (1..depth).fold(doc! {"x": "canary"}, |inner, _| doc! {"x": inner})
    }

    #[test]
    fn a_document_counts_the_same_wherever_it_stands_in_a_command() {
        let in_body =
            |name: &str, key: &str, value: Bson| body(&doc! {name: "c", key: value, "$db": "shop"});
        let forms = |document: Document| {
            let statement = doc! {"q": {}, "u": document.clone()};
            let insert = body(&doc! {"insert": "c", "$db": "shop"});
            let update = body(&doc! {"update": "c", "$db": "shop"});
            [
                in_body("find", "filter", document.clone().into()),
                in_body("insert", "documents", vec![document.clone()].into()),
                [insert, sequence("documents", &[doc! {}, document.clone()])].concat(),
                in_body("update", "updates", vec![statement.clone()].into()),
                [update, sequence("updates", &[statement])].concat(),
                in_body("aggregate", "pipeline", vec![document.clone()].into()),
                body(&doc! {"explain": {"find": "c", "filter": document}, "$db": "shop"}),
            ]
        };
        for (number, sections) in forms(nested(4)).iter().enumerate() {
            check(depth(4), sections).unwrap_or_else(|error| panic!("{number}: {error}"));
            let refusal = check(depth(3), sections).expect_err(&number.to_string());
            assert!(
                refusal
                    .message
                    .contains("nested deeper than 3 (document_depth)"),
                "{refusal}"
            );
            assert!(!refusal.message.contains("canary"));
        }
        let arrays = doc! {"a": [[1]]};
        for sections in forms(arrays) {
            check(depth(3), &sections).unwrap();
            check(depth(2), &sections).unwrap_err();
        }
    }

    #[test]
    fn arrays_are_bounded_and_batches_are_not() {
        let of = |length: i32| Bson::from((0..length).collect::<Vec<_>>());
        let find =
            |length| body(&doc! {"find": "c", "filter": {"a": {"$in": of(length)}}, "$db": "shop"});
        check(array(5), &find(5)).unwrap();
        let refusal = check(array(5), &find(6)).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::TooLarge);
        assert!(
            refusal
                .message
                .contains("find: an array has more than 5 elements"),
            "{refusal}"
        );
        let documents = vec![doc! {}; 9];
        let batch = body(&doc! {"insert": "c", "documents": documents.clone(), "$db": "shop"});
        check(array(5), &batch).unwrap();
        let insert = body(&doc! {"insert": "c", "$db": "shop"});
        check(
            array(5),
            &[insert, sequence("documents", &documents)].concat(),
        )
        .unwrap();
        let sessions = body(&doc! {"endSessions": of(100), "$db": "admin"});
        check(array(5), &sessions).unwrap();
    }

    #[test]
    fn without_bounds_nothing_is_looked_at() {
        let deep = body(&doc! {"find": "c", "filter": nested(150), "$db": "shop"});
        check(Bounds::default(), &deep).unwrap();
        check(array(1), &deep).unwrap();
    }
}
