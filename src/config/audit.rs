//! `[audit]`: what is remembered, and where.

use std::path::PathBuf;

use super::load::Checker;
use crate::document::{Keys, Node, Place};
use crate::keyring;
use crate::schema::DEFAULT_KEY;

const AUDIT: Keys = Keys {
    of: "`audit`",
    known: &["file", "on_failure", "key", "max_bytes", "keep"],
    later: &[],
};

/// Room for a few lines.
const LEAST_BYTES: i64 = 4096;

/// 100 MB.
const DEFAULT_BYTES: u64 = 100_000_000;

/// What becomes of what cannot be written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It is not done.
    #[default]
    Refuse,
    /// It is done, and the log says so.
    Warn,
}

/// Where the audit log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// The file that lines are added to.
    pub file: PathBuf,
    /// What becomes of what cannot be written down.
    pub on_failure: OnFailure,
    /// The name of the key that its chain is under.
    pub key: String,
    /// The length that a file should not pass, in bytes.
    pub max_bytes: u64,
    /// How many files are kept that were put aside; none means all.
    pub keep: Option<u32>,
}

impl Checker {
    pub(super) fn audit(&mut self, place: &Place, node: &Node) -> Option<AuditConfig> {
        let table = self.reader.table(place, node, &AUDIT);
        let file = self
            .required(place, table, "file")
            .and_then(|(at, node)| self.path(&at, node));
        let on_failure = table.entry(place, "on_failure").and_then(|(at, node)| {
            let word = self.reader.word(&at, node, &["refuse", "warn"])?;
            Some(if word == "warn" {
                OnFailure::Warn
            } else {
                OnFailure::Refuse
            })
        });
        let key = table.entry(place, "key").and_then(|(at, node)| {
            let name = self.reader.name(&at, node)?;
            if let Some(what) = keyring::name_mistake(name) {
                self.reader.mistake(&at, what);
            }
            Some(name.to_owned())
        });
        let max_bytes = table
            .entry(place, "max_bytes")
            .and_then(|(at, node)| self.reader.integer(&at, node, LEAST_BYTES, i64::MAX));
        let keep = table
            .entry(place, "keep")
            .and_then(|(at, node)| self.reader.integer(&at, node, 1, 1_000_000));
        Some(AuditConfig {
            file: file?,
            on_failure: on_failure.unwrap_or_default(),
            key: key.unwrap_or_else(|| DEFAULT_KEY.to_owned()),
            max_bytes: max_bytes
                .and_then(|bytes| u64::try_from(bytes).ok())
                .unwrap_or(DEFAULT_BYTES),
            keep: keep.and_then(|keep| u32::try_from(keep).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use super::*;
    use crate::config::{Config, ConfigErrors};

    fn parse(audit: &str) -> Result<Config, ConfigErrors> {
        let text = format!(
            "schema = \"s.toml\"\n[keyring]\nfile = \"k\"\nunseal = {{ file = \"u\" }}\n\
             [[route]]\nlisten = \"127.0.0.1:1\"\nupstream = \"127.0.0.1:2\"\n{audit}"
        );
        Config::parse(&text, Path::new("/etc/f.toml"), [])
    }

    #[test]
    fn without_a_section_nothing_is_written_and_a_file_alone_is_enough() {
        assert_eq!(parse("").unwrap().audit, None);
        let audit = parse("[audit]\nfile = \"log/audit.jsonl\"").unwrap().audit;
        let expected = AuditConfig {
            file: PathBuf::from("/etc/log/audit.jsonl"),
            on_failure: OnFailure::Refuse,
            key: "default".to_owned(),
            max_bytes: 100_000_000,
            keep: None,
        };
        assert_eq!(audit, Some(expected));
    }

    #[test]
    fn all_keys_are_read_and_all_mistakes_told_together() {
        let audit = parse(
            "[audit]\nfile = \"a\"\non_failure = \"warn\"\nkey = \"audit\"\nmax_bytes = 5000\nkeep = 3",
        );
        let audit = audit.unwrap().audit.unwrap();
        assert_eq!(audit.on_failure, OnFailure::Warn);
        assert_eq!((audit.key.as_str(), audit.max_bytes), ("audit", 5000));
        assert_eq!(audit.keep, Some(3));
        let wrong = "[audit]\nflie = \"a\"\non_failure = \"ignore\"\nkey = \"a b\"\nmax_bytes = 1\nkeep = 0";
        let mistakes = parse(wrong).unwrap_err().0;
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        for words in [
            "`file` is missing",
            "did you mean `file`?",
            "audit.on_failure",
            "audit.key",
            "audit.max_bytes: must be from 4096",
            "audit.keep: must be from 1",
        ] {
            assert!(
                told.iter().any(|line| line.contains(words)),
                "{words}: {told:#?}"
            );
        }
    }
}
