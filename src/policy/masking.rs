//! What is shown in the place of a value to those who may not read it.

use super::mask::{HASH, REDACTED, SHOWN, STARS};
use super::{Field, Policy, PolicyError};
use crate::keyring::NamedKey;
use crate::raw::{Doc, Writer, kind};
use crate::schema::Mask;
use crate::seal::{FieldId, HashKey, SUBTYPE};

/// How the values of one field are shown, in the place of what they are.
#[derive(Debug, Clone, Copy)]
pub struct Masking<'f> {
    mask: Mask,
    hashing: Option<&'f HashKey>,
}

/// The key of a field's hashes. They change when another index epoch becomes active, not
/// when data keys rotate.
pub(super) fn hash_key(key: &NamedKey, id: FieldId) -> Result<HashKey, PolicyError> {
    let epoch = key.active_epoch().and_then(|epoch| epoch.material.as_ref());
    let epoch = epoch.ok_or_else(|| PolicyError::NoActive {
        key: key.name.clone(),
        what: "index epoch",
    })?;
    Ok(HashKey::derive(epoch, &id.0))
}

impl Policy {
    /// How values of a field are shown to who the policy is for; none if as they are.
    ///
    /// `field` is the one where a value stands or, where that is not known, that of its
    /// header; none if no field of that id is known.
    pub fn masking<'f>(&'f self, field: Option<&'f Field>) -> Option<Masking<'f>> {
        if !self.masks_unknown {
            // Then nothing is masked that this policy knows, but a shape may be another's.
            return field.and_then(Field::masking);
        }
        let Some(field) = field else {
            return Some(Masking::REDACT);
        };
        let masking = field.masking();
        masking.or_else(|| self.field(field.id).and_then(|own| own.masking()))
    }
}

impl Field {
    fn masking(&self) -> Option<Masking<'_>> {
        self.access.masked.map(|mask| Masking {
            mask,
            hashing: self.hashing.as_deref(),
        })
    }
}

impl Masking<'_> {
    const REDACT: Self = Self {
        mask: Mask::Redact,
        hashing: None,
    };

    /// Whether the value must be opened for it.
    pub fn needs_value(self) -> bool {
        match self.mask {
            Mask::Last4 | Mask::First1 | Mask::Email | Mask::Hash => true,
            Mask::Redact | Mask::Null | Mask::Ciphertext => false,
        }
    }

    /// Appends the element that stands for a sealed value which was not opened.
    pub fn write_sealed(self, name: &str, payload: &[u8], out: &mut Vec<u8>) {
        match self.mask {
            Mask::Ciphertext => Writer::new(out).binary(name, SUBTYPE, payload),
            _ => self.write(name, kind::NULL, &[], out),
        }
    }

    /// Appends the element that stands for a value which is known.
    pub fn write(self, name: &str, kind: u8, value: &[u8], out: &mut Vec<u8>) {
        match (self.mask, kind, self.hashing) {
            (Mask::Null, ..) => Writer::new(out).null(name),
            (Mask::Hash, _, Some(key)) => {
                let mut digits = [0; 32];
                let hash = hexadecimal(key.hash(kind, value), &mut digits);
                text(name, [HASH.0, hash, ""], out);
            }
            (Mask::Last4 | Mask::First1 | Mask::Email, kind::STRING, _) => {
                text(name, self.of_string(string(value)), out);
            }
            (Mask::Last4 | Mask::First1 | Mask::Email, kind::ARRAY, _) => {
                self.array(name, value, out);
            }
            // What is plain has no ciphertext.
            _ => text(name, [REDACTED, "", ""], out),
        }
    }

    /// An array that is sealed as one value: its strings one by one.
    fn array(self, name: &str, value: &[u8], out: &mut Vec<u8>) {
        let elements = Doc::whole(value).map(|array| array.elements());
        let mut writer = Writer::new(out);
        let open = writer.begin_array(name);
        for element in elements.into_iter().flatten() {
            // It was whole when it was sealed.
            let Ok(element) = element else { break };
            let shown = self.of_string(element.str());
            text(element.key, shown, writer.buffer());
        }
        writer.end(open);
    }

    /// What is shown of a string, in parts; none of what is no string.
    fn of_string(self, string: Option<&str>) -> [&str; 3] {
        let Some(string) = string else {
            return [REDACTED, "", ""];
        };
        match self.mask {
            Mask::Last4 => [STARS, last(string), ""],
            Mask::First1 => [first(string), STARS, ""],
            Mask::Email => match string.rsplit_once('@') {
                Some((local, domain)) => [first(local), "****@", domain],
                None => [STARS, "", ""],
            },
            _ => [REDACTED, "", ""],
        }
    }
}

/// The last characters of a string: never more than are hidden.
fn last(string: &str) -> &str {
    let shown = SHOWN.min(string.chars().count() / 2);
    let from = match shown.checked_sub(1) {
        Some(before) => string.char_indices().rev().nth(before).map(|(at, _)| at),
        None => None,
    };
    from.and_then(|from| string.get(from..)).unwrap_or_default()
}

/// The first character of a string, if another one is hidden.
fn first(string: &str) -> &str {
    let end = string.char_indices().nth(1).map(|(at, _)| at);
    end.and_then(|end| string.get(..end)).unwrap_or_default()
}

/// The text of a BSON string.
fn string(value: &[u8]) -> Option<&str> {
    let end = value.len().checked_sub(1)?;
    std::str::from_utf8(value.get(4..end)?).ok()
}

fn hexadecimal(hash: [u8; 16], digits: &mut [u8; 32]) -> &str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(hash) {
        for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = DIGITS[usize::from(value)];
        }
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

/// Appends a string that consists of these parts.
fn text(name: &str, parts: [&str; 3], out: &mut Vec<u8>) {
    Writer::new(out).name(kind::STRING, name);
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length + 1).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    out.push(0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Bson, Document, bson, doc};

    use super::*;
    use crate::keyring::Material;

    fn key(epoch: u8, field: &[u8; 8]) -> HashKey {
        HashKey::derive(&Material::new([epoch; 32]), field)
    }

    fn shown_with(mask: Mask, key: &HashKey, value: impl Into<Bson>) -> Bson {
        let bytes = bson::serialize_to_vec(&doc! {"v": value.into()}).unwrap();
        let element = Doc::whole(&bytes).unwrap().first().unwrap().unwrap();
        let masking = Masking {
            mask,
            hashing: Some(key),
        };
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        let open = writer.begin();
        masking.write("v", element.kind, element.value(), writer.buffer());
        writer.end(open);
        let shown: Document = bson::deserialize_from_slice(&out).unwrap();
        shown.get("v").unwrap().clone()
    }

    fn shown(mask: Mask, value: impl Into<Bson>) -> Bson {
        shown_with(mask, &key(1, b"fieldfie"), value)
    }

    #[test]
    fn of_a_string_no_more_is_shown_than_is_hidden() {
        for (value, last4, first1) in [
            ("", "****", "****"),
            ("a", "****", "****"),
            ("ab", "****b", "a****"),
            ("abc", "****c", "a****"),
            ("1234567", "****567", "1****"),
            ("4929 1234 5678 9012", "****9012", "4****"),
            ("жизнь", "****нь", "ж****"),
            ("日本", "****本", "日****"),
        ] {
            assert_eq!(shown(Mask::Last4, value), last4.into(), "{value}");
            assert_eq!(shown(Mask::First1, value), first1.into(), "{value}");
        }
    }

    #[test]
    fn of_an_address_the_first_character_and_the_domain_are_shown() {
        for (value, expected) in [
            ("ada@example.com", "a****@example.com"),
            ("a@example.com", "****@example.com"),
            ("@example.com", "****@example.com"),
            ("\"a@b\"@example.com", "\"****@example.com"),
            ("éa@é.fr", "é****@é.fr"),
            ("ada", "****"),
            ("", "****"),
        ] {
            assert_eq!(shown(Mask::Email, value), expected.into(), "{value}");
        }
    }

    #[test]
    fn whatever_a_mask_shows_is_known_again_when_it_comes_back() {
        let strings = [
            "",
            "a",
            "ab",
            "4929 1234",
            "a@b.c",
            "ada@example.com",
            "@",
            "日本@é.fr",
        ];
        let values =
            strings
                .map(Bson::from)
                .into_iter()
                .chain([bson!(5), bson!({"a": 1}), bson!(["a", 5])]);
        for value in values {
            for mask in Mask::WORDS.map(|word| Mask::named(word).unwrap()) {
                let back = bson::serialize_to_vec(&doc! {"v": shown(mask, value.clone())}).unwrap();
                let back = Doc::whole(&back).unwrap().first().unwrap().unwrap();
                assert!(
                    mask.could_have_made(back.kind, back.value()),
                    "{mask:?}: {value}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_string_is_shown_by_no_part() {
        let parts = [Mask::Last4, Mask::First1, Mask::Email];
        for mask in parts.into_iter().chain([Mask::Redact, Mask::Ciphertext]) {
            for value in [bson!(5), bson!(2.5), bson!({"a": "secret"}), bson!(true)] {
                assert_eq!(shown(mask, value), REDACTED.into(), "{mask:?}");
            }
        }
        let array = bson!(["a@b.c", "secret", 5, ["secret"], {"x": "secret"}, null]);
        assert_eq!(
            shown(Mask::First1, array.clone()),
            bson!(["a****", "s****", REDACTED, REDACTED, REDACTED, REDACTED])
        );
        assert_eq!(shown(Mask::Redact, array.clone()), REDACTED.into());
        assert_eq!(shown(Mask::Null, array), Bson::Null);
        assert_eq!(shown(Mask::Null, "secret"), Bson::Null);
    }

    #[test]
    fn a_hash_is_the_same_for_equal_values_of_one_field_and_epoch_alone() {
        let hash = |value: Bson| shown(Mask::Hash, value);
        let one = hash("secret".into());
        let text = one.as_str().unwrap();
        let digits = text.strip_prefix(HASH.0).unwrap();
        assert_eq!(digits.len(), 32);
        assert!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_eq!(one, hash("secret".into()));
        assert_ne!(one, hash("Secret".into()));
        assert_eq!(hash(5.into()), hash(5.0.into()));
        assert_eq!(hash(bson!(["a"])), hash(bson!(["a"])));
        assert_ne!(hash(bson!(["a"])), hash(bson!({"0": "a"})));
        for key in [key(2, b"fieldfie"), key(1, b"another.")] {
            assert_ne!(one, shown_with(Mask::Hash, &key, "secret"));
        }
        let tokens = crate::seal::TokenKey::derive(
            &Material::new([1; 32]),
            crate::seal::Domain::Field(b"fieldfie"),
        );
        let token = tokens
            .equality(kind::STRING, b"\x07\0\0\0secret\0")
            .unwrap();
        let mut room = [0; 32];
        assert_ne!(digits, hexadecimal(token, &mut room));
    }
}
