//! Stages that bring documents together: `$group`, `$sortByCount`, `$bucket`,
//! `$bucketAuto`, `$setWindowFields`, `$fill`, `$densify`.
//!
//! Documents are grouped by tokens, and a group's key is taken from its first
//! document again, as MongoDB itself does.

use super::{Outcome, Result, Stage};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::rewrite::expression::{Expressions, Want};
use crate::rewrite::options::open_keys;
use crate::rewrite::scope::by_content;
use crate::rewrite::shape::{Content, Shape};

/// Where the key of a group waits while documents are grouped by its tokens.
const KEPT: &str = "fieldseal_key";

const SORT_BY: &str = "sort by an open field";

impl Stage<'_> {
    /// `$group`.
    pub(super) fn group<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        let fields = stage.object()?;
        let expressions = self.expressions();
        let mut shape = Shape::closed();
        let mut more = Vec::new();
        expressions.in_place(splicer, stage, |out| {
            let open = Writer::new(out).begin_doc(stage.key);
            for field in fields.elements() {
                let field = field?;
                if field.key == KEPT {
                    return Err(self.scope.refuse_command(
                        &format!("{} a field named `{KEPT}`", self.what),
                        "give it another name",
                    ));
                }
                let content = if field.key == "_id" {
                    self.group_key(&expressions, out, &field, &mut more)?
                } else {
                    self.accumulator(&expressions, out, &field, Some(&mut more))?
                };
                shape.put(field.key, content);
            }
            Writer::new(out).end(open);
            Ok(())
        })?;
        Ok(Outcome {
            content: Some(Content::Document(shape)),
            more,
        })
    }

    /// The key of the groups; where tokens stand for it, the key itself is kept beside.
    fn group_key(
        &self,
        expressions: &Expressions<'_, '_>,
        out: &mut Vec<u8>,
        key: &Element<'_>,
        more: &mut Vec<Vec<u8>>,
    ) -> Result<Content> {
        let env = self.environment();
        let (content, by_tokens) = expressions.write_group_key(out, key.key, key, env, 0)?;
        if by_tokens {
            let mut writer = Writer::new(out);
            let open = writer.begin_doc(KEPT);
            if key.kind == kind::ARRAY {
                // An accumulator takes no list.
                let first = writer.begin_doc("$first");
                let list = writer.begin_array("$concatArrays");
                expressions.write(writer.buffer(), "0", key, Want::Value, env, 0)?;
                writer.end(list);
                writer.end(first);
            } else {
                expressions.write(writer.buffer(), "$first", key, Want::Value, env, 0)?;
            }
            writer.end(open);
            // Before what other fields need, so that they find the names as they are.
            more.splice(0..0, restore_key());
        }
        Ok(content)
    }

    /// `name: {$accumulator: expression}`. Without `more`, no stage can be added behind.
    fn accumulator(
        &self,
        expressions: &Expressions<'_, '_>,
        out: &mut Vec<u8>,
        field: &Element<'_>,
        more: Option<&mut Vec<Vec<u8>>>,
    ) -> Result<Content> {
        let operator = field
            .object()?
            .first()?
            .ok_or(Malformed("an accumulator is empty"))?;
        let open = Writer::new(out).begin_doc(field.key);
        let content = match (operator.key, more) {
            ("$addToSet", Some(more)) => {
                self.add_to_set(expressions, out, field.key, &operator, more)?
            }
            _ => self.accumulate(expressions, out, &operator)?,
        };
        // What else stands there, as the window of a window function.
        for option in field.doc()?.elements().skip(1) {
            let option = option?;
            if option.key != "window" {
                return Err(Malformed("a field has more than one accumulator").into());
            }
            Writer::new(out).value(option.kind, option.key, option.value());
        }
        Writer::new(out).end(open);
        Ok(content)
    }

    fn accumulate(
        &self,
        expressions: &Expressions<'_, '_>,
        out: &mut Vec<u8>,
        operator: &Element<'_>,
    ) -> Result<Content> {
        let env = self.environment();
        let moved = |out: &mut Vec<u8>, element: &Element<'_>| {
            expressions.write(out, element.key, element, Want::Value, env, 0)
        };
        self.no_list(expressions, operator)?;
        match operator.key {
            "$first" | "$last" | "$locf" => moved(out, operator),
            "$push" => Ok(moved(out, operator)?.in_array()),
            "$mergeObjects" => {
                let content = moved(out, operator)?;
                expressions.documents(&content)?;
                Ok(content)
            }
            "$top" | "$bottom" | "$topN" | "$bottomN" | "$firstN" | "$lastN" | "$shift" => {
                let mut content = Content::Nothing;
                // A default stands for a value of the same field.
                let output = match operator.object()?.find_once("output")? {
                    Some(output) => expressions.look(&output, env)?.0,
                    None => Content::Nothing,
                };
                let mut writer = Writer::new(out);
                let open = writer.begin_doc(operator.key);
                for part in operator.object()?.elements() {
                    let part = part?;
                    match part.key {
                        "sortBy" => {
                            open_keys(self.scope, &part, self.what, SORT_BY)?;
                            writer.value(part.kind, part.key, part.value());
                        }
                        "output" | "input" => content = moved(writer.buffer(), &part)?,
                        "default" => {
                            let want = Want::Beside(&output);
                            let default = expressions.write(
                                writer.buffer(),
                                part.key,
                                &part,
                                want,
                                env,
                                0,
                            )?;
                            content = content.or(default);
                        }
                        _ => {
                            self.open_operand(expressions, writer.buffer(), &part, operator.key)?;
                        }
                    }
                }
                writer.end(open);
                Ok(if operator.key.ends_with('N') {
                    content.in_array()
                } else {
                    content
                })
            }
            known if ACCUMULATORS.contains(&known) => {
                self.open_operand(expressions, out, operator, known)?;
                Ok(Content::Open)
            }
            "$accumulator" | "$function" => Err(self.scope.refuse_command(
                &format!("`{}`", operator.key),
                "JavaScript could read what is sealed; use aggregation operators",
            )),
            other if self.root.is_open() && !other.starts_with("$_") => {
                self.open_operand(expressions, out, operator, other)?;
                Ok(Content::Open)
            }
            other => Err(self.scope.refuse_command(
                &format!("{} the accumulator `{other}`", self.what),
                "this version does not know it",
            )),
        }
    }

    /// A list, which MongoDB refuses, would be taken for an array.
    fn no_list(&self, expressions: &Expressions<'_, '_>, operator: &Element<'_>) -> Result {
        if operator.kind != kind::ARRAY
            || expressions.look(operator, self.environment())?.0.is_open()
        {
            return Ok(());
        }
        Err(self.scope.refuse_command(
            &format!("{} a list as the operand of `{}`", self.what, operator.key),
            "write what is in it without brackets",
        ))
    }

    /// What an accumulator computes from: open values only.
    fn open_operand(
        &self,
        expressions: &Expressions<'_, '_>,
        out: &mut Vec<u8>,
        operand: &Element<'_>,
        operator: &str,
    ) -> Result {
        let content = expressions.write(
            out,
            operand.key,
            operand,
            Want::Value,
            self.environment(),
            0,
        )?;
        if content.is_open() {
            return Ok(());
        }
        Err(self.scope.refuse(
            &content.sealed_path(),
            &format!("{} `{operator}`", self.what),
            by_content::COMPUTE,
        ))
    }

    /// `$addToSet`: sealed values are equal where their tokens are, so all are
    /// collected with their keys, and one of each is kept in the end.
    fn add_to_set(
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

    /// `$sortByCount`, as MongoDB takes it apart: a `$group` and a `$sort`.
    pub(super) fn sort_by_count<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        let expressions = self.expressions();
        let env = self.environment();
        let mut shape = Shape::closed();
        let (content, _) = expressions.look(stage, env)?;
        shape.put("count", Content::Open);
        if content.is_open() {
            expressions.rewrite(splicer, stage, Want::Value, env)?;
            shape.put("_id", Content::Open);
            return Ok(Content::Document(shape).into());
        }
        let mut more = Vec::new();
        expressions.in_place(splicer, stage, |out| {
            let open = Writer::new(out).begin_doc("$group");
            expressions.write_group_key(out, "_id", stage, env, 0)?;
            let mut writer = Writer::new(out);
            let count = writer.begin_doc("count");
            writer.int32("$sum", 1);
            writer.end(count);
            let kept = writer.begin_doc(KEPT);
            expressions.write(writer.buffer(), "$first", stage, Want::Value, env, 0)?;
            writer.end(kept);
            writer.end(open);
            Ok(())
        })?;
        more.extend(restore_key());
        more.push(document(|writer| {
            let sort = writer.begin_doc("$sort");
            writer.int32("count", -1);
            writer.end(sort);
        }));
        shape.put("_id", content);
        Ok(Outcome {
            content: Some(Content::Document(shape)),
            more,
        })
    }

    /// `$bucket`, `$bucketAuto`: the bounds are an order, which only open values have.
    pub(super) fn bucket<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        let expressions = self.expressions();
        let mut shape = Shape::closed();
        shape.put("_id", Content::Open);
        let mut counted = true;
        let options = stage.object()?;
        expressions.in_place(splicer, stage, |out| {
            let open = Writer::new(out).begin_doc(stage.key);
            for option in options.elements() {
                let option = option?;
                if option.key == "output" {
                    counted = false;
                    self.outputs(&expressions, out, &option, &mut shape)?;
                } else {
                    self.open_operand(&expressions, out, &option, option.key)?;
                }
            }
            Writer::new(out).end(open);
            Ok(())
        })?;
        if counted {
            shape.put("count", Content::Open);
        }
        Ok(Content::Document(shape).into())
    }

    fn outputs(
        &self,
        expressions: &Expressions<'_, '_>,
        out: &mut Vec<u8>,
        outputs: &Element<'_>,
        shape: &mut Shape,
    ) -> Result {
        let open = Writer::new(out).begin_doc(outputs.key);
        for field in outputs.object()?.elements() {
            let field = field?;
            let content = self.accumulator(expressions, out, &field, None)?;
            if !shape.set(field.key.split('.'), content) {
                return Err(self.refuse_inside(field.key));
            }
        }
        Writer::new(out).end(open);
        Ok(())
    }

    /// `$setWindowFields`.
    pub(super) fn window<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        let expressions = self.expressions();
        let mut shape = self.shape()?;
        let options = stage.object()?;
        expressions.in_place(splicer, stage, |out| {
            let open = Writer::new(out).begin_doc(stage.key);
            for option in options.elements() {
                let option = option?;
                match option.key {
                    "partitionBy" => self.partition(&expressions, out, &option)?,
                    "sortBy" => {
                        open_keys(self.scope, &option, self.what, SORT_BY)?;
                        Writer::new(out).value(option.kind, option.key, option.value());
                    }
                    "output" => self.outputs(&expressions, out, &option, &mut shape)?,
                    other => return Err(self.unknown_option(other)),
                }
            }
            Writer::new(out).end(open);
            Ok(())
        })?;
        Ok(Content::Document(shape).into())
    }

    /// What partitions documents is only told apart, so tokens do.
    fn partition(
        &self,
        expressions: &Expressions<'_, '_>,
        out: &mut Vec<u8>,
        option: &Element<'_>,
    ) -> Result {
        expressions.write_group_key(out, option.key, option, self.environment(), 0)?;
        Ok(())
    }

    /// `$fill`.
    pub(super) fn fill<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        let expressions = self.expressions();
        let mut shape = self.shape()?;
        let options = stage.object()?;
        expressions.in_place(splicer, stage, |out| {
            let open = Writer::new(out).begin_doc(stage.key);
            for option in options.elements() {
                let option = option?;
                match option.key {
                    "partitionBy" => {
                        self.partition(&expressions, out, &option)?;
                        continue;
                    }
                    "sortBy" => open_keys(self.scope, &option, self.what, SORT_BY)?,
                    "partitionByFields" => self.open_names(option.array()?)?,
                    "output" => {
                        self.filled(&expressions, out, &option, &mut shape)?;
                        continue;
                    }
                    other => return Err(self.unknown_option(other)),
                }
                Writer::new(out).value(option.kind, option.key, option.value());
            }
            Writer::new(out).end(open);
            Ok(())
        })?;
        Ok(Content::Document(shape).into())
    }

    fn filled(
        &self,
        expressions: &Expressions<'_, '_>,
        out: &mut Vec<u8>,
        outputs: &Element<'_>,
        shape: &mut Shape,
    ) -> Result {
        let open = Writer::new(out).begin_doc(outputs.key);
        for field in outputs.object()?.elements() {
            let field = field?;
            let before = match shape.stands(field.key) {
                Some(Content::Document(below)) if !below.is_open() => None,
                Some(Content::Mixed) | None => None,
                before => before,
            };
            let Some(before) = before else {
                return Err(self.scope.refuse(
                    field.key,
                    self.what,
                    "fill the fields in it one by one",
                ));
            };
            let opened = Writer::new(out).begin_doc(field.key);
            for part in field.object()?.elements() {
                let part = part?;
                let linear = part.key == "method" && part.str() != Some("locf");
                if linear && !before.is_open() {
                    return Err(self.scope.refuse(
                        field.key,
                        &format!("{} a method other than `locf`", self.what),
                        by_content::COMPUTE,
                    ));
                }
                let want = match &before {
                    sealed @ Content::Sealed(_) if part.key == "value" => Want::Beside(sealed),
                    _ => Want::Value,
                };
                let content =
                    expressions.write(out, part.key, &part, want, self.environment(), 0)?;
                if part.key == "value" {
                    shape.set(field.key.split('.'), before.clone().or(content));
                }
            }
            Writer::new(out).end(opened);
        }
        Writer::new(out).end(open);
        Ok(())
    }

    /// `$densify`, which goes by the order of a field.
    pub(super) fn densify(&self, stage: &Element<'_>) -> Result<Outcome> {
        for option in stage.object()?.elements() {
            let option = option?;
            match option.key {
                "field" => self.open_path(option.str().unwrap_or_default(), SORT_BY)?,
                "partitionByFields" => self.open_names(option.array()?)?,
                "range" => {}
                other => return Err(self.unknown_option(other)),
            }
        }
        Ok(Outcome::same())
    }

    fn open_names(&self, names: Doc<'_>) -> Result {
        for name in names.elements() {
            let name = name?;
            let name = name
                .str()
                .ok_or(Malformed("a field is not named by a string"))?;
            self.open_path(name, "use partitionBy with the field's path, `$` before it")?;
        }
        Ok(())
    }

    pub(super) fn unknown_option(&self, option: &str) -> crate::refusal::Refusal {
        self.scope.refuse_command(
            &format!("{} with the option `{option}`", self.what),
            "this version does not know it",
        )
    }
}

/// Accumulators that compute something.
const ACCUMULATORS: &[&str] = &[
    "$addToSet",
    "$avg",
    "$concatArrays",
    "$count",
    "$covariancePop",
    "$covarianceSamp",
    "$denseRank",
    "$derivative",
    "$documentNumber",
    "$expMovingAvg",
    "$integral",
    "$linearFill",
    "$max",
    "$maxN",
    "$median",
    "$min",
    "$minMaxScaler",
    "$minN",
    "$percentile",
    "$rank",
    "$setUnion",
    "$stdDevPop",
    "$stdDevSamp",
    "$sum",
];

/// A document that `write` fills.
pub(super) fn document(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    let open = writer.begin();
    write(&mut writer);
    writer.end(open);
    bytes
}

/// The stages that put a group's own key in the place of its tokens.
fn restore_key() -> [Vec<u8>; 2] {
    [
        document(|writer| {
            let set = writer.begin_doc("$set");
            writer.string("_id", &format!("${KEPT}"));
            writer.end(set);
        }),
        document(|writer| writer.string("$unset", KEPT)),
    ]
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
