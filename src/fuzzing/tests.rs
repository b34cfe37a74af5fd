//! The targets without a fuzzer: over the corpus, and over bytes of a generator.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

use super::canary::{Seen, tried};
use super::*;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder.join(target))
        .unwrap_or_else(|error| panic!("the corpus of {target}: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn every_input_that_was_ever_worth_keeping_passes() {
    for (name, run) in TARGETS {
        let files = corpus(name);
        assert!(!files.is_empty(), "the corpus of {name} is empty");
        for file in files {
            // Names the input, which a panic alone does not.
            let _open = Named(&file);
            run(&std::fs::read(&file).unwrap());
        }
    }
}

/// Says which input it was, if that panics.
struct Named<'p>(&'p Path);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the input is {}", self.0.display());
        }
    }
}

#[test]
fn every_target_has_its_program_and_no_program_is_without_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let programs = std::fs::read_dir(root.join("fuzz_targets")).unwrap();
    assert_eq!(programs.count(), TARGETS.len());
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    for (name, _) in TARGETS {
        let program = root.join(format!("fuzz_targets/{name}.rs"));
        let text = std::fs::read_to_string(program).unwrap();
        assert!(text.contains(&format!("run(\"{name}\"")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn random_bytes_pass_every_target() {
    let mut random = StdRng::seed_from_u64(4711);
    for (name, run) in TARGETS {
        for round in 0..300 {
            let mut bytes = vec![0; random.random_range(0..200)];
            random.fill_bytes(&mut bytes);
            if let Err(panic) = std::panic::catch_unwind(|| run(&bytes)) {
                println!("{name}, round {round}: {bytes:02x?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[test]
fn enough_random_commands_go_on_and_hide_something() {
    let mut random = StdRng::seed_from_u64(4712);
    let (mut hidden, mut refused) = (0, 0);
    for _ in 0..4000 {
        let mut bytes = vec![0; random.random_range(4..120)];
        random.fill_bytes(&mut bytes);
        match tried(&bytes) {
            Seen::Hidden => hidden += 1,
            Seen::Refused => refused += 1,
            Seen::Nothing => {}
        }
    }
    assert!(
        hidden > 200,
        "{hidden} were forwarded with something to hide"
    );
    assert!(refused > 200, "{refused} were refused");
}

#[test]
fn what_is_fuzzed_is_built_of_what_the_program_is_built_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| -> toml::Table {
        let text = std::fs::read_to_string(root.join(path)).unwrap();
        text.parse().unwrap()
    };
    let (program, fuzzed) = (read("Cargo.toml"), read("fuzz/Cargo.toml"));
    for (name, wanted) in fuzzed["dependencies"].as_table().unwrap() {
        if name != "libfuzzer-sys" {
            assert_eq!(Some(wanted), program["dependencies"].get(name), "{name}");
        }
    }
    let packages = |file: &str| -> std::collections::BTreeSet<(String, String)> {
        let locked = read(file);
        let packages = locked["package"].as_array().unwrap().iter();
        let text = |package: &toml::Value, key: &str| package[key].as_str().unwrap().to_owned();
        packages
            .map(|package| (text(package, "name"), text(package, "version")))
            .collect()
    };
    let known = packages("Cargo.lock");
    let names: std::collections::BTreeSet<_> = known.iter().map(|(name, _)| name).collect();
    for package in packages("fuzz/Cargo.lock") {
        let shared = names.contains(&package.0);
        assert!(!shared || known.contains(&package), "{package:?}");
    }
}
