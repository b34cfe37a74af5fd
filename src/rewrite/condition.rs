//! Conditions on one sealed field: what tokens answer of them, what presence
//! answers, and what neither does.

mod lists;

use lists::{holds_null, is_element_matches};

use super::element_condition::{Asking, Form, Verdict};
use super::filter::{Purpose, UpsertEquality, is_operators};
use super::kinds::{Look, Stored, asked};
use super::scope::{DEEPEST, Scope, by_content};
use crate::policy::{Equality, Field};
use crate::raw::{Doc, Element, Malformed, Writer, kind};
use crate::refusal::Refusal;
use crate::schema::Types;
use crate::seal::Token;

/// What stands where an operator belongs, for messages. What is no operator is a
/// name within a sealed value, which no message may show.
pub(super) fn operator_name(name: &str) -> String {
    if name.starts_with('$') {
        format!("`{name}`")
    } else {
        "a field name among operators".to_owned()
    }
}

/// A condition on a sealed field, taken apart.
pub(super) struct Parts<'s, 'c, 'm> {
    scope: &'s Scope<'c>,
    path: &'m str,
    field: &'c Field,
    element: bool,
    /// How deep the filter is already.
    depth: usize,
    /// Elements of `path: {…}`.
    presence: Vec<u8>,
    /// Elements of `path.e1: {…}`.
    tokens: Vec<u8>,
    /// Whole conditions beside them.
    beside: Vec<u8>,
    /// Whether the condition can stay as it is.
    same: bool,
    /// Whether what presence answers may give an array position.
    gives_position: bool,
    /// Whether MongoDB notes another array position with it than on plaintext, or none.
    moves_position: bool,
    /// Whether an operator becomes another one, which MongoDB matches sooner or later.
    reorders: bool,
    /// How many operators may give an array position.
    positions: usize,
}

impl<'s, 'c, 'm> Parts<'s, 'c, 'm> {
    pub(super) fn new(
        scope: &'s Scope<'c>,
        path: &'m str,
        field: &'c Field,
        element: bool,
        depth: usize,
    ) -> Self {
        Self {
            scope,
            path,
            field,
            element,
            depth,
            presence: Vec::new(),
            tokens: Vec::new(),
            beside: Vec::new(),
            same: true,
            gives_position: false,
            moves_position: false,
            reorders: false,
            positions: 0,
        }
    }

    /// Whether an operator becomes another one.
    pub(super) fn reorders(&self) -> bool {
        self.reorders
    }

    /// How many operators may give an array position.
    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    /// Whether tokens answer some of it, so that it is asked at another path.
    pub(super) fn by_token(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether `$` would stand for another element than on plaintext.
    pub(super) fn moves_position(&self) -> bool {
        // Of several that give one, the last counts; apart, they come in another order.
        self.moves_position || self.gives_position && !self.tokens.is_empty()
    }

    pub(super) fn unchanged(&self) -> bool {
        self.same
    }

    pub(super) fn read(
        &mut self,
        condition: &Element<'m>,
        purpose: &mut Purpose<'_, 'm>,
    ) -> Result<(), Refusal> {
        if !is_operators(condition)? {
            return self.operator("$eq", condition, purpose);
        }
        for operator in condition.doc()?.elements() {
            let operator = operator?;
            self.operator(operator.key, &operator, purpose)?;
        }
        Ok(())
    }

    /// Operators from which no document is made.
    fn operators(&mut self, operators: &Doc<'m>) -> Result<(), Refusal> {
        for operator in operators.elements() {
            let operator = operator?;
            self.operator(operator.key, &operator, &mut Purpose::Match)?;
        }
        Ok(())
    }

    fn operator(
        &mut self,
        name: &str,
        operand: &Element<'m>,
        purpose: &mut Purpose<'_, 'm>,
    ) -> Result<(), Refusal> {
        if gives_position(name) {
            self.positions += 1;
            // On plaintext there may be an array, whose first element is found.
            self.moves_position |= !self.shows_arrays();
        }
        match name {
            "$eq" | "$ne" if operand.is_null() => {
                if name == "$eq" {
                    purpose.copied(self.path);
                }
                self.null(name, operand)?;
            }
            "$eq" => self.equal(operand, purpose)?,
            "$ne" => {
                let token = self.token("$ne", operand)?;
                self.token_operand("$ne", &token);
            }
            "$in" | "$all" if purpose.makes() && !is_element_matches(operand)? => {
                match self.one_value(name, operand)? {
                    Some(value) if value.is_null() => {
                        purpose.copied(self.path);
                        self.list(name, operand)?;
                    }
                    Some(value) => self.equal(&value, purpose)?,
                    // Apart, each of them would be an equality for the new document.
                    None if name == "$all" && holds_null(operand)? => {
                        return Err(self
                            .refuse("`$all` of null and others in an upsert", "compare it once"));
                    }
                    None => self.list(name, operand)?,
                }
            }
            "$in" | "$nin" | "$all" => self.list(name, operand)?,
            "$not" => self.not(operand)?,
            "$exists" => self.exists(operand)?,
            "$size" if self.shows_arrays() && operand.integer().is_some() => {
                self.stays(name, operand)
            }
            "$type" => self.of_type(operand)?,
            "$elemMatch" if self.field.elements && !self.element => self.element_match(operand)?,
            other => {
                return Err(self.refuse(&operator_name(other), self.advice()));
            }
        }
        Ok(())
    }

    fn refuse(&self, what: &str, advice: &str) -> Refusal {
        self.scope.refuse(self.path, what, advice)
    }

    fn advice(&self) -> &'static str {
        if self.field.equality.is_some() {
            "it answers $eq, $ne, $in, $nin, $all, $not of these, $exists, $type, null, and for arrays $size and $elemMatch"
        } else {
            "it answers $exists, $type and null only; `queries = [\"equality\"]` in the schema adds equality"
        }
    }

    /// `$or` or `$nor` of filters, beside the condition.
    fn either(&mut self, either: &str, branches: &[Vec<u8>]) {
        self.same = false;
        self.moves_position |= either == "$or";
        let mut writer = Writer::new(&mut self.beside);
        let open = writer.begin_array(either);
        for (index, filter) in branches.iter().enumerate() {
            let branch = writer.begin_doc(&index.to_string());
            writer.buffer().extend_from_slice(filter);
            writer.end(branch);
        }
        writer.end(open);
    }

    /// Whether an array at the path is stored as one, or there is none.
    fn shows_arrays(&self) -> bool {
        self.field.elements && !self.element || !self.field.types.allows(kind::ARRAY)
    }

    fn of_type(&mut self, operand: &Element<'_>) -> Result<(), Refusal> {
        if self.scope.stored {
            // It is of the stored form already.
            self.no_plaintext("$type")?;
            self.stays("$type", operand);
            return Ok(());
        }
        let Some(asked) = asked(self.scope, self.path, operand)? else {
            self.stays("$type", operand);
            return Ok(());
        };
        self.no_plaintext("$type")?;
        let look = match self.element {
            true => Look::Position,
            false => Look::Field,
        };
        let Some(stored) = Stored::of(self.field, asked, look) else {
            return Err(self.refuse(
                "`$type` of some of the types that it may have",
                "ask for all of them, or for none, and choose in the service",
            ));
        };
        self.same = false;
        let only_sealed = stored.sealed && !(stored.array || stored.null || stored.undefined);
        // The same, and an index can answer it.
        if only_sealed && self.field.equality.is_some() && !self.scope.kept.get() {
            self.reorders = true;
            Writer::new(&mut self.tokens).bool("$exists", true);
        } else {
            self.gives_position = true;
            stored.write(&mut Writer::new(&mut self.presence), "$type", self.field);
        }
        Ok(())
    }

    fn by_number(&self) -> bool {
        let last = self.path.rsplit('.').next().unwrap_or_default();
        self.element && last.bytes().all(|byte| byte.is_ascii_digit())
    }

    fn exists(&mut self, operand: &Element<'_>) -> Result<(), Refusal> {
        let flag = operand.kind == kind::BOOL || matches!(operand.integer(), Some(0 | 1));
        if !flag {
            return Err(self.refuse("`$exists` of a value", "it takes true or false"));
        }
        // A document in plain could have a field of that number.
        if self.by_number() && self.field.types.allows(kind::DOCUMENT) {
            return Err(self.refuse(
                "`$exists` by an array's index",
                "use $size, or $exists of the array as a whole",
            ));
        }
        self.stays("$exists", operand);
        Ok(())
    }

    /// An operator that presence answers, as it is.
    fn stays(&mut self, name: &str, operand: &Element<'_>) {
        self.gives_position |= gives_position(name);
        Writer::new(&mut self.presence).value(operand.kind, name, operand.value());
    }

    fn equality(&self, what: &str) -> Result<&'c Equality, Refusal> {
        self.no_plaintext(what)?;
        let equality = self.field.equality.as_ref();
        equality.ok_or_else(|| self.refuse(what, self.advice()))
    }

    fn no_plaintext(&self, what: &str) -> Result<(), Refusal> {
        if self.scope.collection.on_plaintext.is_expected() {
            return Err(self.refuse(
                what,
                "the collection allows plaintext, which a token would not find: end the migration and set on_plaintext = \"reject\"",
            ));
        }
        Ok(())
    }

    fn token(&mut self, operator: &str, value: &Element<'_>) -> Result<Token, Refusal> {
        let equality = self.equality(operator)?;
        self.same = false;
        self.scope.compared.set(true);
        let what = match value.kind {
            kind::REGEX => "a regular expression",
            kind::DOCUMENT => "comparison with a document",
            kind::ARRAY => "comparison with a whole array",
            _ => operator,
        };
        let advice = match value.kind {
            kind::REGEX => by_content::PATTERN,
            _ => by_content::WHOLE,
        };
        equality
            .key
            .equality(value.kind, value.value())
            .ok_or_else(|| self.refuse(what, advice))
    }

    fn equal(&mut self, value: &Element<'m>, purpose: &mut Purpose<'_, 'm>) -> Result<(), Refusal> {
        let token = self.token("$eq", value)?;
        if !purpose.makes() {
            self.token_operand("$eq", &token);
            return Ok(());
        }
        if let Purpose::Upsert(equalities) = purpose {
            if !self.field.types.allows(value.kind) {
                return Err(self.scope.wrong_type(self.path, self.field, value.kind));
            }
            equalities.push(UpsertEquality {
                path: self.path,
                sealed: Some(*value),
            });
        }
        // MongoDB would put an equality, or a list of one value, into the new
        // document, token and all. No token is empty, so the second value
        // matches nothing.
        self.reorders = true;
        let mut writer = Writer::new(&mut self.tokens);
        let open = writer.begin_array("$in");
        writer.binary("0", 0, &token);
        writer.binary("1", 0, &[]);
        writer.end(open);
        Ok(())
    }

    /// A condition on the same field, for operators within operators.
    fn inner(&self) -> Result<Self, Refusal> {
        let depth = self.depth + 1;
        if depth > DEEPEST {
            return Err(Malformed("a filter is nested too deep").into());
        }
        Ok(Self::new(
            self.scope,
            self.path,
            self.field,
            self.element,
            depth,
        ))
    }

    /// `$not: {…}` is what no document that meets `{…}` does: a `$nor` of one.
    fn not(&mut self, operand: &Element<'m>) -> Result<(), Refusal> {
        if !is_operators(operand)? {
            return Err(self.refuse("`$not` of a regular expression", by_content::PATTERN));
        }
        let mut inner = self.inner()?;
        inner.operators(&operand.doc()?)?;
        if inner.same {
            self.stays("$not", operand);
            return Ok(());
        }
        self.same = false;
        let mut writer = Writer::new(&mut self.beside);
        let branches = writer.begin_array("$nor");
        let branch = writer.begin_doc("0");
        inner.write(writer.buffer());
        writer.end(branch);
        writer.end(branches);
        Ok(())
    }

    /// `$elemMatch` on elements that are sealed. Null elements are no documents, so that
    /// a condition that they may meet as well is asked beside that on tokens.
    fn element_match(&mut self, operand: &Element<'_>) -> Result<(), Refusal> {
        let asking = Asking {
            scope: self.scope,
            path: self.path,
            field: self.field,
            operator: "`$elemMatch`",
        };
        let nesting = Types::of(kind::DOCUMENT).union(Types::of(kind::ARRAY));
        let verdict = match operand.object()?.is_empty() {
            // It finds documents and arrays, of whatever content.
            true if !self.field.types.meets(nesting) => Verdict::NOTHING,
            true => return Err(self.refuse("an empty `$elemMatch`", self.advice())),
            false => asking.operators(operand, self.depth + 1)?,
        };
        let by_type = |out: &mut Vec<u8>, stored: Stored| {
            let mut writer = Writer::new(out);
            let open = writer.begin_doc("$elemMatch");
            stored.write(&mut writer, "$type", self.field);
            writer.end(open);
        };
        let by_token = |out: &mut Vec<u8>| {
            let mut writer = Writer::new(out);
            let open = writer.begin_doc("$elemMatch");
            if let Some(equality) = &self.field.equality {
                verdict.write_filter(&mut writer, equality);
            }
            writer.end(open);
        };
        match verdict.form() {
            Form::AsIs => {
                self.stays("$elemMatch", operand);
                return Ok(());
            }
            Form::ByType(stored) => by_type(&mut self.presence, stored),
            Form::ByToken => by_token(&mut self.presence),
            Form::Either(stored) => {
                let (mut one, mut other) = (Vec::new(), Vec::new());
                let mut writer = Writer::new(&mut one);
                let open = writer.begin_doc(self.path);
                by_token(writer.buffer());
                writer.end(open);
                let mut writer = Writer::new(&mut other);
                let open = writer.begin_doc(self.path);
                by_type(writer.buffer(), stored);
                writer.end(open);
                self.either("$or", &[one, other]);
            }
        }
        self.same = false;
        self.gives_position = true;
        self.reorders = true;
        Ok(())
    }

    fn token_operand(&mut self, operator: &str, token: &Token) {
        Writer::new(&mut self.tokens).binary(operator, 0, token);
    }

    fn token_list(&mut self, operator: &str, tokens: &[Token]) {
        self.same = false;
        write_tokens(&mut Writer::new(&mut self.tokens), operator, tokens);
    }

    /// Appends the conditions.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        if !self.presence.is_empty() {
            let open = writer.begin_doc(self.path);
            writer.buffer().extend_from_slice(&self.presence);
            writer.end(open);
        }
        if let (Some(equality), false) = (&self.field.equality, self.tokens.is_empty()) {
            writer.joined_name(kind::DOCUMENT, self.path, &equality.suffix);
            let open = writer.begin();
            writer.buffer().extend_from_slice(&self.tokens);
            writer.end(open);
        }
        writer.buffer().extend_from_slice(&self.beside);
    }
}

/// Whether MongoDB may note an array position when it matches the operator.
pub(super) fn gives_position(operator: &str) -> bool {
    !matches!(operator, "$ne" | "$nin" | "$not" | "$size")
}

pub(super) fn write_tokens(writer: &mut Writer<'_>, operator: &str, tokens: &[Token]) {
    let open = writer.begin_array(operator);
    for (index, token) in tokens.iter().enumerate() {
        writer.binary(&index.to_string(), 0, token);
    }
    writer.end(open);
}
