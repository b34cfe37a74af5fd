//! What the tests stand on: a mongod replica set, the `fieldseal` binary in front
//! of it, and nothing of either left behind when the test process ends.
#![allow(
    dead_code,
    unused_imports,
    reason = "what one module of tests leaves unused, another needs"
)]

mod mongod;
mod process;
mod proxy;
mod relay;
pub(crate) mod wire;

pub(crate) use mongod::{Member, MongodTls, ReplicaSet, ReplicaSetOptions, mongod_path};
pub(crate) use process::{PATIENCE, Process, new_directory};
pub(crate) use proxy::{
    Proxy, ProxyOptions, WITH_JAVASCRIPT, command, error_text, fieldseal, write_configuration,
};
pub(crate) use relay::{Recorded, Relay};

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

static SHARED: OnceCell<ReplicaSet> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The single-member replica set that tests share; each uses databases of its own.
pub(crate) async fn shared_replica_set() -> &'static ReplicaSet {
    SHARED
        .get_or_init(|| ReplicaSet::start(ReplicaSetOptions::default()))
        .await
}

/// A database name that no other test of this process has: `prefix_1`, `prefix_2`…
pub(crate) fn unique_database(prefix: &str) -> String {
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_{number}")
}
