//! The page in a real browser: Chromium without a window.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use mongodb::bson::{Document, doc};

use super::{LISTEN, proxy, unique_file, wait_until_ready};
use crate::support::{new_directory, shared_replica_set, unique_database};

/// The name of a collection that a client may well choose.
const HOSTILE: &str = "<img src=x onerror=document.title='owned'>";

/// The browser that `FIELDSEAL_CHROMIUM` names, else one on `PATH`.
fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("FIELDSEAL_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut programs = names.iter().flat_map(|name| {
        let programs = folders.iter().map(move |folder| folder.join(name));
        programs.collect::<Vec<_>>()
    });
    let found = programs.find(|program| program.exists());
    if found.is_none() {
        eprintln!("!!! chromium is not here: the page of the admin endpoint was NOT opened");
    }
    found
}

/// The page as it is after so many milliseconds of its own time, and what the browser logged.
fn opened(chromium: &PathBuf, address: &str, milliseconds: u32) -> (String, String) {
    let profile = new_directory("chromium");
    let mut command = Command::new("timeout");
    command
        .args(["--signal=KILL", "120"])
        .arg(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args([
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
            "--window-size=1200,2400",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--virtual-time-budget={milliseconds}"))
        .args(["--dump-dom", address])
        .stdin(Stdio::null());
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let _ = std::fs::remove_dir_all(profile);
    let log = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{status}: {log}");
    (String::from_utf8_lossy(&stdout).into_owned(), log)
}

#[tokio::test]
async fn a_browser_shows_what_goes_on_and_takes_no_name_for_markup() {
    let Some(chromium) = chromium() else {
        return;
    };
    let set = shared_replica_set().await;
    let database = unique_database("page");
    let schema = format!(
        "[collections.\"{database}.*\".fields]\nssn = {{ type = \"string\", queries = [\"equality\"] }}\n"
    );
    let (proxy, address) = proxy(set, &schema, LISTEN).await;
    wait_until_ready(&address, true).await;
    let collection = proxy.client().await.database(&database);
    let collection = collection.collection::<Document>(HOSTILE);
    collection
        .insert_one(doc! { "ssn": "canary" })
        .await
        .unwrap();
    collection
        .find_one(doc! { "ssn": "canary" })
        .await
        .unwrap()
        .unwrap();
    collection
        .find_one(doc! { "ssn": { "$gt": "a" } })
        .await
        .unwrap_err();

    let (dom, log) = opened(&chromium, &format!("http://{address}/"), 9000);
    let body = dom.split("<body>").nth(1).unwrap();
    for shown in [
        "✓ ready",
        "primary",
        "not_supported",
        ">insert<",
        "Throughput: now commands",
        "default v1",
    ] {
        assert!(body.contains(shown), "{shown}: {body}");
    }
    // The proxy's own names, as they are.
    assert!(body.contains(&format!(">{database}.*<")), "{body}");
    // What a client chose is text.
    assert!(body.contains("&lt;img src=x onerror="), "{body}");
    assert!(!body.contains("<img"), "{body}");
    assert!(dom.contains("<title>Fieldseal</title>"), "{dom}");
    assert!(!body.contains("canary"));
    for trouble in ["Refused to", "Content Security Policy", "Uncaught"] {
        assert!(!log.contains(trouble), "{log}");
    }
}

#[tokio::test]
async fn a_browser_gets_in_with_the_token_as_its_password() {
    let Some(chromium) = chromium() else {
        return;
    };
    let token = unique_file("token", "0123456789abcdef0123");
    let admin = format!("{LISTEN}token = {{ file = {:?} }}\n", token.0);
    let (_proxy, address) = proxy(shared_replica_set().await, "", &admin).await;
    wait_until_ready(&address, true).await;
    let with = |login: &str| opened(&chromium, &format!("http://{login}@{address}/"), 5000).0;
    let page = with("me:0123456789abcdef0123");
    assert!(page.contains("✓ ready"), "{page}");
    let page = with("me:0123456789abcdef0124");
    assert!(!page.contains("Routes and members"), "{page}");
}
