//! Which requests are answered, and the headers that every answer has.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ctutils::CtEq as _;
use sha2::{Digest as _, Sha256};

use super::Desk;
use crate::config::Address;

/// The paths that say no more than whether the proxy is well: probes have no token.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// What requests have to bear. Only its hash is kept, so that comparing takes the same time
/// whatever is sent.
pub(super) struct Token([u8; 32]);

impl Token {
    /// The fewest characters of one.
    pub(super) const LEAST: usize = 16;

    /// None if it could be guessed. Spaces around it are not of it: no header can have them.
    pub(super) fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (text.chars().count() >= Self::LEAST).then(|| Self(Sha256::digest(text).into()))
    }

    fn is(&self, sent: &[u8]) -> bool {
        let sent: [u8; 32] = Sha256::digest(sent).into();
        self.0.ct_eq(&sent).to_bool()
    }

    /// Whether a request bears it: as `Bearer`, or as the password of `Basic`, which browsers
    /// ask people for.
    fn is_borne_by(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(header::AUTHORIZATION);
        let sent = sent.map(HeaderValue::as_bytes).unwrap_or_default();
        let mut parts = sent.splitn(2, |byte| *byte == b' ');
        let (Some(scheme), Some(rest)) = (parts.next(), parts.next()) else {
            return false;
        };
        let rest = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return self.is(rest);
        }
        let login = STANDARD.decode(rest).unwrap_or_default();
        let colon = login.iter().position(|byte| *byte == b':');
        let password = colon.and_then(|at| login.get(at + 1..));
        scheme.eq_ignore_ascii_case(b"basic") && password.is_some_and(|it| self.is(it))
    }
}

/// The names that the endpoint may be called by.
///
/// A page of someone else's, open in a browser on this machine, can have its own name point
/// here, and would then read what loopback is trusted with. It cannot change the name that
/// the browser says it asks.
pub(super) enum Hosts {
    /// Every name: other machines have names for it that are not known here, and need a token.
    Any,
    /// Names of this machine, and the configured one.
    Local(String),
}

impl Hosts {
    pub(super) fn of(listen: &Address) -> Self {
        match listen {
            Address::Tcp(name) if listen.is_local() => Self::Local(host(name).to_owned()),
            Address::Tcp(_) | Address::Unix(_) => Self::Any,
        }
    }

    fn allow(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let Self::Local(configured) = self else {
            return true;
        };
        let is_local = |name: &str| {
            let name = host(name);
            let loopback = name.parse::<IpAddr>();
            name.eq_ignore_ascii_case("localhost")
                || name.eq_ignore_ascii_case(configured)
                || loopback.is_ok_and(|address| address.to_canonical().is_loopback())
        };
        // Browsers always say it; what says nothing is none.
        let said = headers.get_all(header::HOST).iter();
        said.map(|name| name.to_str().unwrap_or_default())
            .chain(uri.authority().map(|authority| authority.as_str()))
            .all(is_local)
    }
}

/// The host of `host:port`, without brackets.
fn host(name: &str) -> &str {
    if let Some(rest) = name.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    name.rsplit_once(':').map_or(name, |(host, _)| host)
}

/// Answers what is not allowed, and adds to every answer what browsers go by.
pub(super) async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let mut answer = match refuse(&desk, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
    answer
}

/// One request for each connection, so that each has the time of one.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONNECTION, "close"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

fn refuse(desk: &Desk, request: &Request) -> Option<Response> {
    let (uri, headers) = (request.uri(), request.headers());
    if !desk.hosts.allow(uri, headers) {
        let why = "the endpoint is not called by this name; ask for localhost\n";
        return Some((StatusCode::FORBIDDEN, why).into_response());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let allow = [(header::ALLOW, "GET, HEAD")];
        let why = "there is nothing to change here\n";
        return Some((StatusCode::METHOD_NOT_ALLOWED, allow, why).into_response());
    }
    let token = desk.token.as_ref();
    let borne = token.is_none_or(|token| token.is_borne_by(headers));
    if !borne && !OPEN.contains(&uri.path()) {
        let mut answer = (
            StatusCode::UNAUTHORIZED,
            "the token of [admin] is needed, as `Authorization: Bearer` or as the password\n",
        )
            .into_response();
        for scheme in ["Bearer", "Basic realm=\"fieldseal\", charset=\"UTF-8\""] {
            let scheme = HeaderValue::from_static(scheme);
            answer
                .headers_mut()
                .append(header::WWW_AUTHENTICATE, scheme);
        }
        return Some(answer);
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_token_is_taken_as_bearer_and_as_the_password_of_a_browser() {
        let token = Token::new("correct horse battery").unwrap();
        let borne = |value: &str| token.is_borne_by(&headers(header::AUTHORIZATION, value));
        let basic = |login: &str| format!("Basic {}", STANDARD.encode(login));
        assert!(borne("Bearer correct horse battery"));
        assert!(borne("bearer  correct horse battery"));
        assert!(borne(&basic("anyone:correct horse battery")));
        assert!(borne(&basic(":correct horse battery")));
        for wrong in [
            "Bearer correct horse batter".to_owned(),
            "Bearer correct horse battery!".to_owned(),
            "Bearer".to_owned(),
            "correct horse battery".to_owned(),
            "Basic !!!".to_owned(),
            basic("correct horse battery"),
            basic("a:b:correct horse battery"),
        ] {
            assert!(!borne(&wrong), "{wrong}");
        }
        assert!(!token.is_borne_by(&HeaderMap::new()));
    }

    #[test]
    fn a_token_that_can_be_configured_can_be_sent() {
        for (configured, sent) in [
            ("  correct horse battery \t", "correct horse battery"),
            ("caf\u{e9} correct horse", "caf\u{e9} correct horse"),
        ] {
            let token = Token::new(configured).unwrap();
            let basic = format!("Basic {}", STANDARD.encode(format!("me:{sent}")));
            for value in [format!("Bearer {sent}"), basic] {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
                assert!(token.is_borne_by(&headers), "{configured}");
            }
        }
    }

    #[test]
    fn a_token_that_could_be_guessed_is_none() {
        assert!(Token::new("fifteen letters").is_none());
        assert!(Token::new("fifteen letters     ").is_none());
        assert!(Token::new("sixteen letters!").is_some());
    }

    #[test]
    fn on_loopback_only_names_of_this_machine_are_answered() {
        let hosts = Hosts::of(&"127.0.0.1:9117".parse().unwrap());
        let allow = |name: &str| hosts.allow(&"/".parse().unwrap(), &headers(header::HOST, name));
        for name in [
            "localhost:9117",
            "LOCALHOST",
            "127.0.0.1:9117",
            "[::1]:1",
            "127.0.0.2",
        ] {
            assert!(allow(name), "{name}");
        }
        for name in [
            "evil.example:9117",
            "localhost.evil.example",
            "10.0.0.1",
            "",
            "[evil]",
        ] {
            assert!(!allow(name), "{name}");
        }
        // An absolute form must not say one thing and the header another.
        let local = headers(header::HOST, "localhost");
        assert!(!hosts.allow(&"http://evil.example/".parse().unwrap(), &local));
        let elsewhere = Hosts::of(&"0.0.0.0:9117".parse().unwrap());
        assert!(elsewhere.allow(
            &"/".parse().unwrap(),
            &headers(header::HOST, "proxy.example")
        ));
    }
}
