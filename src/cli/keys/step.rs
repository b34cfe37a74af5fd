//! `fieldseal keys promote`, `disable` and `enable`: steps that can be taken back, or do not lose anything.

use std::sync::Arc;

use clap::Args;

use super::super::database::{DatabaseArgs, run_to_end};
use super::super::progress::Display;
use super::{ConfigFile, Failure, Report, Target, confirm, edit, load, report, taken_up};
use crate::code::Code;
use crate::config::Config;
use crate::keyring::{Part, Step, Which};
use crate::migrate::database::{Listed, Standing, sealed_namespaces};
use crate::migrate::{self, Options, Work};
use crate::policy::{Field, Policy};

#[derive(Debug, Args)]
pub(in crate::cli) struct Promote {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    #[command(flatten)]
    pub(super) target: Target,
    #[command(flatten)]
    pub(super) database: DatabaseArgs,
    /// Promote an index epoch without being asked, and without looking first for documents
    /// that lack its tokens.
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
        let config = Config::load(&arguments.file.path)?;
        let keyring = load::open_keyring(&config)?;
        let meant = keyring.meant(Step::Promote, &which)?;
        let number = meant.number;
        which.number = Some(number);
        let mut lines = vec![format!(
            "queries use index epoch {number} of the key {:?} from now on, and do not find \
             documents that lack its tokens; `fieldseal migrate reindex` fills them in, and says when none is left",
            which.key
        )];
        // Looking reads every document: only for someone who will go by it.
        if !arguments.yes {
            lines.push(filled(&config, &arguments.database, &which.key)?);
        }
        confirm::ask(&which.key, arguments.yes, &lines)?;
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

/// Refuses to promote while documents lack tokens. A database that cannot be asked is told of:
/// then it is for the user to know.
fn filled(config: &Config, database: &DatabaseArgs, key: &str) -> Result<String, Failure> {
    match lacking(config, database, key) {
        Ok(0) => Ok("every document has its tokens now".to_owned()),
        Ok(documents) => Err(Failure::coded(
            Code::TokensLacking,
            format_args!(
                "{documents} documents lack tokens of the index epoch, and would not be found; run `fieldseal migrate reindex --key {key}` first"
            ),
        )),
        Err(failure) => Ok(format!(
            "{}; so it is not known whether documents lack its tokens",
            failure.lines().join("; ")
        )),
    }
}

/// How many documents lack tokens that are written now.
fn lacking(config: &Config, database: &DatabaseArgs, key: &str) -> Result<u64, Failure> {
    let policy = load::load(config)?.policy;
    let mut display = Display::new(Work::Fill.done());
    run_to_end(async {
        let client = database.connect(config).await?;
        let mut documents = 0;
        for listed in sealed_namespaces(&client, &policy, &[]).await? {
            let fields = fields_under(key, &policy, &listed);
            if listed.standing != Standing::Collection || fields.is_empty() {
                continue;
            }
            let options = Options {
                dry_run: true,
                fields,
                ..Options::default()
            };
            let mut watch = |progress: migrate::Progress<'_>| display.show(&progress);
            let looked =
                migrate::run(&client, &policy, Work::Fill, &listed, &options, &mut watch).await?;
            documents += looked.changed;
        }
        display.clear();
        client.shutdown().immediate(true).await;
        Ok(documents)
    })
}

/// The fields of a collection whose tokens are under the key.
fn fields_under(key: &str, policy: &Policy, listed: &Listed) -> Vec<String> {
    let Some(collection) = policy.collection(&listed.namespace) else {
        return Vec::new();
    };
    let under = |field: &&Arc<Field>| {
        let equality = field.equality.as_ref();
        equality.is_some_and(|equality| *equality.key_name == *key)
    };
    let fields = collection.fields().iter().filter(under);
    fields.map(|field| field.path.clone()).collect()
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
