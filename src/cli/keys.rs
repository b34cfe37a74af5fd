//! `fieldseal keys`: make, list and rotate keys.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use serde_json::json;

use super::table::table;
use super::{ConfigFile, Failure, Report, load};
use crate::config::Config;
use crate::keyring::{KeyFile, KeyVersion, Keyring};
use crate::schema::{DEFAULT_KEY, Schema};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the key file, with a key for each name in the schema.
    Init(Init),
    /// Show the keys, their versions and index epochs.
    List(List),
    /// Give a key a new version, which seals from now on; the old ones still open.
    Rotate(Rotate),
}

#[derive(Debug, Args)]
pub(super) struct Init {
    #[command(flatten)]
    file: ConfigFile,
    /// Make this key too; may be given several times.
    #[arg(long = "key", value_name = "NAME")]
    keys: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    file: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    file: ConfigFile,
    /// The key; made if the schema names it and the key file has none.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// Rotate every key of the key file.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Command) -> Result<Report, Failure> {
    match command {
        Command::Init(arguments) => make(&arguments),
        Command::List(arguments) => list(&arguments),
        Command::Rotate(arguments) => rotate(&arguments),
    }
}

/// What the command leaves: the keys, as text or JSON.
fn report(config: &Config, keyring: &Keyring, as_json: bool, said: &str) -> Report {
    Report {
        text: if as_json {
            format!("{:#}\n", describe(config, keyring))
        } else {
            said.to_owned()
        },
        warnings: load::warnings(config),
    }
}

fn make(arguments: &Init) -> Result<Report, Failure> {
    let config = Config::load(&arguments.file.path)?;
    let mut names = BTreeSet::from([DEFAULT_KEY]);
    names.extend(arguments.keys.iter().map(String::as_str));
    // Keys may be made before the schema is written, but not for one that is wrong.
    let schema = match config.schema.try_exists() {
        Ok(false) => Schema::default(),
        _ => Schema::load(&config.schema)?,
    };
    names.extend(schema.key_names());
    let secret = config.keyring.unseal.read()?;
    let keyring = KeyFile::init(&config.keyring.file, &secret, names.iter().copied())?;
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let said = format!(
        "{}: made, with the keys: {names}. Keep a copy, apart from the unseal secret: \
         what is sealed cannot be opened without both.\n",
        config.keyring.file.display()
    );
    Ok(report(&config, &keyring, arguments.json, &said))
}

fn list(arguments: &List) -> Result<Report, Failure> {
    let config = Config::load(&arguments.file.path)?;
    let keyring = load::open_keyring(&config)?;
    Ok(report(&config, &keyring, arguments.json, &show(&keyring)))
}

fn rotate(arguments: &Rotate) -> Result<Report, Failure> {
    let config = Config::load(&arguments.file.path)?;
    let secret = config.keyring.unseal.read()?;
    let mut file = KeyFile::edit(&config.keyring.file, &secret)?;
    let names: Vec<String> = match &arguments.name {
        Some(name) => vec![name.clone()],
        None => file
            .keyring()
            .keys
            .iter()
            .map(|key| key.name.clone())
            .collect(),
    };
    for name in &names {
        let known = file.keyring().key(name).is_some();
        if !known
            && Schema::load(&config.schema)?
                .key_names()
                .contains(name.as_str())
        {
            file.add(name, None)?;
        } else {
            file.rotate(name)?;
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
    said.push_str(&format!(
        "generation {}; a running proxy takes it up by itself\n",
        keyring.generation
    ));
    Ok(report(&config, &keyring, arguments.json, &said))
}

fn show(keyring: &Keyring) -> String {
    let mut rows = Vec::new();
    for key in &keyring.keys {
        let mut row = |kind: &str, version: &KeyVersion| {
            rows.push([
                key.name.clone(),
                format!("{kind}{}", version.number),
                version.id.0.to_string(),
                version.state.word().to_owned(),
                version.created.clone(),
            ]);
        };
        key.versions.iter().for_each(|version| row("", version));
        key.epochs.iter().for_each(|epoch| row("epoch ", epoch));
    }
    let mut text = table(["key", "version", "id", "state", "created"], &rows);
    text.push_str(&format!("generation {}\n", keyring.generation));
    text
}

fn describe(config: &Config, keyring: &Keyring) -> serde_json::Value {
    let entry = |number: &str, version: &KeyVersion| {
        json!({
            "id": version.id.0,
            number: version.number,
            "state": version.state.word(),
            "created": version.created,
        })
    };
    let keys: Vec<_> = keyring
        .keys
        .iter()
        .map(|key| {
            json!({
                "name": key.name,
                "versions": key.versions.iter().map(|it| entry("version", it)).collect::<Vec<_>>(),
                "epochs": key.epochs.iter().map(|it| entry("epoch", it)).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "file": config.keyring.file, "generation": keyring.generation, "keys": keys })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::PathBuf;

    use super::*;

    /// A directory with a configuration, a schema and an unseal secret; gone when the test ends.
    pub(in crate::cli) struct Workplace(PathBuf);

    impl Workplace {
        pub(in crate::cli) fn new(name: &str, schema: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("fieldseal-cli-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            let place = Self(path);
            place.write("schema.toml", schema);
            place.write("unseal", &"5a".repeat(32));
            place.write(
                "fieldseal.toml",
                "schema = \"schema.toml\"\n[keyring]\nfile = \"keyring.json\"\nunseal = { file = \"unseal\" }\n\
                 [[route]]\nlisten = \"127.0.0.1:0\"\nupstream = \"127.0.0.1:1\"\n",
            );
            place
        }

        pub(in crate::cli) fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        pub(in crate::cli) fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        pub(in crate::cli) fn config(&self) -> PathBuf {
            self.path("fieldseal.toml")
        }

        fn file(&self) -> ConfigFile {
            ConfigFile {
                path: self.config(),
            }
        }
    }

    impl Drop for Workplace {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// `keys init`.
    pub(in crate::cli) fn init(place: &Workplace) -> Report {
        try_init(place, &[]).unwrap()
    }

    /// `keys rotate NAME`.
    pub(in crate::cli) fn rotate_key(place: &Workplace, name: &str) -> Result<Report, Failure> {
        rotate(&Rotate {
            file: place.file(),
            name: Some(name.to_owned()),
            all: false,
            json: false,
        })
    }

    fn try_init(place: &Workplace, keys: &[&str]) -> Result<Report, Failure> {
        make(&Init {
            file: place.file(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            json: false,
        })
    }

    fn listed(place: &Workplace) -> serde_json::Value {
        let report = list(&List {
            file: place.file(),
            json: true,
        });
        serde_json::from_str(&report.unwrap().text).unwrap()
    }

    fn names(listed: &serde_json::Value) -> Vec<&str> {
        listed["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["name"].as_str().unwrap())
            .collect()
    }

    const SCHEMA: &str = "[collections.\"a.b\".fields]\nx = { key = \"people\" }\n";

    #[test]
    fn keys_are_made_for_the_default_the_schema_and_the_arguments() {
        let place = Workplace::new("init", SCHEMA);
        let report = try_init(&place, &["extra", "people"]).unwrap();
        assert!(
            report.text.contains("default, extra, people"),
            "{}",
            report.text
        );
        let listed = listed(&place);
        assert_eq!(names(&listed), ["default", "extra", "people"]);
        assert_eq!(listed["keys"][0]["versions"][0]["state"], "active");
        assert_eq!(listed["keys"][0]["epochs"][0]["epoch"], 1);
        assert_eq!(listed["generation"], 1);
    }

    #[test]
    fn keys_can_be_made_before_the_schema_but_not_for_a_wrong_one() {
        let place = Workplace::new("init-early", "collections = 3");
        let failure = try_init(&place, &[]).unwrap_err();
        assert!(failure.lines()[0].contains("schema.toml:1"), "{failure:?}");
        assert!(!place.path("keyring.json").exists());
        std::fs::remove_file(place.path("schema.toml")).unwrap();
        init(&place);
        assert_eq!(names(&listed(&place)), ["default"]);
    }

    #[test]
    fn an_existing_key_file_is_not_overwritten() {
        let place = Workplace::new("init-twice", "");
        init(&place);
        let failure = try_init(&place, &[]).unwrap_err();
        assert!(
            failure.lines()[0].contains("keyring.json: exists already"),
            "{failure:?}"
        );
    }

    #[test]
    fn the_list_shows_versions_and_epochs_and_no_secret() {
        let place = Workplace::new("list", "");
        init(&place);
        rotate_key(&place, "default").unwrap();
        let report = list(&List {
            file: place.file(),
            json: false,
        });
        let text = report.unwrap().text;
        let column = |index: usize| -> Vec<&str> {
            text.lines()
                .skip(1)
                .filter_map(|line| line.split_whitespace().nth(index))
                .collect()
        };
        assert_eq!(column(0), ["default", "default", "default", "generation"]);
        assert_eq!(column(1), ["1", "2", "epoch", "2"]);
        assert!(
            text.contains("retired") && text.contains("active"),
            "{text}"
        );
        let stored = std::fs::read_to_string(place.path("keyring.json")).unwrap();
        let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
        let wrapped = stored["keys"][0]["versions"][0]["wrapped"]
            .as_str()
            .unwrap();
        assert!(!text.contains(wrapped) && !listed(&place).to_string().contains(wrapped));
    }

    #[test]
    fn rotation_makes_a_key_that_the_schema_names_and_refuses_another() {
        let place = Workplace::new("rotate", "");
        init(&place);
        place.write("schema.toml", SCHEMA);
        assert!(
            rotate_key(&place, "people")
                .unwrap()
                .text
                .contains("people: version 1 seals")
        );
        assert!(
            rotate_key(&place, "people")
                .unwrap()
                .text
                .contains("people: version 2 seals")
        );
        let failure = rotate_key(&place, "peple").unwrap_err();
        assert!(
            failure.lines()[0].contains("there is no key \"peple\""),
            "{failure:?}"
        );
        assert_eq!(listed(&place)["generation"], 3);
    }

    #[test]
    fn all_keys_can_be_rotated_at_once() {
        let place = Workplace::new("rotate-all", SCHEMA);
        init(&place);
        let all = Rotate {
            file: place.file(),
            name: None,
            all: true,
            json: true,
        };
        let json: serde_json::Value = serde_json::from_str(&rotate(&all).unwrap().text).unwrap();
        for key in json["keys"].as_array().unwrap() {
            assert_eq!(key["versions"][1]["state"], "active");
            assert_eq!(key["versions"][0]["state"], "retired");
            assert_eq!(key["epochs"].as_array().unwrap().len(), 1);
        }
        assert_eq!(json["generation"], 2);
    }

    #[test]
    fn a_wrong_secret_and_an_edited_file_are_one_clear_line_each() {
        let place = Workplace::new("secret", "");
        init(&place);
        let fail = || {
            let failure = list(&List {
                file: place.file(),
                json: false,
            });
            let failure = failure.unwrap_err();
            assert_eq!(failure.lines().len(), 1, "{failure:?}");
            failure.lines()[0].clone()
        };
        place.write("unseal", &"a5".repeat(32));
        assert!(fail().contains("keyring.json: the unseal secret is wrong"));
        place.write("unseal", &"5a".repeat(32));
        let text = std::fs::read_to_string(place.path("keyring.json")).unwrap();
        place.write(
            "keyring.json",
            &text.replace("\"generation\": 1", "\"generation\": 9"),
        );
        assert!(fail().contains("keyring.json: was edited"));
    }
}
