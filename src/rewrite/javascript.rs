//! JavaScript for MongoDB to run, refused wherever the configuration does not allow it.
//!
//! Only the parts of a command that MongoDB evaluates are searched. What is stored is data,
//! whatever names and texts are in it.

use memchr::{memchr_iter, memchr2};

use super::command::{Command, is_generic};
use super::permitted::each_of;
use super::scope::DEEPEST;
use super::table::{self, Family};
use crate::code::Code;
use crate::raw::{Doc, Element, Malformed, kind};
use crate::refusal::{Refusal, RefusalKind};

/// What operators that run JavaScript are called, behind the `$`. The last is the beginning of several.
const OPERATORS: [&str; 4] = ["where", "function", "accumulator", "_internalJs"];

/// The collection of functions that JavaScript may call.
const FUNCTIONS: &str = "system.js";

/// How deep an explained command can lie; MongoDB takes one level.
const DEEPEST_EXPLAIN: usize = 4;

/// Refuses a command with JavaScript to run, or to keep for it.
pub(super) fn refuse(command: &Command<'_>, family: Family) -> Result<(), Refusal> {
    refuse_at(command, family, 0)
}

fn refuse_at(command: &Command<'_>, family: Family, depth: usize) -> Result<(), Refusal> {
    let name = command.name;
    // The last three are those of former versions.
    if family == Family::MapReduce || matches!(name, "eval" | "$eval" | "group") {
        return Err(refusal(name, "the command"));
    }
    keeps_functions(command, family)?;
    let explains = family == Family::Explain && command.target.kind == kind::DOCUMENT;
    if explains {
        if depth >= DEEPEST_EXPLAIN {
            return Err(Malformed("explain takes the document of another command").into());
        }
        let inner = Command::in_doc(command.target.doc()?, command.database)?;
        refuse_at(&inner, table::family(inner.name), depth + 1)?;
    }
    if !may_hold(command, family) {
        return Ok(());
    }
    let search = Search { command: name };
    for element in command.body.elements() {
        let element = element?;
        match (family, element.key) {
            _ if explains && element.start == command.target.start => {}
            (Family::Insert, "documents")
            | (Family::Update, "updates")
            | (Family::BulkWrite, "ops") => {}
            (Family::FindAndModify, "update") => search.update(&element)?,
            (Family::Pass, _) => search.element(&element, 0)?,
            (_, key) if is_generic(key) => {}
            _ => search.element(&element, 0)?,
        }
    }
    match family {
        Family::Insert => Ok(()),
        Family::Update => each_of(command, "updates", |statement| search.statement(statement)),
        Family::BulkWrite => each_of(command, "ops", |statement| search.statement(statement)),
        _ => {
            for sequence in command.sequences {
                let identifier = sequence.identifier;
                each_of(command, identifier, |document| search.document(document, 0))?;
            }
            Ok(())
        }
    }
}

/// Whether a search could find anything: a glance at the bytes, without decoding them.
fn may_hold(command: &Command<'_>, family: Family) -> bool {
    if glance(command.body.bytes()) {
        return true;
    }
    let frame = command.body.buffer();
    family != Family::Insert
        && (command.sequences.iter())
            .any(|sequence| frame.get(sequence.documents.clone()).is_none_or(glance))
}

fn glance(bytes: &[u8]) -> bool {
    let named = |at: usize| {
        let rest = bytes.get(at + 1..).unwrap_or_default();
        // Most names are told apart by a glance at their first letter.
        matches!(rest.first(), Some(b'w' | b'f' | b'a' | b'_'))
            && (OPERATORS.iter()).any(|name| rest.starts_with(name.as_bytes()))
    };
    memchr2(kind::JAVASCRIPT, kind::JAVASCRIPT_WITH_SCOPE, bytes).is_some()
        || memchr_iter(b'$', bytes).any(named)
}

/// Whether it is the name of an operator that runs JavaScript.
fn runs(key: &str) -> bool {
    let Some(name) = key.strip_prefix('$') else {
        return false;
    };
    let [exact @ .., beginning] = OPERATORS;
    exact.contains(&name) || name.starts_with(beginning)
}

/// Looks through what a command has MongoDB evaluate.
struct Search<'c> {
    command: &'c str,
}

impl Search<'_> {
    /// A statement of `update` or `delete`, or an operation of `bulkWrite`.
    fn statement(&self, statement: Doc<'_>) -> Result<(), Refusal> {
        for element in statement.elements() {
            let element = element?;
            match element.key {
                "document" => {}
                "u" | "updateMods" => self.update(&element)?,
                _ => self.element(&element, 0)?,
            }
        }
        Ok(())
    }

    /// An update: stages, or a document whose values are data, but for conditions.
    fn update(&self, update: &Element<'_>) -> Result<(), Refusal> {
        if update.kind != kind::DOCUMENT {
            return self.element(update, 0);
        }
        for operator in update.doc()?.elements() {
            let operator = operator?;
            if operator.key == "$pull" {
                self.element(&operator, 0)?;
            }
        }
        Ok(())
    }

    fn document(&self, document: Doc<'_>, depth: usize) -> Result<(), Refusal> {
        if depth > DEEPEST {
            return Err(Malformed("documents are nested too deep").into());
        }
        for element in document.elements() {
            self.element(&element?, depth)?;
        }
        Ok(())
    }

    fn element(&self, element: &Element<'_>, depth: usize) -> Result<(), Refusal> {
        if runs(element.key) {
            return Err(refusal(self.command, &format!("`{}`", element.key)));
        }
        match element.kind {
            kind::DOCUMENT | kind::ARRAY => self.document(element.doc()?, depth + 1),
            kind::JAVASCRIPT | kind::JAVASCRIPT_WITH_SCOPE => {
                Err(refusal(self.command, "a value of the type javascript"))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses what would store functions.
fn keeps_functions(command: &Command<'_>, family: Family) -> Result<(), Refusal> {
    let namespace = |text: &str| {
        let name = text.split_once('.').map_or(text, |(_, name)| name);
        text == FUNCTIONS || name == FUNCTIONS
    };
    let target = || command.target.str() == Some(FUNCTIONS);
    let keeps = match family {
        Family::Insert | Family::Update | Family::FindAndModify => target(),
        Family::Rename => command
            .find("to")?
            .and_then(|to| to.str())
            .is_some_and(namespace),
        Family::BulkWrite => {
            let mut found = false;
            each_of(command, "nsInfo", |entry| {
                found |= entry
                    .find("ns")?
                    .and_then(|ns| ns.str())
                    .is_some_and(namespace);
                Ok(())
            })?;
            found
        }
        _ if command.name == "cloneCollectionAsCapped" => command
            .find("toCollection")?
            .is_some_and(|to| to.str() == Some(FUNCTIONS)),
        _ => false,
    };
    if keeps {
        return Err(refusal(command.name, "a function for `system.js`"));
    }
    Ok(())
}

fn refusal(command: &str, what: &str) -> Refusal {
    Refusal::new(
        RefusalKind::NotSupported,
        format_args!(
            "{command}: {what} is JavaScript, which MongoDB is not given to run (access.javascript); \
             use operators of queries and aggregations"
        ),
    ).coded(Code::JavaScript)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Bson, Document, JavaScriptCodeWithScope, doc};

    use super::*;
    use crate::wire::Message;
    use crate::wire::testing::{body, msg, sequence};

    fn checked(sections: &[u8]) -> Result<(), Refusal> {
        let frame = msg(0, sections);
        let Message::Msg(message) = Message::recognise(&frame).unwrap() else {
            panic!("an OP_MSG was made");
        };
        let command = Command::of(&message).unwrap();
        refuse(&command, table::family(command.name))
    }

    fn check(command: &Document) -> Result<(), Refusal> {
        let mut command = command.clone();
        command.insert("$db", "shop");
        checked(&body(&command))
    }

    #[track_caller]
    fn refused(command: &Document, word: &str) {
        let refusal = check(command).expect_err(&command.to_string());
        assert!(refusal.message.contains(word), "{refusal}");
        assert!(!refusal.message.contains("return"), "{refusal}");
    }

    fn function() -> Document {
        doc! {"$function": {"body": "function() { return 1 }", "args": [], "lang": "js"}}
    }

    #[test]
    fn every_part_that_mongodb_evaluates_is_searched() {
        let by = || doc! {"$expr": function()};
        let pipeline = || vec![doc! {"$match": by()}];
        let code = || doc! {"$where": "return 1"};
        for command in [
            doc! {"find": "c", "filter": code()},
            doc! {"find": "c", "filter": {"$or": [{"a": 1}, {"$and": [code()]}]}},
            doc! {"find": "c", "projection": {"x": function()}},
            doc! {"find": "c", "let": {"x": function()}},
            doc! {"count": "c", "query": by()},
            doc! {"distinct": "c", "key": "a", "query": code()},
            doc! {"aggregate": "c", "pipeline": pipeline(), "cursor": {}},
            doc! {"aggregate": 1, "pipeline": [{"$documents": [function()]}], "cursor": {}},
            doc! {"aggregate": "c", "pipeline": [{"$lookup": {"from": "d", "pipeline": pipeline(), "as": "x"}}]},
            doc! {"aggregate": "c", "pipeline": [{"$facet": {"x": [{"$group": {"_id": 1, "n": {"$accumulator": {}}}}]}}]},
            doc! {"aggregate": "c", "pipeline": [{"$merge": {"into": "d", "whenMatched": [{"$set": {"a": function()}}]}}]},
            doc! {"aggregate": "c", "pipeline": [{"$project": {"a": {"$_internalJsEmit": {}}}}]},
            doc! {"update": "c", "updates": [{"q": code(), "u": {"$set": {"a": 1}}}]},
            doc! {"update": "c", "updates": [{"q": {}, "u": [{"$set": {"a": function()}}]}]},
            doc! {"update": "c", "updates": [{"q": {}, "u": {"$pull": {"a": code()}}}]},
            doc! {"update": "c", "updates": [{"q": {}, "u": {"$set": {"a.$[x]": 1}}, "arrayFilters": [by()]}]},
            doc! {"update": "c", "updates": [{"q": {}, "u": [], "c": {"x": function()}}]},
            doc! {"delete": "c", "deletes": [{"q": code(), "limit": 1}]},
            doc! {"findAndModify": "c", "query": code(), "remove": true},
            doc! {"findandmodify": "c", "query": {}, "update": [{"$set": {"a": function()}}]},
            doc! {"bulkWrite": 1, "ops": [{"update": 0, "filter": {}, "updateMods": [{"$set": {"a": function()}}]}], "nsInfo": []},
            doc! {"bulkWrite": 1, "ops": [{"delete": 0, "filter": code()}], "nsInfo": []},
            doc! {"explain": {"find": "c", "filter": code()}},
            doc! {"explain": {"explain": {"find": "c", "filter": code()}}},
            doc! {"create": "v", "viewOn": "c", "pipeline": pipeline()},
            doc! {"create": "c", "validator": by()},
            doc! {"collMod": "c", "validator": by()},
            doc! {"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a", "partialFilterExpression": code()}]},
            doc! {"currentOp": 1, "$expr": function()},
            doc! {"listCollections": 1, "filter": by()},
            doc! {"profile": 1, "filter": code()},
        ] {
            refused(&command, "JavaScript");
        }
    }

    #[test]
    fn sequences_are_searched_as_the_body_is() {
        let update = body(&doc! {"update": "c", "$db": "shop"});
        let statement = |q: Document| {
            sequence(
                "updates",
                &[doc! {"q": {}, "u": {}}, doc! {"q": q, "u": {}}],
            )
        };
        assert!(checked(&[update.clone(), statement(doc! {"a": 1})].concat()).is_ok());
        assert!(checked(&[update, statement(doc! {"$where": "x"})].concat()).is_err());
        let delete = body(&doc! {"delete": "c", "$db": "shop"});
        let deletes = sequence("deletes", &[doc! {"q": {"$where": "x"}, "limit": 1}]);
        assert!(checked(&[delete, deletes].concat()).is_err());
    }

    #[test]
    fn what_is_stored_is_data_whatever_it_looks_like() {
        let code = Bson::JavaScriptCode("return 1".to_owned());
        let data = || doc! {"$where": "return 1", "a": {"$function": code.clone()}, "text": "$where $function"};
        let insert = body(&doc! {"insert": "c", "$db": "shop"});
        assert!(checked(&[insert, sequence("documents", &[data()])].concat()).is_ok());
        for command in [
            doc! {"insert": "c", "documents": [data()]},
            doc! {"update": "c", "updates": [{"q": {"a": 1}, "u": data()}]},
            doc! {"update": "c", "updates": [{"q": {}, "u": {"$set": {"a": data()}, "$push": {"b": data()}}}]},
            doc! {"findAndModify": "c", "query": {}, "update": {"$set": {"a": code.clone()}}},
            doc! {"bulkWrite": 1, "ops": [{"insert": 0, "document": data()}], "nsInfo": []},
            doc! {"find": "c", "filter": {"a": "$where", "where": 1, "$comment": "$function"}, "comment": data()},
            doc! {"find": "c", "filter": {"a": {"$in": ["$where", "\r\n\u{f}"]}}},
            doc! {"aggregate": "c", "pipeline": [{"$project": {"a": "$where", "b": "$function.x", "$whereabouts": 1}}]},
        ] {
            assert!(check(&command).is_ok(), "{command}");
        }
    }

    #[test]
    fn code_is_no_operand() {
        let scoped = JavaScriptCodeWithScope {
            code: "return 1".to_owned(),
            scope: doc! {},
        };
        for code in [Bson::JavaScriptCode("return 1".to_owned()), scoped.into()] {
            refused(
                &doc! {"find": "c", "filter": {"a": {"$in": [code.clone()]}}},
                "the type javascript",
            );
            refused(
                &doc! {"aggregate": "c", "pipeline": [{"$match": {"a": code}}]},
                "the type javascript",
            );
        }
    }

    #[test]
    fn map_reduce_is_refused_and_so_is_what_would_keep_functions() {
        for command in [
            doc! {"mapReduce": "c", "map": "return 1"},
            doc! {"mapreduce": "c"},
            doc! {"explain": {"mapReduce": "c"}},
            doc! {"eval": "return 1"},
            doc! {"insert": "system.js", "documents": [{"_id": "f"}]},
            doc! {"update": "system.js", "updates": []},
            doc! {"findAndModify": "system.js", "query": {}},
            doc! {"renameCollection": "shop.c", "to": "shop.system.js"},
            doc! {"bulkWrite": 1, "ops": [], "nsInfo": [{"ns": "shop.system.js"}]},
            doc! {"cloneCollectionAsCapped": "c", "toCollection": "system.js", "size": 4096},
        ] {
            refused(&command, "JavaScript");
        }
        check(&doc! {"find": "system.js"}).unwrap();
        check(&doc! {"delete": "system.js", "deletes": []}).unwrap();
    }

    #[test]
    fn most_commands_are_not_decoded() {
        for command in [
            doc! {"find": "c", "filter": {"a": {"$gt": 5}}, "$db": "shop"},
            doc! {"update": "c", "updates": [{"q": {"a": 1}, "u": {"$set": {"b": "x"}}}]},
        ] {
            assert!(!glance(&bson::serialize_to_vec(&command).unwrap()));
        }
    }
}
