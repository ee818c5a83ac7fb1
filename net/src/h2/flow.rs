//! Flow control windows (RFC 9113 §5.2, §6.9).

/// A window never grows beyond this (RFC 9113 §6.9.1).
pub(crate) const WINDOW_MAX: u32 = (1 << 31) - 1;

/// The window of a fresh connection, and of streams before SETTINGS say otherwise.
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;

/// A window grew beyond [`WINDOW_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WindowOverflow;

/// What we may send. Negative after the peer lowered SETTINGS_INITIAL_WINDOW_SIZE below what was already sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendWindow(i32);

impl SendWindow {
    pub(crate) fn new(len: u32) -> Self {
        Self(len.min(WINDOW_MAX) as i32)
    }

    /// How much may be sent now.
    pub(crate) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// `len` was sent; the caller asked `available` before.
    pub(crate) fn consume(&mut self, len: usize) {
        debug_assert!(
            len <= self.available(),
            "sent {len} into a window of {}",
            self.0
        );
        self.0 -= len as i32;
    }

    /// A WINDOW_UPDATE, or the difference of two initial windows.
    pub(crate) fn adjust(&mut self, delta: i64) -> Result<(), WindowOverflow> {
        let sum = i64::from(self.0) + delta;
        if sum > i64::from(WINDOW_MAX) {
            return Err(WindowOverflow);
        }
        // Below: 2^31-1 sent and the initial window lowered by as much twice over cannot happen, as the peer's
        // initial window is never negative; saturate all the same.
        self.0 = sum.max(i64::from(i32::MIN)) as i32;
        Ok(())
    }
}

/// What the peer may send, and what we have not yet told it that it may send again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecvWindow {
    /// What the peer may still send, as it knows it. Negative after [`RecvWindow::resize`] made it smaller.
    open: i64,
    /// Consumed, not announced yet.
    pending: u32,
    /// The size the window goes back to.
    size: u32,
}

impl RecvWindow {
    pub(crate) fn new(size: u32) -> Self {
        let size = size.min(WINDOW_MAX);
        Self {
            open: i64::from(size),
            pending: 0,
            size,
        }
    }

    /// The peer sent `len`. `false`: more than it was allowed.
    #[must_use]
    pub(crate) fn on_data(&mut self, len: u32) -> bool {
        if i64::from(len) > self.open {
            return len == 0;
        }
        self.open -= i64::from(len);
        true
    }

    /// Changes the usual size; the peer knows of it by SETTINGS.
    pub(crate) fn resize(&mut self, size: u32) {
        let size = size.min(WINDOW_MAX);
        self.open += i64::from(size) - i64::from(self.size);
        self.size = size;
    }

    /// `len` received bytes are no longer held. An increment is announced once it is worth a frame.
    #[must_use]
    pub(crate) fn release(&mut self, len: u32) -> Option<u32> {
        self.pending = self.pending.saturating_add(len);
        if self.pending < self.size.div_ceil(2).max(1) {
            return None;
        }
        let room = i64::from(WINDOW_MAX) - self.open;
        let increment = i64::from(std::mem::take(&mut self.pending)).min(room);
        self.grow(increment)
    }

    /// The peer was told by [`RecvWindow::widen`] that the window is this large from now on.
    pub(crate) fn set_size(&mut self, size: u32) {
        self.size = size.min(WINDOW_MAX);
    }

    /// Makes the window wider for now: the peer may send at least `len`. What it takes beyond the usual is returned, to
    /// be kept out of later releases.
    #[must_use]
    pub(crate) fn widen(&mut self, len: u32) -> Option<u32> {
        self.grow(self.missing(len))
    }

    /// By how much the window is too small for `len`.
    pub(crate) fn missing(&self, len: u32) -> i64 {
        (i64::from(len.min(WINDOW_MAX)) - self.open).clamp(0, i64::from(WINDOW_MAX))
    }

    fn grow(&mut self, increment: i64) -> Option<u32> {
        let increment = u32::try_from(increment).ok().filter(|len| *len > 0)?;
        self.open += i64::from(increment);
        Some(increment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_windows_go_negative_but_not_over() {
        let mut window = SendWindow::new(DEFAULT_WINDOW);
        window.consume(65_535);
        window.adjust(-65_535).unwrap();
        assert_eq!((window.available(), window.0), (0, -65_535));
        window.adjust(65_536).unwrap();
        assert_eq!(window.available(), 1);
        assert_eq!(window.adjust(i64::from(WINDOW_MAX)), Err(WindowOverflow));
        window.adjust(i64::from(WINDOW_MAX) - 1).unwrap();
        assert_eq!(window.available(), WINDOW_MAX as usize);
    }

    #[test]
    fn receive_windows_announce_in_halves() {
        let mut window = RecvWindow::new(100);
        assert!(window.on_data(60));
        assert!(!window.on_data(41));
        assert_eq!(window.release(49), None);
        assert_eq!(window.release(1), Some(50));
        assert_eq!(window.missing(91), 1);
        assert_eq!(window.widen(90), None);
        assert_eq!(window.widen(1000), Some(910));
        assert!(window.on_data(1000));
        assert_eq!(window.release(u32::MAX), Some(WINDOW_MAX));
    }

    #[test]
    fn a_smaller_size_counts_what_was_sent() {
        let mut window = RecvWindow::new(100);
        assert!(window.on_data(60));
        window.resize(20);
        assert!(!window.on_data(1) && window.on_data(0));
        assert_eq!(window.release(60), Some(60));
        assert!(window.on_data(20) && !window.on_data(1));
    }

    #[test]
    fn a_tiny_window_still_opens() {
        let mut window = RecvWindow::new(1);
        assert!(window.on_data(1));
        assert_eq!(window.release(1), Some(1));
    }
}
