//! Numbers and names as a reader sees them, on the page and on the terminal.

use std::fmt;

use crate::bench::report::{Group, Measurement, Operation, Report, Setting};
use crate::bench::spread::Spread;

/// What stands where nothing was measured.
pub(in crate::bench) const MISSING: &str = "–";

/// A number by its first three digits; thousands are set apart by a narrow space.
#[derive(Clone, Copy)]
pub(in crate::bench) struct Figure(pub(in crate::bench) f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = *self;
        if !value.is_finite() {
            return f.write_str(MISSING);
        }
        let size = value.abs();
        if size < 0.0005 {
            return f.write_str("0");
        }
        let digits = size.log10().floor();
        // 9.996 has one digit before the point, and as 10.0 two.
        let step = 10_f64.powf(digits - 2.0);
        let value = (value / step).round() * step;
        let places = if value.abs() >= 99.95 {
            0
        } else if value.abs() >= 9.995 {
            1
        } else if value.abs() >= 0.9995 {
            2
        } else {
            3
        };
        let text = format!("{:.places$}", value.abs());
        let sign = if value < 0.0 { "−" } else { "" };
        let (whole, part) = text.split_at(text.find('.').unwrap_or(text.len()));
        f.write_str(sign)?;
        for (at, digit) in whole.chars().enumerate() {
            if at > 0 && (whole.len() - at).is_multiple_of(3) {
                f.write_str("\u{202f}")?;
            }
            write!(f, "{digit}")?;
        }
        f.write_str(part)
    }
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Unit {
    /// Millionths of a second.
    Microseconds,
    /// Commands in a second.
    PerSecond,
    /// So many times the baseline.
    Times,
    /// A share of the baseline, in hundredths.
    Share,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// The unit, with the space before it.
    pub(in crate::bench) fn word(self) -> &'static str {
        match self {
            Self::Microseconds => "\u{a0}µs",
            Self::PerSecond => "\u{a0}/s",
            Self::Times => "\u{a0}×",
            Self::Share => "\u{a0}%",
            Self::Bytes => "\u{a0}B",
        }
    }

    fn scale(self) -> f64 {
        if self == Self::Share { 100.0 } else { 1.0 }
    }

    /// One number of the unit.
    pub(in crate::bench) fn one(self, value: f64) -> String {
        format!("{}{}", Figure(value * self.scale()), self.word())
    }

    /// The middle of a spread.
    pub(in crate::bench) fn middle(self, spread: &Spread) -> String {
        self.one(spread.median)
    }

    /// Both ends of a spread.
    pub(in crate::bench) fn ends(self, spread: &Spread) -> String {
        let end = |value: f64| Figure(value * self.scale());
        format!("{} to {}{}", end(spread.low), end(spread.high), self.word())
    }

    /// Middle and ends.
    pub(in crate::bench) fn whole(self, spread: &Spread) -> String {
        let end = |value: f64| Figure(value * self.scale());
        format!(
            "{} ({} to {})",
            self.middle(spread),
            end(spread.low),
            end(spread.high)
        )
    }
}

/// The spread, if it has three numbers.
pub(in crate::bench) fn sound(spread: Option<Spread>) -> Option<Spread> {
    spread.filter(|spread| {
        [spread.low, spread.median, spread.high]
            .iter()
            .all(|value| value.is_finite())
    })
}

/// Operations in the order in which they are shown.
pub(in crate::bench) const OPERATIONS: [Operation; 5] = [
    Operation::Read,
    Operation::Write,
    Operation::BatchRead,
    Operation::BatchWrite,
    Operation::EqualityQuery,
];

/// An operation in a few words.
pub(in crate::bench) fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "Read one",
        Operation::Write => "Write one",
        Operation::BatchRead => "Read many",
        Operation::BatchWrite => "Write many",
        Operation::EqualityQuery => "Query by equality",
    }
}

/// An operation in a sentence that has no verb.
pub(in crate::bench) fn operation_at_length(operation: Operation, documents: usize) -> String {
    match operation {
        Operation::Read => "one document by its _id".to_owned(),
        Operation::Write => "one document inserted".to_owned(),
        Operation::BatchRead => format!("{documents} documents read with one command"),
        Operation::BatchWrite => format!("{documents} documents inserted with one command"),
        Operation::EqualityQuery => {
            "one document by a field with equality, with an index on it".to_owned()
        }
    }
}

/// `1 connection`, `8 connections`.
pub(in crate::bench) fn connections(count: usize) -> String {
    counted(count, "connection")
}

/// `1 round`, `2 rounds`.
pub(in crate::bench) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Where a group of settings stands among the others, and its heading.
pub(in crate::bench) fn group(group: Group) -> (usize, &'static str) {
    match group {
        Group::Direct => (0, "Without the proxy"),
        Group::Relay => (1, "Through the proxy, nothing sealed"),
        Group::Field(_) => (2, "One field sealed"),
        Group::All => (3, "All fields sealed"),
        Group::Tokens => (4, "All fields sealed, without equality tokens"),
        Group::Suite => (5, "All fields sealed, another cipher suite"),
        Group::Tls => (6, "All fields sealed, with TLS"),
        Group::Socket => (7, "All fields sealed, over Unix sockets"),
    }
}

/// Settings that belong together: one group, compared with one other setting.
pub(in crate::bench) struct Block<'r> {
    /// What the settings are about.
    pub(in crate::bench) group: Group,
    /// What they are compared with.
    pub(in crate::bench) against: Option<&'r Setting>,
    /// The settings, with their places in the report.
    pub(in crate::bench) settings: Vec<(usize, &'r Setting)>,
}

/// All settings in the order in which they are shown.
pub(in crate::bench) fn blocks(report: &Report) -> Vec<Block<'_>> {
    let mut settings: Vec<_> = report.settings.iter().enumerate().collect();
    let rank = |setting: &Setting| (group(setting.group).0, setting.against);
    settings.sort_by_key(|(_, setting)| rank(setting));
    settings
        .chunk_by(|(_, one), (_, other)| rank(one) == rank(other))
        .filter_map(|settings| {
            let (_, first) = settings.first()?;
            Some(Block {
                group: first.group,
                against: first.against.and_then(|place| report.settings.get(place)),
                settings: settings.to_vec(),
            })
        })
        .collect()
}

/// The operations that were measured, in order.
pub(in crate::bench) fn operations(report: &Report) -> Vec<Operation> {
    let measured = |operation: &Operation| {
        (report.measurements.iter()).any(|measurement| measurement.operation == *operation)
    };
    OPERATIONS.into_iter().filter(measured).collect()
}

/// The number of connections at which most settings were measured with this operation.
pub(in crate::bench) fn usual_connections(report: &Report, operation: Operation) -> usize {
    let mut counts = std::collections::BTreeMap::<usize, usize>::new();
    for measurement in &report.measurements {
        if measurement.operation == operation {
            *counts.entry(measurement.connections).or_default() += 1;
        }
    }
    let most = counts.iter().max_by_key(|(connections, settings)| {
        // Of several, the fewest connections: the least disturbed.
        (**settings, std::cmp::Reverse(**connections))
    });
    most.map_or(0, |(connections, _)| *connections)
}

/// The measurement of a setting and an operation, at the usual number of connections.
pub(in crate::bench) fn usual(
    report: &Report,
    setting: usize,
    operation: Operation,
) -> Option<&Measurement> {
    let connections = usual_connections(report, operation);
    report.measurements.iter().find(|measurement| {
        measurement.setting == setting
            && measurement.operation == operation
            && measurement.connections == connections
    })
}

/// The first setting of a group, with its place.
pub(in crate::bench) fn first(report: &Report, group: Group) -> Option<(usize, &Setting)> {
    (report.settings.iter().enumerate()).find(|(_, setting)| setting.group == group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        for (value, text) in [
            (0.0, "0"),
            (0.000_4, "0"),
            (0.012_34, "0.012"),
            (0.123_4, "0.123"),
            (0.999_6, "1.00"),
            (9.996, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (123.4, "123"),
            (12_345.0, "12\u{202f}300"),
            (1_234_567.0, "1\u{202f}230\u{202f}000"),
            (-1.5, "−1.50"),
            (f64::NAN, MISSING),
            (f64::INFINITY, MISSING),
        ] {
            assert_eq!(Figure(value).to_string(), text);
        }
    }

    #[test]
    fn a_share_is_told_in_hundredths_with_its_spread() {
        let spread = Spread {
            low: 0.9,
            median: 0.95,
            high: 1.0,
        };
        assert_eq!(Unit::Share.whole(&spread), "95.0\u{a0}% (90.0 to 100)");
    }
}
