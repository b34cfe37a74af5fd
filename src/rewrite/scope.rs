//! What a rewrite of one command knows: whose command, on which collection.

use std::cell::Cell;
use std::sync::Arc;

use super::expression::{Constants, Variable};
use super::shape::Content;
use crate::code::Code;
use crate::policy::{Collection, Field, Listed};
use crate::raw::Malformed;
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::{NodeId, Step, Tree};

/// Documents nested deeper than this are refused, as MongoDB refuses them.
pub(super) const DEEPEST: usize = 180;

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Refusal::new(RefusalKind::Malformed, malformed)
    }
}

/// The command and collection that a rewrite is about.
#[derive(Debug)]
pub(super) struct Scope<'c> {
    /// The command's name.
    pub(super) command: &'c str,
    /// What is sealed in its collection.
    pub(super) collection: &'c Collection,
    /// Whether a comparison was turned into one of tokens, which know no collation.
    pub(super) compared: Cell<bool>,
    /// Whether MongoDB keeps what is written and goes by it whatever index epoch is active
    /// then, as it does with validators and the definitions of views.
    pub(super) kept: Cell<bool>,
    /// Whether MongoDB would compare strings of the collection by a collation.
    pub(super) collated: bool,
    /// The indexes of the collection, if MongoDB was asked for them.
    pub(super) indexes: Option<Arc<Listed>>,
    /// The constants of the command's `let`.
    pub(super) constants: Option<&'c Constants<'c>>,
    /// What is known of the documents beyond `collection`, between two stages.
    pub(super) root: Option<&'c Content>,
    /// The variables that a stage above bound.
    pub(super) variables: Option<&'c Variable<'c>>,
    /// Whether paths may lead to tokens, as in the definition of a view, which was
    /// rewritten when it was made.
    pub(super) stored: bool,
    /// Whether values may stand in the documents that who asks may not read.
    pub(super) masks: bool,
    /// Whether it has fields that who asks may not write.
    pub(super) guards: bool,
}

/// Where a dotted path of a query or an update leads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'c> {
    /// Nothing sealed is there, above or below.
    Open,
    /// Sealed fields lie below.
    Inner(NodeId),
    /// A sealed field, or an element of one whose elements are sealed.
    Sealed {
        /// The field.
        field: &'c Field,
        /// Whether the path names an element of it.
        element: bool,
    },
}

impl<'c> Scope<'c> {
    pub(super) fn new(command: &'c str, collection: &'c Collection, collated: bool) -> Self {
        Self {
            command,
            collection,
            compared: Cell::new(false),
            kept: Cell::new(false),
            collated,
            indexes: None,
            constants: None,
            root: None,
            variables: None,
            stored: false,
            masks: collection.has_masked(),
            guards: collection.has_read_only(),
        }
    }

    /// Rewrites one statement of several, which may be refused alone.
    pub(super) fn statement<R>(
        &self,
        rewrite: impl FnOnce() -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        match self.constants {
            Some(constants) => constants.used_by(rewrite),
            None => rewrite(),
        }
    }

    pub(super) fn tree(&self) -> &'c Tree {
        &self.collection.tree
    }

    /// Refuses what touches the field at `path`; `what` is the operator, stage or option.
    pub(super) fn refuse(&self, path: &str, what: &str, advice: &str) -> Refusal {
        Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{} on {}: {what} cannot be used on the sealed field `{path}`; {advice}",
                self.command, self.collection.namespace
            ),
        )
        .coded(Code::SealedField)
    }

    /// Refuses to look at what a pipeline put where sealed and open values may stand.
    pub(super) fn mixed(&self, path: &str) -> Refusal {
        Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{} on {}: `{path}` may hold sealed values of several fields or open ones, as the stages before made it; nothing can be asked of it there",
                self.command, self.collection.namespace
            ),
        ).coded(Code::MixedPlace)
    }

    /// Refuses to let a constant stand in plain among the values of the field at `path`.
    pub(super) fn refuse_spill(&self, path: &str, what: &str) -> Refusal {
        let advice = "give it where the field's values stand, as a constant by itself, or mix open fields alone";
        let what = format!("{what} a constant among the sealed values");
        if path.is_empty() {
            return self.refuse_command(&what, advice);
        }
        self.refuse(path, &what, advice)
    }

    /// Refuses something of the command as a whole.
    pub(super) fn refuse_command(&self, what: &str, advice: &str) -> Refusal {
        Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{} on {}: {what} is not supported on a collection with sealed fields; {advice}",
                self.command, self.collection.namespace
            ),
        )
    }

    /// Refuses a value of a type that the schema does not name for the field.
    pub(super) fn wrong_type(&self, path: &str, field: &Field, kind: u8) -> Refusal {
        Refusal::new(
            RefusalKind::WrongType,
            format_args!(
                "{} on {}: the sealed field `{path}` takes {}, not {}",
                self.command,
                self.collection.namespace,
                field.types.describe(),
                crate::schema::Types::alias_of(kind),
            ),
        )
    }

    /// Where `path` leads from the top level, for what looks at what stands there: it is
    /// refused where the value may not be read.
    pub(super) fn place(&self, path: &str) -> Result<Place<'c>, Refusal> {
        self.place_from(Tree::ROOT, path)
    }

    /// The same from `node`.
    pub(super) fn place_from(&self, node: NodeId, path: &str) -> Result<Place<'c>, Refusal> {
        match self.unasked_place_from(node, path)? {
            Place::Sealed { field, .. } if field.is_masked() => Err(self.unreadable(field)),
            place => Ok(place),
        }
    }

    /// Where `path` leads from the top level, for what asks nothing of what stands there:
    /// what is written, or left in a reply or out of it.
    pub(super) fn unasked_place(&self, path: &str) -> Result<Place<'c>, Refusal> {
        self.unasked_place_from(Tree::ROOT, path)
    }

    /// The same from `node`.
    pub(super) fn unasked_place_from(
        &self,
        node: NodeId,
        path: &str,
    ) -> Result<Place<'c>, Refusal> {
        let mut at = node;
        let mut components = path.split('.');
        while let Some(component) = components.next() {
            match self.tree().step(at, component) {
                Step::Open => return Ok(Place::Open),
                Step::Inner(next) => at = next,
                Step::Sealed(leaf) => {
                    let field: &'c Field = self.collection.field(leaf);
                    return self.below(field, components, path);
                }
                Step::Mixed => return Err(self.mixed(path)),
                Step::Ambiguous => {
                    return Err(self.refuse(
                        path,
                        "a number or position below `*`",
                        "name the field itself",
                    ));
                }
            }
        }
        Ok(Place::Inner(at))
    }

    fn below<'p>(
        &self,
        field: &'c Field,
        rest: impl Iterator<Item = &'p str>,
        path: &str,
    ) -> Result<Place<'c>, Refusal> {
        let mut element = false;
        for component in rest {
            let token = field
                .equality
                .as_ref()
                .is_some_and(|equality| equality.writes(component));
            if self.stored && token && !field.is_masked() {
                return Ok(Place::Open);
            }
            if !field.elements || !crate::schema::is_position(component) {
                let refuse = |what: &str| {
                    self.refuse(
                        &field.path,
                        what,
                        "the field is sealed as one value: read or write it whole",
                    )
                };
                let told = refuse(&format!("the path `{path}`, which goes inside it,"));
                return Err(told.logged_as(refuse("a path that goes inside it")));
            }
            if element {
                return Err(self.refuse(
                    path,
                    "a position in an array within an array",
                    "address the element itself",
                ));
            }
            element = true;
        }
        Ok(Place::Sealed { field, element })
    }
}

/// Why what goes by content is refused on a sealed field, and what to do instead.
pub(super) mod by_content {
    /// Of what has no advice of its own.
    pub(in crate::rewrite) const BY_CONTENT: &str = "MongoDB only has its ciphertext";
    /// Of what computes a value.
    pub(in crate::rewrite) const COMPUTE: &str = "MongoDB only has its ciphertext: compute in the service, or keep the result in an open field";
    /// Of what asks for an order.
    pub(in crate::rewrite) const ORDER: &str = "MongoDB only has its ciphertext: keep a coarser value (a year, a range) in an open field, and compare that";
    /// Of what asks for equality, without tokens.
    pub(in crate::rewrite) const EQUALITY: &str =
        "MongoDB only has its ciphertext: `queries = [\"equality\"]` in the schema adds equality";
    /// Of what asks for a part of a string.
    pub(in crate::rewrite) const PATTERN: &str = "MongoDB only has its ciphertext: ask for whole values, or keep the part that is asked for in an open field";
    /// Of comparisons with documents and arrays.
    pub(in crate::rewrite) const WHOLE: &str = "MongoDB only has its ciphertext: compare with single values, of the types that the schema names";
    /// Of what asks whether a value is true.
    pub(in crate::rewrite) const TRUTH: &str =
        "MongoDB only has its ciphertext: compare it with a constant, as in {$eq: [<field>, true]}";
    /// Of what would look at all that a document holds.
    pub(in crate::rewrite) const LOOK: &str =
        "MongoDB only has its ciphertext: name the open fields, or do it in the service";
    /// Of what a projection computes under a sealed field's name.
    pub(in crate::rewrite) const RENAME: &str =
        "MongoDB only has its ciphertext: project it under a name where nothing is sealed";
    /// Of kinds of indexes that tokens do not fit.
    pub(in crate::rewrite) const INDEX: &str = "MongoDB only has its ciphertext: index it ascending, descending or hashed, or index an open field";
    /// Of what sorts an array.
    pub(in crate::rewrite) const SORT_ARRAY: &str =
        "MongoDB only has its ciphertext: sort by an open field, or in the service";
    /// Of places on earth.
    pub(in crate::rewrite) const PLACE: &str =
        "MongoDB only has its ciphertext: keep a coarser place in an open field";
}
pub(super) use by_content::BY_CONTENT;
