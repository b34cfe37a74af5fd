//! Operators that compare values, or ask whether they are there and what they are.

use super::operators::Operands;
use super::{Environment, Expressions, Result, Want};
use crate::policy::Field;
use crate::raw::{Element, Malformed, Writer, kind};
use crate::rewrite::scope::by_content;
use crate::rewrite::shape::Content;

impl Expressions<'_, '_> {
    pub(super) fn of_array(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
    ) -> Result<Content> {
        self.each(operands, operator, |operands, item, _| {
            if !is_set(item)? {
                return self.array_operand(operands, item, operator.key).map(|_| ());
            }
            if self.looks_ahead() {
                return self.operand(operands, item, Want::Value).map(|_| ());
            }
            // A set of tokens has as many members as that of the values.
            let want = match self.look(item, operands.env)? {
                (content, Some(field)) if !content.is_open() => {
                    return self
                        .operand(operands, item, Want::Set(self.equality(&field)?))
                        .map(|_| ());
                }
                _ => Want::Value,
            };
            self.operand(operands, item, want).map(|_| ())
        })?;
        Ok(Content::Open)
    }

    /// `$eq` and whatever else only asks which values are equal.
    pub(super) fn compare(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
    ) -> Result<Content> {
        // What it gives is open; to look at its operands, twice each, is for later.
        if self.looks_ahead() {
            return Ok(Content::Open);
        }
        if operator.kind != kind::ARRAY {
            // Which MongoDB refuses.
            self.open_operand(operands, operator, operator.key)?;
            return Ok(Content::Open);
        }
        let mut sealed = None;
        let mut closed = None;
        let mut open = true;
        let mut null = false;
        // Without constants beside sealed values.
        let mut plain = true;
        for item in operator.doc()?.elements() {
            let item = item?;
            let (content, met) = self.look(&item, operands.env)?;
            open &= content.is_open();
            null |= item.is_null();
            plain &= !matches!(content, Content::Masked(_) | Content::Mixed);
            if !content.is_open() {
                sealed = met.or(sealed);
                closed = Some(content);
            }
        }
        if !open {
            two_operands(operator)?;
        }
        // Null is null, sealed or not.
        let by_presence = null && plain && matches!(operator.key, "$eq" | "$ne");
        if open || by_presence {
            self.each(operands, operator, |operands, item, _| {
                self.operand(operands, item, Want::Value).map(|_| ())
            })?;
            return Ok(Content::Open);
        }
        let field = sealed.ok_or_else(|| self.refuse_whole(&closed.unwrap_or(Content::Mixed)))?;
        let equality = self.equality(&field)?;
        let by_token = with_constants(operator, operands.env)?;
        self.each(operands, operator, |operands, item, index| {
            let want = match operator.key {
                "$indexOfArray" if index > 1 => {
                    return self.open_operand(operands, item, operator.key).map(|_| ());
                }
                _ if by_token => Want::Token(equality),
                "$setEquals" | "$setIsSubset" => Want::Set(equality),
                "$in" if index == 1 => Want::Set(equality),
                _ => Want::Key(equality),
            };
            self.operand(operands, item, want).map(|_| ())
        })?;
        Ok(Content::Open)
    }

    /// An order, which nothing sealed has, except that all of it comes after null.
    pub(super) fn order(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
    ) -> Result<Content> {
        let with_null = operator.kind == kind::ARRAY
            && operator
                .doc()?
                .elements()
                .any(|item| item.is_ok_and(|item| item.is_null()));
        let mut open = true;
        self.each(operands, operator, |operands, item, _| {
            let content = self.operand(operands, item, Want::Value)?;
            open &= content.is_open();
            let after_null = matches!(&content, Content::Sealed(sealed)
                if !sealed.field.types.allows(kind::MIN_KEY));
            if content.is_open() || with_null && after_null {
                return Ok(());
            }
            if content.sealed_path().is_empty() {
                return Err(self.refuse_whole(&content));
            }
            let what = format!("{} `{}`", self.what, operator.key);
            Err(self.refuse_content(&content, &what, by_content::ORDER))
        })?;
        if !open {
            two_operands(operator)?;
        }
        Ok(Content::Open)
    }

    /// Sets, of open values; of sealed ones only their tokens are, see [`hands_down`].
    pub(super) fn of_sets(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
    ) -> Result<Content> {
        if !self.looks_ahead() {
            self.open_operand(operands, operator, operator.key)?;
            return Ok(Content::Open);
        }
        let mut open = true;
        self.each(operands, operator, |operands, item, _| {
            open &= self.operand(operands, item, Want::Value)?.is_open();
            Ok(())
        })?;
        Ok(if open { Content::Open } else { Content::Mixed })
    }

    /// `$type` and `$isNumber`: where the schema knows one type, that is the answer
    /// for what is sealed.
    pub(super) fn type_of(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
    ) -> Result<Content> {
        let operand = match operator.kind {
            kind::ARRAY => operator.doc()?.first()?,
            _ => Some(*operator),
        };
        let operand = operand.ok_or(Malformed("$type has no operand"))?;
        let content = match self.looks_ahead() {
            true => Content::Open,
            false => self.look(&operand, operands.env)?.0,
        };
        let seen = match &content {
            Content::Sealed(sealed) => {
                let field = &sealed.field;
                let seen = match operator.key {
                    "$type" => one_type(field).map(|alias| Some(Some(alias))),
                    _ => is_number(field).map(|number| number.then_some(None)),
                };
                seen.ok_or_else(|| {
                    self.scope.refuse(
                        &field.path,
                        &format!("{} `{}`", self.what, operator.key),
                        "MongoDB only has its ciphertext: the schema says which types it may have",
                    )
                })?
            }
            Content::Masked(_) | Content::Mixed => return Err(self.refuse_whole(&content)),
            _ => None,
        };
        let Some(alias) = seen.filter(|_| !self.allows_plaintext()) else {
            if seen.is_some() {
                return Err(self.refuse_whole(&content));
            }
            self.each(operands, operator, |operands, item, _| {
                self.operand(operands, item, Want::Value).map(|_| ())
            })?;
            return Ok(Content::Open);
        };
        self.changed.set(true);
        let mut writer = Writer::new(operands.out);
        let bind = writer.begin_doc("$let");
        let variables = writer.begin_doc("vars");
        let depth = operands.depth + 1;
        self.write(
            writer.buffer(),
            "fs",
            &operand,
            Want::Value,
            operands.env,
            depth,
        )?;
        writer.end(variables);
        match alias {
            None => write_is_sealed(&mut writer, "in"),
            Some(alias) => {
                let inner = writer.begin_doc("in");
                let cond = writer.begin_array("$cond");
                write_is_sealed(&mut writer, "0");
                writer.string("1", alias);
                let other = writer.begin_doc("2");
                writer.string("$type", "$$fs");
                writer.end(other);
                writer.end(cond);
                writer.end(inner);
            }
        }
        writer.end(bind);
        Ok(Content::Open)
    }
}

/// MongoDB refuses another number of operands, but would have seen what they are.
fn two_operands(operator: &Element<'_>) -> Result {
    let takes_more = matches!(operator.key, "$indexOfArray" | "$setEquals");
    if takes_more || operator.array()?.elements().count() == 2 {
        return Ok(());
    }
    Err(Malformed("a comparison takes two operands").into())
}

/// The one type of a field's values, if the schema names one.
fn one_type(field: &Field) -> Option<&'static str> {
    match field.types.names().as_deref() {
        Some([one]) if *one != "number" => Some(one),
        _ => None,
    }
}

/// Whether a field's values are numbers, if they are all or none.
fn is_number(field: &Field) -> Option<bool> {
    let numbers = [kind::DOUBLE, kind::INT32, kind::INT64, kind::DECIMAL128];
    if !numbers.iter().any(|number| field.types.allows(*number)) {
        return Some(false);
    }
    let number = crate::schema::Types::named("number")?;
    field.types.within(number).then_some(true)
}

/// `{$in: [{$type: "$$fs"}, ["object", "binData"]]}`: whether a sealed value is there.
fn write_is_sealed(writer: &mut Writer<'_>, key: &str) {
    let test = writer.begin_doc(key);
    let operands = writer.begin_array("$in");
    let kind = writer.begin_doc("0");
    writer.string("$type", "$$fs");
    writer.end(kind);
    let kinds = writer.begin_array("1");
    writer.string("0", "object");
    writer.string("1", "binData");
    writer.end(kinds);
    writer.end(operands);
    writer.end(test);
}

/// Whether an expression is an operator on sets.
fn is_set(element: &Element<'_>) -> Result<bool> {
    Ok(super::is_operator(element)?
        && element.doc()?.first()?.is_some_and(|operator| {
            matches!(
                operator.key,
                "$setUnion" | "$setIntersection" | "$setDifference"
            )
        }))
}

/// Whether a path is compared with a constant that is neither null nor an array,
/// or looked for in a list of such constants.
fn with_constants(operator: &Element<'_>, env: Environment<'_>) -> Result<bool> {
    let scalar = |element: &Element<'_>| match element.kind {
        kind::STRING => element.str().is_some_and(|text| {
            let of_let = env.constant(text).map(|constant| constant.value);
            let scalar = |value: Element<'_>| {
                !value.is_null() && !matches!(value.kind, kind::DOCUMENT | kind::ARRAY)
            };
            of_let.map_or_else(|| !text.starts_with('$'), scalar)
        }),
        kind::DOCUMENT | kind::ARRAY => false,
        _ => !element.is_null(),
    };
    let path = |element: &Element<'_>| element.kind == kind::STRING && !scalar(element);
    let mut operands = operator.array()?.elements();
    let (Some(one), Some(other), None) = (
        operands.next().transpose()?,
        operands.next().transpose()?,
        operands.next(),
    ) else {
        return Ok(false);
    };
    match operator.key {
        "$eq" | "$ne" => Ok(path(&one) && scalar(&other) || scalar(&one) && path(&other)),
        "$in" if path(&one) && other.kind == kind::ARRAY => {
            for item in other.doc()?.elements() {
                if !scalar(&item?) {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}
