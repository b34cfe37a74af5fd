//! The proxy beside HAProxy in TCP mode, which only relays, and beside itself with nothing
//! sealed: CPU time, throughput, latency, memory, and how they grow.
//!
//! All relays stand before one mongod, and the client is the same for all. What is compared takes
//! turns within each round, in an order drawn anew; the first round only warms up. A ratio, or
//! a difference, is that of two turns of one round; told is the median of all rounds, where
//! it lies with 95 % confidence, and the 10th and 90th percentile. One operation that fails ends it all, with exit code 1.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "benches"
)]

mod growth;
mod marks;
mod measure;
mod memory;
mod relays;
mod requests;
mod rows;
mod sheet;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use fieldseal::bench::load::LoadError;
use fieldseal::cli::embedded::{Embedded, EmbeddedError, EmbeddedOptions};
use measure::Pace;
use relays::{Scratch, StartError};
use sheet::Sheet;
use tokio::signal::unix::{SignalKind, signal};

/// The proxy beside HAProxy, and beside itself with nothing sealed.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many rounds are measured.
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// How long each turn in a round takes, in seconds.
    #[arg(long, default_value_t = 0.1)]
    seconds: f64,
    /// Only what has one of these texts in its name, such as `insert one`, `x64`, `memory`, `growth`.
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// Builds of fieldseal, to be measured side by side; by default, the one just built.
    #[arg(long, num_args = 1..)]
    program: Vec<PathBuf>,
    /// How many idle connections the memory is measured with.
    #[arg(long, default_value_t = 2000)]
    idle: usize,
    /// Writes all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.contains(only.as_str()))
    }

    fn pace(&self) -> Pace {
        Pace {
            rounds: self.rounds,
            time: Duration::from_secs_f64(self.seconds),
        }
    }

    /// Each build with the name that tells it from the others.
    fn programs(&self) -> Vec<(String, PathBuf)> {
        if self.program.is_empty() {
            let built = PathBuf::from(env!("CARGO_BIN_EXE_fieldseal"));
            return vec![("fieldseal".to_owned(), built)];
        }
        let names = self.program.iter().enumerate().map(|(number, program)| {
            let program = std::path::absolute(program).unwrap();
            match number {
                0 => ("fieldseal".to_owned(), program),
                _ => (format!("fieldseal {}", number + 1), program),
            }
        });
        names.collect()
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("an operation failed: {0}")]
    Load(#[from] LoadError),
    #[error("no row has that in its name")]
    Nothing,
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    Embedded(#[from] EmbeddedError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What all parts of the bench work with.
struct Bench {
    arguments: Arguments,
    programs: Vec<(String, PathBuf)>,
    mongod: Embedded,
    scratch: Scratch,
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let programs = arguments.programs();
    for (name, program) in &programs {
        println!("{name} is {}", program.display());
    }
    let bench = Bench {
        mongod: Embedded::start_with(EmbeddedOptions {
            unix_socket: true,
            ..EmbeddedOptions::default()
        })
        .await?,
        scratch: Scratch::new()?,
        arguments,
        programs,
    };
    let mut sheet = Sheet::default();
    rows::measure(&bench, &mut sheet).await?;
    if bench.arguments.wants("memory") {
        memory::measure(&bench, &mut sheet).await?;
    }
    growth::measure(&bench, &mut sheet).await?;
    if sheet.lines.is_empty() && sheet.marks.is_empty() {
        return Err(Failure::Nothing);
    }
    sheet.print_marks();
    if let Some(file) = &bench.arguments.json {
        std::fs::write(file, serde_json::to_vec_pretty(&sheet).unwrap())?;
    }
    bench.mongod.stop().await;
    Ok(())
}

/// Waits until it is told to stop.
async fn stopped() -> ExitCode {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        _ = terminate.recv() => ExitCode::from(143),
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // What was started ends when it is dropped, however this ends.
    let ended = tokio::select! {
        ended = run(Arguments::parse()) => ended,
        code = stopped() => return code,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
