//! Says how far long work is: one line that changes on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a line changes on a terminal.
const TERMINAL: Duration = Duration::from_millis(200);
/// How often a new line is written elsewhere.
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Takes away the line of a terminal.
const CLEAR: &str = "\r\x1b[K";

/// Shows progress on standard error. What it showed on a terminal goes when it is dropped.
#[derive(Debug)]
pub(super) struct Ticker {
    terminal: bool,
    last: Instant,
    shown: bool,
}

impl Ticker {
    pub(super) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            last: Instant::now(),
            shown: false,
        }
    }

    /// Shows what `line` makes, unless something was shown just now. It is told whether it
    /// is for a terminal.
    pub(super) fn tick(&mut self, line: impl FnOnce(bool) -> String) {
        let pause = if self.terminal { TERMINAL } else { ELSEWHERE };
        if self.last.elapsed() < pause {
            return;
        }
        self.last = Instant::now();
        let line = line(self.terminal);
        if self.terminal {
            write(&format!("{CLEAR}{line}"));
            self.shown = true;
        } else {
            write(&format!("fieldseal: {line}\n"));
        }
    }

    /// Says what happens between two jobs.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        write(&format!("{text}\n"));
    }

    /// Takes away what a terminal shows.
    pub(super) fn clear(&mut self) {
        if self.shown {
            write(CLEAR);
            self.shown = false;
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Progress that nobody can see is no reason to stop.
fn write(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A number of bytes, in the unit that suits it.
pub(super) fn bytes(number: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| number >> shift > 0) {
        Some((shift, unit)) => {
            let tenths = (number >> (shift - 10)).saturating_mul(10) >> 10;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{number} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_unit_that_suits_them() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_600_000, "1.5 MiB"),
            (5 << 30, "5.0 GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
