//! TLS towards clients and towards MongoDB.

pub(crate) mod authority;
mod certs;
pub(crate) mod client;
mod listen;
mod openssl;
mod reload;
mod table;
mod upstream;

use std::path::Path;

use crate::support::{Proxy, ProxyOptions, shared_replica_set};

const SCHEMA: &str =
    "[collections.\"*.people\".fields]\nssn = { type = \"string\", queries = [\"equality\"] }\n";

/// A proxy with these sections in its configuration, before the set that tests share.
async fn proxy(configuration: &str) -> Proxy {
    let options = ProxyOptions {
        schema: SCHEMA,
        configuration,
        log_level: "debug",
        ..ProxyOptions::default()
    };
    Proxy::start_with(shared_replica_set().await, options).await
}

/// `[tls.listen]` with a certificate, and further lines.
fn listen(identity: &Path, more: &str) -> String {
    format!("[tls.listen]\ncert = {identity:?}\n{more}\n")
}
