//! What a bench leaves: a table, a page, JSON.

use std::path::Path;

use serde_json::Value;

use crate::bench::report::{FORMAT, Report as Bench};
use crate::bench::{page, table};
use crate::cli::{Failure, Report};
use crate::code::Code;

/// Refuses a file that cannot be written, before minutes are spent on what is to be in it.
pub(super) fn check(file: &Path) -> Result<(), Failure> {
    let was_there = file.symlink_metadata().is_ok();
    let opened = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file);
    opened.map_err(|error| cannot(file, "cannot be written", &error))?;
    if !was_there {
        // What cannot be removed now is written later.
        let _ = std::fs::remove_file(file);
    }
    Ok(())
}

fn cannot(file: &Path, what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::coded(
        Code::Output,
        format_args!("{}: {what}: {error}", file.display()),
    )
}

/// What an earlier bench wrote.
pub(super) fn read(file: &Path) -> Result<Bench, Failure> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| cannot(file, "cannot be read", &error))?;
    let other = |error: &dyn std::fmt::Display| {
        cannot(file, "is no report of `fieldseal bench --json`", error)
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| other(&error))?;
    match value.get("format").and_then(Value::as_u64) {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => {
            let what = format_args!("its format is {format}, this version reads {FORMAT}");
            return Err(cannot(file, "is of another version", &what));
        }
        None => return Err(other(&"it has no `format`")),
    }
    serde_json::from_value(value).map_err(|error| other(&error))
}

/// The table, and the page, the picture and the JSON where they were asked for. What cannot be
/// written is told beside the table, which would be lost otherwise.
pub(super) fn tell(
    bench: &Bench,
    [page, picture, json]: [Option<&Path>; 3],
) -> (Report, Option<Failure>) {
    let figures = || Ok(serde_json::to_string_pretty(bench).map_err(Failure::new)? + "\n");
    let outs = [
        page.map(|file| (file, Ok(page::page(bench)))),
        picture.map(|file| (file, Ok(page::picture(bench)))),
        json.map(|file| (file, figures())),
    ];
    let mut text = table::table(bench);
    let mut failure: Option<Failure> = None;
    let mut before = "\n";
    for (file, content) in outs.into_iter().flatten() {
        let written = content.and_then(|content| {
            std::fs::write(file, content).map_err(|error| cannot(file, "cannot be written", &error))
        });
        match written {
            Ok(()) => text.push_str(&format!("{before}Written: {}\n", file.display())),
            Err(other) => {
                failure = Some(match failure {
                    Some(failure) => failure.and(other),
                    None => other,
                });
            }
        }
        before = "";
    }
    let report = Report {
        text,
        warnings: Vec::new(),
    };
    (report, failure)
}
