//! The guided tour shows what it promises and leaves nothing behind.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::{Place, run};
use crate::support::{PATIENCE, Process, error_text, mongod_path};

#[tokio::test]
async fn the_demo_shows_no_plaintext_on_mongodbs_side_and_leaves_nothing_behind() {
    let place = Place::new();
    let folder = place.path("tmp");
    fs::create_dir(&folder).unwrap();
    let mongod = mongod_path();
    let environment = [("FIELDSEAL_MONGOD", &*mongod), ("TMPDIR", &*folder)];
    let output = run(["demo", "--exit"], &environment).await;
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    assert_eq!(error_text(&output), "");
    assert_nothing_left(&folder);

    let tour = String::from_utf8(output.stdout).unwrap();
    let (service, mongodb) = side_by_side(&tour);
    for secret in [
        "Ada Marsh",
        "ada@example.com",
        "12 Quay Rd",
        "Leith",
        "4929 1234 5678 9012",
        "declined",
    ] {
        assert!(service.contains(secret), "{secret}: {tour}");
        assert!(!mongodb.contains(secret), "{secret}: {tour}");
    }
    assert!(
        mongodb.contains("sealed f5ea1d") && mongodb.contains("token "),
        "{tour}"
    );
    // What is open is open on both sides.
    for open in ["\"gold\"", "Kind of Blue", "\"09/29\""] {
        assert!(
            service.contains(open) && mongodb.contains(open),
            "{open}: {tour}"
        );
    }
    assert!(
        tour.contains("IXSCAN") && tour.contains("`$regex` cannot be used"),
        "{tour}"
    );
    let keys: Vec<&str> = tour
        .lines()
        .filter_map(|line| Some(line.split_once("under key id ")?.1))
        .collect();
    assert!(
        matches!(keys[..], [a, b, c, new] if a == b && b == c && c != new),
        "{tour}"
    );
}

#[tokio::test]
async fn the_demo_over_tls_turns_away_who_speaks_without_and_leaves_nothing_behind() {
    let place = Place::new();
    let folder = place.path("tmp");
    fs::create_dir(&folder).unwrap();
    let mongod = mongod_path();
    let environment = [("FIELDSEAL_MONGOD", &*mongod), ("TMPDIR", &*folder)];
    let output = run(["demo", "--tls", "--exit"], &environment).await;
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    assert_eq!(error_text(&output), "");
    assert_nothing_left(&folder);
    let tour = String::from_utf8(output.stdout).unwrap();
    let away = tour.matches("a client without TLS is turned away");
    assert_eq!(away.count(), 2, "{tour}");
    let strings = tour.lines().filter(|line| line.contains("mongodb://"));
    let complete = strings.filter(|line| {
        let options = ["tls=true", "tlsCAFile=", "tlsCertificateKeyFile="];
        options.iter().all(|option| line.contains(option))
    });
    assert_eq!(complete.count(), 2, "{tour}");
    let (_, mongodb) = side_by_side(&tour);
    assert!(!mongodb.contains("Ada Marsh"), "{tour}");
}

#[tokio::test]
async fn a_demo_that_is_told_to_stop_leaves_nothing_behind() {
    for (signal, once) in [
        ("TERM", "mongosh with either"),
        ("INT", "mongosh with either"),
        ("TERM", "Starting a mongod"),
    ] {
        let place = Place::new();
        let folder = place.path("tmp");
        fs::create_dir(&folder).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fieldseal"));
        command
            .arg("demo")
            .env("TMPDIR", &folder)
            .env("FIELDSEAL_MONGOD", mongod_path());
        let mut demo = Process::start(&command, place.directory.clone());
        let deadline = Instant::now() + PATIENCE;
        while !demo.output().contains(once) {
            assert!(
                demo.ended().is_none() && Instant::now() < deadline,
                "{}",
                demo.output()
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        fs::write(place.path("keep"), "").unwrap();
        demo.signal(signal);
        assert_eq!(
            demo.wait().await.code(),
            Some(0),
            "{signal}: {}",
            demo.output()
        );
        assert_nothing_left(&folder);
    }
}

/// No file in `folder`, and no process that was told of it.
#[track_caller]
fn assert_nothing_left(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let name = folder.to_string_lossy();
    for process in fs::read_dir("/proc").into_iter().flatten() {
        let command = fs::read(process.unwrap().path().join("cmdline"));
        let command = String::from_utf8_lossy(&command.unwrap_or_default()).into_owned();
        assert!(!command.contains(&format!("{name}/")), "{command}");
    }
}

/// What the service reads and what MongoDB stores, of the second chapter.
fn side_by_side(tour: &str) -> (String, String) {
    let (_, chapter) = tour.split_once("\n2. ").unwrap();
    let (chapter, _) = chapter.split_once("\n3. ").unwrap();
    let heading = chapter
        .lines()
        .find(|line| line.ends_with("in MongoDB"))
        .unwrap();
    let width = heading.chars().count() - "in MongoDB".len();
    let mut sides = (String::new(), String::new());
    for line in chapter.lines().skip(2) {
        let left: String = line.chars().take(width).collect();
        let right: String = line.chars().skip(width).collect();
        sides.0 += &format!("{left}\n");
        sides.1 += &format!("{right}\n");
    }
    sides
}
