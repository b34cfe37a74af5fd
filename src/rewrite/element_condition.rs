//! A condition on one element of a sealed array, and what it says of all that an
//! element can be: a sealed value, null, or the deprecated undefined.

use super::condition::{operator_name, write_tokens};
use super::filter::is_operators;
use super::kinds::{Look, Stored, asked};
use super::scope::{BY_CONTENT, DEEPEST, Scope};
use crate::policy::{Equality, Field};
use crate::raw::{Element, Malformed, Writer, kind};
use crate::refusal::Refusal;
use crate::schema::Types;
use crate::seal::Token;

/// Which sealed values meet a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sealed {
    None,
    All,
    /// Those whose tokens do.
    Some(ByToken),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ByToken {
    /// Operators on the token.
    operators: Vec<u8>,
    /// What must not hold: filters of the sealed document.
    nor: Vec<Vec<u8>>,
}

/// What meets a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    sealed: Sealed,
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
        sealed: Sealed::All,
        null: true,
        undefined: true,
        as_is: true,
    };

    /// What no element meets.
    pub(super) const NOTHING: Self = Self {
        sealed: Sealed::None,
        null: false,
        undefined: false,
        as_is: false,
    };

    fn of(sealed: Sealed, null: bool) -> Self {
        Self {
            sealed,
            null,
            undefined: null,
            as_is: true,
        }
    }

    fn by_token(by_token: ByToken, null: bool) -> Self {
        Self {
            as_is: false,
            ..Self::of(Sealed::Some(by_token), null)
        }
    }

    fn and(self, other: Self) -> Self {
        let sealed = match (self.sealed, other.sealed) {
            (Sealed::None, _) | (_, Sealed::None) => Sealed::None,
            (Sealed::All, one) | (one, Sealed::All) => one,
            (Sealed::Some(mut one), Sealed::Some(other)) => {
                one.operators.extend(other.operators);
                one.nor.extend(other.nor);
                Sealed::Some(one)
            }
        };
        Self {
            sealed,
            null: self.null && other.null,
            undefined: self.undefined && other.undefined,
            as_is: self.as_is && other.as_is,
        }
    }

    fn not(self, equality: Option<&Equality>) -> Self {
        let sealed = match (self.sealed, equality) {
            (Sealed::None, _) => Sealed::All,
            (Sealed::Some(inner), Some(equality)) => {
                let mut filter = Vec::new();
                inner.write(&mut Writer::new(&mut filter), equality);
                Sealed::Some(ByToken {
                    operators: Vec::new(),
                    nor: vec![filter],
                })
            }
            (Sealed::All | Sealed::Some(_), _) => Sealed::None,
        };
        Self {
            sealed,
            null: !self.null,
            undefined: !self.undefined,
            as_is: self.as_is,
        }
    }

    /// How to ask for it.
    pub(super) fn form(&self) -> Form {
        let stored = Stored {
            sealed: self.sealed == Sealed::All,
            array: false,
            null: self.null,
            undefined: self.undefined,
        };
        match self.sealed {
            _ if self.as_is => Form::AsIs,
            Sealed::None | Sealed::All => Form::ByType(stored),
            Sealed::Some(_) if self.null || self.undefined => Form::Either(stored),
            Sealed::Some(_) => Form::ByToken,
        }
    }

    /// Appends the filter of sealed documents; nothing unless tokens decide.
    pub(super) fn write_filter(&self, writer: &mut Writer<'_>, equality: &Equality) {
        if let Sealed::Some(by_token) = &self.sealed {
            by_token.write(writer, equality);
        }
    }
}

impl ByToken {
    fn write(&self, writer: &mut Writer<'_>, equality: &Equality) {
        if !self.operators.is_empty() {
            let open = writer.begin_doc(&equality.name);
            writer.buffer().extend_from_slice(&self.operators);
            writer.end(open);
        }
        if !self.nor.is_empty() {
            let open = writer.begin_array("$nor");
            for (index, filter) in self.nor.iter().enumerate() {
                let branch = writer.begin_doc(&index.to_string());
                writer.buffer().extend_from_slice(filter);
                writer.end(branch);
            }
            writer.end(open);
        }
    }
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
            return Ok(Verdict::of(Sealed::None, true));
        }
        let token = self.token(value)?;
        let mut by_token = ByToken::default();
        Writer::new(&mut by_token.operators).binary("$eq", 0, &token);
        Ok(Verdict::by_token(by_token, false))
    }

    /// What being equal to one of `values` says of an element.
    pub(super) fn one_of(&self, values: &Element<'_>) -> Result<Verdict, Refusal> {
        let (tokens, null) = self.values(values)?;
        if tokens.is_empty() {
            return Ok(Verdict::of(Sealed::None, null));
        }
        let mut by_token = ByToken::default();
        write_tokens(&mut Writer::new(&mut by_token.operators), "$in", &tokens);
        Ok(Verdict::by_token(by_token, null))
    }

    fn operator(&self, operator: &Element<'_>, depth: usize) -> Result<Verdict, Refusal> {
        let equality = self.field.equality.as_ref();
        Ok(match operator.key {
            "$eq" => self.equal(operator)?,
            "$ne" => self.equal(operator)?.not(equality),
            "$in" => self.one_of(operator)?,
            "$nin" => self.one_of(operator)?.not(equality),
            "$not" if is_operators(operator)? => self.operators(operator, depth + 1)?.not(equality),
            "$exists" if operator.kind == kind::BOOL => match operator.truthy() {
                true => Verdict::ALL,
                false => Verdict::of(Sealed::None, false),
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
            true => Sealed::All,
            false => Sealed::None,
        };
        Ok(Verdict {
            sealed,
            null: stored.null,
            undefined: stored.undefined,
            as_is: false,
        })
    }

    fn values(&self, list: &Element<'_>) -> Result<(Vec<Token>, bool), Refusal> {
        let mut tokens = Vec::new();
        let mut null = false;
        for value in list.array()?.elements() {
            let value = value?;
            if value.is_null() {
                null = true;
            } else {
                tokens.push(self.token(&value)?);
            }
        }
        Ok((tokens, null))
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
                BY_CONTENT,
            )
        })
    }

    fn no_plaintext(&self) -> Result<(), Refusal> {
        if self.scope.collection.on_plaintext == crate::schema::OnPlaintext::Allow {
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
