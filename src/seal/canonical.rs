//! One form for all values that MongoDB holds equal.
//!
//! MongoDB compares numbers by their exact value, whatever their type: 5,
//! NumberLong(5), 5.0 and Decimal128 "5.00" are equal, while the double 0.1 is
//! not the decimal 0.1. Every finite binary or decimal number is
//! ±N · 2^a · 5^b with N coprime to 10, in exactly one way; that is the form.

use crate::raw::kind;

/// A class of types whose values can be equal, and the value in its one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Canonical<'a> {
    /// Compared byte for byte.
    Bytes { class: u8, bytes: &'a [u8] },
    /// A binary value: subtypes differ.
    Binary { subtype: u8, bytes: &'a [u8] },
    /// A number.
    Number(Number),
}

/// A number by its exact value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Zero,
    NaN,
    Infinity { negative: bool },
    Finite { negative: bool, coprime: u128, twos: i32, fives: i32 },
}

/// The one form of a value; none for types that no token exists for.
pub(super) fn canonical(kind: u8, value: &[u8]) -> Option<Canonical<'_>> {
    let bytes = |class, bytes| Some(Canonical::Bytes { class, bytes });
    match kind {
        // The length before and the zero after the string carry nothing.
        kind::STRING => bytes(b's', value.get(4..value.len().checked_sub(1)?)?),
        kind::BOOL => bytes(b'b', value.get(..1)?),
        kind::DATE => bytes(b'd', value),
        kind::TIMESTAMP => bytes(b't', value),
        kind::OBJECT_ID => bytes(b'o', value),
        kind::BINARY => Some(Canonical::Binary {
            subtype: *value.get(4)?,
            bytes: value.get(5..)?,
        }),
        kind::INT32 => Some(Canonical::Number(integer(
            i32::from_le_bytes(*value.first_chunk()?).into(),
        ))),
        kind::INT64 => Some(Canonical::Number(integer(i64::from_le_bytes(
            *value.first_chunk()?,
        )))),
        kind::DOUBLE => Some(Canonical::Number(double(f64::from_le_bytes(
            *value.first_chunk()?,
        )))),
        kind::DECIMAL128 => Some(Canonical::Number(decimal(u128::from_le_bytes(
            *value.first_chunk()?,
        )))),
        _ => None,
    }
}

impl Number {
    /// Up to 26 bytes that no other number has.
    pub(super) fn encode(self, out: &mut [u8; 26]) -> usize {
        match self {
            Self::Zero => out[0] = 0,
            Self::NaN => out[0] = 1,
            Self::Infinity { negative } => out[0] = 2 + u8::from(negative),
            Self::Finite { negative, coprime, twos, fives } => {
                out[0] = 4 + u8::from(negative);
                out[1..17].copy_from_slice(&coprime.to_be_bytes());
                out[17..21].copy_from_slice(&twos.to_be_bytes());
                out[21..25].copy_from_slice(&fives.to_be_bytes());
                return 25;
            }
        }
        1
    }
}

fn integer(value: i64) -> Number {
    finite(value < 0, value.unsigned_abs().into(), 0, 0)
}

/// `mantissa · 2^twos · 5^fives`, with the factors 2 and 5 taken out of the mantissa.
fn finite(negative: bool, mantissa: u128, mut twos: i32, mut fives: i32) -> Number {
    if mantissa == 0 {
        return Number::Zero;
    }
    let zeros = mantissa.trailing_zeros();
    let mut coprime = mantissa >> zeros;
    twos += zeros.cast_signed();
    if let Ok(mut small) = u64::try_from(coprime) {
        while small.is_multiple_of(5) {
            small /= 5;
            fives += 1;
        }
        coprime = small.into();
    } else {
        while coprime.is_multiple_of(5) {
            coprime /= 5;
            fives += 1;
        }
    }
    Number::Finite { negative, coprime, twos, fives }
}

fn double(value: f64) -> Number {
    if value.is_nan() {
        return Number::NaN;
    }
    let negative = value.is_sign_negative();
    if value.is_infinite() {
        return Number::Infinity { negative };
    }
    let bits = value.to_bits();
    let fraction = u128::from(bits & ((1 << 52) - 1));
    // Eleven bits fit in an i32.
    let exponent = i32::try_from((bits >> 52) & 0x7FF).unwrap_or_default();
    if exponent == 0 {
        finite(negative, fraction, -1074, 0)
    } else {
        finite(negative, fraction | 1 << 52, exponent - 1075, 0)
    }
}

/// IEEE 754-2008 decimal128 in the binary integer encoding that BSON uses.
fn decimal(bits: u128) -> Number {
    const BIAS: i32 = 6176;
    const LARGEST: u128 = 10_u128.pow(34) - 1;
    let negative = bits >> 127 == 1;
    match (bits >> 122) & 0x1F {
        0x1F => return Number::NaN,
        0x1E => return Number::Infinity { negative },
        _ => {}
    }
    if (bits >> 125) & 0b11 == 0b11 {
        // The large form would hold a coefficient above 10^34 - 1, which stands for zero.
        return Number::Zero;
    }
    let coefficient = bits & ((1 << 113) - 1);
    if coefficient > LARGEST {
        return Number::Zero;
    }
    // Fourteen bits fit in an i32.
    let exponent = i32::try_from((bits >> 113) & 0x3FFF).unwrap_or_default() - BIAS;
    finite(negative, coefficient, exponent, exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: bson::Bson) -> Number {
        let bytes = bson::serialize_to_vec(&bson::doc! {"v": value}).unwrap();
        let doc = crate::raw::Doc::whole(&bytes).unwrap();
        let element = doc.first().unwrap().unwrap();
        match canonical(element.kind, element.value()).unwrap() {
            Canonical::Number(number) => number,
            other => panic!("not a number: {other:?}"),
        }
    }

    fn decimal(text: &str) -> Number {
        number(bson::Bson::Decimal128(text.parse().unwrap()))
    }

    #[test]
    fn numbers_that_mongodb_holds_equal_have_one_form() {
        let five = number(5_i32.into());
        assert_eq!(five, number(5_i64.into()));
        assert_eq!(five, number(5.0.into()));
        for text in ["5", "5.0", "5.00000", "0.5E1", "50E-1"] {
            assert_eq!(five, decimal(text), "{text}");
        }
        assert_eq!(number(0.5.into()), decimal("0.5"));
        assert_eq!(number(1e22.into()), decimal("1E22"));
        assert_eq!(number(i64::MIN.into()), number((-9_223_372_036_854_775_808.0_f64).into()));
        assert_eq!(number(i64::MAX.into()), decimal("9223372036854775807"));
        assert_eq!(number(0_i32.into()), number((-0.0).into()));
        assert_eq!(number(0_i32.into()), decimal("-0E+3"));
        assert_eq!(number(f64::NAN.into()), decimal("NaN"));
        assert_eq!(number(f64::NEG_INFINITY.into()), decimal("-Infinity"));
    }

    #[test]
    fn numbers_that_differ_have_different_forms() {
        assert_ne!(number(0.1.into()), decimal("0.1"));
        assert_ne!(number(5_i32.into()), number((-5_i32).into()));
        assert_ne!(number(i64::MAX.into()), number((i64::MAX as f64).into()));
        assert_ne!(number(2_i32.into()), number(5_i32.into()));
        assert_ne!(number(f64::INFINITY.into()), number(f64::MAX.into()));
    }

    #[test]
    fn the_smallest_double_has_a_form() {
        let smallest = number(f64::from_bits(1).into());
        assert_eq!(
            smallest,
            Number::Finite { negative: false, coprime: 1, twos: -1074, fives: 0 }
        );
    }
}
