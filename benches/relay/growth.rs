//! What grows, and whether the cost of an operation grows with it.

use bson::{Document, doc};
use fieldseal::bench::load::{Load, LoadError, request};

use crate::measure::{self, Way};
use crate::relays::{Fieldseal, Relay, Sockets};
use crate::requests::{self, STORED, customer, schema};
use crate::sheet::Sheet;
use crate::{Bench, Failure};

/// Proxies of the first program, each with its own files.
struct Proxies<'b> {
    bench: &'b Bench,
    upstream: String,
}

impl Proxies<'_> {
    fn files(
        &self,
        folder: &str,
        schema: &str,
        keys: Option<&Fieldseal>,
    ) -> Result<Fieldseal, Failure> {
        let none = || std::io::Error::other("no program");
        let (name, program) = self.bench.programs.first().ok_or_else(none)?;
        let build = (name.as_str(), program.as_path());
        let folder = self.bench.scratch.folder(&format!("growth {folder}"))?;
        Ok(Fieldseal::new(
            build,
            folder,
            schema,
            keys,
            Sockets::Tcp,
            &self.upstream,
        )?)
    }
}

pub(crate) async fn measure(bench: &Bench, sheet: &mut Sheet) -> Result<(), Failure> {
    let upstream = bench.mongod.address();
    let proxies = Proxies { bench, upstream };
    if bench.arguments.wants("growth: connections") {
        connections(&proxies, sheet).await?;
    }
    if bench.arguments.wants("growth: sealed paths") {
        paths(&proxies, sheet).await?;
    }
    if bench.arguments.wants("growth: key versions") {
        versions(&proxies, sheet).await?;
    }
    Ok(())
}

/// Drops what was there and stores documents anew, by way of a relay.
async fn store(
    relay: &Relay,
    collection: &str,
    numbers: std::ops::Range<i32>,
    document: &Document,
) -> Result<(), LoadError> {
    let failed = |error: std::io::Error| LoadError {
        command: "connect".to_owned(),
        reason: error.into(),
    };
    let mut load = Load::connect(&relay.target, 1).await.map_err(failed)?;
    if numbers.start == 0 {
        // An error if it is not there.
        let _ = load
            .ask(&request(&doc! {"drop": collection, "$db": "shop"}))
            .await;
    }
    requests::store(&mut load, collection, numbers, document).await
}

async fn connections(proxies: &Proxies<'_>, sheet: &mut Sheet) -> Result<(), Failure> {
    let proxy = proxies
        .files("connections", &schema(), None)?
        .start()
        .await?;
    for collection in ["orders", "customers"] {
        store(&proxy, collection, 0..STORED, &customer()).await?;
    }
    let mut ways = Vec::new();
    for (what, collection) in [("untouched", "orders"), ("sealed", "customers")] {
        let finds = requests::find_one(collection);
        for count in [1, 2, 4, 8, 16, 32, 64, 128] {
            ways.push(
                Way::new(&proxy, &finds, count).named(format!("{what} find by _id x{count}")),
            );
        }
    }
    let bench = proxies.bench;
    let found = measure::measure(&bench.mongod, &ways, bench.arguments.pace()).await?;
    sheet.add("growth: connections", &found);
    Ok(())
}

/// A schema of so many paths, on two levels, of which the documents have one.
fn schema_of(paths: usize) -> String {
    let others = (1..paths).map(|number| match number % 2 {
        0 => format!("field{number} = {{ type = \"string\" }}\n"),
        _ => format!(
            "\"part{}.field{number}\" = {{ type = \"string\" }}\n",
            number / 20
        ),
    });
    let fields: String = std::iter::once("ssn = { type = \"string\" }\n".to_owned())
        .chain(others)
        .collect();
    requests::schema_of(&fields)
}

async fn paths(proxies: &Proxies<'_>, sheet: &mut Sheet) -> Result<(), Failure> {
    let [_, written] = measure::WRITTEN;
    let mut relays = Vec::new();
    let mut first: Option<Fieldseal> = None;
    for count in [1, 10, 100, 1000] {
        let files = proxies.files(&format!("paths {count}"), &schema_of(count), first.as_ref())?;
        relays.push((count, files.start().await?));
        first.get_or_insert(files);
    }
    if let Some((_, relay)) = relays.first() {
        store(relay, "customers", 0..STORED, &customer()).await?;
    }
    let bench = proxies.bench;
    for (what, requests) in [
        ("find by _id", requests::find_one("customers")),
        ("insert one", requests::insert(written, &customer(), 1)),
        ("insert of 100", requests::insert(written, &customer(), 100)),
    ] {
        let ways = relays.iter().map(|(count, relay)| {
            Way::new(relay, &requests, 8).named(format!("{count} sealed paths"))
        });
        let ways: Vec<Way> = ways.collect();
        let found = measure::measure(&bench.mongod, &ways, bench.arguments.pace()).await?;
        sheet.add(&format!("growth: sealed paths, {what} x8"), &found);
    }
    Ok(())
}

/// Documents under as many versions of the key as there are, in equal parts.
async fn versions(proxies: &Proxies<'_>, sheet: &mut Sheet) -> Result<(), Failure> {
    const MOST: i32 = 100;
    const COUNTS: [i32; 3] = [1, 10, MOST];
    let name = |count| format!("versions{count}");
    let fields = r#"ssn = { type = "string" }
name = { type = "string" }
"#;
    let schema: String = COUNTS
        .map(|count| format!("[collections.\"shop.{}\".fields]\n{fields}", name(count)))
        .concat();
    let files = proxies.files("versions", &schema, None)?;
    let mut relays = Vec::new();
    for version in 1..=MOST {
        if version > 1 {
            files.command(&["keys", "rotate", "--all"])?;
        }
        let relay = files.start().await?;
        for count in COUNTS.into_iter().filter(|&count| version <= count) {
            let each = STORED / count;
            let numbers = (version - 1) * each..version * each;
            store(&relay, &name(count), numbers, &customer()).await?;
        }
        if COUNTS.contains(&version) {
            let copy = proxies.files(&format!("versions {version}"), &schema, Some(&files))?;
            relays.push((version, copy.start().await?));
        }
    }
    let bench = proxies.bench;
    for what in ["find by _id", "find of 100"] {
        let ways = relays.iter().map(|(count, relay)| {
            let requests = match what {
                "find of 100" => requests::find_hundred(&name(*count)),
                _ => requests::find_one(&name(*count)),
            };
            Way::new(relay, &requests, 8).named(format!("{count} key versions"))
        });
        let ways: Vec<Way> = ways.collect();
        let found = measure::measure(&bench.mongod, &ways, bench.arguments.pace()).await?;
        sheet.add(&format!("growth: key versions, {what} x8"), &found);
    }
    Ok(())
}
