//! `fieldseal check` says what is behind the routes, and whether clients could go round the proxy.

use std::fs;
use std::path::{Path, PathBuf};

use mongodb::bson::{Document, doc};
use serde_json::Value;

use super::{Place, run};
use crate::support::{
    MongodTls, ProxyOptions, ReplicaSet, ReplicaSetOptions, error_text, new_directory,
    shared_replica_set, unique_database, write_configuration,
};
use crate::tls::authority::{Authority, Wish};

/// A configuration in front of `upstreams`, whose schema names fields of `database`.
fn place(upstreams: &[String], database: &str, more: &str) -> Place {
    let directory = new_directory("cli");
    let schema = format!(
        "[collections.\"{database}.people\".fields]\nssn = {{ type = \"string\", queries = [\"equality\"] }}\naddress = {{}}\n"
    );
    let options = ProxyOptions {
        schema: &schema,
        configuration: more,
        log_level: "info",
        ..ProxyOptions::default()
    };
    let configuration = write_configuration(&directory, upstreams, options);
    let place = Place {
        directory,
        configuration,
    };
    let made = crate::support::fieldseal(&["keys", "init"], &place.configuration);
    assert!(made.status.success(), "{}", error_text(&made));
    place
}

/// What `check` says, to people and to programs, in `environment`.
async fn checked(place: &Place, environment: &[(&str, &Path)]) -> (String, String, Value) {
    let at = ["check", "-c", place.configuration.to_str().unwrap()];
    let output = run(at, environment).await;
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let at = [
        "check",
        "--json",
        "-c",
        place.configuration.to_str().unwrap(),
    ];
    let json = run(at, environment).await;
    let json = serde_json::from_slice(&json.stdout).unwrap();
    (text, error_text(&output), json)
}

#[tokio::test]
async fn an_upstream_that_is_not_reached_is_a_warning_unless_it_is_asked_for() {
    let place = Place::new();
    let output = place.run(&["check"]).await;
    assert_eq!(output.status.code(), Some(0));
    let said = error_text(&output);
    assert!(
        said.contains("warning: route 127.0.0.1:1: not reached: "),
        "{said}"
    );

    let output = place.run(&["check", "--require-upstream"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = error_text(&output);
    assert!(said.ends_with(" [FS5016]\n"), "{said}");

    let output = place.run(&["check", "--offline"]).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(error_text(&output), "");
}

#[tokio::test]
async fn a_mongodb_without_logins_is_told_of_with_indexes_validators_and_the_profiler() {
    let set = shared_replica_set().await;
    let name = unique_database("check");
    let client = set.client().await;
    let database = client.database(&name);
    let validator = doc! { "$jsonSchema": { "properties": { "ssn": { "bsonType": "string" } } } };
    let create = doc! { "create": "people", "validator": validator };
    database.run_command(create).await.unwrap();
    database
        .run_command(doc! { "profile": 1, "slowms": 10_000 })
        .await
        .unwrap();

    let place = place(&set.addresses(), &name, "");
    let (table, said, json) = checked(&place, &[]).await;
    let last: Vec<&str> = table.lines().rev().take(3).collect();
    assert!(
        last[0].starts_with("feature compatibility version 6"),
        "{table}"
    );
    for word in ["primary", "6.0.", "community", "not needed"] {
        assert!(last[1].contains(word), "{word}: {table}");
    }
    for part in [
        "it asks for no login".to_owned(),
        format!("{name}.people `ssn`: may be asked for by equality, and has no index"),
        format!("{name}.people `ssn`: the collection's validator asks for `bsonType` \"string\""),
        format!("database {name}: the profiler is on"),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    let route = &json["upstream"]["routes"][0];
    assert_eq!(route["reached"], true);
    assert_eq!(route["member"], set.addresses()[0].as_str());
    assert_eq!(route["authentication"], false);
    assert_eq!(
        json["upstream"]["findings"].as_array().unwrap().len(),
        4,
        "{json:#}"
    );

    database
        .run_command(doc! { "profile": 0, "slowms": 100 })
        .await
        .unwrap();
    let modified = doc! { "collMod": "people", "validator": { "ssn": { "$exists": true } } };
    database.run_command(modified).await.unwrap();
    let index = doc! { "createIndexes": "people", "indexes": [{ "key": { "ssn.e1": 1 }, "name": "ssn_1" }] };
    database.run_command(index).await.unwrap();
    let (_, said, _) = checked(&place, &[]).await;
    assert!(said.contains("no login"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn users_that_may_log_in_from_anywhere_are_named_and_no_password_is() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        auth: true,
        ..ReplicaSetOptions::default()
    })
    .await;
    let place = place(&set.addresses(), "shop", "");
    let (table, said, json) = checked(&place, &[]).await;
    assert!(table.contains(" needed"), "{table}");
    assert_eq!(json["upstream"]["routes"][0]["authentication"], true);
    assert_eq!(json["upstream"]["catalog"], false);
    assert!(said.contains("MongoDB asks for a login"), "{said}");
    assert!(!said.contains("it asks for no login"), "{said}");

    let uri = PathBuf::from(set.uri());
    let with_login = [("FIELDSEAL_URI", &*uri)];
    let (table, said, json) = checked(&place, &with_login).await;
    assert!(
        said.contains("root@admin may log in from any address"),
        "{said}"
    );
    let all = table + &said + &json.to_string();
    assert!(!all.contains("secret") && !all.contains("not%20a"), "{all}");

    let admin = set.client().await.database("admin");
    let bound = doc! { "updateUser": "root", "authenticationRestrictions": [{ "clientSource": ["127.0.0.1"] }] };
    admin.run_command(bound).await.unwrap();
    let (_, said, _) = checked(&place, &with_login).await;
    assert!(!said.contains("may log in from any address"), "{said}");
}

#[tokio::test]
async fn a_mongodb_that_requires_tls_is_known_and_so_is_one_that_cannot_be_spoken_to() {
    let ca = Authority::new("check");
    let identity = ca.directory().join("mongod.pem");
    ca.issue_with_pin(&identity, Wish::default());
    let client = ca.issue(Wish {
        name: "proxy",
        hosts: &["proxy.example"],
        expired: false,
    });
    let set = ReplicaSet::start(ReplicaSetOptions {
        tls: Some(MongodTls {
            ca: ca.ca(),
            identity,
            looker: client.clone(),
        }),
        ..ReplicaSetOptions::default()
    })
    .await;
    let tls = format!("[tls.upstream]\nca = {:?}\ncert = {client:?}\n", ca.ca());
    let with_tls = place(&set.addresses(), "shop", &tls);
    let (table, said, json) = checked(&with_tls, &[]).await;
    assert!(table.contains("required"), "{table}");
    assert_eq!(json["upstream"]["routes"][0]["answers_without_tls"], false);
    assert!(said.contains("it asks for no login"), "{said}");
    assert_eq!(json["upstream"]["catalog"], true, "{json:#}");

    let without = place(&set.addresses(), "shop", "");
    let (_, said, _) = checked(&without, &[]).await;
    assert!(
        said.contains("not reached: ") && said.contains("[tls.upstream]"),
        "{said}"
    );
}

#[tokio::test]
async fn a_member_without_a_route_is_named() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        members: 3,
        ..ReplicaSetOptions::default()
    })
    .await;
    let place = place(&set.addresses()[..2], "shop", "");
    let (table, said, json) = checked(&place, &[]).await;
    let third = &set.addresses()[2];
    assert!(
        said.contains(&format!("member {third}: has no [[route]]")),
        "{said}"
    );
    for routed in &set.addresses()[..2] {
        assert!(!said.contains(&format!("member {routed}")), "{said}");
        assert!(table.contains(routed.as_str()), "{table}");
    }
    assert_eq!(json["upstream"]["routes"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn tokens_of_a_field_that_is_no_longer_asked_for_are_told_of() {
    let set = shared_replica_set().await;
    let name = unique_database("check");
    let schema = format!(
        "[collections.\"{name}.people\".fields]\nssn = {{ type = \"string\", queries = [\"equality\"] }}\n"
    );
    let proxy = crate::support::Proxy::start(set, &schema).await;
    let people = proxy
        .client()
        .await
        .database(&name)
        .collection::<Document>("people");
    people
        .insert_one(doc! { "_id": 1, "ssn": "1" })
        .await
        .unwrap();
    let without = schema.replace(", queries = [\"equality\"]", "");
    fs::write(proxy.directory().join("schema.toml"), without).unwrap();
    let checked = crate::support::fieldseal(&["check", "--against"], &proxy.configuration());
    let said = error_text(&checked);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    let expected = format!("{name}.people `ssn`: 1 value with tokens");
    assert!(said.contains(&expected), "{said}");
}
