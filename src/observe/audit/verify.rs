//! Whether a chain is whole, and if not, which line is wrong.
//!
//! A wrong line does not hide the ones behind it: the key of a line depends on its place alone,
//! and each MAC is checked against the one before it as the file has it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::PathBuf;

use serde_json::Value;

use super::chain::{Chain, Head, LineMac, SALT_BYTES};
use super::line::{LONGEST_LINE, Said, split};
use super::log::{FORMAT, in_use};
use super::tail::Torn;
use super::unhex;
use crate::keyring::{KeyId, Keyring, State};

/// How many wrong lines are named; more are counted.
const MOST_NAMED: usize = 100;

/// A number of a line that is further ahead is not believed, and after as many missing lines in
/// all a segment is not followed on: each costs the work of a line.
const WIDEST_GAP: u64 = 1_000_000;

/// A line, and what there is to say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The number of the line in the file, from 1 on.
    pub line: u64,
    /// The number that the line has in the chain, if it says one.
    pub seq: Option<u64>,
    /// What is to be said.
    pub what: String,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many lines were read.
    pub lines: u64,
    /// The number of the first line in the chain.
    pub first: Option<u64>,
    /// The last line.
    pub head: Option<Head>,
    /// What is wrong.
    pub problems: Vec<Place>,
    /// How many more things are wrong.
    pub more: u64,
    /// Where a segment has no end mark.
    pub unfinished: Vec<Place>,
    /// The line that the first file goes on from, if it does.
    pub goes_on_from: Option<Head>,
    /// Whether a writer has the last file open.
    pub in_use: bool,
}

impl Verdict {
    /// Whether no line is wrong.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Verifies `files` as one chain, in this order, and that `wanted` is in it.
pub fn verify(files: &[PathBuf], keyring: &Keyring, wanted: Option<Head>) -> io::Result<Verdict> {
    let in_use = files.last().is_some_and(|last| in_use(last));
    let mut opened = Vec::new();
    for path in files {
        let named = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
        opened.push((path, File::open(path).map_err(named)?));
    }
    let mut verifier = Verifier {
        keyring,
        wanted,
        met: false,
        file: PathBuf::new(),
        line: 0,
        chain: None,
        missing: 0,
        last: None,
        segment: None,
        unread: None,
        verdict: Verdict {
            in_use,
            ..Verdict::default()
        },
    };
    let count = opened.len();
    for (index, (path, file)) in opened.into_iter().enumerate() {
        verifier.file.clone_from(path);
        verifier.line = 0;
        let named = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
        verifier.read(file, index + 1 == count).map_err(named)?;
    }
    Ok(verifier.finish())
}

struct Verifier<'k> {
    keyring: &'k Keyring,
    wanted: Option<Head>,
    /// Whether the line that is wanted was there.
    met: bool,
    file: PathBuf,
    line: u64,
    /// None where MACs cannot be checked.
    chain: Option<Chain>,
    /// How many lines were missing so far.
    missing: u64,
    /// The last line of the chain, as the file has it.
    last: Option<Head>,
    /// How many lines the segment under way has; none between segments.
    segment: Option<u64>,
    /// Lines that are none, since the last one that is.
    unread: Option<Unread>,
    verdict: Verdict,
}

/// Lines that cannot be read as such: the first of them, how many, and what the last was.
struct Unread {
    first: Place,
    lines: u64,
    torn: Torn,
}

impl Verifier<'_> {
    fn read(&mut self, file: File, is_last: bool) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(64 << 10, file);
        let mut bytes = Vec::new();
        let most = LONGEST_LINE as u64 + 1;
        loop {
            bytes.clear();
            if (&mut reader).take(most).read_until(b'\n', &mut bytes)? == 0 {
                break;
            }
            self.line += 1;
            self.verdict.lines += 1;
            match bytes.strip_suffix(b"\n") {
                Some(line) => self.take(line),
                None if bytes.len() as u64 >= most => {
                    self.unread(&bytes);
                    reader.skip_until(b'\n')?;
                }
                None if split(&bytes).is_some() => self.take(&bytes),
                None => {
                    self.broken_off();
                    if !(is_last && self.verdict.in_use) {
                        let what = "is cut off in the middle";
                        let place = self.place(None, what.to_owned());
                        self.verdict.unfinished.push(place);
                    }
                }
            }
        }
        self.broken_off();
        Ok(())
    }

    fn place(&self, seq: Option<u64>, what: String) -> Place {
        Place {
            file: self.file.clone(),
            line: self.line,
            seq,
            what,
        }
    }

    fn problem(&mut self, seq: Option<u64>, what: impl Into<String>) {
        let place = self.place(seq, what.into());
        self.note(place);
    }

    fn note(&mut self, place: Place) {
        if self.verdict.problems.len() < MOST_NAMED {
            self.verdict.problems.push(place);
        } else {
            self.verdict.more += 1;
        }
    }

    /// A line that is none: right only if the next one is a start that tells of it.
    fn unread(&mut self, line: &[u8]) {
        let torn = Torn::of(line);
        match &mut self.unread {
            Some(unread) => {
                unread.lines += 1;
                unread.torn = torn;
            }
            None => {
                let first = self.place(None, "is not a line of an audit log".to_owned());
                self.unread = Some(Unread {
                    first,
                    lines: 1,
                    torn,
                });
            }
        }
    }

    /// Nothing has made the lines right that could not be read. Gives how many there were.
    fn broken_off(&mut self) -> u64 {
        let Some(unread) = self.unread.take() else {
            return 0;
        };
        let mut first = unread.first;
        if unread.lines > 1 {
            first.what = format!(
                "and {} behind it are not lines of an audit log",
                unread.lines - 1
            );
        }
        self.note(first);
        unread.lines
    }

    fn take(&mut self, bytes: &[u8]) {
        let read = split(bytes).and_then(|(line, mac)| Some((line, mac, Said::parse(line)?)));
        let Some((line, mac, said)) = read else {
            return self.unread(bytes);
        };
        let head = Head { seq: said.seq, mac };
        self.verdict.first.get_or_insert(said.seq);
        let counts = if said.event == "start" {
            self.start(line, head, &said);
            true
        } else {
            self.follow(line, head, &said)
        };
        if counts {
            self.last = Some(head);
            self.meet(head);
        }
    }

    fn meet(&mut self, head: Head) {
        let Some(wanted) = self.wanted.filter(|wanted| wanted.seq == head.seq) else {
            return;
        };
        self.met = true;
        if wanted.mac != head.mac {
            self.problem(
                Some(head.seq),
                "is another line than the one that --head names",
            );
        }
    }

    /// The first line of a segment.
    fn start(&mut self, line: &[u8], head: Head, said: &Said) {
        let seq = Some(head.seq);
        let previous = said.fields.get("previous").and_then(head_of);
        self.torn_before(said, seq);
        let linked = self.linked(seq, previous, said);
        if linked && let Some(lines) = self.segment {
            if said.is_true("after_unclean") {
                let what = "goes on after a part that has no end mark: its writer was killed, or its last lines were cut off";
                let place = self.place(seq, what.to_owned());
                self.verdict.unfinished.push(place);
            } else if lines > 0 {
                self.problem(seq, "begins although what is before it has no end mark");
            }
        }
        let expected = previous.map_or(1, |previous| previous.seq.saturating_add(1));
        if head.seq != expected {
            self.problem(seq, "was changed: its number is not the next one");
        }
        self.segment = Some(1);
        self.chain = None;
        let salt = said.text("salt").and_then(unhex::<SALT_BYTES>);
        let id = said.number("key_id").and_then(|id| u32::try_from(id).ok());
        let (Some(salt), Some(id), Some(FORMAT)) = (salt, id, said.number("format")) else {
            return self.problem(
                seq,
                "was changed, or is of another version of fieldseal: the lines up to the next start cannot be verified",
            );
        };
        let found = self.keyring.version(KeyId(id));
        let Some(material) = found.and_then(|(_, version)| version.material.as_ref()) else {
            let why = match found {
                Some((_, version)) if version.state == State::Destroyed => "was destroyed",
                _ => "is not in the key file",
            };
            return self.problem(
                seq,
                format!("cannot be verified, nor can the lines up to the next start: they are under key id {id}, which {why}"),
            );
        };
        let previous = previous.map_or(LineMac::NONE, |previous| previous.mac);
        let mut chain = Chain::begin(material, &salt, previous);
        if chain.next(line) == head.mac {
            self.chain = Some(chain);
        } else {
            self.problem(
                seq,
                "was changed; the lines up to the next start cannot be verified",
            );
        }
    }

    /// Whether the bytes before a start line are those that it tells of.
    fn torn_before(&mut self, said: &Said, seq: Option<u64>) {
        let told = said.fields.get("torn");
        let told = told.map(|torn| (torn["bytes"].as_u64(), torn["sha256"].as_str()));
        let is_told = self.unread.as_ref().is_some_and(|unread| {
            let Torn { bytes, sha256 } = &unread.torn;
            unread.lines == 1 && told == Some((Some(*bytes), Some(sha256)))
        });
        if is_told {
            if let Some(unread) = self.unread.take()
                && self.segment.is_none()
            {
                let what = "is cut off in the middle".to_owned();
                let place = Place {
                    what,
                    ..unread.first
                };
                self.verdict.unfinished.push(place);
            }
        } else if self.broken_off() == 0 && told.is_some() {
            self.problem(seq, "tells of a half line before it, which is gone");
        }
    }

    /// Whether a start line goes on from the line before it.
    fn linked(&mut self, seq: Option<u64>, previous: Option<Head>, said: &Said) -> bool {
        let what = match (self.last, previous) {
            (None, Some(_)) => {
                self.verdict.goes_on_from = previous;
                return true;
            }
            (None, None) if said.fields.get("previous") == Some(&Value::Null) => return true,
            (Some(last), Some(previous)) if last == previous => return true,
            (Some(last), Some(previous)) if previous.seq > last.seq => format!(
                "goes on from line {} of the chain, but the one before it is {}: lines are missing",
                previous.seq, last.seq
            ),
            (Some(last), Some(previous)) if previous.seq < last.seq => format!(
                "goes on from line {} of the chain, but the one before it is {}: lines were put in or repeated, or the files are in another order",
                previous.seq, last.seq
            ),
            (Some(_), Some(_)) => {
                "goes on from another line than the one before it, which was changed".to_owned()
            }
            (Some(_), None) => "begins anew, although lines stand before it".to_owned(),
            (None, None) => "was changed".to_owned(),
        };
        self.problem(seq, what);
        false
    }

    /// Any other line. Gives whether it has a place in the chain.
    fn follow(&mut self, line: &[u8], head: Head, said: &Said) -> bool {
        let unread = self.broken_off();
        let seq = Some(head.seq);
        let Some(last) = self.last else {
            self.problem(
                seq,
                "is the first line and no start: the lines before it are missing",
            );
            self.segment = Some(0);
            return true;
        };
        let Some(lines) = self.segment else {
            self.problem(seq, "comes after an end mark, without a start");
            return false;
        };
        if head.seq <= last.seq {
            self.problem(
                seq,
                format!(
                    "comes after line {} of the chain: it was changed, repeated or moved",
                    last.seq
                ),
            );
            return false;
        }
        let gap = (head.seq - last.seq) - 1;
        if gap > WIDEST_GAP {
            self.problem(seq, "was changed: its number is far ahead");
            return false;
        }
        if gap > 0 && gap != unread {
            let missing = match gap {
                1 => format!("line {} of the chain is missing", last.seq + 1),
                _ => format!(
                    "lines {} to {} of the chain are missing",
                    last.seq + 1,
                    head.seq - 1
                ),
            };
            self.problem(seq, format!("{missing} before it, or were changed"));
        }
        self.segment = Some(lines.saturating_add(gap).saturating_add(1));
        self.check(line, head, gap);
        if said.event == "end" {
            let counted = self.segment.take();
            if self.chain.is_some() && gap == 0 && said.number("lines") != counted {
                self.problem(seq, "counts other lines than there are");
            }
            self.chain = None;
        }
        true
    }

    fn check(&mut self, line: &[u8], head: Head, gap: u64) {
        let Some(chain) = &mut self.chain else {
            return;
        };
        if gap > 0 {
            self.missing = self.missing.saturating_add(gap);
            if self.missing > WIDEST_GAP {
                self.chain = None;
                return self.problem(
                    Some(head.seq),
                    "cannot be verified, nor can the lines up to the next start: too many lines are missing",
                );
            }
            // Without the MAC before it, this one says nothing.
            for _ in 0..=gap {
                chain.pass_over();
            }
            chain.take_for_previous(head.mac);
            return;
        }
        let right = chain.next(line) == head.mac;
        chain.take_for_previous(head.mac);
        if !right {
            self.problem(Some(head.seq), "was changed or put in");
        }
    }

    fn finish(mut self) -> Verdict {
        self.verdict.head = self.last;
        let seq = self.last.map(|last| last.seq);
        if self.segment.is_some() && !self.verdict.in_use {
            let what = "is the last line and no end mark: the writer was killed, or the last lines were cut off";
            let place = self.place(seq, what.to_owned());
            self.verdict.unfinished.push(place);
        }
        if let Some(wanted) = self.wanted.filter(|_| !self.met) {
            let last = seq.unwrap_or(0);
            if wanted.seq > last {
                self.problem(
                    seq,
                    format!(
                        "is the last line, but the chain had come to line {}: the last lines were cut off",
                        wanted.seq
                    ),
                );
            } else {
                self.problem(
                    None,
                    format!(
                        "line {} of the chain, which --head names, is not in these files",
                        wanted.seq
                    ),
                );
            }
        }
        self.verdict
    }
}

fn head_of(value: &Value) -> Option<Head> {
    let seq = value.get("seq")?.as_u64()?;
    let mac = LineMac::parse(value.get("mac")?.as_str()?)?;
    Some(Head { seq, mac })
}
