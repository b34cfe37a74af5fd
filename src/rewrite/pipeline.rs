//! Aggregation pipelines: sealed fields are followed from stage to stage.
//!
//! Between two stages the documents have a known shape: which places hold sealed
//! values, and of which fields. Each stage is rewritten by the shape it reads, and
//! says which shape it gives.

mod fields;
mod group;
mod joins;
mod keys;
mod reach;
mod sets;
mod stages;
mod targets;
mod update;
mod windows;

use std::cell::Cell;
use std::sync::Arc;

use super::expression::{Constants, Environment, Expressions, Variable};
use super::scope::{DEEPEST, Scope};
use super::shape::{Content, Shape};
use crate::policy::{Collection, Policy, Views};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::{OnPlaintext, Tree};
pub(super) use reach::reaches;
pub(super) use update::rewrite as update;

type Result<T = ()> = std::result::Result<T, Refusal>;

/// Rewrites the pipelines of one command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pipeline<'p> {
    /// The command's name.
    pub(super) command: &'p str,
    /// The collection that it runs on, for messages.
    pub(super) namespace: &'p str,
    pub(super) policy: &'p Policy,
    /// The views that are known.
    pub(super) views: &'p Views,
    pub(super) database: &'p str,
    /// Whether plaintext may stand where sealed values belong: in any collection that
    /// was met so far.
    pub(super) on_plaintext: &'p Cell<OnPlaintext>,
    /// Whether MongoDB would compare the collection's strings by a collation.
    pub(super) collated: bool,
    /// Set when a comparison became one of tokens.
    pub(super) compared: &'p Cell<bool>,
    /// The command's `let`.
    pub(super) constants: Option<&'p Constants<'p>>,
    /// Whether the stages are as MongoDB stores them, in the definition of a view.
    pub(super) stored: bool,
    /// Whether MongoDB is to keep the stages, as the definition of a view.
    pub(super) kept: bool,
}

/// The documents between two stages.
#[derive(Debug, Clone)]
pub(super) struct Documents {
    pub(super) content: Content,
    pub(super) holds: Holds,
    /// The same as a collection, made when it is first needed.
    collection: Option<Arc<Collection>>,
}

/// What documents are, if they are not of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Documents,
    /// Events of a change stream.
    Events,
    /// What MongoDB says of indexes, plans and collections.
    Statistics,
}

/// The parts of an event that are opened as such.
pub(super) const EVENT: &[&str] = &[
    "ns",
    "documentKey",
    "fullDocument",
    "fullDocumentBeforeChange",
    "updateDescription",
    "operationDescription",
];

impl Holds {
    /// What comes out of a stage that gives documents of another shape.
    fn after(self, stage: &Element<'_>) -> Result<Self> {
        if self == Self::Statistics {
            // Stored names are in them, whatever else becomes of them.
            return Ok(self);
        }
        Ok(match stage.key {
            "$changeStream" => Self::Events,
            "$changeStreamSplitLargeEvent" | "$unset" => self.events(),
            "$project" | "$addFields" | "$set" if keeps_event(stage.object()?)? => self.events(),
            "$indexStats" | "$planCacheStats" | "$collStats" => Self::Statistics,
            _ => Self::Documents,
        })
    }

    fn events(self) -> Self {
        match self {
            Self::Events => Self::Events,
            _ => Self::Documents,
        }
    }
}

/// Whether a stage leaves the parts of an event as they are, or leaves them out.
fn keeps_event(fields: Doc<'_>) -> Result<bool> {
    for field in fields.elements() {
        let field = field?;
        let part = field.key.split('.').next().unwrap_or_default();
        let plain = field.kind == kind::BOOL || field.integer().is_some();
        if EVENT.contains(&part) && !plain {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A stage, and the documents that it reads.
#[derive(Clone, Copy)]
struct Reading<'a> {
    scope: &'a Scope<'a>,
    /// `stage 2, `$group`,` for messages.
    what: &'a str,
    root: &'a Content,
}

/// A stage of an aggregation, which may read other collections as well.
struct Stage<'a> {
    reading: Reading<'a>,
    pipeline: &'a Pipeline<'a>,
    depth: usize,
}

impl<'a> std::ops::Deref for Stage<'a> {
    type Target = Reading<'a>;

    fn deref(&self) -> &Reading<'a> {
        &self.reading
    }
}

/// What a stage makes of the documents.
struct Outcome {
    /// None if it leaves them as they are.
    content: Option<Content>,
    /// Stages to be put behind it.
    more: Vec<Vec<u8>>,
}

impl From<Content> for Outcome {
    fn from(content: Content) -> Self {
        Self {
            content: Some(content),
            more: Vec::new(),
        }
    }
}

impl Outcome {
    /// The documents as they were.
    const fn same() -> Self {
        Self {
            content: None,
            more: Vec::new(),
        }
    }
}

impl Documents {
    /// Those of a sealed collection.
    pub(super) fn stored(collection: &Arc<Collection>) -> Self {
        Self {
            content: Content::Document(Shape::of(collection)),
            holds: Holds::Documents,
            collection: Some(Arc::clone(collection)),
        }
    }

    /// Those of any content.
    pub(super) fn of(content: Content) -> Self {
        Self {
            content,
            holds: Holds::Documents,
            collection: None,
        }
    }

    /// The collection that has their shape.
    pub(super) fn collection(
        &mut self,
        namespace: &str,
        on_plaintext: OnPlaintext,
    ) -> Arc<Collection> {
        let made = self.collection.get_or_insert_with(|| {
            let empty = Shape::default();
            let shape = match &self.content {
                Content::Document(shape) => shape,
                _ => &empty,
            };
            Arc::new(shape.collection(namespace, on_plaintext))
        });
        Arc::clone(made)
    }

    /// The same as the shape of a view.
    pub(super) fn derived(mut self, namespace: &str, on_plaintext: OnPlaintext) -> Arc<Collection> {
        self.collection = None;
        self.collection(namespace, on_plaintext)
    }
}

impl<'p> Pipeline<'p> {
    /// Rewrites the stages in `array`, in place; returns the documents that come out.
    ///
    /// `prefix` stands before a stage's index in messages: where a pipeline within
    /// a stage is.
    pub(super) fn rewrite<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        array: Doc<'m>,
        mut documents: Documents,
        variables: Option<&Variable<'_>>,
        prefix: &str,
        depth: usize,
    ) -> Result<Documents> {
        if depth > DEEPEST {
            return Err(Malformed("a pipeline is nested too deep").into());
        }
        let mark = splicer.mark();
        let mut added = 0_usize;
        for (index, stage) in array.elements().enumerate() {
            let stage = stage?;
            let doc = stage.object()?;
            let operator = only(doc)?;
            let what = format!("stage {prefix}{index}, `{}`,", operator.key);
            let collection = documents.collection(self.namespace, self.on_plaintext.get());
            let mut scope = self.scope(&collection);
            scope.root = Some(&documents.content);
            scope.variables = variables;
            let reading = Stage {
                reading: Reading {
                    scope: &scope,
                    what: &what,
                    root: &documents.content,
                },
                pipeline: self,
                depth,
            };
            for before in reading.ahead(&operator)? {
                splicer.replace(stage.start, stage.start, |out| {
                    Writer::new(out).value(kind::DOCUMENT, &(index + added).to_string(), &before);
                });
                added += 1;
            }
            if added > 0 {
                splicer.replace(stage.start + 1, stage.value_start, |out| {
                    out.extend_from_slice((index + added).to_string().as_bytes());
                    out.push(0);
                });
            }
            let within = splicer.mark();
            let outcome = reading
                .rewrite(splicer, &operator)
                .map_err(|refusal| refusal.within(what.trim_end_matches(',')))?;
            if scope.compared.get() {
                self.compared.set(true);
            }
            splicer.mend_length(doc.start(), within)?;
            for more in &outcome.more {
                added += 1;
                splicer.replace(stage.end, stage.end, |out| {
                    Writer::new(out).value(kind::DOCUMENT, &(index + added).to_string(), more);
                });
            }
            counted(
                &scope,
                &what,
                index,
                outcome.content.as_ref().unwrap_or(&documents.content),
            )?;
            if let Some(content) = outcome.content {
                documents = Documents {
                    holds: documents.holds.after(&operator)?,
                    ..Documents::of(content)
                };
            }
        }
        splicer.mend_length(array.start(), mark)?;
        Ok(documents)
    }

    /// The scope of what reads documents that have the shape of `collection`.
    fn scope<'c>(&self, collection: &'c Collection) -> Scope<'c>
    where
        'p: 'c,
    {
        let mut scope = Scope::new(self.command, collection, self.collated);
        scope.constants = self.constants;
        scope.stored = self.stored;
        scope.kept.set(self.kept);
        // Where several fields may stand, one of them may be masked.
        scope.masks |= self.policy.masks_unknown() && collection.tree.has_mixed();
        scope
    }

    /// What a collection, or a view, holds that a stage reads.
    pub(super) fn source(
        &self,
        database: &str,
        name: &Element<'_>,
        stage: &str,
    ) -> Result<Documents> {
        let Some(collection) = name.str() else {
            return Err(Malformed("a collection is not named by a string").into());
        };
        super::permission::check_internal(self.policy, self.command, database, collection)?;
        if super::reach::defines_views(self.policy, database, collection) {
            return Err(self.refuse_reach(stage, collection, "make views with `create`"));
        }
        if self.views.reaching(database, collection) {
            return match self.views.shape(database, collection) {
                Some(shape) => Ok(self.stored(&shape)),
                None => Err(self.refuse_reach(
                    stage,
                    collection,
                    "it is a view whose stages could not be followed; read the sealed collection itself",
                )),
            };
        }
        Ok(
            match self.policy.collection(&format!("{database}.{collection}")) {
                Some(sealed) => self.stored(&sealed),
                None => Documents::of(Content::Open),
            },
        )
    }

    fn stored(&self, collection: &Arc<Collection>) -> Documents {
        if collection.on_plaintext.is_expected() {
            self.on_plaintext.set(OnPlaintext::Allow);
        }
        Documents::stored(collection)
    }

    fn refuse_reach(&self, stage: &str, collection: &str, advice: &str) -> Refusal {
        Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{} on {}: {stage} reaches {collection}, which has sealed fields; {advice}",
                self.command, self.namespace
            ),
        )
    }
}

/// Whether a stage is one more than MongoDB takes, or gives documents that are too
/// large to be followed: a stage can double them.
fn counted(scope: &Scope<'_>, what: &str, index: usize, documents: &Content) -> Result {
    const STAGES: usize = 1_000;
    if index >= STAGES {
        return Err(scope.refuse_command(what, "MongoDB takes 1000 stages in a pipeline"));
    }
    if documents.places().is_none() {
        return Err(scope.refuse_command(
            what,
            "it gives documents of too many fields to be followed: leave out what is not needed",
        ));
    }
    Ok(())
}

/// The one operator of a stage.
fn only(doc: Doc<'_>) -> Result<Element<'_>> {
    let mut operators = doc.elements();
    let operator = operators
        .next()
        .transpose()?
        .ok_or(Malformed("a stage is empty"))?;
    if operators.next().is_some() {
        return Err(Malformed("a stage has more than one field").into());
    }
    Ok(operator)
}

impl<'a> Reading<'a> {
    fn expressions(&self) -> Expressions<'a, 'a> {
        Expressions::new(self.scope, self.what)
    }

    fn environment(&self) -> Environment<'a> {
        Environment::of(self.scope, self.root)
    }

    /// The shape of the documents that it reads.
    fn shape(&self) -> Result<Shape> {
        match self.root {
            Content::Document(shape) => Ok(shape.clone()),
            content if content.is_open() => Ok(Shape::default()),
            _ => Err(self.scope.refuse_command(
                self.what,
                "after the stages before, it is not known where sealed values stand",
            )),
        }
    }

    /// Refuses to put something inside of a sealed value.
    fn refuse_inside(&self, path: &str) -> Refusal {
        self.scope.refuse(
            path,
            self.what,
            "the path goes inside a sealed value, or through a place of which too little is known",
        )
    }

    /// Whether nothing sealed is at, above or below a path that is named.
    fn open_path(&self, path: &str, advice: &str) -> Result {
        match self.scope.place(path)? {
            super::scope::Place::Open => Ok(()),
            _ => Err(self.scope.refuse(path, self.what, advice)),
        }
    }
}

/// The node at which documents begin.
const ROOT: crate::schema::NodeId = Tree::ROOT;
