//! `fieldseal inspect`: which keys a dump needs.

mod found;

use std::path::{Path, PathBuf};

use clap::Args;

use super::ticker::{Ticker, bytes};
use super::{Failure, Report, load};
use crate::config::Config;
use crate::inspect::{self, InspectError, Needs};
use crate::keyring::Keyring;
use found::Found;

/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// BSON files, folders and archives of `mongodump`, packed with gzip or not; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    paths: Vec<PathBuf>,
    /// The configuration file, for its key file; `fieldseal.toml`, if there is one.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// What was found, and why it is not all, if it is not.
pub(super) struct Inspected {
    pub(super) report: Report,
    pub(super) failure: Option<Failure>,
}

pub(super) fn run(arguments: &Inspect) -> Result<Inspected, Failure> {
    let (keyring, warnings) = keyring(arguments.config.as_deref())?;
    let mut needs = Needs::default();
    let failure = read(&arguments.paths, &mut needs)
        .err()
        .map(|error| match error {
            InspectError::Damaged { .. } => Failure::coded(
                error.code(),
                format_args!("{error}; what comes after that is not counted"),
            ),
            _ => error.into(),
        });
    let found = Found {
        needs: &needs,
        keyring: keyring.as_ref(),
        complete: failure.is_none(),
    };
    let text = if arguments.json {
        format!("{:#}\n", found.describe())
    } else {
        found.show()
    };
    Ok(Inspected {
        report: Report { text, warnings },
        failure,
    })
}

fn read(paths: &[PathBuf], needs: &mut Needs) -> Result<(), InspectError> {
    let mut ticker = Ticker::new();
    let mut progress = |read: u64, documents: u64| {
        ticker.tick(|_| format!("{} read, {documents} documents", bytes(read)));
    };
    for path in paths {
        if path.as_os_str() == STANDARD_INPUT {
            let input = std::io::stdin().lock();
            inspect::reader(
                input,
                "standard input",
                STANDARD_INPUT,
                needs,
                &mut progress,
            )?;
        } else {
            inspect::path(path, needs, &mut progress)?;
        }
    }
    Ok(())
}

/// The keyring, if it can be had. Without it, keys are shown by their ids: a dump
/// is often looked at where no key may be.
fn keyring(config: Option<&Path>) -> Result<(Option<Keyring>, Vec<String>), Failure> {
    let default = Path::new("fieldseal.toml");
    let (path, named) = match config {
        Some(path) => (path, true),
        None => (default, false),
    };
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(mistakes) if named => return Err(mistakes.into()),
        Err(_) if !default.exists() => {
            let line = "no key file to compare with: keys are shown by their ids; name a configuration with -c";
            return Ok((None, vec![line.to_owned()]));
        }
        Err(mistakes) => return Ok((None, unavailable(mistakes.into()))),
    };
    match load::open_keyring(&config) {
        Ok(keyring) => Ok((Some(keyring), Vec::new())),
        Err(failure) => Ok((None, unavailable(failure))),
    }
}

fn unavailable(failure: Failure) -> Vec<String> {
    let mut lines = failure.lines().to_vec();
    lines.push("without the key file, keys are shown by their ids".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::doc;
    use serde_json::json;

    use super::super::keys::tests::{Workplace, init, rotate_key};
    use super::*;
    use crate::inspect::tests::{encode, sealed, with_tokens};
    use crate::seal::FieldId;

    fn inspect(place: &Workplace, config: Option<&str>, json: bool) -> Inspected {
        run(&Inspect {
            paths: vec![place.path("dump.bson")],
            config: config.map(|name| place.path(name)),
            json,
        })
        .unwrap()
    }

    fn keyring_of(place: &Workplace) -> Keyring {
        load::open_keyring(&Config::load(&place.config()).unwrap()).unwrap()
    }

    /// A dump with values under both versions of the key, and one under a version that is not there.
    fn dump(place: &Workplace) -> [u32; 3] {
        init(place);
        rotate_key(place, "default").unwrap();
        let versions = &keyring_of(place).keys[0].versions;
        let ids = [versions[0].id.0, versions[1].id.0, 4_000_000_000];
        let field = FieldId::of("shop.customers", "ssn");
        let documents =
            ids.map(|id| doc! {"name": "Ada Marsh", "ssn": with_tokens(id, field, &[1])});
        std::fs::write(place.path("dump.bson"), encode(&documents)).unwrap();
        ids
    }

    #[test]
    fn the_table_names_versions_and_what_is_missing() {
        let place = Workplace::new("inspect", "");
        let ids = dump(&place);
        let inspected = inspect(&place, Some("fieldseal.toml"), false);
        assert!(inspected.failure.is_none());
        let text = inspected.report.text;
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = text.lines().map(words).collect();
        let has = |line: String| assert!(lines.contains(&line), "{line}: {text}");
        has(format!("dump ssn default 1 retired {} 1 e1", ids[0]));
        has(format!("dump ssn default 2 active {} 1 e1", ids[1]));
        has(format!("dump ssn - - missing {} 1 e1", ids[2]));
        has("3 documents, 1 collection: 3 sealed values".to_owned());
        has("3 key versions needed; the key file (generation 2) opens 2 of them".to_owned());
        assert!(
            text.contains("key id 4000000000: not in this key file"),
            "{text}"
        );
        assert!(!text.contains("Ada"), "{text}");
    }

    #[test]
    fn programs_read_it_as_json() {
        let place = Workplace::new("inspect-json", "");
        let ids = dump(&place);
        let inspected = inspect(&place, Some("fieldseal.toml"), true);
        let json: serde_json::Value = serde_json::from_str(&inspected.report.text).unwrap();
        assert_eq!(json["complete"], true);
        assert_eq!(json["documents"], 3);
        assert_eq!(json["generation"], 2);
        let states: Vec<_> = json["versions"].as_array().unwrap().iter().collect();
        assert_eq!(states.len(), 3);
        let missing = states.iter().find(|it| it["state"] == "missing").unwrap();
        assert_eq!(missing["key_id"], ids[2]);
        assert_eq!(json["fields"][0]["tokens"]["1"], 1);
    }

    #[test]
    fn without_a_key_file_keys_are_shown_by_their_ids() {
        let place = Workplace::new("inspect-without", "");
        let ids = dump(&place);
        std::fs::remove_file(place.path("unseal")).unwrap();
        let inspected = inspect(&place, Some("fieldseal.toml"), false);
        assert!(inspected.failure.is_none());
        assert!(
            inspected
                .report
                .warnings
                .last()
                .unwrap()
                .contains("by their ids")
        );
        let text = inspected.report.text;
        assert!(
            text.contains(&ids[0].to_string()) && text.contains("unknown"),
            "{text}"
        );
        assert!(text.contains("3 key versions needed\n"), "{text}");
    }

    #[test]
    fn a_configuration_that_was_named_has_to_be_right() {
        let place = Workplace::new("inspect-named", "");
        dump(&place);
        place.write("broken.toml", "schema = 1");
        let arguments = Inspect {
            paths: vec![place.path("dump.bson")],
            config: Some(place.path("broken.toml")),
            json: false,
        };
        assert!(run(&arguments).is_err());
    }

    #[test]
    fn what_was_read_of_a_damaged_dump_is_shown_beside_the_failure() {
        let place = Workplace::new("inspect-damaged", "");
        dump(&place);
        let mut bytes = std::fs::read(place.path("dump.bson")).unwrap();
        bytes.truncate(bytes.len() - 1);
        std::fs::write(place.path("dump.bson"), bytes).unwrap();
        let inspected = inspect(&place, Some("fieldseal.toml"), true);
        let json: serde_json::Value = serde_json::from_str(&inspected.report.text).unwrap();
        assert_eq!(
            (&json["complete"], &json["documents"]),
            (&json!(false), &json!(2))
        );
        let failure = inspected.failure.unwrap();
        assert!(
            failure.lines()[0].contains("damaged at byte"),
            "{failure:?}"
        );
    }

    #[test]
    fn names_in_a_dump_do_not_reach_the_terminal_as_commands() {
        let place = Workplace::new("inspect-names", "");
        init(&place);
        let field = FieldId::of("a", "b");
        let documents = [doc! {"\u{1b}[2J": sealed(1, field)}];
        std::fs::write(place.path("dump.bson"), encode(&documents)).unwrap();
        let text = inspect(&place, Some("fieldseal.toml"), false).report.text;
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
