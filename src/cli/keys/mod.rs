//! `fieldseal keys`: the life of keys.

mod confirm;
mod destroy;
mod init;
mod list;
mod reseal;
mod stage;
mod step;

use std::path::Path;

use clap::{Args, Subcommand};

use super::audit::recorded;
use super::{ConfigFile, Failure, Report, load};
use crate::config::Config;
use crate::keyring::{KeyFile, Keyring, Part, Suite, Which};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the key file, with a key for each name in the schema.
    Init(init::Init),
    /// Show the keys, their versions and index epochs.
    List(list::List),
    /// Give a key a new version that opens and does not seal yet, or an index epoch that is written and not used yet.
    Stage(stage::Stage),
    /// Let the staged version seal from now on, or queries use the staged index epoch.
    Promote(step::Promote),
    /// Give a key a new version, which seals from now on; the old ones still open.
    Rotate(stage::Rotate),
    /// Refuse a version, for now: what it sealed cannot be read; or write an index epoch no more.
    Disable(step::Change),
    /// Take a disabled version, or index epoch, into use again.
    Enable(step::Change),
    /// Wipe a version or index epoch for ever: what it sealed is lost.
    Destroy(destroy::Destroy),
    /// Let another secret unseal the key file; the keys in it stay.
    Reseal(reseal::Reseal),
}

pub(super) fn run(command: Command) -> Result<Report, Failure> {
    let Some((file, action, arguments)) = command.described() else {
        return carry_out(command);
    };
    let (file, action) = (file.to_owned(), format!("keys {action}"));
    recorded(&file, &action, &arguments, || carry_out(command))
}

impl Command {
    /// The configuration, and what is written down of what it does; none if that is nothing.
    fn described(&self) -> Option<(&Path, &'static str, Vec<String>)> {
        let target = |target: &Target| {
            let (what, number) = match target.epoch {
                Some(number) => ("epoch", number),
                None => ("version", target.version),
            };
            let mut words = vec![target.name.clone(), what.to_owned()];
            words.extend(number.map(|number| number.to_string()));
            words
        };
        Some(match self {
            Self::List(_) => return None,
            Self::Init(init) => (&init.file.path, "init", init.keys.clone()),
            Self::Stage(stage) => {
                let part = if stage.epoch { "epoch" } else { "version" };
                let words = vec![stage.name.clone(), part.to_owned()];
                (&stage.file.path, "stage", words)
            }
            Self::Promote(promote) => (&promote.file.path, "promote", target(&promote.target)),
            Self::Rotate(rotate) => {
                let all = || vec!["--all".to_owned()];
                let words = rotate.name.clone().map_or_else(all, |name| vec![name]);
                (&rotate.file.path, "rotate", words)
            }
            Self::Disable(change) => (&change.file.path, "disable", target(&change.target)),
            Self::Enable(change) => (&change.file.path, "enable", target(&change.target)),
            Self::Destroy(destroy) => (&destroy.file.path, "destroy", target(&destroy.target)),
            // Where the new secret is may itself be told to few.
            Self::Reseal(reseal) => (&reseal.file.path, "reseal", Vec::new()),
        })
    }
}

fn carry_out(command: Command) -> Result<Report, Failure> {
    match command {
        Command::Init(arguments) => init::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Stage(arguments) => stage::stage(&arguments),
        Command::Promote(arguments) => step::promote(&arguments),
        Command::Rotate(arguments) => stage::rotate(&arguments),
        Command::Disable(arguments) => step::disable(&arguments),
        Command::Enable(arguments) => step::enable(&arguments),
        Command::Destroy(arguments) => destroy::run(&arguments),
        Command::Reseal(arguments) => reseal::run(&arguments),
    }
}

/// One version or index epoch of one key.
#[derive(Debug, Args)]
struct Target {
    /// The key.
    name: String,
    /// The number of the version; needed only where several can be meant.
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// The index epoch, not the version; its number is needed only where several can be meant.
    #[arg(long, value_name = "N", num_args = 0..=1, conflicts_with = "version")]
    epoch: Option<Option<u32>>,
}

impl Target {
    fn which(&self) -> Which {
        let (part, number) = match self.epoch {
            Some(number) => (Part::Epoch, number),
            None => (Part::Version, self.version),
        };
        Which {
            key: self.name.clone(),
            part,
            number,
        }
    }
}

fn suite(word: &str) -> Result<Suite, String> {
    Suite::named(word).ok_or_else(|| format!("suites are {}", Suite::WORDS.join(" and ")))
}

/// Opens the key file for a change.
fn edit(file: &ConfigFile) -> Result<(Config, KeyFile), Failure> {
    let config = Config::load(&file.path)?;
    let secret = config.keyring.unseal.read()?;
    let file = KeyFile::edit(&config.keyring.file, &secret)?;
    Ok((config, file))
}

/// What the command leaves: the keys, as text or JSON.
fn report(config: &Config, keyring: &Keyring, as_json: bool, said: &str) -> Report {
    Report {
        text: if as_json {
            format!("{:#}\n", list::describe(config, keyring))
        } else {
            said.to_owned()
        },
        warnings: load::warnings(config),
    }
}

/// The last line of what a change of the key file says.
fn taken_up(keyring: &Keyring) -> String {
    format!(
        "generation {}; a running proxy takes it up by itself\n",
        keyring.generation
    )
}

#[cfg(test)]
pub(super) mod tests;
