//! Secrets that are text: a token, a header's value, a connection string.

use std::fmt;

use zeroize::Zeroizing;

use super::unseal::{MAX_BYTES, UnsealError, UnsealSource};

/// Why there is no such text. What was there instead is not repeated.
#[derive(Debug, thiserror::Error)]
pub struct TextError(Fault);

#[derive(Debug)]
enum Fault {
    /// It could not be had.
    Source(UnsealError),
    /// What is there is not one line of UTF-8.
    NotText,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Fault::NotText => f.write_str("is not one line of text"),
            Fault::Source(UnsealError::File { path, error }) => {
                write!(f, "{}: cannot be read: {error}", path.display())
            }
            Fault::Source(UnsealError::Env(name)) => {
                write!(f, "the environment variable {name} is not set")
            }
            Fault::Source(UnsealError::Start { program, error }) => {
                write!(f, "the command {program:?}: cannot be run: {error}")
            }
            Fault::Source(UnsealError::Command { program, what }) => {
                write!(
                    f,
                    "the command {program:?}: {what}; run it by hand to see why"
                )
            }
            Fault::Source(UnsealError::Empty) => f.write_str("is empty"),
            Fault::Source(UnsealError::TooLong) => {
                write!(f, "is longer than {MAX_BYTES} bytes")
            }
        }
    }
}

impl UnsealSource {
    /// Fetches a secret that is one line of text. One line break at its end does not count.
    pub fn text(&self) -> Result<Zeroizing<String>, TextError> {
        let bytes = (self.bytes()).map_err(|error| TextError(Fault::Source(error)))?;
        if bytes.len() > MAX_BYTES {
            return Err(TextError(Fault::Source(UnsealError::TooLong)));
        }
        let line = (bytes.strip_suffix(b"\r\n"))
            .or_else(|| bytes.strip_suffix(b"\n"))
            .unwrap_or(&bytes);
        match std::str::from_utf8(line) {
            Ok("") => Err(TextError(Fault::Source(UnsealError::Empty))),
            Ok(text) if !text.chars().any(char::is_control) => Ok(Zeroizing::new(text.to_owned())),
            _ => Err(TextError(Fault::NotText)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn written(text: &str) -> UnsealSource {
        let words = ["printf", "%b", text];
        UnsealSource::Command(words.map(str::to_owned).to_vec())
    }

    #[test]
    fn what_looks_like_a_key_is_text_all_the_same() {
        let digits = "0".repeat(64);
        assert_eq!(*written(&digits).text().unwrap(), digits);
        assert_eq!(*written("Bearer abc\\r\\n").text().unwrap(), "Bearer abc");
        assert_eq!(*written("a b\\n").text().unwrap(), "a b");
    }

    #[test]
    fn what_is_no_line_of_text_is_refused_and_not_repeated() {
        for (wrong, says) in [
            ("", "empty"),
            ("\\n", "empty"),
            ("hush\\nhush", "one line"),
            ("hush\\0377", "one line"),
            ("hush\\0000", "one line"),
        ] {
            let error = written(wrong).text().unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("hush"), "{error}");
        }
        let endless = UnsealSource::File("/dev/zero".into()).text().unwrap_err();
        assert!(endless.to_string().contains("longer than 4096 bytes"));
    }

    #[test]
    fn a_source_that_has_none_is_named() {
        let missing = UnsealSource::File("/no/such/token".into()).text();
        assert!(
            missing
                .unwrap_err()
                .to_string()
                .starts_with("/no/such/token: ")
        );
        let missing = UnsealSource::Env("FIELDSEAL_TEST_NO_SUCH".into()).text();
        let error = missing.unwrap_err().to_string();
        assert_eq!(
            error,
            "the environment variable FIELDSEAL_TEST_NO_SUCH is not set"
        );
    }
}
