//! `fieldseal keys list`.

use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;

use super::super::table::table;
use super::{ConfigFile, Failure, Report, load, report};
use crate::config::Config;
use crate::keyring::{KeyVersion, Keyring};

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(arguments: &List) -> Result<Report, Failure> {
    let config = Config::load(&arguments.file.path)?;
    let keyring = load::open_keyring(&config)?;
    Ok(report(&config, &keyring, arguments.json, &show(&keyring)))
}

fn show(keyring: &Keyring) -> String {
    let now = SystemTime::now();
    let mut rows = Vec::new();
    for key in &keyring.keys {
        let mut row = |kind: &str, version: &KeyVersion, suite: &str| {
            rows.push([
                key.name.clone(),
                format!("{kind}{}", version.number),
                version.id.0.to_string(),
                version.state.word().to_owned(),
                version.created.clone(),
                version.age(now).map_or_else(|| "-".to_owned(), age),
                suite.to_owned(),
            ]);
        };
        for version in &key.versions {
            row("", version, version.suite.unwrap_or_default().word());
        }
        for epoch in &key.epochs {
            row("epoch ", epoch, "-");
        }
    }
    let heading = ["key", "version", "id", "state", "created", "age", "suite"];
    let mut text = table(heading, &rows);
    text.push_str(&format!("generation {}\n", keyring.generation));
    text
}

/// The largest unit that fits, without a fraction.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The keys as JSON, without their material.
pub(super) fn describe(config: &Config, keyring: &Keyring) -> serde_json::Value {
    let now = SystemTime::now();
    let entry = |number: &str, version: &KeyVersion| {
        let mut entry = json!({
            "id": version.id.0,
            number: version.number,
            "state": version.state.word(),
            "created": version.created,
            "age_seconds": version.age(now).map(|age| age.as_secs()),
        });
        if number == "version" {
            entry["suite"] = json!(version.suite.unwrap_or_default().word());
        }
        entry
    };
    let keys: Vec<_> = keyring
        .keys
        .iter()
        .map(|key| {
            json!({
                "name": key.name,
                "versions": key.versions.iter().map(|it| entry("version", it)).collect::<Vec<_>>(),
                "epochs": key.epochs.iter().map(|it| entry("epoch", it)).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "file": config.keyring.file, "generation": keyring.generation, "keys": keys })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        for (seconds, told) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (7199, "1h"),
            (86_399, "23h"),
            (86_400 * 400, "400d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), told);
        }
    }
}
