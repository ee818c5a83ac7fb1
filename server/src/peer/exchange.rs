//! Asking another member: connecting, and one request after the other.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use driver::Stream;
use net::http::{HttpRequest, HttpResponse};
use net::http1::{Client, ClientError, ClientEvent, Limits};

use super::CONNECT_TIMEOUT;
use crate::config::Url;

const READ_SIZE_BYTES: usize = 16 * 1024;
/// More than the members of any cluster as JSON.
const ANSWER_SIZE_BYTES_MAX: usize = 1 << 20;
const HEAD_SIZE_BYTES_MAX: usize = 64 * 1024;

/// Bounds of what other members answer.
pub(super) const LIMITS: Limits = Limits {
    head_size_bytes_max: HEAD_SIZE_BYTES_MAX,
    body_size_bytes_max: ANSWER_SIZE_BYTES_MAX,
    streamed_prefixes: &[],
};

/// Why a member did not answer. Another try can help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum ExchangeError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] ClientError),
    #[error("timed out")]
    TimedOut,
}

/// Connects to where a URL points.
///
/// # Errors
/// Of the resolver or the connection.
pub(super) async fn connect(url: &Url) -> io::Result<Stream> {
    let port = url.port().parse::<u16>().unwrap_or(0);
    let address = match url.host().parse::<IpAddr>() {
        Ok(ip) => SocketAddr::from((ip, port)),
        Err(_) => resolve(url.host().to_owned(), port).await?,
    };
    Stream::connect(address, CONNECT_TIMEOUT).await
}

/// On a helper thread, since the resolver may take its time.
async fn resolve(host: String, port: u16) -> io::Result<SocketAddr> {
    let resolve = move || (host, port).to_socket_addrs();
    let mut addresses = driver::blocking(resolve).await?;
    addresses
        .next()
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// A connection for requests with whole answers.
pub(super) struct Exchange {
    stream: Stream,
    client: Client,
}

impl Exchange {
    /// # Errors
    /// The member cannot be reached.
    pub(super) async fn connect(url: &Url) -> Result<Self, ExchangeError> {
        Ok(Exchange {
            stream: connect(url).await?,
            client: Client::new(url.authority(), LIMITS),
        })
    }

    /// Sends a request and waits for its answer, as long as `patience`.
    ///
    /// # Errors
    /// There is none, and the connection is of no use any more.
    pub(super) async fn ask(
        &mut self,
        request: HttpRequest,
        patience: Duration,
    ) -> Result<HttpResponse, ExchangeError> {
        match driver::timeout(patience, self.exchange(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(ExchangeError::TimedOut),
        }
    }

    async fn exchange(&mut self, request: HttpRequest) -> Result<HttpResponse, ExchangeError> {
        self.client.request(request);
        let mut output = Vec::new();
        self.client.poll_transmit(&mut output, usize::MAX);
        let (result, mut buffer) = self.stream.write_all(output).await;
        result?;
        buffer.clear();
        buffer.reserve(READ_SIZE_BYTES);
        loop {
            match self.client.poll_event() {
                Some(ClientEvent::Response(response)) => return Ok(response),
                Some(ClientEvent::Failed(error)) => return Err(error.into()),
                None => {}
            }
            buffer.clear();
            let (result, back) = self.stream.read(buffer).await;
            buffer = back;
            match result? {
                0 => self.client.on_eof(),
                _ => self.client.on_bytes(&buffer),
            }
        }
    }
}
