//! What is wrong is told in one line that names the place and the remedy.

use std::net::TcpListener;

use serde_json::json;

use super::{Place, SECRET, assert_says, one_line, run};
use crate::support::error_text;

#[tokio::test]
async fn an_unknown_key_of_the_configuration_is_told_with_the_nearest_known_one() {
    for (section, known) in [
        ("[limits]\nconections = 5\n", "connections"),
        ("[keyrng]\nfile = \"x\"\n", "keyring"),
    ] {
        let place = Place::new();
        let text = place.read("fieldseal.toml") + section;
        place.write("fieldseal.toml", &text);
        for command in [&["serve"][..], &["check"], &["keys", "list"]] {
            let line = place.refused(command).await;
            let known = format!("did you mean `{known}`?");
            assert_says(&line, &["fieldseal.toml:", &known]);
        }
    }
}

#[tokio::test]
async fn a_secret_in_the_place_of_its_source_is_not_repeated() {
    let place = Place::new();
    let secret = "hunter2 and more of it";
    let inline = format!("\"{secret}\"");
    place.edit("fieldseal.toml", "{ file = \"unseal\" }", &inline);
    let line = place.refused(&["check"]).await;
    assert_says(&line, &["fieldseal.toml:", "keyring.unseal"]);
    assert!(!line.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn an_unknown_word_of_the_schema_is_told_with_the_nearest_known_one() {
    for (from, to, known) in [
        ("\"string\"", "\"strng\"", "did you mean \"string\"?"),
        ("\"equality\"", "\"equalty\"", "did you mean \"equality\"?"),
        ("queries", "querys", "did you mean `queries`?"),
    ] {
        let place = Place::new();
        place.edit("schema.toml", from, to);
        for command in [&["serve"][..], &["check"]] {
            let line = place.refused(command).await;
            assert_says(&line, &["schema.toml:", known]);
        }
    }
}

#[tokio::test]
async fn a_port_in_use_is_told() {
    let place = Place::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    place.edit("fieldseal.toml", "127.0.0.1:0", &address);
    let line = place.refused(&["serve"]).await;
    assert_says(&line, &[&address, "in use", "listen"]);
}

#[tokio::test]
async fn a_file_that_is_missing_is_named() {
    for (missing, said) in [
        ("fieldseal.toml", "cannot be read"),
        ("schema.toml", "cannot be read"),
        ("keyring.json", "fieldseal keys init"),
        ("unseal", "cannot be read"),
    ] {
        let place = Place::new();
        std::fs::remove_file(place.path(missing)).unwrap();
        for command in ["serve", "check"] {
            let line = place.refused(&[command]).await;
            assert_says(&line, &[missing, said]);
        }
    }
    let place = Place::new();
    let unset = "{ env = \"FIELDSEAL_TEST_UNSET\" }";
    place.edit("fieldseal.toml", "{ file = \"unseal\" }", unset);
    let line = place.refused(&["serve"]).await;
    assert_says(&line, &["FIELDSEAL_TEST_UNSET", "not set"]);
}

#[tokio::test]
async fn a_key_that_the_schema_names_and_the_key_file_has_not_is_told_with_what_makes_it() {
    let place = Place::new();
    place.edit(
        "schema.toml",
        "address = {}",
        "address = { key = \"homes\" }",
    );
    for command in ["serve", "check"] {
        let line = place.refused(&[command]).await;
        assert_says(
            &line,
            &["keyring.json", "homes", "fieldseal keys rotate homes"],
        );
    }
    let made = place.run(&["keys", "rotate", "homes"]).await;
    assert!(made.status.success(), "{}", error_text(&made));
    let checked = place.run(&["check"]).await;
    assert!(checked.status.success(), "{}", error_text(&checked));
}

#[tokio::test]
async fn keys_init_does_not_overwrite_a_key_file() {
    let place = Place::new();
    let before = place.read("keyring.json");
    let line = place.refused(&["keys", "init"]).await;
    assert_says(&line, &["keyring.json", "exists already"]);
    assert_eq!(place.read("keyring.json"), before);
}

#[tokio::test]
async fn wrong_usage_is_exit_code_2() {
    for usage in [
        &[][..],
        &["sreve"],
        &["serve", "--nosuch"],
        &["keys", "rotate"],
    ] {
        let output = run(usage, &[]).await;
        let error = error_text(&output);
        assert_eq!(output.status.code(), Some(2), "{usage:?}: {error}");
        assert!(
            error.contains("Usage:") && !error.contains("panicked"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn check_prints_what_is_sealed_as_a_table_and_as_json() {
    let place = Place::new();
    let output = place.run(&["check"]).await;
    assert!(output.status.success(), "{}", error_text(&output));
    let table = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0][..4], ["namespace", "field", "type", "queries"]);
    assert_eq!(lines[1][..4], ["cli_*.people", "ssn", "string", "equality"]);
    assert_eq!(lines[2][..3], ["cli_*.people", "address", "any"]);
    assert!(table.contains("2 fields of 1 collection sealed"), "{table}");
    let offline = place.run(&["check", "--offline"]).await;
    assert_eq!(error_text(&offline), "");

    let output = place.run(&["check", "--json"]).await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["generation"], 1);
    assert_eq!(json["fields"][0]["field"], "ssn");
    assert_eq!(json["fields"][0]["queries"], json!(["equality"]));
    let all = table + &json.to_string();
    for secret in place.secrets() {
        assert!(!all.contains(&secret));
    }
    assert!(place.secrets().iter().any(|secret| secret.contains(SECRET)));
}

#[tokio::test]
async fn the_demo_says_when_there_is_no_mongod_and_leaves_nothing() {
    let place = Place::new();
    let folder = place.path("tmp");
    std::fs::create_dir(&folder).unwrap();
    let nowhere = place.path("no mongod");
    let environment = [("FIELDSEAL_MONGOD", &*nowhere), ("TMPDIR", &*folder)];
    let mut output = run(["demo", "--exit"], &environment).await;
    // The tour has begun by then.
    output.stdout.clear();
    let line = one_line(&output, &[]);
    assert_says(&line, &["no mongod", "FIELDSEAL_MONGOD"]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}
