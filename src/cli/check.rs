//! `fieldseal check`: what is sealed, how, under which key, and what is behind the routes.

mod access;
mod against;
mod catalog;
mod member;
mod rights;
mod upstream;
mod validators;

use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use serde_json::json;

use super::database::{DatabaseArgs, run_to_end};
use super::load::{self, Loaded};
use super::status::Task;
use super::table::table;
use super::{ConfigFile, Failure, Report, audit, limits};
use crate::code::Code;
use crate::config::Config;
use crate::keyring::{Keyring, Suite};
use crate::migrate::scan::Extent;
use crate::raw::kind;
use crate::schema::{CollectionRule, FieldRule, OnPlaintext, Schema};
use against::Findings;
use upstream::Upstreams;

/// How many documents of each collection are looked at, unless it is said.
const SAMPLE: u32 = 1000;

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: ConfigFile,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Leave MongoDB alone: look at the files only.
    #[arg(long, conflicts_with_all = ["against", "require_upstream", "uri"])]
    offline: bool,
    /// Fail if the upstream of a route is not reached, which is a warning otherwise.
    #[arg(long)]
    require_upstream: bool,
    /// Compare schema and keyring with what is stored: look at documents of every collection.
    #[arg(long)]
    against: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    /// With --against: how many documents of each collection are looked at, picked at random.
    #[arg(long, value_name = "N", requires = "against", default_value_t = SAMPLE,
          value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// With --against: look at every document.
    #[arg(long, requires = "against", conflicts_with = "sample")]
    exact: bool,
}

/// What is sealed and, if that was asked for, what is wrong with what is stored.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) report: Report,
    pub(super) failure: Option<Failure>,
}

/// Runs the command.
pub(super) fn check(arguments: &Check) -> Result<Checked, Failure> {
    let config = Config::load(&arguments.file.path)?;
    let files = Files::check(config)?;
    let (found, upstream) = match arguments.offline {
        true => (None, None),
        false => run_to_end(online(arguments, &files))?,
    };
    let mut warnings = files.warnings.clone();
    let text = if arguments.json {
        let mut json = describe(&files.config, &files.loaded, &files.warnings);
        if let Some(found) = &found {
            json["against"] = describe_against(arguments, found);
        }
        json["upstream"] = json!(upstream.as_ref().map(Upstreams::describe));
        format!("{json:#}\n")
    } else {
        let mut text = show(&files.config, &files.loaded);
        text.extend(found.as_ref().map(against::summary));
        text.extend(upstream.as_ref().map(Upstreams::show));
        text
    };
    let remarks = found.iter().flat_map(|found| &found.remarks);
    warnings.extend(remarks.map(Task::line));
    let wrong = found.iter().flat_map(|found| &found.wrong).map(Task::line);
    let wrong = Failure::of_all(Code::NotAsSchema, wrong);
    let mut unreached = None;
    if let Some(upstream) = &upstream {
        warnings.extend(upstream.warnings());
        unreached = upstream.failure().filter(|_| arguments.require_upstream);
    }
    Ok(Checked {
        report: Report { text, warnings },
        failure: wrong.into_iter().chain(unreached).reduce(Failure::and),
    })
}

/// What is asked of MongoDB: whether documents are as the schema says, and what is behind the
/// routes.
async fn online(
    arguments: &Check,
    files: &Files,
) -> Result<(Option<Findings>, Option<Upstreams>), Failure> {
    let Files { config, loaded, .. } = files;
    let mut found = None;
    if arguments.against {
        let extent = match arguments.exact {
            true => Extent::All,
            false => Extent::Sample(arguments.sample),
        };
        let client = arguments.database.connect(config).await?;
        let looked = against::look(&client, loaded, extent).await;
        client.shutdown().immediate(true).await;
        found = Some(looked?);
    }
    let upstream = upstream::look(config, loaded, &arguments.database).await;
    Ok((found, Some(upstream)))
}

fn describe_against(arguments: &Check, found: &Findings) -> serde_json::Value {
    let tasks = |tasks: &[Task]| tasks.iter().map(Task::describe).collect::<Vec<_>>();
    json!({
        "sample": (!arguments.exact).then_some(arguments.sample),
        "documents": found.documents,
        "collections": found.collections,
        "wrong": tasks(&found.wrong),
        "remarks": tasks(&found.remarks),
    })
}

/// What was loaded from the files, and what should not stay so there.
struct Files {
    config: Config,
    loaded: Arc<Loaded>,
    warnings: Vec<String>,
}

impl Files {
    fn check(config: Config) -> Result<Self, Failure> {
        let loaded = load::load(&config)?;
        audit::check_writable(&config)?;
        let mut warnings = load::warnings(&config);
        warnings.extend(load::access_warnings(&config, &loaded.schema));
        warnings.extend(limits::ages(
            config.keyring.max_age,
            &loaded.policy,
            SystemTime::now(),
        ));
        Ok(Self {
            config,
            loaded: Arc::new(loaded),
            warnings,
        })
    }
}

fn fields(schema: &Schema) -> impl Iterator<Item = (&CollectionRule, &FieldRule)> {
    schema
        .rules
        .iter()
        .flat_map(|rule| rule.fields.iter().map(move |field| (rule, field)))
}

/// The number of the version that seals now.
fn active(keyring: &Keyring, name: &str) -> Option<u32> {
    keyring.key(name)?.active().map(|version| version.number)
}

/// What new values of the field are sealed with.
fn suite(keyring: &Keyring, field: &FieldRule) -> Suite {
    let of_version = || keyring.key(&field.key)?.active()?.suite;
    field.suite.or_else(of_version).unwrap_or_default()
}

fn show(config: &Config, loaded: &Loaded) -> String {
    let Loaded {
        schema, keyring, ..
    } = loaded;
    let generation = keyring.generation;
    if schema.is_empty() {
        return format!(
            "{}nothing is sealed: the schema names no collection; keyring generation {generation}\n",
            access::show(&config.access)
        );
    }
    let dash = || "-".to_owned();
    let rows: Vec<_> = fields(schema)
        .map(|(rule, field)| {
            [
                rule.pattern.clone(),
                field.path.clone(),
                field.types.describe(),
                if field.equality {
                    "equality".to_owned()
                } else {
                    dash()
                },
                arrays(field).to_owned(),
                active(keyring, &field.key).map_or_else(
                    || field.key.clone(),
                    |version| format!("{} v{version}", field.key),
                ),
                suite(keyring, field).word().to_owned(),
                field.domain.clone().unwrap_or_else(dash),
                identity(rule, field).unwrap_or_else(dash),
            ]
        })
        .collect();
    let heading = [
        "namespace",
        "field",
        "type",
        "queries",
        "arrays",
        "key",
        "suite",
        "domain",
        "identity",
    ];
    let mut text = table(heading, &rows);
    text.push_str(&rights::show(schema));
    for rule in &schema.rules {
        let what = match rule.on_plaintext {
            OnPlaintext::Reject => continue,
            OnPlaintext::Allow => "plaintext found on read is passed on",
            OnPlaintext::Store => "what is written is stored in plain",
        };
        text.push_str(&format!(
            "{}: {what} (on_plaintext = \"{}\")\n",
            rule.pattern,
            rule.on_plaintext.word()
        ));
    }
    text.push_str(&access::show(&config.access));
    let count = |number: usize, what: &str| {
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    text.push_str(&format!(
        "{} of {} sealed; keyring generation {generation}\n",
        count(rows.len(), "field"),
        count(schema.rules.len(), "collection")
    ));
    text
}

/// What becomes of an array that is written to the field.
fn arrays(field: &FieldRule) -> &'static str {
    if field.elements {
        "by element"
    } else if field.types.allows(kind::ARRAY) {
        "whole"
    } else {
        "refused"
    }
}

/// The identities that are given; none if both are the namespace and the path.
fn identity(rule: &CollectionRule, field: &FieldRule) -> Option<String> {
    if rule.identity.is_none() && field.identity.is_none() {
        return None;
    }
    Some(format!(
        "{} {}",
        rule.identity(&rule.pattern),
        field.identity()
    ))
}

fn describe(config: &Config, loaded: &Loaded, warnings: &[String]) -> serde_json::Value {
    let Loaded {
        schema, keyring, ..
    } = loaded;
    let fields: Vec<_> = fields(schema)
        .map(|(rule, field)| {
            json!({
                "namespace": rule.pattern,
                "field": field.path,
                "type": field.types.names(),
                "queries": if field.equality { vec!["equality"] } else { Vec::new() },
                "elements": field.elements,
                "key": field.key,
                "version": active(keyring, &field.key),
                "suite": suite(keyring, field).word(),
                "domain": field.domain,
                "identity": { "collection": rule.identity, "field": field.identity },
                "on_plaintext": rule.on_plaintext.word(),
                "access": rights::describe(field),
            })
        })
        .collect();
    json!({
        "generation": keyring.generation,
        "fields": fields,
        "access": access::describe(&config.access),
        "warnings": warnings,
    })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use super::super::keys::tests::{Workplace, init};
    use super::*;

    /// Of the files alone.
    pub(super) fn run(file: &Path, json: bool) -> Result<Report, Failure> {
        let files = Files::check(Config::load(file)?)?;
        let text = match json {
            true => describe(&files.config, &files.loaded, &files.warnings).to_string(),
            false => show(&files.config, &files.loaded),
        };
        let warnings = files.warnings;
        Ok(Report { text, warnings })
    }

    const SCHEMA: &str = r#"
        [collections."shop.customers"]
        identity = "old.customers"
        on_plaintext = "allow"
        [collections."shop.customers".fields]
        ssn = { type = "string", queries = ["equality"], domain = "people" }
        address = { suite = "xaes-256-gcm" }
        name = { type = "string" }
        tags = { type = "string", elements = true, key = "labels" }
    "#;

    #[test]
    fn the_table_says_what_is_sealed_how_and_under_which_key() {
        let place = Workplace::new("check", SCHEMA);
        init(&place);
        let report = run(&place.config(), false).unwrap();
        let lines: Vec<Vec<&str>> = report
            .text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[0],
            [
                "namespace",
                "field",
                "type",
                "queries",
                "arrays",
                "key",
                "suite",
                "domain",
                "identity"
            ]
        );
        let ssn = "shop.customers ssn string equality by element default v1 aes-256-gcm people old.customers ssn";
        assert_eq!(lines[1].join(" "), ssn);
        let address = "shop.customers address any type - whole default v1 xaes-256-gcm - old.customers address";
        assert_eq!(lines[2].join(" "), address);
        assert_eq!(
            lines[3].join(" "),
            "shop.customers name string - refused default v1 aes-256-gcm - old.customers name"
        );
        assert!(
            lines[4].join(" ").contains("by element labels v1"),
            "{}",
            report.text
        );
        assert!(
            report
                .text
                .contains("shop.customers: plaintext found on read is passed on")
        );
        assert!(
            report
                .text
                .ends_with("4 fields of 1 collection sealed; keyring generation 1\n")
        );
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    }

    #[test]
    fn programs_read_it_as_json() {
        let place = Workplace::new("check-json", SCHEMA);
        init(&place);
        let report = run(&place.config(), true).unwrap();
        let json: serde_json::Value = serde_json::from_str(&report.text).unwrap();
        assert_eq!(json["generation"], 1);
        assert_eq!(json["fields"][0]["field"], "ssn");
        assert_eq!(json["fields"][0]["type"], json!(["string"]));
        assert_eq!(json["fields"][0]["queries"], json!(["equality"]));
        assert_eq!(json["fields"][0]["suite"], "aes-256-gcm");
        assert_eq!(json["fields"][1]["type"], json!(null));
        assert_eq!(json["fields"][1]["suite"], "xaes-256-gcm");
        assert_eq!(json["fields"][3]["key"], "labels");
        assert_eq!(json["fields"][3]["version"], 1);
    }

    #[test]
    fn an_empty_schema_is_right() {
        let place = Workplace::new("check-empty", "");
        init(&place);
        assert!(
            run(&place.config(), false)
                .unwrap()
                .text
                .starts_with("nothing is sealed")
        );
    }

    #[test]
    fn mistakes_of_schema_and_keyring_are_reported_together() {
        let place = Workplace::new(
            "check-both",
            "[collections.\"a.b\".fields]\nx = { type = \"strng\" }\n",
        );
        let failure = run(&place.config(), false).unwrap_err();
        let [schema, keyring] = failure.lines() else {
            panic!("two lines: {failure:?}");
        };
        assert!(
            schema.contains("schema.toml:2:") && schema.contains("did you mean \"string\"?"),
            "{schema}"
        );
        assert!(
            keyring.contains("keyring.json: there is no key file"),
            "{keyring}"
        );
    }

    #[test]
    fn every_key_that_is_missing_is_named_with_what_makes_it() {
        let place = Workplace::new("check-missing", "");
        init(&place);
        place.write("schema.toml", SCHEMA);
        let failure = run(&place.config(), false).unwrap_err();
        assert_eq!(failure.lines().len(), 1);
        assert!(
            failure.lines()[0].ends_with("`fieldseal keys rotate labels` [FS2003]"),
            "{failure:?}"
        );
    }

    #[test]
    fn a_key_file_that_others_can_read_is_warned_of() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = Workplace::new("check-mode", "");
        init(&place);
        let mode = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(place.path("keyring.json"), mode).unwrap();
        let report = run(&place.config(), false).unwrap();
        assert!(
            report.warnings[0].contains("chmod 600"),
            "{:?}",
            report.warnings
        );
    }
}
