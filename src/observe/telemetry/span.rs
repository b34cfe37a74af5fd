//! What a trace says of a command, in the words of OpenTelemetry's conventions for databases.
//!
//! The time of each phase is a sum of pieces, and when those were is not known. So they are
//! attributes. MongoDB's part alone has a span of its own, since maps of services are drawn by it.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};

use crate::observe::command::{Finished, Outcome, Phase, Times};
use crate::policy::LONGEST_NAMESPACE;
use crate::rewrite::is_command;

/// The convention's word for what has no word.
const OTHER: &str = "_OTHER";

/// A command that is traced, until its spans are made of it.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) trace: [u8; 16],
    /// The client's span.
    pub(super) parent: Option<[u8; 8]>,
    connection: u64,
    request: u64,
    command: Box<str>,
    namespace: Box<str>,
    outcome: Outcome,
    began: SystemTime,
    times: Times,
    request_bytes: usize,
    reply_bytes: usize,
}

impl Record {
    /// Of a command in trace `trace`.
    pub(super) fn of(finished: &Finished<'_>, trace: [u8; 16]) -> Self {
        let namespace = finished.namespace;
        let end = (0..=namespace.len().min(LONGEST_NAMESPACE))
            .rev()
            .find(|end| namespace.is_char_boundary(*end))
            .unwrap_or_default();
        Self {
            trace,
            parent: finished.parent.map(|parent| parent.span),
            connection: finished.connection,
            request: finished.request,
            command: finished.command.into(),
            namespace: namespace.get(..end).unwrap_or_default().into(),
            outcome: finished.outcome,
            began: finished.began,
            times: finished.times,
            request_bytes: finished.request_bytes,
            reply_bytes: finished.reply_bytes,
        }
    }

    /// The command's span, and below it that of MongoDB's part, if it had one.
    pub(super) fn spans(self, scope: &InstrumentationScope) -> impl Iterator<Item = SpanData> {
        let ids = RandomIdGenerator::default();
        let (own, below) = (ids.new_span_id(), ids.new_span_id());
        let operation = Operation::of(&self.command, &self.namespace);
        let phase = |phase| time_of(&self.times, phase);
        let make = |id, parent, is_remote, kind| SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(self.trace),
                id,
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: parent,
            parent_span_is_remote: is_remote,
            span_kind: kind,
            name: operation.span_name().into(),
            start_time: self.began,
            end_time: later(self.began, self.times.whole),
            attributes: operation.attributes(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: scope.clone(),
        };

        let parent = self.parent.map_or(SpanId::INVALID, SpanId::from_bytes);
        let mut command = make(own, parent, self.parent.is_some(), SpanKind::Server);
        command.attributes.extend(self.attributes());
        tell_of_error(&mut command, self.outcome);

        let upstream = phase(Phase::Upstream);
        let upstream = (!upstream.is_zero()).then(|| {
            let mut span = make(below, own, false, SpanKind::Client);
            // At the earliest: how much of the client's time was before it is not known.
            let before = phase(Phase::Policy).saturating_add(phase(Phase::Seal));
            span.start_time = later(self.began, before);
            span.end_time = later(span.start_time, upstream);
            if let Outcome::Error(_) = self.outcome {
                tell_of_error(&mut span, self.outcome);
            }
            span
        });
        std::iter::once(command).chain(upstream)
    }

    /// What is not the database's.
    fn attributes(&self) -> impl Iterator<Item = KeyValue> {
        let phases = Phase::ALL.into_iter().zip(self.times.phases);
        let phases = phases.map(|(phase, time)| {
            let name = match phase {
                Phase::Client => "fieldseal.phase.client",
                Phase::Policy => "fieldseal.phase.policy",
                Phase::Seal => "fieldseal.phase.seal",
                Phase::Upstream => "fieldseal.phase.upstream",
                Phase::Open => "fieldseal.phase.open",
            };
            KeyValue::new(name, time.as_secs_f64())
        });
        let count = |count: u64| Value::I64(i64::try_from(count).unwrap_or(i64::MAX));
        let size = |size: usize| Value::I64(i64::try_from(size).unwrap_or(i64::MAX));
        [
            KeyValue::new("fieldseal.outcome", self.outcome.word()),
            // The words that the log has for them.
            KeyValue::new("fieldseal.conn", count(self.connection)),
            KeyValue::new("fieldseal.request", count(self.request)),
            KeyValue::new("fieldseal.request.bytes", size(self.request_bytes)),
            KeyValue::new("fieldseal.reply.bytes", size(self.reply_bytes)),
        ]
        .into_iter()
        .chain(phases)
    }
}

/// What is done where.
struct Operation<'r> {
    command: &'r str,
    database: &'r str,
    collection: &'r str,
}

impl<'r> Operation<'r> {
    /// A name that MongoDB does not have is not passed on: whatever a client sent in its place
    /// may be anything, as may be what it sent with it.
    fn of(command: &'r str, namespace: &'r str) -> Self {
        if !is_command(command) {
            return Self {
                command: OTHER,
                database: "",
                collection: "",
            };
        }
        let (database, collection) = namespace.split_once('.').unwrap_or((namespace, ""));
        Self {
            command,
            database,
            // Stands for none.
            collection: if collection.starts_with("$cmd") {
                ""
            } else {
                collection
            },
        }
    }

    fn span_name(&self) -> String {
        let target = if self.collection.is_empty() {
            self.database
        } else {
            self.collection
        };
        if target.is_empty() {
            self.command.to_owned()
        } else {
            format!("{} {target}", self.command)
        }
    }

    fn attributes(&self) -> Vec<KeyValue> {
        // As many as a span has in all.
        let mut attributes = Vec::with_capacity(16);
        attributes.push(KeyValue::new("db.system.name", "mongodb"));
        for (name, value) in [
            ("db.operation.name", self.command),
            ("db.namespace", self.database),
            ("db.collection.name", self.collection),
        ] {
            if !value.is_empty() {
                attributes.push(KeyValue::new(name, value.to_owned()));
            }
        }
        attributes
    }
}

fn tell_of_error(span: &mut SpanData, outcome: Outcome) {
    let (code, kind) = match outcome {
        Outcome::Sent | Outcome::Ok => return,
        Outcome::Error(code) => (code.to_string(), code.to_string()),
        Outcome::Refused(code) => (code.to_string(), "fieldseal.refused".to_owned()),
    };
    span.status = Status::error("");
    (span.attributes).push(KeyValue::new("db.response.status_code", code));
    span.attributes.push(KeyValue::new("error.type", kind));
}

fn time_of(times: &Times, phase: Phase) -> Duration {
    let all = Phase::ALL.into_iter().zip(times.phases);
    all.filter(|(other, _)| *other == phase)
        .map(|(_, time)| time)
        .sum()
}

fn later(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_add(by).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::observe::command::Parent;

    const PARENT: Parent = Parent {
        trace: [7; 16],
        span: [9; 8],
        sampled: true,
    };

    fn finished() -> Finished<'static> {
        let micros = Duration::from_micros;
        Finished {
            connection: 3,
            request: 12,
            command: "find",
            namespace: "shop.customers.archive",
            outcome: Outcome::Ok,
            began: SystemTime::UNIX_EPOCH + Duration::from_secs(100),
            times: Times {
                whole: micros(1_000),
                phases: [10, 20, 30, 400, 50].map(micros),
            },
            request_bytes: 150,
            reply_bytes: 4096,
            parent: None,
        }
    }

    fn spans(finished: &Finished<'_>) -> Vec<SpanData> {
        let scope = InstrumentationScope::builder("test").build();
        Record::of(finished, [1; 16]).spans(&scope).collect()
    }

    fn attribute(span: &SpanData, name: &str) -> Option<String> {
        let found = (span.attributes.iter()).find(|attribute| attribute.key.as_str() == name);
        found.map(|attribute| attribute.value.to_string())
    }

    #[test]
    fn a_span_says_what_was_done_where_and_how_long_each_phase_took() {
        let [command, upstream] = spans(&finished()).try_into().unwrap();
        assert_eq!(command.name, "find customers.archive");
        assert_eq!(command.span_kind, SpanKind::Server);
        assert_eq!(command.parent_span_id, SpanId::INVALID);
        assert_eq!(command.status, Status::Unset);
        let length = |span: &SpanData| span.end_time.duration_since(span.start_time).unwrap();
        assert_eq!(length(&command), Duration::from_micros(1_000));
        for (name, value) in [
            ("db.system.name", "mongodb"),
            ("db.operation.name", "find"),
            ("db.namespace", "shop"),
            ("db.collection.name", "customers.archive"),
            ("fieldseal.outcome", "ok"),
            ("fieldseal.conn", "3"),
            ("fieldseal.request", "12"),
            ("fieldseal.request.bytes", "150"),
            ("fieldseal.reply.bytes", "4096"),
            ("fieldseal.phase.client", "0.00001"),
            ("fieldseal.phase.policy", "0.00002"),
            ("fieldseal.phase.seal", "0.00003"),
            ("fieldseal.phase.upstream", "0.0004"),
            ("fieldseal.phase.open", "0.00005"),
        ] {
            assert_eq!(attribute(&command, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(attribute(&command, "error.type"), None);

        assert_eq!(upstream.span_kind, SpanKind::Client);
        assert_eq!(upstream.parent_span_id, command.span_context.span_id());
        assert_eq!(length(&upstream), Duration::from_micros(400));
        assert!(upstream.start_time >= command.start_time && upstream.end_time <= command.end_time);
        assert_eq!(attribute(&upstream, "db.operation.name").unwrap(), "find");
    }

    #[test]
    fn it_stands_below_the_clients_span() {
        let with = Finished {
            parent: Some(PARENT),
            ..finished()
        };
        let [command, upstream] = spans(&with).try_into().unwrap();
        assert_eq!(command.parent_span_id, SpanId::from_bytes([9; 8]));
        assert!(command.parent_span_is_remote && !upstream.parent_span_is_remote);
        assert_ne!(
            command.span_context.span_id(),
            upstream.span_context.span_id()
        );
    }

    #[test]
    fn an_error_is_told_by_its_code_alone_and_of_whom_it_is() {
        let of = |outcome| {
            spans(&Finished {
                outcome,
                ..finished()
            })
        };
        let [command, upstream] = of(Outcome::Error(11000)).try_into().unwrap();
        for span in [&command, &upstream] {
            assert_eq!(span.status, Status::error(""));
            let code = attribute(span, "db.response.status_code");
            assert_eq!(code.as_deref(), Some("11000"));
            assert_eq!(attribute(span, "error.type").as_deref(), Some("11000"));
        }
        let [command, upstream] = of(Outcome::Refused(13)).try_into().unwrap();
        assert_eq!(
            attribute(&command, "error.type").unwrap(),
            "fieldseal.refused"
        );
        assert_eq!(attribute(&command, "fieldseal.outcome").unwrap(), "refused");
        assert_eq!(upstream.status, Status::Unset);
    }

    #[test]
    fn what_mongodb_was_not_asked_has_no_span_of_its() {
        let mut refused = finished();
        refused.times.phases[3] = Duration::ZERO;
        assert_eq!(spans(&refused).len(), 1);
    }

    #[test]
    fn names_that_a_client_made_up_are_not_passed_on() {
        let made_up = Finished {
            command: "canary@example.com",
            namespace: "shop.canary",
            ..finished()
        };
        for span in spans(&made_up) {
            assert_eq!(span.name, "_OTHER");
            assert!(!format!("{span:?}").contains("canary"), "{span:?}");
        }
        let long = "ü".repeat(10_000);
        let endless = Finished {
            namespace: &long,
            ..finished()
        };
        assert!(spans(&endless).iter().all(|span| span.name.len() <= 300));
        let bare = Finished {
            command: "ping",
            namespace: "admin.$cmd",
            ..finished()
        };
        assert!(spans(&bare).iter().all(|span| span.name == "ping admin"));
    }
}
