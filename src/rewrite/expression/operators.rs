//! The operators of expressions: those that move values, those that compare
//! them, those that ask whether they are there; all others take open values only.

use super::names::{INTERNAL_VARIABLES, OPEN_OPERANDS};
use super::reading::{Variable, plain_name};
use super::{Environment, Expressions, Result, Want, deep, write_key};
use crate::policy::Equality;
use crate::raw::{Element, Malformed, Writer, kind};
use crate::rewrite::shape::Content;

/// Writes one operand.
struct Operands<'a, 'o> {
    out: &'o mut Vec<u8>,
    env: Environment<'a>,
    depth: usize,
}

impl Expressions<'_, '_> {
    /// Appends `{operator: operands}` in the form that is wanted.
    pub(super) fn operator(
        &self,
        out: &mut Vec<u8>,
        key: &str,
        element: &Element<'_>,
        want: Want<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Content> {
        let operator = element
            .doc()?
            .first()?
            .ok_or(Malformed("an expression is empty"))?;
        // Those that give one of their operands hand the wish down to it.
        let hands_down = matches!(
            operator.key,
            "$cond" | "$ifNull" | "$switch" | "$let" | "$literal" | "$const"
        ) || matches!(want, Want::Stored(_))
            && matches!(operator.key, "$concatArrays" | "$mergeObjects");
        if hands_down {
            let mut writer = Writer::new(out);
            let open = writer.begin_doc(key);
            let content = self.handing_down(writer.buffer(), &operator, want, env, depth)?;
            writer.end(open);
            return Ok(content);
        }
        match want {
            Want::Key(equality) | Want::Token(equality) => {
                self.keyed(out, key, element, &operator, equality, env, depth)
            }
            _ => {
                let mut writer = Writer::new(out);
                let open = writer.begin_doc(key);
                let content = self.value(writer.buffer(), &operator, env, depth)?;
                writer.end(open);
                if let Want::Truth = want {
                    self.truth(&content)?;
                }
                self.check(&content, want)?;
                Ok(content)
            }
        }
    }

    /// The key of what an operator gives: sealed values are bound to a variable first.
    #[expect(
        clippy::too_many_arguments,
        reason = "an expression's place in eight words"
    )]
    fn keyed(
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
    fn handing_down(
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
            // $ifNull, $concatArrays, $mergeObjects
            name => {
                let mut content = Content::Nothing;
                let merges = name == "$mergeObjects";
                self.each(&mut operands, operator, |operands, item, _| {
                    let of_item = self.operand(operands, item, want)?;
                    let before = std::mem::replace(&mut content, Content::Nothing);
                    content = if merges {
                        merged(before, of_item)
                    } else {
                        before.or(of_item)
                    };
                    Ok(())
                })?;
                Ok(content)
            }
        }
    }

    fn operand(
        &self,
        operands: &mut Operands<'_, '_>,
        element: &Element<'_>,
        want: Want<'_>,
    ) -> Result<Content> {
        self.write(
            operands.out,
            element.key,
            element,
            want,
            operands.env,
            operands.depth,
        )
    }

    /// The operands of an operator, in a list or alone.
    fn each(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
        mut write: impl FnMut(&mut Operands<'_, '_>, &Element<'_>, usize) -> Result,
    ) -> Result {
        if operator.kind != kind::ARRAY {
            return write(operands, operator, 0);
        }
        let open = Writer::new(operands.out).begin_array(operator.key);
        for (index, item) in operator.doc()?.elements().enumerate() {
            write(operands, &item?, index)?;
        }
        Writer::new(operands.out).end(open);
        Ok(())
    }

    /// The operands of an operator that names them.
    fn named(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
        mut write: impl FnMut(&mut Operands<'_, '_>, &Element<'_>) -> Result,
    ) -> Result {
        let doc = operator.object()?;
        let open = Writer::new(operands.out).begin_doc(operator.key);
        for item in doc.elements() {
            write(operands, &item?)?;
        }
        Writer::new(operands.out).end(open);
        Ok(())
    }

    fn cond(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
        want: Want<'_>,
    ) -> Result<Content> {
        let mut content = Content::Nothing;
        let mut branch = |operands: &mut Operands<'_, '_>, item: &Element<'_>, is_test: bool| {
            if is_test {
                return self.operand(operands, item, Want::Truth).map(|_| ());
            }
            let of_branch = self.operand(operands, item, want)?;
            content = std::mem::replace(&mut content, Content::Nothing).or(of_branch);
            Ok(())
        };
        if operator.kind == kind::ARRAY {
            self.each(operands, operator, |operands, item, index| {
                branch(operands, item, index == 0)
            })?;
        } else {
            self.named(operands, operator, |operands, item| {
                branch(operands, item, item.key == "if")
            })?;
        }
        Ok(content)
    }

    fn switch(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
        want: Want<'_>,
    ) -> Result<Content> {
        let mut content = Content::Nothing;
        self.named(operands, operator, |operands, part| {
            if part.key != "branches" {
                let of_default = self.operand(operands, part, want)?;
                content = std::mem::replace(&mut content, Content::Nothing).or(of_default);
                return Ok(());
            }
            let branches = part.array()?;
            let open = Writer::new(operands.out).begin_array(part.key);
            for branch in branches.elements() {
                self.named(operands, &branch?, |operands, item| {
                    if item.key == "case" {
                        return self.operand(operands, item, Want::Truth).map(|_| ());
                    }
                    let of_branch = self.operand(operands, item, want)?;
                    content = std::mem::replace(&mut content, Content::Nothing).or(of_branch);
                    Ok(())
                })?;
            }
            Writer::new(operands.out).end(open);
            Ok(())
        })?;
        Ok(content)
    }

    /// `$let`: its variables come first, wherever they stand.
    fn bind(
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
            let content = self.operand(operands, &variable, Want::Value)?;
            bound.push((variable.key, content));
        }
        Writer::new(operands.out).end(opened);
        let content = self.within(operands.env, &bound, operands.depth, &mut |env, depth| {
            self.write(operands.out, inner.key, &inner, want, env, depth)
        })?;
        Writer::new(operands.out).end(open);
        Ok(content)
    }

    /// Runs `write` where all of `bound` are variables.
    pub(in crate::rewrite) fn within(
        &self,
        env: Environment<'_>,
        bound: &[(&str, Content)],
        depth: usize,
        write: &mut dyn FnMut(Environment<'_>, usize) -> Result<Content>,
    ) -> Result<Content> {
        deep(depth)?;
        match bound.split_first() {
            None => write(env, depth),
            Some(((name, content), rest)) => {
                let variable = Variable {
                    name,
                    content: content.clone(),
                    outer: env.variables,
                };
                self.within(env.with(&variable), rest, depth + 1, write)
            }
        }
    }

    /// A variable that MongoDB reads paths from would change what they mean.
    fn check_name(&self, name: &str) -> Result {
        if INTERNAL_VARIABLES.contains(&name) {
            return Err(self.scope.refuse_command(
                &format!("{} a variable named `{name}`", self.what),
                "give it another name",
            ));
        }
        Ok(())
    }

    /// Any other operator, as it gives its value.
    fn value(
        &self,
        out: &mut Vec<u8>,
        operator: &Element<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Content> {
        let mut operands = Operands {
            out,
            env,
            depth: depth + 1,
        };
        let operands = &mut operands;
        match operator.key {
            "$eq" | "$ne" | "$in" | "$setEquals" | "$setIsSubset" | "$indexOfArray" => {
                self.compare(operands, operator)
            }
            "$gt" | "$gte" | "$lt" | "$lte" | "$cmp" => self.order(operands, operator),
            "$and" | "$or" | "$not" => {
                self.each(operands, operator, |operands, item, _| {
                    self.operand(operands, item, Want::Truth).map(|_| ())
                })?;
                Ok(Content::Open)
            }
            "$isArray" | "$size" => self.of_array(operands, operator),
            "$first" | "$last" | "$reverseArray" => {
                let mut content = Content::Nothing;
                self.each(operands, operator, |operands, item, _| {
                    content = self.array_operand(operands, item, operator.key)?;
                    Ok(())
                })?;
                Ok(content)
            }
            "$arrayElemAt" | "$slice" => {
                let mut content = Content::Nothing;
                self.each(operands, operator, |operands, item, index| {
                    if index == 0 {
                        content = self.array_operand(operands, item, operator.key)?;
                        return Ok(());
                    }
                    self.open_operand(operands, item, operator.key)
                })?;
                Ok(content)
            }
            "$firstN" | "$lastN" => {
                let mut content = Content::Nothing;
                self.named(operands, operator, |operands, item| {
                    if item.key == "input" {
                        content = self.array_operand(operands, item, operator.key)?;
                        return Ok(());
                    }
                    self.open_operand(operands, item, operator.key)
                })?;
                Ok(content)
            }
            "$concatArrays" | "$mergeObjects" => {
                self.handing_down(operands.out, operator, Want::Value, env, depth)
            }
            "$filter" | "$map" => self.over_items(operands, operator),
            "$getField" | "$setField" | "$unsetField" => self.field(operands, operator),
            "$type" => self.type_of(operands, operator),
            "$function" | "$accumulator" | "$where" => Err(self.scope.refuse_command(
                &format!("`{}`", operator.key),
                "JavaScript could read what is sealed; use aggregation operators",
            )),
            known if OPEN_OPERANDS.contains(&known) => {
                self.open_operand(operands, operator, known)?;
                Ok(Content::Open)
            }
            // Nothing sealed is in reach: MongoDB knows what to make of it.
            other if env.root.is_open() && env.variables.is_none() && !other.starts_with("$_") => {
                self.open_operand(operands, operator, other)?;
                Ok(Content::Open)
            }
            other => Err(self.scope.refuse_command(
                &format!("{} the operator `{other}`", self.what),
                "this version does not know it",
            )),
        }
    }

    /// An operand, or all in it, from which an operator computes.
    fn open_operand(
        &self,
        operands: &mut Operands<'_, '_>,
        element: &Element<'_>,
        operator: &str,
    ) -> Result {
        let content = match element.kind {
            kind::DOCUMENT if !super::is_operator(element)? => {
                self.named(operands, element, |operands, item| {
                    self.open_operand(operands, item, operator)
                })?;
                return Ok(());
            }
            kind::ARRAY => {
                self.each(operands, element, |operands, item, _| {
                    self.open_operand(operands, item, operator)
                })?;
                return Ok(());
            }
            _ => self.operand(operands, element, Want::Value)?,
        };
        if content.is_open() {
            return Ok(());
        }
        let path = match content.sealed_path() {
            path if path.is_empty() => element.str().unwrap_or("an operand").to_owned(),
            path => path,
        };
        Err(self.scope.refuse(
            &path,
            &format!("{} `{operator}`", self.what),
            super::BY_CONTENT,
        ))
    }

    /// An array whose items an operator gives.
    fn array_operand(
        &self,
        operands: &mut Operands<'_, '_>,
        element: &Element<'_>,
        operator: &str,
    ) -> Result<Content> {
        let content = self.operand(operands, element, Want::Value)?;
        self.real_array(&content, operator)?;
        Ok(content)
    }

    /// Whether what is an array for the service is one for MongoDB, too.
    fn real_array(&self, content: &Content, operator: &str) -> Result {
        match content {
            Content::Sealed(sealed)
                if !sealed.field.elements && sealed.field.types.allows(kind::ARRAY) =>
            {
                Err(self.scope.refuse(
                    &sealed.field.path,
                    &format!("{} `{operator}`", self.what),
                    "an array is sealed as one value; set `elements = true` in the schema",
                ))
            }
            Content::Mixed => Err(self.refuse_whole(content)),
            _ => Ok(()),
        }
    }

    fn of_array(&self, operands: &mut Operands<'_, '_>, operator: &Element<'_>) -> Result<Content> {
        self.each(operands, operator, |operands, item, _| {
            self.array_operand(operands, item, operator.key).map(|_| ())
        })?;
        Ok(Content::Open)
    }

    /// `$eq` and whatever else only asks which values are equal.
    fn compare(&self, operands: &mut Operands<'_, '_>, operator: &Element<'_>) -> Result<Content> {
        // What it gives is open; to look at its operands, twice each, is for later.
        if self.looks_ahead() {
            return Ok(Content::Open);
        }
        let mut sealed = None;
        let mut open = true;
        let mut null = false;
        if operator.kind == kind::ARRAY {
            for item in operator.doc()?.elements() {
                let item = item?;
                let (content, met) = self.look(&item, operands.env)?;
                open &= content.is_open();
                null |= item.is_null();
                if !content.is_open() {
                    sealed = met.or(sealed);
                }
            }
        }
        // Null is null, sealed or not.
        let by_presence = null && matches!(operator.key, "$eq" | "$ne");
        if open || by_presence {
            self.each(operands, operator, |operands, item, _| {
                self.operand(operands, item, Want::Value).map(|_| ())
            })?;
            return Ok(Content::Open);
        }
        let field = sealed.ok_or_else(|| self.refuse_whole(&Content::Mixed))?;
        let equality = self.equality(&field)?;
        let by_token = with_constants(operator)?;
        self.each(operands, operator, |operands, item, index| {
            let want = match operator.key {
                "$indexOfArray" if index > 1 => Want::Value,
                _ if by_token => Want::Token(equality),
                _ => Want::Key(equality),
            };
            self.operand(operands, item, want).map(|_| ())
        })?;
        Ok(Content::Open)
    }

    /// An order, which nothing sealed has, except that all of it comes after null.
    fn order(&self, operands: &mut Operands<'_, '_>, operator: &Element<'_>) -> Result<Content> {
        let with_null = operator.kind == kind::ARRAY
            && operator
                .doc()?
                .elements()
                .any(|item| item.is_ok_and(|item| item.is_null()));
        self.each(operands, operator, |operands, item, _| {
            let content = self.operand(operands, item, Want::Value)?;
            let after_null = matches!(&content, Content::Sealed(sealed)
                if !sealed.field.types.allows(kind::MIN_KEY));
            if content.is_open() || with_null && after_null {
                return Ok(());
            }
            Err(match content.sealed_path() {
                path if path.is_empty() => self.refuse_whole(&content),
                path => self.scope.refuse(
                    &path,
                    &format!("{} `{}`", self.what, operator.key),
                    super::BY_CONTENT,
                ),
            })
        })?;
        Ok(Content::Open)
    }

    /// `$filter` and `$map`: their input comes first, wherever it stands.
    fn over_items(
        &self,
        operands: &mut Operands<'_, '_>,
        operator: &Element<'_>,
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
        let (items, _) = self.look(&input, operands.env)?;
        self.real_array(&items, operator.key)?;
        let variable = Variable {
            name,
            content: items.clone(),
            outer: operands.env.variables,
        };
        let env = operands.env.with(&variable);
        let mut mapped = Content::Nothing;
        let depth = operands.depth;
        self.named(operands, operator, |operands, part| {
            let out = &mut *operands.out;
            match part.key {
                "cond" => {
                    self.write(out, part.key, part, Want::Truth, env, depth)?;
                }
                "in" => mapped = self.write(out, part.key, part, Want::Value, env, depth)?,
                "input" => {
                    self.operand(operands, part, Want::Value)?;
                }
                _ => self.open_operand(operands, part, operator.key)?,
            }
            Ok(())
        })?;
        Ok(match operator.key {
            "$map" => mapped.in_array(),
            _ => items,
        })
    }

    /// `$getField`, `$setField`, `$unsetField`: by a name that is no path.
    fn field(&self, operands: &mut Operands<'_, '_>, operator: &Element<'_>) -> Result<Content> {
        let named = operator.kind == kind::DOCUMENT && !super::is_operator(operator)?;
        let (name, input) = if named {
            let doc = operator.doc()?;
            (doc.find_once("field")?, doc.find_once("input")?)
        } else {
            (Some(*operator), None)
        };
        let base = match &input {
            Some(input) => self.look(input, operands.env)?.0,
            None => operands.env.root.clone(),
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
            Writer::new(operands.out).value(operator.kind, operator.key, operator.value());
            return self.field_of(&base, constant);
        }
        let mut value = Content::Nothing;
        self.named(operands, operator, |operands, part| {
            match part.key {
                "field" => Writer::new(operands.out).value(part.kind, part.key, part.value()),
                "value" => value = self.operand(operands, part, Want::Value)?,
                _ => {
                    self.operand(operands, part, Want::Value)?;
                }
            }
            Ok(())
        })?;
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

    fn field_of(&self, base: &Content, name: Option<&str>) -> Result<Content> {
        let content = match (base, name) {
            (Content::Document(shape), Some(name)) => shape.named(name),
            (base, _) if base.is_open() => Content::Open,
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

    /// `$type`: where the schema knows one type, that is the answer for what is sealed.
    fn type_of(&self, operands: &mut Operands<'_, '_>, operator: &Element<'_>) -> Result<Content> {
        let operand = match operator.kind {
            kind::ARRAY => operator.doc()?.first()?,
            _ => Some(*operator),
        };
        let operand = operand.ok_or(Malformed("$type has no operand"))?;
        let (content, _) = self.look(&operand, operands.env)?;
        if !content.is_open() && !matches!(content, Content::Document(_)) {
            return Err(match content.sealed_path() {
                path if path.is_empty() => self.refuse_whole(&content),
                path => self.scope.refuse(
                    &path,
                    &format!("{} `$type`", self.what),
                    "MongoDB only has its ciphertext; the schema says which types it may have",
                ),
            });
        }
        self.each(operands, operator, |operands, item, _| {
            self.operand(operands, item, Want::Value).map(|_| ())
        })?;
        Ok(Content::Open)
    }
}

/// Whether a path is compared with a constant that is neither null nor an array,
/// or looked for in a list of such constants.
fn with_constants(operator: &Element<'_>) -> Result<bool> {
    let scalar = |element: &Element<'_>| match element.kind {
        kind::STRING => element.str().is_some_and(|text| !text.starts_with('$')),
        kind::DOCUMENT | kind::ARRAY => false,
        _ => !element.is_null(),
    };
    let path = |element: &Element<'_>| element.kind == kind::STRING && !scalar(element);
    let mut operands = operator.array()?.elements();
    let (Some(one), Some(other), None) = (
        operands.next().transpose()?,
        operands.next().transpose()?,
        operands.next(),
    ) else {
        return Ok(false);
    };
    match operator.key {
        "$eq" | "$ne" => Ok(path(&one) && scalar(&other) || scalar(&one) && path(&other)),
        "$in" if path(&one) && other.kind == kind::ARRAY => {
            for item in other.doc()?.elements() {
                if !scalar(&item?) {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// What `$mergeObjects` makes of two operands.
fn merged(below: Content, over: Content) -> Content {
    match (below, over) {
        (Content::Nothing, content) | (content, Content::Nothing) => content,
        (Content::Document(below), Content::Document(over)) => {
            Content::Document(below.merged(over))
        }
        (Content::Document(below), Content::Open) => {
            Content::Document(below.merged(crate::rewrite::shape::Shape::default()))
        }
        (Content::Open, Content::Document(over)) => {
            Content::Document(crate::rewrite::shape::Shape::default().merged(over))
        }
        (one, other) if one.is_open() && other.is_open() => Content::Open,
        _ => Content::Mixed,
    }
}
