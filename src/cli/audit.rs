//! `fieldseal audit verify`, and what other commands need of the audit log.

mod admin;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::load::{self, Loaded};
use super::table::printable;
use super::{ConfigFile, Failure, Report};
use crate::code::Code;
use crate::config::{AuditConfig, Config, OnFailure};
use crate::keyring::Keyring;
use crate::observe::audit::{
    Audit, AuditKey, Event, Head, Place, Rotation, Settings, Standing, Verdict, of_commands,
    predecessors, verify,
};
use crate::schema::files_of;
pub(super) use admin::recorded;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether an audit log is whole, and if not, which line is wrong. Exit code 3: no line
    /// is wrong, but an end mark is missing.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The files of one log, oldest first; of a single one, those that were put aside are found by
    /// themselves. Without any: the log of the configuration, and that of commands beside it.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A line that must be in it, as the proxy's log has it after `head=`.
    #[arg(long, value_name = "SEQ:MAC")]
    head: Option<Head>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: ConfigFile,
}

/// What came out, of one log or two.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) report: Report,
    /// Lines that are wrong.
    pub(super) failure: Option<Failure>,
    /// Whether an end mark is missing.
    pub(super) unfinished: bool,
}

/// Runs `audit verify`.
pub(super) fn run(command: &Command) -> Result<Verified, Failure> {
    let Command::Verify(arguments) = command;
    let config = Config::load(&arguments.file.path)?;
    let keyring = load::open_keyring(&config)?;
    let chains = chains(&arguments.files, &config)?;
    let mut verified = Verified {
        report: Report {
            text: String::new(),
            warnings: Vec::new(),
        },
        failure: None,
        unfinished: false,
    };
    let mut all = Vec::new();
    for (index, files) in chains.iter().enumerate() {
        // A head is one of the proxy's.
        let head = arguments.head.filter(|_| index == 0);
        let verdict = verify(files, &keyring, head)
            .map_err(|error| Failure::coded(Code::AuditUnwritable, error))?;
        verified.unfinished |= !verdict.unfinished.is_empty();
        if !verdict.is_whole() {
            let failure = Failure::of_all(Code::AuditNotWhole, problems(&verdict));
            let failures = verified.failure.take().into_iter().chain(failure);
            verified.failure = failures.reduce(Failure::and);
        }
        verified
            .report
            .warnings
            .extend(verdict.unfinished.iter().map(told));
        if arguments.json {
            all.push(describe(files, &verdict));
        } else {
            verified.report.text.push_str(&show(files, &verdict));
        }
    }
    if arguments.json {
        verified.report.text = format!("{:#}\n", json!({ "logs": all }));
    }
    Ok(verified)
}

/// The files of each chain, oldest first.
fn chains(files: &[PathBuf], config: &Config) -> Result<Vec<Vec<PathBuf>>, Failure> {
    let with_predecessors = |file: &Path| {
        let mut files: Vec<PathBuf> = predecessors(file)
            .into_iter()
            .map(|(_, file)| file)
            .collect();
        // It is not there between the two steps of putting a file aside.
        if files.is_empty() || file.exists() {
            files.push(file.to_owned());
        }
        files
    };
    match files {
        [] => {
            let audit = config.audit.as_ref().ok_or_else(|| {
                Failure::coded(
                    Code::AuditUnset,
                    "the configuration has no [audit]: name the files to verify",
                )
            })?;
            let commands = of_commands(&audit.file);
            let mut chains = vec![with_predecessors(&audit.file)];
            if commands.exists() {
                chains.push(with_predecessors(&commands));
            }
            Ok(chains)
        }
        [file] => Ok(vec![with_predecessors(file)]),
        files => Ok(vec![files.to_vec()]),
    }
}

fn told(place: &Place) -> String {
    let seq = place
        .seq
        .map_or(String::new(), |seq| format!(" (seq {seq})"));
    printable(&format!(
        "{}:{}{seq}: {}",
        place.file.display(),
        place.line,
        place.what
    ))
}

fn problems(verdict: &Verdict) -> Vec<String> {
    let mut lines: Vec<String> = verdict.problems.iter().map(told).collect();
    if verdict.more > 0 {
        lines.push(format!("and {} more lines are wrong", verdict.more));
    }
    lines
}

fn show(files: &[PathBuf], verdict: &Verdict) -> String {
    let names: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let mut text = format!("{}: {} lines", names.join(", "), verdict.lines);
    if let (Some(first), Some(head)) = (verdict.first, verdict.head) {
        text.push_str(&format!(", seq {first} to {}", head.seq));
    }
    text.push_str(match (verdict.is_whole(), verdict.unfinished.is_empty()) {
        (false, _) => ", BROKEN",
        (true, false) => ", no line is wrong, but an end mark is missing",
        (true, true) => ", whole",
    });
    if verdict.in_use {
        text.push_str("; in use");
    }
    if let Some(before) = verdict.goes_on_from {
        text.push_str(&format!(
            "; goes on from seq {}, in an earlier file",
            before.seq
        ));
    }
    if let Some(head) = verdict.head {
        text.push_str(&format!("\nhead={head}"));
    }
    text.push('\n');
    text
}

fn describe(files: &[PathBuf], verdict: &Verdict) -> serde_json::Value {
    let places = |places: &[Place]| {
        let place = |place: &Place| {
            json!({
                "file": place.file.display().to_string(),
                "line": place.line,
                "seq": place.seq,
                "what": place.what,
            })
        };
        places.iter().map(place).collect::<Vec<_>>()
    };
    json!({
        "files": files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
        "lines": verdict.lines,
        "first": verdict.first,
        "last": verdict.head.map(|head| head.seq),
        "head": verdict.head.map(|head| head.to_string()),
        "whole": verdict.is_whole(),
        "problems": places(&verdict.problems),
        "more_problems": verdict.more,
        "unfinished": places(&verdict.unfinished),
        "goes_on_from": verdict.goes_on_from.map(|head| head.seq),
        "in_use": verdict.in_use,
    })
}

/// The key that the configuration names for the audit log, if it has one.
pub(super) fn key_of(config: &Config, keyring: &Keyring) -> Result<Option<AuditKey>, Failure> {
    let Some(audit) = &config.audit else {
        return Ok(None);
    };
    let key = AuditKey::active(keyring, &audit.key);
    let missing = || {
        let file = config.keyring.file.display();
        let name = &audit.key;
        Failure::coded(
            Code::SchemaKey,
            format_args!(
                "{file}: has no key {name:?}, which audit.key names; make it with `fieldseal keys rotate {name}`"
            ),
        )
    };
    key.ok_or_else(missing).map(Some)
}

pub(super) fn settings(audit: &AuditConfig) -> Settings {
    Settings {
        rotation: Rotation {
            max_bytes: audit.max_bytes,
            keep: audit.keep,
        },
        refuses: audit.on_failure == OnFailure::Refuse,
    }
}

/// Begins the audit log of the proxy, if there is to be one.
pub(super) fn open(
    config: &Config,
    key: Option<AuditKey>,
    standing: &Standing,
) -> Result<Audit, Failure> {
    let (Some(audit), Some(key)) = (&config.audit, key) else {
        return Ok(Audit::default());
    };
    let about = standing.told(writer());
    Ok(Audit::open(&audit.file, key, settings(audit), about)?)
}

/// What a start line says of this process.
fn writer() -> Event {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Event::new("start")
        .with("host", host.trim())
        .with("pid", std::process::id())
        .with("version", env!("CARGO_PKG_VERSION"))
}

/// Which keys and fields are in force. The digests are of the files as they are now, which are
/// those that were loaded but for a moment's change.
pub(super) fn standing(file: &Path, config: &Config, loaded: &Loaded) -> Standing {
    let files = files_of(&config.schema).unwrap_or_default();
    let schema: Vec<PathBuf> = files.into_iter().map(|(file, _)| file).collect();
    let digests = [digest(&[file.to_owned()]), digest(&schema)];
    Standing::of(&loaded.schema, &loaded.keyring, digests)
}

fn digest(files: &[PathBuf]) -> String {
    let mut digest = Sha256::new();
    for file in files {
        digest.update(std::fs::read(file).unwrap_or_default());
    }
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the log can be written: `check` asks.
pub(super) fn check_writable(config: &Config) -> Result<(), Failure> {
    let Some(audit) = &config.audit else {
        return Ok(());
    };
    let file = &audit.file;
    let mut options = std::fs::OpenOptions::new();
    if file.exists() {
        let opened = options.append(true).open(file);
        opened.map_err(|error| {
            Failure::coded(
                Code::AuditUnwritable,
                format_args!("{}: cannot be written: {error}", file.display()),
            )
        })?;
    }
    // Files are put aside there.
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let unique = time.map_or(0, |time| time.as_nanos());
    let probe = file.with_file_name(format!(".fieldseal-check-{}-{unique}", std::process::id()));
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe);
    match made {
        Ok(_) => {
            // What is left is empty.
            let _ = std::fs::remove_file(&probe);
            Ok(())
        }
        Err(error) => Err(Failure::coded(
            Code::AuditUnwritable,
            format_args!(
                "{}: audit.file cannot be made in this folder: {error}",
                file.parent().unwrap_or(Path::new(".")).display()
            ),
        )),
    }
}
