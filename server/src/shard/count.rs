//! What applied entries add to the metrics.

use engine::state::{Applied, ApplyEffect, Response};
use proto::etcdserverpb::{AlarmType, TxnResponse, response_op};

use crate::metrics::{Counter, Metrics};

/// Counts the operations of an applied entry and notes what it changed about the node.
pub(super) fn count_applied(metrics: &Metrics, applied: &Applied) {
    match &applied.result {
        Ok(Response::Put(_)) => metrics.put_total.inc(),
        Ok(Response::DeleteRange(_)) => metrics.delete_total.inc(),
        Ok(Response::Range(_)) => metrics.range_total.inc(),
        Ok(Response::Txn(response)) => count_txn(metrics, response),
        _ => {}
    }
    for effect in &applied.effects {
        match effect {
            ApplyEffect::LeaseGranted { ttl, .. } => metrics.lease_granted(*ttl),
            ApplyEffect::LeaseRevoked { .. } => metrics.lease_revoked.inc(),
            ApplyEffect::ClusterVersionSet { version } => set_cluster_version(metrics, version),
            _ => {}
        }
    }
}

/// etcd counts a transaction as one only if it did more than one thing, nested ones included.
pub(crate) fn count_txn(metrics: &Metrics, response: &TxnResponse) {
    if count_operations(metrics, response) > 1 {
        metrics.txn_total.inc();
    }
}

/// Returns how many there were.
fn count_operations(metrics: &Metrics, response: &TxnResponse) -> usize {
    let count = |counter: &Counter| {
        counter.inc();
        1
    };
    let operations = response.responses.iter().map(|op| match &op.response {
        Some(response_op::Response::ResponseRange(_)) => count(&metrics.range_total),
        Some(response_op::Response::ResponsePut(_)) => count(&metrics.put_total),
        Some(response_op::Response::ResponseDeleteRange(_)) => count(&metrics.delete_total),
        Some(response_op::Response::ResponseTxn(nested)) => count_operations(metrics, nested),
        None => 0,
    });
    operations.sum()
}

/// The label has only major and minor.
pub(super) fn set_cluster_version(metrics: &Metrics, version: &str) {
    let short = version
        .rsplit_once('.')
        .map_or(version, |(short, _patch)| short);
    metrics.node.set_cluster_version(short);
}

/// The word that metrics use for an alarm.
pub(super) fn alarm_label(alarm: i32) -> &'static str {
    AlarmType::try_from(alarm).map_or("UNKNOWN", |alarm| alarm.as_str_name())
}
