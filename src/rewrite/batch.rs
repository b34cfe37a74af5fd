//! The statements of a write command, each of which may be refused alone.
//!
//! A refused statement is not taken out: the numbers of those behind it, by which
//! MongoDB reports errors and knows retried writes again, would change. In its
//! place goes one that every MongoDB refuses, so that MongoDB itself stops an
//! ordered batch there, goes on with an unordered one, or aborts a transaction;
//! in the reply, its error is replaced by ours.

use std::cell::{Cell, RefCell};

use crate::raw::{Doc, Splicer, Writer};
use crate::refusal::Refusal;
use crate::reveal::RefusedStatement;

/// What the statements of a command are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statement {
    /// Documents to insert.
    Insert,
    /// `{q, u}`
    Update,
    /// `{q, limit}`
    Delete,
}

/// Goes with the statements of one command, in the order in which MongoDB numbers them.
#[derive(Debug)]
pub(super) struct Batch {
    statement: Statement,
    next: Cell<usize>,
    refused: RefCell<Vec<RefusedStatement>>,
}

impl Batch {
    pub(super) fn new(statement: Statement) -> Self {
        Self {
            statement,
            next: Cell::new(0),
            refused: RefCell::default(),
        }
    }

    /// Rewrites one statement. If it is refused for what it says, nothing of it stays.
    pub(super) fn take<'m>(
        &self,
        splicer: &mut Splicer<'m, '_>,
        doc: Doc<'m>,
        rewrite: impl FnOnce(&mut Splicer<'m, '_>, Doc<'m>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let index = self.next.get();
        self.next.set(index + 1);
        let checkpoint = splicer.checkpoint();
        let Err(refusal) = rewrite(splicer, doc) else {
            return Ok(());
        };
        if !refusal.kind.is_of_statement() {
            return Err(refusal);
        }
        splicer.roll_back(checkpoint);
        splicer.replace(doc.start(), doc.end(), |out| self.statement.impossible(out));
        let refused = RefusedStatement { index, refusal };
        self.refused.borrow_mut().push(refused);
        Ok(())
    }

    /// The statements that were refused.
    pub(super) fn into_refused(self) -> Vec<RefusedStatement> {
        self.refused.into_inner()
    }
}

impl Statement {
    /// Appends a statement that MongoDB refuses whatever it holds, and does nothing by.
    fn impossible(self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        let statement = writer.begin();
        if self == Self::Insert {
            // An `_id` is never an array.
            let id = writer.begin_array("_id");
            writer.end(id);
            writer.end(statement);
            return;
        }
        let filter = writer.begin_doc("q");
        writer.int32("$fieldsealRefused", 1);
        writer.end(filter);
        if self == Self::Update {
            let update = writer.begin_doc("u");
            writer.end(update);
        } else {
            writer.int32("limit", 1);
        }
        writer.end(statement);
    }
}
