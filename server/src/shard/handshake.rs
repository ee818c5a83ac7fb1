//! What a new connection speaks, and the handshake if that is TLS.
//!
//! ```text
//!  first byte -> plain text -> served at once
//!            `-> TLS -> leg -> answer -> leg ... -> served
//!                        `-> refused: an alert, a line in the log, the end
//! ```
//!
//! A *leg* is what is done with one read: up to a few milliseconds of signatures, and files that may have changed. So it
//! is done on a helper thread, one leg of a shard at a time, and the shard goes on meanwhile; the other helper stays free
//! for work on files.
//!
//! Who connects and says nothing holds a socket and no more. At most [`BEGUN_COUNT_MAX`] handshakes are in progress; one
//! more ends the oldest, so that many that are never finished do not keep out one that is, and all end by
//! [`HANDSHAKE_TIMEOUT`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use driver::Stream;
use net::tls::{TlsError, TlsSession, is_tls};
use rustls::{AlertDescription, CertificateError};

use super::Shard;
use super::listener::Security;
use super::turns::Turns;
use crate::logging;
use crate::tls::{RevokedError, TlsContext, TlsContextError, names_of};

/// From the first byte to the last of a handshake. It is etcd's.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes of one shard between their first byte and their last: each takes some ten KiB.
const BEGUN_COUNT_MAX: usize = 1024;
/// How long the words that refuse a client may take.
const ALERT_TIMEOUT: Duration = Duration::from_secs(1);

/// How a connection begins; what has come of it already goes along.
pub(super) enum Opened {
    Plain(Vec<u8>),
    Tls(Box<TlsSession>, Vec<u8>),
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("EOF")]
    Eof,
    #[error("{0}")]
    Io(std::io::Error),
    #[error("i/o timeout")]
    Timeout,
    #[error("tls: first record does not look like a TLS handshake")]
    NoTls,
    #[error("{}", tls_text(.0))]
    Tls(TlsError),
    #[error(transparent)]
    Context(TlsContextError),
    #[error(transparent)]
    Revoked(#[from] RevokedError),
}

/// The handshakes of one shard.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// Whose leg is worked on.
    turns: Rc<Turns>,
    begun: RefCell<BTreeMap<u64, Rc<Stream>>>,
    count: Cell<u64>,
}

/// A handshake in progress.
struct Begun<'a> {
    all: &'a Handshakes,
    number: u64,
}

impl Handshakes {
    fn begin(&self, stream: &Rc<Stream>) -> Begun<'_> {
        let number = self.count.get();
        self.count.set(number + 1);
        let mut begun = self.begun.borrow_mut();
        if begun.len() >= BEGUN_COUNT_MAX
            && let Some((_, oldest)) = begun.pop_first()
        {
            // Its task sees the end of its input.
            let _ = oldest.shutdown();
        }
        begun.insert(number, Rc::clone(stream));
        Begun { all: self, number }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.all.begun.borrow_mut().remove(&self.number);
    }
}

/// Finds out how a connection begins; `None`: it is over.
pub(super) async fn open(shard: &Shard, stream: &Rc<Stream>, security: Security) -> Option<Opened> {
    let context = match (security, &shard.tls) {
        (Security::Plain, _) | (_, None) => return Some(Opened::Plain(Vec::new())),
        (_, Some(context)) => context,
    };
    let wait = match security {
        Security::Either => shard.limits.handshake_timeout,
        _ => HANDSHAKE_TIMEOUT,
    };
    let first = match read(stream, driver::now() + wait).await {
        Ok(first) => first,
        Err(refusal) => {
            log_refused(stream, None, &refusal);
            return None;
        }
    };
    if !first.first().is_some_and(|first| is_tls(*first)) {
        if security == Security::Either {
            return Some(Opened::Plain(first));
        }
        log_refused(stream, None, &Refusal::NoTls);
        return None;
    }
    let mut session = None;
    match shake_hands(shard, context, stream, first, &mut session).await {
        Ok(plain) => Some(Opened::Tls(session?, plain)),
        Err(refusal) => {
            log_refused(stream, session.as_deref(), &refusal);
            None
        }
    }
}

/// Returns the plaintext that came behind the handshake.
async fn shake_hands(
    shard: &Shard,
    context: &Arc<TlsContext>,
    stream: &Rc<Stream>,
    first: Vec<u8>,
    session: &mut Option<Box<TlsSession>>,
) -> Result<Vec<u8>, Refusal> {
    let deadline = driver::now() + HANDSHAKE_TIMEOUT;
    let _begun = shard.handshakes.begin(stream);
    let mut octets = first;
    loop {
        let leg = Leg {
            session: session.take(),
            octets,
            plain: Vec::new(),
            answer: Vec::new(),
        };
        let context = Arc::clone(context);
        let turn = shard.handshakes.turns.take().await;
        let (leg, result) = driver::blocking(move || leg.run(&context)).await;
        drop(turn);
        *session = leg.session;
        let wait = match result {
            Ok(()) => deadline.saturating_sub(driver::now()),
            Err(_) => ALERT_TIMEOUT,
        };
        let sent = driver::timeout(wait, stream.write_all(leg.answer)).await;
        result?;
        sent.map_err(|_| Refusal::Timeout)?.0.map_err(Refusal::Io)?;
        if session.as_ref().is_some_and(|s| !s.is_handshaking()) {
            return Ok(leg.plain);
        }
        octets = read(stream, deadline).await?;
    }
}

/// Some bytes; none is an error.
async fn read(stream: &Stream, deadline: Duration) -> Result<Vec<u8>, Refusal> {
    let wait = deadline.saturating_sub(driver::now());
    let read = driver::timeout(wait, stream.read(Vec::new())).await;
    let (result, octets) = read.map_err(|_| Refusal::Timeout)?;
    match result.map_err(Refusal::Io)? {
        0 => Err(Refusal::Eof),
        _ => Ok(octets),
    }
}

/// One leg, on its way to a helper thread and back.
struct Leg {
    session: Option<Box<TlsSession>>,
    octets: Vec<u8>,
    plain: Vec<u8>,
    answer: Vec<u8>,
}

impl Leg {
    fn run(mut self, context: &TlsContext) -> (Self, Result<(), Refusal>) {
        let result = self.try_run(context);
        if let Some(session) = &mut self.session {
            session.poll_transmit(&mut self.answer);
        }
        (self, result)
    }

    fn try_run(&mut self, context: &TlsContext) -> Result<(), Refusal> {
        let session = match &mut self.session {
            Some(session) => session,
            None => {
                let config = context.config().map_err(Refusal::Context)?;
                let session = TlsSession::server(config).map_err(Refusal::Tls)?;
                self.session.insert(Box::new(session))
            }
        };
        let mut rest = &self.octets[..];
        while !rest.is_empty() {
            session
                .on_bytes(&mut rest, &mut self.plain)
                .map_err(Refusal::Tls)?;
        }
        if !session.is_handshaking() {
            context.check_client(session.peer_certificates())?;
        }
        Ok(())
    }
}

/// etcd's line about it. Who only connects and leaves is not worth one.
fn log_refused(stream: &Stream, session: Option<&TlsSession>, refusal: &Refusal) {
    let level = match refusal {
        Refusal::Eof => logging::Level::Debug,
        _ => logging::Level::Warn,
    };
    if !logging::enabled(level) {
        return;
    }
    let remote = stream.peer_addr();
    // As Go calls the nameless end of a connection through a file.
    let remote = remote.map_or_else(|_| "@".to_owned(), |address| address.to_string());
    let name = session.map_or("", TlsSession::server_name).to_owned();
    let text = "rejected connection on client endpoint";
    match session.and_then(|session| session.peer_certificates().first()) {
        None => {
            crate::log!(level, text, "remote-addr" => remote, "server-name" => name, "error" => refusal.to_string())
        }
        Some(cert) => {
            let (addresses, names) = names_of(cert);
            crate::log!(level, text, "remote-addr" => remote, "server-name" => name, "ip-addresses" => addresses,
                "dns-names" => names, "error" => refusal.to_string());
        }
    }
}

/// Go's words for the usual failures, which operators look for.
fn tls_text(error: &TlsError) -> String {
    match error {
        TlsError::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        TlsError::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        TlsError::InvalidCertificate(reason) => {
            format!("tls: failed to verify certificate: {}", cert_text(reason))
        }
        other => format!("tls: {other}"),
    }
}

fn cert_text(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "x509: certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "x509: certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::Other(reason) => reason.to_string(),
        other => format!("x509: {other}"),
    }
}

fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::BadCertificate => "bad certificate".to_owned(),
        AlertDescription::UnknownCA => "unknown certificate authority".to_owned(),
        AlertDescription::CertificateExpired => "expired certificate".to_owned(),
        AlertDescription::CertificateUnknown => "unknown certificate".to_owned(),
        AlertDescription::HandshakeFailure => "handshake failure".to_owned(),
        AlertDescription::ProtocolVersion => "protocol version not supported".to_owned(),
        other => format!("{other:?}"),
    }
}
