//! A relay in front of a server that records every byte, both ways.

use std::sync::atomic::{AtomicBool, Ordering};
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

/// What the next request holds whose answer is to be lost.
type Doom = Arc<Mutex<Option<Vec<u8>>>>;

/// A listening relay. Dropping it stops it and cuts no connection.
pub(crate) struct Relay {
    address: String,
    records: Records,
    doom: Doom,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// A relay in front of the server at `upstream`.
    pub(crate) async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let records = Records::default();
        let doom = Doom::default();
        let (known, doomed) = (Arc::clone(&records), Arc::clone(&doom));
        let accepting = tokio::spawn(accept(listener, upstream, known, doomed));
        Self {
            address,
            records,
            doom,
            accepting,
        }
    }

    /// Where it listens: `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Closes the connection of the next request that holds `words`, once the server
    /// has answered it, and in place of the answer.
    pub(crate) fn cut_after(&self, words: &[u8]) {
        *self.doom.lock().unwrap() = Some(words.to_vec());
    }

    /// Whether that has happened, or at least its request has come.
    pub(crate) fn has_cut(&self) -> bool {
        self.doom.lock().unwrap().is_none()
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

async fn accept(listener: TcpListener, upstream: String, records: Records, doom: Doom) {
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
        let doom = Arc::clone(&doom);
        let lost = Arc::new(AtomicBool::new(false));
        let losing = Arc::clone(&lost);
        tokio::spawn(pass_on(from_client, to_server, move |bytes| {
            up.lock().unwrap()[number].requests.extend_from_slice(bytes);
            let mut doom = doom.lock().unwrap();
            if doom.as_ref().is_some_and(|words| contains(bytes, words)) {
                *doom = None;
                losing.store(true, Ordering::SeqCst);
            }
            true
        }));
        tokio::spawn(pass_on(from_server, to_client, move |bytes| {
            down.lock().unwrap()[number]
                .replies
                .extend_from_slice(bytes);
            !lost.load(Ordering::SeqCst)
        }));
    }
}

fn contains(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

/// Records first, so that what has arrived is on record, and ends where recording says so.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    record: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if !record(&buffer[..length]) {
            break;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}
