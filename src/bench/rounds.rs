//! The measuring itself: blocks of one setting, one operation and one number of connections,
//! which take turns in rounds.

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use rand::seq::SliceRandom as _;

use super::fault::BenchError;
use super::load::{request, request_with};
use super::process;
use super::report::Operation;
use super::settings::operations;
use super::stage::{Player, Stage};
use super::subject::Subject;

/// How many documents a find by `_id` or by a value is to find.
const ONE: usize = 1;

/// How it is measured.
#[derive(Debug, Clone)]
pub struct Pace {
    /// How many rounds are measured, after one that is not.
    pub rounds: usize,
    /// How long each block goes on in each round.
    pub seconds: f64,
    /// How many documents a command has in an operation with many.
    pub batch: usize,
}

/// One setting with one operation and one number of connections.
pub struct Block {
    /// The setting, by its place.
    pub player: usize,
    /// Which of its connections.
    load: usize,
    /// How many those are.
    pub connections: usize,
    /// What is done.
    pub operation: Operation,
    /// How many documents a command has.
    pub documents: usize,
    requests: Arc<[Vec<u8>]>,
    /// What was measured, one for each round.
    pub samples: Vec<Sample>,
}

/// What one block did in one round. Times in microseconds, for each command.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Half took less.
    pub p50: f64,
    /// One in a hundred took longer.
    pub p99: f64,
    /// Commands in a second.
    pub throughput: f64,
    /// CPU time of the proxy, where there is one and the system tells.
    pub cpu: Option<f64>,
    /// CPU time of MongoDB, likewise.
    pub cpu_mongodb: Option<f64>,
}

/// How far the measuring has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Rounds, the first of which is not counted.
    pub round: usize,
    /// Of so many.
    pub rounds: usize,
    /// Blocks that were measured, in all rounds.
    pub done: usize,
    /// Of so many.
    pub total: usize,
}

/// The blocks of all players.
pub fn blocks(stage: &Stage, subject: &Subject, batch: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    let stored = subject.stored(batch).len();
    for (number, player) in stage.players.iter().enumerate() {
        for operation in operations(&player.plan, batch) {
            let documents = match operation {
                Operation::BatchRead | Operation::BatchWrite => batch,
                Operation::Read | Operation::Write | Operation::EqualityQuery => ONE,
            };
            let asked = Requests {
                subject,
                player,
                database: &stage.database,
                stored,
                documents,
            };
            let requests: Arc<[Vec<u8>]> = asked.of(operation).into();
            for (load, (connections, _)) in player.loads.iter().enumerate() {
                blocks.push(Block {
                    player: number,
                    load,
                    connections: *connections,
                    operation,
                    documents,
                    requests: Arc::clone(&requests),
                    samples: Vec::new(),
                });
            }
        }
    }
    blocks
}

/// What requests are made of.
struct Requests<'r> {
    subject: &'r Subject,
    player: &'r Player,
    database: &'r str,
    stored: usize,
    documents: usize,
}

impl Requests<'_> {
    fn of(&self, operation: Operation) -> Vec<Vec<u8>> {
        match operation {
            Operation::Read => (self.ids(1).into_iter())
                .map(|number| self.find(doc! {"_id": number}))
                .collect(),
            Operation::BatchRead => (self.ids(self.documents).into_iter())
                .map(|number| self.find(doc! {"_id": {"$gte": number}}))
                .collect(),
            Operation::EqualityQuery => (self.subject.asked.iter())
                .flat_map(|asked| asked.values.iter().map(|value| (&asked.path, value)))
                .map(|(path, value)| self.find(doc! {path: value}))
                .collect(),
            Operation::Write | Operation::BatchWrite => self.inserts(),
        }
    }

    /// Where reads begin, so that each finds as many as it is to.
    fn ids(&self, step: usize) -> Vec<i32> {
        let last = (self.stored + 1).saturating_sub(step);
        let numbers = (0..last).step_by(step.max(1));
        numbers
            .filter_map(|number| i32::try_from(number).ok())
            .collect()
    }

    fn find(&self, filter: Document) -> Vec<u8> {
        let limit = i32::try_from(self.documents).unwrap_or(i32::MAX);
        request(&find(&self.player.read, self.database, filter, limit))
    }

    fn inserts(&self) -> Vec<Vec<u8>> {
        let documents = &self.subject.documents.all;
        let commands = documents.len().div_ceil(self.documents).max(1);
        let mut next = documents.iter().cycle();
        let insert = |_| {
            let documents: Vec<Document> = next.by_ref().take(self.documents).cloned().collect();
            let command = doc! {"insert": &self.player.write, "$db": self.database};
            request_with(&command, "documents", &documents)
        };
        (0..commands).map(insert).collect()
    }
}

/// A find whose answer is one batch.
pub fn find(collection: &str, database: &str, filter: Document, limit: i32) -> Document {
    let mut find = doc! {"find": collection, "filter": filter};
    find.extend(doc! {
        "limit": limit, "batchSize": limit.saturating_add(1), "singleBatch": true, "$db": database,
    });
    find
}

/// Measures all blocks, round after round, and says after each block how far it is.
pub async fn measure(
    stage: &mut Stage,
    blocks: &mut [Block],
    pace: &Pace,
    mut told: impl FnMut(Progress),
) -> Result<(), BenchError> {
    let mut progress = Progress {
        round: 0,
        rounds: pace.rounds,
        done: 0,
        total: (pace.rounds + 1) * blocks.len(),
    };
    for round in 0..=pace.rounds {
        progress.round = round;
        for number in order(blocks) {
            let Some(block) = blocks.get_mut(number) else {
                continue;
            };
            let sample = turn(stage, block, Duration::from_secs_f64(pace.seconds)).await?;
            // In the first round caches are filled and connections opened.
            if round > 0 {
                block.samples.push(sample);
            }
            progress.done += 1;
            told(progress);
        }
        stage.clear().await?;
    }
    Ok(())
}

/// In which order the blocks take turns: those that are compared with each other come close
/// to each other, and which of them is first is left to chance.
fn order(blocks: &[Block]) -> Vec<usize> {
    let mut random = rand::rng();
    let mut groups: Vec<((Operation, usize), Vec<usize>)> = Vec::new();
    for (number, block) in blocks.iter().enumerate() {
        let kind = (block.operation, block.connections);
        match groups.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, group)) => group.push(number),
            None => groups.push((kind, vec![number])),
        }
    }
    groups.shuffle(&mut random);
    for (_, group) in &mut groups {
        group.shuffle(&mut random);
    }
    groups.into_iter().flat_map(|(_, group)| group).collect()
}

async fn turn(stage: &mut Stage, block: &Block, time: Duration) -> Result<Sample, BenchError> {
    let mongod = stage.mongod();
    let Some(player) = stage.players.get_mut(block.player) else {
        return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into());
    };
    let proxy = player.process();
    let failed = BenchError::load(&player.plan.setting.name);
    let Some((_, load)) = player.loads.get_mut(block.load) else {
        return Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into());
    };
    // What the system does not tell is left out of the report.
    let cpu = || proxy.and_then(|process| process::cpu(process).ok());
    let cpu_mongodb = || mongod.and_then(|process| process::cpu_with_ended(process).ok());
    let before = (cpu(), cpu_mongodb());
    let done = load.run(&block.requests, time).await.map_err(failed)?;
    let after = (cpu(), cpu_mongodb());
    let operations = done.operations() as f64;
    let each = |before: Option<Duration>, after: Option<Duration>| {
        let taken = after?.saturating_sub(before?);
        Some(taken.as_secs_f64() * 1e6 / operations)
    };
    Ok(Sample {
        p50: done.p50(),
        p99: done.p99(),
        throughput: done.throughput(),
        cpu: each(before.0, after.0),
        cpu_mongodb: each(before.1, after.1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(player: usize, operation: Operation, connections: usize) -> Block {
        Block {
            player,
            load: 0,
            connections,
            operation,
            documents: 1,
            requests: Arc::from(Vec::new()),
            samples: Vec::new(),
        }
    }

    #[test]
    fn what_is_compared_takes_its_turns_side_by_side_in_an_order_of_chance() {
        let mut blocks = Vec::new();
        for player in 0..6 {
            for operation in [Operation::Read, Operation::Write] {
                for connections in [1, 8] {
                    blocks.push(block(player, operation, connections));
                }
            }
        }
        let mut orders = std::collections::HashSet::new();
        for _ in 0..20 {
            let order = order(&blocks);
            for group in order.chunks(6) {
                let kind =
                    |number: &usize| (blocks[*number].operation, blocks[*number].connections);
                assert!(group.iter().all(|number| kind(number) == kind(&group[0])));
            }
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..blocks.len()).collect::<Vec<_>>());
            orders.insert(order);
        }
        assert!(orders.len() > 1);
    }
}
