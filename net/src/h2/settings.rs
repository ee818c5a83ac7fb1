//! SETTINGS (RFC 9113 §6.5): what the peer asks of us.

use super::flow::{DEFAULT_WINDOW, WINDOW_MAX};
use super::frame::{DEFAULT_FRAME_LEN_MAX, ErrorCode, FRAME_LEN_LIMIT};

/// Setting ids.
pub(crate) mod id {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// What the peer announced, or the RFC's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerSettings {
    pub(crate) header_table_size: u32,
    /// `None`: as many as we like.
    pub(crate) concurrent_streams_max: Option<u32>,
    pub(crate) initial_window: u32,
    pub(crate) frame_len_max: u32,
    /// Only a client may keep it at 1.
    pub(crate) enable_push: u32,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            header_table_size: 4096,
            concurrent_streams_max: None,
            initial_window: DEFAULT_WINDOW,
            frame_len_max: DEFAULT_FRAME_LEN_MAX,
            enable_push: 0,
        }
    }
}

impl PeerSettings {
    /// Takes over one entry.
    ///
    /// # Errors
    /// The value is not allowed: a connection error.
    pub(crate) fn set(&mut self, id: u16, value: u32) -> Result<(), ErrorCode> {
        match id {
            id::HEADER_TABLE_SIZE => self.header_table_size = value,
            id::ENABLE_PUSH if value > 1 => return Err(ErrorCode::PROTOCOL_ERROR),
            id::ENABLE_PUSH => self.enable_push = value,
            id::MAX_CONCURRENT_STREAMS => self.concurrent_streams_max = Some(value),
            id::INITIAL_WINDOW_SIZE if value > WINDOW_MAX => {
                return Err(ErrorCode::FLOW_CONTROL_ERROR);
            }
            id::INITIAL_WINDOW_SIZE => self.initial_window = value,
            id::MAX_FRAME_SIZE if !(DEFAULT_FRAME_LEN_MAX..=FRAME_LEN_LIMIT).contains(&value) => {
                return Err(ErrorCode::PROTOCOL_ERROR);
            }
            id::MAX_FRAME_SIZE => self.frame_len_max = value,
            // MAX_HEADER_LIST_SIZE is advice, and our lists are small. Unknown ones are ignored (§6.5.2).
            _ => {}
        }
        Ok(())
    }
}

/// The entries of a payload whose length is a multiple of six.
pub(crate) fn entries(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.chunks_exact(6).map(|entry| match *entry {
        [a, b, c, d, e, f] => (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])),
        // chunks_exact gives nothing else.
        _ => (0, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused() {
        let mut settings = PeerSettings::default();
        let refused = [
            (id::ENABLE_PUSH, 2, ErrorCode::PROTOCOL_ERROR),
            (
                id::INITIAL_WINDOW_SIZE,
                1 << 31,
                ErrorCode::FLOW_CONTROL_ERROR,
            ),
            (id::MAX_FRAME_SIZE, 16_383, ErrorCode::PROTOCOL_ERROR),
            (id::MAX_FRAME_SIZE, 1 << 24, ErrorCode::PROTOCOL_ERROR),
        ];
        for (id, value, code) in refused {
            assert_eq!(settings.set(id, value), Err(code));
        }
        assert_eq!(settings, PeerSettings::default());
        settings.set(99, 1).unwrap();
        settings.set(id::MAX_FRAME_SIZE, FRAME_LEN_LIMIT).unwrap();
        assert_eq!(settings.frame_len_max, FRAME_LEN_LIMIT);
    }

    #[test]
    fn entries_are_cut_in_six() {
        let list: Vec<_> = entries(&[0, 4, 0, 0, 0, 1, 0, 9, 1, 0, 0, 0]).collect();
        assert_eq!(list, [(4, 1), (9, 1 << 24)]);
    }
}
