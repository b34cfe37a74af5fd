//! Logs that are written, harmed and verified.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use super::*;
use crate::keyring::{Part, Step, Which};

/// A directory that is gone when the test ends.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Place {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("fieldseal-audit-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn write(&self, lines: &[String]) {
        std::fs::write(self.file(), lines.join("\n") + "\n").unwrap();
    }

    fn open(&self, keyring: &Keyring, max_bytes: u64) -> Result<Log, AuditError> {
        let key = AuditKey::active(keyring, "default").unwrap();
        let rotation = Rotation {
            max_bytes,
            keep: None,
        };
        Log::open(&self.file(), key, rotation, Event::new(""), Duration::ZERO)
    }

    fn log(&self, keyring: &Keyring) -> Log {
        self.open(keyring, u64::MAX).unwrap()
    }

    fn verdict(&self, keyring: &Keyring) -> Verdict {
        verify(&[self.file()], keyring, None).unwrap()
    }
}

fn keyring() -> Keyring {
    Keyring::generate(["default"]).unwrap()
}

fn events(count: u64) -> Vec<(String, Event)> {
    let event = |number| ("now".to_owned(), Event::new("read").with("number", number));
    (0..count).map(event).collect()
}

/// A file of a start, `count` lines and an end.
fn whole(place: &Place, keyring: &Keyring, count: u64) {
    let mut log = place.log(keyring);
    for event in events(count) {
        log.append(&[event]).unwrap();
    }
    log.end("stop").unwrap();
}

#[track_caller]
fn is_whole(verdict: &Verdict, lines: u64) {
    assert!(verdict.is_whole(), "{:?}", verdict.problems);
    assert_eq!(verdict.lines, lines);
}

/// The number of the first line that is wrong.
#[track_caller]
fn first_wrong(verdict: &Verdict) -> u64 {
    assert!(!verdict.is_whole(), "{verdict:?}");
    verdict.problems[0].line
}

#[test]
fn a_log_that_was_stopped_and_gone_on_with_is_whole() {
    let (place, keyring) = (Place::new("whole"), keyring());
    for round in 1..=3 {
        whole(&place, &keyring, 5);
        let verdict = place.verdict(&keyring);
        is_whole(&verdict, round * 7);
        assert!(verdict.unfinished.is_empty());
        assert_eq!(verdict.head.unwrap().seq, round * 7);
    }
}

#[test]
fn any_changed_byte_is_found_in_its_line() {
    let (place, keyring) = (Place::new("bytes"), keyring());
    whole(&place, &keyring, 3);
    let whole = std::fs::read(place.file()).unwrap();
    let mut line = 1;
    for at in 0..whole.len() {
        for bit in [0, 3] {
            let mut harmed = whole.clone();
            harmed[at] ^= 1 << bit;
            std::fs::write(place.file(), harmed).unwrap();
            let verdict = place.verdict(&keyring);
            // A line break that became something else joins two lines.
            assert!(!verdict.is_whole() || at + 1 == whole.len(), "byte {at}");
            if whole[at] != b'\n' {
                assert_eq!(first_wrong(&verdict), line, "byte {at}: {verdict:?}");
            }
        }
        line += u64::from(whole[at] == b'\n');
    }
}

#[test]
fn lines_that_are_missing_moved_repeated_or_put_in_are_named() {
    let (place, keyring) = (Place::new("lines"), keyring());
    whole(&place, &keyring, 8);
    let lines = place.lines();
    let last = lines.len() - 1;
    let verdict = |harmed: &[String]| {
        place.write(harmed);
        place.verdict(&keyring)
    };
    for at in 0..last {
        let number = u64::try_from(at).unwrap() + 1;
        let mut harmed = lines.clone();
        harmed.remove(at);
        assert_eq!(first_wrong(&verdict(&harmed)), number, "without {number}");

        let mut harmed = lines.clone();
        harmed.swap(at, at + 1);
        assert_eq!(first_wrong(&verdict(&harmed)), number, "{number} moved");

        let mut harmed = lines.clone();
        harmed.insert(at + 1, lines[at].clone());
        assert_eq!(
            first_wrong(&verdict(&harmed)),
            number + 1,
            "{number} is there twice"
        );

        let mut harmed = lines.clone();
        harmed.insert(at + 1, "{\"seq\":3}".to_owned());
        assert_eq!(first_wrong(&verdict(&harmed)), number + 1, "put in");

        let mut harmed = lines.clone();
        harmed[at] = String::new();
        assert_eq!(first_wrong(&verdict(&harmed)), number, "emptied");
    }
}

#[test]
fn numbers_that_jump_ahead_again_and_again_are_not_worked_through() {
    let (place, keyring) = (Place::new("jumps"), keyring());
    whole(&place, &keyring, 1);
    let mut lines = place.lines();
    lines.truncate(1);
    for jump in 1..=1000_u64 {
        let seq = jump * 1_000_000;
        let mac = "0".repeat(64);
        lines.push(format!(
            "{{\"seq\":{seq},\"event\":\"x\",\"mac\":\"{mac}\"}}"
        ));
    }
    place.write(&lines);
    let verdict = place.verdict(&keyring);
    assert!(!verdict.is_whole());
    let given_up = |place: &&super::Place| place.what.contains("too many lines are missing");
    assert_eq!(verdict.problems.iter().filter(given_up).count(), 1);
}

#[test]
fn one_changed_line_does_not_make_the_others_wrong() {
    let (place, keyring) = (Place::new("one"), keyring());
    whole(&place, &keyring, 8);
    let mut lines = place.lines();
    lines[4] = lines[4].replace("read", "raed");
    place.write(&lines);
    let problems = place.verdict(&keyring).problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!((problems[0].line, problems[0].seq), (5, Some(5)));
}

#[test]
fn what_is_cut_off_at_the_end_is_unfinished_and_a_head_tells_more() {
    let (place, keyring) = (Place::new("cut"), keyring());
    whole(&place, &keyring, 3);
    let whole = std::fs::read(place.file()).unwrap();
    let head = place.verdict(&keyring).head;
    let mut starts = vec![];
    for length in 1..whole.len() - 1 {
        std::fs::write(place.file(), &whole[..length]).unwrap();
        let verdict = place.verdict(&keyring);
        assert!(verdict.is_whole(), "{length}: {:?}", verdict.problems);
        assert!(!verdict.unfinished.is_empty(), "{length}");
        let line = verdict.unfinished.last().unwrap().line;
        starts.push(line);
        let anchored = verify(&[place.file()], &keyring, head).unwrap();
        assert!(!anchored.is_whole(), "{length}");
    }
    assert!(starts.is_sorted());
    // No more than the last line break.
    std::fs::write(place.file(), &whole[..whole.len() - 1]).unwrap();
    let verdict = verify(&[place.file()], &keyring, head).unwrap();
    assert!(verdict.is_whole() && verdict.unfinished.is_empty());
}

#[test]
fn a_head_is_found_where_it_is() {
    let (place, keyring) = (Place::new("head"), keyring());
    let mut log = place.log(&keyring);
    let mut heads = Vec::new();
    for event in events(3) {
        log.append(&[event]).unwrap();
        heads.push(log.head().unwrap());
    }
    drop(log);
    let verdict = |head| verify(&[place.file()], &keyring, Some(head)).unwrap();
    for head in &heads {
        assert!(verdict(*head).is_whole());
    }
    let other = Head {
        seq: heads[1].seq,
        mac: heads[0].mac,
    };
    assert_eq!(first_wrong(&verdict(other)), heads[1].seq);
}

#[test]
fn a_writer_that_is_killed_at_any_byte_is_gone_on_from() {
    let (place, keyring) = (Place::new("killed"), keyring());
    whole(&place, &keyring, 2);
    let whole_file = std::fs::read(place.file()).unwrap();
    for length in (0..whole_file.len()).chain([whole_file.len() - 1]) {
        std::fs::write(place.file(), &whole_file[..length]).unwrap();
        whole(&place, &keyring, 1);
        let verdict = place.verdict(&keyring);
        assert!(verdict.is_whole(), "{length}: {:?}", verdict.problems);
        let clean = length == 0 || length >= whole_file.len() - 1;
        assert_eq!(verdict.unfinished.is_empty(), clean, "{length}");
        // What is torn cannot be exchanged afterwards.
        let text = std::fs::read(place.file()).unwrap();
        if text.windows(6).any(|window| window == b"\"torn\"") {
            let mut harmed = text.clone();
            harmed[length - 1] ^= 1;
            std::fs::write(place.file(), harmed).unwrap();
            assert!(!place.verdict(&keyring).is_whole(), "{length}");
        }
    }
}

#[test]
fn files_that_were_put_aside_are_one_chain() {
    let (place, keyring) = (Place::new("aside"), keyring());
    let mut log = place.open(&keyring, 2000).unwrap();
    for event in events(60) {
        log.append(&[event]).unwrap();
    }
    log.end("stop").unwrap();
    drop(log);
    let aside = predecessors(&place.file());
    assert!(aside.len() > 2, "{aside:?}");
    for (_, file) in &aside {
        assert!(std::fs::metadata(file).unwrap().len() <= 2500);
    }
    let mut files: Vec<PathBuf> = aside.into_iter().map(|(_, file)| file).collect();
    files.push(place.file());
    let verdict = |files: &[PathBuf]| verify(files, &keyring, None).unwrap();
    let all = verdict(&files);
    assert!(all.is_whole(), "{:?}", all.problems);
    assert!(all.unfinished.is_empty() && all.goes_on_from.is_none());
    // The last ones alone say that they are not all.
    let some = verdict(&files[1..]);
    assert!(some.is_whole() && some.goes_on_from.is_some());
    let mut without = files.clone();
    let next = without[2].clone();
    without.remove(1);
    let verdict_without = verdict(&without);
    assert_eq!(verdict_without.problems[0].file, next);
    let mut swapped = files.clone();
    swapped.swap(0, 1);
    assert!(!verdict(&swapped).is_whole());
    // A restart between the two steps of a rotation goes on from what was put aside.
    std::fs::remove_file(place.file()).unwrap();
    files.pop();
    whole(&place, &keyring, 1);
    files.push(place.file());
    // The chain was at its end in the file that is gone now.
    assert!(verdict(&files).is_whole());
}

#[test]
fn a_file_with_the_last_of_all_numbers_does_not_stop_the_log() {
    let (place, keyring) = (Place::new("number"), keyring());
    let planted = place.0.join(format!("audit.jsonl.{}", u64::MAX));
    std::fs::write(&planted, "nothing of ours\n").unwrap();
    let mut log = place.open(&keyring, 2000).unwrap();
    while predecessors(&place.file()).len() < 3 {
        log.append(&events(1)).unwrap();
    }
    let found: Vec<u64> = predecessors(&place.file())
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(found, [1, 2, 3]);
    assert!(planted.exists());
}

#[test]
fn only_so_many_files_are_kept() {
    let (place, keyring) = (Place::new("keep"), keyring());
    let key = AuditKey::active(&keyring, "default").unwrap();
    let rotation = Rotation {
        max_bytes: 1000,
        keep: Some(2),
    };
    let about = Event::new("");
    let mut log = Log::open(&place.file(), key, rotation, about, Duration::ZERO).unwrap();
    for event in events(60) {
        log.append(&[event]).unwrap();
    }
    let numbers: Vec<u64> = predecessors(&place.file())
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(numbers.len(), 2);
    assert!(numbers[0] > 5, "{numbers:?}");
}

#[test]
fn a_log_has_one_writer() {
    let (place, keyring) = (Place::new("writers"), keyring());
    let mut log = place.log(&keyring);
    log.begin().unwrap();
    let error = place.open(&keyring, 1000).err().unwrap().to_string();
    assert!(error.contains("another process"), "{error}");
    let verdict = place.verdict(&keyring);
    assert!(verdict.in_use && verdict.unfinished.is_empty());
    drop(log);
    assert!(!place.verdict(&keyring).in_use);
    place.log(&keyring);
}

#[test]
fn something_else_is_not_added_to() {
    let (place, keyring) = (Place::new("other"), keyring());
    for text in ["hello\n", "hello", "{}\n", "\n"] {
        std::fs::write(place.file(), text).unwrap();
        let error = place.open(&keyring, 1000).err().unwrap().to_string();
        assert!(error.contains("does not end as"), "{error}");
        assert_eq!(std::fs::read_to_string(place.file()).unwrap(), text);
    }
}

#[test]
fn a_log_outlives_rotations_of_its_key_but_not_the_end_of_it() {
    let (place, mut keyring) = (Place::new("keys"), keyring());
    whole(&place, &keyring, 2);
    let mut log = place.log(&keyring);
    log.append(&events(1)).unwrap();
    keyring.rotate("default", None).unwrap();
    let key = AuditKey::active(&keyring, "default").unwrap();
    log.renew(key, log_rotation()).unwrap();
    log.append(&events(1)).unwrap();
    log.end("stop").unwrap();
    drop(log);
    // start, 2, end; start, 1, end; start, 1, end.
    is_whole(&place.verdict(&keyring), 10);
    let which = Which {
        key: "default".to_owned(),
        part: Part::Version,
        number: Some(1),
    };
    keyring.step(Step::Disable, &which).unwrap();
    is_whole(&place.verdict(&keyring), 10);
    keyring.step(Step::Destroy, &which).unwrap();
    let verdict = place.verdict(&keyring);
    let lines: Vec<u64> = verdict.problems.iter().map(|place| place.line).collect();
    assert_eq!(lines, [1, 5], "{:?}", verdict.problems);
    assert!(verdict.problems[0].what.contains("destroyed"));
}

fn log_rotation() -> Rotation {
    Rotation {
        max_bytes: u64::MAX,
        keep: None,
    }
}

#[test]
fn a_log_under_another_key_is_not_whole() {
    let (place, keyring) = (Place::new("forged"), keyring());
    whole(&place, &keyring, 2);
    let other = Keyring::generate(["default"]).unwrap();
    let verdict = place.verdict(&other);
    assert!(verdict.problems[0].what.contains("not in the key file"));
    // And under another key of the same id.
    let mut forged = keyring.clone();
    forged.keys[0].versions[0].material = Some(Material::new([1; 32]));
    let verdict = place.verdict(&forged);
    assert_eq!(verdict.problems[0].line, 1);
}

#[test]
fn an_older_copy_that_was_put_back_is_found_by_a_head() {
    let (place, keyring) = (Place::new("old"), keyring());
    whole(&place, &keyring, 2);
    let old = std::fs::read(place.file()).unwrap();
    whole(&place, &keyring, 2);
    let head = place.verdict(&keyring).head;
    std::fs::write(place.file(), old).unwrap();
    whole(&place, &keyring, 2);
    assert!(place.verdict(&keyring).is_whole());
    let verdict = verify(&[place.file()], &keyring, head).unwrap();
    assert_eq!(verdict.problems[0].seq, head.map(|head| head.seq));
}

#[test]
fn a_file_that_was_taken_away_is_followed_by_another() {
    let (place, keyring) = (Place::new("moved"), keyring());
    let mut log = place.log(&keyring);
    log.append(&events(2)).unwrap();
    let aside = place.0.join("elsewhere");
    std::fs::rename(place.file(), &aside).unwrap();
    log.append(&events(2)).unwrap();
    log.end("stop").unwrap();
    drop(log);
    let verdict = verify(&[aside, place.file()], &keyring, None).unwrap();
    assert!(verdict.is_whole(), "{:?}", verdict.problems);
    assert_eq!(verdict.unfinished.len(), 1);
}
