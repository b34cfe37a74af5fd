//! Which collection of the schema is measured, and with which documents.

use super::Arguments;
use crate::bench::documents::{Documents, made_up};
use crate::bench::report::Source;
use crate::bench::subject::Subject;
use crate::cli::Failure;
use crate::code::Code;
use crate::config::Config;
use crate::migrate::database::{DatabaseError, Uri};
use crate::schema::{CollectionRule, Schema};
use bson::{Document, doc};

/// Where a connection string may stand without being seen by others, as arguments are.
const VARIABLE: &str = "FIELDSEAL_URI";
/// How many documents are picked of a collection.
const SAMPLE: i32 = 200;

/// What a configuration and a schema have that is not measured.
pub(super) fn notes(config: &Config, schema: &Schema) -> Vec<String> {
    let mut notes = Vec::new();
    let fields = || schema.rules.iter().flat_map(|rule| &rule.fields);
    let roles = fields().any(|field| field.access != crate::schema::AccessRule::default());
    if roles || !config.access.roles.is_empty() || !config.access.principals.is_empty() {
        notes.push(
            "Roles and masks were not used: every client read and wrote every field.".to_owned(),
        );
    }
    if config.audit.is_some() {
        notes.push("The audit log of the configuration was not used.".to_owned());
    }
    if schema.rules.len() > 1 {
        let others = schema.rules.len() - 1;
        notes.push(match others {
            1 => "The schema names one more collection, which was not measured; --namespace names it.".to_owned(),
            _ => format!("The schema names {others} more collections, which were not measured; --namespace names one."),
        });
    }
    notes
}

/// The collection and the documents that were asked for.
pub(super) async fn choose(arguments: &Arguments, schema: Schema) -> Result<Subject, Failure> {
    let rule = rule(arguments, schema)?;
    let (documents, source, place) = documents(arguments, &rule).await?;
    Ok(Subject::new(rule, documents, source, &place)?)
}

fn rule(arguments: &Arguments, mut schema: Schema) -> Result<CollectionRule, Failure> {
    let wanted = arguments.namespace.as_ref().or(arguments.sample.as_ref());
    let pattern = match wanted {
        None => schema.rules.first().map(|rule| rule.pattern.clone()),
        Some(wanted) => {
            let named = schema.rules.iter().find(|rule| rule.pattern == *wanted);
            let found = named.or_else(|| schema.rule(wanted));
            found.map(|rule| rule.pattern.clone())
        }
    };
    let place = schema
        .rules
        .iter()
        .position(|rule| Some(&rule.pattern) == pattern.as_ref());
    if let Some(place) = place {
        return Ok(schema.rules.swap_remove(place));
    }
    let named: Vec<&str> = schema
        .rules
        .iter()
        .map(|rule| rule.pattern.as_str())
        .collect();
    Err(match wanted {
        None => Failure::coded(
            Code::Schema,
            "the schema names no collection: there is nothing to measure",
        ),
        Some(wanted) => Failure::coded(
            Code::NotSealed,
            format_args!(
                "{wanted}: the schema seals nothing there; it names {}; say with --namespace which of them is meant",
                named.join(", ")
            ),
        ),
    })
}

async fn documents(
    arguments: &Arguments,
    rule: &CollectionRule,
) -> Result<(Documents, Source, String), Failure> {
    if let Some(file) = &arguments.docs {
        let place = file.display().to_string();
        return Ok((Documents::read(file)?, Source::File, place));
    }
    if let Some(namespace) = &arguments.sample {
        let found = sample(arguments, namespace).await?;
        let documents = Documents::checked(found, namespace)?;
        return Ok((documents, Source::Sample, namespace.clone()));
    }
    let place = "documents made up after the schema".to_owned();
    let documents = Documents::checked(made_up(&rule.fields), &place)?;
    Ok((documents, Source::MadeUp, place))
}

/// Documents of a collection, read only.
async fn sample(arguments: &Arguments, namespace: &str) -> Result<Vec<Document>, Failure> {
    let Some((database, collection)) = namespace.split_once('.') else {
        return Err(Failure::coded(
            Code::Argument,
            format_args!("--sample {namespace}: must be `database.collection`"),
        ));
    };
    let uri = uri(arguments, std::env::var(VARIABLE).ok())?;
    let client = uri.connect(&[]).await?;
    let failed = |error| DatabaseError::Driver {
        what: format!("cannot take a sample of {namespace}"),
        error: Box::new(error),
    };
    let stages = [doc! {"$sample": {"size": SAMPLE}}];
    let collection = client.database(database).collection::<Document>(collection);
    let mut cursor = collection.aggregate(stages).await.map_err(failed)?;
    let mut found = Vec::new();
    while cursor.advance().await.map_err(failed)? {
        found.push(cursor.deserialize_current().map_err(failed)?);
    }
    client.shutdown().immediate(true).await;
    Ok(found)
}

fn uri(arguments: &Arguments, variable: Option<String>) -> Result<Uri, Failure> {
    if let Some(uri) = &arguments.uri {
        return Ok(Uri::new(uri, "--uri"));
    }
    if let Some(uri) = variable.filter(|uri| !uri.is_empty()) {
        return Ok(Uri::new(uri, VARIABLE));
    }
    match &arguments.upstream {
        Some(uri) if uri.contains("://") => Ok(Uri::new(uri, "--upstream")),
        Some(address) => Ok(Uri::new(
            format!("mongodb://{address}/?directConnection=true"),
            "--upstream",
        )),
        None => Err(Failure::coded(
            Code::Argument,
            format_args!("--sample: say where the collection is, with --uri or {VARIABLE}"),
        )),
    }
}
