//! A field that is sealed with XAES-256-GCM does all that others do, and values of
//! either suite are read whatever the schema says now.

use std::fs;
use std::time::Instant;

use fieldseal::seal::{FieldId, Header};
use futures::TryStreamExt as _;
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Collection};

use crate::support::{
    PATIENCE, Process, Proxy, command, error_text, fieldseal, new_directory, shared_replica_set,
    unique_database,
};

/// Bytes before the ciphertext, by suite.
const HEADERS: [usize; 2] = [28, 40];
const TAG: usize = 16;

fn schema(suite: &str) -> String {
    format!(
        r#"
[collections."suites_*.people".fields]
account = {{ type = "string", queries = ["equality"], suite = "{suite}" }}
codes = {{ type = "int", queries = ["equality"], suite = "{suite}" }}
"visits.note" = {{ type = "string", suite = "{suite}" }}
plan = {{ type = "string", queries = ["equality"] }}
"#
    )
}

/// A collection through a proxy, and as MongoDB holds it.
struct World {
    proxy: Proxy,
    people: Collection<Document>,
    stored: Collection<Document>,
    /// Of the proxy's driver, which is kept.
    _client: Client,
}

impl World {
    async fn start(suite: &str) -> Self {
        let set = shared_replica_set().await;
        let proxy = Proxy::start(set, &schema(suite)).await;
        let client = proxy.client().await;
        let name = unique_database("suites");
        Self {
            people: client.database(&name).collection("people"),
            stored: set.client().await.database(&name).collection("people"),
            proxy,
            _client: client,
        }
    }

    async fn stored(&self, id: i32) -> Document {
        let found = self.stored.find_one(doc! { "_id": id }).await.unwrap();
        found.unwrap()
    }

    async fn opened(&self, filter: Document) -> Vec<Document> {
        let found = self.people.find(filter).sort(doc! { "_id": 1 }).await;
        found.unwrap().try_collect().await.unwrap()
    }

    /// Asserts that `value` is the sealed form, under the suite of the byte `suite`, of
    /// a BSON value of `length` bytes for the field `path`.
    #[track_caller]
    fn assert_sealed(&self, value: Option<&Bson>, suite: u8, path: &str, length: usize) {
        let Some(Bson::Binary(sealed)) = value else {
            panic!("not sealed: {value:?}");
        };
        assert_eq!(u8::from(sealed.subtype), 0x8F);
        assert_eq!(&sealed.bytes[..4], [0xF5, 0xEA, 0x1D, suite]);
        let header = Header::read(&sealed.bytes).unwrap();
        let namespace = self.people.namespace().to_string();
        assert_eq!(header.field, FieldId::of(&namespace, path));
        let before = HEADERS[usize::from(suite) - 1];
        assert_eq!(sealed.bytes.len(), before + 1 + length + TAG, "{path}");
    }
}

fn person(id: i32) -> Document {
    doc! {
        "_id": id,
        "account": format!("account {id}"),
        "codes": [id, 7, id + 1],
        "visits": [{ "note": "first" }, { "note": "then", "n": 1 }],
        "plan": "gold",
    }
}

/// The bytes of a BSON string: length, text, zero.
fn string(text: &str) -> usize {
    4 + text.len() + 1
}

#[tokio::test]
async fn values_are_stored_under_the_suite_of_their_field() {
    let world = World::start("xaes-256-gcm").await;
    world.people.insert_one(person(1)).await.unwrap();
    let stored = world.stored(1).await;
    let account = stored.get_document("account").unwrap();
    assert_eq!(account.keys().collect::<Vec<_>>(), ["c", "e1"]);
    world.assert_sealed(account.get("c"), 2, "account", string("account 1"));
    for code in stored.get_array("codes").unwrap() {
        world.assert_sealed(code.as_document().unwrap().get("c"), 2, "codes", 4);
    }
    for (visit, note) in stored
        .get_array("visits")
        .unwrap()
        .iter()
        .zip(["first", "then"])
    {
        let visit = visit.as_document().unwrap();
        world.assert_sealed(visit.get("note"), 2, "visits.note", string(note));
    }
    let plan = stored.get_document("plan").unwrap();
    world.assert_sealed(plan.get("c"), 1, "plan", string("gold"));
    assert_eq!(world.opened(doc! {}).await, [person(1)]);
}

#[tokio::test]
async fn a_field_of_suite_2_is_found_updated_grouped_and_read() {
    let world = World::start("xaes-256-gcm").await;
    let people = &world.people;
    people.insert_many((1..=3).map(person)).await.unwrap();
    let by_account = doc! { "account": { "$in": ["account 1", "account 3"] } };
    assert_eq!(world.opened(by_account).await, [person(1), person(3)]);
    assert_eq!(
        world.opened(doc! { "codes": 3 }).await,
        [person(2), person(3)]
    );

    let change = doc! {
        "$set": { "account": "moved", "visits.1.note": "changed" },
        "$push": { "codes": 99 },
    };
    let before = people
        .find_one_and_update(doc! { "account": "account 2" }, change)
        .await;
    assert_eq!(before.unwrap(), Some(person(2)));
    let mut expected = person(2);
    expected.insert("account", "moved");
    expected.insert("codes", [2, 7, 3, 99].map(Bson::from).to_vec());
    expected.insert(
        "visits",
        vec![doc! { "note": "first" }, doc! { "note": "changed", "n": 1 }],
    );
    assert_eq!(world.opened(doc! { "codes": 99 }).await, [expected.clone()]);
    assert_eq!(world.opened(doc! { "account": "moved" }).await, [expected]);
    let stored = world.stored(2).await;
    let account = stored.get_document("account").unwrap();
    world.assert_sealed(account.get("c"), 2, "account", string("moved"));
    let last = stored.get_array("codes").unwrap()[3].as_document().unwrap();
    world.assert_sealed(last.get("c"), 2, "codes", 4);

    let stages = [
        doc! { "$unwind": "$codes" },
        doc! { "$group": { "_id": "$codes", "n": { "$sum": 1 } } },
        doc! { "$match": { "n": 3 } },
    ];
    let groups: Vec<Document> = people
        .aggregate(stages)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(groups, [doc! { "_id": 7, "n": 3 }]);
    let mut accounts = people.distinct("account", doc! {}).await.unwrap();
    accounts.sort_by_key(|account| account.as_str().map(str::to_owned));
    assert_eq!(
        accounts,
        ["account 1", "account 3", "moved"].map(Bson::from)
    );
}

#[tokio::test]
async fn values_of_both_suites_are_read_whatever_the_schema_says() {
    let mut world = World::start("aes-256-gcm").await;
    world.people.insert_one(person(1)).await.unwrap();
    for (id, suite) in [(2, "xaes-256-gcm"), (3, "aes-256-gcm")] {
        fs::write(world.proxy.directory().join("schema.toml"), schema(suite)).unwrap();
        let words = "schema and keyring taken up anew";
        let times = usize::try_from(id).unwrap() - 1;
        let deadline = Instant::now() + PATIENCE;
        while world.proxy.log().matches(words).count() < times {
            assert!(world.proxy.process_mut().ended().is_none());
            assert!(Instant::now() < deadline, "{}", world.proxy.log());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        world.people.insert_one(person(id)).await.unwrap();
    }
    for (id, suite) in [(1, 1), (2, 2), (3, 1)] {
        let stored = world.stored(id).await;
        let account = stored.get_document("account").unwrap();
        world.assert_sealed(account.get("c"), suite, "account", string("account 1"));
    }
    let all = [person(1), person(2), person(3)];
    assert_eq!(world.opened(doc! {}).await, all);
    assert_eq!(world.opened(doc! { "codes": 7 }).await, all);
    assert_eq!(
        world.opened(doc! { "account": "account 2" }).await,
        [person(2)]
    );
}

#[tokio::test]
async fn a_value_under_the_name_of_another_suite_is_an_error_and_not_a_value() {
    let world = World::start("xaes-256-gcm").await;
    world.people.insert_one(person(1)).await.unwrap();
    let stored = world.stored(1).await;
    for byte in [0, 1, 3, 255] {
        let mut changed = stored.clone();
        let account = changed.get_document_mut("account").unwrap();
        let Some(Bson::Binary(sealed)) = account.get_mut("c") else {
            panic!("not sealed");
        };
        sealed.bytes[3] = byte;
        let replaced = world.stored.replace_one(doc! { "_id": 1 }, changed).await;
        assert_eq!(replaced.unwrap().modified_count, 1);
        let error = world.people.find_one(doc! {}).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`account` cannot be opened"), "{text}");
        assert!(!text.contains("account 1"), "{text}");
    }
}

#[tokio::test]
async fn a_key_older_than_the_configuration_wants_is_warned_of() {
    const WORDS: &str = "version 1 of the key \"default\" is ";
    let world = World::start("xaes-256-gcm").await;
    let text = fs::read_to_string(world.proxy.configuration()).unwrap();
    let configure = |max_age: &str| {
        let path = world.proxy.directory().join("aged.toml");
        let keyring = format!("[keyring]\nmax_age = \"{max_age}\"");
        fs::write(&path, text.replace("[keyring]", &keyring)).unwrap();
        path
    };
    let patient = fieldseal(&["check"], &configure("1y"));
    assert!(patient.status.success() && !error_text(&patient).contains(WORDS));
    let aged = configure("1s");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let checked = fieldseal(&["check"], &aged);
        assert!(checked.status.success(), "{}", error_text(&checked));
        if error_text(&checked).contains(WORDS) {
            break;
        }
        assert!(Instant::now() < deadline, "{}", error_text(&checked));
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let mut serving = Process::start(&command(&["serve"], &aged), new_directory("aged"));
    while !serving.output().contains(WORDS) {
        assert!(serving.ended().is_none(), "{}", serving.output());
        assert!(Instant::now() < deadline, "{}", serving.output());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(serving.output().contains("`fieldseal keys rotate default`"));
}
