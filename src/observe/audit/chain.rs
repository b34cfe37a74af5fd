//! MACs in a chain, under a key that is forgotten with every line.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{hex, unhex};
use crate::keyring::Material;

/// Bytes of the salt of a segment.
pub(super) const SALT_BYTES: usize = 32;

/// What a line's MAC is over, before the MAC of the line before it.
const LINE: &[u8] = b"fieldseal/v1/audit/line\0";

/// What makes the next line's key.
const NEXT: &[u8] = b"fieldseal/v1/audit/next\0";

/// The MAC of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineMac(pub(super) [u8; 32]);

impl LineMac {
    /// What stands for the MAC before the first line of all.
    pub(super) const NONE: Self = Self([0; 32]);

    /// From 64 digits in lower case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }
}

impl fmt::Display for LineMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// How far a chain has come: the last line's number and MAC. Whoever notes it elsewhere can
/// tell later whether lines up to it are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the line.
    pub seq: u64,
    /// Its MAC.
    pub mac: LineMac,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.mac)
    }
}

/// Some other text than a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be SEQ:MAC, as the proxy's log has it after `head=`")]
pub struct NotAHead;

impl FromStr for Head {
    type Err = NotAHead;

    fn from_str(text: &str) -> Result<Self, NotAHead> {
        let (seq, mac) = text.split_once(':').ok_or(NotAHead)?;
        let seq = seq.parse().map_err(|_| NotAHead)?;
        let mac = LineMac::parse(mac).ok_or(NotAHead)?;
        Ok(Self { seq, mac })
    }
}

/// The state of a segment's chain between two lines.
#[derive(Clone)]
pub(super) struct Chain {
    key: Material,
    previous: LineMac,
}

impl Chain {
    /// Begins a segment that goes on from `previous`.
    pub(super) fn begin(material: &Material, salt: &[u8; SALT_BYTES], previous: LineMac) -> Self {
        Self {
            key: material.derive(&[b"fieldseal/v1/audit", salt]),
            previous,
        }
    }

    /// The MAC of the next line. The key that made it is gone after it.
    pub(super) fn next(&mut self, line: &[u8]) -> LineMac {
        let mac = LineMac(hmac(&self.key, &[LINE, &self.previous.0, line]));
        self.pass_over();
        self.previous = mac;
        mac
    }

    /// Goes on to the key of the line after a line that is missing.
    pub(super) fn pass_over(&mut self) {
        let next = Zeroizing::new(hmac(&self.key, &[NEXT]));
        self.key = Material::new(*next);
    }

    /// Goes on as if the line before had this MAC.
    pub(super) fn take_for_previous(&mut self, mac: LineMac) {
        self.previous = mac;
    }
}

fn hmac(key: &Material, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn chain(previous: LineMac) -> Chain {
        Chain::begin(&Material::new([7; 32]), &[9; 32], previous)
    }

    #[test]
    fn macs_are_those_of_another_implementation() {
        // Python's hmac and hashlib; HKDF by RFC 5869.
        let mut chain = chain(LineMac::NONE);
        assert_eq!(
            [chain.next(b"{\"seq\":1"), chain.next(b"{\"seq\":2")].map(|mac| mac.to_string()),
            [
                "be6b675aaaca6d8a795f55e878631877954244039f5b9af6f278d9395ce98c17",
                "b026074d5a5f832c7bde9ba07a81cb59adfd84489934d22cee2332565bf0b86e"
            ]
        );
    }

    #[test]
    fn a_mac_depends_on_the_line_the_one_before_and_the_place() {
        let first = chain(LineMac::NONE).next(b"a");
        assert_ne!(first, chain(LineMac::NONE).next(b"b"));
        assert_ne!(first, chain(LineMac([1; 32])).next(b"a"));
        let mut later = chain(LineMac::NONE);
        later.pass_over();
        assert_ne!(first, later.next(b"a"));
        let other = Chain::begin(&Material::new([7; 32]), &[8; 32], LineMac::NONE).next(b"a");
        assert_ne!(first, other);
    }

    #[test]
    fn a_head_is_read_as_it_is_written() {
        let head = Head {
            seq: 12,
            mac: chain(LineMac::NONE).next(b"a"),
        };
        assert_eq!(head.to_string().parse(), Ok(head));
        for other in ["", "12", "12:", ":", "x:00", "12:00", "12:zz", "-1:00"] {
            assert_eq!(other.parse::<Head>(), Err(NotAHead), "{other}");
        }
    }
}
