//! Nothing leaks: what is sealed is nowhere to be found behind the proxy.
//!
//! A workload carries canaries through every road. Then everything that MongoDB
//! keeps, all that was sent to it and what the proxy wrote are searched for them.
//! The same workload without a schema shows that the search would find them.

mod accepted;
mod by_frame;
mod canaries;
mod refused;

use futures::TryStreamExt as _;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::{Client, Database};

use self::canaries::Canaries;
use crate::support::{
    Member, Proxy, ProxyOptions, Relay, ReplicaSet, ReplicaSetOptions, WITH_JAVASCRIPT,
};

const SCHEMA: &str = r#"
[collections."leak.people".fields]
ssn            = { type = "string", queries = ["equality"], domain = "person", audit = true }
"payment.card" = { type = "string", queries = ["equality"] }
tags           = { type = "string", queries = ["equality"] }
address        = {}
"visits.note"  = { type = "string", audit = true }
"visits.code"  = { type = "string", queries = ["equality"] }
photo          = { type = "binData", queries = ["equality"] }
number         = { type = "long", queries = ["equality"] }
amount         = { type = "double", queries = ["equality"] }
born           = { type = "date", queries = ["equality"] }

[collections."leak.targets".fields]
ssn            = { type = "string" }
"#;

/// The database with sealed collections.
const SEALED: &str = "leak";
/// The database without.
const OPEN: &str = "open";

#[tokio::test]
async fn nothing_leaks_and_the_search_would_find_it() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        compress: false,
        log_everything: true,
        arguments: ["--setParameter", "maxLogSizeKB=4096"]
            .map(String::from)
            .into(),
        ..ReplicaSetOptions::default()
    })
    .await;
    let direct = set.members()[0].direct_client().await;
    make_room_for_profiles(&direct).await;

    let (sealed, open) = (Canaries::new(), Canaries::new());
    let sealing = workload(&set, SEALED, SCHEMA, &sealed).await;
    let passing = workload(&set, OPEN, "", &open).await;
    let kept = all_that_mongodb_keeps(&set.members()[0], &direct).await;

    for place in kept.iter().chain(&sealing) {
        let found = place.found(&sealed);
        assert!(found.is_empty(), "in {}: {found:?}", place.name);
    }
    the_search_finds(&kept, &passing, &open);
    let text = |name: &str| {
        let place = sealing.iter().find(|place| place.name == name);
        String::from_utf8_lossy(&place.unwrap().bytes).into_owned()
    };
    let log = text("the proxy's log");
    assert!(
        log.contains("refused") && log.contains("payment.card") && log.contains("outcome="),
        "trace is on: {log}"
    );
    let audit = text("the audit log");
    for event in ["read", "refused", "connect"] {
        let event = format!("\"event\":\"{event}\"");
        assert!(audit.contains(&event), "{event} in {audit}");
    }
}

/// Without a schema the canaries are in every place where they can be.
fn the_search_finds(kept: &[Place], passing: &[Place], open: &Canaries) {
    let everywhere = [
        "text, raw",
        "binary, raw",
        "long, raw",
        "double, raw",
        "date, raw",
    ];
    for (name, forms) in [
        ("data files", &everywhere[..]),
        ("index files", &["text, raw"]),
        ("journal", &everywhere),
        ("oplog", &everywhere),
        ("profiler", &everywhere),
        (
            "mongod's log",
            &[
                "text, raw",
                "binary, base64 after 0 bytes",
                "long, decimal",
                "double, decimal",
                "date, written out",
            ],
        ),
        ("what the proxy sent", &everywhere),
    ] {
        let place = kept.iter().chain(passing).find(|place| place.name == name);
        let found = place.unwrap().found(open);
        for form in forms {
            assert!(
                found.iter().any(|found| found == form),
                "{form} in {name}: {found:?}"
            );
        }
    }
    let places = kept.iter().chain(passing);
    let missing = open.missing_from(places.map(|place| &place.bytes[..]));
    assert!(
        missing.is_empty(),
        "these never got to MongoDB: {missing:#?}"
    );
}

/// A place to search in.
struct Place {
    name: &'static str,
    bytes: Vec<u8>,
}

impl Place {
    /// The forms of the canaries that are in it.
    fn found(&self, canaries: &Canaries) -> Vec<String> {
        let forms = canaries.forms().into_iter();
        forms
            .filter(|form| form.is_in(&self.bytes))
            .map(|form| form.name)
            .collect()
    }
}

/// The profiler's own size keeps a megabyte.
async fn make_room_for_profiles(direct: &Client) {
    for name in [SEALED, OPEN, "admin"] {
        let database = direct.database(name);
        database.run_command(doc! { "profile": 0 }).await.unwrap();
        let room = doc! { "create": "system.profile", "capped": true, "size": 32 << 20 };
        database.run_command(room).await.unwrap();
        database.run_command(doc! { "profile": 2 }).await.unwrap();
    }
}

async fn all_that_mongodb_keeps(member: &Member, direct: &Client) -> Vec<Place> {
    let mut profiles = Vec::new();
    for name in [SEALED, OPEN, "admin"] {
        profiles.extend(dump(&direct.database(name), "system.profile").await);
    }
    let oplog = dump(&direct.database("local"), "oplog.rs").await;
    // Which is a checkpoint as well.
    let admin = direct.database("admin");
    admin.run_command(doc! { "fsync": 1 }).await.unwrap();

    let mut files = ["data files", "index files", "journal", "other files"].map(|name| Place {
        name,
        bytes: Vec::new(),
    });
    gather(&member.database_path(), &mut files);
    let mut kept = Vec::from(files);
    kept.extend([
        Place {
            name: "oplog",
            bytes: oplog,
        },
        Place {
            name: "profiler",
            bytes: profiles,
        },
        Place {
            name: "mongod's log",
            bytes: member.log().into_bytes(),
        },
    ]);
    kept
}

/// The documents of a collection, as they are, one after the other.
async fn dump(database: &Database, collection: &str) -> Vec<u8> {
    let documents = database
        .collection::<RawDocumentBuf>(collection)
        .find(doc! {})
        .await
        .unwrap();
    let all: Vec<RawDocumentBuf> = documents.try_collect().await.unwrap();
    all.iter()
        .flat_map(|document| document.as_bytes().to_vec())
        .collect()
}

/// Puts all files below `folder` where they belong, without pages of zeros.
fn gather(folder: &std::path::Path, files: &mut [Place; 4]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, files);
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let place = match name.split('-').next().unwrap() {
            "collection" => 0,
            "index" => 1,
            _ if name.starts_with("WiredTigerLog") => 2,
            _ => 3,
        };
        // It may have been removed since it was listed.
        let bytes = std::fs::read(&path).unwrap_or_default();
        for page in bytes
            .chunks(4096)
            .filter(|page| **page != [0; 4096][..page.len()])
        {
            files[place].bytes.extend_from_slice(page);
        }
    }
}

/// Sends everything; gives what the proxy sent and what it wrote.
async fn workload(
    set: &ReplicaSet,
    database: &str,
    schema: &str,
    canaries: &Canaries,
) -> Vec<Place> {
    let relay = Relay::start(set.members()[0].address()).await;
    let options = ProxyOptions {
        schema,
        configuration: &format!("{WITH_JAVASCRIPT}\n[audit]\nfile = \"audit.jsonl\"\n"),
        ..ProxyOptions::default()
    };
    let proxy = Proxy::start_through(set, &[relay.address().to_owned()], options).await;
    let client = proxy.client().await;
    let people = client.database(database);
    accept(&people, canaries).await;
    through_the_driver(&client, &people, canaries).await;
    by_frame::accepted(&proxy.addresses()[0], database, canaries).await;
    let bulk = accepted::not_known(canaries, database);
    let unknown = client.database("admin").run_command(bulk).await;
    let told = unknown.unwrap_err().to_string();
    assert!(told.contains("no such command"), "{told}");
    let not_refused = refuse(&client, database, canaries).await;
    if !schema.is_empty() {
        assert!(not_refused.is_empty(), "{not_refused:#?}");
    }
    by_frame::refused(&proxy.addresses()[0], database, canaries).await;
    let sent = relay.connections();
    vec![
        Place {
            name: "what the proxy sent",
            bytes: sent
                .into_iter()
                .flat_map(|recorded| recorded.requests)
                .collect(),
        },
        Place {
            name: "the proxy's log",
            bytes: proxy.log().into_bytes(),
        },
        Place {
            name: "the audit log",
            bytes: std::fs::read(proxy.directory().join("audit.jsonl")).unwrap(),
        },
    ]
}

/// Runs what must be refused; gives what was not.
async fn refuse(client: &Client, database: &str, canaries: &Canaries) -> Vec<String> {
    let mut not_refused = Vec::new();
    for (elsewhere, command) in refused::all(canaries, database) {
        let database = client.database(elsewhere.unwrap_or(database));
        match database.run_command(command.clone()).await {
            Err(error) if error.to_string().contains("fieldseal") => {}
            Err(error) => not_refused.push(format!("{command}: {error}")),
            Ok(answer) if of_statement(&answer) => {}
            Ok(answer) => not_refused.push(format!("{command}: {answer}")),
        }
    }
    not_refused
}

/// Whether a batch was refused by its statement.
fn of_statement(answer: &Document) -> bool {
    let errors = answer.get_array("writeErrors").into_iter().flatten();
    let mut texts = errors.filter_map(|error| error.as_document()?.get_str("errmsg").ok());
    texts.any(|text| text.starts_with("fieldseal"))
}

/// Runs what must be accepted, on MongoDB as through the proxy.
async fn accept(people: &Database, canaries: &Canaries) {
    let commands = [
        accepted::inserts(canaries),
        accepted::indexes(canaries),
        accepted::reads(canaries),
        accepted::pipelines(canaries),
        accepted::updates(canaries),
        accepted::changes(canaries),
        accepted::elsewhere(canaries),
    ];
    for command in commands.into_iter().flatten() {
        let answer = people.run_command(command.clone()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{command}\n{error}"));
        assert!(!answer.contains_key("writeErrors"), "{command}\n{answer}");
    }
}

async fn through_the_driver(client: &Client, database: &Database, canaries: &Canaries) {
    let people = database.collection::<Document>("people");
    let many: Vec<Document> = (100..160)
        .map(|id| accepted::person(canaries, id, &format!("driver {id}")))
        .collect();
    people.insert_many(&many).await.unwrap();

    let filter = doc! { "ssn": { "$ne": canaries.text("cursor") }, "_id": { "$gte": 100 } };
    let cursor = people.find(filter).batch_size(7).await.unwrap();
    let found: Vec<Document> = cursor.try_collect().await.unwrap();
    assert_eq!(found.len(), 60);

    for ordered in [true, false] {
        let mut twin = many[0].clone();
        twin.insert("_id", 161);
        let twins = [
            twin.clone(),
            accepted::person(canaries, 162, "bulk"),
            many[1].clone(),
        ];
        people
            .insert_many(twins)
            .ordered(ordered)
            .await
            .unwrap_err();
        people.delete_one(doc! { "_id": 162 }).await.unwrap();
        is_duplicate(&people.insert_one(twin).await.unwrap_err());
        let change = doc! { "$set": { "ssn": canaries.text("driver 100 ssn") } };
        let error = people.update_one(doc! { "_id": 101 }, change).await;
        is_duplicate(&error.unwrap_err());
    }

    let mut session = client.start_session().await.unwrap();
    for (id, road) in [(170, "commit"), (171, "abort")] {
        session.start_transaction().await.unwrap();
        let person = accepted::person(canaries, id, road);
        people
            .insert_one(person)
            .session(&mut session)
            .await
            .unwrap();
        let by = doc! { "ssn": canaries.text(&format!("{road} ssn")) };
        let change = doc! { "$set": { "payment.card": canaries.text(&format!("{road} $set")) } };
        let changed = people
            .update_one(by.clone(), change)
            .session(&mut session)
            .await;
        assert_eq!(changed.unwrap().modified_count, 1);
        let again = people.find_one(by).session(&mut session).await.unwrap();
        assert!(again.is_some());
        match road {
            "commit" => session.commit_transaction().await.unwrap(),
            _ => session.abort_transaction().await.unwrap(),
        }
    }
}

fn is_duplicate(error: &Error) {
    let ErrorKind::Write(WriteFailure::WriteError(error)) = &*error.kind else {
        panic!("{error}");
    };
    assert_eq!(error.code, 11000);
}
