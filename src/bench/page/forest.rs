//! The first plot: each setting against what it is compared with, one panel per operation.

use super::markup::Markup;
use super::plot;
use super::rows;
use super::scale::Scale;
use super::words::{self, Block, MISSING, Unit, sound};
use crate::bench::report::{Measurement, Operation, Report, Setting};
use crate::bench::spread::Spread;

/// All panels.
pub(super) fn panels(markup: &mut Markup, report: &Report) {
    markup.leaf(
        "p",
        &[],
        "Each row is one way to go, compared round by round with the one that its heading names. A mark is \
         the median of the rounds; the line through it goes from the 10th to the 90th percentile. The strong line at 1 is \
         “no difference”; a hollow mark has it within its line, so these rounds cannot tell the two apart.",
    );
    let usual: Vec<&Measurement> = words::operations(report)
        .into_iter()
        .flat_map(|operation| {
            (0..report.settings.len())
                .filter_map(move |setting| words::usual(report, setting, operation))
        })
        .collect();
    // One for both columns and all panels, so that they can be compared.
    let ratios = usual
        .iter()
        .flat_map(|found| [found.p50_ratio, found.throughput_ratio]);
    let ratios = ratios.filter_map(sound);
    let scale =
        Scale::around_one(ratios.flat_map(|spread| [spread.low, spread.median, spread.high]));
    let mut any = false;
    for operation in words::operations(report) {
        let compared = usual.iter().any(|measurement| {
            measurement.operation == operation
                && (measurement.p50_ratio.is_some() || measurement.throughput_ratio.is_some())
        });
        if compared {
            any = true;
            panel(markup, report, &scale, operation);
        }
    }
    if !any {
        markup.leaf("p", &[("class", &"empty")], "Nothing was compared.");
    }
}

fn panel(markup: &mut Markup, report: &Report, scale: &Scale, operation: Operation) {
    let connections = words::connections(words::usual_connections(report, operation));
    let documents = (report.measurements.iter())
        .find(|measurement| measurement.operation == operation)
        .map_or(1, |measurement| measurement.documents);
    let name = words::operation(operation);
    markup.leaf("h3", &[], name);
    let caption = format!(
        "{name}: {}, over {connections}.",
        words::operation_at_length(operation, documents)
    );
    rows::table(markup, "forest", &caption, |markup| {
        rows::widths(markup, &["label", "drawn", "figure", "drawn", "figure"]);
        rows::head(markup, |markup| {
            rows::column(markup, "label", |markup| markup.text("Setting"));
            for title in [
                "Time that half of the commands take (p50): right of 1 is slower",
                "Commands in a second: left of 1 is fewer",
            ] {
                rows::columns(markup, |markup| {
                    markup.leaf("span", &[], title);
                    markup.within("div", &[("class", &"axis")], |markup| {
                        plot::axis(markup, scale, 1.0, "×");
                    });
                });
            }
        });
        for block in words::blocks(report) {
            rows_of(markup, report, scale, operation, &block);
        }
    });
}

fn rows_of(
    markup: &mut Markup,
    report: &Report,
    scale: &Scale,
    operation: Operation,
    block: &Block<'_>,
) {
    let measured: Vec<(&Setting, &Measurement)> = (block.settings.iter())
        .filter_map(|(place, setting)| Some((*setting, words::usual(report, *place, operation)?)))
        .collect();
    let Some(against) = block.against.filter(|_| !measured.is_empty()) else {
        return;
    };
    rows::body(markup, |markup| {
        rows::heading(markup, 5, |markup| {
            markup.text(words::group(block.group).1);
            markup.text(", against “");
            markup.name(&against.name);
            markup.text("”");
        });
        for (setting, measurement) in measured {
            rows::row(markup, |markup| {
                rows::about(markup, |markup| markup.name(&setting.name));
                pair(markup, scale, setting, measurement.p50_ratio, "p50");
                let throughput = measurement.throughput_ratio;
                pair(markup, scale, setting, throughput, "throughput");
            });
        }
    });
}

fn pair(markup: &mut Markup, scale: &Scale, setting: &Setting, ratio: Option<Spread>, what: &str) {
    let ratio = sound(ratio);
    rows::cell(markup, "drawn", "", |markup| match &ratio {
        Some(ratio) => {
            let says = format!("{}, {what}: {}", setting.name, Unit::Times.whole(ratio));
            plot::dot(markup, scale, setting.group, ratio, &says);
        }
        None => plot::nothing(markup, scale, 1.0),
    });
    figure(markup, what, Unit::Times, ratio.as_ref());
}

/// A cell with a spread in numbers.
pub(super) fn figure(markup: &mut Markup, label: &str, unit: Unit, spread: Option<&Spread>) {
    rows::cell(markup, "number", label, |markup| match spread {
        Some(spread) => {
            markup.leaf("b", &[], unit.middle(spread));
            markup.text(" ");
            markup.leaf("small", &[], unit.ends(spread));
        }
        None => markup.text(MISSING),
    });
}
