//! `fieldseal bench` measures what it says, shows no value, and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use fieldseal::bench::report::{FORMAT, Group, Operation, Report, Source};
use mongodb::Client;
use mongodb::bson::{Document, doc};

use crate::support::{
    PATIENCE, Process, Proxy, ProxyOptions, ReplicaSet, ReplicaSetOptions, command, error_text,
    mongod_path, new_directory, shared_replica_set, unique_database, write_configuration,
};

const SCHEMA: &str = r#"
[collections."shop.people".fields]
ssn = { type = "string", queries = ["equality"] }
"pay.*.card" = { type = "string", read = ["support"] }
tags = { type = "string", elements = true }

[collections."shop.orders".fields]
note = {}
"#;

/// In every value of every document.
const CANARY: &str = "canary";

/// What a quick look takes, and less.
const QUICK: [&str; 9] = [
    "bench",
    "--quick",
    "--rounds",
    "1",
    "--seconds",
    "0.003",
    "--batch",
    "5",
    "--connections=2,1",
];

/// A configuration, and a folder for temporary files whose path is short enough for sockets.
struct Place {
    directory: PathBuf,
    temporary: PathBuf,
}

impl Place {
    fn new(schema: &str) -> Self {
        let directory = new_directory("bench");
        let name = directory
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let temporary = std::env::temp_dir().join(format!("fs-{}-{name}", std::process::id()));
        fs::create_dir(&temporary).unwrap();
        // The role of the schema has to be someone's. There is no key file, and none is needed.
        let configuration = "[[access.principals]]\nuser = \"ada@shop\"\nroles = [\"support\"]\n";
        let options = ProxyOptions {
            schema,
            configuration,
            ..ProxyOptions::default()
        };
        write_configuration(&directory, &["127.0.0.1:1".to_owned()], options);
        fs::remove_file(directory.join("unseal")).unwrap();
        Self {
            directory,
            temporary,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments, &self.path("fieldseal.toml"));
        command
            .current_dir(&self.directory)
            .env("FIELDSEAL_MONGOD", mongod_path())
            .env("TMPDIR", &self.temporary)
            .env_remove("FIELDSEAL_URI");
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        output.await.unwrap()
    }

    /// What it says when it does not do what was asked for.
    async fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.run(&[&QUICK[..], arguments].concat()).await;
        let text = error_text(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(output.stdout.is_empty());
        assert!(!text.contains(CANARY), "{text}");
        self.assert_nothing_left();
        text
    }

    fn report(&self) -> Report {
        let text = fs::read_to_string(self.path("x.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// No temporary file, and no process that was told of one.
    #[track_caller]
    fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(&self.temporary).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        let name = format!("{}/", self.temporary.display());
        for process in fs::read_dir("/proc").into_iter().flatten() {
            let line = fs::read(process.unwrap().path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            assert!(!line.contains(&name), "{line}");
        }
    }

    /// No value of a document in any of these, nor in what a command said.
    #[track_caller]
    fn assert_no_value(&self, output: &Output, files: &[&str]) {
        let says = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(CANARY);
        assert!(!says(&output.stdout) && !says(&output.stderr));
        for file in files {
            assert!(!says(&fs::read(self.path(file)).unwrap()), "{file}");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.temporary);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn people() -> Vec<Document> {
    let person = |number: i32| {
        let own = format!("{CANARY}-{number}");
        doc! {
            "ssn": &own, "tags": [&own, CANARY], "open": &own, "n": number,
            "pay": {"one": {"card": &own}, "two": {"card": &own, "open": true}},
        }
    };
    (0..10).map(person).chain([doc! {"open": CANARY}]).collect()
}

fn write_people(file: &Path) {
    let lines: Vec<String> = people()
        .into_iter()
        .map(|person| {
            mongodb::bson::Bson::Document(person)
                .into_relaxed_extjson()
                .to_string()
        })
        .collect();
    fs::write(file, lines.join("\n")).unwrap();
}

async fn bench_databases(client: &Client) -> Vec<String> {
    let mut names = client.list_database_names().await.unwrap();
    names.retain(|name| name.starts_with("fieldseal_bench_"));
    names
}

#[tokio::test]
async fn every_choice_is_measured_and_no_value_is_shown() {
    let place = Place::new(SCHEMA);
    write_people(&place.path("people.json"));
    let outs = [
        "--docs",
        "people.json",
        "--out",
        "x.html",
        "--json",
        "x.json",
        "--picture",
        "x.svg",
    ];
    let output = place.run(&[&QUICK[..], &outs].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    place.assert_nothing_left();
    place.assert_no_value(&output, &["x.html", "x.json", "x.svg"]);

    let report = place.report();
    let names: Vec<&str> = report
        .settings
        .iter()
        .map(|setting| setting.name.as_str())
        .collect();
    let expected = [
        "direct",
        "relay",
        "only ssn",
        "only pay.*.card",
        "only tags",
        "all fields",
        "no tokens",
        "xaes-256-gcm",
        "TLS listen",
        "TLS upstream",
        "TLS both",
        "socket listen",
        "socket upstream",
        "socket both",
    ];
    assert_eq!(names, expected);
    assert_eq!(report.format, FORMAT);
    let about = &report.about;
    assert!(about.embedded && about.rounds == 1);
    assert_eq!(about.documents.namespace, "shop.people");
    assert_eq!(
        (about.documents.source, about.documents.count),
        (Source::File, 11)
    );
    for (place, setting) in report.settings.iter().enumerate() {
        let own: Vec<_> = (report.measurements.iter())
            .filter(|measured| measured.setting == place)
            .collect();
        let scales = matches!(setting.group, Group::Direct | Group::Relay | Group::All);
        let has = |operation, connections| {
            own.iter().any(|measured| {
                (measured.operation, measured.connections) == (operation, connections)
            })
        };
        for operation in [
            Operation::Read,
            Operation::Write,
            Operation::BatchRead,
            Operation::BatchWrite,
        ] {
            assert!(has(operation, 2), "{}: {operation:?}", setting.name);
            assert_eq!(has(operation, 1), scales, "{}: {operation:?}", setting.name);
        }
        let asked = !["only pay.*.card", "only tags", "no tokens"].contains(&setting.name.as_str());
        assert_eq!(has(Operation::EqualityQuery, 2), asked, "{}", setting.name);
        for measured in own {
            let proxy = setting.group != Group::Direct;
            assert!(measured.p50.median > 0.0 && measured.throughput.median > 0.0);
            assert!(measured.p99.median >= measured.p50.median);
            assert_eq!(measured.cpu.is_some(), proxy && cfg!(target_os = "linux"));
            assert_eq!(measured.p50_ratio.is_some(), proxy);
        }
    }
    let fields: Vec<_> = report
        .fields
        .iter()
        .map(|field| field.path.as_str())
        .collect();
    assert_eq!(fields, ["ssn", "pay.*.card", "tags"]);
    for field in &report.fields {
        assert!(
            (field.present - 100.0 * 10.0 / 11.0).abs() < 1e-6,
            "{}",
            field.path
        );
        assert!(field.bytes_added > 50.0 && field.write_throughput.is_some());
    }
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("Roles and masks"))
    );
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("one more collection"))
    );
    whole(&place, &output, &expected);
    shown_again(&place, &output).await;
}

/// The page, the picture and the table have every setting or field.
fn whole(place: &Place, output: &Output, settings: &[&str]) {
    let page = fs::read_to_string(place.path("x.html")).unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for text in [&page, &table] {
        for setting in settings {
            let field = setting.strip_prefix("only ").unwrap_or(setting);
            assert!(text.contains(field), "{setting}: {text}");
        }
    }
    assert!(page.trim_end().ends_with("</html>"));
    let picture = fs::read_to_string(place.path("x.svg")).unwrap();
    assert!(picture.trim_end().ends_with("</svg>"));
}

/// What was measured can be shown again, without measuring.
async fn shown_again(place: &Place, before: &Output) {
    let page = fs::read(place.path("x.html")).unwrap();
    let from = ["bench", "--from", "x.json", "--out", "y.html"];
    let output = place.run(&from).await;
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    assert_eq!(fs::read(place.path("y.html")).unwrap(), page);
    let table = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split("\nWritten: ").next().unwrap().to_owned()
    };
    assert_eq!(table(&output), table(before));
}

#[tokio::test]
async fn a_mongodb_of_the_user_is_left_as_it_was() {
    let set = shared_replica_set().await;
    let client = set.client().await;
    let place = Place::new(SCHEMA);
    let address = set.addresses().remove(0);
    let quick = [&QUICK[..], &["--upstream", &address, "--json", "x.json"]].concat();
    let output = place
        .run(&[&quick[..], &["--only", "all,tls,sockets"]].concat())
        .await;
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    let report = place.report();
    let names: Vec<&str> = report
        .settings
        .iter()
        .map(|setting| setting.name.as_str())
        .collect();
    let expected = [
        "direct",
        "relay",
        "all fields",
        "TLS listen",
        "socket listen",
    ];
    assert_eq!(names, expected);
    assert_eq!(report.about.documents.source, Source::MadeUp);
    assert!(!report.about.embedded);
    assert_eq!(bench_databases(&client).await, Vec::<String>::new());
    place.assert_nothing_left();
    sampled(set, &client, &place, &quick).await;
    interrupted(&client, &place, &address).await;
}

/// Documents of a collection are taken through the proxy if they are sealed.
async fn sampled(set: &ReplicaSet, client: &Client, place: &Place, quick: &[&str]) {
    let database = unique_database("bench");
    let namespace = format!("{database}.people");
    let schema = SCHEMA
        .replace("shop.people", &namespace)
        .replace(", read = [\"support\"]", "");
    let proxy = Proxy::start(set, &schema).await;
    let through = proxy.client().await;
    let people_through = through.database(&database).collection("people");
    people_through.insert_many(people()).await.unwrap();
    let sample = [
        "--only",
        "all",
        "--sample",
        &namespace,
        "--namespace",
        "shop.people",
    ];
    let told = place
        .refusal(&[&["--upstream", quick[10]], &sample[..]].concat())
        .await;
    assert!(told.contains("is sealed already"), "{told}");

    let output = place
        .run(&[quick, &sample, &["--uri", proxy.uri()]].concat())
        .await;
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    place.assert_no_value(&output, &["x.json"]);
    let documents = place.report().about.documents;
    assert_eq!(
        (documents.source, documents.count),
        (Source::Sample, people().len())
    );
    assert_no_secret_was_stored(client).await;
    let stored = client.database(&database).collection::<Document>("people");
    assert_eq!(stored.count_documents(doc! {}).await.unwrap(), 11);
    assert_eq!(bench_databases(client).await, Vec::<String>::new());
}

/// In MongoDB's log of operations, which outlives the database.
async fn assert_no_secret_was_stored(client: &Client) {
    let log = client.database("local").collection::<Document>("oplog.rs");
    let written =
        doc! {"op": "i", "ns": {"$regex": "^fieldseal_bench_"}, "o.open": {"$exists": true}};
    let mut found = log.find(written).await.unwrap();
    let mut count = 0;
    while found.advance().await.unwrap() {
        let mut document = found
            .deserialize_current()
            .unwrap()
            .get_document("o")
            .unwrap()
            .clone();
        // What the schema does not name stays what it is.
        assert!(
            document
                .remove("open")
                .unwrap()
                .as_str()
                .unwrap()
                .starts_with(CANARY)
        );
        assert!(!document.to_string().contains(CANARY), "{document}");
        count += 1;
    }
    assert!(count > 0);
}

async fn interrupted(client: &Client, place: &Place, address: &str) {
    for signal in ["INT", "TERM", "HUP"] {
        let bench = place.command(&["bench", "--upstream", address, "--only", "all"]);
        let mut bench = Process::start(&bench, new_directory("interrupted"));
        let deadline = Instant::now() + PATIENCE;
        while bench_databases(client).await.is_empty() {
            assert!(bench.ended().is_none(), "{}", bench.output());
            assert!(Instant::now() < deadline, "{}", bench.output());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        bench.signal(signal);
        assert_eq!(bench.wait().await.code(), Some(1), "{signal}");
        assert_eq!(
            bench_databases(client).await,
            Vec::<String>::new(),
            "{signal}"
        );
        place.assert_nothing_left();
    }
}

#[tokio::test]
async fn what_cannot_be_measured_is_told_before_anything_is_started() {
    let place = Place::new(SCHEMA);
    let told = place.refusal(&["--docs", "people.json"]).await;
    assert!(told.contains("people.json: cannot be read"), "{told}");
    fs::write(
        place.path("people.json"),
        r#"[{"ssn": "canary"}, {"ssn": {"canary": 1}}]"#,
    )
    .unwrap();
    let told = place.refusal(&["--docs", "people.json"]).await;
    assert!(
        told.contains("people.json: document 2: ") && told.contains("`ssn`"),
        "{told}"
    );
    fs::write(place.path("people.json"), "{\"ssn\": \"canary").unwrap();
    let told = place.refusal(&["--docs", "people.json"]).await;
    assert!(told.contains("people.json:1: is no JSON"), "{told}");
    let told = place.refusal(&["--upstream", "127.0.0.1:1"]).await;
    assert!(told.contains("--upstream 127.0.0.1:1: "), "{told}");
    let told = place
        .refusal(&["--upstream", "mongodb://ada:canary@127.0.0.1:1/"])
        .await;
    assert!(told.contains("has a user"), "{told}");
    let told = place.refusal(&["--namespace", "shop.carts"]).await;
    assert!(told.contains("shop.people, shop.orders"), "{told}");
    let told = place.refusal(&["--out", "nowhere/x.html"]).await;
    assert!(told.contains("nowhere/x.html: cannot be written"), "{told}");
    let told = place.refusal(&["--sample", "shop.people"]).await;
    assert!(told.contains("with --uri"), "{told}");
}

#[tokio::test]
async fn a_mongodb_that_asks_for_a_login_is_refused() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        auth: true,
        ..ReplicaSetOptions::default()
    })
    .await;
    let place = Place::new(SCHEMA);
    let told = place.refusal(&["--upstream", &set.addresses()[0]]).await;
    assert!(told.contains("asks for a login"), "{told}");
}
