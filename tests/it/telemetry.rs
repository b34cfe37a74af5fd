//! Traces reach a collector, say what was done, and hold no value; a collector that is in
//! trouble is no trouble for clients.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use mongodb::Database;
use mongodb::bson::{Bson, doc};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, Span, span::SpanKind, status::StatusCode,
};
use prost::Message as _;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};

use crate::support::{PATIENCE, Proxy, ProxyOptions, shared_replica_set, unique_database};
use crate::tls::authority::{Authority, Wish};
use crate::tls::client::certificates;

const SCHEMA: &str = "[collections.\"*.people\".fields]\n\
     email = { type = \"string\", queries = [\"equality\"] }\n";

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What a collector was sent: with which headers, to where, and what.
type Received = Arc<Mutex<Vec<(HeaderMap, Uri, Bytes)>>>;

/// Takes what is sent to it by OTLP over HTTP.
struct Collector {
    address: String,
    received: Received,
    server: JoinHandle<Infallible>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self::serve(address, listener)
    }

    /// The same with TLS.
    async fn start_with(authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let identity = authority.issue(Wish::default());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                certificates(&identity),
                PrivateKeyDer::from_pem_file(&identity).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::serve(address, TlsListener { listener, acceptor })
    }

    fn serve<L>(address: String, listener: L) -> Self
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let received = Received::default();
        let router = Router::new()
            .fallback(take)
            .with_state(Arc::clone(&received));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
            unreachable!("it serves until it is aborted")
        });
        Self {
            address,
            received,
            server,
        }
    }

    fn resource_spans(&self) -> Vec<ResourceSpans> {
        let received = self.received.lock().unwrap();
        let decoded = received.iter().flat_map(|(_, _, body)| {
            let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
            request.resource_spans
        });
        decoded.collect()
    }

    fn spans(&self) -> Vec<Span> {
        let of_resources = self.resource_spans().into_iter();
        let of_scopes = of_resources.flat_map(|spans| spans.scope_spans);
        of_scopes.flat_map(|spans| spans.spans).collect()
    }

    /// Waits for a span of this name and kind.
    async fn span(&self, name: &str, kind: SpanKind) -> Span {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let spans = self.spans();
            let found = |span: &&Span| span.name == name && span.kind() == kind;
            if let Some(span) = spans.iter().find(found) {
                return span.clone();
            }
            let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
            assert!(Instant::now() < deadline, "no {name:?} among {names:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asserts that `word` is nowhere in what it was sent.
    fn assert_never_told(&self, word: &str) {
        let received = self.received.lock().unwrap();
        assert!(
            !received.is_empty(),
            "nothing was sent, which proves nothing"
        );
        for (headers, _, body) in received.iter() {
            let is_there = |bytes: &[u8]| {
                let mut windows = bytes.windows(word.len());
                windows.any(|window| window == word.as_bytes())
            };
            assert!(!is_there(body), "{word} is in {body:?}");
            assert!(!headers.values().any(|value| is_there(value.as_bytes())));
        }
    }
}

async fn take(State(received): State<Received>, headers: HeaderMap, uri: Uri, body: Bytes) {
    received.lock().unwrap().push((headers, uri, body));
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn attribute(of: &[KeyValue], name: &str) -> Option<String> {
    let value = of.iter().find(|attribute| attribute.key == name)?;
    Some(match value.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => panic!("{name} is {other:?}"),
    })
}

/// A proxy that sends traces, and a database behind it of which no other test knows.
async fn traced(telemetry: &str) -> (Proxy, Database) {
    let configuration = format!("[telemetry]\n{telemetry}\n");
    let options = ProxyOptions {
        schema: SCHEMA,
        configuration: &configuration,
        ..ProxyOptions::default()
    };
    let proxy = Proxy::start_with(shared_replica_set().await, options).await;
    let client = proxy.client().await;
    (proxy, client.database(&unique_database("telemetry")))
}

async fn find(database: &Database, email: &str, comment: impl Into<Bson>) {
    let command =
        doc! { "find": "people", "filter": { "email": email }, "comment": comment.into() };
    database.run_command(command).await.unwrap();
}

#[tokio::test]
async fn what_a_client_traces_is_told_in_its_trace_without_a_value() {
    let collector = Collector::start().await;
    let (proxy, database) = traced(&format!(
        "endpoint = \"http://{}\"\none_in = 0\nservice_name = \"orders-proxy\"\n\
         headers = {{ Authorization = {{ command = [\"printf\", \"%s\", \"Bearer hush-token\"] }} }}",
        collector.address
    ))
    .await;
    // Nobody asks that these be told.
    let person = doc! { "_id": "canary-id", "email": "canary-sealed", "note": "canary-open" };
    let insert = doc! { "insert": "people", "documents": [person.clone()] };
    database.run_command(insert.clone()).await.unwrap();
    find(&database, "canary-sealed", "canary-comment").await;
    // But these.
    find(&database, "canary-sealed", PARENT).await;
    let mut again = insert;
    again.insert("comment", doc! { "traceparent": PARENT });
    database.run_command(again).await.unwrap();
    let refused = doc! { "count": "people", "query": { "email": { "$gt": "canary-sealed" } }, "comment": PARENT };
    database.run_command(refused).await.unwrap_err();

    let count = collector.span("count people", SpanKind::Server).await;
    let find = collector.span("find people", SpanKind::Server).await;
    collector.span("insert people", SpanKind::Server).await;
    for span in [&count, &find] {
        assert_eq!(
            span.trace_id,
            0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes()
        );
        assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
        for (name, value) in [
            ("db.system.name", "mongodb"),
            ("db.namespace", database.name()),
            ("db.collection.name", "people"),
        ] {
            assert_eq!(attribute(&span.attributes, name).as_deref(), Some(value));
        }
    }
    let of = |name: &str| attribute(&find.attributes, name).unwrap();
    assert_eq!(
        (of("db.operation.name"), of("fieldseal.outcome")),
        ("find".to_owned(), "ok".to_owned())
    );
    let phases = ["client", "policy", "seal", "upstream", "open"];
    let sum: f64 = (phases.iter())
        .map(|phase| {
            of(&format!("fieldseal.phase.{phase}"))
                .parse::<f64>()
                .unwrap()
        })
        .sum();
    let whole = (find.end_time_unix_nano - find.start_time_unix_nano) as f64 / 1e9;
    assert!(sum > 0.0 && sum <= whole * 1.001 + 1e-6, "{sum} of {whole}");
    let upstream = collector.span("find people", SpanKind::Client).await;
    assert_eq!(upstream.parent_span_id, find.span_id);

    let status = count.status.unwrap();
    assert_eq!(
        (status.code(), status.message.as_str()),
        (StatusCode::Error, "")
    );
    assert_eq!(
        attribute(&count.attributes, "error.type").unwrap(),
        "fieldseal.refused"
    );

    // Those, and no others.
    let mut told: Vec<String> = (collector.spans().into_iter())
        .filter(|span| span.kind() == SpanKind::Server)
        .map(|span| span.name)
        .collect();
    told.sort();
    assert_eq!(told, ["count people", "find people", "insert people"]);
    let resource = collector.resource_spans().remove(0).resource.unwrap();
    assert_eq!(
        attribute(&resource.attributes, "service.name").unwrap(),
        "orders-proxy"
    );
    let (headers, uri, _) = collector.received.lock().unwrap()[0].clone();
    assert_eq!(
        (headers["authorization"].to_str().unwrap(), uri.path()),
        ("Bearer hush-token", "/v1/traces")
    );
    collector.assert_never_told("canary");
    assert!(!proxy.log().contains("hush-token"), "{}", proxy.log());
}

#[tokio::test]
async fn without_a_clients_word_every_command_is_told_if_it_is_one_in_one_and_over_tls_too() {
    let authority = Authority::new("collectors");
    let collector = Collector::start_with(&authority).await;
    let (_proxy, database) = traced(&format!(
        "endpoint = \"https://{}\"\nca = {:?}\none_in = 1",
        collector.address,
        authority.ca()
    ))
    .await;
    find(&database, "canary", "canary").await;
    let find = collector.span("find people", SpanKind::Server).await;
    assert!(find.parent_span_id.is_empty());
    collector.span("hello admin", SpanKind::Server).await;
    collector.assert_never_told("canary");
}

#[tokio::test]
async fn a_collector_with_another_certificate_is_told_nothing() {
    let (authority, other) = (Authority::new("collectors"), Authority::new("others"));
    let collector = Collector::start_with(&other).await;
    let (mut proxy, database) = traced(&format!(
        "endpoint = \"https://{}\"\nca = {:?}\none_in = 1",
        collector.address,
        authority.ca()
    ))
    .await;
    find(&database, "canary", "canary").await;
    proxy
        .wait_for_log(&["traces are dropped and counted"])
        .await;
    assert!(collector.received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_waits_when_the_proxy_stops_is_told_first() {
    let collector = Collector::start().await;
    let (mut proxy, database) = traced(&format!(
        "endpoint = \"http://{}\"\none_in = 0",
        collector.address
    ))
    .await;
    find(&database, "x", PARENT).await;
    proxy.process_mut().signal("TERM");
    assert!(proxy.process_mut().wait().await.success());
    let told = collector.spans();
    assert!(
        told.iter().any(|span| span.name == "find people"),
        "{told:?}"
    );
}

#[tokio::test]
async fn clients_do_not_notice_a_collector_that_is_away_or_says_nothing() {
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = |listener: &TcpListener| {
        let address = listener.local_addr().unwrap();
        format!("endpoint = \"http://{address}\"\none_in = 1")
    };
    let (of_away, of_silent) = (endpoint(&away), endpoint(&silent));
    drop(away);
    for telemetry in [of_away, of_silent] {
        let (mut proxy, database) = traced(&telemetry).await;
        // Less than it waits for a collector, by far; if a command waited, this would not end.
        for _ in 0..200 {
            find(&database, "canary", "canary").await;
        }
        proxy.process_mut().signal("TERM");
        assert!(proxy.process_mut().wait().await.success());
    }
    // It was tried.
    silent.accept().await.unwrap();
}
