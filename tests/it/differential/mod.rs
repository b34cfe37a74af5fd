//! Whatever the proxy accepts is answered as MongoDB answers on plaintext.
//!
//! Random commands go through the proxy, and those that it accepts go straight to
//! MongoDB in a database of their own; answers and states are compared. By
//! environment: `FIELDSEAL_SEED` plays a run again (a difference names the seed
//! of its world, which as `FIELDSEAL_SEED` comes first). A run is a minute long;
//! `FIELDSEAL_DIFFERENTIAL_SECONDS` or `FIELDSEAL_DIFFERENTIAL_OPS`, a number of
//! commands, says otherwise.

mod catalog;
mod commands;
mod dice;
mod expressions;
mod filters;
mod joins;
mod pair;
mod pipelines;
mod secrecy;
mod stages;
mod stored;
mod table;
mod updates;
mod values;
mod world;

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mongodb::bson::doc;

use crate::support::{Proxy, ProxyOptions, shared_replica_set, unique_database};
use pair::Side;
use world::{Counts, World};

/// Commands of one world.
const WORLD: usize = 120;
/// Worlds that run at the same time, each in a collection of its own.
const LANES: usize = 3;
/// Seconds of a run, unless the environment says otherwise.
const SECONDS: u64 = 60;

/// The least share of commands, in percent, that must be accepted.
const ACCEPTED: &[(&str, usize)] = &[
    ("find by equality", 85),
    ("count by equality", 95),
    ("find", 75),
    ("count", 75),
    ("distinct", 45),
    ("aggregate", 75),
    ("stages", 85),
    ("find by expression", 90),
    ("insert", 85),
    ("update", 65),
    ("delete", 75),
    ("findAndModify", 65),
];

/// Seals fields of every kind in `database`, in collections whose name begins with `people_`.
fn schema(database: &str) -> String {
    format!(
        r#"
[collections."{database}.people_*".fields]
ssn = {{ type = "string", queries = ["equality"] }}
"payment.card" = {{ type = "string", queries = ["equality"] }}
tags = {{ type = "string", queries = ["equality"], suite = "xaes-256-gcm" }}
age = {{ type = "number", queries = ["equality"] }}
address = {{}}
"visits.note" = {{ type = "string", suite = "xaes-256-gcm" }}
"#
    )
}

/// The three ways to the data, for as many lanes as asked for.
async fn sides(lanes: usize) -> (Proxy, Vec<[Side; 3]>) {
    sides_under(&[], lanes).await
}

/// The same where `fieldseal keys` has done this with the key file.
async fn sides_under(keys: &[&[&str]], lanes: usize) -> (Proxy, Vec<[Side; 3]>) {
    let set = shared_replica_set().await;
    let direct = set.client().await;
    let (sealed, plain) = (
        unique_database("diff_sealed"),
        unique_database("diff_plain"),
    );
    let schema = schema(&sealed);
    let options = ProxyOptions {
        schema: &schema,
        log_level: "info",
        keys,
        ..ProxyOptions::default()
    };
    let proxy = Proxy::start_with(set, options).await;
    let client = proxy.client().await;
    let mut sides = Vec::new();
    for _ in 0..lanes {
        sides.push([
            Side::new(&client, &sealed).await,
            Side::new(&direct, &plain).await,
            Side::new(&direct, &sealed).await,
        ]);
    }
    for side in &mut sides[0][..2] {
        let documents: Vec<_> = [("a", 1), ("b", 2), ("c", 3)]
            .map(|(id, n)| doc! { "_id": id, "n": n })
            .into();
        side.must(doc! { "insert": "open", "documents": documents })
            .await;
    }
    (proxy, sides)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
    )
}

/// How long a run is.
#[derive(Debug, Clone, Copy)]
enum Length {
    Seconds(u64),
    Worlds(usize),
}

impl Length {
    fn of_run(seconds: u64) -> Self {
        match number("FIELDSEAL_DIFFERENTIAL_OPS") {
            Some(commands) => Self::Worlds(usize::try_from(commands).unwrap().div_ceil(WORLD)),
            None => Self::Seconds(number("FIELDSEAL_DIFFERENTIAL_SECONDS").unwrap_or(seconds)),
        }
    }

    /// Whether the world of this number is part of the run.
    fn allows(self, number: usize, began: Instant) -> bool {
        match self {
            Self::Seconds(seconds) => began.elapsed().as_secs() < seconds,
            Self::Worlds(worlds) => number < worlds,
        }
    }
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    number("FIELDSEAL_SEED").unwrap_or_else(|| u64::from(now.subsec_nanos()) * 1_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_is_answered_as_on_plaintext() {
    run(&[], Length::of_run(SECONDS)).await;
}

/// The first index epoch is retired then, the second active and the third staged.
const EPOCHS: &[&[&str]] = &[
    &["stage", "default", "--epoch"],
    &["promote", "default", "--epoch", "--yes"],
    &["stage", "default", "--epoch"],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_under_several_index_epochs_is_answered_as_on_plaintext() {
    run(EPOCHS, Length::of_run(SECONDS / 3)).await;
}

async fn run(keys: &[&[&str]], length: Length) {
    let seed = seed();
    eprintln!("FIELDSEAL_SEED={seed}, {length:?}");
    let (_proxy, lanes) = sides_under(keys, LANES).await;
    let began = Instant::now();
    let width = lanes.len();
    let mut tasks = Vec::new();
    for (lane, [sealed, plain, stored]) in lanes.into_iter().enumerate() {
        let mut world = World::new(format!("people_{lane}"), sealed, plain, stored);
        tasks.push(tokio::spawn(async move {
            for number in (lane..).step_by(width) {
                if !length.allows(number, began) {
                    break;
                }
                let seed = seed.wrapping_add(u64::try_from(number).unwrap());
                world.play(seed, WORLD).await;
            }
            world.ended()
        }));
    }
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut differences = Vec::new();
    for task in tasks {
        let (counted, found) = task.await.unwrap();
        for (family, count) in counted {
            counts.entry(family).or_default().add(count);
        }
        differences.extend(found);
    }
    for (family, count) in &counts {
        eprintln!("{family}: {count}");
    }
    assert!(
        differences.is_empty(),
        "{} differences (FIELDSEAL_SEED={seed}):\n\n{}",
        differences.len(),
        differences
            .iter()
            .take(20)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n\n"),
    );
    for (family, least) in ACCEPTED {
        let count = counts.get(family).copied().unwrap_or_default();
        if count.all() >= 50 {
            assert!(
                count.accepted_percent() >= *least,
                "{family}: {count}, of which {least} % must be accepted (FIELDSEAL_SEED={seed})"
            );
        }
    }
}
