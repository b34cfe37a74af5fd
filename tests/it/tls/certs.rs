//! `fieldseal certs`, and what `fieldseal check` says of certificates.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use mongodb::Client as Driver;
use mongodb::bson::{Document, doc};

use super::SCHEMA;
use super::authority::{Authority, Wish};
use crate::support::{
    MongodTls, Proxy, ProxyOptions, ReplicaSet, ReplicaSetOptions, error_text, fieldseal,
    new_directory, unique_database, write_configuration,
};

fn certs(arguments: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fieldseal"))
        .arg("certs")
        .arg(directory)
        .args(arguments)
        .output()
        .unwrap()
}

#[tokio::test]
async fn its_files_and_its_words_are_enough_for_tls_from_service_to_mongodb() {
    let authority = Authority::new("unused");
    let directory = authority.directory().join("certs");
    let made = certs(&["--host", "db.example"], &directory);
    assert!(made.status.success(), "{}", error_text(&made));
    let text = String::from_utf8(made.stdout).unwrap();
    let file = |name: &str| directory.join(name);
    let set = ReplicaSet::start(ReplicaSetOptions {
        tls: Some(MongodTls {
            ca: file("ca.pem"),
            identity: file("mongod.pem"),
            looker: file("client.pem"),
        }),
        ..ReplicaSetOptions::default()
    })
    .await;
    // As it printed them.
    let from = text.find("[tls.listen]").unwrap();
    let to = text.find("mongod --tlsMode").unwrap();
    let options = ProxyOptions {
        schema: SCHEMA,
        configuration: &text[from..to],
        ..ProxyOptions::default()
    };
    let proxy = Proxy::start_with(&set, options).await;
    let connect = text.lines().last().unwrap();
    let driver = Driver::with_uri_str(format!("{}&{connect}", proxy.uri()))
        .await
        .unwrap();
    let people = driver
        .database(&unique_database("tls"))
        .collection::<Document>("people");
    let person = doc! { "_id": 1, "ssn": "078-05-1120" };
    people.insert_one(&person).await.unwrap();
    let found = people.find_one(doc! { "ssn": "078-05-1120" }).await;
    assert_eq!(found.unwrap().unwrap(), person);

    let again = certs(&[], &directory);
    assert_eq!(again.status.code(), Some(1));
    assert!(error_text(&again).contains("is not overwritten"));
}

#[test]
fn check_tells_every_certificate_that_cannot_be_used() {
    let directory = new_directory("check");
    let ca = Authority::new("check");
    let expired = ca.issue(Wish {
        expired: true,
        ..Wish::default()
    });
    let other = ca.issue(Wish {
        name: "other",
        ..Wish::default()
    });
    let configuration = format!(
        "[tls.listen]\ncert = {expired:?}\n[tls.upstream]\nca = {:?}\ncert = {:?}\nkey = {other:?}\n",
        directory.join("none.pem"),
        ca.issue(Wish {
            name: "third",
            ..Wish::default()
        }),
    );
    let upstreams = ["127.0.0.1:27017".to_owned()];
    let options = ProxyOptions {
        configuration: &configuration,
        ..ProxyOptions::default()
    };
    let file = write_configuration(&directory, &upstreams, options);
    assert!(fieldseal(&["keys", "init"], &file).status.success());
    let checked = fieldseal(&["check"], &file);
    assert_eq!(checked.status.code(), Some(1));
    let told = error_text(&checked);
    assert_eq!(told.lines().count(), 3, "{told}");
    for part in [
        "the certificate ended on 2020-01-01",
        "is not the key of the certificate in",
        "none.pem: cannot be read",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }

    let right = format!("[tls.listen]\ncert = {other:?}\n");
    let options = ProxyOptions {
        configuration: &right,
        ..ProxyOptions::default()
    };
    let file = write_configuration(&directory, &upstreams, options);
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
    let checked = fieldseal(&["check"], &file);
    assert!(checked.status.success(), "{}", error_text(&checked));
    assert!(error_text(&checked).contains("run `chmod 600"));
    fs::remove_dir_all(&directory).unwrap();
}
