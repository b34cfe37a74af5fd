//! Keys and the unseal secret are in the proxy's memory while they are needed, and nowhere else.

use std::io::{Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fieldseal::seal::FieldId;

use super::*;
use crate::support::{PATIENCE, Process, unique_database};

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The forms in which bytes come into a text by mistake.
fn forms(bytes: &[u8]) -> Vec<String> {
    let list = format!("{bytes:?}");
    vec![
        hexadecimal(bytes),
        hexadecimal(bytes).to_uppercase(),
        STANDARD.encode(bytes).trim_end_matches('=').to_owned(),
        list.trim_matches(['[', ']']).to_owned(),
    ]
}

fn materials(keyring: &Keyring) -> Vec<[u8; 32]> {
    let all = keyring
        .keys
        .iter()
        .flat_map(|key| key.versions.iter().chain(&key.epochs));
    all.filter_map(|it| Some(*it.material.as_ref()?.expose()))
        .collect()
}

#[tokio::test]
async fn no_key_and_no_unseal_secret_is_in_a_log_at_its_most_talkative() {
    let database = unique_database("keys");
    let mut one = Through::start(&database, None).await;
    let mut secrets = materials(&one.keyring());
    secrets.push(SECRET);
    one.insert(1).await;
    one.proxy.keys(&["rotate", "default"]).await;
    one.insert(2).await;
    secrets.extend(materials(&one.keyring()));
    one.proxy
        .keys(&["destroy", "default", "--version", "1", "--yes"])
        .await;
    one.assert_refused(1, &["destroyed"]).await;
    one.assert_reads(2).await;
    fs::write(one.proxy.directory().join("unseal"), "6b".repeat(32)).unwrap();
    one.proxy.process_mut().signal("HUP");
    one.proxy
        .wait_for_log(&["the unseal secret is wrong"])
        .await;
    secrets.push([0x6b; 32]);

    let log = one.proxy.log();
    assert!(log.contains("DEBUG"), "not at its most talkative");
    for secret in &secrets {
        for form in forms(secret) {
            assert!(!log.contains(&form), "{form}");
        }
    }
    let environment = fs::read(format!(
        "/proc/{}/environ",
        one.proxy.process_mut().server()
    ))
    .unwrap();
    let environment = String::from_utf8_lossy(&environment);
    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        assert!(!environment.contains(&form), "{form}");
    }
}

/// Where `needle` is in the memory of a process.
fn in_memory(process: u32, needle: &[u8]) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let mut found = Vec::new();
    for map in maps.lines().filter(|map| map.contains(" rw")) {
        let (from, rest) = map.split_once('-').unwrap();
        let to = rest.split_whitespace().next().unwrap();
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        let read = memory
            .seek(SeekFrom::Start(from))
            .and_then(|_| memory.read_exact(&mut bytes));
        // Some of what the kernel maps cannot be read.
        if read.is_ok() && bytes.windows(needle.len()).any(|window| window == needle) {
            found.push(map.to_owned());
        }
    }
    found
}

/// The same, but for the stacks of its threads, those that have ended among them: copies that the
/// compiler made there are not under our control.
fn on_heap(process: u32, needle: &[u8]) -> Vec<String> {
    let pointer = |task: fs::DirEntry| {
        let call = fs::read_to_string(task.path().join("syscall")).ok()?;
        let pointer = call.split_whitespace().rev().nth(1)?;
        u64::from_str_radix(pointer.strip_prefix("0x")?, 16).ok()
    };
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let pointers: Vec<u64> = tasks.filter_map(|task| pointer(task.unwrap())).collect();
    assert!(!pointers.is_empty());
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    // A stack begins behind a page that nobody may touch; glibc keeps those of threads that ended.
    let guarded = |from: &str| {
        let page = u64::from_str_radix(from, 16).unwrap().saturating_sub(4096);
        let guard = format!("{page:x}-{from} ---p");
        maps.lines().any(|map| map.starts_with(&guard))
    };
    let mut found = in_memory(process, needle);
    found.retain(|map| {
        let (from, rest) = map.split_once('-').unwrap();
        let to = rest.split_whitespace().next().unwrap();
        let is_stack = guarded(from);
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
        !is_stack && !pointers.iter().any(|at| (from..to).contains(at))
    });
    found
}

/// A proxy of `place` that serves, with nothing connected.
async fn serving(place: &Place, environment: &[(&str, &str)]) -> Process {
    let mut serve = place.command(&["serve"]);
    serve.envs(environment.iter().copied());
    let mut process = Process::start(&serve, new_directory("served"));
    let deadline = Instant::now() + PATIENCE;
    while !process.output().contains("serving") {
        assert!(process.ended().is_none(), "{}", process.output());
        assert!(Instant::now() < deadline, "{}", process.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    process
}

#[tokio::test]
async fn the_unseal_secret_is_wiped_from_memory_once_the_keys_are_open() {
    let place = Place::new();
    let passphrase = "a passphrase that is nowhere else 8b1f";
    let new = place.directory.join("new");
    fs::write(&new, passphrase).unwrap();
    place.done(&["keys", "reseal", "--unseal-file", new.to_str().unwrap()]);
    fs::rename(&new, place.directory.join("unseal")).unwrap();
    let process = serving(&place, &[]).await;
    // The path of the key file is there, so the search finds what is there.
    let path = place.key_file();
    assert!(!in_memory(process.server(), path.to_str().unwrap().as_bytes()).is_empty());
    let found = in_memory(process.server(), passphrase.as_bytes());
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_destroyed_key_is_wiped_from_the_memory_of_a_running_proxy() {
    let database = unique_database("keys");
    let mut one = Through::start(&database, None).await;
    one.insert(1).await;
    let material = materials(&one.keyring())[0];
    one.proxy.keys(&["rotate", "default"]).await;
    one.assert_reads(1).await;
    let server = one.proxy.process_mut().server();
    assert!(!in_memory(server, &material).is_empty());
    one.proxy
        .keys(&["destroy", "default", "--version", "1", "--yes"])
        .await;
    one.assert_refused(1, &["destroyed"]).await;
    let found = in_memory(server, &material);
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_cursor_that_is_left_open_keeps_no_destroyed_key_in_memory() {
    let database = unique_database("keys");
    let mut one = Through::start(&database, None).await;
    for id in 1..=6 {
        one.insert(id).await;
    }
    let field = FieldId::of(&format!("{database}.people"), "address");
    let keyring = one.keyring();
    let material = keyring.keys[0].versions[0].material.as_ref().unwrap();
    // What values of the field are sealed with, which is the beginning of what it is expanded to.
    let key = *material.derive(&[b"fieldseal/v1/seal", &field.0]).expose();
    let moved = [doc! { "$project": { "moved": "$address" } }];
    let mut cursor = one.people.aggregate(moved).batch_size(2).await.unwrap();
    assert!(cursor.advance().await.unwrap());
    one.proxy.keys(&["rotate", "default"]).await;
    one.assert_reads(1).await;
    let server = one.proxy.process_mut().server();
    assert!(!on_heap(server, &key).is_empty());
    one.proxy
        .keys(&["destroy", "default", "--version", "1", "--yes"])
        .await;
    one.assert_refused(1, &["destroyed"]).await;
    let found = on_heap(server, &key);
    assert!(found.is_empty(), "{found:?}");
    // It is still open, and what it holds is refused.
    assert!(cursor.advance().await.unwrap());
    let refused = cursor.advance().await.unwrap_err();
    assert!(refused.to_string().contains("destroyed"), "{refused}");
}

#[tokio::test]
async fn the_environment_of_the_proxy_is_what_its_user_made_it() {
    let place = Place::new();
    let text = fs::read_to_string(&place.configuration).unwrap();
    let text = text.replace(
        "{ file = \"unseal\" }",
        "{ env = \"FIELDSEAL_TEST_UNSEAL\" }",
    );
    fs::write(&place.configuration, text).unwrap();
    let secret = hexadecimal(&SECRET);
    let process = serving(&place, &[("FIELDSEAL_TEST_UNSEAL", &secret)]).await;
    let environment = fs::read(format!("/proc/{}/environ", process.server())).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert_eq!(environment.matches(&secret).count(), 1);
    let keyring = KeyFile::open(&place.key_file(), &super::secret()).unwrap();
    let log = process.output();
    for form in materials(&keyring).iter().flat_map(|it| forms(it)) {
        assert!(!environment.contains(&form) && !log.contains(&form));
    }
    assert!(!log.contains(&secret));
}

#[test]
fn nothing_of_a_keyring_or_a_secret_shows_when_it_is_printed() {
    let place = Place::new();
    let keyring = place.keyring();
    let printed = format!("{keyring:?} {:?}", secret());
    for bytes in materials(&keyring).iter().chain([&SECRET]) {
        for form in forms(bytes) {
            assert!(!printed.contains(&form), "{form}");
        }
    }
}
