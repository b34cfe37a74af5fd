//! `$addToSet` of sealed values: one of each is kept, told apart by tokens.

use super::group::document;
use super::{Result, Stage};
use crate::raw::{Element, Writer};
use crate::rewrite::expression::{Expressions, Want};
use crate::rewrite::shape::Content;

impl Stage<'_> {
    /// `$addToSet`: sealed values are equal where their tokens are, so all are
    /// collected with their keys, and one of each is kept in the end.
    pub(super) fn add_to_set(
        &self,
        expressions: &Expressions<'_, '_>,
        out: &mut Vec<u8>,
        name: &str,
        operator: &Element<'_>,
        more: &mut Vec<Vec<u8>>,
    ) -> Result<Content> {
        let env = self.environment();
        self.no_list(expressions, operator)?;
        let (content, _) = expressions.look(operator, env)?;
        if content.is_open() {
            expressions.write(out, operator.key, operator, Want::Value, env, 0)?;
            return Ok(Content::Open);
        }
        let mut writer = Writer::new(out);
        let push = writer.begin_doc("$push");
        let cond = writer.begin_array("$cond");
        let missing = writer.begin_doc("0");
        let equal = writer.begin_array("$eq");
        let kind = writer.begin_doc("0");
        let operand = writer.begin_array("$type");
        expressions.write(writer.buffer(), "0", operator, Want::Value, env, 0)?;
        writer.end(operand);
        writer.end(kind);
        writer.string("1", "missing");
        writer.end(equal);
        writer.end(missing);
        writer.string("1", "$$REMOVE");
        let pair = writer.begin_doc("2");
        let boxed = writer.begin_doc("k");
        expressions.write_group_key(writer.buffer(), "a", operator, env, 0)?;
        writer.end(boxed);
        expressions.write(writer.buffer(), "v", operator, Want::Value, env, 0)?;
        writer.end(pair);
        writer.end(cond);
        writer.end(push);
        more.push(one_of_each(name));
        Ok(content.in_array())
    }
}

/// `$set: {name: …}` that keeps, of an array of `{k: key, v: value}`, the first
/// value of each key: sorted by keys, it is the one after another key.
fn one_of_each(name: &str) -> Vec<u8> {
    let list = |writer: &mut Writer<'_>, operator: &str, operands: &[&str]| {
        let open = writer.begin_array(operator);
        for (index, operand) in operands.iter().enumerate() {
            writer.string(&index.to_string(), operand);
        }
        writer.end(open);
    };
    // {$range: [0, {$size: of}]}
    let indexes = |writer: &mut Writer<'_>, of: &str| {
        let input = writer.begin_doc("input");
        let range = writer.begin_array("$range");
        writer.int32("0", 0);
        let size = writer.begin_doc("1");
        writer.string("$size", of);
        writer.end(size);
        writer.end(range);
        writer.end(input);
        writer.string("as", "i");
    };
    let path = format!("${name}");
    document(|writer| {
        let set = writer.begin_doc("$set");
        let field = writer.begin_doc(name);
        let bind = writer.begin_doc("$let");
        let variables = writer.begin_doc("vars");
        let sorted = writer.begin_doc("sorted");
        let sort = writer.begin_doc("$sortArray");
        let input = writer.begin_doc("input");
        // Each with its index, so that the first stays the first.
        let numbered = writer.begin_doc("$map");
        indexes(writer, &path);
        let inner = writer.begin_doc("in");
        let merge = writer.begin_array("$mergeObjects");
        let item = writer.begin_doc("0");
        list(writer, "$arrayElemAt", &[&path, "$$i"]);
        writer.end(item);
        let number = writer.begin_doc("1");
        writer.string("i", "$$i");
        writer.end(number);
        writer.end(merge);
        writer.end(inner);
        writer.end(numbered);
        writer.end(input);
        let by = writer.begin_doc("sortBy");
        writer.int32("k", 1);
        writer.int32("i", 1);
        writer.end(by);
        writer.end(sort);
        writer.end(sorted);
        writer.end(variables);
        let within = writer.begin_doc("in");
        let apart = writer.begin_doc("$let");
        let variables = writer.begin_doc("vars");
        writer.string("k", "$$sorted.k");
        writer.string("v", "$$sorted.v");
        writer.end(variables);
        let chosen = writer.begin_doc("in");
        let map = writer.begin_doc("$map");
        let input = writer.begin_doc("input");
        let filter = writer.begin_doc("$filter");
        indexes(writer, "$$k");
        let cond = writer.begin_doc("cond");
        let either = writer.begin_array("$or");
        let first = writer.begin_doc("0");
        let equal = writer.begin_array("$eq");
        writer.string("0", "$$i");
        writer.int32("1", 0);
        writer.end(equal);
        writer.end(first);
        let differs = writer.begin_doc("1");
        let unequal = writer.begin_array("$ne");
        let this = writer.begin_doc("0");
        list(writer, "$arrayElemAt", &["$$k", "$$i"]);
        writer.end(this);
        let before = writer.begin_doc("1");
        let at = writer.begin_array("$arrayElemAt");
        writer.string("0", "$$k");
        let less = writer.begin_doc("1");
        let subtract = writer.begin_array("$subtract");
        writer.string("0", "$$i");
        writer.int32("1", 1);
        writer.end(subtract);
        writer.end(less);
        writer.end(at);
        writer.end(before);
        writer.end(unequal);
        writer.end(differs);
        writer.end(either);
        writer.end(cond);
        writer.end(filter);
        writer.end(input);
        writer.string("as", "i");
        let value = writer.begin_doc("in");
        list(writer, "$arrayElemAt", &["$$v", "$$i"]);
        writer.end(value);
        writer.end(map);
        writer.end(chosen);
        writer.end(apart);
        writer.end(within);
        writer.end(bind);
        writer.end(field);
        writer.end(set);
    })
}
