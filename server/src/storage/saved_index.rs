//! `member/index.etcore`: the index as the last clean stop left it, for the next start.
//!
//! A cache beside the database (`engine::index`'s `saved`): a start that cannot use it reads the pairs instead, so nothing
//! that fails here is more than a line in the log. It is written under another name, synced and renamed, and stays where it
//! is until the next clean stop; the first checkpoint makes it useless, not wrong. etcd takes no notice of it.

use std::io;

use driver::fs;

use super::StoreDisk;
use crate::logging;

const NAME: &str = "index.etcore";
const NAME_IN_THE_MAKING: &str = "index.etcore.tmp";
const MODE: u32 = 0o600;
/// A longer one is neither written nor read, for it is in memory as a whole: some forty million keys.
const SIZE_BYTES_MAX: u64 = 1 << 30;

impl StoreDisk {
    /// What the last clean stop saved, if there is anything to be read.
    pub async fn read_saved_index(&self) -> Option<Vec<u8>> {
        let path = self.directory().member().join(NAME);
        match fs::read(&path, SIZE_BYTES_MAX).await {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                logging::warn!(
                    "cannot read the saved index; reading the database instead",
                    "path" => path.display().to_string(),
                    "error" => error.to_string()
                );
                None
            }
        }
    }

    /// Puts an index in place of the one that was saved before, durably.
    pub async fn save_index(&self, bytes: Vec<u8>) {
        let start = driver::now();
        let len = bytes.len() as u64;
        let path = self.directory().member().join(NAME);
        match self.replace_saved_index(bytes).await {
            Ok(()) => logging::info!(
                "saved the index for the next start",
                "path" => path.display().to_string(),
                "size" => len,
                "took" => driver::now() - start
            ),
            Err(error) => logging::warn!(
                "cannot save the index; the next start reads the database instead",
                "path" => path.display().to_string(),
                "error" => error.to_string()
            ),
        }
    }

    async fn replace_saved_index(&self, bytes: Vec<u8>) -> io::Result<()> {
        if bytes.len() as u64 > SIZE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let member = self.directory().member();
        let temporary = member.join(NAME_IN_THE_MAKING);
        match fs::remove(&temporary).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::write_new(&temporary, MODE, bytes).await?;
        fs::rename(&temporary, member.join(NAME)).await?;
        fs::sync_dir(member).await
    }
}
