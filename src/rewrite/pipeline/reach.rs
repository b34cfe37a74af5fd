//! Which collections a pipeline over open documents reaches.

use super::targets::namespace;
use crate::policy::{Policy, Views};
use crate::raw::{Doc, Element, Malformed, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::rewrite::permission::check_internal;
use crate::rewrite::reach::defines_views;
use crate::rewrite::scope::DEEPEST;

type Result<T = ()> = std::result::Result<T, Refusal>;

/// What looks for sealed collections.
#[derive(Clone, Copy)]
struct Search<'p> {
    policy: &'p Policy,
    views: &'p Views,
    command: &'p str,
    database: &'p str,
}

/// Whether a pipeline reads or writes a sealed collection, or a view that reaches one.
pub(in crate::rewrite) fn reaches(
    policy: &Policy,
    views: &Views,
    command: &str,
    database: &str,
    array: Doc<'_>,
) -> Result<bool> {
    let search = Search {
        policy,
        views,
        command,
        database,
    };
    search.pipeline(array, 0)
}

impl Search<'_> {
    fn pipeline(self, array: Doc<'_>, depth: usize) -> Result<bool> {
        if depth > DEEPEST {
            return Err(Malformed("a pipeline is nested too deep").into());
        }
        let mut found = false;
        for stage in array.elements() {
            for operator in stage?.doc()?.elements() {
                found |= self.stage(&operator?, depth)?;
            }
        }
        Ok(found)
    }

    fn stage(self, stage: &Element<'_>, depth: usize) -> Result<bool> {
        match stage.key {
            "$lookup" | "$graphLookup" => self.from(stage, "from", depth),
            "$unionWith" if stage.kind == kind::STRING => self.named(stage),
            "$unionWith" => self.from(stage, "coll", depth),
            "$out" => self.named(stage),
            "$merge" if stage.kind == kind::DOCUMENT => {
                let into = stage
                    .doc()?
                    .find_once("into")?
                    .ok_or(Malformed("$merge has no `into`"))?;
                let found = self.named(&into)?;
                match stage.doc()?.find_once("whenMatched")? {
                    Some(updates) if updates.kind == kind::ARRAY => {
                        Ok(self.pipeline(updates.doc()?, depth + 1)? || found)
                    }
                    _ => Ok(found),
                }
            }
            "$merge" => self.named(stage),
            "$facet" => {
                let mut found = false;
                for facet in stage.doc()?.elements() {
                    found |= self.pipeline(facet?.doc()?, depth + 1)?;
                }
                Ok(found)
            }
            known if STAGES.contains(&known) => Ok(false),
            other => Err(Refusal::new(
                RefusalKind::UnknownStage,
                format_args!(
                    "{} in {}: the stage `{other}` is not known to this version, so it cannot tell whether it reaches sealed fields; run it on MongoDB itself",
                    self.command, self.database
                ),
            )),
        }
    }

    /// A collection that a stage reads, and the pipeline that it reads it with.
    fn from(self, stage: &Element<'_>, field: &str, depth: usize) -> Result<bool> {
        let doc = stage.doc()?;
        let mut found = match doc.find_once(field)? {
            // `{db, coll}` of $unionWith lies in the stage itself.
            Some(_) if field == "coll" => self.named(stage)?,
            Some(from) => self.named(&from)?,
            None => false,
        };
        if let Some(pipeline) = doc.find_once("pipeline")?
            && pipeline.kind == kind::ARRAY
        {
            found |= self.pipeline(pipeline.doc()?, depth + 1)?;
        }
        Ok(found)
    }

    fn named(self, element: &Element<'_>) -> Result<bool> {
        let (database, name) = namespace(self.database, element)?;
        let name = name
            .str()
            .ok_or(Malformed("a collection is not named by a string"))?;
        check_internal(self.policy, self.command, database, name)?;
        if defines_views(self.policy, database, name) {
            return Err(Refusal::new(
                RefusalKind::NotSupported,
                format_args!(
                    "{} in {}: a stage reaches {name}, where the database has sealed fields; make views with `create`",
                    self.command, self.database
                ),
            ));
        }
        Ok(self.views.reaching(database, name)
            || self
                .policy
                .collection(&format!("{database}.{name}"))
                .is_some())
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
    "$listCachedAndActiveUsers",
    "$listCatalog",
    "$listClusterCatalog",
    "$listExtensions",
    "$listLocalSessions",
    "$listSampledQueries",
    "$listSearchIndexes",
    "$listSessions",
    "$match",
    "$operationMetrics",
    "$planCacheStats",
    "$project",
    "$querySettings",
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
