//! A relay in front of a server that records every byte, both ways.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What went over one connection so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    /// From the client to the server.
    pub(crate) requests: Vec<u8>,
    /// From the server to the client.
    pub(crate) replies: Vec<u8>,
}

type Records = Arc<Mutex<Vec<Recorded>>>;

/// A listening relay. Dropping it stops it and cuts no connection.
pub(crate) struct Relay {
    address: String,
    records: Records,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// A relay in front of the server at `upstream`.
    pub(crate) async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let records = Records::default();
        let accepting = tokio::spawn(accept(listener, upstream, Arc::clone(&records)));
        Self {
            address,
            records,
            accepting,
        }
    }

    /// Where it listens: `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The connections so far, in the order in which they came.
    pub(crate) fn connections(&self) -> Vec<Recorded> {
        self.records.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, upstream: String, records: Records) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let Ok(server) = TcpStream::connect(&upstream).await else {
            continue;
        };
        let number = {
            let mut records = records.lock().unwrap();
            records.push(Recorded::default());
            records.len() - 1
        };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (up, down) = (Arc::clone(&records), Arc::clone(&records));
        tokio::spawn(pass_on(from_client, to_server, move |bytes| {
            up.lock().unwrap()[number].requests.extend_from_slice(bytes);
        }));
        tokio::spawn(pass_on(from_server, to_client, move |bytes| {
            down.lock().unwrap()[number]
                .replies
                .extend_from_slice(bytes);
        }));
    }
}

/// Records first, so that what has arrived is on record.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    record: impl Fn(&[u8]),
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        record(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}
