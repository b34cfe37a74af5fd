//! For shells and those who read: completions, manual pages, and the examples of `--help`.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Failure, Report};
use crate::code::Code;

/// What a call of a shell's completions takes.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

/// What `man` takes.
#[derive(Debug, Args)]
pub(super) struct Manual {
    /// Where to put the pages of all commands; without it, the main page goes to standard output.
    directory: Option<PathBuf>,
}

/// What exit codes mean, for the main help.
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  refused or failed: standard error has a line for each thing that is wrong, with a code
     in brackets that docs/errors.md explains
  2  the command line is not understood
  3  `status` found something left to do; `audit verify` found no end mark";

/// Commands, by their words, and calls of them: what a call does, and the call.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "",
        &[
            (
                "See how it works, on a MongoDB of its own",
                "fieldseal demo",
            ),
            (
                "Make the key file, look whether all is right, run",
                "fieldseal keys init && fieldseal check && fieldseal serve",
            ),
        ],
    ),
    (
        "serve",
        &[
            ("With ./fieldseal.toml", "fieldseal serve"),
            (
                "With another configuration",
                "fieldseal serve -c /etc/fieldseal/fieldseal.toml",
            ),
            (
                "With a key of the configuration from the environment",
                "FIELDSEAL__LOG__LEVEL=debug fieldseal serve",
            ),
        ],
    ),
    (
        "check",
        &[
            (
                "What is sealed, and what is behind the routes",
                "fieldseal check",
            ),
            (
                "The files alone, as in a build",
                "fieldseal check --offline",
            ),
            (
                "Indexes, validators and users too, where MongoDB asks for a login (the connection string is in FIELDSEAL_URI)",
                "fieldseal check --require-upstream --json",
            ),
            (
                "Whether every stored document is as the schema says",
                "fieldseal check --against --exact",
            ),
        ],
    ),
    (
        "keys init",
        &[
            ("A key for each name in the schema", "fieldseal keys init"),
            (
                "And one for the audit log",
                "fieldseal keys init --key audit",
            ),
        ],
    ),
    (
        "keys list",
        &[
            ("A table", "fieldseal keys list"),
            ("For programs", "fieldseal keys list --json"),
        ],
    ),
    (
        "keys stage",
        &[
            (
                "A version that opens everywhere before it seals",
                "fieldseal keys stage people",
            ),
            ("An index epoch", "fieldseal keys stage people --epoch"),
            (
                "A version of the other cipher suite",
                "fieldseal keys stage people --suite xaes-256-gcm",
            ),
        ],
    ),
    (
        "keys promote",
        &[
            (
                "Seal under the staged version",
                "fieldseal keys promote people",
            ),
            (
                "Let queries use the staged index epoch",
                "fieldseal keys promote people --epoch",
            ),
        ],
    ),
    (
        "keys rotate",
        &[
            ("One key", "fieldseal keys rotate people"),
            ("Every key", "fieldseal keys rotate --all"),
        ],
    ),
    (
        "keys disable",
        &[
            ("A version", "fieldseal keys disable people --version 1"),
            (
                "The retired index epoch",
                "fieldseal keys disable people --epoch",
            ),
        ],
    ),
    (
        "keys enable",
        &[
            ("A version", "fieldseal keys enable people --version 1"),
            ("An index epoch", "fieldseal keys enable people --epoch 1"),
        ],
    ),
    (
        "keys destroy",
        &[
            (
                "A version, and be asked before",
                "fieldseal keys destroy people --version 1",
            ),
            (
                "Without a terminal",
                "fieldseal keys destroy people --version 1 --yes",
            ),
        ],
    ),
    (
        "keys reseal",
        &[
            (
                "With a secret from a file",
                "fieldseal keys reseal --unseal-file /run/secrets/new",
            ),
            (
                "With one that a program tells",
                "fieldseal keys reseal --unseal-command vault kv get -field=key secret/fieldseal",
            ),
        ],
    ),
    (
        "migrate encrypt",
        &[
            (
                "See what would be done",
                "fieldseal migrate encrypt shop.customers --dry-run",
            ),
            (
                "Do it, slowly",
                "fieldseal migrate encrypt shop.customers --rate 500",
            ),
            (
                "One field",
                "fieldseal migrate encrypt shop.customers --field ssn",
            ),
        ],
    ),
    (
        "migrate rotate",
        &[
            ("Every collection of the schema", "fieldseal migrate rotate"),
            ("One of them", "fieldseal migrate rotate shop.customers"),
        ],
    ),
    (
        "migrate decrypt",
        &[
            (
                "A whole collection",
                "fieldseal migrate decrypt shop.customers",
            ),
            (
                "One field",
                "fieldseal migrate decrypt shop.customers --field ssn",
            ),
        ],
    ),
    (
        "migrate reindex",
        &[
            ("Every field with queries", "fieldseal migrate reindex"),
            (
                "Those under one key",
                "fieldseal migrate reindex --key people",
            ),
        ],
    ),
    (
        "status",
        &[
            (
                "Every document of every collection of the schema",
                "fieldseal status",
            ),
            (
                "A sample of one",
                "fieldseal status shop.customers --sample 10000",
            ),
            (
                "For programs; exit code 3 says that something is left",
                "fieldseal status --json",
            ),
        ],
    ),
    (
        "inspect",
        &[
            ("A dump", "fieldseal inspect dump/"),
            (
                "An archive as it comes",
                "mongodump --archive | fieldseal inspect -",
            ),
        ],
    ),
    (
        "bench",
        &[
            ("A first look", "fieldseal bench --quick"),
            (
                "With documents of your own, and a page to read",
                "fieldseal bench --docs customers.json --out bench.html",
            ),
        ],
    ),
    (
        "audit verify",
        &[
            ("The log of the configuration", "fieldseal audit verify"),
            (
                "Files, and a line that must be among theirs",
                "fieldseal audit verify audit.log.1 audit.log",
            ),
        ],
    ),
    (
        "certs",
        &[
            ("For this machine alone", "fieldseal certs certs"),
            (
                "For servers elsewhere",
                "fieldseal certs certs --host db.example --host 10.0.0.7",
            ),
        ],
    ),
    (
        "demo",
        &[
            ("The tour, and stay", "fieldseal demo"),
            (
                "The tour with certificates, and end",
                "fieldseal demo --exit --tls",
            ),
        ],
    ),
    (
        "completions",
        &[
            (
                "For bash",
                "fieldseal completions bash > /etc/bash_completion.d/fieldseal",
            ),
            ("For zsh", "fieldseal completions zsh > ~/.zfunc/_fieldseal"),
            (
                "For fish",
                "fieldseal completions fish > ~/.config/fish/completions/fieldseal.fish",
            ),
        ],
    ),
    (
        "man",
        &[
            ("Read the main page", "fieldseal man | man -l -"),
            (
                "Put the pages of all commands where `man` looks",
                "fieldseal man /usr/local/share/man/man1",
            ),
        ],
    ),
];

/// The command line with its examples.
pub(super) fn command() -> clap::Command {
    let mut command = Cli::command();
    for (path, examples) in EXAMPLES {
        let mut text = told(examples);
        if path.is_empty() {
            text = format!("{EXIT_CODES}\n\n{text}");
        }
        let words: Vec<&str> = path.split_whitespace().collect();
        command = with(command, &words, text);
    }
    command
}

fn with(command: clap::Command, words: &[&str], text: String) -> clap::Command {
    match words {
        [] => command.after_help(text),
        [first, rest @ ..] => command.mut_subcommand(first, |inner| with(inner, rest, text)),
    }
}

fn told(examples: &[(&str, &str)]) -> String {
    let lines = examples
        .iter()
        .map(|(what, call)| format!("  # {what}\n  {call}"));
    format!("Examples:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// The completions of a shell.
pub(super) fn completions(arguments: &Completions) -> Result<Report, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut command(), "fieldseal", &mut text);
    report(text)
}

/// The main page, or all of them into a directory.
pub(super) fn manual(arguments: &Manual) -> Result<Report, Failure> {
    if let Some(directory) = &arguments.directory {
        return pages(directory).map_err(|error| {
            Failure::coded(
                Code::Output,
                format_args!("{}: {error}", directory.display()),
            )
        });
    }
    let mut text = Vec::new();
    Man::new(command())
        .render(&mut text)
        .map_err(|error| Failure::coded(Code::Output, error))?;
    report(text)
}

fn pages(directory: &Path) -> std::io::Result<Report> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command(), directory)?;
    Ok(Report {
        text: format!("the manual pages are in {}\n", directory.display()),
        warnings: Vec::new(),
    })
}

fn report(text: Vec<u8>) -> Result<Report, Failure> {
    let text = String::from_utf8(text).map_err(|error| Failure::coded(Code::Output, error))?;
    Ok(Report {
        text,
        warnings: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The words of every command that has none below it.
    fn leaves(command: &clap::Command, above: &str, found: &mut Vec<String>) {
        for inner in command
            .get_subcommands()
            .filter(|inner| inner.get_name() != "help")
        {
            let path = format!("{above} {}", inner.get_name()).trim().to_owned();
            match inner.has_subcommands() {
                true => leaves(inner, &path, found),
                false => found.push(path),
            }
        }
    }

    #[test]
    fn the_help_of_every_command_has_examples() {
        let mut commands = Vec::new();
        leaves(&command(), "", &mut commands);
        for path in &commands {
            let known = EXAMPLES.iter().find(|(words, _)| words == path);
            let (_, examples) = known.unwrap_or_else(|| panic!("{path} has no examples"));
            assert!((2..=4).contains(&examples.len()), "{path}");
            let start = format!("fieldseal {path}");
            assert!(
                examples.iter().all(|(_, call)| call.contains(&start)),
                "{path}"
            );
        }
        assert_eq!(EXAMPLES.len(), commands.len() + 1);
    }

    #[test]
    fn every_example_is_understood() {
        let examples = EXAMPLES.iter().flat_map(|(_, examples)| *examples);
        for (_, example) in examples {
            let parts = example.split(['|', '>']).flat_map(|part| part.split("&&"));
            let calls = parts.filter_map(|part| part.get(part.find("fieldseal ")?..));
            let calls: Vec<&str> = calls.collect();
            assert!(!calls.is_empty(), "{example}");
            for call in calls {
                let matches = command().try_get_matches_from(call.split_whitespace());
                assert!(matches.is_ok(), "{call}: {matches:?}");
            }
        }
    }

    #[test]
    fn completions_of_every_shell_name_the_commands() {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let shell = shell.parse().unwrap();
            let text = completions(&Completions { shell }).unwrap().text;
            for word in ["reindex", "require-upstream", "completions"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn there_is_a_manual_page_for_every_command() {
        let main = manual(&Manual { directory: None }).unwrap().text;
        assert!(
            main.contains(".TH fieldseal 1") && main.contains("Exit codes"),
            "{main}"
        );
        let directory = std::env::temp_dir().join(format!("fieldseal-man-{}", std::process::id()));
        let made = manual(&Manual {
            directory: Some(directory.clone()),
        });
        let page = std::fs::read_to_string(directory.join("fieldseal-migrate-encrypt.1"));
        let _ = std::fs::remove_dir_all(&directory);
        made.unwrap();
        assert!(page.unwrap().contains("\\-\\-dry\\-run"));
    }
}
