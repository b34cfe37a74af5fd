#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::policy::fixture;
use crate::seal::FieldId;

/// `ssn` of `shop.customers`, with equality, with nothing counted.
fn field() -> FieldCensus {
    let collection = fixture::policy().collection("shop.customers").unwrap();
    let rule = crate::schema::CollectionRule {
        pattern: "shop.customers".to_owned(),
        identity: None,
        on_plaintext: OnPlaintext::Reject,
        tree: crate::schema::Tree::default(),
        fields: vec![fixture::field("ssn", crate::schema::Types::ANY, true)],
    };
    let census = crate::migrate::census::Census::new(&rule, collection);
    census.fields.into_iter().next().unwrap()
}

fn lines(keyring: &Keyring, on_plaintext: OnPlaintext, field: &FieldCensus) -> Vec<String> {
    let counted = Counted {
        namespace: "shop.customers",
        on_plaintext,
        field,
        keyring,
    };
    counted.tasks().iter().map(Task::line).collect()
}

/// What is said of values under version 1 when it is in `state`.
fn under(state: State) -> Vec<String> {
    let mut keyring = fixture::keyring();
    keyring.keys[0].versions[0].state = state;
    let mut field = field();
    field.sealed.insert(KeyId(1), 5);
    field.tokens.insert(1, 5);
    lines(&keyring, OnPlaintext::Reject, &field)
}

#[track_caller]
fn says(lines: &[String], parts: &[&str]) {
    let [line] = lines else {
        panic!("one line: {lines:?}")
    };
    for part in parts {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(line.starts_with("shop.customers `ssn`: "), "{line}");
}

#[test]
fn each_state_of_a_key_version_has_its_remedy() {
    assert!(under(State::Active).is_empty());
    says(
        &under(State::Retired),
        &["5 values", "fieldseal migrate rotate shop.customers"],
    );
    says(
        &under(State::Staged),
        &["staged here", "fieldseal keys promote default"],
    );
    says(
        &under(State::Disabled),
        &[
            "default version 1, which is disabled",
            "fieldseal keys enable default --version 1",
        ],
    );
    says(&under(State::Destroyed), &["destroyed", "lost"]);
}

#[test]
fn a_key_that_is_not_in_the_file_is_told_by_its_id() {
    let mut field = field();
    field.sealed.insert(KeyId(77), 1);
    field.tokens.insert(1, 1);
    let lines = lines(&fixture::keyring(), OnPlaintext::Reject, &field);
    says(
        &lines,
        &["1 value under key id 77, which is not in the key file"],
    );
}

#[test]
fn values_under_another_key_than_the_fields_are_to_be_rotated() {
    let mut field = field();
    field.key = "people".to_owned();
    field.sealed.insert(KeyId(2), 1);
    let lines = lines(&fixture::keyring(), OnPlaintext::Reject, &field);
    says(&lines, &["not the field's key any more", "migrate rotate"]);
}

#[test]
fn plaintext_is_to_be_sealed_as_the_schema_says() {
    let mut field = field();
    field.plain = 3;
    let keyring = fixture::keyring();
    says(
        &lines(&keyring, OnPlaintext::Allow, &field),
        &[
            "3 values in plain",
            "`fieldseal migrate encrypt shop.customers`",
        ],
    );
    says(
        &lines(&keyring, OnPlaintext::Reject, &field),
        &[
            "cannot be read",
            "on_plaintext = \"allow\"",
            "migrate encrypt",
        ],
    );
}

#[test]
fn on_the_way_out_what_is_still_sealed_is_to_be_opened_and_plaintext_is_right() {
    let mut keyring = fixture::keyring();
    keyring.keys[0].versions[0].state = State::Retired;
    let mut field = field();
    field.plain = 3;
    assert!(lines(&keyring, OnPlaintext::Store, &field).is_empty());
    field.sealed.insert(KeyId(1), 5);
    says(
        &lines(&keyring, OnPlaintext::Store, &field),
        &[
            "5 values still sealed",
            "`fieldseal migrate decrypt shop.customers`",
        ],
    );
}

#[test]
fn every_epoch_that_is_written_is_to_be_full_and_no_other_is_to_be_left() {
    let mut keyring = fixture::keyring();
    let mut field = field();
    field.sealed.insert(KeyId(2), 5);
    field.tokens.insert(1, 4);
    let reindex = "fieldseal migrate reindex shop.customers";
    let says_of = |keyring: &Keyring, field: &FieldCensus, part: &str| {
        says(
            &lines(keyring, OnPlaintext::Reject, field),
            &[part, reindex],
        );
    };
    says_of(
        &keyring,
        &field,
        "1 value without a token of index epoch 1, which is active",
    );
    field.tokens.insert(1, 5);
    assert!(lines(&keyring, OnPlaintext::Reject, &field).is_empty());

    let mut second = keyring.keys[0].epochs[0].clone();
    second.number = 2;
    second.state = State::Staged;
    keyring.keys[0].epochs.push(second);
    says_of(
        &keyring,
        &field,
        "5 values without a token of index epoch 2, which is staged",
    );
    field.tokens.insert(2, 5);
    assert!(lines(&keyring, OnPlaintext::Reject, &field).is_empty());

    keyring.keys[0].epochs[0].state = State::Disabled;
    keyring.keys[0].epochs[1].state = State::Active;
    says_of(
        &keyring,
        &field,
        "5 values with a token of index epoch 1, which is disabled",
    );
    field.tokens.remove(&1);
    field.tokens.insert(9, 2);
    says_of(
        &keyring,
        &field,
        "2 values with a token of index epoch 9, which is not in the key file",
    );
}

#[test]
fn an_epoch_is_promoted_when_it_is_full_and_the_one_before_it_disabled_after() {
    let mut keyring = fixture::keyring();
    let mut second = keyring.keys[0].epochs[0].clone();
    second.number = 2;
    second.state = State::Staged;
    keyring.keys[0].epochs.push(second);
    let of = |keyring: &Keyring, lacking: u64| {
        let name = || "default".to_owned();
        let lacking = BTreeMap::from([((name(), 1), 0), ((name(), 2), lacking)]);
        let tasks = epochs(keyring, &lacking);
        tasks.iter().map(Task::line).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(of(&keyring, 1), "");
    assert!(of(&keyring, 0).contains("`fieldseal keys promote default --epoch`"));
    keyring.keys[0].epochs[0].state = State::Retired;
    keyring.keys[0].epochs[1].state = State::Active;
    assert!(of(&keyring, 0).contains("`fieldseal keys disable default --epoch 1`"));
}

#[test]
fn values_of_another_field_and_damaged_ones_are_told() {
    let mut field = field();
    field.foreign.insert(FieldId::of("a", "b"), 2);
    let keyring = fixture::keyring();
    says(
        &lines(&keyring, OnPlaintext::Reject, &field),
        &["2 values", "check --against"],
    );
    field.foreign.clear();
    field.damaged = 1;
    says(
        &lines(&keyring, OnPlaintext::Reject, &field),
        &["1 value damaged"],
    );
}

#[test]
fn names_do_not_reach_the_terminal_as_commands() {
    let line = Task::new("\u{1b}[2J", "x", "y").line();
    assert!(!line.contains('\u{1b}'), "{line:?}");
}
