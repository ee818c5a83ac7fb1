package client

import (
	"context"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A Go client measures its bandwidth: beside nearly every message of a stream it sends a PING and a WINDOW_UPDATE. However
// fast the messages come, these are no attack.
func TestAQuickStreamOfAClientThatMeasures(t *testing.T) {
	t.Parallel()
	const messageCount = 30_000
	server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	leases := pb.NewLeaseClient(server.Connection(t))
	lease, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 1000})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := leases.LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for no := range messageCount {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: lease.ID}); err != nil {
			t.Fatalf("message %d: %v", no, err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatalf("message %d: %v", no, err)
		}
	}
}
