//! Keys: tokens in the place of sealed values, in arrays and documents too, so that
//! they are equal where the values are.

use super::{Environment, Expressions, Result, Want, deep, is_operator};
use crate::policy::{Equality, Field};
use crate::raw::{Element, Writer, kind};
use crate::rewrite::scope::by_content;
use crate::rewrite::shape::Content;

impl Expressions<'_, '_> {
    /// Rewrites an expression whose values are only told apart, as a group's key is.
    /// Returns what it gives, and whether tokens stand for sealed values in it.
    pub(in crate::rewrite) fn write_group_key(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        element: &Element<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<(Content, bool)> {
        deep(depth)?;
        let (content, met) = self.look(element, env)?;
        if content.is_open() {
            self.write(out, key, element, Want::Value, env, depth)?;
            return Ok((content, false));
        }
        let parts = match element.kind {
            kind::DOCUMENT => !is_operator(element)?,
            kind => kind == kind::ARRAY,
        };
        if parts {
            let mut writer = Writer::new(out);
            let open = match element.kind {
                kind::ARRAY => writer.begin_array(key),
                _ => writer.begin_doc(key),
            };
            for field in element.doc()?.elements() {
                let field = field?;
                let beside = match (element.kind, &met) {
                    (kind::ARRAY, Some(met)) => self
                        .look(&field, env)?
                        .0
                        .mixes(&Content::Mixed, met.types)
                        .then_some(met),
                    _ => None,
                };
                if let Some(met) = beside {
                    // A constant among the sealed values of a list.
                    let want = Want::Key(self.equality(met)?);
                    self.write(writer.buffer(), field.key, &field, want, env, depth + 1)?;
                    continue;
                }
                self.write_group_key(writer.buffer(), field.key, &field, env, depth + 1)?;
            }
            writer.end(open);
            return Ok((content, true));
        }
        let field = met.ok_or_else(|| self.refuse_whole(&content))?;
        let equality = self.equality(&field)?;
        self.write(out, key, element, Want::Key(equality), env, depth)?;
        Ok((content, true))
    }

    pub(super) fn equality<'f>(&self, field: &'f Field) -> Result<&'f Equality> {
        if field.is_masked() {
            return Err(self.scope.unreadable(field));
        }
        if self.allows_plaintext() {
            return Err(self.scope.refuse(
                &field.path,
                self.what,
                "the collection allows plaintext, which a token would not find: end the migration and set on_plaintext = \"reject\"",
            ));
        }
        field.equality.as_ref().ok_or_else(|| {
            self.scope.refuse(
                &field.path,
                &format!("{} comparison", self.what),
                by_content::EQUALITY,
            )
        })
    }

    pub(super) fn allows_plaintext(&self) -> bool {
        self.scope.collection.on_plaintext.is_expected()
    }

    pub(super) fn same_domain(&self, equality: &Equality, field: &Field) -> Result {
        if self.equality(field)?.joins(equality) {
            return Ok(());
        }
        Err(self.scope.refuse(
            &field.path,
            &format!("{} comparison with another sealed field", self.what),
            "only fields of one `domain` can be compared",
        ))
    }
}

/// Appends the key of what `path` reads: its tokens, in arrays at most so deep.
pub(super) fn write_key(
    writer: &mut Writer<'_>,
    key: &str,
    path: &str,
    equality: &Equality,
    arrays: usize,
) {
    let Some(deeper) = arrays.checked_sub(1) else {
        // Null and what is missing have no token, and stay what they are.
        let open = writer.begin_doc(key);
        let operands = writer.begin_array("$ifNull");
        writer.string("0", &format!("{path}{}", equality.suffix));
        writer.string("1", path);
        writer.end(operands);
        writer.end(open);
        return;
    };
    let item = format!("fs{arrays}");
    let open = writer.begin_doc(key);
    let operands = writer.begin_array("$cond");
    let is_array = writer.begin_doc("0");
    let operand = writer.begin_array("$isArray");
    writer.string("0", path);
    writer.end(operand);
    writer.end(is_array);
    let mapped = writer.begin_doc("1");
    let map = writer.begin_doc("$map");
    writer.string("input", path);
    writer.string("as", &item);
    write_key(writer, "in", &format!("$${item}"), equality, deeper);
    writer.end(map);
    writer.end(mapped);
    write_key(writer, "2", path, equality, 0);
    writer.end(operands);
    writer.end(open);
}
