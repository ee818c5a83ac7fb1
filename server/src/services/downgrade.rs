//! Downgrade: the cluster goes back to the version before, so that members of that version can take over.
//!
//! Enabling one is an entry of the log, cancelling it another. What follows from them, that the cluster's version goes
//! down or up again, is the log shard's business ([`versions`](crate::shard)); the answer does not wait for it, as
//! etcd's does not.

use std::rc::Rc;

use engine::state::ClusterVersion;
use net::grpc::{Code, Status};
use proto::etcdserverpb::downgrade_request::DowngradeAction;
use proto::etcdserverpb::{DowngradeRequest, DowngradeResponse, InternalRaftRequest};
use proto::membershippb::DowngradeInfoSetRequest;

use super::{refused, respond};
use crate::errors::FrontError;
use crate::shard::{LogShard, NodeReply, Waiter};

const UNKNOWN_METHOD: &str = "etcdserver: unknown method";

pub(crate) fn downgrade(log: &Rc<LogShard>, request: DowngradeRequest, reply: NodeReply) {
    let log = Rc::clone(log);
    driver::spawn(async move {
        let answered = match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => validate(&log, &request.version).await.map(drop),
            Ok(DowngradeAction::Enable) => enable(&log, &request.version).await,
            Ok(DowngradeAction::Cancel) => {
                cancel(&log).await;
                Ok(())
            }
            Err(_) => Err(Status::new(Code::Unknown, UNKNOWN_METHOD)),
        };
        reply.finish(answered.map(|()| {
            respond::message(&DowngradeResponse {
                header: Some(log.header(log.with_node(|node| node.view().revision()))),
                version: short_version(&log),
            })
        }));
    })
    .detach();
}

/// The cluster's version without its last number.
fn short_version(log: &LogShard) -> String {
    let version = cluster_version(log);
    version.map_or_else(String::new, |version| {
        format!("{}.{}", version.major, version.minor)
    })
}

fn cluster_version(log: &LogShard) -> Option<ClusterVersion> {
    log.with_node(|node| ClusterVersion::parse(node.membership().cluster_version()?))
}

fn is_under_way(log: &LogShard) -> bool {
    log.with_node(|node| node.membership().downgrade_target().is_some())
}

/// Whether the cluster can be downgraded to this version: only to the one before, one downgrade at a time.
async fn validate(log: &LogShard, version: &str) -> Result<ClusterVersion, Status> {
    let target = read_target(version).ok_or(FrontError::WrongDowngradeVersionFormat.status())?;
    if cluster_version(log).is_none() {
        return Err(FrontError::ClusterVersionUnavailable.status());
    }
    let fresh = log.freshness().await;
    fresh.map_err(FrontError::status)?;
    let before = cluster_version(log).and_then(ClusterVersion::before);
    let target = before.filter(|version| target == (version.major.into(), version.minor.into()));
    let target = target.ok_or(FrontError::InvalidDowngradeTargetVersion.status())?;
    if is_under_way(log) {
        return Err(FrontError::DowngradeInProcess.status());
    }
    Ok(target)
}

async fn enable(log: &LogShard, version: &str) -> Result<(), Status> {
    let target = validate(log, version).await?;
    propose(log, Some(target)).await
}

/// etcd answers so whatever becomes of it.
async fn cancel(log: &LogShard) {
    let fresh = log.freshness().await;
    if fresh.is_ok() && is_under_way(log) && propose(log, None).await.is_ok() {
        log.raise_version();
    }
}

async fn propose(log: &LogShard, target: Option<ClusterVersion>) -> Result<(), Status> {
    let (sender, outcome) = driver::oneshot();
    let request = InternalRaftRequest {
        downgrade_info_set: Some(Box::new(DowngradeInfoSetRequest {
            enabled: target.is_some(),
            ver: target.map_or_else(String::new, |target| target.to_string()),
        })),
        ..InternalRaftRequest::default()
    };
    log.propose(request, Waiter::Task(sender))
        .map_err(FrontError::status)?;
    match outcome.await.unwrap_or(Err(FrontError::Stopped)) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refused(error)),
        Err(error) => Err(error.status()),
    }
}

/// Major and minor of a version as etcd reads it: three numbers, or two; what stands behind a minus or a plus is
/// checked and does not count.
fn read_target(text: &str) -> Option<(i64, i64)> {
    read_version(text).or_else(|| read_version(&format!("{text}.0")))
}

fn read_version(text: &str) -> Option<(i64, i64)> {
    let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
    let (text, pre_release) = text.split_once('-').unwrap_or((text, ""));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if ![metadata, pre_release]
        .iter()
        .all(|part| part.chars().all(is_plain))
    {
        return None;
    }
    let mut numbers = text.splitn(3, '.').map(str::parse::<i64>);
    let (major, minor, patch) = (numbers.next()?, numbers.next()?, numbers.next()?);
    patch.ok()?;
    Some((major.ok()?, minor.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_etcd_reads_them() {
        for (text, read) in [
            ("3.6", Some((3, 6))),
            ("3.6.5", Some((3, 6))),
            ("03.006.5", Some((3, 6))),
            ("3.6.5-rc.1+build-7", Some((3, 6))),
            ("3.99999999999", Some((3, 99_999_999_999))),
            ("3.6-rc", None),
            ("3.6.5-r_c", None),
            ("3.6.5+", Some((3, 6))),
            ("v3.6", None),
            ("3", None),
            ("3.6.1.2", None),
            ("", None),
            (".", None),
            ("3. 6", None),
            ("3.99999999999999999999", None),
        ] {
            assert_eq!(read_target(text), read, "{text}");
        }
    }
}
