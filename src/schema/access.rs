//! Who may read and write a field, and what others see of it.

use super::Types;
use crate::document::{Place, Reader, Table};
use crate::keyring;

/// What those see of a field who may read its document but not the field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mask {
    /// `"[redacted]"`, whatever the value.
    #[default]
    Redact,
    /// A string's last four characters, behind `****`.
    Last4,
    /// A string's first character, before `****`.
    First1,
    /// The first character and the domain of an e-mail address.
    Email,
    /// A keyed hash: the same for the same value of the same field.
    Hash,
    /// Null.
    Null,
    /// The sealed value as it is stored.
    Ciphertext,
}

impl Mask {
    /// The words for them in the schema file.
    pub const WORDS: [&str; 7] = [
        "redact",
        "last4",
        "first1",
        "email",
        "hash",
        "null",
        "ciphertext",
    ];

    /// The mask of this word.
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "redact" => Self::Redact,
            "last4" => Self::Last4,
            "first1" => Self::First1,
            "email" => Self::Email,
            "hash" => Self::Hash,
            "null" => Self::Null,
            "ciphertext" => Self::Ciphertext,
            _ => return None,
        })
    }

    /// The word for it in the schema file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Redact => "redact",
            Self::Last4 => "last4",
            Self::First1 => "first1",
            Self::Email => "email",
            Self::Hash => "hash",
            Self::Null => "null",
            Self::Ciphertext => "ciphertext",
        }
    }

    /// Whether it shows a part of a string, so that the field must hold strings.
    pub fn shows_a_part(self) -> bool {
        matches!(self, Self::Last4 | Self::First1 | Self::Email)
    }
}

/// Who may read and write a field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessRule {
    /// The roles that may read it; none means everyone.
    pub read: Option<Vec<String>>,
    /// The roles that may write it; none means those that may read it.
    pub write: Option<Vec<String>>,
    /// What the others see.
    pub mask: Mask,
    /// Whether reads of it are noted in the audit log.
    pub audit: bool,
}

impl AccessRule {
    /// Whether those who may not read it see a keyed hash.
    pub fn hashes(&self) -> bool {
        self.read.is_some() && self.mask == Mask::Hash
    }

    /// The names of all roles in it.
    pub fn role_names(&self) -> impl Iterator<Item = &str> {
        let lists = self.read.iter().chain(&self.write);
        lists.flatten().map(String::as_str)
    }
}

/// Reads the options of a field that say who may do what.
pub(super) fn read_access(
    reader: &mut Reader,
    place: &Place,
    table: Table<'_>,
    types: Types,
) -> AccessRule {
    let mut roles = |key: &str| {
        let (at, node) = table.entry(place, key)?;
        let nodes = reader.list(&at, node);
        let mut names = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let at = at.element(index, node);
            let Some(name) = reader.name(&at, node) else {
                continue;
            };
            if let Some(what) = keyring::name_mistake(name) {
                reader.mistake(&at, what);
            }
            names.push(name.to_owned());
        }
        Some(names)
    };
    let (read, write) = (roles("read"), roles("write"));
    let mask = table.entry(place, "mask").and_then(|(at, node)| {
        let mask = Mask::named(reader.word(&at, node, &Mask::WORDS)?)?;
        if read.is_none() {
            reader.mistake(&at, "needs `read`, the roles that see the value itself");
        }
        let string = Types::named("string").unwrap_or(Types::NONE);
        if mask.shows_a_part() && !types.within(string) {
            let what = format_args!("{:?} is for fields with `type = \"string\"`", mask.word());
            reader.mistake(&at, what);
        }
        Some(mask)
    });
    let audit = table
        .entry(place, "audit")
        .and_then(|(at, node)| reader.boolean(&at, node));
    AccessRule {
        read,
        write,
        mask: mask.unwrap_or_default(),
        audit: audit.unwrap_or(false),
    }
}
