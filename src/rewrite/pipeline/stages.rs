//! Every stage by name, and the short ones.

use super::{Outcome, ROOT, Result, Stage};
use crate::raw::{Element, Malformed, Splicer, kind};
use crate::rewrite::expression::Want;
use crate::rewrite::filter::{Below, Filter, Purpose};
use crate::rewrite::options::open_keys;
use crate::rewrite::scope::{DEEPEST, by_content};
use crate::rewrite::shape::{Content, PLACES, Shape};

impl Stage<'_> {
    /// Rewrites one stage.
    pub(super) fn rewrite<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        stage: &Element<'m>,
    ) -> Result<Outcome> {
        if !matches!(stage.key, "$limit" | "$skip" | "$sample" | "$count") {
            // Of documents that are not known, nothing may be asked.
            self.shape()?;
        }
        match stage.key {
            "$limit" | "$skip" | "$sample" => Ok(Outcome::same()),
            "$match" => self.matching(splicer, stage),
            "$sort" => {
                open_keys(
                    self.scope,
                    stage,
                    self.what,
                    "sort by an open field, or in the service",
                )?;
                Ok(Outcome::same())
            }
            "$count" => {
                let mut counted = Shape::closed();
                counted.put(stage.str().unwrap_or_default(), Content::Open);
                Ok(Content::Document(counted).into())
            }
            "$project" => self.project(splicer, stage),
            "$addFields" | "$set" => self.add_fields(splicer, stage),
            "$unset" => self.unset(stage),
            "$unwind" => self.unwind(stage),
            "$replaceRoot" | "$replaceWith" => self.replace_root(splicer, stage),
            "$group" => self.group(splicer, stage),
            "$sortByCount" => self.sort_by_count(splicer, stage),
            "$bucket" | "$bucketAuto" => self.bucket(splicer, stage),
            "$setWindowFields" => self.window(splicer, stage),
            "$fill" => self.fill(splicer, stage),
            "$densify" => self.densify(stage),
            "$facet" => self.facet(splicer, stage),
            "$lookup" => self.lookup(splicer, stage),
            "$graphLookup" => self.graph_lookup(splicer, stage),
            "$unionWith" => self.union_with(splicer, stage),
            "$out" => self.out(stage),
            "$merge" => self.merge(splicer, stage),
            "$geoNear" => self.geo_near(splicer, stage),
            "$redact" => self.redact(splicer, stage),
            "$changeStream" => self.change_stream(),
            "$changeStreamSplitLargeEvent" => Ok(Content::Mixed.into()),
            // Stored names and tokens are in what they say of indexes and plans; the reply
            // shows those of the service, and no later stage may look at them before.
            "$indexStats" if self.scope.collection.renames_indexes() => {
                Ok(described(&["key", "spec", "name"]))
            }
            "$indexStats" if !self.root.is_open() => Ok(described(&["key", "spec"])),
            "$planCacheStats" if !self.root.is_open() => Ok(described(&[
                "createdFromQuery",
                "cachedPlan",
                "creationExecStats",
            ])),
            "$indexStats"
            | "$collStats"
            | "$planCacheStats"
            | "$currentOp"
            | "$listCatalog"
            | "$listLocalSessions"
            | "$listSampledQueries"
            | "$listSearchIndexes"
            | "$listSessions"
            | "$operationMetrics"
            | "$queryStats"
            | "$querySettings"
            | "$shardedDataDistribution"
            | "$listCachedAndActiveUsers"
            | "$listExtensions"
            | "$listClusterCatalog" => Ok(Content::Open.into()),
            "$documents" => self.documents(splicer, stage),
            _ if self.root.is_open() && known(stage.key) => Ok(Outcome::same()),
            _ => Err(self.scope.refuse_command(
                self.what,
                "this version cannot follow sealed fields through it",
            )),
        }
    }

    fn matching<'m>(&self, splicer: &mut Splicer<'m, '_>, stage: &Element<'m>) -> Result<Outcome> {
        let paths = Below(self.scope, ROOT);
        let filter = Filter {
            scope: self.scope,
            paths: &paths,
        };
        filter.rewrite(splicer, stage.object()?, &mut Purpose::Match, 0)?;
        Ok(Outcome::same())
    }

    /// `$documents`: an expression, in which variables may stand.
    fn documents<'m>(&self, splicer: &mut Splicer<'m, '_>, stage: &Element<'m>) -> Result<Outcome> {
        let expressions = self.expressions();
        let content = expressions.rewrite(splicer, stage, Want::Value, self.environment())?;
        match content {
            Content::Document(_) => Ok(content.into()),
            content if content.is_open() => Ok(Content::Open.into()),
            content => Err(expressions.refuse_content(&content, self.what, by_content::LOOK)),
        }
    }

    fn facet<'m>(&self, splicer: &mut Splicer<'m, '_>, stage: &Element<'m>) -> Result<Outcome> {
        let facets = stage.object()?;
        let mut shape = Shape::closed();
        let mut places = 0;
        let mark = splicer.mark();
        for facet in facets.elements() {
            let facet = facet?;
            let prefix = format!("{}.", self.inner_prefix(facet.key));
            let documents = self.pipeline.rewrite(
                splicer,
                facet.array()?,
                super::Documents::of(self.root.clone()),
                self.scope.variables,
                &prefix,
                self.depth + 1,
            )?;
            places += documents.content.places().unwrap_or(PLACES);
            if places > PLACES {
                return Err(self.scope.refuse_command(
                    self.what,
                    "its documents have too many fields to be followed: leave out what is not needed",
                ));
            }
            shape.put(facet.key, documents.content.in_array());
        }
        splicer.mend_length(facets.start(), mark)?;
        Ok(Content::Document(shape).into())
    }

    /// Where a pipeline within this stage is, for messages.
    pub(super) fn inner_prefix(&self, name: &str) -> String {
        let here = self.what.trim_start_matches("stage ");
        let index = here.split(',').next().unwrap_or_default();
        format!("{index}.{name}")
    }

    fn geo_near<'m>(&self, splicer: &mut Splicer<'m, '_>, stage: &Element<'m>) -> Result<Outcome> {
        let mut shape = self.shape()?;
        let options = stage.object()?;
        let mark = splicer.mark();
        for option in options.elements() {
            let option = option?;
            match option.key {
                "query" => {
                    let paths = Below(self.scope, ROOT);
                    Filter {
                        scope: self.scope,
                        paths: &paths,
                    }
                    .rewrite(
                        splicer,
                        option.object()?,
                        &mut Purpose::Match,
                        0,
                    )?;
                }
                "key" => self.open_path(option.str().unwrap_or_default(), by_content::PLACE)?,
                "distanceField" | "includeLocs" => {
                    let name = option.str().unwrap_or_default();
                    self.open_path(name, "put the result in a field of another name")?;
                    shape.set(name, Content::Open);
                }
                "near" | "spherical" | "maxDistance" | "minDistance" | "distanceMultiplier"
                | "uniqueDocs" | "limit" | "num" => {
                    self.expressions().rewrite(
                        splicer,
                        &option,
                        Want::Value,
                        self.environment(),
                    )?;
                }
                other => {
                    return Err(self.scope.refuse_command(
                        &format!("{} with the option `{other}`", self.what),
                        "this version does not know it",
                    ));
                }
            }
        }
        splicer.mend_length(options.start(), mark)?;
        Ok(Content::Document(shape).into())
    }

    /// `$redact` that descends looks into every document within the document, sealed
    /// ones too. Else it keeps documents or drops them.
    fn redact<'m>(&self, splicer: &mut Splicer<'m, '_>, stage: &Element<'m>) -> Result<Outcome> {
        if !self.root.is_open() && descends(stage, 0)? {
            return Err(self.scope.refuse_command(
                self.what,
                "$$DESCEND would look into sealed values: use $project and $filter",
            ));
        }
        self.expressions()
            .rewrite(splicer, stage, Want::Value, self.environment())?;
        Ok(Outcome::same())
    }

    /// The events of a collection: its documents stand in them at known names.
    fn change_stream(&self) -> Result<Outcome> {
        let documents = Content::Document(self.shape()?);
        let mut event = Shape::default();
        for name in ["fullDocument", "fullDocumentBeforeChange", "documentKey"] {
            event.put(name, documents.clone());
        }
        let mut update = Shape::default();
        if self.scope.masks {
            // Names of fields that were changed, of masked ones too.
            for name in ["removedFields", "truncatedArrays", "disambiguatedPaths"] {
                update.put(name, Content::Mixed);
            }
        }
        update.put("updatedFields", Content::Document(self.shape()?.changes()));
        event.put("updateDescription", Content::Document(update));
        Ok(Content::Document(event).into())
    }
}

/// Whether an expression of `$redact` may say `$$DESCEND`.
fn descends(element: &Element<'_>, depth: usize) -> Result<bool> {
    if depth > DEEPEST {
        return Err(Malformed("an expression is nested too deep").into());
    }
    match element.kind {
        kind::STRING => Ok(element
            .str()
            .is_none_or(|text| text.starts_with("$$DESCEND"))),
        kind::DOCUMENT | kind::ARRAY => {
            for item in element.doc()?.elements() {
                if descends(&item?, depth + 1)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// Stages that may stand where nothing sealed is in the documents.
fn known(stage: &str) -> bool {
    matches!(
        stage,
        "$search" | "$searchMeta" | "$vectorSearch" | "$rankFusion" | "$scoreFusion" | "$score"
    )
}

/// Documents about indexes and plans, with stored names and tokens under `names`.
fn described(names: &[&str]) -> Outcome {
    let mut shape = Shape::default();
    for name in names {
        shape.put(name, Content::Mixed);
    }
    Content::Document(shape).into()
}
