//! Conditions on one sealed field: what tokens answer of them, what presence
//! answers, and what neither does.

use super::filter::{Purpose, UpsertEquality, is_operators};
use super::scope::{BY_CONTENT, DEEPEST, Scope};
use crate::policy::{Equality, Field};
use crate::raw::{Element, Malformed, Writer, kind};
use crate::refusal::Refusal;
use crate::seal::Token;

/// The values of a `$in`, `$nin` or `$all` on a sealed field.
struct Values {
    tokens: Vec<Token>,
    null: bool,
}

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
        }
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

    fn operator(
        &mut self,
        name: &str,
        operand: &Element<'m>,
        purpose: &mut Purpose<'_, 'm>,
    ) -> Result<(), Refusal> {
        match name {
            "$eq" | "$ne" if operand.is_null() => {
                self.ask_for_null(name)?;
                if let (Purpose::Upsert(equalities), "$eq") = (&mut *purpose, name) {
                    equalities.push(UpsertEquality {
                        path: self.path,
                        value: *operand,
                    });
                }
                self.stays(name, operand);
            }
            "$eq" => self.equal(operand, purpose)?,
            "$ne" => {
                let token = self.token("$ne", operand)?;
                self.token_operand("$ne", &token);
            }
            "$in" | "$all" if !matches!(purpose, Purpose::Match) => {
                match self.one_value(name, operand)? {
                    Some(value) => self.equal(&value, purpose)?,
                    None => self.list(name, operand)?,
                }
            }
            "$in" | "$nin" | "$all" => self.list(name, operand)?,
            "$not" => self.not(operand)?,
            "$exists" => self.exists(operand)?,
            "$size" if self.field.elements && !self.element && operand.integer().is_some() => {
                self.stays(name, operand)
            }
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
            "it answers $eq, $ne, $in, $nin, $all, $not of these, $exists, null, and for arrays $size and $elemMatch of $eq and $in"
        } else {
            "it answers $exists and null only; `queries = [\"equality\"]` in the schema adds equality"
        }
    }

    /// MongoDB takes `tags.0` for the first element and for a field `0` of every
    /// element that is a document. Elements are documents once they are sealed,
    /// so that null, which a missing field meets, would be found too often.
    fn ask_for_null(&self, what: &str) -> Result<(), Refusal> {
        if self.by_number() {
            return Err(self.refuse(
                &format!("`{what}` with null by an array's index"),
                "use $exists, or ask for null in the array as a whole",
            ));
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
        Writer::new(&mut self.presence).value(operand.kind, name, operand.value());
    }

    fn equality(&self, what: &str) -> Result<&'c Equality, Refusal> {
        if self.scope.collection.on_plaintext == crate::schema::OnPlaintext::Allow {
            return Err(self.refuse(
                what,
                "the collection allows plaintext, which a token would not find: end the migration and set on_plaintext = \"reject\"",
            ));
        }
        let equality = self.field.equality.as_ref();
        equality.ok_or_else(|| self.refuse(what, self.advice()))
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
        equality
            .key
            .equality(value.kind, value.value())
            .ok_or_else(|| self.refuse(what, BY_CONTENT))
    }

    fn equal(&mut self, value: &Element<'m>, purpose: &mut Purpose<'_, 'm>) -> Result<(), Refusal> {
        let token = self.token("$eq", value)?;
        if let Purpose::Match = purpose {
            self.token_operand("$eq", &token);
            return Ok(());
        }
        if let Purpose::Upsert(equalities) = purpose {
            if !self.field.types.allows(value.kind) {
                return Err(self.scope.wrong_type(self.path, self.field, value.kind));
            }
            equalities.push(UpsertEquality {
                path: self.path,
                value: *value,
            });
        }
        // MongoDB would put an equality, or a list of one value, into the new
        // document, token and all. No token is empty, so the second value
        // matches nothing.
        let mut writer = Writer::new(&mut self.tokens);
        let open = writer.begin_array("$in");
        writer.binary("0", 0, &token);
        writer.binary("1", 0, &[]);
        writer.end(open);
        Ok(())
    }

    /// The one value of a list that MongoDB takes for an equality: the first of a
    /// `$in` whose values are all equal, the only one of an `$all`.
    fn one_value(
        &mut self,
        operator: &str,
        list: &Element<'m>,
    ) -> Result<Option<Element<'m>>, Refusal> {
        let mut values = list.array()?.elements();
        let Some(first) = values.next().transpose()? else {
            return Ok(None);
        };
        if first.is_null() {
            return Ok(None);
        }
        let token = self.token(operator, &first)?;
        for value in values {
            let value = value?;
            let equal = operator == "$in" && !value.is_null();
            if !equal || self.token(operator, &value)? != token {
                return Ok(None);
            }
        }
        Ok(Some(first))
    }

    fn list(&mut self, operator: &str, list: &Element<'_>) -> Result<(), Refusal> {
        match operator {
            "$in" => self.any_of("$in", "$or", list),
            "$nin" => self.any_of("$nin", "$nor", list),
            _ => self.all_of(list),
        }
    }

    fn all_of(&mut self, list: &Element<'_>) -> Result<(), Refusal> {
        let values = self.values("$all", list)?;
        if values.tokens.is_empty() {
            // Nothing but null, or nothing at all: presence answers it.
            self.stays("$all", list);
            return Ok(());
        }
        if values.null {
            return Err(self.refuse("`$all` with null among others", "ask for null by itself"));
        }
        self.token_list("$all", &values.tokens);
        Ok(())
    }

    fn values(&mut self, operator: &str, list: &Element<'_>) -> Result<Values, Refusal> {
        let mut values = Values {
            tokens: Vec::new(),
            null: false,
        };
        for value in list.array()?.elements() {
            let value = value?;
            if value.is_null() {
                self.ask_for_null(operator)?;
                values.null = true;
            } else {
                values.tokens.push(self.token(operator, &value)?);
            }
        }
        Ok(values)
    }

    /// `$in` or `$nin`; `either` is `$or` or `$nor`, for a list that holds null among others.
    fn any_of(&mut self, operator: &str, either: &str, list: &Element<'_>) -> Result<(), Refusal> {
        let values = self.values(operator, list)?;
        if values.tokens.is_empty() {
            // Nothing but null, or nothing at all: presence answers it.
            self.stays(operator, list);
            return Ok(());
        }
        if !values.null {
            self.token_list(operator, &values.tokens);
            return Ok(());
        }
        let suffix = &self.equality(operator)?.suffix;
        let mut writer = Writer::new(&mut self.beside);
        let branches = writer.begin_array(either);
        let branch = writer.begin_doc("0");
        writer.joined_name(kind::DOCUMENT, self.path, suffix);
        let condition = writer.begin();
        write_tokens(&mut writer, "$in", &values.tokens);
        writer.end(condition);
        writer.end(branch);
        let branch = writer.begin_doc("1");
        writer.null(self.path);
        writer.end(branch);
        writer.end(branches);
        Ok(())
    }

    /// `$not: {…}` is what no document that meets `{…}` does: a `$nor` of one.
    fn not(&mut self, operand: &Element<'m>) -> Result<(), Refusal> {
        if !is_operators(operand)? {
            return Err(self.refuse("`$not` of a regular expression", BY_CONTENT));
        }
        let depth = self.depth + 1;
        if depth > DEEPEST {
            return Err(Malformed("a filter is nested too deep").into());
        }
        let mut inner = Parts::new(self.scope, self.path, self.field, self.element, depth);
        for operator in operand.doc()?.elements() {
            let operator = operator?;
            inner.operator(operator.key, &operator, &mut Purpose::Match)?;
        }
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

    /// `$elemMatch` on elements that are sealed. Null elements are no documents,
    /// so only what null never meets can be asked.
    fn element_match(&mut self, operand: &Element<'_>) -> Result<(), Refusal> {
        let name = &self.equality("$elemMatch")?.name;
        let mut conditions = Vec::new();
        for operator in operand.object()?.elements() {
            let operator = operator?;
            let mut writer = Writer::new(&mut conditions);
            match operator.key {
                "$eq" if !operator.is_null() => {
                    let token = self.token("$eq", &operator)?;
                    writer.binary("$eq", 0, &token);
                }
                "$in" => {
                    let values = self.values("$in", &operator)?;
                    if values.null {
                        return Err(self.refuse("`$elemMatch` with null", self.advice()));
                    }
                    write_tokens(&mut writer, "$in", &values.tokens);
                }
                other => {
                    return Err(self.refuse(
                        &format!("`$elemMatch` with {}", operator_name(other)),
                        self.advice(),
                    ));
                }
            }
        }
        if conditions.is_empty() {
            return Err(self.refuse("an empty `$elemMatch`", self.advice()));
        }
        self.same = false;
        let mut writer = Writer::new(&mut self.presence);
        let open = writer.begin_doc("$elemMatch");
        let inner = writer.begin_doc(name);
        writer.buffer().extend_from_slice(&conditions);
        writer.end(inner);
        writer.end(open);
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

pub(super) fn write_tokens(writer: &mut Writer<'_>, operator: &str, tokens: &[Token]) {
    let open = writer.begin_array(operator);
    for (index, token) in tokens.iter().enumerate() {
        writer.binary(&index.to_string(), 0, token);
    }
    writer.end(open);
}
