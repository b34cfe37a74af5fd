//! Frames and commands that are not what they should be.

use super::*;

#[tokio::test]
async fn a_message_that_is_cut_off_anywhere_closes_the_connection() {
    let (set, mut proxy, database) = start("").await;
    let address = proxy.addresses()[0].clone();
    let whole = insert(&database);
    let cuts = (0..whole.len()).map(|cut| {
        let (address, whole) = (&address, &whole);
        async move {
            let mut wire = Wire::connect(address).await;
            wire.send(&whole[..cut]).await;
            wire.finish().await;
            assert_eq!(wire.receive().await, None, "cut at {cut}");
        }
    });
    join_all(cuts).await;
    let people = set.client().await.database(&database);
    let people = people.collection::<Document>("people");
    assert_eq!(people.find_one(doc! {}).await.unwrap(), None);
    assert_well(set, &mut proxy, &database).await;
}

#[tokio::test]
async fn lengths_that_cannot_be_close_the_connection() {
    let (set, mut proxy, database) = start("").await;
    let lengths = [i32::MIN, -1, 0, 1, 15, 48_000_001, i32::MAX];
    let cases = lengths.map(|length| {
        let mut frame = insert(&database);
        frame[..4].copy_from_slice(&length.to_le_bytes());
        case(format!("length {length}"), frame, Closed)
    });
    try_all(&proxy, cases.into()).await;
    // The length alone is enough: nothing is awaited that would then be too much.
    let mut wire = Wire::connect(&proxy.addresses()[0]).await;
    wire.send(&48_000_001_i32.to_le_bytes()).await;
    assert_eq!(wire.receive().await, None);
    assert_well(set, &mut proxy, &database).await;
}

#[tokio::test]
async fn opcodes_that_are_not_spoken_close_the_connection() {
    let (set, mut proxy, database) = start("").await;
    // Among them OP_REPLY, OP_UPDATE, OP_INSERT, OP_GET_MORE, OP_DELETE and OP_KILL_CURSORS.
    let opcodes = [
        0, 1, 1000, 2001, 2002, 2005, 2006, 2007, 2010, 2011, 9999, -1,
    ];
    let payload = insert(&database)[16..].to_vec();
    let mut cases: Vec<Case> = Vec::new();
    for opcode in opcodes {
        cases.push(case(
            format!("opcode {opcode}"),
            frame(opcode, &payload),
            Closed,
        ));
        let size = i32::try_from(payload.len()).unwrap();
        let hidden = compressed(opcode, size, 0, &payload);
        cases.push(case(format!("opcode {opcode}, compressed"), hidden, Closed));
    }
    try_all(&proxy, cases).await;
    assert_well(set, &mut proxy, &database).await;
}

#[tokio::test]
async fn an_op_msg_that_does_not_hold_together_is_answered_and_the_connection_closed() {
    let (set, mut proxy, database) = start("").await;
    let command = body(&doc! { "insert": "people", "$db": &database });
    let person = document(&doc! { "_id": 1, "ssn": "1" });
    let documents = sequence("documents", &person);
    let parted =
        |name: &str, sections: &[&[u8]]| case(name, msg(0, &sections.concat()), Parted(MALFORMED));
    let mut cases = vec![
        parted("two bodies", &[&command, &command]),
        parted("no section", &[]),
        parted("no body", &[&documents]),
        parted("two of one sequence", &[&command, &documents, &documents]),
        parted("a section of kind 2", &[&command, &[2], &person]),
        parted("a section of kind 255", &[&command, &[255]]),
        parted("trailing zeros", &[&command, &[0; 7]]),
        parted(
            "garbage for documents",
            &[&command, &sequence("documents", &[0xAB; 40])],
        ),
        parted(
            "half a document",
            &[&command, &sequence("documents", &person[..9])],
        ),
        parted(
            "a name that does not end",
            &[&command, &[1, 9, 0, 0, 0], b"docum"],
        ),
        parted(
            "a name that is not UTF-8",
            &[&command, &[1, 7, 0, 0, 0, 0xFF, 0xFE, 0]],
        ),
    ];
    let sizes = |honest: usize| {
        let honest = i32::try_from(honest).unwrap();
        [
            i32::MIN,
            -1,
            0,
            3,
            4,
            honest - 1,
            honest + 1,
            honest + 1000,
            i32::MAX,
        ]
    };
    for lie in sizes(documents.len() - 1) {
        let mut section = documents.clone();
        section[1..5].copy_from_slice(&lie.to_le_bytes());
        for sections in [[&command[..], &section], [&section, &command]] {
            cases.push(parted(&format!("a sequence of size {lie}"), &sections));
        }
    }
    for lie in sizes(command.len() - 1) {
        let mut section = command.clone();
        section[1..5].copy_from_slice(&lie.to_le_bytes());
        cases.push(parted(&format!("a body of size {lie}"), &[&section]));
    }
    for bit in 2..16 {
        let frame = msg(1 << bit, &[&command[..], &documents].concat());
        cases.push(case(
            format!("required flag {bit}"),
            frame,
            Parted(MALFORMED),
        ));
    }
    for at in [9, 30, 60] {
        let mut frame = msg(flag::CHECKSUM_PRESENT, &[&command[..], &documents].concat());
        frame[at] ^= 1;
        cases.push(case(
            format!("checksum, byte {at}"),
            frame,
            Parted(MALFORMED),
        ));
    }
    let short = frame(opcode::MSG, &[1, 0, 0, 0]);
    cases.push(case(
        "a checksum that is not there",
        short,
        Parted(MALFORMED),
    ));
    cases.push(case("no flags", frame(opcode::MSG, &[]), Closed));
    let unheard = msg(flag::MORE_TO_COME, &command.repeat(2));
    cases.push(case("two bodies, no reply wanted", unheard, Closed));
    for compressor in [Compressor::Snappy, Compressor::Zlib, Compressor::Zstd] {
        let frame = packed(compressor, &msg(0, &command.repeat(2)));
        cases.push(case(
            format!("two bodies in {}", compressor.name()),
            frame,
            Parted(MALFORMED),
        ));
    }
    try_all(&proxy, cases).await;
    assert_well(set, &mut proxy, &database).await;
}

#[tokio::test]
async fn a_command_that_makes_no_sense_is_refused_and_the_connection_goes_on() {
    let (set, mut proxy, database) = start("").await;
    let uuid = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: vec![7; 16],
    };
    let find = |target: Bson| msg(0, &body(&doc! { "find": target, "$db": &database }));
    let cases = vec![
        case("an empty body", msg(0, &body(&doc! {})), Refused(MALFORMED)),
        case(
            "no $db",
            msg(0, &body(&doc! { "find": "people" })),
            Refused(MALFORMED),
        ),
        case(
            "$db a number",
            msg(0, &body(&doc! { "find": "people", "$db": 1 })),
            Refused(MALFORMED),
        ),
        case("$db twice", msg(0, &twice(&database)), Refused(MALFORMED)),
        case(
            "a collection by UUID",
            find(uuid.into()),
            Refused(NOT_SUPPORTED),
        ),
        case(
            "a collection by symbol",
            find(Bson::Symbol("people".into())),
            Refused(NOT_SUPPORTED),
        ),
        case(
            "a collection by number",
            find(Bson::Int32(1)),
            Refused(NOT_SUPPORTED),
        ),
        case(
            "a collection by document",
            find(doc! {}.into()),
            Refused(NOT_SUPPORTED),
        ),
        case(
            "an unknown command",
            msg(0, &body(&doc! { "nonsense": 1, "$db": "x" })),
            Refused(UNKNOWN),
        ),
        case(
            "a database that cannot be",
            msg(0, &body(&doc! { "find": "c", "$db": "a/b" })),
            MongoDb,
        ),
        case(
            "OP_QUERY on a collection",
            query(
                &format!("{database}.people"),
                &document(&doc! { "ssn": "1" }),
            ),
            Refused(UNKNOWN),
        ),
        case(
            "OP_QUERY of an insert",
            query(
                &format!("{database}.$cmd"),
                &document(&doc! { "insert": "people" }),
            ),
            Refused(UNKNOWN),
        ),
        case(
            "OP_QUERY of nothing",
            query("admin.$cmd", &document(&doc! {})),
            Refused(UNKNOWN),
        ),
        case(
            "OP_QUERY cut off",
            query("admin.$cmd", &[]),
            Parted(MALFORMED),
        ),
        case(
            "OP_QUERY and more",
            query("admin.$cmd", &document(&doc! {}).repeat(3)),
            Parted(MALFORMED),
        ),
    ];
    try_all(&proxy, cases).await;
    assert_well(set, &mut proxy, &database).await;
}

/// A body with two `$db`: what is decided on must be what MongoDB goes by.
fn twice(database: &str) -> Vec<u8> {
    // `$dc` has the place of a second `$db` in a document that can be written as such.
    let mut body = body(&doc! { "find": "people", "$db": "other", "$dc": database });
    let at = body.windows(4).position(|bytes| bytes == b"$dc\0").unwrap();
    body[at + 2] = b'b';
    body
}
