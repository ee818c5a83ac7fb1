//! Reading what another member sends: we ask it for a stream and read as it comes.

use std::rc::Rc;
use std::time::Duration;

use driver::Stream;
use engine::peer::{AppendDecoder, MessageDecoder, StreamError};
use net::http::{HttpResponse, Method};
use net::http1::{ClientError, Download, DownloadEvent};
use proto::raftpb;

use super::exchange::{self, connect};
use super::link::Link;
use super::{Peers, READ_TIMEOUT, StreamKind, WRITE_TIMEOUT, headers, routes};
use crate::logging;

/// Pause between two tries to get a stream; etcd's.
const DIAL_INTERVAL: Duration = Duration::from_millis(100);
/// Appends of that size are common.
const READ_SIZE_BYTES: usize = 64 * 1024;
/// How long the stream waits before it looks again whether the node has room.
const CONGESTION_PAUSE: Duration = Duration::from_millis(2);

/// Why a stream could not be had, or ended.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error("no URL of the peer can be dialled")]
    NoUrl,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("nothing came for {} s", READ_TIMEOUT.as_secs())]
    Silent,
    #[error("the peer answered {status}: {text}")]
    Status { status: u16, text: String },
    #[error("{0}")]
    Http(ClientError),
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("the peer has closed the stream")]
    Closed,
}

/// Reads one kind of messages of a member, for as long as the link lives.
pub(super) async fn read_stream(peers: Rc<Peers>, link: Rc<Link>, kind: StreamKind) {
    let mut told = String::new();
    loop {
        let mut has_begun = false;
        let end = match read_once(&peers, &link, kind, &mut has_begun).await {
            Ok(never) => match never {},
            Err(end) => end.to_string(),
        };
        // Tries go on at once and for long: each reason is told once.
        if has_begun || told != end {
            logging::warn!(
                "a stream of a peer is lost or refused",
                "remote-peer-id" => format!("{:x}", link.id),
                "stream" => name(kind),
                "error" => end.clone()
            );
            told = end;
        }
        link.pass_url();
        driver::sleep(DIAL_INTERVAL).await;
    }
}

fn name(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Append => "msgapp",
        StreamKind::Message => "message",
    }
}

/// Gets a stream and reads it to its end.
async fn read_once(
    peers: &Peers,
    link: &Link,
    kind: StreamKind,
    has_begun: &mut bool,
) -> Result<std::convert::Infallible, StreamEnd> {
    let url = link.url().ok_or(StreamEnd::NoUrl)?;
    let stream = connect(&url).await?;
    let path = routes::stream_path(kind, peers.identity.member_id);
    let request = headers::request(
        Method::Get,
        &path,
        peers.identity,
        &peers.own_urls,
        Some(link.id),
    );
    let mut download = Download::new(url.authority(), request, exchange::LIMITS);
    let mut buffer = Vec::with_capacity(READ_SIZE_BYTES);
    download.poll_transmit(&mut buffer, usize::MAX);
    let written = driver::timeout(WRITE_TIMEOUT, stream.write_all(buffer)).await;
    let (result, mut buffer) = written.map_err(|_elapsed| StreamEnd::Silent)?;
    result?;
    let mut reader = Reader::new(peers, link, kind);
    loop {
        buffer = read_some(&stream, &mut download, buffer).await?;
        while let Some(event) = download.poll_event() {
            match event {
                DownloadEvent::Head(head) => {
                    reader.on_head(&head);
                    if head.status == 200 {
                        *has_begun = true;
                        logging::info!(
                            "established a stream with a peer",
                            "remote-peer-id" => format!("{:x}", link.id),
                            "stream" => name(kind)
                        );
                    }
                }
                DownloadEvent::Piece(piece) => reader.on_piece(&piece)?,
                DownloadEvent::End => return Err(reader.end()),
                DownloadEvent::Failed(error) => return Err(reader.failure(error)),
            }
        }
        while kind == StreamKind::Append && peers.is_congested() {
            driver::sleep(CONGESTION_PAUSE).await;
        }
    }
}

async fn read_some(
    stream: &Stream,
    download: &mut Download,
    mut buffer: Vec<u8>,
) -> Result<Vec<u8>, StreamEnd> {
    buffer.clear();
    let read = driver::timeout(READ_TIMEOUT, stream.read(buffer)).await;
    let (result, buffer) = read.map_err(|_elapsed| StreamEnd::Silent)?;
    match result? {
        0 => download.on_eof(),
        _ => download.on_bytes(&buffer),
    }
    Ok(buffer)
}

/// From the pieces of a body to messages for the node.
struct Reader<'a> {
    peers: &'a Peers,
    decoder: Decoder,
    /// Of an answer that is no stream.
    refusal: Option<(u16, Vec<u8>)>,
}

/// What a refusal may say; the rest is of no interest.
const REFUSAL_LEN_MAX: usize = 256;

enum Decoder {
    Append(AppendDecoder),
    Message(MessageDecoder),
}

impl<'a> Reader<'a> {
    fn new(peers: &'a Peers, link: &Link, kind: StreamKind) -> Self {
        let limit = peers.message_size_bytes_max();
        let decoder = match kind {
            StreamKind::Append => {
                let local = peers.identity.member_id;
                Decoder::Append(AppendDecoder::new(local, link.id, limit))
            }
            StreamKind::Message => Decoder::Message(MessageDecoder::new(limit)),
        };
        Reader {
            peers,
            decoder,
            refusal: None,
        }
    }

    /// A refusal says why in its body.
    fn on_head(&mut self, head: &HttpResponse) {
        if head.status != 200 {
            self.refusal = Some((head.status, Vec::new()));
        }
    }

    fn on_piece(&mut self, piece: &[u8]) -> Result<(), StreamEnd> {
        if let Some((_, text)) = &mut self.refusal {
            let room = REFUSAL_LEN_MAX.saturating_sub(text.len());
            text.extend_from_slice(&piece[..piece.len().min(room)]);
            return Ok(());
        }
        self.decoder.on_bytes(piece);
        while let Some(message) = self.decoder.poll_message()? {
            // What raft must not see is lost, as on a bad line.
            let _ = self.peers.receive(message);
        }
        Ok(())
    }

    fn end(self) -> StreamEnd {
        match self.refusal {
            Some((status, text)) => {
                let text = String::from_utf8_lossy(&text).trim_end().to_owned();
                StreamEnd::Status { status, text }
            }
            None => StreamEnd::Closed,
        }
    }

    fn failure(self, error: ClientError) -> StreamEnd {
        match (&self.refusal, error) {
            (Some(_), _) | (None, ClientError::Closed) => self.end(),
            (None, error) => StreamEnd::Http(error),
        }
    }
}

impl Decoder {
    fn on_bytes(&mut self, bytes: &[u8]) {
        match self {
            Decoder::Append(decoder) => decoder.on_bytes(bytes),
            Decoder::Message(decoder) => decoder.on_bytes(bytes),
        }
    }

    fn poll_message(&mut self) -> Result<Option<raftpb::Message>, StreamError> {
        match self {
            Decoder::Append(decoder) => decoder.poll_message(),
            Decoder::Message(decoder) => decoder.poll_message(),
        }
    }
}
