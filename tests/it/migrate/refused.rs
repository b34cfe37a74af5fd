//! What a job does not do is told in one line, before anything is changed.

use mongodb::bson::doc;

use super::{CANARY, Ground};
use crate::support::{Process, command, error_text, mongod_path, new_directory};

const FIELDS: &str = "ssn = { type = \"string\", queries = [\"equality\"] }";

#[tokio::test]
async fn plaintext_that_proxies_would_refuse_is_not_sealed_half() {
    let ground = Ground::new("reject", FIELDS).await;
    let stored = ground.stored().await;
    stored
        .insert_one(doc! { "_id": 1, "ssn": CANARY })
        .await
        .unwrap();
    let before = ground.raw().await;
    let told = ground.fail(&["migrate", "encrypt"]);
    assert!(told.contains("set on_plaintext = \"allow\""), "{told}");
    assert_eq!(ground.raw().await, before);

    ground.schema("allow", FIELDS);
    ground.succeed(&["migrate", "encrypt"]);
    let sealed = ground.raw().await;
    for on_plaintext in ["reject", "allow"] {
        ground.schema(on_plaintext, FIELDS);
        let told = ground.fail(&["migrate", "decrypt"]);
        assert!(told.contains("set on_plaintext = \"store\""), "{told}");
    }
    assert_eq!(ground.raw().await, sealed);
    ground.schema("store", FIELDS);
    let told = ground.fail(&["migrate", "encrypt", "--dry-run"]);
    assert!(told.contains("proxies store plaintext"), "{told}");
    // With nothing left to do, the job says so.
    ground.schema("reject", FIELDS);
    let text = ground.succeed(&["migrate", "encrypt"]);
    assert!(text.contains("nothing is left"), "{text}");
}

#[tokio::test]
async fn what_is_no_ordinary_collection_is_told() {
    let ground = Ground::new("allow", FIELDS).await;
    let client = ground.set.client().await;
    let database = client.database(&ground.database);
    let namespace = ground.namespace();
    let encrypt = ["migrate", "encrypt", &namespace];
    let text = ground.succeed(&encrypt);
    assert!(text.contains("no such collection"), "{text}");

    for (options, word) in [
        (doc! { "capped": true, "size": 4096 }, "capped collection"),
        (doc! { "timeseries": { "timeField": "at" } }, "time series"),
        (doc! { "viewOn": "other", "pipeline": [] }, "view"),
    ] {
        let mut create = doc! { "create": "people" };
        create.extend(options);
        database.run_command(create).await.unwrap();
        let told = ground.fail(&encrypt);
        assert!(told.contains(&format!("it is a {word}; ")), "{told}");
        database
            .run_command(doc! { "drop": "people" })
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_validator_that_refuses_what_is_sealed_is_told_by_code() {
    let ground = Ground::new("allow", FIELDS).await;
    let client = ground.set.client().await;
    let database = client.database(&ground.database);
    let validator = doc! { "$jsonSchema": { "properties": { "ssn": { "bsonType": "string" } } } };
    database
        .run_command(doc! { "create": "people", "validator": validator })
        .await
        .unwrap();
    let stored = ground.stored().await;
    stored
        .insert_many((0..5).map(|id| doc! { "_id": id, "ssn": CANARY }))
        .await
        .unwrap();
    let told = ground.fail(&["migrate", "encrypt"]);
    assert!(told.contains("5 documents left"), "{told}");
    assert!(told.contains("validator (code 121)"), "{told}");
    assert!(!told.contains(CANARY), "{told}");
}

#[tokio::test]
async fn names_that_the_schema_does_not_have_are_told_with_those_it_has() {
    let ground = Ground::new("allow", FIELDS).await;
    let namespace = ground.namespace();
    let told = ground.fail(&["migrate", "rotate", "shop.nothing"]);
    assert!(told.contains(&format!("it names {namespace}")), "{told}");
    let told = ground.fail(&["migrate", "rotate", &namespace, "--field", "sns"]);
    assert!(told.contains("no field `sns`; it has ssn"), "{told}");
}

#[tokio::test]
async fn a_mongodb_that_cannot_be_reached_or_has_no_transactions_is_told() {
    let ground = Ground::new("allow", FIELDS).await;
    let login = "mongodb://ada:sesame@";
    for (uri, words) in [
        (
            format!("{login}127.0.0.1:1/"),
            "cannot reach MongoDB at 127.0.0.1:1",
        ),
        (format!("{login}host/?retryWrites=sesame"), "--uri: "),
    ] {
        let told = ground.fail(&["migrate", "rotate", "--uri", &uri]);
        assert!(told.contains(words), "{told}");
        assert!(!told.contains("sesame"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let mut job = command(&["migrate", "rotate"], &ground.configuration);
    job.env("FIELDSEAL_URI", format!("{login}127.0.0.1:1/"));
    let told = error_text(&job.output().unwrap());
    assert!(told.contains("127.0.0.1:1 (FIELDSEAL_URI)"), "{told}");

    let directory = new_directory("standalone");
    std::fs::create_dir(directory.join("db")).unwrap();
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut mongod = std::process::Command::new(mongod_path());
    mongod
        .args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--port"])
        .arg(port.to_string())
        .arg("--dbpath")
        .arg(directory.join("db"));
    let mut mongod = Process::start(&mongod, directory);
    let uri = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
    let namespace = ground.namespace();
    let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
    let people = client.database(&ground.database).collection("people");
    people.insert_one(doc! { "ssn": CANARY }).await.unwrap();
    assert!(mongod.ended().is_none());
    let told = ground.fail(&["migrate", "encrypt", &namespace, "--uri", &uri]);
    assert!(told.contains("standalone"), "{told}");
}

#[tokio::test]
async fn a_pattern_finds_its_collections() {
    let ground = Ground::new("allow", FIELDS).await;
    let schema = format!(
        "[collections.\"{}.p*\"]\non_plaintext = \"allow\"\n[collections.\"{}.p*\".fields]\n{FIELDS}\n",
        ground.database, ground.database
    );
    std::fs::write(ground.directory.join("schema.toml"), schema).unwrap();
    let client = ground.set.client().await;
    let database = client.database(&ground.database);
    for name in ["pa", "pb", "other"] {
        let collection = database.collection::<mongodb::bson::Document>(name);
        let ten = (0..10).map(|id| doc! { "_id": id, "ssn": CANARY });
        collection.insert_many(ten).await.unwrap();
    }
    database
        .run_command(doc! { "create": "pv", "viewOn": "pa", "pipeline": [] })
        .await
        .unwrap();
    let text = ground.succeed(&["migrate", "encrypt", "--rate", "100"]);
    for line in [".pa: 10 documents", ".pb: 10 documents", ".pv: is a view"] {
        assert!(text.contains(line), "{text}");
    }
    let of = |name: &str| database.collection::<mongodb::bson::Document>(name);
    let plain = doc! { "ssn": CANARY };
    assert_eq!(of("pa").count_documents(plain.clone()).await.unwrap(), 0);
    assert_eq!(of("pb").count_documents(plain.clone()).await.unwrap(), 0);
    assert_eq!(of("other").count_documents(plain).await.unwrap(), 10);
}
