//! The operators of expressions: those that move values, those that compare
//! them, those that ask whether they are there; all others take open values only.

use super::names::OPEN_OPERANDS;
use super::{Environment, Expressions, Result, Want};
use crate::raw::{Element, Malformed, Writer, kind};
use crate::rewrite::permission::check_metadata;
use crate::rewrite::scope::by_content;
use crate::rewrite::shape::Content;
use crate::schema::Types;

/// Writes one operand.
pub(super) struct Operands<'a, 'o> {
    pub(super) out: &'o mut Vec<u8>,
    pub(super) env: Environment<'a>,
    pub(super) depth: usize,
}

impl Expressions<'_, '_> {
    /// Appends `{operator: operands}` in the form that is wanted.
    pub(super) fn operator(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        element: &Element<'_>,
        want: Want<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Content> {
        let operator = element
            .doc()?
            .first()?
            .ok_or(Malformed("an expression is empty"))?;
        if hands_down(operator.key, want) {
            let beside;
            let want = match (want, self.stands_beside(&operator, want, env, depth)?) {
                (Want::Value | Want::Truth, Some(sealed)) => {
                    beside = sealed;
                    Want::Beside(&beside)
                }
                _ => want,
            };
            let mut writer = Writer::new(out);
            let open = writer.begin_doc(key);
            let content = self.handing_down(writer.buffer(), &operator, want, env, depth)?;
            writer.end(open);
            self.check(&content, want)?;
            return Ok(content);
        }
        match want {
            Want::Key(equality) | Want::Set(equality) | Want::Token(equality) => {
                self.keyed(out, key, element, &operator, equality, env, depth)
            }
            _ => {
                let mut writer = Writer::new(out);
                let open = writer.begin_doc(key);
                let before = self.met.borrow().clone();
                let content = self.value(writer.buffer(), &operator, want, env, depth)?;
                writer.end(open);
                if content.is_open() {
                    self.met.replace(before);
                }
                if let Want::Truth = want {
                    self.truth(&content)?;
                }
                self.check(&content, want)?;
                Ok(content)
            }
        }
    }

    /// Whether `$mergeObjects` sees in it what the service would: documents.
    pub(in crate::rewrite) fn documents(&self, content: &Content) -> Result {
        match content {
            Content::Sealed(_) | Content::Masked(_) | Content::Mixed => {
                Err(self.refuse_whole(content))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn operand(
        &self,
        operands: &mut Operands<'_, '_>,
        element: &Element<'_>,
        want: Want<'_>,
    ) -> Result<Content> {
        self.write(
            operands.out,
            element.key,
            element,
            want,
            operands.env,
            operands.depth,
        )
    }

    /// The operands of an operator, in a list or alone.
    pub(super) fn each(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
        mut write: impl FnMut(&mut Operands<'_, '_>, &Element<'_>, usize) -> Result,
    ) -> Result {
        if operator.kind != kind::ARRAY {
            return write(operands, operator, 0);
        }
        let open = Writer::new(operands.out).begin_array(operator.key);
        for (index, item) in operator.doc()?.elements().enumerate() {
            write(operands, &item?, index)?;
        }
        Writer::new(operands.out).end(open);
        Ok(())
    }

    /// The operands of an operator that names them.
    pub(super) fn named(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
        mut write: impl FnMut(&mut Operands<'_, '_>, &Element<'_>) -> Result,
    ) -> Result {
        let doc = operator.object()?;
        let open = Writer::new(operands.out).begin_doc(operator.key);
        for item in doc.elements() {
            write(operands, &item?)?;
        }
        Writer::new(operands.out).end(open);
        Ok(())
    }

    /// Any other operator, as it gives its value.
    fn value(
        &self,
        out: &mut Vec<u8>,
        operator: &Element<'_>,
        want: Want<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Content> {
        let mut operands = Operands {
            out,
            env,
            depth: depth + 1,
        };
        let operands = &mut operands;
        match operator.key {
            "$eq" | "$ne" | "$in" | "$setEquals" | "$setIsSubset" | "$indexOfArray" => {
                self.compare(operands, operator)
            }
            "$gt" | "$gte" | "$lt" | "$lte" | "$cmp" => self.order(operands, operator),
            "$and" | "$or" | "$not" => {
                self.each(operands, operator, |operands, item, _| {
                    self.operand(operands, item, Want::Truth).map(|_| ())
                })?;
                Ok(Content::Open)
            }
            "$isArray" | "$size" => self.of_array(operands, operator),
            "$first" | "$last" | "$reverseArray" | "$arrayElemAt" | "$slice" => {
                let mut content = Content::Nothing;
                self.each(operands, operator, |operands, item, index| {
                    if index == 0 {
                        content = self.array_operand(operands, item, operator.key)?;
                        return Ok(());
                    }
                    self.open_operand(operands, item, operator.key).map(|_| ())
                })?;
                Ok(match operator.key {
                    "$reverseArray" | "$slice" => content,
                    _ => content.item(),
                })
            }
            "$firstN" | "$lastN" => {
                let mut content = Content::Nothing;
                self.named(operands, operator, |operands, item| {
                    if item.key == "input" {
                        content = self.array_operand(operands, item, operator.key)?;
                        return Ok(());
                    }
                    self.open_operand(operands, item, operator.key).map(|_| ())
                })?;
                Ok(content)
            }
            "$concatArrays" | "$mergeObjects" => {
                self.handing_down(operands.out, operator, Want::Value, env, depth)
            }
            "$filter" | "$map" => self.over_items(operands, operator, want),
            "$reduce" => self.reduce(operands, operator),
            "$sortArray" => self.sort_array(operands, operator),
            "$setUnion" | "$setIntersection" | "$setDifference" => self.of_sets(operands, operator),
            "$getField" | "$setField" | "$unsetField" => self.field(operands, operator),
            "$type" | "$isNumber" => self.type_of(operands, operator),
            "$function" | "$accumulator" | "$where" => Err(self.scope.refuse_command(
                &format!("`{}`", operator.key),
                "JavaScript could read what is sealed; use aggregation operators",
            )),
            known if OPEN_OPERANDS.contains(&known) => {
                if known == "$meta" {
                    check_metadata(self.scope, operator)?;
                }
                self.open_operand(operands, operator, known)
            }
            // Nothing sealed is in reach: MongoDB knows what to make of it.
            other if env.root.is_open() && env.variables.is_none() && !other.starts_with("$_") => {
                self.open_operand(operands, operator, other)
            }
            other => Err(self.scope.refuse_command(
                &format!("{} the operator `{other}`", self.what),
                "this version does not know it",
            )),
        }
    }

    /// An operand, or all in it, from which an operator computes. What is computed from
    /// constants alone is one, too.
    pub(super) fn open_operand(
        &self,
        operands: &mut Operands<'_, '_>,
        element: &Element<'_>,
        operator: &str,
    ) -> Result<Content> {
        let mut all = Content::Nothing;
        let content = match element.kind {
            kind::DOCUMENT if !super::is_operator(element)? => {
                self.named(operands, element, |operands, item| {
                    computed(&mut all, self.open_operand(operands, item, operator)?);
                    Ok(())
                })?;
                return Ok(all);
            }
            kind::ARRAY => {
                self.each(operands, element, |operands, item, _| {
                    computed(&mut all, self.open_operand(operands, item, operator)?);
                    Ok(())
                })?;
                return Ok(all);
            }
            _ => self.operand(operands, element, Want::Value)?,
        };
        if content.is_open() {
            computed(&mut all, content);
            return Ok(all);
        }
        let what = format!("{} `{operator}`", self.what);
        if content.sealed_path().is_empty() {
            let path = element.str().unwrap_or("an operand");
            return Err(self.scope.refuse(path, &what, by_content::COMPUTE));
        }
        Err(self.refuse_content(&content, &what, by_content::COMPUTE))
    }

    /// An array whose items an operator gives.
    pub(super) fn array_operand(
        &self,
        operands: &mut Operands<'_, '_>,
        element: &Element<'_>,
        operator: &str,
    ) -> Result<Content> {
        let content = self.operand(operands, element, Want::Value)?;
        self.real_array(&content, operator)?;
        Ok(content)
    }

    /// Whether what is an array for the service is one for MongoDB, too.
    pub(super) fn real_array(&self, content: &Content, operator: &str) -> Result {
        match content {
            Content::Sealed(sealed) if sealed.hides_arrays() => Err(self.scope.refuse(
                &sealed.field.path,
                &format!("{} `{operator}`", self.what),
                "an array is sealed as one value; set `elements = true` in the schema",
            )),
            Content::Masked(_) | Content::Mixed => Err(self.refuse_whole(content)),
            _ => Ok(()),
        }
    }
}

/// What is computed from all that was seen, and `operand`.
fn computed(all: &mut Content, operand: Content) {
    *all = match (&all, operand) {
        (Content::Open, _) | (_, Content::Open) => Content::Open,
        (_, Content::Document(shape)) if !shape.only_constants() => Content::Open,
        (Content::Nothing, Content::Nothing) => Content::Nothing,
        _ => Content::Constant(Types::ANY),
    };
}

/// Whether an operator gives one of its operands, or is made of them as they are, so
/// that the wish is handed down to them.
fn hands_down(operator: &str, want: Want<'_>) -> bool {
    match operator {
        "$cond" | "$ifNull" | "$switch" | "$let" | "$literal" | "$const" => true,
        "$concatArrays" => matches!(
            want,
            Want::Stored(_) | Want::Beside(_) | Want::Value | Want::Key(_) | Want::Set(_)
        ),
        "$mergeObjects" => matches!(
            want,
            Want::Stored(_) | Want::Beside(_) | Want::Value | Want::Truth
        ),
        // Sets of tokens are equal, and as large, where those of values are.
        "$setUnion" | "$setIntersection" | "$setDifference" => matches!(want, Want::Set(_)),
        _ => false,
    }
}
