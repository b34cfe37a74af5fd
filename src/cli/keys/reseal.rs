//! `fieldseal keys reseal`: another unseal secret for the same keys.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{ConfigFile, Failure, Report, edit, report};
use crate::code::Code;
use crate::keyring::UnsealSource;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("secret").required(true).args(["unseal_file", "unseal_env", "unseal_command"]))]
pub(in crate::cli) struct Reseal {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// A file that holds the new secret.
    #[arg(long, value_name = "FILE")]
    pub(super) unseal_file: Option<PathBuf>,
    /// An environment variable that holds the new secret.
    #[arg(long, value_name = "NAME")]
    pub(super) unseal_env: Option<String>,
    /// A program that writes the new secret to its standard output, with its arguments; comes last.
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true)]
    pub(super) unseal_command: Option<Vec<String>>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Reseal {
    fn source(&self) -> Option<UnsealSource> {
        let file = self.unseal_file.clone().map(UnsealSource::File);
        let env = || self.unseal_env.clone().map(UnsealSource::Env);
        let command = || self.unseal_command.clone().map(UnsealSource::Command);
        file.or_else(env).or_else(command)
    }
}

pub(super) fn run(arguments: &Reseal) -> Result<Report, Failure> {
    let source = arguments.source().ok_or_else(|| {
        Failure::coded(
            Code::Argument,
            "one of --unseal-file, --unseal-env and --unseal-command is needed",
        )
    })?;
    // Before the old one is asked for, which may cost someone a passphrase.
    let secret = source.read()?;
    let (config, mut file) = edit(&arguments.file)?;
    file.reseal(&secret)?;
    let keyring = file.save()?;
    let said = format!(
        "{}: unsealed by the new secret alone from now on; the keys in it are the same. \
         Let `unseal` in the configuration lead to it, on every machine that has this key file. \
         Copies of older key files still open with the secret of their time.\ngeneration {}\n",
        config.keyring.file.display(),
        keyring.generation
    );
    Ok(report(&config, &keyring, arguments.json, &said))
}
