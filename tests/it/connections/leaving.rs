//! A client that goes away takes its operation with it, and a proxy that stops lets it end.

use futures::future::join_all;
use mongodb::bson::{Bson, Document, doc};

use super::{start, wait_until};
use crate::support::wire::{Wire, answer, body, msg};
use crate::support::{WITH_JAVASCRIPT, unique_database};

/// How a client leaves.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// The socket is closed.
    Close,
    /// Only the client's way to the server is closed.
    HalfClose,
    /// The socket is reset, as when a process is killed with unread bytes.
    Reset,
    /// Another request was sent already.
    Pipelined,
    /// Many other requests were sent already.
    PipelinedMuch,
}

/// Longer than the test waits for the operation to be gone.
const LONG: i64 = 300_000;

/// Commands on open collections that take longer than any test.
fn endless(database: &str, comment: &str) -> Vec<Document> {
    let sleep = format!("sleep({LONG}) || true");
    vec![
        doc! { "find": "open", "filter": { "$where": &sleep }, "comment": comment, "$db": database },
        doc! { "count": "open", "query": { "$where": sleep }, "comment": comment, "$db": database },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_ends_its_operation_however_it_goes() {
    let (set, proxy) = start(WITH_JAVASCRIPT).await;
    let database = &unique_database("connections");
    let open = set.client().await.database(database);
    let open = open.collection::<Document>("open");
    open.insert_one(doc! { "_id": 1 }).await.unwrap();
    let address = &proxy.addresses()[0];
    let ways = [
        Leaving::Close,
        Leaving::HalfClose,
        Leaving::Reset,
        Leaving::Pipelined,
        Leaving::PipelinedMuch,
    ];
    let clients = (0..10).map(|client| async move {
        let way = ways[client % ways.len()];
        let comment = format!("{database} {client} {way:?}");
        let commands = endless(database, &comment);
        let mut wire = Wire::connect(address).await;
        wire.hello().await;
        wire.command(0, &commands[client / ways.len()]).await;
        wait_until(set, &comment, true).await;
        leave(wire, way).await;
        wait_until(set, &comment, false).await;
    });
    join_all(clients).await;
}

/// Leaves; what comes back keeps a half-closed connection from being closed as a whole.
async fn leave(mut wire: Wire, way: Leaving) {
    let ping = msg(0, &body(&doc! { "ping": 1, "$db": "admin" }));
    match way {
        Leaving::Close => {}
        Leaving::HalfClose => {
            wire.finish().await;
            wire.receive_all().await;
        }
        Leaving::Reset => wire.reset(),
        Leaving::Pipelined => assert!(wire.send(&ping).await),
        Leaving::PipelinedMuch => {
            assert!(wire.send(&ping.repeat(300_000 / ping.len())).await);
        }
    }
}

#[tokio::test]
async fn a_proxy_that_is_told_to_stop_lets_operations_end_and_disconnects_the_rest() {
    let (set, mut proxy) = start(WITH_JAVASCRIPT).await;
    let database = &unique_database("connections");
    let open = set.client().await.database(database);
    let open = open.collection::<Document>("open");
    open.insert_one(doc! { "_id": 1 }).await.unwrap();
    // A driver watches the servers with replies that stream, and waits for the next of them.
    let driver = proxy.client().await;
    driver.list_database_names().await.unwrap();
    let address = proxy.addresses()[0].clone();
    let mut idle = Wire::connect(&address).await;
    assert!(idle.works().await);
    let mut waiting = Wire::connect(&address).await;
    let hello = waiting.hello().await;
    let version: Bson = hello.get_document("topologyVersion").unwrap().into();
    let wait =
        doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": LONG, "$db": "admin" };
    waiting.command(0, &wait).await;
    let mut busy = Wire::connect(&address).await;
    let find = doc! {
        "find": "open", "filter": { "$where": "sleep(1500) || true" }, "comment": database, "$db": database,
    };
    busy.command(0, &find).await;
    wait_until(set, database, true).await;

    // Its log is still wanted when it has ended.
    std::fs::write(proxy.directory().join("keep"), "").unwrap();
    proxy.process_mut().signal("TERM");
    assert_eq!(idle.receive().await, None);
    let told = answer(&waiting.receive().await.expect("told at once"));
    assert_eq!(told.get_i32("code").unwrap(), 91, "{told}");
    assert_eq!(waiting.receive().await, None);
    let found = answer(&busy.receive().await.expect("the operation was cut off"));
    assert_eq!(found.get_f64("ok").unwrap(), 1.0);
    assert_eq!(busy.receive().await, None);
    assert!(proxy.process_mut().wait().await.success());
    tokio::net::TcpStream::connect(&address).await.unwrap_err();
    let log = proxy.log();
    assert!(
        log.contains("stopped") && !log.contains("cut off;") && !log.contains("were cut off"),
        "{log}"
    );
}
