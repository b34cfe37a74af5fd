//! Who comes in, how many at a time, and for how long.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsAcceptor;
pub(super) use tokio_rustls::rustls::ServerConfig;

use crate::config::Address;

/// How many connections there may be at a time. For one more, that is closed which has been
/// there longest: those that hang must not keep out the probes by which others judge whether
/// the proxy lives.
pub(super) const MOST: usize = 64;

/// How long each may take, from the first byte of its handshake to the last one of its answer.
const VISIT: Duration = Duration::from_secs(10);

/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(200);

/// A bound socket that operators connect to.
pub(super) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket, which goes with it.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Best effort: a file that stays is found stale by the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Door {
    /// Listens on `address`.
    pub(super) async fn open(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(name) => Ok(Self::Tcp(TcpListener::bind(name.as_str()).await?)),
            Address::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                Ok(Self::Unix(listener, SocketFile(path.clone())))
            }
        }
    }

    /// What was bound.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.to_string(),
                Err(_) => "unknown".to_owned(),
            },
            Self::Unix(_, SocketFile(path)) => format!("unix:{}", path.display()),
        }
    }

    /// Lets guests in; does not end. TLS is for TCP alone: a Unix socket does not leave the machine.
    pub(super) async fn keep(
        self,
        tls: Option<Arc<ArcSwap<ServerConfig>>>,
        queue: mpsc::Sender<Guest>,
    ) {
        let mut visits: VecDeque<oneshot::Sender<()>> = VecDeque::new();
        loop {
            let socket = match self.accept().await {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::debug!(%error, "the admin endpoint cannot accept a connection");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            visits.retain(|visit| !visit.is_closed());
            if visits.len() >= MOST {
                visits.pop_front();
            }
            let (visit, mut time) = Time::begin();
            visits.push_back(visit);
            let tls = match &self {
                Self::Tcp(_) => tls.as_ref().map(|tls| tls.load_full()),
                Self::Unix(..) => None,
            };
            let queue = queue.clone();
            tokio::spawn(async move {
                let begun = async {
                    Ok::<_, io::Error>(match tls {
                        Some(tls) => Box::pin(TlsAcceptor::from(tls).accept(socket).await?),
                        None => socket,
                    })
                };
                let stream = tokio::select! {
                    begun = begun => begun,
                    () = poll_fn(|context| time.poll_over(context)) => return,
                };
                let Ok(stream) = stream else {
                    return;
                };
                // Fails only when the endpoint ends.
                let _ = queue.send(Guest { stream, time }).await;
            });
        }
    }

    async fn accept(&self) -> io::Result<Pin<Box<dyn Both>>> {
        Ok(match self {
            Self::Tcp(listener) => Box::pin(listener.accept().await?.0),
            Self::Unix(listener, _) => Box::pin(listener.accept().await?.0),
        })
    }
}

/// Removes the file of a Unix socket that nobody listens on any more.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if metadata.file_type().is_socket()
        && let Err(error) = UnixStream::connect(path).await
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Both directions of a connection.
pub(super) trait Both: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Both for T {}

/// How long a visit may still last.
struct Time {
    until: Pin<Box<Sleep>>,
    /// Ready once its other half is dropped.
    ended: oneshot::Receiver<()>,
    over: bool,
}

impl Time {
    /// A visit's time begins; it ends early when the other half is dropped.
    fn begin() -> (oneshot::Sender<()>, Self) {
        let (visit, ended) = oneshot::channel();
        let time = Self {
            until: Box::pin(sleep(VISIT)),
            ended,
            over: false,
        };
        (visit, time)
    }

    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.over = self.over
            || self.until.as_mut().poll(context).is_ready()
            || Pin::new(&mut self.ended).poll(context).is_ready();
        match self.over {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

/// A connection that lasts until its time is over.
pub(super) struct Guest {
    stream: Pin<Box<dyn Both>>,
    time: Time,
}

impl Guest {
    fn still(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.time.poll_over(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.still(context)?;
        self.stream.as_mut().poll_read(context, into)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.still(context)?;
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.still(context)?;
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.still(context)?;
        self.stream.as_mut().poll_shutdown(context)
    }
}

/// Those who came in, for the HTTP server.
pub(super) struct Guests {
    queue: mpsc::Receiver<Guest>,
    address: String,
}

impl Guests {
    /// Of the listener at `address`, with the way to put them in.
    pub(super) fn new(address: String) -> (Self, mpsc::Sender<Guest>) {
        let (sender, queue) = mpsc::channel(MOST);
        (Self { queue, address }, sender)
    }
}

impl axum::serve::Listener for Guests {
    type Io = Guest;
    type Addr = String;

    async fn accept(&mut self) -> (Guest, String) {
        match self.queue.recv().await {
            Some(guest) => (guest, self.address.clone()),
            // Nobody lets anyone in any more: the endpoint is about to end.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<String> {
        Ok(self.address.clone())
    }
}
