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

use super::document::{write_field, write_value};
use super::scope::{DEEPEST, Scope, by_content};
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
        let parts = match element.kind {
            kind::DOCUMENT => !is_operator(element)?,
            kind => kind == kind::ARRAY,
        };
        if parts {
            let mut writer = Writer::new(out);
            let open = match element.kind {
                kind::ARRAY => writer.begin_array(key),
                _ => writer.begin_doc(key),
            };
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

    /// Rewrites what is put where `before` stands: constants are sealed as that is.
    pub(super) fn rewrite_at<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        before: Option<&Content>,
        env: Environment<'_>,
    ) -> Result<Content> {
        let want = match before {
            Some(sealed @ Content::Sealed(_)) => Want::Beside(sealed),
            _ => Want::Value,
        };
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
            _ => Ok(()),
        }
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
        if let Content::Sealed(sealed) = &mut content
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
            Want::Key(equality) | Want::Set(equality) | Want::Token(equality)
                if !element.is_null() =>
            {
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
                                    by_content::WHOLE,
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
        want: Want<'_>,
        target: &Content,
    ) -> Result<Option<Content>> {
        if target.is_open() {
            return Ok(None);
        }
        let constant = match literal(element)? {
            Some(inner) => inner,
            None if matches!(target, Content::Sealed(_)) && is_constant(element, 0)? => *element,
            None => return Ok(None),
        };
        self.write_sealed(out, key, &constant, want, target)
    }

    /// The same of a value that is known to be a constant.
    fn write_sealed(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        constant: &Element<'_>,
        want: Want<'_>,
        target: &Content,
    ) -> Result<Option<Content>> {
        match target {
            Content::Sealed(_) if constant.is_null() => return Ok(None),
            Content::Sealed(sealed) => {
                if let Want::Beside(_) = want
                    && !may_have(&sealed.field, constant)?
                {
                    return Ok(None);
                }
                // A stage would take a bare document for names to merge.
                let literal = Writer::new(out).begin_doc(key);
                if sealed.field.elements && sealed.arrays == 0 {
                    write_value(out, self.scope, "$literal", &sealed.field, constant)?;
                } else {
                    write_field(out, self.scope, "$literal", &sealed.field, constant)?;
                }
                Writer::new(out).end(literal);
            }
            Content::Document(shape)
                if matches!(constant.kind, kind::DOCUMENT | kind::ARRAY)
                    && matches!(want, Want::Stored(_)) =>
            {
                let literal = Writer::new(out).begin_doc(key);
                self.write_shaped(out, "$literal", constant, shape, 0)?;
                Writer::new(out).end(literal);
            }
            _ => return Ok(None),
        }
        self.changed.set(true);
        Ok(Some(target.clone()))
    }

    /// A constant document, or an array of them, sealed where `shape` is.
    fn write_shaped(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        constant: &Element<'_>,
        shape: &Shape,
        depth: usize,
    ) -> Result {
        deep(depth)?;
        let open = match constant.kind {
            kind::ARRAY => Writer::new(out).begin_array(key),
            kind::DOCUMENT => Writer::new(out).begin_doc(key),
            _ => {
                Writer::new(out).value(constant.kind, key, constant.value());
                return Ok(());
            }
        };
        for field in constant.doc()?.elements() {
            let field = field?;
            if constant.kind == kind::ARRAY {
                self.write_shaped(out, field.key, &field, shape, depth + 1)?;
                continue;
            }
            if field.key.contains('.') {
                return Err(self.refuse_dotted());
            }
            match shape.named(field.key) {
                Content::Sealed(sealed) if !field.is_null() => {
                    write_field(out, self.scope, field.key, &sealed.field, &field)?;
                }
                Content::Document(below) => {
                    self.write_shaped(out, field.key, &field, &below, depth + 1)?;
                }
                _ => Writer::new(out).value(field.kind, field.key, field.value()),
            }
        }
        Writer::new(out).end(open);
        Ok(())
    }

    fn refuse_dotted(&self) -> Refusal {
        self.scope.refuse_command(
            &format!("{} a field name that holds a dot", self.what),
            "nest documents instead",
        )
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
        let mut writer = Writer::new(out);
        let open = writer.begin_array(key);
        let mut content = Content::Nothing;
        for item in array.elements() {
            let item = item?;
            let of_item = self.write(writer.buffer(), item.key, &item, inner, env, depth + 1)?;
            content = content.or(of_item);
        }
        writer.end(open);
        if let Want::Stored(target @ Content::Sealed(sealed)) = want
            && matches!(content, Content::Nothing)
            && !array.is_empty()
            && sealed.field.is_joined()
        {
            // Null in an array, which a join by tokens would miss.
            return Err(self.misfit(&content, target));
        }
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
                _ => Want::Value,
            };
            let content = self.write(writer.buffer(), field.key, &field, inner, env, depth + 1)?;
            if field.key.contains('.') && !content.is_open() {
                return Err(self.refuse_dotted());
            }
            shape.put(field.key, content);
        }
        writer.end(open);
        Ok(Content::Document(shape))
    }

    fn equality<'f>(&self, field: &'f Field) -> Result<&'f Equality> {
        if self.allows_plaintext() {
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
                by_content::EQUALITY,
            )
        })
    }

    fn allows_plaintext(&self) -> bool {
        self.scope.collection.on_plaintext == crate::schema::OnPlaintext::Allow
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
                        by_content::TRUTH,
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
                by_content::LOOK,
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

/// Whether a field may have this value, or, if its arrays are sealed by their
/// elements, all that is in it.
fn may_have(field: &Field, constant: &Element<'_>) -> Result<bool> {
    if constant.kind != kind::ARRAY || !field.elements {
        return Ok(field.types.allows(constant.kind));
    }
    for item in constant.doc()?.elements() {
        let item = item?;
        if !item.is_null() && !field.types.allows(item.kind) {
            return Ok(false);
        }
    }
    Ok(true)
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

/// Whether the constants of one statement have names that are free.
pub(super) fn own_constants(scope: &Scope<'_>, element: &Element<'_>) -> Result {
    for constant in element.object()?.elements() {
        let name = constant?.key;
        let known = scope
            .constants
            .into_iter()
            .flat_map(Constants::iter)
            .any(|known| known.value.key == name);
        if known || names::INTERNAL_VARIABLES.contains(&name) {
            return Err(scope.refuse_command(
                "a constant in `c` that has the name of another variable",
                "give it another name",
            ));
        }
    }
    Ok(())
}

/// Rewrites the `let` of a command: what was compared with sealed fields, or put
/// into them, does not go to MongoDB.
pub(super) fn constants<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
) -> Result {
    let Some(constants) = scope.constants else {
        return Ok(());
    };
    let mark = splicer.mark();
    for constant in constants.withheld() {
        if constant.open.get() {
            return Err(scope.refuse_command(
                "a variable of `let` that stands for a sealed value and is used elsewhere as well",
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
