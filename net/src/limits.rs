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
/// Memory that one connection can hold is at most `buffer_bytes_max` of requests, `output_bytes_max` plus one response
/// for each call of responses, `control_bytes_max` of frames we owe, and a few hundred bytes for each open stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Streams a peer may have open. etcd's `max-concurrent-streams`; its default, 2^32-1, is not announced.
    pub concurrent_streams_max: u32,
    /// Largest gRPC message taken: etcd's `max-request-bytes` + 512 KiB.
    pub message_bytes_max: usize,
    /// Largest body of a plain HTTP message. The gateway's requests become gRPC messages, so they need as much, and a
    /// third more for base64.
    pub http_body_bytes_max: usize,
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
    /// Queued response bytes beyond which new streams are refused: a client that asks and does not read.
    pub output_bytes_max: usize,
    /// Acknowledgements, resets and window updates that a peer makes us owe while it does not read.
    pub control_bytes_max: usize,
    /// Bytes of header lists waiting as events. A few bytes of input can name long fields of the dynamic table, so
    /// parsing stops here until the events were taken.
    pub event_bytes_max: usize,
    /// Entries of one SETTINGS frame; HTTP/2 defines six, extensions a handful.
    pub settings_entries_max: usize,
    /// SETTINGS frames. Each may change the window of every stream.
    pub settings_rate: Rate,
    /// PING frames. Besides, `ping_interval_min` is policed as grpc-go does.
    pub ping_rate: Rate,
    /// Frames that carry nothing: empty DATA, PRIORITY, frames of unknown types, window updates of a few bytes.
    pub idle_frame_rate: Rate,
    /// Streams that ended within a second by RST_STREAM, or by an error of the peer's: a "rapid reset". Thousands of
    /// calls cancelled at once are normal for an API server that lost patience, a steady stream of them is not.
    pub reset_rate: Rate,
    /// A streamed response's call becomes writable when less than this is queued.
    pub low_water_len: usize,
    /// The HTTP version must be known, and the first SETTINGS be here, within this time of accepting.
    pub handshake_timeout: Duration,
    /// An HTTP/1.1 request that has begun must be whole within this time (etcd's read-header limit, 5 min).
    pub http_request_timeout: Duration,
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
            message_bytes_max,
            http_body_bytes_max: message_bytes_max / 3 * 4 + 64 * 1024,
            header_list_bytes_max: 64 * 1024,
            continuation_frames_max: 64,
            stream_window: 256 * 1024,
            connection_window: 4 * 1024 * 1024,
            buffer_bytes_max: 64 * 1024 * 1024,
            output_bytes_max: 64 * 1024 * 1024,
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
            ping_interval_min: Duration::from_secs(5),
            ping_without_calls: false,
            keepalive_interval: Some(Duration::from_secs(2 * 3600)),
            keepalive_timeout: Duration::from_secs(20),
            drain_grace: Duration::from_secs(5),
        }
    }
}

impl Limits {
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
        let Some(left) = self.left.checked_sub(1).or_else(|| {
            self.refill(now);
            self.left.checked_sub(1)
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
    }
}
