//! `fieldseal status`: how far the collections are what schema and keyring say.

mod tasks;

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::database::{DatabaseArgs, run_to_end};
use super::load::{self, Loaded};
use super::table::table;
use super::ticker::Ticker;
use super::{ConfigFile, Failure, Report};
use crate::code::Code;
use crate::config::Config;
use crate::migrate::census::{Census, FieldCensus};
use crate::migrate::database::{Listed, Standing, sealed_namespaces};
use crate::migrate::scan::{Extent, estimate, scan, sealed_names};
use crate::schema::OnPlaintext;
use tasks::state_of;
pub(super) use tasks::{Counted, Task, values};

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Collections, as `database.collection`; without any, all that the schema names.
    #[arg(value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Look at so many documents of each collection, picked at random, instead of at all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// What was counted, and whether anything is left to do.
#[derive(Debug)]
pub(super) struct Stated {
    pub(super) report: Report,
    pub(super) left: bool,
}

/// A collection, and what was counted there if it could be.
struct Seen {
    listed: Listed,
    on_plaintext: OnPlaintext,
    census: Census,
}

pub(super) fn run(arguments: &Status) -> Result<Stated, Failure> {
    let config = Config::load(&arguments.file.path)?;
    let loaded = load::load(&config)?;
    let extent = arguments.sample.map_or(Extent::All, Extent::Sample);
    let seen = run_to_end(async {
        let client = arguments.database.connect(&config).await?;
        let wanted = &arguments.namespaces;
        let mut seen = Vec::new();
        for listed in sealed_namespaces(&client, &loaded.policy, wanted).await? {
            seen.push(see(&client, &loaded, listed, extent).await?);
        }
        client.shutdown().immediate(true).await;
        Ok(seen)
    })?;
    let told = Told {
        loaded: &loaded,
        seen,
        sample: arguments.sample,
        all: arguments.namespaces.is_empty(),
    };
    let tasks = told.tasks();
    let text = if arguments.json {
        format!("{:#}\n", told.describe(&tasks))
    } else {
        told.show(&tasks)
    };
    Ok(Stated {
        report: Report {
            text,
            warnings: Vec::new(),
        },
        left: !tasks.is_empty(),
    })
}

async fn see(
    client: &mongodb::Client,
    loaded: &Loaded,
    listed: Listed,
    extent: Extent,
) -> Result<Seen, Failure> {
    let namespace = listed.namespace.clone();
    let policy = &loaded.policy;
    let (Some(rule), Some(collection)) = (
        loaded.schema.rule(&namespace),
        policy.collection(&namespace),
    ) else {
        return Err(Failure::coded(
            Code::NotSealed,
            format_args!("{namespace}: the schema seals nothing there"),
        ));
    };
    let on_plaintext = collection.on_plaintext;
    let mut census = Census::new(rule, collection);
    if is_counted(&listed) {
        let mut ticker = Ticker::new();
        let names = sealed_names(rule);
        let all = estimate(client, &listed, extent).await;
        scan(client, &listed, extent, names, |doc| {
            ticker.tick(|_| format!("{namespace}: {} of about {all} documents", census.documents));
            census.document(policy, doc)
        })
        .await?;
    }
    Ok(Seen {
        listed,
        on_plaintext,
        census,
    })
}

/// Views show what lies elsewhere, and the fields of a time series lie in its buckets.
pub(super) fn is_counted(listed: &Listed) -> bool {
    matches!(listed.standing, Standing::Collection | Standing::Capped)
}

/// What the command tells.
struct Told<'t> {
    loaded: &'t Loaded,
    seen: Vec<Seen>,
    sample: Option<u32>,
    /// Whether every collection of the schema was looked at.
    all: bool,
}

impl Told<'_> {
    fn counted(&self) -> impl Iterator<Item = Counted<'_>> {
        self.seen.iter().flat_map(|seen| {
            seen.census.fields.iter().map(|field| Counted {
                namespace: &seen.listed.namespace,
                on_plaintext: seen.on_plaintext,
                field,
                keyring: &self.loaded.keyring,
            })
        })
    }

    fn tasks(&self) -> Vec<Task> {
        let mut tasks: Vec<Task> = self.counted().flat_map(|counted| counted.tasks()).collect();
        // What other collections have is not known otherwise.
        if self.all {
            let mut lacking = BTreeMap::new();
            self.counted()
                .for_each(|counted| tasks::add_lacking(&counted, &mut lacking));
            tasks.extend(tasks::epochs(&self.loaded.keyring, &lacking));
        }
        tasks
    }

    fn show(&self, tasks: &[Task]) -> String {
        let heading = [
            "namespace",
            "documents",
            "field",
            "plain",
            "sealed",
            "by key version",
            "tokens",
            "unreadable",
        ];
        let mut rows = Vec::new();
        let mut text = String::new();
        for seen in &self.seen {
            let namespace = &seen.listed.namespace;
            if !is_counted(&seen.listed) && seen.listed.standing != Standing::Missing {
                let word = seen.listed.standing.word();
                text.push_str(&format!("{namespace}: not looked at: it is a {word}\n"));
                continue;
            }
            for field in &seen.census.fields {
                rows.push([
                    namespace.clone(),
                    seen.census.documents.to_string(),
                    field.field.path.clone(),
                    field.plain.to_string(),
                    field.values().to_string(),
                    self.versions(field),
                    self.epochs(field),
                    self.unreadable(field).to_string(),
                ]);
            }
        }
        let mut shown = match rows.is_empty() {
            true => String::new(),
            false => table(heading, &rows),
        };
        shown.push_str(&text);
        if let Some(size) = self.sample {
            shown.push_str(&format!(
                "counted in a sample of up to {size} documents of each collection\n"
            ));
        }
        if tasks.is_empty() {
            shown.push_str("nothing is left to do\n");
        }
        for task in tasks {
            shown.push_str(&task.line());
            shown.push('\n');
        }
        shown
    }

    /// `v1 20 (retired), v2 80`; the name of the key where it is not the field's.
    fn versions(&self, field: &FieldCensus) -> String {
        let versions = field.sealed.iter().map(|(id, number)| {
            let Some((key, version)) = self.loaded.keyring.version(*id) else {
                return format!("id {} {number} (missing)", id.0);
            };
            let name = match key.name == field.key {
                true => format!("v{}", version.number),
                false => format!("{} v{}", key.name, version.number),
            };
            match version.state {
                crate::keyring::State::Active => format!("{name} {number}"),
                state => format!("{name} {number} ({})", state.word()),
            }
        });
        or_dash(versions.collect())
    }

    fn epochs(&self, field: &FieldCensus) -> String {
        let key = self.loaded.keyring.key(&field.key);
        let epochs = field.tokens.iter().map(|(epoch, number)| {
            match key.map_or("not in the key file", |key| state_of(key, *epoch)) {
                "active" => format!("e{epoch} {number}"),
                state => format!("e{epoch} {number} ({state})"),
            }
        });
        or_dash(epochs.collect())
    }

    fn unreadable(&self, field: &FieldCensus) -> u64 {
        let locked = field.sealed.iter().filter(|(id, _)| {
            let version = self.loaded.keyring.version(**id);
            version.is_none_or(|(_, version)| !version.state.opens())
        });
        let foreign: u64 = field.foreign.values().sum();
        locked.map(|(_, number)| number).sum::<u64>() + field.damaged + foreign
    }

    fn describe(&self, tasks: &[Task]) -> Value {
        let collections: Vec<Value> = self
            .seen
            .iter()
            .map(|seen| {
                let fields = seen.census.fields.iter();
                json!({
                    "namespace": seen.listed.namespace,
                    "standing": seen.listed.standing.word(),
                    "counted": is_counted(&seen.listed),
                    "documents": seen.census.documents,
                    "fields": fields.map(|field| self.describe_field(field)).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({
            "generation": self.loaded.keyring.generation,
            "sample": self.sample,
            "collections": collections,
            "to_do": tasks.iter().map(Task::describe).collect::<Vec<_>>(),
        })
    }

    fn describe_field(&self, field: &FieldCensus) -> Value {
        let versions: Vec<Value> = field
            .sealed
            .iter()
            .map(|(id, number)| {
                let known = self.loaded.keyring.version(*id);
                json!({
                    "key_id": id.0,
                    "key": known.map(|(key, _)| &key.name),
                    "version": known.map(|(_, version)| version.number),
                    "state": known.map_or("missing", |(_, version)| version.state.word()),
                    "values": number,
                })
            })
            .collect();
        let key = self.loaded.keyring.key(&field.key);
        let epochs: Vec<Value> = field
            .tokens
            .iter()
            .map(|(epoch, number)| {
                json!({
                    "epoch": epoch,
                    "state": key.map_or("not in the key file", |key| state_of(key, *epoch)),
                    "values": number,
                })
            })
            .collect();
        json!({
            "field": field.field.path,
            "key": field.key,
            "plain": field.plain,
            "sealed": field.values(),
            "versions": versions,
            "tokens": epochs,
            "wrong_tokens": field.wrong_tokens,
            "damaged": field.damaged,
            "sealed_for_another_field": field.foreign.values().sum::<u64>(),
            "unreadable": self.unreadable(field),
        })
    }
}

fn or_dash(parts: Vec<String>) -> String {
    match parts.is_empty() {
        true => "-".to_owned(),
        false => parts.join(", "),
    }
}
