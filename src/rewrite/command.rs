//! A command as recognised: its name, its database, what its first value names.

use crate::policy::Policy;
use crate::raw::{Doc, Element, Malformed, kind};
use crate::wire::{Message, OpMsg, Sequence};

use super::familiar::Known;
use super::table::{self, Family};

/// A message with the command in it, recognised once for all who look at it.
#[derive(Debug)]
pub struct Request<'m> {
    pub(super) message: &'m Message<'m>,
    /// None for an `OP_QUERY`; what is malformed is told by who decides on it.
    pub(super) command: Option<Result<Command<'m>, Malformed>>,
    /// What is known of the one name in it.
    pub(super) known: Option<Known>,
}

impl<'m> Request<'m> {
    /// Recognises the command of a message.
    pub fn of(message: &'m Message<'m>) -> Self {
        let command = match message {
            Message::Msg(message) => Some(Command::of(message)),
            Message::Query(_) => None,
        };
        Self {
            message,
            command,
            known: None,
        }
    }

    /// The message.
    pub fn message(&self) -> &'m Message<'m> {
        self.message
    }

    /// The command's name as sent, its database and its body; none of an `OP_QUERY`, or of
    /// what is malformed.
    pub fn parts(&self) -> Option<(&'m str, &'m str, Doc<'m>)> {
        let command = self.command()?;
        Some((command.name, command.database, command.body))
    }

    /// The first field of the body, whose name is the command's; none as for `parts`.
    pub fn first(&self) -> Option<Element<'m>> {
        Some(self.command()?.target)
    }

    /// What it says of whether it can be sent again.
    pub fn again(&self) -> Again {
        self.command()
            .map_or_else(Again::default, |command| command.again)
    }

    /// The command of an `OP_MSG` that holds together.
    pub(super) fn command(&self) -> Option<&Command<'m>> {
        self.command.as_ref()?.as_ref().ok()
    }
}

/// A command, borrowed from its message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command<'m> {
    /// As sent: the first field of the body.
    pub(super) name: &'m str,
    /// What the table has under that name.
    pub(super) family: Family,
    /// The value of the first field.
    pub(super) target: Element<'m>,
    /// The value of `$db`.
    pub(super) database: &'m str,
    /// The body.
    pub(super) body: Doc<'m>,
    /// The kind-1 sections.
    pub(super) sequences: &'m [Sequence<'m>],
    /// Whether it can be sent again.
    pub(super) again: Again,
}

/// What a command says of whether its client can send it again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Again {
    /// It has a `txnNumber`, by which MongoDB does it once however often it is sent.
    pub numbered: bool,
    /// It has an `autocommit`, which is a part of a transaction.
    pub in_transaction: bool,
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
        let mut elements = body.elements();
        let target = elements.next().transpose()?;
        let mut command = Self::by_target(body, target, "")?;
        let mut database = None;
        let mut again = Again::default();
        let mut note = |element: &Element<'m>| {
            match element.key {
                "$db" if database.is_some() => return Err(Malformed("$db is given twice")),
                "$db" => {
                    database = Some(element.str().ok_or(Malformed("$db is not a string"))?);
                }
                "txnNumber" => again.numbered = true,
                "autocommit" => again.in_transaction = true,
                _ => {}
            }
            Ok(())
        };
        note(&command.target)?;
        for element in elements {
            note(&element?)?;
        }
        command.again = again;
        command.database = database
            .filter(|database| !database.contains('\0'))
            .ok_or(Malformed("$db is missing, or holds a zero"))?;
        command.sequences = &message.sequences;
        Ok(command)
    }

    /// The command in a document of its own, as `explain` has it.
    pub(super) fn in_doc(body: Doc<'m>, database: &'m str) -> Result<Self, Malformed> {
        Self::by_target(body, body.first()?, database)
    }

    fn by_target(
        body: Doc<'m>,
        first: Option<Element<'m>>,
        database: &'m str,
    ) -> Result<Self, Malformed> {
        let target = first.ok_or(Malformed("a command is empty"))?;
        Ok(Self {
            name: target.key,
            family: table::family(target.key),
            target,
            database,
            body,
            sequences: &[],
            again: Again::default(),
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
        policy.collection_in(self.database, name)
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
