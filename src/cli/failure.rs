//! Why a command did not do its work, each reason with its code.

use std::fmt;

use crate::access::AccessError;
use crate::bench::documents::DocumentsError;
use crate::bench::fault::BenchError;
use crate::code::Code;
use crate::document::Mistakes;
use crate::inspect::InspectError;
use crate::keyring::{KeyringError, StepError, UnsealError};
use crate::migrate::EngineError;
use crate::migrate::database::DatabaseError;
use crate::observe::audit::AuditError;
use crate::policy::PolicyError;
use crate::proxy::BindError;
use crate::tls::TlsError;

/// Why a command did not do its work: one line for each thing that is wrong, with its code
/// at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(Vec<String>);

impl Failure {
    /// A failure of one reason, which says what is wrong, where, and what to do. If the reason
    /// is one that has a code, so does the failure.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self::coded(Code::Other, reason)
    }

    /// The same of a reason that has this code, unless its text ends in one.
    pub fn coded(code: Code, reason: impl fmt::Display) -> Self {
        // Messages of the system may have several lines.
        let mut line = reason
            .to_string()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        if !Code::ends(&line) {
            line.push_str(&format!(" [{code}]"));
        }
        Self(vec![line])
    }

    /// A failure of several reasons with the same code; none if there are none.
    pub(super) fn of_all<R: fmt::Display>(
        code: Code,
        reasons: impl IntoIterator<Item = R>,
    ) -> Option<Self> {
        let failures = reasons.into_iter().map(|reason| Self::coded(code, reason));
        failures.reduce(Self::and)
    }

    /// The mistakes of a file.
    pub(super) fn mistakes(code: Code, mistakes: &Mistakes) -> Self {
        Self::of_all(code, &mistakes.0).unwrap_or_else(|| Self::coded(code, mistakes))
    }

    /// The reasons, each on one line.
    pub fn lines(&self) -> &[String] {
        &self.0
    }

    /// Both failures in one.
    #[must_use]
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// Those of the configuration: a schema's are told by [`Failure::mistakes`].
impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::mistakes(Code::Configuration, &mistakes)
    }
}

impl From<Vec<TlsError>> for Failure {
    fn from(errors: Vec<TlsError>) -> Self {
        let failures = errors.iter().map(|error| Self::coded(error.code(), error));
        let failure = failures.reduce(Self::and);
        failure.unwrap_or_else(|| Self::coded(Code::CertificateUnusable, "no reason was told"))
    }
}

impl From<KeyringError> for Failure {
    fn from(error: KeyringError) -> Self {
        Self::coded(error.fault.code(), error)
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self::coded(error.code(), error)
    }
}

impl From<UnsealError> for Failure {
    fn from(error: UnsealError) -> Self {
        Self::coded(error.code(), error)
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        Self::coded(Code::Access, error)
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Self::coded(error.code(), error)
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        Self::coded(error.code(), error)
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::coded(error.code(), error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::coded(error.code(), error)
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        Self::coded(error.code(), error)
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        Self::coded(error.code(), error)
    }
}

impl From<DocumentsError> for Failure {
    fn from(error: DocumentsError) -> Self {
        Self::coded(Code::Dump, error)
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        Self::coded(error.code(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_for_each_thing_that_is_wrong() {
        let failure = Failure::new("first\n  and more").and(Failure::coded(Code::Output, "second"));
        assert_eq!(
            failure.lines(),
            ["first and more [FS9000]", "second [FS9003]"]
        );
    }

    #[test]
    fn a_reason_keeps_the_code_that_it_has() {
        let reason = Failure::coded(Code::Output, "no");
        let failure = Failure::new(format_args!("x: {}", reason.lines().join("; ")));
        assert_eq!(failure.lines(), ["x: no [FS9003]"]);
    }
}
