//! The stored form's names and values, and what a client sees in their place.

use crate::policy::{self, Collection};
use crate::raw::{Element, kind};
use crate::schema::{Step, Tree};

use super::open;

/// What stands for a token or a sealed value where its plain value cannot be told.
pub(super) const HIDDEN: &str = "<sealed>";

/// The names of one collection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'c>(pub(super) &'c Collection);

impl Names<'_> {
    /// The user's path, if `name` is the path of a sealed field's tokens: `ssn` for `ssn.e1`.
    pub(super) fn path<'n>(&self, name: &'n str) -> Option<&'n str> {
        let (path, token) = name.rsplit_once('.')?;
        if !open::is_token(token) {
            return None;
        }
        let mut at = Tree::ROOT;
        for component in path.split('.') {
            match self.0.tree.element(at, component) {
                Step::Inner(next) => at = next,
                Step::Sealed(leaf) => {
                    return self.0.field(leaf).equality.is_some().then_some(path);
                }
                Step::Open | Step::Ambiguous | Step::Mixed => return None,
            }
        }
        None
    }

    /// Whether values at a path are hidden: of a sealed field itself and, from who may not
    /// read every field, of what holds one, which may be plain.
    pub(super) fn hides(&self, path: &str) -> bool {
        let mut at = Tree::ROOT;
        for component in path.split('.') {
            match self.0.tree.element(at, component) {
                Step::Inner(next) => at = next,
                Step::Sealed(_) => return true,
                Step::Open | Step::Ambiguous | Step::Mixed => return false,
            }
        }
        self.0.has_masked()
    }

    /// What a string means to the user: a path that begins with `$` is one of theirs.
    pub(super) fn expression(&self, text: &str) -> Option<String> {
        let path = self.path(text.strip_prefix('$')?)?;
        Some(format!("${path}"))
    }

    /// A text in which MongoDB speaks of the stored form, with the user's paths and
    /// without tokens; none if it does not.
    pub(super) fn text(&self, text: &str) -> Option<String> {
        let hidden = hide(text);
        let named = self.paths(hidden.as_deref().unwrap_or(text));
        let told = named.or(hidden);
        self.indexes(told.as_deref().unwrap_or(text)).or(told)
    }

    /// A text with the user's names of indexes.
    pub(super) fn indexes(&self, text: &str) -> Option<String> {
        let text = Some(text).filter(|_| self.0.has_tokens());
        text.and_then(policy::with_users_names)
    }

    /// The user's name of an index, if it is stored under another.
    pub(super) fn index<'n>(&self, name: &'n str) -> Option<&'n str> {
        let users = policy::users_name(name);
        (users != name && self.0.has_tokens()).then_some(users)
    }

    /// A text with the user's paths.
    fn paths(&self, text: &str) -> Option<String> {
        let mut out = String::new();
        let mut copied = 0;
        let mut at = 0;
        for word in text.split(|letter: char| !in_path(letter)) {
            let end = at + word.len();
            // Where a sentence ends, so does its last path.
            let path = word.trim_start_matches('$').trim_end_matches('.');
            if let Some(users) = self.path(path) {
                let from = at + (word.len() - word.trim_start_matches('$').len());
                out.push_str(text.get(copied..from)?);
                out.push_str(users);
                copied = from + path.len();
            }
            at = end + text.get(end..)?.chars().next().map_or(0, char::len_utf8);
        }
        if copied == 0 {
            return None;
        }
        out.push_str(text.get(copied..)?);
        Some(out)
    }
}

/// What may stand in the path of a field, as far as texts tell.
fn in_path(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '.' | '_' | '-' | '$')
}

/// A text with [`HIDDEN`] for each token and sealed value in MongoDB's notation.
pub(super) fn hide(text: &str) -> Option<String> {
    const BEGIN: &str = "BinData(";
    let mut out = String::new();
    let mut rest = text;
    let mut changed = false;
    while let Some(at) = rest.find(BEGIN) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let length = from.find(')').map_or(from.len(), |end| end + 1);
        let (value, after) = from.split_at(length);
        if is_stored(value.get(BEGIN.len()..).unwrap_or_default()) {
            out.push_str(HIDDEN);
            changed = true;
        } else {
            out.push_str(value);
        }
        rest = after;
    }
    out.push_str(rest);
    changed.then(|| merged(out))
}

/// A text with [`HIDDEN`] for each document of a sealed value and its tokens.
fn merged(text: String) -> String {
    const BEGIN: &str = "c: <sealed>, ";
    if !text.contains(BEGIN) {
        return text;
    }
    let (mut out, mut rest) = (String::new(), text.as_str());
    while let Some((before, tokens)) = rest.split_once(BEGIN) {
        // Expressions write documents without the spaces.
        let outside = before.trim_end_matches(' ').strip_suffix('{');
        if let (Some(outside), Some(after)) = (outside, after_tokens(tokens)) {
            out.push_str(outside);
            out.push_str(HIDDEN);
            rest = after;
        } else {
            out.push_str(before);
            out.push_str(BEGIN);
            rest = tokens;
        }
    }
    out + rest
}

/// What follows `e1: <sealed> }`.
fn after_tokens(mut text: &str) -> Option<&str> {
    loop {
        let length = text
            .bytes()
            .position(|byte| !byte.is_ascii_alphanumeric())?;
        let (name, value) = text.split_at(length);
        if !open::is_token(name) {
            return None;
        }
        let after = value.strip_prefix(": ")?.strip_prefix(HIDDEN)?;
        match after.strip_prefix(", ") {
            Some(next) => text = next,
            None => return after.trim_start_matches(' ').strip_prefix('}'),
        }
    }
}

/// Whether a text holds a sealed value in MongoDB's notation.
pub(super) fn tells_sealed(text: &str) -> bool {
    text.contains("BinData(143, F5EA1D") || text.contains("BinData(143, \"F5EA1D")
}

/// Whether `0, 3031…)` is of a token's or `143, F5EA1D…)` of a sealed value's form;
/// expressions write `0, "3031…")`.
fn is_stored(value: &str) -> bool {
    let Some((subtype, hex)) = value.split_once(", ") else {
        return false;
    };
    let hex = hex.trim_end_matches(')').trim_matches('"');
    match subtype {
        "0" => matches!(hex.len(), 0 | 32),
        "143" => hex.starts_with("F5EA1D"),
        _ => false,
    }
}

/// Whether an element is a sealed value, with tokens or without.
pub(super) fn is_sealed_value(element: &Element<'_>) -> bool {
    matches!(open::sealed(element), Ok(Some(_)))
}

/// Whether an element could be a token, in a place where one is to be expected. The
/// empty Binary is what an upsert asks for beside a token.
pub(super) fn may_be_token(element: &Element<'_>) -> bool {
    element.kind == kind::BINARY
        && element
            .binary()
            .is_some_and(|(subtype, bytes)| subtype == 0 && matches!(bytes.len(), 0 | 16))
}
