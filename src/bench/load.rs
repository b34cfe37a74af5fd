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

use crate::raw::Doc;
use crate::wire::{Header, MAX_MESSAGE, Reply, opcode};

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a request was answered with, if it was not what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It answered an error, or something else than an answer.
    #[error("the answer is {0}")]
    Answer(String),
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
    /// begins at another one of them, and waits for each answer.
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
                    connection.ask(request).await?;
                    latencies.push(sent.elapsed().as_secs_f64() * 1e6);
                    if begun.elapsed() >= time {
                        break;
                    }
                }
                Ok::<_, LoadError>((connection, latencies))
            });
        }
        let mut done = Done::default();
        while let Some(ended) = tasks.join_next().await {
            let (connection, latencies) = ended.map_err(io::Error::other)??;
            done.latencies.extend(latencies);
            self.connections.push(connection);
        }
        done.elapsed = begun.elapsed();
        done.latencies.sort_by(f64::total_cmp);
        Ok(done)
    }

    /// Sends one request over the first connection, and gives the body of its answer.
    pub async fn ask(&mut self, request: &[u8]) -> Result<bson::Document, LoadError> {
        let connection = (self.connections.first_mut())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        connection.ask(request).await?;
        let body = connection.body()?;
        bson::deserialize_from_slice(body.bytes())
            .map_err(|error| LoadError::Answer(error.to_string()))
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
    async fn ask(&mut self, request: &[u8]) -> Result<(), LoadError> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.answer.clear();
        loop {
            if let Some(header) = Header::read(&self.answer, MAX_MESSAGE)
                .map_err(|error| LoadError::Answer(error.to_string()))?
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

    fn body(&self) -> Result<Doc<'_>, LoadError> {
        let odd = |error: &dyn std::fmt::Display| LoadError::Answer(error.to_string());
        match Reply::recognise(&self.answer).map_err(|error| odd(&error))? {
            Reply::Msg(message) => {
                let (start, end) = (message.body.start, message.body.end);
                Doc::at(&self.answer, start, end).map_err(|error| odd(&error))
            }
            Reply::Legacy(_) => Err(LoadError::Answer("no OP_MSG".to_owned())),
        }
    }

    /// Whether it is a success. An error is told by its code and name alone: its message could hold a value.
    fn judge(&self) -> Result<(), LoadError> {
        let body = self.body()?;
        let mut ok = false;
        let mut name = None;
        for element in body.elements() {
            let element = element.map_err(|error| LoadError::Answer(error.to_string()))?;
            match element.key {
                "ok" => ok = element.value() == 1.0_f64.to_le_bytes(),
                "writeErrors" => name = Some("writeErrors".to_owned()),
                "codeName" => name = element.str().map(str::to_owned),
                _ => {}
            }
        }
        match name {
            None if ok => Ok(()),
            name => Err(LoadError::Answer(
                name.unwrap_or_else(|| "an error".to_owned()),
            )),
        }
    }
}
