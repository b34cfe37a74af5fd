//! The examples of the table for those who may not read, or not write, any sealed field.

use std::collections::BTreeSet;

use fieldseal::policy::Policy;

use super::decision::{self, Decided};
use super::ground;
use super::run::{Case, runs_of};
use super::table::{self, Kind, Verdict};

/// What becomes of the examples that others may use, on fields of these kinds: the names
/// and texts of those that are let through, and of those that are refused.
fn tried(policy: &Policy, kinds: &[Kind]) -> [BTreeSet<String>; 2] {
    let mut tried = [BTreeSet::new(), BTreeSet::new()];
    for group in &table::groups() {
        for row in &group.rows {
            for example in &row.examples {
                for (name, (kind, verdict)) in runs_of(row, example) {
                    let accepted = matches!(verdict, Verdict::Works | Verdict::Passes);
                    if !accepted || !kinds.contains(&kind) {
                        continue;
                    }
                    let case = Case {
                        group,
                        lane: "own",
                        row,
                        example,
                        kind,
                        name,
                    };
                    let commands = case.steps("base").commands;
                    let refused = commands.iter().find_map(|command| {
                        match decision::on(policy, "base", command) {
                            Decided::Refused { code, message } => Some((code, message)),
                            _ => None,
                        }
                    });
                    let text = format!("{}: {} {}", group.name, name, example.text);
                    match refused {
                        None => tried[0].insert(format!("{text} {kind:?}")),
                        Some((code, message)) => {
                            tried[1].insert(format!("{text} {kind:?} {code} {message}"))
                        }
                    };
                }
            }
        }
    }
    tried
}

#[test]
fn print() {
    let masked = ground::schema_with("base", "read = [\"reader\"], write = [\"writer\"]");
    let policy = decision::policy_of(&masked, &["writer"]);
    let [through, refused] = tried(&policy, &[Kind::Sealed, Kind::Equality]);
    for line in through {
        eprintln!("THROUGH {line}");
    }
    for line in refused {
        eprintln!("REFUSED {line}");
    }
    let [_, refused] = tried(&policy, &[Kind::Beside]);
    for line in refused {
        eprintln!("BESIDE {line}");
    }
    let guarded = ground::schema_with("base", "write = [\"writer\"]");
    let policy = decision::policy_of(&guarded, &[]);
    let [through, refused] = tried(&policy, &[Kind::Sealed, Kind::Equality]);
    for line in through {
        eprintln!("WTHROUGH {line}");
    }
    for line in refused {
        eprintln!("WREFUSED {line}");
    }
    let [_, refused] = tried(&policy, &[Kind::Beside]);
    for line in refused {
        eprintln!("WBESIDE {line}");
    }
}
