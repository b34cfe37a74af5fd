//! Who may not read the sealed fields learns nothing of them, and who may not write them
//! changes nothing of them, whatever commands they send.
//!
//! Two databases hold the same documents, but for the values of the sealed fields. The same
//! random command of someone who may not read them is answered alike in both, or the answer
//! would tell something.

use std::time::Instant;

use mongodb::bson::{Bson, Document, doc};

use super::commands::{self, Operation};
use super::dice::Dice;
use super::pair::{Answer, Side, bytes, compare, same_state};
use super::world::Counts;
use super::{Length, schema, seed, values};
use crate::support::{Proxy, ProxyOptions, shared_replica_set, unique_database};

/// Commands of one world.
const WORLD: usize = 60;
/// Seconds of a run, unless the environment says otherwise.
const SECONDS: u64 = 20;

const COLLECTION: &str = "people_secret";

/// All roles have someone, and those of `everybody` have all.
fn access(everybody: &[&str]) -> String {
    let someone =
        "[[access.principals]]\nuser = \"nobody@nowhere\"\nroles = [\"reader\", \"writer\"]\n";
    match everybody {
        [] => someone.to_owned(),
        roles => format!("{someone}[[access.principals]]\nroles = {roles:?}\n"),
    }
}

/// The fields of the other tests, for readers and writers.
fn restricted(database: &str) -> String {
    let roles = "read = [\"reader\"], write = [\"writer\"]";
    let with = |line: &str| match line.strip_suffix('}') {
        Some(options) if options.ends_with('{') => format!("{options} {roles} }}"),
        Some(options) => format!("{}, {roles} }}", options.trim_end()),
        None => line.to_owned(),
    };
    let lines: Vec<String> = schema(database).lines().map(with).collect();
    lines.join("\n")
}

/// Someone's way to both databases, and that of one who may do everything.
struct Twins {
    someone: [Side; 2],
    owner: [Side; 2],
    counts: Counts,
    found: Vec<String>,
}

impl Twins {
    async fn new(everybody: &[&str]) -> (Vec<Proxy>, Self) {
        let set = shared_replica_set().await;
        let names = [unique_database("secret"), unique_database("secret")];
        let schema = names.each_ref().map(|name| restricted(name)).join("\n");
        let start = async |everybody: &[&str], key_file: Option<&std::path::Path>| {
            let options = ProxyOptions {
                schema: &schema,
                configuration: &access(everybody),
                log_level: "info",
                key_file,
                ..ProxyOptions::default()
            };
            Proxy::start_with(set, options).await
        };
        let owner = start(&["reader", "writer"], None).await;
        let someone = start(everybody, Some(&owner.key_file())).await;
        let mut sides = Vec::new();
        for proxy in [&someone, &owner] {
            let client = proxy.client().await;
            for name in &names {
                sides.push(Side::new(&client, name).await);
            }
        }
        let [one, other, first, second] = sides.try_into().ok().unwrap();
        let twins = Self {
            someone: [one, other],
            owner: [first, second],
            counts: Counts::default(),
            found: Vec::new(),
        };
        (vec![owner, someone], twins)
    }

    /// Both databases get the same documents, but for what is sealed in them.
    async fn fill(&mut self, dice: &mut Dice) {
        let drop = doc! { "drop": COLLECTION };
        let open = doc! { "drop": "open" };
        let mut documents = [Vec::new(), Vec::new()];
        for id in 0..i32::try_from(values::IDS / 2).unwrap() {
            let mut one = values::fields(dice);
            one.insert("_id", id);
            let mut other = one.clone();
            each_sealed(&mut other, &mut |value| replace(dice, value));
            documents[0].push(one);
            documents[1].push(other);
        }
        for (side, documents) in self.owner.iter_mut().zip(documents) {
            side.run(&drop).await;
            side.run(&open).await;
            side.must(doc! { "insert": "open", "documents": [{ "_id": "a", "n": 1 }, { "_id": "b", "n": 2 }] })
                .await;
            // Those with a value of a wrong type are refused, in both.
            side.run(&doc! { "insert": COLLECTION, "documents": documents, "ordered": false })
                .await;
        }
    }

    /// Sends a command to both, and notes what is not alike.
    async fn step(&mut self, operation: &Operation, keeps: bool, context: &str) {
        let before = self.sealed_parts().await;
        let [one, other] = &mut self.someone;
        let answers = [
            one.run(&operation.command).await,
            other.run(&operation.command).await,
        ];
        self.count(&answers[0]);
        let told = match &answers {
            [Answer::Refused { code: 96, message }, _]
            | [_, Answer::Refused { code: 96, message }] => Some(message.clone()),
            [
                Answer::Refused { code: one, .. },
                Answer::Refused { code: other, .. },
            ] => (one != other).then(|| format!("  refused by {one} and {other}")),
            [one, other] => compare(operation, one, other),
        };
        let after = self.sealed_parts().await;
        let state = self.same_states().await.err();
        let changed = changed(&before, &after).filter(|_| keeps);
        for difference in [told, state, changed].into_iter().flatten() {
            self.found
                .push(format!("{context}: {:?}\n{difference}", operation.command));
        }
    }

    fn count(&mut self, answer: &Answer) {
        match answer {
            Answer::Refused { .. } => self.counts.refused(),
            Answer::Failed(_) => self.counts.failed(),
            Answer::Reply(_) => self.counts.answered(),
        }
    }

    /// Sends a command to the first database, and notes if anything sealed has changed.
    async fn unchanged(&mut self, operation: &Operation, context: &str) {
        let before = self.sealed_parts().await;
        let answer = self.someone[0].run(&operation.command).await;
        self.count(&answer);
        let after = self.sealed_parts().await;
        if let Some(difference) = changed(&before, &after) {
            self.found
                .push(format!("{context}: {:?}\n{difference}", operation.command));
        }
    }

    /// What someone sees of both databases, which is the same.
    async fn same_states(&mut self) -> Result<(), String> {
        let generated = doc! { "_id": { "$type": "objectId" } };
        let delete = doc! { "delete": COLLECTION, "deletes": [{ "q": generated, "limit": 0 }] };
        let mut seen = Vec::new();
        for side in &mut self.owner {
            side.must(delete.clone()).await;
        }
        for side in &mut self.someone {
            seen.push(side.documents(COLLECTION, doc! {}).await?);
        }
        same_state(&seen[0], &seen[1])
    }

    /// What is sealed in each document of both databases, in its order.
    async fn sealed_parts(&mut self) -> Vec<Parts> {
        let mut all = Vec::new();
        for side in &mut self.owner {
            let documents = side.documents(COLLECTION, doc! {}).await.unwrap();
            let parts = documents.into_iter().map(|mut document| {
                let mut parts = Vec::new();
                each_sealed(&mut document, &mut |value| parts.push(value.clone()));
                (document.get("_id").cloned().unwrap(), whole(parts))
            });
            all.push(parts.collect());
        }
        all
    }
}

/// What is sealed in each document, by its `_id`.
type Parts = Vec<(Bson, Vec<u8>)>;

/// Their bytes: NaN is not equal to itself.
fn whole(parts: Vec<Bson>) -> Vec<u8> {
    bytes(&doc! { "": parts })
}

/// Tells of a document of which something sealed has changed, or is new.
fn changed(before: &[Parts], after: &[Parts]) -> Option<String> {
    before.iter().zip(after).find_map(|(before, after)| {
        let other = after.iter().find(|(id, parts)| {
            let was = before.iter().find(|(before, _)| before == id);
            was.map_or(*parts != whole(Vec::new()), |(_, was)| was != parts)
        });
        other.map(|(id, _)| format!("  what is sealed in {id} was changed"))
    })
}

/// Visits what stands at every sealed path, an array as a whole.
fn each_sealed(document: &mut Document, visit: &mut impl FnMut(&mut Bson)) {
    for name in ["ssn", "tags", "age", "address"] {
        if let Some(value) = document.get_mut(name) {
            visit(value);
        }
    }
    for (parent, name) in [("payment", "card"), ("visits", "note")] {
        if let Some(value) = document.get_mut(parent) {
            below(value, name, visit);
        }
    }
}

fn below(value: &mut Bson, name: &str, visit: &mut impl FnMut(&mut Bson)) {
    match value {
        Bson::Document(document) => {
            if let Some(value) = document.get_mut(name) {
                visit(value);
            }
        }
        Bson::Array(items) => {
            for item in items {
                below(item, name, visit);
            }
        }
        _ => {}
    }
}

/// Puts another value in the place of one, of a type that its field takes as well. How many
/// elements an array has is no secret, nor what is null.
fn replace(dice: &mut Dice, value: &mut Bson) {
    match value {
        Bson::String(_) => *value = values::sealed_string(dice),
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => {
            *value = values::number(dice);
        }
        Bson::Array(items) => items.iter_mut().for_each(|item| replace(dice, item)),
        Bson::Document(document) if document.contains_key("city") => {
            *value = doc! { "city": values::sealed_string(dice), "more": 1 }.into();
        }
        _ => {}
    }
}

/// What must hold of someone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// They learn nothing.
    LearnsNothing,
    /// They change nothing.
    ChangesNothing,
    Both,
}

async fn run(everybody: &[&str], holds: Holds, length: Length) {
    let seed = seed();
    eprintln!("FIELDSEAL_SEED={seed}, {length:?}");
    let (_proxies, mut twins) = Twins::new(everybody).await;
    let began = Instant::now();
    for number in 0.. {
        if !length.allows(number, began) {
            break;
        }
        let seed = seed.wrapping_add(u64::try_from(number).unwrap());
        let mut dice = Dice::new(seed);
        twins.fill(&mut dice).await;
        for command in 0..WORLD {
            let operation = commands::operation(&mut dice, COLLECTION, false);
            let context = format!("FIELDSEAL_SEED={seed} command {command}");
            match holds {
                Holds::ChangesNothing if !operation.writes => {}
                Holds::ChangesNothing => twins.unchanged(&operation, &context).await,
                _ => {
                    let keeps = holds == Holds::Both;
                    twins.step(&operation, keeps, &context).await;
                }
            }
        }
    }
    eprintln!("{}", twins.counts);
    let found = &twins.found;
    let first: Vec<_> = found.iter().take(10).cloned().collect();
    assert!(
        found.is_empty(),
        "{} differences:\n\n{}",
        found.len(),
        first.join("\n\n")
    );
    assert!(
        twins.counts.all() < 200 || twins.counts.accepted_percent() >= 15,
        "{} prove little",
        twins.counts
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_neither_read_nor_write_learns_nothing_and_changes_nothing() {
    run(&[], Holds::Both, Length::of_run(SECONDS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_write_and_not_read_learns_nothing() {
    run(&["writer"], Holds::LearnsNothing, Length::of_run(SECONDS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_read_and_not_write_changes_nothing() {
    let length = Length::of_run(SECONDS / 2);
    run(&["reader"], Holds::ChangesNothing, length).await;
}
