#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use super::fixture::{HOSTILE, report, with_names};
use super::{page, picture};
use crate::bench::report::{Group, Report};
use crate::bench::spread::Spread;

/// Reports of all kinds: usual, small, large, odd, empty, with gaps.
fn reports() -> Vec<Report> {
    let hostile: Vec<String> = HOSTILE.iter().map(|name| (*name).to_owned()).collect();
    let mut empty = report(0);
    (empty.settings, empty.measurements, empty.notes) = Default::default();
    let mut gaps = report(5);
    for (number, measurement) in gaps.measurements.iter_mut().enumerate() {
        let none = |part: usize, spread: Option<Spread>| spread.filter(|_| number % 6 != part);
        measurement.cpu = none(1, measurement.cpu);
        measurement.cpu_mongodb = None;
        measurement.p50_ratio = none(2, measurement.p50_ratio);
        measurement.throughput_ratio = none(3, measurement.throughput_ratio);
        measurement.cpu_added = none(4, measurement.cpu_added);
    }
    gaps.measurements
        .retain(|measurement| measurement.setting % 4 != 3);
    let mut odd = report(3);
    for measurement in &mut odd.measurements {
        measurement.p50.high = f64::INFINITY;
        measurement.throughput_ratio = Some(Spread {
            low: f64::NAN,
            median: 0.0,
            high: -1.0,
        });
        measurement.cpu_added = Some(Spread {
            low: -2.0,
            median: -0.5,
            high: 0.0,
        });
    }
    for setting in &mut odd.settings {
        setting.against = setting.against.map(|place| place + 1000);
    }
    odd.settings[1].against = Some(1);
    odd.settings[2].group = Group::Field(4000);
    odd.fields[0].bytes_added = f64::NAN;
    let mut alone = report(2);
    alone
        .measurements
        .retain(|measurement| measurement.setting == 0);
    vec![
        report(5),
        report(1),
        report(40),
        report(0),
        with_names(&hostile, &[1]),
        with_names(&hostile, &[1, 2, 4, 8, 16, 64]),
        empty,
        gaps,
        odd,
        alone,
    ]
}

fn outputs() -> impl Iterator<Item = String> {
    reports()
        .into_iter()
        .flat_map(|report| [page(&report), picture(&report)])
}

/// The names of the elements in their order; every one that is opened is closed, and every
/// attribute is in quotes and stands once.
fn elements(text: &str) -> Vec<&str> {
    let mut rest = text.strip_prefix("<!DOCTYPE html>").unwrap_or(text);
    let (mut open, mut found) = (Vec::new(), Vec::new());
    while let Some(at) = rest.find('<') {
        let is_style = found.last() == Some(&"style");
        assert!(is_style || !rest[..at].contains('>'), "a loose >");
        rest = &rest[at + 1..];
        if let Some(closed) = rest.strip_prefix('/') {
            let end = closed.find('>').unwrap();
            assert_eq!(open.pop(), Some(&closed[..end]));
            rest = &closed[end + 1..];
            continue;
        }
        let end = rest.find('>').unwrap();
        let (tag, empty) = match rest[..end].strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (&rest[..end], false),
        };
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(
            name.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{name:?}"
        );
        well_formed(attributes);
        found.push(name);
        if !empty {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert_eq!(open, Vec::<&str>::new());
    found
}

fn well_formed(attributes: &str) {
    let mut seen = HashMap::new();
    let mut rest = attributes;
    while !rest.is_empty() {
        let (key, value) = rest.split_once("=\"").unwrap();
        let key = key.trim_start();
        assert!(
            key.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "{key:?}"
        );
        let (value, after) = value.split_once('"').unwrap();
        assert!(!value.contains('<'), "{value:?}");
        assert_eq!(
            seen.insert(key, value),
            None,
            "{key} twice in {attributes:?}"
        );
        rest = after;
    }
}

#[test]
fn what_is_opened_is_closed() {
    for output in outputs() {
        assert!(elements(&output).contains(&"title"));
    }
}

#[test]
fn nothing_runs_and_nothing_is_fetched() {
    for report in reports() {
        let page = page(&report);
        let policy = "content=\"default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;";
        assert!(page.contains(policy));
        assert!(!page.contains("://"), "no address of anything");
        let picture = picture(&report);
        assert_eq!(picture.matches("://").count(), 1, "the name of SVG alone");
        for output in [&page, &picture] {
            let names = elements(output);
            for name in [
                "script", "img", "link", "iframe", "object", "a", "use", "image", "form",
            ] {
                assert!(!names.contains(&name), "{name}");
            }
            assert!(!output.contains("url(") && !output.contains("@import"));
        }
    }
}

#[test]
fn names_of_fields_are_text_whatever_they_hold() {
    let names: Vec<String> = HOSTILE.iter().map(|name| (*name).to_owned()).collect();
    let report = with_names(&names, &[1, 8]);
    for output in [page(&report), picture(&report)] {
        assert!(output.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(output.contains("ключ.名前.🔑&#39;`"));
        for character in ['\u{0}', '\u{1b}', '\u{202e}'] {
            assert!(!output.contains(character));
        }
        // Whatever is not of the report cannot begin an element, so these are all there are.
        for name in elements(&output) {
            assert!(!["script", "img"].contains(&name));
        }
    }
}

#[test]
fn no_number_is_missing_its_value() {
    for output in outputs() {
        let words: Vec<&str> = output.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        assert!(
            !words.contains(&"NaN") && !words.contains(&"inf"),
            "not a number"
        );
    }
}

#[test]
fn every_field_and_every_setting_is_named_with_what_is_said_of_it() {
    for count in [1, 5, 40] {
        let report = report(count);
        let page = page(&report);
        for setting in &report.settings {
            assert!(page.contains(&setting.name) && page.contains(&setting.says));
        }
        for field in &report.fields {
            assert!(page.contains(&field.path) && page.contains(&field.protects));
            assert!(field.visible.iter().all(|sentence| page.contains(sentence)));
        }
        assert!(report.notes.iter().all(|note| page.contains(note)));
        let picture = picture(&report);
        assert!(picture.contains("all fields") && picture.contains("shop.customers"));
        assert_eq!(picture.contains("more fields"), count == 40);
    }
}

#[test]
fn every_measurement_is_in_the_table() {
    let report = report(2);
    let page = page(&report);
    let table = page.split_once("<table class=\"all\"").unwrap().1;
    let rows = table
        .split_once("</table>")
        .unwrap()
        .0
        .matches("<th scope=\"row\"")
        .count();
    assert_eq!(rows, report.measurements.len());
}

#[test]
fn the_same_report_makes_the_same_page() {
    for report in reports() {
        assert_eq!(page(&report), page(&report.clone()));
        assert_eq!(picture(&report), picture(&report.clone()));
    }
}

#[test]
fn the_page_can_be_read_aloud() {
    let page = page(&report(5));
    assert!(page.contains("<html lang=\"en\">"));
    // Every plot says what it shows; every table has a caption; headings go down one step at a time.
    let drawings = page.matches("<svg role=\"img\"").count();
    assert!(drawings > 50);
    let said = page.split("<svg role=\"img\"").skip(1);
    assert!(
        said.clone()
            .all(|svg| svg.split_once('>').unwrap().1.starts_with("<title>"))
    );
    assert_eq!(
        page.matches("<table").count(),
        page.matches("<caption>").count()
    );
    assert!(page.matches("<th").all(|_| true));
    for head in page.split("<th ").skip(1) {
        assert!(
            head.split_once('>').unwrap().0.contains("scope="),
            "{head:.60}"
        );
    }
    let levels = elements(&page).into_iter().filter_map(|name| {
        name.strip_prefix('h')
            .and_then(|level| level.parse::<u8>().ok())
    });
    let mut before = 0;
    for level in levels {
        assert!(level <= before + 1, "from {before} to {level}");
        before = level;
    }
}

#[test]
fn a_difference_that_was_not_seen_is_drawn_hollow() {
    let mut report = report(1);
    for measurement in &mut report.measurements {
        let ratio = |low, median, high| Some(Spread { low, median, high });
        measurement.p50_ratio = ratio(0.98, 1.01, 1.04);
        measurement.throughput_ratio = ratio(0.9, 0.95, 0.98);
    }
    let page = page(&report);
    assert!(page.contains("mark relay hollow") && page.contains("mark relay\""));
    let picture = picture(&report);
    assert!(!picture.contains("mark relay hollow"));
}

#[test]
fn the_summary_says_where_no_difference_was_seen() {
    let spread = |low, median, high| Some(Spread { low, median, high });
    let told = |kept, added| {
        let mut report = report(2);
        for measurement in &mut report.measurements {
            (measurement.throughput_ratio, measurement.cpu_added) = (kept, added);
        }
        for (number, field) in report.fields.iter_mut().enumerate() {
            field.write_added = spread(0.1, 1.0 + number as f64, 3.0);
            field.read_added = field.write_added;
        }
        page(&report)
    };
    let noise = told(spread(0.9, 1.1, 1.3), spread(-3.0, -1.0, 2.0));
    assert_eq!(noise.matches(": no difference seen").count(), 4);
    assert_eq!(noise.matches("; no difference seen)").count(), 6);
    assert!(noise.contains("do not tell which of them costs more"));
    let clear = told(spread(0.8, 0.9, 0.95), spread(1.0, 2.0, 3.0));
    assert!(!clear.contains("no difference seen"));
}

#[test]
fn the_summary_says_what_is_seen_of_every_field_and_what_of_those_with_equality() {
    const ALL: &str = "Of every sealed field the server sees";
    let mut report = report(2);
    for field in &mut report.fields {
        field.queries.clear();
    }
    let without = page(&report);
    assert!(without.contains(ALL) && !without.contains("which values are equal, and"));
    report.fields[0].queries.push("equality".to_owned());
    let with = page(&report);
    assert!(with.contains(ALL) && with.contains(" 1 of 2 fields has equality: "));
}
