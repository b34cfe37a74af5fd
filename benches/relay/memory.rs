//! What connections and great messages leave behind in the proxy's memory.

use std::time::Duration;

use bson::{Document, doc};
use fieldseal::bench::load::{Load, Target, request};
use fieldseal::bench::process;

use crate::marks::{Bound, Mark};
use crate::measure::Found;
use crate::relays::{Fieldseal, Relay, Sockets};
use crate::requests::{self, Requests, schema};
use crate::sheet::Sheet;
use crate::{Bench, Failure};

/// How many connections ask at once.
const GROUP: usize = 50;

/// How long the proxy has to give back what it does not need.
const REST: Duration = Duration::from_secs(1);

const KIB: f64 = 1024.0;

const NAME: &str = "memory";

pub(crate) async fn measure(bench: &Bench, sheet: &mut Sheet) -> Result<(), Failure> {
    let idle = idle(bench.arguments.idle)?;
    let upstream = bench.mongod.address();
    let address = upstream.parse().map_err(std::io::Error::other)?;
    let mut direct = Load::connect(&Target::Tcp(address), 1).await?;
    let large = doc! {"notes": "n".repeat(1024 * 1024)};
    requests::store(&mut direct, "large", 0..1, &large).await?;
    for (name, program) in &bench.programs {
        let folder = bench.scratch.folder(&format!("{name} {NAME}"))?;
        let build = (name.as_str(), program.as_path());
        let proxy = Fieldseal::new(build, folder, &schema(), None, Sockets::Tcp, &upstream)?;
        let proxy = proxy.start().await?;
        println!("\n{NAME}, {name}: RssAnon, {idle} connections");
        let mut found = |what, unit, bound: f64, value: f64| {
            println!("  {what:<66} {value:>9.1} {unit}");
            if bound.is_finite() {
                let row = match bench.programs.len() {
                    1 => NAME.to_owned(),
                    _ => format!("{name}, {NAME}"),
                };
                let found = Found::one(value);
                let bound = Bound::AtMost(bound);
                sheet.marks.push(Mark {
                    row,
                    what,
                    unit,
                    bound,
                    found,
                });
            }
        };
        let counted = connections(&proxy, idle).await?;
        found(
            "without a connection",
            "MiB",
            f64::INFINITY,
            counted.without / KIB,
        );
        found(
            "each idle connection, after hello, ping and a find",
            "KiB",
            40.0,
            counted.asked,
        );
        found(
            "each idle connection, after an answer of 1 MiB",
            "KiB",
            40.0,
            counted.large,
        );
        found(
            "left of each when all are closed",
            "KiB",
            f64::INFINITY,
            counted.closed,
        );
        for (collection, what) in [
            ("orders_large", "kept after an insert of 47 MB, untouched"),
            ("customers_new", "kept after an insert of 47 MB, sealed"),
        ] {
            let kept = great(&proxy, collection).await?;
            direct
                .ask(&request(&doc! {"drop": collection, "$db": "shop"}))
                .await?;
            found(what, "MiB", 1.0, kept / KIB);
        }
    }
    Ok(())
}

/// In KiB, and but for the first for each connection.
struct Counted {
    without: f64,
    asked: f64,
    large: f64,
    closed: f64,
}

async fn rss(proxy: &Relay) -> Result<f64, Failure> {
    tokio::time::sleep(REST).await;
    let own = proxy
        .process()
        .ok_or_else(|| std::io::Error::other("no process"))?;
    Ok(process::memory(own)? as f64 / KIB)
}

async fn connections(proxy: &Relay, idle: usize) -> Result<Counted, Failure> {
    let once = |command: Document| -> Requests { [request(&command)].into() };
    let find =
        |collection: &str| once(doc! {"find": collection, "filter": {"_id": 0}, "$db": "shop"});
    let greetings = [
        once(doc! {"hello": 1, "$db": "admin"}),
        once(doc! {"ping": 1, "$db": "admin"}),
        find("orders"),
    ];
    let without = rss(proxy).await?;
    let mut loads = Vec::new();
    for _ in 0..idle.div_ceil(GROUP) {
        let mut load = Load::connect(&proxy.target, GROUP).await?;
        for requests in &greetings {
            load.run(requests, Duration::ZERO).await?;
        }
        loads.push(load);
    }
    let count = (loads.len() * GROUP) as f64;
    let asked = (rss(proxy).await? - without) / count;
    for load in &mut loads {
        load.run(&find("large"), Duration::ZERO).await?;
    }
    let large = (rss(proxy).await? - without) / count;
    drop(loads);
    let closed = (rss(proxy).await? - without) / count;
    Ok(Counted {
        without,
        asked,
        large,
        closed,
    })
}

/// What is kept of a message that is nearly as long as one may be, in KiB; its connection is still open.
async fn great(proxy: &Relay, collection: &str) -> Result<f64, Failure> {
    let mut document = requests::customer();
    document.insert("more", "n".repeat(998_000));
    let insert = requests::insert(collection, &document, 47);
    let mut load = Load::connect(&proxy.target, 1).await?;
    load.run(
        &requests::insert(collection, &requests::customer(), 1),
        Duration::ZERO,
    )
    .await?;
    let before = rss(proxy).await?;
    load.run(&insert, Duration::ZERO).await?;
    let after = rss(proxy).await?;
    Ok(after - before)
}

/// As many connections as asked for, if this process and mongod, which has its limits, may open as many files.
fn idle(wanted: usize) -> Result<usize, Failure> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let limit = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let possible = limit.unwrap_or(usize::MAX).saturating_sub(300);
    if possible < wanted {
        eprintln!(
            "ONLY {possible} IDLE CONNECTIONS, not {wanted}: raise the limit of open files (ulimit -n)"
        );
    }
    Ok(wanted.min(possible))
}
