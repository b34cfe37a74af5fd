//! Values as MongoDB writes them into the text of an error.

use std::fmt::Write as _;

use super::names::{HIDDEN, is_sealed_value};
use crate::raw::{Element, Malformed, kind};

/// Strings of more bytes than this are cut.
const LONGEST: usize = 160;
/// Deeper than this nothing is written out.
const DEEPEST: usize = 150;

/// Appends a value; what is sealed in it is hidden.
pub(super) fn value(
    out: &mut String,
    element: &Element<'_>,
    depth: usize,
) -> Result<(), Malformed> {
    if is_sealed_value(element) {
        out.push_str(HIDDEN);
        return Ok(());
    }
    // Writing to a string does not fail.
    let _ = match element.kind {
        kind::DOUBLE => return double(out, element),
        kind::STRING => return string(out, element),
        kind::DOCUMENT | kind::ARRAY => return nested(out, element, depth),
        kind::BINARY => binary(out, element),
        kind::UNDEFINED => out.write_str("undefined"),
        kind::OBJECT_ID => {
            out.push_str("ObjectId('");
            hex(out, element.value(), false);
            out.write_str("')")
        }
        kind::BOOL => write!(out, "{}", element.truthy()),
        kind::DATE => write!(out, "new Date({})", int64(element)),
        kind::NULL => out.write_str("null"),
        kind::REGEX => return regex(out, element),
        kind::TIMESTAMP => {
            let number = int64(element).cast_unsigned();
            write!(out, "Timestamp({}, {})", number >> 32, number & 0xFFFF_FFFF)
        }
        kind::INT32 | kind::INT64 => write!(out, "{}", element.integer().unwrap_or_default()),
        kind::DECIMAL128 => return decimal(out, element),
        kind::MIN_KEY => out.write_str("MinKey"),
        kind::MAX_KEY => out.write_str("MaxKey"),
        // Code, symbols and pointers, which nobody has in a unique index.
        _ => out.write_str("..."),
    };
    Ok(())
}

fn int64(element: &Element<'_>) -> i64 {
    element
        .value()
        .first_chunk::<8>()
        .map_or(0, |bytes| i64::from_le_bytes(*bytes))
}

/// `%.16g`, and `.0` behind what has no point.
fn double(out: &mut String, element: &Element<'_>) -> Result<(), Malformed> {
    const DIGITS: i32 = 16;
    let bytes = element.value().first_chunk::<8>();
    let number = f64::from_le_bytes(*bytes.ok_or(Malformed("a number is cut off"))?);
    let start = out.len();
    if number.is_finite() {
        let scientific = format!("{number:.15e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        let cut = |text: &str| match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text.to_owned(),
        };
        if (-4..DIGITS).contains(&exponent) {
            let places = usize::try_from(DIGITS - 1 - exponent).unwrap_or_default();
            out.push_str(&cut(&format!("{number:.places$}")));
        } else {
            let sign = if exponent < 0 { '-' } else { '+' };
            let _ = write!(out, "{}e{sign}{:02}", cut(digits), exponent.abs());
        }
    } else {
        out.push_str(match number {
            number if number.is_nan() => "nan",
            number if number < 0.0 => "-inf",
            _ => "inf",
        });
    }
    if !out.get(start..).is_some_and(|text| text.contains('.')) {
        out.push_str(".0");
    }
    Ok(())
}

fn string(out: &mut String, element: &Element<'_>) -> Result<(), Malformed> {
    const KEPT: usize = 150;
    let text = element.str().ok_or(Malformed("a string is not UTF-8"))?;
    out.push('"');
    // MongoDB counts the zero at the end.
    if text.len() + 1 > LONGEST {
        let end = (0..=KEPT).rev().find(|end| text.is_char_boundary(*end));
        out.push_str(text.get(..end.unwrap_or_default()).unwrap_or_default());
        out.push_str("...");
    } else {
        out.push_str(text);
    }
    out.push('"');
    Ok(())
}

fn nested(out: &mut String, element: &Element<'_>, depth: usize) -> Result<(), Malformed> {
    if depth > DEEPEST {
        out.push_str("...");
        return Ok(());
    }
    let doc = element.doc()?;
    let array = element.kind == kind::ARRAY;
    let (begin, end) = if array { ('[', ']') } else { ('{', '}') };
    out.push(begin);
    for (number, item) in doc.elements().enumerate() {
        let item = item?;
        out.push_str(if number == 0 { " " } else { ", " });
        if !array {
            out.push_str(item.key);
            out.push_str(": ");
        }
        value(out, &item, depth + 1)?;
    }
    if !doc.is_empty() {
        out.push(' ');
    }
    out.push(end);
    Ok(())
}

fn binary(out: &mut String, element: &Element<'_>) -> std::fmt::Result {
    const LONGEST: usize = 80;
    const KEPT: usize = 70;
    let (subtype, bytes) = element.binary().unwrap_or_default();
    write!(out, "BinData({subtype}, ")?;
    match bytes.get(..KEPT) {
        Some(kept) if bytes.len() > LONGEST => {
            hex(out, kept, true);
            out.push_str("...");
        }
        _ => hex(out, bytes, true),
    }
    out.write_str(")")
}

fn hex(out: &mut String, bytes: &[u8], upper: bool) {
    for byte in bytes {
        let _ = match upper {
            true => write!(out, "{byte:02X}"),
            false => write!(out, "{byte:02x}"),
        };
    }
}

fn regex(out: &mut String, element: &Element<'_>) -> Result<(), Malformed> {
    let mut parts = element.value().split(|byte| *byte == 0);
    let mut part = || {
        std::str::from_utf8(parts.next().unwrap_or_default())
            .map_err(|_| Malformed("a pattern is not UTF-8"))
    };
    let (pattern, options) = (part()?, part()?);
    let _ = write!(out, "/{pattern}/{options}");
    Ok(())
}

fn decimal(out: &mut String, element: &Element<'_>) -> Result<(), Malformed> {
    let bytes = element.value().first_chunk::<16>();
    let number = bson::Decimal128::from_bytes(*bytes.ok_or(Malformed("a number is cut off"))?);
    let _ = write!(out, "{number}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Bson, doc};

    use super::*;
    use crate::raw::Doc;

    fn written(given: impl Into<Bson>) -> String {
        let bytes = bson::serialize_to_vec(&doc! {"v": given.into()}).unwrap();
        let element = Doc::whole(&bytes).unwrap().first().unwrap().unwrap();
        let mut out = String::new();
        value(&mut out, &element, 0).unwrap();
        out
    }

    /// The texts are what MongoDB 6.0 gave for these values.
    #[test]
    fn values_are_written_as_mongodb_writes_them() {
        let binary = |length: usize| {
            Bson::Binary(bson::Binary {
                subtype: bson::spec::BinarySubtype::Generic,
                bytes: vec![0xAB; length],
            })
        };
        let long = "AB".repeat(300);
        for (given, expected) in [
            (Bson::from(5_i64), "5".to_owned()),
            (5.into(), "5".into()),
            (1.0.into(), "1.0".into()),
            (2.5.into(), "2.5".into()),
            (1e100.into(), "1e+100.0".into()),
            (1.5e-7.into(), "1.5e-07".into()),
            (0.1.into(), "0.1".into()),
            (123_456_789.0.into(), "123456789.0".into()),
            (f64::NAN.into(), "nan.0".into()),
            (f64::NEG_INFINITY.into(), "-inf.0".into()),
            ("é\n\"".into(), "\"é\n\"\"".into()),
            (long.clone().into(), format!("\"{}...\"", &long[..150])),
            (binary(2), "BinData(0, ABAB)".into()),
            (binary(81), format!("BinData(0, {}...)", "AB".repeat(70))),
            (true.into(), "true".into()),
            (Bson::Null, "null".into()),
            (
                bson::DateTime::from_millis(1_577_836_800_000).into(),
                "new Date(1577836800000)".into(),
            ),
            (
                bson::oid::ObjectId::from_bytes([0; 12]).into(),
                "ObjectId('000000000000000000000000')".into(),
            ),
            (
                bson::Timestamp {
                    time: 1,
                    increment: 2,
                }
                .into(),
                "Timestamp(1, 2)".into(),
            ),
            (Bson::Decimal128("1.50".parse().unwrap()), "1.50".into()),
            (Bson::MinKey, "MinKey".into()),
            (Bson::MaxKey, "MaxKey".into()),
            (
                doc! {"a": [1, 2.5, null, {"b": 7_i64}], "e": {}, "f": []}.into(),
                "{ a: [ 1, 2.5, null, { b: 7 } ], e: {}, f: [] }".into(),
            ),
        ] {
            assert_eq!(written(given), expected);
        }
    }
}
