//! The Rust driver through the proxy; the steps are those of `tests/drivers/README.md`,
//! but for unacknowledged writes, which this driver refuses itself.

use futures::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{IndexOptions, ReturnDocument};
use mongodb::{Client, Collection, IndexModel};

use crate::support::{Proxy, ReplicaSet, ReplicaSetOptions, shared_replica_set};

type People = Collection<Document>;

const SCHEMA: &str = r#"
[collections."drivers_*.people".fields]
ssn            = { type = "string", queries = ["equality"] }
"payment.card" = { type = "string", queries = ["equality"] }
tags           = { type = "string", queries = ["equality"] }
address        = {}
"#;

/// Whether what is stored is sealed.
#[derive(Clone, Copy, PartialEq)]
enum Through {
    Mongod,
    Proxy,
}

#[tokio::test]
async fn the_steps_are_right_on_mongod_itself() {
    let set = shared_replica_set().await;
    all_steps(&set.client().await, set, Through::Mongod).await;
}

#[tokio::test]

async fn the_rust_driver_does_its_work_through_the_proxy_alone() {
    let set = ReplicaSet::start(ReplicaSetOptions {
        members: 3,
        ..ReplicaSetOptions::default()
    })
    .await;
    let proxy = Proxy::start(&set, SCHEMA).await;
    let mark = set.mark();
    all_steps(&proxy.client().await, &set, Through::Proxy).await;
    proxy.assert_no_way_round(&set, &mark).await;
}

async fn all_steps(client: &Client, set: &ReplicaSet, through: Through) {
    let people: People = client.database("drivers_rust").collection("people");
    insert(&people).await;
    find(&people).await;
    count_and_distinct(&people).await;
    cursor(&people).await;
    update(&people).await;
    find_and_modify(&people).await;
    bulk(&people).await;
    transaction(client, &people).await;
    unique_index(&people).await;
    refused(&people, through).await;
    let direct = set.members()[0].direct_client().await;
    stored(
        &direct.database("drivers_rust").collection("people"),
        through,
    )
    .await;
    delete(&people).await;
}

fn person(i: i32) -> Document {
    doc! {
        "_id": i,
        "name": format!("person {i}"),
        "city": if i % 2 == 1 { "Rome" } else { "Oslo" },
        "ssn": format!("900-00-{i:04}"),
        "payment": { "card": format!("4000-0000-0000-{i:04}"), "kind": "visa" },
        "address": { "street": format!("Street {i}"), "zip": 10_000 + i, "geo": [1.5, i] },
        "tags": ["everyone", format!("group {}", i % 5)],
    }
}

async fn one(people: &People, filter: Document) -> Option<Document> {
    people.find_one(filter).await.unwrap()
}

async fn ids(people: &People, filter: Document) -> Result<Vec<i32>, Error> {
    let found: Vec<Document> = people
        .find(filter)
        .sort(doc! { "_id": 1 })
        .await?
        .try_collect()
        .await?;
    Ok(found
        .iter()
        .map(|document| document.get_i32("_id").unwrap())
        .collect())
}

async fn count(people: &People, filter: Document) -> u64 {
    people.count_documents(filter).await.unwrap()
}

async fn insert(people: &People) {
    people.insert_one(person(0)).await.unwrap();
    let rest = people.insert_many((1..60).map(person)).await.unwrap();
    assert_eq!(rest.inserted_ids.len(), 59);
}

async fn find(people: &People) {
    assert_eq!(one(people, doc! { "_id": 7 }).await, Some(person(7)));
    let by_ssn = one(people, doc! { "ssn": "900-00-0007" }).await;
    assert_eq!(by_ssn, Some(person(7)));
    let by_card = one(people, doc! { "payment.card": "4000-0000-0000-0008" }).await;
    assert_eq!(by_card, Some(person(8)));
    assert_eq!(one(people, doc! { "ssn": "900-00-9999" }).await, None);

    let every = |step: usize, from: i32| (from..60).step_by(step).collect::<Vec<_>>();
    let romans = ids(people, doc! { "city": "Rome" }).await.unwrap();
    assert_eq!(romans, every(2, 1));
    let group = ids(people, doc! { "tags": "group 3" }).await.unwrap();
    assert_eq!(group, every(5, 3));
    let two = doc! { "ssn": { "$in": ["900-00-0001", "900-00-0002"] } };
    assert_eq!(ids(people, two).await.unwrap(), [1, 2]);
    let both = doc! { "tags": "group 3", "city": "Rome" };
    assert_eq!(ids(people, both).await.unwrap(), every(10, 3));
}

async fn count_and_distinct(people: &People) {
    assert_eq!(count(people, doc! { "tags": "group 3" }).await, 12);
    assert_eq!(count(people, doc! { "ssn": "900-00-0003" }).await, 1);
    assert_eq!(people.estimated_document_count().await.unwrap(), 60);
    let mut cities = people
        .distinct("city", doc! { "tags": "everyone" })
        .await
        .unwrap();
    cities.sort_by_key(ToString::to_string);
    assert_eq!(cities, [Bson::from("Oslo"), Bson::from("Rome")]);
}

async fn cursor(people: &People) {
    let found: Vec<Document> = people
        .find(doc! {})
        .sort(doc! { "_id": 1 })
        .batch_size(7)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(found, (0..60).map(person).collect::<Vec<_>>());
}

async fn update(people: &People) {
    let moved = doc! { "street": "Street of the moved", "zip": 1 };
    let change = doc! {
        "$set": { "ssn": "900-00-1010", "address": moved.clone() },
        "$push": { "tags": "late" },
    };
    let changed = people
        .update_one(doc! { "ssn": "900-00-0010" }, change)
        .await
        .unwrap();
    assert_eq!(changed.modified_count, 1);
    let mut expected = person(10);
    expected.insert("ssn", "900-00-1010");
    expected.insert("address", moved);
    expected.insert("tags", vec!["everyone", "group 0", "late"]);
    let found = one(people, doc! { "tags": "late" }).await;
    assert_eq!(found, Some(expected));

    let card = doc! { "payment.card": "4000-0000-0000-1111" };
    let changed = people
        .update_many(doc! { "tags": "group 1" }, doc! { "$set": card.clone() })
        .await
        .unwrap();
    assert_eq!(changed.matched_count, 12);
    assert_eq!(count(people, card).await, 12);

    let replaced = people
        .replace_one(doc! { "ssn": "900-00-1010" }, person(10))
        .await
        .unwrap();
    assert_eq!(replaced.modified_count, 1);
    assert_eq!(one(people, doc! { "_id": 10 }).await, Some(person(10)));

    let newcomer = doc! { "ssn": "900-00-2000" };
    let upserted = people
        .update_one(newcomer.clone(), doc! { "$set": { "city": "Bonn" } })
        .upsert(true)
        .await
        .unwrap();
    let expected =
        doc! { "_id": upserted.upserted_id.unwrap(), "ssn": "900-00-2000", "city": "Bonn" };
    assert_eq!(one(people, newcomer.clone()).await, Some(expected));
    assert_eq!(people.delete_one(newcomer).await.unwrap().deleted_count, 1);
}

async fn find_and_modify(people: &People) {
    let before = people
        .find_one_and_update(
            doc! { "ssn": "900-00-0020" },
            doc! { "$set": { "ssn": "900-00-1020" } },
        )
        .await
        .unwrap();
    assert_eq!(before, Some(person(20)));
    let after = people
        .find_one_and_replace(doc! { "ssn": "900-00-1020" }, person(20))
        .return_document(ReturnDocument::After)
        .await
        .unwrap();
    assert_eq!(after, Some(person(20)));
    let gone = people
        .find_one_and_delete(doc! { "ssn": "900-00-0020" })
        .await
        .unwrap();
    assert_eq!(gone, Some(person(20)));
    people.insert_one(person(20)).await.unwrap();
}

/// The driver's bulk writes across collections need MongoDB 8; these are those of one.
async fn bulk(people: &People) {
    for (ordered, base) in [(true, 110), (false, 120)] {
        let error = people
            .insert_many([base, 0, base + 1].map(person))
            .ordered(ordered)
            .await
            .unwrap_err();
        let ErrorKind::InsertMany(several) = *error.kind else {
            panic!("{error}");
        };
        let errors = several.write_errors.unwrap();
        assert_eq!(errors.len(), 1);
        assert_eq!((errors[0].index, errors[0].code), (1, 11000));
    }
    let deleted = people.delete_many(doc! { "_id": { "$gte": 100 } }).await;
    assert_eq!(deleted.unwrap().deleted_count, 3);
}

async fn transaction(client: &Client, people: &People) {
    let mut session = client.start_session().await.unwrap();
    let new_ssn = doc! { "ssn": "900-00-1200" };
    session.start_transaction().await.unwrap();
    people
        .insert_one(person(200))
        .session(&mut session)
        .await
        .unwrap();
    people
        .update_one(
            doc! { "ssn": "900-00-0200" },
            doc! { "$set": new_ssn.clone() },
        )
        .session(&mut session)
        .await
        .unwrap();
    assert_eq!(one(people, new_ssn.clone()).await, None);
    session.commit_transaction().await.unwrap();
    assert_eq!(count(people, new_ssn.clone()).await, 1);

    session.start_transaction().await.unwrap();
    people
        .insert_one(person(201))
        .session(&mut session)
        .await
        .unwrap();
    let inside = people
        .find_one(doc! { "ssn": "900-00-0201" })
        .session(&mut session)
        .await;
    assert_eq!(inside.unwrap(), Some(person(201)));
    session.abort_transaction().await.unwrap();
    assert_eq!(one(people, doc! { "ssn": "900-00-0201" }).await, None);
    let deleted = people.delete_one(new_ssn).await.unwrap();
    assert_eq!(deleted.deleted_count, 1);
}

async fn unique_index(people: &People) {
    let model = IndexModel::builder()
        .keys(doc! { "ssn": 1 })
        .options(IndexOptions::builder().unique(true).build())
        .build();
    let name = people.create_index(model).await.unwrap().index_name;
    assert!(people.list_index_names().await.unwrap().contains(&name));
    let mut duplicate = person(400);
    duplicate.insert("ssn", "900-00-0005");
    let error = people.insert_one(duplicate).await.unwrap_err();
    let ErrorKind::Write(WriteFailure::WriteError(write)) = *error.kind else {
        panic!("{error}");
    };
    assert_eq!(write.code, 11000);
    people.drop_index(name).await.unwrap();
}

async fn refused(people: &People, through: Through) {
    let answer = ids(people, doc! { "ssn": { "$gt": "900-00-0050" } }).await;
    match through {
        Through::Mongod => assert_eq!(answer.unwrap(), (51..60).collect::<Vec<_>>()),
        Through::Proxy => assert!(answer.unwrap_err().to_string().contains("fieldseal")),
    }
}

fn is_sealed(value: &Bson) -> bool {
    matches!(value, Bson::Binary(binary) if u8::from(binary.subtype) == 0x8F)
}

fn is_sealed_document(value: &Bson) -> bool {
    let Bson::Document(document) = value else {
        return false;
    };
    let is_token = |value: &Bson| matches!(value, Bson::Binary(binary) if binary.bytes.len() == 16);
    document.keys().eq(["c", "e1"])
        && is_sealed(document.get("c").unwrap())
        && is_token(document.get("e1").unwrap())
}

async fn stored(people: &People, through: Through) {
    let found: Vec<Document> = people
        .find(doc! {})
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(found.len(), 60);
    for document in found {
        let sealed = through == Through::Proxy;
        let payment = document.get_document("payment").unwrap();
        assert_eq!(is_sealed_document(document.get("ssn").unwrap()), sealed);
        assert_eq!(is_sealed_document(payment.get("card").unwrap()), sealed);
        assert_eq!(is_sealed(document.get("address").unwrap()), sealed);
        for tag in document.get_array("tags").unwrap() {
            assert_eq!(is_sealed_document(tag), sealed);
        }
        assert_eq!(payment.get_str("kind").unwrap(), "visa");
        let bytes = mongodb::bson::serialize_to_vec(&document).unwrap();
        for plain in ["900-00-", "4000-0000-", "Street ", "everyone"] {
            let there = memchr::memmem::find(&bytes, plain.as_bytes()).is_some();
            assert_eq!(there, !sealed, "{plain}");
        }
    }
}

async fn delete(people: &People) {
    let one = people.delete_one(doc! { "ssn": "900-00-0000" }).await;
    assert_eq!(one.unwrap().deleted_count, 1);
    let group = people.delete_many(doc! { "tags": "group 3" }).await;
    assert_eq!(group.unwrap().deleted_count, 12);
    let others = doc! { "ssn": { "$ne": "900-00-0001" } };
    let rest = people.delete_many(others).await;
    assert_eq!(rest.unwrap().deleted_count, 46);
    assert_eq!(ids(people, doc! {}).await.unwrap(), [1]);
}
