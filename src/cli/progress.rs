//! How far a job has come: a bar on a terminal, lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::migrate::Progress;

/// How often a line is written where there is no terminal.
const LINES: Duration = Duration::from_secs(5);
/// How often the bar moves.
const FRAMES: Duration = Duration::from_millis(100);
/// How many characters the bar has.
const WIDTH: u64 = 20;

/// Shows progress on standard error.
pub(super) struct Display {
    /// What is done to documents: `sealed`.
    done: &'static str,
    terminal: bool,
    shown: Instant,
    /// Whether a bar is on the terminal's last line.
    bar: bool,
    pass: Option<Pass>,
}

/// What the speed is reckoned from.
struct Pass {
    namespace: String,
    number: u32,
    began: Instant,
    /// What was seen by then.
    from: u64,
}

impl Display {
    /// Shows a job that does this to documents.
    pub(super) fn new(done: &'static str) -> Self {
        Self {
            done,
            terminal: std::io::stderr().is_terminal(),
            shown: Instant::now(),
            bar: false,
            pass: None,
        }
    }

    /// Shows how far it has come, if it is time to.
    pub(super) fn show(&mut self, progress: &Progress<'_>) {
        let same = self.pass.as_ref().is_some_and(|pass| {
            pass.number == progress.pass && pass.namespace == progress.namespace
        });
        if !same {
            self.pass = Some(Pass {
                namespace: progress.namespace.to_owned(),
                number: progress.pass,
                began: Instant::now(),
                from: progress.seen,
            });
        }
        let period = if self.terminal { FRAMES } else { LINES };
        if self.shown.elapsed() < period {
            return;
        }
        self.shown = Instant::now();
        let speed = self.pass.as_ref().map_or(0, |pass| {
            let millis = u64::try_from(pass.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            (progress.seen - pass.from.min(progress.seen)) * 1000 / millis.max(1)
        });
        let line = line(progress, speed, self.done, self.terminal);
        if self.terminal {
            write(&format!("\r\u{1b}[2K{line}"));
            self.bar = true;
        } else {
            write(&format!("{line}\n"));
        }
    }

    /// Says what happens between two jobs.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        write(&format!("{text}\n"));
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        if self.bar {
            write("\r\u{1b}[2K");
            self.bar = false;
        }
    }
}

/// Progress that nobody can see is no reason to stop.
fn write(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn line(progress: &Progress<'_>, speed: u64, done: &str, bar: bool) -> String {
    let total = progress.total.max(progress.seen);
    let parts = |of: u64| (progress.seen * of).checked_div(total).unwrap_or(of);
    let mut line = format!("{} pass {} ", progress.namespace, progress.pass);
    if bar {
        let full = parts(WIDTH);
        let filled: String = (0..WIDTH)
            .map(|at| if at < full { '#' } else { '.' })
            .collect();
        line.push_str(&format!("[{filled}] "));
    }
    line.push_str(&format!(
        "{}% {}/{} documents, {} {done}, {}/s",
        parts(100),
        grouped(progress.seen),
        grouped(total),
        grouped(progress.changed),
        grouped(speed)
    ));
    if let Some(seconds) = (total - progress.seen).checked_div(speed) {
        line.push_str(&format!(", {} left", time(seconds)));
    }
    line
}

fn time(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6000 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// A number with its thousands apart: `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of a thing: `1 value`, `2 values`.
pub(super) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(seen: u64, total: u64) -> Progress<'static> {
        Progress {
            namespace: "shop.customers",
            pass: 1,
            seen,
            total,
            changed: 7,
        }
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        assert_eq!(
            line(&progress(5_000, 20_000), 1_000, "sealed", false),
            "shop.customers pass 1 25% 5,000/20,000 documents, 7 sealed, 1,000/s, 15 s left"
        );
        assert_eq!(
            line(&progress(5_000, 20_000), 0, "sealed", true),
            "shop.customers pass 1 [#####...............] 25% 5,000/20,000 documents, 7 sealed, 0/s"
        );
    }

    #[test]
    fn more_documents_than_were_counted_are_all_there_are() {
        let line = line(&progress(30, 20), 10, "sealed", false);
        assert!(line.contains("100% 30/30 documents"), "{line}");
        assert!(super::line(&progress(0, 0), 1, "sealed", true).contains("100%"));
    }

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1000, 123_456, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "123,456", "1,234,567"]);
        assert_eq!(count(1, "value"), "1 value");
        assert_eq!(count(0, "value"), "0 values");
    }
}
