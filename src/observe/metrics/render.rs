//! The counts as Prometheus reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::series::{MOST_NAMESPACES, OTHER};
use super::{Extras, Histogram, Snapshot, reason};
use crate::observe::command::Phase;

/// What [`render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text for one scrape.
pub fn render(snapshot: &Snapshot, extras: &Extras) -> String {
    let mut registry = Registry::with_prefix("fieldseal");
    registry.register_collector(Box::new(Scrape {
        snapshot: snapshot.clone(),
        extras: extras.clone(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes whatever is written to it");
    text
}

#[derive(Debug)]
struct Scrape {
    snapshot: Snapshot,
    extras: Extras,
}

type Labels<'l, const N: usize> = [(&'static str, &'l str); N];

/// Values by namespace, field, key and version.
type ByField<'v> = BTreeMap<(&'v str, &'v str, &'v str, u32), u64>;

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.commands(&mut page)?;
        self.values(&mut page)?;
        self.connections(&mut page)?;
        self.keys(&mut page)?;
        self.members(&mut page)
    }
}

impl Scrape {
    fn commands(&self, page: &mut Page<'_>) -> fmt::Result {
        let Snapshot {
            commands,
            requests,
            phases,
            refusals,
            ..
        } = &self.snapshot;
        let rows = commands.iter().map(|row| {
            let labels = [
                ("command", row.command.as_str()),
                ("namespace", &row.namespace),
                ("outcome", row.outcome),
            ];
            (labels, row.count)
        });
        page.counter("commands", "Commands that are over", rows)?;
        let help = "Time from the first byte of a request to the last one of its reply";
        page.histogram("request_seconds", help, [([], requests)])?;
        let rows = Phase::ALL
            .iter()
            .zip(phases)
            .map(|(phase, histogram)| ([("phase", phase.word())], histogram));
        page.histogram("phase_seconds", "What that time went into", rows)?;
        let rows = (refusals.iter()).map(|(kind, count)| ([("reason", reason(*kind))], *count));
        page.counter(
            "refusals",
            "Commands and statements that were refused",
            rows,
        )
    }

    fn values(&self, page: &mut Page<'_>) -> fmt::Result {
        let sealed = self.extras.sealed.iter().map(|used| {
            let (namespace, path, key) = (&*used.namespace, &*used.path, &*used.key);
            ((namespace, path, key, used.version), used.seals)
        });
        page.by_field("values_sealed", "Values that were sealed", sealed)?;
        let opened = self.extras.opened.iter().map(|opened| {
            let (namespace, path, key) = (&*opened.namespace, &*opened.path, &*opened.key);
            ((namespace, path, key, opened.version), opened.values)
        });
        page.by_field("values_opened", "Values that were opened", opened)
    }

    fn connections(&self, page: &mut Page<'_>) -> fmt::Result {
        let Snapshot {
            connections_open,
            connections_accepted,
            turned_away,
            memory_in_flight,
            reloads,
            reloads_refused,
            ..
        } = &self.snapshot;
        page.gauge(
            "connections",
            "Connections that are open",
            [([], *connections_open)],
        )?;
        page.counter(
            "connections_accepted",
            "Connections that there were",
            [([], *connections_accepted)],
        )?;
        let rows = (turned_away.iter()).map(|(limit, count)| ([("limit", *limit)], *count));
        let help = "Connections that were closed at once, by what said so";
        page.counter("connections_turned_away", help, rows)?;
        let help = "Bytes of messages over 64 KiB that are under way, with what is made of them";
        page.gauge("messages_bytes", help, [([], *memory_in_flight)])?;
        let rows = [("taken_up", *reloads), ("refused", *reloads_refused)];
        let rows = rows.map(|(outcome, count)| ([("outcome", outcome)], count));
        page.counter("reloads", "Changed files that were tried", rows)
    }

    fn keys(&self, page: &mut Page<'_>) -> fmt::Result {
        let extras = &self.extras;
        page.gauge(
            "keyring_generation",
            "The generation of the keyring in force",
            [([], extras.generation)],
        )?;
        let versions = extras.keys.iter().map(|aged| aged.version.to_string());
        let versions: Vec<String> = versions.collect();
        let rows = (extras.keys.iter().zip(&versions)).map(|(aged, version)| {
            let labels = [("key", aged.key.as_str()), ("version", version)];
            (labels, aged.age.as_secs())
        });
        let help = "How long ago the version of a key was made that seals";
        page.gauge("key_age_seconds", help, rows)?;
        let rows = extras.certificates.iter().map(|certificate| {
            let until = certificate.until.duration_since(UNIX_EPOCH);
            let labels = [("side", certificate.side)];
            (labels, until.unwrap_or_default().as_secs())
        });
        let help = "Until when a certificate holds";
        page.gauge("certificate_expiry_timestamp_seconds", help, rows)
    }

    fn members(&self, page: &mut Page<'_>) -> fmt::Result {
        let extras = &self.extras;
        let rows = extras.members.iter().map(|member| {
            let labels = [
                ("route", member.route.as_str()),
                ("upstream", &member.upstream),
                ("state", member.state),
            ];
            (labels, u64::from(member.up))
        });
        page.gauge("member_up", "Whether a member answers", rows)?;
        page.counter(
            "traces_dropped",
            "Commands that were to be traced, but were not",
            [([], extras.traces_dropped)],
        )?;
        page.gauge(
            "ready",
            "Whether clients can be served",
            [([], u64::from(extras.ready))],
        )?;
        page.gauge(
            "build_info",
            "What runs",
            [([("version", extras.version)], 1)],
        )
    }
}

/// What is written to.
struct Page<'e>(DescriptorEncoder<'e>);

impl Page<'_> {
    /// The name ends in `_total` where its values stand.
    fn counter<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let mut family = (self.0).encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in rows {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
            } else {
                let mut row = family.encode_family(&labels)?;
                row.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn gauge<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let mut family = (self.0).encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn histogram<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'l, N>, &'l Histogram)>,
    ) -> fmt::Result {
        let mut family = (self.0).encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in rows {
            let within: u64 = histogram.buckets.iter().map(|(_, count)| count).sum();
            let mut buckets = histogram.buckets.clone();
            buckets.push((f64::INFINITY, histogram.count.saturating_sub(within)));
            let (sum, count) = (histogram.sum, histogram.count);
            if labels.is_empty() {
                family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            } else {
                let mut row = family.encode_family(&labels)?;
                row.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    /// A counter of values. Patterns of a schema stand for any number of namespaces, of which
    /// so many are told apart.
    fn by_field<'v>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = ((&'v str, &'v str, &'v str, u32), u64)>,
    ) -> fmt::Result {
        let mut namespaces = BTreeSet::new();
        let mut sums = ByField::new();
        for ((namespace, path, key, version), count) in rows {
            let kept = namespaces.contains(namespace) || namespaces.len() < MOST_NAMESPACES;
            let namespace = if kept { namespace } else { OTHER };
            namespaces.insert(namespace);
            *sums.entry((namespace, path, key, version)).or_default() += count;
        }
        let versions = sums.keys().map(|(.., version)| version.to_string());
        let versions: Vec<String> = versions.collect();
        let rows = sums.iter().zip(&versions);
        let rows = rows.map(|(((namespace, path, key, _), count), version)| {
            let labels = [
                ("namespace", *namespace),
                ("field", *path),
                ("key", *key),
                ("version", version.as_str()),
            ];
            (labels, *count)
        });
        self.counter(name, help, rows)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::observe::command::{Finished, Outcome, Times};
    use crate::observe::metrics::{Certificate, Flow, Member, Metrics};
    use crate::policy::{Aged, Opened};
    use crate::refusal::{Refusal, RefusalKind};

    fn finished<'f>(command: &'f str, namespace: &'f str, milliseconds: u64) -> Finished<'f> {
        let whole = Duration::from_millis(milliseconds);
        Finished {
            connection: 1,
            request: 1,
            command,
            namespace,
            outcome: Outcome::Ok,
            began: SystemTime::now(),
            times: Times {
                whole,
                phases: [
                    Duration::ZERO,
                    Duration::ZERO,
                    Duration::ZERO,
                    whole,
                    Duration::ZERO,
                ],
            },
            request_bytes: 0,
            reply_bytes: 0,
            parent: None,
        }
    }

    fn scraped() -> String {
        let metrics = Metrics::on();
        let flow: std::sync::Arc<Flow> = std::sync::Arc::default();
        metrics.watch(std::sync::Arc::clone(&flow));
        let _open = flow.opened();
        flow.turned_away("access.allow");
        metrics.finished(&finished("find", "shop.\"a\\b\nc", 3));
        metrics.finished(&finished("find", "shop.\"a\\b\nc", 70_000));
        let refusal = Refusal::new(RefusalKind::NotSupported, "no");
        metrics.refused("find", "shop.people", &refusal);
        metrics.reloaded(true);
        let opened = |number: usize| Opened {
            namespace: format!("t_{number}.people"),
            path: "ssn".to_owned(),
            key: "default".to_owned(),
            version: 2,
            values: 3,
        };
        let extras = Extras {
            version: "1.2.3",
            ready: true,
            traces_dropped: 5,
            generation: 9,
            opened: (0..MOST_NAMESPACES + 2).map(opened).collect(),
            keys: vec![Aged {
                key: "default".to_owned(),
                version: 2,
                age: Duration::from_secs(60),
            }],
            certificates: vec![Certificate {
                side: "listen",
                until: UNIX_EPOCH + Duration::from_secs(7),
            }],
            members: vec![Member {
                route: "127.0.0.1:1".to_owned(),
                upstream: "127.0.0.1:2".to_owned(),
                state: "primary",
                up: true,
            }],
            ..Extras::default()
        };
        render(&metrics.snapshot(), &extras)
    }

    #[test]
    fn prometheus_is_told_what_was_counted() {
        let text = scraped();
        for line in [
            "# TYPE fieldseal_commands counter",
            r#"fieldseal_commands_total{command="find",namespace="shop.\"a\\b\nc",outcome="ok"} 2"#,
            r#"fieldseal_request_seconds_bucket{le="0.0025"} 0"#,
            r#"fieldseal_request_seconds_bucket{le="0.005"} 1"#,
            r#"fieldseal_request_seconds_bucket{le="60.0"} 1"#,
            r#"fieldseal_request_seconds_bucket{le="+Inf"} 2"#,
            "fieldseal_request_seconds_count 2",
            "fieldseal_request_seconds_sum 70.003",
            r#"fieldseal_phase_seconds_sum{phase="upstream"} 70.003"#,
            r#"fieldseal_phase_seconds_count{phase="seal"} 2"#,
            r#"fieldseal_refusals_total{reason="not_supported"} 1"#,
            r#"fieldseal_refusals_total{reason="cannot_open"} 0"#,
            r#"fieldseal_values_opened_total{namespace="t_0.people",field="ssn",key="default",version="2"} 3"#,
            r#"fieldseal_values_opened_total{namespace="other",field="ssn",key="default",version="2"} 6"#,
            "fieldseal_connections 1",
            "fieldseal_connections_accepted_total 1",
            r#"fieldseal_connections_turned_away_total{limit="access.allow"} 1"#,
            r#"fieldseal_reloads_total{outcome="taken_up"} 1"#,
            "fieldseal_keyring_generation 9",
            r#"fieldseal_key_age_seconds{key="default",version="2"} 60"#,
            r#"fieldseal_certificate_expiry_timestamp_seconds{side="listen"} 7"#,
            r#"fieldseal_member_up{route="127.0.0.1:1",upstream="127.0.0.1:2",state="primary"} 1"#,
            "fieldseal_traces_dropped_total 5",
            "fieldseal_ready 1",
            r#"fieldseal_build_info{version="1.2.3"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    /// The names of an exposition, with their types.
    fn told(text: &str) -> BTreeMap<String, String> {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let names = types.map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let total = if kind == "counter" { "_total" } else { "" };
            (format!("{name}{total}"), kind.to_owned())
        });
        names.collect()
    }

    #[test]
    fn the_page_on_metrics_has_each_of_them_with_its_labels_and_no_other() {
        let text = scraped();
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let page = std::fs::read_to_string(page).unwrap();
        let rows = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `fieldseal_"));
        let mut described = BTreeMap::new();
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let name = format!("fieldseal_{}", cells[0].trim_end_matches('`'));
            let words = |cell: &str| {
                cell.replace('`', "")
                    .split(", ")
                    .map(str::to_owned)
                    .collect()
            };
            let labels: Vec<String> = words(cells[2]);
            for label in labels.iter().filter(|label| !label.is_empty()) {
                let of_name = text.lines().filter(|line| line.starts_with(&name));
                // Nothing was sealed here; it has the labels of what was opened.
                let mut of_name = of_name
                    .filter(|_| name != "fieldseal_values_sealed_total")
                    .peekable();
                let labelled = |line: &str| line.contains(&format!("{label}=\""));
                assert!(
                    of_name.peek().is_none() || of_name.any(labelled),
                    "{name} {label}"
                );
            }
            assert!(
                described.insert(name, cells[1].to_owned()).is_none(),
                "{row}"
            );
        }
        assert_eq!(described, told(&text));
    }

    #[test]
    fn no_family_is_told_of_twice() {
        let text = scraped();
        let types = text.lines().filter(|line| line.starts_with("# TYPE "));
        assert_eq!(types.count(), told(&text).len());
        let families: BTreeSet<&str> = (text.lines())
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        assert_eq!(families.len(), told(&text).len());
    }
}
