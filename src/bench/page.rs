//! The report as one page that can be sent, printed and argued over: HTML with plots in SVG,
//! without a script and without anything from elsewhere.

mod forest;
mod gain;
mod growth;
mod markup;
mod measured;
mod picture;
mod plot;
mod rows;
mod scale;
mod summary;
pub(super) mod words;

#[cfg(test)]
pub(super) mod fixture;

use self::markup::Markup;
pub(super) use self::markup::is_unseen;
pub use self::picture::picture;
pub(super) use self::plot::is_even;
use super::report::Report;

const STYLE: &str = include_str!("page/page.css");
/// Nothing is fetched, nothing runs.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut markup = Markup::default();
    markup.verbatim("<!DOCTYPE html>\n");
    markup.within("html", &[("lang", &"en")], |markup| {
        markup.within("head", &[], |markup| head(markup, report));
        markup.within("body", &[], |markup| body(markup, report));
    });
    markup.finish()
}

fn head(markup: &mut Markup, report: &Report) {
    markup.empty("meta", &[("charset", &"utf-8")]);
    markup.empty(
        "meta",
        &[
            ("http-equiv", &"Content-Security-Policy"),
            ("content", &POLICY),
        ],
    );
    let viewport = "width=device-width, initial-scale=1";
    markup.empty("meta", &[("name", &"viewport"), ("content", &viewport)]);
    markup.empty(
        "meta",
        &[("name", &"color-scheme"), ("content", &"light dark")],
    );
    let namespace = &report.about.documents.namespace;
    markup.leaf(
        "title",
        &[],
        format_args!("What sealing costs: {namespace}"),
    );
    markup.within("style", &[], |markup| markup.verbatim(STYLE));
}

fn body(markup: &mut Markup, report: &Report) {
    markup.within("header", &[], |markup| {
        markup.within("h1", &[], |markup| {
            markup.text("What sealing costs: ");
            markup.name(&report.about.documents.namespace);
        });
        markup.leaf(
            "p",
            &[("class", &"quiet")],
            "Security against performance, field by field, as fieldseal bench measured it.",
        );
    });
    markup.within("main", &[], |markup| {
        section(markup, "In short", |markup| {
            summary::summary(markup, report);
            summary::not_shown(markup, report);
        });
        section(markup, "Each choice against its baseline", |markup| {
            forest::panels(markup, report);
        });
        if !report.fields.is_empty() {
            section(markup, "Cost against gain, field by field", |markup| {
                gain::plot(markup, report);
            });
            section(
                markup,
                "What each field protects, and what is still seen",
                |markup| {
                    gain::table(markup, report);
                },
            );
        }
        if growth::is_measured(report) {
            section(markup, "More connections", |markup| {
                growth::charts(markup, report)
            });
        }
        if growth::has_cpu(report) {
            section(markup, "CPU time", |markup| growth::cpu(markup, report));
        }
        section(markup, "Everything that was measured", |markup| {
            markup.leaf("h3", &[], "How");
            measured::method(markup, report);
            if !report.notes.is_empty() {
                markup.leaf("h3", &[], "Notes");
                markup.within("ul", &[], |markup| {
                    for note in &report.notes {
                        markup.within("li", &[], |markup| markup.leaf("bdi", &[], note));
                    }
                });
            }
            details(markup, "All settings", |markup| {
                measured::settings(markup, report)
            });
            details(markup, "All measurements", |markup| {
                measured::table(markup, report)
            });
        });
    });
}

fn section(markup: &mut Markup, title: &str, inner: impl FnOnce(&mut Markup)) {
    markup.within("section", &[], |markup| {
        markup.leaf("h2", &[], title);
        inner(markup);
    });
}

/// Open, so that print has it too.
fn details(markup: &mut Markup, title: &str, inner: impl FnOnce(&mut Markup)) {
    markup.within("details", &[("open", &"open")], |markup| {
        markup.leaf("summary", &[], title);
        inner(markup);
    });
}

#[cfg(test)]
mod tests;
