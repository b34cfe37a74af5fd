//! Asking before what cannot be taken back.

use std::io::{BufRead, IsTerminal, Write};

use super::super::{Failure, warn};
use crate::code::Code;

/// More than the name of a key has.
const LONGEST_ANSWER: u64 = 1024;

/// Says what is `at_stake`, and asks for the `name` to be typed, unless `yes`.
/// Refused where there is nobody to ask.
pub(super) fn ask(name: &str, yes: bool, at_stake: &[String]) -> Result<(), Failure> {
    warn(at_stake);
    if yes {
        return Ok(());
    }
    let (input, mut terminal) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() || !terminal.is_terminal() {
        return Err(Failure::coded(
            Code::NotConfirmed,
            "there is no terminal to ask on; give --yes to do it without being asked",
        ));
    }
    let prompt = format!("type the name of the key, {name}, to go on: ");
    // A terminal that cannot be written to cannot be answered on either.
    let _ = terminal
        .write_all(prompt.as_bytes())
        .and_then(|()| terminal.flush());
    answered(name, input.lock())
}

/// Whether one line of `input` is the name.
fn answered(name: &str, input: impl BufRead) -> Result<(), Failure> {
    let mut line = String::new();
    // What cannot be read is not the name.
    let _ = input.take(LONGEST_ANSWER).read_line(&mut line);
    if line.trim() == name {
        Ok(())
    } else {
        Err(Failure::coded(
            Code::NotConfirmed,
            "that is not the name of the key; nothing was changed",
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_the_name_of_the_key_goes_on() {
        answered("people", b"people\n".as_slice()).unwrap();
        answered("people", b" people \r\n".as_slice()).unwrap();
        for answer in [
            "",
            "\n",
            "y\n",
            "yes\n",
            "default\n",
            "peopl\n",
            "people2\n",
        ] {
            let failure = answered("people", answer.as_bytes()).unwrap_err();
            assert!(
                failure.lines()[0].contains("nothing was changed"),
                "{answer}"
            );
        }
        answered("people", b"people\xFF\n".as_slice()).unwrap_err();
    }
}
