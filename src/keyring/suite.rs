//! The cipher suites of sealed values.

use serde::{Deserialize, Serialize};

/// What a sealed value is sealed with.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum Suite {
    /// AES-256-GCM under a random 12-byte nonce: 2^32 values for one field and key version.
    #[default]
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    /// XAES-256-GCM (C2SP) under a random 24-byte nonce: 2^80 values.
    #[serde(rename = "xaes-256-gcm")]
    Xaes256Gcm,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 2] = [Self::Aes256Gcm, Self::Xaes256Gcm];

    /// Every suite's word.
    pub const WORDS: [&'static str; 2] = [Self::Aes256Gcm.word(), Self::Xaes256Gcm.word()];

    /// The word for it, as the schema and the key file have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Xaes256Gcm => "xaes-256-gcm",
        }
    }

    /// The suite that `word` names.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.word() == word)
    }

    /// The byte for it in sealed values.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::Xaes256Gcm => 2,
        }
    }

    /// How many values it should seal for one field under one key version, if that can be reached:
    /// then two of them have the same nonce with a chance of 2^-33.
    pub const fn most_seals(self) -> Option<u64> {
        match self {
            Self::Aes256Gcm => Some(1 << 32),
            Self::Xaes256Gcm => None,
        }
    }

    /// The suite that the byte of a sealed value stands for.
    pub fn of_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.byte() == byte)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_suite_has_one_word_everywhere() {
        for word in Suite::WORDS {
            let suite = Suite::named(word).unwrap();
            assert_eq!(suite.word(), word);
            assert_eq!(serde_json::to_value(suite).unwrap(), word);
            assert_eq!(serde_json::from_value::<Suite>(word.into()).unwrap(), suite);
        }
        assert_eq!(Suite::named("aes-128-gcm"), None);
    }

    #[test]
    fn a_suite_has_one_byte_and_other_bytes_have_none() {
        let known: Vec<_> = (0..=u8::MAX).filter_map(Suite::of_byte).collect();
        assert_eq!(known, Suite::ALL);
        assert_eq!(Suite::ALL.map(Suite::byte), [1, 2]);
    }
}
