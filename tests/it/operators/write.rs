//! Writes the verdicts of the table anew, from what was found.

use std::collections::BTreeMap;

use super::run::{Found, Outcome};
use super::table::{Group, Kind, Reason, folder, reasons};

/// Writes the files whose verdicts are not as found. What differs from plaintext, and
/// a refusal that no reason matches, is left as it is.
pub(super) fn verdicts(groups: &[Group], outcomes: &[Outcome]) {
    let reasons = reasons();
    for group in groups {
        let mut lines: BTreeMap<usize, Vec<&Outcome>> = BTreeMap::new();
        for outcome in outcomes
            .iter()
            .filter(|outcome| outcome.group == group.name)
        {
            lines.entry(outcome.line).or_default().push(outcome);
        }
        let path = folder().join(group.name).with_extension("txt");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut written = String::new();
        for (number, line) in text.lines().enumerate() {
            match (lines.get(&number), line.rsplit_once(" | ")) {
                (Some(found), Some((row, _))) if found.iter().any(|outcome| !outcome.holds()) => {
                    written += &format!("{row} | {}\n", words(found, &reasons));
                }
                _ => written += &format!("{line}\n"),
            }
        }
        std::fs::write(&path, written).unwrap();
    }
}

/// The verdicts of a line: one for each kind of field, or one where all are the same.
fn words(found: &[&Outcome], reasons: &[Reason]) -> String {
    let mut words = Vec::new();
    for kind in Kind::ALL {
        let of_kind = || found.iter().filter(|outcome| outcome.kind == kind);
        if let Some(first) = of_kind().next().map(|outcome| word(outcome, reasons)) {
            let agreed = of_kind().all(|outcome| word(outcome, reasons) == first);
            words.push(if agreed { first } else { "?" });
        }
    }
    if words.iter().all(|word| *word == words[0]) {
        return words[0].to_owned();
    }
    words.join(" ")
}

fn word<'r>(outcome: &&'r Outcome, reasons: &'r [Reason]) -> &'r str {
    if outcome.holds() {
        return outcome.verdict.written();
    }
    match &outcome.found {
        Found::Works => "works",
        Found::Passes(_) => "passes",
        Found::LetThrough => match outcome.group {
            "commands" => "passes",
            _ => "works",
        },
        Found::Refused { code, message } => reasons
            .iter()
            .find(|reason| reason.code == Some(*code) && message.contains(&reason.text))
            .map_or(outcome.verdict.written(), |reason| &reason.name),
        Found::Differs(_) | Found::NotRun => outcome.verdict.written(),
    }
}
