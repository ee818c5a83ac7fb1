//! A directory in memory that does at once and for certain what the log asks for.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::wal::{
    BLOCK_BYTES, FileNo, Recovered, Recovery, RecoveryError, SegmentName, Wal, WalFile, WalIo,
    WalOp,
};

#[derive(Debug, Default)]
pub(super) struct Disk {
    files: BTreeMap<WalFile, Vec<u8>>,
    open: BTreeMap<FileNo, WalFile>,
}

impl Disk {
    pub(super) fn insert(&mut self, name: SegmentName, content: Vec<u8>) {
        self.files.insert(WalFile::Segment(name), content);
    }

    pub(super) fn recover(&self) -> Result<Recovered, RecoveryError> {
        let mut recovery = Recovery::new();
        for (file, content) in &self.files {
            if let WalFile::Segment(name) = file {
                recovery.on_segment(*name, Bytes::copy_from_slice(content))?;
            }
        }
        recovery.finish()
    }

    /// The content of the newest segment.
    pub(super) fn last_segment(&mut self) -> Option<&mut Vec<u8>> {
        let is_segment = |file: &WalFile| matches!(file, WalFile::Segment(_));
        let last = self.files.iter_mut().rfind(|(file, _)| is_segment(file));
        last.map(|(_, content)| content)
    }

    /// Performs what the log wants until it wants no more.
    pub(super) fn run(&mut self, wal: &mut Wal) {
        while let Some(io) = wal.poll_io() {
            self.perform(&io);
            wal.on_io_done(io.ticket, Ok(()));
        }
    }

    pub(super) fn close_all(&mut self) {
        self.open.clear();
    }

    fn perform(&mut self, io: &WalIo) {
        match &io.op {
            WalOp::Claim { file, name, len } => {
                assert!(
                    !self.open.values().any(|open| open == name),
                    "{name} is in use"
                );
                self.files.insert(*name, vec![0; *len as usize]);
                self.open.insert(*file, *name);
            }
            WalOp::Open { file, name } => {
                assert!(self.files.contains_key(name), "{name} does not exist");
                self.open.insert(*file, *name);
            }
            WalOp::Allocate { file, len } => {
                let content = self.content(*file);
                assert!(*len as usize >= content.len(), "enlarging makes it smaller");
                content.resize(*len as usize, 0);
            }
            WalOp::Zero { file, offset, len } => {
                self.write(*file, *offset, &vec![0; *len as usize]);
            }
            WalOp::Write {
                file,
                offset,
                blocks,
            } => self.write(*file, *offset, blocks),
            WalOp::Rename { file, from, to } => {
                assert_eq!(self.open.insert(*file, *to), Some(*from));
                let content = self.files.remove(from).unwrap_or_default();
                assert_eq!(self.files.insert(*to, content), None, "{to} existed");
            }
            WalOp::Close { file } => {
                self.open.remove(file);
            }
            WalOp::Discard { file, name } => {
                self.open.remove(file);
                self.files.remove(name);
            }
            WalOp::Sync { .. } | WalOp::SyncDirectory => {}
        }
    }

    fn write(&mut self, file: FileNo, offset: u64, octets: &[u8]) {
        assert_eq!(offset % BLOCK_BYTES, 0, "offset {offset}");
        assert_eq!(octets.len() as u64 % BLOCK_BYTES, 0, "{}", octets.len());
        let content = self.content(file);
        let start = offset as usize;
        let end = start + octets.len();
        assert!(end <= content.len(), "{end} is past the claimed space");
        content[start..end].copy_from_slice(octets);
    }

    fn content(&mut self, file: FileNo) -> &mut Vec<u8> {
        let name = self.open.get(&file).expect("only open files are used");
        self.files.get_mut(name).expect("open files exist")
    }
}
