//! Updates by a pipeline: what is set at a sealed place has to be sealed for it.

use super::fields::no_operator;
use super::{Reading, Result, counted, only};
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::rewrite::document::write_field;
use crate::rewrite::expression::{Want, is_operator};
use crate::rewrite::filter::UpsertEquality;
use crate::rewrite::permission::check_stage;
use crate::rewrite::scope::{DEEPEST, Place, Scope};
use crate::rewrite::shape::{Content, Shape};
use crate::rewrite::upsert;

/// Rewrites the pipeline of an update. `equalities` are those of an upsert's filter.
pub(in crate::rewrite) fn rewrite<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    array: Doc<'m>,
    equalities: &[UpsertEquality<'m>],
) -> Result {
    let stored = Content::Document(Shape::of(scope.collection));
    let mark = splicer.mark();
    upsert::check(scope, equalities)?;
    let missing: Vec<_> = equalities
        .iter()
        .filter_map(|equality| Some((equality.path, equality.sealed?)))
        .collect();
    let added = usize::from(!missing.is_empty());
    if added > 0 {
        // A document that was found has a value there; a new one has none yet, as
        // tokens put nothing into it.
        let at = array.start() + 4;
        splicer.replace(at, at, |out| {
            let mut writer = Writer::new(out);
            let stage = writer.begin_doc("0");
            let set = writer.begin_doc("$set");
            for (path, value) in missing {
                write_missing(&mut writer, scope, path, &value)?;
            }
            writer.end(set);
            writer.end(stage);
            Ok::<_, crate::refusal::Refusal>(())
        })?;
    }
    stages(splicer, scope, array, &stored, added)?;
    splicer.mend_length(array.start(), mark)?;
    Ok(())
}

/// `path: {$ifNull: ["$path", sealed]}`
fn write_missing(
    writer: &mut Writer<'_>,
    scope: &Scope<'_>,
    path: &str,
    value: &Element<'_>,
) -> Result {
    let Place::Sealed { field, element } = scope.unasked_place(path)? else {
        return Ok(());
    };
    if element || path.contains('.') {
        return Err(scope.refuse(
            path,
            "an upsert by a pipeline whose filter compares it",
            "use update operators",
        ));
    }
    let open = writer.begin_doc(path);
    let operands = writer.begin_array("$ifNull");
    writer.string("0", &format!("${path}"));
    write_field(writer.buffer(), scope, "1", field, value)?;
    writer.end(operands);
    writer.end(open);
    Ok(())
}

/// Rewrites the stages of an update of documents that are `stored`, without mending
/// the length of `array`, before which `added` stages were put.
pub(super) fn stages<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    array: Doc<'m>,
    stored: &Content,
    added: usize,
) -> Result {
    let target = &stored.clone().writable();
    let mut root = stored.clone();
    for (index, stage) in array.elements().enumerate() {
        let stage = stage?;
        if added > 0 {
            splicer.replace(stage.start + 1, stage.value_start, |out| {
                out.extend_from_slice((index + added).to_string().as_bytes());
                out.push(0);
            });
        }
        let stage = stage.object()?;
        let operator = only(stage)?;
        check_stage(scope, &operator)?;
        let what = format!("stage {index}, `{}`,", operator.key);
        let mark = splicer.mark();
        let step = Step {
            reading: Reading {
                scope,
                what: &what,
                root: &root,
            },
            target,
        };
        root = step.rewrite(splicer, &operator)?;
        counted(scope, &what, index, &root)?;
        splicer.mend_length(stage.start(), mark)?;
    }
    if !root.fits(target) {
        return Err(scope.refuse(
            &root.misfit(target),
            "an update by a pipeline that puts other values where sealed ones belong, or sealed ones elsewhere,",
            "set a constant, or the field's own value",
        ));
    }
    Ok(())
}

/// One stage of an update.
struct Step<'a> {
    reading: Reading<'a>,
    target: &'a Content,
}

impl Step<'_> {
    fn rewrite<'m>(&self, splicer: &mut Splicer<'m, '_>, stage: &Element<'m>) -> Result<Content> {
        let reading = &self.reading;
        let expressions = reading.expressions();
        let env = reading.environment();
        match stage.key {
            "$set" | "$addFields" => {
                let mut shape = reading.shape()?;
                self.set(splicer, stage.object()?, "", &mut shape, 0)?;
                Ok(Content::Document(shape))
            }
            "$unset" => {
                let outcome = reading.unset(stage)?;
                Ok(outcome.content.unwrap_or_else(|| reading.root.clone()))
            }
            "$replaceWith" => expressions.rewrite(splicer, stage, Want::Stored(self.target), env),
            "$replaceRoot" => {
                let doc = stage.object()?;
                let root = doc
                    .find_once("newRoot")?
                    .ok_or(Malformed("$replaceRoot has no newRoot"))?;
                let mark = splicer.mark();
                let content =
                    expressions.rewrite(splicer, &root, Want::Stored(self.target), env)?;
                splicer.mend_length(doc.start(), mark)?;
                Ok(content)
            }
            "$project" => {
                let outcome = reading.project(splicer, stage)?;
                Ok(outcome.content.unwrap_or_else(|| reading.root.clone()))
            }
            other => Err(reading.scope.refuse_command(
                &format!("the stage `{other}` in an update"),
                "use $set, $unset, $project or $replaceWith",
            )),
        }
    }

    fn set<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        fields: Doc<'m>,
        prefix: &str,
        shape: &mut Shape,
        depth: usize,
    ) -> Result {
        if depth > DEEPEST {
            return Err(Malformed("a stage is nested too deep").into());
        }
        let mark = splicer.mark();
        for field in fields.elements() {
            let field = field?;
            no_operator(&field)?;
            let path = format!("{prefix}{}", field.key);
            let below = match self.target {
                Content::Document(target) => target.stands(&path),
                _ => Some(Content::Open),
            };
            let Some(below) = below else {
                return Err(self.inside(&path));
            };
            let nested = field.kind == kind::DOCUMENT
                && !is_operator(&field)?
                && !field.doc()?.is_empty()
                && !matches!(below, Content::Sealed(_));
            if nested {
                self.set(splicer, field.doc()?, &format!("{path}."), shape, depth + 1)?;
                continue;
            }
            if field.kind == kind::DOCUMENT
                && matches!(below, Content::Sealed(_))
                && !is_operator(&field)?
            {
                // MongoDB would merge it with what is there, which it cannot see.
                return Err(self.reading.scope.refuse(
                    &path,
                    &format!(
                        "{} a document, which is merged with the one that is stored,",
                        self.reading.what
                    ),
                    "write {$literal: …} to replace it as a whole",
                ));
            }
            // A place that is open may hold a sealed value between two stages.
            let want = match &below {
                content if content.is_open() => Want::Value,
                content => Want::Stored(content),
            };
            let reading = &self.reading;
            let content =
                reading
                    .expressions()
                    .rewrite(splicer, &field, want, reading.environment())?;
            if !shape.set(&path, content) {
                return Err(self.inside(&path));
            }
        }
        splicer.mend_length(fields.start(), mark)?;
        Ok(())
    }

    fn inside(&self, path: &str) -> crate::refusal::Refusal {
        self.reading.scope.refuse(
            path,
            self.reading.what,
            "the path goes inside a sealed value: set it whole",
        )
    }
}
