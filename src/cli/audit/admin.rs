//! What commands do to keys and to what is stored is written down, beside the proxy's audit log.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::super::{Failure, load, warn};
use super::{key_of, settings, writer};
use crate::code::Code;
use crate::config::{AuditConfig, Config, OnFailure};
use crate::observe::audit::{AuditKey, Event, Log, of_commands};

/// How long a command waits for another one that writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does `work`, the `action` of a command with these `arguments`, and writes down that it
/// begins and how it ended. What cannot be written down is not begun, if the configuration says so.
pub(in crate::cli) fn recorded<T>(
    file: &Path,
    action: &str,
    arguments: &[String],
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Without a configuration that can be read, `work` says what is wrong with it.
    let Ok(config) = Config::load(file) else {
        return work();
    };
    let Some(audit) = &config.audit else {
        return work();
    };
    let keyring = load::open_keyring(&config).ok();
    let key = keyring.and_then(|keyring| key_of(&config, &keyring).ok().flatten());
    let event = event(action, arguments);
    if let Some(key) = &key {
        let begun = event.clone().with("stage", "begun");
        write(audit, key, begun)?;
    }
    let done = work();
    // It was made just now.
    let made = || {
        let keyring = load::open_keyring(&config).ok()?;
        key_of(&config, &keyring).ok()?
    };
    let Some(key) = key.or_else(made) else {
        return done;
    };
    let event = match &done {
        Ok(_) => event.with("stage", "done"),
        Err(failure) => {
            let why = failure.lines().first().cloned().unwrap_or_default();
            event.with("stage", "failed").with("why", why)
        }
    };
    match (write(audit, &key, event), done) {
        (Ok(()), done) => done,
        (Err(unwritten), Ok(_)) => Err(unwritten.and(Failure::coded(
            Code::AuditUnwritable,
            "it was done all the same, and only its beginning was written down",
        ))),
        (Err(unwritten), Err(failure)) => Err(failure.and(unwritten)),
    }
}

fn write(audit: &AuditConfig, key: &AuditKey, event: Event) -> Result<(), Failure> {
    let path = of_commands(&audit.file);
    let written = || -> Result<(), Failure> {
        let (key, rotation) = (key.clone(), settings(audit).rotation);
        let mut log = Log::open(&path, key, rotation, writer(), PATIENCE)?;
        let unwritable = |error| {
            Failure::coded(
                Code::AuditUnwritable,
                format_args!("{}: cannot be written: {error}", path.display()),
            )
        };
        log.append(&[event.now()]).map_err(unwritable)?;
        log.end("done").map_err(unwritable)
    };
    match (written(), audit.on_failure) {
        (Err(failure), OnFailure::Warn) => {
            warn(failure.lines());
            Ok(())
        }
        (written, _) => written,
    }
}

fn event(action: &str, arguments: &[String]) -> Event {
    let uid = std::fs::metadata("/proc/self").map(|process| process.uid());
    let uid = uid.ok();
    Event::new("admin")
        .with_some("user", uid.and_then(user_name))
        .with_some("uid", uid)
        .with("action", action)
        .with("arguments", arguments.to_vec())
}

/// The name that the system has for a user.
fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let uid = uid.to_string();
    let named = |line: &str| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)? == uid).then(|| name.to_owned())
    };
    users.lines().find_map(named)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::super::keys::tests::{Workplace, init};
    use super::*;

    const AUDIT: &str = "\n[audit]\nfile = \"audit.jsonl\"\n";

    fn place(name: &str, audit: &str) -> Workplace {
        let place = Workplace::new(name, "[collections.\"a.b\".fields]\nx = {}\n");
        let config = std::fs::read_to_string(place.config()).unwrap();
        place.write("fieldseal.toml", &(config + audit));
        place
    }

    fn lines(place: &Workplace) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(place.path("audit.jsonl.admin")).unwrap_or_default();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn stages(place: &Workplace) -> Vec<String> {
        let stage = |line: &serde_json::Value| Some(line["stage"].as_str()?.to_owned());
        lines(place).iter().filter_map(stage).collect()
    }

    #[test]
    fn what_is_done_is_written_down_with_who_did_it() {
        let place = place("admin", AUDIT);
        init(&place);
        let done = recorded(&place.config(), "keys rotate", &["a".to_owned()], || Ok(7));
        assert_eq!(done, Ok(7));
        assert_eq!(stages(&place), ["begun", "done"]);
        let line = &lines(&place)[1];
        assert_eq!(line["event"], "admin");
        assert_eq!(line["action"], "keys rotate");
        assert_eq!(line["arguments"][0], "a");
        assert!(line["uid"].is_u64());
        let failed: Result<(), Failure> =
            recorded(&place.config(), "x", &[], || Err(Failure::new("no")));
        assert_eq!(failed.unwrap_err().lines(), ["no [FS9000]"]);
        assert_eq!(stages(&place), ["begun", "done", "begun", "failed"]);
    }

    #[test]
    fn a_key_file_that_is_made_is_written_down_after_it() {
        let place = place("admin-init", AUDIT);
        let made = || {
            init(&place);
            Ok(())
        };
        recorded(&place.config(), "keys init", &[], made).unwrap();
        assert_eq!(stages(&place), ["done"]);
    }

    #[test]
    fn what_cannot_be_written_down_is_not_begun_unless_a_warning_is_enough() {
        for (on_failure, begun) in [("refuse", false), ("warn", true)] {
            let place = place(
                &format!("admin-{on_failure}"),
                &format!("{AUDIT}on_failure = \"{on_failure}\"\n"),
            );
            init(&place);
            place.write("audit.jsonl.admin", "something else\n");
            let mut did = false;
            let done = recorded(&place.config(), "x", &[], || {
                did = true;
                Ok(())
            });
            assert_eq!((did, done.is_ok()), (begun, begun));
        }
    }

    #[test]
    fn without_an_audit_log_nothing_is_written() {
        let place = place("admin-none", "");
        init(&place);
        recorded(&place.config(), "x", &[], || Ok(())).unwrap();
        assert!(!place.path("audit.jsonl.admin").exists());
    }

    #[test]
    fn users_are_named_as_the_system_does() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(4_000_000_000), None);
    }
}
