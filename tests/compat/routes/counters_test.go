package routes

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// counters must have moved by as much after the same calls. etcd counts ranges that it makes for itself as well, for
// compares, previous pairs and compactions; none of these are among them.
var counters = []string{
	"etcd_mvcc_range_total", "etcd_mvcc_put_total", "etcd_mvcc_delete_total", "etcd_mvcc_txn_total",
	"etcd_server_proposals_failed_total", "etcd_disk_defrag_inflight",
	"etcd_debugging_lease_granted_total", "etcd_debugging_lease_revoked_total", "etcd_debugging_lease_renewed_total",
	"etcd_debugging_mvcc_events_total", "etcd_debugging_mvcc_watcher_total", "etcd_debugging_mvcc_watch_stream_total",
	"etcd_debugging_mvcc_keys_total", "etcd_debugging_mvcc_current_revision", "etcd_debugging_mvcc_compact_revision",
	"etcd_debugging_mvcc_total_put_size_in_bytes", "etcd_debugging_auth_revision",
}

func TestCountersAgree(t *testing.T) {
	t.Parallel()
	reference, subject := startBoth(t)
	wanted, got := moved(t, reference), moved(t, subject)
	if difference := cmp.Diff(wanted, got); difference != "" {
		t.Errorf("(-reference +subject):\n%s", difference)
	}
}

// moved are the counters before and after some calls.
func moved(t *testing.T, server *harness.Server) [][]string {
	t.Helper()
	page := func() string {
		return ask(t, clients()["HTTP/1.1"], server, route{method: "GET", path: "/metrics"}).Body
	}
	before := page()
	countedCalls(t, server)
	// The last lines of a page may be older than the last answer.
	deadline := time.Now().Add(10 * time.Second)
	after := page()
	for valueOf(after, "etcd_debugging_mvcc_events_total") != "3" && time.Now().Before(deadline) {
		after = page()
	}
	var all [][]string
	for _, name := range counters {
		first, last := valueOf(before, name), valueOf(after, name)
		if name == "etcd_mvcc_range_total" {
			// Who waited for the server to be ready has asked as often as it took.
			first, last = "", difference(t, first, last)
		}
		all = append(all, []string{name, first, last})
	}
	return all
}

func valueOf(page, name string) string {
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "missing"
}

func countedCalls(t *testing.T, server *harness.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	connection := server.Connection(t)
	kv, lease := pb.NewKVClient(connection), pb.NewLeaseClient(connection)
	get := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a")}}}
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a"), Value: []byte("v")}}}
	del := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("b")}}}
	nested := func(ops ...*pb.RequestOp) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: ops}}}
	}

	watch, err := pb.NewWatchClient(connection).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	create := &pb.WatchCreateRequest{Key: []byte("a")}
	if err := watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	// What is refused counts, or does not, as with etcd.
	_, _ = kv.Put(ctx, &pb.PutRequest{})
	_, _ = kv.Put(ctx, &pb.PutRequest{Key: []byte("a"), Value: make([]byte, 1_600_000)})
	_, _ = kv.Put(ctx, &pb.PutRequest{Key: []byte("a"), Lease: 99})
	_, _ = kv.Range(ctx, &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("z")})
	_, _ = kv.Range(ctx, &pb.RangeRequest{Key: []byte("a"), Serializable: true})
	_, _ = kv.Range(ctx, &pb.RangeRequest{Key: []byte("a"), Revision: 1000})
	_, _ = kv.Range(ctx, &pb.RangeRequest{})
	_, _ = kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("none")})
	for _, success := range [][]*pb.RequestOp{
		{}, {get}, {put}, {get, get}, {put, get, del}, {nested(put)}, {nested(get, get)}, {nested(get), del},
	} {
		if _, err := kv.Txn(ctx, &pb.TxnRequest{Success: success}); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 1, TTL: 100})
	_, _ = lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 1, TTL: 100})
	_, _ = lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 7})
	_, _ = lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 1})
	for range 3 {
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
	}
}

func difference(t *testing.T, first, last string) string {
	t.Helper()
	number := func(text string) (number int) {
		if _, err := fmt.Sscan(text, &number); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return number
	}
	return fmt.Sprint(number(last) - number(first))
}
