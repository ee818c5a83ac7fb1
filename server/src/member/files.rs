//! Names the files in what the engine reports: it knows of none.

use std::path::PathBuf;

use engine::backend::Damage;
use engine::boot::BootError;
use engine::node::{NodeFailure, StartError};
use engine::state::RestoreError;
use engine::store::OpenError;

use super::MemberError;
use crate::config::Config;
use crate::storage::StoreDisk;

/// Where this member's files are. Absolute, because whoever reads a message may stand elsewhere than the member did when it
/// was started.
#[derive(Clone, Debug)]
pub(super) struct Files {
    data_dir: PathBuf,
    database: PathBuf,
}

impl Files {
    pub(super) fn new(config: &Config, disk: &StoreDisk) -> Self {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        Files {
            data_dir: absolute(config.data_dir.clone()),
            database: absolute(disk.path()),
        }
    }

    pub(super) fn database(&self) -> String {
        self.database.display().to_string()
    }

    pub(super) fn boot(&self, source: BootError) -> MemberError {
        let data_dir = self.data_dir.clone();
        MemberError::Boot { data_dir, source }
    }

    pub(super) fn open(&self, source: OpenError) -> MemberError {
        let path = self.database.clone();
        match source {
            OpenError::Damage(damage) => self.damaged(damage),
            source => MemberError::Open { path, source },
        }
    }

    pub(super) fn damaged(&self, damage: impl Into<Damage>) -> MemberError {
        MemberError::Damaged {
            path: self.database.clone(),
            damage: damage.into(),
        }
    }

    pub(super) fn start(&self, error: StartError) -> MemberError {
        let path = self.database.clone();
        match error {
            StartError::Restore(RestoreError::Damage(damage)) => self.damaged(damage),
            StartError::Restore(source) => MemberError::Restore { path, source },
            StartError::Entry(failure) => self.failure(failure),
            other => MemberError::Start(other),
        }
    }

    pub(super) fn failure(&self, failure: NodeFailure) -> MemberError {
        match failure {
            NodeFailure::Damaged(damage) => self.damaged(damage),
            other => MemberError::Failed(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::types::Revision;

    fn files() -> Files {
        Files {
            data_dir: PathBuf::from("/data"),
            database: PathBuf::from("/data/member/snap/db"),
        }
    }

    /// At the start, while serving and at the stop alike: the file, the place, what to do.
    #[test]
    fn damage_is_told_with_file_place_and_cure() {
        let damage = Damage::BadPair {
            revision: Revision { main: 7, sub: 1 },
        };
        let of_start = files().start(StartError::Restore(damage.clone().into()));
        let of_entry = files().start(StartError::Entry(damage.clone().into()));
        let of_service = files().failure(damage.into());
        for error in [of_start, of_entry, of_service] {
            let text = error.to_string();
            for word in [
                "/data/member/snap/db: ",
                "revision 7",
                "restore",
                "snapshot",
                "remove",
            ] {
                assert!(text.contains(word), "no {word:?} in {text}");
            }
        }
    }

    #[test]
    fn files_that_contradict_each_other_are_told_with_their_directory() {
        let error = files().boot(BootError::StorageVersion { major: 3, minor: 9 });
        let text = error.to_string();
        for word in [
            "/data: ",
            "version \"3.9.0\" is not supported",
            "member/snap/db",
        ] {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
    }
}
