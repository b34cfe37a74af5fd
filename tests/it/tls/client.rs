//! A client that says of TLS what a test wants, and then `ping`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mongodb::bson::{Document, doc};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

use crate::support::PATIENCE;
use crate::support::wire::{answer, body, int32_at, msg};

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// Whom it trusts, who it is, and which versions it speaks.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    pub(crate) ca: PathBuf,
    pub(crate) identity: Option<PathBuf>,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) host: &'static str,
}

impl Manner {
    pub(crate) fn new(ca: PathBuf) -> Self {
        Self {
            ca,
            identity: None,
            versions: BOTH,
            host: "127.0.0.1",
        }
    }
}

/// A connection after its handshake.
pub(crate) struct Client(TlsStream<TcpStream>);

/// The certificates of a PEM file.
pub(crate) fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let found: Result<_, _> = CertificateDer::pem_file_iter(path).unwrap().collect();
    found.unwrap()
}

impl Client {
    /// Shakes hands, and says `ping`: a server of TLS 1.3 refuses certificates only after
    /// its client thinks that all is well.
    pub(crate) async fn connect(address: &str, manner: &Manner) -> io::Result<Self> {
        let mut client = Self::silent(address, manner).await?;
        client.ping().await?;
        Ok(client)
    }

    /// Shakes hands, and says nothing.
    pub(crate) async fn silent(address: &str, manner: &Manner) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&manner.ca));
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(manner.versions)
            .unwrap()
            .with_webpki_verifier(verifier);
        let config = match &manner.identity {
            Some(path) => {
                let key = PrivateKeyDer::from_pem_file(path).unwrap();
                config
                    .with_client_auth_cert(certificates(path), key)
                    .unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let name = ServerName::try_from(manner.host).unwrap();
        let socket = TcpStream::connect(address).await?;
        let shaking = TlsConnector::from(Arc::new(config)).connect(name, socket);
        Ok(Self(
            timeout(PATIENCE, shaking).await.expect("no handshake")?,
        ))
    }

    pub(crate) async fn ping(&mut self) -> io::Result<()> {
        let answer = self.ask(&doc! { "ping": 1, "$db": "admin" }).await?;
        assert_eq!(answer.get_f64("ok").unwrap(), 1.0);
        Ok(())
    }

    /// What a command is answered.
    pub(crate) async fn ask(&mut self, command: &Document) -> io::Result<Document> {
        let asked = async {
            self.0.write_all(&msg(0, &body(command))).await?;
            self.0.flush().await?;
            let mut frame = vec![0; 4];
            self.0.read_exact(&mut frame).await?;
            frame.resize(usize::try_from(int32_at(&frame, 0)).unwrap(), 0);
            self.0.read_exact(&mut frame[4..]).await?;
            Ok(answer(&frame))
        };
        timeout(PATIENCE, asked).await.expect("no answer")
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// What the server showed.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.get_ref().1.peer_certificates().unwrap()[0].clone()
    }

    pub(crate) fn version(&self) -> rustls::ProtocolVersion {
        self.0.get_ref().1.protocol_version().unwrap()
    }

    /// Reads to the end; an error if the server did not say that it is the end.
    pub(crate) async fn end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let reading = self.0.read_to_end(&mut bytes);
        timeout(PATIENCE, reading).await.expect("no end")?;
        Ok(bytes)
    }
}
