package differential

import (
	"testing"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
)

// The reference panics on this transaction, now and at every restart. We must
// answer it, as what it is: a put that keeps the value of a key that is gone.
func TestTransactionThatEndsTheReference(t *testing.T) {
	t.Parallel()
	server := harness.Start(t, harness.Etcore(t), harness.Options{})
	player := NewPlayer(server.Connection(t))
	keep := putWith(&pb.PutRequest{Key: []byte("k2"), IgnoreLease: true})
	outcomes := player.Play([]Call{
		put("k2", "v"), txn(nil, ops(delRange("k1", "\x00"), keep), nil), get("k2"), put("k3", "v"), get("k3"),
	})
	for _, outcome := range outcomes {
		if code := outcome.Status.Code(); code != codes.OK && code != codes.InvalidArgument {
			t.Errorf("%s", outcome)
		}
	}
	server.Kill()
	server.Restart(t)
	after := NewPlayer(server.Connection(t)).Play([]Call{get("k2"), get("k3")})
	requireSamePairs(t, outcomes[2], after[0])
	requireSamePairs(t, outcomes[4], after[1])
}

func requireSamePairs(t *testing.T, before, after Outcome) {
	t.Helper()
	for _, outcome := range []Outcome{before, after} {
		response, ok := outcome.Response.(*pb.RangeResponse)
		if !ok {
			t.Fatalf("a read ended with %s", outcome)
		}
		response.Header = nil
	}
	if difference := cmp.Diff(before.Response, after.Response, protocmp.Transform()); difference != "" {
		t.Errorf("the restart changed (-before +after):\n%s", difference)
	}
}
