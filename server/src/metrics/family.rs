//! The series without labels, as one table, and the [`Metrics`] of a shard made from it.

use super::exposition::{Exposition, Type};
use super::node::NodeMetrics;
use super::requests::{self, ClientRequests, RequestMetrics};
use super::rpc::{RpcMetrics, StreamFailures};
use super::value::{Counter, Gauge, Histogram, doubling};

static WAL_BOUNDS: [f64; 14] = doubling(0.001);
static HASH_BOUNDS: [f64; 15] = doubling(0.01);
/// No turn shall take more than 1 ms, but for one in ten thousand.
static TURN_BOUNDS: [f64; 12] = [
    0.000_01, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 1.0,
];
static SNAPSHOT_BOUNDS: [f64; 17] = doubling(0.01);
static DEFRAG_BOUNDS: [f64; 13] = doubling(0.1);
/// In milliseconds.
static SWEEP_BOUNDS: [f64; 14] = doubling(100.0);
static TTL_BOUNDS: [f64; 24] = doubling(1.0);

/// Writes the struct, its start values and the page from one list.
macro_rules! families {
    (
        counters { $($counter:ident $counter_name:literal $counter_help:literal)* }
        gauges { $($gauge:ident $gauge_name:literal $gauge_help:literal)* }
        histograms { $($histogram:ident $bounds:ident $histogram_name:literal $histogram_help:literal)* }
    ) => {
        /// The numbers of one shard. Only this shard changes them; every shard may read them.
        #[derive(Debug)]
        pub struct Metrics {
            $(#[doc = $counter_help] pub $counter: Counter,)*
            $(#[doc = $gauge_help] pub $gauge: Gauge,)*
            $(#[doc = $histogram_help] pub $histogram: Histogram,)*
            /// Scrapes that were answered.
            pub scrapes: Counter,
            pub stream_failures: StreamFailures,
            /// Facts of the node, changed rarely.
            pub node: NodeMetrics,
            pub(super) rpc: RpcMetrics,
            pub(super) requests: RequestMetrics,
            pub(super) client_requests: ClientRequests,
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self {
                    $($counter: Counter::default(),)*
                    $($gauge: Gauge::default(),)*
                    $($histogram: Histogram::new(&$bounds),)*
                    scrapes: Counter::default(),
                    stream_failures: StreamFailures::default(),
                    node: NodeMetrics::default(),
                    rpc: RpcMetrics::default(),
                    requests: RequestMetrics::default(),
                    client_requests: ClientRequests::default(),
                }
            }
        }

        fn collect_table(shards: &[&Metrics], out: &mut Exposition) {
            $(
                let total: u64 = shards.iter().map(|shard| shard.$counter.get()).sum();
                out.number($counter_name, $counter_help, Type::Counter, &[], total as f64);
            )*
            $(
                let total = shards.iter().filter_map(|shard| shard.$gauge.get()).reduce(|a, b| a + b);
                if let Some(total) = total {
                    out.number($gauge_name, $gauge_help, Type::Gauge, &[], total);
                }
            )*
            $(
                let parts = shards.iter().map(|shard| requests::totals_part(&shard.$histogram));
                if let Some(totals) = requests::sum(parts) {
                    out.histogram($histogram_name, $histogram_help, &[], &totals);
                }
            )*
        }
    };
}

#[rustfmt::skip]
families! {
    counters {
        leader_changes "etcd_server_leader_changes_seen_total" "Changes of the leader."
        proposals_failed "etcd_server_proposals_failed_total" "Proposals that found no room in the log or timed out."
        slow_applies "etcd_server_slow_apply_total" "Ranges that took longer than --warning-apply-duration."
        health_success "etcd_server_health_success" "Answers of /health that were good."
        health_failures "etcd_server_health_failures" "Answers of /health that were bad."
        range_total "etcd_mvcc_range_total" "Ranges executed or refused by the store, and those inside transactions."
        put_total "etcd_mvcc_put_total" "Puts executed, those inside transactions too."
        delete_total "etcd_mvcc_delete_total" "Delete ranges executed, those inside transactions too."
        txn_total "etcd_mvcc_txn_total" "Transactions of more than one operation."
        client_sent_bytes "etcd_network_client_grpc_sent_bytes_total" "Bytes of messages sent to clients."
        client_received_bytes "etcd_network_client_grpc_received_bytes_total" "Bytes of messages received from clients."
        watch_events "etcd_debugging_mvcc_events_total" "Events sent to watchers."
        lease_granted "etcd_debugging_lease_granted_total" "Leases granted."
        lease_revoked "etcd_debugging_lease_revoked_total" "Leases revoked."
        lease_renewed "etcd_debugging_lease_renewed_total" "Leases renewed by this member as the leader."
        lease_expired "etcd_debugging_server_lease_expired_total" "Leases that ran out and were revoked for it."
        read_indexes_failed "etcd_server_read_indexes_failed_total" "Reads that waited in vain for a state new enough."
    }
    gauges {
        has_leader "etcd_server_has_leader" "1 if a leader is known."
        is_leader "etcd_server_is_leader" "1 if this member leads."
        is_learner "etcd_server_is_learner" "1 if this member is a learner."
        proposals_committed "etcd_server_proposals_committed_total" "Index of the last committed entry."
        proposals_applied "etcd_server_proposals_applied_total" "Index of the last applied entry."
        proposals_pending "etcd_server_proposals_pending" "Proposals that wait for their outcome."
        quota_backend_bytes "etcd_server_quota_backend_bytes" "Limit of the stored bytes."
        db_total_size "etcd_mvcc_db_total_size_in_bytes" "Bytes of the backend."
        db_size_in_use "etcd_mvcc_db_total_size_in_use_in_bytes" "Bytes of the backend that are in use."
        wal_write_bytes "etcd_disk_wal_write_bytes_total" "Bytes written to the log."
        auth_revision "etcd_debugging_auth_revision" "How often users and roles changed, counted from 1."
        keys "etcd_debugging_mvcc_keys_total" "Keys that exist."
        current_revision "etcd_debugging_mvcc_current_revision" "The newest revision."
        compact_revision "etcd_debugging_mvcc_compact_revision" "The revision of the last compaction."
        watch_streams "etcd_debugging_mvcc_watch_stream_total" "Watch streams."
        watchers "etcd_debugging_mvcc_watcher_total" "Watchers."
        slow_watchers "etcd_debugging_mvcc_slow_watcher_total" "Watchers that are behind the newest revision."
        pending_events "etcd_debugging_mvcc_pending_events_total" "Events of responses that are being handed to a connection, piece by piece."
        defrag_inflight "etcd_disk_defrag_inflight" "1 while the backend is defragmented."
        compaction_last "etcd_debugging_mvcc_db_compaction_last" "When the last compaction's sweep ended, in seconds since 1970."
        put_size_bytes "etcd_debugging_mvcc_total_put_size_in_bytes" "Bytes of the pairs put since the start."
    }
    histograms {
        wal_fsync WAL_BOUNDS "etcd_disk_wal_fsync_duration_seconds" "Time to sync the log."
        wal_write WAL_BOUNDS "etcd_disk_wal_write_duration_seconds" "Time to write to the log."
        turn_cpu TURN_BOUNDS "etcore_executor_turn_cpu_seconds" "CPU time of a turn of an executor's loop, over all of them."
        backend_commit WAL_BOUNDS "etcd_disk_backend_commit_duration_seconds" "Time to bring a checkpoint to the disk, beside all else."
        backend_snapshot SNAPSHOT_BOUNDS "etcd_disk_backend_snapshot_duration_seconds" "Time to send a snapshot of the backend."
        backend_defrag DEFRAG_BOUNDS "etcd_disk_backend_defrag_duration_seconds" "Time to defragment the backend, beside all else."
        snap_fsync WAL_BOUNDS "etcd_snap_fsync_duration_seconds" "Time to write a snapshot file durably."
        compaction SWEEP_BOUNDS "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds" "Time from a compaction to the end of its sweep."
        watch_send WAL_BOUNDS "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds" "Time to hand a response with events to its stream."
        watch_send_event WAL_BOUNDS "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds" "The same for each of its events."
        watch_control WAL_BOUNDS "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds" "Time to hand an answer without events to its stream."
        watch_progress WAL_BOUNDS "etcd_debugging_server_watch_send_loop_progress_duration_seconds" "Time to hand a progress notice to its stream."
        hash HASH_BOUNDS "etcd_mvcc_hash_duration_seconds" "Time to hash the backend."
        hash_kv HASH_BOUNDS "etcd_mvcc_hash_rev_duration_seconds" "Time to hash the key space at a revision."
        lease_ttl TTL_BOUNDS "etcd_debugging_lease_ttl_total" "Times to live of granted leases."
    }
}

/// Everything but the process's own series.
pub(super) fn collect(shards: &[&Metrics], out: &mut Exposition) {
    collect_table(shards, out);
    let rpc: Vec<_> = shards.iter().map(|shard| &shard.rpc).collect();
    RpcMetrics::collect(&rpc, out);
    let failures: Vec<_> = shards.iter().map(|shard| &shard.stream_failures).collect();
    StreamFailures::collect(&failures, out);
    let requests: Vec<_> = shards.iter().map(|shard| &shard.requests).collect();
    RequestMetrics::collect(&requests, out);
    let clients: Vec<_> = shards.iter().map(|shard| &shard.client_requests).collect();
    ClientRequests::collect(&clients, out);
    let nodes: Vec<_> = shards.iter().map(|shard| &shard.node).collect();
    NodeMetrics::collect(&nodes, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_etcds() {
        assert_eq!(
            WAL_BOUNDS.first().zip(WAL_BOUNDS.last()),
            Some((&0.001, &8.192))
        );
        assert_eq!(HASH_BOUNDS.last(), Some(&163.84));
        assert_eq!(TTL_BOUNDS.last(), Some(&8_388_608.0));
    }
}
