//! Stages that bring documents together: `$group`, `$sortByCount`, `$bucket`,
//! `$bucketAuto`.
//!
//! Documents are grouped by tokens, and a group's key is taken from its first
//! document again, as MongoDB itself does.

use super::{Outcome, Result, Stage};
use crate::raw::{Element, Malformed, Splicer, Writer, kind};
use crate::rewrite::expression::{Expressions, Want, beside};
use crate::rewrite::options::open_keys;
use crate::rewrite::scope::by_content;
use crate::rewrite::shape::{Content, Shape};

/// Where the key of a group waits while documents are grouped by its tokens.
const KEPT: &str = "fieldseal_key";

pub(super) const SORT_BY: &str = "sort by an open field";

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
            "$first" | "$last" => moved(out, operator),
            "$locf" => {
                let content = moved(out, operator)?;
                expressions.may_be_null(&content)?;
                Ok(content)
            }
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
                    Some(output) => expressions.look(&output, env)?.0.writable(),
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
                            let want = beside(&output);
                            let default = expressions.write(
                                writer.buffer(),
                                part.key,
                                &part,
                                want,
                                env,
                                0,
                            )?;
                            expressions.spill(&content, &default)?;
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
    pub(super) fn no_list(
        &self,
        expressions: &Expressions<'_, '_>,
        operator: &Element<'_>,
    ) -> Result {
        // These do take a list.
        if operator.key.starts_with("$covariance")
            || operator.kind != kind::ARRAY
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
        let what = format!("{} `{operator}`", self.what);
        Err(expressions.refuse_content(&content, &what, by_content::COMPUTE))
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

    pub(super) fn outputs(
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
            if !shape.set(field.key, content) {
                return Err(self.refuse_inside(field.key));
            }
        }
        Writer::new(out).end(open);
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
