//! Values that are found wherever they get to.

use std::collections::BTreeSet;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem::{Finder, find_iter};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime};

/// The canaries of one workload. Every text begins with the same random mark, so that
/// a search for the mark finds them all, cut off or not; what follows tells which it is.
pub(super) struct Canaries {
    mark: String,
    binary: [u8; 12],
    /// Of 64 random bits.
    pub(super) long: i64,
    /// Of 52 random bits.
    pub(super) double: f64,
    date: i64,
    used: Mutex<BTreeSet<String>>,
}

/// One way in which a canary may show.
pub(super) struct Form {
    /// Which value, and how it is written.
    pub(super) name: String,
    finder: Finder<'static>,
}

impl Form {
    fn new(name: String, bytes: &[u8]) -> Self {
        Self {
            name,
            finder: Finder::new(bytes).into_owned(),
        }
    }

    /// Whether it is in `place`.
    pub(super) fn is_in(&self, place: &[u8]) -> bool {
        self.finder.find(place).is_some()
    }
}

impl Canaries {
    pub(super) fn new() -> Self {
        let letters: [u8; 12] = rand::random();
        let mark = letters.map(|letter| char::from(b'a' + letter % 26));
        let fraction = rand::random::<u64>() >> 12;
        Self {
            mark: mark.iter().collect(),
            binary: rand::random(),
            long: rand::random(),
            // From 1 to 2.
            double: f64::from_bits(0x3FF0_0000_0000_0000 | fraction),
            // Of the years 2100 to 2889.
            date: 4_102_444_800_000 + i64::from(rand::random::<u32>()) * 5_800,
            used: Mutex::default(),
        }
    }

    /// The text for one value of the workload.
    pub(super) fn text(&self, name: &str) -> String {
        self.used.lock().unwrap().insert(name.to_owned());
        format!("{}-{name}-", self.mark)
    }

    /// A text that MongoDB never gets, sealed or not.
    pub(super) fn text_that_gets_nowhere(&self, name: &str) -> String {
        format!("{}-{name}-", self.mark)
    }

    pub(super) fn binary(&self) -> Binary {
        Binary {
            subtype: BinarySubtype::Generic,
            bytes: self.binary.to_vec(),
        }
    }

    pub(super) fn date(&self) -> DateTime {
        DateTime::from_millis(self.date)
    }

    /// The names of the texts that are in none of the places, as they are.
    pub(super) fn missing_from<'p>(&self, places: impl Iterator<Item = &'p [u8]>) -> Vec<String> {
        let mut missing = self.used.lock().unwrap().clone();
        for place in places {
            for at in find_iter(place, self.mark.as_bytes()) {
                let rest = &place[at + self.mark.len()..];
                let rest = &rest[..rest.len().min(100)];
                missing.retain(|name| !rest.starts_with(format!("-{name}-").as_bytes()));
            }
        }
        missing.into_iter().collect()
    }

    /// Everything to search for: each value raw, in hexadecimal, in base64, in
    /// decimal, and as Rust prints bytes.
    pub(super) fn forms(&self) -> Vec<Form> {
        let (long, double, date) = (
            self.long.to_le_bytes(),
            self.double.to_le_bytes(),
            self.date.to_le_bytes(),
        );
        let values: [(&str, &[u8]); 5] = [
            ("text", self.mark.as_bytes()),
            ("binary", &self.binary),
            ("long", &long),
            ("double", &double),
            ("date", &date),
        ];
        let mut forms = Vec::new();
        for (value, bytes) in values {
            let mut add = |how: &str, bytes: &[u8]| {
                forms.push(Form::new(format!("{value}, {how}"), bytes));
            };
            add("raw", bytes);
            let digits = hexadecimal(bytes);
            add("hexadecimal", digits.as_bytes());
            add("upper case hexadecimal", digits.to_uppercase().as_bytes());
            let list: Vec<String> = bytes.iter().map(u8::to_string).collect();
            add("a list of bytes", list.join(", ").as_bytes());
            for before in 0..3 {
                let how = format!("base64 after {before} bytes");
                add(&how, base64_within(bytes, before).as_bytes());
            }
        }
        // What JSON writes after 13 digits may be rounded.
        let double = self.double.to_string();
        let date = self.date().try_to_rfc3339_string().unwrap();
        for (name, text) in [
            ("long, decimal", self.long.to_string().as_str()),
            ("double, decimal", &double[..double.len().min(14)]),
            ("date, decimal", &self.date.to_string()),
            ("date, written out", &date[..19]),
        ] {
            forms.push(Form::new(name.to_owned(), text.as_bytes()));
        }
        forms
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the base64 of anything that holds `bytes` has in it, where `before` more
/// bytes (modulo 3) come first: only characters that `bytes` alone decide.
fn base64_within(bytes: &[u8], before: usize) -> String {
    let padded = [&vec![0; before], bytes].concat();
    let encoded = STANDARD.encode(&padded);
    let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
    encoded[from..to].to_owned()
}

#[test]
fn the_forms_are_found_in_what_holds_the_canaries() {
    let canaries = Canaries::new();
    let found = |name: &str, place: &str| {
        let forms = canaries.forms();
        let form = forms.iter().find(|form| form.name == name).unwrap();
        form.is_in(place.as_bytes())
    };
    for before in 0..7 {
        let mut bytes = vec![0x5A; before];
        bytes.extend_from_slice(&canaries.binary);
        bytes.push(0xA5);
        let name = format!("binary, base64 after {} bytes", before % 3);
        assert!(found(&name, &STANDARD.encode(&bytes)));
        assert!(found("binary, hexadecimal", &hexadecimal(&bytes)));
    }
    let written = canaries.date().try_to_rfc3339_string().unwrap();
    assert!(found("date, written out", &written));
    assert!(!found("text, raw", &canaries.mark[1..]));
}
