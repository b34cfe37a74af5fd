//! What is stored is counted and compared: `status`, `check --against` and `inspect`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use mongodb::Collection;
use mongodb::bson::{Binary, Bson, Document, RawDocumentBuf, doc};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::support::{
    Proxy, ProxyOptions, ReplicaSet, ReplicaSetOptions, error_text, fieldseal, new_directory,
    unique_database, write_configuration,
};

/// In every value that is sealed; no command may ever say it.
const CANARY: &str = "canary-7c1f";

const FIELDS: &str = r#"
ssn = { type = "string", queries = ["equality"] }
"payment.card" = { type = "string" }
"visits.note" = { type = "string" }
tags = { type = "string", queries = ["equality"] }
"#;

/// A server of its own: `check --against` looks at all that is on it.
static SET: OnceCell<ReplicaSet> = OnceCell::const_new();

async fn replica_set() -> &'static ReplicaSet {
    SET.get_or_init(|| ReplicaSet::start(ReplicaSetOptions::default()))
        .await
}

/// A collection behind a proxy, and the files for commands beside it.
struct World {
    proxy: Proxy,
    database: String,
    /// Through the proxy.
    sealed: Collection<Document>,
    /// What MongoDB stores.
    stored: Collection<Document>,
    directory: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl World {
    /// Ten documents of `customers`, sealed by a proxy.
    async fn new() -> Self {
        let set = replica_set().await;
        let database = unique_database("status");
        let proxy = Proxy::start(set, &schema(&database, "customers", FIELDS)).await;
        let (through, direct) = (proxy.client().await, set.client().await);
        let world = Self {
            sealed: through.database(&database).collection("customers"),
            stored: direct.database(&database).collection("customers"),
            directory: new_directory("status"),
            proxy,
            database,
        };
        let people: Vec<Document> = (0..10)
            .map(|id| {
                doc! {
                    "_id": id,
                    "ssn": format!("{CANARY} {id}"),
                    "payment": {"card": format!("{CANARY} card"), "kind": "debit"},
                    "visits": [{"note": CANARY}, {"at": 1}, {"note": null}],
                    "tags": [CANARY, "b"],
                }
            })
            .collect();
        world.sealed.insert_many(people).await.unwrap();
        world.configure(&schema(&world.database, "customers", FIELDS));
        world
    }

    /// Gives the commands another schema than the proxy has, with the same keys.
    fn configure(&self, schema: &str) {
        let upstreams = vec![self.upstream()];
        let options = ProxyOptions {
            schema,
            ..ProxyOptions::default()
        };
        write_configuration(&self.directory, &upstreams, options);
        let keys = self.proxy.directory().join("keyring.json");
        fs::copy(keys, self.directory.join("keyring.json")).unwrap();
    }

    fn upstream(&self) -> String {
        let text = fs::read_to_string(self.proxy.configuration()).unwrap();
        let (_, rest) = text.split_once("upstream = \"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    fn namespace(&self) -> String {
        format!("{}.customers", self.database)
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("fieldseal.toml")
    }

    /// Runs a command; it must not say what is sealed.
    async fn run(&self, arguments: &[&str]) -> Output {
        let configuration = self.configuration();
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        let run = move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            fieldseal(&arguments, &configuration)
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(
            !said.contains(CANARY) && !said.contains("panicked"),
            "{said}"
        );
        output
    }

    /// `status --json`, which must end so.
    async fn status(&self, code: i32, arguments: &[&str]) -> Value {
        let arguments = [&["status", "--json"], arguments].concat();
        let output = self.run(&arguments).await;
        let said = error_text(&output);
        let json = text(&output);
        assert_eq!(output.status.code(), Some(code), "{said}{json}");
        serde_json::from_str(&json).unwrap()
    }

    /// What `check --against --exact` says is wrong, a line each.
    async fn wrong(&self) -> Vec<String> {
        let output = self.run(&["check", "--against", "--exact"]).await;
        let said = error_text(&output);
        let lines: Vec<String> = said
            .lines()
            .filter(|line| !line.starts_with("fieldseal: warning"))
            .filter(|line| line.contains(&self.database))
            .map(str::to_owned)
            .collect();
        // Tests share the server: what others left there is no concern of this one.
        let none = output.status.success();
        assert!(none || output.status.code() == Some(1), "{said}");
        assert!(!none || lines.is_empty(), "{said}");
        lines
    }
}

fn schema(database: &str, collection: &str, fields: &str) -> String {
    format!("[collections.\"{database}.{collection}\".fields]{fields}")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What was counted at a field.
#[track_caller]
fn at<'v>(status: &'v Value, path: &str) -> &'v Value {
    let fields = status["collections"][0]["fields"].as_array().unwrap();
    let found = fields.iter().find(|field| field["field"] == path);
    found.unwrap_or_else(|| panic!("{path}: {status:#}"))
}

/// The remedies, a line each.
fn to_do(status: &Value) -> String {
    let tasks = status["to_do"].as_array().unwrap();
    let remedies = tasks.iter().map(|task| task["remedy"].as_str().unwrap());
    remedies.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn says(lines: &[String], parts: &[&str]) {
    let [line] = lines else {
        panic!("one line: {lines:#?}")
    };
    for part in parts {
        assert!(line.contains(part), "{part}: {line}");
    }
}

fn binary<'d>(document: &'d mut Document, path: &[&str]) -> &'d mut Binary {
    let (last, inner) = path.split_last().unwrap();
    let mut at = document;
    for name in inner {
        at = at.get_document_mut(name).unwrap();
    }
    match at.get_mut(last) {
        Some(Bson::Binary(binary)) => binary,
        other => panic!("{path:?}: {other:?}"),
    }
}

#[tokio::test]
async fn status_counts_every_value_and_nothing_is_left_of_a_sealed_collection() {
    let world = World::new().await;
    let status = world.status(0, &[]).await;
    assert_eq!(status["collections"][0]["documents"], 10);
    for (path, number) in [
        ("ssn", 10),
        ("payment.card", 10),
        ("visits.note", 10),
        ("tags", 20),
    ] {
        let field = at(&status, path);
        assert_eq!(
            (&field["sealed"], &field["plain"]),
            (&number.into(), &0.into())
        );
        assert_eq!(field["versions"][0]["values"], number, "{field}");
        assert_eq!(field["versions"][0]["state"], "active", "{field}");
    }
    assert_eq!(at(&status, "tags")["tokens"][0]["values"], 20);
    assert_eq!(
        at(&status, "payment.card")["tokens"]
            .as_array()
            .unwrap()
            .len(),
        0
    );

    let output = world.run(&["status"]).await;
    let table = text(&output);
    assert!(table.contains("v1 10"), "{table}");
    assert!(table.ends_with("nothing is left to do\n"), "{table}");
    assert!(error_text(&output).is_empty(), "{}", error_text(&output));
}

#[tokio::test]
async fn values_under_an_older_version_are_left_to_rotate() {
    let world = World::new().await;
    let configuration = world.proxy.configuration();
    assert!(
        fieldseal(&["keys", "rotate", "default"], &configuration)
            .status
            .success()
    );
    world.configure(&schema(&world.database, "customers", FIELDS));
    let status = world.status(3, &[]).await;
    assert_eq!(at(&status, "ssn")["versions"][0]["state"], "retired");
    let remedy = format!("`fieldseal migrate rotate {}`", world.namespace());
    assert!(
        to_do(&status).lines().all(|line| line == remedy),
        "{status:#}"
    );
    assert_eq!(status["to_do"].as_array().unwrap().len(), 4);

    let output = world.run(&["status"]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output).contains("v1 10 (retired)"),
        "{}",
        text(&output)
    );
}

#[tokio::test]
async fn what_a_disabled_version_sealed_is_counted_before_it_is_destroyed_and_after() {
    let world = World::new().await;
    for step in [
        &["keys", "rotate", "default"][..],
        &["keys", "disable", "default"],
    ] {
        let number = if step[1] == "disable" {
            &["--version", "1"][..]
        } else {
            &[]
        };
        let output = world.run(&[step, number].concat()).await;
        assert!(output.status.success(), "{}", error_text(&output));
    }
    let status = world.status(3, &[]).await;
    let ssn = at(&status, "ssn");
    assert_eq!(
        (&ssn["versions"][0]["state"], &ssn["unreadable"]),
        (&"disabled".into(), &10.into())
    );
    let remedy = "`fieldseal keys enable default --version 1` makes them readable";
    assert!(
        to_do(&status).lines().all(|line| line == remedy),
        "{status:#}"
    );
    assert_eq!(world.wrong().await.len(), 4);

    // Nobody is there to be asked, so it is shown and refused.
    let destroy = ["keys", "destroy", "default", "--version", "1"];
    let output = world.run(&destroy).await;
    assert_eq!(output.status.code(), Some(1));
    let said = error_text(&output);
    let namespace = world.namespace();
    for (path, values) in [
        ("ssn", 10),
        ("payment.card", 10),
        ("visits.note", 10),
        ("tags", 20),
    ] {
        let line = format!("{namespace} `{path}`: {values} values would be lost");
        assert!(said.contains(&line), "{line}: {said}");
    }
    let nowhere = [&destroy[..], &["--uri", "mongodb://127.0.0.1:1/"]].concat();
    let said = error_text(&world.run(&nowhere).await);
    assert!(
        said.contains("not known how many values would be lost"),
        "{said}"
    );
    world.status(3, &[]).await;

    let output = world.run(&[&destroy[..], &["--yes"]].concat()).await;
    assert!(output.status.success(), "{}", error_text(&output));
    let status = world.status(3, &[]).await;
    let ssn = at(&status, "ssn");
    assert_eq!(
        (&ssn["versions"][0]["state"], &ssn["unreadable"]),
        (&"destroyed".into(), &10.into())
    );
}

#[tokio::test]
async fn plaintext_is_found_wherever_it_is_left() {
    let world = World::new().await;
    let plain =
        doc! {"_id": "plain", "ssn": CANARY, "tags": ["x", CANARY], "visits": [{"note": CANARY}]};
    world.stored.insert_one(plain).await.unwrap();
    let status = world.status(3, &[]).await;
    for (path, number) in [
        ("ssn", 1),
        ("tags", 2),
        ("visits.note", 1),
        ("payment.card", 0),
    ] {
        assert_eq!(at(&status, path)["plain"], number, "{path}");
    }
    assert!(
        to_do(&status).contains("set on_plaintext = \"allow\""),
        "{status:#}"
    );
    let wrong = world.wrong().await;
    assert_eq!(wrong.len(), 3, "{wrong:#?}");
    assert!(
        wrong
            .iter()
            .all(|line| line.contains("in plain") && line.contains("migrate encrypt"))
    );

    let allow = format!(
        "[collections.\"{}\"]\non_plaintext = \"allow\"\n",
        world.namespace()
    );
    world.configure(&(allow + &schema(&world.database, "customers", FIELDS)));
    let status = world.status(3, &[]).await;
    let remedy = format!("`fieldseal migrate encrypt {}`", world.namespace());
    assert!(
        to_do(&status).lines().all(|line| line == remedy),
        "{status:#}"
    );
    // While it is moved over, it is as the schema says it may be.
    assert!(world.wrong().await.is_empty());
}

#[tokio::test]
async fn values_that_cannot_be_read_are_counted_by_the_reason() {
    let world = World::new().await;
    let mut one = world
        .stored
        .find_one(doc! {"_id": 1})
        .await
        .unwrap()
        .unwrap();
    *binary(&mut one, &["ssn", "c"]).bytes.last_mut().unwrap() ^= 1;
    let note = one.get_array("visits").unwrap()[0].clone();
    let note = note.as_document().unwrap().get("note").unwrap().clone();
    one.get_document_mut("payment")
        .unwrap()
        .insert("card", note);
    world
        .stored
        .replace_one(doc! {"_id": 1}, one)
        .await
        .unwrap();

    let status = world.status(3, &[]).await;
    let ssn = at(&status, "ssn");
    assert_eq!(
        (&ssn["damaged"], &ssn["unreadable"]),
        (&1.into(), &1.into())
    );
    let card = at(&status, "payment.card");
    assert_eq!(
        (&card["sealed_for_another_field"], &card["unreadable"]),
        (&1.into(), &1.into())
    );

    // With other keys, nothing is readable.
    fs::remove_file(world.directory.join("keyring.json")).unwrap();
    assert!(world.run(&["keys", "init"]).await.status.success());
    let status = world.status(3, &[]).await;
    let ssn = at(&status, "ssn");
    assert_eq!(
        (&ssn["versions"][0]["state"], &ssn["unreadable"]),
        (&"missing".into(), &10.into())
    );
    assert!(
        to_do(&status).contains("a key file that has it is needed"),
        "{status:#}"
    );
}

#[tokio::test]
async fn what_a_field_lacks_after_it_was_given_equality_is_left_to_do() {
    let world = World::new().await;
    let fields = FIELDS.replace(
        "\"payment.card\" = { type = \"string\" }",
        "\"payment.card\" = { type = \"string\", queries = [\"equality\"] }",
    );
    world.configure(&schema(&world.database, "customers", &fields));
    let status = world.status(3, &[]).await;
    let remedy = format!("`fieldseal migrate reindex {}`", world.namespace());
    assert_eq!(to_do(&status), remedy);
    says(
        &world.wrong().await,
        &["`payment.card`", "10 values without a token", &remedy],
    );
}

#[tokio::test]
async fn a_sample_is_told_as_one_and_views_are_not_looked_at() {
    let world = World::new().await;
    let status = world.status(0, &["--sample", "3"]).await;
    assert_eq!(
        (&status["sample"], &status["collections"][0]["documents"]),
        (&3.into(), &3.into())
    );

    let pattern = schema(&world.database, "cust*", FIELDS);
    world.configure(&pattern);
    let database = world.stored.client().database(&world.database);
    let make = doc! {"create": "custom", "viewOn": "customers", "pipeline": []};
    database.run_command(make).await.unwrap();
    let status = world.status(0, &[]).await;
    let found = status["collections"].as_array().unwrap();
    assert_eq!(found.len(), 2, "{status:#}");
    assert_eq!(
        (&found[0]["standing"], &found[0]["counted"]),
        (&"view".into(), &false.into())
    );
    assert_eq!(
        (&found[1]["standing"], &found[1]["documents"]),
        (&"collection".into(), &10.into())
    );
    let told = text(&world.run(&["status"]).await);
    assert!(
        told.contains("custom: not looked at: it is a view"),
        "{told}"
    );
}

#[tokio::test]
async fn a_field_that_was_removed_from_the_schema_is_found() {
    let world = World::new().await;
    assert!(world.wrong().await.is_empty());
    let fields = FIELDS.replace("\"payment.card\" = { type = \"string\" }\n", "");
    world.configure(&schema(&world.database, "customers", &fields));
    says(
        &world.wrong().await,
        &[
            "`payment.card`",
            "10 values",
            "removed from the schema",
            "migrate decrypt",
        ],
    );
}

#[tokio::test]
async fn a_field_that_was_renamed_is_found_and_its_identity_named() {
    let world = World::new().await;
    let rename = doc! {"$rename": {"payment.card": "payment.number"}};
    world.stored.update_many(doc! {}, rename).await.unwrap();
    let fields = FIELDS.replace("payment.card", "payment.number");
    world.configure(&schema(&world.database, "customers", &fields));
    let lines = world.wrong().await;
    // The old name is not in the schema any more, so it cannot be guessed.
    says(&lines, &["`payment.number`", "10 values", "identity"]);
    let given = fields.replace(
        "\"payment.number\" = { type",
        "\"payment.number\" = { identity = \"payment.card\", type",
    );
    world.configure(&schema(&world.database, "customers", &given));
    assert!(world.wrong().await.is_empty());
}

#[tokio::test]
async fn a_collection_that_was_renamed_is_found_and_its_identity_named() {
    let world = World::new().await;
    let client = world.stored.client();
    let rename = doc! {
        "renameCollection": world.namespace(),
        "to": format!("{}.clients", world.database),
    };
    client.database("admin").run_command(rename).await.unwrap();
    // The schema still has the old name: what is written now is not sealed.
    let lines = world.wrong().await;
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for line in &lines {
        assert!(
            line.contains("does not name") && line.contains("not sealed"),
            "{line}"
        );
    }
    // The new name alone does not open what was sealed under the old one.
    world.configure(&schema(&world.database, "clients", FIELDS));
    let status = world.status(3, &[]).await;
    assert_eq!(at(&status, "ssn")["sealed_for_another_field"], 10);
    let lines = world.wrong().await;
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(
        lines.iter().all(|line| line.contains("`identity`")),
        "{lines:#?}"
    );

    let identity = format!(
        "[collections.\"{}.clients\"]\nidentity = \"{}\"\n",
        world.database,
        world.namespace()
    );
    world.configure(&(identity + &schema(&world.database, "clients", FIELDS)));
    assert!(world.wrong().await.is_empty());
    world.status(0, &[]).await;
}

#[tokio::test]
async fn a_type_or_a_domain_that_was_changed_is_found() {
    let world = World::new().await;
    let fields = FIELDS.replace(
        "\"payment.card\" = { type = \"string\" }",
        "\"payment.card\" = { type = [\"int\", \"long\"] }",
    );
    world.configure(&schema(&world.database, "customers", &fields));
    says(
        &world.wrong().await,
        &[
            "`payment.card`",
            "10 values of type string",
            "allows int or long",
        ],
    );
    let fields = FIELDS.replace("ssn = { ", "ssn = { domain = \"people\", ");
    world.configure(&schema(&world.database, "customers", &fields));
    says(
        &world.wrong().await,
        &["`ssn`", "10 values", "a token that is not theirs", "domain"],
    );
    world.status(3, &[]).await;
}

#[tokio::test]
async fn a_dump_of_sealed_documents_tells_the_keys_it_needs() {
    let world = World::new().await;
    let stored = world.stored.clone_with_type::<RawDocumentBuf>();
    let mut bytes = Vec::new();
    let mut cursor = stored.find(doc! {}).await.unwrap();
    while cursor.advance().await.unwrap() {
        bytes.extend_from_slice(cursor.current().as_bytes());
    }
    let folder = world.directory.join("dump").join(&world.database);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("customers.bson"), &bytes).unwrap();
    let dump = world.directory.join("dump");
    let inspect = async |path: &Path| {
        let path = path.to_str().unwrap().to_owned();
        world.run(&["inspect", "--json", &path]).await
    };
    let output = inspect(&dump).await;
    assert!(output.status.success(), "{}", error_text(&output));
    let json: Value = serde_json::from_str(&text(&output)).unwrap();
    let fields = json["fields"].as_array().unwrap();
    let found: Vec<String> = fields
        .iter()
        .map(|it| {
            format!(
                "{} {} {} {}",
                it["namespace"], it["field"], it["values"], it["state"]
            )
        })
        .collect();
    let namespace = world.namespace();
    assert_eq!(
        found,
        [
            ("payment.card", 10),
            ("ssn", 10),
            ("tags", 20),
            ("visits.note", 10)
        ]
        .map(|(path, values)| format!("\"{namespace}\" \"{path}\" {values} \"active\""))
    );
    let cut = folder.join("customers.bson");
    fs::write(&cut, &bytes[..bytes.len() - 7]).unwrap();
    let output = inspect(&cut).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error_text(&output).contains("damaged at byte"),
        "{}",
        error_text(&output)
    );
}

#[tokio::test]
async fn a_mongodb_that_is_not_there_and_a_collection_that_is_not_sealed_are_told_in_one_line() {
    let world = World::new().await;
    let uri = "--uri=mongodb://ada:sesame@127.0.0.1:1/";
    for arguments in [
        &["status", uri][..],
        &["check", "--against", uri],
        &["status", "shop.nothing"],
    ] {
        let output = world.run(arguments).await;
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("fieldseal: ") && said.lines().count() == 1,
            "{said}"
        );
        assert!(!said.contains("sesame"), "{said}");
        assert!(output.stdout.is_empty(), "{}", text(&output));
    }
}
