//! How many commands in a time.

use futures::future::join_all;
use mongodb::bson::doc;

use super::*;

const LIMITS: &str = "[limits]\ncommands_per_second = 5\ncommands_burst = 10\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_much_waits_or_is_refused_and_the_others_notice_nothing() {
    let proxy = start(LIMITS).await;
    let database = &unique_database("limits");
    let find = &doc! { "find": "people", "$db": database };
    let proxy = &proxy;
    let loud = join_all((0..10).map(|_| async move {
        let mut wire = one(proxy).await;
        let mut codes = Vec::new();
        for _ in 0..20 {
            codes.push(code(&wire.ask(find).await));
        }
        // It stays usable, and is found alive.
        assert!(wire.works().await);
        codes
    }));
    let quiet = async {
        let mut wire = other(proxy).await;
        for id in 0..4 {
            writes_and_finds(&mut wire, database, id).await;
        }
    };
    let (codes, ()) = tokio::join!(loud, quiet);
    let codes: Vec<i32> = codes.into_iter().flatten().collect();
    let served = codes.iter().filter(|code| **code == 0).count();
    assert!(served >= 10, "{codes:?}");
    assert!(codes.contains(&462), "{codes:?}");
    assert!(
        codes.iter().all(|code| matches!(code, 0 | 462)),
        "{codes:?}"
    );
}

#[tokio::test]
async fn a_driver_hears_the_error_as_it_is_and_a_changed_limit_holds_at_once() {
    let mut proxy = start("[limits]\ncommands_per_second = 1\n").await;
    let client = proxy.client().await;
    let people = client.database(&unique_database("limits"));
    let people = people.collection::<mongodb::bson::Document>("people");
    let inserting = join_all((0..10).map(|id| {
        let people = people.clone();
        async move { people.insert_one(doc! { "_id": id, "ssn": "1" }).await }
    }))
    .await;
    let errors: Vec<String> = (inserting.iter())
        .filter_map(|result| Some(result.as_ref().err()?.to_string()))
        .collect();
    assert!(!errors.is_empty(), "ten at once are more than one a second");
    for error in &errors {
        assert!(
            error.contains("462") && error.contains("commands_per_second"),
            "{error}"
        );
    }
    let text = std::fs::read_to_string(proxy.configuration()).unwrap();
    let text = text.replace("commands_per_second = 1\n", "commands_per_second = 1000\n");
    std::fs::write(proxy.configuration(), text).unwrap();
    proxy.process_mut().signal("HUP");
    proxy.wait_for_log(&["taken up anew"]).await;
    for id in 100..150 {
        people
            .insert_one(doc! { "_id": id, "ssn": "1" })
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn writes_that_want_no_answer_wait_and_are_not_lost() {
    use crate::support::wire::body;
    use fieldseal::wire::flag;

    let proxy = start("[limits]\ncommands_per_second = 10\ncommands_burst = 1\n").await;
    let database = unique_database("limits");
    let mut wire = one(&proxy).await;
    for id in 0..30 {
        let insert = doc! { "insert": "open", "documents": [{ "_id": id }], "$db": &database };
        wire.sections(flag::MORE_TO_COME, &body(&insert)).await;
    }
    // The next answer comes after all of them.
    assert!(wire.works().await);
    let stored = shared_replica_set()
        .await
        .client()
        .await
        .database(&database);
    let open = stored.collection::<mongodb::bson::Document>("open");
    assert_eq!(open.count_documents(doc! {}).await.unwrap(), 30);
}
