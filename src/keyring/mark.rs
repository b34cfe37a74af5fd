//! The file beside the key file: the lock of its writers, and the newest generation that was seen.
//!
//! Locking the key file itself would not do, since each write puts another file in its
//! place. The mark has no secret: whoever may write in the directory can take it away
//! along with the key file. It is there against an old copy that is put back alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::KeyringFault;

/// `generation `, 20 digits, a space, 16 hexadecimal digits, a line break: of one length,
/// so that it is written over in one step, which needs no room on the disk.
const LENGTH: usize = 11 + 20 + 1 + 16 + 1;

/// How long a writer waits for another one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The right to write the key file, until dropped.
pub(super) struct Lock {
    file: File,
}

/// The file beside the key file at `path`.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn line(generation: u64) -> String {
    let said = format!("generation {generation:020}");
    let digest = Sha256::digest(&said);
    let check: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{said} {check}\n")
}

/// The generation that a mark tells of; zero if it was never made. None: damaged.
fn parse(bytes: &[u8]) -> Option<u64> {
    // All zeros is what a file system may leave of a file that it had no time to write.
    if bytes.iter().all(|byte| *byte == 0) {
        return Some(0);
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let generation = text.strip_prefix("generation ")?.get(..20)?.parse().ok()?;
    (text == line(generation)).then_some(generation)
}

fn read(file: &File) -> std::io::Result<Option<u64>> {
    // One byte more, to notice what is longer.
    let mut bytes = [0; LENGTH + 1];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, u64::try_from(filled).unwrap_or(u64::MAX)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(parse(bytes.get(..filled).unwrap_or_default()))
}

/// The newest generation of the key file at `path` that was seen here; zero if none was.
/// To be asked for before the key file is read, which may be replaced meanwhile.
pub(super) fn newest(path: &Path) -> Result<u64, KeyringFault> {
    let mark = beside(path);
    let damaged = || KeyringFault::Mark(mark.clone());
    let file = match File::open(&mark) {
        Ok(file) => file,
        // Of another user, who alone writes here; whoever could change that could also
        // take the mark away.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(0);
        }
        Err(_) => return Err(damaged()),
    };
    // A writer may be at it.
    for _ in 0..3 {
        if let Some(generation) = read(&file).map_err(|_| damaged())? {
            return Ok(generation);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(damaged())
}

/// Notes that `generation` of the key file at `path` was seen, unless a writer is at
/// work, who does so too.
pub(super) fn remember(path: &Path, generation: u64) -> std::io::Result<()> {
    match Lock::attempt(path) {
        Ok(lock) => lock.raise(generation),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl Lock {
    /// Takes the lock of the key file at `path`, or waits for it a little.
    pub(super) fn take(path: &Path) -> Result<Self, KeyringFault> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::attempt(path) {
                Ok(lock) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(KeyringFault::Unwritable(error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(KeyringFault::Locked);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn attempt(path: &Path) -> Result<Self, TryLockError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(beside(path))
            .map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(Self { file })
    }

    /// Notes that `generation` was seen.
    pub(super) fn raise(&self, generation: u64) -> std::io::Result<()> {
        if read(&self.file)?.is_some_and(|newest| newest >= generation) {
            return Ok(());
        }
        self.write(generation)
    }

    /// Forgets what was seen of a key file that is no more.
    pub(super) fn forget(&self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.write(0)
    }

    fn write(&self, generation: u64) -> std::io::Result<()> {
        self.file.write_all_at(line(generation).as_bytes(), 0)?;
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_mark_with_any_bit_changed_is_damaged() {
        let mut bytes = line(7).into_bytes();
        assert_eq!(bytes.len(), LENGTH);
        assert_eq!(parse(&bytes), Some(7));
        for bit in 0..LENGTH * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 1..LENGTH {
            assert_eq!(parse(&bytes[..length]), None, "cut to {length}");
        }
        bytes.push(b'x');
        assert_eq!(parse(&bytes), None);
    }

    #[test]
    fn a_mark_that_was_never_written_tells_of_none() {
        assert_eq!(parse(b""), Some(0));
        assert_eq!(parse(&[0; LENGTH]), Some(0));
        assert_eq!(parse(line(u64::MAX).as_bytes()), Some(u64::MAX));
    }

    #[test]
    fn a_mark_rises_and_does_not_fall_until_it_is_forgotten() {
        let path = std::env::temp_dir().join(format!("fieldseal-mark-{}", std::process::id()));
        assert_eq!(newest(&path).unwrap(), 0);
        let lock = Lock::take(&path).unwrap();
        lock.raise(3).unwrap();
        lock.raise(2).unwrap();
        assert_eq!(newest(&path).unwrap(), 3);
        remember(&path, 9).unwrap();
        assert_eq!(newest(&path).unwrap(), 3, "while a writer has the lock");
        lock.forget().unwrap();
        drop(lock);
        assert_eq!(newest(&path).unwrap(), 0);
        remember(&path, 9).unwrap();
        assert_eq!(newest(&path).unwrap(), 9);
        std::fs::write(beside(&path), "generation 1\n").unwrap();
        assert!(matches!(newest(&path), Err(KeyringFault::Mark(_))));
        std::fs::remove_file(beside(&path)).unwrap();
    }
}
