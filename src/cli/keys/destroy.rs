//! `fieldseal keys destroy`: what a version sealed is lost for ever.

use clap::Args;

use super::super::database::{DatabaseArgs, run_to_end};
use super::super::table::printable;
use super::super::ticker::Ticker;
use super::{ConfigFile, Failure, Report, Target, confirm, edit, load, report, taken_up};
use crate::config::Config;
use crate::keyring::{KeyId, KeyVersion, Part, Step, Which};
use crate::migrate::scan::{Held, held_under};

#[derive(Debug, Args)]
pub(in crate::cli) struct Destroy {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    #[command(flatten)]
    pub(super) target: Target,
    #[command(flatten)]
    pub(super) database: DatabaseArgs,
    /// Destroy it without being asked, and without counting first what would be lost.
    #[arg(long)]
    pub(super) yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(arguments: &Destroy) -> Result<Report, Failure> {
    let mut which = arguments.target.which();
    let config = Config::load(&arguments.file.path)?;
    let keyring = load::open_keyring(&config)?;
    // The file is not locked while someone thinks: what is destroyed is what was asked about.
    let doomed = keyring.meant(Step::Destroy, &which)?;
    which.number = Some(doomed.number);
    let mut lost = at_stake(&which, doomed);
    if let Some(audit) = &config.audit
        && audit.key == which.key
        && which.part == Part::Version
    {
        lost.push(format!(
            "audit logs whose start lines name key id {} can never be verified again",
            doomed.id.0
        ));
    }
    // Counting reads every document: only for someone who will read of it.
    if !arguments.yes && which.part == Part::Version {
        lost.extend(counted(&config, &arguments.database, doomed.id));
    }
    confirm::ask(&which.key, arguments.yes, &lost)?;
    let (config, mut file) = edit(&arguments.file)?;
    let number = file.change(|keyring| keyring.step(Step::Destroy, &which))?;
    let keyring = file.save()?;
    let said = format!(
        "{}: {} {number} is destroyed here; copies of older key files still have it, \
         and open with the unseal secret of their time\n{}",
        which.key,
        which.part,
        taken_up(&keyring)
    );
    Ok(report(&config, &keyring, arguments.json, &said))
}

/// What would be lost: one line for each thing.
fn at_stake(which: &Which, doomed: &KeyVersion) -> Vec<String> {
    let (key, number, id) = (&which.key, doomed.number, doomed.id.0);
    match which.part {
        Part::Version => vec![
            format!(
                "version {number} of the key {key:?} (key id {id}, {}) would be destroyed: \
                 what is sealed under it, in the database and in backups, can never be read again",
                doomed.state.word()
            ),
            "`fieldseal status` counts the values under each version; `fieldseal migrate rotate` \
             seals them under the active one"
                .to_owned(),
        ],
        Part::Epoch => vec![format!(
            "index epoch {number} of the key {key:?} would be destroyed: tokens under it can never be \
             made again; sealed values are not touched"
        )],
    }
}

/// Where values are sealed under the version. A database that cannot be asked must not keep a
/// key from being destroyed, so that is told as well.
fn counted(config: &Config, database: &DatabaseArgs, version: KeyId) -> Vec<String> {
    match count(config, database, version) {
        Ok(held) if held.is_empty() => {
            vec![
                "no document of the collections that the schema names has a value under it"
                    .to_owned(),
            ]
        }
        Ok(held) => held
            .iter()
            .map(|held| {
                let Held {
                    namespace,
                    path,
                    values,
                } = held;
                printable(&format!(
                    "{namespace} `{path}`: {values} values would be lost"
                ))
            })
            .collect(),
        Err(failure) => {
            let mut lines = failure.lines().to_vec();
            lines.push("so it is not known how many values would be lost".to_owned());
            lines
        }
    }
}

fn count(config: &Config, database: &DatabaseArgs, version: KeyId) -> Result<Vec<Held>, Failure> {
    let loaded = load::load(config)?;
    let mut ticker = Ticker::new();
    run_to_end(async {
        let client = database.connect(config).await?;
        let held = held_under(&client, &loaded.policy, version, |read| {
            ticker.tick(|_| format!("{read} documents read"));
        })
        .await;
        client.shutdown().immediate(true).await;
        Ok(held?)
    })
}
