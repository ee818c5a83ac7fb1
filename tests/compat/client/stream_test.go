package client

import (
	"context"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A stream of a method that does not exist yet must end at once with etcd's
// text; one that does must answer. Calls beside it go on in either case.
func TestStreamsAnswerAtOnce(t *testing.T) {
	t.Parallel()
	server := harness.Start(t, harness.EtcoreOrReference(t), harness.Options{})
	connection := server.Connection(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	watch, err := pb.NewWatchClient(connection).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// The end of the stream may overtake the request; what counts is the answer.
	_ = watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")},
	}})
	created, err := watch.Recv()
	if status.Code(err) == codes.Unimplemented {
		requireText(t, err, "unknown method Watch for service etcdserverpb.Watch")
	} else if err != nil || !created.Created {
		t.Fatalf("watch: %v %v", created, err)
	}

	keepAlive, err := pb.NewLeaseClient(connection).LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = keepAlive.Send(&pb.LeaseKeepAliveRequest{ID: 5})
	alive, err := keepAlive.Recv()
	if status.Code(err) == codes.Unimplemented {
		requireText(t, err, "unknown method LeaseKeepAlive for service etcdserverpb.Lease")
	} else if err != nil || alive.ID != 5 || alive.TTL != 0 {
		t.Fatalf("keep-alive: %v %v", alive, err)
	}

	if _, err := pb.NewKVClient(connection).Put(ctx, &pb.PutRequest{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
}

func requireText(t *testing.T, err error, wanted string) {
	t.Helper()
	if got := status.Convert(err).Message(); got != wanted {
		t.Fatalf("the error says %q, wanted %q", got, wanted)
	}
}
