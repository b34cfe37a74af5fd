//! Stages that look at neighbouring documents: `$setWindowFields`, `$fill`, `$densify`.

use super::group::SORT_BY;
use super::{Outcome, Result, Stage};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer};
use crate::rewrite::expression::{Expressions, Want};
use crate::rewrite::options::open_keys;
use crate::rewrite::scope::by_content;
use crate::rewrite::shape::{Content, Shape};

impl Stage<'_> {
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
            expressions.may_be_null(&before)?;
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
                    expressions.spill(&before, &content)?;
                    shape.set(field.key, before.clone().or(content));
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
}
