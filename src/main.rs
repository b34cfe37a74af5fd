//! The `fieldseal` command.

fn main() -> std::process::ExitCode {
    fieldseal::cli::run()
}
