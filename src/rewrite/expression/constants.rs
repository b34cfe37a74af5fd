//! Constants: tokens where they are compared with sealed fields, sealed where they
//! are put into them or stand beside them.

use super::{Constants, Expressions, Result, Want, deep, is_operator, names};
use crate::policy::Field;
use crate::raw::{Element, Splicer, Writer, kind};
use crate::refusal::Refusal;
use crate::rewrite::document::{write_field, write_value};
use crate::rewrite::permission::check_value;
use crate::rewrite::scope::{Scope, by_content};
use crate::rewrite::shape::{Content, Shape};
use crate::schema::Types;

impl Expressions<'_, '_> {
    /// A constant: a token where it is compared with sealed values, else as it stands.
    pub(super) fn constant(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        element: &Element<'_>,
        want: Want<'_>,
    ) -> Result<Content> {
        let mut writer = Writer::new(out);
        match want {
            Want::Key(equality) | Want::Set(equality) | Want::Token(equality)
                if !element.is_null() =>
            {
                self.changed.set(true);
                self.scope.compared.set(true);
                match element.kind {
                    kind::ARRAY => {
                        let open = writer.begin_array(key);
                        for item in element.doc()?.elements() {
                            let item = item?;
                            self.constant(writer.buffer(), item.key, &item, want)?;
                        }
                        writer.end(open);
                    }
                    _ => {
                        let token = equality
                            .key
                            .equality(element.kind, element.value())
                            .ok_or_else(|| {
                                self.scope.refuse_command(
                                    &format!(
                                        "{} comparison of a sealed field with {}",
                                        self.what,
                                        crate::schema::Types::alias_of(element.kind)
                                    ),
                                    by_content::WHOLE,
                                )
                            })?;
                        writer.binary(key, 0, &token);
                    }
                }
            }
            _ => writer.value(element.kind, key, element.value()),
        }
        let holds_none = match want {
            // It cannot hold what is sealed below.
            Want::Stored(Content::Document(_)) => {
                !matches!(element.kind, kind::DOCUMENT | kind::ARRAY)
            }
            _ => element.is_null(),
        };
        Ok(match want {
            _ if holds_none => Content::Nothing,
            Want::Key(_) | Want::Set(_) | Want::Token(_) => Content::Open,
            _ => self.of_constant(element)?,
        })
    }

    /// What a constant is that stands as it is.
    pub(super) fn of_constant(&self, constant: &Element<'_>) -> Result<Content> {
        if self.filling.get() {
            return Ok(Content::Nothing);
        }
        Content::of_constant(constant, 0)
    }

    /// A constant for a place that is sealed; none if this is no constant or no such place.
    pub(super) fn write_constant(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        element: &Element<'_>,
        want: Want<'_>,
        target: &Content,
    ) -> Result<Option<Content>> {
        if target.is_open() {
            return Ok(None);
        }
        let constant = match literal(element)? {
            Some(inner) => inner,
            None if matches!(target, Content::Sealed(_)) && is_constant(element, 0)? => *element,
            None => return Ok(None),
        };
        self.write_sealed(out, key, &constant, want, target)
    }

    /// The same of a value that is known to be a constant.
    pub(super) fn write_sealed(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        constant: &Element<'_>,
        want: Want<'_>,
        target: &Content,
    ) -> Result<Option<Content>> {
        match target {
            Content::Sealed(sealed) if constant.is_null() => {
                check_value(self.scope, &sealed.field, constant)?;
                return Ok(None);
            }
            Content::Sealed(sealed) => {
                if let Want::Beside(_) = want
                    && !may_have(&sealed.field, constant)?
                {
                    return Ok(None);
                }
                // A stage would take a bare document for names to merge.
                let literal = Writer::new(out).begin_doc(key);
                if sealed.field.elements && sealed.arrays == 0 {
                    write_value(out, self.scope, "$literal", &sealed.field, constant)?;
                } else {
                    write_field(out, self.scope, "$literal", &sealed.field, constant)?;
                }
                Writer::new(out).end(literal);
            }
            Content::Document(shape)
                if matches!(constant.kind, kind::DOCUMENT | kind::ARRAY)
                    && (matches!(want, Want::Stored(_))
                        || Content::of_constant(constant, 0)?.mixes(target, Types::ANY)) =>
            {
                let literal = Writer::new(out).begin_doc(key);
                let content = self.write_shaped(out, "$literal", constant, shape, want, 0)?;
                Writer::new(out).end(literal);
                if let Want::Beside(_) = want {
                    // What stayed plain may stand among values of others than the target's.
                    self.changed.set(true);
                    return Ok(Some(content));
                }
            }
            _ => return Ok(None),
        }
        self.changed.set(true);
        Ok(Some(target.clone().written()))
    }

    /// A constant document, or an array of them, sealed where `shape` is. Gives what it is then.
    pub(super) fn write_shaped(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        constant: &Element<'_>,
        shape: &Shape,
        want: Want<'_>,
        depth: usize,
    ) -> Result<Content> {
        deep(depth)?;
        let open = match constant.kind {
            kind::ARRAY => Writer::new(out).begin_array(key),
            kind::DOCUMENT => Writer::new(out).begin_doc(key),
            _ => {
                Writer::new(out).value(constant.kind, key, constant.value());
                return self.of_constant(constant);
            }
        };
        let mut listed = Content::Constant(Types::of(constant.kind));
        let mut written = Shape::closed();
        for field in constant.doc()?.elements() {
            let field = field?;
            if constant.kind == kind::ARRAY {
                let item = self.write_shaped(out, field.key, &field, shape, want, depth + 1)?;
                listed = listed.or(item);
                continue;
            }
            if field.key.contains('.') {
                return Err(self.refuse_dotted());
            }
            let content = match shape.named(field.key) {
                Content::Sealed(sealed) if field.is_null() => {
                    check_value(self.scope, &sealed.field, &field)?;
                    Writer::new(out).value(field.kind, field.key, field.value());
                    Content::Nothing
                }
                Content::Sealed(sealed)
                    if !matches!(want, Want::Beside(_)) || may_have(&sealed.field, &field)? =>
                {
                    write_field(out, self.scope, field.key, &sealed.field, &field)?;
                    Content::Sealed(sealed).written()
                }
                Content::Masked(sealed) if may_have(&sealed.field, &field)? => {
                    return Err(self.scope.unreadable(&sealed.field));
                }
                Content::Document(below) => {
                    self.write_shaped(out, field.key, &field, &below, want, depth + 1)?
                }
                // Of which field it would be a value is not known.
                Content::Mixed if matches!(want, Want::Beside(_)) && !field.is_null() => {
                    return Err(self.scope.refuse_spill("", self.what));
                }
                _ => {
                    Writer::new(out).value(field.kind, field.key, field.value());
                    self.of_constant(&field)?
                }
            };
            written.put(field.key, content);
        }
        Writer::new(out).end(open);
        Ok(match constant.kind {
            kind::ARRAY => listed,
            _ => Content::Document(written),
        })
    }

    pub(super) fn refuse_dotted(&self) -> Refusal {
        self.scope.refuse_command(
            &format!("{} a field name that holds a dot", self.what),
            "nest documents instead",
        )
    }
}

/// The operand of `$literal`.
pub(super) fn literal<'m>(element: &Element<'m>) -> Result<Option<Element<'m>>> {
    if !is_operator(element)? {
        return Ok(None);
    }
    let first = element.doc()?.first()?;
    Ok(first.filter(|first| matches!(first.key, "$literal" | "$const")))
}

/// Whether an expression is a constant as it stands.
pub(super) fn is_constant(element: &Element<'_>, depth: usize) -> Result<bool> {
    deep(depth)?;
    match element.kind {
        kind::STRING => Ok(element.str().is_some_and(|text| !text.starts_with('$'))),
        kind::DOCUMENT | kind::ARRAY => {
            for item in element.doc()?.elements() {
                let item = item?;
                if item.key.starts_with('$') || !is_constant(&item, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(true),
    }
}

/// Whether a field may have this value, or, if its arrays are sealed by their
/// elements, all that is in it.
pub(super) fn may_have(field: &Field, constant: &Element<'_>) -> Result<bool> {
    if constant.kind != kind::ARRAY || !field.elements {
        return Ok(field.types.allows(constant.kind));
    }
    for item in constant.doc()?.elements() {
        let item = item?;
        if !item.is_null() && !field.types.allows(item.kind) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the constants of one statement have names that are free.
pub(in crate::rewrite) fn own_constants(scope: &Scope<'_>, element: &Element<'_>) -> Result {
    for constant in element.object()?.elements() {
        let name = constant?.key;
        let known = scope
            .constants
            .into_iter()
            .flat_map(Constants::iter)
            .any(|known| known.value.key == name);
        if known || names::INTERNAL_VARIABLES.contains(&name) {
            return Err(scope.refuse_command(
                "a constant in `c` that has the name of another variable",
                "give it another name",
            ));
        }
    }
    Ok(())
}

/// Rewrites the `let` of a command: what was compared with sealed fields, or put
/// into them, does not go to MongoDB.
pub(in crate::rewrite) fn constants<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
) -> Result {
    let Some(constants) = scope.constants else {
        return Ok(());
    };
    let mark = splicer.mark();
    for constant in constants.withheld() {
        if constant.open.get() {
            return Err(scope.refuse_command(
                "a variable of `let` that stands for a sealed value and is used elsewhere as well",
                "give the value by two variables, one for the sealed field alone",
            ));
        }
        let value = &constant.value;
        splicer.replace(value.start, value.end, |out| {
            Writer::new(out).null(value.key);
        });
    }
    splicer.mend_length(element.object()?.start(), mark)?;
    Ok(())
}
