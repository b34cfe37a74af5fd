//! What happens when it cannot be written.

use std::process::Command;

use super::*;
use crate::support::{Process, command, new_directory, write_configuration};

/// Puts something in the place of the log, so that no more can be written, and gives it back.
async fn in_its_place(audited: &Audited) -> PathBuf {
    let aside = audited.proxy.directory().join("aside.jsonl");
    fs::rename(audited.file(), &aside).unwrap();
    fs::write(audited.file(), "").unwrap();
    aside
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_shown_until_it_can() {
    let mut audited = Audited::start().await;
    let mut client = audited.client().await;
    audited.insert(&mut client, 1).await;
    let aside = in_its_place(&audited).await;
    let answer = client.ask(&audited.find()).await;
    let said = answer.get_str("errmsg").unwrap();
    assert!(said.contains("audit log cannot be written"), "{answer}");
    assert_eq!(answer.get_i32("code").ok(), Some(96));
    assert!(!answer.to_string().contains(CANARY));
    // What there is nothing to tell of goes on.
    assert!(client.works().await);
    assert!(
        !Wire::connect(&audited.proxy.addresses()[0])
            .await
            .works()
            .await
    );
    audited
        .proxy
        .wait_for_log(&["ERROR", "the audit log cannot be written"])
        .await;

    fs::remove_file(audited.file()).unwrap();
    let answer = client.ask(&audited.find()).await;
    assert!(answer.to_string().contains(CANARY), "{answer}");
    assert!(audited.client().await.works().await);
    audited.proxy.wait_for_log(&["written again"]).await;
    let lost = &audited.events("lost")[0];
    assert!(lost["lines"].as_u64().unwrap() >= 2, "{lost}");
    drop(client);
    audited.stop().await;
    let files = [aside.to_str().unwrap(), audited.file().to_str().unwrap()].map(str::to_owned);
    let (code, said) = audited.verify(&[&files[0], &files[1]]);
    assert_eq!(code, 3, "{said:#}");
}

#[tokio::test]
async fn a_warning_is_enough_if_the_configuration_says_so() {
    let mut audited = Audited::start_with("on_failure = \"warn\"\n").await;
    let mut client = audited.client().await;
    audited.insert(&mut client, 1).await;
    in_its_place(&audited).await;
    let answer = client.ask(&audited.find()).await;
    assert!(answer.to_string().contains(CANARY), "{answer}");
    assert!(
        Wire::connect(&audited.proxy.addresses()[0])
            .await
            .works()
            .await
    );
    audited
        .proxy
        .wait_for_log(&["ERROR", "the audit log cannot be written"])
        .await;
}

#[tokio::test]
async fn a_full_disk_leaves_the_chain_whole_and_it_goes_on_when_there_is_room() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        eprintln!("left out: there is no prlimit here");
        return;
    }
    let set = shared_replica_set().await;
    let directory = new_directory("audit");
    let options = ProxyOptions {
        schema: SCHEMA,
        configuration: "[audit]\nfile = \"audit.jsonl\"\n",
        log_level: "info",
        ..ProxyOptions::default()
    };
    let configuration = write_configuration(&directory, &set.addresses(), options);
    let init = fieldseal(&["keys", "init"], &configuration);
    assert!(init.status.success(), "{}", error_text(&init));
    let serve = command(&["serve"], &configuration);
    // 64 kB in any file.
    let script = "trap '' XFSZ; ulimit -S -f 128; exec \"$@\"";
    let mut confined = Command::new("sh");
    confined
        .args(["-c", script, "sh"])
        .arg(serve.get_program())
        .args(serve.get_args());
    confined.env("NO_COLOR", "1");
    let process = Process::start(&confined, directory.clone());
    let file = directory.join("audit.jsonl");
    let address = loop {
        let log = process.output();
        let line = log.lines().find(|line| line.contains("listening"));
        if let Some(address) = line.and_then(|line| line.split("address=").nth(1)) {
            break address.split_whitespace().next().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let database = unique_database("audit");
    let mut client = loop {
        let mut client = Wire::connect(&address).await;
        if client.works().await {
            break client;
        }
    };
    let person = doc! { "_id": 1, "ssn": "s" };
    let insert = doc! { "insert": "people", "documents": [person], "$db": &database };
    client.ask(&insert).await;
    let find = doc! { "find": "people", "$db": &database };
    let mut shown = 0;
    while client.ask(&find).await.get_f64("ok").ok() == Some(1.0) {
        shown += 1;
        assert!(shown < 10_000);
    }
    assert!(shown > 50, "{shown}");
    assert_eq!(events(&file, "read").len(), shown);
    assert!(!Wire::connect(&address).await.works().await);

    let pid = events(&file, "start")[0]["pid"].to_string();
    let room = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=unlimited"])
        .status();
    assert!(room.unwrap().success());
    assert_eq!(client.ask(&find).await.get_f64("ok").ok(), Some(1.0));
    assert!(Wire::connect(&address).await.works().await);
    assert_eq!(events(&file, "lost").len(), 1);
    assert_eq!(events(&file, "read").len(), shown + 1);
    let verified = fieldseal(&["audit", "verify"], &configuration);
    assert_eq!(verified.status.code(), Some(0), "{}", error_text(&verified));
    drop(process);
}
