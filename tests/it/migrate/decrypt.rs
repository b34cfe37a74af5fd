//! The way back out, while services write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use mongodb::bson::{Document, doc};

use super::encrypt::{fill, person};
use super::{CANARY, Ground, holds};

const FIELDS: &str = r#"
ssn           = { type = "string", queries = ["equality"] }
tags          = { type = "string", queries = ["equality"] }
address       = {}
"visits.note" = { type = "string" }
"#;
const DOCUMENTS: i32 = 1500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_plain_again_and_no_write_is_lost() {
    let ground = Ground::new("allow", FIELDS).await;
    fill(&ground, DOCUMENTS).await;
    let index = mongodb::IndexModel::builder()
        .keys(doc! { "ssn": 1 })
        .build();
    let stored = ground.stored().await;
    stored.create_index(index).await.unwrap();
    ground.succeed(&["migrate", "encrypt"]);
    ground.schema("store", FIELDS);
    let (_proxy, client) = ground.proxy().await;
    let people = ground.people(&client);
    let end = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicI64::new(0));
    let writer = tokio::spawn({
        let (people, end, written) = (people.clone(), Arc::clone(&end), Arc::clone(&written));
        async move {
            let mut id = 0;
            while !end.load(Ordering::Relaxed) {
                id = (id + 7) % DOCUMENTS;
                let update = doc! {
                    "$inc": { "count": 1 },
                    "$set": { "ssn": format!("{CANARY}{id}"), "address": { "street": CANARY } },
                };
                people.update_one(doc! { "_id": id }, update).await.unwrap();
                written.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let text = ground.succeed_meanwhile(&["migrate", "decrypt"]).await;
    end.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    assert!(text.contains("nothing is left"), "{text}");
    assert!(text.contains("the index \"ssn_1\" is on tokens"), "{text}");

    let raw = ground.raw().await;
    assert_eq!(raw.len(), usize::try_from(DOCUMENTS).unwrap());
    let mut counted = 0;
    for document in raw {
        assert!(!holds(&document, &[0x8F, 0xF5, 0xEA, 0x1D]), "{document:?}");
        let mut document = Document::try_from(&*document).unwrap();
        counted += i64::from(document.get_i32("count").unwrap());
        document.insert("count", 0);
        let id = document.get_i32("_id").unwrap();
        assert_eq!(document, person(id));
    }
    assert_eq!(counted, written.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unique_index_on_tokens_is_dropped_before_the_tokens_go() {
    let ground = Ground::new("allow", FIELDS).await;
    fill(&ground, 20).await;
    let unique = mongodb::options::IndexOptions::builder()
        .unique(true)
        .build();
    let index = mongodb::IndexModel::builder()
        .keys(doc! { "ssn": 1 })
        .options(unique)
        .build();
    let stored = ground.stored().await;
    stored.create_index(index).await.unwrap();
    ground.succeed(&["migrate", "encrypt"]);
    ground.schema("store", FIELDS);
    let told = ground.fail(&["migrate", "decrypt"]);
    assert!(
        told.contains("\"ssn_1\"") && told.contains("drop it"),
        "{told}"
    );
    assert!(
        ground
            .raw()
            .await
            .iter()
            .all(|document| !holds(document, CANARY.as_bytes()))
    );
    stored.drop_index("ssn_1").await.unwrap();
    let text = ground.succeed(&["migrate", "decrypt"]);
    assert!(text.contains("nothing is left"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_ends_when_the_key_file_changes_under_it() {
    let ground = Ground::new("allow", FIELDS).await;
    fill(&ground, DOCUMENTS).await;
    let job = ground.fail_meanwhile(&["migrate", "encrypt", "--rate", "100"]);
    let stored = ground.stored().await;
    let rotated = async {
        let sealed = doc! { "ssn.e1": { "$exists": true } };
        while stored.count_documents(sealed.clone()).await.unwrap() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        ground.succeed(&["keys", "rotate", "default"]);
    };
    let (told, ()) = tokio::join!(job, rotated);
    assert!(told.contains("the key file changed"), "{told}");
    let text = ground.succeed(&["migrate", "encrypt"]);
    assert!(text.contains("nothing is left"), "{text}");
}
