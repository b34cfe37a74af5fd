//! The commands, one file each.

mod demo;
mod embedded;

use std::process::ExitCode;

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let exit = std::env::args().any(|argument| argument == "--exit");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    match runtime.block_on(demo::run(exit)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
