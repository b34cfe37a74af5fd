//! Someone who may write to MongoDB itself alters, moves or brings back sealed values.

use mongodb::bson::{Document, doc};

use super::{World, sealed, sealed_bytes};

const MOVED: &str = "was sealed for another field or collection and moved there";

#[tokio::test]
async fn a_value_in_another_field_is_an_error_and_not_that_fields_value() {
    let world = World::with_people().await;
    let raw = world.raw(1).await;
    for (from, to) in [
        ("ssn", "card"),
        ("note", "other_note"),
        ("note", "address"),
        ("address", "note"),
        ("note", "ssn.c"),
    ] {
        let before = world.raw(1).await;
        let value = match to {
            "ssn.c" => sealed(sealed_bytes(raw.get(from).unwrap())),
            _ => raw.get(from).unwrap().clone(),
        };
        world.tamper(1, doc! { to: value }).await;
        let path = to.trim_end_matches(".c");
        let error = world.error(doc! { "_id": 1 }).await;
        assert!(
            error.contains(MOVED) && error.contains(&format!("`{path}`")),
            "{from} to {to}: {error}"
        );
        assert!(!error.contains("of Ada"), "{error}");
        // Who asks for other documents is not disturbed.
        assert!(world.read(doc! { "_id": 2 }).await.unwrap().is_some());
        let people = world.stored.collection::<Document>("people");
        people.replace_one(doc! { "_id": 1 }, before).await.unwrap();
    }
    assert!(world.read(doc! { "_id": 1 }).await.unwrap().is_some());
}

#[tokio::test]
async fn a_value_in_a_field_of_the_same_name_in_another_collection_is_an_error() {
    let world = World::with_people().await;
    let ssn = world.raw(1).await.get("ssn").unwrap().clone();
    let patients = world.stored.collection::<Document>("patients");
    let planted = doc! { "_id": 1, "ssn": ssn };
    patients.insert_one(planted).await.unwrap();
    let patients = world.through.collection::<Document>("patients");
    let error = patients.find_one(doc! { "_id": 1 }).await.unwrap_err();
    assert!(error.to_string().contains(MOVED), "{error}");
    // Nor is it found there by its value: tokens are of one field.
    let found = patients.find_one(doc! { "ssn": "ssn of Ada" }).await;
    assert_eq!(found.unwrap(), None);
}

#[tokio::test]
async fn a_changed_byte_is_an_error_wherever_it_is() {
    let world = World::with_people().await;
    let raw = world.raw(1).await;
    let bytes = sealed_bytes(raw.get("note").unwrap());
    // After the magic: suite, key id, field id, nonce, ciphertext, tag.
    for at in [
        3,
        4,
        7,
        8,
        15,
        16,
        27,
        28,
        bytes.len() - 16,
        bytes.len() - 1,
    ] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        world.tamper(1, doc! { "note": sealed(changed) }).await;
        let error = world.error(doc! { "_id": 1 }).await;
        assert!(!error.contains("of Ada"), "byte {at}: {error}");
    }
    // A value that takes on the name of the field to which it is moved.
    let mut renamed = sealed_bytes(raw.get("other_note").unwrap());
    renamed[8..16].copy_from_slice(&bytes[8..16]);
    world.tamper(1, doc! { "note": sealed(renamed) }).await;
    let error = world.error(doc! { "_id": 1 }).await;
    assert!(!error.contains("of Ada"), "{error}");
    // Cut short, and without its magic.
    for short in [&bytes[..bytes.len() - 1], &bytes[..20], &bytes[1..], &[]] {
        world
            .tamper(1, doc! { "note": sealed(short.to_vec()) })
            .await;
        world.error(doc! { "_id": 1 }).await;
    }
}

#[tokio::test]
async fn plaintext_in_the_place_of_a_sealed_value_is_an_error() {
    let world = World::with_people().await;
    for planted in [
        doc! { "note": "planted" },
        doc! { "ssn": "planted" },
        doc! { "address": { "street": "planted" } },
    ] {
        let before = world.raw(1).await;
        world.tamper(1, planted).await;
        let error = world.error(doc! { "_id": 1 }).await;
        assert!(error.contains("plaintext is stored"), "{error}");
        assert!(!error.contains("planted"), "{error}");
        let people = world.stored.collection::<Document>("people");
        people.replace_one(doc! { "_id": 1 }, before).await.unwrap();
    }
}

/// Not detected in this version: nothing in a sealed value says whose it is.
#[tokio::test]
async fn a_value_in_the_same_field_of_another_document_is_taken_for_its_own() {
    let world = World::with_people().await;
    let ssn = world.raw(1).await.get("ssn").unwrap().clone();
    world.tamper(2, doc! { "ssn": ssn }).await;
    let ben = world.read(doc! { "_id": 2 }).await.unwrap().unwrap();
    assert_eq!(ben.get_str("ssn").unwrap(), "ssn of Ada");
    assert_eq!(ben.get_str("card").unwrap(), "card of Ben");
}

/// Not detected in this version: nothing outside MongoDB knows what was there last.
#[tokio::test]
async fn a_value_that_is_put_back_as_it_was_earlier_is_taken_for_the_last() {
    let world = World::with_people().await;
    let old = world.raw(1).await.get("note").unwrap().clone();
    let people = world.through.collection::<Document>("people");
    let update = doc! { "$set": { "note": "new note of Ada" } };
    people.update_one(doc! { "_id": 1 }, update).await.unwrap();
    world.tamper(1, doc! { "note": old }).await;
    let ada = world.read(doc! { "_id": 1 }).await.unwrap().unwrap();
    assert_eq!(ada.get_str("note").unwrap(), "note of Ada");
}

/// Opened, as a pipeline may have put it there: who may read the open field reads the value.
#[tokio::test]
async fn a_value_in_an_open_field_is_opened_there() {
    let world = World::with_people().await;
    let note = world.raw(1).await.get("note").unwrap().clone();
    world.tamper(2, doc! { "open": note.clone() }).await;
    let ben = world.read(doc! { "_id": 2 }).await.unwrap().unwrap();
    assert_eq!(ben.get_str("open").unwrap(), "note of Ada");
    let plain = world.stored.collection::<Document>("plain");
    plain
        .insert_one(doc! { "_id": 1, "x": note })
        .await
        .unwrap();
    let plain = world.through.collection::<Document>("plain");
    let found = plain.find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(found.get_str("x").unwrap(), "note of Ada");
}
