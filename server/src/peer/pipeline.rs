//! Posting messages one by one to a member that has not asked for a stream: at the beginning, and between two streams.

use std::rc::Rc;
use std::time::Duration;

use net::http::{HttpResponse, Method};
use prost::Message as _;
use proto::raftpb;

use super::exchange::{Exchange, ExchangeError};
use super::link::Link;
use super::outbox::Outbox;
use super::{Peers, headers};
use crate::logging;

/// A member has that long to take a message.
const POST_TIMEOUT: Duration = Duration::from_secs(5);

/// Posts what is queued, for as long as the link lives.
pub(super) async fn run(peers: Rc<Peers>, link: Rc<Link>, outbox: Rc<Outbox>) {
    let mut told = String::new();
    while !outbox.is_closed() {
        let Some(first) = outbox.pop() else {
            outbox.filled().await;
            continue;
        };
        let trouble = match post_all(&peers, &link, &outbox, first).await {
            Ok(()) => String::new(),
            Err(error) => {
                link.pass_url();
                peers.on_unreachable(link.id);
                error.to_string()
            }
        };
        if !trouble.is_empty() && trouble != told {
            logging::warn!(
                "a peer does not take messages",
                "remote-peer-id" => format!("{:x}", link.id),
                "error" => trouble.clone()
            );
        }
        told = trouble;
    }
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("no URL of the peer can be dialled")]
    NoUrl,
    #[error("{0}")]
    Exchange(#[from] ExchangeError),
    #[error("the peer answered {status}: {text}")]
    Status { status: u16, text: String },
}

/// Posts this message and those that wait, on one connection.
async fn post_all(
    peers: &Peers,
    link: &Link,
    outbox: &Outbox,
    first: raftpb::Message,
) -> Result<(), PostError> {
    let url = link.url().ok_or(PostError::NoUrl)?;
    let mut exchange = Exchange::connect(&url).await?;
    let mut next = Some(first);
    while let Some(message) = next {
        let mut request =
            headers::request(Method::Post, "/raft", peers.identity, &peers.own_urls, None);
        request.headers.push("Content-Type", "application/protobuf");
        request.body = message.encode_to_vec().into();
        check(&exchange.ask(request, POST_TIMEOUT).await?)?;
        next = outbox.pop();
    }
    Ok(())
}

fn check(response: &HttpResponse) -> Result<(), PostError> {
    match response.status {
        204 => Ok(()),
        status => Err(PostError::Status {
            status,
            text: String::from_utf8_lossy(&response.body)
                .trim_end()
                .to_owned(),
        }),
    }
}
