//! Locks that a killed member may still hold for a moment.

use std::time::Duration;

use driver::LockError;

use super::StorageError;

/// How long a file that is locked is tried again.
const PATIENCE: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Takes a lock. One that is held is tried again for a while: what a killed member had under way on its ring keeps
/// the file open until it has ended, some milliseconds after the process itself.
pub(super) async fn patiently<T>(
    try_lock: impl Fn() -> Result<T, LockError>,
) -> Result<T, StorageError> {
    let deadline = driver::now() + PATIENCE;
    loop {
        match try_lock() {
            Err(LockError::Held { .. }) if driver::now() < deadline => {
                driver::sleep(RETRY_INTERVAL).await;
            }
            locked => return locked.map_err(StorageError::lock),
        }
    }
}
