//! The truth about MongoDB's language over sealed fields, one row for each name.
//!
//! `table/*.txt` has a row for every command, operator, stage, expression, index
//! and option that MongoDB 6.0 to 8 document, with examples and a verdict for each
//! kind of field. Each example is run through the proxy and on a plaintext twin;
//! `docs/operators.md` is the same table, rendered. By environment:
//!
//! - `FIELDSEAL_OPERATORS=print` prints what became of every example;
//! - `FIELDSEAL_OPERATORS=accept` writes the verdicts anew, except where an answer
//!   differs from plaintext, and adds to `table/reasons.txt` what is missing there;
//! - `FIELDSEAL_WRITE_DOCS=1` writes the page anew (`make docs`).

mod answer;
mod decision;
mod document;
mod ground;
mod names;
mod notation;
mod permission;
mod run;
mod table;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{
    Proxy, ProxyOptions, ReplicaSet, ReplicaSetOptions, WITH_JAVASCRIPT, unique_database,
};
use ground::Ground;
use run::{Found, Outcome};
use table::{Group, Verdict};

/// Rows that run one after the other; lanes run at the same time, each in collections of its own.
const LANE: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_of_the_table_holds() {
    // Of its own: some rows look at all that goes on in a server.
    let set = &ReplicaSet::start(ReplicaSetOptions::default()).await;
    let (sealed, plain) = (
        unique_database("operators_sealed"),
        unique_database("operators_plain"),
    );
    let schema = ground::schema(&sealed);
    let options = ProxyOptions {
        schema: &schema,
        // The table is of what the rewriting does with it.
        configuration: WITH_JAVASCRIPT,
        log_level: "info",
        ..ProxyOptions::default()
    };
    let proxy = Proxy::start_with(set, options).await;
    let ground = Ground::new(set, &proxy, &sealed, &plain).await;
    let groups = table::groups();
    let mut tasks = Vec::new();
    for group in &groups {
        let lanes = group.rows.chunks(LANE).enumerate();
        tasks.extend(lanes.map(|(lane, rows)| {
            let group = Group {
                rows: rows.to_vec(),
                ..group.clone()
            };
            let name = format!("{}_{lane}", group.name);
            tokio::spawn(run::rows(group, name, ground.clone()))
        }));
    }
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.extend(task.await.unwrap());
    }
    report(&groups, &outcomes);
}

/// Prints or accepts what was found, as asked for; fails with all that is not as the table says.
fn report(groups: &[Group], outcomes: &[Outcome]) {
    let mode = std::env::var("FIELDSEAL_OPERATORS").unwrap_or_default();
    if mode == "print" {
        for outcome in outcomes {
            eprintln!("{outcome}");
        }
    }
    if mode == "accept" {
        write::verdicts(groups, outcomes);
    }
    eprintln!("{}", counts(groups));
    let wrong: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.holds())
        .map(ToString::to_string)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} examples are not as the table says:\n\n{}\n\nFIELDSEAL_OPERATORS=accept writes the table anew",
        wrong.len(),
        outcomes.len(),
        wrong.join("\n")
    );
}

fn counts(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        let mut words: BTreeMap<&str, usize> = BTreeMap::new();
        for example in group.examples() {
            for (_, verdict) in example.verdicts() {
                *words.entry(verdict.word()).or_default() += 1;
            }
        }
        text += &format!("{}: {} rows, {words:?}\n", group.name, group.rows.len());
    }
    text
}

#[test]
fn the_page_says_what_the_table_does() {
    document::check();
}

#[test]
fn every_reason_has_its_rows() {
    let groups = table::groups();
    let verdicts = groups
        .iter()
        .flat_map(Group::examples)
        .flat_map(table::Example::verdicts);
    let used: BTreeSet<String> = verdicts
        .map(|(_, verdict)| verdict.written().to_owned())
        .collect();
    let unused: Vec<String> = table::reasons()
        .into_iter()
        .map(|reason| reason.name)
        .filter(|name| !used.contains(name))
        .collect();
    assert!(unused.is_empty(), "take out of reasons.txt: {unused:?}");
}

#[test]
fn no_row_is_without_a_verdict() {
    for group in table::groups() {
        for example in group.examples() {
            for (kind, verdict) in example.verdicts() {
                let known = !matches!(verdict, Verdict::Unknown);
                assert!(known, "{}: {kind:?} of {}", group.name, example.text);
            }
        }
    }
}

#[tokio::test]
async fn the_table_has_the_names_that_mongodb_has_and_no_others() {
    names::check().await;
}

#[test]
fn only_what_the_table_says_holds() {
    let works = Found::Works;
    assert!(works.is(&Verdict::Works));
    assert!(!works.is(&Verdict::Passes));
    assert!(!Found::Differs(String::new()).is(&Verdict::Works));
}
