//! Reading and writing the key file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::check::check;
use super::fault::{KeyringError, KeyringFault};
use super::kdf::{Kdf, KdfError, RootKeys};
use super::stored::{FORMAT, OpenError, StoredFile};
use super::{Keyring, UnsealSecret, name_mistake};

/// More than a million versions need.
const MAX_BYTES: u64 = 256 << 20;

/// A key file that is being changed: locked against other writers until dropped.
pub struct KeyFile {
    path: PathBuf,
    kdf: Kdf,
    root: RootKeys,
    keyring: Keyring,
    _lock: File,
}

impl KeyFile {
    /// Makes a new key file with a key for each of `names`.
    pub fn init<'n>(
        path: &Path,
        secret: &UnsealSecret,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Keyring, KeyringError> {
        Self::init_fault(path, secret, names).map_err(|fault| at(path, fault))
    }

    fn init_fault<'n>(
        path: &Path,
        secret: &UnsealSecret,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Keyring, KeyringFault> {
        if path.symlink_metadata().is_ok() {
            return Err(KeyringFault::Exists);
        }
        if secret.is_weak() {
            return Err(KeyringFault::WeakPassphrase);
        }
        let mut keyring = Keyring::generate([])?;
        for name in names {
            add(&mut keyring, name)?;
        }
        let kdf = Kdf::suited_to(secret)?;
        let file = Self {
            path: path.to_owned(),
            _lock: lock(path)?,
            root: kdf.root_keys(secret).map_err(|_| KeyringFault::Kdf)?,
            kdf,
            keyring,
        };
        // Again, now that no other process can make it.
        if path.symlink_metadata().is_ok() {
            return Err(KeyringFault::Exists);
        }
        file.save_fault()
    }

    /// Opens the key file for reading.
    pub fn open(path: &Path, secret: &UnsealSecret) -> Result<Keyring, KeyringError> {
        open(path, secret)
            .map(|(_, _, keyring)| keyring)
            .map_err(|fault| at(path, fault))
    }

    /// Opens the key file for changing it.
    pub fn edit(path: &Path, secret: &UnsealSecret) -> Result<Self, KeyringError> {
        Self::edit_fault(path, secret).map_err(|fault| at(path, fault))
    }

    fn edit_fault(path: &Path, secret: &UnsealSecret) -> Result<Self, KeyringFault> {
        // The file that a link leads to is replaced, not the link.
        let path = path.canonicalize().map_err(unreadable)?;
        let lock = lock(&path)?;
        let (kdf, root, keyring) = open(&path, secret)?;
        Ok(Self {
            path,
            kdf,
            root,
            keyring,
            _lock: lock,
        })
    }

    /// The keys, as they are to be saved.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Adds the key `name`, unless there is one.
    pub fn add(&mut self, name: &str) -> Result<(), KeyringError> {
        add(&mut self.keyring, name).map_err(|fault| at(&self.path, fault))
    }

    /// Gives the key `name` a new version that seals from now on; the one before still opens.
    pub fn rotate(&mut self, name: &str) -> Result<(), KeyringError> {
        let fault = match self.keyring.rotate(name) {
            Ok(true) => return Ok(()),
            Ok(false) => KeyringFault::UnknownKey(name.to_owned()),
            Err(error) => error.into(),
        };
        Err(at(&self.path, fault))
    }

    /// Writes the file anew, under the next generation.
    pub fn save(self) -> Result<Keyring, KeyringError> {
        let path = self.path.clone();
        self.save_fault().map_err(|fault| at(&path, fault))
    }

    fn save_fault(mut self) -> Result<Keyring, KeyringFault> {
        self.keyring.generation = self.keyring.generation.saturating_add(1);
        let stored = StoredFile::seal(&self.keyring, &self.kdf, &self.root)?;
        let mut text = serde_json::to_string_pretty(&stored)
            .map_err(|error| KeyringFault::Unwritable(error.into()))?;
        text.push('\n');
        replace(&self.path, text.as_bytes()).map_err(KeyringFault::Unwritable)?;
        Ok(self.keyring)
    }
}

/// Whether the file's mode lets its group or others read it.
pub fn readable_by_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
}

fn at(path: &Path, fault: KeyringFault) -> KeyringError {
    KeyringError {
        path: path.to_owned(),
        fault,
    }
}

fn unreadable(error: std::io::Error) -> KeyringFault {
    match error.kind() {
        std::io::ErrorKind::NotFound => KeyringFault::Missing,
        _ => KeyringFault::Unreadable(error),
    }
}

fn add(keyring: &mut Keyring, name: &str) -> Result<(), KeyringFault> {
    if let Some(what) = name_mistake(name) {
        return Err(KeyringFault::Name {
            name: name.to_owned(),
            what,
        });
    }
    keyring.add(name)?;
    Ok(())
}

fn open(path: &Path, secret: &UnsealSecret) -> Result<(Kdf, RootKeys, Keyring), KeyringFault> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    parse(&bytes, secret)
}

fn parse(bytes: &[u8], secret: &UnsealSecret) -> Result<(Kdf, RootKeys, Keyring), KeyringFault> {
    let malformed = |error: serde_json::Error| KeyringFault::Malformed(error.to_string());
    let stored: StoredFile = serde_json::from_slice(bytes).map_err(malformed)?;
    if stored.format != FORMAT {
        return Err(KeyringFault::Format(stored.format));
    }
    let root = stored.kdf.root_keys(secret).map_err(|error| match error {
        KdfError::OtherKind => KeyringFault::WrongSecret,
        KdfError::OutOfBounds => KeyringFault::Kdf,
    })?;
    let keyring = stored.open(&root).map_err(|error| match error {
        OpenError::WrongSecret => KeyringFault::WrongSecret,
        OpenError::Edited => KeyringFault::Edited,
    })?;
    check(&keyring).map_err(KeyringFault::Malformed)?;
    Ok((stored.kdf, root, keyring))
}

/// A file beside the key file, which stays: locking the key file itself would
/// not do, since each write puts another file in its place.
fn lock(path: &Path) -> Result<File, KeyringFault> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(KeyringFault::Unwritable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(KeyringFault::Locked),
        Err(TryLockError::Error(error)) => Err(KeyringFault::Unwritable(error)),
    }
}

/// Puts `bytes` in place of the file, so that a reader, or a machine that
/// stops half way, sees the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let new = directory.join(name);
    let written = write_new(&new, bytes).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        // What is left of it holds nothing that the old file does not.
        let _ = std::fs::remove_file(&new);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Left by a process of the same number that was killed half way.
    if path.symlink_metadata().is_ok() {
        std::fs::remove_file(path)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::keyring::State;

    /// A directory that goes when the test ends.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("fieldseal-{name}-{}", std::process::id()));
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
        file.add("people").unwrap();
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
        let edits: [(&str, Change); 7] = [
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
                v["keys"][0]["versions"][0]["wrapped"] =
                    v["keys"][0]["epochs"][0]["wrapped"].take();
                v["keys"][0]["epochs"][0]["wrapped"] = wrapped;
            }),
            ("the generation raised", |v| v["generation"] = 99.into()),
            ("a date changed", |v| {
                v["keys"][0]["versions"][0]["created"] = "2001-01-01T00:00:00Z".into()
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
        std::fs::set_permissions(directory.keyring(), std::fs::Permissions::from_mode(0o640))
            .unwrap();
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
}
