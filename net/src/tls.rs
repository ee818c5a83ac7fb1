//! [`TlsSession`]: what stands between a socket's bytes and a connection's, when they are encrypted.
//!
//! ```text
//!  socket -> on_bytes -> plaintext -> ServerConnection
//!  socket <- poll_transmit <- seal <- ServerConnection::poll_transmit
//! ```
//!
//! rustls does the cryptography; it gets bytes and gives bytes. What one session keeps is bounded: of input less than a
//! record (or a handshake message, 64 KiB), because a caller takes the plaintext of each [`TlsSession::on_bytes`] at once;
//! of output what was sealed and not taken, so seal no more than is about to be sent. Compression and early data are off,
//! renegotiation is refused, and rustls bounds the key updates that a peer may ask for.
//!
//! [`TlsSession::on_bytes`] costs a millisecond or two where a message of the handshake is whole, for the signatures; see
//! to it that nobody waits meanwhile. After the handshake a record costs a few microseconds.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

/// What a session cannot go on from: the peer broke the protocol or is not trusted. An alert for it is to be sent.
pub type TlsError = rustls::Error;

/// What came of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsInput {
    /// More may come.
    Open,
    /// The peer has said that it sends no more.
    Closed,
}

/// One end of an encrypted connection.
#[derive(Debug)]
pub struct TlsSession {
    inner: Connection,
    is_closed: bool,
}

impl TlsSession {
    /// The end that was connected to.
    ///
    /// # Errors
    /// A configuration that cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self::new(ServerConnection::new(config)?.into()))
    }

    /// The end that connects to a server of this name.
    ///
    /// # Errors
    /// A configuration that cannot be used.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsError> {
        Ok(Self::new(ClientConnection::new(config, name)?.into()))
    }

    fn new(mut inner: Connection) -> Self {
        // The caller seals what it is about to send and no more.
        inner.set_buffer_limit(None);
        Self {
            inner,
            is_closed: false,
        }
    }

    /// Takes some of `octets` from its front, a few KiB, and appends the plaintext that they bring.
    ///
    /// # Errors
    /// [`TlsError`]: the session is over; what is left to send tells the peer why.
    pub fn on_bytes(
        &mut self,
        octets: &mut &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<TlsInput, TlsError> {
        if let Err(error) = self.inner.read_tls(octets) {
            // Reading from memory does not fail; what fails is a record that does not fit.
            return Err(TlsError::General(error.to_string()));
        }
        let state = self.inner.process_new_packets()?;
        let len = plain.len();
        plain.resize(len + state.plaintext_bytes_to_read(), 0);
        let read = self.inner.reader().read_exact(&mut plain[len..]);
        assert!(read.is_ok(), "rustls has as much plaintext as it said");
        Ok(match state.peer_has_closed() {
            true => TlsInput::Closed,
            false => TlsInput::Open,
        })
    }

    /// Encrypts `plain` for [`TlsSession::poll_transmit`]. To be called after the handshake.
    pub fn seal(&mut self, plain: &[u8]) {
        let written = self.inner.writer().write_all(plain);
        debug_assert!(written.is_ok(), "the buffer has no limit");
    }

    /// Tells the peer, once, that no more is sealed.
    pub fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.inner.send_close_notify();
        }
    }

    /// Appends all bytes for the peer to `out`.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) {
        while self.inner.wants_write() {
            let sent: io::Result<usize> = self.inner.write_tls(out);
            debug_assert!(sent.is_ok(), "memory takes everything");
        }
    }

    /// Whether there is something for [`TlsSession::poll_transmit`].
    pub fn wants_transmit(&self) -> bool {
        self.inner.wants_write()
    }

    /// Whether neither end may send anything yet.
    pub fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    /// The certificates that the peer has shown, its own first.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.inner.peer_certificates().unwrap_or_default()
    }

    /// The protocol agreed upon, such as `h2`.
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.inner.alpn_protocol()
    }

    /// The name that the client asked for; empty on the client's end.
    pub fn server_name(&self) -> &str {
        match &self.inner {
            Connection::Server(server) => server.server_name().unwrap_or_default(),
            Connection::Client(_) => "",
        }
    }
}

/// Whether a connection that begins with this byte speaks TLS; nothing that is served in plain text begins so.
pub fn is_tls(first: u8) -> bool {
    /// The content type of a handshake record (RFC 8446 §5.1).
    const HANDSHAKE: u8 = 22;
    first == HANDSHAKE
}
