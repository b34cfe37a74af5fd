//! The first plot as a picture of its own, for a README: it brings its paper along, so that it
//! can be read on any background.

use std::fmt::Display;

use super::markup::{Markup, Px};
use super::plot;
use super::scale::Scale;
use super::words::{self, Figure, sound};
use crate::bench::report::{Group, Operation, Report, Setting};
use crate::bench::spread::Spread;

const WIDTH: f64 = 800.0;
/// How wide the names of settings may be.
const NAMES: f64 = 190.0;
const MARGIN: f64 = 16.0;
/// How high the title and the heads of the columns are.
const HEAD: f64 = 106.0;
const FOOT: f64 = 46.0;
const ROW: f64 = 21.0;
/// Between blocks.
const GAP: f64 = 20.0;
/// Of more fields only so many are shown.
const FIELDS: usize = 8;

/// The operations by how much they say of a schema; the first three that were measured have
/// a column.
const COLUMNS: [Operation; 5] = [
    Operation::Read,
    Operation::Write,
    Operation::BatchRead,
    Operation::EqualityQuery,
    Operation::BatchWrite,
];
/// Room for a number behind a plot.
const NUMBER: f64 = 44.0;

const STYLE: &str = "text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',sans-serif;fill:#1b1f24}\
.title{font-size:16px;font-weight:600}.quiet{fill:#57606a;font-size:11px}.tick{fill:#57606a;font-size:10px}.head{font-weight:600}\
.paper{fill:#fff;stroke:#d0d7de}.grid{stroke:#e7ebef}.baseline{stroke:#57606a;stroke-width:1.5}.whisker{stroke:#1b1f24;stroke-width:1.4}\
.mark{stroke:#1b1f24}.hollow{fill:#fff}.direct{fill:#8c959f}.relay{fill:#0072b2}.field{fill:#d55e00}.all{fill:#009e73}.tokens{fill:#cc79a7}\
.suite{fill:#56b4e9}.tls{fill:#e69f00}.socket{fill:#f0e442}.mark.hollow{fill:#fff}";

/// The rows of one block: settings with the ratio of each operation.
struct Rows<'r> {
    title: String,
    rows: Vec<(&'r Setting, Vec<Option<Spread>>)>,
}

/// The first plot of the page as an SVG file: the throughput of each setting to that of its
/// baseline, with a column for each operation.
pub fn picture(report: &Report) -> String {
    let measured = words::operations(report);
    let mut operations = COLUMNS.to_vec();
    operations.retain(|operation| measured.contains(operation));
    operations.truncate(3);
    let (blocks, left_out) = blocks(report, &operations);
    let rows: usize = blocks.iter().map(|block| block.rows.len()).sum();
    #[expect(clippy::cast_precision_loss, reason = "rows on a screen")]
    let height = HEAD + FOOT + ROW * rows as f64 + GAP * blocks.len() as f64;
    let all = (blocks.iter().flat_map(|block| &block.rows)).flat_map(|(_, ratios)| ratios);
    let all: Vec<&Spread> = all.flatten().collect();
    let scale = Scale::around_one(
        all.iter()
            .flat_map(|spread| [spread.low, spread.median, spread.high]),
    );
    let mut markup = Markup::default();
    let size: [(&str, &dyn Display); 6] = [
        ("xmlns", &"http://www.w3.org/2000/svg"),
        ("role", &"img"),
        ("viewBox", &format!("0 0 {WIDTH} {}", Px(height))),
        ("width", &WIDTH),
        ("height", &Px(height)),
        ("font-size", &12),
    ];
    markup.within("svg", &size, |markup| {
        markup.leaf("title", &[], title(report));
        markup.leaf("desc", &[], described(&blocks, &operations));
        markup.within("style", &[], |markup| markup.verbatim(STYLE));
        let paper: [(&str, &dyn Display); 6] = [
            ("class", &"paper"),
            ("x", &0.5),
            ("y", &0.5),
            ("width", &(WIDTH - 1.0)),
            ("height", &Px(height - 1.0)),
            ("rx", &6),
        ];
        markup.empty("rect", &paper);
        heads(markup, report, &operations, &scale);
        body(markup, &blocks, &operations, &scale);
        foot(markup, report, height, left_out);
    });
    markup.finish()
}

fn title(report: &Report) -> String {
    format!(
        "Throughput to that of the baseline: {}",
        report.about.documents.namespace
    )
}

/// What is shown, and how many fields are not.
fn blocks<'r>(report: &'r Report, operations: &[Operation]) -> (Vec<Rows<'r>>, usize) {
    let mut left_out = 0;
    let mut blocks = Vec::new();
    for block in words::blocks(report) {
        let Some(against) = block.against else {
            continue;
        };
        let ratios = |place: usize| -> Vec<Option<Spread>> {
            (operations.iter())
                .map(|operation| sound(words::usual(report, place, *operation)?.throughput_ratio))
                .collect()
        };
        let mut rows: Vec<_> = (block.settings.iter())
            .map(|(place, setting)| (*setting, ratios(*place)))
            .filter(|(_, ratios)| ratios.iter().any(Option::is_some))
            .collect();
        if matches!(block.group, Group::Field(_)) && rows.len() > FIELDS {
            left_out += rows.len() - FIELDS;
            // Those that cost most, in the order of the report.
            let lowest = |ratios: &[Option<Spread>]| {
                let medians = ratios.iter().flatten().map(|ratio| ratio.median);
                medians.fold(f64::INFINITY, f64::min)
            };
            let mut costs: Vec<f64> = rows.iter().map(|(_, ratios)| lowest(ratios)).collect();
            costs.sort_by(f64::total_cmp);
            let bound = costs.get(FIELDS - 1).copied().unwrap_or(f64::INFINITY);
            rows.retain(|(_, ratios)| lowest(ratios) <= bound);
            rows.truncate(FIELDS);
        }
        if !rows.is_empty() {
            let title = format!(
                "{}, against “{}”",
                words::group(block.group).1,
                against.name
            );
            blocks.push(Rows { title, rows });
        }
    }
    (blocks, left_out)
}

/// From where to where the column of an operation goes.
fn column(number: usize, of: usize) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let width = (WIDTH - 2.0 * MARGIN - NAMES) / of.max(1) as f64;
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let from = MARGIN + NAMES + width * number as f64;
    (from + 10.0, from + width - NUMBER)
}

fn heads(markup: &mut Markup, report: &Report, operations: &[Operation], scale: &Scale) {
    text(
        markup,
        "title",
        (MARGIN, 28.0),
        "start",
        &cut(&title(report), WIDTH - 2.0 * MARGIN, 8.6),
    );
    let says = "1 is the throughput of what each is compared with; left of it is less. Lines: 10th to 90th percentile of the rounds. Hollow: no difference seen.";
    text(markup, "quiet", (MARGIN, 46.0), "start", says);
    for (number, operation) in operations.iter().enumerate() {
        let (from, to) = column(number, operations.len());
        text(
            markup,
            "head",
            (from, 72.0),
            "start",
            words::operation(*operation),
        );
        let connections = words::connections(words::usual_connections(report, *operation));
        text(markup, "quiet", (from, 86.0), "start", &connections);
        let mut free = f64::NEG_INFINITY;
        for tick in ticks(scale) {
            let x = from + scale.at(tick) * (to - from);
            let shown = plot::short(tick);
            if x - free >= 24.0 {
                free = x;
                text(markup, "tick", (x, HEAD - 4.0), "middle", &shown);
            }
        }
    }
}

/// The round numbers that have room: of many, every other one, but 1.
fn ticks(scale: &Scale) -> Vec<f64> {
    let all = scale.ticks();
    let one = all
        .iter()
        .position(|tick| (tick - 1.0).abs() < 1e-9)
        .unwrap_or(0);
    let step = all.len().div_ceil(6).max(1);
    (all.iter().enumerate())
        .filter(|(number, _)| number.abs_diff(one).is_multiple_of(step))
        .map(|(_, tick)| *tick)
        .collect()
}

fn body(markup: &mut Markup, blocks: &[Rows<'_>], operations: &[Operation], scale: &Scale) {
    let mut y = HEAD;
    for block in blocks {
        text(
            markup,
            "quiet",
            (MARGIN, y + 14.0),
            "start",
            &cut(&block.title, WIDTH - 2.0 * MARGIN, 6.2),
        );
        y += GAP;
        for (setting, ratios) in &block.rows {
            markup.within("g", &[], |markup| {
                markup.leaf("title", &[], &setting.name);
                text(
                    markup,
                    "name",
                    (MARGIN, y + 14.0),
                    "start",
                    &cut(&setting.name, NAMES, 6.9),
                );
            });
            for (number, ratio) in ratios.iter().enumerate() {
                let ends = column(number, operations.len());
                row(markup, scale, setting, ratio.as_ref(), ends, y);
            }
            y += ROW;
        }
    }
}

fn row(
    markup: &mut Markup,
    scale: &Scale,
    setting: &Setting,
    ratio: Option<&Spread>,
    (from, to): (f64, f64),
    y: f64,
) {
    let at = |value: f64| from + scale.at(value) * (to - from);
    for tick in ticks(scale) {
        line(markup, "grid", (at(tick), y), (at(tick), y + ROW));
    }
    line(markup, "baseline", (at(1.0), y), (at(1.0), y + ROW));
    let Some(ratio) = ratio else {
        return;
    };
    let middle = y + ROW / 2.0;
    let number = Figure(ratio.median).to_string();
    text(markup, "", (to + 8.0, middle + 4.0), "start", &number);
    line(
        markup,
        "whisker",
        (at(ratio.low), middle),
        (at(ratio.high), middle),
    );
    for x in [at(ratio.low), at(ratio.high)] {
        line(markup, "whisker", (x, middle - 3.0), (x, middle + 3.0));
    }
    let hollow = if plot::is_even(ratio, 1.0) {
        " hollow"
    } else {
        ""
    };
    markup.empty(
        "path",
        &[
            (
                "class",
                &format!("mark {}{hollow}", plot::class(setting.group)),
            ),
            ("d", &plot::outline(setting.group)),
            (
                "transform",
                &format!(
                    "translate({} {}) scale(.85)",
                    Px(at(ratio.median)),
                    Px(middle)
                ),
            ),
        ],
    );
}

fn foot(markup: &mut Markup, report: &Report, height: f64, left_out: usize) {
    let about = &report.about;
    let bytes = Figure(about.documents.bytes);
    let says = format!(
        "Documents of {bytes} B; {}, {} s for each setting in each; {}, {} cores; fieldseal {}, MongoDB {}",
        words::counted(about.rounds, "round"),
        plot::short(about.seconds),
        about.processor,
        about.cores,
        about.fieldseal,
        about.mongodb
    );
    text(
        markup,
        "quiet",
        (MARGIN, height - 14.0),
        "start",
        &cut(&says, WIDTH - 2.0 * MARGIN, 5.6),
    );
    if left_out > 0 {
        let says = format!("{left_out} more fields, which cost less, are in the report.");
        text(markup, "quiet", (MARGIN, height - 30.0), "start", &says);
    }
}

fn described(blocks: &[Rows<'_>], operations: &[Operation]) -> String {
    let rows = blocks.iter().flat_map(|block| &block.rows);
    let rows = rows.map(|(setting, ratios)| {
        let ratios = operations.iter().zip(ratios);
        let ratios: Vec<String> = ratios
            .filter_map(|(operation, ratio)| {
                Some(format!(
                    "{} {}",
                    words::operation(*operation),
                    Figure(ratio.as_ref()?.median)
                ))
            })
            .collect();
        format!("{}: {}", setting.name, ratios.join(", "))
    });
    let rows: Vec<String> = rows.collect();
    rows.join(". ")
}

/// A text that is not wider, if its letters are so wide; its middle gives way, since
/// names of fields differ at both ends.
fn cut(text: &str, width: f64, letter: f64) -> String {
    let letters: Vec<char> = text.chars().collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few dozen"
    )]
    let room = (width / letter).max(4.0) as usize;
    if letters.len() <= room {
        return text.to_owned();
    }
    let tail = room / 3;
    let (start, end) = (
        letters.iter().take(room - tail - 1),
        letters.iter().skip(letters.len() - tail),
    );
    start.chain(&['…']).chain(end).collect()
}

fn text(markup: &mut Markup, class: &str, (x, y): (f64, f64), anchor: &str, says: &str) {
    markup.leaf(
        "text",
        &[
            ("class", &class),
            ("x", &Px(x)),
            ("y", &Px(y)),
            ("text-anchor", &anchor),
        ],
        says,
    );
}

fn line(markup: &mut Markup, class: &str, from: (f64, f64), to: (f64, f64)) {
    markup.empty(
        "line",
        &[
            ("class", &class),
            ("x1", &Px(from.0)),
            ("y1", &Px(from.1)),
            ("x2", &Px(to.0)),
            ("y2", &Px(to.1)),
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_give_way_in_their_middle() {
        assert_eq!(cut("short", 100.0, 10.0), "short");
        assert_eq!(cut("customer.address.postcode", 100.0, 10.0), "custom…ode");
    }
}
