//! Bytes of logs as they lie on disks: ours, and those of real etcds.
