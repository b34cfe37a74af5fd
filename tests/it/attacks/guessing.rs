//! Guessing passwords through the proxy. MongoDB judges each; the proxy passes its answer on.

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, Credential};

use super::World;
use crate::support::{ReplicaSet, ReplicaSetOptions};

async fn login(world: &World, user: &str, password: &str) -> Result<Document, Error> {
    let uri = format!(
        "mongodb://{}/?directConnection=true",
        world.proxy.addresses()[0]
    );
    let mut options = ClientOptions::parse(uri).await.unwrap();
    let credential = Credential::builder()
        .username(user.to_owned())
        .password(password.to_owned())
        .build();
    options.credential = Some(credential);
    let client = Client::with_options(options).unwrap();
    let read = doc! { "find": "people" };
    let answer = client
        .database(world.through.name())
        .run_command(read)
        .await;
    client.shutdown().immediate(true).await;
    answer
}

/// What a client is told when it may not log in.
fn told(error: &Error) -> (i32, String) {
    match error.kind.as_ref() {
        ErrorKind::Authentication { message, .. } => {
            use std::error::Error as _;
            let source = error
                .source()
                .and_then(|source| source.downcast_ref::<Error>());
            let code = source.and_then(|source| match source.kind.as_ref() {
                ErrorKind::Command(error) => Some(error.code),
                _ => None,
            });
            (code.unwrap_or(18), message.clone())
        }
        ErrorKind::Command(error) => (error.code, error.message.clone()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn wrong_passwords_get_mongodbs_refusal_and_the_right_one_still_gets_in() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        auth: true,
        ..ReplicaSetOptions::default()
    })
    .await;
    let world = World::before(&set).await;
    let mut answers = Vec::new();
    for (user, password) in [
        ("root", "wrong"),
        ("root", ""),
        ("root", "not a secret "),
        ("root", "NOT A SECRET"),
        ("nobody", "not a secret"),
    ] {
        let error = login(&world, user, password).await.unwrap_err();
        let (code, message) = told(&error);
        assert_eq!(code, 18, "{user}, {password}: {error}");
        answers.push(message);
    }
    // Who guesses learns nothing of which users there are.
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    for _ in 0..20 {
        assert!(login(&world, "root", "guess").await.is_err());
    }
    login(&world, "root", "not a secret").await.unwrap();
    assert!(!world.proxy.log().contains("not a secret"));
}

#[tokio::test]
async fn who_is_not_logged_in_gets_nothing_but_what_mongodb_gives_to_everybody() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        auth: true,
        ..ReplicaSetOptions::default()
    })
    .await;
    let world = World::before(&set).await;
    let mut wire = world.wire().await;
    assert!(wire.works().await);
    for command in [
        doc! { "find": "people", "filter": { "ssn": "ssn of Ada" } },
        doc! { "insert": "people", "documents": [{ "ssn": "ssn of Ada" }] },
        doc! { "aggregate": "people", "pipeline": [], "cursor": {} },
        doc! { "listCollections": 1 },
    ] {
        let mut command = command;
        command.insert("$db", world.through.name());
        let answer = wire.ask(&command).await;
        assert_eq!(answer.get_i32("code").unwrap(), 13, "{command}: {answer}");
    }
}
