//! What holds in every key file.

use super::{KeyVersion, Keyring, State, name_mistake};

/// What all parts rely on, and every writer keeps.
pub(super) fn check(keyring: &Keyring) -> Result<(), String> {
    let mut names = std::collections::HashSet::new();
    let mut ids = std::collections::HashSet::new();
    for key in &keyring.keys {
        let name = &key.name;
        if name_mistake(name).is_some() || !names.insert(name) {
            return Err(format!("the key {name:?} is misnamed or stands twice"));
        }
        for versions in [&key.versions, &key.epochs] {
            check_versions(versions).map_err(|what| format!("the key {name:?}: {what}"))?;
            if !versions
                .iter()
                .all(|version| version.id.0 != 0 && ids.insert(version.id))
            {
                return Err(format!(
                    "the key {name:?} has an id that is zero or stands twice"
                ));
            }
        }
    }
    Ok(())
}

fn check_versions(versions: &[KeyVersion]) -> Result<(), &'static str> {
    if versions
        .iter()
        .filter(|version| version.state == State::Active)
        .count()
        > 1
    {
        return Err("two versions or two epochs are active");
    }
    let numbers = std::iter::once(0).chain(versions.iter().map(|version| version.number));
    if !numbers.is_sorted_by(|a, b| a < b) {
        return Err("versions or epochs are not in order");
    }
    let destroyed = |version: &KeyVersion| version.state == State::Destroyed;
    if versions
        .iter()
        .any(|version| destroyed(version) != version.material.is_none())
    {
        return Err("what is destroyed has material, or something else has none");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_file_that_contradicts_itself_is_refused() {
        let keyring = Keyring::generate(["default", "people"]).unwrap();
        assert_eq!(check(&keyring), Ok(()));
        type Change = fn(&mut Keyring);
        let changes: [Change; 6] = [
            |keyring| keyring.keys[0].name = "people".into(),
            |keyring| keyring.keys[0].versions[0].id = keyring.keys[1].epochs[0].id,
            |keyring| keyring.keys[0].versions[0].id.0 = 0,
            |keyring| keyring.keys[0].versions[0].material = None,
            |keyring| keyring.keys[0].epochs[0].number = 0,
            |keyring| {
                let mut second = keyring.keys[0].versions[0].clone();
                (second.id.0, second.number) = (second.id.0 ^ 0x0100, 2);
                keyring.keys[0].versions.push(second);
            },
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut changed = keyring.clone();
            change(&mut changed);
            assert!(check(&changed).is_err(), "change {index}");
        }
    }
}
