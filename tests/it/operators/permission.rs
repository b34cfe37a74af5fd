//! The uses of sealed fields that the table has, for those who may not read, or not write,
//! any sealed field.
//!
//! `table/masked.txt` has what remains to those who may read none; all else is refused to
//! them. To those who may write none remains all that does not write.

use std::collections::BTreeSet;

use fieldseal::policy::Policy;
use mongodb::bson::{Bson, Document};

use super::decision::{self, Decided};
use super::ground;
use super::run::{Case, runs_of};
use super::table::{self, Kind, Verdict};

const UNAUTHORIZED: i32 = 13;
/// Where the collections are; nobody looks.
const DATABASE: &str = "base";
const SEALED: &[Kind] = &[Kind::Sealed, Kind::Equality];

/// A use that others are allowed, and what the proxy decides on each command of it.
struct Use {
    /// `group: use`
    text: String,
    commands: Vec<Document>,
    decided: Vec<Decided>,
}

/// The uses that others are allowed of fields of these kinds.
fn uses(policy: &Policy, kinds: &[Kind]) -> Vec<Use> {
    let mut uses = Vec::new();
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
                    let commands = case.steps(DATABASE).commands;
                    let decided = commands.iter();
                    uses.push(Use {
                        text: format!("{}: {}", group.name, example.text.replace("NAME", name)),
                        decided: decided
                            .map(|command| decision::on(policy, DATABASE, command))
                            .collect(),
                        commands,
                    });
                }
            }
        }
    }
    uses
}

impl Use {
    /// The first refusal of one of its commands.
    fn refused(&self) -> Option<(i32, &str)> {
        self.decided.iter().find_map(|decided| match decided {
            Decided::Refused { code, message } => Some((*code, message.as_str())),
            Decided::Untouched | Decided::Rewritten => None,
        })
    }

    fn writes(&self) -> bool {
        self.commands.iter().any(writes)
    }
}

/// Whether a command says that a sealed field is to be stored, changed or taken away.
fn writes(command: &Document) -> bool {
    if let Ok(explained) = command.get_document("explain") {
        return writes(explained);
    }
    let part = |name: &str| command.get(name).is_some_and(names_sealed);
    let whole = command.contains_key("insert") && part("documents")
        || command.contains_key("findAndModify") && part("update");
    let statements = command.get_array("updates").into_iter().flatten();
    let mut statements = statements.filter_map(Bson::as_document);
    whole
        || statements.any(|statement| {
            let upserts = statement.get_bool("upsert").unwrap_or_default();
            statement.get("u").is_some_and(names_sealed)
                || upserts && statement.get("q").is_some_and(names_sealed)
        })
        || command.get("ops").is_some_and(writes_by_operations)
        || stores(command)
}

/// Whether a sealed field is among the names, or the operands of `$unset`.
fn names_sealed(value: &Bson) -> bool {
    let sealed = |name: &str| name.contains("sealed_") || name.contains("equal_");
    match value {
        Bson::Array(items) => items.iter().any(names_sealed),
        Bson::Document(document) => document.iter().any(|(name, value)| {
            let unset = name == "$unset" && value.as_str().is_some_and(sealed);
            sealed(name) || unset || names_sealed(value)
        }),
        _ => false,
    }
}

/// The same of the operations of a `bulkWrite`.
fn writes_by_operations(operations: &Bson) -> bool {
    let operations = operations.as_array().into_iter().flatten();
    let mut operations = operations.filter_map(Bson::as_document);
    operations.any(|operation| {
        let parts = ["document", "updateMods"].map(|name| operation.get(name));
        parts.into_iter().flatten().any(names_sealed)
    })
}

/// Whether an aggregation stores what it gives where fields are sealed.
fn stores(command: &Document) -> bool {
    let stages = command.get_array("pipeline").into_iter().flatten();
    let mut stages = stages.filter_map(Bson::as_document);
    stages.any(|stage| {
        let into = |name| match stage.get(name) {
            Some(Bson::Document(options)) => options.get_str("into").ok(),
            Some(name) => name.as_str(),
            None => None,
        };
        [into("$merge"), into("$out")]
            .into_iter()
            .flatten()
            .any(|name| name.starts_with("s_"))
    })
}

fn remaining() -> BTreeSet<String> {
    let path = table::folder().join("masked.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn who_may_not_read_a_field_may_pass_it_on_and_write_it_and_nothing_else() {
    let schema = ground::schema_with(DATABASE, "read = [\"reader\"], write = [\"writer\"]");
    let policy = decision::policy_of(&schema, &["writer"]);
    let mut through = BTreeSet::new();
    for tried in uses(&policy, SEALED) {
        match tried.refused() {
            None => {
                through.insert(tried.text);
            }
            Some((code, message)) => {
                assert_eq!(code, UNAUTHORIZED, "{}: {message}", tried.text);
            }
        }
    }
    let remaining = remaining();
    let more: Vec<_> = through.difference(&remaining).collect();
    let less: Vec<_> = remaining.difference(&through).collect();
    assert!(
        more.is_empty() && less.is_empty(),
        "let through, and not in masked.txt: {more:#?}\nin masked.txt, and refused: {less:#?}"
    );
}

#[test]
fn who_may_not_read_a_field_may_still_ask_of_those_beside_it() {
    let schema = ground::schema_with(DATABASE, "read = [\"reader\"]");
    let policy = decision::policy_of(&schema, &[]);
    // An index by its name may be any; the others look at whole documents.
    let whole = [
        "hint: i}",
        "$jsonSchema",
        "$**",
        "$addToSet: {visits",
        "indexKey",
        "dataSize: DB.people, keyPattern",
        "splitVector",
        "autoSplitVector",
    ];
    for tried in uses(&policy, &[Kind::Beside]) {
        let wholly = whole.iter().any(|part| tried.text.contains(part));
        // It is run, and how much memory it took is told.
        let wholly = wholly
            || tried.text.contains("{explain: {")
                && !tried.text.contains("verbosity: queryPlanner");
        // They write sealed fields as well, or replace what holds them.
        if wholly || writes_beside(&tried) {
            continue;
        }
        assert_eq!(tried.refused(), None, "{}", tried.text);
    }
}

/// Whether a use of open fields would replace documents that hold sealed ones.
fn writes_beside(tried: &Use) -> bool {
    let parts = [
        "u: {@text: new, n: 2}, upsert",
        "$merge: people",
        "$merge: {into: people",
        "$pull: {visits",
        "$set: {home:",
        "update_operators: [{$project",
        "update_operators: [{$replaceWith",
        "update_operators: {@text: new, n: 7}",
    ];
    parts.iter().any(|part| tried.text.contains(part))
}

#[test]
fn who_may_not_write_a_field_may_do_all_that_leaves_it_as_it_is() {
    let schema = ground::schema_with(DATABASE, "write = [\"writer\"]");
    let policy = decision::policy_of(&schema, &[]);
    let others = decision::policy_of(&schema, &["writer"]);
    let mut written = 0;
    let allowed = uses(&others, SEALED);
    for (tried, allowed) in uses(&policy, SEALED).into_iter().zip(allowed) {
        // What goes by a view is known only where a server lists it.
        if allowed.refused().is_some() {
            continue;
        }
        match tried.refused() {
            None => assert!(!tried.writes(), "let through: {}", tried.text),
            Some((code, message)) => {
                assert!(tried.writes(), "{}: {message}", tried.text);
                assert_eq!(code, UNAUTHORIZED, "{}: {message}", tried.text);
                written += 1;
            }
        }
    }
    assert!(written > 50, "only {written} uses write");
    for tried in uses(&policy, &[Kind::Beside]) {
        let refused = tried.refused();
        assert_eq!(
            refused.is_some(),
            writes_beside(&tried),
            "{}: {refused:?}",
            tried.text
        );
    }
}
