//! `fieldseal migrate`: jobs over what is stored already.

mod reindex;

use std::path::Path;

use clap::{Args, Subcommand};
use mongodb::Client;
use serde_json::json;

use super::audit::recorded;
use super::database::{DatabaseArgs, run_to_end};
use super::progress::{Display, count, grouped};
use super::reload::{Fingerprint, Stamp};
use super::serve::Stop;
use super::{ConfigFile, Failure, Report, load};
use crate::code::Code;
use crate::config::Config;
use crate::migrate::database::{Listed, Standing, sealed_namespaces};
use crate::migrate::{Options, Outcome, Work};
use crate::policy::Policy;

/// How often the files are looked at.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// How long taking leave of MongoDB may take.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(3);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Seal the plaintext that is stored in sealed fields (needs on_plaintext = "allow").
    Encrypt(Arguments),
    /// Seal what is under older key versions anew, under the active one.
    Rotate(Arguments),
    /// Store what is sealed in plain again (needs on_plaintext = "store").
    Decrypt(Arguments),
    /// Move tokens and their indexes to another index epoch, step by step.
    Reindex(reindex::Arguments),
}

/// What all jobs take.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The collections; without any, all that the schema names.
    #[arg(value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// Only this field, as the schema names it; may be given several times.
    #[arg(long = "field", value_name = "PATH", requires = "namespaces")]
    fields: Vec<String>,
    /// Count what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// So many documents a second at most.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    file: ConfigFile,
}

/// Does the job. What it has to say comes with what is left to do, if anything is.
pub(super) fn run(command: Command) -> Result<(Report, Option<Failure>), Failure> {
    let (file, dry_run, action, words) = match &command {
        Command::Encrypt(job) => job.described("encrypt"),
        Command::Rotate(job) => job.described("rotate"),
        Command::Decrypt(job) => job.described("decrypt"),
        Command::Reindex(job) => job.described(),
    };
    if dry_run {
        return carry_out(command);
    }
    let (file, action) = (file.to_owned(), format!("migrate {action}"));
    recorded(&file, &action, &words, || carry_out(command))
}

/// What is written down of a job: the configuration, whether it changes nothing, its name, and
/// on what it is done.
type Described<'a> = (&'a Path, bool, &'static str, Vec<String>);

impl Arguments {
    fn described(&self, action: &'static str) -> Described<'_> {
        let words = self
            .namespaces
            .iter()
            .chain(&self.fields)
            .cloned()
            .collect();
        (&self.file.path, self.dry_run, action, words)
    }
}

fn carry_out(command: Command) -> Result<(Report, Option<Failure>), Failure> {
    let (work, arguments) = match command {
        Command::Encrypt(arguments) => (Work::Encrypt, arguments),
        Command::Rotate(arguments) => (Work::Rotate, arguments),
        Command::Decrypt(arguments) => (Work::Decrypt, arguments),
        Command::Reindex(arguments) => return reindex::run(&arguments),
    };
    let file = &arguments.file.path;
    let stamp = Stamp::of(file);
    let config = Config::load(file)?;
    // Before the files are read, so that no change after it is missed.
    let seen = Fingerprint::of(file, &config).with(stamp);
    let policy = load::load(&config)?.policy;
    run_to_end(async {
        let mut stop = Stop::new()?;
        let client = arguments.database.connect(&config).await?;
        let outcomes = tokio::select! {
            outcomes = all(&client, &policy, work, &arguments) => outcomes,
            () = stop.asked() => Err(Failure::coded(Code::Stopped,
                "stopped; run the same command again to go on from there",
            )),
            () = changed(file, &config, &seen) => Err(Failure::coded(Code::FilesChanged, format_args!(
                "{}: it, the schema or the key file changed while the job ran, which would go by the old ones; run the same command again to go on from there",
                file.display()
            ))),
        };
        // A transaction that was under way is ended, rather than left for MongoDB to find.
        let _ = tokio::time::timeout(GOODBYE, client.shutdown()).await;
        let (outcomes, failure) = outcomes?;
        Ok(report(work, &arguments, &outcomes, failure))
    })
}

/// Waits until one of the files changes. What is sealed under a version that was replaced
/// meanwhile would be lost if that is destroyed.
async fn changed(file: &Path, config: &Config, seen: &Fingerprint) {
    while Fingerprint::of(file, config) == *seen {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Does one collection after the other. One that fails does not keep the others.
async fn all(
    client: &Client,
    policy: &Policy,
    work: Work,
    arguments: &Arguments,
) -> Result<(Vec<Outcome>, Option<Failure>), Failure> {
    let options = Options {
        fields: arguments.fields.clone(),
        dry_run: arguments.dry_run,
        rate: arguments.rate,
    };
    let mut display = Display::new(work.done());
    let mut outcomes = Vec::new();
    let mut failure: Option<Failure> = None;
    for listed in sealed_namespaces(client, policy, &arguments.namespaces).await? {
        if let Some(outcome) = passed_over(&listed, arguments) {
            outcomes.push(outcome);
            continue;
        }
        let mut watch = |progress: crate::migrate::Progress<'_>| display.show(&progress);
        let done = crate::migrate::run(client, policy, work, &listed, &options, &mut watch).await;
        display.clear();
        match done {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                let one = Failure::from(error);
                failure = Some(match failure {
                    Some(failure) => failure.and(one),
                    None => one,
                });
            }
        }
    }
    Ok((outcomes, failure))
}

/// Where nobody asked for this very namespace, a view is no mistake.
fn passed_over(listed: &Listed, arguments: &Arguments) -> Option<Outcome> {
    if listed.standing != Standing::View || !arguments.namespaces.is_empty() {
        return None;
    }
    Some(Outcome {
        namespace: listed.namespace.clone(),
        verified: true,
        notes: vec!["is a view; what is sealed is in the collection under it".to_owned()],
        ..Outcome::default()
    })
}

fn report(
    work: Work,
    arguments: &Arguments,
    outcomes: &[Outcome],
    failure: Option<Failure>,
) -> (Report, Option<Failure>) {
    let text = if arguments.json {
        format!("{:#}\n", describe(work, arguments, outcomes))
    } else {
        outcomes
            .iter()
            .map(|outcome| show(work, arguments.dry_run, outcome))
            .collect()
    };
    let left_over = outcomes.iter().flat_map(|outcome| left(work, outcome));
    let left_over = left_over.filter(|_| !arguments.dry_run);
    let left_over = Failure::of_all(Code::LeftOver, left_over);
    let failure = failure.into_iter().chain(left_over).reduce(Failure::and);
    let report = Report {
        text,
        warnings: Vec::new(),
    };
    (report, failure)
}

fn show(work: Work, dry_run: bool, outcome: &Outcome) -> String {
    let namespace = &outcome.namespace;
    let last = &outcome.last;
    let mut text = format!("{namespace}: ");
    if outcome.passes == 0 {
        text.push_str(&outcome.notes.join("; "));
        text.push('\n');
        return text;
    }
    let documents = count(last.documents, "document");
    let changed = grouped(outcome.changed);
    let done = work.done();
    if dry_run {
        text.push_str(&format!("{documents}; {changed} would be {done}\n"));
    } else {
        let passes = match outcome.passes {
            1 => "1 pass".to_owned(),
            passes => format!("{passes} passes"),
        };
        let verdict = match (outcome.is_done(), outcome.resumed) {
            (true, false) => "; nothing is left",
            (true, true) => " (going on from where it was stopped); nothing is left",
            (false, _) => "",
        };
        text.push_str(&format!(
            "{documents}; {changed} {done} in {passes}, {:.1} s{verdict}\n",
            outcome.seconds
        ));
    }
    for (field, of) in &last.fields {
        text.push_str(&format!(
            "  {field}: {}, {} {}{done}\n",
            count(of.seen, "value"),
            grouped(of.changed),
            if dry_run { "would be " } else { "" },
        ));
    }
    for note in &outcome.notes {
        text.push_str(&format!("  {note}\n"));
    }
    if dry_run {
        for line in left(work, outcome) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}

/// What is left to do, and why.
fn left(work: Work, outcome: &Outcome) -> Vec<String> {
    let namespace = &outcome.namespace;
    let mut lines: Vec<String> = outcome
        .last
        .left
        .iter()
        .map(|(reason, number)| match &reason.field {
            Some(field) => format!(
                "{namespace}: {} of `{field}` left: each {}",
                count(*number, "value"),
                reason.why
            ),
            None => format!(
                "{namespace}: {} left: each {}",
                count(*number, "document"),
                reason.why
            ),
        })
        .collect();
    if !outcome.last.duplicates.is_empty() {
        lines.push(format!(
            "{namespace}: documents whose value another one has, by _id: {}",
            outcome.last.duplicates.join(", ")
        ));
    }
    if !outcome.verified {
        lines.push(format!(
            "{namespace}: every one of {} passes found something to do: others write what is not yet {}; see that every proxy has taken up the schema and the key file, and run this again",
            outcome.passes,
            work.done()
        ));
    }
    lines
}

fn describe(work: Work, arguments: &Arguments, outcomes: &[Outcome]) -> serde_json::Value {
    let collections: Vec<_> = outcomes.iter().map(describe_one).collect();
    json!({"job": work.name(), "dry_run": arguments.dry_run, "collections": collections})
}

fn describe_one(outcome: &Outcome) -> serde_json::Value {
    let last = &outcome.last;
    let fields: Vec<_> = last
        .fields
        .iter()
        .map(|(field, of)| json!({"field": field, "values": of.seen, "changed": of.changed}))
        .collect();
    let left: Vec<_> = last
        .left
        .iter()
        .map(|(reason, number)| json!({"field": reason.field, "why": reason.why, "count": number}))
        .collect();
    json!({
        "namespace": outcome.namespace,
        "documents": last.documents,
        "changed": outcome.changed,
        "passes": outcome.passes,
        "verified": outcome.verified,
        "resumed": outcome.resumed,
        "seconds": outcome.seconds,
        "fields": fields,
        "left": left,
        "duplicates": last.duplicates,
        "notes": outcome.notes,
    })
}
