//! Throughput over the number of connections, and CPU time for each command.

use std::collections::BTreeSet;

use super::forest::figure;
use super::markup::{Markup, Percent, Px};
use super::plot;
use super::rows;
use super::scale::Scale;
use super::words::{self, Unit, sound};
use crate::bench::report::{Group, Measurement, Operation, Report, Setting};
use crate::bench::spread::Spread;

/// The lines of a chart: what they stand for, and in which way they are broken.
const LINES: [(Group, &str, &str); 3] = [
    (Group::Direct, "direct", ""),
    (Group::Relay, "nothing sealed", "7 4"),
    (Group::All, "all fields", "2 4"),
];

/// How high a chart is.
const HEIGHT: f64 = 240.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 216.0;
/// From where to where the numbers of connections lie; names of lines stand to the right.
const LEFT: f64 = 12.0;
const RIGHT: f64 = 76.0;

/// One line: its points by the number of connections.
struct Line<'r> {
    group: Group,
    name: &'static str,
    dashes: &'static str,
    points: Vec<(usize, Spread)>,
    setting: &'r Setting,
}

fn lines(report: &Report, operation: Operation) -> Vec<Line<'_>> {
    let line = |(group, name, dashes): (Group, &'static str, &'static str)| {
        let (place, setting) = words::first(report, group)?;
        let of = |measurement: &&Measurement| {
            measurement.setting == place && measurement.operation == operation
        };
        let mut points: Vec<_> = (report.measurements.iter().filter(of))
            .filter_map(|measurement| {
                Some((
                    measurement.connections,
                    sound(Some(measurement.throughput))?,
                ))
            })
            .collect();
        points.sort_by_key(|(connections, _)| *connections);
        points.dedup_by_key(|(connections, _)| *connections);
        (points.len() > 1).then_some(Line {
            group,
            name,
            dashes,
            points,
            setting,
        })
    };
    LINES.into_iter().filter_map(line).collect()
}

/// Whether there is a chart of anything.
pub(super) fn is_measured(report: &Report) -> bool {
    let mut operations = words::operations(report).into_iter();
    operations.any(|operation| !lines(report, operation).is_empty())
}

/// A chart for each operation.
pub(super) fn charts(markup: &mut Markup, report: &Report) {
    markup.leaf(
        "p",
        &[],
        "Commands in a second, with the spread as upright lines; connections are spaced by their logarithm. Where a line \
         no longer rises, something is used up: more connections only wait longer.",
    );
    markup.within("div", &[("class", &"charts")], |markup| {
        for operation in words::operations(report) {
            let lines = lines(report, operation);
            if !lines.is_empty() {
                chart(markup, operation, &lines);
            }
        }
    });
}

/// Where a number of connections stands.
fn place(connections: usize, counts: &BTreeSet<usize>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "numbers of connections")]
    let log = |count: usize| (count.max(1) as f64).ln();
    let ends = counts.first().zip(counts.last());
    let (first, last) = ends.map_or((0.0, 1.0), |(first, last)| (log(*first), log(*last)));
    let span = if last > first { last - first } else { 1.0 };
    LEFT + (log(connections) - first) / span * (RIGHT - LEFT)
}

fn chart(markup: &mut Markup, operation: Operation, lines: &[Line<'_>]) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let counts: BTreeSet<usize> = points().map(|(connections, _)| *connections).collect();
    let scale = Scale::from_zero(
        points().flat_map(|(_, spread)| [spread.median, spread.high]),
        4,
    );
    let y = |value: f64| BOTTOM - scale.at(value) * (BOTTOM - TOP);
    let name = words::operation(operation);
    markup.within("figure", &[], |markup| {
        markup.within("figcaption", &[], |markup| {
            markup.leaf("h3", &[], format_args!("{name}: commands in a second"));
            legend(markup, lines);
        });
        plot::drawing(markup, HEIGHT, &said(name, lines), |markup| {
            for tick in scale.ticks() {
                let at = y(*tick);
                let class = if *tick > 0.0 { "grid" } else { "baseline" };
                plot::line(markup, class, (0.0, at), (RIGHT + 3.0, at));
                plot::label(
                    markup,
                    "tick",
                    (0.0, at - 3.0),
                    0.0,
                    "start",
                    &plot::short(*tick),
                );
            }
            let mut free = f64::NEG_INFINITY;
            for connections in &counts {
                let x = place(*connections, &counts);
                plot::line(markup, "grid", (x, BOTTOM), (x, BOTTOM + 5.0));
                if x - free >= 7.0 {
                    free = x;
                    let text = connections.to_string();
                    plot::label(markup, "tick", (x, BOTTOM + 17.0), 0.0, "middle", &text);
                }
            }
            plot::label(
                markup,
                "tick",
                (100.0, BOTTOM + 17.0),
                0.0,
                "end",
                "connections",
            );
            for line in lines {
                draw(markup, line, &counts, &y);
            }
            names(markup, lines, &y);
        });
    });
}

fn draw(markup: &mut Markup, line: &Line<'_>, counts: &BTreeSet<usize>, y: &impl Fn(f64) -> f64) {
    let class = format!("line {}", plot::class(line.group));
    for pair in line.points.windows(2) {
        if let [(from, one), (to, other)] = pair {
            markup.empty(
                "line",
                &[
                    ("class", &class),
                    (
                        "stroke-dasharray",
                        &if line.dashes.is_empty() {
                            "none"
                        } else {
                            line.dashes
                        },
                    ),
                    ("x1", &Percent(place(*from, counts))),
                    ("y1", &Px(y(one.median))),
                    ("x2", &Percent(place(*to, counts))),
                    ("y2", &Px(y(other.median))),
                ],
            );
        }
    }
    for (connections, spread) in &line.points {
        let x = place(*connections, counts);
        plot::line(markup, "whisker", (x, y(spread.low)), (x, y(spread.high)));
        plot::mark(markup, line.group, x, y(spread.median), false);
    }
}

/// The name of each line at its end, none over another.
fn names(markup: &mut Markup, lines: &[Line<'_>], y: &impl Fn(f64) -> f64) {
    let mut ends: Vec<(f64, &Line<'_>)> = (lines.iter())
        .filter_map(|line| Some((y(line.points.last()?.1.median), line)))
        .collect();
    ends.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    // Downwards first, then back up from the foot.
    let mut places = Vec::new();
    let mut free = TOP - 8.0;
    for (wanted, _) in &ends {
        free = wanted.max(free);
        places.push(free);
        free += 15.0;
    }
    let mut foot = BOTTOM - 2.0;
    for place in places.iter_mut().rev() {
        *place = place.min(foot);
        foot = *place - 15.0;
    }
    for ((_, line), at) in ends.iter().zip(places) {
        let own = &line.setting.name;
        let name = if own.chars().count() <= 14 {
            own
        } else {
            line.name
        };
        plot::label(markup, "end", (RIGHT, at + 4.0), 12.0, "start", name);
    }
}

fn legend(markup: &mut Markup, lines: &[Line<'_>]) {
    markup.within("p", &[("class", &"legend")], |markup| {
        for line in lines {
            markup.within("span", &[], |markup| {
                markup.within(
                    "svg",
                    &[("width", &34), ("height", &14), ("aria-hidden", &"true")],
                    |markup| {
                        markup.empty(
                            "line",
                            &[
                                ("class", &format!("line {}", plot::class(line.group))),
                                (
                                    "stroke-dasharray",
                                    &if line.dashes.is_empty() {
                                        "none"
                                    } else {
                                        line.dashes
                                    },
                                ),
                                ("x1", &0),
                                ("y1", &7),
                                ("x2", &34),
                                ("y2", &7),
                            ],
                        );
                        plot::mark(markup, line.group, 50.0, 7.0, false);
                    },
                );
                markup.text(" ");
                markup.name(&line.setting.name);
            });
            markup.text(" ");
        }
    });
}

fn said(name: &str, lines: &[Line<'_>]) -> String {
    let lines = lines.iter().map(|line| {
        let points: Vec<String> = (line.points.iter())
            .map(|(connections, spread)| {
                let at = words::connections(*connections);
                format!("{} at {at}", Unit::PerSecond.middle(spread))
            })
            .collect();
        format!("{}: {}", line.setting.name, points.join(", "))
    });
    let lines: Vec<String> = lines.collect();
    format!("{name}. {}", lines.join(". "))
}

/// CPU time for each command, of the proxy and of MongoDB: a table for each operation, since a
/// command with many documents takes so much more.
pub(super) fn cpu(markup: &mut Markup, report: &Report) {
    for operation in words::operations(report) {
        let measured = with_cpu(report, operation);
        if !measured.is_empty() {
            cpu_of(markup, report, operation, &measured);
        }
    }
}

fn cpu_of(
    markup: &mut Markup,
    report: &Report,
    operation: Operation,
    measured: &[(&Setting, &Measurement)],
) {
    let name = words::operation(operation);
    let connections = words::connections(words::usual_connections(report, operation));
    markup.leaf("h3", &[], format_args!("{name}: CPU time for each command"));
    let caption = format!("{name}, {connections}: CPU time of the proxy and of MongoDB.");
    let scale_of = |spread: fn(&Measurement) -> Option<Spread>| {
        let all = measured.iter();
        let all = all.filter_map(|(_, measurement)| sound(spread(measurement)));
        Scale::from_zero(all.flat_map(|spread| [spread.median, spread.high]), 4)
    };
    let scales = [
        scale_of(|found| found.cpu),
        scale_of(|found| found.cpu_mongodb),
    ];
    rows::table(markup, "gain cpu", &caption, |markup| {
        rows::widths(markup, &["label", "drawn", "figure", "drawn", "figure"]);
        rows::head(markup, |markup| {
            rows::column(markup, "label", |markup| markup.text("Setting"));
            for (title, scale) in ["Proxy, µs", "MongoDB, µs"].into_iter().zip(&scales) {
                rows::columns(markup, |markup| {
                    markup.leaf("span", &[], title);
                    markup.within("div", &[("class", &"axis")], |markup| {
                        plot::axis(markup, scale, 0.0, "");
                    });
                });
            }
        });
        rows::body(markup, |markup| {
            for (setting, measurement) in measured {
                cpu_row(markup, &scales, setting, measurement);
            }
        });
    });
}

/// Whether a CPU time was measured.
pub(super) fn has_cpu(report: &Report) -> bool {
    let mut operations = words::operations(report).into_iter();
    operations.any(|operation| !with_cpu(report, operation).is_empty())
}

/// Settings with a CPU time; fields alone have a plot of their own.
fn with_cpu(report: &Report, operation: Operation) -> Vec<(&Setting, &Measurement)> {
    (words::blocks(report).into_iter())
        .flat_map(|block| block.settings)
        .filter(|(_, setting)| !matches!(setting.group, Group::Field(_)))
        .filter_map(|(place, setting)| Some((setting, words::usual(report, place, operation)?)))
        .filter(|(_, measurement)| measurement.cpu.or(measurement.cpu_mongodb).is_some())
        .collect()
}

fn cpu_row(markup: &mut Markup, scales: &[Scale; 2], setting: &Setting, measurement: &Measurement) {
    rows::row(markup, |markup| {
        rows::about(markup, |markup| markup.name(&setting.name));
        let both = [
            ("proxy", "proxy", measurement.cpu),
            ("mongodb", "MongoDB", measurement.cpu_mongodb),
        ];
        for ((class, what, spread), scale) in both.into_iter().zip(scales) {
            let spread = sound(spread);
            rows::cell(markup, "drawn", "", |markup| match &spread {
                Some(spread) => {
                    let name = &setting.name;
                    let says = format!("{name}, {what}: {}", Unit::Microseconds.whole(spread));
                    plot::bar(markup, scale, class, spread, &says);
                }
                None => plot::nothing(markup, scale, 0.0),
            });
            figure(markup, what, Unit::Microseconds, spread.as_ref());
        }
    });
}
