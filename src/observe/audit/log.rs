//! The file that lines are added to: locked, gone on with, put aside.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::chain::{Chain, Head, LineMac, SALT_BYTES};
use super::line::{Event, close, now, render};
use super::tail::{Ending, Torn, ending};
use super::{AuditError, AuditKey, Rotation, beside, hex};
use crate::code::{Code, Coded};

/// The version of the format.
pub(super) const FORMAT: u64 = 1;

/// More files than are ever put aside.
const HIGHEST: u64 = 1 << 48;

/// A file of audit lines, locked against other writers until dropped.
pub struct Log {
    path: PathBuf,
    rotation: Rotation,
    key: AuditKey,
    /// What start lines say of the writer.
    about: Event,
    /// The number of the file, which it has behind its name once it is put aside.
    number: u64,
    /// None after the file was put aside, until there is another.
    file: Option<File>,
    /// Of the whole lines in it.
    length: u64,
    /// The length from which on it is put aside.
    most: u64,
    /// Its length when nothing but a start was in it.
    bare: u64,
    /// Whether bytes of a line that could not be written may be behind them.
    torn: bool,
    /// The last line of the chain.
    last: Option<Head>,
    /// The segment under way.
    segment: Option<Segment>,
    /// What the next start line is to tell of the end of the segment before.
    before: Before,
    _lock: File,
}

#[derive(Clone)]
struct Segment {
    key: u32,
    chain: Chain,
    lines: u64,
}

/// How the segment before ended.
#[derive(Default)]
struct Before {
    unclean: bool,
    torn: Option<Torn>,
    /// Whether the last line, whole or not, lacks its line break.
    unbroken: bool,
}

impl Log {
    /// Opens the log at `path`, or makes it, and waits `patience` for another writer. What is
    /// told `about` this one comes into every start line. Nothing is written yet.
    pub fn open(
        path: &Path,
        key: AuditKey,
        rotation: Rotation,
        about: Event,
        patience: Duration,
    ) -> Result<Self, AuditError> {
        let lock = lock(path, patience)?;
        let io = AuditError::io;
        let found = match File::open(path) {
            Ok(file) => ending(&file).map_err(io(path, "read"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ending::Empty,
            Err(error) => return Err(io(path, "read")(error)),
        };
        let file = options().create(true).open(path);
        let file = file.map_err(io(path, "opened"))?;
        let length = file.metadata().map_err(io(path, "read"))?.len();
        let highest = predecessors(path).last().cloned();
        let mut before = Before::default();
        let mut last = None;
        match found {
            Ending::Empty => {}
            Ending::Other => return Err(AuditError::NotALog(path.to_owned())),
            Ending::Lines(tail) => {
                last = tail.last;
                before = Before {
                    unclean: !tail.ended,
                    unbroken: tail.unbroken || tail.torn.is_some(),
                    torn: tail.torn,
                };
            }
        }
        if let (None, Some((_, put_aside))) = (last, &highest) {
            let file = File::open(put_aside).map_err(io(put_aside, "read"))?;
            match ending(&file).map_err(io(put_aside, "read"))? {
                Ending::Lines(tail) => {
                    last = tail.last;
                    before.unclean |= !tail.ended || tail.torn.is_some();
                }
                _ => return Err(AuditError::NotALog(put_aside.clone())),
            }
        }
        Ok(Self {
            path: path.to_owned(),
            rotation,
            key,
            about,
            number: highest.map_or(1, |(number, _)| number.saturating_add(1)),
            file: Some(file),
            length,
            most: rotation.max_bytes,
            bare: 0,
            torn: false,
            last,
            segment: None,
            before,
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last line, if there is any.
    pub fn head(&self) -> Option<Head> {
        self.last
    }

    /// Begins a segment, unless one is under way.
    pub fn begin(&mut self) -> io::Result<()> {
        self.in_place()?;
        if self.file.is_none() {
            let made = options().create_new(true).open(&self.path);
            self.file = Some(made.map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    io::Error::other("another file was put in its place")
                }
                _ => error,
            })?);
            self.length = 0;
            self.torn = false;
            self.most = self.rotation.max_bytes;
        }
        if self.segment.is_some() {
            return Ok(());
        }
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        let previous = self.last.map_or(LineMac::NONE, |last| last.mac);
        let mut segment = Segment {
            key: self.key.id.0,
            chain: Chain::begin(&self.key.material, &salt, previous),
            lines: 0,
        };
        let start = self.start(&salt);
        let (bytes, last) = lines(&mut segment, self.last, &[(now(), start)]);
        let first = self.length == 0;
        self.put(&bytes)?;
        self.bare = if first { self.length } else { 0 };
        self.last = last;
        self.segment = Some(segment);
        self.before = Before::default();
        self.sync()
    }

    fn start(&self, salt: &[u8]) -> Event {
        let previous = self
            .last
            .map(|last| json!({"seq": last.seq, "mac": last.mac.to_string()}));
        let torn = self.before.torn.as_ref();
        let mut start = Event::new("start")
            .with("format", FORMAT)
            .with("file", self.number)
            .with("key", self.key.name.as_str())
            .with("key_version", self.key.version)
            .with("key_id", self.key.id.0)
            .with("salt", hex(salt))
            .with("previous", previous.unwrap_or(Value::Null));
        if self.before.unclean {
            start = start.with("after_unclean", true);
        }
        if let Some(torn) = torn {
            start = start.with("torn", json!({"bytes": torn.bytes, "sha256": torn.sha256}));
        }
        start.fields.extend(self.about.fields.clone());
        start
    }

    /// Adds these lines in one write; none of them is there if it fails.
    pub fn append(&mut self, events: &[(String, Event)]) -> io::Result<()> {
        self.begin()?;
        let Some((mut next, mut bytes, mut last)) = self.ready(events) else {
            return Ok(());
        };
        let length = self.length.saturating_add(bytes.len() as u64);
        if length > self.most && self.length > self.bare {
            self.rotate()?;
            self.begin()?;
            if let Some(again) = self.ready(events) {
                (next, bytes, last) = again;
            }
        }
        self.put(&bytes)?;
        self.segment = Some(next);
        self.last = last;
        Ok(())
    }

    fn ready(&self, events: &[(String, Event)]) -> Option<(Segment, Vec<u8>, Option<Head>)> {
        let mut segment = self.segment.clone()?;
        let (bytes, last) = lines(&mut segment, self.last, events);
        Some((segment, bytes, last))
    }

    /// Ends the segment under way, if there is one, and says why.
    pub fn end(&mut self, reason: &'static str) -> io::Result<()> {
        let Some(mut segment) = self.segment.clone() else {
            return Ok(());
        };
        self.in_place()?;
        if self.segment.is_none() {
            return Ok(());
        }
        let end = Event::new("end")
            .with("reason", reason)
            .with("lines", segment.lines.saturating_add(1));
        let (bytes, last) = lines(&mut segment, self.last, &[(now(), end)]);
        self.put(&bytes)?;
        self.last = last;
        self.segment = None;
        self.sync()
    }

    /// Puts the file aside under its number.
    fn rotate(&mut self) -> io::Result<()> {
        self.end("rotation")?;
        let mut aside = beside(&self.path, &format!(".{}", self.number));
        while aside.symlink_metadata().is_ok() {
            self.number = self.number.saturating_add(1);
            aside = beside(&self.path, &format!(".{}", self.number));
        }
        if let Err(error) = std::fs::rename(&self.path, &aside) {
            let error = Coded(error, Code::AuditUnwritable);
            tracing::error!(file = %self.path.display(), %error, "the audit log cannot be put aside; it grows on");
            self.most = self.length.saturating_add(self.rotation.max_bytes);
            return Ok(());
        }
        self.file = None;
        self.number = self.number.saturating_add(1);
        if let Some(head) = self.last {
            tracing::info!(file = %aside.display(), %head, "audit head; the file is put aside");
        }
        if let Some(keep) = self.rotation.keep {
            remove_old(&self.path, keep);
        }
        Ok(())
    }

    /// Takes another key for what comes, and other rules. The segment ends if the key is another.
    pub fn renew(&mut self, key: AuditKey, rotation: Rotation) -> io::Result<()> {
        self.rotation = rotation;
        self.most = rotation.max_bytes;
        let other = (self.segment.as_ref()).is_some_and(|segment| segment.key != key.id.0);
        self.key = key;
        if other {
            self.end("another key")?;
            self.begin()?;
        }
        Ok(())
    }

    /// Sees to it that what was written stays if the machine stops.
    pub fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    /// Notices a file that was taken away or changed. Lines in a file without a name would be lost.
    fn in_place(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let own = file.metadata()?;
        let there = match std::fs::metadata(&self.path) {
            Ok(there) => (there.dev(), there.ino()) == (own.dev(), own.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !there {
            let said = "the audit log was moved or removed; another one begins";
            tracing::error!(file = %self.path.display(), "{}", Coded(said, Code::AuditNotWhole));
            self.before.unclean = self.segment.is_some();
            self.file = None;
            self.segment = None;
        } else if own.len() != self.length && !self.torn {
            let (expected, found) = (self.length, own.len());
            let said = "the audit log has another length than was written: someone changed it";
            let said = Coded(said, Code::AuditNotWhole);
            tracing::error!(file = %self.path.display(), expected, found, "{said}");
            self.length = found;
        }
        Ok(())
    }

    /// Writes whole lines behind the others, or nothing.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(mut file) = self.file.as_ref() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if self.torn {
            file.set_len(self.length)?;
            self.torn = false;
        }
        let line_break: &[u8] = if self.before.unbroken { b"\n" } else { b"" };
        let written = [line_break, bytes].concat();
        if let Err(error) = file.write_all(&written) {
            self.torn = file.set_len(self.length).is_err();
            return Err(error);
        }
        self.before.unbroken = false;
        self.length = self.length.saturating_add(written.len() as u64);
        Ok(())
    }
}

/// The lines of `events` that follow `last`, and the last one of them.
fn lines(
    segment: &mut Segment,
    mut last: Option<Head>,
    events: &[(String, Event)],
) -> (Vec<u8>, Option<Head>) {
    let mut bytes = Vec::new();
    for (time, event) in events {
        let seq = last.map_or(1, |last| last.seq.saturating_add(1));
        let mut line = render(seq, time, event);
        let mac = segment.chain.next(&line);
        close(&mut line, mac);
        bytes.append(&mut line);
        segment.lines = segment.lines.saturating_add(1);
        last = Some(Head { seq, mac });
    }
    (bytes, last)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    options
}

/// The lock is a file of its own, since that with the lines is put aside.
fn lock_file(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

fn lock(path: &Path, patience: Duration) -> Result<File, AuditError> {
    let at = lock_file(path);
    let file = options().create(true).open(&at);
    let file = file.map_err(AuditError::io(&at, "opened"))?;
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(AuditError::InUse(path.to_owned()));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(error)) => return Err(AuditError::io(&at, "locked")(error)),
        }
    }
}

/// Whether a writer has the log at `path` open.
pub(super) fn in_use(path: &Path) -> bool {
    let lock = File::open(lock_file(path));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The files that were put aside of the log at `path`, in their order.
pub fn predecessors(path: &Path) -> Vec<(u64, PathBuf)> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbered = |entry: io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let other = entry.file_name();
        let number = other.to_str()?.strip_prefix(&*name)?.strip_prefix('.')?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok()?;
        // Somebody else's: there must be numbers left behind it.
        if !digits || number > HIGHEST {
            return None;
        }
        Some((number, path.with_file_name(other)))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<_> = entries.filter_map(numbered).collect();
    found.sort();
    found
}

fn remove_old(path: &Path, keep: u32) {
    let found = predecessors(path);
    let old = found.len().saturating_sub(keep as usize);
    for (_, file) in found.iter().take(old) {
        match std::fs::remove_file(file) {
            Ok(()) => {
                tracing::info!(file = %file.display(), "an old audit log was removed (audit.keep)");
            }
            Err(error) => {
                let error = Coded(error, Code::AuditUnwritable);
                tracing::warn!(file = %file.display(), %error, "an old audit log cannot be removed");
            }
        }
    }
}
