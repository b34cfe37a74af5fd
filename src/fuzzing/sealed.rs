//! Sealed values: any bytes, and what comes back of those that were sealed.

use super::choices::Choices;
use crate::keyring::{KeyId, Material, Suite};
use crate::seal::{FieldId, Header, SealKey};

/// Any bytes are refused without a trace, and what was sealed comes back whole or not at all.
pub(super) fn sealed_value(bytes: &[u8]) {
    let field = FieldId::of("shop.customers", "ssn");
    let keys = [Suite::Aes256Gcm, Suite::Xaes256Gcm]
        .map(|suite| SealKey::derive(KeyId(7), &Material::new([1; 32]), field).sealing_with(suite));
    for key in &keys {
        let mut out = vec![9];
        assert!(key.open(bytes, &mut out).is_err(), "a forged value opened");
        assert_eq!(out, [9], "an error leaves nothing behind");
    }
    let mut choices = Choices::of(bytes);
    let key = &keys[choices.below(2)];
    let (kind, at, change) = (choices.byte(), choices.byte(), choices.byte());
    let value = choices.rest();
    let mut sealed = Vec::new();
    key.seal(kind, value, &mut sealed);
    assert_eq!(sealed.len(), key.sealed_length(value.len()));
    let header = Header::read(&sealed).expect("a sealed value has a header");
    assert_eq!(
        (header.suite, header.key, header.field),
        (key.suite().byte(), KeyId(7), field)
    );
    let mut opened = Vec::new();
    key.open(&sealed, &mut opened).expect("it was just sealed");
    assert_eq!(opened.split_first(), Some((&kind, value)));
    let at = usize::from(at) * sealed.len() / 256;
    sealed[at] ^= change;
    if change != 0 {
        opened.clear();
        assert!(
            key.open(&sealed, &mut opened).is_err(),
            "byte {at} was changed"
        );
        assert!(opened.is_empty());
    }
}
