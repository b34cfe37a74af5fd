//! The key file, when its writers end half way, the disk is full, or someone puts an old one back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::*;
use crate::support::{PATIENCE, Process};

const FILES: [&str; 5] = [
    "fieldseal.toml",
    "keyring.json",
    "keyring.json.lock",
    "schema.toml",
    "unseal",
];

fn ids(keyring: &Keyring) -> BTreeSet<u32> {
    let key = keyring.key("default").unwrap();
    key.versions.iter().map(|version| version.id.0).collect()
}

#[test]
fn a_writer_that_is_killed_at_any_moment_leaves_the_old_file_or_the_new_one() {
    let place = Place::new();
    let started = Instant::now();
    place.done(&["keys", "rotate", "default"]);
    let whole = started.elapsed();
    let (mut kept, mut written) = (0, 0);
    for round in 0..60 {
        let before = place.keyring();
        let mut child = place
            .command(&["keys", "rotate", "default"])
            .spawn()
            .unwrap();
        // Up to thrice as long, in case the machine has become slower.
        std::thread::sleep(whole * round / 20);
        child.kill().unwrap();
        child.wait().unwrap();
        let after = place.keyring();
        assert!(ids(&after).is_superset(&ids(&before)));
        match after.generation - before.generation {
            0 => kept += 1,
            1 => written += 1,
            more => panic!("{more} generations"),
        }
    }
    assert!(kept > 0 && written > 0, "{kept} kept, {written} written");
    place.done(&["keys", "rotate", "default"]);
    assert_eq!(place.keyring().generation, 3 + written);
    assert_eq!(place.files(), FILES);
}

/// The command, allowed to write files of 512 bytes at most.
fn confined(place: &Place, first: &str) -> std::process::Output {
    let script = format!("{first}; ulimit -f 1; exec \"$@\"");
    let fieldseal = place.command(&["keys", "rotate", "default"]);
    Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(fieldseal.get_program())
        .args(fieldseal.get_args())
        .output()
        .unwrap()
}

#[test]
fn a_disk_without_room_leaves_the_old_file() {
    let place = Place::new();
    for _ in 0..5 {
        place.done(&["keys", "rotate", "default"]);
    }
    let before = fs::read(place.key_file()).unwrap();
    assert!(before.len() > 1024);
    let full = confined(&place, "trap '' XFSZ");
    let said = error_text(&full);
    assert_eq!(full.status.code(), Some(1), "{said}");
    assert!(said.contains("keyring.json: cannot be written: "), "{said}");
    assert_eq!(fs::read(place.key_file()).unwrap(), before);
    assert_eq!(place.files(), FILES);
    // The same, killed in the middle of the write.
    let killed = confined(&place, ":");
    assert_eq!(killed.status.code(), None, "{}", error_text(&killed));
    assert_eq!(fs::read(place.key_file()).unwrap(), before);
    let generation = place.keyring().generation;
    place.done(&["keys", "rotate", "default"]);
    assert_eq!(place.keyring().generation, generation + 1);
    assert_eq!(place.files(), FILES);
}

#[test]
fn of_writers_at_the_same_time_none_undoes_what_another_did() {
    let place = Place::new();
    let writers: Vec<_> = (0..8)
        .map(|_| {
            place
                .command(&["keys", "rotate", "default"])
                .spawn()
                .unwrap()
        })
        .collect();
    let mut done = 0;
    for writer in writers {
        let output = writer.wait_with_output().unwrap();
        if output.status.success() {
            done += 1;
        } else {
            let said = error_text(&output);
            assert!(
                said.contains("is being written by another process"),
                "{said}"
            );
        }
    }
    let keyring = place.keyring();
    assert!(done > 0);
    assert_eq!(keyring.generation, 1 + done);
    assert_eq!(u64::try_from(ids(&keyring).len()).unwrap(), 1 + done);
}

/// Starts the proxy of a place, waits until it serves, and ends it.
async fn serve(place: &Place) {
    let directory = new_directory("served");
    let mut process = Process::start(&place.command(&["serve"]), directory);
    let deadline = Instant::now() + PATIENCE;
    while !process.output().contains("serving") {
        assert!(process.ended().is_none(), "{}", process.output());
        assert!(Instant::now() < deadline, "{}", process.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_old_key_file_put_back_is_noticed_by_commands_and_at_a_start() {
    let place = Place::new();
    let old = fs::read(place.key_file()).unwrap();
    place.done(&["keys", "rotate", "default"]);
    place.done(&["keys", "disable", "default", "--version", "1"]);
    let new = fs::read(place.key_file()).unwrap();
    let mark = place.directory.join("keyring.json.lock");
    for by_a_proxy in [false, true] {
        if by_a_proxy {
            // On a machine where no command ever ran, that only got copies of the file.
            fs::write(place.key_file(), &new).unwrap();
            fs::remove_file(&mark).unwrap();
            serve(&place).await;
        }
        fs::write(place.key_file(), &old).unwrap();
        for command in [
            &["serve"][..],
            &["check"],
            &["keys", "list"],
            &["keys", "rotate", "default"],
        ] {
            let said = place.refused(command);
            assert!(said.contains("went back from generation 3 to 1"), "{said}");
            assert!(said.contains(mark.to_str().unwrap()), "{said}");
        }
        assert_eq!(fs::read(place.key_file()).unwrap(), old);
    }
    // As it says: for one who means it.
    fs::remove_file(&mark).unwrap();
    place.done(&["check"]);
}
