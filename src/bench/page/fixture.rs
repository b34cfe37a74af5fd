//! Reports to be looked at, made up: of any number of fields, with odd names, with gaps.

use crate::bench::report::{
    About, Documents, FORMAT, Field, Group, Measurement, Operation, Report, Setting, Source,
};
use crate::bench::spread::Spread;

/// Names of fields as users have them.
const NAMES: [&str; 10] = [
    "ssn",
    "email",
    "payment.card.number",
    "address",
    "contacts.*.phone",
    "visits.note",
    "date_of_birth",
    "insurance.policies.beneficiaries.identification.documentNumber",
    "salary",
    "preferences.dietaryRestrictionsAndAllergiesDeclaredByTheCustomerAtRegistration",
];

/// Names that want to be something else.
pub(in crate::bench) const HOSTILE: [&str; 5] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "a\u{202e}gnp.exe\u{0}\u{1b}[2J",
    "</style></svg></title>&amp;{{7*7}}",
    "ключ.名前.🔑'`",
];

fn spread(median: f64, part: f64) -> Spread {
    Spread {
        low: median * (1.0 - part),
        median,
        high: median * (1.0 + part * 1.2),
    }
}

/// Sentences as long as those that are said of a schema.
const SEEN: [&str; 4] = [
    "Presence: whether it is there, null or missing, under which name; that it is sealed, for which field and with which cipher suite.",
    "Length: that of each value, to the byte; there is no padding.",
    "Key version: under which version of which key a value was sealed, so roughly when it was written.",
    "Changes: whether and when it is written.",
];
const SEEN_BY_TOKENS: [&str; 2] = [
    "Equal values: which documents, and which elements of arrays, have the same value, and how often each value occurs. Where values are few or unevenly spread, counting them can be enough to name them.",
    "Tokens: those that queries ask for. Who can both write or query values of their choice through the proxy and watch MongoDB can collect the tokens of a dictionary.",
];
const SEEN_OF_ARRAYS: [&str; 1] = [
    "Elements: how many an array has, in which order, and the length of each; null in an array stays null.",
];

/// The same number for the same place, from -1 to 1.
fn noise(place: usize) -> f64 {
    let mixed = u32::try_from(place % 9973)
        .unwrap_or(0)
        .wrapping_mul(2_654_435_761);
    f64::from(mixed >> 16) / 32_768.0 - 1.0
}

/// A report of a schema with so many fields.
pub(in crate::bench) fn report(fields: usize) -> Report {
    let names = (0..fields).map(|number| match NAMES.get(number) {
        Some(name) => (*name).to_owned(),
        None => format!("{}_{number}", NAMES[number % NAMES.len()]),
    });
    with_names(&names.collect::<Vec<_>>(), &[1, 8, 64])
}

/// A report whose fields are called so, measured at these numbers of connections.
pub(in crate::bench) fn with_names(names: &[String], connections: &[usize]) -> Report {
    let settings = settings(names);
    let mut measurements = Vec::new();
    for (place, setting) in settings.iter().enumerate() {
        for operation in super::words::OPERATIONS {
            let grows = matches!(setting.group, Group::Direct | Group::Relay | Group::All);
            let usual = connections.get(connections.len() / 2).copied();
            for count in connections
                .iter()
                .filter(|count| grows || Some(**count) == usual)
            {
                measurements.extend(measurement(place, setting, operation, *count, names.len()));
            }
        }
    }
    let fields = names
        .iter()
        .enumerate()
        .map(|(number, name)| field(number, name));
    Report {
        format: FORMAT,
        about: About {
            when: "2026-01-31T12:00:00Z".to_owned(),
            fieldseal: "0.1.0".to_owned(),
            mongodb: "6.0.5".to_owned(),
            embedded: true,
            processor: "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz".to_owned(),
            cores: 2,
            rounds: 9,
            seconds: 0.5,
            documents: Documents {
                namespace: "shop.customers".to_owned(),
                source: Source::MadeUp,
                count: 200,
                bytes: 1043.2,
            },
        },
        settings,
        measurements,
        fields: fields.collect(),
        notes: vec![
            "Roles, limits and the audit log of the configuration were not used.".to_owned(),
        ],
    }
}

fn settings(names: &[String]) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut push = |name: &str, group, against, says: &str| {
        let (name, says) = (name.to_owned(), says.to_owned());
        settings.push(Setting {
            name,
            group,
            against,
            says,
        });
    };
    push(
        "direct",
        Group::Direct,
        None,
        "The client speaks with MongoDB itself.",
    );
    push(
        "relay",
        Group::Relay,
        Some(0),
        "Through a proxy whose schema seals nothing.",
    );
    for (number, name) in names.iter().enumerate() {
        push(
            name,
            Group::Field(number),
            Some(1),
            "This field alone is sealed.",
        );
    }
    let all = names.len() + 2;
    push(
        "all fields",
        Group::All,
        Some(1),
        "All fields are sealed, as the schema says.",
    );
    push(
        "no tokens",
        Group::Tokens,
        Some(all),
        "All fields are sealed, none with equality.",
    );
    push(
        "XAES-256-GCM",
        Group::Suite,
        Some(all),
        "All fields are sealed with suite 2.",
    );
    push(
        "TLS to clients",
        Group::Tls,
        Some(all),
        "TLS 1.3 between client and proxy.",
    );
    push(
        "TLS to MongoDB",
        Group::Tls,
        Some(all),
        "TLS 1.3 between proxy and MongoDB.",
    );
    push(
        "TLS on both sides",
        Group::Tls,
        Some(all),
        "TLS 1.3 on both sides.",
    );
    push(
        "Unix sockets",
        Group::Socket,
        Some(all),
        "Unix sockets on both sides, as in a sidecar.",
    );
    settings
}

fn measurement(
    place: usize,
    setting: &Setting,
    operation: Operation,
    connections: usize,
    fields: usize,
) -> Option<Measurement> {
    if operation == Operation::EqualityQuery && setting.group == Group::Tokens {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "made up")]
    let (count, wide) = (fields as f64, connections as f64);
    let batch = matches!(operation, Operation::BatchRead | Operation::BatchWrite);
    let documents = if batch { 100 } else { 1 };
    let base = if batch { 1850.0 } else { 310.0 };
    let heavy = if batch { 2.2 } else { 1.0 };
    let (ratio, cpu) = match setting.group {
        Group::Direct => (1.0, None),
        Group::Relay => (1.19, Some(52.0)),
        Group::Field(number) => (
            1.004 + 0.004 * heavy * noise(number + 7).abs(),
            Some(53.0 + noise(number).abs()),
        ),
        Group::All => (1.0 + 0.006 * heavy * count, Some(52.0 + 0.7 * count)),
        Group::Tokens => (0.988, Some(51.5 + 0.6 * count)),
        Group::Suite => (1.003, Some(52.4 + 0.7 * count)),
        Group::Tls => (1.05 + 0.02 * noise(place), Some(70.0)),
        Group::Socket => (0.87, Some(41.0)),
    };
    let waits = 1.0 + wide / 12.0;
    let times = match setting.group {
        Group::Direct | Group::Relay => ratio,
        _ => 1.19 * ratio,
    };
    let noise = 0.01 + 0.015 * noise(place * 31 + connections).abs();
    let p50 = spread(base * times * waits, noise);
    let compared = setting.against.is_some();
    let added = cpu
        .filter(|_| !matches!(setting.group, Group::Relay))
        .map(|cpu| cpu - 52.0);
    Some(Measurement {
        setting: place,
        operation,
        documents,
        connections,
        p50,
        p99: spread(p50.median * 3.3, 0.2),
        throughput: spread(1e6 * wide / p50.median, noise),
        cpu: cpu.map(|cpu| spread(cpu * heavy, 0.03)),
        cpu_mongodb: Some(spread(base * 0.6, 0.02)),
        p50_ratio: compared.then(|| spread(ratio, noise)),
        throughput_ratio: compared.then(|| spread(1.0 / ratio, noise)),
        cpu_added: added.map(|cpu| spread(cpu, 0.12)),
    })
}

fn field(number: usize, name: &str) -> Field {
    let equality = number % 5 < 2;
    let sentence = |sentence: &&str| (*sentence).to_owned();
    let mut visible: Vec<String> = SEEN.iter().map(sentence).collect();
    if equality {
        visible.extend(SEEN_BY_TOKENS.iter().map(sentence));
    }
    if number % 4 == 2 {
        visible.extend(SEEN_OF_ARRAYS.iter().map(sentence));
    }
    let cost = 0.45 + 0.3 * noise(number).abs() + if equality { 0.4 } else { 0.0 };
    let measured = number % 7 != 6;
    Field {
        collection: "shop.customers".to_owned(),
        path: name.to_owned(),
        kind: (!number.is_multiple_of(3)).then(|| "string".to_owned()),
        queries: if equality {
            vec!["equality".to_owned()]
        } else {
            Vec::new()
        },
        present: 100.0 - 3.0 * noise(number).abs(),
        protects: "Its values, from whoever has the database, its disks, backups, logs or administration, but neither keys nor a way to the proxy."
            .to_owned(),
        visible,
        bytes_added: if equality { 83.0 } else { 50.0 },
        write_added: measured.then(|| spread(cost, 0.2)),
        read_added: measured.then(|| spread(cost * 0.6, 0.35)),
        write_throughput: measured.then(|| spread(0.992, 0.012)),
        read_throughput: measured.then(|| spread(0.995, 0.009)),
    }
}
