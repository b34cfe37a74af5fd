//! A key file opens with its secret as it was written, or not at all.

use serde_json::{Value, json};

use super::{Place, assert_says};
use crate::support::error_text;

const READERS: [&[&str]; 7] = [
    &["serve"],
    &["check"],
    &["keys", "list"],
    &["keys", "rotate", "default"],
    &["keys", "stage", "default", "--epoch"],
    &["keys", "disable", "default"],
    &["keys", "reseal", "--unseal-env", "PATH"],
];

#[tokio::test]
async fn a_wrong_unseal_secret_is_told_and_changes_nothing() {
    for wrong in ["6b".repeat(32).as_str(), "a passphrase, not a key"] {
        let place = Place::new();
        let before = place.read("keyring.json");
        place.write("unseal", wrong);
        for command in READERS {
            let line = place.refused(command).await;
            assert_says(&line, &["keyring.json", "the unseal secret is wrong"]);
        }
        assert_eq!(place.read("keyring.json"), before);
    }
    let place = Place::new();
    place.write("unseal", "\n");
    let line = place.refused(&["serve"]).await;
    assert_says(&line, &["the unseal secret is empty"]);
}

/// An edit that someone could want to make by hand.
type Edit = fn(&mut Value);

#[tokio::test]
async fn an_edited_key_file_is_told() {
    let edits: [(&str, Edit); 7] = [
        ("a state", |file| {
            file["keys"][0]["versions"][0]["state"] = json!("active")
        }),
        ("both states", |file| {
            file["keys"][0]["versions"][0]["state"] = json!("active");
            file["keys"][0]["versions"][1]["state"] = json!("retired");
        }),
        ("a version dropped", |file| {
            file["keys"][0]["versions"]
                .as_array_mut()
                .unwrap()
                .remove(0);
        }),
        ("the newest version dropped", |file| {
            file["keys"][0]["versions"]
                .as_array_mut()
                .unwrap()
                .remove(1);
            file["keys"][0]["versions"][0]["state"] = json!("active");
        }),
        ("the generation", |file| file["generation"] = json!(99)),
        ("a time", |file| {
            file["keys"][0]["versions"][0]["created"] = json!("2020-01-01T00:00:00Z")
        }),
        ("one secret for another", |file| {
            file["keys"][0]["versions"][0]["wrapped"] =
                file["keys"][0]["versions"][1]["wrapped"].clone();
        }),
    ];
    let place = Place::new();
    let rotated = place.run(&["keys", "rotate", "default"]).await;
    assert!(rotated.status.success(), "{}", error_text(&rotated));
    let written = place.read("keyring.json");
    for (what, edit) in edits {
        let mut file: Value = serde_json::from_str(&written).unwrap();
        let before = file.clone();
        edit(&mut file);
        assert_ne!(file, before, "{what}");
        let edited = serde_json::to_string_pretty(&file).unwrap();
        place.write("keyring.json", &edited);
        for command in READERS {
            let line = place.refused(command).await;
            assert_says(&line, &["keyring.json", "was edited"]);
        }
        assert_eq!(place.read("keyring.json"), edited);
    }
    // Nothing opens under another name: that is what a wrong secret looks like as well.
    let mut file: Value = serde_json::from_str(&written).unwrap();
    file["keys"][0]["name"] = json!("other");
    place.write("keyring.json", file.to_string());
    let line = place.refused(&["check"]).await;
    assert_says(
        &line,
        &["keyring.json", "or edited so that nothing in it opens"],
    );
    // What is only written otherwise is not edited.
    let file: Value = serde_json::from_str(&written).unwrap();
    place.write("keyring.json", file.to_string());
    assert!(place.run(&["check"]).await.status.success());
}

#[tokio::test]
async fn a_key_file_with_one_flipped_bit_is_told_wherever_it_is() {
    let place = Place::new();
    let written = place.read("keyring.json").into_bytes();
    let step = written.len().div_ceil(60);
    for at in (0..written.len()).step_by(step) {
        let mut flipped = written.clone();
        flipped[at] ^= 1;
        place.write("keyring.json", &flipped);
        let line = place.refused(&["check"]).await;
        assert_says(&line, &["keyring.json: "]);
    }
    place.write("keyring.json", &written[..written.len() / 2]);
    let line = place.refused(&["serve"]).await;
    assert_says(&line, &["keyring.json: is not a key file"]);
}
