//! `fieldseal keys stage` and `rotate`: new versions and index epochs.

use clap::Args;

use super::{ConfigFile, Failure, Report, edit, report, taken_up};
use crate::keyring::{KeyringError, Part, StepError, Suite};
use crate::schema::Schema;

#[derive(Debug, Args)]
pub(in crate::cli) struct Stage {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// The key.
    pub(super) name: String,
    /// A new index epoch, not a version.
    #[arg(long)]
    pub(super) epoch: bool,
    /// What the version seals with where a field does not say; default: as the active one.
    #[arg(long, value_name = "SUITE", value_parser = super::suite, conflicts_with = "epoch")]
    pub(super) suite: Option<Suite>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Rotate {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// The key; made if the schema names it and the key file has none.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(super) name: Option<String>,
    /// Rotate every key of the key file.
    #[arg(long)]
    pub(super) all: bool,
    /// Index epochs are not replaced in one step: says how they are.
    #[arg(long)]
    pub(super) epoch: bool,
    /// What the version seals with where a field does not say; default: as the active one.
    #[arg(long, value_name = "SUITE", value_parser = super::suite)]
    pub(super) suite: Option<Suite>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn stage(arguments: &Stage) -> Result<Report, Failure> {
    let (config, mut file) = edit(&arguments.file)?;
    let part = if arguments.epoch {
        Part::Epoch
    } else {
        Part::Version
    };
    let name = &arguments.name;
    let number = file.change(|keyring| keyring.stage(name, part, arguments.suite))?;
    let keyring = file.save()?;
    let next = match part {
        Part::Version => format!(
            "when every proxy has this key file: `fieldseal keys promote {name}`, and it seals"
        ),
        Part::Epoch => {
            format!("when every proxy has this key file: `fieldseal migrate reindex --key {name}`")
        }
    };
    let said = format!(
        "{name}: {part} {number} is staged; {next}\n{}",
        taken_up(&keyring)
    );
    Ok(report(&config, &keyring, arguments.json, &said))
}

pub(super) fn rotate(arguments: &Rotate) -> Result<Report, Failure> {
    let (config, mut file) = edit(&arguments.file)?;
    let names: Vec<String> = match &arguments.name {
        Some(name) => vec![name.clone()],
        None => file
            .keyring()
            .keys
            .iter()
            .map(|key| key.name.clone())
            .collect(),
    };
    if arguments.epoch {
        let name = arguments.name.as_deref().unwrap_or("NAME").to_owned();
        return Err(KeyringError {
            path: file.path().to_owned(),
            fault: StepError::EpochsDoNotRotate(name).into(),
        }
        .into());
    }
    for name in &names {
        let known = file.keyring().key(name).is_some();
        let named = || -> Result<bool, Failure> {
            let of_audit = config
                .audit
                .as_ref()
                .is_some_and(|audit| audit.key == *name);
            let schema = || Schema::load(&config.schema);
            Ok(of_audit || schema()?.key_names().contains(name.as_str()))
        };
        if !known && named()? {
            file.add(name, arguments.suite)?;
        } else {
            file.change(|keyring| keyring.rotate(name, arguments.suite))?;
        }
    }
    let keyring = file.save()?;
    let mut said = String::new();
    for key in names.iter().filter_map(|name| keyring.key(name)) {
        if let Some(version) = key.active() {
            said.push_str(&format!(
                "{}: version {} seals from now on\n",
                key.name, version.number
            ));
        }
    }
    said.push_str(&taken_up(&keyring));
    Ok(report(&config, &keyring, arguments.json, &said))
}
