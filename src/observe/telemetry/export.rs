//! The thread that sends what sessions leave in a queue. Sessions never wait for it: what finds
//! the queue full is dropped, and counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry::InstrumentationScope;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc, oneshot};

use super::TelemetryError;
use super::span::Record;
use crate::code::{Code, Coded};
use crate::config::TelemetryConfig;
use crate::tls;

/// As many commands may wait to be sent: some 2 MB at most.
pub(super) const QUEUE: usize = 4096;

/// As many commands are sent at once.
pub(super) const BATCH: usize = 512;

/// The longest time that a command waits to be sent, if the collector keeps up.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is shared with the sessions.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// As many wait as are sent at once.
    pub(super) full: Notify,
    /// Nothing more will come.
    pub(super) closing: Notify,
    /// Commands whose spans were not sent.
    pub(super) dropped: AtomicU64,
}

/// What sends, and to where.
pub(super) struct Exporter {
    exporter: opentelemetry_otlp::SpanExporter,
    scope: InstrumentationScope,
    signals: Arc<Signals>,
    /// Whether the last batch was refused or lost.
    fails: bool,
}

impl Exporter {
    /// To the collector of `config`.
    pub(super) fn new(
        config: &TelemetryConfig,
        signals: Arc<Signals>,
    ) -> Result<Self, TelemetryError> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client_config(config.ca.as_deref())?)
            .https_or_http()
            .enable_http1()
            .build();
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(HyperClient::new(connector, TIMEOUT, None))
            .with_endpoint(format!("{}/v1/traces", config.endpoint))
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            .with_headers(headers(config)?)
            .build()?;
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        exporter.set_resource(&resource);
        let scope = InstrumentationScope::builder("fieldseal")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self {
            exporter,
            scope,
            signals,
            fails: false,
        })
    }

    /// On a thread of its own, until all is sent when it is told to close. Answers then.
    pub(super) fn start(
        self,
        waiting: mpsc::Receiver<Record>,
    ) -> Result<oneshot::Receiver<()>, TelemetryError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(TelemetryError::Thread)?;
        let (done, end) = oneshot::channel();
        std::thread::Builder::new()
            .name("fieldseal-traces".to_owned())
            .spawn(move || {
                runtime.block_on(self.run(waiting));
                // Nobody may wait for it.
                let _ = done.send(());
            })
            .map_err(TelemetryError::Thread)?;
        Ok(end)
    }

    async fn run(mut self, mut waiting: mpsc::Receiver<Record>) {
        let signals = Arc::clone(&self.signals);
        let mut closing = false;
        while !closing {
            // The queue is looked at, not waited on: to wake this thread would cost a session
            // a system call for each command.
            tokio::select! {
                () = signals.full.notified() => {}
                () = tokio::time::sleep(PAUSE) => {}
                () = signals.closing.notified() => closing = true,
            }
            loop {
                let mut batch = Vec::new();
                while batch.len() < BATCH {
                    match waiting.try_recv() {
                        Ok(record) => batch.push(record),
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => {
                            closing = true;
                            break;
                        }
                    }
                }
                if batch.is_empty() {
                    break;
                }
                self.send(batch).await;
            }
        }
    }

    async fn send(&mut self, batch: Vec<Record>) {
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let spans = (batch.into_iter()).flat_map(|record| record.spans(&self.scope));
        match self.exporter.export(spans.collect()).await {
            Ok(()) => {
                if std::mem::take(&mut self.fails) {
                    let dropped = self.signals.dropped.load(Ordering::Relaxed);
                    tracing::info!(dropped, "the collector takes traces again");
                }
            }
            Err(error) => {
                self.signals.dropped.fetch_add(count, Ordering::Relaxed);
                if !std::mem::replace(&mut self.fails, true) {
                    let error = Coded(error, Code::Telemetry);
                    tracing::warn!(
                        %error,
                        "traces are dropped and counted, as the collector does not take them"
                    );
                }
            }
        }
    }
}

/// Those that are sent along, read where they are.
fn headers(config: &TelemetryConfig) -> Result<HashMap<String, String>, TelemetryError> {
    let mut headers = HashMap::new();
    for (name, source) in &config.headers {
        let value = source.text().map_err(|error| TelemetryError::Header {
            name: name.clone(),
            error,
        })?;
        let is_usable = HeaderName::from_bytes(name.as_bytes()).is_ok()
            && HeaderValue::from_str(&value).is_ok();
        if !is_usable {
            return Err(TelemetryError::NoHeader(name.clone()));
        }
        headers.insert(name.clone(), value.as_str().to_owned());
    }
    Ok(headers)
}
