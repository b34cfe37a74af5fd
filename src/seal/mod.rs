//! Sealed values and tokens: pure functions, no I/O.
//!
//! A sealed value is the payload of a BSON Binary of subtype [`SUBTYPE`]:
//!
//! ```text
//! magic 3 | suite 1 | key id 4 | field id 8 | nonce | ciphertext | tag 16
//! ```
//!
//! The nonce has 12 bytes in suite 1 and 24 in suite 2. Integers are big-endian. The header, magic to nonce, is the associated data;
//! the plaintext is the BSON type byte and the BSON value.

mod canonical;
mod short;
mod token;
mod value;
mod xaes;

pub use token::{Domain, HashKey, Token, TokenKey, token_epoch, token_name};
pub use value::{FieldId, Header, MAGIC, NEEDLE, OpenError, SUBTYPE, SealKey, TAG, find_sealed};
