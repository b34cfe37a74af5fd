#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;
use crate::config::Address;
use crate::keyring::UnsealSource;
use crate::policy::fixture;

const TOKEN: &str = "a token of sixteen or more";

fn config(listen: &str) -> AdminConfig {
    AdminConfig {
        listen: listen.parse().unwrap(),
        identity: None,
        token: None,
        insecure: false,
        database: None,
    }
}

/// With a route to `upstream`.
fn sources(upstream: &str) -> Sources {
    let policy: PolicyCell = Arc::new(ArcSwap::from_pointee(fixture::policy()));
    let upstream = Address::Tcp(upstream.to_owned());
    let route = ("127.0.0.1:1".to_owned(), "proxy:1".to_owned(), upstream);
    let members = Members::new([route], Arc::clone(&policy), TlsCell::default());
    Sources {
        policy,
        tls: TlsCell::default(),
        members,
        observers: Observers::default(),
    }
}

async fn start(config: &AdminConfig) -> Admin {
    Admin::start(config, sources("127.0.0.1:1")).await.unwrap()
}

/// A file that is there as long as it is held.
struct Secret(PathBuf);

impl Secret {
    fn holding(name: &str, text: &str) -> Self {
        let name = format!("fieldseal-admin-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn source(&self) -> Option<UnsealSource> {
        Some(UnsealSource::File(self.0.clone()))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What is answered to a request with these further headers.
async fn request(admin: &Admin, line: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(admin.address()).await.unwrap();
    let text = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn code(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn every_path_answers_and_what_is_no_path_does_not() {
    let admin = start(&config("127.0.0.1:0")).await;
    for path in [
        "/",
        "/status.json",
        "/metrics",
        "/healthz",
        "/version",
        "/version?x=1",
    ] {
        let answer = request(&admin, &format!("GET {path}"), "").await;
        assert_eq!(code(&answer), "200", "{path}: {answer}");
        let answer = request(&admin, &format!("HEAD {path}"), "").await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!((code(&answer), body), ("200", ""), "{path}");
    }
    assert!(
        request(&admin, "GET /healthz", "")
            .await
            .ends_with("\r\n\r\nok\n")
    );
    for path in ["/x", "/../etc/passwd", "/metrics/", "//"] {
        assert_eq!(
            code(&request(&admin, &format!("GET {path}"), "").await),
            "404",
            "{path}"
        );
    }
}

#[tokio::test]
async fn nothing_can_be_changed_by_it() {
    let admin = start(&config("127.0.0.1:0")).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        let answer = request(&admin, &format!("{method} /status.json"), "").await;
        assert_eq!(code(&answer), "405", "{method}");
        assert!(answer.to_lowercase().contains("allow: get, head"));
    }
}

#[tokio::test]
async fn with_a_token_only_probes_go_without_it() {
    let secret = Secret::holding("token", &format!("{TOKEN}\n"));
    let admin = start(&AdminConfig {
        token: secret.source(),
        ..config("127.0.0.1:0")
    })
    .await;
    for path in [
        "/",
        "/status.json",
        "/metrics",
        "/version",
        "/x",
        "/healthz/x",
    ] {
        let answer = request(&admin, &format!("GET {path}"), "").await;
        assert_eq!(code(&answer), "401", "{path}");
        assert!(answer.contains("Basic realm="), "{answer}");
        let wrong = "Authorization: Bearer a token of sixteen or mor\r\n";
        let answer = request(&admin, &format!("GET {path}"), wrong).await;
        assert_eq!(code(&answer), "401", "{path}");
    }
    assert_eq!(code(&request(&admin, "GET /healthz", "").await), "200");
    assert_eq!(code(&request(&admin, "GET /readyz", "").await), "503");
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(code(&request(&admin, "GET /metrics", &right).await), "200");
}

#[tokio::test]
async fn a_page_of_someone_else_cannot_ask_by_a_name_of_its_own() {
    let admin = start(&config("127.0.0.1:0")).await;
    for path in ["/", "/status.json", "/healthz"] {
        let mut stream = TcpStream::connect(admin.address()).await.unwrap();
        let text = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(code(&answer), "403", "{path}");
    }
}

#[tokio::test]
async fn every_answer_says_what_browsers_may_do_with_it() {
    let admin = start(&config("127.0.0.1:0")).await;
    for line in ["GET /", "GET /status.json", "GET /x", "POST /"] {
        let answer = request(&admin, line, "").await.to_lowercase();
        for header in [
            "content-security-policy: default-src 'none'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "connection: close",
        ] {
            assert!(answer.contains(header), "{line}: {header}");
        }
    }
    let page = request(&admin, "GET /", "").await;
    assert!(page.contains("script-src 'sha256-") && !page.contains("unsafe-inline"));
}

#[tokio::test]
async fn a_proxy_without_a_primary_is_not_ready_and_says_why() {
    let admin = start(&config("127.0.0.1:0")).await;
    let answer = request(&admin, "GET /readyz", "").await;
    assert_eq!(code(&answer), "503");
    assert!(answer.contains("no primary"), "{answer}");
    assert!(!answer.contains("stopping"));
    admin.draining();
    let answer = request(&admin, "GET /readyz", "").await;
    assert!(answer.contains("the proxy is stopping"), "{answer}");
}

#[tokio::test]
async fn clients_that_hang_keep_nobody_else_out() {
    let admin = start(&config("127.0.0.1:0")).await;
    let mut hanging = Vec::new();
    // More than it serves at a time.
    for _ in 0..2 * door::MOST {
        let mut stream = TcpStream::connect(admin.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHos").await.unwrap();
        hanging.push(stream);
    }
    let probe = request(&admin, "GET /healthz", "");
    let probe = tokio::time::timeout(Duration::from_secs(5), probe).await;
    assert_eq!(code(&probe.unwrap()), "200");
    // Who has been there longest has gone, and the time of the others ends.
    for mut stream in [hanging.swap_remove(0), hanging.pop().unwrap()] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
}

#[tokio::test]
async fn an_address_in_use_is_named_with_what_to_do() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap().to_string();
    let error = Admin::start(&config(&address), sources("127.0.0.1:1")).await;
    let error = error.err().unwrap().to_string();
    let expected = format!("admin.listen: cannot listen on {address}: it is in use");
    assert!(error.starts_with(&expected), "{error}");
}

#[tokio::test]
async fn a_token_that_can_be_guessed_or_is_not_there_is_a_mistake() {
    let short = Secret::holding("short", "guess me");
    let with = |token| AdminConfig {
        token,
        ..config("127.0.0.1:0")
    };
    let error = Admin::start(&with(short.source()), sources("127.0.0.1:1")).await;
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("fewer than 16") && !error.contains("guess me"),
        "{error}"
    );
    let none = Some(UnsealSource::File("/no/such/token".into()));
    let error = Admin::start(&with(none), sources("127.0.0.1:1")).await;
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("admin.token") && error.contains("/no/such/token"),
        "{error}"
    );
}

#[tokio::test]
async fn a_unix_socket_answers_and_goes_with_the_endpoint() {
    let path = std::env::temp_dir().join(format!("fieldseal-admin-{}.sock", std::process::id()));
    let admin = start(&config(&format!("unix:{}", path.display()))).await;
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
    drop(admin);
    assert!(!path.exists());
}

#[tokio::test]
async fn the_status_holds_the_schema_and_the_keys_and_no_secret() {
    let admin = start(&config("127.0.0.1:0")).await;
    let answer = request(&admin, "GET /status.json", "").await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let status: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(status["routes"][0]["state"], "down");
    assert_eq!(status["sealed"][0]["namespace"], "shop.customers");
    let keys = status["keys"].as_array().unwrap();
    assert!(keys.iter().any(|key| key["state"] == "active"), "{keys:?}");
    assert_eq!(status["coverage"]["source"], "opened");
}
