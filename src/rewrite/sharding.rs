//! Commands about a collection's chunks and its size, which bound them by values.

use super::command::{Command, is_generic};
use super::refuse_family;
use super::scope::{DEEPEST, Place, Scope};
use crate::policy::Collection;
use crate::raw::{Element, Malformed, kind};
use crate::refusal::Refusal;

/// Options that hold documents of keys, or lists of them.
const KEYS: &[&str] = &[
    "bounds",
    "find",
    "key",
    "keyPattern",
    "max",
    "middle",
    "min",
    "splitKeys",
    "startingFromKey",
];

/// Options that hold no value of a document.
const OTHERS: &[&str] = &[
    "_secondaryThrottle",
    "_waitForDelete",
    "enforceUniquenessCheck",
    "estimate",
    "forceJumbo",
    "fromShard",
    "keyCharacteristics",
    "maxChunkSizeBytes",
    "mode",
    "numInitialChunks",
    "presplitHashedZones",
    "readWriteDistribution",
    "sampleRate",
    "sampleSize",
    "samplesPerSecond",
    "secondaryThrottle",
    "to",
    "toShard",
    "unique",
    "waitForDelete",
    "zone",
];

/// Commands that tell how large the documents between two keys are.
const MEASURING: &[&str] = &["autoSplitVector", "dataSize", "datasize", "splitVector"];

/// Refuses a command on a sealed collection whose keys are not all of open fields.
pub(super) fn check(
    command: &Command<'_>,
    collection: &Collection,
    advice: &str,
) -> Result<(), Refusal> {
    let scope = &Scope::new(command.name, collection, false);
    let refuse = || refuse_family(command, "its keys may be sealed", advice);
    if !command.sequences.is_empty() {
        return Err(refuse());
    }
    let measures = scope.masks && MEASURING.contains(&command.name);
    for option in command.body.elements().skip(1) {
        let option = option?;
        // There may be one document between them.
        if measures && KEYS.contains(&option.key) {
            return Err(scope.unauthorized_to_measure());
        }
        let known = OTHERS.contains(&option.key) || is_generic(option.key);
        if KEYS.contains(&option.key) {
            keys(scope, &option, &refuse, 0)?;
        } else if !known {
            return Err(refuse());
        }
    }
    Ok(())
}

fn keys(
    scope: &Scope<'_>,
    option: &Element<'_>,
    refuse: &impl Fn() -> Refusal,
    depth: usize,
) -> Result<(), Refusal> {
    if depth > DEEPEST {
        return Err(Malformed("keys are nested too deep").into());
    }
    if option.kind == kind::ARRAY {
        for item in option.doc()?.elements() {
            keys(scope, &item?, refuse, depth + 1)?;
        }
        return Ok(());
    }
    if option.kind != kind::DOCUMENT {
        return Err(refuse());
    }
    for key in option.doc()?.elements() {
        let key = key?;
        // `$or` would hold filters.
        if key.key.starts_with('$') || !matches!(scope.place(key.key)?, Place::Open) {
            return Err(refuse());
        }
    }
    Ok(())
}
