//! What each field costs beside what it leaves to be seen, and all that is known of each field.

use super::forest::figure;
use super::markup::Markup;
use super::plot;
use super::rows;
use super::scale::Scale;
use super::words::{Figure, MISSING, Unit, sound};
use crate::bench::report::{Field, Report};
use crate::bench::spread::Spread;

/// What the server sees of every field, if there are several.
fn common(report: &Report) -> Vec<&str> {
    let [first, others @ ..] = report.fields.as_slice() else {
        return Vec::new();
    };
    if others.is_empty() {
        return Vec::new();
    }
    let of_all = |sentence: &&String| others.iter().all(|field| field.visible.contains(sentence));
    let seen = first.visible.iter().filter(of_all);
    seen.map(String::as_str).collect()
}

/// What stands before the colon of a sentence, if that is short.
fn in_short(sentence: &str) -> &str {
    match sentence.split_once(": ") {
        Some((short, _)) if short.chars().count() <= 32 => short,
        _ => sentence,
    }
}

/// A field's name; with its collection, if there are several.
fn name(markup: &mut Markup, report: &Report, field: &Field) {
    markup.name(&field.path);
    let several = report
        .fields
        .iter()
        .any(|other| other.collection != field.collection);
    if several {
        markup.text(" ");
        markup.within("small", &[], |markup| {
            markup.text("in ");
            markup.name(&field.collection);
        });
    }
}

/// The plot: cost against gain.
pub(super) fn plot(markup: &mut Markup, report: &Report) {
    let common = common(report);
    markup.leaf(
        "p",
        &[],
        "CPU time of the proxy that each field alone adds to a document, above that of a proxy that seals nothing. The line \
         through the end of a bar is its spread. Beside it, in short, what the server can still see; the next table has \
         that in full.",
    );
    if !common.is_empty() {
        let short: Vec<&str> = common.iter().map(|sentence| in_short(sentence)).collect();
        markup.within("p", &[], |markup| {
            markup.leaf("b", &[], "Of every field the server sees: ");
            markup.text(short.join(" · "));
            markup.text(".");
        });
    }
    let added = report.fields.iter();
    let added = added.flat_map(|field| [sound(field.write_added), sound(field.read_added)]);
    let scale = Scale::from_zero(
        added
            .flatten()
            .flat_map(|spread| [spread.low, spread.median, spread.high]),
        4,
    );
    rows::table(
        markup,
        "gain",
        "CPU time per document, and what is still seen.",
        |markup| {
            rows::widths(
                markup,
                &["label", "drawn", "figure", "drawn", "figure", "seen"],
            );
            rows::head(markup, |markup| {
                rows::column(markup, "label", |markup| markup.text("Field"));
                for title in ["Added to a write, µs of CPU", "Added to a read, µs of CPU"] {
                    rows::columns(markup, |markup| {
                        markup.leaf("span", &[], title);
                        markup.within("div", &[("class", &"axis")], |markup| {
                            plot::axis(markup, &scale, 0.0, "");
                        });
                    });
                }
                let title = if common.is_empty() {
                    "The server still sees"
                } else {
                    "The server sees besides"
                };
                rows::column(markup, "seen", |markup| markup.text(title));
            });
            rows::body(markup, |markup| {
                for field in &report.fields {
                    rows::row(markup, |markup| {
                        rows::about(markup, |markup| name(markup, report, field));
                        bar(markup, &scale, field, "write", field.write_added);
                        bar(markup, &scale, field, "read", field.read_added);
                        seen_in_short(markup, field, &common);
                    });
                }
            });
        },
    );
}

fn bar(markup: &mut Markup, scale: &Scale, field: &Field, what: &str, added: Option<Spread>) {
    let added = sound(added);
    rows::cell(markup, "drawn", "", |markup| match &added {
        Some(added) => {
            let says = format!(
                "{}, {what}: {}",
                field.path,
                Unit::Microseconds.whole(added)
            );
            plot::bar(markup, scale, what, added, &says);
        }
        None => plot::nothing(markup, scale, 0.0),
    });
    figure(markup, what, Unit::Microseconds, added.as_ref());
}

fn seen_in_short(markup: &mut Markup, field: &Field, common: &[&str]) {
    let own: Vec<&str> = (field.visible.iter().map(String::as_str))
        .filter(|sentence| !common.contains(sentence))
        .collect();
    rows::cell(markup, "seen", "the server sees", |markup| {
        if own.is_empty() {
            markup.leaf("span", &[("class", &"quiet")], "nothing else");
        }
        for sentence in own {
            markup.leaf("span", &[("class", &"chip")], in_short(sentence));
            markup.text(" ");
        }
    });
}

/// The table: all that is known of each field.
pub(super) fn table(markup: &mut Markup, report: &Report) {
    let common = common(report);
    if !common.is_empty() {
        markup.leaf(
            "p",
            &[],
            "Of each of these fields the server, its backups and its logs show:",
        );
        list(markup, &common);
    }
    rows::table(
        markup,
        "fields",
        "What each sealed field gains and costs.",
        |markup| {
            rows::widths(markup, &["label"]);
            rows::head(markup, |markup| {
                rows::column(markup, "", |markup| markup.text("Field"));
                for title in COLUMNS {
                    rows::column(markup, "", |markup| markup.text(title));
                }
            });
            for field in &report.fields {
                rows::body(markup, |markup| all_of(markup, report, field, &common));
            }
        },
    );
    markup.leaf(
        "p",
        &[("class", &"quiet")],
        "Bytes are those of a stored document, on average over all documents, also those without the field. “Kept” is the \
         throughput with this field alone sealed, as a share of that with nothing sealed.",
    );
}

/// The numbers of a field.
const COLUMNS: [&str; 5] = [
    "Bytes added",
    "CPU added, write",
    "CPU added, read",
    "Writes kept",
    "Reads kept",
];

/// Two rows: its numbers, and below them the words.
fn all_of(markup: &mut Markup, report: &Report, field: &Field, common: &[&str]) {
    rows::row(markup, |markup| {
        rows::about_both(markup, |markup| {
            name(markup, report, field);
            let kind = field.kind.as_deref().unwrap_or("any type");
            let queries = if field.queries.is_empty() {
                "no queries".to_owned()
            } else {
                field.queries.join(", ")
            };
            let present = Figure(field.present);
            markup.text(" ");
            markup.leaf(
                "small",
                &[],
                format_args!("{kind}; {queries}; in {present} of 100 documents"),
            );
        });
        numbers(markup, field);
    });
    rows::row(markup, |markup| {
        rows::over(markup, COLUMNS.len(), |markup| {
            markup.within("p", &[], |markup| {
                markup.leaf("b", &[], "Protected: ");
                markup.text(&field.protects);
            });
            let own: Vec<&str> = (field.visible.iter().map(String::as_str))
                .filter(|sentence| !common.contains(sentence))
                .collect();
            let besides = if common.is_empty() { "" } else { " besides" };
            markup.within("p", &[], |markup| {
                markup.leaf("b", &[], format_args!("Still seen{besides}: "));
                if own.is_empty() {
                    markup.text("nothing else.");
                }
            });
            if !own.is_empty() {
                list(markup, &own);
            }
        });
    });
}

fn numbers(markup: &mut Markup, field: &Field) {
    let [bytes, spreads @ ..] = COLUMNS;
    rows::cell(markup, "number", bytes, |markup| {
        if field.bytes_added.is_finite() {
            markup.leaf("b", &[], Unit::Bytes.one(field.bytes_added));
        } else {
            markup.text(MISSING);
        }
    });
    let shown = [
        (Unit::Microseconds, field.write_added),
        (Unit::Microseconds, field.read_added),
        (Unit::Share, field.write_throughput),
        (Unit::Share, field.read_throughput),
    ];
    for (label, (unit, spread)) in spreads.into_iter().zip(shown) {
        figure(markup, label, unit, sound(spread).as_ref());
    }
}

fn list(markup: &mut Markup, sentences: &[&str]) {
    markup.within("ul", &[], |markup| {
        for sentence in sentences {
            markup.leaf("li", &[], sentence);
        }
    });
}
