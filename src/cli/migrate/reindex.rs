//! `fieldseal migrate reindex`: each run does what the key file's state asks for, and says
//! what is to be done next; with `--settle`, it does that by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use mongodb::Client;
use serde_json::json;

use super::super::database::{DatabaseArgs, run_to_end};
use super::super::load::{self, Loaded};
use super::super::progress::Display;
use super::super::serve::Stop;
use super::super::{ConfigFile, Failure, Report};
use super::{GOODBYE, describe_one, left, show};
use crate::code::Code;
use crate::config::Config;
use crate::keyring::{KeyFile, Keyring, Part, Step, Which};
use crate::migrate::database::{Listed, Standing, sealed_namespaces};
use crate::migrate::reindex::{Next, keys_of, reindex};
use crate::migrate::{Options, Outcome, Work};
use crate::policy::Policy;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The collections; without any, all that the schema names.
    #[arg(value_name = "NAMESPACE", conflicts_with = "settle")]
    namespaces: Vec<String>,
    /// Only the fields under this key.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Stage, promote and disable the epochs too, and wait so long after each change of the
    /// key file, in which every proxy must have taken it up.
    #[arg(long, value_name = "SECONDS", conflicts_with = "dry_run")]
    settle: Option<u32>,
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

/// How often all collections are gone through until nothing is left to do in any.
const MOST_ROUNDS: usize = 6;

impl Arguments {
    pub(super) fn described(&self) -> super::Described<'_> {
        let words = self.namespaces.iter().chain(&self.key).cloned().collect();
        (&self.file.path, self.dry_run, "reindex", words)
    }
}

/// What one run over the collections did, or several.
#[derive(Default)]
struct Done {
    outcomes: Vec<(Work, Outcome)>,
    failure: Option<Failure>,
    /// What comes next, by key; none unless all is done.
    next: Vec<(String, Next)>,
    /// Whether some collections of the keys were left out.
    partly: bool,
}

impl Done {
    fn is_done(&self) -> bool {
        self.failure.is_none() && self.outcomes.iter().all(|(_, outcome)| outcome.is_done())
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(Report, Option<Failure>), Failure> {
    let config = Config::load(&arguments.file.path)?;
    run_to_end(async {
        let mut stop = Stop::new()?;
        let client = arguments.database.connect(&config).await?;
        let done = tokio::select! {
            done = to_the_end(&client, &config, arguments) => done,
            () = stop.asked() => Err(Failure::coded(Code::Stopped,
                "stopped; run the same command again to go on from there",
            )),
        };
        // A transaction that was under way is ended, rather than left for MongoDB to find.
        let _ = tokio::time::timeout(GOODBYE, client.shutdown()).await;
        Ok(report(arguments, done?))
    })
}

/// Does what can be done: once, or with `--settle` until nothing comes next but to destroy.
async fn to_the_end(
    client: &Client,
    config: &Config,
    arguments: &Arguments,
) -> Result<Done, Failure> {
    let mut display = Display::new(Work::Fill.done());
    let mut all = Done::default();
    let mut begun = BTreeSet::new();
    loop {
        let loaded = load::load(config)?;
        let done = once(client, &loaded, arguments, &mut display).await?;
        let is_done = done.is_done();
        all.outcomes.extend(done.outcomes);
        (all.failure, all.next, all.partly) = (done.failure, done.next, done.partly);
        let Some(seconds) = arguments.settle.filter(|_| is_done) else {
            return Ok(all);
        };
        let mut steps = all.next.clone();
        steps.retain(|(key, next)| match next {
            Next::Stage => !begun.contains(key),
            Next::Promote(_) | Next::Disable(_) => true,
            Next::Destroy(_) => false,
        });
        if steps.is_empty() {
            return Ok(all);
        }
        for told in take(config, &steps)? {
            display.say(&format!(
                "{told}; {seconds} s for every proxy to take it up"
            ));
        }
        begun.extend(steps.into_iter().map(|(key, _)| key));
        tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    }
}

/// Takes these steps in the key file; says what was done.
fn take(config: &Config, steps: &[(String, Next)]) -> Result<Vec<String>, Failure> {
    let secret = config.keyring.unseal.read()?;
    let mut file = KeyFile::edit(&config.keyring.file, &secret)?;
    let mut told = Vec::new();
    for (key, next) in steps {
        let (step, number, is) = match next {
            Next::Stage => {
                let number = file.change(|keyring| keyring.stage(key, Part::Epoch, None))?;
                told.push(format!("index epoch {number} of the key {key:?} is staged"));
                continue;
            }
            Next::Promote(number) => (Step::Promote, *number, "promoted"),
            Next::Disable(number) => (Step::Disable, *number, "disabled"),
            Next::Destroy(_) => continue,
        };
        let which = Which {
            key: key.clone(),
            part: Part::Epoch,
            number: Some(number),
        };
        file.change(|keyring| keyring.step(step, &which))?;
        told.push(format!("index epoch {number} of the key {key:?} is {is}"));
    }
    file.save()?;
    Ok(told)
}

/// One run over the collections. One that fails does not keep the others.
async fn once(
    client: &Client,
    loaded: &Loaded,
    arguments: &Arguments,
    display: &mut Display,
) -> Result<Done, Failure> {
    let policy = &loaded.policy;
    let keys = keys(policy, arguments)?;
    let options = Options {
        dry_run: arguments.dry_run,
        rate: arguments.rate,
        ..Options::default()
    };
    let mut done = Done {
        partly: is_partly(client, policy, arguments, &keys).await?,
        ..Done::default()
    };
    for round in 1.. {
        let before = done.outcomes.len();
        for listed in sealed_namespaces(client, policy, &arguments.namespaces).await? {
            if listed.standing == Standing::View && arguments.namespaces.is_empty() {
                continue;
            }
            let mut watch = |progress: crate::migrate::Progress<'_>| display.show(&progress);
            let one = reindex(client, policy, &listed, &keys, &options, &mut watch).await;
            display.clear();
            match one {
                // Of a later round only what it found to do is worth a line.
                Ok(outcomes) => {
                    done.outcomes
                        .extend(outcomes.into_iter().filter(|(_, outcome)| {
                            round == 1 || outcome.changed > 0 || !outcome.is_done()
                        }))
                }
                Err(error) => {
                    let failure = Failure::from(error);
                    done.failure = Some(match done.failure.take() {
                        Some(before) => before.and(failure),
                        None => failure,
                    });
                }
            }
        }
        // Documents may have come meanwhile from a collection that was not done yet into one
        // that was, by `$merge` or `$out`.
        let this = done.outcomes.get(before..).unwrap_or_default();
        let changed = this.iter().any(|(_, outcome)| outcome.changed > 0);
        if arguments.dry_run || !changed || !done.is_done() {
            break;
        }
        if round == MOST_ROUNDS {
            done.failure = Some(Failure::coded(
                Code::TokensLacking,
                "documents without the tokens keep coming: see that every proxy has taken up the key file, and run this again",
            ));
            break;
        }
    }
    if done.is_done() && !arguments.dry_run {
        done.next = next(&loaded.keyring, &keys);
    }
    Ok(done)
}

fn next(keyring: &Keyring, keys: &[String]) -> Vec<(String, Next)> {
    let keys = keys.iter().filter_map(|name| keyring.key(name));
    keys.map(|key| (key.name.clone(), Next::of(key))).collect()
}

/// The keys that it is about.
fn keys(policy: &Policy, arguments: &Arguments) -> Result<Vec<String>, Failure> {
    let all = policy
        .sealed_in(None)
        .flat_map(|collection| keys_of(collection));
    let all: BTreeSet<String> = all.collect();
    let Some(key) = &arguments.key else {
        return Ok(all.into_iter().collect());
    };
    if all.contains(key) {
        return Ok(vec![key.clone()]);
    }
    let all: Vec<_> = all.into_iter().collect();
    Err(Failure::coded(
        Code::Argument,
        format_args!(
            "no field with `queries` is under the key {key:?}; such fields are under: {}",
            all.join(", ")
        ),
    ))
}

/// Whether a collection that was not named has fields under the same keys.
async fn is_partly(
    client: &Client,
    policy: &Policy,
    arguments: &Arguments,
    keys: &[String],
) -> Result<bool, Failure> {
    if arguments.namespaces.is_empty() {
        return Ok(false);
    }
    let shares = |listed: &Listed| {
        let collection = policy.collection(&listed.namespace);
        let own = collection.map_or_else(Vec::new, |collection| keys_of(&collection));
        listed.standing == Standing::Collection && own.iter().any(|key| keys.contains(key))
    };
    let all = sealed_namespaces(client, policy, &[]).await?;
    let mut others = all
        .iter()
        .filter(|listed| !arguments.namespaces.contains(&listed.namespace));
    Ok(others.any(shares))
}

fn report(arguments: &Arguments, done: Done) -> (Report, Option<Failure>) {
    let steps = done.next.iter();
    let steps = steps.map(|(key, next)| (key.as_str(), *next));
    let text = if arguments.json {
        format!("{:#}\n", describe(arguments, &done))
    } else {
        let outcomes = done.outcomes.iter();
        let outcomes = outcomes.map(|(work, outcome)| show(*work, arguments.dry_run, outcome));
        let steps = steps.map(|(key, next)| advice(key, next, done.partly));
        outcomes.chain(steps).collect()
    };
    let left_over = done.outcomes.iter();
    let left_over = left_over.flat_map(|(work, outcome)| left(*work, outcome));
    let left_over = left_over.filter(|_| !arguments.dry_run);
    let left_over = Failure::of_all(Code::LeftOver, left_over);
    let failure = done.failure.into_iter().chain(left_over);
    let failure = failure.reduce(Failure::and);
    let report = Report {
        text,
        warnings: Vec::new(),
    };
    (report, failure)
}

/// The command that comes next, if the key's collections are all done.
fn command(key: &str, next: Next) -> String {
    match next {
        Next::Stage => format!("fieldseal keys stage {key} --epoch"),
        Next::Promote(number) => format!("fieldseal keys promote {key} --epoch {number}"),
        Next::Disable(number) => format!("fieldseal keys disable {key} --epoch {number}"),
        Next::Destroy(number) => format!("fieldseal keys destroy {key} --epoch {number}"),
    }
}

fn advice(key: &str, next: Next, partly: bool) -> String {
    if partly {
        return format!(
            "{key}: other collections have tokens under this key too; `fieldseal migrate reindex --key {key}` does them all\n"
        );
    }
    let command = command(key, next);
    let again = "let every proxy take it up, and run this again";
    match next {
        Next::Stage => format!(
            "{key}: every value has its tokens; to move them to a new index epoch: `{command}`, {again}\n"
        ),
        Next::Promote(number) => format!(
            "{key}: index epoch {number} is complete, with its indexes; next: `{command}`, {again}\n"
        ),
        Next::Disable(number) => format!(
            "{key}: nothing needs index epoch {number} any more; next: `{command}`, {again}\n"
        ),
        Next::Destroy(number) => format!(
            "{key}: no token of index epoch {number} is left; next, for good: `{command}`\n"
        ),
    }
}

fn describe(arguments: &Arguments, done: &Done) -> serde_json::Value {
    let outcomes = done.outcomes.iter().map(|(work, outcome)| {
        let mut described = describe_one(outcome);
        described["work"] = json!(work.name());
        described
    });
    let next = done.next.iter().filter(|_| !done.partly);
    let next = next.map(|(key, next)| json!({"key": key, "command": command(key, *next)}));
    json!({
        "job": "reindex",
        "dry_run": arguments.dry_run,
        "collections": outcomes.collect::<Vec<_>>(),
        "next": next.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_key_goes_from_step_to_step_until_its_old_epoch_can_be_destroyed() {
        let mut keyring = Keyring::generate(["default"]).unwrap();
        let keys = ["default".to_owned()];
        let mut seen = Vec::new();
        for _ in 0..4 {
            let (_, next) = next(&keyring, &keys)[0].clone();
            seen.push(command("default", next));
            let step = match next {
                Next::Stage => {
                    keyring.stage("default", Part::Epoch, None).unwrap();
                    continue;
                }
                Next::Promote(number) => (Step::Promote, number),
                Next::Disable(number) => (Step::Disable, number),
                Next::Destroy(number) => (Step::Destroy, number),
            };
            let which = Which {
                key: "default".to_owned(),
                part: Part::Epoch,
                number: Some(step.1),
            };
            keyring.step(step.0, &which).unwrap();
        }
        assert_eq!(
            seen,
            [
                "fieldseal keys stage default --epoch",
                "fieldseal keys promote default --epoch 2",
                "fieldseal keys disable default --epoch 1",
                "fieldseal keys destroy default --epoch 1",
            ]
        );
        assert_eq!(next(&keyring, &keys)[0].1, Next::Stage);
    }
}
