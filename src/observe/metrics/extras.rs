//! What the endpoint shows beside what is counted.

use std::time::{Duration, SystemTime};

use crate::policy::{Aged, Opened, Policy, Use};

/// What is looked up when the endpoint is asked, rather than counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extras {
    /// Of this build.
    pub version: &'static str,
    /// Whether clients can be served.
    pub ready: bool,
    /// Commands whose spans were not sent: [`Telemetry::dropped`].
    ///
    /// [`Telemetry::dropped`]: crate::observe::telemetry::Telemetry::dropped
    pub traces_dropped: u64,
    /// Of the keyring in force.
    pub generation: u64,
    /// Values sealed, by field and key version.
    pub sealed: Vec<Use>,
    /// Values opened, by field and key version.
    pub opened: Vec<Opened>,
    /// How old the versions are that seal.
    pub keys: Vec<Aged>,
    /// Until when certificates hold.
    pub certificates: Vec<Certificate>,
    /// Where clients are led to.
    pub members: Vec<Member>,
}

/// Until when a certificate holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What it is shown on: `listen`, `upstream` or `admin`.
    pub side: &'static str,
    /// The end.
    pub until: SystemTime,
}

/// A member of the replica set, as its route sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where clients connect to.
    pub route: String,
    /// Its address.
    pub upstream: String,
    /// A word for what it is: `primary`, `secondary`, `unreachable` and the like.
    pub state: &'static str,
    /// Whether it answers.
    pub up: bool,
}

impl Extras {
    /// What `policy` tells, with no certificates and members yet.
    pub fn of(policy: &Policy, now: SystemTime) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            generation: policy.generation(),
            sealed: policy.uses(now),
            opened: policy.opened(),
            keys: policy.aged(Duration::ZERO, now),
            ..Self::default()
        }
    }
}
