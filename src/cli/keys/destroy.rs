//! `fieldseal keys destroy`: what a version sealed is lost for ever.

use clap::Args;

use super::{ConfigFile, Failure, Report, Target, confirm, edit, load, report, taken_up};
use crate::config::Config;
use crate::keyring::{KeyVersion, Part, Step, Which};

#[derive(Debug, Args)]
pub(in crate::cli) struct Destroy {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    #[command(flatten)]
    pub(super) target: Target,
    /// Destroy it without being asked.
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
    let doomed = keyring.meant(Step::Destroy, &which).map_err(Failure::new)?;
    which.number = Some(doomed.number);
    confirm::ask(
        &which.key,
        arguments.yes,
        &at_stake(&config, &which, doomed)?,
    )?;
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

/// What would be lost: one line for each thing. The one place for what a census of the
/// database can add; an error of it is one of the command, before anything is destroyed.
fn at_stake(_config: &Config, which: &Which, doomed: &KeyVersion) -> Result<Vec<String>, Failure> {
    let (key, number, id) = (&which.key, doomed.number, doomed.id.0);
    Ok(match which.part {
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
    })
}
