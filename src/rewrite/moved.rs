//! What an update does under other operators than those that the client used.

use std::time::{SystemTime, UNIX_EPOCH};

use super::document::write_value;
use super::elements::{self, Compared};
use super::filter::UpsertEquality;
use super::scope::{Place, Scope};
use super::upsert::write_equalities;
use crate::policy::Field;
use crate::raw::{Doc, Element, Malformed, Writer, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::Types;

/// What the update gets under operators other than those that the client used.
pub(super) struct Added(pub(super) Vec<(&'static str, Vec<u8>)>);

impl Added {
    pub(super) fn of(
        scope: &Scope<'_>,
        update: Doc<'_>,
        missing: &[UpsertEquality<'_>],
    ) -> Result<Self, Refusal> {
        let mut added = Self(Vec::new());
        if !missing.is_empty() {
            write_equalities(added.under("$setOnInsert"), scope, missing)?;
        }
        for operator in update.elements() {
            let operator = operator?;
            if !matches!(operator.key, "$pullAll" | "$currentDate") {
                continue;
            }
            for element in operator.object()?.elements() {
                let element = element?;
                if let Place::Sealed {
                    field,
                    element: false,
                } = scope.unasked_place(element.key)?
                {
                    added.moved(scope, operator.key, &element, field)?;
                }
            }
        }
        Ok(added)
    }

    fn moved(
        &mut self,
        scope: &Scope<'_>,
        operator: &str,
        element: &Element<'_>,
        field: &Field,
    ) -> Result<(), Refusal> {
        if operator == "$currentDate" {
            return current_date(self.under("$set"), scope, element, field);
        }
        if !field.elements {
            return Ok(());
        }
        match elements::compared(scope, operator, element, field)? {
            Compared::Pull(condition) => self.under("$pull").extend(condition),
            // Whatever it is, MongoDB refuses it for a conflict.
            Compared::Without(_) => Writer::new(self.under("$pull")).null(element.key),
            Compared::AsIs | Compared::With(_) => {}
        }
        Ok(())
    }

    fn under(&mut self, operator: &'static str) -> &mut Vec<u8> {
        let index = match self.0.iter().position(|(name, _)| *name == operator) {
            Some(index) => index,
            None => {
                self.0.push((operator, Vec::new()));
                self.0.len() - 1
            }
        };
        &mut self.0[index].1
    }

    pub(super) fn take(&mut self, operator: &str) -> Option<Vec<u8>> {
        let index = self.0.iter().position(|(name, _)| *name == operator)?;
        Some(self.0.swap_remove(index).1)
    }
}

/// Appends the time of the proxy's clock, sealed: what MongoDB's own would be for an open field.
pub(super) fn current_date(
    out: &mut Vec<u8>,
    scope: &Scope<'_>,
    element: &Element<'_>,
    field: &Field,
) -> Result<(), Refusal> {
    let name = match element.kind {
        kind::BOOL => Some("date"),
        kind::DOCUMENT => match element.doc()?.find_once("$type")? {
            Some(name) if element.doc()?.elements().count() == 1 => name.str(),
            _ => None,
        },
        _ => None,
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (of, value) = match name {
        Some("date") => (
            kind::DATE,
            u64::try_from(now.as_millis()).unwrap_or_default(),
        ),
        // The first of its second: seconds in the upper half.
        Some("timestamp") => (kind::TIMESTAMP, now.as_secs() << 32 | 1),
        _ => {
            return Err(
                Malformed("$currentDate takes true or {$type: \"date\" or \"timestamp\"}").into(),
            );
        }
    };
    if !field.types.allows(of) {
        return Err(Refusal::new(
            RefusalKind::WrongType,
            format_args!(
                "{} on {}: `$currentDate` of the sealed field `{}`, which takes {}, not {}",
                scope.command,
                scope.collection.namespace,
                element.key,
                field.types.describe(),
                Types::alias_of(of),
            ),
        ));
    }
    let mut document = Vec::new();
    let mut writer = Writer::new(&mut document);
    let open = writer.begin();
    writer.value(of, element.key, &value.to_le_bytes());
    writer.end(open);
    match Doc::whole(&document)?.first()? {
        Some(time) => write_value(out, scope, element.key, field, &time),
        None => Ok(()),
    }
}
