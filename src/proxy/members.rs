//! What the members say of themselves, asked again and again for operators to see.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::PolicyCell;
use super::upstream::{self, Upstream};
use crate::config::Address;
use crate::raw::{Doc, kind};
use crate::tls::TlsCell;
use crate::wire::{Reply, WireError};

/// How often each member is asked.
const PERIOD: Duration = Duration::from_secs(2);

/// How long a member may take, with the connection and its handshake. One that accepts and
/// says nothing is as little use as one that is gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many members of a set are remembered by name; MongoDB has 50 at most.
const MOST_HOSTS: usize = 64;

/// The members behind the routes, and what they last said. Cheap to clone.
#[derive(Clone)]
pub struct Members(Arc<Watched>);

struct Watched {
    routes: Vec<Watch>,
    policy: PolicyCell,
    tls: TlsCell,
}

struct Watch {
    listen: String,
    advertised: String,
    upstream: Address,
    state: ArcSwap<MemberState>,
}

/// What a member is for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    /// The primary of a replica set.
    Primary,
    /// A secondary of one.
    Secondary,
    /// The router of a sharded cluster.
    Mongos,
    /// In no replica set.
    Standalone,
    /// An arbiter, or one that starts, recovers or was removed.
    Other,
    /// It does not answer.
    Down,
}

/// What a member last said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// What it is.
    pub role: MemberRole,
    /// What it calls itself.
    pub name: Option<String>,
    /// The name of its replica set.
    pub set: Option<String>,
    /// The members of the set, as it names them.
    pub hosts: Vec<String>,
    /// How long it took to answer, over a connection that was there.
    pub round_trip: Option<Duration>,
    /// Since when it is what it is.
    pub since: SystemTime,
    /// Why it does not answer.
    pub fault: Option<String>,
}

/// A route and its member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteState {
    /// Where clients connect.
    pub listen: String,
    /// What they are told of it.
    pub advertised: String,
    /// The member, as configured.
    pub upstream: String,
    /// What it last said.
    pub member: Arc<MemberState>,
}

impl MemberRole {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Mongos => "mongos",
            Self::Standalone => "standalone",
            Self::Other => "other",
            Self::Down => "down",
        }
    }

    /// Whether clients can write there.
    pub fn takes_writes(self) -> bool {
        matches!(self, Self::Primary | Self::Mongos | Self::Standalone)
    }
}

impl MemberState {
    /// Of a member that was not asked yet.
    fn unknown() -> Self {
        Self {
            role: MemberRole::Down,
            name: None,
            set: None,
            hosts: Vec::new(),
            round_trip: None,
            since: SystemTime::now(),
            fault: Some("it was not asked yet".to_owned()),
        }
    }

    /// What a reply to `hello` says.
    fn read(frame: &[u8]) -> Result<Self, WireError> {
        let reply = Reply::recognise(frame)?;
        let body = reply.body();
        let answer = Doc::at(reply.frame(), body.start, body.end)?;
        let text = |key: &str| -> Result<Option<String>, WireError> {
            let element = answer.find(key)?;
            Ok(element.and_then(|element| element.str().map(str::to_owned)))
        };
        let is = |key: &str| -> Result<bool, WireError> {
            Ok(answer.find(key)?.is_some_and(|element| element.truthy()))
        };
        let set = text("setName")?;
        let role = if !is("ok")? {
            MemberRole::Other
        } else if text("msg")?.as_deref() == Some("isdbgrid") {
            MemberRole::Mongos
        } else if is("isreplicaset")? {
            MemberRole::Other
        } else if is("isWritablePrimary")? {
            match set {
                Some(_) => MemberRole::Primary,
                None => MemberRole::Standalone,
            }
        } else if is("secondary")? {
            MemberRole::Secondary
        } else {
            MemberRole::Other
        };
        let mut hosts = Vec::new();
        for list in ["hosts", "passives", "arbiters"] {
            let Some(list) = answer.find(list)?.filter(|it| it.kind == kind::ARRAY) else {
                continue;
            };
            for host in list.doc()?.elements() {
                hosts.extend(host?.str().map(str::to_owned));
            }
        }
        hosts.truncate(MOST_HOSTS);
        Ok(Self {
            role,
            name: text("me")?,
            set,
            hosts,
            round_trip: None,
            since: SystemTime::now(),
            fault: None,
        })
    }
}

impl Members {
    /// Those of routes: where each listens, what it is advertised as, and its upstream.
    pub(crate) fn new(
        routes: impl IntoIterator<Item = (String, String, Address)>,
        policy: PolicyCell,
        tls: TlsCell,
    ) -> Self {
        let routes = routes.into_iter().map(|(listen, advertised, upstream)| {
            let state = ArcSwap::from_pointee(MemberState::unknown());
            Watch {
                listen,
                advertised,
                upstream,
                state,
            }
        });
        Self(Arc::new(Watched {
            routes: routes.collect(),
            policy,
            tls,
        }))
    }

    /// What they last said, in the order of the routes.
    pub fn now(&self) -> Vec<RouteState> {
        let routes = self.0.routes.iter();
        let state = |watch: &Watch| RouteState {
            listen: watch.listen.clone(),
            advertised: watch.advertised.clone(),
            upstream: watch.upstream.to_string(),
            member: watch.state.load_full(),
        };
        routes.map(state).collect()
    }

    /// Whether clients can write through at least one route.
    pub fn take_writes(&self) -> bool {
        let mut routes = self.0.routes.iter();
        routes.any(|watch| watch.state.load().role.takes_writes())
    }

    /// The members of the replica set that have no route, so that clients are not told of them.
    pub fn unrouted(&self) -> Vec<String> {
        let routes = self.now();
        let known = |host: &String| {
            routes.iter().any(|route| {
                let name = route.member.name.as_ref().unwrap_or(&route.upstream);
                name.eq_ignore_ascii_case(host)
            })
        };
        let hosts = routes.iter().flat_map(|route| &route.member.hosts);
        let mut unrouted: Vec<String> = hosts.filter(|host| !known(host)).cloned().collect();
        unrouted.sort();
        unrouted.dedup();
        unrouted
    }

    /// Asks all members again and again; does not end.
    pub async fn watch(self) {
        let mut tasks = JoinSet::new();
        for route in 0..self.0.routes.len() {
            let watched = Arc::clone(&self.0);
            tasks.spawn(async move { watched.keep_asking(route).await });
        }
        while tasks.join_next().await.is_some() {}
    }
}

impl Watched {
    async fn keep_asking(&self, route: usize) {
        let Some(watch) = self.routes.get(route) else {
            return;
        };
        let mut connection = None;
        let mut period = interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            let mut answer = self.ask(watch, &mut connection).await;
            if answer.is_err() && connection.take().is_some() {
                // It may have been restarted since, and be there.
                answer = self.ask(watch, &mut connection).await;
            }
            if answer.is_err() {
                connection = None;
            }
            watch.note(answer);
        }
    }

    /// Asks over a connection that is there, or over a new one. It stays in `connection` also if
    /// it fails, but not if there was none.
    async fn ask(
        &self,
        watch: &Watch,
        connection: &mut Option<Upstream>,
    ) -> io::Result<MemberState> {
        let policy = self.policy.load_full();
        let tls = self.tls.load().upstream();
        let plain = tls.is_none();
        let answer = async {
            let mut fresh = None;
            let upstream = match connection.as_mut() {
                Some(upstream) => upstream,
                None => {
                    let connected = Upstream::connect(&watch.upstream, tls, "members", PATIENCE);
                    fresh.insert(connected.await?)
                }
            };
            let asked = Instant::now();
            let frame = upstream::hello(upstream, &policy, plain).await?;
            let state = MemberState {
                round_trip: Some(asked.elapsed()),
                ..MemberState::read(&frame).map_err(io::Error::other)?
            };
            if let Some(fresh) = fresh {
                *connection = Some(fresh);
            }
            Ok(state)
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time");
        timeout(PATIENCE, answer).await.map_err(late)?
    }
}

impl Watch {
    fn note(&self, answer: io::Result<MemberState>) {
        let before = self.state.load_full();
        let mut state = answer.unwrap_or_else(|error| MemberState {
            fault: Some(error.to_string()),
            // What it is called does not change while it is away.
            name: before.name.clone(),
            set: before.set.clone(),
            ..MemberState::unknown()
        });
        let (was, is) = (before.role, state.role);
        if was == is {
            state.since = before.since;
        } else {
            let upstream = &self.upstream;
            tracing::info!(%upstream, was = was.word(), is = is.word(), "a member changed");
        }
        self.state.store(Arc::new(state));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::doc;

    use super::*;
    use crate::wire::testing::{body, msg};

    fn read(answer: &bson::Document) -> MemberState {
        MemberState::read(&msg(0, &body(answer))).unwrap()
    }

    #[test]
    fn each_kind_of_member_is_known_by_its_hello() {
        let primary = read(&doc! {
            "ok": 1.0, "isWritablePrimary": true, "setName": "rs", "me": "a:1",
            "hosts": ["a:1", "b:1"], "arbiters": ["c:1"],
        });
        assert_eq!(primary.role, MemberRole::Primary);
        assert_eq!(primary.name.as_deref(), Some("a:1"));
        assert_eq!(primary.hosts, ["a:1", "b:1", "c:1"]);
        let role = |answer: bson::Document| read(&answer).role;
        let secondary =
            doc! {"ok": 1, "isWritablePrimary": false, "secondary": true, "setName": "rs"};
        assert_eq!(role(secondary), MemberRole::Secondary);
        let mongos = doc! {"ok": 1, "isWritablePrimary": true, "msg": "isdbgrid"};
        assert_eq!(role(mongos), MemberRole::Mongos);
        let alone = doc! {"ok": 1, "isWritablePrimary": true};
        assert_eq!(role(alone), MemberRole::Standalone);
        let arbiter =
            doc! {"ok": 1, "isWritablePrimary": false, "secondary": false, "setName": "rs"};
        assert_eq!(role(arbiter), MemberRole::Other);
        let not_yet = doc! {"ok": 1, "isWritablePrimary": false, "isreplicaset": true};
        assert_eq!(role(not_yet), MemberRole::Other);
        let error = doc! {"ok": 0, "isWritablePrimary": true, "setName": "rs"};
        assert_eq!(role(error), MemberRole::Other);
    }

    #[test]
    fn what_is_no_reply_is_an_error_and_never_a_panic() {
        let whole = msg(0, &body(&doc! {"ok": 1, "hosts": ["a:1"], "me": "a:1"}));
        for length in 0..whole.len() {
            assert!(MemberState::read(&whole[..length]).is_err(), "{length}");
        }
    }

    fn members(upstreams: &[&str]) -> Members {
        let routes = upstreams.iter().map(|upstream| {
            let address = Address::Tcp((*upstream).to_owned());
            ("127.0.0.1:1".to_owned(), "proxy:1".to_owned(), address)
        });
        let policy = Arc::new(ArcSwap::from_pointee(crate::policy::fixture::policy()));
        Members::new(routes, policy, TlsCell::default())
    }

    #[test]
    fn a_member_without_a_route_is_named() {
        let members = members(&["a:1", "10.0.0.2:1"]);
        let state = |name: &str| MemberState {
            name: Some(name.to_owned()),
            hosts: vec!["A:1".to_owned(), "b:1".to_owned(), "new:1".to_owned()],
            fault: None,
            ..MemberState::unknown()
        };
        members.0.routes[0].note(Ok(state("a:1")));
        members.0.routes[1].note(Ok(state("b:1")));
        assert_eq!(members.unrouted(), ["new:1"]);
    }

    #[test]
    fn a_member_that_went_away_keeps_its_name_and_says_since_when() {
        let members = members(&["a:1"]);
        let watch = &members.0.routes[0];
        let long_ago = SystemTime::UNIX_EPOCH;
        watch.note(Ok(MemberState {
            role: MemberRole::Primary,
            name: Some("a:1".to_owned()),
            since: long_ago,
            fault: None,
            ..MemberState::unknown()
        }));
        assert!(members.take_writes());
        watch.note(Err(io::Error::other("gone")));
        assert!(!members.take_writes());
        let state = watch.state.load_full();
        assert_eq!(state.name.as_deref(), Some("a:1"));
        assert_eq!(state.fault.as_deref(), Some("gone"));
        assert_ne!(state.since, long_ago);
        let since = state.since;
        watch.note(Err(io::Error::other("still gone")));
        assert_eq!(watch.state.load().since, since);
    }

    #[tokio::test]
    async fn a_member_that_accepts_and_says_nothing_is_down() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let members = members(&[&silent.local_addr().unwrap().to_string()]);
        let mut connection = None;
        let watched = &members.0;
        let asked = watched.ask(&watched.routes[0], &mut connection).await;
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(connection.is_none());
    }
}
