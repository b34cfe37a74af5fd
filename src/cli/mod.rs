//! The commands, one file each.

mod audit;
mod bench;
mod certs;
mod check;
mod database;
mod demo;
pub mod embedded;
mod failure;
mod files;
mod inspect;
mod keys;
mod limits;
mod load;
mod migrate;
mod operators;
mod progress;
mod reload;
mod serve;
mod service;
mod shell;
mod status;
mod table;
mod ticker;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, FromArgMatches as _, Parser, Subcommand};

use crate::code::Code;
pub use failure::Failure;

/// An encrypting proxy for MongoDB: seals the fields that a schema names.
#[derive(Debug, Parser)]
#[command(name = "fieldseal", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy.
    Serve {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Validate configuration, schema and keyring; print what is sealed and how.
    Check(check::Check),
    /// Make and list keys; stage, promote, rotate, disable, enable and destroy their versions.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Seal, seal anew or open what is stored already, while services go on.
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Count what is sealed, under which keys, and what is left in plain. Exit code 3: something is left to do.
    Status(status::Status),
    /// Say which keys a BSON file or a dump needs; never what is in it.
    Inspect(inspect::Inspect),
    /// Measure what the proxy, each sealed field and each choice costs on this machine.
    ///
    /// Compared are: MongoDB without the proxy; through it with nothing sealed; each sealed field
    /// alone; all of them; without equality tokens; with the other cipher suite; TLS and Unix
    /// sockets on either side; one connection and many.
    ///
    /// Neither keys nor their secret are looked at: the fields are sealed under new keys, in a
    /// temporary folder. Roles, limits and the audit log of the configuration are not used. What is
    /// written goes into a database `fieldseal_bench_…` of its own, which is dropped at the end.
    /// No value of a document is shown or kept. docs/bench.md says how to read the figures.
    Bench(Box<bench::Arguments>),
    /// Say whether the audit log is whole.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Make an authority and certificates for development.
    Certs {
        /// Where to put them; it is made if it is not there.
        directory: PathBuf,
        /// A name or address of the servers, beside those of loopback; may be repeated.
        #[arg(long = "host", value_name = "NAME")]
        hosts: Vec<String>,
        /// How many days they hold.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
        days: u16,
    },
    /// Print what makes a shell complete these commands.
    Completions(shell::Completions),
    /// Print the manual page, or write those of all commands.
    Man(shell::Manual),
    /// A guided tour with a MongoDB of its own.
    Demo {
        /// End after the tour instead of staying until Ctrl-C.
        #[arg(long)]
        exit: bool,
        /// With TLS and certificates on both sides, made for the tour.
        #[arg(long)]
        tls: bool,
    },
}

/// The configuration file of a command.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(
        short = 'c',
        long = "config",
        value_name = "FILE",
        default_value = "fieldseal.toml"
    )]
    path: PathBuf,
}

/// The exit code of `status` when something is left to do, and of `audit verify` when an end mark
/// is missing.
const LEFT_TO_DO: u8 = 3;

/// Runs the command that the arguments name. 0: done; 1: refused or failed; 2: usage;
/// 3: `status` found something left to do, or `audit verify` no end mark.
pub fn run() -> ExitCode {
    let matches = shell::command().try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match cli.command {
        Command::Serve { file } => serve::run(&file.path),
        Command::Check(arguments) => check::check(&arguments).and_then(|checked| {
            warn(&checked.report.warnings);
            print(&checked.report.text)?;
            checked.failure.map_or(Ok(()), Err)
        }),
        Command::Status(arguments) => match status::run(&arguments) {
            Ok(stated) => match print(&stated.report.text) {
                Ok(()) if stated.left => return ExitCode::from(LEFT_TO_DO),
                printed => printed,
            },
            Err(failure) => Err(failure),
        },
        Command::Keys(command) => keys::run(command).and_then(|report| {
            warn(&report.warnings);
            print(&report.text)
        }),
        Command::Migrate(command) => migrate::run(command).and_then(|(report, left)| {
            print(&report.text)?;
            warn(&report.warnings);
            left.map_or(Ok(()), Err)
        }),
        Command::Inspect(arguments) => inspect::run(&arguments).and_then(|inspected| {
            warn(&inspected.report.warnings);
            print(&inspected.report.text)?;
            inspected.failure.map_or(Ok(()), Err)
        }),
        Command::Bench(arguments) => bench::run(&arguments).and_then(|(report, failure)| {
            print(&report.text)?;
            failure.map_or(Ok(()), Err)
        }),
        Command::Audit(command) => match audit::run(&command) {
            Ok(verified) => {
                warn(&verified.report.warnings);
                match (print(&verified.report.text), verified.failure) {
                    (Ok(()), None) if verified.unfinished => return ExitCode::from(LEFT_TO_DO),
                    (Ok(()), Some(failure)) => Err(failure),
                    (printed, _) => printed,
                }
            }
            Err(failure) => Err(failure),
        },
        Command::Certs {
            directory,
            hosts,
            days,
        } => certs::run(&directory, &hosts, days).and_then(|report| print(&report.text)),
        Command::Completions(arguments) => {
            shell::completions(&arguments).and_then(|report| print(&report.text))
        }
        Command::Man(arguments) => shell::manual(&arguments).and_then(|report| print(&report.text)),
        Command::Demo { exit, tls } => demo::run(exit, tls),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain("fieldseal", failure.lines());
            ExitCode::FAILURE
        }
    }
}

/// Help that was asked for counts as done.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let code = error.exit_code();
    if code != 0 && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let what = "the command line is not understood; --help says what there is";
        complain("fieldseal", Failure::coded(Code::Usage, what).lines());
    }
    ExitCode::from(u8::try_from(code).unwrap_or(2))
}

/// What a command has to say.
#[derive(Debug)]
struct Report {
    /// For standard output.
    text: String,
    /// For standard error.
    warnings: Vec<String>,
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads had enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::coded(
            Code::Output,
            format_args!("cannot write to standard output: {error}"),
        )),
        Ok(()) => Ok(()),
    }
}

fn warn(lines: &[String]) {
    complain("fieldseal: warning", lines);
}

/// The one place where commands speak to the terminal's error side. That nobody listens there
/// changes neither what was done nor the exit code.
fn complain(who: &str, lines: &[String]) {
    let mut out = std::io::stderr().lock();
    for line in lines {
        let _ = writeln!(out, "{who}: {line}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn exit_code(arguments: &[&str]) -> i32 {
        Cli::try_parse_from(arguments).map_or_else(|error| error.exit_code(), |_| 0)
    }

    #[test]
    fn the_arguments_hold_together() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_exit_code_2_and_help_is_0() {
        for usage in [
            &["fieldseal"][..],
            &["fieldseal", "sreve"],
            &["fieldseal", "serve", "extra"],
            &["fieldseal", "keys"],
            &["fieldseal", "certs", "dir", "--days", "0"],
            &["fieldseal", "keys", "rotate"],
            &["fieldseal", "keys", "rotate", "a", "--all"],
            &["fieldseal", "keys", "stage"],
            &["fieldseal", "keys", "stage", "a", "--suite", "rot13"],
            &[
                "fieldseal",
                "keys",
                "stage",
                "a",
                "--epoch",
                "--suite",
                "aes-256-gcm",
            ],
            &[
                "fieldseal",
                "keys",
                "disable",
                "a",
                "--version",
                "1",
                "--epoch",
                "1",
            ],
            &["fieldseal", "keys", "disable", "a", "--version"],
            &["fieldseal", "keys", "reseal"],
            &[
                "fieldseal",
                "keys",
                "reseal",
                "--unseal-file",
                "a",
                "--unseal-env",
                "B",
            ],
            &["fieldseal", "migrate", "rotate", "--rate", "0"],
            &["fieldseal", "migrate", "encrypt", "--field", "a"],
            &["fieldseal", "inspect"],
            &["fieldseal", "audit"],
            &["fieldseal", "bench", "--docs", "a", "--sample", "a.b"],
            &["fieldseal", "bench", "--uri", "mongodb://a/"],
            &["fieldseal", "bench", "--only", "everything"],
            &["fieldseal", "bench", "--connections", "0"],
            &["fieldseal", "bench", "--seconds", "inf"],
            &["fieldseal", "bench", "--from", "a.json", "--quick"],
            &["fieldseal", "audit", "verify", "--head", "7"],
            &["fieldseal", "status", "--sample", "0"],
            &["fieldseal", "check", "--exact"],
            &["fieldseal", "check", "--offline", "--require-upstream"],
            &["fieldseal", "check", "--offline", "--against"],
            &["fieldseal", "completions"],
            &["fieldseal", "completions", "csh"],
            &["fieldseal", "check", "--sample", "5"],
            &[
                "fieldseal",
                "check",
                "--against",
                "--exact",
                "--sample",
                "5",
            ],
        ] {
            assert_eq!(exit_code(usage), 2, "{usage:?}");
        }
        for usage in [
            &["fieldseal", "--help"][..],
            &["fieldseal", "--version"],
            &["fieldseal", "serve", "-c", "x.toml"],
            &["fieldseal", "check", "--json"],
            &["fieldseal", "check", "--offline"],
            &["fieldseal", "check", "--require-upstream"],
            &["fieldseal", "completions", "zsh"],
            &["fieldseal", "man"],
            &["fieldseal", "man", "dir"],
            &["fieldseal", "check", "--against", "--exact"],
            &["fieldseal", "check", "--against", "--sample", "5"],
            &["fieldseal", "status", "shop.customers", "--sample", "5"],
            &["fieldseal", "inspect", "-", "dump", "--json"],
            &[
                "fieldseal",
                "keys",
                "init",
                "-c",
                "x.toml",
                "--key",
                "a",
                "--key",
                "b",
            ],
            &["fieldseal", "keys", "rotate", "a"],
            &["fieldseal", "keys", "rotate", "--all"],
            &["fieldseal", "keys", "stage", "a", "--epoch"],
            &["fieldseal", "keys", "promote", "a", "--epoch", "2", "--yes"],
            &["fieldseal", "keys", "disable", "a", "--epoch"],
            &[
                "fieldseal",
                "keys",
                "destroy",
                "a",
                "--version",
                "1",
                "--yes",
            ],
            &[
                "fieldseal",
                "keys",
                "reseal",
                "--unseal-command",
                "vault",
                "read",
                "-f",
            ],
            &["fieldseal", "certs", "dir", "--host", "a", "--host", "b"],
            &["fieldseal", "demo", "--exit"],
            &[
                "fieldseal",
                "bench",
                "--quick",
                "--connections",
                "1,8",
                "--only",
                "fields,tls",
            ],
            &["fieldseal", "bench", "--sample", "a.b", "--uri", "x"],
            &["fieldseal", "bench", "--from", "a.json", "--out", "b.html"],
            &["fieldseal", "audit", "verify"],
            &["fieldseal", "audit", "verify", "a", "b", "--json"],
            &[
                "fieldseal",
                "migrate",
                "encrypt",
                "a.b",
                "--field",
                "c",
                "--field",
                "d",
            ],
            &["fieldseal", "migrate", "rotate", "--dry-run", "--json"],
        ] {
            assert_eq!(exit_code(usage), 0, "{usage:?}");
        }
    }
}
