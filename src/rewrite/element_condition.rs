//! A condition on one element of a sealed array, and what it says of all that an
//! element can be: a sealed value, null, or the deprecated undefined.

use std::collections::HashSet;

use super::condition::{operator_name, write_tokens};
use super::filter::is_operators;
use super::kinds::{Look, Stored, asked};
use super::scope::{DEEPEST, Scope, by_content};
use crate::policy::{Equality, Field};
use crate::raw::{Element, Malformed, Writer, kind};
use crate::refusal::Refusal;
use crate::schema::Types;
use crate::seal::Token;

/// Sealed values by their tokens: these, or all but these.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tokens {
    tokens: Vec<Token>,
    all_but: bool,
}

impl Tokens {
    const NONE: Self = Self {
        tokens: Vec::new(),
        all_but: false,
    };

    const ALL: Self = Self {
        tokens: Vec::new(),
        all_but: true,
    };

    fn and(mut self, mut other: Self) -> Self {
        match (self.all_but, other.all_but) {
            (true, true) => self.tokens.append(&mut other.tokens),
            (true, false) => return other.and(self),
            (false, except) => {
                // Either list may be as long as a message.
                let others: HashSet<Token> = other.tokens.into_iter().collect();
                self.tokens.retain(|token| others.contains(token) != except);
            }
        }
        self
    }

    fn not(self) -> Self {
        Self {
            all_but: !self.all_but,
            ..self
        }
    }
}

/// What meets a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    sealed: Tokens,
    null: bool,
    undefined: bool,
    /// Whether the condition says the same of what is stored: it names null alone.
    as_is: bool,
}

/// The forms in which a verdict can be asked of MongoDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it came.
    AsIs,
    /// By the type of the element alone.
    ByType(Stored),
    /// By its token: what meets it are sealed documents.
    ByToken,
    /// By its token, or it is of one of these types.
    Either(Stored),
}

/// Where the condition stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking<'s, 'c> {
    pub(super) scope: &'s Scope<'c>,
    /// The path, for messages.
    pub(super) path: &'s str,
    pub(super) field: &'c Field,
    /// What it is the operand of, for messages.
    pub(super) operator: &'s str,
}

impl Verdict {
    const ALL: Self = Self {
        sealed: Tokens::ALL,
        null: true,
        undefined: true,
        as_is: true,
    };

    /// What no element meets.
    pub(super) const NOTHING: Self = Self {
        sealed: Tokens::NONE,
        null: false,
        undefined: false,
        as_is: false,
    };

    fn of(sealed: Tokens, null: bool) -> Self {
        Self {
            as_is: sealed.tokens.is_empty(),
            sealed,
            null,
            undefined: null,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            sealed: self.sealed.and(other.sealed),
            null: self.null && other.null,
            undefined: self.undefined && other.undefined,
            as_is: self.as_is && other.as_is,
        }
    }

    fn not(self) -> Self {
        Self {
            sealed: self.sealed.not(),
            null: !self.null,
            undefined: !self.undefined,
            as_is: self.as_is,
        }
    }

    /// The same of null alone, where MongoDB does not take undefined for it.
    pub(super) fn without_undefined(self) -> Self {
        Self {
            undefined: false,
            ..self
        }
    }

    /// How to ask for it.
    pub(super) fn form(&self) -> Form {
        let stored = Stored {
            sealed: self.sealed == Tokens::ALL,
            array: false,
            null: self.null,
            undefined: self.undefined,
        };
        if self.as_is {
            Form::AsIs
        } else if self.sealed.tokens.is_empty() {
            Form::ByType(stored)
        } else if self.null || self.undefined {
            Form::Either(stored)
        } else {
            Form::ByToken
        }
    }

    /// Appends the filter of sealed documents.
    pub(super) fn write_filter(&self, writer: &mut Writer<'_>, equality: &Equality) {
        let open = writer.begin_doc(&equality.name);
        match (self.sealed.tokens.as_slice(), self.sealed.all_but) {
            ([token], false) => writer.binary("$eq", 0, token),
            ([token], true) => writer.binary("$ne", 0, token),
            (tokens, false) => write_tokens(writer, "$in", tokens),
            (tokens, true) => write_tokens(writer, "$nin", tokens),
        }
        writer.end(open);
    }

    /// Appends an expression that is true if the variable does not meet it.
    pub(super) fn write_unmet(
        &self,
        writer: &mut Writer<'_>,
        key: &str,
        variable: &str,
        equality: &Equality,
    ) {
        let all_but = self.sealed.all_but;
        let unmet = writer.begin_doc(key);
        let not = match all_but {
            true => None,
            false => {
                let not = writer.begin_array("$not");
                Some((not, writer.begin_doc("0")))
            }
        };
        let one_of = writer.begin_array("$in");
        write_key(writer, "0", variable, equality);
        let list = writer.begin_array("1");
        for (index, token) in self.sealed.tokens.iter().enumerate() {
            writer.binary(&index.to_string(), 0, token);
        }
        let types = [(self.null, "null"), (self.undefined, "undefined")];
        let listed = types.iter().filter(|(met, _)| *met != all_but);
        for (index, (_, name)) in listed.enumerate() {
            writer.string(&(self.sealed.tokens.len() + index).to_string(), name);
        }
        writer.end(list);
        writer.end(one_of);
        if let Some((not, inner)) = not {
            writer.end(inner);
            writer.end(not);
        }
        writer.end(unmet);
    }
}

/// Appends an expression that tells elements apart: a token, or the name of its type
/// for one that is not sealed.
pub(super) fn write_key(writer: &mut Writer<'_>, key: &str, variable: &str, equality: &Equality) {
    let outer = writer.begin_doc(key);
    let either = writer.begin_array("$ifNull");
    writer.string("0", &format!("$${variable}.{}", equality.name));
    let of = writer.begin_doc("1");
    writer.string("$type", &format!("$${variable}"));
    writer.end(of);
    writer.end(either);
    writer.end(outer);
}

impl<'c> Asking<'_, 'c> {
    /// What the operators in `condition` say of an element.
    pub(super) fn operators(
        &self,
        condition: &Element<'_>,
        depth: usize,
    ) -> Result<Verdict, Refusal> {
        if depth > DEEPEST {
            return Err(Malformed("a filter is nested too deep").into());
        }
        let mut verdict = Verdict::ALL;
        for operator in condition.object()?.elements() {
            let operator = operator?;
            verdict = verdict.and(self.operator(&operator, depth)?);
        }
        Ok(verdict)
    }

    /// What being equal to `value` says of an element.
    pub(super) fn equal(&self, value: &Element<'_>) -> Result<Verdict, Refusal> {
        if value.is_null() {
            return Ok(Verdict::of(Tokens::NONE, true));
        }
        let tokens = Tokens {
            tokens: vec![self.token(value)?],
            all_but: false,
        };
        Ok(Verdict::of(tokens, false))
    }

    /// What being equal to one of `values` says of an element.
    pub(super) fn one_of(&self, values: &Element<'_>) -> Result<Verdict, Refusal> {
        let (mut tokens, mut null) = (Vec::new(), false);
        for value in values.array()?.elements() {
            let value = value?;
            if value.is_null() {
                null = true;
            } else {
                tokens.push(self.token(&value)?);
            }
        }
        let tokens = Tokens {
            tokens,
            all_but: false,
        };
        Ok(Verdict::of(tokens, null))
    }

    fn operator(&self, operator: &Element<'_>, depth: usize) -> Result<Verdict, Refusal> {
        Ok(match operator.key {
            "$eq" => self.equal(operator)?,
            "$ne" => self.equal(operator)?.not(),
            "$in" => self.one_of(operator)?,
            "$nin" => self.one_of(operator)?.not(),
            "$not" if is_operators(operator)? => self.operators(operator, depth + 1)?.not(),
            "$exists" if operator.kind == kind::BOOL => match operator.truthy() {
                true => Verdict::ALL,
                false => Verdict::of(Tokens::NONE, false),
            },
            "$type" => self.of_type(operator)?,
            other => return Err(self.refuse(&operator_name(other))),
        })
    }

    fn of_type(&self, operator: &Element<'_>) -> Result<Verdict, Refusal> {
        self.no_plaintext()?;
        let asked = asked(self.scope, self.path, operator)?.unwrap_or(Types::NONE);
        let Some(stored) = Stored::of(self.field, asked, Look::Element) else {
            return Err(self.refuse("`$type` of some of its types"));
        };
        let sealed = match stored.sealed {
            true => Tokens::ALL,
            false => Tokens::NONE,
        };
        Ok(Verdict {
            sealed,
            null: stored.null,
            undefined: stored.undefined,
            as_is: false,
        })
    }

    /// The token of a value.
    pub(super) fn token(&self, value: &Element<'_>) -> Result<Token, Refusal> {
        self.no_plaintext()?;
        let Some(equality) = &self.field.equality else {
            return Err(self.scope.refuse(
                self.path,
                &format!("{} that compares values", self.operator),
                "`queries = [\"equality\"]` in the schema adds equality",
            ));
        };
        self.scope.compared.set(true);
        let token = equality.key.equality(value.kind, value.value());
        token.ok_or_else(|| {
            self.scope.refuse(
                self.path,
                &format!("{} of a document, an array or a pattern", self.operator),
                by_content::WHOLE,
            )
        })
    }

    fn no_plaintext(&self) -> Result<(), Refusal> {
        if self.scope.collection.on_plaintext.is_expected() {
            return Err(self.scope.refuse(
                self.path,
                self.operator,
                "the collection allows plaintext, which a token would not find: end the migration and set on_plaintext = \"reject\"",
            ));
        }
        Ok(())
    }

    fn refuse(&self, what: &str) -> Refusal {
        self.scope.refuse(
            self.path,
            &format!("{} with {what}", self.operator),
            "of sealed elements it takes $eq, $ne, $in, $nin, $not of these, $exists, and $type of all types that the field may have, or of others",
        )
    }
}
