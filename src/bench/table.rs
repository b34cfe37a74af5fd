//! The report on a terminal: ratios with their spread, a block for each operation.

use super::page::words::{self, Figure, MISSING, Unit, sound};
use super::page::{is_even, is_unseen};
use super::report::{Group, Measurement, Operation, Report, Setting};
use super::spread::Spread;

/// No line is longer, in characters.
const WIDTH: usize = 100;
/// Between two columns.
const GAP: usize = 2;
/// What a name keeps, whatever else there is.
const NAME: usize = 12;

/// The tables of a report: settings by operation, fields, connections.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    if !report.measurements.is_empty() {
        let rounds = words::counted(report.about.rounds, "round");
        let says = "Medians, with the 10th and the 90th percentile in brackets, of";
        text.push_str(&format!("{says} {rounds}.\n\n"));
    }
    for operation in words::operations(report) {
        block(&mut text, report, operation);
    }
    fields(&mut text, report);
    growth(&mut text, report);
    text
}

/// One line of a table: in its first column a name, or a text over all columns.
enum Line {
    Over(String),
    Cells(Vec<String>),
}

fn block(text: &mut String, report: &Report, operation: Operation) {
    let connections = words::connections(words::usual_connections(report, operation));
    let mut documents = 1;
    let mut lines = Vec::new();
    for block in words::blocks(report) {
        let measured: Vec<(&Setting, &Measurement)> = (block.settings.iter())
            .filter_map(|(place, setting)| {
                Some((*setting, words::usual(report, *place, operation)?))
            })
            .collect();
        if let (Some(against), false) = (block.against, measured.is_empty()) {
            let (_, title) = words::group(block.group);
            lines.push(Line::Over(format!("{title}, against {}", against.name)));
        }
        for (setting, found) in measured {
            documents = found.documents;
            lines.push(Line::Cells(vec![
                format!("  {}", setting.name),
                middle(Some(found.p50)),
                whole(found.p50_ratio),
                whole(found.throughput_ratio),
                middle(found.cpu),
                whole(found.cpu_added),
            ]));
        }
    }
    let at_length = words::operation_at_length(operation, documents);
    let title = format!(
        "{}: {at_length}, {connections}",
        words::operation(operation)
    );
    let heading = [
        "",
        "p50 µs",
        "p50 ×",
        "throughput ×",
        "CPU µs",
        "added µs/doc",
    ];
    write(text, &title, &heading.map(str::to_owned), &lines);
}

fn fields(text: &mut String, report: &Report) {
    if report.fields.is_empty() {
        return;
    }
    let lines: Vec<Line> = (report.fields.iter())
        .map(|field| {
            Line::Cells(vec![
                format!("  {}", field.path),
                Figure(field.bytes_added).to_string(),
                whole(field.write_added),
                whole(field.read_added),
                share(field.write_throughput),
                share(field.read_throughput),
            ])
        })
        .collect();
    let heading = [
        "",
        "bytes",
        "write µs",
        "read µs",
        "writes kept",
        "reads kept",
    ];
    let title = "Each field alone: what it adds to a document, and the throughput that is kept (~ no difference seen)";
    write(text, title, &heading.map(str::to_owned), &lines);
}

/// Throughput over the number of connections, of what was measured with several.
fn growth(text: &mut String, report: &Report) {
    for operation in words::operations(report) {
        let mut counts: Vec<usize> = (report.measurements.iter())
            .filter(|found| found.operation == operation)
            .map(|found| found.connections)
            .collect();
        counts.sort_unstable();
        counts.dedup();
        if counts.len() < 2 {
            continue;
        }
        let rows = words::blocks(report)
            .into_iter()
            .flat_map(|block| block.settings);
        let rows = rows.filter(|(_, setting)| {
            matches!(setting.group, Group::Direct | Group::Relay | Group::All)
        });
        let lines: Vec<Line> = rows
            .map(|(place, setting)| {
                let at = |connections: &usize| {
                    report.measurements.iter().find(|found| {
                        found.setting == place
                            && found.operation == operation
                            && found.connections == *connections
                    })
                };
                let cells = counts
                    .iter()
                    .map(|count| middle(at(count).map(|found| found.throughput)));
                Line::Cells(
                    std::iter::once(format!("  {}", setting.name))
                        .chain(cells)
                        .collect(),
                )
            })
            .collect();
        let heading = counts.iter().map(|count| format!("{count} conn."));
        let heading: Vec<String> = std::iter::once(String::new()).chain(heading).collect();
        let title = format!("{}: commands in a second", words::operation(operation));
        write(text, &title, &heading, &lines);
    }
}

fn middle(spread: Option<Spread>) -> String {
    sound(spread).map_or_else(|| MISSING.to_owned(), |spread| figure(spread.median))
}

fn whole(spread: Option<Spread>) -> String {
    let Some(spread) = sound(spread) else {
        return MISSING.to_owned();
    };
    let (low, high) = (figure(spread.low), figure(spread.high));
    format!("{} ({low}..{high})", figure(spread.median))
}

fn share(spread: Option<Spread>) -> String {
    let Some(spread) = sound(spread) else {
        return MISSING.to_owned();
    };
    let unseen = if is_even(&spread, 1.0) { "~" } else { "" };
    format!("{unseen}{}", Unit::Share.middle(&spread))
}

/// Without a space between thousands, which some terminals show as a whole one.
fn figure(value: f64) -> String {
    Figure(value).to_string().replace('\u{202f}', "")
}

/// Appends a table. Numbers stand to the right; columns for which there is no room are left out.
fn write(text: &mut String, title: &str, heading: &[String], lines: &[Line]) {
    let cells = || {
        let rows = lines.iter().filter_map(|line| match line {
            Line::Cells(cells) => Some(cells.as_slice()),
            Line::Over(_) => None,
        });
        std::iter::once(heading).chain(rows)
    };
    if cells().count() < 2 {
        return;
    }
    let widest = |column: usize| {
        let cells = cells().filter_map(|row| row.get(column));
        cells.map(|cell| letters(cell).count()).max().unwrap_or(0)
    };
    let (mut widths, mut used) = (Vec::new(), NAME);
    for width in (1..heading.len()).map(widest) {
        used += width + GAP;
        if used > WIDTH {
            break;
        }
        widths.push(width);
    }
    let numbers: usize = widths.iter().map(|width| width + GAP).sum();
    let name = widest(0).min(WIDTH - numbers);
    let row = |cells: &[String]| {
        let first = cells.first().map_or("", String::as_str);
        let mut line = format!("{:name$}", cut(first, name));
        for (cell, width) in cells.iter().skip(1).zip(&widths) {
            let cell: String = letters(cell).collect();
            line.push_str(&format!("  {cell:>width$}"));
        }
        line
    };
    let mut put = |line: &str| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    put(&cut(title, WIDTH));
    put(&row(heading));
    for line in lines {
        match line {
            Line::Cells(cells) => put(&row(cells)),
            Line::Over(over) => put(&cut(over, WIDTH)),
        }
    }
    put("");
}

/// The characters of a text as they are shown: names may hold anything, and a terminal must
/// not obey them.
fn letters(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(|character| {
        let escaped = is_unseen(character).then(|| character.escape_unicode());
        let plain = escaped.is_none().then_some(character);
        escaped.into_iter().flatten().chain(plain)
    })
}

/// A text of so many letters at most; its middle gives way.
fn cut(text: &str, width: usize) -> String {
    let letters: Vec<char> = letters(text).collect();
    if letters.len() <= width {
        return letters.into_iter().collect();
    }
    let tail = width / 3;
    let start = letters.iter().take(width.saturating_sub(tail + 1));
    let end = letters.iter().skip(letters.len() - tail);
    start.chain(&['…']).chain(end).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::page::fixture::{HOSTILE, report, with_names};
    use super::*;

    fn reports() -> Vec<Report> {
        let hostile: Vec<String> = HOSTILE.iter().map(|name| (*name).to_owned()).collect();
        let mut gaps = report(3);
        for found in &mut gaps.measurements {
            (found.cpu, found.cpu_added, found.p50_ratio) = (None, None, None);
            found.p50.median = 123_456_789.0;
        }
        let many: Vec<usize> = (0..20).map(|power| 1 << power).collect();
        vec![
            report(5),
            report(1),
            report(40),
            report(0),
            with_names(&hostile, &[8]),
            with_names(&hostile, &many),
            gaps,
        ]
    }

    #[test]
    fn no_line_is_longer_than_a_hundred_letters_or_ends_in_spaces() {
        for report in reports() {
            for line in table(&report).lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
                assert_eq!(line, line.trim_end());
            }
        }
    }

    /// Whether it is the row of a name, which may have given way in its middle.
    fn is_of(line: &str, name: &str) -> bool {
        let Some(line) = line.strip_prefix("  ") else {
            return false;
        };
        let (shown, _) = line.split_once("  ").unwrap_or((line, ""));
        let (start, end) = shown.split_once('…').unwrap_or((shown, ""));
        name.starts_with(start) && name.ends_with(end) && (name == shown || !end.is_empty())
    }

    #[test]
    fn each_operation_has_a_block_with_every_setting_and_its_ratios() {
        let report = report(2);
        let text = table(&report);
        for operation in words::operations(&report) {
            let title = format!("{}: ", words::operation(operation));
            let block = text
                .split("\n\n")
                .find(|block| block.starts_with(&title))
                .unwrap();
            for (place, setting) in report.settings.iter().enumerate() {
                let Some(found) = words::usual(&report, place, operation) else {
                    continue;
                };
                let line = block
                    .lines()
                    .find(|line| is_of(line, &setting.name))
                    .unwrap();
                let ratio = found.throughput_ratio.map(|ratio| figure(ratio.median));
                assert!(line.contains(&ratio.unwrap_or_default()), "{line}");
            }
        }
    }

    #[test]
    fn a_terminal_does_not_obey_names() {
        let hostile: Vec<String> = HOSTILE.iter().map(|name| (*name).to_owned()).collect();
        let text = table(&with_names(&hostile, &[8]));
        assert!(!text.contains(|character: char| character != '\n' && is_unseen(character)));
        assert!(text.contains("a\\u{202e}"));
    }

    #[test]
    fn a_share_within_the_noise_is_marked() {
        let spread = |low, median, high| share(Some(Spread { low, median, high }));
        assert_eq!(spread(0.6, 1.24, 1.3), "~124\u{a0}%");
        assert_eq!(spread(0.6, 0.7, 0.8), "70.0\u{a0}%");
        assert_eq!(share(None), MISSING);
    }

    #[test]
    fn nothing_measured_makes_no_table() {
        let mut report = report(0);
        report.measurements.clear();
        assert_eq!(table(&report), "");
    }
}
