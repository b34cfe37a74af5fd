//! BSON that is nested too deep or holds no text where it should.

use super::*;

/// A document of `depth` documents and arrays one in another, under these names in turn.
fn nested(names: &[(u8, &str)], depth: usize) -> Vec<u8> {
    let name = |level: usize| names[level % names.len()];
    let mut lengths = vec![5];
    for level in (0..depth).rev() {
        // Length, type, name with its zero, and the last zero.
        lengths.push(lengths[lengths.len() - 1] + 7 + name(level).1.len());
    }
    let mut bytes = Vec::new();
    for (level, length) in lengths.iter().rev().enumerate() {
        bytes.extend(i32::try_from(*length).unwrap().to_le_bytes());
        if level < depth {
            let (kind, name) = name(level);
            bytes.extend([&[kind], name.as_bytes(), &[0]].concat());
        }
    }
    bytes.resize(bytes.len() + lengths.len(), 0);
    bytes
}

/// The elements of both documents in one.
fn joined(first: &[u8], second: &[u8]) -> Vec<u8> {
    let elements = [&first[4..first.len() - 1], &second[4..second.len() - 1]].concat();
    let length = i32::try_from(elements.len() + 5).unwrap();
    [&length.to_le_bytes()[..], &elements, &[0]].concat()
}

/// A document whose one field has these bytes.
fn field(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let element = [&[kind][..], name, &[0], value].concat();
    let length = i32::try_from(element.len() + 5).unwrap();
    [&length.to_le_bytes()[..], &element, &[0]].concat()
}

fn insert_raw(collection: &str, database: &str, person: &[u8]) -> Vec<u8> {
    let command = body(&doc! { "insert": collection, "$db": database });
    msg(0, &[command, sequence("documents", person)].concat())
}

/// A command, its collection, where in it the depth begins, and under which names it goes on.
type Place<'a> = (&'a str, &'a str, &'a [&'a str], &'a [(u8, &'a str)]);

#[tokio::test]
async fn deep_documents_are_errors_and_use_no_stack() {
    let (set, mut proxy, database) = start("").await;
    let (document_kind, array) = (kind::DOCUMENT, kind::ARRAY);
    let inner = [(document_kind, "a")];
    let sets = [(document_kind, "$set"), (document_kind, "x")];
    let arrays = [(array, "0")];
    let branches = [(array, "$and"), (document_kind, "0")];
    let not = [(document_kind, "$not")];
    let elements = [(document_kind, "$elemMatch")];
    let facets = [
        (document_kind, "$facet"),
        (array, "x"),
        (document_kind, "0"),
    ];
    let lookups = [
        (document_kind, "$lookup"),
        (array, "pipeline"),
        (document_kind, "0"),
    ];
    let unions = [
        (document_kind, "$unionWith"),
        (array, "pipeline"),
        (document_kind, "0"),
    ];
    let explains = [(document_kind, "explain")];
    let places: &[Place<'_>] = &[
        ("find", "people", &["filter"], &branches),
        ("find", "people", &["filter", "ssn"], &not),
        ("find", "people", &["filter", "ssn"], &elements),
        ("find", "people", &["filter", "visits"], &not),
        ("find", "people", &["filter", "visits"], &elements),
        ("find", "people", &["filter", "visits"], &arrays),
        ("find", "people", &["filter", "$expr"], &branches),
        ("find", "people", &["projection"], &inner),
        ("find", "people", &["projection", "visits"], &inner),
        ("find", "people", &["projection", "city"], &branches),
        ("find", "people", &["sort"], &inner),
        ("find", "people", &["let"], &inner),
        ("find", "people", &["comment"], &inner),
        ("find", "people", &["lsid"], &inner),
        ("find", "open", &["filter"], &branches),
        ("count", "people", &["query"], &branches),
        ("distinct", "people", &["query"], &branches),
        ("findAndModify", "people", &["update"], &sets),
        (
            "findAndModify",
            "people",
            &["update", "$set", "visits"],
            &inner,
        ),
        (
            "findAndModify",
            "people",
            &["update", "$push", "visits", "$each"],
            &arrays,
        ),
        (
            "findAndModify",
            "people",
            &["update", "$pull", "visits"],
            &branches,
        ),
        ("findAndModify", "people", &["update", "visits"], &arrays),
        ("findAndModify", "people", &["fields"], &inner),
        ("aggregate", "people", &["pipeline", "0"], &facets),
        ("aggregate", "people", &["pipeline", "0"], &lookups),
        ("aggregate", "people", &["pipeline", "0"], &unions),
        (
            "aggregate",
            "people",
            &["pipeline", "0", "$match"],
            &branches,
        ),
        (
            "aggregate",
            "people",
            &["pipeline", "0", "$project"],
            &inner,
        ),
        ("aggregate", "people", &["pipeline", "0", "$group"], &inner),
        ("aggregate", "open", &["pipeline", "0"], &facets),
        ("aggregate", "open", &["pipeline", "0"], &lookups),
        ("aggregate", "open", &["pipeline", "0"], &unions),
        ("explain", "people", &[], &explains),
        ("create", "people", &["validator"], &branches),
        ("mapReduce", "people", &["query"], &branches),
        ("nonsense", "people", &["x"], &inner),
        ("hello", "people", &["client"], &inner),
    ];
    let mut cases = Vec::new();
    for depth in [250, 20_000] {
        for (command, collection, path, names) in places {
            let mut deep = nested(names, depth);
            for name in path.iter().rev() {
                let array = matches!(*name, "pipeline" | "$each");
                let kind = if array { kind::ARRAY } else { kind::DOCUMENT };
                deep = field(kind, name.as_bytes(), &deep);
            }
            let target = document(&doc! { *command: *collection });
            let rest = joined(&deep, &document(&doc! { "$db": &database }));
            let whole = if path.is_empty() {
                rest
            } else {
                joined(&target, &rest)
            };
            let name = format!("{depth} deep in {command} {collection} {path:?} {names:?}");
            cases.push(case(name, msg(0, &[vec![0], whole].concat()), Failed));
        }
        let open = insert_raw("open", &database, &nested(&inner, depth));
        cases.push(case(format!("{depth} deep, untouched"), open, MongoDb));
        for (name, names, code) in [
            ("address", &inner, Refused(MALFORMED)),
            ("ssn", &inner, Refused(WRONG_TYPE)),
            ("ssn", &arrays, Failed),
            ("visits", &inner, Failed),
            ("visits", &arrays, Refused(MALFORMED)),
        ] {
            let person = field(names[0].0, name.as_bytes(), &nested(names, depth));
            let frame = insert_raw("people", &database, &person);
            cases.push(case(format!("{depth} deep in {name}"), frame, code));
        }
        // What reads as sealed is looked for at every depth.
        let forged = [&fieldseal::seal::NEEDLE[..], &[0; 60]].concat();
        let forged = document(&doc! { "b": Binary { subtype: 0x8F.into(), bytes: forged } });
        let frame = insert_raw("open", &database, &joined(&nested(&inner, depth), &forged));
        cases.push(case(
            format!("{depth} deep before a sealed value"),
            frame,
            Failed,
        ));
    }
    try_all(&proxy, cases).await;
    assert_well(set, &mut proxy, &database).await;
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused_where_it_would_be_sealed() {
    let (set, mut proxy, database) = start("").await;
    let string = |bytes: &[u8]| {
        let length = i32::try_from(bytes.len() + 1).unwrap();
        [&length.to_le_bytes()[..], bytes, &[0]].concat()
    };
    let (bad, good) = (&[b'a', 0xC3, 0x28][..], &b"abc"[..]);
    let sealed = |person: &[u8]| insert_raw("people", &database, person);
    let inner = field(2, bad, &string(good));
    let cases = vec![
        case(
            "a name",
            sealed(&field(2, bad, &string(good))),
            Refused(MALFORMED),
        ),
        case(
            "a queryable string",
            sealed(&field(2, b"ssn", &string(bad))),
            Refused(MALFORMED),
        ),
        case(
            "a sealed string",
            sealed(&field(2, b"address", &string(bad))),
            Refused(MALFORMED),
        ),
        case(
            "a name in a sealed document",
            sealed(&field(3, b"address", &inner)),
            Refused(MALFORMED),
        ),
        case(
            "an open string",
            sealed(&field(2, b"city", &string(bad))),
            Done,
        ),
        case(
            "an untouched document",
            insert_raw("open", &database, &inner),
            Done,
        ),
        case(
            "a command's field",
            msg(0, &[vec![0], field(2, bad, &string(good))].concat()),
            Refused(MALFORMED),
        ),
    ];
    try_all(&proxy, cases).await;

    // What was stored as it was sent comes back as it was sent.
    for collection in ["open", "people"] {
        let mut wire = Wire::connect(&proxy.addresses()[0]).await;
        wire.command(0, &doc! { "find": collection, "$db": &database })
            .await;
        let reply = wire.receive().await.unwrap();
        assert!(
            reply.windows(bad.len()).any(|bytes| bytes == bad),
            "{collection}"
        );
    }
    assert_well(set, &mut proxy, &database).await;
}
