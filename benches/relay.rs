//! The proxy beside HAProxy in TCP mode, which only relays: CPU time, throughput, latency.
//!
//! All relays stand before one mongod. Each round loads every one of them, in an order of its own.
#![allow(missing_docs, clippy::unwrap_used, reason = "benches")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use fieldseal::bench::load::{Load, Target, request};
use fieldseal::bench::process;
use fieldseal::bench::spread::Spread;
use fieldseal::cli::embedded::Embedded;

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

struct Relay {
    name: &'static str,
    child: Option<Child>,
    address: SocketAddr,
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn haproxy(folder: &Path, upstream: &str) -> Relay {
    let port = free_port();
    let file = folder.join("haproxy.cfg");
    std::fs::write(
        &file,
        format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\nlisten mongodb\n  bind 127.0.0.1:{port}\n  server mongod {upstream}\n"
        ),
    )
    .unwrap();
    let child = Command::new("haproxy")
        .arg("-db")
        .arg("-f")
        .arg(file)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Relay {
        name: "haproxy",
        child: Some(child),
        address: ([127, 0, 0, 1], port).into(),
    }
}

fn fieldseal(name: &'static str, folder: &Path, upstream: &str, schema: &str) -> Relay {
    let port = free_port();
    let folder = folder.join(name);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("schema.toml"), schema).unwrap();
    std::fs::write(folder.join("unseal"), "5a".repeat(32)).unwrap();
    std::fs::write(
        folder.join("fieldseal.toml"),
        format!(
            "schema = \"schema.toml\"\n[keyring]\nfile = \"keyring.json\"\nunseal = {{ file = \"unseal\" }}\n[[route]]\nlisten = \"127.0.0.1:{port}\"\nupstream = \"{upstream}\"\n[log]\nlevel = \"warn\"\n"
        ),
    )
    .unwrap();
    let program = std::env::var_os("FIELDSEAL_PROGRAM").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_fieldseal")),
        PathBuf::from,
    );
    let config = folder.join("fieldseal.toml");
    let init = Command::new(&program)
        .args(["keys", "init", "-c"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(init.status.success(), "{init:?}");
    let child = Command::new(&program)
        .args(["serve", "-c"])
        .arg(&config)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Relay {
        name,
        child: Some(child),
        address: ([127, 0, 0, 1], port).into(),
    }
}

const SCHEMA: &str = r#"
    [collections."shop.customers".fields]
    ssn            = { type = "string", queries = ["equality"] }
    "payment.card" = { type = "string", queries = ["equality"] }
    name           = { type = "string" }
    phone          = { type = "string" }
    address        = {}
"#;

fn customer() -> Document {
    doc! {
        "ssn": "078-05-1120", "name": "Ada Marsh", "phone": "+44 20 7946 0958",
        "address": {"street": "12 Quay Road", "city": "Leith", "postcode": "EH6 6LX"},
        "payment": {"card": "4929 1234 5678 9012", "expires": "09/29"},
        "plan": "gold", "visits": 17_i32,
        "since": bson::DateTime::from_millis(1_700_000_000_000),
        "notes": "n".repeat(640),
    }
}

fn numbered(number: i32) -> Document {
    let mut document = doc! {"_id": number};
    document.extend(customer());
    document
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let rounds: usize = std::env::var("ROUNDS").map_or(12, |text| text.parse().unwrap());
    let seconds: f64 = std::env::var("SECONDS").map_or(0.5, |text| text.parse().unwrap());
    let only = std::env::var("ONLY").ok();
    let mongod = Embedded::start(false).await.unwrap();
    let upstream = mongod.address();
    let folder = std::env::temp_dir().join(format!("fieldseal-relay-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let mut relays = vec![
        Relay {
            name: "direct",
            child: None,
            address: upstream.parse().unwrap(),
        },
        haproxy(&folder, &upstream),
    ];
    relays.push(fieldseal("fieldseal", &folder, &upstream, SCHEMA));
    tokio::time::sleep(Duration::from_secs(1)).await;
    for collection in ["orders", "customers"] {
        let mut load = Load::connect(&Target::Tcp(relays[2].address), 1)
            .await
            .unwrap();
        for first in (0..1000).step_by(100) {
            let documents: Vec<Document> = (first..first + 100).map(numbered).collect();
            load.ask(&request(
                &doc! {"insert": collection, "documents": documents, "$db": "shop"},
            ))
            .await
            .unwrap();
        }
    }
    let one = |collection: &str| -> Vec<Vec<u8>> {
        (0..1000).map(|number| request(&doc! {"find": collection, "filter": {"_id": number}, "limit": 1, "singleBatch": true, "$db": "shop"})).collect()
    };
    let hundred = |collection: &str| -> Vec<Vec<u8>> {
        (0..900).step_by(100).map(|number| request(&doc! {"find": collection, "filter": {"_id": {"$gte": number}}, "limit": 100, "batchSize": 101, "singleBatch": true, "$db": "shop"})).collect()
    };
    let insert = |collection: &str, count: usize| {
        vec![request(
            &doc! {"insert": collection, "documents": vec![customer(); count], "$db": "shop"},
        )]
    };
    let mut mixed = one("orders");
    for place in (0..mixed.len()).step_by(4) {
        mixed[place] = insert("orders_new", 1).remove(0);
    }
    let operations: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("find by _id", one("orders")),
        ("insert one", insert("orders_new", 1)),
        ("mixed 3:1", mixed),
        ("find of 100", hundred("orders")),
        ("insert of 100", insert("orders_new", 100)),
        ("sealed find by _id", one("customers")),
        ("sealed insert one", insert("customers_new", 1)),
        ("sealed find of 100", hundred("customers")),
    ];
    for (name, requests) in operations {
        if only
            .as_ref()
            .is_some_and(|only| !name.contains(only.as_str()))
        {
            continue;
        }
        let requests: Arc<[Vec<u8>]> = requests.into();
        for connections in [1, 8, 64] {
            if name.contains("100") && connections == 64 {
                continue;
            }
            let mut loads = Vec::new();
            for relay in &relays {
                loads.push(
                    Load::connect(&Target::Tcp(relay.address), connections)
                        .await
                        .unwrap(),
                );
            }
            let mut table: Vec<Vec<[f64; 3]>> = vec![Vec::new(); relays.len()];
            for round in 0..rounds {
                for turn in 0..relays.len() {
                    let at = (turn + round) % relays.len();
                    let relay = &relays[at];
                    let process = relay
                        .child
                        .as_ref()
                        .map_or(mongod.process().unwrap(), Child::id);
                    let before = process::cpu(process).unwrap();
                    let done = loads[at]
                        .run(&requests, Duration::from_secs_f64(seconds))
                        .await
                        .unwrap();
                    let cpu = process::cpu(process)
                        .unwrap()
                        .saturating_sub(before)
                        .as_secs_f64()
                        * 1e6
                        / done.operations() as f64;
                    table[at].push([
                        cpu,
                        done.throughput(),
                        done.latencies[done.operations() / 2],
                    ]);
                }
                let mut load = Load::connect(&Target::Tcp(relays[0].address), 1)
                    .await
                    .unwrap();
                for collection in ["orders_new", "customers_new"] {
                    let _ = load
                        .ask(&request(&doc! {"drop": collection, "$db": "shop"}))
                        .await;
                }
            }
            print!("{name:20} x{connections:<3}");
            let column = |at: usize, column: usize| {
                Spread::of(table[at].iter().map(|row| row[column]))
                    .unwrap()
                    .median
            };
            for at in 0..relays.len() {
                print!(
                    " | {} cpu {:6.1} {:7.0}/s p50 {:6.0}",
                    relays[at].name,
                    column(at, 0),
                    column(at, 1),
                    column(at, 2)
                );
            }
            let ratio = |c: usize| {
                Spread::of((0..rounds).map(|round| table[2][round][c] / table[1][round][c]))
                    .unwrap()
            };
            println!(
                " || ratio cpu {:.2} [{:.2} {:.2}] thr {:.2} p50 {:.2}",
                ratio(0).median,
                ratio(0).low,
                ratio(0).high,
                ratio(1).median,
                ratio(2).median
            );
        }
    }
    drop(relays);
    std::fs::remove_dir_all(&folder).unwrap();
    mongod.stop().await;
}
