//! Writes that MongoDB did though their answer was lost: drivers try again, and they
//! are done once.

use futures::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use mongodb::error::ErrorKind;

use super::SCHEMA;
use crate::support::{Proxy, ProxyOptions, Relay, shared_replica_set, unique_database};

struct Cut {
    relay: Relay,
    /// Runs as long as the test.
    _proxy: Proxy,
    people: Collection<Document>,
    stored: Collection<Document>,
}

impl Cut {
    async fn start() -> Self {
        let set = shared_replica_set().await;
        let relay = Relay::start(set.addresses()[0].clone()).await;
        let options = ProxyOptions {
            schema: SCHEMA,
            log_level: "debug",
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_through(set, &[relay.address().to_owned()], options).await;
        let name = unique_database("connections");
        let people = proxy.client().await.database(&name).collection("people");
        let stored = set.client().await.database(&name).collection("people");
        Self {
            relay,
            _proxy: proxy,
            people,
            stored,
        }
    }

    /// Loses the answer to the next command of this name.
    fn lose(&self, command: &str) {
        self.relay
            .cut_after(&[b"\x02", command.as_bytes(), b"\0"].concat());
    }

    /// What is stored, all of it sealed, after an answer was lost.
    async fn stored(&self) -> usize {
        assert!(self.relay.has_cut(), "no answer was lost");
        let all: Vec<Document> = self
            .stored
            .find(doc! {})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert!(all.iter().all(|person| person.get_document("ssn").is_ok()));
        all.len()
    }

    async fn person(&self, id: i32) -> Document {
        self.people
            .find_one(doc! { "_id": id })
            .await
            .unwrap()
            .unwrap()
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_done_once() {
    let cut = Cut::start().await;
    cut.lose("insert");
    cut.people
        .insert_one(doc! { "_id": 1, "ssn": "a", "n": 0 })
        .await
        .unwrap();
    assert_eq!(cut.stored().await, 1);

    let change = |ssn: &str| doc! { "$set": { "ssn": ssn }, "$inc": { "n": 1 } };
    cut.lose("update");
    let done = cut
        .people
        .update_one(doc! { "ssn": "a" }, change("b"))
        .await
        .unwrap();
    assert_eq!((done.matched_count, done.modified_count), (1, 1));
    assert_eq!(cut.stored().await, 1);
    assert_eq!(cut.person(1).await, doc! { "_id": 1, "ssn": "b", "n": 1 });

    cut.lose("findAndModify");
    let found = cut
        .people
        .find_one_and_update(doc! { "ssn": "b" }, change("c"))
        .await
        .unwrap();
    assert_eq!(found, Some(doc! { "_id": 1, "ssn": "b", "n": 1 }));
    assert_eq!(cut.stored().await, 1);
    assert_eq!(cut.person(1).await, doc! { "_id": 1, "ssn": "c", "n": 2 });

    cut.lose("find");
    assert_eq!(cut.person(1).await, doc! { "_id": 1, "ssn": "c", "n": 2 });
    assert_eq!(cut.stored().await, 1);

    cut.lose("delete");
    let done = cut.people.delete_one(doc! { "ssn": "c" }).await.unwrap();
    assert_eq!(done.deleted_count, 1);
    assert_eq!(cut.stored().await, 0);
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_done_once_beside_what_was_refused() {
    let cut = Cut::start().await;
    let people = [
        doc! { "_id": 1, "ssn": "a" },
        doc! { "_id": 2, "ssn": 5 },
        doc! { "_id": 3, "ssn": "c" },
        doc! { "_id": 4, "ssn": "d" },
    ];
    cut.lose("insert");
    let error = cut
        .people
        .insert_many(people)
        .ordered(false)
        .await
        .unwrap_err();
    let ErrorKind::InsertMany(error) = *error.kind else {
        panic!("{error}");
    };
    // Tried again, none of the others is a duplicate of itself.
    let errors: Vec<(usize, i32)> = error
        .write_errors
        .iter()
        .flatten()
        .map(|error| (error.index, error.code))
        .collect();
    assert_eq!(errors, [(1, 121)]);
    assert_eq!(cut.stored().await, 3);
    assert_eq!(cut.person(4).await, doc! { "_id": 4, "ssn": "d" });
}
