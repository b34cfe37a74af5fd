//! Writes the verdicts of the table anew, from what was found.

use std::collections::BTreeMap;

use super::run::{Found, Outcome};
use super::table::{Group, Kind, Reason, folder, reasons};

/// Writes the files whose verdicts are not as found, and the reasons that are missing.
/// What differs from plaintext is left as it is.
pub(super) fn verdicts(groups: &[Group], outcomes: &[Outcome]) {
    let reasons = with_missing(reasons(), outcomes);
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

/// Adds reasons for refusals that none matches, under names made of their first words.
fn with_missing(mut reasons: Vec<Reason>, outcomes: &[Outcome]) -> Vec<Reason> {
    let path = folder().join("reasons.txt");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for outcome in outcomes.iter().filter(|outcome| !outcome.holds()) {
        let Found::Refused { code, message } = &outcome.found else {
            continue;
        };
        if matching(&reasons, *code, message).is_some() {
            continue;
        }
        let advice = message.rsplit("; ").next().unwrap_or(message);
        if ["operators_sealed", "sealed_", "equal_", "open_"]
            .iter()
            .any(|name| advice.contains(name))
        {
            eprintln!("a reason for this has to be written by hand: {message}");
            continue;
        }
        let words = advice.split(|letter: char| !letter.is_alphanumeric());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).take(4).collect();
        let mut name = words.join("-").to_lowercase();
        if reasons.iter().any(|reason| reason.name == name) {
            name += &format!("-{}", reasons.len());
        }
        text += &format!("{name} | {code} | {advice}\n");
        reasons.push(Reason {
            name,
            code: Some(*code),
            text: advice.to_owned(),
        });
    }
    std::fs::write(&path, text).unwrap();
    reasons
}

fn matching<'r>(reasons: &'r [Reason], code: i32, message: &str) -> Option<&'r Reason> {
    reasons
        .iter()
        .find(|reason| reason.code == Some(code) && message.contains(&reason.text))
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
        Found::Refused { code, message } => matching(reasons, *code, message)
            .map_or(outcome.verdict.written(), |reason| &reason.name),
        Found::Differs(_) | Found::NotRun => outcome.verdict.written(),
    }
}
