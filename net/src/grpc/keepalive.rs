//! Keep-alive: pings of ours to a silent peer, and a limit on pings of a peer's, both as grpc-go has them.

use std::time::Duration;

use crate::limits::Limits;

/// One ping too many is forgiven this often.
const STRIKES_MAX: u8 = 2;

/// Without calls, pings this far apart are fine even if they are not permitted.
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(2 * 3600);

/// Counts pings that come too soon.
#[derive(Debug, Default)]
pub(crate) struct PingPolice {
    last: Option<Duration>,
    strikes: u8,
    /// How many HEADERS and DATA frames we had sent at the last ping.
    work_frames: u64,
}

impl PingPolice {
    /// A ping came. `false`: the peer was warned enough.
    #[must_use]
    pub(crate) fn on_ping(
        &mut self,
        now: Duration,
        open_calls: usize,
        work_frames: u64,
        limits: &Limits,
    ) -> bool {
        let last = self.last.replace(now);
        // Pings beside answers of ours are bandwidth measurements, not keep-alive.
        if work_frames != self.work_frames {
            self.work_frames = work_frames;
            self.strikes = 0;
            return true;
        }
        let interval = if open_calls == 0 && !limits.ping_without_calls {
            IDLE_PING_INTERVAL
        } else {
            limits.ping_interval_min
        };
        if last.is_some_and(|last| now < last.saturating_add(interval)) {
            self.strikes += 1;
        }
        self.strikes <= STRIKES_MAX
    }
}

/// What silence asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    Fine,
    /// Send a ping.
    Ping,
    /// The peer did not answer the ping: it is gone.
    Dead,
}

/// Watches for a peer that says nothing.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    last_read: Duration,
    pinged: Option<Duration>,
}

impl KeepAlive {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            last_read: now,
            pinged: None,
        }
    }

    /// Something came.
    pub(crate) fn on_read(&mut self, now: Duration) {
        self.last_read = now;
        self.pinged = None;
    }

    pub(crate) fn on_time(&mut self, now: Duration, limits: &Limits) -> Silence {
        if self.next_timeout(limits).is_none_or(|due| now < due) {
            return Silence::Fine;
        }
        if self.pinged.is_some() {
            return Silence::Dead;
        }
        self.pinged = Some(now);
        Silence::Ping
    }

    pub(crate) fn next_timeout(&self, limits: &Limits) -> Option<Duration> {
        let interval = limits.keepalive_interval?;
        Some(match self.pinged {
            Some(pinged) => pinged.saturating_add(limits.keepalive_timeout),
            None => self.last_read.saturating_add(interval),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_third_early_ping_is_too_much() {
        let limits = Limits::default();
        let mut police = PingPolice::default();
        assert!(police.on_ping(secs(0), 1, 0, &limits));
        assert!(police.on_ping(secs(4), 1, 0, &limits));
        assert!(police.on_ping(secs(9), 1, 0, &limits), "in time");
        assert!(police.on_ping(secs(10), 1, 0, &limits));
        assert!(police.on_ping(secs(11), 1, 1, &limits), "after an answer");
        assert!(police.on_ping(secs(12), 1, 1, &limits));
        assert!(police.on_ping(secs(13), 1, 1, &limits));
        assert!(!police.on_ping(secs(14), 1, 1, &limits));
    }

    #[test]
    fn pings_without_calls_are_for_hours() {
        let mut limits = Limits::default();
        let mut police = PingPolice::default();
        assert!(police.on_ping(secs(0), 0, 0, &limits));
        assert!(police.on_ping(secs(100), 0, 0, &limits));
        assert!(police.on_ping(secs(200), 0, 0, &limits));
        assert!(police.on_ping(secs(7400), 0, 0, &limits), "two hours later");
        assert!(!police.on_ping(secs(7500), 0, 0, &limits));
        limits.ping_without_calls = true;
        police = PingPolice::default();
        for time in 0..10 {
            assert!(police.on_ping(secs(time * 5), 0, 0, &limits));
        }
    }

    #[test]
    fn a_silent_peer_is_pinged_then_given_up() {
        let limits = Limits::default();
        let mut alive = KeepAlive::new(secs(0));
        assert_eq!(alive.next_timeout(&limits), Some(secs(7200)));
        assert_eq!(alive.on_time(secs(7199), &limits), Silence::Fine);
        assert_eq!(alive.on_time(secs(7200), &limits), Silence::Ping);
        assert_eq!(alive.on_time(secs(7219), &limits), Silence::Fine);
        alive.on_read(secs(7219));
        assert_eq!(alive.next_timeout(&limits), Some(secs(14_419)));
        assert_eq!(alive.on_time(secs(14_419), &limits), Silence::Ping);
        assert_eq!(alive.on_time(secs(14_439), &limits), Silence::Dead);
    }
}
