//! What operators write: configuration, schema, keys; and what MongoDB's tools do.

use std::path::Path;
use std::sync::Arc;

use super::choices::Choices;
use crate::config::Config;
use crate::document::Format;
use crate::inspect::{self, Needs};
use crate::keyring::{self, Keyring};
use crate::policy::Policy;
use crate::schema::Schema;

/// A schema is compiled or its mistakes are told, in whichever format.
pub(super) fn schema_file(bytes: &[u8]) {
    let mut choices = Choices::of(bytes);
    let format = choices.pick(&[Format::Toml, Format::Json, Format::Yaml]);
    let Ok(text) = std::str::from_utf8(choices.rest()) else {
        return;
    };
    match Schema::parse(text, format, "schema") {
        Ok(schema) => {
            let names: Vec<String> = schema.key_names().into_iter().map(str::to_owned).collect();
            let keyring = Keyring::generate(names.iter().map(String::as_str));
            let keyring = keyring.expect("the system has random bytes");
            if let Err(error) = Policy::compile(Arc::new(schema), Arc::new(keyring)) {
                assert!(!error.to_string().is_empty());
            }
        }
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
}

/// The file, and behind a zero what the environment says: a name, a line break, a value, and so on.
pub(super) fn config_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (file, environment) = text.split_once('\0').unwrap_or((text, ""));
    let mut lines = environment.lines();
    let variables = std::iter::from_fn(|| {
        let name = format!("FIELDSEAL__{}", lines.next()?);
        Some((name, lines.next().unwrap_or_default().to_owned()))
    });
    let parsed = Config::parse(file, Path::new("/etc/fieldseal/fieldseal.toml"), variables);
    if let Err(mistakes) = parsed {
        assert!(!mistakes.to_string().is_empty());
    }
}

/// A key file is opened as its unseal secret allows; without its MAC, and with one.
pub(super) fn key_file(bytes: &[u8]) {
    keyring::fuzzed(bytes);
}

/// A dump or an archive, packed or not: counted, or found to be damaged.
pub(super) fn dump(bytes: &[u8]) {
    let mut needs = Needs::default();
    let read = inspect::reader(bytes, "dump", "shop.customers", &mut needs, &mut |_, _| {});
    if let Err(error) = read {
        assert!(!error.to_string().is_empty());
    }
    let _ = needs.places();
}
