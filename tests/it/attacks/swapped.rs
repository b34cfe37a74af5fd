//! Someone who may write to MongoDB itself exchanges tokens.

use mongodb::bson::{Document, doc};

use super::World;

/// Queries then find the wrong document, which is not detected; what it holds is still what was
/// sealed, so a service that compares sees it.
#[tokio::test]
async fn a_token_of_another_value_misleads_queries_and_changes_no_value() {
    let world = World::with_people().await;
    let raw = world.raw(1).await;
    let token = raw.get_document("ssn").unwrap().get("e1").unwrap().clone();
    world.tamper(2, doc! { "ssn.e1": token }).await;
    let people = world.through.collection::<Document>("people");
    let by = |ssn: &str| people.count_documents(doc! { "ssn": ssn });
    assert_eq!(by("ssn of Ada").await.unwrap(), 2);
    assert_eq!(by("ssn of Ben").await.unwrap(), 0);
    let ben = world.read(doc! { "_id": 2 }).await.unwrap().unwrap();
    assert_eq!(ben.get_str("ssn").unwrap(), "ssn of Ben");
}

#[tokio::test]
async fn a_token_that_is_taken_away_hides_a_document_from_queries_and_not_from_reads() {
    let world = World::with_people().await;
    let people = world.stored.collection::<Document>("people");
    let ssn = world.raw(1).await.get_document("ssn").unwrap().clone();
    let bare = doc! { "$set": { "ssn": ssn.get("c").unwrap() } };
    people.update_one(doc! { "_id": 1 }, bare).await.unwrap();
    let through = world.through.collection::<Document>("people");
    let found = through.count_documents(doc! { "ssn": "ssn of Ada" }).await;
    assert_eq!(found.unwrap(), 0);
    let ada = world.read(doc! { "_id": 1 }).await.unwrap().unwrap();
    assert_eq!(ada.get_str("ssn").unwrap(), "ssn of Ada");
}

/// Tokens are keyed for each field, so that those of one tell nothing in another.
#[tokio::test]
async fn a_token_of_one_field_matches_nothing_in_another() {
    let world = World::start().await;
    let people = world.through.collection::<Document>("people");
    let same = doc! { "_id": 1, "ssn": "same", "card": "same" };
    people.insert_one(same).await.unwrap();
    let raw = world.raw(1).await;
    let token = |field: &str| raw.get_document(field).unwrap().get("e1").unwrap().clone();
    assert_ne!(token("ssn"), token("card"));
    world.tamper(1, doc! { "card.e1": token("ssn") }).await;
    let found = people.count_documents(doc! { "card": "same" }).await;
    assert_eq!(found.unwrap(), 0);
}
