//! The names of indexes on tokens.
//!
//! While tokens move to another index epoch, an index of the user's stands in MongoDB
//! twice: on the tokens of either epoch. No index can be renamed, so the name tells
//! them apart: it is the user's if all its tokens are of epoch 1, and else has the
//! epochs of its tokens behind it, as in `ssn_1~2`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Collection, Field};
use crate::raw::{Doc, Element, Malformed, kind};
use crate::schema::{Step, Tree};
use crate::seal::token_epoch;

/// What stands before the epochs in the name of an index.
const EPOCHS: char = '~';

/// Filters are not nested deeper.
const DEEPEST: usize = 200;

/// Epochs, and whether each is its field's active one.
type Epochs = Vec<(u32, bool)>;

type Result<T> = std::result::Result<T, Malformed>;

/// What a client sees of a stored index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown<'n> {
    /// An index of this name.
    As(&'n str),
    /// Nothing: it is on the tokens of an epoch that is not active. It stands, or will
    /// stand, beside one of this name.
    Hidden(&'n str),
}

impl<'n> Shown<'n> {
    /// The user's name of it.
    pub fn name(self) -> &'n str {
        match self {
            Self::As(name) | Self::Hidden(name) => name,
        }
    }
}

/// The name of an index without the epochs of its tokens, if it has them.
pub fn users_name(stored: &str) -> &str {
    match stored.rsplit_once(EPOCHS) {
        Some((name, epochs)) if are_epochs(epochs) => name,
        _ => stored,
    }
}

/// Whether a name ends as only names that the proxy makes do.
pub fn has_reserved_name(name: &str) -> bool {
    users_name(name).len() < name.len()
}

/// A text of MongoDB's with the users' names of indexes; none if it is the same.
pub fn with_users_names(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once(EPOCHS) {
        let ends = |letter: char| !letter.is_ascii_digit() && letter != '.';
        let length = after.find(ends).unwrap_or(after.len());
        let (epochs, next) = after.split_at(length);
        let named = !name.is_empty() && !name.ends_with(char::is_whitespace);
        let ended = !next.starts_with(|next: char| next.is_alphanumeric() || "_-~$".contains(next));
        out.push_str(name);
        // A sentence may end there.
        if named && ended && are_epochs(epochs.trim_end_matches('.')) {
            out.push_str(if epochs.ends_with('.') { "." } else { "" });
        } else {
            out.push(EPOCHS);
            out.push_str(epochs);
        }
        rest = next;
    }
    out.push_str(rest);
    (out != text).then_some(out)
}

fn are_epochs(text: &str) -> bool {
    text.split('.')
        .all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Collection {
    /// Whether an index may be stored under another name than the user's, or beside
    /// one of another epoch.
    pub fn renames_indexes(&self) -> bool {
        self.traits.renames_indexes
    }

    /// Whether any of its fields has tokens.
    pub fn has_tokens(&self) -> bool {
        self.fields.iter().any(|field| field.equality.is_some())
    }

    /// The name under which an index is stored that the user calls `name`. `index` is
    /// the index as MongoDB gets it.
    pub fn stored_name(&self, name: &str, index: Doc<'_>) -> Result<String> {
        let epochs = self.epochs(index)?;
        if epochs.iter().all(|(epoch, _)| *epoch == 1) {
            return Ok(name.to_owned());
        }
        let epochs: Vec<_> = epochs.iter().map(|(epoch, _)| epoch.to_string()).collect();
        Ok(format!("{name}{EPOCHS}{}", epochs.join(".")))
    }

    /// What a client sees of an index as MongoDB has it; none if it has no name.
    pub fn shown<'i>(&self, index: Doc<'i>) -> Result<Option<Shown<'i>>> {
        let Some(stored) = index.find("name")?.and_then(|name| name.str()) else {
            return Ok(None);
        };
        let users = users_name(stored);
        let name = match self.stored_name(users, index)? == stored {
            true => users,
            false => stored,
        };
        let active = self.epochs(index)?.iter().all(|(_, active)| *active);
        Ok(Some(match active {
            true => Shown::As(name),
            false => Shown::Hidden(name),
        }))
    }

    /// The epochs of an index's tokens, and whether each is its field's active one: those
    /// of its keys in their order, then those that only its filter names, by their paths.
    fn epochs(&self, index: Doc<'_>) -> Result<Epochs> {
        let (mut epochs, filtered) = self.epochs_apart(index)?;
        epochs.extend(filtered);
        Ok(epochs)
    }

    /// Whether the keys of an index are the same whatever the epoch of its tokens.
    pub(super) fn differs_by_filter(&self, index: Doc<'_>) -> Result<bool> {
        Ok(!self.epochs_apart(index)?.1.is_empty())
    }

    /// The epochs of the keys, and those of the paths that only the filter names.
    fn epochs_apart(&self, index: Doc<'_>) -> Result<(Epochs, Epochs)> {
        let mut epochs = Vec::new();
        let mut paths = BTreeSet::new();
        if let Some(keys) = index
            .find("key")?
            .filter(|keys| keys.kind == kind::DOCUMENT)
        {
            for key in keys.doc()?.elements() {
                let path = key?.key;
                paths.insert(path);
                epochs.extend(self.epoch(path));
            }
        }
        let mut filtered = BTreeSet::new();
        if let Some(filter) = index.find("partialFilterExpression")? {
            names_in(&filter, &mut filtered, 0)?;
        }
        let only_filtered = filtered.difference(&paths);
        let filtered = only_filtered.filter_map(|path| self.epoch(path));
        Ok((epochs, filtered.collect()))
    }

    /// The epoch of the tokens at a path, and whether it is its field's active one.
    fn epoch(&self, path: &str) -> Option<(u32, bool)> {
        let (field, _, epoch) = self.tokens_at(path)?;
        let active = field.equality.as_ref()?.epoch == epoch;
        Some((epoch, active))
    }

    /// The field whose tokens stand at a path such as `ssn.e1`, its own path, and their epoch.
    pub fn tokens_at<'p>(&self, path: &'p str) -> Option<(&Arc<Field>, &'p str, u32)> {
        let (path, token) = path.rsplit_once('.')?;
        let epoch = token_epoch(token)?;
        let mut at = Tree::ROOT;
        for component in path.split('.') {
            match self.tree.element(at, component) {
                Step::Inner(next) => at = next,
                Step::Sealed(leaf) => {
                    let field = self.field(leaf);
                    return field.equality.is_some().then_some((field, path, epoch));
                }
                Step::Open | Step::Ambiguous | Step::Mixed => return None,
            }
        }
        None
    }
}

/// The names of fields in a filter, at every level.
fn names_in<'f>(filter: &Element<'f>, names: &mut BTreeSet<&'f str>, depth: usize) -> Result<()> {
    if depth > DEEPEST {
        return Err(Malformed("a filter is nested too deep"));
    }
    if matches!(filter.kind, kind::DOCUMENT | kind::ARRAY) {
        for element in filter.doc()?.elements() {
            let element = element?;
            names.insert(element.key);
            names_in(&element, names, depth + 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Document, doc};

    use super::*;
    use crate::keyring::State::{Active, Retired, Staged};
    use crate::policy::{Policy, fixture};

    fn collection(states: &[crate::keyring::State]) -> Arc<Collection> {
        let policy: Policy = fixture::policy_with(fixture::keyring_with_epochs(states));
        policy.collection("shop.customers").unwrap()
    }

    fn bytes(document: &Document) -> Vec<u8> {
        bson::serialize_to_vec(document).unwrap()
    }

    fn stored(index: &Document) -> String {
        let index = bytes(index);
        let index = Doc::whole(&index).unwrap();
        collection(&[Retired, Active])
            .stored_name("mine", index)
            .unwrap()
    }

    #[test]
    fn an_index_has_the_epochs_of_its_tokens_behind_its_name_unless_all_are_the_first() {
        for (index, name) in [
            (doc! {"key": {"name": 1}}, "mine"),
            (doc! {"key": {"ssn.e1": 1, "name": 1}}, "mine"),
            (doc! {"key": {"ssn.e2": 1}}, "mine~2"),
            (
                doc! {"key": {"name": 1, "age.e2": -1, "tags.e1": 1}},
                "mine~2.1",
            ),
            (
                doc! {"key": {"contacts.home.phone.e12": "hashed"}},
                "mine~12",
            ),
            (
                doc! {"key": {"other.e2": 1, "ssn.e02": 1, "visits.note.e2": 1}},
                "mine",
            ),
            (
                doc! {"key": {"name": 1}, "partialFilterExpression": {"$and": [{"tags.e2": {"$exists": true}}, {"age.e3": 1}]}},
                "mine~3.2",
            ),
            (
                doc! {"key": {"ssn.e2": 1}, "partialFilterExpression": {"ssn.e2": {"$exists": true}}},
                "mine~2",
            ),
        ] {
            assert_eq!(stored(&index), name, "{index}");
        }
    }

    #[test]
    fn only_names_that_end_with_numbers_behind_the_sign_are_reserved() {
        for (name, users) in [("a~2", "a"), ("a~2.13", "a"), ("a~1~2", "a~1"), ("~2", "")] {
            assert!(has_reserved_name(name));
            assert_eq!(users_name(name), users);
        }
        for name in ["a", "a~", "a~x", "a~2.", "a~.2", "a~2 ", "a.2", "", "~"] {
            assert!(!has_reserved_name(name), "{name}");
        }
    }

    #[test]
    fn texts_have_the_users_names_of_indexes() {
        for (text, users) in [
            ("index: a_1~2 dup key: ", "index: a_1 dup key: "),
            ("no index [a_1~2.1]", "no index [a_1]"),
            ("It is a~2. Or \"b~13\"", "It is a. Or \"b\""),
        ] {
            assert_eq!(with_users_names(text).as_deref(), Some(users));
        }
        for text in ["a~b", "a~2b", "~2 ~ a ~3", "a~2~x", "a~.2", "", "a~2_1"] {
            assert_eq!(with_users_names(text), None, "{text}");
        }
    }

    #[test]
    fn an_index_is_shown_on_the_tokens_of_the_active_epoch_alone() {
        let (first, second) = (
            collection(&[Active, Staged]),
            collection(&[Retired, Active]),
        );
        let index = |path: &str, name: &str| bytes(&doc! {"v": 2, "key": {path: 1}, "name": name});
        let shown = |collection: &Collection, index: &[u8]| {
            let shown = collection
                .shown(Doc::whole(index).unwrap())
                .unwrap()
                .unwrap();
            (matches!(shown, Shown::As(_)), shown.name().to_owned())
        };
        for (index, name, in_first, in_second) in [
            (index("ssn.e1", "mine"), "mine", true, false),
            (index("ssn.e2", "mine~2"), "mine", false, true),
            // Made on MongoDB itself, under names that are not ours.
            (index("ssn.e2", "mine"), "mine", false, true),
            (index("name", "mine~2"), "mine~2", true, true),
            (index("ssn.e2", "mine~3"), "mine~3", false, true),
        ] {
            assert_eq!(shown(&first, &index), (in_first, name.to_owned()));
            assert_eq!(shown(&second, &index), (in_second, name.to_owned()));
        }
    }
}
