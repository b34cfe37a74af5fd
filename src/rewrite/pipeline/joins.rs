//! Stages that read another collection: `$lookup`, `$graphLookup`, `$unionWith`.
//!
//! Two sealed fields are joined by their tokens, if the schema gives both one `domain`.

use super::{Documents, Outcome, ROOT, Result, Stage};
use crate::policy::Equality;
use crate::raw::{Element, Malformed, Splicer, Writer, kind};
use crate::rewrite::expression::{Variable, Want};
use crate::rewrite::filter::{Below, Filter, Purpose};
use crate::rewrite::scope::{Place, Scope};
use crate::rewrite::shape::Content;

const JOIN: &str = "join it with a sealed field of the same `domain`";

/// A field that a stage joins by.
enum Side<'f> {
    Open,
    Sealed(&'f Equality),
}

impl Stage<'_> {
    /// `$lookup`.
    pub(super) fn lookup<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        let options = stage.object()?;
        let from = options.find_once("from")?;
        let mut source = match &from {
            Some(from) => self.source(from)?,
            None => Documents::of(Content::Open),
        };
        let foreign = source.collection(self.pipeline.namespace, self.pipeline.on_plaintext);
        let foreign = self.foreign_scope(&foreign);
        let (local, other) = (
            options.find_once("localField")?,
            options.find_once("foreignField")?,
        );
        let joined = self.sides(self.scope, local.as_ref(), &foreign, other.as_ref())?;
        let variables = self.bound(options.find_once("let")?.as_ref())?;
        let mut shape = self.shape()?;
        let mark = splicer.mark();
        let mut found = source.clone();
        for option in options.elements() {
            let option = option?;
            match option.key {
                "from" | "as" => {}
                "localField" | "foreignField" => {
                    if let Some(equality) = joined {
                        by_token(splicer, &option, equality);
                    }
                }
                "let" => {
                    let mark = splicer.mark();
                    for variable in option.object()?.elements() {
                        self.expressions().rewrite(
                            splicer,
                            &variable?,
                            Want::Value,
                            self.environment(),
                        )?;
                    }
                    splicer.mend_length(option.object()?.start(), mark)?;
                }
                "pipeline" => {
                    let prefix = format!("{}.", self.inner_prefix("pipeline"));
                    found =
                        self.with_variables(&variables, self.scope.variables, &mut |bound| {
                            self.pipeline.rewrite(
                                splicer,
                                option.array()?,
                                source.clone(),
                                bound,
                                &prefix,
                                self.depth + 1,
                            )
                        })?;
                }
                other => return Err(self.unknown_option(other)),
            }
        }
        splicer.mend_length(options.start(), mark)?;
        if foreign.compared.get() {
            self.scope.compared.set(true);
        }
        let name = options.find_once("as")?.and_then(|name| name.str());
        let name = name.ok_or(Malformed("$lookup has no `as`"))?;
        if !shape.set(name.split('.'), found.content.in_array()) {
            return Err(self.refuse_inside(name));
        }
        Ok(Content::Document(shape).into())
    }

    /// `$graphLookup`.
    pub(super) fn graph_lookup<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        let options = stage.object()?;
        let from = options
            .find_once("from")?
            .ok_or(Malformed("$graphLookup has no `from`"))?;
        let mut source = self.source(&from)?;
        let foreign = source.collection(self.pipeline.namespace, self.pipeline.on_plaintext);
        let foreign = self.foreign_scope(&foreign);
        let (to, then) = (
            options.find_once("connectToField")?,
            options.find_once("connectFromField")?,
        );
        let joined = self.sides(&foreign, then.as_ref(), &foreign, to.as_ref())?;
        let mut found = source.content.clone();
        let mut shape = self.shape()?;
        let mark = splicer.mark();
        for option in options.elements() {
            let option = option?;
            match option.key {
                "from" | "as" | "maxDepth" => {}
                "connectFromField" | "connectToField" => {
                    if let Some(equality) = joined {
                        by_token(splicer, &option, equality);
                    }
                }
                "startWith" => {
                    let want = joined.map_or(Want::Value, Want::Key);
                    let start =
                        self.expressions()
                            .rewrite(splicer, &option, want, self.environment())?;
                    if joined.is_none() && !start.is_open() {
                        return Err(self.scope.refuse(&start.sealed_path(), self.what, JOIN));
                    }
                }
                "depthField" => {
                    let name = option.str().unwrap_or_default();
                    if let Content::Document(found) = &mut found
                        && !found.set(name.split('.'), Content::Open)
                    {
                        return Err(self.refuse_inside(name));
                    }
                }
                "restrictSearchWithMatch" => {
                    let paths = Below(&foreign, ROOT);
                    Filter {
                        scope: &foreign,
                        paths: &paths,
                    }
                    .rewrite(
                        splicer,
                        option.object()?,
                        &mut Purpose::Match,
                        0,
                    )?;
                }
                other => return Err(self.unknown_option(other)),
            }
        }
        splicer.mend_length(options.start(), mark)?;
        if foreign.compared.get() {
            self.scope.compared.set(true);
        }
        let name = options.find_once("as")?.and_then(|name| name.str());
        let name = name.ok_or(Malformed("$graphLookup has no `as`"))?;
        if !shape.set(name.split('.'), found.in_array()) {
            return Err(self.refuse_inside(name));
        }
        Ok(Content::Document(shape).into())
    }

    /// `$unionWith`.
    pub(super) fn union_with<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        let mut other = Documents::of(Content::Open);
        if stage.kind == kind::STRING {
            other = self.source(stage)?;
        } else {
            let options = stage.object()?;
            if options.find_once("coll")?.is_some() {
                other = self.source(stage)?;
            }
            let mark = splicer.mark();
            for option in options.elements() {
                let option = option?;
                match option.key {
                    "coll" | "db" => {}
                    "pipeline" => {
                        let prefix = format!("{}.", self.inner_prefix("pipeline"));
                        other = self.pipeline.rewrite(
                            splicer,
                            option.array()?,
                            other,
                            self.scope.variables,
                            &prefix,
                            self.depth + 1,
                        )?;
                    }
                    other => return Err(self.unknown_option(other)),
                }
            }
            splicer.mend_length(options.start(), mark)?;
        }
        Ok(self.root.clone().or(other.content).into())
    }

    /// The collection that `from` names, or `{db, coll}`.
    fn source(&self, from: &Element<'_>) -> Result<Documents> {
        let (database, name) = super::targets::namespace(self.pipeline.database, from)?;
        self.pipeline.source(database, &name, self.what)
    }

    fn foreign_scope<'f>(&self, collection: &'f crate::policy::Collection) -> Scope<'f>
    where
        Self: 'f,
    {
        let mut scope = Scope::new(self.pipeline.command, collection, self.pipeline.collated);
        scope.constants = self.scope.constants;
        scope.stored = self.scope.stored;
        scope
    }

    /// How two fields are joined: by their tokens, or, where none is given, as they are.
    fn sides<'f>(
        &self,
        local: &'f Scope<'_>,
        from: Option<&Element<'_>>,
        foreign: &'f Scope<'_>,
        to: Option<&Element<'_>>,
    ) -> Result<Option<&'f Equality>> {
        let (Some(from), Some(to)) = (from, to) else {
            return Ok(None);
        };
        let path = |element: &Element<'_>| {
            let path = element
                .str()
                .ok_or(Malformed("a field is not named by a string"))?;
            Ok::<_, crate::refusal::Refusal>(path.to_owned())
        };
        let (from, to) = (path(from)?, path(to)?);
        match (self.side(local, &from)?, self.side(foreign, &to)?) {
            (Side::Open, Side::Open) => Ok(None),
            (Side::Sealed(one), Side::Sealed(other)) if one.joins(other) && one.in_domain => {
                self.scope.compared.set(true);
                Ok(Some(one))
            }
            (Side::Sealed(_), _) => Err(local.refuse(&from, self.what, JOIN)),
            (_, Side::Sealed(_)) => Err(foreign.refuse(&to, self.what, JOIN)),
        }
    }

    fn side<'f>(&self, scope: &'f Scope<'_>, path: &str) -> Result<Side<'f>> {
        match scope.place(path)? {
            Place::Open => Ok(Side::Open),
            Place::Sealed { field, .. } => match &field.equality {
                Some(equality)
                    if scope.collection.on_plaintext != crate::schema::OnPlaintext::Allow =>
                {
                    Ok(Side::Sealed(equality))
                }
                _ => Err(scope.refuse(path, self.what, JOIN)),
            },
            Place::Inner(_) => Err(scope.refuse(
                path,
                self.what,
                "it holds sealed fields: join by them one by one",
            )),
        }
    }

    /// What the variables of a `let` are bound to.
    fn bound<'m>(&self, variables: Option<&Element<'m>>) -> Result<Vec<(&'m str, Content)>> {
        let mut bound = Vec::new();
        if let Some(variables) = variables {
            for variable in variables.object()?.elements() {
                let variable = variable?;
                let (content, _) = self.expressions().look(&variable, self.environment())?;
                bound.push((variable.key, content));
            }
        }
        Ok(bound)
    }

    /// Runs `run` where all of `bound` are variables.
    pub(super) fn with_variables<R>(
        &self,
        bound: &[(&str, Content)],
        outer: Option<&Variable<'_>>,
        run: &mut dyn FnMut(Option<&Variable<'_>>) -> Result<R>,
    ) -> Result<R> {
        match bound.split_first() {
            None => run(outer),
            Some(((name, content), rest)) => {
                let variable = Variable {
                    name,
                    content: content.clone(),
                    outer,
                };
                self.with_variables(rest, Some(&variable), run)
            }
        }
    }
}

/// Names the tokens of a field instead of the field.
fn by_token(splicer: &mut Splicer<'_, '_>, option: &Element<'_>, equality: &Equality) {
    let Some(path) = option.str() else {
        return;
    };
    splicer.replace(option.start, option.end, |out| {
        Writer::new(out).string(option.key, &format!("{path}{}", equality.suffix));
    });
}
