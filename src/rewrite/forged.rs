//! What only the proxy may make.

use super::command::Command;
use super::scope;
use crate::code::Code;
use crate::raw::{Doc, Malformed, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::seal::{Header, SUBTYPE, find_sealed};
use crate::wire::OpMsg;

/// Clients seal nothing themselves: a Binary that reads as a sealed value is refused.
pub(super) fn refuse_forged(message: &OpMsg<'_>, command: &Command<'_>) -> Result<(), Refusal> {
    if find_sealed(message.frame).is_none() {
        return Ok(());
    }
    holds_sealed(command.name, command.body, 0)?;
    for sequence in command.sequences {
        let mut at = sequence.documents.start;
        while at < sequence.documents.end {
            let doc = Doc::at(message.frame, at, sequence.documents.end)?;
            holds_sealed(command.name, doc, 0)?;
            at = doc.end();
        }
    }
    Ok(())
}

fn holds_sealed(command: &str, doc: Doc<'_>, depth: usize) -> Result<(), Refusal> {
    if depth > scope::DEEPEST {
        return Err(Malformed("documents are nested too deep").into());
    }
    for element in doc.elements() {
        let element = element?;
        match element.kind {
            kind::DOCUMENT | kind::ARRAY => holds_sealed(command, element.doc()?, depth + 1)?,
            kind::JAVASCRIPT_WITH_SCOPE => holds_sealed(command, element.scope()?, depth + 1)?,
            kind::BINARY
                if element.binary().is_some_and(|(subtype, payload)| {
                    subtype == SUBTYPE && Header::read(payload).is_some()
                }) =>
            {
                return Err(Refusal::new(
                    RefusalKind::NotSupported,
                    format_args!(
                        "{command}: the message holds a sealed value in `{}`; clients send values in plain and never sealed ones",
                        element.key
                    ),
                ).coded(Code::Forged));
            }
            _ => {}
        }
    }
    Ok(())
}
