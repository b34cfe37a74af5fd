//! The unseal secret: where it comes from, and whether it is a key or a passphrase.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Material;

/// More than any passphrase; a larger file is not a secret but a mistake.
const MAX_BYTES: usize = 4096;

/// What a command may take, in time.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Fewer characters can be guessed.
const LEAST_PASSPHRASE: usize = 12;

/// Where the unseal secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnsealSource {
    /// A file that holds it.
    File(PathBuf),
    /// An environment variable that holds it.
    Env(String),
    /// A program, with arguments, that writes it to its standard output.
    Command(Vec<String>),
}

/// Why there is no unseal secret.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The file.
    #[error("the unseal secret {}: cannot be read: {error}", path.display())]
    File {
        /// Its name.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The environment.
    #[error("the unseal secret: the environment variable {0} is not set")]
    Env(String),
    /// The program could not be run.
    #[error("the unseal command {program:?}: cannot be run: {error}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        error: std::io::Error,
    },
    /// The program did not do its part.
    #[error("the unseal command {program:?}: {what}; run it by hand to see why")]
    Command {
        /// Its name.
        program: String,
        /// What it did instead.
        what: String,
    },
    /// There is no secret where it belongs.
    #[error("the unseal secret is empty")]
    Empty,
    /// There is something else.
    #[error("the unseal secret is longer than {MAX_BYTES} bytes")]
    TooLong,
}

/// The secret that unseals the key file. Cannot be printed.
///
/// It is a key if it is 32 bytes that are not text, or 64 hexadecimal digits,
/// or the 44 characters of 32 bytes in base64. Anything else is a passphrase.
/// One line break at the end does not count.
pub struct UnsealSecret(Unsealing);

/// The two kinds of secret.
pub(super) enum Unsealing {
    Key(Material),
    Passphrase(Zeroizing<Vec<u8>>),
}

impl fmt::Debug for UnsealSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnsealSecret(..)")
    }
}

impl UnsealSecret {
    /// Tells a key from a passphrase.
    pub fn parse(bytes: &[u8]) -> Result<Self, UnsealError> {
        if bytes.len() > MAX_BYTES {
            return Err(UnsealError::TooLong);
        }
        let line = bytes
            .strip_suffix(b"\r\n")
            .or_else(|| bytes.strip_suffix(b"\n"))
            .unwrap_or(bytes);
        if line.is_empty() {
            return Err(UnsealError::Empty);
        }
        // The text is looked at without its line break: 31 letters and a line
        // break are a passphrase, while a key may well end in the same byte.
        let key = if is_text(line) {
            from_hexadecimal(line).or_else(|| from_base64(line))
        } else {
            from_raw(bytes).or_else(|| from_raw(line))
        };
        Ok(Self(match key {
            Some(key) => Unsealing::Key(key),
            None => Unsealing::Passphrase(Zeroizing::new(line.to_vec())),
        }))
    }

    /// A passphrase of so few characters that it could be guessed.
    pub fn is_weak(&self) -> bool {
        match &self.0 {
            Unsealing::Key(_) => false,
            Unsealing::Passphrase(bytes) => {
                String::from_utf8_lossy(bytes).chars().count() < LEAST_PASSPHRASE
            }
        }
    }

    pub(super) fn unsealing(&self) -> &Unsealing {
        &self.0
    }
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control))
}

fn from_raw(bytes: &[u8]) -> Option<Material> {
    bytes.try_into().ok().map(Material::new)
}

fn from_hexadecimal(text: &[u8]) -> Option<Material> {
    if text.len() != 64 {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = Zeroizing::new([0; 32]);
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(Material::new(*bytes))
}

fn from_base64(text: &[u8]) -> Option<Material> {
    if text.len() != 44 {
        return None;
    }
    let mut bytes = Zeroizing::new([0; 33]);
    let length = STANDARD.decode_slice(text, bytes.as_mut_slice()).ok()?;
    from_raw(bytes.get(..length)?)
}

impl UnsealSource {
    /// Fetches the secret.
    pub fn read(&self) -> Result<UnsealSecret, UnsealError> {
        UnsealSecret::parse(&self.bytes()?)
    }

    /// Fetches another secret than that of a key file: what is there, without one line break at
    /// its end, as text. One that is no text counts as none.
    pub fn text(&self) -> Result<Zeroizing<String>, UnsealError> {
        let bytes = self.bytes()?;
        if bytes.len() > MAX_BYTES {
            return Err(UnsealError::TooLong);
        }
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return Err(UnsealError::Empty);
        }
        Ok(Zeroizing::new(line.to_owned()))
    }

    fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        match self {
            Self::File(path) => std::fs::File::open(path)
                .and_then(read_bounded)
                .map_err(|error| UnsealError::File {
                    path: path.clone(),
                    error,
                }),
            Self::Env(name) => {
                let value = std::env::var_os(name).ok_or_else(|| UnsealError::Env(name.clone()))?;
                Ok(Zeroizing::new(value.into_encoded_bytes()))
            }
            Self::Command(words) => run(words, COMMAND_TIMEOUT),
        }
    }
}

/// Reads one byte more than a secret may have, at most, into memory that never moves.
fn read_bounded(source: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; MAX_BYTES + 1]);
    let mut source = source;
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Runs a program for what it writes. Its standard error is dropped: it may
/// tell a secret, and ours goes to logs.
fn run(words: &[String], timeout: Duration) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
    let (program, arguments) = words.split_first().ok_or(UnsealError::Empty)?;
    let start = |error| UnsealError::Start {
        program: program.clone(),
        error,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(start)?;
    let (sender, receiver) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        // Reading and waiting at once, so that neither side waits for the other.
        std::thread::spawn(move || sender.send(read_bounded(output)));
    }
    let fail = |what: String| UnsealError::Command {
        program: program.clone(),
        what,
    };
    let deadline = Instant::now() + timeout;
    let output = receiver.recv_timeout(timeout);
    let ended = wait_until(&mut child, deadline);
    match (output, ended) {
        (_, Err(error)) => Err(fail(format!("cannot be waited for: {error}"))),
        (_, Ok(None)) | (Err(_), _) => Err(fail(format!(
            "did not end within {} seconds",
            timeout.as_secs()
        ))),
        // It may have been cut off by that, which is not its failure.
        (Ok(Ok(bytes)), _) if bytes.len() > MAX_BYTES => {
            Err(fail(format!("wrote more than {MAX_BYTES} bytes")))
        }
        (Ok(_), Ok(Some(status))) if !status.success() => {
            Err(fail(format!("failed with {status}")))
        }
        (Ok(Err(error)), _) => Err(fail(format!("cannot be read from: {error}"))),
        (Ok(Ok(bytes)), _) => Ok(bytes),
    }
}

/// Waits for the end of `child`, or ends it at the deadline (and answers none).
fn wait_until(
    child: &mut Child,
    deadline: Instant,
) -> std::io::Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn key(bytes: &[u8]) -> Option<[u8; 32]> {
        match UnsealSecret::parse(bytes).unwrap().unsealing() {
            Unsealing::Key(key) => Some(*key.expose()),
            Unsealing::Passphrase(_) => None,
        }
    }

    fn passphrase(bytes: &[u8]) -> Vec<u8> {
        match UnsealSecret::parse(bytes).unwrap().unsealing() {
            Unsealing::Passphrase(passphrase) => passphrase.to_vec(),
            Unsealing::Key(_) => panic!("taken for a key: {bytes:?}"),
        }
    }

    #[test]
    fn a_key_is_known_raw_in_hexadecimal_and_in_base64() {
        let raw: [u8; 32] = std::array::from_fn(|index| u8::try_from(200 + index).unwrap());
        let hexadecimal: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        let base64 = STANDARD.encode(raw);
        for form in [
            raw.to_vec(),
            hexadecimal.to_uppercase().into_bytes(),
            hexadecimal.into_bytes(),
            base64.into_bytes(),
        ] {
            assert_eq!(key(&form), Some(raw));
            for end in [b"\n".as_slice(), b"\r\n"] {
                assert_eq!(key(&[&form, end].concat()), Some(raw));
            }
        }
    }

    #[test]
    fn a_raw_key_that_ends_in_a_line_break_is_whole() {
        let mut raw = [0xF0; 32];
        raw[31] = b'\n';
        assert_eq!(key(&raw), Some(raw));
    }

    #[test]
    fn text_of_a_keys_length_is_a_passphrase() {
        let text = b"thirty-two characters of a poem.";
        assert_eq!(text.len(), 32);
        assert_eq!(passphrase(text), text);
        let shorter = b"thirty-one letters of one poem.\n";
        assert_eq!(shorter.len(), 32);
        assert_eq!(passphrase(shorter), &shorter[..31]);
        assert_eq!(
            passphrase("dreißig Zeichen und ein Umlaut!".as_bytes()),
            "dreißig Zeichen und ein Umlaut!".as_bytes()
        );
        assert!(key(&[b'g'; 64]).is_none());
    }

    #[test]
    fn one_line_break_at_the_end_does_not_count() {
        assert_eq!(passphrase(b"a passphrase\n"), b"a passphrase");
        assert_eq!(passphrase(b"a passphrase\r\n"), b"a passphrase");
        assert_eq!(passphrase(b"a passphrase\n\n"), b"a passphrase\n");
        assert_eq!(passphrase(b" a passphrase "), b" a passphrase ");
    }

    #[test]
    fn empty_and_endless_secrets_are_refused() {
        for empty in [b"".as_slice(), b"\n", b"\r\n"] {
            assert!(matches!(
                UnsealSecret::parse(empty),
                Err(UnsealError::Empty)
            ));
        }
        assert!(matches!(
            UnsealSecret::parse(&[b'a'; MAX_BYTES + 1]),
            Err(UnsealError::TooLong)
        ));
        let endless = UnsealSource::File("/dev/zero".into()).read();
        assert!(matches!(endless, Err(UnsealError::TooLong)));
    }

    #[test]
    fn a_passphrase_of_few_characters_is_weak() {
        let weak = |bytes: &[u8]| UnsealSecret::parse(bytes).unwrap().is_weak();
        assert!(weak(b"elevenchars"));
        assert!(weak("ümläütchars".as_bytes()));
        assert!(!weak(b"twelve chars"));
        assert!(!weak(&[0xFF; 32]));
    }

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_command_gives_what_it_writes_and_must_succeed() {
        let output = run(&shell("echo from a vault"), COMMAND_TIMEOUT).unwrap();
        assert_eq!(output.as_slice(), b"from a vault\n");
        let failed = run(&shell("echo half; echo hush >&2; exit 3"), COMMAND_TIMEOUT)
            .unwrap_err()
            .to_string();
        assert!(failed.contains("exit status: 3"), "{failed}");
        assert!(
            !failed.contains("hush") && !failed.contains("half"),
            "{failed}"
        );
        let endless = run(&shell("yes"), COMMAND_TIMEOUT).unwrap_err().to_string();
        assert!(endless.contains("wrote more than 4096 bytes"), "{endless}");
        let missing = UnsealSource::Command(vec!["/no/such/program".into()])
            .read()
            .unwrap_err()
            .to_string();
        assert!(missing.contains("/no/such/program"), "{missing}");
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        for script in ["exec sleep 600", "exec yes", "exec >&-; exec sleep 600"] {
            let error = run(&shell(script), Duration::from_millis(300)).map(|bytes| bytes.len());
            match error {
                Err(UnsealError::Command { .. }) => {}
                other => panic!("{script}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_missing_variable_or_file_is_named() {
        let missing = UnsealSource::Env("FIELDSEAL_TEST_NO_SUCH".into())
            .read()
            .unwrap_err()
            .to_string();
        assert!(missing.contains("FIELDSEAL_TEST_NO_SUCH"), "{missing}");
        let missing = UnsealSource::File("/no/such/secret".into())
            .read()
            .unwrap_err()
            .to_string();
        assert!(missing.contains("/no/such/secret"), "{missing}");
    }

    #[test]
    fn a_secret_cannot_be_printed() {
        let secret = UnsealSecret::parse(b"do not print me").unwrap();
        assert_eq!(format!("{secret:?}"), "UnsealSecret(..)");
    }
}
