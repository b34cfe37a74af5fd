//! A client that costs little itself: messages made beforehand, over plain sockets, each
//! connection with one request under way.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::spread::quantile;
use crate::raw::Doc;
use crate::wire::{Header, MAX_MESSAGE, Reply, opcode};

/// Where the body of a [`request`] begins: after the header, the flags and the section's kind.
const BODY: usize = 16 + 4 + 1;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command that was not done.
#[derive(Debug, thiserror::Error)]
#[error("{command}: {reason}")]
pub struct LoadError {
    /// Its name: `find`.
    pub command: String,
    /// Why.
    pub reason: Reason,
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It answered an error, or something else than an answer.
    #[error("the answer is {0}")]
    Answer(String),
}

impl Reason {
    fn odd(error: &dyn std::fmt::Display) -> Self {
        Self::Answer(error.to_string())
    }

    /// Why this request was not done.
    fn of(self, request: &[u8]) -> LoadError {
        let command = command(request).unwrap_or("a request").to_owned();
        LoadError {
            command,
            reason: self,
        }
    }
}

/// The name of a request's command: the first key.
fn command(request: &[u8]) -> Option<&str> {
    let body = Doc::at(request, BODY, request.len()).ok()?;
    Some(body.elements().next()?.ok()?.key)
}

/// Where requests go.
#[derive(Debug, Clone)]
pub enum Target {
    /// Plain TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// TLS over TCP, with the name that the server has to prove.
    Tls(SocketAddr, Arc<ClientConfig>, ServerName<'static>),
}

/// One connection, of whichever kind.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Wire for S {}

impl Target {
    async fn connect(&self) -> io::Result<Box<dyn Wire>> {
        let tcp = async |address| {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            io::Result::Ok(stream)
        };
        Ok(match self {
            Self::Tcp(address) => Box::new(tcp(address).await?),
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tls(address, config, name) => {
                let connector = TlsConnector::from(Arc::clone(config));
                Box::new(connector.connect(name.clone(), tcp(address).await?).await?)
            }
        })
    }
}

/// A command as a whole `OP_MSG`.
pub fn request(command: &bson::Document) -> Vec<u8> {
    let body = bson::serialize_to_vec(command).expect("a document in memory");
    let mut frame = Vec::with_capacity(body.len() + 21);
    Header::append(1, 0, opcode::MSG, &mut frame);
    // No flags, and one section of kind 0.
    frame.extend_from_slice(&[0; 5]);
    frame.extend_from_slice(&body);
    crate::wire::finish(&mut frame).expect("a header and a document");
    frame
}

/// A command with documents beside its body, in a section of kind 1, as drivers send what they write.
pub fn request_with(
    command: &bson::Document,
    identifier: &str,
    documents: &[bson::Document],
) -> Vec<u8> {
    let mut frame = request(command);
    frame.push(1);
    let begin = frame.len();
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(identifier.as_bytes());
    frame.push(0);
    for document in documents {
        frame.extend(bson::serialize_to_vec(document).expect("a document in memory"));
    }
    let size = i32::try_from(frame.len() - begin).expect("less than a message may have");
    frame[begin..begin + 4].copy_from_slice(&size.to_le_bytes());
    crate::wire::finish(&mut frame).expect("a header and a document");
    frame
}

/// What a load did.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// How long it went on.
    pub elapsed: Duration,
    /// How long each request took, ascending, in microseconds.
    pub latencies: Vec<f64>,
}

impl Done {
    /// How many requests were answered.
    pub fn operations(&self) -> usize {
        self.latencies.len()
    }

    /// Requests in a second.
    pub fn throughput(&self) -> f64 {
        self.operations() as f64 / self.elapsed.as_secs_f64()
    }

    /// Half of the requests took less, in microseconds; no number of none.
    pub fn p50(&self) -> f64 {
        quantile(&self.latencies, 0.5).unwrap_or(f64::NAN)
    }

    /// One in a hundred took longer, in microseconds; no number of none.
    pub fn p99(&self) -> f64 {
        quantile(&self.latencies, 0.99).unwrap_or(f64::NAN)
    }
}

/// Connections that are open, to be used in one round after the other.
pub struct Load {
    connections: Vec<Connection>,
}

impl Load {
    /// Opens so many connections.
    pub async fn connect(target: &Target, connections: usize) -> io::Result<Self> {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(Connection::over(target.connect().await?));
        }
        Ok(Self { connections: open })
    }

    /// Sends these requests over all connections until the time is over: each connection
    /// begins at another one of them, and waits for each answer. Each sends at least one.
    ///
    /// After an error, no connection is left.
    pub async fn run(
        &mut self,
        requests: &Arc<[Vec<u8>]>,
        time: Duration,
    ) -> Result<Done, LoadError> {
        let mut tasks = JoinSet::new();
        let begun = Instant::now();
        let count = self.connections.len();
        for (number, mut connection) in self.connections.drain(..).enumerate() {
            let requests = Arc::clone(requests);
            tasks.spawn(async move {
                let first = requests.len() * number / count;
                let mut latencies = Vec::new();
                for request in requests.iter().cycle().skip(first) {
                    let sent = Instant::now();
                    let asked = connection.ask(request).await;
                    asked.map_err(|reason| reason.of(request))?;
                    latencies.push(sent.elapsed().as_secs_f64() * 1e6);
                    if begun.elapsed() >= time {
                        break;
                    }
                }
                // So that thousands of connections can have had a great answer.
                connection.answer = Vec::new();
                Ok::<_, LoadError>((connection, latencies))
            });
        }
        let mut done = Done::default();
        while let Some(ended) = tasks.join_next().await {
            // Only if it panics; none is aborted.
            let ended = ended.map_err(|error| Reason::Io(io::Error::other(error)).of(&[]))?;
            let (connection, latencies) = ended?;
            done.latencies.extend(latencies);
            self.connections.push(connection);
        }
        done.elapsed = begun.elapsed();
        done.latencies.sort_by(f64::total_cmp);
        Ok(done)
    }

    /// Sends one request over the first connection, and gives the body of its answer.
    pub async fn ask(&mut self, request: &[u8]) -> Result<bson::Document, LoadError> {
        let answer = async {
            let connection = (self.connections.first_mut())
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
            connection.ask(request).await?;
            let body = connection.body()?;
            bson::deserialize_from_slice(body.bytes()).map_err(|error| Reason::odd(&error))
        };
        answer.await.map_err(|reason: Reason| reason.of(request))
    }
}

struct Connection {
    stream: Box<dyn Wire>,
    /// The last answer.
    answer: Vec<u8>,
}

impl Connection {
    fn over(stream: Box<dyn Wire>) -> Self {
        Self {
            stream,
            answer: Vec::new(),
        }
    }

    /// Sends a request and waits for its answer, which has to be a success.
    async fn ask(&mut self, request: &[u8]) -> Result<(), Reason> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.answer.clear();
        loop {
            if let Some(header) =
                Header::read(&self.answer, MAX_MESSAGE).map_err(|error| Reason::odd(&error))?
            {
                if self.answer.len() >= header.length {
                    return self.judge();
                }
                self.answer.reserve(header.length - self.answer.len());
            }
            self.answer.reserve(16 * 1024);
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.answer))
                .await
                .map_err(io::Error::from)??;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    fn body(&self) -> Result<Doc<'_>, Reason> {
        match Reply::recognise(&self.answer).map_err(|error| Reason::odd(&error))? {
            Reply::Msg(message) => {
                let (start, end) = (message.body.start, message.body.end);
                Doc::at(&self.answer, start, end).map_err(|error| Reason::odd(&error))
            }
            Reply::Legacy(_) => Err(Reason::Answer("no OP_MSG".to_owned())),
        }
    }

    /// Whether it is a success. An error is told by its code and name alone: its message could hold a value.
    fn judge(&self) -> Result<(), Reason> {
        let body = self.body()?;
        let mut ok = false;
        let mut name = None;
        for element in body.elements() {
            let element = element.map_err(|error| Reason::odd(&error))?;
            match element.key {
                "ok" => ok = element.value() == 1.0_f64.to_le_bytes(),
                "writeErrors" => name = Some("writeErrors".to_owned()),
                "codeName" => name = element.str().map(str::to_owned),
                _ => {}
            }
        }
        match name {
            None if ok => Ok(()),
            name => Err(Reason::Answer(
                name.unwrap_or_else(|| "an error".to_owned()),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use bson::{Document, doc};
    use tokio::net::TcpListener;

    use super::*;
    use crate::wire::Message;

    /// Answers what it is asked by `answer`, in two parts, and closes when that gives nothing.
    async fn peer(answer: fn(Document) -> Option<Document>) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_i32_le().await {
                        let mut rest = vec![0; usize::try_from(length).unwrap() - 4];
                        stream.read_exact(&mut rest).await.unwrap();
                        let asked = bson::deserialize_from_slice(&rest[BODY - 4..]).unwrap();
                        let Some(answer) = answer(asked) else { break };
                        let frame = request(&answer);
                        let (first, second) = frame.split_at(frame.len() / 2);
                        stream.write_all(first).await.unwrap();
                        tokio::task::yield_now().await;
                        stream.write_all(second).await.unwrap();
                    }
                });
            }
        });
        Target::Tcp(address)
    }

    async fn fails(answer: fn(Document) -> Option<Document>) -> String {
        let mut load = Load::connect(&peer(answer).await, 2).await.unwrap();
        let requests: Arc<[Vec<u8>]> = [request(&doc! {"find": "people"})].into();
        let ran = load.run(&requests, Duration::from_secs(60)).await;
        let mut load = Load::connect(&peer(answer).await, 1).await.unwrap();
        let asked = load.ask(&requests[0]).await;
        let (ran, asked) = (ran.unwrap_err().to_string(), asked.unwrap_err().to_string());
        assert_eq!(ran, asked);
        ran
    }

    #[tokio::test]
    async fn each_connection_goes_on_until_the_time_is_over() {
        let target = peer(|_| Some(doc! {"filler": "x".repeat(100_000), "ok": 1.0})).await;
        let mut load = Load::connect(&target, 3).await.unwrap();
        let requests: Arc<[Vec<u8>]> = [request(&doc! {"ping": 1}), request(&doc! {"x": 1})].into();
        let once = load.run(&requests, Duration::ZERO).await.unwrap();
        assert_eq!(once.operations(), 3);
        let time = Duration::from_millis(50);
        let done = load.run(&requests, time).await.unwrap();
        assert!(done.elapsed >= time && done.operations() > 3);
        assert!(done.latencies.is_sorted() && done.p50() <= done.p99());
        assert!(done.throughput() > 0.0);
    }

    #[tokio::test]
    async fn the_answer_to_one_request_is_given() {
        let target = peer(|asked| Some(doc! {"asked": asked, "ok": 1.0})).await;
        let mut load = Load::connect(&target, 1).await.unwrap();
        let answer = load.ask(&request(&doc! {"ping": 7})).await.unwrap();
        assert_eq!(answer.get_document("asked").unwrap(), &doc! {"ping": 7});
    }

    #[tokio::test]
    async fn what_fails_is_told_with_its_command_and_without_values() {
        let canary = "078-05-1120";
        assert_eq!(
            fails(|_| Some(doc! {"ok": 0.0, "errmsg": "078-05-1120", "codeName": "BadValue"}))
                .await,
            "find: the answer is BadValue"
        );
        assert_eq!(
            fails(|_| Some(doc! {"ok": 1.0, "writeErrors": [{"errmsg": "078-05-1120"}]})).await,
            "find: the answer is writeErrors"
        );
        assert_eq!(
            fails(|_| Some(doc! {"n": 1})).await,
            "find: the answer is an error"
        );
        let closed = fails(|_| None).await;
        assert!(
            closed.starts_with("find: ") && !closed.contains(canary),
            "{closed}"
        );
    }

    #[test]
    fn documents_beside_a_body_make_a_message_that_is_recognised() {
        let documents = [doc! {"a": 1}, doc! {"b": "two"}];
        let frame = request_with(&doc! {"insert": "people"}, "documents", &documents);
        let Message::Msg(message) = Message::recognise(&frame).unwrap() else {
            panic!("an OP_MSG");
        };
        let [sequence] = &message.sequences[..] else {
            panic!("one section of kind 1");
        };
        assert_eq!(sequence.identifier, "documents");
        let held = &frame[sequence.documents.clone()];
        let expected: Vec<u8> = (documents.iter())
            .flat_map(|document| bson::serialize_to_vec(document).unwrap())
            .collect();
        assert_eq!(held, expected);
        assert_eq!(command(&frame), Some("insert"));
    }

    #[test]
    fn nothing_done_has_no_latency() {
        assert!(Done::default().p50().is_nan() && Done::default().p99().is_nan());
    }
}
