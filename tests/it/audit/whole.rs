//! Whether it is whole, and what is said if it is not.

use super::*;

#[tokio::test]
async fn a_log_in_use_is_whole_and_so_is_one_that_was_ended() {
    let mut audited = Audited::start().await;
    let mut client = audited.client().await;
    client.ask(&audited.refused()).await;
    audited.wait_for("refused", 1).await;
    let (code, said) = audited.verify(&[]);
    assert_eq!((code, &said["logs"][0]["in_use"]), (0, &true.into()));
    drop(client);
    audited.stop().await;
    let (code, said) = audited.verify(&[]);
    assert_eq!((code, &said["logs"][0]["in_use"]), (0, &false.into()));
    let output = audited.run(&["audit", "verify", audited.file().to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(", whole") && text.contains("head="), "{text}");
}

#[tokio::test]
async fn a_changed_line_is_named_and_a_missing_end_is_told_apart() {
    let mut audited = Audited::start().await;
    let mut client = audited.client().await;
    for _ in 0..5 {
        client.ask(&audited.refused()).await;
    }
    drop(client);
    audited.wait_for("disconnect", 1).await;
    audited.stop().await;
    let whole = fs::read_to_string(audited.file()).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let copy = audited.proxy.directory().join("copy.jsonl");
    let file = copy.to_str().unwrap();
    let verdict = |lines: &[String]| {
        fs::write(&copy, lines.join("\n") + "\n").unwrap();
        let output = audited.run(&["audit", "verify", file]);
        (output.status.code().unwrap(), error_text(&output))
    };
    let own = || -> Vec<String> { lines.iter().map(|line| (*line).to_owned()).collect() };
    assert_eq!(verdict(&own()).0, 0);
    for at in 0..lines.len() {
        let mut changed = own();
        changed[at] = changed[at].replacen("\"time\":\"20", "\"time\":\"21", 1);
        let (code, said) = verdict(&changed);
        assert_eq!(code, 1, "{said}");
        let expected = format!("copy.jsonl:{} (seq {}): was changed", at + 1, at + 1);
        assert!(said.contains(&expected), "{expected}: {said}");

        let mut removed = own();
        removed.remove(at);
        let (code, said) = verdict(&removed);
        if at + 1 == lines.len() {
            assert_eq!(code, 3, "{said}");
            assert!(said.contains("the last lines were cut off"), "{said}");
        } else {
            assert_eq!(code, 1, "{said}");
            assert!(said.contains(&format!("copy.jsonl:{} ", at + 1)), "{said}");
        }
    }
    // Cut off in the middle of a line.
    fs::write(&copy, &whole[..whole.len() - 20]).unwrap();
    let output = audited.run(&["audit", "verify", file]);
    let said = error_text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    let expected = format!("copy.jsonl:{}: is cut off in the middle", lines.len());
    assert!(said.contains(&expected), "{said}");
}

#[tokio::test]
async fn a_head_from_the_log_finds_lines_that_were_cut_off() {
    let mut audited = Audited::start().await;
    let mut client = audited.client().await;
    client.ask(&audited.refused()).await;
    drop(client);
    audited.wait_for("disconnect", 1).await;
    audited.stop().await;
    let log = audited.proxy.log();
    let line = log
        .lines()
        .rfind(|line| line.contains("audit head"))
        .unwrap();
    let head = line.split("head=").nth(1).unwrap();
    let head = head.split_whitespace().next().unwrap().to_owned();
    assert_eq!(audited.verify(&["--head", &head]).0, 0);
    let text = fs::read_to_string(audited.file()).unwrap();
    let cut: Vec<&str> = text.lines().collect();
    fs::write(audited.file(), cut[..cut.len() - 1].join("\n") + "\n").unwrap();
    assert_eq!(audited.verify(&[]).0, 3);
    let (code, said) = audited.verify(&["--head", &head]);
    assert_eq!(code, 1, "{said:#}");
    let what = said["logs"][0]["problems"][0]["what"].as_str().unwrap();
    assert!(what.contains("had come to line"), "{what}");
}

#[tokio::test]
async fn a_proxy_that_was_killed_goes_on_and_says_so() {
    let mut audited = Audited::start().await;
    let mut client = audited.client().await;
    client.ask(&audited.refused()).await;
    audited.wait_for("refused", 1).await;
    audited.proxy.process_mut().kill_and_keep();
    assert_eq!(audited.verify(&[]).0, 3);
    // In the middle of a line, for all that is known.
    let mut text = fs::read(audited.file()).unwrap();
    text.truncate(text.len() - 30);
    fs::write(audited.file(), &text).unwrap();
    audited.proxy.process_mut().start_again();
    let starts = loop {
        let text = String::from_utf8_lossy(&fs::read(audited.file()).unwrap()).into_owned();
        let last = text.lines().last().unwrap_or_default().to_owned();
        match serde_json::from_str::<Value>(&last) {
            Ok(line) if text.ends_with('\n') && line["seq"].is_u64() => break line,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(starts["after_unclean"], true, "{starts}");
    assert!(starts["torn"]["bytes"].is_u64(), "{starts}");
    audited.stop().await;
    let (code, said) = audited.verify(&[]);
    assert_eq!(code, 3, "{said:#}");
    assert_eq!(said["logs"][0]["whole"], true);
}

#[tokio::test]
async fn two_proxies_do_not_write_one_log() {
    let audited = Audited::start().await;
    let output = audited.run(&["serve"]);
    let said = error_text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("audit.jsonl: is being written by another process"),
        "{said}"
    );
}

#[tokio::test]
async fn files_that_were_put_aside_are_verified_with_the_one_in_use() {
    let mut audited = Audited::start_with("max_bytes = 4096\nkeep = 100\n").await;
    let mut client = audited.client().await;
    for _ in 0..200 {
        client.ask(&audited.refused()).await;
    }
    drop(client);
    audited.stop().await;
    let (code, said) = audited.verify(&[]);
    assert_eq!(code, 0, "{said:#}");
    let files = said["logs"][0]["files"].as_array().unwrap();
    assert!(files.len() > 3, "{files:?}");
    assert!(said["logs"][0]["lines"].as_u64().unwrap() > 60);
    assert!(audited.proxy.log().contains("the file is put aside"));
    // One is missing.
    fs::remove_file(files[1].as_str().unwrap()).unwrap();
    let (code, said) = audited.verify(&[]);
    assert_eq!(code, 1);
    assert_eq!(said["logs"][0]["problems"][0]["file"], files[2]);
    assert_eq!(said["logs"][0]["problems"][0]["line"], 1);
}

#[tokio::test]
async fn check_finds_a_folder_that_is_not_there_and_a_key_that_is_not_made() {
    let audited = Audited::start().await;
    let configure = |from: &str, to: &str| {
        let text = fs::read_to_string(audited.proxy.configuration()).unwrap();
        assert!(text.contains(from));
        fs::write(audited.proxy.configuration(), text.replace(from, to)).unwrap();
    };
    assert!(audited.run(&["check"]).status.success());
    configure("audit.jsonl", "nowhere/audit.jsonl");
    let said = error_text(&audited.run(&["check"]));
    assert!(said.contains("cannot be made in this folder"), "{said}");
    configure("nowhere/audit.jsonl\"", "audit.jsonl\"\nkey = \"audit\"");
    let said = error_text(&audited.run(&["check"]));
    assert!(said.contains("fieldseal keys rotate audit"), "{said}");
    let made = audited.run(&["keys", "rotate", "audit"]);
    assert!(made.status.success(), "{}", error_text(&made));
    assert!(audited.run(&["check"]).status.success());
}
