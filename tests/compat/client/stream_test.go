package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"etcore/tests/compat/harness"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
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

// A message of a stream that is none ends it with other words than a request that is none.
func TestMessagesThatAreNone(t *testing.T) {
	t.Parallel()
	seen := func(program harness.Program) []string {
		server := harness.Start(t, program, harness.Options{})
		connection := server.Connection(t)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var lines []string
		for _, method := range []string{
			"/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive", "/etcdserverpb.KV/RangeStream",
			"/etcdserverpb.Maintenance/Snapshot", "/v3electionpb.Election/Observe", "/grpc.health.v1.Health/Watch",
			"/etcdserverpb.KV/Range", "/etcdserverpb.Maintenance/Status",
		} {
			shape := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
			stream, err := connection.NewStream(ctx, shape, method, grpc.ForceCodec(octets{}))
			if err != nil {
				t.Fatal(err)
			}
			message := []byte{0x0a}
			_ = stream.SendMsg(&message)
			_ = stream.CloseSend()
			err = stream.RecvMsg(new([]byte))
			// Go's protobuf writes one of two blanks, so that nobody relies on it.
			text := strings.ReplaceAll(status.Convert(err).Message(), "\u00a0", " ")
			lines = append(lines, fmt.Sprintf("%s: %s: %s", method, status.Code(err), text))
		}
		return lines
	}
	wanted, got := seen(harness.Etcd37(t)), seen(harness.EtcoreOrReference(t))
	if difference := cmp.Diff(wanted, got); difference != "" {
		t.Errorf("(-reference +subject):\n%s", difference)
	}
}

// octets sends and takes messages as they are.
type octets struct{}

func (octets) Name() string { return "proto" }

func (octets) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (octets) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = slices.Clone(data)
	return nil
}
