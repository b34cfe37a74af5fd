//! What is answered on each path.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::{Desk, guard, status};
use crate::keyring;
use crate::observe::metrics::{self, Certificate, Extras, Member};
use crate::proxy::{MAX_WIRE_VERSION, MemberRole};

/// The format of schema files; there was one so far.
const SCHEMA_FORMAT: u32 = 1;

/// All paths, behind the guard.
pub(super) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/status.json", get(status_json))
        .route("/metrics", get(prometheus))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/version", get(version))
        .fallback(|| async { (StatusCode::NOT_FOUND, PATHS) })
        .layer(middleware::from_fn_with_state(
            Arc::clone(&desk),
            guard::guard,
        ))
        .with_state(desk)
}

const PATHS: &str = "there are / /status.json /metrics /healthz /readyz /version\n";

fn answer(code: StatusCode, value: &Value) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (code, json, format!("{value:#}\n")).into_response()
}

async fn page(State(desk): State<Arc<Desk>>) -> Response {
    let mut answer = (
        [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
        desk.page.text.clone(),
    )
        .into_response();
    let policy = HeaderValue::from_str(&desk.page.policy);
    let policy = policy.unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    answer
}

async fn status_json(State(desk): State<Arc<Desk>>) -> Response {
    answer(StatusCode::OK, &status::describe(&desk))
}

async fn prometheus(State(desk): State<Arc<Desk>>) -> Response {
    let text = metrics::render(&desk.sources.observers.metrics.snapshot(), &desk.extras());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn ready(State(desk): State<Arc<Desk>>) -> Response {
    let reasons = desk.not_ready();
    let code = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let value = json!({ "ready": reasons.is_empty(), "reasons": reasons });
    answer(code, &value)
}

async fn version() -> Response {
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "max_wire_version": MAX_WIRE_VERSION,
        "schema_format": SCHEMA_FORMAT,
        "key_file_format": keyring::FORMAT,
    });
    answer(StatusCode::OK, &value)
}

impl Desk {
    /// Why new clients should not be sent here; empty: they can be. Says no more than that,
    /// for probes bear no token.
    pub(super) fn not_ready(&self) -> Vec<&'static str> {
        // The keyring is not looked at: what serves has unsealed it.
        let mut reasons = Vec::new();
        if self.stopping.load(Ordering::Relaxed) {
            reasons.push("the proxy is stopping");
        }
        if !self.sources.members.take_writes() {
            reasons.push("no primary or mongos is reachable through any route");
        }
        reasons
    }

    /// What is not counted, but looked up.
    pub(super) fn extras(&self) -> Extras {
        let members = self.sources.members.now().into_iter();
        let members = members.map(|route| Member {
            state: route.member.role.word(),
            up: route.member.role != MemberRole::Down,
            route: route.listen,
            upstream: route.upstream,
        });
        let tls = self.sources.tls.load();
        let mut ends: Vec<(&'static str, SystemTime)> = tls.ends().to_vec();
        let own = self.identity.as_ref();
        let own = own.and_then(|identity| **identity.ends.load());
        ends.extend(own.map(|until| ("admin", until)));
        let ends = ends.into_iter();
        Extras {
            ready: self.not_ready().is_empty(),
            certificates: ends
                .map(|(side, until)| Certificate { side, until })
                .collect(),
            members: members.collect(),
            traces_dropped: self.sources.observers.telemetry.dropped(),
            ..Extras::of(&self.sources.policy.load(), SystemTime::now())
        }
    }
}
