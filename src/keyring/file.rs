//! Reading and writing the key file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::check::check;
use super::fault::{KeyringError, KeyringFault};
use super::kdf::{Kdf, KdfError, RootKeys};
use super::mark::{self, Lock};
use super::stored::{FORMAT, OpenError, StoredFile};
use super::{Keyring, StepError, Suite, UnsealSecret, name_mistake};

/// More than a million versions need.
const MAX_BYTES: u64 = 256 << 20;

/// A key file that is being changed: locked against other writers until dropped.
pub struct KeyFile {
    path: PathBuf,
    kdf: Kdf,
    root: RootKeys,
    keyring: Keyring,
    lock: Lock,
}

impl KeyFile {
    /// Makes a new key file with a key for each of `names`.
    pub fn init<'n>(
        path: &Path,
        secret: &UnsealSecret,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Keyring, KeyringError> {
        Self::create(path, secret, names, None)
    }

    /// The same, with the suite of the first versions.
    pub fn create<'n>(
        path: &Path,
        secret: &UnsealSecret,
        names: impl IntoIterator<Item = &'n str>,
        suite: Option<Suite>,
    ) -> Result<Keyring, KeyringError> {
        Self::create_fault(path, secret, names, suite).map_err(|fault| at(path, fault))
    }

    fn create_fault<'n>(
        path: &Path,
        secret: &UnsealSecret,
        names: impl IntoIterator<Item = &'n str>,
        suite: Option<Suite>,
    ) -> Result<Keyring, KeyringFault> {
        if path.symlink_metadata().is_ok() {
            return Err(KeyringFault::Exists);
        }
        if secret.is_weak() {
            return Err(KeyringFault::WeakPassphrase);
        }
        let mut keyring = Keyring::generate([])?;
        for name in names {
            add(&mut keyring, name, suite)?;
        }
        let kdf = Kdf::suited_to(secret)?;
        let file = Self {
            path: path.to_owned(),
            lock: Lock::take(path)?,
            root: kdf.root_keys(secret).map_err(|_| KeyringFault::Kdf)?,
            kdf,
            keyring,
        };
        // Again, now that no other process can make it.
        if path.symlink_metadata().is_ok() {
            return Err(KeyringFault::Exists);
        }
        file.lock.forget().map_err(KeyringFault::Unwritable)?;
        file.save_fault()
    }

    /// Opens the key file for reading.
    pub fn open(path: &Path, secret: &UnsealSecret) -> Result<Keyring, KeyringError> {
        open_newest(path, secret)
            .map(|(_, _, keyring)| keyring)
            .map_err(|fault| at(path, fault))
    }

    /// Notes beside the key file that this `generation` of it was seen, so that an older
    /// one is refused from now on. Done by every writer; for readers that go on for long.
    pub fn remember(path: &Path, generation: u64) -> std::io::Result<()> {
        mark::remember(&path.canonicalize()?, generation)
    }

    /// Opens the key file for changing it.
    pub fn edit(path: &Path, secret: &UnsealSecret) -> Result<Self, KeyringError> {
        Self::edit_fault(path, secret).map_err(|fault| at(path, fault))
    }

    fn edit_fault(path: &Path, secret: &UnsealSecret) -> Result<Self, KeyringFault> {
        // The file that a link leads to is replaced, not the link.
        let path = path.canonicalize().map_err(unreadable)?;
        let lock = Lock::take(&path)?;
        let (kdf, root, keyring) = open_newest(&path, secret)?;
        Ok(Self {
            path,
            kdf,
            root,
            keyring,
            lock,
        })
    }

    /// The keys, as they are to be saved.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the key `name`, whose version has the `suite`, unless there is one.
    pub fn add(&mut self, name: &str, suite: Option<Suite>) -> Result<(), KeyringError> {
        add(&mut self.keyring, name, suite).map_err(|fault| at(&self.path, fault))
    }

    /// Gives the key `name` a new version that seals from now on; the one before still opens.
    pub fn rotate(&mut self, name: &str) -> Result<u32, KeyringError> {
        self.change(|keyring| keyring.rotate(name, None))
    }

    /// Changes states: `change` calls [`Keyring::stage`], [`Keyring::step`] and the like.
    pub fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Keyring) -> Result<T, StepError>,
    ) -> Result<T, KeyringError> {
        change(&mut self.keyring).map_err(|error| at(&self.path, error.into()))
    }

    /// Lets another secret unseal the file from its next save on; the keys stay.
    pub fn reseal(&mut self, secret: &UnsealSecret) -> Result<(), KeyringError> {
        self.reseal_fault(secret)
            .map_err(|fault| at(&self.path, fault))
    }

    fn reseal_fault(&mut self, secret: &UnsealSecret) -> Result<(), KeyringFault> {
        if secret.is_weak() {
            return Err(KeyringFault::WeakPassphrase);
        }
        let kdf = self.kdf.renewed(secret)?;
        self.root = kdf.root_keys(secret).map_err(|_| KeyringFault::Kdf)?;
        self.kdf = kdf;
        Ok(())
    }

    /// Writes the file anew, under the next generation.
    pub fn save(self) -> Result<Keyring, KeyringError> {
        let path = self.path.clone();
        self.save_fault().map_err(|fault| at(&path, fault))
    }

    fn save_fault(mut self) -> Result<Keyring, KeyringFault> {
        check(&self.keyring).map_err(KeyringFault::Contradiction)?;
        // Makes room for the mark while nothing has changed yet.
        self.lock
            .raise(self.keyring.generation)
            .map_err(KeyringFault::Unwritable)?;
        self.keyring.generation = self.keyring.generation.saturating_add(1);
        let stored = StoredFile::seal(&self.keyring, &self.kdf, &self.root)?;
        let mut text = serde_json::to_string_pretty(&stored)
            .map_err(|error| KeyringFault::Unwritable(error.into()))?;
        text.push('\n');
        replace(&self.path, text.as_bytes()).map_err(KeyringFault::Unwritable)?;
        // After the file: a mark that lags behind does no harm, one that is ahead would
        // refuse the only file that there is. So it does no harm either if this fails.
        let _ = self.lock.raise(self.keyring.generation);
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

fn add(keyring: &mut Keyring, name: &str, suite: Option<Suite>) -> Result<(), KeyringFault> {
    if let Some(what) = name_mistake(name) {
        return Err(KeyringFault::Name {
            name: name.to_owned(),
            what,
        });
    }
    keyring.add(name, suite)?;
    Ok(())
}

/// Opens the file, unless a newer one was seen in its place.
fn open_newest(
    path: &Path,
    secret: &UnsealSecret,
) -> Result<(Kdf, RootKeys, Keyring), KeyringFault> {
    let path = path.canonicalize().map_err(unreadable)?;
    let newest = mark::newest(&path)?;
    let opened = open(&path, secret)?;
    let found = opened.2.generation;
    if found < newest {
        return Err(KeyringFault::WentBack {
            newest,
            found,
            mark: mark::beside(&path),
        });
    }
    Ok(opened)
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

/// Opens any bytes as a key file, for [`crate::fuzzing`]: as they are, and with the MAC that
/// they would have, so that what lies behind it is reached too. A file for a passphrase is
/// refused before its key is stretched, which would take long.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzzed(bytes: &[u8]) {
    let secret = UnsealSecret::parse(&[7; 32]).expect("32 bytes are a key");
    let parsed = parse(bytes, &secret).map(|(_, _, keyring)| keyring);
    let stored = || serde_json::from_slice::<StoredFile>(bytes).ok();
    let vouched = || {
        let stored = stored()?;
        let root = stored.kdf.root_keys(&secret).ok()?;
        let text = serde_json::to_vec(&stored.vouched_for(&root)).ok()?;
        Some(parse(&text, &secret).map(|(_, _, keyring)| keyring))
    };
    for opened in [Some(parsed), vouched()].into_iter().flatten() {
        match opened {
            Ok(keyring) => check(&keyring).expect("what opens holds together"),
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
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
    // One name for all: only the holder of the lock gets here, and what was left by one
    // that was killed half way is written over, with the secrets in it.
    name.push(".new");
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
mod tests;
