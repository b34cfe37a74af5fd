//! `fieldseal bench`: what the proxy, each sealed field and each choice costs, on this machine.

mod subject;
mod written;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::serve::Stop;
use super::ticker::Ticker;
use super::{ConfigFile, Failure, Report};
use crate::bench::report::{About, Documents, FORMAT, Report as Bench, Setting};
use crate::bench::rounds::{Block, Pace, Progress, blocks, measure};
use crate::bench::settings::{Part, Plan, Wish, operations, plans};
use crate::bench::stage::{Stage, sockets_fit};
use crate::bench::subject::Subject;
use crate::bench::{proof, reckon, upstream};
use crate::code::Code;
use crate::config::Config;
use crate::schema::{OnPlaintext, Schema};
use bson::doc;

/// How long a bench takes by itself, about.
const USUAL: f64 = 90.0;
/// Of fewer rounds there is no spread to speak of.
const FEW: u16 = 5;
/// How long one setting has in each round.
const SECONDS: f64 = 0.1;
/// What is said then. What could not be removed is told besides.
const INTERRUPTED: &str = "interrupted; nothing was measured";
/// What is enough to see that all goes well.
const QUICK: (usize, f64, &[usize]) = (2, 0.02, &[4, 1]);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The MongoDB to measure with, a primary or mongos without login and TLS: host:port or a
    /// connection string. Without it, a mongod is started for it (FIELDSEAL_MONGOD names the program).
    #[arg(long, value_name = "HOST:PORT|URI")]
    upstream: Option<String>,
    /// The documents to write and read: MongoDB Extended JSON, one array or one document after
    /// the other. Without documents, some are made up after the schema.
    #[arg(long, value_name = "FILE", conflicts_with = "sample")]
    docs: Option<PathBuf>,
    /// Take the documents from this collection instead: 200, picked at random. They have to be in plain.
    #[arg(long, value_name = "NAMESPACE")]
    sample: Option<String>,
    /// Where the sample is taken from: MongoDB, or the proxy if the collection is sealed. By
    /// default the environment variable FIELDSEAL_URI (better for passwords), or --upstream.
    #[arg(long, value_name = "URI", requires = "sample")]
    uri: Option<String>,
    /// The collection of the schema whose fields are measured; by default, the first.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Write a page with plots, which needs nothing else to be read.
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// Write a picture of the costs, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    picture: Option<PathBuf>,
    /// Write all figures as JSON.
    #[arg(long, value_name = "FILE.json")]
    json: Option<PathBuf>,
    /// How often all settings take turns; by default as often as a minute and a half allows.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// How long each setting has in each round.
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<f64>,
    /// How many connections there are, each with one command under way: the first number is for
    /// every setting, the others for the way without the proxy, with nothing and with all sealed.
    #[arg(long, value_name = "N,N…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: Vec<u16>,
    /// How many documents the commands with many of them have.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// How many fields are measured alone; each has a proxy of its own.
    #[arg(long, value_name = "N", default_value_t = 12)]
    fields: u8,
    /// Only these parts, and what they are compared with.
    #[arg(long, value_name = "PART,PART…", value_delimiter = ',')]
    only: Vec<Part>,
    /// A first look within seconds, whose figures mean little.
    #[arg(long)]
    quick: bool,
    /// Show what an earlier bench wrote with --json, and measure nothing.
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["upstream", "docs", "sample", "namespace", "json", "rounds", "seconds", "connections", "only", "quick"])]
    from: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number from 0.001 to 600".to_owned()),
    }
}

/// What was measured, and why not all of it could be written.
pub(super) fn run(arguments: &Arguments) -> Result<(Report, Option<Failure>), Failure> {
    let outs = [&arguments.out, &arguments.picture, &arguments.json].map(Option::as_deref);
    for file in outs.into_iter().flatten() {
        written::check(file)?;
    }
    let bench = match &arguments.from {
        Some(file) => written::read(file)?,
        None => {
            // One thread for the client: the proxies are what is measured.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| {
                    Failure::coded(Code::Start, format_args!("cannot start: {error}"))
                })?;
            runtime.block_on(measured(arguments))?
        }
    };
    Ok(written::tell(&bench, outs))
}

/// What interrupts a bench.
struct Interrupt {
    stop: Stop,
    hangup: tokio::signal::unix::Signal,
}

impl Interrupt {
    fn new() -> Result<Self, Failure> {
        let kind = tokio::signal::unix::SignalKind::hangup();
        let hangup = tokio::signal::unix::signal(kind).map_err(|error| {
            Failure::coded(
                Code::Start,
                format_args!("cannot listen for signals: {error}"),
            )
        })?;
        let stop = Stop::new()?;
        Ok(Self { stop, hangup })
    }

    /// What `job` comes to, unless it is interrupted; then it is dropped where it is.
    async fn or<T>(&mut self, job: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            // First of all: what a signal ends besides, such as a mongod, is no failure.
            biased;
            () = self.stop.asked() => Err(Failure::coded(Code::Stopped, INTERRUPTED)),
            _ = self.hangup.recv() => Err(Failure::coded(Code::Stopped, INTERRUPTED)),
            done = job => done,
        }
    }
}

async fn measured(arguments: &Arguments) -> Result<Bench, Failure> {
    let mut interrupt = Interrupt::new()?;
    let config = Config::load(&arguments.file.path)?;
    let schema = Schema::load(&config.schema)?;
    let mut ticker = Ticker::new();
    let ready = interrupt.or(ready(arguments, &config, schema)).await?;
    ticker.say(&ready.announcement());
    let set = async {
        let (plans, upstream) = (ready.plans.clone(), ready.upstream);
        Ok(Stage::set(plans, upstream, &ready.connections).await?)
    };
    let mut stage = interrupt.or(set).await?;
    let begun = bson::DateTime::now();
    let measured = interrupt.or(ready.measure(&mut stage, &mut ticker)).await;
    ticker.clear();
    // However it ended, nothing is left behind.
    let struck = stage.strike().await.map_err(Failure::from);
    let (blocks, mongodb) = match (measured, struck) {
        (Ok(measured), Ok(())) => measured,
        (Err(failure), Ok(())) | (Ok(_), Err(failure)) => return Err(failure),
        (Err(failure), Err(other)) => return Err(failure.and(other)),
    };
    Ok(ready.report(&blocks, mongodb, begun))
}

/// All that is known before anything is started.
struct Ready {
    subject: Subject,
    plans: Vec<Plan>,
    pace: Pace,
    connections: Vec<usize>,
    upstream: Option<std::net::SocketAddr>,
    notes: Vec<String>,
}

async fn ready(arguments: &Arguments, config: &Config, schema: Schema) -> Result<Ready, Failure> {
    let upstream = match &arguments.upstream {
        Some(text) => Some(upstream::upstream(text).await?),
        None => None,
    };
    let mut notes = subject::notes(config, &schema);
    let subject = subject::choose(arguments, schema).await?;
    let wish = Wish {
        only: arguments.only.clone(),
        fields: arguments.fields.into(),
        own_mongodb: upstream.is_none(),
        sockets: sockets_fit(),
        asked: subject.asked.as_ref().map(|asked| asked.field),
    };
    let plans = plans(&subject.rule, &wish);
    let batch = subject.batch(arguments.batch.into());
    let connections = connections(arguments);
    let blocks = count(&plans, batch, connections.len());
    let pace = pace(arguments, batch, blocks);
    notes.extend(left_out(arguments, &subject, &wish, batch));
    Ok(Ready {
        subject,
        plans,
        pace,
        connections,
        upstream,
        notes,
    })
}

/// The numbers of connections, each once.
fn connections(arguments: &Arguments) -> Vec<usize> {
    let asked: Vec<usize> = match (arguments.connections.as_slice(), arguments.quick) {
        ([], true) => QUICK.2.to_vec(),
        ([], false) => vec![8, 1, 64],
        (asked, _) => asked.iter().map(|number| usize::from(*number)).collect(),
    };
    let mut once = Vec::new();
    for number in asked {
        if !once.contains(&number) {
            once.push(number);
        }
    }
    once
}

/// How many blocks there will be.
fn count(plans: &[Plan], batch: usize, connections: usize) -> usize {
    let of =
        |plan: &Plan| operations(plan, batch).len() * if plan.scales { connections } else { 1 };
    plans.iter().map(of).sum()
}

fn pace(arguments: &Arguments, batch: usize, blocks: usize) -> Pace {
    let quick = arguments.quick.then_some(QUICK);
    let seconds = arguments
        .seconds
        .or(quick.map(|quick| quick.1))
        .unwrap_or(SECONDS);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 3 to 30"
    )]
    let usual = (USUAL / (blocks as f64 * seconds)).clamp(3.0, 30.0) as usize;
    let asked = arguments
        .rounds
        .map(usize::from)
        .or(quick.map(|quick| quick.0));
    Pace {
        rounds: asked.unwrap_or(usual),
        seconds,
        batch,
    }
}

/// What a reader could miss.
fn left_out(arguments: &Arguments, subject: &Subject, wish: &Wish, batch: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let (fields, alone) = (subject.rule.fields.len(), wish.fields);
    if fields > alone && (wish.only.is_empty() || wish.only.contains(&Part::Fields)) {
        notes.push(format!("Of {fields} sealed fields the first {alone} were measured alone; --fields {fields} measures all."));
    }
    if subject.documents.cut {
        let used = subject.documents.all.len();
        notes.push(format!(
            "There were more documents; the first {used} were used."
        ));
    }
    if batch < usize::from(arguments.batch) {
        notes.push(format!(
            "The documents are large: commands with many of them had {batch}."
        ));
    }
    if subject.asked.is_none() {
        notes.push("Equality queries were not measured: no document has a value in a field with `queries = [\"equality\"]`.".to_owned());
    }
    if subject.rule.on_plaintext != OnPlaintext::Reject {
        let word = subject.rule.on_plaintext.word();
        notes.push(format!("The schema says `on_plaintext = \"{word}\"`; it was measured as it will be after that, with every value sealed."));
    }
    if !wish.own_mongodb {
        notes.push("MongoDB was the user's: its CPU time, and TLS and Unix sockets between it and the proxy were not measured.".to_owned());
    }
    if !wish.sockets {
        notes.push("Unix sockets were not measured: the path of the folder for temporary files (TMPDIR) is too long for their addresses.".to_owned());
    }
    if !cfg!(target_os = "linux") {
        notes.push("CPU time was not measured: only Linux tells it for each thread.".to_owned());
    }
    if cfg!(debug_assertions) {
        notes.push(
            "This is a build for development, which is many times slower than a release."
                .to_owned(),
        );
    }
    if arguments.quick {
        notes.push("This was a first look (--quick): too short for figures to rely on.".to_owned());
    } else if arguments.rounds.is_some_and(|rounds| rounds < FEW) {
        notes.push(format!(
            "With fewer than {FEW} rounds the ends of a spread are those of single rounds: a difference can be chance."
        ));
    }
    notes
}

impl Ready {
    fn announcement(&self) -> String {
        let blocks = count(&self.plans, self.pace.batch, self.connections.len());
        // One round more, which is not counted; and between blocks there is something to do.
        let rounds = self.pace.rounds as f64 + 1.0;
        let time =
            rounds * (blocks as f64 * (self.pace.seconds + 0.005) + 0.02 * self.plans.len() as f64);
        let proxies = self
            .plans
            .iter()
            .filter(|plan| plan.proxy.is_some())
            .count();
        format!(
            "fieldseal: {} settings, {} of {:.1} s: about {}. Starting {}{} …",
            self.plans.len(),
            many(self.pace.rounds, "round", "rounds"),
            blocks as f64 * self.pace.seconds,
            span(time),
            if self.upstream.is_none() {
                "a mongod and "
            } else {
                ""
            },
            many(proxies, "proxy", "proxies"),
        )
    }

    /// The blocks with what was measured, and MongoDB's version.
    async fn measure(
        &self,
        stage: &mut Stage,
        ticker: &mut Ticker,
    ) -> Result<(Vec<Block>, String), Failure> {
        let build = stage
            .ask_mongodb(&doc! {"buildInfo": 1, "$db": "admin"})
            .await?;
        let version = build.get_str("version").unwrap_or("unknown").to_owned();
        proof::fill(stage, &self.subject, self.pace.batch).await?;
        let mut blocks = blocks(stage, &self.subject, self.pace.batch);
        let begun = std::time::Instant::now();
        let told = |progress: Progress| ticker.tick(|_| line(progress, begun.elapsed()));
        measure(stage, &mut blocks, &self.pace, told).await?;
        Ok((blocks, version))
    }

    fn report(self, blocks: &[Block], mongodb: String, begun: bson::DateTime) -> Bench {
        let settings: Vec<Setting> = self.plans.into_iter().map(|plan| plan.setting).collect();
        let measurements = reckon::measurements(&settings, blocks);
        let fields = reckon::fields(&self.subject, &settings, &measurements);
        let documents = &self.subject.documents;
        let when = bson::DateTime::from_millis(begun.timestamp_millis() / 1000 * 1000);
        Bench {
            format: FORMAT,
            about: About {
                when: when.try_to_rfc3339_string().unwrap_or_default(),
                fieldseal: env!("CARGO_PKG_VERSION").to_owned(),
                mongodb,
                embedded: self.upstream.is_none(),
                processor: crate::bench::process::processor(),
                cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
                rounds: self.pace.rounds,
                seconds: self.pace.seconds,
                documents: Documents {
                    namespace: self.subject.rule.pattern.clone(),
                    source: self.subject.source,
                    count: documents.all.len(),
                    bytes: documents.bytes,
                },
            },
            settings,
            measurements,
            fields,
            notes: self.notes,
        }
    }
}

fn line(progress: Progress, elapsed: Duration) -> String {
    let Progress {
        round,
        rounds,
        done,
        total,
    } = progress;
    let left = elapsed.as_secs_f64() * (total - done.min(total)) as f64 / done.max(1) as f64;
    let round = match round {
        0 => "warming up".to_owned(),
        round => format!("round {round} of {rounds}"),
    };
    format!(
        "{round}, {}%, {} left",
        100 * done / total.max(1),
        span(left)
    )
}

fn many(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn span(seconds: f64) -> String {
    match seconds {
        ..100.0 => format!("{seconds:.0} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let progress = |round, done| Progress {
            round,
            rounds: 9,
            done,
            total: 200,
        };
        let second = Duration::from_secs(1);
        assert_eq!(line(progress(0, 1), second), "warming up, 0%, 3 min left");
        assert_eq!(
            line(progress(5, 100), 20 * second),
            "round 5 of 9, 50%, 20 s left"
        );
        assert_eq!(
            line(progress(9, 200), 20 * second),
            "round 9 of 9, 100%, 0 s left"
        );
    }
}
