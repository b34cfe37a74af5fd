//! Untouched traffic is byte for byte the same, both ways: on collections in which
//! nothing is sealed, and everywhere when nothing is. The handshake is not among it.

mod odd;

use std::collections::HashSet;

use futures::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, WriteConcern};
use mongodb::{Client, Collection};

use crate::support::wire::{
    Wire, answer, body, document, flags, int32_at, msg, numbered, query, response_to, sequence_of,
    split,
};
use crate::support::{
    Proxy, ProxyOptions, Recorded, Relay, WITH_JAVASCRIPT, shared_replica_set, unique_database,
};
use fieldseal::wire::{flag, opcode};

/// Nothing is sealed, or only in another database, or beside the collections that
/// these tests use.
const SCHEMAS: [&str; 3] = [
    "",
    "[collections.\"other.people\".fields]\nssn = { type = \"string\", queries = [\"equality\"] }\n",
    BESIDE,
];
/// Here the proxy asks MongoDB now and then which views there are, over the client's connection.
const BESIDE: &str = "[collections.\"untouched_*.people\".fields]\nssn = { type = \"string\", queries = [\"equality\"] }\n";
/// The number of the proxy's own requests; no driver counts down to it.
const OWN: i32 = i32::MIN;

/// A proxy whose connections to mongod are recorded.
struct Recording {
    relay: Relay,
    proxy: Proxy,
    /// Whether the proxy may have requests of its own.
    asks: bool,
}

impl Recording {
    async fn start(schema: &str) -> Self {
        let set = shared_replica_set().await;
        let relay = Relay::start(set.members()[0].address()).await;
        let options = ProxyOptions {
            schema,
            configuration: WITH_JAVASCRIPT,
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_through(set, &[relay.address().to_owned()], options).await;
        Self {
            relay,
            proxy,
            asks: schema == BESIDE,
        }
    }

    /// The frames of a connection without those of the proxy's own questions.
    fn of_the_client<'c>(&self, connection: &'c Recorded) -> (Vec<&'c [u8]>, Vec<&'c [u8]>) {
        let (mut requests, mut replies) = (split(&connection.requests), split(&connection.replies));
        if self.asks {
            requests.retain(|request| {
                let own = int32_at(request, 4) == OWN;
                assert!(!own || answer(request).contains_key("listCollections"));
                !own
            });
            replies.retain(|reply| response_to(reply) != OWN);
        }
        (requests, replies)
    }

    async fn exchange(&self) -> Exchange<'_> {
        Exchange {
            recording: self,
            client: Wire::connect(&self.proxy.addresses()[0]).await,
            sent: Vec::new(),
            received: Vec::new(),
        }
    }
}

/// A client that knows all it sent and received.
struct Exchange<'r> {
    recording: &'r Recording,
    client: Wire,
    sent: Vec<Vec<u8>>,
    received: Vec<Vec<u8>>,
}

impl Exchange<'_> {
    /// Sends a request under a number of its own, which it gives.
    async fn send(&mut self, request: Vec<u8>) -> i32 {
        let number = 1000 + i32::try_from(self.sent.len()).unwrap();
        let request = numbered(request, number);
        assert!(self.client.send(&request).await);
        self.sent.push(request);
        number
    }

    async fn receive(&mut self) -> Vec<u8> {
        let reply = self.client.receive().await.unwrap();
        self.received.push(reply.clone());
        reply
    }

    /// Sends a request and receives its reply, which answers it and not another one.
    async fn ask(&mut self, request: Vec<u8>) -> Vec<u8> {
        let number = self.send(request).await;
        let reply = self.receive().await;
        assert_eq!(response_to(&reply), number);
        reply
    }

    async fn run(&mut self, command: Document) -> Vec<u8> {
        self.ask(msg(0, &body(&command))).await
    }

    /// Asserts that what one side sent is what the other one received.
    fn assert_same(&self) {
        let connections = self.recording.relay.connections();
        // The others are the proxy's own, to learn its members' names.
        let recorded = connections
            .iter()
            .find(|connection| split(&connection.requests).contains(&&self.sent[0][..]))
            .expect("the first request is on record as it was sent");
        let (requests, replies) = self.recording.of_the_client(recorded);
        assert_frames(&self.sent, &requests, "requests");
        assert_frames(&self.received, &replies, "replies");
    }
}

fn assert_frames(client: &[Vec<u8>], mongod: &[&[u8]], what: &str) {
    assert_eq!(client.len(), mongod.len(), "as many {what}");
    for (number, (client, mongod)) in client.iter().zip(mongod).enumerate() {
        // Not assert_eq: some of them are megabytes.
        let at = client.iter().zip(*mongod).position(|(a, b)| a != b);
        let lengths = (client.len(), mongod.len());
        assert!(
            client == mongod,
            "{what}, {number}: {lengths:?}, from {at:?}"
        );
    }
}

#[tokio::test]
async fn sections_in_either_order_checksums_and_odd_flags_pass_as_they_are() {
    for schema in SCHEMAS {
        let recording = Recording::start(schema).await;
        let mut client = recording.exchange().await;
        let database = unique_database("untouched");
        let insert = body(&doc! { "insert": "open", "$db": &database });
        let update = body(&doc! { "update": "open", "ordered": false, "$db": &database });
        let delete = body(&doc! { "delete": "open", "$db": &database });
        let mut inserted = 0;
        // MongoDB ignores the upper half of the flags, but for what it knows.
        for flags in [
            0,
            flag::CHECKSUM_PRESENT,
            flag::EXHAUST_ALLOWED,
            1 << 20,
            1 << 31 | flag::CHECKSUM_PRESENT,
        ] {
            for body_first in [true, false] {
                let sequence = sequence_of(
                    "documents",
                    &[
                        doc! { "_id": inserted, "ssn": "in the open" },
                        doc! { "_id": inserted + 1 },
                    ],
                );
                let sections: [&[u8]; 2] = if body_first {
                    [&insert, &sequence]
                } else {
                    [&sequence, &insert]
                };
                let told = client.ask(msg(flags, &sections.concat())).await;
                assert_eq!(answer(&told).get_i32("n").unwrap(), 2);
                inserted += 2;
            }
            let statements = sequence_of(
                "updates",
                &[
                    doc! { "q": { "_id": 0 }, "u": { "$set": { "ssn": { "$literal": 1 } } } },
                    doc! { "q": { "_id": 1 }, "u": [{ "$set": { "x": "$ssn" } }] },
                ],
            );
            client
                .ask(msg(flags, &[&statements[..], &update].concat()))
                .await;
            let statements = sequence_of(
                "deletes",
                &[doc! { "q": { "ssn": { "$regex": "^x" } }, "limit": 0 }],
            );
            client
                .ask(msg(flags, &[&delete[..], &statements].concat()))
                .await;
        }
        let told = client.run(doc! { "count": "open", "$db": &database }).await;
        assert_eq!(answer(&told).get_i32("n").unwrap(), inserted);
        client.assert_same();
    }
}

#[tokio::test]
async fn every_bson_value_and_every_answer_passes_as_it_is() {
    for schema in SCHEMAS {
        let recording = Recording::start(schema).await;
        let mut client = recording.exchange().await;
        let database = unique_database("untouched");
        for document in odd::documents() {
            let insert = odd::insert("open", &document, &database);
            let told = client.ask(msg(0, &[&[0], &insert[..]].concat())).await;
            assert_eq!(answer(&told).get_i32("n").unwrap(), 1);
        }
        for command in [
            doc! { "find": "open" },
            doc! { "find": "open", "filter": { "$where": "true" }, "sort": { "ssn": 1 }, "projection": { "a": 0 } },
            doc! { "find": "open", "filter": { "$nosuch": 1 } },
            doc! { "aggregate": "open", "cursor": {}, "pipeline": [{ "$group": { "_id": "$ssn" } }] },
            doc! { "distinct": "open", "key": "ssn" },
            doc! { "mapReduce": "open", "map": "function() { emit(1, 1) }", "reduce": "function(k, v) { return 1 }", "out": { "inline": 1 } },
            doc! { "createIndexes": "open", "indexes": [{ "key": { "ssn": "text" }, "name": "text" }] },
            doc! { "listIndexes": "open" },
            doc! { "explain": { "find": "open", "filter": { "ssn": { "$gt": 1 } } } },
            doc! { "create": "view", "viewOn": "open", "pipeline": [{ "$match": { "ssn": 1 } }] },
            doc! { "listCollections": 1, "filter": {}, "comment": { "any": "thing" } },
            doc! { "renameCollection": "x" },
            doc! { "dbStats": 1 },
            doc! { "ping": 1, "nosuch": 1 },
        ] {
            let mut command = command;
            command.insert("$db", &database);
            client.run(command).await;
        }
        // Only known commands may pass where anything is sealed.
        if schema.is_empty() {
            client.run(doc! { "nosuch": 1, "$db": &database }).await;
            let sealed = odd::insert("open", &odd::looks_sealed(), &database);
            client.ask(msg(0, &[&[0], &sealed[..]].concat())).await;
            client.run(doc! { "find": "open", "$db": &database }).await;
            let operation = doc! { "op": "i", "ns": format!("{database}.open"), "o": { "_id": 1 } };
            client
                .run(doc! { "applyOps": [operation], "$db": "admin" })
                .await;
        }
        let legacy = query("admin.$cmd", &document(&doc! { "buildInfo": 1 }));
        client.ask(legacy).await;
        client.assert_same();
    }
}

#[tokio::test]
async fn streams_of_replies_and_requests_without_replies_pass_as_they_are() {
    for schema in SCHEMAS {
        let recording = Recording::start(schema).await;
        let mut client = recording.exchange().await;
        let database = unique_database("untouched");
        let unacknowledged =
            body(&doc! { "insert": "open", "writeConcern": { "w": 0 }, "$db": &database });
        for first in (0..40).step_by(10) {
            let documents: Vec<Document> =
                (first..first + 10).map(|id| doc! { "_id": id }).collect();
            let sequence = sequence_of("documents", &documents);
            let flags = if first == 20 {
                flag::MORE_TO_COME | flag::CHECKSUM_PRESENT
            } else {
                flag::MORE_TO_COME
            };
            client
                .send(msg(flags, &[&sequence[..], &unacknowledged].concat()))
                .await;
        }
        let find = doc! { "find": "open", "batchSize": 3, "sort": { "_id": 1 }, "$db": &database };
        let told = answer(&client.run(find).await);
        let cursor = told.get_document("cursor").unwrap().get_i64("id").unwrap();
        let get_more =
            doc! { "getMore": cursor, "collection": "open", "batchSize": 5, "$db": &database };
        client.run(get_more.clone()).await;
        let request = msg(flag::EXHAUST_ALLOWED, &body(&get_more));
        let mut reply = client.ask(request).await;
        let mut streamed = 1;
        while flags(&reply) & flag::MORE_TO_COME != 0 {
            reply = client.receive().await;
            streamed += 1;
        }
        // 40 documents less 3 and 5, by 5.
        assert_eq!(streamed, 7);
        client.run(doc! { "ping": 1, "$db": "admin" }).await;
        client.assert_same();
    }
}

#[tokio::test]
async fn messages_of_many_megabytes_pass_as_they_are() {
    for schema in SCHEMAS {
        let recording = Recording::start(schema).await;
        let mut client = recording.exchange().await;
        let database = unique_database("untouched");
        let documents =
            [1, 2, 3].map(|id| doc! { "_id": id, "text": id.to_string().repeat(7 << 20) });
        let insert = body(&doc! { "insert": "open", "$db": &database });
        let request = msg(
            flag::CHECKSUM_PRESENT,
            &[&sequence_of("documents", &documents)[..], &insert].concat(),
        );
        let told = client.ask(request).await;
        assert_eq!(answer(&told).get_i32("n").unwrap(), 3);
        let find = doc! { "find": "open", "$db": &database };
        let reply = answer(&client.run(find).await);
        let batch = reply
            .get_document("cursor")
            .unwrap()
            .get_array("firstBatch");
        assert_eq!(batch.unwrap().len(), 2);
        client.run(doc! { "drop": "open", "$db": &database }).await;
        client.assert_same();
    }
}

/// What a connection carried, without the handshake: frames of requests and of replies.
type Carried = (Vec<Vec<u8>>, Vec<Vec<u8>>);

#[tokio::test]
async fn what_a_driver_sends_passes_as_it_is() {
    for schema in SCHEMAS {
        let recording = Recording::start(schema).await;
        let front = Relay::start(recording.proxy.addresses()[0].clone()).await;
        let mut options = ClientOptions::parse(format!("mongodb://{}/", front.address()))
            .await
            .unwrap();
        options.direct_connection = Some(true);
        let client = Client::with_options(options).unwrap();
        let database = unique_database("untouched");
        drive(&client, &client.database(&database).collection("open")).await;

        let (client, mongod) = (
            carried(&front, &recording),
            carried(&recording.relay, &recording),
        );
        assert!(
            client
                .iter()
                .map(|(requests, _)| requests.len())
                .sum::<usize>()
                > 15
        );
        assert!(
            client == mongod,
            "what the driver sent is not what mongod received, or the replies"
        );
    }
}

async fn drive(client: &Client, open: &Collection<Document>) {
    let people = (0..50).map(|id| doc! { "_id": id, "ssn": format!("{id}"), "tags": ["a", "b"] });
    open.insert_many(people).await.unwrap();
    let pattern = doc! { "ssn": { "$regex": "1" } };
    let found = open.find(pattern.clone()).batch_size(3).await.unwrap();
    assert_eq!(found.try_collect::<Vec<_>>().await.unwrap().len(), 14);
    let pipeline = [doc! { "$set": { "ssn": { "$toLower": "$ssn" } } }];
    open.update_many(doc! {}, pipeline.to_vec()).await.unwrap();
    open.delete_one(doc! { "ssn": "2" }).await.unwrap();
    open.find_one_and_delete(pattern)
        .sort(doc! { "ssn": 1 })
        .await
        .unwrap();
    let group = doc! { "$group": { "_id": "$tags", "n": { "$sum": 1 } } };
    open.aggregate([group]).await.unwrap();
    open.distinct("ssn", doc! {}).await.unwrap();
    let twin = doc! { "_id": 5 };
    open.insert_one(&twin).await.unwrap_err();
    open.clone_with_type::<Document>()
        .find_one(doc! { "$nosuch": 1 })
        .await
        .unwrap_err();

    let mut session = client.start_session().await.unwrap();
    for commit in [true, false] {
        session
            .start_transaction()
            .write_concern(WriteConcern::majority())
            .await
            .unwrap();
        open.update_one(twin.clone(), doc! { "$inc": { "n": 1 } })
            .session(&mut session)
            .await
            .unwrap();
        open.find_one(twin.clone())
            .session(&mut session)
            .await
            .unwrap();
        if commit {
            session.commit_transaction().await.unwrap();
        } else {
            session.abort_transaction().await.unwrap();
        }
    }
}

/// What the connections of a relay carried, in an order that does not depend on time.
fn carried(relay: &Relay, recording: &Recording) -> Vec<Carried> {
    let mut all: Vec<Carried> = Vec::new();
    for connection in relay.connections() {
        let (mut requests, mut replies) = recording.of_the_client(&connection);
        let mut greetings = HashSet::new();
        requests.retain(|request| {
            let greets = is_hello(request);
            if greets {
                greetings.insert(int32_at(request, 4));
            }
            !greets
        });
        replies.retain(|reply| {
            let greets = greetings.contains(&response_to(reply));
            if greets {
                // Each reply of a stream answers the one before it.
                greetings.insert(int32_at(reply, 4));
            }
            !greets
        });
        if !requests.is_empty() {
            let owned = |frames: Vec<&[u8]>| frames.into_iter().map(<[u8]>::to_vec).collect();
            all.push((owned(requests), owned(replies)));
        }
    }
    all.sort();
    all
}

fn is_hello(request: &[u8]) -> bool {
    if int32_at(request, 12) != opcode::MSG {
        return true;
    }
    let command = answer(request);
    let name = command.keys().next().unwrap();
    ["hello", "isMaster", "ismaster"].contains(&name.as_str())
}
