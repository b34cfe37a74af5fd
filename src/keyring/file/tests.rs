#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::keyring::{KeyId, Part, State, Step, Which};

/// A directory that goes when the test ends.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fieldseal-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn keyring(&self) -> PathBuf {
        self.0.join("keyring.json")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn key() -> UnsealSecret {
    UnsealSecret::parse(&[0xA5; 32]).unwrap()
}

fn other_key() -> UnsealSecret {
    UnsealSecret::parse(&[0xA6; 32]).unwrap()
}

fn fault(result: Result<Keyring, KeyringError>) -> KeyringFault {
    result.unwrap_err().fault
}

fn materials(keyring: &Keyring) -> Vec<(u32, u32, State, [u8; 32])> {
    let all = keyring
        .keys
        .iter()
        .flat_map(|key| key.versions.iter().chain(&key.epochs));
    all.map(|v| {
        (
            v.id.0,
            v.number,
            v.state,
            *v.material.as_ref().unwrap().expose(),
        )
    })
    .collect()
}

#[test]
fn what_was_written_is_read() {
    let directory = Directory::new("round-trip");
    let made = KeyFile::init(&directory.keyring(), &key(), ["default", "people"]).unwrap();
    let opened = KeyFile::open(&directory.keyring(), &key()).unwrap();
    assert_eq!(materials(&opened), materials(&made));
    assert_eq!((made.generation, opened.generation), (1, 1));
    assert_eq!(opened.keys.len(), 2);
}

#[test]
fn a_passphrase_opens_what_it_sealed() {
    let directory = Directory::new("passphrase");
    let passphrase = UnsealSecret::parse(b"correct horse battery staple\n").unwrap();
    let made = KeyFile::init(&directory.keyring(), &passphrase, ["default"]).unwrap();
    let again = UnsealSecret::parse(b"correct horse battery staple").unwrap();
    let opened = KeyFile::open(&directory.keyring(), &again).unwrap();
    assert_eq!(materials(&opened), materials(&made));
    let text = std::fs::read_to_string(directory.keyring()).unwrap();
    assert!(
        text.contains("\"argon2id\"") && text.contains("\"memory_kib\": 65536"),
        "{text}"
    );
    let wrong = UnsealSecret::parse(b"correct horse battery stapler").unwrap();
    assert!(matches!(
        fault(KeyFile::open(&directory.keyring(), &wrong)),
        KeyringFault::WrongSecret
    ));
}

#[test]
fn rotation_is_kept_and_the_generation_grows() {
    let directory = Directory::new("rotate");
    let made = KeyFile::init(&directory.keyring(), &key(), ["default"]).unwrap();
    let mut file = KeyFile::edit(&directory.keyring(), &key()).unwrap();
    file.rotate("default").unwrap();
    file.add("people", None).unwrap();
    assert!(matches!(
        file.rotate("nobody").unwrap_err().fault,
        KeyringFault::UnknownKey(_)
    ));
    file.save().unwrap();
    let opened = KeyFile::open(&directory.keyring(), &key()).unwrap();
    assert_eq!(opened.generation, 2);
    let default = opened.key("default").unwrap();
    assert_eq!(default.active().unwrap().number, 2);
    let first = made.key("default").unwrap().active().unwrap();
    let (_, kept) = opened.version(first.id).unwrap();
    assert_eq!(kept.state, State::Retired);
    assert_eq!(
        kept.material.as_ref().unwrap().expose(),
        first.material.as_ref().unwrap().expose()
    );
    assert_eq!(
        opened.key("people").unwrap().active_epoch().unwrap().number,
        1
    );
}

#[test]
fn a_wrong_secret_is_told_from_an_edited_file() {
    let directory = Directory::new("wrong");
    KeyFile::init(&directory.keyring(), &key(), ["default"]).unwrap();
    assert!(matches!(
        fault(KeyFile::open(&directory.keyring(), &other_key())),
        KeyringFault::WrongSecret
    ));
    let passphrase = UnsealSecret::parse(b"a passphrase instead").unwrap();
    assert!(matches!(
        fault(KeyFile::open(&directory.keyring(), &passphrase)),
        KeyringFault::WrongSecret
    ));

    let text = std::fs::read_to_string(directory.keyring()).unwrap();
    std::fs::write(
        directory.keyring(),
        text.replace("\"active\"", "\"retired\""),
    )
    .unwrap();
    let edited = KeyFile::open(&directory.keyring(), &key()).unwrap_err();
    assert!(matches!(edited.fault, KeyringFault::Edited));
    let line = edited.to_string();
    assert!(
        line.contains("keyring.json: was edited") && !line.contains('\n'),
        "{line}"
    );
}

#[test]
fn every_byte_of_the_file_counts() {
    let directory = Directory::new("flip");
    KeyFile::init(&directory.keyring(), &key(), ["default", "people"]).unwrap();
    let mut file = KeyFile::edit(&directory.keyring(), &key()).unwrap();
    file.rotate("people").unwrap();
    file.save().unwrap();
    let mut bytes = std::fs::read(directory.keyring()).unwrap();
    assert!(parse(&bytes, &key()).is_ok());
    // The last byte is a line break after the JSON.
    for at in 0..bytes.len() {
        for mask in [0x01, 0x20, 0x80] {
            bytes[at] ^= mask;
            assert!(
                parse(&bytes, &key()).is_err(),
                "byte {at} with mask {mask:#x}"
            );
            bytes[at] ^= mask;
        }
    }
    for length in 0..bytes.len() - 1 {
        assert!(parse(&bytes[..length], &key()).is_err(), "cut to {length}");
    }
}

fn edit(bytes: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> KeyringFault {
    let mut value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    change(&mut value);
    parse(&serde_json::to_vec(&value).unwrap(), &key())
        .map(|_| ())
        .unwrap_err()
}

#[test]
fn nothing_in_the_file_can_be_moved_dropped_or_added() {
    let directory = Directory::new("swap");
    KeyFile::init(&directory.keyring(), &key(), ["default", "people", "logs"]).unwrap();
    let mut file = KeyFile::edit(&directory.keyring(), &key()).unwrap();
    file.rotate("people").unwrap();
    file.save().unwrap();
    let bytes = std::fs::read(directory.keyring()).unwrap();
    type Change = fn(&mut serde_json::Value);
    let edits: [(&str, Change); 8] = [
        ("a version dropped", |v| {
            drop(v["keys"][1]["versions"].as_array_mut().unwrap().pop())
        }),
        ("a key dropped", |v| {
            drop(v["keys"].as_array_mut().unwrap().pop())
        }),
        ("names swapped", |v| {
            v["keys"][0]["name"] = "people".into();
            v["keys"][1]["name"] = "default".into();
        }),
        ("secrets swapped", |v| {
            let wrapped = v["keys"][0]["versions"][0]["wrapped"].take();
            v["keys"][0]["versions"][0]["wrapped"] = v["keys"][0]["epochs"][0]["wrapped"].take();
            v["keys"][0]["epochs"][0]["wrapped"] = wrapped;
        }),
        ("the generation raised", |v| v["generation"] = 99.into()),
        ("a date changed", |v| {
            v["keys"][0]["versions"][0]["created"] = "2001-01-01T00:00:00Z".into()
        }),
        ("a suite given", |v| {
            v["keys"][1]["versions"][0]["suite"] = "aes-256-gcm".into()
        }),
        ("a state changed", |v| {
            v["keys"][1]["versions"][0]["state"] = "disabled".into()
        }),
    ];
    for (name, change) in edits {
        assert!(
            matches!(edit(&bytes, change), KeyringFault::Edited),
            "{name}"
        );
    }
    for (name, change) in [
        (
            "an unknown key",
            (|v| v["keys"][0]["note"] = "x".into()) as Change,
        ),
        ("an unknown key of the kdf", |v| {
            v["kdf"]["note"] = "x".into()
        }),
        ("an unknown state", |v| {
            v["keys"][0]["versions"][0]["state"] = "lost".into()
        }),
    ] {
        assert!(
            matches!(edit(&bytes, change), KeyringFault::Malformed(_)),
            "{name}"
        );
    }
    assert!(matches!(
        edit(&bytes, |v| v["format"] = "fieldseal-keyring/2".into()),
        KeyringFault::Format(_)
    ));
    assert!(matches!(
        edit(&bytes, |v| v["kdf"]["salt"] = "AAAA".into()),
        KeyringFault::Kdf
    ));
}

#[test]
fn a_wrapped_secret_opens_in_its_own_place_only() {
    let directory = Directory::new("place");
    KeyFile::init(&directory.keyring(), &key(), ["default"]).unwrap();
    let bytes = std::fs::read(directory.keyring()).unwrap();
    // With every secret out of its place nothing opens, as under a wrong secret.
    let fault = edit(&bytes, |v| v["keys"][0]["name"] = "people".into());
    assert!(matches!(fault, KeyringFault::WrongSecret));
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let directory = Directory::new("exists");
    KeyFile::init(&directory.keyring(), &key(), ["default"]).unwrap();
    let before = std::fs::read(directory.keyring()).unwrap();
    assert!(matches!(
        fault(KeyFile::init(&directory.keyring(), &key(), ["default"])),
        KeyringFault::Exists
    ));
    assert_eq!(std::fs::read(directory.keyring()).unwrap(), before);
}

#[test]
fn only_its_owner_reads_the_file_and_nothing_else_is_left() {
    let directory = Directory::new("mode");
    KeyFile::init(&directory.keyring(), &key(), ["default"]).unwrap();
    assert!(!readable_by_others(&directory.keyring()));
    let mut names: Vec<_> = std::fs::read_dir(&directory.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["keyring.json", "keyring.json.lock"]);
    std::fs::set_permissions(directory.keyring(), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(readable_by_others(&directory.keyring()));
}

#[test]
fn two_writers_do_not_meet() {
    let directory = Directory::new("lock");
    KeyFile::init(&directory.keyring(), &key(), ["default"]).unwrap();
    let first = KeyFile::edit(&directory.keyring(), &key()).unwrap();
    let second = KeyFile::edit(&directory.keyring(), &key())
        .err()
        .map(|error| error.fault);
    assert!(matches!(second, Some(KeyringFault::Locked)));
    assert!(KeyFile::open(&directory.keyring(), &key()).is_ok());
    drop(first);
    assert!(KeyFile::edit(&directory.keyring(), &key()).is_ok());
}

#[test]
fn a_link_to_the_key_file_stays_a_link() {
    let directory = Directory::new("link");
    KeyFile::init(&directory.keyring(), &key(), ["default"]).unwrap();
    let link = directory.0.join("link.json");
    std::os::unix::fs::symlink(directory.keyring(), &link).unwrap();
    KeyFile::edit(&link, &key()).unwrap().save().unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(
        KeyFile::open(&directory.keyring(), &key())
            .unwrap()
            .generation,
        2
    );
}

#[test]
fn weak_passphrases_bad_names_and_missing_files_are_refused() {
    let directory = Directory::new("refused");
    let path = directory.keyring();
    let weak = UnsealSecret::parse(b"hunter2").unwrap();
    assert!(matches!(
        fault(KeyFile::init(&path, &weak, ["default"])),
        KeyringFault::WeakPassphrase
    ));
    assert!(matches!(
        fault(KeyFile::init(&path, &key(), ["no spaces"])),
        KeyringFault::Name { .. }
    ));
    assert!(!path.exists());
    assert!(matches!(
        fault(KeyFile::open(&path, &key())),
        KeyringFault::Missing
    ));
    let nowhere = directory.0.join("missing/keyring.json");
    assert!(matches!(
        fault(KeyFile::init(&nowhere, &key(), ["default"])),
        KeyringFault::Unwritable(_)
    ));
}

#[test]
fn a_file_from_before_there_were_suites_is_read_and_goes_on() {
    let directory = Directory::new("old");
    std::fs::write(directory.keyring(), include_bytes!("old.json")).unwrap();
    let opened = KeyFile::open(&directory.keyring(), &key()).unwrap();
    let (_, retired) = opened.version(KeyId(490_379_132)).unwrap();
    assert_eq!((retired.state, retired.suite), (State::Retired, None));
    let mut file = KeyFile::edit(&directory.keyring(), &key()).unwrap();
    let suite = Some(Suite::Xaes256Gcm);
    file.change(|keyring| keyring.stage("default", Part::Version, suite))
        .unwrap();
    file.save().unwrap();
    let text = std::fs::read_to_string(directory.keyring()).unwrap();
    assert_eq!(text.matches("\"suite\": \"xaes-256-gcm\"").count(), 1);
    let opened = KeyFile::open(&directory.keyring(), &key()).unwrap();
    let suites: Vec<_> = opened.keys[0].versions.iter().map(|v| v.suite).collect();
    assert_eq!(suites, [None, None, suite]);
    for (from, to) in [
        ("\"xaes-256-gcm\"", "\"aes-256-gcm\""),
        ("\"suite\": \"xaes-256-gcm\",", ""),
    ] {
        let fault = parse(text.replace(from, to).as_bytes(), &key()).map(|_| ());
        assert!(matches!(fault, Err(KeyringFault::Edited)), "{to}");
    }
}

#[test]
fn an_old_copy_put_back_is_refused_by_every_process_until_its_mark_is_removed() {
    let directory = Directory::new("back");
    let path = directory.keyring();
    KeyFile::init(&path, &key(), ["default"]).unwrap();
    let old = std::fs::read(&path).unwrap();
    let mut file = KeyFile::edit(&path, &key()).unwrap();
    file.rotate("default").unwrap();
    file.save().unwrap();
    let new = std::fs::read(&path).unwrap();

    std::fs::write(&path, &old).unwrap();
    let refused = KeyFile::open(&path, &key()).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("went back from generation 2 to 1"), "{said}");
    assert!(
        said.contains("remove ") && said.ends_with("keyring.json.lock"),
        "{said}"
    );
    let edited = KeyFile::edit(&path, &key()).err().map(|error| error.fault);
    assert!(matches!(
        edited,
        Some(KeyringFault::WentBack {
            newest: 2,
            found: 1,
            ..
        })
    ));

    std::fs::write(&path, &new).unwrap();
    assert_eq!(KeyFile::open(&path, &key()).unwrap().generation, 2);
    std::fs::write(&path, &old).unwrap();
    std::fs::remove_file(directory.0.join("keyring.json.lock")).unwrap();
    assert_eq!(KeyFile::open(&path, &key()).unwrap().generation, 1);
}

#[test]
fn a_reader_can_remember_what_it_saw_and_a_new_key_file_begins_anew() {
    let directory = Directory::new("remember");
    let path = directory.keyring();
    KeyFile::init(&path, &key(), ["default"]).unwrap();
    let first = std::fs::read(&path).unwrap();
    for _ in 0..3 {
        KeyFile::edit(&path, &key()).unwrap().save().unwrap();
    }
    // As on another machine, to which copies of the file are sent.
    std::fs::remove_file(directory.0.join("keyring.json.lock")).unwrap();
    KeyFile::remember(&path, KeyFile::open(&path, &key()).unwrap().generation).unwrap();
    std::fs::write(&path, first).unwrap();
    assert!(matches!(
        fault(KeyFile::open(&path, &key())),
        KeyringFault::WentBack {
            newest: 4,
            found: 1,
            ..
        }
    ));
    std::fs::remove_file(&path).unwrap();
    KeyFile::init(&path, &key(), ["default"]).unwrap();
    assert_eq!(KeyFile::open(&path, &key()).unwrap().generation, 1);
    std::fs::write(directory.0.join("keyring.json.lock"), "generation").unwrap();
    let said = KeyFile::open(&path, &key()).unwrap_err().to_string();
    assert!(
        said.contains("keyring.json.lock, which is damaged"),
        "{said}"
    );
}

#[test]
fn a_resealed_file_opens_with_the_new_secret_alone_and_has_the_same_keys() {
    let directory = Directory::new("reseal");
    let path = directory.keyring();
    let made = KeyFile::init(&path, &key(), ["default", "people"]).unwrap();
    let passphrase = || UnsealSecret::parse(b"a passphrase that is long").unwrap();
    let reseal = |old: &UnsealSecret, new: &UnsealSecret| {
        let mut file = KeyFile::edit(&path, old).unwrap();
        file.reseal(new)?;
        file.save()
    };
    let weak = UnsealSecret::parse(b"hunter2").unwrap();
    assert!(matches!(
        fault(reseal(&key(), &weak)),
        KeyringFault::WeakPassphrase
    ));
    assert_eq!(KeyFile::open(&path, &key()).unwrap().generation, 1);

    let before = std::fs::read_to_string(&path).unwrap();
    for (old, new) in [
        (key(), passphrase()),
        (passphrase(), other_key()),
        (other_key(), key()),
    ] {
        reseal(&old, &new).unwrap();
        assert!(matches!(
            fault(KeyFile::open(&path, &old)),
            KeyringFault::WrongSecret
        ));
        let opened = KeyFile::open(&path, &new).unwrap();
        assert_eq!(materials(&opened), materials(&made));
    }
    // Nothing of the file under the first secret is in the last one, which is under the same.
    let after = std::fs::read_to_string(&path).unwrap();
    let long = before
        .split('"')
        .filter(|word| word.len() > 20 && !word.contains(':'));
    for word in long.filter(|word| !word.contains(' ')) {
        assert!(!after.contains(word), "{word}");
    }
}

#[test]
fn what_is_destroyed_is_nowhere_in_the_file() {
    let directory = Directory::new("destroyed");
    let path = directory.keyring();
    KeyFile::init(&path, &key(), ["default"]).unwrap();
    let mut file = KeyFile::edit(&path, &key()).unwrap();
    file.rotate("default").unwrap();
    let first = Which {
        key: "default".to_owned(),
        part: Part::Version,
        number: Some(1),
    };
    file.change(|keyring| keyring.step(Step::Destroy, &first))
        .unwrap();
    file.save().unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let version = &stored["keys"][0]["versions"][0];
    assert_eq!(
        (&version["state"], &version["wrapped"]),
        (&"destroyed".into(), &serde_json::Value::Null)
    );
    let opened = KeyFile::open(&path, &key()).unwrap();
    assert!(opened.keys[0].versions[0].material.is_none());
    let mut file = KeyFile::edit(&path, &key()).unwrap();
    let error = file
        .change(|keyring| keyring.step(Step::Enable, &first))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("keyring.json: version 1 of the key \"default\" is destroyed"),
        "{error}"
    );
}

#[test]
fn what_would_not_be_read_again_is_not_written() {
    let directory = Directory::new("contradiction");
    let path = directory.keyring();
    KeyFile::init(&path, &key(), ["default"]).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut file = KeyFile::edit(&path, &key()).unwrap();
    file.keyring.keys[0].versions[0].material = None;
    assert!(matches!(fault(file.save()), KeyringFault::Contradiction(_)));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
