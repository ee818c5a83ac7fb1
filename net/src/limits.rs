//! What a peer may use up, and how long it may be silent. Every bound has its reason here.

use std::time::Duration;

/// How often something may happen: `burst` times at once, then `per_second`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub burst: u32,
    pub per_second: u32,
}

/// Bounds of one connection. The defaults are those of an etcd client listener.
///
/// # Memory
/// If the layer above takes the events after each `on_bytes`, then what a peer can make one connection keep is at most
/// [`Limits::memory_bytes_max`]:
///
/// ```text
///  2 x buffer_bytes_max             messages, bodies and plain requests' headers that are not whole: buffers double
///  output_overrun_bytes_max + M     answers that are not read; M is the largest answer the layer above gives
///  2 x (event_bytes_max + E)        what is whole and not taken; E is the largest message or body
///  2 x control_bytes_max            acknowledgements, resets and window updates we owe: their buffer doubles
///  8 x header_list_bytes_max        a header block being joined, its strings being decoded, the list made of them
///  STREAM_BYTES x streams_max()     everything else about a stream
///  CONNECTION_BYTES                 both HPACK tables, one frame, the lists of closed streams
/// ```
///
/// An HTTP/1.1 connection has one request at a time and stays far below that. What the layer above does with a request it
/// took (a deadline, a queue, a worker) is for it to bound.
///
/// # Work
/// What a peer sends costs time in proportion to its octets, but for these, each of which pays otherwise: a SETTINGS frame
/// that moves all windows (`settings_rate`, more of it for more streams), header fields out of the dynamic table
/// (`header_list_bytes_max` for each block, `event_bytes_max` for a read), a reset call that was begun (`reset_rate`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Streams a peer may have open: etcd's `max-concurrent-streams`, 2^32-1 by default.
    pub concurrent_streams_max: u32,
    /// The same, as far as memory goes: a stream that was opened and says nothing costs us more than the peer. So many
    /// calls of one client are far beyond any load we know of. The smaller of both is announced; a client queues its
    /// calls beyond it.
    pub open_streams_max: u32,
    /// Largest gRPC message taken: etcd's `max-request-bytes` + 512 KiB.
    pub message_bytes_max: usize,
    /// Largest body of a plain HTTP message. The gateway's requests become gRPC messages, so they need as much, and a
    /// third more for base64.
    pub http_body_bytes_max: usize,
    /// Plain requests whose path begins with one of these are handed on before their body, which follows in pieces: it has
    /// no bound here, and its answer may begin before it ends.
    pub streamed_prefixes: &'static [&'static str],
    /// Largest header list, counted as HTTP/2 counts (name + value + 32 each) and announced. Tokens of some KiB are
    /// normal; proxies allow 8 to 32 KiB.
    pub header_list_bytes_max: u32,
    /// CONTINUATION frames in one header block. A list within the limit needs a handful, so more is an attack that
    /// sends tiny or empty ones.
    pub continuation_frames_max: u32,
    /// What a peer may send on one stream before we hand a message over. Messages that need more get it once their
    /// length is known, out of `buffer_bytes_max`.
    pub stream_window: u32,
    /// What a peer may send on all streams before we answer. Given back on receipt, so that a stream that stands still
    /// does not stop the others; it only has to cover the delay of a round trip.
    pub connection_window: u32,
    /// Bytes of unfinished messages and bodies over all streams. Beyond it, streams that send more are refused.
    pub buffer_bytes_max: usize,
    /// Queued response bytes, header lists included, beyond which new streams are refused: a client that asks and does not
    /// read.
    pub output_bytes_max: usize,
    /// Queued response bytes beyond which the answers of calls that are open already are replaced by an error. It leaves
    /// room for a thousand calls with half a MiB each that were asked at once; one answer may be of any size.
    pub output_overrun_bytes_max: usize,
    /// Acknowledgements, resets and window updates that a peer makes us owe while it does not read.
    pub control_bytes_max: usize,
    /// Bytes of memory that events may take until they are taken; parsing stops here. A few bytes of input can name long
    /// fields of the dynamic table, and a message of five octets becomes an event of a hundred.
    pub event_bytes_max: usize,
    /// Entries of one SETTINGS frame; HTTP/2 defines six, extensions a handful.
    pub settings_entries_max: usize,
    /// SETTINGS frames. Each may change the window of every stream, and counts more often the more streams there are.
    pub settings_rate: Rate,
    /// PING frames. Besides, `ping_interval_min` is policed as grpc-go does.
    pub ping_rate: Rate,
    /// Frames that carry nothing: empty DATA, PRIORITY, GOAWAY, frames of unknown types, resets of streams that are gone,
    /// acknowledged SETTINGS, window updates of a few bytes. Each HEADERS or DATA frame of ours pays for two of
    /// these and for a PING, because peers of Go measure their bandwidth with such frames.
    pub idle_frame_rate: Rate,
    /// Streams that ended within a second by RST_STREAM, or by an error of the peer's: a "rapid reset". Thousands of
    /// calls cancelled at once are normal for an API server that lost patience, a steady stream of them is not.
    pub reset_rate: Rate,
    /// A streamed response's call becomes writable when less than this is queued.
    pub low_water_len: usize,
    /// The HTTP version must be known, and the first SETTINGS be here, within this time of accepting.
    pub handshake_timeout: Duration,
    /// An HTTP/1.1 request that has begun must be whole, or its answer must have begun, within this time (etcd's
    /// read-header limit, 5 min).
    pub http_request_timeout: Duration,
    /// A frame or header block that has begun must be whole within this time. It is the limit of an HTTP/1.1 request: of
    /// 16 KiB, some fifty octets a second are enough.
    pub block_timeout: Duration,
    /// Answers of which nothing was taken for this time, by flow control or by the socket, are taken by nobody: the
    /// connection is given up. Long enough for a client that is stopped in a debugger or moved to another host.
    pub unread_timeout: Duration,
    /// Shortest interval of a client's pings (`grpc-keepalive-min-time`).
    pub ping_interval_min: Duration,
    /// Whether pings are fine while no call is open.
    pub ping_without_calls: bool,
    /// We ping a peer that was silent for this long (`grpc-keepalive-interval`). `None`: never.
    pub keepalive_interval: Option<Duration>,
    /// How long we wait for any sign of life after such a ping (`grpc-keepalive-timeout`).
    pub keepalive_timeout: Duration,
    /// How long the first, lenient GOAWAY of a graceful close waits for the peer's sign that it saw it.
    pub drain_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let message_bytes_max = 2 * 1024 * 1024;
        Self {
            concurrent_streams_max: u32::MAX,
            open_streams_max: 64 * 1024,
            message_bytes_max,
            http_body_bytes_max: message_bytes_max / 3 * 4 + 64 * 1024,
            streamed_prefixes: &[],
            header_list_bytes_max: 64 * 1024,
            continuation_frames_max: 64,
            stream_window: 256 * 1024,
            connection_window: 4 * 1024 * 1024,
            buffer_bytes_max: 64 * 1024 * 1024,
            output_bytes_max: 64 * 1024 * 1024,
            output_overrun_bytes_max: 512 * 1024 * 1024,
            control_bytes_max: 256 * 1024,
            event_bytes_max: 1024 * 1024,
            settings_entries_max: 64,
            settings_rate: Rate {
                burst: 100,
                per_second: 10,
            },
            ping_rate: Rate {
                burst: 1000,
                per_second: 100,
            },
            idle_frame_rate: Rate {
                burst: 10_000,
                per_second: 1000,
            },
            reset_rate: Rate {
                burst: 10_000,
                per_second: 1000,
            },
            low_water_len: 64 * 1024,
            handshake_timeout: Duration::from_secs(120),
            http_request_timeout: Duration::from_secs(300),
            block_timeout: Duration::from_secs(300),
            unread_timeout: Duration::from_secs(600),
            ping_interval_min: Duration::from_secs(5),
            ping_without_calls: false,
            keepalive_interval: Some(Duration::from_secs(2 * 3600)),
            keepalive_timeout: Duration::from_secs(20),
            drain_grace: Duration::from_secs(5),
        }
    }
}

/// What a stream costs beside the octets that are counted: its slot and those that a growing table keeps free, its places
/// in lists and heaps, the heads of its buffers. `tests/memory.rs` counts less.
const STREAM_BYTES: usize = 1280;

/// What a connection costs before it has streams, and the slack of its buffers.
const CONNECTION_BYTES: usize = 256 * 1024;

impl Limits {
    /// How many streams a peer may have open.
    pub fn streams_max(&self) -> u32 {
        self.concurrent_streams_max.min(self.open_streams_max)
    }

    /// The most memory that one connection keeps at a peer's will, if no answer is larger than `answer_bytes_max`.
    pub fn memory_bytes_max(&self, answer_bytes_max: usize) -> usize {
        let whole_max = self.message_bytes_max.max(self.http_body_bytes_max);
        [
            self.buffer_bytes_max.saturating_mul(2),
            self.output_overrun_bytes_max
                .saturating_add(answer_bytes_max),
            self.event_bytes_max
                .saturating_add(whole_max)
                .saturating_mul(2),
            self.control_bytes_max.saturating_mul(2),
            (self.header_list_bytes_max as usize).saturating_mul(8),
            (self.streams_max() as usize).saturating_mul(STREAM_BYTES),
            CONNECTION_BYTES,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// Bounds of a client: it asked for what comes, so messages may be as large as etcd sends them (2^31-1), and it
    /// takes more of them at once.
    pub fn client() -> Self {
        Self {
            message_bytes_max: i32::MAX as usize,
            http_body_bytes_max: 64 * 1024 * 1024,
            stream_window: 1024 * 1024,
            connection_window: 8 * 1024 * 1024,
            buffer_bytes_max: 3 << 30,
            keepalive_interval: None,
            ..Self::default()
        }
    }
}

/// A token bucket over a [`Rate`].
#[derive(Debug)]
pub(crate) struct Allowance {
    rate: Rate,
    left: u32,
    /// Up to when `left` was refilled.
    filled: Duration,
}

impl Allowance {
    pub(crate) fn new(rate: Rate, now: Duration) -> Self {
        Self {
            rate,
            left: rate.burst,
            filled: now,
        }
    }

    /// Takes one. `false`: there is none left.
    #[must_use]
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        self.take_some(1, now)
    }

    /// Takes `count` at once, or none. `false`: there are fewer.
    #[must_use]
    pub(crate) fn take_some(&mut self, count: u32, now: Duration) -> bool {
        let Some(left) = self.left.checked_sub(count).or_else(|| {
            self.refill(now);
            self.left.checked_sub(count)
        }) else {
            return false;
        };
        self.left = left;
        true
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.filled);
        let more = elapsed.as_micros() * u128::from(self.rate.per_second) / 1_000_000;
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(more).min(self.rate.burst);
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_refills_with_time() {
        let rate = Rate {
            burst: 3,
            per_second: 10,
        };
        let mut allowance = Allowance::new(rate, Duration::ZERO);
        let mut take = |millis| allowance.take(Duration::from_millis(millis));
        assert!(take(0) && take(0) && take(0));
        assert!(!take(0) && !take(99));
        assert!(take(100));
        assert!(!take(150) && take(200) && !take(200));
        assert!(take(10_000) && take(10_000) && take(10_000) && !take(10_000));
        // A clock that stands still or goes back gives nothing.
        assert!(!take(0));
        let mut allowance = Allowance::new(rate, Duration::ZERO);
        assert!(!allowance.take_some(4, Duration::ZERO) && allowance.take_some(3, Duration::ZERO));
    }
}
