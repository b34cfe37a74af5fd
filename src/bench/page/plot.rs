//! The parts of a plot. Their places across are hundredths of the width, so that a plot fits
//! every screen and its letters keep their size.

use super::markup::{Markup, Percent, Px};
use super::scale::Scale;
use super::words::Figure;
use crate::bench::report::Group;
use crate::bench::spread::Spread;

/// How high a row with a dot or a bar is.
const ROW: f64 = 37.0;
/// Room at both sides, for half a mark or half a number.
const SIDE: f64 = 6.0;

/// Where on the width a value stands.
pub(super) fn across(scale: &Scale, value: f64) -> f64 {
    SIDE + scale.at(value) * (100.0 - 2.0 * SIDE)
}

/// The colour of a group, as a class.
pub(super) fn class(group: Group) -> &'static str {
    match group {
        Group::Direct => "direct",
        Group::Relay => "relay",
        Group::Field(_) => "field",
        Group::All => "all",
        Group::Tokens => "tokens",
        Group::Suite => "suite",
        Group::Tls => "tls",
        Group::Socket => "socket",
    }
}

/// The shape of a group around a point, so that nobody needs its colour.
pub(super) fn outline(group: Group) -> &'static str {
    match group {
        // A ring of straight lines is a circle at this size.
        Group::Direct => "M-5,0A5,5 0 1 0 5,0A5,5 0 1 0 -5,0Z",
        Group::Relay => "M-5,-5H5V5H-5Z",
        Group::Field(_) => "M-4.5,0A4.5,4.5 0 1 0 4.5,0A4.5,4.5 0 1 0 -4.5,0Z",
        Group::All => "M0,-6.5L6.5,0L0,6.5L-6.5,0Z",
        Group::Tokens => "M0,-6L6,5H-6Z",
        Group::Suite => "M0,6L6,-5H-6Z",
        Group::Tls => "M-2,-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
        Group::Socket => "M-3,-6H3L6,0L3,6H-3L-6,0Z",
    }
}

/// A mark of a group at a point.
pub(super) fn mark(markup: &mut Markup, group: Group, x: f64, y: f64, hollow: bool) {
    let class = format!(
        "mark {}{}",
        class(group),
        if hollow { " hollow" } else { "" }
    );
    let place: [(&str, &dyn std::fmt::Display); 3] =
        [("x", &Percent(x)), ("y", &Px(y)), ("overflow", &"visible")];
    markup.within("svg", &place, |markup| {
        markup.empty("path", &[("class", &class), ("d", &outline(group))]);
    });
}

/// A line between two places.
pub(super) fn line(markup: &mut Markup, class: &str, from: (f64, f64), to: (f64, f64)) {
    markup.empty(
        "line",
        &[
            ("class", &class),
            ("x1", &Percent(from.0)),
            ("y1", &Px(from.1)),
            ("x2", &Percent(to.0)),
            ("y2", &Px(to.1)),
        ],
    );
}

/// A drawing as wide as its place, with what it says in words.
pub(super) fn drawing(
    markup: &mut Markup,
    height: f64,
    says: &str,
    inner: impl FnOnce(&mut Markup),
) {
    let size: [(&str, &dyn std::fmt::Display); 4] = [
        ("role", &"img"),
        ("class", &"plot"),
        ("width", &"100%"),
        ("height", &Px(height)),
    ];
    markup.within("svg", &size, |markup| {
        markup.leaf("title", &[], says);
        inner(markup);
    });
}

/// The lines of the round numbers, and a stronger one at the baseline.
pub(super) fn grid(markup: &mut Markup, scale: &Scale, baseline: f64, height: f64) {
    for tick in scale.ticks() {
        let x = across(scale, *tick);
        line(markup, "grid", (x, 0.0), (x, height));
    }
    let x = across(scale, baseline);
    line(markup, "baseline", (x, 0.0), (x, height));
}

/// The round numbers, each with a sign behind it, for the head of a column of rows.
pub(super) fn axis(markup: &mut Markup, scale: &Scale, baseline: f64, sign: &str) {
    let kind = if scale.is_logarithmic() {
        "; equal steps are equal ratios"
    } else {
        ""
    };
    let shown = |tick: &f64| format!("{}{sign}", short(*tick));
    let ticks: Vec<String> = scale.ticks().iter().map(shown).collect();
    let says = format!("Axis: {}{kind}", ticks.join(", "));
    drawing(markup, 24.0, &says, |markup| {
        for (tick, shown) in scale.ticks().iter().zip(&ticks) {
            let x = across(scale, *tick);
            line(markup, "grid", (x, 18.0), (x, 24.0));
            let at_baseline = (tick - baseline).abs() < 1e-9;
            label(
                markup,
                if at_baseline { "tick at" } else { "tick" },
                (x, 14.0),
                0.0,
                "middle",
                shown,
            );
        }
        let x = across(scale, baseline);
        line(markup, "baseline", (x, 17.0), (x, 24.0));
    });
}

/// A text at a place, moved by so many pixels.
pub(super) fn label(
    markup: &mut Markup,
    class: &str,
    (x, y): (f64, f64),
    moved: f64,
    anchor: &str,
    text: &str,
) {
    markup.leaf(
        "text",
        &[
            ("class", &class),
            ("x", &Percent(x)),
            ("y", &Px(y)),
            ("dx", &Px(moved)),
            ("text-anchor", &anchor),
        ],
        text,
    );
}

/// Whether a spread has the baseline within it, so that no difference was seen.
pub(in crate::bench) fn is_even(spread: &Spread, baseline: f64) -> bool {
    (spread.low..=spread.high).contains(&baseline)
}

/// A dot with whiskers; hollow if no difference from 1 was seen.
pub(super) fn dot(markup: &mut Markup, scale: &Scale, group: Group, spread: &Spread, says: &str) {
    let middle = ROW / 2.0;
    drawing(markup, ROW, says, |markup| {
        grid(markup, scale, 1.0, ROW);
        whisker(markup, scale, spread, middle);
        let x = across(scale, spread.median);
        mark(markup, group, x, middle, is_even(spread, 1.0));
    });
}

/// The line of a spread, with an end at either side.
pub(super) fn whisker(markup: &mut Markup, scale: &Scale, spread: &Spread, y: f64) {
    let (from, to) = (across(scale, spread.low), across(scale, spread.high));
    line(markup, "whisker", (from, y), (to, y));
    for x in [from, to] {
        line(markup, "whisker", (x, y - 4.0), (x, y + 4.0));
    }
}

/// A bar from 0, with whiskers.
pub(super) fn bar(markup: &mut Markup, scale: &Scale, class: &str, spread: &Spread, says: &str) {
    drawing(markup, ROW, says, |markup| {
        grid(markup, scale, 0.0, ROW);
        let (zero, end) = (across(scale, 0.0), across(scale, spread.median));
        markup.empty(
            "rect",
            &[
                ("class", &format!("bar {class}")),
                ("x", &Percent(zero.min(end))),
                ("y", &9.0),
                ("width", &Percent((end - zero).abs())),
                ("height", &(ROW - 18.0)),
            ],
        );
        whisker(markup, scale, spread, ROW / 2.0);
    });
}

/// A row in which nothing was measured.
pub(super) fn nothing(markup: &mut Markup, scale: &Scale, baseline: f64) {
    drawing(markup, ROW, "not measured", |markup| {
        grid(markup, scale, baseline, ROW);
    });
}

/// A number for an axis: without zeros at its end, thousands as `k`.
pub(super) fn short(value: f64) -> String {
    let thousands = value.abs() >= 10_000.0;
    let shown = Figure(if thousands { value / 1000.0 } else { value }).to_string();
    let shown = match shown.split_once('.') {
        Some(_) => shown.trim_end_matches('0').trim_end_matches('.'),
        None => &shown,
    };
    format!("{shown}{}", if thousands { "k" } else { "" })
}
