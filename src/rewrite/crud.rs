//! insert, find, update, delete, findAndModify and count on a sealed collection.

use super::batch::{Batch, Statement};
use super::command::Command;
use super::document::seal_document;
use super::expression::{constants, own_constants};
use super::filter::Purpose;
use super::options::{
    Collation, array, fields, filter, filter_for, hint, open_keys, sections, sort,
    upsert_equalities,
};
use super::positions::{self, Finds};
use super::scope::Scope;
use super::{array_filters, projection, update};
use crate::raw::{Doc, Element, Malformed, Splicer};
use crate::refusal::Refusal;
use crate::reveal::RefusedStatement;
use crate::schema::Tree;

type Result<T = ()> = std::result::Result<T, Refusal>;

pub(super) fn insert<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result<Vec<RefusedStatement>> {
    let batch = Batch::new(Statement::Insert);
    let seal = |splicer: &mut Splicer<'m, '_>, doc: Doc<'m>| {
        batch.take(splicer, doc, |splicer, doc| {
            seal_document(splicer, scope, doc, Tree::ROOT, 0)
        })
    };
    let body = |splicer: &mut Splicer<'m, '_>| {
        fields(splicer, scope, command.body, 1, |splicer, element| {
            match element.key {
                "documents" => array(splicer, element, seal)?,
                "ordered" | "bypassDocumentValidation" => {}
                _ => return Ok(false),
            }
            Ok(true)
        })
    };
    sections(splicer, scope, command, "documents", body, seal)?;
    Ok(batch.into_refused())
}

pub(super) fn find<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result {
    let mut collation = Collation::default();
    no_sequences(scope, command)?;
    let filtered = command.body.find("filter")?;
    let projected = command.body.find("projection")?;
    let finds = Finds {
        filter: filtered,
        makes: false,
    };
    positions::check_projection(scope, &finds, projected.as_ref())?;
    fields(splicer, scope, command.body, 1, |splicer, element| {
        match element.key {
            "filter" => filter(splicer, scope, element)?,
            "projection" => projection::rewrite(splicer, scope, element)?,
            "sort" => sort(scope, element)?,
            "hint" => hint(splicer, scope, element)?,
            "min" | "max" => open_keys(scope, element, element.key, "use an index on open fields")?,
            "let" => constants(splicer, scope, element)?,
            "collation" => collation.note(element)?,
            "returnKey" if element.truthy() => {
                return Err(scope.refuse_command("`returnKey`", "use a projection"));
            }
            "returnKey"
            | "skip"
            | "limit"
            | "batchSize"
            | "singleBatch"
            | "allowDiskUse"
            | "noCursorTimeout"
            | "tailable"
            | "awaitData"
            | "allowPartialResults"
            | "oplogReplay"
            | "showRecordId"
            | "readOnce"
            | "includeQueryStatsMetrics" => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    collation.check(scope)
}

pub(super) fn update<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result<Vec<RefusedStatement>> {
    let batch = Batch::new(Statement::Update);
    let statement = |splicer: &mut Splicer<'m, '_>, doc: Doc<'m>| {
        batch.take(splicer, doc, |splicer, doc| {
            scope.statement(|| update_statement(splicer, scope, doc))
        })
    };
    let body = |splicer: &mut Splicer<'m, '_>| {
        fields(splicer, scope, command.body, 1, |splicer, element| {
            match element.key {
                "updates" => array(splicer, element, statement)?,
                "let" => constants(splicer, scope, element)?,
                "ordered" | "bypassDocumentValidation" => {}
                _ => return Ok(false),
            }
            Ok(true)
        })
    };
    sections(splicer, scope, command, "updates", body, statement)?;
    Ok(batch.into_refused())
}

fn update_statement<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    statement: Doc<'m>,
) -> Result {
    let mut collation = Collation::default();
    scope.compared.set(false);
    let change = Change::of(statement, "q", "u")?;
    positions::check_update(scope, &change.finds(), change.update.as_ref())?;
    let equalities = change.equalities(scope, splicer.input())?;
    fields(splicer, scope, statement, 0, |splicer, element| {
        match element.key {
            "q" => change.filter(splicer, scope, element)?,
            "u" => update::rewrite(splicer, scope, element, &equalities)?,
            // Never compared with what is sealed: an expression knows them only by name.
            "c" => own_constants(scope, element)?,
            "arrayFilters" => {
                array_filters::rewrite(splicer, scope, element, change.update.as_ref())?
            }
            "hint" => hint(splicer, scope, element)?,
            "sort" => sort(scope, element)?,
            "collation" => collation.note(element)?,
            "multi" | "upsert" | "upsertSupplied" | "sampleId" => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    collation.check(scope)
}

/// What of an update's fields must be known before any of them is rewritten.
pub(super) struct Change<'m> {
    pub(super) filter: Option<Element<'m>>,
    pub(super) update: Option<Element<'m>>,
    upsert: bool,
}

impl<'m> Change<'m> {
    /// Fields given twice are refused: one of them would go unseen.
    pub(super) fn of(
        doc: Doc<'m>,
        filter: &str,
        update: &str,
    ) -> std::result::Result<Self, Malformed> {
        let mut change = Self {
            filter: None,
            update: None,
            upsert: false,
        };
        for element in doc.elements() {
            let element = element?;
            let twice = if element.key == filter {
                change.filter.replace(element).is_some()
            } else if element.key == update {
                change.update.replace(element).is_some()
            } else {
                if element.key == "upsert" {
                    change.upsert |= element.truthy();
                }
                false
            };
            if twice {
                return Err(Malformed("a filter or an update is given twice"));
            }
        }
        Ok(change)
    }

    pub(super) fn finds(&self) -> Finds<'m> {
        Finds {
            filter: self.filter,
            makes: self.upsert,
        }
    }

    pub(super) fn equalities(
        &self,
        scope: &Scope<'_>,
        input: &'m [u8],
    ) -> Result<Vec<super::filter::UpsertEquality<'m>>> {
        match &self.filter {
            Some(filter) if self.upsert => upsert_equalities(scope, filter, input),
            _ => Ok(Vec::new()),
        }
    }

    pub(super) fn filter(
        &self,
        splicer: &mut Splicer<'m, '_>,
        scope: &Scope<'_>,
        element: &Element<'m>,
    ) -> Result {
        if self.upsert {
            let mut again = Vec::new();
            filter_for(splicer, scope, element, &mut Purpose::Upsert(&mut again))
        } else {
            filter(splicer, scope, element)
        }
    }
}

pub(super) fn delete<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result<Vec<RefusedStatement>> {
    let batch = Batch::new(Statement::Delete);
    let statement = |splicer: &mut Splicer<'m, '_>, doc: Doc<'m>| {
        batch.take(splicer, doc, |splicer, doc| {
            scope.statement(|| delete_statement(splicer, scope, doc))
        })
    };
    let body = |splicer: &mut Splicer<'m, '_>| {
        fields(splicer, scope, command.body, 1, |splicer, element| {
            match element.key {
                "deletes" => array(splicer, element, statement)?,
                "let" => constants(splicer, scope, element)?,
                "ordered" => {}
                _ => return Ok(false),
            }
            Ok(true)
        })
    };
    sections(splicer, scope, command, "deletes", body, statement)?;
    Ok(batch.into_refused())
}

fn delete_statement<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    statement: Doc<'m>,
) -> Result {
    let mut collation = Collation::default();
    scope.compared.set(false);
    fields(splicer, scope, statement, 0, |splicer, element| {
        match element.key {
            "q" => filter(splicer, scope, element)?,
            "hint" => hint(splicer, scope, element)?,
            "collation" => collation.note(element)?,
            "limit" | "sampleId" => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    collation.check(scope)
}

pub(super) fn find_and_modify<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result {
    let mut collation = Collation::default();
    no_sequences(scope, command)?;
    let change = Change::of(command.body, "query", "update")?;
    positions::check_update(scope, &change.finds(), change.update.as_ref())?;
    for name in ["fields", "projection"] {
        let projection = command.body.find(name)?;
        positions::check_projection(scope, &change.finds(), projection.as_ref())?;
    }
    let equalities = change.equalities(scope, splicer.input())?;
    fields(splicer, scope, command.body, 1, |splicer, element| {
        match element.key {
            "query" => change.filter(splicer, scope, element)?,
            "update" if element.is_null() => {}
            "update" => update::rewrite(splicer, scope, element, &equalities)?,
            "arrayFilters" => {
                array_filters::rewrite(splicer, scope, element, change.update.as_ref())?
            }
            "fields" | "projection" => projection::rewrite(splicer, scope, element)?,
            "sort" => sort(scope, element)?,
            "hint" => hint(splicer, scope, element)?,
            "let" => constants(splicer, scope, element)?,
            "collation" => collation.note(element)?,
            "remove" | "new" | "upsert" | "bypassDocumentValidation" => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    collation.check(scope)
}

pub(super) fn count<'m>(
    splicer: &mut Splicer<'m, '_>,
    scope: &Scope<'_>,
    command: &Command<'m>,
) -> Result {
    let mut collation = Collation::default();
    no_sequences(scope, command)?;
    fields(splicer, scope, command.body, 1, |splicer, element| {
        match element.key {
            "query" => filter(splicer, scope, element)?,
            "hint" => hint(splicer, scope, element)?,
            "collation" => collation.note(element)?,
            "limit" | "skip" => {}
            // MongoDB ignores it; some drivers send it.
            "fields" => projection::rewrite(splicer, scope, element)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    collation.check(scope)
}

/// Commands without statements have no use for document sequences.
pub(super) fn no_sequences(scope: &Scope<'_>, command: &Command<'_>) -> Result {
    match command.sequences.first() {
        None => Ok(()),
        Some(sequence) => Err(scope.refuse_command(
            &format!("the document sequence `{}`", sequence.identifier),
            "put it in the body",
        )),
    }
}
