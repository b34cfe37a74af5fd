#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::keyring::check::check;

const STATES: [State; 5] = [
    State::Staged,
    State::Active,
    State::Retired,
    State::Disabled,
    State::Destroyed,
];
const STEPS: [Step; 4] = [Step::Promote, Step::Disable, Step::Enable, Step::Destroy];

fn which(part: Part, number: impl Into<Option<u32>>) -> Which {
    Which {
        key: "people".to_owned(),
        part,
        number: number.into(),
    }
}

/// A key whose second version and epoch are in `state`, and the third active.
fn keyring(state: State) -> Keyring {
    let mut keyring = Keyring::generate(["default", "people"]).unwrap();
    for part in [Part::Version, Part::Epoch] {
        for _ in 0..2 {
            keyring.stage("people", part, None).unwrap();
            let promoted = which(part, None);
            keyring.step(Step::Promote, &promoted).unwrap();
        }
        let line = keyring.named("people").unwrap().line_mut(part);
        line[0].state = State::Destroyed;
        line[0].material = None;
        line[1].state = state;
        match state {
            State::Active => line[2].state = State::Retired,
            State::Destroyed => line[1].material = None,
            _ => {}
        }
    }
    check(&keyring).unwrap();
    keyring
}

fn states(keyring: &Keyring, part: Part) -> Vec<State> {
    let key = keyring.key("people").unwrap();
    key.line(part).iter().map(|it| it.state).collect()
}

#[test]
fn each_step_is_taken_from_the_states_that_allow_it_and_no_other() {
    use State::{Active, Destroyed, Disabled, Retired, Staged};
    let mut legal = Vec::new();
    for part in [Part::Version, Part::Epoch] {
        for state in STATES {
            for step in STEPS {
                let mut keyring = keyring(state);
                let before = format!("{keyring:?}");
                let done = keyring.step(step, &which(part, 2));
                check(&keyring).unwrap();
                if let Ok(number) = done {
                    assert_eq!(number, 2);
                    legal.push((part, step, state, states(&keyring, part)[1]));
                } else {
                    assert_eq!(format!("{keyring:?}"), before);
                }
            }
        }
    }
    assert_eq!(
        legal,
        [
            (Part::Version, Step::Promote, Staged, Active),
            (Part::Version, Step::Disable, Staged, Disabled),
            (Part::Version, Step::Disable, Retired, Disabled),
            (Part::Version, Step::Destroy, Retired, Destroyed),
            (Part::Version, Step::Enable, Disabled, Retired),
            (Part::Version, Step::Destroy, Disabled, Destroyed),
            (Part::Epoch, Step::Promote, Staged, Active),
            (Part::Epoch, Step::Disable, Staged, Disabled),
            (Part::Epoch, Step::Disable, Retired, Disabled),
            (Part::Epoch, Step::Enable, Disabled, Staged),
            (Part::Epoch, Step::Destroy, Disabled, Destroyed),
        ]
    );
}

#[test]
fn a_refused_step_says_the_state_and_what_to_run() {
    let refused = |state, part, step| {
        let mut keyring = keyring(state);
        keyring.step(step, &which(part, 2)).unwrap_err().to_string()
    };
    for (state, part, step, says) in [
        (
            State::Active,
            Part::Version,
            Step::Disable,
            "fieldseal keys rotate people",
        ),
        (
            State::Active,
            Part::Version,
            Step::Destroy,
            "fieldseal keys rotate people",
        ),
        (
            State::Active,
            Part::Epoch,
            Step::Disable,
            "fieldseal migrate reindex",
        ),
        (
            State::Staged,
            Part::Version,
            Step::Destroy,
            "keys disable people --version 2",
        ),
        (
            State::Retired,
            Part::Epoch,
            Step::Destroy,
            "keys disable people --epoch 2",
        ),
        (
            State::Retired,
            Part::Version,
            Step::Promote,
            "fieldseal keys stage people",
        ),
        (
            State::Disabled,
            Part::Epoch,
            Step::Promote,
            "keys enable people --epoch 2",
        ),
        (
            State::Destroyed,
            Part::Version,
            Step::Enable,
            "cannot come back",
        ),
        (State::Retired, Part::Version, Step::Enable, "nothing to do"),
    ] {
        let said = refused(state, part, step);
        assert!(said.contains(says), "{says}: {said}");
        let subject = format!("{part} 2 of the key \"people\" is {}: ", state.word());
        assert!(said.starts_with(&subject), "{subject}: {said}");
    }
}

#[test]
fn one_version_seals_after_each_promotion_and_the_one_before_opens() {
    let mut keyring = Keyring::generate(["people"]).unwrap();
    assert_eq!(keyring.stage("people", Part::Version, None), Ok(2));
    assert_eq!(
        states(&keyring, Part::Version),
        [State::Active, State::Staged]
    );
    let again = keyring.stage("people", Part::Version, None).unwrap_err();
    assert!(
        again
            .to_string()
            .contains("keys promote people --version 2"),
        "{again}"
    );
    assert!(keyring.rotate("people", None).is_err());
    assert_eq!(
        keyring.step(Step::Promote, &which(Part::Version, None)),
        Ok(2)
    );
    assert_eq!(
        states(&keyring, Part::Version),
        [State::Retired, State::Active]
    );
    assert_eq!(states(&keyring, Part::Epoch), [State::Active]);
    let none = keyring
        .step(Step::Promote, &which(Part::Version, None))
        .unwrap_err();
    assert!(matches!(none, StepError::NoneMeant { .. }), "{none}");
    assert_eq!(
        none.to_string(),
        "the key \"people\" has no version to promote; it has version 1 (retired), version 2 (active)"
    );
}

#[test]
fn a_number_is_needed_only_where_several_can_be_meant() {
    let mut keyring = Keyring::generate(["people"]).unwrap();
    let none = which(Part::Version, None);
    keyring.rotate("people", None).unwrap();
    assert_eq!(keyring.step(Step::Disable, &none), Ok(1));
    assert_eq!(keyring.step(Step::Enable, &none), Ok(1));
    keyring.rotate("people", None).unwrap();
    let several = keyring.step(Step::Disable, &none).unwrap_err();
    assert_eq!(
        several.to_string(),
        "the key \"people\" has several versions to disable: version 1 (retired), version 2 (retired); say which with --version N"
    );
    let unknown = keyring
        .step(Step::Disable, &which(Part::Version, 9))
        .unwrap_err();
    assert!(
        unknown
            .to_string()
            .contains("version 9 of the key \"people\" is not there"),
        "{unknown}"
    );
    let other = Which {
        key: "peple".to_owned(),
        ..none
    };
    let unknown = keyring.step(Step::Disable, &other).unwrap_err();
    assert_eq!(unknown, StepError::UnknownKey("peple".to_owned()));
}

#[test]
fn what_is_destroyed_has_no_material_and_its_number_is_not_used_again() {
    let mut keyring = Keyring::generate(["people"]).unwrap();
    keyring.rotate("people", None).unwrap();
    keyring
        .step(Step::Destroy, &which(Part::Version, 1))
        .unwrap();
    let people = keyring.key("people").unwrap();
    assert!(people.versions[0].material.is_none());
    assert!(people.versions[1].material.is_some());
    keyring.stage("people", Part::Version, None).unwrap();
    keyring
        .step(Step::Disable, &which(Part::Version, 3))
        .unwrap();
    keyring
        .step(Step::Destroy, &which(Part::Version, 3))
        .unwrap();
    assert_eq!(keyring.stage("people", Part::Version, None), Ok(4));
    check(&keyring).unwrap();
}

#[test]
fn an_epoch_that_comes_back_is_staged_and_never_beside_another_staged_one() {
    let mut keyring = keyring(State::Disabled);
    keyring.stage("people", Part::Epoch, None).unwrap();
    let refused = keyring
        .step(Step::Enable, &which(Part::Epoch, 2))
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("index epoch 4 of the key \"people\" is staged already"),
        "{refused}"
    );
    keyring.step(Step::Disable, &which(Part::Epoch, 4)).unwrap();
    keyring.step(Step::Enable, &which(Part::Epoch, 2)).unwrap();
    keyring
        .step(Step::Promote, &which(Part::Epoch, None))
        .unwrap();
    assert_eq!(
        states(&keyring, Part::Epoch),
        [
            State::Destroyed,
            State::Active,
            State::Retired,
            State::Disabled
        ]
    );
}

#[test]
fn a_new_version_keeps_the_suite_unless_it_is_given_another() {
    let mut keyring = Keyring::generate(["people"]).unwrap();
    keyring.rotate("people", Some(Suite::Xaes256Gcm)).unwrap();
    keyring.rotate("people", None).unwrap();
    keyring.rotate("people", Some(Suite::Aes256Gcm)).unwrap();
    keyring
        .stage("people", Part::Epoch, Some(Suite::Xaes256Gcm))
        .unwrap();
    let people = keyring.key("people").unwrap();
    let suites: Vec<_> = people.versions.iter().map(|it| it.suite).collect();
    let xaes = Some(Suite::Xaes256Gcm);
    assert_eq!(suites, [None, xaes, xaes, Some(Suite::Aes256Gcm)]);
    assert!(people.epochs.iter().all(|it| it.suite.is_none()));
}
