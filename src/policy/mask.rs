//! Telling a masked value that comes back from one that was meant.

use crate::raw::{Doc, kind};
use crate::schema::Mask;

/// What stands for a value of which nothing is shown.
pub(super) const REDACTED: &str = "[redacted]";
/// What stands for a part that is not shown.
pub(super) const STARS: &str = "****";
/// How many characters [`Mask::Last4`] shows at most.
pub(super) const SHOWN: usize = 4;
/// What a keyed hash begins with, and how many hexadecimal digits follow.
pub(super) const HASH: (&str, usize) = ("masked:", 32);
/// How deep in arrays values are looked at; deeper ones are taken for masked.
const DEEPEST: usize = 200;

impl Mask {
    /// Whether a value, or one in it if it is an array, is one that the mask may show. Who
    /// may write a field without reading it may have it from there, so it is not stored
    /// over the real one.
    ///
    /// What [`Mask::Ciphertext`] shows is refused wherever it stands, as nobody seals
    /// values but the proxy.
    pub fn could_have_made(self, kind: u8, value: &[u8]) -> bool {
        self.made(kind, value, 0)
    }

    fn made(self, kind: u8, value: &[u8], depth: usize) -> bool {
        match kind {
            kind::NULL | kind::UNDEFINED => self == Self::Null,
            kind::STRING | kind::SYMBOL => text(value).is_some_and(|text| self.shows(text)),
            kind::ARRAY => depth > DEEPEST || self.made_an_item(value, depth),
            _ => false,
        }
    }

    /// What is malformed is refused by who seals it.
    fn made_an_item(self, array: &[u8], depth: usize) -> bool {
        let Ok(array) = Doc::whole(array) else {
            return false;
        };
        let mut items = array.elements().map_while(Result::ok);
        items.any(|item| self.made(item.kind, item.value(), depth + 1))
    }

    fn shows(self, text: &str) -> bool {
        let at_most = |text: &str, most: usize| text.chars().nth(most).is_none();
        let part = match self {
            Self::Redact | Self::Ciphertext => false,
            Self::Null => return false,
            Self::Last4 => text
                .strip_prefix(STARS)
                .is_some_and(|shown| at_most(shown, SHOWN)),
            Self::First1 => text
                .strip_suffix(STARS)
                .is_some_and(|shown| at_most(shown, 1)),
            Self::Email => {
                let domain = |text: &str| {
                    let domain = text.strip_prefix(STARS);
                    domain.is_some_and(|domain| domain.is_empty() || domain.starts_with('@'))
                };
                let mut rest = text.chars();
                rest.next();
                domain(text) || domain(rest.as_str())
            }
            Self::Hash => {
                let (prefix, digits) = HASH;
                text.strip_prefix(prefix).is_some_and(|hash| {
                    hash.len() == digits && hash.bytes().all(|digit| digit.is_ascii_hexdigit())
                })
            }
        };
        part || text == REDACTED
    }
}

/// The text of a string's value: its length, its bytes and a zero.
fn text(value: &[u8]) -> Option<&str> {
    let text = value.get(4..)?.strip_suffix(&[0])?;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Bson, doc};

    use super::*;

    fn could(mask: Mask, value: impl Into<Bson>) -> bool {
        let bytes = bson::serialize_to_vec(&doc! {"v": value.into()}).unwrap();
        let element = Doc::whole(&bytes).unwrap().first().unwrap().unwrap();
        mask.could_have_made(element.kind, element.value())
    }

    #[test]
    fn what_a_mask_shows_is_told_from_other_values() {
        let shown = [
            (Mask::Redact, "[redacted]"),
            (Mask::Last4, "****"),
            (Mask::Last4, "****4711"),
            (Mask::Last4, "****\u{e4}\u{f6}\u{fc}\u{df}"),
            (Mask::Last4, "[redacted]"),
            (Mask::First1, "a****"),
            (Mask::First1, "\u{e4}****"),
            (Mask::First1, "****"),
            (Mask::Email, "a****@example.com"),
            (Mask::Email, "****@example.com"),
            (Mask::Email, "****"),
            (Mask::Email, "*****@example.com"),
            (Mask::Hash, "masked:0123456789abcdef0123456789abcdef"),
        ];
        for (mask, value) in shown {
            assert!(could(mask, value), "{mask:?}: {value}");
        }
        let meant = [
            (Mask::Redact, "redacted"),
            (Mask::Redact, "****4711"),
            (Mask::Last4, "4711"),
            (Mask::Last4, "****47110"),
            (Mask::First1, "ab****"),
            (Mask::Email, "a@example.com"),
            (Mask::Email, "ab****@example.com"),
            (Mask::Email, "a****example.com"),
            (Mask::Hash, "masked:0123"),
            (Mask::Null, "[redacted]"),
        ];
        for (mask, value) in meant {
            assert!(!could(mask, value), "{mask:?}: {value}");
        }
    }

    #[test]
    fn null_is_what_the_mask_null_shows_and_no_other() {
        assert!(could(Mask::Null, Bson::Null));
        assert!(!could(Mask::Redact, Bson::Null));
        assert!(!could(Mask::Null, 4711));
    }

    #[test]
    fn a_masked_item_is_found_in_arrays() {
        let nested = Bson::Array(vec!["****4711".into()]);
        assert!(could(Mask::Last4, vec!["x", "****4711"]));
        assert!(could(Mask::Last4, vec![nested]));
        assert!(!could(Mask::Last4, vec!["x", "y"]));
        assert!(!could(Mask::Last4, doc! {"a": "****4711"}));
    }
}
