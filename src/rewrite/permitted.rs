//! Which commands who sends them may send.

use super::command::{Command, Request};
use super::table::{self, Family};
use crate::access::CommandRules;
use crate::code::Code;
use crate::raw::{Doc, Element, Malformed, kind};
use crate::refusal::{Refusal, RefusalKind};

/// What a connection begins with. Nobody can be denied these; in lower case.
const HANDSHAKE: &[&str] = &[
    "hello",
    "ismaster",
    "saslstart",
    "saslcontinue",
    "authenticate",
];

/// What goes with any other command: it is allowed unless it is denied by its name. In lower case.
const BASIC: &[&str] = &[
    "ping",
    "buildinfo",
    "logout",
    "endsessions",
    "killcursors",
    "getmore",
    "committransaction",
    "aborttransaction",
];

/// Commands that have another name, in lower case.
const ALIASES: &[[&str; 2]] = &[["dropindexes", "deleteindexes"]];

/// How deep an explained command can lie; MongoDB takes one level.
const DEEPEST_EXPLAIN: usize = 4;

/// Whether a request is one that every connection needs to begin, to be found alive, or to give
/// back what it holds.
pub fn is_essential(request: &Request<'_>) -> bool {
    let command = match &request.command {
        // Only the handshake comes so.
        None => return true,
        Some(Err(_)) => return false,
        Some(Ok(command)) => command,
    };
    let is = |name: &&str| command.name.eq_ignore_ascii_case(name);
    HANDSHAKE.iter().any(is) || BASIC.iter().any(|name| *name != "getmore" && is(name))
}

/// Why nobody may be denied the command of this name, in lower case, or why it is none.
pub fn rule_mistake(name: &str, denied: bool) -> Option<String> {
    if denied && HANDSHAKE.contains(&name) {
        return Some(format!(
            "{name:?} cannot be denied: connections begin with it; to keep someone out, use `allow` of [access]"
        ));
    }
    if table::names().any(|known| known.eq_ignore_ascii_case(name)) {
        return None;
    }
    Some(match crate::document::nearest(name, table::names()) {
        Some(word) => format!("{name:?} is no command; did you mean {word:?}?"),
        None => format!("{name:?} is no command of MongoDB"),
    })
}

/// Refuses a command that the rules do not permit, or that does what they do not.
pub(super) fn check(
    rules: &CommandRules,
    command: &Command<'_>,
    family: Family,
) -> Result<(), Refusal> {
    if rules.is_empty() {
        return Ok(());
    }
    check_at(rules, command, family, 0)
}

/// The same of a command that is known by its name alone.
pub(super) fn check_name(rules: &CommandRules, name: &str) -> Result<(), Refusal> {
    if rules.is_empty() || permits(rules, name) {
        Ok(())
    } else {
        Err(unauthorized(format_args!(
            "{name}: you may not send this command"
        )))
    }
}

fn check_at(
    rules: &CommandRules,
    command: &Command<'_>,
    family: Family,
    depth: usize,
) -> Result<(), Refusal> {
    let name = command.name;
    check_name(rules, name)?;
    match family {
        Family::Explain if command.target.kind == kind::DOCUMENT => {
            if depth >= DEEPEST_EXPLAIN {
                return Err(Malformed("explain takes the document of another command").into());
            }
            let inner = Command::in_doc(command.target.doc()?, command.database)?;
            check_at(rules, &inner, table::family(inner.name), depth + 1)
        }
        Family::BulkWrite => each_of(command, "ops", |op| {
            for element in op.elements() {
                let key = element?.key;
                if matches!(key, "insert" | "update" | "delete") {
                    not_denied(rules, name, key)?;
                }
            }
            Ok(())
        }),
        Family::FindAndModify => {
            let removes = command
                .find("remove")?
                .is_some_and(|remove| remove.truthy());
            not_denied(rules, name, if removes { "delete" } else { "update" })
        }
        Family::Aggregate => each_of(command, "pipeline", |stage| {
            for element in stage.elements() {
                let key = element?.key;
                if matches!(key, "$out" | "$merge") {
                    may_write(rules, name, key)?;
                }
                if key == "$out" {
                    may_replace(rules, name, key)?;
                }
            }
            Ok(())
        }),
        Family::MapReduce if command.find("out")?.is_some_and(|out| !is_inline(&out)) => {
            may_write(rules, name, "out")?;
            may_replace(rules, name, "out")
        }
        Family::Rename
            if command
                .find("dropTarget")?
                .is_some_and(|drop| drop.truthy()) =>
        {
            may_replace(rules, name, "dropTarget")
        }
        // They carry what other commands do, past the rules for those.
        Family::Never(_) if rules.allow.is_none() || !rules.deny.is_empty() => Err(unauthorized(
            format_args!("{name}: you may not send this command"),
        )),
        _ => Ok(()),
    }
}

/// Whether the command of this name may be sent.
fn permits(rules: &CommandRules, name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let lower = lower.as_str();
    if HANDSHAKE.contains(&lower) {
        return true;
    }
    let same = ALIASES.iter().find(|names| names.contains(&lower));
    let alone = [lower];
    let names: &[&str] = same.map_or(&alone, |names| names);
    let among =
        |set: &std::collections::BTreeSet<String>| names.iter().any(|name| set.contains(*name));
    let allowed = (rules.allow.as_ref()).is_none_or(|allow| among(allow) || BASIC.contains(&lower));
    allowed && !among(&rules.deny)
}

/// Refuses what `command` does in the way of `other`, which is denied. That `command` itself is
/// among what is allowed is enough otherwise: its name says that it writes.
fn not_denied(rules: &CommandRules, command: &str, other: &str) -> Result<(), Refusal> {
    if rules.deny.contains(other) {
        return Err(unauthorized(format_args!(
            "{command}: you may not {other} documents, by this command neither"
        )));
    }
    Ok(())
}

/// Refuses a part of `command` that writes into a collection, which its name does not say.
fn may_write(rules: &CommandRules, command: &str, part: &str) -> Result<(), Refusal> {
    if permits(rules, "insert") && permits(rules, "update") {
        return Ok(());
    }
    Err(unauthorized(format_args!(
        "{command}: you may not write by `{part}`, which inserts and updates documents; leave it out"
    )))
}

/// Refuses a part of `command` that puts other documents in the place of all that a collection
/// has, where these could not be removed.
fn may_replace(rules: &CommandRules, command: &str, part: &str) -> Result<(), Refusal> {
    if !["delete", "drop"]
        .iter()
        .any(|name| rules.deny.contains(*name))
    {
        return Ok(());
    }
    Err(unauthorized(format_args!(
        "{command}: you may not remove documents, and `{part}` removes all that the collection has; leave it out"
    )))
}

fn is_inline(out: &Element<'_>) -> bool {
    out.object().is_ok_and(|out| {
        let mut keys = out
            .elements()
            .map(|element| element.map(|element| element.key));
        keys.all(|key| matches!(key, Ok("inline"))) && !out.is_empty()
    })
}

/// The documents of the array or the sequence `key`.
pub(super) fn each_of<'m>(
    command: &Command<'m>,
    key: &str,
    mut check: impl FnMut(Doc<'m>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    for element in command.body.elements() {
        let element = element?;
        if element.key == key && element.kind == kind::ARRAY {
            for document in element.doc()?.elements() {
                let document = document?;
                if document.kind == kind::DOCUMENT {
                    check(document.doc()?)?;
                }
            }
        }
    }
    for sequence in command.sequences.iter().filter(|of| of.identifier == key) {
        let (mut at, end) = (sequence.documents.start, sequence.documents.end);
        while at < end {
            let document = Doc::at(command.body.buffer(), at, end)?;
            check(document)?;
            at = document.end();
        }
    }
    Ok(())
}

fn unauthorized(what: std::fmt::Arguments<'_>) -> Refusal {
    Refusal::new(RefusalKind::Unauthorized, what).coded(Code::CommandNotPermitted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Document, doc};

    use super::*;
    use crate::wire::Message;
    use crate::wire::testing::{body, msg, sequence};

    fn rules(allow: Option<&[&str]>, deny: &[&str]) -> CommandRules {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        CommandRules {
            allow: allow.map(set),
            deny: set(deny),
        }
    }

    fn checked(rules: &CommandRules, sections: &[u8]) -> Result<(), Refusal> {
        let frame = msg(0, sections);
        let Message::Msg(message) = Message::recognise(&frame).unwrap() else {
            panic!("an OP_MSG was made");
        };
        let command = Command::of(&message).unwrap();
        check(rules, &command, table::family(command.name))
    }

    #[track_caller]
    fn permitted(rules: &CommandRules, command: &Document) -> bool {
        let mut command = command.clone();
        command.insert("$db", "shop");
        match checked(rules, &body(&command)) {
            Ok(()) => true,
            Err(refusal) => {
                assert_eq!(refusal.kind, RefusalKind::Unauthorized, "{refusal}");
                false
            }
        }
    }

    #[test]
    fn without_rules_every_command_may_be_sent() {
        assert!(permitted(&CommandRules::default(), &doc! {"applyOps": []}));
    }

    #[test]
    fn a_denied_command_is_refused_by_every_name_that_it_has() {
        let rules = rules(None, &["dropindexes", "findandmodify", "drop"]);
        for name in [
            "dropIndexes",
            "deleteIndexes",
            "findAndModify",
            "findandmodify",
            "drop",
        ] {
            assert!(!permitted(&rules, &doc! {name: "customers"}), "{name}");
        }
        let other = self::rules(None, &["deleteindexes"]);
        assert!(!permitted(&other, &doc! {"dropIndexes": "customers"}));
        assert!(permitted(&rules, &doc! {"find": "customers"}));
        assert!(permitted(&rules, &doc! {"dropDatabase": 1}));
    }

    #[test]
    fn what_is_not_among_the_allowed_is_refused_but_for_what_every_connection_needs() {
        let rules = rules(Some(&["find"]), &[]);
        for name in [
            "insert",
            "aggregate",
            "drop",
            "listDatabases",
            "explain",
            "applyOps",
            "nonsense",
        ] {
            assert!(!permitted(&rules, &doc! {name: 1}), "{name}");
        }
        for name in [
            "find",
            "getMore",
            "killCursors",
            "ping",
            "endSessions",
            "saslContinue",
            "commitTransaction",
        ] {
            assert!(permitted(&rules, &doc! {name: 1}), "{name}");
        }
        let denied = self::rules(None, &["ping", "saslstart"]);
        assert!(!permitted(&denied, &doc! {"ping": 1}));
        assert!(permitted(&denied, &doc! {"saslStart": 1}));
    }

    #[test]
    fn what_is_explained_counts_too() {
        let explained = |command: Document| doc! {"explain": command, "verbosity": "queryPlanner"};
        let rules = rules(Some(&["explain", "find"]), &[]);
        assert!(permitted(&rules, &explained(doc! {"find": "c"})));
        assert!(!permitted(&rules, &explained(doc! {"count": "c"})));
        assert!(!permitted(
            &rules,
            &explained(explained(doc! {"count": "c"}))
        ));
        let no_explain = self::rules(Some(&["find"]), &[]);
        assert!(!permitted(&no_explain, &explained(doc! {"find": "c"})));
    }

    #[test]
    fn who_may_not_write_writes_by_no_stage_and_no_other_command() {
        let reader = rules(Some(&["find", "aggregate", "mapreduce"]), &[]);
        let aggregate = |stage: Document| doc! {"aggregate": "c", "pipeline": [{"$match": {}}, stage], "cursor": {}};
        assert!(permitted(&reader, &aggregate(doc! {"$limit": 1})));
        for stage in [doc! {"$out": "d"}, doc! {"$merge": {"into": "d"}}] {
            assert!(!permitted(&reader, &aggregate(stage.clone())));
            assert!(!permitted(
                &rules(None, &["update"]),
                &aggregate(stage.clone())
            ));
            assert!(permitted(&rules(None, &["count"]), &aggregate(stage)));
        }
        let map_reduce =
            |out: bson::Bson| doc! {"mapReduce": "c", "map": "", "reduce": "", "out": out};
        assert!(permitted(&reader, &map_reduce(doc! {"inline": 1}.into())));
        for out in [
            "d".into(),
            doc! {"merge": "d"}.into(),
            doc! {"inline": 1, "replace": "d"}.into(),
        ] {
            assert!(!permitted(&reader, &map_reduce(out)));
        }
    }

    #[test]
    fn who_may_not_remove_documents_puts_no_others_in_their_place() {
        let aggregate =
            |stage: Document| doc! {"aggregate": "c", "pipeline": [stage], "cursor": {}};
        let rename =
            |drop: bool| doc! {"renameCollection": "shop.c", "to": "shop.d", "dropTarget": drop};
        for denied in ["delete", "drop"] {
            let rules = rules(None, &[denied]);
            assert!(!permitted(&rules, &aggregate(doc! {"$out": "d"})));
            assert!(permitted(
                &rules,
                &aggregate(doc! {"$merge": {"into": "d"}})
            ));
            assert!(!permitted(&rules, &rename(true)));
            assert!(permitted(&rules, &rename(false)));
            let reduce = doc! {"mapReduce": "c", "map": "", "reduce": "", "out": {"replace": "d"}};
            assert!(!permitted(&rules, &reduce));
        }
    }

    #[test]
    fn what_is_denied_is_so_within_find_and_modify_and_bulk_write_as_well() {
        let rules = rules(None, &["delete"]);
        let modify = |part: &str| doc! {"findAndModify": "c", "query": {}, part: true};
        assert!(!permitted(&rules, &modify("remove")));
        assert!(permitted(&rules, &modify("update")));
        assert!(!permitted(
            &self::rules(None, &["update"]),
            &modify("update")
        ));
        let bulk = doc! {"bulkWrite": 1, "nsInfo": [{"ns": "shop.c"}], "$db": "admin"};
        let ops = |op: Document| {
            [
                body(&bulk),
                sequence("ops", &[doc! {"insert": 0, "document": {}}, op]),
            ]
            .concat()
        };
        assert!(checked(&rules, &ops(doc! {"delete": 0, "filter": {}})).is_err());
        assert!(checked(&rules, &ops(doc! {"update": 0, "filter": {}})).is_ok());
        // What carries commands in a form of its own is no way round.
        assert!(!permitted(&rules, &doc! {"applyOps": []}));
        let named = self::rules(Some(&["applyops"]), &[]);
        assert!(permitted(&named, &doc! {"applyOps": []}));
    }

    #[test]
    fn what_connections_need_is_told_from_other_commands() {
        let essential = |command: &Document| {
            let frame = msg(0, &body(command));
            is_essential(&Request::of(&Message::recognise(&frame).unwrap()))
        };
        for name in [
            "hello",
            "isMaster",
            "ping",
            "saslStart",
            "abortTransaction",
            "killCursors",
        ] {
            assert!(essential(&doc! {name: 1, "$db": "admin"}), "{name}");
        }
        for name in ["find", "getMore", "insert", "serverStatus"] {
            assert!(
                !essential(&doc! {name: 1, "hello": 1, "$db": "admin"}),
                "{name}"
            );
        }
    }

    #[test]
    fn a_rule_for_no_command_names_the_nearest_one() {
        assert_eq!(rule_mistake("findandmodify", true), None);
        assert_eq!(rule_mistake("listdatabases", false), None);
        assert_eq!(rule_mistake("hello", false), None);
        assert!(
            rule_mistake("hello", true)
                .unwrap()
                .contains("cannot be denied")
        );
        assert!(
            rule_mistake("agregate", false)
                .unwrap()
                .contains("did you mean \"aggregate\"?")
        );
        assert!(
            rule_mistake("nonsense words", true)
                .unwrap()
                .contains("is no command")
        );
    }
}
