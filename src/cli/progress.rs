//! How far a job has come: a bar on a terminal, lines elsewhere.

use std::time::Instant;

use super::ticker::Ticker;
use crate::migrate::Progress;

/// How many characters the bar has.
const WIDTH: u64 = 20;

/// Shows progress on standard error.
pub(super) struct Display {
    /// What is done to documents: `sealed`.
    done: &'static str,
    ticker: Ticker,
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
            ticker: Ticker::new(),
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
        let (done, pass) = (self.done, &self.pass);
        self.ticker.tick(|terminal| {
            let speed = pass.as_ref().map_or(0, |pass| pass.speed(progress.seen));
            line(progress, speed, done, terminal)
        });
    }

    /// Says what happens between two jobs.
    pub(super) fn say(&mut self, text: &str) {
        self.ticker.say(text);
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        self.ticker.clear();
    }
}

impl Pass {
    /// Documents a second since it began.
    fn speed(&self, seen: u64) -> u64 {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        (seen - self.from.min(seen)) * 1000 / millis.max(1)
    }
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
