//! Operators over the items of an array, and the fields of a document.

use super::operators::Operands;
use super::reading::{Variable, plain_name};
use super::{Expressions, Result, Want, beside, deep};
use crate::raw::{Element, Malformed, Writer, kind};
use crate::rewrite::shape::{Content, Read};
use crate::schema::Types;

/// How often the value of a `$reduce` is followed before it is given up.
const ROUNDS: usize = 4;

impl Expressions<'_, '_> {
    /// `$filter` and `$map`: their input comes first, wherever it stands.
    pub(super) fn over_items(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
        want: Want<'_>,
    ) -> Result<Content> {
        let doc = operator.object()?;
        let input = doc
            .find_once("input")?
            .ok_or(Malformed("an input is missing"))?;
        let name = match doc.find_once("as")? {
            Some(name) => name
                .str()
                .ok_or(Malformed("a variable's name is not a string"))?,
            None => "this",
        };
        self.check_name(name)?;
        let open = Writer::new(operands.out).begin_doc(operator.key);
        let items = self.array_operand(operands, &input, operator.key)?;
        let variable = Variable {
            name,
            content: items.item(),
            document: false,
            outer: operands.env.variables,
        };
        let env = operands.env.with(&variable);
        let mut mapped = Content::Nothing;
        let target = match want {
            Want::Beside(target) => target.item(),
            _ => Content::Open,
        };
        let depth = operands.depth;
        for part in doc.elements() {
            let part = part?;
            let out = &mut *operands.out;
            match part.key {
                "input" => {}
                "cond" => {
                    self.write(out, part.key, &part, Want::Truth, env, depth)?;
                }
                "in" => mapped = self.write(out, part.key, &part, beside(&target), env, depth)?,
                _ => {
                    self.open_operand(operands, &part, operator.key)?;
                }
            }
        }
        Writer::new(operands.out).end(open);
        Ok(match operator.key {
            // Null in an array, which is more than nothing.
            "$map" if matches!(mapped, Content::Nothing) && !self.filling.get() => Content::Open,
            "$map" => mapped.in_array(),
            _ => items,
        })
    }

    /// `$reduce`: what its value may be is found by going round until it stays so.
    pub(super) fn reduce(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
    ) -> Result<Content> {
        let doc = operator.object()?;
        let part = |name: &str| {
            doc.find_once(name)?
                .ok_or(Malformed("$reduce takes input, initialValue and in"))
        };
        let (input, initial, inner) = (part("input")?, part("initialValue")?, part("in")?);
        if doc.elements().count() != 3 {
            return Err(Malformed("$reduce takes input, initialValue and in").into());
        }
        let open = Writer::new(operands.out).begin_doc(operator.key);
        let items = self.array_operand(operands, &input, operator.key)?.item();
        let mut value = self.operand(operands, &initial, Want::Value)?;
        let bound = |value: &Content| {
            [
                ("this", items.clone(), false),
                ("value", value.clone(), false),
            ]
        };
        let (env, depth) = (operands.env, operands.depth);
        if !(items.is_open() && value.is_open()) {
            let within = self.reducing.replace(true);
            if within {
                // To go round in rounds would take ever longer.
                return Err(self.scope.refuse_command(
                    &format!("{} `$reduce` of sealed fields within another", self.what),
                    "use $map, $filter, or stages",
                ));
            }
            for _ in 0..ROUNDS {
                let (found, _) = self.ahead(|| {
                    self.within(env, &bound(&value), depth, &mut |env, depth| {
                        self.write(&mut Vec::new(), "", &inner, Want::Value, env, depth)
                    })
                })?;
                let either = value.clone().or(found);
                if either.fits(&value) {
                    break;
                }
                value = either;
            }
            self.reducing.set(false);
        }
        if items.is_open() && value.is_open() && !self.filling.get() {
            // What it gives comes back as `$$value`.
            let types = constants_in(&inner, 0)?.union(items.constants());
            if types != Types::NONE {
                value = value.or(Content::Constant(types));
            }
        }
        let found = self.within(env, &bound(&value), depth, &mut |env, depth| {
            self.write(operands.out, inner.key, &inner, Want::Value, env, depth)
        })?;
        Writer::new(operands.out).end(open);
        if value.is_open() && found.is_open() {
            return Ok(value.or(found));
        }
        Ok(if found.fits(&value) {
            value
        } else {
            return Err(self.refuse_whole(&Content::Mixed));
        })
    }

    /// `$sortArray`: documents that hold sealed fields have an order by open ones.
    pub(super) fn sort_array(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
    ) -> Result<Content> {
        let mut input = Content::Nothing;
        self.named(operands, operator, |operands, part| {
            if part.key == "input" {
                input = self.array_operand(operands, part, operator.key)?;
                return Ok(());
            }
            self.open_operand(operands, part, operator.key).map(|_| ())
        })?;
        if input.is_open() {
            return Ok(input);
        }
        let by = operator.object()?.find_once("sortBy")?;
        let by = by.filter(|by| by.kind == kind::DOCUMENT);
        let (Content::Document(_), Some(by)) = (&input, by) else {
            return Err(self.refuse_whole(&input));
        };
        for key in by.doc()?.elements() {
            match input.at(key?.key.split('.'), true) {
                Read::Content(content) if content.is_open() => {}
                Read::Content(content) => return Err(self.refuse_whole(&content)),
                Read::Inside(_) | Read::Ambiguous | Read::Unknown => {
                    return Err(self.refuse_whole(&input));
                }
            }
        }
        Ok(input)
    }

    /// `$getField`, `$setField`, `$unsetField`: by a name that is no path.
    pub(super) fn field(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
    ) -> Result<Content> {
        let named = operator.kind == kind::DOCUMENT && !super::is_operator(operator)?;
        let name = if named {
            operator.doc()?.find_once("field")?
        } else {
            Some(*operator)
        };
        let literal = name.map(|name| super::literal(&name).map(|inner| inner.unwrap_or(name)));
        let literal = literal.transpose()?;
        let constant = literal.as_ref().and_then(|literal| {
            let is_literal = name.is_some_and(|name| name.kind == kind::DOCUMENT);
            if is_literal {
                literal.str()
            } else {
                plain_name(literal)
            }
        });
        if !named {
            self.name_of(operands, operator, operator.key, constant)?;
            return Ok(self.field_of(operands.env.root, constant)?.settled());
        }
        let (mut value, mut base) = (Content::Nothing, None);
        // Where a sealed field stands, a constant is one of its values.
        let input = match operator.doc()?.find_once("input")? {
            Some(input) if operator.key == "$setField" => self.look(&input, operands.env)?.0,
            _ => Content::Open,
        };
        let before = match (&input, constant) {
            (Content::Document(shape), Some(name)) => shape.named(name).writable(),
            _ => Content::Open,
        };
        self.named(operands, operator, |operands, part| {
            match part.key {
                "field" => self.name_of(operands, part, operator.key, constant)?,
                "value" => value = self.operand(operands, part, beside(&before))?,
                _ => base = Some(self.operand(operands, part, Want::Value)?),
            }
            Ok(())
        })?;
        let base = base.unwrap_or_else(|| operands.env.root.clone());
        if operator.key == "$getField" {
            return self.field_of(&base, constant);
        }
        match (base, constant) {
            (Content::Document(mut shape), Some(name)) => {
                shape.put(name, value);
                Ok(Content::Document(shape))
            }
            (base, None) if base.is_open() && value.is_open() => Ok(Content::Open),
            (base, Some(name)) if base.is_open() => {
                let mut shape = crate::rewrite::shape::Shape::default();
                shape.put(name, value);
                Ok(Content::Document(shape))
            }
            (base, _) => Err(self.refuse_whole(&base)),
        }
    }

    /// The name of a field: a constant, or what is computed from open values.
    pub(super) fn name_of(
        &self,
        operands: &mut Operands<'_, '_>,
        name: &Element<'_>,
        operator: &str,
        constant: Option<&str>,
    ) -> Result {
        if constant.is_none() {
            return self.open_operand(operands, name, operator).map(|_| ());
        }
        Writer::new(operands.out).value(name.kind, name.key, name.value());
        Ok(())
    }

    pub(super) fn field_of(&self, base: &Content, name: Option<&str>) -> Result<Content> {
        let content = match (base, name) {
            (Content::Document(shape), Some(name)) if base.is_open() => shape.named(name),
            (base, _) if base.is_open() => match base.constants() {
                Types::NONE => Content::Open,
                types => Content::Constant(types),
            },
            // What tells of changes has names that are paths.
            (Content::Document(_), Some(name)) if name.contains('.') => {
                return Err(self.refuse_whole(base));
            }
            (Content::Document(shape), Some(name)) => shape.named(name),
            _ => {
                return Err(self.scope.refuse_command(
                    &format!("{} `$getField` of a computed name", self.what),
                    "name the field by its path",
                ));
            }
        };
        if let Content::Sealed(sealed) = &content {
            *self.met.borrow_mut() = Some(std::sync::Arc::clone(&sealed.field));
        }
        Ok(content)
    }
}

/// The types of all constants that an expression holds.
fn constants_in(element: &Element<'_>, depth: usize) -> Result<Types> {
    deep(depth)?;
    let is_path = element.str().is_some_and(|text| text.starts_with('$'));
    if is_path || element.is_null() {
        return Ok(Types::NONE);
    }
    let mut types = Types::of(element.kind);
    if matches!(element.kind, kind::DOCUMENT | kind::ARRAY) {
        types = Types::NONE;
        for item in element.doc()?.elements() {
            types = types.union(constants_in(&item?, depth + 1)?);
        }
    }
    Ok(types)
}
