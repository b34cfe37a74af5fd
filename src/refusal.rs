//! What a client is told when its request is not passed on.

use std::fmt::{self, Write as _};

use crate::code::Code;

/// Why a request was refused; becomes a MongoDB error reply (`ok: 0`).
///
/// The message names the command, the path, the operator and what to do
/// instead. It never holds a value. Displayed, it is what may be logged, with the code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} [{code}]", OneLine(logged.as_deref().unwrap_or(message)))]
pub struct Refusal {
    /// Which of MongoDB's error codes the client sees. No driver retries any of them.
    pub kind: RefusalKind,
    /// What the documentation calls it.
    pub code: Code,
    /// For the client, together with the code. Begins with `fieldseal: `.
    pub message: String,
    /// For the log, if the message is not.
    logged: Option<String>,
}

/// The longest message, in characters: names that clients send may be longer.
const LONGEST_MESSAGE: usize = 4000;

/// Text on one line: a client must not write lines of the log by the names that it sends.
pub(crate) struct OneLine<'t>(pub(crate) &'t str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| {
            if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
                write!(f, "{}", character.escape_unicode())
            } else {
                f.write_char(character)
            }
        })
    }
}

/// The error codes that refusals use, with MongoDB's names for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request is understood but cannot be answered exactly over sealed fields.
    NotSupported,
    /// A command or statement has an option that this proxy does not know.
    UnknownOption,
    /// A command this proxy does not know.
    UnknownCommand,
    /// A stage of an aggregation that this proxy does not know.
    UnknownStage,
    /// The message or a document in it is malformed.
    Malformed,
    /// An operand that MongoDB refuses too, and would see first.
    BadValue,
    /// A value of a sealed field does not have the type that the schema names.
    WrongType,
    /// The request would exceed MongoDB's message size once sealed, or a limit of the proxy.
    TooLarge,
    /// A stored value cannot be opened: its key is missing, or it was tampered with.
    CannotOpen,
    /// Who asks may not do this.
    Unauthorized,
    /// Who asks sends more commands in a time than is allowed. Without the labels that
    /// MongoDB adds to this code, no driver tries again by itself.
    TooManyCommands,
    /// Who asks has more connections than is allowed.
    TooManyConnections,
    /// A login that cannot be, or that did not succeed.
    AuthenticationFailed,
}

impl RefusalKind {
    /// Whether it lies in what a statement says, so that the statements beside it
    /// can go on. What does not hold together, or is not known, refuses them all.
    pub fn is_of_statement(self) -> bool {
        matches!(
            self,
            Self::NotSupported | Self::WrongType | Self::TooLarge | Self::Unauthorized
        )
    }

    /// What the documentation calls it, if nothing finer is said.
    fn documented(self) -> Code {
        match self {
            Self::NotSupported => Code::SealedCollection,
            Self::UnknownOption => Code::UnknownOption,
            Self::UnknownCommand => Code::UnknownCommand,
            Self::UnknownStage => Code::UnknownStage,
            Self::Malformed => Code::Malformed,
            Self::BadValue => Code::BadValue,
            Self::WrongType => Code::WrongType,
            Self::TooLarge => Code::TooLarge,
            Self::CannotOpen => Code::ReplyNotUnderstood,
            Self::Unauthorized => Code::FieldNotPermitted,
            Self::TooManyCommands => Code::TooManyCommands,
            Self::TooManyConnections => Code::TooManyConnections,
            Self::AuthenticationFailed => Code::NotLoggedIn,
        }
    }

    /// MongoDB's error code.
    pub fn code(self) -> i32 {
        match self {
            Self::NotSupported | Self::UnknownOption => 115,
            Self::UnknownCommand => 59,
            Self::UnknownStage => 40324,
            Self::Malformed => 22,
            Self::BadValue => 2,
            Self::WrongType => 121,
            Self::TooLarge => 10334,
            Self::CannotOpen => 96,
            Self::Unauthorized => 13,
            Self::TooManyCommands => 462,
            Self::TooManyConnections => 261,
            Self::AuthenticationFailed => 18,
        }
    }

    /// MongoDB's name of that code.
    pub fn code_name(self) -> &'static str {
        match self {
            Self::NotSupported | Self::UnknownOption => "CommandNotSupported",
            Self::UnknownCommand => "CommandNotFound",
            // MongoDB has no other name for it.
            Self::UnknownStage => "Location40324",
            Self::Malformed => "InvalidBSON",
            Self::BadValue => "BadValue",
            Self::WrongType => "DocumentValidationFailure",
            Self::TooLarge => "BSONObjectTooLarge",
            Self::CannotOpen => "OperationFailed",
            Self::Unauthorized => "Unauthorized",
            Self::TooManyCommands => "IngressRequestRateLimitExceeded",
            Self::TooManyConnections => "TooManyLogicalSessions",
            Self::AuthenticationFailed => "AuthenticationFailed",
        }
    }
}

impl Refusal {
    /// The same, of a part of the command: `place` says which, if the message does not
    /// name one already.
    #[must_use]
    pub(crate) fn within(mut self, place: &str) -> Self {
        if self.message.contains("stage ") {
            return self;
        }
        for text in std::iter::once(&mut self.message).chain(self.logged.as_mut()) {
            text.push_str("; this is in ");
            text.push_str(place);
        }
        self
    }

    /// A refusal of `kind`; `what` says what, where and what to do instead.
    pub fn new(kind: RefusalKind, what: impl std::fmt::Display) -> Self {
        let mut message = format!("fieldseal: {what}");
        if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.truncate(end);
            message.push('…');
            message.shrink_to_fit();
        }
        Self {
            kind,
            code: kind.documented(),
            message,
            logged: None,
        }
    }

    /// The same under the code of its own that the documentation has for it.
    #[must_use]
    pub(crate) fn coded(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// The text that the client is told.
    pub fn told(&self) -> String {
        format!("{} [{}]", self.message, self.code)
    }

    /// The same, of which the log says only what `other` does: the names below a
    /// sealed field are sealed with it, and only their client may be told of them.
    #[must_use]
    pub fn logged_as(self, other: Self) -> Self {
        Self {
            logged: Some(other.message),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_client_sends_begins_no_line_of_the_log() {
        let names = "find on shop.x\n2026 ERROR \u{1b}[31m\u{85}\u{2028}\u{9b}é";
        let refusal = Refusal::new(RefusalKind::UnknownOption, names);
        let logged = refusal.to_string();
        assert!(!logged.contains(|c: char| c.is_control() || c == '\u{2028}'));
        assert!(
            logged.contains("x\\u{a}2026") && logged.ends_with("é [FS1004]"),
            "{logged}"
        );
        assert!(refusal.message.contains('\n'));
        let logged = refusal
            .clone()
            .logged_as(Refusal::new(RefusalKind::Malformed, "a\rb"));
        assert!(!logged.to_string().contains('\r'));
    }

    #[test]
    fn a_long_name_makes_no_long_message() {
        let refusal = Refusal::new(RefusalKind::UnknownCommand, "é".repeat(1_000_000));
        assert_eq!(refusal.message.chars().count(), LONGEST_MESSAGE + 1);
        assert!(refusal.message.ends_with('…'));
        assert!(refusal.told().ends_with("… [FS1005]"));
    }
}
