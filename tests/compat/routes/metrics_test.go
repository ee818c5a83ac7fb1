package routes

import (
	"context"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	lpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// missing are families that etcd has and etcore does not: a name is better
// missing than fed with something else. Each with its reason.
var missing = map[string]string{
	"etcd_debugging_disk_backend_commit_rebalance_duration_seconds":    "a commit has no such part",
	"etcd_debugging_disk_backend_commit_spill_duration_seconds":        "a commit has no such part",
	"etcd_debugging_disk_backend_commit_write_duration_seconds":        "writing goes on beside all else",
	"etcd_debugging_mvcc_db_compaction_keys_total":                     "not counted",
	"etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds":    "sweeps do not pause",
	"etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds": "sweeps do not pause",
	"etcd_debugging_snap_save_marshalling_duration_seconds":            "not measured by itself",
	"etcd_debugging_snap_save_total_duration_seconds":                  "not measured by itself",
	"etcd_debugging_store_expires_total":                               "no v2 store",
	"etcd_debugging_store_reads_failed_total":                          "no v2 store",
	"etcd_debugging_store_reads_total":                                 "no v2 store",
	"etcd_debugging_store_watch_requests_total":                        "no v2 store",
	"etcd_debugging_store_watchers":                                    "no v2 store",
	"etcd_debugging_store_writes_failed_total":                         "no v2 store",
	"etcd_debugging_store_writes_total":                                "no v2 store",
	"etcd_grpc_proxy_cache_hits_total":                                 "no proxy",
	"etcd_grpc_proxy_cache_keys_total":                                 "no proxy",
	"etcd_grpc_proxy_cache_misses_total":                               "no proxy",
	"etcd_grpc_proxy_events_coalescing_total":                          "no proxy",
	"etcd_grpc_proxy_watchers_coalescing_total":                        "no proxy",
	"etcd_mvcc_db_open_read_transactions":                              "reads have no transactions",
	"etcd_server_apply_duration_seconds":                               "entries are applied in slices",
	"etcd_server_feature_enabled":                                      "no gates of etcd's are read",
	"etcd_server_go_version":                                           "no Go",
	"etcd_server_heartbeat_send_failures_total":                        "a peer's queue drops without counting",
	"etcd_server_learner_promote_failures":                             "promotions are asked of etcd",
	"etcd_server_learner_promote_successes":                            "promotions are asked of etcd",
	"etcd_server_slow_read_indexes_total":                              "not counted",
	"etcd_server_snapshot_apply_in_progress_total":                     "no database of a peer is received",
	"etcd_snap_db_fsync_duration_seconds":                              "no database of a peer is received",
	"etcd_snap_db_save_total_duration_seconds":                         "no database of a peer is received",
}

// The same load leaves the same families, with the same labels and types.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	reference, subject := startBoth(t, "--metrics=extensive")
	seen := func(server *harness.Server) map[string]family {
		load(t, server)
		page := ask(t, clients()["HTTP/1.1"], server, route{method: "GET", path: "/metrics"})
		return familiesOf(page.Body)
	}
	wanted, got := seen(reference), seen(subject)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if strings.HasPrefix(name, "go_") {
			continue // of Go's runtime
		}
		own, ok := got[name]
		switch {
		case !ok && missing[name] == "":
			t.Errorf("%s is missing", name)
		case ok && missing[name] != "" && subject.Program.Name != reference.Program.Name:
			t.Errorf("%s is there, though it is said to be missing", name)
		case ok && own.kind != wanted[name].kind:
			t.Errorf("%s is a %s, wanted a %s", name, own.kind, wanted[name].kind)
		case ok && !slices.Equal(own.labels, wanted[name].labels):
			t.Errorf("%s has labels %q, wanted %q", name, own.labels, wanted[name].labels)
		}
	}
	for name := range got {
		if _, ok := wanted[name]; !ok && !strings.HasPrefix(name, "etcore_") {
			t.Errorf("%s is not of etcd", name)
		}
	}
}

// load does at least once what has metrics.
func load(t *testing.T, server *harness.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	connection := server.Connection(t)
	kv, lease, upkeep := pb.NewKVClient(connection), pb.NewLeaseClient(connection), pb.NewMaintenanceClient(connection)
	check := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", server.Program.Name, err)
		}
	}
	key := []byte("k")

	watch, err := pb.NewWatchClient(connection).Watch(ctx)
	check(watch, err)
	check(nil, watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: key},
	}}))
	check(watch.Recv())
	check(lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 1, TTL: 100}))
	check(kv.Put(ctx, &pb.PutRequest{Key: key, Lease: 1}))
	check(watch.Recv())
	alive, err := lease.LeaseKeepAlive(ctx)
	check(alive, err)
	check(nil, alive.Send(&pb.LeaseKeepAliveRequest{ID: 1}))
	check(alive.Recv())
	check(lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 1}))
	check(kv.Range(ctx, &pb.RangeRequest{Key: key}))
	check(kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key}))
	check(kv.Txn(ctx, &pb.TxnRequest{}))
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key}}}
	written, err := kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{put}})
	check(written, err)
	check(kv.Compact(ctx, &pb.CompactionRequest{Revision: written.Header.Revision, Physical: true}))
	check(upkeep.HashKV(ctx, &pb.HashKVRequest{}))
	check(upkeep.Hash(ctx, &pb.HashRequest{}))
	check(upkeep.Defragment(ctx, &pb.DefragmentRequest{}))
	for _, action := range []pb.AlarmRequest_AlarmAction{pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE} {
		check(upkeep.Alarm(ctx, &pb.AlarmRequest{Action: action, Alarm: pb.AlarmType_NOSPACE, MemberID: 1}))
	}
	check(lpb.NewLockClient(connection).Lock(ctx, &lpb.LockRequest{Name: key}))
	snapshot, err := upkeep.Snapshot(ctx, &pb.SnapshotRequest{})
	check(snapshot, err)
	for err == nil {
		_, err = snapshot.Recv()
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	for _, path := range []string{"/health", "/readyz", "/livez"} {
		ask(t, clients()["HTTP/1.1"], server, route{method: "GET", path: path})
	}
}

// family is what is compared of a family of metrics.
type family struct {
	kind   string
	labels []string
}

var (
	sample = regexp.MustCompile(`(?m)^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? `)
	label  = regexp.MustCompile(`([a-zA-Z_]+)="`)
)

func familiesOf(page string) map[string]family {
	families := map[string]family{}
	for name, kind := range typesOf(page) {
		families[name] = family{kind: kind}
	}
	for _, line := range sample.FindAllStringSubmatch(page, -1) {
		name := line[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); families[base].kind == "histogram" {
				name = base
			}
		}
		known, ok := families[name]
		if !ok {
			continue
		}
		for _, match := range label.FindAllStringSubmatch(line[2], -1) {
			if match[1] != "le" && !slices.Contains(known.labels, match[1]) {
				known.labels = append(known.labels, match[1])
			}
		}
		slices.Sort(known.labels)
		families[name] = known
	}
	return families
}
