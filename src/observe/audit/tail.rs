//! How the file ends that is to be gone on with.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use sha2::{Digest as _, Sha256};

use super::chain::Head;
use super::hex;
use super::line::{LONGEST_LINE, Said, split};

/// How every line begins.
const BEGIN: &[u8] = b"{\"seq\":";

/// The end of a file with lines in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tail {
    /// The last whole line; none if not even the first one is whole.
    pub(super) last: Option<Head>,
    /// Whether it ends its segment.
    pub(super) ended: bool,
    /// What is behind it: a line that was being written when its writer was cut off.
    pub(super) torn: Option<Torn>,
    /// Whether the last whole line lacks its line break.
    pub(super) unbroken: bool,
}

/// Bytes that are no line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl Torn {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            sha256: hex(&Sha256::digest(bytes)),
        }
    }
}

/// What was found of a file.
pub(super) enum Ending {
    /// Nothing is in it.
    Empty,
    /// Lines.
    Lines(Tail),
    /// Something else.
    Other,
}

/// Looks at the end of a file, as far back as a line can be long.
pub(super) fn ending(file: &File) -> io::Result<Ending> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(Ending::Empty);
    }
    let most = u64::try_from(2 * LONGEST_LINE).unwrap_or(u64::MAX);
    let from = length.saturating_sub(most);
    let mut bytes = vec![0; usize::try_from(length - from).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(tail(&bytes).map_or(Ending::Other, Ending::Lines))
}

fn tail(bytes: &[u8]) -> Option<Tail> {
    let whole = memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
    let (lines, rest) = bytes.split_at_checked(whole)?;
    let line = |line: &[u8]| {
        let (line, mac) = split(line)?;
        let said = Said::parse(line)?;
        let seq = said.seq;
        Some((Head { seq, mac }, said.event == "end"))
    };
    // Only its line break is missing.
    if let Some((last, ended)) = line(rest) {
        return Some(Tail {
            last: Some(last),
            ended,
            torn: None,
            unbroken: true,
        });
    }
    if lines.is_empty() && (rest.starts_with(BEGIN) || BEGIN.starts_with(rest)) {
        return Some(Tail {
            last: None,
            ended: false,
            torn: Some(Torn::of(rest)),
            unbroken: false,
        });
    }
    let torn = (!rest.is_empty()).then(|| Torn::of(rest));
    let lines = lines.strip_suffix(b"\n")?;
    let from = memchr::memrchr(b'\n', lines).map_or(0, |at| at + 1);
    let (last, ended) = line(lines.get(from..)?)?;
    Some(Tail {
        last: Some(last),
        ended,
        torn,
        unbroken: false,
    })
}
