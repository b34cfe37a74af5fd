//! What the page shows, as JSON.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::Desk;
use crate::observe::command::Phase;
use crate::observe::metrics::{Extras, Histogram, Snapshot, reason};
use crate::policy::Policy;
use crate::proxy::RouteState;
use crate::schema::{CollectionRule, FieldRule, Mask};

/// How many of the commands are shown, those first that are sent most.
const MOST_COMMANDS: usize = 12;

/// How many of the last refusals are shown.
const MOST_REFUSALS: usize = 50;

/// Since 1970.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// All that the page shows.
pub(super) fn describe(desk: &Desk) -> Value {
    let now = SystemTime::now();
    let snapshot = desk.sources.observers.metrics.snapshot();
    let extras = desk.extras();
    let policy = desk.sources.policy.load();
    let members = &desk.sources.members;
    let routes = members.now();
    let coverage = match &desk.coverage {
        Some(coverage) => coverage.describe(),
        None => opened(&policy, &extras),
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "at": milliseconds(now),
        "started": milliseconds(desk.started),
        "ready": extras.ready,
        "reasons": desk.not_ready(),
        "stopping": desk.stopping.load(Ordering::Relaxed),
        "generation": extras.generation,
        "routes": routes.iter().map(route).collect::<Vec<_>>(),
        "unrouted": members.unrouted(),
        "traffic": traffic(&snapshot),
        "sealed": policy.schema().rules.iter().map(collection).collect::<Vec<_>>(),
        "keys": keys(&policy, &extras, now),
        "certificates": certificates(&extras),
        "coverage": coverage,
        "refusals": refusals(&snapshot),
    })
}

fn route(route: &RouteState) -> Value {
    let member = &route.member;
    json!({
        "listen": route.listen,
        "advertise": route.advertised,
        "upstream": route.upstream,
        "state": member.role.word(),
        "name": member.name,
        "set": member.set,
        "round_trip_milliseconds": member.round_trip.map(|time| time.as_secs_f64() * 1000.0),
        "since": milliseconds(member.since),
        "fault": member.fault,
    })
}

fn traffic(snapshot: &Snapshot) -> Value {
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut commands: BTreeMap<(&str, &str), BTreeMap<&str, u64>> = BTreeMap::new();
    for count in &snapshot.commands {
        *outcomes.entry(count.outcome).or_default() += count.count;
        let of_command = commands.entry((&count.command, &count.namespace));
        *of_command.or_default().entry(count.outcome).or_default() += count.count;
    }
    let mut commands: Vec<_> = commands.into_iter().collect();
    commands.sort_by_key(|(_, outcomes)| std::cmp::Reverse(outcomes.values().sum::<u64>()));
    let commands = commands.iter().take(MOST_COMMANDS).map(|(of, outcomes)| {
        let (command, namespace) = of;
        json!({ "command": command, "namespace": namespace, "outcomes": outcomes })
    });
    let phases = Phase::ALL
        .iter()
        .zip(&snapshot.phases)
        .map(|(phase, times)| {
            let mut value = histogram(times);
            value["phase"] = json!(phase.word());
            value
        });
    let refusals = snapshot.refusals.iter().filter(|(_, count)| *count > 0);
    let refusals = refusals.map(|(kind, count)| json!({ "reason": reason(*kind), "count": count }));
    let away = snapshot.turned_away.iter();
    let away = away.map(|(limit, count)| json!({ "limit": limit, "count": count }));
    json!({
        "outcomes": outcomes,
        "commands": commands.collect::<Vec<_>>(),
        "requests": histogram(&snapshot.requests),
        "phases": phases.collect::<Vec<_>>(),
        "refusals": refusals.collect::<Vec<_>>(),
        "connections": {
            "open": snapshot.connections_open,
            "accepted": snapshot.connections_accepted,
            "turned_away": away.collect::<Vec<_>>(),
        },
        "memory_in_flight": snapshot.memory_in_flight,
        "reloads": snapshot.reloads,
        "reloads_refused": snapshot.reloads_refused,
    })
}

/// The last bucket has no bound: JSON has no infinity.
fn histogram(times: &Histogram) -> Value {
    let bounded = times.buckets.iter().filter(|(bound, _)| bound.is_finite());
    let buckets = bounded.map(|(bound, count)| json!([bound, count]));
    json!({ "buckets": buckets.collect::<Vec<_>>(), "count": times.count, "sum": times.sum })
}

fn collection(rule: &CollectionRule) -> Value {
    json!({
        "namespace": rule.pattern,
        "on_plaintext": rule.on_plaintext.word(),
        "fields": rule.fields.iter().map(field).collect::<Vec<_>>(),
    })
}

fn field(field: &FieldRule) -> Value {
    let masked = field.access.read.is_some() || field.access.mask != Mask::default();
    json!({
        "path": field.path,
        "types": field.types.describe(),
        "elements": field.elements,
        "queries": if field.equality { "equality" } else { "none" },
        "mask": masked.then(|| field.access.mask.word()),
        "key": field.key,
        "suite": field.suite.map(|suite| suite.word()),
    })
}

fn keys(policy: &Policy, extras: &Extras, now: SystemTime) -> Vec<Value> {
    let states = policy.version_states(now).into_iter();
    let keys = states.map(|state| {
        let of_version = extras.sealed.iter().filter(|used| {
            !state.is_epoch && used.key == state.key && used.version == state.number
        });
        json!({
            "key": state.key,
            "kind": if state.is_epoch { "index epoch" } else { "version" },
            "number": state.number,
            "state": state.state.word(),
            "suite": state.suite.map(|suite| suite.word()),
            "age_seconds": state.age.map(|age| age.as_secs()),
            "sealed": (!state.is_epoch).then(|| of_version.map(|used| used.seals).sum::<u64>()),
        })
    });
    keys.collect()
}

fn certificates(extras: &Extras) -> Vec<Value> {
    let certificates = extras.certificates.iter();
    let certificates = certificates.map(
        |certificate| json!({ "side": certificate.side, "until": milliseconds(certificate.until) }),
    );
    certificates.collect()
}

/// Without a look at what is stored: what was opened for clients, by key version.
fn opened(policy: &Policy, extras: &Extras) -> Value {
    let states = policy.version_states(SystemTime::now());
    let mut fields: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    for opened in &extras.opened {
        let state = states.iter().find(|state| {
            !state.is_epoch && state.key == opened.key && state.number == opened.version
        });
        let version = json!({
            "key": opened.key,
            "version": opened.version,
            "state": state.map_or("missing", |state| state.state.word()),
            "values": opened.values,
        });
        let field = (opened.namespace.as_str(), opened.path.as_str());
        fields.entry(field).or_default().push(version);
    }
    let fields = fields.into_iter().map(|((namespace, path), versions)| {
        json!({ "namespace": namespace, "path": path, "versions": versions })
    });
    json!({ "source": "opened", "fields": fields.collect::<Vec<_>>(), "jobs": [] })
}

fn refusals(snapshot: &Snapshot) -> Vec<Value> {
    let recent = snapshot.recent.iter().take(MOST_REFUSALS);
    let recent = recent.map(|refusal| {
        json!({
            "at": milliseconds(refusal.at),
            "command": refusal.command,
            "namespace": refusal.namespace,
            "reason": reason(refusal.kind),
            "why": refusal.why,
        })
    });
    recent.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::CommandCount;

    #[test]
    fn the_commands_that_are_sent_most_come_first_with_all_their_outcomes() {
        let count = |command: &str, outcome, count| CommandCount {
            command: command.to_owned(),
            namespace: "shop.customers".to_owned(),
            outcome,
            count,
        };
        let snapshot = Snapshot {
            commands: vec![
                count("insert", "ok", 3),
                count("find", "ok", 2),
                count("find", "refused", 5),
            ],
            ..Snapshot::default()
        };
        let value = traffic(&snapshot);
        assert_eq!(value["outcomes"], json!({ "ok": 5, "refused": 5 }));
        let first = &value["commands"][0];
        assert_eq!(first["command"], "find");
        assert_eq!(first["outcomes"], json!({ "ok": 2, "refused": 5 }));
    }

    #[test]
    fn a_bucket_without_a_bound_does_not_break_the_json() {
        let times = Histogram {
            buckets: vec![(0.001, 2), (f64::INFINITY, 1)],
            count: 3,
            sum: 7.0,
        };
        let value = histogram(&times);
        assert_eq!(value["buckets"], json!([[0.001, 2]]));
        assert_eq!(value["count"], 3);
    }
}
