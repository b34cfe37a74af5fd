//! `fieldseal keys init`.

use std::collections::BTreeSet;

use clap::Args;

use super::{ConfigFile, Failure, Report, report};
use crate::config::Config;
use crate::keyring::{KeyFile, Suite};
use crate::schema::{DEFAULT_KEY, Schema};

#[derive(Debug, Args)]
pub(in crate::cli) struct Init {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// Make this key too; may be given several times.
    #[arg(long = "key", value_name = "NAME")]
    pub(super) keys: Vec<String>,
    /// What the keys seal with where a field does not say: aes-256-gcm (the default) or xaes-256-gcm.
    #[arg(long, value_name = "SUITE", value_parser = super::suite)]
    pub(super) suite: Option<Suite>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(arguments: &Init) -> Result<Report, Failure> {
    let config = Config::load(&arguments.file.path)?;
    let mut names = BTreeSet::from([DEFAULT_KEY]);
    names.extend(arguments.keys.iter().map(String::as_str));
    // Keys may be made before the schema is written, but not for one that is wrong.
    let schema = match config.schema.try_exists() {
        Ok(false) => Schema::default(),
        _ => Schema::load(&config.schema)?,
    };
    names.extend(schema.key_names());
    names.extend(config.audit.iter().map(|audit| audit.key.as_str()));
    let secret = config.keyring.unseal.read()?;
    let (file, suite) = (&config.keyring.file, arguments.suite);
    let keyring = KeyFile::create(file, &secret, names.iter().copied(), suite)?;
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let said = format!(
        "{}: made, with the keys: {names}. Keep a copy, apart from the unseal secret: \
         what is sealed cannot be opened without both.\n",
        file.display()
    );
    Ok(report(&config, &keyring, arguments.json, &said))
}
