//! What the one who asks may not read or write of a collection.
//!
//! Of a masked field nothing may be asked. What looks at a path finds it by
//! [`Scope::place`], and what an expression reads is [`Content::Masked`]: both refuse, but
//! for the few that name it because they pass the value on as it is.
//!
//! A read-only field may neither be changed nor lost. Documents to be stored are refused
//! where they are sealed, what updates do is checked here before they are rewritten.
//!
//! [`Content::Masked`]: super::shape::Content::Masked

use super::command::Command;
use super::filter::is_operators;
use super::scope::{Place, Scope};
use crate::code::Code;
use crate::policy::{Field, Policy};
use crate::raw::{Doc, Element, kind};
use crate::refusal::{Refusal, RefusalKind};
use crate::schema::{NodeId, Step, Tree};

/// What a document to be stored may not hold.
pub(super) const LEAVE_OUT: &str = "leave it out, null as well";
const OTHERS: &str = "change other fields, one by one";
const REPLACE: &str = "a replacement would lose it: change other fields by update operators";
const STAGES: &str = "of the stages of an update, use $set and $unset of other fields";

impl<'c> Scope<'c> {
    /// Refuses to ask anything of a field that is masked.
    pub(super) fn unreadable(&self, field: &Field) -> Refusal {
        self.unauthorized(
            "read",
            field,
            "so nothing can be asked of it; ask for other fields",
        )
    }

    /// Refuses an answer in which plain values of a masked field may stand where nothing
    /// tells that they are of that field.
    pub(super) fn unauthorized_in_plain(&self) -> Refusal {
        Refusal::new(
            RefusalKind::Unauthorized,
            format_args!(
                "{} on {}: a sealed field that you may not read may be in plain, as on_plaintext says, and where the command puts it cannot be told from others; ask for documents as they are stored",
                self.command, self.collection.namespace
            ),
        )
    }

    /// Refuses to tell how large some documents are, in which values of a masked field may
    /// stand: their lengths would be told.
    pub(super) fn unauthorized_to_measure(&self) -> Refusal {
        Refusal::new(
            RefusalKind::Unauthorized,
            format_args!(
                "{} on {}: the size of some documents tells how long the values of a sealed field are, which you may not read; ask for the size of the collection as a whole",
                self.command, self.collection.namespace
            ),
        )
    }

    /// Refuses to change a field that is read-only.
    pub(super) fn unwritable(&self, field: &Field, advice: &str) -> Refusal {
        self.unauthorized("write", field, advice)
    }

    fn unauthorized(&self, what: &str, field: &Field, advice: &str) -> Refusal {
        Refusal::new(
            RefusalKind::Unauthorized,
            format_args!(
                "{} on {}: you may not {what} the sealed field `{}`: {advice}",
                self.command, self.collection.namespace, field.path
            ),
        )
    }

    /// Refuses to compare the documents at `node` as wholes, or to ask which names they
    /// have, if a masked field may stand in them.
    pub(super) fn readable_below(&self, node: NodeId, path: &str) -> Result<(), Refusal> {
        if !self.masks {
            return Ok(());
        }
        match self.first_below(node, &|field| field.is_none_or(Field::is_masked)) {
            Some(Some(field)) => Err(self.unreadable(field)),
            Some(None) => Err(self.mixed(path)),
            None => Ok(()),
        }
    }

    /// Refuses what replaces all that is below `node`, if a read-only field is.
    fn writable_below(&self, node: NodeId, advice: &str) -> Result<(), Refusal> {
        if !self.guards {
            return Ok(());
        }
        let guarded = |field: Option<&Field>| field.is_some_and(|field| field.access.read_only);
        match self.first_below(node, &guarded) {
            Some(Some(field)) => Err(self.unwritable(field, advice)),
            _ => Ok(()),
        }
    }

    /// Refuses what replaces documents as wholes.
    pub(super) fn writable(&self, advice: &str) -> Result<(), Refusal> {
        self.writable_below(Tree::ROOT, advice)
    }

    /// The first field below `node` that meets `test`; none is for a place where sealed
    /// values of several fields may stand.
    fn first_below(
        &self,
        node: NodeId,
        test: &impl Fn(Option<&Field>) -> bool,
    ) -> Option<Option<&'c Field>> {
        self.tree().children(node).find_map(|(_, step)| match step {
            Step::Inner(next) => self.first_below(next, test),
            Step::Sealed(leaf) => {
                let field: &'c Field = self.collection.field(leaf);
                test(Some(field)).then_some(Some(field))
            }
            Step::Mixed => test(None).then_some(None),
            Step::Open | Step::Ambiguous => None,
        })
    }
}

/// What `$meta` may give of a document: all but the keys of an index, which hold tokens.
const METADATA: &[&str] = &[
    "geoNearDistance",
    "geoNearPoint",
    "randVal",
    "recordId",
    "sortKey",
    "textScore",
];

/// Refuses `$meta` of what may tell of a masked field.
pub(super) fn check_metadata(scope: &Scope<'_>, operand: &Element<'_>) -> Result<(), Refusal> {
    if !scope.masks || operand.str().is_some_and(|name| METADATA.contains(&name)) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::Unauthorized,
        format_args!(
            "{} on {}: `$meta` of what may be of a sealed field that you may not read; it may give {}",
            scope.command,
            scope.collection.namespace,
            METADATA.join(", ")
        ),
    ))
}

/// Refuses collections in which MongoDB keeps documents of others, or parts of them, under
/// paths of their own, if who asks may not read all of them: `local.oplog.rs` and its like.
pub(super) fn check_internal(
    policy: &Policy,
    command: &str,
    database: &str,
    name: &str,
) -> Result<(), Refusal> {
    let keeps = match database {
        "local" => true,
        "config" => matches!(name, "image_collection" | "system.preimages"),
        _ => name == "system.profile",
    };
    if !keeps || !policy.masks_unknown() {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::Unauthorized,
        format_args!(
            "{command} in {database}: {name} may hold sealed fields that you may not read, where nothing tells what is asked of them; ask the collections themselves"
        ),
    ))
}

/// Refuses to run what is explained, if who asks may not read all that it `reaches`: how
/// much memory each stage took tells how long the values are that went through it.
pub(super) fn check_statistics(
    policy: &Policy,
    explain: &Command<'_>,
    reaches: impl FnOnce() -> bool,
) -> Result<(), Refusal> {
    if !policy.masks_unknown() {
        return Ok(());
    }
    let verbosity = explain.body.find_once("verbosity")?;
    let planned = verbosity.is_some_and(|verbosity| verbosity.str() == Some("queryPlanner"));
    if planned || !reaches() {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::Unauthorized,
        "explain: statistics of the execution tell how long the values of sealed fields are, of which you may not read all; ask for {verbosity: \"queryPlanner\"}",
    ))
}

/// Refuses a value for a field that who writes it may not read, if it may be the mask, or
/// if MongoDB would tell whether it is the one that is stored.
pub(super) fn check_value(
    scope: &Scope<'_>,
    field: &Field,
    element: &Element<'_>,
) -> Result<(), Refusal> {
    let Some(mask) = field.access.masked else {
        return Ok(());
    };
    if field.stores_plain {
        return Err(scope.unwritable(
            field,
            "it is stored in plain, as on_plaintext = \"store\" says, so that writing it would tell you what is there",
        ));
    }
    if !mask.could_have_made(element.kind, element.value()) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::WrongType,
        format_args!(
            "{} on {}: the value for the sealed field `{}` looks like the masked one, which you are shown in its place; leave the field out, or send the value itself",
            scope.command, scope.collection.namespace, field.path
        ),
    ).coded(Code::MaskedValue))
}

/// Refuses update operators that would ask about a masked field, or change a read-only one.
pub(super) fn check_update(scope: &Scope<'_>, update: Doc<'_>) -> Result<(), Refusal> {
    if !scope.masks && !scope.guards {
        return Ok(());
    }
    for operator in update.elements() {
        let operator = operator?;
        for change in operator.object()?.elements() {
            let change = change?;
            check_change(scope, operator.key, change.key, &change)?;
            if operator.key == "$rename" {
                check_change(
                    scope,
                    operator.key,
                    change.str().unwrap_or_default(),
                    &change,
                )?;
            }
        }
    }
    Ok(())
}

fn check_change(
    scope: &Scope<'_>,
    operator: &str,
    path: &str,
    change: &Element<'_>,
) -> Result<(), Refusal> {
    match scope.unasked_place(path)? {
        Place::Open => Ok(()),
        Place::Sealed { field, .. } if field.access.read_only => {
            Err(scope.unwritable(field, OTHERS))
        }
        // Of others it would be told whether they did anything.
        Place::Sealed { field, .. }
            if field.is_masked()
                && !matches!(
                    operator,
                    "$set" | "$setOnInsert" | "$unset" | "$currentDate" | "$push"
                ) =>
        {
            Err(scope.unreadable(field))
        }
        Place::Sealed { .. } => Ok(()),
        Place::Inner(node) => {
            if !adds(operator, change)? {
                scope.writable_below(node, OTHERS)?;
            }
            if !compares_nothing(operator, change)? {
                scope.readable_below(node, path)?;
            }
            Ok(())
        }
    }
}

/// Whether an operator on a field that holds sealed fields leaves all that is there.
/// What it adds is looked at where it is sealed.
fn adds(operator: &str, change: &Element<'_>) -> Result<bool, Refusal> {
    Ok(match operator {
        "$setOnInsert" | "$addToSet" => true,
        "$push" => change.kind != kind::DOCUMENT || change.doc()?.find("$slice")?.is_none(),
        _ => false,
    })
}

/// Whether an operator on a field that holds sealed fields compares no whole documents.
fn compares_nothing(operator: &str, change: &Element<'_>) -> Result<bool, Refusal> {
    Ok(match operator {
        "$set" | "$setOnInsert" | "$unset" | "$push" | "$pop" => true,
        // It is a filter, which is refused for itself.
        "$pull" => change.kind == kind::DOCUMENT && !is_operators(change)?,
        _ => false,
    })
}

/// Refuses a replacement where a read-only field is.
pub(super) fn check_replacement(scope: &Scope<'_>) -> Result<(), Refusal> {
    scope.writable(REPLACE)
}

/// Refuses a stage of an update that may change a read-only field.
pub(super) fn check_stage(scope: &Scope<'_>, stage: &Element<'_>) -> Result<(), Refusal> {
    if !scope.guards {
        return Ok(());
    }
    match stage.key {
        "$set" | "$addFields" => check_set(scope, stage.object()?, Tree::ROOT),
        "$unset" if stage.kind == kind::ARRAY => {
            for path in stage.doc()?.elements() {
                check_path(scope, Tree::ROOT, path?.str().unwrap_or_default())?;
            }
            Ok(())
        }
        "$unset" => check_path(scope, Tree::ROOT, stage.str().unwrap_or_default()),
        _ => scope.writable(STAGES),
    }
}

/// The fields of a `$set`; documents among them name fields below.
fn check_set(scope: &Scope<'_>, fields: Doc<'_>, node: NodeId) -> Result<(), Refusal> {
    for field in fields.elements() {
        let field = field?;
        let names =
            field.kind == kind::DOCUMENT && !is_operators(&field)? && !field.doc()?.is_empty();
        match scope.unasked_place_from(node, field.key)? {
            Place::Inner(next) if names => check_set(scope, field.doc()?, next)?,
            _ => check_path(scope, node, field.key)?,
        }
    }
    Ok(())
}

fn check_path(scope: &Scope<'_>, node: NodeId, path: &str) -> Result<(), Refusal> {
    match scope.unasked_place_from(node, path)? {
        Place::Open => Ok(()),
        Place::Sealed { field, .. } if field.access.read_only => {
            Err(scope.unwritable(field, OTHERS))
        }
        Place::Sealed { .. } => Ok(()),
        Place::Inner(node) => scope.writable_below(node, OTHERS),
    }
}
