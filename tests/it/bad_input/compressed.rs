//! `OP_COMPRESSED` that is not what it announces.

use super::*;

#[tokio::test]
async fn compressed_messages_that_lie_close_the_connection() {
    let (set, mut proxy, database) = start("").await;
    let plain = insert(&database);
    let sections = &plain[16..];
    let size = i32::try_from(sections.len()).unwrap();
    let mut cases = Vec::new();
    for compressor in [
        Compressor::Noop,
        Compressor::Snappy,
        Compressor::Zlib,
        Compressor::Zstd,
    ] {
        let honest = packed(compressor, &plain);
        let name = compressor.name();
        cases.push(case(format!("{name}, honest"), honest.clone(), Done));
        for lie in [
            i32::MIN,
            -1,
            0,
            1,
            size - 1,
            size + 1,
            40_000_000,
            47_999_985,
            i32::MAX,
        ] {
            let mut frame = honest.clone();
            frame[20..24].copy_from_slice(&lie.to_le_bytes());
            cases.push(case(format!("{name} announces {lie}"), frame, Closed));
        }
        let nested = compressed(
            opcode::COMPRESSED,
            i32::try_from(honest.len() - 16).unwrap(),
            0,
            &honest[16..],
        );
        cases.push(case(format!("{name} within another"), nested, Closed));
        let (id, mut broken) = (honest[24], honest[25..].to_vec());
        let middle = broken.len() / 2;
        broken.truncate(middle);
        cases.push(case(
            format!("{name} cut off"),
            compressed(opcode::MSG, size, id, &broken),
            Closed,
        ));
    }
    for id in [4, 100, 255] {
        cases.push(case(
            format!("compressor {id}"),
            compressed(opcode::MSG, size, id, sections),
            Closed,
        ));
    }
    for length in 0..9 {
        cases.push(case(
            format!("{length} bytes of header"),
            frame(opcode::COMPRESSED, &vec![0; length]),
            Closed,
        ));
    }
    try_all(&proxy, cases).await;
    assert_well(set, &mut proxy, &database).await;
}

#[tokio::test]
async fn compressed_bombs_are_not_inflated_beyond_what_they_announce() {
    let (set, mut proxy, database) = start("").await;
    let zeros = frame(opcode::MSG, &vec![0; 47_000_000]);
    let mut cases = Vec::new();
    for compressor in [Compressor::Zlib, Compressor::Zstd, Compressor::Snappy] {
        let name = compressor.name();
        let mut bomb = packed(compressor, &zeros);
        assert!(compressor == Compressor::Snappy || bomb.len() * 900 < zeros.len());
        cases.push(case(
            format!("{name}, as announced"),
            bomb.clone(),
            Parted(MALFORMED),
        ));
        bomb[20..24].copy_from_slice(&100_i32.to_le_bytes());
        cases.push(case(
            format!("{name}, announced as 100 bytes"),
            bomb,
            Closed,
        ));
    }
    try_all(&proxy, cases).await;
    assert_well(set, &mut proxy, &database).await;
}
