//! Who waits for an image of the store: the next checkpoint that has all that is applied now.

use std::time::Duration;

use engine::backend::StoreImage;
use engine::node::Node;

use super::port::LinkReply;
use crate::errors::FrontError;

pub(crate) type Imaged = Result<StoreImage, FrontError>;

/// Who is told.
pub(crate) enum ImageWaiter {
    /// Go on here.
    Then(Box<dyn FnOnce(Imaged)>),
    /// Tell another shard.
    Link(LinkReply),
}

impl ImageWaiter {
    pub(super) fn finish(self, image: Imaged) {
        match self {
            ImageWaiter::Then(then) => then(image),
            ImageWaiter::Link(reply) => reply.tell_image(image),
        }
    }
}

/// All of them, oldest first.
#[derive(Default)]
pub(super) struct ImageWaiters {
    /// The entry that must be in it, the time to give up, and who waits.
    waiting: Vec<(u64, Duration, ImageWaiter)>,
}

impl ImageWaiters {
    pub(super) fn add(&mut self, node: &mut Node, deadline: Duration, waiter: ImageWaiter) {
        let index = node.want_checkpoint();
        self.waiting.push((index, deadline, waiter));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes out who can be told now; `node` has just worked, or time has passed.
    pub(super) fn take_ready(
        &mut self,
        node: &mut Node,
        now: Duration,
    ) -> Vec<(ImageWaiter, Imaged)> {
        let stored = node.checkpoint_index();
        let mut ready = Vec::new();
        for (index, deadline, waiter) in std::mem::take(&mut self.waiting) {
            if index <= stored {
                let image = node.store_image().ok_or(FrontError::Timeout);
                ready.push((waiter, image));
            } else if deadline <= now {
                ready.push((waiter, Err(FrontError::Timeout)));
            } else {
                self.waiting.push((index, deadline, waiter));
            }
        }
        ready
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = ImageWaiter> {
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|(_, _, waiter)| waiter)
    }
}
