//! What matters most, in words and a few numbers, and what it was measured with.

use super::markup::Markup;
use super::plot;
use super::words::{self, Unit, counted, sound};
use crate::bench::report::{Field, Group, Measurement, Operation, Report, Source};
use crate::bench::spread::Spread;

/// One of the numbers that matter.
struct Tile {
    /// The number, with its unit.
    number: String,
    /// Its spread.
    spread: String,
    /// What it is.
    says: String,
}

/// The two operations that the summary speaks of.
const BOTH: [(Operation, &str, &str); 2] = [
    (Operation::Write, "write", "written"),
    (Operation::Read, "read", "read"),
];

/// Whether nothing was seen to be added or lost.
fn is_unseen(unit: Unit, spread: &Spread) -> bool {
    let none = if unit == Unit::Share { 1.0 } else { 0.0 };
    plot::is_even(spread, none)
}

/// A spread, and that no difference was seen where it is so.
fn judged(unit: Unit, spread: &Spread) -> String {
    let whole = unit.whole(spread);
    match (is_unseen(unit, spread), whole.strip_suffix(')')) {
        (true, Some(open)) => format!("{open}; no difference seen)"),
        _ => whole,
    }
}

/// Numbers that matter, then a sentence for each.
pub(super) fn summary(markup: &mut Markup, report: &Report) {
    let tiles = tiles(report);
    if tiles.is_empty() {
        markup.leaf(
            "p",
            &[("class", &"empty")],
            "Neither a proxy that seals nothing nor one that seals all was measured.",
        );
    }
    markup.within("ul", &[("class", &"tiles")], |markup| {
        for tile in &tiles {
            markup.within("li", &[], |markup| {
                markup.leaf("strong", &[], &tile.number);
                markup.text(" ");
                markup.leaf("small", &[], &tile.spread);
                markup.text(" ");
                markup.leaf("span", &[], &tile.says);
            });
        }
    });
    relay(markup, report);
    all(markup, report);
    fields(markup, report);
    how(markup, report);
}

fn tiles(report: &Report) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut push = |unit: Unit, spread: Option<Spread>, says: String| {
        if let Some(spread) = sound(spread) {
            let number = unit.middle(&spread);
            tiles.push(Tile {
                number,
                spread: match is_unseen(unit, &spread) {
                    true => format!("{}: no difference seen", unit.ends(&spread)),
                    false => unit.ends(&spread),
                },
                says,
            });
        }
    };
    let every = all_fields(report);
    for (operation, _, done) in BOTH {
        if let Some(measured) = of(report, Group::All, operation) {
            let against = against(report, Group::All);
            let says = format!(
                "of the proxy’s CPU time added to each document {done}, with {every} sealed, compared with {against}"
            );
            push(Unit::Microseconds, measured.cpu_added, says);
        }
    }
    if let Some(measured) = of(report, Group::All, Operation::Read) {
        let against = against(report, Group::All);
        let says = format!(
            "of the reads in a second are kept with {every} sealed, compared with {against}"
        );
        push(Unit::Share, measured.throughput_ratio, says);
    }
    if let Some(measured) = of(report, Group::Relay, Operation::Read) {
        let says = "of the reads in a second are kept by going through a proxy that seals nothing, compared with going directly";
        push(Unit::Share, measured.throughput_ratio, says.to_owned());
    }
    tiles
}

fn of(report: &Report, group: Group, operation: Operation) -> Option<&Measurement> {
    let (place, _) = words::first(report, group)?;
    words::usual(report, place, operation)
}

fn against(report: &Report, group: Group) -> String {
    let setting = words::first(report, group).and_then(|(_, setting)| setting.against);
    let against = setting.and_then(|place| report.settings.get(place));
    match against.map(|setting| setting.group) {
        Some(Group::Direct) => "going directly".to_owned(),
        Some(Group::Relay) => "a proxy that seals nothing".to_owned(),
        _ => against
            .map_or("nothing", |setting| &setting.name)
            .to_owned(),
    }
}

fn all_fields(report: &Report) -> String {
    match report.fields.len() {
        0 => "all fields".to_owned(),
        1 => "the field".to_owned(),
        count => format!("all {count} fields"),
    }
}

fn relay(markup: &mut Markup, report: &Report) {
    let parts: Vec<String> = (BOTH.into_iter())
        .filter_map(|(operation, name, _)| {
            let measured = of(report, Group::Relay, operation)?;
            let kept = judged(Unit::Share, &sound(measured.throughput_ratio)?);
            let cpu = sound(measured.cpu).map_or(String::new(), |cpu| {
                format!(
                    ", for {} of the proxy’s CPU time per {name}",
                    Unit::Microseconds.whole(&cpu)
                )
            });
            Some(format!("{kept} of the throughput of {name}s{cpu}"))
        })
        .collect();
    if !parts.is_empty() {
        markup.within("p", &[], |markup| {
            markup.leaf("b", &[], "The proxy itself.");
            markup.text(format_args!(
                " With nothing sealed, and compared with going directly, it keeps {}.",
                parts.join(" and ")
            ));
        });
    }
}

fn all(markup: &mut Markup, report: &Report) {
    let parts: Vec<String> = (BOTH.into_iter())
        .filter_map(|(operation, name, done)| {
            let measured = of(report, Group::All, operation)?;
            let added = sound(measured.cpu_added).map(|added| {
                format!(
                    "adds {} of CPU time to each document {done}",
                    judged(Unit::Microseconds, &added)
                )
            });
            let kept = sound(measured.throughput_ratio).map(|kept| {
                format!(
                    "keeps {} of the throughput of {name}s",
                    judged(Unit::Share, &kept)
                )
            });
            let parts: Vec<String> = [added, kept].into_iter().flatten().collect();
            (!parts.is_empty()).then(|| parts.join(" and "))
        })
        .collect();
    if !parts.is_empty() {
        let (every, against) = (all_fields(report), against(report, Group::All));
        markup.within("p", &[], |markup| {
            markup.leaf("b", &[], "Sealing.");
            markup.text(format_args!(
                " With {every} sealed, it {}; compared with {against}.",
                parts.join(", and ")
            ));
            let bytes: f64 = report.fields.iter().map(|field| field.bytes_added).sum();
            if bytes.is_finite() && bytes > 0.0 {
                let before = report.about.documents.bytes;
                let (bytes, before) = (Unit::Bytes.one(bytes), Unit::Bytes.one(before));
                markup.text(format_args!(
                    " A stored document grows by {bytes}, from {before}."
                ));
            }
        });
    }
}

fn fields(markup: &mut Markup, report: &Report) {
    let cost = |field: &Field| {
        let added = [field.write_added, field.read_added];
        let added: Vec<f64> = added
            .into_iter()
            .filter_map(sound)
            .map(|spread| spread.median)
            .collect();
        (!added.is_empty()).then(|| added.iter().sum::<f64>())
    };
    let mut by_cost: Vec<(f64, &Field)> = (report.fields.iter())
        .filter_map(|field| Some((cost(field)?, field)))
        .collect();
    by_cost.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    if let [(_, cheapest), .., (_, dearest)] = by_cost.as_slice() {
        markup.within("p", &[], |markup| {
            markup.leaf("b", &[], "Fields.");
            markup.text(" By a write and a read together, the dearest is ");
            costs(markup, dearest);
            markup.text(", the cheapest ");
            costs(markup, cheapest);
            markup.text(".");
            let end = |field: &Field, end: fn(Spread) -> f64| {
                let added = [field.write_added, field.read_added].into_iter();
                added.filter_map(sound).map(end).sum::<f64>()
            };
            if end(dearest, |spread| spread.low) <= end(cheapest, |spread| spread.high) {
                markup.text(
                    " Their spreads overlap: these rounds do not tell which of them costs more.",
                );
            }
        });
    }
    let equality: Vec<&Field> = (report.fields.iter())
        .filter(|field| field.queries.iter().any(|query| query == "equality"))
        .collect();
    if report.fields.is_empty() {
        return;
    }
    markup.within("p", &[], |markup| {
        markup.leaf("b", &[], "What is still seen.");
        markup.text(
            " Of every sealed field the server sees where it is there, how long its values are, and when it is written.",
        );
        let count = equality.len();
        if count == 0 {
            return;
        }
        let (verb, total) = (if count == 1 { "has" } else { "have" }, report.fields.len());
        markup.text(format_args!(" {count} of {} {verb} equality: ", counted(total, "field")));
        for (number, field) in equality.iter().take(NAMED).enumerate() {
            markup.text(if number == 0 { "" } else { ", " });
            markup.name(&field.path);
        }
        if count > NAMED {
            markup.text(format_args!(" and {} more", count - NAMED));
        }
        markup.text(
            ". There it also sees which values are equal, and how often each occurs. Where values are few, that can be \
             enough to name them.",
        );
    });
}

/// So many fields are named in a sentence.
const NAMED: usize = 8;

fn costs(markup: &mut Markup, field: &Field) {
    markup.name(&field.path);
    let both = [("write", field.write_added), ("read", field.read_added)];
    let parts: Vec<String> = (both.into_iter())
        .filter_map(|(name, spread)| {
            Some(format!(
                "{} per {name}",
                Unit::Microseconds.whole(&sound(spread)?)
            ))
        })
        .collect();
    markup.text(format_args!(", {}", parts.join(" and ")));
}

fn how(markup: &mut Markup, report: &Report) {
    let about = &report.about;
    let documents = &about.documents;
    let source = match documents.source {
        Source::MadeUp => "made up after the schema",
        Source::File => "from a file",
        Source::Sample => "a sample of a collection",
    };
    let place = if about.embedded {
        "started for this, on the same machine"
    } else {
        "given; it may be on another machine"
    };
    let rounds = counted(about.rounds, "round");
    let facts = [
        ("When", about.when.clone()),
        ("Fieldseal", about.fieldseal.clone()),
        ("MongoDB", format!("{}, {place}", about.mongodb)),
        ("Processor", about.processor.clone()),
        (
            "Cores",
            format!("{}, shared by all that ran there", about.cores),
        ),
        (
            "Rounds",
            format!(
                "{rounds}, {} s for each setting in each",
                plot::short(about.seconds)
            ),
        ),
        ("Collection", documents.namespace.clone()),
        (
            "Documents",
            format!(
                "{}, {source}; {} each on average, before sealing",
                documents.count,
                Unit::Bytes.one(documents.bytes)
            ),
        ),
    ];
    markup.within("dl", &[("class", &"facts")], |markup| {
        for (term, fact) in facts {
            markup.within("div", &[], |markup| {
                markup.leaf("dt", &[], term);
                markup.within("dd", &[], |markup| markup.leaf("bdi", &[], fact));
            });
        }
    });
    markup.leaf(
        "p",
        &[("class", &"quiet")],
        "Numbers are medians of the rounds; in brackets the 10th and the 90th percentile of the rounds.",
    );
}

/// What a reader could take from the page and should not.
pub(super) fn not_shown(markup: &mut Markup, report: &Report) {
    markup.leaf("h3", &[], "What is not shown here");
    let shared = if report.about.embedded {
        "Other machines. Client, proxy and MongoDB shared the cores of one: a proxy on a machine of its own takes \
         no CPU time from the others, but adds a network’s delay. Ratios carry over better than absolute numbers."
    } else {
        "Other machines and networks. Ratios carry over better than absolute numbers."
    };
    let sentences = [
        shared,
        "Your load. Each connection sends one kind of command after the other, with no pause; services do many kinds, and wait.",
        "Your amount of data. A collection of this bench fits into memory: where MongoDB waits for disks, the proxy’s share is smaller, \
         and the bytes that are added weigh more.",
        "Whether what the server still sees harms you. What it sees is told by how values are sealed, and not measured; how much \
         it tells depends on your values: how many there are, how evenly spread, how long.",
        "What whoever reaches the proxy can do: they read what they may read.",
    ];
    markup.within("ul", &[], |markup| {
        for sentence in sentences {
            markup.leaf("li", &[], sentence);
        }
    });
}
