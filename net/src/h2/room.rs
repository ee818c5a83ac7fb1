//! Room for what peers send: when windows open again, and wider ones for large messages.
//!
//! A stream's window opens as the layer above takes messages. A message larger than the window could then never become
//! whole, so once its length is known its stream is lent the rest. Loans come out of half of `buffer_bytes_max` and are
//! repaid by the releases that follow; who finds it used up waits in line. The first in line always gets what it needs
//! for its message to end, so nobody waits for ever, whatever the windows.

use super::connection::{Connection, enlist};
use super::flow::DEFAULT_WINDOW;
use super::frame;
use super::stream::Key;

impl<X: Default> Connection<X> {
    /// The layer above no longer holds `len` octets of a stream's body: the peer may send as many again.
    pub(crate) fn release(&mut self, key: Key, len: usize) {
        self.reopen_window(key, len);
        self.forget_held(key, len);
    }

    /// The layer above no longer holds `len` octets of a stream's body, but the peer may not send as many again yet:
    /// only what was lent is repaid, as others may wait for it. Returns the rest, for a later
    /// [`Connection::reopen_window`].
    pub(crate) fn withhold(&mut self, key: Key, len: usize) -> usize {
        let lent = self.streams.get(key).map_or(0, |stream| stream.recv.lent);
        let repaid = len.min(lent as usize);
        if repaid > 0 {
            self.reopen_window(key, repaid);
        }
        self.forget_held(key, len);
        len - repaid
    }

    /// Lets the peer send `len` octets more on a stream, though those it sent are still held.
    pub(crate) fn reopen_window(&mut self, key: Key, len: usize) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let repaid = len.min(stream.recv.lent);
        stream.recv.lent -= repaid;
        self.lent_len -= repaid as usize;
        // A stream whose peer has ended its half needs no window.
        if !stream.recv.is_ended
            && let Some(increment) = stream.recv.window.release(len - repaid)
        {
            frame::put_window_update(&mut self.control, stream.id, increment);
        }
        if repaid > 0 {
            self.lend_to_waiting();
        }
    }

    /// `len` octets of a stream's body are no longer held.
    pub(crate) fn forget_held(&mut self, key: Key, len: usize) {
        if let Some(stream) = self.streams.get_mut(key) {
            let len = len.min(stream.recv.held);
            stream.recv.held -= len;
            self.held_len -= len;
        }
    }

    /// The layer above keeps `len` octets of a stream's header list until [`Connection::forget_held`]. `false`: with them the
    /// connection holds more than it may.
    #[must_use]
    pub(crate) fn hold(&mut self, key: Key, len: usize) -> bool {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.recv.held += len;
            self.held_len += len;
        }
        self.held_len <= self.limits.buffer_bytes_max
    }

    /// The message that arrives on a stream needs `missing` more octets before any can be released. If the window has
    /// not that much left, it is widened, now or when there is room.
    pub(crate) fn ask_room(&mut self, key: Key, missing: usize) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        stream.recv.wanted = missing;
        if stream.recv.window.missing(missing) > 0 && !stream.recv.is_waiting {
            stream.recv.is_waiting = true;
            enlist(&mut self.want_room, key, &self.streams);
            self.lend_to_waiting();
        }
    }

    /// Widens windows in the order in which streams asked. Half of the buffer may be lent, or one message of any size:
    /// so the first in the queue always comes to its end, and with it everyone.
    pub(super) fn lend_to_waiting(&mut self) {
        while let Some(key) = self.want_room.front().copied() {
            let missing = self.streams.get(key).map_or(0, |stream| {
                stream.recv.window.missing(stream.recv.wanted) as usize
            });
            let lent_max = self.limits.buffer_bytes_max / 2;
            if self.lent_len > 0 && self.lent_len + missing > lent_max {
                return;
            }
            self.want_room.pop_front();
            self.lend(key);
        }
    }

    /// Widens the window of one stream to what it wants.
    fn lend(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        stream.recv.is_waiting = false;
        if let Some(increment) = stream.recv.window.widen(stream.recv.wanted) {
            stream.recv.lent += increment;
            self.lent_len += increment as usize;
            frame::put_window_update(&mut self.control, stream.id, increment);
        }
    }

    /// The peer counts with our window from now on. Streams from before may have counted with the default.
    pub(super) fn on_settings_ack(&mut self) {
        let window = self.limits.stream_window;
        if std::mem::replace(&mut self.is_acknowledged, true) || window >= DEFAULT_WINDOW {
            return;
        }
        let keys: Vec<Key> = self.streams.keys().collect();
        for key in keys {
            let Some(stream) = self.streams.get_mut(key) else {
                continue;
            };
            stream.recv.window.resize(window);
            let (wanted, is_lent) = (stream.recv.wanted, stream.recv.lent > 0);
            // Half of the smaller window may be due by now.
            self.reopen_window(key, 0);
            if is_lent {
                // Others may wait for this one, so it does not wait for them.
                self.lend(key);
            } else if wanted > 0 {
                self.ask_room(key, wanted as usize);
            }
        }
    }
}
