//! One other member: where it is, and the ways to it that are open.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use driver::Task;
use engine::peer::is_append;
use proto::raftpb;

use super::outbox::Outbox;
use super::{Peers, StreamKind, incoming, pipeline};
use crate::config::Url;

/// Messages that wait for a stream; etcd's number.
const STREAM_COUNT_MAX: usize = 4096;
/// Messages that wait for the pipeline; etcd's number.
const PIPELINE_COUNT_MAX: usize = 64;

/// The state that the tasks of one link share.
pub(super) struct Link {
    pub(super) id: u64,
    urls: RefCell<Vec<Url>>,
    /// The URL that is tried next.
    url_no: Cell<usize>,
    /// The streams that the member has asked for.
    append: RefCell<Option<Rc<Outbox>>>,
    message: RefCell<Option<Rc<Outbox>>>,
    /// For what has no stream.
    pipeline: Rc<Outbox>,
    tasks: RefCell<Vec<Task<()>>>,
}

impl Link {
    pub(super) fn new(id: u64, urls: Vec<Url>) -> Rc<Self> {
        Rc::new(Link {
            id,
            urls: RefCell::new(urls),
            url_no: Cell::new(0),
            append: RefCell::default(),
            message: RefCell::default(),
            pipeline: Rc::new(Outbox::new(PIPELINE_COUNT_MAX)),
            tasks: RefCell::default(),
        })
    }

    /// Dials the member for its streams, and keeps the pipeline ready.
    pub(super) fn start(self: &Rc<Self>, peers: &Rc<Peers>) {
        let reading = |kind| {
            driver::spawn(incoming::read_stream(
                Rc::clone(peers),
                Rc::clone(self),
                kind,
            ))
        };
        let tasks = vec![
            reading(StreamKind::Append),
            reading(StreamKind::Message),
            driver::spawn(pipeline::run(
                Rc::clone(peers),
                Rc::clone(self),
                Rc::clone(&self.pipeline),
            )),
        ];
        *self.tasks.borrow_mut() = tasks;
    }

    /// Ends all that goes on with the member.
    pub(super) fn stop(&self) {
        // Each task holds this link, so it lives until they are dropped.
        drop(self.tasks.take());
        self.pipeline.close();
        for kind in [StreamKind::Append, StreamKind::Message] {
            if let Some(outbox) = self.slot(kind).take() {
                outbox.close();
            }
        }
    }

    pub(super) fn set_urls(&self, urls: Vec<Url>) {
        *self.urls.borrow_mut() = urls;
    }

    /// The URL to dial. `None`: there is none that could be dialled.
    pub(super) fn url(&self) -> Option<Url> {
        let urls = self.urls.borrow();
        let no = self.url_no.get().checked_rem(urls.len())?;
        urls.get(no).cloned()
    }

    /// The last one did not answer: the next shall be tried.
    pub(super) fn pass_url(&self) {
        self.url_no.set(self.url_no.get().wrapping_add(1));
    }

    /// Queues a message; false if it is dropped.
    pub(super) fn send(&self, message: raftpb::Message) -> bool {
        let kind = match is_append(&message) {
            true => StreamKind::Append,
            false => StreamKind::Message,
        };
        match &*self.slot(kind).borrow() {
            Some(stream) => stream.push(message),
            None => self.pipeline.push(message),
        }
    }

    /// The member has asked for a stream: messages go there from now on, and the former one of its kind ends.
    pub(super) fn attach(&self, kind: StreamKind) -> Rc<Outbox> {
        let outbox = Rc::new(Outbox::new(STREAM_COUNT_MAX));
        let former = self.slot(kind).replace(Some(Rc::clone(&outbox)));
        if let Some(former) = former {
            former.close();
        }
        outbox
    }

    /// A stream has ended.
    pub(super) fn detach(&self, kind: StreamKind, outbox: &Rc<Outbox>) {
        outbox.close();
        let mut slot = self.slot(kind).borrow_mut();
        if slot
            .as_ref()
            .is_some_and(|present| Rc::ptr_eq(present, outbox))
        {
            *slot = None;
        }
    }

    fn slot(&self, kind: StreamKind) -> &RefCell<Option<Rc<Outbox>>> {
        match kind {
            StreamKind::Append => &self.append,
            StreamKind::Message => &self.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: raftpb::MessageType) -> raftpb::Message {
        raftpb::Message {
            r#type: Some(kind as i32),
            ..raftpb::Message::default()
        }
    }

    fn link() -> Rc<Link> {
        let urls = ["http://a:1", "http://b:2"].map(|text| Url::parse(text).expect("a URL"));
        Link::new(7, urls.to_vec())
    }

    #[test]
    fn each_kind_goes_by_its_stream_and_by_the_pipeline_without_one() {
        let link = link();
        let (append, heartbeat) = (
            raftpb::MessageType::MsgApp,
            raftpb::MessageType::MsgHeartbeat,
        );
        let stream = link.attach(StreamKind::Append);
        assert!(link.send(message(append)) && link.send(message(heartbeat)));
        assert_eq!(stream.pop(), Some(message(append)));
        assert_eq!(link.pipeline.pop(), Some(message(heartbeat)));
        // The member dials again: the former stream ends, and its end does not touch the new one.
        let second = link.attach(StreamKind::Append);
        assert!(stream.is_closed());
        link.detach(StreamKind::Append, &stream);
        assert!(link.send(message(append)));
        assert_eq!(second.pop(), Some(message(append)));
        link.detach(StreamKind::Append, &second);
        assert!(link.send(message(append)));
        assert_eq!(link.pipeline.pop(), Some(message(append)));
    }

    #[test]
    fn urls_take_turns() {
        let link = link();
        let next = || {
            let url = link.url().map(|url| url.authority().to_owned());
            link.pass_url();
            url
        };
        assert_eq!(
            [next(), next(), next()].map(Option::unwrap_or_default),
            ["a:1", "b:2", "a:1"]
        );
        link.set_urls(Vec::new());
        assert_eq!(link.url(), None);
    }
}
