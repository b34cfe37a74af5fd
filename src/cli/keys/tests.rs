#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use super::init::Init;
use super::list::List;
use super::stage::Rotate;
use super::*;

/// A `keys` command line, but for the configuration file.
fn parsed(place: &Workplace, words: &[&str]) -> Command {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }
    let config = place.config();
    let (name, rest) = words.split_first().unwrap();
    let line = ["keys", name, "-c", config.to_str().unwrap()];
    let line = line.into_iter().chain(rest.iter().copied());
    <Line as clap::Parser>::try_parse_from(line)
        .unwrap()
        .command
}

/// Runs a command that must be done; gives what it says.
fn done(place: &Workplace, words: &[&str]) -> String {
    run(parsed(place, words)).unwrap().text
}

/// Runs a command that must be refused; gives the one line that says why.
fn refused(place: &Workplace, words: &[&str]) -> String {
    let failure = run(parsed(place, words)).unwrap_err();
    assert_eq!(failure.lines().len(), 1, "{failure:?}");
    failure.lines()[0].clone()
}

/// The states of the versions or epochs of the key `default`.
fn states(place: &Workplace, line: &str) -> Vec<String> {
    let line = listed(place)["keys"][0][line].clone();
    line.as_array()
        .unwrap()
        .iter()
        .map(|it| it["state"].as_str().unwrap().to_owned())
        .collect()
}

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
    stage::rotate(&Rotate {
        file: place.file(),
        name: Some(name.to_owned()),
        all: false,
        epoch: false,
        suite: None,
        json: false,
    })
}

fn try_init(place: &Workplace, keys: &[&str]) -> Result<Report, Failure> {
    init::run(&Init {
        file: place.file(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        suite: None,
        json: false,
    })
}

fn listed(place: &Workplace) -> serde_json::Value {
    let report = list::run(&List {
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
    let report = list::run(&List {
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
        epoch: false,
        suite: None,
        json: true,
    };
    let json: serde_json::Value = serde_json::from_str(&stage::rotate(&all).unwrap().text).unwrap();
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
        let failure = list::run(&List {
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

#[test]
fn a_version_goes_its_whole_way_by_commands() {
    let place = Workplace::new("life", "");
    init(&place);
    let said = done(&place, &["stage", "default"]);
    assert!(said.contains("`fieldseal keys promote default`"), "{said}");
    assert_eq!(states(&place, "versions"), ["active", "staged"]);
    assert!(refused(&place, &["stage", "default"]).contains("staged already"));
    assert!(refused(&place, &["rotate", "default"]).contains("staged already"));
    done(&place, &["promote", "default"]);
    assert_eq!(states(&place, "versions"), ["retired", "active"]);
    assert!(
        refused(&place, &["disable", "default", "--version", "2"]).contains("is active: it seals")
    );
    done(&place, &["disable", "default"]);
    assert_eq!(states(&place, "versions"), ["disabled", "active"]);
    done(&place, &["enable", "default", "--version", "1"]);
    assert_eq!(states(&place, "versions"), ["retired", "active"]);
    let said = done(&place, &["destroy", "default", "--version", "1", "--yes"]);
    assert!(said.contains("version 1 is destroyed"), "{said}");
    assert_eq!(states(&place, "versions"), ["destroyed", "active"]);
    assert!(refused(&place, &["enable", "default", "--version", "1"]).contains("cannot come back"));
    assert_eq!(listed(&place)["generation"], 6);
    let text = done(&place, &["list"]);
    assert!(
        text.starts_with("key") && text.contains("destroyed"),
        "{text}"
    );
}

#[test]
fn an_index_epoch_goes_its_whole_way_by_commands() {
    let place = Workplace::new("life-epoch", "");
    init(&place);
    assert!(
        refused(&place, &["rotate", "default", "--epoch"]).contains("fieldseal migrate reindex")
    );
    let said = done(&place, &["stage", "default", "--epoch"]);
    assert!(said.contains("fieldseal migrate reindex"), "{said}");
    assert_eq!(states(&place, "epochs"), ["active", "staged"]);
    done(&place, &["promote", "default", "--epoch", "--yes"]);
    assert_eq!(states(&place, "epochs"), ["retired", "active"]);
    assert!(
        refused(&place, &["destroy", "default", "--epoch", "1", "--yes"])
            .contains("disable it first")
    );
    done(&place, &["disable", "default", "--epoch", "1"]);
    done(&place, &["enable", "default", "--epoch", "1"]);
    assert_eq!(states(&place, "epochs"), ["staged", "active"]);
    done(&place, &["disable", "default", "--epoch", "1"]);
    done(&place, &["destroy", "default", "--epoch", "1", "--yes"]);
    assert_eq!(states(&place, "epochs"), ["destroyed", "active"]);
    assert_eq!(states(&place, "versions"), ["active"]);
}

#[test]
fn what_cannot_be_destroyed_is_told_before_anything_is_asked() {
    let place = Workplace::new("undestroyed", "");
    init(&place);
    rotate_key(&place, "default").unwrap();
    let before = std::fs::read(place.path("keyring.json")).unwrap();
    for (words, says) in [
        (["destroy", "default", "--version", "2"], "is active"),
        (["destroy", "default", "--version", "9"], "not there"),
        (["destroy", "peple", "--version", "1"], "no key \"peple\""),
        (["promote", "default", "--epoch", "1"], "nothing left to do"),
    ] {
        let line = refused(&place, &words);
        assert!(line.contains(says), "{says}: {line}");
    }
    assert_eq!(std::fs::read(place.path("keyring.json")).unwrap(), before);
}

#[test]
fn a_suite_is_given_to_versions_and_listed() {
    let place = Workplace::new("suites", "");
    done(&place, &["init", "--suite", "xaes-256-gcm"]);
    done(&place, &["stage", "default", "--suite", "aes-256-gcm"]);
    let listed = listed(&place);
    let suites = |number: usize| listed["keys"][0]["versions"][number]["suite"].clone();
    assert_eq!(
        (suites(0), suites(1)),
        ("xaes-256-gcm".into(), "aes-256-gcm".into())
    );
    assert!(listed["keys"][0]["versions"][0]["age_seconds"].is_u64());
    assert!(done(&place, &["list"]).contains("xaes-256-gcm"));
}

#[test]
fn a_file_is_resealed_with_a_secret_from_a_file_or_a_command() {
    let place = Workplace::new("reseal", "");
    init(&place);
    place.write("weak", "hunter2");
    place.write("new", &"6b".repeat(32));
    let path = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let before = std::fs::read(place.path("keyring.json")).unwrap();
    let line = refused(&place, &["reseal", "--unseal-file", &path("weak")]);
    assert!(line.contains("can be guessed"), "{line}");
    let line = refused(
        &place,
        &["reseal", "--unseal-env", "FIELDSEAL_TEST_NO_SUCH"],
    );
    assert!(line.contains("FIELDSEAL_TEST_NO_SUCH is not set"), "{line}");
    assert_eq!(std::fs::read(place.path("keyring.json")).unwrap(), before);

    done(&place, &["reseal", "--unseal-file", &path("new")]);
    assert!(refused(&place, &["list"]).contains("the unseal secret is wrong"));
    place.write("unseal", &"6b".repeat(32));
    assert_eq!(listed(&place)["generation"], 2);
    place.write("new", &"7c".repeat(32));
    done(&place, &["reseal", "--unseal-command", "cat", &path("new")]);
    place.write("unseal", &"7c".repeat(32));
    assert_eq!(listed(&place)["generation"], 3);
}
