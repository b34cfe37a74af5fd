//! The rows beside HAProxy, and what sealing adds.

use fieldseal::bench::load::{Load, Target};

use crate::marks::{Bound, Mark};
use crate::measure::{self, Figure, Turns, Way};
use crate::relays::{self, Fieldseal, Relay, Sockets};
use crate::requests::{self, Requests, STORED, customer, schema};
use crate::sheet::Sheet;
use crate::{Bench, Failure};

const CPU: Figure = |turn| turn.cpu;
const THROUGHPUT: Figure = |turn| turn.throughput;
const P50: Figure = |turn| turn.p50;

/// One operation, with the numbers of connections that it is done with.
struct Operation {
    name: &'static str,
    untouched: Requests,
    /// The same in the collection that is sealed.
    sealed: Option<Requests>,
    connections: &'static [usize],
    /// To the CPU time of HAProxy.
    cpu: f64,
    /// What sealing may add: microseconds, for each of so many documents.
    added: Option<(f64, f64)>,
    /// To the 50th percentile of the same with nothing sealed.
    p50: Option<f64>,
}

fn operations() -> [Operation; 5] {
    let [orders, customers] = measure::WRITTEN;
    let document = customer();
    let insert = |count| {
        let sealed = requests::insert(customers, &document, count);
        (requests::insert(orders, &document, count), Some(sealed))
    };
    let (insert_one, insert_one_sealed) = insert(1);
    let (insert_hundred, insert_hundred_sealed) = insert(100);
    [
        Operation {
            name: "find by _id",
            untouched: requests::find_one("orders"),
            sealed: Some(requests::find_one("customers")),
            connections: &[1, 8, 64],
            cpu: 0.9,
            added: Some((2.5, 1.0)),
            p50: None,
        },
        Operation {
            name: "insert one",
            untouched: insert_one,
            sealed: insert_one_sealed,
            connections: &[1, 8, 64],
            cpu: 0.9,
            added: Some((4.0, 1.0)),
            p50: Some(1.05),
        },
        Operation {
            name: "mixed 3:1",
            untouched: requests::mixed("orders", orders),
            sealed: None,
            connections: &[1, 8, 64],
            cpu: 0.9,
            added: None,
            p50: None,
        },
        Operation {
            name: "find of 100",
            untouched: requests::find_hundred("orders"),
            sealed: Some(requests::find_hundred("customers")),
            connections: &[1, 8],
            cpu: 0.7,
            added: Some((1.8, 100.0)),
            p50: None,
        },
        Operation {
            name: "insert of 100",
            untouched: insert_hundred,
            sealed: insert_hundred_sealed,
            connections: &[1, 8],
            cpu: 0.7,
            added: None,
            p50: None,
        },
    ]
}

/// All ways to mongod.
struct Relays {
    direct: Relay,
    haproxy: Option<Relay>,
    fieldseal: Vec<Relay>,
    /// The files of the first, whose keys all use.
    files: Fieldseal,
}

impl Relays {
    async fn start(bench: &Bench) -> Result<Self, Failure> {
        let upstream = bench.mongod.address();
        let address = upstream.parse().map_err(std::io::Error::other)?;
        let haproxy = if relays::has_haproxy() {
            let folder = bench.scratch.folder("haproxy")?;
            Some(relays::haproxy("haproxy", &folder, Sockets::Tcp, &upstream).await?)
        } else {
            eprintln!(
                "HAPROXY IS NOT INSTALLED: nothing is compared with it (Debian, Ubuntu: apt-get install haproxy)"
            );
            None
        };
        let mut fieldseal = Vec::new();
        let mut files: Option<Fieldseal> = None;
        for (name, program) in &bench.programs {
            let folder = bench.scratch.folder(name)?;
            let build = (name.as_str(), program.as_path());
            let proxy = Fieldseal::new(
                build,
                folder,
                &schema(),
                files.as_ref(),
                Sockets::Tcp,
                &upstream,
            )?;
            fieldseal.push(proxy.start().await?);
            files.get_or_insert(proxy);
        }
        Ok(Self {
            direct: Relay::direct("direct", Target::Tcp(address)),
            haproxy,
            fieldseal,
            files: files.ok_or_else(|| std::io::Error::other("no program"))?,
        })
    }

    async fn store(&self) -> Result<(), Failure> {
        let Some(first) = self.fieldseal.first() else {
            return Ok(());
        };
        let mut load = Load::connect(&first.target, 1).await?;
        for collection in ["orders", "customers"] {
            requests::store(&mut load, collection, 0..STORED, &customer()).await?;
        }
        Ok(())
    }
}

pub(crate) async fn measure(bench: &Bench, sheet: &mut Sheet) -> Result<(), Failure> {
    let operations = operations();
    let named = |operation: &Operation, connections| format!("{} x{connections}", operation.name);
    let relays = Relays::start(bench).await?;
    relays.store().await?;
    for operation in &operations {
        for &connections in operation.connections {
            let row = named(operation, connections);
            if bench.arguments.wants(&row) {
                measure_row(bench, &relays, operation, connections, &row, sheet).await?;
            }
        }
    }
    sidecar(bench, &relays, &operations, sheet).await
}

async fn measure_row(
    bench: &Bench,
    relays: &Relays,
    operation: &Operation,
    connections: usize,
    row: &str,
    sheet: &mut Sheet,
) -> Result<(), Failure> {
    let way = |relay| Way::new(relay, &operation.untouched, connections);
    let mut ways = vec![way(&relays.direct)];
    ways.extend(relays.haproxy.iter().map(way));
    for relay in &relays.fieldseal {
        ways.push(way(relay));
        if let Some(sealed) = &operation.sealed {
            let name = format!("{}, sealed", relay.name);
            ways.push(Way::new(relay, sealed, connections).named(name));
        }
    }
    let found = measure::measure(&bench.mongod, &ways, bench.arguments.pace()).await?;
    sheet.add(row, &found);
    beside_first(bench, &found);
    let turns = |name: &str| found.iter().find(|turns| turns.name == name);
    for relay in &relays.fieldseal {
        let Some(untouched) = turns(&relay.name) else {
            continue;
        };
        let row = match bench.programs.len() {
            1 => row.to_owned(),
            _ => format!("{}, {row}", relay.name),
        };
        if let Some(haproxy) = turns("haproxy") {
            beside_haproxy(sheet, &row, operation, untouched, haproxy);
        }
        if let Some(sealed) = turns(&format!("{}, sealed", relay.name)) {
            beside_untouched(sheet, &row, operation, sealed, untouched);
        }
    }
    Ok(())
}

/// The CPU time of further builds to that of the first.
fn beside_first(bench: &Bench, found: &[Turns]) {
    let turns = |name: &str| found.iter().find(|turns| turns.name == name);
    let Some(((first, _), others)) = bench.programs.split_first() else {
        return;
    };
    for (name, _) in others {
        for what in ["", ", sealed"] {
            let own = format!("{name}{what}");
            let (Some(own), Some(first)) = (turns(&own), turns(&format!("{first}{what}"))) else {
                continue;
            };
            let ratio = own.beside(first, CPU, |own, first| own / first);
            let (median, (low, high)) = (ratio.spread.median, ratio.between);
            println!(
                "  CPU of {} to that of {}: {median:.2} ({low:.2} to {high:.2})",
                own.name, first.name
            );
        }
    }
}

fn beside_haproxy(
    sheet: &mut Sheet,
    row: &str,
    operation: &Operation,
    untouched: &Turns,
    haproxy: &Turns,
) {
    let marks = [
        ("CPU to HAProxy's", CPU, Bound::AtMost(operation.cpu)),
        ("throughput to HAProxy's", THROUGHPUT, Bound::AtLeast(1.0)),
        ("p50 to HAProxy's", P50, Bound::AtMost(1.0)),
    ];
    for (what, figure, bound) in marks {
        sheet.marks.push(Mark {
            row: row.to_owned(),
            what,
            unit: "",
            bound,
            found: untouched.beside(haproxy, figure, |own, other| own / other),
        });
    }
}

fn beside_untouched(
    sheet: &mut Sheet,
    row: &str,
    operation: &Operation,
    sealed: &Turns,
    untouched: &Turns,
) {
    if let Some((bound, documents)) = operation.added {
        let found = sealed.beside(untouched, CPU, |own, other| (own - other) / documents);
        sheet.marks.push(Mark {
            row: row.to_owned(),
            what: "CPU that 5 sealed fields add to a document",
            unit: "µs",
            bound: Bound::AtMost(bound),
            found,
        });
    }
    if let Some(bound) = operation.p50 {
        sheet.marks.push(Mark {
            row: row.to_owned(),
            what: "p50 with 5 sealed fields to that without",
            unit: "",
            bound: Bound::AtMost(bound),
            found: sealed.beside(untouched, P50, |own, other| own / other),
        });
    }
}

/// Unix sockets on both sides, as a proxy beside mongod on its machine can have them.
async fn sidecar(
    bench: &Bench,
    relays: &Relays,
    operations: &[Operation],
    sheet: &mut Sheet,
) -> Result<(), Failure> {
    let wanted: Vec<(&Operation, usize, String)> = (operations.iter().take(2))
        .flat_map(|operation| [1, 8].map(|count| (operation, count)))
        .map(|(operation, count)| {
            (
                operation,
                count,
                format!("sidecar, {} x{count}", operation.name),
            )
        })
        .filter(|(_, _, row)| bench.arguments.wants(row))
        .collect();
    let (false, Some((name, program))) = (wanted.is_empty(), bench.programs.first()) else {
        return Ok(());
    };
    let none = || std::io::Error::other("mongod has no Unix socket");
    let socket = bench.mongod.socket().ok_or_else(none)?;
    let upstream = format!("unix:{}", socket.display());
    let folder = bench.scratch.folder("sidecar")?;
    let build = (name.as_str(), program.as_path());
    let keys = Some(&relays.files);
    let proxy = Fieldseal::new(build, folder, &schema(), keys, Sockets::Unix, &upstream)?;
    let mut sockets = vec![
        Relay::direct("direct, Unix socket", Target::Unix(socket)),
        proxy.start().await?.named(format!("{name}, Unix sockets")),
    ];
    if relays.haproxy.is_some() {
        let folder = bench.scratch.folder("sidecar haproxy")?;
        let name = "haproxy, Unix sockets";
        sockets.push(relays::haproxy(name, &folder, Sockets::Unix, &upstream).await?);
    }
    for (operation, connections, row) in wanted {
        let tcp = [&relays.direct]
            .into_iter()
            .chain(&relays.haproxy)
            .chain(relays.fieldseal.first());
        let ways = tcp
            .chain(&sockets)
            .map(|relay| Way::new(relay, &operation.untouched, connections));
        let ways: Vec<Way> = ways.collect();
        let found = measure::measure(&bench.mongod, &ways, bench.arguments.pace()).await?;
        sheet.add(&row, &found);
    }
    Ok(())
}
