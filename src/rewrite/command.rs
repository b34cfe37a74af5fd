//! A command as recognised: its name, its database, what its first value names.

use crate::policy::Policy;
use crate::raw::{Doc, Element, Malformed, kind};
use crate::wire::{OpMsg, Sequence};

/// A command, borrowed from its message.
#[derive(Debug)]
pub(super) struct Command<'m> {
    /// As sent: the first field of the body.
    pub(super) name: &'m str,
    /// The value of the first field.
    pub(super) target: Element<'m>,
    /// The value of `$db`.
    pub(super) database: &'m str,
    /// The body.
    pub(super) body: Doc<'m>,
    /// The kind-1 sections.
    pub(super) sequences: &'m [Sequence<'m>],
}

/// What the first value of a command names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'m> {
    /// A collection of the command's database.
    Collection(&'m str),
    /// No collection: the database, or nothing at all (`1`).
    Database,
    /// A collection in a form that hides its name, such as a UUID.
    Hidden,
}

impl<'m> Command<'m> {
    /// Recognises the command of a message.
    pub(super) fn of(message: &'m OpMsg<'m>) -> Result<Self, Malformed> {
        let body = Doc::at(message.frame, message.body.start, message.body.end)?;
        let mut command = Self::in_doc(body, "")?;
        let mut database = None;
        for element in body.elements() {
            let element = element?;
            if element.key == "$db" {
                if database.is_some() {
                    return Err(Malformed("$db is given twice"));
                }
                database = Some(element.str().ok_or(Malformed("$db is not a string"))?);
            }
        }
        command.database = database
            .filter(|database| !database.contains('\0'))
            .ok_or(Malformed("$db is missing, or holds a zero"))?;
        command.sequences = &message.sequences;
        Ok(command)
    }

    /// The command in a document of its own, as `explain` has it.
    pub(super) fn in_doc(body: Doc<'m>, database: &'m str) -> Result<Self, Malformed> {
        let target = body.first()?.ok_or(Malformed("a command is empty"))?;
        Ok(Self {
            name: target.key,
            target,
            database,
            body,
            sequences: &[],
        })
    }

    /// What the first value names.
    pub(super) fn target(&self) -> Target<'m> {
        match self.target.kind {
            // MongoDB refuses a name that holds a zero, but logs the command first.
            kind::STRING => match self.target.str() {
                Some(name) if !name.contains('\0') => Target::Collection(name),
                _ => Target::Hidden,
            },
            kind::SYMBOL | kind::BINARY => Target::Hidden,
            _ => Target::Database,
        }
    }

    /// The sealed collection that a name in the command's database stands for, if it is one.
    pub(super) fn collection(
        &self,
        policy: &Policy,
        name: &str,
    ) -> Option<std::sync::Arc<crate::policy::Collection>> {
        policy.collection(&[self.database, ".", name].concat())
    }

    /// The field named `key`; an error if there are two.
    pub(super) fn find(&self, key: &str) -> Result<Option<Element<'m>>, Malformed> {
        self.body.find_once(key)
    }
}

/// Whether a field may stand in any command, and carries nothing of a document.
pub(super) fn is_generic(key: &str) -> bool {
    matches!(
        key,
        "$db"
            | "$clusterTime"
            | "$readPreference"
            | "$audit"
            | "$client"
            | "$configServerState"
            | "$queryOptions"
            | "$oplogQueryData"
            | "$replData"
            | "$topologyTime"
            | "$traceCtx"
            | "apiVersion"
            | "apiStrict"
            | "apiDeprecationErrors"
            | "autocommit"
            | "clientOperationKey"
            | "comment"
            | "coordinator"
            | "databaseVersion"
            | "help"
            | "lsid"
            | "maxTimeMS"
            | "maxTimeMSOpOnly"
            | "mayBypassWriteBlocking"
            | "operationSessionInfo"
            | "rawData"
            | "readConcern"
            | "shardVersion"
            | "startTransaction"
            | "stmtId"
            | "stmtIds"
            | "txnNumber"
            | "txnRetryCounter"
            | "writeConcern"
    )
}
