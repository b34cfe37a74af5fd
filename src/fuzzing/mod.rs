//! What the fuzzers call. Each target takes any bytes and panics where a promise is broken.
//!
//! Built for tests and for `cargo fuzz` alone. The programs of `fuzz/` are one line over these
//! functions; the tests below run every file of `fuzz/corpus` through them, with any toolchain.

mod canary;
mod choices;
mod commands;
mod files;
mod replies;
mod sealed;
mod wire;

use std::sync::{Arc, LazyLock};

use crate::policy::{Policy, fixture};
use crate::schema::{AccessRule, Mask};

/// A target's name and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; each has a program in `fuzz/fuzz_targets` and a folder in `fuzz/corpus`.
pub const TARGETS: &[Target] = &[
    ("bson", wire::bson),
    ("canary", canary::canary),
    ("config_file", files::config_file),
    ("dump", files::dump),
    ("frame", wire::frame),
    ("key_file", files::key_file),
    ("op_compressed", wire::op_compressed),
    ("op_msg", wire::op_msg),
    ("reply", replies::reply),
    ("schema_file", files::schema_file),
    ("sealed_value", sealed::sealed_value),
];

/// Runs the target called `name`.
///
/// # Panics
/// Where the code under test breaks a promise, and if there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, run) = target.expect("the programs of fuzz/ name targets that are in the list");
    run(bytes);
}

/// What every value that must not show holds; eight bytes, so that it fits into a number too.
const CANARY: &[u8; 8] = b"CANARY-4";

/// The same as text.
const CANARY_TEXT: &str = "CANARY-4711";

/// Stands for a name below a field that is sealed whole: its client may be told of it, nobody else.
const NAME: &str = "NAME-CANARY";

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}

/// The policies that requests and replies are tried under.
struct Policies {
    /// All fields open to all.
    plain: Arc<Policy>,
    /// Several index epochs.
    epochs: Arc<Policy>,
    /// Who may write every field and read none.
    writer: Arc<Policy>,
    /// Who may read every field and write none.
    reader: Arc<Policy>,
    /// Who may do neither, for each mask.
    neither: Vec<Arc<Policy>>,
}

static POLICIES: LazyLock<Policies> = LazyLock::new(|| {
    use crate::keyring::State::{Active, Retired, Staged};
    let rule = |mask| AccessRule {
        read: Some(vec!["reader".to_owned()]),
        write: Some(vec!["writer".to_owned()]),
        mask,
        audit: true,
    };
    let masks = Mask::WORDS.iter().filter_map(|word| Mask::named(word));
    let epochs = fixture::keyring_with_epochs(&[Retired, Active, Staged]);
    Policies {
        plain: Arc::new(fixture::policy()),
        epochs: Arc::new(fixture::policy_with(epochs)),
        writer: fixture::held_by(&rule(Mask::Redact), &["writer"]),
        reader: fixture::held_by(&rule(Mask::Redact), &["reader"]),
        neither: masks
            .map(|mask| fixture::held_by(&rule(mask), &[]))
            .collect(),
    }
});

#[cfg(test)]
mod tests;
