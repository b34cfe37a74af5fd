//! Aggregation expressions over documents of a known shape.
//!
//! An expression may move sealed values, compare them for equality by their
//! tokens, and ask whether they are there. What would compute on ciphertext is
//! refused. Each expression is written anew with a [`Want`], which is handed down
//! to the places that decide: fields, variables and constants.

mod branches;
mod comparing;
mod constants;
mod items;
mod keys;
mod names;
mod operators;
mod reading;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::scope::{DEEPEST, Scope, by_content};
use super::shape::{Content, Shape};
use crate::policy::{Equality, Field};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;
use crate::schema::Types;
pub(super) use constants::{constants, own_constants};
use constants::{is_constant, literal};
use keys::write_key;
pub(super) use reading::{Constants, Environment, Variable};

type Result<T = ()> = std::result::Result<T, Refusal>;

/// In which form the value of an expression is needed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want<'w> {
    /// As it is stored, to be moved.
    Value,
    /// The same, where it stands for a value of this content: constants that the
    /// field may have are sealed as its values, and stay comparable with them.
    Beside(&'w Content),
    /// To ask whether it is true.
    Truth,
    /// Comparable for equality with others of this domain: tokens for sealed values.
    Key(&'w Equality),
    /// The same, of an array whose order does not matter.
    Set(&'w Equality),
    /// As [`Want::Key`], to be compared with constants that are neither null nor arrays:
    /// a plain path, which an index can answer.
    Token(&'w Equality),
    /// As it is stored in a place of this content: constants are sealed.
    Stored(&'w Content),
}

/// How often what an expression gives is looked at within looking at it.
const LOOKS: usize = 64;

/// How many places all that the expressions of one stage read may have.
const READ: usize = 200_000;

/// How deep in arrays values may stand that are compared.
const ARRAYS: usize = 32;

/// Rewrites the expressions of one stage or option.
pub(super) struct Expressions<'s, 'c> {
    scope: &'s Scope<'c>,
    /// What the expression belongs to, for messages.
    what: &'s str,
    changed: Cell<bool>,
    /// How many looks ahead are going on, which rewrite nothing.
    ahead: Cell<usize>,
    /// How many more times what is looked at may be looked at.
    looks: Cell<usize>,
    /// The last sealed field that was read, to be given on.
    met: RefCell<Option<Arc<Field>>>,
    /// A path where no array stands, as a test has told.
    single: RefCell<Option<String>>,
    /// Whether the value of a `$reduce` is being followed.
    reducing: Cell<bool>,
    /// How many places what was read had.
    places: Cell<usize>,
    /// The types of all sealed fields that were read.
    types: Cell<Types>,
    /// Whether constants count as nothing: what would be there without them is asked.
    filling: Cell<bool>,
    /// Whether a look ahead has seen a constant among sealed values.
    spilled: Cell<bool>,
}

impl<'s, 'c> Expressions<'s, 'c> {
    pub(super) fn new(scope: &'s Scope<'c>, what: &'s str) -> Self {
        Self {
            scope,
            what,
            changed: Cell::new(false),
            ahead: Cell::new(0),
            looks: Cell::new(0),
            met: RefCell::new(None),
            single: RefCell::new(None),
            reducing: Cell::new(false),
            places: Cell::new(0),
            types: Cell::new(Types::NONE),
            filling: Cell::new(false),
            spilled: Cell::new(false),
        }
    }

    /// Rewrites the expression in `element` in place; returns what it gives.
    pub(super) fn rewrite<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        want: Want<'_>,
        env: Environment<'_>,
    ) -> Result<Content> {
        self.in_place(splicer, element, |out| {
            self.write(out, element.key, element, want, env, 0)
        })
    }

    /// Replaces `element` by what `write` appends, if anything in it was rewritten.
    pub(super) fn in_place<'m, R>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<R>,
    ) -> Result<R> {
        let before = self.changed.replace(false);
        let mut out = Vec::with_capacity(element.end - element.start);
        let result = write(&mut out)?;
        if self.changed.get() {
            splicer.replace(element.start, element.end, |frame| {
                frame.extend_from_slice(&out);
            });
        }
        self.changed.set(before || self.changed.get());
        Ok(result)
    }

    /// Rewrites what is put where `before` stands: constants are sealed as that is.
    pub(super) fn rewrite_at<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        before: Option<&Content>,
        env: Environment<'_>,
    ) -> Result<Content> {
        let before = before.cloned().map(Content::writable);
        let want = before.as_ref().map_or(Want::Value, beside);
        self.rewrite(splicer, element, want, env)
    }

    /// What an expression gives, and a sealed field that it reads; nothing is rewritten.
    pub(super) fn look(
        &self,
        element: &Element<'_>,
        env: Environment<'_>,
    ) -> Result<(Content, Option<Arc<Field>>)> {
        self.ahead(|| self.write(&mut Vec::new(), "", element, Want::Value, env, 0))
    }

    /// Runs `write` without keeping what it changes.
    fn ahead(
        &self,
        write: impl FnOnce() -> Result<Content>,
    ) -> Result<(Content, Option<Arc<Field>>)> {
        let changed = self.changed.get();
        let outer = self.met.take();
        if !self.looks_ahead() {
            self.looks.set(LOOKS);
        }
        self.ahead.set(self.ahead.get() + 1);
        let content = write();
        self.ahead.set(self.ahead.get() - 1);
        self.changed.set(changed);
        let met = self.met.replace(outer);
        Ok((content?, met))
    }

    fn looks_ahead(&self) -> bool {
        self.ahead.get() > 0
    }

    /// Appends the expression in `element` under the name `key`, in the form that is wanted.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        element: &Element<'_>,
        want: Want<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Content> {
        deep(depth)?;
        if let Want::Stored(target) | Want::Beside(target) = want
            && let Some(content) = self.write_constant(out, key, element, want, target)?
        {
            return Ok(content);
        }
        let content = match element.kind {
            kind::STRING => {
                let text = element.str().ok_or(Malformed("a string is not UTF-8"))?;
                match text.strip_prefix('$') {
                    Some(path) => self.path(out, key, text, path, want, env)?,
                    None => self.constant(out, key, element, want)?,
                }
            }
            // MongoDB takes a symbol for a string in some places.
            kind::SYMBOL => {
                return Err(self
                    .scope
                    .refuse_command("a symbol in an expression", "use a string"));
            }
            kind::ARRAY => self.array(out, key, element.doc()?, want, env, depth)?,
            kind::DOCUMENT if is_operator(element)? => {
                return self.operator(out, key, element, want, env, depth);
            }
            kind::DOCUMENT => self.object(out, key, element, want, env, depth)?,
            _ => self.constant(out, key, element, want)?,
        };
        self.check(&content, want)?;
        Ok(content)
    }

    /// Whether what an expression gives is good for what is wanted of it.
    fn check(&self, content: &Content, want: Want<'_>) -> Result {
        match want {
            Want::Stored(target) if !content.fits(target) => Err(self.misfit(content, target)),
            Want::Beside(target) => self.spill(content, target),
            _ => Ok(()),
        }
    }

    /// What may be there if it is one or the other, where no constant of the service
    /// stands in plain among sealed values.
    pub(super) fn either(&self, one: Content, other: Content) -> Result<Content> {
        self.spill(&one, &other)?;
        Ok(one.or(other))
    }

    /// Refuses to let constants stand among sealed values as they are.
    pub(in crate::rewrite) fn spill(&self, one: &Content, other: &Content) -> Result {
        let Some(path) = one.mixed_at(other, self.types.get()) else {
            return Ok(());
        };
        if self.looks_ahead() {
            self.spilled.set(true);
            return Ok(());
        }
        Err(match (one, other) {
            (Content::Masked(sealed), _) | (_, Content::Masked(sealed)) => {
                self.scope.unreadable(&sealed.field)
            }
            _ => self.scope.refuse_spill(&path, self.what),
        })
    }

    fn misfit(&self, content: &Content, target: &Content) -> Refusal {
        self.scope.refuse(
            &content.misfit(target),
            &format!(
                "{} a value that is not sealed for that very field",
                self.what
            ),
            "give it a constant, or its own value",
        )
    }

    /// A path, or a path below a variable.
    fn path(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        text: &str,
        path: &str,
        want: Want<'_>,
        env: Environment<'_>,
    ) -> Result<Content> {
        if let Some(constant) = env.constant(text) {
            let sealed = match want {
                Want::Key(_) | Want::Set(_) | Want::Token(_) => {
                    Some(self.constant(out, key, &constant.value, want)?)
                }
                Want::Stored(target) | Want::Beside(target) => {
                    self.write_sealed(out, key, &constant.value, want, target)?
                }
                Want::Value | Want::Truth => None,
            };
            if let Some(content) = sealed {
                if !self.looks_ahead() {
                    constant.sealed.set(true);
                }
                return Ok(content);
            }
        }
        let mut content = self.read(text, path, env)?;
        self.bounded(&content)?;
        self.types
            .set(self.types.get().union(content.sealed_types()));
        if let Content::Sealed(sealed) | Content::Masked(sealed) = &mut content
            && self.single.borrow().as_deref() == Some(text)
        {
            sealed.arrays = 0;
        }
        if let Content::Sealed(sealed) = &content {
            *self.met.borrow_mut() = Some(Arc::clone(&sealed.field));
        }
        let mut writer = Writer::new(out);
        match (want, &content) {
            (Want::Value | Want::Beside(_) | Want::Stored(_), _) | (_, Content::Nothing) => {
                writer.string(key, text);
            }
            (Want::Truth, content) => {
                self.truth(content)?;
                writer.string(key, text);
            }
            (Want::Key(equality) | Want::Set(equality), Content::Sealed(sealed)) => {
                self.same_domain(equality, &sealed.field)?;
                self.shallow(sealed)?;
                self.changed.set(true);
                self.scope.compared.set(true);
                write_key(&mut writer, key, text, equality, sealed.arrays);
            }
            (Want::Token(equality), Content::Sealed(sealed)) => {
                self.same_domain(equality, &sealed.field)?;
                self.changed.set(true);
                self.scope.compared.set(true);
                writer.string(key, &format!("{text}{}", equality.suffix));
            }
            (Want::Key(_) | Want::Set(_) | Want::Token(_), content) if content.is_open() => {
                return Err(self.refuse_open(text));
            }
            (Want::Key(_) | Want::Set(_) | Want::Token(_), content) => {
                return Err(self.refuse_whole(content));
            }
        }
        Ok(content)
    }

    fn array(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        array: Doc<'_>,
        want: Want<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Content> {
        let target = match want {
            Want::Value | Want::Truth if !self.plain_items(array)? => {
                self.beside(|| self.items(&mut Vec::new(), key, array, Want::Value, env, depth))?
            }
            _ => None,
        };
        let want = target.as_ref().map_or(want, Want::Beside);
        let element_target;
        let inner = match want {
            Want::Value | Want::Truth => Want::Value,
            Want::Key(_) | Want::Set(_) | Want::Token(_) => want,
            Want::Beside(target) => {
                element_target = target.item();
                Want::Beside(&element_target)
            }
            Want::Stored(Content::Sealed(sealed)) if sealed.arrays == 0 => Want::Value,
            Want::Stored(target) => {
                element_target = target.item();
                Want::Stored(&element_target)
            }
        };
        let content = self.items(out, key, array, inner, env, depth)?;
        if let Want::Stored(target @ Content::Sealed(sealed)) = want
            && matches!(content, Content::Nothing)
            && !array.is_empty()
            && sealed.field.is_joined()
        {
            // Null in an array, which a join by tokens would miss.
            return Err(self.misfit(&content, target));
        }
        Ok(match content {
            Content::Constant(types) => Content::Constant(types.union(Types::of(kind::ARRAY))),
            content => content.in_array(),
        })
    }

    /// The items of an array, of which each is wanted as `inner`.
    fn items(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        array: Doc<'_>,
        inner: Want<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Content> {
        let mut writer = Writer::new(out);
        let open = writer.begin_array(key);
        let mut content = Content::Nothing;
        for item in array.elements() {
            let item = item?;
            let of_item = self.write(writer.buffer(), item.key, &item, inner, env, depth + 1)?;
            content = self.either(content, of_item)?;
        }
        writer.end(open);
        Ok(content)
    }

    /// Whether all items are constants, or one alone: nothing stands beside another then.
    fn plain_items(&self, array: Doc<'_>) -> Result<bool> {
        let mut count = 0;
        let mut constant = true;
        for item in array.elements() {
            count += 1;
            constant = constant && is_constant(&item?, 0)?;
        }
        Ok(constant || count < 2)
    }

    /// A document whose fields are expressions.
    fn object(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        element: &Element<'_>,
        want: Want<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Content> {
        if let Want::Key(_) | Want::Set(_) | Want::Token(_) = want {
            return Err(self.scope.refuse_command(
                &format!("{} comparison of a sealed field with a document", self.what),
                by_content::WHOLE,
            ));
        }
        let mut shape = Shape::closed();
        let mut writer = Writer::new(out);
        let open = writer.begin_doc(key);
        for field in element.doc()?.elements() {
            let field = field?;
            if field.key.starts_with('$') {
                return Err(Malformed("an operator stands among names of fields").into());
            }
            let target;
            let inner = match want {
                Want::Stored(Content::Document(shape)) => {
                    target = shape.named(field.key);
                    Want::Stored(&target)
                }
                Want::Beside(Content::Document(shape)) => {
                    target = shape.named(field.key);
                    beside(&target)
                }
                _ => Want::Value,
            };
            let content = self.write(writer.buffer(), field.key, &field, inner, env, depth + 1)?;
            if field.key.contains('.') && !content.is_open() {
                return Err(self.refuse_dotted());
            }
            shape.put(field.key, content);
        }
        writer.end(open);
        let content = Content::Document(shape);
        if !content.is_open() {
            self.bounded(&content)?;
        }
        Ok(content)
    }

    /// Refuses to follow documents that grow without bounds.
    fn bounded(&self, content: &Content) -> Result {
        let places = content.places().map(|places| places + self.places.get());
        match places.filter(|places| *places <= READ) {
            Some(places) => {
                self.places.set(places);
                Ok(())
            }
            None => Err(self.scope.refuse_command(
                &format!("{} documents of so many fields", self.what),
                "read the fields that are needed one by one",
            )),
        }
    }

    /// Refuses to compare what may stand too deep in arrays.
    fn shallow(&self, sealed: &super::shape::Sealed) -> Result {
        if sealed.arrays <= ARRAYS {
            return Ok(());
        }
        Err(self.scope.refuse(
            &sealed.field.path,
            &format!("{} comparison in so many arrays", self.what),
            "take the arrays apart by $unwind before",
        ))
    }

    fn truth(&self, content: &Content) -> Result {
        match content {
            Content::Nothing | Content::Open | Content::Constant(_) | Content::Document(_) => {
                Ok(())
            }
            Content::Sealed(sealed) => {
                let types = sealed.field.types;
                let may_be_false = [
                    kind::BOOL,
                    kind::INT32,
                    kind::INT64,
                    kind::DOUBLE,
                    kind::DECIMAL128,
                ];
                if may_be_false.iter().any(|kind| types.allows(*kind)) {
                    return Err(self.scope.refuse(
                        &sealed.field.path,
                        &format!("{} asking whether it is true", self.what),
                        by_content::TRUTH,
                    ));
                }
                Ok(())
            }
            Content::Masked(_) | Content::Mixed => Err(self.refuse_whole(content)),
        }
    }

    /// Refuses to compare sealed values with open ones.
    fn refuse_open(&self, text: &str) -> Refusal {
        self.scope.refuse_command(
            &format!("{} comparison of a sealed field with `{text}`", self.what),
            "compare it with a constant, or with a sealed field of the same `domain`",
        )
    }

    /// Refuses to look at what holds sealed values.
    fn refuse_whole(&self, content: &Content) -> Refusal {
        if content.masked().is_none() && content.sealed_path().is_empty() {
            return self.scope.refuse_command(
                &format!(
                    "{} looking at a place where sealed and open values may stand",
                    self.what
                ),
                "name the fields one by one",
            );
        }
        let what = format!(
            "{}, which would look at it,",
            self.what.trim_end_matches(',')
        );
        self.refuse_content(content, &what, by_content::LOOK)
    }

    /// Refuses what does `what` with sealed values, be they such as may not be read.
    pub(in crate::rewrite) fn refuse_content(
        &self,
        content: &Content,
        what: &str,
        advice: &str,
    ) -> Refusal {
        match content.masked() {
            Some(field) => self.scope.unreadable(field),
            None => self.scope.refuse(&content.sealed_path(), what, advice),
        }
    }
}

/// What is wanted where `before` stands, or something that stands for it.
pub(super) fn beside(before: &Content) -> Want<'_> {
    match before {
        Content::Mixed => Want::Value,
        content if content.is_open() => Want::Value,
        content => Want::Beside(content),
    }
}

fn deep(depth: usize) -> Result {
    if depth > DEEPEST {
        return Err(Malformed("an expression is nested too deep").into());
    }
    Ok(())
}

/// Whether a document is an operator and its operand.
pub(super) fn is_operator(element: &Element<'_>) -> Result<bool> {
    if element.kind != kind::DOCUMENT {
        return Ok(false);
    }
    let mut fields = element.doc()?.elements();
    let Some(first) = fields.next().transpose()? else {
        return Ok(false);
    };
    if !first.key.starts_with('$') {
        return Ok(false);
    }
    match fields.next() {
        None => Ok(true),
        Some(_) => Err(Malformed("an expression has more than one operator").into()),
    }
}
