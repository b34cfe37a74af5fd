//! Aggregation pipelines: which stages may meet sealed fields, and which
//! collections a pipeline reaches.

use super::expression::refuse_sealed;
use super::filter::{Below, Filter, Purpose};
use super::options::open_keys;
use super::scope::{BY_CONTENT, DEEPEST, Place, Scope};
use crate::policy::Policy;
use crate::raw::{Doc, Element, Malformed, Splicer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::Tree;

/// What is known of the documents between two stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Sealed fields stand at their paths.
    Kept,
    /// Nothing sealed is left.
    Open,
    /// Sealed values may stand anywhere.
    Unknown,
}

/// One pass over the pipeline of an aggregate on a sealed collection.
pub(super) struct Pipeline<'s, 'c> {
    pub(super) scope: &'s Scope<'c>,
    pub(super) policy: &'s Policy,
    pub(super) database: &'s str,
}

impl Pipeline<'_, '_> {
    /// Rewrites the stages in `array`; returns what its documents look like at the end.
    pub(super) fn rewrite<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        array: Doc<'m>,
        mut shape: Shape,
        depth: usize,
    ) -> Result<Shape, Refusal> {
        if depth > DEEPEST {
            return Err(Malformed("a pipeline is nested too deep").into());
        }
        let mark = splicer.mark();
        for stage in array.elements() {
            let stage = stage?;
            let number = stage.key;
            let doc = stage.object()?;
            let mark = splicer.mark();
            let mut operators = doc.elements();
            let operator = operators
                .next()
                .transpose()?
                .ok_or(Malformed("a stage is empty"))?;
            if operators.next().is_some() {
                return Err(Malformed("a stage has more than one field").into());
            }
            shape = self.stage(splicer, number, &operator, shape, depth)?;
            splicer.mend_length(doc.start(), mark)?;
        }
        splicer.mend_length(array.start(), mark)?;
        Ok(shape)
    }

    fn stage<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        number: &str,
        stage: &Element<'m>,
        shape: Shape,
        depth: usize,
    ) -> Result<Shape, Refusal> {
        let what = format!("stage {number}, `{}`,", stage.key);
        match (stage.key, shape) {
            ("$limit" | "$skip" | "$sample", shape) => Ok(shape),
            ("$count", _) => Ok(Shape::Open),
            (_, Shape::Open) => self.reach(stage, depth).map(|()| Shape::Open),
            ("$match", Shape::Kept) => {
                let paths = Below(self.scope, Tree::ROOT);
                let filter = Filter {
                    scope: self.scope,
                    paths: &paths,
                };
                filter.rewrite(splicer, stage.object()?, &mut Purpose::Match, 0)?;
                Ok(Shape::Kept)
            }
            ("$facet", Shape::Kept) => {
                let facets = stage.object()?;
                let mark = splicer.mark();
                let mut shape = Shape::Open;
                for facet in facets.elements() {
                    let inner = facet?.array()?;
                    if self.rewrite(splicer, inner, Shape::Kept, depth + 1)? != Shape::Open {
                        shape = Shape::Unknown;
                    }
                }
                splicer.mend_length(facets.start(), mark)?;
                Ok(shape)
            }
            (_, Shape::Kept) => self.kept(stage, &what, depth),
            (_, Shape::Unknown) => Err(self.scope.refuse_command(
                &format!("{what} after one that gives documents another shape"),
                "only $limit, $skip, $sample and $count may follow there",
            )),
        }
    }

    /// A stage over documents whose sealed fields stand at their paths.
    fn kept(&self, stage: &Element<'_>, what: &str, depth: usize) -> Result<Shape, Refusal> {
        let scope = self.scope;
        match stage.key {
            "$sort" => open_keys(
                scope,
                stage,
                what,
                "sort by an open field, or in the service",
            )?,
            "$project" => {
                for field in stage.object()?.elements() {
                    self.project(&field?, what)?;
                }
            }
            "$addFields" | "$set" => {
                for field in stage.object()?.elements() {
                    let field = field?;
                    self.open_target(field.key, what)?;
                    refuse_sealed(scope, &field, what)?;
                }
            }
            "$unset" => self.unset(stage)?,
            "$unwind" => self.unwind(stage, what)?,
            "$group" | "$sortByCount" | "$bucket" | "$bucketAuto" | "$replaceRoot"
            | "$replaceWith" => {
                refuse_sealed(scope, stage, what)?;
                return Ok(Shape::Open);
            }
            "$lookup" | "$graphLookup" => {
                self.reach(stage, depth)?;
                self.join(stage, what)?;
            }
            "$unionWith" => {
                self.reach(stage, depth)?;
                return Ok(Shape::Unknown);
            }
            "$indexStats" | "$collStats" | "$planCacheStats" => return Ok(Shape::Open),
            // Opened from their headers; further stages would look into them.
            "$changeStream" => return Ok(Shape::Unknown),
            "$out" | "$merge" => {
                return Err(scope.refuse_command(
                    what,
                    "sealed values belong to their collection; write them through the proxy",
                ));
            }
            _ => {
                return Err(scope
                    .refuse_command(what, "this version cannot follow sealed fields through it"));
            }
        }
        Ok(Shape::Kept)
    }

    fn project(&self, field: &Element<'_>, what: &str) -> Result<(), Refusal> {
        let place = self.scope.place(field.key)?;
        match field.kind {
            kind::BOOL | kind::INT32 | kind::INT64 | kind::DOUBLE | kind::DECIMAL128 => Ok(()),
            _ => match place {
                Place::Open => refuse_sealed(self.scope, field, what),
                _ => Err(self.scope.refuse(
                    field.key,
                    what,
                    "include or exclude it by its dotted path",
                )),
            },
        }
    }

    fn open_target(&self, path: &str, what: &str) -> Result<(), Refusal> {
        match self.scope.place(path)? {
            Place::Open => Ok(()),
            _ => Err(self
                .scope
                .refuse(path, what, "put the result in a field of another name")),
        }
    }

    fn unset(&self, stage: &Element<'_>) -> Result<(), Refusal> {
        let path = |element: &Element<'_>| -> Result<(), Refusal> {
            let path = element.str().ok_or(Malformed("$unset takes strings"))?;
            self.scope.place(path).map(|_| ())
        };
        if stage.kind == kind::STRING {
            return path(stage);
        }
        stage
            .doc()?
            .elements()
            .try_for_each(|element| path(&element?))
    }

    fn unwind(&self, stage: &Element<'_>, what: &str) -> Result<(), Refusal> {
        let path = if stage.kind == kind::DOCUMENT {
            if let Some(index) = stage.doc()?.find("includeArrayIndex")? {
                self.open_target(index.str().unwrap_or_default(), what)?;
            }
            stage.doc()?.find("path")?
        } else {
            Some(*stage)
        };
        let path = path
            .and_then(|path| path.str()?.strip_prefix('$'))
            .ok_or(Malformed("$unwind takes a path that begins with $"))?;
        match self.scope.place(path)? {
            Place::Sealed { field, .. } if !field.elements => Err(self.scope.refuse(
                path,
                what,
                "an array is sealed as one value; set `elements = true` in the schema",
            )),
            _ => Ok(()),
        }
    }

    /// A join with an open collection, by open fields, into an open field.
    fn join(&self, stage: &Element<'_>, what: &str) -> Result<(), Refusal> {
        for option in stage.doc()?.elements() {
            let option = option?;
            match option.key {
                "as" | "depthField" => self.open_target(option.str().unwrap_or_default(), what)?,
                "localField" => {
                    let path = option.str().unwrap_or_default();
                    if !matches!(self.scope.place(path)?, Place::Open) {
                        return Err(self.scope.refuse(path, what, BY_CONTENT));
                    }
                }
                "let" | "startWith" => refuse_sealed(self.scope, &option, what)?,
                // Of the other collection, which is open.
                "from"
                | "foreignField"
                | "pipeline"
                | "connectFromField"
                | "connectToField"
                | "maxDepth"
                | "restrictSearchWithMatch" => {}
                other => {
                    return Err(self.scope.refuse_command(
                        &format!("{what} with the option `{other}`"),
                        "this version does not know it",
                    ));
                }
            }
        }
        Ok(())
    }

    fn reach(&self, stage: &Element<'_>, depth: usize) -> Result<(), Refusal> {
        reach_stage(
            self.policy,
            self.scope.command,
            self.database,
            stage,
            depth + 1,
        )
    }
}

/// Refuses a pipeline over open documents if it reaches a sealed collection.
pub(super) fn reach(
    policy: &Policy,
    command: &str,
    database: &str,
    array: Doc<'_>,
    depth: usize,
) -> Result<(), Refusal> {
    if depth > DEEPEST {
        return Err(Malformed("a pipeline is nested too deep").into());
    }
    for stage in array.elements() {
        for operator in stage?.doc()?.elements() {
            reach_stage(policy, command, database, &operator?, depth)?;
        }
    }
    Ok(())
}

fn reach_stage(
    policy: &Policy,
    command: &str,
    database: &str,
    stage: &Element<'_>,
    depth: usize,
) -> Result<(), Refusal> {
    match stage.key {
        "$lookup" | "$graphLookup" => from(policy, command, database, stage, "from", depth),
        "$unionWith" if stage.kind == kind::STRING => {
            named(policy, command, database, stage, stage.key)
        }
        "$unionWith" => from(policy, command, database, stage, "coll", depth),
        "$out" => match stage.kind {
            kind::DOCUMENT => target(policy, command, database, stage, stage.key),
            _ => named(policy, command, database, stage, stage.key),
        },
        "$merge" => match stage.kind {
            kind::DOCUMENT => {
                let into = stage
                    .doc()?
                    .find_once("into")?
                    .ok_or(Malformed("$merge has no `into`"))?;
                if into.kind == kind::DOCUMENT {
                    target(policy, command, database, &into, stage.key)?;
                } else {
                    named(policy, command, database, &into, stage.key)?;
                }
                match stage.doc()?.find_once("whenMatched")? {
                    Some(updates) if updates.kind == kind::ARRAY => {
                        reach(policy, command, database, updates.doc()?, depth + 1)
                    }
                    _ => Ok(()),
                }
            }
            _ => named(policy, command, database, stage, stage.key),
        },
        "$facet" => stage
            .doc()?
            .elements()
            .try_for_each(|facet| reach(policy, command, database, facet?.doc()?, depth + 1)),
        known if STAGES.contains(&known) => Ok(()),
        other => Err(Refusal::new(
            RefusalKind::UnknownStage,
            format_args!(
                "{command} in {database}: the stage `{other}` is not known to this version, so it cannot tell whether it reaches sealed fields; run it on MongoDB itself"
            ),
        )),
    }
}

/// Stages that read no other collection.
const STAGES: &[&str] = &[
    "$addFields",
    "$bucket",
    "$bucketAuto",
    "$changeStream",
    "$changeStreamSplitLargeEvent",
    "$collStats",
    "$count",
    "$currentOp",
    "$densify",
    "$documents",
    "$fill",
    "$geoNear",
    "$group",
    "$indexStats",
    "$limit",
    "$listCatalog",
    "$listLocalSessions",
    "$listSampledQueries",
    "$listSessions",
    "$match",
    "$operationMetrics",
    "$planCacheStats",
    "$project",
    "$queryStats",
    "$redact",
    "$replaceRoot",
    "$replaceWith",
    "$sample",
    "$search",
    "$searchMeta",
    "$set",
    "$setWindowFields",
    "$shardedDataDistribution",
    "$skip",
    "$sort",
    "$sortByCount",
    "$unset",
    "$unwind",
    "$vectorSearch",
];

/// A collection that a stage reads, and the pipeline that it reads it with.
fn from(
    policy: &Policy,
    command: &str,
    database: &str,
    stage: &Element<'_>,
    field: &str,
    depth: usize,
) -> Result<(), Refusal> {
    for option in stage.doc()?.elements() {
        let option = option?;
        if option.key == field {
            match option.kind {
                kind::DOCUMENT => target(policy, command, database, &option, stage.key)?,
                _ => named(policy, command, database, &option, stage.key)?,
            }
        } else if option.key == "pipeline" && option.kind == kind::ARRAY {
            reach(policy, command, database, option.doc()?, depth + 1)?;
        }
    }
    Ok(())
}

fn target(
    policy: &Policy,
    command: &str,
    database: &str,
    holder: &Element<'_>,
    stage: &str,
) -> Result<(), Refusal> {
    let doc = holder.doc()?;
    let other = doc.find_once("db")?;
    let database = match &other {
        Some(name) => name
            .str()
            .ok_or(Malformed("a database is not named by a string"))?,
        None => database,
    };
    let collection = doc
        .find_once("coll")?
        .ok_or(Malformed("a stage names no collection"))?;
    named(policy, command, database, &collection, stage)
}

fn named(
    policy: &Policy,
    command: &str,
    database: &str,
    name: &Element<'_>,
    stage: &str,
) -> Result<(), Refusal> {
    let Some(collection) = name.str() else {
        return Err(Malformed("a collection is not named by a string").into());
    };
    if super::reach::defines_views(policy, database, collection) {
        return Err(Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{command} in {database}: `{stage}` reaches {collection}, where the database has sealed fields; make views with `create`"
            ),
        ));
    }
    if policy.views().reaching(database, collection) {
        return Err(Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{command} in {database}: `{stage}` reads {collection}, a view that reaches sealed fields; query the sealed collection by commands of its own"
            ),
        ));
    }
    match policy.collection(&format!("{database}.{collection}")) {
        None => Ok(()),
        Some(sealed) => Err(Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{command} in {database}: `{stage}` reaches {}, which has sealed fields; read or write it by commands of its own",
                sealed.namespace
            ),
        )),
    }
}
