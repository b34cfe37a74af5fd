//! Values and documents from small domains, so that filters match and keys collide.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Decimal128, Document, Regex, Timestamp, doc};

use super::dice::Dice;

/// What every string in a sealed field begins with (but the empty one), so that
/// plaintext can be looked for in what MongoDB stores.
pub(super) const CANARY: &str = "sealed-";

/// The only `ObjectId` in documents that MongoDB has not made itself.
pub(super) const OBJECT_ID: ObjectId = ObjectId::from_bytes([7; 12]);

/// The identifiers of documents.
pub(super) const IDS: usize = 24;

pub(super) fn id(dice: &mut Dice) -> Bson {
    Bson::Int32(i32::try_from(dice.below(IDS)).unwrap())
}

pub(super) fn sealed_string(dice: &mut Dice) -> Bson {
    let often = ["a", "b", "c"];
    let seldom = ["d", "e", "f", "g", "h", "ü€𝄞", "A", "a ", "null"];
    let name = match dice.below(10) {
        0 => return String::new().into(),
        1..7 => dice.pick(&often),
        _ => dice.pick(&seldom),
    };
    format!("{CANARY}{name}").into()
}

pub(super) fn open_string(dice: &mut Dice) -> Bson {
    dice.pick(&["a", "b", "c", "d", "Zoë", "A", ""]).into()
}

pub(super) fn decimal(text: &str) -> Bson {
    text.parse::<Decimal128>().unwrap().into()
}

/// A number, of any type; many are equal but for their type.
pub(super) fn number(dice: &mut Dice) -> Bson {
    if dice.chance(12) {
        return dice.pick(&[
            Bson::Double(0.1),
            decimal("0.1"),
            Bson::Double(-0.0),
            decimal("-0"),
            Bson::Double(f64::NAN),
            decimal("NaN"),
            Bson::Double(f64::INFINITY),
            decimal("Infinity"),
            Bson::Double(f64::NEG_INFINITY),
            Bson::Int64(i64::MAX),
            Bson::Int64(i64::MIN),
            Bson::Double(9_223_372_036_854_775_808.0),
            decimal("9223372036854775807"),
            Bson::Int64(9_007_199_254_740_993),
            Bson::Double(9_007_199_254_740_992.0),
            Bson::Int32(-3),
            decimal("-3.00"),
            Bson::Double(0.5),
            decimal("0.50"),
        ]);
    }
    let small = i32::try_from(dice.below(5)).unwrap();
    match dice.below(6) {
        0..3 => Bson::Int32(small),
        3 => Bson::Int64(small.into()),
        4 => Bson::Double(small.into()),
        _ => decimal(&dice.pick(&[format!("{small}"), format!("{small}.00")])),
    }
}

/// A number with which sums and products stay exact.
pub(super) fn plain_number(dice: &mut Dice) -> Bson {
    let small = i32::try_from(dice.below(5)).unwrap();
    match dice.below(4) {
        0 | 1 => Bson::Int32(small),
        2 => Bson::Int64(small.into()),
        _ => Bson::Double(small.into()),
    }
}

/// A value of an open field that is no document or array.
pub(super) fn scalar(dice: &mut Dice) -> Bson {
    match dice.below(10) {
        0..4 => open_string(dice),
        4..7 => number(dice),
        7 => Bson::Null,
        8 => Bson::Boolean(dice.chance(50)),
        _ => dice.pick(&[
            Bson::DateTime(DateTime::from_millis(1_000)),
            Bson::DateTime(DateTime::from_millis(2_000)),
            binary(&[1, 2]),
        ]),
    }
}

pub(super) fn binary(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    })
}

/// Any value of an open field.
pub(super) fn open_value(dice: &mut Dice) -> Bson {
    match dice.below(8) {
        0 => array(dice, 0, 3, scalar),
        1 => sub(dice).into(),
        _ => scalar(dice),
    }
}

pub(super) fn array(
    dice: &mut Dice,
    least: usize,
    most: usize,
    make: impl FnMut(&mut Dice) -> Bson,
) -> Bson {
    Bson::Array(dice.several(least, most, make))
}

fn sub(dice: &mut Dice) -> Document {
    let mut sub = Document::new();
    for name in ["x", "y", "z"] {
        if dice.chance(60) {
            sub.insert(name, scalar(dice));
        }
    }
    sub
}

/// A value of `list`: an open array of scalars and documents.
pub(super) fn list(dice: &mut Dice) -> Bson {
    array(dice, 0, 4, |dice| {
        if dice.chance(25) {
            sub(dice).into()
        } else {
            scalar(dice)
        }
    })
}

/// A value for the sealed field at `path`; seldom one of a wrong type.
pub(super) fn sealed_value(dice: &mut Dice, path: &str) -> Bson {
    if dice.chance(8) {
        return Bson::Null;
    }
    if dice.chance(1) {
        return dice.pick(&[
            Bson::Boolean(true),
            doc! { "x": 1 }.into(),
            Bson::Int32(7),
            "sealed-wrong".into(),
        ]);
    }
    match path {
        "age" => elements(dice, 4, 1, number),
        "tags" => elements(dice, 75, 0, sealed_string),
        "ssn" | "payment.card" => elements(dice, 4, 1, sealed_string),
        "address" => address(dice),
        _ => sealed_string(dice),
    }
}

/// One value, or, in so many of a hundred cases, an array of them, null among them.
///
/// Unique indexes tell an empty array from null on plaintext, but not by tokens: the
/// fields that have such indexes get none.
fn elements(
    dice: &mut Dice,
    percent: usize,
    least: usize,
    mut one: impl FnMut(&mut Dice) -> Bson,
) -> Bson {
    if !dice.chance(percent) {
        return one(dice);
    }
    array(dice, least, 4, |dice| {
        if dice.chance(10) {
            Bson::Null
        } else {
            one(dice)
        }
    })
}

/// Any value but those of rare types that `$lookup` of MongoDB 6.0 gives another type.
fn address(dice: &mut Dice) -> Bson {
    match dice.below(8) {
        0 => sealed_string(dice),
        1 => array(dice, 0, 3, sealed_string),
        2 => dice.pick(&[
            number(&mut dice.clone()),
            Bson::Timestamp(Timestamp {
                time: 1,
                increment: 1,
            }),
            Bson::RegularExpression(Regex {
                pattern: "a".try_into().unwrap(),
                options: "i".try_into().unwrap(),
            }),
            Bson::ObjectId(OBJECT_ID),
            Bson::Undefined,
            binary(b"sealed-bytes"),
        ]),
        _ => doc! {
            "city": sealed_string(dice),
            "lines": [sealed_string(dice), Bson::Null, { "x": number(dice) }],
            "zip": number(dice),
        }
        .into(),
    }
}

/// `payment`: mostly a document, also an array of them, or a scalar.
fn payment(dice: &mut Dice) -> Bson {
    let one = |dice: &mut Dice| -> Bson {
        let mut payment = Document::new();
        if dice.chance(30) {
            payment.insert("kind", open_string(dice));
        }
        if dice.chance(85) {
            payment.insert("card", sealed_value(dice, "payment.card"));
        }
        if dice.chance(30) && !payment.contains_key("kind") {
            payment.insert("kind", open_string(dice));
        }
        payment.into()
    };
    match dice.below(16) {
        0 => array(dice, 0, 3, one),
        1 => scalar(dice),
        _ => one(dice),
    }
}

/// One document of `visits`.
pub(super) fn visit(dice: &mut Dice) -> Document {
    let mut visit = Document::new();
    if dice.chance(70) {
        visit.insert("at", plain_number(dice));
    }
    if dice.chance(75) {
        visit.insert("note", sealed_value(dice, "visits.note"));
    }
    if dice.chance(20) {
        visit.insert("by", open_string(dice));
    }
    visit
}

fn visits(dice: &mut Dice) -> Bson {
    match dice.below(16) {
        0 => scalar(dice),
        1 => visit(dice).into(),
        2 => array(dice, 0, 3, |dice| match dice.below(3) {
            0 => scalar(dice),
            1 => array(dice, 0, 2, |dice| visit(dice).into()),
            _ => visit(dice).into(),
        }),
        _ => array(dice, 0, 3, |dice| visit(dice).into()),
    }
}

/// The fields of a document but its `_id`, in any order.
pub(super) fn fields(dice: &mut Dice) -> Document {
    let mut fields: Vec<(&str, Bson)> = Vec::new();
    let mut add = |dice: &mut Dice, name, percent, make: fn(&mut Dice) -> Bson| {
        if dice.chance(percent) {
            fields.push((name, make(dice)));
        }
    };
    add(dice, "ssn", 80, |dice| sealed_value(dice, "ssn"));
    add(dice, "age", 70, |dice| sealed_value(dice, "age"));
    add(dice, "tags", 70, |dice| sealed_value(dice, "tags"));
    add(dice, "address", 50, |dice| sealed_value(dice, "address"));
    add(dice, "payment", 70, payment);
    add(dice, "visits", 60, visits);
    add(dice, "name", 80, open_string);
    add(dice, "n", 75, plain_number);
    add(dice, "list", 60, list);
    add(dice, "sub", 60, |dice| {
        if dice.chance(85) {
            sub(dice).into()
        } else {
            open_value(dice)
        }
    });
    dice.shuffle(&mut fields);
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A document with `_id` first, or, seldom, somewhere else.
pub(super) fn document(dice: &mut Dice) -> Document {
    let fields = fields(dice);
    let id = id(dice);
    let at = if dice.chance(10) { dice.below(4) } else { 0 };
    let mut document = Document::new();
    for (index, (name, value)) in fields.into_iter().enumerate() {
        if index == at {
            document.insert("_id", id.clone());
        }
        document.insert(name, value);
    }
    document.entry("_id".to_owned()).or_insert(id);
    document
}
