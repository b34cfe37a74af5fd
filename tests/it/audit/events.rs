//! What is written down.

use super::*;

#[tokio::test]
async fn reads_of_audited_fields_are_told_before_the_client_has_them_and_without_values() {
    let audited = Audited::start().await;
    let mut client = audited.client().await;
    audited.insert(&mut client, 1).await;
    audited.insert(&mut client, 2).await;
    assert!(audited.events("read").is_empty());

    let answer = client.ask(&audited.find()).await;
    assert!(answer.to_string().contains(CANARY));
    let reads = audited.events("read");
    assert_eq!(reads.len(), 1, "{reads:?}");
    let read = &reads[0];
    let namespace = format!("{}.people", audited.database);
    assert_eq!(read["command"], "find");
    assert_eq!(read["namespace"], namespace.as_str());
    let expected = serde_json::json!([
        {"namespace": namespace, "field": "ssn", "values": 2},
        {"namespace": namespace, "field": "tags", "values": 4},
    ]);
    assert_eq!(read["fields"], expected);
    assert!(read["client"].as_str().unwrap().starts_with("127.0.0.1:"));

    // What is not shown is not told.
    let mut others = audited.find();
    others.insert("projection", doc! { "note": 1 });
    client.ask(&others).await;
    assert_eq!(audited.events("read").len(), 1);
    let pipeline = vec![doc! { "$project": { "renamed": "$ssn" } }];
    let renamed = doc! { "aggregate": "people", "pipeline": pipeline, "cursor": {}, "$db": &audited.database };
    client.ask(&renamed).await;
    let reads = audited.events("read");
    assert_eq!(reads.len(), 2, "{reads:?}");
    assert_eq!(reads[1]["fields"][0]["field"], "ssn");
    assert_eq!(reads[1]["fields"][0]["values"], 2);

    let text = fs::read_to_string(audited.file()).unwrap();
    assert!(!text.contains(CANARY), "{text}");
}

#[tokio::test]
async fn connections_and_refusals_are_told_with_who_and_why() {
    let mut audited = Audited::start().await;
    let mut client = audited.client().await;
    let answer = client.ask(&audited.refused()).await;
    assert!(answer.get_str("errmsg").unwrap().starts_with("fieldseal"));
    let inserted = doc! {
        "insert": "people",
        "documents": [{ "_id": 1, "ssn": CANARY }, { "_id": 2, "ssn": 5 }],
        "ordered": false,
        "$db": &audited.database,
    };
    client.ask(&inserted).await;
    let unknown = doc! { "inventedCommand": CANARY, "$db": "admin" };
    client.ask(&unknown).await;
    drop(client);

    let refused = audited.wait_for("refused", 3).await;
    assert_eq!(refused[0]["command"], "find");
    assert_eq!(
        refused[0]["namespace"],
        format!("{}.people", audited.database)
    );
    assert_eq!(refused[0]["code"], 115);
    let why = refused[0]["why"].as_str().unwrap();
    assert!(why.contains("note"), "{why}");
    assert_eq!(refused[1]["command"], "insert");
    assert_eq!(refused[1]["statement"], 1);
    assert_eq!(refused[2]["command"], "inventedCommand");
    assert_eq!(refused[2]["namespace"], "admin");

    let connection = &refused[0]["connection"];
    let connected = audited.events("connect");
    let connected: Vec<&Value> = connected
        .iter()
        .filter(|line| line["connection"] == *connection)
        .collect();
    assert_eq!(connected.len(), 1);
    assert_eq!(connected[0]["tls"], Value::Null);
    let left = audited.wait_for("disconnect", 1).await;
    let left = left.iter().find(|line| line["connection"] == *connection);
    let left = left.unwrap();
    assert_eq!(left["commands"], 4);
    assert!(left["reason"].as_str().unwrap().contains("client closed"));

    audited.stop().await;
    let start = &audited.events("start")[0];
    assert_eq!(start["generation"], 1);
    for key in ["host", "pid", "version", "salt", "schema_sha256"] {
        assert!(!start[key].is_null(), "{key}: {start}");
    }
    let end = &audited.events("end")[0];
    assert_eq!(end["reason"], "stop");
    let text = fs::read_to_string(audited.file()).unwrap();
    assert!(!text.contains(CANARY), "{text}");
    assert_eq!(end["lines"], text.lines().count());
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(audited.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn changes_of_keys_schema_and_configuration_are_told_and_what_is_not_taken_up_too() {
    let mut audited = Audited::start().await;
    audited.proxy.keys(&["rotate", "default"]).await;
    let keys = audited.wait_for("key", 2).await;
    let told: Vec<_> = keys
        .iter()
        .map(|line| {
            (
                line["version"].as_u64(),
                line["from"].as_str(),
                line["to"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some(1), Some("active"), Some("retired")),
            (Some(2), None, Some("active"))
        ]
    );
    assert_eq!(keys[0]["generation"], 2);
    // What follows is under the new version.
    let starts = audited.wait_for("start", 2).await;
    assert_eq!(starts[1]["key_version"], 2);

    let schema = audited.proxy.directory().join("schema.toml");
    let text = fs::read_to_string(&schema).unwrap();
    let other = text.replace("note = ", "memo = ");
    fs::write(&schema, other).unwrap();
    let changed = &audited.wait_for("schema", 1).await[0];
    assert_eq!(changed["added"][0]["field"], "memo");
    assert_eq!(changed["removed"][0]["field"], "note");
    assert_eq!(changed["from"], starts[0]["schema_sha256"]);
    fs::write(&schema, "collections = 3").unwrap();
    let refused = &audited.wait_for("reload_refused", 1).await[0];
    assert!(refused["why"].as_str().unwrap().contains("schema.toml"));

    // What was done by the command stands beside it.
    let admin = events(
        &audited.proxy.directory().join("audit.jsonl.admin"),
        "admin",
    );
    let told: Vec<_> = admin
        .iter()
        .map(|line| {
            (
                line["action"].as_str().unwrap(),
                line["stage"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("keys init", "done"),
            ("keys rotate", "begun"),
            ("keys rotate", "done")
        ]
    );
    assert_eq!(admin[1]["arguments"][0], "default");
    fs::write(&schema, text).unwrap();
    audited.stop().await;
    let (code, said) = audited.verify(&[]);
    assert_eq!(code, 0, "{said:#}");
    assert_eq!(said["logs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_job_is_told_without_the_password_of_its_database() {
    let audited = Audited::start().await;
    let uri = format!("mongodb://someone:{CANARY}@127.0.0.1:1/?serverSelectionTimeoutMS=100");
    let failed = audited.run(&["migrate", "rotate", "--uri", &uri]);
    assert_eq!(failed.status.code(), Some(1));
    let file = audited.proxy.directory().join("audit.jsonl.admin");
    let stages: Vec<_> = events(&file, "admin")
        .into_iter()
        .filter(|line| line["action"] == "migrate rotate")
        .map(|line| line["stage"].clone())
        .collect();
    assert_eq!(stages, ["begun", "failed"]);
    assert!(!fs::read_to_string(file).unwrap().contains(CANARY));
}

#[tokio::test]
async fn each_command_has_a_line_in_the_log_with_who_where_and_how_it_ended() {
    let mut audited = Audited::start().await;
    let mut client = audited.client().await;
    audited.insert(&mut client, 1).await;
    client.ask(&audited.refused()).await;
    let failing = doc! { "find": "people", "filter": { "$nothing": 1 }, "$db": &audited.database };
    client.ask(&failing).await;
    let namespace = format!("namespace=\"{}.people\"", audited.database);
    for words in [
        ["command=\"insert\"", "outcome=ok"],
        ["command=\"find\"", "outcome=refused 115"],
    ] {
        let line = audited.proxy.wait_for_log(&words).await;
        for part in ["conn=", "principal=127.0.0.1", &namespace, "duration="] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    assert!(!audited.proxy.log().contains(CANARY));
}
