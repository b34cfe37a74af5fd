//! Operators that give one of their operands, or are made of them.

use super::names::INTERNAL_VARIABLES;
use super::operators::Operands;
use super::reading::Variable;
use super::{Environment, Expressions, Result, Want, write_key};
use crate::policy::Equality;
use crate::raw::{Element, Malformed, Writer, kind};
use crate::rewrite::shape::{Content, Sealed};

impl Expressions<'_, '_> {
    /// The values that an operator mixes with constants, which are sealed like them
    /// then. Where it is asked whether that is true, the field has been found to have
    /// no value that is false: so a constant that is sealed is as true as it was.
    pub(super) fn stands_beside(
        &self,
        operator: &Element<'_>,
        want: Want<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Option<Content>> {
        let mixes = matches!(
            operator.key,
            "$cond" | "$ifNull" | "$switch" | "$let" | "$concatArrays" | "$mergeObjects"
        );
        if !mixes || !matches!(want, Want::Value | Want::Truth) {
            return Ok(None);
        }
        self.beside(|| self.handing_down(&mut Vec::new(), operator, want, env, depth))
    }

    /// What would be there without the constants that `write` puts among sealed values;
    /// none if it puts none there.
    pub(super) fn beside(&self, write: impl Fn() -> Result<Content>) -> Result<Option<Content>> {
        if self.looks_ahead() {
            // Else each level would look at the one below twice.
            let Some(left) = self.looks.get().checked_sub(1) else {
                return Ok(None);
            };
            self.looks.set(left);
        }
        let outer = self.spilled.replace(false);
        let looked = self.ahead(&write);
        if !self.spilled.replace(outer) {
            return looked.map(|_| None);
        }
        let before = self.filling.replace(true);
        let found = self.ahead(&write);
        self.filling.set(before);
        let (content, met) = found?;
        Ok(match (content.writable(), met) {
            (Content::Mixed, Some(field)) => Some(Content::Sealed(Sealed::stored(&field))),
            (Content::Sealed(sealed), _) => {
                let stored = Sealed::stored(&sealed.field);
                let deeper = sealed.arrays > stored.arrays;
                Some(Content::Sealed(if deeper { sealed } else { stored }))
            }
            (content @ Content::Document(_), _) if !content.is_open() => Some(content),
            _ => None,
        })
    }

    /// The key of what an operator gives: sealed values are bound to a variable first.
    #[expect(
        clippy::too_many_arguments,
        reason = "an expression's place in eight words"
    )]
    pub(super) fn keyed(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        element: &Element<'_>,
        operator: &Element<'_>,
        equality: &Equality,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Content> {
        let (content, _) = self.look(element, env)?;
        let Content::Sealed(sealed) = content else {
            return Err(if content.is_open() {
                self.refuse_open(operator.key)
            } else {
                self.refuse_whole(&content)
            });
        };
        self.same_domain(equality, &sealed.field)?;
        self.shallow(&sealed)?;
        self.changed.set(true);
        self.scope.compared.set(true);
        let mut writer = Writer::new(out);
        let open = writer.begin_doc(key);
        let bind = writer.begin_doc("$let");
        let variables = writer.begin_doc("vars");
        self.write(writer.buffer(), "fs", element, Want::Value, env, depth + 1)?;
        writer.end(variables);
        write_key(&mut writer, "in", "$$fs", equality, sealed.arrays);
        writer.end(bind);
        writer.end(open);
        Ok(Content::Sealed(sealed))
    }

    /// Operators whose value is one of their operands, or is made of them.
    pub(super) fn handing_down(
        &self,
        out: &mut Vec<u8>,
        operator: &Element<'_>,
        want: Want<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Content> {
        let mut operands = Operands {
            out,
            env,
            depth: depth + 1,
        };
        match operator.key {
            "$literal" | "$const" => self.constant(operands.out, operator.key, operator, want),
            "$let" => self.bind(&mut operands, operator, want),
            "$switch" => self.switch(&mut operands, operator, want),
            "$cond" => self.cond(&mut operands, operator, want),
            // $ifNull, $concatArrays, $mergeObjects, operators on sets
            name => {
                let mut content = Content::Nothing;
                self.each(&mut operands, operator, |operands, item, _| {
                    let of_item = self.operand(operands, item, want)?;
                    match name {
                        "$mergeObjects" => self.documents(&of_item)?,
                        "$ifNull" => self.may_be_null(&of_item)?,
                        _ => self.real_array(&of_item, name)?,
                    }
                    content =
                        self.either(std::mem::replace(&mut content, Content::Nothing), of_item)?;
                    Ok(())
                })?;
                Ok(content)
            }
        }
    }

    /// Refuses to ask whether something is null that who asks may not read.
    pub(in crate::rewrite) fn may_be_null(&self, content: &Content) -> Result {
        match content {
            Content::Masked(_) => Err(self.refuse_whole(content)),
            Content::Mixed if self.scope.masks => Err(self.refuse_whole(content)),
            _ => Ok(()),
        }
    }

    /// What is asked whether it is true, of which nothing is given on.
    pub(super) fn test(&self, operands: &mut Operands<'_, '_>, element: &Element<'_>) -> Result {
        let before = self.met.borrow().clone();
        self.operand(operands, element, Want::Truth)?;
        self.met.replace(before);
        Ok(())
    }

    pub(super) fn cond(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
        want: Want<'_>,
    ) -> Result<Content> {
        let mut content = Content::Nothing;
        let listed = operator.kind == kind::ARRAY;
        let (test, other) = if listed { ("0", "2") } else { ("if", "else") };
        let tested = match listed {
            true => operator.doc()?.first()?,
            false => operator.object()?.find_once(test)?,
        };
        let single = match &tested {
            Some(test) => not_an_array(test)?,
            None => None,
        };
        let mut branch = |operands: &mut Operands<'_, '_>, item: &Element<'_>, key: &str| {
            if key == test {
                return self.test(operands, item);
            }
            let before = self.single.replace(match single {
                Some(path) if key == other => Some(path.to_owned()),
                _ => self.single.borrow().clone(),
            });
            let of_branch = self.operand(operands, item, want)?;
            self.single.replace(before);
            content = self.either(std::mem::replace(&mut content, Content::Nothing), of_branch)?;
            Ok(())
        };
        if listed {
            self.each(operands, operator, |operands, item, index| {
                branch(operands, item, &index.to_string())
            })?;
        } else {
            self.named(operands, operator, |operands, item| {
                branch(operands, item, item.key)
            })?;
        }
        Ok(content)
    }

    pub(super) fn switch(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
        want: Want<'_>,
    ) -> Result<Content> {
        let mut content = Content::Nothing;
        self.named(operands, operator, |operands, part| {
            if part.key != "branches" {
                let of_default = self.operand(operands, part, want)?;
                content = self.either(
                    std::mem::replace(&mut content, Content::Nothing),
                    of_default,
                )?;
                return Ok(());
            }
            let branches = part.array()?;
            let open = Writer::new(operands.out).begin_array(part.key);
            for branch in branches.elements() {
                self.named(operands, &branch?, |operands, item| {
                    if item.key == "case" {
                        return self.test(operands, item);
                    }
                    let of_branch = self.operand(operands, item, want)?;
                    content =
                        self.either(std::mem::replace(&mut content, Content::Nothing), of_branch)?;
                    Ok(())
                })?;
            }
            Writer::new(operands.out).end(open);
            Ok(())
        })?;
        Ok(content)
    }

    /// `$let`: its variables come first, wherever they stand.
    pub(super) fn bind(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
        want: Want<'_>,
    ) -> Result<Content> {
        let doc = operator.object()?;
        let variables = doc
            .find_once("vars")?
            .ok_or(Malformed("$let has no vars"))?;
        let inner = doc.find_once("in")?.ok_or(Malformed("$let has no in"))?;
        if doc.elements().count() != 2 {
            return Err(Malformed("$let takes vars and in").into());
        }
        let mut writer = Writer::new(operands.out);
        let open = writer.begin_doc(operator.key);
        let opened = writer.begin_doc(variables.key);
        let mut bound = Vec::new();
        for variable in variables.object()?.elements() {
            let variable = variable?;
            self.check_name(variable.key)?;
            // A constant may come to stand among the field's values by its name.
            let sealed = match want {
                Want::Beside(target) => {
                    self.write_constant(operands.out, variable.key, &variable, want, target)?
                }
                _ => None,
            };
            let content = match sealed {
                Some(sealed) => sealed,
                None => self.operand(operands, &variable, Want::Value)?,
            };
            bound.push((variable.key, content, false));
        }
        Writer::new(operands.out).end(opened);
        let content = self.within(operands.env, &bound, operands.depth, &mut |env, depth| {
            self.write(operands.out, inner.key, &inner, want, env, depth)
        })?;
        Writer::new(operands.out).end(open);
        Ok(content)
    }

    /// Runs `write` where all of `bound` are variables.
    pub(super) fn within(
        &self,
        env: Environment<'_>,
        bound: &[(&str, Content, bool)],
        depth: usize,
        write: &mut dyn FnMut(Environment<'_>, usize) -> Result<Content>,
    ) -> Result<Content> {
        Variable::bind(bound, env.variables, &mut |variables| {
            let env = Environment {
                root: env.root,
                variables,
                constants: env.constants,
            };
            write(env, depth + 1)
        })
    }

    /// A variable that MongoDB reads paths from would change what they mean.
    pub(in crate::rewrite) fn check_name(&self, name: &str) -> Result {
        if INTERNAL_VARIABLES.contains(&name) {
            return Err(self.scope.refuse_command(
                &format!("{} a variable named `{name}`", self.what),
                "give it another name",
            ));
        }
        Ok(())
    }
}

/// The path of a field that a test says to be an array, which it is not in the
/// other branch.
fn not_an_array<'m>(test: &Element<'m>) -> Result<Option<&'m str>> {
    if !super::is_operator(test)? {
        return Ok(None);
    }
    let Some(operator) = test.doc()?.first()?.filter(|first| first.key == "$isArray") else {
        return Ok(None);
    };
    let operand = match operator.kind {
        kind::ARRAY => operator.doc()?.first()?,
        _ => Some(operator),
    };
    // A variable could be another one there.
    Ok(operand
        .and_then(|operand| operand.str())
        .filter(|path| path.starts_with('$') && !path.starts_with("$$")))
}
