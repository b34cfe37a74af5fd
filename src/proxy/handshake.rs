//! How a connection begins: with TLS or without, and whose certificate was shown.

use std::io;
use std::sync::Arc;

use rustls::server::Acceptor;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, rustls};

use super::stream::{Socket, Stream};
use crate::config::Address;
use crate::tls::{ClientCertificate, Listen, Upstream, WrongPin};
use crate::wire::{HEADER, Header, opcode};

/// The content type of a TLS record that begins a handshake, and the major version behind it.
const HANDSHAKE: u8 = 0x16;
const MAJOR: u8 = 3;
/// The first message of a handshake.
const CLIENT_HELLO: u8 = 1;

/// Why a connection did not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("it said nothing and went away")]
    Silent,
    #[error(
        "it speaks without TLS, but [tls.listen] asks for TLS here: connect with tls=true and tlsCAFile"
    )]
    Plain,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(String),
    #[error("the TLS handshake did not end in time")]
    Late,
}

/// Whether a connection begins as TLS does. Unlike those of a message, these bytes are few.
pub(super) fn is_client_hello(bytes: &[u8]) -> bool {
    let [HANDSHAKE, MAJOR, 1..=4, _, _, CLIENT_HELLO, ..] = bytes else {
        return false;
    };
    // A message of this very length and number would begin so too.
    let known = |header: Header| {
        matches!(
            header.opcode,
            opcode::MSG | opcode::QUERY | opcode::COMPRESSED
        )
    };
    !Header::read(bytes, usize::MAX).is_ok_and(|header| header.is_some_and(known))
}

/// Begins with a client. Only TCP has TLS: a Unix socket does not leave the machine.
pub(super) async fn accept(
    socket: Socket,
    tls: Option<Arc<Listen>>,
) -> Result<Stream, HandshakeError> {
    let (socket, peer, tls) = match (socket, tls) {
        (Socket::Tcp(socket, peer), Some(tls)) => (socket, peer, tls),
        (socket, _) => return Ok(socket.plain()?),
    };
    let mut first = [0; HEADER];
    let seen = socket.peek(&mut first).await?;
    match first.get(..seen) {
        Some([HANDSHAKE]) | Some([HANDSHAKE, MAJOR, ..]) => {}
        Some([]) => return Err(HandshakeError::Silent),
        _ => return Err(HandshakeError::Plain),
    }
    let local = socket.local_addr()?.to_string();
    let refused = |error| HandshakeError::Tls(client_fault(&error));
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket)
        .await
        .map_err(refused)?;
    let config = tls.config_for(&start.client_hello());
    let stream = start.into_stream(config).await.map_err(refused)?;
    let (_, connection) = stream.get_ref();
    let certificate = connection
        .peer_certificates()
        .and_then(<[_]>::first)
        .map(ClientCertificate::read)
        .transpose()
        .map_err(|error| HandshakeError::Tls(error.to_string()))?;
    let (peer, address) = (peer.to_string(), Some(peer.ip()));
    tracing::debug!(
        client = %peer,
        version = ?connection.protocol_version(),
        group = ?connection.negotiated_key_exchange_group().map(|group| group.name()),
        "TLS with a client"
    );
    let version = connection.protocol_version();
    Ok(Stream {
        address,
        ..Stream::tls(stream, peer, local, certificate, version)
    })
}

/// Begins with MongoDB, whose certificate has to be right.
pub(super) async fn connect(
    socket: Socket,
    address: &Address,
    tls: Option<Arc<Upstream>>,
) -> io::Result<Stream> {
    let (socket, peer, tls) = match (socket, tls) {
        (Socket::Tcp(socket, peer), Some(tls)) => (socket, peer, tls),
        (socket, _) => return socket.plain(),
    };
    let name = tls.name_of(address).ok_or_else(|| {
        io::Error::other("no certificate can have this host; set tls.upstream.server_name")
    })?;
    let local = socket.local_addr()?.to_string();
    let stream = TlsConnector::from(Arc::clone(&tls.config))
        .connect(name.clone(), socket)
        .await
        .map_err(|error| io::Error::other(server_fault(&error, &name.to_str())))?;
    let (_, connection) = stream.get_ref();
    tracing::debug!(
        upstream = %peer,
        version = ?connection.protocol_version(),
        group = ?connection.negotiated_key_exchange_group().map(|group| group.name()),
        "TLS with MongoDB"
    );
    let version = connection.protocol_version();
    Ok(Stream::tls(stream, peer.to_string(), local, None, version))
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What was wrong with a client, and what to do.
fn client_fault(error: &io::Error) -> String {
    let Some(error) = tls_error(error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "it went away in the midst of the TLS handshake; perhaps it does not \
                                             trust the proxy's certificate"
                    .to_owned()
            }
            _ => error.to_string(),
        };
    };
    match error {
        Error::NoCertificatesPresented => {
            "it shows no certificate, and tls.listen.client_auth is \"required\": \
                                           connect with tlsCertificateKeyFile"
                .to_owned()
        }
        Error::InvalidCertificate(fault) => format!(
            "its certificate {}",
            certificate_fault(fault, "tls.listen.client_ca")
        ),
        Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => "it speaks no version of TLS from tls.listen.min_version on".to_owned(),
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired),
        ) => format!(
            "it does not trust the certificate of tls.listen.cert ({alert:?}): its tlsCAFile has to \
             name the authority, and the certificate the host that it connects to"
        ),
        error => format!("TLS: {error}"),
    }
}

/// What was wrong with MongoDB, and what to do.
fn server_fault(error: &io::Error, name: &str) -> String {
    let Some(error) = tls_error(error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "it closed the connection in the TLS handshake: it may be without TLS \
                 (net.tls.mode), or refuse the certificate of tls.upstream.cert"
                    .to_owned()
            }
            _ => error.to_string(),
        };
    };
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<WrongPin>() {
                Some(wrong) => wrong.to_string(),
                None => format!("its certificate is refused: {error}"),
            }
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!(
            "its certificate is not for {name:?}; name it right in `upstream`, or say tls.upstream.server_name"
        ),
        Error::InvalidCertificate(fault) => {
            format!(
                "its certificate {}",
                certificate_fault(fault, "tls.upstream.ca")
            )
        }
        Error::AlertReceived(alert) => format!(
            "it refused the TLS handshake ({alert:?}); it may want another certificate than that of tls.upstream.cert"
        ),
        error => format!("TLS: {error}"),
    }
}

fn certificate_fault(fault: &CertificateError, authorities: &str) -> String {
    match fault {
        // The latter if an authority of the same name has another key, as one that was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("is signed by none of the authorities of {authorities}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".to_owned()
        }
        fault => format!("is refused: {fault}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::wire::testing::{body, msg};

    #[test]
    fn tls_is_told_from_messages_by_how_it_begins() {
        let hello = [
            0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE,
        ];
        assert!(is_client_hello(&hello));
        assert!(is_client_hello(&hello[..6]));
        assert!(!is_client_hello(&hello[..5]));
        assert!(!is_client_hello(&msg(0, &body(&bson::doc! {"hello": 1}))));
        // A message of 66,326 bytes whose number ends in 01 00.
        let mut message = [0; HEADER];
        message[..6].copy_from_slice(&[0x16, 3, 1, 0, 0, 1]);
        message[12..].copy_from_slice(&opcode::MSG.to_le_bytes());
        assert!(!is_client_hello(&message));
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_with_what_to_do() {
        let said =
            |error: Error| server_fault(&io::Error::new(io::ErrorKind::InvalidData, error), "db");
        let invalid = |fault| said(Error::InvalidCertificate(fault));
        for fault in [
            CertificateError::UnknownIssuer,
            CertificateError::BadSignature,
        ] {
            assert!(invalid(fault).contains("tls.upstream.ca"));
        }
        assert!(invalid(CertificateError::NotValidForName).contains("tls.upstream.server_name"));
        assert!(invalid(CertificateError::Expired).contains("has expired"));
        let closed = server_fault(&io::ErrorKind::UnexpectedEof.into(), "db");
        assert!(closed.contains("without TLS"), "{closed}");
    }
}
