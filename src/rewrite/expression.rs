//! Aggregation expressions: those that compute on sealed fields are refused.

use super::scope::{BY_CONTENT, DEEPEST, Place, Scope};
use crate::raw::{Doc, Element, Malformed, kind};
use crate::refusal::Refusal;

/// Refuses the expression in `element` if it reads a sealed field; `what` names where it stands.
pub(super) fn refuse_sealed(
    scope: &Scope<'_>,
    element: &Element<'_>,
    what: &str,
) -> Result<(), Refusal> {
    walk(scope, element, what, 0)
}

fn walk(scope: &Scope<'_>, element: &Element<'_>, what: &str, depth: usize) -> Result<(), Refusal> {
    if depth > DEEPEST {
        return Err(Malformed("an expression is nested too deep").into());
    }
    match element.kind {
        kind::STRING => match element.str() {
            Some(text) => path(scope, text, what),
            None => Err(Malformed("a string is not UTF-8").into()),
        },
        kind::DOCUMENT | kind::ARRAY => operators(scope, element.doc()?, what, depth),
        // MongoDB takes a symbol for a string in some places.
        kind::SYMBOL => Err(scope.refuse_command("a symbol in an expression", "use a string")),
        _ => Ok(()),
    }
}

fn operators(scope: &Scope<'_>, doc: Doc<'_>, what: &str, depth: usize) -> Result<(), Refusal> {
    for element in doc.elements() {
        let element = element?;
        match element.key {
            "$getField" => field_by_name(scope, &element, what)?,
            "$top" | "$topN" | "$bottom" | "$bottomN" => order(scope, &element, what)?,
            internal if internal.starts_with("$_") => {
                return Err(
                    scope.refuse_command(&format!("`{internal}`"), "it is not meant for clients")
                );
            }
            "$function" | "$accumulator" | "$where" => {
                return Err(scope.refuse_command(
                    &format!("`{}`", element.key),
                    "JavaScript could read what is sealed; use aggregation operators",
                ));
            }
            _ => {}
        }
        walk(scope, &element, what, depth + 1)?;
    }
    Ok(())
}

/// Accumulators that sort the documents of a group do so by names without `$`.
fn order(scope: &Scope<'_>, element: &Element<'_>, what: &str) -> Result<(), Refusal> {
    if element.kind != kind::DOCUMENT {
        return Ok(());
    }
    for option in element.doc()?.elements() {
        let option = option?;
        if option.key == "sortBy" && option.kind == kind::DOCUMENT {
            for key in option.doc()?.elements() {
                touch(scope, key?.key, what)?;
            }
        }
    }
    Ok(())
}

/// `$getField` reads a field of the whole document by a name that need not begin with `$`.
fn field_by_name(scope: &Scope<'_>, element: &Element<'_>, what: &str) -> Result<(), Refusal> {
    let name = match element.kind {
        kind::DOCUMENT => match element.doc()?.find("field")? {
            Some(field) => field,
            None => *element,
        },
        _ => *element,
    };
    match name.str() {
        Some(text) if !text.starts_with('$') => touch(scope, text, what),
        _ => Err(scope.refuse_command(
            "`$getField` of a computed name",
            "name the field by its path",
        )),
    }
}

/// A string in an expression: a path if it begins with `$`, of a variable if with `$$`.
fn path(scope: &Scope<'_>, text: &str, what: &str) -> Result<(), Refusal> {
    if let Some(variable) = text.strip_prefix("$$") {
        let (name, rest) = variable.split_once('.').unwrap_or((variable, ""));
        return match name {
            "ROOT" | "CURRENT" if rest.is_empty() => {
                if scope.tree().is_empty() {
                    return Ok(());
                }
                Err(scope.refuse_command(
                    &format!("`$${name}` in {what}"),
                    "name the open fields that it is to read",
                ))
            }
            "ROOT" | "CURRENT" => touch(scope, rest, what),
            // Every other variable was made from an expression that passed here.
            _ => Ok(()),
        };
    }
    match text.strip_prefix('$') {
        Some(path) => touch(scope, path, what),
        None => Ok(()),
    }
}

fn touch(scope: &Scope<'_>, path: &str, what: &str) -> Result<(), Refusal> {
    match scope.place(path)? {
        Place::Open => Ok(()),
        Place::Inner(_) => Err(scope.refuse(
            path,
            &format!("{what}, which would read the sealed fields it holds,"),
            "read its open fields one by one",
        )),
        Place::Sealed { .. } => Err(scope.refuse(path, what, BY_CONTENT)),
    }
}
