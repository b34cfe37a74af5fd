//! The whole of what was measured, how, and with which settings.

use super::forest::figure;
use super::markup::Markup;
use super::plot;
use super::rows;
use super::words::{self, Unit, sound};
use crate::bench::report::{Measurement, Report};

/// What each setting is.
pub(super) fn settings(markup: &mut Markup, report: &Report) {
    rows::table(markup, "settings", "All settings.", |markup| {
        rows::head(markup, |markup| {
            for title in ["Setting", "What it is", "Compared with"] {
                rows::column(markup, "", |markup| markup.text(title));
            }
        });
        rows::body(markup, |markup| {
            for (_, setting) in words::blocks(report)
                .into_iter()
                .flat_map(|block| block.settings)
            {
                rows::row(markup, |markup| {
                    rows::about(markup, |markup| markup.name(&setting.name));
                    rows::cell(markup, "words", "", |markup| {
                        markup.leaf("bdi", &[], &setting.says)
                    });
                    rows::cell(markup, "words", "Compared with", |markup| {
                        match setting.against.and_then(|place| report.settings.get(place)) {
                            Some(against) => markup.name(&against.name),
                            None => markup.text(words::MISSING),
                        }
                    });
                });
            }
        });
    });
}

/// How it was measured.
pub(super) fn method(markup: &mut Markup, report: &Report) {
    let about = &report.about;
    let rounds = words::counted(about.rounds, "round");
    markup.leaf(
        "p",
        &[],
        format_args!(
            "All settings took turns, {} s each, in an order of its own in each of {rounds}: whatever else the machine did, it did to \
             all of them alike. Every connection has one command under way, and sends the next one when it has the answer. Ratios are \
             made within each round, and the median of the rounds is what is told. CPU time is what the system counted \
             for the threads of the process. CPU time added is that of the proxy above that of the setting it is compared with, divided by \
             the documents of a command.",
            plot::short(about.seconds)
        ),
    );
}

/// Every measurement.
pub(super) fn table(markup: &mut Markup, report: &Report) {
    let mut kinds: Vec<_> = (report.measurements.iter())
        .map(|found| (found.operation, found.documents, found.connections))
        .collect();
    let rank = |operation| {
        words::OPERATIONS
            .iter()
            .position(|other| *other == operation)
    };
    kinds.sort_by_key(|(operation, documents, connections)| {
        (rank(*operation), *documents, *connections)
    });
    kinds.dedup();
    let scrolled: [(&str, &dyn std::fmt::Display); 4] = [
        ("class", &"scrolled"),
        ("role", &"region"),
        ("aria-label", &"All measurements"),
        ("tabindex", &"0"),
    ];
    markup.within("div", &scrolled, |markup| {
        rows::table(
            markup,
            "all",
            "All measurements: median, and 10th to 90th percentile of the rounds.",
            |markup| {
                rows::head(markup, |markup| {
                    for title in COLUMNS {
                        rows::column(markup, "", |markup| markup.text(title));
                    }
                });
                for (operation, documents, connections) in kinds {
                    rows::body(markup, |markup| {
                        rows::heading(markup, COLUMNS.len(), |markup| {
                            let (name, connections) =
                                (words::operation(operation), words::connections(connections));
                            let documents = words::counted(documents, "document");
                            markup.text(format_args!(
                                "{name}, {connections}, {documents} per command"
                            ));
                        });
                        for (place, setting) in words::blocks(report)
                            .into_iter()
                            .flat_map(|block| block.settings)
                        {
                            let of = |found: &&Measurement| {
                                found.setting == place
                                    && found.operation == operation
                                    && found.documents == documents
                                    && found.connections == connections
                            };
                            for found in report.measurements.iter().filter(of) {
                                row(markup, &setting.name, found);
                            }
                        }
                    });
                }
            },
        );
    });
}

const COLUMNS: [&str; 9] = [
    "Setting",
    "Half took less (p50)",
    "1 in 100 took longer (p99)",
    "Commands",
    "CPU, proxy",
    "CPU, MongoDB",
    "p50 to baseline",
    "Throughput to baseline",
    "CPU added per document",
];

fn row(markup: &mut Markup, name: &str, found: &Measurement) {
    rows::row(markup, |markup| {
        rows::about(markup, |markup| markup.name(name));
        for (unit, spread) in [
            (Unit::Microseconds, Some(found.p50)),
            (Unit::Microseconds, Some(found.p99)),
            (Unit::PerSecond, Some(found.throughput)),
            (Unit::Microseconds, found.cpu),
            (Unit::Microseconds, found.cpu_mongodb),
            (Unit::Times, found.p50_ratio),
            (Unit::Times, found.throughput_ratio),
            (Unit::Microseconds, found.cpu_added),
        ] {
            figure(markup, "", unit, sound(spread).as_ref());
        }
    });
}
