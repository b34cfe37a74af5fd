//! Stages that read another collection: `$lookup`, `$graphLookup`, `$unionWith`.
//!
//! Two sealed fields are joined by their tokens, if the schema gives both one `domain`.

use super::group::document;
use super::keys::write_keys;
use super::{Documents, Outcome, ROOT, Result, Stage};
use crate::policy::Equality;
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::rewrite::expression::{Variable, Want};
use crate::rewrite::filter::{Below, Filter, Purpose};
use crate::rewrite::scope::{Place, Scope};
use crate::rewrite::shape::Content;
use crate::schema::Types;

const JOIN: &str = "join it with a sealed field of the same `domain`";

/// The tokens that two fields are joined by; none if both are open.
type By<'f> = Option<&'f Equality>;

/// One side of a join: its documents, what they hold, and the path of the field.
type Joined<'f, 'm> = (&'f Scope<'f>, &'f Content, Option<&'f Element<'m>>);

/// A field that a stage joins by.
enum Side<'f> {
    Open,
    Sealed(&'f Equality),
}

impl Stage<'_> {
    /// What has to be done before a stage.
    ///
    /// A join by the path of tokens misses null where the local field lies in documents
    /// of an array, and others of them have a value. So the keys of such a field are
    /// made first: at the path of the result, which the join then overwrites.
    pub(super) fn ahead(&self, stage: &Element<'_>) -> Result<Vec<Vec<u8>>> {
        if stage.key != "$lookup" {
            return Ok(Vec::new());
        }
        let options = stage.object()?;
        let (local, result) = (options.find_once("localField")?, options.find_once("as")?);
        let path = local.and_then(|local| local.str());
        let (Some(path), Some(result)) = (path, result.and_then(|result| result.str())) else {
            return Ok(Vec::new());
        };
        let Some(equality) = self.by_keys(options, path, result)? else {
            return Ok(Vec::new());
        };
        Ok(vec![document(|writer| {
            let set = writer.begin_doc("$set");
            let components: Vec<_> = path.split('.').collect();
            write_keys(writer, result, "$", &components, &equality);
            writer.end(set);
        })])
    }

    /// The tokens by which keys are made for a `$lookup`, if that is necessary.
    fn by_keys(&self, options: Doc<'_>, path: &str, result: &str) -> Result<Option<Equality>> {
        let Content::Document(shape) = self.root else {
            return Ok(None);
        };
        let Some(Content::Sealed(sealed)) = shape.stands(path) else {
            return Ok(None);
        };
        let Some(equality) = &sealed.field.equality else {
            return Ok(None);
        };
        if !path.contains('.') && !sealed.beside_null {
            return Ok(None);
        }
        let variables = match options.find_once("let")? {
            Some(variables) => !variables.object()?.is_empty(),
            None => false,
        };
        if variables || result.split('.').any(crate::schema::is_position) {
            return Err(self.scope.refuse(
                path,
                self.what,
                "with `let`, or with a number in `as`, only a field at the top level can be joined: move it there with $set, or compare it by $expr in the pipeline",
            ));
        }
        Ok(Some(equality.clone()))
    }

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
        let foreign = source.collection(self.pipeline.namespace, self.pipeline.on_plaintext.get());
        let foreign = self.foreign_scope(&foreign);
        let (local, other) = (
            options.find_once("localField")?,
            options.find_once("foreignField")?,
        );
        let joined = self.sides(
            (self.scope, self.root, local.as_ref()),
            (&foreign, &source.content, other.as_ref()),
        )?;
        let name = options.find_once("as")?.and_then(|name| name.str());
        let name = name.ok_or(Malformed("$lookup has no `as`"))?;
        let keys = match local.and_then(|local| local.str()) {
            Some(path) if joined.is_some() => self.by_keys(options, path, name)?.is_some(),
            _ => false,
        };
        let variables = self.bound(options.find_once("let")?.as_ref())?;
        let mut shape = self.shape()?;
        let mark = splicer.mark();
        let mut found = source.clone();
        for option in options.elements() {
            let option = option?;
            match option.key {
                "from" | "as" => {}
                "localField" if keys => splicer.replace(option.start, option.end, |out| {
                    Writer::new(out).string(option.key, name);
                }),
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
                    found = Variable::bind(&variables, self.scope.variables, &mut |bound| {
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
        if !shape.set(name, found.content.in_array()) {
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
        let foreign = source.collection(self.pipeline.namespace, self.pipeline.on_plaintext.get());
        let foreign = self.foreign_scope(&foreign);
        let (to, then) = (
            options.find_once("connectToField")?,
            options.find_once("connectFromField")?,
        );
        let joined = self.sides(
            (&foreign, &source.content, then.as_ref()),
            (&foreign, &source.content, to.as_ref()),
        )?;
        if joined.is_some() {
            let path = to.and_then(|to| to.str()).unwrap_or_default();
            let restricted = options.find_once("restrictSearchWithMatch")?;
            if !restricted.is_some_and(|filter| leaves_out_null(&filter, path)) {
                return Err(foreign.refuse(
                    path,
                    self.what,
                    "null has no token, but would be joined: leave it out with restrictSearchWithMatch: {<connectToField>: {$ne: null}}",
                ));
            }
        }
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
                        return Err(self.expressions().refuse_content(&start, self.what, JOIN));
                    }
                    if matches!(&start, Content::Sealed(sealed) if sealed.arrays > 1) {
                        return Err(self.scope.refuse(
                            &start.sealed_path(),
                            self.what,
                            "its values may stand in arrays within arrays, which would be compared as arrays: take them apart before, so that `startWith` is a field at the top level",
                        ));
                    }
                }
                "depthField" => {
                    let name = option.str().unwrap_or_default();
                    if let Content::Document(found) = &mut found
                        && !found.set(name, Content::Open)
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
        if !shape.set(name, found.in_array()) {
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
        if let Some(path) = self.root.mixed_at(&other.content, Types::ANY) {
            return Err(self.scope.refuse_spill(&path, self.what));
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
        self.pipeline.scope(collection)
    }

    /// How two fields are joined: by their tokens, or, where none is given, as they are.
    fn sides<'f>(&self, local: Joined<'f, '_>, foreign: Joined<'f, '_>) -> Result<By<'f>> {
        let (Some(from), Some(to)) = (local.2, foreign.2) else {
            return Ok(None);
        };
        let path = |element: &Element<'_>| {
            let path = element
                .str()
                .ok_or(Malformed("a field is not named by a string"))?;
            Ok::<_, crate::refusal::Refusal>(path.to_owned())
        };
        let (from, to) = (path(from)?, path(to)?);
        match (
            self.side(local.0, local.1, &from, true)?,
            self.side(foreign.0, foreign.1, &to, false)?,
        ) {
            (Side::Open, Side::Open) => Ok(None),
            (Side::Sealed(one), Side::Sealed(other)) if one.joins(other) && one.in_domain => {
                self.scope.compared.set(true);
                Ok(Some(one))
            }
            (Side::Sealed(_), _) => Err(local.0.refuse(&from, self.what, JOIN)),
            (_, Side::Sealed(_)) => Err(foreign.0.refuse(&to, self.what, JOIN)),
        }
    }

    fn side<'f>(
        &self,
        scope: &'f Scope<'_>,
        content: &Content,
        path: &str,
        local: bool,
    ) -> Result<Side<'f>> {
        let field = match scope.place(path)? {
            Place::Open => return Ok(Side::Open),
            Place::Sealed { field, .. } => field,
            Place::Inner(_) => {
                return Err(scope.refuse(
                    path,
                    self.what,
                    "it holds sealed fields: join by them one by one",
                ));
            }
        };
        if path.split('.').any(crate::schema::is_position) {
            return Err(scope.refuse(path, self.what, "name the field without an array's index"));
        }
        let stands = match content {
            Content::Document(shape) => shape.stands(path),
            _ => None,
        };
        match stands {
            Some(Content::Sealed(sealed))
                if sealed.arrays <= 1 && (local || !sealed.beside_null) => {}
            _ => {
                return Err(scope.refuse(
                    path,
                    self.what,
                    "the stages before may have put its values beside null, or in arrays within arrays, which have no token: join by the field as it is stored",
                ));
            }
        }
        match &field.equality {
            Some(equality) if !scope.collection.on_plaintext.is_expected() => {
                Ok(Side::Sealed(equality))
            }
            _ => Err(scope.refuse(path, self.what, JOIN)),
        }
    }

    /// What the variables of a `let` are bound to; none is known to be one document.
    pub(super) fn bound<'m>(
        &self,
        variables: Option<&Element<'m>>,
    ) -> Result<Vec<(&'m str, Content, bool)>> {
        let mut bound = Vec::new();
        if let Some(variables) = variables {
            for variable in variables.object()?.elements() {
                let variable = variable?;
                self.expressions().check_name(variable.key)?;
                let (content, _) = self.expressions().look(&variable, self.environment())?;
                bound.push((variable.key, content, false));
            }
        }
        Ok(bound)
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

/// Whether a filter finds nothing that is null or missing at `path`.
fn leaves_out_null(filter: &Element<'_>, path: &str) -> bool {
    let condition = filter
        .doc()
        .and_then(|filter| filter.find_once(path))
        .ok()
        .flatten();
    condition
        .filter(|condition| condition.kind == kind::DOCUMENT)
        .and_then(|condition| condition.doc().ok()?.find_once("$ne").ok()?)
        .is_some_and(|operand| operand.is_null())
}
