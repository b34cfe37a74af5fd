//! Bytes that nobody thought of.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_of_garbage_at_once_disturb_nobody() {
    let (set, mut proxy, database) = start("").await;
    let seed = Random::seed();
    let address = &proxy.addresses()[0].clone();
    let good = Wire::connect(address);
    let garbage = (0..200).map(|client| async move {
        let mut random = Random::new(seed.wrapping_add(client));
        let mut bytes: Vec<u8> = (0..random.below(20_000)).map(|_| random.byte()).collect();
        // Half of them have a header that lets them in.
        if client % 2 == 0 && bytes.len() > 16 {
            let length = i32::try_from(bytes.len()).unwrap();
            let opcode = [2013, 2012, 2004][random.below(3)];
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            bytes[12..16].copy_from_slice(&i32::to_le_bytes(opcode));
        }
        let mut wire = Wire::connect(address).await;
        wire.send(&bytes).await;
        wire.finish().await;
        wire.receive_all().await;
    });
    let (mut good, _) = tokio::join!(good, join_all(garbage));
    assert!(good.works().await);
    assert_well(set, &mut proxy, &database).await;
}

/// How many changed frames each of the clients sends.
const CHANGED_FRAMES: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_with_random_changes_are_answered_or_end_the_connection() {
    let (set, mut proxy, database) = start("").await;
    // A changed name may differ from it in case alone, and MongoDB has only one of the two.
    let direct = set.client().await.database(&database);
    direct.create_collection("first").await.unwrap();
    let seed = Random::seed();
    let mut frames = vec![insert(&database), find(&database), update(&database)];
    frames.push(query(
        "admin.$cmd",
        &document(&doc! { "isMaster": 1, "compression": ["zlib"] }),
    ));
    frames.push(packed(Compressor::Snappy, &insert(&database)));
    frames.push(packed(Compressor::Noop, &find(&database)));
    let (frames, address) = (&frames, &proxy.addresses()[0].clone());
    let clients = (0..8).map(|client| async move {
        let mut random = Random::new(seed.wrapping_add(client));
        let mut wire = None;
        let mut answers = 0;
        for _ in 0..CHANGED_FRAMES {
            let changed = changed(&frames[random.below(frames.len())], &mut random);
            let mut open = match wire.take() {
                Some(open) => open,
                None => Wire::connect(address).await,
            };
            open.send(&changed).await;
            if !wants_answer(&changed) {
                open.finish().await;
                open.receive_all().await;
            } else if let Some(reply) = open.receive().await {
                answers += 1;
                // After a malformed message the connection may be over.
                let malformed = [b"\x10code\0", &MALFORMED.to_le_bytes()[..]].concat();
                let over = reply
                    .windows(malformed.len())
                    .any(|bytes| bytes == malformed);
                wire = (!over).then_some(open);
            }
        }
        answers
    });
    let answers: usize = join_all(clients).await.iter().sum();
    assert!(
        answers > CHANGED_FRAMES,
        "only {answers} frames were answered"
    );
    assert_well(set, &mut proxy, &database).await;
}

/// The frame with one to four bytes flipped, put in or taken out; the header's
/// length is mostly mended, so that the change gets beyond it.
fn changed(frame: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for _ in 0..=random.below(4) {
        // The ids stay, and mostly so do the length and the opcode.
        let from = if random.below(10) == 0 { 0 } else { 16 };
        let at = from + random.below(bytes.len() - from);
        match random.below(4) {
            0 => bytes.insert(at, random.byte()),
            1 => drop(bytes.remove(at)),
            2 => bytes[at] ^= 1 << random.below(8),
            _ => bytes[at] = random.byte(),
        }
    }
    if random.below(20) > 0 {
        let length = i32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
    }
    if random.below(5) > 0 && int32_at(&bytes, 12) == opcode::MSG {
        return numbered(bytes, 7);
    }
    bytes
}

/// Whether a frame is whole and sure to be answered, or its connection closed.
fn wants_answer(frame: &[u8]) -> bool {
    let whole = usize::try_from(int32_at(frame, 0)) == Ok(frame.len());
    let unheard = int32_at(frame, 12) == opcode::MSG
        && frame
            .get(16)
            .is_none_or(|flags| u32::from(*flags) & flag::MORE_TO_COME != 0);
    // A compressed one would have to be inflated to know.
    whole && !unheard && int32_at(frame, 12) != opcode::COMPRESSED
}
