//! A command that is over, as those who observe the proxy are told of it. Never a value.

use std::fmt;
use std::time::{Duration, SystemTime};

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No reply was wanted, or none came.
    Sent,
    /// MongoDB answered `ok: 1`.
    Ok,
    /// MongoDB answered an error of this code.
    Error(i64),
    /// The proxy answered one.
    Refused(i32),
}

impl Outcome {
    /// For metrics and traces: few words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Ok => "ok",
            Self::Error(_) => "error",
            Self::Refused(_) => "refused",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent | Self::Ok => f.write_str(self.word()),
            Self::Error(code) => write!(f, "error {code}"),
            Self::Refused(code) => write!(f, "refused {code}"),
        }
    }
}

/// What a command's time went into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading the rest of the request, and writing the reply: the client's pace.
    Client,
    /// Recognising the request, and whether it may be sent now: limits, login, views.
    Policy,
    /// Deciding and rewriting, and so sealing.
    Seal,
    /// MongoDB, and the way there and back.
    Upstream,
    /// Looking through the reply, opening what is sealed, and the audit log.
    Open,
}

impl Phase {
    /// All of them, in the order of a command.
    pub const ALL: [Self; 5] = [
        Self::Client,
        Self::Policy,
        Self::Seal,
        Self::Upstream,
        Self::Open,
    ];

    /// The word for it in metrics, logs and traces.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Policy => "policy",
            Self::Seal => "seal",
            Self::Upstream => "upstream",
            Self::Open => "open",
        }
    }
}

/// How long a command took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// From the first byte of the request to the last one of the reply.
    pub whole: Duration,
    /// Of it, each phase, in the order of [`Phase::ALL`].
    pub phases: [Duration; 5],
}

/// A command that is over. Of a stream of replies, each one.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'f> {
    /// Tells its connection from every other of this process: `conn` in the log.
    pub connection: u64,
    /// Its number on that connection, from 1: `request` in the log.
    pub request: u64,
    /// The name of the command, at most 64 characters as the client sent it; empty: unknown.
    pub command: &'f str,
    /// The namespace, as the client sent it; empty: none.
    pub namespace: &'f str,
    /// What became of it.
    pub outcome: Outcome,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub times: Times,
    /// Bytes of the request, as they came.
    pub request_bytes: usize,
    /// Bytes of the reply, before they are compressed for the client; 0: none.
    pub reply_bytes: usize,
    /// The trace that the client said it belongs to: a W3C `traceparent`.
    pub parent: Option<Parent>,
}

/// The parts of a W3C `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Of the trace.
    pub trace: [u8; 16],
    /// Of the client's span.
    pub span: [u8; 8],
    /// Whether the client traces it.
    pub sampled: bool,
}

impl Finished<'_> {
    /// Logs it as a slow command, with its phases.
    pub fn log(&self) {
        let of = |phase: Phase| {
            let at = Phase::ALL.iter().position(|other| *other == phase);
            at.and_then(|at| self.times.phases.get(at)).copied()
        };
        let milliseconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1000.0;
        tracing::warn!(
            conn = self.connection,
            request = self.request,
            namespace = self.namespace,
            command = self.command,
            outcome = %self.outcome,
            milliseconds = milliseconds(Some(self.times.whole)),
            client = milliseconds(of(Phase::Client)),
            policy = milliseconds(of(Phase::Policy)),
            seal = milliseconds(of(Phase::Seal)),
            upstream = milliseconds(of(Phase::Upstream)),
            open = milliseconds(of(Phase::Open)),
            request_bytes = self.request_bytes,
            reply_bytes = self.reply_bytes,
            "slow command"
        );
    }
}
