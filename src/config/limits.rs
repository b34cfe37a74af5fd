//! `[limits]`: bounds on what clients may ask for.

use std::num::NonZeroU32;
use std::time::Duration;

use super::load::Checker;
use crate::document::{Keys, Node, Place};

const LIMITS: Keys = Keys {
    of: "`limits`",
    known: &[
        "connections",
        "connections_per_ip",
        "connections_per_principal",
        "commands_per_second",
        "commands_burst",
        "message_bytes",
        "memory_bytes",
        "document_depth",
        "array_length",
        "handshake_timeout_seconds",
        "idle_timeout_seconds",
        "drain_timeout_seconds",
    ],
    later: &[],
};

/// Room for the largest document and the command around it.
const LEAST_MESSAGE_BYTES: i64 = (16 << 20) + (16 << 10);

/// The deepest nesting that MongoDB stores.
const DEEPEST: i64 = 180;

/// Bounds on what clients may ask for. None: not bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Client connections, over all routes.
    pub connections: usize,
    /// Of them, those from one address.
    pub connections_per_ip: Option<usize>,
    /// Of them, those of one user, or of one certificate without a user.
    pub connections_per_principal: Option<usize>,
    /// Commands of one principal, over all its connections.
    pub commands: Option<Rate>,
    /// Bytes of one message, at most 48,000,000.
    pub message_bytes: usize,
    /// Bytes of all messages that are in memory at a time.
    pub memory_bytes: Option<usize>,
    /// How deep the documents of a command may be nested.
    pub document_depth: Option<usize>,
    /// How many elements an array may have.
    pub array_length: Option<usize>,
    /// Time to the end of the first message, and for a peer that stops in the midst of one.
    pub handshake_timeout: Duration,
    /// Time that a client may say nothing while it waits for nothing.
    pub idle_timeout: Option<Duration>,
    /// Time that operations, cursors and transactions have to end when the proxy is told to stop.
    pub drain_timeout: Duration,
}

/// How many commands may come in a second, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In a second, on the average.
    pub per_second: NonZeroU32,
    /// At once, after a time of rest.
    pub burst: NonZeroU32,
}

impl Limits {
    /// MongoDB's own bound on a message.
    pub const MOST_MESSAGE_BYTES: usize = 48_000_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_ip: None,
            connections_per_principal: None,
            commands: None,
            message_bytes: Self::MOST_MESSAGE_BYTES,
            memory_bytes: None,
            document_depth: None,
            array_length: None,
            handshake_timeout: Duration::from_secs(30),
            idle_timeout: None,
            drain_timeout: Duration::from_secs(8),
        }
    }
}

impl Checker {
    pub(super) fn limits(&mut self, place: &Place, node: &Node) -> Limits {
        const MOST_CONNECTIONS: i64 = 1_000_000;
        const MOST_COMMANDS: i64 = 1_000_000;
        let table = self.reader.table(place, node, &LIMITS);
        let mut number = |key: &str, least: i64, most: i64| {
            let (at, node) = table.entry(place, key)?;
            self.reader.integer(&at, node, least, most)
        };
        let most_bytes = i64::try_from(Limits::MOST_MESSAGE_BYTES).unwrap_or(i64::MAX);
        let connections = number("connections", 1, MOST_CONNECTIONS);
        let per_ip = number("connections_per_ip", 1, MOST_CONNECTIONS);
        let per_principal = number("connections_per_principal", 1, MOST_CONNECTIONS);
        let per_second = number("commands_per_second", 1, MOST_COMMANDS);
        let burst = number("commands_burst", 1, MOST_COMMANDS);
        let message_bytes = number("message_bytes", LEAST_MESSAGE_BYTES, most_bytes);
        let memory_bytes = number("memory_bytes", LEAST_MESSAGE_BYTES, 1 << 44);
        let depth = number("document_depth", 1, DEEPEST);
        let length = number("array_length", 1, most_bytes);
        let handshake = number("handshake_timeout_seconds", 1, 3600);
        let idle = number("idle_timeout_seconds", 1, 30 * 24 * 3600);
        let drain = number("drain_timeout_seconds", 0, 3600);
        let size = |value: i64| usize::try_from(value).ok();
        let seconds = |value: i64| u64::try_from(value).ok().map(Duration::from_secs);
        let default = Limits::default();
        let limits = Limits {
            connections: connections.and_then(size).unwrap_or(default.connections),
            connections_per_ip: per_ip.and_then(size),
            connections_per_principal: per_principal.and_then(size),
            commands: rate(per_second, burst),
            message_bytes: (message_bytes.and_then(size)).unwrap_or(default.message_bytes),
            memory_bytes: memory_bytes.and_then(size),
            document_depth: depth.and_then(size),
            array_length: length.and_then(size),
            handshake_timeout: (handshake.and_then(seconds)).unwrap_or(default.handshake_timeout),
            idle_timeout: idle.and_then(seconds),
            drain_timeout: (drain.and_then(seconds)).unwrap_or(default.drain_timeout),
        };
        if let Some((at, _)) = table.entry(place, "commands_burst")
            && table.entry(place, "commands_per_second").is_none()
        {
            let what = "bounds nothing without `commands_per_second`";
            self.reader.mistake(&at, what);
        }
        if let Some((at, _)) = table.entry(place, "memory_bytes")
            && (limits.memory_bytes).is_some_and(|memory| memory < limits.message_bytes)
        {
            let bytes = limits.message_bytes;
            let what = format_args!("must have room for one message: {bytes} (message_bytes)");
            self.reader.mistake(&at, what);
        }
        limits
    }
}

fn rate(per_second: Option<i64>, burst: Option<i64>) -> Option<Rate> {
    let number = |value: i64| u32::try_from(value).ok().and_then(NonZeroU32::new);
    let per_second = per_second.and_then(number)?;
    Some(Rate {
        per_second,
        burst: burst.and_then(number).unwrap_or(per_second),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use super::*;
    use crate::config::{Config, ConfigErrors};

    fn parse(limits: &str) -> Result<Limits, ConfigErrors> {
        let text = format!(
            "schema = \"s\"\n[keyring]\nfile = \"k\"\nunseal = {{ file = \"u\" }}\n\
             [[route]]\nlisten = \"127.0.0.1:1\"\nupstream = \"127.0.0.1:2\"\n[limits]\n{limits}"
        );
        Config::parse(&text, Path::new("fieldseal.toml"), []).map(|config| config.limits)
    }

    fn mistake(limits: &str) -> String {
        parse(limits).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_given_is_not_limited_beyond_the_defaults() {
        assert_eq!(parse("").unwrap(), Limits::default());
        assert_eq!(Limits::default().connections, 10_000);
        assert_eq!(Limits::default().commands, None);
    }

    #[test]
    fn every_limit_can_be_set() {
        let text = "connections = 7\nconnections_per_ip = 3\nconnections_per_principal = 2\n\
            commands_per_second = 50\ncommands_burst = 80\nmessage_bytes = 20000000\nmemory_bytes = 90000000\n\
            document_depth = 9\narray_length = 1000\nhandshake_timeout_seconds = 5\nidle_timeout_seconds = 600\n\
            drain_timeout_seconds = 20\n";
        let number = |value| NonZeroU32::new(value).unwrap();
        let expected = Limits {
            connections: 7,
            connections_per_ip: Some(3),
            connections_per_principal: Some(2),
            commands: Some(Rate {
                per_second: number(50),
                burst: number(80),
            }),
            message_bytes: 20_000_000,
            memory_bytes: Some(90_000_000),
            document_depth: Some(9),
            array_length: Some(1000),
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Some(Duration::from_secs(600)),
            drain_timeout: Duration::from_secs(20),
        };
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn a_burst_is_one_seconds_worth_by_default_and_nothing_without_a_rate() {
        let rate = parse("commands_per_second = 50\n").unwrap().commands;
        assert_eq!(rate.unwrap().burst.get(), 50);
        let error = mistake("commands_burst = 50\n");
        assert!(
            error.contains(":9: limits.commands_burst: bounds nothing"),
            "{error}"
        );
    }

    #[test]
    fn the_memory_has_room_for_one_message() {
        let error = mistake("memory_bytes = 40000000\n");
        assert!(
            error.contains("limits.memory_bytes: must have room for one message: 48000000"),
            "{error}"
        );
        assert!(parse("memory_bytes = 40000000\nmessage_bytes = 40000000\n").is_ok());
    }

    #[test]
    fn a_limit_of_nothing_and_one_that_mongodb_has_anyway_are_mistakes() {
        for limit in [
            "connections_per_ip = 0",
            "connections_per_principal = 0",
            "commands_per_second = 0",
            "document_depth = 0",
            "document_depth = 181",
            "array_length = -1",
            "idle_timeout_seconds = 0",
        ] {
            let error = mistake(limit);
            assert!(error.contains("must be from 1 to"), "{limit}: {error}");
        }
    }
}
