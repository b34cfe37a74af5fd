//! Equality tokens: what MongoDB compares and indexes in place of a value.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::canonical::{Canonical, canonical};
use crate::keyring::Material;

/// 16 bytes that are the same for equal values of one domain, and only for them.
pub type Token = [u8; 16];

/// The key of a domain's equality tokens in one index epoch.
#[derive(Clone)]
pub struct TokenKey {
    /// HMAC with the key absorbed; cloned for each token.
    keyed: Hmac<Sha256>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

/// The name of an equality token of `epoch` in a sealed document: `e1`, `e2`…
pub fn token_name(epoch: u32) -> String {
    format!("e{epoch}")
}

/// The epoch of an equality token of this name: 1 for `e1`.
pub fn token_epoch(name: &str) -> Option<u32> {
    let epoch = name.strip_prefix('e')?.parse().ok()?;
    (token_name(epoch) == name).then_some(epoch)
}

impl TokenKey {
    /// Derives the token key of a domain from the material of an index epoch.
    ///
    /// `domain` is the schema's domain or, without one, the field id; the two
    /// are told apart by the byte before them.
    pub fn derive(epoch: &Material, domain: Domain<'_>) -> Self {
        let (tag, bytes): (&[u8], &[u8]) = match domain {
            Domain::Named(name) => (b"\x01", name.as_bytes()),
            Domain::Field(id) => (b"\x00", id),
        };
        let key = epoch.derive(&[b"fieldseal/v1/equality", tag, bytes]);
        Self {
            keyed: Hmac::new_from_slice(key.expose()).expect("HMAC takes keys of any length"),
        }
    }

    /// The token of a BSON value; none for types that cannot be compared by a token.
    pub fn equality(&self, kind: u8, value: &[u8]) -> Option<Token> {
        let mut mac = self.keyed.clone();
        absorb(&mut mac, kind, value)?;
        mac.finalize().into_bytes().first_chunk().copied()
    }
}

/// Adds the canonical form of a value; none for types that have none.
fn absorb(mac: &mut Hmac<Sha256>, kind: u8, value: &[u8]) -> Option<()> {
    match canonical(kind, value)? {
        Canonical::Bytes { class, bytes } => {
            mac.update(&[class]);
            mac.update(bytes);
        }
        Canonical::Binary { subtype, bytes } => {
            mac.update(&[b'x', subtype]);
            mac.update(bytes);
        }
        Canonical::Number(number) => {
            let mut form = [0; 26];
            let length = number.encode(&mut form);
            mac.update(b"n");
            mac.update(form.get(..length)?);
        }
    }
    Some(())
}

/// The key of the hashes that are shown instead of one field's values.
///
/// Nothing that MongoDB stores is made with it, so that what is shown tells nothing of tokens.
#[derive(Clone)]
pub struct HashKey {
    keyed: Hmac<Sha256>,
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl HashKey {
    /// Derives the key of a field from the material of an index epoch.
    pub fn derive(epoch: &Material, field: &[u8; 8]) -> Self {
        let key = epoch.derive(&[b"fieldseal/v1/mask", field]);
        Self {
            keyed: Hmac::new_from_slice(key.expose()).expect("HMAC takes keys of any length"),
        }
    }

    /// 16 bytes that are the same for equal values of the field.
    pub fn hash(&self, kind: u8, value: &[u8]) -> [u8; 16] {
        let mut mac = self.keyed.clone();
        if absorb(&mut mac, kind, value).is_none() {
            mac = self.keyed.clone();
            // No canonical form begins with it.
            mac.update(&[b'v', kind]);
            mac.update(value);
        }
        let whole = mac.finalize().into_bytes();
        whole.first_chunk().copied().unwrap_or_default()
    }
}

/// What token keys are shared by.
#[derive(Debug, Clone, Copy)]
pub enum Domain<'a> {
    /// The fields that name this domain.
    Named(&'a str),
    /// One field alone, by its id.
    Field(&'a [u8; 8]),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(key: &TokenKey, value: impl Into<bson::Bson>) -> Option<Token> {
        let bytes = bson::serialize_to_vec(&bson::doc! {"v": value.into()}).unwrap();
        let element = crate::raw::Doc::whole(&bytes)
            .unwrap()
            .first()
            .unwrap()
            .unwrap();
        key.equality(element.kind, element.value())
    }

    #[test]
    fn equal_values_have_equal_tokens_across_number_types_only() {
        let key = TokenKey::derive(&Material::new([3; 32]), Domain::Named("phone"));
        assert_eq!(token(&key, 5_i32), token(&key, 5.0));
        assert_ne!(token(&key, 5_i32), token(&key, "5"));
        assert_ne!(token(&key, 1_i32), token(&key, true));
        assert_ne!(token(&key, "a"), token(&key, "a\0"));
        assert_eq!(token(&key, bson::doc! {}), None);
        assert_eq!(token(&key, bson::Bson::Null), None);
    }

    #[test]
    fn the_name_of_a_token_tells_its_epoch() {
        for epoch in [0, 1, 12, u32::MAX] {
            assert_eq!(token_epoch(&token_name(epoch)), Some(epoch));
        }
        for name in ["e", "e+1", "e01", "1", "r1", "e1 ", "e4294967296"] {
            assert_eq!(token_epoch(name), None, "{name}");
        }
    }

    #[test]
    fn domains_and_epochs_have_tokens_of_their_own() {
        let one = TokenKey::derive(&Material::new([3; 32]), Domain::Named("phone"));
        let other = TokenKey::derive(&Material::new([3; 32]), Domain::Named("email"));
        let later = TokenKey::derive(&Material::new([4; 32]), Domain::Named("phone"));
        let field = TokenKey::derive(&Material::new([3; 32]), Domain::Field(b"phonexxx"));
        let named = TokenKey::derive(&Material::new([3; 32]), Domain::Named("phonexxx"));
        assert_ne!(token(&one, "a"), token(&other, "a"));
        assert_ne!(token(&one, "a"), token(&later, "a"));
        assert_ne!(token(&field, "a"), token(&named, "a"));
    }
}
