//! Stages that choose and compute fields: `$project`, `$addFields`, `$set`, `$unset`,
//! `$replaceRoot`, `$unwind`.

use super::{Outcome, Reading, Result};
use crate::raw::{Doc, Element, Malformed, Splicer, kind};
use crate::rewrite::expression::is_operator;
use crate::rewrite::scope::{DEEPEST, Place};
use crate::rewrite::shape::{Content, PLACES, Shape};

/// What a field of `$project` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Include,
    Exclude,
    Compute,
    /// More fields below it.
    Below,
}

impl Reading<'_> {
    /// `$addFields`, `$set`.
    pub(super) fn add_fields<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        let mut shape = self.shape()?;
        self.add_below(splicer, stage.object()?, "", &mut shape, 0)?;
        Ok(Content::Document(shape).into())
    }

    fn add_below<'m>(
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
            if field.kind == kind::DOCUMENT && !is_operator(&field)? && !field.doc()?.is_empty() {
                self.add_below(splicer, field.doc()?, &format!("{path}."), shape, depth + 1)?;
                continue;
            }
            let before = shape.stands(&path);
            let content = self.expressions().rewrite_at(
                splicer,
                &field,
                before.as_ref(),
                self.environment(),
            )?;
            if !shape.set(&path, content) {
                return Err(self.refuse_inside(&path));
            }
        }
        splicer.mend_length(fields.start(), mark)?;
        Ok(())
    }

    /// `$project`.
    pub(super) fn project<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        let fields = stage.object()?;
        let before = self.shape()?;
        let mut projected = if excludes(fields, 0)? {
            before.clone()
        } else {
            let mut kept = Shape::closed();
            kept.put("_id", before.named("_id"));
            kept
        };
        let mut places = 0;
        self.project_below(splicer, fields, "", &before, &mut projected, &mut places, 0)?;
        Ok(Content::Document(projected).into())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what is read and what is made, at every depth"
    )]
    fn project_below<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        fields: Doc<'m>,
        prefix: &str,
        before: &Shape,
        projected: &mut Shape,
        places: &mut usize,
        depth: usize,
    ) -> Result {
        if depth > DEEPEST {
            return Err(Malformed("a projection is nested too deep").into());
        }
        let mark = splicer.mark();
        for field in fields.elements() {
            let field = field?;
            no_operator(&field)?;
            let path = format!("{prefix}{}", field.key);
            let done = match asked(&field)? {
                Asked::Below => {
                    self.project_below(
                        splicer,
                        field.doc()?,
                        &format!("{path}."),
                        before,
                        projected,
                        places,
                        depth + 1,
                    )?;
                    true
                }
                Asked::Include => match before.stands(&path) {
                    Some(content) => {
                        // A number may lead to the same documents again and again.
                        *places += content.places().unwrap_or(PLACES);
                        *places <= PLACES && projected.set(&path, content)
                    }
                    None => false,
                },
                Asked::Exclude => projected.unset(&path),
                Asked::Compute => {
                    let before = before.stands(&path);
                    let content = self.expressions().rewrite_at(
                        splicer,
                        &field,
                        before.as_ref(),
                        self.environment(),
                    )?;
                    before.is_some() && projected.set(&path, content)
                }
            };
            if !done {
                return Err(self.refuse_inside(&path));
            }
        }
        splicer.mend_length(fields.start(), mark)?;
        Ok(())
    }

    /// `$unset`.
    pub(super) fn unset(&self, stage: &Element<'_>) -> Result<Outcome> {
        let mut shape = self.shape()?;
        let mut unset = |element: &Element<'_>| -> Result {
            let path = element.str().ok_or(Malformed("$unset takes strings"))?;
            if shape.unset(path) {
                return Ok(());
            }
            Err(self.refuse_inside(path))
        };
        if stage.kind == kind::STRING {
            unset(stage)?;
        } else {
            for path in stage.doc()?.elements() {
                unset(&path?)?;
            }
        }
        Ok(Content::Document(shape).into())
    }

    /// `$replaceRoot`, `$replaceWith`.
    pub(super) fn replace_root<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        let content = if stage.key == "$replaceRoot" {
            let doc = stage.object()?;
            let root = doc
                .find_once("newRoot")?
                .ok_or(Malformed("$replaceRoot has no newRoot"))?;
            let mark = splicer.mark();
            let content = self.expressions().rewrite_at(
                splicer,
                &root,
                Some(self.root),
                self.environment(),
            )?;
            splicer.mend_length(doc.start(), mark)?;
            content
        } else {
            self.expressions()
                .rewrite_at(splicer, stage, Some(self.root), self.environment())?
        };
        match content {
            Content::Document(_) => Ok(content.into()),
            content if content.is_open() => Ok(Content::Open.into()),
            content => Err(self.expressions().refuse_content(
                &content,
                self.what,
                "MongoDB only has its ciphertext: take the document out in the service",
            )),
        }
    }

    /// `$unwind`.
    pub(super) fn unwind(&self, stage: &Element<'_>) -> Result<Outcome> {
        let mut shape = self.shape()?;
        let path = if stage.kind == kind::DOCUMENT {
            if let Some(index) = stage.doc()?.find_once("includeArrayIndex")? {
                let name = index.str().unwrap_or_default();
                self.open_path(name, "put the index in a field of another name")?;
                shape.set(name, Content::Open);
            }
            stage.doc()?.find_once("path")?
        } else {
            Some(*stage)
        };
        let path = path
            .and_then(|path| path.str()?.strip_prefix('$'))
            .ok_or(Malformed("$unwind takes a path that begins with $"))?;
        match self.scope.place(path)? {
            Place::Sealed { field, .. } if !field.elements && field.types.allows(kind::ARRAY) => {
                Err(self.scope.refuse(
                    path,
                    self.what,
                    "an array is sealed as one value; set `elements = true` in the schema",
                ))
            }
            Place::Sealed { .. } => {
                if let Some(before) = shape.stands(path) {
                    let item = before.item();
                    // Below an array nothing is unwound.
                    let content = if path.contains('.') {
                        before.or(item)
                    } else {
                        item
                    };
                    shape.set(path, content);
                }
                Ok(Content::Document(shape).into())
            }
            _ => Ok(Content::Document(shape).into()),
        }
    }
}

/// Among names of fields an operator is an error, whatever it holds.
pub(super) fn no_operator(field: &Element<'_>) -> Result {
    if field.key.starts_with('$') {
        return Err(Malformed("an operator stands among names of fields").into());
    }
    Ok(())
}

/// Whether a value says no, as MongoDB takes it.
fn asked(field: &Element<'_>) -> Result<Asked> {
    Ok(match field.kind {
        kind::BOOL | kind::INT32 | kind::INT64 | kind::DOUBLE | kind::DECIMAL128 => {
            if field.truthy() {
                Asked::Include
            } else {
                Asked::Exclude
            }
        }
        kind::DOCUMENT if !is_operator(field)? => Asked::Below,
        _ => Asked::Compute,
    })
}

/// Whether a projection names what is to be left out: any field but `_id` that says no.
fn excludes(fields: Doc<'_>, depth: usize) -> Result<bool> {
    if depth > DEEPEST {
        return Err(Malformed("a projection is nested too deep").into());
    }
    let mut id_alone = false;
    let mut others = false;
    for field in fields.elements() {
        let field = field?;
        match asked(&field)? {
            Asked::Exclude if field.key != "_id" || depth > 0 => return Ok(true),
            Asked::Exclude => id_alone = true,
            Asked::Below if excludes(field.doc()?, depth + 1)? => return Ok(true),
            _ => others = true,
        }
    }
    Ok(id_alone && !others)
}
