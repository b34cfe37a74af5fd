//! Aggregation expressions over documents of a known shape.
//!
//! An expression may move sealed values, compare them for equality by their
//! tokens, and ask whether they are there. What would compute on ciphertext is
//! refused. Each expression is written anew with a [`Want`], which is handed down
//! to the places that decide: fields, variables and constants.

mod names;
mod operators;
mod reading;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::document::write_field;
use super::scope::{BY_CONTENT, DEEPEST, Scope};
use super::shape::{Content, Shape};
use crate::policy::{Equality, Field};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;
pub(super) use reading::{Constants, Environment, Variable};

type Result<T = ()> = std::result::Result<T, Refusal>;

/// In which form the value of an expression is needed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want<'w> {
    /// As it is stored, to be moved.
    Value,
    /// To ask whether it is true.
    Truth,
    /// Comparable for equality with others of this domain: tokens for sealed values.
    Key(&'w Equality),
    /// The same, to be compared with constants that are neither null nor arrays:
    /// a plain path, which an index can answer.
    Token(&'w Equality),
    /// As it is stored in a place of this content: constants are sealed.
    Stored(&'w Content),
}

/// Rewrites the expressions of one stage or option.
pub(super) struct Expressions<'s, 'c> {
    scope: &'s Scope<'c>,
    /// What the expression belongs to, for messages.
    what: &'s str,
    changed: Cell<bool>,
    /// How many looks ahead are going on, which rewrite nothing.
    ahead: Cell<usize>,
    /// The last sealed field that was read.
    met: RefCell<Option<Arc<Field>>>,
}

impl<'s, 'c> Expressions<'s, 'c> {
    pub(super) fn new(scope: &'s Scope<'c>, what: &'s str) -> Self {
        Self {
            scope,
            what,
            changed: Cell::new(false),
            ahead: Cell::new(0),
            met: RefCell::new(None),
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

    /// Rewrites an expression whose values are only told apart, as a group's key is.
    /// Returns what it gives, and whether tokens stand for sealed values in it.
    pub(super) fn write_group_key(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        element: &Element<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<(Content, bool)> {
        deep(depth)?;
        let (content, met) = self.look(element, env)?;
        if content.is_open() {
            self.write(out, key, element, Want::Value, env, depth)?;
            return Ok((content, false));
        }
        if element.kind == kind::DOCUMENT && !is_operator(element)? {
            let mut writer = Writer::new(out);
            let open = writer.begin_doc(key);
            for field in element.doc()?.elements() {
                let field = field?;
                self.write_group_key(writer.buffer(), field.key, &field, env, depth + 1)?;
            }
            writer.end(open);
            return Ok((content, true));
        }
        let field = met.ok_or_else(|| self.refuse_whole(&content))?;
        let equality = self.equality(&field)?;
        self.write(out, key, element, Want::Key(equality), env, depth)?;
        Ok((content, true))
    }

    /// What an expression gives, and a sealed field that it reads; nothing is rewritten.
    pub(super) fn look(
        &self,
        element: &Element<'_>,
        env: Environment<'_>,
    ) -> Result<(Content, Option<Arc<Field>>)> {
        let changed = self.changed.get();
        let outer = self.met.take();
        self.ahead.set(self.ahead.get() + 1);
        let content = self.write(&mut Vec::new(), "", element, Want::Value, env, 0);
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
        if let Want::Stored(target) = want
            && let Some(content) = self.write_constant(out, key, element, target)?
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
            _ => Ok(()),
        }
    }

    fn misfit(&self, content: &Content, target: &Content) -> Refusal {
        let path = match target.sealed_path() {
            path if path.is_empty() => content.sealed_path(),
            path => path,
        };
        self.scope.refuse(
            &path,
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
        if let Want::Key(_) | Want::Token(_) = want
            && let Some(constant) = env.constant(text)
        {
            if !self.looks_ahead() {
                constant.compared.set(true);
            }
            return self.constant(out, key, &constant.value, want);
        }
        let content = self.read(text, path, env)?;
        if let Content::Sealed(sealed) = &content {
            *self.met.borrow_mut() = Some(Arc::clone(&sealed.field));
        }
        let mut writer = Writer::new(out);
        match (want, &content) {
            (Want::Value | Want::Stored(_), _) | (_, Content::Nothing) => writer.string(key, text),
            (Want::Truth, content) => {
                self.truth(content)?;
                writer.string(key, text);
            }
            (Want::Key(equality), Content::Sealed(sealed)) => {
                self.same_domain(equality, &sealed.field)?;
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
            (Want::Key(_) | Want::Token(_), content) if content.is_open() => {
                return Err(self.refuse_open(text));
            }
            (Want::Key(_) | Want::Token(_), content) => return Err(self.refuse_whole(content)),
        }
        Ok(content)
    }

    /// A constant, which is open whatever it is compared with.
    fn constant(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        element: &Element<'_>,
        want: Want<'_>,
    ) -> Result<Content> {
        let mut writer = Writer::new(out);
        match want {
            Want::Key(equality) | Want::Token(equality) if !element.is_null() => {
                self.changed.set(true);
                self.scope.compared.set(true);
                match element.kind {
                    kind::ARRAY => {
                        let open = writer.begin_array(key);
                        for item in element.doc()?.elements() {
                            let item = item?;
                            self.constant(writer.buffer(), item.key, &item, want)?;
                        }
                        writer.end(open);
                    }
                    _ => {
                        let token = equality
                            .key
                            .equality(element.kind, element.value())
                            .ok_or_else(|| {
                                self.scope.refuse_command(
                                    &format!(
                                        "{} comparison of a sealed field with {}",
                                        self.what,
                                        crate::schema::Types::alias_of(element.kind)
                                    ),
                                    BY_CONTENT,
                                )
                            })?;
                        writer.binary(key, 0, &token);
                    }
                }
            }
            _ => writer.value(element.kind, key, element.value()),
        }
        let holds_none = match want {
            // It cannot hold what is sealed below.
            Want::Stored(Content::Document(_)) => {
                !matches!(element.kind, kind::DOCUMENT | kind::ARRAY)
            }
            _ => element.is_null(),
        };
        Ok(if holds_none {
            Content::Nothing
        } else {
            Content::Open
        })
    }

    /// A constant for a place that is sealed; none if this is no constant or no such place.
    fn write_constant(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        element: &Element<'_>,
        target: &Content,
    ) -> Result<Option<Content>> {
        let Content::Sealed(sealed) = target else {
            return Ok(None);
        };
        let constant = match literal(element)? {
            Some(inner) => inner,
            None if is_constant(element, 0)? => *element,
            None => return Ok(None),
        };
        if constant.is_null() {
            return Ok(None);
        }
        self.changed.set(true);
        write_field(out, self.scope, key, &sealed.field, &constant)?;
        Ok(Some(target.clone()))
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
        let element_target;
        let inner = match want {
            Want::Value | Want::Truth => Want::Value,
            Want::Key(_) | Want::Token(_) => want,
            Want::Stored(Content::Sealed(sealed)) => match sealed.arrays.checked_sub(1) {
                Some(arrays) => {
                    element_target = Content::Sealed(super::shape::Sealed {
                        field: Arc::clone(&sealed.field),
                        arrays,
                    });
                    Want::Stored(&element_target)
                }
                None => Want::Value,
            },
            Want::Stored(target) => Want::Stored(target),
        };
        let mut writer = Writer::new(out);
        let open = writer.begin_array(key);
        let mut content = Content::Nothing;
        for item in array.elements() {
            let item = item?;
            let of_item = self.write(writer.buffer(), item.key, &item, inner, env, depth + 1)?;
            content = content.or(of_item);
        }
        writer.end(open);
        Ok(content.in_array())
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
        if let Want::Key(_) | Want::Token(_) = want {
            return Err(self.scope.refuse_command(
                &format!("{} comparison of a sealed field with a document", self.what),
                BY_CONTENT,
            ));
        }
        let mut shape = Shape::closed();
        let mut writer = Writer::new(out);
        let open = writer.begin_doc(key);
        for field in element.doc()?.elements() {
            let field = field?;
            let target;
            let inner = match want {
                Want::Stored(Content::Document(shape)) => {
                    target = shape.named(field.key);
                    Want::Stored(&target)
                }
                _ => Want::Value,
            };
            let content = self.write(writer.buffer(), field.key, &field, inner, env, depth + 1)?;
            if field.key.contains('.') && !content.is_open() {
                return Err(self.scope.refuse_command(
                    &format!("{} a field name that holds a dot", self.what),
                    "nest documents instead",
                ));
            }
            shape.put(field.key, content);
        }
        writer.end(open);
        Ok(Content::Document(shape))
    }

    fn equality<'f>(&self, field: &'f Field) -> Result<&'f Equality> {
        if self.scope.collection.on_plaintext == crate::schema::OnPlaintext::Allow {
            return Err(self.scope.refuse(
                &field.path,
                self.what,
                "the collection allows plaintext, which a token would not find: end the migration and set on_plaintext = \"reject\"",
            ));
        }
        field.equality.as_ref().ok_or_else(|| {
            self.scope.refuse(
                &field.path,
                &format!("{} comparison", self.what),
                "MongoDB only has its ciphertext; `queries = [\"equality\"]` in the schema adds equality",
            )
        })
    }

    fn same_domain(&self, equality: &Equality, field: &Field) -> Result {
        if self.equality(field)?.joins(equality) {
            return Ok(());
        }
        Err(self.scope.refuse(
            &field.path,
            &format!("{} comparison with another sealed field", self.what),
            "only fields of one `domain` can be compared",
        ))
    }

    fn truth(&self, content: &Content) -> Result {
        match content {
            Content::Nothing | Content::Open | Content::Document(_) => Ok(()),
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
                        BY_CONTENT,
                    ));
                }
                Ok(())
            }
            Content::Mixed => Err(self.refuse_whole(content)),
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
        match content.sealed_path() {
            path if path.is_empty() => self.scope.refuse_command(
                &format!(
                    "{} looking at a place where sealed and open values may stand",
                    self.what
                ),
                "name the fields one by one",
            ),
            path => self.scope.refuse(
                &path,
                &format!(
                    "{}, which would look at it,",
                    self.what.trim_end_matches(',')
                ),
                BY_CONTENT,
            ),
        }
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

/// The operand of `$literal`.
fn literal<'m>(element: &Element<'m>) -> Result<Option<Element<'m>>> {
    if !is_operator(element)? {
        return Ok(None);
    }
    let first = element.doc()?.first()?;
    Ok(first.filter(|first| matches!(first.key, "$literal" | "$const")))
}

/// Whether an expression is a constant as it stands.
fn is_constant(element: &Element<'_>, depth: usize) -> Result<bool> {
    deep(depth)?;
    match element.kind {
        kind::STRING => Ok(element.str().is_some_and(|text| !text.starts_with('$'))),
        kind::DOCUMENT | kind::ARRAY => {
            for item in element.doc()?.elements() {
                let item = item?;
                if item.key.starts_with('$') || !is_constant(&item, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(true),
    }
}

/// Appends the key of what `path` reads: its tokens, in arrays at most so deep.
fn write_key(writer: &mut Writer<'_>, key: &str, path: &str, equality: &Equality, arrays: usize) {
    let Some(deeper) = arrays.checked_sub(1) else {
        // Null and what is missing have no token, and stay what they are.
        let open = writer.begin_doc(key);
        let operands = writer.begin_array("$ifNull");
        writer.string("0", &format!("{path}{}", equality.suffix));
        writer.string("1", path);
        writer.end(operands);
        writer.end(open);
        return;
    };
    let item = format!("fs{arrays}");
    let open = writer.begin_doc(key);
    let operands = writer.begin_array("$cond");
    let is_array = writer.begin_doc("0");
    let operand = writer.begin_array("$isArray");
    writer.string("0", path);
    writer.end(operand);
    writer.end(is_array);
    let mapped = writer.begin_doc("1");
    let map = writer.begin_doc("$map");
    writer.string("input", path);
    writer.string("as", &item);
    write_key(writer, "in", &format!("$${item}"), equality, deeper);
    writer.end(map);
    writer.end(mapped);
    write_key(writer, "2", path, equality, 0);
    writer.end(operands);
    writer.end(open);
}

/// Rewrites the `let` of a command: what was compared with sealed fields, and is
/// a token there, does not go to MongoDB.
pub(super) fn constants<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
) -> Result {
    let Some(constants) = scope.constants else {
        return Ok(());
    };
    let mark = splicer.mark();
    for constant in constants.iter().filter(|constant| constant.compared.get()) {
        if constant.open.get() {
            return Err(scope.refuse_command(
                "a variable of `let` that is compared with a sealed field and used elsewhere as well",
                "give the value by two variables, one for the sealed field alone",
            ));
        }
        let value = &constant.value;
        splicer.replace(value.start, value.end, |out| {
            Writer::new(out).null(value.key);
        });
    }
    splicer.mend_length(element.object()?.start(), mark)?;
    Ok(())
}
