//! The promise of the whole: no value of a sealed field reaches MongoDB, an error or the log.

use std::sync::Arc;

use bson::{Bson, Document};

use super::choices::Choices;
use super::commands::Commands;
use super::{CANARY, CANARY_TEXT, NAME, POLICIES, holds};
use crate::policy::Policy;
use crate::raw::Doc;
use crate::refusal::Refusal;
use crate::rewrite::{Decision, decide};
use crate::wire::testing::{body, msg, sequence};
use crate::wire::{Message, flag};

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It went on, and held a canary when it came.
    Hidden,
    /// It went on, and had nothing to hide.
    Nothing,
    /// It was refused.
    Refused,
}

/// Builds a command of the bytes, with canaries where values belong to sealed fields.
pub(super) fn canary(bytes: &[u8]) {
    tried(bytes);
}

/// The same, and says what became of it.
pub(super) fn tried(bytes: &[u8]) -> Seen {
    let mut choices = Choices::of(bytes);
    let policies = &*POLICIES;
    let policy: &Arc<Policy> = match choices.below(8) {
        0..=3 => &policies.plain,
        4 => &policies.epochs,
        5 => &policies.writer,
        6 => &policies.reader,
        _ => {
            let masks = &policies.neither;
            &masks[choices.below(masks.len())]
        }
    };
    let form = choices.byte();
    let mut command = Commands { choices }.command();
    if !command.contains_key("$db") {
        command.insert("$db", "shop");
    }
    let frame = framed(&command, form);
    let message = Message::recognise(&frame).expect("commands are built as messages");
    let mut scratch = vec![1, 2, 3];
    match decide(&message, policy, &mut scratch) {
        Decision::Refuse(refusal) => {
            check_refusal(&refusal, &command);
            Seen::Refused
        }
        Decision::Forward { cleared, plan } => {
            for statement in plan.refused() {
                check_refusal(&statement.refusal, &command);
            }
            let sent = cleared.bytes();
            for secret in [&CANARY[..], NAME.as_bytes()] {
                assert!(!holds(sent, secret), "sent in plain: {command}");
            }
            check_whole(sent);
            if holds(&frame, CANARY) {
                Seen::Hidden
            } else {
                Seen::Nothing
            }
        }
    }
}

/// The command as a message: in its body, or with its statements beside it, before or behind it.
fn framed(command: &Document, form: u8) -> Vec<u8> {
    let flags = if form & 1 == 1 {
        flag::CHECKSUM_PRESENT
    } else {
        0
    };
    let mut command = command.clone();
    let lists = ["documents", "updates", "deletes", "ops", "nsInfo"];
    let mut sections = Vec::new();
    for name in lists.iter().filter(|_| form & 2 == 2) {
        let Some(Bson::Array(list)) = command.get(*name) else {
            continue;
        };
        let documents: Option<Vec<Document>> = list
            .iter()
            .map(|item| item.as_document().cloned())
            .collect();
        if let Some(documents) = documents {
            command.remove(*name);
            sections.push(sequence(name, &documents));
        }
    }
    let at = if form & 4 == 4 { sections.len() } else { 0 };
    sections.insert(at, body(&command));
    msg(flags, &sections.concat())
}

/// A refusal says no value, to its client or to the log; to the log not even the names below
/// what is sealed whole.
fn check_refusal(refusal: &Refusal, command: &Document) {
    let number = i64::from_le_bytes(*CANARY).to_string();
    for text in [refusal.message.clone(), refusal.to_string()] {
        for value in ["CANARY-4", &number] {
            assert!(!text.contains(value), "said in an error: {text}: {command}");
        }
    }
    let logged = refusal.to_string();
    assert!(!logged.contains(NAME), "logged: {logged}: {command}");
    debug_assert!(CANARY_TEXT.as_bytes().starts_with(CANARY));
}

/// What is sent holds together at every level.
fn check_whole(sent: &[u8]) {
    let Message::Msg(message) = Message::recognise(sent).expect("what is cleared is a message")
    else {
        panic!("what is cleared is an OP_MSG, as the command was");
    };
    let body = Doc::at(sent, message.body.start, message.body.end).expect("recognised");
    body.validate(200).expect("the command holds together");
    for sequence in &message.sequences {
        let mut at = sequence.documents.start;
        while at < sequence.documents.end {
            let document = Doc::at(sent, at, sequence.documents.end).expect("recognised");
            document.validate(200).expect("a statement holds together");
            at = document.end();
        }
    }
}
