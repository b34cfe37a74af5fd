//! From what was measured to the report.

use super::report::{Field, Group, Measurement, Operation, Setting};
use super::rounds::{Block, Sample};
use super::spread::Spread;
use super::subject::Subject;

/// The measurements of all blocks, each compared with the setting that its own is compared with.
pub fn measurements(settings: &[Setting], blocks: &[Block]) -> Vec<Measurement> {
    let of = |block: &Block| measurement(settings, blocks, block);
    blocks.iter().filter_map(of).collect()
}

fn measurement(settings: &[Setting], blocks: &[Block], block: &Block) -> Option<Measurement> {
    let samples = &block.samples;
    let spread = |pick: fn(&Sample) -> f64| Spread::of(samples.iter().map(pick));
    let against = settings
        .get(block.player)
        .and_then(|setting| setting.against);
    let other = against.and_then(|against| {
        blocks.iter().find(|other| {
            (other.player, other.operation, other.connections)
                == (against, block.operation, block.connections)
        })
    });
    let rounds = || {
        samples
            .iter()
            .zip(other.into_iter().flat_map(|other| &other.samples))
    };
    let ratio = |pick: fn(&Sample) -> f64| {
        Spread::of(rounds().map(|(sample, other)| pick(sample) / pick(other)))
    };
    // Without a proxy, its CPU time is none at all.
    let beside_proxy = |other: &Sample| match settings.get(against?)?.group {
        Group::Direct => Some(0.0),
        _ => other.cpu,
    };
    let added = rounds().filter_map(|(sample, other)| {
        Some((sample.cpu? - beside_proxy(other)?) / block.documents.max(1) as f64)
    });
    Some(Measurement {
        setting: block.player,
        operation: block.operation,
        documents: block.documents,
        connections: block.connections,
        p50: spread(|sample| sample.p50)?,
        p99: spread(|sample| sample.p99)?,
        throughput: spread(|sample| sample.throughput)?,
        cpu: Spread::of(samples.iter().filter_map(|sample| sample.cpu)),
        cpu_mongodb: Spread::of(samples.iter().filter_map(|sample| sample.cpu_mongodb)),
        p50_ratio: ratio(|sample| sample.p50),
        throughput_ratio: ratio(|sample| sample.throughput),
        cpu_added: Spread::of(added),
    })
}

/// What each field of the subject gains and costs.
pub fn fields(subject: &Subject, settings: &[Setting], measurements: &[Measurement]) -> Vec<Field> {
    let rule = &subject.rule;
    let all = rule.fields.iter().zip(&subject.fields).enumerate();
    all.map(|(place, (field, weighed))| {
        let own = |operation: Operation| {
            measurements.iter().find(|found| {
                let setting = settings.get(found.setting);
                found.operation == operation
                    && setting.is_some_and(|setting| setting.group == Group::Field(place))
            })
        };
        // With many documents in a command, noise is spread over all of them.
        let added = |many: Operation, one: Operation| {
            own(many).or(own(one)).and_then(|found| found.cpu_added)
        };
        let share = |operation: Operation| own(operation).and_then(|found| found.throughput_ratio);
        Field {
            collection: rule.pattern.clone(),
            path: field.path.clone(),
            kind: field.types.names().map(|_| field.types.describe()),
            queries: match field.equality {
                true => vec!["equality".to_owned()],
                false => Vec::new(),
            },
            present: weighed.present,
            protects: super::leakage::protects(rule, field),
            visible: super::leakage::visible(rule, field),
            bytes_added: weighed.bytes_added,
            write_added: added(Operation::BatchWrite, Operation::Write),
            read_added: added(Operation::BatchRead, Operation::Read),
            write_throughput: share(Operation::Write),
            read_throughput: share(Operation::Read),
        }
    })
    .collect()
}
