//! A distinguished name as text (RFC 4514).

use std::fmt::Write as _;

use super::certificate::Der;

const SET: u8 = 0x31;
const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0C;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;
const BMP: u8 = 0x1E;

/// The names of attributes in RFC 4514, section 3, and the one that MongoDB has beside them.
const SHORT: [(&[u8], &str); 10] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x19],
        "DC",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x01],
        "UID",
    ),
    (
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x01],
        "emailAddress",
    ),
];

/// The content of a `Name`, its last part first.
pub(super) fn rfc4514(name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut rest = Der(name);
    while !rest.is_empty() {
        let mut set = Der(rest.take(SET)?);
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let mut attribute = Der(set.take(SEQUENCE)?);
            let oid = attribute.take(OID)?;
            let (kind, value) = attribute.next()?;
            if !attribute.is_empty() {
                return None;
            }
            attributes.push(format!("{}={}", attribute_name(oid)?, text(kind, value)?));
        }
        if attributes.is_empty() {
            return None;
        }
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute_name(oid: &[u8]) -> Option<String> {
    match SHORT.iter().find(|(known, _)| *known == oid) {
        Some((_, name)) => Some((*name).to_owned()),
        None => dotted(oid),
    }
}

/// An object identifier in numbers.
fn dotted(oid: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut number: u64 = 0;
    let mut first = true;
    let mut open = true;
    for byte in oid {
        number = number.checked_mul(128)? + u64::from(byte & 0x7F);
        open = byte & 0x80 != 0;
        if open {
            continue;
        }
        // Writing to a String does not fail.
        let _ = if std::mem::take(&mut first) {
            let root = (number / 40).min(2);
            write!(text, "{root}.{}", number - root * 40)
        } else {
            write!(text, ".{number}")
        };
        number = 0;
    }
    (!open).then_some(text)
}

/// A value that is text, escaped; another one in hexadecimal.
fn text(kind: u8, value: &[u8]) -> Option<String> {
    let text = match kind {
        UTF8 => std::str::from_utf8(value).ok()?.to_owned(),
        PRINTABLE | IA5 if value.is_ascii() => std::str::from_utf8(value).ok()?.to_owned(),
        BMP => {
            let (pairs, rest) = value.as_chunks::<2>();
            let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
            let text: Result<String, _> = char::decode_utf16(units).collect();
            text.ok().filter(|_| rest.is_empty())?
        }
        _ => {
            let mut hexadecimal = format!("#{kind:02x}");
            // The length as DER has it, for those that occur.
            let _ = write!(hexadecimal, "{:02x}", u8::try_from(value.len()).ok()?);
            for byte in value {
                let _ = write!(hexadecimal, "{byte:02x}");
            }
            return Some(hexadecimal);
        }
    };
    Some(escaped(&text))
}

/// RFC 4514, section 2.4; control characters in hexadecimal too, so that no log line is broken.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    let last = text.len().saturating_sub(1);
    for (position, character) in text.char_indices() {
        let special = matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || (position == 0 && matches!(character, ' ' | '#'))
            || (position == last && character == ' ');
        if character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                let _ = write!(escaped, "\\{byte:02x}");
            }
        } else {
            if special {
                escaped.push('\\');
            }
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_that_has_no_short_name_is_written_in_numbers() {
        assert_eq!(
            dotted(&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D]).as_deref(),
            Some("1.2.840.113549")
        );
        assert_eq!(dotted(&[0x88, 0x37, 0x03]).as_deref(), Some("2.999.3"));
        // An identifier that ends within a number.
        assert_eq!(dotted(&[0x2A, 0x86]), None);
        assert_eq!(dotted(&[]), None);
    }

    #[test]
    fn what_would_read_as_another_name_is_escaped() {
        for (text, written) in [
            ("a,CN=root", "a\\,CN=root"),
            (" a ", "\\ a\\ "),
            ("a\nb\0", "a\\0ab\\00"),
            ("", ""),
        ] {
            assert_eq!(escaped(text), written);
        }
        assert_eq!(text(0x14, b"ab").as_deref(), Some("#14026162"));
        assert_eq!(
            text(BMP, &[0, b'a', 0x01, 0x7D]).as_deref(),
            Some("a\u{17d}")
        );
        assert_eq!(text(BMP, &[0]), None);
        assert_eq!(text(UTF8, &[0xFF]), None);
    }
}
