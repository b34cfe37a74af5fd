//! How a session ends when the proxy stops: as one of MongoDB's does when its server shuts down
//! in quiesce mode.

use std::time::Duration;

use super::{Asked, Buffers, Session};
use crate::code::{Code, Coded};
use crate::proxy::life::{LAST_WORDS, QUIET, Stage};
use crate::proxy::link::Ended;
use crate::raw::Writer;
use crate::rewrite::Request;
use crate::wire;

/// What drivers are told of an error: whether they may do the command again.
pub(super) type Labels = &'static [&'static str];

/// An error of MongoDB's that all drivers take for a server that is going away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    /// The command is not begun.
    ShutdownInProgress,
    /// The command was begun, and may be done or not.
    InterruptedAtShutdown,
}

impl Going {
    fn code(self) -> i32 {
        match self {
            Self::ShutdownInProgress => 91,
            Self::InterruptedAtShutdown => 11600,
        }
    }

    fn write(self, labels: Labels, writer: &mut Writer<'_>) {
        let (name, what) = match self {
            Self::ShutdownInProgress => (
                "ShutdownInProgress",
                "fieldseal: this proxy is shutting down",
            ),
            Self::InterruptedAtShutdown => (
                "InterruptedAtShutdown",
                "fieldseal: this proxy is shutting down, and MongoDB had not answered yet",
            ),
        };
        // Without a `topologyVersion`. MongoDB's own goes on counting behind the next proxy at
        // this address: a driver that was told of a later one would believe none of its answers,
        // and takes an error with the present one for old news.
        writer.double("ok", 0.0);
        writer.string("errmsg", what);
        writer.int32("code", self.code());
        writer.string("codeName", name);
        if !labels.is_empty() {
            let open = writer.begin_array("errorLabels");
            for (index, label) in labels.iter().enumerate() {
                writer.string(&index.to_string(), label);
            }
            writer.end(open);
        }
    }
}

/// The labels that MongoDB gives such an error.
pub(super) fn labels(request: &Request<'_>) -> Labels {
    let again = request.again();
    let name = request.parts().map_or("", |(name, ..)| name);
    let decides = matches!(name, "commitTransaction" | "abortTransaction");
    match (again.in_transaction, again.numbered) {
        _ if decides => &["RetryableWriteError"],
        // Nothing of it is done until it is committed, so it can be begun anew.
        (true, _) => &["TransientTransactionError"],
        (false, true) => &["RetryableWriteError"],
        // A change stream finds its place again; to other cursors it means nothing.
        (false, false) if name == "getMore" => &["ResumableChangeStreamError"],
        (false, false) => &[],
    }
}

/// What the last command over a connection left that another one is to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unfinished {
    cursor: bool,
    transaction: bool,
}

impl Unfinished {
    /// What a request leaves, as far as it says so itself.
    pub(super) fn of(request: &Request<'_>) -> Self {
        let decides = |name: &str| matches!(name, "commitTransaction" | "abortTransaction");
        Self {
            cursor: false,
            transaction: request.again().in_transaction
                && !request.parts().is_some_and(|(name, ..)| decides(name)),
        }
    }

    /// What its reply says: the cursor that it begins with.
    pub(super) fn note(&mut self, cursor: Option<i64>) {
        self.cursor = cursor.is_some_and(|cursor| cursor != 0);
    }
}

/// How long a connection may be quiet before it is closed at this stage, if that is bounded.
pub(super) fn quiet(stage: Stage, unfinished: &Unfinished) -> Option<Duration> {
    match stage {
        Stage::Starting | Stage::Serving => None,
        Stage::Draining if unfinished.cursor || unfinished.transaction => None,
        Stage::Draining => Some(QUIET),
        Stage::Ending => Some(LAST_WORDS),
    }
}

impl Session {
    /// Answers a request that is not begun, since the proxy stops.
    pub(super) async fn turn_away(&mut self, asked: Asked, labels: Labels) -> Result<(), Ended> {
        self.say(asked, Going::ShutdownInProgress, labels).await
    }

    /// The same of the last request, and ends the session.
    pub(super) async fn dismiss_last(&mut self, asked: Asked, labels: Labels) -> Result<(), Ended> {
        self.turn_away(asked, labels).await?;
        self.link.farewell().await?;
        Err(Ended::Stopping)
    }

    /// Answers a request that MongoDB has not answered, and ends the session: MongoDB ends what
    /// it does for a connection that closes. A `hello` waits for news, and gets these.
    pub(super) async fn interrupt(
        &mut self,
        asked: Asked,
        hello: bool,
        labels: Labels,
    ) -> Result<(), Ended> {
        let why = if hello {
            Going::ShutdownInProgress
        } else {
            Going::InterruptedAtShutdown
        };
        self.say(asked, why, labels).await?;
        self.link.farewell().await?;
        Err(Ended::Stopping)
    }

    async fn say(&mut self, asked: Asked, why: Going, labels: Labels) -> Result<(), Ended> {
        if !asked.wants_reply {
            let said =
                "a request that wants no reply came when the proxy had stopped: it is not done";
            tracing::warn!("{}", Coded(said, Code::CutOff));
            return Ok(());
        }
        self.replies = self.replies.wrapping_add(1);
        let (number, to) = (self.replies, asked.request_id);
        let Buffers { built, other, .. } = &mut self.buffers;
        wire::short_reply(asked.form, number, to, built, |writer| {
            why.write(labels, writer)
        });
        self.journal.not_done(why.code());
        self.link.answer(built, asked.compressor, other).await
    }
}
