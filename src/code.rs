//! The codes of errors, one table of all: `docs/errors.md` explains each.

use std::fmt;

/// Makes the enum, the list of all and the words from one table, so that none lacks a part.
macro_rules! codes {
    ($($(#[$group:meta])* $name:ident = $number:literal, $what:literal;)+) => {
        /// What an error is called wherever it is met: `FS1007`. A code never changes its meaning.
        ///
        /// `FS1…`: refusals to clients. `FS2…`: configuration, schema, roles. `FS3…`: keys.
        /// `FS4…`: certificates. `FS5…`: MongoDB and the jobs on it. `FS6…`: the audit log.
        /// `FS7…`: connections, in the log alone. `FS9…`: the rest.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $what] $name = $number,)+
        }

        impl Code {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The number behind `FS`.
            pub fn number(self) -> u16 {
                match self { $(Self::$name => $number,)+ }
            }

            /// What it stands for, in a line.
            pub fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)+ }
            }
        }
    };
}

codes! {
    SealedField = 1001, "An operator, stage or option cannot be used on a sealed field.";
    SealedCollection = 1002, "A command or option is not supported where there are sealed fields.";
    MixedPlace = 1003, "Something is asked of a place where sealed and open values may stand.";
    UnknownOption = 1004, "A command has an option that this version does not know.";
    UnknownCommand = 1005, "A command that this version does not know.";
    UnknownStage = 1006, "A stage of an aggregation that this version does not know.";
    OldProtocol = 1007, "A message of the protocol before OP_MSG.";
    Malformed = 1008, "A message or a document in it does not hold together.";
    BadValue = 1009, "An operand that MongoDB would refuse too.";
    Forged = 1010, "A client sends a sealed value.";
    WrongType = 1011, "A value does not have a type that the schema names for its field.";
    MaskedValue = 1012, "A masked value is written back.";
    JavaScript = 1013, "A command holds JavaScript, which MongoDB is not given to run.";
    UnknownView = 1014, "Nobody may tell whether a view reaches sealed fields.";
    StoredView = 1015, "A view or validator would keep tokens in its definition.";
    TooLarge = 1020, "Once sealed, a value or message is larger than MongoDB takes.";
    OverBounds = 1021, "A document passes a bound of [limits].";
    TooManyCommands = 1022, "A principal sends more commands in a time than [limits] allows.";
    TooManyConnections = 1023, "A principal has more connections than [limits] allows.";
    KeyNotLoaded = 1030, "A stored value is sealed under a key version that the key file does not have.";
    KeyDisabled = 1031, "A stored value is sealed under a key version that is disabled.";
    KeyDestroyed = 1032, "A stored value is sealed under a key version that was destroyed.";
    Altered = 1033, "A stored value was altered, or is sealed under another keyring.";
    Moved = 1034, "A stored value was sealed for another field or collection.";
    PlaintextFound = 1035, "Plaintext is stored in a sealed field.";
    ChangedInPart = 1036, "Something inside a sealed field was changed on MongoDB itself.";
    ReplyNotUnderstood = 1037, "MongoDB's reply does not hold together, or is not the one that was asked for.";
    NotAudited = 1038, "Values are not shown because the audit log cannot be written.";
    FieldNotPermitted = 1040, "Who asks may not read or write a sealed field.";
    CommandNotPermitted = 1041, "Who asks may not send this command.";
    RolesChanged = 1042, "Other roles are in force since a cursor or stream began.";
    NotLoggedIn = 1043, "A login that cannot be, or that did not succeed.";

    Configuration = 2001, "The configuration has a mistake.";
    Schema = 2002, "The schema has a mistake.";
    SchemaKey = 2003, "A key is named that the key file does not have.";
    SchemaRole = 2004, "The schema names a role that nobody has.";
    Access = 2005, "The roles, rules or passwords of [access] are not what they have to be.";
    SchemaAccess = 2006, "Two collections with the same identity give a field to different roles.";
    NotTakenUp = 2007, "A change of the files is not put in force without a restart.";
    Argument = 2008, "An argument of the command line does not fit the configuration or the others.";
    Usage = 2009, "The command line is not understood.";

    KeyFileMissing = 3001, "There is no key file.";
    KeyFileUnreadable = 3002, "The key file cannot be read.";
    KeyFileUnwritable = 3003, "The key file cannot be written.";
    KeyFileMalformed = 3004, "The file is no key file, or one of a later version.";
    WrongSecret = 3005, "The unseal secret is not that of the key file.";
    KeyFileEdited = 3006, "The key file was edited.";
    KeyFileWentBack = 3007, "The key file is older than one that was seen in its place.";
    KeyFileMark = 3008, "What notes the newest generation of the key file is damaged.";
    KeyFileExists = 3009, "A key file is there already.";
    KeyFileLocked = 3010, "Another process writes the key file.";
    WeakPassphrase = 3011, "The passphrase of the key file can be guessed.";
    UnknownKey = 3012, "The key file has no such key.";
    KeyStep = 3013, "A version or epoch cannot become what was asked for.";
    KeyName = 3014, "A name that no key can have.";
    Random = 3015, "The system gives no random numbers.";
    SecretUnreadable = 3016, "The unseal secret cannot be had.";
    SecretUnfit = 3017, "The unseal secret is empty or too long.";
    NotConfirmed = 3018, "What cannot be undone was not confirmed.";
    TokensLacking = 3019, "Documents lack tokens of an index epoch that is to be put in force.";

    CertificateUnreadable = 4001, "A file of certificates or keys cannot be read.";
    CertificateMalformed = 4002, "A file of certificates or keys does not hold what it should.";
    CertificateKey = 4003, "A private key cannot be used, or is not that of its certificate.";
    CertificateExpired = 4004, "The time of a certificate is over.";
    CertificateNotYet = 4005, "The time of a certificate has not begun.";
    CertificateUnusable = 4006, "A certificate or authority cannot be used.";
    CertificatesNotMade = 4007, "Certificates for development were not made.";

    ConnectionString = 5001, "A connection string cannot be used.";
    Unreachable = 5002, "MongoDB cannot be reached.";
    Database = 5003, "MongoDB refused, or went away.";
    NotSealed = 5004, "The schema seals nothing in the collection or field that was named.";
    NoTransactions = 5005, "MongoDB runs as a standalone, without transactions.";
    NotPrimary = 5006, "The member that was reached takes no writes.";
    Standing = 5007, "What stands under a name cannot be worked on: a view, a time series, a capped collection.";
    OnPlaintext = 5008, "The schema does not say what proxies have to do while a job runs.";
    Index = 5009, "An index or view cannot be kept as it is.";
    Validator = 5010, "The collection's validator refuses what a job writes.";
    StoredDocument = 5011, "A stored document cannot be worked on.";
    LeftOver = 5012, "A job left something as it was.";
    Stopped = 5013, "A job was stopped before its end.";
    FilesChanged = 5014, "Configuration, schema or key file changed while a job ran.";
    NotAsSchema = 5015, "What is stored is not what the schema says.";
    NotReached = 5016, "An upstream of a route was not reached, and --require-upstream asks for it.";

    AuditUnwritable = 6001, "The audit log cannot be written or read.";
    AuditInUse = 6002, "Another process writes the audit log.";
    AuditNotALog = 6003, "A file does not end as an audit log does.";
    AuditNotWhole = 6004, "The audit log is not whole.";
    AuditUnset = 6005, "The configuration has no [audit].";

    ClientProtocol = 7001, "What a client sends is not the wire protocol.";
    ClientSlow = 7002, "A client does not send or read in time.";
    ClientHandshake = 7003, "The TLS handshake of a client failed.";
    ClientNotAdmitted = 7004, "A client may not connect, or there are too many.";
    UpstreamConnection = 7005, "A connection to MongoDB broke off, or brought no answer to what was asked.";
    CutOff = 7006, "Operations were cut off when the proxy stopped.";
    BrokeOff = 7007, "A part of the proxy broke off or stands still, which is a mistake in it.";

    Other = 9000, "None of the others.";
    Listen = 9001, "An address cannot be listened on.";
    Start = 9002, "The system does not give what the program needs to run.";
    Output = 9003, "A file or the standard output cannot be written.";
    Dump = 9004, "A dump or file of documents cannot be read.";
    DumpDamaged = 9005, "A dump is damaged.";
    Mongod = 9006, "No mongod could be started.";
    Bench = 9007, "A bench ended early.";
    Demo = 9008, "The tour ended early.";
    Telemetry = 9009, "Traces cannot be sent.";
}

/// Words of a log line, with a code at their end unless they have one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coded<T>(pub(crate) T, pub(crate) Code);

impl<T: fmt::Display> fmt::Display for Coded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(words, code) = self;
        let words = words.to_string();
        f.write_str(&words)?;
        match Code::ends(&words) {
            true => Ok(()),
            false => write!(f, " [{code}]"),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FS{:04}", self.number())
    }
}

impl Code {
    /// Whether a text ends in a code of its own.
    pub(crate) fn ends(text: &str) -> bool {
        let code = text
            .strip_suffix(']')
            .and_then(|text| text.rsplit_once(" [FS"));
        code.is_some_and(|(_, number)| {
            let mut codes = Self::ALL.iter();
            codes.any(|code| number.parse() == Ok(code.number()))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_explains_every_code_and_no_other() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
        let page = std::fs::read_to_string(page).unwrap();
        let headings: Vec<&str> = (page.lines())
            .filter_map(|line| line.strip_prefix("### "))
            .collect();
        let expected: Vec<String> = (Code::ALL.iter())
            .map(|code| format!("{code}: {}", code.what().trim_end_matches('.')))
            .collect();
        assert_eq!(headings, expected);
        for (code, rest) in page.split("\n### ").skip(1).map(|part| part.split_at(6)) {
            let example = format!("[{code}]\n");
            assert!(rest.contains(&example), "an example line of {code}");
            assert!(rest.contains("**What to do:** "), "what to do about {code}");
        }
    }

    #[test]
    fn no_code_is_used_twice() {
        let mut numbers: Vec<u16> = Code::ALL.iter().map(|code| code.number()).collect();
        assert!(numbers.is_sorted(), "in order");
        let all = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
    }

    #[test]
    fn a_text_has_one_code_at_its_end() {
        let coded = |words| Coded(words, Code::ClientSlow).to_string();
        assert_eq!(coded("late"), "late [FS7002]");
        assert_eq!(coded("x: no [FS3001]"), "x: no [FS3001]");
        assert!(Code::ends("x: no [FS3001]"));
        for text in [
            "",
            "[FS3001]",
            "x [FS3001",
            "x [FS0001]",
            "x [FS]",
            "x [FS3001] y",
        ] {
            assert!(!Code::ends(text), "{text}");
        }
    }
}
