//! The commands, as a user meets them: one clear line when something is wrong,
//! and a proxy that takes up what changes.

mod demo;
mod key_file;
mod mistakes;
mod running;
mod upstream;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{
    PATIENCE, ProxyOptions, error_text, fieldseal, new_directory, write_configuration,
};

/// The unseal secret that [`write_configuration`] writes.
const SECRET: &str = "5a5a5a5a5a5a5a5a5a5a";
const SCHEMA: &str = "[collections.\"cli_*.people\".fields]\nssn = { type = \"string\", queries = [\"equality\"] }\naddress = {}\n";
/// An upstream at which nobody is: for what never gets there.
const NOBODY: &str = "127.0.0.1:1";

/// A directory with a configuration, a schema, an unseal secret and a key file. Removed when dropped.
struct Place {
    directory: PathBuf,
    configuration: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
        // Where all directories of this run are; the last one takes it with it.
        let _ = fs::remove_dir(self.directory.parent().unwrap());
    }
}

impl Place {
    fn new() -> Self {
        let place = Self::without_keys(SCHEMA);
        let made = fieldseal(&["keys", "init"], &place.configuration);
        assert!(made.status.success(), "{}", error_text(&made));
        place
    }

    fn without_keys(schema: &str) -> Self {
        let directory = new_directory("cli");
        let options = ProxyOptions {
            schema,
            log_level: "info",
            ..ProxyOptions::default()
        };
        let configuration = write_configuration(&directory, &[NOBODY.to_owned()], options);
        Self {
            directory,
            configuration,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Replaces what must be there.
    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{from} in {text}");
        self.write(name, text.replacen(from, to, 1));
    }

    /// Runs a command that is to end by itself.
    async fn run(&self, arguments: &[&str]) -> Output {
        let at = [OsStr::new("-c"), self.configuration.as_os_str()];
        run(arguments.iter().map(OsStr::new).chain(at), &[]).await
    }

    /// Runs a command that must fail; gives the one line that says why.
    async fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        one_line(&output, &self.secrets())
    }

    /// What no command may ever say.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = vec![SECRET.to_owned()];
        let unseal = fs::read(self.path("unseal")).unwrap_or_default();
        secrets.push(String::from_utf8_lossy(&unseal).into_owned());
        let keyring = fs::read(self.path("keyring.json")).unwrap_or_default();
        let keyring = String::from_utf8_lossy(&keyring).into_owned();
        // Wrapped keys and the MAC, which are the long words.
        let words = keyring.split('"').filter(|word| word.len() > 30);
        secrets.extend(words.filter(|word| !word.contains(' ')).map(str::to_owned));
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }
}

async fn run(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    environment: &[(&str, &Path)],
) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldseal"));
    command.args(arguments).env("NO_COLOR", "1");
    command.envs(environment.iter().copied());
    let mut command = tokio::process::Command::from(command);
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await;
    output.expect("the command ends").unwrap()
}

/// Asserts exit code 1 and one line on standard error, without a secret; gives the line.
#[track_caller]
fn one_line(output: &Output, secrets: &[String]) -> String {
    let error = error_text(output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(output.stdout.is_empty(), "{:?}", output.stdout);
    let line = error.strip_suffix('\n').unwrap_or_default();
    assert!(
        !line.contains('\n') && !line.contains("panicked"),
        "{error}"
    );
    assert!(line.starts_with("fieldseal: "), "{error}");
    for secret in secrets {
        assert!(!line.contains(secret), "{secret}: {line}");
    }
    line.to_owned()
}

#[track_caller]
fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part}: {line}");
    }
}
