//! A MongoDB of the user's: whether it can be measured.

use std::net::SocketAddr;
use std::time::Duration;

use bson::doc;
use mongodb::options::{ClientOptions, ServerAddress, Tls};

use super::fault::BenchError;
use super::load::{Load, LoadError, Reason, Target, request};

/// How long it may take to answer at first.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// The address of the primary or mongos that `text` names: `host:port`, or a connection string
/// without a user and without TLS, which the client of a bench does not speak.
pub async fn upstream(text: &str) -> Result<SocketAddr, BenchError> {
    let mut told = None;
    for host in hosts(text).await? {
        match answers(&host).await {
            Ok(address) => return Ok(address),
            Err(error) => told = told.or(Some(error)),
        }
    }
    Err(told.unwrap_or_else(|| wrong(text, "names no host")))
}

fn wrong(address: &str, reason: impl std::fmt::Display) -> BenchError {
    BenchError::Upstream {
        address: address.to_owned(),
        reason: reason.to_string(),
    }
}

/// `host:port` of each member that is named.
async fn hosts(text: &str) -> Result<Vec<String>, BenchError> {
    if !text.contains("://") {
        return match text.parse() {
            Ok(crate::config::Address::Tcp(address)) => Ok(vec![address]),
            _ => Err(wrong(text, "must be HOST:PORT or a connection string")),
        };
    }
    // Of the text nothing is shown from here on: it may hold a password.
    let refuse = |what: &str| wrong("(a connection string)", what);
    if text.starts_with("mongodb+srv:") {
        return Err(refuse(
            "`mongodb+srv://` is not in this version; name a member as HOST:PORT",
        ));
    }
    let options = (ClientOptions::parse(text).await)
        .map_err(|_| refuse("cannot be used as a connection string; name a member as HOST:PORT"))?;
    if options.credential.is_some() {
        return Err(refuse(
            "has a user, but a bench does not log in: measure a MongoDB without logins, or leave --upstream out",
        ));
    }
    if matches!(options.tls, Some(Tls::Enabled(_))) {
        return Err(refuse(
            "asks for TLS, which the client of a bench does not speak: measure a MongoDB without it, or leave --upstream out",
        ));
    }
    let hosts = options.hosts.iter().map(|host| match host {
        ServerAddress::Tcp { host, port } => Ok(format!("{host}:{}", port.unwrap_or(27017))),
        _ => Err(refuse("names a socket; name a member as HOST:PORT")),
    });
    hosts.collect()
}

/// Whether who answers there can be measured.
async fn answers(host: &str) -> Result<SocketAddr, BenchError> {
    let slow = || wrong(host, "does not answer");
    let address = async {
        let mut found = tokio::net::lookup_host(host).await?;
        // The proxies' own preference, and that of most systems where both are there.
        let all: Vec<SocketAddr> = found.by_ref().collect();
        let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
        first
            .copied()
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    };
    let looked_up: Result<std::io::Result<SocketAddr>, _> =
        tokio::time::timeout(FIRST_ANSWER, address).await;
    let address = looked_up
        .map_err(|_| slow())?
        .map_err(|error| wrong(host, error))?;
    let ask = tokio::time::timeout(FIRST_ANSWER, ask(address)).await;
    match ask.map_err(|_| slow())? {
        Ok(()) => Ok(address),
        Err(error) => Err(wrong(host, reason(&error))),
    }
}

async fn ask(address: SocketAddr) -> Result<(), LoadError> {
    let failed = |reason: Reason| LoadError {
        command: "hello".to_owned(),
        reason,
    };
    let connected = Load::connect(&Target::Tcp(address), 1).await;
    let mut load = connected.map_err(|error| failed(error.into()))?;
    let hello = load
        .ask(&request(&doc! {"hello": 1, "$db": "admin"}))
        .await?;
    if !hello.get_bool("isWritablePrimary").unwrap_or_default() {
        return Err(failed(Reason::Answer("not of a primary".to_owned())));
    }
    let list = doc! {"listDatabases": 1, "nameOnly": true, "$db": "admin"};
    load.ask(&request(&list)).await?;
    Ok(())
}

fn reason(error: &LoadError) -> String {
    match &error.reason {
        Reason::Answer(name) if name == "Unauthorized" => {
            "asks for a login, which the client of a bench does not do: measure a MongoDB without logins, or leave --upstream out".to_owned()
        }
        Reason::Answer(name) if name.starts_with("not of") => {
            "is no primary; writes are measured too, so name the primary or a mongos".to_owned()
        }
        Reason::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "closes the connection; if it asks for TLS: the client of a bench does not speak that".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn what_a_bench_does_not_speak_is_refused_without_showing_a_password() {
        for (text, told) in [
            ("mongodb://ada:canary@127.0.0.1:1/", "has a user"),
            ("mongodb://127.0.0.1:1/?tls=true", "asks for TLS"),
            ("mongodb+srv://ada:canary@db.example/", "name a member"),
            ("mongodb://ada:can/ary@127.0.0.1/", "connection string"),
            ("127.0.0.1", "must be HOST:PORT"),
            ("unix:/tmp/x", "must be HOST:PORT"),
        ] {
            let error = upstream(text).await.unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
            assert!(
                !error.contains("canary") && !error.contains("ary@"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn each_member_of_a_connection_string_is_tried() {
        let named = hosts("mongodb://a.example,b.example:1/?replicaSet=rs")
            .await
            .unwrap();
        assert_eq!(named, ["a.example:27017", "b.example:1"]);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = upstream(&address.to_string())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("--upstream {address}: ")),
            "{error}"
        );
    }
}
