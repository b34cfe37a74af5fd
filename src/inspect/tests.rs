#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};

use super::*;
use crate::inspect::checksum::Checksum;
use crate::keyring::KeyId;
use crate::seal::{FieldId, MAGIC, SUBTYPE};

/// Bytes of suite 1 around the ciphertext.
const AROUND: usize = 28 + 16;

/// A value as it is stored: sealed under `key` for `field`, with bytes that no one can open.
pub(crate) fn sealed(key: u32, field: FieldId) -> Bson {
    let mut bytes = MAGIC.to_vec();
    bytes.push(1);
    bytes.extend(key.to_be_bytes());
    bytes.extend(field.0);
    bytes.resize(AROUND + 9, 0xAB);
    binary(SUBTYPE, bytes)
}

/// The same with a token of each epoch.
pub(crate) fn with_tokens(key: u32, field: FieldId, epochs: &[u32]) -> Bson {
    let mut doc = doc! {"c": sealed(key, field)};
    for epoch in epochs {
        doc.insert(format!("e{epoch}"), binary(0, vec![7; 16]));
    }
    doc.into()
}

fn binary(subtype: u8, bytes: Vec<u8>) -> Bson {
    Binary {
        subtype: BinarySubtype::from(subtype),
        bytes,
    }
    .into()
}

fn ssn() -> FieldId {
    FieldId::of("shop.customers", "ssn")
}

fn note() -> FieldId {
    FieldId::of("shop.customers", "visits.note")
}

fn customer(id: i32) -> Document {
    doc! {
        "_id": id,
        "name": "open",
        "ssn": with_tokens(1, ssn(), &[1]),
        "visits": [
            {"at": 1, "note": sealed(1, note())},
            {"at": 2, "note": sealed(2, note())},
            {"at": 3, "note": null},
        ],
    }
}

pub(crate) fn encode(documents: &[Document]) -> Vec<u8> {
    let documents = documents.iter();
    documents
        .flat_map(|document| bson::serialize_to_vec(document).unwrap())
        .collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// An archive of collections, each cut into blocks, which take turns.
pub(crate) fn archive_of(collections: &[(&str, &str, &[&[Document]])]) -> Vec<u8> {
    let heading = |database: &str, collection: &str, sum: Option<i64>| {
        encode(&[doc! {
            "db": database,
            "collection": collection,
            "EOF": sum.is_some(),
            "CRC": sum.unwrap_or_default(),
        }])
    };
    let terminator = [0xFF; 4];
    let mut bytes = vec![0x6D, 0xE2, 0x99, 0x81];
    bytes.extend(encode(&[doc! {
        "concurrent_collections": 4, "version": "0.1",
        "server_version": "6.0.5", "tool_version": "100.7.0",
    }]));
    for (database, collection, _) in collections {
        bytes.extend(encode(&[doc! {
            "db": database, "collection": collection,
            "metadata": "{}", "size": 0, "type": "collection",
        }]));
    }
    bytes.extend(terminator);
    let blocks = collections.iter().map(|(_, _, blocks)| blocks.len()).max();
    for turn in 0..blocks.unwrap_or_default() {
        for (database, collection, blocks) in collections {
            if let Some(block) = blocks.get(turn) {
                bytes.extend(heading(database, collection, None));
                bytes.extend(encode(block));
                bytes.extend(terminator);
            }
        }
    }
    for (database, collection, blocks) in collections {
        let mut sum = Checksum::default();
        blocks.iter().for_each(|block| sum.add(&encode(block)));
        bytes.extend(heading(database, collection, Some(sum.sum())));
        bytes.extend(terminator);
    }
    bytes
}

fn try_read(bytes: &[u8]) -> (Needs, Result<(), String>) {
    let mut needs = Needs::default();
    let read = reader(bytes, "dump", "shop.customers", &mut needs, &mut |_, _| ());
    (needs, read.map_err(|error| error.to_string()))
}

fn read(bytes: &[u8]) -> Needs {
    let (needs, read) = try_read(bytes);
    read.unwrap();
    needs
}

/// `namespace path key values tokens`, in order.
fn found(needs: &Needs) -> Vec<String> {
    let mut lines = Vec::new();
    for (namespace, place) in needs.places() {
        for (KeyId(key), need) in &place.needs {
            let tokens = &need.tokens;
            let path = &place.path;
            lines.push(format!(
                "{namespace} {path} {key} {} {tokens:?}",
                need.values
            ));
        }
        if place.cut_off > 0 {
            lines.push(format!(
                "{namespace} {} cut off {}",
                place.path, place.cut_off
            ));
        }
    }
    lines
}

#[test]
fn a_file_of_documents_is_counted_by_path_and_key_version() {
    let documents = [customer(1), customer(2), doc! {"_id": 3, "ssn": "plain"}];
    for bytes in [encode(&documents), gzip(&encode(&documents))] {
        let needs = read(&bytes);
        assert_eq!(
            found(&needs),
            [
                "shop.customers ssn 1 2 {1: 2}",
                "shop.customers visits.note 1 2 {}",
                "shop.customers visits.note 2 2 {}",
            ]
        );
        assert_eq!((needs.documents, needs.collections()), (3, 1));
    }
}

#[test]
fn arrays_of_sealed_values_and_several_epochs_are_counted() {
    let tags = FieldId::of("shop.customers", "tags");
    let documents = [doc! {"tags": [
        with_tokens(1, tags, &[1, 2]), with_tokens(1, tags, &[1]), [sealed(1, tags)], null, "plain",
    ]}];
    let needs = read(&encode(&documents));
    assert_eq!(found(&needs), ["shop.customers tags 1 3 {1: 2, 2: 1}"]);
}

#[test]
fn a_document_that_is_not_a_sealed_one_is_looked_into() {
    let field = FieldId::of("shop.boxes", "box.c");
    let documents = [
        doc! {"box": {"c": sealed(1, field)}},
        doc! {"box": {"c": sealed(1, field), "e1": "a name of the service's own"}},
        doc! {"box": {"c": "open", "e1": sealed(1, field)}},
    ];
    let needs = read(&encode(&documents));
    let boxes = [
        "shop.customers box.c 1 2 {}",
        "shop.customers box.e1 1 1 {}",
    ];
    assert_eq!(found(&needs), boxes);
}

#[test]
fn what_only_looks_sealed_is_not_counted() {
    let documents = [doc! {
        "other subtype": binary(0, MAGIC.to_vec()),
        "other magic": binary(SUBTYPE, vec![1; 60]),
    }];
    assert!(found(&read(&encode(&documents))).is_empty());
}

#[test]
fn values_that_were_cut_are_told_apart() {
    let Bson::Binary(whole) = sealed(1, ssn()) else {
        unreachable!()
    };
    let of = |bytes: &[u8]| doc! {"ssn": binary(SUBTYPE, bytes.to_vec())};
    let lengths = [3, 15, 20, AROUND];
    let documents = lengths.map(|length| of(&whole.bytes[..length]));
    // Two lost the field that they were sealed for as well.
    let cut = ["shop.customers ssn cut off 2"; 2];
    assert_eq!(found(&read(&encode(&documents))), cut);
    // What is whole in suite 1 is too short for suite 2, and a suite to come may be shorter.
    let of_suite = |suite: u8| {
        let mut bytes = whole.bytes[..AROUND + 1].to_vec();
        bytes[3] = suite;
        found(&read(&encode(&[of(&bytes)])))
    };
    assert_eq!(of_suite(1), ["shop.customers ssn 1 1 {}"]);
    assert_eq!(of_suite(2), ["shop.customers ssn cut off 1"]);
    assert_eq!(of_suite(9), ["shop.customers ssn 1 1 {}"]);
}

#[test]
fn a_field_below_any_name_is_shown_once() {
    let phone = FieldId::of("shop.customers", "contacts.*.phone");
    let contacts: Document = (0..200)
        .map(|number| {
            let contact = doc! {"phone": with_tokens(1, phone, &[1])};
            (format!("name{number}"), contact.into())
        })
        .collect();
    let needs = read(&encode(&[doc! {"contacts": contacts}]));
    let one = ["shop.customers contacts.*.phone 1 200 {1: 200}"];
    assert_eq!(found(&needs), one);
}

#[test]
fn an_archive_tells_the_collections_that_take_turns_in_it() {
    let open = [doc! {"_id": 1}];
    let bytes = archive_of(&[
        ("shop", "customers", &[&[customer(1)], &[customer(2)]]),
        ("shop", "open", &[&open]),
        ("shop", "empty", &[]),
        (
            "",
            "oplog",
            &[&[doc! {"o": {"ssn": with_tokens(9, ssn(), &[1])}}]],
        ),
    ]);
    for bytes in [gzip(&bytes), bytes] {
        let needs = read(&bytes);
        assert_eq!(
            found(&needs),
            [
                "oplog o.ssn 9 1 {1: 1}",
                "shop.customers ssn 1 2 {1: 2}",
                "shop.customers visits.note 1 2 {}",
                "shop.customers visits.note 2 2 {}",
            ]
        );
        assert_eq!(needs.documents, 4);
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_damaged_but_between_two_documents() {
    let one = encode(&[customer(1)]);
    let both = encode(&[customer(1), customer(2)]);
    for cut in 0..both.len() {
        let (needs, read) = try_read(&both[..cut]);
        let between = cut == 0 || cut == one.len();
        assert_eq!(read.is_ok(), between, "{cut}: {read:?}");
        if let Err(error) = read {
            assert!(error.starts_with("dump: damaged at byte "), "{error}");
        }
        assert_eq!(needs.documents, u64::from(cut >= one.len()));
    }
}

#[test]
fn an_archive_that_is_cut_anywhere_is_damaged() {
    let documents = [customer(1)];
    let bytes = archive_of(&[
        ("shop", "customers", &[&documents, &documents]),
        ("shop", "empty", &[]),
    ]);
    for cut in 1..bytes.len() {
        assert!(try_read(&bytes[..cut]).1.is_err(), "{cut}");
    }
    let packed = gzip(&bytes);
    for cut in 1..packed.len() {
        assert!(try_read(&packed[..cut]).1.is_err(), "packed {cut}");
    }
}

#[test]
fn a_changed_document_of_an_archive_is_noticed_wherever_it_was_changed() {
    let documents = [customer(1)];
    let bytes = archive_of(&[("shop", "customers", &[&documents])]);
    let inner = encode(&documents);
    let at = bytes
        .windows(inner.len())
        .position(|window| window == inner)
        .unwrap();
    for place in at..at + inner.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 0x10;
        assert!(try_read(&changed).1.is_err(), "{place}");
    }
    // The rest may be changed in ways that do not matter, but never end the program.
    for place in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[place] ^= bit;
            let _ = try_read(&changed);
        }
    }
}

#[test]
fn damage_is_told_with_its_place() {
    let good = encode(&[doc! {"_id": 1}]);
    let place = good.len();
    let says = |rest: &[u8]| {
        let error = try_read(&[&good, rest].concat()).1.unwrap_err();
        assert!(error.contains(&format!("byte {place}")), "{error}");
        error
    };
    for length in [i32::MAX, -1, 4, 17 << 20] {
        let error = says(&length.to_le_bytes());
        let what = format!("{length} is not the length of a document");
        assert!(error.contains(&what), "{error}");
    }
    assert!(says(&[100, 0, 0, 0, 2]).contains("the end comes within the document"));
    assert!(says(&[5, 0, 0, 0, 1]).contains("does not end in zero"));
    let wrong = [8, 0, 0, 0, 0x77, b'a', 0, 0];
    assert!(says(&wrong).contains("unknown element type"));
}

#[test]
fn documents_nested_too_deep_are_an_error() {
    let mut nested = doc! {};
    for _ in 0..200 {
        nested = doc! {"a": nested};
    }
    read(&encode(&[nested.clone()]));
    for _ in 0..100 {
        nested = doc! {"a": nested};
    }
    let error = try_read(&encode(&[nested])).1.unwrap_err();
    assert!(error.contains("nested too deep"), "{error}");
}

#[test]
fn archives_that_do_not_follow_their_format_are_refused() {
    let documents = [customer(1)];
    let good = archive_of(&[("shop", "customers", &[&documents])]);
    let text = |from: &str, to: &str| {
        let mut bytes = good.clone();
        let at = bytes
            .windows(from.len())
            .position(|window| window == from.as_bytes())
            .unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        try_read(&bytes).1.unwrap_err()
    };
    assert!(text("0.1", "9.9").contains("unknown format"));
    let after = [
        &good[..],
        &encode(&[doc! {"db": "shop", "collection": "customers", "EOF": false}]),
    ];
    let mut after = after.concat();
    after.extend(encode(&documents));
    after.extend([0xFF; 4]);
    assert!(try_read(&after).1.unwrap_err().contains("follow its end"));
    let nameless = [&good[..], &encode(&[doc! {"EOF": false}])].concat();
    assert!(
        try_read(&nameless)
            .1
            .unwrap_err()
            .contains("names no collection")
    );
}

/// A folder that is removed when dropped.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_folder_of_mongodump_is_read_by_database_and_collection() {
    let name = format!("fieldseal-inspect-{}", std::process::id());
    let folder = Folder(std::env::temp_dir().join(name));
    let database = folder.0.join("shop");
    std::fs::create_dir_all(&database).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(database.join(name), bytes).unwrap();
    write("customers.bson", &encode(&[customer(1)]));
    write(
        "customers.metadata.json",
        br#"{"collectionName": "customers"}"#,
    );
    write("cut%24.bson.gz", &gzip(&encode(&[customer(1)])));
    write(
        "cut%24.metadata.json.gz",
        &gzip(br#"{"collectionName": "a long name"}"#),
    );
    let oplog = encode(&[doc! {"o": customer(1)}]);
    std::fs::write(folder.0.join("oplog.bson"), oplog).unwrap();

    let read = |at: &Path| {
        let mut needs = Needs::default();
        path(at, &mut needs, &mut |_, _| ()).map(|()| needs)
    };
    let namespaces = |needs: &Needs| {
        let mut names: Vec<_> = needs
            .places()
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        names.dedup();
        names
    };
    let all = ["oplog", "shop.a long name", "shop.customers"];
    assert_eq!(namespaces(&read(&folder.0).unwrap()), all);
    assert_eq!(namespaces(&read(&database).unwrap()), all[1..]);
    let file = database.join("customers.bson");
    assert_eq!(namespaces(&read(&file).unwrap()), ["shop.customers"]);

    std::fs::create_dir(folder.0.join("empty")).unwrap();
    let error = read(&folder.0.join("empty")).unwrap_err().to_string();
    assert!(error.contains("holds no .bson"), "{error}");
    let error = read(&folder.0.join("nothing.bson"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("nothing.bson: cannot be read"), "{error}");
}
