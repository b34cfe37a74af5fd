//! Indexes, collections and views: what MongoDB keeps about documents.

use super::command::Command;
use super::crud::no_sequences;
use super::options::{
    Collation, array, fields, filter, hint, index_keys, open_keys, sort, validator,
};
use super::pipeline::{self, Pipeline};
use super::scope::{Place, Scope};
use super::{indexes, projection};
use crate::code::Code;
use crate::policy::Policy;
use crate::raw::{Doc, Element, Malformed, Splicer, Writer, kind};
use crate::refusal::{Refusal, RefusalKind};

type Result<T = ()> = std::result::Result<T, Refusal>;

pub(super) fn create_indexes<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result {
    no_sequences(scope, command)?;
    fields(splicer, scope, command.body, 1, |splicer, element| {
        match element.key {
            "indexes" => array(splicer, element, |splicer, index| {
                one_index(splicer, scope, index)
            })?,
            "commitQuorum" | "ignoreUnknownIndexOptions" => {}
            _ => return Ok(false),
        }
        Ok(true)
    })
}

fn one_index<'m>(splicer: &mut Splicer<'m, '_>, scope: &Scope<'_>, index: Doc<'m>) -> Result {
    let flag =
        |key: &str| -> Result<bool> { Ok(index.find(key)?.is_some_and(|flag| flag.truthy())) };
    let name = stored_name(scope, index)?;
    let sealed = index_options(splicer, scope, index, name.as_deref())?;
    if sealed.is_none() && !scope.compared.get() {
        return Ok(());
    }
    match index.find("collation")? {
        Some(collation) => simple_collation(scope, &collation, "an index with a collation")?,
        None if scope.collated => {
            return Err(scope.refuse_command(
                "an index by the collection's own collation",
                "tokens are compared byte for byte: say {collation: {locale: \"simple\"}}",
            ));
        }
        None => {}
    }
    let Some(path) = sealed else {
        return Ok(());
    };
    if index.find("expireAfterSeconds")?.is_some() {
        return Err(scope.refuse(
            path,
            "a TTL index",
            "MongoDB cannot read the date in it: index an open date",
        ));
    }
    if flag("unique")? && flag("sparse")? {
        return Err(scope.refuse(
            path,
            "an index that is both unique and sparse",
            "null has no token, so two nulls would pass: leave out `sparse` and say partialFilterExpression: {field: {$type: <its types>}}, or {$exists: true} if null is to be unique",
        ));
    }
    Ok(())
}

/// The name under which MongoDB keeps an index, if the user gives it one.
fn stored_name(scope: &Scope<'_>, index: Doc<'_>) -> Result<Option<String>> {
    let Some(name) = index.find_once("name")?.and_then(|name| name.str()) else {
        return Ok(None);
    };
    let own = Doc::whole(index.bytes())?;
    let mut out = Vec::new();
    let mut splicer = Splicer::new(index.bytes(), &mut out);
    index_options(&mut splicer, scope, own, None)?;
    let rewritten = match splicer.finish() {
        true => Doc::whole(&out)?,
        false => own,
    };
    indexes::new_name(scope, name, rewritten).map(Some)
}

/// The fields of an index that is to be made, under the name `name`. Returns the first
/// sealed field among its keys.
fn index_options<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    index: Doc<'m>,
    name: Option<&str>,
) -> Result<Option<&'m str>> {
    let mut sealed = None;
    scope.compared.set(false);
    fields(splicer, scope, index, 0, |splicer, element| {
        match element.key {
            "key" => sealed = sealed.or(index_keys(splicer, scope, element.doc()?)?),
            "partialFilterExpression" => filter(splicer, scope, element)?,
            "weights" if element.kind == kind::DOCUMENT => open_keys(
                scope,
                element,
                "a text index",
                "leave it out of the weights",
            )?,
            // A path that goes inside a sealed field is refused where it is looked up.
            "wildcardProjection" => {
                for path in element.object()?.elements() {
                    scope.place(path?.key)?;
                }
            }
            "name" => {
                if let Some(name) = name.filter(|name| element.str() != Some(name)) {
                    splicer.replace(element.start, element.end, |out| {
                        Writer::new(out).string(element.key, name);
                    });
                }
            }
            "unique"
            | "sparse"
            | "expireAfterSeconds"
            | "collation"
            | "hidden"
            | "background"
            | "v"
            | "ns"
            | "dropDups"
            | "storageEngine"
            | "default_language"
            | "language_override"
            | "textIndexVersion"
            | "2dsphereIndexVersion"
            | "bits"
            | "min"
            | "max"
            | "bucketSize"
            | "prepareUnique"
            | "clustered" => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(sealed)
}

/// The query shapes of the plan cache: as the queries themselves are rewritten.
pub(super) fn plan_cache<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result {
    no_sequences(scope, command)?;
    let mut collation = Collation::default();
    fields(splicer, scope, command.body, 1, |splicer, element| {
        match element.key {
            "query" => filter(splicer, scope, element)?,
            "projection" => projection::rewrite(splicer, scope, element)?,
            "sort" => sort(scope, element)?,
            "collation" => collation.note(element)?,
            "indexes" => {
                let array = element.array()?;
                let mark = splicer.mark();
                for index in array.elements() {
                    hint(splicer, scope, &index?)?;
                }
                splicer.mend_length(array.start(), mark)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    collation.check(scope)
}

fn simple_collation(scope: &Scope<'_>, collation: &Element<'_>, what: &str) -> Result {
    let locale = collation.object()?.find("locale")?;
    if locale.and_then(|locale| locale.str()) == Some("simple") {
        return Ok(());
    }
    Err(scope.refuse_command(what, "tokens are compared byte for byte; leave it out"))
}

pub(super) fn drop_indexes<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result {
    no_sequences(scope, command)?;
    fields(splicer, scope, command.body, 1, |splicer, element| {
        match element.key {
            "index" => indexes::drop_index(splicer, scope, element)?,
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// `create` and `collMod` of a sealed collection.
pub(super) fn create<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result {
    no_sequences(scope, command)?;
    fields(splicer, scope, command.body, 1, |splicer, element| {
        match element.key {
            "validator" => validator(splicer, scope, element)?,
            "index" if element.kind == kind::DOCUMENT => modify_index(splicer, scope, element)?,
            "collation" => simple_collation(scope, element, "a collation")?,
            "timeseries" => time_series(scope, element)?,
            "capped"
            | "size"
            | "max"
            | "autoIndexId"
            | "idIndex"
            | "storageEngine"
            | "validationLevel"
            | "validationAction"
            | "indexOptionDefaults"
            | "clusteredIndex"
            | "changeStreamPreAndPostImages"
            | "expireAfterSeconds"
            | "flags"
            | "temp"
            | "cappedSize"
            | "cappedMax"
            | "recordPreImages"
            | "dryRun" => {}
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// Measurements may be sealed; by their time and source MongoDB puts them into buckets.
fn time_series(scope: &Scope<'_>, element: &Element<'_>) -> Result {
    for option in element.object()?.elements() {
        let option = option?;
        match option.key {
            "timeField" | "metaField" => {
                let path = option
                    .str()
                    .ok_or(Malformed("a field is named by a string"))?;
                if !matches!(scope.place(path)?, Place::Open) {
                    return Err(scope.refuse(
                        path,
                        &format!("`{}` of a time series", option.key),
                        "MongoDB sorts measurements into buckets by it: seal another field",
                    ));
                }
            }
            "granularity" | "bucketMaxSpanSeconds" | "bucketRoundingSeconds" => {}
            other => {
                return Err(scope.refuse_command(
                    &format!("the option `{other}` of a time series"),
                    "this version does not know it; leave it out",
                ));
            }
        }
    }
    Ok(())
}

fn modify_index<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    element: &Element<'m>,
) -> Result {
    let index = element.doc()?;
    fields(splicer, scope, index, 0, |splicer, element| {
        match element.key {
            "keyPattern" => indexes::by_keys(splicer, scope, element, "name")?,
            "name" => hint(splicer, scope, element)?,
            "hidden" => {}
            "expireAfterSeconds" | "prepareUnique" | "unique" => {
                indexes::refuse_several(scope, index, element.key)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// `create` and `collMod` of an open namespace, which may be a view over a sealed collection.
pub(super) fn view<'m>(
    splicer: &mut Splicer<'m, '_>,
    policy: &Policy,
    command: &Command<'m>,
) -> Result {
    let (Some(on), stages) = (command.find("viewOn")?, command.find("pipeline")?) else {
        return Ok(());
    };
    let stages = match stages {
        Some(stages) => Some(stages.array()?),
        None => None,
    };
    let compared = std::cell::Cell::new(false);
    let namespace = format!("{}.{}", command.database, on.str().unwrap_or_default());
    let pipeline = Pipeline {
        command: command.name,
        namespace: &namespace,
        policy,
        views: policy.views(),
        database: command.database,
        on_plaintext: &std::cell::Cell::new(crate::schema::OnPlaintext::Reject),
        collated: false,
        compared: &compared,
        constants: None,
        stored: false,
        kept: true,
    };
    let source = pipeline.source(command.database, &on, "the view")?;
    let Some(stages) = stages else {
        return Ok(());
    };
    if source.content.is_open()
        && !pipeline::reaches(
            policy,
            policy.views(),
            command.name,
            command.database,
            stages,
        )?
    {
        return Ok(());
    }
    let mark = splicer.mark();
    pipeline.rewrite(splicer, stages, source, None, "", 0)?;
    splicer.mend_length(command.body.start(), mark)?;
    if compared.get() {
        return Err(Refusal::new(
            RefusalKind::NotSupported,
            format_args!(
                "{} of a view on {namespace}: its stages compare sealed fields; MongoDB would keep tokens in its definition, which change when index keys rotate: compare where the view is queried",
                command.name
            ),
        ).coded(Code::StoredView));
    }
    Ok(())
}
