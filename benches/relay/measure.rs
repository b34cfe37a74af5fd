//! Turns within rounds.

use std::io;
use std::time::Duration;

use bson::doc;
use fieldseal::bench::load::{Load, LoadError, Target, request};
use fieldseal::bench::process;
use fieldseal::bench::spread::{Spread, quantile};
use fieldseal::cli::embedded::Embedded;
use rand::seq::SliceRandom as _;
use serde::Serialize;

use crate::Failure;
use crate::relays::Relay;
use crate::requests::Requests;

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
}

/// One thing done by one way, which takes its turn in each round.
pub(crate) struct Way {
    pub(crate) name: String,
    target: Target,
    process: Option<u32>,
    requests: Requests,
    connections: usize,
}

impl Way {
    pub(crate) fn new(relay: &Relay, requests: &Requests, connections: usize) -> Self {
        Self {
            name: relay.name.clone(),
            target: relay.target.clone(),
            process: relay.process(),
            requests: Requests::clone(requests),
            connections,
        }
    }

    pub(crate) fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

/// What one turn found: per operation, in microseconds, and operations in a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Of the relay; zero where there is none.
    pub(crate) cpu: f64,
    /// How many there were.
    operations: f64,
    /// Of mongod, for all of them.
    mongod: f64,
    pub(crate) throughput: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// What is compared of two turns.
pub(crate) type Figure = fn(&Turn) -> f64;

/// A way with its turns, in the order of the rounds.
pub(crate) struct Turns {
    pub(crate) name: String,
    /// Whether there is a relay that takes CPU time.
    pub(crate) relayed: bool,
    pub(crate) turns: Vec<Turn>,
}

impl Turns {
    pub(crate) fn of(&self, figure: Figure) -> Spread {
        Spread::of(self.turns.iter().map(figure)).unwrap_or_default()
    }

    /// Of mongod, over all turns: one has too few of the hundredths of a second that it is told in.
    pub(crate) fn mongod(&self) -> f64 {
        let operations: f64 = self.turns.iter().map(|turn| turn.operations).sum();
        let spent: f64 = self.turns.iter().map(|turn| turn.mongod).sum();
        spent / operations
    }

    /// Round by round, with the same of another.
    pub(crate) fn beside(
        &self,
        other: &Self,
        figure: Figure,
        compare: impl Fn(f64, f64) -> f64,
    ) -> Found {
        let pairs = self.turns.iter().zip(&other.turns);
        Found::of(pairs.map(|(own, other)| compare(figure(own), figure(other))))
    }
}

/// What all rounds say together.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Found {
    pub(crate) spread: Spread,
    /// Where the median of endlessly many rounds lies, with 95 % confidence.
    pub(crate) between: (f64, f64),
}

impl Found {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        // The ranks between which the median lies, by the normal approximation of the binomial.
        let count = values.len() as f64;
        let half = 0.98 / count.sqrt();
        let at = |part| quantile(&values, part).unwrap_or(f64::NAN);
        Self {
            between: (at(0.5 - half), at(0.5 + half)),
            spread: Spread::of(values.iter().copied()).unwrap_or_default(),
        }
    }

    /// Of a single measurement.
    pub(crate) fn one(value: f64) -> Self {
        Self::of([value].into_iter())
    }
}

/// What is written to, and so emptied before each round.
pub(crate) const WRITTEN: [&str; 2] = ["orders_new", "customers_new"];

async fn empty(mongod: &mut Load) -> Result<(), LoadError> {
    for collection in WRITTEN {
        // An error if it is not there.
        let _ = mongod
            .ask(&request(&doc! {"drop": collection, "$db": "shop"}))
            .await;
        // So that it is not the first turn that makes it.
        mongod
            .ask(&request(&doc! {"create": collection, "$db": "shop"}))
            .await?;
    }
    Ok(())
}

/// Lets all ways take their turns.
pub(crate) async fn measure(
    mongod: &Embedded,
    ways: &[Way],
    pace: Pace,
) -> Result<Vec<Turns>, Failure> {
    let gone = || io::Error::other("mongod has ended");
    let server = mongod.process().ok_or_else(gone)?;
    let address = mongod.address().parse().map_err(io::Error::other)?;
    let mut own = Load::connect(&Target::Tcp(address), 1).await?;
    let mut loads = Vec::new();
    let mut found = Vec::new();
    for way in ways {
        loads.push(Load::connect(&way.target, way.connections).await?);
        found.push(Turns {
            name: way.name.clone(),
            relayed: way.process.is_some(),
            turns: Vec::new(),
        });
    }
    let mut order: Vec<usize> = (0..ways.len()).collect();
    for round in 0..=pace.rounds {
        empty(&mut own).await?;
        order.shuffle(&mut rand::rng());
        for &number in &order {
            let (way, load) = (&ways[number], &mut loads[number]);
            let turn = turn(way, load, server, pace.time).await?;
            // The first round only warms up.
            if round > 0 {
                found[number].turns.push(turn);
            }
        }
    }
    Ok(found)
}

async fn turn(way: &Way, load: &mut Load, server: u32, time: Duration) -> Result<Turn, Failure> {
    let relay = || way.process.map_or(Ok(Duration::ZERO), process::cpu);
    let before = (relay()?, process::cpu_with_ended(server)?);
    let done = load.run(&way.requests, time).await?;
    let after = (relay()?, process::cpu_with_ended(server)?);
    let micros = |spent: Duration| spent.as_secs_f64() * 1e6;
    let operations = done.operations() as f64;
    Ok(Turn {
        // The proxy keeps its threads, so that its time does not go back.
        cpu: micros(after.0.saturating_sub(before.0)) / operations,
        operations,
        mongod: micros(after.1.saturating_sub(before.1)),
        throughput: done.throughput(),
        p50: done.p50(),
        p99: done.p99(),
    })
}
