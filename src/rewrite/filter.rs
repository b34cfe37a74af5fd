//! Query filters: conditions on sealed fields become conditions on tokens or on
//! presence; what neither can answer exactly is refused.
//!
//! A condition `ssn: {…}` becomes up to three: `ssn: {…}` for what presence
//! answers (null stays null, missing stays missing, arrays stay arrays),
//! `ssn.e1: {…}` for what tokens answer, and `$or`/`$nor` where a list mixes
//! both. MongoDB holds all of them together, as it did the one.

use super::scope::{BY_CONTENT, DEEPEST, Place, Scope};
use crate::policy::{Equality, Field};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::Refusal;
use crate::schema::NodeId;
use crate::seal::Token;

/// What a filter is for.
#[derive(Debug)]
pub(super) enum Purpose<'f, 'm> {
    /// Finding documents.
    Match,
    /// Finding or making one: the equalities that MongoDB would put into the new document.
    Upsert(&'f mut Vec<UpsertEquality<'m>>),
    /// A branch of such a filter, from which MongoDB takes no equality.
    UpsertBranch,
}

/// An equality on a sealed field, which an upsert puts into the new document.
#[derive(Debug, Clone, Copy)]
pub(super) struct UpsertEquality<'m> {
    /// The path as the filter has it.
    pub(super) path: &'m str,
    /// The value.
    pub(super) value: Element<'m>,
}

impl<'m> Purpose<'_, 'm> {
    fn branch<'b>(&self) -> Purpose<'b, 'm> {
        match self {
            Self::Match => Purpose::Match,
            Self::Upsert(_) | Self::UpsertBranch => Purpose::UpsertBranch,
        }
    }
}

/// Where names are looked up: from the top level or below it, and whether
/// the first component is the identifier of an array filter.
pub(super) trait Paths<'c> {
    /// Where `path` leads.
    fn place(&self, path: &str) -> Result<Place<'c>, Refusal>;
}

/// Paths from a node of the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Below<'s, 'c>(pub(super) &'s Scope<'c>, pub(super) NodeId);

impl<'c> Paths<'c> for Below<'_, 'c> {
    fn place(&self, path: &str) -> Result<Place<'c>, Refusal> {
        self.0.place_from(self.1, path)
    }
}

/// One pass over one filter.
pub(super) struct Filter<'s, 'c, 'p, P> {
    pub(super) scope: &'s Scope<'c>,
    pub(super) paths: &'p P,
}

/// The values of a `$in`, `$nin` or `$all` on a sealed field.
struct Values {
    tokens: Vec<Token>,
    null: bool,
}

impl<'c, P: Paths<'c>> Filter<'_, 'c, '_, P> {
    /// Rewrites the filter `doc` in place.
    pub(super) fn rewrite<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        doc: Doc<'m>,
        purpose: &mut Purpose<'_, 'm>,
        depth: usize,
    ) -> Result<(), Refusal> {
        if depth > DEEPEST {
            return Err(Malformed("a filter is nested too deep").into());
        }
        let mark = splicer.mark();
        for element in doc.elements() {
            let element = element?;
            if element.key.starts_with('$') {
                self.logical(splicer, &element, purpose, depth)?;
            } else {
                self.condition(splicer, &element, purpose, depth)?;
            }
        }
        splicer.mend_length(doc.start(), mark)?;
        Ok(())
    }

    fn logical<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        purpose: &mut Purpose<'_, 'm>,
        depth: usize,
    ) -> Result<(), Refusal> {
        match element.key {
            "$and" => self.branches(splicer, element, purpose, depth),
            // MongoDB takes a $or with one branch for that branch, in upserts too.
            "$or" if element.array()?.elements().count() == 1 => {
                self.branches(splicer, element, purpose, depth)
            }
            "$or" | "$nor" => self.branches(splicer, element, &mut purpose.branch(), depth),
            "$expr" => super::expression::refuse_sealed(self.scope, element, "$expr"),
            // MongoDB drops such a branch of $or before it looks for equalities.
            "$alwaysTrue" | "$alwaysFalse" if !matches!(purpose, Purpose::Match) => {
                Err(self.scope.refuse_command(
                    &format!("`{}` in the filter of an upsert", element.key),
                    "leave it out",
                ))
            }
            "$comment" | "$alwaysTrue" | "$alwaysFalse" | "$sampleRate" | "$text" => Ok(()),
            other => Err(self.scope.refuse_command(
                &format!("`{other}` in a filter"),
                "use comparison operators on the fields themselves",
            )),
        }
    }

    fn branches<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        purpose: &mut Purpose<'_, 'm>,
        depth: usize,
    ) -> Result<(), Refusal> {
        let array = element.array()?;
        let mark = splicer.mark();
        for branch in array.elements() {
            self.rewrite(splicer, branch?.object()?, purpose, depth + 1)?;
        }
        splicer.mend_length(array.start(), mark)?;
        Ok(())
    }

    fn condition<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        purpose: &mut Purpose<'_, 'm>,
        depth: usize,
    ) -> Result<(), Refusal> {
        match self.paths.place(element.key)? {
            Place::Open => Ok(()),
            Place::Inner(node) => self.on_parent(splicer, element, node, depth),
            Place::Sealed {
                field,
                element: position,
            } => {
                let mut parts = Parts::new(self.scope, element.key, field, position, depth);
                parts.read(element, purpose)?;
                if parts.unchanged() {
                    return Ok(());
                }
                splicer.replace(element.start, element.end, |out| parts.write(out));
                Ok(())
            }
        }
    }

    /// A condition on a field that holds sealed fields: whatever does not look at its documents.
    fn on_parent<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        element: &Element<'m>,
        node: NodeId,
        depth: usize,
    ) -> Result<(), Refusal> {
        if depth > DEEPEST {
            return Err(Malformed("a filter is nested too deep").into());
        }
        if !is_operators(element)? {
            return self.whole(element.key, element);
        }
        let operators = element.doc()?;
        let mark = splicer.mark();
        for operator in operators.elements() {
            let operator = operator?;
            match operator.key {
                // Numbers and lists of numbers or names.
                "$type" | "$mod" | "$bitsAllSet" | "$bitsAnySet" | "$bitsAllClear"
                | "$bitsAnyClear"
                    if operator.kind == kind::ARRAY =>
                {
                    self.list(element.key, &operator)?
                }
                "$exists" | "$size" | "$type" | "$regex" | "$options" | "$mod" | "$bitsAllSet"
                | "$bitsAnySet" | "$bitsAllClear" | "$bitsAnyClear" | "$eq" | "$ne" | "$gt"
                | "$gte" | "$lt" | "$lte" => self.whole(element.key, &operator)?,
                "$in" | "$nin" => self.list(element.key, &operator)?,
                "$not" if operator.kind == kind::REGEX => {}
                "$not" => self.on_parent_again(splicer, element.key, &operator, node, depth)?,
                "$elemMatch" => self.on_elements(splicer, element.key, &operator, node, depth)?,
                "$all" => {
                    let array = operator.array()?;
                    let mark = splicer.mark();
                    for item in array.elements() {
                        let item = item?;
                        if item.kind == kind::DOCUMENT && is_operators(&item)? {
                            self.on_parent_again(splicer, element.key, &item, node, depth)?;
                        } else {
                            self.whole(element.key, &item)?;
                        }
                    }
                    splicer.mend_length(array.start(), mark)?;
                }
                other => return Err(self.beside(element.key, other)),
            }
        }
        splicer.mend_length(operators.start(), mark)?;
        Ok(())
    }

    /// The operators in `holder`, as if they stood at the parent field itself.
    fn on_parent_again<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        path: &str,
        holder: &Element<'m>,
        node: NodeId,
        depth: usize,
    ) -> Result<(), Refusal> {
        if !is_operators(holder)? {
            return self.whole(path, holder);
        }
        self.on_parent(splicer, holder, node, depth + 1)
    }

    fn on_elements<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        path: &str,
        operator: &Element<'m>,
        node: NodeId,
        depth: usize,
    ) -> Result<(), Refusal> {
        let inner = operator.object()?;
        let by_value = match inner.first()? {
            Some(first) => {
                first.key.starts_with('$')
                    && !matches!(first.key, "$and" | "$or" | "$nor" | "$expr" | "$where")
            }
            None => false,
        };
        if by_value {
            return self.on_parent_again(splicer, path, operator, node, depth);
        }
        let below = Filter {
            scope: self.scope,
            paths: &Below(self.scope, node),
        };
        below.rewrite(splicer, inner, &mut Purpose::Match, depth + 1)
    }

    /// A list of such values.
    fn list(&self, path: &str, values: &Element<'_>) -> Result<(), Refusal> {
        for value in values.array()?.elements() {
            self.whole(path, &value?)?;
        }
        Ok(())
    }

    /// A value that a field holding sealed fields is compared with as a whole.
    fn whole(&self, path: &str, value: &Element<'_>) -> Result<(), Refusal> {
        match value.kind {
            kind::DOCUMENT | kind::ARRAY => {
                Err(self.beside(path, "comparison with a whole document or array"))
            }
            _ => Ok(()),
        }
    }

    fn beside(&self, path: &str, what: &str) -> Refusal {
        self.scope.refuse(
            path,
            what,
            "it holds sealed fields: compare them one by one, by their paths",
        )
    }
}

/// Whether a value is a document of operators, as MongoDB tells: its first name
/// begins with `$` and is not part of a DBRef.
pub(super) fn is_operators(element: &Element<'_>) -> Result<bool, Malformed> {
    if element.kind != kind::DOCUMENT {
        return Ok(false);
    }
    Ok(element.doc()?.first()?.is_some_and(|first| {
        first.key.starts_with('$') && !matches!(first.key, "$ref" | "$id" | "$db")
    }))
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
struct Parts<'s, 'c, 'm> {
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
    fn new(
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

    fn unchanged(&self) -> bool {
        self.same
    }

    fn read(
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
    fn write(&self, out: &mut Vec<u8>) {
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
