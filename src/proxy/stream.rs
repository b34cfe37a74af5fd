//! Sockets: TCP and Unix, listening and connecting.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, split};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream, lookup_host, tcp};
use tokio_rustls::rustls::ProtocolVersion;

use crate::config::Address;
use crate::tls::ClientCertificate;

/// What is read from a peer.
pub(super) enum ReadHalf {
    Tcp(tcp::OwnedReadHalf),
    /// TLS, a Unix socket, or a pipe in memory.
    Other(Box<dyn AsyncRead + Send + Unpin>),
}

/// What is written to a peer.
pub(super) enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    /// TLS, a Unix socket, or a pipe in memory.
    Other(Box<dyn AsyncWrite + Send + Unpin>),
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(context, into),
            Self::Other(half) => Pin::new(half).poll_read(context, into),
        }
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_write(context, bytes),
            Self::Other(half) => Pin::new(half).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_flush(context),
            Self::Other(half) => Pin::new(half).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_shutdown(context),
            Self::Other(half) => Pin::new(half).poll_shutdown(context),
        }
    }
}

/// How many connections the system queues for the accept loop.
const BACKLOG: u32 = 1024;

/// Both directions of a connection.
pub(super) struct Stream {
    /// From the peer.
    pub(super) read: ReadHalf,
    /// To the peer.
    pub(super) write: WriteHalf,
    /// The peer's address.
    pub(super) peer: String,
    /// The same without its port; none for a Unix socket.
    pub(super) address: Option<IpAddr>,
    /// This side's address.
    pub(super) local: String,
    /// What the peer showed in the TLS handshake, verified.
    pub(super) certificate: Option<ClientCertificate>,
    /// The version of TLS; none without TLS.
    pub(super) tls: Option<&'static str>,
}

/// A connected socket that nothing was said over yet.
pub(super) enum Socket {
    /// TCP, with the peer's address.
    Tcp(TcpStream, SocketAddr),
    /// A Unix socket, with its path.
    Unix(UnixStream, PathBuf),
}

/// A connected socket that no event loop watches.
pub(super) enum Detached {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream, PathBuf),
}

impl Detached {
    /// Lets the event loop of the task that this is called in watch it.
    pub(super) fn attach(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(stream, peer) => Socket::Tcp(TcpStream::from_std(stream)?, peer),
            Self::Unix(stream, path) => Socket::Unix(UnixStream::from_std(stream)?, path),
        })
    }
}

impl Socket {
    /// Takes it from the event loop that has accepted it.
    pub(super) fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Tcp(stream, peer) => Detached::Tcp(stream.into_std()?, peer),
            Self::Unix(stream, path) => Detached::Unix(stream.into_std()?, path),
        })
    }

    /// Connects to `address`; each address that its name stands for is tried.
    pub(super) async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(name) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for resolved in lookup_host(name).await? {
                    match tcp_socket(resolved)?.connect(resolved).await {
                        Ok(stream) => return Self::tcp(stream, resolved),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Address::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?, path.clone())),
        }
    }

    fn tcp(stream: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream, peer))
    }

    /// The peer's address.
    pub(super) fn peer(&self) -> String {
        match self {
            Self::Tcp(_, peer) => peer.to_string(),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// The peer's address without its port; none for a Unix socket.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, peer) => Some(peer.ip()),
            Self::Unix(..) => None,
        }
    }

    /// Speaks over it without TLS.
    pub(super) fn plain(self) -> io::Result<Stream> {
        let (peer, address) = (self.peer(), self.address());
        Ok(match self {
            Self::Tcp(stream, _) => {
                let local = stream.local_addr()?.to_string();
                let (read, write) = stream.into_split();
                Stream {
                    read: ReadHalf::Tcp(read),
                    write: WriteHalf::Tcp(write),
                    peer,
                    address,
                    local,
                    certificate: None,
                    tls: None,
                }
            }
            Self::Unix(stream, _) => {
                let (read, write) = stream.into_split();
                Stream {
                    read: ReadHalf::Other(Box::new(read)),
                    write: WriteHalf::Other(Box::new(write)),
                    local: peer.clone(),
                    peer,
                    address: None,
                    certificate: None,
                    tls: None,
                }
            }
        })
    }
}

impl Stream {
    /// Speaks over TLS, after its handshake.
    pub(super) fn tls(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        peer: String,
        local: String,
        certificate: Option<ClientCertificate>,
        version: Option<ProtocolVersion>,
    ) -> Self {
        let (read, write) = split(stream);
        Self {
            read: ReadHalf::Other(Box::new(read)),
            write: WriteHalf::Other(Box::new(write)),
            peer,
            address: None,
            local,
            certificate,
            tls: Some(match version {
                Some(ProtocolVersion::TLSv1_3) => "1.3",
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                _ => "unknown",
            }),
        }
    }
}

/// A socket that notices, in the system's time, a peer that vanished without a word.
fn tcp_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Accepted sockets inherit it from the listening one.
    socket.set_keepalive(true)?;
    Ok(socket)
}

/// A bound socket that clients connect to.
pub(super) enum Listener {
    /// TCP, with the address that was bound.
    Tcp(TcpListener, SocketAddr),
    /// A Unix socket, whose file goes when the listener goes.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Best effort: a file that stays is found stale by the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Listens on `address`; if `shared`, other processes of this user may do so too.
    pub(super) async fn bind(address: &Address, shared: bool) -> io::Result<Self> {
        match address {
            Address::Tcp(name) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for resolved in lookup_host(name).await? {
                    match listen_tcp(resolved, shared) {
                        Ok(listener) => return Ok(listener),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Address::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                Ok(Self::Unix(listener, SocketFile(path.clone())))
            }
        }
    }

    /// The next client.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, peer) = listener.accept().await?;
                Socket::tcp(stream, peer)
            }
            Self::Unix(listener, SocketFile(path)) => {
                let (stream, _) = listener.accept().await?;
                Ok(Socket::Unix(stream, path.clone()))
            }
        }
    }

    /// Closes it. Gives the clients that were connected already and wait to be accepted: with
    /// the listener, the system would reset their connections.
    pub(super) fn close(self) -> Vec<Socket> {
        // Not by the event loop, which may not have heard of the last ones yet.
        match self {
            Self::Tcp(listener, _) => {
                let Ok(listener) = listener.into_std() else {
                    return Vec::new();
                };
                queued(|| {
                    let (stream, peer) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    Socket::tcp(TcpStream::from_std(stream)?, peer)
                })
            }
            Self::Unix(listener, file) => {
                let Ok(listener) = listener.into_std() else {
                    return Vec::new();
                };
                queued(|| {
                    let (stream, _) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    Ok(Socket::Unix(UnixStream::from_std(stream)?, file.0.clone()))
                })
            }
        }
    }

    /// Whether it listens on every address of the machine, which is no address to advertise.
    pub(super) fn is_unspecified(&self) -> bool {
        matches!(self, Self::Tcp(_, address) if address.ip().is_unspecified())
    }

    /// What clients call this address: `configured`, with the port that was bound.
    pub(super) fn name(&self, configured: &Address) -> String {
        match (self, configured) {
            (Self::Tcp(_, bound), Address::Tcp(name)) => match name.rsplit_once(':') {
                Some((host, _)) => format!("{host}:{}", bound.port()),
                None => bound.to_string(),
            },
            (Self::Tcp(_, bound), Address::Unix(_)) => bound.to_string(),
            (Self::Unix(_, SocketFile(path)), _) => path.display().to_string(),
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, address) => write!(f, "{address}"),
            Self::Unix(_, SocketFile(path)) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What `accept` gives until there is no more, at most as many as can have waited.
fn queued(mut accept: impl FnMut() -> io::Result<Socket>) -> Vec<Socket> {
    let mut waiting = Vec::new();
    for _ in 0..BACKLOG {
        match accept() {
            Ok(socket) => waiting.push(socket),
            // This one has gone meanwhile; others have not.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => break,
        }
    }
    waiting
}

fn listen_tcp(address: SocketAddr, shared: bool) -> io::Result<Listener> {
    let socket = tcp_socket(address)?;
    // A restart need not wait for the connections of the last run to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(shared)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let bound = listener.local_addr()?;
    Ok(Listener::Tcp(listener, bound))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_listener_that_closes_resets_no_client_that_was_connected_already() {
        let any = Address::Tcp("127.0.0.1:0".to_owned());
        let listener = Listener::bind(&any, false).await.unwrap();
        let address = listener.to_string();
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(&address).await.unwrap());
        }
        let mut waiting = listener.close();
        assert_eq!(waiting.len(), clients.len());
        for (client, waited) in clients.iter_mut().zip(&mut waiting) {
            let Socket::Tcp(socket, peer) = waited else {
                panic!("not TCP");
            };
            assert_eq!(*peer, client.local_addr().unwrap());
            socket.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
        }
        TcpStream::connect(&address).await.unwrap_err();
    }

    #[tokio::test]
    async fn two_listen_on_an_address_only_if_both_share_it() {
        let any = Address::Tcp("127.0.0.1:0".to_owned());
        let first = Listener::bind(&any, true).await.unwrap();
        let same = Address::Tcp(first.to_string());
        assert!(Listener::bind(&same, false).await.is_err());
        Listener::bind(&same, true).await.unwrap();
    }
}
