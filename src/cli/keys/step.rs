//! `fieldseal keys promote`, `disable` and `enable`: steps that can be taken back, or do not lose anything.

use clap::Args;

use super::{ConfigFile, Failure, Report, Target, confirm, edit, load, report, taken_up};
use crate::config::Config;
use crate::keyring::{Part, Step, Which};

#[derive(Debug, Args)]
pub(in crate::cli) struct Promote {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    #[command(flatten)]
    pub(super) target: Target,
    /// Promote an index epoch without being asked.
    #[arg(long)]
    pub(super) yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Change {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    #[command(flatten)]
    pub(super) target: Target,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn promote(arguments: &Promote) -> Result<Report, Failure> {
    let mut which = arguments.target.which();
    if which.part == Part::Epoch {
        let keyring = load::open_keyring(&Config::load(&arguments.file.path)?)?;
        let meant = keyring.meant(Step::Promote, &which).map_err(Failure::new)?;
        let number = meant.number;
        which.number = Some(number);
        confirm::ask(
            &which.key,
            arguments.yes,
            &[format!(
                "queries use index epoch {number} of the key {:?} from now on, and do not find \
                 documents that lack its tokens; `fieldseal migrate reindex` fills them in, and says when none is left",
                which.key
            )],
        )?;
    }
    let after = match which.part {
        Part::Version => "seals from now on; the one before still opens",
        Part::Epoch => {
            "is used by queries from now on, and the one before still written; \
             when every proxy has this key file, run `fieldseal migrate reindex` again"
        }
    };
    take(
        Step::Promote,
        &arguments.file,
        &which,
        arguments.json,
        after,
    )
}

pub(super) fn disable(arguments: &Change) -> Result<Report, Failure> {
    let which = arguments.target.which();
    let after = match which.part {
        Part::Version => "is disabled: what it sealed cannot be read until `fieldseal keys enable`",
        Part::Epoch => {
            "is disabled and not written any more; \
             when every proxy has this key file, run `fieldseal migrate reindex` again"
        }
    };
    take(
        Step::Disable,
        &arguments.file,
        &which,
        arguments.json,
        after,
    )
}

pub(super) fn enable(arguments: &Change) -> Result<Report, Failure> {
    let which = arguments.target.which();
    let after = match which.part {
        Part::Version => "is retired: what it sealed can be read again",
        Part::Epoch => {
            "is staged: it is written again, and used once `fieldseal migrate reindex` has filled it in \
             and it is promoted"
        }
    };
    take(Step::Enable, &arguments.file, &which, arguments.json, after)
}

fn take(
    step: Step,
    file: &ConfigFile,
    which: &Which,
    json: bool,
    after: &str,
) -> Result<Report, Failure> {
    let (config, mut file) = edit(file)?;
    let number = file.change(|keyring| keyring.step(step, which))?;
    let keyring = file.save()?;
    let said = format!(
        "{}: {} {number} {after}\n{}",
        which.key,
        which.part,
        taken_up(&keyring)
    );
    Ok(report(&config, &keyring, json, &said))
}
