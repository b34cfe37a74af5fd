//! Traces of commands, sent by OTLP over HTTP. Never a value, a filter or a name of a principal.

mod export;
mod parent;
mod span;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng as _;
use tokio::sync::{mpsc, oneshot};

use self::export::{BATCH, Exporter, QUEUE, Signals};
use self::span::Record;
use super::command::{Finished, Parent};
use crate::code::{Code, Coded};
use crate::config::TelemetryConfig;
use crate::keyring::TextError;
use crate::tls::TlsError;

/// Where traces go; by default, nowhere.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Option<Arc<Started>>);

#[derive(Debug)]
struct Started {
    one_in: u32,
    queue: mpsc::Sender<Record>,
    signals: Arc<Signals>,
    /// Answers when all is sent; taken by who waits for it.
    end: Mutex<Option<oneshot::Receiver<()>>>,
}

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A header's value cannot be had.
    #[error("telemetry.headers.{name}: {error}")]
    Header {
        /// The header's name.
        name: String,
        /// Why.
        error: TextError,
    },
    /// HTTP has no such header.
    #[error("telemetry.headers.{0}: HTTP can have no such name, or no such value")]
    NoHeader(String),
    /// The authorities cannot be used.
    #[error("telemetry.ca: {0}")]
    Authorities(#[from] TlsError),
    /// An environment variable of OpenTelemetry's asks for what is not there.
    #[error("telemetry: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The system has no thread for it.
    #[error("telemetry: cannot start the thread that sends traces: {0}")]
    Thread(std::io::Error),
}

impl Telemetry {
    /// Sends traces from now on.
    pub fn start(config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let signals = Arc::<Signals>::default();
        let (queue, waiting) = mpsc::channel(QUEUE);
        let end = Exporter::new(config, Arc::clone(&signals))?.start(waiting)?;
        if is_open_to_eyes(&config.endpoint) {
            tracing::warn!(
                endpoint = config.endpoint,
                "traces, and the headers sent with them, cross the network without TLS"
            );
        }
        Ok(Self(Some(Arc::new(Started {
            one_in: config.one_in,
            queue,
            signals,
            end: Mutex::new(Some(end)),
        }))))
    }

    /// Whether traces are sent.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The trace that a client's `comment` says the command belongs to.
    pub fn parent(comment: &str) -> Option<Parent> {
        parent::of_comment(comment)
    }

    /// A command is over. Waits for nothing.
    pub fn finished(&self, finished: &Finished<'_>) {
        let Some(started) = &self.0 else { return };
        let Some(trace) = trace_of(started.one_in, finished.parent) else {
            return;
        };
        let queue = &started.queue;
        if queue.try_send(Record::of(finished, trace)).is_err() {
            started.signals.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if queue.max_capacity() - queue.capacity() >= BATCH {
            started.signals.full.notify_one();
        }
    }

    /// How many commands were to be traced, but their spans were not sent: more came than the
    /// collector took.
    pub fn dropped(&self) -> u64 {
        let started = self.0.as_ref();
        started.map_or(0, |started| started.signals.dropped.load(Ordering::Relaxed))
    }

    /// Sends what is waiting, for at most `within`.
    pub async fn close(&self, within: Duration) {
        let Some(started) = &self.0 else { return };
        let end = started
            .end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        started.signals.closing.notify_one();
        if let Some(end) = end
            && tokio::time::timeout(within, end).await.is_err()
        {
            let said = Coded("the last traces could not be sent in time", Code::Telemetry);
            tracing::warn!("{said}");
        }
    }
}

/// The trace that a command is told in; none: it is not traced.
///
/// Of a trace, all or none is taken, whoever asks: the last 56 bits of its id are random, as
/// level 2 of W3C Trace Context has it, and those above a threshold are taken, as OpenTelemetry's
/// consistent sampling has it.
fn trace_of(one_in: u32, parent: Option<Parent>) -> Option<[u8; 16]> {
    const RANDOM: u64 = 1 << 56;
    match parent {
        Some(parent) if parent.sampled => return Some(parent.trace),
        _ if one_in == 0 => return None,
        _ => {}
    }
    let trace = parent.map_or_else(
        || {
            let mut trace = [0; 16];
            rand::rng().fill_bytes(&mut trace);
            trace
        },
        |parent| parent.trace,
    );
    let [.., a, b, c, d, e, f, g] = trace;
    let random = u64::from_be_bytes([0, a, b, c, d, e, f, g]);
    (random >= RANDOM - RANDOM / u64::from(one_in)).then_some(trace)
}

/// Whether other machines' traffic is where `endpoint` is reached, without TLS.
fn is_open_to_eyes(endpoint: &str) -> bool {
    let Some(host) = endpoint.strip_prefix("http://") else {
        return false;
    };
    let own = ["localhost", "127.", "[::1]"];
    !own.iter().any(|own| host.starts_with(own))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::*;
    use crate::keyring::UnsealSource;
    use crate::observe::command::{Outcome, Times};

    fn config(endpoint: &str) -> TelemetryConfig {
        TelemetryConfig {
            endpoint: endpoint.to_owned(),
            ca: None,
            one_in: 1,
            service_name: "test".to_owned(),
            headers: BTreeMap::new(),
        }
    }

    fn finished() -> Finished<'static> {
        Finished {
            connection: 1,
            request: 1,
            command: "find",
            namespace: "shop.customers",
            outcome: Outcome::Ok,
            began: SystemTime::now(),
            times: Times::default(),
            request_bytes: 1,
            reply_bytes: 1,
            parent: None,
        }
    }

    fn parent(random: u64, sampled: bool) -> Parent {
        let mut trace = [1; 16];
        trace[8..].copy_from_slice(&random.to_be_bytes());
        Parent {
            trace,
            span: [1; 8],
            sampled,
        }
    }

    #[test]
    fn what_a_client_traces_is_always_traced_in_its_trace() {
        for one_in in [0, 1, u32::MAX] {
            let asked = parent(0, true);
            assert_eq!(trace_of(one_in, Some(asked)), Some(asked.trace));
        }
    }

    #[test]
    fn otherwise_one_in_so_many_is() {
        let count = |one_in, of: u32| (0..of).filter(|_| trace_of(one_in, None).is_some()).count();
        assert_eq!(count(0, 1_000), 0);
        assert_eq!(count(1, 1_000), 1_000);
        // Six standard deviations on either side of a thousand.
        let traced = count(10, 10_000);
        assert!((820..1_180).contains(&traced), "{traced}");
    }

    #[test]
    fn of_a_trace_every_proxy_takes_all_or_none() {
        let least = (1 << 56) - (1 << 56) / 4;
        // What stands before the 56 bits does not count.
        for high in [0, 0xff << 56] {
            let just = parent(high | least, false);
            assert_eq!(trace_of(4, Some(just)), Some(just.trace));
            assert_eq!(trace_of(4, Some(parent(high | (least - 1), false))), None);
        }
        assert_eq!(trace_of(0, Some(parent(u64::MAX, false))), None);
    }

    #[test]
    fn a_header_that_http_cannot_have_is_named_and_not_repeated() {
        for (name, value) in [("authorization", "hush\u{fc}\u{7f}"), ("a b", "hush")] {
            let words = ["printf", "%s", value].map(str::to_owned).to_vec();
            let headers = BTreeMap::from([(name.to_owned(), UnsealSource::Command(words))]);
            let wrong = TelemetryConfig {
                headers,
                ..config("http://127.0.0.1:4318")
            };
            let error = Telemetry::start(&wrong).unwrap_err();
            let error = format!("{error} {error:?}");
            assert!(
                error.contains(&format!("telemetry.headers.{name}")),
                "{error}"
            );
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn what_is_sent_in_the_clear_is_warned_of() {
        assert!(is_open_to_eyes("http://collector.example:4318"));
        for own in [
            "http://localhost:4318",
            "http://127.0.0.1:4318",
            "http://[::1]:4318",
            "https://collector.example",
        ] {
            assert!(!is_open_to_eyes(own), "{own}");
        }
    }

    #[tokio::test]
    async fn a_collector_that_says_nothing_makes_no_command_wait_and_what_is_lost_is_counted() {
        // Connections are taken, and nothing is ever said.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let telemetry = Telemetry::start(&config(&format!("http://{address}"))).unwrap();
        // Returns, though not one of them is ever taken; what is under way is no more than the
        // queue and a batch.
        let count = u64::try_from(QUEUE + BATCH + 100).unwrap();
        for _ in 0..count {
            telemetry.finished(&finished());
        }
        let dropped = telemetry.dropped();
        assert!((100..=count).contains(&dropped), "{dropped}");
        // Gives up when it is told to, too.
        telemetry.close(Duration::from_millis(10)).await;
    }

    #[tokio::test]
    async fn without_a_collector_nothing_is_traced_or_counted() {
        let nowhere = Telemetry::default();
        nowhere.finished(&finished());
        nowhere.close(Duration::ZERO).await;
        assert!(!nowhere.is_on() && nowhere.dropped() == 0);
    }
}
