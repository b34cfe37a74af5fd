//! The operators of expressions: those that move values, those that compare
//! them, those that ask whether they are there; all others take open values only.

use super::names::{INTERNAL_VARIABLES, OPEN_OPERANDS};
use super::reading::{Variable, plain_name};
use super::{Environment, Expressions, Result, Want, deep, write_key};
use crate::policy::{Equality, Field};
use crate::raw::{Element, Malformed, Writer, kind};
use crate::rewrite::scope::by_content;
use crate::rewrite::shape::{Content, Read, Sealed};

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
        if hands_down(operator.key, want) {
            let beside;
            let want = match (want, self.stands_beside(&operator, want, env, depth)?) {
                (Want::Value, Some(sealed)) => {
                    beside = sealed;
                    Want::Beside(&beside)
                }
                _ => want,
            };
            let mut writer = Writer::new(out);
            let open = writer.begin_doc(key);
            let content = self.handing_down(writer.buffer(), &operator, want, env, depth)?;
            writer.end(open);
            self.check(&content, want)?;
            return Ok(content);
        }
        match want {
            Want::Key(equality) | Want::Set(equality) | Want::Token(equality) => {
                self.keyed(out, key, element, &operator, equality, env, depth)
            }
            _ => {
                let mut writer = Writer::new(out);
                let open = writer.begin_doc(key);
                let before = self.met.borrow().clone();
                let content = self.value(writer.buffer(), &operator, env, depth)?;
                writer.end(open);
                if content.is_open() {
                    self.met.replace(before);
                }
                if let Want::Truth = want {
                    self.truth(&content)?;
                }
                self.check(&content, want)?;
                Ok(content)
            }
        }
    }

    /// The field whose values an operator mixes with constants, which are sealed like
    /// them then.
    fn stands_beside(
        &self,
        operator: &Element<'_>,
        want: Want<'_>,
        env: Environment<'_>,
        depth: usize,
    ) -> Result<Option<Content>> {
        let mixes = matches!(
            operator.key,
            "$cond" | "$ifNull" | "$switch" | "$let" | "$concatArrays"
        );
        if !mixes || !matches!(want, Want::Value) {
            return Ok(None);
        }
        if self.looks_ahead() {
            // Else each level would look at the one below twice.
            let Some(left) = self.looks.get().checked_sub(1) else {
                return Ok(None);
            };
            self.looks.set(left);
        }
        let found =
            self.ahead(|| self.handing_down(&mut Vec::new(), operator, Want::Value, env, depth))?;
        Ok(match found {
            (Content::Mixed, Some(field)) => Some(Content::Sealed(Sealed::stored(&field))),
            _ => None,
        })
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
            // $ifNull, $concatArrays, $mergeObjects, operators on sets
            name => {
                let mut content = Content::Nothing;
                self.each(&mut operands, operator, |operands, item, _| {
                    let of_item = self.operand(operands, item, want)?;
                    match name {
                        "$mergeObjects" => self.documents(&of_item)?,
                        "$ifNull" => {}
                        _ => self.real_array(&of_item, name)?,
                    }
                    content = std::mem::replace(&mut content, Content::Nothing).or(of_item);
                    Ok(())
                })?;
                Ok(content)
            }
        }
    }

    /// Whether `$mergeObjects` sees in it what the service would: documents.
    pub(in crate::rewrite) fn documents(&self, content: &Content) -> Result {
        match content {
            Content::Sealed(_) | Content::Mixed => Err(self.refuse_whole(content)),
            _ => Ok(()),
        }
    }

    /// What is asked whether it is true, of which nothing is given on.
    fn test(&self, operands: &mut Operands<'_, '_>, element: &Element<'_>) -> Result {
        let before = self.met.borrow().clone();
        self.operand(operands, element, Want::Truth)?;
        self.met.replace(before);
        Ok(())
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
            content = std::mem::replace(&mut content, Content::Nothing).or(of_branch);
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
                        return self.test(operands, item);
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
                    document: false,
                    outer: env.variables,
                };
                self.within(env.with(&variable), rest, depth + 1, write)
            }
        }
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
            "$first" | "$last" | "$reverseArray" | "$arrayElemAt" | "$slice" => {
                let mut content = Content::Nothing;
                self.each(operands, operator, |operands, item, index| {
                    if index == 0 {
                        content = self.array_operand(operands, item, operator.key)?;
                        return Ok(());
                    }
                    self.open_operand(operands, item, operator.key)
                })?;
                Ok(match operator.key {
                    "$reverseArray" | "$slice" => content,
                    _ => content.item(),
                })
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
            "$reduce" => self.reduce(operands, operator),
            "$sortArray" => self.sort_array(operands, operator),
            "$setUnion" | "$setIntersection" | "$setDifference" => self.of_sets(operands, operator),
            "$getField" | "$setField" | "$unsetField" => self.field(operands, operator),
            "$type" | "$isNumber" => self.type_of(operands, operator),
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
            by_content::COMPUTE,
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
            Content::Sealed(sealed) if sealed.hides_arrays() => Err(self.scope.refuse(
                &sealed.field.path,
                &format!("{} `{operator}`", self.what),
                "an array is sealed as one value; set `elements = true` in the schema",
            )),
            Content::Mixed => Err(self.refuse_whole(content)),
            _ => Ok(()),
        }
    }

    fn of_array(&self, operands: &mut Operands<'_, '_>, operator: &Element<'_>) -> Result<Content> {
        self.each(operands, operator, |operands, item, _| {
            if !is_set(item)? {
                return self.array_operand(operands, item, operator.key).map(|_| ());
            }
            if self.looks_ahead() {
                return self.operand(operands, item, Want::Value).map(|_| ());
            }
            // A set of tokens has as many members as that of the values.
            let want = match self.look(item, operands.env)? {
                (content, Some(field)) if !content.is_open() => {
                    return self
                        .operand(operands, item, Want::Set(self.equality(&field)?))
                        .map(|_| ());
                }
                _ => Want::Value,
            };
            self.operand(operands, item, want).map(|_| ())
        })?;
        Ok(Content::Open)
    }

    /// `$eq` and whatever else only asks which values are equal.
    fn compare(&self, operands: &mut Operands<'_, '_>, operator: &Element<'_>) -> Result<Content> {
        // What it gives is open; to look at its operands, twice each, is for later.
        if self.looks_ahead() {
            return Ok(Content::Open);
        }
        if operator.kind != kind::ARRAY {
            // Which MongoDB refuses.
            self.open_operand(operands, operator, operator.key)?;
            return Ok(Content::Open);
        }
        let mut sealed = None;
        let mut closed = None;
        let mut open = true;
        let mut null = false;
        // Without constants beside sealed values.
        let mut plain = true;
        if operator.kind == kind::ARRAY {
            for item in operator.doc()?.elements() {
                let item = item?;
                let (content, met) = self.look(&item, operands.env)?;
                open &= content.is_open();
                null |= item.is_null();
                plain &= !matches!(content, Content::Mixed);
                if !content.is_open() {
                    sealed = met.or(sealed);
                    closed = Some(content);
                }
            }
        }
        // Null is null, sealed or not.
        let by_presence = null && plain && matches!(operator.key, "$eq" | "$ne");
        if open || by_presence {
            self.each(operands, operator, |operands, item, _| {
                self.operand(operands, item, Want::Value).map(|_| ())
            })?;
            return Ok(Content::Open);
        }
        let field = sealed.ok_or_else(|| self.refuse_whole(&closed.unwrap_or(Content::Mixed)))?;
        let equality = self.equality(&field)?;
        let by_token = with_constants(operator, operands.env)?;
        self.each(operands, operator, |operands, item, index| {
            let want = match operator.key {
                "$indexOfArray" if index > 1 => Want::Value,
                _ if by_token => Want::Token(equality),
                "$setEquals" | "$setIsSubset" => Want::Set(equality),
                "$in" if index == 1 => Want::Set(equality),
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
                    by_content::ORDER,
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
        let depth = operands.depth;
        for part in doc.elements() {
            let part = part?;
            let out = &mut *operands.out;
            match part.key {
                "input" => {}
                "cond" => {
                    self.write(out, part.key, &part, Want::Truth, env, depth)?;
                }
                "in" => mapped = self.write(out, part.key, &part, Want::Value, env, depth)?,
                _ => self.open_operand(operands, &part, operator.key)?,
            }
        }
        Writer::new(operands.out).end(open);
        Ok(match operator.key {
            // Null in an array, which is more than nothing.
            "$map" if matches!(mapped, Content::Nothing) => Content::Open,
            "$map" => mapped.in_array(),
            _ => items,
        })
    }

    /// `$reduce`: what its value may be is found by going round until it stays so.
    fn reduce(&self, operands: &mut Operands<'_, '_>, operator: &Element<'_>) -> Result<Content> {
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
        let bound = |value: &Content| [("this", items.clone()), ("value", value.clone())];
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
        let found = self.within(env, &bound(&value), depth, &mut |env, depth| {
            self.write(operands.out, inner.key, &inner, Want::Value, env, depth)
        })?;
        Writer::new(operands.out).end(open);
        if value.is_open() && found.is_open() {
            return Ok(Content::Open);
        }
        Ok(if found.fits(&value) {
            value
        } else {
            return Err(self.refuse_whole(&Content::Mixed));
        })
    }

    /// `$sortArray`: documents that hold sealed fields have an order by open ones.
    fn sort_array(
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
            self.open_operand(operands, part, operator.key)
        })?;
        if input.is_open() {
            return Ok(Content::Open);
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

    /// Sets, of open values; of sealed ones only their tokens are, see [`hands_down`].
    fn of_sets(&self, operands: &mut Operands<'_, '_>, operator: &Element<'_>) -> Result<Content> {
        if !self.looks_ahead() {
            self.open_operand(operands, operator, operator.key)?;
            return Ok(Content::Open);
        }
        let mut open = true;
        self.each(operands, operator, |operands, item, _| {
            open &= self.operand(operands, item, Want::Value)?.is_open();
            Ok(())
        })?;
        Ok(if open { Content::Open } else { Content::Mixed })
    }

    /// `$getField`, `$setField`, `$unsetField`: by a name that is no path.
    fn field(&self, operands: &mut Operands<'_, '_>, operator: &Element<'_>) -> Result<Content> {
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
            return self.field_of(operands.env.root, constant);
        }
        let (mut value, mut base) = (Content::Nothing, None);
        // Where a sealed field stands, a constant is one of its values.
        let input = match operator.doc()?.find_once("input")? {
            Some(input) if operator.key == "$setField" => self.look(&input, operands.env)?.0,
            _ => Content::Open,
        };
        let before = match (&input, constant) {
            (Content::Document(shape), Some(name)) => shape.named(name),
            _ => Content::Open,
        };
        self.named(operands, operator, |operands, part| {
            match part.key {
                "value" if matches!(before, Content::Sealed(_)) => {
                    value = self.operand(operands, part, Want::Beside(&before))?;
                }
                "field" => self.name_of(operands, part, operator.key, constant)?,
                "value" => value = self.operand(operands, part, Want::Value)?,
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
    fn name_of(
        &self,
        operands: &mut Operands<'_, '_>,
        name: &Element<'_>,
        operator: &str,
        constant: Option<&str>,
    ) -> Result {
        if constant.is_none() {
            return self.open_operand(operands, name, operator);
        }
        Writer::new(operands.out).value(name.kind, name.key, name.value());
        Ok(())
    }

    fn field_of(&self, base: &Content, name: Option<&str>) -> Result<Content> {
        let content = match (base, name) {
            (base, _) if base.is_open() => Content::Open,
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

    /// `$type` and `$isNumber`: where the schema knows one type, that is the answer
    /// for what is sealed.
    fn type_of(&self, operands: &mut Operands<'_, '_>, operator: &Element<'_>) -> Result<Content> {
        let operand = match operator.kind {
            kind::ARRAY => operator.doc()?.first()?,
            _ => Some(*operator),
        };
        let operand = operand.ok_or(Malformed("$type has no operand"))?;
        let content = match self.looks_ahead() {
            true => Content::Open,
            false => self.look(&operand, operands.env)?.0,
        };
        let seen = match &content {
            Content::Sealed(sealed) => {
                let field = &sealed.field;
                let seen = match operator.key {
                    "$type" => one_type(field).map(|alias| Some(Some(alias))),
                    _ => is_number(field).map(|number| number.then_some(None)),
                };
                seen.ok_or_else(|| {
                    self.scope.refuse(
                        &field.path,
                        &format!("{} `{}`", self.what, operator.key),
                        "MongoDB only has its ciphertext: the schema says which types it may have",
                    )
                })?
            }
            Content::Mixed => return Err(self.refuse_whole(&content)),
            _ => None,
        };
        let Some(alias) = seen.filter(|_| !self.allows_plaintext()) else {
            if seen.is_some() {
                return Err(self.refuse_whole(&content));
            }
            self.each(operands, operator, |operands, item, _| {
                self.operand(operands, item, Want::Value).map(|_| ())
            })?;
            return Ok(Content::Open);
        };
        self.changed.set(true);
        let mut writer = Writer::new(operands.out);
        let bind = writer.begin_doc("$let");
        let variables = writer.begin_doc("vars");
        let depth = operands.depth + 1;
        self.write(
            writer.buffer(),
            "fs",
            &operand,
            Want::Value,
            operands.env,
            depth,
        )?;
        writer.end(variables);
        match alias {
            None => write_is_sealed(&mut writer, "in"),
            Some(alias) => {
                let inner = writer.begin_doc("in");
                let cond = writer.begin_array("$cond");
                write_is_sealed(&mut writer, "0");
                writer.string("1", alias);
                let other = writer.begin_doc("2");
                writer.string("$type", "$$fs");
                writer.end(other);
                writer.end(cond);
                writer.end(inner);
            }
        }
        writer.end(bind);
        Ok(Content::Open)
    }
}

/// The one type of a field's values, if the schema names one.
fn one_type(field: &Field) -> Option<&'static str> {
    match field.types.names().as_deref() {
        Some([one]) if *one != "number" => Some(one),
        _ => None,
    }
}

/// Whether a field's values are numbers, if they are all or none.
fn is_number(field: &Field) -> Option<bool> {
    let numbers = [kind::DOUBLE, kind::INT32, kind::INT64, kind::DECIMAL128];
    if !numbers.iter().any(|number| field.types.allows(*number)) {
        return Some(false);
    }
    let number = crate::schema::Types::named("number")?;
    field.types.within(number).then_some(true)
}

/// `{$in: [{$type: "$$fs"}, ["object", "binData"]]}`: whether a sealed value is there.
fn write_is_sealed(writer: &mut Writer<'_>, key: &str) {
    let test = writer.begin_doc(key);
    let operands = writer.begin_array("$in");
    let kind = writer.begin_doc("0");
    writer.string("$type", "$$fs");
    writer.end(kind);
    let kinds = writer.begin_array("1");
    writer.string("0", "object");
    writer.string("1", "binData");
    writer.end(kinds);
    writer.end(operands);
    writer.end(test);
}

/// How often the value of a `$reduce` is followed before it is given up.
const ROUNDS: usize = 4;

/// Whether an operator gives one of its operands, or is made of them as they are, so
/// that the wish is handed down to them.
fn hands_down(operator: &str, want: Want<'_>) -> bool {
    match operator {
        "$cond" | "$ifNull" | "$switch" | "$let" | "$literal" | "$const" => true,
        "$concatArrays" => matches!(
            want,
            Want::Stored(_) | Want::Beside(_) | Want::Value | Want::Key(_) | Want::Set(_)
        ),
        "$mergeObjects" => matches!(want, Want::Stored(_)),
        // Sets of tokens are equal, and as large, where those of values are.
        "$setUnion" | "$setIntersection" | "$setDifference" => matches!(want, Want::Set(_)),
        _ => false,
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

/// Whether an expression is an operator on sets.
fn is_set(element: &Element<'_>) -> Result<bool> {
    Ok(super::is_operator(element)?
        && element.doc()?.first()?.is_some_and(|operator| {
            matches!(
                operator.key,
                "$setUnion" | "$setIntersection" | "$setDifference"
            )
        }))
}

/// Whether a path is compared with a constant that is neither null nor an array,
/// or looked for in a list of such constants.
fn with_constants(operator: &Element<'_>, env: Environment<'_>) -> Result<bool> {
    let scalar = |element: &Element<'_>| match element.kind {
        kind::STRING => element.str().is_some_and(|text| {
            let of_let = env.constant(text).map(|constant| constant.value);
            let scalar = |value: Element<'_>| {
                !value.is_null() && !matches!(value.kind, kind::DOCUMENT | kind::ARRAY)
            };
            of_let.map_or_else(|| !text.starts_with('$'), scalar)
        }),
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
